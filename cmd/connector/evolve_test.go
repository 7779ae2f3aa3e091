package main

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"kafkadelta/internal/kafkatest"
)

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
