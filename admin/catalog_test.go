package admin_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/storage/faultstore"
	"kafkadelta/storage/memory"
)

// country is a catalog and its tables, which the real sink fills.
type country struct {
	*fixture // the catalog
	mu       sync.Mutex
	stores   map[string]*memory.Store // of the tables, by key
	through  map[string]delta.LogStore
	dead     int64 // dead letters behind the rows of what is decided about
}

func newCountry(t *testing.T) *country {
	t.Helper()
	return &country{fixture: newFixture(t, setup{}), stores: map[string]*memory.Store{}}
}

func (c *country) town(key string) *memory.Store {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stores[key] == nil {
		c.stores[key] = memory.New()
	}
	return c.stores[key]
}

// inTown looks at one of the tables as at any fixture.
func (c *country) inTown(key string) *fixture {
	one := *c.fixture
	one.store = c.town(key)
	return &one
}

func (c *country) openStore(_ context.Context, key string) (delta.LogStore, error) {
	if store := c.through[key]; store != nil {
		return store, nil
	}
	return c.town(key), nil
}

func (c *country) openTown(ctx context.Context, key string) (*sink.Table, error) {
	cfg := sink.DefaultConfig()
	cfg.URI, cfg.Parquet.Compression = "memory://"+key, "none"
	schema, err := delta.ParseDDL(withMetadata)
	if err != nil {
		return nil, err
	}
	store, err := c.openStore(ctx, key)
	if err != nil {
		return nil, err
	}
	return sink.Open(ctx, store, cfg, sink.Options{Name: stream, Follows: true, Create: schema, Engine: "kafkadelta/test", Now: time.Now, Log: slog.New(slog.DiscardHandler)})
}

// decides has the catalog decide about offsets of a partition, which go to the tables in turn. Nothing is brought to them yet.
func (c *country) decides(partition int32, first, next int64, keys ...string) {
	c.t.Helper()
	ctx, at := c.t.Context(), checkpoint.Partition{Topic: topic, ID: partition}
	catalog, err := c.table.Layout(ctx)
	c.check(err)
	from, err := c.table.Origin(ctx, topic, identity)
	c.check(err)
	id := sink.NewManifestID()
	parcels := map[string]*sink.Parcel{}
	for i, key := range keys {
		var places []place
		for o := first + int64(i); o < next; o += int64(len(keys)) {
			places = append(places, place{partition, o})
		}
		table, err := c.openTown(ctx, key)
		c.check(err)
		layout, err := table.Layout(ctx)
		c.check(err)
		w := table.NewRoutedWriter(catalog, id)
		rows := batchOf(layout.Schema, topic, places)
		c.check(w.Write(ctx, rows))
		rows.Release()
		sealed, err := w.Seal()
		c.check(err)
		parcels[key], err = sealed.Routed(ctx, layout, from, []checkpoint.Span{{Partition: at, First: first, Next: next + c.dead, Rows: int64(len(places))}})
		c.check(err)
	}
	u, err := c.table.NewWriter(catalog).Finish([]checkpoint.Span{{Partition: at, First: first, Next: next + c.dead, Records: next + c.dead - first, Routed: next - first, Dead: c.dead}})
	c.check(err)
	c.check(c.table.Consign(ctx, u, id, c.table.Generation(), parcels))
	slots := map[string]int64{}
	for txn := range c.snapshot().Txns() {
		slots[txn.AppID] = txn.Version
	}
	sink.NameManifests(c.table, []*sink.Unit{u}, slots)
	c.check(c.table.Commit(ctx, []*sink.Unit{u}))
	if u.State() != sink.Landed {
		c.t.Fatalf("the unit is %v", u.State())
	}
	if c.dead > 0 {
		c.namesLetters(partition)
	}
}

