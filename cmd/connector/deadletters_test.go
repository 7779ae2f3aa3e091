package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"

	"kafkadelta/admin"
	"kafkadelta/internal/kafkatest"
)

// buriedTable runs a stream whose messages are bad at every tenth offset. It returns the configuration and the dead-letter table's folder.
func buriedTable(t *testing.T) (config, letters string) {
	t.Helper()
	cluster := kafkatest.Start(t, "numbers", 2)
	var values [][]byte
	for i := range 100 {
		values = append(values, fmt.Appendf(nil, `{"id":%d}`, i))
		if i%10 >= 8 { // one for each partition
			values[i] = fmt.Appendf(nil, `{"id":"number %d"}`, i)
		}
	}
	kafkatest.Produce(t, cluster.ListenAddrs(), "numbers", 2, values)
	letters = filepath.Join(t.TempDir(), "letters")
	config = file(t, "c.yaml", fmt.Sprintf(`name: numbers
source: {brokers: [%q], topic: numbers}
table: {uri: %q, schema: "id BIGINT"}
on_error: dead_letter
dead_letters: {uri: %q}
http: {listen: "off"}
`, cluster.ListenAddrs()[0], filepath.Join(t.TempDir(), "table"), letters))
	mustRun(t, "run", "-c", config, "--until-end", "--log-level", "error")
	return config, letters
}

func TestDeadLetterCommands(t *testing.T) {
	config, letters := buriedTable(t)
	if o := mustRun(t, "verify", "-c", config); !strings.Contains(o.stdout, "80 rows") {
		t.Errorf("verify says %s", o.stdout)
	}
	var listed []admin.Letter
	if err := json.Unmarshal([]byte(mustRun(t, "dead-letters", "list", "-c", config, "-o", "json").stdout), &listed); err != nil || len(listed) != 20 {
		t.Fatalf("%d dead letters are listed, %v; want 20", len(listed), err)
	}
	l := listed[0]
	if l.Reason != "type_mismatch" || l.FieldPath != "id" || l.Connector != "numbers" || !strings.Contains(string(l.Value), "number ") || l.Time.IsZero() {
		t.Errorf("a dead letter is %+v", l)
	}
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"list", "--limit", "3"}, []string{"3 of 20 dead letters", "type_mismatch"}},
		{[]string{"list", "--partition", "1"}, []string{"10 of 10 dead letters", "numbers[1]"}},
		{[]string{"list", "--reason", "tombstone"}, []string{"0 of 0 dead letters"}},
		{[]string{"show", fmt.Sprint(l.Partition), fmt.Sprint(l.Offset)}, []string{"type_mismatch", string(l.Value), fmt.Sprintf("offset %d", l.Offset)}},
	} {
		o := mustRun(t, append(append([]string{"dead-letters"}, tt.args...), "-c", config)...)
		for _, want := range tt.want {
			if !strings.Contains(o.stdout, want) {
				t.Errorf("dead-letters %v does not say %q:\n%s", tt.args, want, o.stdout)
			}
		}
	}
	if o := mustRun(t, "settle", "-c", config); !strings.Contains(o.stdout, "nothing is pending: the dead-letter table") || strings.Contains(o.stdout, "catalog") {
		t.Errorf("settle says %s", o.stdout)
	}
	if o := mustRun(t, "settle", "--give-up", "-c", config); !strings.Contains(o.stdout, "0 partitions were given up") {
		t.Errorf("settle --give-up says %s", o.stdout)
	}
	o := mustRun(t, "explain", fmt.Sprint(l.Partition), fmt.Sprint(l.Offset), "-c", config)
	if !strings.Contains(o.stdout, ": dead letter\n") || !strings.Contains(o.stdout, "type_mismatch at id") {
		t.Errorf("explain says %s", o.stdout)
	}
	if o := command(t, "dead-letters", "show", "0", "0", "-c", config); o.code != exitTable || !strings.Contains(o.stderr, "connector explain 0 0") {
		t.Errorf("a message that is no dead letter: %d, %s", o.code, o.stderr)
	}
	if _, err := os.Stat(filepath.Join(letters, "_delta_log")); err != nil {
		t.Error(err)
	}
}

func TestDeadLetterConfiguration(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"no table":        {"on_error: dead_letter", "dead_letters.uri is empty"},
		"nothing for it":  {"dead_letters: {uri: ./letters}", `on_error is "fail"`},
		"the same folder": {"on_error: dead_letter\ndead_letters: {uri: ./table}", "a folder of their own"},
		"spelled anew":    {"on_error: dead_letter\ndead_letters: {uri: ../connector/table/}", "a folder of their own"},
	} {
		c := file(t, "c.yaml", "name: a\nsource: {brokers: [localhost:1], topic: t}\ntable: {uri: ./table}\n"+tt.text+"\n")
		if o := command(t, "validate", "-c", c); o.code != exitConfig || !strings.Contains(o.stderr, tt.want) {
			t.Errorf("%s: %d, %s; want %q", name, o.code, o.stderr, tt.want)
		}
	}
}

