package datafile

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
)

// FuzzFile writes random rows of a random schema, with limits that cut pages and row groups anywhere and any encoding, and
// reads the file with a reader of others: rows, footer and page index.
func FuzzFile(f *testing.F) {
	for seed := range uint64(24) {
		f.Add(seed, uint8(seed*37))
	}
	f.Fuzz(func(t *testing.T, seed uint64, limits uint8) { checkRandomFile(t, seed, limits) })
}

// checkRandomFile: limits makes pages, row groups and dictionaries small, each by bits of its own.
func checkRandomFile(t *testing.T, seed uint64, limits uint8) {
	rng := rand.New(rand.NewPCG(seed, 1))
	sc := randomSchema(rng)
	tn := defaultTuning()
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	tn.allocator = mem
	tn.pageBytes = 16 << (2 * (limits & 3))
	tn.sliceRows = 1 << (2 * (limits >> 2 & 3))
	tn.groupRows = 5 << (3 * (limits >> 4 & 3))
	tn.dictBytes = 16 << (4 * (limits >> 6 & 3))
	tn.sampleRows = 1 + rng.Int64N(80)
	tn.choose = func(dt arrow.DataType, s sampled) columnEncoding {
		e := chooseEncoding(dt, s)
		if e.dictionary = rng.IntN(2) == 0 && dt.ID() != arrow.BOOL; rng.IntN(3) == 0 {
			e.encoding = parquet.Encodings.Plain
		}
		return e
	}
	o := &object{}
	f := newTestFile(t, o, sc, Options{Config: Config{Compression: compressions[rng.IntN(3)]}}, tn)
	var batches []arrow.RecordBatch
	var want []string
	for range 1 + rng.IntN(6) {
		rows, skip := rng.IntN(60), rng.IntN(9)
		nulls := []float64{0, 0.02, 0.5, 1}[rng.IntN(4)]
		whole := randomBatch(rng, sc, rows+skip, nulls)
		defer whole.Release()
		if rng.IntN(2) == 0 {
			whole = repeatRows(whole)
		}
		rb := whole.NewSlice(int64(skip), whole.NumRows())
		defer rb.Release()
		must(t, f.Write(rb))
		batches = append(batches, rb)
		want = append(want, rowsOf(t, rb)...)
	}
	info, err := f.Close()
	must(t, err)
	got, _ := readRows(t, o.Bytes())
	compareRows(t, got, want)
	checkFooter(t, o.Bytes(), sc, batches)
	checkStatistics(t, info.Stats, sc, batches)
}

// repeatRows gives a batch in which the first row comes again and again, for runs.
func repeatRows(rb arrow.RecordBatch) arrow.RecordBatch {
	if rb.NumRows() < 20 {
		return rb
	}
	columns := make([]arrow.Array, rb.NumCols())
	for i := range columns {
		parts := []arrow.Array{array.NewSlice(rb.Column(i), 0, rb.NumRows()/2)}
		for range 20 {
			parts = append(parts, array.NewSlice(rb.Column(i), 0, 1))
		}
		joined, err := array.Concatenate(append(parts, array.NewSlice(rb.Column(i), rb.NumRows()/2, rb.NumRows())), memory.DefaultAllocator)
		if err != nil {
			panic(err)
		}
		columns[i] = joined
	}
	return array.NewRecordBatch(rb.Schema(), columns, int64(columns[0].Len()))
}

func randomSchema(rng *rand.Rand) *arrow.Schema {
	fields := make([]arrow.Field, 1+rng.IntN(6))
	for i := range fields {
		fields[i] = arrow.Field{Name: fmt.Sprintf("c%d", i), Type: randomType(rng, 3), Nullable: rng.IntN(3) > 0}
	}
	return arrow.NewSchema(fields, nil)
}

