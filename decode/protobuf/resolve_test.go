package protobuf

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/bufbuild/protocompile"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"kafkadelta/decode"
	"kafkadelta/internal/decodetest"
)

// encoded is a message that is given as text.
func encoded(t testing.TB, typ *Type, text string) []byte {
	t.Helper()
	m := dynamicpb.NewMessage(typ.descriptor)
	if err := prototext.Unmarshal([]byte(text), m); err != nil {
		t.Fatal(err)
	}
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if data == nil {
		data = []byte{}
	}
	return data
}

func column(t arrow.DataType) *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{{Name: "c", Type: t, Nullable: true}, {Name: "end", Type: arrow.PrimitiveTypes.Int32, Nullable: true}}, nil)
}

var (
	timestamp = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
	local     = &arrow.TimestampType{Unit: arrow.Microsecond}
	text      = arrow.BinaryTypes.String
)

// TestValues has a case for each type that a value may come from and each column that it may go to.
func TestValues(t *testing.T) {
	structOf := func(names ...string) arrow.DataType {
		var fields []arrow.Field
		for _, n := range names {
			fields = append(fields, arrow.Field{Name: n, Type: arrow.PrimitiveTypes.Int64, Nullable: true})
		}
		return arrow.StructOf(fields...)
	}
	for _, tt := range []struct {
		name, typ, value string // value is text; a hexadecimal one, behind 0x:, is the wire's
		column           arrow.DataType
		want             string
		refused          string
	}{
		{"int32", "int32", "c: -7", arrow.PrimitiveTypes.Int32, "-7", ""},
		{"int32 that is absent is zero", "int32", "", arrow.PrimitiveTypes.Int32, "0", ""},
		{"int32 that may be absent is null", "optional int32", "", arrow.PrimitiveTypes.Int32, "<nil>", ""},
		{"int32 of 64 bits", "int32", "0x:08ffffffff1f", arrow.PrimitiveTypes.Int32, "-1", ""},
		{"int32 to bigint", "int32", "c: -7", arrow.PrimitiveTypes.Int64, "-7", ""},
		{"int32 to tinyint", "int32", "c: 127", arrow.PrimitiveTypes.Int8, "127", ""},
		{"int32 beyond tinyint", "int32", "c: 128", arrow.PrimitiveTypes.Int8, "", "out_of_range"},
		{"int32 beyond smallint", "sint32", "c: -32769", arrow.PrimitiveTypes.Int16, "", "out_of_range"},
		{"int32 to decimal", "int32", "c: -7", &arrow.Decimal128Type{Precision: 5, Scale: 2}, "-7.00", ""},
		{"int32 to text", "int32", "c: 7", text, "", "type_mismatch"},
		{"int64 to int", "int64", "c: 7", arrow.PrimitiveTypes.Int32, "7", ""},
		{"int64 beyond int", "int64", "c: 2147483648", arrow.PrimitiveTypes.Int32, "", "out_of_range"},
		{"int64 to timestamp", "int64", "c: 1500", timestamp, "1500000", ""},
		{"int64 to date", "int64", "c: 3", arrow.FixedWidthTypes.Date32, "3", ""},
		{"int64 to double", "sfixed64", "c: -3", arrow.PrimitiveTypes.Float64, "-3", ""},
		{"uint32", "uint32", "c: 4294967295", arrow.PrimitiveTypes.Int64, "4294967295", ""},
		{"uint64", "uint64", "c: 18446744073709551615", &arrow.Decimal128Type{Precision: 20}, "18446744073709551615", ""},
		{"uint64 beyond bigint", "fixed64", "c: 9223372036854775808", arrow.PrimitiveTypes.Int64, "", "out_of_range"},
		{"uint64 to double", "uint64", "c: 18446744073709551615", arrow.PrimitiveTypes.Float64, "1.8446744073709552e+19", ""},
		{"bool", "bool", "c: true", arrow.FixedWidthTypes.Boolean, "true", ""},
		{"float to double", "float", "c: 0.5", arrow.PrimitiveTypes.Float64, "0.5", ""},
		{"double to float", "double", "c: 0.5", arrow.PrimitiveTypes.Float32, "", "type_mismatch"},
		{"string to binary", "string", `c: "ab"`, arrow.BinaryTypes.Binary, "6162", ""},
		{"bytes to string", "bytes", `c: "ab"`, text, "ab", ""},
		{"bytes that are not UTF-8", "bytes", `c: "\xff"`, text, "", "invalid_utf8"},
		{"string that is not UTF-8", "string", "0x:0a01ff", text, "", "invalid_utf8"},
		{"string of a date", "string", `c: "2013-01-02"`, arrow.FixedWidthTypes.Date32, "15707", ""},
		{"no string of a date", "string", "", arrow.FixedWidthTypes.Date32, "<nil>", ""},
		{"string of an instant", "string", `c: "1970-01-01T00:00:01Z"`, timestamp, "1000000", ""},
		{"string with a zone, for a wall clock", "string", `c: "1970-01-01T00:00:01Z"`, local, "", "invalid_value"},
		{"string of a decimal", "string", `c: "1.5"`, &arrow.Decimal128Type{Precision: 5, Scale: 2}, "1.50", ""},
		{"enum", "E", "c: ONE", text, "ONE", ""},
		{"enum that is absent", "E", "", text, "ZERO", ""},
		{"enum without a name", "E", "0x:0863", text, "99", ""},
		{"enum as a number", "E", "c: ONE", arrow.PrimitiveTypes.Int32, "1", ""},
		{"timestamp", "google.protobuf.Timestamp", "c: {seconds: 1, nanos: 123456789}", timestamp, "1123456", ""},
		{"timestamp that is absent", "google.protobuf.Timestamp", "", timestamp, "<nil>", ""},
		{"timestamp to date", "google.protobuf.Timestamp", "c: {seconds: 86400}", arrow.FixedWidthTypes.Date32, "1", ""},
		{"timestamp as a struct", "google.protobuf.Timestamp", "c: {seconds: 1}", structOf("seconds"), "map[seconds:1]", ""},
		{"timestamp beyond 9999", "google.protobuf.Timestamp", "c: {seconds: 253402300800}", timestamp, "", "out_of_range"},
		{"timestamp with too many nanos", "google.protobuf.Timestamp", "c: {nanos: 1000000000}", timestamp, "", "out_of_range"},
		{"duration", "google.protobuf.Duration", "c: {seconds: -1, nanos: -340012000}", text, "-1.340012s", ""},
		{"duration in microseconds", "google.protobuf.Duration", "c: {seconds: 1, nanos: 5000}", arrow.PrimitiveTypes.Int64, "1000005", ""},
		{"duration of two signs", "google.protobuf.Duration", "c: {seconds: 1, nanos: -1}", text, "", "out_of_range"},
		{"wrapper", "google.protobuf.StringValue", `c: {value: "x"}`, text, "x", ""},
		{"wrapper of nothing", "google.protobuf.StringValue", `c: {}`, text, "", ""},
		{"wrapper that is absent", "google.protobuf.StringValue", ``, text, "<nil>", ""},
		{"wrapper as a struct", "google.protobuf.Int64Value", `c: {value: 5}`, structOf("value"), "map[value:5]", ""},
		{"struct", "google.protobuf.Struct", `c: {fields: {key: "b", value: {number_value: 1}}, fields: {key: "a", value: {null_value: NULL_VALUE}}}`, text, `{"a":null,"b":1}`, ""},
		{"value", "google.protobuf.Value", `c: {string_value: "x"}`, text, `"x"`, ""},
		{"list value", "google.protobuf.ListValue", `c: {values: {bool_value: true}}`, text, `[true]`, ""},
		{"a number that JSON lacks", "google.protobuf.Value", `c: {number_value: nan}`, text, `"NaN"`, ""},
		{"message", "M", "c: {a: 1, b: 2}", structOf("b", "x"), "map[b:2 x:<nil>]", ""},
		{"message to a number", "M", "c: {a: 1}", arrow.PrimitiveTypes.Int32, "", "type_mismatch"},
		{"message that comes in parts", "M", "0x:0a0208010a021002", structOf("a", "b"), "map[a:1 b:2]", ""},
		{"repeated", "repeated int32", "c: 1, c: 2", arrow.ListOf(arrow.PrimitiveTypes.Int32), "[1 2]", ""},
		{"repeated, packed and not", "repeated int32", "0x:080108020a020304", arrow.ListOf(arrow.PrimitiveTypes.Int32), "[1 2 3 4]", ""},
		{"repeated to a single one", "repeated int32", "c: 1", arrow.PrimitiveTypes.Int32, "", "type_mismatch"},
		{"map", "map<string, int32>", `c: {key: "a", value: 1}, c: {key: "b"}`, arrow.MapOf(text, arrow.PrimitiveTypes.Int32), "map[a:1 b:0]", ""},
		{"map with a key twice", "map<string, int32>", `0x:0a050a0161100` + `10a050a016210020a050a01611003`, arrow.MapOf(text, arrow.PrimitiveTypes.Int32), "map[a:3 b:2]", ""},
		{"map entry with a key that is not UTF-8 before another", "map<string, int32>", "0x:0a080a01ff0a01611001", arrow.MapOf(text, arrow.PrimitiveTypes.Int32), "", "invalid_utf8"},
		{"map entry with a value that is not UTF-8 before another", "map<string, string>", "0x:0a091201ff1201610a0161", arrow.MapOf(text, text), "", "invalid_utf8"},
		{"map entry with two values", "map<string, string>", "0x:0a091201621201610a0161", arrow.MapOf(text, text), "map[a:a]", ""},
		{"wrapper with a value that is not UTF-8 before another", "google.protobuf.StringValue", "0x:0a060a01ff0a0161", text, "", "invalid_utf8"},
		{"the last of two", "int32", "0x:08010802", arrow.PrimitiveTypes.Int32, "2", ""},
		{"a wire type of another field", "int32", "0x:0a0101", arrow.PrimitiveTypes.Int32, "0", ""},
		{"cut off", "string", "0x:0a05", text, "", "invalid_protobuf"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			typ := parsed(t, `syntax = "proto3"; import "google/protobuf/timestamp.proto"; import "google/protobuf/duration.proto"; import "google/protobuf/struct.proto";
				import "google/protobuf/wrappers.proto"; message Top { `+tt.typ+` c = 1; int32 end = 15; message M { int64 a = 1; int64 b = 2; } enum E { ZERO = 0; ONE = 1; } }`)
			var value []byte
			if wire, ok := strings.CutPrefix(tt.value, "0x:"); ok {
				if _, err := fmt.Sscanf(wire, "%x", &value); err != nil {
					t.Fatal(err)
				}
				if tt.refused != "invalid_protobuf" {
					value = append([]byte{0x78, 42}, value...)
				}
			} else {
				value = encoded(t, typ, tt.value+" end: 42")
			}
			d := New(planFor(t, column(tt.column), decode.Config{}), Bare(typ))
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
			if fmt.Sprint(got["c"]) != tt.want || got["end"] != "42" {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// TestOneofs: the last member counts, also where only a computed column reads it, and where the other has no column.
func TestOneofs(t *testing.T) {
	typ := parsed(t, `syntax = "proto3"; message Top { oneof o { int32 a = 1; string b = 2; M m = 3; } message M { int32 x = 1; int32 y = 2; } }`)
	f := func(name string, t arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: t, Nullable: true}
	}
	i32 := arrow.PrimitiveTypes.Int32
	table := arrow.NewSchema([]arrow.Field{f("a", i32), f("m", arrow.StructOf(f("x", i32), f("y", i32))), f("copy", i32), f("deep", i32)}, nil)
	cfg := decode.Config{Columns: map[string]decode.Column{"copy": {From: "a"}, "deep": {From: "m.x"}}}
	d := New(planFor(t, table, cfg), Bare(typ))
	for _, tt := range []struct {
		wire []byte
		want string
	}{
		{[]byte{0x08, 7}, "map[a:7 copy:7 deep:<nil> m:<nil>]"},
		{[]byte{0x08, 7, 0x12, 0}, "map[a:<nil> copy:<nil> deep:<nil> m:<nil>]"},
		{[]byte{0x08, 7, 0x1a, 2, 0x08, 1}, "map[a:<nil> copy:<nil> deep:1 m:map[x:1 y:0]]"},
		{[]byte{0x1a, 2, 0x08, 1, 0x1a, 2, 0x10, 2}, "map[a:<nil> copy:<nil> deep:1 m:map[x:1 y:2]]"},
		{[]byte{0x1a, 2, 0x08, 1, 0x08, 9, 0x1a, 2, 0x10, 2}, "map[a:<nil> copy:<nil> deep:0 m:map[x:0 y:2]]"},
		{[]byte{0x1a, 2, 0x08, 1, 0x1a, 2, 0x10, 2, 0x08, 9}, "map[a:9 copy:9 deep:<nil> m:<nil>]"},
	} {
		if err := d.Append(&kgo.Record{Value: tt.wire}); err != nil {
			t.Fatalf("%x: %v", tt.wire, err)
		}
		b := d.NewBatch()
		if got := fmt.Sprint(rowShown(b, 0)); got != tt.want {
			t.Errorf("%x: got %s, want %s", tt.wire, got, tt.want)
		}
		b.Release()
	}
}

// TestComputedColumns feeds columns from other fields.
func TestComputedColumns(t *testing.T) {
	typ := parsed(t, `syntax = "proto3"; import "google/protobuf/timestamp.proto"; message Top { google.protobuf.Timestamp at = 1; string text = 2; map<string, string> tags = 3; E kind = 4; string when = 5;
		enum E { UNKNOWN = 0; CLICK = 1; } }`)
	f := func(name string, t arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: t, Nullable: true}
	}
	table := arrow.NewSchema([]arrow.Field{
		f("text", text), f("day", arrow.FixedWidthTypes.Date32), f("hour", arrow.PrimitiveTypes.Int32), f("start", text), f("color", text), f("k", text), f("year", arrow.PrimitiveTypes.Int32),
	}, nil)
	cfg := decode.Config{Columns: map[string]decode.Column{
		"day": {From: "at", Cast: "date"}, "hour": {From: "at", Cast: "hour"}, "start": {From: "text", Cast: "substring(1, 3)"},
		"color": {From: "tags.color"}, "k": {From: "kind", Cast: "substring(1, 2)"}, "year": {From: "when", Cast: "year"},
	}}
	d := New(planFor(t, table, cfg), Bare(typ))
	for _, m := range []string{`at: {seconds: 7200} text: "wörld" tags: {key: "color" value: "red"} tags: {key: "x" value: "y"} kind: CLICK when: "2013-01-02"`, ``} {
		if err := d.Append(&kgo.Record{Value: encoded(t, typ, m)}); err != nil {
			t.Fatal(err)
		}
	}
	b := d.NewBatch()
	defer b.Release()
	for i, want := range []string{
		"map[color:red day:0 hour:2 k:CL start:wör text:wörld year:2013]", "map[color:<nil> day:<nil> hour:<nil> k:UN start: text: year:<nil>]",
	} {
		if got := fmt.Sprint(rowShown(b, i)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// TestRequired: proto2's required fields are asked for, with a column and without.
func TestRequired(t *testing.T) {
	typ := parsed(t, `syntax = "proto2"; message Top { required int32 a = 1; required int32 hidden = 2; }`)
	table := arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int32, Nullable: true}}, nil)
	d := New(planFor(t, table, decode.Config{}), Bare(typ))
	for wire, path := range map[string]string{"\x08\x01\x10\x01": "", "\x10\x01": "a", "\x08\x01": "hidden"} {
		err := d.Append(&kgo.Record{Value: []byte(wire)})
		e, _ := errors.AsType[*decode.PoisonError](err)
		if path == "" && err != nil || path != "" && (e == nil || e.Path != path || e.Reason != decode.ReasonInvalidProto) {
			t.Errorf("%x: %v", wire, err)
		}
	}
}

const nested = `syntax = "proto3"; package shop; message Order { int32 a = 1; } message Other { message First { int32 x = 1; } message Inner { int32 a = 2; } }`

// TestDescriptorsAsSchemas: a registry may have a file's descriptor in base64, as Python's serializer registers it, also of an import.
func TestDescriptorsAsSchemas(t *testing.T) {
	text := func(file protoreflect.FileDescriptor) string {
		d := protodesc.ToFileDescriptorProto(file)
		for _, m := range d.GetMessageType() {
			for _, f := range m.GetField() {
				f.JsonName = nil // as in what protoc generates
			}
		}
		data, err := proto.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(data)
	}
	price := `syntax = "proto3"; package shop; message Price { int64 units_per_line = 1; }`
	order := `syntax = "proto3"; package shop; import "shop/price.proto"; import "google/protobuf/timestamp.proto"; message Order { Price price = 1; google.protobuf.Timestamp at = 2; }`
	ofPrice, err := Parse(t.Context(), "", price)
	if err != nil {
		t.Fatal(err)
	}
	ofOrder, err := Parse(t.Context(), "", order, Reference{"shop/price.proto", price})
	if err != nil {
		t.Fatal(err)
	}
	for _, main := range []string{order, text(ofOrder.file)} {
		for _, imported := range []string{price, text(ofPrice.file)} {
			s, err := Parse(t.Context(), "schema 1", main, Reference{"shop/price.proto", imported})
			if err != nil {
				t.Fatal(err)
			}
			typ, err := s.First()
			if err != nil {
				t.Fatal(err)
			}
			table, err := TableSchema(typ)
			if err != nil || table.String() != "schema:\n  fields: 2\n    - price: type=struct<units_per_line: int64 nullable>, nullable\n    - at: type=timestamp[us, tz=UTC], nullable" {
				t.Errorf("%v, %v", table, err)
			}
			inner := typ.descriptor.Fields().ByName("price").Message().Fields().Get(0)
			if inner.JSONName() != "unitsPerLine" {
				t.Errorf("in JSON: %s", inner.JSONName())
			}
		}
	}
	if _, err := Parse(t.Context(), "schema 1", "AAAA"); err == nil {
		t.Error("no descriptor is a schema")
	}
}

// TestNamedTypes: a type is found by its full name, also a nested one.
func TestNamedTypes(t *testing.T) {
	schema, err := Parse(t.Context(), "schema 1", nested)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"shop.Other": "", "shop.Other.Inner": "", "shop.Inner": `no message type "shop.Inner"`, "": "has 2 message types"} {
		typ, err := schema.Named(name)
		if want == "" && (err != nil || string(typ.descriptor.FullName()) != name) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, %v", name, typ, err)
		}
	}
}

