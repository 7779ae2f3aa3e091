package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/batch"
	"kafkadelta/checkpoint"
	"kafkadelta/internal/backoff"
	"kafkadelta/sink"
)

// dropping is the context of a deletion for whoever may have been cut off.
func dropping(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), dropTimeout)
}

const (
	// batchRows and batchBytes (of messages) bound one Arrow batch: small enough for the cache, large enough to amortise
	// the calls. The batches of many pipelines are smaller, down to minBatchBytes.
	batchRows     = 8192
	batchBytes    = 4 << 20
	minBatchBytes = 512 << 10
	// batchGrowth is how many bytes of memory a byte of a batch's messages may become: more end the batch sooner. It is looked at behind
	// messages of largeMessage bytes or more, and behind each lookEvery-th.
	batchGrowth  = 4
	largeMessage = 1 << 10
	lookEvery    = 16
	// laneQueue is the number of messages (of up to a poll of one partition each) that may wait for a lane.
	laneQueue = 4
	// dropTimeout bounds the deletion of files that were finished and then dropped. What it misses, VACUUM removes.
	dropTimeout = 5 * time.Second
)

// message is what travels through a lane's queue: the next messages of one partition, or a flush marker.
type message struct {
	part       checkpoint.Partition
	first      int64 // where the partition's account stands
	lost       int64 // offsets from first on that are gone, in the place of records
	records    []*kgo.Record
	bytes      int64 // that the records take in memory
	generation int64
	epoch      int64            // in which it was dispatched
	from       int64            // validFrom of the partition then: it tells what was read before a seek from what comes after
	leader     checkpoint.Epoch // of the record before
	again      bool             // the partition was held up, and this is what it was held up at
	flush      *epoch
}

// setup is what a lane works under. One of a new generation drops everything that the lane holds.
type setup struct {
	generation int64
	table      *sink.Layout // the table's
	layout     *sink.Layout // what rows are written under: the table's, or one ahead of it
}

// lane is one goroutine that owns a decoder, a writer with its open files, and the account of what it took.
type lane struct {
	d       *dispatcher
	in      chan message
	want    atomic.Pointer[setup]
	uploads *sink.Uploads // of all its writers
	filled  atomic.Int64  // what it has of the flush's limit, in bytes

	// Of the lane's goroutine.
	have      setup
	rows      Rows // under the layout of have, or one ahead of it
	trial     Trial
	writer    *sink.Writer
	router    *router // nil: all rows go to one table
	letters   burier  // nil for none
	letter    letter  // that is being added; used again
	reasons   map[string]poisonCounter
	ledger    *batch.Ledger
	tally     tally        // of what it holds
	held      []heldRecord // messages of the rows in the decoder
	heldBytes int          // of their keys, values and headers
	broken    bool         // writing failed: everything is void until the next setup
	stopped   map[checkpoint.Partition]bool
	heldUp    map[checkpoint.Partition]int64 // message.from of what is passed over, until the partition is read again
	impatient time.Time                      // until when no message is waited for
	waited    time.Duration                  // for messages, since it last did not for a while
	waitedAt  time.Time
}

// heldRecord keeps a message until its row has passed the table's rules.
type heldRecord struct {
	record *kgo.Record
	span   *checkpoint.Span
}

func (d *dispatcher) startLanes(n int) error {
	for range n {
		l := &lane{
			d: d, in: make(chan message, laneQueue), uploads: sink.NewUploads(func() int64 { return d.memory() / uploadsPart / int64(n) }),
			ledger: batch.NewLedger(), reasons: map[string]poisonCounter{}, stopped: map[checkpoint.Partition]bool{}, heldUp: map[checkpoint.Partition]int64{},
		}
		l.want.Store(&setup{generation: 1, table: d.layout, layout: d.layout})
		if err := l.begin(*l.want.Load()); err != nil {
			return err
		}
		d.lanes = append(d.lanes, l)
		d.wait.Go(l.run)
	}
	return nil
}

// relayout has the lane go on under another layout of the table: see goOn. It never blocks.
func (l *lane) relayout(layout *sink.Layout) {
	l.want.Store(&setup{generation: l.want.Load().generation, table: layout, layout: layout})
	l.nudge()
}

