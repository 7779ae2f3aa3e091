package admin

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"kafkadelta/checkpoint"
)

// judge compares what the log says with what the files hold.
func (v *verifier) judge() {
	attributed := int64(0)
	v.stood = map[standKey]int64{}
	for _, t := range v.tracks {
		t.deleted.remove(&t.have)
	}
	v.settleMoved()
	for _, t := range v.sortedTracks() {
		v.begin(t)
		v.tile(t)
		v.doubtUnlogged(t)
		for i, s := range t.spans {
			if s.next > t.floor && v.offsets && v.units[s.unit].blind == 0 {
				v.countSpan(t, &t.spans[i])
			}
		}
		attributed += t.lacking
	}
	v.rewindNotes()
	v.countUnits()
	v.judgeOthers(attributed)
	if len(v.tracks) == 0 {
		v.unverified = append(v.unverified, Finding{Kind: NothingLeft, Text: "the table has no record of this connector: no spans and no txns of a stream"})
	}
}

func (v *verifier) sortedTracks() []*track {
	all := make([]*track, 0, len(v.tracks))
	for _, t := range v.tracks {
		if t.known() {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b *track) int {
		return cmp.Or(strings.Compare(a.name, b.name), a.Compare(b.Partition), cmp.Compare(a.gen, b.gen))
	})
	return all
}

// begin decides where the track begins.
func (v *verifier) begin(t *track) {
	switch {
	case t.pin >= 0:
		t.from, t.fromKnown = t.pin, true
	case t.before >= 0:
		t.from, t.fromKnown = t.before, true
	default:
		lowest, ok := t.have.lowest()
		if len(t.spans) > 0 && (!ok || t.spans[0].first < lowest) {
			lowest = t.spans[0].first
		}
		t.from, t.fromKnown = lowest, lowest == 0
		if !ok && len(t.spans) == 0 { // nothing is left
			t.from = 0
		}
		if v.base == nil && t.from > 0 {
			v.doubtOffsets(t, 0, t.from, "no commit has pinned where the stream begins, and the first one takes from offset %d on", t.from)
		} else if !t.fromKnown && t.from > 0 {
			v.notes = append(v.notes, fmt.Sprintf("%s: the commit that pinned where it begins was cleaned from the log; it is verified from offset %d on, the first one that is left a trace of", t, t.from))
		}
	}
}

func (t *track) String() string {
	text := fmt.Sprintf("stream %s, %s", t.name, t.Partition)
	if t.gen > 0 {
		text += fmt.Sprintf(", generation %d", t.gen)
	}
	return text
}

// tile checks that the spans leave no hole and don't overlap, and that the txn is where they end.
func (v *verifier) tile(t *track) {
	at, holder := t.from, int32(-1)
	for _, s := range t.spans {
		if s.next <= t.floor {
			continue
		}
		switch {
		case s.first > at:
			v.hole(t, at, s.first, Gap)
		case s.first < at:
			v.faultOffsets(t, Overlap, s.first, min(at, s.next), "offsets [%d, %d) were taken twice: by %s and by %s",
				s.first, min(at, s.next), v.unitText(holder), v.unitText(s.unit))
		}
		if s.next > at {
			at, holder = s.next, s.unit
		}
	}
	t.end = at
	switch {
	case t.txn == -2 && v.isNewest(t):
		v.faultOffsets(t, ForgedTxn, at, at, "the table has no txn %q any more, though spans up to offset %d are recorded: a start is refused or reads again",
			checkpoint.AppID(t.name, t.ID), at-1)
	case t.closed >= 0 && t.closed < at:
		v.faultOffsets(t, ForgedTxn, t.closed, at, "the rewind that ended it found it at offset %d, but its spans go up to offset %d", t.closed, at-1)
	case t.closed > at:
		v.hole(t, at, t.closed, ForgedTxn)
		t.end = t.closed
	case t.txn == -2:
	case t.txn+1 < at:
		v.faultOffsets(t, ForgedTxn, t.txn+1, at, "the txn %q is %d, but the spans go up to offset %d: a start would read [%d, %d) again",
			checkpoint.AppID(t.name, t.ID), t.txn, at-1, t.txn+1, at)
	case t.txn+1 > at:
		v.hole(t, at, t.txn+1, ForgedTxn)
		t.end = t.txn + 1
	}
}

// isNewest reports whether the track should have a txn.
func (v *verifier) isNewest(t *track) bool {
	gen, _ := v.snap.Txn(checkpoint.GenerationAppID(t.name))
	for _, o := range v.byPlace[t.Partition] {
		if o.name == t.name && o.gen > t.gen {
			return false
		}
	}
	return t.gen >= gen.Version
}