// TestDeadLettersAreTurnedOn: a stream that has stopped at a bad message goes on with dead letters, as its error says, though the group has offsets
// and the dead-letter table is new.
func TestDeadLettersAreTurnedOn(t *testing.T) {
	cluster := kafkatest.Start(t, "events", 1)
	kafkatest.Produce(t, cluster.ListenAddrs(), "events", 1, [][]byte{[]byte(`{"n":1}`), []byte("bad"), []byte(`{"n":2}`)})
	folder := t.TempDir()
	text := fmt.Sprintf("name: events\nsource: {brokers: [%q], topic: events}\nhttp: {listen: \"off\"}\ntable: {uri: %q, schema: \"n BIGINT\"}\n", cluster.ListenAddrs()[0], filepath.Join(folder, "table"))
	if o := command(t, "run", "-c", file(t, "fail.yaml", text), "--until-end"); o.code != exitPoison || !strings.Contains(o.stderr, "set on_error: dead_letter or skip") {
		t.Fatalf("exit code %d: %s", o.code, o.stderr)
	}
	config := file(t, "c.yaml", text+fmt.Sprintf("on_error: dead_letter\ndead_letters: {uri: %q}\n", filepath.Join(folder, "letters")))
	mustRun(t, "run", "-c", config, "--until-end")
	if o := mustRun(t, "verify", "-c", config); !strings.Contains(o.stdout, ": ok\n") {
		t.Error(o.stdout)
	}
	if o := mustRun(t, "dead-letters", "list", "-c", config); !strings.Contains(o.stdout, "invalid_json") || !strings.Contains(o.stdout, "1 of 1 dead letters") {
		t.Error(o.stdout)
	}
}

// TestDeadLettersTellTheirSchema: whatever makes a message bad, its dead letter names the schema that the message names.
func TestDeadLettersTellTheirSchema(t *testing.T) {
	gzipped := func(b []byte) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		_, err := w.Write(b)
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	for format, tt := range map[string]struct {
		typ                       sr.SchemaType
		schema, good, null, wrong string
	}{
		"avro":     {sr.TypeAvro, `{"type":"record","name":"r","fields":[{"name":"id","type":["null","long"]}]}`, "\x02\x02", "\x00", "\x07"},
		"protobuf": {sr.TypeProtobuf, `syntax = "proto3"; message R { optional int64 id = 1; }`, "\x00\x08\x01", "\x00", "\x00\x08"},
		"json":     {sr.TypeJSON, `{"type":"object","properties":{"id":{"type":"integer"}}}`, `{"id":1}`, `{"id":null}`, `{`},
	} {
		for _, compression := range []string{"none", "gzip"} {
			t.Run(format+", "+compression, func(t *testing.T) {
				fake, client := fakeRegistry(t)
				create := func(subject string, s sr.Schema) int {
					created, err := client.CreateSchema(t.Context(), subject, s)
					if err != nil {
						t.Fatal(err)
					}
					return created.ID
				}
				id, key := create("orders-value", sr.Schema{Type: tt.typ, Schema: tt.schema}), create("orders-key", sr.Schema{Schema: `"string"`})
				other := key
				if format == "avro" {
					other = create("other", sr.Schema{Type: sr.TypeJSON, Schema: `{}`})
				}
				value := func(id int, payload string) []byte {
					b := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(id)), payload...)
					if compression == "gzip" {
						b = gzipped(b)
					}
					return b
				}
				framedKey := func(id int) []byte { return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(id)), 2, 'k') }
				cluster := kafkatest.Start(t, "orders", 1)
				produce(t, cluster.ListenAddrs(), "orders",
					&kgo.Record{Key: framedKey(key), Value: value(id, tt.good)}, &kgo.Record{Value: value(id, tt.null)}, &kgo.Record{Value: value(999, tt.good)}, &kgo.Record{Value: value(other, tt.good)},
					&kgo.Record{}, &kgo.Record{Value: value(id, tt.wrong)}, &kgo.Record{Key: framedKey(998), Value: value(id, tt.good)}, &kgo.Record{Value: value(id, tt.good)})
				config := file(t, "c.yaml", fmt.Sprintf(`name: orders
source: {brokers: [%q], topic: orders, format: %s, %s: {framing: registry}, compression: %s, key: {format: avro}, schema_registry: {urls: [%q]}}
table: {uri: %q, schema: "id BIGINT NOT NULL, _key STRING"}
on_error: dead_letter
dead_letters: {uri: %q}
http: {listen: "off"}
`, cluster.ListenAddrs()[0], format, format, compression, fake.URL(), filepath.Join(t.TempDir(), "table"), filepath.Join(t.TempDir(), "letters")))
				mustRun(t, "run", "-c", config, "--until-end", "--log-level", "error")
				var listed []admin.Letter
				if err := json.Unmarshal([]byte(mustRun(t, "dead-letters", "list", "-c", config, "-o", "json").stdout), &listed); err != nil {
					t.Fatal(err)
				}
				got := map[int64]string{}
				for _, l := range listed {
					got[l.Offset] = strings.TrimSpace(l.Reason + " " + l.FieldPath + " " + l.SchemaID)
				}
				for offset, want := range map[int64]string{
					1: fmt.Sprintf("rejected_by_table id schema id %d", id), 2: "unknown_schema  schema id 999", 3: fmt.Sprintf("invalid_schema  schema id %d", other),
					4: "tombstone", 6: "unknown_schema _key schema id 998",
				} {
					if got[offset] != want {
						t.Errorf("the dead letter at offset %d is %q, want %q", offset, got[offset], want)
					}
				}
				if !strings.HasSuffix(got[5], fmt.Sprintf("schema id %d", id)) || len(got) != 6 {
					t.Errorf("dead letters %v", got)
				}
				if o := mustRun(t, "explain", "0", "1", "-c", config); !strings.Contains(o.stdout, "rejected_by_table at id") {
					t.Errorf("explain says %s", o.stdout)
				}
				if got := rowsOf(t, config, "id", "_key"); !slices.Equal(got, []string{`{"_key":"k","id":1}`, `{"_key":null,"id":1}`}) {
					t.Errorf("rows %s", got)
				}
			})
		}
	}
}

