package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/checkpoint"
	"kafkadelta/sink"
)

// Reasons of messages that have no table. The words are stable.
const (
	reasonTooManyTables = "too_many_tables"
	reasonTableName     = "bad_table_name"
)

// routingPath stands in the place of a column where a message has no table.
const routingPath = "table.uri"

// Routing has the rows of a stream go to many tables, by values of each message (ADR 12). Options.OpenTable opens the catalog then, which
// has the columns of the rows and none of them.
type Routing struct {
	Parts []RoutePart
	// Key names the table for the values of the parts, of which nil is null or an empty text. An error says why no table can have them.
	Key func(values []*string) (string, error)
	// Open opens a table by its key. One that the catalog does not know may be made; else known is the name of a stream by which it does, this one
	// if it is among those. One that may be made gets the columns, which are the catalog's as they are by now; they are nil for one that is known. It tries for as long as the store is down.
	Open func(ctx context.Context, key, known string, columns *arrow.Schema, events sink.Events) (*sink.Table, error)
	// MaxOpen is how many data files, and tables, are open at most. MaxTables is how many tables there may be.
	MaxOpen, MaxTables int
}

// RoutePart is a value that says which table a message is for: a column, or a field of structs in it, or a header.
type RoutePart struct {
	Field  []string // nil: Header counts
	Header string
}

func (p RoutePart) String() string {
	if p.Field == nil {
		return fmt.Sprintf("{header:%s}", p.Header)
	}
	return fmt.Sprintf("{field:%s}", strings.Join(p.Field, "."))
}

// tables are those that a catalog's rows go to. Lanes and the committer share them.
type tables struct {
	Routing
	name    string // of the stream
	events  sink.Events
	now     func() time.Time
	log     *slog.Logger
	work    context.Context //nolint:containedctx // of their upkeep
	until   context.Context //nolint:containedctx // that those being closed may take
	cut     context.CancelFunc
	catalog *sink.Table
	pinned  atomic.Pointer[pinned]
	replay  bool          // its rows are those of dead letters
	files   atomic.Int64  // that are open, of all lanes
	closing chan struct{} // has room for those that are closed side by side

	mu      sync.Mutex // never held while a store is asked
	open    map[string]*openTable
	opening map[string]chan struct{} // closed once that has ended
	known   map[string]bool          // keys that the catalog knows; false for those that were met, and that it may not know yet
	others  map[string]string        // streams that share it, by the keys that it knows by them
	looked  time.Time                // when the catalog was asked what it knows
	uses    int64
	closed  bool
}

// pinned is what is known of the rows once the partitions were pinned.
type pinned struct {
	origin sink.Origin
	route  string // routeText
}

// openTable is one that is open.
type openTable struct {
	*sink.Table
	used int64 // a number that grows
}

// errTooMany says that a table would be one more than there may be.
var errTooMany = errors.New("too many tables")

// atOnce is how many tables are opened, or closed, side by side.
const atOnce = 16

// openTables begins with what the catalog knows. Nothing else is opened yet.
func (d *dispatcher) openTables(ctx, work context.Context) error {
	if d.Routing == nil {
		return nil
	}
	events := d.tableEvents()
	events.Creating = nil // the catalog was asked for
	t, err := newTables(ctx, work, &tables{Routing: *d.Routing, name: d.Name, events: events, now: d.Now, log: d.Log, catalog: d.table})
	d.tables = t
	return err
}

// newTables completes what is given.
func newTables(ctx, work context.Context, t *tables) (*tables, error) {
	t.work, t.closing = work, make(chan struct{}, atOnce)
	t.open, t.opening, t.known, t.others = map[string]*openTable{}, map[string]chan struct{}{}, map[string]bool{}, map[string]string{}
	t.until, t.cut = context.WithCancel(work)
	if err := t.look(ctx); err != nil {
		t.cut()
		return nil, err
	}
	return t, nil
}

// look asks the catalog which tables it knows by now.
func (t *tables) look(ctx context.Context) error {
	keys, others, err := t.catalog.Tables(ctx)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.looked = t.now()
	for _, key := range keys {
		t.known[key] = true
	}
	maps.Copy(t.others, others)
	return nil
}

