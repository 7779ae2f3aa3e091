package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
	"kafkadelta/columns"
	"kafkadelta/delta"
	"kafkadelta/internal/kafkatest"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
	"kafkadelta/storage"
	"kafkadelta/storage/faultstore"
	"kafkadelta/storage/local"
	"kafkadelta/storage/memory"
)

// replayable is a stream with dead letters, some of which its configuration makes rows of since it was changed.
type replayable struct {
	config, table, letters string
	now                    func() time.Time // of replayIn; nil for the clock
	decoders               func(pipeline.NewDecoder) pipeline.NewDecoder
	part                   int    // letters of a commit at most; 0 for as many as there may be
	reads                  func() // of the dead-letter table
}

// newReplayable runs a stream of 100 messages. Of each ten, two have their id under another name than the configuration has asked for
// first, and one has none at all.
func newReplayable(t *testing.T) replayable {
	t.Helper()
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
	return replayableOf(t, values)
}

// replayableOf is a stream that has run over such messages.
func replayableOf(t *testing.T, values [][]byte) replayable {
	t.Helper()
	cluster := kafkatest.Start(t, "numbers", 2)
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
	if o := mustRun(t, "explain", "0", "2", "-c", r.config); !strings.Contains(o.stdout, ": in the table\n") || !strings.Contains(o.stdout, "it was a dead letter since") || !strings.Contains(o.stdout, "and was replayed") ||
		strings.Contains(o.stdout, "another writer") {
		t.Errorf("explain says %s", o.stdout)
	}
	// The stream goes on as if nothing had been.
	if o := mustRun(t, "run", "-c", r.config, "--until-end", "--log-level", "warn"); o.stderr != "" {
		t.Errorf("the next run says %s", o.stderr)
	}
	mustRun(t, "verify", "-c", r.config)
}

// TestReplayOfLargeLetters: of letters with 900 kB each no more are decoded into a batch than make 4 MiB.
func TestReplayOfLargeLetters(t *testing.T) {
	var values [][]byte
	for i := range 12 {
		values = append(values, fmt.Appendf(nil, `{"number":{"id":%d},"pad":"%0900000d"}`, i, i))
	}
	r := replayableOf(t, values)
	var batches []int
	r.decoders = func(compile pipeline.NewDecoder) pipeline.NewDecoder {
		return func(layout *sink.Layout) (pipeline.Decoder, *columns.Plan, error) {
			d, plan, err := compile(layout)
			return batchCounter{d, &batches}, plan, err
		}
	}
	table, letters := replayStores(t, r)
	if err := r.replayIn(t.Context(), t, table, letters); err != nil {
		t.Fatal(err)
	}
	if want := []int{5, 5, 2}; !slices.Equal(batches, want) {
		t.Errorf("the batches have %v letters, want %v", batches, want)
	}
}

// batchCounter notes how many rows batches have.
type batchCounter struct {
	pipeline.Decoder
	batches *[]int
}

func (c batchCounter) NewBatch() arrow.RecordBatch {
	rb := c.Decoder.NewBatch()
	*c.batches = append(*c.batches, int(rb.NumRows()))
	return rb
}

