// Package raw puts the bytes of messages into a column, as they are.
//
// It owns nothing but that. It promises what decode promises; that a message without a value is a row with a null, since nothing is
// read out of it; and that bytes in a STRING column are UTF-8.
//
// It never looks into the bytes.
package raw

import (
	"fmt"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
)

// Decoder turns messages into the rows of Arrow batches. One goroutine uses it.
type Decoder struct {
	rows   *decode.Rows
	column *decode.Builder
	name   string
	others []*decode.Builder // columns that no message fills
}

// New returns a decoder for the plan's table, whose column of that name is STRING or BINARY. The plan may compute no columns.
func New(plan *decode.Plan, name string) (*Decoder, error) {
	d := &Decoder{rows: plan.NewRows(), name: name}
	for _, n := range plan.Root().Fields {
		switch b := d.rows.Columns[max(n.Index, 0)]; {
		case n.Index < 0 || len(n.Computed) > 0:
			return nil, fmt.Errorf("columns: a column is computed from %s, and messages that are kept as they are have no fields", n.Path)
		case n.Name != name:
			d.others = append(d.others, b)
		case b.Kind != decode.KindString && b.Kind != decode.KindBinary:
			return nil, fmt.Errorf("column %q is %s: messages that are kept as they are need a STRING or a BINARY", name, decode.TypeName(b.Type))
		default:
			d.column = b
		}
	}
	if d.column == nil {
		return nil, fmt.Errorf("the table has no column %q for messages that are kept as they are: add it, as STRING or BINARY", name)
	}
	return d, nil
}

// Append takes one record's value into a row. It returns nil when exactly one more row is held, a *decode.PoisonError when the
// value is no text and the column is STRING, or a *decode.RetryLaterError when the batch has no room for it; both leave the rows
// as they were. It keeps no reference to the record.
func (d *Decoder) Append(rec *kgo.Record) error {
	if d.column.Kind == decode.KindString && !utf8.Valid(rec.Value) {
		return &decode.PoisonError{Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset, Path: d.name, Reason: decode.ReasonInvalidUTF8,
			Detail: fmt.Sprintf("%s is not UTF-8, and the column is STRING: a BINARY takes any bytes", decode.Shorten(rec.Value))}
	}
	if err := d.rows.Begin(rec); err != nil {
		return err
	}
	if rec.Value == nil {
		d.column.AppendNull()
	} else {
		d.column.AppendBytes(rec.Value)
	}
	for _, b := range d.others {
		b.AppendAbsent()
	}
	d.rows.Commit(rec)
	return nil
}

// WrittenBy tells the schema of a message: there is none.
func (d *Decoder) WrittenBy(*kgo.Record) string { return "" }

// Builders are the rows that are held.
func (d *Decoder) Builders() *decode.Rows { return d.rows }

// Bytes is the size of the rows in memory.
func (d *Decoder) Bytes() int { return d.rows.Bytes() }

// NewBatch returns the rows as a batch of exactly the table's schema and starts a new one. The batch's buffers are the
// decoder's: release it before the next Append, or the decoder has to allocate new ones.
func (d *Decoder) NewBatch() arrow.RecordBatch { return d.rows.NewBatch() }

// Reset drops the rows.
func (d *Decoder) Reset() { d.rows.Reset() }
