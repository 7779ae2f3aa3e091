package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/parquet/variant"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"kafkadelta/internal/kafkatest"
)

// variants reads a VARIANT column of a table as JSON, by id.
func variants(t *testing.T, table, column string) []string {
	t.Helper()
	var out []string
	for _, row := range readTable(t, table) {
		text := "NULL"
		if v, ok := row[column].(map[string]any); ok {
			value, err1 := base64.StdEncoding.DecodeString(v["value"].(string))
			metadata, err2 := base64.StdEncoding.DecodeString(v["metadata"].(string))
			decoded, err3 := variant.New(metadata, value)
			if err1 != nil || err2 != nil || err3 != nil {
				t.Fatal(err1, err2, err3)
			}
			b, err := json.Marshal(decoded)
			if err != nil {
				t.Fatal(err)
			}
			text = string(b)
		}
		out = append(out, fmt.Sprint(row["id"], " ", text))
	}
	slices.Sort(out)
	return out
}

// TestVariant: a VARIANT column takes any value of JSON messages, and a text with JSON in it of others; the stream follows, plans and verifies as
// for other columns.
func TestVariant(t *testing.T) {
	cluster := kafkatest.Start(t, "events", 1)
	table := filepath.Join(t.TempDir(), "table")
	mustRun(t, "table", "create", table, "--schema", "id BIGINT, v VARIANT")
	produce(t, cluster.ListenAddrs(), "events", &kgo.Record{Value: []byte(`{"id":1,"v":{"b":[1,2.50,"x"],"a":null}}`)}, &kgo.Record{Value: []byte(`{"id":2,"v":"12"}`)},
		&kgo.Record{Value: []byte(`{"id":3,"v":null}`)}, &kgo.Record{Value: []byte(`{"id":4}`)}, &kgo.Record{Value: []byte(`{"id":5,"v":1e999}`)}, &kgo.Record{Value: []byte(`{"id":8,"v":{"skip":true}}`)})
	config := func(name, source, rest string) string {
		return file(t, name+".yaml", fmt.Sprintf("name: %s\nsource: {brokers: [%q], topic: events, %s}\ntable: {uri: %q%s}\non_error: skip\nhttp: {listen: \"off\"}\n", name, cluster.ListenAddrs()[0], source, table, rest))
	}
	first := config("first", "format: json", `, filter: "v IS NULL OR v NOT LIKE '{\"skip%'"`)
	mustRun(t, "run", "-c", first, "--until-end")
	want := []string{`1 {"a":null,"b":[1,2.50,"x"]}`, `2 "12"`, `3 NULL`, `4 NULL`}
	if got := variants(t, table, "v"); !slices.Equal(got, want) {
		t.Errorf("rows %q, want %q", got, want)
	}
	if o := mustRun(t, "verify", "-c", first); !strings.Contains(o.stdout, "4 rows") {
		t.Error(o.stdout)
	}
	if o := mustRun(t, "schema", "plan", "-c", first, "--schema", file(t, "s.json", `{"type":"object","properties":{"id":{"type":"integer"},"v":{"type":"object","properties":{"a":{"type":"integer"}}}}}`)); !strings.Contains(o.stdout, "nothing") {
		t.Error(o.stdout)
	}
	if o := mustRun(t, "table", "inspect", table); !strings.Contains(o.stdout, "v VARIANT") {
		t.Error(o.stdout)
	}
	mustRun(t, "table", "append", table, "--input", file(t, "in.jsonl", `{"id":6,"v":[]}`))
	if o := command(t, "table", "append", table, "--input", file(t, "bad.jsonl", `{"id":7,"v":1e999}`)); o.code == exitOK || !strings.Contains(o.stderr, "column v: invalid_value") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
	table = filepath.Join(t.TempDir(), "raw")
	raw := config("second", "format: raw, raw: {column: v}, start: earliest", `, schema: "v VARIANT"`)
	mustRun(t, "run", "-c", raw, "--until-end")
	if got := variants(t, table, "v"); len(got) != 5 || !slices.Contains(got, `<nil> {"id":2,"v":"12"}`) {
		t.Errorf("rows %q", got)
	}
}

