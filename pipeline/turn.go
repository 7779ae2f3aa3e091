package pipeline

import (
	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/checkpoint"
)

// Messages may bring a schema beside whose rows the files of those before can't stay: a wider type that readers don't convert (FLOAT to DOUBLE), or another type
// of a column that the table gets with this very flush. Then all lanes turn at once: their partitions stand before such messages, nothing else is polled, the epoch is
// committed, and with nothing in hand the lanes go on under the schema. So nothing is read again.

// turnError says that what lanes hold is to be committed before messages that want a schema.
type turnError struct{ want *arrow.Schema }

func (e *turnError) Error() string { return "the rows before a new schema don't fit it" }

// turn passes over the partition from where its span ends, until the lanes have turned.
func (l *lane) turn(m message, span *checkpoint.Span, want *arrow.Schema) {
	l.passOver(m, span, func(*part) { l.d.turn = want })
}

// turnLanes has the lanes go on under a schema that messages want, once they hold nothing. Where it can't be had now, the messages ask for it again.
func (d *dispatcher) turnLanes() {
	if d.turn == nil || d.turning || len(d.epoch.parts) > 0 {
		return
	}
	d.turning = true
	base, want := d.layout, d.turn
	d.goDo(func() {
		next, err := d.table.Evolve(d.ctx, base, want)
		d.tell(func() {
			d.turn, d.turning = nil, false
			switch {
			case err != nil && final(err):
				d.fail(err)
				return
			case err != nil:
				d.Log.Warn("the table can't follow the messages' schema yet; it is tried again", "error", err)
				return
			case d.layout != base: // next does not know of what has changed meanwhile
				next = d.layout
			}
			for _, l := range d.lanes {
				l.reset(d.layout, next)
			}
			for _, p := range d.parts {
				if !p.waits {
					p.heldUntil = d.Now()
				}
			}
		})
	})
}
