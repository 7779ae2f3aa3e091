package main

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"

	"kafkadelta/internal/kafkatest"
)

// TestColumnsOfKeys: table.columns says of the keys' column what it says of those of values, in a table that is made by it and in one that is there, where the table follows
// the schemas of messages and where it does not.
func TestColumnsOfKeys(t *testing.T) {
	long := func(n int64) string { return string(binary.AppendVarint(nil, n)) }
	const contained = `{"type":"record","name":"k","fields":[{"name":"id","type":"long"},{"name":"next","type":["null","k"]}]}`
	for name, tt := range map[string]struct {
		key     string // source.key
		typ     sr.SchemaType
		schema  string // "": keys tell none
		message string
		columns string
		table   string // the columns that the table gets
		want    string // of its row
	}{
		"json, an instant":         {"format: json", 0, "", "86400", `{_key: {type: TIMESTAMP, epoch: seconds}}`, "n BIGINT, _key TIMESTAMP", `{"_key":"1970-01-02T00:00:00Z","n":1}`},
		"json, in a struct":        {"format: json", 0, "", `{"at":86400}`, `{_key: {type: "STRUCT<at: TIMESTAMP>"}, _key.at: {epoch: seconds}}`, "n BIGINT, _key STRUCT<at: TIMESTAMP>", `{"_key":{"at":"1970-01-02T00:00:00Z"},"n":1}`},
		"json, a quoted name":      {"format: json", 0, "", `1`, "{\"`_key`\": {type: DATE, epoch: seconds}}", "n BIGINT, _key DATE", `{"_key":"1970-01-01","n":1}`},
		"json, a cast":             {"format: json", 0, "", `"2021-03-24T23:00:00Z"`, `{_key: {cast: date}}`, "n BIGINT, _key DATE", `{"_key":"2021-03-24","n":1}`},
		"json, a cast of null":     {"format: json", 0, "", `null`, `{_key: {cast: date}}`, "n BIGINT, _key DATE", `{"_key":null,"n":1}`},
		"json, its text":           {"format: json", 0, "", `{"a": [1]}`, `{_key: {cast: json}}`, "n BIGINT, _key STRING", `{"_key":"{\"a\": [1]}","n":1}`},
		"json, dropped":            {"format: json", 0, "", `{"id":7,"x":1}`, `{_key: {type: "STRUCT<id: BIGINT>", drop: true}, customer: {expression: "_key.id"}}`, "n BIGINT, customer BIGINT", `{"customer":7,"n":1}`},
		"string, as bytes":         {"format: string", 0, "", "k", `{_key: {type: BINARY}}`, "n BIGINT, _key BINARY", `{"_key":"aw==","n":1}`},
		"JSON Schema, an instant":  {"format: json, framing: registry", sr.TypeJSON, `{"type":"integer"}`, "86400", `{_key: {type: TIMESTAMP, epoch: seconds}}`, "n BIGINT, _key TIMESTAMP", `{"_key":"1970-01-02T00:00:00Z","n":1}`},
		"JSON Schema, several":     {"format: json, framing: registry", sr.TypeJSON, `{"type":["string","integer"]}`, "7", `{_key: {type: STRING}}`, "n BIGINT, _key STRING", `{"_key":"7","n":1}`},
		"JSON Schema, in a struct": {"format: json, framing: registry", sr.TypeJSON, `{"type":"object","properties":{"id":{"type":"integer"},"odd":{"type":["string","integer"]}}}`, `{"id":1,"odd":7}`, `{_key.odd: {drop: true}}`, "n BIGINT, _key STRUCT<id: BIGINT>", `{"_key":{"id":1},"n":1}`},
		"JSON Schema, dropped":     {"format: json, framing: registry", sr.TypeJSON, `{"type":"object","properties":{"id":{"type":"integer"},"odd":{"type":["string","integer"]}}}`, `{"id":1,"odd":7}`, `{_key: {type: "STRUCT<odd: STRING>", drop: true}, odd: {expression: "_key.odd"}}`, "n BIGINT, odd STRING", `{"n":1,"odd":"7"}`},
		"avro, an instant":         {"format: avro", sr.TypeAvro, `"long"`, long(86400), `{_key: {type: TIMESTAMP, epoch: seconds}}`, "n BIGINT, _key TIMESTAMP", `{"_key":"1970-01-02T00:00:00Z","n":1}`},
		"avro, in a struct":        {"format: avro", sr.TypeAvro, `{"type":"record","name":"k","fields":[{"name":"at","type":"long"}]}`, long(86400), `{_key: {type: "STRUCT<at: TIMESTAMP>"}, _key.at: {epoch: seconds}}`, "n BIGINT, _key STRUCT<at: TIMESTAMP>", `{"_key":{"at":"1970-01-02T00:00:00Z"},"n":1}`},
		"avro, a cast":             {"format: avro", sr.TypeAvro, `{"type":"long","logicalType":"timestamp-millis"}`, long(86400_000), `{_key: {cast: year}}`, "n BIGINT, _key INT", `{"_key":1970,"n":1}`},
		"avro, within itself":      {"format: avro", sr.TypeAvro, contained, long(1) + long(0), `{_key: {type: "STRUCT<id: BIGINT>"}}`, "n BIGINT, _key STRUCT<id: BIGINT>", `{"_key":{"id":1},"n":1}`},
		"avro, a field of it":      {"format: avro", sr.TypeAvro, contained, long(1) + long(0), `{_key.next: {drop: true}}`, "n BIGINT, _key STRUCT<id: BIGINT>", `{"_key":{"id":1},"n":1}`},
		"protobuf, in a struct":    {"format: protobuf", sr.TypeProtobuf, `syntax = "proto3"; message K { int64 at = 1; }`, "\x00\x08\x01", `{_key: {type: "STRUCT<at: TIMESTAMP>"}, _key.at: {epoch: seconds}}`, "n BIGINT, _key STRUCT<at: TIMESTAMP>", `{"_key":{"at":"1970-01-01T00:00:01Z"},"n":1}`},
		"protobuf, a field of it":  {"format: protobuf", sr.TypeProtobuf, `syntax = "proto3"; message K { int64 id = 1; K next = 2; }`, "\x00\x08\x01", `{_key.next: {drop: true}}`, "n BIGINT, _key STRUCT<id: BIGINT>", `{"_key":{"id":1},"n":1}`},
		"protobuf, within itself":  {"format: protobuf", sr.TypeProtobuf, `syntax = "proto3"; message K { int64 id = 1; K next = 2; }`, "\x00\x08\x01", `{_key: {type: "STRUCT<id: BIGINT>"}}`, "n BIGINT, _key STRUCT<id: BIGINT>", `{"_key":{"id":1},"n":1}`},
	} {
		t.Run(name, func(t *testing.T) {
			fake, client := fakeRegistry(t)
			cluster := kafkatest.Start(t, "events", 1)
			value, err := client.CreateSchema(t.Context(), "events-value", sr.Schema{Type: sr.TypeJSON, Schema: `{"type":"object","properties":{"n":{"type":"integer"}}}`})
			if err != nil {
				t.Fatal(err)
			}
			key := []byte(tt.message)
			if tt.schema != "" {
				s, err := client.CreateSchema(t.Context(), "events-key", sr.Schema{Type: tt.typ, Schema: tt.schema})
				if err != nil {
					t.Fatal(err)
				}
				key = framed(s.ID, tt.message)
			}
			produce(t, cluster.ListenAddrs(), "events", &kgo.Record{Key: key, Value: framed(value.ID, `{"n":1}`)}, &kgo.Record{Value: framed(value.ID, `{"n":2}`)})
			var names []string
			for part := range strings.SplitSeq(strings.NewReplacer("{", "", "}", "").Replace(tt.want), ",") {
				if text, _, ok := strings.Cut(part, ":"); ok && (text == `"n"` || strings.Contains(tt.table, strings.Trim(text, `"`)+" ")) {
					names = append(names, strings.Trim(text, `"`))
				}
			}
			streams := 0
			for _, how := range []string{"none", "add_and_widen"} {
				for _, there := range []bool{false, true} {
					streams++
					table := filepath.Join(t.TempDir(), "table")
					if there {
						mustRun(t, "table", "create", table, "--schema", tt.table)
					}
					config := file(t, "c.yaml", fmt.Sprintf("name: events-%d\nsource: {brokers: [%q], topic: events, json: {framing: registry}, key: {%s}, schema_registry: {urls: [%q]}}\nhttp: {listen: \"off\"}\ntable: {uri: %q, schema_evolution: %s, kafka_metadata: {enabled: false}, columns: %s}\n",
						streams, cluster.ListenAddrs()[0], tt.key, fake.URL(), table, how, tt.columns))
					mustRun(t, "validate", "-c", config)
					mustRun(t, "run", "-c", config, "--until-end")
					if o := mustRun(t, "table", "inspect", table); !strings.Contains(o.stdout, tt.table+"\n") {
						t.Errorf("%s, there %v: the table is not %s: %s", how, there, tt.table, o.stdout)
					}
					if got := rowsOf(t, config, names...); len(got) != 2 || !slices.Contains(got, tt.want) {
						t.Errorf("%s, there %v: rows %s, want %s", how, there, got, tt.want)
					}
				}
			}
		})
	}
}

