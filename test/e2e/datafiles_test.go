package e2e

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/storage/local"
)

// dataFileTypes are columns of every type, with a dictionary (d), without (u), with long stretches of nulls (gap) and nested.
const dataFileTypes = `id BIGINT NOT NULL, flag BOOLEAN, i8 TINYINT, i16 SMALLINT, d_i32 INT, u_i32 INT, d_i64 BIGINT, u_i64 BIGINT,
	f32 FLOAT, d_f64 DOUBLE, u_f64 DOUBLE, d7 DECIMAL(7,2), d18 DECIMAL(18,3), d_d38 DECIMAL(38,10), u_d30 DECIMAL(30,0),
	day DATE, ts TIMESTAMP, ntz TIMESTAMP_NTZ, d_text STRING, u_text STRING, one STRING, empty STRING, none STRING, huge STRING, d_bin BINARY, u_bin BINARY,
	gap_text STRING, gap_i64 BIGINT, sure STRING NOT NULL,
	st STRUCT<a: INT, b: STRUCT<c: STRING, d: DECIMAL(30,2)>>, l ARRAY<STRING>, ll ARRAY<ARRAY<BIGINT>>,
	ls ARRAY<STRUCT<x: INT, y: ARRAY<DOUBLE>>>, m MAP<STRING, BIGINT>, ms MAP<STRING, STRUCT<p: STRING, q: ARRAY<INT>>>, sl STRUCT<v: ARRAY<DATE>>`

const dataFileRows = 8_000