// TestAReferenceThatTheRegistryDoesNotHave: messages whose schema refers to one that the registry says it does not have are dead letters that name it, also where all of
// a partition are; once it has that schema, they are replayed.
func TestAReferenceThatTheRegistryDoesNotHave(t *testing.T) {
	fake, client := fakeRegistry(t)
	create := func(subject, text string, refs ...sr.SchemaReference) int {
		s, err := client.CreateSchema(t.Context(), subject, sr.Schema{Schema: text, References: refs})
		if err != nil {
			t.Fatal(err)
		}
		return s.ID
	}
	plain := create("orders-value", `{"type":"record","name":"r","fields":[{"name":"id","type":"long"}]}`)
	create("base", `{"type":"record","name":"n","fields":[{"name":"a","type":"int"}]}`)
	top := create("other-value", `{"type":"record","name":"r","fields":[{"name":"id","type":"long"},{"name":"x","type":"n"}]}`, sr.SchemaReference{Name: "n", Subject: "base", Version: 1})
	fake.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/subjects/base/") {
			return false
		}
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"error_code":40401,"message":"Subject 'base' not found."}`))
		return true
	})
	cluster := kafkatest.Start(t, "orders", 1)
	value := func(id int, payload string) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(id)), payload...)
	}
	produce(t, cluster.ListenAddrs(), "orders", &kgo.Record{Value: value(top, "\x02\x02")}, &kgo.Record{Value: value(plain, "\x04")}, &kgo.Record{Value: value(top, "\x06\x02")})
	config := file(t, "c.yaml", fmt.Sprintf(`name: orders
source: {brokers: [%q], topic: orders, format: avro, schema_registry: {urls: [%q]}}
table: {uri: %q, schema: "id BIGINT"}
on_error: dead_letter
dead_letters: {uri: %q}
http: {listen: "off"}
`, cluster.ListenAddrs()[0], fake.URL(), filepath.Join(t.TempDir(), "table"), filepath.Join(t.TempDir(), "letters")))
	mustRun(t, "run", "-c", config, "--until-end", "--log-level", "error")
	var listed []admin.Letter
	if err := json.Unmarshal([]byte(mustRun(t, "dead-letters", "list", "-c", config, "-o", "json").stdout), &listed); err != nil {
		t.Fatal(err)
	}
	for _, l := range listed {
		if l.Offset == 1 || l.Reason != "unknown_schema" || l.SchemaID != fmt.Sprintf("schema id %d", top) || !strings.Contains(l.Error, "reference n, version 1 of subject base") {
			t.Errorf("dead letter %+v", l)
		}
	}
	if got := rowsOf(t, config, "id"); len(listed) != 2 || !slices.Equal(got, []string{`{"id":2}`}) {
		t.Errorf("%d dead letters, rows %s", len(listed), got)
	}
	fake.ClearInterceptors()
	if o := mustRun(t, "dead-letters", "replay", "-c", config); !strings.Contains(o.stdout, "2 dead letters were replayed, 0 are still bad") {
		t.Errorf("replay says %s", o.stdout)
	}
}
