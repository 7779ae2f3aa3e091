package json

import (
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
)

// maxDepth bounds how deep a message nests, the message's own object included.
const maxDepth = 512

// padding is how many zero bytes follow the message in the decoder's copy of it. A zero byte ends every scanning loop,
// and the widest load (16 bytes from a key's first) may start at the last byte of the message.
const padding = 32

// keepBuffer is the largest copy of a message whose memory is kept from batch to batch.
const keepBuffer = 1 << 20

// Decoder turns JSON messages into the rows of Arrow batches. One goroutine uses it.
type Decoder struct {
	rows    *decode.Rows
	root    *object
	whole   bool    // a message is a value of any type, for the table's only column
	framing Framing // nil: the value is nothing but the message
	schema  string  // of the message, for errors

	// The message: a copy with padding behind it, so that scanning needs no bounds checks. base is &buf[0].
	buf  []byte
	base unsafe.Pointer
	n    int // length of the message

	computed []*decode.Builder // computed columns, which get a null when their field was missing
	texts    []*decode.Builder // columns that take the whole message
	scratch  []byte            // the last string that had escapes
	keys     decode.KeySet     // for duplicate keys of large maps
	stack    [maxDepth / 64]uint64
	problem  decode.Problem // what made the message poison
	why      []byte         // the text of it; used again
}

// New returns a decoder for the plan's table, of messages that are nothing but JSON.
func New(plan *decode.Plan) *Decoder { return NewFramed(plan, nil) }

// NewFramed returns a decoder for the plan's table, of messages that tell their schema.
func NewFramed(plan *decode.Plan, f Framing) *Decoder {
	d := &Decoder{rows: plan.NewRows(), framing: f}
	d.grow(4 << 10)
	d.compile(plan)
	return d
}

// Append decodes one record's value into a row. It returns nil when exactly one more row is held, a
// *decode.PoisonError when the message can never be one, and an error that asks to try again when the batch has no room for
// it, or its schema can't be had now; both leave the rows as they were. It keeps no reference to the record.
func (d *Decoder) Append(rec *kgo.Record) error {
	value := rec.Value
	d.schema = "" // a tombstone has none
	if d.framing != nil && value != nil {
		schema, begin, err := d.framing(rec)
		if err != nil {
			return d.unframed(rec, err)
		}
		d.schema, value = schema, value[begin:]
	}
	if err := d.rows.Begin(rec); err != nil {
		return decode.WrittenWith(err, d.schema)
	}
	n := len(value)
	if n+padding > len(d.buf) {
		d.grow(n)
	}
	copy(d.buf, value)
	clear(d.buf[n : n+padding])
	d.n = n
	if !d.document(rec) {
		d.rows.Rollback()
		return d.poison(rec)
	}
	d.rows.Commit(rec)
	return nil
}

// WrittenBy tells the schema of a message that Append has taken; "" where messages tell none.
func (d *Decoder) WrittenBy(rec *kgo.Record) string {
	if d.framing == nil {
		return ""
	}
	schema, _, _ := d.framing(rec) // it was told before
	return schema
}

// NewSingle returns a decoder for the plan's table with one column, of messages that are values for it, as keys are. framing may be nil.
func NewSingle(plan *decode.Plan, f Framing) *Decoder {
	d := NewFramed(plan, f)
	d.whole = true
	return d
}

func (d *Decoder) grow(n int) {
	d.buf = make([]byte, max(n+n/4, 4<<10)+padding)
	d.base = unsafe.Pointer(unsafe.SliceData(d.buf))
}

// Builders are the rows that are held.
func (d *Decoder) Builders() *decode.Rows { return d.rows }

// Rows is the number of rows since the last NewBatch or Reset.
func (d *Decoder) Rows() int { return d.rows.Len() }

// Bytes is the size of those rows in memory.
func (d *Decoder) Bytes() int { return d.rows.Bytes() }

// NewBatch returns the rows as a batch of exactly the table's schema and starts a new one. The batch's buffers are the
// decoder's: release it before the next Append, or the decoder has to allocate new ones.
func (d *Decoder) NewBatch() arrow.RecordBatch {
	d.shrink()
	return d.rows.NewBatch()
}

// Reset drops the rows.
func (d *Decoder) Reset() {
	d.shrink()
	d.rows.Reset()
}

// shrink gives back what one very large message made grow.
func (d *Decoder) shrink() {
	if len(d.buf) > 2*keepBuffer {
		d.grow(4 << 10)
	}
	if cap(d.scratch) > keepBuffer {
		d.scratch = nil
	}
	d.keys.Shrink()
}
