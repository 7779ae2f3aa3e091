package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
)

// divided is a stream whose rows go to many tables, by the column text (ADR 12). The stream's own table is their catalog then, which the ledger
// keeps up with.
type divided struct {
	w        *world
	most     int // keys that messages may have; they come one after the other
	limit    int // table.max_tables
	tables   map[string]*table
	rows     map[place]map[int64]*table // by generation, who has it
	removed  map[string]bool            // keys of tables that somebody has taken away, and perhaps brought back
	troubled bool                       // an operator has work to do: workers refuse to go on until it is done
}

// table is one of them.
type table struct {
	*shelf
	key  string
	stat map[string]*file // by name, all that were ever added
	of   int64            // generation of the newest rows
}

// nullKey is of messages whose text is empty.
const nullKey = "__null__"

func (w *world) newDivided(rnd *rand.Rand) *divided {
	d := &divided{w: w, most: 3 + rnd.IntN(3), limit: 100, tables: map[string]*table{}, rows: map[place]map[int64]*table{}, removed: map[string]bool{}}
	if rnd.IntN(4) == 0 {
		d.limit = 2 + rnd.IntN(2) // some messages have no table then, and which they are depends on who looks
	}
	return d
}

// keyOf chooses the table of the next message: most go to few.
func (d *divided) keyOf(rnd *rand.Rand) string {
	known := min(2+int(time.Since(d.w.trace.begun)/(15*time.Second)), d.most)
	n := rnd.IntN(known)
	if rnd.IntN(3) > 0 {
		n = rnd.IntN(2)
	}
	if n == 1 {
		return nullKey
	}
	return fmt.Sprintf("t%d", n)
}

// address says which table a message is for.
func (d *divided) address(m *message, rnd *rand.Rand) {
	if m.key = d.keyOf(rnd); m.verdict == good && d.limit < d.most {
		m.verdict = some
	}
	d.w.count.Routed++
}

// table is the one of a key. The caller holds the lock.
func (d *divided) table(key string) *table {
	t := d.tables[key]
	if t == nil {
		t = &table{shelf: newShelf(d.w, key+"/"), key: key, stat: map[string]*file{}}
		t.read = t.readVersion
		d.tables[key] = t
	}
	return t
}

// readVersion takes a version of a table over. The caller holds the lock.
func (t *table) readVersion(version int64, data []byte) {
	w := t.w
	actions := t.actions(version, data)
	t.takeTxns(version, actions)
	moved := map[place]int{}
	for _, a := range actions {
		switch {
		case a.CommitInfo != nil:
			t.takeStamp(version, a.CommitInfo.InCommitTimestamp)
		case a.MetaData != nil:
			t.takeMetaData(version, a.MetaData)
		case a.Remove != nil:
			if f := t.files[a.Remove.Path]; f != nil {
				for at := range f.rows {
					moved[at]--
				}
			}
			delete(t.files, a.Remove.Path)
		}
	}
	for _, a := range actions {
		if a.Add == nil {
			continue
		}
		if _, twice := t.stat[a.Add.Path]; twice {
			w.fault("I2: version %s%d adds %s again", t.name, version, a.Add.Path)
		}
		// A column that got wider in the catalog before the table had it is in its files as the catalog had it: open, see docs/exactly-once.md.
		f := t.openRows(version, a.Add.Path, a.Add.Size)
		f.tags = a.Add.Tags
		if a.Add.DataChange {
			t.takeTypes(version, a.Add.Path, f)
		}
		t.files[a.Add.Path], t.stat[a.Add.Path] = f, f
		for at := range f.rows {
			if !a.Add.DataChange {
				moved[at]++
				continue
			}
			w.divided.take(t, version, generationOf(w, f.tags), at)
		}
	}
	for at, n := range moved {
		if n != 0 {
			w.fault("the simulation's own OPTIMIZE of version %s%d has lost %v", t.name, version, at)
		}
	}
	t.takeRowIDs(version, actions)
}

// take looks at a row that a version brings: no table has it in that generation, and the catalog has decided about it.
func (d *divided) take(t *table, version, generation int64, at place) {
	if before := d.rows[at][generation]; before != nil {
		d.w.fault("I2: version %s%d has %v of generation %d, which table %s has", t.name, version, at, generation, before.key)
	}
	l := d.w.ledger
	if now := l.generation[streamName]; generation > now || generation == now && at.offset >= l.next[at.partition] {
		d.w.fault("T1: version %s%d has %v of generation %d, and the catalog stands at %d in generation %d", t.name, version, at, generation, l.next[at.partition], now)
	}
	if generation < t.of {
		d.w.fault("T5b: version %s%d has %v of generation %d, behind rows of generation %d", t.name, version, at, generation, t.of)
	}
	t.of = max(t.of, generation)
	if d.rows[at] == nil {
		d.rows[at] = map[int64]*table{}
	}
	d.rows[at][generation] = t
}

