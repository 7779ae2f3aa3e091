package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
	"kafkadelta/decode"
	"kafkadelta/internal/backoff"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
	"kafkadelta/storage"
	"kafkadelta/storage/open"
)

// Bounds of what is replayed in one commit.
const (
	lettersOfReplay = 50_000
	bytesOfReplay   = 64 << 20 // of keys and values
)

func deadLettersReplayCommand() *cobra.Command {
	var f lettersFlags
	var filter admin.LetterFilter
	cmd := &cobra.Command{
		Use:   "replay -c FILE",
		Short: "Make rows of dead letters that can become some by now",
		Long: `replay decodes the stream's dead letters again, by the configuration and the table as they are now, appends those that
have become good to the stream's table, exactly once, and marks them. It may run beside the workers. Dead letters that are
still bad stay; so do those of generations before the last rewind, whose messages were read again.

Run it after the cause is mended: a column was added or widened, a rule dropped, a schema registered, a decoder corrected.
If it is interrupted, run it again.

` + exitCodesHelp,
		Example: `  connector dead-letters replay -c connector.yaml --reason out_of_range`,
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, letters, err := f.open(cmd.Context())
			if err != nil {
				return err
			}
			quiet := slog.New(slog.DiscardHandler)
			messages, err := openFormat(cmd.Context(), c.Source, quiet)
			if err != nil {
				return &configError{err}
			}
			defer messages.close()
			streams, err := openStore(cmd.Context(), c.Table.Sink.URI, c.Storage, nil)
			if err != nil {
				return &configError{fmt.Errorf("table.uri: %w", err)}
			}
			filter.Connector, filter.Offset = c.Name, -1
			r := &replayer{config: c, letters: letters, filter: filter, log: quiet, newDecoder: func(layout *sink.Layout) (pipeline.Decoder, error) {
				return messages.decoder(layout, c.Table.Decode, nil)
			}}
			if err := r.open(cmd.Context(), streams); err != nil {
				return err
			}
			if err := r.run(cmd.Context()); err != nil {
				return err
			}
			return r.tell(cmd.OutOrStdout())
		},
	}
	f.add(cmd)
	cmd.Flags().Int32Var(&filter.Partition, "partition", -1, "only of this partition")
	cmd.Flags().StringVar(&filter.Reason, "reason", "", "only what was found to be bad for this reason")
	return cmd
}

// replayer is one run of replay.
type replayer struct {
	config     config
	letters    storage.Store
	filter     admin.LetterFilter
	log        *slog.Logger
	newDecoder func(layout *sink.Layout) (pipeline.Decoder, error)

	stream, table *sink.Table // of messages, of letters
	tried         map[place]error
	replayed      int64
	former        int64 // letters of generations before
}

func (r *replayer) open(ctx context.Context, streams storage.Store) (err error) {
	r.tried = map[place]error{}
	r.stream, err = sink.Open(ctx, streams, r.config.Table.Sink, sink.Options{Name: r.config.Name, Engine: engine(), Now: time.Now, Log: r.log})
	if err != nil {
		return err
	}
	r.table, err = openLetters(ctx, r.letters, r.config.DeadLetters.URI, false, r.log, sink.Events{})
	return err
}

// run replays part after part until nothing is left that was not tried. Each part is read in a version of the dead-letter table that has
// the marks of all replays before, and lands only if there was none since (rule D6).
func (r *replayer) run(ctx context.Context) error {
	next, err := r.stream.Positions(ctx)
	if err != nil {
		return err
	}
	partitions := slices.Sorted(maps.Keys(next))
	for {
		settled, err := sink.Settle(ctx, r.stream, r.table, partitions)
		if err != nil {
			return err
		}
		generation := r.stream.Generation()
		part, err := r.read(ctx, generation)
		if err != nil {
			return adminError("reading dead-letter table "+open.Redact(r.config.DeadLetters.URI), err)
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
	err := admin.Letters(ctx, r.letters, r.filter, func(l *admin.Letter) bool {
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
		return len(part) < lettersOfReplay && bytes < bytesOfReplay
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
	layout, err := r.stream.Layout(ctx)
	if err != nil {
		return err
	}
	lettersLayout, err := r.table.Layout(ctx)
	if err != nil {
		return err
	}
	decoder, err := r.newDecoder(layout)
	if err != nil {
		return &sink.Error{Op: "fitting the configured columns to the table", Err: err}
	}
	marks, err := pipeline.NewLetterWriter(r.table, lettersLayout)
	if err != nil {
		return err
	}
	rows := r.stream.NewWriter(layout)
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
			if err := marks.Mark(ctx, record, r.config.Name, generation, time.Now()); err != nil {
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
	landed, err := r.stream.Replay(ctx, unit, settled, generation)
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

// tell prints what was done, and why the first of the others are still bad.
func (r *replayer) tell(w io.Writer) error {
	var still []place
	for at, err := range r.tried {
		if err != nil {
			still = append(still, at)
		}
	}
	slices.SortFunc(still, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.partition, b.partition), cmp.Compare(a.offset, b.offset))
	})
	if _, err := fmt.Fprintf(w, "%d dead letters were replayed, %d are still bad\n", r.replayed, len(still)); err != nil {
		return err
	}
	const shown = 5
	for _, at := range still[:min(len(still), shown)] {
		if _, err := fmt.Fprintf(w, "partition %d, offset %d: %s\n", at.partition, at.offset, printable(r.tried[at].Error())); err != nil {
			return err
		}
	}
	if r.former > 0 {
		_, err := fmt.Fprintf(w, "%d are of generations before the last rewind, whose messages were read again or given up\n", r.former)
		return err
	}
	return nil
}
