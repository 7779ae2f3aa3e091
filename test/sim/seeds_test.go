package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	usualSeeds = 60
	racedSeeds = 20
	repeated   = 8 // that live twice
	// lifeLimit is how long a world may take, of real time: one that does not get on ends there. Most take half a second.
	lifeLimit = 5 * time.Minute
)

// errStill is of a world that has not come to its end.
var errStill = errors.New("the world does not come to its end")

// live lets the world of a seed live in a process of its own, and returns its result and all that the process has said. The
// error is errStill, or says that the world broke down: it panicked, in the code that is simulated or in the simulation.
func live(ctx context.Context, binary string, seed uint64) (result, string, error) {
	limited, cancel := context.WithTimeout(ctx, lifeLimit)
	defer cancel()
	command := exec.CommandContext(limited, binary)
	command.Args = []string{"sim", "-test.run", "^TestWorld$", "-test.timeout", "0", "-trace", "-seed", fmt.Sprint(seed)}
	command.Dir = string(filepath.Separator)
	if command.Env = os.Environ(); !raceEnabled {
		command.Env = repeating(seed)
	}
	out, err := command.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if text, ok := strings.CutPrefix(line, resultMark); ok {
			var r result
			err := json.Unmarshal([]byte(text), &r)
			return r, string(out), err
		}
	}
	if limited.Err() != nil && ctx.Err() == nil {
		return result{Seed: seed}, string(out), fmt.Errorf("seed %d: %w within %v", seed, errStill, lifeLimit)
	}
	return result{Seed: seed}, string(out), fmt.Errorf("the world of seed %d broke down: %s (%w)", seed, lastLine(out), err)
}

// repeating is the environment in which a seed repeats. There is nothing of this process's, since that would move addresses. Hashes are
// made without AES, the same on every processor. The garbage collection begins only where a world needs far more memory than any
// does that comes to its end.
func repeating(seed uint64) []string {
	return []string{seedVariable + "=" + fmt.Sprint(seed), "GOMAXPROCS=1", "GOGC=off", "GOMEMLIMIT=2GiB", "GODEBUG=cpu.aes=off"}
}

// lastLine is the head of a panic, or the last line of what a process has said.
func lastLine(out []byte) string {
	last := ""
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") {
			return strings.TrimSpace(line)
		}
		if strings.TrimSpace(line) != "" {
			last = strings.TrimSpace(line)
		}
	}
	return last
}

// TestSeeds lets whole connectors live in the worlds of many seeds: crashes, frozen processes that wake as zombies, networks that
// are cut, answers that are lost, a store that is slow, workers that come and go, and others who change the table. Each
// message must be in it once, whatever happens. A failing seed is repeated, exactly, by -seeds 1 -seed N.
func TestSeeds(t *testing.T) {
	if channelMutexes {
		t.Skip("TestWorld runs")
	}
	number, how, changes, args := uint64(usualSeeds), "each repeats exactly", slices.Concat(repeatable, smaller), []string(nil)
	if raceEnabled { // there is a race to be found only where goroutines run beside each other
		number, how, changes, args = racedSeeds, "under the race detector, which repeats nothing", smaller, []string{"-race"}
	}
	if *seeds != 0 {
		number = uint64(*seeds)
	}
	commit, err := exec.CommandContext(t.Context(), "git", "describe", "--always", "--dirty").Output()
	if err != nil && *saved != "" {
		t.Fatal(err)
	}
	binary := build(t, changes, args...)
	if number > 1 && !raceEnabled {
		repeats(t, binary)
	}
	var total counts
	var broken []uint64
	begun := time.Now()
	var mu sync.Mutex
	var wait sync.WaitGroup
	var next atomic.Uint64
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for s := next.Add(1) - 1; s < number && t.Context().Err() == nil; s = next.Add(1) - 1 {
				r, out, err := live(t.Context(), binary, *seed+s)
				mu.Lock()
				total.add(r.Counts)
				bad := err != nil || len(r.Faults) > 0
				if *tell || bad && len(broken) == 0 {
					t.Log(out)
				}
				if bad {
					broken = append(broken, r.Seed)
					t.Errorf("seed %d: %v %s; again: go test ./test/sim -run TestSeeds -seeds 1 -seed %d", r.Seed, err, strings.Join(r.Faults, "; "), r.Seed)
				}
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	t.Logf("%d seeds: %+v", number, total)
	save(t, strings.TrimSpace(string(commit)), number, broken, total, time.Since(begun), how)
	if number >= 100 && len(broken) == 0 {
		for what, n := range total.all() {
			if *n == 0 {
				t.Errorf("nothing of it happened in %d seeds: %s", number, what)
			}
		}
	}
}

// repeats runs seeds twice: every line of the trace is the same, and no two seeds have the same.
func repeats(t *testing.T, binary string) {
	t.Helper()
	seen := map[string]uint64{}
	for s := *seed; s < *seed+repeated; s++ {
		first, one, err := live(t.Context(), binary, s)
		if err != nil {
			t.Fatalf("%v\n%s", err, one)
		}
		second, two, err := live(t.Context(), binary, s)
		if err != nil {
			t.Fatalf("%v\n%s", err, two)
		}
		if first.Trace != second.Trace {
			t.Fatalf("seed %d was different the second time: traces %s and %s", s, first.Trace, second.Trace)
		}
		if other, same := seen[first.Trace]; same {
			t.Fatalf("the seeds %d and %d have the same trace", s, other)
		}
		seen[first.Trace] = s
	}
}

// save writes down what happened in all seeds, below what is there already.
func save(t *testing.T, commit string, number uint64, broken []uint64, total counts, took time.Duration, how string) {
	t.Helper()
	if *saved == "" {
		return
	}
	verdict := "Each message was in the table once, in every one."
	if len(broken) > 0 {
		slices.Sort(broken)
		verdict = fmt.Sprintf("These broke an invariant: %v.", broken)
	}
	text := fmt.Sprintf("## Seeds %d to %d\n\nOf %s, %s, %s, %s/%s, in %v with %d at a time; %s. %s\n\n| what happened | times |\n|---|---|\n",
		*seed, *seed+number-1, commit, time.Now().UTC().Format(time.DateOnly), runtime.Version(), runtime.GOOS, runtime.GOARCH,
		took.Round(time.Second), runtime.GOMAXPROCS(0), how, verdict)
	all := total.all()
	for _, what := range slices.Sorted(maps.Keys(all)) {
		text += fmt.Sprintf("| %s | %d |\n", what, *all[what])
	}
	file, err := os.OpenFile(*saved, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(text + "\n"); err != nil {
		t.Error(err)
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}
}
