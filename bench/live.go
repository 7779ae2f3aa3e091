package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// live is a connector that runs until it is stopped, looked at from outside.
type live struct {
	cmd     *exec.Cmd
	begun   time.Time
	address string // of its metrics
	logs    sync.WaitGroup
	last    string // of its log, once it has ended
	peak    chan int64
	stop    chan struct{}
}

// servingMessage is what the connector logs with the address of its metrics.
const servingMessage = "serving /metrics, /healthz and /readyz"

// startLive starts the connector, and returns once it serves its metrics.
func startLive(ctx context.Context, connector, config, dir string) (*live, error) {
	path := filepath.Join(dir, "connector.yaml")
	if err := os.WriteFile(path, []byte(config), 0o666); err != nil {
		return nil, err
	}
	l := &live{cmd: exec.CommandContext(ctx, connector, "run", "-c", path, "--log-format", "json"), peak: make(chan int64), stop: make(chan struct{})}
	l.cmd.Cancel = func() error { return l.cmd.Process.Signal(os.Interrupt) }
	logs, err := l.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	l.begun = time.Now()
	if err := l.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the connector: %w", err)
	}
	go watchMemory(l.cmd.Process.Pid, l.stop, l.peak)
	serving := make(chan string, 1)
	l.logs.Go(func() {
		l.last = eachLog(logs, func(line logLine) {
			if line.Msg == servingMessage {
				serving <- line.Address
			}
		})
		close(serving)
	})
	address, ok := <-serving
	if !ok {
		_, err := l.end()
		return nil, errors.Join(fmt.Errorf("the connector ended before it served its metrics; it said:\n%s", l.last), err)
	}
	l.address = address
	return l, nil
}

// end stops the connector as an operator would, and returns its peak memory.
func (l *live) end() (peak int64, err error) {
	_ = l.cmd.Process.Signal(os.Interrupt) // it may have ended by itself
	l.logs.Wait()
	err = l.cmd.Wait()
	close(l.stop)
	if peak = <-l.peak; err != nil {
		err = fmt.Errorf("stopping the connector: %w; it said:\n%s", err, l.last)
	}
	return peak, err
}

// metric is the sum of a metric over its labels; 0 if the connector does not have it, as before its start is done.
func (l *live) metric(ctx context.Context, name string) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.address+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("reading the connector's metrics: %w", err)
	}
	text, err := io.ReadAll(answer.Body)
	if err = errors.Join(err, answer.Body.Close()); err != nil {
		return 0, fmt.Errorf("reading the connector's metrics: %w", err)
	}
	sum := 0.0
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if key != name && !strings.HasPrefix(key, name+"{") {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s: %w", name, err)
		}
		sum += n
	}
	return sum, nil
}

// await returns once a metric is at least so much.
func (l *live) await(ctx context.Context, name string, least float64, every time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, liveTimeout)
	defer cancel()
	for {
		switch n, err := l.metric(ctx, name); {
		case err != nil:
			return err
		case n >= least:
			return nil
		}
		time.Sleep(every)
	}
}

// liveTimeout bounds the wait for something that comes in seconds when nothing is wrong.
const liveTimeout = 2 * time.Minute

// cpuSeconds is the connector's CPU time so far, of Linux; elsewhere 0.
func (l *live) cpuSeconds() float64 {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", l.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / clockTicks
}

// clockTicks is USER_HZ, which Linux fixes for user space (proc(5)).
const clockTicks = 100

// memoryMiB is a field of the connector's /proc/PID/status now: VmRSS is all that is resident, RssAnon without pages of files, which are mostly
// the program's own and shared by all its processes. 0 where that is not known.
func (l *live) memoryMiB(field string) float64 {
	kb, _ := strconv.ParseFloat(strings.TrimSuffix(procField(fmt.Sprintf("/proc/%d/status", l.cmd.Process.Pid), field), " kB"), 64)
	return kb / 1024
}