// TestFramingAfterFraming: what is kept of the message before is not taken for another type's, nor after a failure.
func TestFramingAfterFraming(t *testing.T) {
	schema, err := Parse(t.Context(), "schema 1", nested)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	framing := Registry(decode.ValueSchemaHeader, func(ref decode.SchemaRef) (*Schema, error) {
		if asked++; ref.ID != 1 {
			return nil, errors.New("later")
		}
		return schema, nil
	})
	for _, tt := range []struct {
		value, header []byte
		want          string // the type's name; empty for an error
		begin, asked  int
	}{
		{[]byte{0, 0, 0, 0, 1, 0, 8, 5}, nil, "shop.Order", 6, 1},
		{[]byte{0, 0, 0, 0, 1, 0, 8, 6}, nil, "shop.Order", 6, 1},
		{[]byte{0, 0, 0, 0, 1, 4, 2, 2, 16, 6}, nil, "shop.Other.Inner", 8, 2},
		{[]byte{0, 0, 0, 0, 1, 4, 2, 2, 16, 7}, nil, "shop.Other.Inner", 8, 2},
		{[]byte{16, 7}, []byte{0, 0, 0, 0, 1, 4, 2, 2}, "shop.Other.Inner", 0, 2},
		{[]byte{0, 0, 0, 0, 1, 2, 2, 8, 6}, nil, "shop.Other", 7, 3},
		{[]byte{0, 0, 0, 0, 2, 2, 2, 8, 6}, nil, "", 0, 4},
		{[]byte{0, 0, 0, 0, 2, 2, 2, 8, 6}, nil, "", 0, 5},
		{[]byte{0, 0, 0, 0, 1, 2, 2, 8, 6}, nil, "shop.Other", 7, 5},
		{[]byte{0, 0, 0, 0, 1, 4, 2, 2, 16, 6}, nil, "shop.Other.Inner", 8, 5},
		{[]byte{0, 0, 0, 0, 1, 0, 8, 5}, nil, "shop.Order", 6, 5},
		{[]byte{0, 0, 0, 0, 1, 2}, nil, "", 0, 5},
	} {
		rec := &kgo.Record{Value: tt.value}
		if tt.header != nil {
			rec.Headers = []kgo.RecordHeader{{Key: decode.ValueSchemaHeader, Value: tt.header}}
		}
		typ, begin, err := framing(rec)
		if (err != nil) != (tt.want == "") || begin != tt.begin || asked != tt.asked || err == nil && string(typ.descriptor.FullName()) != tt.want {
			t.Errorf("%v: %v, %d, %v; asked %d times", tt.value, typ, begin, err, asked)
		}
	}
}