func randomType(rng *rand.Rand, depth int) arrow.DataType {
	kind := rng.IntN(10)
	if depth == 0 || kind < 6 {
		all := primitives()
		return all[rng.IntN(len(all))]
	}
	switch inner := randomType(rng, depth-1); kind {
	case 6:
		return arrow.ListOf(inner)
	case 7:
		return arrow.ListOfNonNullable(inner)
	case 8:
		return arrow.MapOf(arrow.BinaryTypes.String, inner)
	default:
		fields := []arrow.Field{{Name: "a", Type: inner, Nullable: rng.IntN(2) == 0}}
		if rng.IntN(2) == 0 {
			fields = append(fields, arrow.Field{Name: "b", Type: randomType(rng, depth-1), Nullable: rng.IntN(2) == 0})
		}
		return arrow.StructOf(fields...)
	}
}

// checkFooter compares the statistics and the page index of columns outside of lists and maps with the rows.
func checkFooter(t *testing.T, data []byte, sc *arrow.Schema, batches []arrow.RecordBatch) {
	t.Helper()
	rd, err := file.NewParquetReader(bytes.NewReader(data))
	must(t, err)
	defer rd.Close()
	for i, l := range leavesOf(sc) {
		var values []*string
		if !l.repeated {
			for _, rb := range batches {
				values = append(values, storedValues(rb, l)...)
			}
		}
		for g := range rd.NumRowGroups() {
			rows := int(rd.MetaData().RowGroup(g).NumRows())
			var group []*string
			if !l.repeated {
				group, values = values[:rows], values[rows:]
			}
			if checkColumn(t, rd, g, i, l, rows, group); t.Failed() {
				t.Fatalf("column %s of row group %d", strings.Join(l.names, "."), g)
			}
		}
	}
}

// checkStatistics compares Delta's statistics with the rows.
func checkStatistics(t *testing.T, js string, sc *arrow.Schema, batches []arrow.RecordBatch) {
	t.Helper()
	var stats struct{ MinValues, MaxValues, NullCount map[string]any }
	d := json.NewDecoder(strings.NewReader(js))
	d.UseNumber()
	must(t, d.Decode(&stats))
	for i, f := range sc.Fields() {
		var parts []arrow.Array
		for _, rb := range batches {
			parts = append(parts, rb.Column(i))
		}
		whole, err := array.Concatenate(parts, memory.DefaultAllocator)
		must(t, err)
		checkBounds(t, f.Name, whole, nil, stats.MinValues[f.Name], stats.MaxValues[f.Name], stats.NullCount[f.Name])
		whole.Release()
	}
}

