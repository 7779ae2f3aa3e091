package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sr"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/internal/kafkatest"
	"kafkadelta/replay"
	"kafkadelta/sink"
	"kafkadelta/storage"
	"kafkadelta/storage/faultstore"
	"kafkadelta/storage/local"
	"kafkadelta/storage/memory"
)

// replayable is a stream with dead letters, some of which its configuration makes rows of since it was changed.
type replayable struct {
	config, table, letters string
}

// newReplayable runs a stream of 100 messages. Of each ten, two have their id under another name than the configuration has asked for
// first, and one has none at all.
func newReplayable(t *testing.T) replayable {
	t.Helper()
	cluster := kafkatest.Start(t, "numbers", 2)
	var values [][]byte
	for i := range 100 {
		switch i % 10 {
		case 4, 5:
			values = append(values, fmt.Appendf(nil, `{"number":{"id":%d}}`, i))
		case 7:
			values = append(values, fmt.Appendf(nil, `{"nothing":%d}`, i))
		default:
			values = append(values, fmt.Appendf(nil, `{"id":%d,"number":{"id":%d}}`, i, i))
		}
	}
	kafkatest.Produce(t, cluster.ListenAddrs(), "numbers", 2, values)
	r := replayable{table: filepath.Join(t.TempDir(), "table"), letters: filepath.Join(t.TempDir(), "letters")}
	text := fmt.Sprintf(`name: numbers
source: {brokers: [%q], topic: numbers}
table: {uri: %q, schema: "id BIGINT NOT NULL"}
on_error: dead_letter
dead_letters: {uri: %q}
http: {listen: "off"}
`, cluster.ListenAddrs()[0], r.table, r.letters)
	mustRun(t, "run", "-c", file(t, "first.yaml", text), "--until-end", "--log-level", "error")
	r.config = file(t, "c.yaml", strings.Replace(text, "BIGINT NOT NULL\"", "BIGINT NOT NULL\", columns: {id: {from: number.id}}", 1))
	return r
}

func TestReplay(t *testing.T) {
	r := newReplayable(t)
	if o := mustRun(t, "dead-letters", "list", "-c", r.config); !strings.Contains(o.stdout, "30 of 30 dead letters") {
		t.Fatalf("before: %s", o.stdout)
	}
	o := mustRun(t, "dead-letters", "replay", "-c", r.config, "--partition", "1")
	if !strings.Contains(o.stdout, "10 dead letters were replayed, 10 are still bad") && !strings.Contains(o.stdout, "10 dead letters were replayed, 0 are still bad") {
		t.Errorf("replay of partition 1 says %s", o.stdout)
	}
	if o := mustRun(t, "dead-letters", "replay", "-c", r.config); !strings.Contains(o.stdout, "10 dead letters were replayed, 10 are still bad") || !strings.Contains(o.stdout, "NOT NULL") {
		t.Errorf("replay says %s", o.stdout)
	}
	for range 2 {
		if o := mustRun(t, "dead-letters", "replay", "-c", r.config); !strings.Contains(o.stdout, "0 dead letters were replayed, 10 are still bad") {
			t.Errorf("replay again says %s", o.stdout)
		}
	}
	if o := mustRun(t, "dead-letters", "list", "-c", r.config); !strings.Contains(o.stdout, "10 of 10 dead letters") {
		t.Errorf("after: %s", o.stdout)
	}
	if o := mustRun(t, "dead-letters", "list", "-c", r.config, "--replayed"); !strings.Contains(o.stdout, "30 of 30 dead letters") {
		t.Errorf("with those that were replayed: %s", o.stdout)
	}
	if o := mustRun(t, "verify", "-c", r.config); !strings.Contains(o.stdout, "90 rows (0 of them of no stream)") {
		t.Errorf("verify says %s", o.stdout)
	}
	// The stream goes on as if nothing had been.
	if o := mustRun(t, "run", "-c", r.config, "--until-end", "--log-level", "warn"); o.stderr != "" {
		t.Errorf("the next run says %s", o.stderr)
	}
	mustRun(t, "verify", "-c", r.config)
}

