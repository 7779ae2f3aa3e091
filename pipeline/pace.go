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

// by is when the flush of a message has to begin that came now and was produced at `made`. Where even the quickest of the last flushes would be too late for it,
// since the stream is behind or the message's clock is off, the goal is nobody's hurry: larger files are of more use. One slow flush gives no goal up.
func (p *pace) by(now, made time.Time) time.Time {
	if p.Mode != batch.ModeAdaptive {
		return now.Add(p.Interval)
	}
	if made.After(now) {
		made = now
	}
	quickest, slowest := p.lately()
	if now.Sub(made)+quickest > p.Freshness {
		return now.Add(max(p.Interval, p.Freshness))
	}
	by, soonest := made.Add(p.Freshness-p.Freshness/slack-slowest), now.Add(p.Freshness/4)
	if by.Before(soonest) { // commits take as long as the goal: shorter waits would only make more of them
		return soonest
	}
	return by
}

func (p *pace) flushed(took time.Duration) {
	p.took[p.count%paceMemory] = took
	p.count++
}

// lately is how long the quickest and the slowest of the last flushes took; a guess before the first.
func (p *pace) lately() (quickest, slowest time.Duration) {
	if p.count == 0 {
		return 0, p.Freshness / 4
	}
	last := p.took[:min(p.count, paceMemory)]
	return slices.Min(last), slices.Max(last)
}
