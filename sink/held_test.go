package sink

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// metered is an allocator that knows how much it has given out, and the most that it ever had.
type metered struct {
	memory.Allocator
	now, most atomic.Int64
}

func (m *metered) count(n int) {
	if now := m.now.Add(int64(n)); now > m.most.Load() {
		m.most.Store(now)
	}
}

func (m *metered) Allocate(n int) []byte { m.count(n); return m.Allocator.Allocate(n) }
func (m *metered) Free(b []byte)         { m.count(-len(b)); m.Allocator.Free(b) }
func (m *metered) Reallocate(n int, b []byte) []byte {
	m.count(n) // both are there for a moment
	m.count(-len(b))
	return m.Allocator.Reallocate(n, b)
}

// scatteredRows is a batch of rows of many values in turn, in columns of about one size.
func scatteredRows(first, n, values int) arrow.RecordBatch {
	var fields []arrow.Field
	for i := range 8 {
		fields = append(fields, arrow.Field{Name: fmt.Sprint("c", i), Type: arrow.BinaryTypes.String})
	}
	fields = append(fields, arrow.Field{Name: "p", Type: arrow.PrimitiveTypes.Int64})
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	defer b.Release()
	for row := first; row < first+n; row++ {
		for i := range 8 {
			b.Field(i).(*array.StringBuilder).Append(fmt.Sprint(row, strings.Repeat("x", 50)))
		}
		b.Field(8).(*array.Int64Builder).Append(int64(row % values))
	}
	return b.NewRecordBatch()
}

// TestHeldRowsCostWhatTheyAre: what is held takes little more than its own size while it is sorted, and comes out whole.
func TestHeldRowsCostWhatTheyAre(t *testing.T) {
	const batches, rows, values = 20, 1000, 100
	m := &metered{Allocator: memory.NewCheckedAllocator(memory.DefaultAllocator)}
	defer m.Allocator.(*memory.CheckedAllocator).AssertSize(t, 0)
	s := newSplitter(8)
	s.memory = m
	var h held
	for i := range batches {
		rb := scatteredRows(i*rows, rows, values)
		if err := h.add(context.WithoutCancel(t.Context()), &s, rb); err != nil {
			t.Fatal(err)
		}
		rb.Release()
	}
	if most := m.most.Load(); most > h.bytes*13/10 {
		t.Errorf("%d bytes of rows take %d", h.bytes, most)
	}
	bytes := h.bytes
	all, err := h.sorted(&s)
	if err != nil {
		t.Fatal(err)
	}
	defer all.Release()
	if most := m.most.Load(); most > bytes*16/10 {
		t.Errorf("%d bytes of rows took %d while they were sorted", bytes, most)
	}
	if h.rows != 0 || h.bytes != 0 {
		t.Errorf("%d rows, %d bytes are still held", h.rows, h.bytes)
	}
	seen := map[string]bool{}
	parts := 0
	err = s.eachGroup(all, func(g *group, first int, part arrow.RecordBatch) error {
		parts++
		for i := range int(part.NumRows()) {
			seen[part.Column(0).(*array.String).Value(i)] = true
			if p := part.Column(8).(*array.Int64).Value(i); p != all.Column(8).(*array.Int64).Value(first) {
				t.Fatalf("a group has rows of %d and %d", p, all.Column(8).(*array.Int64).Value(first))
			}
		}
		return nil
	})
	if err != nil || parts != values || len(seen) != batches*rows {
		t.Errorf("%d rows in %d groups, %v", len(seen), parts, err)
	}
}

// TestWhatIsHeld: rows in short runs of many values, and no others.
func TestWhatIsHeld(t *testing.T) {
	s := newSplitter(8)
	held := map[int]bool{}
	for _, values := range []int{1, 2, fewValues, fewValues + 1, 1000} {
		rb := scatteredRows(0, 2000, values)
		if err := s.look(rb); err != nil {
			t.Fatal(err)
		}
		held[values] = s.scattered()
		rb.Release()
	}
	if want := map[int]bool{1: false, 2: false, fewValues: false, fewValues + 1: true, 1000: true}; fmt.Sprint(held) != fmt.Sprint(want) {
		t.Errorf("held by number of values: %v, want %v", held, want)
	}
}
