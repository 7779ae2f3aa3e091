package sink_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/storage/memory"
)

// A fleet is many workers on one table, each with a sink.Table of its own, over a store as slow and as unreliable as an
// object store, in the virtual time of testing/synctest. Kafka is played by the fleet: a partition's messages never end.

// link is one worker's connection to the store.
type link struct {
	*memory.Store
	rnd      *rand.Rand // owned by mu
	mu       sync.Mutex
	put, get time.Duration
	steady   bool
	faults   float64 // of all writes: their answers are lost
	fleet    *fleet
	requests map[string]int
}

var errLost = errors.New("the answer was lost")

func (l *link) wait(ctx context.Context, what string, d time.Duration) error {
	l.mu.Lock()
	if !l.steady {
		d = time.Duration(float64(d) * (0.7 + 0.6*l.rnd.Float64()))
	}
	l.requests[what]++
	l.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write does a write at its time, or loses its answer: then it lands, before or after the caller was told, or never.
func (l *link) write(ctx context.Context, what string, do func() error) error {
	if err := l.wait(ctx, what, l.put); err != nil {
		if l.chance(0.5) { // the request is on its way
			l.fleet.later(l.delay(), do)
		}
		return err
	}
	if !l.chance(l.faults) {
		return do()
	}
	switch l.pick(3) {
	case 0:
		_ = do()
	case 1:
		l.fleet.later(l.delay(), do)
	}
	return errLost
}

func (l *link) chance(p float64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rnd.Float64() < p
}

func (l *link) pick(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rnd.IntN(n)
}

func (l *link) delay() time.Duration { return time.Duration(l.pick(3000)) * time.Millisecond }

func (l *link) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	return l.write(ctx, "put_if_absent", func() error {
		err := l.Store.PutIfAbsent(context.WithoutCancel(ctx), name, data)
		if err == nil {
			l.fleet.noteVersion(name)
		}
		return err
	})
}

func (l *link) Put(ctx context.Context, name string, data []byte) error {
	return l.write(ctx, "put", func() error {
		l.fleet.noteProposal(name)
		return l.Store.Put(context.WithoutCancel(ctx), name, data)
	})
}

func (l *link) Delete(ctx context.Context, name string) error {
	return l.write(ctx, "delete", func() error { return l.Store.Delete(context.WithoutCancel(ctx), name) })
}

func (l *link) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := l.wait(ctx, "get", l.get); err != nil {
		return nil, err
	}
	return l.Store.Get(ctx, name, offset, length)
}

func (l *link) List(ctx context.Context, prefix, after string) iter.Seq2[delta.ObjectInfo, error] {
	if err := l.wait(ctx, "list", l.get); err != nil {
		return func(yield func(delta.ObjectInfo, error) bool) { yield(delta.ObjectInfo{}, err) }
	}
	return l.Store.List(ctx, prefix, after)
}

// fleetOptions say how a fleet lives.
type fleetOptions struct {
	seed       uint64
	workers    int
	partitions int
	idle       int           // of them, the last ones
	flush      time.Duration // between two flushes of a worker
	life       time.Duration // of the run
	put, get   time.Duration // of one request
	faults     float64       // of all writes
	crashes    bool          // workers crash, wake late, and take partitions from each other
	strangers  bool          // others optimize and change the table
	combine    string
	within     time.Duration                          // 99 of 100 flushes are to land
	properties map[string]string                      // of the table
	also       func(context.Context, *fleet)          // happens beside the workers
	clock      func(worker int) (ahead time.Duration) // of a worker's clock
}

type fleet struct {
	*bench
	fleetOptions
	rnd  *rand.Rand // owned by the goroutine that runs the fleet
	wait sync.WaitGroup

	mu       sync.Mutex
	owners   map[int32]int // the group's view
	latency  []time.Duration
	waiting  []time.Duration // of flushes that had not landed when the run ended: how long they had waited
	landed   map[int]int     // flushes by worker
	lost     int
	carried  int
	flushes  int
	dropped  int
	requests map[string]int
	broken   error

	newest   int64            // version in the log
	proposed map[string]int64 // by unit, that version when it was first there for others to carry

	versions int64
	logBytes int64
	empty    int   // spans
	passed   int64 // of the versions after a unit was there for others to carry, those that did not have it, at most
}

