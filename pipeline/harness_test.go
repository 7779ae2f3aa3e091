package pipeline_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	arrowmemory "github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"kafkadelta/checkpoint"
	compute "kafkadelta/columns"
	"kafkadelta/decode"
	decodejson "kafkadelta/decode/json"
	"kafkadelta/delta"
	"kafkadelta/internal/kafkatest"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
	"kafkadelta/source"
	"kafkadelta/storage"
	"kafkadelta/storage/faultstore"
	"kafkadelta/storage/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	stream  = "events"
	topic   = "events-topic"
	columns = "n BIGINT NOT NULL, text STRING"
)

// place is where a message is in the topic.
type place struct {
	partition int32
	offset    int64
}

// world is a Kafka, a store, and what a test has produced. Mostly it is inside of a synctest bubble, so that waiting is free.
type world struct {
	t       *testing.T
	kafka   *kafkatest.Virtual
	memory  *memory.Store
	store   *faultstore.Store // over memory
	client  *kgo.Client
	want    map[place]int64 // column n of every message that must become a row
	next    int64           // the next value of n
	logs    *logBuffer
	columns string
	limit   time.Duration // of what a test waits for
	poll    time.Duration // how often it looks
}

// parallelWorld runs f in a world of its own in real time, beside others. A group of several workers cannot be in a bubble: the
// Kafka client waits with a mutex for a join to end before it reports offsets, and a bubble's clock stands still meanwhile.
func parallelWorld(t *testing.T, partitions int32, f func(w *world), opts ...kfake.Opt) {
	t.Helper()
	t.Parallel()
	w := newWorld(t, partitions, opts...)
	w.limit, w.poll = time.Minute, 20*time.Millisecond
	f(w)
}

// scenario runs f in a bubble with a world of its own.
func scenario(t *testing.T, partitions int32, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newWorld(t, partitions)) })
}

// scenarioOf is a scenario on a Kafka with options.
func scenarioOf(t *testing.T, partitions int32, f func(w *world), opts ...kfake.Opt) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newWorld(t, partitions, opts...)) })
}

func newWorld(t *testing.T, partitions int32, opts ...kfake.Opt) *world {
	t.Helper()
	w := &world{t: t, logs: &logBuffer{}, memory: memory.New(), want: map[place]int64{}, columns: columns, limit: 30 * time.Minute, poll: 500 * time.Millisecond}
	w.store = faultstore.New(w.memory)
	w.kafka = kafkatest.StartVirtual(t, topic, partitions, opts...)
	w.client = w.kafka.Client()
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("log of the workers:\n" + w.logs.tail())
		}
	})
	return w
}

// newWorldOn is another store on the same Kafka.
func newWorldOn(w *world) *world {
	other := *w
	other.memory = memory.New()
	other.store = faultstore.New(other.memory)
	return &other
}

// logBuffer keeps the workers' log for the report of a failure.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *logBuffer) tail() string {
	s := b.String()
	if len(s) > 12_000 {
		s = "..." + s[len(s)-12_000:]
	}
	return s
}

// message is a message that becomes a row.
func (w *world) message(partition int32) *kgo.Record {
	w.next++
	return &kgo.Record{Topic: topic, Partition: partition, Value: fmt.Appendf(nil, `{"n": %d, "text": "message %d"}`, w.next, w.next)}
}

// produce sends n messages to the partition; all of them must become rows.
func (w *world) produce(partition int32, n int) {
	w.t.Helper()
	first := w.next + 1
	records := make([]*kgo.Record, n)
	for i := range records {
		records[i] = w.message(partition)
	}
	kafkatest.ProduceTo(w.t, w.client, records)
	for i, r := range records {
		w.want[place{r.Partition, r.Offset}] = first + int64(i)
	}
}

// produceAll sends n messages to each partition.
func (w *world) produceAll(partitions int32, n int) {
	w.t.Helper()
	for p := range partitions {
		w.produce(p, n)
	}
}

