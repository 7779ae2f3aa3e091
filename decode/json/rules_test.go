package json

import (
	"errors"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
	"kafkadelta/internal/decodetest"
)

// decodeOne decodes one message into a table and renders the row, or returns the poison.
func decodeOne(t *testing.T, schema *arrow.Schema, cfg decode.Config, message []byte) (string, *decode.PoisonError) {
	t.Helper()
	d := newDecoder(t, schema, cfg)
	err := d.Append(&kgo.Record{Topic: "t", Partition: 2, Offset: 7, Value: message})
	batch := d.NewBatch()
	defer batch.Release()
	rows := renderRows(batch)
	if err == nil {
		if len(rows) != 1 {
			t.Fatalf("%d rows", len(rows))
		}
		return rows[0], nil
	}
	var poison *decode.PoisonError
	if !errors.As(err, &poison) {
		t.Fatalf("not poison: %v", err)
	}
	if poison.Topic != "t" || poison.Partition != 2 || poison.Offset != 7 || poison.Detail == "" {
		t.Errorf("incomplete: %#v", poison)
	}
	if path, reason := poison.Poison(); path != poison.Path || reason != poison.Reason {
		t.Errorf("Poison() = %q, %q", path, reason)
	}
	if len(rows) != 0 {
		t.Errorf("poison left %v", rows)
	}
	return "", poison
}

var (
	tByte    = arrow.PrimitiveTypes.Int8
	tShort   = arrow.PrimitiveTypes.Int16
	tFloat   = arrow.PrimitiveTypes.Float32
	tBool    = arrow.FixedWidthTypes.Boolean
	tBinary  = arrow.BinaryTypes.Binary
	tNTZ     = &arrow.TimestampType{Unit: arrow.Microsecond}
	tDec52   = &arrow.Decimal128Type{Precision: 5, Scale: 2}
	tDec3810 = &arrow.Decimal128Type{Precision: 38, Scale: 10}
)

