package avro

import (
	"errors"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/linkedin/goavro/v2"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
)

func nullable(name string, t arrow.DataType) arrow.Field {
	return arrow.Field{Name: name, Type: t, Nullable: true}
}

// TestUnionsGoByName: a member of a union goes into the field of its type, wherever a writer's schema has it, and a field of one type goes into the member
// that it became later.
func TestUnionsGoByName(t *testing.T) {
	i32, text := arrow.PrimitiveTypes.Int32, arrow.BinaryTypes.String
	a := `{"type":"record","name":"n.A","fields":[{"name":"x","type":"int"},{"name":"y","type":"int"}]}`
	b := `{"type":"record","name":"n.B","fields":[{"name":"x","type":"int"},{"name":"z","type":"string"}]}`
	ofA, ofB := arrow.StructOf(nullable("x", i32), nullable("y", i32)), arrow.StructOf(nullable("x", i32), nullable("z", text))
	named := arrow.StructOf(nullable("member_int", i32), nullable("member_string", text))
	numbers := arrow.StructOf(nullable("member0", i32), nullable("member1", text))
	records := arrow.StructOf(nullable("member_a", ofA), nullable("member_b", ofB))
	numberedRecords := arrow.StructOf(nullable("member0", ofA), nullable("member1", ofB))
	isInt, isText := goavro.Union("int", 7), goavro.Union("string", "s")
	isA, isB := goavro.Union("n.A", map[string]any{"x": 1, "y": 2}), goavro.Union("n.B", map[string]any{"x": 3, "z": "zz"})
	rowA, rowB := map[string]any{"x": 1.0, "y": 2.0}, map[string]any{"x": 3.0, "z": "zz"}
	enum := `{"type":"enum","name":"e","symbols":["E"]}`
	for _, tt := range []struct {
		name, writer, reader string
		value                any
		column               arrow.DataType
		want                 any
		refused              string
	}{
		{"as the table was made", `["null","int","string"]`, "", isInt, named, map[string]any{"member_int": 7.0, "member_string": nil}, ""},
		{"another order, an int", `["string","int","null"]`, "", isInt, named, map[string]any{"member_int": 7.0, "member_string": nil}, ""},
		{"another order, a text", `["string","int","null"]`, "", isText, named, map[string]any{"member_int": nil, "member_string": "s"}, ""},
		{"another order, null", `["string","int","null"]`, "", nil, named, nil, ""},
		{"one more type", `["boolean","int","string"]`, "", isText, named, map[string]any{"member_int": nil, "member_string": "s"}, ""},
		{"a type that the table lacks", `["boolean","int","string"]`, "", goavro.Union("boolean", true), named, nil, "no field for boolean, such as member_boolean"},
		{"one type", `"int"`, "", 7, named, map[string]any{"member_int": 7.0, "member_string": nil}, ""},
		{"one type or null", `["null","int"]`, "", isInt, named, map[string]any{"member_int": 7.0, "member_string": nil}, ""},
		{"one type or null, null", `["null","int"]`, "", nil, named, nil, ""},
		{"one record", a, "", isA.(map[string]any)["n.A"], records, map[string]any{"member_a": rowA, "member_b": nil}, ""},
		{"records in another order", `[` + b + `,` + a + `]`, "", isA, records, map[string]any{"member_a": rowA, "member_b": nil}, ""},
		{"records in another order, the other", `[` + b + `,` + a + `]`, "", isB, records, map[string]any{"member_a": nil, "member_b": rowB}, ""},
		{"a record of another name, by the reader's alias", strings.Replace(a, "n.A", "n.Old", 1), `[` + strings.Replace(a, `"fields"`, `"aliases":["n.Old"],"fields"`, 1) + `,` + b + `]`,
			map[string]any{"x": 1, "y": 2}, records, map[string]any{"member_a": rowA, "member_b": nil}, ""},
		{"numbers, an int", `["string","null","int"]`, "", isInt, numbers, map[string]any{"member0": 7.0, "member1": nil}, ""},
		{"numbers, one more type", `["boolean","string","int"]`, "", isText, numbers, map[string]any{"member0": nil, "member1": "s"}, ""},
		{"numbers, one more type, of it", `["boolean","string","int"]`, "", goavro.Union("boolean", true), numbers, nil, "no field for boolean"},
		{"numbers, one type", `"string"`, "", "s", numbers, map[string]any{"member0": nil, "member1": "s"}, ""},
		{"numbered records in another order", `[` + b + `,` + a + `]`, "", isA, numberedRecords, map[string]any{"member0": rowA, "member1": nil}, ""},
		{"numbers, of equal columns by the reader's order", `["string",` + enum + `]`, `[` + enum + `,"string"]`, isText,
			arrow.StructOf(nullable("member0", text), nullable("member1", text)), map[string]any{"member0": nil, "member1": "s"}, ""},
		{"a record with a field of a member's name", `["null",{"type":"record","name":"R","fields":[{"name":"member_r","type":"int"}]}]`, "",
			goavro.Union("R", map[string]any{"member_r": 4}), arrow.StructOf(nullable("member_r", i32)), map[string]any{"member_r": 4.0}, ""},
		{"grown from one type, of that", `["null","int","string"]`, "", isInt, i32, 7.0, ""},
		{"grown from one type, of another", `["null","int","string"]`, "", isText, i32, nil, "string into INT"},
		{"int and long", `["null","long","int"]`, "", isInt, arrow.PrimitiveTypes.Int64, "7", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			schema := recordOf(`{"name":"c","type":` + tt.writer + `},{"name":"end","type":"int"}`)
			o := Options{Framing: Bare(parsed(t, schema))}
			if tt.reader != "" {
				o.Reader = parsed(t, recordOf(`{"name":"c","type":`+tt.reader+`}`))
			}
			d := New(planFor(t, arrow.NewSchema([]arrow.Field{nullable("c", tt.column), nullable("end", i32)}, nil), decode.Config{}), o)
			err := d.Append(&kgo.Record{Value: message(t, schema, map[string]any{"c": tt.value, "end": 42})})
			if tt.refused != "" {
				if e, ok := errors.AsType[*decode.PoisonError](err); !ok || e.Reason != decode.ReasonTypeMismatch || e.Path != "c" || !strings.Contains(e.Detail, tt.refused) {
					t.Fatalf("want %q at c, got %v", tt.refused, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			rows := d.NewBatch()
			defer rows.Release()
			if got := rowShown(rows, 0); !equal(got["c"], tt.want) || !equal(got["end"], 42.0) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// TestColumnsOfUnions: what a new table gets, and what one that is there gets for a union that has grown.
func TestColumnsOfUnions(t *testing.T) {
	i32, text, boolean := arrow.PrimitiveTypes.Int32, arrow.BinaryTypes.String, arrow.FixedWidthTypes.Boolean
	fixed := func(name string) string { return `{"type":"fixed","name":"` + name + `","size":1}` }
	for _, tt := range []struct {
		name, union string
		table, want arrow.DataType
		reader      string
	}{
		{"null and one", `["int","null"]`, nil, i32, ""},
		{"null and two", `["int","null","string"]`, nil, arrow.StructOf(nullable("member_int", i32), nullable("member_string", text)), ""},
		{"int and long", `["int","null","long"]`, nil, arrow.PrimitiveTypes.Int64, ""},
		{"float and double", `["double","float"]`, nil, arrow.PrimitiveTypes.Float64, ""},
		{"names", `[` + fixed("a.X") + `,` + fixed("Long") + `,` + fixed("b.x") + `,"long"]`, nil, arrow.StructOf(nullable("member_a_X", arrow.BinaryTypes.Binary),
			nullable("member_Long", arrow.BinaryTypes.Binary), nullable("member_b_x", arrow.BinaryTypes.Binary), nullable("member_long", arrow.PrimitiveTypes.Int64)), ""},
		{"numbered", `["boolean","string","int"]`, arrow.StructOf(nullable("member0", i32), nullable("member1", text)),
			arrow.StructOf(nullable("member2", boolean), nullable("member1", text), nullable("member0", i32)), ""},
		{"numbered by a reader", `["int","string"]`, arrow.StructOf(nullable("member0", text), nullable("member1", i32)),
			arrow.StructOf(nullable("member1", i32), nullable("member0", text)), `["string","int"]`},
		{"a reader's name", `["int",` + fixed("Old") + `]`, nil, arrow.StructOf(nullable("member_int", i32), nullable("member_new", arrow.BinaryTypes.Binary)),
			`["int",{"type":"fixed","name":"New","aliases":["Old"],"size":1}]`},
		{"one of several", `["null","int"]`, arrow.StructOf(nullable("member_int", i32), nullable("member_string", text)), arrow.StructOf(nullable("member_int", i32)), ""},
		{"the only one of several", `"int"`, arrow.StructOf(nullable("member_int", i32), nullable("member_string", text)), arrow.StructOf(nullable("member_int", i32)), ""},
	} {
		var plan *decode.Plan
		if tt.table != nil {
			plan = planFor(t, arrow.NewSchema([]arrow.Field{nullable("c", tt.table)}, nil), decode.Config{})
		}
		var reader *Schema
		if tt.reader != "" {
			reader = parsed(t, recordOf(`{"name":"c","aliases":["old"],"type":`+tt.reader+`}`))
		}
		got, err := MessageSchema(parsed(t, recordOf(`{"name":"`+map[bool]string{true: "c", false: "old"}[reader == nil]+`","type":`+tt.union+`}`)), reader, nil, plan)
		if err != nil || got.Field(0).Name != "c" || !arrow.TypeEqual(got.Field(0).Type, tt.want) {
			t.Errorf("%s: got %v, %v, want %v", tt.name, got, err, tt.want)
		}
	}
}

// TestColumnsFromUnions: columns take a union under another name, its members by their names, and fields of its records.
func TestColumnsFromUnions(t *testing.T) {
	i32, text := arrow.PrimitiveTypes.Int32, arrow.BinaryTypes.String
	order := `{"type":"record","name":"Order","fields":[{"name":"id","type":"string"},{"name":"n","type":["null","int"]}]}`
	refund := `{"type":"record","name":"Refund","fields":[{"name":"id","type":"string"}]}`
	all := map[string]decode.Column{
		"renamed": {From: "u"}, "number": {From: "u.member_int"}, "id": {From: "u.id"}, "n": {From: "u.member_order.n"}, "second": {From: "u.member1.id"},
	}
	kept := arrow.StructOf(nullable("member_int", i32), nullable("member_order", arrow.StructOf(nullable("id", text))), nullable("member_refund", arrow.StructOf(nullable("id", text))))
	others := []arrow.Field{nullable("renamed", kept), nullable("number", i32), nullable("id", text), nullable("n", i32), nullable("second", text), nullable("end", i32)}
	struc := func(i, o, r any) map[string]any {
		return map[string]any{"member_int": i, "member_order": o, "member_refund": r}
	}
	id := func(s string) any { return map[string]any{"id": s} }
	for name, schema := range map[string]string{"": `["null","int",` + order + `,` + refund + `]`, "several orders": `["int",` + order + `,` + refund + `,"null"]`} {
		for _, withColumn := range []bool{false, true} {
			fields := others
			if withColumn {
				fields = append([]arrow.Field{nullable("u", kept)}, others...)
			}
			writer := recordOf(`{"name":"u","type":` + schema + `},{"name":"end","type":"int"}`)
			d := New(planFor(t, arrow.NewSchema(fields, nil), decode.Config{Columns: all}), Options{Framing: Bare(parsed(t, writer))})
			for _, tt := range []struct {
				value any
				want  map[string]any
			}{
				{nil, map[string]any{"renamed": nil, "number": nil, "id": nil, "n": nil, "second": nil}},
				{goavro.Union("int", 7), map[string]any{"renamed": struc(7.0, nil, nil), "number": 7.0, "id": nil, "n": nil, "second": nil}},
				{goavro.Union("Order", map[string]any{"id": "o", "n": goavro.Union("int", 5)}), map[string]any{"renamed": struc(nil, id("o"), nil), "number": nil, "id": "o", "n": 5.0, "second": "o"}},
				{goavro.Union("Refund", map[string]any{"id": "r"}), map[string]any{"renamed": struc(nil, nil, id("r")), "number": nil, "id": "r", "n": nil, "second": nil}},
			} {
				if err := d.Append(&kgo.Record{Value: message(t, writer, map[string]any{"u": tt.value, "end": 1})}); err != nil {
					t.Fatalf("%s, with a column %v: %v", name, withColumn, err)
				}
				rows := d.NewBatch()
				tt.want["end"] = 1.0
				if withColumn {
					tt.want["u"] = tt.want["renamed"]
				}
				if got := rowShown(rows, 0); !equal(got, tt.want) {
					t.Errorf("%s, with a column %v\ngot  %v\nwant %v", name, withColumn, got, tt.want)
				}
				rows.Release()
			}
		}
	}
}

// TestUnionsDoNotAllocate: neither does a member, nor what is read of it.
func TestUnionsDoNotAllocate(t *testing.T) {
	i32, text := arrow.PrimitiveTypes.Int32, arrow.BinaryTypes.String
	writer := recordOf(`{"name":"u","type":["null","int",{"type":"record","name":"Order","fields":[{"name":"id","type":"string"}]}]}`)
	table := arrow.NewSchema([]arrow.Field{nullable("u", arrow.StructOf(nullable("member_int", i32), nullable("member_order", arrow.StructOf(nullable("id", text))))), nullable("id", text)}, nil)
	d := New(planFor(t, table, decode.Config{Columns: map[string]decode.Column{"id": {From: "u.id"}}}), Options{Framing: Bare(parsed(t, writer))})
	rec := &kgo.Record{Value: message(t, writer, map[string]any{"u": goavro.Union("Order", map[string]any{"id": "abc"})})}
	for range 3 {
		for range 1000 {
			if err := d.Append(rec); err != nil {
				t.Fatal(err)
			}
		}
		d.NewBatch().Release()
	}
	if n := testing.AllocsPerRun(500, func() {
		if err := d.Append(rec); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a message", n)
	}
}
