package e2e

import (
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"testing"
)

// replace runs readers/replace.py.
func replace(t *testing.T, table, what string, n int) {
	t.Helper()
	out, err := exec.Command(python(t), "-B", filepath.Join("readers", "replace.py"), table, what, fmt.Sprint(n)).CombinedOutput()
	if err != nil {
		t.Fatalf("delta-rs: %v\n%s", err, out)
	}
}

// TestGuardReplacedByDeltaRs: another table is put in the place of the stream's, under a running worker, and then while none runs.
func TestGuardReplacedByDeltaRs(t *testing.T) {
	t.Parallel()
	replaced(t, "replaced-delta-rs", func(table string) { replace(t, table, "table", 0) })
}

// TestGuardReplacedBySpark is the same with Spark.
func TestGuardReplacedBySpark(t *testing.T) {
	engine := spark(t)
	replaced(t, "replaced-spark", func(table string) {
		engine.sql(t, table, "CREATE OR REPLACE TABLE {t} USING delta AS SELECT * FROM {t} LIMIT 0")
	})
}

func replaced(t *testing.T, topic string, replace func(table string)) {
	t.Helper()
	g := newGuarded(t, topic, 2)
	const byVersion, byID, remedy = "replaced or restored the table", "it was replaced since", "`connector rewind --to earliest`"
	for _, running := range []bool{true, false} {
		var p *process
		if running {
			p = g.assigned()
		}
		replace(g.table)
		g.produce(5, 0, 1)
		if running {
			g.refused(p, exitTable, byVersion, remedy)
		}
		g.refused(run(t, g.config), exitTable, byID, remedy)
		command(t, exitOK, "rewind", "-c", g.config, "--to", "earliest", "--yes")
		untilEnd(t, g.config)
		g.whole()
	}
}

// TestOverwriteIsADelete: rows that are overwritten are rows that their owner has deleted. The stream goes on, and has each message that comes once.
func TestOverwriteIsADelete(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "overwritten", 2)
	overwrite := func(below int) {
		t.Helper()
		replace(t, g.table, "rows", below)
		maps.DeleteFunc(g.sent, func(_ place, value []byte) bool {
			n := 0
			_, err := fmt.Sscanf(string(value), `{"n":%d}`, &n)
			return err != nil || n >= below
		})
	}
	p := g.assigned()
	overwrite(8)
	g.produce(5, 0, 1)
	p.waitCommit(1)
	g.stop(p)
	overwrite(12)
	g.produce(5, 0, 1)
	untilEnd(t, g.config)
	expect(t, g.topic, g.sent, nil).check(t, g.table)
	v, code := verifyWith(t, "-c", g.config)
	if deleted := v.Partitions[0].Deleted + v.Partitions[1].Deleted; code != exitOK || deleted != 60-int64(len(g.sent)) {
		t.Errorf("verify ends with %d and tells of %d deleted rows, want %d", code, deleted, 60-len(g.sent))
	}
}
