package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/checkpoint"
	"kafkadelta/sink"
	"kafkadelta/source"
)

// LetterWriter writes rows of a dead-letter table that another table decides about: a second batch and a second writer, which costs a
// clean lane nothing. It belongs to one goroutine.
type LetterWriter struct {
	layout  *sink.Layout
	columns []filled           // by column of the table
	headers *array.ListBuilder // of the column of headers
	writer  *sink.Writer
	rows    int
	bytes   int // of keys, values and headers in the rows
	written bool
	sized   int64  // size of what was written
	marks   []mark // since the last Finish
	stream  string // whose letters they are
}

// filled is how a column of the table is filled, and its rows.
type filled struct {
	*letterColumn // nil: null
	cells         cells
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
			w.columns = append(w.columns, filled{letterColumn: &letterColumns[i]})
			if letterColumns[i].fill == nil {
				w.headers = array.NewBuilder(memory.DefaultAllocator, f.Type).(*array.ListBuilder)
			}
		case f.Nullable:
			w.columns = append(w.columns, filled{})
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
	return w, nil
}

func lettersMisfit(err error) error {
	return &sink.Error{
		Op: "fitting the dead-letter table", Err: err,
		Hint: "dead_letters.uri names a table that is not one: name an empty folder, where it is made, or a table with all columns that docs/dead-letters.md lists, without partition columns and column mapping",
	}
}

// ReasonReplayed is the reason of rows that mark a dead letter of the same place and generation: it has become a row since.
const ReasonReplayed = "replayed"

const foundReplayed = "the dead letter of this message was replayed: it is a row of the stream's table"

// Mark adds the mark of a dead letter that was replayed.
func (w *LetterWriter) Mark(ctx context.Context, r *kgo.Record, stream string, generation int64, now time.Time) error {
	at := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp}
	w.marks = append(w.marks, mark{stream, r.Topic, r.Partition, r.Offset, r.Timestamp, generation})
	return w.add(ctx, &letter{Record: at, found: foundReplayed, reason: ReasonReplayed, stream: stream, generation: generation, now: now})
}

// cleanupTimeout bounds the deletion of a parcel that can't be finished. What it misses, VACUUM removes.
const cleanupTimeout = 5 * time.Second

// MarkAgain makes a parcel of marks whose file is gone, of what its note has kept. After an error nothing of it is left.
func (w *LetterWriter) MarkAgain(ctx context.Context, note json.RawMessage, now time.Time) (*sink.Parcel, error) {
	p, err := w.markAgain(ctx, note, now)
	if err != nil {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		w.Abort(cleanup)
	}
	return p, err
}

func (w *LetterWriter) markAgain(ctx context.Context, note json.RawMessage, now time.Time) (*sink.Parcel, error) {
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
	for i := range w.columns {
		switch c := &w.columns[i]; {
		case c.letterColumn == nil:
		case c.fill == nil:
			addHeaders(w.headers, row.Headers)
		default:
			c.fill(&c.cells, row)
		}
	}
	w.rows, w.stream = w.rows+1, row.stream
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
	defer w.reset() // the writer has copied what it was given
	built := w.batch()
	rb, bad := w.layout.Rules.Apply(built)
	built.Release()
	if len(bad) > 0 {
		return lettersMisfit(fmt.Errorf("its rules reject a dead letter: column %s: %s", bad[0].Path, bad[0].Reason))
	}
	defer rb.Release()
	w.written = true
	err := w.writer.Write(ctx, rb)
	w.sized = w.writer.Bytes()
	return err
}

// batch gives the rows, which are good until the next reset. The caller releases it.
func (w *LetterWriter) batch() arrow.RecordBatch {
	columns := make([]arrow.Array, len(w.columns))
	for i := range w.columns {
		t := w.layout.Schema.Field(i).Type
		switch c := &w.columns[i]; {
		case c.letterColumn == nil:
			columns[i] = array.MakeArrayOfNull(memory.DefaultAllocator, t, w.rows)
		case c.fill == nil:
			columns[i] = w.headers.NewArray()
		default:
			columns[i] = c.cells.array(t)
		}
		defer columns[i].Release()
	}
	return array.NewRecordBatch(w.layout.Schema, columns, int64(w.rows))
}

func (w *LetterWriter) reset() {
	for i := range w.columns {
		w.columns[i].cells.reset()
	}
	w.rows, w.bytes = 0, 0
}

// Finish makes a parcel of what was added since the last one; nil for nothing. It is to be written before the unit that decides about
// it is committed (rule D1).
func (w *LetterWriter) Finish(ctx context.Context, spans []checkpoint.Span) (*sink.Parcel, error) {
	finish, err := w.Seal(ctx)
	if err != nil || finish == nil {
		return nil, err
	}
	return finish(ctx, spans)
}

// Seal implements burier.
func (w *LetterWriter) Seal(ctx context.Context) (SealedLetters, error) {
	if err := w.write(ctx); err != nil || !w.written {
		return nil, err
	}
	w.written, w.sized = false, 0
	var again json.RawMessage
	if len(w.marks) > 0 {
		var err error
		if again, err = json.Marshal(w.marks); err != nil {
			return nil, fmt.Errorf("noting the marks of a replay: %w", err)
		}
		w.marks = nil
	}
	sealed, err := w.writer.Seal()
	if err != nil {
		return nil, err
	}
	stream := w.stream
	return func(ctx context.Context, spans []checkpoint.Span) (*sink.Parcel, error) {
		return sealed.Parcel(ctx, stream, spans, again)
	}, nil
}

