package sink_test

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
)

// expiring has log checkpoints forget txns after 40 days, and gives a worker that owns two partitions, of which the first moved.
func expiring(t *testing.T) (*bench, *sink.Table) {
	t.Helper()
	b := newBench(t)
	b.cfg.Properties = map[string]string{
		"delta.setTransactionRetentionDuration": "interval 40 days", "delta.logRetentionDuration": "interval 4000 days",
	}
	table := b.owner(2)
	b.commit(table, b.unit(table, span(0, 0, 3)))
	return b, table
}

const day = 24 * time.Hour

func (b *bench) follow(table *sink.Table) {
	b.t.Helper()
	_, _, err := table.Follow(b.t.Context())
	b.check(err)
}

// age is how long ago each txn was written, in days.
func (b *bench) age() map[string]int {
	b.t.Helper()
	ages := map[string]int{}
	for txn := range b.snapshot().Txns() {
		if txn.AppID == checkpoint.LastUnitAppID(stream) || txn.Lasts() { // is of the time of its unit, or of none
			continue
		}
		ages[strings.TrimPrefix(txn.AppID, stream)] = int(b.now().Sub(time.UnixMilli(*txn.LastUpdated)) / day)
	}
	return ages
}

// aged is a store whose clock is the bench's.
type aged struct {
	delta.LogStore
	now func() time.Time
}

func (s aged) List(ctx context.Context, prefix, after string) iter.Seq2[delta.ObjectInfo, error] {
	return func(yield func(delta.ObjectInfo, error) bool) {
		for o, err := range s.LogStore.List(ctx, prefix, after) {
			o.ModTime = s.now()
			if !yield(o, err) {
				return
			}
		}
	}
}

func TestIdleTxnsAreKeptFromExpiring(t *testing.T) {
	b, table := expiring(t)
	for range 9 * 4 { // nine days, looked at now and then
		b.passed.Add(int64(day / 4))
		b.follow(table)
	}
	if version := b.version(); version != 2 {
		t.Errorf("the table is at version %d before a quarter of the retention has passed, want 2", version)
	}
	for range 2 * 4 {
		b.passed.Add(int64(day / 4))
		b.follow(table)
	}
	if version := b.version(); version != 3 {
		t.Errorf("the table is at version %d after a quarter of the retention, want 3", version)
	}
	if got := b.age(); len(got) != 2 || slices.Max(slices.Collect(maps.Values(got))) > 1 {
		t.Errorf("the txns' ages are %v days, want all of them new", got)
	}
	if b.txn(0) != 2 || b.txn(1) != -1 {
		t.Errorf("the txns are %d and %d, want 2 and -1", b.txn(0), b.txn(1))
	}
	b.commit(table, b.unit(table, span(0, 3, 1)))
	if b.txn(0) != 3 {
		t.Errorf("the txn is %d, want 3", b.txn(0))
	}
	// Years go by, and log checkpoints forget what is old.
	for range 100 {
		b.passed.Add(int64(8 * day))
		b.follow(table)
	}
	_, err := delta.WriteLogCheckpoint(t.Context(), aged{b.memory, b.now}, b.version(), delta.CheckpointOptions{Now: b.now})
	b.check(err)
	b.check(b.open().Pin(t.Context(), pins(2)))
	if b.txn(0) != 3 || b.txn(1) != -1 {
		t.Errorf("the txns are %d and %d, want 3 and -1", b.txn(0), b.txn(1))
	}
}

// TestAStreamThatStoodStillForTooLong: its offsets have expired, and it is not taken for one that the table has never heard of (rule A4b), be it that
// offsets were reported to the group, that the group was forgotten, or that there was no row yet.
func TestAStreamThatStoodStillForTooLong(t *testing.T) {
	for name, rows := range map[string]int64{"without rows": 0, "with rows": 3} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.cfg.Properties = map[string]string{"delta.setTransactionRetentionDuration": "interval 40 days"}
			if table := b.owner(2); rows > 0 {
				b.commit(table, b.unit(table, span(0, 0, rows)))
			}
			b.passed.Add(int64(50 * day))
			_, err := delta.WriteLogCheckpoint(t.Context(), aged{b.memory, b.now}, b.version(), delta.CheckpointOptions{Now: b.now})
			b.check(err)
			if txn, ok := b.snapshot().Txn(checkpoint.AppID(stream, 0)); ok {
				t.Fatalf("the offset is still there: %v", txn)
			}
			for _, told := range []map[int32]int64{nil, {0: rows}} {
				r := pinsAt(2, 100) // what is `latest` by now
				r.Reported = reported(told)
				mustRefuse(t, b.open().Pin(t.Context(), r), "delta.setTransactionRetentionDuration", "--to-offsets 0=OFFSET,1=OFFSET")
			}
		})
	}
}