// TestReplayMeetsAPanic: a decoder that panics at a dead letter ends the replay with an error that says at which, and of which format. Nothing is replayed with it, and all is
// replayed once the fault is mended.
func TestReplayMeetsAPanic(t *testing.T) {
	r := newReplayable(t)
	table, letters := replayStores(t, r)
	var at *kgo.Record
	r.decoders = func(compile pipeline.NewDecoder) pipeline.NewDecoder {
		return func(layout *sink.Layout) (pipeline.Decoder, *columns.Plan, error) {
			d, plan, err := compile(layout)
			return panicsAtNothing{d, &at}, plan, err
		}
	}
	version := newestOf(t, table)
	err := r.replayIn(t.Context(), t, table, letters)
	e, ok := errors.AsType[*pipeline.PanicError](err)
	if !ok || at == nil || e.Partition != at.Partition || e.Offset != at.Offset || exitCode(err) != exitInternal {
		t.Fatalf("%v, of %+v", err, at)
	}
	for _, want := range []string{"source.format json", fmt.Sprintf("numbers/%d offset %d", at.Partition, at.Offset), "index out of range", "--partition"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	if got := newestOf(t, table); got != version {
		t.Errorf("the replay has made version %d", got)
	}
	r.decoders = nil
	if err := r.replayIn(t.Context(), t, table, letters); err != nil {
		t.Fatal(err)
	}
	replayedOnce(t, table, letters)
}

// panicsAtNothing is a decoder with a fault.
type panicsAtNothing struct {
	pipeline.Decoder
	at **kgo.Record
}

func (d panicsAtNothing) Append(r *kgo.Record) error {
	if strings.Contains(string(r.Value), "nothing") {
		*d.at = r
		panic("index out of range")
	}
	return d.Decoder.Append(r)
}

// TestReplayTellsWhatItWaitsFor: a schema registry that is down.
func TestReplayTellsWhatItWaitsFor(t *testing.T) {
	fake, client := fakeRegistry(t)
	schema, err := client.CreateSchema(t.Context(), "numbers-value", sr.Schema{Type: sr.TypeJSON, Schema: `{"type":"object","properties":{"id":{"type":"integer"}}}`})
	if err != nil {
		t.Fatal(err)
	}
	cluster := kafkatest.Start(t, "numbers", 1)
	kafkatest.Produce(t, cluster.ListenAddrs(), "numbers", 1, [][]byte{append(binary.BigEndian.AppendUint32([]byte{0}, uint32(schema.ID)), `{"id":"x"}`...)})
	config := file(t, "c.yaml", fmt.Sprintf(`name: numbers
source: {brokers: [%q], topic: numbers, json: {framing: registry}, schema_registry: {urls: [%q]}}
table: {uri: %q, schema: "id BIGINT"}
on_error: dead_letter
dead_letters: {uri: %q}
http: {listen: "off"}
`, cluster.ListenAddrs()[0], fake.URL(), filepath.Join(t.TempDir(), "table"), filepath.Join(t.TempDir(), "letters")))
	mustRun(t, "run", "-c", config, "--until-end", "--log-level", "error")
	if o := mustRun(t, "dead-letters", "replay", "-c", config); o.stderr != "" || !strings.Contains(o.stdout, "0 dead letters were replayed, 1 are still bad") {
		t.Errorf("with the registry: %s%s", o.stdout, o.stderr)
	}
	fake.Close()
	ctx, stop := context.WithTimeout(t.Context(), commandLimit)
	defer stop()
	var stdout, stderr buffer
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"dead-letters", "replay", "-c", config}, &stdout, &stderr) }()
	for ctx.Err() == nil && !strings.Contains(stderr.String(), "the schema registry does not answer") {
		time.Sleep(10 * time.Millisecond)
	}
	if ctx.Err() != nil {
		t.Errorf("it waits without a word: %s", stderr.String())
	}
	stop()
	if code := <-ended; code == exitOK {
		t.Errorf("exit code %d: %s", code, stdout.String())
	}
}

