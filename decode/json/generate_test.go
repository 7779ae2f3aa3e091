package json

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
)

// generator makes random schemas, and messages that mostly fit them.
type generator struct{ *rand.Rand }

func newGenerator(seed uint64) generator { return generator{rand.New(rand.NewPCG(seed, 1))} }

var leafTypes = []arrow.DataType{
	arrow.BinaryTypes.String, arrow.FixedWidthTypes.Boolean, arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Int16,
	arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64,
	&arrow.Decimal128Type{Precision: 38, Scale: 10}, &arrow.Decimal128Type{Precision: 5, Scale: 2},
	arrow.BinaryTypes.Binary, arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Timestamp_us,
	&arrow.TimestampType{Unit: arrow.Microsecond},
}

var fieldNames = []string{"a", "b", "id", "url", "session_id", "a rather long name of a field", "ключ", `q"uote`, `back\slash`, "", "x.y", "\u2028", "a\nb"}

func (g generator) fields(levels int) []arrow.Field {
	names := g.Perm(len(fieldNames))[:1+g.IntN(7)]
	fields := make([]arrow.Field, len(names))
	for i, n := range names {
		fields[i] = arrow.Field{Name: fieldNames[n], Type: g.dataType(levels), Nullable: g.IntN(4) > 0}
	}
	return fields
}

func (g generator) dataType(levels int) arrow.DataType {
	if levels == 0 || g.IntN(3) > 0 {
		return leafTypes[g.IntN(len(leafTypes))]
	}
	switch g.IntN(4) {
	case 0:
		return arrow.ListOf(g.dataType(levels - 1))
	case 1:
		key := arrow.DataType(arrow.BinaryTypes.String)
		if g.IntN(3) == 0 {
			key = arrow.PrimitiveTypes.Int64
		}
		return arrow.MapOf(key, g.dataType(levels-1))
	}
	return arrow.StructOf(g.fields(levels - 1)...)
}

// object writes a message's object; unlikely says how rarely a value does not fit.
func (g generator) object(fields []arrow.Field, unlikely int) string {
	var parts []string
	for _, f := range fields {
		if g.IntN(8) == 0 {
			continue
		}
		parts = append(parts, g.member(f.Name, g.value(f.Type, unlikely)))
		if g.IntN(12) == 0 {
			parts = append(parts, g.member(f.Name, g.value(f.Type, unlikely)))
		}
	}
	for g.IntN(3) == 0 {
		parts = append(parts, g.member("unknown"+strconv.Itoa(g.IntN(100)), g.any(3)))
	}
	if g.IntN(2) == 0 {
		g.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	}
	return g.space() + "{" + strings.Join(parts, ","+g.space()) + g.space() + "}"
}

func (g generator) member(name, value string) string {
	return g.text(name) + g.space() + ":" + g.space() + value
}

func (g generator) space() string {
	if g.IntN(4) > 0 {
		return ""
	}
	return []string{" ", "\n", "\t ", "\r\n"}[g.IntN(4)]
}

