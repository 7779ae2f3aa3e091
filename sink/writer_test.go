package sink_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/compute"
	arrowmemory "github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/storage/faultstore"
)

// nested are the data columns of the writer's tests: every shape that gathering rows must copy.
const nested = "n BIGINT, txt STRING, bin BINARY, flag BOOLEAN, dec DECIMAL(20,3), s STRUCT<a: BIGINT, b: ARRAY<STRING>>, l ARRAY<STRUCT<x: INT, y: STRING>>, m MAP<STRING, BIGINT>"

// nestedRow is row n of a batch as JSON, nulls at every level among it; values are those of partition columns.
func nestedRow(n int, values map[string]any) map[string]any {
	row := map[string]any{
		"n": n, "txt": fmt.Sprintf("text %d", n), "bin": []byte{byte(n), 0, 1}, "flag": n%3 == 0, "dec": fmt.Sprintf("%d.125", n),
		"s": map[string]any{"a": n * 2, "b": []any{fmt.Sprint(n), nil, "x"}},
		"l": []any{map[string]any{"x": n, "y": nil}, nil, map[string]any{"x": nil, "y": "y"}},
		"m": []any{map[string]any{"key": fmt.Sprint("k", n), "value": n}, map[string]any{"key": "null", "value": nil}},
	}
	switch n % 5 {
	case 1:
		row["txt"], row["s"], row["flag"] = nil, nil, nil
	case 2:
		row["l"], row["m"], row["dec"] = nil, nil, nil
	case 3:
		row["l"], row["m"], row["bin"] = []any{}, []any{}, nil
		row["s"] = map[string]any{"a": nil, "b": nil}
	}
	maps.Copy(row, values)
	return row
}

// batchOf builds a batch of the schema from rows, sliced out of a longer one if asked, as decoders may hand it over.
func batchOf(t *testing.T, mem arrowmemory.Allocator, schema *arrow.Schema, rows []map[string]any, sliced bool) arrow.RecordBatch {
	t.Helper()
	all := rows
	if sliced {
		all = append(append([]map[string]any{rows[0], rows[0], rows[0]}, rows...), rows[0])
	}
	js, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	rb, _, err := array.RecordFromJSON(mem, schema, bytes.NewReader(js))
	if err != nil {
		t.Fatal(err)
	}
	if !sliced {
		return rb
	}
	defer rb.Release()
	return rb.NewSlice(3, int64(3+len(rows)))
}

// rowsOf spells the rows of a batch as JSON by column n.
func rowsOf(t *testing.T, rb arrow.RecordBatch, into map[string]string, extra func(row map[string]any)) {
	t.Helper()
	var out bytes.Buffer
	if err := array.RecordToJSON(rb, &out); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		var row map[string]any
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		if err := d.Decode(&row); err != nil {
			t.Fatal(err)
		}
		if extra != nil {
			extra(row)
		}
		text, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		n := fmt.Sprint(row["n"])
		if into[n] != "" {
			t.Errorf("row %s is there twice", n)
		}
		into[n] = string(text)
	}
}

// readBack spells the rows of the whole table under the columns' own names, the partition values put back.
func (b *bench) readBack() map[string]string {
	b.t.Helper()
	rows := map[string]string{}
	names := map[string]string{}
	physicalNames(b.t, b.snapshot().Schema().Fields(), names)
	for add, err := range b.snapshot().Files(b.t.Context()) {
		b.check(err)
		name, err := delta.DecodePath(add.Path)
		b.check(err)
		table, err := pqarrow.ReadTable(b.t.Context(), bytes.NewReader(b.object(name)), parquet.NewReaderProperties(nil), pqarrow.ArrowReadProperties{}, arrowmemory.DefaultAllocator)
		b.check(err)
		reader := array.NewTableReader(table, 0)
		for reader.Next() {
			rowsOf(b.t, reader.RecordBatch(), rows, func(row map[string]any) {
				rename(row, names)
				for physical, value := range add.PartitionValues {
					column := physical
					if name, ok := names[physical]; ok {
						column = name
					}
					inFile, ok := row[column]
					if ok != b.materialized {
						b.t.Errorf("the data file holds the partition column %s: %v", column, ok)
					} else if ok && ((inFile == nil) != (value == nil) || value != nil && fmt.Sprint(inFile) != *value) {
						b.t.Errorf("the data file holds %v in the partition column %s, the log has another value", inFile, column)
					}
					row[column] = nil
					if value != nil {
						row[column] = *value
					}
				}
			})
		}
		reader.Release()
		table.Release()
	}
	return rows
}

