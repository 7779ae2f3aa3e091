package delta_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/delta"
	memstore "kafkadelta/storage/memory"
)

// rowsOf builds a batch from JSON rows, in which NOT NULL is not looked at.
func rowsOf(t *testing.T, mem memory.Allocator, s *arrow.Schema, rows string) arrow.RecordBatch {
	t.Helper()
	fields := s.Fields()
	for i := range fields {
		fields[i].Type = loose(fields[i].Type)
	}
	rb, _, err := array.RecordFromJSON(mem, arrow.NewSchema(fields, nil), strings.NewReader(rows))
	check(t, err)
	t.Cleanup(rb.Release)
	return rb
}

// loose lets everything be null: Arrow's map builder panics on a null value that its type forbids.
func loose(t arrow.DataType) arrow.DataType {
	switch t := t.(type) {
	case *arrow.StructType:
		fields := t.Fields()
		for i := range fields {
			fields[i].Type, fields[i].Nullable = loose(fields[i].Type), true
		}
		return arrow.StructOf(fields...)
	case *arrow.ListType:
		return arrow.ListOf(loose(t.Elem()))
	case *arrow.MapType:
		return arrow.MapOf(loose(t.KeyType()), loose(t.ItemType()))
	}
	return t
}

// tableOf is a table with the schemaString, which may say more about nulls than DDL can.
func tableOf(t *testing.T, schema string, by ...string) *delta.Table {
	t.Helper()
	s := memstore.New()
	putLog(t, s, 0, protocol(1, 2), metadata(schema, "", by...))
	return open(t, s, newClock())
}

// rowCheckOf gives the violations that the table's rules find.
func rowCheckOf(t testing.TB, table *delta.Table) func(arrow.RecordBatch) []delta.Violation {
	t.Helper()
	rules, err := table.Rules(newClock().now)
	if err != nil {
		t.Fatal(err)
	}
	return func(rb arrow.RecordBatch) []delta.Violation {
		out, bad := rules.Apply(rb)
		if out != nil {
			out.Release()
		}
		return bad
	}
}

func TestRowCheck(t *testing.T) {
	noNulls := `{"type":"struct","fields":[
		{"name":"l","type":{"type":"array","elementType":"integer","containsNull":false},"nullable":true,"metadata":{}},
		{"name":"m","type":{"type":"map","keyType":"string","valueType":{"type":"array","elementType":"string","containsNull":false},"valueContainsNull":false},"nullable":true,"metadata":{}}]}`
	for _, c := range []struct {
		name, schema string
		by           []string
		rows         string
		want         []string
	}{
		{"nothing is forbidden", ddl(t, "a INT, s STRUCT<b: INT>"), nil, `[{"a":null,"s":null},{"a":1,"s":{"b":null}}]`, nil},
		{"no rows", ddl(t, "a INT NOT NULL, p STRING NOT NULL, l ARRAY<STRUCT<x: INT NOT NULL>>"), []string{"p"}, `[]`, nil},
		{"clean", ddl(t, "a INT NOT NULL"), nil, `[{"a":1},{"a":2}]`, nil},
		{"top level", ddl(t, "a INT NOT NULL, b INT"), nil, `[{"a":1,"b":1},{"a":null},{"a":3},{"a":null}]`, []string{"1 a NOT NULL", "3 a NOT NULL"}},
		{"below a null struct all is missing", ddl(t, "s STRUCT<b: INT NOT NULL>"), nil, `[{"s":null},{"s":{"b":null}},{"s":{"b":1}}]`,
			[]string{"0 s.b NOT NULL: the struct s around it is null or missing", "1 s.b NOT NULL: the value"}},
		{"below null structs, deep", ddl(t, "o STRUCT<a: INT, s: STRUCT<t: STRUCT<b: INT NOT NULL>>>"), nil,
			`[{"o":null},{"o":{"s":null}},{"o":{"s":{"t":null}}},{"o":{"s":{"t":{"b":null}}}},{"o":{"s":{"t":{"b":1}}}},{}]`, []string{
				"0 o.s.t.b NOT NULL: the struct o around", "1 o.s.t.b NOT NULL: the struct o.s around", "2 o.s.t.b NOT NULL: the struct o.s.t around",
				"3 o.s.t.b NOT NULL: the value", "5 o.s.t.b NOT NULL: the struct o around"}},
		{"a null struct in a struct that is required", ddl(t, "o STRUCT<s: STRUCT<b: INT NOT NULL> NOT NULL>"), nil, `[{"o":null},{"o":{"s":null}}]`,
			[]string{"0 o.s NOT NULL: the struct o around", "1 o.s NOT NULL: the value"}},
		{"a null struct with lists and maps", ddl(t, "o STRUCT<l: ARRAY<STRUCT<q: STRUCT<x: INT NOT NULL>>>, m: MAP<STRING, STRUCT<x: INT NOT NULL>>>"), nil,
			`[{"o":null},{"o":{"l":null}},{"o":{"l":[null,{"q":null},{"q":{"x":1}}],"m":[{"key":"k","value":null}]}}]`, nil},
		{"struct itself", ddl(t, "s STRUCT<b: INT NOT NULL> NOT NULL"), nil, `[{"s":null},{"s":{"b":null}}]`, []string{"0 s NOT NULL", "1 s.b NOT NULL"}},
		{"deep", ddl(t, "l ARRAY<STRUCT<m: MAP<STRING, STRUCT<x: INT NOT NULL>>>>"), nil,
			`[{"l":[]},{"l":[null,{"m":null},{"m":[{"key":"k","value":{"x":1}},{"key":"j","value":null}]}]},{"l":[{"m":[{"key":"k","value":{"x":null}}]}]}]`, []string{"2 l.element.m.value.x NOT NULL"}},
		{"elements and values", noNulls, nil, `[{"l":[1,2],"m":[{"key":"k","value":["v"]}]},{"l":[1,null]},{"l":null,"m":[{"key":"k","value":null}]},{"m":[{"key":"k","value":["a",null]}]}]`,
			[]string{"1 l.element NOT NULL", "2 m.value NOT NULL", "3 m.value.element NOT NULL"}},
		{"one violation for a row, the first column's", ddl(t, "a INT NOT NULL, b INT NOT NULL"), nil, `[{"b":1},{"a":null,"b":null},{"a":1}]`, []string{"0 a NOT NULL", "1 a NOT NULL", "2 b NOT NULL"}},
		{"empty partition value", ddl(t, "a INT, p STRING NOT NULL"), []string{"p"}, `[{"p":"x"},{"p":""},{"p":null}]`, []string{"1 p NOT NULL: an empty", "2 p NOT NULL"}},
		{"empty partition value that may be null", ddl(t, "a INT, p STRING"), []string{"p"}, `[{"p":""},{"p":null}]`, nil},
		{"binary partition value", ddl(t, "a INT, p BINARY NOT NULL"), []string{"p"}, `[{"p":"YQ=="},{"p":"/w=="},{"p":""}]`, []string{"1 p a binary", "2 p NOT NULL: an empty"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
			t.Cleanup(func() { mem.AssertSize(t, 0) })
			table := tableOf(t, c.schema, c.by...)
			rb := rowsOf(t, mem, table.Schema(), c.rows)
			rowCheck := rowCheckOf(t, table)
			compareViolations(t, rowCheck(rb), c.want)
			if rb.NumRows() > 1 { // a slice counts its rows from zero
				slice := rb.NewSlice(1, rb.NumRows())
				defer slice.Release()
				var want []string
				for _, w := range c.want {
					var row int
					var rest string
					row, rest = int(w[0]-'0'), w[1:]
					if row >= 1 {
						want = append(want, fmt.Sprintf("%d%s", row-1, rest))
					}
				}
				compareViolations(t, rowCheck(slice), want)
			}
		})
	}
}

