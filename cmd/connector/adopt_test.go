package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"kafkadelta/internal/kafkatest"
)

// TestAdoptCommand takes a topic of 20 messages over from a Spark checkpoint that has read 6 of them.
func TestAdoptCommand(t *testing.T) {
	cluster := kafkatest.Start(t, "numbers", 2)
	var values [][]byte
	for i := range 20 {
		values = append(values, fmt.Appendf(nil, `{"id":%d}`, i))
	}
	kafkatest.Produce(t, cluster.ListenAddrs(), "numbers", 2, values)
	folder := t.TempDir()
	for name, text := range map[string]string{
		"metadata": `{"id":"a-query"}`, "offsets/0": "v1\n{}\n{\"numbers\":{\"0\":4,\"1\":2}}", "commits/0": "v1\n{}",
	} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	table := filepath.Join(t.TempDir(), "table")
	config := file(t, "c.yaml", fmt.Sprintf(`name: numbers
source: {brokers: [%q], topic: numbers}
table: {uri: %q, schema: "id BIGINT"}
http: {listen: "off"}
`, cluster.ListenAddrs()[0], table))
	args := []string{"adopt", "-c", config, "--from-spark-checkpoint", folder}
	if o := command(t, append(args, "--yes")...); o.code != exitTable || !strings.Contains(o.stderr, "`connector table create`") {
		t.Errorf("without a table: exit code %d: %s", o.code, o.stderr)
	}
	mustRun(t, "table", "create", table, "--schema", "id BIGINT")
	if o := command(t, args...); o.code != exitConfig || !strings.Contains(o.stderr, "add --yes") || !strings.Contains(o.stdout, "0          4          6 messages at most are waiting\n") ||
		!strings.Contains(o.stdout, "note: batch 0 is done, and none was begun after it\n") {
		t.Errorf("without --yes: exit code %d:\n%s%s", o.code, o.stdout, o.stderr)
	}
	if o := mustRun(t, append(args, "--yes")...); !strings.Contains(o.stdout, "version 1 says where the stream begins") {
		t.Errorf("adopt says %s", o.stdout)
	}
	mustRun(t, "run", "-c", config, "--until-end", "--log-level", "error")
	if o := mustRun(t, "verify", "-c", config); !strings.Contains(o.stdout, "14 rows") {
		t.Errorf("verify says %s", o.stdout)
	}
	for want, args := range map[string][]string{
		"`connector rewind`":     args,
		"no file named metadata": {"adopt", "-c", config, "--from-spark-checkpoint", t.TempDir()},
	} {
		if o := command(t, append(args, "--yes")...); o.code != exitRefused || !strings.Contains(o.stderr, want) {
			t.Errorf("%v: exit code %d, want %d with %q: %s", args, o.code, exitRefused, want, o.stderr)
		}
	}
	if o := command(t, "adopt", "-c", config); o.code != exitConfig || !regexp.MustCompile(`from-spark-checkpoint.*from-group|from-group.*from-spark-checkpoint`).MatchString(o.stderr) {
		t.Errorf("without a program: exit code %d: %s", o.code, o.stderr)
	}
}
