package columns_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/columns"
	"kafkadelta/decode"
)

// FuzzColumns holds that no configuration makes the compilation or the evaluation panic, that what is made is a batch of the table, and
// that each row is kept, left out or reported, the same each time.
func FuzzColumns(f *testing.F) {
	targets := []arrow.DataType{
		str, bigint, integer, dec, instant, arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Boolean, arrow.PrimitiveTypes.Float64, arrow.BinaryTypes.Binary,
		arrow.ListOf(str), arrow.StructOf(field("a", str)),
	}
	f.Add("id > 0", "upper(s)", "c", "x", "s", byte(0), false)
	f.Add("", "id + n", "1", "a.b", "", byte(1), true)
	f.Add("CAST(s AS INT) = 1", "CAST(s AS DECIMAL(10,2))", "2024-01-01", "`", "st.a", byte(3), true)
	f.Add("_kafka.partition IN (1, 2)", "date_format(at, 'yyyy-MM')", "''\\", "gone", "at", byte(5), false)
	f.Add("0>0", "0", "1", "s", "\x80\xe2", byte(0xee), true)
	f.Add("d", "concat(s, st.a, NULL)", "", "st.a", "list.element", byte(9), true)
	f.Fuzz(func(t *testing.T, filter, expression, constant, name, from string, kind byte, drop bool) {
		if len(filter)+len(expression)+len(constant) > 2<<10 {
			return
		}
		target := targets[int(kind)%len(targets)]
		table := schema(field("id", bigint), field("s", str), field("at", instant), field("computed", target), field("constant", target),
			field("st", arrow.StructOf(field("a", str))), field("list", arrow.ListOf(str)), field("_kafka", arrow.StructOf(field("partition", integer))))
		cfg := decode.Config{Filter: filter, Columns: map[string]decode.Column{
			"computed": {Expression: expression}, "constant": {Constant: &constant}, name: {Drop: drop, Type: "BIGINT", From: from}, "n": {Drop: true, Type: "BIGINT"},
		}}
		types := columns.Types{"n": bigint}
		if path, err := decode.ParsePath(name); err == nil && len(path) == 1 {
			types[path[0]] = bigint
		}
		if _, err := columns.NewTable(table, cfg, types); err == nil {
			_, _ = columns.Fields(table, table, cfg, types)
		}
		p, err := columns.New(table, cfg, types, true)
		if err != nil {
			_ = err.Error()
			return
		}
		if _, err := decode.NewPlan(p.Schema(), p.Config()); err != nil {
			return
		}
		rows := `[{"id":1,"s":"1","at":"2024-02-29T12:00:00Z","n":7,"st":{"a":"x"},"list":["y"],"_kafka":{"partition":1}},{},{"id":-5,"s":"text","n":9223372036854775807,"list":[]}]`
		rb, _, err := array.RecordFromJSON(memory.DefaultAllocator, p.Schema(), strings.NewReader(rows))
		if err != nil { // the name that was given the type BIGINT is of a column that is text here
			return
		}
		defer rb.Release()
		var seen []string
		for range 2 {
			got, kept, bad := p.Apply(rb)
			seen = append(seen, fmt.Sprint(kept, bad))
			if bad != nil {
				continue
			}
			if !got.Schema().Equal(table) || kept == nil && got.NumRows() != 3 || kept != nil && got.NumRows() != int64(len(kept)) {
				t.Fatalf("%d rows of %v, kept %v", got.NumRows(), got.Schema(), kept)
			}
			text := shown(t, got)
			seen[len(seen)-1] += text
			got.Release()
		}
		if seen[0] != seen[1] {
			t.Fatalf("%s, then %s", seen[0], seen[1])
		}
	})
}

// BenchmarkApply is the cost of a batch of 8,192 rows.
func BenchmarkApply(b *testing.B) {
	const n = 8192
	s := schema(field("status", integer), field("path", str), field("amount", dec), field("at", instant))
	var rows strings.Builder
	for i := range n {
		fmt.Fprintf(&rows, `,{"status":%d,"path":"/api/v1/items/%d","amount":"%d.25","at":"2024-02-29T12:00:00Z"}`, 200+i%4*100, i, i)
	}
	all := "[" + strings.TrimPrefix(rows.String(), ",") + "]"
	for name, cfg := range map[string]decode.Config{
		"filter":   {Filter: "status >= 500 AND startswith(path, '/api')"},
		"value":    {Columns: map[string]decode.Column{"c": {Expression: "CAST(amount * 1.08BD AS DECIMAL(20,2))"}}},
		"date":     {Columns: map[string]decode.Column{"c": {Expression: "year(at)"}}},
		"text":     {Columns: map[string]decode.Column{"c": {Expression: "concat('x', path)"}}},
		"constant": {Columns: map[string]decode.Column{"c": {Constant: new("1")}}},
	} {
		table := s
		if c := cfg.Columns["c"]; c.Computed() {
			types := map[string]arrow.DataType{"value": &arrow.Decimal128Type{Precision: 20, Scale: 2}, "date": integer, "text": str, "constant": bigint}
			table = schema(append(s.Fields(), field("c", types[name]))...)
		}
		b.Run(name, func(b *testing.B) {
			p, err := columns.New(table, cfg, nil, true)
			if err != nil {
				b.Fatal(err)
			}
			rb := batch(b, p.Schema(), all)
			defer rb.Release()
			b.ReportAllocs()
			for b.Loop() {
				got, _, bad := p.Apply(rb)
				if bad != nil {
					b.Fatal(bad)
				}
				got.Release()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
		})
	}
}