// hole judges offsets that no span tells of. Where the commits are in the log, that is a fault. Before them only the rows can
// tell, and only of offsets that have one.
func (v *verifier) hole(t *track, first, next int64, kind Kind) {
	if from := max(first, t.strict); from < next {
		text := "no commit has taken offsets [%d, %d)"
		if kind == ForgedTxn {
			text = "no commit has taken offsets [%d, %d), though the txn says so"
		}
		v.faultOffsets(t, kind, from, next, text, from, next)
	}
	next = min(next, t.strict)
	if first >= next {
		return
	}
	there := int64(0)
	if v.offsets {
		there = t.have.count(first, next)
		t.found += there
		there += t.deleted.count(first, next)
	}
	if absent := next - first - there; absent > 0 {
		t.holes = append(t.holes, hole{first, next, absent})
		t.unaccounted += absent
	}
}

// due is the part of a span whose rows must be there, and at least how many they are: a later generation may have begun in the middle of it, and has the
// others, as has an earlier one those below where a RESTORE has taken this one back to. Which messages became no rows is not known, and all of them may be in the part.
func (t *track) due(s *span) *span {
	if t.since <= s.first && s.next <= t.until {
		return s
	}
	part := *s
	part.next = max(s.first, min(s.next, t.until))
	part.first = min(max(s.first, t.since), part.next)
	part.rows = max(s.rows-s.width()+part.width(), 0)
	return &part
}

// there counts the rows of a span, those that are deleted as well, without those that a replay has made of its dead letters.
func (t *track) there(s *span) int64 {
	return t.have.count(s.first, s.next) + t.deleted.count(s.first, s.next) - t.replayed.count(s.first, s.next)
}

// countSpan compares the rows of a span with what is there. Rows that a replay has made of its dead letters are besides; where others have
// rewritten them, nothing tells which they are.
func (v *verifier) countSpan(t *track, s *span) {
	t.found += t.have.count(s.first, s.next)
	lacking := s.rows - t.there(s)
	switch {
	case lacking < 0 && v.surplus(t, s, -lacking):
	case lacking < 0 && v.excused(t, s, -lacking):
	case lacking < 0:
		v.faultOffsets(t, RowCount, s.first, s.next, "offsets [%d, %d) of %s have %d rows, but the span counts %d",
			s.first, s.next, v.unitText(s.unit), s.rows-lacking, s.rows)
	default:
		s = t.due(s)
		t.lacking += t.deleted.count(s.first, s.next) + v.explainLack(t, s, max(s.rows-t.there(s), 0))
	}
}

// replays reports whether dead letters of a stream were ever replayed.
func (v *verifier) replays(name string) bool {
	_, ok := v.snap.Txn(checkpoint.ReplayAppID(name))
	return ok
}

// explainLack finds out why rows of a span are not there, and returns how many of them others have deleted.
func (v *verifier) explainLack(t *track, s *span, lacking int64) int64 {
	u := &v.units[s.unit]
	if lacking == 0 || u.unread {
		return 0
	}
	others := v.changers(u)
	for _, o := range others {
		took, unsure := v.tookBack(o, t, s)
		switch {
		case unsure:
			t.unaccounted += lacking
			v.doubtOffsets(t, s.first, s.next, "version %d (%s) took back %d rows of offsets [%d, %d); whether version %d, which it went back to, had them from an earlier generation, is told by what came before version %d, which was not read",
				o.Version, orUnknown(o.Operation, o.Engine), lacking, s.first, s.next, o.to, v.baseVersion())
			return 0
		case took:
			v.faultOffsets(t, Restored, s.first, s.next, "version %d (%s) took back %d rows of offsets [%d, %d) and left the txn: they are lost unless they are read again",
				o.Version, orUnknown(o.Operation, o.Engine), lacking, s.first, s.next)
			return 0
		}
	}
	switch {
	case len(others) > 0:
		return lacking
	case u.version >= 0:
		v.faultOffsets(t, LostRows, s.first, s.next, "%d of %d rows of offsets [%d, %d), which %s brought, are not in the table, and no commit has deleted them",
			lacking, s.rows, s.first, s.next, v.unitText(s.unit))
	default:
		t.unaccounted += lacking
		v.doubtOffsets(t, s.first, s.next, "%d of %d rows of offsets [%d, %d) are not in the table; the log that would tell who removed them was cleaned",
			lacking, s.rows, s.first, s.next)
	}
	return 0
}

