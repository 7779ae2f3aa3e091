package pipeline_test

import (
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"kafkadelta/storage"
	"kafkadelta/storage/memory"
	"kafkadelta/storage/open"
)

// requests counts what is asked of a store, by operation and outcome.
type requests struct {
	mu    sync.Mutex
	count map[string]int
}

func (r *requests) observe(operation, outcome string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count[operation+" "+outcome]++
}

// take returns the counts since the last take.
func (r *requests) take() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	count := maps.Clone(r.count)
	clear(r.count)
	return count
}

// counted gives the world a store that counts.
func (w *world) counted() (*requests, storage.Store) {
	w.t.Helper()
	r := &requests{count: map[string]int{}}
	uri := fmt.Sprintf("memory://%s/%p", w.t.Name(), w)
	plain, err := open.Open(w.t.Context(), uri, open.Options{})
	w.check(err)
	w.memory = plain.(*memory.Store)
	counted, err := open.Open(w.t.Context(), uri, open.Options{Observe: r.observe})
	w.check(err)
	return r, counted
}

// documentedCosts reads the table of docs/storage.md, section "What it costs": requests by what is done and operation, where V
// stands for the number of versions.
func documentedCosts(t *testing.T, v int) map[string]map[string]int {
	t.Helper()
	guide, err := os.ReadFile("../docs/storage.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(guide), "\n## What it costs\n")
	var operations []string
	costs := map[string]map[string]int{}
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.Trim(cells[i], " `")
		}
		switch {
		case cells[0] == "what":
			operations = cells[1:]
		case len(operations) == 0 || strings.HasPrefix(cells[0], "-"):
		case len(cells) != len(operations)+1:
			return costs
		default:
			costs[cells[0]] = map[string]int{}
			for i, cell := range cells[1:] {
				for term := range strings.SplitSeq(cell, " + ") {
					factor, timesV := strings.CutSuffix(term, "V")
					n, err := strconv.Atoi(factor)
					if timesV && factor == "" {
						n, err = 1, nil
					}
					if err != nil {
						t.Fatalf("docs/storage.md: %q in the row %q is no number of requests", cell, cells[0])
					}
					if timesV {
						n *= v
					}
					costs[cells[0]][operations[i]] += n
				}
			}
		}
	}
	return costs
}

// costing compares what was asked since the last take with rows of the guide's table, added up.
func (r *requests) costing(t *testing.T, v int, rows ...string) {
	t.Helper()
	costs, allowed := documentedCosts(t, v), map[string]int{}
	for _, row := range rows {
		if costs[row] == nil {
			t.Fatalf("docs/storage.md has no row %q", row)
		}
		for operation, n := range costs[row] {
			allowed[operation] += n
		}
	}
	got := map[string]int{}
	for key, n := range r.take() {
		operation, _, _ := strings.Cut(key, " ")
		if operation == "complete" {
			operation = "files"
		}
		got[operation] += n
	}
	for operation, n := range got {
		if n > allowed[operation] {
			t.Errorf("%s: %d times %s, docs/storage.md says %d", strings.Join(rows, " and "), n, operation, allowed[operation])
		}
	}
	for operation, n := range allowed {
		if n > got[operation]+5 { // a guide that promises less than it costs is as wrong, but a start may be lucky
			t.Errorf("%s: %d times %s, and docs/storage.md says %d", strings.Join(rows, " and "), got[operation], operation, n)
		}
	}
}

// TestCosts holds docs/storage.md to what it says of requests.
func TestCosts(t *testing.T) {
	const (
		commit, idle, start = "a flush into one file, which is one commit", "an idle hour of a worker", "a start"
		logCheckpoint       = "a log checkpoint, every 100 versions"
	)
	scenario(t, 4, func(w *world) {
		r, store := w.counted()
		begin := func() *worker {
			k := w.start(func(s *setup) { s.store = store })
			w.eventually("the worker joined", func() bool { return k.Ready() == nil })
			time.Sleep(10 * time.Second)
			return k
		}
		flush := func() {
			w.produceAll(4, 10)
			w.landed()
			time.Sleep(time.Second)
		}
		k := begin()
		r.costing(t, 0, "a start that makes the table")
		flush()
		r.costing(t, 0, commit)
		foreign := fmt.Sprintf("_delta_log/%020d.json", w.version()+1)
		w.check(w.memory.PutIfAbsent(t.Context(), foreign, []byte(`{"commitInfo":{"operation":"OPTIMIZE"}}`)))
		flush()
		r.costing(t, 0, commit, "a race lost, more")
		time.Sleep(time.Hour)
		r.costing(t, 0, idle)
		k.stop()
		r.costing(t, 0)
		k = begin()
		r.costing(t, int(w.version()), start)

		for w.version() < 99 {
			flush()
		}
		r.take()
		flush()
		r.costing(t, 100, commit, logCheckpoint, "the cleanup behind it, hourly")
		for w.version() < 199 {
			flush()
		}
		r.take()
		flush()
		r.costing(t, 100, commit, logCheckpoint)
		flush()
		r.take()
		k.stop()
		begin().stop()
		r.costing(t, 1, start)
	})
}
