package delta

import (
	"bytes"
	"encoding/json"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// appendStats parses the statistics of one file into a row of add.stats_parsed (PROTOCOL.md, "Per-file Statistics"). What
// does not fit its column's type is left out, which only makes statistics weaker; without any the row is null.
func appendStats(b *array.StructBuilder, stats string) {
	d := json.NewDecoder(strings.NewReader(stats))
	d.UseNumber()
	var parsed map[string]any
	if stats == "" || d.Decode(&parsed) != nil || parsed == nil {
		b.AppendNull()
		return
	}
	appendStatsStruct(b, parsed)
}

func appendStatsStruct(b *array.StructBuilder, values map[string]any) {
	b.Append(true)
	for i, f := range b.Type().(*arrow.StructType).Fields() {
		switch v := values[f.Name].(type) {
		case map[string]any:
			if child, ok := b.FieldBuilder(i).(*array.StructBuilder); ok {
				appendStatsStruct(child, v)
				continue
			}
			b.FieldBuilder(i).AppendNull()
		case string:
			appendText(b.FieldBuilder(i), v)
		case json.Number:
			appendText(b.FieldBuilder(i), v.String())
		case bool:
			appendText(b.FieldBuilder(i), strconv.FormatBool(v))
		default:
			b.FieldBuilder(i).AppendNull()
		}
	}
}

// appendPartitions parses partition values into a row of add.partitionValues_parsed (PROTOCOL.md, "Partition Value
// Serialization": the empty text is null).
func appendPartitions(b *array.StructBuilder, values map[string]*string) {
	b.Append(true)
	for i, f := range b.Type().(*arrow.StructType).Fields() {
		if v := values[f.Name]; v != nil && *v != "" {
			appendText(b.FieldBuilder(i), *v)
		} else {
			b.FieldBuilder(i).AppendNull()
		}
	}
}

// appendText parses a value as statistics and partition values spell it; null when it is none of the builder's type.
func appendText(b array.Builder, v string) {
	switch b := b.(type) {
	case *array.StringBuilder:
		b.Append(v)
	case *array.BinaryBuilder:
		b.Append([]byte(v))
	case *array.BooleanBuilder:
		appendIf(b.Append, b, strings.EqualFold(v, "true"), strings.EqualFold(v, "true") || strings.EqualFold(v, "false"))
	case *array.Int64Builder:
		n, ok := wholeNumber(v, 64)
		appendIf(b.Append, b, n, ok)
	case *array.Int32Builder:
		n, ok := wholeNumber(v, 32)
		appendIf(b.Append, b, int32(n), ok)
	case *array.Int16Builder:
		n, ok := wholeNumber(v, 16)
		appendIf(b.Append, b, int16(n), ok)
	case *array.Int8Builder:
		n, ok := wholeNumber(v, 8)
		appendIf(b.Append, b, int8(n), ok)
	case *array.Float64Builder:
		n, err := strconv.ParseFloat(v, 64)
		appendIf(b.Append, b, n, err == nil)
	case *array.Float32Builder:
		n, err := strconv.ParseFloat(v, 32)
		appendIf(b.Append, b, float32(n), err == nil)
	case *array.Decimal128Builder:
		t := b.Type().(*arrow.Decimal128Type)
		n, ok := parseDecimal(v, t.Scale)
		appendIf(b.Append, b, n, ok && n.FitsInPrecision(t.Precision))
	case *array.Date32Builder:
		t, err := time.Parse("2006-01-02", v)
		appendIf(b.Append, b, arrow.Date32FromTime(t), err == nil)
	case *array.TimestampBuilder:
		t, ok := instant(v)
		appendIf(b.Append, b, arrow.Timestamp(t.UnixMicro()), ok)
	default:
		b.AppendNull()
	}
}

func appendIf[T any](add func(T), b array.Builder, v T, ok bool) {
	if ok {
		add(v)
	} else {
		b.AppendNull()
	}
}

// wholeNumber also takes what some writers spell with a fraction of zero.
func wholeNumber(v string, bits int) (int64, bool) {
	n, err := strconv.ParseInt(v, 10, bits)
	if err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) >= math.Ldexp(1, min(bits, 54)-1) {
		return 0, false
	}
	return int64(f), true
}

