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
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"kafkadelta/internal/kafkatest"
)

// framed is a message in a registry's framing.
func framed(id int, payload string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(id)), payload...)
}

// TestTableFollowsTheRegistry: a table that was made from the first version of a subject gets what the later ones bring, at every depth, in
// all formats that a registry tells; without table.schema_evolution it does not.
func TestTableFollowsTheRegistry(t *testing.T) {
	frame := func(id int, index string, payload ...byte) []byte {
		return append(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(id)), index...), payload...)
	}
	for format, tt := range map[string]struct {
		typ      sr.SchemaType
		schemas  [2]string
		messages func(ids []int) [][]byte // of the first version, of the second one
		want     []string
	}{
		"avro": {
			sr.TypeAvro, [2]string{
				`{"type":"record","name":"r","fields":[{"name":"id","type":"long"},{"name":"m","type":{"type":"record","name":"m","fields":[{"name":"x","type":"int"}]}}]}`,
				`{"type":"record","name":"r","fields":[{"name":"id","type":"long"},{"name":"m","type":{"type":"record","name":"m","fields":[{"name":"y","type":"string","default":""},{"name":"x","type":"int"}]}},{"name":"note","type":"string","default":""}]}`,
			},
			func(ids []int) [][]byte {
				return [][]byte{frame(ids[0], "", 2, 4), frame(ids[1], "", 2, 2, 'y', 4, 2, 'n')}
			},
			[]string{"m STRUCT<x: INT, y: STRING>", "note STRING"},
		},
		"protobuf": {
			sr.TypeProtobuf, [2]string{
				`syntax = "proto3"; message R { int64 id = 1; message M { int32 x = 1; } M m = 2; }`,
				`syntax = "proto3"; message R { int64 id = 1; message M { int32 x = 1; string y = 2; } M m = 2; string note = 3; }`,
			},
			func(ids []int) [][]byte {
				return [][]byte{frame(ids[0], "\x00", 8, 1, 18, 2, 8, 2), frame(ids[1], "\x00", 8, 1, 18, 5, 8, 2, 18, 1, 'y', 26, 1, 'n')}
			},
			[]string{"m STRUCT<x: INT, y: STRING>", "note STRING"},
		},
		"json": {
			sr.TypeJSON, [2]string{
				`{"type":"object","properties":{"id":{"type":"integer"},"m":{"type":"object","properties":{"x":{"type":"integer"}}}}}`,
				`{"type":"object","properties":{"id":{"type":"integer"},"m":{"type":"object","properties":{"x":{"type":"integer"},"y":{"type":"string"}}},"note":{"type":"string"}}}`,
			},
			func(ids []int) [][]byte {
				return [][]byte{frame(ids[0], `{"id":1,"m":{"x":2}}`), frame(ids[1], `{"id":1,"m":{"x":2,"y":"y"},"note":"n"}`)}
			},
			[]string{"m STRUCT<x: BIGINT, y: STRING>", "note STRING"},
		},
	} {
		t.Run(format, func(t *testing.T) {
			fake, client := fakeRegistry(t)
			cluster := kafkatest.Start(t, "events", 2)
			text := fmt.Sprintf("name: events\nsource: {brokers: [%q], topic: events, format: %s, %s: {framing: registry}, schema_registry: {urls: [%q]}}\nhttp: {listen: \"off\"}\n",
				cluster.ListenAddrs()[0], format, format, fake.URL())
			table := filepath.Join(t.TempDir(), "table")
			config := file(t, "c.yaml", text+fmt.Sprintf("table: {uri: %q, schema_evolution: add_columns}\n", table))
			var ids []int
			for i, schema := range tt.schemas {
				s, err := client.CreateSchema(t.Context(), "events-value", sr.Schema{Type: tt.typ, Schema: schema})
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, s.ID)
				if i == 0 {
					kafkatest.Produce(t, cluster.ListenAddrs(), "events", 2, tt.messages([]int{s.ID, s.ID})[:1])
					mustRun(t, "run", "-c", config, "--until-end")
				}
			}
			for range 5 { // the versions in turn
				kafkatest.Produce(t, cluster.ListenAddrs(), "events", 2, tt.messages(ids))
			}
			stays := filepath.Join(t.TempDir(), "stays")
			none := file(t, "none.yaml", strings.Replace(text, "name: events", "name: stays", 1)+fmt.Sprintf("table: {uri: %q, schema: \"id BIGINT\"}\n", stays))
			mustRun(t, "run", "-c", none, "--until-end")
			mustRun(t, "run", "-c", config, "--until-end")
			schema := mustRun(t, "table", "inspect", table).stdout
			for _, want := range tt.want {
				if !strings.Contains(schema, want) {
					t.Errorf("the table has no %s:\n%s", want, schema)
				}
			}
			if o := mustRun(t, "table", "inspect", stays); strings.Contains(o.stdout, "note") {
				t.Errorf("a table that is not to follow has: %s", o.stdout)
			}
			if o := mustRun(t, "verify", "-c", config); !strings.Contains(o.stdout, "11 rows") {
				t.Error(o.stdout)
			}
		})
	}
}

