package sink_test

import (
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	arrowmemory "github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/checkpoint"
	"kafkadelta/sink"
)

// TestTheLargestFileIsFinishedFirst: past the memory of all open files the row groups of those that have the most rows are ended, and the files stay open. Of more
// values than files are left open so, the file that has the most rows is finished, however late its last rows came. Those of few rows stay open to the flush.
func TestTheLargestFileIsFinishedFirst(t *testing.T) {
	t.Run("few values, whose row groups end early", func(t *testing.T) { finishedEarly(t, 3, 40, false) })
	t.Run("many values", func(t *testing.T) { finishedEarly(t, 60, 8, true) })
}

// finishedEarly writes rows of so many values with much, and of a few with little.
func finishedEarly(t *testing.T, large, rounds int, want bool) {
	const small = 5
	b := newBench(t)
	b.columns, b.cfg.PartitionBy, b.limit = "n BIGINT, txt STRING, p STRING", []string{"p"}, 16<<20
	table := b.owner(1)
	layout, err := table.Layout(t.Context())
	b.check(err)
	w := table.NewWriter(layout)
	rows := int64(0)
	write := func(value string, n int) {
		var all []map[string]any
		for range n {
			all = append(all, map[string]any{"n": rows, "txt": strings.Repeat(fmt.Sprintf("%07d ", rows), 128), "p": value})
			rows++
		}
		rb := batchOf(t, arrowmemory.DefaultAllocator, layout.Schema, all, false)
		defer rb.Release()
		b.check(w.Write(t.Context(), rb))
		if w.Memory() > table.OpenMemory() {
			t.Errorf("open files take %d bytes, there are %d for all", w.Memory(), table.OpenMemory())
		}
	}
	for range rounds {
		for i := range large {
			write(fmt.Sprint("large-", i), 150)
		}
		for i := range small {
			write(fmt.Sprint("small-", i), 10)
		}
	}
	u, err := w.Finish([]checkpoint.Span{span(0, 0, rows)})
	b.check(err)
	b.commit(table, u)
	b.want(u, sink.Landed)
	files := map[bool]map[string]int{true: {}, false: {}} // by whether they are of few rows
	for _, name := range b.files() {
		folder := path.Dir(name)
		files[strings.HasPrefix(folder, "p=small")][folder]++
	}
	early := 0
	for _, n := range files[false] {
		early += n - 1
	}
	if len(files[false]) != large || early > 0 != want {
		t.Errorf("%d of the large files were finished early: %v", early, files)
	}
	for value, n := range files[true] {
		if n != 1 || len(files[true]) != small {
			t.Errorf("%d files of %s, want one of each of %d small values: %v", n, value, small, files)
		}
	}
	if got := b.consistent(); got != rows {
		t.Errorf("the table has %d rows, want %d", got, rows)
	}
}

// TestFilesOfManyColumnsStayOpen: what their memory goes to is pages that still fill, and before that rows by which the encodings are chosen. Row groups end all the same.
func TestFilesOfManyColumnsStayOpen(t *testing.T) {
	const columns, values, each = 15, 48, 2000
	b := newBench(t)
	b.columns, b.cfg.PartitionBy, b.limit = "p STRING", []string{"p"}, 64<<20
	for i := range columns {
		b.columns += fmt.Sprintf(", c%d STRING", i)
	}
	table := b.owner(1)
	layout, err := table.Layout(t.Context())
	b.check(err)
	w, r, rows := table.NewWriter(layout), rand.New(rand.NewPCG(1, 2)), int64(0)
	text := make([]byte, 20)
	most, full := int64(0), table.OpenMemory()
	for round := 0; w.Bytes() < 64<<20; round++ {
		rb := array.NewRecordBuilder(arrowmemory.DefaultAllocator, layout.Schema)
		for range each {
			for c, f := range layout.Schema.Fields() {
				switch {
				case f.Name == "p":
					rb.Field(c).(*array.StringBuilder).Append(fmt.Sprint(round % values))
				case strings.HasPrefix(f.Name, "c"):
					for i := range text {
						text[i] = "0123456789abcdef"[r.IntN(16)]
					}
					rb.Field(c).(*array.StringBuilder).Append(string(text))
				default: // the metadata
					rb.Field(c).AppendNull()
				}
			}
		}
		batch := rb.NewRecordBatch()
		b.check(w.Write(t.Context(), batch))
		batch.Release()
		rb.Release()
		rows += each
		most = max(most, w.Memory())
	}
	u, err := w.Finish([]checkpoint.Span{span(0, 0, rows)})
	b.check(err)
	if u.Files() != values || most < full/2 || most > full {
		t.Errorf("%d files of %d values, with at most %d bytes of memory, of which there are %d", u.Files(), values, most, full)
	}
}
