package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
	// txnRetention is 4 minutes where it is set: txns are due after the first.
	txnRetention = "delta.setTransactionRetentionDuration"
	txnsExpire   = 4 * time.Minute
	keepLog      = "interval 65 seconds"
	logRetention = 65 * time.Second
	// most is how many workers live, but for those that are frozen, or storm in and out. In kfake a rebalance begins anew with every member
	// that joins, unlike in Kafka, so that it never ends where there are many whose joins are out of time before.
	most = 4
	// settleLimit is how long a world may take, after the last fault, until every message is in the table.
	settleLimit = 10 * time.Minute
	// idleLimit is how long it may take after a rewind when nothing else happens. What idle workers commit by themselves they do after 10 minutes.
	idleLimit = 5 * time.Minute
)

func ruled(n int64) bool { return n%7 == 0 }

// world is all that a seed lets happen.
type world struct {
	t       *testing.T
	seed    uint64
	rnd     *rand.Rand // of the goroutine that directs
	rare    *rand.Rand // of the same, for what came last into the worlds
	trace   *trace
	network kfake.VirtualNetwork
	kafka   *kfake.Cluster
	hushed  atomic.Bool    // nobody sends messages
	others  sync.WaitGroup // that live beside the workers

	partitions int32
	flush      time.Duration
	pace       time.Duration // between two productions, at most
	life       time.Duration
	calm       time.Duration // between two events, at most
	protocol   string        // of the group
	pauses     time.Duration // of a frozen process, at most
	usual      trouble       // of the store
	buries     bool          // what is bad goes to a dead-letter table
	evolves    bool          // messages bring new versions of their schema
	filters    bool          // some messages are to be left out
	second     *beside       // stream; nil for none
	divided    *divided      // rows, among many tables; nil for one
	intrudes   bool          // somebody runs a second stream of the topic
	restores   bool          // somebody restores the table to earlier versions
	forgets    bool          // and cleans the log so that it does not tell
	rewinds    bool          // an operator rewinds streams beside their workers
	retires    bool          // an operator ends the first stream, and has it go on
	dozes      bool          // who wakes behind a RESTORE whose version was cleaned from the log has a slow store
	strays     bool          // an operator rewinds many tables beside what refusals say
	haunts     bool          // the log is cleaned beyond a worker that does not see it
	ages       bool          // files get so old that a cleaning takes them
	queues     bool          // a flush waits beside the look that finds a RESTORE
	versions   []schemaVersion
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
	held    []*held
	members map[string]time.Time // of the group: when each was heard of
	joining time.Time            // when it began to assign its partitions; zero once a member syncs
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
	Filtered, Second, Turnovers, CarriedBeside, Held, Strangers                                       int
	Routed, Removed, RowsGone, Rewinds, Consigned, Intruders                                          int
	Restores, Restored, Forgotten, Woken, Ends, Ended                                                 int
	Dozed, Strayed, Haunted, Ghosts, Aged, Vacuumed, Widened, Queued                                  int
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
		"messages left out by a filter": &c.Filtered, "messages of a second stream": &c.Second, "workers of a second stream that were followed by another": &c.Turnovers,
		"units of a second stream carried by the first": &c.CarriedBeside, "proposals held up while their worker died": &c.Held, "versions of others in a row": &c.Strangers,
		"messages for one of many tables": &c.Routed, "tables removed under workers": &c.Removed, "times that a cleaning took rows of many tables": &c.RowsGone,
		"rewinds": &c.Rewinds, "workers that could not deliver rows": &c.Consigned, "second streams of the topic refused": &c.Intruders,
		"RESTORE by others": &c.Restores, "workers that a RESTORE has ended": &c.Restored, "times that a cleaning took the version of a RESTORE": &c.Forgotten, "workers that were frozen meanwhile": &c.Woken,
		"streams ended": &c.Ends, "workers that the end of their stream has ended": &c.Ended,
		"workers that woke behind such a version with a slow store": &c.Dozed, "rewinds beside what refusals of many tables say": &c.Strayed,
		"logs cleaned beyond a worker that did not see it": &c.Haunted, "versions of others that arrived in a hole": &c.Ghosts,
		"times that files got too old to be committed": &c.Aged, "old files that a cleaning took": &c.Vacuumed, "columns from FLOAT to DOUBLE": &c.Widened,
		"times that a flush waited beside the look that found a RESTORE": &c.Queued,
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
	w.pace = 800 * time.Millisecond
	w.usual = trouble{slow: time.Duration(5+w.rnd.IntN(100)) * time.Millisecond, fail: 0.01, lose: 0.02, veryOld: 0.1}
	if w.rnd.IntN(4) == 0 {
		w.compete(w.rnd)
	}
	w.properties = map[string]string{"delta.checkpointInterval": fmt.Sprint(5 + w.rnd.IntN(15)), "delta.feature.checkConstraints": "supported"}
	w.protocol = []string{source.ProtocolClassic, source.ProtocolClassic, source.ProtocolConsumer}[w.rnd.IntN(3)]
	w.pauses = 30 * time.Second
	if w.rnd.IntN(3) == 0 { // so long that the log is cleaned meanwhile, and beyond what a frozen process knows
		w.properties["delta.logRetentionDuration"] = keepLog
		w.life, w.pauses = w.life+90*time.Second, 150*time.Second
	}
	if w.rnd.IntN(3) == 0 {
		w.properties[txnRetention] = "interval 4 minutes"
	}
	if w.rnd.IntN(2) == 0 {
		w.properties["delta.enableInCommitTimestamps"] = "true"
	}
	w.properties["delta.enableTypeWidening"] = "true"
	if w.buries = w.rnd.IntN(3) == 0; w.buries {
		w.letters = w.newLetters()
	}
	w.evolves = w.rnd.IntN(3) == 0
	w.more(rand.New(rand.NewPCG(seed, 4)))
	if rnd := rand.New(rand.NewPCG(seed, 6)); rnd.IntN(2) == 0 && !w.buries && w.second == nil && w.crowd == 0 {
		w.divided = w.newDivided(rnd)
	} else {
		w.intrudes = w.second == nil && rnd.IntN(3) == 0
	}
	w.turnBack(rand.New(rand.NewPCG(seed, 7)))
	if rand.New(rand.NewPCG(seed, 8)).IntN(4) == 0 {
		w.properties[rowTracking] = "true"
	}
	w.part(rand.New(rand.NewPCG(seed, 9)))
	w.makeRare(rand.New(rand.NewPCG(seed, 11)))
	w.makeRarer(rand.New(rand.NewPCG(seed, 14)))
	if w.versions = versionsOf(rand.New(rand.NewPCG(seed, 10))); w.divided != nil {
		w.versions = versions // see docs/exactly-once.md: what the simulation leaves out
	}
	if w.evolves {
		w.registry = newSchemas(w)
	}
	schema, err := delta.ParseDDL(columns)
	w.check(err)
	field, _ := decode.MetadataConfig{}.Field()
	w.create = arrow.NewSchema(append(schema.Fields(), field), nil)
	w.kafka = kafkatest.Start(t, topic, w.partitions, kfake.Ports(9092), kfake.ListenFn(w.network.Listen), kfake.SeedTopics(secondPartitions, streams[1].topic))
	w.watch()
	w.trace.add("world", "seed %d: dead letters %v, evolution %v, filter %v, second stream %v, many tables %v, RESTORE %v, cleaned %v, rewinds %v, ends %v, dozing %v, astray %v, haunted %v, old %v, queues %v, group protocol %s, %d partitions, flush %v, life %v, store %v, %v", seed, w.buries, w.evolves, w.filters, w.second, w.divided != nil, w.restores, w.forgets, w.rewinds, w.retires, w.dozes, w.strays, w.haunts, w.ages, w.queues, w.protocol, w.partitions, w.flush, w.life, w.usual.slow, w.properties)
	return w
}

