package datafile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
)

// primitives are all of Delta's.
func primitives() []arrow.DataType {
	return []arrow.DataType{
		arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int16,
		arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Float64, arrow.PrimitiveTypes.Float32,
		&arrow.Decimal128Type{Precision: 9, Scale: 2}, &arrow.Decimal128Type{Precision: 18, Scale: 0},
		&arrow.Decimal128Type{Precision: 19, Scale: 4}, &arrow.Decimal128Type{Precision: 38, Scale: 38},
		arrow.FixedWidthTypes.Boolean, arrow.BinaryTypes.Binary, arrow.FixedWidthTypes.Date32,
		&arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, &arrow.TimestampType{Unit: arrow.Microsecond},
	}
}

// allTypes gives nullable and required columns of every type, alone and nested.
func allTypes() []arrow.Field {
	var flat, inner []arrow.Field
	for i, dt := range primitives() {
		name := fmt.Sprintf("c%d", i)
		flat = append(flat, arrow.Field{Name: name, Type: dt, Nullable: true}, arrow.Field{Name: name + "_required", Type: dt})
		inner = append(inner, arrow.Field{Name: name, Type: dt, Nullable: i%3 != 0})
	}
	all := arrow.StructOf(inner...)
	nested := []arrow.DataType{
		all,
		arrow.StructOf(arrow.Field{Name: "deep", Type: all, Nullable: true}, arrow.Field{Name: "sure", Type: all}),
		arrow.ListOf(all),
		arrow.ListOfNonNullable(all),
		arrow.ListOf(arrow.ListOf(arrow.PrimitiveTypes.Int64)),
		arrow.ListOf(arrow.MapOf(arrow.BinaryTypes.String, arrow.ListOf(arrow.BinaryTypes.String))),
		arrow.MapOf(arrow.BinaryTypes.String, all),
		arrow.StructOf(arrow.Field{Name: "list", Type: arrow.ListOf(arrow.BinaryTypes.Binary), Nullable: true}),
	}
	for i, dt := range nested {
		name := fmt.Sprintf("n%d", i)
		flat = append(flat, arrow.Field{Name: name, Type: dt, Nullable: true}, arrow.Field{Name: name + "_required", Type: dt})
	}
	return flat
}

// randomBatch makes rows with the given share of nulls where the schema allows them.
func randomBatch(rng *rand.Rand, sc *arrow.Schema, rows int, nulls float64) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, sc)
	defer b.Release()
	for i, f := range sc.Fields() {
		for range rows {
			appendRandom(b.Field(i), f, rng, nulls)
		}
	}
	return b.NewRecordBatch()
}

func appendRandom(b array.Builder, f arrow.Field, rng *rand.Rand, nulls float64) {
	if f.Nullable && rng.Float64() < nulls {
		b.AppendNull()
		return
	}
	switch b := b.(type) {
	case *array.StringBuilder:
		b.Append(randomText(rng))
	case *array.BinaryBuilder:
		b.Append([]byte(randomText(rng)))
	case *array.BooleanBuilder:
		b.Append(rng.IntN(2) == 0)
	case *array.Int8Builder:
		b.Append(int8(rng.Uint64()))
	case *array.Int16Builder:
		b.Append(int16(rng.Uint64()))
	case *array.Int32Builder:
		b.Append(int32(rng.Uint64()) >> rng.IntN(32))
	case *array.Int64Builder:
		b.Append(int64(rng.Uint64()) >> rng.IntN(64))
	case *array.Float32Builder:
		b.Append(float32(rng.NormFloat64()))
	case *array.Float64Builder:
		b.Append(rng.NormFloat64())
	case *array.Date32Builder:
		b.Append(arrow.Date32(rng.IntN(200000) - 100000))
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(rng.Int64N(4e15) - 2e15))
	case *array.Decimal128Builder:
		p := f.Type.(*arrow.Decimal128Type).Precision
		v := decimal128.FromI64(int64(rng.Uint64()) % 1_000_000_000)
		for range (p - 9) / 9 {
			v = v.Mul(decimal128.FromI64(1_000_000_000)).Add(decimal128.FromI64(rng.Int64N(1_000_000_000)))
		}
		b.Append(v)
	case *array.StructBuilder:
		b.Append(true)
		for i, child := range f.Type.(*arrow.StructType).Fields() {
			appendRandom(b.FieldBuilder(i), child, rng, nulls)
		}
	case *array.ListBuilder:
		b.Append(true)
		for range rng.IntN(4) {
			appendRandom(b.ValueBuilder(), f.Type.(*arrow.ListType).ElemField(), rng, nulls)
		}
	case *array.MapBuilder:
		b.Append(true)
		dt := f.Type.(*arrow.MapType)
		for range rng.IntN(4) {
			appendRandom(b.KeyBuilder(), dt.KeyField(), rng, nulls)
			appendRandom(b.ItemBuilder(), dt.ItemField(), rng, nulls)
		}
	default:
		panic(fmt.Sprintf("no values for %T", b))
	}
}

