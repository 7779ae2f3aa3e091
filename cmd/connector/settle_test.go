package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kafkadelta/internal/kafkatest"
)

// TestSettleRows: a table that lacks rows of which nothing is left can be given up, by the command that the refusal names, and by it alone.
func TestSettleRows(t *testing.T) {
	cluster := kafkatest.Start(t, "orders", 1)
	folder := t.TempDir()
	config := divided(t, cluster.ListenAddrs(), folder, "")
	kafkatest.Produce(t, cluster.ListenAddrs(), "orders", 1, orders(1, 10, "de", "us"))
	mustRun(t, "run", "-c", config, "--until-end")
	if o := mustRun(t, "settle", "-c", config); !strings.Contains(o.stdout, "nothing is pending: the tables have all") || strings.Contains(o.stdout, "dead") {
		t.Errorf("settle says %s", o.stdout)
	}
	delivered := filepath.Join(folder, "us", "_delta_log", "00000000000000000001.json") // as if it had never landed, and its note were gone
	if err := os.Remove(delivered); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"run", "--until-end"}, {"settle"}} {
		o := command(t, append(args, "-c", config)...)
		for _, want := range []string{"table us", "offsets [0, 10) of orders[0]", "connector rewind --to-offsets 0=0`", "connector settle --give-up`"} {
			if o.code != exitRefused || !strings.Contains(o.stderr, want) {
				t.Errorf("%v ends with %d, %s; want %q in it", args, o.code, o.stderr, want)
			}
		}
	}
	if o := mustRun(t, "settle", "--give-up", "-c", config); !strings.Contains(o.stdout, "given up: table us: ") || !strings.Contains(o.stdout, "rows were given up in 1 places") {
		t.Errorf("settle --give-up says %s", o.stdout)
	}
	kafkatest.Produce(t, cluster.ListenAddrs(), "orders", 1, orders(11, 4, "de", "us"))
	mustRun(t, "run", "-c", config, "--until-end")
	for table, rows := range map[string]string{"de": "7", "us": "2"} {
		if o := mustRun(t, "table", "inspect", filepath.Join(folder, table)); !strings.Contains(o.stdout, "rows            "+rows+"\n") {
			t.Errorf("table %s: want %s rows\n%s", table, rows, o.stdout)
		}
	}
	single := file(t, "single.yaml", "name: orders\nsource: {brokers: [x:9092], topic: orders}\ntable: {uri: \""+filepath.Join(folder, "de")+"\"}\n")
	if o := command(t, "settle", "-c", single); o.code != exitConfig || !strings.Contains(o.stderr, "no table follows the stream's") {
		t.Errorf("settle without followers: %d, %s", o.code, o.stderr)
	}
}
