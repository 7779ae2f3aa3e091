package sink_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/storage/faultstore"
)

// city is a bench whose table is a catalog, with the tables that follow it.
type city struct {
	*bench
	houses map[string]*bench      // by key; of their methods those that look
	held   map[string]*sink.Table // what one process has open; nil: each look is that of another one
}

func newCity(t *testing.T, keys ...string) *city {
	t.Helper()
	c := &city{bench: newBench(t), houses: map[string]*bench{}}
	for _, key := range keys {
		c.houses[key] = newBench(t)
	}
	return c
}

// table opens one of the tables.
func (c *city) table(ctx context.Context, key string) (*sink.Table, error) {
	if table := c.held[key]; table != nil {
		return table, nil
	}
	schema, err := delta.ParseDDL(c.columns)
	if err != nil {
		return nil, err
	}
	h := c.houses[key]
	table, err := sink.Open(ctx, h.store, h.cfg, sink.Options{
		Name: stream, Follows: true, Create: schema, Engine: "kafkadelta/test", Now: c.now, Log: slog.New(slog.DiscardHandler),
	})
	if c.held != nil {
		c.held[key] = table
	}
	return table, err
}

// consigned is a unit of the catalog with one row for each of the keys in turn, of each partition from an offset on.
func (c *city) consigned(catalog *sink.Table, at map[int32]int64, keys ...string) (*sink.Unit, int64) {
	c.t.Helper()
	ctx := c.t.Context()
	layout, err := catalog.Layout(ctx)
	c.check(err)
	id := sink.NewManifestID()
	parcels := map[string]*sink.Parcel{}
	var spans []checkpoint.Span
	n := int64(len(keys))
	for _, p := range slices.Sorted(maps.Keys(at)) {
		spans = append(spans, checkpoint.Span{Partition: partition(p), First: at[p], Next: at[p] + n, Records: n, Routed: n})
	}
	each := map[string]int64{}
	for _, key := range keys {
		each[key]++
	}
	for key, n := range each {
		table, err := c.table(ctx, key)
		c.check(err)
		own, err := table.Layout(ctx)
		c.check(err)
		w := table.NewRoutedWriter(layout, id)
		rb := numbers(layout.Schema, 0, n*int64(len(spans)))
		c.check(w.Write(ctx, rb))
		rb.Release()
		var rows []checkpoint.Span
		for _, s := range spans {
			s.Rows, s.Routed = n, 0
			rows = append(rows, s)
		}
		sealed, err := w.Seal()
		c.check(err)
		parcels[key], err = sealed.Routed(ctx, own, sink.Origin{Name: stream, Generation: catalog.Generation()}, rows)
		c.check(err)
	}
	u := c.unit(catalog, spans...)
	c.check(catalog.Consign(ctx, u, id, catalog.Generation(), parcels))
	return u, id
}

// decide has the catalog decide about units, and leaves them pending.
func (c *city) decide(catalog *sink.Table, units ...*sink.Unit) {
	c.t.Helper()
	var parts []int32
	for _, u := range units {
		for _, s := range u.Spans {
			parts = append(parts, s.ID)
		}
	}
	settled, err := c.settle(catalog, parts...)
	c.check(err)
	sink.NameManifests(catalog, units, settled)
	c.commit(catalog, units...)
	for _, u := range units {
		c.want(u, sink.Landed)
	}
}

// pending decides about one row for each of the keys, of each partition from an offset on, and dies.
func (c *city) pending(at map[int32]int64, keys ...string) (id int64) {
	c.t.Helper()
	worker := c.open()
	c.claim(worker, slices.Sorted(maps.Keys(at))...)
	u, id := c.consigned(worker, at, keys...)
	c.decide(worker, u)
	return id
}

func (c *city) settle(catalog *sink.Table, partitions ...int32) (map[string]int64, error) {
	return sink.SettleRows(c.t.Context(), catalog, partitions, c.table)
}

