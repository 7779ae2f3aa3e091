package model

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	bounds  = flag.String("bounds", "usual", "`size` of the largest worlds to explore: small (seconds), usual (a minute), large (hours)")
	results = flag.String("results", "", "`file` to write what was explored to")
)

// TestWorlds explores every world up to the size asked for: the rules, whole, have no violation in it, from every state the
// rest of the messages can still get into the table, and nothing was left out.
func TestWorlds(t *testing.T) {
	size, ok := map[string]Size{"small": Small, "usual": Usual, "large": Large}[*bounds]
	if !ok {
		t.Fatalf("-bounds %q: small, usual or large", *bounds)
	}
	if raceEnabled {
		size = Small // one goroutine, nothing shared: -race finds nothing here, and takes ten times as long
	}
	report := &strings.Builder{}
	var steps [opCount]int
	var arrivals [3]int
	ran, all := 0, 0
	for _, w := range Worlds {
		if w.Size > size {
			continue
		}
		all++
		t.Run(strings.ReplaceAll(w.Name, " ", "_"), func(t *testing.T) {
			m := Model{Bounds: w.Bounds}
			r := m.Explore(1 << 31)
			t.Logf("%s: %s", w.Shows, r)
			if r.Violation != Fine || r.Cut || r.Full {
				t.Errorf("want no violation and nothing left out")
			}
			if r.Complete == 0 {
				t.Error("no state has every message in the table: nothing was shown")
			}
			if t.Failed() {
				return
			}
			ran++
			fmt.Fprint(report, line(w, r))
			if *results != "" { // after each, since the next may take hours
				if err := os.WriteFile(*results, []byte(header()+report.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			for i, n := range r.Steps {
				steps[i] += n
			}
			for i, n := range r.Arrivals {
				arrivals[i] += n
			}
		})
	}
	if ran < all {
		return // -run has chosen some
	}
	for op, n := range steps {
		if mutants := slices.Contains([]Op{opRestamp, opOwed, opTake, opForget}, Op(op)); (n > 0) == mutants {
			t.Errorf("step %d happened %d times", op, n)
		}
	}
	for a, n := range arrivals {
		if n == 0 {
			t.Errorf("no put %s", [...]string{"lands", "loses", "lands unseen"}[a])
		}
	}
}

// header begins a file of results.
func header() string {
	return fmt.Sprintf(`# Worlds explored whole, without a violation

Made by `+"`go test -run TestWorlds -timeout 12h ./test/model -bounds %s -results FILE`"+` on %s, %s/%s, %s, one core, which other
programs shared. W workers, P partitions, M messages in each, at most V versions; then how often each may happen: a = claims
(each ends by itself, in a crash, or goes on as a zombie), l = lost answers, t = puts that arrive twice, rw = rewinds, rf = refreshes,
cl = cleanups of the log, md = schema changes, rs = RESTORE, ag = files growing old, vc = VACUUM, ex = expired txns, nw = newer
programs, rp = replays, rt = messages that retention removes, en = the stream's end, rm = removed tables, ct = catalogs made anew, lc = logs of Kafka that are cut back or made anew, cj = clocks that jump,
ot = other configurations, sw = proposals that expire, lt = rewinds that lead to another topic. Memory is what the process has taken from the system so far.

| world | bounds | states | steps | complete | time | memory |
|---|---|---|---|---|---|---|
`, *bounds, time.Now().UTC().Format(time.DateOnly), runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// line is one world in a file of results.
func line(w World, r Result) string {
	b := w.Bounds
	text := fmt.Sprintf("W%d P%d M%d V%d", b.Workers, b.Partitions, b.Messages, b.Versions)
	for _, what := range []struct {
		on   bool
		name string
	}{{b.Combining, "combining"}, {b.Pipelining, "pipelining"}, {b.Pin, "pinning"}, {b.Added, "an added partition"}, {b.Twins, "two streams"}, {b.Markers, "control records"}, {b.DeadMask != 0 && b.Tables == 0, "dead letters"}, {b.Tables > 0, "tables"}, {b.Live, "live"}} {
		if what.on {
			text += ", " + what.name
		}
	}
	u := b.Budget
	for _, what := range []struct {
		n    int8
		name string
	}{
		{u.Acquire, "a"}, {u.Lost, "l"}, {u.Twice, "t"}, {u.Rewind, "rw"}, {u.Refresh, "rf"}, {u.Clean, "cl"}, {u.Meta, "md"}, {u.Restore, "rs"},
		{u.Age, "ag"}, {u.Vacuum, "vc"}, {u.Expire, "ex"}, {u.Newer, "nw"}, {u.Replay, "rp"}, {u.Retain, "rt"}, {u.End, "en"}, {u.Remove, "rm"}, {u.Anew, "ct"}, {u.Cut, "lc"}, {u.Jump, "cj"}, {u.Other, "ot"}, {u.Sweep, "sw"}, {u.Lead, "lt"},
	} {
		if what.n > 0 {
			text += fmt.Sprintf(", %d %s", what.n, what.name)
		}
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	return fmt.Sprintf("| %s: %s | %s | %d | %d | %d | %s | %d MiB |\n",
		w.Name, w.Shows, text, r.States, r.Depth, r.Complete, r.Took.Round(time.Second/10), mem.Sys>>20)
}

// TestMutants takes one rule away at a time: each time the table breaks as the rule says, by a story of known length.
func TestMutants(t *testing.T) {
	for _, mutant := range Mutants {
		t.Run(mutant.ID, func(t *testing.T) {
			m := Model{Bounds: mutant.Bounds, Without: mutant.Rule}
			r := m.Explore(2_000_000)
			t.Logf("%s: %s", mutant.Instead, r)
			if r.Violation != mutant.Breaks {
				t.Errorf("without the rule: %s, want: %s", r.Violation, mutant.Breaks)
			}
			if steps := len(r.Trace) - 1; steps != mutant.Steps {
				t.Errorf("the shortest story has %d steps, want %d", steps, mutant.Steps)
			}
			if strings.Contains(strings.Join(r.Trace, "\n"), "lost here") {
				t.Error("the story breaks off")
			}
		})
	}
}

// TestWorldsOfMutants: each mutant shows in a world that is explored with all rules as well.
func TestWorldsOfMutants(t *testing.T) {
	for _, mutant := range Mutants {
		found := false
		for _, w := range Worlds {
			found = found || w.Bounds == mutant.Bounds
		}
		if !found {
			t.Errorf("%s: its bounds are those of no world", mutant.ID)
		}
	}
	for r := nothing + 1; r < ruleCount; r++ {
		n := 0
		for _, mutant := range Mutants {
			if mutant.Rule == r {
				n++
			}
		}
		if n != 1 {
			t.Errorf("rule %d has %d mutants, want 1", r, n)
		}
	}
}

// seenByReaders is what people outside can tell of a state.
type seenByReaders struct {
	versions, cleaned int8
	gone              [maxPartitions]int8
	counted           uint8
	table             Table
	rows              [maxPartitions]uint8
	start             [maxPartitions]int8
	expired           uint8
	dead              DeadLetters
	left              Budget
}

func lookFromOutside(m *Model, s *State) seenByReaders {
	dead := s.Dead
	for p := range dead.Slot {
		dead.Slot[p] = min(dead.Slot[p], 1) // whose it is goes by names
	}
	return seenByReaders{s.Versions, s.Cleaned, s.Gone, s.Counted, s.at(s.Versions, m.first()), s.Rows, s.Start, s.Expired, dead, s.Left}
}

// TestReductionLosesNothing explores some worlds without the renaming and forgetting that makes states few, and finds the
// same tables, logs and leftovers.
func TestReductionLosesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("one goroutine: -race finds nothing here")
	}
	for _, w := range Worlds {
		if w.Size > Small || w.Bounds.Budget.Restore > 0 || w.Name == "dead letters" || w.Name == "combining" {
			continue // millions of states
		}
		t.Run(strings.ReplaceAll(w.Name, " ", "_"), func(t *testing.T) {
			b := w.Bounds
			b.Live = false
			views := func(plain bool) (map[seenByReaders]bool, Result) {
				all := map[seenByReaders]bool{}
				m := Model{Bounds: b, plain: plain}
				m.watch = func(s *State) {
					all[lookFromOutside(&m, s)] = true
					if b.alike() {
						r := s.mirrored()
						all[lookFromOutside(&m, &r)] = true
					}
				}
				r := m.Explore(3_000_000)
				return all, r
			}
			want, plain := views(true)
			got, reduced := views(false)
			t.Logf("plain: %s\nreduced: %s\n%d views", plain, reduced, len(want))
			if plain.Violation != Fine || plain.Cut || plain.Full {
				t.Fatalf("plain: %s", plain)
			}
			for view := range want {
				if !got[view] {
					t.Fatalf("of %d views %d are left; missing: %+v", len(want), len(got), view)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%d views, want %d", len(got), len(want))
			}
		})
	}
}
