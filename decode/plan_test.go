package decode

import (
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"go.yaml.in/yaml/v3"
)

func nullable(name string, t arrow.DataType) arrow.Field {
	return arrow.Field{Name: name, Type: t, Nullable: true}
}

var (
	tString = arrow.BinaryTypes.String
	tInt    = arrow.PrimitiveTypes.Int32
	tLong   = arrow.PrimitiveTypes.Int64
	tDate   = arrow.FixedWidthTypes.Date32
	tTime   = arrow.FixedWidthTypes.Timestamp_us
)

func TestConfigFromYAML(t *testing.T) {
	text := `
columns:
  date: {from: meta.producer.timestamp, cast: date}
  at: {epoch: micros}
  site: {from: url, cast: "substring(8, 20)"}
kafka_metadata: {column: _source, enabled: true, key: true, headers: true}
`
	var cfg Config
	dec := yaml.NewDecoder(strings.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&cfg); err != nil {
		t.Fatal(err)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	if cfg.Columns["date"] != (Column{From: "meta.producer.timestamp", Cast: "date"}) || cfg.Columns["at"].Epoch != "micros" ||
		cfg.Metadata.Column != "_source" || !*cfg.Metadata.Enabled || !cfg.Metadata.Key || !cfg.Metadata.Headers {
		t.Errorf("got %+v", cfg)
	}
}

func TestConfigErrors(t *testing.T) {
	off := false
	tests := []struct {
		name string
		cfg  Config
		want []string
	}{
		{"unknown cast", Config{Columns: map[string]Column{"d": {Cast: "datum"}}}, []string{"columns.d.cast", `"datum"`, "substring(start, length)"}},
		{"substring from 0", Config{Columns: map[string]Column{"d": {Cast: "substring(0, 3)"}}}, []string{"columns.d.cast", "substring(0, 3)", "from 1"}},
		{"substring of nothing", Config{Columns: map[string]Column{"d": {Cast: "substring(1)"}}}, []string{"columns.d.cast"}},
		{"unknown unit", Config{Columns: map[string]Column{"d": {Epoch: "fortnights"}}}, []string{"columns.d.epoch", "fortnights", "millis"}},
		{"empty part", Config{Columns: map[string]Column{"d": {From: "a..b"}}}, []string{"columns.d.from", `"a..b"`}},
		{"open quote", Config{Columns: map[string]Column{"d": {From: "a.`b"}}}, []string{"columns.d.from", "back quote"}},
		{"bad metadata name", Config{Metadata: MetadataConfig{Column: "a b"}}, []string{"kafka_metadata.column", `"a b"`}},
		{"key of nothing", Config{Metadata: MetadataConfig{Enabled: &off, Key: true}}, []string{"kafka_metadata", "enabled: true"}},
		{"all at once", Config{Columns: map[string]Column{"d": {Cast: "x"}, "e": {Epoch: "y"}}}, []string{"columns.d", "columns.e"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { wantError(t, test.cfg.Validate(), test.want) })
	}
}

func wantError(t *testing.T, err error, parts []string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not say %q", err, part)
		}
	}
}