// checkColumn checks one column chunk, whose values are as they are stored.
func checkColumn(t *testing.T, rd *file.Reader, group, column int, l leaf, rows int, values []*string) {
	chunk := rd.MetaData().RowGroups[group].Columns[column]
	bounded := !l.repeated && l.dt.ID() != arrow.FLOAT32 && l.dt.ID() != arrow.FLOAT64
	if stats := chunk.MetaData.Statistics; bounded != (stats != nil) {
		t.Fatalf("statistics %v", stats)
	} else if stats != nil {
		checkRange(t, l, values, stats.MinValue, stats.MaxValue, stats.GetNullCount())
		if stats.IsSetMinValue() && *stats.IsMinValueExact != contains(values, stats.MinValue) && *stats.IsMinValueExact {
			t.Errorf("%q is said to be the minimum", stats.MinValue)
		}
		if stats.IsSetMaxValue() && *stats.IsMaxValueExact && !contains(values, stats.MaxValue) {
			t.Errorf("%q is said to be the maximum", stats.MaxValue)
		}
		if short := shortest(values); short != nil && !stats.IsSetMinValue() && !stats.IsSetMaxValue() && !greatestText(values) {
			t.Errorf("no range, though there is %q", *short)
		}
	}
	if chunk.OffsetIndexOffset == nil {
		checkOnePage(t, rd, group, column)
		return
	}
	index, err := rd.GetPageIndexReader().RowGroup(group)
	must(t, err)
	offsets, err := index.GetOffsetIndex(column)
	must(t, err)
	var ranges metadata.ColumnIndex
	if chunk.ColumnIndexOffset != nil {
		ranges, err = index.GetColumnIndex(column)
		must(t, err)
	}
	if ranges != nil && !bounded || ranges == nil && bounded && chunk.MetaData.Statistics.IsSetMaxValue() && l.dt.ID() != arrow.STRING && l.dt.ID() != arrow.BINARY {
		t.Errorf("column index: %v", ranges)
	}
	pages := offsets.GetPageLocations()
	at := chunk.MetaData.DataPageOffset
	for p, page := range pages {
		next := rows
		if p+1 < len(pages) {
			next = int(pages[p+1].FirstRowIndex)
		}
		if p == 0 && page.FirstRowIndex != 0 || int(page.FirstRowIndex) >= next {
			t.Fatalf("page %d begins with row %d, the next one with %d", p, page.FirstRowIndex, next)
		}
		if page.Offset != at {
			t.Fatalf("page %d is at %d, the one before ends at %d", p, page.Offset, at)
		}
		at += int64(page.CompressedPageSize)
		if ranges != nil {
			part := values[page.FirstRowIndex:next]
			if empty := shortest(part) == nil; ranges.GetNullPages()[p] != empty {
				t.Errorf("page %d: only nulls: %v", p, !empty)
			} else if empty {
				continue
			}
			checkRange(t, l, part, ranges.GetMinValues()[p], ranges.GetMaxValues()[p], ranges.GetNullCounts()[p])
		}
	}
	if chunk.MetaData.DictionaryPageOffset != nil {
		first := *chunk.MetaData.DictionaryPageOffset
		if at-first != chunk.MetaData.TotalCompressedSize {
			t.Errorf("the pages end at %d, the chunk of %d bytes begins at %d", at, chunk.MetaData.TotalCompressedSize, first)
		}
	}
	if ranges != nil {
		checkOrder(t, l, ranges)
	}
}

// checkOnePage: the page index is left out where no column chunk has more pages than one.
func checkOnePage(t *testing.T, rd *file.Reader, group, column int) {
	t.Helper()
	pages, err := rd.RowGroup(group).GetColumnPageReader(column)
	must(t, err)
	n := 0
	for pages.Next() {
		if _, ok := pages.Page().(*file.DataPageV1); ok {
			n++
		}
	}
	must(t, pages.Err())
	if n != 1 || rd.MetaData().RowGroups[group].Columns[column].ColumnIndexOffset != nil {
		t.Errorf("no place is told of %d pages", n)
	}
}

func checkRange(t *testing.T, l leaf, values []*string, low, hi []byte, nulls int64) {
	t.Helper()
	missing := int64(0)
	for _, v := range values {
		if v == nil {
			missing++
			continue
		}
		if low != nil && inOrder(l, *v, string(low)) < 0 || hi != nil && inOrder(l, *v, string(hi)) > 0 {
			t.Fatalf("%q is not in [%q, %q]", *v, low, hi)
		}
	}
	if missing != nulls {
		t.Errorf("%d nulls, said to be %d", missing, nulls)
	}
	if l.dt.ID() == arrow.STRING && (!utf8.Valid(low) || !utf8.Valid(hi)) {
		t.Errorf("bounds %q, %q are not UTF-8", low, hi)
	}
	if len(low) > footerBytes || len(hi) > footerBytes+1 {
		t.Errorf("bounds of %d and %d bytes", len(low), len(hi))
	}
}

func checkOrder(t *testing.T, l leaf, ranges metadata.ColumnIndex) {
	t.Helper()
	var before int
	for p, empty := range ranges.GetNullPages() {
		if empty {
			continue
		}
		if before > 0 {
			for _, bounds := range [][][]byte{ranges.GetMinValues(), ranges.GetMaxValues()} {
				order := inOrder(l, string(bounds[before-1]), string(bounds[p]))
				if ranges.GetBoundaryOrder() == metadata.Ascending && order > 0 || ranges.GetBoundaryOrder() == metadata.Descending && order < 0 {
					t.Errorf("page %d is out of the order %v", p, ranges.GetBoundaryOrder())
				}
			}
		}
		before = p + 1
	}
}

