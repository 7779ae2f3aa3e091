package delta_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

func TestParseCommitIgnoresWhatItDoesNotKnow(t *testing.T) {
	c, err := delta.ParseCommit(7, strings.NewReader(strings.Join([]string{
		`{"commitInfo":{"timestamp":1,"operation":"WRITE","operationParameters":{"mode":"Append"},"operationMetrics":{"a":"1","b":2},"txnId":"x","isBlindAppend":true,"own":{"deep":[9007199254740993]}}}`,
		``,
		`{"futureAction":{"a":1}}`,
		`  { "add" : {"path":"a%20b","partitionValues":{"p":null,"q":"v"},"size":9007199254740993,"modificationTime":2,"dataChange":true,"stats":"{\"numRecords\":9007199254740993}","future":[{}],"deletionVector":{"storageType":"u","pathOrInlineDv":"ab","offset":4,"sizeInBytes":40,"cardinality":6}}}` + "\r",
		`{"remove":{"path":"b","deletionTimestamp":3,"dataChange":true,"extendedFileMetadata":true}}`,
		`{"txn":{"appId":"app","version":-9007199254740993}}`,
		`{"domainMetadata":{"domain":"d","configuration":"{}","removed":false}}`,
		`{"cdc":{"path":"c"}}`,
	}, "\n")))
	check(t, err)
	if c.Info.Operation != "WRITE" || c.Info.TxnID != "x" || !c.Info.IsBlindAppend || c.Info.OperationMetrics["a"] != "1" || c.Info.OperationMetrics["b"] != "2" {
		t.Errorf("commitInfo %+v", c.Info)
	}
	if got := string(c.Info.Fields["own"]); got != `{"deep":[9007199254740993]}` {
		t.Errorf("own field %s", got)
	}
	if len(c.Adds) != 1 || c.Adds[0].Size != 9007199254740993 || c.Adds[0].PartitionValues["p"] != nil || *c.Adds[0].PartitionValues["q"] != "v" || *c.Adds[0].DeletionVector.Offset != 4 {
		t.Errorf("adds %+v", c.Adds)
	}
	if n, ok := c.Adds[0].NumRecords(); n != 9007199254740993 || !ok {
		t.Errorf("numRecords %d %v", n, ok)
	}
	if len(c.Removes) != 1 || len(c.Txns) != 1 || c.Txns[0].Version != -9007199254740993 || len(c.Domains) != 1 || c.Version != 7 {
		t.Errorf("commit %+v", c)
	}
}

func TestParseCommitTakesStrangeCommitInfo(t *testing.T) {
	for _, info := range []string{`7`, `"x"`, `[1]`, `{"timestamp":"yesterday","operation":3,"operationMetrics":[],"txnId":null}`} {
		c, err := delta.ParseCommit(0, strings.NewReader(`{"commitInfo":`+info+`}`))
		check(t, err)
		if c.Info == nil || c.Info.Operation != "" || c.Info.TxnID != "" {
			t.Errorf("%s: %+v", info, c.Info)
		}
	}
}

func TestParseCommitNamesTheBrokenLine(t *testing.T) {
	for line, reason := range map[string]string{
		`{"add":{"path":"a"`:                                   "unexpected end",
		`{"add":{"size":1}}`:                                   "add without path",
		`{"add":{"path":"a","size":"x"}}`:                      "no 64-bit integer",
		`{"remove":{}}`:                                        "remove without path",
		`{"txn":{"version":1}}`:                                "txn without appId",
		`{"txn":{"appId":"a","version":1.5}}`:                  "no 64-bit integer",
		`{"txn":{"appId":"a","version":92233720368547758080}}`: "no 64-bit integer",
		`{"protocol":{}}`:                                      "protocol without",
		`{"metaData":{"schemaString":"x"}}`:                    "without id",
		`{"domainMetadata":{}}`:                                "without domain",
		"\x00\x00":                                             "unexpected",
	} {
		_, err := delta.ParseCommit(3, strings.NewReader("{}\n"+line))
		if !errors.Is(err, delta.ErrCorrupt) || !strings.Contains(err.Error(), reason) || !strings.Contains(err.Error(), "version 3, line 2") {
			t.Errorf("%s: %v, want the line and %q", line, err, reason)
		}
	}
}

