package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/checkpoint"
	"kafkadelta/sink"
	"kafkadelta/source"
)

var (
	instant    = arrow.FixedWidthTypes.Timestamp_us
	headerType = arrow.StructOf(arrow.Field{Name: "key", Type: arrow.BinaryTypes.String, Nullable: true}, arrow.Field{Name: "value", Type: arrow.BinaryTypes.Binary, Nullable: true})
)

// letter is what a row of the dead-letter table is made of.
type letter struct {
	*kgo.Record
	err                  error
	schema, reason, path string
	stream               string
	generation           int64
	now                  time.Time
}

type letterColumn struct {
	arrow.Field
	fill func(array.Builder, *letter)
}

// letterColumns are the columns of a dead-letter table, and how each is filled.
var letterColumns = []letterColumn{
	{required("topic", arrow.BinaryTypes.String), func(b array.Builder, l *letter) { addText(b, l.Topic) }},
	{required("partition", arrow.PrimitiveTypes.Int32), func(b array.Builder, l *letter) { b.(*array.Int32Builder).Append(l.Partition) }},
	{required("offset", arrow.PrimitiveTypes.Int64), func(b array.Builder, l *letter) { b.(*array.Int64Builder).Append(l.Offset) }},
	{optional("timestamp", instant), func(b array.Builder, l *letter) { addInstant(b, l.Timestamp) }},
	{optional("key", arrow.BinaryTypes.Binary), func(b array.Builder, l *letter) { addBytes(b, l.Key) }},
	{optional("value", arrow.BinaryTypes.Binary), func(b array.Builder, l *letter) { addBytes(b, l.Value) }},
	{optional("headers", arrow.ListOf(headerType)), addHeaders},
	{optional("schema_id", arrow.BinaryTypes.String), func(b array.Builder, l *letter) { addOptional(b, l.schema) }},
	{required("reason", arrow.BinaryTypes.String), func(b array.Builder, l *letter) { addText(b, l.reason) }},
	{optional("field_path", arrow.BinaryTypes.String), func(b array.Builder, l *letter) { addOptional(b, l.path) }},
	{required("error", arrow.BinaryTypes.String), func(b array.Builder, l *letter) { addText(b, l.err.Error()) }},
	{required("connector", arrow.BinaryTypes.String), func(b array.Builder, l *letter) { addText(b, l.stream) }},
	{required("generation", arrow.PrimitiveTypes.Int64), func(b array.Builder, l *letter) { b.(*array.Int64Builder).Append(l.generation) }},
	{required("time", instant), func(b array.Builder, l *letter) { addInstant(b, l.now) }},
}

func required(name string, t arrow.DataType) arrow.Field { return arrow.Field{Name: name, Type: t} }
func optional(name string, t arrow.DataType) arrow.Field {
	return arrow.Field{Name: name, Type: t, Nullable: true}
}

func addText(b array.Builder, s string) {
	b.(*array.StringBuilder).Append(strings.ToValidUTF8(s, "\uFFFD"))
}

func addOptional(b array.Builder, s string) {
	if s == "" {
		b.AppendNull()
		return
	}
	addText(b, s)
}

func addBytes(b array.Builder, v []byte) {
	if v == nil { // a tombstone is not an empty value
		b.AppendNull()
		return
	}
	b.(*array.BinaryBuilder).Append(v)
}

func addInstant(b array.Builder, t time.Time) {
	b.(*array.TimestampBuilder).Append(arrow.Timestamp(t.UnixMicro()))
}

func addHeaders(b array.Builder, l *letter) {
	list := b.(*array.ListBuilder)
	list.Append(true)
	entry := list.ValueBuilder().(*array.StructBuilder)
	for _, h := range l.Headers {
		entry.Append(true)
		addText(entry.FieldBuilder(0), h.Key)
		addBytes(entry.FieldBuilder(1), h.Value)
	}
}

// DeadLetterSchema is the schema of a new dead-letter table.
func DeadLetterSchema() *arrow.Schema {
	fields := make([]arrow.Field, len(letterColumns))
	for i, c := range letterColumns {
		fields[i] = c.Field
	}
	return arrow.NewSchema(fields, nil)
}

// LetterWriter writes rows of a dead-letter table that another table decides about: a second batch and a second writer, which costs a
// clean lane nothing. It belongs to one goroutine.
type LetterWriter struct {
	layout  *sink.Layout
	fills   []func(array.Builder, *letter) // by column of the table; nil: null
	builder *array.RecordBuilder
	writer  *sink.Writer
	rows    int
	bytes   int // of keys, values and headers in the builder
	written bool
	marks   []mark // since the last Finish
}

// mark is what a mark can be made of again.
type mark struct {
	Connector  string    `json:"connector"`
	Topic      string    `json:"topic"`
	Partition  int32     `json:"partition"`
	Offset     int64     `json:"offset"`
	Timestamp  time.Time `json:"timestamp"`
	Generation int64     `json:"generation"`
}

