package sink_test

import (
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/storage/faultstore"
)

// maintained opens a table whose upkeep tells what it did.
func maintained(b *bench, interval string) (table *sink.Table, done func() string) {
	properties := map[string]string{"delta.checkpointInterval": interval, "delta.parquet.compression.codec": "none"}
	maps.Copy(properties, b.cfg.Properties)
	b.cfg.Properties = properties
	var mu sync.Mutex
	var told []string
	tell := func(task sink.Upkeep, how string) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, string(task)+how)
	}
	schema, err := delta.ParseDDL(b.columns)
	b.check(err)
	table, err = sink.Open(b.t.Context(), b.store, b.cfg, sink.Options{
		Name: stream, Create: schema, Engine: "kafkadelta/test", Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Events: sink.Events{
			Maintained:   func(task sink.Upkeep, _ time.Duration, _ int64) { tell(task, "") },
			UpkeepFailed: func(task sink.Upkeep) { tell(task, " failed") },
		},
	})
	b.check(err)
	b.check(table.Maintain(b.t.Context()))
	return table, func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(told, ", ")
	}
}

func (b *bench) logNames(suffix string) (names []string) {
	b.t.Helper()
	for o, err := range b.memory.List(b.t.Context(), "_delta_log/", "") {
		b.check(err)
		if name := strings.TrimPrefix(o.Name, "_delta_log/"); strings.HasSuffix(name, suffix) {
			names = append(names, name)
		}
	}
	return names
}

func (b *bench) commitRows(table *sink.Table, from, commits int64) {
	b.t.Helper()
	for i := range commits {
		u := b.unit(table, span(0, from+i, 1))
		b.check(table.Commit(b.t.Context(), []*sink.Unit{u}))
		if u.State() != sink.Landed {
			b.t.Fatalf("commit %d: %v", i, u.State())
		}
	}
}

// Whoever commits a multiple of the interval writes its log checkpoint, and each own commit has a checksum.
func TestMaintainWritesWhatIsDue(t *testing.T) {
	b := newBench(t)
	table, done := maintained(b, "4")
	b.check(table.Pin(t.Context(), pins(1)))
	b.claim(table, 0)
	b.commitRows(table, 0, 5)
	table.Close(t.Context())
	if got := fmt.Sprint(b.logNames(".parquet")); got != "[00000000000000000004.checkpoint.parquet]" {
		t.Errorf("log checkpoints %s", got)
	}
	if got := b.logNames(".crc"); len(got) != 6 {
		t.Errorf("checksums %v, want one for each of versions 1 to 6", got)
	}
	if got := done(); got != "log_checkpoint, log_cleanup" {
		t.Errorf("told %q", got)
	}
	if last := b.logNames("_last_checkpoint"); len(last) != 1 {
		t.Error("no _last_checkpoint")
	}
}

// A log checkpoint that its process did not write is written by another one.
func TestMaintainCatchesUp(t *testing.T) {
	b := newBench(t)
	first, _ := maintained(b, "4")
	b.check(first.Pin(t.Context(), pins(1)))
	b.claim(first, 0)
	first.Close(t.Context()) // what it commits from now on it does not maintain
	b.store.Down(func(op faultstore.Op) bool { return strings.Contains(op.Name, ".checkpoint.") })
	b.commitRows(first, 0, 8)
	b.store.Up()
	second, done := maintained(b, "4")
	b.claim(second, 0)
	b.commitRows(second, 8, 3) // 12 is a multiple; 10 and 11 are not, but overdue for some
	second.Close(t.Context())
	if names := b.logNames(".parquet"); len(names) == 0 {
		t.Errorf("no log checkpoint; told %q", done())
	}
}

// A log is cleaned once an hour at most, and once in a tenth of its retention where that is sooner: then it stays as long as
// the retention says, whatever the number of commits.
func TestMaintainCleansAShortLogOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.cfg.Properties = map[string]string{"delta.logRetentionDuration": "interval 10 minutes"}
		table, done := maintained(b, "4")
		b.check(table.Pin(t.Context(), pins(1)))
		b.claim(table, 0)
		at := int64(0)
		for range 6 {
			b.commitRows(table, at, 4)
			at += 4
			time.Sleep(30 * time.Second)
		}
		if got := strings.Count(done(), "log_cleanup"); got != 3 {
			t.Errorf("cleaned %d times in 3 minutes, want once a minute; told %q", got, done())
		}
		for range 60 {
			b.commitRows(table, at, 4)
			at += 4
			time.Sleep(30 * time.Second)
		}
		if n := len(b.logNames(".json")); n > 4*22+4 {
			t.Errorf("the log has %d versions after half an hour, want those of 11 minutes", n)
		}
		table.Close(t.Context())
	})
}

// Nothing that upkeep does or fails to do reaches a commit.
func TestMaintainFailsAlone(t *testing.T) {
	for _, landed := range []bool{false, true} {
		b := newBench(t)
		table, done := maintained(b, "2")
		b.check(table.Pin(t.Context(), pins(1)))
		b.claim(table, 0)
		b.store.SetPlan(func(op faultstore.Op) faultstore.Action {
			upkeep := strings.HasSuffix(op.Name, ".crc") || strings.Contains(op.Name, "checkpoint")
			if !upkeep {
				return faultstore.Pass()
			}
			return faultstore.Action{Err: fs.ErrPermission, Landed: landed}
		})
		b.commitRows(table, 0, 6)
		table.Close(t.Context())
		if !strings.Contains(done(), "checksum failed") || !strings.Contains(done(), "log_checkpoint failed") {
			t.Errorf("told %q", done())
		}
		s, err := delta.OpenSnapshot(t.Context(), b.memory, -1)
		b.check(err)
		totals, err := s.Totals(t.Context())
		b.check(err)
		if totals.Rows != 6 {
			t.Errorf("%d rows, want 6", totals.Rows)
		}
	}
}
