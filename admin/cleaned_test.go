package admin_test

import (
	"context"
	"io"
	"sync"
	"testing"
	"time"

	"kafkadelta/admin"
	"kafkadelta/delta"
)

// onGet does something once, when an object is about to be read.
type onGet struct {
	delta.LogStore
	name string
	once sync.Once
	do   func()
}

func (s *onGet) Get(ctx context.Context, name string, from, n int64) (io.ReadCloser, error) {
	if name == s.name {
		s.once.Do(s.do)
	}
	return s.LogStore.Get(ctx, name, from, n)
}

// TestLogIsCleanedWhileItIsRead: the oldest commits go while verify and explain read the log, whose newer part alone would say that offsets
// are in no commit.
func TestLogIsCleanedWhileItIsRead(t *testing.T) {
	for name, run := range map[string]func(f *fixture, s delta.LogStore){
		"verify": func(f *fixture, s delta.LogStore) {
			r, err := admin.Verify(t.Context(), s, admin.Options{Since: -1, Until: -1})
			f.check(err)
			wantVerdict(t, r, admin.OK)
			if r.LogFrom != 6 || len(r.Partitions) != 2 || r.Partitions[0].Spans != 9 {
				t.Errorf("it is not verified by what is left: %s", show(r))
			}
		},
		"explain": func(f *fixture, s delta.LogStore) {
			e, err := admin.Explain(t.Context(), s, 0, 2, admin.Options{Until: -1})
			f.check(err)
			if e.Fate != admin.InTable || len(e.Spans) != 1 || e.Spans[0].Version != nil {
				t.Errorf("explained as %+v, want the unit, without its version", e)
			}
		},
		"a version before": func(f *fixture, s delta.LogStore) {
			_, err := admin.Verify(t.Context(), s, admin.Options{Since: 3, Until: -1})
			if err == nil {
				t.Error("it is verified since a version that is not there any more")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			const newest = 10 // the table is made and pinned, and gets nine units
			f := newFixture(t, setup{})
			for i := range int64(9) {
				f.commit(take{0, i, i + 1, nil, 0})
			}
			for _, v := range []int64{6, newest - 1} { // an opening begins with the last of them
				_, err := delta.WriteLogCheckpoint(t.Context(), f.store, v, delta.CheckpointOptions{Now: time.Now})
				f.check(err)
			}
			cleaned := false
			// The newest version is read alone, the next two at once, and behind them those that are gone.
			run(f, &onGet{LogStore: f.store, name: logName(newest - 2), do: func() {
				cleaned = true
				for v := range int64(6) {
					f.check(f.store.Delete(t.Context(), logName(v)))
				}
			}})
			if !cleaned {
				t.Error("the log was not cleaned under it")
			}
		})
	}
}

// TestLogCheckpointOfVersion0 is left of a version whose commit was cleaned from the log, as of any other; it may go while the log is read.
func TestLogCheckpointOfVersion0(t *testing.T) {
	for name, when := range map[string]string{"cleaned": "", "cleaned while it is read": logName(3)} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, setup{})
			for i := range int64(4) {
				f.commit(take{0, i, i + 1, nil, 0})
			}
			_, err := delta.WriteLogCheckpoint(t.Context(), f.store, 0, delta.CheckpointOptions{Now: time.Now})
			f.check(err)
			clean := func() { f.check(f.store.Delete(t.Context(), logName(0))) }
			s := &onGet{LogStore: f.store, name: when, do: clean}
			if when == "" {
				clean()
			}
			r, err := admin.Verify(t.Context(), s, admin.Options{Since: -1, Until: -1})
			f.check(err)
			wantVerdict(t, r, admin.OK)
			if r.LogFrom != 0 || len(r.Partitions) != 2 || r.Partitions[0].Spans != 4 || r.Rows != 4 {
				t.Errorf("it is not verified by what is left: %s", show(r))
			}
			f.check(f.store.Delete(t.Context(), f.live()[0].Path)) // and what is wrong is found
			wantFault(t, f.verify(), admin.MissingFile)
		})
	}
}