// Size is what a message's key, value and headers have, in bytes.
func Size(r *kgo.Record) int {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}

// NewLetterWriter fits the columns to those that the table has: it may have more. A table that lacks one is a *sink.Error.
func NewLetterWriter(table *sink.Table, layout *sink.Layout) (*LetterWriter, error) {
	w := &LetterWriter{layout: layout, writer: table.NewParcelWriter(layout)}
	known := 0
	for _, f := range layout.Schema.Fields() {
		i := slices.IndexFunc(letterColumns, func(c letterColumn) bool { return c.Name == f.Name && arrow.TypeEqual(c.Type, f.Type) })
		switch {
		case i >= 0:
			known++
			w.fills = append(w.fills, letterColumns[i].fill)
		case f.Nullable:
			w.fills = append(w.fills, nil)
		default:
			return nil, lettersMisfit(fmt.Errorf("its column %s %s NOT NULL is none of a dead letter", f.Name, f.Type))
		}
	}
	if !layout.Plain() {
		return nil, lettersMisfit(errors.New("it has partition columns or column mapping, which the commands for dead letters can't read"))
	}
	if known < len(letterColumns) {
		return nil, lettersMisfit(fmt.Errorf("it has the columns %s, of which %d are those of dead letters", layout.Schema, known))
	}
	w.builder = array.NewRecordBuilder(memory.DefaultAllocator, layout.Schema)
	return w, nil
}

func lettersMisfit(err error) error {
	return &sink.Error{
		Op: "fitting the dead-letter table", Err: err,
		Hint: "dead_letters.uri names a table that is not one: name an empty folder, where it is made, or a table with all columns that docs/dead-letters.md lists, without partition columns and column mapping",
	}
}

// letterOf is a message that can't become a row.
func letterOf(r *kgo.Record, cause error, stream string, generation int64, now time.Time) letter {
	l := letter{Record: r, err: cause, reason: "unknown", stream: stream, generation: generation, now: now}
	if p, ok := errors.AsType[poison](cause); ok {
		l.path, l.reason = p.Poison()
	}
	if s, ok := errors.AsType[interface {
		error
		WrittenBy() string
	}](cause); ok {
		l.schema = s.WrittenBy()
	}
	return l
}

// ReasonReplayed is the reason of rows that mark a dead letter of the same place and generation: it has become a row since.
const ReasonReplayed = "replayed"

var errReplayed = errors.New("the dead letter of this message was replayed: it is a row of the stream's table")

// Mark adds the mark of a dead letter that was replayed.
func (w *LetterWriter) Mark(ctx context.Context, r *kgo.Record, stream string, generation int64, now time.Time) error {
	at := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp}
	w.marks = append(w.marks, mark{stream, r.Topic, r.Partition, r.Offset, r.Timestamp, generation})
	return w.add(ctx, &letter{Record: at, err: errReplayed, reason: ReasonReplayed, stream: stream, generation: generation, now: now})
}

// MarkAgain makes a parcel of marks whose file is gone, of what its note has kept.
func (w *LetterWriter) MarkAgain(ctx context.Context, note json.RawMessage, now time.Time) (*sink.Parcel, error) {
	var marks []mark
	if err := json.Unmarshal(note, &marks); err != nil {
		return nil, fmt.Errorf("reading the marks of a replay: %w", err)
	}
	for _, m := range marks {
		r := &kgo.Record{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Timestamp: m.Timestamp}
		if err := w.Mark(ctx, r, m.Connector, m.Generation, now); err != nil {
			return nil, err
		}
	}
	return w.Finish(ctx, nil)
}

func (w *LetterWriter) add(ctx context.Context, row *letter) error {
	for i, fill := range w.fills {
		if fill == nil {
			w.builder.Field(i).AppendNull()
			continue
		}
		fill(w.builder.Field(i), row)
	}
	w.rows++
	w.bytes += Size(row.Record)
	if w.rows >= batchRows || w.bytes >= batchBytes {
		return w.write(ctx)
	}
	return nil
}

func (w *LetterWriter) write(ctx context.Context) error {
	if w.rows == 0 {
		return nil
	}
	built := w.builder.NewRecordBatch()
	w.rows, w.bytes = 0, 0
	rb, bad := w.layout.Rules.Apply(built)
	built.Release()
	if len(bad) > 0 {
		return lettersMisfit(fmt.Errorf("its rules reject a dead letter: column %s: %s", bad[0].Path, bad[0].Reason))
	}
	defer rb.Release()
	w.written = true
	return w.writer.Write(ctx, rb)
}

