package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/sr"

	"kafkadelta/delta"
)

func TestSchemaPlan(t *testing.T) {
	fake, client := fakeRegistry(t)
	record := func(fields string) string { return `{"type":"record","name":"r","fields":[` + fields + `]}` }
	if _, err := client.CreateSchema(t.Context(), "t-value", sr.Schema{Schema: record(`{"name":"n","type":"long"},{"name":"new","type":"string"}`)}); err != nil {
		t.Fatal(err)
	}
	table := filepath.Join(t.TempDir(), "table")
	mustRun(t, "table", "create", table, "--schema", "n BIGINT, i INT, at DATE, day DATE, s STRUCT<x: INT>, l ARRAY<STRUCT<x: INT>>, m MAP<STRING, INT>", "--property", "delta.enableTypeWidening=true")
	config := func(how string) string {
		return file(t, "c.yaml", fmt.Sprintf(`name: n
source: {brokers: [b:1], topic: t, format: avro, schema_registry: {urls: [%q]}}
table: {uri: %q, schema_evolution: %s, columns: {day: {from: n, cast: date}}}
`, fake.URL(), table, how))
	}
	for name, tt := range map[string]struct {
		fields, how string
		code        int
		want        []string
	}{
		"nothing":              {`{"name":"n","type":"int"}`, "none", exitOK, []string{"nothing: the table takes"}},
		"none":                 {`{"name":"n","type":"long"},{"name":"z","type":"string"}`, "none", exitOK, []string{"ignores  field z STRING: the table has no column for it, and table.schema_evolution is none"}},
		"a column":             {`{"name":"z","type":"string"}`, "add_columns", exitOK, []string{"adds     column z STRING"}},
		"in a struct":          {`{"name":"s","type":{"type":"record","name":"s","fields":[{"name":"y","type":"string"}]}}`, "add_columns", exitOK, []string{"adds     column s.y STRING"}},
		"in a list":            {`{"name":"l","type":{"type":"array","items":{"type":"record","name":"s","fields":[{"name":"y","type":"string"}]}}}`, "add_columns", exitOK, []string{"adds     column l.element.y STRING"}},
		"a wider type":         {`{"name":"i","type":"long"},{"name":"m","type":{"type":"map","values":"long"}}`, "add_and_widen", exitOK, []string{"widens   column i from INT to BIGINT", "widens   column m.value from INT to BIGINT"}},
		"a type that stays":    {`{"name":"i","type":"long"}`, "add_columns", exitPoison, []string{"BREAKS   column i: "}}, // by the rules of Avro, all its messages
		"text for a date":      {`{"name":"at","type":"string"}`, "add_columns", exitOK, []string{"checks   column at: it is DATE in the table, and messages have STRING: what does not fit is poison"}},
		"computed elsewhere":   {`{"name":"day","type":"bytes"}`, "none", exitOK, []string{"nothing"}},
		"another type":         {`{"name":"i","type":"string"},{"name":"z","type":"int"}`, "add_columns", exitPoison, []string{"BREAKS   column i: ", "adds     column z INT"}},
		"another kind":         {`{"name":"s","type":"string"}`, "none", exitPoison, []string{"BREAKS   column s: "}},
		"a NOT NULL column":    {`{"name":"n","type":"long"}`, "none", exitOK, []string{"nothing"}},
		"the case":             {`{"name":"N","type":"long"}`, "add_columns", exitPoison, []string{"BREAKS", "columns n and N"}},
		"the metadata's":       {`{"name":"_kafka","type":"long"}`, "add_columns", exitPoison, []string{"BREAKS", "Kafka's metadata"}},
		"the registry's, none": {"", "none", exitOK, []string{"ignores  field new STRING"}},
		"the registry's":       {"", "add_columns", exitOK, []string{"adds     column new STRING"}},
	} {
		args := []string{"schema", "plan", "-c", config(tt.how)}
		if tt.fields != "" {
			args = append(args, "--schema", file(t, "new.avsc", record(tt.fields)))
		}
		o := command(t, args...)
		if o.code != tt.code {
			t.Errorf("%s: exit code %d, want %d: %s%s", name, o.code, tt.code, o.stdout, o.stderr)
		}
		for _, want := range tt.want {
			if !strings.Contains(o.stdout, want) {
				t.Errorf("%s: no %q in\n%s", name, want, o.stdout)
			}
		}
		var shown struct {
			Changes []struct{ Change string }
		}
		if o := command(t, append(args, "-o", "json")...); o.code != tt.code || json.Unmarshal([]byte(o.stdout), &shown) != nil || (len(shown.Changes) == 0) != strings.HasPrefix(tt.want[0], "nothing") {
			t.Errorf("%s, JSON: exit code %d, %s", name, o.code, o.stdout)
		}
	}
	strict := filepath.Join(t.TempDir(), "strict")
	mustRun(t, "table", "create", strict, "--schema", "n BIGINT NOT NULL, m BIGINT NOT NULL")
	on := file(t, "strict.yaml", fmt.Sprintf("name: n\nsource: {brokers: [b:1], topic: t, format: avro, schema_registry: {urls: [%q]}}\ntable: {uri: %q}\n", fake.URL(), strict))
	if o := command(t, "schema", "plan", "-c", on, "--schema", file(t, "null.avsc", record(`{"name":"n","type":["null","long"]}`))); o.code != exitPoison ||
		!strings.Contains(o.stdout, "BREAKS   column m: it is NOT NULL, and messages do not have it: all such messages are poison") || !strings.Contains(o.stdout, "checks   column n: it is NOT NULL, and messages may have null: what does not fit is poison") {
		t.Errorf("exit code %d: %s", o.code, o.stdout)
	}
	fresh := filepath.Join(t.TempDir(), "fresh")
	for settings, want := range map[string]string{
		"": "adds     column n BIGINT\nadds     column new STRING\nadds     column _kafka STRUCT<topic: STRING, partition: INT, offset: BIGINT, timestamp: TIMESTAMP>\n",
		", schema: 'n BIGINT, m INT', kafka_metadata: {enabled: false}":        "adds     column n BIGINT\nadds     column m INT\nignores  field new STRING: the table has no column for it, and table.schema_evolution is none\n",
		", columns: {new: {type: DATE}}, kafka_metadata: {enabled: false}":     "adds     column n BIGINT\nadds     column new DATE\nchecks   column new: it is DATE in the table, and messages have STRING: what does not fit is poison\n",
		", schema: 'n BIGINT, m INT NOT NULL, new STRING', create: if_missing": "BREAKS   column m: it is NOT NULL, and messages do not have it: all such messages are poison\n",
	} {
		c := file(t, "fresh.yaml", fmt.Sprintf("name: n\nsource: {brokers: [b:1], topic: t, format: avro, schema_registry: {urls: [%q]}}\ntable: {uri: %q%s}\n", fake.URL(), fresh, settings))
		if o := command(t, "schema", "plan", "-c", c); !strings.HasSuffix(o.stdout, want) || !strings.Contains(o.stderr, "there is no table yet") {
			t.Errorf("%s: exit code %d, %s%s, want\n%s", settings, o.code, o.stdout, o.stderr, want)
		}
	}
	if _, err := os.Stat(fresh); err == nil {
		t.Error("the plan has made the table")
	}
	never := file(t, "never.yaml", fmt.Sprintf("name: n\nsource: {brokers: [b:1], topic: t, format: avro, schema_registry: {urls: [%q]}}\ntable: {uri: %q, create: never}\n", fake.URL(), fresh))
	if o := command(t, "schema", "plan", "-c", never); o.code != exitTable || !strings.Contains(o.stderr, "no Delta table here") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
	for want, args := range map[string][]string{
		"no such file":   {"schema", "plan", "-c", config("none"), "--schema", "missing.avsc"},
		"text or json":   {"schema", "plan", "-c", config("none"), "-o", "xml"},
		"tell no schema": {"schema", "plan", "-c", file(t, "json.yaml", fmt.Sprintf("name: n\nsource: {brokers: [b:1], topic: t}\ntable: {uri: %q}\n", table))},
	} {
		if o := command(t, args...); o.code != exitConfig || !strings.Contains(o.stderr, want) {
			t.Errorf("%v: exit code %d, %s, want %q", args, o.code, o.stderr, want)
		}
	}
}