// settles brings the tables what is decided about a partition, as a worker does that has just started.
func (c *country) settles(ctx context.Context, partition int32) error {
	catalog := c.openTable(setup{})
	_, err := sink.SettleRows(ctx, catalog, []int32{partition}, func(ctx context.Context, key string) (*sink.Table, error) {
		table, err := c.openTown(ctx, key)
		if err == nil {
			err = table.CheckFollows(ctx, sink.Origin{Generation: catalog.Generation()})
		}
		return table, err
	})
	return err
}

// routed is what a command reaches the tables with.
func (c *country) routed() admin.Routed {
	return admin.Routed{Open: c.openStore, Settle: func(ctx context.Context, giveUp bool) ([]string, error) {
		if giveUp {
			return sink.GiveUpRows(ctx, c.openTable(setup{}), []int32{0, 1}, c.openTown)
		}
		return nil, errors.Join(c.settles(ctx, 0), c.settles(ctx, 1))
	}}
}

// brings is decides, and then settles.
func (c *country) brings(partition int32, first, next int64, keys ...string) {
	c.t.Helper()
	c.decides(partition, first, next, keys...)
	c.check(c.settles(c.t.Context(), partition))
}

func (c *country) rewinding(to map[int32]int64) admin.Rewinding {
	r := rewinding(to)
	r.Routed = c.routed()
	return r
}

// verifies verifies the catalog and its tables, and returns the worst verdict, with the report of the catalog.
func (c *country) verifies() (*admin.Report, admin.Verdict) {
	c.t.Helper()
	r, tables, err := admin.VerifyCatalog(c.t.Context(), c.store, stream, c.openStore, admin.Options{Since: -1, Until: -1})
	c.check(err)
	worst := r.Verdict
	for _, t := range tables {
		if t.Verdict == admin.Faulty || worst == admin.OK {
			worst = t.Verdict
		}
	}
	if worst != r.Verdict {
		for _, t := range tables {
			c.t.Logf("table %s: %s", t.Table, show(t.Report))
		}
	}
	return r, worst
}

func (c *country) wantOK(notes ...string) {
	c.t.Helper()
	r, worst := c.verifies()
	if worst != admin.OK {
		c.t.Fatalf("the verdict is %q: %s", worst, show(r))
	}
	for _, n := range notes {
		if !slices.ContainsFunc(r.Notes, func(note string) bool { return strings.Contains(note, n) }) {
			c.t.Errorf("no note says %q: %q", n, r.Notes)
		}
	}
}

// loses deletes objects with a prefix.
func (c *country) loses(store *memory.Store, prefix string) {
	c.t.Helper()
	n := 0
	for info, err := range store.List(c.t.Context(), prefix, "") {
		c.check(err)
		c.check(store.Delete(c.t.Context(), info.Name))
		n++
	}
	if n == 0 {
		c.t.Fatalf("there is nothing named %s...", prefix)
	}
}

func TestVerifyCatalog(t *testing.T) {
	c := newCountry(t)
	c.brings(0, 0, 10, "de", "us")
	c.brings(1, 0, 3, "us")
	c.wantOK()
	c.decides(0, 10, 20, "de", "fr")
	c.wantOK("10 rows of offsets [10, 20) are decided about and on their way to de, fr")
	c.check(c.settles(t.Context(), 0))
	c.wantOK()
	c.decides(1, 3, 5, "us") // over a rewind, slots stay as they are
	r := c.rewinding(map[int32]int64{0: 5})
	r.Routed = admin.Routed{} // as by an earlier release
	c.rewind(r)
	c.wantOK("topic[1]: 2 rows of offsets [3, 5)", "on their way to us")
}