// more decides what came later into the worlds.
func (w *world) more(rnd *rand.Rand) {
	w.filters = rnd.IntN(3) == 0
	if rnd.IntN(3) > 0 || w.buries {
		return
	}
	w.second = &beside{idle: rnd.IntN(2) == 0}
	w.properties[txnRetention], w.life = "interval 4 minutes", max(w.life, 4*time.Minute)
	w.compete(rnd) // so that the first carries the second's
}

// compete makes a world of so many commits that workers carry each other's.
func (w *world) compete(rnd *rand.Rand) {
	w.crowd, w.partitions = 3, 6
	w.flush, w.pace = time.Duration(100+rnd.IntN(200))*time.Millisecond, 250*time.Millisecond
	w.usual.slow = time.Duration(60+rnd.IntN(90)) * time.Millisecond
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
	rushes, calmed := context.WithCancel(ctx)
	defer calmed()
	if w.crowd > 0 {
		w.others.Go(func() { w.write(rushes, rand.New(rand.NewPCG(w.seed, 5))) })
	}
	if w.second != nil {
		w.joinBeside()
	}
	w.join()
	for range w.crowd {
		w.join()
	}
	for end := time.Now().Add(w.life); time.Now().Before(end) && !w.broken(); {
		time.Sleep(time.Duration(w.rnd.Int64N(int64(w.calm))))
		w.pass()
		w.act()
	}
	calmed()
	if w.haunts && !w.broken() {
		w.haunt()
	}
	if w.ages && !w.buries && !w.broken() {
		w.growOld()
	}
	if w.queues && !w.broken() {
		w.queue()
	}
	if w.buries && (w.ages || w.rnd.IntN(2) == 0) && !w.broken() {
		w.strand()
	}
	if w.divided != nil && w.rnd.IntN(2) == 0 && !w.broken() {
		w.strandRows()
	}
	cancel()
	producing.Wait()
	w.settle()
	for _, p := range w.processes() {
		if !p.ended() {
			p.cancel()
		}
	}
	for _, p := range w.processes() {
		<-p.done
	}
	stop()
	w.others.Wait()
	w.count.Versions, w.count.Rows, w.count.Carried = int(w.ledger.version)+1, len(w.ledger.seen), w.ledger.carried
	if w.divided != nil {
		w.count.Rows = len(w.divided.rows)
	}
	if w.buries {
		w.count.DeadLetters, w.count.Replayed = len(w.letters.found), len(w.ledger.replayed)
		w.count.ReplayKills = w.trace.count("the replay is killed")
	}
	w.count.LostAnswers, w.count.Late = w.trace.count("answer lost"), w.trace.count("arrives late: true")
	w.count.Fenced, w.count.Dropped = w.trace.count("another writer has moved"), w.trace.count("a flush is dropped")
	w.count.Intruders = w.trace.count("is refused, as another stream of the topic")
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
	w.bury()
	if w.second != nil && w.rnd.IntN(15) == 0 {
		w.turnOver()
	}
	if w.crowd > 0 && w.rnd.IntN(4) == 0 && len(w.live) > 1 {
		w.loseProposal()
		return
	}
	if w.intrudes && w.rnd.IntN(20) == 0 {
		w.intrude()
	}
	if w.divided != nil && w.rnd.IntN(12) == 0 {
		w.removeTable()
		return
	}
	if w.restores && w.rnd.IntN(10) == 0 {
		w.restore()
		return
	}
	if w.retires && w.rnd.IntN(12) == 0 {
		w.retire()
		return
	}
	if w.rewinds && w.rnd.IntN(12) == 0 {
		w.rewindBeside()
		return
	}
	switch n := w.rnd.IntN(100); {
	case len(w.live) == 0 || len(w.live) < w.crowd && n%2 == 0:
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
	case n < 83 && w.divided == nil:
		w.addRule()
	case n < 86:
		w.touch()
	case n < 91 && w.buries:
		w.operateAWhile()
	case n < 94 && (w.buries || w.divided != nil):
		w.strandOne()
	case n < 97 && w.buries:
		w.mend()
	case n >= 97 && w.evolves:
		w.loseRegistry()
	}
}

