package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/parquet/metadata"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// Fate is what became of a message.
type Fate string

// The fates.
const (
	InTable     Fate = "in the table"
	DeletedRow  Fate = "deleted"           // the row is in a file, and a deletion vector deletes it
	NoRow       Fate = "no row"            // the offset was taken, and there is no row of it: a gap, skipped, filtered, a dead letter, or deleted since
	NotReached  Fate = "not reached"       // the stream is not there yet
	BeforeStart Fate = "before the start"  // the stream begins behind it
	NotRecorded Fate = "nothing is known"  // what would tell was cleaned from the log
	CountedOnly Fate = "taken"             // the rows don't tell their offsets
	DeadLetter  Fate = "dead letter"       // it could not become a row, and is in the dead-letter table
	OtherTable  Fate = "not of this table" // no stream of the table has the partition
)

// Explanation says what became of one message.
type Explanation struct {
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Fate      Fate      `json:"fate"`
	Text      string    `json:"text"`
	Rows      []RowAt   `json:"rows"`
	Spans     []SpanAt  `json:"spans"`
	Kafka     *InKafka  `json:"kafka"`
	Letters   []Letter  `json:"dead_letters"`
	Unread    []Finding `json:"unread"` // files that could not be looked into
}

// RowAt is a row of the message.
type RowAt struct {
	Topic   string `json:"topic"`
	File    string `json:"file"`
	Row     int64  `json:"row"`            // its number in the file, from 0
	Unit    string `json:"unit,omitempty"` // that the file is of; "" for a file of another writer
	Version *int64 `json:"version"`        // that brought the unit; null where its commit was cleaned from the log, or for another writer's file
	Deleted bool   `json:"deleted"`        // by a deletion vector

	replay bool // it was a dead letter
}

// SpanAt is a span that the offset is in.
type SpanAt struct {
	Stream     string   `json:"stream"`
	Topic      string   `json:"topic"`
	Generation int64    `json:"generation"`
	First      int64    `json:"first"`
	Next       int64    `json:"next"`
	Rows       int64    `json:"rows"`
	Skipped    int64    `json:"skipped"`
	Dead       int64    `json:"dead_letters"`
	Filtered   int64    `json:"filtered"`
	Routed     int64    `json:"routed"` // rows of other tables
	Gaps       int64    `json:"gaps"`
	Lost       int64    `json:"lost"` // of the gaps
	Unit       string   `json:"unit"`
	Version    *int64   `json:"version"` // null where its commit was cleaned from the log
	Files      []string `json:"files"`   // of the unit that are still in the table
}

// InKafka says what Kafka has at the offset: "message", "control record", "nothing" (a gap), "gone" (before what Kafka still has)
// or "not yet".
type InKafka struct {
	Has string `json:"has"`
}

// Explain finds the message of a partition and offset. Of several topics in one table o.Topic says which.
func Explain(ctx context.Context, store delta.LogStore, partition int32, offset int64, o Options) (*Explanation, error) {
	v := &verifier{ledger: newLedger(store, o.Progress), opts: o}
	if err := v.load(ctx, -1, o.Until); err != nil {
		return nil, fmt.Errorf("reading the table's log: %w", err)
	}
	name := o.Column
	if name == "" {
		name = DefaultColumn
	}
	v.columns, v.offsets = findColumns(v.snap.Schema(), name)
	e := &explainer{verifier: v, topic: o.Topic, e: &Explanation{
		Partition: partition, Offset: offset, Rows: []RowAt{}, Spans: []SpanAt{}, Letters: []Letter{}, Unread: []Finding{},
	}}
	if err := e.find(ctx); err != nil {
		return nil, err
	}
	if o.Letters != nil && slices.ContainsFunc(e.e.Spans, func(s SpanAt) bool { return s.Dead > 0 }) {
		if err := e.findLetters(ctx); err != nil {
			return nil, fmt.Errorf("reading the dead-letter table: %w", err)
		}
	}
	if o.Kafka != nil && len(e.tracks) > 0 {
		if err := e.ask(ctx); err != nil {
			return nil, fmt.Errorf("asking Kafka: %w", err)
		}
	}
	e.tell()
	return e.e, nil
}

type explainer struct {
	*verifier
	topic  string
	tracks []*track // of the partition
	units  []int32  // of e.Spans
	e      *Explanation
}

