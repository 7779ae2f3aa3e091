package pipeline_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/delta"
	"kafkadelta/internal/kafkatest"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
	"kafkadelta/storage/faultstore"
	"kafkadelta/storage/memory"
)

// town is a world whose rows go to many tables, by the column text; the world's own table is the catalog.
type town struct {
	*world
	mu     sync.Mutex
	houses map[string]*house // by key
	header string            // which names the table instead, if any
	tables int               // that there may be
}

// house is one table.
type house struct {
	memory *memory.Store
	store  *faultstore.Store
	want   map[place]int64
}

func newTown(w *world) *town { return &town{world: w, houses: map[string]*house{}, tables: 100} }

func (t *town) house(key string) *house {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.houses[key]
	if h == nil {
		m := memory.New()
		h = &house{m, faultstore.New(m), map[place]int64{}}
		t.houses[key] = h
	}
	return h
}

// divides has a worker divide its rows.
func (t *town) divides(s *setup) {
	part := pipeline.RoutePart{Field: []string{"text"}}
	if t.header != "" {
		part = pipeline.RoutePart{Header: t.header}
	}
	s.Routing = &pipeline.Routing{
		Parts: []pipeline.RoutePart{part}, MaxOpen: 4, MaxTables: t.tables,
		Key: func(values []*string) (string, error) {
			switch {
			case values[0] == nil:
				return "null", nil
			case strings.Contains(*values[0], "/"):
				return "", errors.New("it has a slash")
			}
			return *values[0], nil
		},
		Open: func(ctx context.Context, key, _ string, columns *arrow.Schema, events sink.Events) (*sink.Table, error) {
			o := sink.Options{Name: s.Name, Follows: true, Filtered: s.filtered, Create: columns, Engine: "kafkadelta/test", Now: s.Now, Log: s.Log, Events: events}
			return sink.Open(ctx, t.house(key).store, s.sink, o)
		},
	}
}

func (t *town) run(change ...func(*setup)) *worker {
	t.t.Helper()
	return t.untilEnd(append([]func(*setup){t.divides}, change...)...)
}

// send sends n messages for each of the tables in turn, which is the name of the column text as well.
func (t *town) send(partition int32, n int, keys ...string) {
	t.t.Helper()
	for range n {
		for _, key := range keys {
			t.next++
			r := &kgo.Record{Topic: topic, Partition: partition, Value: fmt.Appendf(nil, `{"n": %d, "text": %q}`, t.next, key)}
			if key == "null" {
				r.Value = fmt.Appendf(nil, `{"n": %d}`, t.next)
			}
			kafkatest.ProduceTo(t.t, t.client, []*kgo.Record{r})
			t.house(key).want[place{partition, r.Offset}] = t.next
		}
	}
}

// exactlyOnce checks each table as that of a stream, and that the catalog has no row. Messages that the catalog counts as skipped, of those
// that may be, are in no table.
func (t *town) exactlyOnce(mayBeSkipped ...string) {
	t.t.Helper()
	t.exactlyOnceBut(0, mayBeSkipped...)
}

// exactlyOnceBut is exactlyOnce where so many messages of no table were skipped, too.
func (t *town) exactlyOnceBut(missing int64, mayBeSkipped ...string) {
	t.t.Helper()
	var skipped int64
	for v := range t.version() + 1 {
		for _, u := range t.units(v) {
			for _, s := range u.Spans {
				skipped += s.Skipped
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(t.houses)) {
		one := *t.world
		one.memory, one.want = t.houses[key].memory, t.houses[key].want
		if slices.Contains(mayBeSkipped, key) {
			one.want = maps.Clone(one.want)
			rows := map[place][]int64{}
			if _, err := delta.OpenSnapshot(t.t.Context(), one.memory, -1); err == nil {
				rows = one.rows()
			}
			for at := range one.want {
				if len(rows[at]) == 0 {
					delete(one.want, at)
					missing++
				}
			}
			if len(rows) == 0 {
				continue // it may not be there
			}
		}
		one.exactlyOnce()
	}
	if skipped != missing {
		t.t.Errorf("%d messages are in no table, and %d were skipped", missing, skipped)
	}
	t.world.exactlyOnce()
}

func TestRowsGoToTheTablesOfTheirValues(t *testing.T) {
	scenario(t, 2, func(w *world) {
		c := newTown(w)
		c.send(0, 20, "de", "us", "null")
		c.send(1, 5, "us", "fr")
		c.run()
		c.exactlyOnce()
		c.send(1, 3, "it", "us") // a table more, in a stream that goes on
		c.run()
		c.exactlyOnce()
		if len(c.houses) != 5 {
			t.Errorf("there are %d tables, want 5", len(c.houses))
		}
	})
}

func TestHeadersAndStructsNameTables(t *testing.T) {
	scenario(t, 1, func(w *world) {
		c := newTown(w)
		c.header = "tenant"
		for i, tenant := range []string{"a", "b", "", "a"} {
			c.next++
			r := &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, `{"n": %d}`, c.next), Headers: []kgo.RecordHeader{{Key: "tenant", Value: []byte("overruled")}, {Key: "tenant", Value: []byte(tenant)}}}
			key := tenant
			if i == 2 {
				key = "null"
			}
			kafkatest.ProduceTo(c.t, c.client, []*kgo.Record{r})
			c.house(key).want[place{0, r.Offset}] = c.next
		}
		c.run()
		c.exactlyOnce()
	})
	scenario(t, 1, func(w *world) {
		w.columns = "n BIGINT NOT NULL, at STRUCT<land: STRING>"
		c := newTown(w)
		for key, value := range map[string]string{"de": `{"land": "de"}`, "null": `null`, "us": `{"land": "us"}`} {
			c.next++
			r := &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, `{"n": %d, "at": %s}`, c.next, value)}
			kafkatest.ProduceTo(c.t, c.client, []*kgo.Record{r})
			c.house(key).want[place{0, r.Offset}] = c.next
		}
		c.run(func(s *setup) { s.Routing.Parts = []pipeline.RoutePart{{Field: []string{"at", "land"}}} })
		c.exactlyOnce()
	})
}