// TestColumnsToCome: what the configuration says of a column counts from the messages on that bring it, and until then the stream runs without. A
// type that is configured is the one that the column gets, and keeps.
func TestColumnsToCome(t *testing.T) {
	fake, client := fakeRegistry(t)
	cluster := kafkatest.Start(t, "events", 1)
	table := filepath.Join(t.TempDir(), "table")
	mustRun(t, "table", "create", table, "--schema", "n BIGINT", "--property", "delta.enableTypeWidening=true")
	text := fmt.Sprintf(`name: events
source: {brokers: [%q], topic: events, json: {framing: registry}, schema_registry: {urls: [%q]}}
http: {listen: "off"}
on_error: skip
table:
  uri: %q
  schema_evolution: add_and_widen
  columns:
    price: {type: "DECIMAL(6,2)"}
    at: {type: TIMESTAMP, epoch: seconds}
    m.at: {epoch: seconds}
    customer: {from: cust}
    payload: {type: VARIANT}
    count: {type: INT}
`, cluster.ListenAddrs()[0], fake.URL(), table)
	config := file(t, "c.yaml", text)
	number := `"n":{"type":"integer"}`
	for i, tt := range []struct{ properties, message, plan string }{
		{number, `{"n":1,"price":1}`, "nothing: the table takes messages of this schema as it is\n"},
		{number + `,"price":{"type":"number"},"at":{"type":"integer"},"m":{"type":"object","properties":{"at":{"type":"string","format":"date-time"}}},"cust":{"type":"string"},"payload":{"type":"object","properties":{"a":{"type":"integer"}}},"count":{"type":"integer"}`,
			`{"n":2,"price":12.5,"at":86400,"m":{"at":86400},"cust":"c","payload":{"b":[1]},"count":7}`,
			`adds     column price DECIMAL(6,2)
checks   column price: it is DECIMAL(6,2) in the table, and messages have DOUBLE: what does not fit is poison
adds     column at TIMESTAMP
checks   column at: it is TIMESTAMP in the table, and messages have BIGINT: what does not fit is poison
adds     column m STRUCT<at: TIMESTAMP>
adds     column customer STRING
adds     column payload VARIANT
adds     column count INT
checks   column count: it is INT in the table, and messages have BIGINT: what does not fit is poison
`},
		{number + `,"price":{"type":"number"},"count":{"type":"integer"}`, `{"n":3,"price":0.125,"count":1}`,
			`checks   column price: it is DECIMAL(6,2) in the table, and messages have DOUBLE: what does not fit is poison
checks   column count: it is INT in the table, and messages have BIGINT: what does not fit is poison
`},
	} {
		s, err := client.CreateSchema(t.Context(), "events-value", sr.Schema{Type: sr.TypeJSON, Schema: `{"type":"object","properties":{` + tt.properties + `}}`})
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			if o := mustRun(t, "schema", "plan", "-c", config); o.stdout != tt.plan {
				t.Errorf("the plan is\n%s\nwant\n%s", o.stdout, tt.plan)
			}
		}
		kafkatest.Produce(t, cluster.ListenAddrs(), "events", 1, [][]byte{append(binary.BigEndian.AppendUint32([]byte{0}, uint32(s.ID)), tt.message...)})
		if o := mustRun(t, "run", "-c", config, "--until-end"); strings.Contains(o.stderr, "gets it with the first messages") != (i < 2) {
			t.Errorf("the log tells of columns to come: %s", o.stderr)
		}
		if i == 0 {
			if o := mustRun(t, "schema", "plan", "-c", config); o.stdout != tt.plan {
				t.Errorf("the plan is\n%s\nwant\n%s", o.stdout, tt.plan)
			}
		}
	}
	want := []string{`{"at":"1970-01-02T00:00:00Z","count":7,"customer":"c","m":{"at":"1970-01-02T00:00:00Z"},"n":2,"price":"12.5"}`,
		`{"at":null,"count":null,"customer":null,"m":null,"n":1,"price":null}`}
	got := rowsOf(t, config, "n", "price", "at", "m", "customer", "count")
	slices.Sort(got)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("rows\n%s\nwant\n%s", got, want)
	}
	if o := mustRun(t, "table", "inspect", table); !strings.Contains(o.stdout, "price DECIMAL(6,2)") || !strings.Contains(o.stdout, "count INT") || !strings.Contains(o.stdout, "variantType") {
		t.Error(o.stdout)
	}
	mustRun(t, "verify", "-c", config)
	fresh := filepath.Join(t.TempDir(), "fresh")
	mustRun(t, "run", "-c", file(t, "fresh.yaml", strings.NewReplacer("name: events", "name: fresh", table, fresh, "customer: {from: cust}", "customer: {from: to-come}").Replace(text)), "--until-end")
	if o := mustRun(t, "table", "inspect", fresh); !strings.Contains(o.stdout, "price DECIMAL(6,2)") || strings.Contains(o.stdout, "customer") {
		t.Error(o.stdout)
	}
}

