//go:build unix

package e2e

import (
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"

	"kafkadelta/internal/savetest"
)

var (
	chaosRounds = flag.Int("chaos-rounds", 8, "rounds that TestChaos makes on each store; with 6 each kind of fault is dealt once")
	chaosSeed   = flag.Uint64("chaos-seed", 0, "seed of TestChaos; 0: of the clock")
)

const (
	chaosPartitions = 12
	chaosPerSecond  = 100
	chaosSession    = time.Second // as shortTimeouts has it
	faultsARound    = 3           // beside each other
	moreRounds      = 4           // at most, for kinds that nobody has met: cards may lie badly, such as a broker that restarts while connections to it are cut
	roundsATable    = 10          // then a new topic and table, so that what is verified after each round stays small
)

// Kinds of faults. What counts is not that one was sent but that it was met, by what a worker says afterwards.
const (
	killed9   = "kill -9 of a worker that had committed"
	zombie    = "frozen for longer than the session, woke as a zombie"
	joined    = "joins"
	left      = "leaves"
	restarted = "broker restarts"
	kafkaCut  = "Kafka's connections cut"
	storeCut  = "the store's connections cut"
)

// chaosDeck is what faults are dealt from, shuffled.
var chaosDeck = []string{
	killed9, killed9, killed9, zombie, zombie, zombie, joined, joined, joined, left, left, left, kafkaCut, kafkaCut, storeCut, storeCut, storeCut,
	restarted, // takes as long as all others together
}

// TestChaos lets 1 to 6 workers of one stream run while a producer keeps producing to a real broker, and deals faults to them, some
// at a time: kill -9, SIGSTOP for longer than the session timeout, workers that join and leave, a broker that restarts,
// connections to Kafka and to the store that are cut. After each round, when the table has caught up, it is verified by `verify`,
// compared with Kafka, and by a script over delta-rs; in the end each message is in the table once. The faults follow from the
// seed, their timing from the machine. By hand, with the numbers of results/chaos.txt:
//
//	go test ./test/e2e -run TestChaos -v -chaos-rounds 100 -results results/chaos.txt -timeout 5h
func TestChaos(t *testing.T) {
	kafka := realKafka(t)
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1e9
	}
	t.Logf("-chaos-seed %d", seed)
	t.Run("local disk", func(t *testing.T) { chaosOn(t, kafka, cloud{root: t.TempDir()}, seed) })
	onClouds(t, func(t *testing.T, c cloud) { chaosOn(t, kafka, c, seed) }, "azurite", "versitygw")
}

func chaosOn(t *testing.T, kafka *broker, c cloud, seed uint64) {
	total, begun := newTally(), time.Now()
	random := rand.New(rand.NewPCG(seed, uint64(len(t.Name()))))
	kinds := []string{killed9, zombie, joined, left, restarted, kafkaCut}
	if c.address != "" {
		kinds = append(kinds, storeCut)
	}
	missing := func() []string {
		total.mu.Lock()
		defer total.mu.Unlock()
		return slices.DeleteFunc(slices.Clone(kinds), func(kind string) bool { return total.counts[kind] > 0 })
	}
	done := 0
	for !t.Failed() && (done < *chaosRounds || done < *chaosRounds+moreRounds && len(missing()) > 0) {
		rounds := min(roundsATable, max(*chaosRounds-done, 1))
		w := newWorld(t, kafka, c, random, total, done)
		if done >= *chaosRounds {
			w.deck = missing()
		}
		for round := range rounds {
			w.round(done + round)
			if t.Failed() {
				t.Logf("-chaos-seed %d", seed)
				return
			}
		}
		w.end()
		done += rounds
	}
	for _, kind := range missing() {
		t.Errorf("%s: none, so that nothing is proved; -chaos-seed %d", kind, seed)
	}
	var report strings.Builder
	fmt.Fprintf(&report, "%s: %d rounds in %v, seed %d: after each the table was whole by verify and by verify.py, in the end each message was in it once, by delta-rs\n",
		t.Name(), done, time.Since(begun).Round(time.Second), seed)
	for _, what := range slices.Sorted(maps.Keys(total.counts)) {
		fmt.Fprintf(&report, "  %7d %s\n", total.counts[what], what)
	}
	t.Log(report.String())
	savetest.Result(t, *results, report.String())
}

