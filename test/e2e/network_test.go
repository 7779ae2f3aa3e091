package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/storage/open"
)

const (
	faultPartitions = 2
	faultOffsets    = 60 // of each partition, in a run
	faultsAtATime   = 6  // runs beside each other
)

// TestNetworkFaults breaks the connections between the store's SDK and its server while two writers commit to one table and
// take each other's partitions over: in the end each offset of each partition is in the table once. A run's faults follow
// from its seed, as far as the machine's timing lets them. CI runs 20 for each server; by hand, with the numbers of results/clouds.txt:
//
//	go test ./test/e2e -run TestNetworkFaults -v -fault-runs 200 -results results/clouds.txt -timeout 2h
func TestNetworkFaults(t *testing.T) {
	onClouds(t, func(t *testing.T, c cloud) {
		total := newTally()
		begun := time.Now()
		var wg sync.WaitGroup
		seeds := make(chan uint64)
		for range faultsAtATime {
			wg.Go(func() {
				for seed := range seeds {
					(&faultRun{t: t, cloud: c, seed: seed, tally: total}).run()
				}
			})
		}
		for seed := range uint64(*faultRuns) {
			seeds <- seed
		}
		close(seeds)
		wg.Wait()
		if t.Failed() {
			return
		}
		wantFaultRows(t, c, *faultRuns)
		report := fmt.Sprintf("%s: %d runs with broken connections in %v: each offset is in its table once, by delta-rs\n  %s\n",
			t.Name(), *faultRuns, time.Since(begun).Round(time.Second), total)
		t.Log(report)
		for _, kind := range faultKinds {
			if total.counts["fault "+kind.name] == 0 {
				t.Errorf("no run met the fault %q", kind.name)
			}
		}
		for _, met := range []string{"requests without answer", "own puts asked about", "races lost", "commits"} {
			if total.counts[met] == 0 {
				t.Errorf("%s: none, so that nothing is proved", met)
			}
		}
		if *results != "" && !t.Failed() {
			writeResult(t, report)
		}
	})
}

// faultKinds are Toxiproxy's toxics, with attributes drawn anew each time.
var faultKinds = []struct {
	name, toxic, stream string
	attributes          func(r *rand.Rand) map[string]any
}{
	{"latency", "latency", "downstream", func(r *rand.Rand) map[string]any {
		return map[string]any{"latency": 10 + r.IntN(150), "jitter": r.IntN(50)}
	}},
	{"answer cut off whole", "limit_data", "downstream", func(*rand.Rand) map[string]any { return map[string]any{"bytes": 0} }},
	{"answer cut in the middle", "limit_data", "downstream", func(r *rand.Rand) map[string]any {
		return map[string]any{"bytes": 1 + r.IntN(2000)}
	}},
	{"request cut in the middle", "limit_data", "upstream", func(r *rand.Rand) map[string]any {
		return map[string]any{"bytes": 1 + r.IntN(6000)}
	}},
	{"reset", "reset_peer", "downstream", func(r *rand.Rand) map[string]any { return map[string]any{"timeout": r.IntN(30)} }},
	{"nothing passes, then closed", "timeout", "upstream", func(r *rand.Rand) map[string]any {
		return map[string]any{"timeout": 20 + r.IntN(200)}
	}},
	{"slow close", "slow_close", "downstream", func(r *rand.Rand) map[string]any { return map[string]any{"delay": 50 + r.IntN(500)} }},
}

// tally counts what runs met.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
}

func newTally() *tally { return &tally{counts: map[string]int{}} }

func (l *tally) add(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[what]++
}

func (l *tally) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(l.counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", what, l.counts[what]))
	}
	return strings.Join(parts, ", ")
}

// faultRun is one table, two writers of one stream, and a proxy between them and the server.
type faultRun struct {
	t     *testing.T
	cloud cloud
	seed  uint64
	proxy *toxiproxy.Proxy
	*tally
}