// TestEveryStoreOperationOfTablesFailsInTurn fails, and in the second half kills the worker, between every two operations on the catalog or a
// table. The worker that follows has another verdict on some messages: what the first has decided stays (rule T1).
func TestEveryStoreOperationOfTablesFailsInTurn(t *testing.T) {
	for _, kind := range failures {
		for _, of := range []string{"catalog", "table"} {
			t.Run(of+"/"+kind.name, func(t *testing.T) {
				hit := map[string]int{}
				inTurn(t, func(i int) bool { return failOneOfTables(t, of, i, kind.landed, kind.crash, hit) })
				t.Logf("operations, by method: %v", hit)
				if hit[faultstore.MethodPutIfAbsent] < 2 || hit[faultstore.MethodPut] == 0 || of == "table" && hit[faultstore.MethodWrite] == 0 {
					t.Errorf("not all kinds of operations were hit: %v", hit)
				}
			})
		}
	}
}

// failOneOfTables runs a job with two flushes and a fence, fails or kills at operation i of one of the stores, and reports whether there was one.
func failOneOfTables(t *testing.T, of string, i int, landed, crash bool, hit map[string]int) (had bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		c := newTown(w)
		w.fencedOnce()
		for range 2 {
			c.send(0, 2, "de", "null", "us")
			c.send(1, 1, "null", "de", "us")
		}
		store := map[string]*faultstore.Store{"catalog": w.store, "table": c.house("de").store}[of]
		cause := error(nil)
		if crash {
			cause = fs.ErrPermission // from that operation on, nothing that the worker does reaches a store
		}
		action := faultstore.Fail(cause)
		if landed {
			action = faultstore.LandThenFail(cause)
		}
		var dead atomic.Bool
		stores := []*faultstore.Store{w.store, c.house("de").store, c.house("us").store, c.house("null").store}
		for _, s := range stores {
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
		one := func(s *setup) {
			c.divides(s)
			s.UntilEnd, s.Lanes, s.Flush.Rows, s.OnError = true, 1, 3, pipeline.OnErrorSkip
		}
		c.tables = 2 // not us
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
		for _, s := range stores {
			s.SetPlan(nil)
		}
		c.tables = 100
		c.send(1, 1, "us", "null")
		w.check(w.start(one).wait())
		c.exactlyOnce("us")
	})
	return had
}

// stuckWith is stuck with messages that are sent first.
func (t *town) stuckWith(send func(), keys ...string) {
	t.t.Helper()
	send()
	t.stuck(keys...)
}

// manifests counts those that are left.
func (t *town) manifests() (n int) {
	t.t.Helper()
	for _, err := range t.memory.List(t.t.Context(), "_connector/manifests/", "") {
		t.check(err)
		n++
	}
	return n
}

