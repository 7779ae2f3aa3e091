// Package replay makes rows of dead letters that can become some by now (rule D6).
//
// It promises that each is a row exactly once, wherever a replay dies, and however many run at once, beside workers or not: rows and a parcel
// of marks are decided about by one commit of the stream's table, on condition that no replay has landed since the dead letters were read.
package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
	bytesOfPart   = 64 << 20 // of keys and values
	rowsOfBatch   = 8192
)

// cleanupTimeout bounds the deletion of files that were written and are not part of a table. What it misses, VACUUM removes.
const cleanupTimeout = 5 * time.Second

// Options hand in what a replay works on.
type Options struct {
	Name    string      // of the stream
	Stream  *sink.Table // of messages
	Letters *sink.Table // of dead letters
	// Read visits the stream's letters that are wanted, as of the newest version of the dead-letter table, until visit answers false.
	Read func(ctx context.Context, visit func(*admin.Letter) bool) error
	// NewDecoder compiles a decoder for the stream's table. What it can't make a row of is a *decode.PoisonError.
	NewDecoder func(layout *sink.Layout) (pipeline.Decoder, error)
	Now        func() time.Time
}

// Result is what a replay has done, also where it ends with an error.
type Result struct {
	Replayed int64
	Still    []Bad // in the order of partitions and offsets
	Former   int64 // letters of generations before the last rewind, which are not replayed
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
	replayed int64
	former   int64
}

// Run replays part after part until nothing is left that was not tried. Each part is read in a version of the dead-letter table that has
// the marks of all replays before, and lands only if there was none since. Where there was, or a rewind, or a change of the table, the
// error is a *checkpoint.RefusedError, and another run goes on.
func Run(ctx context.Context, o Options) (Result, error) {
	r := &replayer{Options: o, tried: map[place]error{}}
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
	partitions := slices.Sorted(maps.Keys(next))
	for {
		settled, err := sink.Settle(ctx, r.Stream, r.Letters, partitions)
		if err != nil {
			return err
		}
		generation := r.Stream.Generation()
		part, err := r.read(ctx, generation)
		if err != nil {
			return err
		}
		if len(part) == 0 {
			return nil
		}
		if err := r.replay(ctx, part, settled, generation); err != nil {
			return err
		}
	}
}

// read takes letters that were not tried, up to the bounds of a part.
func (r *replayer) read(ctx context.Context, generation int64) ([]*kgo.Record, error) {
	var part []*kgo.Record
	bytes := 0
	r.former = 0
	err := r.Read(ctx, func(l *admin.Letter) bool {
		if l.Replayed {
			return true
		}
		if l.Generation != generation {
			r.former++
			return true
		}
		if _, tried := r.tried[place{l.Partition, l.Offset}]; tried {
			return true
		}
		part = append(part, recordOf(l))
		bytes += len(l.Key) + len(l.Value)
		return len(part) < lettersOfPart && bytes < bytesOfPart
	})
	return part, err
}