// TestSchemaPlanWithinLists: a field of a list's items that no column can hold is dropped by its path, and where the table has a column for it the others are followed.
func TestSchemaPlanWithinLists(t *testing.T) {
	for format, schema := range map[string]sr.Schema{
		"avro": {Type: sr.TypeAvro, Schema: `{"type":"record","name":"r","fields":[{"name":"items","type":{"type":"array","items":{"type":"record","name":"item","fields":[
			{"name":"x","type":"string"},{"name":"child","type":["null","item"]},{"name":"fresh","type":"string"}]}}}]}`},
		"protobuf": {Type: sr.TypeProtobuf, Schema: `syntax = "proto3"; message R { message Item { string x = 1; Item child = 2; string fresh = 3; } repeated Item items = 1; }`},
	} {
		fake, client := fakeRegistry(t)
		if _, err := client.CreateSchema(t.Context(), "t-value", schema); err != nil {
			t.Fatal(err)
		}
		has := filepath.Join(t.TempDir(), "has")
		mustRun(t, "table", "create", has, "--schema", "items ARRAY<STRUCT<x: STRING, child: STRUCT<x: STRING>>>")
		config := func(table, columns string) string {
			return file(t, "c.yaml", fmt.Sprintf("name: n\nsource: {brokers: [b:1], topic: t, format: %s, schema_registry: {urls: [%q]}}\ntable: {uri: %q, schema_evolution: add_columns, kafka_metadata: {enabled: false}%s}\n",
				format, fake.URL(), table, columns))
		}
		fresh := filepath.Join(t.TempDir(), "fresh")
		for name, tt := range map[string]struct{ config, out, err string }{
			"a table that has it": {config(has, ""), "adds     column items.element.fresh STRING\n", ""},
			"it is dropped":       {config(fresh, ", columns: {items.element.child: {drop: true}}"), "adds     column items ARRAY<STRUCT<x: STRING, fresh: STRING>>\n", ""},
			"nothing is said":     {config(fresh, ""), "", "field items.element.child"},
		} {
			if o := command(t, "schema", "plan", "-c", tt.config); o.stdout != tt.out || !strings.Contains(o.stderr, tt.err) {
				t.Errorf("%s, %s: exit code %d, %s%s, want\n%s%s", format, name, o.code, o.stdout, o.stderr, tt.out, tt.err)
			}
		}
	}
}