// TestWideningThatAnExpressionDoesNotTake: the messages are poison, as those of any schema that the table can't follow, and the stream goes on.
func TestWideningThatAnExpressionDoesNotTake(t *testing.T) {
	fake, client := fakeRegistry(t)
	cluster := kafkatest.Start(t, "events", 1)
	table := filepath.Join(t.TempDir(), "table")
	mustRun(t, "table", "create", table, "--schema", "n INT, day DATE", "--property", "delta.enableTypeWidening=true")
	config := file(t, "c.yaml", fmt.Sprintf(`name: events
source: {brokers: [%q], topic: events, format: avro, schema_registry: {urls: [%q]}}
http: {listen: "off"}
on_error: skip
table:
  uri: %q
  schema_evolution: add_and_widen
  columns: {day: {expression: "date_add(DATE '2020-01-01', n)"}}
`, cluster.ListenAddrs()[0], fake.URL(), table))
	var messages [][]byte
	for _, typ := range []string{"int", "long"} {
		s, err := client.CreateSchema(t.Context(), "events-value", sr.Schema{Type: sr.TypeAvro, Schema: `{"type":"record","name":"r","fields":[{"name":"n","type":"` + typ + `"}]}`})
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, framed(s.ID, "\x02"))
	}
	kafkatest.Produce(t, cluster.ListenAddrs(), "events", 1, [][]byte{messages[0], messages[1], messages[0]})
	mustRun(t, "run", "-c", config, "--until-end")
	if rows := rowsOf(t, config, "n", "day"); fmt.Sprint(rows) != `[{"day":"2020-01-02","n":1} {"day":"2020-01-02","n":1}]` {
		t.Errorf("rows %s", rows)
	}
	if o := command(t, "schema", "plan", "-c", config); o.code != exitPoison || !strings.Contains(o.stdout, "date_add takes INT here, not BIGINT") {
		t.Errorf("the plan ends with %d: %s%s", o.code, o.stdout, o.stderr)
	}
}

