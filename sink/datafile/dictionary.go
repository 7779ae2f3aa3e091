package datafile

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"slices"
)

// Dictionaries map values to indices by open addressing, at most half full. Slots hold the index plus one. What is hashed comes
// from messages, so each process hashes in its own way.
var (
	hashSeed     = rand.Uint64()
	hashMultiply = rand.Uint64() | 1
)

// mostEntries is what an index of 16 bits can tell apart, one being lost to the empty slot.
const mostEntries = 1<<16 - 1

// leastSlots is the size of a new table, a power of two.
const leastSlots = 1 << 8

// indexWidth is the bits of an index into so many entries.
func indexWidth(entries int) int { return max(1, bits.Len(uint(max(entries, 1)-1))) }

// appendIndices writes the values of a page with RLE_DICTIONARY.
func appendIndices(to []byte, indices []uint16, entries int) []byte {
	width := indexWidth(entries)
	return appendHybrid(append(to, byte(width)), indices, width)
}

// numberDictionary is the dictionary of a column of numbers.
type numberDictionary[T number] struct {
	values []T
	slots  []uint16
	shift  int // of a hash, which leaves the number of a slot
	most   int // entries
}

func newNumberDictionary[T number](dictBytes int) *numberDictionary[T] {
	d := &numberDictionary[T]{most: min(mostEntries, dictBytes/8)}
	d.resize(leastSlots)
	return d
}

func (d *numberDictionary[T]) resize(n int) {
	if cap(d.slots) >= n {
		d.slots = d.slots[:n]
		clear(d.slots)
	} else {
		d.slots = make([]uint16, n)
	}
	d.shift = 64 - bits.Len(uint(n-1))
	for i, v := range d.values {
		at := d.hash(v)
		for d.slots[at] != 0 {
			at = (at + 1) & (n - 1)
		}
		d.slots[at] = uint16(i + 1)
	}
}

func (d *numberDictionary[T]) hash(v T) int {
	return int((uint64(v) ^ hashSeed) * hashMultiply >> d.shift)
}

// reset forgets the values, but not how many there were.
func (d *numberDictionary[T]) reset() {
	d.values = d.values[:0]
	clear(d.slots)
}

// add appends the indices of the values, up to the one that finds no place.
func (d *numberDictionary[T]) add(to []uint16, values []T) (indices []uint16, taken int) {
	if len(values) == 0 {
		return to, 0
	}
	to = slices.Grow(to, len(values))
	last := ^values[0]
	var index uint16
	for n, v := range values {
		if v == last {
			to = append(to, index)
			continue
		}
		at, mask := d.hash(v), len(d.slots)-1
		for {
			slot := d.slots[at&mask]
			if slot == 0 {
				if len(d.values) >= d.most {
					return to, n
				}
				d.values = append(d.values, v)
				index = uint16(len(d.values) - 1)
				d.slots[at&mask] = index + 1
				if 2*len(d.values) > len(d.slots) {
					d.resize(2 * len(d.slots))
				}
				break
			}
			if index = slot - 1; d.values[index] == v {
				break
			}
			at++
		}
		last = v
		to = append(to, index)
	}
	return to, len(values)
}

// textDictionary is the dictionary of a column of byte strings.
type textDictionary struct {
	data  []byte
	ends  []int32  // of the values in data
	slots []uint32 // the index plus one below 16 bits of the hash, which spare most comparisons of different values
	most  int      // bytes
}

func newTextDictionary(dictBytes int) *textDictionary {
	return &textDictionary{slots: make([]uint32, leastSlots), most: dictBytes}
}

func (d *textDictionary) value(i int) []byte {
	from := int32(0)
	if i > 0 {
		from = d.ends[i-1]
	}
	return d.data[from:d.ends[i]]
}

func (d *textDictionary) reset() {
	d.data, d.ends = d.data[:0], d.ends[:0]
	clear(d.slots)
}

func (d *textDictionary) resize(n int) {
	d.slots = make([]uint32, n)
	for i := range d.ends {
		h := hashText(d.value(i))
		at := int(h) & (n - 1)
		for d.slots[at] != 0 {
			at = (at + 1) & (n - 1)
		}
		d.slots[at] = uint32(h>>48)<<16 | uint32(i+1)
	}
}

// add appends the indices of the values between offsets, up to the one that finds no place.
func (d *textDictionary) add(to []uint16, offsets []int32, data []byte) (indices []uint16, taken int) {
	to = slices.Grow(to, len(offsets))
	var last []byte
	index, from := -1, offsets[0]
	for n, end := range offsets[1:] {
		v := data[from:end]
		from = end
		if index < 0 || string(v) != string(last) {
			if index = d.find(v); index < 0 {
				return to, n
			}
			last = v
		}
		to = append(to, uint16(index))
	}
	return to, len(offsets) - 1
}

// find gives the index of the value, which may be new, or -1 when the dictionary is full.
func (d *textDictionary) find(v []byte) int {
	h := hashText(v)
	tag := uint32(h >> 48)
	mask := len(d.slots) - 1
	at := int(h) & mask
	for {
		slot := d.slots[at]
		if slot == 0 {
			break
		}
		if slot>>16 == tag {
			if i := int(slot&0xffff) - 1; string(d.value(i)) == string(v) {
				return i
			}
		}
		at = (at + 1) & mask
	}
	if len(d.ends) >= mostEntries || len(d.data)+4*len(d.ends)+len(v)+4 > d.most {
		return -1
	}
	d.data = append(d.data, v...)
	d.ends = append(d.ends, int32(len(d.data)))
	d.slots[at] = tag<<16 | uint32(len(d.ends))
	if 2*len(d.ends) > len(d.slots) {
		d.resize(2 * len(d.slots))
	}
	return len(d.ends) - 1
}

// hashText multiplies words of 8 bytes to 16 and folds them, as wyhash does.
func hashText(v []byte) uint64 {
	const odd1, odd2 = 0xa0761d6478bd642f, 0xe7037ed1a0b428db
	n := uint64(len(v))
	h := hashSeed
	var low, high uint64
	switch {
	case n > 16:
		rest := v
		for ; len(rest) > 16; rest = rest[16:] {
			h = fold(binary.LittleEndian.Uint64(rest)^odd1, binary.LittleEndian.Uint64(rest[8:])^h)
		}
		low, high = binary.LittleEndian.Uint64(v[n-16:]), binary.LittleEndian.Uint64(v[n-8:])
	case n >= 8:
		low, high = binary.LittleEndian.Uint64(v), binary.LittleEndian.Uint64(v[n-8:])
	case n >= 4:
		low, high = uint64(binary.LittleEndian.Uint32(v)), uint64(binary.LittleEndian.Uint32(v[n-4:]))
	case n > 0:
		low = uint64(v[0])<<16 | uint64(v[n/2])<<8 | uint64(v[n-1])
	}
	return fold(low^odd2^n, high^h^hashMultiply)
}

func fold(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	return high ^ low
}
