package datafile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
)

// object is a Writer in memory that may fail.
type object struct {
	bytes.Buffer
	failAt   int // number of the write that fails, from 1; 0 never
	failEnd  error
	short    bool
	writes   int
	creates  int
	closes   int
	aborts   int
	failures int
}

var errStore = errors.New("the store is away")

func (o *object) Write(p []byte) (int, error) {
	o.writes++
	if o.failAt > 0 && o.writes >= o.failAt {
		o.failures++
		if o.short {
			return o.Buffer.Write(p[:len(p)/2])
		}
		return 0, errStore
	}
	return o.Buffer.Write(p)
}

func (o *object) Close() error { o.closes++; return o.failEnd }
func (o *object) Abort() error { o.aborts++; return nil }

// Create makes an object its own Creator.
func (o *object) Create(context.Context, string) (Writer, error) { o.creates++; return o, nil }

// testTuning has a checked allocator and limits so small that few rows reach them.
func testTuning(t testing.TB) tuning {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	t.Cleanup(func() { mem.AssertSize(t, 0) })
	small := defaultTuning()
	small.allocator = mem
	small.pageBytes = 1 << 10
	small.sliceRows = 100
	small.sampleRows = 200
	small.groupRows = 1000
	return small
}

func newTestFile(t testing.TB, o *object, sc *arrow.Schema, opts Options, tn tuning) *File {
	t.Helper()
	f, err := newFile(t.Context(), o, "part-0.parquet", sc, opts, tn)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(1, uint64(len(t.Name()))))
}

func TestValidateNamesTheValueAndTheChoices(t *testing.T) {
	for _, good := range []string{"", "zstd", "snappy", "none"} {
		must(t, Config{Compression: good}.Validate())
	}
	err := Config{Compression: "gzip"}.Validate()
	if err == nil || !strings.Contains(err.Error(), `"gzip"`) || !strings.Contains(err.Error(), "zstd, snappy, none") {
		t.Fatalf("got %v", err)
	}
	if _, err := New(t.Context(), &object{}, "x", arrow.NewSchema(allTypes(), nil), Options{Config: Config{Compression: "lz4"}}); err == nil {
		t.Fatal("New took an unknown compression")
	}
}

func TestNewRefusesTypesThatDeltaDoesNotHave(t *testing.T) {
	for _, dt := range []arrow.DataType{
		arrow.BinaryTypes.LargeString, arrow.PrimitiveTypes.Uint32, arrow.FixedWidthTypes.Timestamp_ns, arrow.Null,
		arrow.FixedWidthTypes.Float16, &arrow.Decimal256Type{Precision: 40}, &arrow.Decimal128Type{Precision: 10, Scale: -1},
		&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String},
		arrow.StructOf(), arrow.ListOf(arrow.FixedWidthTypes.Date64),
		arrow.MapOf(arrow.BinaryTypes.String, arrow.FixedWidthTypes.Time32s),
	} {
		o := &object{}
		_, err := New(t.Context(), o, "x", arrow.NewSchema([]arrow.Field{{Name: "odd", Type: dt, Nullable: true}}, nil), Options{})
		if err == nil || !strings.Contains(err.Error(), "column odd") {
			t.Errorf("%s: got %v", dt, err)
		}
	}
	if _, err := New(t.Context(), &object{}, "x", arrow.NewSchema(nil, nil), Options{}); err == nil {
		t.Error("New took a schema without columns")
	}
}

type noCreator struct{}

func (noCreator) Create(context.Context, string) (Writer, error) { return nil, errStore }

func TestCloseReportsTheCreator(t *testing.T) {
	f, err := New(t.Context(), noCreator{}, "x", arrow.NewSchema(allTypes(), nil), Options{})
	must(t, err)
	if _, err := f.Close(); !errors.Is(err, errStore) {
		t.Fatalf("got %v", err)
	}
	must(t, f.Abort())
}