// settled has another process settle.
func (c *city) settled(partitions ...int32) {
	c.t.Helper()
	_, err := c.settle(c.open(), partitions...)
	c.check(err)
}

// refused has another process settle, which is refused with all of the texts.
func (c *city) refused(partitions []int32, texts ...string) string {
	c.t.Helper()
	_, err := c.settle(c.open(), partitions...)
	if !errors.As(err, new(*checkpoint.RefusedError)) {
		c.t.Fatalf("SettleRows answered %v, want a refusal", err)
	}
	for _, want := range texts {
		if !strings.Contains(err.Error(), want) {
			c.t.Errorf("%v; want %q in it", err, want)
		}
	}
	return err.Error()
}

// lose removes the data files of a manifest from a table, as a VACUUM would.
func (c *city) lose(key string, id int64) {
	c.t.Helper()
	h, lost := c.houses[key], 0
	for _, name := range h.files() {
		if strings.Contains(name, fmt.Sprintf("%016x", id)) && !strings.HasPrefix(name, "_") {
			c.check(h.memory.Delete(c.t.Context(), name))
			lost++
		}
	}
	if lost == 0 {
		c.t.Fatalf("table %s has no file of manifest %016x", key, id)
	}
}

// rewind has partitions go on at these offsets, in the generation; the others stay where they are.
func (c *city) rewind(generation int64, to map[int32]int64) {
	c.t.Helper()
	lines := []string{fmt.Sprintf(`{"txn":{"appId":"%s#gen","version":%d}}`, stream, generation)}
	for txn := range c.snapshot().Txns() {
		if p, ok := checkpoint.PartitionOf(stream, txn.AppID); ok {
			if _, moves := to[p]; !moves {
				lines = append(lines, txnLine(p, txn.Version))
			}
		}
	}
	for p, offset := range to {
		lines = append(lines, txnLine(p, offset-1))
	}
	c.foreign(lines...)
}

// wantRows are those of a table, and that all its files are there.
func (c *city) wantRows(key string, rows int64) {
	c.t.Helper()
	if got := c.houses[key].consistent(); got != rows {
		c.t.Errorf("table %s has %d rows, want %d", key, got, rows)
	}
}

// TestOfManyParcelsOneIsGone is rule T5: what is there is not held up by it, and not given up with it.
func TestOfManyParcelsOneIsGone(t *testing.T) {
	c := newCity(t, "de")
	c.owner(2)
	gone := c.pending(map[int32]int64{0: 0}, "de", "de")
	c.pending(map[int32]int64{1: 0}, "de")
	c.lose("de", gone)
	for range 2 { // asking again does not help
		text := c.refused([]int32{0, 1}, "table de", "offsets [0, 2) of topic[0]", "connector rewind --to-offsets 0=0`")
		if strings.Contains(text, "topic[1]") {
			t.Errorf("%s: what is there is named as well", text)
		}
	}
	c.wantRows("de", 1)
	c.rewind(1, map[int32]int64{0: 0})
	c.settled(0, 1)
	c.wantRows("de", 1)
	c.pending(map[int32]int64{0: 0}, "de")
	c.settled(0, 1)
	c.wantRows("de", 2)
}

// TestAllThatIsGoneIsNamed: of whichever table and partition, so that one rewind is enough.
func TestAllThatIsGoneIsNamed(t *testing.T) {
	c := newCity(t, "de", "us")
	c.owner(3)
	c.settled(0)
	c.lose("de", c.pending(map[int32]int64{0: 0}, "de", "us"))
	c.lose("us", c.pending(map[int32]int64{1: 0, 2: 0}, "us"))
	c.refused([]int32{0, 1, 2}, "table de: the file", "table us: the file", "[0, 2) of topic[0]", "[0, 1) of topic[1]", "[0, 1) of topic[2]",
		"connector rewind --to-offsets 0=0,1=0,2=0`")
	c.wantRows("us", 1)
	c.rewind(1, map[int32]int64{0: 0, 1: 0}) // not all
	text := c.refused([]int32{0, 1, 2}, "[0, 1) of topic[2]")
	if strings.Contains(text, "table de") {
		t.Errorf("%s: rows that are read again are named as well", text)
	}
	c.rewind(2, map[int32]int64{2: 0})
	c.settled(0, 1, 2)
}

