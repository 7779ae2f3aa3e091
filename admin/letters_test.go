package admin

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	arrowmemory "github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/delta"
	"kafkadelta/sink/datafile"
	"kafkadelta/storage/memory"
)

// peak is an allocator that knows the most that was held at a time.
type peak struct {
	arrowmemory.Allocator
	held, most atomic.Int64
}

func (p *peak) count(n int) {
	held := p.held.Add(int64(n))
	for most := p.most.Load(); held > most && !p.most.CompareAndSwap(most, held); most = p.most.Load() {
	}
}

func (p *peak) Allocate(size int) []byte {
	p.count(size)
	return p.Allocator.Allocate(size)
}

func (p *peak) Reallocate(size int, b []byte) []byte {
	p.count(size) // both are there while it copies
	defer p.count(-len(b))
	return p.Allocator.Reallocate(size, b)
}

func (p *peak) Free(b []byte) {
	p.count(-len(b))
	p.Allocator.Free(b)
}

// TestLargeLettersAreReadInPieces: 60 letters of 2 MiB take nothing near to 120 MiB while they are read, in one row group as in many, and behind many small ones.
func TestLargeLettersAreReadInPieces(t *testing.T) {
	const large, size = 60, 2 << 20
	schema := arrow.NewSchema([]arrow.Field{{Name: "offset", Type: arrow.PrimitiveTypes.Int64}, {Name: "value", Type: arrow.BinaryTypes.Binary, Nullable: true}}, nil)
	for _, tt := range []struct {
		name  string
		small int
		bytes int64 // datafile.Options.Memory, by which row groups have more or less rows
	}{
		{"one row group", 0, 0},
		{"many row groups", 0, 1},
		{"behind small ones", 40_000, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store := memory.New()
			df, err := datafile.New(t.Context(), store, "letters.parquet", schema, datafile.Options{Memory: tt.bytes})
			if err != nil {
				t.Fatal(err)
			}
			b := array.NewRecordBuilder(arrowmemory.DefaultAllocator, schema)
			defer b.Release()
			value := make([]byte, size)
			write := func(first, n int, value []byte) {
				for i := range n {
					copy(value, fmt.Sprint(first+i))
					b.Field(0).(*array.Int64Builder).Append(int64(first + i))
					b.Field(1).(*array.BinaryBuilder).Append(value)
				}
				rb := b.NewRecordBatch()
				defer rb.Release()
				if err := df.Write(rb); err != nil {
					t.Fatal(err)
				}
			}
			if tt.small > 0 {
				write(0, tt.small, make([]byte, 10))
			}
			for i := range large {
				write(tt.small+i, 1, value)
			}
			info, err := df.Close()
			if err != nil {
				t.Fatal(err)
			}
			mem := &peak{Allocator: arrowmemory.DefaultAllocator}
			next := int64(0)
			more, err := readLetters(t.Context(), mem, store, &delta.Add{Path: info.Name, Size: info.Size}, nil, func(l *Letter) bool {
				if l.Offset != next || l.Offset >= int64(tt.small) && len(l.Value) != size {
					t.Fatalf("offset %d with %d bytes, want offset %d", l.Offset, len(l.Value), next)
				}
				next++
				return true
			})
			if err != nil || !more || next != int64(tt.small+large) {
				t.Fatalf("%d letters, %v, %v", next, more, err)
			}
			if most := mem.most.Load(); most > 3*lettersBytes {
				t.Errorf("%d MiB were held at a time", most>>20)
			}
		})
	}
}
