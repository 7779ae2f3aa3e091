package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sr/srfake"

	"kafkadelta/internal/savetest"
)

// schemaRegistry is franz-go's schema registry, with a front that fails on purpose: producers ask the one, the connector the other.
type schemaRegistry struct {
	*srfake.Registry
	front *httptest.Server
	down  atomic.Bool

	mu    sync.Mutex
	asked map[string]int // by path, of schemas by id or GUID
	modes int
}

func newRegistry(t testing.TB) *schemaRegistry {
	t.Helper()
	r := &schemaRegistry{Registry: srfake.New(), asked: map[string]int{}}
	t.Cleanup(r.Registry.Close)
	target, err := url.Parse(r.URL())
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	r.front = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if !r.fails(w, q.URL.Path) {
			proxy.ServeHTTP(w, q)
		}
	}))
	t.Cleanup(r.front.Close)
	return r
}

// fails answers in the place of the registry while that is down, and the first time that a schema is asked for, each time in another way.
func (r *schemaRegistry) fails(w http.ResponseWriter, path string) bool {
	if r.down.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	if !strings.HasPrefix(path, "/schemas/ids/") && !strings.HasPrefix(path, "/schemas/guids/") {
		return false
	}
	r.mu.Lock()
	first := r.asked[path] == 0
	r.asked[path]++
	if first {
		r.modes++
	}
	mode := r.modes % 5
	r.mu.Unlock()
	switch {
	case !first:
		return false
	case mode == 0: // slow: the answer comes, later than a lane waits
		time.Sleep(1500 * time.Millisecond)
		return false
	case mode == 1:
		w.WriteHeader(http.StatusInternalServerError)
	case mode == 2: // of something on the way, not of a registry
		http.NotFound(w, nil)
	case mode == 3: // a wrong type
		_, _ = w.Write([]byte(`{"schema":7}`))
	default:
		panic(http.ErrAbortHandler)
	}
	return true
}

// serialized has messages produced by readers/serializers.py, and adds what they are to become.
func (e expectation) serialized(t testing.TB, r *schemaRegistry, what string, brokers []string, args ...int) {
	t.Helper()
	interpreter, err := makePython("requirements-serializers.txt")
	if err != nil {
		missing(t, "this test needs Python 3 with the packages of readers/requirements-serializers.txt: %v", err)
	}
	command := []string{"-B", filepath.Join("readers", "serializers.py"), what, brokers[0], r.URL(), e.topic}
	for _, n := range args {
		command = append(command, strconv.Itoa(n))
	}
	cmd := exec.Command(interpreter, command...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("serializers.py %s: %v\n%s", what, err, stderr.String())
	}
	for line := range bytes.Lines(out) {
		var parts []json.RawMessage
		var at place
		err := json.Unmarshal(line, &parts)
		if err == nil && len(parts) != 3 {
			err = fmt.Errorf("%d parts", len(parts))
		}
		if err == nil {
			err = json.Unmarshal(parts[0], &at.partition)
		}
		if err == nil {
			err = json.Unmarshal(parts[1], &at.offset)
		}
		if err != nil {
			t.Fatalf("serializers.py prints %s: %v", line, err)
		}
		e.rows[at] = parts[2]
	}
}

// schemaStream is a stream whose table is made from the registry's schemas, with keys.
func schemaStream(t testing.TB, r *schemaRegistry, what string, topic string, brokers []string) stream {
	format, _, _ := strings.Cut(what, "-")
	source := fmt.Sprintf("  format: %s\n  schema_registry: {urls: [%q]}\n  key: {format: %s, framing: registry}\n", format, r.front.URL, format)
	if format == "json" {
		source += "  json: {framing: registry}\n"
	}
	if what == "protobuf-imports" {
		source += "  protobuf: {message: shop.Orders.Order}\n"
	}
	return stream{name: "e2e-" + topic, topic: topic, brokers: brokers, table: filepath.Join(t.TempDir(), "table"), source: source}
}

