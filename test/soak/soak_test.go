// Package soak lets a connector run for long, and watches that it does not grow.
package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/internal/kafkatest"
	"kafkadelta/internal/savetest"
	"kafkadelta/storage/local"
)

var (
	soakTime = flag.Duration("soak", 3*time.Minute, "how long TestSoak lets the connector run")
	results  = flag.String("results", "", "file to which TestSoak adds its figures")
)

const (
	interval   = 100 * time.Millisecond
	partitions = 4
	perTick    = 5 // messages every 20 ms
	keepFiles  = 20 * time.Second
)

// TestSoak lets one connector flush ten times a second beside somebody who deletes old rows and files, so that the table itself
// does not grow, with a log that is kept for a minute. Memory, goroutines, open files and the log must not grow either: the
// median of the last quarter is compared with that of the second one. By hand, with the numbers of results/soak.txt:
//
//	go test ./test/soak -v -soak 1h -timeout 2h -results results/soak.txt
func TestSoak(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("open files and resident memory are read from /proc")
	}
	cluster := kafkatest.Start(t, "soak", partitions)
	table := filepath.Join(t.TempDir(), "table")
	config := filepath.Join(t.TempDir(), "connector.yaml")
	check(t, os.WriteFile(config, fmt.Appendf(nil, `
name: soak
source: {brokers: [%s], topic: soak}
table:
  uri: %s
  schema: "n BIGINT"
  properties:
    delta.checkpointInterval: 20
    delta.logRetentionDuration: interval 60 seconds
    delta.deletedFileRetentionDuration: interval 60 seconds
flush: {interval: %v}
http: {listen: "127.0.0.1:0"}
`, strings.Join(cluster.ListenAddrs(), ", "), table, interval), 0o600))
	binary := build(t)
	c := start(t, binary, config)
	var wait sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	produced := 0
	wait.Go(func() { produced = produce(ctx, t, cluster.ListenAddrs()) })
	wait.Go(func() { deleteOld(ctx, t, table) })
	var samples []sample
	ticker := time.NewTicker(max(time.Second, *soakTime/3600))
	defer ticker.Stop()
	for begun := time.Now(); time.Since(begun) < *soakTime; {
		<-ticker.C
		samples = append(samples, c.sample(t, table))
	}
	stop()
	wait.Wait()
	last := c.sample(t, table)
	for end := time.Now().Add(time.Minute); int(last["rows"]) < produced && time.Now().Before(end); time.Sleep(interval) {
		last = c.sample(t, table)
	}
	check(t, c.cmd.Process.Signal(syscall.SIGTERM))
	<-c.done
	if code := c.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the connector ended with %d:\n%s", code, c.text(t))
	}
	if int(last["rows"]) != produced {
		t.Errorf("%v rows were committed, %d messages produced", last["rows"], produced)
	}
	wantNoFault(t, binary, config)
	judge(t, samples, last)
}

// bounds are how much the median of the last quarter may be above that of the second one. A leak of memory of 20 KiB a commit
// shows in the 900 commits that lie between them in CI, one of 1 KiB in those of an hour; less is the collector's play. The log
// reaches the length of its retention after a minute, in the middle of CI's second quarter, and saws: it grows by some seconds of
// versions until the next cleanup.
var bounds = []struct {
	what   string
	unit   float64
	above  float64 // in units
	factor float64
}{
	{"resident MiB", 1 << 20, 16, 1},
	{"goroutines", 1, 4, 1},
	{"open files", 1, 8, 1},
	{"objects in the log", 1, 0, 1.3},
	{"KiB in the log", 1 << 10, 0, 1.3},
}

