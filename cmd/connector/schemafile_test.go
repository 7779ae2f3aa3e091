package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"

	"kafkadelta/decode/avro"
	"kafkadelta/delta"
	"kafkadelta/internal/kafkatest"
)

// arrowFile is an Arrow stream, or an Arrow file, with nothing but a schema.
func arrowFile(t *testing.T, stream bool, fields ...arrow.Field) string {
	t.Helper()
	schema := arrow.NewSchema(fields, nil)
	var out bytes.Buffer
	var err error
	if stream {
		err = ipc.NewWriter(&out, ipc.WithSchema(schema)).Close()
	} else {
		w, openErr := ipc.NewFileWriter(&out, ipc.WithSchema(schema))
		if openErr != nil {
			t.Fatal(openErr)
		}
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestSchemaFiles: the columns that a file of each kind gives, or why it gives none.
func TestSchemaFiles(t *testing.T) {
	set, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{protodesc.ToFileDescriptorProto(durationpb.File_google_protobuf_duration_proto)}})
	if err != nil {
		t.Fatal(err)
	}
	column := func(name string, typ arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: typ, Nullable: true}
	}
	types := []arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64},
		column("u", arrow.PrimitiveTypes.Uint64), column("s", arrow.BinaryTypes.LargeString),
		column("d", &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}),
		column("t", &arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "Europe/Berlin"}), column("n", arrow.FixedWidthTypes.Timestamp_ms),
		column("l", arrow.ListOf(arrow.StructOf(column("x", arrow.PrimitiveTypes.Uint8)))), column("m", arrow.MapOf(arrow.BinaryTypes.String, arrow.FixedWidthTypes.Date64)),
		column("c", &arrow.Decimal128Type{Precision: 9, Scale: 2}),
	}
	const ofTypes = "id BIGINT NOT NULL, u DECIMAL(20,0), s STRING, d STRING, t TIMESTAMP, n TIMESTAMP, l ARRAY<STRUCT<x: SMALLINT>>, m MAP<STRING, DATE>, c DECIMAL(9,2)"
	order := `syntax = "proto3"; package shop; import "shop/price.proto"; message Order { int64 id = 1; Price price = 2; } message Other { string x = 1; }`
	price := `syntax = "proto3"; package shop; message Price { int64 units = 1; }`
	for _, tt := range []struct {
		name, text string
		more       string // of shop/price.proto
		fragment   string
		want       string // the columns, or what the error says
	}{
		{name: "s.avsc", text: `{"type":"record","name":"r","fields":[{"name":"a","type":"int"},{"name":"b","type":["null","string"]}]}`, want: "a INT, b STRING"},
		{name: "s.json", text: `{"type":"record","name":"r","fields":[{"name":"a","type":"int"}]}`, want: "a INT"},
		{name: "s.json", text: `{"type":"object","properties":{"b":{"type":"string"},"a":{"type":"integer"}}}`, want: "b STRING, a BIGINT"},
		{name: "s.json", text: `{"type":"struct","fields":[{"name":"a","type":"long","nullable":false,"metadata":{}}]}`, want: "a BIGINT NOT NULL"},
		{name: "s.json", text: `{"type":"struct","fields":[{"name":"a","type":"nothing","nullable":false,"metadata":{}}]}`, want: "nothing"},
		{name: "s.json", text: `[`, want: "unexpected end"},
		{name: "s.proto", text: order, more: price, fragment: "#shop.Order", want: "id BIGINT, price STRUCT<units: BIGINT>"},
		{name: "s.proto", text: order, more: price, fragment: "#shop.Other", want: "x STRING"},
		{name: "s.proto", text: order, more: price, want: `2 message types: name one of [shop.Order shop.Other]`},
		{name: "s.proto", text: order, fragment: "#shop.Order", want: "shop/price.proto"},
		{name: "s.proto", text: price, want: "units BIGINT"},
		{name: "s.pb", text: string(set), want: "seconds BIGINT, nanos INT"},
		{name: "s.pb", text: string(set), fragment: "#google.protobuf.Duration", want: "seconds BIGINT, nanos INT"},
		{name: "s.pb", text: "x", want: "descriptor set"},
		{name: "s.arrow", text: arrowFile(t, false, types...), want: ofTypes},
		{name: "s.arrows", text: arrowFile(t, true, types...), want: ofTypes},
		{name: "s.arrow", text: arrowFile(t, true, column("t", arrow.FixedWidthTypes.Time32ms)), want: "field t is time32[ms]"},
		{name: "s.arrow", text: arrowFile(t, true, column("l", arrow.ListOf(arrow.FixedWidthTypes.Time64us))), want: "field l.element is time64[us]"},
		{name: "s.arrow", text: arrowFile(t, true, column("m", arrow.MapOf(arrow.BinaryTypes.String, arrow.FixedWidthTypes.Time64us))), want: "field m.value is time64[us]"},
		{name: "s.arrow", text: "ARROW1", want: "neither an Arrow file nor a stream"},
		{name: "s.avsc", text: `{}`, want: "s.avsc"},
		{name: "s.avsc", text: `{}`, fragment: "#x", want: "leave out #x"},
		{name: "s.txt", text: `{}`, want: "the name does not tell what it is"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			folder := t.TempDir()
			files := map[string]string{tt.name: tt.text}
			if tt.more != "" {
				files["shop/price.proto"] = tt.more
			}
			for name, text := range files {
				path := filepath.Join(folder, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			schema, _, err := fileSchema(filepath.Join(folder, tt.name)+tt.fragment, "", nil, avro.TableSchema)
			switch {
			case err != nil && !strings.Contains(err.Error(), tt.want):
				t.Errorf("%v, want %s", err, tt.want)
			case err == nil && delta.FormatDDL(schema) != tt.want:
				t.Errorf("%s, want %s", delta.FormatDDL(schema), tt.want)
			}
		})
	}
}

