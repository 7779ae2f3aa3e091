package decode

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/twmb/franz-go/pkg/kgo"
)

func newRows(t *testing.T, cfg Config, fields ...arrow.Field) *Rows {
	t.Helper()
	plan, err := NewPlan(arrow.NewSchema(fields, nil), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return plan.NewRows()
}

var everyType = arrow.StructOf(
	nullable("bool", arrow.FixedWidthTypes.Boolean), nullable("i8", arrow.PrimitiveTypes.Int8), nullable("i16", arrow.PrimitiveTypes.Int16),
	nullable("i32", tInt), nullable("i64", tLong), nullable("f32", arrow.PrimitiveTypes.Float32), nullable("f64", arrow.PrimitiveTypes.Float64),
	nullable("dec", &arrow.Decimal128Type{Precision: 20, Scale: 2}), nullable("date", tDate), nullable("ts", tTime),
	nullable("ntz", &arrow.TimestampType{Unit: arrow.Microsecond}), nullable("s", tString), nullable("bin", arrow.BinaryTypes.Binary),
	nullable("list", arrow.ListOf(tString)), nullable("map", arrow.MapOf(tString, tLong)),
	nullable("struct", arrow.StructOf(nullable("x", tInt))),
)

// appendRandom appends a row to our builder and to arrow's; with a nil ref only to ours.
func appendRandom(rnd *rand.Rand, b *Builder, ref array.Builder) {
	if rnd.IntN(4) == 0 {
		b.AppendNull()
		if ref != nil {
			ref.AppendNull()
		}
		return
	}
	n := rnd.Uint64()
	text := strings.Repeat("text", int(n%5))
	if ref == nil {
		ref = array.NewBuilder(arrowMemory, b.Type)
		defer ref.Release()
	}
	switch ref := ref.(type) {
	case *array.BooleanBuilder:
		b.AppendBool(n%2 == 0)
		ref.Append(n%2 == 0)
	case *array.Int8Builder:
		b.AppendInt8(int8(n))
		ref.Append(int8(n))
	case *array.Int16Builder:
		b.AppendInt16(int16(n))
		ref.Append(int16(n))
	case *array.Int32Builder:
		b.AppendInt32(int32(n))
		ref.Append(int32(n))
	case *array.Int64Builder:
		b.AppendInt64(int64(n))
		ref.Append(int64(n))
	case *array.Float32Builder:
		b.AppendFloat32(float32(n))
		ref.Append(float32(n))
	case *array.Float64Builder:
		b.AppendFloat64(float64(n))
		ref.Append(float64(n))
	case *array.Decimal128Builder:
		v := decimal128.FromI64(int64(n))
		b.AppendDecimal(v)
		ref.Append(v)
	case *array.Date32Builder:
		b.AppendInt32(int32(n))
		ref.Append(arrow.Date32(int32(n)))
	case *array.TimestampBuilder:
		b.AppendInt64(int64(n))
		ref.Append(arrow.Timestamp(int64(n)))
	case *array.StringBuilder:
		b.AppendString(text)
		ref.Append(text)
	case *array.BinaryBuilder:
		b.AppendBytes([]byte(text))
		ref.Append([]byte(text))
	case *array.StructBuilder:
		ref.Append(true)
		for i, c := range b.Children {
			appendRandom(rnd, c, ref.FieldBuilder(i))
		}
		b.EndRow()
	case *array.MapBuilder:
		ref.Append(true)
		for range n % 3 {
			b.Children[0].Children[0].AppendString(text)
			ref.KeyBuilder().(*array.StringBuilder).Append(text)
			appendRandom(rnd, b.Children[0].Children[1], ref.ItemBuilder())
			b.Children[0].EndRow()
		}
		b.EndRow()
	case *array.ListBuilder:
		ref.Append(true)
		for range n % 3 {
			appendRandom(rnd, b.Children[0], ref.ValueBuilder())
		}
		b.EndRow()
	default:
		panic(ref)
	}
}

// TestBuildersAgainstArrow appends random rows of every type, rolls some back, and compares with arrow's builders.
func TestBuildersAgainstArrow(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	rows := newRows(t, Config{}, nullable("v", everyType))
	for round := range 30 {
		ref := array.NewBuilder(arrowMemory, everyType)
		n := rnd.IntN(200)
		for range n {
			rec := &kgo.Record{}
			if err := rows.Begin(rec); err != nil {
				t.Fatal(err)
			}
			for rnd.IntN(3) == 0 {
				appendRandom(rnd, rows.Columns[0], nil)
				if rnd.IntN(2) == 0 { // a row that is not even complete
					rows.Columns[0].Children[rnd.IntN(13)].AppendNull()
					appendRandom(rnd, rows.Columns[0].Children[13].Children[0], nil)
				}
				rows.Rollback()
			}
			appendRandom(rnd, rows.Columns[0], ref)
			rows.Commit(rec)
		}
		if rows.Len() != n {
			t.Fatalf("%d rows, want %d", rows.Len(), n)
		}
		if size := rows.Bytes(); n > 0 && size < n*40 {
			t.Errorf("%d rows are %d bytes", n, size)
		}
		batch := rows.NewBatch()
		want := ref.NewArray()
		if got := batch.Column(0); !array.Equal(got, want) || got.NullN() != want.NullN() {
			t.Fatalf("round %d\ngot  %v\nwant %v", round, got, want)
		}
		if !batch.Schema().Equal(rows.schema) {
			t.Errorf("schema %v", batch.Schema())
		}
		if round%5 == 4 {
			defer batch.Release() // not released before the next append: it must stay valid
			defer func() {
				if !array.Equal(batch.Column(0), want) {
					t.Errorf("round %d: a batch that was still held has changed", round)
				}
			}()
			continue
		}
		batch.Release()
		if open := rows.lease.open.Load(); open != 0 {
			t.Errorf("%d buffers are still leased", open)
		}
	}
}

// TestRemovedRowsAgainstArrow takes random rows out of what is appended, and compares with arrow's builders, which have never had them.
func TestRemovedRowsAgainstArrow(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 2))
	list := arrow.ListOf(arrow.StructOf(nullable("v", everyType), nullable("deep", arrow.ListOf(arrow.MapOf(tString, everyType)))))
	rows := newRows(t, Config{}, nullable("v", list))
	for round := range 30 {
		ref := array.NewListBuilder(arrowMemory, list.Elem())
		for range 5 {
			rec := &kgo.Record{}
			if err := rows.Begin(rec); err != nil {
				t.Fatal(err)
			}
			b := rows.Columns[0]
			first := b.Children[0].Len
			gone := make([]bool, rnd.IntN(40))
			ref.Append(true)
			for i := range gone {
				if gone[i] = rnd.IntN(3) == 0; gone[i] {
					appendRandom(rnd, b.Children[0], nil)
				} else {
					appendRandom(rnd, b.Children[0], ref.ValueBuilder())
				}
			}
			b.Children[0].remove(first, gone)
			b.EndRow()
			rows.Commit(rec)
		}
		batch, want := rows.NewBatch(), ref.NewArray()
		if got := batch.Column(0); !array.Equal(got, want) {
			t.Fatalf("round %d\ngot  %v\nwant %v", round, got, want)
		}
		if got, want := nullsBelow(batch.Column(0).Data()), nullsBelow(want.Data()); got != want {
			t.Fatalf("round %d: %d nulls are counted, want %d", round, got, want)
		}
		batch.Release()
		want.Release()
		ref.Release()
	}
}