func TestPlanErrors(t *testing.T) {
	on := true
	table := arrow.NewSchema([]arrow.Field{
		nullable("meta", arrow.StructOf(nullable("ts", tString), nullable("list", arrow.ListOf(tString)))),
		nullable("name", tString), nullable("n", tInt), nullable("b", arrow.PrimitiveTypes.Int8), nullable("date", tDate),
	}, nil)
	with := func(f arrow.Field) *arrow.Schema { return arrow.NewSchema([]arrow.Field{nullable("a", tInt), f}, nil) }
	columns := func(name string, c Column) Config { return Config{Columns: map[string]Column{name: c}} }
	metadata, _ := MetadataConfig{}.Field()
	tests := []struct {
		name  string
		table *arrow.Schema
		cfg   Config
		want  []string
	}{
		{"no columns", arrow.NewSchema(nil, nil), Config{}, []string{"no columns"}},
		{"type that Delta lacks", with(nullable("u", arrow.PrimitiveTypes.Uint32)), Config{}, []string{`"u"`, "uint32"}},
		{"nested type that Delta lacks", with(nullable("s", arrow.StructOf(nullable("l", arrow.ListOf(arrow.FixedWidthTypes.Timestamp_ns))))), Config{}, []string{`"s.l.element"`, "timestamp[ns"}},
		{"map key", with(nullable("m", arrow.MapOf(arrow.StructOf(nullable("x", tInt)), tInt))), Config{}, []string{`"m"`, "map key"}},
		{"unknown column", table, columns("dat", Column{From: "meta.ts", Cast: "date"}), []string{"columns.dat", `"dat"`, "meta, name, n"}},
		{"unknown field", table, columns("meta.tz", Column{Epoch: "micros"}), []string{"columns.meta.tz", `"tz"`}},
		{"nested computed column", table, columns("meta.ts", Column{From: "name"}), []string{"columns.meta.ts", "top-level"}},
		{"path through a value", table, columns("date", Column{From: "name.x", Cast: "date"}), []string{"columns.date.from", "name.x", "name", "STRING"}},
		{"path through a list", table, columns("date", Column{From: "meta.list.x", Cast: "date"}), []string{"columns.date.from", "meta.list", "ARRAY<STRING>"}},
		{"cast of an object", table, columns("date", Column{From: "meta", Cast: "date"}), []string{"columns.date.from", "meta", "STRUCT", "cast date"}},
		{"date into an integer", table, columns("n", Column{From: "meta.ts", Cast: "date"}), []string{"columns.n.cast", "DATE or STRING", "INT"}},
		{"year into a byte", table, columns("b", Column{From: "meta.ts", Cast: "year"}), []string{"columns.b.cast", "SMALLINT", "TINYINT"}},
		{"substring into a date", table, columns("date", Column{From: "meta.ts", Cast: "substring(1,10)"}), []string{"columns.date.cast", "STRING", "DATE"}},
		{"unit of a string", table, columns("name", Column{Epoch: "micros"}), []string{"columns.name.epoch", "STRING"}},
		{"unit of a renamed string", table, columns("name", Column{From: "x", Epoch: "micros"}), []string{"columns.name.epoch", "STRING"}},
		{"unit of a substring", table, columns("name", Column{From: "x", Cast: "substring(1,2)", Epoch: "micros"}), []string{"columns.name.epoch", "substring"}},
		{"metadata asked for and absent", table, Config{Metadata: MetadataConfig{Enabled: &on}}, []string{"kafka_metadata", `"_kafka"`, "STRUCT<topic: STRING", "enabled: false"}},
		{"metadata of another type", with(nullable("_kafka", tString)), Config{}, []string{`"_kafka"`, "STRING", "kafka_metadata.column"}},
		{"metadata of another shape", with(nullable("_kafka", arrow.StructOf(nullable("offset", tInt)))), Config{}, []string{"_kafka.offset", "INT", "BIGINT"}},
		{"metadata with an unknown NOT NULL field", with(nullable("_kafka", arrow.StructOf(arrow.Field{Name: "x", Type: tInt}))), Config{}, []string{"_kafka.x", "NOT NULL"}},
		{"key asked for and absent", with(metadata), Config{Metadata: MetadataConfig{Key: true}}, []string{"kafka_metadata.key", "key BINARY"}},
		{"headers asked for and absent", with(metadata), Config{Metadata: MetadataConfig{Headers: true}}, []string{"kafka_metadata.headers"}},
		{"metadata computed", with(metadata), columns("_kafka", Column{From: "x"}), []string{"columns._kafka", "metadata"}},
		{"invalid configuration", table, columns("date", Column{Cast: "x"}), []string{"columns.date.cast"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := NewPlan(test.table, test.cfg)
			wantError(t, err, append(test.want, "planning columns"))
		})
	}
}

func TestPlanTree(t *testing.T) {
	table := arrow.NewSchema([]arrow.Field{
		nullable("meta", arrow.StructOf(nullable("ts", tString))), nullable("date", tDate), nullable("hour", tInt), nullable("tags", arrow.ListOf(tTime)),
	}, nil)
	plan, err := NewPlan(table, Config{Columns: map[string]Column{
		"date": {From: "meta.ts", Cast: "date"}, "hour": {From: "meta.received", Cast: "hour"}, "tags.element": {Epoch: "seconds"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	root := plan.Root()
	if plan.Schema() != table || len(root.Fields) != 2 || root.Fields[0].Name != "meta" || root.Fields[1].Name != "tags" {
		t.Fatalf("root %+v", root)
	}
	meta := root.Fields[0]
	if meta.Index != 0 || len(meta.Fields) != 2 || !slices.Equal(meta.Below, []int{1, 2}) {
		t.Errorf("meta %+v", meta)
	}
	ts, received := meta.Fields[0], meta.Fields[1]
	if ts.Path != "meta.ts" || ts.Index != 0 || len(ts.Computed) != 1 || ts.Computed[0].Cast != CastDate || ts.Computed[0].Column != 1 {
		t.Errorf("ts %+v", ts)
	}
	if received.Path != "meta.received" || received.Index != -1 || received.Type != nil || received.Computed[0].Cast != CastHour {
		t.Errorf("received %+v", received)
	}
	if e := root.Fields[1].Elem; e.Path != "tags.element" || e.Epoch != EpochSeconds {
		t.Errorf("element %+v", e)
	}
}

func TestMetadataField(t *testing.T) {
	off := false
	if _, ok := (MetadataConfig{Enabled: &off}).Field(); ok {
		t.Error("a column although it is off")
	}
	f, ok := MetadataConfig{Column: "src", Key: true, Headers: true}.Field()
	want := "struct<topic: utf8 nullable, partition: int32 nullable, offset: int64 nullable, timestamp: timestamp[us, tz=UTC] nullable, key: binary nullable, headers: list<item: struct<key: utf8 nullable, value: binary nullable>, nullable> nullable>"
	if !ok || f.Name != "src" || !f.Nullable || strings.ReplaceAll(f.Type.String(), "list<element:", "list<item:") != want {
		t.Errorf("got %v", f)
	}
}

func TestParsePath(t *testing.T) {
	for path, want := range map[string][]string{
		"a": {"a"}, "a.b.c": {"a", "b", "c"}, "`a.b`.c": {"a.b", "c"}, "a.`b``c`": {"a", "b`c"}, "a b.c": {"a b", "c"},
	} {
		if got, err := ParsePath(path); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q %v, want %q", path, got, err, want)
		}
	}
	for _, path := range []string{"", ".", "a.", ".a", "a..b", "`a", "`a`b", "``"} {
		if got, err := ParsePath(path); err == nil {
			t.Errorf("%s: %q, want an error", path, got)
		}
	}
}
