package delta_test

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/delta"
)

// expected is what delta-rs reads in a fixture (testdata/generate.py).
type expected struct {
	Version          int64             `json:"version"`
	ID               string            `json:"id"`
	Name             *string           `json:"name"`
	Configuration    map[string]string `json:"configuration"`
	PartitionColumns []string          `json:"partition_columns"`
	Schema           json.RawMessage   `json:"schema"`
	Txns             map[string]int64  `json:"txns"`
	Rows             int64             `json:"rows"`
	Files            []struct {
		Path      string             `json:"path"`
		Size      int64              `json:"size"`
		Rows      int64              `json:"rows"`
		Partition map[string]*string `json:"partition"`
	} `json:"files"`
}

func TestReadsWhatDeltaRsWrote(t *testing.T) {
	for _, name := range []string{"special", "typed_partitions", "checkpointed", "multipart", "commits_only"} {
		for _, ranged := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				if ranged {
					t.Cleanup(delta.SetWholeCheckpoint(0))
				}
				compareWithDeltaRs(t, name)
			})
		}
	}
}

func compareWithDeltaRs(t *testing.T, name string) {
	store := fixture(t, name)
	var want expected
	check(t, json.Unmarshal(read(t, store, "expected.json"), &want))
	s, err := delta.OpenSnapshot(ctx, store, -1)
	check(t, err)
	table := open(t, store, newClock())
	check(t, table.CheckAppend())
	if s.Version() != want.Version || table.Version() != want.Version {
		t.Errorf("version %d and %d, want %d", s.Version(), table.Version(), want.Version)
	}
	m := s.Metadata()
	if m.ID != want.ID || want.Name != nil && m.Name != *want.Name || !maps.Equal(m.Configuration, want.Configuration) ||
		!slices.Equal(s.PartitionColumns(), want.PartitionColumns) {
		t.Errorf("metadata %+v, want %+v", m, want)
	}
	wantSchema, err := delta.SchemaFromJSON(string(want.Schema))
	check(t, err)
	if !s.Schema().Equal(wantSchema) {
		t.Errorf("schema %s, want %s", s.Schema(), wantSchema)
	}
	for id, version := range want.Txns {
		for _, txn := range []func(string) (delta.Txn, bool){s.Txn, table.Txn} {
			if got, ok := txn(id); !ok || got.Version != version {
				t.Errorf("txn %s = %+v %v, want %d", id, got, ok, version)
			}
		}
	}
	got := map[string]delta.Add{}
	for a, err := range s.Files(ctx) {
		check(t, err)
		if _, twice := got[a.Path]; twice {
			t.Errorf("%s twice", a.Path)
		}
		got[a.Path] = a
	}
	if len(got) != len(want.Files) {
		t.Errorf("%d files, want %d", len(got), len(want.Files))
	}
	totals := delta.Totals{Files: int64(len(want.Files)), Rows: want.Rows}
	for _, f := range want.Files {
		totals.Bytes += f.Size
		a, ok := got[f.Path]
		if rows, _ := a.NumRecords(); !ok || a.Size != f.Size || rows != f.Rows {
			t.Errorf("file %s: %+v, want %+v", f.Path, a, f)
		}
		if name != "special" && name != "checkpointed" {
			continue // delta-rs prints typed values in Python's way
		}
		for column, value := range f.Partition {
			if p := a.PartitionValues[column]; (p == nil) != (value == nil) && p != nil && *p != "" || p != nil && value != nil && *p != *value {
				t.Errorf("file %s: partition value %v, want %v", f.Path, p, value)
			}
		}
	}
	if got, err := s.Totals(ctx); err != nil || got != totals {
		t.Errorf("totals %+v %v, want %+v", got, err, totals)
	}
}

// Every value that delta-rs put in a partition is found under its path when the path is decoded twice: URI, then Hive.
func TestPathsOfDeltaRsDecode(t *testing.T) {
	s, err := delta.OpenSnapshot(ctx, fixture(t, "special"), -1)
	check(t, err)
	n := 0
	for a, err := range s.Files(ctx) {
		check(t, err)
		name, err := delta.DecodePath(a.Path)
		check(t, err)
		folder, _, _ := cutLast(name, "/")
		value := a.PartitionValues["p"]
		if value != nil && *value != "" && delta.UnescapePathName(folder) != "p="+*value {
			t.Errorf("%s decodes to the folder %s, want the value %q", a.Path, folder, *value)
		}
		n++
	}
	if n < 20 {
		t.Fatalf("only %d files", n)
	}
}

func cutLast(s, sep string) (before, after string, found bool) {
	for i := len(s) - len(sep); i >= 0; i-- {
		if s[i:i+len(sep)] == sep {
			return s[:i], s[i+len(sep):], true
		}
	}
	return s, "", false
}

func TestTxnKeepsLastUpdatedThroughLogCheckpoint(t *testing.T) {
	table := open(t, fixture(t, "checkpointed"), newClock())
	for id, want := range map[string]*int64{"conn-0": new(int64(1700000000005)), "conn-1": new(int64(1700000000004)), "other": nil} {
		got, _ := table.Txn(id)
		if (got.LastUpdated == nil) != (want == nil) || want != nil && *got.LastUpdated != *want {
			t.Errorf("%s: %+v, want last updated %v", id, got, want)
		}
	}
}

func TestLogCheckpointLeavesNoArrowMemory(t *testing.T) {
	for _, limit := range []int64{0, 1 << 30} {
		restore := delta.SetWholeCheckpoint(limit)
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		store := fixture(t, "multipart")
		rows := 0
		for info, err := range store.List(ctx, "_delta_log/00000000000000000004.checkpoint", "") {
			check(t, err)
			c, err := delta.ReadCheckpointFile(ctx, store, info.Name, info.Size, mem)
			check(t, err)
			rows += len(c.Adds) + len(c.Txns)
		}
		if rows != 6 {
			t.Errorf("%d adds and txns, want 6", rows)
		}
		mem.AssertSize(t, 0)
		restore()
	}
}

func TestOldVersionsOfFixture(t *testing.T) {
	store := fixture(t, "commits_only")
	for version, want := range map[int64]delta.Totals{0: {Files: 1, Rows: 3}, 2: {Files: 3, Rows: 9}, 3: {Files: 2, Rows: 6}} {
		s, err := delta.OpenSnapshot(ctx, store, version)
		check(t, err)
		got, err := s.Totals(ctx)
		check(t, err)
		got.Bytes = 0
		if got != want || s.Version() != version {
			t.Errorf("version %d: %+v, want %+v", version, got, want)
		}
	}
}