// world is one topic with its load, one table, and the workers between them.
type world struct {
	t      *testing.T
	kafka  *broker
	stream stream
	load   *load
	random *rand.Rand
	seats  []*seat
	deck   []string
	*tally
}

// seat is where a worker sits: with a connection to the store of its own, and every other one behind the frail way to the broker.
type seat struct {
	*world
	number int
	config string
	env    []string
	store  *toxiproxy.Proxy // nil on a disk
	frail  bool

	process *process // nil while nobody sits here; owned by the fault that was dealt to the seat, and between rounds by the world
	commits atomic.Int64
	lost    atomic.Int64           // partitions that the group had given away
	unheard atomic.Int64           // warnings that Kafka does not answer
	metrics atomic.Pointer[string] // address
	aim     atomic.Pointer[func()] // to be done when a commit is put
}

func newWorld(t *testing.T, kafka *broker, c cloud, random *rand.Rand, total *tally, n int) *world {
	t.Helper()
	h := fnv.New32()
	_, _ = h.Write([]byte(t.Name()))
	topic := fmt.Sprintf("chaos-%x-%d-%d", h.Sum32(), n, time.Now().UnixMilli()) // a test may run more than once
	createTopic(t, kafka.brokers(), topic, chaosPartitions)
	table, interval := fmt.Sprintf("%s/chaos-%d", c.root, n), time.Second // whose versions are read again after each round
	if c.address == "" {
		table, interval = filepath.Join(c.root, fmt.Sprintf("chaos-%d", n)), 250*time.Millisecond
	}
	w := &world{
		t: t, kafka: kafka, random: random, tally: total,
		stream: stream{
			name: topic, topic: topic, brokers: kafka.brokers(), table: table, schema: numberSchema,
			interval: interval, listen: "127.0.0.1:0", source: shortTimeouts,
		},
	}
	for i := range 6 {
		s := &seat{world: w, number: i, frail: i%2 == 1}
		if c.address != "" {
			s.store = startProxy(t, c.address)
			t.Cleanup(s.store.Stop)
			s.env = c.environment(s.store.Listen)
		}
		of := w.stream
		if s.frail {
			of.brokers = []string{kafka.endpoints[frailListener]}
		}
		s.config = of.write(t)
		w.seats = append(w.seats, s)
	}
	w.load = startLoad(t, kafka.brokers(), topic, chaosPartitions, chaosPerSecond, number)
	for i := range 3 {
		w.seats[i].start()
	}
	w.calm("the start")
	return w
}

// taken are the seats with a worker that no fault of this round was dealt to; empty ones are those without.
func (w *world) taken(busy map[*seat]bool) (taken, empty []*seat) {
	for _, i := range w.random.Perm(len(w.seats)) {
		switch s := w.seats[i]; {
		case busy[s]:
		case s.process == nil:
			empty = append(empty, s)
		default:
			taken = append(taken, s)
		}
	}
	return taken, empty
}