// TestValueRules is docs/json.md, "What each type takes", row by row: the value into a column of the type becomes the
// rendered value, or poison for the reason (written with a leading '!').
func TestValueRules(t *testing.T) {
	unit := func(e string) decode.Column { return decode.Column{Epoch: e} }
	tests := []struct {
		name   string
		typ    arrow.DataType
		column decode.Column
		values [][2]string
	}{
		{"null into everything", tInt, decode.Column{}, [][2]string{{`null`, `null`}}},
		{"string", tString, decode.Column{}, [][2]string{
			{`""`, `""`}, {`"abc"`, `"abc"`}, {`"12345678"`, `"12345678"`}, {`"größe"`, `"größe"`}, {`null`, `null`},
			{`"a\"\\\/\b\f\n\r\tz"`, `"a\"\\/\b\f\n\r\tz"`}, {`"\u0041\u00e9\u65e5"`, `"Aé日"`}, {`"\ud83d\ude00"`, `"😀"`}, {`"\u0000"`, `"\x00"`},
			// A lone surrogate has no UTF-8: replaced, as encoding/json does.
			{`"\ud800"`, `"�"`}, {`"\udc00x"`, `"�x"`}, {`"\ud800\ud800"`, `"��"`}, {`"\ud800\u0041"`, `"�A"`},
			// Everything else is kept as its JSON text.
			{`12.50`, `"12.50"`}, {`-0`, `"-0"`}, {`true`, `"true"`}, {`{"a": [1, null]}`, `"{\"a\": [1, null]}"`}, {`[]`, `"[]"`},
			{`{"a":}`, `!invalid_json`}, {"\"\xff\"", `!invalid_utf8`}, {"\"\xed\xa0\x80\"", `!invalid_utf8`}, {"{\"a\":\"\xc3\"}", `!invalid_utf8`},
			{"\"a\nb\"", `!invalid_json`}, {"\"\x00\"", `!invalid_json`}, {`"\x"`, `!invalid_json`}, {`"\u12g4"`, `!invalid_json`}, {`"\u12`, `!invalid_json`}, {`"abc`, `!invalid_json`},
		}},
		{"integer", tInt, decode.Column{}, [][2]string{
			{`0`, `0`}, {`-0`, `0`}, {`2147483647`, `2147483647`}, {`-2147483648`, `-2147483648`}, {`2147483648`, `!out_of_range`}, {`-2147483649`, `!out_of_range`},
			{`1.0`, `1`}, {`1e3`, `1000`}, {`1.5e1`, `15`}, {`1200e-2`, `12`}, {`0e999999999`, `0`}, {`0.000`, `0`}, {`1.5`, `!inexact`}, {`1e-1`, `!inexact`}, {`1e999999999`, `!out_of_range`},
			{`99999999999999999999999`, `!out_of_range`}, {`"1"`, `!type_mismatch`}, {`true`, `!type_mismatch`}, {`{}`, `!type_mismatch`}, {`[1]`, `!type_mismatch`},
			{`01`, `!invalid_json`}, {`-`, `!invalid_json`}, {`+1`, `!invalid_json`}, {`.5`, `!invalid_json`}, {`1.`, `!invalid_json`}, {`1e`, `!invalid_json`}, {`0x1`, `!invalid_json`},
			{`NaN`, `!invalid_json`}, {`nul`, `!invalid_json`}, {`1 2`, `!invalid_json`}, {`1_0`, `!invalid_json`}, {`--1`, `!invalid_json`},
		}},
		{"byte", tByte, decode.Column{}, [][2]string{{`127`, `127`}, {`-128`, `-128`}, {`128`, `!out_of_range`}, {`-129`, `!out_of_range`}, {`1.270e2`, `127`}}},
		{"short", tShort, decode.Column{}, [][2]string{{`32767`, `32767`}, {`-32768`, `-32768`}, {`32768`, `!out_of_range`}}},
		{"long", tLong, decode.Column{}, [][2]string{
			{`9223372036854775807`, `9223372036854775807`}, {`-9223372036854775808`, `-9223372036854775808`}, {`9223372036854775808`, `!out_of_range`},
			{`-9223372036854775809`, `!out_of_range`}, {`999999999999999999`, `999999999999999999`}, {`9.223372036854775807e18`, `9223372036854775807`}, {`18446744073709551616`, `!out_of_range`},
		}},
		{"double", tDouble, decode.Column{}, [][2]string{
			{`1`, `1`}, {`-1.5`, `-1.5`}, {`-0`, `-0`}, {`0.1`, `0.1`}, {`1e22`, `1e+22`}, {`1e23`, `1e+23`}, {`123456789012345678`, `1.2345678901234568e+17`},
			{`9007199254740993`, `9.007199254740992e+15`}, // 2^53 + 1: rounded to the nearest, as every reader of JSON does
			{`5e-324`, `5e-324`}, {`1e-400`, `0`}, {`1.7976931348623157e308`, `1.7976931348623157e+308`}, {`1e309`, `!out_of_range`}, {`-1e309`, `!out_of_range`},
			{`0.000000000000000000000000000000000000000001`, `1e-42`}, {`1.00000000000000000000000000000001`, `1`},
			{`"NaN"`, `NaN`}, {`"Infinity"`, `+Inf`}, {`"-Infinity"`, `-Inf`}, {`NaN`, `!invalid_json`}, {`Infinity`, `!invalid_json`}, {`-Infinity`, `!invalid_json`},
			{`"1.5"`, `!type_mismatch`}, {`"nan"`, `!type_mismatch`}, {`false`, `!type_mismatch`}, {`1.5.5`, `!invalid_json`}, {`01.5`, `!invalid_json`}, {`1.e5`, `!invalid_json`}, {`1e+`, `!invalid_json`},
		}},
		{"float", tFloat, decode.Column{}, [][2]string{
			{`0.1`, `0.1`}, {`16777217`, `1.6777216e+07`}, {`3.4028235e38`, `3.4028235e+38`}, {`3.5e38`, `!out_of_range`}, {`1e-50`, `0`}, {`"NaN"`, `NaN`}, {`"-Infinity"`, `-Inf`}, {`"1"`, `!type_mismatch`},
		}},
		{"decimal(5,2), rendered unscaled", tDec52, decode.Column{}, [][2]string{
			{`1`, `100`}, {`12.5`, `1250`}, {`-999.99`, `-99999`}, {`1000`, `!out_of_range`}, {`1.234`, `!inexact`}, {`1.2300`, `123`}, {`1e2`, `10000`}, {`1e-2`, `1`}, {`1e-3`, `!inexact`},
			{`"12.5"`, `1250`}, {`"+012.50"`, `1250`}, {`".5"`, `50`}, {`""`, `!invalid_value`}, {`"1,5"`, `!invalid_value`}, {`"NaN"`, `!invalid_value`}, {`" 1"`, `!invalid_value`}, {`true`, `!type_mismatch`},
			{`0e99999999999999999999`, `0`}, {`1e99999999999999999999`, `!out_of_range`}, {`1e-99999999999999999999`, `!inexact`},
		}},
		{"decimal(38,10) is exact", tDec3810, decode.Column{}, [][2]string{
			{`1234567890123456789012345678.0123456789`, `12345678901234567890123456780123456789`}, {`"-9999999999999999999999999999.9999999999"`, `-99999999999999999999999999999999999999`},
			{`10000000000000000000000000000`, `!out_of_range`}, {`0.00000000001`, `!inexact`},
		}},
		{"boolean", tBool, decode.Column{}, [][2]string{
			{`true`, `true`}, {`false`, `false`}, {`null`, `null`}, {`"true"`, `!type_mismatch`}, {`1`, `!type_mismatch`}, {`tru`, `!invalid_json`}, {`True`, `!invalid_json`}, {`falsey`, `!invalid_json`},
		}},
		{"binary is base64", tBinary, decode.Column{}, [][2]string{
			{`""`, ``}, {`"aGVsbG8="`, `68656c6c6f`}, {`"\u0041AAA"`, `000000`}, {`"aGVsbG8"`, `!invalid_value`}, {`"_-8="`, `!invalid_value`}, {`"a b"`, `!invalid_value`}, {`1`, `!type_mismatch`},
		}},
		{"date", tDate, decode.Column{}, [][2]string{
			{`"1970-01-01"`, `0`}, {`"2024-02-29"`, `19782`}, {`"0001-01-01"`, `-719162`}, {`"9999-12-31"`, `2932896`}, {`"2023-02-29"`, `!invalid_value`}, {`"2023-13-01"`, `!invalid_value`}, {`"0000-01-01"`, `!out_of_range`},
			{`"2021-03-24T23:30:00-01:00"`, `18711`}, {`"2021-03-24 23:30:00"`, `18710`}, // a timestamp's day in UTC
			{`18710`, `18710`}, {`-1`, `-1`}, {`1.5`, `!inexact`}, {`1616598377321`, `!out_of_range`}, // numbers are days, unless configured
			{`"2021-3-24"`, `!invalid_value`}, {`"20210324"`, `!invalid_value`}, {`""`, `!invalid_value`}, {`true`, `!type_mismatch`},
		}},
		{"date from millis", tDate, unit("millis"), [][2]string{{`1616598377321`, `18710`}, {`-1`, `-1`}, {`"2021-03-24"`, `18710`}}},
		{"timestamp, rendered as micros", tTime, decode.Column{}, [][2]string{
			{`"1970-01-01T00:00:00Z"`, `0`}, {`"1970-01-01T00:00:00z"`, `0`}, {`"1970-01-01 00:00:01"`, `1000000`}, {`"1970-01-01t00:01"`, `60000000`}, {`"1970-01-02"`, `86400000000`},
			{`"1970-01-01T01:00:00+01:00"`, `0`}, {`"1970-01-01T01:00:00+0100"`, `0`}, {`"1969-12-31T19:00:00-05"`, `0`},
			{`"1970-01-01T00:00:00.1Z"`, `100000`}, {`"1970-01-01T00:00:00,123456Z"`, `123456`}, {`"1970-01-01T00:00:00.123456789Z"`, `123456`}, {`"1969-12-31T23:59:59.999999999Z"`, `-1`},
			{`"1970-01-01T00:00:00.1234567890Z"`, `!invalid_value`}, {`"1970-01-01T00:00:00.Z"`, `!invalid_value`}, {`"1970-01-01T24:00:00Z"`, `!invalid_value`}, {`"1970-01-01T00:00:60Z"`, `!invalid_value`},
			{`"1970-01-01T00:00:00+24:00"`, `!invalid_value`}, {`"1970-01-01T00:00:00 UTC"`, `!invalid_value`}, {`"1970-01-01T"`, `!invalid_value`}, {`"yesterday"`, `!invalid_value`}, {`"1616598377321"`, `!invalid_value`},
			{`"0001-01-01T00:30:00+01:00"`, `!out_of_range`}, {`"9999-12-31T23:59:59.999999Z"`, `253402300799999999`}, {`"9999-12-31T23:30:00-01:00"`, `!out_of_range`},
			{`1616598377321`, `1616598377321000`}, {`-1`, `-1000`}, {`1616598377321.5`, `1616598377321500`}, {`1.616598377321e12`, `1616598377321000`}, {`-0.0001`, `-1`},
			{`253402300799999`, `253402300799999000`}, {`253402300800000`, `!out_of_range`}, {`1616598377321710`, `!out_of_range`}, {`1e400`, `!out_of_range`}, {`true`, `!type_mismatch`}, {`{}`, `!type_mismatch`},
		}},
		{"timestamp from seconds", tTime, unit("seconds"), [][2]string{{`1616598377`, `1616598377000000`}, {`1616598377.3217109`, `1616598377321710`}, {`1616598377321`, `!out_of_range`}}},
		{"timestamp from micros", tTime, unit("micros"), [][2]string{{`1616598377321710`, `1616598377321710`}, {`0.5`, `0`}, {`-0.5`, `-1`}}},
		{"timestamp from nanos", tTime, unit("nanos"), [][2]string{{`1616598377321710999`, `1616598377321710`}, {`-1`, `-1`}}},
		{"timestamp from days", tTime, unit("days"), [][2]string{{`1`, `86400000000`}, {`1.5`, `!inexact`}}},
		{"timestamp_ntz", tNTZ, decode.Column{}, [][2]string{
			{`"1970-01-01T00:00:01"`, `1000000`}, {`"1970-01-01"`, `0`}, {`"1970-01-01T00:00:00Z"`, `!invalid_value`}, {`"1970-01-01T00:00:00+01:00"`, `!invalid_value`}, {`1000`, `1000000`},
		}},
		{"array", arrow.ListOf(tInt), decode.Column{}, [][2]string{
			{`[]`, `[]`}, {`[ ]`, `[]`}, {`[1, null ,2]`, `[1,null,2]`}, {`null`, `null`}, {`{}`, `!type_mismatch`}, {`1`, `!type_mismatch`}, {`[1,]`, `!invalid_json`}, {`[1 2]`, `!invalid_json`}, {`[1}`, `!invalid_json`}, {`[1,"2"]`, `!type_mismatch`},
		}},
		{"map", arrow.MapOf(tString, tInt), decode.Column{}, [][2]string{
			{`{}`, `()`}, {`{"a":1,"\u0062":null}`, `("a"=>1,"b"=>null)`}, {`{"a":1,"b":2,"a":3}`, `("a"=>3,"b"=>2)`}, {`{"a":1,"a":2,"a":3}`, `("a"=>3)`}, {`[]`, `!type_mismatch`}, {`{"a":"x"}`, `!type_mismatch`}, {`{1:2}`, `!invalid_json`}, {`{"a" 1}`, `!invalid_json`},
		}},
		{"map of long keys", arrow.MapOf(tLong, tString), decode.Column{}, [][2]string{
			{`{"1":"a","-2":"b"}`, `(-2=>"b",1=>"a")`}, {`{"1":"a","1.0":"b"}`, `(1=>"b")`}, {`{"01":"a"}`, `!invalid_value`}, {`{"":"a"}`, `!invalid_value`}, {`{"x":"a"}`, `!invalid_value`}, {`{"+1":"a"}`, `!invalid_value`}, {`{"1.5":"a"}`, `!inexact`},
		}},
		{"map of other keys", arrow.MapOf(tBool, tInt), decode.Column{}, [][2]string{{`{"true":1,"false":2,"true":3}`, `(false=>2,true=>3)`}, {`{"yes":1}`, `!invalid_value`}}},
		{"map of byte keys", arrow.MapOf(tByte, tInt), decode.Column{}, [][2]string{{`{"127":1}`, `(127=>1)`}, {`{"128":1}`, `!out_of_range`}}},
		{"map of date keys", arrow.MapOf(tDate, tInt), decode.Column{}, [][2]string{{`{"1970-01-02":1}`, `(1=>1)`}, {`{"1":1}`, `!invalid_value`}}},
		{"map of timestamp keys", arrow.MapOf(tTime, tInt), decode.Column{}, [][2]string{{`{"1970-01-01T00:00:01Z":1}`, `(1000000=>1)`}}},
		{"map of double keys", arrow.MapOf(tDouble, tInt), decode.Column{}, [][2]string{{`{"1.5":1,"NaN":2}`, `(1.5=>1,NaN=>2)`}, {`{"0x1p-2":1}`, `!invalid_value`}, {`{"inf":1}`, `!invalid_value`}, {`{"1e999":1}`, `!invalid_value`}, {`{"1.":1}`, `!invalid_value`}, {`{"1_0":1}`, `!invalid_value`}}},
		{"map of decimal keys", arrow.MapOf(tDec52, tInt), decode.Column{}, [][2]string{{`{"1.5":1}`, `(150=>1)`}, {`{"1.555":1}`, `!inexact`}}},
		{"map of binary keys", arrow.MapOf(tBinary, tInt), decode.Column{}, [][2]string{{`{"AA==":1}`, `(00=>1)`}, {`{"A":1}`, `!invalid_value`}}},
		{"struct", arrow.StructOf(nullable("x", tInt), nullable("y", arrow.StructOf(nullable("z", tString)))), decode.Column{}, [][2]string{
			{`{}`, `{x:null,y:null}`}, {`{"y":{"z":"q"},"x":1}`, `{x:1,y:{z:"q"}}`}, {`{"y":{"z":"q"},"y":{}}`, `{x:null,y:{z:null}}`}, {`{"y":{"z":"q"},"y":null}`, `{x:null,y:null}`}, {`[]`, `!type_mismatch`}, {`"{}"`, `!type_mismatch`},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			schema := arrow.NewSchema([]arrow.Field{nullable("before", tString), nullable("v", test.typ), nullable("after", tInt)}, nil)
			cfg := decode.Config{Columns: map[string]decode.Column{"v": test.column}}
			for _, v := range test.values {
				message := `{"before":"b","v":` + v[0] + `,"after":1}`
				row, poison := decodeOne(t, schema, cfg, []byte(message))
				want, isPoison := strings.CutPrefix(v[1], "!")
				switch {
				case isPoison && poison == nil:
					t.Errorf("%s became %s, want poison %s", v[0], row, want)
				case isPoison && (poison.Reason != want || !strings.HasPrefix(poison.Path+".", "v.") && poison.Path != ""):
					t.Errorf("%s is poison %s at %q (%s), want %s at v", v[0], poison.Reason, poison.Path, poison.Detail, want)
				case !isPoison && poison != nil:
					t.Errorf("%s is %v, want %s", v[0], poison, want)
				case !isPoison && row != `{before:"b",v:`+want+`,after:1}`:
					t.Errorf("%s became %s, want %s", v[0], row, want)
				}
			}
		})
	}
}

