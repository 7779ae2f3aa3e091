package delta_test

import (
	"encoding/json"
	"errors"
	"iter"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	arrowmemory "github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

// expectedState is what the engine that made a fixture reads in one version of it (test/fixtures/README.md).
type expectedState struct {
	Version          int64                       `json:"version"`
	ID               string                      `json:"id"`
	Name             string                      `json:"name"`
	Description      string                      `json:"description"`
	Schema           any                         `json:"schema"`
	PartitionColumns []string                    `json:"partition_columns"`
	Configuration    map[string]string           `json:"configuration"`
	Protocol         delta.Protocol              `json:"protocol"`
	Txns             map[string]map[string]int64 `json:"txns"`
	Domains          map[string]string           `json:"domains"`
	Files            []expectedFile              `json:"files"`
	Rows             *int64                      `json:"rows"`
	Timestamp        *int64                      `json:"timestamp"` // in-commit timestamp
}

type expectedFile struct {
	Path                    string                `json:"path"`
	Size                    int64                 `json:"size"`
	Rows                    *int64                `json:"rows"` // by the statistics; nil without
	Partition               map[string]*string    `json:"partition"`
	DeletionVector          *delta.DeletionVector `json:"dv"`
	BaseRowID               *int64                `json:"baseRowId"`
	DefaultRowCommitVersion *int64                `json:"defaultRowCommitVersion"`
	ClusteringProvider      string                `json:"clusteringProvider"`
	Tags                    map[string]string     `json:"tags"`
}

// expected is the content of a fixture's expected.json.
type expected struct {
	expectedState
	Earlier []expectedState `json:"earlier"`
	History []struct {
		Version   int64  `json:"version"`
		Operation string `json:"operation"`
		Engine    string `json:"engine"`
		Blind     bool   `json:"blind"`
		Timestamp int64  `json:"timestamp"`
	} `json:"history"`
}

// fixtures are all tables of test/fixtures.
func fixtures(t testing.TB) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.FromSlash(fixtureRoot + "*/*/expected.json"))
	check(t, err)
	for i, name := range found {
		found[i] = strings.TrimPrefix(filepath.ToSlash(filepath.Dir(name)), fixtureRoot)
	}
	if len(found) < 70 {
		t.Fatalf("only %d fixtures", len(found))
	}
	return found
}

func expectedOf(t testing.TB, store *memory.Store) expected {
	t.Helper()
	var e expected
	check(t, json.Unmarshal(read(t, store, "expected.json"), &e))
	return e
}

// unreadable are the fixtures that cannot even be opened, with the feature that forbids it.
var unreadable = map[string]string{"spark/catalog_managed": "catalogManaged", "spark/foreign_catalogOwned_preview": "catalogOwned-preview"}

func unsupported(err error, features ...string) bool {
	u, ok := errors.AsType[*delta.UnsupportedError](err)
	return ok && slices.Equal(u.Features, features) && u.Remedy != ""
}

// The tables of other engines cover each row of the feature table, each type and each kind of log checkpoint.
func TestFixturesCoverAll(t *testing.T) {
	covered := map[string]bool{}
	for _, name := range fixtures(t) {
		store := fixture(t, name)
		e := expectedOf(t, store)
		for _, f := range delta.ProtocolFeatures(e.Protocol) {
			covered[f] = true
			covered["any other"] = covered["any other"] || !slices.Contains(delta.FeatureNames(), f)
		}
		schema, _ := json.Marshal(e.Schema)
		for _, word := range regexp.MustCompile(`"([a-z_]+)["(]`).FindAllSubmatch(schema, -1) {
			covered["type "+string(word[1])] = true
		}
		sidecars := ""
		for info, err := range store.List(ctx, "_delta_log/", "") {
			if check(t, err); strings.HasPrefix(info.Name, "_delta_log/_sidecars/") {
				sidecars = " with sidecars"
			}
		}
		for info, err := range store.List(ctx, "_delta_log/0", "") {
			check(t, err)
			_, kind, _ := strings.Cut(info.Name, ".")
			covered[regexp.MustCompile(`[0-9a-f]{8,}(-[0-9a-f]+)*`).ReplaceAllString(kind, "#")+sidecars] = true
		}
	}
	want := []string{
		"checkpoint.parquet", "checkpoint.#.#.parquet", "checkpoint.#.json", "checkpoint.#.json with sidecars", "checkpoint.#.parquet",
		"checkpoint.#.parquet with sidecars", "#.compacted.json", "crc",
	}
	for _, r := range featureRows(t) {
		want = append(want, r.name)
	}
	for name := range strings.FieldsSeq("string long integer short byte double float boolean binary date timestamp timestamp_ntz decimal struct array map void variant") {
		want = append(want, "type "+name)
	}
	for _, w := range want {
		if !covered[w] {
			t.Errorf("no fixture has %s", w)
		}
	}
}

