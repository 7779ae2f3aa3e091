package main

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"

	"kafkadelta/internal/kafkatest"
)

// shapedColumns have a column of each kind: renamed, dropped, constant, cast, from a path, computed. kind is dropped too, but the filter reads it.
const shapedColumns = `
  filter: "kind IS NULL OR kind <> 'test'"
  columns:
    customer: {from: cust}
    secret: {drop: true}
    m.y: {drop: true}
    kind: {drop: true, type: STRING}
    source: {constant: shop}
    x: {from: m.x}
    day: {from: at, cast: date, type: STRING, epoch: seconds}
    label: {expression: "concat('c', customer, '@', _kafka.partition)"}
    double: {expression: "customer * 2", type: "DECIMAL(20,0)"}
`

// TestColumnsOfEachFormat: a new table gets the configured columns beside the messages' own, in every format alike, and goes on following the
// messages without what is dropped.
func TestColumnsOfEachFormat(t *testing.T) {
	frame := func(id int, index string, payload string) []byte {
		return append(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(id)), index...), payload...)
	}
	for format, tt := range map[string]struct {
		typ      sr.SchemaType
		schemas  [2]string
		messages func(ids []int) [][]byte // a row, one that the filter leaves out, a row of the second version
		narrow   string
	}{
		"avro": {
			sr.TypeAvro, [2]string{
				`{"type":"record","name":"r","fields":[{"name":"cust","type":"int"},{"name":"kind","type":"string"},{"name":"m","type":{"type":"record","name":"m","fields":[{"name":"x","type":"int"}]}},{"name":"at","type":"long"}]}`,
				`{"type":"record","name":"r","fields":[{"name":"cust","type":"long"},{"name":"kind","type":"string"},{"name":"m","type":{"type":"record","name":"m","fields":[{"name":"x","type":"int"},{"name":"y","type":"int"}]}},{"name":"at","type":"long"},{"name":"secret","type":"string"},{"name":"note","type":"string"}]}`,
			},
			func(ids []int) [][]byte {
				return [][]byte{frame(ids[0], "", "\x02\x02a\x04\x00"), frame(ids[0], "", "\x04\x08test\x04\x00"), frame(ids[1], "", "\x06\x02a\x04\x08\x00\x02s\x02n")}
			},
			"INT",
		},
		"protobuf": {
			sr.TypeProtobuf, [2]string{
				`syntax = "proto3"; message R { int32 cust = 1; string kind = 2; message M { int32 x = 1; } M m = 3; int64 at = 4; }`,
				`syntax = "proto3"; message R { int64 cust = 1; string kind = 2; message M { int32 x = 1; int32 y = 2; } M m = 3; int64 at = 4; string secret = 5; string note = 6; }`,
			},
			func(ids []int) [][]byte {
				return [][]byte{frame(ids[0], "\x00", "\x08\x01\x12\x01a\x1a\x02\x08\x02"), frame(ids[0], "\x00", "\x08\x02\x12\x04test"), frame(ids[1], "\x00", "\x08\x03\x1a\x04\x08\x02\x10\x04\x2a\x01s\x32\x01n")}
			},
			"INT",
		},
		"json": {
			sr.TypeJSON, [2]string{
				`{"type":"object","properties":{"cust":{"type":"integer"},"kind":{"type":"string"},"m":{"type":"object","properties":{"x":{"type":"integer"}}},"at":{"type":"integer"}}}`,
				`{"type":"object","properties":{"cust":{"type":"integer"},"kind":{"type":"string"},"m":{"type":"object","properties":{"x":{"type":"integer"},"y":{"type":"integer"}}},"at":{"type":"integer"},"secret":{"type":"string"},"note":{"type":"string"}}}`,
			},
			func(ids []int) [][]byte {
				return [][]byte{frame(ids[0], "", `{"cust":1,"kind":"a","m":{"x":2},"at":0}`), frame(ids[0], "", `{"cust":2,"kind":"test"}`), frame(ids[1], "", `{"cust":3,"m":{"x":2,"y":4},"at":0,"secret":"s","note":"n"}`)}
			},
			"BIGINT",
		},
	} {
		t.Run(format, func(t *testing.T) {
			fake, client := fakeRegistry(t)
			cluster := kafkatest.Start(t, "events", 1)
			table := filepath.Join(t.TempDir(), "table")
			config := file(t, "c.yaml", fmt.Sprintf("name: events\nsource: {brokers: [%q], topic: events, format: %s, %s: {framing: registry}, schema_registry: {urls: [%q]}}\nhttp: {listen: \"off\"}\n",
				cluster.ListenAddrs()[0], format, format, fake.URL())+fmt.Sprintf("table:\n  uri: %q\n  schema_evolution: add_and_widen\n  properties: {delta.enableTypeWidening: \"true\"}", table)+shapedColumns)
			var ids []int
			for i, schema := range tt.schemas {
				s, err := client.CreateSchema(t.Context(), "events-value", sr.Schema{Type: tt.typ, Schema: schema})
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, s.ID)
				if i == 0 {
					kafkatest.Produce(t, cluster.ListenAddrs(), "events", 1, tt.messages([]int{s.ID, s.ID})[:2])
					mustRun(t, "run", "-c", config, "--until-end")
				}
			}
			schema := mustRun(t, "table", "inspect", table).stdout
			for _, want := range []string{"customer " + tt.narrow, "m STRUCT<x: " + tt.narrow + ">", "x " + tt.narrow, "day STRING", "double DECIMAL(20,0)", "label STRING", "source STRING"} {
				if !strings.Contains(schema, want) {
					t.Errorf("the new table has no %s:\n%s", want, schema)
				}
			}
			want := "adds     column note STRING\n"
			if tt.narrow == "INT" {
				want = "widens   column customer from INT to BIGINT\n" + want
			}
			if o := mustRun(t, "schema", "plan", "-c", config); o.stdout != want {
				t.Errorf("the plan is\n%s\nwant\n%s", o.stdout, want)
			}
			kafkatest.Produce(t, cluster.ListenAddrs(), "events", 1, tt.messages(ids)[2:])
			mustRun(t, "run", "-c", config, "--until-end")
			rows := []string{
				`{"customer":1,"day":"1970-01-01","double":"2","label":"c1@0","m":{"x":2},"note":null,"source":"shop","x":2}`,
				`{"customer":3,"day":"1970-01-01","double":"6","label":"c3@0","m":{"x":2},"note":"n","source":"shop","x":2}`,
			}
			if got := rowsOf(t, config, "customer", "day", "double", "label", "m", "note", "source", "x"); !slices.Equal(got, rows) {
				t.Errorf("rows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(rows, "\n"))
			}
			schema = mustRun(t, "table", "inspect", table).stdout
			for _, never := range []string{"secret", "cust ", "kind", "y: "} {
				if strings.Contains(schema, never) {
					t.Errorf("the table has %s:\n%s", never, schema)
				}
			}
			o := mustRun(t, "verify", "-c", config)
			if !strings.Contains(o.stdout, "2 rows") || !strings.Contains(o.stdout, "filtered") {
				t.Error(o.stdout)
			}
			if o := mustRun(t, "explain", "0", "1", "-c", config); !strings.Contains(o.stdout, "1 filtered") || !strings.Contains(o.stdout, "a message that table.filter leaves out") {
				t.Error(o.stdout)
			}
		})
	}
}

