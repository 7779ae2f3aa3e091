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

var errLost = errors.New("the answer was lost")

func appendOf(appID string, version int64, files ...string) *delta.Transaction {
	tx := &delta.Transaction{
		Operation: "STREAMING UPDATE", Parameters: map[string]string{"mode": "Append"}, Txns: []delta.Txn{{AppID: appID, Version: version}},
		Info: map[string]json.RawMessage{"spans": json.RawMessage(`{"v": 1, "last":9007199254740993}`)},
	}
	for _, f := range files {
		tx.Adds = append(tx.Adds, add(f, 3))
	}
	return tx
}

func commit(t *testing.T, table *delta.Table, tx *delta.Transaction, want delta.Outcome) {
	t.Helper()
	got, err := table.Commit(ctx, tx)
	if got != want || (err == nil) != (want == delta.Committed || want == delta.Conflict) {
		t.Fatalf("%s %v, want %s", got, err, want)
	}
}

// TestTxnsThatLast: what is written so is in each log checkpoint, whenever it is made, and expires for nobody (rule A4b).
func TestTxnsThatLast(t *testing.T) {
	c := newClock()
	s := created(t, c, "a INT")
	table, err := delta.Open(t.Context(), s, delta.Options{Now: c.now, Engine: "test", Lasting: func(appID string) bool { return appID == "for good" }})
	if err != nil {
		t.Fatal(err)
	}
	putLog(t, s, 1, `{"metaData":{"id":"t","format":{"provider":"parquet","options":{}},"schemaString":"{\"type\":\"struct\",\"fields\":[{\"name\":\"a\",\"type\":\"integer\",\"nullable\":true,\"metadata\":{}}]}","partitionColumns":[],"configuration":{"delta.setTransactionRetentionDuration":"interval 1 day"}}}`)
	tx := appendOf("for good", 7)
	tx.Txns = append(tx.Txns, delta.Txn{AppID: "app", Version: 8})
	commit(t, table, tx, delta.Conflict)
	if _, err := table.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	commit(t, table, tx, delta.Committed)
	if txn, ok := table.Txn("for good"); !ok || !txn.Lasts() || txn.Version != 7 {
		t.Errorf("the txn is %+v", txn)
	}
	if txn, ok := table.Txn("app"); !ok || txn.Lasts() {
		t.Errorf("the other txn is %+v", txn)
	}
	c.add(1000 * 24 * time.Hour)
	if _, err := delta.WriteLogCheckpoint(t.Context(), s, table.Version(), delta.CheckpointOptions{Now: c.now}); err != nil {
		t.Fatal(err)
	}
	after := open(t, s, c)
	if txn, ok := after.Txn("for good"); !ok || !txn.Lasts() || txn.Version != 7 {
		t.Errorf("after a log checkpoint the txn is %+v", txn)
	}
	if txn, ok := after.Txn("app"); ok {
		t.Errorf("after a log checkpoint the other txn is still there: %+v", txn)
	}
}