// TestReplayOfAFormerGeneration: what a rewind reads again is not replayed as well.
func TestReplayOfAFormerGeneration(t *testing.T) {
	r := newReplayable(t)
	mustRun(t, "rewind", "-c", r.config, "--to", "earliest", "--yes")
	if o := mustRun(t, "dead-letters", "replay", "-c", r.config); !strings.Contains(o.stdout, "0 dead letters were replayed, 0 are still bad\n30 are of generations before a rewind") {
		t.Errorf("replay says %s", o.stdout)
	}
}

// TestReplayAfterARewindOfOnePartition: what a rewind has left alone is replayed, with marks of the generation in which it was found to be
// bad; what is read again is not.
func TestReplayAfterARewindOfOnePartition(t *testing.T) {
	r := newReplayable(t) // of each partition 50 messages; those of partition 0 can be rows by now at the offsets 2, 7, 12, ...
	mustRun(t, "rewind", "-c", r.config, "--to-offsets", "0=20", "--yes")
	for _, want := range []string{"14 dead letters were replayed, 10 are still bad\n", "0 dead letters were replayed, 10 are still bad\n"} {
		if o := mustRun(t, "dead-letters", "replay", "-c", r.config); !strings.Contains(o.stdout, want) || !strings.Contains(o.stdout, "\n6 are of generations before") {
			t.Errorf("replay says %s, want %s", o.stdout, want)
		}
	}
	mustRun(t, "run", "-c", r.config, "--until-end", "--log-level", "warn")
	if o := mustRun(t, "verify", "-c", r.config); !strings.Contains(o.stdout, "114 rows (0 of them of no stream)") { // 70, 14 replayed, and 30 read again
		t.Errorf("verify says %s", o.stdout)
	}
	if o := mustRun(t, "rewind", "-c", r.config, "--to", "earliest", "--yes"); o.code != exitOK {
		t.Fatal(o.stderr)
	}
	if o := mustRun(t, "dead-letters", "replay", "-c", r.config); !strings.Contains(o.stdout, "0 dead letters were replayed, 0 are still bad\n16 are of generations before") {
		t.Errorf("replay after a rewind of all says %s", o.stdout)
	}
}

// inMemory copies a folder.
func inMemory(t *testing.T, folder string) *memory.Store {
	t.Helper()
	store := memory.New()
	root := os.DirFS(folder)
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		return store.Put(t.Context(), name, data)
	})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// replayIn replays in the given stores.
