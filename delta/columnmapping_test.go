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