func TestParseCommitTakesVeryLongLines(t *testing.T) {
	long := strings.Repeat("x", 5<<20)
	c, err := delta.ParseCommit(0, strings.NewReader(`{"add":{"path":"`+long+`"}}`+"\n"+`{"txn":{"appId":"a","version":1}}`))
	check(t, err)
	if len(c.Adds[0].Path) != len(long) || len(c.Txns) != 1 || c.Size < 5<<20 {
		t.Errorf("path of %d bytes, %d txns, size %d", len(c.Adds[0].Path), len(c.Txns), c.Size)
	}
}

func FuzzParseCommit(f *testing.F) {
	f.Add(`{"commitInfo":{"timestamp":1}}` + "\n" + `{"add":{"path":"a%20b","partitionValues":{"p":null},"size":1}}`)
	f.Add(`{"txn":{"appId":"a","version":1,"lastUpdated":null}}`)
	f.Add(metadata(`{"type":"struct","fields":[]}`, ""))
	f.Add(protocol(1, 2))
	f.Fuzz(func(t *testing.T, s string) {
		c, err := delta.ParseCommit(0, strings.NewReader(s))
		if err != nil {
			if !errors.Is(err, delta.ErrCorrupt) {
				t.Errorf("%v is not ErrCorrupt", err)
			}
			return
		}
		c.Touches("a")
		c.Replaces()
		for i := range c.Adds {
			c.Adds[i].NumRecords()
		}
		if c.Metadata != nil {
			_, _ = delta.SchemaFromJSON(c.Metadata.SchemaString)
		}
	})
}

func TestOpenWithoutTable(t *testing.T) {
	s := memory.New()
	check(t, s.Put(ctx, "_delta_log/_staged_commits/00000000000000000000.3a0d65cd-4056-49b8-937b-95f9e3ee90e5.json", []byte("{}")))
	_, err := delta.Open(ctx, s, newClock().options())
	if !errors.Is(err, delta.ErrNotTable) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want ErrNotTable", err)
	}
	if _, err := delta.OpenSnapshot(ctx, s, -1); !errors.Is(err, delta.ErrNotTable) {
		t.Errorf("%v, want ErrNotTable", err)
	}
}

func TestOpenUsesLastCheckpointAsAHintOnly(t *testing.T) {
	for _, c := range []struct {
		name  string
		hint  string
		calls []string
	}{
		{"as written", "", []string{"get _last_checkpoint", "list 00000000000000000004"}},
		{"missing", "-", []string{"get _last_checkpoint", "list ."}},
		{"torn", `{"version":`, []string{"get _last_checkpoint", "list ."}},
		{"no version", `{}`, []string{"get _last_checkpoint", "list ."}},
		{"stale, its checkpoint was cleaned", `{"version":2}`, []string{"get _last_checkpoint", "list 00000000000000000002"}},
		{"beyond the checkpoint", `{"version":6}`, []string{"get _last_checkpoint", "list 00000000000000000006", "list ."}},
		{"beyond the log", `{"version":99}`, []string{"get _last_checkpoint", "list 00000000000000000099", "list ."}},
		{"negative", `{"version":-3}`, []string{"get _last_checkpoint", "list ."}},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := fixture(t, "checkpointed")
			switch c.hint {
			case "":
			case "-":
				drop(t, store, logFile("_last_checkpoint"))
			default:
				check(t, store.Put(ctx, logFile("_last_checkpoint"), []byte(c.hint)))
			}
			s := &spy{LogStore: store}
			table := open(t, s, newClock())
			if txn, _ := table.Txn("conn-0"); table.Version() != 7 || txn.Version != 9007199254740997 {
				t.Errorf("version %d, %+v", table.Version(), txn)
			}
			if got := s.calls[:len(c.calls)]; !slices.Equal(got, c.calls) {
				t.Errorf("calls %v, want %v", s.calls, c.calls)
			}
			if rest := s.calls[len(c.calls):]; len(rest) != 4 || slices.ContainsFunc(rest, func(s string) bool { return strings.HasPrefix(s, "list") }) {
				t.Errorf("then %v, want the log checkpoint and versions 5 to 7", rest)
			}
		})
	}
}

