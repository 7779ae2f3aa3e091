package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"kafkadelta/admin"
	"kafkadelta/internal/kafkatest"
)

// filledTable runs a stream to the end of an embedded topic. It returns the configuration and the table.
func filledTable(t *testing.T) (config, table string) {
	t.Helper()
	cluster := kafkatest.Start(t, "numbers", 2)
	var values [][]byte
	for i := range 100 {
		values = append(values, fmt.Appendf(nil, `{"id":%d}`, i))
	}
	kafkatest.Produce(t, cluster.ListenAddrs(), "numbers", 2, values)
	table = filepath.Join(t.TempDir(), "table")
	config = file(t, "c.yaml", fmt.Sprintf(`name: numbers
source: {brokers: [%q], topic: numbers}
table: {uri: %q, schema: "id BIGINT"}
http: {listen: "off"}
`, cluster.ListenAddrs()[0], table))
	mustRun(t, "run", "-c", config, "--until-end", "--log-level", "error")
	return config, table
}

func TestVerifyAndExplain(t *testing.T) {
	config, table := filledTable(t)
	o := mustRun(t, "verify", "-c", config)
	for _, want := range []string{
		table + ", version 2: ok\n", "100 rows (0 of them of no stream); all of the log is there",
		"Kafka: 100 messages, 0 control records, 0 other gaps; 0 offsets are before",
	} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("verify does not say %q:\n%s", want, o.stdout)
		}
	}
	brokers := regexp.MustCompile(`127\.[^"]+`).FindString(readAll(t, config))
	for _, args := range [][]string{
		{"--table", table}, {"--table", table, "-c", config}, {"-c", config, "--table-only"},
		{"--table", table, "--brokers", brokers, "--topic", "numbers"}, {"--table", table, "--since", "1"},
		{"--table", table, "--until", time.Now().Add(-time.Millisecond).UTC().Format(time.RFC3339Nano)},
	} {
		o := mustRun(t, append([]string{"verify", "-o", "json"}, args...)...)
		var r verification
		if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		if withKafka := strings.Contains(strings.Join(args, " "), "brokers"); r.URI != table || r.Verdict != admin.OK || r.Rows != 100 || (r.Kafka != nil) != withKafka {
			t.Errorf("verify %v says %s", args, o.stdout)
		}
	}
	if o := mustRun(t, "explain", "1", "49", "-c", config); !strings.Contains(o.stdout, "partition 1, offset 49: in the table\n") || !strings.Contains(o.stdout, "Kafka has there: message\n") {
		t.Errorf("explain says %s", o.stdout)
	}
	var e admin.Explanation
	if err := json.Unmarshal([]byte(mustRun(t, "explain", "1", "50", "--table", table, "-o", "json").stdout), &e); err != nil || e.Fate != admin.NotReached {
		t.Errorf("explain tells %+v, %v", e, err)
	}
}

// TestVerifyExitCodes: 7 for faults, 8 for what can't be verified, each with its report.
func TestVerifyExitCodes(t *testing.T) {
	_, table := filledTable(t)
	commit := filepath.Join(table, "_delta_log", "00000000000000000002.json")
	good := readAll(t, commit)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(commit, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(strings.ReplaceAll(good, `"version":49`, `"version":48`))
	o := command(t, "verify", "--table", table)
	if o.code != exitFaults || !strings.Contains(o.stdout, "FAULT forged_txn: ") || !strings.Contains(o.stdout, ": faults\n") || !strings.Contains(o.stderr, "docs/verify.md") {
		t.Errorf("exit code %d:\n%s%s", o.code, o.stdout, o.stderr)
	}
	var r verification
	if err := json.Unmarshal([]byte(command(t, "verify", "--table", table, "-o", "json").stdout), &r); err != nil || r.Verdict != admin.Faulty || r.FaultCount == 0 {
		t.Errorf("as JSON: %+v, %v", r, err)
	}
	write(good)
	other := newTable(t, "id BIGINT")
	if o := command(t, "verify", "--table", other); o.code != exitUnverified || !strings.Contains(o.stdout, "cannot be verified: the table has no record") {
		t.Errorf("a table of nobody: exit code %d:\n%s%s", o.code, o.stdout, o.stderr)
	}
}

func TestVerifyMistakes(t *testing.T) {
	table := newTable(t, "id BIGINT")
	for _, tt := range []struct {
		code int
		want string
		args []string
	}{
		{exitConfig, "[config table]", []string{"verify"}},
		{exitConfig, "--topic", []string{"verify", "--table", table, "--brokers", "x:1"}},
		{exitConfig, "--brokers is for --table", []string{"verify", "-c", file(t, "c.yaml", goodConfig), "--brokers", "x:1"}},
		{exitConfig, "--output", []string{"verify", "--table", table, "-o", "xml"}},
		{exitConfig, "--since", []string{"verify", "--table", table, "--since", "yesterday"}},
		{exitConfig, "--until", []string{"verify", "--table", table, "--until", "-2"}},
		{exitTable, "versions 0 to 0", []string{"verify", "--table", table, "--since", "5"}},
		{exitTable, "no Delta table", []string{"verify", "--table", t.TempDir()}},
		{exitConfig, "whole numbers", []string{"explain", "one", "2", "--table", table}},
		{exitConfig, "accepts 2", []string{"explain", "1", "--table", table}},
	} {
		if o := command(t, tt.args...); o.code != tt.code || !strings.Contains(o.stderr, tt.want) {
			t.Errorf("%v: exit code %d, want %d with %q: %s", tt.args, o.code, tt.code, tt.want, o.stderr)
		}
	}
}

func TestProgressLine(t *testing.T) {
	for want, p := range map[string]admin.Progress{
		"files [###############...............]  50%  5 of 10, 77 rows  10s left": {Doing: "files", Done: 5, Total: 10, Rows: 77},
		"Kafka [##############################] 100%":                             {Doing: "Kafka", Done: 9, Total: 9},
		"log [###############...............]  50%  5 of 10 versions  10s left":   {Doing: "log", Done: 5, Total: 10},
		"files [..............................]   0%  0 of 0, 0 rows":             {Doing: "files"},
	} {
		if got := progressLine(p, 10*time.Second); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestVerifyGuideNamesEveryFieldAndKind(t *testing.T) {
	fields := map[string]string{"uri": "URI"}
	jsonFields("", reflect.TypeFor[admin.Report](), fields)
	sameNames(t, "verify.md", fields, documented(t, "verify.md", "The report as JSON"))
	kinds := map[string]string{}
	for _, m := range regexp.MustCompile(`Kind = "([a-z_]+)"`).FindAllStringSubmatch(readAll(t, "../../admin/report.go"), -1) {
		kinds[m[1]] = m[1]
	}
	guide := documented(t, "verify.md", "Faults")
	maps.Copy(guide, documented(t, "verify.md", "What cannot be verified"))
	sameNames(t, "verify.md", kinds, guide)
	if len(kinds) < 15 {
		t.Errorf("only %d kinds: the pattern of this test no longer fits the code", len(kinds))
	}
}

func readAll(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
