package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kafkadelta/admin"
	"kafkadelta/internal/kafkatest"
)

// buriedTable runs a stream whose messages are bad at every tenth offset. It returns the configuration and the dead-letter table's folder.
func buriedTable(t *testing.T) (config, letters string) {
	t.Helper()
	cluster := kafkatest.Start(t, "numbers", 2)
	var values [][]byte
	for i := range 100 {
		values = append(values, fmt.Appendf(nil, `{"id":%d}`, i))
		if i%10 >= 8 { // one for each partition
			values[i] = fmt.Appendf(nil, `{"id":"number %d"}`, i)
		}
	}
	kafkatest.Produce(t, cluster.ListenAddrs(), "numbers", 2, values)
	letters = filepath.Join(t.TempDir(), "letters")
	config = file(t, "c.yaml", fmt.Sprintf(`name: numbers
source: {brokers: [%q], topic: numbers}
table: {uri: %q, schema: "id BIGINT"}
on_error: dead_letter
dead_letters: {uri: %q}
http: {listen: "off"}
`, cluster.ListenAddrs()[0], filepath.Join(t.TempDir(), "table"), letters))
	mustRun(t, "run", "-c", config, "--until-end", "--log-level", "error")
	return config, letters
}

func TestDeadLetterCommands(t *testing.T) {
	config, letters := buriedTable(t)
	if o := mustRun(t, "verify", "-c", config); !strings.Contains(o.stdout, "80 rows") {
		t.Errorf("verify says %s", o.stdout)
	}
	var listed []admin.Letter
	if err := json.Unmarshal([]byte(mustRun(t, "dead-letters", "list", "-c", config, "-o", "json").stdout), &listed); err != nil || len(listed) != 20 {
		t.Fatalf("%d dead letters are listed, %v; want 20", len(listed), err)
	}
	l := listed[0]
	if l.Reason != "type_mismatch" || l.FieldPath != "id" || l.Connector != "numbers" || !strings.Contains(string(l.Value), "number ") || l.Time.IsZero() {
		t.Errorf("a dead letter is %+v", l)
	}
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"list", "--limit", "3"}, []string{"3 of 20 dead letters", "type_mismatch"}},
		{[]string{"list", "--partition", "1"}, []string{"10 of 10 dead letters", "numbers[1]"}},
		{[]string{"list", "--reason", "tombstone"}, []string{"0 of 0 dead letters"}},
		{[]string{"show", fmt.Sprint(l.Partition), fmt.Sprint(l.Offset)}, []string{"type_mismatch", string(l.Value), fmt.Sprintf("offset %d", l.Offset)}},
		{[]string{"settle"}, []string{"nothing is pending"}},
		{[]string{"settle", "--give-up"}, []string{"0 partitions were given up"}},
	} {
		o := mustRun(t, append(append([]string{"dead-letters"}, tt.args...), "-c", config)...)
		for _, want := range tt.want {
			if !strings.Contains(o.stdout, want) {
				t.Errorf("dead-letters %v does not say %q:\n%s", tt.args, want, o.stdout)
			}
		}
	}
	o := mustRun(t, "explain", fmt.Sprint(l.Partition), fmt.Sprint(l.Offset), "-c", config)
	if !strings.Contains(o.stdout, ": dead letter\n") || !strings.Contains(o.stdout, "type_mismatch at id") {
		t.Errorf("explain says %s", o.stdout)
	}
	if o := command(t, "dead-letters", "show", "0", "0", "-c", config); o.code != exitTable || !strings.Contains(o.stderr, "connector explain 0 0") {
		t.Errorf("a message that is no dead letter: %d, %s", o.code, o.stderr)
	}
	if _, err := os.Stat(filepath.Join(letters, "_delta_log")); err != nil {
		t.Error(err)
	}
}

func TestDeadLetterConfiguration(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"no table":        {"on_error: dead_letter", "dead_letters.uri is empty"},
		"nothing for it":  {"dead_letters: {uri: ./letters}", `on_error is "fail"`},
		"the same folder": {"on_error: dead_letter\ndead_letters: {uri: ./table}", "a folder of their own"},
	} {
		c := file(t, "c.yaml", "name: a\nsource: {brokers: [localhost:1], topic: t}\ntable: {uri: ./table}\n"+tt.text+"\n")
		if o := command(t, "validate", "-c", c); o.code != exitConfig || !strings.Contains(o.stderr, tt.want) {
			t.Errorf("%s: %d, %s; want %q", name, o.code, o.stderr, tt.want)
		}
	}
}