// noteVersion is told of an object that was put into the log.
func (f *fleet) noteVersion(name string) {
	var version int64
	if _, err := fmt.Sscanf(name, "_delta_log/%020d.json", &version); err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.newest = max(f.newest, version)
}

// noteProposal is told of an object that was put.
func (f *fleet) noteProposal(name string) {
	unit := unitOfProposal.FindStringSubmatch(name)
	if unit == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, before := f.proposed[unit[1]]; !before {
		f.proposed[unit[1]] = f.newest
	}
}

var unitOfProposal = regexp.MustCompile(`^_connector/proposals/\d+-(.{36})-\d+\.json$`)

// later does a write of a request that was still on its way.
func (f *fleet) later(d time.Duration, do func() error) {
	f.wait.Go(func() {
		time.Sleep(d)
		_ = do()
	})
}

// runFleet lets the fleet live, then checks the table.
func runFleet(t *testing.T, o fleetOptions) *fleet {
	t.Helper()
	var f *fleet
	synctest.Test(t, func(t *testing.T) {
		f = &fleet{bench: newBench(t), fleetOptions: o, rnd: rand.New(rand.NewPCG(o.seed, 7)), owners: map[int32]int{}, landed: map[int]int{},
			requests: map[string]int{}, proposed: map[string]int64{}}
		f.cfg.Combine = cmp.Or(o.combine, sink.CombineAuto)
		f.cfg.Properties = o.properties
		f.owner(int32(o.partitions)) // makes and pins
		ctx, cancel := context.WithTimeout(t.Context(), o.life)
		defer cancel()
		for p := range o.partitions {
			f.owners[int32(p)] = p % o.workers
		}
		for w := range o.workers {
			seed := f.rnd.Uint64()
			f.wait.Go(func() { f.work(ctx, w, rand.New(rand.NewPCG(o.seed, seed))) })
		}
		if o.crashes {
			f.wait.Go(func() { f.rebalance(ctx, rand.New(rand.NewPCG(o.seed, 11))) })
		}
		if o.strangers {
			f.wait.Go(func() { f.beside(ctx, rand.New(rand.NewPCG(o.seed, 13))) })
		}
		if o.also != nil {
			f.wait.Go(func() { o.also(ctx, f) })
		}
		f.wait.Wait()
		f.verify()
	})
	return f
}

// work is one worker, life after life.
func (f *fleet) work(ctx context.Context, id int, rnd *rand.Rand) {
	for ctx.Err() == nil {
		life := ctx
		if f.crashes && rnd.IntN(3) == 0 {
			var cancel context.CancelFunc
			life, cancel = context.WithTimeout(ctx, time.Duration(rnd.Int64N(int64(f.life))))
			defer cancel()
		}
		if err := f.live(life, id, rnd); err != nil && life.Err() == nil {
			f.fail(fmt.Errorf("worker %d: %w", id, err))
			return
		}
		sleepFor(ctx, time.Duration(rnd.Int64N(int64(time.Second))))
	}
}

func (f *fleet) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken == nil {
		f.broken = err
	}
}

