package delta_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"kafkadelta/delta"
	"kafkadelta/storage"
	"kafkadelta/storage/memory"
)

// The contract's interface and the project's are the same.
var _ delta.LogStore = storage.Store(nil)

var ctx = context.Background()

// clock is a settable clock.
type clock struct{ at time.Time }

func newClock() *clock { return &clock{time.UnixMilli(1_700_000_000_000)} }

func (c *clock) now() time.Time         { return c.at }
func (c *clock) add(d time.Duration)    { c.at = c.at.Add(d) }
func (c *clock) options() delta.Options { return delta.Options{Now: c.now, Engine: "kafkadelta/test"} }
func logFile(name string) string        { return "_delta_log/" + name }

func quoted(s string) string { b, _ := json.Marshal(s); return string(b) }
func ddl(t testing.TB, s string) string {
	t.Helper()
	return must(delta.SchemaToJSON(must(delta.ParseDDL(s))))
}
func withoutSpace(s string) string { return strings.Join(strings.Fields(s), "") }
func protocol(reader, writer int) string {
	return fmt.Sprintf(`{"protocol":{"minReaderVersion":%d,"minWriterVersion":%d}}`, reader, writer)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// metadata is a metaData action as other writers put it.
func metadata(schemaJSON, configuration string, partitionBy ...string) string {
	by, _ := json.Marshal(append([]string{}, partitionBy...))
	if configuration == "" {
		configuration = "{}"
	}
	return fmt.Sprintf(`{"metaData":{"id":"table-id","format":{"provider":"parquet","options":{}},"schemaString":%s,"partitionColumns":%s,"configuration":%s}}`,
		quoted(schemaJSON), by, configuration)
}

// putLog puts one JSON commit.
func putLog(t testing.TB, s delta.LogStore, version int64, lines ...string) {
	t.Helper()
	check(t, s.PutIfAbsent(ctx, delta.CommitName(version), []byte(strings.Join(lines, "\n")+"\n")))
}

// created is a store with a table of the schema, made by Create.
func created(t testing.TB, c *clock, columns string, partitionBy ...string) *memory.Store {
	t.Helper()
	s := memory.New()
	check(t, delta.Create(ctx, s, delta.CreateOptions{Schema: must(delta.ParseDDL(columns)), PartitionBy: partitionBy, Now: c.now, Engine: "kafkadelta/test"}))
	return s
}

func open(t testing.TB, s delta.LogStore, c *clock) *delta.Table {
	t.Helper()
	table, err := delta.Open(ctx, s, c.options())
	check(t, err)
	return table
}

// fixtureRoot is where the tables of other engines are.
const fixtureRoot = "../test/fixtures/"

// fixture loads a table of test/fixtures into memory. Those of delta-rs go by their own names, without "deltars/".
func fixture(t testing.TB, name string) *memory.Store {
	t.Helper()
	s := memory.New()
	if !strings.Contains(name, "/") {
		name = "deltars/" + name
	}
	root := os.DirFS(fixtureRoot + name)
	check(t, fs.WalkDir(root, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return s.Put(ctx, p, must(fs.ReadFile(root, p)))
	}))
	return s
}

func drop(t testing.TB, s delta.LogStore, names ...string) {
	t.Helper()
	for _, n := range names {
		check(t, s.Delete(ctx, n))
	}
}

func read(t testing.TB, s delta.LogStore, name string) []byte {
	t.Helper()
	r, err := s.Get(ctx, name, 0, -1)
	check(t, err)
	defer r.Close()
	return must(io.ReadAll(r))
}

// lines are the actions of a commit, decoded, each under its name.
func lines(t testing.TB, s delta.LogStore, version int64) (names []string, actions []map[string]any) {
	t.Helper()
	for line := range bytes.SplitSeq(bytes.TrimSpace(read(t, s, delta.CommitName(version))), []byte("\n")) {
		var a map[string]map[string]any
		d := json.NewDecoder(bytes.NewReader(line))
		d.UseNumber()
		check(t, d.Decode(&a))
		for name, action := range a {
			names, actions = append(names, name), append(actions, action)
		}
	}
	return names, actions
}

// spy counts calls by name and can stand in for them.
type spy struct {
	delta.LogStore
	mu          sync.Mutex
	calls       []string
	get         func(name string) error
	putIfAbsent func(name string, data []byte) (handled bool, err error)
}

func (s *spy) note(call string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, call)
}

func (s *spy) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := s.spoil(name); err != nil {
		return nil, err
	}
	return s.LogStore.Get(ctx, name, off, n)
}

// spoil is for one read after the other.
func (s *spy) spoil(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, "get "+path.Base(name))
	if s.get == nil {
		return nil
	}
	return s.get(name)
}

func (s *spy) List(ctx context.Context, prefix, after string) iter.Seq2[delta.ObjectInfo, error] {
	s.note("list " + path.Base(after))
	return s.LogStore.List(ctx, prefix, after)
}

func (s *spy) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	s.note("put " + path.Base(name))
	if s.putIfAbsent != nil {
		if handled, err := s.putIfAbsent(name, data); handled {
			return err
		}
	}
	return s.LogStore.PutIfAbsent(ctx, name, data)
}

func add(name string, rows int) delta.Add {
	return delta.Add{Path: name, PartitionValues: map[string]*string{}, Size: 100, ModificationTime: 1, DataChange: true, Stats: fmt.Sprintf(`{"numRecords":%d}`, rows)}
}
