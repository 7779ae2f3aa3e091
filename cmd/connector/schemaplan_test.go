package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/sr"
)

func TestSchemaPlan(t *testing.T) {
	fake, client := fakeRegistry(t)
	record := func(fields string) string { return `{"type":"record","name":"r","fields":[` + fields + `]}` }
	if _, err := client.CreateSchema(t.Context(), "t-value", sr.Schema{Schema: record(`{"name":"n","type":"long"},{"name":"new","type":"string"}`)}); err != nil {
		t.Fatal(err)
	}
	table := filepath.Join(t.TempDir(), "table")
	mustRun(t, "table", "create", table, "--schema", "n BIGINT, i INT, at DATE, day DATE, s STRUCT<x: INT>, l ARRAY<STRUCT<x: INT>>, m MAP<STRING, INT>", "--property", "delta.enableTypeWidening=true")
	config := func(how string) string {
		return file(t, "c.yaml", fmt.Sprintf(`name: n
source: {brokers: [b:1], topic: t, format: avro, schema_registry: {urls: [%q]}}
table: {uri: %q, schema_evolution: %s, columns: {day: {from: n, cast: date}}}
`, fake.URL(), table, how))
	}
	for name, tt := range map[string]struct {
		fields, how string
		code        int
		want        []string
	}{
		"nothing":              {`{"name":"n","type":"int"}`, "none", exitOK, []string{"nothing: the table takes"}},
		"none":                 {`{"name":"n","type":"long"},{"name":"z","type":"string"}`, "none", exitOK, []string{"leaves  z STRING: the table has no such column"}},
		"a column":             {`{"name":"z","type":"string"}`, "add_columns", exitOK, []string{"adds    z STRING"}},
		"in a struct":          {`{"name":"s","type":{"type":"record","name":"s","fields":[{"name":"y","type":"string"}]}}`, "add_columns", exitOK, []string{"adds    s.y STRING"}},
		"in a list":            {`{"name":"l","type":{"type":"array","items":{"type":"record","name":"s","fields":[{"name":"y","type":"string"}]}}}`, "add_columns", exitOK, []string{"adds    l.element.y STRING"}},
		"a wider type":         {`{"name":"i","type":"long"},{"name":"m","type":{"type":"map","values":"long"}}`, "add_and_widen", exitOK, []string{"widens  i from INT to BIGINT", "widens  m.value from INT to BIGINT"}},
		"a type that stays":    {`{"name":"i","type":"long"}`, "add_columns", exitPoison, []string{"BREAKS  i: "}}, // by the rules of Avro, all its messages
		"text for a date":      {`{"name":"at","type":"string"}`, "add_columns", exitOK, []string{"judges  at: it is DATE, messages have STRING"}},
		"computed elsewhere":   {`{"name":"day","type":"bytes"}`, "none", exitOK, []string{"nothing"}},
		"another type":         {`{"name":"i","type":"string"},{"name":"z","type":"int"}`, "add_columns", exitPoison, []string{"BREAKS  i: ", "adds    z INT"}},
		"another kind":         {`{"name":"s","type":"string"}`, "none", exitPoison, []string{"BREAKS  s: "}},
		"a NOT NULL column":    {`{"name":"n","type":"long"}`, "none", exitOK, []string{"nothing"}},
		"the case":             {`{"name":"N","type":"long"}`, "add_columns", exitPoison, []string{"BREAKS", "columns n and N"}},
		"the metadata's":       {`{"name":"_kafka","type":"long"}`, "add_columns", exitPoison, []string{"BREAKS", "Kafka's metadata"}},
		"the registry's, none": {"", "none", exitOK, []string{"leaves  new STRING"}},
		"the registry's":       {"", "add_columns", exitOK, []string{"adds    new STRING"}},
	} {
		args := []string{"schema", "plan", "-c", config(tt.how)}
		if tt.fields != "" {
			args = append(args, "--schema", file(t, "new.avsc", record(tt.fields)))
		}
		o := command(t, args...)
		if o.code != tt.code {
			t.Errorf("%s: exit code %d, want %d: %s%s", name, o.code, tt.code, o.stdout, o.stderr)
		}
		for _, want := range tt.want {
			if !strings.Contains(o.stdout, want) {
				t.Errorf("%s: no %q in\n%s", name, want, o.stdout)
			}
		}
		var shown struct {
			Changes []struct{ Change string }
		}
		if o := command(t, append(args, "-o", "json")...); o.code != tt.code || json.Unmarshal([]byte(o.stdout), &shown) != nil || (len(shown.Changes) == 0) != strings.HasPrefix(tt.want[0], "nothing") {
			t.Errorf("%s, JSON: exit code %d, %s", name, o.code, o.stdout)
		}
	}
	strict := filepath.Join(t.TempDir(), "strict")
	mustRun(t, "table", "create", strict, "--schema", "n BIGINT NOT NULL, m BIGINT NOT NULL")
	on := file(t, "strict.yaml", fmt.Sprintf("name: n\nsource: {brokers: [b:1], topic: t, format: avro, schema_registry: {urls: [%q]}}\ntable: {uri: %q}\n", fake.URL(), strict))
	if o := command(t, "schema", "plan", "-c", on, "--schema", file(t, "null.avsc", record(`{"name":"n","type":["null","long"]}`))); o.code != exitPoison ||
		!strings.Contains(o.stdout, "BREAKS  column m is NOT NULL, and messages do not have it") || !strings.Contains(o.stdout, "judges  column n is NOT NULL, and messages may have null") {
		t.Errorf("exit code %d: %s", o.code, o.stdout)
	}
	for want, args := range map[string][]string{
		"no such file":   {"schema", "plan", "-c", config("none"), "--schema", "missing.avsc"},
		"text or json":   {"schema", "plan", "-c", config("none"), "-o", "xml"},
		"tell no schema": {"schema", "plan", "-c", file(t, "json.yaml", fmt.Sprintf("name: n\nsource: {brokers: [b:1], topic: t}\ntable: {uri: %q}\n", table))},
	} {
		if o := command(t, args...); o.code != exitConfig || !strings.Contains(o.stderr, want) {
			t.Errorf("%v: exit code %d, %s, want %q", args, o.code, o.stderr, want)
		}
	}
}