func TestCommitWritesWhatTheProtocolAsks(t *testing.T) {
	c := newClock()
	s := created(t, c, "a INT, p STRING", "p")
	table := open(t, s, c)
	c.add(time.Second)
	tx := appendOf("app", 9007199254740993)
	a := add("p=a%2520b%253C/x.parquet", 3)
	a.PartitionValues = map[string]*string{"p": new("a b<")}
	a.Tags = map[string]string{"kafkadelta.span": `{"first":1}`}
	b := add("p=__HIVE_DEFAULT_PARTITION__/y.parquet", 4)
	b.PartitionValues = map[string]*string{"p": nil}
	tx.Adds = []delta.Add{a, b}
	commit(t, table, tx, delta.Committed)
	if table.Version() != 1 {
		t.Errorf("version %d", table.Version())
	}
	if txn, _ := table.Txn("app"); txn.Version != 9007199254740993 || *txn.LastUpdated != 1_700_000_001_000 {
		t.Errorf("txn %+v", txn)
	}
	id := lineOf(t, s, 1, 0)["txnId"].(string)
	got := strings.Replace(string(read(t, s, delta.CommitName(1))), id, "ID", 1)
	want := `{"commitInfo":{"engineInfo":"kafkadelta/test","isBlindAppend":true,"operation":"STREAMING UPDATE","operationMetrics":{"numAddedFiles":"2","numOutputBytes":"200","numOutputRows":"7","numRemovedFiles":"0"},"operationParameters":{"mode":"Append"},"spans":{"v":1,"last":9007199254740993},"timestamp":1700000001000,"txnId":"ID"}}
{"txn":{"appId":"app","version":9007199254740993,"lastUpdated":1700000001000}}
{"add":{"path":"p=a%2520b%253C/x.parquet","partitionValues":{"p":"a b<"},"size":100,"modificationTime":1,"dataChange":true,"stats":"{\"numRecords\":3}","tags":{"kafkadelta.span":"{\"first\":1}"}}}
{"add":{"path":"p=__HIVE_DEFAULT_PARTITION__/y.parquet","partitionValues":{"p":null},"size":100,"modificationTime":1,"dataChange":true,"stats":"{\"numRecords\":4}"}}
`
	if got != want {
		t.Errorf("wrote\n%s\nwant\n%s", got, want)
	}
	if tx.Txns[0].LastUpdated != nil {
		t.Error("the transaction was changed")
	}
	other := open(t, s, c)
	if txn, _ := other.Txn("app"); txn.Version != 9007199254740993 || other.Version() != 1 {
		t.Errorf("read back %+v at %d", txn, other.Version())
	}
}

func lineOf(t *testing.T, s delta.LogStore, version int64, line int) map[string]any {
	_, actions := lines(t, s, version)
	return actions[line]
}

func TestConflictThenNextThenCommitted(t *testing.T) {
	c := newClock()
	s := &spy{LogStore: created(t, c, "a INT")}
	mine, theirs := open(t, s, c), open(t, s, c)
	commit(t, theirs, appendOf("theirs", 1, "t"), delta.Committed)
	tx := appendOf("mine", 1, "m")
	commit(t, mine, tx, delta.Conflict)
	if _, pending := tx.Pending(); pending || mine.Version() != 0 {
		t.Errorf("pending %v at version %d", pending, mine.Version())
	}
	s.calls = nil
	commit(t, mine, tx, delta.Conflict) // nobody called Next: the same again, without a put
	winner, err := mine.Next(ctx)
	check(t, err)
	if winner.Version != 1 || !winner.Touches("theirs") || winner.Touches("mine") || len(s.calls) != 0 {
		t.Errorf("winner %+v after the calls %v, want none", winner, s.calls)
	}
	commit(t, mine, tx, delta.Committed)
	if a, b := lineOf(t, s, 1, 0)["txnId"], lineOf(t, s, 2, 0)["txnId"]; a == b || mine.Version() != 2 {
		t.Errorf("ids %v %v at version %d", a, b, mine.Version())
	}
}

