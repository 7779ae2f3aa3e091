package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	arrowmemory "github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/internal/kafkatest"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
	"kafkadelta/storage/faultstore"
	"kafkadelta/storage/memory"
)

// morgue is the dead-letter table of a world.
type morgue struct {
	*world
	letters *faultstore.Store
	memory  *memory.Store
	bad     map[place]string // reason of each message that must become a dead letter
}

func newMorgue(w *world) *morgue {
	m := &morgue{world: w, memory: memory.New(), bad: map[place]string{}}
	m.letters = faultstore.New(m.memory)
	return m
}

// buries has a worker put dead letters there.
func (m *morgue) buries(s *setup) {
	s.OnError = pipeline.OnErrorDeadLetter
	s.OpenDeadLetters = func(ctx context.Context, events sink.Events) (*sink.Table, error) {
		cfg := sink.DefaultConfig()
		cfg.URI, cfg.Parquet.Compression = "memory://letters", "none"
		return sink.Open(ctx, m.letters, cfg, sink.Options{
			Create: pipeline.DeadLetterSchema(), Engine: "kafkadelta/test", Now: s.Now, Log: s.Log, Events: events,
		})
	}
}

func (m *morgue) run(change ...func(*setup)) *worker {
	m.t.Helper()
	return m.untilEnd(append([]func(*setup){m.buries}, change...)...)
}

// poison sends messages that must become dead letters, of different reasons.
func (m *morgue) poison(partition int32, n int) {
	m.t.Helper()
	for i := range n {
		value, reason := "not JSON", "invalid_json"
		if i%2 == 1 {
			value, reason = `{"text": "no n"}`, "rejected_by_table" // n is NOT NULL
		}
		r := &kgo.Record{
			Topic: topic, Partition: partition, Key: fmt.Appendf(nil, "key %d", i), Value: []byte(value),
			Headers: []kgo.RecordHeader{{Key: "trace", Value: []byte{1, byte(i)}}, {Key: "none"}},
		}
		kafkatest.ProduceTo(m.t, m.client, []*kgo.Record{r})
		m.bad[place{partition, r.Offset}] = reason
	}
}

// row is what the tests look at of a dead letter.
type row struct {
	reason, path, key, value, header, connector string
	generation                                  int64
}

func (m *morgue) snapshot() *delta.Snapshot {
	m.t.Helper()
	s, err := delta.OpenSnapshot(m.t.Context(), m.memory, -1)
	m.check(err)
	return s
}

// rows reads the dead-letter table.
func (m *morgue) rows() map[place][]row {
	m.t.Helper()
	found := map[place][]row{}
	for add, err := range m.snapshot().Files(m.t.Context()) {
		m.check(err)
		name, err := delta.DecodePath(add.Path)
		m.check(err)
		r, err := m.memory.Get(m.t.Context(), name, 0, -1)
		m.check(err)
		var data bytes.Buffer
		_, err = data.ReadFrom(r)
		m.check(err)
		table, err := pqarrow.ReadTable(m.t.Context(), bytes.NewReader(data.Bytes()), parquet.NewReaderProperties(nil), pqarrow.ArrowReadProperties{}, arrowmemory.DefaultAllocator)
		m.check(err)
		reader := array.NewTableReader(table, 0)
		for reader.Next() {
			rb := reader.RecordBatch()
			text := func(name string, i int) string {
				c := rb.Column(rb.Schema().FieldIndices(name)[0])
				if c.IsNull(i) {
					return "null"
				}
				if b, ok := c.(*array.Binary); ok {
					return string(b.Value(i))
				}
				return c.ValueStr(i)
			}
			for i := range int(rb.NumRows()) {
				at := place{
					rb.Column(rb.Schema().FieldIndices("partition")[0]).(*array.Int32).Value(i), rb.Column(rb.Schema().FieldIndices("offset")[0]).(*array.Int64).Value(i),
				}
				found[at] = append(found[at], row{
					text("reason", i), text("field_path", i), text("key", i), text("value", i), text("headers", i), text("connector", i),
					rb.Column(rb.Schema().FieldIndices("generation")[0]).(*array.Int64).Value(i),
				})
			}
		}
		reader.Release()
		table.Release()
	}
	return found
}

