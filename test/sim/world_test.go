package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/admin"
	"kafkadelta/decode"
	"kafkadelta/delta"
	"kafkadelta/internal/kafkatest"
	"kafkadelta/sink"
	"kafkadelta/source"
)

const (
	streamName = "events"
	topic      = "events-topic"
	columns    = "n BIGINT NOT NULL, text STRING, small SMALLINT"
	evolution  = sink.EvolveWidens
	// ruleKey and ruled are a rule that the table may get while workers write: messages for which it does not hold must not
	// land any more.
	ruleKey  = "delta.constraints.no_sevens"
	ruleText = "n % 7 <> 0"
	// most is how many workers live, but for those that are frozen, or storm in and out. In kfake a rebalance begins anew with every member
	// that joins, unlike in Kafka, so that it never ends where there are many whose joins are out of time before.
	most = 4
	// settleLimit is how long a world may take, after the last fault, until every message is in the table.
	settleLimit = 10 * time.Minute
)

func ruled(n int64) bool { return n%7 == 0 }

// world is all that a seed lets happen.
type world struct {
	t       *testing.T
	seed    uint64
	rnd     *rand.Rand // of the goroutine that directs
	trace   *trace
	network kfake.VirtualNetwork
	kafka   *kfake.Cluster
	others  sync.WaitGroup // that live beside the workers

	partitions int32
	flush      time.Duration
	life       time.Duration
	calm       time.Duration // between two events, at most
	protocol   string        // of the group
	pauses     time.Duration // of a frozen process, at most
	usual      trouble       // of the store
	buries     bool          // what is bad goes to a dead-letter table
	evolves    bool          // messages bring new versions of their schema
	properties map[string]string
	create     *arrow.Schema

	crowd    int // workers beside the first from the beginning
	started  int
	live     []*process
	frozen   []*process
	gone     []*process
	undo     []undo   // of faults that pass
	registry *schemas // nil for none

	mu      sync.Mutex // guards what follows; held while the store changes
	ledger  *ledger
	letters *letters // nil for none
	want    map[place]*message
	widened bool
	members map[string]time.Time // of the group: when each was heard of
	count   counts

	faultMu sync.Mutex
	faults  []string
}

// undo ends a fault.
type undo struct {
	at time.Time
	do func()
}

// counts are of what happened, so that a run of many seeds can show that all of it did.
type counts struct {
	Versions, Rows, Poison, Aborts                                                                    int
	Joins, Leaves, Kills, Pauses, KafkaCuts, StoreCuts, Storms, Troubles                              int
	Optimized, Schemas, Rules, Touches, Unseen                                                        int
	DeadLetters, Replays, ReplayKills, Replayed, Mended, Evolved, RegistryCuts, Undelivered, Stranded int
	LostAnswers, Late, Fenced, Dropped, Proposed, Carried, LogCheckpoints, Cleanups                   int
}

func (c *counts) all() map[string]*int {
	return map[string]*int{
		"versions": &c.Versions, "rows": &c.Rows, "poison messages": &c.Poison, "aborted producer transactions": &c.Aborts,
		"workers started": &c.Joins, "workers stopped": &c.Leaves, "workers killed": &c.Kills, "workers frozen": &c.Pauses,
		"networks to Kafka cut": &c.KafkaCuts, "networks to the store cut": &c.StoreCuts, "rebalance storms": &c.Storms,
		"times of a slow or failing store": &c.Troubles, "OPTIMIZE by others": &c.Optimized, "columns added by others": &c.Schemas,
		"constraints added by others": &c.Rules, "offsets touched by others": &c.Touches, "versions that landed below the log checkpoint": &c.Unseen,
		"writes without an answer": &c.LostAnswers, "writes that arrived late": &c.Late, "fences": &c.Fenced, "flushes dropped": &c.Dropped,
		"dead letters": &c.DeadLetters, "workers that could not deliver dead letters": &c.Undelivered, "times that a cleaning took dead letters": &c.Stranded, "replays": &c.Replays, "replays killed": &c.ReplayKills, "dead letters replayed": &c.Replayed,
		"changes that make bad messages good": &c.Mended, "columns and types that messages brought": &c.Evolved, "outages of the registry": &c.RegistryCuts,
		"proposals": &c.Proposed, "proposals carried": &c.Carried, "log checkpoints": &c.LogCheckpoints, "cleanups of the log": &c.Cleanups,
	}
}

