package decode

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Kind is the physical shape of a column: which of a Builder's buffers are used and how.
type Kind uint8

// The kinds, one for each Delta type.
const (
	KindBool Kind = iota + 1
	KindInt8
	KindInt16
	KindInt32
	KindInt64
	KindFloat32
	KindFloat64
	KindDecimal
	KindDate
	KindTimestamp
	KindTimestampNTZ
	KindString
	KindBinary
	KindStruct
	KindList
	KindMap
)

// minCapacity is the first capacity of a buffer in bytes. Above Go's tiny allocator, so that it is aligned for Arrow.
const minCapacity = 1 << 10

// Builder holds the raw Arrow buffers of one column, or of one field below it. Its fields are exported for the
// decoders' hot paths; everyone else uses the methods. Exactly one value or null is appended per row.
//
// A null is written as a cleared validity bit over a zero value; valid rows never touch the bitmap, whose missing
// tail counts as valid. Nulls are held for non-nullable fields too: NOT NULL is checked on the batch, by others.
type Builder struct {
	Type     arrow.DataType
	Kind     Kind
	Width    int        // bytes of a fixed-width value; 0 for bool, string, binary, struct, list, map
	Len      int        // complete rows
	Nulls    int        // of them null
	Valid    []byte     // validity bits for a prefix of the rows; the rest is valid. Bits past Len are ones
	Data     []byte     // values, little endian; the bits of booleans; the bytes of strings
	Offsets  []int32    // string, binary, list, map: Len+1 ends; Offsets[0] is 0
	Children []*Builder // struct: its fields; list: the element; map: one struct of key and value

	sparse uint8   // batches in a row that have filled little of the buffers
	absent *absent // what AppendAbsent appends; nil: null
}

// NewBuilder returns an empty builder for an Arrow type that stands for a Delta type.
func NewBuilder(t arrow.DataType) (*Builder, error) {
	kind, width, err := kindOf(t)
	if err != nil {
		return nil, err
	}
	b := &Builder{Type: t, Kind: kind, Width: width}
	var children []arrow.DataType
	switch t := t.(type) {
	case *arrow.StructType:
		for _, f := range t.Fields() {
			children = append(children, f.Type)
		}
	case *arrow.MapType:
		children = append(children, t.Elem())
	case *arrow.ListType:
		children = append(children, t.Elem())
	}
	for _, ct := range children {
		child, err := NewBuilder(ct)
		if err != nil {
			return nil, err
		}
		b.Children = append(b.Children, child)
	}
	b.allocate(minCapacity, minCapacity/4)
	return b, nil
}

// kindOf maps an Arrow type to its kind and fixed width.
func kindOf(t arrow.DataType) (Kind, int, error) {
	switch t := t.(type) {
	case *arrow.BooleanType:
		return KindBool, 0, nil
	case *arrow.Int8Type:
		return KindInt8, 1, nil
	case *arrow.Int16Type:
		return KindInt16, 2, nil
	case *arrow.Int32Type:
		return KindInt32, 4, nil
	case *arrow.Int64Type:
		return KindInt64, 8, nil
	case *arrow.Float32Type:
		return KindFloat32, 4, nil
	case *arrow.Float64Type:
		return KindFloat64, 8, nil
	case *arrow.Decimal128Type:
		return KindDecimal, 16, nil
	case *arrow.Date32Type:
		return KindDate, 4, nil
	case *arrow.StringType:
		return KindString, 0, nil
	case *arrow.BinaryType:
		return KindBinary, 0, nil
	case *arrow.StructType:
		return KindStruct, 0, nil
	case *arrow.MapType: // before ListType: a map is a list of entries in Arrow
		return KindMap, 0, nil
	case *arrow.ListType:
		return KindList, 0, nil
	case *arrow.TimestampType:
		if t.Unit != arrow.Microsecond {
			break
		}
		switch t.TimeZone {
		case "":
			return KindTimestampNTZ, 8, nil
		case "UTC":
			return KindTimestamp, 8, nil
		}
	}
	return 0, 0, fmt.Errorf("type %v is not one of Delta's types", t)
}

