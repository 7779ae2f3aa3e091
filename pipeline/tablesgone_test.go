package pipeline_test

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/internal/kafkatest"
	"kafkadelta/pipeline"
	"kafkadelta/storage/faultstore"
)

// TestNextUnitsWaitForWhatIsPending is rule T3 for a worker that comes after one that has died: units without rows wait as well, since they would
// move the partition away from where rule T5 looks.
func TestNextUnitsWaitForWhatIsPending(t *testing.T) {
	for name, value := range map[string]string{"a row": `{"n": 7, "text": "de"}`, "a message that is skipped": `{`} {
		t.Run(name, func(t *testing.T) {
			scenario(t, 1, func(w *world) {
				t, c := w.t, newTown(w)
				c.stuckWith(func() { c.send(0, 1, "de", "us") }, "us")
				c.house("us").store.SetPlan(faultstore.When(func(op faultstore.Op) bool { return op.Method == faultstore.MethodPutIfAbsent }, faultstore.Fail(nil)))
				decided := w.version()
				k := c.start(c.divides, func(s *setup) { s.OnError = pipeline.OnErrorSkip })
				r := &kgo.Record{Topic: topic, Value: []byte(value)}
				kafkatest.ProduceTo(t, c.client, []*kgo.Record{r})
				time.Sleep(time.Minute)
				k.running()
				if now := w.version(); now != decided {
					t.Errorf("the catalog went from version %d to %d while a table lacked rows", decided, now)
				}
				c.house("us").store.SetPlan(nil)
				w.eventually("the catalog has gone on", func() bool { return w.txn(0) == r.Offset })
				k.stop()
				if got := c.rowsOf("us"); got != 1 {
					t.Errorf("table us has %d rows, want 1", got)
				}
			})
		})
	}
}

// TestFreshnessOfManyTables: a message is as old as when its own table had it, not the catalog.
func TestFreshnessOfManyTables(t *testing.T) {
	scenario(t, 1, func(w *world) {
		c := newTown(w)
		k := c.start(c.divides)
		c.send(0, 1, "de")
		w.eventually("the table is there", func() bool { return c.rowsOf("de") == 1 })
		c.house("de").store.SetPlan(faultstore.When(func(op faultstore.Op) bool { return op.Method == faultstore.MethodPutIfAbsent }, faultstore.Delay(20*time.Second)))
		c.send(0, 1, "de")
		w.eventually("the table has its row", func() bool { return c.rowsOf("de") == 2 })
		time.Sleep(time.Second)
		if age := k.metric("kafkadelta_freshness_seconds"); age < 20 {
			w.t.Errorf("the freshness is %v s, and the row came after 20 s", age)
		}
		k.stop()
		c.exactlyOnce()
	})
}

// TestARunToTheEndDeliversForOthers: what is pending of a partition that another worker owns, which can't deliver it.
func TestARunToTheEndDeliversForOthers(t *testing.T) {
	parallelWorld(t, 2, func(w *world) {
		c := newTown(w)
		down := func(keys ...string) {
			for _, key := range keys {
				c.house(key).store.Down(func(op faultstore.Op) bool { return isPut(op) })
			}
		}
		c.send(0, 1, "de", "us")
		c.run(soon)
		c.send(0, 1, "de") // pending of each partition by itself
		c.stuck("de")
		down("de")
		c.send(1, 1, "us")
		c.stuck("us")
		down("us")
		assigned := func() int { return strings.Count(w.logs.String(), "partitions assigned") }
		before := assigned()
		owner := w.join(soon, c.divides)
		w.eventually("it has partitions", func() bool { return assigned() > before })
		if de, us := c.rowsOf("de"), c.rowsOf("us"); de != 1 || us != 1 {
			w.t.Fatalf("the tables have %d and %d rows, want 1 and 1", de, us)
		}
		other := newTown(w)
		for key, h := range c.houses {
			other.houses[key] = &house{h.memory, faultstore.New(h.memory), h.want}
		}
		other.run(soon)
		other.exactlyOnce()
		for _, h := range c.houses {
			h.store.Up()
		}
		owner.leave()
	})
}