// nudge has an idle lane look at what is wanted of it.
func (l *lane) nudge() {
	select {
	case l.in <- message{}:
	default:
	}
}

// wanted returns the setup that messages are to be sent under.
func (l *lane) wanted() *setup { return l.want.Load() }

// reset has the lane drop what it holds and what waits in its queue. It never blocks.
func (l *lane) reset(table, layout *sink.Layout) {
	l.want.Store(&setup{generation: l.want.Load().generation + 1, table: table, layout: layout})
	l.nudge() // so that it closes its files now
}

func (l *lane) run() {
	for m := range l.in {
		switch w := l.want.Load(); {
		case w.generation != l.have.generation:
			l.drop()
			if err := l.begin(*w); err != nil {
				l.d.tell(func() { l.d.fail(err) })
				l.broken = true
			}
		case w.layout != l.have.layout && !l.broken:
			if err := l.adopt(*w); err != nil && !errors.Is(err, errReset) {
				l.fail(err)
			}
		}
		switch {
		case m.flush != nil:
			l.flush(m.flush)
		case m.generation == l.have.generation && !l.broken:
			if err := l.take(m); err != nil {
				l.fail(err)
			}
		}
		l.d.inFlight.Add(-m.bytes)
		select {
		case l.d.progress <- struct{}{}:
		default:
		}
	}
	l.drop()
	l.uploads.Wait()
}

// begin compiles what the setup asks for.
func (l *lane) begin(s setup) error {
	l.have = s
	rows, err := CompileRows(s.layout, l.d.NewDecoder)
	if err != nil {
		return err
	}
	if l.letters, err = l.d.newLetters(l.uploads); err != nil {
		return err
	}
	if l.router, err = l.d.newRouter(s.layout, l.uploads); err != nil {
		return err
	}
	l.rows, l.trial, l.writer, l.broken = rows, Trial{}, l.d.table.NewWriter(s.layout), false
	l.writer.Share(l.uploads)
	return nil
}

// adopt goes on under a layout that the table has by now. What the messages have asked for besides stays ahead of it.
func (l *lane) adopt(s setup) error {
	l.have = s
	next := s.layout
	if l.rows.Layout.Ahead() {
		var err error
		if next, err = l.d.table.Evolve(l.d.ctx, s.layout, l.rows.Layout.Schema); err != nil {
			return err
		}
	}
	return l.goOn(next)
}

// evolve goes on under a layout for messages that bring new columns or wider types. Where what is written can't stay for that, it is a *turnError.
func (l *lane) evolve(want *arrow.Schema) error {
	if !l.d.table.Stays(l.rows.Layout, want) {
		return &turnError{want}
	}
	next, err := l.d.table.Evolve(l.d.ctx, l.rows.Layout, want)
	if err != nil {
		return err
	}
	return l.goOn(next)
}

// goOn has what comes next decoded and written under another layout. What the lane holds is kept where it fits; otherwise it is read again
// under that layout.
func (l *lane) goOn(next *sink.Layout) error {
	if !l.rows.Layout.Fits(next) {
		l.drop()
		l.broken = true
		table := l.have.table
		l.d.tell(func() {
			if l.d.layout != table { // the table has changed meanwhile: next does not know of it
				next = l.d.layout
			}
			l.d.dropLaneFor(l, next)
		})
		return errReset
	}
	if err := l.write(); err != nil {
		return err
	}
	if err := l.writer.Relayout(next); err != nil {
		return err
	}
	if l.router != nil {
		if err := l.router.adopt(next); err != nil {
			return err
		}
	}
	rows, err := CompileRows(next, l.d.NewDecoder)
	if err != nil {
		return err
	}
	l.rows, l.trial = rows, Trial{}
	return nil
}

// drop forgets everything since the last flush.
func (l *lane) drop() {
	if l.writer != nil {
		// The last drop comes when everything else has ended, and still is to leave no files behind.
		ctx, cancel := dropping(l.d.ctx)
		defer cancel()
		l.writer.Abort(ctx)
		if l.router != nil {
			l.router.abort(ctx)
		}
		if l.letters != nil {
			l.letters.Abort(ctx)
		}
	}
	if l.rows.Decoder != nil {
		l.rows.Decoder.Reset()
	}
	l.ledger.Reset()
	l.filled.Store(0)
	l.d.quota.giveBack(l.tally)
	l.tally = tally{}
	l.letGo()
	clear(l.stopped)
	clear(l.heldUp)
}

