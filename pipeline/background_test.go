package pipeline_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	compute "kafkadelta/columns"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
	"kafkadelta/storage/faultstore"
)

// slowDecoder takes its time for each message.
type slowDecoder struct {
	pipeline.Decoder
	each time.Duration
}

func (d slowDecoder) Append(r *kgo.Record) error {
	time.Sleep(d.each)
	return d.Decoder.Append(r)
}

// decodesSlowly has each message take so long.
func decodesSlowly(each time.Duration) func(*setup) {
	return func(s *setup) {
		s.NewDecoder = func(layout *sink.Layout) (pipeline.Decoder, *compute.Plan, error) {
			d, plan, err := newDecoder(layout)
			return slowDecoder{d, each}, plan, err
		}
	}
}

func isDataFile(op faultstore.Op) bool { return strings.HasSuffix(op.Name, ".parquet") }

// TestLanesDecodeWhileFilesArePut: where putting the files of a flush takes about as long as decoding the messages of the next one, neither waits for the
// other, so that a lane that is always busy does not fall behind.
func TestLanesDecodeWhileFilesArePut(t *testing.T) {
	scenario(t, 1, func(w *world) {
		const second, put = 90, 800 * time.Millisecond // messages, of 10 ms each
		w.store.SetPlan(faultstore.When(func(op faultstore.Op) bool { return isDataFile(op) && op.Method != faultstore.MethodWrite }, faultstore.Delay(put)))
		k := w.start(decodesSlowly(10*time.Millisecond), func(s *setup) { s.Lanes, s.Flush.Interval = 1, time.Second })
		w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
		for range 60 {
			w.produce(0, second)
			time.Sleep(time.Second)
		}
		behind := time.Now()
		w.landed()
		took := time.Since(behind)
		t.Logf("the last message was in the table after %v", took)
		if took > 8*time.Second {
			t.Error("the lane has waited for the store")
		}
		k.stop()
		w.exactlyOnce()
	})
}

// TestPutsThatFailInTheBackground: a flush whose files can't be put is read again, and so is what was filled meanwhile (rule C9).
func TestPutsThatFailInTheBackground(t *testing.T) {
	for _, method := range []string{faultstore.MethodCreate, faultstore.MethodWrite, faultstore.MethodClose} {
		t.Run(method, func(t *testing.T) {
			scenario(t, 3, func(w *world) {
				files, failed := map[string]bool{}, 0
				w.store.SetPlan(func(op faultstore.Op) faultstore.Action {
					if !isDataFile(op) || op.Method == faultstore.MethodDelete || op.Method == faultstore.MethodAbort {
						return faultstore.Pass()
					}
					action := faultstore.Delay(700 * time.Millisecond)
					if op.Method == method && !files[op.Name] {
						if files[op.Name] = true; len(files)%3 == 2 {
							action.Err = errors.New("the put has failed")
							failed++
						}
					}
					return action
				})
				k := w.start(decodesSlowly(10*time.Millisecond), func(s *setup) { s.Lanes, s.Flush.Rows = 2, 50 })
				for range 300 {
					w.produceAll(3, 10)
					time.Sleep(time.Second)
				}
				w.landed()
				k.stop()
				w.exactlyOnce()
				if failed < 5 {
					t.Errorf("%d puts have failed of %d files", failed, len(files))
				}
				named := w.names()
				for _, name := range w.dataFiles() {
					if !named[name] && method != faultstore.MethodClose {
						t.Errorf("%s is left, and no version names it", name)
					}
				}
			})
		})
	}
}

// TestAFlushThatIsCutOffGivesItsPutsUp: partitions are taken away while files can't be put. The worker does not wait for them, and the next owner has all.
func TestAFlushThatIsCutOffGivesItsPutsUp(t *testing.T) {
	scenario(t, 1, func(w *world) {
		k := w.start(func(s *setup) { s.ShutdownTimeout = 5 * time.Second })
		w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
		w.store.SetPlan(faultstore.When(func(op faultstore.Op) bool { return isDataFile(op) && op.Method == faultstore.MethodClose }, faultstore.Block()))
		w.produce(0, 100)
		time.Sleep(time.Minute)
		w.produce(0, 100)
		begun := time.Now()
		k.cancel()
		if err := k.wait(); !errors.Is(err, pipeline.ErrInterrupted) {
			t.Errorf("the stop ended with %v, want ErrInterrupted", err)
		}
		if took := time.Since(begun); took > 20*time.Second {
			t.Errorf("the stop took %v", took)
		}
		if left := w.dataFiles(); len(left) > 0 {
			t.Errorf("%v is left of what was given up", left)
		}
		w.store.SetPlan(nil)
		w.untilEnd()
		w.exactlyOnce()
	})
}

// dataFiles are those in the store.
func (w *world) dataFiles() []string {
	w.t.Helper()
	var names []string
	for o, err := range w.memory.List(w.t.Context(), "", "") {
		w.check(err)
		if strings.HasSuffix(o.Name, ".parquet") && !strings.HasPrefix(o.Name, "_") {
			names = append(names, o.Name)
		}
	}
	return names
}

// names are the data files that versions name.
func (w *world) names() map[string]bool {
	w.t.Helper()
	named := map[string]bool{}
	for v := range w.version() + 1 {
		for _, line := range w.logLines(v) {
			if line.Add != nil {
				named[line.Add.Path] = true
			}
		}
	}
	return named
}