func TestLostAnswers(t *testing.T) {
	for _, c := range []struct {
		name string
		// lost is what happens to the first put, before its answer is lost
		lost func(t *testing.T, s *memory.Store, name string, data []byte)
		want delta.Outcome
	}{
		{"it had landed", func(t *testing.T, s *memory.Store, name string, data []byte) {
			check(t, s.PutIfAbsent(ctx, name, data))
		}, delta.Committed},
		{"it never arrived", func(*testing.T, *memory.Store, string, []byte) {}, delta.Committed},
		{"another writer had the version", func(t *testing.T, s *memory.Store, _ string, _ []byte) {
			putLog(t, s, 1, `{"commitInfo":{"txnId":"foreign"}}`)
		}, delta.Conflict},
		{"a writer without commitInfo had the version", func(t *testing.T, s *memory.Store, _ string, _ []byte) {
			putLog(t, s, 1, `{"txn":{"appId":"x","version":1}}`)
		}, delta.Conflict},
	} {
		t.Run(c.name, func(t *testing.T) {
			clk := newClock()
			inner := created(t, clk, "a INT")
			s := &spy{LogStore: inner}
			table := open(t, s, clk)
			tx := appendOf("app", 5, "f")
			puts := 0
			s.putIfAbsent = func(name string, data []byte) (bool, error) {
				if puts++; puts == 1 {
					c.lost(t, inner, name, data)
					return true, errLost
				}
				return false, nil
			}
			commit(t, table, tx, delta.Unknown)
			if v, pending := tx.Pending(); !pending || v != 1 || table.Version() != 0 {
				t.Errorf("pending %d %v at %d", v, pending, table.Version())
			}
			commit(t, table, tx, c.want)
			if _, pending := tx.Pending(); pending {
				t.Error("still pending")
			}
			if c.want == delta.Committed {
				if txn, _ := table.Txn("app"); txn.Version != 5 || table.Version() != 1 {
					t.Errorf("%+v at %d", txn, table.Version())
				}
			}
			if _, err := table.Next(ctx); (c.want == delta.Conflict) != (err == nil) {
				t.Errorf("Next: %v", err)
			}
		})
	}
}

// The first put lands only after the second was sent: all ids are remembered.
func TestLatePutIsRecognised(t *testing.T) {
	c := newClock()
	inner := created(t, c, "a INT")
	s := &spy{LogStore: inner}
	table := open(t, s, c)
	var late []byte
	puts := 0
	s.putIfAbsent = func(name string, data []byte) (bool, error) {
		switch puts++; puts {
		case 1:
			late = data
			return true, errLost
		case 2:
			check(t, inner.PutIfAbsent(ctx, name, late))
		}
		return false, nil
	}
	tx := appendOf("app", 1, "f")
	commit(t, table, tx, delta.Unknown)
	c.add(time.Minute)
	commit(t, table, tx, delta.Committed)
	if txn, _ := table.Txn("app"); *txn.LastUpdated != 1_700_000_000_000 || table.Version() != 1 {
		t.Errorf("%+v at %d, want what landed", txn, table.Version())
	}
}

func TestUnknownUntilTheWinnerCanBeRead(t *testing.T) {
	c := newClock()
	inner := created(t, c, "a INT")
	s := &spy{LogStore: inner}
	table := open(t, s, c)
	putLog(t, inner, 1, `{"commitInfo":{"txnId":"foreign"}}`)
	s.get = func(string) error { return errLost }
	tx := appendOf("app", 1, "f")
	outcome, err := table.Commit(ctx, tx)
	if v, pending := tx.Pending(); outcome != delta.Unknown || !errors.Is(err, errLost) || errors.Is(err, fs.ErrExist) || !pending || v != 1 {
		t.Errorf("%s %v, pending %d %v", outcome, err, v, pending)
	}
	s.get = nil
	commit(t, table, tx, delta.Conflict)
}

func TestPendingTransactionGoesNowhereElse(t *testing.T) {
	c := newClock()
	inner := created(t, c, "a INT")
	s := &spy{LogStore: inner}
	table := open(t, s, c)
	s.putIfAbsent = func(string, []byte) (bool, error) { return true, errLost }
	tx := appendOf("app", 1, "f")
	commit(t, table, tx, delta.Unknown)
	putLog(t, inner, 1, `{"commitInfo":{}}`)
	_, err := table.Next(ctx)
	check(t, err)
	s.calls = nil
	commit(t, table, tx, delta.Refused)
	if len(s.calls) != 0 {
		t.Errorf("calls %v", s.calls)
	}
}