var alphabet = []rune{'a', 'b', 'z', 0, ' ', '"', '\\', '<', 0x7e, 0x7f, 0x80, 'ß', 0x7ff, '漢', 0xd7ff, 0xe000, 0xfffd, 0xffff, 0x10000, '😀', 0x10fffe, 0x10ffff}

// randomText gives texts that often begin alike and are often longer than a statistics prefix.
func randomText(rng *rand.Rand) string {
	switch rng.IntN(4) {
	case 0:
		return strings.Repeat(string(alphabet[rng.IntN(len(alphabet))]), rng.IntN(80))
	case 1:
		return fmt.Sprintf("http://www.site%d.com/", rng.IntN(20))
	}
	text := make([]rune, rng.IntN(50))
	for i := range text {
		text[i] = alphabet[rng.IntN(len(alphabet))]
	}
	return string(text)
}

// rowsOf renders each row as JSON.
func rowsOf(t testing.TB, rb arrow.RecordBatch) []string {
	t.Helper()
	rows := make([]string, rb.NumRows())
	for i := range rows {
		var row strings.Builder
		for c := range int(rb.NumCols()) {
			js, err := json.Marshal(rb.Column(c).GetOneForMarshal(i))
			must(t, err)
			fmt.Fprintf(&row, "%s=%s ", rb.ColumnName(c), js)
		}
		rows[i] = row.String()
	}
	return rows
}

// readRows reads a Parquet file back.
func readRows(t testing.TB, data []byte) (rows []string, groups int) {
	t.Helper()
	mem := memory.DefaultAllocator // arrow-go's reader leaks a little of what is delta encoded
	rd, err := file.NewParquetReader(bytes.NewReader(data))
	must(t, err)
	defer rd.Close()
	fr, err := pqarrow.NewFileReader(rd, pqarrow.ArrowReadProperties{BatchSize: 1000}, mem)
	must(t, err)
	tbl, err := fr.ReadTable(t.Context())
	must(t, err)
	defer tbl.Release()
	tr := array.NewTableReader(tbl, 1000)
	defer tr.Release()
	for tr.Next() {
		rows = append(rows, rowsOf(t, tr.RecordBatch())...)
	}
	must(t, tr.Err())
	return rows, rd.NumRowGroups()
}

func compareRows(t testing.TB, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d rows read, %d written", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("row %d\n got %s\nwant %s", i, got[i], want[i])
		}
	}
}

func TestRoundTripAllTypes(t *testing.T) {
	sc := arrow.NewSchema(allTypes(), nil)
	for _, compression := range compressions {
		for _, nulls := range map[string][]float64{"zstd": {0, 0.3, 1}, "snappy": {0.3}, "none": {0.3}}[compression] {
			t.Run(fmt.Sprintf("%s, nulls %g", compression, nulls), func(t *testing.T) {
				rng := seeded(t)
				o := &object{}
				f := newTestFile(t, o, sc, Options{Config: Config{Compression: compression}}, testTuning(t))
				var want []string
				for _, rows := range []int{1, 0, 77, 130, 1, 100} {
					rb := randomBatch(rng, sc, rows+20, nulls)
					part := rb.NewSlice(13, int64(13+rows)) // offsets in every array
					must(t, f.Write(part))
					want = append(want, rowsOf(t, part)...)
					part.Release()
					rb.Release()
				}
				_, err := f.Close()
				must(t, err)
				got, _ := readRows(t, o.Bytes())
				compareRows(t, got, want)
			})
		}
	}
}