// TestReplayOfARetiredStream: nothing of it lands any more (rule A1d), since another stream may have brought its topic again.
func TestReplayOfARetiredStream(t *testing.T) {
	r := newReplayable(t)
	mustRun(t, "retire", "-c", r.config, "--yes")
	if o := command(t, "dead-letters", "replay", "-c", r.config); o.code != exitRefused || !strings.Contains(o.stderr, "was retired") {
		t.Errorf("replay ends with %d: %s", o.code, o.stderr)
	}
	if o := mustRun(t, "verify", "-c", r.config); !strings.Contains(o.stdout, "70 rows (0 of them of no stream)") {
		t.Errorf("verify says %s", o.stdout)
	}
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

// TestReplayAfterARestoreToBeforeARewind: the dead letters of the generation that the table went back to are replayed, and none of the one that is gone,
// whose messages it has as rows or dead letters of its own.
func TestReplayAfterARestoreToBeforeARewind(t *testing.T) {
	r := newReplayable(t) // those of partition 0 can be rows by now at the offsets 2, 7, 12, ...
	tables, letters := replayStores(t, r)
	stands := newestOf(t, tables)
	mustRun(t, "rewind", "-c", r.config, "--to-offsets", "0=20", "--yes")
	mustRun(t, "run", "-c", r.config, "--until-end", "--log-level", "warn")
	takeBack(t, tables, "RESTORE", stands)
	mustRun(t, "rewind", "-c", r.config, "--to-table-version", fmt.Sprint(stands), "--yes")
	if o := mustRun(t, "dead-letters", "replay", "-c", r.config); !strings.Contains(o.stdout, "20 dead letters were replayed, 10 are still bad\n") {
		t.Errorf("replay says %s", o.stdout)
	}
	replayedOnce(t, tables, letters)
	if o := mustRun(t, "verify", "-c", r.config); !strings.Contains(o.stdout, "90 rows (0 of them of no stream)") {
		t.Errorf("verify says %s", o.stdout)
	}
}

// TestARestoreOfTheDeadLetterTable takes dead letters, which nobody brings again, and marks, without which letters would be replayed once more.
func TestARestoreOfTheDeadLetterTable(t *testing.T) {
	r := newReplayable(t)
	tables, letters := replayStores(t, r)
	verify := func(code int, says string) {
		t.Helper()
		if o := command(t, "verify", "-c", r.config); o.code != code || !strings.Contains(o.stdout, says) {
			t.Errorf("verify ends with %d, want %d: %s%s", o.code, code, o.stdout, o.stderr)
		}
	}
	run := func() outcome { return mustRun(t, "run", "-c", r.config, "--until-end", "--log-level", "warn") }
	const warning = "the dead-letter table was restored"
	withLetters := newestOf(t, letters)
	mustRun(t, "dead-letters", "replay", "-c", r.config)
	marked := newestOf(t, letters)
	takeBack(t, letters, "RESTORE", withLetters)
	verify(exitOK, ": ok\n") // they are all there
	o := command(t, "dead-letters", "replay", "-c", r.config)
	if o.code != exitRefused || !strings.Contains(o.stderr, "become rows once more") || !strings.Contains(o.stderr, fmt.Sprintf("to version %d ", marked)) {
		t.Errorf("replay ends with %d: %s", o.code, o.stderr)
	}
	if o := run(); !strings.Contains(o.stderr, warning) {
		t.Errorf("a start does not warn: %s", o.stderr)
	}
	bringBack(t, letters, marked)
	mustRun(t, "dead-letters", "replay", "-c", r.config)
	replayedOnce(t, tables, letters)
	if o := run(); strings.Contains(o.stderr, warning) {
		t.Errorf("a start warns of what was brought back: %s", o.stderr)
	}
	takeBack(t, letters, "RESTORE", 0)
	verify(exitFaults, "10 dead letters of offsets [0, 50) are not in the dead-letter table, and nobody brings them again")
	mustRun(t, "rewind", "-c", r.config, "--to", "earliest", "--yes") // has them read again
	run()
	verify(exitOK, ": ok\n")
}

// bringBack has another engine put all files of an earlier version back, as a RESTORE to it.
func bringBack(t *testing.T, store storage.Store, to int64) {
	t.Helper()
	version := newestOf(t, store)
	commit := fmt.Sprintf(`{"commitInfo":{"timestamp":%d,"operation":"RESTORE","operationParameters":{"version":%d}}}`+"\n", time.Now().UnixMilli(), to)
	has := map[string]bool{}
	for _, v := range []int64{version, to} {
		snap, err := delta.OpenSnapshot(t.Context(), store, v)
		if err != nil {
			t.Fatal(err)
		}
		for a, err := range snap.Files(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if v == to && !has[a.Path] {
				text, err := json.Marshal(map[string]any{"add": a})
				if err != nil {
					t.Fatal(err)
				}
				commit += string(text) + "\n"
			}
			has[a.Path] = true
		}
	}
	if err := store.PutIfAbsent(t.Context(), fmt.Sprintf("_delta_log/%020d.json", version+1), []byte(commit)); err != nil {
		t.Fatal(err)
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
	dead, err := openLetters(ctx, letters, c.DeadLetters.URI, false, nil, quiet, sink.Events{})
	if err != nil {
		return err
	}
	options, err := c.replayOptions(stream, dead, table, letters, admin.LetterFilter{Connector: c.Name, Partition: -1, Offset: -1}, messages, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if r.now != nil {
		options.Now = r.now
	}
	if r.decoders != nil {
		options.NewDecoder = r.decoders(options.NewDecoder)
	}
	options.LettersOfPart = r.part
	if read := options.Read; r.reads != nil {
		options.Read = func(ctx context.Context, visit func(*admin.Letter) bool) error {
			r.reads()
			return read(ctx, visit)
		}
	}
	_, err = c.replay(ctx, options)
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
	if o := mustRun(t, "settle", "--give-up", "-c", r.config); !strings.Contains(o.stdout, "dead letters of 0 partitions were given up") {
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

// TestRestoreThatTakesAReplay: RESTORE takes the rows of dead letters that were replayed, and leaves their marks. A rewind would lose them, and
// is refused until the marks are gone; then they are replayed again.
func TestRestoreThatTakesAReplay(t *testing.T) {
	r := newReplayable(t)
	tables, letters := replayStores(t, r)
	replay := func(want string) {
		t.Helper()
		if o := mustRun(t, "dead-letters", "replay", "-c", r.config); !strings.Contains(o.stdout, want) {
			t.Errorf("replay says %s, want %s", o.stdout, want)
		}
	}
	if o := mustRun(t, "dead-letters", "replay", "-c", r.config, "--partition", "0"); !strings.Contains(o.stdout, "10 dead letters were replayed") {
		t.Fatal(o.stdout)
	}
	stands := newestOf(t, tables)
	replay("10 dead letters were replayed")
	takeBack(t, tables, "RESTORE", stands)
	for _, to := range []string{"--to-table-version=" + fmt.Sprint(stands), "--to-offsets=0=50,1=50"} {
		o := command(t, "rewind", "-c", r.config, to, "--yes")
		if o.code != exitRefused || !strings.Contains(o.stderr, "it has taken the rows of 10 dead letters that were replayed") || !strings.Contains(o.stderr, "DELETE FROM") {
			t.Fatalf("%s: exit code %d: %s", to, o.code, o.stderr)
		}
	}
	mustRun(t, "rewind", "-c", r.config, "--to-offsets=0=50,1=50", "--force", "--dry-run")
	takeBack(t, letters, "DELETE", newestOf(t, letters)-1) // the marks of the second replay, as the refusal says
	mustRun(t, "rewind", "-c", r.config, "--to-table-version", fmt.Sprint(stands), "--yes")
	replay("10 dead letters were replayed, 10 are still bad")
	replayedOnce(t, tables, letters)
	mustRun(t, "run", "-c", r.config, "--until-end")
	replay("0 dead letters were replayed, 10 are still bad")
}

// TestRestoreThatTakesAReplayByAnotherClock: whoever has replayed first may have had a clock that is ahead of the second's. Replays are told from each
// other by their ids.
func TestRestoreThatTakesAReplayByAnotherClock(t *testing.T) {
	for name, behind := range map[string]time.Duration{"of the commits": 0, "of the marks too": time.Hour} {
		t.Run(name, func(t *testing.T) {
			r := newReplayable(t)
			tables, letters := replayStores(t, r)
			mustRun(t, "dead-letters", "replay", "-c", r.config, "--partition", "0")
			stands := newestOf(t, tables)
			commit := filepath.Join(r.table, "_delta_log", fmt.Sprintf("%020d.json", stands))
			text := regexp.MustCompile(`"lastUpdated":\d+`).ReplaceAllString(readAll(t, commit), fmt.Sprintf(`"lastUpdated":%d`, time.Now().Add(time.Hour).UnixMilli()))
			if err := os.WriteFile(commit, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			r.now = func() time.Time { return time.Now().Add(-behind) }
			if err := r.replayIn(t.Context(), t, tables, letters); err != nil {
				t.Fatal(err)
			}
			takeBack(t, tables, "RESTORE", stands)
			want := "time >= TIMESTAMP '"
			if behind > 0 {
				want = "(partition, `offset`, generation) IN ((1, "
			}
			o := command(t, "rewind", "-c", r.config, "--to-table-version", fmt.Sprint(stands), "--yes")
			if o.code != exitRefused || !strings.Contains(o.stderr, "it has taken the rows of 10 dead letters that were replayed") || !strings.Contains(o.stderr, want) || strings.Contains(o.stderr, "(0, ") {
				t.Errorf("exit code %d: %s, want %s", o.code, o.stderr, want)
			}
		})
	}
}

// TestRestoreThatTakesAReplayUnmarked: nor are rows of a replay lost whose marks come only after the RESTORE, nor where nothing tells what it took.
func TestRestoreThatTakesAReplayUnmarked(t *testing.T) {
	r := newReplayable(t)
	tables, store := replayStores(t, r)
	letters := faultstore.New(store)
	letters.SetPlan(func(op faultstore.Op) faultstore.Action {
		if strings.HasPrefix(op.Name, "_delta_log/") && op.Method == faultstore.MethodPutIfAbsent {
			return faultstore.Fail(fs.ErrPermission)
		}
		return faultstore.Pass()
	})
	stands := newestOf(t, tables)
	if err := r.replayIn(t.Context(), t, tables, letters); err == nil {
		t.Fatal("the replay comes to its end")
	}
	takeBack(t, tables, "RESTORE", stands)
	refused := func(want string, args ...string) {
		t.Helper()
		if o := command(t, append([]string{"rewind", "--yes"}, args...)...); o.code != exitRefused || !strings.Contains(o.stderr, want) {
			t.Errorf("exit code %d: %s, want %s", o.code, o.stderr, want)
		}
	}
	to := fmt.Sprintf("--to-table-version=%d", stands)
	refused("the last dead letters that were replayed before that are not marked yet; run `connector settle`", "-c", r.config, to)
	mustRun(t, "settle", "-c", r.config)
	refused("it has taken the rows of 20 dead letters", "-c", r.config, to)
	text, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	without := regexp.MustCompile(`(?m)^(on_error|dead_letters):.*$`).ReplaceAllString(string(text), "")
	refused("name their table in dead_letters.uri", "-c", file(t, "without.yaml", without), to)
	restore := filepath.Join(r.table, "_delta_log", fmt.Sprintf("%020d.json", newestOf(t, tables)))
	commit, err := os.ReadFile(restore)
	if err == nil {
		err = os.WriteFile(restore, []byte(strings.Replace(string(commit), `"operationParameters"`, `"other"`, 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	refused("nothing tells whether it has taken rows of dead letters", "-c", r.config, "--to-offsets=0=50,1=50")
}

func replayStores(t *testing.T, r replayable) (table, letters storage.Store) {
	t.Helper()
	table, err1 := local.New(r.table)
	letters, err2 := local.New(r.letters)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return table, letters
}

func newestOf(t *testing.T, store storage.Store) int64 {
	t.Helper()
	snap, err := delta.OpenSnapshot(t.Context(), store, -1)
	if err != nil {
		t.Fatal(err)
	}
	return snap.Version()
}

// takeBack commits what another engine does that takes back the files that were added after a version.
func takeBack(t *testing.T, store storage.Store, operation string, to int64) {
	t.Helper()
	remove(t, store, operation, newestOf(t, store), to)
}

// remove has another engine remove the files that a version has and an earlier one has not; -1: has none.
func remove(t *testing.T, store storage.Store, operation string, of, to int64) {
	t.Helper()
	version := newestOf(t, store)
	commit := fmt.Sprintf(`{"commitInfo":{"timestamp":%d,"operation":%q,"operationParameters":{"version":%d}}}`+"\n", time.Now().UnixMilli(), operation, to)
	files := map[string]bool{}
	for _, v := range []int64{to, of} {
		if v < 0 {
			continue
		}
		snap, err := delta.OpenSnapshot(t.Context(), store, v)
		if err != nil {
			t.Fatal(err)
		}
		for a, err := range snap.Files(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if v == of && !files[a.Path] {
				commit += fmt.Sprintf(`{"remove":{"path":%q,"deletionTimestamp":%d,"dataChange":true}}`+"\n", a.Path, time.Now().UnixMilli())
			}
			files[a.Path] = true
		}
	}
	if err := store.PutIfAbsent(t.Context(), fmt.Sprintf("_delta_log/%020d.json", version+1), []byte(commit)); err != nil {
		t.Fatal(err)
	}
}

// TestVerifyTellsRowsFromReplayedOnes: rows that are gone don't hide behind those that dead letters of the same spans have become.
func TestVerifyTellsRowsFromReplayedOnes(t *testing.T) {
	r := newReplayable(t)
	tables, _ := replayStores(t, r)
	before := newestOf(t, tables)
	mustRun(t, "dead-letters", "replay", "-c", r.config)
	replayedAt := newestOf(t, tables)
	wantLost := func(deleted, found int64) {
		t.Helper()
		report, err := admin.Verify(t.Context(), tables, admin.Options{Since: -1, Until: -1})
		if err != nil || report.Verdict != admin.OK {
			t.Fatalf("%+v, %v", report, err)
		}
		var gotDeleted, gotFound int64
		for _, p := range report.Partitions {
			gotDeleted, gotFound = gotDeleted+p.Deleted, gotFound+p.RowsFound
		}
		if gotDeleted != deleted || gotFound != found {
			t.Errorf("verify counts %d rows that others have deleted and %d that are there, want %d and %d", gotDeleted, gotFound, deleted, found)
		}
	}
	wantLost(0, 90)
	remove(t, tables, "DELETE", before, -1) // the rows of the stream, and not those of the replay
	wantLost(70, 20)
	remove(t, tables, "DELETE", replayedAt, before)
	wantLost(70, 0)
}

// TestReplayOfManyParts: the dead-letter table is read once for all of them, and once more for what has come meanwhile.
func TestReplayOfManyParts(t *testing.T) {
	r := newReplayable(t)
	reads := 0
	r.part, r.reads = 3, func() { reads++ }
	table, letters := replayStores(t, r)
	begin := newestOf(t, table)
	if err := r.replayIn(t.Context(), t, table, letters); err != nil {
		t.Fatal(err)
	}
	replayedOnce(t, table, letters)
	if commits := newestOf(t, table) - begin; reads != 2 || commits < 7 {
		t.Errorf("the table was read %d times for %d commits", reads, commits)
	}
}

// TestTwoReplaysAtOnce has another replay run to its end at each operation of the first one, which has several parts.
func TestTwoReplaysAtOnce(t *testing.T) {
	r := newReplayable(t)
	r.part = 11
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

// unregistered is a stream that has run over five messages of three schemas, of which its registry had the first alone: those of the others are dead letters, until register is called.
func unregistered(t *testing.T, uri, letters string, fifth map[string]any, ofFifth int) (config string, register func()) {
	t.Helper()
	record := func(fields string) string {
		return `{"type":"record","name":"r","fields":[{"name":"id","type":"long"}` + fields + `]}`
	}
	schemas := []string{
		record(`,{"name":"x","type":"float"}`),
		record(`,{"name":"x","type":"float"},{"name":"note","type":"string"}`),
		record(`,{"name":"x","type":"double"}`), // FLOAT to DOUBLE: what was written before is written anew
	}
	fake, client := fakeRegistry(t)
	one := func(i int) {
		if s, err := client.CreateSchema(t.Context(), "events-value", sr.Schema{Schema: schemas[i]}); err != nil || s.ID != i+1 {
			t.Fatal(s.ID, err)
		}
	}
	one(0)
	cluster := kafkatest.Start(t, "events", 1)
	var messages [][]byte
	for i, values := range []map[string]any{
		{"id": 1, "x": 10.0}, {"id": 2, "x": 20.0, "note": "two"}, {"id": 3, "x": 30.1}, {"id": 4, "x": 40.0, "note": "four"}, fifth,
	} {
		of := []int{0, 1, 2, 1, ofFifth}[i]
		messages = append(messages, encoded(t, of+1, schemas[of], values))
	}
	kafkatest.Produce(t, cluster.ListenAddrs(), "events", 1, messages)
	config = file(t, "c.yaml", fmt.Sprintf(`name: events
source: {brokers: [%q], topic: events, format: avro, schema_registry: {urls: [%q]}}
table: {uri: %q, schema_evolution: add_and_widen, properties: {delta.enableTypeWidening: "true"}}
on_error: dead_letter
dead_letters: {uri: %q}
http: {listen: "off"}
`, cluster.ListenAddrs()[0], fake.URL(), uri, letters))
	mustRun(t, "run", "-c", config, "--until-end")
	return config, func() {
		one(1)
		one(2)
	}
}

// TestReplayFollowsSchemas: letters of schemas that the registry did not know become rows with all that these bring, once it does; the table
// gets the columns and the wider types with them, also where what was written before them has to be written anew.
func TestReplayFollowsSchemas(t *testing.T) {
	config, register := unregistered(t, filepath.Join(t.TempDir(), "table"), filepath.Join(t.TempDir(), "letters"), map[string]any{"id": 5, "x": 50.0}, 0)
	if o := mustRun(t, "dead-letters", "replay", "-c", config); !strings.Contains(o.stdout, "0 dead letters were replayed, 3 are still bad") {
		t.Fatalf("replay of what is not registered says %s", o.stdout)
	}
	register()
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
