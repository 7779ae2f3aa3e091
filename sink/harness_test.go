package sink_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	arrowmemory "github.com/apache/arrow-go/v18/arrow/memory"
	"go.uber.org/goleak"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/storage/faultstore"
	"kafkadelta/storage/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	stream = "events"
	topic  = "topic"
)

var identity = checkpoint.Identity{ClusterID: "cluster", TopicID: "topic-id"}

// bench is a store with one table in it, and writers on it.
type bench struct {
	t       *testing.T
	memory  *memory.Store
	store   *faultstore.Store
	columns string
	cfg     sink.Config

	name         string       // of the stream that open opens; "" stands for the usual one
	filtered     bool         // it leaves messages out by a filter
	limit        int64        // sink.Options.Memory; 0 for none
	materialized bool         // the data files are to hold the partition columns
	passed       atomic.Int64 // nanoseconds that the writers' clock is ahead
}

// now is the writers' clock.
func (b *bench) now() time.Time { return time.Now().Add(time.Duration(b.passed.Load())) }

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, memory: memory.New(), columns: "n BIGINT", cfg: sink.DefaultConfig()}
	b.store = faultstore.New(b.memory)
	b.cfg.URI, b.cfg.Parquet.Compression = "memory://table", "none" // the zstd library keeps channels between bubbles
	return b
}

// within is the memory of a table that has so much; nil for 0.
func within(limit int64) func() int64 {
	if limit == 0 {
		return nil
	}
	return func() int64 { return limit }
}

// open is one process's view of the table, on the store decorator given or the bench's own.
func (b *bench) open(stores ...delta.LogStore) *sink.Table {
	b.t.Helper()
	var store delta.LogStore = b.store
	if len(stores) > 0 {
		store = stores[0]
	}
	schema, err := delta.ParseDDL(b.columns)
	b.check(err)
	table, err := sink.Open(b.t.Context(), store, b.cfg, sink.Options{
		Name: cmp.Or(b.name, stream), Filtered: b.filtered, Create: schema, Engine: "kafkadelta/test", Memory: within(b.limit), Now: b.now, Log: slog.New(slog.DiscardHandler),
	})
	b.check(err)
	return table
}

// owner opens the table, pins `partitions` partitions and claims them all.
func (b *bench) owner(partitions int32) *sink.Table {
	b.t.Helper()
	table := b.open()
	b.check(table.Pin(b.t.Context(), pins(partitions)))
	b.claim(table, ids(partitions)...)
	return table
}

func ids(partitions int32) []int32 {
	var all []int32
	for p := range partitions {
		all = append(all, p)
	}
	return all
}

func pins(partitions int32) sink.PinRequest { return pinsAt(partitions, 0) }

func partition(id int32) checkpoint.Partition { return checkpoint.Partition{Topic: topic, ID: id} }

func (b *bench) claim(table *sink.Table, ids ...int32) map[int32]int64 {
	b.t.Helper()
	var parts []checkpoint.Partition
	for _, id := range ids {
		parts = append(parts, partition(id))
	}
	next, err := table.Claim(b.t.Context(), parts)
	b.check(err)
	byID := map[int32]int64{}
	for p, at := range next {
		byID[p.ID] = at.Next
	}
	return byID
}

