package delta_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

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