// inOrder compares two stored values as the format says.
func inOrder(l leaf, a, b string) int {
	switch l.dt.(type) {
	case *arrow.StringType, *arrow.BinaryType, *arrow.BooleanType:
		return strings.Compare(a, b)
	}
	return bigOf(l, a).Cmp(bigOf(l, b))
}

func bigOf(l leaf, stored string) *big.Int {
	be := []byte(stored)
	if d, ok := l.dt.(*arrow.Decimal128Type); !ok || d.Precision <= maxIntegerPrecision {
		for i := range be {
			be[i] = stored[len(be)-1-i]
		}
	}
	v := new(big.Int).SetBytes(be)
	if be[0] >= 0x80 {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(8*len(be))))
	}
	return v
}

func contains(values []*string, v []byte) bool {
	for _, other := range values {
		if other != nil && *other == string(v) {
			return true
		}
	}
	return false
}

func shortest(values []*string) (short *string) {
	for _, v := range values {
		if v != nil && (short == nil || len(*v) < len(*short)) {
			short = v
		}
	}
	return short
}

// greatestText says whether a value begins with the greatest character or byte, which no shorter text is greater than.
func greatestText(values []*string) bool {
	for _, v := range values {
		if v != nil && (strings.HasPrefix(*v, "\U0010ffff") || strings.HasPrefix(*v, "\xff")) {
			return true
		}
	}
	return false
}

// storedValues are the values of a leaf, nil for null, in the encoding PLAIN but without lengths.
func storedValues(rb arrow.RecordBatch, l leaf) []*string {
	out := make([]*string, rb.NumRows())
rows:
	for row := range out {
		a := rb.Column(l.path[0].child)
		for _, s := range l.path[1:] {
			if a.IsNull(row) {
				continue rows
			}
			a = a.(*array.Struct).Field(s.child)
		}
		if a.IsValid(row) {
			v := storedValue(a, row)
			out[row] = &v
		}
	}
	return out
}

func storedValue(a arrow.Array, i int) string {
	four := func(v int32) string { return string(binary.LittleEndian.AppendUint32(nil, uint32(v))) }
	eight := func(v int64) string { return string(binary.LittleEndian.AppendUint64(nil, uint64(v))) }
	switch a := a.(type) {
	case *array.String:
		return a.Value(i)
	case *array.Binary:
		return a.ValueString(i)
	case *array.Boolean:
		if a.Value(i) {
			return "\x01"
		}
		return "\x00"
	case *array.Int8:
		return four(int32(a.Value(i)))
	case *array.Int16:
		return four(int32(a.Value(i)))
	case *array.Int32:
		return four(a.Value(i))
	case *array.Date32:
		return four(int32(a.Value(i)))
	case *array.Int64:
		return eight(a.Value(i))
	case *array.Timestamp:
		return eight(int64(a.Value(i)))
	case *array.Decimal128:
		v, p := a.Value(i).BigInt(), a.DataType().(*arrow.Decimal128Type).Precision
		switch {
		case p <= 9:
			return four(int32(v.Int64()))
		case p <= 18:
			return eight(v.Int64())
		}
		width := map[bool]int{true: 9, false: 16}[p == 19]
		if v.Sign() < 0 {
			v.Add(v, new(big.Int).Lsh(big.NewInt(1), uint(8*width)))
		}
		return string(v.FillBytes(make([]byte, width)))
	}
	return ""
}

// TestDictionariesEnd: a dictionary takes no more than it may, and goes on to know what it has.
func TestDictionariesEnd(t *testing.T) {
	const most = 10_000
	texts, numbers := newTextDictionary(most), newNumberDictionary[int64](most)
	for i := range 5000 {
		index := texts.find(fmt.Appendf(nil, "value %d", i))
		indices, taken := numbers.add(nil, []int64{int64(i) - 1000})
		if index >= 0 != (index == i) || taken == 1 && int(indices[0]) != i {
			t.Fatalf("value %d is entry %d, the number is %v", i, index, indices)
		}
	}
	if size := len(texts.data) + 4*len(texts.ends); size > most || size < most-20 {
		t.Errorf("%d bytes of texts, at most %d", size, most)
	}
	if size := 8 * len(numbers.values); size != most {
		t.Errorf("%d bytes of numbers, at most %d", size, most)
	}
	if texts.find([]byte("value 17")) != 17 {
		t.Error("a full dictionary has forgotten a value")
	}
}

