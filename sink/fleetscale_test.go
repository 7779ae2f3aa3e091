package sink_test

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
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
	fleetRuns = flag.String("fleet-runs", "32x64/1s,100x1000/10s,32x64/1s/altered,32x64/1s/dead,32x64/1s/many-dead,32x64/1s/skewed,32x320/1s/refreshes",
		"runs of TestFleetScale, with commas: workers x partitions / time between flushes / what is special, such as off for no combining")
	fleetResults = flag.String("fleet-results", "", "file of whose table TestFleetScale replaces the rows that it has made, or to which it adds them")
)

var fleetRun = regexp.MustCompile(`^(\d+)x(\d+)/([^/]+)(?:/([a-z-]+))?$`)

// fleetSpecials are what may be special about a run. Each but the first has made workers wait for 3 to 30 s once, by other rules for turns.
var fleetSpecials = map[string]func(*fleetOptions){
	"off": func(o *fleetOptions) { o.combine = sink.CombineOff },
	// No proposal that lies there can be carried any more.
	"altered": func(o *fleetOptions) {
		o.also = func(ctx context.Context, f *fleet) {
			sleepFor(ctx, 6*time.Second)
			f.stranger(ctx, f.described("once")...)
		}
	},
	// The first in the row is dead, and somebody who never carries makes versions all the time.
	"dead": func(o *fleetOptions) {
		o.also = func(ctx context.Context, f *fleet) {
			sleepFor(ctx, 6*time.Second)
			for f.leaveDead("0000000000001-", 0, 1<<40); ctx.Err() == nil; sleepFor(ctx, 300*time.Millisecond) {
				f.stranger(ctx, `{"commitInfo":{"operation":"WRITE"}}`)
			}
		}
	},
	"many-dead": func(o *fleetOptions) {
		o.within = 5 * time.Second
		o.also = func(ctx context.Context, f *fleet) {
			sleepFor(ctx, 6*time.Second)
			for n := range 200 {
				f.leaveDead("0000000000001-", n, []int64{0, 1 << 40}[n%2])
			}
		}
	},
	"skewed": func(o *fleetOptions) {
		o.clock = func(worker int) time.Duration {
			return []time.Duration{6 * time.Minute, 10 * time.Hour, -6 * time.Minute, 0}[min(worker, 3)]
		}
	},
	// The txns of partitions without messages were pinned at once, and fall due at once, each 6 s.
	"refreshes": func(o *fleetOptions) {
		o.idle = o.partitions / 2
		o.properties = map[string]string{"delta.setTransactionRetentionDuration": "interval 24 seconds"}
	},
}

// TestFleetScale measures workers that only commit, in virtual time: 60 ms for a write, 50 ms for a read, plus or minus 30%. What it
// asks for with combining is what docs/scale.md promises: a latency that does not grow with the number of workers, nobody passed over for
// long, and few races. The table there:
//
//	go test ./sink -run TestFleetScale -v -timeout 3h -fleet-results results/fleet.md -fleet-runs \
//		8x64/1s/off,8x64/1s,32x64/1s/off,32x64/1s,100x1000/10s/off,100x1000/10s,400x4000/10s,1000x10000/10s
func TestFleetScale(t *testing.T) {
	var rows []string
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
				put: 60 * time.Millisecond, get: 50 * time.Millisecond, combine: sink.CombineAuto, within: 1500 * time.Millisecond,
			}
			if special := part[4]; special != "" {
				arrange, ok := fleetSpecials[special]
				if !ok {
					t.Fatalf("-fleet-runs has %q, and there are %v", special, slices.Sorted(maps.Keys(fleetSpecials)))
				}
				if arrange(&o); special != "off" {
					o.life = 20 * time.Second
				}
			}
			f := runFleet(t, o)
			row := f.row(part[4])
			t.Log(row)
			rows = append(rows, row)
			if o.combine == sink.CombineAuto && workers >= 32 {
				f.holds(t)
			}
		})
	}
	t.Log("\n" + fleetHead + "\n" + strings.Join(rows, "\n"))
	if *fleetResults != "" && !t.Failed() {
		saved, err := os.ReadFile(*fleetResults)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(*fleetResults, []byte(withRows(string(saved), rows)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// withRows replaces the rows of the same run in a text that ends with a table, and adds those that it does not have.
func withRows(text string, rows []string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for _, row := range rows {
		run := strings.Join(strings.SplitN(row, "|", 6)[:5], "|") + "|" // workers, partitions, flush, combine
		if i := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, run) }); i >= 0 {
			lines[i] = row
		} else {
			lines = append(lines, row)
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

func TestRowsOfOtherRunsStay(t *testing.T) {
	got := withRows("text\n\n| head |\n| 1 | 10 | 1s | off | old |\n| 1 | 10 | 1s | auto | old |\n", []string{"| 1 | 10 | 1s | auto | new |", "| 1 | 10 | 10s | auto | new |"})
	if want := "text\n\n| head |\n| 1 | 10 | 1s | off | old |\n| 1 | 10 | 1s | auto | new |\n| 1 | 10 | 10s | auto | new |\n"; got != want {
		t.Errorf("the table is\n%s, want\n%s", got, want)
	}
}

// holds checks the promises.
func (f *fleet) holds(t *testing.T) {
	t.Helper()
	if f.carried < len(f.latency)/3 {
		t.Errorf("of %d flushes %d units were carried by others: want every third at least", len(f.latency), f.carried)
	}
	if races := int(f.versions) + f.workers; f.lost > races { // who has just started does not know yet; without turns there are ten and more for each version
		t.Errorf("%d races were lost in %d versions: want %d at most, or turns are not taken", f.lost, f.versions, races)
	}
	if p99, longest := f.quantile(0.99), f.longest(); p99 > f.within || longest > f.within+time.Second {
		t.Errorf("99 of 100 flushes took up to %v, the longest %v: want %v, and a second more", p99, longest, f.within)
	}
	if want := 3 * f.idle; f.empty < want { // with their pins
		t.Errorf("offsets of %d idle partitions were written %d times: want %d", f.idle, f.empty, want)
	}
	if f.passed > 8 {
		t.Errorf("a proposal was there for %d versions that did not have it: want 8 at most", f.passed)
	}
	// Now and then a worker has nothing to flush, and once it may have to wait.
	if want := max(1, int((f.life-2*f.flush-f.within)/(f.flush*11/10))-1); f.least() < want {
		t.Errorf("a worker has landed %d flushes, want %d", f.least(), want)
	}
}

const fleetHead = "| workers | partitions | flush | combine | flushes landed | least by a worker | versions | carried | races lost | p50 | p99 | longest | passed over at most | KB a version | puts of versions | other puts | deletes | listings | reads | requests a flush |\n" +
	"|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"

func (f *fleet) row(special string) string {
	all := 0
	for _, n := range f.requests {
		all += n
	}
	return fmt.Sprintf("| %d | %d | %v | %s | %d | %d | %d | %d | %d | %v | %v | %v | %d | %.1f | %d | %d | %d | %d | %d | %.1f |", f.workers, f.partitions, f.flush, cmp.Or(special, f.cfg.Combine),
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
