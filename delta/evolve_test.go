package delta_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

func createdWith(t testing.TB, c *clock, o delta.CreateOptions) *memory.Store {
	t.Helper()
	s := memory.New()
	o.Now, o.Engine = c.now, "kafkadelta/test"
	check(t, delta.Create(ctx, s, o))
	return s
}

func evolve(t *testing.T, table *delta.Table, want string, tx *delta.Transaction) bool {
	t.Helper()
	changed, err := table.Evolve(must(delta.ParseDDL(want)), tx)
	check(t, err)
	return changed
}

func TestEvolveAddsRelaxesAndKeeps(t *testing.T) {
	c := newClock()
	s := created(t, c, "id BIGINT NOT NULL COMMENT 'key', s STRUCT<a: INT NOT NULL>, l ARRAY<STRUCT<b: INT>>, m MAP<STRING, STRUCT<c: INT>>, n BIGINT, gone STRING")
	table := open(t, s, c)
	tx := appendOf("app", 1, "f")
	// n is wanted narrower, gone is not wanted, id is wanted stricter than nullable: all stay.
	if !evolve(t, table, "new STRING COMMENT 'x', l ARRAY<STRUCT<b: INT, b2: DATE>>, s STRUCT<a: INT, a2: STRUCT<z: INT>>, m MAP<STRING, STRUCT<c: INT, c2: STRING>>, id BIGINT, n INT", tx) {
		t.Fatal("nothing changed")
	}
	commit(t, table, tx, delta.Committed)
	const want = "id BIGINT COMMENT 'key', s STRUCT<a: INT, a2: STRUCT<z: INT>>, l ARRAY<STRUCT<b: INT, b2: DATE>>, " +
		"m MAP<STRING, STRUCT<c: INT, c2: STRING>>, n BIGINT, gone STRING, new STRING COMMENT 'x'"
	for name, table := range map[string]*delta.Table{"committed": table, "opened": open(t, s, c)} {
		if got := delta.FormatDDL(table.Schema()); got != want {
			t.Errorf("%s\n%s, want\n%s", name, got, want)
		}
	}
	if names, _ := lines(t, s, 1); fmt.Sprint(names) != "[commitInfo metaData txn add]" {
		t.Errorf("actions %v", names)
	}
	if p := table.Protocol(); p.MinWriterVersion != 2 {
		t.Errorf("protocol %+v", p)
	}
	tx = appendOf("app", 2, "g")
	if evolve(t, table, "id BIGINT, new STRING", tx) || tx.Metadata != nil || tx.Protocol != nil {
		t.Errorf("%+v changes although nothing is new", tx)
	}
}

// Spark does not look into lists and maps, so a null struct there may have fields that are NOT NULL.
func TestEvolveTakesNotNullFieldsOfNewStructsInListsAndMaps(t *testing.T) {
	c := newClock()
	s := created(t, c, "l ARRAY<STRUCT<a: INT>>, m MAP<STRING, STRUCT<a: STRUCT<b: INT>>>")
	table := open(t, s, c)
	const want = "l ARRAY<STRUCT<a: INT, x: STRUCT<y: INT NOT NULL>>>, m MAP<STRING, STRUCT<a: STRUCT<b: INT, x: STRUCT<y: INT NOT NULL>>>>, " +
		"n ARRAY<STRUCT<y: INT NOT NULL>>"
	tx := appendOf("app", 1)
	evolve(t, table, want, tx)
	commit(t, table, tx, delta.Committed)
	if got := delta.FormatDDL(open(t, s, c).Schema()); got != want {
		t.Errorf("the schema is %s", got)
	}
	for _, outside := range []string{"new STRUCT<y: INT NOT NULL>", "new STRUCT<z: STRUCT<y: INT NOT NULL>>", "l ARRAY<STRUCT<a: INT, y: INT NOT NULL>>"} {
		if _, err := table.Evolve(must(delta.ParseDDL(outside)), appendOf("app", 2)); err == nil || !strings.Contains(err.Error(), "NOT NULL") {
			t.Errorf("%s gives %v", outside, err)
		}
	}
}

