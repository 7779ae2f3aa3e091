package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kafkadelta/pipeline"
	"kafkadelta/sink"
	"kafkadelta/storage/faultstore"
)

// fencedOnce has another writer move the offset of partition 0 (to the value that it has) when the first rows are to be
// committed, so that a run has a lost race, a dropped flush and deleted files in it.
func (w *world) fencedOnce() {
	var done atomic.Bool
	w.store.SetHook(func(op faultstore.Op) {
		if op.Method == faultstore.MethodPutIfAbsent && strings.HasSuffix(op.Name, "2.json") && !done.Swap(true) {
			line := fmt.Sprintf(`{"txn":{"appId":%q,"version":-1}}`, stream+"-0")
			_ = w.memory.PutIfAbsent(context.Background(), op.Name, []byte(line))
		}
	})
}

// TestEveryStoreOperationFailsInTurn runs the same small job again and again; in run i, operation i of the store fails,
// or lands and then fails. With fs.ErrPermission the run may end with a *sink.Error, and the next one goes on.
func TestEveryStoreOperationFailsInTurn(t *testing.T) {
	kinds := []struct {
		name   string
		err    error
		landed bool
	}{
		{"fails", nil, false},
		{"lands then fails", nil, true},
		{"is not permitted", fs.ErrPermission, false},
		{"lands and is not permitted", fs.ErrPermission, true},
	}
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			action := faultstore.Fail(kind.err)
			if kind.landed {
				action = faultstore.LandThenFail(kind.err)
			}
			hit := map[string]int{}
			inTurn(t, func(i int) bool {
				return failOne(t, kind.err != nil, func(op faultstore.Op) bool { return op.Index == i }, action, hit)
			})
			t.Logf("failed operations, by method: %v", hit)
			for _, method := range []string{
				faultstore.MethodList, faultstore.MethodGet, faultstore.MethodPutIfAbsent, faultstore.MethodCreate,
				faultstore.MethodWrite, faultstore.MethodClose, faultstore.MethodDelete,
			} {
				// The numbers of operations vary a little from run to run, so that a rare one can slip through.
				first := func(op faultstore.Op) bool { return op.Method == method }
				if hit[method] == 0 && !failOne(t, kind.err != nil, first, action, hit) {
					t.Errorf("no %s has failed", method)
				}
			}
		})
	}
}

// failOne runs the job with the action on the first operation that matches, and reports whether there was one. A final
// failure may end the run; then another goes on.
func failOne(t *testing.T, final bool, match func(faultstore.Op) bool, action faultstore.Action, hit map[string]int) (had bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.fencedOnce()
		w.produceAll(2, 4)
		w.store.SetPlan(faultstore.Once(match, action))
		one := func(s *setup) { s.UntilEnd, s.Lanes = true, 1 }
		err := w.start(one).wait()
		ops := w.store.Ops()
		i := slices.IndexFunc(ops, match)
		if had = i >= 0; !had {
			w.check(err)
			return
		}
		failed := ops[i]
		hit[failed.Method]++
		if err != nil {
			if !final || !errors.As(err, new(*sink.Error)) {
				t.Errorf("operation %d (%s %s): the run ended with %v", i, failed.Method, failed.Name, err)
			}
			w.check(w.start(one).wait())
		} else if errors.Is(failed.Err, fs.ErrPermission) && failed.Method != faultstore.MethodDelete && failed.Method != faultstore.MethodAbort &&
			!strings.HasSuffix(failed.Name, ".crc") { // a checksum is never worth the stream
			t.Errorf("operation %d (%s %s): the run did not end although it was not permitted", i, failed.Method, failed.Name)
		}
		w.produceAll(2, 1) // the run after goes on where the table stands
		w.check(w.start(one).wait())
		w.exactlyOnce()
	})
	return had
}

// TestAnswersThatAreLostForHours: each commit is let go of after an hour, before a VACUUM may take its files (rules C5 and C8), and what it may
// not have brought is read again, whether or not it has landed.
func TestAnswersThatAreLostForHours(t *testing.T) {
	for name, action := range map[string]faultstore.Action{"nothing lands": faultstore.Fail(nil), "all lands late": faultstore.FailThenLand(nil)} {
		t.Run(name, func(t *testing.T) {
			scenario(t, 2, func(w *world) {
				w.produceAll(2, 5)
				k := w.start()
				w.landed()
				w.store.SetPlan(faultstore.When(isPut, action))
				w.produceAll(2, 5)
				time.Sleep(3 * time.Hour)
				w.store.SetPlan(nil)
				w.store.LandPostponed()
				w.produceAll(2, 5)
				w.landed()
				k.stop()
				if n := strings.Count(w.logs.String(), "it is let go of"); n < 2 {
					t.Errorf("%d commits were let go of in 3 hours, want 2 or 3", n)
				}
				w.exactlyOnce()
			})
		})
	}
}