// meet takes note of a key: errTooMany where its table would be one too many. Others may have made tables meanwhile, so that the catalog is asked
// before, but not for each of many values.
func (t *tables) meet(ctx context.Context, key string) error {
	for asked := false; ; asked = true {
		t.mu.Lock()
		_, met := t.known[key]
		fresh := asked || t.now().Sub(t.looked) < followInterval
		enters := !met && fresh && len(t.known) < t.MaxTables
		if enters {
			t.known[key] = false
		}
		t.mu.Unlock()
		switch {
		case met || enters:
			return nil
		case fresh:
			return errTooMany
		}
		if err := t.look(ctx); err != nil {
			return err
		}
	}
}

// decided opens a table that the catalog has decided about.
func (t *tables) decided(ctx context.Context, key string) (*sink.Table, error) {
	t.mu.Lock()
	t.known[key] = true
	t.mu.Unlock()
	return t.get(ctx, key)
}

// get opens the table of a key, once for all who ask, and makes it where the catalog does not know it.
func (t *tables) get(ctx context.Context, key string) (*sink.Table, error) {
	for {
		o, ended, others := t.find(key)
		switch {
		case o != nil:
			return o.Table, nil
		case others:
			select {
			case <-ended:
				continue // it failed, perhaps as its context has ended, or is there
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		table, err := t.openNew(ctx, key)
		t.mu.Lock()
		closed := t.closed
		if err == nil && !closed {
			t.open[key] = &openTable{table, t.uses}
		}
		delete(t.opening, key)
		close(ended)
		t.mu.Unlock()
		switch {
		case err != nil:
			return nil, err
		case closed:
			table.Close(t.until)
			return nil, context.Canceled
		}
		return table, nil
	}
}

// find tells who opens a table that is not open: others, or whoever has asked.
func (t *tables) find(key string) (o *openTable, ended chan struct{}, others bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.uses++
	if o = t.open[key]; o != nil {
		o.used = t.uses
		return o, nil, false
	}
	if ended, others = t.opening[key]; !others {
		ended = make(chan struct{})
		t.opening[key] = ended
	}
	return nil, ended, others
}

// openNew opens a table. Whether it may be made the catalog is asked right before: another worker may have entered it, or another stream (rule T6).
func (t *tables) openNew(ctx context.Context, key string) (*sink.Table, error) {
	known := func() string {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.known[key] {
			return t.name
		}
		return t.others[key]
	}
	by := known()
	if by == "" {
		if err := t.look(ctx); err != nil {
			return nil, err
		}
		by = known()
	}
	var columns *arrow.Schema
	if by == "" {
		layout, err := t.catalog.Layout(ctx)
		if err != nil {
			return nil, err
		}
		columns = layout.Schema
	}
	table, err := t.Open(ctx, key, by, columns, t.events)
	if err == nil {
		err = table.CheckFollows(ctx, t.origin())
	}
	if err == nil {
		err = table.Maintain(t.work)
	}
	if err == nil {
		t.sweep(ctx, table)
	}
	return table, err
}

// sweep removes what is left of rows that were never decided about, or have arrived.
func (t *tables) sweep(ctx context.Context, table *sink.Table) {
	if err := sink.SweepNotes(ctx, t.catalog, table); err != nil {
		t.log.Debug("what others have left of rows stays for now", "error", err)
	}
}

// pin pins the partitions in the catalog, and what the tables are named by.
func (t *tables) pin(ctx context.Context, r sink.PinRequest) error {
	layout, err := t.catalog.Layout(ctx)
	if err != nil {
		return err
	}
	var p pinned
	if p.route, err = routeText(t.Parts, layout.Schema); err != nil {
		return err
	}
	r.Route = checkpoint.UnitMark(p.route)
	if err := t.catalog.Pin(ctx, r); err != nil {
		return err
	}
	if p.origin, err = t.catalog.Origin(ctx, r.Topic, r.Identity); err == nil {
		t.pinned.Store(&p)
	}
	return err
}

// origin is where rows come from that are written now.
func (t *tables) origin() sink.Origin {
	var o sink.Origin
	if p := t.pinned.Load(); p != nil {
		o = p.origin
	}
	o.Name, o.Generation, o.Replay = t.name, t.catalog.Generation(), t.replay
	return o
}

// trim closes those that were not used for longest, past the limit, and does not wait for them. A lane may still write files for one; who
// delivers opens it again.
func (t *tables) trim(ctx context.Context) error {
	t.mu.Lock()
	keys := slices.SortedFunc(maps.Keys(t.open), func(a, b string) int { return cmp.Compare(t.open[a].used, t.open[b].used) })
	t.mu.Unlock()
	for _, key := range keys[:max(len(keys)-t.MaxOpen, 0)] {
		select {
		case t.closing <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		t.mu.Lock()
		o := t.open[key]
		delete(t.open, key)
		t.mu.Unlock()
		t.shut(o)
	}
	return nil
}

// shut closes a table, for which there is room in closing; nil for none.
func (t *tables) shut(o *openTable) {
	go func() {
		if o != nil {
			o.Close(t.until) // due log checkpoints are written
		}
		<-t.closing
	}()
}

// close ends their upkeep, and waits for that.
func (t *tables) close(ctx context.Context) {
	defer context.AfterFunc(ctx, t.cut)()
	t.mu.Lock()
	all := slices.Collect(maps.Values(t.open))
	clear(t.open)
	t.closed = true
	t.mu.Unlock()
	for _, o := range all {
		t.closing <- struct{}{}
		t.shut(o)
	}
	for range cap(t.closing) {
		t.closing <- struct{}{}
	}
	t.cut()
}

// nameRows readies units of a catalog for the commit: what their partitions' slots name by now must be in the tables (rule T3). That goes for units
// without rows, too: one that moved a partition on would hide that it was rewound to before rows that are gone (rule T5).
func (d *dispatcher) nameRows(ctx context.Context, units []*sink.Unit) error {
	if d.tables == nil {
		return nil
	}
	parts := partitionsWith(units, func(checkpoint.Span) bool { return true })
	settled, err := sink.SettleRows(ctx, d.table, parts, d.tables.decided)
	if err == nil {
		sink.NameManifests(d.table, units, settled)
	}
	return err
}

// deliverRows brings rows of units that have landed to their tables.
func (d *dispatcher) deliverRows(ctx context.Context, landed []*sink.Unit) error {
	parts := partitionsWith(landed, hasRouted)
	if len(parts) == 0 {
		return nil
	}
	begun := d.Now()
	if _, err := sink.SettleRows(ctx, d.table, parts, d.tables.decided); err != nil {
		return err
	}
	d.Log.Debug("rows delivered to their tables", "partitions", len(parts), "took", d.Now().Sub(begun))
	if err := sink.DropManifests(ctx, d.table, landed); err != nil {
		return err
	}
	return d.tables.trim(ctx)
}

func hasRouted(s checkpoint.Span) bool { return s.Routed > 0 }

// settleRows delivers rows that anybody has left pending.
func (d *dispatcher) settleRows(parts []int32) error {
	if d.tables == nil {
		return nil
	}
	_, err := sink.SettleRows(d.ctx, d.table, parts, d.tables.decided)
	return err
}

// sweepEvery is how often a worker looks for what others have left.
const sweepEvery = 24 * time.Hour

// sweep removes what dead workers have left of dead letters and rows. A worker that has pinned the stream alone does so: then it is the right table. What a
// catalog's tables have is looked for when they are opened, too.
func (d *dispatcher) sweep(now time.Time) {
	if now.Before(d.sweepAt) || !d.topicSeen.Load() || d.tables == nil && d.dead == nil {
		return
	}
	d.sweepAt = now.Add(sweepEvery)
	d.goDo(func() {
		var err error
		if d.dead != nil {
			err = sink.SweepNotes(d.ctx, d.table, d.dead)
		}
		if d.tables != nil {
			err = errors.Join(err, sink.SweepManifests(d.ctx, d.table))
			for _, table := range d.tables.those() {
				d.tables.sweep(d.ctx, table)
			}
		}
		if err != nil {
			d.Log.Debug("what dead workers have left stays for now", "error", err)
		}
	})
}

// those are the tables that are open.
func (t *tables) those() (open []*sink.Table) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range t.open {
		open = append(open, o.Table)
	}
	return open
}
