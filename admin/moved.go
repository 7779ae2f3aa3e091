package admin

import (
	"fmt"
	"math"
	"slices"
)

// recall makes tracks for the generations that are over and whose commits were cleaned from the log. Rows that others have moved, as by
// OPTIMIZE, may be theirs, and where tags were dropped with that nothing else tells of them.
func (l *ledger) recall() {
	if l.base == nil || !l.moved {
		return
	}
	places := map[trackKey]bool{}
	for k := range l.tracks {
		places[trackKey{k.name, k.Partition, 0}] = true
	}
	for k := range places {
		for k.gen = range l.baseGeneration(k.name) {
			_, known := l.tracks[k]
			t := l.track(k)
			if t.unlogged = t.closed < 0; !known {
				t.forgotten, t.strict, t.limit = true, math.MaxInt64, math.MaxInt64
				if l.since {
					t.floor = math.MaxInt64
				}
			}
		}
	}
	for _, tracks := range l.byPlace {
		slices.SortFunc(tracks, byStream)
	}
}

// ofOthers takes rows of a file that no unit has brought, such as one of OPTIMIZE: the row is of the newest generation that has the
// offset and lacks its row. Rows of earlier ones may have been deleted for it.
func (p *placer) ofOthers(b *batch, i, n int) {
	for ; i < n; i++ {
		o := b.offsets[i]
		dead := p.dead != nil && p.dead.Has(b.row+int64(i))
		if !dead {
			p.told++
		}
		covered, taken := false, false
		for at, t := range slices.Backward(p.tracks) {
			if t.forgotten && !p.job.moved {
				continue
			}
			if o < t.floor { // not asked for
				covered, taken = true, true
				break
			}
			if !t.covers(o, p.job.moved) {
				continue
			}
			covered = true
			if taken = p.give(t, o, dead); taken {
				if p.job.replay && !dead && p.v.book != nil && !p.ofReplay(o, true) {
					p.v.fault(p.finding(OutsideSpan, o, fmt.Sprintf("%s has a row of %s offset %d, as one of a replay, and the catalog has no dead letter left there", p.job.name, p.at, o)))
				}
				if p.job.moved && slices.ContainsFunc(p.tracks[:at], func(e *track) bool { return o < e.floor || e.covers(o, true) }) {
					t.mu.Lock()
					t.loose.add(o)
					t.mu.Unlock()
				}
				break
			}
		}
		switch {
		case dead || taken:
		case p.ofReplay(o, covered):
		case len(p.tracks) == 0, o < p.origin:
			p.strangers++
		case covered:
			p.double(o)
		default:
			p.v.fault(p.finding(OutsideSpan, o, fmt.Sprintf("%s has a row of %s offset %d, which no commit of the stream has taken", p.job.name, p.at, o)))
		}
	}
}

// give reports whether the track lacked the row, and has it now.
func (p *placer) give(t *track, o int64, dead bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !dead:
		taken := t.have.add(o)
		if taken && p.job.replay {
			t.replayed.add(o)
		}
		return taken
	case !p.job.replay:
		t.deleted.add(o)
	}
	return true
}

// covers reports whether the track may have taken the offset: where its records are all there, one of its spans has it. Moved rows may be of what
// no record tells of.
func (t *track) covers(o int64, moved bool) bool {
	return t.spanAt(o) != nil || t.pin < 0 && o < min(t.strict, t.limit) || moved && t.unlogged
}

