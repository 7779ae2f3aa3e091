package sink_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/storage/faultstore"
)

// TestWhatDeadWorkersLeftIsSwept: manifests and notes of what never landed, once it can't land any more, and nothing that is named.
func TestWhatDeadWorkersLeftIsSwept(t *testing.T) {
	c := newCity(t, "de", "us")
	worker := c.owner(2)
	pending := c.pending(map[int32]int64{0: 0}, "de", "us")
	c.claim(worker, 1)
	_, dead := c.consigned(worker, map[int32]int64{1: 0}, "us") // and the worker dies
	_, live := c.consigned(worker, map[int32]int64{1: 0}, "us")
	by := map[string]time.Duration{}
	sweep := func(manifests, notes []int64) {
		t.Helper()
		catalog, us := c.open(&since{c.store, by}), c.houses["us"]
		c.check(sink.SweepManifests(t.Context(), catalog))
		c.check(sink.SweepNotes(t.Context(), catalog, us.open(&since{us.store, by})))
		for _, of := range []struct {
			files  []string
			folder string
			want   []int64
		}{{c.files(), "_connector/manifests/", manifests}, {us.files(), "_connector/parcels/", notes}} {
			var want, got []string
			for _, id := range of.want {
				want = append(want, fmt.Sprintf("%s%016x.json", of.folder, id))
			}
			for _, name := range of.files {
				if strings.HasPrefix(name, of.folder) {
					got = append(got, name)
				}
			}
			if slices.Sort(want); !slices.Equal(got, want) {
				t.Errorf("%v are there, want %v", got, want)
			}
		}
	}
	before := func(age time.Duration, ids ...int64) {
		for _, id := range ids {
			by[fmt.Sprintf("_connector/manifests/%016x.json", id)] = age
			by[fmt.Sprintf("_connector/parcels/%016x.json", id)] = age
		}
	}
	all := []int64{pending, dead, live}
	c.passed.Add(int64(48 * time.Hour)) // the sweeper's clock is far ahead of the store's
	c.houses["us"].passed.Add(int64(48 * time.Hour))
	sweep(all, all)
	before(23*time.Hour, pending, dead)
	sweep(all, all)
	before(25*time.Hour, pending, dead)
	c.foreign(fmt.Sprintf(`{"txn":{"appId":"other#rows/3","version":%d}}`, dead)) // another stream of the catalog
	sweep(all, []int64{pending, live})                                            // whose notes are not of this one
	c.foreign(`{"txn":{"appId":"other#rows/3","version":5}}`)
	sweep([]int64{pending, live}, []int64{pending, live})
	c.settled(0)
	c.wantRows("us", 1)
}

// TestNotesOfDeadLettersAreSwept: of units that never landed, and of parcels that have arrived; not those of another stream.
func TestNotesOfDeadLettersAreSwept(t *testing.T) {
	m := newMorgue(t)
	table, letters := m.owner(2), m.letters()
	m.bury(table, letters, m.buried(table, letters, grave(0, 0, 3)), 0)
	m.beside.store.SetPlan(faultstore.When(func(op faultstore.Op) bool { return op.Method == faultstore.MethodDelete }, faultstore.Fail(nil)))
	m.settle(table, letters, 0) // its note stays
	m.beside.store.SetPlan(nil)
	m.bury(table, letters, m.buried(table, letters, grave(0, 3, 2)), 0)
	m.parcelOf(letters, 1) // and the worker dies
	layout, err := letters.Layout(t.Context())
	m.check(err)
	w := letters.NewParcelWriter(layout)
	rb := numbers(layout.Schema, 0, 1)
	defer rb.Release()
	m.check(w.Write(t.Context(), rb))
	_, err = w.FinishParcel(t.Context(), "another", nil, nil)
	m.check(err)
	notes := func() (names []string) {
		for _, name := range m.beside.files() {
			if strings.HasPrefix(name, "_connector/") {
				names = append(names, name)
			}
		}
		return names
	}
	by := map[string]time.Duration{}
	for _, name := range notes() {
		by[name] = 25 * time.Hour
	}
	if len(by) != 4 {
		t.Fatalf("the notes %v are there, want 4", notes())
	}
	m.check(sink.SweepNotes(t.Context(), m.open(), m.beside.open(&since{m.beside.store, by})))
	if got := notes(); len(got) != 2 {
		t.Errorf("the notes %v are there, want that of what is pending and the other stream's", got)
	}
	m.settle(m.open(), m.letters(), 0)
	m.wantLetters(5, 2)
}

// since has objects that are older than they are.
type since struct {
	delta.LogStore
	by map[string]time.Duration
}

func (s *since) List(ctx context.Context, prefix, after string) iter.Seq2[delta.ObjectInfo, error] {
	return func(yield func(delta.ObjectInfo, error) bool) {
		for o, err := range s.LogStore.List(ctx, prefix, after) {
			o.ModTime = o.ModTime.Add(-s.by[o.Name])
			if !yield(o, err) {
				return
			}
		}
	}
}
