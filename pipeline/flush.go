package pipeline

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/internal/backoff"
	"kafkadelta/sink"
)

// epoch is everything that is dispatched between two flushes. It becomes one commit: one unit for each lane that took
// part. While one epoch is closing (its lanes finish their files, then the committer lands it), the next one fills.
//
// A flush marker travels through each lane's queue behind the epoch's messages. So a partition may be on another lane in
// the next epoch: its older messages are in the older epoch's unit, which lands before or never (rule C9).
type epoch struct {
	id       int64
	touched  time.Time // when something was dispatched first, be it a control record
	toCommit bool      // there is more in it than control records
	deadline time.Time // when its flush is to begin at the latest
	oldest   time.Time // timestamp of its oldest message; zero for none
	closed   time.Time // when its flush began
	waiting  int       // lanes that have not answered the marker
	units    []*sink.Unit
	counted  map[*sink.Unit]tally              // for their messages
	parts    map[checkpoint.Partition]struct{} // that messages were dispatched of
	owned    []checkpoint.Partition            // when it was closed
	spread   bool                              // over all lanes, since there was enough unread for them
	wide     bool                              // over far too many, for messages that came since
	ctx      context.Context                   //nolint:containedctx // of the commit; a revocation that runs out of time ends it
	cancel   context.CancelFunc
}

func newEpoch(id int64) *epoch {
	return &epoch{id: id, counted: map[*sink.Unit]tally{}, parts: map[checkpoint.Partition]struct{}{}}
}

// due makes the epoch one that is flushed by the deadline at the latest.
func (e *epoch) due(by time.Time) {
	if !e.toCommit || by.Before(e.deadline) {
		e.toCommit, e.deadline = true, by
	}
}

// holds notes messages whose oldest was produced at `made`.
func (e *epoch) holds(made, by time.Time) {
	if e.oldest.IsZero() || made.Before(e.oldest) {
		e.oldest = made
	}
	e.due(by)
}

// idleAdvance is when the offsets of control records are committed alone. They make no version sooner, or every producer transaction
// would make one; and if they made none, retention would remove them one day, and it would look as if messages were lost.
const idleAdvance = 10 * time.Minute

// waiter is a revocation that waits until an epoch is done with.
type waiter struct {
	epoch int64
	parts []checkpoint.Partition
	done  chan struct{}
}

func (d *dispatcher) flushDue(now time.Time) bool {
	if d.flushNow || d.turn != nil && len(d.epoch.parts) > 0 {
		return true
	}
	if !d.epoch.toCommit {
		return len(d.epoch.parts) > 0 && now.Sub(d.epoch.touched) >= idleAdvance
	}
	return d.full() || d.epoch.wide || !now.Before(d.epoch.deadline)
}

// full reports whether lanes have filled their files: those that have any on average, or one of them far more than its own. Were the first one to
// decide, the files of the others would be smaller than the target.
func (d *dispatcher) full() bool {
	sum, lanes := int64(0), int64(0)
	for _, l := range d.lanes {
		switch filled := l.filled.Load(); {
		case filled >= d.Flush.Most():
			return true
		case filled > 0:
			sum, lanes = sum+filled, lanes+1
		}
	}
	return lanes > 0 && sum >= lanes*d.Flush.Bytes
}

// flush closes the filling epoch: a marker goes to every lane, and a new epoch begins.
func (d *dispatcher) flush() {
	e := d.epoch
	d.flushNow = false
	d.laneDue.Store(false)
	e.ctx, e.cancel = context.WithCancel(d.ctx)
	e.waiting = len(d.lanes)
	e.closed = d.Now()
	e.owned = slices.Collect(maps.Keys(d.parts))
	d.closing = e
	d.epoch = newEpoch(e.id + 1)
	d.largest -= d.largest / largestFades
	for _, l := range d.lanes {
		d.mark(l, e)
	}
}

func (d *dispatcher) mark(l *lane, e *epoch) {
	for {
		select {
		case l.in <- message{flush: e}:
			return
		case f := <-d.events:
			f()
		case <-d.ctx.Done():
			return
		}
	}
}

// flushed is a lane's answer to a marker: its unit, if it took anything, and the partitions that a poison message has
// stopped. Nothing was taken of those beyond their span, so that nothing of them can be lost.
func (d *dispatcher) flushed(e *epoch, u *sink.Unit, counted tally, stopped []checkpoint.Partition) {
	e.waiting--
	for _, id := range stopped {
		delete(e.parts, id)
	}
	if u != nil {
		e.units = append(e.units, u)
		e.counted[u] = counted
		for _, s := range u.Spans {
			e.parts[s.Partition] = struct{}{}
		}
	}
	if e.waiting == 0 {
		if errors.As(d.failure, new(*PanicError)) {
			e.cancel() // what else the process has done wrong is not known
		}
		d.laneDue.Store(false) // what set it may belong to this epoch; lanes that are full again say so again
		d.commits <- e         // there is room: at most one epoch is closing
	}
}

