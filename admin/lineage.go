package admin

import (
	"slices"
	"strings"
)

// restore is a version that has put an earlier one in the table's place; -1 where it does not say which.
type restore struct{ version, to int64 }

// begun is the version that began a generation of a stream.
type begun struct{ version, generation int64 }

// lineage tells which generations of a stream what is in its table is of. A RESTORE to before a rewind takes back what the generation has brought that
// it began. The count goes on, since a RESTORE takes back no txn: the next rewind follows on the generation that the table went back to.
type lineage struct {
	line  []int64         // the generations that rewinds began, but for those that were taken back; ascending
	taken map[int64]int64 // generations that were taken back, with the version that the table went back to
}

// lineageOf takes rewinds and RESTOREs oldest first. A RESTORE to what is not told, or to before the first version that is known, takes nothing back.
func lineageOf(rewinds []begun, restores []restore, known int64) lineage {
	l := lineage{taken: map[int64]int64{}}
	type state struct {
		version int64
		line    []int64
	}
	var states []state
	for len(rewinds) > 0 || len(restores) > 0 {
		if len(restores) == 0 || len(rewinds) > 0 && rewinds[0].version < restores[0].version {
			r := rewinds[0]
			rewinds = rewinds[1:]
			l.line = append(slices.Clone(l.line), r.generation)
			delete(l.taken, r.generation)
			states = append(states, state{r.version, l.line})
			continue
		}
		r := restores[0]
		if restores = restores[1:]; r.to < known {
			continue
		}
		var line []int64
		for _, s := range states {
			if s.version <= r.to {
				line = s.line
			}
		}
		for _, gen := range l.line {
			if !slices.Contains(line, gen) {
				l.taken[gen] = r.to
			}
		}
		for _, gen := range line {
			delete(l.taken, gen)
		}
		l.line = line
		states = append(states, state{r.version, line})
	}
	return l
}

// replaces reports whether an operation puts an older or another table in this one's place.
func replaces(operation string) bool {
	for _, word := range []string{"RESTORE", "REPLACE", "CLONE"} {
		if strings.Contains(strings.ToUpper(operation), word) {
			return true
		}
	}
	return false
}
