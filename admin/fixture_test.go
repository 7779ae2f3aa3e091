package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	arrowmemory "github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/sink/datafile"
	"kafkadelta/storage/memory"
)

const (
	stream = "events"
	topic  = "topic"
)

var identity = checkpoint.Identity{ClusterID: "cluster", TopicID: "topic-id"}

// place is what the metadata column tells of a row.
type place struct {
	partition int32
	offset    int64
}

// fixture is a table that the real sink fills.
type fixture struct {
	lost  int64 // of the gaps in each span that is committed next
	t     *testing.T
	store *memory.Store
	table *sink.Table
	name  string
	topic string
	rows  map[string][]place // by data file
}

// setup says what a fixture's table is like.
type setup struct {
	columns     string // default "n BIGINT" with the metadata column
	partitionBy []string
	properties  map[string]string
	partitions  int32 // default 2
	start       int64
	name        string // default stream
	filtered    bool   // it leaves messages out
}

const withMetadata = "n BIGINT, _kafka STRUCT<topic: STRING, partition: INT, offset: BIGINT, timestamp: TIMESTAMP>"

func newFixture(t *testing.T, s setup) *fixture {
	t.Helper()
	if s.columns == "" {
		s.columns = withMetadata
	}
	f := &fixture{t: t, store: memory.New(), name: stream, topic: topic, rows: map[string][]place{}}
	f.open(s)
	return f
}

// open opens the table for a stream, and claims the partitions of it.
func (f *fixture) open(s setup) {
	f.t.Helper()
	if s.partitions == 0 {
		s.partitions = 2
	}
	if s.name != "" {
		f.name = s.name
	}
	table := f.openTable(s)
	starts := map[int32]int64{}
	var parts []checkpoint.Partition
	for p := range s.partitions {
		starts[p] = s.start
		parts = append(parts, checkpoint.Partition{Topic: topic, ID: p})
	}
	request := pinRequest(s.partitions)
	request.Starts = func(context.Context, bool) (map[int32]int64, error) { return starts, nil }
	f.check(table.Pin(f.t.Context(), request))
	_, err := table.Claim(f.t.Context(), parts)
	f.check(err)
	f.table = table
}