func nullsBelow(d arrow.ArrayData) int {
	n := d.NullN()
	for _, c := range d.Children() {
		n += nullsBelow(c)
	}
	return n
}

func TestBuffersAreUsedAgain(t *testing.T) {
	rows := newRows(t, Config{}, nullable("n", tLong))
	add := func() {
		if err := rows.Begin(&kgo.Record{}); err != nil {
			t.Fatal(err)
		}
		rows.Columns[0].AppendInt64(1)
		rows.Commit(&kgo.Record{})
	}
	add()
	first := &rows.Columns[0].Data[0]
	rows.NewBatch().Release()
	add()
	if &rows.Columns[0].Data[0] != first {
		t.Error("a released buffer was not used again")
	}
	held := rows.NewBatch()
	rows.Reset()
	add()
	if &rows.Columns[0].Data[0] == first {
		t.Error("a buffer was used again while a batch still held it")
	}
	held.Release()
	rows.NewBatch().Release()
	if empty := rows.NewBatch(); empty.NumRows() != 0 {
		t.Errorf("%d rows", empty.NumRows())
	}
}

func TestBatchFull(t *testing.T) {
	rows := newRows(t, Config{}, nullable("s", tString))
	rows.limit = 1000
	rec := func(n int) *kgo.Record { return &kgo.Record{Topic: "t", Value: make([]byte, n)} }
	if err := rows.Begin(rec(900)); err != nil {
		t.Fatal(err)
	}
	rows.Columns[0].AppendBytes(rec(900).Value)
	rows.Commit(rec(900))
	var later *RetryLaterError
	if err := rows.Begin(rec(100)); !errors.As(err, &later) || !errors.Is(err, ErrBatchFull) || later.RetryLater() != 0 {
		t.Fatalf("got %v, want a full batch", err)
	}
	rows.NewBatch().Release()
	if err := rows.Begin(rec(100)); err != nil {
		t.Errorf("got %v after the batch was taken", err)
	}
	var poison *PoisonError
	if err := rows.Begin(rec(1000)); !errors.As(err, &poison) || poison.Reason != ReasonTooLarge {
		t.Errorf("got %v, want %s", err, ReasonTooLarge)
	}
	headers := rec(10)
	headers.Headers = []kgo.RecordHeader{{Key: "k", Value: make([]byte, 1000)}}
	if err := rows.Begin(headers); !errors.As(err, &poison) || poison.Reason != ReasonTooLarge {
		t.Errorf("got %v, want %s for headers", err, ReasonTooLarge)
	}
}

