package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"kafkadelta/internal/kafkatest"
)

// rowsOf reads the rows of a table as JSON, sorted.
func rowsOf(t *testing.T, config string, columns ...string) []string {
	t.Helper()
	c, err := loadConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, row := range readTable(t, c.Table.Sink.URI) {
		kept := map[string]any{}
		for _, name := range columns {
			kept[name] = row[name]
		}
		text, err := json.Marshal(kept)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(text))
	}
	slices.Sort(out)
	return out
}

// readTable reads the files of a local table that is neither partitioned nor mapped, and whose files all count.
func readTable(t *testing.T, folder string) (rows []map[string]any) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.parquet"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in %s: %v", folder, err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		table, err := pqarrow.ReadTable(t.Context(), bytes.NewReader(data), parquet.NewReaderProperties(nil), pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
		if err != nil {
			t.Fatal(err)
		}
		reader := array.NewTableReader(table, 0)
		for reader.Next() {
			var some []map[string]any
			text, err := reader.RecordBatch().MarshalJSON()
			if err = errors.Join(err, json.Unmarshal(text, &some)); err != nil {
				t.Fatal(err)
			}
			rows = append(rows, some...)
		}
		reader.Release()
		table.Release()
	}
	return rows
}

// produce sends records to partition 0.
func produce(t *testing.T, brokers []string, topic string, records ...*kgo.Record) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// TestRaw keeps keys and values as they are, in a table that is made for them; a message without a value is a row too.
func TestRaw(t *testing.T) {
	cluster := kafkatest.Start(t, "raw", 1)
	produce(t, cluster.ListenAddrs(), "raw", &kgo.Record{Key: []byte("k1"), Value: []byte("\xff\x00")}, &kgo.Record{Value: []byte("x")}, &kgo.Record{Key: []byte("k2")})
	config := file(t, "c.yaml", fmt.Sprintf(`name: raw
source: {brokers: [%q], topic: raw, format: raw, key: {format: string}}
table: {uri: %q, kafka_metadata: {headers: true}}
http: {listen: "off"}
`, cluster.ListenAddrs()[0], filepath.Join(t.TempDir(), "table")))
	mustRun(t, "run", "-c", config, "--until-end")
	want := []string{`{"_key":"k1","value":"/wA="}`, `{"_key":"k2","value":null}`, `{"_key":null,"value":"eA=="}`}
	if got := rowsOf(t, config, "_key", "value"); !slices.Equal(got, want) {
		t.Errorf("%s, want %s", got, want)
	}
	if o := mustRun(t, "verify", "-c", config); !strings.Contains(o.stdout, "3 rows") {
		t.Error(o.stdout)
	}
}

