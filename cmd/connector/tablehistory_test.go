package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// aged makes a table of five versions whose commits are an hour apart, the first at the given time, and returns it.
func aged(t testing.TB, first time.Time) string {
	t.Helper()
	table := newTable(t, "id BIGINT, day DATE", "--partition-by", "day")
	for v := range 4 {
		appendText(t, table, fmt.Sprintf(`{"id":%d,"day":"2026-01-0%d"}`, v, v+1), "--app-id", "job", "--version", fmt.Sprint(v*10))
	}
	for v := range 5 {
		at := first.Add(time.Duration(v) * time.Hour)
		if err := os.Chtimes(filepath.Join(table, "_delta_log", fmt.Sprintf("%020d.json", v)), at, at); err != nil {
			t.Fatal(err)
		}
	}
	return table
}

var long = time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)

func TestHistory(t *testing.T) {
	table := aged(t, long)
	line := `{"commitInfo":{"operation":"OPTI\u001bMIZE","engineInfo":"other","timestamp":1}}
{"remove":{"path":"gone.parquet","dataChange":false}}
{"txn":{"appId":"a-0","version":1}}
{"txn":{"appId":"a-1","version":1}}
{"txn":{"appId":"a-2","version":1}}
{"txn":{"appId":"a-3","version":1}}
{"txn":{"appId":"a-4","version":1}}
`
	path := filepath.Join(table, "_delta_log", fmt.Sprintf("%020d.json", 5))
	if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	at := long.Add(5 * time.Hour)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`\d+ +job`).ReplaceAllString(mustRun(t, "table", "history", table, "--limit", "3").stdout, "BYTES job")
	text = regexp.MustCompile(` +`).ReplaceAllString(text, " ")
	if want := `version time operation engine rows files bytes txns
5 2026-01-31T05:00:00.000Z "OPTI\x1bMIZE" other 0 +0 -1 0 a-0=1, a-1=1, a-2=1, a-3=1, and 1 more
4 2026-01-31T04:00:00.000Z WRITE ENGINE 1 +1 BYTES job=30
3 2026-01-31T03:00:00.000Z WRITE ENGINE 1 +1 BYTES job=20
`; strings.ReplaceAll(text, engine(), "ENGINE") != want {
		t.Errorf("got:\n%s\nwant:\n%s", text, want)
	}
	var all []inspectedVersion
	text = mustRun(t, "table", "history", table, "--limit", "0", "-o", "json").stdout
	if err := json.Unmarshal([]byte(text), &all); err != nil || len(all) != 6 {
		t.Fatalf("%v in %s", err, text)
	}
	if v := all[5]; v.Version != 0 || v.Operation != "CREATE TABLE" || !v.ChangesSchema || v.Time != "2026-01-31T00:00:00.000Z" {
		t.Errorf("the first version is %+v", v)
	}
	if v := all[1]; v.Rows != 1 || v.FilesAdded != 1 || v.Bytes == 0 || len(v.Txns) != 1 || v.Txns[0] != (versionTxn{"job", 30}) {
		t.Errorf("version 4 is %+v", v)
	}
	if v := all[0]; len(v.Txns) != 5 || v.FilesRemoved != 1 {
		t.Errorf("version 5 is %+v", v)
	}
	for limit, want := range map[string]int{"": 6, "0": 6, "2": 2} {
		args := []string{"table", "history", table}
		if limit != "" {
			args = append(args, "--limit", limit)
		}
		if got := strings.Count(mustRun(t, args...).stdout, "\n") - 1; got != want {
			t.Errorf("--limit %q shows %d versions, want %d", limit, got, want)
		}
	}
}

func TestHistoryMistakes(t *testing.T) {
	if o := command(t, "table", "history", t.TempDir()); o.code != exitTable || !strings.Contains(o.stderr, "no Delta table here") {
		t.Errorf("no table: exit code %d, %s", o.code, o.stderr)
	}
	lost := t.TempDir() // a part of a log checkpoint is all that is left
	part := filepath.Join(lost, "_delta_log", "00000000000000000002.checkpoint.0000000001.0000000003.parquet")
	if err := errors.Join(os.Mkdir(filepath.Dir(part), 0o755), os.WriteFile(part, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"history", lost}, {"inspect", lost}, {"inspect", lost, "--version", "2"}, {"inspect", lost, "--timestamp", "2026-01-31"}} {
		if o := command(t, append([]string{"table"}, args...)...); o.code != exitTable || o.stdout != "" || !strings.Contains(o.stderr, "restore the log from a backup") {
			t.Errorf("%q: exit code %d, %s%s", args, o.code, o.stdout, o.stderr)
		}
	}
	gap := aged(t, long)
	if err := os.Remove(filepath.Join(gap, "_delta_log", fmt.Sprintf("%020d.json", 2))); err != nil {
		t.Fatal(err)
	}
	o := command(t, "table", "history", gap, "-o", "json")
	var after []inspectedVersion
	if err := json.Unmarshal([]byte(o.stdout), &after); err != nil || len(after) != 2 || o.code != exitTable || !strings.Contains(o.stderr, "the commit of version 2 is missing") {
		t.Errorf("a gap: exit code %d, %v, %s%s", o.code, err, o.stdout, o.stderr)
	}
	for _, args := range [][]string{{"--limit", "-1"}, {"-o", "yaml"}, {"--limit", "x"}} {
		if o := command(t, append([]string{"table", "history", "/no/table"}, args...)...); o.code != exitConfig {
			t.Errorf("%q: exit code %d, %s", args, o.code, o.stderr)
		}
	}
}

func TestInspectAtATime(t *testing.T) {
	table := aged(t, long)
	for text, want := range map[string]int64{
		"2026-01-31":                     0,
		"2026-01-31T00:59:59.999Z":       0,
		"2026-01-31T01:00:00Z":           1,
		"2026-01-31T03:30:00+02:00":      1,
		"2026-01-31T03:30:00":            3,
		"2026-01-31 03:30:00":            3,
		"1769828400000":                  3,
		"2026-02-28":                     4, // nothing has come since
		time.Now().Format(time.RFC3339):  4,
		"2026-01-31T04:00:00.000000001Z": 4,
	} {
		var i inspection
		if err := json.Unmarshal([]byte(mustRun(t, "table", "inspect", table, "--timestamp", text, "-o", "json").stdout), &i); err != nil || i.Version != want {
			t.Errorf("%s shows version %d, want %d (%v)", text, i.Version, want, err)
		}
	}
	for text, code := range map[string]int{"2026-01-30": exitTable, "2999-01-01": exitTable, "yesterday": exitConfig, "12:00": exitConfig} {
		if o := command(t, "table", "inspect", table, "--timestamp", text); o.code != code || !strings.Contains(o.stderr, "2026-01-3") {
			t.Errorf("%s: exit code %d, want %d: %s", text, o.code, code, o.stderr)
		}
	}
	if o := command(t, "table", "inspect", table, "--timestamp", "2026-01-31", "--version", "1"); o.code != exitConfig {
		t.Errorf("both: exit code %d, %s", o.code, o.stderr)
	}
}