func compareViolations(t *testing.T, got []delta.Violation, want []string) {
	t.Helper()
	var text []string
	for _, v := range got {
		text = append(text, fmt.Sprintf("%d %s %s", v.Row, v.Path, v.Reason))
	}
	if len(text) != len(want) || !slices.EqualFunc(text, want, strings.HasPrefix) {
		t.Errorf("violations %q, want %q", text, want)
	}
}

// TestRowCheckBelowNullAlone has a null struct whose field's own array has no null, as builders of other programs make it.
func TestRowCheckBelowNullAlone(t *testing.T) {
	table := tableOf(t, ddl(t, "s STRUCT<b: INT NOT NULL>"))
	mem := memory.NewGoAllocator()
	b := array.NewInt32Builder(mem)
	defer b.Release()
	b.AppendValues([]int32{1, 2}, nil)
	values := b.NewArray()
	defer values.Release()
	valid := memory.NewBufferBytes([]byte{0b01})
	data := array.NewData(table.Schema().Field(0).Type, 2, []*memory.Buffer{valid}, []arrow.ArrayData{values.Data()}, 1, 0)
	defer data.Release()
	s := array.NewStructData(data)
	defer s.Release()
	rb := array.NewRecordBatch(table.Schema(), []arrow.Array{s}, 2)
	defer rb.Release()
	compareViolations(t, rowCheckOf(t, table)(rb), []string{"1 s.b NOT NULL: the struct s"})
}

func TestRowCheckOfPartitionDates(t *testing.T) {
	table := tableOf(t, ddl(t, "a INT, d DATE, t TIMESTAMP"), "d", "t")
	b := array.NewRecordBuilder(memory.NewGoAllocator(), table.Schema())
	defer b.Release()
	for _, day := range []int64{-719162, -719163, 2932896, 2932897, 0} {
		b.Field(0).AppendNull()
		b.Field(1).(*array.Date32Builder).Append(arrow.Date32(day))
		b.Field(2).(*array.TimestampBuilder).Append(arrow.Timestamp(day * 86_400_000_000))
	}
	b.Field(0).AppendNull()
	b.Field(1).AppendNull()
	b.Field(2).(*array.TimestampBuilder).Append(2932897*86_400_000_000 - 1)
	rb := b.NewRecordBatch()
	defer rb.Release()
	compareViolations(t, rowCheckOf(t, table)(rb), []string{"1 d a partition value", "3 d a partition value"})
}

func BenchmarkRowCheckClean(b *testing.B) {
	s := memstore.New()
	check(b, delta.Create(ctx, s, delta.CreateOptions{Schema: must(delta.ParseDDL("a BIGINT NOT NULL, s STRUCT<x: STRING NOT NULL> NOT NULL, d DATE")), PartitionBy: []string{"d"}, Now: newClock().now}))
	table := open(b, s, newClock())
	rb := array.NewRecordBuilder(memory.NewGoAllocator(), table.Schema())
	defer rb.Release()
	for i := range 8192 {
		rb.Field(0).(*array.Int64Builder).Append(int64(i))
		st := rb.Field(1).(*array.StructBuilder)
		st.Append(true)
		st.FieldBuilder(0).(*array.StringBuilder).Append("x")
		rb.Field(2).(*array.Date32Builder).Append(19000)
	}
	batch := rb.NewRecordBatch()
	defer batch.Release()
	rowCheck := rowCheckOf(b, table)
	b.ReportAllocs()
	for b.Loop() {
		if v := rowCheck(batch); v != nil {
			b.Fatal(v)
		}
	}
}