// stuck runs a worker whose commits to some tables are refused, until that ends it: the catalog has decided, and they lack their rows.
func (t *town) stuck(keys ...string) {
	t.t.Helper()
	for _, key := range keys {
		t.house(key).store.SetPlan(faultstore.When(func(op faultstore.Op) bool {
			return op.Method == faultstore.MethodPutIfAbsent && !strings.HasSuffix(op.Name, "00.json")
		}, faultstore.Fail(fs.ErrPermission)))
	}
	if err := t.start(t.divides, func(s *setup) { s.UntilEnd, s.OnError = true, pipeline.OnErrorSkip }).wait(); !errors.As(err, new(*sink.Error)) {
		t.t.Fatalf("the run ended with %v, want a *sink.Error", err)
	}
	for _, key := range keys {
		t.house(key).store.SetPlan(nil)
	}
}

// as is a world of one of the tables.
func (t *town) as(key string) *world {
	one := *t.world
	one.memory = t.house(key).memory
	return &one
}

// make makes a table without rows, as another worker does.
func (t *town) make(key string) {
	t.t.Helper()
	s := &setup{columns: t.columns, sink: sink.DefaultConfig()}
	s.Name, s.Now, s.Log = stream, time.Now, slog.New(slog.DiscardHandler)
	t.divides(s)
	_, err := s.Routing.Open(t.t.Context(), key, "", createSchema(t.t, s.columns), sink.Events{})
	t.check(err)
}

// rowsOf counts the rows of a table.
func (t *town) rowsOf(key string) int {
	t.t.Helper()
	one := *t.world
	one.memory = t.house(key).memory
	if _, err := delta.OpenSnapshot(t.t.Context(), one.memory, -1); errors.Is(err, delta.ErrNotTable) {
		return 0
	}
	return len(one.rows())
}

func TestRowsAreDecidedByTheCatalog(t *testing.T) {
	scenario(t, 1, func(w *world) {
		c := newTown(w)
		c.send(0, 3, "de", "us")
		c.stuck("us")
		c.tables = 1 // by now there may be no table us
		c.run(func(s *setup) { s.OnError = pipeline.OnErrorSkip })
		c.exactlyOnce()
	})
}

func TestNothingIsCommittedToTablesBeforeTheCatalog(t *testing.T) {
	scenario(t, 1, func(w *world) {
		t := w.t
		c := newTown(w)
		c.send(0, 3, "de", "us")
		w.store.SetPlan(faultstore.When(func(op faultstore.Op) bool {
			return op.Method == faultstore.MethodPutIfAbsent && strings.HasSuffix(op.Name, "2.json")
		}, faultstore.Fail(fs.ErrPermission)))
		if err := c.start(c.divides, func(s *setup) { s.UntilEnd = true }).wait(); !errors.As(err, new(*sink.Error)) {
			t.Fatalf("the run ended with %v, want a *sink.Error", err)
		}
		w.store.SetPlan(nil)
		if de, us := c.rowsOf("de"), c.rowsOf("us"); de+us > 0 {
			t.Errorf("the tables have %d and %d rows, and the catalog has decided nothing", de, us)
		}
		c.tables = 1 // another verdict
		c.run(func(s *setup) { s.OnError = pipeline.OnErrorSkip })
		c.exactlyOnce("us", "de")
	})
}

func TestPendingRowsAreDeliveredOnAssignment(t *testing.T) {
	scenario(t, 1, func(w *world) {
		c := newTown(w)
		c.send(0, 3, "de", "us")
		c.stuck("us", "de")
		k := c.start(c.divides)
		w.eventually("the tables have their rows", func() bool { return c.rowsOf("de") == 3 && c.rowsOf("us") == 3 })
		k.stop()
		c.exactlyOnce()
	})
}

// TestEveryTableIsWaitedFor: as long as one table has not followed, nothing more is decided of its partition, and what is decided stays known.
func TestEveryTableIsWaitedFor(t *testing.T) {
	scenario(t, 1, func(w *world) {
		t := w.t
		c := newTown(w)
		c.send(0, 1, "de", "us")
		c.run()
		var down atomic.Bool
		down.Store(true)
		c.house("us").store.SetPlan(func(op faultstore.Op) faultstore.Action {
			if down.Load() && op.Method == faultstore.MethodPutIfAbsent {
				return faultstore.Fail(nil)
			}
			return faultstore.Pass()
		})
		decided := w.version()
		k := c.start(c.divides)
		c.send(0, 1, "de", "us")
		w.eventually("the catalog has decided", func() bool { return w.version() > decided })
		decided = w.version()
		c.send(0, 1, "de")
		time.Sleep(time.Minute)
		if now := w.version(); now != decided {
			t.Errorf("the catalog went from version %d to %d while a table lacked rows", decided, now)
		}
		down.Store(false)
		w.eventually("all is delivered", func() bool { return c.rowsOf("de") == 3 && c.rowsOf("us") == 2 })
		k.stop()
		c.exactlyOnce()
	})
}

