package decode

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ErrBatchFull is the cause of a RetryLaterError when a message would carry a column of the batch over Arrow's 2 GiB.
var ErrBatchFull = errors.New("the batch is full: take it with NewBatch and append the message again")

// maxOffset is what the int32 offsets of one batch can address, with some room.
const maxOffset = math.MaxInt32 - 1<<10

// rowSlack bounds the bytes that one row can add to a column beyond the size of its record (a formatted date).
const rowSlack = 32

// Rows is the batch being built: one Builder per column of the table, and the rules that keep a row whole. A decoder
// calls Begin, appends to every column that the plan gives it, then Commit, or Rollback when the message is poison.
// One goroutine uses it; the batches it hands out may be released on another.
type Rows struct {
	Columns []*Builder // in the table's order
	// Growth is how many bytes of a column one byte of a message's value can become; a decoder sets it before Begin. 1 at first.
	Growth int

	schema   *arrow.Schema
	fixed    int        // bytes that every row fills: fixed-width values and offsets outside lists and maps
	variable []*Builder // what Bytes has to look at: strings, lists and maps
	meta     *metadata  // nil: the table has no metadata column, or it is switched off
	n        int        // complete rows
	weight   int        // upper bound of any int32 offset: message bytes and slack of the complete rows
	limit    int        // of weight; maxOffset except in tests
	slack    int        // rowSlack, and the longest default

	lease  *lease // of the buffers below the last batch
	leased bool   // a batch was handed out and nothing was appended since
}

// NewRows returns empty builders for the plan's table.
func (p *Plan) NewRows() *Rows {
	r := &Rows{Growth: 1, schema: p.schema, lease: &lease{}, limit: maxOffset, slack: rowSlack}
	for _, f := range p.schema.Fields() {
		b, err := NewBuilder(f.Type)
		if err != nil {
			panic(fmt.Sprintf("decode: a plan holds a type that NewPlan refuses: %v", err))
		}
		r.Columns = append(r.Columns, b)
		r.addSize(b)
	}
	if p.meta != nil {
		r.meta = newMetadata(p.meta, r.Columns[p.meta.column])
	}
	r.setDefaults(p.defaults)
	return r
}

// Len is the number of complete rows since the last NewBatch or Reset.
func (r *Rows) Len() int { return r.n }

// Bytes is the memory that the complete rows fill, since the last NewBatch or Reset.
func (r *Rows) Bytes() int {
	if r.n == 0 {
		return 0
	}
	n := r.n * r.fixed
	for _, b := range r.variable {
		n += len(b.Data)
		for _, c := range b.Children {
			n += c.Bytes()
		}
	}
	if r.meta != nil {
		n += r.n * r.meta.topicWidth
	}
	return n
}

// addSize sorts b into what Bytes multiplies and what it looks at.
func (r *Rows) addSize(b *Builder) {
	r.fixed += b.Width
	switch {
	case b.Kind == KindStruct:
		for _, c := range b.Children {
			r.addSize(c)
		}
	case b.hasOffsets():
		r.fixed += 4
		r.variable = append(r.variable, b)
	case b.Kind == KindBool:
		r.fixed++ // an eighth, really
	}
}

// Begin prepares for the row of rec. Not nil: the message cannot be appended to this batch (RetryLaterError with
// ErrBatchFull) or to any (PoisonError too_large).
func (r *Rows) Begin(rec *kgo.Record) error {
	if r.leased {
		r.reclaim()
	}
	if r.weight+(len(rec.Value)+1)*r.Growth+len(rec.Key)+len(rec.Topic)+r.slack > r.limit || len(rec.Headers) > 0 {
		return r.beginLarge(rec)
	}
	return nil
}

// beginLarge is Begin for the few records that need a closer look.
func (r *Rows) beginLarge(rec *kgo.Record) error {
	w := r.recordWeight(rec)
	if r.weight+w <= r.limit {
		return nil
	}
	if w > r.limit {
		return &PoisonError{Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset, Reason: ReasonTooLarge,
			Detail: fmt.Sprintf("a message of %d bytes is larger than a batch can hold (%d)", w, r.limit)}
	}
	return &RetryLaterError{Cause: ErrBatchFull}
}