// tookBack reports whether a commit of others may have taken back rows of the span. One that went back to a version of which it tells has left what
// had come by then, whatever generation had brought it, and where the stream stood then, all before was there or passed over. It is unsure where nothing
// that was read tells of that version, unless there was but one generation by then and it was not that far.
func (v *verifier) tookBack(o *OtherCommit, t *track, s *span) (took, unsure bool) {
	u := &v.units[s.unit]
	switch {
	case !replaces(o.Operation) || v.keeps(u):
		return false, false
	case o.to < 0:
		return true, false
	case u.version >= 0 && u.version <= o.to, u.version < 0 && v.baseVersion() <= o.to:
		return false, false
	case o.to >= v.baseVersion():
		return s.next > v.stoodAt(t, o.to), false
	case u.version < 0, t.gen > 0 && v.baseGeneration(t.name) > 0:
		return false, true
	case t.gen == 0:
		return true, false
	}
	stood, _ := v.base.Txn(checkpoint.AppID(t.name, t.ID))
	return s.next > stood.Version+1, s.next <= stood.Version+1
}

// keeps reports whether the table has what a unit has brought, as far as RESTOREs go: one may have brought back what an earlier one took.
func (l *ledger) keeps(u *unit) bool { return l.takenBy(max(u.version, l.baseVersion())) < 0 }

// takenBy is the RESTORE that took back what a version has brought; -1 for none.
func (l *ledger) takenBy(version int64) int64 {
	at := l.snap.Version()
	for _, r := range l.restores { // newest first
		switch {
		case r.version > at || r.version <= version:
		case r.to < version:
			return r.version
		default:
			at = r.to
		}
	}
	return -1
}

// standKey is a stream's partition at a version.
type standKey struct {
	name string
	checkpoint.Partition
	version int64
}

// stoodAt is where the rows of the stream went to in the track's partition at a version that was read. A RESTORE may have taken back many spans: it is found once.
func (v *verifier) stoodAt(t *track, version int64) int64 {
	key := standKey{t.name, t.Partition, version}
	next, found := v.stood[key]
	if !found {
		next = v.findStand(t, version)
		v.stood[key] = next
	}
	return next
}

func (l *ledger) findStand(t *track, version int64) (next int64) {
	for _, r := range l.restores { // newest first
		followed := func(w rewind) bool { return w.Name == t.name && r.version < w.version && w.version <= version }
		if r.version > version || slices.ContainsFunc(l.rewinds, followed) {
			continue
		}
		if r.to < l.baseVersion() {
			return 0
		}
		version = r.to // a RESTORE that no rewind had followed by then: the offsets were beyond the rows
	}
	gen := l.generationAt(t.name, version+1)
	for _, e := range l.byPlace[t.Partition] {
		if e.name != t.name || e.gen != gen {
			continue
		}
		next = max(e.pin, 0)
		for _, s := range e.spans {
			if l.units[s.unit].version <= version {
				next = max(next, s.next)
			}
		}
	}
	return next
}

// changers are the commits of others that may have deleted rows of a unit: they removed a file of it, or one that may hold rows
// of anybody.
func (v *verifier) changers(u *unit) []*OtherCommit {
	var found []*OtherCommit
	for i := range v.others {
		o := &v.others[i]
		if o.ChangesData && (slices.Contains(u.removed, int32(i)) || o.others && o.Version > u.version) {
			found = append(found, o)
		}
	}
	return found
}

// countUnits compares the rows of units whose rows don't tell their offsets: by number.
func (v *verifier) countUnits() {
	for i := range v.units {
		u := &v.units[i]
		if v.offsets && u.blind == 0 || u.unread || u.stray {
			continue
		}
		switch lacking := u.rows - u.live; {
		case lacking < 0:
			v.faults.add(Finding{Kind: RowCount, Text: fmt.Sprintf("%s has %d rows in its files, but its spans count %d", v.unitText(int32(i)), u.live, u.rows)})
		case lacking == 0 || len(u.removed) > 0: // moved or deleted by others: judgeOthers compares the numbers
		case u.version >= 0:
			v.faults.add(Finding{Kind: LostRows, Version: &u.version, Text: fmt.Sprintf("%d of %d rows that %s brought are not in its files, and no commit has removed one",
				lacking, u.rows, v.unitText(int32(i)))})
		default:
			v.unverified = append(v.unverified, Finding{Kind: Unaccounted, Text: fmt.Sprintf(
				"%d of %d rows of %s are not in its files, and rows don't tell their offsets; the log that would tell who removed them was cleaned", lacking, u.rows, v.unitText(int32(i)))})
		}
	}
}