// TestTableFromAFile: a stream makes its table from the file, with the key's and Kafka's columns behind.
func TestTableFromAFile(t *testing.T) {
	cluster := kafkatest.Start(t, "orders", 1)
	kafkatest.Produce(t, cluster.ListenAddrs(), "orders", 1, [][]byte{[]byte(`{"a":1,"b":"x"}`)})
	schema := file(t, "s.json", `{"type":"object","properties":{"b":{"type":"string"},"a":{"type":"integer"}}}`)
	table := filepath.Join(t.TempDir(), "table")
	settings := func(section string) string {
		return file(t, "c.yaml", fmt.Sprintf("name: orders\nsource: {brokers: [%q], topic: orders, key: {format: binary}}\ntable: {uri: %q, %s}\nhttp: {listen: \"off\"}\n", cluster.ListenAddrs()[0], table, section))
	}
	config := settings("schema_file: " + schema)
	mustRun(t, "validate", "-c", config)
	mustRun(t, "run", "-c", config, "--until-end")
	if got := rowsOf(t, config, "a", "b", "_key"); len(got) != 1 || got[0] != `{"_key":null,"a":1,"b":"x"}` {
		t.Error(got)
	}
	for _, tt := range []struct{ section, want string }{
		{"schema_file: /nowhere.json", "table.schema_file: open /nowhere.json"},
		{"schema_file: " + schema + `, schema: "a INT"`, "exclude each other"},
		{"infer: -1", "table.infer is -1"},
		{"infer: 5, schema_file: " + schema, "exclude each other"},
	} {
		if o := command(t, "validate", "-c", settings(tt.section)); o.code != exitConfig || !strings.Contains(o.stderr, tt.want) {
			t.Errorf("%s: exit code %d, want %q: %s", tt.section, o.code, tt.want, o.stderr)
		}
	}
}