// find looks for the spans, then for the rows.
func (e *explainer) find(ctx context.Context) error {
	for _, t := range e.sortedTracks() {
		if t.ID != e.e.Partition || e.topic != "" && t.Topic != e.topic && t.Topic != "" {
			continue
		}
		e.tracks = append(e.tracks, t)
		for _, s := range t.spans {
			if s.first > e.e.Offset || e.e.Offset >= s.next {
				continue
			}
			u := &e.verifier.units[s.unit]
			e.units = append(e.units, s.unit)
			e.e.Spans = append(e.e.Spans, SpanAt{
				Stream: t.name, Topic: t.Topic, Generation: t.gen, First: s.first, Next: s.next, Rows: s.rows, Skipped: s.skipped, Dead: s.dead, Filtered: s.filtered, Routed: s.routed,
				Gaps: s.next - s.first - s.messages(), Lost: s.lost, Unit: u.id, Version: versionOf(u), Files: []string{},
			})
		}
	}
	for a, err := range e.snap.Files(ctx) {
		if err != nil {
			return err
		}
		j := e.jobOf(&a)
		at := slices.Index(e.units, j.unit)
		if j.unit >= 0 && at < 0 {
			continue
		}
		if at >= 0 {
			e.e.Spans[at].Files = append(e.e.Spans[at].Files, j.name)
		}
		if !e.offsets {
			continue
		}
		if err := e.look(ctx, &j); err != nil {
			return fmt.Errorf("reading %s: %w", j.name, err)
		}
	}
	return nil
}

func versionOf(u *unit) *int64 {
	if u.version < 0 {
		return nil
	}
	return &u.version
}

// findLetters looks for dead letters that the spans count, oldest first.
func (e *explainer) findLetters(ctx context.Context) error {
	err := Letters(ctx, e.opts.Letters, LetterFilter{Partition: e.e.Partition, Offset: e.e.Offset}, func(l *Letter) bool {
		if slices.ContainsFunc(e.e.Spans, func(s SpanAt) bool { return s.Dead > 0 && s.Stream == l.Connector && s.Topic == l.Topic }) {
			e.e.Letters = append(e.e.Letters, *l)
		}
		return true
	})
	slices.SortStableFunc(e.e.Letters, func(a, b Letter) int { return cmp.Or(cmp.Compare(a.Generation, b.Generation), a.Time.Compare(b.Time)) })
	return err
}

// Last are the spans that have the word: of each stream that of its last generation, which has taken the offset again.
func (e *Explanation) Last() (last []SpanAt) {
	for i, s := range e.Spans { // in the order of streams and generations
		if i+1 == len(e.Spans) || e.Spans[i+1].Stream != s.Stream {
			last = append(last, s)
		}
	}
	return last
}

// letter is the dead letter of such a span; nil for none.
func (e *Explanation) letter() *Letter {
	last := e.Last()
	for i := range slices.Backward(e.Letters) {
		l := &e.Letters[i]
		if slices.ContainsFunc(last, func(s SpanAt) bool { return s.Stream == l.Connector && s.Generation == l.Generation }) {
			return l
		}
	}
	return nil
}

// look reads a file, as far as its statistics don't rule the offset out.
func (e *explainer) look(ctx context.Context, j *job) error {
	dead, err := e.deadRows(ctx, j)
	if err != nil {
		return err
	}
	wanted := func(rg *metadata.RowGroupMetaData) bool { return mayHold(rg, e.columns.offset, e.e.Offset) }
	_, err = readFile(ctx, e.store, j.name, j.add.Size, e.columns, wanted, func(b *batch) {
		for i, o := range b.offsets {
			topic := b.topicOf(i)
			if o != e.e.Offset || b.partitions[i] != e.e.Partition || e.topic != "" && topic != "" && topic != e.topic {
				continue
			}
			r := RowAt{Topic: topic, File: j.name, Row: b.row + int64(i), Deleted: dead != nil && dead.Has(b.row+int64(i)), replay: j.replay}
			if j.unit >= 0 {
				u := &e.verifier.units[j.unit]
				r.Unit, r.Version = u.id, versionOf(u)
			}
			e.e.Rows = append(e.e.Rows, r)
		}
	})
	_, broken := errors.AsType[*brokenError](err)
	if broken || errors.Is(err, fs.ErrNotExist) || errors.Is(err, errOtherStore) {
		e.e.Unread = append(e.e.Unread, Finding{Kind: Unreadable, File: j.name, Text: fmt.Sprintf("%s can't be read: %v", j.name, err)})
		return nil
	}
	return err
}

