package pipeline

import (
	"encoding/binary"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	instant    = arrow.FixedWidthTypes.Timestamp_us
	headerType = arrow.StructOf(arrow.Field{Name: "key", Type: arrow.BinaryTypes.String, Nullable: true}, arrow.Field{Name: "value", Type: arrow.BinaryTypes.Binary, Nullable: true})
)

// letter is what a row of the dead-letter table is made of.
type letter struct {
	*kgo.Record
	schema, reason, path string
	found                string // and what was expected
	stream               string
	generation           int64
	now                  time.Time
}

// letterOf is a message that can't become a row.
func letterOf(r *kgo.Record, cause error, stream string, generation int64, now time.Time) letter {
	l := letter{Record: r, reason: "unknown", stream: stream, generation: generation, now: now}
	if p, ok := errors.AsType[poison](cause); ok {
		l.path, l.reason = p.Poison()
		if f, ok := p.(interface{ Found() string }); ok {
			l.found = f.Found()
		}
	}
	if l.found == "" {
		l.found = cause.Error()
	}
	if s, ok := errors.AsType[interface {
		error
		WrittenBy() string
	}](cause); ok {
		l.schema = s.WrittenBy()
	}
	return l
}

type letterColumn struct {
	arrow.Field
	fill func(*cells, *letter) // nil: headers
}

// letterColumns are the columns of a dead-letter table, and how each is filled.
var letterColumns = []letterColumn{
	{required("topic", arrow.BinaryTypes.String), func(c *cells, l *letter) { c.text(l.Topic) }},
	{required("partition", arrow.PrimitiveTypes.Int32), func(c *cells, l *letter) { c.int32(l.Partition) }},
	{required("offset", arrow.PrimitiveTypes.Int64), func(c *cells, l *letter) { c.int64(l.Offset) }},
	{optional("timestamp", instant), func(c *cells, l *letter) { c.int64(l.Timestamp.UnixMicro()) }},
	{optional("key", arrow.BinaryTypes.Binary), func(c *cells, l *letter) { c.bytes(l.Key) }},
	{optional("value", arrow.BinaryTypes.Binary), func(c *cells, l *letter) { c.bytes(l.Value) }},
	{optional("headers", arrow.ListOf(headerType)), nil},
	{optional("schema_id", arrow.BinaryTypes.String), func(c *cells, l *letter) { c.optional(l.schema) }},
	{required("reason", arrow.BinaryTypes.String), func(c *cells, l *letter) { c.text(l.reason) }},
	{optional("field_path", arrow.BinaryTypes.String), func(c *cells, l *letter) { c.optional(l.path) }},
	{required("error", arrow.BinaryTypes.String), func(c *cells, l *letter) { c.text(l.found) }},
	{required("connector", arrow.BinaryTypes.String), func(c *cells, l *letter) { c.text(l.stream) }},
	{required("generation", arrow.PrimitiveTypes.Int64), func(c *cells, l *letter) { c.int64(l.generation) }},
	{required("time", instant), func(c *cells, l *letter) { c.int64(l.now.UnixMicro()) }},
}

func required(name string, t arrow.DataType) arrow.Field { return arrow.Field{Name: name, Type: t} }
func optional(name string, t arrow.DataType) arrow.Field {
	return arrow.Field{Name: name, Type: t, Nullable: true}
}

// DeadLetterSchema is the schema of a new dead-letter table.
func DeadLetterSchema() *arrow.Schema {
	fields := make([]arrow.Field, len(letterColumns))
	for i, c := range letterColumns {
		fields[i] = c.Field
	}
	return arrow.NewSchema(fields, nil)
}

// cells are the values of one column as Arrow has them, in memory that is used again: in a storm of bad messages, Arrow's own builders cost as
// much as all that is done for good ones.
type cells struct {
	data    []byte
	offsets []int32 // in data, of texts and bytes
	valid   []byte  // a bit for each row
	rows    int
	nulls   int
}

func (c *cells) next(valid byte) {
	if c.rows%8 == 0 {
		c.valid = append(c.valid, 0)
	}
	c.valid[c.rows/8] |= valid << (c.rows % 8)
	c.rows++
	c.nulls += int(1 - valid)
}

func (c *cells) int32(v int32) {
	c.data = binary.LittleEndian.AppendUint32(c.data, uint32(v)) //nolint:gosec // the same bits
	c.next(1)
}

func (c *cells) int64(v int64) {
	c.data = binary.LittleEndian.AppendUint64(c.data, uint64(v)) //nolint:gosec // the same bits
	c.next(1)
}

func (c *cells) text(s string) {
	c.data = append(c.data, valid(s)...)
	c.end(1)
}

func (c *cells) optional(s string) {
	if s == "" {
		c.end(0)
		return
	}
	c.text(s)
}

func (c *cells) bytes(v []byte) {
	if v == nil { // a tombstone is not an empty value
		c.end(0)
		return
	}
	c.data = append(c.data, v...)
	c.end(1)
}

// end ends the value of a row.
func (c *cells) end(valid byte) {
	if c.rows == 0 {
		c.offsets = append(c.offsets, 0)
	}
	c.offsets = append(c.offsets, int32(len(c.data))) //nolint:gosec // a batch has some MiB, and one message more
	c.next(valid)
}

// array gives the rows as an array, which is good until the next reset. The caller releases it.
func (c *cells) array(t arrow.DataType) arrow.Array {
	buffers := []*memory.Buffer{nil, memory.NewBufferBytes(c.data)}
	if c.nulls > 0 {
		buffers[0] = memory.NewBufferBytes(c.valid)
	}
	if c.offsets != nil {
		buffers = []*memory.Buffer{buffers[0], memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(c.offsets)), buffers[1]}
	}
	data := array.NewData(t, c.rows, buffers, nil, c.nulls, 0)
	defer data.Release()
	return array.MakeFromData(data)
}

func (c *cells) reset() {
	if cap(c.data) > 2*batchBytes { // after one very large message
		c.data = nil
	}
	*c = cells{data: c.data[:0], offsets: c.offsets[:0], valid: c.valid[:0]}
}

func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

func addHeaders(list *array.ListBuilder, headers []kgo.RecordHeader) {
	list.Append(true)
	entry := list.ValueBuilder().(*array.StructBuilder)
	for _, h := range headers {
		entry.Append(true)
		entry.FieldBuilder(0).(*array.StringBuilder).Append(valid(h.Key))
		value := entry.FieldBuilder(1).(*array.BinaryBuilder)
		if h.Value == nil {
			value.AppendNull()
		} else {
			value.Append(h.Value)
		}
	}
}
