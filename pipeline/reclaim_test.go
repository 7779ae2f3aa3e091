package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"kafkadelta/batch"
	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/source"
	"kafkadelta/storage/memory"
)

// claimed is a dispatcher whose one partition, pinned at offset 0 in the store's table, is claimed.
func claimed(t *testing.T, store *memory.Store) (*dispatcher, checkpoint.Partition) {
	t.Helper()
	one := checkpoint.Partition{Topic: "topic"}
	d := newDispatcher(t.Context(), Options{Now: time.Now, Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics("events", time.Now)})
	t.Cleanup(d.cancel)
	d.source, d.table = &source.Source{}, claimant(t, store, one)
	layout, err := d.table.Layout(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d.layout = layout
	return d, one
}

// claimant is a worker's table with a claim of the partition.
func claimant(t *testing.T, store *memory.Store, one checkpoint.Partition) *sink.Table {
	t.Helper()
	schema, err := delta.ParseDDL("n BIGINT")
	if err != nil {
		t.Fatal(err)
	}
	cfg := sink.DefaultConfig()
	cfg.URI, cfg.SchemaEvolution = "memory://table", sink.EvolveAdd
	table, err := sink.Open(t.Context(), store, cfg, sink.Options{Name: "events", Create: schema, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		err = table.Pin(t.Context(), sink.PinRequest{
			Topic: one.Topic, Identity: checkpoint.Identity{ClusterID: "c", TopicID: "t"}, Partitions: 1,
			Reported: func(context.Context) (map[int32]int64, error) { return map[int32]int64{}, nil },
			Starts:   func(context.Context, bool) (map[int32]int64, error) { return map[int32]int64{0: 0}, nil },
		})
	}
	if err == nil {
		_, err = table.Claim(t.Context(), []checkpoint.Partition{one})
	}
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// take commits a unit of the partition's first message, and returns what became of it.
func take(t *testing.T, table *sink.Table, one checkpoint.Partition) sink.State {
	t.Helper()
	layout, err := table.Layout(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u, err := table.NewWriter(layout).Finish([]checkpoint.Span{{Partition: one, First: 0, Next: 1, Records: 1, Skipped: 1}})
	if err == nil {
		err = table.Commit(t.Context(), []*sink.Unit{u})
	}
	if err != nil {
		t.Fatal(err)
	}
	return u.State()
}

// eventsUntil runs the dispatcher's events until done.
func eventsUntil(t *testing.T, d *dispatcher, done func() bool) {
	t.Helper()
	for limit := time.After(time.Minute); !done(); {
		select {
		case f := <-d.events:
			f()
		case <-time.After(time.Millisecond):
		case <-limit:
			t.Fatal("not within a minute")
		}
	}
}

func closed(c chan struct{}) func() bool {
	return func() bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
}

// TestNothingIsClaimedBehindARevocation: a partition is revoked while its claim is read again. With one core, what was begun last runs first.
func TestNothingIsClaimedBehindARevocation(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	d, one := claimed(t, memory.New())
	d.parts[one] = &part{Partition: one, reclaim: true, lag: d.Metrics.lag(one)}
	done := make(chan struct{})
	d.reclaimParts(time.Now())
	d.revoke([]checkpoint.Partition{one}, done)
	eventsUntil(t, d, closed(done))
	d.wait.Wait()
	if got := take(t, d.table, one); got != sink.Dropped {
		t.Errorf("a unit of the partition that was given up is %v, want that it is dropped", got)
	}
}

// TestABacklogGoesWithItsPartition: what was unread of a partition that was given away does not spread the others over the lanes.
func TestABacklogGoesWithItsPartition(t *testing.T) {
	d, one := claimed(t, memory.New())
	d.parts[one] = &part{Partition: one, lag: d.Metrics.lag(one)}
	for _, unread := range []backlog{{spreadLag + 1, 1}, {1, spreadBytes + 1}} {
		d.setUnread(d.parts[one], unread.messages, unread.bytes)
		if !d.isBehind() {
			t.Errorf("not behind with %v", unread)
		}
	}
	done := make(chan struct{})
	d.revoke([]checkpoint.Partition{one}, done)
	eventsUntil(t, d, closed(done))
	if d.wait.Wait(); d.isBehind() {
		t.Errorf("behind by %v, without a partition", d.unread)
	}
}

// TestALayoutOfBeforeChangesNothing: whoever asked for it may have waited since, as for tables that are closed.
func TestALayoutOfBeforeChangesNothing(t *testing.T) {
	store := memory.New()
	d, _ := claimed(t, store)
	next := func(columns string) *sink.Layout {
		t.Helper()
		snapshot, err := delta.OpenSnapshot(t.Context(), store, -1)
		if err != nil {
			t.Fatal(err)
		}
		metadata := snapshot.Metadata()
		if metadata.SchemaString, err = delta.SchemaToJSON(schemaOf(t, columns)); err != nil {
			t.Fatal(err)
		}
		line, err := json.Marshal(map[string]any{"metaData": metadata})
		if err != nil {
			t.Fatal(err)
		}
		if err := store.PutIfAbsent(t.Context(), fmt.Sprintf("_delta_log/%020d.json", snapshot.Version()+1), line); err != nil {
			t.Fatal(err)
		}
		_, layout, err := d.table.Follow(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return layout
	}
	before, after := next("n BIGINT, a STRING"), next("n BIGINT, a STRING, b STRING")
	for _, layout := range []*sink.Layout{before, after, before} {
		d.relayout(layout)
	}
	if d.layout != after {
		t.Errorf("the columns are %v, want the later ones", d.layout.Schema)
	}
}

// TestAClaimThatALateReleaseHasTaken: a partition comes back while its last flush hangs beyond the revocation's limit, and the end of that
// flush gives up the claim of now. The idle worker gets it again, or it would not see what others do to the partition (rule A3), nor keep its
// txn from expiring (rule A4).
func TestAClaimThatALateReleaseHasTaken(t *testing.T) {
	store := memory.New()
	d, one := claimed(t, store)
	hangs := d.epoch
	d.parts[one] = &part{Partition: one, epoch: hangs.id, lag: d.Metrics.lag(one)}
	d.closing, d.epoch = hangs, newEpoch(hangs.id+1)
	done := make(chan struct{})
	d.revoke([]checkpoint.Partition{one}, done)

	if _, err := d.table.Claim(t.Context(), []checkpoint.Partition{one}); err != nil { // it is back
		t.Fatal(err)
	}
	back := &part{Partition: one, lag: d.Metrics.lag(one)}
	d.parts[one] = back

	d.closing = nil
	d.finishEpoch(hangs)
	eventsUntil(t, d, closed(done))
	d.followAt = time.Time{}
	d.follow(time.Now())
	eventsUntil(t, d, func() bool { return !d.following })
	d.wait.Wait()
	if !back.reclaim {
		t.Fatal("the partition without a claim is not claimed again")
	}

	if _, err := d.table.Claim(t.Context(), []checkpoint.Partition{one}); err != nil {
		t.Fatal(err)
	}
	back.reclaim = false
	if got := take(t, claimant(t, store, one), one); got != sink.Landed {
		t.Fatalf("another worker's unit is %v", got)
	}
	d.followAt = time.Time{}
	d.follow(time.Now())
	eventsUntil(t, d, func() bool { return !d.following })
	d.wait.Wait()
	if !back.reclaim {
		t.Error("what another worker has done to the partition goes unseen")
	}
}

// unstarted is a Kafka client that joins no group.
func unstarted(t *testing.T) *source.Source {
	t.Helper()
	cfg := source.DefaultConfig()
	cfg.Topic, cfg.Brokers = "topic", []string{"127.0.0.1:1"} // where nobody listens
	s, err := source.New(cfg, "group", source.Callbacks{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(t.Context()) })
	return s
}

// owned is a dispatcher with a partition of which offsets up to 4 were taken, and its lane, which does not run.
func owned(t *testing.T) (*dispatcher, *part, *lane) {
	t.Helper()
	d, one, l := turning(t)
	d.source, d.turn = unstarted(t), nil
	p := d.parts[one]
	p.heldUp, p.committed, p.lane = false, 5, l
	return d, p, l
}

// TestALossOfAPartitionThatIsReadAgain: the leader is believed that messages are gone, and right behind that the partition is fenced. The loss is not passed then: it would be taken
// once more behind the claim, at an offset that the lane is beyond, which ends the run.
func TestALossOfAPartitionThatIsReadAgain(t *testing.T) {
	d, p, l := owned(t)
	l.ledger = batch.NewLedger()
	p.doubted, p.validFrom, p.lostTo = d.Now(), never, 10
	d.markReclaim(p.Partition)
	d.passLost()
	d.seek([]*part{p}, map[checkpoint.Partition]checkpoint.Position{p.Partition: {Next: 5}}) // where the table is
	if p.doubted.IsZero() || p.lostTo != 0 || p.validFrom != never {
		t.Errorf("the partition is no longer in doubt (%v), has lost what is before %d, and is read from poll %d: want that its leader is asked again", p.doubted, p.lostTo, p.validFrom)
	}
	p.lostTo = 10 // it says the same
	d.passLost()
	for len(l.in) > 0 {
		if err := l.take(<-l.in); err != nil {
			t.Errorf("the lane: %v", err)
		}
	}
	if spans := l.ledger.Spans(); len(spans) != 1 || spans[0].First != 5 || spans[0].Next != 10 || spans[0].Lost != 5 {
		t.Errorf("the spans are %+v, want 5 offsets that are lost", spans)
	}
}

// TestAPartitionThatIsAssignedOnceMore: one that is owned already, with messages under way, is assigned again, and the client loads the position of that. A rewind comes before the
// partition is read again; where the client passes over the seek to there (insist), what lies between is not taken for a gap.
func TestAPartitionThatIsAssignedOnceMore(t *testing.T) {
	d, p, _ := owned(t)
	p.next, p.epoch = 20, d.epoch.id
	d.assign(map[checkpoint.Partition]checkpoint.Position{p.Partition: {Next: 20}})
	if !p.reclaim {
		t.Fatal("what is under way is not dropped")
	}
	d.seek([]*part{p}, map[checkpoint.Partition]checkpoint.Position{p.Partition: {Next: 10}})
	if !d.passedOver(p, 20) {
		t.Error("a message at offset 20 is taken behind 9")
	}
}
