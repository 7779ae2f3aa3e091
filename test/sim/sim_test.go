package sim

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/parquet/compress"
)

var (
	seeds = flag.Int("seeds", 0, "`number` of seeds; 0 for 300, or 20 under the race detector")
	seed  = flag.Uint64("seed", 0, "the first `seed`; with -seeds 1 the only one")
	once  = flag.Bool("until-broken", false, "end with the first seed that breaks an invariant")
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
	for s := *seed; s < *seed+uint64(max(*seeds, 1)); s++ {
		w := run(t, s)
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
}
