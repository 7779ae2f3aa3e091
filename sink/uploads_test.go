package sink_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	arrowmemory "github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/checkpoint"
	"kafkadelta/sink"
	"kafkadelta/storage/faultstore"
)

// slowly is a bubble with a writer on a store that takes 200 ms for each request of a data file.
func slowly(t *testing.T, waiting int64, f func(b *bench, w *sink.Writer, write func(ctx context.Context, value string, rows int) error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.columns, b.cfg.PartitionBy, b.limit = "n BIGINT, txt STRING, p STRING", []string{"p"}, 16<<20
		table := b.owner(1)
		b.store.SetPlan(faultstore.When(isData, faultstore.Delay(200*time.Millisecond)))
		layout, err := table.Layout(t.Context())
		b.check(err)
		uploads := sink.NewUploads(func() int64 { return waiting })
		defer uploads.Wait()
		w := table.NewWriter(layout)
		w.Share(uploads)
		n := 0
		f(b, w, func(ctx context.Context, value string, rows int) error {
			var all []map[string]any
			for range rows {
				all = append(all, map[string]any{"n": n, "txt": strings.Repeat(fmt.Sprintf("%07d ", n), 128), "p": value})
				n++
			}
			rb := batchOf(t, arrowmemory.DefaultAllocator, layout.Schema, all, false)
			defer rb.Release()
			return w.Write(ctx, rb)
		})
	})
}

func isData(op faultstore.Op) bool { return strings.HasSuffix(op.Name, ".parquet") }

// TestNobodyWaitsForPuts: a writer whose open files take too much memory finishes the largest, and goes on while they are put. It waits once as much waits
// for the store as may, and no longer than for that.
func TestNobodyWaitsForPuts(t *testing.T) {
	const values, rounds, rows = 80, 8, 50 // 32 MB, of more values than files are left open to make room
	for name, tc := range map[string]struct {
		waiting     int64
		least, most time.Duration
	}{
		"with room for all":  {64 << 20, 0, 0},
		"with room for some": {4 << 20, time.Second, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			slowly(t, tc.waiting, func(b *bench, w *sink.Writer, write func(context.Context, string, int) error) {
				begun := time.Now()
				for range rounds {
					for i := range values {
						b.check(write(b.t.Context(), fmt.Sprint(i), rows))
					}
				}
				sealed, err := w.Seal()
				b.check(err)
				if took := time.Since(begun); took < tc.least || took > tc.most {
					t.Errorf("writing took %v, want %v to %v", took, tc.least, tc.most)
				}
				u, err := sealed.Unit(b.t.Context(), []checkpoint.Span{span(0, 0, values*rounds*rows)})
				b.check(err)
				if len(b.files()) != u.Files() || u.Files() <= values {
					t.Errorf("the unit has %d files, the store %d, and there are %d values", u.Files(), len(b.files()), values)
				}
				if took := time.Since(begun); took < 600*time.Millisecond {
					t.Errorf("the unit was there after %v, though no file can be", took)
				}
			})
		})
	}
}

// TestPutsThatFail: whatever becomes of a put, whoever makes the unit is told, and nothing is left in the store.
func TestPutsThatFail(t *testing.T) {
	for _, method := range []string{faultstore.MethodCreate, faultstore.MethodWrite, faultstore.MethodClose} {
		for name, action := range map[string]faultstore.Action{"fails": faultstore.Fail(nil), "hangs": faultstore.Block()} {
			t.Run(method+" "+name, func(t *testing.T) {
				slowly(t, 64<<20, func(b *bench, w *sink.Writer, write func(context.Context, string, int) error) {
					for i := range 40 {
						b.check(write(b.t.Context(), fmt.Sprint(i), 1))
					}
					b.store.SetPlan(faultstore.First(faultstore.Once(func(op faultstore.Op) bool {
						return op.Method == method && strings.HasPrefix(op.Name, "p=7/")
					}, action), faultstore.When(isData, faultstore.Delay(200*time.Millisecond))))
					ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
					defer cancel()
					begun := time.Now()
					var u *sink.Unit
					sealed, err := w.Seal()
					if err == nil {
						u, err = sealed.Unit(ctx, []checkpoint.Span{span(0, 0, 40)})
					} else { // it has failed already
						w.Abort(b.t.Context())
					}
					want := faultstore.ErrInjected
					if action.Block {
						want = context.DeadlineExceeded
					}
					if u != nil || !errors.Is(err, want) || errors.Is(err, context.Canceled) {
						t.Errorf("the unit is %v, %v, want %v", u, err, want)
					}
					if took := time.Since(begun); took > time.Minute+2*time.Second {
						t.Errorf("it took %v", took)
					}
					if left := b.files(); len(left) > 0 {
						t.Errorf("%d files are left: %v", len(left), left)
					}
				})
			})
		}
	}
}

// TestAWriterIsToldOfPutsThatFail while it writes, and leaves nothing behind when it is aborted.
func TestAWriterIsToldOfPutsThatFail(t *testing.T) {
	slowly(t, 2<<20, func(b *bench, w *sink.Writer, write func(context.Context, string, int) error) {
		b.store.SetPlan(faultstore.When(func(op faultstore.Op) bool { return op.Method == faultstore.MethodWrite }, faultstore.Fail(nil)))
		var err error
		for i := 0; i < 100 && err == nil; i++ {
			err = write(b.t.Context(), fmt.Sprint(i%2), 1000)
			time.Sleep(time.Second)
		}
		if !errors.Is(err, faultstore.ErrInjected) {
			t.Errorf("the writer was told %v", err)
		}
		w.Abort(b.t.Context())
		if left := b.files(); len(left) > 0 {
			t.Errorf("%d files are left: %v", len(left), left)
		}
	})
}

// TestAWriterThatWaitsIsCutOff when its context is done.
func TestAWriterThatWaitsIsCutOff(t *testing.T) {
	slowly(t, 1<<20, func(b *bench, w *sink.Writer, write func(context.Context, string, int) error) {
		b.store.SetPlan(faultstore.When(isData, faultstore.Block()))
		ctx, cancel := context.WithTimeout(b.t.Context(), time.Hour)
		defer cancel()
		begun := time.Now()
		var err error
		for i := 0; i < 100 && err == nil; i++ {
			err = write(ctx, fmt.Sprint(i%2), 1000)
		}
		if took := time.Since(begun); !errors.Is(err, context.DeadlineExceeded) || took != time.Hour {
			t.Errorf("after %v the writer was told %v", took, err)
		}
		w.Abort(b.t.Context())
		if left := b.files(); len(left) > 0 {
			t.Errorf("%d files are left: %v", len(left), left)
		}
	})
}