// startCommitter starts the goroutine that lands epochs, one after the other.
func (d *dispatcher) startCommitter() {
	d.goDo(func() {
		defer close(d.reports)
		for e := range d.commits {
			err := d.commit(e)
			unclaimed, layout, _ := d.table.Known(d.ctx, e.owned...) // none when the run is cut off, where nobody asks any more
			d.tell(func() { d.committed(e, unclaimed, layout, err) })
		}
	})
}

// commit lands an epoch and has its offsets reported to Kafka (rule C10: only after Committed).
func (d *dispatcher) commit(e *epoch) error {
	defer e.cancel()
	if len(e.units) == 0 {
		return nil
	}
	begun := d.Now()
	err := d.nameDeadLetters(e.ctx, e.units)
	if err == nil {
		err = d.nameRows(e.ctx, e.units)
	}
	if err == nil {
		err = d.table.Commit(e.ctx, e.units)
	}
	next := positions{}
	var landed []*sink.Unit
	var rows, bytes, files int64
	for _, u := range e.units {
		switch u.State() {
		case sink.Landed:
			landed = append(landed, u)
			for _, s := range u.Spans {
				next[s.Partition] = checkpoint.Position{Next: s.Next, Epoch: s.Epoch}
			}
			rows += u.Rows()
			bytes += u.Bytes()
			files += int64(u.Files())
		case sink.Pending:
			d.table.Discard(d.ctx, []*sink.Unit{u})
		case sink.Dropped, sink.Unresolved: // their partitions are read again: see committed
		}
	}
	if len(next) == 0 {
		return unlessStopped(e.ctx, err)
	}
	d.Metrics.committed(d.Now(), rows, bytes, files)
	d.Log.Debug("flush committed", "rows", rows, "bytes", bytes, "files", files, "partitions", len(next), "took", d.Now().Sub(begun))
	d.report(next)
	if err == nil {
		err = d.deliverRows(e.ctx, landed)
	}
	if err == nil && !e.oldest.IsZero() { // rows of many tables are in them by now, and not before
		d.Metrics.freshness.Store(max(int64(d.Now().Sub(e.oldest)), 1))
	}
	if err == nil {
		err = d.deliverLetters(e.ctx, landed)
	}
	return unlessStopped(e.ctx, err)
}

// committed takes note of what became of the closing epoch. Units may land in a table that has changed meanwhile; what
// comes after them is read under the new layout, and partitions that others have touched are claimed again, also those that had nothing in the epoch (rule A3).
func (d *dispatcher) committed(e *epoch, unclaimed []checkpoint.Partition, layout *sink.Layout, err error) {
	d.closing = nil
	if err != nil {
		d.fail(err)
	}
	for _, u := range e.units {
		if s := u.State(); s == sink.Dropped || s == sink.Pending { // an unresolved one may be in the table
			d.quota.giveBack(e.counted[u])
		}
		if u.State() == sink.Landed {
			d.Metrics.landed(u.Spans)
			d.Metrics.setStoreDown(false)
			for _, s := range u.Spans {
				delete(e.parts, s.Partition)
				if p := d.parts[s.Partition]; p != nil {
					p.committed = max(p.committed, s.Next)
				}
			}
		}
	}
	// Whatever else had messages in the epoch has lost them: to a fence, a failed lane, or a limit of time.
	for id := range e.parts {
		d.markReclaim(id)
	}
	if len(e.parts) == 0 {
		d.laneWait = backoff.Backoff{}
		d.pace.flushed(d.Now().Sub(e.closed))
	}
	if layout != nil {
		d.relayout(layout)
	}
	d.markReclaim(unclaimed...)
	d.followAt = d.Now().Add(followInterval)
	d.endAskAt = time.Time{}
	d.finishEpoch(e)
}

// finishEpoch lets revocations go on that waited for the epoch.
func (d *dispatcher) finishEpoch(e *epoch) {
	var rest []waiter
	for _, w := range d.waiters {
		if w.epoch > e.id {
			rest = append(rest, w)
			continue
		}
		d.release(w)
	}
	d.waiters = rest
}

// release gives the partitions up in the table's claims, then lets the revocation return. What is being claimed anew may be among them: the claim would
// stay if it came after that.
func (d *dispatcher) release(w waiter) {
	if d.reclaiming {
		d.unreleased = append(d.unreleased, w)
		return
	}
	d.goDo(func() {
		if err := d.table.Release(d.ctx, w.parts); err != nil {
			d.Log.Debug("giving partitions up", "error", err)
		}
		close(w.done)
	})
}

// drain flushes and commits what was dispatched. A stop that takes longer than the shutdown timeout ends d.ctx.
func (d *dispatcher) drain(ctx context.Context) error {
	d.Log.Info("stopping: committing what was read", "waiting_partitions", d.Metrics.waiting.Load())
	for d.failure == nil && d.ctx.Err() == nil {
		if d.closing == nil {
			if !d.epoch.toCommit {
				break
			}
			d.flush()
		}
		d.waitForEvent(d.ctx, d.nextDeadline())
	}
	switch {
	case d.failure != nil && !errors.Is(d.failure, context.Canceled):
		return d.failure
	case d.failure != nil, d.ctx.Err() != nil, ctx.Err() != nil && d.anyReclaim():
		return ErrInterrupted
	}
	return nil
}