// TestColumnsOfKeysToCome: what table.columns says of a field of keys counts from the schema on that brings it, and what it drops keeps no table from following the others.
func TestColumnsOfKeysToCome(t *testing.T) {
	fake, client := fakeRegistry(t)
	cluster := kafkatest.Start(t, "events", 1)
	config := file(t, "c.yaml", fmt.Sprintf("name: events\nsource: {brokers: [%q], topic: events, format: raw, raw: {type: string}, key: {format: json, framing: registry}, schema_registry: {urls: [%q]}}\nhttp: {listen: \"off\"}\ntable: {uri: %q, schema_evolution: add_columns, columns: {_key.instant: {epoch: seconds}, _key.odd: {drop: true}}}\n",
		cluster.ListenAddrs()[0], fake.URL(), filepath.Join(t.TempDir(), "table")))
	for i, tt := range []struct{ properties, key string }{
		{`"id":{"type":"integer"}`, `{"id":1}`},
		{`"id":{"type":"integer"},"odd":{"type":["string","integer"]},"instant":{"type":"string","format":"date-time"}`, `{"id":2,"odd":7,"instant":86400}`},
	} {
		s, err := client.CreateSchema(t.Context(), "events-key", sr.Schema{Type: sr.TypeJSON, Schema: `{"type":"object","properties":{` + tt.properties + `}}`})
		if err != nil {
			t.Fatal(err)
		}
		produce(t, cluster.ListenAddrs(), "events", &kgo.Record{Key: framed(s.ID, tt.key), Value: []byte("v")})
		if o := mustRun(t, "run", "-c", config, "--until-end"); !strings.Contains(o.stderr, "gets it with the first messages") {
			t.Errorf("run %d: the log tells nothing of columns to come: %s", i, o.stderr)
		}
	}
	want := []string{`{"_key":{"id":1},"value":"v"}`, `{"_key":{"id":2,"instant":"1970-01-02T00:00:00Z"},"value":"v"}`} // the first one is in a file of before
	if got := rowsOf(t, config, "_key", "value"); !slices.Equal(got, want) {
		t.Errorf("rows %s, want %s", got, want)
	}
}

