package delta_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/delta"
)

const day = int64(24 * 3600 * 1000)

// checkpointFiles lists the log checkpoints of a table, and its sidecars.
func checkpointFiles(t testing.TB, s delta.LogStore) (checkpoints, sidecars []delta.ObjectInfo) {
	t.Helper()
	for o, err := range s.List(ctx, "_delta_log/", "") {
		check(t, err)
		switch {
		case strings.HasPrefix(o.Name, "_delta_log/_sidecars/"):
			sidecars = append(sidecars, o)
		case strings.Contains(o.Name, ".checkpoint."):
			checkpoints = append(checkpoints, o)
		}
	}
	return checkpoints, sidecars
}

func appendOne(t testing.TB, s delta.LogStore, version int64, lines ...string) {
	t.Helper()
	putLog(t, s, version, append([]string{`{"commitInfo":{"operation":"WRITE","isBlindAppend":true}}`}, lines...)...)
}

func addLine(file string) string {
	return fmt.Sprintf(`{"add":{"path":%q,"partitionValues":{"part":null,"region":"x"},"size":10,"modificationTime":1,"dataChange":true}}`, file)
}

func removeLine(file string, at int64) string {
	return fmt.Sprintf(`{"remove":{"path":%q,"deletionTimestamp":%d,"dataChange":true,"extendedFileMetadata":true,"partitionValues":{},"size":10}}`, file, at)
}

func TestTombstonesAndTxnsExpire(t *testing.T) {
	l := newRandomLog(t, 1, map[string]string{"delta.setTransactionRetentionDuration": "interval 2 days", "delta.deletedFileRetentionDuration": "interval 3 days"})
	now := 100 * day
	appendOne(t, l.store, 1, addLine("a"), addLine("b"), addLine("c"),
		fmt.Sprintf(`{"txn":{"appId":"old","version":1,"lastUpdated":%d}}`, now-2*day), fmt.Sprintf(`{"txn":{"appId":"young","version":2,"lastUpdated":%d}}`, now-2*day+1),
		`{"txn":{"appId":"timeless","version":3}}`)
	putLog(t, l.store, 2, removeLine("a", now-3*day), removeLine("b", now-3*day+1))
	for i, at := range []int64{now, now + 1} { // the second time they come from the first log checkpoint
		checkpointAt(t, l.store, -1, at)
		files, _ := checkpointFiles(t, l.store)
		newest := files[len(files)-1]
		c, err := delta.ReadCheckpointFile(ctx, l.store, newest.Name, newest.Size, memory.DefaultAllocator)
		check(t, err)
		var got []string
		for _, txn := range c.Txns {
			got = append(got, txn.AppID)
		}
		for _, r := range c.Removes {
			got = append(got, r.Path)
		}
		want := "[young b]"
		if at > now {
			want = "[]"
		}
		if fmt.Sprint(got) != want {
			t.Errorf("at %d: txns and tombstones %v, want %s", at-now, got, want)
		}
		appendOne(t, l.store, int64(3+i), addLine(fmt.Sprintf("later-%d", i)))
	}
}

// TestLogCheckpointsDontBelieveOneClock: that of who writes them is 40 days ahead. By the store's clock nothing is older than hours, and the txns of
// streams that rest must not be forgotten (rule A4).
func TestLogCheckpointsDontBelieveOneClock(t *testing.T) {
	l := newRandomLog(t, 1, map[string]string{"delta.setTransactionRetentionDuration": "interval 2 hours", "delta.deletedFileRetentionDuration": "interval 3 hours"})
	start := time.UnixMilli(100 * day)
	at := func(hours int64) int64 { return start.Add(time.Duration(hours) * time.Hour).UnixMilli() }
	txn := func(name string, hours int64) string {
		return fmt.Sprintf(`{"txn":{"appId":%q,"version":1,"lastUpdated":%d}}`, name, at(hours))
	}
	appendOne(t, l.store, 1, addLine("a"), addLine("b"), txn("old", 1), txn("resting", 4))
	putLog(t, l.store, 2, removeLine("a", at(1)), removeLine("b", at(3)))
	for v := int64(3); v <= 5; v++ {
		appendOne(t, l.store, v, txn("busy", v))
	}
	checkpointAt(t, &aged{LogStore: l.store, start: start, failAt: -1}, -1, start.Add(40*24*time.Hour).UnixMilli()) // by the store it is five o'clock
	files, _ := checkpointFiles(t, l.store)
	c, err := delta.ReadCheckpointFile(ctx, l.store, files[0].Name, files[0].Size, memory.DefaultAllocator)
	check(t, err)
	var got []string
	for _, txn := range c.Txns {
		got = append(got, txn.AppID)
	}
	for _, r := range c.Removes {
		got = append(got, r.Path)
	}
	slices.Sort(got)
	if want := "[b busy resting]"; fmt.Sprint(got) != want {
		t.Errorf("txns and tombstones %v, want %s", got, want)
	}
}