// mayHold looks at the statistics of a row group.
func mayHold(rg *metadata.RowGroupMetaData, path string, offset int64) bool {
	at := rg.Schema.ColumnIndexByName(path)
	if at < 0 {
		return false
	}
	chunk, err := rg.ColumnChunk(at)
	if err != nil {
		return true
	}
	stats, err := chunk.Statistics()
	if err != nil || stats == nil || !stats.HasMinMax() {
		return true
	}
	s, ok := stats.(*metadata.Int64Statistics)
	return !ok || s.Min() <= offset && offset <= s.Max()
}

// ask looks what Kafka has at the offset.
func (e *explainer) ask(ctx context.Context) error {
	topic, err := e.verifier.topic()
	if err != nil {
		return err
	}
	k, err := e.opts.Kafka.Topic(ctx, topic)
	if err != nil {
		return err
	}
	p, o := e.e.Partition, e.e.Offset
	e.e.Kafka = &InKafka{Has: "nothing"}
	switch end, ok := k.End[p]; {
	case !ok || o < k.Start[p]:
		e.e.Kafka.Has = "gone"
		return nil
	case o >= end:
		e.e.Kafka.Has = "not yet"
		return nil
	}
	return e.opts.Kafka.Read(ctx, topic, map[int32]Range{p: {o, o + 1}}, func(r Record) {
		switch {
		case r.Offset != o:
		case r.Control:
			e.e.Kafka.Has = "control record"
		default:
			e.e.Kafka.Has = "message"
		}
	})
}

// tell sums up in words.
func (e *explainer) tell() {
	live := 0
	for _, r := range e.e.Rows {
		if !r.Deleted {
			live++
		}
	}
	switch {
	case len(e.tracks) == 0 && live == 0:
		e.set(OtherTable, "no stream of the table has partition %d", e.e.Partition)
	case live > 0:
		e.set(InTable, "it is in %s", e.rowsText())
		if live > len(e.e.Spans) && live > 1 {
			e.e.Text += ": that is more often than it was taken, run `connector verify`"
		}
		if l := e.e.letter(); l != nil && l.Replayed {
			e.e.Text += fmt.Sprintf("; it was a dead letter since %s, %s%s: %s; and was replayed", l.Time.UTC().Format(time.RFC3339), l.Reason, at(l.FieldPath), l.Error)
		}
	case e.e.letter() != nil:
		l := e.e.letter()
		e.set(DeadLetter, "%s; it is a dead letter since %s: %s%s: %s", e.spanText(), l.Time.UTC().Format(time.RFC3339), l.Reason, at(l.FieldPath), l.Error)
		if l.Replayed {
			e.e.Text += "; it was replayed"
			if e.follower() {
				e.e.Text += ", into one of the tables that this one is the catalog of"
			} else {
				e.e.Text += ", and its row is gone"
			}
		}
	case len(e.e.Spans) > 0 && e.isAhead():
		t := e.tracks[len(e.tracks)-1]
		e.set(NotReached, "%s, and it has no row since; the stream was rewound to offset %d, and has not come to it again: the table has taken the offsets up to %d, by its txn %s", e.spanText(), t.pin, t.txn, checkpoint.AppID(t.name, t.ID))
	case len(e.e.Rows) > 0:
		e.set(DeletedRow, "its row was deleted, by a deletion vector of %s", e.e.Rows[0].File)
	case len(e.e.Spans) > 0 && !e.offsets:
		e.set(CountedOnly, "%s; the rows don't tell their offsets", e.spanText())
	case len(e.e.Spans) > 0:
		e.set(NoRow, "%s, and it has no row: %s", e.spanText(), e.whyNoRow())
	default:
		e.outside()
	}
}

// isAhead tells that the newest generation has still to come to the offset.
func (e *explainer) isAhead() bool {
	t := e.tracks[len(e.tracks)-1]
	return t.pin >= 0 && t.pin <= e.e.Offset && t.txn != -2 && t.txn < e.e.Offset
}

