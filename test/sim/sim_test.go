package sim

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/parquet/compress"
)

var (
	seeds = flag.Int("seeds", 0, "`number` of seeds; 0 for 300, or 20 under the race detector")
	seed  = flag.Uint64("seed", 0, "the first `seed`; with -seeds 1 the only one")
	once  = flag.Bool("until-broken", false, "end with the first seed that breaks an invariant")
	saved = flag.String("results", "", "`file` to write to what happened in all seeds")
	tell  = flag.Bool("trace", false, "print the trace of every seed, not only that of one that fails")
)

// TestMain makes the channels that the library for zstd keeps for ever: those made before the first bubble may be used in all.
func TestMain(m *testing.M) {
	flag.Parse()
	zstd, err := compress.GetCodec(compress.Codecs.Zstd)
	if err != nil {
		panic(err)
	}
	text := []byte("zstd")
	packed := zstd.Encode(make([]byte, zstd.CompressBound(int64(len(text)))), text)
	zstd.Decode(make([]byte, len(text)), packed)
	os.Exit(m.Run())
}

// result is what became of a seed, as TestWorld prints it for who started it.
type result struct {
	Seed   uint64
	Trace  string // tells traces apart
	Faults []string
	Counts counts
}

const resultMark = "RESULT "

// TestWorld lets seeds live in this process, one after the other. It is what TestSeeds starts.
func TestWorld(t *testing.T) {
	if !channelMutexes {
		t.Skip("TestSeeds runs it, or go test -tags synctests: otherwise the Kafka client's mutexes stop the virtual clock")
	}
	var total counts
	begun := time.Now()
	number := uint64(max(*seeds, 1))
	for s := *seed; s < *seed+number; s++ {
		w := run(t, s)
		total.add(w.count)
		r := result{Seed: s, Trace: fmt.Sprintf("%016x", w.trace.sum()), Faults: w.faults, Counts: w.count}
		if *tell || len(r.Faults) > 0 {
			fmt.Println(w.trace.text())
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println(resultMark + string(text))
		if len(r.Faults) > 0 {
			t.Errorf("seed %d: %s", s, strings.Join(r.Faults, "\n"))
			if *once {
				return
			}
		}
	}
	save(t, number, total, time.Since(begun), "native, one after the other")
}

// save writes down what happened in all seeds.
func save(t *testing.T, number uint64, total counts, took time.Duration, how string) {
	t.Helper()
	if *saved == "" {
		return
	}
	verdict := "Each message was in the table once, in every one."
	if t.Failed() {
		verdict = "Some broke an invariant."
	}
	text := fmt.Sprintf("# %d seeds\n\nSeeds %d to %d, %s, on %s, %s, %s, in %v. %s\n\n| what happened | times |\n|---|---|\n",
		number, *seed, *seed+number-1, how, time.Now().UTC().Format(time.DateOnly), runtime.GOARCH, runtime.Version(), took.Round(time.Second), verdict)
	all := total.all()
	for _, what := range slices.Sorted(maps.Keys(all)) {
		text += fmt.Sprintf("| %s | %d |\n", what, *all[what])
	}
	if err := os.WriteFile(*saved, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
