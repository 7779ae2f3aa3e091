package model

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"time"
)

// Bounds say how much of the world is explored. Within them nothing is left out.
type Bounds struct {
	Workers, Partitions   int
	Messages              int8 // in each partition
	Versions              int8 // of the table's log
	Combining, Pipelining bool
	Pin                   bool  // the stream has not started: starts are to be pinned, under the policy `latest`
	Added                 bool  // partition 1 was added to the topic, and nothing of it is in the table
	Twins                 bool  // partition 1 is the first one again, by another stream: one of the two may begin
	Markers               bool  // the last offset is a control record, and a partition that has lost messages is refused
	DeadMask              uint8 // places that are dead letters
	Tables                int   // that they go to, as rows of a catalog; 0: to the one dead-letter table
	Budget                Budget
	Live                  bool // look from every state whether the rest can still be brought into the table
}

// Model is the protocol within bounds, whole or without one rule.
type Model struct {
	Bounds
	Without Rule

	plain bool         // states are not brought into one form, so that a test can tell whether that loses any
	watch func(*State) // is shown every state, for the same test
	full  bool         // a State had no room for what a step would have added: something was left out
}

func (m *Model) lacks(r Rule) bool { return m.Without == r }

// first is the table before its first version.
func (m *Model) first() Table {
	var t Table
	if m.Pin {
		t.Txn = [maxPartitions]int8{absent, absent}
	}
	if m.Added {
		t.Txn[1] = absent
	}
	if m.Budget.Cut > 0 { // its first message was brought by another program, which knew of no leader epochs
		t.Txn[0] = 1
		if m.Budget.Refresh > 0 { // or by this one
			t.Epoch = 1
		}
	}
	return t
}

func (m *Model) start() State {
	s := State{Left: m.Budget, Last: absent}
	if m.Budget.Cut > 0 {
		s.Rows[0] = 1
	}
	if m.Pin {
		s.Start = [maxPartitions]int8{absent, absent}
	}
	return s
}

// next yields every state that one step leads to.
func (m *Model) next(s *State, emit func(*State, Step)) {
	for w := range m.Workers {
		if w > 0 && s.Workers[w] == s.Workers[w-1] && !m.plain {
			continue // like its neighbour in all it knows
		}
		m.workerSteps(s, w, emit)
	}
	m.storeSteps(s, emit)
	m.otherSteps(s, emit)
}

// alike tells whether there are two partitions of which nothing tells one from the other.
func (b *Bounds) alike() bool {
	return b.Partitions == 2 && b.DeadMask == 0 && !b.Added && b.Budget.Retain == 0 && b.Budget.Cut == 0
}

// Result is what an exploration has found.
type Result struct {
	States    int
	Depth     int       // steps of the longest shortest way to a state
	Complete  int       // states in which every message is in the table
	Violation Violation // Fine: none within the bounds
	Trace     []string  // the shortest story that leads to it
	Cut       bool      // the limit of states was reached before all were seen
	Full      bool      // a State was too small for the bounds
	Steps     [opCount]int
	Arrivals  [3]int // of awaited puts: lands, exists, lands unseen
	Took      time.Duration
}

// explorer is one exploration.
type explorer struct {
	*Model
	seed maphash.Seed
	seen seen
}

// normal brings a state into the form that stands for all that differ in names alone, and hashes it. Where partitions are
// alike, the smaller hash of the state and its mirror image stands for both.
func (x *explorer) normal(s *State) uint64 {
	x.tidy(s)
	if x.plain {
		return maphash.Comparable(x.seed, *s)
	}
	x.canonical(s)
	h := maphash.Comparable(x.seed, *s)
	if x.alike() {
		r := s.mirrored()
		x.canonical(&r)
		h = min(h, maphash.Comparable(x.seed, r))
	}
	return h
}