// TestSchemaPlanOfJSON: what a column of JSON takes however it is written is no matter; what it takes none of breaks, and what it may not take is told.
// TestSchemaPlanOfKeysInJSON: keys of JSON are texts that a key of another type is read from, by whatever schema a plan goes; the decoder takes them.
func TestSchemaPlanOfKeysInJSON(t *testing.T) {
	const columns = "m MAP<INT, INT>, s STRUCT<key: INT, d: ARRAY<MAP<DATE, STRING>>>, b MAP<BOOLEAN, INT>, t MAP<STRING, INT>"
	table := newTable(t, columns)
	c := file(t, "c.yaml", fmt.Sprintf("name: n\nsource: {brokers: [b:1], topic: t}\ntable: {uri: %q}\n", table))
	message := `{"m":{"7":1},"s":{"key":1,"d":[{"2021-03-24":"x"}]},"b":{"true":1},"t":{"a":1}}`
	if o := appendText(t, table, message); o.code != exitOK {
		t.Fatalf("the decoder does not take them: %s", o.stderr)
	}
	texts, err := delta.ParseDDL("m MAP<STRING, INT>, s STRUCT<key: STRING, d: ARRAY<MAP<STRING, STRING>>>, b MAP<STRING, INT>, t MAP<STRING, INT>")
	if err != nil {
		t.Fatal(err)
	}
	text, err := delta.SchemaToJSON(texts)
	if err != nil {
		t.Fatal(err)
	}
	want := `checks   column m.key: it is INT in the table, and messages have STRING: what does not fit is poison
BREAKS   column s.key: it is INT in the table, and messages have STRING: all such messages are poison
checks   column s.d.element.key: it is DATE in the table, and messages have STRING: what does not fit is poison
checks   column b.key: it is BOOLEAN in the table, and messages have STRING: what does not fit is poison
`
	for _, schema := range []string{
		file(t, "next.json", text), file(t, "next.arrow", arrowFile(t, false, texts.Fields()...)),
		file(t, "next.avsc", `{"type":"record","name":"r","fields":[{"name":"m","type":{"type":"map","values":"int"}},{"name":"s","type":{"type":"record","name":"s","fields":[
			{"name":"key","type":"string"},{"name":"d","type":{"type":"array","items":{"type":"map","values":"string"}}}]}},{"name":"b","type":{"type":"map","values":"int"}},{"name":"t","type":{"type":"map","values":"int"}}]}`),
	} {
		if o := command(t, "schema", "plan", "-c", c, "--schema", schema); o.code != exitPoison || o.stdout != want {
			t.Errorf("%s: exit code %d, %s\n%s\nwant\n%s", filepath.Base(schema), o.code, o.stderr, o.stdout, want)
		}
	}
}