// TestColumnsOfRawMessages: expressions read the value as it is, the key and what Kafka tells.
func TestColumnsOfRawMessages(t *testing.T) {
	cluster := kafkatest.Start(t, "raw", 1)
	produce(t, cluster.ListenAddrs(), "raw", &kgo.Record{Key: []byte("k1"), Value: []byte("a,7")}, &kgo.Record{Key: []byte("k2"), Value: []byte("b,8")}, &kgo.Record{Value: []byte("c,9")})
	config := file(t, "c.yaml", fmt.Sprintf(`name: raw
source: {brokers: [%q], topic: raw, format: raw, raw: {type: string}, key: {format: string}}
table:
  uri: %q
  filter: "_key IS NOT NULL AND value NOT LIKE 'b%%'"
  columns:
    value: {drop: true, type: STRING}
    number: {expression: "CAST(substring(value, 3, 1) AS INT)"}
    at: {expression: "_kafka.offset + 1"}
http: {listen: "off"}
`, cluster.ListenAddrs()[0], filepath.Join(t.TempDir(), "table")))
	mustRun(t, "run", "-c", config, "--until-end")
	if got, want := rowsOf(t, config, "_key", "number", "at"), []string{`{"_key":"k1","at":1,"number":7}`}; !slices.Equal(got, want) {
		t.Errorf("%s, want %s", got, want)
	}
	mustRun(t, "verify", "-c", config)
}

