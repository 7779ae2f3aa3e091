package sink

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/checkpoint"
)

// A catalog is the table of a stream whose rows go to many others (ADR 12). Its units have no files: they decide about parcels, one for each
// table that gets rows (rule T1), whose keys are in a manifest. A txn for each partition with such rows names the manifest (T2), and the tables
// follow it as a dead-letter table follows its slots.

// manifestFolder is beside the catalog's log: readers and VACUUM pass over it.
const manifestFolder = "_connector/manifests/"

// manifestVersion is the format that is written.
const manifestVersion = 1

// settledAtOnce is how many tables are read or committed to side by side.
const settledAtOnce = 16

// manifest is the stored form: the tables that a unit has rows for. It stays until no txn of the catalog names it.
type manifest struct {
	Version    int               `json:"v"`
	Generation int64             `json:"gen"`
	Tables     []string          `json:"tables"`          // keys
	Spans      []checkpoint.Span `json:"spans,omitempty"` // of the unit, those with rows
}

func manifestName(id int64) string { return fmt.Sprintf("%s%016x.json", manifestFolder, id) }

// NewManifestID is a random number of 63 bits.
func NewManifestID() int64 { return rand.Int64() }

// OpenTable opens one of a catalog's tables, by its key.
type OpenTable func(ctx context.Context, key string) (*Table, error)

// Consign has a unit of the catalog decide about parcels of other tables, by key, which all have the id of the manifest (rule T1).
func (t *Table) Consign(ctx context.Context, u *Unit, id int64, generation int64, parcels map[string]*Parcel) error {
	var want, got int64
	var spans []checkpoint.Span
	for _, s := range u.Spans {
		if s.Routed > 0 {
			want += s.Routed
			spans = append(spans, s)
		}
	}
	for key, p := range parcels {
		if got += p.Rows(); p.ID != id {
			return &Error{Op: "closing a flush", Err: fmt.Errorf("the parcel of table %s is %016x, but the manifest %016x", key, p.ID, id)}
		}
	}
	if got != want && u.app == nil { // the rows of a replay are compared with their marks
		return &Error{Op: "closing a flush", Err: fmt.Errorf("the parcels hold %d rows, but the unit tells %d for other tables", got, want)}
	}
	u.manifest, u.consigned, u.note = id, parcels, manifestName(id)
	return t.putManifest(ctx, id, &manifest{manifestVersion, generation, slices.Sorted(maps.Keys(parcels)), spans})
}

func (t *Table) putManifest(ctx context.Context, id int64, m *manifest) error {
	data, err := json.Marshal(m)
	if err != nil {
		return &Error{Op: "writing a manifest", Err: err}
	}
	if err := t.store.Put(ctx, manifestName(id), data); err != nil {
		return orFinal(fmt.Errorf("writing %s: %w", manifestName(id), err))
	}
	return nil
}

// NameManifests gives each unit with a manifest the slots that name it, on condition that they stand where SettleRows has found them (rule T3).
func NameManifests(catalog *Table, units []*Unit, settled map[string]int64) {
	name := catalog.opts.Name
	for _, u := range units {
		if u.manifest == 0 {
			continue
		}
		u.slots = slices.DeleteFunc(u.slots, func(s Slot) bool { return checkpoint.IsRows(s.AppID, name) })
		for _, s := range u.Spans {
			if s.Routed > 0 {
				appID := checkpoint.RowsAppID(name, s.ID)
				u.slots = append(u.slots, Slot{AppID: appID, From: slotAt(settled, appID), To: u.manifest})
			}
		}
	}
}

// rowSlots reads the log up to its newest version, and tells the slots of the stream's rows in other tables.
func (t *Table) rowSlots(ctx context.Context, stream string) (map[string]int64, error) {
	slots, _, _, err := t.rowSlotsOf(ctx, stream)
	return slots, err
}