func TestEvolveBringsTheProtocolThatANewTypeNeeds(t *testing.T) {
	c := newClock()
	s := createdWith(t, c, delta.CreateOptions{Schema: must(delta.ParseDDL("a INT")), Properties: map[string]string{"delta.columnMapping.mode": "name"}})
	table := open(t, s, c)
	tx := appendOf("app", 1)
	evolve(t, table, "s STRUCT<at: TIMESTAMP_NTZ>", tx)
	commit(t, table, tx, delta.Committed)
	p := open(t, s, c).Protocol()
	if got := fmt.Sprint(p.MinReaderVersion, p.MinWriterVersion, p.ReaderFeatures, p.WriterFeatures); got !=
		"3 7 [columnMapping timestampNtz] [appendOnly invariants checkConstraints changeDataFeed generatedColumns columnMapping timestampNtz]" {
		t.Errorf("protocol %s", got)
	}
}

func TestEvolveAssignsColumnMapping(t *testing.T) {
	c := newClock()
	s := createdWith(t, c, delta.CreateOptions{Schema: must(delta.ParseDDL("a INT, l ARRAY<INT>")), Properties: map[string]string{"delta.enableIcebergCompatV2": "true"}})
	table := open(t, s, c)
	old := table.Schema()
	if got := table.Metadata().Configuration["delta.columnMapping.maxColumnId"]; got != "3" {
		t.Errorf("maxColumnId %s", got)
	}
	tx := appendOf("app", 1)
	evolve(t, table, "`odd name` MAP<STRING, ARRAY<STRUCT<x: INT>>>, a INT", tx)
	commit(t, table, tx, delta.Committed)
	table = open(t, s, c)
	check(t, table.CheckAppend())
	if got := table.Metadata().Configuration["delta.columnMapping.maxColumnId"]; got != "8" {
		t.Errorf("maxColumnId %s", got)
	}
	for i := range 2 {
		if got := table.Schema().Field(i); delta.PhysicalName(got) != delta.PhysicalName(old.Field(i)) {
			t.Errorf("%v was %v", got, old.Field(i))
		}
	}
	added := table.Schema().Field(2)
	name := delta.PhysicalName(added)
	id, _ := delta.FieldID(added)
	if ids := delta.NestedIDs(added); !strings.HasPrefix(name, "col-") || len(name) != 40 || id != 4 || fmt.Sprint(ids) !=
		fmt.Sprintf("map[%[1]s.key:6 %[1]s.value:7 %[1]s.value.element:8]", name) {
		t.Errorf("%s %d %v", name, id, ids)
	}
}

// The property alone does not count: another writer may have set it wrongly.
func TestEvolveTakesNoIDTwice(t *testing.T) {
	s := memory.New()
	putLog(t, s, 0, protocol(2, 5), metadata(`{"type":"struct","fields":[{"name":"a","type":"long","nullable":true,"metadata":`+
		`{"delta.columnMapping.id":7,"delta.columnMapping.physicalName":"a"}}]}`, `{"delta.columnMapping.mode":"id","delta.columnMapping.maxColumnId":"3"}`))
	table := open(t, s, newClock())
	tx := appendOf("app", 1)
	evolve(t, table, "b INT", tx)
	commit(t, table, tx, delta.Committed)
	if id, _ := delta.FieldID(table.Schema().Field(1)); id != 8 || table.Metadata().Configuration["delta.columnMapping.maxColumnId"] != "8" {
		t.Errorf("id %d of %v", id, table.Metadata().Configuration)
	}
}

func TestEvolveWidensTypes(t *testing.T) {
	c := newClock()
	s := createdWith(t, c, delta.CreateOptions{
		Schema:     must(delta.ParseDDL("a TINYINT, s STRUCT<d: DECIMAL(6,2)>, l ARRAY<MAP<FLOAT, DATE>>, i INT, same BIGINT")),
		Properties: map[string]string{"delta.enableTypeWidening": "true"},
	})
	table := open(t, s, c)
	for i, ddl := range []string{"a SMALLINT", "a INT, s STRUCT<d: DECIMAL(10,4)>, l ARRAY<MAP<DOUBLE, TIMESTAMP_NTZ>>, i DECIMAL(12,2), same INT"} {
		tx := appendOf("app", int64(i))
		if !evolve(t, table, ddl, tx) {
			t.Fatal(ddl)
		}
		commit(t, table, tx, delta.Committed)
	}
	schema := open(t, s, c).Metadata().SchemaString
	for _, want := range []string{
		`{"name":"a","type":"integer","nullable":true,"metadata":{"delta.typeChanges":[{"fromType":"byte","toType":"short"},{"fromType":"short","toType":"integer"}]}}`,
		`{"name":"d","type":"decimal(10,4)","nullable":true,"metadata":{"delta.typeChanges":[{"fromType":"decimal(6,2)","toType":"decimal(10,4)"}]}}`,
		`"metadata":{"delta.typeChanges":[{"fromType":"float","toType":"double","fieldPath":"element.key"},{"fromType":"date","toType":"timestamp_ntz","fieldPath":"element.value"}]}`,
		`{"name":"i","type":"decimal(12,2)","nullable":true,"metadata":{"delta.typeChanges":[{"fromType":"integer","toType":"decimal(12,2)"}]}}`,
		`{"name":"same","type":"long","nullable":true,"metadata":{}}`,
	} {
		if !strings.Contains(schema, want) {
			t.Errorf("%s\nis not in %s", want, schema)
		}
	}
}

