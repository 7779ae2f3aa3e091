package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"kafkadelta/internal/kafkatest"
)

func runConfig(t testing.TB, brokers []string, source, more string) string {
	t.Helper()
	return file(t, "connector.yaml", fmt.Sprintf(`name: numbers
source:
  brokers: ["%s"]
  topic: numbers
%stable:
  uri: %s
  schema: "n BIGINT"
flush: {interval: 50ms}
%s`, strings.Join(brokers, `", "`), source, filepath.Join(t.TempDir(), "table"), more))
}

// values are n messages {"n": 0}, {"n": 1}, ...
func values(n int) [][]byte {
	v := make([][]byte, n)
	for i := range v {
		v[i] = fmt.Appendf(nil, `{"n":%d}`, i)
	}
	return v
}

// TestSecretsAreNeverPrinted looks for a password in everything that a run writes, at its most talkative.
func TestSecretsAreNeverPrinted(t *testing.T) {
	const user, password = "loader", "hunter2-hunter2"
	cluster := kafkatest.Start(t, "numbers", 1, kfake.EnableSASL(), kfake.Superuser("PLAIN", user, password), kfake.Superuser("SCRAM-SHA-256", user, password))
	t.Setenv("GOOD_PASSWORD", password)
	t.Setenv("WRONG_PASSWORD", password+"-wrong")
	for name, tt := range map[string]struct {
		sasl    string
		refused bool // this Kafka just hangs up then; a real one says why (test/e2e)
	}{
		"plain":                         {"{mechanism: plain, username: loader, password_env: GOOD_PASSWORD}", false},
		"scram":                         {"{mechanism: scram-sha-256, username: loader, password_env: GOOD_PASSWORD}", false},
		"from a file":                   {"{mechanism: plain, username: loader, password_file: " + file(t, "password", password+"\n") + "}", false},
		"wrong, plain":                  {"{mechanism: plain, username: loader, password_env: WRONG_PASSWORD}", true},
		"wrong, scram":                  {"{mechanism: scram-sha-256, username: loader, password_env: WRONG_PASSWORD}", true},
		"mechanism that is not offered": {"{mechanism: scram-sha-512, username: loader, password_env: GOOD_PASSWORD}", true},
	} {
		for _, format := range []string{"text", "json"} {
			t.Run(name+", "+format, func(t *testing.T) {
				t.Parallel()
				config := runConfig(t, cluster.ListenAddrs(), "  sasl: "+tt.sasl+"\n", "http: {listen: \"off\"}\n")
				d := startRun(t, "-c", config, "--until-end", "--log-level", "debug", "--log-format", format)
				want := "stopped, everything"
				if tt.refused {
					want = "Kafka does not answer"
				}
				d.wait(want, func() bool { return strings.Contains(d.stderr.String(), want) })
				if code := d.end(); code != exitOK {
					t.Errorf("exit code %d: %s", code, d.stderr.String())
				}
				if strings.Contains(d.stderr.String(), "hunter2") {
					t.Errorf("the output shows the password: %s", d.stderr.String())
				}
			})
		}
	}
}

// daemon is a `run` in this process.
type daemon struct {
	t      testing.TB
	url    string
	stderr *buffer
	stop   context.CancelFunc
	code   chan int
}

func startRun(t testing.TB, args ...string) *daemon {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	d := &daemon{t: t, stderr: &buffer{}, stop: cancel, code: make(chan int, 1)}
	go func() { d.code <- run(ctx, append([]string{"run"}, args...), d.stderr, d.stderr) }()
	t.Cleanup(cancel)
	return d
}

func startDaemon(t testing.TB, config string) *daemon {
	t.Helper()
	d := startRun(t, "-c", config)
	address := regexp.MustCompile(`address=(\S+)`)
	d.wait("the address", func() bool {
		if m := address.FindStringSubmatch(d.stderr.String()); m != nil {
			d.url = "http://" + m[1]
		}
		return d.url != ""
	})
	return d
}

func (d *daemon) wait(what string, ready func() bool) {
	d.t.Helper()
	d.waitFor(commandLimit, what, ready)
}

func (d *daemon) waitFor(limit time.Duration, what string, ready func() bool) {
	d.t.Helper()
	for deadline := time.Now().Add(limit); !ready(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("%s never came: %s", what, d.stderr.String())
		}
	}
}

// client keeps no connection open, so that no goroutine outlives a test.
var client = http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}

