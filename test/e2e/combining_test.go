package e2e

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"kafkadelta/internal/savetest"
)

var (
	crowdSizes  = flag.String("crowd-sizes", "32", "numbers of processes in TestCombiningHappens, with commas")
	crowdModes  = flag.String("crowd-modes", "auto", "values of table.combine in TestCombiningHappens, with commas")
	crowdStores = flag.String("crowd-stores", "S3", "stores of TestCombiningHappens: disk, S3")
	crowdTime   = flag.Duration("crowd-time", 20*time.Second, "how long a crowd is measured once all its processes commit")
)

const (
	crowdPartitions = 128
	crowdPerSecond  = 200
	crowdLatency    = 60 // milliseconds, added to every answer of the S3 server
)

// TestCombiningHappens lets many processes of the connector commit to one table, each with a flush a second: proposals are carried,
// and every flush that is told as committed is in the table once. CI has 32 processes on an S3 server whose answers come 60 ms
// late. By hand, the whole table of docs/scale.md into results/combining.txt, on a machine that does nothing else:
//
//	go test ./test/e2e -run TestCombiningHappens -v -timeout 2h -results results/combining.txt \
//		-crowd-sizes 1,8,32,64 -crowd-modes off,auto -crowd-stores disk,S3 -crowd-time 30s
func TestCombiningHappens(t *testing.T) {
	kafka := realKafka(t)
	plain := plainBinary(t)
	rows := []string{
		fmt.Sprintf("flushes of one second for %v; answers of S3 come %d ms late; load average at the start %s", *crowdTime, crowdLatency, loadAverage()),
		"| store | processes | combine | flushes | versions | carried | races lost | p50 | p99 | longest |", "|---|---|---|---|---|---|---|---|---|---|",
	}
	cells := func(t *testing.T, c cloud, store string, env []string) {
		for size := range strings.SplitSeq(*crowdSizes, ",") {
			n, err := strconv.Atoi(size)
			fatal(t, err)
			for mode := range strings.SplitSeq(*crowdModes, ",") {
				t.Run(fmt.Sprintf("%d %s", n, mode), func(t *testing.T) {
					crowd := &crowd{t: t, kafka: kafka, binary: plain, table: c.root + "/" + mode + size, env: env, store: store, size: n, combine: mode}
					row := crowd.run()
					t.Log(row)
					rows = append(rows, row)
				})
			}
		}
	}
	for store := range strings.SplitSeq(*crowdStores, ",") {
		if store == "disk" {
			t.Run(store, func(t *testing.T) { cells(t, cloud{root: t.TempDir()}, store, nil) })
			continue
		}
		onClouds(t, func(t *testing.T, c cloud) {
			slow := startProxy(t, c.address)
			t.Cleanup(slow.Stop)
			late := toxic{"latency", "downstream", nil}
			fatal(t, late.poison(slow, map[string]any{"latency": crowdLatency}))
			cells(t, c, store, c.environment(slow.Listen))
		}, "versitygw")
	}
	report := strings.Join(rows, "\n") + "\n"
	t.Log("\n" + report)
	savetest.Result(t, *results, report)
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "not known"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

// crowd is many processes of one stream and their table.
type crowd struct {
	t       *testing.T
	kafka   *broker
	binary  string
	table   string
	env     []string
	store   string
	size    int
	combine string

	mu        sync.Mutex
	measuring bool
	took      []time.Duration // of commits, retries included, that ended while it was measured
	races     int
	committed map[int]bool // processes that have
}

func (c *crowd) run() string {
	c.t.Helper()
	topic := fmt.Sprintf("crowd-%s-%d-%s-%d", strings.ToLower(c.store), c.size, c.combine, time.Now().UnixMilli()) // a test may run more than once
	createTopic(c.t, c.kafka.brokers(), topic, crowdPartitions)
	l := startLoad(c.t, c.kafka.brokers(), topic, crowdPartitions, crowdPerSecond, number)
	config := c.config(topic)
	c.committed = map[int]bool{}
	begun := time.Now()
	var processes []*process
	for i := range c.size {
		processes = append(processes, startBinary(c.t, c.binary, c.env, func(l logLine) { c.watch(i, l) }, runArgs(config)...))
	}
	c.await(processes, 3*time.Minute)
	settled := time.Since(begun)
	before := c.newest()
	c.measure(true)
	time.Sleep(*crowdTime)
	c.measure(false)
	after := c.newest()
	for _, p := range processes {
		p.signal(stopSignal)
	}
	stopped := time.Now()
	for _, p := range processes {
		select { // with combine off, who waits for its turn may run out of its shutdown_timeout
		case <-p.done:
		case <-time.After(time.Until(stopped.Add(45 * time.Second))):
			p.kill()
		}
	}
	l.stop()
	c.wantWhole()
	slices.Sort(c.took)
	carried := c.carried(before, after)
	if c.combine == "auto" && c.size >= 32 && carried == 0 {
		c.t.Errorf("%d processes, and none carried the work of another", c.size)
	}
	c.t.Logf("all committed after %v, stopped after %v", settled.Round(time.Millisecond), time.Since(stopped).Round(time.Millisecond))
	return fmt.Sprintf("| %s | %d | %s | %d | %d | %d | %d | %v | %v | %v |", c.store, c.size, c.combine, len(c.took), after-before, carried, c.races,
		c.quantile(0.5), c.quantile(0.99), c.quantile(1))
}

func (c *crowd) config(topic string) string {
	s := stream{name: topic, topic: topic, brokers: c.kafka.brokers(), table: c.table, schema: numberSchema, interval: time.Second}
	s.columns = "{}\n  combine: " + c.combine
	return s.write(c.t)
}

func (c *crowd) watch(i int, l logLine) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch l.msg() {
	case "flush committed":
		c.committed[i] = true
		if took, ok := l.fields["took"].(float64); ok && c.measuring {
			c.took = append(c.took, time.Duration(took))
		}
	case "another writer made the version first":
		if c.measuring {
			c.races++
		}
	}
}

