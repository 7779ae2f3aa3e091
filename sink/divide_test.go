package sink

import (
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// keyed is a batch of n rows with one of so many keys each, in short runs, and null for every fifth of them.
func keyed(n, keys int) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "key", Type: arrow.BinaryTypes.String, Nullable: true}}, nil))
	defer b.Release()
	for i := range n {
		if i%5 == 4 {
			b.Field(0).AppendNull()
		} else {
			b.Field(0).(*array.StringBuilder).Append(fmt.Sprint("key ", i/2%keys))
		}
	}
	return b.NewRecordBatch()
}

func TestDividerTellsEveryRowOnce(t *testing.T) {
	keys := keyed(1000, 4*fewValues)
	defer keys.Release()
	d := newDivider(1, func() int64 { return 1 << 20 })
	byKey := map[string]int{}
	next := 0
	err := d.Runs(keys, func(key []byte, first, end int) error {
		if first != next || end <= first {
			t.Fatalf("a run is [%d, %d) after %d", first, end, next)
		}
		text := KeyTexts(keys, first)[0]
		for row := first; row < end; row++ {
			if got := KeyTexts(keys, row)[0]; (got == nil) != (text == nil) || got != nil && *got != *text {
				t.Fatalf("row %d is in a run of another value", row)
			}
		}
		byKey[string(key)] += end - first
		next = end
		return nil
	})
	if err != nil || next != 1000 || len(byKey) != 4*fewValues+1 {
		t.Errorf("%d rows of %d keys, %v", next, len(byKey), err)
	}
	parts := map[string]int{}
	write := func(key []byte, part arrow.RecordBatch) error {
		parts[string(key)] += int(part.NumRows())
		return nil
	}
	for range 2 {
		if err := d.Write(t.Context(), keys, keys, write); err != nil || len(parts) > 0 {
			t.Fatalf("short runs are written at once: %v, %v", parts, err)
		}
	}
	err = d.Rest(write)
	for key := range byKey {
		byKey[key] *= 2
	}
	if err != nil || fmt.Sprint(parts) != fmt.Sprint(byKey) {
		t.Errorf("the parts have %v rows, the runs %v, %v", parts, byKey, err)
	}
}

// TestDividingAllocatesNothingForARow: eight times as many rows cost no allocation more, but for buffers that grow.
func TestDividingAllocatesNothingForARow(t *testing.T) {
	cost := func(rows int) float64 {
		keys := keyed(rows, 4)
		defer keys.Release()
		d := newDivider(1, func() int64 { return 0 }) // nothing is kept for longer
		return testing.AllocsPerRun(20, func() {
			if err := d.Runs(keys, func([]byte, int, int) error { return nil }); err != nil {
				t.Fatal(err)
			}
			if err := d.Write(t.Context(), keys, keys, func([]byte, arrow.RecordBatch) error { return nil }); err != nil {
				t.Fatal(err)
			}
		})
	}
	few, many := cost(1000), cost(8000)
	t.Logf("1,000 rows cost %v allocations, 8,000 cost %v", few, many)
	if many > few+50 {
		t.Errorf("1,000 rows cost %v allocations, 8,000 cost %v", few, many)
	}
}

func TestValuesThatCantNameATable(t *testing.T) {
	for _, good := range []arrow.DataType{arrow.BinaryTypes.String, arrow.BinaryTypes.Binary, arrow.PrimitiveTypes.Int64, arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Boolean, arrow.FixedWidthTypes.Timestamp_us} {
		if err := CheckKey(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []arrow.DataType{arrow.ListOf(arrow.BinaryTypes.String), arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int32}), arrow.MapOf(arrow.BinaryTypes.String, arrow.BinaryTypes.String)} {
		if CheckKey(bad) == nil {
			t.Errorf("%s can name a table", bad)
		}
	}
}