// letGo forgets the messages held. A record keeps all that was fetched with it in memory, and a lane to which nothing comes would keep it for as long.
func (l *lane) letGo() {
	clear(l.held)
	l.held, l.heldBytes, l.tally.held = l.held[:0], 0, 0
}

// fail makes the lane void, and has its partitions read again after a while.
func (l *lane) fail(err error) {
	l.drop()
	l.broken = true
	l.d.tell(func() { l.d.laneFailed(l, err) })
}

// laneFailed waits longer each time, so that a store that is down is not asked without a pause.
func (d *dispatcher) laneFailed(l *lane, err error) {
	if final(err) {
		d.fail(err)
		return
	}
	if behind, ok := errors.AsType[*behindError](err); ok {
		d.Log.Info("a table has a newer schema than a lane: its messages are read again under it", "error", err)
		d.relayout(behind.layout)
		d.dropLane(l)
		return
	}
	wait := d.laneWait.Next()
	d.Metrics.failed("write")
	d.Metrics.setStoreDown(true)
	d.Log.Warn("writing data files fails; their messages are read again, nothing is lost", "error", err, "again_in", wait.Round(time.Millisecond))
	d.reclaimAt = d.Now().Add(wait)
	d.dropLane(l) // what the lane had of a closing epoch is found missing when that epoch is committed
}

// take decodes messages of one partition.
func (l *lane) take(m message) error {
	from, held := l.heldUp[m.part]
	if l.stopped[m.part] || held && from == m.from {
		return nil
	}
	span, err := l.ledger.Open(m.part, m.first)
	switch {
	case err == nil:
		delete(l.heldUp, m.part)
	case held: // it went on behind the message before it heard of it, and is read again for that
		return nil
	default:
		return fmt.Errorf("taking messages: %w", err)
	}
	if m.lost > 0 {
		if stopped, err := l.stops(m.part); stopped || err != nil {
			return err
		}
		span.Next, span.Lost = m.first+m.lost, span.Lost+m.lost
		span.Epoch = 0
	}
	most := l.d.part(batchBytes, minBatchBytes)
	defer func() { l.d.quota.count(&l.tally, len(l.held), 0) }()
	for i, r := range m.records {
		if r.Attrs.IsControl() {
			span.Next, span.Epoch = r.Offset+1, checkpoint.EpochOf(r.LeaderEpoch)
			continue
		}
		if err := l.append(r); err != nil {
			if errors.Is(err, ErrLeftOut) {
				if stopped, err := l.stops(m.part); stopped || err != nil {
					return err
				}
				l.d.quota.count(&l.tally, len(l.held), 1)
				span.Next, span.Epoch = r.Offset+1, checkpoint.EpochOf(r.LeaderEpoch)
				span.Records, span.Filtered = span.Records+1, span.Filtered+1
				l.d.Metrics.filtered.Add(1)
				continue
			}
			if _, bad := errors.AsType[poison](err); bad {
				l.d.quota.count(&l.tally, len(l.held), 1)
				span.Next, span.Epoch = r.Offset+1, checkpoint.EpochOf(r.LeaderEpoch)
				span.Records++
				if err := l.bury(r, span, err); err != nil {
					return err
				}
				if l.stopped[m.part] {
					return nil
				}
				continue
			}
			if stop, ok := errors.AsType[*stopError](err); ok {
				l.stop(r, stop.cause)
				return nil
			}
			if errors.Is(err, errStopped) || errors.Is(err, errReset) {
				return nil
			}
			if held, ok := errors.AsType[*heldUpError](err); ok {
				l.lookAhead(m.records[i+1:])
				l.hold(m, span, held.cause)
				return nil
			}
			if turn, ok := errors.AsType[*turnError](err); ok {
				l.turn(m, span, turn.want)
				return nil
			}
			return err
		}
		span.Next, span.Epoch = r.Offset+1, checkpoint.EpochOf(r.LeaderEpoch)
		span.Records, span.Rows = span.Records+1, span.Rows+1
		l.held = append(l.held, heldRecord{r, span})
		l.heldBytes += Size(r)
		if len(l.held) >= batchRows || l.heldBytes >= most || (len(r.Value) >= largeMessage || len(l.held)%lookEvery == 0) && l.decoded() >= batchGrowth*most {
			if err := l.write(); err != nil {
				return err
			}
			if l.stopped[m.part] {
				return nil
			}
		}
	}
	if m.again {
		l.d.tell(func() { l.d.freed(m) })
	}
	return nil
}

