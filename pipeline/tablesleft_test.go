package pipeline_test

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/delta"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
	"kafkadelta/storage"
	"kafkadelta/storage/memory"
)

// TestAnIdleWorkerClosesTables: what it has opened to settle what was pending is closed again, down to table.max_open, though nothing comes.
func TestAnIdleWorkerClosesTables(t *testing.T) {
	scenario(t, 1, func(w *world) {
		c := newTown(w)
		keys := []string{"de", "us", "null"}
		c.stuckWith(func() { c.send(0, 1, keys...) }, keys...)
		var opened atomic.Int64
		k := c.start(c.divides, func(s *setup) {
			s.Routing.MaxOpen = 1
			open := s.Routing.Open
			s.Routing.Open = func(ctx context.Context, key, known string, columns *arrow.Schema, events sink.Events) (*sink.Table, error) {
				opened.Add(1)
				return open(ctx, key, known, columns, events)
			}
		})
		w.eventually("what was pending is settled", func() bool { return opened.Load() == 3 })
		time.Sleep(time.Minute)
		c.send(0, 1, keys...)
		time.Sleep(time.Minute)
		if got := opened.Load(); got < 5 {
			t.Errorf("%d tables were opened, so that more than one of three was open while nothing came", got)
		}
		k.stop()
		c.exactlyOnce()
	})
}

// TestWhatIsLeftIsSwept while a worker runs, of dead letters as of many tables: notes and manifests that nobody names, once they are old.
func TestWhatIsLeftIsSwept(t *testing.T) {
	scenario(t, 1, func(w *world) {
		m, c := newMorgue(w), newTown(w)
		var passed atomic.Int64 // of the worker's clock
		k := c.start(m.buries, c.divides, func(s *setup) {
			s.Now = func() time.Time { return time.Now().Add(time.Duration(passed.Load())) }
			s.store = &aged{s.store}
			s.Routing.Open = func(ctx context.Context, key, _ string, columns *arrow.Schema, events sink.Events) (*sink.Table, error) {
				return sink.Open(ctx, &aged{c.house(key).store}, s.sink, sink.Options{
					Name: s.Name, Follows: true, Create: columns, Engine: "kafkadelta/test", Now: s.Now, Log: s.Log, Events: events,
				})
			}
			s.OpenDeadLetters = func(ctx context.Context, events sink.Events) (*sink.Table, error) {
				return sink.Open(ctx, &aged{m.letters}, s.sink, sink.Options{Create: pipeline.DeadLetterSchema(), Engine: "kafkadelta/test", Now: s.Now, Log: s.Log, Events: events})
			}
		})
		c.send(0, 1, "de")
		m.poison(0, 1)
		time.Sleep(time.Minute)
		stores := map[string]*memory.Store{"the catalog": w.memory, "de": c.house("de").memory, "the dead-letter table": m.memory}
		left := func() (names []string) {
			for of, store := range stores {
				for o, err := range store.List(t.Context(), "_connector/", "") {
					w.check(err)
					if strings.HasSuffix(o.Name, agedSuffix) {
						names = append(names, of+": "+o.Name)
					}
				}
			}
			return names
		}
		leave := func(of, folder, text string) {
			snapshot, err := delta.OpenSnapshot(t.Context(), stores[of], -1)
			w.check(err)
			w.check(stores[of].Put(t.Context(), "_connector/"+folder+"/000000000000"+agedSuffix, []byte(strings.ReplaceAll(text, "ID", snapshot.Metadata().ID))))
		}
		leave("the catalog", "manifests", `{"v":1,"gen":0,"tables":["de"]}`)
		leave("de", "parcels", `{"v":1,"table":"ID","adds":[],"spans":null,"routed":{"name":"events","gen":0,"spans":[]}}`)
		leave("the dead-letter table", "parcels", `{"v":1,"table":"ID","adds":[],"stream":"events","spans":[]}`)
		time.Sleep(time.Minute)
		if got := left(); len(got) != 3 {
			t.Errorf("left are %v, before it is time to look", got)
		}
		passed.Store(int64(25 * time.Hour))
		time.Sleep(time.Minute)
		if got := left(); len(got) > 0 {
			t.Errorf("a day later %v are left", got)
		}
		k.stop()
	})
}

// aged is a store in which some objects are older than they are.
type aged struct{ storage.Store }

const agedSuffix = "0007.json"

func (s *aged) List(ctx context.Context, prefix, after string) iter.Seq2[storage.ObjectInfo, error] {
	return func(yield func(storage.ObjectInfo, error) bool) {
		for o, err := range s.Store.List(ctx, prefix, after) {
			if strings.HasSuffix(o.Name, agedSuffix) && strings.HasPrefix(o.Name, "_connector/") {
				o.ModTime = o.ModTime.Add(-25 * time.Hour)
			}
			if !yield(o, err) {
				return
			}
		}
	}
}

// TestATableOfAnotherStreamIsNotMadeAgain is rule T6 where streams share a catalog: made again it would be empty, and the other stream would not be told.
func TestATableOfAnotherStreamIsNotMadeAgain(t *testing.T) {
	for _, there := range []bool{true, false} {
		scenario(t, 1, func(w *world) {
			c := newTown(w)
			c.send(0, 1, "us")
			c.run()
			line := `{"txn":{"appId":"another#table/de","version":1}}` + "\n"
			w.check(w.memory.PutIfAbsent(t.Context(), fmt.Sprintf("_delta_log/%020d.json", w.version()+1), []byte(line)))
			if there {
				c.make("de")
			}
			c.send(0, 1, "de")
			var by sync.Map // the lanes open tables side by side
			err := c.start(c.divides, func(s *setup) {
				s.UntilEnd = true
				open := s.Routing.Open
				s.Routing.Open = func(ctx context.Context, key, known string, columns *arrow.Schema, events sink.Events) (*sink.Table, error) {
					by.Store(key, known)
					return open(ctx, key, known, columns, events)
				}
			}).wait()
			if (err == nil) != there {
				w.t.Errorf("with the table there (%v) the run ended with %v", there, err)
			}
			if known, _ := by.Load("de"); known != "another" {
				w.t.Errorf("the table is opened as known by %q, want another stream, whose table.uri may be another", known)
			}
			if there {
				c.exactlyOnce()
			} else if o, ok := c.houses["de"]; ok && len(o.objects()) > 0 {
				w.t.Errorf("the table was made: %v", o.objects())
			}
		})
	}
}

func (h *house) objects() (names []string) {
	for o, err := range h.memory.List(context.Background(), "", "") {
		if err == nil {
			names = append(names, o.Name)
		}
	}
	return names
}