func TestLifecycle(t *testing.T) {
	sc := arrow.NewSchema(allTypes(), nil)
	rb := randomBatch(seeded(t), sc, 10, 0.2)
	defer rb.Release()
	tn := testTuning(t)

	t.Run("close once", func(t *testing.T) {
		o := &object{}
		f := newTestFile(t, o, sc, Options{}, tn)
		must(t, f.Write(rb))
		info, err := f.Close()
		must(t, err)
		if info.Name != "part-0.parquet" || info.Rows != 10 || info.Size != int64(o.Len()) {
			t.Fatalf("got %+v, the object has %d bytes", info, o.Len())
		}
		if f.Bytes() != info.Size {
			t.Errorf("Bytes %d, size %d", f.Bytes(), info.Size)
		}
		if _, err := f.Close(); err == nil {
			t.Error("a second Close did not fail")
		}
		if err := f.Write(rb); err == nil {
			t.Error("Write after Close did not fail")
		}
		must(t, f.Abort())
		if o.closes != 1 || o.aborts != 0 {
			t.Errorf("object closed %d times, aborted %d times", o.closes, o.aborts)
		}
	})
	t.Run("sealed, then closed or aborted", func(t *testing.T) {
		for _, abort := range []bool{false, true} {
			o := &object{}
			f := newTestFile(t, o, sc, Options{}, tn)
			must(t, f.Write(rb))
			must(t, f.Seal())
			if o.Len() == 0 || o.closes != 0 || f.Bytes() != int64(o.Len()) {
				t.Errorf("a sealed file has handed on %d bytes and tells %d; closed %d times", o.Len(), f.Bytes(), o.closes)
			}
			if f.Seal() == nil || f.Write(rb) == nil {
				t.Error("a second Seal, or a Write after it, did not fail")
			}
			if abort {
				must(t, f.Abort())
			} else if info, err := f.Close(); err != nil || info.Rows != 10 || info.Size != int64(o.Len()) || !strings.Contains(info.Stats, `"numRecords":10`) {
				t.Errorf("got %+v, %v", info, err)
			}
			if _, err := f.Close(); err == nil {
				t.Error("another Close did not fail")
			}
			if abort != (o.closes == 0) || abort != (o.aborts == 1) {
				t.Errorf("object closed %d times, aborted %d times", o.closes, o.aborts)
			}
			if !abort {
				if rows, _ := readRows(t, o.Bytes()); len(rows) != 10 {
					t.Errorf("the file has %d rows", len(rows))
				}
			}
		}
	})
	t.Run("abort once", func(t *testing.T) {
		for n, created := range map[int]int{0: 0, 1: 0, 30: 0, 150: 1} { // nothing written, rows staged, rows encoded, a row group full
			o := &object{}
			f := newTestFile(t, o, sc, Options{}, tn)
			for range n {
				must(t, f.Write(rb))
			}
			before := o.Len()
			must(t, f.Abort())
			must(t, f.Abort())
			if _, err := f.Close(); err == nil {
				t.Error("Close after Abort did not fail")
			}
			if err := f.Write(rb); err == nil {
				t.Error("Write after Abort did not fail")
			}
			if o.creates != created || o.closes != 0 || o.aborts != created || o.Len() != before {
				t.Errorf("after %d writes the object was created %d times, closed %d times, aborted %d times, %d bytes written", n, o.creates, o.closes, o.aborts, o.Len()-before)
			}
		}
	})
	t.Run("a failed close of the object is final", func(t *testing.T) {
		o := &object{failEnd: errStore}
		f := newTestFile(t, o, sc, Options{}, tn)
		must(t, f.Write(rb))
		if _, err := f.Close(); !errors.Is(err, errStore) {
			t.Fatalf("got %v", err)
		}
		must(t, f.Abort())
		if o.closes != 1 || o.aborts != 0 {
			t.Errorf("object closed %d times, aborted %d times", o.closes, o.aborts)
		}
	})
	t.Run("no rows", func(t *testing.T) {
		o := &object{}
		f := newTestFile(t, o, sc, Options{}, tn)
		info, err := f.Close()
		must(t, err)
		if info.Rows != 0 || !strings.HasPrefix(info.Stats, `{"numRecords":0,"minValues":{},"maxValues":{},"nullCount":{`) {
			t.Fatalf("got %+v", info)
		}
		if rows, groups := readRows(t, o.Bytes()); len(rows) != 0 || groups != 0 {
			t.Fatalf("%d rows in %d groups", len(rows), groups)
		}
	})
}