func judge(t *testing.T, samples []sample, last sample) {
	t.Helper()
	quarter := len(samples) / 4
	var text strings.Builder
	fmt.Fprintf(&text, "TestSoak: %v, a flush every %v, %s/%s: %.0f commits, %.0f rows, %.0f log checkpoints; median of each quarter:\n",
		*soakTime, interval, runtime.GOOS, runtime.GOARCH, last["commits"], last["rows"], last["log checkpoints"])
	for _, b := range bounds {
		var medians [4]float64
		for q := range medians {
			var values []float64
			for _, s := range samples[q*quarter : (q+1)*quarter] {
				values = append(values, s[b.what]/b.unit)
			}
			slices.Sort(values)
			medians[q] = values[len(values)/2]
		}
		limit := medians[1]*b.factor + b.above
		fmt.Fprintf(&text, "  %-20s %9.1f %9.1f %9.1f %9.1f   at most %.1f\n", b.what, medians[0], medians[1], medians[2], medians[3], limit)
		if medians[3] > limit || medians[3] == 0 {
			t.Errorf("%s: %.1f in the last quarter, %.1f in the second, at most %.1f", b.what, medians[3], medians[1], limit)
		}
	}
	if due := soakTime.Seconds() / interval.Seconds(); last["commits"] < due/3 {
		t.Errorf("%.0f commits, and %.0f flushes were due: the machine is too slow for this to show anything", last["commits"], due)
	}
	if last["failed upkeep"] > 0 {
		t.Errorf("keeping the log in order failed %.0f times", last["failed upkeep"])
	}
	t.Log(text.String())
	savetest.Result(t, *results, text.String())
}

// connector is a running process of the built connector.
type connector struct {
	cmd     *exec.Cmd
	log     string // file of its standard error
	address string
	done    chan struct{}
}

func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "connector")
	if out, err := exec.Command("go", "build", "-o", path, "kafkadelta/cmd/connector").CombinedOutput(); err != nil {
		t.Fatalf("building the connector: %v\n%s", err, out)
	}
	return path
}

func start(t *testing.T, binary, config string) *connector {
	t.Helper()
	c := &connector{cmd: exec.Command(binary, "run", "-c", config, "--log-format", "json"), log: filepath.Join(t.TempDir(), "log"), done: make(chan struct{})}
	f, err := os.Create(c.log)
	check(t, err)
	c.cmd.Stderr = f
	check(t, c.cmd.Start())
	go func() {
		defer close(c.done)
		_ = c.cmd.Wait()
		_ = f.Close()
	}()
	t.Cleanup(func() { _ = c.cmd.Process.Kill(); <-c.done })
	for end := time.Now().Add(30 * time.Second); c.address == ""; time.Sleep(20 * time.Millisecond) {
		for line := range strings.Lines(c.text(t)) {
			var l struct{ Msg, Address string }
			if json.Unmarshal([]byte(line), &l) == nil && strings.HasPrefix(l.Msg, "serving /metrics") {
				c.address = l.Address
			}
		}
		if time.Now().After(end) {
			t.Fatalf("the connector serves no metrics:\n%s", c.text(t))
		}
	}
	return c
}

func (c *connector) text(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(c.log)
	check(t, err)
	return string(text)
}

// sample is what is looked at, at one moment.
type sample map[string]float64

// sampled are the metrics of a sample, by the beginning of their line.
var sampled = map[string]string{
	"process_resident_memory_bytes ": "resident MiB", "go_goroutines ": "goroutines", "process_open_fds ": "open files",
	"kafkadelta_commits_total{": "commits", "kafkadelta_committed_rows_total{": "rows", "kafkadelta_log_checkpoints_total{": "log checkpoints",
	`kafkadelta_errors_total{cause="log_`: "failed upkeep",
}

func (c *connector) sample(t *testing.T, table string) sample {
	t.Helper()
	resp, err := http.Get("http://" + c.address + "/metrics")
	if err != nil {
		t.Fatalf("%v; the connector's log:\n%s", err, c.text(t))
	}
	body, err := io.ReadAll(resp.Body)
	check(t, errors.Join(err, resp.Body.Close()))
	s := sample{}
	for line := range strings.Lines(string(body)) {
		for begin, what := range sampled {
			if strings.HasPrefix(line, begin) {
				n, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), 64)
				check(t, err)
				s[what] += n
			}
		}
	}
	entries, err := os.ReadDir(filepath.Join(table, "_delta_log"))
	if !errors.Is(err, fs.ErrNotExist) {
		check(t, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil { // it may be gone
			s["objects in the log"]++
			s["KiB in the log"] += float64(info.Size())
		}
	}
	return s
}

