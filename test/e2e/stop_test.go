package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"kafkadelta/internal/kafkatest"
)

// stopSignal asks a process to stop in order.
const stopSignal = syscall.SIGTERM

// TestStopDrains stops a connector that has read everything and committed nothing: it commits and reports all of it first.
func TestStopDrains(t *testing.T) {
	const messages, partitions = 5000, 3
	cluster := kafkatest.Start(t, "drain", partitions)
	kafkatest.Produce(t, cluster.ListenAddrs(), "drain", partitions, numbers(messages))
	s := stream{
		name: "e2e-drain", topic: "drain", brokers: cluster.ListenAddrs(), table: filepath.Join(t.TempDir(), "table"),
		schema: numberSchema, interval: 30 * time.Minute, listen: "127.0.0.1:0",
	}
	p := run(t, s.write(t))
	address := p.waitFor("address of the metrics", 20*time.Second, func(l logLine) bool { return strings.HasPrefix(l.msg(), "serving /metrics") })
	waitMetric(t, address.fields["address"].(string), fmt.Sprintf("kafkadelta_messages_total{stream=%q} %d", s.name, messages))
	if log := readLog(t, s.table, s.name); log.rows != 0 {
		t.Fatalf("%d rows were committed before the stop, so that this test shows nothing", log.rows)
	}
	p.signal(stopSignal)
	p.wantExit(exitOK, 30*time.Second)
	log := readLog(t, s.table, s.name)
	if log.rows != messages {
		t.Errorf("%d rows are in the table, %d messages were read", log.rows, messages)
	}
	if left := log.orphans(t, s.table); len(left) > 0 {
		t.Errorf("files that no version names are left: %v", left)
	}
	wantReported(t, cluster.ListenAddrs(), s.name, s.topic, log.next)
}

// waitMetric waits until the metrics hold the line.
func waitMetric(t testing.TB, address, line string) {
	t.Helper()
	var last string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		body, err := metrics(address)
		if err != nil {
			t.Fatal(err)
		}
		last = body
		if strings.Contains(last, line+"\n") {
			return
		}
	}
	t.Fatalf("the metrics never had %q; the last:\n%s", line, last)
}

// metrics are the lines that a connector serves.
func metrics(address string) (string, error) {
	resp, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(resp.Body)
	return string(body), errors.Join(err, resp.Body.Close())
}

// metricSum adds up the metrics whose line, without the value, has the text.
func metricSum(t testing.TB, address, text string) (sum float64) {
	t.Helper()
	body, err := metrics(address)
	if err != nil {
		t.Errorf("reading the metrics: %v", err)
	}
	for line := range strings.Lines(body) {
		at := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || at < 0 || !strings.Contains(line[:at], text) {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64)
		if err != nil {
			t.Errorf("metric %s: %v", line, err)
		}
		sum += n
	}
	return sum
}

// TestSecondSignal stops a connector twice while it cannot commit: it ends at once, and the next run finds everything.
func TestSecondSignal(t *testing.T) {
	s, restore := stuck(t, "")
	p := run(t, s.write(t))
	waitStuck(p)
	p.signal(stopSignal)
	p.waitFor("word of the stop", 10*time.Second, func(l logLine) bool { return strings.HasPrefix(l.msg(), "stopping") })
	p.signal(stopSignal)
	begun := time.Now()
	p.wantExit(exitInterrupted, 10*time.Second)
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("the second signal took %v", took)
	}
	restore()
}

// TestShutdownTimeout stops a connector that cannot commit: it gives up after its shutdown_timeout.
func TestShutdownTimeout(t *testing.T) {
	s, restore := stuck(t, "shutdown_timeout: 1s\n")
	p := run(t, s.write(t))
	waitStuck(p)
	p.signal(stopSignal)
	p.wantExit(exitInterrupted, 20*time.Second)
	if last := p.tail(1); !strings.Contains(last, "nothing is lost") {
		t.Errorf("the last line says nothing of what was read: %s", last)
	}
	restore()
}

