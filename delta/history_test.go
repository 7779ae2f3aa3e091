package delta_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

// dated is a store whose objects were modified when the test says: by the digits that their names begin with, in
// milliseconds.
type dated struct {
	delta.LogStore
	times map[int64]int64
}

func (d dated) List(ctx context.Context, prefix, after string) iter.Seq2[delta.ObjectInfo, error] {
	return func(yield func(delta.ObjectInfo, error) bool) {
		for info, err := range d.LogStore.List(ctx, prefix, after) {
			var version int64
			_, _ = fmt.Sscanf(info.Name, "_delta_log/%020d", &version)
			info.ModTime = time.UnixMilli(d.times[version])
			if !yield(info, err) {
				return
			}
		}
	}
}

func commitInfo(fields string) string { return `{"commitInfo":{` + fields + `}}` }

func TestHistoryTellsWhatCommitsDid(t *testing.T) {
	store := created(t, newClock(), "a INT")
	putLog(t, store, 1, commitInfo(`"operation":"WRITE","engineInfo":"x"`), `{"txn":{"appId":"app","version":9}}`,
		`{"add":{"path":"f","partitionValues":{},"size":10,"modificationTime":1,"dataChange":true,"stats":"{\"numRecords\":3}"}}`,
		`{"add":{"path":"g","partitionValues":{},"size":5,"modificationTime":1,"dataChange":true}}`)
	putLog(t, store, 2, `{"remove":{"path":"f","dataChange":true}}`, metadata(ddl(t, "a INT, b INT"), ""))
	history := func() (all []delta.HistoryEntry) {
		// Copies and clocks make file times go backwards: they are made monotonic, as Spark does.
		for e, err := range delta.History(ctx, dated{store, map[int64]int64{0: 5000, 1: 4000, 2: 9000}}) {
			check(t, err)
			all = append(all, e)
		}
		return all
	}
	all := history()
	if len(all) != 3 {
		t.Fatalf("%d entries", len(all))
	}
	if e := all[0]; e.Version != 2 || e.Info != nil || e.RemovedFiles != 1 || !e.ChangesSchema || e.Time.UnixMilli() != 9000 {
		t.Errorf("newest %+v", e)
	}
	if e := all[1]; e.Info.Operation != "WRITE" || e.AddedFiles != 2 || e.AddedRows != 3 || e.AddedBytes != 15 || len(e.Txns) != 1 || e.Time.UnixMilli() != 5001 {
		t.Errorf("version 1 %+v", e)
	}
	drop(t, store, delta.CommitName(1))
	for _, err := range delta.History(ctx, store) {
		check(t, err)
		break // leaving early is fine
	}
	var told []int64
	var err error
	for e, failed := range delta.History(ctx, store) {
		if err = failed; err == nil {
			told = append(told, e.Version)
		}
	}
	if !slices.Equal(told, []int64{2}) || !errors.Is(err, delta.ErrCorrupt) || !strings.Contains(err.Error(), "version 1 is missing") {
		t.Errorf("%v and %v, want version 2, then the missing commit told", told, err)
	}
	for _, err = range delta.History(ctx, memory.New()) {
	}
	if !errors.Is(err, delta.ErrNotTable) {
		t.Errorf("%v, want ErrNotTable", err)
	}
}

func TestVersionAtByFileTimes(t *testing.T) {
	store := created(t, newClock(), "a INT")
	for v := range int64(4) {
		putLog(t, store, v+1, commitInfo(`"operation":"WRITE"`))
	}
	// Versions 1 and 2 are at 2001 and 2002: their files say 1500 and 2001.
	d := dated{store, map[int64]int64{0: 2000, 1: 1500, 2: 2001, 3: 3000, 4: 4000}}
	for ms, want := range map[int64]int64{2000: 0, 2001: 1, 2002: 2, 2999: 2, 3000: 3, 3999: 3, 4000: 4} {
		if got, err := delta.VersionAt(ctx, d, time.UnixMilli(ms)); err != nil || got != want {
			t.Errorf("at %d: version %d %v, want %d", ms, got, err, want)
		}
	}
	for ms, word := range map[int64]string{1999: "the earliest version that is left is 0 of 1970-01-01T00:00:02.000Z", 4001: "the newest version is 4 of 1970-01-01T00:00:04.000Z"} {
		if _, err := delta.VersionAt(ctx, d, time.UnixMilli(ms)); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), word) {
			t.Errorf("at %d: %v, want %q", ms, err, word)
		}
	}
}

// Commits that no log checkpoint comes before can't be opened, so that they are no answer.
func TestVersionAtAfterACleanup(t *testing.T) {
	store := fixture(t, "checkpointed")
	drop(t, store, delta.CommitName(0), delta.CommitName(1), delta.CommitName(2))
	times := map[int64]int64{}
	for v := range int64(20) {
		times[v] = v * 1000
	}
	d := dated{store, times}
	if got, err := delta.VersionAt(ctx, d, time.UnixMilli(4500)); err != nil || got != 4 {
		t.Errorf("version %d %v, want 4", got, err)
	}
	if _, err := delta.VersionAt(ctx, d, time.UnixMilli(3500)); err == nil || !strings.Contains(err.Error(), "earliest version that is left is 4") {
		t.Errorf("%v, want version 4 to be the earliest", err)
	}
}