// spanAt is the span that has the offset; nil for none.
func (t *track) spanAt(o int64) *span {
	at, ok := slices.BinarySearchFunc(t.spans, o, func(s span, o int64) int {
		switch {
		case s.next <= o:
			return -1
		case s.first > o:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return &t.spans[at]
}

// settleMoved gives rows of files without tags to tracks that lack them, where the one that they were taken for has no need of them: its spans count
// fewer, as a generation may have fewer messages than the one before had at the same offsets, by compaction, a filter or on_error; or it has no span
// there that is known; or a later generation has read the offsets again. Those whose lack would matter come first.
func (v *verifier) settleMoved() {
	for _, tracks := range v.byPlace {
		if !slices.ContainsFunc(tracks, func(t *track) bool { return len(t.loose.chunks) > 0 }) {
			continue
		}
		m := mover{tracks, map[*span]int64{}}
		for _, matters := range []bool{true, false} {
			for _, t := range tracks {
				for i := range t.spans {
					m.fill(t, &t.spans[i], matters)
				}
			}
		}
	}
}

// mover moves rows between the tracks of one partition.
type mover struct {
	tracks []*track
	over   map[*span]int64 // rows more than it counts
}

func (m *mover) overOf(t *track, s *span) int64 {
	n, ok := m.over[s]
	if !ok {
		n = t.have.count(s.first, s.next) + t.deleted.count(s.first, s.next) - t.replayed.count(s.first, s.next) - s.rows
		m.over[s] = n
	}
	return n
}

// fill gives a span what it lacks and another track has to spare: where it matters, or where a later generation has the offsets.
func (m *mover) fill(t *track, s *span, matters bool) {
	due := t.due(s)
	for o := s.first; o < s.next && m.overOf(t, s) < 0; o++ {
		if (due.first <= o && o < due.next) != matters || t.have.has(o) || t.deleted.has(o) {
			continue
		}
		for _, e := range slices.Backward(m.tracks) {
			if e == t || !e.loose.has(o) {
				continue
			}
			from := e.spanAt(o)
			if !(from != nil && m.overOf(e, from) > 0 || matters && (from == nil || o >= e.until || o < e.since)) {
				continue
			}
			switch {
			case e.have.drop(o):
				t.have.add(o)
			case e.deleted.drop(o):
				t.deleted.add(o)
			default:
				continue
			}
			m.over[s]++
			if from != nil {
				m.over[from] = m.overOf(e, from) - 1
			}
			break
		}
	}
}

// excused reports whether rows that a span has more than it counts may be of an earlier generation, of which too little is left to tell.
func (v *verifier) excused(t *track, s *span, surplus int64) bool {
	if t.loose.count(s.first, s.next) < surplus {
		return false
	}
	excused, doubtful := false, false
	for _, e := range v.byPlace[t.Partition] {
		switch {
		case e.name != t.name || e.gen >= t.gen:
		case e.floor > s.first: // not asked for
			excused = true
		case e.unlogged, e.pin < 0 && min(e.strict, e.limit) > s.first:
			excused, doubtful = true, true
		}
	}
	switch {
	case !excused:
	case !doubtful:
		v.notes = append(v.notes, fmt.Sprintf("%s: %d rows more than %s counts are in [%d, %d), in files that others have written: they may be of an earlier generation, or copies, and what came before version %d was not asked for",
			t, surplus, v.unitText(s.unit), s.first, s.next, v.base.Version()))
	default:
		t.unaccounted += surplus
		v.doubtOffsets(t, s.first, s.next, "%d rows more than %s counts are in [%d, %d), in files that others have written: they may be of an earlier generation, or copies, and the log that would tell was cleaned",
			surplus, v.unitText(s.unit), s.first, s.next)
	}
	return excused
}

// doubtUnlogged tells of moved rows that may be of a generation whose commits were cleaned.
func (v *verifier) doubtUnlogged(t *track) {
	rows := t.have.count(t.end, math.MaxInt64)
	if !t.unlogged || rows == 0 {
		return
	}
	next := t.have.end()
	t.found += rows
	t.unaccounted += rows
	v.doubtOffsets(t, t.end, next, "%d rows in [%d, %d) of files that others have written may be of this generation, or copies of rows of a later one: its commits were cleaned from the log, and no file's tag tells of it",
		rows, t.end, next)
	t.end = next
}

// known reports whether anything of the track is left.
func (t *track) known() bool {
	return !t.forgotten || len(t.have.chunks) > 0 || len(t.deleted.chunks) > 0
}
