package avro

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/linkedin/goavro/v2"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
	"kafkadelta/internal/decodetest"
)

// message encodes a value by goavro.
func message(t testing.TB, schema string, native any) []byte {
	t.Helper()
	codec, err := goavro.NewCodec(schema)
	if err != nil {
		t.Fatal(err)
	}
	data, err := codec.BinaryFromNative(nil, native)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func parsed(t testing.TB, text string) *Schema {
	t.Helper()
	s, err := Parse("schema 7", text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func recordOf(fields string) string { return `{"type":"record","name":"r","fields":[` + fields + `]}` }

var (
	timestamp = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
	local     = &arrow.TimestampType{Unit: arrow.Microsecond}
	noon      = time.Date(2013, 1, 2, 12, 0, 0, 123456000, time.UTC)
)

// TestValues has a case for each type that a value may come from and each column that it may go to.
func TestValues(t *testing.T) {
	fixed := func(n int, logical string) string {
		return fmt.Sprintf(`{"type":"fixed","name":"x","size":%d,"logicalType":%q,"precision":20,"scale":2}`, n, logical)
	}
	with := func(typ, logical string) string { return fmt.Sprintf(`{"type":%q,"logicalType":%q}`, typ, logical) }
	decimals := `{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}`
	price := big.NewRat(1234567, 100)
	for _, tt := range []struct {
		name, typ string // of the writer
		raw       any    // as goavro takes it; []byte: as it is on the wire
		column    arrow.DataType
		want      any
		refused   string // the reason, or for a schema that never fits type_mismatch
	}{
		{"int", `"int"`, int32(7), arrow.PrimitiveTypes.Int32, 7.0, ""},
		{"int to bigint", `"int"`, int32(-7), arrow.PrimitiveTypes.Int64, "-7", ""},
		{"int to float", `"int"`, int32(7), arrow.PrimitiveTypes.Float32, 7.0, ""},
		{"int to double", `"int"`, int32(7), arrow.PrimitiveTypes.Float64, 7.0, ""},
		{"int to decimal", `"int"`, int32(-7), &arrow.Decimal128Type{Precision: 5, Scale: 2}, "-7.00", ""},
		{"int that the decimal has no room for", `"int"`, int32(1000), &arrow.Decimal128Type{Precision: 5, Scale: 2}, nil, "out_of_range"},
		{"int to tinyint", `"int"`, int32(127), arrow.PrimitiveTypes.Int8, "int8", ""},
		{"int beyond tinyint", `"int"`, int32(128), arrow.PrimitiveTypes.Int8, nil, "out_of_range"},
		{"int beyond smallint", `"int"`, int32(-32769), arrow.PrimitiveTypes.Int16, nil, "out_of_range"},
		{"int to text", `"int"`, int32(7), arrow.BinaryTypes.String, nil, "type_mismatch"},
		{"int of more than 32 bits", `"int"`, []byte{0x80, 0x80, 0x80, 0x80, 0x20}, arrow.PrimitiveTypes.Int64, nil, "invalid_avro"},
		{"long to int", `"long"`, int64(7), arrow.PrimitiveTypes.Int32, nil, "type_mismatch"},
		{"long to double", `"long"`, int64(1) << 40, arrow.PrimitiveTypes.Float64, float64(int64(1) << 40), ""},
		{"the largest long", `"long"`, int64(1<<63 - 1), arrow.PrimitiveTypes.Int64, "9223372036854775807", ""},
		{"the smallest long", `"long"`, int64(-1 << 63), arrow.PrimitiveTypes.Int64, "-9223372036854775808", ""},
		{"a long of 11 bytes", `"long"`, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, arrow.PrimitiveTypes.Int64, nil, "invalid_avro"},
		{"a long of 65 bits", `"long"`, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02}, arrow.PrimitiveTypes.Int64, nil, "invalid_avro"},
		{"float to double", `"float"`, float32(0.5), arrow.PrimitiveTypes.Float64, 0.5, ""},
		{"double to float", `"double"`, 0.5, arrow.PrimitiveTypes.Float32, nil, "type_mismatch"},
		{"string to binary", `"string"`, "ab", arrow.BinaryTypes.Binary, "6162", ""},
		{"bytes to string", `"bytes"`, []byte{4, 'a', 'b'}, arrow.BinaryTypes.String, "ab", ""},
		{"bytes to string that are not UTF-8", `"bytes"`, []byte{4, 0xff, 'b'}, arrow.BinaryTypes.String, nil, "invalid_utf8"},
		{"string that is not UTF-8", `"string"`, []byte{4, 0xff, 'b'}, arrow.BinaryTypes.String, nil, "invalid_utf8"},
		{"string of a date", `"string"`, "2013-01-02", arrow.FixedWidthTypes.Date32, 15707.0, ""},
		{"string of an instant", `"string"`, "2013-01-02T12:00:00.123456Z", timestamp, fmt.Sprint(noon.UnixMicro()), ""},
		{"string of no instant", `"string"`, "yesterday", timestamp, nil, "invalid_value"},
		{"string of a decimal", `"string"`, "1.5", &arrow.Decimal128Type{Precision: 5, Scale: 2}, "1.50", ""},
		{"uuid", with("string", "uuid"), "550e8400-e29b-41d4-a716-446655440000", arrow.BinaryTypes.String, "550e8400-e29b-41d4-a716-446655440000", ""},
		{"uuid of bytes", fixed(16, "uuid"), []byte("\x55\x0e\x84\x00\xe2\x9b\x41\xd4\xa7\x16\x44\x66\x55\x44\x00\x00"), arrow.BinaryTypes.String, "550e8400-e29b-41d4-a716-446655440000", ""},
		{"fixed", fixed(2, ""), []byte{1, 2}, arrow.BinaryTypes.Binary, "0102", ""},
		{"fixed to string", fixed(2, ""), []byte{1, 2}, arrow.BinaryTypes.String, nil, "type_mismatch"},
		{"duration", fixed(12, "duration"), []byte{1, 0, 0, 0, 2, 0, 0, 0, 0xbc, 0x0b, 0, 0}, arrow.BinaryTypes.String, "P1M2DT3.004S", ""},
		{"duration as bytes", fixed(12, "duration"), make([]byte, 12), arrow.BinaryTypes.Binary, strings.Repeat("00", 12), ""},
		{"decimal", decimals, price, &arrow.Decimal128Type{Precision: 10, Scale: 2}, "12345.67", ""},
		{"decimal to a wider one", decimals, price, &arrow.Decimal128Type{Precision: 38, Scale: 10}, "12345.6700000000", ""},
		{"decimal to a narrower scale", decimals, price, &arrow.Decimal128Type{Precision: 10, Scale: 1}, nil, "inexact"},
		{"decimal to a narrower scale that has room", decimals, big.NewRat(123, 10), &arrow.Decimal128Type{Precision: 10, Scale: 1}, "12.3", ""},
		{"decimal to a narrower precision", decimals, price, &arrow.Decimal128Type{Precision: 6, Scale: 2}, nil, "out_of_range"},
		{"decimal of 17 bytes", decimals, append([]byte{34, 1}, make([]byte, 16)...), &arrow.Decimal128Type{Precision: 38, Scale: 2}, nil, "out_of_range"},
		{"the smallest 128 bits", decimals, append([]byte{32, 0x80}, make([]byte, 15)...), &arrow.Decimal128Type{Precision: 38, Scale: 2}, nil, "out_of_range"},
		{"decimal with a long sign", decimals, append([]byte{40}, append(bytesOf(0xff, 19), 0x85)...), &arrow.Decimal128Type{Precision: 10, Scale: 2}, "-1.23", ""},
		{"fixed decimal", fixed(3, "decimal"), []byte{0xff, 0xff, 0x85}, &arrow.Decimal128Type{Precision: 20, Scale: 2}, "-1.23", ""},
		{"decimal as a text", decimals, price, arrow.BinaryTypes.String, "12345.67", ""},
		{"decimal below one as a text", decimals, big.NewRat(-1, 100), arrow.BinaryTypes.String, "-0.01", ""},
		{"decimal of no bytes as a text", decimals, []byte{0}, arrow.BinaryTypes.String, "0.00", ""},
		{"decimal of 17 bytes as a text", decimals, append([]byte{34, 1}, make([]byte, 16)...), arrow.BinaryTypes.String, "3402823669209384634633746074317682114.56", ""},
		{"decimal of 1,025 bytes as a text", decimals, append(varint(1025), make([]byte, 1025)...), arrow.BinaryTypes.String, nil, "out_of_range"},
		{"decimal without a scale as a text", `{"type":"bytes","logicalType":"decimal","precision":4}`, []byte{2, 0x81}, arrow.BinaryTypes.String, "-127", ""},
		{"fixed decimal as a text", fixed(3, "decimal"), []byte{0xff, 0xff, 0x85}, arrow.BinaryTypes.String, "-1.23", ""},
		{"decimal as bytes", decimals, []byte{2, 7}, arrow.BinaryTypes.Binary, "07", ""},
		{"date", with("int", "date"), []byte{2}, arrow.FixedWidthTypes.Date32, 1.0, ""},
		{"date to timestamp", with("int", "date"), []byte{2}, timestamp, "86400000000", ""},
		{"date to int", with("int", "date"), []byte{2}, arrow.PrimitiveTypes.Int32, 1.0, ""},
		{"time-millis", with("int", "time-millis"), []byte{2}, arrow.PrimitiveTypes.Int32, 1.0, ""},
		{"time-millis to timestamp", with("int", "time-millis"), []byte{2}, timestamp, nil, "type_mismatch"},
		{"timestamp-millis", with("long", "timestamp-millis"), noon, timestamp, fmt.Sprint(noon.UnixMilli() * 1000), ""},
		{"timestamp-micros", with("long", "timestamp-micros"), noon, timestamp, fmt.Sprint(noon.UnixMicro()), ""},
		{"timestamp-micros to date", with("long", "timestamp-micros"), noon, arrow.FixedWidthTypes.Date32, 15707.0, ""},
		{"timestamp-micros to bigint", with("long", "timestamp-micros"), noon, arrow.PrimitiveTypes.Int64, fmt.Sprint(noon.UnixMicro()), ""},
		{"timestamp-nanos", with("long", "timestamp-nanos"), varint(-1), timestamp, "-1", ""},
		{"local-timestamp-millis", with("long", "local-timestamp-millis"), varint(-1), local, "-1000", ""},
		{"timestamp beyond the year 9999", with("long", "timestamp-millis"), varint(253402300800000), timestamp, nil, "out_of_range"},
		{"long to timestamp", `"long"`, varint(1500), timestamp, "1500000", ""},
		{"enum", `{"type":"enum","name":"e","symbols":["A","B"]}`, "B", arrow.BinaryTypes.String, "B", ""},
		{"enum without that symbol", `{"type":"enum","name":"e","symbols":["A","B"]}`, []byte{4}, arrow.BinaryTypes.String, nil, "invalid_avro"},
		{"boolean of 2", `"boolean"`, []byte{2}, arrow.FixedWidthTypes.Boolean, nil, "invalid_avro"},
		{"union of int and long", `["null","int","long"]`, []byte{4, 6}, arrow.PrimitiveTypes.Int64, "3", ""},
		{"union of int and string, the int", `["int","string"]`, []byte{0, 6}, arrow.PrimitiveTypes.Int64, "3", ""},
		{"union of int and string, the string", `["int","string"]`, []byte{2, 2, 'x'}, arrow.PrimitiveTypes.Int64, nil, "type_mismatch"},
		{"union without that type", `["null","int"]`, []byte{4, 6}, arrow.PrimitiveTypes.Int32, nil, "invalid_avro"},
		{"union of one", `["int"]`, []byte{0, 6}, arrow.PrimitiveTypes.Int32, 3.0, ""},
		{"union of two as members", `["string","null","int"]`, []byte{4, 6}, arrow.StructOf(
			arrow.Field{Name: "member0", Type: arrow.BinaryTypes.String, Nullable: true}, arrow.Field{Name: "member1", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
			arrow.Field{Name: "more", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		), map[string]any{"member0": nil, "member1": 3.0, "more": nil}, ""},
		{"array in blocks with sizes", `{"type":"array","items":"int"}`, []byte{3, 4, 2, 4, 2, 6, 0}, arrow.ListOf(arrow.PrimitiveTypes.Int32), []any{1.0, 2.0, 3.0}, ""},
		{"array of more items than bytes", `{"type":"array","items":"null"}`, []byte{0x80, 0x80, 0x80, 0x80, 0x10, 0}, arrow.ListOf(arrow.PrimitiveTypes.Int32), nil, "too_large"},
		{"map with a key twice", `{"type":"map","values":"int"}`, []byte{6, 2, 'a', 2, 2, 'b', 4, 2, 'a', 6, 0}, arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int32), map[string]any{"a": 3.0, "b": 2.0}, ""},
		{"null", `"null"`, []byte{}, arrow.PrimitiveTypes.Int32, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			schema := recordOf(`{"name":"c","type":` + tt.typ + `},{"name":"end","type":"int"}`)
			value, wire := tt.raw.([]byte)
			if wire {
				value = append(slices.Clip(value), 0x54)
			} else {
				value = message(t, schema, map[string]any{"c": tt.raw, "end": 42})
			}
			table := arrow.NewSchema([]arrow.Field{{Name: "c", Type: tt.column, Nullable: true}, {Name: "end", Type: arrow.PrimitiveTypes.Int32, Nullable: true}}, nil)
			d := New(planFor(t, table, decode.Config{}), Options{Framing: Bare(parsed(t, schema))})
			err := d.Append(&kgo.Record{Topic: "t", Partition: 1, Offset: 5, Value: value})
			if tt.refused != "" {
				e, ok := errors.AsType[*decode.PoisonError](err)
				if !ok || e.Reason != tt.refused || e.Path != "c" || e.Schema != "schema 7" || e.Offset != 5 || d.Rows() != 0 {
					t.Fatalf("want %s at c, got %v", tt.refused, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			b := d.NewBatch()
			defer b.Release()
			got := rowShown(b, 0)
			if tt.want == "int8" {
				tt.want = fmt.Sprintf("%T", b.Column(0))
			}
			if !equal(got["c"], tt.want) || !equal(got["end"], 42.0) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func bytesOf(b byte, n int) []byte { return []byte(strings.Repeat(string([]byte{b}), n)) }

func varint(v int64) []byte { return binary.AppendVarint(nil, v) }

// TestResolution holds the rules about fields: any order, unknown ones passed over, missing ones by the reader's default, names by
// the reader's aliases.
func TestResolution(t *testing.T) {
	writer := recordOf(`{"name":"extra","type":{"type":"record","name":"deep","fields":[{"name":"next","type":["null","deep"]},{"name":"text","type":"string"}]}},
		{"name":"old","type":"int"},{"name":"b","type":"string"},{"name":"inner","type":{"type":"record","name":"i","fields":[{"name":"x","type":"int"}]}},
		{"name":"kind","type":{"type":"enum","name":"k","symbols":["A","NEW"]}}`)
	reader := recordOf(`{"name":"b","type":"string"},{"name":"a","type":"long","aliases":["old"]},
		{"name":"list","type":{"type":"array","items":["null","int"]},"default":[1,null,3]},{"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":5,"scale":2},"default":"\u0001\u0000"},
		{"name":"inner","type":{"type":"record","name":"i","fields":[{"name":"x","type":"int"},{"name":"y","type":["null","string"],"default":null},{"name":"z","type":{"type":"map","values":"string"},"default":{"k":"v"}}]}},
		{"name":"kind","type":{"type":"enum","name":"k","symbols":["A","OTHER"],"default":"OTHER"}}`)
	f := func(name string, t arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: t, Nullable: true}
	}
	text := arrow.BinaryTypes.String
	table := arrow.NewSchema([]arrow.Field{
		f("a", arrow.PrimitiveTypes.Int64), f("b", text), f("list", arrow.ListOf(arrow.PrimitiveTypes.Int32)), f("price", &arrow.Decimal128Type{Precision: 5, Scale: 2}),
		f("inner", arrow.StructOf(f("z", arrow.MapOf(text, text)), f("x", arrow.PrimitiveTypes.Int32), f("y", text))), f("kind", text), f("none", text),
	}, nil)
	value := message(t, writer, map[string]any{
		"extra": map[string]any{"next": map[string]any{"deep": map[string]any{"next": nil, "text": "two"}}, "text": "one"},
		"old":   1, "b": "bee", "inner": map[string]any{"x": 5}, "kind": "NEW",
	})
	d := New(planFor(t, table, decode.Config{}), Options{Framing: Bare(parsed(t, writer)), Reader: parsed(t, reader)})
	for range 2 {
		if err := d.Append(&kgo.Record{Value: value}); err != nil {
			t.Fatal(err)
		}
	}
	b := d.NewBatch()
	defer b.Release()
	want := map[string]any{
		"a": "1", "b": "bee", "list": []any{1.0, nil, 3.0}, "price": "2.56", "kind": "OTHER", "none": nil,
		"inner": map[string]any{"x": 5.0, "y": nil, "z": map[string]any{"k": "v"}},
	}
	for i := range 2 {
		if got := rowShown(b, i); !equal(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
	}
	d = New(planFor(t, table, decode.Config{}), Options{Framing: Bare(parsed(t, writer))})
	if err := d.Append(&kgo.Record{Value: value}); err != nil {
		t.Fatal(err)
	}
	without := d.NewBatch()
	defer without.Release()
	want = map[string]any{
		"a": nil, "b": "bee", "list": nil, "price": nil, "kind": "NEW", "none": nil, "inner": map[string]any{"x": 5.0, "y": nil, "z": nil},
	}
	if got := rowShown(without, 0); !equal(got, want) {
		t.Errorf("without a reader\ngot  %v\nwant %v", got, want)
	}
}

// TestComputedColumns feeds columns from other fields: copies, parts of instants, substrings, fields of records and keys of maps.
func TestComputedColumns(t *testing.T) {
	writer := recordOf(`{"name":"at","type":["null",{"type":"long","logicalType":"timestamp-millis"}]},{"name":"text","type":"string"},
		{"name":"meta","type":["null",{"type":"record","name":"m","fields":[{"name":"host","type":"string"},{"name":"n","type":"int"}]}]},
		{"name":"tags","type":{"type":"map","values":"string"}}`)
	f := func(name string, t arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: t, Nullable: true}
	}
	text := arrow.BinaryTypes.String
	table := arrow.NewSchema([]arrow.Field{
		f("text", text), f("day", arrow.FixedWidthTypes.Date32), f("hour", arrow.PrimitiveTypes.Int32), f("start", text), f("host", text), f("color", text), f("copy", text),
	}, nil)
	cfg := decode.Config{Columns: map[string]decode.Column{
		"day": {From: "at", Cast: "date"}, "hour": {From: "at", Cast: "hour"}, "start": {From: "text", Cast: "substring(1, 3)"},
		"host": {From: "meta.host"}, "color": {From: "tags.color"}, "copy": {From: "text"},
	}}
	d := New(planFor(t, table, cfg), Options{Framing: Bare(parsed(t, writer))})
	for _, m := range []map[string]any{
		{"at": goavro.Union("long.timestamp-millis", noon), "text": "wörld", "meta": goavro.Union("m", map[string]any{"host": "h", "n": 1}), "tags": map[string]any{"color": "red", "x": "y"}},
		{"at": nil, "text": "", "meta": nil, "tags": map[string]any{}},
	} {
		if err := d.Append(&kgo.Record{Value: message(t, writer, m)}); err != nil {
			t.Fatal(err)
		}
	}
	b := d.NewBatch()
	defer b.Release()
	for i, want := range []map[string]any{
		{"text": "wörld", "day": 15707.0, "hour": 12.0, "start": "wör", "host": "h", "color": "red", "copy": "wörld"},
		{"text": "", "day": nil, "hour": nil, "start": "", "host": nil, "color": nil, "copy": ""},
	} {
		if got := rowShown(b, i); !equal(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
	}
}

// TestSymbolsWithoutColumn: a column may be computed from an enum that has none of its own, where nothing else looks at its symbol.
func TestSymbolsWithoutColumn(t *testing.T) {
	writer := recordOf(`{"name":"kind","type":{"type":"enum","name":"k","symbols":["ONE","TWO"]}},{"name":"n","type":"int"}`)
	table := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int32, Nullable: true}, {Name: "short", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	cfg := decode.Config{Columns: map[string]decode.Column{"short": {From: "kind", Cast: "substring(1, 2)"}}}
	d := New(planFor(t, table, cfg), Options{Framing: Bare(parsed(t, writer))})
	for _, symbol := range []int64{2, 10, -1} {
		err := d.Append(&kgo.Record{Value: append(varint(symbol), 8)})
		if e, ok := errors.AsType[*decode.PoisonError](err); !ok || e.Reason != decode.ReasonInvalidAvro || e.Path != "kind" || !strings.Contains(e.Detail, fmt.Sprint("has no symbol ", symbol)) {
			t.Errorf("symbol %d: %v", symbol, err)
		}
	}
	if err := d.Append(&kgo.Record{Value: append(varint(1), 8)}); err != nil {
		t.Fatal(err)
	}
	b := d.NewBatch()
	defer b.Release()
	if got, want := rowShown(b, 0), map[string]any{"n": 4.0, "short": "TW"}; b.NumRows() != 1 || !equal(got, want) {
		t.Errorf("%d rows, the first is %v", b.NumRows(), got)
	}
}

// TestSubstringsOfSymbols: a part of an enum's symbol is of what a column of its own has, by the reader's schema, whatever the symbols of each writer are.
func TestSubstringsOfSymbols(t *testing.T) {
	enum := func(symbols, more string) string {
		return recordOf(`{"name":"kind","type":["null",{"type":"enum","name":"k","symbols":[` + symbols + `]` + more + `}]}`)
	}
	text := arrow.BinaryTypes.String
	table := arrow.NewSchema([]arrow.Field{{Name: "kind", Type: text, Nullable: true}, {Name: "short", Type: text, Nullable: true}}, nil)
	alone := arrow.NewSchema(table.Fields()[1:], nil)
	cfg := decode.Config{Columns: map[string]decode.Column{"short": {From: "kind", Cast: "substring(1, 3)"}}}
	before, after := parsed(t, enum(`"ONE","TWO"`, "")), parsed(t, enum(`"THREE","TWO","ONE"`, ""))
	for _, tt := range []struct {
		name, reader string
		want         []string // of the symbols 0 and 1 of the one writer, and 0 and 1 of the other
	}{
		{"no reader", "", []string{"ONE", "TWO", "THREE", "TWO"}},
		{"a default", enum(`"OTHER","TWO"`, `,"default":"OTHER"`), []string{"OTHER", "TWO", "OTHER", "TWO"}},
		{"no default", enum(`"OTHER","TWO"`, ""), []string{"ONE", "TWO", "THREE", "TWO"}},
	} {
		for _, columns := range []*arrow.Schema{table, alone} {
			var reader *Schema
			if tt.reader != "" {
				reader = parsed(t, tt.reader)
			}
			written := before
			d := New(planFor(t, columns, cfg), Options{Framing: func(*kgo.Record) (*Schema, int, error) { return written, 0, nil }, Reader: reader})
			for i := range tt.want {
				if i == 2 {
					written = after
				}
				if err := d.Append(&kgo.Record{Value: append(varint(1), varint(int64(i%2))...)}); err != nil {
					t.Fatal(err)
				}
			}
			b := d.NewBatch()
			for i, want := range tt.want {
				got, all := rowShown(b, i), map[string]any{"short": want[:3]}
				if columns == table {
					all["kind"] = want
				}
				if !equal(got, all) {
					t.Errorf("%s, row %d: got %v, want %v", tt.name, i, got, all)
				}
			}
			b.Release()
		}
	}
}

// TestRenamedListsAndMaps: lists and maps of small items may have another column, or several, also one that is found by a map's key.
func TestRenamedListsAndMaps(t *testing.T) {
	numbers, text := arrow.ListOf(arrow.PrimitiveTypes.Int32), arrow.BinaryTypes.String
	const n = 40
	var ones, trues, firsts, empties []any
	for range n {
		ones, trues, firsts, empties = append(ones, 1.0), append(trues, true), append(firsts, "A"), append(empties, "")
	}
	whole := append(append(varint(n), bytesOf(2, n)...), 0)
	for _, tt := range []struct {
		name, typ string
		value     []byte
		column    arrow.DataType
		from      string
		want      any
	}{
		{"ints", `{"type":"array","items":"int"}`, whole, numbers, "a", ones},
		{"booleans", `{"type":"array","items":"boolean"}`, append(append(varint(n), bytesOf(1, n)...), 0), arrow.ListOf(arrow.FixedWidthTypes.Boolean), "a", trues},
		{"symbols", `{"type":"array","items":{"type":"enum","name":"e","symbols":["A"]}}`, append(append(varint(n), bytesOf(0, n)...), 0), arrow.ListOf(text), "a", firsts},
		{"empty texts", `{"type":"array","items":"string"}`, append(append(varint(n), bytesOf(0, n)...), 0), arrow.ListOf(text), "a", empties},
		{"or null", `["null",{"type":"array","items":"int"}]`, append([]byte{2}, whole...), numbers, "a", ones},
		{"of a map's key", `{"type":"map","values":{"type":"array","items":"int"}}`, slices.Concat([]byte{4, 2, 'k'}, whole, []byte{2, 'x'}, whole, []byte{0}), numbers, "a.k", ones},
		{"of a record", `{"type":"record","name":"i","fields":[{"name":"x","type":{"type":"array","items":"int"}}]}`, whole, numbers, "a.x", ones},
		{"a map", `{"type":"map","values":{"type":"array","items":"int"}}`, append(append([]byte{2, 2, 'k'}, whole...), 0), arrow.MapOf(text, numbers), "a", map[string]any{"k": ones}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			writer := parsed(t, recordOf(`{"name":"a","type":`+tt.typ+`},{"name":"b","type":{"type":"array","items":"null"}}`))
			var fields []arrow.Field
			cfg := decode.Config{Columns: map[string]decode.Column{}}
			want := map[string]any{}
			for i := range 3 {
				name := fmt.Sprint("c", i)
				fields = append(fields, arrow.Field{Name: name, Type: tt.column, Nullable: true})
				cfg.Columns[name] = decode.Column{From: tt.from}
				want[name] = tt.want
			}
			d := New(planFor(t, arrow.NewSchema(fields, nil), cfg), Options{Framing: Bare(writer)})
			if err := d.Append(&kgo.Record{Value: append(slices.Clone(tt.value), 0)}); err != nil {
				t.Fatal(err)
			}
			// What is read several times is counted once: the items of the nulls behind it are bounded as before.
			err := d.Append(&kgo.Record{Value: append(append(slices.Clone(tt.value), varint(n)...), 0)})
			if e, ok := errors.AsType[*decode.PoisonError](err); !ok || e.Reason != decode.ReasonTooLarge || e.Path != "b" {
				t.Errorf("%d nulls more: %v", n, err)
			}
			b := d.NewBatch()
			defer b.Release()
			if got := rowShown(b, 0); b.NumRows() != 1 || !equal(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
		})
	}
}

// TestFramings tells schemas by id and by fingerprint, and what is wrong where they can't be told.
func TestFramings(t *testing.T) {
	one, two := recordOf(`{"name":"a","type":"int"}`), recordOf(`{"name":"b","type":"string"},{"name":"a","type":"int"}`)
	table := arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int32, Nullable: true}}, nil)
	schemas := map[int32]*Schema{1: parsed(t, one), 300: parsed(t, two)}
	later := &decode.RetryLaterError{After: time.Second, Cause: errors.New("the registry does not answer")}
	guid := [16]byte{0x89, 0x79, 0x17, 0x62, 0x23, 0x36, 0x41, 0x86, 0x96, 0x74, 0x29, 0x9b, 0x90, 0xa8, 0x02, 0xe2}
	registry := Registry(decode.ValueSchemaHeader, func(ref decode.SchemaRef) (*Schema, error) {
		switch id := ref.ID; {
		case ref.GUID == guid:
			return schemas[300], nil
		case schemas[id] != nil:
			return schemas[id], nil
		case id == 404:
			return nil, &decode.FramingError{Reason: decode.ReasonUnknownSchema, Detail: "the registry has no schema 404"}
		}
		return nil, later
	})
	single, err := SingleObject(schemas[1], schemas[300])
	if err != nil {
		t.Fatal(err)
	}
	encodedSingle := func(schema string) []byte {
		codec, err := goavro.NewCodec(schema)
		if err != nil {
			t.Fatal(err)
		}
		m, err := codec.SingleFromNative(nil, map[string]any{"a": 5, "b": "x"})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	first, second := message(t, one, map[string]any{"a": 5}), message(t, two, map[string]any{"a": 5, "b": "x"})
	for _, tt := range []struct {
		name    string
		framing Framing
		value   []byte
		header  []byte // __value_schema_id
		want    string // the row, the reason, or "later"
	}{
		{"registry, one", registry, append([]byte{0, 0, 0, 0, 1}, first...), nil, "map[a:5]"},
		{"registry, a guid", registry, slices.Concat([]byte{1}, guid[:], second), nil, "map[a:5]"},
		{"registry, a guid in the header", registry, second, append([]byte{1}, guid[:]...), "map[a:5]"},
		{"registry, an id in the header", registry, first, []byte{0, 0, 0, 0, 1}, "map[a:5]"},
		{"registry, a cut header", registry, append([]byte{0, 0, 0, 0, 1}, first...), []byte{1, 2}, "invalid_framing"},
		{"registry, an id that is no number of 31 bits", registry, append([]byte{0, 0x80, 0, 0, 1}, first...), nil, "invalid_framing"},
		{"registry, two", registry, append([]byte{0, 0, 0, 1, 44}, second...), nil, "map[a:5]"},
		{"registry, unknown", registry, []byte{0, 0, 0, 1, 0x94, 2}, nil, "unknown_schema"},
		{"registry down", registry, []byte{0, 0, 0, 0, 9, 2}, nil, "later"},
		{"no registry's magic byte", registry, []byte{1, 0, 0, 0, 1, 2}, nil, "invalid_framing"},
		{"shorter than a registry's header", registry, []byte{0, 0, 0, 0}, nil, "invalid_framing"},
		{"single object, one", single, encodedSingle(one), nil, "map[a:5]"},
		{"single object, two", single, encodedSingle(two), nil, "map[a:5]"},
		{"single object, unknown", single, encodedSingle(recordOf(`{"name":"a","type":"long"}`)), nil, "unknown_schema"},
		{"no single object", single, first, nil, "invalid_framing"},
		{"bytes behind the datum", registry, append([]byte{0, 0, 0, 0, 1}, 10, 10), nil, "trailing_data"},
		{"no value", registry, nil, nil, "tombstone"},
		{"no bytes", registry, []byte{}, nil, "empty"},
		{"no bytes, an id in the header", registry, []byte{}, []byte{0, 0, 0, 0, 1}, "empty"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := New(planFor(t, table, decode.Config{}), Options{Framing: tt.framing})
			rec := &kgo.Record{Value: tt.value}
			if tt.header != nil {
				rec.Headers = []kgo.RecordHeader{{Key: "other", Value: []byte("x")}, {Key: "__value_schema_id", Value: tt.header}}
			}
			err := d.Append(rec)
			poison, _ := errors.AsType[*decode.PoisonError](err)
			switch {
			case tt.want == "later" && errors.Is(err, later):
			case poison != nil && poison.Reason == tt.want:
			case err == nil:
				b := d.NewBatch()
				defer b.Release()
				if got := fmt.Sprint(rowShown(b, 0)); got != tt.want {
					t.Errorf("got %s, want %s", got, tt.want)
				}
			default:
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if tt.want == "empty" && (poison.Schema == "schema 7") != (tt.header != nil) {
				t.Errorf("it is told to be of %q", poison.Schema)
			}
		})
	}
}

// TestSchemasOfOneFingerprint: what the fingerprint leaves out may differ as long as no row does.
func TestSchemasOfOneFingerprint(t *testing.T) {
	for _, tt := range []struct{ one, two, want string }{
		{`{"name":"a","type":"long"}`, `{"name":"a","type":"long"}`, ""},
		{`{"name":"a","type":"long"}`, `{"name":"a","type":"long","default":1,"aliases":["b"],"doc":"counts"}`, ""},
		{`{"name":"a","type":"long"}`, `{"name":"a","type":{"type":"long","logicalType":"unknown"}}`, ""},
		{`{"name":"a","type":"string"}`, `{"name":"a","type":{"type":"string","logicalType":"uuid"}}`, ""},
		{`{"name":"a","type":"long"}`, `{"name":"b","type":"long"}`, ""}, // of two fingerprints
		{
			`{"name":"a","type":{"type":"long","logicalType":"timestamp-millis"}}`, `{"name":"a","type":"long"}`,
			"one.avsc and two.avsc have the same fingerprint 54f6d3744485515f, and a message tells no more of its schema: field a: the logical type is timestamp-millis in the one and none in the other; keep one of them",
		},
		{
			`{"name":"a","type":["null",{"type":"array","items":{"type":"map","values":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}}}]}`,
			`{"name":"a","type":["null",{"type":"array","items":{"type":"map","values":{"type":"bytes","logicalType":"decimal","precision":9,"scale":3}}}]}`,
			"field a.element.value: the logical type is decimal(9,2) in the one and decimal(9,3) in the other",
		},
		{ // within itself
			`{"name":"a","type":["null","r"]},{"name":"b","type":{"type":"fixed","name":"f","size":12,"logicalType":"duration"}}`,
			`{"name":"a","type":["null","r"]},{"name":"b","type":{"type":"fixed","name":"f","size":12}}`, "field b: the logical type is duration",
		},
	} {
		var schemas []*Schema
		for _, s := range [][2]string{{"one.avsc", tt.one}, {"two.avsc", tt.two}} {
			schema, err := Parse(s[0], recordOf(s[1]))
			if err != nil {
				t.Fatal(err)
			}
			schemas = append(schemas, schema)
		}
		_, err := SingleObject(schemas...)
		if err != nil && (tt.want == "" || !strings.Contains(err.Error(), tt.want)) || err == nil && tt.want != "" {
			t.Errorf("%s and %s: got %v, want %q", tt.one, tt.two, err, tt.want)
		}
	}
}

// TestSchemasInTurn: a decoder asks for a schema once, however messages of several take turns, but again for one that it did not get.
func TestSchemasInTurn(t *testing.T) {
	schema, asked := parsed(t, recordOf(`{"name":"a","type":"int"}`)), map[int32]int{}
	framing := Registry(decode.ValueSchemaHeader, func(ref decode.SchemaRef) (*Schema, error) {
		if asked[ref.ID]++; ref.ID == 3 {
			return nil, errors.New("later")
		}
		return schema, nil
	})
	rec := &kgo.Record{Value: []byte{0, 0, 0, 0, 0, 2}}
	for range 10 {
		for id := range byte(4) {
			rec.Value[4] = id
			if got, begin, err := framing(rec); (err != nil) != (id == 3) || err == nil && (got != schema || begin != 5) {
				t.Fatalf("schema %d: %v, %d, %v", id, got, begin, err)
			}
		}
	}
	if want := map[int32]int{0: 1, 1: 1, 2: 1, 3: 10}; !maps.Equal(asked, want) {
		t.Errorf("schemas are asked for %v times, want %v", asked, want)
	}
	if n := testing.AllocsPerRun(100, func() {
		rec.Value[4] = (rec.Value[4] + 1) % 3
		_, _, _ = framing(rec)
	}); n != 0 {
		t.Errorf("a change of schemas allocates %v times", n)
	}
}

// TestSchemas are texts that are no schemas, and some that look as if they were none.
func TestSchemas(t *testing.T) {
	for _, tt := range []struct{ text, err string }{
		{`{"type":"record","name":"r","fields":[{"name":"a","type":"nothing"}]}`, `field a: the type "nothing" is not defined`},
		{`{"type":"record","name":"r"}`, "no array of fields"},
		{`{"type":"enum","name":"e","symbols":[]}`, "no symbols"},
		{`{"type":"fixed","name":"f","size":-1}`, "no size"},
		{`{"type":"record","name":"r","fields":[{"name":"a","type":{"type":"fixed","name":"r","size":1}}]}`, "defined twice"},
		{`{"type":"record","name":"1r","fields":[]}`, "1r"},
		{`[]`, "no types"},
		{`{"type":`, "unexpected EOF"},
		{`{"type":"int"} {}`, "more follows"},
		{strings.Repeat(`{"type":"array","items":`, 200) + `"int"` + strings.Repeat("}", 200), "nested deeper"},
		{`{"type":"record","name":"r","namespace":"a.b","fields":[{"name":"x","type":{"type":"enum","name":"e","symbols":["A"]}},{"name":"y","type":"e"},{"name":"z","type":"a.b.e"}]}`, ""},
		{`{"type":"record","name":"r","fields":[{"name":"next","type":["null","r"]}]}`, ""},
		{`{"type":"record","name":"r","fields":[{"name":"a","type":"bytes","logicalType":"decimal","precision":4}]}`, ""},
		{`{"type":{"type":"record","name":"r","fields":[{"name":"a","type":"int","default":"seven"}]}}`, ""},
		{`string`, ""},
	} {
		_, err := Parse("", tt.text)
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%.80s: got %v, want %q", tt.text, err, tt.err)
		}
	}
	if _, err := Parse("", recordOf(`{"name":"a","type":"other.T"}`), `{"type":"fixed","name":"other.T","size":4}`); err != nil {
		t.Errorf("a reference: %v", err)
	}
	recursive := parsed(t, `{"type":"record","name":"r","fields":[{"name":"next","type":["null","r"]}]}`)
	if _, err := TableSchema(recursive); err == nil || !strings.Contains(err.Error(), "contains itself") {
		t.Errorf("a table of a recursive type: %v", err)
	}
}

// TestSkippedRecursionIsBounded: what is passed over may be as deep as the message is long.
func TestSkippedRecursionIsBounded(t *testing.T) {
	writer := recordOf(`{"name":"deep","type":{"type":"record","name":"d","fields":[{"name":"next","type":["null","d"]}]}},{"name":"a","type":"int"}`)
	table := arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int32, Nullable: true}}, nil)
	d := New(planFor(t, table, decode.Config{}), Options{Framing: Bare(parsed(t, writer))})
	err := d.Append(&kgo.Record{Value: append(bytesOf(2, 1<<20), 0, 10)})
	if e, ok := errors.AsType[*decode.PoisonError](err); !ok || e.Reason != decode.ReasonTooDeep {
		t.Errorf("got %v", err)
	}
	if err := d.Append(&kgo.Record{Value: append(bytesOf(2, 400), 0, 10)}); err != nil {
		t.Error(err)
	}
}

// doubled are n records of which each has the next one twice, the second time as another type of it, and the last one what it is given.
func doubled(n int, last, second string) string {
	for i := n - 1; i >= 0; i-- {
		again := last
		if i < n-1 {
			again = fmt.Sprintf(`"d%d"`, i+1)
		}
		last = fmt.Sprintf(`{"type":"record","name":"d%d","fields":[{"name":"a","type":%s},{"name":"b","type":`+second+`}]}`, i, last, again)
	}
	return last
}

// TestFieldsAreBounded: 40 records of which each has the next one twice are 2^40 fields.
func TestFieldsAreBounded(t *testing.T) {
	s := parsed(t, recordOf(`{"name":"n","type":"int"},{"name":"deep","type":`+doubled(40, `"int"`, `{"type":"array","items":%s}`)+`}`))
	if _, err := TableSchema(s); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("schema 7 record r has %d fields", decode.MaxFields+1)) {
		t.Error(err)
	}
	table, err := MessageSchema(s, nil, func(path string) bool { return path == "deep" }, nil)
	if err != nil || table.NumFields() != 2 || table.Field(1).Type != arrow.Null {
		t.Errorf("what is given: %v, %v", table, err)
	}
}

// TestNothingsAreSkippedAtOnce: 2^40 nulls take no byte, and no time.
func TestNothingsAreSkippedAtOnce(t *testing.T) {
	table := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int32, Nullable: true}}, nil)
	d := New(planFor(t, table, decode.Config{}), Options{Framing: Bare(parsed(t, recordOf(`{"name":"deep","type":`+doubled(40, `"null"`, "%s")+`},{"name":"n","type":"int"}`)))})
	if err := d.Append(&kgo.Record{Value: varint(5)}); err != nil {
		t.Fatal(err)
	}
	rb := d.NewBatch()
	defer rb.Release()
	if got := rb.Column(0).ValueStr(0); got != "5" {
		t.Errorf("n is %s", got)
	}
}

