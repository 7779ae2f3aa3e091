package delta_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"kafkadelta/delta"
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

// Log compactions are passed over: one that is empty, torn or lacks what its commits say takes nothing from the table.
func TestLogCompactionsAreNeverRead(t *testing.T) {
	for _, content := range []string{"", "{}\n", `{"add":{"pa`, `{"txn":{"appId":"app","version":1}}`, `{"commitInfo":{}}`} {
		s := &spy{LogStore: oddTables(t)["compacted"]}
		for _, name := range []string{"00000000000000000001.00000000000000000002", "00000000000000000001.00000000000000000003"} {
			check(t, s.Put(ctx, logFile(name+".compacted.json"), []byte(content)))
		}
		checkpointAt(t, s, -1, 3)
		drop(t, s, logFile("_last_checkpoint"))
		for _, version := range []int64{2, 3} {
			snapshot := must(delta.OpenSnapshot(ctx, s, version))
			files := must(snapshot.Totals(ctx)).Files
			if txn, _ := snapshot.Txn("app"); snapshot.Version() != version || txn.Version != 2 || files != version-1 {
				t.Errorf("%q: version %d, txn %d, %d files", content, snapshot.Version(), txn.Version, files)
			}
		}
		if i := slices.IndexFunc(s.calls, func(call string) bool { return strings.Contains(call, "compacted") }); i >= 0 {
			t.Errorf("%q: %s", content, s.calls[i])
		}
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

// Of several log checkpoints of one version any will do, also where the others are broken.
func TestOneOfSeveralLogCheckpointsIsWhole(t *testing.T) {
	const single, part = "00000000000000000001.checkpoint.parquet", "00000000000000000001.checkpoint.0000000002.0000000002.parquet"
	for _, broken := range [][]string{{}, {single}, {part}, {single, part}} {
		store := oddTables(t)["mp_and_single"]
		want := stateOf(t, store, -1)
		drop(t, store, delta.CommitName(0), delta.CommitName(1))
		for _, name := range broken {
			data := read(t, store, logFile(name))
			check(t, store.Put(ctx, logFile(name), data[:len(data)-1]))
		}
		if len(broken) < 2 {
			if got := stateOf(t, store, -1); got != want {
				t.Errorf("without %v it reads\n%s\nwant\n%s", broken, got, want)
			}
			continue
		}
		if _, err := delta.OpenSnapshot(ctx, store, -1); !errors.Is(err, delta.ErrCorrupt) || !strings.Contains(err.Error(), ".checkpoint.") {
			t.Errorf("without any: %v", err)
		}
	}
}

// What a log checkpoint stands for need not be readable, not even the commit of its own version.
func TestBrokenCommitBehindItsLogCheckpoint(t *testing.T) {
	store := oddTables(t)["ck_plain"]
	want, newest := stateOf(t, store, 1), stateOf(t, store, -1)
	check(t, store.Put(ctx, delta.CommitName(1), []byte(`{"add":{"pa`)))
	if got := stateOf(t, store, 1); got != want {
		t.Errorf("reads\n%s\nwant\n%s", got, want)
	}
	if got := stateOf(t, store, -1); got != newest {
		t.Errorf("reads\n%s\nwant\n%s", got, newest)
	}
}

// Where the JSON of a version with in-commit timestamps was cleaned or is broken, its checksum tells the timestamp that the next
// commit must pass; one that can't be read is none.
func TestInCommitTimestampFromTheChecksum(t *testing.T) {
	for crc, want := range map[string]delta.Outcome{
		`{"inCommitTimestampOpt":99000000000000,"numFiles":1}`: delta.Committed, `{"inCommit`: delta.Refused, "": delta.Refused,
	} {
		for _, torn := range []bool{false, true} {
			testTimestampFromChecksum(t, crc, torn, want)
		}
	}
}

func testTimestampFromChecksum(t *testing.T, crc string, torn bool, want delta.Outcome) {
	t.Helper()
	store := oddTables(t)["ck_only"]
	drop(t, store, logFile("00000000000000000007.checkpoint.parquet"))
	lines := []string{
		`{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["inCommitTimestamp"]}}`,
		metadata(ddl(t, "a INT"), `{"delta.enableInCommitTimestamps":"true"}`), `{"checkpointMetadata":{"version":7,"tags":{}}}`,
	}
	check(t, store.Put(ctx, logFile("00000000000000000007.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json"), []byte(strings.Join(lines, "\n"))))
	if crc != "" {
		check(t, store.Put(ctx, logFile("00000000000000000007.crc"), []byte(crc)))
	}
	if torn {
		check(t, store.Put(ctx, delta.CommitName(7), []byte(`{"commitInfo":{"inCommitTi`)))
	}
	table := open(t, store, newClock())
	outcome, err := table.Commit(ctx, &delta.Transaction{Operation: "WRITE", Adds: []delta.Add{add("x", 1)}})
	if outcome != want {
		t.Errorf("%q, torn %t: %v %v, want %v", crc, torn, outcome, err, want)
	}
	if want != delta.Committed {
		return
	}
	for e, err := range delta.History(ctx, store) {
		if check(t, err); e.Version != 8 || e.Time.UnixMilli() <= 99000000000000 {
			t.Errorf("version %d is of %d, want version 8 after version 7", e.Version, e.Time.UnixMilli())
		}
		break
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