// stops tells whether a message that is held stops the partition, as one under on_error: fail may that a rule rejects: what comes behind it was never taken then.
func (l *lane) stops(part checkpoint.Partition) (bool, error) {
	if l.d.OnError != OnErrorFail {
		return false, nil
	}
	err := l.write()
	return l.stopped[part], err
}

// decoded is the size of the decoder's rows in memory; 0 where it does not tell.
func (l *lane) decoded() int {
	if d, ok := l.rows.Decoder.(interface{ Bytes() int }); ok {
		return d.Bytes()
	}
	return 0
}

// poison is how a decoder says that a message can never become a row.
type poison interface {
	error
	Poison() (path, reason string)
}

// retryLater is how a decoder says that a message may become a row later.
type retryLater interface {
	error
	RetryLater() time.Duration
}

// evolve is how a decoder says that the table's schema is to follow that of the messages first.
type evolve interface {
	error
	Wanted() *arrow.Schema
}

// stopError says that a partition must not be read on: on_error: fail met poison.
type stopError struct{ cause error }

// errStopped says that the partition was stopped by one of the messages before, errReset that what the lane holds is to be dropped.
var (
	errStopped = errors.New("the partition is stopped")
	errReset   = errors.New("the lane begins anew")
)

// heldUpError says that a message can't be had for longer than a lane waits for it.
type heldUpError struct{ cause error }

func (e *heldUpError) Error() string { return e.cause.Error() }

func (e *stopError) Error() string { return e.cause.Error() }

// append decodes one message, waits where the decoder asks for it, and applies on_error. ErrLeftOut: it has a schema that the table need not follow for it.
func (l *lane) append(r *kgo.Record) error {
	for {
		err := l.rows.Append(r, l.d.Name, l.d.Log)
		if err == nil {
			return nil
		}
		if e, ok := errors.AsType[evolve](err); ok {
			if refused := l.trial.Append(r, l.rows, e.Wanted(), l.d.table, l.d.NewDecoder, l.d.Name, l.d.Log); refused != nil {
				err = refused
			}
		}
		if _, bad := errors.AsType[poison](err); bad {
			if l.d.OnError == OnErrorFail {
				return &stopError{err}
			}
			return err
		}
		if later, ok := errors.AsType[retryLater](err); ok {
			if err := l.write(); err != nil {
				return err
			}
			if l.stopped[checkpoint.Partition{Topic: r.Topic, ID: r.Partition}] {
				return errStopped
			}
			wait := later.RetryLater()
			if wait > 0 && !l.mayWait(wait) {
				return &heldUpError{err}
			}
			if err := backoff.Sleep(l.d.ctx, wait); err != nil {
				return err
			}
			if l.want.Load().generation != l.have.generation {
				return errReset // the message may be of a partition that was given away
			}
			continue
		}
		if e, ok := errors.AsType[evolve](err); ok {
			if err := l.evolve(e.Wanted()); err != nil {
				return err
			}
			if l.stopped[checkpoint.Partition{Topic: r.Topic, ID: r.Partition}] {
				return errStopped
			}
			continue
		}
		return err
	}
}

// stop keeps the partition where it is, before a message, and ends the run. What was taken before is committed.
func (l *lane) stop(r *kgo.Record, cause error) {
	l.d.Metrics.poison(cause)
	l.end(r, cause)
}

// end takes no more of a message's partition, and ends the run with that message, or an earlier one of the partition: what a rule rejects is
// found after what can't be decoded.
func (l *lane) end(r *kgo.Record, cause error) {
	at := endedAt{checkpoint.Partition{Topic: r.Topic, ID: r.Partition}, r.Offset, cause}
	l.stopped[at.part] = true
	l.d.tell(func() {
		if first := l.d.poison; first == nil || first.part == at.part && first.offset > at.offset {
			l.d.poison = &at
		}
	})
}

