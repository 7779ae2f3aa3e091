package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/bufbuild/protocompile"
	"github.com/linkedin/goavro/v2"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"kafkadelta/decode"
	"kafkadelta/internal/kafkatest"
)

// encoded is a value by goavro, framed as a registry's serializers do.
func encoded(t *testing.T, id int, schema string, native map[string]any) []byte {
	t.Helper()
	codec, err := goavro.NewCodec(schema)
	if err != nil {
		t.Fatal(err)
	}
	out, err := codec.BinaryFromNative(binary.BigEndian.AppendUint32([]byte{0}, uint32(id)), native)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestAvroByARegistry runs a stream of messages of two schemas, with a registry that does not answer in the beginning: a table is
// made from the latest schema, each message is a row, and one of a schema that does not exist stops the run.
func TestAvroByARegistry(t *testing.T) {
	fake := srfake.New()
	t.Cleanup(fake.Close)
	target, err := url.Parse(fake.URL())
	if err != nil {
		t.Fatal(err)
	}
	var down atomic.Int64
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/ids/") && down.Add(1) <= 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		httputil.NewSingleHostReverseProxy(target).ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	client, err := sr.NewClient(sr.URLs(fake.URL()))
	if err != nil {
		t.Fatal(err)
	}
	first := `{"type":"record","name":"order","fields":[{"name":"id","type":"long"},{"name":"note","type":["null","string"],"default":null}]}`
	second := `{"type":"record","name":"order","fields":[{"name":"price","type":["null",{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}],"default":null},
		{"name":"id","type":"long"},{"name":"note","type":["null","string"],"default":null}]}`
	var ids []int
	for _, text := range []string{first, second} {
		s, err := client.CreateSchema(t.Context(), "orders-value", sr.Schema{Schema: text})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, s.ID)
	}
	cluster := kafkatest.Start(t, "orders", 2)
	var messages [][]byte
	for i := range 100 {
		row := map[string]any{"id": i, "note": goavro.Union("string", fmt.Sprint("n", i))}
		if i%2 == 1 {
			row["price"] = nil
		}
		messages = append(messages, encoded(t, ids[i%2], []string{first, second}[i%2], row))
	}
	kafkatest.Produce(t, cluster.ListenAddrs(), "orders", 2, messages)
	table := filepath.Join(t.TempDir(), "table")
	config := file(t, "c.yaml", fmt.Sprintf(`name: orders
source: {brokers: [%q], topic: orders, format: avro, schema_registry: {urls: [%q]}}
table: {uri: %q}
http: {listen: "off"}
`, cluster.ListenAddrs()[0], front.URL, table))
	o := mustRun(t, "run", "-c", config, "--until-end")
	if !strings.Contains(o.stderr, "the schema registry does not answer") {
		t.Errorf("nothing is said of the registry: %s", o.stderr)
	}
	if o := mustRun(t, "table", "inspect", table); !strings.Contains(o.stdout, "DECIMAL(9,2)") {
		t.Errorf("the table is not of the latest schema:\n%s", o.stdout)
	}
	if o := mustRun(t, "verify", "-c", config); !strings.Contains(o.stdout, "100 rows") {
		t.Error(o.stdout)
	}

	kafkatest.Produce(t, cluster.ListenAddrs(), "orders", 2, [][]byte{encoded(t, 999, first, map[string]any{"id": 1, "note": nil})})
	o = command(t, "run", "-c", config, "--until-end")
	if o.code == exitOK || !strings.Contains(o.stderr, "unknown_schema") || !strings.Contains(o.stderr, "999") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
}

