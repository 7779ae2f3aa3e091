package expr

import (
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// fn evaluates a term for one row. False is NULL, or an error when Rows.err is set: whoever turns a NULL into something
// else has to look.
type fn[T any] func(r *Rows, row int) (T, bool)

// node is a compiled term. Of the functions it has the one of its type; a NULL literal has none.
type node struct {
	t     typ
	term  *term
	cost  int // how many terms one row may evaluate
	konst bool

	b fn[bool]
	i fn[int64]
	f fn[float64]
	s fn[string]
	d fn[decimal128.Num]

	null func(r *Rows, row int) bool  // of a column: without reading the value
	size func(r *Rows, row int) int64 // of an array or map
}

// isNull tells whether a row's value is NULL, or failed.
func (n *node) isNull() func(r *Rows, row int) bool {
	switch {
	case n.null != nil:
		return n.null
	case n.b != nil:
		return func(r *Rows, row int) bool { _, ok := n.b(r, row); return !ok }
	case n.i != nil:
		return func(r *Rows, row int) bool { _, ok := n.i(r, row); return !ok }
	case n.f != nil:
		return func(r *Rows, row int) bool { _, ok := n.f(r, row); return !ok }
	case n.s != nil:
		return func(r *Rows, row int) bool { _, ok := n.s(r, row); return !ok }
	case n.d != nil:
		return func(r *Rows, row int) bool { _, ok := n.d(r, row); return !ok }
	}
	return func(*Rows, int) bool { return true }
}

// Rows evaluates a Program over one batch. One goroutine uses it; it is void when the batch is released.
type Rows struct {
	program *Program
	columns []column
	now     int64 // microseconds since 1970
	joined  int   // bytes that concat made
	err     error
}

// column is one leaf of the batch that the program reads.
type column struct {
	valid  []byte // nil: no row is null
	offset int    // of the first row's bit in valid

	bools *array.Boolean
	i8    []int8
	i16   []int16
	i32   []int32
	i64   []int64
	f32   []float32
	f64   []float64
	dec   []decimal128.Num
	str   *array.String
	bin   *array.Binary
	list  array.ListLike
}

func (c *column) null(row int) bool {
	if c.valid == nil {
		return false
	}
	row += c.offset
	return c.valid[row>>3]>>(row&7)&1 == 0
}

// fail records why a row has no value.
func (r *Rows) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// Bind prepares the evaluation of the batch's rows. now is what current_timestamp() and current_date() give.
func (p *Program) Bind(rb arrow.RecordBatch, now time.Time) *Rows {
	r := &Rows{program: p, columns: make([]column, len(p.columns)), now: now.UnixMicro()}
	for i, path := range p.columns {
		r.columns[i].bind(rb, path)
	}
	return r
}

// bind finds the leaf. A field of a null struct is null.
func (c *column) bind(rb arrow.RecordBatch, path []int) {
	arr := rb.Column(path[0])
	c.addNulls(arr)
	for _, i := range path[1:] {
		arr = arr.(*array.Struct).Field(i)
		c.addNulls(arr)
	}
	switch a := arr.(type) {
	case *array.Boolean:
		c.bools = a
	case *array.Int8:
		c.i8 = a.Int8Values()
	case *array.Int16:
		c.i16 = a.Int16Values()
	case *array.Int32:
		c.i32 = a.Int32Values()
	case *array.Date32:
		c.i32 = arrow.Int32Traits.CastFromBytes(arrow.Date32Traits.CastToBytes(a.Date32Values()))
	case *array.Int64:
		c.i64 = a.Int64Values()
	case *array.Timestamp:
		c.i64 = arrow.Int64Traits.CastFromBytes(arrow.TimestampTraits.CastToBytes(a.TimestampValues()))
	case *array.Float32:
		c.f32 = a.Float32Values()
	case *array.Float64:
		c.f64 = a.Float64Values()
	case *array.Decimal128:
		c.dec = a.Values()
	case *array.String:
		c.str = a
	case *array.Binary:
		c.bin = a
	case array.ListLike:
		c.list = a
	}
}

// addNulls adds the nulls of one level of the path.
func (c *column) addNulls(arr arrow.Array) {
	if arr.NullN() == 0 {
		return
	}
	valid, offset := arr.NullBitmapBytes(), arr.Data().Offset()
	if c.valid == nil {
		c.valid, c.offset = valid, offset
		return
	}
	both := make([]byte, bitutil.BytesForBits(int64(arr.Len())))
	for i := range arr.Len() {
		if bitutil.BitIsSet(c.valid, c.offset+i) && bitutil.BitIsSet(valid, offset+i) {
			bitutil.SetBit(both, i)
		}
	}
	c.valid, c.offset = both, 0
}

// Outcome is what a condition says of a row.
type Outcome uint8

// The outcomes of three-valued logic.
const (
	False Outcome = iota
	True
	Null
)

// Test evaluates a condition (see CompileCondition) for one row. An error is the reason why it has no value: an overflow,
// a string that is no number, a division by zero.
func (r *Rows) Test(row int) (Outcome, error) {
	v, ok := r.program.root.b(r, row)
	if !ok {
		err := r.err
		r.err = nil
		return Null, err
	}
	if v {
		return True, nil
	}
	return False, nil
}

// AppendTo appends one row's value (see CompileValue) to a builder of the type that the value was compiled for.
func (r *Rows) AppendTo(b array.Builder, row int) error {
	n := r.program.root
	ok := false
	switch b := b.(type) {
	case *array.BooleanBuilder:
		ok = appendValue(r, row, n.b, b.Append)
	case *array.Int8Builder:
		ok = appendValue(r, row, n.i, func(v int64) { b.Append(int8(v)) })
	case *array.Int16Builder:
		ok = appendValue(r, row, n.i, func(v int64) { b.Append(int16(v)) })
	case *array.Int32Builder:
		ok = appendValue(r, row, n.i, func(v int64) { b.Append(int32(v)) })
	case *array.Int64Builder:
		ok = appendValue(r, row, n.i, b.Append)
	case *array.Date32Builder:
		ok = appendValue(r, row, n.i, func(v int64) { b.Append(arrow.Date32(v)) })
	case *array.TimestampBuilder:
		ok = appendValue(r, row, n.i, func(v int64) { b.Append(arrow.Timestamp(v)) })
	case *array.Float32Builder:
		ok = appendValue(r, row, n.f, func(v float64) { b.Append(float32(v)) })
	case *array.Float64Builder:
		ok = appendValue(r, row, n.f, b.Append)
	case *array.StringBuilder:
		ok = appendValue(r, row, n.s, b.Append)
	case *array.BinaryBuilder:
		ok = appendValue(r, row, n.s, b.AppendString)
	case *array.Decimal128Builder:
		ok = appendValue(r, row, n.d, b.Append)
	}
	if !ok {
		b.AppendNull()
	}
	err := r.err
	r.err = nil
	return err
}

func appendValue[T any](r *Rows, row int, f fn[T], to func(T)) bool {
	if f == nil {
		return false
	}
	v, ok := f(r, row)
	if ok {
		to(v)
	}
	return ok
}