// TestGrowthIsBounded: one byte may become a long symbol, and a batch's offsets have 31 bits.
func TestGrowthIsBounded(t *testing.T) {
	symbol := strings.Repeat("S", 100_000)
	writer := recordOf(`{"name":"a","type":{"type":"array","items":{"type":"enum","name":"e","symbols":["` + symbol + `"]}}}`)
	s := parsed(t, writer)
	table, err := TableSchema(s)
	if err != nil {
		t.Fatal(err)
	}
	d := New(planFor(t, table, decode.Config{}), Options{Framing: Bare(s)})
	n := 30_000 // 3 GB of text in 30 kB
	value := append(append(varint(int64(n)), bytesOf(0, n)...), 0)
	if e, ok := errors.AsType[*decode.PoisonError](d.Append(&kgo.Record{Value: value})); !ok || e.Reason != decode.ReasonTooLarge || e.Schema != "schema 7" {
		t.Errorf("got %v", e)
	}
}

// TestEqualKeysOfMapsInMapsAreLinear: each level's key comes twice. Were an entry decoded again for that, 40 levels would take 2^40 steps. (So many does Arrow
// take for an array of the type, so that the builders are looked at.)
func TestEqualKeysOfMapsInMapsAreLinear(t *testing.T) {
	const levels = 40
	typ, value, column := `"int"`, []byte{14}, arrow.PrimitiveTypes.Int32
	for range levels { // the first of the two values is an empty map, or 0
		typ, value, column = `{"type":"map","values":`+typ+`}`, slices.Concat([]byte{4, 2, 'k', 0, 2, 'k'}, value, []byte{0}), arrow.MapOf(arrow.BinaryTypes.String, column)
	}
	d := New(planFor(t, arrow.NewSchema([]arrow.Field{nullable("a", column)}, nil), decode.Config{}), Options{Framing: Bare(parsed(t, recordOf(`{"name":"a","type":`+typ+`}`)))})
	if err := d.Append(&kgo.Record{Value: value}); err != nil {
		t.Fatal(err)
	}
	decodetest.MapsInMaps(t, d.Builders().Columns[0], levels, func(values *decode.Builder) *decode.Builder { return values })
}

