package datafile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
)

func statsOf(t testing.TB, sc *arrow.Schema, indexed []bool, batches ...arrow.RecordBatch) string {
	t.Helper()
	f := newTestFile(t, &object{}, sc, Options{Stats: indexed}, testTuning(t))
	for _, rb := range batches {
		must(t, f.Write(rb))
	}
	info, err := f.Close()
	must(t, err)
	if !json.Valid([]byte(info.Stats)) {
		t.Fatalf("not JSON: %s", info.Stats)
	}
	return info.Stats
}

func field(name string, dt arrow.DataType) arrow.Field {
	return arrow.Field{Name: name, Type: dt, Nullable: true}
}

func TestStatistics(t *testing.T) {
	utc := &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
	ntz := &arrow.TimestampType{Unit: arrow.Microsecond}
	dec := &arrow.Decimal128Type{Precision: 38, Scale: 3}
	nested := arrow.StructOf(field("x", arrow.PrimitiveTypes.Int64), field("s", arrow.StructOf(field("y", arrow.BinaryTypes.String))))
	for name, tc := range map[string]struct {
		dt         arrow.DataType
		rows       string // JSON values of column c
		min, max   string // JSON, empty for absent
		nullCount  string
		structured bool // the bounds are objects of their own
	}{
		"long":                 {arrow.PrimitiveTypes.Int64, `[3, null, -9223372036854775808, 9223372036854775807]`, `-9223372036854775808`, `9223372036854775807`, `1`, false},
		"byte":                 {arrow.PrimitiveTypes.Int8, `[3, -128, 127]`, `-128`, `127`, `0`, false},
		"short":                {arrow.PrimitiveTypes.Int16, `[3]`, `3`, `3`, `0`, false},
		"integer":              {arrow.PrimitiveTypes.Int32, `[-5, -7]`, `-7`, `-5`, `0`, false},
		"all null":             {arrow.PrimitiveTypes.Int64, `[null, null]`, ``, ``, `2`, false},
		"all null text":        {arrow.BinaryTypes.String, `[null, null]`, ``, ``, `2`, false},
		"double":               {arrow.PrimitiveTypes.Float64, `[1.5, null, -2e300]`, `-2e+300`, `1.5`, `1`, false},
		"double, whole":        {arrow.PrimitiveTypes.Float64, `[1, 2]`, `1.0`, `2.0`, `0`, false},
		"double, zero":         {arrow.PrimitiveTypes.Float64, `[0]`, `-0.0`, `0.0`, `0`, false},
		"double, minus zero":   {arrow.PrimitiveTypes.Float64, `[-0.0]`, `-0.0`, `0.0`, `0`, false},
		"float as its double":  {arrow.PrimitiveTypes.Float32, `[0.1]`, `0.10000000149011612`, `0.10000000149011612`, `0`, false},
		"boolean":              {arrow.FixedWidthTypes.Boolean, `[true, null]`, ``, ``, `1`, false},
		"binary":               {arrow.BinaryTypes.Binary, `["YWJj", null]`, ``, ``, `1`, false},
		"date":                 {arrow.FixedWidthTypes.Date32, `["1969-12-31", "2021-03-24", null]`, `"1969-12-31"`, `"2021-03-24"`, `1`, false},
		"decimal":              {dec, `["-0.05", "12345678901234567890123456789012345.678"]`, `-0.050`, `12345678901234567890123456789012345.678`, `0`, false},
		"timestamp":            {utc, `["2021-03-24T15:06:17.321710Z", "2021-03-24T15:06:17.321710Z"]`, `"2021-03-24T15:06:17.321Z"`, `"2021-03-24T15:06:17.322Z"`, `0`, false},
		"timestamp, whole":     {utc, `["2021-03-24T15:06:17.321Z"]`, `"2021-03-24T15:06:17.321Z"`, `"2021-03-24T15:06:17.321Z"`, `0`, false},
		"timestamp, before 70": {utc, `["1969-12-31T23:59:59.998001Z"]`, `"1969-12-31T23:59:59.998Z"`, `"1969-12-31T23:59:59.999Z"`, `0`, false},
		"timestamp, year ends": {utc, `["1999-12-31T23:59:59.999999Z"]`, `"1999-12-31T23:59:59.999Z"`, `"2000-01-01T00:00:00.000Z"`, `0`, false},
		"timestamp_ntz":        {ntz, `["2021-03-24T15:06:17.321710"]`, `"2021-03-24T15:06:17.321"`, `"2021-03-24T15:06:17.322"`, `0`, false},
		"string":               {arrow.BinaryTypes.String, `["b", "", null, "a\u0000"]`, `""`, `"b"`, `1`, false},
		"string, escapes":      {arrow.BinaryTypes.String, `["\"\\\n<é"]`, `"\"\\\n\u003cé"`, `"\"\\\n\u003cé"`, `0`, false},
		"list":                 {arrow.ListOf(arrow.PrimitiveTypes.Int64), `[[1], null, []]`, ``, ``, `1`, false},
		"map":                  {arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64), `[[{"key":"a","value":1}], null]`, ``, ``, `1`, false},
		"struct": {nested, `[{"x":1,"s":{"y":"a"}}, null, {"x":null,"s":null}, {"x":3,"s":{"y":null}}]`,
			`{"x":1,"s":{"y":"a"}}`, `{"x":3,"s":{"y":"a"}}`, `{"x":2,"s":{"y":3}}`, true},
		"struct, one bound": {nested, `[{"x":null,"s":{"y":"a"}}]`, `{"s":{"y":"a"}}`, `{"s":{"y":"a"}}`, `{"x":1,"s":{"y":0}}`, true},
		"struct, none":      {nested, `[null]`, ``, ``, `{"x":1,"s":{"y":1}}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			sc := arrow.NewSchema([]arrow.Field{field("c", tc.dt)}, nil)
			var values []json.RawMessage
			must(t, json.Unmarshal([]byte(tc.rows), &values))
			var batches []arrow.RecordBatch
			for _, v := range values { // a batch a row: bounds must span batches
				batches = append(batches, fromJSON(t, sc, fmt.Sprintf(`[{"c":%s}]`, v)))
			}
			object := func(v string) string {
				if v == "" {
					return "{}"
				}
				return `{"c":` + v + `}`
			}
			want := fmt.Sprintf(`{"numRecords":%d,"minValues":%s,"maxValues":%s,"nullCount":%s}`,
				len(values), object(tc.min), object(tc.max), object(tc.nullCount))
			if got := statsOf(t, sc, nil, batches...); got != want {
				t.Errorf("\n got %s\nwant %s", got, want)
			}
		})
	}
}

// TestStatisticsOfOddValues: values that JSON input cannot give.
func TestStatisticsOfOddValues(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	day := func(d time.Time) int64 { return d.Unix() / 86400 }
	for name, tc := range map[string]struct {
		dt       arrow.DataType
		add      func(array.Builder)
		min, max string
	}{
		"NaN":            {arrow.PrimitiveTypes.Float64, addFloats(1, nan, 2), ``, ``},
		"only NaN":       {arrow.PrimitiveTypes.Float64, addFloats(nan), ``, ``},
		"plus infinity":  {arrow.PrimitiveTypes.Float64, addFloats(1, inf), `1.0`, ``},
		"minus infinity": {arrow.PrimitiveTypes.Float64, addFloats(1, -inf), ``, `1.0`},
		"both zeros":     {arrow.PrimitiveTypes.Float64, addFloats(0, math.Copysign(0, -1)), `-0.0`, `0.0`},
		"far date":       {arrow.FixedWidthTypes.Date32, addDates(0, math.MaxInt32), `"1970-01-01"`, ``},
		"early date":     {arrow.FixedWidthTypes.Date32, addDates(0, math.MinInt32), ``, `"1970-01-01"`},
		"edge dates":     {arrow.FixedWidthTypes.Date32, addDates(day(firstDay), day(lastDay)), `"0001-01-01"`, `"9999-12-31"`},
		"far timestamp":  {arrow.FixedWidthTypes.Timestamp_us, addTimes(math.MinInt64, math.MaxInt64), ``, ``},
		"rounded out of the years": {arrow.FixedWidthTypes.Timestamp_us, addTimes(0, lastMillis*1000+1),
			`"1970-01-01T00:00:00.000Z"`, ``},
		"edge timestamps": {arrow.FixedWidthTypes.Timestamp_us, addTimes(firstMicros, lastMillis*1000),
			`"0001-01-01T00:00:00.000Z"`, `"9999-12-31T23:59:59.999Z"`},
		"broken UTF-8, greatest": {arrow.BinaryTypes.String, addTexts("a", "\xff"), `"a"`, ``},
		"broken UTF-8, least":    {arrow.BinaryTypes.String, addTexts("z", "a\xc3"), ``, `"z"`},
	} {
		t.Run(name, func(t *testing.T) {
			sc := arrow.NewSchema([]arrow.Field{field("c", tc.dt)}, nil)
			b := array.NewRecordBuilder(memory.DefaultAllocator, sc)
			tc.add(b.Field(0))
			object := func(v string) string {
				if v == "" {
					return "{}"
				}
				return `{"c":` + v + `}`
			}
			rb := b.NewRecordBatch()
			want := fmt.Sprintf(`{"numRecords":%d,"minValues":%s,"maxValues":%s,"nullCount":{"c":0}}`, rb.NumRows(), object(tc.min), object(tc.max))
			if got := statsOf(t, sc, nil, rb); got != want {
				t.Errorf("\n got %s\nwant %s", got, want)
			}
		})
	}
}

func addFloats(values ...float64) func(array.Builder) {
	return func(b array.Builder) { b.(*array.Float64Builder).AppendValues(values, nil) }
}

func addDates(values ...int64) func(array.Builder) {
	return func(b array.Builder) {
		for _, v := range values {
			b.(*array.Date32Builder).Append(arrow.Date32(v))
		}
	}
}

func addTimes(values ...int64) func(array.Builder) {
	return func(b array.Builder) {
		for _, v := range values {
			b.(*array.TimestampBuilder).Append(arrow.Timestamp(v))
		}
	}
}

func addTexts(values ...string) func(array.Builder) {
	return func(b array.Builder) { b.(*array.StringBuilder).AppendValues(values, nil) }
}

func TestTextBounds(t *testing.T) {
	const top = "\U0010ffff"
	x := strings.Repeat
	for name, tc := range map[string]struct{ text, min, max string }{
		"32 characters":               {x("a", 32), x("a", 32), x("a", 32)},
		"33, ASCII":                   {x("a", 33), x("a", 32), x("a", 32) + "\x7f"},
		"32 wide characters":          {x("😀", 32), x("😀", 32), x("😀", 32)},
		"33 wide characters":          {x("😀", 33), x("😀", 32), x("😀", 32) + top},
		"DEL is replaced":             {x("a", 32) + "\x7f", x("a", 32), x("a", 32) + top},
		"U+FFFF is replaced":          {x("a", 32) + "\uffff", x("a", 32), x("a", 32) + top},
		"greatest character is kept":  {x("a", 32) + top + "b", x("a", 32), x("a", 32) + top + "\x7f"},
		"greatest character ends":     {x("a", 32) + top, x("a", 32), x("a", 32) + top},
		"greatest to the end":         {x(top, 64), x(top, 32), x(top, 64)},
		"greatest beyond what's kept": {x(top, 65), x(top, 32), ""},
		"long, then cut":              {x("a", 10_000), x("a", 32), x("a", 32) + "\x7f"},
		"broken in the prefix":        {"a\xff" + x("a", 40), "", ""},
		"broken behind the prefix":    {x("a", 32) + "\xff", x("a", 32), ""},
		"broken farther behind":       {x("a", 33) + "\xff", x("a", 32), x("a", 32) + "\x7f"},
	} {
		t.Run(name, func(t *testing.T) {
			var b texts
			b.observe([]int32{0, int32(len(tc.text))}, []byte(tc.text))
			unquote := func(js []byte) (s string) {
				if len(js) > 0 {
					must(t, json.Unmarshal(js, &s))
				}
				return s
			}
			if got := unquote(b.appendMin(nil)); got != tc.min {
				t.Errorf("min %q, want %q", got, tc.min)
			}
			if got := unquote(b.appendMax(nil)); got != tc.max {
				t.Errorf("max %q, want %q", got, tc.max)
			}
		})
	}
}

// TestTextBoundsOfManyPages: pages are merged in any order as if their values had come at once.
func TestTextBoundsOfManyPages(t *testing.T) {
	long := strings.Repeat("\U0010ffff", keptBytes/utf8.UTFMax) // only at its end could there be a tie-breaker
	values := []string{long, long + "b", "b", "a", long[:40], long + "a", ""}
	for range 50 {
		rand.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
		for n := range len(values) + 1 {
			var whole, merged texts
			for _, v := range values[:n] {
				var page texts
				page.include([]byte(v))
				merged.merge(&page)
				whole.include([]byte(v))
			}
			if got, want := merged.appendMax(merged.appendMin(nil)), whole.appendMax(whole.appendMin(nil)); !bytes.Equal(got, want) {
				t.Fatalf("%.20q: %s, expected %s", values[:n], got, want)
			}
			if got, want := merged.footer(true), whole.footer(true); got != want {
				t.Fatalf("%.20q: %v, expected %v", values[:n], got, want)
			}
		}
	}
}

func TestStatisticsOfChosenLeaves(t *testing.T) {
	long := arrow.PrimitiveTypes.Int64
	sc := arrow.NewSchema([]arrow.Field{
		field("a", arrow.StructOf(field("b", long), field("c", arrow.StructOf(field("d", long), field("e", long))))),
		field("l", arrow.ListOf(arrow.StructOf(field("x", long), field("y", long)))),
		field("z", long),
	}, nil)
	rb := fromJSON(t, sc, `[{"a":{"b":1,"c":{"d":2,"e":3}},"l":[],"z":4}]`)
	for want, indexed := range map[string][]bool{
		`{}`:                        {false, false, false, false, false},
		`{"a":{"b":0,"c":{"d":0}}}`: {true, true, false, false, false},
		`{"a":{"c":{"e":0}},"z":0}`: {false, false, true, false, true},
		`{"l":0}`:                   {false, false, false, true, false},
		`{"a":{"b":0,"c":{"d":0,"e":0}},"l":0,"z":0}`: nil,
	} {
		got := statsOf(t, sc, indexed, rb)
		if !strings.HasPrefix(got, `{"numRecords":1,`) || !strings.HasSuffix(got, `"nullCount":`+want+`}`) {
			t.Errorf("leaves %v: %s, want %s", indexed, got, want)
		}
	}
	f := newTestFile(t, &object{}, sc, Options{TightBounds: true}, testTuning(t))
	must(t, f.Write(rb))
	if info, err := f.Close(); err != nil || !strings.HasSuffix(info.Stats, `,"tightBounds":true}`) {
		t.Errorf("tight bounds are not told: %s, %v", info.Stats, err)
	}
}

// TestBoundsHoldEveryValue compares random data with the bounds as a reader would: numbers as numbers, texts by bytes,
// days and times as times. A bound may be absent, but not for ordinary data.
func TestBoundsHoldEveryValue(t *testing.T) {
	sc := arrow.NewSchema(allTypes(), nil)
	rng := seeded(t)
	for range 15 {
		rb := randomBatch(rng, sc, 1+rng.IntN(130), []float64{0, 0.3, 0.97, 1}[rng.IntN(4)])
		cut := rng.Int64N(rb.NumRows())
		js := statsOf(t, sc, nil, rb.NewSlice(0, cut), rb.NewSlice(cut, rb.NumRows()))
		var stats struct {
			NumRecords                      int64
			MinValues, MaxValues, NullCount map[string]any
		}
		d := json.NewDecoder(strings.NewReader(js))
		d.UseNumber()
		must(t, d.Decode(&stats))
		if stats.NumRecords != rb.NumRows() {
			t.Fatalf("numRecords %d of %d rows", stats.NumRecords, rb.NumRows())
		}
		for i, f := range sc.Fields() {
			checkBounds(t, f.Name, rb.Column(i), nil, stats.MinValues[f.Name], stats.MaxValues[f.Name], stats.NullCount[f.Name])
		}
	}
}

func checkBounds(t *testing.T, path string, a arrow.Array, parent []bool, low, high, nulls any) {
	t.Helper()
	valid := make([]bool, a.Len())
	missing := 0
	for i := range valid {
		if valid[i] = a.IsValid(i) && (parent == nil || parent[i]); !valid[i] {
			missing++
		}
	}
	if st, ok := a.(*array.Struct); ok {
		child := func(of any, name string) any {
			m, _ := of.(map[string]any)
			return m[name]
		}
		for i, f := range st.DataType().(*arrow.StructType).Fields() {
			checkBounds(t, path+"."+f.Name, st.Field(i), valid, child(low, f.Name), child(high, f.Name), child(nulls, f.Name))
		}
		return
	}
	if fmt.Sprint(nulls) != fmt.Sprint(missing) {
		t.Errorf("%s: nullCount %v, want %d", path, nulls, missing)
	}
	switch a.(type) {
	case *array.List, *array.Map, *array.Binary, *array.Boolean:
		if low != nil || high != nil {
			t.Errorf("%s has bounds %v, %v", path, low, high)
		}
		return
	}
	if missing == a.Len() {
		if low != nil || high != nil {
			t.Errorf("%s: bounds %v, %v without values", path, low, high)
		}
		return
	}
	for i := range a.Len() {
		if !valid[i] {
			continue
		}
		if low == nil || (high == nil && !strings.Contains(fmt.Sprint(a.GetOneForMarshal(i)), "\U0010ffff")) && a.DataType().ID() != arrow.STRING {
			t.Fatalf("%s: bounds %v, %v are missing", path, low, high)
		}
		if compareToBound(t, a, i, low) < 0 || (high != nil && compareToBound(t, a, i, high) > 0) {
			t.Fatalf("%s: %v is not in [%v, %v]", path, a.GetOneForMarshal(i), low, high)
		}
	}
}

func compareToBound(t *testing.T, a arrow.Array, i int, bound any) int {
	t.Helper()
	number := func(v string) *big.Rat {
		r, ok := new(big.Rat).SetString(v)
		if !ok {
			t.Fatalf("%q is no number", v)
		}
		return r
	}
	moment := func(layout string) time.Time {
		m, err := time.Parse(layout, bound.(string))
		must(t, err)
		return m
	}
	switch a := a.(type) {
	case *array.String:
		if !utf8.ValidString(bound.(string)) || strings.ContainsRune(bound.(string), utf8.RuneError) && !strings.ContainsRune(strings.Join(allTexts(a), ""), utf8.RuneError) {
			t.Fatalf("broken bound %q", bound)
		}
		return bytes.Compare([]byte(a.Value(i)), []byte(bound.(string)))
	case *array.Float32:
		return new(big.Rat).SetFloat64(float64(a.Value(i))).Cmp(new(big.Rat).SetFloat64(asFloat(t, bound)))
	case *array.Float64:
		return new(big.Rat).SetFloat64(a.Value(i)).Cmp(new(big.Rat).SetFloat64(asFloat(t, bound)))
	case *array.Date32:
		return a.Value(i).ToTime().Compare(moment("2006-01-02"))
	case *array.Timestamp:
		layout := "2006-01-02T15:04:05.000"
		if a.DataType().(*arrow.TimestampType).TimeZone != "" {
			layout += "Z"
		}
		return a.Value(i).ToTime(arrow.Microsecond).Compare(moment(layout))
	}
	return number(a.ValueStr(i)).Cmp(number(bound.(json.Number).String()))
}

func asFloat(t *testing.T, bound any) float64 {
	t.Helper()
	f, err := bound.(json.Number).Float64()
	must(t, err)
	return f
}

func allTexts(a *array.String) (all []string) {
	for i := range a.Len() {
		all = append(all, a.Value(i))
	}
	return all
}

func FuzzTextBounds(f *testing.F) {
	f.Add("a", "b", "c")
	f.Add(strings.Repeat("\U0010ffff", 70), strings.Repeat("a", 33), "\xff")
	f.Fuzz(func(t *testing.T, one, two, three string) {
		var b texts
		first, second := len(one), len(one)+len(two)
		b.observe([]int32{0, int32(first), int32(second), int32(second + len(three))}, []byte(one+two+three))
		var low, high string
		if js := b.appendMin(nil); len(js) > 0 {
			must(t, json.Unmarshal(js, &low))
			if one < low || two < low || three < low {
				t.Errorf("min %q", low)
			}
		}
		if js := b.appendMax(nil); len(js) > 0 {
			must(t, json.Unmarshal(js, &high))
			if one > high || two > high || three > high {
				t.Errorf("max %q", high)
			}
		}
	})
}

// TestFloatsHaveNoParquetStatistics: Parquet's bounds would leave NaN out, which Spark and DataFusion find by x > 1.
func TestFloatsHaveNoParquetStatistics(t *testing.T) {
	inner := arrow.StructOf(field("d", arrow.PrimitiveTypes.Float64), field("n", arrow.PrimitiveTypes.Int64))
	sc := arrow.NewSchema([]arrow.Field{field("f", arrow.PrimitiveTypes.Float32), field("t", arrow.BinaryTypes.String), field("s", inner)}, nil)
	o := &object{}
	f := newTestFile(t, o, sc, Options{}, testTuning(t))
	must(t, f.Write(fromJSON(t, sc, `[{"f":1,"t":"x","s":{"d":2,"n":3}}]`)))
	_, err := f.Close()
	must(t, err)
	r, err := file.NewParquetReader(bytes.NewReader(o.Bytes()))
	must(t, err)
	for i, want := range []bool{false, true, false, true} {
		chunk, err := r.MetaData().RowGroup(0).ColumnChunk(i)
		must(t, err)
		if got, err := chunk.StatsSet(); got != want || err != nil {
			t.Errorf("column %s has statistics: %v, error %v", r.MetaData().Schema.Column(i).Path(), got, err)
		}
	}
}
