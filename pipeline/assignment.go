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
	"kafkadelta/source"
)

// callbacks run on goroutines of the Kafka client. They do what takes long themselves, and tell the dispatcher.
func (d *dispatcher) callbacks() source.Callbacks {
	return source.Callbacks{
		Joined:    func() { d.Metrics.joined.Store(true) },
		Positions: d.positions,
		Revoked:   d.revoked,
		Lost: func(parts []checkpoint.Partition) {
			d.Log.Warn("partitions are lost: the group has given them to others", "partitions", len(parts))
			d.revoked(d.ctx, parts)
		},
		Stale: func(err error) {
			d.Log.Warn("a certificate or secret of Kafka can't be read again: the one from before serves on", "error", err)
		},
	}
}

// positions answers where newly assigned partitions are to be read from: where the table's txns say (rules A1, A2).
func (d *dispatcher) positions(ctx context.Context, assigned []checkpoint.Partition) (map[checkpoint.Partition]checkpoint.Position, error) {
	if err := d.pin(ctx, assigned); err != nil {
		return nil, d.assignmentError(ctx, err)
	}
	next, layout, err := d.claim(ctx, assigned)
	if err != nil {
		return nil, d.assignmentError(ctx, err)
	}
	d.Log.Info("partitions assigned", "partitions", len(assigned))
	answer := maps.Clone(next)
	err = d.ask(ctx, func() {
		d.relayout(layout) // what is read from here on is judged by the table as it was claimed
		d.assign(next)
		d.settle(assigned)
	})
	return answer, err
}

// claim takes partitions over, and tells the layout of the table that they are to be read under.
func (d *dispatcher) claim(ctx context.Context, parts []checkpoint.Partition) (map[checkpoint.Partition]checkpoint.Position, *sink.Layout, error) {
	next, err := d.table.Claim(ctx, parts)
	if err != nil {
		return nil, nil, err
	}
	layout, err := d.table.Layout(ctx)
	return next, layout, err
}

// pin makes sure that the topic is the one of the table's offsets, and that all its partitions have one. What may be the answer of a
// broker that is out of date is asked for again before it is believed: fewer partitions, and no topic where it was found before.
func (d *dispatcher) pin(ctx context.Context, assigned []checkpoint.Partition) error {
	for since := d.Now(); ; {
		err := d.pinOnce(ctx, assigned)
		if err == nil {
			d.topicSeen.Store(true)
		}
		refused, ok := errors.AsType[*checkpoint.RefusedError](err)
		gone := source.UnknownTopic(err) && d.topicSeen.Load()
		passing := ok && refused.Passing || gone
		switch {
		case passing && d.Now().Sub(since) < doubtFor:
		case gone:
			return source.TopicGone(d.Source.Topic, err)
		default:
			return err
		}
		if err := backoff.Sleep(ctx, doubtEvery); err != nil {
			return err
		}
	}
}

func (d *dispatcher) pinOnce(ctx context.Context, assigned []checkpoint.Partition) error {
	topic, err := d.source.Describe(ctx)
	if err != nil {
		return err
	}
	r := sink.PinRequest{
		Topic: d.Source.Topic, Identity: topic.Identity, Partitions: topic.Partitions, Reported: d.source.Reported,
		Starts: func(ctx context.Context, fresh bool) (map[int32]int64, error) {
			policy := source.StartEarliest
			if fresh {
				policy = d.Source.Start
			}
			return d.source.StartOffsets(ctx, policy)
		},
	}
	for _, p := range assigned { // the group may know of new partitions before the broker that was asked
		r.Partitions = max(r.Partitions, p.ID+1)
	}
	if d.tables == nil {
		return d.table.Pin(ctx, r)
	}
	return d.tables.pin(ctx, r)
}

// assignmentError ends the run if the error is final. Otherwise the client begins the group session again by itself.
func (d *dispatcher) assignmentError(ctx context.Context, err error) error {
	if ctx.Err() == nil && final(err) {
		d.tell(func() { d.fail(err) })
	} else if ctx.Err() == nil {
		d.Metrics.failed("source")
		d.Log.Warn("partitions were assigned, but their positions can't be found yet; trying again", "error", err)
	}
	return err
}

// assign takes over partitions. A partition that is owned already had its session cut off before it was read: what may
// be under way of it is dropped.
func (d *dispatcher) assign(next map[checkpoint.Partition]checkpoint.Position) {
	for id, at := range next {
		if old := d.parts[id]; old != nil && old.epoch != 0 {
			old.loading = at.Next // once more: it may pass over the seek that follows (insist)
			d.markReclaim(id)
			continue
		} else if old != nil {
			d.setUnread(old, 0, 0)
		}
		d.source.Resume(id) // it may have been held up when it was here before
		d.parts[id] = &part{Partition: id, next: at.Next, committed: at.Next, loading: at.Next, leader: at.Epoch, validFrom: d.polls + 1, lag: d.Metrics.lag(id)}
	}
	d.rank()
	d.countWaiting()
	d.hold()
	d.Metrics.setAssigned(d.parts)
}

func (d *dispatcher) rank() {
	ids := slices.SortedFunc(maps.Keys(d.parts), checkpoint.Partition.Compare)
	for i, id := range ids {
		d.parts[id].rank = i
	}
}

// revoked returns when the partitions' messages are committed or dropped (rule A2). What stays assigned flows on.
func (d *dispatcher) revoked(_ context.Context, parts []checkpoint.Partition) {
	d.revoking.Add(1)
	defer d.revoking.Add(-1)
	done := make(chan struct{})
	if !d.tell(func() { d.revoke(parts, done) }) {
		return
	}
	limit := time.NewTimer(d.Source.RebalanceTimeout * 3 / 4)
	defer limit.Stop()
	select {
	case <-done:
		return
	case <-d.stopped:
		return
	case <-limit.C:
	}
	d.Log.Warn("partitions must be given away before their messages could be committed: they are dropped here, and read again by their next owner")
	d.tell(func() {
		d.abandon = true
		d.dropAll() // now: a lane that hangs must not find the messages still valid when the partition has come back
		if d.closing != nil {
			d.closing.cancel()
		}
	})
	grace := time.NewTimer(d.Source.RebalanceTimeout / 8)
	defer grace.Stop()
	select {
	case <-done:
	case <-d.stopped:
	case <-grace.C: // rule C1 keeps what may still be under way from landing beside the next owner's
	}
}

// revoke takes partitions away and has what is held of them flushed.
func (d *dispatcher) revoke(parts []checkpoint.Partition, done chan struct{}) {
	w := waiter{parts: parts, done: done}
	for _, id := range parts {
		p := d.parts[id]
		if p == nil {
			continue
		}
		delete(d.parts, id)
		d.setUnread(p, 0, 0)
		p.lag.remove()
		switch {
		case p.epoch == 0: // nothing was dispatched since it was assigned or sought
		case p.epoch == d.epoch.id:
			w.epoch = d.epoch.id
			d.flushNow = true
		case d.closing != nil && p.epoch == d.closing.id:
			w.epoch = max(w.epoch, d.closing.id)
		}
	}
	d.rank()
	d.countWaiting()
	d.Metrics.setAssigned(d.parts)
	if len(d.parts) == 0 { // nothing is written any more that could show that the store is back
		d.laneWait = backoff.Backoff{}
		d.Metrics.setStoreDown(false)
	}
	d.Log.Info("partitions revoked", "partitions", len(parts), "commit_first", w.epoch != 0)
	if w.epoch == 0 {
		d.release(w)
		return
	}
	d.waiters = append(d.waiters, w)
}
