package model

import (
	"encoding/binary"
	"unsafe"
)

// seen remembers states by a 64-bit hash: of a hundred million states, the chance that any two share one is 3 in 10,000.
// It keeps from which state each was reached first.
type seen struct {
	slots   []uint32 // index + 1 into hashes, open addressing
	hashes  [][]uint64
	parents [][]uint32
	n       int
}

const chunk = 1 << 20

func (t *seen) hash(i uint32) uint64 { return t.hashes[i/chunk][i%chunk] }

// add reports the index of the state, and whether it is new.
func (t *seen) add(h uint64, parent uint32) (uint32, bool) {
	if 4*(t.n+1) > 3*len(t.slots) {
		t.grow()
	}
	for i := h & uint64(len(t.slots)-1); ; i = (i + 1) & uint64(len(t.slots)-1) {
		switch at := t.slots[i]; {
		case at == 0:
			if t.n%chunk == 0 {
				t.hashes = append(t.hashes, make([]uint64, chunk))
				t.parents = append(t.parents, make([]uint32, chunk))
			}
			t.hashes[t.n/chunk][t.n%chunk], t.parents[t.n/chunk][t.n%chunk] = h, parent
			t.n++
			t.slots[i] = uint32(t.n)
			return uint32(t.n - 1), true
		case t.hash(at-1) == h:
			return at - 1, false
		}
	}
}

func (t *seen) grow() {
	t.slots = make([]uint32, max(1<<16, 2*len(t.slots)))
	for j := range uint32(t.n) {
		i := t.hash(j) & uint64(len(t.slots)-1)
		for t.slots[i] != 0 {
			i = (i + 1) & uint64(len(t.slots)-1)
		}
		t.slots[i] = j + 1
	}
}

// stateSize is the size of a State, all of whose fields are single bytes.
const stateSize = int(unsafe.Sizeof(State{}))

// level is a queue of states to go on from, packed, in parts that are let go of as they are done.
type level [][]byte

const partSize = 1 << 20

// add appends a state with its index in seen: the index, which bytes of the state are not zero, and those. Most are zero.
func (l *level) add(s *State, index uint32) {
	var packed [4 + (stateSize+7)/8 + stateSize]byte
	binary.LittleEndian.PutUint32(packed[:], index)
	n := 4 + (stateSize+7)/8
	for i, b := range (*[stateSize]byte)(unsafe.Pointer(s)) {
		if b != 0 {
			packed[4+i/8] |= 1 << (i % 8)
			packed[n] = b
			n++
		}
	}
	last := len(*l) - 1
	if last < 0 || len((*l)[last])+n > partSize {
		*l = append(*l, make([]byte, 0, partSize))
		last++
	}
	(*l)[last] = append((*l)[last], packed[:n]...)
}

// unpack takes the first state off a part of a level.
func unpack(s *State, part []byte) (index uint32, rest []byte) {
	index = binary.LittleEndian.Uint32(part)
	n := 4 + (stateSize+7)/8
	to := (*[stateSize]byte)(unsafe.Pointer(s))
	for i, bits := range part[4:n] {
		for b := 0; bits != 0; b, bits = b+1, bits>>1 {
			if bits&1 != 0 {
				to[8*i+b] = part[n]
				n++
			}
		}
	}
	return index, part[n:]
}