func (d *daemon) get(path string) (int, string) {
	d.t.Helper()
	resp, err := client.Get(d.url + path)
	if err != nil {
		d.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if cerr := resp.Body.Close(); err != nil || cerr != nil {
		d.t.Fatal(err, cerr)
	}
	return resp.StatusCode, string(body)
}

func (d *daemon) end() int {
	d.stop()
	select {
	case code := <-d.code:
		return code
	case <-time.After(20 * time.Second):
		d.t.Fatalf("the daemon does not stop: %s", d.stderr.String())
		return 0
	}
}

func TestMetricsAndHealth(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "numbers"), kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	lines := values(100)
	lines[98] = []byte(`{"n":"many"}`) // the last but one of partition 0... and it is passed
	kafkatest.Produce(t, cluster.ListenAddrs(), "numbers", 2, lines)
	d := startDaemon(t, runConfig(t, cluster.ListenAddrs(), "", "on_error: skip\nhttp: {listen: \"127.0.0.1:0\"}\n"))
	d.wait("readiness", func() bool { code, _ := d.get("/readyz"); return code == http.StatusOK })
	if code, body := d.get("/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("/healthz answers %d %q", code, body)
	}
	label := `{stream="numbers"}`
	var metrics string
	d.wait("the last row", func() bool {
		_, metrics = d.get("/metrics")
		return strings.Contains(metrics, "kafkadelta_committed_rows_total"+label+" 99\n")
	})
	for _, want := range []string{
		"kafkadelta_messages_total" + label + " 100", "kafkadelta_rows_total" + label + " 99", "kafkadelta_ready" + label + " 1",
		"kafkadelta_assigned_partitions" + label + " 2", "kafkadelta_bytes_in_flight" + label + " 0", "kafkadelta_lost_races_total" + label + " 0",
		`kafkadelta_lag_messages{partition="0",stream="numbers",topic="numbers"} 0`,
		`kafkadelta_lag_messages{partition="1",stream="numbers",topic="numbers"} 0`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("/metrics lacks %q", want)
		}
	}
	for _, name := range []string{
		"message_bytes_total", "committed_files_total", "committed_bytes_total", "commits_total", "last_commit_age_seconds", "poison_messages_total",
	} {
		m := regexp.MustCompile(`(?m)^kafkadelta_` + name + `\{.*\} ([0-9.e+-]+)$`).FindStringSubmatch(metrics)
		if m == nil || m[1] == "0" || m[1] == "-1" {
			t.Errorf("kafkadelta_%s is %v", name, m)
		}
		if !strings.Contains(metrics, "# HELP kafkadelta_"+name+" ") {
			t.Errorf("kafkadelta_%s has no help", name)
		}
	}
	d.wait("the committed offsets", func() bool {
		_, metrics = d.get("/metrics")
		return strings.Contains(metrics, `kafkadelta_committed_offset{partition="0",stream="numbers",topic="numbers"} 50`) &&
			strings.Contains(metrics, `kafkadelta_committed_offset{partition="1",stream="numbers",topic="numbers"} 50`)
	})
	if !strings.Contains(metrics, "process_resident_memory_bytes") && !strings.Contains(metrics, "go_goroutines") {
		t.Error("/metrics has nothing of the process")
	}
	if code := d.end(); code != exitOK {
		t.Errorf("exit code %d: %s", code, d.stderr.String())
	}
}

// TestNotReady has a worker that cannot reach Kafka say so, and live.
func TestNotReady(t *testing.T) {
	d := startDaemon(t, runConfig(t, []string{"127.0.0.1:1"}, "", "http: {listen: \"127.0.0.1:0\"}\n"))
	if code, body := d.get("/readyz"); code != http.StatusServiceUnavailable || body == "" {
		t.Errorf("/readyz answers %d %q", code, body)
	}
	if code, _ := d.get("/healthz"); code != http.StatusOK {
		t.Errorf("/healthz answers %d", code)
	}
	d.wait("the counted error", func() bool {
		_, metrics := d.get("/metrics")
		return strings.Contains(metrics, `kafkadelta_errors_total{cause="source",stream="numbers"}`) && strings.Contains(metrics, `kafkadelta_ready{stream="numbers"} 0`)
	})
	if code := d.end(); code != exitOK {
		t.Errorf("exit code %d: %s", code, d.stderr.String())
	}
}

// TestAddressTaken names the setting to change.
func TestAddressTaken(t *testing.T) {
	d := startDaemon(t, runConfig(t, []string{"127.0.0.1:1"}, "", "http: {listen: \"127.0.0.1:0\"}\n"))
	o := command(t, "run", "-c", runConfig(t, []string{"127.0.0.1:1"}, "", fmt.Sprintf("http: {listen: %q}\n", strings.TrimPrefix(d.url, "http://"))))
	if o.code != exitConfig || !strings.Contains(o.stderr, "http.listen") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
	d.end()
}

// TestDifferentSchema has the table's schema win, and the differences listed.
func TestDifferentSchema(t *testing.T) {
	cluster := kafkatest.Start(t, "numbers", 1)
	kafkatest.Produce(t, cluster.ListenAddrs(), "numbers", 1, values(10))
	table := filepath.Join(t.TempDir(), "table")
	mustRun(t, "table", "create", table, "--schema", "n STRING, more INT")
	config := file(t, "c.yaml", fmt.Sprintf("name: numbers\nsource: {brokers: [%q], topic: numbers}\ntable: {uri: %s, schema: \"n BIGINT, other INT\"}\nhttp: {listen: \"off\"}\n",
		cluster.ListenAddrs()[0], table))
	o := command(t, "run", "-c", config, "--until-end")
	for _, want := range []string{"column n is ", "column other is configured but not in the table", "column more is in the table but not configured", "column _kafka is configured but not in the table"} {
		if !strings.Contains(o.stderr, want) {
			t.Errorf("the log lacks %q: %s", want, o.stderr)
		}
	}
}