// TestInferredTable: the columns are those of the first messages, and stay; an empty topic is waited for, unless the
// run is to end.
func TestInferredTable(t *testing.T) {
	cluster := kafkatest.Start(t, "events", 2)
	table := filepath.Join(t.TempDir(), "table")
	settings := func(source, more string) string {
		return file(t, "c.yaml", fmt.Sprintf("name: events\nsource: {brokers: [%q], topic: events%s}\ntable: {uri: %q, infer: 20}\nhttp: {listen: \"off\"}\n%s", cluster.ListenAddrs()[0], source, table, more))
	}
	if o := command(t, "run", "-c", settings("", ""), "--until-end"); o.code == exitOK || !strings.Contains(o.stderr, "no messages to infer") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
	if o := command(t, "run", "-c", settings(", format: avro, avro: {framing: none, schema: x}", "")); o.code != exitConfig || !strings.Contains(o.stderr, "tell their schema by themselves") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
	config := settings("", "")
	d := startRun(t, "-c", config)
	d.wait("that it says why it waits", func() bool { return strings.Contains(d.stderr.String(), "can be inferred") })
	var messages [][]byte
	for i := range 30 {
		messages = append(messages, fmt.Appendf(nil, `{"n":%d,"tags":["x"]}`, i))
	}
	messages = append(messages, []byte(`{"n":31,"later":true}`)) // beyond the first ones: not a column
	kafkatest.Produce(t, cluster.ListenAddrs(), "events", 2, messages)
	d.wait("the columns", func() bool { return strings.Contains(d.stderr.String(), "n BIGINT, tags ARRAY<STRING>") })
	d.end()
	mustRun(t, "run", "-c", config, "--until-end")
	if rows := readTable(t, table); len(rows) != 31 {
		t.Errorf("%d rows", len(rows))
	}
	if o := mustRun(t, "table", "inspect", table); strings.Contains(o.stdout, "later") {
		t.Error(o.stdout)
	}

	cluster = kafkatest.Start(t, "some", 1)
	for _, value := range []string{`{"b":1`, "no JSON", `[{"b":1}]`, `{"b":1} {}`, `{"a":1}`, "", ` {"a":2}`} {
		produce(t, cluster.ListenAddrs(), "some", &kgo.Record{Value: []byte(value)})
	}
	some := func(name, more string) string {
		return file(t, "c.yaml", fmt.Sprintf("name: %s\nsource: {brokers: [%q], topic: some}\ntable: {uri: %q, infer: 20, kafka_metadata: {enabled: false}}\nhttp: {listen: \"off\"}\n%s", name, cluster.ListenAddrs()[0], filepath.Join(t.TempDir(), "table"), more))
	}
	if o := command(t, "run", "-c", some("fails", ""), "--until-end"); o.code != exitConfig || !strings.Contains(o.stderr, "some, partition 0 offset 0: ") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
	config = some("skips", "on_error: skip\n")
	if o := mustRun(t, "run", "-c", config, "--until-end"); !strings.Contains(o.stderr, `messages=2 bad=5 schema="a BIGINT"`) {
		t.Error(o.stderr)
	}
	if got := rowsOf(t, config, "a"); !slices.Equal(got, []string{`{"a":1}`, `{"a":2}`}) {
		t.Errorf("rows %s", got)
	}

	cluster = kafkatest.Start(t, "broken", 1)
	produce(t, cluster.ListenAddrs(), "broken", &kgo.Record{Value: []byte(`{"a":1}`)}, &kgo.Record{Value: []byte(`{"a":"x"}`)})
	config = file(t, "c.yaml", fmt.Sprintf("name: broken\nsource: {brokers: [%q], topic: broken}\ntable: {uri: %q, infer: 20}\nhttp: {listen: \"off\"}\n", cluster.ListenAddrs()[0], t.TempDir()))
	if o := command(t, "run", "-c", config, "--until-end"); o.code != exitConfig || !strings.Contains(o.stderr, "broken, partition 0 offset 1: column a: ") || !strings.Contains(o.stderr, "table.schema") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
}

// TestInferenceReadsOn: tombstones and what is bad are none of the messages that columns are inferred from, however many come first.
func TestInferenceReadsOn(t *testing.T) {
	cluster := kafkatest.Start(t, "late", 2)
	settings := func() string {
		return file(t, "c.yaml", fmt.Sprintf("name: late\nsource: {brokers: [%q], topic: late}\ntable: {uri: %q, infer: 20}\non_error: skip\nhttp: {listen: \"off\"}\n", cluster.ListenAddrs()[0], t.TempDir()))
	}
	send := func(n int, value string, partitions ...int32) {
		var records []*kgo.Record
		for range n {
			for _, p := range partitions {
				r := &kgo.Record{Key: []byte("k"), Partition: p}
				if value != "" {
					r.Value = []byte(value)
				}
				records = append(records, r)
			}
		}
		produce(t, cluster.ListenAddrs(), "late", records...)
	}
	send(100, "", 0)
	send(100, "no JSON", 1)
	if o := command(t, "run", "-c", settings(), "--until-end"); o.code == exitOK || !strings.Contains(o.stderr, "no messages to infer") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
	d := startRun(t, "-c", settings())
	d.wait("that it says why it waits", func() bool { return strings.Contains(d.stderr.String(), "can be inferred") })
	send(1, `{"a":1}`, 0)
	d.wait("the columns", func() bool { return strings.Contains(d.stderr.String(), `messages=1 bad=100 schema="a BIGINT"`) }) // what was passed over is not read again
	d.end()
	send(8, `{"a":1}`, 0)
	send(5, "", 0, 1)
	send(1, `{"b":1}`, 0) // the 10th of partition 0
	send(1, `{"d":1}`, 0)
	send(1, `{"b":1}`, 1)
	if o := mustRun(t, "run", "-c", settings(), "--until-end"); !strings.Contains(o.stderr, "messages=11 bad=100 ") || strings.Contains(o.stderr, "d BIGINT") || !strings.Contains(o.stderr, "b BIGINT") {
		t.Error(o.stderr)
	}
}