// A log checkpoint after appends alone writes what is new; one after a removal rewrites the sidecar that it concerns.
func TestSidecarsStayWhileNothingInThemChanges(t *testing.T) {
	l := newRandomLog(t, 1, map[string]string{"delta.checkpointPolicy": "v2", "delta.checkpointInterval": "1"})
	appendOne(t, l.store, 1, addLine("a"), addLine("b"))
	checkpointAt(t, l.store, -1, 0)
	appendOne(t, l.store, 2, addLine("c"))
	counted := &spy{LogStore: l.store}
	if r := checkpointAt(t, counted, -1, 0); r.Sidecars != 2 || r.Reused != 1 || r.Files.Files != 3 {
		t.Errorf("after an append: %+v", r)
	}
	for _, call := range counted.calls {
		if strings.HasPrefix(call, "get ") && len(path.Base(call)) == len("get 016ae953-37a9-438e-8683-9a9a4a79a395.parquet") {
			t.Errorf("a sidecar that stays was opened: %s", call)
		}
	}
	putLog(t, l.store, 3, `{"commitInfo":{"operation":"DELETE"}}`, removeLine("c", 50*day))
	if r := checkpointAt(t, l.store, -1, 51*day); r.Sidecars != 2 || r.Reused != 1 || r.Files.Files != 2 || r.Tombstones != 1 {
		t.Errorf("after a removal: %+v", r)
	}
	// Statistics that are computed again come as adds of files that are there, and Spark calls that a blind append.
	again := strings.Replace(addLine("a"), `"dataChange":true`, `"dataChange":false`, 1)
	putLog(t, l.store, 4, `{"commitInfo":{"operation":"COMPUTE STATS","isBlindAppend":true}}`, again)
	if r := checkpointAt(t, l.store, -1, 51*day); r.Files.Files != 2 {
		t.Errorf("after statistics: %+v", r)
	}
	// 300 more: their number stays bounded, and each file action is written a few times only.
	var written int64
	last := 0
	for v := int64(5); v < 127; v++ {
		appendOne(t, l.store, v, addLine(fmt.Sprintf("more-%d", v)))
		r := checkpointAt(t, l.store, -1, 51*day)
		written += r.Bytes
		last = r.Sidecars
		if r.Sidecars > 24 || r.Files.Files != v-2 {
			t.Fatalf("version %d: %+v", v, r)
		}
	}
	if last < 2 {
		t.Errorf("%d sidecars: nothing is reused", last)
	}
	files, _ := checkpointFiles(t, l.store)
	classic := 0
	for _, f := range files {
		if strings.Count(path.Base(f.Name), ".") == 2 {
			classic++
		}
	}
	if classic == 0 || classic > len(files)/5 {
		t.Errorf("%d of %d log checkpoints have the classic name", classic, len(files))
	}
}

func TestLastCheckpointNeverGoesBack(t *testing.T) {
	l := newRandomLog(t, 2, nil)
	for range 6 {
		l.step(t)
	}
	checkpointAt(t, l.store, 5, l.at)
	newer := read(t, l.store, "_delta_log/_last_checkpoint")
	var info struct {
		Version, Size, SizeInBytes, NumOfAddFiles int64
		Checksum                                  string
	}
	check(t, json.Unmarshal(newer, &info))
	if info.Version != 5 || info.Size < 3 || info.SizeInBytes == 0 || len(info.Checksum) != 32 {
		t.Errorf("%s", newer)
	}
	if r := checkpointAt(t, l.store, 3, l.at); !r.Written {
		t.Error("no log checkpoint of version 3")
	}
	if got := read(t, l.store, "_delta_log/_last_checkpoint"); string(got) != string(newer) {
		t.Errorf("%s, was %s", got, newer)
	}
}

