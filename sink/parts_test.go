package sink_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	arrowmemory "github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/checkpoint"
	"kafkadelta/sink"
	"kafkadelta/sink/datafile"
	"kafkadelta/storage"
)

// keeping is a store that keeps what it is given of a file until it makes a part, as those of clouds do.
type keeping struct {
	storage.Store
	part       int
	put        time.Duration // what a Close takes
	kept, most atomic.Int64  // bytes, of all files
}

func (s *keeping) Create(ctx context.Context, name string) (datafile.Writer, error) {
	w, err := s.Store.Create(ctx, name)
	return &keepingWriter{Writer: w, in: s}, err
}

type keepingWriter struct {
	datafile.Writer
	in   *keeping
	held int
}

func (w *keepingWriter) Held() int { return w.held }

func (w *keepingWriter) holds(n int) {
	kept := w.in.kept.Add(int64(n - w.held))
	w.held = n
	for most := w.in.most.Load(); kept > most && !w.in.most.CompareAndSwap(most, kept); {
		most = w.in.most.Load()
	}
}

func (w *keepingWriter) Write(p []byte) (int, error) {
	w.holds((w.held + len(p)) % w.in.part)
	return w.Writer.Write(p)
}

func (w *keepingWriter) Close() error {
	time.Sleep(w.in.put)
	w.holds(0)
	return w.Writer.Close()
}

// TestWhatObjectsKeepIsCounted: of open files it counts with the files, and the largest are finished for it; of finished ones it counts with what waits for the store.
func TestWhatObjectsKeepIsCounted(t *testing.T) {
	const limit, part = 2 << 20, 4 << 20 // row groups of 1 MiB
	for name, tc := range map[string]struct {
		values, rows int // of a KiB, for each value
		put          time.Duration
		most         int64
	}{
		"open files with a row group": {30, 1200, 0, 8<<20 + limit/8 + 2<<20}, // the files' memory, what is kept besides, and the row group that is put now
		"finished ones that are put":  {150, 200, time.Second, limit + 1<<20}, // with the file that is being finished; open ones have no row group yet
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.columns, b.cfg.PartitionBy, b.limit = "n BIGINT, txt STRING, p STRING", []string{"p"}, limit
				store := &keeping{Store: b.memory, part: part, put: tc.put}
				table := b.open(store)
				b.check(table.Pin(t.Context(), pins(1)))
				b.claim(table, 0)
				layout, err := table.Layout(t.Context())
				b.check(err)
				uploads := sink.NewUploads(func() int64 { return limit })
				defer uploads.Wait()
				w := table.NewWriter(layout)
				w.Share(uploads)
				n := int64(0)
				for value := range tc.values {
					for range tc.rows / 100 {
						var rows []map[string]any
						for range 100 {
							rows = append(rows, map[string]any{"n": n, "txt": strings.Repeat(fmt.Sprintf("%07d ", n), 128), "p": fmt.Sprint(value)})
							n++
						}
						rb := batchOf(t, arrowmemory.DefaultAllocator, layout.Schema, rows, false)
						b.check(w.Write(t.Context(), rb))
						rb.Release()
						if tc.put == 0 {
							synctest.Wait() // what was handed over is put
						}
					}
				}
				u, err := w.Finish([]checkpoint.Span{span(0, 0, n)})
				b.check(err)
				b.commit(table, u)
				b.want(u, sink.Landed)
				if got := b.consistent(); got != n {
					t.Errorf("the table has %d rows, want %d", got, n)
				}
				if most := store.most.Load(); most > tc.most || most < tc.most/4 || store.kept.Load() != 0 {
					t.Errorf("objects kept %d bytes at most, and %d in the end, want at most %d and none", most, store.kept.Load(), tc.most)
				}
			})
		})
	}
}
