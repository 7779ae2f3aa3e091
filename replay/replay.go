// Package replay makes rows of dead letters that can become some by now (rule D6).
//
// It promises that each is a row exactly once, wherever a replay dies, and however many run at once, beside workers or not: rows and a parcel
// of marks are decided about by one commit of the stream's table, on condition that no replay has landed since the dead letters were read. Where that table is a
// catalog, the rows follow from the commit as well.
package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
	"kafkadelta/decode"
	"kafkadelta/internal/backoff"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
)

// Bounds of what is replayed in one commit, and of one Arrow batch, as in the pipeline.
const (
	lettersOfPart = 50_000
	bytesOfPart   = 64 << 20 // as all bytes here, of keys, values and headers
	rowsOfBatch   = 8192
	bytesOfBatch  = 4 << 20
)

// cleanupTimeout bounds the deletion of files that were written and are not part of a table. What it misses, VACUUM removes.
const cleanupTimeout = 5 * time.Second

// Options hand in what a replay works on.
type Options struct {
	Name    string      // of the stream
	Stream  *sink.Table // of messages
	Letters *sink.Table // of dead letters
	// Tables are those that the rows go to where Stream is a catalog; nil where they go into Stream. Run opens and closes them.
	Tables *pipeline.Division
	// Read visits the stream's letters that are wanted, as of the newest version of the dead-letter table, until visit answers false.
	Read func(ctx context.Context, visit func(*admin.Letter) bool) error
	// Standing reads what rewinds have left alone, in the newest version of the stream's table.
	Standing func(ctx context.Context) (*admin.Standing, error)
	// NewDecoder compiles a decoder for a layout of the stream's table, which follows the messages' schemas as the stream does. What it can't
	// make a row of is a *decode.PoisonError.
	NewDecoder pipeline.NewDecoder
	// LettersOfPart is how many letters one commit lands at most; 0 for 50,000.
	LettersOfPart int
	Log           *slog.Logger // of a decoder's panic, which ends the run with a *pipeline.PanicError
	Now           func() time.Time
}

// Result is what a replay has done, also where it ends with an error.
type Result struct {
	Replayed int64
	Still    []Bad // in the order of partitions and offsets
	Former   int64 // letters of generations before a rewind that has had their messages read again, or given them up: these are not replayed
}

// Bad is a dead letter that is still one, and why.
type Bad struct {
	Partition int32
	Offset    int64
	Err       error
}

type place struct {
	partition int32
	offset    int64
}

// replayer is one run.
type replayer struct {
	Options
	tried    map[place]error
	found    map[place]int64 // generations in which what is replayed was found to be bad
	replayed int64
	former   int64
	last     int64      // replay, of those whose marks were read, or our own since
	landed   *sink.Unit // whose rows are to be brought to their tables; nil for none
}

// Run replays part after part until nothing is left that was not tried. Each part is read in a version of the dead-letter table that has
// the marks of all replays before but its own, and lands only if there was no other since. Where there was while it was made, or a rewind, or a change of the table, the
// error is a *checkpoint.RefusedError, and another run goes on.
func Run(ctx context.Context, o Options) (Result, error) {
	r := &replayer{Options: o, tried: map[place]error{}, found: map[place]int64{}}
	err := r.run(ctx)
	return r.result(), err
}

