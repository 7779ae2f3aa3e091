package sink_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
)

// pinned are the txns of the stream's partitions.
func (b *bench) pinned() map[int32]int64 {
	b.t.Helper()
	all := map[int32]int64{}
	for txn := range b.snapshot().Txns() {
		if id, ok := checkpoint.PartitionOf(stream, txn.AppID); ok {
			all[id] = txn.Version
		}
	}
	return all
}

func TestPinFixesAllPartitionsInOneVersion(t *testing.T) {
	b := newBench(t)
	table := b.open()
	b.check(table.Pin(t.Context(), pinsAt(3, 7)))
	if got, want := b.pinned(), map[int32]int64{0: 6, 1: 6, 2: 6}; !maps.Equal(got, want) {
		t.Errorf("the txns are %v, want %v", got, want)
	}
	if got := b.version(); got != 1 {
		t.Errorf("the table is at version %d, want 1", got)
	}
	txn, ok := b.snapshot().Txn(checkpoint.IdentityAppID(stream, identity))
	if !ok || txn.Version != 3 {
		t.Errorf("the identity's txn is %v, %v; want version 3", txn, ok)
	}
}

func TestPinAgainAsksForNothing(t *testing.T) {
	b := newBench(t)
	table := b.open()
	b.check(table.Pin(t.Context(), pinsAt(3, 7)))
	r := pinsAt(3, 100) // `latest` would give another answer by now
	r.Starts = func(context.Context, bool) (map[int32]int64, error) {
		t.Error("the starts were asked for again")
		return nil, errors.New("no")
	}
	b.check(table.Pin(t.Context(), r))
	b.check(b.open().Pin(t.Context(), r))
	if got := b.version(); got != 1 {
		t.Errorf("the table is at version %d, want 1", got)
	}
}

func TestTwoTablesPinAtOnce(t *testing.T) {
	b := newBench(t)
	one, two := b.open(), b.open()
	b.beforePut(func() { b.check(two.Pin(t.Context(), pinsAt(3, 5))) }) // between one's look and its put
	b.check(one.Pin(t.Context(), pinsAt(3, 9)))
	if got, want := b.pinned(), map[int32]int64{0: 4, 1: 4, 2: 4}; !maps.Equal(got, want) {
		t.Errorf("the txns are %v, want those of the winner: %v", got, want)
	}
	if got := b.version(); got != 1 {
		t.Errorf("the table is at version %d, want 1: one pin", got)
	}
}

func TestManyTablesPinAndMakeTheTableAtOnce(t *testing.T) {
	b := newBench(t)
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			if err := b.open().Pin(context.Background(), pinsAt(4, int64(i))); err != nil { //nolint:usetesting // in a goroutine
				t.Error(err)
			}
		})
	}
	wait.Wait()
	got := b.pinned()
	if len(got) != 4 || got[0] != got[1] || got[0] != got[2] || got[0] != got[3] {
		t.Errorf("the txns are %v, want four equal ones", got)
	}
	if got := b.version(); got != 1 {
		t.Errorf("the table is at version %d, want 1: one pin", got)
	}
}

func TestNewPartitionsAreReadFromTheirBeginning(t *testing.T) {
	b := newBench(t)
	table := b.open()
	b.check(table.Pin(t.Context(), pinsAt(2, 7)))
	r := pinsAt(4, 3)
	starts := r.Starts
	r.Starts = func(ctx context.Context, fresh bool) (map[int32]int64, error) {
		t.Error("the starts were asked for: retention may have moved them since the partitions were added")
		return starts(ctx, fresh)
	}
	b.check(table.Pin(t.Context(), r))
	if got, want := b.pinned(), map[int32]int64{0: 6, 1: 6, 2: -1, 3: -1}; !maps.Equal(got, want) {
		t.Errorf("the txns are %v, want %v", got, want)
	}
	// Two workers may see different numbers of partitions for a while.
	var refused *checkpoint.RefusedError
	if err := table.Pin(t.Context(), pinsAt(2, 0)); !errors.As(err, &refused) || !refused.Passing {
		t.Errorf("fewer partitions than pinned: %v, want a refusal that may pass", err)
	}
	if txn, _ := b.snapshot().Txn(checkpoint.IdentityAppID(stream, identity)); txn.Version != 4 {
		t.Errorf("%d partitions are pinned, want 4", txn.Version)
	}
}