func TestSchemaPlanOfJSON(t *testing.T) {
	fake, client := fakeRegistry(t)
	schema := `{"type":"object","properties":{"text":{"type":"integer"},"list":{"type":"array","items":{"type":"object","properties":{"x":{"type":"integer"}}}},
		"number":{"type":"integer"},"day":{"type":"string","format":"date-time"},"n":{"type":"string"},"s":{"type":"string"},"must":{"type":"boolean"},
		"ok":{"type":"integer"},"big":{"type":"object"},"at":{"type":"string","format":"date-time"},"ms":{"type":"array","items":{"type":"boolean"}},"real":{"type":"string"},
		"any":{},"m":{"type":"object","additionalProperties":{"type":"string"}},"t":{"type":"object","properties":{"x":{"type":"integer"}}},"fresh":{"type":"object","additionalProperties":{}},"bare":{}}}`
	if _, err := client.CreateSchema(t.Context(), "t-value", sr.Schema{Type: sr.TypeJSON, Schema: schema}); err != nil {
		t.Fatal(err)
	}
	table := filepath.Join(t.TempDir(), "table")
	mustRun(t, "table", "create", table, "--schema", `text STRING, list ARRAY<STRING>, number DOUBLE, day DATE, n BIGINT, s STRUCT<x: INT>, must STRING NOT NULL,
		ok BOOLEAN, big BIGINT, at DOUBLE, ms TIMESTAMP, real DOUBLE, any INT, m MAP<INT, INT>, t MAP<STRING, INT>`)
	c := file(t, "c.yaml", fmt.Sprintf("name: n\nsource: {brokers: [b:1], topic: t, json: {framing: registry}, schema_registry: {urls: [%q]}}\ntable: {uri: %q}\n", fake.URL(), table))
	want := `BREAKS   column n: it is BIGINT in the table, and messages have STRING: all such messages are poison
BREAKS   column s: it is STRUCT<x: INT> in the table, and messages have STRING: all such messages are poison
BREAKS   column ok: it is BOOLEAN in the table, and messages have BIGINT: all such messages are poison
BREAKS   column big: it is BIGINT in the table, and messages have STRING: all such messages are poison
BREAKS   column at: it is DOUBLE in the table, and messages have TIMESTAMP: all such messages are poison
BREAKS   column ms: it is TIMESTAMP in the table, and messages have ARRAY<BOOLEAN>: all such messages are poison
checks   column real: it is DOUBLE in the table, and messages have STRING: what does not fit is poison
checks   column any: it is INT in the table, and messages have STRING: what does not fit is poison
checks   column m.key: it is INT in the table, and messages have STRING: what does not fit is poison
BREAKS   column m.value: it is INT in the table, and messages have STRING: all such messages are poison
checks   column t: it is MAP<STRING, INT> in the table, and messages have STRUCT<x: BIGINT>: what does not fit is poison
ignores  field fresh MAP<STRING, STRING>: the table has no column for it, and table.schema_evolution is none
ignores  field bare STRING: the table has no column for it, and table.schema_evolution is none
checks   column must: it is NOT NULL, and messages may have null: what does not fit is poison
`
	for _, args := range [][]string{{}, {"--schema", file(t, "next.json", schema)}} {
		if o := command(t, append([]string{"schema", "plan", "-c", c}, args...)...); o.code != exitPoison || o.stdout != want {
			t.Errorf("%v: exit code %d, %s\n%s\nwant\n%s", args, o.code, o.stderr, o.stdout, want)
		}
	}
}