// stuck prepares a stream whose table cannot be committed to after its first messages. restore heals the table, runs to
// the end and checks it.
func stuck(t *testing.T, more string) (stream, func()) {
	t.Helper()
	const partitions = 2
	topic := "stuck"
	cluster := kafkatest.Start(t, topic, partitions)
	kafkatest.Produce(t, cluster.ListenAddrs(), topic, partitions, numbers(100))
	s := stream{
		name: "e2e-stuck", topic: topic, brokers: cluster.ListenAddrs(), table: filepath.Join(t.TempDir(), "table"),
		schema: numberSchema, interval: 200 * time.Millisecond, more: more, source: "  session_timeout: 1s\n",
	}
	untilEnd(t, s.write(t))
	kafkatest.Produce(t, cluster.ListenAddrs(), topic, partitions, numbers(50))
	// The versions to come are taken by folders: the store can neither write there nor read what is there.
	version := readLog(t, s.table, s.name).version
	blocker := filepath.Join(s.table, "_delta_log", fmt.Sprintf("%020d.json", version+1))
	if err := os.Mkdir(blocker, 0o777); err != nil {
		t.Fatal(err)
	}
	return s, func() {
		t.Helper()
		if err := os.Remove(blocker); err != nil {
			t.Fatal(err)
		}
		untilEnd(t, s.write(t))
		log := readLog(t, s.table, s.name)
		if log.rows != 150 {
			t.Errorf("the table has %d rows, expected 150", log.rows)
		}
		wantReported(t, cluster.ListenAddrs(), s.name, topic, log.next)
	}
}

func waitStuck(p *process) {
	p.t.Helper()
	p.waitFor("word that the store fails", 30*time.Second, func(l logLine) bool { return strings.Contains(l.msg(), "store fails") })
}

// TestPoison stops at a message that cannot become a row, with everything before it committed; a second run stops there
// again and adds nothing; with on_error: skip it is passed.
func TestPoison(t *testing.T) {
	const partitions = 2
	cluster := kafkatest.Start(t, "poison", partitions)
	lines := numbers(1000)
	lines[700] = []byte(`{"n":"seven hundred"}`) // partition 0, offset 350
	kafkatest.Produce(t, cluster.ListenAddrs(), "poison", partitions, lines)
	s := stream{name: "e2e-poison", topic: "poison", brokers: cluster.ListenAddrs(), table: filepath.Join(t.TempDir(), "table"), schema: numberSchema}
	for range 2 {
		p := run(t, s.write(t), "--until-end")
		p.wantExit(exitPoison, time.Minute)
		if last := p.tail(1); !strings.Contains(last, "poison/0 offset 350") || !strings.Contains(last, "set on_error: dead_letter or skip") {
			t.Errorf("the last line names neither the message nor the remedy: %s", last)
		}
		if log := readLog(t, s.table, s.name); log.next[0] != 350 {
			t.Errorf("the table holds partition 0 up to %d, expected 350: everything before the bad message and nothing after it", log.next[0])
		}
	}
	s.more = "on_error: skip\n"
	untilEnd(t, s.write(t))
	log := readLog(t, s.table, s.name)
	log.wantNext(t, map[int32]int64{0: 500, 1: 500})
	if log.rows != 999 {
		t.Errorf("the table has %d rows, expected 999", log.rows)
	}
}

// TestTopicMadeAnew refuses to go on with a topic of the same name that is another one.
func TestTopicMadeAnew(t *testing.T) {
	for name, brokers := range brokersOf(t) {
		t.Run(name, func(t *testing.T) {
			brokers := brokers(t, "anew", 2)
			kafkatest.Produce(t, brokers, "anew", 2, numbers(100))
			s := stream{name: "e2e-anew", topic: "anew", brokers: brokers, table: filepath.Join(t.TempDir(), "table"), schema: numberSchema}
			untilEnd(t, s.write(t))
			before := readLog(t, s.table, s.name)

			client := admin(t, brokers)
			if _, err := client.DeleteTopic(t.Context(), "anew"); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
				if _, err := client.CreateTopic(t.Context(), 2, 1, nil, "anew"); err == nil {
					break
				} else if time.Now().After(deadline) {
					t.Fatal(err)
				}
			}
			kafkatest.Produce(t, brokers, "anew", 2, numbers(500))
			p := run(t, s.write(t), "--until-end")
			p.wantExit(exitRefused, time.Minute)
			if last := p.tail(1); !strings.Contains(last, "made anew") {
				t.Errorf("the last line does not tell what happened: %s", last)
			}
			if after := readLog(t, s.table, s.name); after.version != before.version {
				t.Errorf("the table went from version %d to %d", before.version, after.version)
			}
		})
	}
}

