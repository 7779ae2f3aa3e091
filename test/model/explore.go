package model

import (
	"fmt"
	"hash/maphash"
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
	DeadMask              uint8 // offsets of partition 0 that are dead letters
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
	return t
}

func (m *Model) start() State {
	s := State{Left: m.Budget}
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

// Result is what an exploration has found.
type Result struct {
	States    int
	Depth     int       // steps of the longest shortest way to a state
	Complete  int       // states in which every message is in the table
	Violation Violation // Fine: none within the bounds
	Trace     []string  // the shortest story that leads to it
	Cut       bool      // the limit of states was reached before all were seen
	Full      bool      // a State was too small for the bounds
	Took      time.Duration
}

// seen remembers states by a 64-bit hash: of a hundred million states, the chance that any two share one is 3 in 10,000.
// It keeps from which state each was reached first.
type seen struct {
	slots   []uint32 // index + 1 into hashes, open addressing
	hashes  [][]uint64
	parents [][]uint32
	n       int
}

const chunk = 1 << 20

func (t *seen) hash(i uint32) uint64 { return t.hashes[i/chunk][i%chunk] }

// add reports the index of the state, and whether it is new.
func (t *seen) add(h uint64, parent uint32) (uint32, bool) {
	if 4*(t.n+1) > 3*len(t.slots) {
		t.grow()
	}
	for i := h & uint64(len(t.slots)-1); ; i = (i + 1) & uint64(len(t.slots)-1) {
		switch at := t.slots[i]; {
		case at == 0:
			if t.n%chunk == 0 {
				t.hashes = append(t.hashes, make([]uint64, chunk))
				t.parents = append(t.parents, make([]uint32, chunk))
			}
			t.hashes[t.n/chunk][t.n%chunk], t.parents[t.n/chunk][t.n%chunk] = h, parent
			t.n++
			t.slots[i] = uint32(t.n)
			return uint32(t.n - 1), true
		case t.hash(at-1) == h:
			return at - 1, false
		}
	}
}

func (t *seen) grow() {
	t.slots = make([]uint32, max(1<<16, 2*len(t.slots)))
	for j := range uint32(t.n) {
		i := t.hash(j) & uint64(len(t.slots)-1)
		for t.slots[i] != 0 {
			i = (i + 1) & uint64(len(t.slots)-1)
		}
		t.slots[i] = j + 1
	}
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
	if x.Partitions == 2 && x.DeadMask == 0 {
		r := s.mirrored()
		x.canonical(&r)
		h = min(h, maphash.Comparable(x.seed, r))
	}
	return h
}

// node is a state to go on from, with its index in seen.
type node struct {
	state State
	index uint32
}

// level is a queue of nodes, in parts that are let go of as they are done.
type level [][]node

func (l *level) add(n node) {
	if last := len(*l) - 1; last >= 0 && len((*l)[last]) < cap((*l)[last]) {
		(*l)[last] = append((*l)[last], n)
		return
	}
	*l = append(*l, append(make([]node, 0, 1024), n))
}

// Explore visits every state within the bounds, breadth first, until one violates an invariant or limit states were seen.
func (m *Model) Explore(limit int) Result {
	begun := time.Now()
	x := explorer{Model: m, seed: maphash.MakeSeed()}
	r := Result{}
	first := m.start()
	index, _ := x.seen.add(x.normal(&first), 0)
	var now, deeper level
	now.add(node{first, index})
	for len(now) > 0 && r.Violation == Fine && !r.Cut {
		for i := range now {
			for j := range now[i] {
				x.expand(&now[i][j], &deeper, &r)
			}
			now[i] = nil
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
func (x *explorer) expand(from *node, deeper *level, r *Result) {
	if done, _ := x.complete(&from.state); done {
		r.Complete++
	}
	if x.watch != nil {
		x.watch(&from.state)
	}
	x.next(&from.state, func(s *State, _ Step) {
		if r.Violation != Fine {
			return
		}
		bad := x.check(s)
		index, isNew := x.seen.add(x.normal(s), from.index)
		if !isNew {
			return
		}
		if bad == Fine && x.Live && (x.Without == nothing || x.Without == a3) && !x.completes(*s) {
			bad = Stuck
		}
		if bad != Fine {
			r.Violation = bad
			r.Trace = x.story(index, bad)
			return
		}
		deeper.add(node{*s, index})
	})
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
	for i := len(path) - 1; i >= 0; i-- {
		want := x.seen.hash(path[i])
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