// TestWideningThatNamesOtherTables: values of a wider type may be spelled otherwise, and would name other tables than before. Those that are not are followed.
func TestWideningThatNamesOtherTables(t *testing.T) {
	for _, tt := range []struct {
		column, from, to string
		rows, plan       int
		breaks           string
	}{
		{"kind INT", `"int"`, `"long"`, 3, exitOK, ""},
		{"kind DATE", `{"type":"int","logicalType":"date"}`, `{"type":"long","logicalType":"local-timestamp-micros"}`, 2, exitPoison, "{field:kind} as date, and are to be by {field:kind} as timestamp without a zone"},
	} {
		t.Run(tt.column, func(t *testing.T) {
			fake, client := fakeRegistry(t)
			cluster := kafkatest.Start(t, "events", 1)
			folder := t.TempDir()
			config := file(t, "c.yaml", fmt.Sprintf(`name: events
source: {brokers: [%q], topic: events, format: avro, schema_registry: {urls: [%q]}}
http: {listen: "off"}
on_error: skip
table:
  uri: %q
  create: if_missing
  schema: %s
  schema_evolution: add_and_widen
  properties: {delta.enableTypeWidening: "true"}
`, cluster.ListenAddrs()[0], fake.URL(), filepath.Join(folder, "{field:kind}"), tt.column))
			var messages [][]byte
			for _, typ := range []string{tt.from, tt.to} {
				s, err := client.CreateSchema(t.Context(), "events-value", sr.Schema{Type: sr.TypeAvro, Schema: `{"type":"record","name":"r","fields":[{"name":"kind","type":` + typ + `}]}`})
				if err != nil {
					t.Fatal(err)
				}
				messages = append(messages, framed(s.ID, "\x02"))
			}
			kafkatest.Produce(t, cluster.ListenAddrs(), "events", 1, [][]byte{messages[0], messages[1], messages[0]})
			if o := mustRun(t, "run", "-c", config, "--until-end"); !strings.Contains(o.stderr, fmt.Sprintf(" rows=%d ", tt.rows)) {
				t.Errorf("want %d rows: %s", tt.rows, o.stderr)
			}
			if plan := command(t, "schema", "plan", "-c", config); plan.code != tt.plan || !strings.Contains(plan.stdout, tt.breaks) {
				t.Errorf("the plan ends with %d: %s%s", plan.code, plan.stdout, plan.stderr)
			}
			mustRun(t, "run", "-c", config, "--until-end") // and the next start goes on
		})
	}
}

// TestEvolutionSettings: where messages tell no schema, there is none to follow.
func TestEvolutionSettings(t *testing.T) {
	for settings, want := range map[string]string{
		"source: {brokers: [b:1], topic: t}\ntable: {uri: /t, schema_evolution: add_columns}":                                                                                   "tell no schema to follow",
		"source: {brokers: [b:1], topic: t, format: raw}\ntable: {uri: /t, schema_evolution: add_columns}":                                                                      "tell no schema to follow",
		"source: {brokers: [b:1], topic: t}\ntable: {uri: /t, schema: \"n INT\", schema_evolution: sometimes}":                                                                  "use none, add_columns or add_and_widen",
		"source: {brokers: [b:1], topic: t, format: avro, avro: {reader_schema: r.avsc}, schema_registry: {urls: [http://r]}}\ntable: {uri: /t, schema_evolution: add_columns}": "leave one of them out",
	} {
		if o := command(t, "validate", "-c", file(t, "c.yaml", "name: n\n"+settings+"\n")); o.code == exitOK || !strings.Contains(o.stderr, want) {
			t.Errorf("%s: exit code %d, %s, want %q", settings, o.code, o.stderr, want)
		}
	}
}

func fakeRegistry(t *testing.T) (*srfake.Registry, *sr.Client) {
	t.Helper()
	fake := srfake.New()
	t.Cleanup(fake.Close)
	client, err := sr.NewClient(sr.URLs(fake.URL()))
	if err != nil {
		t.Fatal(err)
	}
	return fake, client
}

