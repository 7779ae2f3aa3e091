package delta_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

// rowIDs are the base row id and commit version of every add of a version, and its row id high-water mark ("" for none).
func rowIDs(t *testing.T, s delta.LogStore, version int64) (ids []string, mark string) {
	t.Helper()
	names, actions := lines(t, s, version)
	for i, a := range actions {
		switch names[i] {
		case "add":
			ids = append(ids, fmt.Sprint(a["baseRowId"], "@", a["defaultRowCommitVersion"]))
		case "domainMetadata":
			mark = fmt.Sprint(a["domain"], " ", a["configuration"], " ", a["removed"])
		}
	}
	return ids, mark
}

func withRows(files ...int) *delta.Transaction {
	tx := &delta.Transaction{Operation: "WRITE"}
	for i, rows := range files {
		tx.Adds = append(tx.Adds, add(fmt.Sprintf("%p-%d", tx, i), rows))
	}
	return tx
}

func mark(n int64) string {
	return fmt.Sprintf(`delta.rowTracking {"rowIdHighWaterMark":%d} false`, n)
}

func TestRowTracking(t *testing.T) {
	c := newClock()
	s := createdWith(t, c, delta.CreateOptions{Schema: must(delta.ParseDDL("a INT")), Properties: map[string]string{"delta.enableRowTracking": "true"}})
	table := open(t, s, c)
	configuration := table.Metadata().Configuration
	for key, prefix := range map[string]string{"delta.rowTracking.materializedRowIdColumnName": "_row-id-col-", "delta.rowTracking.materializedRowCommitVersionColumnName": "_row-commit-version-col-"} {
		if !strings.HasPrefix(configuration[key], prefix) || len(configuration[key]) != len(prefix)+36 {
			t.Errorf("%s is %q", key, configuration[key])
		}
	}
	for i, x := range []struct {
		rows []int
		ids  string
		mark string
	}{
		{[]int{3, 0, 5}, "[0@1 3@1 3@1]", mark(7)},
		{nil, "[]", ""},
		{[]int{0}, "[8@3]", ""}, // no row, no higher mark
		{[]int{1}, "[8@4]", mark(8)},
	} {
		if i == 3 {
			table = open(t, s, c) // the mark is read from the log
		}
		tx := withRows(x.rows...)
		commit(t, table, tx, delta.Committed)
		ids, got := rowIDs(t, s, int64(i+1))
		if fmt.Sprint(ids) != x.ids || got != x.mark {
			t.Errorf("%d: %v %s, want %v %s", i+1, ids, got, x.ids, x.mark)
		}
		if tag := lineOf(t, s, int64(i+1), 0)["tags"].(map[string]any)["delta.rowTracking.preserved"]; tag != "true" {
			t.Errorf("preserved %v", tag)
		}
		for _, a := range tx.Adds {
			if a.BaseRowID != nil {
				t.Error("the transaction was changed")
			}
		}
	}
}

func TestRowIDsAreAssignedAnewAfterAConflict(t *testing.T) {
	c := newClock()
	s := createdWith(t, c, delta.CreateOptions{Schema: must(delta.ParseDDL("a INT")), Properties: map[string]string{"delta.enableRowTracking": "true"}})
	mine, theirs := open(t, s, c), open(t, s, c)
	commit(t, theirs, withRows(10), delta.Committed)
	tx := withRows(2)
	commit(t, mine, tx, delta.Conflict)
	_, err := mine.Next(ctx)
	check(t, err)
	commit(t, mine, tx, delta.Committed)
	if ids, got := rowIDs(t, s, 2); fmt.Sprint(ids) != "[10@2]" || got != mark(11) {
		t.Errorf("%v %s", ids, got)
	}
}

func TestRowTrackingWhereItIsNotEnabled(t *testing.T) {
	c := newClock()
	for _, x := range []struct {
		name, configuration, ids, mark string
	}{
		{"supported", "", "[5@1]", mark(7)},
		{"suspended", `{"delta.rowTrackingSuspended":"true"}`, "[<nil>@<nil>]", ""},
	} {
		s := memory.New()
		putLog(t, s, 0, `{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["rowTracking","domainMetadata"]}}`,
			metadata(ddl(t, "a INT"), x.configuration), `{"domainMetadata":{"domain":"delta.rowTracking","configuration":"{\"rowIdHighWaterMark\":4}","removed":false}}`)
		commit(t, open(t, s, c), withRows(3), delta.Committed)
		if ids, got := rowIDs(t, s, 1); fmt.Sprint(ids) != x.ids || got != x.mark {
			t.Errorf("%s: %v %s", x.name, ids, got)
		}
		if _, ok := lineOf(t, s, 1, 0)["tags"]; ok {
			t.Errorf("%s: tags although row ids are not preserved", x.name)
		}
	}
}