func TestVersionAtByInCommitTimestamps(t *testing.T) {
	store := created(t, newClock(), "a INT")
	putLog(t, store, 1, commitInfo(`"operation":"WRITE"`))
	ict := `{"delta.enableInCommitTimestamps":"true","delta.inCommitTimestampEnablementVersion":"2","delta.inCommitTimestampEnablementTimestamp":"5000"}`
	putLog(t, store, 2, commitInfo(`"inCommitTimestamp":5000`), metadata(ddl(t, "a INT"), ict),
		`{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["inCommitTimestamp"]}}`)
	putLog(t, store, 3, commitInfo(`"inCommitTimestamp":6000`))
	// The files say something else from version 2 on, which counts no more.
	d := dated{store, map[int64]int64{0: 1000, 1: 2000, 2: 100000, 3: 200000}}
	for ms, want := range map[int64]int64{1000: 0, 2000: 1, 4999: 1, 5000: 2, 5999: 2, 6000: 3} {
		if got, err := delta.VersionAt(ctx, d, time.UnixMilli(ms)); err != nil || got != want {
			t.Errorf("at %d: version %d %v, want %d", ms, got, err, want)
		}
	}
	if _, err := delta.VersionAt(ctx, d, time.UnixMilli(6001)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want a time after the newest version refused", err)
	}
	for e, err := range delta.History(ctx, d) {
		check(t, err)
		if e.Version == 3 && e.Time.UnixMilli() != 6000 || e.Version == 1 && e.Time.UnixMilli() != 2000 {
			t.Errorf("version %d of %d", e.Version, e.Time.UnixMilli())
		}
	}
}

// The times of the history are those that VersionAt takes, wherever in-commit timestamps were turned on and off.
func TestHistoryHasTheTimesOfVersionAt(t *testing.T) {
	ict := func(enabled, more string) string {
		return metadata(ddl(t, "a INT"), `{"delta.enableInCommitTimestamps":"`+enabled+`"`+more+`}`)
	}
	since := func(version string) string {
		return `,"delta.inCommitTimestampEnablementVersion":"` + version + `","delta.inCommitTimestampEnablementTimestamp":"7000"`
	}
	const protocol = `{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["inCommitTimestamp"]}}`
	at := func(ms string) string { return commitInfo(`"inCommitTimestamp":` + ms) }
	bare := commitInfo(`"operation":"WRITE"`)
	for name, tt := range map[string]struct {
		commits [][]string
		want    []int64 // times, from version 0 on
	}{
		"never on":         {[][]string{{bare}, {bare}, {bare}}, []int64{1000, 2000, 3000, 4000}},
		"on":               {[][]string{{bare}, {at("7000"), ict("true", since("2")), protocol}, {at("8000")}}, []int64{1000, 2000, 7000, 8000}},
		"on and off":       {[][]string{{at("7000"), ict("true", since("1")), protocol}, {at("8000")}, {bare, ict("false", "")}, {bare}}, []int64{1000, 2000, 3000, 4000, 5000}},
		"off with a time":  {[][]string{{at("7000"), ict("true", since("1")), protocol}, {at("8000"), ict("false", "")}}, []int64{1000, 2000, 3000}},
		"on again":         {[][]string{{at("7000"), ict("true", since("1")), protocol}, {bare, ict("false", "")}, {at("9000"), ict("true", since("3"))}, {at("9001")}}, []int64{1000, 2000, 3000, 9000, 9001}},
		"no feature of it": {[][]string{{at("7000"), ict("true", "")}, {at("8000")}}, []int64{1000, 2000, 3000}},
	} {
		t.Run(name, func(t *testing.T) {
			store := created(t, newClock(), "a INT")
			for i, lines := range tt.commits {
				putLog(t, store, int64(i+1), lines...)
			}
			d := dated{store, map[int64]int64{0: 1000, 1: 2000, 2: 3000, 3: 4000, 4: 5000}}
			n := 0
			for e, err := range delta.History(ctx, d) {
				check(t, err)
				n++
				if got := e.Time.UnixMilli(); got != tt.want[e.Version] {
					t.Errorf("version %d is of %d, want %d", e.Version, got, tt.want[e.Version])
				}
				if got, err := delta.VersionAt(ctx, d, e.Time); err != nil || got != e.Version {
					t.Errorf("at the time of version %d, %v: version %d, %v", e.Version, e.Time, got, err)
				}
			}
			if n != len(tt.want) {
				t.Errorf("%d versions, want %d", n, len(tt.want))
			}
		})
	}
}

// TestOldestVersion: what is the oldest to be opened opens, and the version before does not.
func TestOldestVersion(t *testing.T) {
	for _, name := range fixtures(t) {
		if unreadable[name] != "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			store := fixture(t, name)
			oldest, err := delta.OldestVersion(t.Context(), store)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := delta.OpenSnapshot(t.Context(), store, oldest); err != nil {
				t.Errorf("version %d: %v", oldest, err)
			}
			if oldest == 0 {
				return
			}
			if _, err := delta.OpenSnapshot(t.Context(), store, oldest-1); err == nil {
				t.Errorf("version %d opens, but %d is told to be the oldest", oldest-1, oldest)
			}
		})
	}
	if _, err := delta.OldestVersion(t.Context(), memory.New()); !errors.Is(err, delta.ErrNotTable) {
		t.Errorf("no table: %v", err)
	}
}
