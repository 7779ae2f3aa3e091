package pipeline

import (
	"context"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/source"
	"kafkadelta/storage/memory"
)

// TestNothingIsClaimedBehindARevocation: a partition is revoked while its claim is read again. With one core, what was begun last runs first.
func TestNothingIsClaimedBehindARevocation(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	schema, err := delta.ParseDDL("n BIGINT")
	check(err)
	cfg := sink.DefaultConfig()
	cfg.URI = "memory://table"
	table, err := sink.Open(t.Context(), memory.New(), cfg, sink.Options{Name: "events", Create: schema, Now: time.Now, Log: log})
	check(err)
	check(table.Pin(t.Context(), sink.PinRequest{
		Topic: "topic", Identity: checkpoint.Identity{ClusterID: "c", TopicID: "t"}, Partitions: 1,
		Reported: func(context.Context) (map[int32]int64, error) { return map[int32]int64{}, nil },
		Starts:   func(context.Context, bool) (map[int32]int64, error) { return map[int32]int64{0: 0}, nil },
	}))
	one := checkpoint.Partition{Topic: "topic"}
	_, err = table.Claim(t.Context(), []checkpoint.Partition{one})
	check(err)

	d := newDispatcher(t.Context(), Options{Now: time.Now, Log: log, Metrics: NewMetrics("events", time.Now)})
	defer d.cancel()
	d.table, d.source = table, &source.Source{}
	d.layout, err = table.Layout(t.Context())
	check(err)
	d.parts[one] = &part{Partition: one, reclaim: true, lag: d.Metrics.lag(one)}
	done := make(chan struct{})
	d.reclaimParts(time.Now())
	d.revoke([]checkpoint.Partition{one}, done)
	for released := false; !released; {
		select {
		case f := <-d.events:
			f()
		case <-done:
			released = true
		}
	}
	d.wait.Wait()

	u, err := table.NewWriter(d.layout).Finish([]checkpoint.Span{{Partition: one, First: 0, Next: 1, Records: 1, Skipped: 1}})
	check(err)
	check(table.Commit(t.Context(), []*sink.Unit{u}))
	if u.State() != sink.Dropped {
		t.Errorf("a unit of the partition that was given up is %v, want that it is dropped", u.State())
	}
}
