package delta_test

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

// aged gives objects of the log a time of their own: the version's number in hours after a start, or newest, which is then what the
// store's clock shows.
type aged struct {
	delta.LogStore
	start   time.Time
	version int64 // the newest one
	newest  time.Time
	deleted []string
	failAt  int // deletes that succeed; negative: all
}

func (s *aged) List(ctx context.Context, prefix, after string) iter.Seq2[delta.ObjectInfo, error] {
	return func(yield func(delta.ObjectInfo, error) bool) {
		for o, err := range s.LogStore.List(ctx, prefix, after) {
			var version int64
			if name := strings.TrimPrefix(o.Name, "_delta_log/"); len(name) > 20 && name[0] == '0' {
				_, _ = fmt.Sscanf(name[:20], "%d", &version)
			}
			o.ModTime = s.start.Add(time.Duration(version) * time.Hour)
			if version == s.version && !s.newest.IsZero() {
				o.ModTime = s.newest
			}
			if !yield(o, err) {
				return
			}
		}
	}
}

func (s *aged) Delete(ctx context.Context, name string) error {
	if len(s.deleted) == s.failAt {
		return context.DeadlineExceeded
	}
	s.deleted = append(s.deleted, name)
	return s.LogStore.Delete(ctx, name)
}

// After any number of the deletes, every version of the retention opens to the state that it had.
func TestCleanLogKeepsWhatKeptVersionsNeed(t *testing.T) {
	for name := range checkpointKinds {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(1) {
				config := map[string]string{"delta.logRetentionDuration": "interval 1 days"}
				maps.Copy(config, checkpointKinds[name])
				l := newRandomLog(t, seed, config)
				for l.version < 46 { // past the second midnight
					for range 1 + l.rng.IntN(12) {
						l.step(t)
					}
					checkpointAt(t, l.store, -1, l.at)
				}
				start := time.Date(2026, 1, 5, 3, 0, 0, 0, time.UTC)
				now := start.Add(time.Duration(l.version)*time.Hour + 20*time.Minute)
				// Midnight of the day before: the newest version that is not newer than that, and all after it, are kept.
				midnight := now.Add(-24 * time.Hour).Truncate(24 * time.Hour)
				kept := int64(midnight.Sub(start) / time.Hour)
				want := map[int64]string{}
				for v := max(kept, 0); v <= l.version; v++ {
					if v < kept+3 || v > l.version-3 || v%5 == 0 {
						want[v] = stateOf(t, l.store, v)
					}
				}
				before, total := l.store, -1
				for fail := 0; total < 0 || fail <= total; fail += 1 + fail/2 {
					s := &aged{LogStore: before.(*memory.Store).Clone(), start: start, failAt: fail}
					r, err := delta.CleanLog(ctx, s, delta.CleanOptions{Now: func() time.Time { return now }})
					if err == nil {
						total = len(s.deleted)
						if r.Deleted+r.Sidecars != total || total > 0 && (r.Before <= 0 || r.Before > kept) {
							t.Fatalf("%+v: deleted %d, kept version %d", r, total, kept)
						}
					}
					for v, state := range want {
						if got := stateOf(t, s, v); got != state {
							t.Fatalf("seed %d, after %d deletes, version %d:\n%s\nwant\n%s", seed, fail, v, got, state)
						}
					}
				}
				if total == 0 {
					t.Errorf("seed %d: nothing was deleted of %d versions, of which %d are kept", seed, l.version, l.version-kept)
				}
			}
		})
	}
}

func TestCleanLogLeavesATableThatDoesNotWantIt(t *testing.T) {
	for _, config := range []map[string]string{
		{"delta.enableExpiredLogCleanup": "false", "delta.logRetentionDuration": "interval 0 days"},
		{"delta.logRetentionDuration": "interval 10000 days"},
		{}, // 30 days
	} {
		l := newRandomLog(t, 1, config)
		for range 20 {
			l.step(t)
		}
		checkpointAt(t, l.store, -1, l.at)
		l.step(t)
		s := &aged{LogStore: l.store, start: time.Date(2026, 1, 5, 3, 0, 0, 0, time.UTC), failAt: -1}
		r, err := delta.CleanLog(ctx, s, delta.CleanOptions{Now: func() time.Time { return s.start.Add(29 * 24 * time.Hour) }})
		if err != nil || r.Deleted > 0 || len(s.deleted) > 0 {
			t.Errorf("%v: %+v, %v, deleted %v", config, r, err, s.deleted)
		}
	}
}