func TestAManifestThatIsGone(t *testing.T) {
	scenario(t, 1, func(w *world) {
		t := w.t
		c := newTown(w)
		c.send(0, 1, "de", "us")
		c.run()
		if n := c.manifests(); n != 1 {
			t.Errorf("there are %d manifests, want that of the slot", n)
		}
		c.send(0, 1, "us")
		c.run()
		c.stuckWith(func() { c.send(0, 1, "us") }, "us")
		for info, err := range w.memory.List(t.Context(), "_connector/manifests/", "") {
			w.check(err)
			w.check(w.memory.Delete(t.Context(), info.Name))
		}
		c.start(c.divides, func(s *setup) { s.UntilEnd = true }).refused("names the manifest", "bring the object back")
	})
}

// TestRowsThatAreGone: a VACUUM in a long stop has taken what was decided about. A rewind has it read again.
func TestRowsThatAreGone(t *testing.T) {
	scenario(t, 1, func(w *world) {
		t := w.t
		c := newTown(w)
		c.stuckWith(func() { c.send(0, 2, "de", "us") }, "us")
		for info, err := range c.house("us").memory.List(t.Context(), "part-", "") {
			w.check(err)
			w.check(c.house("us").memory.Delete(t.Context(), info.Name))
		}
		c.start(c.divides, func(s *setup) { s.UntilEnd = true }).refused("us", "2 rows of offsets [0, 4)", "connector rewind --to-offsets 0=0`")
		w.foreign(`{"txn":{"appId":"events#gen","version":1}}`, `{"txn":{"appId":"events-0","version":-1}}`)
		c.run()
		if de, us := c.rowsOf("de"), c.rowsOf("us"); de != 2 || us != 2 { // by place: those of de are there twice, in two generations
			t.Errorf("the tables have %d and %d rows, want 2 and 2", de, us)
		}
	})
}

func TestARestoredTableIsRefused(t *testing.T) {
	scenario(t, 1, func(w *world) {
		t := w.t
		c := newTown(w)
		c.send(0, 2, "de", "us")
		k := c.start(c.divides)
		w.eventually("the tables have their rows", func() bool { return c.rowsOf("de") == 2 && c.rowsOf("us") == 2 })
		one := *w
		one.memory = c.house("us").memory
		one.foreign(`{"commitInfo":{"timestamp":1,"operation":"RESTORE"}}`)
		c.send(0, 1, "us", "de")
		wantRestored := func(err error) {
			t.Helper()
			if !errors.As(err, new(*sink.Error)) || !strings.Contains(err.Error(), "table us") || !strings.Contains(err.Error(), "RESTORE to the version before") {
				t.Errorf("the run ended with %v, want a *sink.Error that names the table and RESTORE", err)
			}
		}
		wantRestored(k.wait())
		wantRestored(c.start(c.divides, func(s *setup) { s.UntilEnd = true }).wait())
		w.foreign(`{"txn":{"appId":"events#gen","version":1}}`, fmt.Sprintf(`{"txn":{"appId":"events-0","version":%d}}`, w.txn(0)))
		c.run()
		c.send(0, 1, "us")
		c.run()
		if us := c.rowsOf("us"); us != 4 {
			t.Errorf("the table has %d rows, want 4", us)
		}
	})
}

// TestWhatAnotherWorkerHasMade: a worker that has not known a table from its start asks before it makes it. Another one has decided about rows of it,
// and then it was removed (rule T6).
func TestWhatAnotherWorkerHasMade(t *testing.T) {
	scenario(t, 1, func(w *world) {
		t := w.t
		c := newTown(w)
		c.send(0, 1, "de")
		k := c.start(c.divides)
		w.eventually("the table has its row", func() bool { return c.rowsOf("de") == 1 })
		w.foreign(`{"txn":{"appId":"events#table/us","version":1}}`)
		c.send(0, 1, "us")
		if err := k.wait(); !errors.As(err, new(*sink.Error)) || !strings.Contains(err.Error(), "table us") {
			t.Errorf("the run ended with %v, want a *sink.Error that names the table", err)
		}
		if _, err := delta.OpenSnapshot(t.Context(), c.house("us").memory, -1); !errors.Is(err, delta.ErrNotTable) {
			t.Errorf("the table was made again: opening it answers %v", err)
		}
	})
}