// TestJSONByARegistry runs a stream of JSON that a registry's serializers have framed, before the value and in headers: a table is made
// from the latest JSON Schema, a schema of another type and one that does not exist make poison.
func TestJSONByARegistry(t *testing.T) {
	fake := srfake.New()
	t.Cleanup(fake.Close)
	client, err := sr.NewClient(sr.URLs(fake.URL()))
	if err != nil {
		t.Fatal(err)
	}
	s, err := client.CreateSchema(t.Context(), "orders-value", sr.Schema{Type: sr.TypeJSON,
		Schema: `{"type":"object","properties":{"id":{"type":"integer"},"at":{"type":"string","format":"date-time"},"tags":{"type":"array","items":{"type":"string"}}}}`})
	if err != nil {
		t.Fatal(err)
	}
	other, err := client.CreateSchema(t.Context(), "other", sr.Schema{Schema: `"int"`})
	if err != nil {
		t.Fatal(err)
	}
	cluster := kafkatest.Start(t, "orders", 2)
	var messages [][]byte
	for i := range 100 {
		messages = append(messages, fmt.Appendf(binary.BigEndian.AppendUint32([]byte{0}, uint32(s.ID)), `{"id":%d,"at":"2026-01-02T03:04:05Z","tags":["a"]}`, i))
	}
	kafkatest.Produce(t, cluster.ListenAddrs(), "orders", 2, messages)
	table := filepath.Join(t.TempDir(), "table")
	text := fmt.Sprintf(`name: orders
source: {brokers: [%q], topic: orders, json: {framing: registry}, schema_registry: {urls: [%q]}}
table: {uri: %q}
http: {listen: "off"}
`, cluster.ListenAddrs()[0], fake.URL(), table)
	config, skips := file(t, "c.yaml", text), file(t, "s.yaml", text+"on_error: skip\n")
	mustRun(t, "run", "-c", config, "--until-end")
	if o := mustRun(t, "table", "inspect", table); !strings.Contains(o.stdout, "ARRAY<STRING>") || !strings.Contains(o.stdout, "TIMESTAMP") {
		t.Errorf("the table is not of the schema:\n%s", o.stdout)
	}
	for _, poison := range []struct {
		id   int
		want string
	}{{other.ID, "invalid_schema"}, {999, "unknown_schema"}} {
		kafkatest.Produce(t, cluster.ListenAddrs(), "orders", 2, [][]byte{fmt.Appendf(binary.BigEndian.AppendUint32([]byte{0}, uint32(poison.id)), `{"id":1}`)})
		if o := command(t, "run", "-c", config, "--until-end"); o.code == exitOK || !strings.Contains(o.stderr, poison.want) {
			t.Errorf("no %s: exit code %d, %s", poison.want, o.code, o.stderr)
		}
		mustRun(t, "run", "-c", skips, "--until-end")
	}
	if o := mustRun(t, "verify", "-c", config); !strings.Contains(o.stdout, "100 rows") {
		t.Error(o.stdout)
	}
}