// What other engines made, we read as they do: the newest version and older ones, with log checkpoints fetched whole
// and in ranges.
func TestReadsFixtures(t *testing.T) {
	for _, name := range fixtures(t) {
		t.Run(name, func(t *testing.T) {
			store := fixture(t, name)
			want := expectedOf(t, store)
			table, err := delta.Open(ctx, store, newClock().options())
			if feature := unreadable[name]; feature != "" && unsupported(err, feature) {
				return
			}
			check(t, err)
			compareState(t, table.Version(), table.Protocol(), table.Metadata(), table.Txns(), table.Domains(), want.expectedState)
			for _, ranged := range []bool{false, true} {
				if ranged {
					t.Cleanup(delta.SetWholeCheckpoint(0))
				}
				compareVersion(t, store, -1, want.expectedState)
				for _, earlier := range want.Earlier {
					compareVersion(t, store, earlier.Version, earlier)
				}
			}
			compareHistory(t, store, want)
		})
	}
}

func compareVersion(t *testing.T, store *memory.Store, version int64, want expectedState) {
	t.Helper()
	s, err := delta.OpenSnapshot(ctx, store, version)
	check(t, err)
	compareState(t, s.Version(), s.Protocol(), s.Metadata(), s.Txns(), s.Domains(), want)
	if at := s.Info(); want.Timestamp != nil && (at == nil || at.InCommitTimestamp == nil || *at.InCommitTimestamp != *want.Timestamp) {
		t.Errorf("version %d: info %+v, want the in-commit timestamp %d", want.Version, at, *want.Timestamp)
	}
	got := map[string]delta.Add{}
	for a, err := range s.Files(ctx) {
		check(t, err)
		if _, twice := got[a.Path]; twice {
			t.Errorf("version %d: %s twice", want.Version, a.Path)
		}
		got[a.Path] = a
	}
	totals := delta.Totals{Files: int64(len(want.Files))}
	for _, f := range want.Files {
		a := got[f.Path]
		compareFile(t, a, f)
		totals.Bytes += f.Size
		switch {
		case f.Rows == nil:
			totals.FilesWithoutRows++
		case f.DeletionVector != nil:
			totals.Rows += *f.Rows - f.DeletionVector.Cardinality
		default:
			totals.Rows += *f.Rows
		}
	}
	if len(got) != len(want.Files) {
		t.Errorf("version %d: %d files, want %d", want.Version, len(got), len(want.Files))
	}
	if totals.FilesWithoutRows == 0 && want.Rows != nil && totals.Rows != *want.Rows {
		t.Errorf("version %d: expected.json has %d rows by statistics and %d in the data", want.Version, totals.Rows, *want.Rows)
	}
	if got, err := s.Totals(ctx); err != nil || got != totals {
		t.Errorf("version %d: totals %+v %v, want %+v", want.Version, got, err, totals)
	}
}

