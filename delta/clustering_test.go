package delta_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/delta"
)

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

func TestClusteringColumnsHaveStatistics(t *testing.T) {
	for _, x := range []struct {
		properties map[string]string
		refused    bool
	}{
		{map[string]string{"delta.dataSkippingNumIndexedCols": "1"}, true},
		{map[string]string{"delta.dataSkippingNumIndexedCols": "2"}, false},
		{map[string]string{"delta.dataSkippingNumIndexedCols": "-1"}, false},
		{map[string]string{"delta.dataSkippingStatsColumns": "a"}, true},
		{map[string]string{"delta.dataSkippingStatsColumns": "s", "delta.columnMapping.mode": "name"}, false},
	} {
		err := delta.CheckCreate(delta.CreateOptions{
			Schema: must(delta.ParseDDL("a INT, s STRUCT<b: INT, c: INT>")), ClusterBy: []string{"s.b"}, Properties: x.properties, Now: newClock().now,
		})
		if (err != nil) != x.refused || err != nil && !strings.Contains(err.Error(), "gets no statistics") {
			t.Errorf("%v: %v", x.properties, err)
		}
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
