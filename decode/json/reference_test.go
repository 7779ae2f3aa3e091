package json

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// The reference: what a message must become, by encoding/json, math/big and time, without any of our own parsing.
// Both sides are rendered as text and compared.

var errReference = errors.New("poison by the reference")

// referenceRow renders what a message must become under the schema, or an error when it must be poison.
func referenceRow(fields []arrow.Field, message []byte) (string, error) {
	if !json.Valid(message) || !utf8.Valid(message) || depth(message) > maxDepth {
		return "", errReference
	}
	message = bytes.Trim(message, " \t\r\n")
	if message[0] != '{' {
		return "", errReference
	}
	return referenceStruct(fields, message)
}

// depth counts the containers that are open at once in valid JSON.
func depth(message []byte) (deepest int) {
	open, inString := 0, false
	for i := 0; i < len(message); i++ {
		switch c := message[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			open++
			deepest = max(deepest, open)
		case c == '}' || c == ']':
			open--
		}
	}
	return deepest
}

func referenceStruct(fields []arrow.Field, raw []byte) (string, error) {
	values := map[string]string{}
	err := members(raw, func(key string, value json.RawMessage) error {
		for _, f := range fields {
			if f.Name == key {
				text, err := reference(f.Type, value)
				values[key] = text
				return err
			}
		}
		return nil
	})
	parts := make([]string, len(fields))
	for i, f := range fields {
		text, ok := values[f.Name]
		if !ok {
			text = "null"
		}
		parts[i] = f.Name + ":" + text
	}
	return "{" + strings.Join(parts, ",") + "}", err
}

// members calls f for each member of an object. A value that a later one replaces is decoded too: it must fit.
func members(raw []byte, f func(key string, value json.RawMessage) error) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil {
		return err
	}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return err
		}
		if err := f(token.(string), value); err != nil {
			return err
		}
	}
	return nil
}

func reference(t arrow.DataType, raw []byte) (string, error) {
	if string(raw) == "null" {
		return "null", nil
	}
	var text string
	isText := raw[0] == '"'
	if isText {
		if err := json.Unmarshal(raw, &text); err != nil {
			return "", err
		}
	}
	isNumber := raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9'
	switch t := t.(type) {
	case *arrow.StringType:
		if isText {
			return strconv.Quote(text), nil
		}
		return strconv.Quote(string(raw)), nil
	case *arrow.BooleanType:
		if isText || isNumber || raw[0] == '{' || raw[0] == '[' {
			return "", errReference
		}
		return string(raw), nil
	case *arrow.Int8Type, *arrow.Int16Type, *arrow.Int32Type, *arrow.Int64Type:
		if !isNumber {
			return "", errReference
		}
		return referenceInteger(string(raw), t.(arrow.FixedWidthDataType).BitWidth())
	case *arrow.Float32Type:
		return referenceFloat(string(raw), text, isNumber, isText, 32)
	case *arrow.Float64Type:
		return referenceFloat(string(raw), text, isNumber, isText, 64)
	case *arrow.Decimal128Type:
		if isNumber {
			text = string(raw)
		} else if !isText {
			return "", errReference
		}
		return referenceDecimal(text, int(t.Precision), int(t.Scale))
	case *arrow.BinaryType:
		data, err := base64.StdEncoding.DecodeString(text)
		if !isText || err != nil {
			return "", errReference
		}
		return fmt.Sprintf("%x", data), nil
	case *arrow.Date32Type, *arrow.TimestampType:
		return referenceTime(t, string(raw), text, isNumber, isText)
	case *arrow.StructType:
		if raw[0] != '{' {
			return "", errReference
		}
		return referenceStruct(t.Fields(), raw)
	case *arrow.MapType:
		if raw[0] != '{' {
			return "", errReference
		}
		return referenceMap(t, raw)
	case *arrow.ListType:
		if raw[0] != '[' {
			return "", errReference
		}
		var elements []json.RawMessage
		if err := json.Unmarshal(raw, &elements); err != nil {
			return "", err
		}
		parts := make([]string, len(elements))
		for i, e := range elements {
			var err error
			if parts[i], err = reference(t.Elem(), e); err != nil {
				return "", err
			}
		}
		return "[" + strings.Join(parts, ",") + "]", nil
	}
	panic(t)
}

