package pipeline_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/linkedin/goavro/v2"

	"kafkadelta/delta"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
	"kafkadelta/storage/faultstore"
)

// narrow and wide are versions of a schema whose column w the lanes turn for: files with a FLOAT can't stay beside a DOUBLE.
const narrow, wide = 0, 1

func newTurn(t *testing.T) *era {
	t.Helper()
	return newEra(t, `{"name":"n","type":"long"},{"name":"w","type":["null","float"]}`, `{"name":"n","type":"long"},{"name":"w","type":"double"}`)
}

// numbers sends n messages of a version to each of two partitions.
func (e *era) numbers(w *world, version, n int) {
	w.t.Helper()
	of := []map[string]any{narrow: {"w": goavro.Union("float", 0.5)}, wide: {"w": 0.5}}
	for i := range 2 * n {
		e.values(w, int32(i%2), version, maps.Clone(of[version]))
	}
}

// turns makes a worker that commits nothing by itself within an hour, so that what it commits is for a turn.
func (e *era) turns(s *setup) {
	e.follows(sink.EvolveWidens)(s)
	s.Flush.Interval = time.Hour
	s.ShutdownTimeout = 20 * time.Second
	s.sink.Properties = map[string]string{"delta.enableTypeWidening": "true"}
}

func (w *world) turned(mapped bool) {
	w.t.Helper()
	snapshot, err := delta.OpenSnapshot(w.t.Context(), w.memory, -1)
	w.check(err)
	totals, err := snapshot.Totals(w.t.Context())
	w.check(err)
	if totals.Rows != int64(len(w.want)) {
		w.t.Errorf("the table has %d rows of %d messages", totals.Rows, len(w.want))
	}
	if w.spansTile(); !mapped { // columns have other names in the files then
		w.exactlyOnce()
	}
	if !strings.Contains(w.columnsNow(), "w: type=float64") {
		w.t.Errorf("the table is not wider: %s", w.columnsNow())
	}
}

// TestFaultsWhileLanesTurn: one request to the store is held up while lanes are to turn to a schema, and something happens before it goes on: each message is a
// row once all the same, and the worker goes on.
func TestFaultsWhileLanesTurn(t *testing.T) {
	put := func(op faultstore.Op) bool { return isPut(op) && strings.HasSuffix(op.Name, ".json") }
	file := func(op faultstore.Op) bool {
		return op.Method == faultstore.MethodCreate && strings.HasSuffix(op.Name, ".parquet")
	}
	touch := func(w *world, _ *worker) {
		w.foreign(fmt.Sprintf(`{"txn":{"appId":"%s-0","version":%d}}`, stream, w.txn(0)))
	}
	addColumn := func(w *world, _ *worker) {
		w.alter(func(m *delta.Metadata) { m.SchemaString = schemaJSON(w.t, "n BIGINT NOT NULL, w FLOAT, extra STRING") })
	}
	failing := func(match func(faultstore.Op) bool, action faultstore.Action) func(*world, *worker) {
		return func(w *world, k *worker) {
			w.store.SetPlan(faultstore.When(match, action))
			go func() {
				time.Sleep(time.Minute)
				w.store.SetPlan(nil)
				w.store.LandPostponed()
			}()
		}
	}
	type fault = func(*world, *worker)
	for name, tt := range map[string]struct {
		held   func(faultstore.Op) bool
		before int   // how many of these requests pass first
		fault  fault // while it is held up
		mapped bool  // the turn changes the table in a version of its own: the second put
	}{
		"nothing":                    {held: put, fault: func(*world, *worker) {}},
		"a fence":                    {held: put, fault: touch},
		"a column of another writer": {held: put, fault: addColumn},
		"a rule of another writer": {held: put, fault: func(w *world, _ *worker) {
			w.alter(func(m *delta.Metadata) { m.Configuration["delta.constraints.positive"] = "n > 0" })
		}},
		"the same type from another writer":       {held: put, fault: func(w *world, _ *worker) { w.alter(widened(w)) }},
		"files fail for a while":                  {held: file, fault: failing(file, faultstore.Fail(nil))},
		"commits fail for a while":                {held: put, fault: failing(put, faultstore.Fail(nil))},
		"commits land without an answer":          {held: put, fault: failing(put, faultstore.LandThenFail(nil))},
		"commits land late":                       {held: put, fault: failing(put, faultstore.FailThenLand(nil))},
		"a stop":                                  {held: put, fault: stopping},
		"of the table's change: a fence":          {held: put, before: 1, mapped: true, fault: touch},
		"of the table's change: another property": {held: put, before: 1, mapped: true, fault: func(w *world, _ *worker) { w.alter(func(m *delta.Metadata) { m.Configuration["other"] = "1" }) }},
		"of the table's change: it fails a while": {held: put, before: 1, mapped: true, fault: failing(put, faultstore.Fail(nil))},
		"of the table's change: it lands unheard": {held: put, before: 1, mapped: true, fault: failing(put, faultstore.LandThenFail(nil))},
		"of the table's change: a stop":           {held: put, before: 1, mapped: true, fault: stopping},
		"of the table's change: a stop, in vain":  {held: put, before: 1, mapped: true, fault: func(w *world, k *worker) { failing(put, faultstore.Fail(nil))(w, k); stopping(w, k) }},
	} {
		t.Run(name, func(t *testing.T) {
			e := newTurn(t)
			scenario(t, 2, func(w *world) {
				w.columns = "n BIGINT NOT NULL, w FLOAT"
				make1 := func(s *setup) {
					e.turns(s)
					if tt.mapped {
						s.sink.Properties["delta.columnMapping.mode"] = "name"
					}
				}
				k := w.start(make1)
				w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
				e.numbers(w, narrow, 5)
				time.Sleep(time.Second)
				var left atomic.Int64
				left.Store(int64(tt.before))
				reached, goOn := make(chan struct{}), make(chan struct{})
				w.store.SetHook(func(op faultstore.Op) {
					if tt.held(op) && left.Add(-1) == -1 {
						close(reached)
						<-goOn
					}
				})
				e.numbers(w, wide, 5)
				e.numbers(w, narrow, 5)
				<-reached
				time.Sleep(time.Second)
				tt.fault(w, k)
				time.Sleep(time.Second)
				close(goOn)
				e.numbers(w, wide, 5)
				time.Sleep(2 * time.Minute)
				select {
				case <-k.done:
					if k.err != nil && !errors.Is(k.err, pipeline.ErrInterrupted) {
						t.Errorf("the worker has ended: %v", k.err)
					}
				default:
					k.stop()
				}
				k = w.start(make1, func(s *setup) { s.Flush.Interval = time.Second })
				w.landed()
				k.stop()
				w.turned(tt.mapped)
			})
		})
	}
}

