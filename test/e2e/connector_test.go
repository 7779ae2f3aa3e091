package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Exit codes as the help documents them.
const (
	exitOK          = 0
	exitConfig      = 2
	exitSource      = 3
	exitPoison      = 5
	exitRefused     = 6
	exitInterrupted = 130
)

// killedCode is what a process that was ended by a signal has for an exit code.
const killedCode = -1

// stream is the part of a configuration that tests vary. The other settings are the program's own.
type stream struct {
	name, topic string
	pattern     string // instead of topic
	brokers     []string
	table       string
	schema      string // by default, none is said
	evolution   string
	partitionBy string
	columns     string // YAML
	properties  string // YAML
	interval    time.Duration
	listen      string // http.listen, by default off
	source      string // further lines of `source`, of two spaces' indent
	more        string // further lines at the top
}

// write puts the configuration into a file of its own.
func (s stream) write(t testing.TB) string {
	t.Helper()
	topic := "topic: " + s.topic
	if s.pattern != "" {
		topic = fmt.Sprintf("topic_pattern: %q", s.pattern)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "name: %s\nsource:\n  brokers: [%s]\n  %s\n%s", s.name, strings.Join(s.brokers, ", "), topic, s.source)
	fmt.Fprintf(&b, "table:\n  uri: %s\n", s.table)
	if s.schema != "" {
		fmt.Fprintf(&b, "  schema: %q\n", s.schema)
	}
	if s.evolution != "" {
		fmt.Fprintf(&b, "  schema_evolution: %s\n", s.evolution)
	}
	if s.partitionBy != "" {
		fmt.Fprintf(&b, "  partition_by: [%s]\n", s.partitionBy)
	}
	if s.columns != "" {
		fmt.Fprintf(&b, "  columns: %s\n", s.columns)
	}
	if s.properties != "" {
		fmt.Fprintf(&b, "  properties: %s\n", s.properties)
	}
	interval, listen := s.interval, s.listen
	if interval == 0 {
		interval = 500 * time.Millisecond
	}
	if listen == "" {
		listen = "off"
	}
	fmt.Fprintf(&b, "flush:\n  interval: %v\nhttp:\n  listen: %q\n%s", interval, listen, s.more)
	path := filepath.Join(t.TempDir(), "connector.yaml")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// logLine is one line that a connector wrote to its standard error.
type logLine struct {
	text   string
	fields map[string]any // nil where the line is not of the log
}

func (l logLine) msg() string {
	s, _ := l.fields["msg"].(string)
	return s
}

// process is a running connector.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	stdout bytes.Buffer
	done   chan struct{} // closed when it has ended and all its lines are read

	mu    sync.Mutex
	lines []logLine
	news  chan struct{} // replaced at every line
	eager func(logLine) // called for each line as it comes
}

// start runs the connector. What is still running when the test ends is killed.
func start(t testing.TB, args ...string) *process {
	t.Helper()
	return startWith(t, nil, nil, args...)
}

func startWith(t testing.TB, env []string, eager func(logLine), args ...string) *process {
	t.Helper()
	return startBinary(t, binary, env, eager, args...)
}

func startBinary(t testing.TB, binary string, env []string, eager func(logLine), args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(binary, args...), done: make(chan struct{}), news: make(chan struct{}), eager: eager}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout = &p.stdout
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.read(bufio.NewReader(stderr))
	t.Cleanup(func() {
		p.kill()
		<-p.done
		if t.Failed() {
			t.Logf("last lines of connector %d:\n%s", p.cmd.Process.Pid, p.tail(30))
		}
	})
	return p
}

// run starts `connector run` with a log that tests can read.
func run(t testing.TB, config string, args ...string) *process {
	t.Helper()
	return start(t, runArgs(config, args...)...)
}

func runArgs(config string, args ...string) []string {
	return append([]string{"run", "-c", config, "--log-level", "debug", "--log-format", "json"}, args...)
}

// untilEnd runs the connector to the present end of its topic, which must go well, and returns it.
func untilEnd(t testing.TB, config string) *process {
	t.Helper()
	p := run(t, config, "--until-end")
	p.wantExit(exitOK, 5*time.Minute)
	return p
}

func (p *process) read(r *bufio.Reader) {
	defer close(p.done)
	for {
		text, err := r.ReadString('\n')
		if text = strings.TrimRight(text, "\r\n"); text != "" {
			l := logLine{text: text}
			if strings.HasPrefix(text, "{") {
				_ = json.Unmarshal([]byte(text), &l.fields) // a line cut off by a kill stays text
			}
			p.mu.Lock()
			p.lines = append(p.lines, l)
			close(p.news)
			p.news = make(chan struct{})
			p.mu.Unlock()
			if p.eager != nil {
				p.eager(l)
			}
		}
		if err != nil {
			break
		}
	}
	_ = p.cmd.Wait()
}

func (p *process) log() []logLine {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.lines)
}

func (p *process) tail(n int) string {
	lines := p.log()
	var b strings.Builder
	for _, l := range lines[max(0, len(lines)-n):] {
		b.WriteString(l.text + "\n")
	}
	return b.String()
}

// stderr is everything that was written there so far.
func (p *process) stderr() string { return p.tail(1 << 30) }

// waitFor waits for a line of the log, from the beginning on, and returns it.
func (p *process) waitFor(what string, limit time.Duration, match func(logLine) bool) logLine {
	p.t.Helper()
	timeout := time.After(limit)
	for seen := 0; ; {
		p.mu.Lock()
		lines, news := p.lines, p.news
		p.mu.Unlock()
		for ; seen < len(lines); seen++ {
			if match(lines[seen]) {
				return lines[seen]
			}
		}
		select {
		case <-news:
		case <-timeout:
			p.t.Fatalf("no %s in %v; the last lines:\n%s", what, limit, p.tail(20))
		case <-p.done:
			p.mu.Lock()
			ended := seen == len(p.lines)
			p.mu.Unlock()
			if ended {
				p.t.Fatalf("the connector ended with %d before %s; the last lines:\n%s", p.code(), what, p.tail(20))
			}
		}
	}
}

// waitCommit waits for the n-th commit that holds rows.
func (p *process) waitCommit(n int) {
	p.t.Helper()
	p.waitFor(fmt.Sprintf("commit number %d with rows", n), time.Minute, func(l logLine) bool {
		if rows, _ := l.fields["rows"].(float64); l.msg() == "flush committed" && rows > 0 {
			n--
		}
		return n <= 0
	})
}

// begun tells whether the connector has logged anything, which it does once it heeds signals.
func (p *process) begun() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lines) > 0
}

// waitBegun waits until the connector has begun: before, a signal just ends it.
func (p *process) waitBegun() {
	p.t.Helper()
	p.waitFor("first line", time.Minute, func(logLine) bool { return true })
}

// wantEnd waits for the end.
func (p *process) wantEnd(limit time.Duration) {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(limit):
		p.t.Fatalf("the connector still runs after %v; the last lines:\n%s", limit, p.tail(30))
	}
}

// wantExit waits for the end and checks the exit code.
func (p *process) wantExit(code int, limit time.Duration) {
	p.t.Helper()
	p.wantEnd(limit)
	if got := p.code(); got != code {
		p.t.Fatalf("exit code %d, expected %d; the last lines:\n%s", got, code, p.tail(30))
	}
}

// code is the exit code of an ended process, or killedCode.
func (p *process) code() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// kill ends it as kill -9 does.
func (p *process) kill() { _ = p.cmd.Process.Kill() }

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("signalling the connector: %v", err)
	}
}