// TestTablesOfOthersAreCounted: what another worker has made is no new table, also where there may be no more.
func TestTablesOfOthersAreCounted(t *testing.T) {
	scenario(t, 1, func(w *world) {
		c := newTown(w)
		c.tables = 2
		c.send(0, 1, "de")
		k := c.start(c.divides, func(s *setup) { s.OnError = pipeline.OnErrorSkip })
		w.eventually("the table has its row", func() bool { return c.rowsOf("de") == 1 })
		for _, key := range []string{"us", "fr"} {
			c.make(key)
			w.foreign(fmt.Sprintf(`{"txn":{"appId":"events#table/%s","version":1}}`, key))
		}
		time.Sleep(time.Minute)
		w.produceRaw(0, `{"n": 1, "text": "it"}`) // one too many
		c.send(0, 1, "us", "fr")
		w.eventually("the tables have their rows", func() bool { return c.rowsOf("us") == 1 && c.rowsOf("fr") == 1 })
		k.stop()
		c.exactlyOnceBut(1)
	})
}

// TestATableThatWasReplacedBefore: what befell a table before the stream had anything in it is nothing that has to be looked for (rule A6).
func TestATableThatWasReplacedBefore(t *testing.T) {
	for _, operation := range []string{"CREATE OR REPLACE TABLE", "RESTORE", "CLONE"} {
		scenario(t, 1, func(w *world) {
			c := newTown(w)
			c.make("us")
			c.as("us").foreign(fmt.Sprintf(`{"commitInfo":{"timestamp":1,"operation":%q}}`, operation))
			c.send(0, 1, "us")
			c.run()
			c.exactlyOnce()
		})
	}
}

// TestARestoreThatWasCleanedFromAQuietTable: an open table that nothing came for was restored meanwhile, and the version that tells was cleaned
// from its log (rule A6a).
func TestARestoreThatWasCleanedFromAQuietTable(t *testing.T) {
	scenario(t, 1, func(w *world) {
		t := w.t
		c := newTown(w)
		c.send(0, 1, "de", "us")
		k := c.start(c.divides, func(s *setup) { // the zstd library keeps channels between bubbles
			s.sink.Properties = map[string]string{"delta.parquet.compression.codec": "none"}
		})
		w.eventually("the tables have their rows", func() bool { return c.rowsOf("de") == 1 && c.rowsOf("us") == 1 })
		us := c.as("us")
		restore := []string{`{"commitInfo":{"timestamp":1,"operation":"RESTORE"}}`}
		for _, l := range us.logLines(us.version()) {
			if l.Add != nil {
				restore = append(restore, fmt.Sprintf(`{"remove":{"path":%q,"dataChange":true,"deletionTimestamp":1}}`, l.Add.Path))
			}
		}
		us.foreign(restore...)
		us.foreign(`{"commitInfo":{"timestamp":1,"operation":"SET TBLPROPERTIES"}}`)
		_, err := delta.WriteLogCheckpoint(t.Context(), us.memory, us.version(), delta.CheckpointOptions{Now: time.Now})
		w.check(err)
		for v := range us.version() {
			w.check(us.memory.Delete(t.Context(), fmt.Sprintf("_delta_log/%020d.json", v)))
		}
		time.Sleep(2 * time.Minute)
		c.send(0, 1, "us")
		if err := k.wait(); !errors.As(err, new(*sink.Error)) || !strings.Contains(err.Error(), "table us") || !strings.Contains(err.Error(), "rows went back or away that the catalog counts as delivered") {
			t.Errorf("the run ended with %v, want a *sink.Error that names the table and a RESTORE", err)
		}
	})
}

// TestATableThatDoesNotFitIsNamed: a rule that the catalog does not have would reject rows that it has decided about.
func TestATableThatDoesNotFitIsNamed(t *testing.T) {
	scenario(t, 1, func(w *world) {
		t := w.t
		c := newTown(w)
		c.send(0, 1, "de", "us")
		c.run()
		one := *w
		one.memory = c.house("us").memory
		meta := one.logLines(0)
		for _, l := range meta {
			if l.MetaData != nil {
				l.MetaData.Configuration = map[string]string{"delta.constraints.small": "n < 100"}
				one.foreign(`{"metaData":`+jsonOf(t, l.MetaData)+`}`, `{"protocol":{"minReaderVersion":1,"minWriterVersion":3}}`)
			}
		}
		c.send(0, 1, "us")
		err := c.start(c.divides, func(s *setup) { s.UntilEnd = true }).wait()
		if !errors.As(err, new(*sink.Error)) || !strings.Contains(err.Error(), "table us") || !strings.Contains(err.Error(), "small") {
			t.Errorf("the run ended with %v, want a *sink.Error that names the table and its rule", err)
		}
	})
}

