package pipeline

import (
	"maps"
	"slices"
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/sink"
)

// seek sets the positions of partitions after their claims were read again. A partition that was given away meanwhile,
// and perhaps came back, has another position by now. One in doubt stays in doubt: what its leader says is judged by the new position.
func (d *dispatcher) seek(parts []*part, next map[checkpoint.Partition]checkpoint.Position) {
	for _, p := range parts {
		if d.parts[p.Partition] != p {
			delete(next, p.Partition)
			continue
		}
		at := next[p.Partition]
		p.next, p.committed, p.leader = at.Next, at.Next, at.Epoch
		p.validFrom, p.reclaim, p.epoch = d.polls+1, false, 0
		if p.lostTo = 0; !p.doubted.IsZero() {
			p.validFrom, p.said = never, nothingSaid
		}
		p.heldUp = false
		p.insistAt, p.insistWait = d.Now().Add(firstInsist), firstInsist
	}
	d.source.Seek(next)
	for id := range next {
		d.source.Resume(id)
	}
}

const (
	firstInsist = time.Second // and twice as long each time
	maxInsist   = time.Minute
)

// insist seeks again where it is not known that the client has heeded a seek: it passes one over, without a word, as long as it has not finished loading the
// position that it was given with the assignment, as while a leader does not answer; and then it reads on from there. The first message tells, of whatever
// position; until it comes there may be none.
func (d *dispatcher) insist(now time.Time) {
	for _, p := range d.parts {
		if p.loading <= p.next || p.reclaim || p.heldUp || !p.doubted.IsZero() || now.Before(p.insistAt) {
			continue
		}
		p.insistWait = min(2*p.insistWait, maxInsist)
		p.insistAt = now.Add(p.insistWait)
		d.seekTwice(p)
	}
}

// passedOver tells that a message comes from the position that was given with the assignment, or from behind it, though the partition was to be read from
// before that: the seek was passed over, or there is nothing between. It is read once more, since the client heeds a seek from here on.
func (d *dispatcher) passedOver(p *part, first int64) bool {
	if p.loading <= p.next || first < p.loading {
		p.loading = 0
		return false
	}
	p.loading = 0
	d.seekTwice(p)
	return true
}

// seekTwice seeks to where the partition is to be read from, by way of another offset: the client takes the offset that it was told last for known, also where
// it has not heeded it.
func (d *dispatcher) seekTwice(p *part) {
	p.validFrom = d.polls + 1
	for _, at := range []int64{p.next + 1, p.next} {
		d.source.Seek(map[checkpoint.Partition]checkpoint.Position{p.Partition: {Next: at, Epoch: p.leader}})
	}
}

// markReclaim drops the uncommitted messages of the partitions, wherever they are, and has their positions read again
// from the table. A lane's batch can only be dropped whole, so other partitions in it are read again too.
func (d *dispatcher) markReclaim(ids ...checkpoint.Partition) {
	for _, id := range ids {
		p := d.parts[id]
		if p == nil || p.reclaim {
			continue
		}
		p.reclaim, p.validFrom = true, never
		if p.epoch == d.epoch.id {
			d.dropLane(p.lane)
		}
	}
}

// dropLane drops what the lane holds of the filling epoch.
func (d *dispatcher) dropLane(l *lane) { d.dropLaneFor(l, d.layout) }

// dropLaneFor is dropLane for a lane that goes on under another layout.
func (d *dispatcher) dropLaneFor(l *lane, layout *sink.Layout) {
	l.reset(d.layout, layout)
	for _, p := range d.parts {
		if p.epoch == d.epoch.id && p.lane == l {
			p.reclaim, p.validFrom = true, never
		}
	}
}

// anyReclaim reports whether messages that were taken have been dropped since.
func (d *dispatcher) anyReclaim() bool {
	for _, p := range d.parts {
		if p.reclaim {
			return true
		}
	}
	return false
}

// dropAll drops what every lane holds, and has every partition read again.
func (d *dispatcher) dropAll() {
	for _, l := range d.lanes {
		l.reset(d.layout, d.layout)
	}
	for _, p := range d.parts {
		p.reclaim, p.validFrom = true, never
	}
}

// dropFilling drops the filling epoch, and lets revocations go on that waited for it.
func (d *dispatcher) dropFilling() {
	d.abandon = false
	d.dropAll()
	d.finishEpoch(d.epoch)
	d.epoch = newEpoch(d.epoch.id + 1)
}

// reclaimParts reads the positions of marked partitions from the table. No flush is under way, so the table's claims
// stand where the last one left them.
func (d *dispatcher) reclaimParts(now time.Time) {
	if d.reclaiming || now.Before(d.reclaimAt) {
		return
	}
	d.reclaimAt = time.Time{}
	var parts []*part
	var ids []checkpoint.Partition
	for id, p := range d.parts {
		if p.reclaim {
			parts, ids = append(parts, p), append(ids, id)
		}
	}
	if len(ids) == 0 {
		return
	}
	slices.SortFunc(ids, checkpoint.Partition.Compare)
	d.reclaiming = true
	d.goDo(func() {
		next, layout, err := d.claim(d.ctx, ids)
		d.tell(func() {
			d.reclaimed()
			if err != nil {
				d.fail(err)
				return
			}
			if layout != d.layout {
				d.relayout(layout)
				return
			}
			d.Log.Info("reading again from the table's offsets", "partitions", len(next))
			d.seek(parts, next)
			d.settle(ids)
		})
	})
}

// reclaimed lets revocations go on that waited for the claims.
func (d *dispatcher) reclaimed() {
	d.reclaiming = false
	for _, w := range d.unreleased {
		d.release(w)
	}
	d.unreleased = nil
}

// relayout has every lane compiled anew, for a table whose schema has changed. What a lane holds is kept where it fits: lanes may be under a layout that is ahead of the table's.
// Who asked for the layout may have waited since, while others told of a later one.
func (d *dispatcher) relayout(layout *sink.Layout) {
	if layout == d.layout || layout.Before(d.layout) {
		return
	}
	d.layout = layout
	for _, l := range d.lanes {
		l.relayout(layout)
	}
}

// follow looks for versions of other writers while nothing is committed.
func (d *dispatcher) follow(now time.Time) {
	if d.following || now.Before(d.followAt) {
		return
	}
	d.following = true
	idle := len(d.epoch.parts) == 0
	owned := slices.Collect(maps.Keys(d.parts))
	d.goDo(func() {
		unclaimed, layout, err := d.table.Follow(d.ctx, owned...)
		if err == nil && idle && d.tables != nil {
			err = d.tables.trim(d.ctx)
		}
		d.tell(func() {
			d.following = false
			d.followAt = d.Now().Add(followInterval)
			if err != nil {
				d.fail(err)
				return
			}
			d.relayout(layout)
			d.markReclaim(unclaimed...)
		})
	})
}