// rowSlotsOf is rowSlots with the generation that they are of, and the layout. Those of another moment would be no word about them: an earlier generation hides that there
// is something of a former one (rule T5b), and a later layout that there is something which the table has to get before it follows.
func (t *Table) rowSlotsOf(ctx context.Context, stream string) (slots map[string]int64, generation int64, layout *Layout, err error) {
	return t.newestTxns(ctx, func(appID string) bool { return checkpoint.IsRows(appID, stream) })
}

// SettleRows brings the tables up to what the catalog says of the partitions (rules T2 and T3), and returns the slots of all partitions and that of replays, of
// which those that were asked for, and that of replays, are settled. Anybody may settle, at any time. As in Settle, the tables are read before the slots. What is gone is
// a *checkpoint.RefusedError (rule T5).
func SettleRows(ctx context.Context, catalog *Table, partitions []int32, open OpenTable) (map[string]int64, error) {
	return (&settling{catalog: catalog, open: open}).run(ctx, partitions)
}

func (s *settling) run(ctx context.Context, asked []int32) (map[string]int64, error) {
	for {
		partitions := asked
		want, generation, layout, err := s.catalog.rowSlotsOf(ctx, s.catalog.opts.Name)
		if err != nil {
			return nil, err
		}
		if s.schema = layout.Schema; s.whole {
			partitions = partitionsOf(s.catalog.opts.Name, want)
		}
		s.ids, s.manifests = s.catalog.unsettled(want, partitions), map[int64]*manifest{}
		if len(s.ids) == 0 {
			return want, nil
		}
		if err := s.addFormer(ctx, want, generation); err != nil {
			return nil, err
		}
		done, err := s.settle(ctx)
		if err != nil {
			return nil, err
		}
		if done {
			s.catalog.arrived(want, s.ids, generation)
			s.whole = false // others decide about more all the time
		}
	}
}

// addFormer has what is pending of earlier generations settled as well, of whatever partition, before the first delivery of a generation: none of it can
// come to be after that, and a table must not get it behind rows of the generation.
func (s *settling) addFormer(ctx context.Context, want map[string]int64, generation int64) error {
	if s.catalog.knowsFormer(generation) {
		return nil
	}
	for _, id := range slices.Compact(slices.Sorted(maps.Values(want))) {
		if slices.Contains(s.ids, id) {
			continue
		}
		m, err := s.catalog.readManifest(ctx, id)
		if s.giveUp && errors.As(err, new(*checkpoint.RefusedError)) {
			continue // its own turn comes
		} else if err != nil {
			return err
		}
		if m != nil && m.Generation < generation {
			s.ids = append(s.ids, id)
		}
	}
	return nil
}

// knowsFormer tells whether all rows of earlier generations are known to have arrived. There are none before the first.
func (t *Table) knowsFormer(generation int64) bool {
	t.rowsMu.Lock()
	defer t.rowsMu.Unlock()
	return t.rowsSince >= generation
}

// partitionsOf are those that slots of a stream are of.
func partitionsOf(stream string, slots map[string]int64) (partitions []int32) {
	for appID := range slots {
		if p, ok := checkpoint.RowsOf(stream, appID); ok {
			partitions = append(partitions, p)
		}
	}
	return partitions
}