// exactlyOnce checks both tables: each message is a row or a dead letter, once, and the spans count what is there.
func (m *morgue) exactlyOnce() {
	m.t.Helper()
	m.world.exactlyOnce()
	rows := m.rows()
	for at, reason := range m.bad {
		switch got := rows[at]; {
		case len(got) != 1:
			m.t.Errorf("the message at %v is %d dead letters, want 1", at, len(got))
		case got[0].reason != reason:
			m.t.Errorf("the message at %v is a dead letter for %q, want %q", at, got[0].reason, reason)
		}
	}
	for at := range rows {
		if _, ok := m.bad[at]; !ok {
			m.t.Errorf("the message at %v must be no dead letter", at)
		}
	}
	var counted int64
	for v := range m.version() + 1 {
		dead, named := map[int32]bool{}, map[int32]bool{} // rule D2: in one version or in none
		for _, l := range m.logLines(v) {
			if l.Txn == nil {
				continue
			}
			if id, ok := strings.CutPrefix(l.Txn.AppID, checkpoint.DeadLetterPrefix(stream)); ok {
				n, err := strconv.Atoi(id)
				m.check(err)
				named[int32(n)] = true
			}
		}
		for _, u := range m.units(v) {
			for _, s := range u.Spans {
				if counted += s.Dead; s.Dead > 0 {
					dead[s.ID] = true
				}
				if s.Skipped != 0 {
					m.t.Errorf("version %d counts %d messages of partition %d as skipped", v, s.Skipped, s.ID)
				}
			}
		}
		if fmt.Sprint(dead) != fmt.Sprint(named) {
			m.t.Errorf("version %d counts dead letters of the partitions %v and names those of %v", v, dead, named)
		}
	}
	if counted != int64(len(m.bad)) {
		m.t.Errorf("the spans count %d dead letters, want %d", counted, len(m.bad))
	}
	if m.t.Failed() {
		m.t.FailNow()
	}
}

// slots tells what both tables say of the partitions' dead letters.
func (m *morgue) slots() (stream, letters map[string]int64) {
	m.t.Helper()
	read := func(store *memory.Store) map[string]int64 {
		s, err := delta.OpenSnapshot(m.t.Context(), store, -1)
		m.check(err)
		slots := map[string]int64{}
		for txn := range s.Txns() {
			if strings.HasPrefix(txn.AppID, checkpoint.DeadLetterPrefix("events")) {
				slots[txn.AppID] = txn.Version
			}
		}
		return slots
	}
	return read(m.world.memory), read(m.memory)
}

// burials are the versions of the dead-letter table after the one that made it.
func (m *morgue) burials() int64 { return m.snapshot().Version() }

func TestDeadLetters(t *testing.T) {
	scenario(t, 2, func(w *world) {
		m := newMorgue(w)
		m.poison(0, 3)
		w.produceAll(2, 5)
		m.poison(1, 2)
		w.produceAll(2, 5)
		k := m.run()
		m.exactlyOnce()
		for at, rows := range m.rows() {
			if got := rows[0]; !strings.HasPrefix(got.key, "key ") || !strings.Contains(got.header, "trace") || got.connector != stream || got.generation != 0 {
				t.Errorf("the dead letter of %v is %+v", at, got)
			}
		}
		if got := m.burials(); got != 1 {
			t.Errorf("one flush made %d versions of the dead-letter table, want 1", got)
		}
		stream, letters := m.slots()
		if len(stream) != 2 || fmt.Sprint(stream) != fmt.Sprint(letters) {
			t.Errorf("the tables name %v and %v", stream, letters)
		}
		for o, err := range m.memory.List(t.Context(), "_connector/", "") {
			w.check(err)
			t.Errorf("%s is left behind", o.Name)
		}
		if k.Progress().Poison != 5 {
			t.Errorf("%d messages are counted as poison, want 5", k.Progress().Poison)
		}
		// What is clean makes no version of the dead-letter table, and costs its store nothing but the reading at the start.
		w.produceAll(2, 3)
		m.run()
		m.exactlyOnce()
		if got := m.burials(); got != 1 {
			t.Errorf("a clean run made the dead-letter table's version %d", got)
		}
	})
}