// TestConvertedTypes: what readers older than logical types go by.
func TestConvertedTypes(t *testing.T) {
	for want, dt := range map[int32]arrow.DataType{
		convertedUTF8: arrow.BinaryTypes.String, convertedDecimal: &arrow.Decimal128Type{Precision: 20}, convertedDate: arrow.FixedWidthTypes.Date32,
		convertedTimestampMicros: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, 15: arrow.PrimitiveTypes.Int8,
		16: arrow.PrimitiveTypes.Int16, 17: arrow.PrimitiveTypes.Int32, 18: arrow.PrimitiveTypes.Int64, -1: arrow.BinaryTypes.Binary,
	} {
		if got := convertedType(dt); got != want {
			t.Errorf("%s has the converted type %d, expected %d", dt, got, want)
		}
	}
}

// TestBoundsInFooter: what the footer and the page index have of long strings.
func TestBoundsInFooter(t *testing.T) {
	x := strings.Repeat
	for name, tc := range map[string]struct {
		value     string
		text      bool
		low, high string // none for a range that can't be given
	}{
		"64 bytes":                   {x("a", 64), true, x("a", 64), x("a", 64)},
		"65 bytes":                   {x("a", 65), true, x("a", 64), x("a", 63) + "b"},
		"more than is kept":          {x("a", 1000), true, x("a", 64), x("a", 63) + "b"},
		"a character is cut":         {x("a", 63) + "é", true, x("a", 63), x("a", 62) + "b"},
		"characters of 3 bytes":      {x("漢", 30), true, x("漢", 21), x("漢", 20) + "漣"},
		"below the surrogates":       {x("a", 61) + "\ud7ffbc", true, x("a", 61) + "\ud7ff", x("a", 61) + "\ue000"},
		"one byte becomes two":       {x("a", 63) + "\x7fb", true, x("a", 63) + "\x7f", x("a", 63) + "\u0080"},
		"greatest character":         {x("a", 60) + "\U0010ffffb", true, x("a", 60) + "\U0010ffff", x("a", 59) + "b"},
		"nothing is greater":         {x("\U0010ffff", 17), true, "", ""},
		"no UTF-8":                   {x("a", 10) + "\xff" + x("a", 60), true, "", ""},
		"binary":                     {x("a", 65), false, x("a", 64), x("a", 63) + "b"},
		"binary, greatest byte":      {x("a", 63) + "\xffb", false, x("a", 63) + "\xff", x("a", 62) + "b"},
		"binary, nothing is greater": {x("\xff", 65), false, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var b texts
			b.include([]byte(tc.value))
			want := valueRange{low: tc.low, hi: tc.high, lowExact: tc.low == tc.value, hiExact: tc.high == tc.value, ok: tc.low != ""}
			if got := b.footer(tc.text); got != want && (got.ok || want.ok) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// TestDecimalWidths: as many bytes as the greatest and the least decimal need.
func TestDecimalWidths(t *testing.T) {
	for p := int32(1); p <= 38; p++ {
		nines := new(big.Int).Sub(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(p)), nil), big.NewInt(1))
		if want := (nines.BitLen() + 8) / 8; decimalBytes(p) != want {
			t.Errorf("precision %d: %d bytes, %d are needed", p, decimalBytes(p), want)
		}
		v := decimal128.FromBigInt(new(big.Int).Neg(nines))
		if got := bigOf(leaf{dt: &arrow.Decimal128Type{Precision: 38}}, string(appendDecimal(nil, v, decimalBytes(p)))); got.Cmp(v.BigInt()) != 0 {
			t.Errorf("precision %d: %s became %s", p, v.BigInt(), got)
		}
	}
}

// TestWriteDoesNotAllocate: what is allocated belongs to pages, not to rows.
func TestWriteDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	var some []arrow.Field
	for i, f := range allTypes() {
		if i%7 == 0 {
			some = append(some, f)
		}
	}
	sc := arrow.NewSchema(some, nil)
	tn := defaultTuning()
	tn.groupRows, tn.groupEncoded, tn.groupRaw = 1<<40, 1<<40, 1<<40
	f := newTestFile(t, &object{}, sc, Options{}, tn)
	rb := randomBatch(seeded(t), sc, 3000, 0.2)
	defer rb.Release()
	for range 60 { // buffers grow, dictionaries are filled
		must(t, f.Write(rb))
	}
	pages := func() (n int) {
		for i := range f.encoder.chunks {
			n += len(f.encoder.chunks[i].pages)
		}
		return n
	}
	const runs = 20
	before := pages()
	got := testing.AllocsPerRun(runs, func() { must(t, f.Write(rb)) }) * (runs + 1)
	finished := pages() - before
	if most := 8*float64(finished) + 30*runs; got > most || finished == 0 {
		t.Errorf("%v allocations for %d rows, of which %d pages came", got, runs*rb.NumRows(), finished)
	}
	must(t, f.Abort())
}