// TestSchemaPlanOfAllMisfits: all columns that do not fit are told, wherever they stand, and not the first one alone.
func TestSchemaPlanOfAllMisfits(t *testing.T) {
	const columns = "a INT, b INT, s STRUCT<x: INT, y: INT>, l ARRAY<STRUCT<z: INT>>, m MAP<STRING, INT>, copy INT, k INT, u INT"
	for name, tt := range map[string]struct{ file, format, want string }{
		"Avro": {file(t, "next.avsc", `{"type":"record","name":"r","fields":[{"name":"a","type":"long"},{"name":"b","type":"string"},
			{"name":"s","type":["null",{"type":"record","name":"s","fields":[{"name":"x","type":"string"},{"name":"y","type":"long"}]}]},
			{"name":"l","type":{"type":"array","items":{"type":"record","name":"z","fields":[{"name":"z","type":"boolean"}]}}},{"name":"m","type":{"type":"map","values":"string"}},
			{"name":"u","type":["int","string"]}]}`), "avro", `checks   column u: it is INT in the table, and messages have STRUCT<member_int: INT, member_string: STRING>: what does not fit is poison
BREAKS   column a: long into INT: change the column's type, or leave the column out: all such messages are poison
BREAKS   column copy: long into INT: change the column's type, or leave the column out: all such messages are poison
BREAKS   column b: string into INT: change the column's type, or leave the column out: all such messages are poison
BREAKS   column s.x: string into INT: change the column's type, or leave the column out: all such messages are poison
BREAKS   column s.y: long into INT: change the column's type, or leave the column out: all such messages are poison
BREAKS   column l.element.z: boolean into INT: change the column's type, or leave the column out: all such messages are poison
BREAKS   column m.value: string into INT: change the column's type, or leave the column out: all such messages are poison
BREAKS   column k: string into INT: change the column's type, or leave the column out: all such messages are poison
`},
		"Protobuf": {file(t, "next.proto", `syntax = "proto3"; message R { string a = 1; bool b = 2; message S { string x = 1; string y = 2; } S s = 3; message Z { bool z = 1; } repeated Z l = 4;
			map<string, string> m = 5; }`), "protobuf", `BREAKS   column a: string into INT: change the column's type, or leave the column out: all such messages are poison
BREAKS   column copy: string into INT: change the column's type, or leave the column out: all such messages are poison
BREAKS   column b: bool into INT: change the column's type, or leave the column out: all such messages are poison
BREAKS   column s.x: string into INT: change the column's type, or leave the column out: all such messages are poison
BREAKS   column s.y: string into INT: change the column's type, or leave the column out: all such messages are poison
BREAKS   column l.element.z: bool into INT: change the column's type, or leave the column out: all such messages are poison
BREAKS   column m.value: string into INT: change the column's type, or leave the column out: all such messages are poison
BREAKS   column k: string into INT: change the column's type, or leave the column out: all such messages are poison
`},
	} {
		fake, _ := fakeRegistry(t)
		table := filepath.Join(t.TempDir(), "table")
		mustRun(t, "table", "create", table, "--schema", columns)
		c := file(t, "c.yaml", fmt.Sprintf("name: n\nsource: {brokers: [b:1], topic: t, format: %s, schema_registry: {urls: [%q]}}\ntable: {uri: %q, columns: {copy: {from: a}, k: {from: m.key}}}\n",
			tt.format, fake.URL(), table))
		if o := command(t, "schema", "plan", "-c", c, "--schema", tt.file); o.code != exitPoison || o.stdout != tt.want || !strings.Contains(o.stderr, "8 things about it") {
			t.Errorf("%s: exit code %d, %s\n%s\nwant\n%s", name, o.code, o.stderr, o.stdout, tt.want)
		}
	}
}