// TestDeadLettersAreThereBeforeTheyAreNamed is rule D1: when a version of the stream's table is put that names dead letters, their file
// and its note lie in the dead-letter table's folder.
func TestDeadLettersAreThereBeforeTheyAreNamed(t *testing.T) {
	scenario(t, 2, func(w *world) {
		m := newMorgue(w)
		named := 0
		w.store.SetHook(func(op faultstore.Op) {
			if op.Method != faultstore.MethodPutIfAbsent {
				return
			}
			var there []string
			for o, err := range m.memory.List(t.Context(), "", "") {
				if err == nil && !strings.HasPrefix(o.Name, "_delta_log/") {
					there = append(there, o.Name)
				}
			}
			if strings.HasSuffix(op.Name, "2.json") { // the first one with rows
				if named++; len(there) != 2 {
					t.Errorf("when version 2 is put the dead-letter table's folder has %v, want a file and its note", there)
				}
			}
		})
		m.poison(0, 2)
		m.poison(1, 1)
		w.produceAll(2, 2)
		m.run(func(s *setup) { s.Lanes = 1 })
		if named != 1 {
			t.Errorf("version 2 was put %d times, want 1", named)
		}
		m.exactlyOnce()
	})
}

// leavePending has a worker die between its commit, which has three dead letters, and the delivery.
func (m *morgue) leavePending() {
	m.t.Helper()
	m.poison(0, 3)
	m.produceAll(2, 2)
	m.letters.SetPlan(faultstore.When(func(op faultstore.Op) bool {
		return op.Method == faultstore.MethodPutIfAbsent && !strings.HasSuffix(op.Name, "0.json")
	}, faultstore.Fail(fs.ErrPermission)))
	if err := m.start(m.buries).wait(); !errors.As(err, new(*sink.Error)) {
		m.t.Fatalf("the worker ended with %v", err)
	}
	if got := m.burials(); got != 0 {
		m.t.Fatalf("the dead-letter table is at version %d already", got)
	}
	m.letters.SetPlan(nil)
}

// TestPendingDeadLettersAreDeliveredOnAssignment: a worker dies between its commit and the delivery; the next owner has nothing but clean
// messages, and delivers (rule D4).
func TestPendingDeadLettersAreDeliveredOnAssignment(t *testing.T) {
	scenario(t, 2, func(w *world) {
		m := newMorgue(w)
		m.leavePending()
		k := w.start(m.buries)
		w.eventually("the pending dead letters are delivered", func() bool { return m.burials() == 1 })
		k.stop()
		m.exactlyOnce()
	})
}

// TestRunToTheEndDeliversWhatIsPending: a run that has nothing new to read delivers what the one before has left, however long that takes.
func TestRunToTheEndDeliversWhatIsPending(t *testing.T) {
	scenario(t, 2, func(w *world) {
		m := newMorgue(w)
		m.leavePending()
		m.letters.SetPlan(func(faultstore.Op) faultstore.Action { return faultstore.Delay(time.Second) })
		w.untilEnd(m.buries)
		m.letters.SetPlan(nil)
		if got := m.burials(); got != 1 {
			t.Errorf("the dead-letter table is at version %d after the run, want 1", got)
		}
		m.exactlyOnce()
	})
}

// TestDeadLetterTableOfAnotherForm is refused at the start.
func TestDeadLetterTableOfAnotherForm(t *testing.T) {
	for name, change := range map[string]func(*sink.Config){
		"partitioned":         func(c *sink.Config) { c.PartitionBy = []string{"partition"} },
		"with column mapping": func(c *sink.Config) { c.Properties = map[string]string{"delta.columnMapping.mode": "name"} },
	} {
		t.Run(name, func(t *testing.T) {
			scenario(t, 1, func(w *world) {
				m := newMorgue(w)
				cfg := sink.DefaultConfig()
				cfg.URI, cfg.Parquet.Compression = "memory://letters", "none"
				change(&cfg)
				table, err := sink.Open(t.Context(), m.letters, cfg, sink.Options{Create: pipeline.DeadLetterSchema(), Engine: "kafkadelta/test", Now: time.Now, Log: slog.New(slog.DiscardHandler)})
				w.check(err)
				table.Close(t.Context())
				if err := w.start(m.buries).wait(); !errors.As(err, new(*sink.Error)) || !strings.Contains(err.Error(), "partition columns or column mapping") {
					t.Errorf("the worker ended with %v", err)
				}
			})
		})
	}
}