// recordWeight bounds what one record adds to the longest buffer of any column.
func (r *Rows) recordWeight(rec *kgo.Record) int {
	w := (len(rec.Value)+1)*r.Growth + len(rec.Key) + len(rec.Topic) + r.slack
	for i := range rec.Headers {
		w += 3*len(rec.Headers[i].Key) + len(rec.Headers[i].Value) + 1 // 3: a replaced byte becomes U+FFFD
	}
	return w
}

// Commit completes the row: the decoder has appended exactly one row to each column but the metadata column.
func (r *Rows) Commit(rec *kgo.Record) {
	if r.meta != nil {
		r.meta.append(rec)
	}
	if len(rec.Headers) > 0 {
		r.weight += r.recordWeight(rec)
	} else {
		r.weight += (len(rec.Value)+1)*r.Growth + len(rec.Key) + len(rec.Topic) + r.slack
	}
	r.n++
}

// Rollback drops what was appended since Begin.
func (r *Rows) Rollback() {
	for i, b := range r.Columns {
		if r.meta == nil || r.meta.column != i {
			b.Truncate(r.n)
		}
	}
}

// AppendNull completes a row of nulls for rec, as of a record that has nothing to decode. Its errors are those of Begin.
func (r *Rows) AppendNull(rec *kgo.Record) error {
	if err := r.Begin(rec); err != nil {
		return err
	}
	for i, b := range r.Columns {
		if r.meta == nil || r.meta.column != i {
			b.AppendNull()
		}
	}
	r.Commit(rec)
	return nil
}

// Undo takes the last row back, which rec was committed as, in rows without a metadata column.
func (r *Rows) Undo(rec *kgo.Record) {
	r.n--
	r.weight -= r.recordWeight(rec)
	r.Rollback()
}

// NewBatch hands the rows out as a record batch of exactly the table's schema, without copying. The batch should be
// released before the next Begin: its buffers are then used again. If it is not, new buffers are allocated, so that
// the batch stays valid and only memory is lost.
func (r *Rows) NewBatch() arrow.RecordBatch {
	if r.leased {
		r.reclaim()
	}
	if r.meta != nil {
		r.meta.materialize()
	}
	columns := make([]arrow.Array, len(r.Columns))
	for i, b := range r.Columns {
		data := b.arrayData(r.lease)
		columns[i] = array.MakeFromData(data)
		data.Release()
	}
	batch := array.NewRecordBatch(r.schema, columns, int64(r.n))
	for _, c := range columns {
		c.Release()
	}
	for _, b := range r.Columns {
		b.giveBack()
	}
	r.n, r.weight, r.leased = 0, 0, true
	return batch
}

// Reset drops the rows.
func (r *Rows) Reset() {
	if r.leased {
		return // already empty, and the buffers may still have readers
	}
	r.clear()
}

// reclaim takes the buffers of the last batch back, or leaves them to their readers.
func (r *Rows) reclaim() {
	r.leased = false
	if r.lease.open.Load() > 0 {
		for _, b := range r.Columns {
			b.detach()
		}
		r.lease = &lease{}
	}
	r.clear()
}

func (r *Rows) clear() {
	for _, b := range r.Columns {
		b.reset()
	}
	if r.meta != nil {
		r.meta.reset()
	}
	r.n, r.weight = 0, 0
}

// lease counts the buffers of one batch that are still referenced. It is their arrow allocator: freeing means
// giving back. The memory itself belongs to Go's heap.
type lease struct {
	open atomic.Int64
}

func (l *lease) wrap(data []byte) *memory.Buffer {
	l.open.Add(1)
	return memory.NewBufferWithAllocator(data, l)
}

// Free implements memory.Allocator.
func (l *lease) Free([]byte) { l.open.Add(-1) }

// Allocate implements memory.Allocator; an immutable buffer never asks for it.
func (l *lease) Allocate(size int) []byte {
	l.open.Add(1)
	return memory.DefaultAllocator.Allocate(size)
}

// Reallocate implements memory.Allocator; an immutable buffer never asks for it.
func (l *lease) Reallocate(size int, b []byte) []byte {
	return memory.DefaultAllocator.Reallocate(size, b)
}
