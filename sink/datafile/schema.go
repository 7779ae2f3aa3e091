package datafile

import (
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// checkSchema refuses what has no Delta type, so that no reader meets a Parquet type it does not expect.
func checkSchema(schema *arrow.Schema) error {
	if schema.NumFields() == 0 {
		return errors.New("the schema has no columns beside the partition columns: a data file needs at least one")
	}
	for _, f := range schema.Fields() {
		if err := checkType(f.Name, f.Type); err != nil {
			return err
		}
	}
	return nil
}

func checkType(path string, dt arrow.DataType) error {
	switch dt := dt.(type) {
	case *arrow.StringType, *arrow.BinaryType, *arrow.BooleanType, *arrow.Date32Type,
		*arrow.Int8Type, *arrow.Int16Type, *arrow.Int32Type, *arrow.Int64Type, *arrow.Float32Type, *arrow.Float64Type:
		return nil
	case *arrow.Decimal128Type:
		if dt.Precision >= 1 && dt.Precision <= 38 && dt.Scale >= 0 && dt.Scale <= dt.Precision {
			return nil
		}
	case *arrow.TimestampType:
		if dt.Unit == arrow.Microsecond {
			return nil
		}
	case *arrow.StructType:
		for _, f := range dt.Fields() {
			if err := checkType(path+"."+f.Name, f.Type); err != nil {
				return err
			}
		}
		if dt.NumFields() > 0 {
			return nil
		}
	case *arrow.ListType:
		return checkType(path+".element", dt.Elem())
	case *arrow.MapType:
		if dt.KeyField().Nullable {
			return fmt.Errorf("column %s: map keys must not be nullable", path)
		}
		if err := checkType(path+".key", dt.KeyType()); err != nil {
			return err
		}
		return checkType(path+".value", dt.ItemType())
	}
	return fmt.Errorf("column %s: Arrow type %s has no Delta type", path, dt)
}

// checkBatch refuses a batch of another layout: the encoder would take its levels from the one schema and its values from
// the other.
func (f *File) checkBatch(rb arrow.RecordBatch) error {
	schema := rb.Schema()
	if schema == f.schema {
		return nil
	}
	if schema.NumFields() != f.schema.NumFields() {
		return fmt.Errorf("the batch has %d columns, the file %d", schema.NumFields(), f.schema.NumFields())
	}
	for i, have := range schema.Fields() {
		want := f.schema.Field(i)
		if have.Name != want.Name || have.Nullable != want.Nullable || !arrow.TypeEqual(have.Type, want.Type) {
			return fmt.Errorf("column %d of the batch is %s, of the file %s", i, describe(have), describe(want))
		}
	}
	return nil
}

func describe(f arrow.Field) string {
	if f.Nullable {
		return fmt.Sprintf("%s %s", f.Name, f.Type)
	}
	return fmt.Sprintf("%s %s NOT NULL", f.Name, f.Type)
}

// rawBytes is the size of the batch's values without encoding, of the rows in it alone: buffers may be larger.
func rawBytes(rb arrow.RecordBatch) int64 {
	var n int64
	for _, c := range rb.Columns() {
		n += rawArrayBytes(c, 0, c.Len())
	}
	return n
}

func rawArrayBytes(a arrow.Array, from, to int) int64 {
	if from >= to {
		return 0
	}
	switch a := a.(type) {
	case *array.String:
		offsets := a.ValueOffsets()
		return int64(offsets[to]-offsets[from]) + int64(4*(to-from))
	case *array.Binary:
		offsets := a.ValueOffsets()
		return int64(offsets[to]-offsets[from]) + int64(4*(to-from))
	case *array.Struct:
		var n int64
		for i := range a.NumField() {
			n += rawArrayBytes(a.Field(i), from, to)
		}
		return n
	case *array.List:
		first, last := listRange(a.Offsets(), a.Data().Offset(), from, to)
		return int64(4*(to-from)) + rawArrayBytes(a.ListValues(), first, last)
	case *array.Map:
		first, last := listRange(a.Offsets(), a.Data().Offset(), from, to)
		return int64(4*(to-from)) + rawArrayBytes(a.Keys(), first, last) + rawArrayBytes(a.Items(), first, last)
	default:
		if w, ok := a.DataType().(arrow.FixedWidthDataType); ok {
			return int64(to-from) * int64(w.BitWidth()) / 8
		}
		return 0
	}
}

// listRange is the range of elements that rows [from, to) of a list refer to.
func listRange(offsets []int32, offset, from, to int) (first, last int) {
	if len(offsets) == 0 {
		return 0, 0
	}
	return int(offsets[offset+from]), int(offsets[offset+to])
}