// TestMarksThatCantBeMadeAgain leave nothing in the dead-letter table's folder.
func TestMarksThatCantBeMadeAgain(t *testing.T) {
	scenario(t, 1, func(w *world) {
		m := newMorgue(w)
		cfg := sink.DefaultConfig()
		cfg.URI, cfg.Parquet.Compression = "memory://letters", "none"
		table, err := sink.Open(m.t.Context(), m.letters, cfg, sink.Options{Create: pipeline.DeadLetterSchema(), Engine: "kafkadelta/test", Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		w.check(err)
		defer table.Close(m.t.Context())
		layout, err := table.Layout(m.t.Context())
		w.check(err)
		writer, err := pipeline.NewLetterWriter(table, layout)
		w.check(err)
		m.letters.SetPlan(func(op faultstore.Op) faultstore.Action {
			if strings.HasPrefix(op.Name, "_connector/parcels/") {
				return faultstore.Fail(fs.ErrPermission)
			}
			return faultstore.Pass()
		})
		note := []byte(`[{"connector":"events","topic":"topic","partition":0,"offset":1},{"connector":"events","topic":"topic","partition":0,"offset":2}]`)
		if _, err := writer.MarkAgain(m.t.Context(), note, time.Now()); !errors.Is(err, fs.ErrPermission) {
			m.t.Fatalf("MarkAgain answered %v", err)
		}
		for o, err := range m.memory.List(m.t.Context(), "", "") {
			w.check(err)
			if !strings.HasPrefix(o.Name, "_delta_log/") {
				m.t.Errorf("left behind is %s", o.Name)
			}
		}
	})
}

// TestDeadLetterStoreDown: the stream waits for it, and loses nothing.
func TestDeadLetterStoreDown(t *testing.T) {
	scenario(t, 2, func(w *world) {
		m := newMorgue(w)
		k := w.start(m.buries)
		w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
		m.letters.Down(nil)
		for range 5 {
			m.poison(0, 2)
			w.produceAll(2, 10)
			time.Sleep(10 * time.Second)
		}
		w.eventually("the worker says that it is not ready", func() bool { return k.Ready() != nil })
		time.Sleep(5 * time.Minute)
		k.running()
		m.letters.Up()
		w.landed()
		w.eventually("the worker is ready again", func() bool { return k.Ready() == nil })
		k.stop()
		m.exactlyOnce()
	})
}

// TestDeadLettersOfAGroup has workers come and go.
func TestDeadLettersOfAGroup(t *testing.T) {
	parallelWorld(t, 4, func(w *world) {
		m := newMorgue(w)
		fast := func(s *setup) { m.buries(s); s.Flush.Interval = 50 * time.Millisecond }
		first := w.start(fast)
		second := w.start(fast)
		for i := range int32(12) {
			w.produceAll(4, 5)
			m.poison(i%4, 2)
			if i == 4 {
				first.stop()
			}
			if i == 8 {
				first = w.start(fast)
			}
		}
		w.landed()
		first.stop()
		second.stop()
		m.run()
		m.exactlyOnce()
	})
}

// TestDeliveryThatARevocationCutsOff: one of two partitions is given away while the dead letters of either can't be delivered. They are, by
// whoever has the partition then, without another message.
func TestDeliveryThatARevocationCutsOff(t *testing.T) {
	for bad := range int32(2) {
		t.Run(fmt.Sprint("partition ", bad), func(t *testing.T) {
			parallelWorld(t, 2, func(w *world) {
				m := newMorgue(w)
				a := w.join(soon, m.buries, func(s *setup) { s.Flush.Interval = time.Second })
				w.eventually("the worker is ready", func() bool { return a.Ready() == nil })
				m.letters.SetPlan(faultstore.When(func(op faultstore.Op) bool { return op.Method == faultstore.MethodPutIfAbsent }, faultstore.Fail(nil)))
				w.produce(1-bad, 1) // in the same flush
				m.poison(bad, 2)
				w.eventually("the commit that decides has landed", func() bool { stream, _ := m.slots(); return len(stream) == 1 })
				b := w.join(soon, m.buries)
				w.eventually("the time to give away is over", func() bool { return strings.Contains(w.logs.String(), "partitions must be given away") })
				time.Sleep(time.Second)
				m.letters.SetPlan(nil)
				w.eventually("the dead letters are delivered", func() bool { return m.burials() == 1 })
				a.stop()
				b.stop()
				m.exactlyOnce()
			})
		})
	}
}

// failures are how an operation of a store fails: whether it was done, and whether the worker dies with it.
var failures = []struct {
	name   string
	landed bool
	crash  bool
}{{"fails", false, false}, {"lands then fails", true, false}, {"the worker dies before", false, true}, {"the worker dies after", true, true}}

// inTurn fails operation 0, 1, and so on, until there is none of that number three times in a row: runs differ by an operation or two.
func inTurn(t *testing.T, fail func(i int) (had bool)) {
	t.Helper()
	for i, missed := 0, 0; missed < 3; i++ {
		if missed++; fail(i) {
			missed = 0
		}
		if t.Failed() {
			t.Fatalf("operation %d: see above", i)
		}
	}
}

// TestEveryStoreOperationOfDeadLettersFailsInTurn is TestEveryStoreOperationFailsInTurn with dead letters: a failure, and in the second
// half a crash, between every two operations on either table.
func TestEveryStoreOperationOfDeadLettersFailsInTurn(t *testing.T) {
	for _, kind := range failures {
		for _, of := range []string{"stream", "letters"} {
			t.Run(of+"/"+kind.name, func(t *testing.T) {
				hit := map[string]int{}
				inTurn(t, func(i int) bool { return failOneOfDeadLetters(t, of, i, kind.landed, kind.crash, hit) })
				t.Logf("operations, by method: %v", hit)
				if hit[faultstore.MethodPutIfAbsent] < 2 || hit[faultstore.MethodWrite] == 0 || of == "letters" && hit[faultstore.MethodPut] == 0 {
					t.Errorf("not all kinds of operations were hit: %v", hit)
				}
			})
		}
	}
}

// failOneOfDeadLetters runs a job with two flushes of dead letters and a fence, fails or kills at operation i of one of the stores, and
// reports whether there was one.
func failOneOfDeadLetters(t *testing.T, of string, i int, landed, crash bool, hit map[string]int) (had bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		m := newMorgue(w)
		w.fencedOnce()
		for range 2 {
			w.produceAll(2, 2)
			m.poison(0, 2)
			m.poison(1, 1)
		}
		store := map[string]*faultstore.Store{"stream": w.store, "letters": m.letters}[of]
		cause := error(nil)
		if crash {
			cause = fs.ErrPermission // from that operation on, nothing that the worker does reaches a store
		}
		action := faultstore.Fail(cause)
		if landed {
			action = faultstore.LandThenFail(cause)
		}
		var dead atomic.Bool
		for _, s := range []*faultstore.Store{w.store, m.letters} {
			s.SetPlan(func(op faultstore.Op) faultstore.Action {
				switch {
				case dead.Load():
					return faultstore.Fail(fs.ErrPermission)
				case s == store && op.Index == i:
					dead.Store(crash)
					return action
				}
				return faultstore.Pass()
			})
		}
		one := func(s *setup) { m.buries(s); s.UntilEnd, s.Lanes, s.Flush.Rows = true, 1, 3 }
		err := w.start(one).wait()
		ops := store.Ops()
		if had = len(ops) > i; !had {
			w.check(err)
			return
		}
		hit[ops[i].Method]++
		if err != nil && (!crash || !errors.As(err, new(*sink.Error))) {
			t.Errorf("operation %d (%s %s): the run ended with %v", i, ops[i].Method, ops[i].Name, err)
		}
		w.store.SetPlan(nil)
		m.letters.SetPlan(nil)
		w.produceAll(2, 1)
		m.poison(1, 1)
		w.check(w.start(one).wait())
		m.exactlyOnce()
	})
	return had
}
