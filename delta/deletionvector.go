package delta

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"

	"github.com/google/uuid"
)

const (
	deletionVectorMagic = 1681511377
	maxDeletionVector   = 1 << 30 // bytes of one, serialized
	z85UUID             = 20      // characters of an encoded UUID
)

// Roaring's cookies of a 32-bit bitmap, and from how many containers on one with runs has offsets.
const (
	roaringPlain     = 12346
	roaringRuns      = 12347
	roaringOffsets   = 4
	roaringMaxArray  = 4096
	roaringChunkBits = 1 << 16
)

// RowSet is a set of row numbers of one data file, counted from 0. The zero value is empty.
type RowSet struct {
	chunks map[int64]*[roaringChunkBits / 64]uint64
	rows   int64
}

// Has reports whether the row is in the set.
func (s *RowSet) Has(row int64) bool {
	c := s.chunks[row>>16]
	return c != nil && c[row&0xffff>>6]>>(row&63)&1 != 0
}

// Len is the number of rows in the set.
func (s *RowSet) Len() int64 { return s.rows }

// ReadDeletionVector reads which rows of its data file a deletion vector deletes (PROTOCOL.md, "Deletion Vector Format"). One
// that is stored under an absolute path is errors.ErrUnsupported: it belongs to another table's folder. What can't be
// understood, or has another number of rows than the descriptor tells, is ErrCorrupt.
func ReadDeletionVector(ctx context.Context, store LogStore, dv *DeletionVector) (*RowSet, error) {
	data, err := deletionVectorBytes(ctx, store, dv)
	if err != nil {
		return nil, fmt.Errorf("reading the deletion vector %s: %w", dv.uniqueID(), err)
	}
	s := &RowSet{chunks: map[int64]*[roaringChunkBits / 64]uint64{}}
	r := roaringReader{b: data, set: s, left: dv.Cardinality}
	if r.u32() != deletionVectorMagic {
		r.bad = true
	}
	for n := r.u64(); n > 0 && !r.bad; n-- {
		r.bitmap(int64(r.u32()))
	}
	for _, c := range s.chunks {
		for _, w := range c {
			s.rows += int64(bits.OnesCount64(w))
		}
	}
	if r.bad || s.rows != dv.Cardinality {
		return nil, corruptf("deletion vector %s has %d rows, the log says %d", dv.uniqueID(), s.rows, dv.Cardinality)
	}
	return s, nil
}

// deletionVectorBytes finds the serialized bitmap (PROTOCOL.md, "Deletion Vector Descriptor Schema" and "Deletion Vector File
// Storage Format").
func deletionVectorBytes(ctx context.Context, store LogStore, dv *DeletionVector) ([]byte, error) {
	size := int64(dv.SizeInBytes)
	if size < 0 || size > maxDeletionVector {
		return nil, corruptf("%d bytes", size)
	}
	switch dv.StorageType {
	case "i":
		data, ok := decodeZ85(dv.PathOrInlineDv)
		if !ok || int64(len(data)) < size {
			return nil, corruptf("the text is no %d bytes in base 85", size)
		}
		return data[:size], nil
	case "u":
	default:
		return nil, fmt.Errorf("it is stored as %q: %w", dv.StorageType, errors.ErrUnsupported)
	}
	prefix := len(dv.PathOrInlineDv) - z85UUID
	if prefix < 0 || dv.Offset == nil {
		return nil, corruptf("it names no file")
	}
	id, ok := decodeZ85(dv.PathOrInlineDv[prefix:])
	if !ok {
		return nil, corruptf("it names no file")
	}
	name := "deletion_vector_" + uuid.UUID(id).String() + ".bin"
	if prefix > 0 {
		name = dv.PathOrInlineDv[:prefix] + "/" + name
	}
	r, err := store.Get(ctx, name, int64(*dv.Offset), size+8)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, size+8))
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	if int64(len(data)) != size+8 || int64(binary.BigEndian.Uint32(data)) != size ||
		binary.BigEndian.Uint32(data[4+size:]) != crc32.ChecksumIEEE(data[4:4+size]) {
		return nil, corruptf("%s does not hold it: its length or checksum is another one", name)
	}
	return data[4 : 4+size], nil
}

const z85Alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"

// decodeZ85 decodes base 85 as ZeroMQ spells it: 5 characters are 4 bytes.
func decodeZ85(text string) ([]byte, bool) {
	var digits [256]byte
	for i := range len(z85Alphabet) {
		digits[z85Alphabet[i]] = byte(i + 1)
	}
	data := make([]byte, 0, len(text)/5*4)
	for i := 0; i+5 <= len(text); i += 5 {
		var v uint64
		for _, c := range []byte(text[i : i+5]) {
			if digits[c] == 0 {
				return nil, false
			}
			v = v*85 + uint64(digits[c]-1)
		}
		if v > 1<<32-1 {
			return nil, false
		}
		data = binary.BigEndian.AppendUint32(data, uint32(v))
	}
	return data, len(text)%5 == 0
}

// roaringReader reads Roaring's portable format, which is little endian. Past the end it reads zeros and is bad.
type roaringReader struct {
	b   []byte
	set *RowSet
	bad bool

	left int64 // values that may still come: what is to be kept in memory is no more than was announced
}

func (r *roaringReader) take(n int) []byte {
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return make([]byte, n)
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *roaringReader) u16() uint16 { return binary.LittleEndian.Uint16(r.take(2)) }
func (r *roaringReader) u32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *roaringReader) u64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

// bitmap reads a 32-bit bitmap, whose values have the given upper half.
func (r *roaringReader) bitmap(upper int64) {
	cookie := r.u32()
	var n int
	var runs []byte
	switch {
	case cookie == roaringPlain:
		n = int(r.u32())
	case cookie&0xffff == roaringRuns:
		n = int(cookie>>16) + 1
		runs = r.take((n + 7) / 8)
	default:
		r.bad = true
	}
	if r.bad || n > roaringChunkBits {
		r.bad = true
		return
	}
	heads := r.take(4 * n) // key and cardinality - 1 of each container
	if runs == nil || n >= roaringOffsets {
		r.take(4 * n) // where each begins, which its predecessors tell too
	}
	for i := 0; i < n && !r.bad; i++ {
		key := int64(binary.LittleEndian.Uint16(heads[4*i:]))
		values := int(binary.LittleEndian.Uint16(heads[4*i+2:])) + 1
		if r.left -= int64(values); r.left < 0 {
			r.bad = true
			return
		}
		chunk := new([roaringChunkBits / 64]uint64)
		r.set.chunks[upper<<16|key] = chunk
		switch {
		case runs != nil && runs[i/8]>>(i%8)&1 != 0:
			for range r.u16() {
				first := int(r.u16())
				last := first + int(r.u16())
				for v := first; v <= min(last, roaringChunkBits-1); v++ {
					chunk[v>>6] |= 1 << (v & 63)
				}
				r.bad = r.bad || last >= roaringChunkBits
			}
		case values <= roaringMaxArray:
			for range values {
				v := r.u16()
				chunk[v>>6] |= 1 << (v & 63)
			}
		default:
			for w := range chunk {
				chunk[w] = r.u64()
			}
		}
	}
}