// TestRefusedColumnsOfKeys: what makes no sense of keys is refused before anything is made, with what to do.
func TestRefusedColumnsOfKeys(t *testing.T) {
	for _, tt := range []struct{ key, columns, want string }{
		{"format: json", `{_key: {constant: x}}`, "table.columns._key: it is the column of the keys"},
		{"format: json", `{_key: {expression: "1"}}`, "into another column"},
		{"format: json", `{_key: {from: id}}`, "table.columns._key.from: it is the column of the keys, which takes all of a key"},
		{"format: json", `{_key.id: {from: id}}`, "table.columns._key.id.from: it is the column of the keys"},
		{"format: json", `{_key: {drop: true}}`, "give it a type, for expressions and the filter, or leave out source.key"},
		{"format: json", `{_key: {type: VARIANT}}`, "keys are not read into VARIANT"},
		{"format: string", `{_key: {type: INT}}`, "in a STRING or a BINARY"},
		{"format: string", `{_key: {epoch: millis}}`, "use an expression over _key, in another column"},
		{"format: binary", `{_key: {cast: "substring(1, 2)"}}`, "use an expression over _key, in another column"},
		{"format: avro", `{_key: {cast: json}}`, "source.key.format is avro"},
		{"format: protobuf", `{_key: {cast: date}}`, "an expression over a field of _key"},
		{"format: protobuf", `{_key: {type: STRING}}`, "becomes a STRUCT"},
		{"format: json", `{day: {from: _key.at, cast: date}}`, `table.columns.day.from: _key is the column of the keys, and from takes a field of values: use an expression, such as {expression: "_key.at"}`},
		{"format: json", `{"` + "`_key`" + `": {drop: true}}`, "or leave out source.key"},
	} {
		registry := ""
		if strings.Contains(tt.key, "avro") || strings.Contains(tt.key, "protobuf") {
			registry = ", schema_registry: {urls: [http://r]}"
		}
		config := file(t, "c.yaml", fmt.Sprintf("name: k\nsource: {brokers: [b:1], topic: k, format: raw, key: {%s}%s}\ntable: {uri: %q, columns: %s}\n", tt.key, registry, filepath.Join(t.TempDir(), "table"), tt.columns))
		if o := command(t, "validate", "-c", config); o.code != exitConfig || !strings.Contains(o.stderr, tt.want) {
			t.Errorf("%s, %s: exit code %d, want %q: %s", tt.key, tt.columns, o.code, tt.want, o.stderr)
		}
	}
}

