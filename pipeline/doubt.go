package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/source"
)

const (
	// doubtFor is how long the leaders of partitions have to say the same before they are believed that messages are gone: a broker
	// that has just become the leader, or is not any more, may be wrong for a while.
	doubtFor = 30 * time.Second
	// doubtEvery is how often they are asked.
	doubtEvery = time.Second
)

// doubt keeps a partition where it is: there is reason to believe that Kafka does not have any more what comes next of it, or what came
// before. Nothing of it is taken until the leader has been heard.
func (d *dispatcher) doubt(id checkpoint.Partition, why error) {
	p := d.parts[id]
	if p == nil || !p.doubted.IsZero() {
		return
	}
	p.doubted, p.validFrom, p.said = d.Now(), never, nothingSaid
	d.setUnread(p, 0, 0) // nobody may read it now
	d.doubts = true
	d.Metrics.failed("source")
	d.Log.Warn("Kafka may not have what comes next of a partition: asking its leader", "partition", id.String(), "offset", p.next, "error", why)
}

// checkDoubts asks the leaders of partitions in doubt. First it looks whether the topic is still the one of the table.
func (d *dispatcher) checkDoubts(now time.Time) {
	if !d.doubts || d.doubtAsking || now.Before(d.doubtAskAt) {
		return
	}
	ask := map[int32]checkpoint.Epoch{}
	for id, p := range d.parts {
		if !p.doubted.IsZero() {
			ask[id.ID] = p.leader
		}
	}
	if d.doubts = len(ask) > 0; !d.doubts {
		return
	}
	d.doubtAsking = true
	d.goDo(func() {
		err := d.pin(d.ctx, nil)
		var extents map[int32]source.Extent
		if err == nil {
			extents, err = d.source.Extents(d.ctx, ask)
		}
		d.tell(func() {
			d.doubtAsking = false
			d.doubtAskAt = d.Now().Add(doubtEvery)
			if err != nil {
				d.doubtsUnanswered(err)
				return
			}
			for id, p := range d.parts {
				x, ok := extents[id.ID]
				switch {
				case p.doubted.IsZero():
				case !ok:
					p.said = nothingSaid
				case !p.reclaim && p.leader == ask[id.ID]:
					d.resolve(p, x)
				}
			}
		})
	})
}

func (d *dispatcher) doubtsUnanswered(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	if final(err) {
		d.fail(err)
		return
	}
	for _, p := range d.parts {
		p.said = nothingSaid
	}
	d.Metrics.failed("source")
	d.Log.Warn("the leaders of partitions in doubt can't be asked yet; trying again", "error", err)
}

// said is what a leader tells of a partition in doubt.
type said uint8

const (
	nothingSaid said = iota
	saidWell
	saidBeyondEnd
	saidCutBack
	saidRetired
)

func judgeExtent(p *part, x source.Extent) said {
	switch {
	case p.next > x.End && x.EpochEnd >= x.End:
		return saidBeyondEnd
	case x.EpochEnd < p.next && x.First < p.next: // with nothing left of before there is nothing to compare
		return saidCutBack
	case p.next < x.First:
		return saidRetired
	}
	return saidWell
}

// resolve takes the leader's answer for a partition in doubt. What it says of messages that are gone is believed once it has said
// the same for doubtFor, without another answer or none in between.
func (d *dispatcher) resolve(p *part, x source.Extent) {
	says := judgeExtent(p, x)
	if says != p.said {
		p.said, p.saidSince = says, d.Now()
	}
	if says != saidWell && d.Now().Sub(p.saidSince) < doubtFor {
		return
	}
	switch says {
	case saidBeyondEnd:
		d.fail(beyondEnd(p, x))
	case saidCutBack:
		d.fail(cutBack(p, x))
	case saidRetired:
		switch {
		case d.Source.OnDataLoss == source.OnDataLossContinue:
			d.Log.Warn("Kafka's retention has removed messages before they were read: going on behind them, as source.on_data_loss says",
				"partition", p.String(), "first", p.next, "last", x.First-1, "lost", x.First-p.next)
			p.lostTo = x.First
		default:
			d.fail(retired(p, x))
		}
	default:
		d.Log.Info("the leader has what comes next of the partition after all", "partition", p.String(), "offset", p.next)
		p.doubted, p.validFrom, p.leader = time.Time{}, d.polls+1, 0 // the epoch has done its work
		d.source.Seek(map[checkpoint.Partition]checkpoint.Position{p.Partition: {Next: p.next}})
	}
}

// passLost takes offsets that Kafka has removed, so that they are counted in a span, and goes on behind them.
func (d *dispatcher) passLost() {
	if d.turn != nil { // lanes that turn hold nothing, and it would be dropped
		return
	}
	for _, p := range d.parts {
		if p.lostTo <= p.next || p.reclaim { // what is read again from the table's offset is asked for again from there
			continue
		}
		at := p.lostTo
		p.lostTo, p.doubted, p.validFrom = 0, time.Time{}, d.polls // send asks whether it still counts
		d.assignLane(p)
		if !d.send(p, message{part: p.Partition, first: p.next, lost: at - p.next, generation: p.lane.wanted().generation, epoch: p.epoch, from: p.validFrom, leader: p.leader}) {
			continue // it was dropped meanwhile, and is read again from where the table is
		}
		p.next, p.leader, p.validFrom = at, 0, d.polls+1
		d.epoch.due(d.Now().Add(d.Flush.Interval))
		d.source.Seek(map[checkpoint.Partition]checkpoint.Position{p.Partition: {Next: at}})
	}
}

const backward = "`connector rewind --to-offsets %d=%d` takes what Kafka has now, in a new generation beside the rows of before"

func retired(p *part, x source.Extent) error {
	return &checkpoint.RefusedError{
		Cause: fmt.Sprintf("Kafka has deleted messages of %s that the table does not have: offsets %d to %d (%d), its log begins at %d (OFFSET_OUT_OF_RANGE)",
			p.Partition, p.next, x.First-1, x.First-p.next, x.First),
		Remedy: "retention was faster than this stream, or somebody has deleted records: raise retention.ms of the topic; to go on without them set source.on_data_loss: continue, which counts them, or run `connector rewind --to-offsets " + fmt.Sprintf("%d=earliest`", p.ID),
	}
}

func beyondEnd(p *part, x source.Extent) error {
	return &checkpoint.RefusedError{
		Cause: fmt.Sprintf("the table has taken %s up to offset %d, but Kafka's log of it ends at %d: its last %d offsets are not there any more",
			p.Partition, p.next-1, x.End-1, p.next-x.End),
		Remedy: "the topic was cut back (an unclean leader election), or restored from a backup. Messages that come now would get the offsets of rows that are in the table: " +
			fmt.Sprintf(backward, p.ID, x.End),
	}
}

func cutBack(p *part, x source.Extent) error {
	where, to := fmt.Sprintf("from offset %d on", x.EpochEnd), x.EpochEnd
	if x.EpochEnd < 0 {
		where, to = "from an offset on that the brokers can't tell", x.First
	}
	return &checkpoint.RefusedError{
		Cause: fmt.Sprintf("Kafka's log of %s was cut back, as an unclean leader election does: the messages of leader epoch %d up to offset %d, which the table has, are not there any more %s, and others may have their offsets",
			p.Partition, p.leader.Leader(), p.next-1, where),
		Remedy: fmt.Sprintf("source.on_data_loss does not cover this, since nothing that Kafka has must be lost: "+backward, p.ID, max(to, x.First)),
	}
}
