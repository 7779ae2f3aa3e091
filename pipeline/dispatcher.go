package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/checkpoint"
	"kafkadelta/internal/backoff"
	"kafkadelta/sink"
	"kafkadelta/source"
)

const (
	// followInterval is how often an idle worker looks whether another writer moved one of its offsets (rule A3).
	followInterval = 15 * time.Second
	// maxInFlight bounds the bytes of messages that were polled but are not decoded yet, of all pipelines of the process; minInFlight is what
	// each of them has at least.
	maxInFlight = 64 << 20
	minInFlight = 1 << 20
	// minPoll is what one of many pipelines polls at most, in messages: each holds some hundred bytes besides its value.
	minPoll = 500
	// Partitions are spread over the lanes while the owned ones have more unread together than spreadLag messages or spreadBytes, those included that came
	// without a pause. Below, all share the first lane, so that a commit has few files.
	spreadLag   = 20_000
	spreadBytes = 16 << 20
	// Without a pause means that no poll had to wait for so long, and within streakWindow to twice that: what comes steadily is no backlog.
	pollPause    = 5 * time.Millisecond
	streakWindow = time.Second
	// failedPollWait is the pause after a poll that returned nothing but errors.
	failedPollWait = 100 * time.Millisecond
	// checkSourceInterval is how often Kafka is asked for a sign of life while it does not answer as it should.
	checkSourceInterval = 5 * time.Second
	// leaveTimeout bounds the farewell to the group; the session timeout does the same, later.
	leaveTimeout = 5 * time.Second
	// never is a poll number that no poll reaches: nothing is taken from a partition until it is sought again.
	never = math.MaxInt64
)

// dispatcher owns the assignment and the flow between the stages. Its fields, but for those marked shared, are touched
// by its own goroutine only: the one that runs loop. Others send it events.
type dispatcher struct {
	Options
	ctx        context.Context //nolint:containedctx // of all work; ends after loop
	cancel     context.CancelFunc
	source     *source.Source
	table      *sink.Table
	layout     *sink.Layout
	dead       *sink.Table      // of dead letters; nil for none
	producer   *source.Producer // to the dead letters' topic; nil for none
	deadLayout *sink.Layout
	tables     *tables // that table is the catalog of; nil for none

	lanes    []*lane
	parts    map[checkpoint.Partition]*part
	polls    int64 // number of the latest poll
	epoch    *epoch
	closing  *epoch // the epoch that is being flushed; at most one
	commits  chan *epoch
	waiters  []waiter
	flushNow bool
	abandon  bool // a revocation ran out of time: drop what is not committed

	reclaiming bool
	unreleased []waiter  // until it has ended
	reclaimAt  time.Time // not before, after a lane failed
	laneWait   backoff.Backoff
	followAt   time.Time
	following  bool
	turn       *arrow.Schema // that messages wait for the lanes to turn to; nil for none
	turning    bool
	sweepAt    time.Time

	doubts      bool // some partition is in doubt
	doubtAsking bool
	doubtAskAt  time.Time

	ends       map[int32]int64 // UntilEnd: end offsets at the start
	endReached bool
	endAskAt   time.Time
	endAsking  bool

	checkingSource bool
	checkSourceAt  time.Time
	saidOfSource   string // the latest warning, and when
	saidAt         time.Time

	poison  *endedAt // on_error: fail, or a limit, met this
	quota   *quota
	pace    pace
	unread  backlog // of all owned partitions
	largest int     // message of late, in bytes: see width
	streak  streak
	gone    error // the topic has been deleted
	emptied bool  // since then, all that the client had fetched of it was taken
	failure error // final

	// Shared.
	events     chan func()
	progress   chan struct{} // a lane has taken something
	stopped    chan struct{} // closed when loop has ended
	reports    chan positions
	topicSeen  atomic.Bool     // the topic was found, so that one without it is news
	revoking   atomic.Int32    // revocations that wait for a commit
	parting    context.Context //nolint:containedctx // of reports, and of the tables' upkeep at the end; a stop that takes too long ends it
	cutParting context.CancelFunc
	limitStop  func() *time.Timer // begins with the time that a stop may take, once: when it is asked for, or when the run ends by itself
	pollMu     sync.Mutex
	stopPoll   context.CancelFunc
	inFlight   atomic.Int64 // bytes dispatched and not yet decoded
	laneDue    atomic.Bool  // lanes have said in this epoch that they are full
	wait       sync.WaitGroup
}

