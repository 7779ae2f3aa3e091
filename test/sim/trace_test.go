package sim

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"io"
	"strings"
	"sync"
	"time"
)

// trace is what happened in a world, line by line. Two runs of a seed are the same if their traces are.
type trace struct {
	begun time.Time

	mu    sync.Mutex
	lines []string
}

// add writes a line: when, who, what.
func (t *trace) add(who, format string, args ...any) {
	line := fmt.Sprintf("%11.6f %s: %s", time.Since(t.begun).Seconds(), who, fmt.Sprintf(format, args...))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line)
}

// sum tells traces apart.
func (t *trace) sum() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := fnv.New64a()
	for _, line := range t.lines {
		_, _ = io.WriteString(h, line)
		_, _ = h.Write([]byte{'\n'})
	}
	return h.Sum64()
}

// count counts the lines with a text in them.
func (t *trace) count(text string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, line := range t.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// text is the whole trace.
func (t *trace) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}

// writer takes a process's log into the trace.
func (t *trace) writer(who string) io.Writer { return &traceWriter{t, who} }

type traceWriter struct {
	trace *trace
	who   string
}

func (w *traceWriter) Write(p []byte) (int, error) {
	w.trace.add(w.who, "  log %s", bytes.TrimSpace(p))
	return len(p), nil
}