// TestWhatIsPendingOfTwoGenerations: what is gone of the first is read again, and what the second has is delivered all the same.
func TestWhatIsPendingOfTwoGenerations(t *testing.T) {
	for _, lost := range []bool{true, false} {
		c := newCity(t, "de")
		c.owner(2)
		before := c.pending(map[int32]int64{0: 0}, "de")
		want := int64(2)
		if lost {
			c.lose("de", before)
			want = 1
		}
		c.rewind(1, map[int32]int64{0: 0})
		c.pending(map[int32]int64{1: 0}, "de")
		one := c.open()
		_, err := c.settle(one, 0, 1)
		c.check(err)
		c.wantRows("de", want)
		c.claim(one, 0, 1)
		u, _ := c.consigned(one, map[int32]int64{0: 0, 1: 1}, "de")
		c.decide(one, u)
		_, err = c.settle(one, 0, 1)
		c.check(err)
		c.wantRows("de", want+2)
	}
}

// TestEarlierGenerationsComeFirst: whoever delivers rows of a generation first settles what is pending of earlier ones, of whatever partition.
func TestEarlierGenerationsComeFirst(t *testing.T) {
	c := newCity(t, "de")
	c.owner(3)
	c.pending(map[int32]int64{0: 0}, "de")
	c.rewind(1, map[int32]int64{1: 0})
	c.pending(map[int32]int64{2: 0}, "de")
	c.pending(map[int32]int64{1: 0}, "de")
	c.settled(1)
	c.wantRows("de", 2) // not those of partition 2, which nobody has asked for
	for version, generation := range []string{1: `"gen":0`, 2: `"gen":1`} {
		if log := string(c.houses["de"].object(logFile(int64(version)))); !strings.Contains(log, generation) {
			t.Errorf("version %d has rows of another generation than %s:\n%s", version, generation, log)
		}
	}
	c.settled(2)
	c.wantRows("de", 3)
}

// TestARewindGivesUpWhatItReadsAgain is rule T5: one of another partition, or to behind the rows that are gone, is no word about them.
func TestARewindGivesUpWhatItReadsAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		to     map[int32]int64
		enough bool
	}{
		"another partition": {map[int32]int64{2: 5}, false},
		"one of the two":    {map[int32]int64{0: 0}, false},
		"to within":         {map[int32]int64{0: 1, 1: 0}, false},
		"to behind":         {map[int32]int64{0: 100, 1: 100}, false},
		"both":              {map[int32]int64{0: 0, 1: 0}, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCity(t, "de")
			c.owner(3)
			c.lose("de", c.pending(map[int32]int64{0: 0, 1: 0}, "de", "de"))
			c.rewind(1, tt.to)
			if tt.enough {
				c.settled(0, 1)
				return
			}
			c.refused([]int32{0}, "the file")
			c.rewind(2, map[int32]int64{0: 0, 1: 0})
			c.settled(0)
		})
	}
}