// outside tells of an offset that is in no span that is left.
func (e *explainer) outside() {
	t := e.tracks[len(e.tracks)-1]
	switch {
	case t.txn != -2 && e.e.Offset > t.txn:
		e.set(NotReached, "the table has taken the offsets up to %d, by its txn %s", t.txn, checkpoint.AppID(t.name, t.ID))
	case t.pin >= 0 && e.e.Offset < t.pin:
		e.set(BeforeStart, "the stream begins with offset %d", t.pin)
	default:
		e.set(NotRecorded, "no span that is left in the log or in a file's tag has the offset, and no row does: it was taken, and its commit was cleaned from the log or the file's tags dropped")
	}
}

func (e *explainer) set(fate Fate, format string, args ...any) {
	e.e.Fate, e.e.Text = fate, fmt.Sprintf(format, args...)
}

func (e *explainer) rowsText() string {
	var texts []string
	for _, r := range e.e.Rows {
		if r.Deleted {
			continue
		}
		from := "of another writer, such as an OPTIMIZE"
		switch {
		case r.replay:
			from = "of a replay of dead letters"
		case r.Version != nil:
			from = fmt.Sprintf("of version %d", *r.Version)
		case r.Unit != "":
			from = "of unit " + r.Unit
		}
		texts = append(texts, fmt.Sprintf("row %d of the file %s, %s", r.Row, r.File, from))
	}
	return strings.Join(texts, "; and in ")
}

func (e *explainer) spanText() string {
	var texts []string
	for _, s := range e.e.Last() {
		texts = append(texts, s.text())
	}
	return strings.Join(texts, "; ")
}

func (s *SpanAt) text() string {
	by := "unit " + s.Unit
	if s.Version != nil {
		by = fmt.Sprintf("version %d", *s.Version)
	}
	more := ""
	if s.Dead > 0 {
		more = fmt.Sprintf("%d dead letters, ", s.Dead)
	}
	if s.Filtered > 0 {
		more += fmt.Sprintf("%d filtered, ", s.Filtered)
	}
	if s.Routed > 0 {
		more += fmt.Sprintf("%d rows of other tables, ", s.Routed)
	}
	return fmt.Sprintf("%s has taken it, with [%d, %d): %d rows, %d skipped, %s%d gaps", by, s.First, s.Next, s.Rows, s.Skipped, more, s.Gaps)
}

// whyNoRow names the causes that are left.
func (e *explainer) whyNoRow() string {
	s := SpanAt{}
	for _, of := range e.e.Last() {
		s.Dead, s.Skipped, s.Filtered, s.Routed, s.Gaps, s.Lost = s.Dead+of.Dead, s.Skipped+of.Skipped, s.Filtered+of.Filtered, s.Routed+of.Routed, s.Gaps+of.Gaps, s.Lost+of.Lost
	}
	if k := e.e.Kafka; k != nil {
		switch {
		case k.Has == "control record":
			return "Kafka has a control record there, a marker of a producer transaction"
		case k.Has == "nothing":
			return "Kafka has nothing there: an aborted producer transaction, or compacted away"
		case k.Has == "message" && s.Dead+s.Skipped+s.Filtered+s.Routed > 0:
			return "Kafka has a message there: it is " + strings.Join(append(s.withoutRow(), "a row that was deleted"), ", or ")
		case k.Has == "message":
			return "Kafka has a message there, and none was skipped: its row was deleted, or is lost; run `connector verify`"
		}
	}
	var causes []string
	if s.Lost > 0 {
		causes = append(causes, fmt.Sprintf("one of %d offsets that Kafka had deleted before they were read, which source.on_data_loss: continue has passed over", s.Lost))
	}
	if s.Gaps > s.Lost {
		causes = append(causes, "a gap of Kafka")
	}
	return strings.Join(append(append(causes, s.withoutRow()...), "a row that was deleted"), ", or ")
}

// withoutRow names what became of the span's messages that became no rows.
func (s *SpanAt) withoutRow() (causes []string) {
	if s.Dead > 0 {
		causes = append(causes, "a dead letter")
	}
	if s.Skipped > 0 {
		causes = append(causes, "a message that was skipped")
	}
	if s.Filtered > 0 {
		causes = append(causes, "a message that table.filter leaves out")
	}
	if s.Routed > 0 {
		causes = append(causes, "a row of one of the tables that this one is the catalog of")
	}
	return causes
}

// at tells a field's path; nothing for the whole message.
func at(path string) string {
	if path == "" {
		return ""
	}
	return " at " + path
}