// TestReplayComputesColumns: what an expression has failed for becomes a row once the configuration is mended; what the filter leaves out by
// then stays a dead letter.
func TestReplayComputesColumns(t *testing.T) {
	cluster := kafkatest.Start(t, "events", 1)
	produce(t, cluster.ListenAddrs(), "events", &kgo.Record{Value: []byte(`{"a":"1"}`)}, &kgo.Record{Value: []byte(`{"a":"x"}`)}, &kgo.Record{Value: []byte(`{"a":"y"}`)})
	folder := t.TempDir()
	config := func(columns string) string {
		return file(t, "c.yaml", fmt.Sprintf(`name: events
source: {brokers: [%q], topic: events}
on_error: dead_letter
dead_letters: {uri: %q}
table: {uri: %q, schema: "n INT", %s}
http: {listen: "off"}
`, cluster.ListenAddrs()[0], filepath.Join(folder, "letters"), filepath.Join(folder, "table"), columns))
	}
	first := config(`columns: {n: {expression: "CAST(a AS INT)"}, a: {type: STRING, drop: true}}`)
	mustRun(t, "run", "-c", first, "--until-end")
	if o := mustRun(t, "dead-letters", "list", "-c", first); strings.Count(o.stdout, "expression_failed") != 2 {
		t.Error(o.stdout)
	}
	mended := config(`filter: "a <> 'y'", columns: {n: {expression: "length(a) + 10"}, a: {type: STRING, drop: true}}`)
	o := mustRun(t, "dead-letters", "replay", "-c", mended)
	if !strings.Contains(o.stdout, "1 dead letters were replayed, 1 are still bad\npartition 0, offset 2: table.filter leaves it out") {
		t.Error(o.stdout)
	}
	if got, want := rowsOf(t, mended, "n"), []string{`{"n":11}`, `{"n":1}`}; !slices.Equal(got, want) {
		t.Errorf("%s, want %s", got, want)
	}
	mustRun(t, "verify", "-c", mended)
}

// TestColumnSettings: what is wrong about columns is told before anything is read, with key, value and remedy.
func TestColumnSettings(t *testing.T) {
	for settings, want := range map[string]string{
		`schema: "n INT", filter: "n >"`:                                                  `filter: expression "n >", at character 4`,
		`schema: "n INT", filter: "m > 1"`:                                                `there is no column m: if messages have a field of that name, say what it is: columns.m: {type: ..., drop: true}`,
		`schema: "n INT", columns: {n: {expression: "'x' + current_date"}}`:               `columns.n.expression: `,
		`schema: "n TIMESTAMP", columns: {n: {expression: "now()"}}`:                      `it reads the clock`,
		`schema: "n INT", columns: {n: {constant: abc}}`:                                  `columns.n.constant: "abc" is no value for a column of type INT`,
		`schema: "n INT", columns: {n: {type: WORD}}`:                                     `table.columns.n.type: "WORD" is no type: use one of Spark's SQL`,
		`schema: "n INT", columns: {n: {type: "INT, m INT"}}`:                             `"INT, m INT" is more than a type`,
		`schema: "n INT", columns: {n: {type: "INT NOT NULL"}}`:                           `is more than a type`,
		`schema: "n INT", columns: {n: {type: BIGINT}}`:                                   `table.columns.n.type is BIGINT, but the new table's schema says INT: keep one of them`,
		`schema: "n INT", columns: {m: {drop: true, from: x}}`:                            `give it a type, or remove them`,
		`schema: "n INT", columns: {n: {constant: 1, expression: "1"}}`:                   `keep one of them`,
		`schema: "n INT", columns: {m: {constant: 1}}`:                                    `the table has no column "m"`,
		`schema: "n INT, s STRUCT<a: INT>", columns: {s.a: {type: INT}}`:                  `only a top-level column can have a type`,
		`schema: "n INT", columns: {n: {expression: "nosuch(1)"}}`:                        `nosuch`,
		`schema: "s STRING", columns: {s: {expression: "CAST(_kafka.offset AS BOOLEN)"}}`: `BOOLEN`,
	} {
		text := "name: n\nsource: {brokers: [b:1], topic: t}\ntable: {uri: /t, " + settings + "}\n"
		if o := command(t, "validate", "-c", file(t, "c.yaml", text)); o.code != exitConfig || !strings.Contains(o.stderr, want) {
			t.Errorf("%s: exit code %d, %s, want %q", settings, o.code, o.stderr, want)
		}
	}
	for settings, want := range map[string]string{
		`source: {brokers: [b:1], topic: t, format: raw}` + "\ntable: {uri: /t, columns: {a: {from: b}}}":                                                       "use an expression over value",
		`source: {brokers: [b:1], topic: t, format: protobuf, schema_registry: {urls: [http://r]}}` + "\ntable: {uri: /t, columns: {a: {from: b, cast: json}}}": "json takes the text of JSON messages, and source.format is protobuf",
		`source: {brokers: [b:1], topic: t}` + "\ntable: {uri: /t, schema: \"a STRING\", columns: {a: {from: .}}}":                                              "say cast: json, or name a field",
		`source: {brokers: [b:1], topic: t, key: {format: string}}` + "\ntable: {uri: /t, schema: \"_key STRING\", columns: {_key: {constant: x}}}":             "it is the column of the keys",
	} {
		if o := command(t, "validate", "-c", file(t, "c.yaml", "name: n\n"+settings+"\n")); o.code != exitConfig || !strings.Contains(o.stderr, want) {
			t.Errorf("%s: exit code %d, %s, want %q", settings, o.code, o.stderr, want)
		}
	}
}