// TestKeysAreFollowed: the column of the keys gets what their later schemas bring, in all formats that a registry tells.
func TestKeysAreFollowed(t *testing.T) {
	for format, tt := range map[string]struct {
		typ     sr.SchemaType
		schemas [2]string
		keys    [2]string
	}{
		"avro": {sr.TypeAvro, [2]string{
			`{"type":"record","name":"k","fields":[{"name":"id","type":"long"}]}`,
			`{"type":"record","name":"k","fields":[{"name":"region","type":"string"},{"name":"id","type":"long"}]}`,
		}, [2]string{"\x02", "\x04eu\x04"}},
		"protobuf": {sr.TypeProtobuf, [2]string{
			`syntax = "proto3"; message K { int64 id = 1; }`, `syntax = "proto3"; message K { int64 id = 1; string region = 2; }`,
		}, [2]string{"\x00\x08\x01", "\x00\x08\x02\x12\x02eu"}},
		"json": {sr.TypeJSON, [2]string{
			`{"type":"object","properties":{"id":{"type":"integer"}}}`, `{"type":"object","properties":{"id":{"type":"integer"},"region":{"type":"string"}}}`,
		}, [2]string{`{"id":1}`, `{"id":2,"region":"eu"}`}},
	} {
		t.Run(format, func(t *testing.T) {
			fake, client := fakeRegistry(t)
			cluster := kafkatest.Start(t, "events", 1)
			value, err := client.CreateSchema(t.Context(), "events-value", sr.Schema{Type: sr.TypeJSON, Schema: `{"type":"object","properties":{"n":{"type":"integer"}}}`})
			if err != nil {
				t.Fatal(err)
			}
			config := file(t, "c.yaml", fmt.Sprintf("name: events\nsource: {brokers: [%q], topic: events, json: {framing: registry}, key: {format: %s, framing: registry}, schema_registry: {urls: [%q]}}\nhttp: {listen: \"off\"}\ntable: {uri: %q, schema_evolution: add_columns}\n",
				cluster.ListenAddrs()[0], format, fake.URL(), filepath.Join(t.TempDir(), "table")))
			var keys [][]byte
			for i, schema := range tt.schemas {
				s, err := client.CreateSchema(t.Context(), "events-key", sr.Schema{Type: tt.typ, Schema: schema})
				if err != nil {
					t.Fatal(err)
				}
				keys = append(keys, framed(s.ID, tt.keys[i]))
				for n := range i + 1 { // the old one comes again
					produce(t, cluster.ListenAddrs(), "events", &kgo.Record{Key: keys[i-n], Value: framed(value.ID, fmt.Sprintf(`{"n":%d}`, 2*i+n))})
				}
				mustRun(t, "run", "-c", config, "--until-end")
			}
			want := []string{`{"_key":{"id":1,"region":null},"n":3}`, `{"_key":{"id":1},"n":0}`, `{"_key":{"id":2,"region":"eu"},"n":2}`} // the second one is in a file of before
			if got := rowsOf(t, config, "_key", "n"); !slices.Equal(got, want) {
				t.Errorf("rows %s, want %s", got, want)
			}
			if o := mustRun(t, "verify", "-c", config); !strings.Contains(o.stdout, "3 rows") {
				t.Error(o.stdout)
			}
		})
	}
}