// TestValuesUnderNullStructs: Arrow lets the children of a null struct have values. They must not be written.
func TestValuesUnderNullStructs(t *testing.T) {
	for _, dt := range primitives() {
		for _, nullable := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s %v", dt, nullable), func(t *testing.T) {
				sc := arrow.NewSchema([]arrow.Field{
					{Name: "s", Type: arrow.StructOf(arrow.Field{Name: "x", Type: dt, Nullable: nullable}), Nullable: true},
					{Name: "l", Type: arrow.ListOf(arrow.StructOf(arrow.Field{Name: "x", Type: dt, Nullable: nullable})), Nullable: true},
				}, nil)
				full := randomBatch(seeded(t), sc, 300, 0)
				defer full.Release()
				list := full.Column(1).(*array.List)
				elements := withNulls(list.ListValues().Data())
				lists := array.NewData(list.DataType(), 300, list.Data().Buffers(), []arrow.ArrayData{elements}, 0, 0)
				all := array.NewRecordBatch(sc, []arrow.Array{
					array.MakeFromData(withNulls(full.Column(0).Data())), array.MakeFromData(lists)}, 300)
				rb := all.NewSlice(2, 299)

				o := &object{}
				f := newTestFile(t, o, sc, Options{}, testTuning(t))
				must(t, f.Write(rb))
				info, err := f.Close()
				must(t, err)
				got, _ := readRows(t, o.Bytes())
				compareRows(t, got, rowsOf(t, rb))
				if !strings.Contains(info.Stats, `"nullCount":{"s":{"x":99},"l":0}`) {
					t.Errorf("stats are %s", info.Stats)
				}
			})
		}
	}
}

// withNulls makes every third struct null, without a change to its fields.
func withNulls(d arrow.ArrayData) arrow.ArrayData {
	bitmap := make([]byte, d.Len()/8+1)
	for i := range d.Len() {
		bitutil.SetBitTo(bitmap, i, i%3 != 0)
	}
	return array.NewData(d.DataType(), d.Len(), []*memory.Buffer{memory.NewBufferBytes(bitmap)}, d.Children(), array.UnknownNullCount, 0)
}

// TestParquetSchema pins the physical and logical types that other readers see.
func TestParquetSchema(t *testing.T) {
	id := func(n string) arrow.Metadata { return arrow.MetadataFrom(map[string]string{"PARQUET:field_id": n}) }
	sc := arrow.NewSchema([]arrow.Field{
		{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true, Metadata: id("7")},
		{Name: "b", Type: arrow.BinaryTypes.Binary},
		{Name: "i8", Type: arrow.PrimitiveTypes.Int8, Nullable: true},
		{Name: "i16", Type: arrow.PrimitiveTypes.Int16, Nullable: true},
		{Name: "d9", Type: &arrow.Decimal128Type{Precision: 9, Scale: 2}, Nullable: true},
		{Name: "d18", Type: &arrow.Decimal128Type{Precision: 18, Scale: 2}, Nullable: true},
		{Name: "d38", Type: &arrow.Decimal128Type{Precision: 38, Scale: 2}, Nullable: true},
		{Name: "day", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
		{Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Nullable: true},
		{Name: "ntz", Type: &arrow.TimestampType{Unit: arrow.Microsecond}, Nullable: true},
		{Name: "l", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
		{Name: "m", Type: arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64), Nullable: true},
		{Name: "st", Type: arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int64, Metadata: id("9")}), Nullable: true},
	}, nil)
	meta := arrow.MetadataFrom(map[string]string{"note": "must not be in the file"})
	sc = arrow.NewSchema(sc.Fields(), &meta)
	o := &object{}
	f := newTestFile(t, o, sc, Options{Engine: "kafkadelta/1.2.3"}, testTuning(t))
	rb := randomBatch(seeded(t), sc, 50, 0.1)
	defer rb.Release()
	must(t, f.Write(rb))
	_, err := f.Close()
	must(t, err)

	rd, err := file.NewParquetReader(bytes.NewReader(o.Bytes()))
	must(t, err)
	defer rd.Close()
	want := strings.TrimSpace(`
required group field_id=-1 schema {
  optional byte_array field_id=7 s (String);
  required byte_array field_id=-1 b;
  optional int32 field_id=-1 i8 (Int(bitWidth=8, isSigned=true));
  optional int32 field_id=-1 i16 (Int(bitWidth=16, isSigned=true));
  optional int32 field_id=-1 d9 (Decimal(precision=9, scale=2));
  optional int64 field_id=-1 d18 (Decimal(precision=18, scale=2));
  optional fixed_len_byte_array field_id=-1 d38 (Decimal(precision=38, scale=2));
  optional int32 field_id=-1 day (Date);
  optional int64 field_id=-1 ts (Timestamp(isAdjustedToUTC=true, timeUnit=microseconds, is_from_converted_type=false, force_set_converted_type=false));
  optional int64 field_id=-1 ntz (Timestamp(isAdjustedToUTC=false, timeUnit=microseconds, is_from_converted_type=false, force_set_converted_type=false));
  optional group field_id=-1 l (List) {
    repeated group field_id=-1 list {
      optional byte_array field_id=-1 element (String);
    }
  }
  optional group field_id=-1 m (Map) {
    repeated group field_id=-1 key_value {
      required byte_array field_id=-1 key (String);
      optional int64 field_id=-1 value (Int(bitWidth=64, isSigned=true));
    }
  }
  optional group field_id=-1 st {
    required int64 field_id=9 x (Int(bitWidth=64, isSigned=true));
  }
}`)
	if got := strings.TrimSpace(rd.MetaData().Schema.String()); got != want {
		t.Errorf("the Parquet schema is\n%s", got)
	}
	if got := rd.MetaData().GetCreatedBy(); !strings.HasPrefix(got, "kafkadelta version 1.2.3 (build datafile)") {
		t.Errorf("created_by is %q", got)
	}
	if kv := rd.MetaData().KeyValueMetadata(); kv.Len() != 0 {
		t.Errorf("the footer has metadata %v", kv)
	}
}