// TestGivingUpRows: what is lost is given up by an explicit word alone, and what is there yet is delivered.
func TestGivingUpRows(t *testing.T) {
	for name, tt := range map[string]struct {
		lose func(*city, int64)
		says []string // by the refusal
		lost []string // by what gives up
		de   int64    // rows in the end
	}{
		"the file": {
			func(c *city, id int64) { c.lose("de", id) },
			[]string{"table de: the file", "2 rows of offsets [0, 3) of topic[0]", "rewind --to-offsets 0=0`", "settle --give-up`"},
			[]string{"table de: the file"}, 1,
		},
		"the note": {
			func(c *city, id int64) { c.drop(c.houses["de"], "parcels/", id) },
			[]string{"table de: it has nothing of the stream, nor _connector/parcels/", "rows of offsets [0, 3) of topic[0]", "rewind --to-offsets 0=0`", "settle --give-up`"},
			[]string{"table de: it has nothing"}, 1,
		},
		"the table": {
			func(c *city, _ int64) {
				c.check(c.houses["de"].memory.Delete(c.t.Context(), logFile(0)))
			},
			[]string{"table de: it was made anew", "2 rows of offsets [0, 3) of topic[0]", "rewind --to-offsets 0=0`", "settle --give-up`"},
			[]string{"table de: it was made anew"}, 1,
		},
		"the manifest": {
			func(c *city, id int64) { c.drop(c.bench, "manifests/", id) },
			[]string{"names the manifest", "bring the object back", "settle --give-up`"},
			[]string{"what it has named is known of the tables [de us] alone"}, 3,
		},
		"the manifest and a note": {
			func(c *city, id int64) {
				c.drop(c.bench, "manifests/", id)
				c.drop(c.houses["de"], "parcels/", id)
			},
			[]string{"names the manifest"},
			[]string{"what it has named is known of the tables [us] alone"}, 1,
		},
		"the manifest and a file": {
			func(c *city, id int64) {
				c.drop(c.bench, "manifests/", id)
				c.lose("de", id)
			},
			[]string{"names the manifest"},
			[]string{"what it has named is known of the tables [de us] alone", "table de: the file"}, 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCity(t, "de", "us")
			c.owner(2)
			tt.lose(c, c.pending(map[int32]int64{0: 0}, "de", "de", "us"))
			c.pending(map[int32]int64{1: 0}, "us")
			c.refused([]int32{0, 1}, tt.says...)
			lost, err := sink.GiveUpRows(t.Context(), c.open(), []int32{0, 1}, c.table)
			c.check(err)
			for i, want := range tt.lost {
				if len(lost) != len(tt.lost) || !strings.Contains(lost[i], want) {
					t.Errorf("given up is %q, want %q", lost, tt.lost)
				}
			}
			c.settled(0, 1)
			c.pending(map[int32]int64{0: 3}, "de")
			c.settled(0, 1)
			c.wantRows("de", tt.de)
			c.wantRows("us", 2)
			again, err := sink.GiveUpRows(t.Context(), c.open(), []int32{0, 1}, c.table)
			if err != nil || len(again) > 0 {
				t.Errorf("given up once more is %q, %v", again, err)
			}
		})
	}
}

// drop removes a note or a manifest.
func (c *city) drop(b *bench, folder string, id int64) {
	c.t.Helper()
	c.check(b.memory.Delete(c.t.Context(), fmt.Sprintf("_connector/%s%016x.json", folder, id)))
}

// manifests are the ids of those that are there.
func (c *city) manifests() (ids []string) {
	c.t.Helper()
	for _, name := range c.files() {
		if id, ok := strings.CutPrefix(name, "_connector/manifests/"); ok {
			ids = append(ids, strings.TrimSuffix(id, ".json"))
		}
	}
	return ids
}

// TestAManifestStaysWhileAPartitionNamesIt is rule T4: the partitions of a manifest go on one after the other.
func TestAManifestStaysWhileAPartitionNamesIt(t *testing.T) {
	c := newCity(t, "de")
	worker := c.owner(2)
	next := func(at map[int32]int64) string {
		t.Helper()
		u, id := c.consigned(worker, at, "de")
		c.decide(worker, u)
		_, err := c.settle(worker, slices.Collect(maps.Keys(at))...)
		c.check(err)
		c.check(sink.DropManifests(t.Context(), worker, []*sink.Unit{u}))
		return fmt.Sprintf("%016x", id)
	}
	want := func(ids ...string) {
		t.Helper()
		slices.Sort(ids)
		if got := c.manifests(); !slices.Equal(got, ids) {
			t.Errorf("the manifests %v are there, want %v", got, ids)
		}
		c.settled(0, 1) // whoever comes knows what each partition names
	}
	both := next(map[int32]int64{0: 0, 1: 0})
	want(both)
	first := next(map[int32]int64{0: 1})
	want(both, first)
	second := next(map[int32]int64{1: 1})
	want(first, second)
	c.wantRows("de", 4)
}