// TestSerializers reads what Confluent's own serializers for Python have written, by two schemas of each format, with the schema's id before the
// value and its GUID in a header, with references to other schemas, with keys of the same format, while the registry fails in each way once: the tables have each row, as delta-rs and DuckDB read them.
func TestSerializers(t *testing.T) {
	t.Parallel()
	brokers := realKafka(t).brokers()
	for _, what := range []string{"avro", "protobuf", "json", "avro-header", "protobuf-header", "json-header", "avro-imports", "protobuf-imports", "json-imports"} {
		t.Run(what, func(t *testing.T) {
			r := newRegistry(t)
			topic := "serialized-" + what + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
			createTopic(t, brokers, topic, 2)
			e := expectation{topic: topic, rows: map[place][]byte{}}
			e.serialized(t, r, what, brokers, 0, 150, 1)
			e.serialized(t, r, what, brokers, 150, 150, 2)
			e.serialized(t, r, what, brokers, 300, 20, 1)
			s := schemaStream(t, r, what, topic, brokers)
			config := s.write(t)
			untilEnd(t, config)
			if n := len(e.rows); n != 320 {
				t.Fatalf("%d messages were produced", n)
			}
			e.check(t, s.table)
			wantVerified(t, config, s.table)
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.modes < 3 {
				t.Errorf("%d schemas were asked for: keys, and two of values", r.modes)
			}
		})
	}
}

// TestRegistryDown takes the registry away while a stream runs, and brings messages by a new schema meanwhile: their partition stands still,
// the other one flows on, the worker is not ready, and in the end each message is in the table once.
func TestRegistryDown(t *testing.T) {
	t.Parallel()
	brokers := realKafka(t).brokers()
	r := newRegistry(t)
	topic := "registry-down-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	createTopic(t, brokers, topic, 2)
	e := expectation{topic: topic, rows: map[place][]byte{}}
	e.serialized(t, r, "avro", brokers, 0, 200, 2)
	s := schemaStream(t, r, "avro", topic, brokers)
	s.listen = "127.0.0.1:0"
	config := s.write(t)
	p := run(t, config)
	line := p.waitFor("the address", time.Minute, func(l logLine) bool { return strings.HasPrefix(l.msg(), "serving") })
	address, _ := line.fields["address"].(string)
	rows := func(n int) {
		waitMetric(t, address, fmt.Sprintf("kafkadelta_committed_rows_total{stream=%q} %d", s.name, n))
	}
	rows(200)

	r.down.Store(true)
	begin := time.Now()
	e.serialized(t, r, "avro", brokers, 200, 50, 1, 0) // of a schema that is new to the connector
	n := 200
	for more := true; more; more = time.Since(begin) < *outage {
		e.serialized(t, r, "avro", brokers, 1000+n, 20, 2, 1)
		n += 20
		rows(n)
	}
	waitMetric(t, address, fmt.Sprintf("kafkadelta_waiting_partitions{stream=%q} 1", s.name))
	resp, err := http.Get("http://" + address + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("ready: %s, while messages wait for a schema", resp.Status)
	}
	r.down.Store(false)
	t.Logf("the registry was down for %v", time.Since(begin).Round(time.Millisecond))
	rows(n + 50)
	waitMetric(t, address, fmt.Sprintf("kafkadelta_waiting_partitions{stream=%q} 0", s.name))
	waitMetric(t, address, fmt.Sprintf("kafkadelta_rows_total{stream=%q} %d", s.name, n+50)) // nothing was dropped and read again
	if body, err := metrics(address); err != nil || strings.Contains(body, "kafkadelta_poison_messages_total{") {
		t.Errorf("poison: %v", err)
	}
	p.signal(stopSignal)
	p.wantExit(exitOK, time.Minute)
	agreed := e.check(t, s.table)
	wantVerified(t, config, s.table)
	savetest.Result(t, *results, fmt.Sprintf("%s: the registry was away for %v, and messages of a new schema waited: %d messages, each in the table exactly once by verify, verify.py, %s, none taken twice, none poison\n",
		t.Name(), *outage, n+50, strings.Join(agreed, " and ")))
}
