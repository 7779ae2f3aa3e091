package delta_test

import (
	"context"
	"errors"
	"iter"
	"testing"
	"time"

	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

// hasty is a store whose first listings were begun before the named object was put, and show what was put after it.
type hasty struct {
	delta.LogStore
	hidden   string
	listings int    // that don't show it
	before   func() // each of these
}

func (h *hasty) List(ctx context.Context, prefix, after string) iter.Seq2[delta.ObjectInfo, error] {
	h.listings--
	hide := h.listings >= 0
	if hide && h.before != nil {
		h.before()
	}
	return func(yield func(delta.ObjectInfo, error) bool) {
		for info, err := range h.LogStore.List(ctx, prefix, after) {
			if hide && info.Name == h.hidden {
				continue
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

// TestListingsThatMissAVersion is what happens on every store when two writers are quicker than a listing.
func TestListingsThatMissAVersion(t *testing.T) {
	newLog := func(t *testing.T, versions int64) *memory.Store {
		s := created(t, newClock(), "n BIGINT")
		for v := int64(1); v <= versions; v++ {
			putLog(t, s, v, `{"commitInfo":{"operation":"WRITE"}}`)
		}
		return s
	}
	for name, missed := range map[string]int64{"the one before the newest": 4, "one in the middle": 2, "the first": 0} {
		t.Run(name, func(t *testing.T) {
			s := newLog(t, 5)
			snapshot, err := delta.OpenSnapshot(ctx, &hasty{LogStore: s, hidden: delta.CommitName(missed), listings: 1}, -1)
			check(t, err)
			if snapshot.Version() != 5 {
				t.Errorf("version %d is opened, want 5", snapshot.Version())
			}
			n := 0
			for _, err := range delta.History(ctx, &hasty{LogStore: s, hidden: delta.CommitName(missed), listings: 1}) {
				check(t, err)
				n++
			}
			if n != 6 && missed > 0 {
				t.Errorf("the history has %d versions, want 6", n)
			}
		})
	}
	t.Run("really gone", func(t *testing.T) {
		s := newLog(t, 5)
		check(t, s.Delete(ctx, delta.CommitName(3)))
		if _, err := delta.OpenSnapshot(ctx, s, -1); !errors.Is(err, delta.ErrCorrupt) {
			t.Errorf("it is answered with %v, want ErrCorrupt", err)
		}
	})
	t.Run("of a log that is followed", func(t *testing.T) {
		s := newLog(t, 3)
		h := &hasty{LogStore: s, hidden: delta.CommitName(4)}
		clock := newClock()
		table, err := delta.Open(ctx, h, clock.options())
		check(t, err)
		clock.add(time.Minute) // so that a listing is asked
		h.listings = 1
		h.before = func() { // the read of version 4 has missed by then
			putLog(t, s, 4, `{"commitInfo":{"operation":"WRITE"}}`)
			putLog(t, s, 5, `{"commitInfo":{"operation":"WRITE"}}`)
		}
		c, err := table.Next(ctx)
		check(t, err)
		if c.Version != 4 {
			t.Errorf("the next version is %d, want 4", c.Version)
		}
	})
}