// TestATableFollowsTheCatalogsColumns: a column that the catalog gets comes to a table with the next rows, or, without evolution, stops the stream.
func TestATableFollowsTheCatalogsColumns(t *testing.T) {
	for _, how := range []sink.Evolution{sink.EvolveAdd, sink.EvolveNone} {
		scenario(t, 1, func(w *world) {
			t := w.t
			c := newTown(w)
			evolves := func(s *setup) { s.sink.SchemaEvolution, s.UntilEnd = how, true }
			c.send(0, 1, "de", "us")
			w.check(c.start(evolves, c.divides).wait())
			w.alter(func(m *delta.Metadata) { m.SchemaString = schemaJSON(t, columns+", extra STRING") })
			c.send(0, 1, "de", "fr")
			r := &kgo.Record{Topic: topic, Value: []byte(`{"n": 99, "text": "us", "extra": "more"}`)}
			kafkatest.ProduceTo(t, c.client, []*kgo.Record{r})
			c.house("us").want[place{0, r.Offset}] = 99
			err := c.start(evolves, c.divides).wait()
			if how == sink.EvolveNone {
				if !errors.As(err, new(*sink.Error)) || !strings.Contains(err.Error(), "extra") {
					t.Errorf("the run ended with %v, want a *sink.Error that names the column", err)
				}
				return
			}
			w.check(err)
			c.exactlyOnce()
			for key, version := range map[string]int64{"us": -1, "fr": 0} { // which is new, and has it at once
				snapshot, err := delta.OpenSnapshot(t.Context(), c.house(key).memory, version)
				w.check(err)
				if len(snapshot.Schema().FieldIndices("extra")) == 0 {
					t.Errorf("the table %s has the columns %s", key, snapshot.Schema())
				}
			}
		})
	}
}

// TestATableThatIsAheadOfALane: another worker has widened the catalog, and brought rows to a table, before this one hears of it. What its lane has is read again under the wider
// type; a run that ended would be one for each change.
func TestATableThatIsAheadOfALane(t *testing.T) {
	scenario(t, 1, func(w *world) {
		c := newTown(w)
		w.columns = columns + ", x FLOAT"
		c.send(0, 1, "de")
		k := c.start(c.divides)
		w.eventually("the table has its row", func() bool { return c.rowsOf("de") == 1 })
		w.columns = columns + ", x DOUBLE"
		w.alter(func(m *delta.Metadata) { m.SchemaString = schemaJSON(t, w.columns) })
		c.make("us")
		c.send(0, 1, "us", "fr")
		w.eventually("all is there", func() bool { return c.rowsOf("us")+c.rowsOf("fr") == 2 })
		k.stop()
		c.exactlyOnce()
	})
}

// TestAnotherCatalog: tables that follow a catalog take no rows of another one, which would bring each message again, unless that was rewound
// since; nor those of a stream of another name, unless both have a filter (rule T7).
func TestAnotherCatalog(t *testing.T) {
	for name, tc := range map[string]struct {
		stream                 string
		rewind, forget, filter bool
		want                   string // "": it goes on
	}{
		"made anew":                    {want: "the table has rows of another catalog"},
		"made anew, and rewound":       {rewind: true},
		"made anew, and nothing tells": {forget: true, want: "the table has those up to 3 already"},
		"of another name":              {stream: "other", want: `stream "other" would bring them a second time`},
		"of another name, with filter": {stream: "other", filter: true},
	} {
		t.Run(name, func(t *testing.T) {
			scenario(t, 1, func(w *world) {
				t := w.t
				c := newTown(w)
				c.send(0, 2, "de", "us")
				c.run(func(s *setup) { s.filtered = tc.filter })
				if tc.forget { // a table of before it was written down
					for key := range c.houses {
						c.as(key).forget("events#catalog/")
					}
				}
				again := &town{world: newWorldOn(w), houses: c.houses, tables: 100}
				run := func() error {
					return again.start(func(s *setup) {
						s.UntilEnd, s.Source.Group, s.filtered = true, "another", tc.filter
						s.Name = cmp.Or(tc.stream, s.Name)
						again.divides(s)
					}).wait()
				}
				err := run()
				if tc.rewind {
					if err == nil {
						t.Error("it goes on before it was rewound")
					}
					again.foreign(`{"txn":{"appId":"events#gen","version":1}}`, `{"txn":{"appId":"events-0","version":-1}}`)
					err = run()
				}
				if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "table ")) {
					t.Errorf("the run ended with %v, want %q", err, tc.want)
				}
			})
		})
	}
}

// forget takes txns out of the log of a table.
func (w *world) forget(prefix string) {
	w.t.Helper()
	for v := range w.version() + 1 {
		name := fmt.Sprintf("_delta_log/%020d.json", v)
		var kept []string
		for line := range strings.Lines(string(w.object(name))) {
			if !strings.Contains(line, `"appId":"`+prefix) {
				kept = append(kept, line)
			}
		}
		w.check(w.memory.Put(w.t.Context(), name, []byte(strings.Join(kept, ""))))
	}
}

