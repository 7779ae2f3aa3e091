package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	arrowmemory "github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/internal/kafkatest"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
	"kafkadelta/storage"
	"kafkadelta/storage/faultstore"
	"kafkadelta/storage/local"
	"kafkadelta/storage/memory"
)

// replayableTables is a stream with rows in many tables, by kind, some of whose dead letters its configuration makes rows of since it was changed. Of 60 messages, each third is one of those,
// and has a kind that no row had; of each twelve, one can never be a row.
func replayableTables(t *testing.T) (config, folder string) {
	t.Helper()
	cluster := kafkatest.Start(t, "numbers", 2)
	var values [][]byte
	for i := range 60 {
		kind := []string{"a", "b", "c"}[i%3]
		switch {
		case i%12 == 11:
			values = append(values, fmt.Appendf(nil, `{"nothing":%d}`, i))
		case i%3 == 2, i%12 == 4:
			values = append(values, fmt.Appendf(nil, `{"number":{"id":%d},"kind":%q}`, i, kind))
		default:
			values = append(values, fmt.Appendf(nil, `{"id":%d,"number":{"id":%d},"kind":%q}`, i, i, kind))
		}
	}
	kafkatest.Produce(t, cluster.ListenAddrs(), "numbers", 2, values)
	folder = t.TempDir()
	text := fmt.Sprintf(`name: numbers
source: {brokers: [%q], topic: numbers}
table: {uri: %q, schema: "id BIGINT NOT NULL, kind STRING"}
on_error: dead_letter
dead_letters: {uri: %q}
http: {listen: "off"}
`, cluster.ListenAddrs()[0], folder+"/{field:kind}", filepath.Join(folder, "_letters"))
	mustRun(t, "run", "-c", file(t, "first.yaml", text), "--until-end", "--log-level", "error")
	return file(t, "c.yaml", strings.Replace(text, "kind STRING\"", "kind STRING\", columns: {id: {from: number.id}}", 1)), folder
}

// TestReplayIntoManyTables: each dead letter that can be a row by now is one of the table that its values name, which is made where there is none.
func TestReplayIntoManyTables(t *testing.T) {
	config, folder := replayableTables(t)
	if o := mustRun(t, "dead-letters", "replay", "-c", config, "--partition", "1"); !strings.Contains(o.stdout, " dead letters were replayed, ") {
		t.Errorf("replay of partition 1 says %s", o.stdout)
	}
	mustRun(t, "verify", "-c", config)
	mustRun(t, "dead-letters", "replay", "-c", config)
	for range 2 {
		if o := mustRun(t, "dead-letters", "replay", "-c", config); !strings.Contains(o.stdout, "0 dead letters were replayed, 5 are still bad") {
			t.Errorf("replay again says %s", o.stdout)
		}
	}
	wantTables(t, folder)
	o := mustRun(t, "verify", "-c", config)
	if strings.Count(o.stdout, ": ok\n") != 4 {
		t.Errorf("verify tells\n%s", o.stdout)
	}
	for partition := range 2 {
		for offset := range 30 {
			o := mustRun(t, "explain", fmt.Sprint(partition), fmt.Sprint(offset), "-c", config)
			if strings.Contains(o.stdout, "it was replayed") != strings.Contains(o.stdout, "of a replay of dead letters") || !strings.Contains(o.stdout, "in table ") && !strings.Contains(o.stdout, "dead letter") {
				t.Errorf("explain %d %d says %s", partition, offset, o.stdout)
			}
		}
	}
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if o := command(t, "dead-letters", "replay", "-c", file(t, "other.yaml", strings.Replace(string(text), "{field:kind}", "{field:id}", 1))); o.code != exitRefused || !strings.Contains(o.stderr, "by other values") {
		t.Errorf("replay into tables of other values ends with %d: %s", o.code, o.stderr)
	}
	// The stream goes on as if nothing had been, and gets behind the replayed rows in each table.
	if o := mustRun(t, "run", "-c", config, "--until-end", "--log-level", "warn"); o.stderr != "" {
		t.Errorf("the next run says %s", o.stderr)
	}
	mustRun(t, "verify", "-c", config)
	mustRun(t, "rewind", "-c", config, "--to", "earliest", "--yes")
	mustRun(t, "run", "-c", config, "--until-end", "--log-level", "warn")
	if o := mustRun(t, "verify", "-c", config); strings.Count(o.stdout, ": ok\n") != 4 {
		t.Errorf("after a rewind, verify tells\n%s", o.stdout)
	}
	if o := mustRun(t, "dead-letters", "replay", "-c", config); !strings.Contains(o.stdout, "0 dead letters were replayed, 5 are still bad\n") {
		t.Errorf("after a rewind, replay says %s", o.stdout)
	}
}