// wrong tells what the tables lack or have too much of: each message is in the table of its key, once, and each span of the catalog tells what
// became of those in it. The caller holds the lock.
func (d *divided) wrong() []string {
	w := d.w
	var wrong []string
	has := map[place]*table{}
	for _, key := range sorted(d.tables) {
		t := d.tables[key]
		for _, name := range sorted(t.files) {
			for at, r := range t.files[name].rows {
				m := w.want[at]
				switch {
				case m == nil:
					wrong = append(wrong, fmt.Sprintf("table %s: %v must not be a row", key, at))
				case m.verdict == bad || m.verdict == left || m.key != key:
					wrong = append(wrong, fmt.Sprintf("T1: %v of verdict %d is in table %s, and is for %s", at, m.verdict, key, m.key))
				case r != row{m.n, m.rest}:
					wrong = append(wrong, fmt.Sprintf("table %s: %v has %v, want %v", key, at, r, row{m.n, m.rest}))
				}
			}
		}
	}
	for _, at := range slices.SortedFunc(maps.Keys(w.want), placeOrder) {
		m := w.want[at]
		if has[at] = d.rows[at][w.ledger.generationOf(at)]; has[at] != nil {
			continue
		}
		if m.verdict == good || at.offset >= w.ledger.next[at.partition] {
			wrong = append(wrong, fmt.Sprintf("I1: %v for table %s is lost", at, m.key))
		}
	}
	if len(wrong) > 0 {
		return wrong
	}
	return d.wronglyCounted(has)
}

// wronglyCounted tells of spans whose numbers are not those of what has become of their messages.
func (d *divided) wronglyCounted(has map[place]*table) []string {
	type sum struct{ routed, filtered, gone int64 }
	sums := map[int32]map[spanAt]*sum{}
	for at, m := range d.w.want {
		for _, s := range d.w.ledger.landed[at.partition] {
			if at.offset < s.first || at.offset >= s.next || s.generation != d.w.ledger.generationOf(at) {
				continue
			}
			if sums[at.partition] == nil {
				sums[at.partition] = map[spanAt]*sum{}
			}
			of := sums[at.partition][s]
			if of == nil {
				of = &sum{}
				sums[at.partition][s] = of
			}
			switch {
			case has[at] != nil:
				of.routed++
			case m.verdict == left:
				of.filtered++
			default:
				of.gone++
			}
		}
	}
	var wrong []string
	for _, p := range sorted(d.w.ledger.landed) {
		for _, s := range d.w.ledger.landed[p] {
			n := sum{}
			if found := sums[p][s]; found != nil {
				n = *found
			}
			if s.next <= d.w.ledger.until(s.generation, p) && (n != sum{s.routed, s.filtered, s.skipped + s.dead}) {
				wrong = append(wrong, fmt.Sprintf("I1: [%d, %d) of partition %d in version %d counts %d rows of other tables, %d filtered, %d bad, and they are %d, %d and %d",
					s.first, s.next, p, s.version, s.routed, s.filtered, s.skipped+s.dead, n.routed, n.filtered, n.gone))
			}
		}
	}
	return wrong
}

// pendingRows are rows that the catalog has decided about and that a table does not have: manifests by table.
func (d *divided) pendingRows() map[string][]int64 {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	pending := map[string][]int64{}
	for app, id := range d.w.ledger.txns {
		if !checkpoint.IsRows(app, streamName) {
			continue
		}
		var m struct{ Tables []string }
		data, err := d.w.ledger.get(fmt.Sprintf("_connector/manifests/%016x.json", id))
		if err == nil {
			err = json.Unmarshal(data, &m)
		}
		if err != nil {
			d.w.fault("T4: the catalog has %s = %016x: %v", app, id, err)
		}
		for _, key := range m.Tables {
			if t := d.tables[key]; t == nil || t.txns[app] != id {
				pending[key] = append(pending[key], id)
			}
		}
	}
	return pending
}

func (d *divided) isPending() bool { return len(d.pendingRows()) > 0 }