// endedAt is a message that ends the run.
type endedAt struct {
	part   checkpoint.Partition
	offset int64
	cause  error
}

// write hands the decoder's rows to the writer: those that the filter keeps, with the columns that are computed, once they pass the table's
// rules.
func (l *lane) write() error {
	if len(l.held) == 0 {
		return nil
	}
	l.d.quota.count(&l.tally, len(l.held), 0)
	n, kept, misfits, err := l.writeRows()
	if err != nil {
		return err
	}
	if len(misfits) > 0 {
		return l.writeWithout(misfits)
	}
	for row := range LeftOut(kept, len(l.held)) {
		span := l.held[row].span
		span.Rows, span.Filtered = span.Rows-1, span.Filtered+1
		l.d.Metrics.filtered.Add(1)
	}
	l.ledger.AddRows(n)
	l.d.Metrics.rows(n)
	l.letGo()
	l.checkDue()
	return nil
}

// writeRows writes the rows in the decoder, and tells how many there were and which were kept, as Rows.Take does. Where some can't be rows,
// none is written.
func (l *lane) writeRows() (n int64, kept []int, misfits map[int]Misfit, err error) {
	rb, kept, misfits := l.rows.Take()
	if len(misfits) > 0 {
		return 0, nil, misfits, nil
	}
	defer rb.Release()
	switch {
	case rb.NumRows() == 0:
	case l.router != nil:
		misfits, err = l.router.take(l.d.ctx, rb, kept, l.held)
	default:
		err = l.writer.Write(l.d.ctx, rb)
	}
	return rb.NumRows(), kept, misfits, err
}

// checkDue has the dispatcher flush once a limit of size is reached.
func (l *lane) checkDue() {
	bytes := l.writer.Bytes()
	if l.router != nil {
		bytes += l.router.bytes()
	}
	if l.letters != nil {
		bytes += l.letters.size()
	}
	if l.d.Flush.Rows > 0 && l.ledger.Rows() >= l.d.Flush.Rows {
		bytes = max(bytes, l.d.Flush.Most())
	}
	l.filled.Store(bytes)
	if l.d.full() && !l.d.laneDue.Swap(true) {
		l.d.wake()
	}
}

// writeWithout decodes the held messages again, without those that can't become rows. Under on_error: fail, a partition
// with such a message ends before it. This is rare, so that it may cost twice. What the filter leaves out is counted by the write that
// comes to an end, since a message behind one that stops its partition is not to be counted at all.
func (l *lane) writeWithout(misfits map[int]Misfit) error {
	kept := l.held[:0]                     // it never overtakes what is looked at
	cut := map[checkpoint.Partition]bool{} // not l.stopped: a message that the decoder refused comes after those held here
	for row, h := range l.held {
		misfit, bad := misfits[row]
		switch {
		case cut[h.span.Partition]: // after a message that stopped the partition: as if never taken
			h.span.Records, h.span.Rows = h.span.Records-1, h.span.Rows-1
		case bad && l.d.OnError == OnErrorFail:
			h.span.Records, h.span.Rows = h.span.Records-1, h.span.Rows-1
			h.span.Next, h.span.Epoch = h.record.Offset, checkpoint.EpochOf(h.record.LeaderEpoch) // of the record behind, or an earlier one
			cut[h.span.Partition] = true
			l.stop(h.record, l.rows.unfit(h.record, misfit))
		case bad:
			h.span.Rows--
			if err := l.bury(h.record, h.span, l.rows.unfit(h.record, misfit)); err != nil {
				return err
			}
		default:
			if err := l.rows.Append(h.record, l.d.Name, l.d.Log); err != nil {
				return fmt.Errorf("decoding a message a second time: %w", err)
			}
			kept = append(kept, h)
		}
	}
	clear(l.held[len(kept):])
	l.held, l.tally.held = kept, len(kept)
	if len(kept) == 0 {
		l.heldBytes = 0
	}
	return l.write() // checked again, which computes the table's columns for these rows
}
