package decode

import (
	"bytes"
	"hash/maphash"
	"math/bits"
)

// KeySet finds equal keys among the entries of one map. The zero value is ready.
type KeySet struct {
	slots []int32 // open addressing: row + 1 - first
	drop  []bool  // after findDoubles: entries that a later one replaces
}

// smallMap is up to how many entries comparing each with each is quicker than hashing.
const smallMap = 12

var keySeed = maphash.MakeSeed()

// LastWins leaves the last of equal keys among a map's entries from row first on, with which its row is about to end. Entries move, so
// that nothing is decoded a second time: with maps in maps, each would double the time of all below it.
func (s *KeySet) LastWins(entries *Builder, first int) {
	if s.findDoubles(entries.Children[0], first) {
		entries.remove(first, s.drop)
	}
}

// findDoubles tells whether the keys from row first on have equal ones, and marks in drop which to leave out.
func (s *KeySet) findDoubles(keys *Builder, first int) (found bool) {
	n := keys.Len - first
	if n < 2 {
		return false
	}
	if n <= smallMap {
		for i := first + 1; i < keys.Len && !found; i++ {
			for j := first; j < i && !found; j++ {
				found = equalRows(keys, i, j)
			}
		}
		if !found {
			return false
		}
	}
	size := 1 << bits.Len(uint(2*n))
	if cap(s.slots) < size {
		s.slots = make([]int32, size)
	}
	if cap(s.drop) < n {
		s.drop = make([]bool, n)
	}
	s.slots, s.drop = s.slots[:size], s.drop[:n]
	clear(s.slots)
	clear(s.drop)
	for i := range n {
		h := hashRow(keys, first+i) & uint64(size-1)
		for s.slots[h] != 0 && !equalRows(keys, first+int(s.slots[h])-1, first+i) {
			h = (h + 1) & uint64(size-1)
		}
		if s.slots[h] != 0 {
			s.drop[s.slots[h]-1] = true
			found = true
		}
		s.slots[h] = int32(i + 1)
	}
	return found
}

// Shrink gives back what one very large map made grow.
func (s *KeySet) Shrink() {
	if cap(s.slots) > 1<<16 {
		*s = KeySet{}
	}
}

func hashRow(b *Builder, i int) uint64 {
	if b.Kind == KindBool {
		return uint64(b.Data[i/8] >> (i % 8) & 1)
	}
	return maphash.Bytes(keySeed, rowBytes(b, i))
}

func equalRows(b *Builder, i, j int) bool {
	if b.Kind == KindBool {
		return hashRow(b, i) == hashRow(b, j)
	}
	return bytes.Equal(rowBytes(b, i), rowBytes(b, j))
}

// rowBytes is the value of a row of any type but boolean.
func rowBytes(b *Builder, i int) []byte {
	if b.Width == 0 {
		return b.Data[b.Offsets[i]:b.Offsets[i+1]]
	}
	return b.Data[i*b.Width : (i+1)*b.Width]
}