// Explore visits every state within the bounds, breadth first, until one violates an invariant or limit states were seen.
func (m *Model) Explore(limit int) Result {
	begun := time.Now()
	x := explorer{Model: m, seed: maphash.MakeSeed()}
	r := Result{}
	first := m.start()
	index, _ := x.seen.add(x.normal(&first), 0)
	var now, deeper level
	now.add(&first, index)
	for len(now) > 0 && r.Violation == Fine && !r.Cut {
		for i, part := range now {
			now[i] = nil
			for len(part) > 0 && r.Violation == Fine {
				var s State
				index, part = unpack(&s, part)
				x.expand(&s, index, &deeper, &r)
			}
			r.Cut = x.seen.n > limit
			if r.Cut || r.Violation != Fine {
				break
			}
		}
		if len(deeper) > 0 {
			r.Depth++
		}
		now, deeper = deeper, nil
	}
	r.States, r.Full, r.Took = x.seen.n, m.full, time.Since(begun)
	return r
}

// expand finds the states one step on.
func (x *explorer) expand(from *State, parent uint32, deeper *level, r *Result) {
	if done, _ := x.complete(from); done {
		r.Complete++
	}
	if x.watch != nil {
		x.watch(from)
	}
	x.next(from, func(s *State, step Step) {
		if r.Violation != Fine {
			return
		}
		r.Steps[step.Op]++
		if step.Op == opArrive {
			r.Arrivals[step.A]++
		}
		bad := x.check(s)
		index, isNew := x.seen.add(x.normal(s), parent)
		if !isNew {
			return
		}
		if bad == Fine && x.Live && x.looksOn() && !x.completes(*s) {
			bad = Stuck
		}
		if bad != Fine {
			r.Violation = bad
			r.Trace = x.story(index, bad)
			return
		}
		deeper.add(s, index)
	})
}

// looksOn tells whether it is asked of each state if the rest can still be brought in: the other mutants break something before.
func (m *Model) looksOn() bool {
	return m.Without == nothing || m.lacks(a3) || m.lacks(k2) || m.lacks(k6)
}

// story follows the hashes back from a state and tells the steps that lead to it. It walks without renaming anything, so
// that a worker keeps its name.
func (x *explorer) story(index uint32, bad Violation) []string {
	var path []uint32
	for i := index; i != 0; i = x.seen.parents[i/chunk][i%chunk] {
		path = append(path, i)
	}
	now := x.start()
	names := newNames()
	var lines []string
	for _, i := range slices.Backward(path) {
		want := x.seen.hash(i)
		found := false
		from := now
		x.allWorkers(&from, func(s *State, step Step) {
			if found {
				return
			}
			after := *s
			normal := *s
			if x.normal(&normal) != want {
				return
			}
			found = true
			x.tidy(&after)
			lines = append(lines, names.tell(&from, s, step, x.Partitions))
			now = after
		})
		if !found {
			return append(lines, "(the way is lost here: two states share a hash)")
		}
	}
	return append(lines, "=> "+bad.String())
}

// allWorkers is next without leaving out workers that are alike, which are found only where neighbours are sorted.
func (m *Model) allWorkers(s *State, emit func(*State, Step)) {
	for w := range m.Workers {
		m.workerSteps(s, w, emit)
	}
	m.storeSteps(s, emit)
	m.otherSteps(s, emit)
}

func (r Result) String() string {
	if r.Violation != Fine {
		return fmt.Sprintf("%s, after %d steps (%d states, %s):\n   %s",
			r.Violation, len(r.Trace)-1, r.States, r.Took.Round(time.Millisecond), strings.Join(r.Trace, "\n   "))
	}
	if r.Full {
		return "a State is too small for these bounds"
	}
	if r.Cut {
		return fmt.Sprintf("cut off at %d states (%s)", r.States, r.Took.Round(time.Millisecond))
	}
	return fmt.Sprintf("no violation in all %d states, %d steps deep, %d with every message in the table (%s)",
		r.States, r.Depth, r.Complete, r.Took.Round(time.Millisecond))
}