// TestOtherValuesNameTables: the tables are known by the values that table.uri had at first, and by their types (rule T6).
func TestOtherValuesNameTables(t *testing.T) {
	for name, change := range map[string]func(*setup){
		"another value": func(s *setup) { s.Routing.Parts = []pipeline.RoutePart{{Header: "tenant"}} },
		"one more":      func(s *setup) { s.Routing.Parts = append(s.Routing.Parts, pipeline.RoutePart{Header: "tenant"}) },
		"one table":     func(s *setup) { s.Routing = nil },
	} {
		t.Run(name, func(t *testing.T) {
			scenario(t, 1, func(w *world) {
				c := newTown(w)
				c.send(0, 2, "de")
				c.run()
				c.send(0, 2, "de")
				c.start(c.divides, func(s *setup) { s.UntilEnd = true }, change).refused("the catalog of stream", "another `name`")
				c.run()
				c.exactlyOnce()
			})
		})
	}
}

// TestATypeThatNamesOtherTables: a type that spells its values otherwise would name other tables from then on.
func TestATypeThatNamesOtherTables(t *testing.T) {
	scenario(t, 1, func(w *world) {
		t := w.t
		w.columns = "n BIGINT NOT NULL, text STRING, num INT"
		c := newTown(w)
		byNumber := func(s *setup) {
			c.divides(s)
			s.Routing.Parts = []pipeline.RoutePart{{Field: []string{"num"}}}
		}
		w.produceRaw(0, `{"n": 1, "num": 7}`)
		k := c.start(byNumber)
		w.eventually("the table has its row", func() bool { return c.rowsOf("7") == 1 })
		w.alter(func(m *delta.Metadata) {
			m.SchemaString = schemaJSON(t, strings.Replace(w.columns, "num INT", "num DOUBLE", 1))
		})
		time.Sleep(time.Minute)
		w.produceRaw(0, `{"n": 2, "num": 7}`)
		for words, err := range map[string]error{
			"tables were named by {field:num} as integer, and are to be by {field:num} as double": k.wait(),
			"by a column of another type": c.start(byNumber, func(s *setup) { s.UntilEnd = true }).wait(),
		} {
			if err == nil || !strings.Contains(err.Error(), words) {
				t.Errorf("the run ended with %v, want %q", err, words)
			}
		}
		if len(c.houses) != 1 {
			t.Errorf("there are %d tables, want 1", len(c.houses))
		}
	})
}

// TestRowsInTurnMakeFewFiles: rows that come for many tables in turn are collected first, and one lane may have all files that may be open.
func TestRowsInTurnMakeFewFiles(t *testing.T) {
	scenario(t, 1, func(w *world) {
		const tables, rows = 100, 80_000
		t := w.t
		c := newTown(w)
		records := make([]*kgo.Record, rows)
		for i := range records {
			records[i] = &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, `{"n": %d, "text": "t%d"}`, i, i%tables)}
		}
		kafkatest.ProduceTo(t, c.client, records)
		const putting = 100 * time.Millisecond
		for i := range tables { // file and note are put after one another, those of the tables side by side
			c.house(fmt.Sprintf("t%d", i)).store.SetPlan(func(op faultstore.Op) faultstore.Action {
				if strings.HasPrefix(op.Name, "_delta_log") {
					return faultstore.Action{}
				}
				return faultstore.Delay(putting)
			})
		}
		begun := time.Now()
		c.run(func(s *setup) { s.Routing.MaxOpen, s.Lanes, s.Flush.Interval = tables, 8, time.Hour })
		if took := time.Since(begun); took > 2*tables*putting {
			t.Errorf("it took %v, and as many tables one after the other %v for two puts each", took, 2*tables*putting)
		}
		files := 0
		for key := range c.houses {
			if n := c.rowsOf(key); n != rows/tables {
				t.Errorf("table %s has %d rows, want %d", key, n, rows/tables)
			}
			for _, err := range c.house(key).memory.List(t.Context(), "part-", "") {
				w.check(err)
				files++
			}
		}
		if files > tables {
			t.Errorf("there are %d files, want one for each of the %d tables", files, tables)
		}
	})
}