// unsettled are the manifests that the partitions' slots, and that of replays, name and that are not known to have arrived.
func (t *Table) unsettled(want map[string]int64, partitions []int32) []int64 {
	t.rowsMu.Lock()
	defer t.rowsMu.Unlock()
	asked := []string{checkpoint.ReplayedRowsAppID(t.opts.Name)}
	for _, p := range partitions {
		asked = append(asked, checkpoint.RowsAppID(t.opts.Name, p))
	}
	var ids []int64
	for _, appID := range asked {
		id, ok := want[appID]
		if at, known := t.rowsSettled[appID]; ok && (!known || at != id) && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// arrived takes note of manifests that all their tables have followed, among them all of generations before that one.
func (t *Table) arrived(want map[string]int64, ids []int64, generation int64) {
	t.rowsMu.Lock()
	defer t.rowsMu.Unlock()
	t.rowsSince = max(t.rowsSince, generation)
	for appID, id := range want {
		if slices.Contains(ids, id) {
			t.rowsSettled[appID] = id
		}
	}
}

// DropManifests deletes the manifests that came before those of units that have landed in the catalog. One that another partition still names
// stays (rule T4).
func DropManifests(ctx context.Context, catalog *Table, landed []*Unit) error {
	if err := catalog.lock(ctx); err != nil {
		return err
	}
	defer catalog.unlock()
	named := map[int64]bool{}
	for appID, id := range catalog.txns() {
		if checkpoint.IsRows(appID, catalog.opts.Name) {
			named[id] = true
		}
	}
	for _, u := range landed {
		for _, s := range u.slots {
			if checkpoint.IsRows(s.AppID, catalog.opts.Name) && s.From >= 0 && !named[s.From] {
				named[s.From] = true // once
				catalog.dropNote(ctx, manifestName(s.From))
			}
		}
	}
	return nil
}

// settling brings manifests to the tables that they name.
type settling struct {
	catalog   *Table
	open      OpenTable
	ids       []int64
	manifests map[int64]*manifest
	schema    *arrow.Schema // of the catalog, as of ids
	whole     bool          // of all partitions

	giveUp bool     // go on without what is lost
	given  []string // up: a line each
}

// addressee is a table that some of the manifests name.
type addressee struct {
	key     string
	ids     []int64
	table   *Table
	have    map[string]int64 // its slots
	follows bool             // it gets another schema with what it lacks
	lost    []*lostRows      // what is gone of it, and not read again
}

// settle answers false where somebody else was at it too, so that it is to be looked at again.
func (s *settling) settle(ctx context.Context) (bool, error) {
	byKey := map[string]*addressee{}
	for _, id := range s.ids {
		m, err := s.catalog.readManifest(ctx, id)
		if s.giveUp && errors.As(err, new(*checkpoint.RefusedError)) {
			m, err = s.manifestAgain(ctx, id)
		}
		if err != nil {
			return false, err
		}
		if m == nil { // the slot names another by now
			return false, nil
		}
		s.manifests[id] = m
		for _, key := range m.Tables {
			if byKey[key] == nil {
				byKey[key] = &addressee{key: key}
			}
			byKey[key].ids = append(byKey[key].ids, id)
		}
	}
	tables := slices.SortedFunc(maps.Values(byKey), func(a, b *addressee) int { return cmp.Compare(a.key, b.key) })
	err := each(ctx, tables, func(ctx context.Context, a *addressee) (err error) {
		if a.table, err = s.open(ctx, a.key); err != nil {
			return err
		}
		var is *Layout
		if a.have, _, is, err = a.table.rowSlotsOf(ctx, s.catalog.opts.Name); err == nil {
			next, failed := is.Toward(s.schema, a.table.cfg.SchemaEvolution)
			a.follows = failed == nil && next != is && a.lacks()
		}
		return err
	})
	if err != nil {
		return false, err
	}
	if !s.whole && slices.ContainsFunc(tables, func(a *addressee) bool { return a.follows }) {
		s.whole = true // what is pending of other partitions may be of the schema before, and has to come first
		return false, nil
	}
	want, err := s.catalog.rowSlots(ctx, s.catalog.opts.Name)
	if err != nil {
		return false, err
	}
	all := make([]bool, len(tables))
	err = each(ctx, tables, func(ctx context.Context, a *addressee) (err error) {
		all[slices.Index(tables, a)], err = s.bringAll(ctx, a, want)
		return err
	})
	if s.giveUp {
		s.takeDown(tables)
	} else if err == nil {
		err = refuseLost(tables)
	}
	return !slices.Contains(all, false), err
}

// lacks tells whether the table is to get rows: else it goes on as it is.
func (a *addressee) lacks() bool {
	have := slices.Collect(maps.Values(a.have))
	return slices.ContainsFunc(a.ids, func(id int64) bool { return !slices.Contains(have, id) })
}

// bringAll brings one table what it lacks, in a commit for each generation. It answers false where the table has moved meanwhile. Where something
// is gone, nothing of later generations follows.
func (s *settling) bringAll(ctx context.Context, a *addressee, want map[string]int64) (bool, error) {
	slots := map[int64][]Slot{}
	for _, appID := range slices.Sorted(maps.Keys(want)) { // all partitions of a manifest at once, as in pending (rule D3b)
		id := want[appID]
		if at := slotAt(a.have, appID); slices.Contains(a.ids, id) && at != id {
			slots[id] = append(slots[id], Slot{AppID: appID, From: at, To: id})
		}
	}
	byGeneration := map[int64][]int64{}
	for _, id := range slices.Sorted(maps.Keys(slots)) {
		generation := s.manifests[id].Generation
		byGeneration[generation] = append(byGeneration[generation], id)
	}
	for _, generation := range slices.Sorted(maps.Keys(byGeneration)) {
		if done, err := s.bring(ctx, a, byGeneration[generation], slots); err != nil || !done || len(a.lost) > 0 && !s.giveUp {
			return done, err
		}
	}
	return true, nil
}

// bring delivers parcels of one generation; each by itself, where something of them is gone. What is there is neither held up by that nor given up
// with it (rule T5).
func (s *settling) bring(ctx context.Context, a *addressee, ids []int64, slots map[int64][]Slot) (bool, error) {
	var all []Slot
	for _, id := range ids {
		all = append(all, slots[id]...)
	}
	done, err := a.table.deliver(ctx, ids, all, s.schema)
	lost, gone := errors.AsType[*lostRows](err)
	switch {
	case !gone:
		return done, err
	case len(ids) == 1:
		return s.passOver(ctx, a, lost, s.manifests[ids[0]], all)
	}
	done = true
	for _, id := range ids {
		one, err := s.bring(ctx, a, []int64{id}, slots)
		if err != nil {
			return false, err
		}
		done = done && one
	}
	return done, nil
}

// each calls f for all, some at a time.
func each(ctx context.Context, all []*addressee, f func(context.Context, *addressee) error) error {
	errs := make([]error, len(all))
	room := make(chan struct{}, settledAtOnce)
	var wait sync.WaitGroup
	for i, a := range all {
		room <- struct{}{}
		wait.Go(func() {
			if err := f(ctx, a); err != nil {
				errs[i] = fmt.Errorf("table %s: %w", a.key, err)
			}
			<-room
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// readManifest is nil where the manifest is gone, and no slot names it any more.
func (t *Table) readManifest(ctx context.Context, id int64) (*manifest, error) {
	name := manifestName(id)
	var data []byte
	gone := false
	err := t.retry(ctx, "reading a manifest", func() (err error) {
		data, err = t.read(ctx, name, maxParcel)
		gone = errors.Is(err, fs.ErrNotExist)
		if gone {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if gone {
		want, err := t.rowSlots(ctx, t.opts.Name)
		if err != nil || !slices.Contains(slices.Collect(maps.Values(want)), id) {
			return nil, err
		}
		return nil, &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("the catalog names the manifest %016x, but its folder has no %s: which tables lack rows can't be told", id, name),
			Remedy: "bring the object back, with the rest of the folder _connector, which is not the store's to clean up; if it is lost, `connector settle --give-up` goes on with what the tables' own folders have",
		}
	}
	m := &manifest{}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, &Error{Op: "reading a manifest", Err: fmt.Errorf("%s: %w", name, err)}
	}
	if m.Version != manifestVersion {
		return nil, &Error{Op: "reading a manifest", Err: fmt.Errorf("%s has format version %d, and this binary knows %d", name, m.Version, manifestVersion), Hint: "use a newer binary"}
	}
	return m, nil
}
