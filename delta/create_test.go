package delta_test

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

func TestCreate(t *testing.T) {
	c := newClock()
	s := memory.New()
	check(t, delta.Create(ctx, s, delta.CreateOptions{
		Schema: must(delta.ParseDDL("id BIGINT NOT NULL COMMENT '<id>', day DATE")), PartitionBy: []string{"day"},
		Properties: map[string]string{"delta.appendOnly": "true", "owner": "me"}, Name: "n", Description: "d", Now: c.now, Engine: "kafkadelta/test",
	}))
	_, actions := lines(t, s, 0)
	got := string(read(t, s, delta.CommitName(0)))
	got = strings.NewReplacer(actions[0]["txnId"].(string), "TXN", actions[2]["id"].(string), "ID").Replace(got)
	want := `{"commitInfo":{"engineInfo":"kafkadelta/test","isBlindAppend":true,"operation":"CREATE TABLE","operationMetrics":{},"operationParameters":{"clusterBy":"[]","description":"d","isManaged":"false","partitionBy":"[\"day\"]","properties":"{\"delta.appendOnly\":\"true\",\"owner\":\"me\"}"},"timestamp":1700000000000,"txnId":"TXN"}}
{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}
{"metaData":{"id":"ID","name":"n","description":"d","format":{"provider":"parquet","options":{}},"schemaString":"{\"type\":\"struct\",\"fields\":[{\"name\":\"id\",\"type\":\"long\",\"nullable\":false,\"metadata\":{\"comment\":\"<id>\"}},{\"name\":\"day\",\"type\":\"date\",\"nullable\":true,\"metadata\":{}}]}","partitionColumns":["day"],"createdTime":1700000000000,"configuration":{"delta.appendOnly":"true","owner":"me"}}}
`
	if got != want {
		t.Errorf("wrote\n%s\nwant\n%s", got, want)
	}
	table := open(t, s, c)
	check(t, table.CheckAppend())
	if table.Version() != 0 || !slices.Equal(table.PartitionColumns(), []string{"day"}) || !table.Schema().Equal(must(delta.ParseDDL("id BIGINT NOT NULL COMMENT '<id>', day DATE"))) {
		t.Errorf("opened %d %v %s", table.Version(), table.PartitionColumns(), table.Schema())
	}
}

func TestCreateOnATableIsErrExist(t *testing.T) {
	c := newClock()
	o := delta.CreateOptions{Schema: must(delta.ParseDDL("a INT")), Now: c.now}
	for name, s := range map[string]*memory.Store{"new": created(t, c, "a INT"), "whose first versions were cleaned": fixture(t, "checkpointed")} {
		if err := delta.Create(ctx, s, o); !errors.Is(err, fs.ErrExist) {
			t.Errorf("a table %s: %v, want fs.ErrExist", name, err)
		}
	}
	// Two that create at once: the listing of one comes before the put of the other.
	inner := memory.New()
	s := &spy{LogStore: inner, putIfAbsent: func(string, []byte) (bool, error) {
		return false, delta.Create(ctx, inner, o)
	}}
	if err := delta.Create(ctx, s, o); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a race: %v, want fs.ErrExist", err)
	}
}