// TestAdviceForFieldsThatNoColumnHolds: what the error about such a field says of table.columns does help, to the letter, of values and of keys.
func TestAdviceForFieldsThatNoColumnHolds(t *testing.T) {
	advice := regexp.MustCompile(`field (\S+?):? .*: (?:give (\S+) the type (STRING) in table\.columns, which keeps JSON text(?:, or drop (\S+) there)?|drop (\S+) in table\.columns|give (\S+) a type in table\.columns)`)
	const several = `{"type":["string","integer"]}`
	object := func(property, rest string) string {
		return `{"type":"object","properties":{"id":{"type":"integer"},"` + property + `":` + rest + `}}`
	}
	for name, tt := range map[string]struct {
		format, schema string
		keys           bool   // as of keys too
		typ            string // of the column, where the advice leaves it open
	}{
		"json":                 {"json", object("odd", several), true, ""},
		"json, itself":         {"json", object("next", `{"$ref":"#"}`), true, ""},
		"json, in a struct":    {"json", object("s", object("odd", several)), true, ""},
		"json, schemas":        {"json", object("s", object("odd", `{"oneOf":[{"type":"object","properties":{"a":{}}},{"type":"array"}]}`)), true, ""},
		"json, in a list":      {"json", object("s", object("l", `{"type":"array","items":`+several+`}`)), true, ""},
		"json, items":          {"json", object("l", `{"type":"array","items":`+object("odd", several)+`}`), true, ""},
		"json, other values":   {"json", object("m", `{"type":"object","additionalProperties":`+several+`}`), true, ""},
		"json, patterns":       {"json", object("m", `{"type":"object","patternProperties":{"^x":{"type":"string"}},"additionalProperties":{"type":"integer"}}`), true, ""},
		"json, nothing":        {"json", object("l", `{"type":"array","items":{"type":"null"}}`), true, ""},
		"avro":                 {"avro", `{"type":"record","name":"r","fields":[{"name":"id","type":"long"},{"name":"next","type":["null","r"]}]}`, true, ""},
		"avro, in a union":     {"avro", `{"type":"record","name":"r","fields":[{"name":"id","type":"long"},{"name":"u","type":["string",{"type":"record","name":"e","fields":[]}]}]}`, true, ""},
		"avro, an item":        {"avro", `{"type":"record","name":"r","fields":[{"name":"id","type":"long"},{"name":"l","type":{"type":"array","items":{"type":"record","name":"e","fields":[]}}}]}`, true, ""},
		"avro, nothing":        {"avro", `{"type":"record","name":"r","fields":[{"name":"id","type":"long"},{"name":"l","type":{"type":"array","items":"null"}}]}`, true, ""},
		"protobuf":             {"protobuf", `syntax = "proto3"; message R { int64 id = 1; R next = 2; }`, true, ""},
		"protobuf, an item":    {"protobuf", `syntax = "proto3"; message R { int64 id = 1; message E {} repeated E l = 2; }`, true, ""},
		"json, all of a key":   {"json", several, false, ""},
		"json, a key's items":  {"json", `{"type":"array","items":` + several + `}`, false, ""},
		"json, a key of null":  {"json", `{"type":"null"}`, false, "STRING"},
		"avro, all of a key":   {"avro", `{"type":"array","items":"null"}`, false, "ARRAY<INT>"},
		"protobuf, of nothing": {"protobuf", `syntax = "proto3"; message K {}`, false, "STRUCT<x: INT>"},
	} {
		for _, subject := range []string{"t-value", "t-key"} {
			if subject == "t-value" && !tt.keys {
				continue
			}
			fake, client := fakeRegistry(t)
			types := map[string]sr.SchemaType{"json": sr.TypeJSON, "avro": sr.TypeAvro, "protobuf": sr.TypeProtobuf}
			if _, err := client.CreateSchema(t.Context(), subject, sr.Schema{Type: types[tt.format], Schema: tt.schema}); err != nil {
				t.Fatal(err)
			}
			source := fmt.Sprintf("format: %s, %s: {framing: registry}", tt.format, tt.format)
			if subject == "t-key" {
				source = fmt.Sprintf("format: raw, key: {format: %s, framing: registry}", tt.format)
			}
			plan := func(columns string) outcome {
				return command(t, "schema", "plan", "-c", file(t, "c.yaml", fmt.Sprintf("name: n\nsource: {brokers: [b:1], topic: t, %s, schema_registry: {urls: [%q]}}\ntable: {uri: %q, columns: {%s}}\n",
					source, fake.URL(), filepath.Join(t.TempDir(), "table"), columns)))
			}
			o := plan("")
			said := advice.FindStringSubmatch(o.stderr)
			if o.code == exitOK || said == nil {
				t.Errorf("%s, %s: exit code %d, and no advice: %s%s", name, subject, o.code, o.stdout, o.stderr)
				continue
			}
			for i, entry := range []string{2: "{type: STRING}", 4: "{drop: true}", 5: "{drop: true}", 6: fmt.Sprintf("{type: %q}", tt.typ)} {
				column := said[i]
				if column == "it" {
					column = said[1]
				}
				if entry == "" || column == "" {
					continue
				}
				if o := plan(fmt.Sprintf("%q: %s", column, entry)); o.code != exitOK {
					t.Errorf("%s, %s: %s\nbut with %s: %s it ends with %d: %s", name, subject, said[0], column, entry, o.code, o.stderr)
				}
			}
		}
	}
}