// TestTopicDeletedWhileItRuns: the worker commits what it has read, and ends. One made anew under the name is refused then.
func TestTopicDeletedWhileItRuns(t *testing.T) {
	for name, brokers := range brokersOf(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			brokers := brokers(t, "deleted", 2)
			kafkatest.Produce(t, brokers, "deleted", 2, numbers(100))
			s := stream{name: "e2e-deleted", topic: "deleted", brokers: brokers, table: filepath.Join(t.TempDir(), "table"), schema: numberSchema, interval: 10 * time.Minute}
			p := run(t, s.write(t))
			p.waitFor("an assignment", time.Minute, func(l logLine) bool { return l.msg() == "partitions assigned" })
			time.Sleep(3 * time.Second) // it reads meanwhile, and has no cause to commit
			client := admin(t, brokers)
			if _, err := client.DeleteTopic(t.Context(), "deleted"); err != nil {
				t.Fatal(err)
			}
			p.wantExit(exitSource, 3*time.Minute)
			if last := p.tail(1); !strings.Contains(last, "topic deleted: it was there, and has been deleted") || !strings.Contains(last, "--new-topic") {
				t.Errorf("the last line does not tell what happened: %s", last)
			}
			if log := readLog(t, s.table, s.name); log.rows != 100 {
				t.Errorf("%d rows are committed, want 100", log.rows)
			}
			createTopic(t, brokers, "deleted", 2)
			p = run(t, s.write(t))
			p.wantExit(exitRefused, time.Minute)
		})
	}
}

// brokersOf gives, by name, ways to get a topic: in process always, and on a real broker where there is Docker.
func brokersOf(t testing.TB) map[string]func(t testing.TB, topic string, partitions int32) []string {
	t.Helper()
	return map[string]func(testing.TB, string, int32) []string{
		"in-process Kafka": func(t testing.TB, topic string, partitions int32) []string {
			return kafkatest.Start(t, topic, partitions).ListenAddrs()
		},
		"real Kafka": func(t testing.TB, topic string, partitions int32) []string {
			kafka := realKafka(t)
			createTopic(t, kafka.brokers(), topic, partitions)
			return kafka.brokers()
		},
	}
}

// TestConfigurationIsWrong ends before anything is reached for.
func TestConfigurationIsWrong(t *testing.T) {
	good := stream{name: "e2e-wrong", topic: "t", brokers: []string{"127.0.0.1:1"}, schema: numberSchema}
	for name, tt := range map[string]struct {
		change func(*stream)
		hint   string
	}{
		"unknown key":          {func(s *stream) { s.more = "flushh: {}\n" }, "flush"},
		"unknown mechanism":    {func(s *stream) { s.source = "  sasl: {mechanism: scram-sha-1, username: u, password_env: P}\n" }, "scram-sha-512"},
		"a password in a file": {func(s *stream) { s.source = "  sasl: {mechanism: plain, username: u, password: secret}\n" }, "password"},
		"password not set":     {func(s *stream) { s.source = "  sasl: {mechanism: plain, username: u, password_env: E2E_NOT_SET}\n" }, "source.sasl.password_env"},
		"no such CA file":      {func(s *stream) { s.source = "  tls: {enabled: true, ca_file: /no/such/file}\n" }, "ca_file"},
		"no schema":            {func(s *stream) { s.schema = "n NUMERO" }, "table.schema"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := good
			s.table = filepath.Join(t.TempDir(), "table")
			tt.change(&s)
			p := run(t, s.write(t))
			p.wantExit(exitConfig, 20*time.Second)
			if last := p.stderr(); !strings.Contains(last, "Error: ") || !strings.Contains(last, tt.hint) {
				t.Errorf("no error with a hint to %q: %s", tt.hint, last)
			}
			if _, err := os.Stat(s.table); err == nil {
				t.Error("a table was made")
			}
		})
	}
}