func TestCreateRefusals(t *testing.T) {
	c := newClock()
	for _, x := range []struct {
		name, ddl, want string
		by              []string
		properties      map[string]string
	}{
		{"case only", "a INT, A INT", "a and A differ only by case", nil, nil},
		{"case only, nested", "s ARRAY<STRUCT<x: INT, X: INT>>", "s.element.x and s.element.X differ only by case", nil, nil},
		{"twice", "a INT, a INT", "a is there twice", nil, nil},
		{"space", "`a b` INT", "forbids", nil, nil},
		{"equals in a map's value", "m MAP<STRING, STRUCT<`x=y`: INT>>", "m.value.x=y", nil, nil},
		{"empty", "`` INT", "empty name", nil, nil},
		{"unknown partition column", "a INT, b INT", `"c" is not in the schema`, []string{"c"}, nil},
		{"case of a partition column", "a INT, b INT", `did you mean "b"`, []string{"B"}, nil},
		{"partition column twice", "a INT, b INT, c INT", "b is there twice", []string{"b", "b"}, nil},
		{"nested partition column", "a INT, b ARRAY<INT>", "only plain types", []string{"b"}, nil},
		{"partitioned by VARIANT", "a VARIANT, b INT", "only plain types can be partition columns", []string{"a"}, nil},
		{"VARIANT for Iceberg", "a VARIANT, b INT", "column a is a VARIANT in a table that is to be compatible with Iceberg", nil, map[string]string{"delta.enableIcebergCompatV2": "true"}},
		{"all partitioned", "a INT, b INT", "all columns are partition columns", []string{"a", "b"}, nil},
		{"spelling of a property", "a INT", "did you mean delta.appendOnly", nil, map[string]string{"delta.appendonly": "true"}},
		{"unknown property", "a INT", "unknown table property delta.foo", nil, map[string]string{"delta.foo": "true"}},
		{"own property", "a INT", "delta.columnMapping.maxColumnId cannot be set", nil, map[string]string{"delta.columnMapping.maxColumnId": "7"}},
		{"unnamed constraint", "a INT", "a name and an expression", nil, map[string]string{"delta.constraints.": "a > 3"}},
		{"unknown feature", "a INT", "feature nonsense: no such feature is known; leave it out, or use one of appendOnly", nil, map[string]string{"delta.feature.nonsense": "supported"}},
		{"feature that is not created", "a INT", "feature catalogManaged: tables with it cannot be created here", nil, map[string]string{"delta.feature.catalogManaged": "supported"}},
		{"spelling of a feature's value", "a INT", "use supported", nil, map[string]string{"delta.feature.rowTracking": "true"}},
		{"property of a feature that is not created", "a INT", "delta.enableVariantShredding asks for it", nil, map[string]string{"delta.enableVariantShredding": "true"}},
		{"change data feed's names", "_change_type INT", "rename it", nil, map[string]string{"delta.enableChangeDataFeed": "true"}},
		{"suspended row tracking", "a INT", "both true", nil, map[string]string{"delta.enableRowTracking": "true", "delta.rowTrackingSuspended": "true"}},
		{"iceberg without mapping", "a INT", "delta.columnMapping.mode is none", nil, map[string]string{"delta.enableIcebergCompatV2": "true", "delta.columnMapping.mode": "none"}},
		{"iceberg V1 with a list", "a ARRAY<INT>", "column a has the type", nil, map[string]string{"delta.enableIcebergCompatV1": "true"}},
		{"iceberg with deletion vectors", "a INT", "both true", nil, map[string]string{"delta.enableIcebergCompatV2": "true", "delta.enableDeletionVectors": "true"}},
	} {
		s := memory.New()
		err := delta.Create(ctx, s, delta.CreateOptions{Schema: must(delta.ParseDDL(x.ddl)), PartitionBy: x.by, Properties: x.properties, Now: c.now})
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", x.name, err, x.want)
		}
		for info, err := range s.List(ctx, "", "") {
			t.Errorf("%s: wrote %s, %v", x.name, info.Name, err)
		}
	}
	for name, o := range map[string]delta.CreateOptions{
		"no clock": {Schema: must(delta.ParseDDL("a INT"))}, "no schema": {Now: c.now}, "no columns": {Now: c.now, Schema: arrow.NewSchema(nil, nil)},
		"struct without fields": {Now: c.now, Schema: arrow.NewSchema([]arrow.Field{{Name: "s", Type: arrow.StructOf()}}, nil)},
		"unsigned":              {Now: c.now, Schema: arrow.NewSchema([]arrow.Field{{Name: "s", Type: arrow.PrimitiveTypes.Uint8}}, nil)},
	} {
		if err := delta.CheckCreate(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A schema that was read from another table brings its column mapping along, which is not this table's.
func TestCreateForgetsColumnMapping(t *testing.T) {
	c := newClock()
	schema := must(delta.SchemaFromJSON(`{"type":"struct","fields":[{"name":"a","type":"long","nullable":true,"metadata":` +
		`{"comment":"x","delta.columnMapping.id":7,"delta.columnMapping.physicalName":"col-7"}}]}`))
	for mode, id := range map[string]int32{"none": 0, "name": 1} {
		table := open(t, createdWith(t, c, delta.CreateOptions{Schema: schema, Properties: map[string]string{"delta.columnMapping.mode": mode}}), c)
		f := table.Schema().Field(0)
		if got, _ := delta.FieldID(f); got != id || delta.PhysicalName(f) == "col-7" || !strings.Contains(table.Metadata().SchemaString, `"comment":"x"`) {
			t.Errorf("%s: %s", mode, table.Metadata().SchemaString)
		}
	}
}

// The reference implementation finds a constraint by its name in lower case only.
func TestCreateKeepsConstraintsInLowerCase(t *testing.T) {
	c := newClock()
	table := open(t, createdWith(t, c, delta.CreateOptions{Schema: must(delta.ParseDDL("a INT")), Properties: map[string]string{"Delta.constraints.Low": "a < 9"}}), c)
	if got := table.Metadata().Configuration; len(got) != 1 || got["delta.constraints.low"] != "a < 9" {
		t.Errorf("%v", got)
	}
}

func TestCreatedProtocolIsTheLowest(t *testing.T) {
	c := newClock()
	for _, x := range []struct {
		ddl              string
		properties       map[string]string
		reader, writer   int
		readers, writers []string
	}{
		{"a TIMESTAMP, b DECIMAL(38,38)", map[string]string{"delta.columnMapping.mode": "none", "delta.enableDeletionVectors": "false"}, 1, 2, nil, nil},
		{"a INT", map[string]string{"delta.enableChangeDataFeed": "true"}, 1, 4, nil, nil},
		{"a MAP<STRING, ARRAY<STRUCT<b: TIMESTAMP_NTZ>>>", nil, 3, 7, []string{"timestampNtz"}, []string{"appendOnly", "invariants", "timestampNtz"}},
		{"a MAP<STRING, ARRAY<TIMESTAMP_NTZ>>", map[string]string{"delta.enableChangeDataFeed": "true"}, 3, 7, []string{"timestampNtz"}, []string{"appendOnly", "invariants", "changeDataFeed", "timestampNtz"}},
		{"a INT, v variant NOT NULL", nil, 3, 7, []string{"variantType"}, []string{"appendOnly", "invariants", "variantType"}},
		{"a INT", map[string]string{"delta.enableInCommitTimestamps": "true"}, 1, 7, nil, []string{"appendOnly", "invariants", "inCommitTimestamp"}},
		{"a INT", map[string]string{"delta.appendOnly": "true"}, 1, 2, nil, nil},
		{"a INT", map[string]string{"delta.feature.checkConstraints": "enabled"}, 1, 3, nil, nil},
		{"`a b` INT", map[string]string{"delta.columnMapping.mode": "id"}, 2, 5, nil, nil},
		{"a INT", map[string]string{"delta.columnMapping.mode": "name", "delta.enableRowTracking": "true"}, 2, 7, nil, []string{"appendOnly", "invariants", "columnMapping", "rowTracking", "domainMetadata"}},
		{"a INT", map[string]string{"delta.columnMapping.mode": "name", "delta.checkpointPolicy": "v2"}, 3, 7, []string{"columnMapping", "v2Checkpoint"}, []string{"appendOnly", "invariants", "columnMapping", "v2Checkpoint"}},
		{"a INT", map[string]string{"delta.enableIcebergCompatV2": "true"}, 2, 7, nil, []string{"appendOnly", "invariants", "columnMapping", "icebergCompatV2"}},
		{"a INT", map[string]string{"delta.feature.DELETIONVECTORS": "supported"}, 3, 7, []string{"deletionVectors"}, []string{"appendOnly", "invariants", "deletionVectors"}},
	} {
		s := memory.New()
		check(t, delta.Create(ctx, s, delta.CreateOptions{Schema: must(delta.ParseDDL(x.ddl)), Properties: x.properties, Now: c.now}))
		table := open(t, s, c)
		check(t, table.CheckAppend())
		p := table.Protocol()
		if p.MinReaderVersion != x.reader || p.MinWriterVersion != x.writer || !slices.Equal(p.ReaderFeatures, x.readers) || !slices.Equal(p.WriterFeatures, x.writers) {
			t.Errorf("%s %v: %+v", x.ddl, x.properties, p)
		}
	}
}

// unfit is a store that knows that its writes are not safe.
type unfit struct{ *memory.Store }

func (unfit) CheckWrites(context.Context) error { return errors.ErrUnsupported }

func TestCreateAsksTheStore(t *testing.T) {
	c := newClock()
	s := unfit{memory.New()}
	if err := delta.Create(ctx, s, delta.CreateOptions{Schema: must(delta.ParseDDL("a INT")), Now: c.now}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want errors.ErrUnsupported", err)
	}
	for info, err := range s.List(ctx, "", "") {
		t.Errorf("wrote %s (%v)", info.Name, err)
	}
}