func (c *crowd) measure(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.measuring = on
}

// await waits until every process has committed, so that what it takes to start them is not measured. Without combining, some
// may never get to it: then it is measured as it is.
func (c *crowd) await(processes []*process, limit time.Duration) {
	c.t.Helper()
	if c.combine == "off" {
		limit /= 3
	}
	for end := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		c.mu.Lock()
		n := len(c.committed)
		c.mu.Unlock()
		for _, p := range processes {
			select {
			case <-p.done:
				c.t.Fatalf("a process has ended with %d:\n%s", p.code(), p.tail(20))
			default:
			}
		}
		switch {
		case n == c.size:
			return
		case time.Now().After(end) && c.combine == "off":
			c.t.Logf("only %d of %d processes have committed in %v", n, c.size, limit)
			return
		case time.Now().After(end):
			c.t.Fatalf("only %d of %d processes have committed in %v", n, c.size, limit)
		}
	}
}

// newest is the newest version.
func (c *crowd) newest() (version int64) {
	c.t.Helper()
	for name := range objects(c.t, c.table+"/_delta_log") {
		if text, found := strings.CutSuffix(name, ".json"); found {
			v, err := strconv.ParseInt(text, 10, 64)
			fatal(c.t, err)
			version = max(version, v)
		}
	}
	return version
}

// carried counts the units that the versions after one, up to another, hold for others.
func (c *crowd) carried(after, until int64) (n int) {
	c.t.Helper()
	store := openStore(c.t, c.table)
	for v := after + 1; v <= until; v++ {
		for line := range bytes.Lines(object(c.t, store, fmt.Sprintf("_delta_log/%020d.json", v))) {
			var a logAction
			fatal(c.t, json.Unmarshal(line, &a))
			if a.CommitInfo != nil && a.CommitInfo.KafkaDelta != nil {
				n += a.CommitInfo.KafkaDelta.Carried
			}
		}
	}
	return n
}

// wantWhole has `verify` look at the table: what was told as committed is there, once.
func (c *crowd) wantWhole() {
	c.t.Helper()
	if v, code := verifyWith(c.t, "--table", c.table); code != exitOK {
		c.t.Errorf("verify ends with %d: %+v", code, v)
	}
}

func (c *crowd) quantile(q float64) time.Duration {
	if len(c.took) == 0 {
		return 0
	}
	return c.took[min(int(q*float64(len(c.took))), len(c.took)-1)].Round(time.Millisecond)
}
