// Package envelope decodes what is around a message: the compression of its value, and its key.
//
// It owns the decompression of values, with its limits, and the joining of a key's column with the value's columns. It promises that a
// message ends as one row or leaves no trace, in the key's column too; that no value grows beyond the limit, whatever its
// bytes are; and that nothing allocates per message once buffers have grown.
//
// It never reads a key or a value: decoders that it is handed do.
package envelope

import (
	"errors"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
)

// Decoder is what decodes a value or a key: the formats' decoders do. One goroutine uses it.
type Decoder interface {
	Append(rec *kgo.Record) error
	WrittenBy(rec *kgo.Record) string
	Builders() *decode.Rows
	NewBatch() arrow.RecordBatch
	Reset()
}

// Keyed decodes a record's key into one column, and its value into the others.
type Keyed struct {
	value, key Decoder
	schema     *arrow.Schema
	column     int
	rec        kgo.Record // its value is the key
}

// NewKeyed returns a decoder for the table's schema. key fills the column of that index, of a plan without metadata, and value all others.
func NewKeyed(schema *arrow.Schema, column int, value, key Decoder) *Keyed {
	return &Keyed{value: value, key: key, schema: schema, column: column}
}

// Append decodes a record. A record without a key has a null in the key's column. What the decoders return is returned; each error
// leaves the rows as they were.
func (d *Keyed) Append(rec *kgo.Record) error {
	d.turn(rec)
	var err error
	if rec.Key == nil {
		err = d.key.Builders().AppendNull(&d.rec)
	} else {
		err = d.key.Append(&d.rec)
	}
	if err != nil {
		if poison, ok := errors.AsType[*decode.PoisonError](err); ok && poison.Path == "" {
			poison.Path = d.schema.Field(d.column).Name
		}
		return err
	}
	if err := d.value.Append(rec); err != nil {
		d.key.Builders().Undo(&d.rec)
		return err
	}
	return nil
}

// turn makes a record's key the value that the key's decoder reads.
func (d *Keyed) turn(rec *kgo.Record) {
	d.rec.Topic, d.rec.Partition, d.rec.Offset, d.rec.Headers, d.rec.Value = rec.Topic, rec.Partition, rec.Offset, rec.Headers, rec.Key
}

// WrittenBy tells the schema of a message's value. What is not known yet is asked for, as the value's decoder does, and the key's schema beside it.
func (d *Keyed) WrittenBy(rec *kgo.Record) string {
	if rec.Key != nil {
		d.turn(rec)
		d.key.WrittenBy(&d.rec)
	}
	return d.value.WrittenBy(rec)
}

// Bytes is the size of the rows in memory.
func (d *Keyed) Bytes() int { return d.key.Builders().Bytes() + d.value.Builders().Bytes() }

// NewBatch returns the rows as a batch of exactly the table's schema and starts a new one. Release it before the next Append.
func (d *Keyed) NewBatch() arrow.RecordBatch {
	key, value := d.key.NewBatch(), d.value.NewBatch()
	defer key.Release()
	defer value.Release()
	columns := make([]arrow.Array, 0, d.schema.NumFields())
	for i := range d.schema.NumFields() {
		switch {
		case i < d.column:
			columns = append(columns, value.Column(i))
		case i == d.column:
			columns = append(columns, key.Column(0))
		default:
			columns = append(columns, value.Column(i-1))
		}
	}
	return array.NewRecordBatch(d.schema, columns, value.NumRows())
}

// Reset drops the rows.
func (d *Keyed) Reset() {
	d.key.Reset()
	d.value.Reset()
}