// produce sends messages until the context is done, and returns how many.
func produce(ctx context.Context, t *testing.T, brokers []string) (n int) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Error(err)
		return 0
	}
	defer client.Close()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return n
		case <-ticker.C:
		}
		var records []*kgo.Record
		for range perTick {
			records = append(records, &kgo.Record{Topic: "soak", Partition: int32(n % partitions), Value: fmt.Appendf(nil, `{"n":%d}`, n)})
			n++
		}
		if err := client.ProduceSync(context.WithoutCancel(ctx), records...).FirstErr(); err != nil {
			t.Errorf("producing: %v", err)
			return n
		}
	}
}

// remover is somebody else who deletes old rows, and later their files, as DELETE and VACUUM do.
type remover struct {
	store *local.Store
	next  int64 // version to be read
	live  []oldFile
	gone  []oldFile // deleted in the table, not yet from the disk
}

type oldFile struct {
	path string
	at   time.Time
}

func deleteOld(ctx context.Context, t *testing.T, table string) {
	store, err := local.New(table)
	if err != nil {
		t.Error(err)
		return
	}
	r := &remover{store: store}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(5 * time.Second):
		}
		if err := errors.Join(r.follow(ctx), r.remove(ctx), r.vacuum(ctx)); err != nil && ctx.Err() == nil {
			t.Errorf("deleting old rows: %v", err)
			return
		}
	}
}

func logName(version int64) string { return fmt.Sprintf("_delta_log/%020d.json", version) }

// follow reads the commits that have come.
func (r *remover) follow(ctx context.Context) error {
	for ; ; r.next++ {
		body, err := r.store.Get(ctx, logName(r.next), 0, -1)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		text, err := io.ReadAll(body)
		if err := errors.Join(err, body.Close()); err != nil {
			return err
		}
		for line := range bytes.Lines(text) {
			var action struct{ Add *struct{ Path string } }
			if err := json.Unmarshal(line, &action); err != nil {
				return err
			}
			if action.Add != nil {
				r.live = append(r.live, oldFile{action.Add.Path, time.Now()})
			}
		}
	}
}

func old(files []oldFile) int {
	n := 0
	for n < len(files) && time.Since(files[n].at) > keepFiles {
		n++
	}
	return n
}

// remove makes a version that deletes what is old.
func (r *remover) remove(ctx context.Context) error {
	n := old(r.live)
	if n == 0 {
		return nil
	}
	now := time.Now()
	lines := fmt.Appendf(nil, `{"commitInfo":{"timestamp":%d,"operation":"DELETE","operationParameters":{}}}`+"\n", now.UnixMilli())
	for _, f := range r.live[:n] {
		lines = fmt.Appendf(lines, `{"remove":{"path":%q,"deletionTimestamp":%d,"dataChange":true}}`+"\n", f.path, now.UnixMilli())
		r.gone = append(r.gone, oldFile{f.path, now})
	}
	r.live = r.live[n:]
	for {
		err := r.store.PutIfAbsent(ctx, logName(r.next), lines)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := r.follow(ctx); err != nil {
			return err
		}
	}
}

// vacuum deletes files from the disk.
func (r *remover) vacuum(ctx context.Context) error {
	n := old(r.gone)
	for _, f := range r.gone[:n] {
		if err := r.store.Delete(ctx, f.path); err != nil {
			return err
		}
	}
	r.gone = r.gone[n:]
	return nil
}

// wantNoFault has `verify` compare the table with Kafka. What was cleaned from the log it can't verify, and says so by 8.
func wantNoFault(t *testing.T, binary, config string) {
	t.Helper()
	cmd := exec.Command(binary, "verify", "-c", config)
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 0 && code != 8 {
		t.Errorf("verify: %v\n%s", err, out)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
