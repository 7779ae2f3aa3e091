package pipeline

import (
	"math"
	"os"
	"regexp"
	"slices"
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
	check("so late that a flush right away is in time", 14*time.Second, 4*time.Second)
	check("too old to be held", 17*time.Second, 16*time.Second)
	p.flushed(2 * time.Second)
	p.flushed(time.Second)
	check("new, where flushes took two seconds", 0, 13*time.Second)
	p.flushed(time.Minute)
	check("new, where they took longer than the goal", 0, 4*time.Second)
	check("late, where one took longer than the goal", 9*time.Second, 4*time.Second)
	for range paceMemory {
		p.flushed(time.Minute)
	}
	check("late, where all took longer than the goal", 9*time.Second, 16*time.Second)
	for range paceMemory {
		p.flushed(time.Second)
	}
	check("new, once that is forgotten", 0, 14*time.Second)
	p.Interval = 20 * time.Second
	check("too old, with a longer interval", 17*time.Second, 20*time.Second)
}

// TestAdaptivePaceHoldsTheGoal lets messages come and flushes take their time, in a clock of its own: the goal is held, with fewer
// commits than a fixed interval needs for the same.
func TestAdaptivePaceHoldsTheGoal(t *testing.T) {
	const goal = 5 * time.Second
	commit := func(n int) time.Duration { return 300*time.Millisecond + time.Duration(n%7)*100*time.Millisecond }
	run := func(c batch.Config, late time.Duration, commit func(int) time.Duration) (p99 time.Duration, commits int) {
		p := pace{Config: c}
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		var ages []time.Duration
		var waiting []time.Time
		var deadline, busy time.Time
		for now := start; now.Before(start.Add(10 * time.Minute)); now = now.Add(20 * time.Millisecond) {
			made := now.Add(-late)
			if by := p.by(now, made); len(waiting) == 0 || by.Before(deadline) {
				deadline = by
			}
			waiting = append(waiting, made)
			if now.Before(deadline) || now.Before(busy) {
				continue
			}
			took := commit(commits)
			busy = now.Add(took)
			for _, made := range waiting {
				ages = append(ages, busy.Sub(made))
			}
			waiting = waiting[:0]
			p.flushed(took)
			commits++
		}
		slices.Sort(ages)
		return ages[len(ages)*99/100], commits
	}
	adaptive := batch.DefaultConfig()
	adaptive.Mode, adaptive.Freshness = batch.ModeAdaptive, goal
	const soon = 50 * time.Millisecond
	age, commits := run(adaptive, soon, commit)
	if age > goal {
		t.Errorf("99%% of the messages are at most %v old, the goal is %v", age, goal)
	}
	if age < goal*3/4 {
		t.Errorf("99%% of the messages are at most %v old: the goal of %v is held with too many commits", age, goal)
	}
	fixed := batch.DefaultConfig()
	fixed.Interval = goal / 2 // a usual guess
	if _, others := run(fixed, soon, commit); commits >= others {
		t.Errorf("%d commits, a fixed interval of %v makes %d", commits, fixed.Interval, others)
	}
	slowOnce := func(n int) time.Duration {
		if n == 100 {
			return 4 * time.Second
		}
		return commit(n)
	}
	if age, _ := run(adaptive, goal/2+100*time.Millisecond, slowOnce); age > goal*11/10 {
		t.Errorf("99%% of the messages of producers that are late are at most %v old, the goal is %v: a slow flush gives up those after it", age, goal)
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
