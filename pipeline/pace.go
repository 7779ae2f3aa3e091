package pipeline

import (
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
// the message's clock is off, the goal is nobody's hurry: larger files are of more use.
func (p *pace) by(now, made time.Time) time.Time {
	if p.Mode != batch.ModeAdaptive {
		return now.Add(p.Interval)
	}
	if made.After(now) {
		made = now
	}
	by, soonest := made.Add(p.Freshness-p.Freshness/slack-p.slowest()), now.Add(p.Freshness/4)
	if now.Sub(made) > p.Freshness/2 && by.Before(now) {
		return now.Add(max(p.Interval, p.Freshness))
	}
	if by.Before(soonest) { // commits take as long as the goal: shorter waits would only make more of them
		return soonest
	}
	return by
}

func (p *pace) flushed(took time.Duration) {
	p.took[p.count%paceMemory] = took
	p.count++
}

// slowest is what a flush has to be given; a guess before the first.
func (p *pace) slowest() time.Duration {
	if p.count == 0 {
		return p.Freshness / 4
	}
	var most time.Duration
	for _, took := range p.took {
		most = max(most, took)
	}
	return most
}