func TestMetadataSubsetAndSuperset(t *testing.T) {
	kafka := nullable("src", arrow.StructOf(nullable("offset", tLong), nullable("cluster", tString), nullable("topic", tString)))
	rows := newRows(t, Config{Metadata: MetadataConfig{Column: "src"}}, nullable("n", tLong), kafka)
	for i := range 3 {
		rec := &kgo.Record{Topic: "t", Offset: int64(i), Timestamp: time.Now()}
		if err := rows.Begin(rec); err != nil {
			t.Fatal(err)
		}
		rows.Columns[0].AppendInt64(1)
		rows.Commit(rec)
	}
	batch := rows.NewBatch()
	defer batch.Release()
	st := batch.Column(1).(*array.Struct)
	if st.Len() != 3 || st.Field(0).(*array.Int64).Value(2) != 2 || st.Field(1).NullN() != 3 || st.Field(2).(*array.String).Value(2) != "t" {
		t.Errorf("got %v", st)
	}
}

func TestMetadataSwitchedOffIsAnOrdinaryColumn(t *testing.T) {
	off := false
	field, _ := MetadataConfig{}.Field()
	plan, err := NewPlan(arrow.NewSchema([]arrow.Field{field}, nil), Config{Metadata: MetadataConfig{Enabled: &off}})
	if err != nil || len(plan.Root().Fields) != 1 {
		t.Errorf("%v %+v", err, plan)
	}
}

func TestErrorsTellTheirKind(t *testing.T) {
	poison := &PoisonError{Topic: "t", Partition: 1, Offset: 2, Path: "a.b", Reason: ReasonEmpty, Detail: "why"}
	if path, reason := poison.Poison(); path != "a.b" || reason != "empty" || poison.Error() != "decoding t/1 offset 2: empty at a.b: why" {
		t.Errorf("got %v", poison)
	}
	later := &RetryLaterError{After: time.Second, Cause: ErrBatchFull}
	if later.RetryLater() != time.Second || !errors.Is(later, ErrBatchFull) || !strings.Contains(later.Error(), "full") {
		t.Errorf("got %v", later)
	}
}

// TestLargeBuffersAreGivenBack: what one very large message made grow is left to its batch, and what some large ones did after batches that have no need of it.
func TestLargeBuffersAreGivenBack(t *testing.T) {
	r := newRows(t, Config{}, nullable("a", tString), nullable("l", arrow.ListOf(tLong)))
	capacity := func() int {
		return cap(r.Columns[0].Data) + cap(r.Columns[1].Children[0].Data)
	}
	batch := func(size int) {
		rec := &kgo.Record{Value: []byte("x")}
		if err := r.Begin(rec); err != nil {
			t.Fatal(err)
		}
		r.Columns[0].AppendBytes(make([]byte, size))
		for range size / 8 {
			r.Columns[1].Children[0].AppendInt64(1)
		}
		r.Columns[1].EndRow()
		r.Commit(rec)
		b := r.NewBatch()
		defer b.Release()
		if got := len(b.Column(0).(*array.String).Value(0)); got != size || b.Column(1).(*array.List).ListValues().Len() != size/8 {
			t.Fatalf("%d bytes of %d", got, size)
		}
	}
	batch(maxKept + 1)
	if n := capacity(); n > 1<<20 {
		t.Errorf("%d bytes are kept of one message", n)
	}
	batch(4 << 20)
	for i := range 2 * maxSparse {
		batch(100)
		if n := capacity(); i < maxSparse-2 && n < 8<<20 || i == 2*maxSparse-1 && n > 1<<20 {
			t.Errorf("%d bytes are kept after %d small batches", n, i+1)
		}
	}
	for range 2 * maxSparse {
		batch(4 << 20)
	}
	if n := capacity(); n < 8<<20 {
		t.Errorf("%d bytes are kept of batches that need them", n)
	}
}