// TestEvolveKeepsTheTypesOfANewColumn that it had in another table, as files of these may come, where the table may say so.
func TestEvolveKeepsTheTypesOfANewColumn(t *testing.T) {
	c := newClock()
	for _, widens := range []bool{true, false} {
		from := createdWith(t, c, delta.CreateOptions{Schema: must(delta.ParseDDL("s STRUCT<d: INT>")), Properties: map[string]string{"delta.enableTypeWidening": "true"}})
		catalog := open(t, from, c)
		tx := appendOf("app", 1)
		evolve(t, catalog, "s STRUCT<d: BIGINT>", tx)
		commit(t, catalog, tx, delta.Committed)

		store := createdWith(t, c, delta.CreateOptions{Schema: must(delta.ParseDDL("a INT")), Properties: map[string]string{"delta.enableTypeWidening": fmt.Sprint(widens)}})
		table := open(t, store, c)
		tx = appendOf("app", 1)
		changed, err := table.Evolve(catalog.Schema(), tx)
		check(t, err)
		commit(t, table, tx, delta.Committed)
		schema := open(t, store, c).Metadata().SchemaString
		if kept := strings.Contains(schema, `"delta.typeChanges":[{"fromType":"integer","toType":"long"}]`); !changed || kept != widens {
			t.Errorf("the table widens types: %v; its schema is %s", widens, schema)
		}
	}
}

