package admin

import (
	"fmt"
	"slices"

	"kafkadelta/checkpoint"
)

// rewind is the commit that begins a generation of a stream (rule A5).
type rewind struct {
	checkpoint.UnitRecord
	version int64
}

// baseGeneration is the stream's generation in the oldest state.
func (l *ledger) baseGeneration(name string) int64 {
	if l.base == nil {
		return 0
	}
	txn, _ := l.base.Txn(checkpoint.GenerationAppID(name))
	return txn.Version
}

// baseVersion is the oldest state's; -1 for none.
func (l *ledger) baseVersion() int64 {
	if l.base == nil {
		return -1
	}
	return l.base.Version()
}

// generationAt is the stream's generation before a version, by the rewinds in the log.
func (l *ledger) generationAt(name string, version int64) int64 {
	for _, r := range l.rewinds { // newest first
		if r.Name == name && r.version < version {
			return r.Generation
		}
	}
	return l.baseGeneration(name)
}

// lineage is that of a stream, by what was read.
func (l *ledger) lineage(name string) lineage {
	var rewinds []begun
	for _, r := range slices.Backward(l.rewinds) {
		if r.Name == name {
			rewinds = append(rewinds, begun{r.version, r.Generation})
		}
	}
	known := l.baseVersion()
	if l.baseGeneration(name) == 0 { // there was no rewind before
		known = 0
	}
	restores := slices.Clone(l.restores)
	slices.Reverse(restores)
	return lineageOf(rewinds, restores, known)
}

// takenBackTo is where a generation that a RESTORE to a version has taken back has left the offsets to the one before. Of a version that was not read the
// highest counts at which that can have stood, which has to have the others itself.
func (l *ledger) takenBackTo(t *track, version int64) int64 {
	if version >= l.baseVersion() {
		return l.findStand(t, version)
	}
	txn, ok := l.base.Txn(checkpoint.AppID(t.name, t.ID))
	if !ok {
		return 0
	}
	return txn.Version + 1
}

// judgeGenerations holds the rewinds against each other, and every unit against the generation that it has landed in. A rewind ends
// the tracks of the generation before it.
func (l *ledger) judgeGenerations() {
	for _, r := range l.rewinds {
		before := l.generationAt(r.Name, r.version)
		follows := r.Rewind.Catalog && r.Generation >= before // it may have passed over some
		follows = follows || r.Rewind.Adopted && r.Generation > before
		if r.Generation != before+1 && !follows && r.version > l.baseVersion() {
			l.faults.add(Finding{Kind: WrongGeneration, Stream: r.Name, Version: &r.version, Text: fmt.Sprintf(
				"version %d rewinds stream %s to generation %d, but the one before is %d", r.version, r.Name, r.Generation, before)})
		}
		for i, s := range r.Spans {
			if from := r.Rewind.From[i]; from >= 0 {
				if t := l.endedBy(r, s.Partition); t != nil {
					t.closed = from
				}
			}
		}
	}
	rewound := func(u *unit) bool {
		return slices.ContainsFunc(l.rewinds, func(r rewind) bool { return r.Unit == u.id })
	}
	followed := func(u *unit) bool { // a catalog, with the very rows
		return slices.ContainsFunc(l.rewinds, func(r rewind) bool {
			return r.Rewind.Catalog && r.version == u.version && r.Generation == u.gen
		})
	}
	for i := range l.units {
		u := &l.units[i]
		if u.version <= l.baseVersion() {
			continue
		}
		if gen := l.generationAt(u.name, u.version); u.gen != gen && !rewound(u) && !followed(u) {
			l.faults.add(Finding{Kind: WrongGeneration, Stream: u.name, Version: &u.version, Text: fmt.Sprintf(
				"version %d has unit %s of generation %d, but generation %d of stream %s was running: what a rewind has given up has landed after it",
				u.version, u.id, u.gen, gen, u.name)})
		}
	}
}

// endedBy is the track of the generation that the table was in before a rewind. It may be one of a topic of another name. A table that follows a catalog may
// have passed over generations, and begins one more than once: it is nil where what came before was cleaned from the log, and nothing tells which that was.
func (l *ledger) endedBy(r rewind, p checkpoint.Partition) *track {
	before := r.Generation - 1
	if r.Rewind.Catalog {
		before = l.baseGeneration(r.Name)
		for _, e := range l.rewinds {
			if e.Name == r.Name && e.Generation < r.Generation {
				before = max(before, e.Generation)
			}
		}
	}
	gen := min(before, r.Generation-1)
	if r.Rewind.Catalog || r.Rewind.NewTopic {
		for k, t := range l.tracks {
			if k.name == r.Name && k.ID == p.ID && k.gen == gen {
				return t
			}
		}
	}
	if gen < before {
		return nil
	}
	return l.track(trackKey{r.Name, p, gen})
}

// rewindNotes tell of the rewinds in the log.
func (v *verifier) rewindNotes() {
	for _, r := range slices.Backward(v.rewinds) {
		text := fmt.Sprintf("version %d has rewound stream %s (%s): it begins generation %d", r.version, r.Name, r.Rewind.How, r.Generation)
		var again, passed int64
		for i, s := range r.Spans {
			if from := r.Rewind.From[i]; from >= 0 && !r.Rewind.NewTopic {
				again += max(from-s.First, 0)
				passed += max(s.First-from, 0)
			}
		}
		switch {
		case r.Rewind.NewTopic:
			text += ", with the offsets of another topic"
		case passed > 0:
			text += fmt.Sprintf("; %d offsets were to be read again, and %d were passed over: nothing of those is looked for", again, passed)
		default:
			text += fmt.Sprintf("; %d offsets were to be read again", again)
		}
		v.notes = append(v.notes, text)
	}
}

// ofThisTopic tells whether a track's offsets are of the topic that the stream reads now, or has read last, and Kafka's is that. Which topic an earlier
// generation has read is known only while the rewind to another one is in the log. (Of a stream that was not retired, another topic of Kafka's is a fault.)
func (v *verifier) ofThisTopic(t *track, is checkpoint.Identity) bool {
	p, err := progressOf(t.name, v.snap.Txns())
	if err == nil && p.Retired() && !slices.Contains(p.Former, is) {
		return false
	}
	for _, r := range v.rewinds { // newest first
		if r.Name == t.name && r.Rewind.NewTopic {
			return t.gen >= r.Generation
		}
	}
	return err != nil || len(p.Former) == 0 || p.Retired() && len(p.Former) == 1 || t.gen >= p.Generation
}
