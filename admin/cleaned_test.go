package admin_test

import (
	"context"
	"io"
	"testing"
	"time"

	"kafkadelta/admin"
	"kafkadelta/delta"
)

// onGet does something once, when an object is about to be read.
type onGet struct {
	delta.LogStore
	name string
	do   func()
}

func (s *onGet) Get(ctx context.Context, name string, from, n int64) (io.ReadCloser, error) {
	if do := s.do; name == s.name && do != nil {
		s.do = nil
		do()
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
			f := newFixture(t, setup{})
			for i := range int64(9) {
				f.commit(take{0, i, i + 1, nil, 0})
			}
			_, err := delta.WriteLogCheckpoint(t.Context(), f.store, 6, delta.CheckpointOptions{Now: time.Now})
			f.check(err)
			cleaned := false
			run(f, &onGet{LogStore: f.store, name: logName(6), do: func() {
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