// referenceMap knows string and long keys, which is what the generator makes.
func referenceMap(t *arrow.MapType, raw []byte) (string, error) {
	entries := map[string]string{}
	err := members(raw, func(text string, value json.RawMessage) (err error) {
		k := strconv.Quote(text)
		if t.KeyType().ID() == arrow.INT64 {
			if !json.Valid([]byte(text)) || text[0] != '-' && (text[0] < '0' || text[0] > '9') || strings.TrimSpace(text) != text {
				return errReference
			}
			if k, err = referenceInteger(text, 64); err != nil {
				return err
			}
		}
		entries[k], err = reference(t.ItemType(), value)
		return err
	})
	if err != nil {
		return "", err
	}
	parts := make([]string, 0, len(entries))
	for k, v := range entries {
		parts = append(parts, k+"=>"+v)
	}
	slices.Sort(parts)
	return "(" + strings.Join(parts, ",") + ")", nil
}

// rat reads a number; far: its exponent is so large that it is out of any column's range or scale, unless it is 0.
func rat(text string) (r *big.Rat, far bool) {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(text), "e")
	if r, ok := new(big.Rat).SetString(mantissa); ok && r.Sign() == 0 {
		return r, false
	}
	digits := strings.TrimLeft(exponent, "+-0")
	if n, _ := strconv.Atoi(digits); len(digits) > 6 || n > 5000 {
		return nil, true
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		panic(text)
	}
	return r, false
}

func referenceInteger(text string, width int) (string, error) {
	r, far := rat(text)
	if far || !r.IsInt() {
		return "", errReference
	}
	limit := new(big.Int).Lsh(big.NewInt(1), uint(width-1))
	if r.Num().Cmp(limit) >= 0 || r.Num().Cmp(new(big.Int).Neg(limit)) < 0 {
		return "", errReference
	}
	return r.Num().String(), nil
}

func referenceFloat(raw, text string, isNumber, isText bool, size int) (string, error) {
	var v float64
	var err error
	switch {
	case isNumber:
		v, err = strconv.ParseFloat(raw, size)
	case isText && text == "NaN":
		v = math.NaN()
	case isText && text == "Infinity":
		v = math.Inf(1)
	case isText && text == "-Infinity":
		v = math.Inf(-1)
	default:
		err = errReference
	}
	return strconv.FormatFloat(v, 'g', -1, size), err
}

var decimalForm = regexp.MustCompile(`^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$`)

func referenceDecimal(text string, precision, scale int) (string, error) {
	if !decimalForm.MatchString(text) {
		return "", errReference
	}
	r, far := rat(text)
	if far {
		return "", errReference
	}
	r = new(big.Rat).Mul(r, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)))
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(precision)), nil)
	if !r.IsInt() || r.Num().CmpAbs(limit) >= 0 {
		return "", errReference
	}
	return r.Num().String(), nil
}

var timeForm = regexp.MustCompile(`^(\d{4}-\d\d-\d\d)(?:([Tt ])(\d\d:\d\d)(?:(:\d\d)([.,]\d{1,9})?)?(Z|z|[+-]\d\d(?::?\d\d)?)?)?$`)

