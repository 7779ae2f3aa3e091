package expr

import (
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

func TestRefusals(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "at character 1: it ends too early",
		"i >":                             "at character 4: it ends too early",
		"i > 3)":                          "at character 6: ) is not understood here",
		"nope > 3":                        "at character 1: there is no column nope",
		"i > 0 AND st.q = 1":              "at character 11: there is no column st.q",
		"i > 0 AND transform(a, 1)":       "at character 11: the function transform is not understood",
		"s = 'ü' AND explode(a)":          "at character 13: the function explode is not understood",
		"i IN (SELECT 1)":                 "at character 7: SELECT is not understood here",
		"ts > now() - INTERVAL 1 DAY":     "at character 23: 1 is not understood here",
		"CAST(d AS STRING) = '1'":         "at character 1: a cast of DOUBLE to STRING is not understood: CAST(d AS STRING)",
		"CAST(i AS STRUCT<x: INT>) = 1":   "at character 19: ':' is not understood",
		"b = 1":                           "at character 1: BOOLEAN and INT cannot be compared: b = 1",
		"i":                               "at character 1: it is INT, and BOOLEAN is wanted",
		"date_format(ts, 'EEE') = 'Mon'":  "EEE in the pattern of date_format is not understood",
		"s RLIKE '(?<=a)b'":               "is not understood",
		"s RLIKE '[a&&b]'":                "a character class with &",
		"s LIKE sn":                       "the pattern of LIKE must be a constant",
		"a[0] = 1":                        "at character 2: '[' is not understood",
		"i & 1 = 1":                       "at character 3: '&' is not understood",
		"i = 1 -- comment":                "at character 7: '-' is not understood",
		"'abc":                            "at character 1: the string has no closing quote",
		strings.Repeat("(", 200) + "true": "at character 101: it nests deeper than 100",
		strings.Repeat("NOT ", 200) + "b": "it nests deeper than 100",
		strings.Repeat("i+", 2000) + "i":  "it has more than 2000 terms",
		strings.Repeat("x", 70_000):       "the text is longer than 65536 bytes",
	} {
		_, err := CompileCondition(text, testSchema)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

// Some terms evaluate an operand twice; their nesting must not double the work at each level.
func TestNestingIsBounded(t *testing.T) {
	text := "b"
	for range 60 {
		text = "(" + text + ") BETWEEN b AND b"
	}
	if _, err := CompileCondition(text, testSchema); err == nil || !strings.Contains(err.Error(), "too much work") {
		t.Errorf("%v, want a refusal", err)
	}
}

func TestStoreAssignment(t *testing.T) {
	_, rb := readFixture(t)
	defer rb.Release()
	for _, c := range []struct {
		text string
		to   arrow.DataType
		want string // of row 0, or the refusal or error
	}{
		{"i", arrow.PrimitiveTypes.Int64, `[3]`},
		{"l", arrow.PrimitiveTypes.Int8, `[4]`},
		{"i + 300", arrow.PrimitiveTypes.Int8, `303 is out of range of TINYINT`},
		{"d", arrow.PrimitiveTypes.Int32, `[2]`},
		{"i", arrow.BinaryTypes.String, `["3"]`},
		{"'5'", arrow.PrimitiveTypes.Int32, "cannot be stored as INT"},
		{"i", arrow.FixedWidthTypes.Boolean, "cannot be stored as BOOLEAN"},
		{"ts", arrow.FixedWidthTypes.Date32, `["2020-02-29"]`},
		{"null", arrow.FixedWidthTypes.Date32, `[null]`},
		{"1.005", &arrow.Decimal128Type{Precision: 10, Scale: 2}, `["1.01"]`},
		{"1", arrow.ListOf(arrow.PrimitiveTypes.Int32), "cannot be computed"},
	} {
		p, err := CompileValue(c.text, testSchema, c.to)
		got := ""
		if err == nil {
			b := array.NewBuilder(memory.NewGoAllocator(), c.to)
			err = p.Bind(rb, time.Unix(0, 0)).AppendTo(b, 0)
			arr := b.NewArray()
			js, _ := arr.MarshalJSON()
			got = string(js)
		}
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s as %s: %s, want %s", c.text, c.to, got, c.want)
		}
	}
}

func TestNow(t *testing.T) {
	_, rb := readFixture(t)
	defer rb.Release()
	p, err := CompileCondition("current_date() = DATE '2024-05-06' AND now() = TIMESTAMP '2024-05-06 07:08:09' AND current_timestamp = now()", testSchema)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	for now, want := range map[time.Time]Outcome{at: True, at.Add(time.Second): False} {
		if got, err := p.Bind(rb, now).Test(0); got != want || err != nil {
			t.Errorf("at %v: %v, %v", now, got, err)
		}
	}
}

// A batch that is a slice, and a struct that is null, are read at the right rows.
func TestSlicesAndNullStructs(t *testing.T) {
	mem := memory.NewGoAllocator()
	rows := `[{"i":1,"st":{"x":1}},{"i":2,"st":null},{"i":3,"st":{"x":null}},{"i":4,"st":{"x":4,"deep":{"z":"2020-01-01"}}},{"i":null,"st":{"deep":null}}]`
	rb, _, err := array.RecordFromJSON(mem, testSchema, strings.NewReader(rows))
	if err != nil {
		t.Fatal(err)
	}
	p, err := CompileCondition("coalesce(st.x = i, st.deep.z IS NOT NULL)", testSchema)
	if err != nil {
		t.Fatal(err)
	}
	want := []Outcome{True, False, False, True, False}
	for from := range want {
		slice := rb.NewSlice(int64(from), rb.NumRows())
		bound := p.Bind(slice, time.Unix(0, 0))
		for row := range int(slice.NumRows()) {
			if got, err := bound.Test(row); got != want[from+row] || err != nil {
				t.Errorf("slice from %d, row %d: %v, %v, want %v", from, row, got, err, want[from+row])
			}
		}
	}
}

// The usual conditions allocate nothing for a row.
func TestNoAllocations(t *testing.T) {
	_, rb := readFixture(t)
	defer rb.Release()
	for _, text := range []string{
		"i > 0 AND s IS NOT NULL", "d BETWEEN 0 AND 100 OR i IN (1, 2, 3)", "dt > '2020-01-01' AND year(ts) = 2020", "s LIKE 'h%' AND length(s) < 10",
		"dec > 0 AND dec <= 99.999", "l + 1 > i * 2L", "CAST(ts AS DATE) = dt",
	} {
		p, err := CompileCondition(text, testSchema)
		if err != nil {
			t.Fatal(err)
		}
		rows := p.Bind(rb, time.Unix(0, 0))
		if n := testing.AllocsPerRun(10, func() { _, _ = rows.Test(0) }); n != 0 {
			t.Errorf("%s: %v allocations for a row", text, n)
		}
	}
}