// physicalNames finds the columns' own names by the names in data files, where those are other ones.
func physicalNames(t *testing.T, fields []arrow.Field, names map[string]string) {
	t.Helper()
	for _, f := range fields {
		var meta struct {
			Physical string `json:"delta.columnMapping.physicalName"`
		}
		if js, ok := f.Metadata.GetValue(delta.MetadataKey); ok {
			if err := json.Unmarshal([]byte(js), &meta); err != nil {
				t.Fatal(err)
			}
		}
		if meta.Physical != "" {
			names[meta.Physical] = f.Name
		}
		nestedNames(t, f.Type, names)
	}
}

func nestedNames(t *testing.T, dt arrow.DataType, names map[string]string) {
	t.Helper()
	switch dt := dt.(type) {
	case *arrow.StructType:
		physicalNames(t, dt.Fields(), names)
	case *arrow.ListType:
		nestedNames(t, dt.Elem(), names)
	case *arrow.MapType:
		nestedNames(t, dt.KeyType(), names)
		nestedNames(t, dt.ItemType(), names)
	}
}

// rename gives the keys of objects their columns' own names.
func rename(value any, names map[string]string) {
	switch value := value.(type) {
	case []any:
		for _, v := range value {
			rename(v, names)
		}
	case map[string]any:
		for _, key := range slices.Collect(maps.Keys(value)) {
			rename(value[key], names)
			if name, ok := names[key]; ok {
				value[name] = value[key]
				delete(value, key)
			}
		}
	}
}

// special are values that folders, URIs and readers treat in a special way.
var special = []any{nil, "", "plain", "a b", "a/b", "../up", "k=v", "100%", "%41", "é", "日本", "#?&+;:,'\"\\", "{x}", "tab\tnew\nline", "~", ".", "*", "__HIVE_DEFAULT_PARTITION__x"}