// TestSchemaPlanOfReferences: what a schema's file refers to is taken from the files beside it, in every format.
func TestSchemaPlanOfReferences(t *testing.T) {
	folder := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const want = "adds     column c.city.zip STRING\n"
	avsc := write("order-v2.avsc", `{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"long"},{"name":"c","type":["null","Customer"]}]}`)
	write("order-v1.avsc", `{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"long"}]}`)
	write("customer.avsc", `{"type":"record","name":"shop.Customer","fields":[{"name":"city","type":"geo.City"},{"name":"home","type":["null","geo.City"]}]}`)
	write("city.avsc", `{"type":"record","name":"City","namespace":"geo","fields":[{"name":"name","type":"string"},{"name":"zip","type":"string"}]}`)
	write("other.avsc", `["null","string"]`)
	ambiguous := write("ambiguous.avsc", `{"type":"record","name":"a","fields":[{"name":"o","type":"shop.Order"}]}`)
	missing := write("missing.avsc", `{"type":"record","name":"a","fields":[{"name":"o","type":"shop.Nothing"}]}`)
	proto := write("order.proto", `syntax = "proto3"; import "city.proto"; message Order { int64 id = 1; message C { City city = 1; City home = 2; } C c = 2; }`)
	write("city.proto", `syntax = "proto3"; message City { string name = 1; string zip = 2; }`)
	schema := write("order.json", `{"type":"object","properties":{"id":{"type":"integer"},"c":{"$ref":"customer.json"}}}`)
	write("customer.json", `{"type":"object","properties":{"city":{"$ref":"city.json#/$defs/city"},"home":{"$ref":"city.json#/$defs/city"}}}`)
	write("city.json", `{"$defs":{"city":{"type":"object","properties":{"name":{"type":"string"},"zip":{"type":"string"}}}}}`)
	table := filepath.Join(t.TempDir(), "table")
	mustRun(t, "table", "create", table, "--schema", "id BIGINT, c STRUCT<city: STRUCT<name: STRING>, home: STRUCT<name: STRING, zip: STRING>>")
	fake, _ := fakeRegistry(t)
	for file_, format := range map[string]string{avsc: "avro", proto + "#Order": "protobuf", schema: "json", ambiguous: "avro", missing: "avro"} {
		c := file(t, "c.yaml", fmt.Sprintf("name: n\nsource: {brokers: [b:1], topic: t, format: %s, %s: {framing: registry}, schema_registry: {urls: [%q]}}\ntable: {uri: %q, schema_evolution: add_columns}\n",
			format, format, fake.URL(), table))
		o := command(t, "schema", "plan", "-c", c, "--schema", file_)
		refused := map[string]string{ambiguous: "order-v1.avsc and ", missing: `the type "shop.Nothing" is not defined`}[file_]
		if refused == "" && (o.code != exitOK || o.stdout != want) || refused != "" && (o.code != exitConfig || !strings.Contains(o.stderr, refused)) {
			t.Errorf("%s: exit code %d, %s%s, want\n%s%s", file_, o.code, o.stdout, o.stderr, want, refused)
		}
	}
}