func TestCleanLogLimitsItsWork(t *testing.T) {
	l := newRandomLog(t, 1, nil)
	for l.version < 15 {
		l.step(t)
	}
	checkpointAt(t, l.store, -1, l.at)
	for l.version < 40 {
		l.step(t)
	}
	start := time.Date(2026, 1, 5, 3, 0, 0, 0, time.UTC)
	today := start.Add(30*24*time.Hour + 26*time.Hour) // midnight is version 21
	s := &aged{LogStore: l.store, start: start, failAt: -1, version: 40, newest: today}
	now := func() time.Time { return today }
	r, err := delta.CleanLog(ctx, s, delta.CleanOptions{Now: now, Limit: 7})
	if err != nil || r.Deleted != 7 || r.Before != 15 || !slices.IsSorted(s.deleted) {
		t.Errorf("%+v, %v, deleted %v", r, err, s.deleted)
	}
}

// The retention is counted from midnight UTC: the log checkpoint of the version of that moment may begin the log, the next
// one may not, though a shorter retention would let it.
func TestCleanLogCountsFromMidnight(t *testing.T) {
	for second, want := range map[int64]int64{21: 21, 22: 15} {
		l := newRandomLog(t, 1, nil)
		for l.version < 40 {
			l.step(t)
		}
		checkpointAt(t, l.store, 15, l.at)
		checkpointAt(t, l.store, second, l.at)
		start := time.Date(2026, 1, 5, 3, 0, 0, 0, time.UTC)
		today := start.Add(30*24*time.Hour + 26*time.Hour) // midnight is version 21
		s := &aged{LogStore: l.store, start: start, failAt: -1, version: 40, newest: today}
		now := func() time.Time { return today }
		if r, err := delta.CleanLog(ctx, s, delta.CleanOptions{Now: now}); err != nil || r.Before != want {
			t.Errorf("log checkpoints of versions 15 and %d: %+v, %v, want what is before %d to go", second, r, err, want)
		}
	}
}

// A retention below a day is counted from now, and none is shorter than a minute: a reader takes a version of the last minute
// that is missing for one that is not there yet.
func TestCleanLogOfAShortRetention(t *testing.T) {
	for _, tt := range []struct {
		retention string
		after     time.Duration // the newest log checkpoint's version
		want      int64
	}{
		{"interval 3 hours", 3*time.Hour + time.Minute, 37},
		{"interval 3 hours", 3*time.Hour - time.Minute, 15},
		{"interval 0 days", 61 * time.Second, 37},
		{"interval 0 days", 59 * time.Second, 15},
	} {
		l := newRandomLog(t, 1, map[string]string{"delta.logRetentionDuration": tt.retention})
		for l.version < 40 {
			l.step(t)
		}
		checkpointAt(t, l.store, 15, l.at)
		checkpointAt(t, l.store, 37, l.at)
		s := &aged{LogStore: l.store, start: time.Date(2026, 1, 5, 3, 0, 0, 0, time.UTC), failAt: -1}
		now := func() time.Time { return s.start.Add(37*time.Hour + tt.after) }
		if r, err := delta.CleanLog(ctx, s, delta.CleanOptions{Now: now}); err != nil || r.Before != tt.want {
			t.Errorf("%s, %v after version 37: %+v, %v, want what is before %d to go", tt.retention, tt.after, r, err, tt.want)
		}
	}
}

// TestCleanLogDoesNotBelieveClocks: that of who cleans is 40 days ahead, or writers have put in-commit timestamps into commits that are 40 days too
// old. By the store's clock all versions are hours old, and workers count on those of the last minute.
func TestCleanLogDoesNotBelieveClocks(t *testing.T) {
	for name, tt := range map[string]struct{ cleaner, writers time.Duration }{
		"the cleaner's is ahead":  {40 * 24 * time.Hour, 0},
		"the writers' are behind": {0, -40 * 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClock()
			begun := c.now()
			c.add(tt.writers)
			store := createdWith(t, c, delta.CreateOptions{Schema: must(delta.ParseDDL("a INT")), Properties: map[string]string{"delta.enableInCommitTimestamps": "true"}})
			table := open(t, store, c)
			for i := range int64(6) {
				c.add(time.Hour)
				commit(t, table, appendOf("app", i, "f"), delta.Committed)
			}
			checkpointAt(t, store, 4, 4)
			check(t, store.Put(ctx, "_delta_log/_sidecars/one.parquet", []byte("of a log checkpoint that is being written")))
			s := &aged{LogStore: store, start: begun, failAt: -1}
			now := func() time.Time { return begun.Add(7*time.Hour + tt.cleaner) }
			if r, err := delta.CleanLog(ctx, s, delta.CleanOptions{Now: now}); err != nil || r.Before > 0 || r.Deleted+r.Sidecars > 0 {
				t.Errorf("%+v, %v, want nothing to go", r, err)
			}
		})
	}
}