func TestRowTrackingRefuses(t *testing.T) {
	c := newClock()
	for _, x := range []struct{ name, configuration, stats, reason string }{
		{"no statistics", `{\"rowIdHighWaterMark\":4}`, "", "the add of f has no numRecords"},
		{"negative rows", `{\"rowIdHighWaterMark\":4}`, `{"numRecords":-1}`, "the add of f has no numRecords"},
		{"ids are used up", `{\"rowIdHighWaterMark\":9223372036854775800}`, `{"numRecords":7}`, "row ids end at"},
		{"no mark", `{}`, `{"numRecords":7}`, "feature rowTracking"},
		{"no JSON", `x`, `{"numRecords":7}`, "has no rowIdHighWaterMark"},
		{"mark of another type", `{\"rowIdHighWaterMark\":\"4\"}`, `{"numRecords":7}`, "repair the table"},
	} {
		s := memory.New()
		putLog(t, s, 0, `{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["rowTracking","domainMetadata"]}}`,
			metadata(ddl(t, "a INT"), ""), `{"domainMetadata":{"domain":"delta.rowTracking","configuration":"`+x.configuration+`","removed":false}}`)
		tx := withRows(1)
		tx.Adds[0].Path, tx.Adds[0].Stats = "f", x.stats
		outcome, err := open(t, s, c).Commit(ctx, tx)
		if outcome != delta.Refused || err == nil || !strings.Contains(err.Error(), x.reason) {
			t.Errorf("%s: %s %v, want %q", x.name, outcome, err, x.reason)
		}
	}
}

func TestClusteredTable(t *testing.T) {
	c := newClock()
	s := createdWith(t, c, delta.CreateOptions{
		Schema: must(delta.ParseDDL("id BIGINT, s STRUCT<`a.b`: STRING, at: TIMESTAMP>")), ClusterBy: []string{"s.`a.b`", "id"},
		Properties: map[string]string{"delta.columnMapping.mode": "name"},
	})
	table := open(t, s, c)
	schema := table.Schema()
	inner := schema.Field(1).Type.(*arrow.StructType).Field(0)
	want := fmt.Sprintf(`{"clusteringColumns":[[%q,%q],[%q]]}`, delta.PhysicalName(schema.Field(1)), delta.PhysicalName(inner), delta.PhysicalName(schema.Field(0)))
	for d := range table.Domains() {
		if d.Domain != "delta.clustering" || d.Configuration != want || d.Removed {
			t.Errorf("%+v, want %s", d, want)
		}
	}
	if p := table.Protocol(); fmt.Sprint(p.WriterFeatures) != "[appendOnly invariants columnMapping domainMetadata clustering]" {
		t.Errorf("%+v", p)
	}
	counts := func(columns string) string { return `{"numRecords":1,"nullCount":` + columns + `}` }
	names := []any{delta.PhysicalName(schema.Field(1)), delta.PhysicalName(inner), delta.PhysicalName(schema.Field(0))}
	for stats, missing := range map[string]string{
		"":                         "clustering column",
		`{"numRecords":1}`:         "clustering column",
		counts(`{"id":0}`):         "clustering column",
		`{`:                        "clustering column",
		counts(`{"id":0,"s":[1]}`): "clustering column",
		counts(fmt.Sprintf(`{%q:{%q:0}}`, names[:2]...)):             names[2].(string),
		counts(fmt.Sprintf(`{%q:{"x":0},%q:0}`, names[0], names[2])): names[1].(string),
		counts(fmt.Sprintf(`{%q:{%q:0},%q:0}`, names...)):            "",
	} {
		tx := withRows(1)
		tx.Adds[0].Stats = stats
		outcome, err := table.Commit(ctx, tx)
		if missing == "" && outcome != delta.Committed || missing != "" && (outcome != delta.Refused || !strings.Contains(err.Error(), missing)) {
			t.Errorf("%s: %s %v", stats, outcome, err)
		}
	}
	// Nobody clustered the file.
	if _, ok := lineOf(t, s, 1, 1)["clusteringProvider"]; ok {
		t.Error("the add names a clustering provider")
	}
}