// TestProtobuf runs streams of messages that a registry tells the types of, with an import, and of one type of a descriptor set.
func TestProtobuf(t *testing.T) {
	fake := srfake.New()
	t.Cleanup(fake.Close)
	client, err := sr.NewClient(sr.URLs(fake.URL()))
	if err != nil {
		t.Fatal(err)
	}
	price := `syntax = "proto3"; package shop; message Price { int64 units = 1; }`
	order := `syntax = "proto3"; package shop; import "shop/price.proto"; message Order { int64 id = 1; Price price = 2; Kind kind = 3; enum Kind { NEW = 0; PAID = 1; } }`
	if _, err := client.CreateSchema(t.Context(), "price", sr.Schema{Schema: price, Type: sr.TypeProtobuf}); err != nil {
		t.Fatal(err)
	}
	s, err := client.CreateSchema(t.Context(), "orders-value", sr.Schema{
		Schema: order, Type: sr.TypeProtobuf, References: []sr.SchemaReference{{Name: "shop/price.proto", Subject: "price", Version: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	body := func(i int) []byte { return []byte{0x08, byte(i), 0x12, 2, 0x08, 5, 0x18, 1} }
	cluster := kafkatest.Start(t, "orders", 2)
	var framed, bare [][]byte
	for i := range 100 {
		framed = append(framed, append(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(s.ID)), 0), body(i)...))
		bare = append(bare, body(i))
	}
	kafkatest.Produce(t, cluster.ListenAddrs(), "orders", 2, framed)
	run := func(format string, rows string) {
		t.Helper()
		table := filepath.Join(t.TempDir(), "table")
		config := file(t, "c.yaml", fmt.Sprintf("name: orders\nsource: {brokers: [%q], topic: orders, format: protobuf, %s}\ntable: {uri: %q}\nhttp: {listen: \"off\"}\n",
			cluster.ListenAddrs()[0], format, table))
		mustRun(t, "run", "-c", config, "--until-end")
		if o := mustRun(t, "table", "inspect", table); !strings.Contains(o.stdout, "STRUCT<units: BIGINT>") || !strings.Contains(o.stdout, "kind") {
			t.Errorf("the table is not of the type:\n%s", o.stdout)
		}
		if o := mustRun(t, "verify", "-c", config); !strings.Contains(o.stdout, rows) {
			t.Error(o.stdout)
		}
	}
	run(fmt.Sprintf("schema_registry: {urls: [%q]}", fake.URL()), "100 rows")

	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(map[string]string{"order.proto": order, "shop/price.proto": price})}}
	files, err := compiler.Compile(t.Context(), "shop/price.proto", "order.proto")
	if err != nil {
		t.Fatal(err)
	}
	set := &descriptorpb.FileDescriptorSet{}
	for _, f := range files {
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	data, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	cluster = kafkatest.Start(t, "orders", 2)
	kafkatest.Produce(t, cluster.ListenAddrs(), "orders", 2, bare)
	run(fmt.Sprintf("protobuf: {framing: none, descriptor_set: %q}", file(t, "order.pb", string(data))), "100 rows")
}

// TestFormatSettings are settings that contradict each other, and files that are no schemas.
func TestFormatSettings(t *testing.T) {
	schema := file(t, "s.avsc", `{"type":"record","name":"r","fields":[{"name":"a","type":"int"}]}`)
	micros := file(t, "micros.avsc", `{"type":"record","name":"r","fields":[{"name":"a","type":{"type":"long","logicalType":"timestamp-micros"}}]}`)
	if err := os.WriteFile(filepath.Join(filepath.Dir(micros), "millis.avsc"), []byte(`{"type":"record","name":"r","fields":[{"name":"a","type":{"type":"long","logicalType":"timestamp-millis"}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := file(t, "b.avsc", `{"type":"record","name":"r","fields":[{"name":"a","type":"nothing"}]}`)
	for _, tt := range []struct{ source, want string }{
		{"format: xml", `source.format is "xml": use json, avro, protobuf or raw`},
		{"format: avro", "source.schema_registry.urls is empty"},
		{"format: avro, avro: {framing: other}", `source.avro.framing is "other"`},
		{"format: avro, avro: {framing: none}", "source.avro.schema is empty"},
		{"format: avro, avro: {framing: none, schema: x, subject: y}", "is for framing registry"},
		{"avro: {framing: none}", "source.format is json"},
		{"json: {framing: other}", `source.json.framing is "other"`},
		{"json: {framing: registry}", "source.schema_registry.urls is empty"},
		{"json: {subject: s}", "is for framing registry"},
		{"raw: {column: x}", "source.format is json"},
		{"format: raw, raw: {type: int}", `source.raw.type is "int"`},
		{`format: raw, raw: {column: ""}`, "source.raw.column is empty"},
		{"compression: lz4", `source.compression is "lz4"`},
		{"max_decompressed: 2MiB", "set source.compression"},
		{"compression: gzip, max_decompressed: 3GiB", "use 1KiB to 1GiB"},
		{"key: {column: k}", "source.key.format is not"},
		{"key: {format: xml}", `source.key.format is "xml"`},
		{"key: {format: string, framing: registry}", "is for json, avro and protobuf"},
		{"key: {format: json, subject: s}", "is for framing registry"},
		{"key: {format: avro}", "source.schema_registry.urls is empty"},
		{`key: {format: avro, framing: none}, schema_registry: {urls: ["http://x"]}`, "with framing registry only"},
		{"key: {format: string, column: _kafka}", "is the Kafka metadata column"},
		{"format: avro, json: {framing: registry}", "source.format is avro"},
		{`schema_registry: {urls: ["http://x"]}`, "nothing asks it"},
		{"format: protobuf, protobuf: {framing: none}", "source.protobuf.descriptor_set is empty"},
		{"format: protobuf, protobuf: {framing: none, descriptor_set: /nowhere}", "no such file"},
		{`format: protobuf, protobuf: {descriptor_set: x}, schema_registry: {urls: ["http://x"]}`, "is for framing none"},
		{"format: avro, protobuf: {message: M}", "source.format is avro"},
		{"format: avro, avro: {framing: none, schema: " + filepath.Dir(schema) + "}", "is a folder"},
		{"format: avro, avro: {framing: none, schema: /nowhere.avsc}", "no such file"},
		{"format: avro, avro: {framing: single_object, schema: " + filepath.Dir(micros) + "}", "source.avro.schema: micros.avsc and millis.avsc have the same fingerprint"},
		{"format: avro, avro: {framing: none, schema: " + broken + "}", `the type "nothing" is not defined`},
	} {
		config := file(t, "c.yaml", fmt.Sprintf("name: n\nsource: {brokers: [\"127.0.0.1:1\"], topic: n, %s}\ntable: {uri: %s}\nhttp: {listen: \"off\"}\n", tt.source, t.TempDir()))
		if o := command(t, "run", "-c", config); o.code == exitOK || !strings.Contains(o.stderr, tt.want) {
			t.Errorf("%s: exit code %d, want %q: %s", tt.source, o.code, tt.want, o.stderr)
		}
	}
}

// TestDamagedValuesTellTheirSchema: a value that can't be decompressed tells the schema that a header names, in all formats of a registry. Elsewhere the header means nothing.
func TestDamagedValuesTellTheirSchema(t *testing.T) {
	plan, err := decode.NewPlan(arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil), decode.Config{})
	if err != nil {
		t.Fatal(err)
	}
	byRegistry := `schema_registry: {urls: ["http://127.0.0.1:1"]}`
	for _, tt := range []struct{ source, want string }{
		{"format: avro, " + byRegistry, "schema id 7"},
		{"format: protobuf, " + byRegistry, "schema id 7"},
		{"format: json, json: {framing: registry}, " + byRegistry, "schema id 7"},
		{"format: json", ""},
		{"format: json, key: {format: avro}, " + byRegistry, ""},
	} {
		c, err := loadConfig(file(t, "c.yaml", fmt.Sprintf("name: n\nsource: {brokers: [\"127.0.0.1:1\"], topic: n, compression: gzip, %s}\ntable: {uri: %s}\n", tt.source, t.TempDir())))
		if err != nil {
			t.Fatal(err)
		}
		f, err := openFormat(t.Context(), c.Source, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		d, err := f.values.decoder(plan)
		if err != nil {
			t.Fatal(err)
		}
		err = d.Append(&kgo.Record{Value: []byte("x"), Headers: []kgo.RecordHeader{{Key: "__value_schema_id", Value: []byte{0, 0, 0, 0, 7}}}})
		if e, ok := errors.AsType[*decode.PoisonError](err); !ok || e.Reason != decode.ReasonInvalidCompression || e.Schema != tt.want {
			t.Errorf("%s: %v, want %q", tt.source, err, tt.want)
		}
		f.close()
	}
}

// TestStopWhileTheRegistryIsDown: a start that waits for the registry is stopped like any other.
func TestStopWhileTheRegistryIsDown(t *testing.T) {
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	t.Cleanup(front.Close)
	cluster := kafkatest.Start(t, "orders", 1)
	d := startRun(t, "-c", file(t, "c.yaml", fmt.Sprintf(`name: orders
source: {brokers: [%q], topic: orders, format: avro, schema_registry: {urls: [%q]}}
table: {uri: %q}
http: {listen: "off"}
`, cluster.ListenAddrs()[0], front.URL, filepath.Join(t.TempDir(), "table"))))
	d.wait("that it waits", func() bool { return strings.Contains(d.stderr.String(), "the start waits for it") })
	if code := d.end(); code != exitOK || strings.Contains(d.stderr.String(), "Error:") {
		t.Errorf("exit code %d: %s", code, d.stderr.String())
	}
}

// TestTypeOfANewTable: which message type of a file a new table is made from is not guessed.
func TestTypeOfANewTable(t *testing.T) {
	fake, client := fakeRegistry(t)
	s, err := client.CreateSchema(t.Context(), "orders-value", sr.Schema{Type: sr.TypeProtobuf,
		Schema: `syntax = "proto3"; package shop; message Address { string street = 1; } message Order { int64 id = 1; Address to = 2; }`})
	if err != nil {
		t.Fatal(err)
	}
	cluster := kafkatest.Start(t, "orders", 1)
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(s.ID))
	kafkatest.Produce(t, cluster.ListenAddrs(), "orders", 1, [][]byte{append(frame, "\x02\x02\x08\x07\x12\x03\x0a\x01s"...)}) // the type at index 1
	table := filepath.Join(t.TempDir(), "table")
	config := func(message string) string {
		return file(t, "c.yaml", fmt.Sprintf("name: orders\nsource: {brokers: [%q], topic: orders, format: protobuf, protobuf: {message: %q}, schema_registry: {urls: [%q]}}\ntable: {uri: %q}\nhttp: {listen: \"off\"}\n",
			cluster.ListenAddrs()[0], message, fake.URL(), table))
	}
	for message, want := range map[string]string{"": "name one of [shop.Address shop.Order]; say in source.protobuf.message", "shop.Line": `no message type "shop.Line"`} {
		for _, args := range [][]string{{"run", "--until-end"}, {"schema", "plan"}} {
			if o := command(t, append(args, "-c", config(message))...); o.code == exitOK || !strings.Contains(o.stderr, want) {
				t.Errorf("%v with message %q: exit code %d, %s, want %q", args, message, o.code, o.stderr, want)
			}
		}
	}
	mustRun(t, "run", "-c", config("shop.Order"), "--until-end")
	if got := rowsOf(t, config(""), "id", "to"); len(got) != 1 || got[0] != `{"id":7,"to":{"street":"s"}}` {
		t.Errorf("rows %s", got)
	}
	mustRun(t, "run", "-c", config(""), "--until-end") // the table is there
}