// The checksum that a followed table carries from commit to commit is the one that a log checkpoint counts.
func TestChecksumIsExactOrNotThere(t *testing.T) {
	carried := 0
	for seed := range uint64(6) {
		l := newRandomLog(t, seed, nil)
		c := newClock()
		table := open(t, l.store, c)
		table.CountFiles(0, delta.FileCounts{})
		for range 25 {
			l.step(t)
			for {
				_, err := table.Next(ctx)
				if errors.Is(err, io.EOF) {
					break
				}
				check(t, err)
			}
			got, err := table.Checksum()
			check(t, err)
			r := checkpointAt(t, l.store, -1, l.at)
			if len(got) > 0 {
				carried++
				if want := read(t, l.store, fmt.Sprintf("_delta_log/%020d.crc", l.version)); string(got) != string(want) {
					t.Fatalf("seed %d, version %d:\n%s\nwant\n%s", seed, l.version, got, want)
				}
			} else if !table.CountFiles(r.Version, r.Files) {
				t.Fatal("the counts of the table's own version are not taken")
			}
		}
	}
	if carried < 50 {
		t.Errorf("only %d checksums were known", carried)
	}
}

func TestChecksumIsNeverOverwritten(t *testing.T) {
	l := newRandomLog(t, 2, nil)
	l.step(t)
	check(t, l.store.Put(ctx, "_delta_log/00000000000000000001.crc", []byte("x")))
	checkpointAt(t, l.store, -1, l.at)
	if got := read(t, l.store, "_delta_log/00000000000000000001.crc"); string(got) != "x" {
		t.Errorf("%s", got)
	}
}

// A table may stop to keep statistics in one form and begin with the other: none is lost.
func TestStatisticsChangeTheirForm(t *testing.T) {
	l := newRandomLog(t, 3, map[string]string{"delta.checkpoint.writeStatsAsStruct": "true", "delta.checkpoint.writeStatsAsJson": "false"})
	for range 6 {
		l.step(t)
	}
	checkpointAt(t, l.store, -1, l.at)
	for _, policy := range []string{"classic", "v2"} {
		l.config = map[string]string{"delta.checkpointPolicy": policy}
		l.put(t, `{"commitInfo":{"operation":"SET TBLPROPERTIES"}}`, l.metadata(t))
		r := checkpointAt(t, l.store, -1, l.at)
		for v := range l.version + 1 {
			drop(t, l.store, delta.CommitName(v))
		}
		snap, err := delta.OpenSnapshot(ctx, l.store, -1)
		check(t, err)
		full := 0
		for a, err := range snap.Files(ctx) {
			check(t, err)
			if strings.Contains(a.Stats, `"maxValues":{"id":9223372036854775807,"at":"2024-02-04T04:05:06.789Z","day":"2024-02-05","price":12345678901234567.125,"ratio":1e+300,"name":"z","nested":{"a":2}}`) {
				full++
			} else if a.Stats != "" {
				t.Errorf("%s", a.Stats)
			}
		}
		if !r.Written || full == 0 {
			t.Errorf("%+v, %d files with statistics", r, full)
		}
	}
}

// An add that does not change data may speak of a file that is there already: without a remove nothing tells.
func TestChecksumOfAFileThatMayHaveBeenThere(t *testing.T) {
	for change, known := range map[bool]bool{true: true, false: false} {
		store := created(t, newClock(), "a INT")
		table := open(t, store, newClock())
		table.CountFiles(0, delta.FileCounts{})
		putLog(t, store, 1, `{"commitInfo":{"timestamp":1,"operation":"WRITE"}}`,
			fmt.Sprintf(`{"add":{"path":"f","partitionValues":{},"size":1,"modificationTime":1,"dataChange":%t}}`, change))
		_, err := table.Next(ctx)
		check(t, err)
		if got := must(table.Checksum()); (got != nil) != known {
			t.Errorf("dataChange %t: the checksum is %q", change, got)
		}
	}
}