// TestFailingWriter fails each write of the object in turn, for good or short, and expects the error from Write or Close,
// no published object, and no leaked buffer.
func TestFailingWriter(t *testing.T) {
	var some []arrow.Field
	for i, field := range allTypes() {
		if i%12 == 0 {
			some = append(some, field)
		}
	}
	sc := arrow.NewSchema(some, nil)
	rb := randomBatch(seeded(t), sc, 20, 0.2)
	defer rb.Release()
	for _, short := range []bool{false, true} {
		for i := 1; ; i++ {
			o := &object{failAt: i, short: short}
			tn := testTuning(t)
			tn.groupRows, tn.sampleRows, tn.pageBytes = 40, 30, 200
			f := newTestFile(t, o, sc, Options{}, tn)
			var err error
			for w := 0; w < 5 && err == nil; w++ {
				err = f.Write(rb)
			}
			if err == nil {
				_, err = f.Close()
			}
			if o.failures == 0 {
				must(t, err)
				if i < 30 {
					t.Fatalf("only %d writes: the test has lost its sense", i-1)
				}
				break
			}
			if err == nil || o.closes != 0 || (!short && !errors.Is(err, errStore)) {
				t.Fatalf("write %d failed: got %v, closed %d times", i, err, o.closes)
			}
			if err := f.Write(rb); err == nil {
				t.Fatalf("write %d failed: the next Write did not", i)
			}
			if _, err := f.Close(); err == nil {
				t.Fatalf("write %d failed: Close did not", i)
			}
			must(t, f.Abort())
			if o.aborts != 1 || o.failures != 1 {
				t.Fatalf("write %d failed: aborted %d times, %d writes after the failure", i, o.aborts, o.failures-1)
			}
		}
	}
}

func TestWriteRefusesAnotherLayout(t *testing.T) {
	file := []arrow.Field{{Name: "a", Type: arrow.StructOf(arrow.Field{Name: "b", Type: arrow.PrimitiveTypes.Int64, Nullable: true}), Nullable: true}}
	for name, other := range map[string][]arrow.Field{
		"name":               {{Name: "A", Type: file[0].Type, Nullable: true}},
		"nullability":        {{Name: "a", Type: file[0].Type}},
		"type":               {{Name: "a", Type: arrow.PrimitiveTypes.Int64, Nullable: true}},
		"nested nullability": {{Name: "a", Type: arrow.StructOf(arrow.Field{Name: "b", Type: arrow.PrimitiveTypes.Int64}), Nullable: true}},
		"columns":            {file[0], {Name: "c", Type: arrow.PrimitiveTypes.Int64, Nullable: true}},
	} {
		t.Run(name, func(t *testing.T) {
			o := &object{}
			f := newTestFile(t, o, arrow.NewSchema(file, nil), Options{}, testTuning(t))
			rb := randomBatch(seeded(t), arrow.NewSchema(other, nil), 3, 0)
			defer rb.Release()
			if err := f.Write(rb); err == nil {
				t.Error("Write took it")
			}
			must(t, f.Abort())
		})
	}
}

// TestPanicBecomesError: the choice of encodings is made to panic.
func TestPanicBecomesError(t *testing.T) {
	sc := arrow.NewSchema(allTypes(), nil)
	tn := testTuning(t)
	tn.choose = func(arrow.DataType, sampled) columnEncoding { panic("no choice") }
	o := &object{}
	f := newTestFile(t, o, sc, Options{}, tn)
	rb := randomBatch(seeded(t), sc, 300, 0)
	defer rb.Release()
	if err := f.Write(rb); err == nil || !strings.Contains(err.Error(), "no choice") {
		t.Fatalf("got %v", err)
	}
	if _, err := f.Close(); err == nil {
		t.Fatal("Close did not fail")
	}
	must(t, f.Abort())
	if o.creates != 0 || o.closes != 0 {
		t.Errorf("object created %d times, closed %d times", o.creates, o.closes)
	}
}

// TestMemoryIsTold holds what a thousand open files say that they take against what the heap has grown by.
func TestMemoryIsTold(t *testing.T) {
	sc := arrow.NewSchema(allTypes(), nil)
	for _, rows := range []int{3, 500} {
		rb := randomBatch(seeded(t), sc, rows, 0.2)
		defer rb.Release()
		heap := func() int64 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		before := heap()
		var files []*File
		var told int64
		tn := testTuning(t)
		tn.pageBytes = 256 << 10
		for range 300 {
			f := newTestFile(t, &object{}, sc, Options{}, tn)
			must(t, f.Write(rb))
			told += f.Memory()
			files = append(files, f)
		}
		if took := heap() - before; took > 2*told || told > 4*took {
			t.Errorf("300 files of %d rows take %d KiB, and say %d KiB", rows, took>>10, told>>10)
		}
		for _, f := range files {
			must(t, f.Abort())
		}
	}
}