// TestSchemaPlanOfUnions: the members of unions have the names in a plan that decoders fill them by: those of the table, also where they are numbers, and those of a reader's
// schema.
func TestSchemaPlanOfUnions(t *testing.T) {
	record := func(field, union string) string {
		return `{"type":"record","name":"r","fields":[{"name":"` + field + `","type":` + union + `}]}`
	}
	numbered, named := "STRUCT<member0: STRING, member1: INT>", "STRUCT<member_string: STRING, member_int: INT>"
	const nothing = "nothing: the table takes messages of this schema as it is\n"
	for name, tt := range map[string]struct {
		column, reader, how, schema, want string
	}{
		"by name":                  {named, "", "add_columns", record("u", `["int","string"]`), nothing},
		"by name, one more":        {named, "", "add_columns", record("u", `["boolean","int","string"]`), "adds     column u.member_boolean BOOLEAN\n"},
		"by number":                {numbered, "", "add_columns", record("u", `["int","string"]`), nothing},
		"by number, one more":      {numbered, "", "add_columns", record("u", `["boolean","int","string"]`), "adds     column u.member2 BOOLEAN\n"},
		"by number, none is added": {numbered, "", "none", record("u", `["boolean","int","string"]`), "ignores  field u.member2 BOOLEAN: the table has no column for it, and table.schema_evolution is none\n"},
		"by a reader's number":     {numbered, `["string","int"]`, "none", record("u", `["int","string"]`), nothing},
		"by a reader's field":      {numbered, `["string","int"]`, "none", record("old", `["int","string"]`), nothing},
	} {
		t.Run(name, func(t *testing.T) {
			table := filepath.Join(t.TempDir(), "table")
			reader := ""
			if tt.reader != "" {
				reader = fmt.Sprintf(", reader_schema: %q", file(t, "reader.avsc", `{"type":"record","name":"r","fields":[{"name":"u","aliases":["old"],"type":`+tt.reader+`}]}`))
			}
			next := file(t, "next.avsc", tt.schema)
			settings := fmt.Sprintf("name: n\nsource: {brokers: [b:1], topic: t, format: avro, avro: {framing: none, schema: %q%s}}\n", next, reader)
			fresh := file(t, "fresh.yaml", settings+fmt.Sprintf("table: {uri: %q, schema_evolution: %s, schema: 'u %s', kafka_metadata: {enabled: false}}\n", table, tt.how, tt.column))
			if o := command(t, "schema", "plan", "-c", fresh); o.code != exitOK || o.stdout != "adds     column u "+tt.column+"\n"+strings.TrimPrefix(tt.want, nothing) {
				t.Errorf("of a table that is still to be made: exit code %d, %s\n%s", o.code, o.stderr, o.stdout)
			}
			mustRun(t, "table", "create", table, "--schema", "u "+tt.column)
			c := file(t, "c.yaml", settings+fmt.Sprintf("table: {uri: %q, schema_evolution: %s}\n", table, tt.how))
			for _, args := range [][]string{{}, {"--schema", next}} {
				if o := command(t, append([]string{"schema", "plan", "-c", c}, args...)...); o.code != exitOK || o.stdout != tt.want {
					t.Errorf("%v: exit code %d, %s\n%s\nwant\n%s", args, o.code, o.stderr, o.stdout, tt.want)
				}
			}
		})
	}
}