func TestABusyWorkerKeepsItsIdlePartitions(t *testing.T) {
	b, table := expiring(t)
	for i := range int64(11) {
		b.passed.Add(int64(day))
		b.commit(table, b.unit(table, span(0, 3+i, 1)))
	}
	if version := b.version(); version != 2+11 {
		t.Errorf("the table is at version %d, want 13: what is idle needs no version of its own", version)
	}
	if got := b.age(); slices.Max(slices.Collect(maps.Values(got))) > 2 {
		t.Errorf("the txns' ages are %v days", got)
	}
}

// A busy partition's offset is written with every commit, its leader epoch only when it changes: that must not expire either.
func TestLeaderEpochsOfBusyPartitionsAreKept(t *testing.T) {
	b, table := expiring(t)
	for i := range int64(21) {
		b.passed.Add(int64(2 * day))
		s := span(0, 3+i, 1)
		s.Epoch = checkpoint.EpochOf(7)
		b.commit(table, b.unit(table, s))
		age, ok := b.age()["#leader/0"]
		if !ok || age > 12 {
			t.Fatalf("after %d days the leader epoch's age is %d days (there: %v), want it new after a quarter of 40 days", 2*(i+1), age, ok)
		}
	}
	if fences, _, err := table.Follow(t.Context()); err != nil || len(fences) != 0 {
		t.Errorf("fenced are %v, %v; want none", fences, err)
	}
}

// TestRefreshIsNotBlind has another worker move the txn at the moment of the refresh.
func TestRefreshIsNotBlind(t *testing.T) {
	b, table := expiring(t)
	b.passed.Add(int64(11 * day))
	b.beforePut(func() { b.foreign(txnLine(1, 41)) })
	b.follow(table)
	if b.txn(1) != 41 {
		t.Errorf("the txn is %d: the refresh has lowered what another worker moved", b.txn(1))
	}
	if fenced, _, err := table.Follow(t.Context()); err != nil || len(fenced) != 1 {
		t.Errorf("fenced are %v, %v; want partition 1", fenced, err)
	}
}

func TestNothingIsRefreshedWhereNothingExpires(t *testing.T) {
	b := newBench(t)
	b.cfg.Properties = map[string]string{"delta.logRetentionDuration": "interval 2 hours"} // a commit each half hour would be for nothing
	table := b.owner(2)
	b.passed.Add(int64(400 * day))
	b.follow(table)
	if version := b.version(); version != 1 {
		t.Errorf("the table is at version %d, want 1", version)
	}
}

// TestAnIdleStreamKeepsACommitInTheLog: what tells a later start that the table was not restored must not be cleaned away while workers run.
func TestAnIdleStreamKeepsACommitInTheLog(t *testing.T) {
	b := newBench(t)
	table := b.owner(2)
	b.commit(table, b.unit(table, span(0, 0, 3)))
	for range 7 {
		b.passed.Add(int64(day))
		b.follow(table)
	}
	if version := b.version(); version != 2 {
		t.Errorf("the table is at version %d after a week, want 2", version)
	}
	for range 60 {
		b.passed.Add(int64(day))
		b.follow(table)
	}
	if version := b.version(); version < 2+7 || version > 2+8 {
		t.Errorf("the table is at version %d after 67 days, want a commit for each 7.5 of them", version)
	}
}

// TestClockThatWasAhead: a txn that was written by a clock that was months ahead is written anew, or it would be kept from expiring by
// nobody until then.
func TestClockThatWasAhead(t *testing.T) {
	b, table := expiring(t)
	b.passed.Add(int64(-300 * day))
	b.follow(table)
	if got := b.age(); slices.Max(slices.Collect(maps.Values(got))) > 1 || slices.Min(slices.Collect(maps.Values(got))) < 0 {
		t.Errorf("the txns' ages are %v days, want all of them new", got)
	}
	version := b.version()
	b.follow(table)
	if b.version() != version {
		t.Error("they are written again and again")
	}
}

