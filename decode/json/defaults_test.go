package json

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
)

// defaultOf is a default of a constant, which counts how often it is asked for.
func defaultOf(t *testing.T, schema *arrow.Schema, column int, value string, asked *int) decode.Default {
	t.Helper()
	return decode.Default{Column: column, Value: func() arrow.Array {
		*asked++
		b := array.NewBuilder(memory.NewGoAllocator(), schema.Field(column).Type)
		defer b.Release()
		if value == "null" {
			b.AppendNull()
		} else if err := b.AppendValueFromString(value); err != nil {
			t.Fatal(err)
		}
		return b.NewArray()
	}}
}

type defaultCase struct {
	t     arrow.DataType
	value string
	given string // a JSON value other than the default
}

func TestDefaults(t *testing.T) {
	types := []defaultCase{
		{tBool, "true", "false"}, {tByte, "-7", "1"}, {tShort, "300", "1"}, {arrow.PrimitiveTypes.Int32, "70000", "1"},
		{arrow.PrimitiveTypes.Int64, "-5000000000", "1"}, {tFloat, "1.5", "2"}, {arrow.PrimitiveTypes.Float64, "-0.25", "2"},
		{tDec52, "-1.25", "2.00"}, {tDec3810, "12345678901234567890.0000000001", "2"}, {arrow.FixedWidthTypes.Date32, "2024-05-06", `"2020-01-01"`},
		{tNTZ, "2024-05-06 07:08:09.000001", `"2020-01-01T00:00:00"`}, {arrow.BinaryTypes.String, "text", `"x"`}, {arrow.BinaryTypes.String, "", `"x"`},
		{tBinary, "Ynl0ZXM=", `"eA=="`}, {arrow.PrimitiveTypes.Int32, "null", "1"},
	}
	var fields []arrow.Field
	for i, c := range types {
		fields = append(fields, arrow.Field{Name: fmt.Sprintf("c%d", i), Type: c.t, Nullable: true})
	}
	schema := arrow.NewSchema(fields, nil)
	asked := make([]int, len(types))
	var defaults []decode.Default
	for i, c := range types {
		defaults = append(defaults, defaultOf(t, schema, i, c.value, &asked[i]))
	}
	plan, err := decode.NewPlan(schema, decode.Config{}, defaults...)
	if err != nil {
		t.Fatal(err)
	}
	d := New(plan)
	clear(asked)
	for range 2 { // batches
		for _, message := range []string{`{}`, `{"other": 1}`, allOf(types, "null"), allOf(types, ""), `{"c0": "broken"}`, `{}`} {
			err := d.Append(&kgo.Record{Value: []byte(message)})
			if (err != nil) != (message == `{"c0": "broken"}`) {
				t.Fatalf("%s: %v", message, err)
			}
		}
		batch := d.NewBatch()
		for i, c := range types {
			column := batch.Column(i)
			filled := defaults[i].Value()
			for _, row := range []int{0, 1, 4} {
				if got := column.ValueStr(row); got != filled.ValueStr(0) || column.IsNull(row) != (c.value == "null") {
					t.Errorf("%s, row %d: %s, want %s", c.t, row, got, c.value)
				}
			}
			if !column.IsNull(2) || column.IsNull(3) || column.ValueStr(3) == filled.ValueStr(0) && c.value != "null" {
				t.Errorf("%s: an explicit null is %s, an explicit value %s", c.t, column.ValueStr(2), column.ValueStr(3))
			}
		}
		batch.Release()
	}
	for i, n := range asked {
		if n != 2+2 { // once for each batch, and by this test
			t.Errorf("the default of %s was evaluated %d times in 2 batches", types[i].t, n-2)
		}
	}
}

// allOf is a message with a value in each column: the same for all, or for "" that of the case.
func allOf(types []defaultCase, value string) string {
	var fields []string
	for i, c := range types {
		v := value
		if v == "" {
			v = c.given
		}
		fields = append(fields, fmt.Sprintf(`"c%d": %s`, i, v))
	}
	return "{" + strings.Join(fields, ", ") + "}"
}

// A computed column gets its default where its source is missing, and nothing is allocated for a message.
func TestDefaultsOfComputedColumns(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "a", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "b", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil)
	var asked int
	plan, err := decode.NewPlan(schema, decode.Config{Columns: map[string]decode.Column{"b": {From: "src.b"}}},
		defaultOf(t, schema, 0, "A", &asked), defaultOf(t, schema, 1, "B", &asked))
	if err != nil {
		t.Fatal(err)
	}
	d := New(plan)
	for _, message := range []string{`{}`, `{"src": {}}`, `{"src": {"b": "x"}}`, `{"src": {"b": null}, "a": null}`} {
		if err := d.Append(&kgo.Record{Value: []byte(message)}); err != nil {
			t.Fatal(err)
		}
	}
	batch := d.NewBatch()
	if got := fmt.Sprint(renderRows(batch)); got != `[{a:"A",b:"B"} {a:"A",b:"B"} {a:"A",b:"x"} {a:null,b:null}]` {
		t.Errorf("rows %s", got)
	}
	batch.Release()
	if raceEnabled {
		return
	}
	record := &kgo.Record{Value: []byte(`{}`)}
	for range 5000 {
		_ = d.Append(record)
	}
	d.NewBatch().Release()
	_ = d.Append(record)
	if n := testing.AllocsPerRun(3000, func() { _ = d.Append(record) }); n != 0 {
		t.Errorf("%v allocations for a message", n)
	}
}

func TestNestedDefaultIsRefused(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "l", Type: arrow.ListOf(arrow.PrimitiveTypes.Int32), Nullable: true}}, nil)
	if _, err := decode.NewPlan(schema, decode.Config{}, decode.Default{Column: 0}); err == nil {
		t.Error("a default of a list is taken")
	}
}
