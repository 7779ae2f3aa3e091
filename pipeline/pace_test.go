package pipeline

import (
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"kafkadelta/batch"
)

func TestFixedPace(t *testing.T) {
	p := pace{Config: batch.DefaultConfig()}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, made := range []time.Time{now, now.Add(-time.Hour), now.Add(time.Hour)} {
		if got := p.by(now, made).Sub(now); got != p.Interval {
			t.Errorf("a message of %v is flushed after %v, want %v", made, got, p.Interval)
		}
	}
}

func TestAdaptivePace(t *testing.T) {
	p := pace{Config: batch.DefaultConfig()}
	p.Mode, p.Freshness, p.Interval = batch.ModeAdaptive, 16*time.Second, 10*time.Second
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	check := func(name string, age, want time.Duration) {
		t.Helper()
		if got := p.by(now, now.Add(-age)).Sub(now); got != want {
			t.Errorf("%s: the flush begins after %v, want %v", name, got, want)
		}
	}
	check("new, before any flush", 0, 11*time.Second)
	p.flushed(0)
	check("new", 0, 15*time.Second)
	check("from a clock that is ahead", -time.Minute, 15*time.Second)
	check("of a second ago", time.Second, 14*time.Second)
	check("of a producer that is late", 9*time.Second, 6*time.Second)
	check("so late that a flush has to begin soon", 14*time.Second, time.Second)
	check("so late that a flush right away is in time", 15*time.Second, time.Second)
	check("too old to be held", 15*time.Second+time.Millisecond, 16*time.Second)
	p.flushed(2 * time.Second)
	p.flushed(time.Second)
	check("new, where flushes took two seconds", 0, 13*time.Second)
	p.flushed(time.Minute)
	check("new, where one took longer than the goal", 0, 13*time.Second)
	check("late, where one took longer than the goal", 9*time.Second, 4*time.Second)
	check("so late that a quick flush holds it, but not the slower ones", 13500*time.Millisecond, time.Second)
	for range paceMemory {
		p.flushed(12 * time.Second)
	}
	check("new, where all take most of the goal", 0, 3*time.Second)
	check("late, where all take most of the goal", 9*time.Second, 16*time.Second)
	p.Interval = 20 * time.Second
	check("too old, with a longer interval", 17*time.Second, 20*time.Second)
	for range paceMemory {
		p.flushed(time.Minute)
	}
	check("new, where all take longer than the goal", 0, time.Second)
	p.flushed(time.Second)
	check("new, after the first that was quick again", 0, 14*time.Second)
}

// paceRun is a stream in a clock of its own, of half an hour: messages come, and flushes take their time, one after the other.
type paceRun struct {
	comes  func(at time.Duration) bool                 // whether a message comes
	late   func(at time.Duration) time.Duration        // how old it is then
	commit func(at time.Duration, n int) time.Duration // how long the n-th flush takes
}

const paceRunFor = 30 * time.Minute

// under says how many of the messages in flushes from `from` on were older than the goal once they were in the table, as a share, and how many flushes that were.
func (r paceRun) under(c batch.Config, from, goal time.Duration) (missed float64, commits int) {
	p := pace{Config: c}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var waiting []time.Time
	var deadline, busy time.Time
	took, n, all, old := time.Duration(0), 0, 0, 0
	for at := time.Duration(0); at < paceRunFor; at += 20 * time.Millisecond {
		now := start.Add(at)
		if r.comes == nil || r.comes(at) {
			made := now.Add(-50 * time.Millisecond)
			if r.late != nil {
				made = now.Add(-r.late(at))
			}
			if by := p.by(now, made); len(waiting) == 0 || by.Before(deadline) {
				deadline = by
			}
			waiting = append(waiting, made)
		}
		if now.Before(busy) {
			continue
		}
		if took > 0 { // a flush is over
			p.flushed(took)
			took = 0
		}
		if len(waiting) == 0 || now.Before(deadline) {
			continue
		}
		took = r.commit(at, n)
		n++
		busy = now.Add(took)
		if at >= from {
			commits++
			for _, made := range waiting {
				all++
				if busy.Sub(made) > goal {
					old++
				}
			}
		}
		waiting = waiting[:0]
	}
	return float64(old) / float64(max(all, 1)), commits
}