func (r replayable) replayIn(ctx context.Context, t *testing.T, table, letters storage.Store) error {
	t.Helper()
	c, err := loadConfig(r.config)
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	messages, err := openFormat(ctx, c.Source, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer messages.close()
	stream, err := sink.Open(ctx, table, c.Table.Sink, sink.Options{Name: c.Name, Engine: engine(), Now: time.Now, Log: quiet})
	if err != nil {
		return err
	}
	dead, err := openLetters(ctx, letters, c.DeadLetters.URI, false, quiet, sink.Events{})
	if err != nil {
		return err
	}
	_, err = replay.Run(ctx, c.replayOptions(stream, dead, table, letters, admin.LetterFilter{Connector: c.Name, Partition: -1, Offset: -1}, messages))
	return err
}

// replayedOnce checks that each letter that could become a row is one, once, and is marked, once.
func replayedOnce(t *testing.T, table, letters storage.Store) {
	t.Helper()
	rows := map[string]int{}
	report, err := admin.Verify(t.Context(), table, admin.Options{Since: -1, Until: -1})
	if err != nil || report.Verdict != admin.OK || report.Rows != 90 {
		t.Errorf("verify finds %+v, %v", report, err)
	}
	marks := 0
	seen := map[string]bool{}
	err = admin.Letters(t.Context(), letters, admin.LetterFilter{Partition: -1, Offset: -1}, func(l *admin.Letter) bool {
		var m struct{ Number *struct{ ID int } }
		if json.Unmarshal(l.Value, &m) == nil && (m.Number != nil) != l.Replayed {
			t.Errorf("the letter %s is marked as replayed: %v", l.Value, l.Replayed)
		}
		if l.Replayed {
			marks++
		}
		if seen[string(l.Value)] {
			t.Errorf("the letter %s is there twice", l.Value)
		}
		seen[string(l.Value)] = true
		rows[l.Reason]++
		return true
	})
	if err != nil || marks != 20 || len(seen) != 30 {
		t.Errorf("%d of %d letters are marked, want 20 of 30: %v %v", marks, len(seen), rows, err)
	}
	snap, err := delta.OpenSnapshot(t.Context(), letters, -1)
	if err != nil {
		t.Fatal(err)
	}
	if totals, err := snap.Totals(t.Context()); err != nil || totals.Rows != 50 {
		t.Errorf("the dead-letter table has %d rows, want 30 letters and 20 marks: %v", totals.Rows, err)
	}
}

// TestReplayDiesAnywhere kills a replay at each operation of either store, and runs it again (rule D6).
func TestReplayDiesAnywhere(t *testing.T) {
	r := newReplayable(t)
	for _, of := range []string{"table", "letters"} {
		for _, landed := range []bool{false, true} {
			died := 0
			for i := 0; ; i++ {
				table, letters := inMemory(t, r.table), inMemory(t, r.letters)
				stores := map[string]*faultstore.Store{"table": faultstore.New(table), "letters": faultstore.New(letters)}
				var dead atomic.Bool
				had := false
				for name, s := range stores {
					s.SetPlan(func(op faultstore.Op) faultstore.Action {
						switch {
						case dead.Load():
							return faultstore.Fail(fs.ErrPermission)
						case name == of && op.Index == i:
							had = true
							dead.Store(true)
							if landed {
								return faultstore.LandThenFail(fs.ErrPermission)
							}
							return faultstore.Fail(fs.ErrPermission)
						}
						return faultstore.Pass()
					})
				}
				err := r.replayIn(t.Context(), t, stores["table"], stores["letters"])
				if !had {
					break
				}
				if err != nil {
					died++
				}
				if err := r.replayIn(t.Context(), t, table, letters); err != nil {
					t.Fatalf("operation %d of %s, landed %v: the next replay ends with %v", i, of, landed, err)
				}
				if replayedOnce(t, table, letters); t.Failed() {
					t.Fatalf("operation %d of %s, landed %v: see above", i, of, landed)
				}
			}
			if died < 10 {
				t.Errorf("%s, landed %v: only %d replays have died", of, landed, died)
			}
		}
	}
}

// TestMarksThatAreGone: a replay dies between its two commits, and a VACUUM takes the file of its marks. Giving up makes them again, by their
// note, so that no letter is replayed twice.
func TestMarksThatAreGone(t *testing.T) {
	r := newReplayable(t)
	store, err := local.New(r.letters)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := local.New(r.table)
	if err != nil {
		t.Fatal(err)
	}
	before, err := filepath.Glob(filepath.Join(r.letters, "*.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	letters := faultstore.New(store)
	letters.SetPlan(func(op faultstore.Op) faultstore.Action {
		if strings.HasPrefix(op.Name, "_delta_log/") && op.Method == faultstore.MethodPutIfAbsent {
			return faultstore.Fail(fs.ErrPermission)
		}
		return faultstore.Pass()
	})
	if err := r.replayIn(t.Context(), t, tables, letters); err == nil {
		t.Fatal("the replay comes to its end")
	}
	after, err := filepath.Glob(filepath.Join(r.letters, "*.parquet"))
	if err != nil || len(after) != len(before)+1 {
		t.Fatalf("%d files, then %d: %v", len(before), len(after), err)
	}
	for _, name := range after {
		if !slices.Contains(before, name) {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if o := command(t, "dead-letters", "replay", "-c", r.config); o.code != exitRefused || !strings.Contains(o.stderr, "settle --give-up") {
		t.Errorf("the next replay ends with %d: %s", o.code, o.stderr)
	}
	if o := mustRun(t, "dead-letters", "settle", "--give-up", "-c", r.config); !strings.Contains(o.stdout, "dead letters of 0 partitions were given up") {
		t.Errorf("giving up says %s", o.stdout)
	}
	if o := mustRun(t, "dead-letters", "replay", "-c", r.config); !strings.Contains(o.stdout, "0 dead letters were replayed, 10 are still bad") {
		t.Errorf("the replay after that says %s", o.stdout)
	}
	replayedOnce(t, tables, store)
	if notes, err := filepath.Glob(filepath.Join(r.letters, "_connector", "parcels", "*")); err != nil || len(notes) > 0 {
		t.Errorf("notes are left: %q %v", notes, err)
	}
}

// TestTwoReplaysAtOnce has another replay run to its end at each operation of the first one.
func TestTwoReplaysAtOnce(t *testing.T) {
	r := newReplayable(t)
	refused := 0
	for i := 0; ; i++ {
		table, letters := inMemory(t, r.table), inMemory(t, r.letters)
		store := faultstore.New(table)
		had := false
		store.SetHook(func(op faultstore.Op) {
			if op.Index == i {
				had = true
				if err := r.replayIn(t.Context(), t, table, letters); err != nil {
					t.Errorf("the other replay ends with %v", err)
				}
			}
		})
		err := r.replayIn(t.Context(), t, store, letters)
		if !had {
			break
		}
		if errors.As(err, new(*checkpoint.RefusedError)) {
			refused++
		} else if err != nil {
			t.Errorf("operation %d: %v", i, err)
		}
		if replayedOnce(t, table, letters); t.Failed() {
			t.Fatalf("operation %d: see above", i)
		}
	}
	if refused == 0 {
		t.Error("no replay was refused because another one came in between")
	}
}

// TestReplayFollowsSchemas: letters of schemas that the registry did not know become rows with all that these bring, once it does; the table
// gets the columns and the wider types with them, also where what was written before them has to be written anew.
func TestReplayFollowsSchemas(t *testing.T) {
	record := func(fields string) string {
		return `{"type":"record","name":"r","fields":[{"name":"id","type":"long"}` + fields + `]}`
	}
	schemas := []string{
		record(`,{"name":"x","type":"float"}`),
		record(`,{"name":"x","type":"float"},{"name":"note","type":"string"}`),
		record(`,{"name":"x","type":"double"}`), // FLOAT to DOUBLE: what was written before is written anew
	}
	fake, client := fakeRegistry(t)
	register := func(i int) {
		if s, err := client.CreateSchema(t.Context(), "events-value", sr.Schema{Schema: schemas[i]}); err != nil || s.ID != i+1 {
			t.Fatal(s.ID, err)
		}
	}
	register(0)
	cluster := kafkatest.Start(t, "events", 1)
	var messages [][]byte
	for i, values := range []map[string]any{
		{"id": 1, "x": 10.0}, {"id": 2, "x": 20.0, "note": "two"}, {"id": 3, "x": 30.1}, {"id": 4, "x": 40.0, "note": "four"}, {"id": 5, "x": 50.0},
	} {
		of := []int{0, 1, 2, 1, 0}[i]
		messages = append(messages, encoded(t, of+1, schemas[of], values))
	}
	kafkatest.Produce(t, cluster.ListenAddrs(), "events", 1, messages)
	config := file(t, "c.yaml", fmt.Sprintf(`name: events
source: {brokers: [%q], topic: events, format: avro, schema_registry: {urls: [%q]}}
table: {uri: %q, schema_evolution: add_and_widen, properties: {delta.enableTypeWidening: "true"}}
on_error: dead_letter
dead_letters: {uri: %q}
http: {listen: "off"}
`, cluster.ListenAddrs()[0], fake.URL(), filepath.Join(t.TempDir(), "table"), filepath.Join(t.TempDir(), "letters")))
	mustRun(t, "run", "-c", config, "--until-end")
	if o := mustRun(t, "dead-letters", "replay", "-c", config); !strings.Contains(o.stdout, "0 dead letters were replayed, 3 are still bad") {
		t.Fatalf("replay of what is not registered says %s", o.stdout)
	}
	register(1)
	register(2)
	if o := mustRun(t, "dead-letters", "replay", "-c", config); !strings.Contains(o.stdout, "3 dead letters were replayed, 0 are still bad") {
		t.Fatalf("replay says %s", o.stdout)
	}
	want := []string{`{"id":1,"note":null,"x":10}`, `{"id":2,"note":"two","x":20}`, `{"id":3,"note":null,"x":30.1}`, `{"id":4,"note":"four","x":40}`, `{"id":5,"note":null,"x":50}`}
	if got := rowsOf(t, config, "id", "x", "note"); !slices.Equal(got, want) {
		t.Errorf("the table has %q, want %q", got, want)
	}
	mustRun(t, "run", "-c", config, "--until-end")
	mustRun(t, "verify", "-c", config)
}