func TestPartitionedWriterRoundTrips(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	cases := map[string]struct {
		columns    string
		by         []string
		rows       int
		value      func(i int) map[string]any
		properties map[string]string
	}{
		"column mapping": {columns: nested, rows: 300, value: func(int) map[string]any { return nil }, properties: map[string]string{"delta.columnMapping.mode": "id"}},
		"column mapping, partitioned": {columns: nested + ", p STRING", by: []string{"p"}, rows: 300, value: func(i int) map[string]any {
			return map[string]any{"p": special[i%len(special)]}
		}, properties: map[string]string{"delta.columnMapping.mode": "name"}},
		"partition columns in the files": {columns: "p STRING, " + nested + ", b BIGINT", by: []string{"b", "p"}, rows: 200, value: func(i int) map[string]any {
			return map[string]any{"p": special[i%len(special)], "b": []any{nil, 7}[i%2]}
		}, properties: map[string]string{"delta.enableIcebergCompatV2": "true"}},
		"random prefixes": {columns: nested + ", p STRING", by: []string{"p"}, rows: 50, value: func(i int) map[string]any {
			return map[string]any{"p": special[i%len(special)]}
		}, properties: map[string]string{"delta.randomizeFilePrefixes": "true", "delta.randomPrefixLength": "3"}},
		"not partitioned":               {columns: nested, rows: 500, value: func(int) map[string]any { return nil }},
		"one value":                     {columns: nested + ", p STRING", by: []string{"p"}, rows: 500, value: func(int) map[string]any { return map[string]any{"p": "x"} }},
		"all null":                      {columns: nested + ", p STRING", by: []string{"p"}, rows: 50, value: func(int) map[string]any { return map[string]any{"p": nil} }},
		"long runs":                     {columns: nested + ", p STRING", by: []string{"p"}, rows: 900, value: func(i int) map[string]any { return map[string]any{"p": fmt.Sprint(i / 300)} }},
		"two runs, one of a single row": {columns: nested + ", p STRING", by: []string{"p"}, rows: 600, value: func(i int) map[string]any { return map[string]any{"p": fmt.Sprint(i / 599)} }},
		"random values":                 {columns: nested + ", p STRING", by: []string{"p"}, rows: 500, value: func(int) map[string]any { return map[string]any{"p": fmt.Sprint(rnd.IntN(20))} }},
		"alternating with null":         {columns: nested + ", p STRING", by: []string{"p"}, rows: 100, value: func(i int) map[string]any { return map[string]any{"p": []any{nil, "a"}[i%2]} }},
		"special characters":            {columns: nested + ", p STRING", by: []string{"p"}, rows: 200, value: func(i int) map[string]any { return map[string]any{"p": special[i%len(special)]} }},
		"more values than open files":   {columns: "n BIGINT, txt STRING, p STRING", by: []string{"p"}, rows: 700, value: func(int) map[string]any { return map[string]any{"p": fmt.Sprint(rnd.IntN(300))} }},
		"three columns, one first": {columns: "i INT, " + nested + ", b BOOLEAN, d DECIMAL(10,2)", by: []string{"d", "i", "b"}, rows: 600, value: func(int) map[string]any {
			return map[string]any{"i": []any{nil, -1, 7}[rnd.IntN(3)], "b": []any{nil, true, false}[rnd.IntN(3)], "d": []any{nil, "1.25", "-0.75"}[rnd.IntN(3)]}
		}},
	}
	for name, c := range cases {
		for _, sliced := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, sliced %v", name, sliced), func(t *testing.T) {
				mem := arrowmemory.NewCheckedAllocator(arrowmemory.DefaultAllocator)
				defer mem.AssertSize(t, 0)
				b := newBench(t)
				b.columns, b.cfg.PartitionBy, b.cfg.Properties = c.columns, c.by, c.properties
				b.materialized = c.properties["delta.enableIcebergCompatV2"] == "true"
				table := b.owner(1)
				layout, err := table.Layout(t.Context())
				b.check(err)
				want := map[string]string{}
				w := table.NewWriter(layout)
				ctx := compute.WithAllocator(t.Context(), mem)
				for batch := range 2 { // the second into the same files
					var rows []map[string]any
					for i := range c.rows {
						rows = append(rows, nestedRow(batch*c.rows+i, c.value(i)))
					}
					rb := batchOf(t, mem, layout.Schema, rows, sliced)
					rowsOf(t, rb, want, func(row map[string]any) {
						for _, p := range c.by { // as a reader gets it from the log
							if v, ok := row[p]; ok && v != nil {
								row[p] = strings.Trim(fmt.Sprint(v), `"`)
							}
							if row[p] == "" {
								row[p] = nil
							}
						}
					})
					b.check(w.Write(ctx, rb))
					rb.Release()
				}
				u, err := w.Finish([]checkpoint.Span{span(0, 0, int64(2*c.rows))})
				b.check(err)
				b.commit(table, u)
				b.want(u, sink.Landed)
				got := b.readBack()
				if len(got) != len(want) {
					t.Errorf("the table holds %d rows, want %d", len(got), len(want))
				}
				bad := 0
				for n, w := range want {
					if got[n] != w {
						if bad++; bad < 4 {
							t.Errorf("row %s\n got %s\nwant %s", n, got[n], w)
						}
					}
				}
				for _, f := range b.files() {
					for folder := range strings.SplitSeq(f, "/") {
						if folder == ".." || folder == "." || folder == "" {
							t.Errorf("file %q leaves its folder", f)
						}
					}
				}
			})
		}
	}
}

