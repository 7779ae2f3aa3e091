package columns_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/columns"
	"kafkadelta/decode"
	"kafkadelta/delta/variant"
)

var (
	bigint  = arrow.PrimitiveTypes.Int64
	integer = arrow.PrimitiveTypes.Int32
	str     = arrow.BinaryTypes.String
	dec     = &arrow.Decimal128Type{Precision: 10, Scale: 2}
	instant = arrow.FixedWidthTypes.Timestamp_us
)

func schema(fields ...arrow.Field) *arrow.Schema { return arrow.NewSchema(fields, nil) }

func field(name string, t arrow.DataType) arrow.Field {
	return arrow.Field{Name: name, Type: t, Nullable: true}
}

// batch has rows of a schema, as JSON.
func batch(t testing.TB, s *arrow.Schema, rows string) arrow.RecordBatch {
	t.Helper()
	rb, _, err := array.RecordFromJSON(memory.DefaultAllocator, s, strings.NewReader(rows))
	if err != nil {
		t.Fatal(err)
	}
	return rb
}

func shown(t testing.TB, rb arrow.RecordBatch) string {
	t.Helper()
	out, err := rb.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(strings.TrimSpace(string(out)), "\n", "")
}

// table has one column of each way to fill it.
var table = schema(field("id", bigint), field("total", dec), field("who", str), field("source", str), field("day", arrow.FixedWidthTypes.Date32),
	field("tags", arrow.ListOf(str)), field("gone", integer))

var config = decode.Config{
	Filter: "id > 0 AND kind <> 'test'",
	Columns: map[string]decode.Column{
		"total":  {Expression: "CAST(price AS DECIMAL(10,2)) * 2"},
		"who":    {Expression: "coalesce(upper(kind), 'nobody')"},
		"source": {Constant: new("it's a \\ 'test' %")},
		"day":    {Constant: new("2024-02-29")},
		"gone":   {Drop: true},
		"price":  {Drop: true, Type: "STRING", From: "order.price"},
		"kind":   {Drop: true, Type: "STRING"},
	},
}

var types = columns.Types{"price": str, "kind": str}

// TestApply computes columns of the rows that the filter keeps, and leaves out what only expressions read.
func TestApply(t *testing.T) {
	p, err := columns.New(table, config, types, true)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range p.Schema().Fields() {
		names = append(names, f.Name)
	}
	if got := strings.Join(names, " "); got != "id tags kind price" {
		t.Fatalf("decoders fill %s", got)
	}
	if got := fmt.Sprint(p.Config().Columns); got != "map[kind:{   <nil>   false} price:{order.price   <nil>   false}]" {
		t.Errorf("decoders are told %s", got)
	}
	var read, decoded []string
	for i, f := range table.Fields() {
		if p.Reads(i) {
			read = append(read, f.Name)
		}
		if p.Decodes(i) {
			decoded = append(decoded, f.Name)
		}
	}
	if fmt.Sprint(read, decoded) != "[id] [id tags]" {
		t.Errorf("of the table's columns, expressions read %v, and decoders fill %v", read, decoded)
	}
	row := func(id, tags, total, who string) string { // keys are in order
		return `{"day":"2024-02-29","gone":null,"id":` + id + `,"source":"it's a \\ 'test' %","tags":` + tags + `,"total":` + total + `,"who":` + who + `}`
	}
	for name, tt := range map[string]struct {
		rows, want string
		kept       []int
		bad        string
	}{
		"none": {`[]`, `[]`, nil, ""},
		"all": {
			`[{"id":1,"kind":"a","price":"1.25","tags":["x","y"]},{"id":2,"kind":"b"}]`,
			"[" + row("1", `["x","y"]`, `"2.5"`, `"A"`) + "," + row("2", "null", "null", `"B"`) + "]", nil, "",
		},
		"some": {
			`[{"id":-1,"kind":"a","price":"none"},{"id":3,"kind":"c","tags":[]},{"id":1,"kind":"test"},{"id":1},{"id":4,"kind":"","price":"1","tags":["z"]}]`,
			"[" + row("3", "[]", "null", `"C"`) + "," + row("4", `["z"]`, `"2"`, `""`) + "]", []int{1, 4}, "",
		},
		"nothing is kept": {`[{"id":-1},{"id":null}]`, `[]`, []int{}, ""},
		"an error": {
			`[{"id":-1,"price":"left out"},{"id":1,"kind":"a","price":"x"},{"id":2,"kind":"a","price":"1"},{"id":3,"kind":"a","price":"99999999"}]`, "", nil,
			"1 total: the expression CAST(price AS DECIMAL(10,2)) * 2 fails: \"x\" cannot be cast to DECIMAL(10,2); 3 total:",
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := columns.New(table, config, types, true)
			if err != nil {
				t.Fatal(err)
			}
			rb := batch(t, p.Schema(), tt.rows)
			defer rb.Release()
			got, kept, bad := p.Apply(rb)
			if tt.bad != "" {
				var texts []string
				for _, b := range bad {
					texts = append(texts, fmt.Sprintf("%d %s: %s", b.Row, b.Path, b.Reason))
				}
				if all := strings.Join(texts, "; "); got != nil || !strings.HasPrefix(all, tt.bad) || len(bad) != 2 {
					t.Errorf("failures %s, want %s", all, tt.bad)
				}
				return
			}
			if bad != nil {
				t.Fatal(bad)
			}
			defer got.Release()
			if !got.Schema().Equal(table) || shown(t, got) != tt.want {
				t.Errorf("rows %s of %v\nwant %s", shown(t, got), got.Schema(), tt.want)
			}
			if (kept == nil) != (tt.kept == nil) || !slices.Equal(kept, tt.kept) {
				t.Errorf("kept %v, want %v", kept, tt.kept)
			}
		})
	}
}

