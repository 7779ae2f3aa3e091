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

// TestTheLargestFileIsFinishedFirst: past the memory of all open files the one that has the most rows is finished, however late its last rows came,
// and those of few rows stay open to the flush.
func TestTheLargestFileIsFinishedFirst(t *testing.T) {
	const rounds, large, small = 40, 3, 5
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
	if len(files[false]) != large || early < 1 {
		t.Errorf("none of the large files was finished early, though there is memory for a part of them: %v", files)
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