// TestWhatIsOnItsWayMustBeThere: that rows are decided about is no evidence that they come.
func TestWhatIsOnItsWayMustBeThere(t *testing.T) {
	for name, tt := range map[string]struct {
		happens func(c *country)
		says    []string
	}{
		"a file":     {func(c *country) { c.loses(c.town("us"), "part-") }, []string{"can't be brought", "table us: the file part-"}},
		"a note":     {func(c *country) { c.loses(c.town("us"), "_connector/parcels/") }, []string{"table us: the note _connector/parcels/"}},
		"a manifest": {func(c *country) { c.loses(c.store, "_connector/manifests/") }, []string{"the manifest _connector/manifests/"}},
		"the table's slot says that it has followed": {func(c *country) {
			slot := checkpoint.RowsAppID(stream, 0)
			txn, _ := c.snapshot().Txn(slot)
			c.inTown("us").foreign("WRITE", delta.Txn{AppID: slot, Version: txn.Version})
			c.inTown("de").foreign("WRITE", delta.Txn{AppID: slot, Version: txn.Version})
		}, []string{"10 of 10 rows", "no table has got them"}},
		"of one table the slot says so": {func(c *country) {
			slot := checkpoint.RowsAppID(stream, 0)
			txn, _ := c.snapshot().Txn(slot)
			c.inTown("de").foreign("WRITE", delta.Txn{AppID: slot, Version: txn.Version})
		}, []string{"10 of 10 rows", "no table has got them"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCountry(t)
			c.decides(0, 0, 10, "de", "us")
			tt.happens(c)
			r, _ := c.verifies()
			wantFault(t, r, admin.LostRows, append(tt.says, "rows of offsets [0, 10)")...)
		})
	}
	c := newCountry(t)
	c.brings(0, 0, 10, "de", "us")
	version := c.snapshot().Version()
	c.edit(version, `"appId":"events#rows/0"`, `"appId":"events#other/0"`)
	r, _ := c.verifies()
	wantFault(t, r, admin.ForgedTxn, "rows of other tables", `no txn "events#rows/0"`)
}

// TestVerifyAfterRowsThatAreGone: the remedy for rows that can't come any more is a rewind to where they begin. What is there of the generation
// before does not matter then.
func TestVerifyAfterRowsThatAreGone(t *testing.T) {
	c := newCountry(t)
	c.brings(0, 0, 4, "de", "us")
	c.brings(1, 0, 4, "de", "us")
	c.decides(0, 4, 8, "de", "us")
	c.loses(c.town("us"), "part-00000-"+lastFile(c))
	r, _ := c.verifies()
	wantFault(t, r, admin.LostRows, "can't be brought")
	_, err := admin.PlanRewind(t.Context(), c.store, c.rewinding(map[int32]int64{0: 6}))
	wantRefusal(t, err, "offset 4, with which they begin, would not be read again", "--to-offsets 0=4")
	p := c.plan(c.rewinding(map[int32]int64{0: 4}))
	if len(p.Warnings) == 0 || !strings.Contains(p.Warnings[0], "rows of partition 0 that the catalog has decided about can't come to their tables any more: table us: the file") {
		t.Errorf("the plan warns %q", p.Warnings)
	}
	_, err = p.Commit(t.Context())
	c.check(err)
	c.check(p.Settle(t.Context()))
	c.claim()
	c.brings(1, 4, 8, "de", "us") // of the new generation, behind what there was for de of the one before
	c.brings(0, 4, 8, "de", "us")
	c.wantOK()
	c.decides(0, 8, 12, "de", "us")
	c.loses(c.town("us"), "_connector/parcels/")
	r, _ = c.verifies() // in the new generation it does
	wantFault(t, r, admin.LostRows, "generation 1", "can't be brought")
}

// lastFile is what the name of the file that waits for a table has behind its beginning.
func lastFile(c *country) string {
	txn, _ := c.snapshot().Txn(checkpoint.RowsAppID(stream, 0))
	return fmt.Sprintf("%016x", txn.Version)
}