// produceRaw sends one value that must not become a row, and returns its offset.
func (w *world) produceRaw(partition int32, value string) int64 {
	w.t.Helper()
	r := &kgo.Record{Topic: topic, Partition: partition, Value: []byte(value)}
	kafkatest.ProduceTo(w.t, w.client, []*kgo.Record{r})
	return r.Offset
}

// setup is what one worker is made of; tests change it before it starts.
type setup struct {
	pipeline.Options
	store    storage.Store
	sink     sink.Config
	columns  string
	limit    func() int64 // sink.Options.Memory
	filtered bool         // sink.Options.Filtered
}

// worker is one running pipeline.
type worker struct {
	w      *world
	cancel context.CancelFunc
	done   chan struct{}
	err    error
	*pipeline.Metrics
}

func (w *world) start(change ...func(*setup)) *worker {
	w.t.Helper()
	s := &setup{store: w.store, sink: sink.DefaultConfig(), columns: w.columns}
	s.sink.URI, s.sink.Parquet.Compression = "memory://table", "none" // the zstd library keeps channels between bubbles
	s.Options = pipeline.Options{
		Config: pipeline.DefaultConfig(), Name: stream, Source: source.DefaultConfig(), Now: time.Now,
		ClientOptions: []kgo.Opt{w.kafka.Dialer()},
		Log:           slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics:       pipeline.NewMetrics(stream, time.Now),
	}
	s.Options.Source.Brokers, s.Options.Source.Topic = w.kafka.ListenAddrs(), topic
	s.Flush.Interval, s.Lanes = time.Second, 2
	for _, c := range change {
		c(s)
	}
	if s.OpenTable == nil {
		s.OpenTable = func(ctx context.Context, events sink.Events) (*sink.Table, error) {
			return sink.Open(ctx, s.store, s.sink, sink.Options{
				Name: s.Name, Create: createSchema(w.t, s.columns), Engine: "kafkadelta/test", Memory: s.limit, Filtered: s.filtered, Now: time.Now, Log: s.Log, Events: events,
			})
		}
	}
	if s.NewDecoder == nil {
		s.NewDecoder = newDecoder
	}
	ctx, cancel := context.WithCancel(context.Background())
	k := &worker{w: w, cancel: cancel, done: make(chan struct{}), Metrics: s.Metrics}
	go func() {
		defer close(k.done)
		k.err = pipeline.Run(ctx, s.Options)
	}()
	w.t.Cleanup(func() { cancel(); <-k.done })
	return k
}

func createSchema(t testing.TB, columns string) *arrow.Schema {
	t.Helper()
	schema, err := delta.ParseDDL(columns)
	if err != nil {
		t.Fatal(err)
	}
	field, _ := decode.MetadataConfig{}.Field()
	return arrow.NewSchema(append(schema.Fields(), field), nil)
}

func newDecoder(layout *sink.Layout) (pipeline.Decoder, *compute.Plan, error) {
	var defaults []decode.Default
	for _, d := range layout.Rules.Defaults() {
		defaults = append(defaults, decode.Default{Column: d.Column, Value: d.Value})
	}
	plan, err := decode.NewPlan(layout.Schema, decode.Config{}, defaults...)
	if err != nil {
		return nil, nil, err
	}
	return decodejson.New(plan), nil, nil
}

// wait returns the error that the worker ended with.
func (k *worker) wait() error {
	k.w.t.Helper()
	select {
	case <-k.done:
		return k.err
	case <-time.After(k.w.limit):
		k.w.t.Fatalf("the worker did not end within %v", k.w.limit)
		return nil
	}
}

// stop asks for a stop and waits for it.
func (k *worker) stop() {
	k.w.t.Helper()
	k.cancel()
	if err := k.wait(); err != nil {
		k.w.t.Fatalf("stopping a worker: %v", err)
	}
}

// running fails the test if the worker has ended.
func (k *worker) running() {
	k.w.t.Helper()
	select {
	case <-k.done:
		k.w.t.Fatalf("the worker has ended: %v", k.err)
	default:
	}
}