// TestKeysByARegistry: keys of Avro beside compressed values of JSON, into a table whose key column is of the subject <topic>-key; a
// message whose key is broken is poison.
func TestKeysByARegistry(t *testing.T) {
	fake := srfake.New()
	t.Cleanup(fake.Close)
	client, err := sr.NewClient(sr.URLs(fake.URL()))
	if err != nil {
		t.Fatal(err)
	}
	schema := `{"type":"record","name":"key","fields":[{"name":"id","type":"long"},{"name":"region","type":"string"}]}`
	key, err := client.CreateSchema(t.Context(), "orders-key", sr.Schema{Schema: schema})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateSchema(t.Context(), "orders-value", sr.Schema{Type: sr.TypeJSON, Schema: `{"type":"object","properties":{"a":{"type":"integer"}}}`}); err != nil {
		t.Fatal(err)
	}
	cluster := kafkatest.Start(t, "orders", 1)
	value := func(s string) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		_, err := fmt.Fprint(w, s)
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	framed := "\x00\x00\x00\x00\x02"
	if key.ID != 1 {
		t.Fatal("the fake's ids begin elsewhere")
	}
	encodedKey := func(id int, region string) []byte {
		return encoded(t, key.ID, schema, map[string]any{"id": id, "region": region})
	}
	produce(t, cluster.ListenAddrs(), "orders",
		&kgo.Record{Key: encodedKey(1, "eu"), Value: value(framed + `{"a":1}`)},
		&kgo.Record{Value: value(framed + `{"a":2}`)},
		&kgo.Record{Key: []byte("no key of Avro"), Value: value(framed + `{"a":3}`)},
		&kgo.Record{Key: encodedKey(2, "us"), Value: []byte(framed + `{"a":4}`)}, // not compressed
		&kgo.Record{Key: encodedKey(2, "us"), Value: value(framed + `{"a":5}`)})
	text := fmt.Sprintf(`name: orders
source:
  brokers: [%q]
  topic: orders
  compression: gzip
  json: {framing: registry}
  key: {format: avro}
  schema_registry: {urls: [%q]}
table: {uri: %q}
http: {listen: "off"}
`, cluster.ListenAddrs()[0], fake.URL(), filepath.Join(t.TempDir(), "table"))
	config, skips := file(t, "c.yaml", text), file(t, "s.yaml", text+"on_error: skip\n")
	if o := command(t, "run", "-c", config, "--until-end"); o.code == exitOK || !strings.Contains(o.stderr, "invalid_framing at _key") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
	mustRun(t, "run", "-c", skips, "--until-end")
	want := []string{`{"_key":null,"a":2}`, `{"_key":{"id":1,"region":"eu"},"a":1}`, `{"_key":{"id":2,"region":"us"},"a":5}`}
	if got := rowsOf(t, config, "_key", "a"); !slices.Equal(got, want) {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestUnknownSchemasOfKeysAreAskedForBesideEachOther: of 20 messages whose keys name each a schema that the registry does not know, which it has to say three times,
// the first are waited for one by one, and the others together.
func TestUnknownSchemasOfKeysAreAskedForBesideEachOther(t *testing.T) {
	const messages = 20
	var mu sync.Mutex
	open, beside := map[string]int{}, 0 // answers by id, until the third
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		id := r.URL.Path
		if open[id] == 0 && len(open) > 0 {
			beside++
		}
		if open[id]++; open[id] == 3 {
			delete(open, id)
		}
		w.WriteHeader(http.StatusNotFound)
		_, _ = fmt.Fprint(w, `{"error_code":40403,"message":"Schema not found"}`)
	}))
	t.Cleanup(front.Close)
	cluster := kafkatest.Start(t, "k", 1)
	var records []*kgo.Record
	for i := range byte(messages) {
		records = append(records, &kgo.Record{Key: []byte{0, 0, 0, 0, 1 + i, 2, 'k'}, Value: []byte(`{"a":1}`)})
	}
	produce(t, cluster.ListenAddrs(), "k", append(records, &kgo.Record{Value: []byte(`{"a":2}`)})...)
	config := file(t, "c.yaml", fmt.Sprintf(`name: k
source: {brokers: [%q], topic: k, key: {format: avro}, schema_registry: {urls: [%q]}}
table: {uri: %q, schema: "a BIGINT, _key STRING"}
on_error: skip
http: {listen: "off"}
`, cluster.ListenAddrs()[0], front.URL, filepath.Join(t.TempDir(), "table")))
	mustRun(t, "run", "-c", config, "--until-end")
	if got := rowsOf(t, config, "a"); !slices.Equal(got, []string{`{"a":2}`}) {
		t.Errorf("the rows are %s", got)
	}
	if beside < messages/2 {
		t.Errorf("%d of %d schemas were asked for beside another", beside, messages)
	}
}

// TestKeyColumns: a table without the keys' column is refused, with the remedy.
func TestKeyColumns(t *testing.T) {
	cluster := kafkatest.Start(t, "k", 1)
	for _, tt := range []struct{ source, table, want string }{
		{"key: {format: string}", `schema: "a INT"`, `no column "_key"`},
		{"key: {format: string}", `schema: "a INT, _key INT"`, "need a STRING or a BINARY"},
		{"format: raw, raw: {type: string}, key: {format: string, column: value}", "", `has a column "value"`},
		{"format: raw, key: {format: json}", "", `nothing tells what the keys' column "_key" is`},
		{"format: raw", `schema: "a INT"`, `no column "value"`},
		{"format: raw", "columns: {a: {from: value}}", "have no fields"},
	} {
		config := file(t, "c.yaml", fmt.Sprintf("name: k\nsource: {brokers: [%q], topic: k, %s}\ntable: {uri: %q, %s}\nhttp: {listen: \"off\"}\n",
			cluster.ListenAddrs()[0], tt.source, filepath.Join(t.TempDir(), "table"), tt.table))
		if o := command(t, "run", "-c", config, "--until-end"); o.code == exitOK || !strings.Contains(o.stderr, tt.want) {
			t.Errorf("%s: exit code %d, want %q: %s", tt.source, o.code, tt.want, o.stderr)
		}
	}
}