// TestMessageRules is docs/json.md, "Messages" and "Fields".
func TestMessageRules(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		nullable("a", tInt),
		{Name: "b", Type: arrow.StructOf(arrow.Field{Name: "c", Type: tString}, nullable("d", arrow.ListOf(arrow.StructOf(nullable("e", tInt)))))},
	}, nil)
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	tests := []struct {
		name, message, row, reason, path string
	}{
		{"no value", "\x00nil", "", decode.ReasonTombstone, ""},
		{"empty", "", "", decode.ReasonEmpty, ""},
		{"white space only", " \t\r\n", "", decode.ReasonEmpty, ""},
		{"no fields", "{}", "{a:null,b:null}", "", ""},
		{"white space around", " \n{ \"a\" :\t1 , \"b\" : { } }\r\n", "{a:1,b:{c:null,d:null}}", "", ""},
		{"missing and null are null, in NOT NULL fields too", `{"b":{"c":null}}`, "{a:null,b:{c:null,d:null}}", "", ""},
		{"unknown fields", `{"x":[1,{"y":null}],"a":1,"z":"\u0041","b":null}`, "{a:1,b:null}", "", ""},
		{"keys are case sensitive", `{"A":1}`, "{a:null,b:null}", "", ""},
		{"escaped key", `{"\u0061":1}`, "{a:1,b:null}", "", ""},
		{"last of equal keys wins", `{"a":1,"b":{"c":"x"},"a":2,"b":{"d":[]}}`, "{a:2,b:{c:null,d:[]}}", "", ""},
		{"last of equal keys wins, null too", `{"a":1,"a":null}`, "{a:null,b:null}", "", ""},
		{"equal keys in different spelling", `{"a":1,"\u0061":2}`, "{a:2,b:null}", "", ""},
		{"a replaced value must fit too", `{"a":"x","a":2}`, "", decode.ReasonTypeMismatch, "a"},
		{"path in a list", `{"b":{"d":[{"e":1},{"e":"x"}]}}`, "", decode.ReasonTypeMismatch, "b.d.element.e"},
		{"not an object", `[{}]`, "", decode.ReasonTypeMismatch, ""},
		{"a string", `"{}"`, "", decode.ReasonTypeMismatch, ""},
		{"null", `null`, "", decode.ReasonTypeMismatch, ""},
		{"several values", `{"a":1}{"a":2}`, "", decode.ReasonTrailingData, ""},
		{"several lines", "{\"a\":1}\n{\"a\":2}", "", decode.ReasonTrailingData, ""},
		{"a zero byte behind", "{\"a\":1}\x00", "", decode.ReasonTrailingData, ""},
		{"byte order mark", "\xef\xbb\xbf{}", "", decode.ReasonInvalidJSON, ""},
		{"confluent framing", "\x00\x00\x00\x00\x01{}", "", decode.ReasonInvalidJSON, ""},
		{"cut off", `{"a":1`, "", decode.ReasonInvalidJSON, ""},
		{"cut off in a key", `{"a`, "", decode.ReasonInvalidJSON, ""},
		{"cut off behind a colon", `{"a":`, "", decode.ReasonInvalidJSON, "a"},
		{"comma at the end", `{"a":1,}`, "", decode.ReasonInvalidJSON, ""},
		{"no comma", `{"a":1 "b":2}`, "", decode.ReasonInvalidJSON, ""},
		{"no colon", `{"a" 1}`, "", decode.ReasonInvalidJSON, ""},
		{"bare key", `{a:1}`, "", decode.ReasonInvalidJSON, ""},
		{"comment", `{"a":1/**/}`, "", decode.ReasonInvalidJSON, ""},
		{"unknown field that is no JSON", `{"x":{"y":tru}}`, "", decode.ReasonInvalidJSON, "x"},
		{"unknown field that is not UTF-8", "{\"x\":\"\xff\"}", "", decode.ReasonInvalidUTF8, "x"},
		{"unknown key that is not UTF-8", "{\"\xff\":1}", "", decode.ReasonInvalidUTF8, ""},
		{"unknown number with a leading zero", `{"x":00}`, "", decode.ReasonInvalidJSON, "x"},
		{"deepest", `{"x":` + deep(511) + `}`, "{a:null,b:null}", "", ""},
		{"too deep", `{"x":` + deep(512) + `}`, "", decode.ReasonTooDeep, "x"},
		{"too deep, and no stack for it", `{"x":` + strings.Repeat(`{"x":`, 1<<20), "", decode.ReasonTooDeep, "x"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			message := []byte(test.message)
			if test.message == "\x00nil" {
				message = nil
			}
			row, poison := decodeOne(t, schema, decode.Config{}, message)
			switch {
			case test.reason == "" && (poison != nil || row != test.row):
				t.Errorf("got %s %v, want %s", row, poison, test.row)
			case test.reason != "" && poison == nil:
				t.Errorf("got %s, want poison %s", row, test.reason)
			case test.reason != "" && (poison.Reason != test.reason || poison.Path != test.path):
				t.Errorf("got %v, want %s at %q", poison, test.reason, test.path)
			}
		})
	}
}