func (c *counts) add(o counts) {
	more := o.all()
	for what, n := range c.all() {
		*n += *more[what]
	}
}

// fault takes note of a broken invariant. The first ones count: what follows may be their consequence.
func (w *world) fault(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.trace.add("BROKEN", "%s", text)
	w.faultMu.Lock()
	defer w.faultMu.Unlock()
	w.faults = append(w.faults, text)
}

func (w *world) broken() bool {
	w.faultMu.Lock()
	defer w.faultMu.Unlock()
	return len(w.faults) > 0
}

// run lets the world of a seed live, and returns it.
func run(t *testing.T, seed uint64) (w *world) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(t, seed)
		w.run()
	})
	return w
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := &world{
		t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 1)), trace: &trace{begun: time.Now()},
		want: map[place]*message{}, members: map[string]time.Time{},
	}
	w.ledger = w.newLedger()
	w.partitions = 2 + w.rnd.Int32N(5)
	w.flush = time.Duration(500+w.rnd.IntN(2500)) * time.Millisecond
	w.life = time.Duration(60+w.rnd.IntN(90)) * time.Second
	w.calm = time.Duration(2+w.rnd.IntN(8)) * time.Second
	if w.rnd.IntN(4) == 0 { // so many commits that workers carry each other's
		w.crowd, w.partitions = 3, 6
		w.flush, w.calm = time.Duration(200+w.rnd.IntN(300))*time.Millisecond, 2*w.calm
	}
	w.usual = trouble{slow: time.Duration(5+w.rnd.IntN(100)) * time.Millisecond, fail: 0.01, lose: 0.02, veryOld: 0.1}
	w.properties = map[string]string{"delta.checkpointInterval": fmt.Sprint(5 + w.rnd.IntN(15)), "delta.feature.checkConstraints": "supported"}
	w.protocol = []string{source.ProtocolClassic, source.ProtocolClassic, source.ProtocolConsumer}[w.rnd.IntN(3)]
	w.pauses = 30 * time.Second
	if w.rnd.IntN(3) == 0 { // so long that the log is cleaned meanwhile, and beyond what a frozen process knows
		w.properties["delta.logRetentionDuration"] = "interval 65 seconds"
		w.life, w.pauses = w.life+90*time.Second, 150*time.Second
	}
	if w.rnd.IntN(3) == 0 {
		w.properties["delta.setTransactionRetentionDuration"] = "interval 4 minutes"
	}
	if w.rnd.IntN(2) == 0 {
		w.properties["delta.enableInCommitTimestamps"] = "true"
	}
	w.properties["delta.enableTypeWidening"] = "true"
	if w.buries = w.rnd.IntN(3) == 0; w.buries {
		w.letters = w.newLetters()
	}
	if w.evolves = w.rnd.IntN(3) == 0; w.evolves {
		w.registry = newSchemas(w)
	}
	schema, err := delta.ParseDDL(columns)
	w.check(err)
	field, _ := decode.MetadataConfig{}.Field()
	w.create = arrow.NewSchema(append(schema.Fields(), field), nil)
	w.kafka = kafkatest.Start(t, topic, w.partitions, kfake.Ports(9092), kfake.ListenFn(w.network.Listen))
	w.watch()
	w.trace.add("world", "seed %d: dead letters %v, evolution %v, group protocol %s, %d partitions, flush %v, life %v, store %v, %v", seed, w.buries, w.evolves, w.protocol, w.partitions, w.flush, w.life, w.usual.slow, w.properties)
	return w
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// run directs the world's life.
func (w *world) run() {
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	produce := rand.New(rand.NewPCG(w.seed, 2))
	var producing sync.WaitGroup
	producing.Go(func() { w.produce(ctx, produce) })
	beside, stop := context.WithCancel(w.t.Context())
	defer stop()
	w.others.Go(func() { w.expire(beside) })
	w.join()
	for range w.crowd {
		w.join()
	}
	for end := time.Now().Add(w.life); time.Now().Before(end) && !w.broken(); {
		time.Sleep(time.Duration(w.rnd.Int64N(int64(w.calm))))
		w.pass()
		w.act()
	}
	if w.buries && w.rnd.IntN(2) == 0 && !w.broken() {
		w.strand()
	}
	cancel()
	producing.Wait()
	w.settle()
	for _, p := range slices.Concat(w.live, w.frozen, w.gone) {
		if !p.ended() {
			p.cancel()
		}
	}
	for _, p := range slices.Concat(w.live, w.frozen, w.gone) {
		<-p.done
	}
	stop()
	w.others.Wait()
	w.count.Versions, w.count.Rows, w.count.Carried = int(w.ledger.version)+1, len(w.ledger.seen), w.ledger.carried
	if w.buries {
		w.count.DeadLetters, w.count.Replayed = len(w.letters.found), len(w.ledger.replayed)
		w.count.ReplayKills = w.trace.count("the replay is killed")
	}
	w.count.LostAnswers, w.count.Late = w.trace.count("answer lost"), w.trace.count("arrives late: true")
	w.count.Fenced, w.count.Dropped = w.trace.count("another writer has moved"), w.trace.count("a flush is dropped")
	w.count.Proposed = w.trace.count("put _connector/proposals")
	w.count.LogCheckpoints, w.count.Cleanups = w.trace.count("a log checkpoint is written"), w.trace.count("expired versions are removed")
	if !w.broken() {
		w.verify()
	}
}

