package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kafkadelta/internal/kafkatest"
	"kafkadelta/storage/open"
)

// metricsText gives the metrics of a registry, a line each: name, labels but the stream, value.
func metricsText(t *testing.T, g prometheus.Gatherer) string {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range families {
		for _, m := range f.GetMetric() {
			b.WriteString(f.GetName())
			for _, l := range m.GetLabel() {
				if l.GetName() != "stream" {
					b.WriteString(" " + l.GetValue())
				}
			}
			fmt.Fprintf(&b, " %v\n", m.GetCounter().GetValue()+m.GetGauge().GetValue())
		}
	}
	return b.String()
}

// TestSelfCheck holds that the daemon's check covers what is new and nothing twice, that it finds a planted fault, and that
// what a leader before can have left undone is done by the next one, be that an old worker or a new one.
func TestSelfCheck(t *testing.T) {
	cluster := kafkatest.Start(t, "numbers", 1)
	table := filepath.Join(t.TempDir(), "table")
	conf := file(t, "c.yaml", fmt.Sprintf(`name: numbers
source: {brokers: [%q], topic: numbers}
table: {uri: %q, schema: "id BIGINT"}
http: {listen: "off"}
`, cluster.ListenAddrs()[0], table))
	produced := 0
	more := func() {
		t.Helper()
		var values [][]byte
		for range 10 {
			values = append(values, fmt.Appendf(nil, `{"id":%d}`, produced))
			produced++
		}
		kafkatest.Produce(t, cluster.ListenAddrs(), "numbers", 1, values)
		mustRun(t, "run", "-c", conf, "--until-end", "--log-level", "error")
	}
	store, err := openStore(t.Context(), table, open.Config{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var logged strings.Builder
	leads := true
	newCheck := func() *selfCheck {
		s := newSelfCheck("numbers", verifyConfig{Interval: time.Minute}, "_kafka", func() bool { return leads }, time.Now, slog.New(slog.NewTextHandler(&logged, nil)))
		s.store = store
		return s
	}
	s := newCheck()
	age := func(version int, by time.Duration) { // has a version be that old
		t.Helper()
		at := time.Now().Add(-by)
		if err := os.Chtimes(filepath.Join(table, "_delta_log", fmt.Sprintf("%020d.json", version)), at, at); err != nil {
			t.Fatal(err)
		}
	}
	look := func(want ...string) {
		t.Helper()
		if err := s.check(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := metricsText(t, s.registry)
		for _, w := range want {
			if !strings.Contains(got, w+"\n") {
				t.Errorf("no %q in\n%s%s", w, got, logged.String())
			}
		}
	}
	look("kafkadelta_verify_version -1") // no table yet
	more()
	look("kafkadelta_verify_version 2", "kafkadelta_verify_rows_total 10")
	more()
	look("kafkadelta_verify_version 3", "kafkadelta_verify_rows_total 20")
	look("kafkadelta_verify_version 3", "kafkadelta_verify_rows_total 20")
	leads = false
	more()
	look("kafkadelta_verify_version 3", "kafkadelta_verify_age_seconds -1")
	for v := range 4 {
		age(v, time.Hour)
	}
	leads = true
	more()
	look("kafkadelta_verify_version 5", "kafkadelta_verify_rows_total 40") // what the leader before has left, too

	// A new worker, while the leader before is gone for hours, and has left two versions within its last intervals.
	s = newCheck()
	leads = false
	for v := range 4 {
		age(v, 6*time.Hour)
	}
	age(4, 5*time.Hour)
	age(5, 5*time.Hour-s.reach()/2)
	look("kafkadelta_verify_version -1", "kafkadelta_verify_rows_total 0", "kafkadelta_verify_age_seconds -1")
	leads = true
	more()
	look("kafkadelta_verify_version 6", "kafkadelta_verify_rows_total 30")
	if strings.Contains(metricsText(t, s.registry), "faults") || strings.Contains(logged.String(), "ERROR") {
		t.Errorf("faults in a sound table:\n%s%s", metricsText(t, s.registry), logged.String())
	}

	more()
	files, err := filepath.Glob(filepath.Join(table, "*.parquet"))
	if err != nil || len(files) != 6 {
		t.Fatalf("%v, %v", files, err)
	}
	newest := files[0]
	for _, f := range files {
		if modified(t, f).After(modified(t, newest)) {
			newest = f
		}
	}
	if err := os.Remove(newest); err != nil {
		t.Fatal(err)
	}
	look("kafkadelta_verify_version 7", "kafkadelta_verify_rows_total 30", "kafkadelta_verify_faults_total missing_file 1")
	if !strings.Contains(logged.String(), "verification has found a fault") {
		t.Errorf("the fault is not logged:\n%s", logged.String())
	}
	more()
	look("kafkadelta_verify_version 8", "kafkadelta_verify_rows_total 40", "kafkadelta_verify_faults_total missing_file 1")
}

// TestSelfCheckCountsAllFaults: more of a kind than a report has the texts of.
func TestSelfCheckCountsAllFaults(t *testing.T) {
	const many = 60
	cluster := kafkatest.Start(t, "numbers", 1)
	table := filepath.Join(t.TempDir(), "table")
	conf := file(t, "c.yaml", fmt.Sprintf(`name: numbers
source: {brokers: [%q], topic: numbers}
table: {uri: %q, schema: "id BIGINT", partition_by: [id]}
http: {listen: "off"}
`, cluster.ListenAddrs()[0], table))
	more := func(n int) {
		t.Helper()
		var values [][]byte
		for i := range n {
			values = append(values, fmt.Appendf(nil, `{"id":%d}`, i))
		}
		kafkatest.Produce(t, cluster.ListenAddrs(), "numbers", 1, values)
		mustRun(t, "run", "-c", conf, "--until-end", "--log-level", "error")
	}
	s := newSelfCheck("numbers", verifyConfig{Interval: time.Minute}, "_kafka", func() bool { return true }, time.Now, slog.New(slog.DiscardHandler))
	var err error
	if s.store, err = openStore(t.Context(), table, open.Config{}, nil); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		if err := s.check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	more(1)
	check()
	more(many)
	files, err := filepath.Glob(filepath.Join(table, "id=*", "*.parquet"))
	if err != nil || len(files) != 1+many {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	check()
	if got, want := metricsText(t, s.registry), fmt.Sprintf("kafkadelta_verify_faults_total missing_file %d\n", many); !strings.Contains(got, want) {
		t.Errorf("no %q in\n%s", want, got)
	}
}

// TestRunVerifiesItself holds that verify.interval of a configuration file has a running worker check what it commits.
func TestRunVerifiesItself(t *testing.T) {
	cluster := kafkatest.Start(t, "numbers", 2)
	d := startDaemon(t, runConfig(t, cluster.ListenAddrs(), "", "verify: {interval: 1s}\nhttp: {listen: \"127.0.0.1:0\"}\n"))
	checked := `kafkadelta_verify_rows_total{stream="numbers"} `
	for deadline := time.Now().Add(commandLimit); ; { // the first look passes over what it finds
		kafkatest.Produce(t, cluster.ListenAddrs(), "numbers", 2, values(20))
		time.Sleep(time.Second)
		if _, m := d.get("/metrics"); strings.Contains(m, checked) && !strings.Contains(m, checked+"0\n") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing was verified: %s", d.stderr.String())
		}
	}
	if _, m := d.get("/metrics"); strings.Contains(m, "kafkadelta_verify_faults_total") || strings.Contains(m, `kafkadelta_verify_age_seconds{stream="numbers"} -1`) {
		t.Error(m)
	}
	if code := d.end(); code != exitOK {
		t.Errorf("exit code %d: %s", code, d.stderr.String())
	}
	config := file(t, "c.yaml", "name: numbers\nsource: {brokers: [\"127.0.0.1:1\"], topic: numbers}\ntable: {uri: ./t}\nverify: {interval: 10ms}\n")
	if o := command(t, "validate", "-c", config); o.code == exitOK || !strings.Contains(o.stderr, "verify.interval is 10ms") {
		t.Errorf("%d %s", o.code, o.stderr)
	}
}

func modified(t *testing.T, path string) time.Time {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.ModTime()
}