// round deals some faults, waits until they are over and the table has caught up, and verifies it.
func (w *world) round(n int) {
	w.t.Helper()
	begun := time.Now()
	var wait sync.WaitGroup
	var names []string
	busy := map[*seat]bool{}
	for len(names) < faultsARound {
		if len(w.deck) == 0 {
			w.deck = slices.DeleteFunc(slices.Clone(chaosDeck), func(kind string) bool { return kind == storeCut && w.seats[0].store == nil })
			w.random.Shuffle(len(w.deck), func(i, j int) { w.deck[i], w.deck[j] = w.deck[j], w.deck[i] })
		}
		kind := w.deck[0]
		w.deck = w.deck[1:]
		delay := time.Duration(w.random.IntN(1500)) * time.Millisecond
		names = append(names, kind)
		if slices.Contains(names[:len(names)-1], kind) && (kind == restarted || kind == kafkaCut) {
			continue // there is one broker
		}
		if do := w.plan(kind, busy); do != nil {
			wait.Go(func() { time.Sleep(delay); do() })
		}
	}
	wait.Wait()
	stormy := time.Since(begun)
	w.calm(fmt.Sprintf("round %d", n))
	caught := time.Since(begun)
	if w.t.Failed() {
		return
	}
	workers := 0
	for _, s := range w.seats {
		if s.process != nil {
			workers++
		}
	}
	wantVerified(w.t, w.seats[0].config, w.stream.table)
	w.add(fmt.Sprintf("rounds that ended with %d workers", workers))
	w.t.Logf("round %d: %s; %d workers; faults over after %v, caught up after %v, verified after %v", n, strings.Join(names, ", "), workers,
		stormy.Round(time.Millisecond), caught.Round(time.Millisecond), time.Since(begun).Round(time.Millisecond))
}

// plan chooses whom a fault meets, and how; all that is random is drawn here. It returns nil where there is nobody.
func (w *world) plan(kind string, busy map[*seat]bool) func() {
	taken, empty := w.taken(busy)
	take := func(from []*seat, most int) []*seat {
		chosen := from[:min(len(from), 1+w.random.IntN(most))]
		for _, s := range chosen {
			busy[s] = true
		}
		return chosen
	}
	aimed := w.random.IntN(2) == 0
	long := chaosSession + time.Duration(700+w.random.IntN(1500))*time.Millisecond
	switch {
	case kind == restarted:
		signal := []string{"9", "TERM"}[w.random.IntN(2)]
		return func() { w.restart(signal) }
	case kind == kafkaCut:
		x := toxic{"timeout", "upstream", upTo("timeout", 0, 0)} // nothing passes any more
		if w.random.IntN(3) == 0 {
			x = toxic{"reset_peer", "downstream", upTo("timeout", 0, 30)}
		}
		attributes := x.attributes(w.random)
		return func() { w.cutKafka(x, attributes, long) }
	case kind == joined && len(empty) > 0:
		return each(take(empty, 3), func(s *seat) { s.start(); s.add(joined) })
	case kind == left && len(taken) > 1:
		return each(take(taken[1:], 3), (*seat).leave)
	case kind == killed9 && len(taken) > 0:
		pause := time.Duration(w.random.IntN(500)) * time.Millisecond
		return each(take(taken, 1), func(s *seat) { s.kill(aimed, pause) })
	case kind == zombie && len(taken) > 0:
		return each(take(taken, 1), func(s *seat) { s.freeze(aimed, long) })
	case kind == storeCut && len(taken) > 0 && taken[0].store != nil:
		x := faultKinds[1+w.random.IntN(len(faultKinds)-1)]
		attributes := x.toxics[0].attributes(w.random)
		return each(take(taken, 1), func(s *seat) { s.cutStore(x.toxics[0], attributes, long) })
	}
	return nil
}

func each(seats []*seat, do func(*seat)) func() {
	return func() {
		var wait sync.WaitGroup
		for _, s := range seats {
			wait.Go(func() { do(s) })
		}
		wait.Wait()
	}
}

func (s *seat) start() {
	s.commits.Store(0)
	s.process = startWith(s.t, s.env, s.watch, runArgs(s.config)...)
}

