package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The readers, scripts in readers/. Their output is described in readers/rows.py.
const (
	deltaRS = "deltars.py"
	duckDB  = "duck.py"
)

var pythonOnce struct {
	sync.Once
	path string
	err  error
}

// python is the interpreter of the readers' virtual environment, which is made the first time and kept in the user's
// cache folder.
func python(t testing.TB) string {
	t.Helper()
	pythonOnce.Do(func() { pythonOnce.path, pythonOnce.err = makePython("requirements.txt") })
	if pythonOnce.err != nil {
		missing(t, "this test needs Python 3 with the packages of readers/requirements.txt: %v", pythonOnce.err)
	}
	return pythonOnce.path
}

// makePython makes the environment of a list of requirements.
func makePython(requirements string) (string, error) {
	cache, err := cacheFolder()
	if err != nil {
		return "", err
	}
	name := "python3"
	if runtime.GOOS == "windows" {
		name = "python"
	}
	cmd := exec.Command(name, filepath.Join("readers", "makevenv.py"), cache, filepath.Join("readers", requirements))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// cacheFolder is where what was fetched for the tests stays.
func cacheFolder() (string, error) {
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "kafkadelta-e2e"), err
}

// expectation is what every reader must find in a table.
type expectation struct {
	topic    string
	messages messages
	rows     map[place][]byte // the canonical text of each row
}

// expect prepares the comparison: row turns a message into the row that is expected of it.
func expect(t testing.TB, topic string, m messages, row func(map[string]any)) expectation {
	t.Helper()
	e := expectation{topic: topic, messages: m, rows: make(map[place][]byte, len(m))}
	for at, value := range m {
		decoded, err := decodeRow(value)
		if err != nil {
			t.Fatal(err)
		}
		if row != nil {
			row(decoded)
		}
		var b bytes.Buffer
		enc := json.NewEncoder(&b) // keys are sorted, as the readers sort them
		enc.SetEscapeHTML(false)
		if err := enc.Encode(decoded); err != nil {
			t.Fatal(err)
		}
		e.rows[at] = bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	}
	return e
}

func decodeRow(text []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var row map[string]any
	err := dec.Decode(&row)
	return row, err
}

// check reads the table with both foreign engines and compares each row with its message. It returns the readers that did
// so and found no fault: one that was skipped is not among them.
func (e expectation) check(t *testing.T, table string) (agreed []string) {
	t.Helper()
	for _, reader := range []string{deltaRS, duckDB} {
		name := strings.TrimSuffix(reader, ".py")
		t.Run(name, func(t *testing.T) {
			e.checkWith(t, reader, table) // ends the test by itself after a fault or a skip
			agreed = append(agreed, name)
		})
	}
	return agreed
}

func (e expectation) checkWith(t testing.TB, reader, table string) {
	t.Helper()
	cmd := exec.Command(python(t), "-B", filepath.Join("readers", reader), table)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	e.compare(t, reader, out, func() error {
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("%w\n%s", err, stderr.String())
		}
		return nil
	})
}

// compare goes through what a reader prints; wait tells how the reader ended.
func (e expectation) compare(t testing.TB, reader string, out io.Reader, wait func() error) {
	t.Helper()
	c := comparison{expectation: e, found: make(map[place]bool, len(e.rows))}
	scan := bufio.NewScanner(out)
	scan.Buffer(make([]byte, 1<<20), 64<<20)
	for scan.Scan() {
		c.line(scan.Bytes())
	}
	if err := wait(); err != nil || scan.Err() != nil {
		t.Fatalf("%s: %v %v", reader, err, scan.Err())
	}
	c.end()
	if c.faults > 0 {
		t.Fatalf("%s found %d faults in %d rows (of %d messages), first: %s", reader, c.faults, c.rows, len(e.rows), strings.Join(c.first, "\n"))
	}
	t.Logf("%s: %d rows, each equal to its message, each once", reader, c.rows)
}

// comparison goes through a reader's lines.
type comparison struct {
	expectation
	found  map[place]bool
	rows   int
	faults int
	first  []string
}

func (c *comparison) bad(format string, args ...any) {
	c.faults++
	if len(c.first) < 5 {
		c.first = append(c.first, fmt.Sprintf(format, args...))
	}
}

// end looks for what no line told of.
func (c *comparison) end() {
	for at := range c.expectation.rows {
		if !c.found[at] {
			c.bad("message %v is missing in the table", at)
		}
	}
}

func (c *comparison) line(text []byte) {
	c.rows++
	part := bytes.SplitN(text, []byte(","), 5) // no value before the row has a comma
	if len(part) != 5 {
		c.bad("line %q", text)
		return
	}
	partition, err1 := strconv.ParseInt(string(part[0][1:]), 10, 32)
	offset, err2 := strconv.ParseInt(string(part[1]), 10, 64)
	if err1 != nil || err2 != nil {
		c.bad("line %q", text)
		return
	}
	at := place{int32(partition), offset}
	want, ok := c.expectation.rows[at]
	switch {
	case !ok:
		c.bad("the table has a row %v, which is no message", at)
		return
	case c.found[at]:
		c.bad("message %v is twice in the table", at)
	}
	c.found[at] = true
	if string(part[2]) != strconv.Quote(c.topic) {
		c.bad("message %v has topic %s", at, part[2])
	}
	if _, err := time.Parse(`"2006-01-02T15:04:05.000000Z"`, string(part[3])); err != nil {
		c.bad("message %v has timestamp %s", at, part[3])
	}
	if got := part[4][:len(part[4])-1]; !bytes.Equal(got, want) && !sameRow(got, want) {
		c.bad("message %v: the row is\n%s, expected\n%s", at, got, want)
	}
}

// sameRow compares two rows of which numbers are spelled differently.
func sameRow(a, b []byte) bool {
	x, err1 := decodeRow(a)
	y, err2 := decodeRow(b)
	return err1 == nil && err2 == nil && reflect.DeepEqual(spelled(x), spelled(y))
}

// spelled gives whole numbers and others one spelling each.
func spelled(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = spelled(e)
		}
	case []any:
		for i, e := range v {
			v[i] = spelled(e)
		}
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i
		}
		f, err := v.Float64()
		if err != nil {
			return v
		}
		if i := int64(f); float64(i) == f && i > -1<<53 && i < 1<<53 {
			return i
		}
		return f
	}
	return v
}