func sleepFor(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// live is one process: it claims what the group gave it and commits until it crashes, which the context decides.
func (f *fleet) live(ctx context.Context, id int, rnd *rand.Rand) error {
	l := &link{Store: f.memory, rnd: rand.New(rand.NewPCG(rnd.Uint64(), 1)), put: f.put, get: f.get, faults: f.faults, fleet: f, requests: map[string]int{}}
	defer f.count(l)
	columns, err := delta.ParseDDL(f.columns)
	if err != nil {
		return err
	}
	now := f.now
	if f.clock != nil {
		ahead := f.clock(id)
		now = func() time.Time { return f.now().Add(ahead) }
	}
	table, err := sink.Open(ctx, l, f.cfg, sink.Options{
		Name: stream, Create: columns, Engine: "kafkadelta/test", Now: now, Log: slog.New(slog.DiscardHandler),
		Events: sink.Events{
			RaceLost: func(int64) { f.add(&f.lost, 1) },
			Carried:  func(n int) { f.add(&f.carried, n) },
		},
	})
	if err != nil {
		return err
	}
	next := map[int32]int64{} // what this process believes to own
	sleepFor(ctx, time.Duration(rnd.Int64N(int64(f.flush)+1)))
	for ctx.Err() == nil {
		if err := f.assign(ctx, table, id, next, rnd); err != nil {
			return err
		}
		begun := time.Now()
		if err := f.flushOnce(ctx, id, table, next, rnd); err != nil {
			return err
		}
		pause := time.Duration(float64(f.flush) * (0.9 + 0.2*rnd.Float64()))
		if f.crashes && rnd.IntN(20) == 0 {
			pause += time.Duration(rnd.Int64N(int64(5 * time.Second))) // frozen: it wakes as a zombie
		}
		sleepFor(ctx, pause-time.Since(begun))
	}
	return nil
}

func (f *fleet) count(l *link) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for what, n := range l.requests {
		f.requests[what] += n
	}
}

func (f *fleet) add(to *int, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*to += n
}

// assign follows the group's view, now and then late.
func (f *fleet) assign(ctx context.Context, table *sink.Table, id int, next map[int32]int64, rnd *rand.Rand) error {
	if f.crashes && rnd.IntN(4) == 0 && len(next) > 0 {
		return nil // it has not heard of it yet
	}
	var claim, release []checkpoint.Partition
	f.mu.Lock()
	for p, owner := range f.owners {
		_, have := next[p]
		switch {
		case owner == id && !have:
			claim = append(claim, partition(p))
		case owner != id && have:
			release = append(release, partition(p))
			delete(next, p)
		}
	}
	f.mu.Unlock()
	if len(release) > 0 {
		if err := table.Release(ctx, release); err != nil {
			return err
		}
	}
	return f.takeOver(ctx, table, claim, next)
}

func (f *fleet) takeOver(ctx context.Context, table *sink.Table, claim []checkpoint.Partition, next map[int32]int64) error {
	if len(claim) == 0 {
		return nil
	}
	slices.SortFunc(claim, checkpoint.Partition.Compare)
	at, err := table.Claim(ctx, claim)
	for p, position := range at {
		next[p.ID] = position.Next
	}
	return err
}

// flushOnce writes and commits one or two units, and goes on where the table says if they did not land.
func (f *fleet) flushOnce(ctx context.Context, id int, table *sink.Table, next map[int32]int64, rnd *rand.Rand) error {
	if len(next) == 0 {
		return nil
	}
	spans := make([][]checkpoint.Span, 1+rnd.IntN(2))
	for _, p := range slices.Sorted(maps.Keys(next)) {
		if len(next) > 1 && rnd.IntN(4) == 0 || int(p) >= f.partitions-f.idle {
			continue // nothing came
		}
		i := rnd.IntN(len(spans))
		spans[i] = append(spans[i], span(p, next[p], 1+rnd.Int64N(3)))
	}
	begun := time.Now()
	var units []*sink.Unit
	for _, s := range spans {
		if len(s) == 0 {
			continue
		}
		u, err := f.write(ctx, table, s)
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, errLost) {
				return err
			}
			continue // its messages are read again
		}
		units = append(units, u)
	}
	if len(units) == 0 {
		return nil
	}
	f.add(&f.flushes, 1)
	limit, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if f.crashes && rnd.IntN(10) == 0 { // a revocation that runs out of time
		limit, cancel = context.WithTimeout(ctx, time.Duration(rnd.Int64N(int64(time.Second))))
		defer cancel()
	}
	if err := table.Commit(limit, units); err != nil {
		return err
	}
	var again []checkpoint.Partition
	for _, u := range units {
		for _, s := range u.Spans {
			if u.State() == sink.Landed {
				next[s.ID] = s.Next
			} else {
				again = append(again, s.Partition)
			}
		}
		if u.State() == sink.Pending {
			table.Discard(ctx, []*sink.Unit{u})
		}
	}
	if len(again) == 0 {
		f.mu.Lock()
		f.latency = append(f.latency, time.Since(begun))
		f.landed[id]++
		f.mu.Unlock()
		return nil
	}
	if ctx.Err() != nil {
		f.mu.Lock()
		f.waiting = append(f.waiting, time.Since(begun))
		f.mu.Unlock()
		return nil
	}
	f.add(&f.dropped, 1)
	return f.takeOver(ctx, table, again, next)
}