func TestClusterByRefuses(t *testing.T) {
	for _, x := range []struct {
		by, partition []string
		want          string
	}{
		{[]string{"x"}, nil, `"x" is not in the schema`},
		{[]string{"a.b"}, nil, `"a.b" is not in the schema`},
		{[]string{"s"}, nil, "no smallest and largest value"},
		{[]string{"s.l"}, nil, "no smallest and largest value"},
		{[]string{"flag"}, nil, "no smallest and largest value"},
		{[]string{"a", "a"}, nil, "a is there twice"},
		{[]string{"a,b"}, nil, "name one column"},
		{[]string{"a."}, nil, "name one column"},
		{[]string{"a", "b", "c", "d", "s.x"}, nil, "at most 4"},
		{[]string{"a"}, []string{"b"}, "either partitioned (by b) or clustered (by a)"},
	} {
		err := delta.CheckCreate(delta.CreateOptions{
			Schema: must(delta.ParseDDL("a INT, b INT, c INT, d INT, flag BOOLEAN, s STRUCT<x: INT, l: ARRAY<INT>>")), ClusterBy: x.by, PartitionBy: x.partition, Now: newClock().now,
		})
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%v: %v, want %q", x.by, err, x.want)
		}
	}
}

func TestIcebergCompatNeedsRowCounts(t *testing.T) {
	c := newClock()
	for _, version := range []string{"V1", "V2"} {
		s := createdWith(t, c, delta.CreateOptions{Schema: must(delta.ParseDDL("a INT")), Properties: map[string]string{"delta.enableIcebergCompat" + version: "true"}})
		tx := withRows(1)
		tx.Adds[0].Stats = ""
		if outcome, err := open(t, s, c).Commit(ctx, tx); outcome != delta.Refused || !strings.Contains(err.Error(), "numRecords") {
			t.Errorf("%s: %s %v", version, outcome, err)
		}
	}
}

// What another writer should never have let happen.
func TestIcebergCompatRefusesBrokenTables(t *testing.T) {
	const column = `{"type":"struct","fields":[{"name":"a","type":%s,"nullable":true,"metadata":{"delta.columnMapping.id":1,"delta.columnMapping.physicalName":"a"%s}}]}`
	const both = `"delta.enableIcebergCompatV2":"true","delta.columnMapping.mode":"name"`
	for _, x := range []struct{ name, kind, meta, configuration, reason string }{
		{"fine", `"integer"`, `,"delta.typeChanges":[{"fromType":"short","toType":"integer"},{"fromType":"decimal(6, 2)","toType":"decimal(8,2)"}]`, both, ""},
		{"fine with a list", `{"type":"array","elementType":"integer","containsNull":true}`, `,"delta.columnMapping.nested.ids":{"a.element":2}`, both, ""},
		{"a list without id", `{"type":"array","elementType":"integer","containsNull":true}`, "", both, "column a has no id for a.element"},
		{"a change that Iceberg has not", `"double"`, `,"delta.typeChanges":[{"fromType":"short","toType":"double"}]`, both, `was changed from "short" to "double"`},
		{"a change of the scale", `"double"`, `,"delta.typeChanges":[{"fromType":"decimal(6,2)","toType":"decimal(8,3)"}]`, both, "was changed"},
		{"a change that nobody has", `"double"`, `,"delta.typeChanges":[{"fromType":"x","toType":"double"}]`, both, "was changed"},
		{"no mapping", `"integer"`, "", `"delta.enableIcebergCompatV2":"true"`, "delta.columnMapping.mode is none"},
		{"both versions", `"integer"`, "", `"delta.enableIcebergCompatV1":"true",` + both, "both true"},
		{"deletion vectors", `"integer"`, "", `"delta.enableDeletionVectors":"true",` + both, "both true"},
	} {
		s := memory.New()
		features := `["columnMapping","typeWidening","deletionVectors"`
		putLog(t, s, 0, `{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":`+features+`],"writerFeatures":`+features+`,"icebergCompatV1","icebergCompatV2"]}}`,
			metadata(fmt.Sprintf(column, x.kind, x.meta), "{"+x.configuration+"}"))
		err := open(t, s, newClock()).CheckAppend()
		if x.reason == "" {
			check(t, err)
		} else if !errors.Is(err, delta.ErrUnsupported) || !strings.Contains(err.Error(), x.reason) {
			t.Errorf("%s: %v, want %q", x.name, err, x.reason)
		}
	}
}

func TestPartitionValuesHavePhysicalNames(t *testing.T) {
	c := newClock()
	s := createdWith(t, c, delta.CreateOptions{
		Schema: must(delta.ParseDDL("a INT, `the day` DATE")), PartitionBy: []string{"the day"}, Properties: map[string]string{"delta.columnMapping.mode": "id"},
	})
	table := open(t, s, c)
	physical := delta.PhysicalName(table.Schema().Field(1))
	for name, want := range map[string]delta.Outcome{"the day": delta.Refused, physical: delta.Committed} {
		tx := withRows(1)
		tx.Adds[0].PartitionValues = map[string]*string{name: new("2024-01-01")}
		if outcome, err := table.Commit(ctx, tx); outcome != want {
			t.Errorf("%s: %s %v", name, outcome, err)
		}
	}
}
