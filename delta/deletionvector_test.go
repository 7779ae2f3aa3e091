package delta_test

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"slices"
	"testing"

	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

// rowsIn lists the rows of a set below a limit.
func rowsIn(s *delta.RowSet, limit int64) []int64 {
	var rows []int64
	for r := range limit {
		if s.Has(r) {
			rows = append(rows, r)
		}
	}
	return rows
}

// TestInlineDeletionVector reads the rows of the example of PROTOCOL.md, "Deletion Vector Descriptor Schema", in the format that
// the protocol asks for: the example's own text is in an older one.
func TestInlineDeletionVector(t *testing.T) {
	inline := delta.DeletionVector{StorageType: "i", PathOrInlineDv: "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L", SizeInBytes: 44, Cardinality: 6}
	s, err := delta.ReadDeletionVector(t.Context(), memory.New(), &inline)
	if err != nil {
		t.Fatal(err)
	}
	if want, got := []int64{3, 4, 7, 11, 18, 29}, rowsIn(s, 1<<17); !slices.Equal(got, want) || s.Len() != 6 {
		t.Errorf("rows %v (%d), want %v", got, s.Len(), want)
	}
	inline.Cardinality = 7
	if _, err := delta.ReadDeletionVector(t.Context(), memory.New(), &inline); !errors.Is(err, delta.ErrCorrupt) {
		t.Errorf("another cardinality: %v", err)
	}
}

// roaring serializes a bitmap of one bucket with a container of each kind: an array, a bitmap and runs.
func roaring(key uint32) (data []byte, rows int64) {
	le := binary.LittleEndian
	data = le.AppendUint32(nil, 1681511377)
	data = le.AppendUint64(data, 1)
	data = le.AppendUint32(data, key)
	data = le.AppendUint32(data, 12347|2<<16) // three containers, some of runs
	data = append(data, 0b100)
	for i, n := range []int{2, 8192, 13} {
		data = le.AppendUint16(le.AppendUint16(data, uint16(i)), uint16(n-1))
	}
	data = le.AppendUint16(le.AppendUint16(data, 5), 65535)
	for range 1024 {
		data = le.AppendUint64(data, 0xff)
	}
	data = le.AppendUint16(data, 2)
	data = le.AppendUint16(le.AppendUint16(data, 0), 2)
	data = le.AppendUint16(le.AppendUint16(data, 65526), 9)
	return data, 2 + 8192 + 13
}

func TestDeletionVectorInFile(t *testing.T) {
	data, rows := roaring(0)
	store := memory.New()
	file := binary.BigEndian.AppendUint32([]byte{1}, uint32(len(data)))
	file = binary.BigEndian.AppendUint32(append(file, data...), crc32.ChecksumIEEE(data))
	offset := int32(1)
	dv := delta.DeletionVector{StorageType: "u", PathOrInlineDv: "ab^-aqEH.-t@S}K{vb[*k^", Offset: &offset, SizeInBytes: int32(len(data)), Cardinality: rows}
	if _, err := delta.ReadDeletionVector(t.Context(), store, &dv); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	const name = "ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin"
	if err := store.Put(t.Context(), name, file); err != nil {
		t.Fatal(err)
	}
	s, err := delta.ReadDeletionVector(t.Context(), store, &dv)
	if err != nil {
		t.Fatal(err)
	}
	for row, want := range map[int64]bool{
		5: true, 6: false, 65535: true, 65536: true, 65543: true, 65544: false, 131071 - 63: true, 131072: true, 131074: true, 131075: false,
		131072 + 65525: false, 131072 + 65526: true, 131072 + 65535: true, 1 << 33: false,
	} {
		if s.Has(row) != want {
			t.Errorf("row %d is in it: %v, want %v", row, !want, want)
		}
	}
	file[len(file)-1] ^= 1
	if err := store.Put(t.Context(), name, file); err != nil {
		t.Fatal(err)
	}
	if _, err := delta.ReadDeletionVector(t.Context(), store, &dv); !errors.Is(err, delta.ErrCorrupt) {
		t.Errorf("a wrong checksum: %v", err)
	}
	dv.StorageType = "p"
	if _, err := delta.ReadDeletionVector(t.Context(), store, &dv); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("an absolute path: %v", err)
	}
}

// FuzzDeletionVector: whatever is there, it is read or refused, and a set has as many rows as it was announced with.
func FuzzDeletionVector(f *testing.F) {
	data, rows := roaring(0)
	f.Add(data, rows)
	f.Fuzz(func(t *testing.T, data []byte, rows int64) {
		store := memory.New()
		file := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
		file = binary.BigEndian.AppendUint32(append(file, data...), crc32.ChecksumIEEE(data))
		if err := store.Put(t.Context(), "deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin", file); err != nil {
			t.Fatal(err)
		}
		offset := int32(0)
		s, err := delta.ReadDeletionVector(t.Context(), store, &delta.DeletionVector{
			StorageType: "u", PathOrInlineDv: "^-aqEH.-t@S}K{vb[*k^", Offset: &offset, SizeInBytes: int32(len(data)), Cardinality: rows,
		})
		if err == nil && s.Len() != rows {
			t.Errorf("%d rows, %d were announced", s.Len(), rows)
		}
	})
}