// TestReadersOfOtherNames: a registry lets records be renamed, and what the reader's schema says counts all the same, as in Java; among several types of a union
// the full name counts before the name, and no other type is taken for one.
func TestReadersOfOtherNames(t *testing.T) {
	f := func(name string, t arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: t, Nullable: true}
	}
	i32, text := arrow.PrimitiveTypes.Int32, arrow.BinaryTypes.String
	writer := `{"type":"record","name":"shop.Order","fields":[{"name":"old","type":"int"},
		{"name":"in","type":["null",{"type":"record","name":"In","fields":[{"name":"x","type":"int"}]}]},
		{"name":"kind","type":{"type":"enum","name":"k","symbols":["A","NEW"]}},
		{"name":"u","type":["int",{"type":"record","name":"b.R","fields":[{"name":"p","type":"int"}]},{"type":"record","name":"a.R","fields":[{"name":"p","type":"int"}]},
			{"type":"record","name":"c.S","fields":[{"name":"p","type":"int"}]}]}]}`
	reader := `{"type":"record","name":"other.OrderV2","fields":[{"name":"a","type":"int","aliases":["old"]},{"name":"d","type":"int","default":9},
		{"name":"in","type":["null",{"type":"record","name":"Inner","fields":[{"name":"y","type":"int","aliases":["x"]}]}]},
		{"name":"kind","type":{"type":"enum","name":"kinds","symbols":["A","OTHER"],"default":"OTHER"}},
		{"name":"u","type":["long",{"type":"record","name":"a.R","fields":[{"name":"ofA","type":"int","aliases":["p"]}]},{"type":"record","name":"b.R","fields":[{"name":"ofB","type":"int","aliases":["p"]}]}]}]}`
	table := arrow.NewSchema([]arrow.Field{f("a", i32), f("d", i32), f("in", arrow.StructOf(f("y", i32))), f("kind", text),
		f("u", arrow.StructOf(f("member_a_R", arrow.StructOf(f("ofA", i32))), f("member_b_R", arrow.StructOf(f("ofB", i32))), f("member_s", arrow.StructOf(f("p", i32))), f("member_long", arrow.PrimitiveTypes.Int64)))}, nil)
	d := New(planFor(t, table, decode.Config{}), Options{Framing: Bare(parsed(t, writer)), Reader: parsed(t, reader)})
	for _, tt := range []struct {
		u    any
		want map[string]any
	}{
		{goavro.Union("a.R", map[string]any{"p": 1}), map[string]any{"member_a_R": map[string]any{"ofA": 1.0}}},
		{goavro.Union("b.R", map[string]any{"p": 2}), map[string]any{"member_b_R": map[string]any{"ofB": 2.0}}},
		{goavro.Union("c.S", map[string]any{"p": 3}), map[string]any{"member_s": map[string]any{"p": 3.0}}},
		{goavro.Union("int", 4), map[string]any{"member_long": "4"}},
	} {
		value := message(t, writer, map[string]any{"old": 5, "in": goavro.Union("shop.In", map[string]any{"x": 6}), "kind": "NEW", "u": tt.u})
		if err := d.Append(&kgo.Record{Value: value}); err != nil {
			t.Fatal(err)
		}
		b := d.NewBatch()
		u := map[string]any{"member_a_R": nil, "member_b_R": nil, "member_s": nil, "member_long": nil}
		maps.Copy(u, tt.want)
		want := map[string]any{"a": 5.0, "d": 9.0, "in": map[string]any{"y": 6.0}, "kind": "OTHER", "u": u}
		if got := rowShown(b, 0); !equal(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
		b.Release()
	}
}

