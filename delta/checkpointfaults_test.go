package delta_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"kafkadelta/delta"
	"kafkadelta/storage/faultstore"
	"kafkadelta/storage/memory"
)

// Wherever a log checkpoint or a cleanup breaks off, each version reads as before, and the next attempt succeeds.
func TestLogCheckpointBreaksOffAnywhere(t *testing.T) {
	for _, name := range []string{"classic", "v2"} {
		for _, fault := range []struct{ landed, dies bool }{{false, true}, {true, false}} {
			t.Run(fmt.Sprintf("%s %+v", name, fault), func(t *testing.T) {
				config := map[string]string{"delta.logRetentionDuration": "interval 0 days"}
				maps.Copy(config, checkpointKinds[name])
				l := newRandomLog(t, 5, config)
				for range 3 {
					for range 7 {
						l.step(t)
					}
					checkpointAt(t, l.store, -1, l.at)
				}
				for range 4 {
					l.step(t)
				}
				breakOffEverywhere(t, l, fault.landed, fault.dies)
			})
		}
	}
}

func breakOffEverywhere(t *testing.T, l *randomLog, landed, dies bool) {
	start := time.Date(2026, 1, 5, 3, 0, 0, 0, time.UTC)
	now := func() time.Time { return start.Add(30 * time.Hour) } // midnight is version 21, and has a log checkpoint
	work := func(s delta.LogStore) error {
		if _, err := delta.WriteLogCheckpoint(ctx, s, -1, delta.CheckpointOptions{Now: now}); err != nil {
			return err
		}
		_, err := delta.CleanLog(ctx, &aged{LogStore: s, start: start, failAt: -1}, delta.CleanOptions{Now: now})
		return err
	}
	want := map[int64]string{}
	for _, v := range []int64{21, l.version} {
		want[v] = stateOf(t, l.store, v)
	}
	for i := 0; ; i += 1 + i/8 { // the later ones are deletes, one like the other
		clone := l.store.(*memory.Store).Clone()
		s := faultstore.New(clone)
		plan := faultstore.FailAt(i, nil, landed)
		if dies {
			plan = faultstore.FailFrom(i, nil, landed)
		}
		s.SetPlan(plan)
		err := work(s)
		for v, state := range want {
			if got := stateOf(t, clone, v); got != state {
				t.Fatalf("operation %d of %v, version %d:\n%s\nwant\n%s", i, s.Ops()[min(i, len(s.Ops())-1)], v, got, state)
			}
		}
		if again := work(clone); again != nil {
			t.Fatalf("after operation %d: %v", i, again)
		}
		if got := stateOf(t, clone, -1); got != want[l.version] {
			t.Fatalf("after operation %d and another attempt:\n%s\nwant\n%s", i, got, want[l.version])
		}
		if len(s.Ops()) <= i {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
	}
}
