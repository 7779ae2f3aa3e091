package sink_test

import (
	"fmt"
	"path"
	"strings"
	"testing"

	arrowmemory "github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/checkpoint"
	"kafkadelta/sink"
)

// TestTheLargestFileIsFinishedFirst: past the memory of all open files the row groups of those that have the most rows are ended, and the files stay open. Of many
// values these are too small for that: then the file that has the most rows is finished, however late its last rows came. Those of few rows stay open to the flush.
func TestTheLargestFileIsFinishedFirst(t *testing.T) {
	t.Run("few values, whose row groups end early", func(t *testing.T) { finishedEarly(t, 3, false) })
	t.Run("many values, each with little", func(t *testing.T) { finishedEarly(t, 24, true) })
}

// finishedEarly writes rows of so many values with much, and of a few with little.
func finishedEarly(t *testing.T, large int, want bool) {
	const rounds, small = 40, 5
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