// pass ends faults whose time has passed.
func (w *world) pass() {
	w.undo = slices.DeleteFunc(w.undo, func(u undo) bool {
		if time.Now().Before(u.at) {
			return false
		}
		u.do()
		return true
	})
}

// during does something for a while.
func (w *world) during(longest time.Duration, undone func()) {
	w.undo = append(w.undo, undo{time.Now().Add(time.Second + time.Duration(w.rnd.Int64N(int64(longest)))), undone})
}

// act lets something happen.
func (w *world) act() {
	switch n := w.rnd.IntN(100); {
	case len(w.live) == 0:
		w.join()
	case n < 15 && len(w.live) < most:
		w.join()
	case n < 22:
		w.leave()
	case n < 32:
		w.count.Kills++
		p := w.take()
		w.trace.add(p.name, "is killed")
		p.kill()
		w.gone = append(w.gone, p)
	case n < 42:
		w.pause()
	case n < 50:
		w.cut()
	case n < 56:
		w.cutStore()
	case n < 66:
		w.trouble()
	case n < 70:
		w.storm()
	case n < 78:
		w.optimize()
	case n < 81:
		w.addColumn()
	case n < 83:
		w.addRule()
	case n < 86:
		w.touch()
	case n < 91 && w.buries:
		w.operateAWhile()
	case n < 94 && w.buries:
		w.strandOne()
	case n < 97 && w.buries:
		w.mend()
	case n >= 97 && w.evolves:
		w.loseRegistry()
	}
}

func (w *world) join() {
	w.count.Joins++
	w.live = append(w.live, w.start())
}

// take removes one of the live processes.
func (w *world) take() *process {
	i := w.rnd.IntN(len(w.live))
	p := w.live[i]
	w.live = slices.Delete(w.live, i, i+1)
	return p
}

func (w *world) pick() *process { return w.live[w.rnd.IntN(len(w.live))] }

// leave asks a process to stop.
func (w *world) leave() {
	w.count.Leaves++
	p := w.take()
	w.trace.add(p.name, "is asked to stop")
	p.cancel()
	w.gone = append(w.gone, p)
}

// pause freezes a process, often for longer than its session lasts.
func (w *world) pause() {
	w.count.Pauses++
	p := w.take()
	w.trace.add(p.name, "is frozen")
	p.freeze()
	w.frozen = append(w.frozen, p)
	w.during(w.pauses, func() {
		w.trace.add(p.name, "wakes")
		p.thaw()
		w.frozen = slices.DeleteFunc(w.frozen, func(q *process) bool { return q == p })
		w.live = append(w.live, p)
	})
}

// cut takes a process's network to Kafka away. The store stays.
func (w *world) cut() {
	w.count.KafkaCuts++
	p := w.pick()
	w.trace.add(p.name, "loses Kafka")
	p.kafka.lose()
	w.during(30*time.Second, func() {
		w.trace.add(p.name, "has Kafka again")
		p.kafka.heal()
	})
}

// cutStore takes a process's network to the store away. Kafka stays.
func (w *world) cutStore() {
	w.count.StoreCuts++
	p := w.pick()
	w.trace.add(p.name, "loses the store")
	which := p.stores[w.rnd.IntN(len(p.stores)):] // that of dead letters alone, or both
	for _, l := range which {
		l.set(trouble{cut: true})
	}
	w.during(20*time.Second, func() {
		w.trace.add(p.name, "has the store again")
		p.set(w.usual)
	})
}