// TestVariantOfEachFormat: a new table has a VARIANT for what has no schema, from JSON, a text with JSON in it, or Protobuf's Struct; it stays one
// while the table follows the messages.
func TestVariantOfEachFormat(t *testing.T) {
	object, err := structpb.NewStruct(map[string]any{"b": []any{1.5, "x"}, "a": nil})
	if err != nil {
		t.Fatal(err)
	}
	structOf := func(id byte, v *structpb.Struct) string {
		b, err := proto.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string([]byte{0, 0x08, id, 0x12, byte(len(b))}) + string(b)
	}
	text := func(id byte, v string) string { return string([]byte{id * 2, byte(len(v) * 2)}) + v }
	for format, tt := range map[string]struct {
		typ      sr.SchemaType
		schemas  [2]string
		messages []string // framed by the first schema, the last one by the second
		want     []string
	}{
		"avro": {
			sr.TypeAvro, [2]string{
				`{"type":"record","name":"r","fields":[{"name":"id","type":"long"},{"name":"payload","type":"string"}]}`,
				`{"type":"record","name":"r","fields":[{"name":"id","type":"long"},{"name":"payload","type":"string"},{"name":"note","type":"string"}]}`,
			},
			[]string{text(1, `{"b":[1.5,"x"],"a":null}`), text(2, "null"), text(3, "no JSON"), text(4, `"x"`) + "\x02n"},
			[]string{`1 {"a":null,"b":[1.5,"x"]}`, `2 null`, `4 "x"`},
		},
		"protobuf": {
			sr.TypeProtobuf, [2]string{
				`syntax = "proto3"; import "google/protobuf/struct.proto"; message R { int64 id = 1; google.protobuf.Struct payload = 2; }`,
				`syntax = "proto3"; import "google/protobuf/struct.proto"; message R { int64 id = 1; google.protobuf.Struct payload = 2; string note = 3; }`,
			},
			[]string{structOf(1, object), "\x00\x08\x02", structOf(4, object) + "\x1a\x01n"},
			[]string{`1 {"a":null,"b":[1.5,"x"]}`, `2 NULL`, `4 {"a":null,"b":[1.5,"x"]}`},
		},
		"json": {
			sr.TypeJSON, [2]string{
				`{"type":"object","properties":{"id":{"type":"integer"},"payload":{"type":"object","properties":{"a":{"type":"integer"}}}}}`,
				`{"type":"object","properties":{"id":{"type":"integer"},"payload":{"type":"string"},"note":{"type":"string"}}}`,
			},
			[]string{`{"id":1,"payload":{"b":[1.5,"x"],"a":null}}`, `{"id":2,"payload":null}`, `{"id":4,"payload":"x","note":"n"}`},
			[]string{`1 {"a":null,"b":[1.5,"x"]}`, `2 NULL`, `4 "x"`},
		},
	} {
		t.Run(format, func(t *testing.T) {
			fake, client := fakeRegistry(t)
			cluster := kafkatest.Start(t, "events", 1)
			table := filepath.Join(t.TempDir(), "table")
			config := file(t, "c.yaml", fmt.Sprintf("name: events\nsource: {brokers: [%q], topic: events, format: %s, %s: {framing: registry}, schema_registry: {urls: [%q]}}\nhttp: {listen: \"off\"}\non_error: skip\n",
				cluster.ListenAddrs()[0], format, format, fake.URL())+fmt.Sprintf("table: {uri: %q, schema_evolution: add_columns, columns: {payload: {type: VARIANT}}}\n", table))
			for i, schema := range tt.schemas {
				s, err := client.CreateSchema(t.Context(), "events-value", sr.Schema{Type: tt.typ, Schema: schema})
				if err != nil {
					t.Fatal(err)
				}
				messages := tt.messages[:len(tt.messages)-1]
				if i == 1 {
					messages = tt.messages[len(tt.messages)-1:]
				}
				for _, m := range messages {
					produce(t, cluster.ListenAddrs(), "events", &kgo.Record{Value: append([]byte{0, 0, 0, 0, byte(s.ID)}, m...)})
				}
				mustRun(t, "run", "-c", config, "--until-end")
			}
			if got := variants(t, table, "payload"); !slices.Equal(got, tt.want) {
				t.Errorf("rows %q, want %q", got, tt.want)
			}
			if o := mustRun(t, "table", "inspect", table); !strings.Contains(o.stdout, "payload VARIANT") || !strings.Contains(o.stdout, "note STRING") || !strings.Contains(o.stdout, "variantType") {
				t.Error(o.stdout)
			}
			mustRun(t, "verify", "-c", config)
		})
	}
}