func TestEvolveRefuses(t *testing.T) {
	c := newClock()
	widening := map[string]string{"delta.enableTypeWidening": "true"}
	for _, x := range []struct {
		table, want, reason string
		by                  []string
		properties          map[string]string
	}{
		{"a INT", "b INT NOT NULL", "column b is new and NOT NULL", nil, nil},
		{"a INT, s STRUCT<x: INT>", "s STRUCT<y: INT NOT NULL>", "column s.y is new and NOT NULL", nil, nil},
		{"a INT", "s STRUCT<t: STRUCT<y: INT NOT NULL>>", "column s is new, and its field s.t.y is NOT NULL", nil, nil},
		{"a INT", "a BIGINT", "delta.enableTypeWidening = true", nil, nil},
		{"a INT", "a STRING", "type int32, which cannot become utf8", nil, widening},
		{"a BIGINT", "a DOUBLE", "cannot become", nil, widening},
		{"a INT", "a DECIMAL(11,2)", "cannot become", nil, widening},
		{"a DECIMAL(5,2)", "a DECIMAL(6,4)", "cannot become", nil, widening},
		{"a STRUCT<x: INT>", "a INT", "cannot become", nil, nil},
		{"a ARRAY<INT>", "a ARRAY<STRING>", "column a.element has the type", nil, nil},
		{"a MAP<STRING, INT>", "a MAP<INT, INT>", "column a.key has the type", nil, nil},
		{"a INT", "A INT", "differ only by case", nil, nil},
		{"a INT", "`b c` INT", "forbids", nil, nil},
		{"a INT, p INT", "p BIGINT", "partition column", []string{"p"}, widening},
		{"a INT", "a DOUBLE", `delta.enableIcebergCompatV2 is true, but column a was changed from "integer" to "double"`, nil, map[string]string{"delta.enableTypeWidening": "true", "delta.enableIcebergCompatV2": "true"}},
		{"a INT", "_Change_Type STRING", "column _Change_Type has a name that delta.enableChangeDataFeed reserves", nil, map[string]string{"delta.enableChangeDataFeed": "true"}},
		{"a INT", "l ARRAY<INT>", "delta.enableIcebergCompatV1 is true, but column l has the type", nil, map[string]string{"delta.enableIcebergCompatV1": "true"}},
	} {
		table := open(t, createdWith(t, c, delta.CreateOptions{Schema: must(delta.ParseDDL(x.table)), PartitionBy: x.by, Properties: x.properties}), c)
		tx := appendOf("app", 1)
		_, err := table.Evolve(must(delta.ParseDDL(x.want)), tx)
		if err == nil || !strings.Contains(err.Error(), x.reason) || tx.Metadata != nil || tx.Protocol != nil {
			t.Errorf("%s to %s: %v and %+v, want %q", x.table, x.want, err, tx.Metadata, x.reason)
		}
	}
	for key, value := range map[string]string{"CURRENT_DEFAULT": `"3"`, "delta.generationExpression": `"a"`, "delta.invariants": `"{}"`, "delta.identity.step": `1`} {
		want := must(delta.SchemaFromJSON(`{"type":"struct","fields":[{"name":"b","type":"integer","nullable":true,"metadata":{"` + key + `":` + value + `}}]}`))
		if _, err := open(t, created(t, c, "a INT"), c).Evolve(want, appendOf("app", 1)); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// The type of a column that a constraint speaks of stays: its expression could mean something else.
func TestEvolveKeepsTypesThatExpressionsUse(t *testing.T) {
	for _, key := range []string{"delta.constraints.x", "Delta.Constraints.X"} {
		evolveConstrained(t, key)
	}
}

func evolveConstrained(t *testing.T, key string) {
	t.Helper()
	c := newClock()
	s := memory.New()
	putLog(t, s, 0, `{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["typeWidening"],"writerFeatures":["typeWidening","checkConstraints"]}}`,
		metadata(ddl(t, "a INT, b INT"), `{"delta.enableTypeWidening":"true","`+key+`":"A > 1"}`))
	table := open(t, s, c)
	if _, err := table.Evolve(must(delta.ParseDDL("a BIGINT")), &delta.Transaction{}); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("%v", err)
	}
	if _, err := table.Evolve(must(delta.ParseDDL("b BIGINT")), &delta.Transaction{}); err != nil {
		t.Error(err)
	}
}

// Two writers see the same new column. The loser finds it there, drops its own change, and lands its files.
func TestEvolveLosesARace(t *testing.T) {
	c := newClock()
	s := created(t, c, "a INT")
	mine, theirs := open(t, s, c), open(t, s, c)
	first, second := appendOf("theirs", 1, "t"), appendOf("mine", 1, "m")
	evolve(t, theirs, "a INT, b INT", first)
	evolve(t, mine, "a INT, b INT, c INT", second)
	commit(t, theirs, first, delta.Committed)
	commit(t, mine, second, delta.Conflict)
	winner, err := mine.Next(ctx)
	check(t, err)
	if !winner.ChangesTable() {
		t.Error("the winner changes nothing")
	}
	if outcome, err := mine.Commit(ctx, second); outcome != delta.Refused || !strings.Contains(err.Error(), "Evolve again") {
		t.Errorf("%s %v, want refused: it would undo the winner's change", outcome, err)
	}
	if !evolve(t, mine, "a INT, b INT, c INT", second) || strings.Count(second.Metadata.SchemaString, `"name":"b"`) != 1 {
		t.Errorf("%+v", second.Metadata)
	}
	if !evolve(t, mine, "a INT, c INT", second) {
		t.Error("c is not there yet")
	}
	if evolve(t, mine, "a INT, b INT", second) {
		t.Error("b is there already")
	}
	commit(t, mine, second, delta.Committed)
	if names, _ := lines(t, s, 2); fmt.Sprint(names) != "[commitInfo txn add]" {
		t.Errorf("the loser wrote %v", names)
	}
}

func TestEvolveWhilePending(t *testing.T) {
	c := newClock()
	s := &spy{LogStore: created(t, c, "a INT"), putIfAbsent: func(string, []byte) (bool, error) { return true, errLost }}
	table := open(t, s, c)
	tx := appendOf("app", 1, "f")
	evolve(t, table, "b INT", tx)
	commit(t, table, tx, delta.Unknown)
	before := tx.Metadata
	if _, err := table.Evolve(must(delta.ParseDDL("c INT")), tx); err == nil || tx.Metadata != before {
		t.Errorf("%v, metadata %v", err, tx.Metadata)
	}
	s.putIfAbsent = nil
	commit(t, table, tx, delta.Committed)
	if got := delta.FormatDDL(table.Schema()); got != "a INT, b INT" || errors.Is(table.CheckAppend(), delta.ErrUnsupported) {
		t.Errorf("schema %s", got)
	}
}
