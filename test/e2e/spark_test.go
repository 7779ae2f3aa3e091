package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// sparkLimit bounds one command of Spark.
const sparkLimit = 5 * time.Minute

// sparkEngine is a session of Spark with Delta that all tests share (readers/spark.py): a JVM takes many seconds to start.
type sparkEngine struct {
	mu      sync.Mutex // one command at a time
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers chan []byte // closed when Spark has ended
	stderr  tailBuffer
}

var theSpark struct {
	once sync.Once
	*sparkEngine
	err     error
	lacking bool // err is the machine's fault
}

// spark is the engine, started the first time. Where Java, Python or their packages are missing the test skips, or fails
// under CI=true.
func spark(t testing.TB) *sparkEngine {
	t.Helper()
	theSpark.once.Do(func() {
		theSpark.lacking = true
		if _, err := exec.LookPath("java"); err != nil {
			theSpark.err = err
			return
		}
		interpreter, err := makePython("requirements-spark.txt")
		if err != nil {
			theSpark.err = err
			return
		}
		theSpark.lacking = false
		theSpark.sparkEngine, theSpark.err = startSpark(interpreter)
	})
	if theSpark.lacking {
		missing(t, "this test needs Java 17, Python 3 and the packages of readers/requirements-spark.txt: %v", theSpark.err)
	}
	if theSpark.err != nil {
		missing(t, "this test needs Spark, which fetches Delta from Maven Central: %v", theSpark.err)
	}
	return theSpark.sparkEngine
}

func startSpark(interpreter string) (*sparkEngine, error) {
	cache, err := cacheFolder()
	if err != nil {
		return nil, err
	}
	s := &sparkEngine{cmd: exec.Command(interpreter, "-B", filepath.Join("readers", "spark.py"), cache), answers: make(chan []byte)}
	s.cmd.Stderr = &s.stderr
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(s.answers)
		scan := bufio.NewScanner(out)
		scan.Buffer(nil, 256<<20)
		for scan.Scan() {
			s.answers <- bytes.Clone(scan.Bytes())
		}
	}()
	if _, err := s.answer(); err != nil {
		_ = s.cmd.Process.Kill()
		return nil, fmt.Errorf("starting Spark: %w", err)
	}
	return s, nil
}

// stopSpark ends the engine, if there is one.
func stopSpark() {
	if theSpark.sparkEngine == nil {
		return
	}
	_ = theSpark.in.Close()
	select {
	case <-theSpark.answers:
	case <-time.After(30 * time.Second):
		_ = theSpark.cmd.Process.Kill()
	}
	_ = theSpark.cmd.Wait()
}

func (s *sparkEngine) answer() (json.RawMessage, error) {
	select {
	case line, ok := <-s.answers:
		var a struct {
			OK    json.RawMessage `json:"ok"`
			Error string          `json:"error"`
		}
		switch {
		case !ok:
			return nil, fmt.Errorf("it has ended:\n%s", s.stderr.String())
		case json.Unmarshal(line, &a) != nil:
			return nil, fmt.Errorf("its answer is %q", line)
		case a.Error != "":
			return nil, &sparkError{a.Error}
		}
		return a.OK, nil
	case <-time.After(sparkLimit):
		_ = s.cmd.Process.Kill() // or the next command would take the late answer for its own
		return nil, fmt.Errorf("no answer within %v:\n%s", sparkLimit, s.stderr.String())
	}
}

// sparkError is what Spark says of a command that it could not do.
type sparkError struct{ text string }

func (e *sparkError) Error() string { return e.text }

// do runs one of the functions of readers/spark.py.
func (s *sparkEngine) do(name string, args map[string]any) (json.RawMessage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	command := map[string]any{"do": name}
	maps.Copy(command, args)
	line, err := json.Marshal(command)
	if err != nil {
		return nil, err
	}
	if _, err := s.in.Write(append(line, '\n')); err != nil {
		return nil, fmt.Errorf("telling Spark to %s: %w\n%s", name, err, s.stderr.String())
	}
	return s.answer()
}

// must is do in a test that cannot go on without.
func (s *sparkEngine) must(t testing.TB, name string, args map[string]any) json.RawMessage {
	t.Helper()
	out, err := s.do(name, args)
	if err != nil {
		t.Fatalf("Spark, %s %v: %v", name, args, err)
	}
	return out
}

// sql runs a statement, in which {t} stands for the table, and gives its rows.
func (s *sparkEngine) sql(t testing.TB, table, text string) []map[string]any {
	t.Helper()
	out := s.must(t, "sql", map[string]any{"text": inSQL(text, table)})
	dec := json.NewDecoder(bytes.NewReader(out))
	dec.UseNumber()
	var rows []map[string]any
	if err := dec.Decode(&rows); err != nil {
		t.Fatalf("Spark answered %s: %v", out, err)
	}
	return rows
}

func inSQL(text, table string) string { return strings.ReplaceAll(text, "{t}", "delta.`"+table+"`") }

// checkWithSpark compares each row of the table with its message.
func (e expectation) checkWithSpark(t testing.TB, table string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "rows")
	spark(t).must(t, "read", map[string]any{"table": table, "out": out})
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	e.compare(t, "spark", f, func() error { return nil })
}

// tailBuffer keeps the end of what is written to it.
type tailBuffer struct {
	mu   sync.Mutex
	data []byte
}

func (b *tailBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.data = append(b.data, p...)
	if n := len(b.data) - 8<<10; n > 0 {
		b.data = b.data[n:]
	}
	return len(p), nil
}

func (b *tailBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.data)
}