// TestNothingIsKept overwrites every buffer of a batch after Write and releases it, for every encoding and with batches
// small enough to be staged; the files must be the same as those from batches left alone.
func TestNothingIsKept(t *testing.T) {
	sc := arrow.NewSchema(allTypes(), nil)
	for name, choose := range map[string]func(arrow.DataType, sampled) columnEncoding{
		"chosen": chooseEncoding,
		"dictionary": func(dt arrow.DataType, s sampled) columnEncoding {
			return columnEncoding{true, parquet.Encodings.Plain}
		},
		"plain": func(dt arrow.DataType, s sampled) columnEncoding {
			return columnEncoding{false, parquet.Encodings.Plain}
		},
		"delta": func(dt arrow.DataType, s sampled) columnEncoding {
			e := chooseEncoding(dt, s)
			e.dictionary = false
			return e
		},
	} {
		for _, rows := range []int{7, 120} {
			t.Run(fmt.Sprintf("%s %d", name, rows), func(t *testing.T) {
				var files [2]object
				var infos [2]Info
				for i, scribble := range []bool{false, true} {
					tn := testTuning(t)
					tn.choose = choose
					tn.sampleRows = 30
					rng := rand.New(rand.NewPCG(7, 7))
					f := newTestFile(t, &files[i], sc, Options{}, tn)
					for range 5 {
						rb := randomBatch(rng, sc, rows, 0.2)
						must(t, f.Write(rb))
						if scribble {
							overwrite(rb)
						}
						rb.Release()
					}
					var err error
					infos[i], err = f.Close()
					must(t, err)
				}
				if infos[0] != infos[1] {
					t.Errorf("got  %+v\nwant %+v", infos[1], infos[0])
				}
				if !bytes.Equal(files[0].Bytes(), files[1].Bytes()) {
					t.Error("the files differ")
				}
			})
		}
	}
}

// overwrite fills every buffer of the batch with 0xAA.
func overwrite(rb arrow.RecordBatch) {
	var data func(d arrow.ArrayData)
	data = func(d arrow.ArrayData) {
		for _, b := range d.Buffers() {
			if b != nil {
				all := b.Buf()
				memory.Set(all[:cap(all)], 0xAA)
			}
		}
		for _, child := range d.Children() {
			data(child)
		}
	}
	for _, c := range rb.Columns() {
		data(c.Data())
	}
}

func TestRowGroups(t *testing.T) {
	sc := arrow.NewSchema([]arrow.Field{{Name: "s", Type: arrow.BinaryTypes.String}, {Name: "i", Type: arrow.PrimitiveTypes.Int64}}, nil)
	for name, tc := range map[string]struct {
		limit       func(*tuning)
		rows, batch int
		groups      int
	}{
		"by rows":                 {func(tn *tuning) { tn.groupRows = 500 }, 5000, 100, 10},
		"by rows, full at end":    {func(tn *tuning) { tn.groupRows = 500 }, 500, 100, 1},
		"by raw bytes":            {func(tn *tuning) { tn.groupRaw = 100 * 100 }, 5000, 100, 25},
		"by encoded bytes":        {func(tn *tuning) { tn.groupEncoded = 26 << 10 }, 5000, 100, 10},
		"one batch, many groups":  {func(tn *tuning) { tn.groupRows = 500 }, 5000, 5000, 10},
		"slices by bytes":         {func(tn *tuning) { tn.groupRows, tn.sliceBytes = 500, 50 }, 1000, 1000, 2},
		"limit not hit by slices": {func(tn *tuning) { tn.groupRows = 550 }, 1200, 1200, 2},
	} {
		t.Run(name, func(t *testing.T) {
			tn := testTuning(t)
			tc.limit(&tn)
			rng := seeded(t)
			o := &object{}
			f := newTestFile(t, o, sc, Options{Config: Config{Compression: "none"}}, tn)
			var want []string
			last := int64(0)
			for at := 0; at < tc.rows; at += tc.batch {
				rb := randomBatch(rng, sc, tc.batch, 0)
				must(t, f.Write(rb))
				want = append(want, rowsOf(t, rb)...)
				rb.Release()
				if f.Bytes() < last {
					t.Errorf("Bytes fell from %d to %d", last, f.Bytes())
				}
				last = f.Bytes()
			}
			info, err := f.Close()
			must(t, err)
			rows, groups := readRows(t, o.Bytes())
			compareRows(t, rows, want)
			if diff := groups - tc.groups; diff < -tc.groups/4 || diff > tc.groups/4 {
				t.Errorf("%d row groups, about %d expected", groups, tc.groups)
			}
			if info.Rows != int64(tc.rows) {
				t.Errorf("%d rows", info.Rows)
			}
			if ratio := float64(last) / float64(info.Size); ratio < 0.5 || ratio > 1.5 {
				t.Errorf("Bytes said %d before Close, the size is %d", last, info.Size)
			}
		})
	}
}

