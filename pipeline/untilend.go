package pipeline

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/internal/backoff"
	"kafkadelta/sink"
	"kafkadelta/source"
)

// endAskInterval is how often the table is asked whether other workers have brought it to the end.
const endAskInterval = 200 * time.Millisecond

// hangUpLimit is how long brokers may close every new connection before the start is given up: a broker that comes up
// does so too, for less long.
const hangUpLimit = 20 * time.Second

// findTopic makes sure that the topic can be read, and is the one that the table's offsets belong to, before the group is
// joined, so that a wrong name or password is an error in seconds. Under UntilEnd it also takes down where the end is
// now.
func (d *dispatcher) findTopic(ctx context.Context) error {
	return d.untilAnswered(ctx, func() error {
		err := d.pin(ctx, nil) // before anything is asked of the table: are its offsets of this topic?
		if err == nil && d.UntilEnd {
			d.ends, err = d.source.EndOffsets(ctx)
		}
		return err
	})
}

// mayCreate refuses to make a table for a stream whose group has reported offsets: its table was another one.
func (d *dispatcher) mayCreate(ctx context.Context) error {
	return d.untilAnswered(ctx, func() error {
		reported, err := d.source.Reported(ctx)
		if err == nil && len(reported) > 0 {
			err = sink.RefuseFresh(d.Name, reported)
		}
		return err
	})
}

// untilAnswered asks Kafka for as long as no broker answers.
func (d *dispatcher) untilAnswered(ctx context.Context, ask func() error) error {
	wait := backoff.Backoff{Longest: 5 * time.Second} // a broker that comes up is waited for by people
	var hangingUp time.Time                           // since when brokers have done nothing else
	for {
		err := ask()
		if err == nil {
			d.Metrics.setSourceDown(false)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err() // whatever the stop has made of the answer
		}
		if final(err) {
			return err
		}
		switch {
		case !errors.As(err, new(*kgo.ErrFirstReadEOF)) && !errors.Is(err, io.EOF):
			hangingUp = time.Time{}
		case hangingUp.IsZero():
			hangingUp = d.Now()
		case d.Now().Sub(hangingUp) > hangUpLimit:
			return &source.Error{Op: "reaching Kafka", Err: err, Hint: "the brokers close every connection: check source.tls and source.sasl against the listener"}
		}
		d.Metrics.setSourceDown(true)
		d.Metrics.failed("source")
		again := wait.Next()
		d.Log.Warn("Kafka does not answer; trying again", "error", err, "again_in", again.Round(time.Millisecond))
		if err := backoff.Sleep(ctx, again); err != nil {
			return err
		}
	}
}

// checkEnd ends the run once the table holds everything up to the end offsets seen at the start, whoever brought it
// there. Own partitions are flushed as soon as they are at their end; the table is asked about the others.
func (d *dispatcher) checkEnd(now time.Time) {
	if !d.UntilEnd || d.endAsking || d.closing != nil {
		return
	}
	if d.endAskAt.IsZero() {
		d.endAskAt = now
	}
	missing := false
	for _, p := range d.parts {
		if p.next < d.ends[p.ID] || p.reclaim {
			d.endAskAt = now.Add(endAskInterval)
			return
		}
		missing = missing || p.committed < d.ends[p.ID]
	}
	if missing {
		d.flushNow = true
		return
	}
	if now.Before(d.endAskAt) {
		return
	}
	d.endAsking = true
	d.goDo(func() {
		next, err := d.table.Positions(d.ctx)
		if err == nil && atEnd(d.ends, next) {
			err = d.settleAll(slices.Collect(maps.Keys(next)))
		}
		d.tell(func() {
			d.endAsking = false
			d.endAskAt = d.Now().Add(endAskInterval)
			if err != nil {
				d.fail(err)
				return
			}
			d.endReached = atEnd(d.ends, next)
		})
	})
}

// settleAll delivers what anybody has left pending of the partitions: a run to the end ends with all tables at the end.
func (d *dispatcher) settleAll(parts []int32) error {
	if err := d.settleLetters(parts); err != nil {
		return err
	}
	return d.settleRows(parts)
}

func atEnd(ends, next map[int32]int64) bool {
	for id, end := range ends {
		if at, ok := next[id]; !ok || at < end {
			return false
		}
	}
	return true
}
