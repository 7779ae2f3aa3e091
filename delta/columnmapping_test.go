package delta_test

import (
	"testing"

	"kafkadelta/delta"
)

func TestColumnMappingOfAField(t *testing.T) {
	s := must(delta.SchemaFromJSON(`{"type":"struct","fields":[` +
		`{"name":"a b","type":{"type":"array","elementType":"long","containsNull":true},"nullable":true,"metadata":{"delta.columnMapping.id":7,"delta.columnMapping.physicalName":"col-1","delta.columnMapping.nested.ids":{"col-1.element":8}}},` +
		`{"name":"plain","type":"long","nullable":true,"metadata":{}},` +
		`{"name":"broken","type":"long","nullable":true,"metadata":{"delta.columnMapping.id":"x","delta.columnMapping.physicalName":3,"delta.columnMapping.nested.ids":[]}}]}`))
	if id, ok := delta.FieldID(s.Field(0)); delta.PhysicalName(s.Field(0)) != "col-1" || id != 7 || !ok || delta.NestedIDs(s.Field(0))["col-1.element"] != 8 {
		t.Errorf("%v", s.Field(0))
	}
	for i := 1; i < 3; i++ {
		if id, ok := delta.FieldID(s.Field(i)); delta.PhysicalName(s.Field(i)) != s.Field(i).Name || id != 0 || ok || delta.NestedIDs(s.Field(i)) != nil {
			t.Errorf("%v", s.Field(i))
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