// TypeName is the SQL name of a column's type, for errors: an operator writes STRING and BIGINT, not utf8 and int64.
// A struct's fields are left out.
func TypeName(t arrow.DataType) string {
	kind, _, err := kindOf(t)
	if err != nil {
		return fmt.Sprint(t)
	}
	switch t := t.(type) {
	case *arrow.Decimal128Type:
		return fmt.Sprintf("DECIMAL(%d,%d)", t.Precision, t.Scale)
	case *arrow.MapType:
		return "MAP<" + TypeName(t.KeyType()) + ", " + TypeName(t.ItemType()) + ">"
	case *arrow.ListType:
		return "ARRAY<" + TypeName(t.Elem()) + ">"
	}
	return typeNames[kind]
}

var typeNames = map[Kind]string{
	KindBool: "BOOLEAN", KindInt8: "TINYINT", KindInt16: "SMALLINT", KindInt32: "INT", KindInt64: "BIGINT", KindFloat32: "FLOAT",
	KindFloat64: "DOUBLE", KindDate: "DATE", KindTimestamp: "TIMESTAMP", KindTimestampNTZ: "TIMESTAMP_NTZ", KindString: "STRING",
	KindBinary: "BINARY", KindStruct: "STRUCT",
}

// allocate gives the builder new, empty buffers of the wanted capacities.
func (b *Builder) allocate(data, offsets int) {
	b.Len, b.Nulls, b.Valid, b.Data, b.Offsets = 0, 0, nil, nil, nil
	if b.Kind < KindStruct {
		b.Data = make([]byte, 0, data)
	}
	if b.hasOffsets() {
		b.Offsets = append(make([]int32, 0, offsets), 0)
	}
}

func (b *Builder) hasOffsets() bool {
	return b.Kind == KindString || b.Kind == KindBinary || b.Kind == KindList || b.Kind == KindMap
}

// AppendNull appends a null row; below a struct, null fields.
func (b *Builder) AppendNull() {
	b.clearValid(b.Len)
	switch b.Kind {
	case KindBool:
		b.appendBit(false)
	case KindStruct:
		for _, c := range b.Children {
			c.AppendNull()
		}
	case KindString, KindBinary, KindList, KindMap:
		b.Offsets = append(b.Offsets, b.Offsets[b.Len])
	default:
		b.Data = append(b.Data, zeros[:b.Width]...)
	}
	b.Nulls++
	b.Len++
}

// zeros is the value of a null, as wide as the widest type.
var zeros [16]byte

// clearValid marks row i as null, extending the bitmap to it.
func (b *Builder) clearValid(i int) {
	for len(b.Valid) <= i/8 {
		b.Valid = append(b.Valid, 0xff)
	}
	b.Valid[i/8] &^= 1 << (i % 8)
}

// AppendBool appends to a boolean column.
func (b *Builder) AppendBool(v bool) {
	b.appendBit(v)
	b.Len++
}

func (b *Builder) appendBit(v bool) {
	if b.Len%8 == 0 {
		b.Data = append(b.Data, 0)
	}
	if v {
		b.Data[b.Len/8] |= 1 << (b.Len % 8)
	}
}

// AppendInt8 appends to a byte column.
func (b *Builder) AppendInt8(v int8) {
	b.Data = append(b.Data, byte(v))
	b.Len++
}

// AppendInt16 appends to a short column.
func (b *Builder) AppendInt16(v int16) {
	b.Data = binary.LittleEndian.AppendUint16(b.Data, uint16(v))
	b.Len++
}

// AppendInt32 appends to an integer or date column.
func (b *Builder) AppendInt32(v int32) {
	b.Data = binary.LittleEndian.AppendUint32(b.Data, uint32(v))
	b.Len++
}

// AppendInt64 appends to a long, timestamp or timestamp_ntz column.
func (b *Builder) AppendInt64(v int64) {
	b.Data = binary.LittleEndian.AppendUint64(b.Data, uint64(v))
	b.Len++
}