// TestRewindSettlesBehindIt: what is on its way when a catalog is rewound is of the generation before, and comes to the tables before any row of the
// new one, whoever brings it. The rewind itself waits for nothing: it lands between two decisions of a busy stream (rules A5 and T5b).
func TestRewindSettlesBehindIt(t *testing.T) {
	for _, busy := range []bool{false, true} { // another worker goes on before the command settles
		c := newCountry(t)
		c.brings(0, 0, 10, "de", "us")
		c.brings(1, 0, 10, "de", "us")
		c.decides(0, 10, 20, "de", "us")
		store := faultstore.New(c.store)
		again := false // right before the put more is decided about
		store.SetHook(func(op faultstore.Op) {
			if isPut(op) && !again {
				again = true
				c.decides(1, 10, 14, "us")
			}
		})
		p, err := admin.PlanRewind(t.Context(), store, c.rewinding(map[int32]int64{1: 5}))
		c.check(err)
		if len(p.Warnings) == 0 || !strings.Contains(p.Warnings[0], "rows of partition 0 that the catalog has decided about are on their way to de, us: they are brought there") {
			t.Errorf("the plan warns %q", p.Warnings)
		}
		if at := c.snapshot().Version(); at != 4 {
			t.Errorf("the catalog is at version %d: a plan writes nothing", at)
		}
		before := c.inTown("us").snapshot().Version()
		_, err = p.Commit(t.Context())
		c.check(err)
		if at := c.inTown("us").snapshot().Version(); at != before || !again {
			t.Errorf("table us is at version %d, want %d: nothing comes before the rewind", at, before)
		}
		c.claim()
		if busy {
			c.check(c.settles(t.Context(), 1)) // rule T3
			c.brings(1, 5, 8, "us", "de")
		}
		c.check(p.Settle(t.Context()))
		c.wantOK()
		c.brings(0, 20, 24, "us", "de")
		c.wantOK()
		if rows := c.inTown("us").verify().Partitions; rows[0].Rows != 10 || rows[1].Generation != 1 || rows[1].Rows != 2 {
			t.Errorf("partition 0 of table us is %+v", rows)
		}
	}
}

// TestRewindPastTablesThatAreBroken: what they lack can't be told. That is no way to lose rows: nothing is committed before they are mended.
func TestRewindPastTablesThatAreBroken(t *testing.T) {
	for name, tt := range map[string]struct {
		breaks, mends func(c *country)
		says          string
	}{
		"it can't be read": {
			func(c *country) {
				store := faultstore.New(c.town("us"))
				store.SetPlan(func(faultstore.Op) faultstore.Action { return faultstore.Fail(fs.ErrPermission) })
				c.through = map[string]delta.LogStore{"us": store}
			},
			func(c *country) { c.through = nil }, "permission",
		},
		"it is not there": {
			func(c *country) { c.moves("us", "gone") },
			func(c *country) { c.moves("gone", "us") }, "the catalog knows it, and it is not there",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCountry(t)
			c.brings(0, 0, 10, "de", "us")
			c.decides(1, 0, 4, "de", "us")
			tt.breaks(c)
			r := c.rewinding(map[int32]int64{0: 5})
			_, err := admin.PlanRewind(t.Context(), c.store, r)
			wantRefusal(t, err, "can't be told: table us", "--force")
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v; want %q in it", err, tt.says)
			}
			r.Force = true
			p := c.plan(r)
			if !strings.Contains(p.Warnings[0], "table us") || !strings.Contains(p.Warnings[0], "nothing more of the stream is committed before that is mended") {
				t.Errorf("the plan warns %q", p.Warnings)
			}
			_, err = p.Commit(t.Context())
			c.check(err)
			tt.mends(c)
			c.check(p.Settle(t.Context()))
			c.claim()
			c.brings(0, 5, 12, "de", "us")
			c.wantOK()
		})
	}
}

// moves moves a table to another folder.
func (c *country) moves(from, to string) {
	c.t.Helper()
	c.town(from)
	c.stores[to] = c.stores[from]
	delete(c.stores, from)
}