// TestReadersOfDataFiles: pyarrow, DuckDB, delta-rs (parquet-rs) and Spark find in a file of many pages, of every type and encoding, what
// was written to it.
func TestReadersOfDataFiles(t *testing.T) {
	schema, err := delta.ParseDDL(dataFileTypes)
	fatal(t, err)
	folder := t.TempDir()
	table, written := filepath.Join(folder, "table"), filepath.Join(folder, "written.arrow")
	store, err := local.New(table)
	fatal(t, err)
	cfg := sink.DefaultConfig()
	cfg.URI = table
	to, err := sink.Open(t.Context(), store, cfg, sink.Options{
		Create: schema, Engine: "kafkadelta/test", Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	fatal(t, err)
	layout, err := to.Layout(t.Context())
	fatal(t, err)
	out, err := os.Create(written)
	fatal(t, err)
	copyOf, err := ipc.NewFileWriter(out, ipc.WithSchema(layout.Schema))
	fatal(t, err)
	w := to.NewWriter(layout)
	rng := rand.New(rand.NewPCG(8, 8))
	for row := 0; row < dataFileRows; {
		b := array.NewRecordBuilder(memory.DefaultAllocator, layout.Schema)
		for end := min(row+1+rng.IntN(2000), dataFileRows); row < end; row++ {
			for i, f := range layout.Schema.Fields() {
				appendDataFileValue(t, b.Field(i), f, f.Name, rng, row)
			}
		}
		rb := b.NewRecordBatch()
		fatal(t, w.Write(t.Context(), rb))
		fatal(t, copyOf.Write(rb))
		rb.Release()
		b.Release()
	}
	fatal(t, copyOf.Close())
	u, err := w.FinishAppend()
	fatal(t, err)
	_, _, err = to.Append(t.Context(), u, sink.AppTxn{})
	fatal(t, err)

	files, err := filepath.Glob(filepath.Join(table, "*.parquet"))
	fatal(t, err)
	text, err := exec.Command(python(t), slices.Concat([]string{"-B", filepath.Join("readers", "datafiles.py")}, files, []string{written})...).Output()
	fatal(t, err)
	var read struct{ Written, PyArrow []string }
	fatal(t, json.Unmarshal(text, &read))
	if len(read.Written) != dataFileRows {
		t.Fatalf("%d rows were written", len(read.Written))
	}
	sameTexts(t, "pyarrow", read.PyArrow, read.Written)
	for reader, found := range readTables(t, []string{table})[0] {
		if found.Refused != "" {
			t.Errorf("%s refuses the table: %s", reader, found.Refused)
			continue
		}
		sameTexts(t, reader, found.Rows, read.Written)
	}
	sameTexts(t, "spark", spark(t).plain(t, table), read.Written)
}

func sameTexts(t *testing.T, reader string, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s reads %d rows of %d", reader, len(got), len(want))
		return
	}
	for i := range want {
		if got[i] != want[i] && !sameRow([]byte(got[i]), []byte(want[i])) {
			t.Errorf("%s reads\n%.2000s\nwritten is\n%.2000s", reader, got[i], want[i])
			return
		}
	}
}

// appendDataFileValue appends a value by the column's name and type.
func appendDataFileValue(t testing.TB, b array.Builder, f arrow.Field, name string, rng *rand.Rand, row int) {
	few := strings.HasPrefix(name, "d_") || name == "one"
	switch {
	case name == "id":
		b.(*array.Int64Builder).Append(int64(row))
		return
	case f.Nullable && (name == "none" || strings.HasPrefix(name, "gap_") && row > dataFileRows/2 || name != "one" && rng.IntN(7) == 0):
		b.AppendNull()
		return
	}
	whole := func(width int) int64 {
		if few {
			return int64(rng.IntN(40)) - 20
		}
		return int64(rng.Uint64()) >> (64 - width)
	}
	switch b := b.(type) {
	case *array.BooleanBuilder:
		b.Append(rng.IntN(3) == 0)
	case *array.Int8Builder:
		b.Append(int8(whole(8)))
	case *array.Int16Builder:
		b.Append(int16(whole(16)))
	case *array.Int32Builder:
		b.Append(int32(whole(32)))
	case *array.Int64Builder:
		b.Append(whole(64))
	case *array.Float32Builder:
		b.Append([]float32{0, float32(math.Copysign(0, -1)), float32(math.NaN()), float32(math.Inf(-1)), 0.1, -1e-45}[rng.IntN(6)])
	case *array.Float64Builder:
		if few || rng.IntN(10) == 0 {
			b.Append([]float64{0, math.Copysign(0, -1), math.NaN(), math.Inf(1), 0.1, 5e-324}[rng.IntN(6)])
		} else {
			b.Append(rng.NormFloat64())
		}
	case *array.Decimal128Builder:
		dt := f.Type.(*arrow.Decimal128Type)
		v := decimal128.FromI64(whole(23)) // within seven digits
		if dt.Precision > 7 && !few {
			v = v.Mul(decimal128.FromI64(99_999_999_999))
		}
		b.Append(v)
	case *array.Date32Builder:
		b.Append(arrow.Date32(rng.IntN(3_000_000) - 700_000)) // the years 54 to 8267
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(rng.Int64N(250_000_000_000_000_000) - 60_000_000_000_000_000))
	case *array.StringBuilder:
		b.Append(dataFileText(name, rng, row))
	case *array.BinaryBuilder:
		b.Append([]byte(dataFileText(name, rng, row)))
	case *array.StructBuilder:
		b.Append(true)
		for i, child := range f.Type.(*arrow.StructType).Fields() {
			appendDataFileValue(t, b.FieldBuilder(i), child, child.Name, rng, row)
		}
	case *array.ListBuilder:
		b.Append(true)
		for range max(0, rng.IntN(6)-1) {
			appendDataFileValue(t, b.ValueBuilder(), f.Type.(*arrow.ListType).ElemField(), "element", rng, row)
		}
	case *array.MapBuilder:
		b.Append(true)
		dt := f.Type.(*arrow.MapType)
		for i := range rng.IntN(4) {
			b.KeyBuilder().(*array.StringBuilder).Append(fmt.Sprintf("%c%d", 'a'+i, rng.IntN(1000)))
			appendDataFileValue(t, b.ItemBuilder(), dt.ItemField(), "value", rng, row)
		}
	default:
		t.Fatalf("no values for %T", b)
	}
}

func dataFileText(name string, rng *rand.Rand, row int) string {
	switch {
	case name == "one":
		return "always the same"
	case name == "empty":
		return ""
	case name == "huge" && row == dataFileRows/3:
		return strings.Repeat("größe ", 500_000)
	case name == "huge":
		return strings.Repeat("z", rng.IntN(3))
	case strings.HasPrefix(name, "d_"):
		return fmt.Sprintf("wörd %d", rng.IntN(300))
	}
	return fmt.Sprintf("%016x%016x%016x-%d-%s", rng.Uint64(), rng.Uint64(), rng.Uint64(), row, []string{"", "é", "漢字", "\U0010ffff", "\x00"}[rng.IntN(5)])
}