// judgeOthers compares what others say that they did with what is missing. Rows that they inserted may hide some that they
// deleted; those that are still there are known, so that the comparison never accuses in vain.
func (v *verifier) judgeOthers(attributed int64) {
	known, deleted := true, v.otherRows
	for i := range v.others {
		o := &v.others[i]
		if o.ChangesData {
			known = known && o.RowsKnown
			if deleted += o.RowsRemoved; !replaces(o.Operation) { // what a RESTORE adds has been there before, and may have been deleted before all that is counted here
				deleted -= o.RowsAdded
			}
			continue
		}
		if o.RowsKnown && o.RowsAdded != o.RowsRemoved {
			v.faults.add(Finding{Kind: LostRows, Version: &o.Version, Text: fmt.Sprintf(
				"version %d (%s) says that it only moves rows, but it has removed %d and added %d", o.Version, orUnknown(o.Operation, o.Engine), o.RowsRemoved, o.RowsAdded)})
		}
	}
	if known && attributed > deleted {
		v.faults.add(Finding{Kind: LostRows, Text: fmt.Sprintf("%d rows are missing, but the commits of others account for %d at most", attributed, deleted)})
	}
}

func (v *verifier) unitText(u int32) string {
	if u < 0 {
		return "what came before"
	}
	if n := &v.units[u]; n.version >= 0 {
		return fmt.Sprintf("version %d (unit %s)", n.version, n.id)
	}
	return "unit " + v.units[u].id
}

func (v *verifier) at(t *track, kind Kind, first, next int64, text string) Finding {
	partition := t.ID
	return Finding{Kind: kind, Stream: t.name, Topic: t.Topic, Partition: &partition, First: &first, Next: &next, Text: t.String() + ": " + text}
}

func (v *verifier) faultOffsets(t *track, kind Kind, first, next int64, format string, args ...any) {
	t.faulty = true
	v.faults.add(v.at(t, kind, first, next, fmt.Sprintf(format, args...)))
}

func (v *verifier) doubtOffsets(t *track, first, next int64, format string, args ...any) {
	t.doubtful = true
	v.unverified = append(v.unverified, v.at(t, Unaccounted, first, next, fmt.Sprintf(format, args...)))
}

// report sums up.
func (v *verifier) report() *Report {
	r := &Report{
		Version: v.snap.Version(), LogFrom: -1, Files: v.files, Rows: v.rows, OtherRows: v.otherRows, OffsetsRead: v.offsets,
		Partitions: []PartitionReport{}, Others: []OtherCommit{}, Notes: append([]string{}, v.notes...), Kafka: v.kafka,
	}
	if v.base != nil {
		r.LogFrom = v.base.Version()
	}
	if v.since {
		r.Since = &r.LogFrom
	}
	for _, t := range v.sortedTracks() {
		for _, h := range t.holes {
			why := "the rows don't tell their offsets"
			if v.offsets {
				why = "they have no rows"
			}
			v.doubtOffsets(t, h.first, h.next, "nothing is left that tells what became of %d offsets in [%d, %d): the log of their commits was cleaned, no file's tag covers them, and %s",
				h.absent, h.first, h.next, why)
		}
		r.Partitions = append(r.Partitions, v.partition(t))
	}
	for _, o := range slices.Backward(v.others) {
		r.Others = append(r.Others, o)
	}
	if !v.offsets && len(v.tracks) > 0 {
		r.Notes = append(r.Notes, "the rows don't tell their offsets: they were counted, and not compared one by one")
	}
	r.FaultCount, r.FaultKinds, r.Faults = v.faults.total, v.faults.kinds, v.faults.sorted()
	r.Unverified = append([]Finding{}, v.unverified...)
	r.Verdict = verdict(r.FaultCount > 0, len(r.Unverified) > 0)
	return r
}

func verdict(faulty, doubtful bool) Verdict {
	switch {
	case faulty:
		return Faulty
	case doubtful:
		return Unverifiable
	}
	return OK
}

func (v *verifier) partition(t *track) PartitionReport {
	p := PartitionReport{
		Stream: t.name, Topic: t.Topic, Partition: t.ID, Generation: t.gen, From: t.from, FromKnown: t.fromKnown, Next: t.end,
		RowsFound: t.found, Deleted: t.lacking, Unaccounted: t.unaccounted, Verdict: verdict(t.faulty, t.doubtful),
	}
	if t.txn != -2 {
		p.Txn = &t.txn
	}
	for _, s := range t.spans {
		if s.next <= t.floor {
			continue
		}
		p.Spans++
		p.Rows += s.rows
		p.Skipped += s.skipped
		p.Dead += s.dead
		p.Filtered += s.filtered
		p.Routed += s.routed
		p.Records += s.messages()
		p.Gaps += s.next - s.first - s.messages()
		p.Lost += s.lost
	}
	return p
}
