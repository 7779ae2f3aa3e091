package delta_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"kafkadelta/delta"
)

// A table with types that nobody here writes opens, tells its schema and its files, and is refused only for appending.
func TestForeignTypesAreReadAndRefused(t *testing.T) {
	schema := `{"type":"struct","fields":[{"name":"a","type":"integer","nullable":true,"metadata":{}},` +
		`{"name":"v","type":"variant","nullable":true,"metadata":{}},` +
		`{"name":"s","type":{"type":"struct","fields":[{"name":"n","type":"void","nullable":true,"metadata":{}},` +
		`{"name":"l","type":{"type":"array","elementType":"interval day to second","containsNull":true},"nullable":true,"metadata":{}}]},"nullable":true,"metadata":{}},` +
		`{"name":"u","type":{"type":"udt","class":"org.x.Point","sqlType":"double"},"nullable":true,"metadata":{}},` +
		`{"name":"z","type":"int99","nullable":true,"metadata":{}}]}`
	store := created(t, newClock(), "a INT")
	putLog(t, store, 1, metadata(schema, ""), `{"add":{"path":"x","partitionValues":{},"size":1,"modificationTime":1,"dataChange":true}}`)
	table := open(t, store, newClock())
	var e *delta.UnsupportedError
	if err := table.CheckAppend(); !errors.As(err, &e) || !strings.Contains(err.Error(), "s.l.element has the type interval day to second") {
		t.Fatalf("CheckAppend: %v", err)
	}
	for _, feature := range []string{"variantType", "void", "interval", "user-defined type", "type int99"} {
		if !slices.Contains(e.Features, feature) {
			t.Errorf("%v lacks %s", e.Features, feature)
		}
	}
	s := must(delta.OpenSnapshot(ctx, store, -1))
	if back, err := delta.SchemaToJSON(s.Schema()); err != nil || back != schema {
		t.Errorf("%v, schema back\n%s\nwant\n%s", err, back, schema)
	}
	want := "a INT, v VARIANT, s STRUCT<n: VOID, l: ARRAY<INTERVAL DAY TO SECOND>>, u UDT, z INT99"
	if got := delta.FormatDDL(s.Schema()); got != want {
		t.Errorf("DDL %s, want %s", got, want)
	}
	if totals := must(s.Totals(ctx)); totals.Files != 1 {
		t.Errorf("totals %+v", totals)
	}
}
