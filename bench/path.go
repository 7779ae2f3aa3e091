package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// memoryInterval is how often the peak memory of the connector is read, which is gone when it ends.
const memoryInterval = 5 * time.Millisecond

// assignedMessage is what the connector logs when it begins to read.
const assignedMessage = "partitions assigned"

// pathConfig is the connector's configuration: what must be said, and the defaults for everything else.
func (o options) pathConfig(s shape, brokers []string, name, table string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "name: %s\nsource:\n  brokers: [%s]\n  topic: %s\n", name, strings.Join(quoted(brokers), ", "), o.topicName(s))
	fmt.Fprintf(&b, "table:\n  uri: %q\n  schema: %q\n  partition_by: [%s]\n", table, s.ddl, strings.Join(quoted(s.partitionBy), ", "))
	if len(s.columns) > 0 {
		b.WriteString("  columns:\n")
		for _, column := range slices.Sorted(maps.Keys(s.columns)) {
			c := s.columns[column]
			fmt.Fprintf(&b, "    %s: {from: %q, cast: %q}\n", column, c.From, c.Cast)
		}
	}
	b.WriteString("http: {listen: \"127.0.0.1:0\"}\n") // the default port may be taken
	if o.connectorYAML != "" {
		b.WriteString(o.connectorYAML + "\n")
	}
	return b.String()
}

func quoted(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = strconv.Quote(s)
	}
	return out
}

// runPath runs the connector over a full topic, into a new table, in a new group.
func (o options) runPath(ctx context.Context, connector string, s shape, brokers []string, dir, profile string) (run, error) {
	out := run{Stage: stagePath, Shape: s.name, Messages: s.messages(o.messages)}
	table := filepath.Join(dir, "table")
	config := filepath.Join(dir, "connector.yaml")
	name := fmt.Sprintf("bench-%s-%d", s.name, time.Now().UnixNano())
	if err := os.WriteFile(config, []byte(o.pathConfig(s, brokers, name, table)), 0o666); err != nil {
		return out, err
	}
	args := append([]string{"run", "-c", config, "--until-end", "--log-format", "json"}, o.connectorFlags...)
	if profile != "" {
		args = append(args, "--cpuprofile", profile)
	}
	if err := out.measureProcess(exec.CommandContext(ctx, connector, args...)); err != nil {
		return out, err
	}
	return out, out.checkTable(ctx, table)
}

// measureProcess runs the connector to its end.
func (r *run) measureProcess(cmd *exec.Cmd) error {
	logs, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the connector: %w", err)
	}
	stop, peak := make(chan struct{}), make(chan int64)
	go watchMemory(cmd.Process.Pid, stop, peak)
	assigned, text := readLogs(logs)
	err = cmd.Wait()
	ended := time.Now()
	close(stop)
	r.PeakRSS = <-peak
	if err != nil {
		return fmt.Errorf("running the connector: %w; it said:\n%s", err, text)
	}
	if assigned.IsZero() {
		assigned = begun
	}
	r.StartSeconds, r.Seconds = assigned.Sub(begun).Seconds(), ended.Sub(assigned).Seconds()
	r.UserSeconds, r.SystemSeconds = cmd.ProcessState.UserTime().Seconds(), cmd.ProcessState.SystemTime().Seconds()
	return nil
}

// watchMemory sends the peak memory once it is told to stop.
func watchMemory(pid int, stop <-chan struct{}, peak chan<- int64) {
	ticker := time.NewTicker(memoryInterval)
	defer ticker.Stop()
	var most int64
	for {
		select {
		case <-ticker.C:
			most = max(most, peakRSS(pid))
		case <-stop:
			peak <- most
			return
		}
	}
}

// readLogs reads to the end, and finds out when the connector began to read. It keeps the last lines for errors.
func readLogs(logs io.Reader) (assigned time.Time, last string) {
	last = eachLog(logs, func(line logLine) {
		if line.Msg == assignedMessage && assigned.IsZero() {
			assigned = line.Time
		}
	})
	return assigned, last
}

// logLine is what is looked at of a line of the connector's log.
type logLine struct {
	Time    time.Time `json:"time"`
	Msg     string    `json:"msg"`
	Address string    `json:"address"`
}

// eachLog calls see with each line of a log to its end, and returns the last ones.
func eachLog(logs io.Reader, see func(logLine)) (last string) {
	const keep = 20
	var lines []string
	s := bufio.NewScanner(logs)
	for s.Scan() {
		if lines = append(lines, s.Text()); len(lines) > keep {
			lines = lines[1:]
		}
		var line logLine
		if json.Unmarshal(s.Bytes(), &line) == nil {
			see(line)
		}
	}
	return strings.Join(lines, "\n")
}

// runStage runs decode or parquet in a child process.
func (o options) runStage(ctx context.Context, bench, stage string, s shape, dir, profile string) (run, error) {
	var out run
	cmd := exec.CommandContext(ctx, bench, childStage, "-stage", stage, "-shape", s.name, "-messages", strconv.FormatInt(s.messages(o.messages), 10),
		"-partitions", strconv.Itoa(o.partitions), "-data", o.data, "-dir", filepath.Join(dir, "table"), "-cpuprofile", profile)
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		return out, errors.Join(fmt.Errorf("running stage %s of %s: %w", stage, s.name, err), ctx.Err())
	}
	return out, nil
}