// parseDecimal takes a decimal or scientific notation that the scale can hold exactly.
func parseDecimal(v string, scale int32) (decimal128.Num, bool) {
	if _, exponent, ok := strings.Cut(strings.ToLower(v), "e"); ok {
		if e, err := strconv.Atoi(exponent); err != nil || e < -100 || e > 100 {
			return decimal128.Num{}, false
		}
	}
	if len(v) > 200 || strings.ContainsAny(v, "/xXbBoOpP_") {
		return decimal128.Num{}, false
	}
	r, ok := new(big.Rat).SetString(v)
	if !ok {
		return decimal128.Num{}, false
	}
	r.Mul(r, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)))
	if !r.IsInt() || r.Num().BitLen() > 127 {
		return decimal128.Num{}, false
	}
	return decimal128.FromBigInt(r.Num()), true
}

// instant reads a timestamp as writers spell it: ISO 8601 with or without a zone, or with a space. Without a zone it is
// taken as UTC.
func instant(v string) (time.Time, bool) {
	for _, layout := range []string{"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04Z07:00", "2006-01-02"} {
		if t, err := time.Parse(layout, v); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// statsText spells a row of add.stats_parsed as statistics JSON: for log checkpoints of others that keep no other form.
func statsText(parsed *array.Struct, row int) string {
	if parsed == nil || parsed.IsNull(row) {
		return ""
	}
	var b bytes.Buffer
	if !statsObject(&b, parsed, row) {
		return ""
	}
	return b.String()
}

// statsObject writes the fields that are not null; false when there are none, and then nothing is written.
func statsObject(b *bytes.Buffer, s *array.Struct, row int) bool {
	start := b.Len()
	for i, f := range s.DataType().(*arrow.StructType).Fields() {
		child := s.Field(i)
		if child.IsNull(row) {
			continue
		}
		before := b.Len()
		b.WriteByte(map[bool]byte{true: '{', false: ','}[before == start])
		name, _ := marshal(f.Name)
		b.Write(name)
		b.WriteByte(':')
		if !statsValue(b, child, row) {
			b.Truncate(before)
		}
	}
	if b.Len() == start {
		return false
	}
	b.WriteByte('}')
	return true
}

func statsValue(b *bytes.Buffer, a arrow.Array, row int) bool {
	quoted := func(v string) bool {
		text, err := marshal(v)
		b.Write(text)
		return err == nil
	}
	switch a := a.(type) {
	case *array.Struct:
		return statsObject(b, a, row)
	case *array.Timestamp:
		layout := "2006-01-02T15:04:05.000Z"
		t := a.DataType().(*arrow.TimestampType)
		if t.TimeZone == "" {
			layout = "2006-01-02T15:04:05.000"
		}
		return quoted(a.Value(row).ToTime(t.Unit).UTC().Format(layout))
	case *array.Float64:
		return statsFloat(b, a.Value(row))
	case *array.Float32:
		if v := float64(a.Value(row)); math.IsNaN(v) || math.IsInf(v, 0) {
			return statsFloat(b, v)
		}
		b.WriteString(strconv.FormatFloat(float64(a.Value(row)), 'g', -1, 32))
	case *array.Int64, *array.Int32, *array.Int16, *array.Int8, *array.Boolean:
		b.WriteString(a.ValueStr(row))
	case *array.Decimal128:
		b.WriteString(decimalString(a.Value(row), a.DataType().(*arrow.Decimal128Type).Scale))
	case *array.String, *array.LargeString, *array.StringView, *array.Date32:
		return quoted(a.ValueStr(row))
	default:
		return false
	}
	return true
}

func statsFloat(b *bytes.Buffer, v float64) bool {
	switch {
	case math.IsNaN(v):
		b.WriteString(`"NaN"`)
	case math.IsInf(v, 1):
		b.WriteString(`"Infinity"`)
	case math.IsInf(v, -1):
		b.WriteString(`"-Infinity"`)
	default:
		b.WriteString(strconv.FormatFloat(v, 'g', -1, 64))
	}
	return true
}