// TestManyPartitionValues has rows of 1,500 values in turn. With enough memory there is one file for each, and none is opened before the flush;
// with little, the largest are finished early. No row gets lost either way.
func TestManyPartitionValues(t *testing.T) {
	const values, batches, rows = 1500, 20, 900
	for _, limit := range []int64{0, 256 << 10} {
		t.Run(fmt.Sprintf("%d bytes", limit), func(t *testing.T) {
			b := newBench(t)
			b.columns, b.cfg.PartitionBy, b.limit = "n BIGINT, txt STRING, p STRING", []string{"p"}, limit
			table := b.owner(1)
			layout, err := table.Layout(t.Context())
			b.check(err)
			w := table.NewWriter(layout)
			b.store.Reset()
			size := int64(0)
			for i := range batches {
				var all []map[string]any
				for k := range rows {
					all = append(all, map[string]any{"n": i*rows + k, "txt": strings.Repeat("x", 200), "p": fmt.Sprint((i*rows + k) % values)})
				}
				rb := batchOf(t, arrowmemory.DefaultAllocator, layout.Schema, all, false)
				b.check(w.Write(t.Context(), rb))
				rb.Release()
				if n := w.Bytes(); n <= size {
					t.Errorf("after batch %d the writer has %d bytes, before it had %d", i, n, size)
				} else {
					size = n
				}
			}
			early := len(b.files())
			u, err := w.Finish([]checkpoint.Span{span(0, 0, batches*rows)})
			b.check(err)
			b.commit(table, u)
			b.want(u, sink.Landed)
			if got := len(b.readBack()); got != batches*rows {
				t.Errorf("the table holds %d rows, want %d", got, batches*rows)
			}
			files := len(b.files())
			if limit == 0 && (early != 0 || files != values) {
				t.Errorf("%d files, %d of them before the flush: want %d, and none", files, early, values)
			}
			if limit > 0 && early == 0 {
				t.Errorf("no file was finished early, though there are %d bytes for all", limit)
			}
		})
	}
}

// TestManyFilesArePutTogether: a store that takes its time for each file takes that for some of them at once, when they are put and when they
// are deleted; and one that can't be put leaves none of the others behind.
func TestManyFilesArePutTogether(t *testing.T) {
	const values, each = 500, 50 * time.Millisecond
	for _, bad := range []int{-1, 0, values / 2, values - 1} {
		t.Run(fmt.Sprintf("put %d fails", bad), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.columns, b.cfg.PartitionBy = "n BIGINT, p STRING", []string{"p"}
				table := b.owner(1)
				layout, err := table.Layout(t.Context())
				b.check(err)
				var rows []map[string]any
				for i := range values {
					rows = append(rows, map[string]any{"n": i, "p": fmt.Sprint(i)})
				}
				rb := batchOf(t, arrowmemory.DefaultAllocator, layout.Schema, rows, false)
				defer rb.Release()
				puts := 0
				b.store.SetPlan(func(op faultstore.Op) faultstore.Action {
					switch op.Method {
					case faultstore.MethodClose:
						if puts++; puts-1 == bad {
							return faultstore.Fail(nil)
						}
						return faultstore.Delay(each)
					case faultstore.MethodDelete:
						return faultstore.Delay(each)
					}
					return faultstore.Pass()
				})
				w := table.NewWriter(layout)
				b.check(w.Write(t.Context(), rb))
				begun := time.Now()
				u, err := w.Finish([]checkpoint.Span{span(0, 0, values)})
				if took := time.Since(begun); took > 2*time.Second {
					t.Errorf("the flush took %v", took)
				}
				if bad >= 0 {
					if !errors.Is(err, faultstore.ErrInjected) {
						t.Fatalf("the writer answered %v, want the injected error", err)
					}
					begun = time.Now()
					w.Abort(t.Context())
					if took := time.Since(begun); took > 2*time.Second {
						t.Errorf("giving up took %v", took)
					}
					if files := b.files(); len(files) != 0 {
						t.Errorf("%d files stay after Abort, such as %s", len(files), files[0])
					}
					return
				}
				b.check(err)
				b.store.SetPlan(nil)
				b.commit(table, u)
				b.want(u, sink.Landed)
				if got := len(b.readBack()); got != values || len(b.files()) != values {
					t.Errorf("the table holds %d rows in %d files, want %d", got, len(b.files()), values)
				}
			})
		})
	}
}