// watch reads the worker's log along.
func (s *seat) watch(l logLine) {
	msg := l.msg()
	switch {
	case msg == "flush committed":
		s.commits.Add(1)
	case msg == begins[inCommit]:
		if do := s.aim.Swap(nil); do != nil {
			(*do)()
		}
	case strings.HasPrefix(msg, "serving /metrics"):
		address, _ := l.fields["address"].(string)
		s.metrics.Store(&address)
	case strings.HasPrefix(msg, "partitions are lost"):
		s.lost.Add(1)
	case strings.HasPrefix(msg, "Kafka does not answer"):
		s.unheard.Add(1)
	case strings.HasPrefix(msg, "another writer has moved"):
		s.add("units fenced by another worker's commit")
	case strings.HasPrefix(msg, "a flush is dropped"):
		s.add("flushes dropped")
	case strings.HasPrefix(msg, "partitions must be given away"):
		s.add("revocations that ran out of time")
	}
}

// strike does something to the worker: at once, or aimed, when it next puts a commit; it tells whether it has hit one.
func (s *seat) strike(aimed bool, do func()) (hit bool) {
	if !aimed {
		do()
		return false
	}
	done := make(chan struct{})
	both := func() { do(); close(done) }
	s.aim.Store(&both)
	select {
	case <-done:
		return true
	case <-time.After(2 * time.Second):
	}
	if s.aim.Swap(nil) != nil {
		do()
		return false
	}
	<-done
	return true
}

func (s *seat) kill(aimed bool, pause time.Duration) {
	hit := s.strike(aimed, s.process.kill)
	if !s.ended(killedCode) {
		return
	}
	switch {
	case s.commits.Load() == 0:
		s.add("kill -9 of a worker that had committed nothing yet")
	case hit:
		s.add(killed9)
		s.add("of them while it put a commit")
	default:
		s.add(killed9)
	}
	time.Sleep(pause)
	s.start()
}

func (s *seat) freeze(aimed bool, long time.Duration) {
	p := s.process
	hit := s.strike(aimed, func() { _ = p.cmd.Process.Signal(syscall.SIGSTOP) })
	before := s.lost.Load()
	time.Sleep(long)
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		s.t.Errorf("worker %d: %v", s.number, err)
		return
	}
	for end := time.Now().Add(5 * time.Second); s.lost.Load() == before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			s.add("frozen, and woke without having lost anything")
			return
		}
	}
	s.add(zombie)
	if hit {
		s.add("zombies that were frozen while they put a commit")
	}
}

func (s *seat) leave() {
	for deadline := time.Now().Add(time.Minute); !s.process.begun() && time.Now().Before(deadline); { // before, a signal just ends it
		time.Sleep(20 * time.Millisecond)
	}
	if err := s.process.cmd.Process.Signal(stopSignal); err != nil {
		s.t.Errorf("worker %d: %v", s.number, err)
		return
	}
	if s.ended(exitOK, exitInterrupted) { // interrupted: what was fenced while it stopped is for others
		s.process = nil
		s.add(left)
	}
}

// ended waits for the end of the worker's process.
func (s *seat) ended(codes ...int) bool {
	select {
	case <-s.process.done:
	case <-time.After(time.Minute):
		s.t.Errorf("worker %d still runs:\n%s", s.number, s.process.tail(30))
		return false
	}
	if got := s.process.code(); !slices.Contains(codes, got) {
		s.t.Errorf("worker %d ended with %d, expected %v:\n%s", s.number, got, codes, s.process.tail(30))
		return false
	}
	return true
}

func (w *world) restart(signal string) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 4*time.Minute) // on a busy machine a start takes more than one
	defer cancel()
	begun := time.Now()
	if err := w.kafka.restart(ctx, signal); err != nil {
		w.t.Errorf("restarting the broker: %v", err)
		return
	}
	w.t.Logf("the broker was ended by SIG%s and answered again after %v", signal, time.Since(begun).Round(time.Millisecond))
	w.add(restarted)
}