// TestColumnsThatComeInTheMiddleOfAUnit: what is open goes on under the catalog's new layout, as far as each table can follow; where one can't, nothing
// is decided.
func TestColumnsThatComeInTheMiddleOfAUnit(t *testing.T) {
	for _, how := range []sink.Evolution{sink.EvolveAdd, sink.EvolveNone} {
		t.Run(string(how), func(t *testing.T) {
			scenario(t, 1, func(w *world) {
				t := w.t
				c := newTown(w)
				evolves := func(s *setup) { s.sink.SchemaEvolution, s.Flush.Interval, s.Lanes = how, 2*time.Minute, 1 }
				for _, key := range []string{"de", "us", "fr"} { // a new one would have the catalog's columns at once
					c.make(key)
				}
				k := c.start(evolves, c.divides, func(s *setup) { s.Routing.MaxOpen = 2 })
				w.eventually("it has begun", func() bool { return w.begun() })
				c.send(0, 2, "de", "us", "fr")
				time.Sleep(10 * time.Second)
				w.alter(func(m *delta.Metadata) { m.SchemaString = schemaJSON(t, columns+", extra STRING") })
				decided := w.version()
				time.Sleep(time.Minute)
				if how == sink.EvolveNone {
					c.send(0, 2, "us", "de")
					if err := k.wait(); !errors.As(err, new(*sink.Error)) || !strings.Contains(err.Error(), "it lacks the column extra") {
						t.Errorf("the run ended with %v, want a *sink.Error that names the column", err)
					}
					if now := w.version(); now != decided {
						t.Errorf("the catalog is at version %d, and was at %d before", now, decided)
					}
					return
				}
				c.send(0, 2, "us", "it", "de")
				w.eventually("the tables have their rows", func() bool { return c.rowsOf("us") == 4 && c.rowsOf("it") == 2 })
				k.stop()
				c.exactlyOnce()
			})
		})
	}
}

// begun tells whether the partitions are pinned.
func (w *world) begun() bool {
	snapshot, err := delta.OpenSnapshot(w.t.Context(), w.memory, -1)
	return err == nil && snapshot.Version() > 0
}

func TestTooManyTables(t *testing.T) {
	scenario(t, 1, func(w *world) {
		t := w.t
		c := newTown(w)
		m := newMorgue(w)
		c.tables = 2
		c.send(0, 3, "de", "us")
		for _, text := range []string{"fr", "a/b", "it"} {
			c.next++
			at := w.produceRaw(0, fmt.Sprintf(`{"n": %d, "text": %q}`, c.next, text))
			m.bad[place{0, at}] = map[bool]string{false: "too_many_tables", true: "bad_table_name"}[text == "a/b"]
		}
		c.send(0, 2, "de")
		m.run(c.divides)
		c.exactlyOnce()
		if n := len(m.rows()); n != len(m.bad) {
			t.Errorf("there are %d dead letters, want %d", n, len(m.bad))
		}
		for at, rows := range m.rows() {
			if len(rows) != 1 || rows[0].reason != m.bad[at] || rows[0].path != "table.uri" {
				t.Errorf("the message at %v is the dead letters %v, want one for %s", at, rows, m.bad[at])
			}
		}
	})
}

// TestTwoSettleRowsAtOnce: while one delivers, another does all of it, and decides about more, before the first has read the table, or before it
// commits to it.
func TestTwoSettleRowsAtOnce(t *testing.T) {
	t.Run("before it reads", func(t *testing.T) { settleTwice(t, func(faultstore.Op) bool { return true }) })
	t.Run("before it commits", func(t *testing.T) {
		settleTwice(t, func(op faultstore.Op) bool { return op.Method == faultstore.MethodPutIfAbsent })
	})
}

func settleTwice(t *testing.T, at func(faultstore.Op) bool) {
	t.Helper()
	scenario(t, 1, func(w *world) {
		t := w.t
		c := newTown(w)
		c.stuckWith(func() { c.send(0, 2, "de", "us") }, "de", "us")
		s := &setup{store: w.store, sink: sink.DefaultConfig(), columns: w.columns}
		s.Name, s.Now, s.Log = stream, time.Now, slog.New(slog.NewTextHandler(w.logs, nil))
		s.sink.Parquet.Compression = "none"
		c.divides(s)
		settle := func() {
			catalog, err := sink.Open(t.Context(), w.store, s.sink, sink.Options{Name: stream, Now: time.Now, Log: s.Log})
			w.check(err)
			_, err = sink.SettleRows(t.Context(), catalog, []int32{0}, func(ctx context.Context, key string) (*sink.Table, error) {
				return s.Routing.Open(ctx, key, s.Name, nil, sink.Events{})
			})
			w.check(err)
		}
		var once atomic.Bool
		c.house("us").store.SetHook(func(op faultstore.Op) {
			if at(op) && !once.Swap(true) {
				settle()
				c.send(0, 1, "us", "de")
				c.run()
			}
		})
		settle()
		c.exactlyOnce()
	})
}