// TestTwinPaths: a column named `a.b` beside a struct a with a field b.
func TestTwinPaths(t *testing.T) {
	sc := arrow.NewSchema([]arrow.Field{
		{Name: "a.b", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "a", Type: arrow.StructOf(arrow.Field{Name: "b", Type: arrow.PrimitiveTypes.Int64, Nullable: true}), Nullable: true},
	}, nil)
	o := &object{}
	f := newTestFile(t, o, sc, Options{}, testTuning(t))
	rb := randomBatch(seeded(t), sc, 500, 0.2)
	defer rb.Release()
	must(t, f.Write(rb))
	_, err := f.Close()
	must(t, err)
	got, _ := readRows(t, o.Bytes())
	compareRows(t, got, rowsOf(t, rb))
}

// TestNullRunsInDeltaColumns: columns with values for a while, none for a while, and so on, so that pages of nulls alone
// follow pages of values (see encoder).
func TestNullRunsInDeltaColumns(t *testing.T) {
	text := arrow.Field{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true}
	number := arrow.Field{Name: "number", Type: arrow.PrimitiveTypes.Int64, Nullable: true}
	sc := arrow.NewSchema([]arrow.Field{
		text, number,
		{Name: "some", Type: arrow.StructOf(text, number), Nullable: true},
		{Name: "list", Type: arrow.ListOf(arrow.StructOf(text, number)), Nullable: true},
		{Name: "always", Type: arrow.PrimitiveTypes.Int64},
		{Name: "sure", Type: arrow.BinaryTypes.String},
	}, nil)
	for _, run := range []int{1, 10, 60, 250} {
		for _, full := range []int{0, 3} { // batches with values at the end
			t.Run(fmt.Sprintf("runs of %d, %d", run, full), func(t *testing.T) {
				tn := testTuning(t)
				tn.groupRows = 1 << 20
				tn.choose = func(dt arrow.DataType, s sampled) columnEncoding {
					e := chooseEncoding(dt, s)
					e.dictionary = false
					return e
				}
				rng := seeded(t)
				o := &object{}
				f := newTestFile(t, o, sc, Options{}, tn)
				var want []string
				write := func(rows int, nulls float64) {
					rb := randomBatch(rng, sc, rows, nulls)
					defer rb.Release()
					must(t, f.Write(rb))
					want = append(want, rowsOf(t, rb)...)
				}
				for range 4 {
					for range 5 {
						write(100, 0.3)
					}
					for range 5 {
						write(run, 1)
					}
				}
				for range full {
					write(100, 0.3)
				}
				_, err := f.Close()
				must(t, err)
				got, groups := readRows(t, o.Bytes())
				compareRows(t, got, want)
				if groups != 1 {
					t.Errorf("%d row groups", groups)
				}
			})
		}
	}
}