func (r *faultRun) table() string { return fmt.Sprintf("%s/faults/%d", r.cloud.root, r.seed) }

func (r *faultRun) run() {
	ctx, cancel := context.WithTimeout(r.t.Context(), 3*time.Minute)
	defer cancel()
	r.proxy = startProxy(r.t, r.cloud.address)
	defer r.proxy.Stop()
	var writers, weather sync.WaitGroup
	for w := range faultPartitions {
		writers.Go(func() {
			if err := r.write(ctx, int32(w)); err != nil {
				r.t.Errorf("run %d, writer %d: %v", r.seed, w, err)
				cancel()
			}
		})
	}
	done := make(chan struct{})
	weather.Go(func() { r.storm(done) })
	writers.Wait()
	close(done)
	weather.Wait()
	log := readLog(r.t, r.table(), "faults")
	for p := range int32(faultPartitions) {
		if log.next[p] != faultOffsets {
			r.t.Errorf("run %d: the log ends at offset %d of partition %d, want %d", r.seed, log.next[p], p, faultOffsets)
		}
	}
	if log.rows != faultPartitions*faultOffsets {
		r.t.Errorf("run %d: the log tells %d rows, want %d", r.seed, log.rows, faultPartitions*faultOffsets)
	}
}

func startProxy(t testing.TB, upstream string) *toxiproxy.Proxy {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, "store", "127.0.0.1:0", upstream)
	if err := proxy.Start(); err != nil {
		t.Fatalf("starting Toxiproxy: %v", err)
	}
	return proxy
}

// storm sends one fault after the other, with calm between them, until the writers are done.
func (r *faultRun) storm(done <-chan struct{}) {
	random := rand.New(rand.NewPCG(r.seed, 1))
	wait := func(d time.Duration) bool {
		select {
		case <-done:
			return false
		case <-time.After(d):
			return true
		}
	}
	for wait(time.Duration(random.IntN(150)) * time.Millisecond) {
		kind := faultKinds[random.IntN(len(faultKinds))]
		toxic, err := json.Marshal(map[string]any{
			"name": "fault", "type": kind.toxic, "stream": kind.stream, "toxicity": 1, "attributes": kind.attributes(random),
		})
		if err == nil {
			_, err = r.proxy.Toxics.AddToxicJson(bytes.NewReader(toxic))
		}
		if err != nil {
			r.t.Errorf("run %d: %s: %v", r.seed, kind.name, err)
			return
		}
		r.add("fault " + kind.name)
		wait(time.Duration(20+random.IntN(250)) * time.Millisecond)
		if err := r.proxy.Toxics.RemoveToxic(context.Background(), "fault"); err != nil {
			r.t.Errorf("run %d: %v", r.seed, err)
			return
		}
	}
}

// write is one writer: it takes its own partition, and now and then the other's, as after a rebalance that the other does not
// know of yet. It ends when the table holds all.
func (r *faultRun) write(ctx context.Context, own int32) error {
	random := rand.New(rand.NewPCG(r.seed, 2+uint64(own)))
	options := r.cloud.through(r.proxy.Listen)
	options.Observe = func(operation, outcome string) {
		switch {
		case outcome == "no_answer":
			r.add("requests without answer")
		case operation == "head" && outcome == "ok":
			r.add("own puts asked about")
		}
	}
	store, err := open.Open(ctx, r.table(), options)
	if err != nil {
		return err
	}
	cfg := sink.DefaultConfig()
	cfg.URI = r.table()
	table, err := sink.Open(ctx, store, cfg, sink.Options{
		Name: "faults", Create: faultSchema, Engine: "kafkadelta/test", Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Events: sink.Events{RaceLost: func(int64) { r.add("races lost") }, Retry: func(string, error, time.Duration) { r.add("waits of the sink") }},
	})
	if err != nil {
		return err
	}
	if err := table.Pin(ctx, faultPin); err != nil {
		return err
	}
	next := map[int32]int64{} // what is claimed
	for {
		p := own
		if random.IntN(5) == 0 || next[own] == faultOffsets {
			p = (own + 1) % faultPartitions
		}
		at, ok := next[p]
		if !ok {
			id := partition(p)
			claimed, err := table.Claim(ctx, []checkpoint.Partition{id})
			if err != nil {
				return err
			}
			at = claimed[id]
			next[p] = at
		}
		if at == faultOffsets {
			if next[0] == faultOffsets && next[1] == faultOffsets {
				return nil
			}
			continue
		}
		end := min(at+1+random.Int64N(8), faultOffsets)
		landed, err := r.commit(ctx, table, p, at, end)
		if err != nil {
			return err
		}
		if landed {
			next[p] = end
			r.add("commits")
		} else {
			delete(next, p)
			r.add("units dropped")
		}
	}
}

