package expr

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

var testSchema = arrow.NewSchema([]arrow.Field{
	{Name: "b", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
	{Name: "ti", Type: arrow.PrimitiveTypes.Int8, Nullable: true},
	{Name: "si", Type: arrow.PrimitiveTypes.Int16, Nullable: true},
	{Name: "i", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
	{Name: "l", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "f", Type: arrow.PrimitiveTypes.Float32, Nullable: true},
	{Name: "d", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "dec", Type: &arrow.Decimal128Type{Precision: 10, Scale: 2}, Nullable: true},
	{Name: "wide", Type: &arrow.Decimal128Type{Precision: 38, Scale: 10}, Nullable: true},
	{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "sn", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "sd", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "dt", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
	{Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Nullable: true},
	{Name: "ntz", Type: &arrow.TimestampType{Unit: arrow.Microsecond}, Nullable: true},
	{Name: "st", Nullable: true, Type: arrow.StructOf(
		arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		arrow.Field{Name: "y z", Type: arrow.BinaryTypes.String, Nullable: true},
		arrow.Field{Name: "deep", Nullable: true, Type: arrow.StructOf(arrow.Field{Name: "z", Type: arrow.FixedWidthTypes.Date32, Nullable: true})},
	)},
	{Name: "a", Type: arrow.ListOf(arrow.PrimitiveTypes.Int32), Nullable: true},
	{Name: "m", Type: arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int32), Nullable: true},
}, nil)

// sparkFixture is testdata/spark.json, made by testdata/spark.py. Of a value, null is NULL and false an error.
type sparkFixture struct {
	Rows  []map[string]any
	Cases []struct {
		E string
		T *string // nil: Spark refuses the expression
		V []any
	}
}

// refusedHere are expressions that Spark takes and this package refuses, as docs/expressions.md says.
var refusedHere = map[string]bool{
	"a = a": true, "st = st": true, // comparison of nested values
	`s like 'a\%b\_c\\d'`: true, // Spark fails for each row
}

// readFixture gives the cases, and the rows as a batch.
func readFixture(t testing.TB) (sparkFixture, arrow.RecordBatch) {
	t.Helper()
	raw, err := os.ReadFile("testdata/spark.json")
	if err != nil {
		t.Fatal(err)
	}
	var fixture sparkFixture
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&fixture); err != nil {
		t.Fatal(err)
	}
	for _, row := range fixture.Rows {
		if at, ok := row["ts"].(string); ok {
			row["ts"] = at + "Z"
		}
	}
	rows, err := json.Marshal(fixture.Rows)
	if err != nil {
		t.Fatal(err)
	}
	rb, _, err := array.RecordFromJSON(memory.NewGoAllocator(), testSchema, bytes.NewReader(rows))
	if err != nil {
		t.Fatal(err)
	}
	return fixture, rb
}

func TestSpark(t *testing.T) {
	fixture, rb := readFixture(t)
	defer rb.Release()
	compared := 0
	for _, c := range fixture.Cases {
		p, err := compile(c.E, testSchema, func(_ *compiler, n *node) *node { return n })
		switch {
		case c.T == nil && err == nil:
			t.Errorf("%s: Spark refuses it", c.E)
			continue
		case c.T == nil:
			continue
		case err != nil && !refusedHere[c.E]:
			t.Errorf("%s: Spark takes it: %v", c.E, err)
			continue
		case err != nil:
			continue
		case refusedHere[c.E]:
			t.Errorf("%s: is listed as refused", c.E)
		}
		if got := sparkType(p.root.t); got != *c.T {
			t.Errorf("%s: the type is %s, and %s in Spark", c.E, got, *c.T)
			continue
		}
		rows := p.Bind(rb, time.Unix(0, 0))
		for row, want := range c.V {
			got := rows.describe(row)
			compared++
			if !sameValue(got, want, *c.T) {
				t.Errorf("%s: row %d gives %v, and %v in Spark", c.E, row, got, want)
			}
		}
	}
	if compared < 8000 {
		t.Errorf("only %d values compared", compared)
	}
}

func sparkType(t typ) string {
	s := strings.ToLower(t.String())
	if t.k == kNested {
		return "nested"
	}
	return s
}

// describe gives a row's value as spark.py writes it; the error itself for false.
func (r *Rows) describe(row int) any {
	n := r.program.root
	var v any
	ok := false
	switch {
	case n.b != nil:
		v, ok = n.b(r, row)
	case n.i != nil:
		v, ok = n.i(r, row)
	case n.f != nil:
		v, ok = n.f(r, row)
	case n.s != nil:
		v, ok = n.s(r, row)
		if ok && n.t.k == kBinary {
			v = strings.ToUpper(hex.EncodeToString([]byte(v.(string))))
		}
	case n.d != nil:
		d, isThere := n.d(r, row)
		v, ok = plain(d, n.t.s), isThere
	}
	if err := r.err; err != nil {
		r.err = nil
		return err
	}
	if !ok {
		return nil
	}
	return v
}

func sameValue(got, want any, sparkType string) bool {
	if want == nil {
		return got == nil
	}
	if want == false {
		_, isError := got.(error)
		return isError
	}
	if f, ok := got.(float64); ok {
		w, err := strconv.ParseFloat(want.(string), 64)
		if sparkType == "float" {
			w = float64(float32(w))
		}
		return err == nil && (f == w && math.Signbit(f) == math.Signbit(w) || math.IsNaN(f) && math.IsNaN(w))
	}
	return fmt.Sprint(got) == want.(string)
}