// Two transactions of one table: the second one loses against the first one's late put, and the first one still knows it.
func TestWinnerIsAnotherTransactionOfThisTable(t *testing.T) {
	c := newClock()
	inner := created(t, c, "a INT")
	s := &spy{LogStore: inner}
	table := open(t, s, c)
	first := true
	s.putIfAbsent = func(name string, data []byte) (bool, error) {
		if first {
			first = false
			check(t, inner.PutIfAbsent(ctx, name, data))
			return true, errLost
		}
		return false, nil
	}
	a, b := appendOf("a", 1, "a"), appendOf("b", 1, "b")
	commit(t, table, a, delta.Unknown)
	commit(t, table, b, delta.Conflict)
	commit(t, table, a, delta.Committed)
	commit(t, table, b, delta.Committed)
	if table.Version() != 2 {
		t.Errorf("version %d", table.Version())
	}
}

func TestRefusedTransactions(t *testing.T) {
	c := newClock()
	inner := created(t, c, "a INT, p STRING", "p")
	s := &spy{LogStore: inner}
	table := open(t, s, c)
	part := func(a delta.Add, keys ...string) delta.Add {
		for _, k := range keys {
			a.PartitionValues[k] = new("x")
		}
		return a
	}
	s.calls = nil
	for reason, change := range map[string]func(*delta.Transaction){
		"no operation":      func(tx *delta.Transaction) { tx.Operation = "" },
		`"app" twice`:       func(tx *delta.Transaction) { tx.Txns = append(tx.Txns, delta.Txn{AppID: "app", Version: 9}) },
		`app id "" twice`:   func(tx *delta.Transaction) { tx.Txns[0].AppID = "" },
		`path "f" twice`:    func(tx *delta.Transaction) { tx.Adds = []delta.Add{part(add("f", 1), "p"), part(add("f", 1), "p")} },
		`path "" twice`:     func(tx *delta.Transaction) { tx.Adds = []delta.Add{part(add("", 1), "p")} },
		"no append":         func(tx *delta.Transaction) { tx.Adds = []delta.Add{{Path: "f"}} },
		"no value for the":  func(tx *delta.Transaction) { tx.Adds = []delta.Add{add("f", 1)} },
		"partition columns": func(tx *delta.Transaction) { tx.Adds = []delta.Add{part(add("f", 1), "p", "q")} },
		"field txnId":       func(tx *delta.Transaction) { tx.Info = map[string]json.RawMessage{"txnId": json.RawMessage(`1`)} },
		"invalid character": func(tx *delta.Transaction) { tx.Info = map[string]json.RawMessage{"x": json.RawMessage(`{`), "y": nil} },
	} {
		tx := appendOf("app", 1)
		change(tx)
		outcome, err := table.Commit(ctx, tx)
		if outcome != delta.Refused || err == nil || !strings.Contains(err.Error(), reason) && reason != "invalid character" {
			t.Errorf("%s %v, want refused: %s", outcome, err, reason)
		}
	}
	if len(s.calls) != 0 {
		t.Errorf("calls %v", s.calls)
	}
}

func TestCommitNeverWritesAgainstTheProtocol(t *testing.T) {
	c := newClock()
	s := created(t, c, "a INT")
	table := open(t, s, c)
	putLog(t, s, 1, `{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["fromMars","domainMetadata"]}}`)
	tx := appendOf("app", 1)
	commit(t, table, tx, delta.Conflict)
	_, err := table.Next(ctx)
	check(t, err)
	outcome, err := table.Commit(ctx, tx)
	if outcome != delta.Refused || !errors.Is(err, delta.ErrUnsupported) {
		t.Errorf("%s %v", outcome, err)
	}
	if _, err := table.Next(ctx); !errors.Is(err, io.EOF) {
		t.Errorf("%v, want nothing written", err)
	}
}

