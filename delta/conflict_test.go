package delta_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

// winners loads the commits that Spark wrote for one kind of operation; testdata/winners/generate.py says which.
func winners(t *testing.T, name string) []string {
	t.Helper()
	files := must(filepath.Glob("testdata/winners/" + name + ".json"))
	if files == nil {
		files = must(filepath.Glob("testdata/winners/" + name + ".*.json")) // in the order of their versions
	}
	var commits []string
	for _, f := range files {
		commits = append(commits, strings.TrimSpace(string(must(os.ReadFile(f)))))
	}
	if commits == nil {
		t.Fatalf("no commit of %s", name)
	}
	return commits
}

// A blind append loses against every kind of commit that Spark writes, learns what the winner did, and lands after it: no row
// id twice, in-commit timestamps that only grow (Spark's clock is years ahead of ours here), nothing lost.
func TestBlindAppendAgainstEveryKindOfWinner(t *testing.T) {
	for _, x := range []struct {
		name                       string
		changes, touches, replaces bool
		stats                      string // columns with statistics in our file
		refused                    string // why the append cannot land after the winner; "" where it can
	}{
		{name: "append"},
		{name: "overwrite", changes: true}, // Spark takes the clustering columns away
		{name: "replace-where"},
		{name: "delete"},
		{name: "truncate"},
		{name: "update"},
		{name: "merge"},
		{name: "optimize"},
		{name: "txn", touches: true},
		{name: "restore", changes: true, replaces: true},
		{name: "add-column", changes: true},
		{name: "widen-column", changes: true},
		{name: "drop-not-null", changes: true},
		{name: "overwrite-schema", changes: true},
		{name: "set-property", changes: true},
		{name: "add-constraint", changes: true},
		{name: "enable-change-data-feed", changes: true},
		{name: "column-mapping", changes: true},
		{name: "add-feature", changes: true},
		{name: "drop-feature", changes: true},
		{name: "cluster-by", changes: true, refused: "no statistics of the clustering column v"},
		{name: "cluster-by", changes: true, stats: `"id":0,"v":0`},
		{name: "cluster-by-none", changes: true},
	} {
		t.Run(x.name, func(t *testing.T) {
			c, s := newClock(), memory.New()
			putLog(t, s, 0, winners(t, "base-0")...)
			putLog(t, s, 1, winners(t, "base-1")...)
			table := open(t, s, c)
			tx := appendOf("app", 3, "mine")
			if x.stats == "" {
				x.stats = `"id":0`
			}
			tx.Adds[0].Stats = `{"numRecords":3,"nullCount":{` + x.stats + `}}`
			commits := winners(t, x.name)
			for i, text := range commits {
				putLog(t, s, int64(2+i), text)
			}
			var changes, touches, replaces bool
			for range commits {
				commit(t, table, tx, delta.Conflict)
				winner, err := table.Next(ctx)
				check(t, err)
				changes, touches, replaces = changes || winner.ChangesTable(), touches || winner.Touches("app"), replaces || winner.Replaces()
			}
			if changes != x.changes || touches != x.touches || replaces != x.replaces {
				t.Errorf("changes %v, touches %v, replaces %v", changes, touches, replaces)
			}
			before := must(delta.OpenSnapshot(ctx, s, -1))
			outcome, err := table.Commit(ctx, tx)
			if unsupported := table.CheckAppend(); unsupported != nil { // such as a constraint that is not understood
				if outcome != delta.Refused || !errors.Is(err, delta.ErrUnsupported) {
					t.Errorf("%s %v, want refused: %v", outcome, err, unsupported)
				}
				return
			}
			if x.refused != "" {
				if outcome != delta.Refused || !strings.Contains(err.Error(), x.refused) {
					t.Errorf("%s %v, want %q", outcome, err, x.refused)
				}
				return
			}
			if outcome != delta.Committed {
				t.Fatal(outcome, err)
			}
			landedAfter(t, s, before)
		})
	}
}

// landedAfter checks the newest version against the one before it.
func landedAfter(t *testing.T, s delta.LogStore, before *delta.Snapshot) {
	t.Helper()
	ict := *before.Info().InCommitTimestamp + 1
	if got := lineOf(t, s, before.Version()+1, 0)["inCommitTimestamp"]; fmt.Sprint(got) != strconv.FormatInt(ict, 10) {
		t.Errorf("in-commit timestamp %v, want %d", got, ict)
	}
	var paths []string
	highest := int64(-1)
	for f, err := range before.Files(ctx) {
		check(t, err)
		paths = append(paths, f.Path)
		if rows, _ := f.NumRecords(); f.BaseRowID != nil {
			highest = max(highest, *f.BaseRowID+rows-1)
		}
	}
	after := must(delta.OpenSnapshot(ctx, s, -1))
	for f, err := range after.Files(ctx) {
		check(t, err)
		if f.Path != "mine" {
			paths = slices.DeleteFunc(paths, func(p string) bool { return p == f.Path })
			continue
		}
		if f.BaseRowID == nil || *f.BaseRowID <= highest || *f.DefaultRowCommitVersion != after.Version() {
			t.Errorf("row ids %v@%v after %d", f.BaseRowID, f.DefaultRowCommitVersion, highest)
		}
		highest = -2
	}
	if len(paths) != 0 || highest != -2 {
		t.Errorf("lost %v, or our own file", paths)
	}
	if txn, ok := after.Txn("app"); !ok || txn.Version != 3 {
		t.Errorf("txn %+v", txn)
	}
}