// text writes a string with or without escapes.
func (g generator) text(s string) string {
	if g.IntN(8) == 0 {
		var b strings.Builder
		b.WriteByte('"')
		for _, r := range s {
			if r > 0xffff {
				b.WriteRune(r)
				continue
			}
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		return b.String() + `"`
	}
	quoted, _ := json.Marshal(s)
	return string(quoted)
}

var texts = []string{"", "a", "GET", "http://www.example.com/abcabc", "größer als", "日本語のテキスト", "\U0001f600", "tab\tnewline\n\"quoted\\", "\x00",
	"2021-03-24", "2021-03-24T15:06:17.321710+00:00", "0123456789012345678901234567890123456789", "NaN", "12.50", "aGVsbG8="}

func (g generator) string() string {
	if g.IntN(10) == 0 {
		return strings.Repeat(texts[g.IntN(len(texts))], g.IntN(50))
	}
	return texts[g.IntN(len(texts))]
}

func (g generator) number() string {
	switch g.IntN(7) {
	case 0:
		return strconv.FormatUint(g.Uint64(), 10)
	case 1:
		return strconv.FormatInt(int64(g.Uint64())>>g.IntN(64), 10)
	case 2:
		return strconv.FormatFloat(g.NormFloat64()*1e3, 'f', g.IntN(12), 64)
	case 3:
		return strconv.FormatFloat(g.NormFloat64(), 'e', g.IntN(18), 64)
	case 4:
		return strconv.Itoa(g.IntN(300)) + "e" + strconv.Itoa(g.IntN(30)-10)
	case 5:
		return strconv.Itoa(g.IntN(100)) + ".000"
	}
	return strconv.Itoa(g.IntN(200) - 100)
}

func (g generator) any(levels int) string {
	switch n := g.IntN(8); {
	case n == 0:
		return "null"
	case n == 1:
		return "true"
	case n <= 3:
		return g.number()
	case n <= 5 || levels == 0:
		return g.text(g.string())
	case n == 6:
		var parts []string
		for range g.IntN(4) {
			parts = append(parts, g.any(levels-1))
		}
		return "[" + g.space() + strings.Join(parts, g.space()+",") + "]"
	}
	var parts []string
	for range g.IntN(4) {
		parts = append(parts, g.member(g.string(), g.any(levels-1)))
	}
	return "{" + g.space() + strings.Join(parts, ",") + "}"
}

func (g generator) value(t arrow.DataType, unlikely int) string {
	if g.IntN(unlikely) == 0 {
		return g.any(2)
	}
	if g.IntN(10) == 0 {
		return "null"
	}
	switch t := t.(type) {
	case *arrow.StringType:
		return g.text(g.string())
	case *arrow.BooleanType:
		return strconv.FormatBool(g.IntN(2) == 0)
	case *arrow.Int8Type, *arrow.Int16Type, *arrow.Int32Type, *arrow.Int64Type:
		if g.IntN(10) == 0 {
			return strconv.Itoa(g.IntN(12)) + ".0e1"
		}
		width := t.(arrow.FixedWidthDataType).BitWidth()
		return strconv.FormatInt(int64(g.Uint64())>>(64-width+g.IntN(width)), 10)
	case *arrow.Float32Type, *arrow.Float64Type:
		return g.number()
	case *arrow.Decimal128Type:
		s := strconv.FormatFloat(g.Float64()*999, 'f', g.IntN(int(t.Scale)+1), 64)
		if g.IntN(2) == 0 {
			return `"` + s + `"`
		}
		return s
	case *arrow.BinaryType:
		return []string{`""`, `"aGVsbG8="`, `"AA=="`, `"\u0041AAA"`}[g.IntN(4)]
	case *arrow.Date32Type:
		return []string{`"2021-03-24"`, `"1969-12-31T23:59:59-01:00"`, "18710", "-1"}[g.IntN(4)]
	case *arrow.TimestampType:
		zones := []string{"", "Z", "+01:00", "-0330", "+05"}
		if t.TimeZone == "" {
			zones = zones[:1]
		}
		switch g.IntN(3) {
		case 0:
			return strconv.FormatInt(g.Int64N(4e12)-2e12, 10)
		case 1:
			return strconv.FormatFloat(g.Float64()*4e12-2e12, 'f', g.IntN(9), 64)
		}
		fraction := ""
		if n := g.IntN(10); n > 0 {
			fraction = "." + fmt.Sprintf("%09d", g.IntN(1e9))[:n]
		}
		return fmt.Sprintf(`"%04d-%02d-%02dT%02d:%02d:%02d%s%s"`, 1+g.IntN(9998), 1+g.IntN(12), 1+g.IntN(28), g.IntN(24), g.IntN(60), g.IntN(60),
			fraction, zones[g.IntN(len(zones))])
	case *arrow.StructType:
		return g.object(t.Fields(), unlikely)
	case *arrow.MapType:
		var parts []string
		for range g.IntN(5) {
			k := g.string()
			if t.KeyType().ID() == arrow.INT64 {
				k = strconv.Itoa(g.IntN(6))
			}
			parts = append(parts, g.member(k, g.value(t.ItemType(), unlikely)))
		}
		if g.IntN(10) == 0 {
			for i := range g.IntN(40) {
				parts = append(parts, g.member(strconv.Itoa(i%30), g.value(t.ItemType(), unlikely)))
			}
		}
		return "{" + strings.Join(parts, ",") + "}"
	case *arrow.ListType:
		var parts []string
		for range g.IntN(5) {
			parts = append(parts, g.value(t.Elem(), unlikely))
		}
		return "[" + g.space() + strings.Join(parts, ",") + g.space() + "]"
	}
	panic(t)
}