// bury takes those out of the live ones that have ended because a table was gone.
func (w *world) bury() {
	w.restart()
	w.live = slices.DeleteFunc(w.live, func(p *process) bool {
		if p.ended() {
			w.gone = append(w.gone, p)
		}
		return p.ended()
	})
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
	w.freeze(w.take())
}

// freeze freezes one that was taken out of the live ones.
func (w *world) freeze(p *process) {
	w.count.Pauses++
	w.trace.add(p.name, "is frozen")
	p.freeze()
	w.frozen = append(w.frozen, p)
	w.during(w.pauses, func() {
		w.trace.add(p.name, "wakes")
		p.set(w.usual)
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
	p.setFollowers(trouble{cut: true})
	if w.rnd.IntN(2) == 0 || !w.buries && w.divided == nil { // all, or what follows the stream's table alone
		p.set(trouble{cut: true})
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
	for _, p := range w.processes() {
		p.set(w.usual)
	}
	for len(w.live) > most { // that were frozen
		w.leave()
	}
	w.trace.add("world", "no more faults")
	if w.buries {
		w.endReplays()
	}
	w.converge("the last fault", settleLimit)
	if w.buries && !w.broken() && w.rnd.IntN(3) > 0 {
		w.replayAll()
	}
	if w.rewinds && !w.broken() { // nothing comes any more, so that only who looks at the log by itself sees it (A3)
		w.rewindBeside()
		w.converge("a rewind of idle workers", idleLimit)
	}
}

// converge waits until the table holds everything.
func (w *world) converge(since string, limit time.Duration) {
	for begun := time.Now(); !w.broken(); time.Sleep(time.Second) {
		if w.bury(); len(w.live) == 0 {
			w.join()
		}
		wrong := w.missing()
		if len(wrong) == 0 {
			w.trace.add("world", "everything is in the table %v after %s", time.Since(begun), since)
			return
		}
		if time.Since(begun) > limit {
			w.describeGroup()
			w.fault("not within %v after %s: %s, and %d others", limit, since, wrong[0], len(wrong)-1)
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
	if w.divided != nil {
		w.divided.verify(ctx)
		return
	}
	report, err := admin.Verify(ctx, w.ledger.store, admin.Options{Since: -1, Until: -1})
	if err != nil {
		w.fault("verify: %v", err)
		return
	}
	w.judge("the table", report, report.LogFrom >= 0)
}

// judge compares what verify says of a table with what is known here: that nothing is wrong.
func (w *world) judge(what string, report *admin.Report, cleaned bool) {
	switch {
	case report.Verdict == admin.Faulty:
		w.fault("verify of %s: %s: %s", what, report.Verdict, texts(report.Faults))
	case report.Verdict != admin.OK && !cleaned: // of a log that was cleaned, files that were optimized and units without rows leave nothing
		w.fault("verify of %s: %s: %s", what, report.Verdict, texts(report.Unverified))
	}
}

func texts(findings []admin.Finding) string {
	var all []string
	for _, f := range findings {
		all = append(all, fmt.Sprintf("%s: %s", f.Kind, f.Text))
	}
	return strings.Join(all, "; ")
}
