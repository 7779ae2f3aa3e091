package datafile

import (
	"encoding/binary"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// needsRepair says whether a type holds a decimal stored as bytes below a struct. arrow-go v18.8.0 writes such a column
// shifted when a struct is null while the decimal array itself has no nulls, which Arrow allows: it then takes the values
// one after the other (writeDenseArrow, Decimal128Type with NullN 0) and so the value of the null struct for that of the
// next row.
func needsRepair(dt arrow.DataType, inStruct bool) bool {
	switch dt := dt.(type) {
	case *arrow.Decimal128Type:
		return inStruct && dt.Precision > maxIntegerPrecision
	case *arrow.StructType:
		for _, f := range dt.Fields() {
			if needsRepair(f.Type, true) {
				return true
			}
		}
	case *arrow.ListType:
		return needsRepair(dt.Elem(), false)
	case *arrow.MapType:
		return needsRepair(dt.KeyType(), false) || needsRepair(dt.ItemType(), false)
	}
	return false
}

// repair gives a column in which each decimal below a null struct is null itself. It copies no values.
func repair(column arrow.Array) arrow.Array {
	data := repairData(column.Data(), nil)
	defer data.Release()
	return array.MakeFromData(data)
}

// repairData returns data that the caller releases. parent says which rows exist, nil that all do.
func repairData(d arrow.ArrayData, parent []uint64) arrow.ArrayData {
	valid := parent
	if bitmap := d.Buffers()[0]; bitmap != nil && d.NullN() != 0 {
		valid = make([]uint64, (d.Len()+63)/64)
		loadBits(valid, bitmap.Bytes(), d.Offset(), d.Len())
		for i := range parent {
			valid[i] &= parent[i]
		}
	}
	switch dt := d.DataType().(type) {
	case *arrow.Decimal128Type:
		if parent == nil || dt.Precision <= maxIntegerPrecision {
			break
		}
		from := d.Offset() * arrow.Decimal128SizeBytes
		values := memory.SliceBuffer(d.Buffers()[1], from, d.Len()*arrow.Decimal128SizeBytes)
		defer values.Release()
		return array.NewData(dt, d.Len(), []*memory.Buffer{bitmapOf(valid), values}, nil, d.Len()-popcount(valid), 0)
	case *arrow.StructType:
		children := make([]arrow.ArrayData, len(d.Children()))
		for i, c := range d.Children() {
			part := array.NewSliceData(c, int64(d.Offset()), int64(d.Offset()+d.Len()))
			children[i] = repairData(part, valid)
			part.Release()
			defer children[i].Release()
		}
		if valid == nil {
			return array.NewData(dt, d.Len(), []*memory.Buffer{nil}, children, 0, 0)
		}
		return array.NewData(dt, d.Len(), []*memory.Buffer{bitmapOf(valid)}, children, d.Len()-popcount(valid), 0)
	case *arrow.ListType, *arrow.MapType:
		child := repairData(d.Children()[0], nil)
		defer child.Release()
		return array.NewData(dt, d.Len(), d.Buffers(), []arrow.ArrayData{child}, d.NullN(), d.Offset())
	}
	d.Retain()
	return d
}

func bitmapOf(words []uint64) *memory.Buffer {
	bitmap := make([]byte, 0, 8*len(words))
	for _, w := range words {
		bitmap = binary.LittleEndian.AppendUint64(bitmap, w)
	}
	return memory.NewBufferBytes(bitmap)
}