// TestAdaptivePaceHoldsTheGoal: the goal is held for 99% of the messages wherever it can be, with hardly more flushes than that takes.
func TestAdaptivePaceHoldsTheGoal(t *testing.T) {
	const goal, none = 5 * time.Second, time.Duration(0)
	quick := func(n int) time.Duration { return 300*time.Millisecond + time.Duration(n%7)*100*time.Millisecond }
	always := func(d time.Duration) func(time.Duration, int) time.Duration {
		return func(time.Duration, int) time.Duration { return d }
	}
	slowUntil := func(end, took time.Duration) func(time.Duration, int) time.Duration {
		return func(at time.Duration, n int) time.Duration {
			if at > time.Minute && at < end {
				return took
			}
			return quick(n)
		}
	}
	late := func(d time.Duration) func(time.Duration) time.Duration {
		return func(time.Duration) time.Duration { return d }
	}
	each := func(every, length time.Duration) func(time.Duration) bool {
		return func(at time.Duration) bool { return at%every < length }
	}
	const one = 20 * time.Millisecond
	// The fewest flushes that hold the goal wait for it less what the slowest of them takes and what the messages bring along.
	for _, c := range []struct {
		name  string
		run   paceRun
		from  time.Duration
		waits time.Duration // between two flushes, at least on average
	}{
		{"flushes that vary", paceRun{commit: func(_ time.Duration, n int) time.Duration { return quick(n) }}, none, 3600 * time.Millisecond},
		{"a slow store for five minutes, then", paceRun{commit: slowUntil(6*time.Minute, 2*goal)}, 6*time.Minute + 2*goal, 3600 * time.Millisecond},
		{"a store for five minutes that takes most of the goal, then", paceRun{commit: slowUntil(6*time.Minute, goal*3/4)}, 6*time.Minute + 2*goal, 3500 * time.Millisecond},
		{"late producers, after a slow store", paceRun{commit: slowUntil(2*time.Minute, 2*goal), late: late(goal * 6 / 10)}, 2*time.Minute + 3*goal, 700 * time.Millisecond},
		{"late producers, and one slow flush", paceRun{commit: func(_ time.Duration, n int) time.Duration {
			if n == 100 {
				return goal * 8 / 10
			}
			return quick(n)
		}, late: late(goal * 52 / 100)}, none, 1100 * time.Millisecond},
		{"messages that are nearly too late", paceRun{commit: always(50 * time.Millisecond), late: late(goal * 9 / 10)}, none, 300 * time.Millisecond},
		{"each eighth flush takes most of the goal", paceRun{commit: func(_ time.Duration, n int) time.Duration {
			if n%8 == 7 {
				return goal * 7 / 10
			}
			return 200 * time.Millisecond
		}}, goal, time.Second},
		{"one flush in a hundred is far too slow", paceRun{commit: func(_ time.Duration, n int) time.Duration {
			if n == 100 {
				return 3 * goal
			}
			return 200 * time.Millisecond
		}}, none, 4400 * time.Millisecond},
		{"bursts of two seconds, and flushes that take half the goal", paceRun{commit: always(goal / 2), comes: each(20*time.Second, 2*time.Second)}, none, 20 * time.Second},
		{"a message now and then, and flushes that take most of the goal", paceRun{commit: always(goal * 4 / 5), comes: each(30*time.Second, one)}, 30 * time.Second, 30 * time.Second},
		{"a message now and then, after a slow store", paceRun{commit: slowUntil(10*time.Minute, 2*goal), comes: each(30*time.Second, one)}, 10 * time.Minute, 30 * time.Second},
	} {
		config := batch.DefaultConfig()
		config.Mode, config.Freshness = batch.ModeAdaptive, goal
		missed, commits := c.run.under(config, c.from, goal)
		if missed > 0.01 {
			t.Errorf("%s: %.1f%% of the messages are older than the goal", c.name, 100*missed)
		}
		if most := int((paceRunFor-c.from)/c.waits) + 1; commits > most {
			t.Errorf("%s: %d flushes, %d would do", c.name, commits, most)
		}
	}
}