// TestFieldsThatNoColumnHolds: a field that no column can hold by its schema, such as one of several types or a type within itself, keeps no table
// from following the others, as long as the table or the configuration says what becomes of it.
func TestFieldsThatNoColumnHolds(t *testing.T) {
	for format, tt := range map[string]struct {
		typ                              sr.SchemaType
		schema, message, columns, wanted string
		refused                          string // without any of it
	}{
		"json": {sr.TypeJSON, `{"type":"object","properties":{"id":{"type":"integer"},"odd":{"type":["string","integer"]},"s":{"type":"object","properties":{"odd":{"oneOf":[{"type":"string"},{"type":"integer"}]},"new":{"type":"integer"}}},"next":{"$ref":"#"},"note":{"type":"string"}}}`,
			`{"id":1,"odd":7,"s":{"odd":"x","new":2},"next":{"id":2},"note":"n"}`, "id BIGINT, odd STRING, s STRUCT<odd: STRING>, next STRING",
			`{"id":1,"next":"{\"id\":2}","note":"n","odd":"7","s":{"new":2,"odd":"x"}}`, "several types"},
		"avro": {sr.TypeAvro, `{"type":"record","name":"r","fields":[{"name":"id","type":"long"},{"name":"next","type":["null","r"]},{"name":"note","type":"string"}]}`,
			"\x02\x02\x04\x00\x02x\x02n", "id BIGINT, next STRUCT<id: BIGINT>", `{"id":1,"next":{"id":2},"note":"n","odd":null,"s":null}`, "contains itself"},
		"protobuf": {sr.TypeProtobuf, `syntax = "proto3"; message R { int64 id = 1; R next = 2; string note = 3; }`,
			"\x00\x08\x01\x12\x02\x08\x02\x1a\x01n", "id BIGINT, next STRUCT<id: BIGINT>", `{"id":1,"next":{"id":2},"note":"n","odd":null,"s":null}`, "contains itself"},
	} {
		t.Run(format, func(t *testing.T) {
			fake, client := fakeRegistry(t)
			cluster := kafkatest.Start(t, "events", 1)
			s, err := client.CreateSchema(t.Context(), "events-value", sr.Schema{Type: tt.typ, Schema: tt.schema})
			if err != nil {
				t.Fatal(err)
			}
			kafkatest.Produce(t, cluster.ListenAddrs(), "events", 1, [][]byte{framed(s.ID, tt.message)})
			streams := 0
			config := func(table string) string {
				streams++
				return file(t, "c.yaml", fmt.Sprintf("name: events-%d\nsource: {brokers: [%q], topic: events, format: %s, %s: {framing: registry}, schema_registry: {urls: [%q]}}\nhttp: {listen: \"off\"}\ntable: {uri: %q, schema_evolution: add_columns, kafka_metadata: {enabled: false}, %s}\n",
					streams, cluster.ListenAddrs()[0], format, format, fake.URL(), filepath.Join(t.TempDir(), "table"), table))
			}
			said := config(fmt.Sprintf("schema: %q", tt.columns))
			plan := mustRun(t, "schema", "plan", "-c", said)
			if !strings.Contains(plan.stdout, "adds     column note STRING\n") || strings.Contains(plan.stdout, "checks") {
				t.Errorf("the plan is\n%s", plan.stdout)
			}
			mustRun(t, "run", "-c", said, "--until-end")
			if got := rowsOf(t, said, "id", "next", "note", "odd", "s"); !slices.Equal(got, []string{tt.wanted}) {
				t.Errorf("rows %s, want %s", got, tt.wanted)
			}
			if plan := mustRun(t, "schema", "plan", "-c", said); !strings.HasPrefix(plan.stdout, "nothing") {
				t.Errorf("the plan is\n%s", plan.stdout)
			}
			dropped := config("columns: {odd: {type: STRING}, s: {drop: true}, next: {drop: true}}")
			if format != "json" {
				dropped = config("columns: {next: {drop: true}}")
			}
			mustRun(t, "run", "-c", dropped, "--until-end")
			if got := rowsOf(t, dropped, "id", "note", "next"); !slices.Equal(got, []string{`{"id":1,"next":null,"note":"n"}`}) {
				t.Errorf("rows %s", got)
			}
			for _, args := range [][]string{{"run", "--until-end"}, {"schema", "plan"}} {
				if o := command(t, append(args, "-c", config(""))...); o.code == exitOK || !strings.Contains(o.stderr, tt.refused) {
					t.Errorf("%v of a table of which nothing is said: exit code %d, %s", args, o.code, o.stderr)
				}
			}
			lacks := config(`schema: "id BIGINT"`)
			if o := command(t, "run", "-c", lacks, "--until-end"); o.code != exitPoison || !strings.Contains(o.stderr, tt.refused) {
				t.Errorf("a table without a column for it: exit code %d, %s", o.code, o.stderr)
			}
		})
	}
}

