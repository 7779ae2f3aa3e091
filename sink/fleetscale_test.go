package sink_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"kafkadelta/sink"
)

var (
	fleetRuns    = flag.String("fleet-runs", "32x64/1s,100x1000/10s", "runs of TestFleetScale, with commas: workers x partitions / time between flushes, and /off without combining")
	fleetResults = flag.String("fleet-results", "", "file to which TestFleetScale writes its table")
)

var fleetRun = regexp.MustCompile(`^(\d+)x(\d+)/([^/]+)(/off)?$`)

// TestFleetScale measures workers that only commit, in virtual time: 60 ms for a write, 50 ms for a read, plus or minus 30%. What it
// asks for with combining is what docs/scale.md promises: a latency that does not grow with the number of workers, nobody passed over for
// long, and few races. The table there:
//
//	go test ./sink -run TestFleetScale -v -timeout 3h -fleet-results results/fleet.md -fleet-runs \
//		8x64/1s/off,8x64/1s,32x64/1s/off,32x64/1s,100x1000/10s/off,100x1000/10s,400x4000/10s,1000x10000/10s
func TestFleetScale(t *testing.T) {
	rows := []string{fleetHead}
	for run := range strings.SplitSeq(*fleetRuns, ",") {
		t.Run(run, func(t *testing.T) {
			part := fleetRun.FindStringSubmatch(run)
			if part == nil {
				t.Fatalf("-fleet-runs has %q, and wants such as %s", run, fleetRun)
			}
			workers, _ := strconv.Atoi(part[1])
			partitions, _ := strconv.Atoi(part[2])
			flush, err := time.ParseDuration(part[3])
			if err != nil {
				t.Fatal(err)
			}
			o := fleetOptions{
				seed: 1, workers: workers, partitions: partitions, flush: flush, life: max(30*time.Second, 4*flush),
				put: 60 * time.Millisecond, get: 50 * time.Millisecond, combine: sink.CombineAuto,
			}
			if part[4] != "" {
				o.combine = sink.CombineOff
			}
			f := runFleet(t, o)
			t.Log(f.row())
			rows = append(rows, f.row())
			if o.combine == sink.CombineAuto && workers >= 32 {
				f.holds(t)
			}
		})
	}
	table := strings.Join(rows, "\n") + "\n"
	t.Log("\n" + table)
	if *fleetResults != "" && !t.Failed() {
		if err := os.WriteFile(*fleetResults, []byte(table), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// holds checks the promises.
func (f *fleet) holds(t *testing.T) {
	t.Helper()
	if f.carried < len(f.latency)/3 {
		t.Errorf("of %d flushes %d units were carried by others: want every third at least", len(f.latency), f.carried)
	}
	if races := int(f.versions)/2 + f.workers; f.lost > races { // who has just started does not know yet
		t.Errorf("%d races were lost in %d versions: want %d at most, or turns are not taken", f.lost, f.versions, races)
	}
	if p99, longest := f.quantile(0.99), f.longest(); p99 > 1500*time.Millisecond || longest > 2500*time.Millisecond {
		t.Errorf("99 of 100 flushes took up to %v, the longest %v: want 1.5 s and 2.5 s", p99, longest)
	}
	if f.passed > 8 {
		t.Errorf("a proposal was there for %d versions that did not have it: want 8 at most", f.passed)
	}
	if want := max(1, int((f.life-2*f.flush)/(f.flush*11/10))-1); f.least() < want { // now and then a worker has nothing to flush
		t.Errorf("a worker has landed %d flushes, want %d", f.least(), want)
	}
}

const fleetHead = "| workers | partitions | flush | combine | flushes landed | least by a worker | versions | carried | races lost | p50 | p99 | longest | passed over at most | KB a version | puts of versions | other puts | deletes | listings | reads | requests a flush |\n" +
	"|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"

func (f *fleet) row() string {
	all := 0
	for _, n := range f.requests {
		all += n
	}
	return fmt.Sprintf("| %d | %d | %v | %s | %d | %d | %d | %d | %d | %v | %v | %v | %d | %.1f | %d | %d | %d | %d | %d | %.1f |", f.workers, f.partitions, f.flush, f.cfg.Combine,
		len(f.latency), f.least(), f.versions, f.carried, f.lost, f.quantile(0.5), f.quantile(0.99), f.longest(), f.passed, float64(f.logBytes)/1000/float64(f.versions),
		f.requests["put_if_absent"], f.requests["put"], f.requests["delete"], f.requests["list"], f.requests["get"], float64(all)/float64(max(1, len(f.latency))))
}

// longest is how long a flush has taken, or had waited when the run ended.
func (f *fleet) longest() time.Duration {
	return slices.Max(append(f.waiting, f.quantile(1))).Round(time.Millisecond)
}

// least is how many flushes the worker with the fewest has landed.
func (f *fleet) least() int {
	least := f.flushes
	for w := range f.workers {
		least = min(least, f.landed[w])
	}
	return least
}

func (f *fleet) quantile(q float64) time.Duration {
	if len(f.latency) == 0 {
		return 0
	}
	return f.latency[min(int(q*float64(len(f.latency))), len(f.latency)-1)].Round(time.Millisecond)
}