// TestGrowthOfDefaults: each item that lacks a field gets its default, whose symbols may be long.
func TestGrowthOfDefaults(t *testing.T) {
	symbol := strings.Repeat("S", 1000)
	item := func(more string) string {
		return recordOf(`{"name":"a","type":{"type":"array","items":{"type":"record","name":"i","fields":[{"name":"x","type":"int"}` + more + `]}}}`)
	}
	reader := parsed(t, item(`,{"name":"y","type":{"type":"array","items":{"type":"enum","name":"e","symbols":["`+symbol+`"]}},"default":[`+strings.Repeat(`"`+symbol+`",`, 999)+`"`+symbol+`"]}`))
	table, err := TableSchema(reader)
	if err != nil {
		t.Fatal(err)
	}
	writer := parsed(t, item(""))
	d := New(planFor(t, table, decode.Config{}), Options{Framing: Bare(writer), Reader: reader})
	if _, growth, err := d.compile(writer, reader); err != nil || growth < 1000*1000 {
		t.Fatalf("a byte may become %d, %v: a million", growth, err)
	}
	n := 3000 // 3 GB of text in 3 kB
	value := append(append(varint(int64(n)), bytesOf(0, n)...), 0)
	if e, ok := errors.AsType[*decode.PoisonError](d.Append(&kgo.Record{Value: value})); !ok || e.Reason != decode.ReasonTooLarge {
		t.Errorf("got %v", e)
	}
}