// Abort forgets what was added since the last Finish.
func (w *LetterWriter) Abort(ctx context.Context) {
	w.reset()
	w.headers.NewArray().Release()
	w.writer.Abort(ctx)
	w.written, w.sized, w.marks = false, 0, nil
}

// size is what was written so far.
func (w *LetterWriter) size() int64 { return w.sized }

// bury takes note of a message that can't become a row, and whose offset is counted already.
func (l *lane) bury(r *kgo.Record, span *checkpoint.Span, cause error) error {
	defer func() { l.letter = letter{} }() // as letGo
	l.letter = letterOf(r, cause, l.d.Name, l.d.table.Generation(), l.d.Now())
	l.poisons(l.letter.reason).Inc()
	if tooMany := l.d.quota.take(&l.tally, cause); tooMany != nil {
		l.end(r, tooMany) // behind this one
	}
	if l.d.dead != nil {
		span.Dead++
	} else { // what a topic has got, no table can tell
		span.Skipped++
	}
	if l.letters == nil {
		return nil
	}
	before := l.letters.size()
	if err := l.letters.add(l.d.ctx, &l.letter); err != nil {
		return err
	}
	if l.letters.size() != before {
		l.checkDue()
	}
	return nil
}

// poisons counts messages of a reason. A lane looks it up once.
func (l *lane) poisons(reason string) poisonCounter {
	c, ok := l.reasons[reason]
	if !ok {
		c = l.d.Metrics.poisonOf(reason)
		l.reasons[reason] = c
	}
	return c
}

// newLetters gives a lane the place of its dead letters; nil for none.
func (d *dispatcher) newLetters(uploads *sink.Uploads) (burier, error) {
	switch {
	case d.producer != nil:
		return newLetterTopic(d.producer), nil
	case d.dead != nil:
		w, err := NewLetterWriter(d.dead, d.deadLayout)
		if err != nil { // no interface with nothing in it
			return nil, err
		}
		w.writer.Share(uploads)
		return w, nil
	}
	return nil, nil
}

// nameDeadLetters readies units with dead letters for the commit: what their partitions' slots name by now must be in the dead-letter
// table, since a slot names one file (rule D4).
func (d *dispatcher) nameDeadLetters(ctx context.Context, units []*sink.Unit) error {
	parts := partitionsWith(units, dead)
	if len(parts) == 0 {
		return nil
	}
	settled, err := sink.Settle(ctx, d.table, d.dead, parts)
	if err == nil {
		sink.NameParcels(d.table, units, settled)
	}
	return err
}

// deliverLetters brings the dead letters of units that have landed to their table (rule D3).
func (d *dispatcher) deliverLetters(ctx context.Context, landed []*sink.Unit) error {
	parts := partitionsWith(landed, dead)
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

func dead(s checkpoint.Span) bool { return s.Dead > 0 }

// partitionsWith are those of spans that are so.
func partitionsWith(units []*sink.Unit, is func(checkpoint.Span) bool) []int32 {
	var parts []int32
	for _, u := range units {
		for _, s := range u.Spans {
			if is(s) {
				parts = append(parts, s.ID)
			}
		}
	}
	return parts
}

// settle delivers what earlier owners of the partitions have left pending, each kind by itself (rules D4 and T3).
func (d *dispatcher) settle(ids []checkpoint.Partition) {
	if len(ids) == 0 {
		return
	}
	parts := make([]int32, len(ids))
	for i, id := range ids {
		parts[i] = id.ID
	}
	for _, pending := range []func([]int32) error{d.settleLetters, d.settleRows} {
		d.goDo(func() {
			if err := pending(parts); err != nil && d.ctx.Err() == nil {
				d.tell(func() { d.fail(err) })
			}
		})
	}
}

// settleLetters delivers dead letters that anybody has left pending.
func (d *dispatcher) settleLetters(parts []int32) error {
	if d.dead == nil {
		return nil
	}
	_, err := sink.Settle(d.ctx, d.table, d.dead, parts)
	return err
}

// openDeadLetters opens the dead-letter table, or the way to the topic, where there is to be one. A topic that is not there, or that the user may not write to, is told now, not at the first bad message.
func (d *dispatcher) openDeadLetters(ctx, work context.Context) error {
	var err error
	if d.DeadLetterTopic != "" {
		d.producer, err = source.NewProducer(d.Source, d.DeadLetterTopic, d.memory()/lettersPart, d.ClientOptions...)
		if err != nil {
			return err
		}
		if err = d.untilAnswered(ctx, func() error { return d.producer.Find(ctx) }); err != nil {
			return fmt.Errorf("dead_letters.topic: %w", err)
		}
		return nil
	}
	if d.OpenDeadLetters == nil {
		return nil
	}
	events := d.tableEvents()
	events.Creating = nil // it has no offsets: a stream that has run without one gets it now
	if d.dead, err = d.OpenDeadLetters(ctx, events); err != nil {
		return err
	}
	if err := d.dead.Maintain(work); err != nil {
		return err
	}
	d.deadLayout, err = d.dead.Layout(ctx)
	return err
}