// wantTables checks that each message that can be a row is one, in the table of its kind.
func wantTables(t *testing.T, folder string) {
	t.Helper()
	stores := map[string]storage.Store{}
	for _, name := range replayedStores {
		store, err := local.New(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		stores[name] = store
	}
	wantRows(t, stores)
}

// replayedStores are those of replayableTables, in their folder.
var replayedStores = []string{"_catalog", "_letters", "a", "b", "c"}

// storesOf copies them.
func storesOf(t *testing.T, folder string) map[string]storage.Store {
	t.Helper()
	stores := map[string]storage.Store{}
	for _, name := range replayedStores {
		stores[name] = memory.New()
		if _, err := os.Stat(filepath.Join(folder, name)); err == nil {
			stores[name] = inMemory(t, filepath.Join(folder, name))
		}
	}
	return stores
}

// wantRows is wantTables in stores, where each letter that is a row is marked, and once.
func wantRows(t *testing.T, stores map[string]storage.Store) {
	t.Helper()
	for at, kind := range []string{"a", "b", "c"} {
		var want []string
		for i := at; i < 60; i += 3 {
			if i%12 != 11 {
				want = append(want, fmt.Sprintf(`{"id":%d,"kind":%q}`, i, kind))
			}
		}
		slices.Sort(want)
		if got := rowsIn(t, stores[kind], "id", "kind"); !slices.Equal(got, want) {
			t.Errorf("table %s has %q, want %q", kind, got, want)
		}
	}
	wantVerified(t, stores)
	if rows := rowsIn(t, stores["_letters"], "reason"); len(rows) != 45 || strings.Count(strings.Join(rows, ""), `"replayed"`) != 20 {
		t.Errorf("the dead-letter table has %d rows, want 25 letters and 20 marks: %v", len(rows), rows)
	}
}

func wantVerified(t *testing.T, stores map[string]storage.Store) {
	t.Helper()
	report, tables, err := admin.VerifyCatalog(t.Context(), stores["_catalog"], "numbers", func(_ context.Context, key string) (delta.LogStore, error) { return stores[key], nil }, admin.Options{Since: -1, Until: -1})
	if err != nil || report.Verdict != admin.OK {
		t.Errorf("verify finds %+v, %v", report, err)
	}
	for _, table := range tables {
		if table.Verdict != admin.OK {
			t.Errorf("verify finds of table %s %+v", table.Table, table.Report)
		}
	}
}

// manyReplay is who replays, or settles, in stores.
type manyReplay struct {
	config string
	part   int
	stores map[string]storage.Store
}

func (m manyReplay) open(t *testing.T) (c config, stream, letters *sink.Table, routing *pipeline.Routing, err error) {
	t.Helper()
	c, err = loadConfig(m.config)
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	routing, err = c.routingIn(func(_ context.Context, key string) (storage.Store, error) { return m.stores[key], nil }, runOptions{}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	stream, err = sink.Open(t.Context(), m.stores["_catalog"], c.Table.Sink, sink.Options{Name: c.Name, Engine: engine(), Now: time.Now, Log: quiet})
	if err == nil {
		letters, err = openLetters(t.Context(), m.stores["_letters"], c.DeadLetters.URI, false, nil, quiet, sink.Events{})
	}
	return c, stream, letters, routing, err
}

// replays replays once.
func (m manyReplay) replays(t *testing.T) error {
	t.Helper()
	c, stream, letters, routing, err := m.open(t)
	if err != nil {
		return err
	}
	quiet := slog.New(slog.DiscardHandler)
	messages, err := openFormat(t.Context(), c.Source, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer messages.close()
	options, err := c.replayOptions(stream, letters, m.stores["_catalog"], m.stores["_letters"], admin.LetterFilter{Connector: c.Name, Partition: -1, Offset: -1}, messages, quiet)
	if err != nil {
		t.Fatal(err)
	}
	options.Tables.Routing, options.LettersOfPart = routing, m.part
	_, err = c.replay(t.Context(), options)
	return err
}

// settles does what a worker does that is assigned the partitions.
func (m manyReplay) settles(t *testing.T, giveUp bool) (given []string, err error) {
	t.Helper()
	c, stream, letters, routing, err := m.open(t)
	if err != nil {
		return nil, err
	}
	if giveUp {
		given, err = sink.GiveUpRows(t.Context(), stream, []int32{0, 1}, followers(routing, stream, c.Name))
	} else {
		_, err = sink.SettleRows(t.Context(), stream, []int32{0, 1}, followers(routing, stream, c.Name))
	}
	if err == nil {
		_, err = sink.Settle(t.Context(), stream, letters, []int32{0, 1})
	}
	return given, err
}

// TestReplayIntoTablesDiesAnywhere kills a replay at each operation of each store. A worker settles, or another replay comes at once.
func TestReplayIntoTablesDiesAnywhere(t *testing.T) {
	config, folder := replayableTables(t)
	for _, of := range []string{"_catalog", "_letters", "b", "c"} { // no letter is for table a
		for _, landed := range []bool{false, true} {
			died := 0
			for i := 0; ; i++ {
				stores := storesOf(t, folder)
				through := map[string]storage.Store{}
				var dead, had atomic.Bool
				for name, inner := range stores {
					s := faultstore.New(inner)
					s.SetPlan(func(op faultstore.Op) faultstore.Action {
						switch {
						case dead.Load():
							return faultstore.Fail(fs.ErrPermission)
						case name == of && op.Index == i:
							had.Store(true)
							dead.Store(true)
							if landed {
								return faultstore.LandThenFail(fs.ErrPermission)
							}
							return faultstore.Fail(fs.ErrPermission)
						}
						return faultstore.Pass()
					})
					through[name] = s
				}
				part := 0 // all at once, but for the catalog
				if of == "_catalog" {
					part = 12
				}
				err := manyReplay{config, part, through}.replays(t)
				if !had.Load() {
					break
				}
				if err != nil {
					died++
				}
				next := manyReplay{config, 0, stores}
				if i%2 == 1 {
					if _, err := next.settles(t, false); err != nil {
						t.Fatalf("operation %d of %s, landed %v: a worker settles with %v", i, of, landed, err)
					}
					wantVerified(t, stores)
				}
				if err := next.replays(t); err != nil {
					t.Fatalf("operation %d of %s, landed %v: the next replay ends with %v", i, of, landed, err)
				}
				if wantRows(t, stores); t.Failed() {
					t.Fatalf("operation %d of %s, landed %v: see above", i, of, landed)
				}
			}
			if died < 5 {
				t.Errorf("%s, landed %v: only %d replays have died", of, landed, died)
			}
		}
	}
}

// TestReplayIntoTablesBesideOthers has another replay, or a worker that settles, come to its end at each operation of the first one with the catalog.
func TestReplayIntoTablesBesideOthers(t *testing.T) {
	config, folder := replayableTables(t)
	for _, other := range []string{"replay", "worker"} {
		refused := 0
		for i := 0; ; i++ {
			stores := storesOf(t, folder)
			beside := manyReplay{config, 0, stores}
			through := maps.Clone(stores)
			catalog := faultstore.New(stores["_catalog"])
			had := false
			catalog.SetHook(func(op faultstore.Op) {
				if op.Index != i {
					return
				}
				had = true
				var err error
				if other == "replay" {
					err = beside.replays(t)
				} else {
					_, err = beside.settles(t, false)
				}
				if err != nil {
					t.Errorf("the other one ends with %v", err)
				}
			})
			through["_catalog"] = catalog
			err := manyReplay{config, 8, through}.replays(t)
			if !had {
				break
			}
			if errors.As(err, new(*checkpoint.RefusedError)) {
				refused++
			} else if err != nil {
				t.Errorf("operation %d: %v", i, err)
			}
			if err := beside.replays(t); err != nil {
				t.Error(err)
			}
			if wantRows(t, stores); t.Failed() {
				t.Fatalf("%s at operation %d: see above", other, i)
			}
		}
		if (refused > 0) != (other == "replay") {
			t.Errorf("beside a %s, %d replays were refused", other, refused)
		}
	}
}

// rowsIn are the rows of a table, with some of their columns, in order.
func rowsIn(t *testing.T, store storage.Store, columns ...string) (rows []string) {
	t.Helper()
	snap, err := delta.OpenSnapshot(t.Context(), store, -1)
	if err != nil {
		t.Fatal(err)
	}
	for a, err := range snap.Files(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		name, err := delta.DecodePath(a.Path)
		if err != nil {
			t.Fatal(err)
		}
		from, err := store.Get(t.Context(), name, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(from)
		if err := errors.Join(err, from.Close()); err != nil {
			t.Fatal(err)
		}
		table, err := pqarrow.ReadTable(t.Context(), bytes.NewReader(data), nil, pqarrow.ArrowReadProperties{}, arrowmemory.DefaultAllocator)
		if err != nil {
			t.Fatal(err)
		}
		reader := array.NewTableReader(table, 0)
		for reader.Next() {
			text, err := json.Marshal(reader.RecordBatch())
			var some []map[string]any
			if err == nil {
				err = json.Unmarshal(text, &some)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range some {
				kept := map[string]any{}
				for _, name := range columns {
					kept[name] = row[name]
				}
				text, err := json.Marshal(kept)
				if err != nil {
					t.Fatal(err)
				}
				rows = append(rows, string(text))
			}
		}
		reader.Release()
		table.Release()
	}
	slices.Sort(rows)
	return rows
}

// waiting is stores where a replay has died between the catalog's commit and what follows.
func waiting(t *testing.T, config, folder string) map[string]storage.Store {
	t.Helper()
	stores := storesOf(t, folder)
	through := map[string]storage.Store{}
	for name, inner := range stores {
		s := faultstore.New(inner)
		s.SetPlan(func(op faultstore.Op) faultstore.Action {
			if name != "_catalog" && strings.HasPrefix(op.Name, "_delta_log/") && op.Method == faultstore.MethodPutIfAbsent && !strings.HasSuffix(op.Name, fmt.Sprintf("%020d.json", 0)) {
				return faultstore.Fail(fs.ErrPermission)
			}
			return faultstore.Pass()
		})
		through[name] = s
	}
	before := newestOf(t, stores["_catalog"])
	if err := (manyReplay{config, 0, through}).replays(t); err == nil || newestOf(t, stores["_catalog"]) != before+1 {
		t.Fatalf("the replay ends with %v, and the catalog is at version %d", err, newestOf(t, stores["_catalog"]))
	}
	return stores
}

// TestReplayedRowsThatAreGone: a replay dies behind the catalog's commit, and a VACUUM takes what was to come to a table. All is refused that would pass over it, until an operator gives it up. What is
// there comes to the tables all the same, and what was given up can be replayed again.
func TestReplayedRowsThatAreGone(t *testing.T) {
	config, folder := replayableTables(t)
	stores := waiting(t, config, folder)
	next := manyReplay{config, 0, stores}
	verify := func() *admin.Report {
		t.Helper()
		report, _, err := admin.VerifyCatalog(t.Context(), stores["_catalog"], "numbers", func(_ context.Context, key string) (delta.LogStore, error) { return stores[key], nil }, admin.Options{Since: -1, Until: -1})
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	if r := verify(); r.Verdict != admin.OK || !strings.Contains(strings.Join(r.Notes, ""), "rows of dead letters that were replayed, that the catalog has decided about are on their way to b, c") {
		t.Errorf("verify says %v %q %+v", r.Verdict, r.Notes, r.Faults)
	}
	snap, err := delta.OpenSnapshot(t.Context(), stores["b"], -1)
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for a, err := range snap.Files(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		named[a.Path] = true
	}
	taken := 0
	for o, err := range stores["b"].List(t.Context(), "part-", "") {
		if err != nil {
			t.Fatal(err)
		}
		if !named[o.Name] {
			if err := stores["b"].Delete(t.Context(), o.Name); err != nil {
				t.Fatal(err)
			}
			taken++
		}
	}
	if taken != 1 {
		t.Fatalf("table b had %d files on their way", taken)
	}
	if r := verify(); r.Verdict != admin.Faulty || !strings.Contains(r.Faults[0].Text, "can't come to their tables any more: table b: the file ") {
		t.Errorf("verify says %v %+v", r.Verdict, r.Faults)
	}
	for range 2 {
		if _, err := next.settles(t, false); !errors.As(err, new(*checkpoint.RefusedError)) || !strings.Contains(err.Error(), "table b: the file ") || !strings.Contains(err.Error(), "take the marks of those") {
			t.Errorf("a worker settles with %v", err)
		}
		if err := next.replays(t); !errors.As(err, new(*checkpoint.RefusedError)) || !strings.Contains(err.Error(), "table b: the file ") {
			t.Errorf("the next replay ends with %v", err)
		}
	}
	if rows := rowsIn(t, stores["c"], "id"); len(rows) != 15 {
		t.Errorf("table c has %d rows: what is there is brought all the same", len(rows))
	}
	given, err := next.settles(t, true)
	if err != nil || len(given) != 1 || !strings.HasPrefix(given[0], "table b: ") {
		t.Errorf("giving up tells %q, %v", given, err)
	}
	if err := next.replays(t); err != nil {
		t.Error(err)
	}
	if rows := rowsIn(t, stores["b"], "id"); len(rows) != 15 {
		t.Errorf("table b has %d rows, want those of before", len(rows))
	}
}

// TestReplayIntoTablesOverARewind has an operator rewind the catalog at each operation of a replay: what the rewind has read again is not replayed behind it, and what was decided before it is brought.
func TestReplayIntoTablesOverARewind(t *testing.T) {
	config, folder := replayableTables(t)
	refused, counts := 0, map[int]bool{}
	for i := 0; ; i++ {
		stores := storesOf(t, folder)
		beside := manyReplay{config, 0, stores}
		through := maps.Clone(stores)
		catalog := faultstore.New(stores["_catalog"])
		had, before := false, 0
		to := map[int32]int64{0: 10, 1: 20}
		beyond := func() (n int) { // letters that were replayed, and that the rewind has read again
			err := admin.Letters(t.Context(), stores["_letters"], admin.LetterFilter{Partition: -1, Offset: -1}, func(l *admin.Letter) bool {
				if l.Replayed && l.Offset >= to[l.Partition] {
					n++
				}
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		catalog.SetHook(func(op faultstore.Op) {
			if op.Index == i {
				had = true
				rewindIn(t, beside, to)
				before = beyond()
			}
		})
		through["_catalog"] = catalog
		err := manyReplay{config, 8, through}.replays(t)
		if !had {
			break
		}
		if errors.As(err, new(*checkpoint.RefusedError)) {
			refused++
		} else if err != nil {
			t.Errorf("operation %d: %v", i, err)
		}
		if err := beside.replays(t); err != nil {
			t.Error(err)
		}
		wantVerified(t, stores)
		if n := beyond(); n != before {
			t.Errorf("operation %d: %d letters were replayed that the rewind has read again, and %d before it", i, n, before)
		}
		ids := map[string]bool{}
		rows := 0
		for _, kind := range []string{"a", "b", "c"} {
			if newestOrNone(t, stores[kind]) < 0 {
				continue
			}
			for _, id := range rowsIn(t, stores[kind], "id") {
				rows++
				ids[id] = true
			}
		}
		marks := strings.Count(strings.Join(rowsIn(t, stores["_letters"], "reason"), ""), `"replayed"`)
		if counts[marks] = true; rows != len(ids) || rows != 35+marks || marks < 8 {
			t.Errorf("operation %d: %d rows of %d messages, and %d marks", i, rows, len(ids), marks)
		}
		if t.Failed() {
			t.Fatalf("operation %d: see above", i)
		}
	}
	if refused == 0 || len(counts) < 2 {
		t.Errorf("%d replays were refused, with %v marks", refused, counts)
	}
}

// newestOrNone is the newest version of a table; -1 where there is none.
func newestOrNone(t *testing.T, store storage.Store) int64 {
	t.Helper()
	snap, err := delta.OpenSnapshot(t.Context(), store, -1)
	if errors.Is(err, delta.ErrNotTable) {
		return -1
	} else if err != nil {
		t.Fatal(err)
	}
	return snap.Version()
}

// rewindIn rewinds the catalog, as the command does that settles behind it.
func rewindIn(t *testing.T, m manyReplay, to map[int32]int64) {
	t.Helper()
	snap, err := delta.OpenSnapshot(t.Context(), m.stores["_catalog"], -1)
	if err != nil {
		t.Fatal(err)
	}
	r := admin.Rewinding{
		Writer: admin.Writer{Engine: engine(), Now: time.Now}, Name: "numbers", Topic: "numbers", How: "--to-offsets", To: to, ToVersion: -1,
		Kafka: admin.KafkaTopic{Start: map[int32]int64{0: 0, 1: 0}, End: map[int32]int64{0: 30, 1: 30}},
		Routed: admin.Routed{
			Open:   func(_ context.Context, key string) (delta.LogStore, error) { return m.stores[key], nil },
			Settle: func(context.Context, bool) ([]string, error) { return m.settles(t, false) },
		},
	}
	for txn := range snap.Txns() {
		if id, ok := strings.CutPrefix(txn.AppID, "numbers#topic/"); ok {
			r.Kafka.Identity.ClusterID, r.Kafka.Identity.TopicID, _ = strings.Cut(id, "/")
		}
	}
	plan, err := admin.PlanRewind(t.Context(), m.stores["_catalog"], r)
	if err == nil {
		_, err = plan.Commit(t.Context())
	}
	if err == nil {
		err = plan.Settle(t.Context())
	}
	if err != nil {
		t.Error(err)
	}
}

// TestRestoreOfATableThatTakesAReplay: nothing is brought to a table that was restored, and the rewind that follows does not pass over letters whose rows are gone and whose marks stay.
func TestRestoreOfATableThatTakesAReplay(t *testing.T) {
	config, folder := replayableTables(t)
	b, err := local.New(filepath.Join(folder, "b"))
	if err != nil {
		t.Fatal(err)
	}
	mustRun(t, "dead-letters", "replay", "-c", config, "--partition", "1")
	stands := newestOf(t, b)
	if o := mustRun(t, "dead-letters", "replay", "-c", config); !strings.HasPrefix(o.stdout, "15 dead letters") {
		t.Fatal(o.stdout)
	}
	takeBack(t, b, "RESTORE", stands)
	if o := command(t, "run", "-c", config, "--until-end"); o.code == exitOK || !strings.Contains(o.stderr, "table b: ") || !strings.Contains(o.stderr, "RESTORE") {
		t.Errorf("a start ends with %d: %s", o.code, o.stderr)
	}
	o := command(t, "rewind", "-c", config, "--to-offsets=0=30,1=30", "--yes")
	if o.code != exitRefused || !strings.Contains(o.stderr, "table b: version") || !strings.Contains(o.stderr, "it has taken rows of dead letters that were replayed") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
	mustRun(t, "rewind", "-c", config, "--to-offsets=0=30,1=30", "--yes", "--force")
	mustRun(t, "rewind", "-c", config, "--to-offsets=0=30,1=30", "--yes") // that was the word about it
}

// TestReplayIntoARestoredTable: the replay looks at each table that gets rows for a RESTORE, which its commit would hide.
func TestReplayIntoARestoredTable(t *testing.T) {
	config, folder := replayableTables(t)
	stores := storesOf(t, folder)
	version := newestOf(t, stores["b"])
	takeBack(t, stores["b"], "RESTORE", version-1)
	before := newestOf(t, stores["_catalog"])
	if err := (manyReplay{config, 0, stores}).replays(t); err == nil || !strings.Contains(err.Error(), "RESTORE") || !strings.Contains(err.Error(), "table b") {
		t.Errorf("a replay into a restored table ends with %v", err)
	}
	if got := newestOf(t, stores["_catalog"]); got != before {
		t.Errorf("the catalog is at version %d, and was at %d", got, before)
	}
}

// TestReplayIntoTablesOfARetiredStream is refused, since another stream may have taken the tables; also where the end comes while it is under way.
func TestReplayIntoTablesOfARetiredStream(t *testing.T) {
	config, folder := replayableTables(t)
	landed := map[bool]bool{}
	for i := 0; ; i++ {
		stores := storesOf(t, folder)
		m := manyReplay{config, 0, stores}
		through := maps.Clone(stores)
		catalog := faultstore.New(stores["_catalog"])
		had := false
		var ended int64
		catalog.SetHook(func(op faultstore.Op) {
			if op.Index != i {
				return
			}
			had = true
			plan, err := admin.PlanRetirement(t.Context(), stores["_catalog"], admin.Retirement{
				Writer: admin.Writer{Engine: engine(), Now: time.Now}, Name: "numbers", Letters: stores["_letters"], Force: true,
				Routed: admin.Routed{
					Open:   func(_ context.Context, key string) (delta.LogStore, error) { return stores[key], nil },
					Settle: func(context.Context, bool) ([]string, error) { return m.settles(t, false) },
				},
			})
			if err == nil {
				ended, err = plan.Commit(t.Context())
			}
			if err == nil {
				_, _, err = plan.Free(t.Context())
			}
			if err != nil {
				t.Error(err)
			}
		})
		through["_catalog"] = catalog
		err := manyReplay{config, 0, through}.replays(t)
		if !had {
			break
		}
		if err != nil && !errors.As(err, new(*checkpoint.RefusedError)) {
			t.Errorf("operation %d: %v", i, err)
		}
		if newestOf(t, stores["_catalog"]) > ended {
			t.Errorf("operation %d: the catalog has version %d, and the stream has ended with %d", i, newestOf(t, stores["_catalog"]), ended)
		}
		for _, kind := range []string{"a", "b", "c"} {
			if newestOrNone(t, stores[kind]) < 0 {
				continue
			}
			snap, err := delta.OpenSnapshot(t.Context(), stores[kind], -1)
			if err != nil {
				t.Fatal(err)
			}
			for txn := range snap.Txns() {
				if checkpoint.IsCatalog(txn.AppID, "numbers") && txn.Version > 0 {
					t.Errorf("operation %d: table %s is the stream's again: %+v", i, kind, txn)
				}
			}
		}
		if err := m.replays(t); err == nil || !strings.Contains(err.Error(), "was retired") {
			t.Errorf("operation %d: a replay behind the end says %v", i, err)
		}
		landed[len(rowsIn(t, stores["b"], "id")) > 15] = true
		if t.Failed() {
			t.Fatalf("operation %d: see above", i)
		}
	}
	if len(landed) != 2 {
		t.Errorf("the end came before all replays, or after all of them: %v", landed)
	}
}

// TestReplayIntoTablesBesideAWorker has replays follow each other while a worker brings more to the same tables, dead letters as well.
func TestReplayIntoTablesBesideAWorker(t *testing.T) {
	cluster := kafkatest.Start(t, "numbers", 2)
	folder := t.TempDir()
	text := fmt.Sprintf(`name: numbers
source: {brokers: [%q], topic: numbers}
table: {uri: %q, schema: "id BIGINT NOT NULL, kind STRING"}
flush: {interval: 200ms}
on_error: dead_letter
dead_letters: {uri: %q}
http: {listen: "off"}
`, cluster.ListenAddrs()[0], folder+"/{field:kind}", filepath.Join(folder, "_letters"))
	first := file(t, "first.yaml", text)
	config := file(t, "c.yaml", strings.Replace(text, "kind STRING\"", "kind STRING\", columns: {id: {from: number.id}}", 1))
	ctx, stop := context.WithTimeout(t.Context(), commandLimit)
	defer stop()
	var stdout, stderr buffer
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"run", "-c", first}, &stdout, &stderr) }()
	want := map[string][]string{}
	for n := range 12 {
		var values [][]byte
		for i := 20 * n; i < 20*n+20; i++ {
			kind := fmt.Sprint("k", i%3, "-", i/100) // new ones come all the time, some by letters first
			form := `{"id":%d,"number":{"id":%d},"kind":%q}`
			if i%4 > 0 {
				form = `{"nothing":%d,"number":{"id":%d},"kind":%q}`
			}
			values = append(values, fmt.Appendf(nil, form, i, i, kind))
			want[kind] = append(want[kind], fmt.Sprintf(`{"id":%d,"kind":%q}`, i, kind))
		}
		kafkatest.Produce(t, cluster.ListenAddrs(), "numbers", 2, values)
		if _, err := os.Stat(filepath.Join(folder, "_letters", "_delta_log", "00000000000000000001.json")); err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if o := command(t, "dead-letters", "replay", "-c", config); o.code != exitOK && o.code != exitRefused {
			t.Errorf("a replay ends with %d: %s", o.code, o.stderr)
		}
	}
	stop()
	<-ended
	mustRun(t, "run", "-c", first, "--until-end", "--log-level", "error")
	mustRun(t, "dead-letters", "replay", "-c", config)
	for kind, rows := range want {
		store, err := local.New(filepath.Join(folder, kind))
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(rows)
		if got := rowsIn(t, store, "id", "kind"); !slices.Equal(got, rows) {
			t.Errorf("table %s has %q, want %q", kind, got, rows)
		}
	}
	if o := mustRun(t, "verify", "-c", config); strings.Count(o.stdout, ": ok\n") != len(want)+1 {
		t.Errorf("verify tells\n%s", o.stdout)
	}
}

// TestReplayFirstInAGeneration: rows of a replay are the first that a table gets in a generation, and it follows its catalog into that; rows of the stream come behind them, from offsets before and after.
func TestReplayFirstInAGeneration(t *testing.T) {
	config, _ := replayableTables(t)
	mustRun(t, "rewind", "-c", config, "--to-offsets", "0=10,1=20", "--yes")
	if o := mustRun(t, "dead-letters", "replay", "-c", config); !strings.Contains(o.stdout, " are of generations before a rewind") || strings.HasPrefix(o.stdout, "0 ") {
		t.Errorf("replay says %s", o.stdout)
	}
	ok := func() {
		t.Helper()
		if o := mustRun(t, "verify", "-c", config); strings.Count(o.stdout, ": ok\n") != 4 {
			t.Errorf("verify tells\n%s", o.stdout)
		}
	}
	ok()
	mustRun(t, "run", "-c", config, "--until-end", "--log-level", "warn")
	ok()
	if o := mustRun(t, "dead-letters", "replay", "-c", config); !strings.HasPrefix(o.stdout, "0 dead letters were replayed") {
		t.Errorf("replay says %s", o.stdout)
	}
	mustRun(t, "rewind", "-c", config, "--to-offsets", "0=15", "--yes")
	mustRun(t, "run", "-c", config, "--until-end", "--log-level", "warn")
	ok()
}

// TestReplayIntoTablesFollowsSchemas is TestReplayFollowsSchemas for many tables, of which three are new.
func TestReplayIntoTablesFollowsSchemas(t *testing.T) {
	folder := t.TempDir()
	config, register := unregistered(t, folder+"/{field:id}", filepath.Join(folder, "_letters"), map[string]any{"id": 1, "x": 50.0, "note": "five"}, 1)
	register()
	if o := mustRun(t, "dead-letters", "replay", "-c", config); !strings.Contains(o.stdout, "4 dead letters were replayed, 0 are still bad") {
		t.Fatalf("replay says %s", o.stdout)
	}
	for key, want := range map[string][]string{
		"1": {`{"id":1,"note":"five","x":50}`, `{"id":1,"note":null,"x":10}`}, "2": {`{"id":2,"note":"two","x":20}`}, "3": {`{"id":3,"note":null,"x":30.1}`}, "4": {`{"id":4,"note":"four","x":40}`},
	} {
		store, err := local.New(filepath.Join(folder, key))
		if err != nil {
			t.Fatal(err)
		}
		if got := rowsIn(t, store, "id", "x", "note"); !slices.Equal(got, want) {
			t.Errorf("table %s has %q, want %q", key, got, want)
		}
	}
	mustRun(t, "run", "-c", config, "--until-end")
	mustRun(t, "verify", "-c", config)
}
