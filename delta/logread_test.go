package delta_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

// The example of PROTOCOL.md, "JSON checksum".
func TestJSONChecksumOfTheProtocol(t *testing.T) {
	const js = `{"k0":"'v 0'", "checksum": "adsaskfljadfkjadfkj", "k1":{"k2": 2, "k3": ["v3", [1, 2], {"k4": "v4", "k5": ["v5", "v6", "v7"]}]}}`
	if sum, err := delta.JSONChecksum([]byte(js)); err != nil || sum != "6a92d155a59bf2eecbd4b4ec7fd1f875" {
		t.Errorf("%s %v", sum, err)
	}
	for _, js := range []string{`{"a":1,"a":2}`, `{"a":1} x`, `{"a":`, strings.Repeat("[", 5000), ""} {
		if sum, err := delta.JSONChecksum([]byte(js)); err == nil {
			t.Errorf("%.30s has the checksum %s", js, sum)
		}
	}
}

// A _last_checkpoint whose checksum is another one is no hint: the log is listed from its beginning.
func TestLastCheckpointWithChecksum(t *testing.T) {
	for checksum, listed := range map[string]string{
		must(delta.JSONChecksum([]byte(`{"version":1,"size":6}`))): "list 00000000000000000001", "00": "list .",
	} {
		s := &spy{LogStore: oddTables(t)["ck_plain"]}
		check(t, s.Put(ctx, logFile("_last_checkpoint"), fmt.Appendf(nil, `{"version":1,"size":6,"checksum":%q}`, checksum)))
		if table := open(t, s, newClock()); table.Version() != 2 {
			t.Errorf("version %d", table.Version())
		}
		if !slices.Contains(s.calls, listed) {
			t.Errorf("%v, want %q", s.calls, listed)
		}
	}
}

// A log compaction is read instead of its commits, for the state and for the files; the newest commit is read for its
// commitInfo alone.
func TestLogCompactionsShortenTheReading(t *testing.T) {
	s := &spy{LogStore: oddTables(t)["compacted"]}
	table := open(t, s, newClock())
	if txn, _ := table.Txn("app"); table.Version() != 3 || txn.Version != 2 {
		t.Errorf("version %d, txn %+v", table.Version(), txn)
	}
	snapshot := must(delta.OpenSnapshot(ctx, s, -1))
	if totals := must(snapshot.Totals(ctx)); totals.Files != 2 {
		t.Errorf("totals %+v", totals)
	}
	const compaction = "get 00000000000000000001.00000000000000000002.compacted.json"
	if !slices.Contains(s.calls, compaction) || slices.Contains(s.calls, "get 00000000000000000001.json") || slices.Contains(s.calls, "get 00000000000000000002.json") {
		t.Errorf("%v, want %q instead of two commits", s.calls, compaction)
	}
	// One that reaches past the wanted version does not help.
	if v1 := must(delta.OpenSnapshot(ctx, s, 1)); v1.Version() != 1 || must(v1.Totals(ctx)).Files != 2 {
		t.Error("version 1 is not what its commits say")
	}
}

// A log compaction proves nothing: where only it is left, following tells that commits are gone, or that nothing is new.
func TestLogCompactionsProveNoVersion(t *testing.T) {
	store := created(t, newClock(), "a INT")
	table := open(t, store, newClock())
	check(t, store.Put(ctx, logFile("00000000000000000001.00000000000000000002.compacted.json"), []byte(`{"txn":{"appId":"a","version":1}}`)))
	if _, err := table.Next(ctx); err == nil || errors.Is(err, delta.ErrMissingCommit) {
		t.Errorf("%v, want io.EOF", err)
	}
}

// The protocol does not ask a log compaction to keep the tombstones of domains, so that domains come from the commits.
func TestDomainsDoNotComeFromLogCompactions(t *testing.T) {
	store := memory.New()
	domain := func(removed bool) string {
		return fmt.Sprintf(`{"domainMetadata":{"domain":"d","configuration":"x","removed":%t}}`, removed)
	}
	putLog(t, store, 0, `{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["domainMetadata"]}}`, metadata(ddl(t, "a INT"), ""), domain(false))
	putLog(t, store, 1, domain(true))
	putLog(t, store, 2, `{"txn":{"appId":"a","version":1}}`)
	check(t, store.Put(ctx, logFile("00000000000000000001.00000000000000000002.compacted.json"), []byte(`{"txn":{"appId":"a","version":1}}`)))
	for d := range open(t, store, newClock()).Domains() {
		t.Errorf("the removed domain %s is back", d.Domain)
	}
}