func TestPinRefuses(t *testing.T) {
	cases := map[string]struct {
		table   []string // further versions of the table, each one line
		request func(*sink.PinRequest)
		want    string
	}{
		"another topic id": {
			request: func(r *sink.PinRequest) { r.Identity.TopicID = "made-anew" },
			want:    "made anew",
		},
		"a partition that the group has reported but the table does not know": {
			request: func(r *sink.PinRequest) { r.Partitions = 3; r.Reported = reported(map[int32]int64{2: 50}) },
			want:    "was reported",
		},
		"an identity that counts more partitions than there are txns": {
			table:   []string{`{"txn":{"appId":"` + checkpoint.IdentityAppID(stream, identity) + `","version":3}}`},
			request: func(r *sink.PinRequest) { r.Partitions = 3 },
			want:    "expire",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			table := b.open()
			b.check(table.Pin(t.Context(), pinsAt(2, 7)))
			for _, line := range c.table {
				b.foreign(line)
			}
			r := pinsAt(2, 0)
			c.request(&r)
			err := table.Pin(t.Context(), r)
			var refused *checkpoint.RefusedError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("Pin answered %v, want a refusal that says %q", err, c.want)
			}
			if refused.Remedy == "" {
				t.Error("the refusal has no remedy")
			}
		})
	}
}

// TestTableOfKafkaDeltaIngestIsTakenOver: it has txns, no identity, and no txn of a partition that never had a message.
func TestTableOfKafkaDeltaIngestIsTakenOver(t *testing.T) {
	b := newBench(t)
	table := b.open()
	b.foreign(txnLine(0, 99))
	b.foreign(txnLine(2, 49))
	b.check(table.Pin(t.Context(), pinsAt(4, 7)))
	if got, want := b.pinned(), map[int32]int64{0: 99, 1: 6, 2: 49, 3: 6}; !maps.Equal(got, want) {
		t.Errorf("the txns are %v, want %v", got, want)
	}
	if next := b.claim(table, 0, 1, 2, 3); next[0] != 100 || next[1] != 7 {
		t.Errorf("the partitions go on at %v", next)
	}
	if _, ok := b.snapshot().Txn(checkpoint.IdentityAppID(stream, identity)); !ok {
		t.Error("the identity was not written")
	}
}

func TestClaimOfAPartitionWithoutTxnIsRefused(t *testing.T) {
	b := newBench(t)
	_, err := b.open().Claim(t.Context(), []checkpoint.Partition{partition(0)})
	if !errors.As(err, new(*checkpoint.RefusedError)) {
		t.Errorf("Claim answered %v, want a refusal", err)
	}
}

func TestPinGoesOnUntilTheStartsAreKnown(t *testing.T) {
	b := newBench(t)
	table := b.open()
	r := pins(2)
	r.Starts = func(context.Context, bool) (map[int32]int64, error) { return map[int32]int64{0: 1}, nil }
	if err := table.Pin(t.Context(), r); err == nil || b.version() != 0 {
		t.Errorf("Pin answered %v at version %d, want an error and nothing written", err, b.version())
	}
	b.check(table.Pin(t.Context(), pins(2)))
}

// TestRestoreWhileNoWorkerRan holds rule A6: at the start the log is looked through back to the stream's last commit.
func TestRestoreWhileNoWorkerRan(t *testing.T) {
	const restore, optimize = `{"commitInfo":{"operation":"RESTORE"}}`, `{"commitInfo":{"operation":"OPTIMIZE"}}`
	for name, tt := range map[string]struct {
		happens func(*bench)
		refused bool
	}{
		"nothing":  {func(*bench) {}, false},
		"OPTIMIZE": {func(b *bench) { b.foreign(optimize) }, false},
		"RESTORE":  {func(b *bench) { b.foreign(restore) }, true},
		"RESTORE, then others": {func(b *bench) {
			b.foreign(restore)
			b.foreign(optimize)
			b.foreign(`{"txn":{"appId":"other-0","version":1}}`)
		}, true},
		"a commit of the stream after it": {func(b *bench) { // by a worker that somebody told to go on
			b.foreign(restore)
			b.foreign(txnLine(0, 2))
		}, false},
		"a cleaned log": {func(b *bench) {
			b.foreign(optimize)
			b.foreign(optimize)
			b.clean()
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			table := b.owner(1)
			b.commit(table, b.unit(table, span(0, 0, 3)))
			tt.happens(b)
			err := b.open().Pin(t.Context(), pins(1))
			if refused := err != nil && strings.Contains(err.Error(), "RESTORE"); refused != tt.refused || err != nil && !refused {
				t.Errorf("a new worker is told %v; want it refused: %v", err, tt.refused)
			}
		})
	}
}

// clean has the log forget everything but its newest version and a log checkpoint of that.
func (b *bench) clean() {
	b.t.Helper()
	_, err := delta.WriteLogCheckpoint(b.t.Context(), b.memory, b.version(), delta.CheckpointOptions{Now: b.now})
	b.check(err)
	for v := range b.version() {
		b.check(b.memory.Delete(b.t.Context(), logFile(v)))
	}
}