func referenceTime(t arrow.DataType, raw, text string, isNumber, isText bool) (string, error) {
	var micros *big.Int
	days := t.ID() == arrow.DATE32
	switch {
	case isNumber:
		r, far := rat(raw)
		if far {
			small := strings.Contains(raw, "e-") || strings.Contains(raw, "E-")
			if days || !small {
				return "", errReference
			}
			r = big.NewRat(1, 1_000_000_000)
			if raw[0] == '-' {
				r.Neg(r)
			}
		}
		unit := int64(1000)
		if days {
			if !r.IsInt() {
				return "", errReference
			}
			unit = 86400_000_000
		}
		r = new(big.Rat).Mul(r, new(big.Rat).SetInt64(unit))
		micros = new(big.Int).Div(r.Num(), r.Denom()) // Euclidean: towards the past, the divisor being positive
	case isText:
		m := timeForm.FindStringSubmatch(text)
		if m == nil {
			return "", errReference
		}
		seconds, zone := m[4], strings.ToUpper(m[6])
		if m[3] == "" {
			m[3] = "00:00"
		}
		if seconds == "" {
			seconds = ":00"
		}
		switch {
		case zone == "":
			zone = "Z"
		case t.ID() == arrow.TIMESTAMP && t.(*arrow.TimestampType).TimeZone == "":
			return "", errReference
		case len(zone) == 3:
			zone += ":00"
		case len(zone) == 5:
			zone = zone[:3] + ":" + zone[3:]
		}
		if zone != "Z" && (zone[1:3] > "23" || zone[4:] > "59") {
			return "", errReference
		}
		at, err := time.Parse("2006-01-02T15:04:05.999999999Z07:00", m[1]+"T"+m[3]+seconds+strings.Replace(m[5], ",", ".", 1)+zone)
		if err != nil || m[1] < "0001" {
			return "", errReference
		}
		micros = big.NewInt(at.UnixMicro())
	default:
		return "", errReference
	}
	low, high := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro(), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	if !micros.IsInt64() || micros.Int64() < low || micros.Int64() >= high {
		return "", errReference
	}
	if days {
		day := new(big.Int).Div(micros, big.NewInt(86400_000_000))
		return day.String(), nil
	}
	return micros.String(), nil
}

// render is the text of row i of an array, in the reference's form.
func render(a arrow.Array, i int) string {
	if a.IsNull(i) {
		return "null"
	}
	switch a := a.(type) {
	case *array.String:
		return strconv.Quote(a.Value(i))
	case *array.Boolean:
		return strconv.FormatBool(a.Value(i))
	case *array.Int8:
		return strconv.Itoa(int(a.Value(i)))
	case *array.Int16:
		return strconv.Itoa(int(a.Value(i)))
	case *array.Int32:
		return strconv.Itoa(int(a.Value(i)))
	case *array.Int64:
		return strconv.FormatInt(a.Value(i), 10)
	case *array.Float32:
		return strconv.FormatFloat(float64(a.Value(i)), 'g', -1, 32)
	case *array.Float64:
		return strconv.FormatFloat(a.Value(i), 'g', -1, 64)
	case *array.Decimal128:
		return a.Value(i).BigInt().String()
	case *array.Binary:
		return fmt.Sprintf("%x", a.Value(i))
	case *array.Date32:
		return strconv.Itoa(int(a.Value(i)))
	case *array.Timestamp:
		return strconv.FormatInt(int64(a.Value(i)), 10)
	case *array.Struct:
		st := a.DataType().(*arrow.StructType)
		parts := make([]string, st.NumFields())
		for k := range parts {
			parts[k] = st.Field(k).Name + ":" + render(a.Field(k), i)
		}
		return "{" + strings.Join(parts, ",") + "}"
	case *array.Map:
		begin, end := a.ValueOffsets(i)
		var parts []string
		for k := begin; k < end; k++ {
			parts = append(parts, render(a.Keys(), int(k))+"=>"+render(a.Items(), int(k)))
		}
		slices.Sort(parts)
		return "(" + strings.Join(parts, ",") + ")"
	case *array.List:
		begin, end := a.ValueOffsets(i)
		var parts []string
		for k := begin; k < end; k++ {
			parts = append(parts, render(a.ListValues(), int(k)))
		}
		return "[" + strings.Join(parts, ",") + "]"
	}
	panic(a)
}

// renderRows renders the rows of a batch.
func renderRows(batch arrow.RecordBatch) []string {
	var rows []string
	for i := range int(batch.NumRows()) {
		parts := make([]string, batch.NumCols())
		for k := range parts {
			parts[k] = batch.ColumnName(k) + ":" + render(batch.Column(k), i)
		}
		rows = append(rows, "{"+strings.Join(parts, ",")+"}")
	}
	return rows
}