// TestFramings tells types by a registry's message indexes.
func TestFramings(t *testing.T) {
	schema, err := Parse(t.Context(), "schema 1", nested)
	if err != nil {
		t.Fatal(err)
	}
	table := arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int32, Nullable: true}}, nil)
	later := errors.New("the registry does not answer")
	framing := Registry(decode.ValueSchemaHeader, func(ref decode.SchemaRef) (*Schema, error) {
		if ref.GUID == [16]byte{1} {
			return schema, nil
		}
		switch ref.ID {
		case 1:
			return schema, nil
		case 404:
			return nil, &decode.FramingError{Reason: decode.ReasonUnknownSchema, Detail: "the registry has no schema 404"}
		}
		return nil, later
	})
	head := func(id byte, indexes ...int64) []byte {
		out := []byte{0, 0, 0, id >> 7, id}
		for _, i := range indexes {
			out = binary.AppendVarint(out, i)
		}
		return out
	}
	for _, tt := range []struct {
		name  string
		value []byte
		want  string
	}{
		{"the first", append(head(1, 0), 8, 5), "map[a:5]"},
		{"by guid", slices.Concat([]byte{1, 1}, make([]byte, 15), []byte{4, 2, 2, 16, 6}), "map[a:6]"},
		{"the first, in full", append(head(1, 1, 0), 8, 5), "map[a:5]"},
		{"a nested one", append(head(1, 2, 1, 1), 16, 6), "map[a:6]"},
		{"one that there is none of", append(head(1, 1, 2), 8, 5), "invalid_framing"},
		{"negative indexes", append(head(1, 1, -1), 8, 5), "invalid_framing"},
		{"too many indexes", append(head(1, 1000), 8, 5), "invalid_framing"},
		{"cut off in the indexes", head(1, 2, 1), "invalid_framing"},
		{"unknown", append([]byte{0, 0, 0, 1, 0x94, 0}, 8, 5), "unknown_schema"},
		{"down", append(head(9, 0), 8, 5), "later"},
		{"no magic byte", []byte{1, 0, 0, 0, 1, 0, 8, 5}, "invalid_framing"},
		{"no message behind the header", head(1, 0), "map[a:0]"},
		{"only an id", []byte{0, 0, 0, 0, 1}, "invalid_framing"},
		{"no value", nil, "tombstone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := New(planFor(t, table, decode.Config{}), framing)
			err := d.Append(&kgo.Record{Value: tt.value})
			poison, _ := errors.AsType[*decode.PoisonError](err)
			switch {
			case tt.want == "later" && errors.Is(err, later):
			case poison != nil && poison.Reason == tt.want:
				if named := len(tt.value) > 4 && tt.value[0] == 0; named != (poison.Schema != "") && tt.want == "invalid_framing" {
					t.Errorf("the error tells schema %q: %v", poison.Schema, err)
				}
			case err == nil:
				b := d.NewBatch()
				defer b.Release()
				if got := fmt.Sprint(rowShown(b, 0)); got != tt.want {
					t.Errorf("got %s, want %s", got, tt.want)
				}
			default:
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// TestSchemas reads source text with references, and descriptor sets.
func TestSchemas(t *testing.T) {
	if _, err := Parse(t.Context(), "", `syntax = "proto3"; message`); err == nil || !strings.Contains(err.Error(), "schema.proto:1:") {
		t.Errorf("broken text: %v", err)
	}
	s, err := Parse(t.Context(), "", `syntax = "proto3"; import "a/b.proto"; message Top { b.B b = 1; }`, Reference{"a/b.proto", `syntax = "proto3"; package b; message B { int32 x = 1; }`})
	if err != nil {
		t.Fatal(err)
	}
	typ, err := s.First()
	if err != nil {
		t.Fatal(err)
	}
	if table, err := TableSchema(typ); err != nil || table.String() == "" {
		t.Error(err)
	}
	if _, err := TableSchema(parsed(t, `syntax = "proto3"; message Top { Top next = 1; }`)); err == nil || !strings.Contains(err.Error(), "contains itself") {
		t.Errorf("a recursive type: %v", err)
	}
	set := descriptorSet(t, nested)
	for name, want := range map[string]string{
		"shop.Other.Inner": "", "shop.Nothing": `no message type "shop.Nothing": it has [shop.Order shop.Other]`, "": "has 2 message types",
	} {
		if _, err := FromDescriptorSet(set, name); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if typ, err := FromDescriptorSet(descriptorSet(t, `syntax = "proto3"; package p; message Only { int32 a = 1; }`), ""); err != nil || typ.descriptor.FullName() != "p.Only" {
		t.Error(err)
	}
	if _, err := FromDescriptorSet([]byte("no set"), "x"); err == nil {
		t.Error("a broken set was read")
	}
}

// TestPathsWithinLists: fields of a repeated field are named as in tables, with what their lists call an element.
func TestPathsWithinLists(t *testing.T) {
	typ := parsed(t, `syntax = "proto3"; message Top { message Item { string x = 1; Item child = 2; repeated Empty none = 3; message Empty {} } repeated Item items = 1; }`)
	asked := map[string]bool{}
	s, err := MessageSchema(typ, func(path string) bool { asked[path] = true; return strings.HasPrefix(path, "items.element.") })
	if err != nil {
		t.Fatal(err)
	}
	f := func(name string, t arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: t, Nullable: true}
	}
	want := arrow.NewSchema([]arrow.Field{f("items", arrow.ListOf(arrow.StructOf(f("x", arrow.BinaryTypes.String), f("child", arrow.Null), f("none", arrow.Null))))}, nil)
	if !s.Equal(want) || !maps.Equal(asked, map[string]bool{"items.element.child": true, "items.element.none": true}) {
		t.Errorf("asked for %v, got %s", asked, s)
	}
	for given, says := range map[string]string{"": "field items.element.child: the message type Top.Item contains itself", "items.element.child": "field items.element.none.element: the message type Top.Item.Empty has no fields"} {
		if _, err := MessageSchema(typ, func(path string) bool { return path == given }); err == nil || !strings.HasPrefix(err.Error(), says) {
			t.Errorf("%q is given: %v", given, err)
		}
	}
}

// TestFieldsAreBounded: 40 messages of which each has the next one twice are 2^40 fields.
func TestFieldsAreBounded(t *testing.T) {
	text := `syntax = "proto3"; message Top { int32 n = 1; D0 deep = 2; } message D40 { int32 a = 1; }`
	for i := range 40 {
		text += fmt.Sprintf(" message D%d { D%d a = 1; repeated D%d b = 2; }", i, i+1, i+1)
	}
	typ := parsed(t, text)
	if _, err := TableSchema(typ); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("the message type Top has %d fields", decode.MaxFields+1)) {
		t.Error(err)
	}
	s, err := MessageSchema(typ, func(path string) bool { return path == "deep" })
	if err != nil || s.NumFields() != 2 || s.Field(1).Type != arrow.Null {
		t.Errorf("what is given: %v, %v", s, err)
	}
}

func descriptorSet(t *testing.T, text string) []byte {
	t.Helper()
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(map[string]string{"f.proto": text})}}
	files, err := compiler.Compile(t.Context(), "f.proto")
	if err != nil {
		t.Fatal(err)
	}
	data, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{protodesc.ToFileDescriptorProto(protoreflect.FileDescriptor(files[0]))}})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestGrowthIsBounded: two bytes may become a long name, and a batch's offsets have 31 bits.