// Finish makes a parcel of what was added since the last one; nil for nothing. It is to be written before the unit that decides about
// it is committed (rule D1).
func (w *LetterWriter) Finish(ctx context.Context, spans []checkpoint.Span) (*sink.Parcel, error) {
	if err := w.write(ctx); err != nil || !w.written {
		return nil, err
	}
	w.written = false
	var again json.RawMessage
	if len(w.marks) > 0 {
		var err error
		if again, err = json.Marshal(w.marks); err != nil {
			return nil, fmt.Errorf("noting the marks of a replay: %w", err)
		}
		w.marks = nil
	}
	return w.writer.FinishParcel(ctx, spans, again)
}

// Abort forgets what was added since the last Finish.
func (w *LetterWriter) Abort(ctx context.Context) {
	if w.rows > 0 {
		w.builder.NewRecordBatch().Release()
		w.rows, w.bytes = 0, 0
	}
	w.writer.Abort(ctx)
	w.written, w.marks = false, nil
}

// size is what was written so far.
func (w *LetterWriter) size() int64 { return w.writer.Bytes() }

// bury takes note of a message that can't become a row, and whose offset is counted already.
func (l *lane) bury(r *kgo.Record, span *checkpoint.Span, cause error) error {
	l.d.Metrics.poison(cause)
	if tooMany := l.d.quota.take(cause); tooMany != nil {
		l.end(span.Partition, tooMany) // behind this one
	}
	if l.d.dead != nil {
		span.Dead++
	} else { // what a topic has got, no table can tell
		span.Skipped++
	}
	if l.letters == nil {
		return nil
	}
	row := letterOf(r, cause, l.d.Name, l.d.table.Generation(), l.d.Now())
	if err := l.letters.add(l.d.ctx, &row); err != nil {
		return err
	}
	l.checkDue()
	return nil
}

// newLetters gives a lane the place of its dead letters; nil for none.
func (d *dispatcher) newLetters() (burier, error) {
	switch {
	case d.producer != nil:
		return newLetterTopic(d.producer), nil
	case d.dead != nil:
		w, err := NewLetterWriter(d.dead, d.deadLayout)
		if err != nil { // no interface with nothing in it
			return nil, err
		}
		return w, nil
	}
	return nil, nil
}

// nameDeadLetters readies units with dead letters for the commit: what their partitions' slots name by now must be in the dead-letter
// table, since a slot names one file (rule D4).
func (d *dispatcher) nameDeadLetters(ctx context.Context, units []*sink.Unit) error {
	parts := withDeadLetters(units)
	if len(parts) == 0 {
		return nil
	}
	settled, err := sink.Settle(ctx, d.table, d.dead, parts)
	if err == nil {
		sink.NameParcels(d.table, units, settled)
	}
	return err
}

// deliver brings the dead letters of units that have landed to their table (rule D3).
func (d *dispatcher) deliver(ctx context.Context, landed []*sink.Unit) error {
	parts := withDeadLetters(landed)
	if len(parts) == 0 {
		return nil
	}
	begun := d.Now()
	if _, err := sink.Settle(ctx, d.table, d.dead, parts); err != nil {
		return err
	}
	var rows int64
	for _, u := range landed {
		for _, s := range u.Spans {
			rows += s.Dead
		}
	}
	d.Metrics.buried(rows)
	d.Log.Debug("dead letters delivered", "rows", rows, "partitions", len(parts), "took", d.Now().Sub(begun))
	return nil
}

func withDeadLetters(units []*sink.Unit) []int32 {
	var parts []int32
	for _, u := range units {
		for _, s := range u.Spans {
			if s.Dead > 0 {
				parts = append(parts, s.ID)
			}
		}
	}
	return parts
}

// settle delivers what earlier owners of the partitions have left pending (rule D4).
func (d *dispatcher) settle(ids []checkpoint.Partition) {
	if d.dead == nil || len(ids) == 0 {
		return
	}
	parts := make([]int32, len(ids))
	for i, id := range ids {
		parts[i] = id.ID
	}
	d.goDo(func() {
		if _, err := sink.Settle(d.ctx, d.table, d.dead, parts); err != nil && d.ctx.Err() == nil {
			d.tell(func() { d.fail(err) })
		}
	})
}

// openDeadLetters opens the dead-letter table, or the way to the topic, where there is to be one.
func (d *dispatcher) openDeadLetters(ctx, work context.Context) error {
	var err error
	if d.DeadLetterTopic != "" {
		d.producer, err = source.NewProducer(d.Source, d.DeadLetterTopic, d.ClientOptions...)
		return err
	}
	if d.OpenDeadLetters == nil {
		return nil
	}
	if d.dead, err = d.OpenDeadLetters(ctx, d.tableEvents()); err != nil {
		return err
	}
	if err := d.dead.Maintain(work); err != nil {
		return err
	}
	d.deadLayout, err = d.dead.Layout(ctx)
	return err
}