func TestWriterFailuresLeaveNoFiles(t *testing.T) {
	for _, method := range []string{faultstore.MethodCreate, faultstore.MethodWrite, faultstore.MethodClose} {
		for _, landed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, landed %v", method, landed), func(t *testing.T) {
				b := newBench(t)
				b.columns, b.cfg.PartitionBy = "n BIGINT, p STRING", []string{"p"}
				table := b.owner(1)
				layout, err := table.Layout(t.Context())
				b.check(err)
				var rows []map[string]any
				for i := range 30 {
					rows = append(rows, map[string]any{"n": i, "p": fmt.Sprint(i % 3)})
				}
				rb := batchOf(t, arrowmemory.DefaultAllocator, layout.Schema, rows, false)
				defer rb.Release()
				count := 0
				b.store.SetPlan(func(op faultstore.Op) faultstore.Action {
					if op.Method == method {
						if count++; count == 2 {
							if landed {
								return faultstore.LandThenFail(nil)
							}
							return faultstore.Fail(nil)
						}
					}
					return faultstore.Pass()
				})
				w := table.NewWriter(layout)
				err = w.Write(t.Context(), rb)
				if err == nil {
					_, err = w.Finish([]checkpoint.Span{span(0, 0, 30)})
				}
				if !errors.Is(err, faultstore.ErrInjected) {
					t.Fatalf("the writer answered %v, want the injected error", err)
				}
				if errors.As(err, new(*sink.Error)) {
					t.Errorf("a failure that may pass is final: %v", err)
				}
				w.Abort(t.Context())
				files := b.files()
				if method == faultstore.MethodClose && landed {
					// It landed and the answer was lost. A file that no version names is left to VACUUM, or deleted.
					if len(files) > 1 {
						t.Errorf("files stay after Abort: %v", files)
					}
				} else if len(files) != 0 {
					t.Errorf("files stay after Abort: %v", files)
				}
				b.store.SetPlan(nil)
				b.check(w.Write(t.Context(), rb)) // it can be used again
				u, err := w.Finish([]checkpoint.Span{span(0, 0, 30)})
				b.check(err)
				b.commit(table, u)
				b.want(u, sink.Landed)
				if got := len(b.readBack()); got != 30 {
					t.Errorf("the table holds %d rows, want 30", got)
				}
			})
		}
	}
}

func TestWriterWithoutPermissionIsFinal(t *testing.T) {
	for _, method := range []string{faultstore.MethodCreate, faultstore.MethodWrite, faultstore.MethodClose} {
		t.Run(method, func(t *testing.T) {
			b := newBench(t)
			table := b.owner(1)
			layout, err := table.Layout(t.Context())
			b.check(err)
			b.store.SetPlan(faultstore.When(func(op faultstore.Op) bool { return op.Method == method }, faultstore.Fail(fs.ErrPermission)))
			w := table.NewWriter(layout)
			rb := numbers(layout.Schema, 0, 10)
			defer rb.Release()
			err = w.Write(t.Context(), rb)
			if err == nil {
				_, err = w.Finish([]checkpoint.Span{span(0, 0, 10)})
			}
			var final *sink.Error
			if !errors.As(err, &final) || final.Hint == "" {
				t.Errorf("the writer answered %v, want a *sink.Error with a hint", err)
			}
			w.Abort(t.Context())
		})
	}
}