// part is one owned partition.
type part struct {
	checkpoint.Partition
	next       int64            // first offset that was not dispatched
	committed  int64            // first offset that the table does not hold
	leader     checkpoint.Epoch // of the last record that was dispatched
	doubted    time.Time        // since when Kafka may not have what comes next; zero for no doubt
	said       said             // by the leader, the last time it was asked, and since when it has said no other
	saidSince  time.Time
	lostTo     int64 // offsets before it, from next on, are gone for good
	validFrom  int64 // number of the first poll whose messages count
	loading    int64 // position that the client was given with the assignment, as long as no message has come; 0 then. See insist
	insistAt   time.Time
	insistWait time.Duration
	heldUp     bool // it stands still, until heldUntil at least: see standStill
	heldUntil  time.Time
	waits      bool  // a message that it was held up at was not taken yet
	reclaim    bool  // its position must be read from the table again
	epoch      int64 // the latest epoch in which something was dispatched
	lane       *lane // in that epoch
	rank       int   // among the owned partitions
	lag        *lagGauge
	unread     backlog // behind the last fetch
}

// backlog is how much there is to read. Bytes are estimated by the size of what came last.
type backlog struct{ messages, bytes int64 }

func newDispatcher(ctx context.Context, o Options) *dispatcher {
	d := &dispatcher{
		Options:  o,
		parts:    map[checkpoint.Partition]*part{},
		epoch:    newEpoch(1),
		commits:  make(chan *epoch, 1),
		events:   make(chan func(), 64),
		progress: make(chan struct{}, 1),
		stopped:  make(chan struct{}),
		reports:  make(chan positions, 1),
	}
	d.ctx, d.cancel = context.WithCancel(ctx)
	d.parting, d.cutParting = context.WithCancel(context.WithoutCancel(ctx))
	d.limitStop = sync.OnceValue(func() *time.Timer { // past it, whatever still runs is cut off, log checkpoints too
		return time.AfterFunc(d.ShutdownTimeout, func() { d.cancel(); d.cutParting() })
	})
	d.quota = &quota{LimitsConfig: o.Limits, now: o.Now}
	d.pace.Config = o.Flush
	o.Metrics.inFlight.Store(&d.inFlight)
	d.followAt = o.Now().Add(followInterval)
	return d
}

// tell runs f on the dispatcher's goroutine, soon. It reports whether f will run: after the loop has ended, nothing does.
func (d *dispatcher) tell(f func()) bool {
	select {
	case d.events <- f:
		d.wake()
		return true
	case <-d.stopped:
		return false
	}
}

