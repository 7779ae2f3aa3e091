//go:build !wasip1

package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// machine runs this package's test binary in a virtual machine for WebAssembly. A Go program has one thread there, and gets
// its randomness (of maps, select, ids and waits) and its clock from the host, so that a seed decides everything: two runs of
// it are the same to the last letter. Each seed gets a machine of its own.
type machine struct {
	runtime wazero.Runtime
	module  wazero.CompiledModule
}

// newMachine builds and compiles the test binary, which takes about a minute of one core.
func newMachine(t *testing.T) *machine {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "sim.wasm")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "synctests", "-o", binary, ".")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the worlds for WebAssembly: %v\n%s", err, out)
	}
	code, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	ctx := experimental.WithCompilationWorkers(t.Context(), runtime.GOMAXPROCS(0))
	m := &machine{runtime: wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())}
	t.Cleanup(func() {
		if err := m.runtime.Close(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, m.runtime); err != nil {
		t.Fatal(err)
	}
	if m.module, err = m.runtime.CompileModule(ctx, code); err != nil {
		t.Fatalf("compiling the worlds: %v", err)
	}
	return m
}

// run lets the world of a seed live. The error says that it could not: it panicked, or stood still.
func (m *machine) run(ctx context.Context, seed uint64, args ...string) (result, string, error) {
	var out bytes.Buffer
	config := wazero.NewModuleConfig().WithName("").WithStdout(&out).WithStderr(&out).WithRandSource(&randomness{rnd: mathrand.New(mathrand.NewPCG(seed, 3))}).
		WithArgs(append([]string{"sim", "-test.run", "^TestWorld$", "-seeds", "1", "-seed", fmt.Sprint(seed)}, args...)...)
	instance, err := m.runtime.InstantiateModule(ctx, m.module, config)
	if instance != nil {
		err = errors.Join(err, instance.Close(ctx))
	}
	for line := range strings.Lines(out.String()) {
		if text, ok := strings.CutPrefix(line, resultMark); ok {
			var r result
			err := json.Unmarshal([]byte(text), &r)
			return r, out.String(), err
		}
	}
	return result{Seed: seed}, out.String(), fmt.Errorf("the world of seed %d ended without a result: %w", seed, err)
}

// randomness is what a machine takes for the system's.
type randomness struct{ rnd *mathrand.Rand }

func (r *randomness) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r.rnd.Uint32())
	}
	return len(p), nil
}

// TestSeeds lets whole connectors live in the worlds of many seeds: crashes, frozen processes that wake as zombies, networks that
// are cut, answers that are lost, a store that is slow, workers that come and go, and others who change the table. Each
// message must be in it once, whatever happens. A failing seed is repeated, exactly, by -seeds 1 -seed N.
func TestSeeds(t *testing.T) {
	if channelMutexes {
		t.Skip("TestWorld runs")
	}
	if raceEnabled {
		raced(t)
		return
	}
	number := uint64(*seeds)
	if number == 0 {
		number = 300
	}
	m := newMachine(t)
	if number > 1 {
		repeats(t, m)
	}
	var total counts
	begun := time.Now()
	var mu sync.Mutex
	var wait sync.WaitGroup
	var next atomic.Uint64
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for s := next.Add(1) - 1; s < number && !t.Failed(); s = next.Add(1) - 1 {
				var args []string
				if *tell {
					args = []string{"-trace"}
				}
				r, out, err := m.run(t.Context(), *seed+s, args...)
				mu.Lock()
				total.add(r.Counts)
				if *tell || err != nil || len(r.Faults) > 0 {
					t.Log(out)
				}
				if err != nil || len(r.Faults) > 0 {
					t.Errorf("seed %d: %v %s; again: go test ./test/sim -run TestSeeds -seeds 1 -seed %d", r.Seed, err, strings.Join(r.Faults, "; "), r.Seed)
				}
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	t.Logf("%d seeds: %+v", number, total)
	save(t, number, total, time.Since(begun), fmt.Sprintf("in machines for WebAssembly, %d at a time", runtime.GOMAXPROCS(0)))
	if number >= 100 && !t.Failed() {
		for what, n := range total.all() {
			if *n == 0 {
				t.Errorf("nothing of it happened in %d seeds: %s", number, what)
			}
		}
	}
}

// raced lets seeds live in a process that is built with the race detector. Nothing in it repeats exactly.
func raced(t *testing.T) {
	number := *seeds
	if number == 0 {
		number = 20
	}
	again := exec.CommandContext(t.Context(), "go", "test", "-race", "-count=1", "-tags", "synctests", "-run", "^TestWorld$", ".", "-args",
		"-seeds", fmt.Sprint(number), "-seed", fmt.Sprint(*seed))
	if out, err := again.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// repeats runs a seed twice: every line of the trace is the same.
func repeats(t *testing.T, m *machine) {
	t.Helper()
	first, one, err := m.run(t.Context(), *seed, "-trace")
	if err != nil {
		t.Fatal(err)
	}
	second, two, err := m.run(t.Context(), *seed, "-trace")
	if err != nil {
		t.Fatal(err)
	}
	if one != two {
		t.Fatalf("seed %d was different the second time: traces %s and %s", *seed, first.Trace, second.Trace)
	}
	other, _, err := m.run(t.Context(), *seed+1)
	if err != nil {
		t.Fatal(err)
	}
	if other.Trace == first.Trace {
		t.Fatal("another seed has the same trace")
	}
}