func TestGrowthIsBounded(t *testing.T) {
	name := strings.Repeat("N", 100_000)
	typ := parsed(t, `syntax = "proto3"; message Top { repeated E a = 1 [packed = true]; enum E { `+name+` = 0; } }`)
	table, err := TableSchema(typ)
	if err != nil {
		t.Fatal(err)
	}
	d := New(planFor(t, table, decode.Config{}), Bare(typ))
	value := append(binary.AppendUvarint([]byte{0x0a}, 30_000), make([]byte, 30_000)...) // 3 GB of text in 30 kB
	if e, ok := errors.AsType[*decode.PoisonError](d.Append(&kgo.Record{Value: value})); !ok || e.Reason != decode.ReasonTooLarge || e.Schema != "schema 7" {
		t.Errorf("got %v", e)
	}
}

// BenchmarkDecode decodes web_requests into batches.
func BenchmarkDecode(b *testing.B) {
	typ, records := webRequests(b)
	table, err := TableSchema(typ)
	if err != nil {
		b.Fatal(err)
	}
	d := New(planFor(b, table, decode.Config{}), Bare(typ))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if err := d.Append(records[i]); err != nil {
			b.Fatal(err)
		}
		if i++; i == len(records) {
			i = 0
		}
		if d.Rows() == 8192 {
			d.NewBatch().Release()
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
}

func webRequests(t testing.TB) (*Type, []*kgo.Record) {
	typ := parsed(t, `syntax = "proto3"; import "google/protobuf/timestamp.proto"; message WebRequest { Meta meta = 1; string method = 2; string session_id = 3; int32 status = 4; string url = 5; string uuid = 6;
		message Meta { Producer producer = 1; } message Producer { google.protobuf.Timestamp timestamp = 1; } }`)
	var records []*kgo.Record
	for i := range 10_000 {
		records = append(records, &kgo.Record{Value: encoded(t, typ, fmt.Sprintf(
			`meta: {producer: {timestamp: {seconds: %d nanos: 321710000}}} method: "GET" session_id: "%08x-49bb-42b6-9c29-%012x" status: %d url: "http://www.site%d.com/abc" uuid: "%08x-c2b0-4e1a-8f9e-%012x"`,
			1616598377+i, i*7919, i*31, 200+i%5, i%500, i*104729, i*17))})
	}
	return typ, records
}

// TestAppendDoesNotAllocate: nothing allocates per message once buffers have grown.
func TestAppendDoesNotAllocate(t *testing.T) {
	typ, records := webRequests(t)
	table, err := TableSchema(typ)
	if err != nil {
		t.Fatal(err)
	}
	d := New(planFor(t, table, decode.Config{}), Bare(typ))
	for range 3 {
		for _, r := range records[:1000] {
			if err := d.Append(r); err != nil {
				t.Fatal(err)
			}
		}
		d.NewBatch().Release()
	}
	i := 0
	if n := testing.AllocsPerRun(900, func() {
		if err := d.Append(records[i]); err != nil {
			t.Fatal(err)
		}
		i++
	}); n != 0 {
		t.Errorf("%v allocations for a message", n)
	}
}

// TestRenamedListsAndMaps: columns take all of a repeated field or a map under another name, with its own column and without, also of a message that comes in
// parts, with keys that come twice.
func TestRenamedListsAndMaps(t *testing.T) {
	typ := parsed(t, `syntax = "proto3"; message Top { repeated int32 n = 1; map<string, M> tags = 2; M m = 3; repeated M all = 4; message M { repeated string s = 1; map<string, int32> k = 2; int32 x = 3; } }`)
	f := func(name string, t arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: t, Nullable: true}
	}
	i32 := arrow.PrimitiveTypes.Int32
	numbers, texts, keys := arrow.ListOf(i32), arrow.ListOf(text), arrow.MapOf(text, i32)
	message := arrow.StructOf(f("s", texts), f("x", i32))
	tags, all := arrow.MapOf(text, message), arrow.ListOf(message)
	renamed := []arrow.Field{f("n2", numbers), f("n3", numbers), f("tags2", tags), f("all2", all), f("s2", texts), f("k2", keys), f("one", i32)}
	cfg := decode.Config{Columns: map[string]decode.Column{
		"n2": {From: "n"}, "n3": {From: "n"}, "tags2": {From: "tags"}, "all2": {From: "all"}, "s2": {From: "m.s"}, "k2": {From: "m.k"}, "one": {From: "m.k.one"},
	}}
	for _, own := range []bool{false, true} {
		fields := renamed
		if own {
			fields = append([]arrow.Field{f("n", numbers), f("tags", tags), f("all", all), f("m", arrow.StructOf(f("s", texts), f("k", keys)))}, renamed...)
		}
		d := New(planFor(t, arrow.NewSchema(fields, nil), cfg), Bare(typ))
		parts := slices.Concat(encoded(t, typ, `n: [1, 2] tags: {key: "a" value: {s: "x" x: 1}} all: {x: 1} all: {s: "y"} m: {s: "p" k: {key: "one" value: 1} k: {key: "two" value: 2}}`),
			encoded(t, typ, `n: 3 tags: {key: "a" value: {x: 2}} m: {s: "q" k: {key: "one" value: 3}}`))
		for _, tt := range []struct {
			value       []byte
			want, ofOwn string
		}{
			{parts, "all2:[map[s:[] x:1] map[s:[y] x:0]] k2:map[one:3 two:2] n2:[1 2 3] n3:[1 2 3] one:3 s2:[p q] tags2:map[a:map[s:[] x:2]]",
				"all:[map[s:[] x:1] map[s:[y] x:0]] all2:[map[s:[] x:1] map[s:[y] x:0]] k2:map[one:3 two:2] m:map[k:map[one:3 two:2] s:[p q]] n:[1 2 3] n2:[1 2 3] n3:[1 2 3] one:3 s2:[p q] tags:map[a:map[s:[] x:2]] tags2:map[a:map[s:[] x:2]]"},
			{[]byte{}, "all2:[] k2:<nil> n2:[] n3:[] one:<nil> s2:<nil> tags2:map[]", "all:[] all2:[] k2:<nil> m:<nil> n:[] n2:[] n3:[] one:<nil> s2:<nil> tags:map[] tags2:map[]"},
		} {
			if err := d.Append(&kgo.Record{Value: tt.value}); err != nil {
				t.Fatal(err)
			}
			b := d.NewBatch()
			want := tt.want
			if own {
				want = tt.ofOwn
			}
			if got := fmt.Sprint(rowShown(b, 0)); got != "map["+want+"]" {
				t.Errorf("with columns of their own %v:\ngot  %s\nwant map[%s]", own, got, want)
			}
			b.Release()
		}
	}
	for path, why := range map[string]string{"all.x": "below a repeated one", "m.s.y": "below a repeated one"} {
		d := New(planFor(t, arrow.NewSchema([]arrow.Field{f("c", i32)}, nil), decode.Config{Columns: map[string]decode.Column{"c": {From: path}}}), Bare(typ))
		if err := d.Append(&kgo.Record{Value: []byte{}}); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestLastEntryOfAKey: of entries with one key the last one counts, also for computed columns that read fields below it: what it has not got is not there.
func TestLastEntryOfAKey(t *testing.T) {
	typ := parsed(t, `syntax = "proto3"; message Top { map<string, M> m = 1; message M { optional string s = 1; string t = 2; M in = 3; map<string, M> m = 4; int64 n = 5; } }`)
	text := arrow.BinaryTypes.String
	var fields []arrow.Field
	cfg := decode.Config{Columns: map[string]decode.Column{}}
	for name, from := range map[string]string{"s": "m.k.s", "t": "m.k.t", "in": "m.k.in.s", "deep": "m.k.m.k.s", "n": "m.k.n"} {
		typ := arrow.DataType(text)
		if name == "n" {
			typ = arrow.PrimitiveTypes.Int64
		}
		fields = append(fields, arrow.Field{Name: name, Type: typ, Nullable: true})
		cfg.Columns[name] = decode.Column{From: from}
	}
	plan := planFor(t, arrow.NewSchema(fields, nil), cfg)
	all := `m: {key: "k" value: {s: "x" t: "x" n: 7 in: {s: "x"} m: {key: "k" value: {s: "x"}}}}`
	for name, tt := range map[string]struct {
		entries []string
		want    string
	}{
		"one":                    {[]string{all}, "map[deep:x in:x n:7 s:x t:x]"},
		"an empty one last":      {[]string{all, `m: {key: "k" value: {}}`}, "map[deep:<nil> in:<nil> n:0 s:<nil> t:]"},
		"another key last":       {[]string{all, `m: {key: "other" value: {}}`}, "map[deep:x in:x n:7 s:x t:x]"},
		"some of it last":        {[]string{all, `m: {key: "k" value: {t: "y" in: {}}}`}, "map[deep:<nil> in:<nil> n:0 s:<nil> t:y]"},
		"another key within":     {[]string{all, `m: {key: "k" value: {m: {key: "other" value: {}}}}`}, "map[deep:<nil> in:<nil> n:0 s:<nil> t:]"},
		"all of it last":         {[]string{`m: {key: "k" value: {}}`, all}, "map[deep:x in:x n:7 s:x t:x]"},
		"three, the second full": {[]string{`m: {key: "k" value: {}}`, all, `m: {key: "k" value: {s: "z"}}`}, "map[deep:<nil> in:<nil> n:0 s:z t:]"},
	} {
		var wire []byte
		for _, e := range tt.entries {
			wire = append(wire, encoded(t, typ, e)...)
		}
		d := New(plan, Bare(typ))
		if err := d.Append(&kgo.Record{Value: wire}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b := d.NewBatch()
		if got := fmt.Sprint(rowShown(b, 0)); got != tt.want {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
		b.Release()
	}
}

// TestPartsInPartsAreLinear: messages that come in parts, within such, at 24 levels, take no longer than their bytes are worth.
func TestPartsInPartsAreLinear(t *testing.T) {
	typ := parsed(t, `syntax = "proto3"; message Top { N n = 1; map<string, N> all = 2; message N { N n = 1; map<string, N> all = 2; int32 x = 3; int32 y = 4; } }`)
	const levels = 24
	i32 := arrow.PrimitiveTypes.Int32
	f := func(name string, t arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: t, Nullable: true}
	}
	part := func(number byte, message []byte) []byte {
		return append(binary.AppendUvarint([]byte{number<<3 | 2}, uint64(len(message))), message...)
	}
	want := "map[x:1 y:2]"
	column := arrow.StructOf(f("x", i32), f("y", i32))
	message := []byte{0x18, 1, 0x20, 2}
	for level := range levels {
		message = slices.Concat(part(1, message), part(1, []byte{0x18, 1}), part(1, nil))
		if level < levels-1 {
			column, want = arrow.StructOf(f("n", column), f("x", i32), f("y", i32)), "map[n:"+want+" x:1 y:0]"
		}
	}
	entry := part(2, slices.Concat(part(1, []byte("k")), part(2, message), part(2, []byte{0x18, 5})))
	d := New(planFor(t, arrow.NewSchema([]arrow.Field{f("n", column), f("all", arrow.MapOf(text, arrow.StructOf(f("n", column), f("x", i32))))}, nil), decode.Config{}), Bare(typ))
	if err := d.Append(&kgo.Record{Value: slices.Concat(message, entry)}); err != nil {
		t.Fatal(err)
	}
	b := d.NewBatch()
	defer b.Release()
	if got := fmt.Sprint(rowShown(b, 0)); got != "map[all:map[k:map[n:"+want+" x:5]] n:"+want+"]" {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestEqualKeysOfMapsInMapsAreLinear: each level's key comes twice. Were an entry decoded again for that, 40 levels would take 2^40 steps. (So many does Arrow
// take for an array of the type, so that the builders are looked at.)
func TestEqualKeysOfMapsInMapsAreLinear(t *testing.T) {
	const levels = 40
	typ := parsed(t, `syntax = "proto3"; message Top { map<string, Top> all = 1; int32 x = 2; }`)
	part := func(number byte, message []byte) []byte {
		return append(binary.AppendUvarint([]byte{number<<3 | 2}, uint64(len(message))), message...)
	}
	f := func(name string, t arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: t, Nullable: true}
	}
	fields, message := []arrow.Field{f("x", arrow.PrimitiveTypes.Int32)}, []byte{0x10, 7}
	for range levels {
		fields = []arrow.Field{f("all", arrow.MapOf(text, arrow.StructOf(fields...)))}
		message = slices.Concat(part(1, part(1, []byte("k"))), part(1, slices.Concat(part(1, []byte("k")), part(2, message))))
	}
	d := New(planFor(t, arrow.NewSchema(fields, nil), decode.Config{}), Bare(typ))
	if err := d.Append(&kgo.Record{Value: message}); err != nil {
		t.Fatal(err)
	}
	decodetest.MapsInMaps(t, d.Builders().Columns[0], levels, func(values *decode.Builder) *decode.Builder { return values.Children[0] })
}

// TestBuiltInImports: what registries have built in needs no reference; a reference of the same path counts before it.
func TestBuiltInImports(t *testing.T) {
	var imports []string
	err := fs.WalkDir(builtIn, "imports", func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			imports = append(imports, strings.TrimPrefix(path, "imports/"))
		}
		return err
	})
	if err != nil || len(imports) < 19 {
		t.Fatalf("%v: %v", imports, err)
	}
	for _, name := range []string{"any", "api", "descriptor", "duration", "empty", "field_mask", "source_context", "struct", "timestamp", "type", "wrappers"} {
		imports = append(imports, "google/protobuf/"+name+".proto")
	}
	for _, path := range imports {
		if _, err := Parse(t.Context(), "schema 1", `syntax = "proto3"; import "`+path+`"; message Top { int32 a = 1; }`); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	s, err := Parse(t.Context(), "schema 1", `syntax = "proto3"; import "confluent/meta.proto"; import "confluent/type/decimal.proto"; import "google/type/money.proto";
		message Top { option (confluent.message_meta).doc = "orders"; confluent.type.Decimal price = 1 [(confluent.field_meta) = { params: [{ key: "precision", value: "8" }] }]; google.type.Money paid = 2; }`)
	if err != nil {
		t.Fatal(err)
	}
	typ, err := s.First()
	if err != nil {
		t.Fatal(err)
	}
	table, err := TableSchema(typ)
	if want := "schema:\n  fields: 2\n    - price: type=struct<value: binary nullable, precision: int64 nullable, scale: int32 nullable>, nullable\n" +
		"    - paid: type=struct<currency_code: utf8 nullable, units: int64 nullable, nanos: int32 nullable>, nullable"; err != nil || table.String() != want {
		t.Errorf("%v, %v", table, err)
	}
	own := Reference{"google/type/money.proto", `syntax = "proto3"; package google.type; message Money { string own = 1; }`}
	if s, err = Parse(t.Context(), "schema 1", `syntax = "proto3"; import "google/type/money.proto"; message Top { google.type.Money paid = 1; }`, own); err != nil {
		t.Fatal(err)
	}
	if fields := s.file.Messages().Get(0).Fields().Get(0).Message().Fields(); fields.Len() != 1 || fields.Get(0).Name() != "own" {
		t.Errorf("a reference: %v", fields)
	}
}

// TestGrowthIsOfOneColumn: many enums with long names make no message too large, since each column has its own 2 GiB.
func TestGrowthIsOfOneColumn(t *testing.T) {
	var enums strings.Builder
	for i := range 100 {
		fmt.Fprintf(&enums, "E%d e%d = %d; enum E%d { %s_%d = 0; }", i, i, i+2, i, strings.Repeat("N", 200), i)
	}
	typ := parsed(t, `syntax = "proto3"; message Top { bytes a = 1; `+enums.String()+` }`)
	table, err := TableSchema(typ)
	if err != nil {
		t.Fatal(err)
	}
	d := New(planFor(t, table, decode.Config{}), Bare(typ))
	rec := &kgo.Record{Value: append(binary.AppendUvarint([]byte{0x0a}, 1<<20), make([]byte, 1<<20)...)}
	for range 3 {
		if err := d.Append(rec); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReferenceWithTheNameOfTheSchema: the schema itself has no path, so that a reference may have the one that it is compiled under.
func TestReferenceWithTheNameOfTheSchema(t *testing.T) {
	for _, name := range []string{"money.proto", "schema.proto", "_schema.proto"} {
		s, err := Parse(t.Context(), "", `syntax = "proto3"; package shop; import "`+name+`"; message Order { string note = 1; common.Money m = 2; }`,
			Reference{"schema.proto", `syntax = "proto3"; package other; message Other { string id = 1; }`},
			Reference{name, `syntax = "proto3"; package common; message Money { string id = 1; }`})
		if err != nil {
			t.Fatal(err)
		}
		first, err := s.First()
		if err != nil || first.descriptor.FullName() != "shop.Order" {
			t.Errorf("with %s the first message is %s, %v", name, first.descriptor.FullName(), err)
		}
	}
}