// TestOneCleanedLogHidesLittle: a table whose log was cleaned may have had what it had taken by the oldest state that is left. What lacks beyond
// that is lost.
func TestOneCleanedLogHidesLittle(t *testing.T) {
	for name, tt := range map[string]struct {
		after bool // it was cleaned after it had taken offsets behind those that lack
		want  admin.Kind
	}{"before": {false, admin.LostRows}, "after": {true, admin.Unaccounted}} {
		t.Run(name, func(t *testing.T) {
			c := newCountry(t)
			clean := func() { c.inTown("us").foreign("WRITE"); c.inTown("us").cleanLog() }
			c.brings(1, 0, 4, "us")
			if !tt.after {
				clean()
			}
			c.decides(0, 0, 4, "de") // and nobody brings them
			c.brings(0, 4, 8, "de", "us")
			if tt.after {
				clean()
			}
			r, _ := c.verifies()
			found := append(slices.Clone(r.Faults), r.Unverified...)
			if len(found) != 1 || found[0].Kind != tt.want || *found[0].First != 0 || *found[0].Next != 4 {
				t.Errorf("want one %s of offsets [0, 4): %s", tt.want, show(r))
			}
		})
	}
}

// TestARestoreOfATableBehindARewindOfTheCatalog: where a table has got nothing since the catalog was rewound, no start notices a RESTORE of it. Verify does.
func TestARestoreOfATableBehindARewindOfTheCatalog(t *testing.T) {
	c := newCountry(t)
	c.brings(0, 0, 10, "de", "us")
	c.brings(1, 0, 10, "de", "us")
	c.rewind(c.rewinding(map[int32]int64{1: 8}))
	c.brings(1, 8, 12, "de")
	c.wantOK()
	town := c.inTown("us")
	var removes []any
	for _, a := range town.live() {
		removes = append(removes, removeOf(a, true))
	}
	version := town.foreign("RESTORE", removes...)
	town.edit(version, `"operation":"RESTORE"`, `"operation":"RESTORE","operationParameters":{"version":0}`)
	if _, worst := c.verifies(); worst != admin.Faulty {
		t.Errorf("the verdict is %q", worst)
	}
	wantFault(t, town.verify(), admin.Restored, "took back 5 rows of offsets [0, 10)")
}

// TestARewindOfTheCatalogOverACleanedTable: where the log of a table was cleaned, and others have rewritten its files without their tags, nothing but a txn
// is left of what it had of a partition before the catalog was rewound. Its rows are of the generation that the table was in then.
func TestARewindOfTheCatalogOverACleanedTable(t *testing.T) {
	for name, before := range map[string]func(c *country){
		"the first generation": func(*country) {},
		"one behind another whose tags are left": func(c *country) {
			c.brings(0, 0, 10, "us")
			c.rewind(c.rewinding(map[int32]int64{0: 0}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCountry(t)
			before(c)
			c.brings(0, 0, 8, "us")
			town := c.inTown("us")
			at := town.snapshot().Version()
			town.foreign("OPTIMIZE", removeOf(town.filesOf(at)[0], false), town.write("optimized.parquet", false, take{0, 0, 8, nil, 0}.places()))
			c.brings(1, 0, 4, "us")
			town.cleanLog()
			c.rewind(c.rewinding(map[int32]int64{0: 6}))
			c.brings(0, 6, 12, "us")
			if r, worst := c.verifies(); worst == admin.Faulty {
				t.Errorf("the catalog: %s", show(r))
			}
			r := town.verify()
			wantVerdict(t, r, admin.OK)
			gen := c.table.Generation() - 1
			if !slices.ContainsFunc(r.Partitions, func(p admin.PartitionReport) bool {
				return p.Partition == 0 && p.Generation == gen && p.Next == 8 && p.RowsFound == 8
			}) {
				t.Errorf("want 8 rows of generation %d up to offset 8: %s", gen, show(r))
			}
			wantVerdict(t, town.verify(admin.Options{Since: r.LogFrom, Until: -1}), admin.OK)
			town.foreign("WRITE", town.write("again.parquet", true, []place{{0, 13}}))
			wantFault(t, town.verify(), admin.OutsideSpan, "offset 13")
		})
	}
}