// untilEnd runs one worker up to the present end of the topic.
func (w *world) untilEnd(change ...func(*setup)) *worker {
	w.t.Helper()
	k := w.start(append([]func(*setup){func(s *setup) { s.UntilEnd = true }}, change...)...)
	if err := k.wait(); err != nil {
		w.t.Fatalf("running to the end: %v", err)
	}
	return k
}

// eventually waits until the condition holds.
func (w *world) eventually(what string, condition func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(w.limit); !condition(); time.Sleep(w.poll) {
		if time.Now().After(deadline) {
			w.t.Fatalf("not within %v: %s", w.limit, what)
		}
	}
}

// landed waits until the table holds as many rows as must be there.
func (w *world) landed() {
	w.t.Helper()
	w.eventually(fmt.Sprintf("the table holds %d rows", len(w.want)), func() bool {
		snapshot, err := delta.OpenSnapshot(w.t.Context(), w.memory, -1)
		if errors.Is(err, fs.ErrNotExist) {
			return false
		}
		w.check(err)
		totals, err := snapshot.Totals(w.t.Context())
		w.check(err)
		return totals.Rows >= int64(len(w.want))
	})
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// version is the table's newest version.
func (w *world) version() int64 {
	w.t.Helper()
	snapshot, err := delta.OpenSnapshot(w.t.Context(), w.memory, -1)
	w.check(err)
	return snapshot.Version()
}

// txn is the last offset that the table holds of a partition.
func (w *world) txn(partition int32) int64 {
	w.t.Helper()
	snapshot, err := delta.OpenSnapshot(w.t.Context(), w.memory, -1)
	w.check(err)
	txn, ok := snapshot.Txn(checkpoint.AppID(stream, partition))
	if !ok {
		w.t.Fatalf("the table has no txn of partition %d", partition)
	}
	return txn.Version
}

// exactlyOnce reads the table back and compares it with what was produced, and its log with its rows.
func (w *world) exactlyOnce() {
	w.t.Helper()
	rows := w.rows()
	for at, n := range w.want {
		switch got := rows[at]; {
		case len(got) == 0:
			w.t.Errorf("partition %d offset %d is missing", at.partition, at.offset)
		case len(got) > 1:
			w.t.Errorf("partition %d offset %d is there %d times", at.partition, at.offset, len(got))
		case got[0] != n:
			w.t.Errorf("partition %d offset %d has n = %d, want %d", at.partition, at.offset, got[0], n)
		}
	}
	for at := range rows {
		if _, ok := w.want[at]; !ok {
			w.t.Errorf("partition %d offset %d must not be in the table", at.partition, at.offset)
		}
	}
	w.spansTile()
	if w.t.Failed() {
		w.t.FailNow()
	}
}

// rows reads column n of all rows by their place.
func (w *world) rows() map[place][]int64 {
	w.t.Helper()
	snapshot, err := delta.OpenSnapshot(w.t.Context(), w.memory, -1)
	w.check(err)
	rows := map[place][]int64{}
	for add, err := range snapshot.Files(w.t.Context()) {
		w.check(err)
		name, err := delta.DecodePath(add.Path)
		w.check(err)
		table, err := pqarrow.ReadTable(w.t.Context(), bytes.NewReader(w.object(name)), parquet.NewReaderProperties(nil), pqarrow.ArrowReadProperties{}, arrowmemory.DefaultAllocator)
		w.check(err)
		reader := array.NewTableReader(table, 0)
		for reader.Next() {
			rb := reader.RecordBatch()
			schema := rb.Schema()
			n := rb.Column(schema.FieldIndices("n")[0]).(*array.Int64)
			meta := rb.Column(schema.FieldIndices("_kafka")[0]).(*array.Struct)
			fields := meta.DataType().(*arrow.StructType)
			index := func(name string) int { i, _ := fields.FieldIdx(name); return i }
			partition, offset := meta.Field(index("partition")).(*array.Int32), meta.Field(index("offset")).(*array.Int64)
			for i := range int(rb.NumRows()) {
				at := place{partition.Value(i), offset.Value(i)}
				rows[at] = append(rows[at], n.Value(i))
			}
		}
		reader.Release()
		table.Release()
	}
	return rows
}

func (w *world) object(name string) []byte {
	w.t.Helper()
	r, err := w.memory.Get(w.t.Context(), name, 0, -1)
	w.check(err)
	data, err := io.ReadAll(r)
	w.check(err)
	return data
}

// logLine is what one line of a version may hold, as far as the tests look.
type logLine struct {
	CommitInfo map[string]json.RawMessage `json:"commitInfo"`
	Txn        *delta.Txn                 `json:"txn"`
	Add        *delta.Add                 `json:"add"`
	MetaData   *delta.Metadata            `json:"metaData"`
}

func (w *world) logLines(version int64) []logLine {
	w.t.Helper()
	var lines []logLine
	for text := range strings.Lines(string(w.object(fmt.Sprintf("_delta_log/%020d.json", version)))) {
		var l logLine
		w.check(json.Unmarshal([]byte(text), &l))
		lines = append(lines, l)
	}
	return lines
}

// units are those of a version.
func (w *world) units(version int64) (units []checkpoint.UnitRecord) {
	w.t.Helper()
	for _, l := range w.logLines(version) {
		if value, ok := l.CommitInfo[checkpoint.CommitInfoKey]; ok {
			record, err := checkpoint.DecodeCommit(value)
			w.check(err)
			units = append(units, record.Units...)
		}
	}
	return units
}

// spansTile checks the whole log: the spans of each partition follow each other without a hole, every txn is the end of a
// span, the tags of each file say the same as its commitInfo, and the files hold the rows that the spans tell.
func (w *world) spansTile() {
	w.t.Helper()
	next := map[int32]int64{} // by partition
	for v := range w.version() + 1 {
		units, txns, rows := map[string]checkpoint.UnitRecord{}, map[string]int64{}, map[string]int64{}
		for _, u := range w.units(v) {
			units[u.Unit] = u
		}
		for _, l := range w.logLines(v) {
			if l.Txn != nil {
				txns[l.Txn.AppID] = l.Txn.Version
			}
			if l.Add != nil {
				tag, err := checkpoint.DecodeUnit(l.Add.Tags[checkpoint.TagKey])
				w.check(err)
				if u := units[tag.Unit]; fmt.Sprint(u) != fmt.Sprint(tag) {
					w.t.Errorf("version %d: a file's tag says %v, commitInfo says %v", v, tag, u)
				}
				n, _ := l.Add.NumRecords()
				rows[tag.Unit] += n
			}
		}
		moved := map[int32]bool{}
		for _, u := range w.units(v) {
			id := u.Unit
			var told int64
			for _, s := range u.Spans {
				told += s.Rows
				at, known := next[s.ID]
				if known && at != s.First {
					w.t.Errorf("version %d: the span of partition %d begins at %d, the one before ends at %d", v, s.ID, s.First, at)
				}
				if !known && !u.Pin {
					w.t.Errorf("version %d: partition %d was never pinned", v, s.ID)
				}
				next[s.ID], moved[s.ID] = s.Next, true
			}
			if rows[id] != told {
				w.t.Errorf("version %d: the files of unit %s hold %d rows, its spans tell %d", v, id, rows[id], told)
			}
		}
		for p := range moved {
			if got, ok := txns[checkpoint.AppID(stream, p)]; !ok || got != next[p]-1 {
				w.t.Errorf("version %d: the txn of partition %d is %d, its span ends at %d", v, p, got, next[p])
			}
		}
	}
}

func jsonOf(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// schemaJSON is the schema of a table with these columns and the metadata column.
func schemaJSON(t testing.TB, columns string) string {
	t.Helper()
	js, err := delta.SchemaToJSON(createSchema(t, columns))
	if err != nil {
		t.Fatal(err)
	}
	return js
}