// AppendFloat32 appends to a float column.
func (b *Builder) AppendFloat32(v float32) {
	b.Data = binary.LittleEndian.AppendUint32(b.Data, math.Float32bits(v))
	b.Len++
}

// AppendFloat64 appends to a double column.
func (b *Builder) AppendFloat64(v float64) {
	b.Data = binary.LittleEndian.AppendUint64(b.Data, math.Float64bits(v))
	b.Len++
}

// AppendDecimal appends an unscaled value to a decimal column.
func (b *Builder) AppendDecimal(v decimal128.Num) {
	b.Data = binary.LittleEndian.AppendUint64(b.Data, v.LowBits())
	b.Data = binary.LittleEndian.AppendUint64(b.Data, uint64(v.HighBits()))
	b.Len++
}

// AppendBytes appends to a string or binary column. The caller keeps the column below 2 GiB (Rows.Fits).
func (b *Builder) AppendBytes(v []byte) {
	b.Data = append(b.Data, v...)
	b.Offsets = append(b.Offsets, int32(len(b.Data)))
	b.Len++
}

// AppendString is AppendBytes for a string.
func (b *Builder) AppendString(v string) {
	b.Data = append(b.Data, v...)
	b.Offsets = append(b.Offsets, int32(len(b.Data)))
	b.Len++
}

// EndRow completes the row of a struct, list or map, after a row was appended to each child of a struct, or the
// elements (entries) to the child of a list (map).
func (b *Builder) EndRow() {
	if b.Kind != KindStruct {
		b.Offsets = append(b.Offsets, int32(b.Children[0].Len))
	}
	b.Len++
}

// IsNull tells whether row i is null.
func (b *Builder) IsNull(i int) bool {
	return i/8 < len(b.Valid) && b.Valid[i/8]&(1<<(i%8)) == 0
}

// Truncate drops the rows from n on, incomplete children of a row that has not ended included. n must not be above Len.
func (b *Builder) Truncate(n int) {
	switch {
	case b.Kind == KindStruct:
		for _, c := range b.Children {
			c.Truncate(n)
		}
	case b.Kind == KindList || b.Kind == KindMap:
		b.Children[0].Truncate(int(b.Offsets[n]))
		b.Offsets = b.Offsets[:n+1]
	case b.hasOffsets():
		b.Data = b.Data[:b.Offsets[n]]
		b.Offsets = b.Offsets[:n+1]
	case b.Kind == KindBool:
		b.Data = b.Data[:(n+7)/8]
		if n%8 != 0 {
			b.Data[n/8] &= 1<<(n%8) - 1
		}
	default:
		b.Data = b.Data[:n*b.Width]
	}
	b.Len = n
	if b.Nulls > 0 {
		b.truncateValid(n)
	}
}

// remove takes out those rows from first on, to the end, that gone marks. The rows behind them move up, in their order.
func (b *Builder) remove(first int, gone []bool) {
	to := first
	for i, gone := range gone {
		if gone {
			continue
		}
		if first+i != to {
			b.move(first+i, to)
		}
		to++
	}
	b.Truncate(to)
}

// move puts row i in the place of row to, which comes before it. What was between the two is lost.
func (b *Builder) move(i, to int) {
	switch null := b.IsNull(i); {
	case null == b.IsNull(to):
	case null:
		b.clearValid(to)
		b.Nulls++
	default:
		b.Valid[to/8] |= 1 << (to % 8)
		b.Nulls--
	}
	switch {
	case b.Kind == KindStruct:
		for _, c := range b.Children {
			c.move(i, to)
		}
	case b.hasOffsets():
		from, n, at := b.Offsets[i], b.Offsets[i+1]-b.Offsets[i], b.Offsets[to]
		b.Offsets[to+1] = at + n
		if b.Kind == KindString || b.Kind == KindBinary {
			copy(b.Data[at:], b.Data[from:from+n])
			break
		}
		for k := range int(n) {
			b.Children[0].move(int(from)+k, int(at)+k)
		}
	case b.Kind == KindBool:
		bit := b.Data[i/8] >> (i % 8) & 1
		b.Data[to/8] = b.Data[to/8]&^(1<<(to%8)) | bit<<(to%8)
	default:
		copy(b.Data[to*b.Width:], b.Data[i*b.Width:(i+1)*b.Width])
	}
}

