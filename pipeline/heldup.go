package pipeline

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/checkpoint"
)

// A partition is held up while a decoder waits for something outside of this process, such as a schema that the registry does not
// give. Its lane goes on with other partitions and with flushes. The partition itself stands still: its lane passes over what
// it has of it, the client fetches nothing of it, and after a while it is read again from the message that it was held up at.

const (
	// patience is how long a lane waits for messages, one or many with little between them: a registry that is well answers sooner.
	patience = time.Second
	// impatience is for how long a lane does not wait at all after it has waited in vain: a partition each second would be no flow.
	impatience = 10 * time.Second
	// heldUpPause is after which time a partition is tried again.
	heldUpPause = 2 * time.Second
	// aheadOf is how many messages behind one that is waited for have their schemas asked for meanwhile.
	aheadOf = 500
)

// mayWait tells whether the lane waits for a message, and counts that it does: what one partition makes it wait for, message by message, is time of all.
func (l *lane) mayWait(wait time.Duration) bool {
	now := l.d.Now()
	if now.Sub(l.waitedAt) > impatience {
		l.waited = 0
	}
	if l.waited >= patience || now.Before(l.impatient) {
		return false
	}
	l.waited, l.waitedAt = l.waited+wait, now
	return true
}

// lookAhead has decoders ask for what the next messages need, beside each other, so that a partition with many unknown schemas does not stand still for each.
func (l *lane) lookAhead(records []*kgo.Record) {
	d, ok := l.rows.Decoder.(interface{ WrittenBy(*kgo.Record) string })
	if !ok {
		return
	}
	for _, r := range records[:min(len(records), aheadOf)] {
		if !r.Attrs.IsControl() {
			d.WrittenBy(r)
		}
	}
}

// hold passes over the partition from where its span ends, until what it waits for is there.
func (l *lane) hold(m message, span *checkpoint.Span, cause error) {
	l.impatient = l.d.Now().Add(impatience)
	l.passOver(m, span, func(p *part) { l.d.holdUp(p, cause) })
}

// passOver takes no more of the partition than it has, and tells the dispatcher.
func (l *lane) passOver(m message, span *checkpoint.Span, then func(*part)) {
	l.heldUp[m.part] = m.from
	at, empty := checkpoint.Position{Next: span.Next, Epoch: span.Epoch}, span.Empty()
	if empty {
		at.Epoch = m.leader
	}
	generation := l.have.generation
	l.d.tell(func() {
		if l.wanted().generation != generation {
			return
		}
		if p := l.d.standStill(l, m, at, empty); p != nil {
			then(p)
		}
	})
}

// standStill has the partition stand before a message, for a while. What was dispatched of it after the message is void; what was taken before, unless that is
// empty, is in the epoch of the message, as ever. It is nil where the partition was given away, or is read again anyway.
func (d *dispatcher) standStill(l *lane, m message, at checkpoint.Position, empty bool) *part {
	p := d.parts[m.part]
	switch {
	case p == nil || p.reclaim:
		return nil
	case p.lane != l || p.validFrom != m.from: // what came after is with another lane, or a leader was doubted: it does not follow on this
		d.markReclaim(m.part)
		return nil
	}
	if p.epoch != m.epoch {
		delete(d.epoch.parts, m.part)
		p.epoch = m.epoch
	}
	if empty {
		for _, e := range []*epoch{d.epoch, d.closing} {
			if e != nil && e.id == m.epoch {
				delete(e.parts, m.part)
			}
		}
		p.epoch = 0
	}
	p.next, p.leader, p.validFrom = at.Next, at.Epoch, never
	p.heldUp, p.heldUntil = true, d.Now().Add(heldUpPause)
	d.setUnread(p, 0, 0) // nobody can read it now
	d.source.Pause(m.part)
	return p
}

// holdUp says that a partition waits.
func (d *dispatcher) holdUp(p *part, cause error) {
	d.Metrics.failed("decode")
	if !p.waits {
		d.Log.Warn("messages wait for something outside: their partition stands still, the others go on, nothing is lost", "partition", p.String(), "offset", p.next, "error", cause)
	}
	p.waits = true
	d.countWaiting()
}

// resumeHeldUp has partitions tried again.
func (d *dispatcher) resumeHeldUp(now time.Time) {
	if d.turn != nil { // nothing is polled
		return
	}
	next := map[checkpoint.Partition]checkpoint.Position{}
	for id, p := range d.parts {
		if p.heldUp && !p.reclaim && p.doubted.IsZero() && !now.Before(p.heldUntil) {
			p.heldUp, p.validFrom = false, d.polls+1
			next[id] = checkpoint.Position{Next: p.next, Epoch: p.leader}
		}
	}
	if len(next) > 0 {
		d.source.Seek(next)
		for id := range next {
			d.source.Resume(id)
		}
	}
}

// freed says that what a partition was held up at was taken.
func (d *dispatcher) freed(m message) {
	p := d.parts[m.part]
	if p == nil || !p.waits || p.heldUp || p.validFrom != m.from {
		return
	}
	p.waits = false
	d.countWaiting()
	d.Log.Info("messages that waited are taken", "partition", p.String(), "offset", m.first)
}

func (d *dispatcher) countWaiting() {
	n := 0
	for _, p := range d.parts {
		if p.waits {
			n++
		}
	}
	d.Metrics.waiting.Store(int64(n))
}