// stopping asks for a stop, which is to end in time.
func stopping(w *world, k *worker) {
	k.cancel()
	begun := time.Now()
	go func() {
		if <-k.done; time.Since(begun) > 45*time.Second {
			w.t.Errorf("the stop took %v", time.Since(begun))
		}
	}()
}

// widened is what another writer does who makes the column wider itself.
func widened(w *world) func(*delta.Metadata) {
	return func(m *delta.Metadata) {
		m.SchemaString = strings.Replace(m.SchemaString, `"type":"float","nullable":true,"metadata":{}`,
			`"type":"double","nullable":true,"metadata":{"delta.typeChanges":[{"fromType":"float","toType":"double"}]}`, 1)
		if !strings.Contains(m.SchemaString, "typeChanges") {
			w.t.Errorf("the schema has another form: %s", m.SchemaString)
		}
	}
}

// TestRevocationWhileLanesTurn: the commit before a turn hangs while another worker joins, for less or for longer than a revocation may take.
func TestRevocationWhileLanesTurn(t *testing.T) {
	for name, hangs := range map[string]time.Duration{"it waits": 500 * time.Millisecond, "it runs out of time": 5 * time.Second} {
		t.Run(name, func(t *testing.T) {
			e := newTurn(t)
			parallelWorld(t, 2, func(w *world) {
				w.columns = "n BIGINT NOT NULL, w FLOAT"
				quick := func(s *setup) { e.turns(s); soon(s) }
				a := w.join(quick, func(s *setup) { s.Flush.Interval = time.Hour })
				w.eventually("the worker is ready", func() bool { return a.assigned() == 2 })
				e.numbers(w, narrow, 5)
				w.eventually("they are taken", func() bool { return a.Progress().Messages == 10 })
				a.puts.Shut()
				e.numbers(w, wide, 5)
				time.Sleep(200 * time.Millisecond)
				b := w.join(quick)
				time.Sleep(hangs)
				a.puts.Open()
				w.eventually("both have a partition", func() bool { return a.assigned() == 1 && b.assigned() == 1 })
				e.numbers(w, narrow, 5)
				e.numbers(w, wide, 5)
				a.running()
				a.leave()
				w.landed()
				b.leave()
				w.turned(false)
			})
		})
	}
}