// ask runs f on the dispatcher's goroutine and waits for it.
func (d *dispatcher) ask(ctx context.Context, f func()) error {
	done := make(chan struct{})
	if !d.tell(func() { f(); close(done) }) {
		return context.Canceled
	}
	select {
	case <-done:
		return nil
	case <-d.stopped:
		return context.Canceled
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wake ends a poll that waits for messages.
func (d *dispatcher) wake() {
	d.pollMu.Lock()
	defer d.pollMu.Unlock()
	if d.stopPoll != nil {
		d.stopPoll()
	}
}

// loop runs until a stop is asked for and done, or something failed for good.
func (d *dispatcher) loop(ctx context.Context) error {
	defer d.cancel()
	defer close(d.stopped)
	defer context.AfterFunc(ctx, d.wake)()
	defer context.AfterFunc(ctx, func() { d.limitStop() })()
	for {
		// Events run last before the question whether to go on: one that ends the run must not wait for another poll.
		for d.runEvents(); ctx.Err() == nil && d.failure == nil && d.poison == nil && !(d.gone != nil && d.emptied) && !d.endReached; d.runEvents() {
			d.housekeep()
			if d.mayPoll() {
				d.pollOnce(ctx)
			} else {
				d.waitForEvent(ctx, d.nextDeadline())
			}
		}
		if d.failure != nil {
			return d.failure
		}
		if err := d.drain(ctx); err != nil {
			return err
		}
		switch {
		case d.gone != nil:
			return d.gone
		case d.poison == nil:
			return nil
		case !d.anyReclaim() || ctx.Err() != nil:
			return &PoisonError{d.poison.cause}
		}
		// Something that came before the poison message was dropped: it is read again, and the message with it.
		d.poison = nil
		d.dropFilling()
	}
}

func (d *dispatcher) runEvents() {
	for {
		select {
		case f := <-d.events:
			f()
		default:
			return
		}
	}
}

// housekeep starts what is due. Everything that takes long runs elsewhere and reports by an event.
func (d *dispatcher) housekeep() {
	now := d.Now()
	d.hold()
	d.checkEnd(now)
	d.checkSource(now)
	d.checkDoubts(now)
	d.passLost()
	if d.closing == nil && d.abandon {
		d.dropFilling()
	}
	if d.closing == nil && d.flushDue(now) {
		d.flush()
	}
	if d.closing == nil {
		d.reclaimParts(now)
		d.follow(now)
		d.turnLanes()
	}
	d.resumeHeldUp(now)
	d.insist(now)
	d.sweep(now)
}

// mayPoll is the back-pressure: while it says no, nothing is taken from the client, whose own buffer is bounded, so that
// it stops fetching. The group's heartbeats go on.
func (d *dispatcher) mayPoll() bool {
	return d.turn == nil && d.inFlight.Load() < int64(d.part(maxInFlight, minInFlight)) && !(d.closing != nil && (d.full() || d.epoch.wide))
}

func (d *dispatcher) nextDeadline() time.Time {
	at := d.Now().Add(time.Second)
	earlier := func(t time.Time) {
		if t.Before(at) {
			at = t
		}
	}
	if d.epoch.toCommit && d.closing == nil {
		earlier(d.epoch.deadline)
	}
	if !d.reclaimAt.IsZero() && d.closing == nil && !d.reclaiming {
		earlier(d.reclaimAt)
	}
	if d.UntilEnd && d.closing == nil && !d.endAsking {
		earlier(d.endAskAt)
	}
	return at
}

func (d *dispatcher) waitForEvent(ctx context.Context, until time.Time) {
	timer := time.NewTimer(max(until.Sub(d.Now()), 0))
	defer timer.Stop()
	select {
	case f := <-d.events:
		f()
	case <-d.progress:
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (d *dispatcher) pollOnce(ctx context.Context) {
	wait := max(d.nextDeadline().Sub(d.Now()), 0)
	gone := d.gone != nil
	if gone { // nothing more comes than what the client has
		wait = failedPollWait
	}
	pollCtx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	d.pollMu.Lock()
	d.stopPoll = cancel
	d.pollMu.Unlock()
	if len(d.events) > 0 || d.full() && d.closing == nil {
		cancel()
	}
	d.polls++
	begun := d.Now()
	fetches := d.source.Poll(pollCtx, d.part(source.PollRecords, minPoll))
	d.pollMu.Lock()
	d.stopPoll = nil
	d.pollMu.Unlock()
	failed := false
	fetches.EachError(func(topic string, id int32, err error) {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, kgo.ErrClientClosed) {
			return
		}
		failed = true
		d.sourceError(topic, id, err)
	})
	d.streak.polled(begun, d.Now())
	d.emptied = gone && fetches.NumRecords() == 0 && !errors.Is(pollCtx.Err(), context.Canceled) // by an event: then it has not looked
	if failed && fetches.NumRecords() == 0 {                                                     // the client may answer so at once, again and again
		d.waitForEvent(ctx, d.Now().Add(failedPollWait))
	}
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		if len(f.Records) > 0 {
			d.dispatch(f)
		}
	})
}

// fail ends the run with the first final error. One that says that the topic is gone has everything committed first: it can't be read again.
func (d *dispatcher) fail(err error) {
	switch {
	case source.UnknownTopic(err) && d.topicSeen.Load():
		d.gone = err
	case d.failure == nil:
		d.failure = err
	}
}

// dispatch hands the messages of one partition to its lane.
func (d *dispatcher) dispatch(f kgo.FetchTopicPartition) {
	p := d.parts[checkpoint.Partition{Topic: f.Topic, ID: f.Partition}]
	if p == nil || d.polls < p.validFrom {
		return
	}
	if d.passedOver(p, f.Records[0].Offset) {
		return
	}
	records := f.Records
	for len(records) > 0 && records[0].Offset < p.next {
		records = records[1:] // taken already: a fetch may begin inside of a batch
	}
	if len(records) == 0 {
		return
	}
	if leader := checkpoint.EpochOf(records[0].LeaderEpoch); leader != 0 && leader < p.leader {
		d.doubt(p.Partition, fmt.Errorf("offset %d is of leader epoch %d, but the one before was of epoch %d", records[0].Offset, leader.Leader(), p.leader.Leader()))
		return
	}
	d.Metrics.setSourceDown(false)
	last := records[len(records)-1].Offset
	end := f.HighWatermark
	if f.LastStableOffset >= 0 && d.Source.Isolation == source.ReadCommitted {
		end = f.LastStableOffset
	}
	p.lag.set(max(end-last-1, 0))
	messages, bytes, now := int64(0), int64(0), d.Now()
	reach := now.Add(-d.pace.reach())
	var oldest, held time.Time // held is the oldest that a flush can be in time for
	for _, r := range records {
		size := Size(r)
		bytes += int64(size)
		d.largest = max(d.largest, size)
		if r.Attrs.IsControl() {
			continue
		}
		if messages++; messages == 1 || r.Timestamp.Before(oldest) {
			oldest = r.Timestamp
		}
		if !r.Timestamp.Before(reach) && (held.IsZero() || r.Timestamp.Before(held)) {
			held = r.Timestamp
		}
	}
	d.setUnread(p, max(end-last-1, 0), bytes/int64(len(records)))
	d.streak.add(int64(len(records)), bytes)
	d.assignLane(p)
	m := message{
		part: p.Partition, first: p.next, records: records, generation: p.lane.wanted().generation,
		epoch: p.epoch, from: p.validFrom, leader: p.leader, again: p.waits,
	}
	m.bytes = bytes + int64(len(records))*source.RecordMemory
	if !d.send(p, m) {
		return
	}
	p.next, p.leader = last+1, checkpoint.EpochOf(records[len(records)-1].LeaderEpoch)
	if messages > 0 {
		if held.IsZero() {
			held = oldest
		}
		d.epoch.holds(oldest, d.pace.by(now, held))
	}
	d.Metrics.taken(messages, bytes)
}

// assignLane gives the partition its lane for the filling epoch.
func (d *dispatcher) assignLane(p *part) {
	if p.epoch == d.epoch.id {
		d.epoch.wide = d.epoch.wide || d.epoch.spread && slices.Index(d.lanes, p.lane) >= tooWide*d.width()
		return
	}
	p.epoch = d.epoch.id
	if len(d.epoch.parts) == 0 {
		d.epoch.touched = d.Now()
	}
	d.epoch.parts[p.Partition] = struct{}{}
	p.lane = d.lanes[0]
	if d.epoch.spread = d.epoch.spread || d.isBehind(); d.epoch.spread {
		p.lane = d.lanes[p.rank%d.width()]
	}
}

// isBehind tells whether there is enough unread for all lanes.
func (d *dispatcher) isBehind() bool {
	came := d.streak.recent()
	return d.unread.messages+came.messages > spreadLag || d.unread.bytes+came.bytes > spreadBytes
}

// streak is what came without a pause: in the window since `since`, and in the one before.
type streak struct {
	since       time.Time
	now, before backlog
}

func (s *streak) polled(begun, now time.Time) {
	switch {
	case now.Sub(begun) > pollPause:
		*s = streak{since: now}
	case now.Sub(s.since) > streakWindow:
		*s = streak{since: now, before: s.now}
	}
}

func (s *streak) add(messages, bytes int64) {
	s.now = backlog{s.now.messages + messages, s.now.bytes + bytes}
}

func (s *streak) recent() backlog {
	return backlog{max(s.now.messages, s.before.messages), max(s.now.bytes, s.before.bytes)}
}

// setUnread notes how many messages of a partition are still to come, of so many bytes each.
func (d *dispatcher) setUnread(p *part, messages, size int64) {
	now := backlog{messages, messages * size}
	d.unread = backlog{d.unread.messages + now.messages - p.unread.messages, d.unread.bytes + now.bytes - p.unread.bytes}
	p.unread = now
}

// send waits for room in the lane's queue, and goes on with events meanwhile. It reports false if such an event made the
// messages void.
func (d *dispatcher) send(p *part, m message) bool {
	poll := d.polls
	d.inFlight.Add(m.bytes)
	for {
		select {
		case p.lane.in <- m:
			return true
		case f := <-d.events:
			f()
			if d.parts[p.Partition] != p || poll < p.validFrom || d.failure != nil {
				d.inFlight.Add(-m.bytes)
				return false
			}
		case <-d.ctx.Done():
			d.inFlight.Add(-m.bytes)
			return false
		}
	}
}

// goDo runs f in a goroutine that shutdown waits for.
func (d *dispatcher) goDo(f func()) { d.wait.Go(f) }

func (d *dispatcher) tableEvents() sink.Events {
	return sink.Events{
		Retry: func(op string, err error, wait time.Duration) {
			d.Metrics.setStoreDown(true)
			d.Metrics.failed("table")
			d.Log.Warn("the table's store fails; the same is tried again, nothing is lost", "doing", op, "error", err, "again_in", wait.Round(time.Millisecond))
		},
		Recovered: func(op string) {
			d.Metrics.setStoreDown(false)
			d.Log.Info("the table's store answers again", "doing", op)
		},
		RaceLost: func(version int64) {
			d.Metrics.raceLost()
			d.Log.Debug("another writer made the version first", "version", version)
		},
		Proposed:     func() { d.Metrics.proposals.Add(1) },
		Carried:      func(proposals int) { d.Metrics.carried.Add(int64(proposals)) },
		BadProposal:  func() { d.Metrics.badProposals.Add(1) },
		Maintained:   func(task sink.Upkeep, took time.Duration, bytes int64) { d.Metrics.maintained(task, took, bytes) },
		UpkeepFailed: func(task sink.Upkeep) { d.Metrics.failed(string(task)) },
		Creating:     d.mayCreate,
	}
}

// closeTables waits for what the tables' logs are due: a run that is short may be the only one that commits, so nobody else may ever do it.
func (d *dispatcher) closeTables() {
	for _, t := range []*sink.Table{d.table, d.dead} {
		if t != nil {
			t.Close(d.parting)
		}
	}
	if d.tables != nil {
		d.tables.close(d.parting)
	}
}

// shutdown ends everything that Run started, and waits for it. The group is left last, after the last report.
func (d *dispatcher) shutdown() {
	defer d.Metrics.ended()
	defer d.limitStop().Stop()
	d.closeTables()
	d.cancel()
	for _, l := range d.lanes {
		close(l.in)
	}
	close(d.commits)
	d.wait.Wait() // also for the last report
	d.cutParting()
	if d.producer != nil {
		d.producer.Close()
	}
	if d.source != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(d.ctx), leaveTimeout)
		defer cancel()
		d.source.Close(ctx)
	}
}

// final tells errors that end the run from those that pass.
func final(err error) bool {
	return errors.As(err, new(*source.Error)) || errors.As(err, new(*sink.Error)) || errors.As(err, new(*checkpoint.RefusedError)) || errors.As(err, new(*PanicError))
}
