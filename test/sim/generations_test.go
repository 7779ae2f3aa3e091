package sim

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"

	"kafkadelta/checkpoint"
)

// taken is a message of a generation: after a rewind it may be in the table once more, for the generation that begins there.
type taken struct {
	place
	generation int64
}

// generationOf is that of a file's unit, by its tag.
func generationOf(w *world, tags map[string]string) int64 {
	var u unitRecord
	if err := json.Unmarshal([]byte(tags[checkpoint.TagKey]), &u); err != nil {
		w.fault("a file's tag can't be read: %v", err)
	}
	return u.Generation
}

// begin takes note of where a partition goes on after a rewind.
func (l *ledger) begin(generation int64, partition int32, at int64) {
	for int64(len(l.begins)) <= generation {
		l.begins = append(l.begins, map[int32]int64{})
	}
	l.begins[generation][partition] = at
}

// until is where a later generation takes a partition over.
func (l *ledger) until(generation int64, partition int32) int64 {
	end := int64(1 << 60)
	for _, begins := range l.begins[generation+1:] {
		if at, ok := begins[partition]; ok {
			end = min(end, at)
		}
	}
	return end
}

// generationOf is the one that a message counts in.
func (l *ledger) generationOf(at place) int64 {
	for g := int64(len(l.begins)) - 1; g > 0; g-- {
		if from, ok := l.begins[g][at.partition]; ok && at.offset >= from && at.offset < l.until(g, at.partition) {
			return g
		}
	}
	return 0
}

func takenOrder(a, b taken) int {
	return cmp.Or(placeOrder(a.place, b.place), cmp.Compare(a.generation, b.generation))
}

// brought tells which unit has made a row of a message.
func (l *ledger) brought(at place) (unit string, ok bool) {
	unit, ok = l.seen[taken{at, l.generationOf(at)}]
	return unit, ok
}

// readGenerations gives the files that a version adds their generations: that of their unit, or that of the files that were rewritten into them.
func (w *world) readGenerations(removed []*file, adds map[string]*file) {
	for _, f := range adds {
		switch {
		case f.tags[checkpoint.TagKey] != "":
			f.generation = generationOf(w, f.tags)
		case len(removed) > 0:
			f.generation = removed[0].generation
		}
	}
}

// sameGeneration are the first of the files and the others of its generation: only those are rewritten into one.
func (s *shelf) sameGeneration(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return s.files[name].generation != s.files[names[0]].generation })
}

// partitionsOf are those of a stream.
func partitionsOf[V any](stream int, of map[int32]V) map[int32]V {
	own := maps.Clone(of)
	maps.DeleteFunc(own, func(id int32, _ V) bool { return int(id/ofStream) != stream })
	return own
}