func TestInCommitTimestamps(t *testing.T) {
	c := newClock()
	s := memory.New()
	check(t, delta.Create(ctx, s, delta.CreateOptions{
		Schema: must(delta.ParseDDL("a INT")), Properties: map[string]string{"delta.enableInCommitTimestamps": "true"}, Now: c.now,
	}))
	table := open(t, s, c)
	check(t, table.CheckAppend())
	at := func(version int64) string { return fmt.Sprint(lineOf(t, s, version, 0)["inCommitTimestamp"]) }
	commit(t, table, appendOf("app", 1), delta.Committed) // the clock stands still
	c.add(-time.Hour)
	commit(t, table, appendOf("app", 2), delta.Committed) // the clock went back
	table = open(t, s, c)
	commit(t, table, appendOf("app", 3), delta.Committed)
	c.add(2 * time.Hour)
	commit(t, table, appendOf("app", 4), delta.Committed)
	got := []string{at(0), at(1), at(2), at(3), at(4)}
	if want := []string{"1700000000000", "1700000000001", "1700000000002", "1700000000003", "1700003600000"}; !slices.Equal(got, want) {
		t.Errorf("in-commit timestamps %v, want %v", got, want)
	}
	if names, _ := lines(t, s, 1); names[0] != "commitInfo" {
		t.Errorf("first action %v", names)
	}
	putLog(t, s, 5, `{"txn":{"appId":"x","version":1}}`) // a writer that breaks the rule
	_, err := table.Next(ctx)
	check(t, err)
	if outcome, err := table.Commit(ctx, appendOf("app", 5)); outcome != delta.Refused || !errors.Is(err, delta.ErrCorrupt) {
		t.Errorf("%s %v, want refused as corrupt", outcome, err)
	}
}

func TestInCommitTimestampAfterALogCheckpoint(t *testing.T) {
	c := newClock()
	s := fixture(t, "checkpointed")
	for v := int64(5); v <= 7; v++ {
		drop(t, s, delta.CommitName(v))
	}
	table := open(t, s, c) // version 4 is in the log checkpoint, its commitInfo only in the JSON
	putLog(t, s, 5, `{"commitInfo":{"inCommitTimestamp":1800000000000}}`,
		`{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["inCommitTimestamp"]}}`,
		metadata(table.Metadata().SchemaString, `{"delta.enableInCommitTimestamps":"true"}`, "day"))
	_, err := table.Next(ctx)
	check(t, err)
	commit(t, table, appendOf("a", 1), delta.Committed)
	if got := fmt.Sprint(lineOf(t, s, 6, 0)["inCommitTimestamp"]); got != "1800000000001" {
		t.Errorf("in-commit timestamp %s", got)
	}
}

func TestCommitOfACancelledContextIsUnknown(t *testing.T) {
	c := newClock()
	table := open(t, created(t, c, "a INT"), c)
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if outcome, err := table.Commit(cancelled, appendOf("a", 1)); outcome != delta.Unknown || !errors.Is(err, context.Canceled) {
		t.Errorf("%s %v", outcome, err)
	}
}

func TestManyWritersCommitEachOnce(t *testing.T) {
	c := newClock()
	s := created(t, c, "a INT")
	const writers, each = 4, 10
	done := make(chan error)
	for w := range writers {
		go func() { done <- writer(s, fmt.Sprintf("app-%d", w), each) }()
	}
	for range writers {
		check(t, <-done)
	}
	table := open(t, s, c)
	if table.Version() != writers*each {
		t.Errorf("version %d, want %d", table.Version(), writers*each)
	}
	for w := range writers {
		if txn, _ := table.Txn(fmt.Sprintf("app-%d", w)); txn.Version != each-1 {
			t.Errorf("%+v", txn)
		}
	}
}

func writer(s delta.LogStore, app string, n int64) error {
	table, err := delta.Open(ctx, s, newClock().options())
	for i := int64(0); err == nil && i < n; i++ {
		tx := appendOf(app, i, fmt.Sprintf("%s-%d", app, i))
		for outcome := delta.Unknown; err == nil && outcome != delta.Committed; {
			if outcome, err = table.Commit(ctx, tx); outcome == delta.Conflict {
				_, err = table.Next(ctx)
			}
		}
	}
	return err
}