func (r *replayer) result() Result {
	out := Result{Replayed: r.replayed, Former: r.former}
	for at, err := range r.tried {
		if err != nil {
			out.Still = append(out.Still, Bad{at.partition, at.offset, err})
		}
	}
	slices.SortFunc(out.Still, func(a, b Bad) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	return out
}

func (r *replayer) run(ctx context.Context) error {
	next, err := r.Stream.Positions(ctx)
	if err != nil {
		return err
	}
	if r.Tables != nil {
		defer func() {
			closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
			defer cancel()
			r.Tables.Close(closing)
		}()
		if err := r.Tables.Open(ctx, context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
	for partitions := slices.Sorted(maps.Keys(next)); ; {
		if more, err := r.pass(ctx, partitions); err != nil || !more {
			return err
		}
	}
}

// settle brings the tables that follow the stream's what that has decided about: first rows, so that no mark is there before its row, unless a worker has been faster.
func (r *replayer) settle(ctx context.Context, partitions []int32) (map[string]int64, error) {
	rows := map[string]int64{}
	if r.Tables != nil {
		var err error
		if rows, err = r.Tables.Settle(ctx); err != nil {
			return nil, err
		}
		if r.landed != nil {
			if err := r.Tables.Landed(ctx, r.landed); err != nil {
				return nil, err
			}
			r.landed = nil
		}
	}
	slots, err := sink.Settle(ctx, r.Stream, r.Letters, partitions)
	if err != nil {
		return nil, err
	}
	maps.Copy(slots, rows)
	return slots, nil
}

// pass reads the dead-letter table once, and replays what was not tried, part after part. Where another replay or a rewind came in between, it ends early, since what it has
// read lacks the marks of that. more tells whether it has found anything: another pass finds nothing more, or what came meanwhile.
func (r *replayer) pass(ctx context.Context, partitions []int32) (more bool, err error) {
	settled, err := r.settle(ctx, partitions)
	if err != nil {
		return false, err
	}
	generation := r.Stream.Generation()
	r.last = r.lastReplay(settled)
	standing, err := r.Standing(ctx)
	if err != nil {
		return false, err
	}
	var part []*kgo.Record
	bytes := 0
	land := func() bool {
		more = true
		if settled, err = r.settle(ctx, partitions); err != nil || r.lastReplay(settled) != r.last || r.Stream.Generation() != generation {
			return false
		}
		err = r.replay(ctx, part, settled, generation)
		part, bytes = nil, 0
		return err == nil
	}
	r.former = 0
	stopped := false
	readErr := r.Read(ctx, func(l *admin.Letter) bool {
		if !r.wants(l, standing) {
			return true
		}
		r.found[place{l.Partition, l.Offset}] = l.Generation
		record := recordOf(l)
		part = append(part, record)
		if bytes += pipeline.Size(record); len(part) >= r.most() || bytes >= bytesOfPart {
			stopped = !land()
		}
		return !stopped
	})
	switch {
	case err != nil || stopped:
	case readErr != nil:
		err = readErr
	case len(part) > 0:
		land()
	}
	return more, err
}

// lastReplay is the slot of replays, by which a pass tells whether there was another one than its own; -1 for none.
func (r *replayer) lastReplay(slots map[string]int64) int64 {
	if id, ok := slots[checkpoint.ReplayAppID(r.Name)]; ok {
		return id
	}
	return -1
}

// wants says whether a letter is to be replayed.
func (r *replayer) wants(l *admin.Letter, standing *admin.Standing) bool {
	if l.Replayed {
		return false
	}
	if !standing.Has(l.Generation, l.Partition, l.Offset) {
		r.former++
		return false
	}
	_, tried := r.tried[place{l.Partition, l.Offset}]
	return !tried
}

// most is how many letters a part has at most.
func (r *replayer) most() int { return cmp.Or(r.LettersOfPart, lettersOfPart) }

// recordOf is the message of a letter, as Kafka had it.
func recordOf(l *admin.Letter) *kgo.Record {
	record := &kgo.Record{Topic: l.Topic, Partition: l.Partition, Offset: l.Offset, Timestamp: l.Timestamp, Key: l.Key, Value: l.Value}
	for _, h := range l.Headers {
		record.Headers = append(record.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	return record
}

// part is what lands in one commit.
type part struct {
	*replayer
	generation int64
	made       pipeline.Rows // under the table's layout, or one ahead of it
	trial      pipeline.Trial
	rows       *sink.Writer
	marks      *pipeline.LetterWriter
	held       []*kgo.Record // of the rows in the decoder
	heldBytes  int
	good       int64
}

// againError asks for a part to be made anew: what was written of it does not fit what its later messages need.
type againError struct{ under *sink.Layout }

func (e *againError) Error() string { return "the rows before a new schema don't fit it" }

// replay makes rows of what is good among the letters, and lands them with their marks.
func (r *replayer) replay(ctx context.Context, letters []*kgo.Record, settled map[string]int64, generation int64) error {
	layout, err := r.Stream.Layout(ctx)
	if err != nil {
		return err
	}
	for {
		err := r.replayUnder(ctx, layout, letters, settled, generation)
		again, ok := errors.AsType[*againError](err)
		if !ok {
			return err
		}
		layout = again.under
	}
}

func (r *replayer) replayUnder(ctx context.Context, layout *sink.Layout, letters []*kgo.Record, settled map[string]int64, generation int64) error {
	lettersLayout, err := r.Letters.Layout(ctx)
	if err != nil {
		return err
	}
	marks, err := pipeline.NewLetterWriter(r.Letters, lettersLayout)
	if err != nil {
		return err
	}
	p := &part{replayer: r, generation: generation, rows: r.Stream.NewWriter(layout), marks: marks}
	if err := p.begin(layout); err != nil {
		return err
	}
	defer func() {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		p.rows.Abort(cleanup) // of nothing, after all went well
		p.marks.Abort(cleanup)
		if p.Tables != nil {
			p.Tables.Abort(cleanup)
		}
	}()
	if p.Tables != nil {
		if err := p.Tables.Begin(ctx, layout); err != nil {
			return err
		}
	}
	for _, record := range letters {
		if err := p.take(ctx, record); err != nil {
			return err
		}
	}
	if err := p.flush(ctx); err != nil || p.good == 0 {
		return err
	}
	return p.land(ctx, settled)
}

func (p *part) begin(layout *sink.Layout) (err error) {
	p.trial = pipeline.Trial{}
	p.made, err = pipeline.CompileRows(layout, p.NewDecoder)
	return err
}

func (p *part) land(ctx context.Context, settled map[string]int64) error {
	parcel, err := p.marks.Finish(ctx, nil) // D1: before the commit
	if err != nil {
		return err
	}
	unit, err := p.rows.FinishAppend()
	if err == nil && p.Tables != nil {
		err = p.Tables.Finish(ctx, unit)
	}
	if err == nil {
		err = unit.Attach(parcel)
	}
	if err != nil {
		p.giveUp(ctx, unit, parcel)
		return err
	}
	landed, err := p.Stream.Replay(ctx, unit, settled, p.generation)
	switch {
	case err != nil:
		return err
	case !landed:
		return &checkpoint.RefusedError{
			Cause:  "another replay, a rewind or a change of the table came in between: nothing of this part was replayed",
			Remedy: "run it again",
		}
	}
	p.replayed, p.last = p.replayed+p.good, parcel.ID
	if p.Tables != nil {
		p.landed = unit
	}
	return nil
}

// giveUp discards what was made for a commit that was never begun.
func (p *part) giveUp(ctx context.Context, unit *sink.Unit, marks *sink.Parcel) {
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	marks.Discard(cleanup)
	if unit != nil {
		p.Stream.Discard(cleanup, []*sink.Unit{unit})
	}
}

// take makes a row of a letter, waits where the decoder asks for it, and has the table follow the message's schema. What is bad is noted.
func (p *part) take(ctx context.Context, record *kgo.Record) error {
	at := place{record.Partition, record.Offset}
	p.tried[at] = nil
	for {
		err := p.made.Append(record, p.Name, p.Log)
		if err == nil {
			p.held = append(p.held, record)
			if p.heldBytes += pipeline.Size(record); len(p.held) < rowsOfBatch && p.heldBytes < bytesOfBatch {
				return nil
			}
			return p.flush(ctx)
		}
		ahead, isAhead := errors.AsType[*decode.EvolveError](err)
		if isAhead {
			if refused := p.trial.Append(record, p.made, ahead.Want, p.Stream, p.NewDecoder, p.Name, p.Log); refused != nil {
				err, isAhead = refused, false
			}
		}
		if _, bad := errors.AsType[interface {
			error
			Poison() (path, reason string)
		}](err); bad || errors.Is(err, pipeline.ErrLeftOut) {
			p.tried[at] = err
			return nil
		}
		later, isLater := errors.AsType[interface {
			error
			RetryLater() time.Duration
		}](err)
		if !isLater && !isAhead {
			return err
		}
		if err := p.flush(ctx); err != nil {
			return err
		}
		if isAhead {
			err = p.evolve(ctx, ahead.Want)
		} else {
			err = backoff.Sleep(ctx, later.RetryLater())
		}
		if err != nil {
			return err
		}
	}
}

// evolve goes on under the layout that the table gets with the part.
func (p *part) evolve(ctx context.Context, want *arrow.Schema) error {
	next, err := p.Stream.Evolve(ctx, p.made.Layout, want)
	if err != nil {
		return err
	}
	if !p.made.Layout.Fits(next) {
		return &againError{next}
	}
	if err := p.rows.Relayout(next); err != nil {
		return err
	}
	if p.Tables != nil {
		if err := p.Tables.Relayout(next); err != nil {
			return err
		}
	}
	return p.begin(next)
}

// flush writes the decoder's rows that keep the table's rules, with their marks. Where some can't become rows of the table, or of any, the others are
// decoded again. What the filter leaves out by now stays a dead letter.
func (p *part) flush(ctx context.Context) error {
	held := p.held
	p.held, p.heldBytes = nil, 0
	if len(held) == 0 {
		return nil
	}
	rb, kept, misfits := p.made.Take()
	if len(misfits) == 0 {
		var err error
		misfits, err = p.write(ctx, rb, kept, held)
		rb.Release()
		if err != nil || len(misfits) == 0 {
			return err
		}
	}
	for row, record := range held {
		if misfit, bad := misfits[row]; bad {
			p.tried[place{record.Partition, record.Offset}] = errors.New(misfit.String())
			continue
		}
		if err := p.made.Append(record, p.Name, p.Log); err != nil {
			return fmt.Errorf("decoding a message a second time: %w", err)
		}
		p.held = append(p.held, record)
	}
	return p.flush(ctx)
}

// keep gives the messages of the rows that the filter has kept. nil: it has kept all.
func (p *part) keep(held []*kgo.Record, kept []int) []*kgo.Record {
	if kept == nil {
		return held
	}
	for row := range pipeline.LeftOut(kept, len(held)) {
		p.tried[place{held[row].Partition, held[row].Offset}] = pipeline.ErrLeftOut
	}
	var out []*kgo.Record
	for _, row := range kept {
		out = append(out, held[row])
	}
	return out
}

// write writes rows and their marks. Where some have no table, nothing is written, and they are told by their number among the held ones.
func (p *part) write(ctx context.Context, rb arrow.RecordBatch, kept []int, held []*kgo.Record) (misfits map[int]pipeline.Misfit, err error) {
	switch {
	case rb.NumRows() == 0:
	case p.Tables != nil:
		misfits, err = p.Tables.Write(ctx, rb, kept, held)
	default:
		err = p.rows.Write(ctx, rb)
	}
	if err != nil || len(misfits) > 0 {
		return misfits, err
	}
	of := p.keep(held, kept)
	for _, record := range of {
		if err := p.marks.Mark(ctx, record, p.Name, p.found[place{record.Partition, record.Offset}], p.Now()); err != nil {
			return nil, err
		}
	}
	p.good += int64(len(of))
	return nil, nil
}
