package datafile

import "github.com/apache/arrow-go/v18/arrow"

// countElements is how many elements the schema has in the footer: a group or a column each, and the root.
func countElements(sc *arrow.Schema) int {
	n := 1
	for _, f := range sc.Fields() {
		n += countField(f.Type)
	}
	return n
}

func countField(dt arrow.DataType) int {
	n := 1
	switch dt := dt.(type) {
	case *arrow.StructType:
		for _, f := range dt.Fields() {
			n += countField(f.Type)
		}
	case *arrow.ListType:
		n += 1 + countField(dt.Elem())
	case *arrow.MapType:
		n += 1 + countField(dt.KeyType()) + countField(dt.ItemType())
	}
	return n
}

// appendSchema writes the schema's elements, depth first (parquet.thrift, SchemaElement).
func appendSchema(t *thrift, sc *arrow.Schema) {
	t.begin()
	t.text(4, "schema")
	t.i32(5, int32(sc.NumFields()))
	t.end()
	for _, f := range sc.Fields() {
		appendField(t, f, f.Name)
	}
}

// The converted types, for readers older than logical types.
const (
	convertedUTF8            = 0
	convertedMap             = 1
	convertedList            = 3
	convertedDecimal         = 5
	convertedDate            = 6
	convertedTimestampMicros = 10
	convertedInt8            = 15 // and 16, 32 and 64 bits behind it
)

// The members of the union LogicalType.
const (
	logicalString    = 1
	logicalMap       = 2
	logicalList      = 3
	logicalDecimal   = 5
	logicalDate      = 6
	logicalTimestamp = 8
	logicalInteger   = 10
)

func appendField(t *thrift, f arrow.Field, name string) {
	switch dt := f.Type.(type) {
	case *arrow.StructType:
		appendGroup(t, f, name, dt.NumFields(), -1, 0)
		for _, child := range dt.Fields() {
			appendField(t, child, child.Name)
		}
	case *arrow.ListType:
		appendGroup(t, f, name, 1, convertedList, logicalList)
		appendRepeated(t, "list", 1)
		appendField(t, dt.ElemField(), "element")
	case *arrow.MapType:
		appendGroup(t, f, name, 1, convertedMap, logicalMap)
		appendRepeated(t, "key_value", 2)
		appendField(t, dt.KeyField(), "key")
		appendField(t, dt.ItemField(), "value")
	default:
		appendPrimitive(t, f, name)
	}
}

func repetition(f arrow.Field) int32 {
	if f.Nullable {
		return optional
	}
	return required
}

// appendGroup writes a group; converted is -1 where it has no logical type.
func appendGroup(t *thrift, f arrow.Field, name string, children int, converted int32, logical int16) {
	t.begin()
	t.i32(3, repetition(f))
	t.text(4, name)
	t.i32(5, int32(children))
	if converted >= 0 {
		t.i32(6, converted)
	}
	if id, ok := fieldID(f); ok {
		t.i32(9, id)
	}
	if converted >= 0 {
		t.structure(10)
		t.empty(logical)
		t.end()
	}
	t.end()
}

func appendRepeated(t *thrift, name string, children int32) {
	t.begin()
	t.i32(3, repeated)
	t.text(4, name)
	t.i32(5, children)
	t.end()
}

func appendPrimitive(t *thrift, f arrow.Field, name string) {
	decimal, isDecimal := f.Type.(*arrow.Decimal128Type)
	t.begin()
	t.i32(1, physicalType(f.Type))
	if isDecimal && physicalType(f.Type) == physicalFixed {
		t.i32(2, int32(decimalBytes(decimal.Precision)))
	}
	t.i32(3, repetition(f))
	t.text(4, name)
	if converted := convertedType(f.Type); converted >= 0 {
		t.i32(6, converted)
	}
	if isDecimal {
		t.i32(7, decimal.Scale)
		t.i32(8, decimal.Precision)
	}
	if id, ok := fieldID(f); ok {
		t.i32(9, id)
	}
	appendLogicalType(t, f.Type)
	t.end()
}

func convertedType(dt arrow.DataType) int32 {
	switch dt := dt.(type) {
	case *arrow.StringType:
		return convertedUTF8
	case *arrow.Decimal128Type:
		return convertedDecimal
	case *arrow.Date32Type:
		return convertedDate
	case *arrow.TimestampType:
		if dt.TimeZone != "" { // it has always meant UTC
			return convertedTimestampMicros
		}
	case *arrow.Int8Type, *arrow.Int16Type, *arrow.Int32Type, *arrow.Int64Type:
		width := int32(0)
		for bits := dt.(arrow.FixedWidthDataType).BitWidth(); bits > 8; bits /= 2 {
			width++
		}
		return convertedInt8 + width
	}
	return -1
}

func appendLogicalType(t *thrift, dt arrow.DataType) {
	union := func(member int16, fields func()) {
		t.structure(10)
		t.structure(member)
		fields()
		t.end()
		t.end()
	}
	switch dt := dt.(type) {
	case *arrow.StringType:
		union(logicalString, func() {})
	case *arrow.Date32Type:
		union(logicalDate, func() {})
	case *arrow.Decimal128Type:
		union(logicalDecimal, func() {
			t.i32(1, dt.Scale)
			t.i32(2, dt.Precision)
		})
	case *arrow.TimestampType:
		union(logicalTimestamp, func() {
			t.boolean(1, dt.TimeZone != "")
			t.structure(2)
			t.empty(2) // microseconds
			t.end()
		})
	case *arrow.Int8Type, *arrow.Int16Type, *arrow.Int32Type, *arrow.Int64Type:
		union(logicalInteger, func() {
			t.i8(1, int8(dt.(arrow.FixedWidthDataType).BitWidth()))
			t.boolean(2, true)
		})
	}
}