// verify has the connector's own verification look at the catalog and all tables, and compares what their snapshots show with what landed.
func (d *divided) verify(ctx context.Context) {
	w := d.w
	for _, key := range sorted(d.tables) {
		if t := d.tables[key]; t.version >= 0 {
			t.compare(ctx)
		}
	}
	open := func(_ context.Context, key string) (delta.LogStore, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return d.table(key).store, nil
	}
	report, tables, err := admin.VerifyCatalog(ctx, w.ledger.store, streamName, open, admin.Options{Since: -1, Until: -1})
	if err != nil {
		w.fault("verify: %v", err)
		return
	}
	cleaned := report.LogFrom >= 0
	for _, t := range tables {
		cleaned = cleaned || t.LogFrom >= 0
	}
	w.judge("the catalog", report, cleaned)
	for _, t := range tables {
		w.judge("table "+t.Table, t.Report, cleaned)
	}
}

// links are a process's ways to the tables.
type links struct {
	seed   uint64
	now    trouble
	byName map[string]*link
}

// follower is a process's way to a table.
func (p *process) follower(key string) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.tables.byName[key]
	if l == nil {
		h := fnv.New64a()
		_, _ = h.Write([]byte(key))
		p.w.mu.Lock()
		s := p.w.divided.table(key).shelf
		p.w.mu.Unlock()
		l = &link{shelf: s, process: p, rnd: rand.New(rand.NewPCG(p.tables.seed, h.Sum64())), trouble: p.tables.now}
		p.tables.byName[key] = l
	}
	return l
}

// routing is what divides a process's rows.
func (p *process) routing(config sink.Config, o sink.Options) *pipeline.Routing {
	config.Properties = maps.Clone(config.Properties)
	delete(config.Properties, txnRetention) // a table that follows may not have it
	return &pipeline.Routing{
		Parts: []pipeline.RoutePart{{Field: []string{"text"}}}, MaxOpen: 2, MaxTables: p.w.divided.limit,
		Key: func(values []*string) (string, error) {
			if values[0] == nil {
				return nullKey, nil
			}
			return *values[0], nil
		},
		Open: func(ctx context.Context, key, _ string, columns *arrow.Schema, events sink.Events) (*sink.Table, error) {
			own := o
			own.Follows, own.Create, own.Log, own.Events = true, columns, o.Log.With("table", key), events
			cfg := config
			cfg.URI = "memory://" + key
			return sink.Open(ctx, p.follower(key), cfg, own)
		},
	}
}

// isExcused tells of an error with which a worker may end: a table was removed, or an operator has work to do.
func (w *world) isExcused(err error) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.divided == nil {
		return false
	}
	refused := errors.As(err, new(*checkpoint.RefusedError))
	for key := range w.divided.removed { // a note that is not there is refused before it shows that nothing is
		if (refused || errors.As(err, new(*sink.Error))) && strings.Contains(err.Error(), "table "+key) {
			return true
		}
	}
	return w.divided.troubled && refused
}

// rewind has an operator rewind a stream, as `connector rewind` does. It is faultless, so that whatever goes wrong is the command's.
func (w *world) rewind(stream int, r admin.Rewinding) error {
	p := w.newProcess(fmt.Sprintf("operator-rewinds-%d", w.count.Rewinds))
	w.count.Rewinds++
	p.set(trouble{slow: w.usual.slow})
	name := streams[stream].name
	end, start := map[int32]int64{}, map[int32]int64{}
	w.mu.Lock()
	for app := range w.ledger.txns {
		if id, ok := strings.CutPrefix(app, name+"#topic/"); ok {
			r.Kafka.Identity.ClusterID, r.Kafka.Identity.TopicID, _ = strings.Cut(id, "/")
		}
	}
	for id := range partitionsOf(stream, w.ledger.next) {
		start[id%ofStream], end[id%ofStream] = 0, w.ledger.furthest[appOf(id)]+1
	}
	w.ledger.asked = map[int32]int64{}
	for id, at := range r.To {
		w.ledger.asked[id+int32(stream)*ofStream] = at
	}
	if r.ToVersion >= 0 {
		for id := range partitionsOf(stream, w.ledger.next) {
			w.ledger.asked[id] = w.ledger.past[r.ToVersion].next[id]
		}
	}
	w.mu.Unlock()
	r.Writer, r.Name, r.Topic = admin.Writer{Engine: "kafkadelta/sim", Now: time.Now}, name, streams[stream].topic
	r.Kafka.Start, r.Kafka.End = start, end
	plan, err := admin.PlanRewind(w.t.Context(), p.stores[0], r)
	if err == nil {
		_, err = plan.Commit(w.t.Context())
	}
	w.trace.add(p.name, "rewinds %s %s: %v", name, r.How, err)
	return err
}