// TestVariantWhereItCantBe is refused by name.
func TestVariantWhereItCantBe(t *testing.T) {
	for settings, want := range map[string]string{
		`schema: "v STRUCT<a: VARIANT>"`:                                                             "VARIANT within another column is not supported",
		`schema: "n INT, v VARIANT", partition_by: [v]`:                                              "only plain types can be partition columns",
		`schema: "n INT, v VARIANT", columns: {v: {expression: "n"}}`:                                "columns.v.expression",
		`schema: "n INT, v VARIANT", columns: {v: {constant: "1"}}`:                                  "columns.v.constant",
		`schema: "n INT, v VARIANT", columns: {v: {cast: date}}`:                                     "columns.v.cast: date is for other types, and the column is VARIANT",
		`schema: "n INT, v VARIANT", columns: {v: {epoch: millis}}`:                                  "columns.v.epoch: the column is VARIANT: remove it",
		`schema: "n INT, v VARIANT", columns: {w: {type: VARIANT, drop: true}}, filter: "w IS NULL"`: "table.columns.w.type: expressions read no VARIANT",
	} {
		text := "name: n\nsource: {brokers: [b:1], topic: t}\ntable: {uri: /t, " + settings + "}\n"
		if o := command(t, "validate", "-c", file(t, "c.yaml", text)); o.code != exitConfig || !strings.Contains(o.stderr, want) {
			t.Errorf("%s: exit code %d, %s, want %q", settings, o.code, o.stderr, want)
		}
	}
	o := command(t, "table", "create", filepath.Join(t.TempDir(), "table"), "--schema", "n INT, v VARIANT", "--cluster-by", "v")
	if o.code == exitOK || !strings.Contains(o.stderr, "clustering column v has the type variant") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
	keys := file(t, "k.yaml", fmt.Sprintf("name: n\nsource: {brokers: [%q], topic: t, key: {format: string}}\nhttp: {listen: \"off\"}\ntable: {uri: %q, schema: \"n INT, _key VARIANT\"}\n",
		kafkatest.Start(t, "t", 1).ListenAddrs()[0], filepath.Join(t.TempDir(), "table")))
	if o := command(t, "run", "-c", keys, "--until-end"); o.code == exitOK || !strings.Contains(o.stderr, `the column "_key" for keys is VARIANT`) {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
}

// TestVariantInManyTables: each of the tables that rows are divided among gets the values of its own, which lie scattered among those of others; one
// that is no VARIANT is poison wherever it belongs.
func TestVariantInManyTables(t *testing.T) {
	cluster := kafkatest.Start(t, "orders", 2)
	folder := t.TempDir()
	config := func(uri string) string {
		return file(t, "c.yaml", fmt.Sprintf("name: orders\nsource: {brokers: [%q], topic: orders}\nhttp: {listen: \"off\"}\non_error: dead_letter\ndead_letters: {uri: %q}\ntable: {uri: %q, schema: \"id BIGINT, country STRING, v VARIANT\"}\n",
			cluster.ListenAddrs()[0], filepath.Join(folder, "_dead"), folder+uri))
	}
	divided := config("/{field:country}")
	countries := []string{"de", "us", "fr"}
	want := map[string][]string{}
	bring := func(first, n int) {
		var values [][]byte
		for i := first; i < first+n; i++ {
			country := countries[i%len(countries)]
			switch i % 10 {
			case 7:
				values = append(values, fmt.Appendf(nil, `{"id":%d,"country":%q,"v":1e999}`, i, country))
			case 8:
				values = append(values, fmt.Appendf(nil, `{"id":%d,"country":%q}`, i, country))
				want[country] = append(want[country], fmt.Sprintf("%d NULL", i))
			default:
				values = append(values, fmt.Appendf(nil, `{"id":%d,"country":%q,"v":{"of":%q,"n":[%d,%d.5]}}`, i, country, country, i, i))
				want[country] = append(want[country], fmt.Sprintf(`%d {"n":[%d,%d.5],"of":%q}`, i, i, i, country))
			}
		}
		kafkatest.Produce(t, cluster.ListenAddrs(), "orders", 2, values)
		mustRun(t, "run", "-c", divided, "--until-end")
	}
	bring(0, 300)
	bring(300, 30)
	for _, country := range countries {
		slices.Sort(want[country])
		if got := variants(t, filepath.Join(folder, country), "v"); !slices.Equal(got, want[country]) {
			t.Errorf("table %s has %q, want %q", country, got, want[country])
		}
	}
	if o := mustRun(t, "verify", "-c", divided); strings.Count(o.stdout, ": ok\n") != 4 || strings.Count(mustRun(t, "dead-letters", "list", "-c", divided).stdout, "expression_failed") != 33 {
		t.Errorf("verify tells\n%s", o.stdout)
	}
	if o := command(t, "validate", "-c", config("/by/{field:v}")); o.code != exitConfig || !strings.Contains(o.stderr, "its values can't name a table") {
		t.Errorf("a VARIANT that names tables: exit code %d: %s", o.code, o.stderr)
	}
}