// openTable opens the table alone.
func (f *fixture) openTable(s setup) *sink.Table {
	f.t.Helper()
	cfg := sink.DefaultConfig()
	cfg.URI, cfg.Parquet.Compression, cfg.PartitionBy, cfg.Properties = "memory://table", "none", s.partitionBy, s.properties
	var schema *arrow.Schema
	if s.columns != "" {
		var err error
		schema, err = delta.ParseDDL(s.columns)
		f.check(err)
	}
	table, err := sink.Open(f.t.Context(), f.store, cfg, sink.Options{
		Name: f.name, Filtered: s.filtered, Create: schema, Engine: "kafkadelta/test", Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	f.check(err)
	return table
}

// pinRequest describes the topic, whose partitions begin at 0.
func pinRequest(partitions int32) sink.PinRequest {
	return sink.PinRequest{
		Topic: topic, Identity: identity, Partitions: partitions,
		Reported: func(context.Context) (map[int32]int64, error) { return nil, nil },
		Starts: func(context.Context, bool) (map[int32]int64, error) {
			starts := map[int32]int64{}
			for p := range partitions {
				starts[p] = 0
			}
			return starts, nil
		},
	}
}

func (f *fixture) check(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// take is what a unit takes of a partition: the offsets [first, next), of which those in rows become rows, and so many are
// skipped. The others are gaps.
type take struct {
	partition   int32
	first, next int64
	rows        []int64 // nil: all
	skipped     int64
}

func (k take) places() []place {
	var all []place
	if k.rows == nil {
		for o := k.first; o < k.next; o++ {
			all = append(all, place{k.partition, o})
		}
		return all
	}
	for _, o := range k.rows {
		all = append(all, place{k.partition, o})
	}
	return all
}

func (k take) span(topic string) checkpoint.Span {
	rows := int64(len(k.places()))
	return checkpoint.Span{
		Partition: checkpoint.Partition{Topic: topic, ID: k.partition}, First: k.first, Next: k.next,
		Records: rows + k.skipped, Rows: rows, Skipped: k.skipped,
	}
}

// commit lands one unit, and returns its version.
func (f *fixture) commit(takes ...take) int64 {
	f.t.Helper()
	layout, err := f.table.Layout(f.t.Context())
	f.check(err)
	var spans []checkpoint.Span
	var places []place
	for _, k := range takes {
		s := k.span(f.topic)
		s.Lost = f.lost
		spans = append(spans, s)
		places = append(places, k.places()...)
	}
	w := f.table.NewWriter(layout)
	if len(places) > 0 {
		rb := batchOf(layout.Schema, f.topic, places)
		defer rb.Release()
		f.check(w.Write(f.t.Context(), rb))
	}
	u, err := w.Finish(spans)
	f.check(err)
	f.check(f.table.Commit(f.t.Context(), []*sink.Unit{u}))
	if u.State() != sink.Landed {
		f.t.Fatalf("the unit is %v", u.State())
	}
	version := f.snapshot().Version()
	for _, a := range f.filesOf(version) {
		f.rows[a.Path] = places // of a table that is not partitioned
	}
	return version
}

// batchOf makes rows with the columns n and, where there is one, the metadata column.
func batchOf(schema *arrow.Schema, topic string, places []place) arrow.RecordBatch {
	b := array.NewRecordBuilder(arrowmemory.DefaultAllocator, schema)
	defer b.Release()
	for _, p := range places {
		for i, field := range schema.Fields() {
			switch c := b.Field(i).(type) {
			case *array.Int64Builder:
				c.Append(p.offset % 3)
			case *array.StructBuilder:
				if p.offset < 0 { // a row of nobody
					c.AppendNull()
					continue
				}
				c.Append(true)
				c.FieldBuilder(0).(*array.StringBuilder).Append(topic)
				c.FieldBuilder(1).(*array.Int32Builder).Append(p.partition)
				c.FieldBuilder(2).(*array.Int64Builder).Append(p.offset)
				c.FieldBuilder(3).(*array.TimestampBuilder).Append(arrow.Timestamp(p.offset))
			default:
				panic("no values for " + field.Name)
			}
		}
	}
	return b.NewRecordBatch()
}

func (f *fixture) snapshot() *delta.Snapshot {
	f.t.Helper()
	s, err := delta.OpenSnapshot(f.t.Context(), f.store, -1)
	f.check(err)
	return s
}

// filesOf are the adds of a version.
func (f *fixture) filesOf(version int64) []delta.Add {
	f.t.Helper()
	var adds []delta.Add
	for _, err := range delta.HistoryOf(f.t.Context(), f.store, delta.HistoryOptions{
		From: version, To: version, Add: func(a *delta.Add) { adds = append(adds, *a) },
	}) {
		f.check(err)
	}
	return adds
}

func (f *fixture) live() []delta.Add {
	f.t.Helper()
	var adds []delta.Add
	for a, err := range f.snapshot().Files(f.t.Context()) {
		f.check(err)
		adds = append(adds, a)
	}
	return adds
}

func (f *fixture) object(name string) string {
	f.t.Helper()
	r, err := f.store.Get(f.t.Context(), name, 0, -1)
	f.check(err)
	data, err := io.ReadAll(r)
	f.check(err)
	return string(data)
}

func logName(version int64) string { return fmt.Sprintf("_delta_log/%020d.json", version) }

// edit changes a version's JSON: each pair is a text and what takes its place.
func (f *fixture) edit(version int64, pairs ...string) {
	f.t.Helper()
	text := f.object(logName(version))
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			f.t.Fatalf("version %d has no %s:\n%s", version, pairs[i], text)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	f.check(f.store.Put(f.t.Context(), logName(version), []byte(text)))
}

// bury has the two messages that version 3 has skipped be dead letters, with or without the txn that names their file.
func (f *fixture) bury(version int64, slot bool) {
	f.t.Helper()
	f.edit(version, `"skipped":2,`, `"skipped":0,"dead":2,`, `\"skipped\":2,`, `\"skipped\":0,\"dead\":2,`)
	if slot {
		text := f.object(logName(version)) + `{"txn":{"appId":"events#dl/0","version":77}}` + "\n"
		f.check(f.store.Put(f.t.Context(), logName(version), []byte(text)))
	}
}

// foreign commits as another engine would.
func (f *fixture) foreign(operation string, actions ...any) int64 {
	f.t.Helper()
	version := f.snapshot().Version() + 1
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	f.check(enc.Encode(map[string]any{"commitInfo": map[string]any{"operation": operation, "engineInfo": "Apache-Spark/4.0"}}))
	for _, a := range actions {
		name := ""
		switch a.(type) {
		case delta.Add:
			name = "add"
		case delta.Remove:
			name = "remove"
		case delta.Txn:
			name = "txn"
		case delta.Metadata:
			name = "metaData"
		}
		f.check(enc.Encode(map[string]any{name: a}))
	}
	f.check(f.store.PutIfAbsent(f.t.Context(), logName(version), b.Bytes()))
	return version
}

// write makes a data file, as another engine would, and its add.
func (f *fixture) write(name string, dataChange bool, places []place) delta.Add {
	f.t.Helper()
	layout, err := f.table.Layout(f.t.Context())
	f.check(err)
	cfg := sink.DefaultConfig().Parquet
	cfg.Compression = "none"
	df, err := datafile.New(f.t.Context(), f.store, name, layout.Schema, datafile.Options{Config: cfg, Engine: "other"})
	f.check(err)
	rb := batchOf(layout.Schema, f.topic, places)
	defer rb.Release()
	f.check(df.Write(rb))
	info, err := df.Close()
	f.check(err)
	f.rows[name] = places
	return delta.Add{
		Path: name, PartitionValues: map[string]*string{}, Size: info.Size, ModificationTime: time.Now().UnixMilli(), DataChange: dataChange, Stats: info.Stats,
	}
}

func removeOf(a delta.Add, dataChange bool) delta.Remove {
	at := int64(1)
	return delta.Remove{Path: a.Path, DeletionTimestamp: &at, DataChange: dataChange, DeletionVector: a.DeletionVector, Size: &a.Size}
}

// rewrite puts one file in the place of all others; keep says which rows it has.
func (f *fixture) rewrite(operation string, dataChange bool, keep func(place) bool) int64 {
	f.t.Helper()
	var actions []any
	var places []place
	for _, a := range f.live() {
		actions = append(actions, removeOf(a, dataChange))
		for _, p := range f.rows[a.Path] {
			if keep(p) {
				places = append(places, p)
			}
		}
	}
	name := fmt.Sprintf("part-00000-%s-%d.c000.parquet", strings.ToLower(operation), f.snapshot().Version())
	return f.foreign(operation, append(actions, f.write(name, dataChange, places))...)
}

func all(place) bool { return true }

// cleanLog leaves one log checkpoint, of the newest version, and its commit.
func (f *fixture) cleanLog() {
	f.t.Helper()
	f.cleanBefore(f.snapshot().Version())
}

// cleanBefore leaves a log checkpoint of a version, and the commits from it on.
func (f *fixture) cleanBefore(version int64) {
	f.t.Helper()
	_, err := delta.WriteLogCheckpoint(f.t.Context(), f.store, version, delta.CheckpointOptions{Now: time.Now})
	f.check(err)
	for v := range version {
		if err := f.store.Delete(f.t.Context(), logName(v)); !errors.Is(err, fs.ErrNotExist) { // cleaned before
			f.check(err)
		}
	}
}

func (f *fixture) verify(o ...admin.Options) *admin.Report {
	f.t.Helper()
	options := admin.Options{Since: -1, Until: -1}
	if len(o) > 0 {
		options = o[0]
	}
	r, err := admin.Verify(f.t.Context(), f.store, options)
	f.check(err)
	return r
}

// show is a report as a test tells it.
func show(r *admin.Report) string {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		panic(err)
	}
	return string(text)
}

func wantVerdict(t *testing.T, r *admin.Report, want admin.Verdict) {
	t.Helper()
	if r.Verdict != want {
		t.Fatalf("the verdict is %q, want %q: %s", r.Verdict, want, show(r))
	}
}

// wantFault wants a fault of the kind whose text has the parts.
func wantFault(t *testing.T, r *admin.Report, kind admin.Kind, parts ...string) {
	t.Helper()
	if r.Verdict != admin.Faulty || !slices.ContainsFunc(r.Faults, func(f admin.Finding) bool {
		return f.Kind == kind && !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(f.Text, p) })
	}) {
		t.Errorf("no fault %q that says %q: %s", kind, parts, show(r))
	}
}
