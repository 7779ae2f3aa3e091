package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kafkadelta/internal/kafkatest"
)

// TestRetireCommand ends a stream, so that another one of the topic may begin.
func TestRetireCommand(t *testing.T) {
	config, table := filledTable(t) // 50 messages in each of two partitions
	renamed := file(t, "renamed.yaml", strings.Replace(readAll(t, config), "name: numbers", "name: renamed", 1))
	if o := command(t, "run", "-c", renamed, "--until-end"); o.code != exitRefused || !strings.Contains(o.stderr, "`connector retire`") {
		t.Errorf("a second stream of the topic: exit code %d: %s", o.code, o.stderr)
	}
	o := mustRun(t, "retire", "-c", config, "--dry-run")
	for _, want := range []string{"stream numbers, table " + table + " at version 2: this ends it\n", "0          50\n1          50\n", "another stream may bring the topic with id", "nothing was written (--dry-run)\n"} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("the plan does not say %q:\n%s", want, o.stdout)
		}
	}
	if o := command(t, "retire", "-c", config); o.code != exitConfig || !strings.Contains(o.stderr, "add --yes") {
		t.Errorf("without --yes: exit code %d: %s", o.code, o.stderr)
	}
	if o := mustRun(t, "retire", "--table", table, "--stream", "numbers", "--yes"); !strings.Contains(o.stdout, "version 3 ends the stream") {
		t.Errorf("the retirement says %s", o.stdout)
	}
	if o := command(t, "run", "-c", config, "--until-end"); o.code != exitRefused || !strings.Contains(o.stderr, "was retired") {
		t.Errorf("a start of the retired stream: exit code %d: %s", o.code, o.stderr)
	}
	mustRun(t, "run", "-c", renamed, "--until-end", "--log-level", "error")
	if o := mustRun(t, "verify", "-c", renamed); !strings.Contains(o.stdout, "200 rows") {
		t.Errorf("verify says %s", o.stdout)
	}
	for want, args := range map[string][]string{
		"--table needs --stream":       {"--table", table},
		"[config table]":               {},
		`name "a/b" has a character`:   {"--table", table, "--stream", "a/b"},
		"none of the others can be":    {"-c", config, "--yes", "--dry-run"},
		"does not say that a stream":   {"--table", table, "--stream", "nobody"},
		`stream "numbers" was retired`: {"-c", config, "--yes"},
	} {
		o := command(t, append([]string{"retire"}, args...)...)
		if o.code == 0 || !strings.Contains(o.stderr, want) {
			t.Errorf("%v: exit code %d, want %q: %s", args, o.code, want, o.stderr)
		}
	}
}

// TestRetireCatalog ends a stream with many tables, so that another one of the topic may have them.
func TestRetireCatalog(t *testing.T) {
	cluster := kafkatest.Start(t, "orders", 2)
	folder := t.TempDir()
	config := divided(t, cluster.ListenAddrs(), folder, "")
	kafkatest.Produce(t, cluster.ListenAddrs(), "orders", 2, orders(1, 20, "de", "us"))
	mustRun(t, "run", "-c", config, "--until-end")
	renamed := file(t, "renamed.yaml", strings.Replace(readAll(t, config), "name: orders", "name: renamed", 1)+"  catalog: "+filepath.Join(folder, "_renamed")+"\n")
	if o := command(t, "run", "-c", renamed, "--until-end"); o.code != exitRefused || !strings.Contains(o.stderr, "`connector retire`") {
		t.Errorf("a second stream of the topic: exit code %d: %s", o.code, o.stderr)
	}
	if o := command(t, "retire", "--table", filepath.Join(folder, "_catalog"), "--stream", "orders", "--yes"); o.code != exitRefused || !strings.Contains(o.stderr, "the table is the catalog of 2 others") {
		t.Errorf("without a configuration: exit code %d: %s", o.code, o.stderr)
	}
	if o := mustRun(t, "retire", "-c", config, "--dry-run"); !strings.Contains(o.stdout, "2 tables have its rows, and may get those of another stream") {
		t.Errorf("the plan says\n%s", o.stdout)
	}
	broken := filepath.Join(folder, "us", "_delta_log", "00000000000000000002.json")
	if err := os.WriteFile(broken, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if o := command(t, "retire", "-c", config, "--yes"); o.code != exitTable || !strings.Contains(o.stderr, "table us: ") {
		t.Errorf("with a broken table: exit code %d: %s", o.code, o.stderr)
	}
	if o := command(t, "retire", "-c", config, "--force", "--yes"); o.code != exitTable || !strings.Contains(o.stdout, "version 3 ends the stream") || !strings.Contains(o.stderr, "the stream has ended, but not all of its tables are free") || !strings.Contains(o.stderr, "table us: ") {
		t.Errorf("with a broken table, by force: exit code %d: %s%s", o.code, o.stdout, o.stderr)
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	if o := mustRun(t, "retire", "-c", config, "--yes"); !strings.Contains(o.stdout, "it has ended, and this frees its tables\n") || !strings.Contains(o.stdout, "2 tables are free for another stream of the topic\n") {
		t.Errorf("once more it says\n%s", o.stdout)
	}
	if o := command(t, "retire", "-c", config, "--yes"); o.code != exitRefused || !strings.Contains(o.stderr, "there is nothing to be done") {
		t.Errorf("a third time: exit code %d: %s", o.code, o.stderr)
	}
	mustRun(t, "verify", "-c", config)
	mustRun(t, "run", "-c", renamed, "--until-end", "--log-level", "error")
	mustRun(t, "verify", "-c", renamed)
	if o := mustRun(t, "table", "inspect", filepath.Join(folder, "us")); !strings.Contains(o.stdout, "rows            20\n") {
		t.Errorf("table us has\n%s", o.stdout)
	}
	if o := command(t, "rewind", "-c", config, "--to", "earliest", "--yes"); o.code != exitRefused || !strings.Contains(o.stderr, `by stream "renamed"`) {
		t.Errorf("the rewind of a retired stream whose tables another one has: exit code %d: %s", o.code, o.stderr)
	}
}
