package jsonschema

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/decode"
)

// shown is a schema's columns as DDL.
func shown(fields []arrow.Field, between string) string {
	var out []string
	for _, f := range fields {
		out = append(out, f.Name+between+shownType(f.Type))
	}
	return strings.Join(out, ", ")
}

func shownType(t arrow.DataType) string {
	switch t := t.(type) {
	case *arrow.StructType:
		return "STRUCT<" + shown(t.Fields(), ": ") + ">"
	case *arrow.MapType:
		return "MAP<STRING, " + shownType(t.ItemType()) + ">"
	case *arrow.ListType:
		return "ARRAY<" + shownType(t.Elem()) + ">"
	}
	return decode.TypeName(t)
}

// TestTableSchema: what becomes of JSON Schemas, and what is refused.
func TestTableSchema(t *testing.T) {
	properties := func(p string) string { return `{"type":"object","properties":{` + p + `}}` }
	for _, tt := range []struct {
		name, schema string
		want         string // the columns, or what the error says
		references   []Reference
	}{
		{"types", properties(`"z":{"type":"string"},"a":{"type":"integer"},"n":{"type":"number"},"b":{"type":"boolean"}`), "z STRING, a BIGINT, n DOUBLE, b BOOLEAN", nil},
		{"formats", properties(`"t":{"type":"string","format":"date-time"},"d":{"type":"string","format":"date"},"u":{"type":"string","format":"uuid"},"x":{"type":"string","format":"own"},"b":{"type":"string","contentEncoding":"base64"}`),
			"t TIMESTAMP, d DATE, u STRING, x STRING, b BINARY", nil},
		{"null", properties(`"a":{"type":["null","integer"]},"b":{"oneOf":[{"type":"null"},{"type":"string"}]},"c":{"anyOf":[{"type":"number"},{"type":"null"}]}`), "a BIGINT, b STRING, c DOUBLE", nil},
		{"whole numbers and fractions", properties(`"a":{"type":["integer","number"]}`), "a DOUBLE", nil},
		{"enums", properties(`"a":{"enum":["x","y",null]},"b":{"const":1},"c":{"enum":[1,2.5]}`), "a STRING, b BIGINT, c DOUBLE", nil},
		{"numbers of whole value", properties(`"a":{"type":"integer","enum":[1.0,2e3,-3]},"b":{"enum":[1.0,2.0]},"c":{"type":"integer","const":1.00},"d":{"const":7.5}`), "a BIGINT, b DOUBLE, c BIGINT, d DOUBLE", nil},
		{"a fraction that is no integer", properties(`"a":{"type":"integer","const":1.5}`), "field a has nothing but nulls, or no value at all", nil},
		{"alternatives of one type", properties(`"a":{"oneOf":[{"const":"x","title":"X"},{"const":"y"},{"type":"null"}]},"b":{"type":"integer","anyOf":[{"const":1},{"enum":[2,3]}]},"c":{"anyOf":[{"const":1},{"const":2.5}]},"d":{"anyOf":[{"type":"string","maxLength":3},{"type":"string","pattern":"x"}]},"e":{"anyOf":[{"oneOf":[{"const":true},{"const":false}]},{"const":null}]}`),
			"a STRING, b BIGINT, c DOUBLE, d STRING, e BOOLEAN", nil},
		{"alternatives of consts of several types", properties(`"a":{"oneOf":[{"const":"x"},{"const":1}]}`), "field a has values of several types: give it the type STRING in table.columns", nil},
		{"alternatives of several formats", properties(`"a":{"oneOf":[{"type":"string","format":"date"},{"const":""}]}`), "a STRING", nil},
		{"alternatives of texts in several formats", properties(`"a":{"oneOf":[{"type":"string","format":"date"},{"type":"string","format":"date-time"}]},"b":{"anyOf":[{"type":"string","contentEncoding":"base64"},{"enum":["none",null]}]},"c":{"type":"string","format":"date","oneOf":[{"const":"2020-01-01"},{"format":"date","type":"string"}]}`), "a STRING, b STRING, c DATE", nil},
		{"a format of texts, and numbers", properties(`"a":{"oneOf":[{"type":"string","format":"date"},{"type":"integer"}]}`), "field a has values of several types", nil},
		{"alternatives of which one is anything", properties(`"a":{"anyOf":[{"type":"integer"},{}]},"b":{"oneOf":[true,{"type":"integer"}]},"c":{"anyOf":[{"type":"integer"},{"type":"string"},{"description":"more"}]},"d":{"anyOf":[{"type":"object","properties":{"x":{"type":"integer"}}},{}]},"e":{"anyOf":[{"type":"array","items":{"type":"integer"}},{}]}`), "a STRING, b STRING, c STRING, d STRING, e STRING", nil},
		{"alternatives of which one is nothing", properties(`"a":{"anyOf":[{"type":"integer"},false]}`), "a BIGINT", nil},
		{"anything within a type", properties(`"a":{"type":"integer","anyOf":[{"type":"integer"},{}]},"b":{"type":"object","properties":{"x":{"type":"integer"}},"anyOf":[{"properties":{"y":{"type":"string"}}},{}]},"c":{"type":"array","items":{"anyOf":[{"type":"integer"},{}]}}`), "a BIGINT, b STRUCT<x: BIGINT, y: STRING>, c ARRAY<STRING>", nil},
		{"properties by patterns", properties(`"a":{"type":"object","patternProperties":{"^x":{"type":"integer"}},"additionalProperties":{"type":"integer"}},"b":{"type":"object","patternProperties":{"^x":{"type":"integer"}},"additionalProperties":{}},"c":{"type":"object","patternProperties":{"^x":{"type":"integer"}},"additionalProperties":false},"d":{"type":"object","patternProperties":{"^x":false},"additionalProperties":{"type":"number"}}`),
			"a MAP<STRING, BIGINT>, b MAP<STRING, STRING>, c STRING, d MAP<STRING, DOUBLE>", nil},
		{"properties of several types by patterns", properties(`"m":{"type":"object","patternProperties":{"^x":{"type":"string"}},"additionalProperties":{"type":"integer"}}`), "field m.value has values of several types, by patternProperties", nil},
		{"properties of a pattern that no column can hold", properties(`"m":{"type":"object","patternProperties":{"^x":{"type":["string","integer"]}},"additionalProperties":{"type":"integer"}}`), "field m.value has values of several types", nil},
		{"nested", properties(`"a":{"type":"array","items":{"type":"object","properties":{"y":{"type":"integer"},"x":{"type":"string"}}}}`), "a ARRAY<STRUCT<y: BIGINT, x: STRING>>", nil},
		{"maps", properties(`"a":{"type":"object","additionalProperties":{"type":"integer"}}`), "a MAP<STRING, BIGINT>", nil},
		{"anything", properties(`"a":{},"b":true,"c":{"type":"object"},"d":{"type":"array"},"e":{"type":"object","additionalProperties":false}`), "a STRING, b STRING, c STRING, d ARRAY<STRING>, e STRING", nil},
		{"definitions", `{"$ref":"#/$defs/o","$defs":{"o":{"type":"object","properties":{"b":{"$ref":"#/$defs/i"},"a":{"$ref":"#/$defs/i"}}},"i":{"type":"integer"}}}`, "b BIGINT, a BIGINT", nil},
		{"draft 4", `{"$schema":"http://json-schema.org/draft-04/schema#","definitions":{"i":{"type":"integer"}},"type":"object","properties":{"b":{"$ref":"#/definitions/i"}}}`, "b BIGINT", nil},
		{"allOf", `{"allOf":[{"type":"object","properties":{"b":{"type":"number"}}},{"properties":{"a":{"type":"string"},"b":{"type":"integer"}}}]}`, "b BIGINT, a STRING", nil},
		{"anything beside the object that a message is", `{"anyOf":[{"type":"object","properties":{"a":{"type":"string"}}},{}]}`, "a STRING", nil},
		{"alternatives that only ask for properties", `{"type":"object","properties":{"a":{"type":"string"}},"anyOf":[{"required":["a"]},{"required":["b"]}]}`, "a STRING", nil},
		{"a name with a slash", properties(`"p":{"type":"object","properties":{"b/~c":{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"string"}}}}}`), "p STRUCT<b/~c: STRUCT<z: STRING, a: STRING>>", nil},
		{"references", properties(`"c":{"$ref":"common.json"},"d":{"$ref":"http://example.com/d.json#/definitions/x"}`), "c STRUCT<z: STRING, a: BIGINT>, d DATE",
			[]Reference{{"common.json", properties(`"z":{"type":"string"},"a":{"type":"integer"}`)}, {"http://example.com/d.json", `{"definitions":{"x":{"type":"string","format":"date"}}}`}}},
		{"a reference whose name ends with another one's", `{"type":"object","properties":{"n":{"$ref":"net/address.json"},"h":{"$ref":"address.json"}}}`, "n BIGINT, h STRING",
			[]Reference{{"address.json", `{"type":"string"}`}, {"net/address.json", `{"type":"integer"}`}}},
		{"the same below an id", `{"$id":"http://example.com/x/main.json","type":"object","properties":{"n":{"$ref":"net/address.json"},"h":{"$ref":"address.json"}}}`, "n BIGINT, h STRING",
			[]Reference{{"net/address.json", `{"type":"integer"}`}, {"address.json", `{"type":"string"}`}}},
		{"a reference with the name of the schema", `{"type":"object","properties":{"m":{"$ref":"main"},"n":{"$ref":"main_"}}}`, "m BIGINT, n STRING", []Reference{{"main", `{"type":"integer"}`}, {"main_", `{"type":"string"}`}}},
		{"the same, named in another order", `{"type":"object","properties":{"m":{"$ref":"main"},"n":{"$ref":"main_"}}}`, "m BIGINT, n STRING", []Reference{{"main_", `{"type":"string"}`}, {"main", `{"type":"integer"}`}}},
		{"references below an id", `{"$id":"http://example.com/main.json","type":"object","properties":{"c":{"$ref":"common.json"}}}`, "c BOOLEAN", []Reference{{"common.json", `{"type":"boolean"}`}}},
		{"no reference", properties(`"c":{"$ref":"file:///etc/passwd"}`), "not among the schema's references", nil},
		{"itself", properties(`"next":{"$ref":"#"}`), "field next.next contains itself", nil},
		{"circles", properties(`"a":{"$ref":"#/properties/b"},"b":{"$ref":"#/properties/a"}`), "circle", nil},
		{"several types", properties(`"a":{"type":["string","integer"]}`), "field a has values of several types", nil},
		{"several schemas", properties(`"a":{"oneOf":[{"type":"string"},{"type":"integer"}]}`), "field a has values of several types", nil},
		{"items of several types", properties(`"tags":{"type":"array","items":{"type":["string","integer"]}}`), "field tags.element has values of several types", nil},
		{"items of several schemas", properties(`"tags":{"type":"array","items":{"anyOf":[{"type":"string"},{"type":"object"}]}}`), "field tags.element: its values are of one of several schemas", nil},
		{"items of nothing", properties(`"tags":{"type":"array","items":{"type":"null"}}`), "field tags.element has nothing but nulls", nil},
		{"other properties of several types", properties(`"m":{"type":"object","additionalProperties":{"type":["string","integer"]}}`), "field m.value has values of several types", nil},
		{"an array within a struct", properties(`"s":{"type":"object","properties":{"tags":{"type":"array","items":{"type":"null"}}}}`), "field s.tags.element has nothing but nulls", nil},
		{"nothing", properties(`"a":{"type":"null"}`), "field a has nothing but nulls", nil},
		{"no object", `{"type":"string"}`, "names no properties", nil},
		{"no properties", `{"type":"object"}`, "names no properties", nil},
		{"no JSON", `{`, "reading a JSON Schema", nil},
		{"no schema", `{"type":"nothing"}`, "reading a JSON Schema", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := TableSchema(tt.schema, tt.references...)
			switch {
			case err != nil && !strings.Contains(err.Error(), tt.want):
				t.Errorf("%v, want %s", err, tt.want)
			case err == nil && shown(s.Fields(), " ") != tt.want:
				t.Errorf("%s, want %s", shown(s.Fields(), " "), tt.want)
			case err == nil:
				if _, err := decode.NewPlan(s, decode.Config{}); err != nil && !strings.Contains(tt.name, "slash") {
					t.Error(err)
				}
			}
		})
	}
}

