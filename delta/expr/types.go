package expr

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
)

type kind uint8

const (
	kNull kind = iota
	kBool
	kInt8
	kInt16
	kInt32
	kInt64
	kDecimal
	kFloat
	kDouble
	kString
	kBinary
	kDate
	kNTZ
	kTimestamp
	kNested // struct, array or map: only size() and IS NULL take them
)

// typ is a type of Spark SQL.
type typ struct {
	k    kind
	p, s int32 // precision and scale of a decimal
}

const maxPrecision = 38

var kindNames = [...]string{"VOID", "BOOLEAN", "TINYINT", "SMALLINT", "INT", "BIGINT", "DECIMAL", "FLOAT", "DOUBLE", "STRING", "BINARY",
	"DATE", "TIMESTAMP_NTZ", "TIMESTAMP", "STRUCT, ARRAY or MAP"}

func (t typ) String() string {
	if t.k == kDecimal {
		return fmt.Sprintf("DECIMAL(%d,%d)", t.p, t.s)
	}
	return kindNames[t.k]
}

func (t typ) integral() bool { return t.k >= kInt8 && t.k <= kInt64 }
func (t typ) floating() bool { return t.k == kFloat || t.k == kDouble }
func (t typ) numeric() bool  { return t.k >= kInt8 && t.k <= kDouble }
func (t typ) instant() bool  { return t.k >= kDate && t.k <= kTimestamp }

// storedInt tells whether values are int64: whole numbers, days and microseconds.
func (t typ) storedInt() bool { return t.integral() || t.instant() }

// typeOf maps Arrow's types to Spark's; false for one that is neither.
func typeOf(t arrow.DataType) (typ, bool) {
	switch t := t.(type) {
	case *arrow.BooleanType:
		return typ{k: kBool}, true
	case *arrow.Int8Type:
		return typ{k: kInt8}, true
	case *arrow.Int16Type:
		return typ{k: kInt16}, true
	case *arrow.Int32Type:
		return typ{k: kInt32}, true
	case *arrow.Int64Type:
		return typ{k: kInt64}, true
	case *arrow.Float32Type:
		return typ{k: kFloat}, true
	case *arrow.Float64Type:
		return typ{k: kDouble}, true
	case *arrow.Decimal128Type:
		return typ{kDecimal, t.Precision, t.Scale}, true
	case *arrow.StringType:
		return typ{k: kString}, true
	case *arrow.BinaryType:
		return typ{k: kBinary}, true
	case *arrow.Date32Type:
		return typ{k: kDate}, true
	case *arrow.TimestampType:
		if t.Unit == arrow.Microsecond && t.TimeZone == "" {
			return typ{k: kNTZ}, true
		}
		return typ{k: kTimestamp}, t.Unit == arrow.Microsecond
	case *arrow.StructType, *arrow.ListType, *arrow.MapType:
		return typ{k: kNested}, true
	}
	return typ{}, false
}

// arrow is Arrow's type for one that a column can have.
func (t typ) arrow() arrow.DataType {
	switch t.k {
	case kDecimal:
		return &arrow.Decimal128Type{Precision: t.p, Scale: t.s}
	case kNTZ:
		return &arrow.TimestampType{Unit: arrow.Microsecond}
	case kTimestamp:
		return arrow.FixedWidthTypes.Timestamp_us
	default:
		return plainTypes[t.k]
	}
}

var plainTypes = map[kind]arrow.DataType{
	kBool: arrow.FixedWidthTypes.Boolean, kInt8: arrow.PrimitiveTypes.Int8, kInt16: arrow.PrimitiveTypes.Int16, kInt32: arrow.PrimitiveTypes.Int32,
	kInt64: arrow.PrimitiveTypes.Int64, kFloat: arrow.PrimitiveTypes.Float32, kDouble: arrow.PrimitiveTypes.Float64,
	kString: arrow.BinaryTypes.String, kBinary: arrow.BinaryTypes.Binary, kDate: arrow.FixedWidthTypes.Date32,
}

// asDecimal is the decimal that holds every value of a whole number's type (DecimalType.forType).
func (t typ) asDecimal() typ {
	if !t.integral() {
		return t
	}
	return typ{kDecimal, [...]int32{3, 5, 10, 20}[t.k-kInt8], 0}
}

// wider is the type to which both sides of an operator are brought (AnsiTypeCoercion.findWiderTypeForTwo).
func wider(a, b typ) (typ, bool) {
	switch {
	case a == b || b.k == kNull:
		return a, a.k != kNested
	case a.k == kNull:
		return b, b.k != kNested
	case a.numeric() && b.numeric():
		return widerNumber(a, b), true
	case a.instant() && b.instant(): // DATE, then TIMESTAMP_NTZ, then TIMESTAMP
		return typ{k: max(a.k, b.k)}, true
	case b.k == kString && a.k != kNested:
		a, b = b, a
	}
	if a.k != kString || b.k == kNested {
		return typ{}, false
	}
	switch {
	case b.integral():
		return typ{k: kInt64}, true
	case b.numeric():
		return typ{k: kDouble}, true
	}
	return b, true
}

func widerNumber(a, b typ) typ {
	switch {
	case a.k == kDecimal && b.floating() || a.floating() && b.k == kDecimal:
		return typ{k: kDouble}
	case a.k == kDecimal || b.k == kDecimal:
		a, b = a.asDecimal(), b.asDecimal()
		scale, whole := max(a.s, b.s), max(a.p-a.s, b.p-b.s)
		if whole+scale > maxPrecision { // whole digits first (DecimalType.boundedPreferIntegralDigits)
			scale = max(0, maxPrecision-whole)
		}
		return typ{kDecimal, min(whole+scale, maxPrecision), scale}
	case a.k != b.k && (a.floating() || b.floating()): // a FLOAT would not hold every whole number
		return typ{k: kDouble}
	}
	return typ{k: max(a.k, b.k)}
}

// widest folds wider over many (AnsiTypeCoercion.findWiderCommonType: strings last).
func widest(types []typ) (typ, bool) {
	var out typ
	for _, strings := range []bool{false, true} {
		for _, t := range types {
			if (t.k == kString) != strings {
				continue
			}
			var ok bool
			if out, ok = wider(out, t); !ok {
				return typ{}, false
			}
		}
	}
	return out, true
}

// arithmetic is the type of a decimal operation's result (Spark's DecimalPrecision), before rounding to 38 digits.
func arithmetic(op string, a, b typ) typ {
	var p, s int32
	switch op {
	case "+", "-":
		s = max(a.s, b.s)
		p = max(a.p-a.s, b.p-b.s) + s + 1
	case "*":
		p, s = a.p+b.p+1, a.s+b.s
	case "/":
		s = max(6, a.s+b.p+1)
		p = a.p - a.s + b.s + s
	default: // %
		s = max(a.s, b.s)
		p = min(a.p-a.s, b.p-b.s) + s
	}
	if p > maxPrecision { // DecimalType.adjustPrecisionScale
		whole := p - s
		s = max(maxPrecision-whole, min(s, 6))
		p = maxPrecision
	}
	return typ{kDecimal, p, s}
}
