package pipeline

import (
	"slices"
	"time"

	"kafkadelta/batch"
)

// pace says when messages have to be flushed: after a fixed interval, or just early enough for them to be in the table by a goal
// (flush.mode: adaptive), which makes the fewest commits and files that hold the goal.
type pace struct {
	batch.Config
	took  [paceMemory]time.Duration // by the last flushes, from their begin until they had landed
	count int
}

// paceMemory is how many flushes are looked back on: at four a minute, four minutes.
const paceMemory = 16

// slack is the part of the goal that is kept for what no flush has measured: a poll that waits, a busy machine.
const slack = 16

// by is when the flush of a message has to begin that came now and was produced at `made`. Where it can't be held, since the stream is behind or
// the message's clock is off, the goal is nobody's hurry: larger files are of more use. Where only flushes are too slow for it, they follow each
// other, so that there are few anyway, and the first that is quick again holds it.
func (p *pace) by(now, made time.Time) time.Time {
	if p.Mode != batch.ModeAdaptive {
		return now.Add(p.Interval)
	}
	age := max(now.Sub(made), 0)
	room := p.Freshness - p.Freshness/slack - age
	slowest, ok := p.slowest(room)
	switch {
	case ok:
		return now.Add(max(room-slowest, p.Freshness/slack)) // within the slack the goal is held yet
	case age > p.Freshness/2:
		return now.Add(max(p.Interval, p.Freshness))
	default:
		return now.Add(p.Freshness / slack)
	}
}

// reach is how old a message may be that a flush can still be in time for.
func (p *pace) reach() time.Duration {
	quickest := p.Freshness / 4
	if p.count > 0 {
		quickest = slices.Min(p.took[:min(p.count, paceMemory)])
	}
	return max(p.Freshness-p.Freshness/slack-quickest, p.Freshness/2)
}

func (p *pace) flushed(took time.Duration) {
	p.took[p.count%paceMemory] = took
	p.count++
}

// slowest is the longest of the last flushes among those that fit into `room`, and whether any did; a guess before the first. One that took longer
// would miss the goal however early it began: to be early for its sake would only make more of them.
func (p *pace) slowest(room time.Duration) (slowest time.Duration, ok bool) {
	if p.count == 0 {
		return p.Freshness / 4, p.Freshness/4 <= room
	}
	for _, took := range p.took[:min(p.count, paceMemory)] {
		if took <= room {
			slowest, ok = max(slowest, took), true
		}
	}
	return slowest, ok
}