// withDefaults is a table's schema as Spark makes it, with columns that have defaults.
const withDefaults = `{"type":"struct","fields":[{"name":"id","type":"long","nullable":true,"metadata":{}},` +
	`{"name":"n","type":"integer","nullable":true,"metadata":{"CURRENT_DEFAULT":"7"}},` +
	`{"name":"made","type":"timestamp","nullable":true,"metadata":{"CURRENT_DEFAULT":"now()"}}]}`

// TestColumnsBesideDefaults: a default is for the table's column, not for a field of the same name that only expressions read; expressions
// don't see one that reads the clock.
func TestColumnsBesideDefaults(t *testing.T) {
	cluster := kafkatest.Start(t, "events", 1)
	produce(t, cluster.ListenAddrs(), "events", &kgo.Record{Value: []byte(`{"id":1}`)}, &kgo.Record{Value: []byte(`{"id":2,"n":"x"}`)}, &kgo.Record{Value: []byte(`{"id":3,"n":"y"}`)})
	schema := file(t, "s.json", withDefaults)
	config := func(name, columns string) string {
		return file(t, "c.yaml", fmt.Sprintf("name: %s\nsource: {brokers: [%q], topic: events}\nhttp: {listen: \"off\"}\ntable: {uri: %q, schema_file: %q, %s}\n",
			name, cluster.ListenAddrs()[0], filepath.Join(t.TempDir(), "table"), schema, columns))
	}
	dropped := config("dropped", `filter: "n IS NULL OR n = 'x'", columns: {n: {drop: true, type: STRING}}`)
	mustRun(t, "run", "-c", dropped, "--until-end")
	if got, want := rowsOf(t, dropped, "id", "n"), []string{`{"id":1,"n":null}`, `{"id":2,"n":null}`}; !slices.Equal(got, want) {
		t.Errorf("%s, want %s", got, want)
	}
	computed := config("computed", `filter: "id < 3", columns: {n: {expression: "id"}}`)
	mustRun(t, "run", "-c", computed, "--until-end")
	if got, want := rowsOf(t, computed, "n"), []string{`{"n":1}`, `{"n":2}`}; !slices.Equal(got, want) {
		t.Errorf("%s, want %s", got, want)
	}
	for name, columns := range map[string]string{"filter": `filter: "made IS NOT NULL"`, "expression": `columns: {n: {expression: "year(made)"}}`} {
		o := command(t, "run", "-c", config(name, columns), "--until-end")
		if o.code == exitOK || !strings.Contains(o.stderr, "an expression reads made, whose default reads the clock") {
			t.Errorf("%s: exit code %d: %s", name, o.code, o.stderr)
		}
	}
}

// withGenerated is a table's schema as Spark makes it, with a column that the table computes and that is never null.
const withGenerated = `{"type":"struct","fields":[{"name":"id","type":"long","nullable":true,"metadata":{}},` +
	`{"name":"at","type":"timestamp","nullable":true,"metadata":{}},` +
	`{"name":"day","type":"date","nullable":false,"metadata":{"delta.generationExpression":"CAST(at AS DATE)"}}]}`

