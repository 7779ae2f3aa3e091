package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	tableIDs = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	topicIDs = regexp.MustCompile(`#topic/connector-demo/[A-Za-z0-9_=-]+`)
	millis   = regexp.MustCompile(`("last_updated_ms": |"bytes": |bytes +)\d+`)
	instants = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)
)

// golden replaces what differs from run to run.
func golden(text, table string) string {
	text = strings.ReplaceAll(text, table, "TABLE")
	text = tableIDs.ReplaceAllString(text, "ID")
	text = topicIDs.ReplaceAllString(text, "#topic/connector-demo/TOPIC")
	text = millis.ReplaceAllString(text, "${1}N")
	return instants.ReplaceAllString(text, "TIME")
}

func wantGolden(t *testing.T, got, table, want string) {
	t.Helper()
	if got = golden(got, table); got != strings.TrimPrefix(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestCreateAndInspect(t *testing.T) {
	table := filepath.Join(t.TempDir(), "web")
	args := []string{
		"table", "create", table, "--schema", "method STRING, status INT NOT NULL COMMENT 'HTTP', meta STRUCT<at: TIMESTAMP, n: DECIMAL(10,2)>, tags ARRAY<STRING>, date DATE",
		"--partition-by", "date", "--property", "delta.appendOnly=true", "--property", "owner=web", "--comment", "what was asked for",
	}
	if o := mustRun(t, args...); o.stdout != "made table "+table+", version 0\n" {
		t.Errorf("it says %q", o.stdout)
	}
	o := command(t, args...)
	if o.code != exitTable || !strings.Contains(o.stderr, "is a Delta table already") {
		t.Errorf("a second time: exit code %d, %s", o.code, o.stderr)
	}
	wantGolden(t, mustRun(t, "table", "inspect", table).stdout, table, `
table           TABLE
version         0
id              ID
comment         what was asked for
protocol        reader 1, writer 2
append          supported
schema          method STRING, status INT NOT NULL COMMENT 'HTTP', meta STRUCT<at: TIMESTAMP, n: DECIMAL(10,2)>, tags ARRAY<STRING>, date DATE
partitioned by  date
property        delta.appendOnly=true
property        owner=web
files           0
rows            0
bytes           N
log checkpoint  none
`)
	wantGolden(t, mustRun(t, "table", "inspect", table, "-o", "json", "--version", "0").stdout, table, `
{
  "uri": "TABLE",
  "version": 0,
  "table_id": "ID",
  "comment": "what was asked for",
  "min_reader_version": 1,
  "min_writer_version": 2,
  "reader_features": [],
  "writer_features": [],
  "append": "supported",
  "schema": "method STRING, status INT NOT NULL COMMENT 'HTTP', meta STRUCT<at: TIMESTAMP, n: DECIMAL(10,2)>, tags ARRAY<STRING>, date DATE",
  "partition_columns": [
    "date"
  ],
  "properties": {
    "delta.appendOnly": "true",
    "owner": "web"
  },
  "files": 0,
  "rows": 0,
  "files_without_row_count": 0,
  "bytes": N,
  "txns": [],
  "last_log_checkpoint": null
}
`)
}

func TestInspectMistakes(t *testing.T) {
	folder := t.TempDir()
	if o := command(t, "table", "inspect", folder); o.code != exitTable || !strings.Contains(o.stderr, "reading table "+folder) {
		t.Errorf("no table: exit code %d, %s", o.code, o.stderr)
	}
	mustRun(t, "table", "create", folder, "--schema", "id BIGINT")
	if o := command(t, "table", "inspect", folder, "--version", "7"); o.code != exitTable || !strings.Contains(o.stderr, "7") {
		t.Errorf("no such version: exit code %d, %s", o.code, o.stderr)
	}
}

// TestCreateRefuses has what Delta or its readers forbid refused before anything is written.
func TestCreateRefuses(t *testing.T) {
	for name, tt := range map[string]struct{ schema, partitionBy, want string }{
		"case":                     {"id BIGINT, ID BIGINT", "", "case"},
		"forbidden character":      {"`a b` BIGINT", "", "a b"},
		"unknown partition column": {"id BIGINT", "day", "day"},
		"nothing but partitions":   {"id BIGINT", "id", "partition"},
	} {
		t.Run(name, func(t *testing.T) {
			table := filepath.Join(t.TempDir(), "table")
			args := []string{"table", "create", table, "--schema", tt.schema}
			if tt.partitionBy != "" {
				args = append(args, "--partition-by", tt.partitionBy)
			}
			o := command(t, args...)
			if o.code != exitConfig || !strings.Contains(o.stderr, tt.want) {
				t.Errorf("exit code %d, expected %d with %q: %s", o.code, exitConfig, tt.want, o.stderr)
			}
			if o := command(t, "table", "inspect", table); o.code != exitTable {
				t.Errorf("something was made: %s", o.stdout)
			}
		})
	}
}

// inspected is what `table inspect -o json` tells.
func inspected(t testing.TB, table string) inspection {
	t.Helper()
	var i inspection
	if err := json.Unmarshal([]byte(mustRun(t, "table", "inspect", table, "-o", "json").stdout), &i); err != nil {
		t.Fatal(err)
	}
	return i
}

// TestTableConfig has the table commands take the storage section of a configuration, and nothing else of it.
func TestTableConfig(t *testing.T) {
	table := newTable(t, "id BIGINT")
	for _, config := range []string{
		"storage: {}\n",
		"name: x\nsource: {brokers: [b:9092], topic: t}\ntable: {uri: /elsewhere, schema: 'not a schema'}\n",
	} {
		path := file(t, "c.yaml", config)
		mustRun(t, "table", "inspect", table, "--config", path)
		mustRun(t, "table", "history", "-c", path, table)
		mustRun(t, "table", "append", table, "-c", path, "--input", file(t, "in.jsonl", `{"id":1}`))
		mustRun(t, "table", "create", filepath.Join(t.TempDir(), "t"), "--schema", "id BIGINT", "-c", path)
	}
	for _, tt := range []struct{ path, want string }{
		{file(t, "c.yaml", "storage: {nosuch: 1}\n"), "c.yaml:1"},
		{filepath.Join(t.TempDir(), "none.yaml"), "--config"},
	} {
		for _, args := range [][]string{
			{"inspect", table}, {"history", table}, {"append", table, "--input", os.DevNull}, {"create", table, "--schema", "id BIGINT"},
		} {
			o := command(t, append(append([]string{"table"}, args...), "--config", tt.path)...)
			if o.code != exitConfig || !strings.Contains(o.stderr, tt.want) {
				t.Errorf("%v: exit code %d, it says %q", args, o.code, o.stderr)
			}
		}
	}
}
