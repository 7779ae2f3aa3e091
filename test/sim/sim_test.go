package sim

import (
	"encoding/json"
	"flag"
	"fmt"
	"strings"
	"testing"
	"testing/cryptotest"
)

var (
	seeds = flag.Int("seeds", 0, "`number` of seeds; 0 for the usual one")
	seed  = flag.Uint64("seed", 0, "the first `seed`; with -seeds 1 the only one")
	saved = flag.String("results", "", "`file` to add to what happened in all seeds")
	tell  = flag.Bool("trace", false, "print the trace of every seed, not only that of one that fails")
)

// result is what became of a seed, as TestWorld prints it for who started it.
type result struct {
	Seed   uint64
	Trace  string // tells traces apart
	Faults []string
	Counts counts
}

const resultMark = "RESULT "

// TestWorld lets one seed live in this process. TestSeeds starts a process for each: what libraries keep, such as encoders of zstd,
// must not go from one bubble into another.
func TestWorld(t *testing.T) {
	if !channelMutexes {
		t.Skip("TestSeeds runs it, or go test -tags synctests: otherwise the Kafka client's mutexes stop the virtual clock")
	}
	cryptotest.SetGlobalRandom(t, *seed)
	w := run(t, *seed)
	r := result{Seed: *seed, Trace: fmt.Sprintf("%016x", w.trace.sum()), Faults: w.faults, Counts: w.count}
	if *tell || len(r.Faults) > 0 {
		fmt.Println(w.trace.text())
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(resultMark + string(text))
	if len(r.Faults) > 0 {
		t.Errorf("seed %d: %s", *seed, strings.Join(r.Faults, "\n"))
	}
}