// commit writes the offsets [from, to) of a partition into a file and commits it. A file that cannot be written is given up, as
// the pipeline does.
func (r *faultRun) commit(ctx context.Context, table *sink.Table, p int32, from, to int64) (landed bool, err error) {
	layout, err := table.Layout(ctx)
	if err != nil {
		return false, err
	}
	rb := faultRows(r.seed, p, from, to)
	defer rb.Release()
	w := table.NewWriter(layout)
	if err := w.Write(ctx, rb); err != nil {
		w.Abort(ctx)
		return false, ctx.Err()
	}
	n := to - from
	unit, err := w.Finish([]checkpoint.Span{{Partition: partition(p), First: from, Next: to, Records: n, Rows: n}})
	if err != nil {
		w.Abort(ctx)
		r.add("files given up")
		return false, ctx.Err()
	}
	if err := table.Commit(ctx, []*sink.Unit{unit}); err != nil {
		return false, err
	}
	return unit.State() == sink.Landed, ctx.Err()
}

var faultSchema = func() *arrow.Schema {
	schema, err := delta.ParseDDL("run BIGINT, p INT, o BIGINT")
	if err != nil {
		panic(err)
	}
	return schema
}()

func partition(id int32) checkpoint.Partition { return checkpoint.Partition{Topic: "faults", ID: id} }

var faultPin = sink.PinRequest{
	Topic: "faults", Identity: checkpoint.Identity{ClusterID: "cluster", TopicID: "topic"}, Partitions: faultPartitions,
	Reported: func(context.Context) (map[int32]int64, error) { return nil, nil },
	Starts: func(context.Context, bool) (map[int32]int64, error) {
		return map[int32]int64{0: 0, 1: 0}, nil
	},
}

func faultRows(run uint64, p int32, from, to int64) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, faultSchema)
	defer b.Release()
	for o := from; o < to; o++ {
		b.Field(0).(*array.Int64Builder).Append(int64(run))
		b.Field(1).(*array.Int32Builder).Append(p)
		b.Field(2).(*array.Int64Builder).Append(o)
	}
	return b.NewRecordBatch()
}

// wantFaultRows has delta-rs read the tables of all runs.
func wantFaultRows(t *testing.T, c cloud, runs int) {
	t.Helper()
	args := []string{"-B", filepath.Join("readers", "plainrows.py")}
	for seed := range runs {
		args = append(args, (&faultRun{cloud: c, seed: uint64(seed)}).table())
	}
	cmd := exec.Command(python(t), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	type row struct{ Run, P, O int }
	found := map[row]int{}
	for line := range strings.Lines(string(out)) {
		var at row
		if err := json.Unmarshal([]byte(line), &at); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		found[at]++
	}
	for run := range runs {
		for p := range faultPartitions {
			for o := range faultOffsets {
				if n := found[row{run, p, o}]; n != 1 {
					t.Errorf("run %d: offset %d of partition %d is in the table %d times", run, o, p, n)
				}
				delete(found, row{run, p, o})
			}
		}
	}
	if len(found) > 0 {
		t.Errorf("%d rows are no message", len(found))
	}
}