// TestMarksOfACatalogAreKeptFromExpiring is rule A4 for the slots of rows and for the tables that a catalog knows: of a busy partition that gets no
// more rows, and of an idle one.
func TestMarksOfACatalogAreKeptFromExpiring(t *testing.T) {
	c := newCity(t, "de")
	c.cfg.Properties = map[string]string{"delta.setTransactionRetentionDuration": "interval 40 days"}
	worker := c.owner(2)
	u, _ := c.consigned(worker, map[int32]int64{0: 0, 1: 0}, "de")
	c.decide(worker, u)
	before := map[string]int64{}
	marks := []string{checkpoint.RowsAppID(stream, 0), checkpoint.RowsAppID(stream, 1), checkpoint.TableAppID(stream, "de")}
	for _, appID := range marks {
		txn, ok := c.snapshot().Txn(appID)
		if !ok {
			t.Fatalf("there is no txn %s", appID)
		}
		before[appID] = txn.Version
	}
	for i := range int64(50) {
		c.passed.Add(int64(day))
		c.commit(worker, c.unit(worker, checkpoint.Span{Partition: partition(0), First: 1 + i, Next: 2 + i, Records: 1, Skipped: 1}))
	}
	for _, appID := range marks {
		txn, _ := c.snapshot().Txn(appID)
		if age := c.now().Sub(time.UnixMilli(*txn.LastUpdated)); age > 12*day || txn.Version != before[appID] {
			t.Errorf("the txn %s is %d, %v old; want %d, new after a quarter of 40 days", appID, txn.Version, age, before[appID])
		}
	}
	c.settled(0, 1)
	c.wantRows("de", 2)
}

// TestConsignedFilesGetOld is rule C8 for files in tables' folders, and rule C6: they go with the unit, and so do notes and manifest.
func TestConsignedFilesGetOld(t *testing.T) {
	c := newCity(t, "de", "us")
	worker := c.owner(1)
	u, _ := c.consigned(worker, map[int32]int64{0: 0}, "de", "us") // it has no file but those
	settled, err := c.settle(worker, 0)
	c.check(err)
	sink.NameManifests(worker, []*sink.Unit{u}, settled)
	c.passed.Add(int64(61 * time.Minute))
	c.commit(worker, u)
	c.want(u, sink.Dropped)
	for key, b := range map[string]*bench{"the catalog": c.bench, "de": c.houses["de"], "us": c.houses["us"]} {
		if left := b.files(); len(left) > 0 {
			t.Errorf("of a dropped unit %v are left in %s", left, key)
		}
	}
}

// TestADeliveryThatLandsLate: its worker is gone, and it arrives before another one settles, just before that one's own commit, or after it. The
// rows come once.
func TestADeliveryThatLandsLate(t *testing.T) {
	for _, when := range []string{"before", "meanwhile", "after"} {
		synctest.Test(t, func(t *testing.T) {
			c := newCity(t, "de")
			c.owner(1)
			c.pending(map[int32]int64{0: 0}, "de")
			h := c.houses["de"]
			h.store.SetPlan(faultstore.When(isPut, faultstore.FailThenLand(nil)))
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if _, err := sink.SettleRows(ctx, c.open(), []int32{0}, c.table); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("SettleRows answered %v, want that its time is over", err)
			}
			h.store.SetPlan(nil)
			switch when {
			case "before":
				h.store.LandPostponed()
			case "meanwhile":
				h.beforePut(func() { h.store.LandPostponed() })
			case "after":
				c.settled(0)
				h.store.LandPostponed()
			}
			c.settled(0)
			c.wantRows("de", 1)
			if got := h.version(); got != 1 {
				t.Errorf("the table is at version %d, want 1", got)
			}
		})
	}
}