// Databricks' pipelines begin a table without a schema.
func TestOpenAsksForTheNewestSchemaAlone(t *testing.T) {
	s := memory.New()
	putLog(t, s, 0, `{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}`,
		`{"metaData":{"id":"x","format":{"provider":"parquet","options":{}},"partitionColumns":[],"configuration":{}}}`)
	if _, err := delta.OpenSnapshot(ctx, s, -1); !errors.Is(err, delta.ErrCorrupt) || !strings.Contains(err.Error(), "version 0: metaData without schemaString") {
		t.Errorf("%v, want that version 0 has no schema", err)
	}
	putLog(t, s, 1, metadata(`{"type":"struct","fields":[{"name":"a","type":"long","nullable":true,"metadata":{}}]}`, ""))
	if got := open(t, s, newClock()).Schema().NumFields(); got != 1 {
		t.Errorf("%d columns, want 1", got)
	}
}

func TestOpenNamesTheMissingVersion(t *testing.T) {
	for _, c := range []struct {
		name, fixture string
		gone          []string
		want          string
	}{
		{"gap in the commits", "commits_only", []string{"00000000000000000003.json"}, "version 3 is missing"},
		{"no beginning", "commits_only", []string{"00000000000000000000.json"}, "version 0 is missing"},
		{"gap after the checkpoint", "checkpointed", []string{"00000000000000000006.json"}, "version 6 is missing"},
		{"a part of the checkpoint is missing", "multipart", []string{"00000000000000000004.checkpoint.0000000001.0000000002.parquet"}, "version 3 is missing"},
		{"no checkpoint", "checkpointed", []string{"00000000000000000004.checkpoint.parquet"}, "version 3 is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := fixture(t, c.fixture)
			for _, n := range c.gone {
				drop(t, s, logFile(n))
			}
			_, err := delta.Open(ctx, s, newClock().options())
			if !errors.Is(err, delta.ErrCorrupt) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestOpenWithoutTheCheckpointsOwnCommit(t *testing.T) {
	s := fixture(t, "checkpointed")
	drop(t, s, logFile("00000000000000000004.json"))
	if table := open(t, s, newClock()); table.Version() != 7 {
		t.Errorf("version %d", table.Version())
	}
	drop(t, s, logFile("00000000000000000005.json"), logFile("00000000000000000006.json"), logFile("00000000000000000007.json"))
	if table := open(t, s, newClock()); table.Version() != 4 {
		t.Errorf("version %d", table.Version())
	}
}

func TestBrokenLogCheckpointIsPassedOverWhereCommitsReachBack(t *testing.T) {
	const name = "00000000000000000004.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.parquet"
	s := fixture(t, "commits_only")
	check(t, s.Put(ctx, logFile(name), []byte("unread")))
	if table := open(t, s, newClock()); table.Version() != 7 {
		t.Errorf("version %d: the commits are all there", table.Version())
	}
	drop(t, s, logFile("00000000000000000000.json"))
	if _, err := delta.Open(ctx, s, newClock().options()); !errors.Is(err, delta.ErrCorrupt) || !strings.Contains(err.Error(), name) {
		t.Errorf("%v, want %s to be named", err, name)
	}
}

func TestBrokenLogCheckpointIsCorrupt(t *testing.T) {
	const name = "_delta_log/00000000000000000004.checkpoint.parquet"
	whole := read(t, fixture(t, "checkpointed"), name)
	for _, limit := range []int64{0, 1 << 30} {
		t.Cleanup(delta.SetWholeCheckpoint(limit))
		for _, data := range [][]byte{{}, []byte("PAR1"), whole[:len(whole)/2], append(make([]byte, 5000), whole[5000:]...)} {
			s := fixture(t, "checkpointed")
			check(t, s.Put(ctx, name, data))
			if _, err := delta.Open(ctx, s, newClock().options()); len(data) < 5000 && !errors.Is(err, delta.ErrCorrupt) {
				t.Errorf("%d bytes: %v, want ErrCorrupt", len(data), err)
			}
			sn, err := delta.OpenSnapshot(ctx, s, -1)
			if err == nil {
				_, err = sn.Totals(ctx)
			}
			if !errors.Is(err, delta.ErrCorrupt) {
				t.Errorf("%d bytes: %v, want ErrCorrupt", len(data), err)
			}
		}
	}
}

func TestStoreFailureWhileReadingIsNotCorrupt(t *testing.T) {
	down := errors.New("store is down")
	for _, limit := range []int64{0, 1 << 30} {
		t.Cleanup(delta.SetWholeCheckpoint(limit))
		store := fixture(t, "checkpointed")
		count := &spy{LogStore: store}
		open(t, count, newClock())
		for i := range len(count.calls) - 1 { // but for the listing, each call is a Get
			n := 0
			s := &spy{LogStore: store, get: func(string) error {
				if n++; n == i+1 {
					return down
				}
				return nil
			}}
			if _, err := delta.Open(ctx, s, newClock().options()); !errors.Is(err, down) || errors.Is(err, delta.ErrCorrupt) {
				t.Errorf("call %d: %v, want the store's error", i, err)
			}
		}
	}
}

// A cleanup takes listed files away before they are read; one more listing finds the newer log checkpoint.
func TestOpenRacesWithCleanup(t *testing.T) {
	store := fixture(t, "commits_only")
	s := &spy{LogStore: store, get: func(name string) error {
		if name == logFile("00000000000000000000.json") {
			for v := range int64(4) {
				drop(t, store, delta.CommitName(v))
			}
			data := read(t, fixture(t, "checkpointed"), "_delta_log/00000000000000000004.checkpoint.parquet")
			check(t, store.Put(ctx, "_delta_log/00000000000000000004.checkpoint.parquet", data))
		}
		return nil
	}}
	if table := open(t, s, newClock()); table.Version() != 7 {
		t.Errorf("version %d", table.Version())
	}
}

func TestOpenSnapshotOfVersionsThatAreNotThere(t *testing.T) {
	s := fixture(t, "checkpointed")
	if _, err := delta.OpenSnapshot(ctx, s, 8); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "newest version is 7") {
		t.Errorf("%v, want fs.ErrNotExist", err)
	}
	if _, err := delta.OpenSnapshot(ctx, s, 3); err == nil || !strings.Contains(err.Error(), "version 3") {
		t.Errorf("%v, want an error about version 3", err)
	}
	sn, err := delta.OpenSnapshot(ctx, s, 5)
	check(t, err)
	if base, ok := sn.LogCheckpoint(); sn.Version() != 5 || base != 4 || !ok {
		t.Errorf("version %d on %d %v", sn.Version(), base, ok)
	}
}

func TestOpenRefusesCatalogManagedTables(t *testing.T) {
	s := memory.New()
	putLog(t, s, 0, `{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["catalogManaged"],"writerFeatures":["catalogManaged","inCommitTimestamp"]}}`, metadata(ddl(t, "a INT"), ""))
	_, err := delta.Open(ctx, s, newClock().options())
	var e *delta.UnsupportedError
	if !errors.As(err, &e) || !slices.Equal(e.Features, []string{"catalogManaged"}) {
		t.Errorf("%v, want catalogManaged", err)
	}
}

func TestOpenRefusesBrokenTables(t *testing.T) {
	for name, actions := range map[string][]string{
		"no protocol":              {metadata(ddl(t, "a INT"), "")},
		"no metaData":              {protocol(1, 2)},
		"broken schema":            {protocol(1, 2), metadata(`{"type":"struct"`, "")},
		"unknown partition column": {protocol(1, 2), metadata(ddl(t, "a INT"), "", "b")},
	} {
		s := memory.New()
		putLog(t, s, 0, actions...)
		if _, err := delta.Open(ctx, s, newClock().options()); !errors.Is(err, delta.ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
	}
	s := memory.New()
	putLog(t, s, 0, protocol(1, 2), strings.Replace(metadata(ddl(t, "a INT"), ""), "parquet", "orc", 1))
	if err := open(t, s, newClock()).CheckAppend(); !errors.Is(err, delta.ErrUnsupported) || !strings.Contains(err.Error(), "orc") {
		t.Errorf("%v, want the format refused for appending", err)
	}
}

func TestNextFollowsTheLog(t *testing.T) {
	store := fixture(t, "commits_only")
	for v := range int64(7) {
		drop(t, store, delta.CommitName(v+1))
	}
	s, clock := &spy{LogStore: store}, newClock()
	table := open(t, s, clock)
	for i := range 13 { // idle polls over three minutes
		s.calls = nil
		if _, err := table.Next(ctx); !errors.Is(err, io.EOF) || table.Version() != 0 {
			t.Fatalf("%v, want io.EOF", err)
		}
		want := []string{"get 00000000000000000001.json"}
		if i > 0 && i%4 == 0 {
			want = append(want, "list .") // from the known version on
		}
		if !slices.Equal(s.calls, want) {
			t.Errorf("after %d s an idle poll calls %v, want %v", i*15, s.calls, want)
		}
		clock.add(15 * time.Second)
	}
	all := fixture(t, "commits_only")
	for v := int64(1); v <= 7; v++ {
		putLog(t, store, v, string(read(t, all, delta.CommitName(v))))
		s.calls = nil
		c, err := table.Next(ctx)
		check(t, err)
		if c.Version != v || table.Version() != v || len(s.calls) != 1 {
			t.Errorf("version %d and %d, want %d with one call of %v", c.Version, table.Version(), v, s.calls)
		}
		if v == 1 && (!c.Touches("conn-0") || c.Touches("conn-1") || c.Added.Files != 1 || c.ChangesTable() || c.Replaces()) {
			t.Errorf("version 1: %+v", c)
		}
	}
	if txn, _ := table.Txn("conn-1"); txn.Version != 4 {
		t.Errorf("%+v, want 4: a version may go down", txn)
	}
	if _, err := table.Next(ctx); !errors.Is(err, io.EOF) {
		t.Errorf("%v, want io.EOF", err)
	}
}

func TestNextTellsCleanedFromNotYet(t *testing.T) {
	store := fixture(t, "checkpointed")
	moved := fixture(t, "checkpointed")
	drop(t, store, logFile("00000000000000000005.json"), logFile("00000000000000000006.json"), logFile("00000000000000000007.json"))
	clock := newClock()
	table := open(t, store, clock)
	clock.add(time.Minute)
	check(t, store.Put(ctx, logFile("00000000000000000005.crc"), []byte("{}")))
	if _, err := table.Next(ctx); !errors.Is(err, io.EOF) {
		t.Errorf("a checksum file alone: %v, want io.EOF", err)
	}
	putLog(t, store, 6, string(read(t, moved, delta.CommitName(6))))
	if _, err := table.Next(ctx); !errors.Is(err, io.EOF) {
		t.Errorf("within a minute: %v, want io.EOF without a listing", err)
	}
	clock.add(-time.Hour) // somebody has set it: what is known is of no known age
	_, err := table.Next(ctx)
	if !errors.Is(err, delta.ErrMissingCommit) || table.Version() != 4 {
		t.Errorf("%v, want ErrMissingCommit", err)
	}
	if err := table.Reload(ctx); !errors.Is(err, delta.ErrCorrupt) || table.Version() != 4 {
		t.Errorf("%v at %d, want ErrCorrupt and no move", err, table.Version())
	}
	check(t, store.Put(ctx, logFile("00000000000000000006.checkpoint.parquet"), read(t, moved, logFile("00000000000000000004.checkpoint.parquet"))))
	check(t, table.Reload(ctx))
	if table.Version() != 6 {
		t.Errorf("version %d, want 6", table.Version())
	}
}

func TestNextSeesWhatAppearsBetweenReadAndListing(t *testing.T) {
	store := fixture(t, "commits_only")
	last := string(read(t, store, delta.CommitName(7)))
	drop(t, store, delta.CommitName(7))
	s, clock := &spy{LogStore: store}, newClock()
	table := open(t, s, clock)
	clock.add(time.Minute)
	s.get = func(name string) error {
		if name == delta.CommitName(7) && s.calls[len(s.calls)-1] == "get 00000000000000000007.json" && !slices.Contains(s.calls, "list 00000000000000000006") {
			defer putLog(t, store, 7, last)
			return fmt.Errorf("reading: %w", fs.ErrNotExist)
		}
		return nil
	}
	c, err := table.Next(ctx)
	check(t, err)
	if c.Version != 7 {
		t.Errorf("version %d", c.Version)
	}
}

// TestVanishedLog has the whole log removed under whoever follows it: a minute later neither looking nor committing takes that for a
// log without news.
func TestVanishedLog(t *testing.T) {
	for name, look := range map[string]func(*delta.Table) error{
		"an idle look": func(table *delta.Table) error { _, err := table.Next(ctx); return err },
		"a commit": func(table *delta.Table) error {
			outcome, err := table.Commit(ctx, &delta.Transaction{Operation: "WRITE"})
			if outcome != delta.Refused {
				t.Errorf("the commit is %v", outcome)
			}
			return err
		},
		"a commit of who only commits": func(table *delta.Table) error {
			_, err := table.Commit(ctx, &delta.Transaction{Operation: "WRITE"})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			clock := newClock()
			store := created(t, clock, "a INT")
			table := open(t, store, clock)
			if name == "a commit of who only commits" { // which shows nothing of what was there before
				for range 5 {
					clock.add(20 * time.Second)
					if outcome, err := table.Commit(ctx, &delta.Transaction{Operation: "WRITE"}); outcome != delta.Committed {
						t.Fatalf("%v, %v", outcome, err)
					}
				}
			}
			clock.add(30 * time.Second)
			var left []string
			for info, err := range store.List(ctx, "", "") {
				check(t, err)
				left = append(left, info.Name)
			}
			drop(t, store, left...)
			clock.add(time.Minute)
			if err := look(table); !errors.Is(err, delta.ErrVanished) {
				t.Errorf("%v, want ErrVanished", err)
			}
			for info, err := range store.List(ctx, "", "") {
				t.Errorf("%s was made anew (%v)", info.Name, err)
			}
		})
	}
}

func TestNextStaysOnErrors(t *testing.T) {
	store := created(t, newClock(), "a INT")
	table := open(t, store, newClock())
	putLog(t, store, 1, metadata(ddl(t, "a INT"), "", "gone"), `{"txn":{"appId":"a","version":1}}`)
	for range 2 {
		if _, err := table.Next(ctx); !errors.Is(err, delta.ErrCorrupt) || table.Version() != 0 {
			t.Errorf("%v at %d, want the commit refused at 0", err, table.Version())
		}
	}
	if _, ok := table.Txn("a"); ok {
		t.Error("half of a refused commit was applied")
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := table.Next(cancelled); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}

func TestFilesReconcileDeletionVectors(t *testing.T) {
	s := memory.New()
	file := func(kind, path, dv string) string {
		d := ""
		if dv != "" {
			d = `,"deletionVector":{"storageType":"u","pathOrInlineDv":"` + dv + `","offset":1,"sizeInBytes":2,"cardinality":3}`
		}
		return fmt.Sprintf(`{"%s":{"path":"%s","partitionValues":{},"size":10,"dataChange":true,"stats":"{\"numRecords\":10}"%s}}`, kind, path, d)
	}
	putLog(t, s, 0, `{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],"writerFeatures":["deletionVectors"]}}`,
		metadata(ddl(t, "a INT"), ""), file("add", "a", ""), file("add", "b%20c", ""), file("add", "d", ""))
	putLog(t, s, 1, file("remove", "a", ""), file("add", "a", "x"), file("remove", "b c", ""))
	putLog(t, s, 2, file("remove", "a", "x"), file("add", "a", "y"), file("add", "e", ""))
	putLog(t, s, 3, strings.Replace(file("add", "e", ""), `\"numRecords\":10`, ``, 1), file("remove", "d", ""))
	sn, err := delta.OpenSnapshot(ctx, s, -1)
	check(t, err)
	got := map[string]string{}
	for a, err := range sn.Files(ctx) {
		check(t, err)
		got[a.Path] = ""
		if a.DeletionVector != nil {
			got[a.Path] = a.DeletionVector.PathOrInlineDv
		}
	}
	if want := map[string]string{"a": "y", "e": ""}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("files %v, want %v", got, want)
	}
	totals, err := sn.Totals(ctx)
	check(t, err)
	if want := (delta.Totals{Files: 2, Rows: 7, Bytes: 20, FilesWithoutRows: 1}); totals != want {
		t.Errorf("totals %+v, want %+v", totals, want)
	}
	for _, err := range sn.Files(ctx) {
		check(t, err)
		break // an early end is no trouble
	}
}

func TestDomainMetadataIsKeptAndRemoved(t *testing.T) {
	s := created(t, newClock(), "a INT")
	putLog(t, s, 1, `{"domainMetadata":{"domain":"a","configuration":"1","removed":false}}`, `{"domainMetadata":{"domain":"b","configuration":"2","removed":false}}`)
	putLog(t, s, 2, `{"domainMetadata":{"domain":"a","configuration":"1","removed":true}}`)
	var got []string
	for d := range open(t, s, newClock()).Domains() {
		got = append(got, d.Domain+d.Configuration)
	}
	if !slices.Equal(got, []string{"b2"}) {
		t.Errorf("domains %v", got)
	}
}

func TestConflictRules(t *testing.T) {
	for _, c := range []struct {
		name              string
		actions           []string
		replaces, changes bool
	}{
		{"append", []string{`{"commitInfo":{"operation":"WRITE"}}`, `{"add":{"path":"x"}}`}, false, false},
		{"no commitInfo", []string{`{"remove":{"path":"x"}}`}, false, false},
		{"OPTIMIZE", []string{`{"commitInfo":{"operation":"OPTIMIZE"}}`, `{"remove":{"path":"x"}}`}, false, false},
		{"RESTORE", []string{`{"commitInfo":{"operation":"RESTORE"}}`}, true, false},
		{"REPLACE TABLE", []string{`{"commitInfo":{"operation":"CREATE OR REPLACE TABLE AS SELECT"}}`, strings.Replace(metadata(ddl(t, "a INT"), ""), "table-id", "ID", 1)}, true, true},
		{"replace without a name", []string{metadata(ddl(t, "a INT"), ""), `{"remove":{"path":"x","size":3}}`}, true, true},
		{"replace without a name, of a file without a size", []string{metadata(ddl(t, "a INT"), ""), `{"remove":{"path":"x"}}`}, true, true},
		{"another id alone", []string{metadata(ddl(t, "a INT"), ""), `{"add":{"path":"x"}}`}, false, true},
		{"same id", []string{`{"commitInfo":{"operation":"REPLACE COLUMNS"}}`, strings.Replace(metadata(ddl(t, "a INT, b INT"), ""), "table-id", "ID", 1)}, false, true},
		{"upgrade", []string{protocol(1, 3)}, false, true},
	} {
		s := created(t, newClock(), "a INT")
		table := open(t, s, newClock())
		for i := range c.actions {
			c.actions[i] = strings.Replace(c.actions[i], `"ID"`, `"`+table.Metadata().ID+`"`, 1)
		}
		putLog(t, s, 1, c.actions...)
		commit, err := table.Next(ctx)
		check(t, err)
		if commit.Replaces() != c.replaces || commit.ChangesTable() != c.changes {
			t.Errorf("%s: replaces %v, changes %v", c.name, commit.Replaces(), commit.ChangesTable())
		}
	}
}

func TestTxnsAreSorted(t *testing.T) {
	s := created(t, newClock(), "a INT")
	putLog(t, s, 1, `{"txn":{"appId":"b","version":1}}`, `{"txn":{"appId":"a","version":2,"lastUpdated":5}}`)
	var got []string
	for txn := range open(t, s, newClock()).Txns() {
		got = append(got, string(must(json.Marshal(txn))))
	}
	if want := []string{`{"appId":"a","version":2,"lastUpdated":5}`, `{"appId":"b","version":1}`}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