// TestGeneratedColumnIsDropped: a column that the table computes need not come from messages, and what they have under its name need not count,
// though it is NOT NULL.
func TestGeneratedColumnIsDropped(t *testing.T) {
	cluster := kafkatest.Start(t, "events", 1)
	produce(t, cluster.ListenAddrs(), "events", &kgo.Record{Value: []byte(`{"id":1,"at":"2024-02-29T12:00:00Z"}`)},
		&kgo.Record{Value: []byte(`{"id":2,"at":"2024-03-01T12:00:00Z","day":"a Friday"}`)}, &kgo.Record{Value: []byte(`{"id":3,"at":"2024-03-02T12:00:00Z","day":"2000-01-01"}`)})
	config := func(name, columns string) string {
		return file(t, "c.yaml", fmt.Sprintf("name: %s\nsource: {brokers: [%q], topic: events}\nhttp: {listen: \"off\"}\non_error: skip\ntable: {uri: %q, schema_file: %q%s}\n",
			name, cluster.ListenAddrs()[0], filepath.Join(t.TempDir(), "table"), file(t, "s.json", withGenerated), columns))
	}
	for name, tt := range map[string]struct {
		columns string
		want    []string
	}{
		"dropped":  {", columns: {day: {drop: true}}", []string{`{"day":"2024-02-29"}`, `{"day":"2024-03-01"}`, `{"day":"2024-03-02"}`}},
		"left-out": {"", []string{`{"day":"2024-02-29"}`}},
		"read":     {`, columns: {day: {drop: true, type: STRING}}, filter: "day IS NULL OR day <> 'a Friday'"`, []string{`{"day":"2024-02-29"}`, `{"day":"2024-03-02"}`}},
	} {
		t.Run(name, func(t *testing.T) {
			c := config(name, tt.columns)
			mustRun(t, "validate", "-c", c)
			mustRun(t, "run", "-c", c, "--until-end")
			if got := rowsOf(t, c, "day"); !slices.Equal(got, tt.want) {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if o := mustRun(t, "schema", "plan", "-c", c, "--schema", file(t, "s.avsc", `{"type":"record","name":"r","fields":[{"name":"id","type":"long"}]}`)); !strings.HasPrefix(o.stdout, "nothing") {
				t.Error(o.stdout)
			}
		})
	}
	plain := strings.Replace(withGenerated, `"delta.generationExpression":"CAST(at AS DATE)"`, "", 1)
	c := file(t, "plain.yaml", fmt.Sprintf("name: n\nsource: {brokers: [b:1], topic: t}\ntable: {uri: /t, schema_file: %q, columns: {day: {drop: true}}}\n", file(t, "plain.json", plain)))
	if o := command(t, "validate", "-c", c); o.code != exitConfig || !strings.Contains(o.stderr, "day is NOT NULL, and nothing would fill it") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
}

// TestMisspeltColumn: under schema evolution an entry may be there before its column, so that a slip in its name is no error; it is told.
func TestMisspeltColumn(t *testing.T) {
	fake, _ := fakeRegistry(t)
	cluster := kafkatest.Start(t, "events", 1)
	table := filepath.Join(t.TempDir(), "table")
	mustRun(t, "table", "create", table, "--schema", "customer STRING, at TIMESTAMP, meta STRUCT<sent: TIMESTAMP>")
	for entry, near := range map[string]string{
		"custmer: {type: STRING}": "customer", "Customer: {type: STRING}": "customer", "meta.snet: {epoch: seconds}": "meta.sent", "buyer: {from: costumer}": "customer",
		"price: {type: INT}": "", "on: {epoch: seconds}": "", "buyer: {from: customer}": "",
	} {
		o := mustRun(t, "run", "--until-end", "-c", file(t, "c.yaml", fmt.Sprintf(`name: events
source: {brokers: [%q], topic: events, json: {framing: registry}, schema_registry: {urls: [%q]}}
table: {uri: %q, schema_evolution: add_columns, columns: {%s}}
http: {listen: "off"}
`, cluster.ListenAddrs()[0], fake.URL(), table, entry)))
		if warned := strings.Contains(o.stderr, "is it misspelt?"); warned != (near != "") || warned && !strings.Contains(o.stderr, "near="+near) {
			t.Errorf("%s: want a warning that names %q: %s", entry, near, o.stderr)
		}
	}
}