// TestClockJumps sets the clock by hours while units wait and land: what can't be proved is dropped and comes again, nothing is stuck.
func TestClockJumps(t *testing.T) {
	b := newBench(t)
	table := b.owner(1)
	at := int64(0)
	for _, jump := range []time.Duration{0, 5 * time.Hour, -10 * time.Hour, 30 * time.Minute, -30 * time.Minute, 40 * day, -40 * day} {
		waiting := b.unit(table, span(0, at, 1))
		b.passed.Add(int64(jump))
		b.commit(table, waiting)
		if tooOld := jump > time.Hour; (waiting.State() == sink.Dropped) != tooOld {
			t.Errorf("a unit from before the clock jumped by %v is %v (rule C8)", jump, waiting.State())
		}
		at = b.txn(0) + 1
		next := b.unit(table, span(0, at, 1))
		b.commit(table, next)
		b.want(next, sink.Landed)
		if b.txn(0) != at {
			t.Errorf("the txn is %d, want %d", b.txn(0), at)
		}
		b.follow(table)
		at = b.txn(0) + 1
	}
}

// TestLeaderEpochsAreKeptFromExpiring: that of an idle partition goes with its txn, that of a busy one is written anew though it did not change.
func TestLeaderEpochsAreKeptFromExpiring(t *testing.T) {
	b, table := expiring(t)
	led := func(id int32, first int64) checkpoint.Span {
		s := span(id, first, 1)
		s.Epoch = checkpoint.EpochOf(4)
		return s
	}
	b.commit(table, b.unit(table, led(0, 3), led(1, 0)))
	for i := range int64(25) {
		b.passed.Add(int64(day))
		b.commit(table, b.unit(table, led(0, 4+i)))
	}
	for _, id := range []int32{0, 1} {
		txn, ok := b.snapshot().Txn(checkpoint.LeaderAppID(stream, id))
		if age := b.now().Sub(time.UnixMilli(*txn.LastUpdated)); !ok || txn.Version != 4 || age > 11*day {
			t.Errorf("the leader epoch of partition %d is %d, written %v ago", id, txn.Version, age)
		}
	}
}

// TestMarksOfCarriedStreamsAreKept: of two streams in one table one is idle, and each of its refreshes is carried by the other. What belongs
// to the stream as a whole must not expire for that: its topic's identity, its generation, its last replay, its filter.
func TestMarksOfCarriedStreamsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := expiring(t)
		busy := b.open(b.memory) // its requests go past the hook
		b.claim(busy, 0)
		b.name, b.filtered = "idle", true // as the other is, so that they may be of one topic
		marks := []string{checkpoint.GenerationAppID(b.name), checkpoint.ReplayAppID(b.name), checkpoint.FilterAppID(b.name)}
		for _, mark := range append(marks, checkpoint.FilterAppID(stream)) {
			b.foreign(fmt.Sprintf(`{"txn":{"appId":%q,"version":1,"lastUpdated":%d}}`, mark, b.now().UnixMilli()))
		}
		marks = append(marks, checkpoint.IdentityAppID(b.name, identity), checkpoint.AppID(b.name, 0))
		idle := b.owner(1)
		for i := range int64(5) {
			b.follow(busy)
			time.Sleep(11 * day)
			carried := 0
			b.left(func() { b.follow(idle) }, func() {
				b.commit(busy, b.unit(busy, span(0, 3+i, 1)))
				carried = b.record().Carried
			})
			if carried != 1 {
				t.Fatalf("%d units were carried, want the refresh of the idle stream", carried)
			}
			for _, mark := range marks {
				txn, _ := b.snapshot().Txn(mark)
				if age := b.now().Sub(time.UnixMilli(*txn.LastUpdated)); age > 12*day {
					t.Errorf("after %d days the txn %q was written %v ago, and expires after 40 days", 11*(i+1), mark, age)
				}
			}
		}
		_, err := delta.WriteLogCheckpoint(t.Context(), b.memory, b.version(), delta.CheckpointOptions{Now: b.now})
		b.check(err)
		b.check(b.open().Pin(t.Context(), pins(1)))
		if fenced, _, err := idle.Follow(t.Context()); err != nil || len(fenced) > 0 {
			t.Errorf("fenced are %v, %v; want none", fenced, err)
		}
	})
}