// TestComputedColumns is docs/json.md, "Computed columns".
func TestComputedColumns(t *testing.T) {
	config := func(columns map[string]decode.Column) decode.Config { return decode.Config{Columns: columns} }
	table := func(fields ...arrow.Field) *arrow.Schema { return arrow.NewSchema(fields, nil) }
	meta := nullable("meta", arrow.StructOf(nullable("ts", tString)))
	from := func(path, cast string) decode.Column { return decode.Column{From: path, Cast: cast} }
	tests := []struct {
		name    string
		schema  *arrow.Schema
		config  decode.Config
		message string
		want    string // the row, or !reason@path
	}{
		{"date of a kept field", table(meta, nullable("date", tDate)), config(map[string]decode.Column{"date": from("meta.ts", "date")}),
			`{"meta":{"ts":"2021-03-24T23:30:00-01:00"},"date":"ignored"}`, `{meta:{ts:"2021-03-24T23:30:00-01:00"},date:18711}`},
		{"date of a field that is not kept", table(nullable("a", tInt), nullable("date", tDate)), config(map[string]decode.Column{"date": from("meta.ts", "date")}),
			`{"meta":{"x":1,"ts":"2021-03-24"},"a":1}`, `{a:1,date:18710}`},
		{"missing", table(meta, nullable("date", tDate)), config(map[string]decode.Column{"date": from("meta.ts", "date")}), `{"meta":{}}`, `{meta:{ts:null},date:null}`},
		{"null on the way", table(nullable("date", tDate)), config(map[string]decode.Column{"date": from("meta.ts", "date")}), `{"meta":null}`, `{date:null}`},
		{"null", table(nullable("date", tDate)), config(map[string]decode.Column{"date": from("meta.ts", "date")}), `{"meta":{"ts":null}}`, `{date:null}`},
		{"no object on the way", table(nullable("date", tDate)), config(map[string]decode.Column{"date": from("meta.ts", "date")}), `{"meta":[]}`, `!type_mismatch@meta`},
		{"no timestamp", table(meta, nullable("date", tDate)), config(map[string]decode.Column{"date": from("meta.ts", "date")}), `{"meta":{"ts":"soon"}}`, `!invalid_value@meta.ts`},
		{"an object", table(nullable("date", tDate)), config(map[string]decode.Column{"date": from("ts", "date")}), `{"ts":{}}`, `!type_mismatch@ts`},
		{"escaped", table(nullable("date", tDate)), config(map[string]decode.Column{"date": from("ts", "date")}), `{"ts":"2021\u002d03-24"}`, `{date:18710}`},
		{"last of equal keys wins", table(meta, nullable("date", tDate)), config(map[string]decode.Column{"date": from("meta.ts", "date")}),
			`{"meta":{"ts":"2021-03-24","ts":"1970-01-02"}}`, `{meta:{ts:"1970-01-02"},date:1}`},
		{"last of equal keys wins, above too", table(meta, nullable("date", tDate)), config(map[string]decode.Column{"date": from("meta.ts", "date")}),
			`{"meta":{"ts":"2021-03-24"},"meta":{}}`, `{meta:{ts:null},date:null}`},
		{"last of equal keys wins, not kept", table(nullable("date", tDate)), config(map[string]decode.Column{"date": from("meta.ts", "date")}),
			`{"meta":{"ts":"2021-03-24"},"meta":null}`, `{date:null}`},
		{"parts as numbers", table(nullable("y", tInt), nullable("m", tByte), nullable("d", tShort), nullable("h", tLong), nullable("mi", tInt)),
			config(map[string]decode.Column{"y": from("ts", "year"), "m": from("ts", "month"), "d": from("ts", "day"), "h": from("ts", "hour"), "mi": from("ts", "minute")}),
			`{"ts":"1969-02-03T04:05:06Z"}`, `{y:1969,m:2,d:3,h:4,mi:5}`},
		{"parts as text", table(nullable("y", tString), nullable("m", tString), nullable("d", tString), nullable("h", tString)),
			config(map[string]decode.Column{"y": from("ts", "year"), "m": from("ts", "month"), "d": from("ts", "date"), "h": from("ts", "hour")}),
			`{"ts":"0969-02-03T04:05:06Z"}`, `{y:"0969",m:"02",d:"0969-02-03",h:"04"}`},
		{"numbers are millis", table(nullable("d", tDate)), config(map[string]decode.Column{"d": from("ts", "date")}), `{"ts":1616598377321}`, `{d:18710}`},
		{"numbers in the unit of the column", table(nullable("d", tDate)), config(map[string]decode.Column{"d": {From: "ts", Cast: "date", Epoch: "seconds"}}), `{"ts":1616598377.5}`, `{d:18710}`},
		{"numbers in the unit of the source", table(nullable("ts", tTime), nullable("d", tDate)), config(map[string]decode.Column{"ts": {Epoch: "seconds"}, "d": from("ts", "date")}),
			`{"ts":1616598377}`, `{ts:1616598377000000,d:18710}`},
		{"number out of range", table(nullable("d", tDate)), config(map[string]decode.Column{"d": from("ts", "date")}), `{"ts":1616598377321710}`, `!out_of_range@ts`},
		{"substring", table(nullable("s", tString), nullable("p", tString), nullable("q", tString)),
			config(map[string]decode.Column{"p": from("s", "substring(2, 3)"), "q": from("s", "substring(-2, 2)")}), `{"s":"größe"}`, `{s:"größe",p:"röß",q:"ße"}`},
		{"substring of a number", table(nullable("p", tString)), config(map[string]decode.Column{"p": from("n", "substring(1,2)")}), `{"n":1234}`, `{p:"12"}`},
		{"substring beyond the end", table(nullable("p", tString), nullable("q", tString)), config(map[string]decode.Column{"p": from("s", "substring(3,9)"), "q": from("s", "substring(-4,2)")}), `{"s":"abc"}`, `{p:"c",q:"a"}`},
		{"renamed", table(nullable("id", tLong)), config(map[string]decode.Column{"id": from("meta.number", "")}), `{"meta":{"number":7},"id":8}`, `{id:7}`},
		{"renamed, and a value that does not fit", table(nullable("id", tLong)), config(map[string]decode.Column{"id": from("meta.number", "")}), `{"meta":{"number":"x"}}`, `!type_mismatch@meta.number`},
		{"renamed struct beside the same field", table(nullable("m", arrow.StructOf(nullable("ts", tTime))), meta), config(map[string]decode.Column{"m": from("meta", "")}),
			`{"meta":{"ts":"1970-01-01"}}`, `{m:{ts:0},meta:{ts:"1970-01-01"}}`},
		{"from an entry of a map", table(nullable("tags", arrow.MapOf(tString, tString)), nullable("d", tDate)), config(map[string]decode.Column{"d": from("tags.at", "date")}),
			`{"tags":{"x":"y","at":"1970-01-02"}}`, `{tags:("at"=>"1970-01-02","x"=>"y"),d:1}`},
		{"quoted path", table(nullable("d", tDate)), config(map[string]decode.Column{"d": from("`a.b`.c", "date")}), `{"a.b":{"c":"1970-01-02"}}`, `{d:1}`},
		{"cast of its own field", table(nullable("d", tDate)), config(map[string]decode.Column{"d": {Cast: "date"}}), `{"d":86400000}`, `{d:1}`},
		{"text of any value", table(nullable("o", tString), nullable("l", tString), nullable("s", tString), nullable("n", tString), nullable("no", tString), nullable("missing", tString)),
			config(map[string]decode.Column{"o": from("a.o", "json"), "l": from("l", "json"), "s": {Cast: "json"}, "n": from("a.n", "json"), "no": from("no", "json"), "missing": from("x.y", "json")}),
			`{"a": {"o": { "x" : "\u00e9"} , "n": 1.50},"l":[1, {}],"s":"t\"x","no":null}`, `{o:"{ \"x\" : \"\\u00e9\"}",l:"[1, {}]",s:"\"t\\\"x\"",n:"1.50",no:null,missing:null}`},
		{"text of a struct beside its fields", table(meta, nullable("t", tString)), config(map[string]decode.Column{"t": from("meta", "json")}),
			`{"meta":{"ts":"x"},"meta":{"ts":"y","z":0}}`, `{meta:{ts:"y"},t:"{\"ts\":\"y\",\"z\":0}"}`},
		{"text of the message", table(nullable("a", tInt), nullable("all", tString)), config(map[string]decode.Column{"all": {From: ".", Cast: "json"}}), ` {"a":1, "b":[] } `, `{a:1,all:"{\"a\":1, \"b\":[] }"}`},
		{"text of a message that is poison", table(nullable("a", tInt), nullable("all", tString)), config(map[string]decode.Column{"all": {From: ".", Cast: "json"}}), `{"a":"x"}`, `!type_mismatch@a`},
		{"nested unit", table(nullable("m", arrow.StructOf(nullable("l", arrow.ListOf(tTime))))), config(map[string]decode.Column{"m.l.element": {Epoch: "micros"}}), `{"m":{"l":[5]}}`, `{m:{l:[5]}}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			row, poison := decodeOne(t, test.schema, test.config, []byte(test.message))
			got := row
			if poison != nil {
				got = "!" + poison.Reason + "@" + poison.Path
			}
			if got != test.want {
				t.Errorf("got %s %v, want %s", got, poison, test.want)
			}
		})
	}
}

// TestEqualKeysOfMapsInMapsAreLinear: each level's key comes twice. Were an entry decoded again for that, 40 levels would take 2^40 steps. (So many does Arrow
// take for an array of the type, so that the builders are looked at.)
func TestEqualKeysOfMapsInMapsAreLinear(t *testing.T) {
	const levels = 40
	typ, message := tInt, `7`
	for range levels {
		typ, message = arrow.MapOf(tString, typ), `{"k":null,"k":`+message+`}`
	}
	d := newDecoder(t, arrow.NewSchema([]arrow.Field{nullable("v", typ)}, nil), decode.Config{})
	if err := d.Append(&kgo.Record{Value: []byte(`{"v":` + message + `}`)}); err != nil {
		t.Fatal(err)
	}
	decodetest.MapsInMaps(t, d.Builders().Columns[0], levels, func(values *decode.Builder) *decode.Builder { return values })
}

// TestLargestMessages: a message that no batch can hold is poison that tells its schema.
func TestLargestMessages(t *testing.T) {
	plan, err := decode.NewPlan(arrow.NewSchema([]arrow.Field{nullable("a", tInt)}, nil), decode.Config{})
	if err != nil {
		t.Fatal(err)
	}
	d := NewFramed(plan, Registry(decode.ValueSchemaHeader, func(ref decode.SchemaRef) (string, error) { return ref.String(), nil }))
	rec := &kgo.Record{Topic: "t", Partition: 2, Offset: 7, Value: []byte("\x00\x00\x00\x00\x09{}")}
	for part := make([]byte, 128<<20); len(rec.Headers) < 16; { // 2 GiB, which a batch can't address
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: "h", Value: part})
	}
	if e, ok := errors.AsType[*decode.PoisonError](d.Append(rec)); !ok || e.Reason != decode.ReasonTooLarge || e.Schema != "schema id 9" || e.Offset != 7 {
		t.Errorf("got %v", e)
	}
	rec.Headers = nil
	if err := d.Append(rec); err != nil || d.Rows() != 1 {
		t.Errorf("without its headers: %v", err)
	}
}

// TestFramedMessagesAreKnown: whoever forgot to say that a registry's serializers wrote the messages is told.
func TestFramedMessagesAreKnown(t *testing.T) {
	_, poison := decodeOne(t, arrow.NewSchema([]arrow.Field{nullable("a", tInt)}, nil), decode.Config{}, []byte("\x00\x00\x00\x00\x01{}"))
	if poison == nil || !strings.Contains(poison.Detail, "read with framing registry") || !strings.Contains(poison.Error(), "decoding t/2 offset 7: invalid_json: the message starts") {
		t.Errorf("the poison is %v", poison)
	}
}