// TestSchemaPlanOfKeys: a plan tells what the next schema of keys does to their column, by the registry's subject or a file, and leaves it out where it is for values alone.
func TestSchemaPlanOfKeys(t *testing.T) {
	avroKey := func(fields string) string { return `{"type":"record","name":"k","fields":[` + fields + `]}` }
	for format, of := range map[string]struct {
		typ              sr.SchemaType
		ext              string
		next, bad, other string // with a wider id and a region; with an id of text; of no record, where there is such a thing
		breaks, whole    string
	}{
		"avro": {
			sr.TypeAvro, ".avsc", avroKey(`{"name":"id","type":"long"},{"name":"region","type":"string"}`), avroKey(`{"name":"id","type":"string"}`), `"string"`,
			"BREAKS   column _key.id: string into INT: change the column's type, or leave the column out: all such messages are poison\n",
			"BREAKS   column _key: string into STRUCT: change the column's type, or leave the column out: all such messages are poison\n",
		},
		"protobuf": {
			sr.TypeProtobuf, ".proto", `syntax = "proto3"; message K { int64 id = 1; string region = 2; }`, `syntax = "proto3"; message K { string id = 1; }`, "",
			"BREAKS   column _key.id: string into INT: change the column's type, or leave the column out: all such messages are poison\n", "",
		},
		"json": {
			sr.TypeJSON, ".json", `{"type":"object","properties":{"id":{"type":"integer"},"region":{"type":"string"}}}`, `{"type":"object","properties":{"id":{"type":"string"}}}`, `{"type":"string"}`,
			"BREAKS   column _key.id: it is INT in the table, and messages have STRING: all such messages are poison\n",
			"BREAKS   column _key: it is STRUCT<id: INT> in the table, and messages have STRING: all such messages are poison\n",
		},
	} {
		t.Run(format, func(t *testing.T) {
			fake, client := fakeRegistry(t)
			const value = `{"type":"record","name":"r","fields":[{"name":"n","type":"long"}]}`
			if _, err := client.CreateSchema(t.Context(), "t-value", sr.Schema{Schema: value}); err != nil {
				t.Fatal(err)
			}
			there, strict := filepath.Join(t.TempDir(), "there"), filepath.Join(t.TempDir(), "strict")
			mustRun(t, "table", "create", there, "--schema", "n BIGINT, _key STRUCT<id: INT>", "--property", "delta.enableTypeWidening=true")
			mustRun(t, "table", "create", strict, "--schema", "n BIGINT, _key STRUCT<id: BIGINT, region: STRING> NOT NULL")
			subjects := 0 // one for each case
			config := func(table, columns string) string {
				return file(t, "c.yaml", fmt.Sprintf("name: n\nsource: {brokers: [b:1], topic: t, format: avro, key: {format: %s, framing: registry, subject: k%d}, schema_registry: {urls: [%q]}}\ntable: {uri: %q, schema_evolution: add_and_widen, kafka_metadata: {enabled: false}, columns: {%s}}\n",
					format, subjects, fake.URL(), table, columns))
			}
			const grows = "widens   column _key.id from INT to BIGINT\nadds     column _key.region STRING\n"
			const nothing = "nothing: the table takes messages of this schema as it is\n"
			for name, tt := range map[string]struct{ table, columns, schema, want string }{
				"it grows":           {there, "", of.next, grows},
				"a dropped field":    {there, "_key.region: {drop: true}", of.next, "widens   column _key.id from INT to BIGINT\n"},
				"a dropped key":      {there, `_key: {type: "STRUCT<id: BIGINT>", drop: true}`, of.next, nothing},
				"a type that stays":  {there, `_key: {type: "STRUCT<id: INT>"}`, of.next, grows}, // a struct follows in what it has in it
				"another type":       {there, "", of.bad, of.breaks},
				"another kind":       {there, "", of.other, of.whole},
				"a NOT NULL column":  {strict, "", of.next, "checks   column _key: it is NOT NULL, and messages may have null: what does not fit is poison\n"},
				"no table yet":       {filepath.Join(t.TempDir(), "fresh"), "", of.next, "adds     column n BIGINT\nadds     column _key STRUCT<id: BIGINT, region: STRING>\n"},
				"no table, its type": {filepath.Join(t.TempDir(), "fresh"), `_key: {type: "STRUCT<id: BIGINT>"}`, of.next, "adds     column n BIGINT\nadds     column _key STRUCT<id: BIGINT>\nadds     column _key.region STRING\n"},
			} {
				if tt.schema == "" {
					continue
				}
				subjects++
				code := exitOK
				if strings.Contains(tt.want, "BREAKS") {
					code = exitPoison
				}
				if _, err := client.CreateSchema(t.Context(), fmt.Sprintf("k%d", subjects), sr.Schema{Type: of.typ, Schema: tt.schema}); err != nil {
					t.Fatal(err)
				}
				next := file(t, "next"+of.ext, tt.schema)
				for _, args := range [][]string{{}, {"--key-schema", next}, {"--schema", file(t, "value.avsc", value), "--key-schema", next}} {
					if o := command(t, append([]string{"schema", "plan", "-c", config(tt.table, tt.columns)}, args...)...); o.code != code || o.stdout != tt.want {
						t.Errorf("%s, %v: exit code %d, %s\n%s\nwant\n%s", name, args, o.code, o.stderr, o.stdout, tt.want)
					}
				}
			}
			if o := mustRun(t, "schema", "plan", "-c", config(there, ""), "--schema", file(t, "value.avsc", value)); o.stdout != nothing {
				t.Errorf("of values alone: %s", o.stdout)
			}
		})
	}
	next := file(t, "next.json", `{"type":"integer"}`)
	table := newTable(t, "n BIGINT, _key DATE")
	for key, want := range map[string]string{
		"":                                   "--key-schema is for keys that are decoded",
		"key: {format: string}":              "--key-schema: keys of source.key.format string are kept as they are",
		"key: {format: json}":                "checks   column _key: it is DATE in the table, and messages have BIGINT: what does not fit is poison\n",
		"key: {format: json, column: other}": `no column "other" for keys`,
	} {
		c := file(t, "c.yaml", fmt.Sprintf("name: n\nsource: {brokers: [b:1], topic: t, %s}\ntable: {uri: %q}\n", key, table))
		if o := command(t, "schema", "plan", "-c", c, "--key-schema", next); !strings.Contains(o.stdout+o.stderr, want) {
			t.Errorf("%s: exit code %d, %s%s, want %q", key, o.code, o.stdout, o.stderr, want)
		}
	}
}