// write makes the unit of one lane.
func (f *fleet) write(ctx context.Context, table *sink.Table, spans []checkpoint.Span) (*sink.Unit, error) {
	layout, err := table.Layout(ctx)
	if err != nil {
		return nil, err
	}
	w := table.NewWriter(layout)
	var rows int64
	for _, s := range spans {
		rows += s.Rows
	}
	rb := numbers(layout.Schema, spans[0].First, rows)
	defer rb.Release()
	if err := w.Write(ctx, rb); err != nil {
		return nil, err
	}
	return w.Finish(spans)
}

// rebalance gives partitions to other workers.
func (f *fleet) rebalance(ctx context.Context, rnd *rand.Rand) {
	for ctx.Err() == nil {
		sleepFor(ctx, time.Duration(rnd.Int64N(int64(2*time.Second))))
		f.mu.Lock()
		for range 1 + rnd.IntN(3) {
			f.owners[int32(rnd.IntN(f.partitions))] = rnd.IntN(f.workers)
		}
		f.mu.Unlock()
	}
}

// beside has strangers change the table beside the fleet.
func (f *fleet) beside(ctx context.Context, rnd *rand.Rand) {
	for n := 0; ctx.Err() == nil; n++ {
		sleepFor(ctx, time.Duration(rnd.Int64N(int64(3*time.Second))))
		lines := []string{`{"commitInfo":{"operation":"OPTIMIZE"}}`, `{"add":{"path":"stranger.parquet","partitionValues":{},"size":1,"modificationTime":1,"dataChange":false,"stats":"{\"numRecords\":0}"}}`}
		if rnd.IntN(3) == 0 {
			lines = f.described(fmt.Sprint(n))
		}
		f.stranger(ctx, lines...)
	}
}

// described is an ALTER TABLE that changes nothing of the rows.
func (f *fleet) described(description string) []string {
	meta := f.snapshot().Metadata()
	meta.Description = description
	line, err := json.Marshal(map[string]any{"metaData": meta})
	if err != nil {
		f.fail(err)
	}
	return []string{`{"commitInfo":{"operation":"ALTER TABLE"}}`, string(line)}
}

// stranger makes the next version, at once.
func (f *fleet) stranger(ctx context.Context, lines ...string) {
	for v := f.version() + 1; ctx.Err() == nil; v++ {
		if err := f.memory.PutIfAbsent(ctx, logFile(v), []byte(strings.Join(lines, "\n")+"\n")); !errors.Is(err, fs.ErrExist) {
			return
		}
	}
}

