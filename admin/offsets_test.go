package admin

import (
	"math/rand/v2"
	"testing"
)

// TestOffsetsAgainstMap compares the set with a plain one, also where chunks are full, and at their edges.
func TestOffsetsAgainstMap(t *testing.T) {
	var s offsets
	plain := map[int64]bool{}
	add := func(o int64) {
		if s.add(o) == plain[o] {
			t.Fatalf("adding %d is new: %v", o, plain[o])
		}
		plain[o] = true
	}
	for o := int64(chunkSize - 3); o < 2*chunkSize+70; o++ { // one chunk becomes full
		add(o)
	}
	for range 5000 {
		add(rand.Int64N(6 * chunkSize))
	}
	if s.chunks[1] != full || s.chunks[0] == full {
		t.Error("a full chunk is not shared")
	}
	for range 300 {
		first := rand.Int64N(6 * chunkSize)
		next := first + rand.Int64N(3*chunkSize)
		var want, missing int64 = 0, -1
		for o := first; o < next; o++ {
			switch {
			case plain[o]:
				want++
			case missing < 0:
				missing = o
			}
			if s.has(o) != plain[o] {
				t.Fatalf("has %d: %v", o, !plain[o])
			}
		}
		if got := s.count(first, next); got != want {
			t.Fatalf("[%d, %d) has %d, want %d", first, next, got, want)
		}
		if got, ok := s.firstMissing(first, next); ok != (missing >= 0) || ok && got != missing {
			t.Fatalf("[%d, %d) misses %d, %v, want %d", first, next, got, ok, missing)
		}
	}
	if got := s.count(0, 1<<62); got != int64(len(plain)) {
		t.Errorf("%d in all, want %d", got, len(plain))
	}
	var other offsets
	for o := range int64(2 * chunkSize) {
		other.add(o)
	}
	s.remove(&other)
	for o := range plain {
		if s.has(o) != (o >= 2*chunkSize) {
			t.Fatalf("after the removal it has %d: %v", o, s.has(o))
		}
		if got, ok := s.lowest(); !ok || got > o && o >= 2*chunkSize || got < 2*chunkSize {
			t.Fatalf("the lowest is %d, %v", got, ok)
		}
	}
}