func TestStoreDownForAWhileLosesNothing(t *testing.T) {
	scenario(t, 2, func(w *world) {
		w.produceAll(2, 5)
		k := w.start()
		w.landed()
		w.check(k.Ready())
		w.store.Down(nil)
		w.produceAll(2, 20)
		w.eventually("the worker says that it is not ready", func() bool { return k.Ready() != nil })
		time.Sleep(10 * time.Minute)
		k.running()
		if !strings.Contains(w.logs.String(), "nothing is lost") {
			t.Error("no warning was logged while the store was down")
		}
		if k.Ready() == nil {
			t.Error("the worker says that it is ready while the store is down")
		}
		w.store.Up()
		w.landed()
		w.eventually("the worker is ready again", func() bool { return k.Ready() == nil })
		k.stop()
		w.exactlyOnce()
	})
}

func TestDataFilesRefusedForAWhileLoseNothing(t *testing.T) {
	scenario(t, 2, func(w *world) {
		k := w.start()
		w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
		w.store.Down(func(op faultstore.Op) bool { return op.Method == faultstore.MethodCreate })
		w.produceAll(2, 20)
		w.eventually("the worker says that it is not ready", func() bool { return k.Ready() != nil })
		time.Sleep(5 * time.Minute)
		creates := 0
		for _, op := range w.store.Ops() {
			if op.Method == faultstore.MethodCreate {
				creates++
			}
		}
		if creates > 200 {
			t.Errorf("the store was asked %d times in 5 minutes for a file that it refuses: wait longer between", creates)
		}
		w.store.Up()
		w.landed()
		w.eventually("the worker is ready again", func() bool { return k.Ready() == nil })
		k.stop()
		w.exactlyOnce()
	})
}

func TestStoreThatIsNotPermittedEndsTheRunWithAHint(t *testing.T) {
	for _, method := range []string{faultstore.MethodList, faultstore.MethodPutIfAbsent, faultstore.MethodCreate, faultstore.MethodClose} {
		t.Run(method, func(t *testing.T) {
			scenario(t, 1, func(w *world) {
				w.produce(0, 3)
				w.store.SetPlan(faultstore.When(func(op faultstore.Op) bool { return op.Method == method }, faultstore.Fail(fs.ErrPermission)))
				err := w.start().wait()
				var table *sink.Error
				if !errors.As(err, &table) {
					t.Fatalf("the run ended with %v, want a *sink.Error", err)
				}
				if !strings.Contains(table.Hint, "grant") {
					t.Errorf("the hint is %q: it should say what to grant", table.Hint)
				}
				w.store.SetPlan(nil)
				w.untilEnd()
				w.exactlyOnce()
			})
		})
	}
}

func TestStopWhileTheStoreHangsIsInterruptedInTime(t *testing.T) {
	for _, method := range []string{faultstore.MethodPutIfAbsent, faultstore.MethodCreate, faultstore.MethodClose} {
		for name, messages := range map[string]int{"few messages": 10, "more than a lane's queue": 4000} {
			t.Run(method+" with "+name, func(t *testing.T) {
				scenario(t, 1, func(w *world) {
					k := w.start(func(s *setup) { s.ShutdownTimeout = 20 * time.Second; s.Flush.Bytes = 1 << 10 })
					w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
					w.store.SetPlan(faultstore.When(func(op faultstore.Op) bool { return op.Method == method }, faultstore.Block()))
					for range messages / 10 {
						w.produce(0, 10)
					}
					time.Sleep(time.Minute)
					begun := time.Now()
					k.cancel()
					if err := k.wait(); !errors.Is(err, pipeline.ErrInterrupted) {
						t.Fatalf("the stop ended with %v, want ErrInterrupted", err)
					}
					if took := time.Since(begun); took > 40*time.Second {
						t.Errorf("the stop took %v, its limit is 20s", took)
					}
					w.store.SetPlan(nil)
					w.untilEnd()
					w.exactlyOnce()
				})
			})
		}
	}
}