// recordOf is the message of a letter, as Kafka had it.
func recordOf(l *admin.Letter) *kgo.Record {
	record := &kgo.Record{Topic: l.Topic, Partition: l.Partition, Offset: l.Offset, Timestamp: l.Timestamp, Key: l.Key, Value: l.Value}
	for _, h := range l.Headers {
		record.Headers = append(record.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	return record
}

// replay makes rows of what is good of the part, and lands them with their marks.
func (r *replayer) replay(ctx context.Context, part []*kgo.Record, settled map[string]int64, generation int64) (err error) {
	layout, err := r.Stream.Layout(ctx)
	if err != nil {
		return err
	}
	lettersLayout, err := r.Letters.Layout(ctx)
	if err != nil {
		return err
	}
	decoder, err := r.NewDecoder(layout)
	if err != nil {
		return &sink.Error{Op: "fitting the configured columns to the table", Err: err}
	}
	marks, err := pipeline.NewLetterWriter(r.Letters, lettersLayout)
	if err != nil {
		return err
	}
	rows := r.Stream.NewWriter(layout)
	defer func() {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		rows.Abort(cleanup) // of nothing, after all went well
		marks.Abort(cleanup)
	}()
	good := int64(0)
	write := func(rb arrow.RecordBatch, of []*kgo.Record) error {
		defer rb.Release()
		for _, record := range of {
			if err := marks.Mark(ctx, record, r.Name, generation, r.Now()); err != nil {
				return err
			}
		}
		good += int64(len(of))
		return rows.Write(ctx, rb)
	}
	for chunk := range slices.Chunk(part, rowsOfBatch) {
		if err := r.decode(ctx, decoder, layout, chunk, write); err != nil {
			return err
		}
	}
	if good == 0 {
		return nil
	}
	return r.land(ctx, rows, marks, settled, generation, good)
}

func (r *replayer) land(ctx context.Context, rows *sink.Writer, marks *pipeline.LetterWriter, settled map[string]int64, generation, good int64) error {
	parcel, err := marks.Finish(ctx, nil) // D1: before the commit
	if err != nil {
		return err
	}
	unit, err := rows.FinishAppend()
	if err == nil {
		err = unit.Attach(parcel)
	}
	if err != nil {
		parcel.Discard(ctx)
		return err
	}
	landed, err := r.Stream.Replay(ctx, unit, settled, generation)
	switch {
	case err != nil:
		return err
	case !landed:
		return &checkpoint.RefusedError{
			Cause:  "another replay, a rewind or a change of the table came in between: nothing of this part was replayed",
			Remedy: "run it again",
		}
	}
	r.replayed += good
	return nil
}

// decode makes rows of those letters of a chunk that are good, and hands them over batch by batch. What is bad is noted.
func (r *replayer) decode(ctx context.Context, decoder pipeline.Decoder, layout *sink.Layout, chunk []*kgo.Record, write func(arrow.RecordBatch, []*kgo.Record) error) error {
	var held []*kgo.Record
	flush := func() error {
		batch := held
		held = nil
		return r.check(decoder, layout, batch, write)
	}
	for _, record := range chunk {
		at := place{record.Partition, record.Offset}
		r.tried[at] = nil
		for {
			err := decoder.Append(record)
			if err == nil {
				held = append(held, record)
				break
			}
			if later, ok := errors.AsType[*decode.RetryLaterError](err); ok {
				if err := flush(); err != nil {
					return err
				}
				if err := backoff.Sleep(ctx, later.RetryLater()); err != nil {
					return err
				}
				continue
			}
			if _, bad := errors.AsType[*decode.PoisonError](err); !bad {
				return err
			}
			r.tried[at] = err
			break
		}
	}
	return flush()
}

// check applies the table's rules to the decoder's rows. Where they reject some, the others are decoded again.
func (r *replayer) check(decoder pipeline.Decoder, layout *sink.Layout, held []*kgo.Record, write func(arrow.RecordBatch, []*kgo.Record) error) error {
	if len(held) == 0 {
		return nil
	}
	decoded := decoder.NewBatch()
	rb, bad := layout.Rules.Apply(decoded)
	decoded.Release()
	if len(bad) == 0 {
		return write(rb, held)
	}
	rejected := map[int]bool{}
	for _, v := range bad {
		rejected[v.Row] = true
		at := place{held[v.Row].Partition, held[v.Row].Offset}
		r.tried[at] = fmt.Errorf("column %s: %s", v.Path, v.Reason)
	}
	var kept []*kgo.Record
	for row, record := range held {
		if rejected[row] {
			continue
		}
		if err := decoder.Append(record); err != nil {
			return fmt.Errorf("decoding a message a second time: %w", err)
		}
		kept = append(kept, record)
	}
	return r.check(decoder, layout, kept, write)
}