// TestWhatTheTableDoesNotFollowOfKeys: what is dropped of them is no column, and those whose schema the table can't follow are poison, while the stream goes on.
func TestWhatTheTableDoesNotFollowOfKeys(t *testing.T) {
	for name, tt := range map[string]struct {
		keys    [2]string // schemas, from the one to the other
		bytes   [2]string
		uri     string
		columns string
		table   string // to be made before
		rows    int
	}{
		"a field that is dropped": {
			[2]string{`{"type":"record","name":"k","fields":[{"name":"id","type":"int"}]}`, `{"type":"record","name":"k","fields":[{"name":"id","type":"int"},{"name":"email","type":"string"}]}`},
			[2]string{"\x02", "\x04\x02x"}, "table", `{_key.email: {drop: true}}`, "", 3,
		},
		"a wider type that an expression does not take": {
			[2]string{`"int"`, `"long"`}, [2]string{"\x02", "\x04"}, "table", `{day: {expression: "date_add(DATE '2020-01-01', _key)"}}`, "n BIGINT, _key INT, day DATE", 2,
		},
		"a wider type that names other tables": {
			[2]string{`"int"`, `"double"`}, [2]string{"\x02", "\x00\x00\x00\x00\x00\x00\x00\x00"}, "{field:_key}", `{}`, "", 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			fake, client := fakeRegistry(t)
			cluster := kafkatest.Start(t, "events", 1)
			folder := t.TempDir()
			if tt.table != "" {
				mustRun(t, "table", "create", filepath.Join(folder, tt.uri), "--schema", tt.table, "--property", "delta.enableTypeWidening=true")
			}
			value, err := client.CreateSchema(t.Context(), "events-value", sr.Schema{Type: sr.TypeJSON, Schema: `{"type":"object","properties":{"n":{"type":"integer"}}}`})
			if err != nil {
				t.Fatal(err)
			}
			config := file(t, "c.yaml", fmt.Sprintf(`name: events
source: {brokers: [%q], topic: events, json: {framing: registry}, key: {format: avro, framing: registry}, schema_registry: {urls: [%q]}}
http: {listen: "off"}
on_error: skip
table: {uri: %q, schema_evolution: add_and_widen, columns: %s, properties: {delta.enableTypeWidening: "true"}}
`, cluster.ListenAddrs()[0], fake.URL(), filepath.Join(folder, tt.uri), tt.columns))
			rows := 0
			send := func(i int) {
				t.Helper()
				s, err := client.CreateSchema(t.Context(), "events-key", sr.Schema{Type: sr.TypeAvro, Schema: tt.keys[i]})
				if err != nil {
					t.Fatal(err)
				}
				produce(t, cluster.ListenAddrs(), "events", &kgo.Record{Key: framed(s.ID, tt.bytes[i]), Value: framed(value.ID, `{"n":1}`)})
				o := mustRun(t, "run", "-c", config, "--until-end")
				var n int
				if _, told, ok := strings.Cut(o.stderr, " rows="); ok {
					_, _ = fmt.Sscan(told, &n)
				}
				rows += n
			}
			for _, i := range []int{0, 1, 0} {
				send(i)
			}
			if rows != tt.rows {
				t.Errorf("%d rows, want %d", rows, tt.rows)
			}
			if strings.Contains(tt.columns, "drop") {
				if o := mustRun(t, "table", "inspect", filepath.Join(folder, tt.uri)); strings.Contains(o.stdout, "email") {
					t.Errorf("the table has what is dropped: %s", o.stdout)
				}
			}
		})
	}
}

// TestAPathThatBecomesAnother: a message whose schema brings a column that a configured path can't go through is poison, and breaks by the plan.
func TestAPathThatBecomesAnother(t *testing.T) {
	fake, client := fakeRegistry(t)
	cluster := kafkatest.Start(t, "events", 1)
	table := filepath.Join(t.TempDir(), "table")
	mustRun(t, "table", "create", table, "--schema", "id BIGINT, customer STRING")
	config := file(t, "c.yaml", fmt.Sprintf(`name: events
source: {brokers: [%q], topic: events, format: avro, schema_registry: {urls: [%q]}}
http: {listen: "off"}
on_error: skip
table: {uri: %q, schema_evolution: add_columns, columns: {customer: {from: payload.customer}}}
`, cluster.ListenAddrs()[0], fake.URL(), table))
	s, err := client.CreateSchema(t.Context(), "events-value", sr.Schema{Type: sr.TypeAvro, Schema: `{"type":"record","name":"r","fields":[{"name":"id","type":"long"},{"name":"payload","type":"string"}]}`})
	if err != nil {
		t.Fatal(err)
	}
	kafkatest.Produce(t, cluster.ListenAddrs(), "events", 1, [][]byte{framed(s.ID, "\x02\x02x")})
	if o := mustRun(t, "run", "-c", config, "--until-end"); !strings.Contains(o.stderr, " rows=0 ") {
		t.Errorf("the run says %s", o.stderr)
	}
	if o := command(t, "schema", "plan", "-c", config); o.code != exitPoison || !strings.Contains(o.stdout, "payload") {
		t.Errorf("the plan ends with %d: %s%s", o.code, o.stdout, o.stderr)
	}
}