// TestOpenOfWhatTheStoreRefuses: a request that the store refuses for good, such as in a container that is not there, is told and
// not tried for ever.
func TestOpenOfWhatTheStoreRefuses(t *testing.T) {
	b := newBench(t)
	refused := fmt.Errorf("create the container: %w", fs.ErrInvalid)
	b.store.SetPlan(faultstore.When(func(faultstore.Op) bool { return true }, faultstore.Fail(refused)))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	cfg := sink.DefaultConfig()
	cfg.URI = "memory://refused"
	_, err := sink.Open(ctx, b.store, cfg, sink.Options{Name: "s", Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	var final *sink.Error
	if !errors.As(err, &final) || !errors.Is(err, refused) {
		t.Errorf("got %v, want a *sink.Error with the store's", err)
	}
}

func TestFileNamesAreUniqueAndSpelledAsSparkDoes(t *testing.T) {
	b := newBench(t)
	b.columns, b.cfg.PartitionBy = "n BIGINT, p STRING", []string{"p"}
	table := b.owner(1)
	layout, err := table.Layout(t.Context())
	b.check(err)
	seen := map[string]bool{}
	w := table.NewWriter(layout)
	for i := range 3 {
		rb := batchOf(t, arrowmemory.DefaultAllocator, layout.Schema, []map[string]any{{"n": 1, "p": "a b"}}, false)
		b.check(w.Write(t.Context(), rb))
		rb.Release()
		u, err := w.Finish([]checkpoint.Span{span(0, int64(i), 1)})
		b.check(err)
		b.commit(table, u)
		b.want(u, sink.Landed)
	}
	for _, f := range b.files() {
		if seen[f] || !strings.HasPrefix(f, "p=a b/part-00000-") || !strings.HasSuffix(f, ".c000.parquet") {
			t.Errorf("a data file is named %q", f)
		}
		seen[f] = true
	}
	if len(seen) != 3 {
		t.Errorf("%d files, want 3", len(seen))
	}
}

// TestFilesOfMappedTables looks at names that no reader shows: those in the log, of folders and of the Parquet schema.
func TestFilesOfMappedTables(t *testing.T) {
	b := newBench(t)
	b.columns, b.cfg.PartitionBy = "n BIGINT, s STRUCT<a: BIGINT>, l ARRAY<BIGINT>, p STRING", []string{"p"}
	b.cfg.Properties = map[string]string{"delta.enableIcebergCompatV2": "true", "delta.randomPrefixLength": "9"}
	table := b.owner(1)
	b.commit(table, b.unit(table, span(0, 0, 3)))
	names := map[string]string{}
	physicalNames(t, b.snapshot().Schema().Fields(), names)
	physical := map[string]string{}
	for p, name := range names {
		physical[name] = p
	}
	files := 0
	for add, err := range b.snapshot().Files(t.Context()) {
		b.check(err)
		files++
		if folder, _, _ := strings.Cut(add.Path, "/"); !regexp.MustCompile(`^[A-Za-z0-9]{9}$`).MatchString(folder) {
			t.Errorf("the file %s is in no random folder", add.Path)
		}
		if _, ok := add.PartitionValues[physical["p"]]; !ok || len(add.PartitionValues) != 1 {
			t.Errorf("partition values %v are not by %s", add.PartitionValues, physical["p"])
		}
		want := fmt.Sprintf(`{"numRecords":3,"minValues":{%[1]q:0},"maxValues":{%[1]q:2},"nullCount":{%[1]q:0,%[2]q:{%[3]q:3},%[4]q:3}}`,
			physical["n"], physical["s"], physical["a"], physical["l"])
		if add.Stats != want {
			t.Errorf("statistics\n got %s\nwant %s", add.Stats, want)
		}
		r, err := file.NewParquetReader(bytes.NewReader(b.object(add.Path)))
		b.check(err)
		var got []string
		root := r.MetaData().Schema.Root()
		for i := range root.NumFields() {
			got = append(got, fieldIDs(root.Field(i)))
		}
		wantIDs := fmt.Sprintf("%s#1 %s#2(%s#3) %s#4(list(element#6)) %s#5", physical["n"], physical["s"], physical["a"], physical["l"], physical["p"])
		if strings.Join(got, " ") != wantIDs {
			t.Errorf("Parquet fields\n got %s\nwant %s", strings.Join(got, " "), wantIDs)
		}
	}
	if files != 1 {
		t.Errorf("%d files, want 1", files)
	}
}

// fieldIDs spells a field of a Parquet schema with its id and what is in it.
func fieldIDs(n schema.Node) string {
	out := n.Name()
	if id := n.FieldID(); id >= 0 {
		out += fmt.Sprint("#", id)
	}
	if group, ok := n.(*schema.GroupNode); ok {
		var inner []string
		for i := range group.NumFields() {
			inner = append(inner, fieldIDs(group.Field(i)))
		}
		out += "(" + strings.Join(inner, " ") + ")"
	}
	return out
}
