package delta_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/delta"
)

func validUTF8(s string) bool { return utf8.ValidString(s) }

// The protocol's own example (PROTOCOL.md, "Schema Serialization Format", "Example").
const protocolExample = `{
  "type" : "struct",
  "fields" : [
    {"name" : "a", "type" : "integer", "nullable" : false, "metadata" : { }},
    {"name" : "b", "type" : {"type" : "struct", "fields" : [{"name" : "d", "type" : "integer", "nullable" : false, "metadata" : { }}]},
     "nullable" : true, "metadata" : { }},
    {"name" : "c", "type" : {"type" : "array", "elementType" : "integer", "containsNull" : false}, "nullable" : true, "metadata" : { }},
    {"name" : "e", "type" : {"type" : "array", "elementType" : {"type" : "struct", "fields" : [
       {"name" : "d", "type" : "integer", "nullable" : false, "metadata" : { }}]}, "containsNull" : true}, "nullable" : true, "metadata" : { }},
    {"name" : "f", "type" : {"type" : "map", "keyType" : "string", "valueType" : "string", "valueContainsNull" : true},
     "nullable" : true, "metadata" : { }}
  ]
}`

func TestSchemaOfTheProtocolRoundTrips(t *testing.T) {
	s, err := delta.SchemaFromJSON(protocolExample)
	check(t, err)
	js, err := delta.SchemaToJSON(s)
	check(t, err)
	if js != withoutSpace(protocolExample) {
		t.Errorf("got\n%s\nwant\n%s", js, withoutSpace(protocolExample))
	}
	if got, want := delta.FormatDDL(s), "a INT NOT NULL, b STRUCT<d: INT NOT NULL>, c ARRAY<INT>, e ARRAY<STRUCT<d: INT NOT NULL>>, f MAP<STRING, STRING>"; got != want {
		t.Errorf("DDL %s, want %s", got, want)
	}
}

func TestSchemaArrowTypes(t *testing.T) {
	s := must(delta.ParseDDL("a STRING, b BIGINT, c TIMESTAMP, d TIMESTAMP_NTZ, e DATE, f DECIMAL(20,3), g ARRAY<BINARY>, h MAP<STRING, BOOLEAN>"))
	want := []arrow.DataType{
		arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64, &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"},
		&arrow.TimestampType{Unit: arrow.Microsecond}, arrow.FixedWidthTypes.Date32, &arrow.Decimal128Type{Precision: 20, Scale: 3},
		arrow.ListOfField(arrow.Field{Name: "element", Type: arrow.BinaryTypes.Binary, Nullable: true}),
		arrow.MapOf(arrow.BinaryTypes.String, arrow.FixedWidthTypes.Boolean),
	}
	for i, f := range s.Fields() {
		if !arrow.TypeEqual(f.Type, want[i]) {
			t.Errorf("%s is %s, want %s", f.Name, f.Type, want[i])
		}
	}
}

func TestSchemaKeepsColumnMetadata(t *testing.T) {
	const js = `{"type":"struct","fields":[{"name":"a","type":"long","nullable":true,"metadata":{"comment":"<b> & é","delta.identity.start":9007199254740993,"x":[1,{"y":null}]}}]}`
	s, err := delta.SchemaFromJSON(js)
	check(t, err)
	back, err := delta.SchemaToJSON(s)
	check(t, err)
	if back != js {
		t.Errorf("got %s\nwant %s", back, js)
	}
}

func TestSchemaRefusals(t *testing.T) {
	field := func(typ string) string {
		return `{"type":"struct","fields":[{"name":"outer","type":{"type":"struct","fields":[{"name":"x","type":` + typ + `,"nullable":true,"metadata":{}}]},"nullable":true,"metadata":{}}]}`
	}
	for typ, feature := range map[string]string{
		`"void"`: "void", `"variant"`: "variantType", `"interval day to second"`: "interval", `"varchar(3)"`: "varchar", `{"type":"udt"}`: "user-defined type", `"int99"`: "type int99",
	} {
		_, err := delta.SchemaFromJSON(field(typ))
		var e *delta.UnsupportedError
		if !errors.As(err, &e) || !errors.Is(err, delta.ErrUnsupported) || e.Features[0] != feature || !strings.Contains(err.Error(), "outer.x") {
			t.Errorf("%s: %v, want the feature %s and the column", typ, err, feature)
		}
	}
	for js, words := range map[string]string{
		"": "end of JSON", "null": "the top level: the type has no name", `"string"`: "not a struct", `[]`: "the top level: the type is a JSON array",
		field(`"decimal(39,0)"`): "column outer.x: decimal(39,0)", field(`"decimal(3"`): "column outer.x:", field(`{"type":"array"}`): "column outer.x.element: the type is missing",
		field(`7`): "column outer.x: the type is a JSON number", field(`{"type":"struct","fields":[{"name":"a","type":"long","nullable":"no"}]}`): "column outer.x: fields.nullable is a JSON string",
		`{"type":"struct","fields":[{"type":"long"}]}`: "the top level: field 0 has no name", `{"type":"struct","fields":[{"name":"a","type":"long","metadata":7}]}`: "column a: its metadata is no JSON object: 7",
		strings.Repeat(`{"type":"array","elementType":`, 300) + `"long"` + strings.Repeat("}", 300): "deeper than 100",
	} {
		if _, err := delta.SchemaFromJSON(js); err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "Go ") {
			t.Errorf("%.80s: %v, want %q", js, err, words)
		}
	}
	for _, typ := range []arrow.DataType{
		arrow.PrimitiveTypes.Uint32, arrow.FixedWidthTypes.Timestamp_ns, &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "Europe/Berlin"},
		arrow.BinaryTypes.LargeString, &arrow.Decimal128Type{Precision: 10, Scale: -1}, arrow.FixedWidthTypes.Date64,
	} {
		s := arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.StructOf(arrow.Field{Name: "b", Type: typ})}}, nil)
		if _, err := delta.SchemaToJSON(s); err == nil || !strings.Contains(err.Error(), "a.b") {
			t.Errorf("%s: %v, want an error that names a.b", typ, err)
		}
	}
}