func TestBytesOfStagedRows(t *testing.T) {
	sc := arrow.NewSchema([]arrow.Field{{Name: "s", Type: arrow.BinaryTypes.String}}, nil)
	f := newTestFile(t, &object{}, sc, Options{}, testTuning(t))
	rb := randomBatch(seeded(t), sc, 10, 0)
	defer rb.Release()
	must(t, f.Write(rb))
	if f.Bytes() <= 0 {
		t.Errorf("Bytes is %d", f.Bytes())
	}
	must(t, f.Abort())
}

func TestNullInNotNullColumnIsRefused(t *testing.T) {
	inner := arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int64})
	for name, tc := range map[string]struct {
		field arrow.Field
		json  string
		bad   string
	}{
		"top":               {arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int64}, `[{"a":1},{"a":null}]`, "row 1 of the batch: column a "},
		"field":             {arrow.Field{Name: "a", Type: inner, Nullable: true}, `[{"a":{"x":1}},{"a":null},{"a":{"x":null}}]`, "row 2 of the batch: column a.x "},
		"field, null above": {arrow.Field{Name: "a", Type: inner, Nullable: true}, `[{"a":{"x":1}},{"a":null}]`, ""},
		"element": {arrow.Field{Name: "a", Type: arrow.ListOfNonNullable(arrow.PrimitiveTypes.Int64), Nullable: true},
			`[{"a":[1]},{"a":null},{"a":[]},{"a":[2,null]}]`, "column a.element "},
		"element, fine": {arrow.Field{Name: "a", Type: arrow.ListOfNonNullable(arrow.PrimitiveTypes.Int64), Nullable: true},
			`[{"a":[1]},{"a":null},{"a":[]},{"a":[2,3]}]`, ""},
		"field of element": {arrow.Field{Name: "a", Type: arrow.ListOf(inner), Nullable: true},
			`[{"a":[{"x":1}]},{"a":null},{"a":[null,{"x":null}]}]`, "column a.element.x "},
		"field of value": {arrow.Field{Name: "a", Type: arrow.MapOf(arrow.BinaryTypes.String, inner), Nullable: true},
			`[{"a":[{"key":"k","value":null}]},{"a":[{"key":"k","value":{"x":null}}]}]`, "row 1 of the batch: column a.value.x "},
	} {
		t.Run(name, func(t *testing.T) {
			sc := arrow.NewSchema([]arrow.Field{tc.field}, nil)
			rb := fromJSON(t, sc, tc.json)
			f := newTestFile(t, &object{}, sc, Options{}, testTuning(t))
			err := f.Write(rb)
			if tc.bad == "" {
				must(t, err)
			} else if err == nil || !strings.Contains(err.Error(), tc.bad) {
				t.Errorf("got %v", err)
			}
			must(t, f.Abort())
		})
	}
}

func fromJSON(t testing.TB, sc *arrow.Schema, js string) arrow.RecordBatch {
	t.Helper()
	rb, _, err := array.RecordFromJSON(memory.DefaultAllocator, sc, strings.NewReader(js))
	must(t, err)
	return rb
}

// TestLittleMemory: a file with less memory has its rows leave it earlier.
func TestLittleMemory(t *testing.T) {
	sc := arrow.NewSchema([]arrow.Field{{Name: "data", Type: arrow.BinaryTypes.Binary}}, nil)
	random := seeded(t)
	groups := func(limit int64) (n int, held int64) {
		t.Helper()
		o := &object{}
		f, err := New(t.Context(), o, "x", sc, Options{Memory: limit})
		must(t, err)
		b := array.NewBinaryBuilder(memory.DefaultAllocator, arrow.BinaryTypes.Binary)
		value := make([]byte, 1<<10)
		written := int64(0)
		for range 20 {
			for range 1 << 10 {
				for i := range value {
					value[i] = byte(random.Uint32())
				}
				b.Append(value)
			}
			column := b.NewArray()
			rb := array.NewRecordBatch(sc, []arrow.Array{column}, int64(column.Len()))
			must(t, f.Write(rb))
			written += 1 << 20
			held = max(held, written-int64(o.Len()))
			rb.Release()
			column.Release()
		}
		_, err = f.Close()
		must(t, err)
		r, err := file.NewParquetReader(bytes.NewReader(o.Bytes()))
		must(t, err)
		defer func() { must(t, r.Close()) }()
		return r.NumRowGroups(), held
	}
	if n, held := groups(0); n != 1 || held < 16<<20 {
		t.Errorf("a file alone has %d row groups, and held %d bytes", n, held)
	}
	if n, held := groups(1 << 20); n < 5 || held > 4<<20 {
		t.Errorf("a file with 1 MiB has %d row groups, and held %d bytes", n, held)
	}
}