// verify reads the log, line by line, without the code under test: the spans of all versions tile each partition from 0 up to
// its txn, no unit is in two versions, every file is there, and rows are as told.
func (f *fleet) verify() {
	t := f.t
	t.Helper()
	if f.broken != nil {
		t.Fatalf("seed %d: %v", f.seed, f.broken)
	}
	type unitJSON struct {
		Unit  string
		Spans []struct {
			Partition         int32
			First, Next, Rows int64
		}
	}
	at := map[int32]int64{}
	txns := map[string]int64{}
	seen := map[string]int64{}
	versions, rows, told, named := int64(0), int64(0), int64(0), map[string]bool{}
	for v := int64(0); ; v++ {
		r, err := f.memory.Get(t.Context(), logFile(v), 0, -1)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		f.check(err)
		data, err := io.ReadAll(r)
		f.check(err)
		f.check(r.Close())
		versions++
		f.logBytes += int64(len(data))
		for line := range bytes.Lines(data) {
			var action struct {
				CommitInfo *struct {
					Kafkadelta struct{ Units []unitJSON }
				}
				Txn *struct {
					AppID   string
					Version int64
				}
				Add *struct {
					Path  string
					Stats string
				}
			}
			f.check(json.Unmarshal(line, &action))
			switch {
			case action.CommitInfo != nil:
				for _, u := range action.CommitInfo.Kafkadelta.Units {
					if before, twice := seen[u.Unit]; twice {
						t.Errorf("seed %d: unit %s is in the versions %d and %d", f.seed, u.Unit, before, v)
					}
					seen[u.Unit] = v
					for _, s := range u.Spans {
						if s.First != at[s.Partition] {
							t.Errorf("seed %d: version %d has offsets [%d, %d) of partition %d, where the table stands at %d", f.seed, v, s.First, s.Next, s.Partition, at[s.Partition])
						}
						at[s.Partition] = s.Next
						told += s.Rows
						if s.First == s.Next {
							f.empty++
						}
					}
				}
			case action.Txn != nil:
				txns[action.Txn.AppID] = action.Txn.Version
			case action.Add != nil && action.Add.Path != "stranger.parquet":
				if named[action.Add.Path] {
					t.Errorf("seed %d: version %d adds %s again", f.seed, v, action.Add.Path)
				}
				named[action.Add.Path] = true
				if r, err := f.memory.Get(t.Context(), action.Add.Path, 0, 1); err != nil {
					t.Errorf("seed %d: version %d names %s: %v", f.seed, v, action.Add.Path, err)
				} else {
					f.check(r.Close())
				}
				var stats struct{ NumRecords int64 }
				f.check(json.Unmarshal([]byte(action.Add.Stats), &stats))
				rows += stats.NumRecords
			}
		}
	}
	for p := range int32(f.partitions) {
		if txn := txns[checkpoint.AppID(stream, p)]; txn != at[p]-1 {
			t.Errorf("seed %d: the txn of partition %d is %d, its spans end at %d", f.seed, p, txn, at[p])
		}
	}
	if rows != told || rows == 0 {
		t.Errorf("seed %d: the files hold %d rows, the spans tell %d", f.seed, rows, told)
	}
	f.versions = versions
	for unit, at := range f.proposed {
		if v, ok := seen[unit]; ok {
			f.passed = max(f.passed, v-at-1)
		}
	}
	slices.Sort(f.latency)
}

var (
	fleetSeeds = flag.Int("fleet-seeds", 25, "seeds of TestFleet")
	fleetSeed  = flag.Uint64("fleet-seed", 0, "the first seed of TestFleet")
)

// TestFleet lets workers crash, freeze, take partitions from each other and lose answers, beside strangers. Whatever happens,
// the spans tile (rules C1 to C8, P1 to P5). A failing seed is repeated by -fleet-seed N -fleet-seeds 1.
func TestFleet(t *testing.T) {
	carried, dropped := 0, 0
	for seed := *fleetSeed; seed < *fleetSeed+uint64(*fleetSeeds); seed++ {
		f := runFleet(t, fleetOptions{
			seed: seed, workers: 2 + int(seed%7), partitions: 12, flush: 300 * time.Millisecond, life: 15 * time.Second,
			put: 60 * time.Millisecond, get: 40 * time.Millisecond, faults: 0.03, crashes: true, strangers: seed%2 == 0,
		})
		carried, dropped = carried+f.carried, dropped+f.dropped
		t.Logf("seed %d: %s", seed, f.row(""))
		if t.Failed() {
			return
		}
	}
	if carried == 0 || dropped == 0 {
		t.Errorf("%d proposals were carried and %d flushes dropped: the test shows nothing", carried, dropped)
	}
}