// Where the JSON of a version with in-commit timestamps was cleaned, its checksum tells the timestamp that the next commit
// must pass; one that can't be read is none.
func TestInCommitTimestampFromTheChecksum(t *testing.T) {
	for crc, want := range map[string]delta.Outcome{
		`{"inCommitTimestampOpt":99000000000000,"numFiles":1}`: delta.Committed, `{"inCommit`: delta.Refused, "": delta.Refused,
	} {
		store := &spy{LogStore: oddTables(t)["ck_only"]}
		drop(t, store, logFile("00000000000000000007.checkpoint.parquet"))
		lines := []string{
			`{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["inCommitTimestamp"]}}`,
			metadata(ddl(t, "a INT"), `{"delta.enableInCommitTimestamps":"true"}`), `{"checkpointMetadata":{"version":7,"tags":{}}}`,
		}
		check(t, store.Put(ctx, logFile("00000000000000000007.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json"), []byte(strings.Join(lines, "\n"))))
		if crc != "" {
			check(t, store.Put(ctx, logFile("00000000000000000007.crc"), []byte(crc)))
		}
		table := open(t, store, newClock())
		outcome, err := table.Commit(ctx, &delta.Transaction{Operation: "WRITE", Adds: []delta.Add{add("x", 1)}})
		if outcome != want {
			t.Errorf("%q: %v %v, want %v", crc, outcome, err, want)
		}
		if want != delta.Committed {
			continue
		}
		for e, err := range delta.History(ctx, store) {
			if check(t, err); e.Version == 8 && e.Time.UnixMilli() <= 99000000000000 {
				t.Errorf("version 8 is of %d, which is not after version 7", e.Time.UnixMilli())
			}
		}
	}
}

// An append needs no files, so that it does not read sidecars; their files are named when they are wanted and gone.
func TestOpenReadsNoSidecars(t *testing.T) {
	for _, name := range []string{"v2_json_sidecar", "v2_pq_sidecar", "v2_classic_sidecar", "v2_missing_sidecar"} {
		s := &spy{LogStore: oddTables(t)[name]}
		if table := open(t, s, newClock()); table.Version() != 2 {
			t.Errorf("%s: version %d", name, table.Version())
		}
		for _, call := range s.calls {
			if strings.Contains(call, "3a0d65cd") {
				t.Errorf("%s: %s", name, call)
			}
		}
	}
}

// Row groups whose statistics tell that a column is null throughout are not read for it.
func TestOpenSkipsRowGroupsByStatistics(t *testing.T) {
	gets := map[string]int64{}
	for _, name := range []string{"ck_rowgroups", "ck_nostats_rowgroups"} {
		restore := delta.SetWholeCheckpoint(64)
		s := &counting{LogStore: oddTables(t)[name]}
		open(t, s, newClock())
		restore()
		gets[name] = s.gets
	}
	if gets["ck_rowgroups"] >= gets["ck_nostats_rowgroups"] {
		t.Errorf("requests: %v", gets)
	}
}

// The lines of a commit may be as long as they like.
func TestVeryLargeActions(t *testing.T) {
	store := created(t, newClock(), "a INT")
	stats := strings.Repeat("x", 64<<20)
	putLog(t, store, 1, `{"add":{"path":"f","partitionValues":{},"size":1,"modificationTime":1,"dataChange":true,"stats":"`+stats+`"}}`, `{"txn":{"appId":"a","version":4}}`)
	table := open(t, store, newClock())
	if txn, _ := table.Txn("a"); txn.Version != 4 {
		t.Errorf("txn %+v", txn)
	}
	for a, err := range must(delta.OpenSnapshot(ctx, store, -1)).Files(ctx) {
		if check(t, err); len(a.Stats) != len(stats) {
			t.Errorf("%d bytes of statistics", len(a.Stats))
		}
	}
}