func compareState(t *testing.T, version int64, p delta.Protocol, m delta.Metadata, txns iter.Seq[delta.Txn], domains iter.Seq[delta.DomainMetadata], want expectedState) {
	t.Helper()
	var schema any
	check(t, json.Unmarshal([]byte(m.SchemaString), &schema))
	if version != want.Version || m.ID != want.ID || m.Name != want.Name || m.Description != want.Description ||
		!maps.Equal(m.Configuration, want.Configuration) || !slices.Equal(m.PartitionColumns, want.PartitionColumns) || !reflect.DeepEqual(schema, want.Schema) {
		t.Errorf("version %d, metadata %+v, want %+v", version, m, want)
	}
	for _, list := range [][]string{p.ReaderFeatures, p.WriterFeatures, want.Protocol.ReaderFeatures, want.Protocol.WriterFeatures} {
		slices.Sort(list)
	}
	if p.MinReaderVersion != want.Protocol.MinReaderVersion || p.MinWriterVersion != want.Protocol.MinWriterVersion ||
		!slices.Equal(p.ReaderFeatures, want.Protocol.ReaderFeatures) || !slices.Equal(p.WriterFeatures, want.Protocol.WriterFeatures) {
		t.Errorf("version %d: protocol %+v, want %+v", version, p, want.Protocol)
	}
	found := map[string]delta.Txn{}
	for txn := range txns {
		found[txn.AppID] = txn
	}
	for id, txn := range want.Txns {
		updated, known := txn["lastUpdated"]
		if got, ok := found[id]; !ok || got.Version != txn["version"] || known && (got.LastUpdated == nil || *got.LastUpdated != updated) {
			t.Errorf("version %d: txn %s is %+v, want %+v", version, id, got, txn)
		}
	}
	if len(found) != len(want.Txns) {
		t.Errorf("version %d: txns %v, want %v", version, found, want.Txns)
	}
	inForce := map[string]string{}
	for d := range domains {
		inForce[d.Domain] = d.Configuration
	}
	if !maps.Equal(inForce, want.Domains) {
		t.Errorf("version %d: domains %v, want %v", version, inForce, want.Domains)
	}
}

func compareFile(t *testing.T, got delta.Add, want expectedFile) {
	t.Helper()
	rows, known := got.NumRecords()
	if got.Path != want.Path || got.Size != want.Size || known != (want.Rows != nil) || known && rows != *want.Rows ||
		!reflect.DeepEqual(got.DeletionVector, want.DeletionVector) || got.ClusteringProvider != want.ClusteringProvider || !maps.Equal(got.Tags, want.Tags) ||
		!reflect.DeepEqual(got.BaseRowID, want.BaseRowID) || !reflect.DeepEqual(got.DefaultRowCommitVersion, want.DefaultRowCommitVersion) {
		t.Errorf("file %s: %+v, want %+v", want.Path, got, want)
	}
	for column, value := range want.Partition {
		p, ok := got.PartitionValues[column]
		empty := p != nil && *p == "" && value == nil // both spell null (PROTOCOL.md, "Partition Value Serialization")
		if !ok || (p == nil) != (value == nil) && !empty || p != nil && value != nil && *p != *value {
			t.Errorf("file %s: the partition value of %s is %v, want %v", want.Path, column, p, value)
		}
	}
	if len(got.PartitionValues) != len(want.Partition) {
		t.Errorf("file %s: partition values of %d columns, want %d", want.Path, len(got.PartitionValues), len(want.Partition))
	}
}

func compareHistory(t *testing.T, store *memory.Store, want expected) {
	t.Helper()
	i := 0
	for e, err := range delta.History(ctx, store) {
		check(t, err)
		if i >= len(want.History) {
			break // delta-rs tells no history, and Spark none of a table that it refuses
		}
		h := want.History[i]
		i++
		if e.Version != h.Version || e.Info == nil || e.Info.Operation != h.Operation || e.Info.EngineInfo != h.Engine || e.Info.IsBlindAppend != h.Blind {
			if h.Engine != "" { // a commit that the script wrote by hand
				t.Errorf("history: version %d %+v, want %+v", e.Version, e.Info, h)
			}
		}
		if e.Info != nil && e.Info.InCommitTimestamp != nil && e.Time.UnixMilli() != h.Timestamp {
			t.Errorf("history: version %d at %d, want %d", e.Version, e.Time.UnixMilli(), h.Timestamp)
		}
	}
	if i < len(want.History) {
		t.Errorf("the history has %d commits, want %d", i, len(want.History))
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
		mem := arrowmemory.NewCheckedAllocator(arrowmemory.NewGoAllocator())
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