// TestAdaptivePaceNeedsFewerFlushes than the fixed interval that people would set for the same goal.
func TestAdaptivePaceNeedsFewerFlushes(t *testing.T) {
	const goal = 5 * time.Second
	run := paceRun{commit: func(_ time.Duration, n int) time.Duration {
		return 300*time.Millisecond + time.Duration(n%7)*100*time.Millisecond
	}}
	adaptive, fixed := batch.DefaultConfig(), batch.DefaultConfig()
	adaptive.Mode, adaptive.Freshness = batch.ModeAdaptive, goal
	fixed.Interval = goal / 2
	_, commits := run.under(adaptive, 0, goal)
	if _, others := run.under(fixed, 0, goal); commits >= others {
		t.Errorf("%d flushes, a fixed interval of %v makes %d", commits, fixed.Interval, others)
	}
}

// TestAdaptivePaceOfAStreamThatIsBehind makes large files first.
func TestAdaptivePaceOfAStreamThatIsBehind(t *testing.T) {
	config := batch.DefaultConfig()
	config.Mode = batch.ModeAdaptive
	run := paceRun{
		commit: func(time.Duration, int) time.Duration { return 200 * time.Millisecond },
		late:   func(time.Duration) time.Duration { return time.Hour },
	}
	if _, commits := run.under(config, 0, config.Freshness); commits > int(paceRunFor/config.Interval) {
		t.Errorf("%d flushes of messages that are too old for the goal", commits)
	}
}

var settingRow = regexp.MustCompile(`^\| (.*\x60flush: \{(.*)\}\x60.*|the default .*) \| ([0-9,]+) \| ([0-9,]+) \| ([0-9.]+) \|$`)

// TestCostsOfSettings holds docs/storage.md to what it says that settings cost in an hour: a flush is three writes (TestCosts), and every 100th
// has a log checkpoint of three more. Flushes take 0.3 s, and a million writes five dollars.
func TestCostsOfSettings(t *testing.T) {
	guide, err := os.ReadFile("../docs/storage.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(guide)) {
		cells := settingRow.FindStringSubmatch(strings.TrimSpace(line))
		if cells == nil {
			continue
		}
		rows++
		p := pace{Config: batch.DefaultConfig()}
		for setting := range strings.SplitSeq(cells[2], ", ") {
			key, value, _ := strings.Cut(setting, ": ")
			switch key {
			case "mode":
				p.Mode = value
			case "interval":
				p.Interval, err = time.ParseDuration(value)
			case "freshness":
				p.Freshness, err = time.ParseDuration(value)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		p.flushed(300 * time.Millisecond)
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		flushes := time.Hour.Seconds() / p.by(now, now).Sub(now).Seconds()
		writes := flushes * 3 * 1.01
		for i, want := range []float64{flushes, writes, writes * 5 / 1e6} {
			got, err := strconv.ParseFloat(strings.ReplaceAll(cells[3+i], ",", ""), 64)
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(got-want) > max(want/25, 0.00005) {
				t.Errorf("docs/storage.md says %s in the row %q, it is %.5f", cells[3+i], cells[1], want)
			}
		}
	}
	if rows < 6 {
		t.Errorf("docs/storage.md has %d settings with their costs, want 6", rows)
	}
}

// TestReach is what by calls too old, for any flushes so far.
func TestReach(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, flushes := range [][]time.Duration{nil, {0}, {time.Second, 3 * time.Second}, {7 * time.Second}, {9 * time.Second, time.Minute}, {time.Minute}} {
		c := batch.DefaultConfig()
		c.Mode, c.Freshness, c.Interval = batch.ModeAdaptive, 16*time.Second, time.Minute
		p := pace{Config: c}
		for _, took := range flushes {
			p.flushed(took)
		}
		for age := time.Duration(0); age < 20*time.Second; age += 100 * time.Millisecond {
			if held := p.by(now, now.Add(-age)).Sub(now) < time.Minute; held != (age <= p.reach()) {
				t.Errorf("after flushes of %v a message of %v is held: %v, and the reach is %v", flushes, age, held, p.reach())
			}
		}
	}
}