// trouble makes the store bad for all, or for one.
func (w *world) trouble() {
	w.count.Troubles++
	bad := trouble{
		slow: time.Duration(w.rnd.Int64N(int64(3 * time.Second))), fail: 0.3 * w.rnd.Float64(), lose: 0.5 * w.rnd.Float64(), veryOld: 0.3 * w.rnd.Float64(),
	}
	who := slices.Clone(w.live)
	if w.rnd.IntN(2) == 0 {
		who = []*process{w.pick()}
	}
	w.trace.add("store", "has trouble: %+v", bad)
	for _, p := range who {
		p.set(bad)
	}
	w.during(15*time.Second, func() {
		w.trace.add("store", "is well again")
		for _, p := range who {
			p.set(w.usual)
		}
	})
}

// loseRegistry takes the registry away from all.
func (w *world) loseRegistry() {
	w.count.RegistryCuts++
	w.registry.setDown(true)
	w.during(30*time.Second, func() { w.registry.setDown(false) })
}

// storm has workers come and go faster than the group can follow.
func (w *world) storm() {
	w.count.Storms++
	for range 2 + w.rnd.IntN(4) {
		if len(w.live) >= most || len(w.live) > 1 && w.rnd.IntN(2) == 0 {
			w.leave()
		} else {
			w.join()
		}
		time.Sleep(time.Duration(w.rnd.Int64N(int64(1500 * time.Millisecond))))
	}
}

// endFaults ends all that would pass later.
func (w *world) endFaults() {
	for _, u := range w.undo {
		u.do()
	}
	w.undo = nil
}

// settle ends all faults and waits until the table holds everything that was produced: it must, within bounded time.
func (w *world) settle() {
	w.endFaults()
	w.usual = trouble{slow: 5 * time.Millisecond}
	for _, p := range w.live {
		p.set(w.usual)
	}
	if len(w.live) == 0 {
		w.join()
	}
	for len(w.live) > most { // that were frozen
		w.leave()
	}
	w.trace.add("world", "no more faults")
	for begun := time.Now(); !w.broken(); time.Sleep(time.Second) {
		if wrong := w.missing(); len(wrong) == 0 {
			w.trace.add("world", "everything is in the table after %v", time.Since(begun))
			if w.buries && w.rnd.IntN(3) > 0 {
				w.replayAll()
			}
			break
		} else if time.Since(begun) > settleLimit {
			w.describeGroup()
			w.fault("not within %v after the last fault: %s, and %d others", settleLimit, wrong[0], len(wrong)-1)
		}
	}
}

// describeGroup tells in the trace who has what.
func (w *world) describeGroup() {
	client, err := kgo.NewClient(kgo.SeedBrokers(w.kafka.ListenAddrs()...), kgo.Dialer(w.network.DialContext))
	w.check(err)
	defer client.Close()
	groups, err := kadm.NewClient(client).DescribeGroups(w.t.Context(), streamName)
	w.check(err)
	for _, g := range groups {
		w.trace.add("group", "%s, %d members", g.State, len(g.Members))
		for _, m := range g.Members {
			assigned, _ := m.Assigned.AsConsumer()
			joined, _ := m.Join.AsConsumer()
			w.trace.add("group", "%s: assigned %v, joined with %v", m.MemberID, assigned, joined)
		}
	}
}

// verify has the connector's own verification look at the table, and compares what its snapshots show with the ledger.
func (w *world) verify() {
	ctx := w.t.Context()
	for _, wrong := range w.missing() {
		w.fault("at the end: %s", wrong)
	}
	w.ledger.compare(ctx)
	if w.buries {
		w.letters.compare(ctx)
		w.letters.verify(ctx)
	}
	report, err := admin.Verify(ctx, w.ledger.store, admin.Options{Since: -1, Until: -1})
	switch {
	case err != nil:
		w.fault("verify: %v", err)
	case report.Verdict == admin.Faulty:
		w.fault("verify: %s: %s", report.Verdict, texts(report.Faults))
	case report.Verdict != admin.OK && report.LogFrom < 0: // of a log that was cleaned, files that were optimized and units without rows leave nothing
		w.fault("verify: %s: %s", report.Verdict, texts(report.Unverified))
	}
}

func texts(findings []admin.Finding) string {
	var all []string
	for _, f := range findings {
		all = append(all, fmt.Sprintf("%s: %s", f.Kind, f.Text))
	}
	return strings.Join(all, "; ")
}