// TestRestoreThatWasCleanedFromTheLog has nothing left of the log since the stream's last commit (rule A6a): the files tell, as far as
// nobody has rewritten them.
func TestRestoreThatWasCleanedFromTheLog(t *testing.T) {
	const other = `{"commitInfo":{"operation":"SET TBLPROPERTIES"}}`
	remove := func(path string) string {
		return fmt.Sprintf(`{"remove":{"path":%q,"dataChange":true,"deletionTimestamp":%d}}`, path, time.Now().UnixMilli())
	}
	add := func(path string, at time.Time) string {
		return fmt.Sprintf(`{"add":{"path":%q,"partitionValues":{},"size":1,"modificationTime":%d,"dataChange":false,"stats":"{\"numRecords\":3}"}}`, path, at.UnixMilli())
	}
	for name, tt := range map[string]struct {
		happens func(b *bench, files []string) // of the first and the second unit
		refused bool
	}{
		"nothing": {func(b *bench, files []string) { b.foreign(other) }, false},
		"RESTORE of the last unit": {func(b *bench, files []string) {
			b.foreign(`{"commitInfo":{"operation":"RESTORE"}}`, remove(files[1]))
			b.foreign(other)
		}, true},
		"RESTORE of all": {func(b *bench, files []string) {
			b.foreign(`{"commitInfo":{"operation":"RESTORE"}}`, remove(files[0]), remove(files[1]))
			b.foreign(other)
		}, true},
		"OPTIMIZE, a week before the last unit, then RESTORE to it": {func(b *bench, files []string) {
			b.foreign(`{"commitInfo":{"operation":"RESTORE"}}`, remove(files[0]), remove(files[1]), add("optimized.parquet", b.now().Add(-7*day)))
			b.foreign(other)
		}, true},
		"OPTIMIZE of all": {func(b *bench, files []string) {
			b.foreign(`{"commitInfo":{"operation":"OPTIMIZE"}}`, remove(files[0]), remove(files[1]), add("optimized.parquet", b.now()))
			b.foreign(other)
		}, false},
		"DELETE of older rows": {func(b *bench, files []string) {
			b.foreign(`{"commitInfo":{"operation":"DELETE"}}`, remove(files[0]))
			b.foreign(other)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			table := b.owner(2)
			var files []string
			for i := range int64(2) {
				b.commit(table, b.unit(table, span(0, 3*i, 3)))
				for add, err := range b.snapshot().Files(t.Context()) {
					b.check(err)
					if !slices.Contains(files, add.Path) {
						files = append(files, add.Path)
					}
				}
			}
			layout, err := table.Layout(t.Context())
			b.check(err)
			w := table.NewWriter(layout) // a span without rows is no reason to look for files
			u, err := w.Finish([]checkpoint.Span{{Partition: partition(1), First: 0, Next: 4}})
			b.check(err)
			b.commit(table, u)
			tt.happens(b, files)
			b.clean()
			err = b.open().Pin(t.Context(), pins(2))
			if refused := err != nil && strings.Contains(err.Error(), "most likely the table was restored"); refused != tt.refused || err != nil && !refused {
				t.Errorf("a new worker is told %v; want it refused: %v", err, tt.refused)
			}
			// The offsets of one of a catalog's tables are in the catalog: versions of its own log are no remedy.
			one, err := sink.Open(t.Context(), b.memory, b.cfg, sink.Options{Name: stream, Follows: true, Now: b.now, Log: slog.New(slog.DiscardHandler)})
			b.check(err)
			if err = one.CheckFollows(t.Context(), sink.Origin{}); (err != nil) != tt.refused || err != nil && (!strings.Contains(err.Error(), "the catalog counts as delivered") || strings.Contains(err.Error(), "--to-table-version")) {
				t.Errorf("a worker of a catalog is told %v; want it refused: %v", err, tt.refused)
			}
		})
	}
}

// TestReplaceThatWasCleanedFromTheLog: the first commit with files tells in which table they are, by its id, and the ones after it need not (rule A6a).
func TestReplaceThatWasCleanedFromTheLog(t *testing.T) {
	b := newBench(t)
	table := b.owner(1)
	b.commit(table, b.unit(table, span(0, 0, 3)))
	home := func(version int64) bool {
		return bytes.Contains(b.object(logFile(version)), []byte(checkpoint.HomeAppID(stream)))
	}
	first := b.version()
	b.commit(table, b.unit(table, span(0, 3, 3)))
	if !home(first) || home(first+1) {
		t.Errorf("the table is told of in the first commit: %v, in the second: %v", home(first), home(first+1))
	}
	b.alter(func(m *delta.Metadata) { m.ID = "another" }, b.removeAll()...)
	b.foreign(`{"commitInfo":{"operation":"SET TBLPROPERTIES"}}`)
	b.clean()
	var refused *sink.Error
	if err := b.open().Pin(t.Context(), pins(1)); !errors.As(err, &refused) || !strings.Contains(err.Error(), "it was replaced since") || !strings.Contains(refused.Hint, "connector rewind") {
		t.Errorf("a new worker is told %v", err)
	}
}