// TestFilterFails: a row for which the filter has no outcome is neither kept nor left out.
func TestFilterFails(t *testing.T) {
	p, err := columns.New(schema(field("a", str)), decode.Config{Filter: "CAST(a AS INT) > 1"}, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	rb := batch(t, p.Schema(), `[{"a":"1"},{"a":"x"},{"a":"2"}]`)
	defer rb.Release()
	_, _, bad := p.Apply(rb)
	if len(bad) != 1 || bad[0].Row != 1 || bad[0].Path != columns.FilterPath {
		t.Errorf("failures %v", bad)
	}
}

// TestNothingToDo: a batch is handed on as it is.
func TestNothingToDo(t *testing.T) {
	p, err := columns.New(table, decode.Config{Columns: map[string]decode.Column{"id": {From: "x"}}}, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*columns.Plan{p, nil} {
		rb := batch(t, table, `[{"id":1}]`)
		got, kept, bad := p.Apply(rb)
		if got != rb || kept != nil || bad != nil {
			t.Errorf("%v, %v, %v", got, kept, bad)
		}
		got.Release()
		rb.Release()
	}
}

// TestConstants reads a text as each type, as SQL does.
func TestConstants(t *testing.T) {
	for _, tt := range []struct {
		typ        arrow.DataType
		text, want string
	}{
		{str, "", `""`}, {str, "a\x00\n'\\n", `"a\u0000\n'\\n"`}, {bigint, "-7", "-7"}, {integer, "2147483648", "is no value for a column of type INT"},
		{arrow.FixedWidthTypes.Boolean, "true", "true"}, {arrow.PrimitiveTypes.Float64, "1e3", "1000"}, {dec, "1.25", `"1.25"`}, {dec, "123456789", "is no value"},
		{arrow.FixedWidthTypes.Date32, "2024-02-30", "is no value for a column of type DATE"}, {instant, "2024-05-06T07:08:09Z", `"2024-05-06T07:08:09Z"`},
		{arrow.BinaryTypes.Binary, "hi", `"aGk="`}, {integer, "", "is no value"}, {arrow.ListOf(str), "[]", "not nested"}, {str, "\xff", "not UTF-8"},
	} {
		p, err := columns.New(schema(field("c", tt.typ), field("other", bigint)), decode.Config{Columns: map[string]decode.Column{"c": {Constant: &tt.text}}}, nil, true)
		if err != nil {
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "columns.c.constant: ") {
				t.Errorf("%q as %s: %v, want %s", tt.text, tt.typ, err, tt.want)
			}
			continue
		}
		for _, n := range []int{1, 3, 2} {
			rb := batch(t, p.Schema(), "["+strings.TrimSuffix(strings.Repeat(`{"other":1},`, n), ",")+"]")
			got, _, _ := p.Apply(rb)
			if want := "[" + strings.TrimSuffix(strings.Repeat(`{"c":`+tt.want+`,"other":1},`, n), ",") + "]"; shown(t, got) != want {
				t.Errorf("%q as %s: %s, want %s", tt.text, tt.typ, shown(t, got), want)
			}
			got.Release()
			rb.Release()
		}
	}
}

// TestRefused: what can't be computed is told with the key, the place and the remedy.
func TestRefused(t *testing.T) {
	nested := schema(field("id", bigint), arrow.Field{Name: "must", Type: str}, field("s", arrow.StructOf(field("a", bigint))),
		field("deep", arrow.StructOf(field("x", arrow.StructOf(arrow.Field{Name: "must", Type: str})))), field("_kafka", arrow.StructOf(field("offset", bigint))))
	for want, cfg := range map[string]decode.Config{
		`columns.must.expression: expression "id + nothing", at character 6: there is no column nothing: if messages have a field of that name, say what it is: columns.nothing: {type: ..., drop: true}`: {
			Columns: map[string]decode.Column{"must": {Expression: "id + nothing"}, "other": {Drop: true}},
		},
		"there is no column id: it is computed itself":                                             {Columns: map[string]decode.Column{"id": {Constant: new("1")}, "must": {Expression: "concat(id, 'x')"}}},
		"there is no column gone: if messages have":                                                {Filter: "gone > 1"},
		`filter: expression "id", at character 1: it is BIGINT, and BOOLEAN is wanted`:             {Filter: "id"},
		`filter: it reads the clock`:                                                               {Filter: "_kafka.offset > 1 AND current_date() > DATE '2024-01-01'"},
		`columns.must.expression: it reads the clock`:                                              {Columns: map[string]decode.Column{"must": {Expression: "CAST(now() AS STRING)"}}},
		`columns.new: the table has no column "new": add it`:                                       {Columns: map[string]decode.Column{"new": {Constant: new("1")}}},
		`columns._kafka: it is the metadata column`:                                                {Columns: map[string]decode.Column{"_kafka": {Drop: true}}},
		`columns.must.drop: the table's column must is NOT NULL`:                                   {Columns: map[string]decode.Column{"must": {Drop: true}}},
		`columns.deep.drop: the table's column deep.x.must is NOT NULL, and nothing would fill it`: {Columns: map[string]decode.Column{"deep": {Drop: true}}},
		`columns.s.a.drop: the table has that field`:                                               {Columns: map[string]decode.Column{"s.a": {Drop: true}}},
		`columns.s.a: only a top-level column can have a type`:                                     {Columns: map[string]decode.Column{"s.a": {Constant: new("1")}}},
		`cannot be computed`: {Columns: map[string]decode.Column{"s": {Expression: "s"}}},
		`columns.id.constant: the column has an expression too`:                                  {Columns: map[string]decode.Column{"id": {Constant: new("1"), Expression: "1"}}},
		`columns.id.expression: it computes the whole column: remove from, cast, epoch and drop`: {Columns: map[string]decode.Column{"id": {From: "x", Expression: "1"}}},
		`columns.id.constant: it is the whole column`:                                            {Columns: map[string]decode.Column{"id": {Drop: true, Constant: new("1")}}},
		`columns.x.drop: from, cast and epoch say how a column is read`:                          {Columns: map[string]decode.Column{"x": {Drop: true, From: "y"}}},
	} {
		if _, err := columns.New(nested, cfg, nil, true); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	for want, cfg := range map[string]decode.Config{
		`columns.a.expression: expression "1 +", at character 4`: {Columns: map[string]decode.Column{"a": {Expression: "1 +"}}},
		`filter: expression "(", at character 2`:                 {Filter: "("},
	} {
		if err := columns.Validate(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestSchemaOfMessages renames, drops and adds columns.
func TestSchemaOfMessages(t *testing.T) {
	messages := schema(arrow.Field{Name: "cust", Type: bigint}, field("at", instant), field("amount", str), field("secret", str),
		field("meta", arrow.StructOf(field("a", bigint), field("b", str))), field("list", arrow.ListOf(arrow.StructOf(field("x", str), field("y", str)))))
	cfg := decode.Config{Columns: map[string]decode.Column{
		"customer": {From: "cust"}, "day": {From: "at", Cast: "date"}, "hour": {From: "at", Cast: "hour"}, "b": {From: "meta.b"}, "secret": {Drop: true},
		"head": {From: "cust2", Type: "INT"}, "meta.b": {Drop: true}, "list.element.y": {Drop: true}, "raw": {Drop: true, Type: "STRING", From: "amount"},
		"amount": {Expression: "CAST(raw AS DECIMAL(10,2))"}, "source": {Constant: new("x")}, "n": {Constant: new("1"), Type: "INT"}, "extra": {Type: "BIGINT"},
		"twice": {Expression: "customer * 2.0D"}, "part": {Expression: "_kafka.partition"},
	}}
	metadata, _ := cfg.Metadata.Field()
	got, err := columns.NewTable(messages, cfg, columns.Types{"head": integer, "raw": str, "n": integer, "extra": bigint}, metadata)
	if err != nil {
		t.Fatal(err)
	}
	want := "customer int64 NOT NULL; at timestamp[us, tz=UTC]; meta struct<a: int64>; list list<item: struct<x: utf8>>; b utf8; day date32; extra int64; head int32; hour int32; " +
		"amount decimal(10, 2); n int32; part int32; source utf8; twice float64"
	if s := ddl(got); s != want {
		t.Errorf("new table\n%s\nwant\n%s", s, want)
	}
	if _, err := columns.New(arrow.NewSchema(append(got.Fields(), metadata), nil), cfg, columns.Types{"raw": str}, true); err != nil {
		t.Errorf("the new table does not fit its own configuration: %v", err)
	}
	own, err := columns.Fields(messages, got, cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s := ddl(own); s != "customer int64 NOT NULL; at timestamp[us, tz=UTC]; meta struct<a: int64>; list list<item: struct<x: utf8>>" {
		t.Errorf("followed: %s", s)
	}
	both := schema(field("cust", bigint), field("customer", bigint)) // a table that has the field's own column too
	if own, err := columns.Fields(schema(field("cust", bigint)), both, cfg, nil); err != nil || ddl(own) != "cust int64; customer int64" {
		t.Errorf("followed by a table with both: %v, %v", own, err)
	}
	typed := columns.Types{"n": bigint, "s": arrow.StructOf(field("a", bigint)), "new": integer} // of those that are there, the table's own counts
	there := schema(field("n", integer), field("s", arrow.StructOf(field("a", bigint))))
	sent := schema(field("n", bigint), field("s", arrow.StructOf(field("a", bigint), field("b", str))), field("new", bigint))
	if own, err := columns.Fields(sent, there, decode.Config{}, typed); err != nil || ddl(own) != "n int32; s struct<a: int64, b: utf8>; new int32" {
		t.Errorf("followed with types that are configured: %v, %v", own, err)
	}
	swapped := decode.Config{Columns: map[string]decode.Column{"b": {From: "a"}, "`a`": {From: "b"}}}
	if got, err := columns.NewTable(schema(field("a", str), field("b", bigint)), swapped, nil); err != nil || ddl(got) != "b utf8; a int64" {
		t.Errorf("two that change their names: %v, %v", got, err)
	}
	for want, bad := range map[string]struct {
		messages *arrow.Schema
		columns  map[string]decode.Column
	}{
		"no field of the messages is left for a":         {schema(field("a", str)), map[string]decode.Column{"a": {Drop: true}}},
		"all fields of s are dropped: drop it instead":   {schema(field("s", arrow.StructOf(field("a", str)))), map[string]decode.Column{"s.a": {Drop: true}}},
		`the messages' schema has no field "nothing.at"`: {schema(field("a", str)), map[string]decode.Column{"x": {From: "nothing.at"}}},
		"columns.x.expression: expression":               {schema(field("a", str)), map[string]decode.Column{"x": {Expression: "b"}}},
	} {
		_, err := columns.NewTable(bad.messages, decode.Config{Columns: bad.columns}, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestGiven: of which fields it is known without the messages' schema what becomes of them.
func TestGiven(t *testing.T) {
	table := schema(field("id", bigint), field("new", str), field("s", arrow.StructOf(field("a", str))), field("l", arrow.ListOf(arrow.StructOf(field("x", str)))), field("m", arrow.MapOf(str, arrow.StructOf(field("x", str)))))
	cfg := decode.Config{Columns: map[string]decode.Column{
		"gone": {Drop: true}, "s.b": {Drop: true}, "new": {From: "old"}, "typed": {Type: "STRING"}, "computed": {Expression: "id"}, "later": {From: "older", Type: "STRING"},
	}}
	types := columns.Types{"typed": str, "later": str}
	for path, want := range map[string]bool{
		"id": true, "other": false, "s.a": true, "s.b": true, "s.c": false, "l.element.x": true, "l.element.y": false, "m.value.x": true, "m.value.y": false, "gone": true, "gone.x": true,
		"old": true, "typed": true, "typed.x": false, "computed": true, "older": true, "a..b": false,
	} {
		if got := columns.Given(path, table, cfg, types); got != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
	if columns.Given("id", nil, cfg, types) || !columns.Given("typed", nil, cfg, types) || !columns.Given("gone", nil, cfg, types) {
		t.Error("without a table")
	}
	null := schema(field("id", arrow.Null), field("typed", arrow.Null), field("s", arrow.StructOf(field("a", arrow.Null))))
	if got, err := columns.Fields(null, table, cfg, types); err != nil || ddl(got) != "id int64; typed utf8; s struct<a: null>" {
		t.Errorf("%v, %v", got, err)
	}
}

func ddl(s *arrow.Schema) string {
	var out []string
	for _, f := range s.Fields() {
		text := f.Name + " " + strings.NewReplacer(", nullable", "", " nullable", "").Replace(f.Type.String())
		if !f.Nullable {
			text += " NOT NULL"
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// TestVariant makes VARIANT of JSON text, of the rows that are kept; what is none is reported.
func TestVariant(t *testing.T) {
	table := schema(field("id", bigint), field("v", variant.New()), field("w", variant.New()))
	for _, json := range []bool{true, false} {
		p, err := columns.New(table, decode.Config{Filter: "id > 0", Columns: map[string]decode.Column{"w": {Drop: true}, "v": {From: "a.b"}}}, nil, json)
		if err != nil {
			t.Fatal(err)
		}
		want := "map[v:{a.b json  <nil>   false}]"
		if !json {
			want = "map[v:{a.b   <nil>   false}]"
		}
		if got := fmt.Sprint(p.Config().Columns); got != want || !p.Schema().Equal(schema(field("id", bigint), field("v", str))) {
			t.Errorf("decoders are told %s, and fill %v", got, p.Schema())
		}
		rb := batch(t, p.Schema(), `[{"id":0,"v":"left out"},{"id":1,"v":"{\"a\":[1]}"},{"id":2}]`)
		got, kept, bad := p.Apply(rb)
		if bad != nil || !slices.Equal(kept, []int{1, 2}) {
			t.Fatal(kept, bad)
		}
		v := got.Column(1).(*variant.Array)
		if !got.Schema().Equal(table) || got.NumRows() != 2 || v.IsNull(0) || !v.IsNull(1) || got.Column(2).NullN() != 2 {
			t.Errorf("%v", got)
		}
		got.Release()
		rb.Release()
		rb = batch(t, p.Schema(), `[{"id":0,"v":"left out"},{"id":1,"v":"no JSON"}]`)
		if _, _, bad := p.Apply(rb); len(bad) != 1 || bad[0].Row != 1 || bad[0].Path != "v" || !strings.Contains(bad[0].Reason, `"no JSON" can't be one`) {
			t.Errorf("failures %v", bad)
		}
		rb.Release()
	}
	whole, err := columns.New(table, decode.Config{Columns: map[string]decode.Column{"`v`": {From: ".", Cast: "json"}}}, nil, true)
	if err != nil || fmt.Sprint(whole.Config().Columns["v"]) != "{. json  <nil>   false}" {
		t.Error(whole, err)
	}
	for want, c := range map[string]decode.Column{"date is for other types": {Cast: "date"}, "cannot be computed": {Expression: "'{}'"}, "is no value for a column of type": {Constant: new("{}")}} {
		if _, err := columns.New(table, decode.Config{Columns: map[string]decode.Column{"v": c}}, nil, true); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
