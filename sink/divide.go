package sink

import (
	"context"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/delta"
)

// Divider divides batches by values that say which table a row is for, as a Writer divides them by partition values. It belongs to one
// goroutine, and allocates nothing for a row.
type Divider struct {
	split splitter
	limit func() int64 // of what is held, in bytes

	held   held          // rows, with their keys behind
	sorter splitter      // of them
	schema *arrow.Schema // without the keys
}

// NewDivider returns one for keys of so many columns.
func (t *Table) NewDivider(columns int) *Divider {
	return newDivider(columns, func() int64 { return max(t.memory()/heldPart, leastHeld) })
}

func newDivider(columns int, limit func() int64) *Divider {
	d := &Divider{split: newSplitter(), sorter: newSplitter(), limit: limit}
	for i := range columns {
		d.split.columns = append(d.split.columns, i)
	}
	return d
}

// CheckKey is an error where values of a type can't say which table a row is for.
func CheckKey(t arrow.DataType) error {
	arr := array.MakeArrayOfNull(memory.DefaultAllocator, t, 0)
	defer arr.Release()
	_, err := newKeyer(arr)
	return err
}

// Runs calls f for each stretch [first, next) of rows with equal values in the keys. Key is equal for equal values, and good until f returns.
func (d *Divider) Runs(keys arrow.RecordBatch, f func(key []byte, first, next int) error) error {
	if err := d.split.look(keys); err != nil {
		return err
	}
	for _, r := range d.split.runs {
		if err := f(d.split.keyOf(r.first), r.first, r.next); err != nil {
			return err
		}
	}
	return nil
}

// Write calls write once or more for every key, with the rows of data that have it. The batch is good until write returns. Copies of batches in
// which the key changes all the time are held, until there is much of them, so that each table gets more than a few rows at a time. Data of another
// schema than that of what is held come after Rest.
func (d *Divider) Write(ctx context.Context, keys, data arrow.RecordBatch, write func(key []byte, part arrow.RecordBatch) error) error {
	if err := d.split.look(keys); err != nil {
		return err
	}
	if !d.split.scattered() {
		return d.split.each(ctx, data, func(key []byte, _ int, part arrow.RecordBatch) error { return write(key, part) })
	}
	d.schema, d.sorter.columns = data.Schema(), d.sorter.columns[:0]
	for i := range keys.NumCols() {
		d.sorter.columns = append(d.sorter.columns, int(data.NumCols()+i))
	}
	fields := slices.Concat(data.Schema().Fields(), keys.Schema().Fields())
	both := array.NewRecordBatch(arrow.NewSchema(fields, nil), slices.Concat(data.Columns(), keys.Columns()), data.NumRows())
	defer both.Release()
	if err := d.held.add(ctx, &d.sorter, both); err != nil || d.held.bytes < d.limit() {
		return err
	}
	return d.Rest(write)
}

// Rest is Write for the rows that are held.
func (d *Divider) Rest(write func(key []byte, part arrow.RecordBatch) error) error {
	if d.held.rows == 0 {
		return nil
	}
	all, err := d.held.sorted(&d.sorter)
	if err != nil {
		return err
	}
	defer all.Release()
	data := array.NewRecordBatch(d.schema, all.Columns()[:d.schema.NumFields()], all.NumRows())
	defer data.Release()
	return d.sorter.eachGroup(data, func(g *group, _ int, part arrow.RecordBatch) error { return write(g.key, part) })
}

// Drop gives up what is held.
func (d *Divider) Drop() { d.held.drop() }

// Bytes is the Parquet output that is expected of what is held.
func (d *Divider) Bytes() int64 { return d.held.bytes / heldRatio }

// KeyTexts spells the values of one row; nil stands for null, and for an empty text, as in partition columns.
func KeyTexts(keys arrow.RecordBatch, row int) []*string {
	texts := make([]*string, keys.NumCols())
	for i := range texts {
		if text, null := delta.PartitionValue(keys.Column(i), row); !null {
			texts[i] = &text
		}
	}
	return texts
}