func (b *bench) check(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func span(id int32, first, rows int64) checkpoint.Span {
	return checkpoint.Span{Partition: partition(id), First: first, Next: first + rows, Records: rows, Rows: rows}
}

// unit writes one file with as many rows as the spans tell. Column n counts from the first span's first offset.
func (b *bench) unit(table *sink.Table, spans ...checkpoint.Span) *sink.Unit {
	b.t.Helper()
	layout, err := table.Layout(b.t.Context())
	b.check(err)
	return b.unitFor(table, layout, spans...)
}

func (b *bench) unitFor(table *sink.Table, layout *sink.Layout, spans ...checkpoint.Span) *sink.Unit {
	b.t.Helper()
	rows := int64(0)
	for _, s := range spans {
		rows += s.Rows
	}
	w := table.NewWriter(layout)
	rb := numbers(layout.Schema, spans[0].First, rows)
	defer rb.Release()
	b.check(w.Write(b.t.Context(), rb))
	u, err := w.Finish(spans)
	b.check(err)
	return u
}

// numbers is a batch whose first column counts, and whose others are null.
func numbers(schema *arrow.Schema, first, rows int64) arrow.RecordBatch {
	builder := array.NewRecordBuilder(arrowmemory.DefaultAllocator, schema)
	defer builder.Release()
	for i := range rows {
		builder.Field(0).(*array.Int64Builder).Append(first + i)
		for c := 1; c < schema.NumFields(); c++ {
			builder.Field(c).AppendNull()
		}
	}
	return builder.NewRecordBatch()
}

func (b *bench) commit(table *sink.Table, units ...*sink.Unit) {
	b.t.Helper()
	b.check(table.Commit(b.t.Context(), units))
}

func (b *bench) want(u *sink.Unit, state sink.State) {
	b.t.Helper()
	if got := u.State(); got != state {
		b.t.Fatalf("the unit is %v, want %v", got, state)
	}
}

// foreign makes the next version, as another writer would.
func (b *bench) foreign(lines ...string) {
	b.t.Helper()
	b.check(b.memory.PutIfAbsent(b.t.Context(), logFile(b.version()+1), []byte(strings.Join(lines, "\n")+"\n")))
}

func logFile(version int64) string { return fmt.Sprintf("_delta_log/%020d.json", version) }

func txnLine(id int32, version int64) string {
	return fmt.Sprintf(`{"txn":{"appId":%q,"version":%d}}`, checkpoint.AppID(stream, id), version)
}

func (b *bench) snapshot() *delta.Snapshot {
	b.t.Helper()
	s, err := delta.OpenSnapshot(b.t.Context(), b.memory, -1)
	b.check(err)
	return s
}

func (b *bench) version() int64 { b.t.Helper(); return b.snapshot().Version() }

func (b *bench) txn(id int32) int64 {
	b.t.Helper()
	txn, ok := b.snapshot().Txn(checkpoint.AppID(stream, id))
	if !ok {
		b.t.Fatalf("the table has no txn of partition %d", id)
	}
	return txn.Version
}

// alter puts a metaData action as another writer's ALTER TABLE would.
func (b *bench) alter(change func(*delta.Metadata), actions ...string) {
	b.t.Helper()
	meta := b.snapshot().Metadata()
	change(&meta)
	line, err := json.Marshal(map[string]any{"metaData": meta})
	b.check(err)
	b.foreign(append(actions, `{"commitInfo":{"operation":"ALTER TABLE"}}`, string(line))...)
}

// removeAll are the actions that take all files away.
func (b *bench) removeAll() []string {
	b.t.Helper()
	var lines []string
	for add, err := range b.snapshot().Files(b.t.Context()) {
		b.check(err)
		lines = append(lines, fmt.Sprintf(`{"remove":{"path":%q,"deletionTimestamp":1,"dataChange":true}}`, add.Path))
	}
	return lines
}

// columnsTo is a change of the schema to these columns.
func (b *bench) columnsTo(columns string) func(*delta.Metadata) {
	return func(m *delta.Metadata) {
		schema, err := delta.ParseDDL(columns)
		b.check(err)
		m.SchemaString, err = delta.SchemaToJSON(schema)
		b.check(err)
	}
}

// files are the data files in the store, whether a version names them or not.
func (b *bench) files() []string {
	b.t.Helper()
	var names []string
	for o, err := range b.memory.List(b.t.Context(), "", "") {
		b.check(err)
		if !strings.HasPrefix(o.Name, "_delta_log/") {
			names = append(names, o.Name)
		}
	}
	return names
}

func (b *bench) object(name string) []byte {
	b.t.Helper()
	r, err := b.memory.Get(b.t.Context(), name, 0, -1)
	b.check(err)
	data, err := io.ReadAll(r)
	b.check(err)
	return data
}

// consistent checks that every file that the table names is there, and returns the number of rows.
func (b *bench) consistent() (rows int64) {
	b.t.Helper()
	for add, err := range b.snapshot().Files(b.t.Context()) {
		b.check(err)
		name, err := delta.DecodePath(add.Path)
		b.check(err)
		if _, err := b.memory.Get(b.t.Context(), name, 0, -1); errors.Is(err, fs.ErrNotExist) {
			b.t.Errorf("the table names %s, which is gone", name)
		}
		n, _ := add.NumRecords()
		rows += n
	}
	return rows
}

func isPut(op faultstore.Op) bool { return op.Method == faultstore.MethodPutIfAbsent }

// beforePut calls f once, before the next put of a version reaches the store.
func (b *bench) beforePut(f func()) {
	done := false
	b.store.SetHook(func(op faultstore.Op) {
		if isPut(op) && path.Ext(op.Name) == ".json" && !done {
			done = true
			f()
		}
	})
}

// pinsAt describes a topic whose partitions begin at the offset.
func pinsAt(partitions int32, start int64) sink.PinRequest {
	return sink.PinRequest{
		Topic: topic, Identity: identity, Partitions: partitions, Reported: reported(nil),
		Starts: func(context.Context, bool) (map[int32]int64, error) {
			starts := map[int32]int64{}
			for p := range partitions {
				starts[p] = start
			}
			return starts, nil
		},
	}
}

// reported is a group that has reported these offsets.
func reported(offsets map[int32]int64) func(context.Context) (map[int32]int64, error) {
	return func(context.Context) (map[int32]int64, error) { return offsets, nil }
}