// truncateValid drops the validity bits from row n on and counts the nulls that went with them.
func (b *Builder) truncateValid(n int) {
	full := n / 8
	if full >= len(b.Valid) {
		return
	}
	for _, v := range b.Valid[full+1:] {
		b.Nulls -= 8 - bits.OnesCount8(v)
	}
	last := b.Valid[full] | byte(0xff)<<(n%8)
	b.Nulls -= bits.OnesCount8(last) - bits.OnesCount8(b.Valid[full])
	b.Valid[full] = last
	b.Valid = b.Valid[:full+1]
}

// Bytes is the size of the rows held, children included.
func (b *Builder) Bytes() int {
	n := len(b.Data) + 4*len(b.Offsets) + len(b.Valid)
	for _, c := range b.Children {
		n += c.Bytes()
	}
	return n
}

// maxSparse is how many batches keep buffers that they fill to less than a quarter, if these are larger than keepAlways.
const (
	maxSparse  = 8
	keepAlways = 1 << 20
	maxKept    = 16 << 20 // of a buffer: more is of one very large message
)

// giveBack leaves very large buffers, which one message made, to the batch that was made of them.
func (b *Builder) giveBack() {
	if cap(b.Data) > maxKept {
		b.Data = nil
	}
	if 4*cap(b.Offsets) > maxKept {
		b.Offsets = append(make([]int32, 0, minCapacity/4), 0)
	}
	if cap(b.Valid) > maxKept {
		b.Valid = nil
	}
	for _, c := range b.Children {
		c.giveBack()
	}
}

// reset empties the builder and keeps its memory, unless batches have not needed it for a while.
func (b *Builder) reset() {
	size := cap(b.Data) + 4*cap(b.Offsets) + cap(b.Valid)
	if size > keepAlways && len(b.Data)+4*len(b.Offsets)+len(b.Valid) < size/4 {
		b.sparse++
	} else {
		b.sparse = 0
	}
	if b.sparse == maxSparse {
		b.allocate(minCapacity, minCapacity/4)
		b.sparse = 0
	}
	b.Len, b.Nulls, b.Valid, b.Data = 0, 0, b.Valid[:0], b.Data[:0]
	if b.hasOffsets() {
		b.Offsets = b.Offsets[:1]
	}
	for _, c := range b.Children {
		c.reset()
	}
	if b.absent != nil {
		b.absent.row.reset()
	}
}

// detach leaves the buffers to whoever still reads them and starts on new ones of the same capacity.
func (b *Builder) detach() {
	b.allocate(cap(b.Data), cap(b.Offsets))
	for _, c := range b.Children {
		c.detach()
	}
}

// arrayData wraps the buffers, without a copy, so that l knows when the last reader has released them.
func (b *Builder) arrayData(l *lease) arrow.ArrayData {
	buffers := make([]*memory.Buffer, 1, 3)
	if b.Nulls > 0 {
		for len(b.Valid) < (b.Len+7)/8 {
			b.Valid = append(b.Valid, 0xff)
		}
		buffers[0] = l.wrap(b.Valid)
	}
	if b.hasOffsets() {
		buffers = append(buffers, l.wrap(arrow.Int32Traits.CastToBytes(b.Offsets)))
	}
	if b.Kind < KindStruct {
		buffers = append(buffers, l.wrap(b.Data))
	}
	var children []arrow.ArrayData
	for _, c := range b.Children {
		children = append(children, c.arrayData(l))
	}
	data := array.NewData(b.Type, b.Len, buffers, children, b.Nulls, 0)
	for _, buf := range buffers {
		if buf != nil {
			buf.Release()
		}
	}
	for _, c := range children {
		c.Release()
	}
	return data
}