// TestGivenFields: a field of a list or a map that no column can hold may be given, too.
func TestGivenFields(t *testing.T) {
	text := `{"type":"object","properties":{"tags":{"type":"array","items":{"type":["string","integer"]}},"m":{"type":"object","additionalProperties":{"type":"null"}},"n":{"type":"integer"}}}`
	s, err := MessageSchema(func(path string) bool { return path == "tags" || path == "m" }, text)
	if err != nil {
		t.Fatal(err)
	}
	want := arrow.NewSchema([]arrow.Field{{Name: "tags", Type: arrow.Null, Nullable: true}, {Name: "m", Type: arrow.Null, Nullable: true}, {Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)
	if !s.Equal(want) {
		t.Errorf("%s", s)
	}
}

// TestFieldsAreBounded: a schema may have as many fields as a table may sensibly have, and one more is an error, also where 40 definitions of which each has the next one twice are 2^40.
func TestFieldsAreBounded(t *testing.T) {
	flat := func(n int) string {
		var properties []string
		for i := range n {
			properties = append(properties, fmt.Sprintf(`"f%d":{"type":"integer"}`, i))
		}
		return `{"type":"object","properties":{` + strings.Join(properties, ",") + `}}`
	}
	if s, err := TableSchema(flat(decode.MaxFields)); err != nil || s.NumFields() != decode.MaxFields {
		t.Error(err)
	}
	defs := []string{`"d40":{"type":"integer"}`}
	for i := range 40 {
		defs = append(defs, fmt.Sprintf(`"d%d":{"type":"object","properties":{"a":{"$ref":"#/$defs/d%d"},"b":{"type":"array","items":{"$ref":"#/$defs/d%d"}}}}`, i, i+1, i+1))
	}
	deep := `{"type":"object","properties":{"n":{"type":"integer"},"deep":{"$ref":"#/$defs/d0"}},"$defs":{` + strings.Join(defs, ",") + `}}`
	says := fmt.Sprintf("the JSON Schema has %d fields", decode.MaxFields+1)
	for _, text := range []string{flat(decode.MaxFields + 1), deep} {
		if _, err := TableSchema(text); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "table.columns") {
			t.Errorf("%v", err)
		}
	}
	if _, err := ColumnSchema("key", nil, deep); err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("a key: %v", err)
	}
	s, err := MessageSchema(func(path string) bool { return path == "deep" }, deep)
	if err != nil || s.NumFields() != 2 || s.Field(1).Type != arrow.Null {
		t.Errorf("what is given: %v, %v", s, err)
	}
}
