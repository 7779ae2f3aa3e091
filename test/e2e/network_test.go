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
	"sync/atomic"
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
	"kafkadelta/internal/savetest"
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
		report := fmt.Sprintf("%s: %d runs with broken connections in %v: each offset is in its table once, by delta-rs\n%s",
			t.Name(), *faultRuns, time.Since(begun).Round(time.Second), total)
		t.Log(report)
		for _, kind := range faultKinds {
			if total.counts[requestsUnder(kind.name)] == 0 || kind.breaks && total.counts[noAnswerUnder(kind.name)] == 0 {
				t.Errorf("no request met the fault %q", kind.name)
			}
		}
		for _, met := range []string{"own puts asked about", "races lost", "commits"} {
			if total.counts[met] == 0 {
				t.Errorf("%s: none, so that nothing is proved", met)
			}
		}
		savetest.Result(t, *results, report)
	})
}

// toxic is one of Toxiproxy's, with attributes drawn anew each time.
type toxic struct {
	kind, stream string
	attributes   func(r *rand.Rand) map[string]any
}

func upTo(attribute string, least, most int) func(*rand.Rand) map[string]any {
	return func(r *rand.Rand) map[string]any { return map[string]any{attribute: least + r.IntN(most-least+1)} }
}

// faultKinds are what happens to connections. Who keeps connections notices a slow close only where something else was to come: so
// the server hangs up on a request that stops somewhere, and the client learns of it late. There is one toxic at most for each
// direction, since Toxiproxy's bookkeeping of two breaks when connections do.
var faultKinds = []struct {
	name   string
	toxics []toxic
	breaks bool // requests get no answer
}{
	{"latency", []toxic{{"latency", "downstream", func(r *rand.Rand) map[string]any {
		return map[string]any{"latency": 10 + r.IntN(150), "jitter": r.IntN(50)}
	}}}, false},
	{"answer cut off whole", []toxic{{"limit_data", "downstream", upTo("bytes", 0, 0)}}, true},
	{"answer cut in the middle", []toxic{{"limit_data", "downstream", upTo("bytes", 1, 2000)}}, true},
	{"request cut in the middle", []toxic{{"limit_data", "upstream", upTo("bytes", 1, 6000)}}, true},
	{"reset", []toxic{{"reset_peer", "downstream", upTo("timeout", 0, 30)}}, true},
	{"nothing passes, then closed", []toxic{{"timeout", "upstream", upTo("timeout", 20, 220)}}, true},
	{"slow close", []toxic{{"slow_close", "downstream", upTo("delay", 50, 550)}, {"limit_data", "upstream", upTo("bytes", 1, 3000)}}, true},
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

// String has a line for each fault, and one for what the writers met.
func (l *tally) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	counts := maps.Clone(l.counts)
	var text strings.Builder
	for _, kind := range faultKinds {
		fmt.Fprintf(&text, "  %-28s%5d requests, %5d of them without answer\n", kind.name, counts[requestsUnder(kind.name)], counts[noAnswerUnder(kind.name)])
		delete(counts, requestsUnder(kind.name))
		delete(counts, noAnswerUnder(kind.name))
	}
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", what, counts[what]))
	}
	fmt.Fprintf(&text, "  %s\n", strings.Join(parts, ", "))
	return text.String()
}

func requestsUnder(kind string) string { return "requests under " + kind }
func noAnswerUnder(kind string) string { return "no answer under " + kind }

// faultRun is one table, two writers of one stream, and a proxy between them and the server.
type faultRun struct {
	t     *testing.T
	cloud cloud
	seed  uint64
	proxy *toxiproxy.Proxy
	fault atomic.Value // name of the kind that is on, "" in calm
	*tally
}

func (r *faultRun) table() string { return fmt.Sprintf("%s/faults/%d", r.cloud.root, r.seed) }

func (r *faultRun) run() {
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Minute) // seconds, but on a busy machine
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
	proxy, err := newProxy(upstream)
	if err != nil {
		t.Fatal(err)
	}
	return proxy
}

func newProxy(upstream string) (*toxiproxy.Proxy, error) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, upstream, "127.0.0.1:0", upstream)
	if err := proxy.Start(); err != nil {
		return nil, fmt.Errorf("starting Toxiproxy before %s: %w", upstream, err)
	}
	return proxy, nil
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
		r.fault.Store(kind.name)
		for _, x := range kind.toxics {
			if err := x.poison(r.proxy, x.attributes(random)); err != nil {
				r.t.Errorf("run %d: %s: %v", r.seed, kind.name, err)
				return
			}
		}
		wait(time.Duration(20+random.IntN(250)) * time.Millisecond)
		for _, x := range kind.toxics {
			if err := r.proxy.Toxics.RemoveToxic(context.Background(), x.kind); err != nil {
				r.t.Errorf("run %d: %v", r.seed, err)
				return
			}
		}
		r.fault.Store("")
	}
}

func (x toxic) poison(proxy *toxiproxy.Proxy, attributes map[string]any) error {
	text, err := json.Marshal(map[string]any{"name": x.kind, "type": x.kind, "stream": x.stream, "toxicity": 1, "attributes": attributes})
	if err == nil {
		_, err = proxy.Toxics.AddToxicJson(bytes.NewReader(text))
	}
	return err
}

// observe counts the requests by the fault in which they ended.
func (r *faultRun) observe(operation, outcome string) {
	kind, _ := r.fault.Load().(string)
	if kind != "" {
		r.add(requestsUnder(kind))
	}
	switch {
	case outcome == "no_answer" && kind != "":
		r.add(noAnswerUnder(kind))
	case outcome == "no_answer":
		r.add("no answer after a fault was over")
	case operation == "head" && outcome == "ok":
		r.add("own puts asked about")
	}
}

// write is one writer: it takes its own partition, and now and then the other's, as after a rebalance that the other does not
// know of yet. It ends when the table holds all.
func (r *faultRun) write(ctx context.Context, own int32) error {
	random := rand.New(rand.NewPCG(r.seed, 2+uint64(own)))
	options := r.cloud.through(r.proxy.Listen)
	options.Observe = r.observe
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
			at = claimed[id].Next
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
