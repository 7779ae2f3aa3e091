package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"kafkadelta/admin"
	"kafkadelta/delta"
	"kafkadelta/internal/kafkatest"
	"kafkadelta/storage/local"
)

func TestRewindCommand(t *testing.T) {
	config, table := filledTable(t) // 50 messages in each of two partitions
	o := mustRun(t, "rewind", "-c", config, "--topic", "numbers", "--to-offsets", "0=20,1=latest", "--dry-run")
	for _, want := range []string{
		"stream numbers, topic numbers, table " + table + " at version 2: this begins generation 1\n",
		"0          50    20  30 messages at most are read again\n", "1          50    50  stays\n",
		"30 messages at most are read again, 0 at most are never read\n", "note: rows of what is read again stay", "nothing was written (--dry-run)\n",
	} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("the plan does not say %q:\n%s", want, o.stdout)
		}
	}
	if o := command(t, "rewind", "-c", config, "--to", "earliest"); o.code != exitConfig || !strings.Contains(o.stderr, "add --yes") || !strings.Contains(o.stdout, "100 messages at most are read again") {
		t.Errorf("without --yes: exit code %d:\n%s%s", o.code, o.stdout, o.stderr)
	}
	if o := mustRun(t, "rewind", "-c", config, "--to-offsets", "0=20", "--yes"); !strings.Contains(o.stdout, "version 3 begins generation 1;") {
		t.Errorf("the rewind says %s", o.stdout)
	}
	mustRun(t, "run", "-c", config, "--until-end", "--log-level", "error")
	if o := mustRun(t, "verify", "-c", config); !strings.Contains(o.stdout, "130 rows") || !strings.Contains(o.stdout, "numbers (generation 1)") ||
		!strings.Contains(o.stdout, "note: version 3 has rewound stream numbers (--to-offsets 0=20)") {
		t.Errorf("verify says %s", o.stdout)
	}
	if o := mustRun(t, "rewind", "-c", config, "--to-time", time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "--dry-run"); !strings.Contains(o.stdout, "0 messages at most are read again, 0 at") {
		t.Errorf("to a time after all messages: %s", o.stdout)
	}
	if o := mustRun(t, "rewind", "-c", config, "--to-time", "2001-01-01", "--dry-run"); !strings.Contains(o.stdout, "100 messages at most are read again") {
		t.Errorf("to a time before all messages: %s", o.stdout)
	}
	if o := mustRun(t, "rewind", "-c", config, "--to-table-version", "2", "--dry-run"); !strings.Contains(o.stdout, "0          50    50  stays") {
		t.Errorf("to a version of the table: %s", o.stdout)
	}
}

// TestOffsetsThatHaveExpired: a stream stands still until a log checkpoint forgets its offsets. It is refused, whether or not the group knows it, and goes on without
// loss or doubling as the refusal says (rule A4b).
func TestOffsetsThatHaveExpired(t *testing.T) {
	for name, tt := range map[string]struct {
		first, rows int
		start       string
		remedy      []string
	}{
		"of rows":                    {10, 20, "earliest", []string{"--to-offsets", "0=5,1=5"}},
		"of a start that was pinned": {0, 10, "latest", []string{"--to-time", time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)}},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := kafkatest.Start(t, "numbers", 2)
			if tt.first > 0 {
				kafkatest.Produce(t, cluster.ListenAddrs(), "numbers", 2, values(tt.first))
			}
			table := filepath.Join(t.TempDir(), "table")
			text := fmt.Sprintf("name: numbers\nsource: {brokers: [%q], topic: numbers, start: %s, group: GROUP}\ntable: {uri: %q, schema: \"n BIGINT\", properties: {delta.setTransactionRetentionDuration: interval 1 second}}\nhttp: {listen: \"off\"}\n",
				cluster.ListenAddrs()[0], tt.start, table)
			config := file(t, "c.yaml", strings.Replace(text, "GROUP", "numbers", 1))
			mustRun(t, "run", "-c", config, "--until-end", "--log-level", "error")
			kafkatest.Produce(t, cluster.ListenAddrs(), "numbers", 2, values(10))
			store, err := local.New(table)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(1100 * time.Millisecond)
			appendText(t, table, "{\"n\":1}\n") // by the store's clock of this version offsets have expired
			version := inspected(t, table).Version
			if _, err := delta.WriteLogCheckpoint(t.Context(), store, version, delta.CheckpointOptions{Now: time.Now}); err != nil {
				t.Fatal(err)
			}
			forgotten := file(t, "forgotten.yaml", strings.Replace(text, "GROUP", "another", 1)) // as Kafka does after 7 days
			for _, c := range []string{config, forgotten} {
				if o := command(t, "run", "-c", c, "--until-end"); o.code != exitRefused || !strings.Contains(o.stderr, "delta.setTransactionRetentionDuration") || !strings.Contains(o.stderr, "--to-offsets 0=OFFSET,1=OFFSET") {
					t.Fatalf("exit code %d, want a refusal: %s", o.code, o.stderr)
				}
			}
			mustRun(t, append([]string{"rewind", "-c", config, "--yes"}, tt.remedy...)...)
			mustRun(t, "run", "-c", config, "--until-end", "--log-level", "error")
			if o := mustRun(t, "verify", "-c", config); !strings.Contains(o.stdout, fmt.Sprintf("%d rows (1 of them of no stream)", tt.rows+1)) {
				t.Errorf("verify says %s, want %d rows", o.stdout, tt.rows)
			}
		})
	}
}