// cutKafka cuts off the workers behind the frail way, while the others go on and take their partitions over.
func (w *world) cutKafka(x toxic, attributes map[string]any, long time.Duration) {
	met := func() (n int64) {
		for _, s := range w.seats {
			if s.frail {
				n += s.lost.Load() + s.unheard.Load()
			}
		}
		return n
	}
	before := met()
	if w.storm(w.kafka.frail, x, attributes, long) {
		time.Sleep(300 * time.Millisecond)
		if met() > before {
			w.add(kafkaCut)
		}
	}
}

func (s *seat) cutStore(x toxic, attributes map[string]any, long time.Duration) {
	address := s.metrics.Load()
	if address == nil { // starting
		return
	}
	before := metricSum(s.t, *address, `outcome="no_answer"`)
	if s.storm(s.store, x, attributes, long) {
		time.Sleep(300 * time.Millisecond)
		if metricSum(s.t, *address, `outcome="no_answer"`) > before {
			s.add(storeCut)
		}
	}
}

func (w *world) storm(proxy *toxiproxy.Proxy, x toxic, attributes map[string]any, long time.Duration) bool {
	if err := x.poison(proxy, attributes); err != nil {
		w.t.Errorf("%s: %v", x.kind, err)
		return false
	}
	time.Sleep(long)
	if err := proxy.Toxics.RemoveToxic(context.Background(), x.kind); err != nil {
		w.t.Errorf("%s: %v", x.kind, err)
		return false
	}
	return true
}

// calm waits until the group has reported every message that is in the topic now, which it does once the table holds them.
func (w *world) calm(after string) {
	w.t.Helper()
	want := w.load.next()
	client := admin(w.t, w.kafka.brokers())
	for end := time.Now().Add(90 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		for _, s := range w.seats {
			if s.process == nil {
				continue
			}
			select {
			case <-s.process.done:
				// Docker's proxy takes connections to a broker that is down. A worker that meets nothing else for 20 s after its start
				// takes it for a wrong port and gives up, and whoever looks after it starts it again.
				if s.process.code() != exitSource || !strings.Contains(s.process.tail(1), "close every connection") {
					w.t.Fatalf("%s: worker %d has ended with %d:\n%s", after, s.number, s.process.code(), s.process.tail(30))
				}
				w.add("workers that gave up while the broker was down for more than 20 s after their start, and were started again")
				s.start()
			default:
			}
		}
		offsets, err := client.FetchOffsets(w.t.Context(), w.stream.name)
		behind := 0
		for p, next := range want {
			if o, ok := offsets.Lookup(w.stream.topic, p); next > 0 && (!ok || o.At < next) {
				behind++
			}
		}
		if err == nil && behind == 0 {
			return
		}
		if time.Now().After(end) {
			for _, s := range w.seats {
				if s.process != nil {
					w.t.Logf("worker %d:\n%s", s.number, s.process.tail(15))
				}
			}
			w.t.Fatalf("%s: the table has not caught up: %d of %d partitions are behind (%v)", after, behind, len(want), err)
		}
	}
}

// end lets the workers catch up and stop, and compares every message with its row.
func (w *world) end() {
	w.t.Helper()
	sent := w.load.stop()
	w.calm("the end")
	for _, s := range w.seats {
		if s.process != nil {
			s.process.signal(stopSignal)
		}
	}
	for _, s := range w.seats {
		if s.process != nil {
			s.ended(exitOK)
			w.add("workers that ran to the end")
		}
	}
	log := readLog(w.t, w.stream.table, w.stream.name)
	log.wantNext(w.t, sent.next())
	if log.rows != int64(len(sent)) {
		w.t.Errorf("the log tells %d rows, %d messages were sent", log.rows, len(sent))
	}
	wantReported(w.t, w.kafka.brokers(), w.stream.name, w.stream.topic, sent.next())
	wantVerified(w.t, w.seats[0].config, w.stream.table)
	expect(w.t, w.stream.topic, sent, nil).checkWith(w.t, deltaRS, w.stream.table)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts["messages"] += len(sent)
	w.counts["versions with rows"] += log.commits
	w.counts["units that others have carried"] += log.carried
}