// TestMemoryOfAnOpenFile: what it holds has the bounds that defaultTuning states, however long it gets.
func TestMemoryOfAnOpenFile(t *testing.T) {
	sc := arrow.NewSchema([]arrow.Field{
		field("unique", arrow.BinaryTypes.String), field("few", arrow.BinaryTypes.String), field("none", arrow.BinaryTypes.String),
		field("n", arrow.PrimitiveTypes.Int64), field("flag", arrow.FixedWidthTypes.Boolean), field("list", arrow.ListOf(arrow.PrimitiveTypes.Int32)),
	}, nil)
	tn := defaultTuning()
	tn.pageBytes, tn.dictBytes, tn.groupEncoded, tn.sliceBytes = 64<<10, 64<<10, 1<<20, 256<<10
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	rng := seeded(t)
	f, err := newFile(t.Context(), nowhere{}, "x", sc, Options{}, tn)
	must(t, err)
	var most, start int64
	for i := range 100 {
		b := array.NewRecordBuilder(memory.DefaultAllocator, sc)
		for range 5000 {
			b.Field(0).(*array.StringBuilder).Append(fmt.Sprintf("%x%x", rng.Uint64(), rng.Uint64()))
			b.Field(1).(*array.StringBuilder).Append(fmt.Sprintf("value %d", rng.IntN(1+100*i)))
			b.Field(2).AppendNull()
			b.Field(3).(*array.Int64Builder).Append(int64(rng.Uint64()))
			b.Field(4).(*array.BooleanBuilder).Append(true)
			b.Field(5).AppendEmptyValue()
		}
		rb := b.NewRecordBatch()
		must(t, f.Write(rb))
		rb.Release()
		b.Release()
		if i == 0 {
			start = heap()
		}
		most = max(most, heap()-start)
	}
	// A row group, and of each of six columns an unfinished page with what a slice has added to it, in buffers that may be twice as
	// large, and a dictionary with its table.
	if limit := tn.groupEncoded + 6*(4*(tn.pageBytes+tn.sliceBytes)+2*tn.dictBytes); most > limit {
		t.Errorf("an open file holds %d bytes, expected at most %d", most, limit)
	}
	if f.Bytes() < 10<<20 {
		t.Errorf("only %d bytes: the test has lost its sense", f.Bytes())
	}
	must(t, f.Abort())
}

// nowhere is an object that keeps nothing.
type nowhere struct{}

func (nowhere) Create(context.Context, string) (Writer, error) { return nowhere{}, nil }
func (nowhere) Write(p []byte) (int, error)                    { return len(p), nil }
func (nowhere) Close() error                                   { return nil }
func (nowhere) Abort() error                                   { return nil }