// TestAllTxnsHaveExpired: earlier versions let everything expire that the table knew of a stream. What the refusal says then neither loses nor doubles rows.
func TestAllTxnsHaveExpired(t *testing.T) {
	config, table := filledTable(t)
	logs, err := filepath.Glob(filepath.Join(table, "_delta_log", "*.json"))
	if err != nil || len(logs) < 3 {
		t.Fatal(logs, err)
	}
	for _, path := range logs {
		text := regexp.MustCompile(`"lastUpdated":\d+`).ReplaceAllString(readAll(t, path), `"lastUpdated":1`)
		text = strings.Replace(text, `"configuration":{`, `"configuration":{"delta.setTransactionRetentionDuration":"interval 1 day",`, 1)
		if err := os.WriteFile(path, []byte(strings.Replace(text, `day",}`, `day"}`, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	store, err := local.New(table)
	if err == nil {
		_, err = delta.WriteLogCheckpoint(t.Context(), store, inspected(t, table).Version, delta.CheckpointOptions{Now: time.Now})
	}
	if err != nil || len(txnsOf(t, table)) > 0 {
		t.Fatalf("%v; the txns are %v, want none", err, txnsOf(t, table))
	}
	brokers := regexp.MustCompile(`127\.[^"]+`).FindString(readAll(t, config))
	kafkatest.Produce(t, []string{brokers}, "numbers", 2, values(10))
	if o := command(t, "run", "-c", config, "--until-end"); o.code != exitRefused || !strings.Contains(o.stderr, "`connector adopt --from-group`") {
		t.Fatalf("exit code %d, want a refusal: %s", o.code, o.stderr)
	}
	mustRun(t, "adopt", "-c", config, "--from-group", "numbers", "--yes")
	mustRun(t, "run", "-c", config, "--until-end", "--log-level", "error")
	if o := mustRun(t, "verify", "-c", config); !strings.Contains(o.stdout, "110 rows") {
		t.Errorf("verify says %s, want 110 rows", o.stdout)
	}
}

// TestRewindToATopicMadeAnew: refused without --new-topic, and the stream goes on with it.
func TestRewindToATopicMadeAnew(t *testing.T) {
	config, _ := filledTable(t)
	cluster := kafkatest.Start(t, "numbers", 2) // another cluster, whose topic has the same name
	var values [][]byte
	for i := range 10 {
		values = append(values, fmt.Appendf(nil, `{"id":%d}`, i))
	}
	kafkatest.Produce(t, cluster.ListenAddrs(), "numbers", 2, values)
	text := regexp.MustCompile(`127\.[^"]+`).ReplaceAllString(readAll(t, config), cluster.ListenAddrs()[0])
	config = file(t, "anew.yaml", text)
	for _, args := range [][]string{{"run", "--until-end"}, {"rewind", "--to", "earliest", "--yes"}} {
		if o := command(t, append(args, "-c", config)...); o.code != exitRefused || !strings.Contains(o.stderr, "`connector rewind --to earliest --new-topic`") {
			t.Errorf("%v: exit code %d:\n%s", args, o.code, o.stderr)
		}
	}
	mustRun(t, "rewind", "-c", config, "--to", "earliest", "--new-topic", "--yes")
	mustRun(t, "run", "-c", config, "--until-end", "--log-level", "error")
	if o := mustRun(t, "verify", "-c", config); !strings.Contains(o.stdout, "110 rows") || !strings.Contains(o.stdout, "Kafka: 10 messages") {
		t.Errorf("verify says %s", o.stdout)
	}
}

func TestRewindMistakes(t *testing.T) {
	config, _ := filledTable(t)
	for want, args := range map[string][]string{
		"[to-offsets to-time to-table-version to]": {},
		"none of the others can be":                {"--to", "earliest", "--to-time", "2001-01-01"},
		"use earliest or latest":                   {"--to", "0"},
		"use RFC 3339":                             {"--to-time", "yesterday"},
		"use PARTITION=OFFSET":                     {"--to-offsets", "7"},
		"offset is a whole number":                 {"--to-offsets", "0=-1"},
		"partition 0 twice":                        {"--to-offsets", "0=1,0=2"},
		"version from 0 on":                        {"--to-table-version", "-1"},
		`topic is "numbers"`:                       {"--to", "earliest", "--topic", "other"},
		"none of the others can be; see":           {"--to", "earliest", "--yes", "--dry-run"},
	} {
		o := command(t, append([]string{"rewind", "-c", config}, args...)...)
		if o.code != exitConfig || !strings.Contains(o.stderr, strings.TrimSuffix(want, "; see")) {
			t.Errorf("%v: exit code %d, want %d with %q: %s", args, o.code, exitConfig, want, o.stderr)
		}
	}
}

func TestParseOffsets(t *testing.T) {
	topic := admin.KafkaTopic{Start: map[int32]int64{0: 3, 1: 4}, End: map[int32]int64{0: 30, 1: 40}}
	to, err := parseOffsets([]string{"0=earliest", " 1=latest"}, topic)
	if err != nil || to[0] != 3 || to[1] != 40 {
		t.Errorf("parsed is %v, %v", to, err)
	}
}
