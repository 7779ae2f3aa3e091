package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"kafkadelta/admin"
	"kafkadelta/pipeline"
	"kafkadelta/replay"
	"kafkadelta/sink"
	"kafkadelta/storage"
	"kafkadelta/storage/open"
)

func deadLettersReplayCommand() *cobra.Command {
	var f lettersFlags
	var filter admin.LetterFilter
	cmd := &cobra.Command{
		Use:   "replay -c FILE",
		Short: "Make rows of dead letters that can become some by now",
		Long: `replay decodes the stream's dead letters again, by the configuration and the table as they are now, appends those that
have become good to the stream's table, exactly once, and marks them. Where table.uri has values, each goes to the table that
its own values name. It may run beside the workers. Dead letters that are still bad stay; so do those whose messages a rewind has
had read again since.

Run it after the cause is mended: a column was added or widened, a rule dropped, a schema registered, a decoder corrected.
If it is interrupted, run it again. What it waits for, such as a schema registry that is down, it tells on standard error.

` + exitCodesHelp,
		Example: `  connector dead-letters replay -c connector.yaml --reason out_of_range`,
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, letters, err := f.open(cmd.Context())
			if err != nil {
				return err
			}
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn})) // of what it waits for
			messages, err := openFormat(cmd.Context(), c.Source, log)
			if err != nil {
				return &configError{err}
			}
			defer messages.close()
			streams, err := openStore(cmd.Context(), c.tableURI(), c.Storage, nil)
			if err != nil {
				return &configError{fmt.Errorf("table.uri: %w", err)}
			}
			stream, err := sink.Open(cmd.Context(), streams, c.Table.Sink, sink.Options{Name: c.Name, Engine: engine(), Now: time.Now, Log: log})
			if err != nil {
				return err
			}
			table, err := openLetters(cmd.Context(), letters, c.DeadLetters.URI, false, nil, log, sink.Events{})
			if err != nil {
				return err
			}
			if err := c.refuseTakenMarks(cmd.Context(), letters); err != nil {
				return err
			}
			filter.Connector, filter.Offset = c.Name, -1
			options, err := c.replayOptions(stream, table, streams, letters, filter, messages, log)
			if err != nil {
				return err
			}
			done, err := c.replay(cmd.Context(), options)
			if err != nil {
				return err
			}
			return tellReplay(cmd.OutOrStdout(), done)
		},
	}
	f.add(cmd)
	cmd.Flags().Int32Var(&filter.Partition, "partition", -1, "only of this partition")
	cmd.Flags().StringVar(&filter.Reason, "reason", "", "only what was found to be bad for this reason")
	return cmd
}

func (c config) replayOptions(stream, table *sink.Table, streams, letters storage.Store, filter admin.LetterFilter, messages *format, log *slog.Logger) (replay.Options, error) {
	o := replay.Options{
		Name: c.Name, Stream: stream, Letters: table, Log: log, Now: time.Now,
		Read: func(ctx context.Context, visit func(*admin.Letter) bool) error {
			if err := admin.Letters(ctx, letters, filter, visit); err != nil {
				return adminError("reading dead-letter table "+open.Redact(c.DeadLetters.URI), err)
			}
			return nil
		},
		Standing: func(ctx context.Context) (*admin.Standing, error) {
			standing, err := admin.StandingOf(ctx, streams, c.Name, c.divided())
			if err != nil {
				return nil, adminError("reading table "+open.Redact(c.tableURI()), err)
			}
			return standing, nil
		},
		NewDecoder: c.newDecoder(messages),
	}
	routing, err := c.routing(runOptions{}, nil, log)
	if routing != nil {
		o.Tables = &pipeline.Division{Routing: routing, Catalog: stream, Name: c.Name, Topic: c.Source.Kafka.Topic, Now: o.Now, Log: log}
	}
	return o, err
}

// replay runs, and says of a panic at a dead letter which format's decoder it was.
func (c config) replay(ctx context.Context, o replay.Options) (replay.Result, error) {
	done, err := replay.Run(ctx, o)
	if errors.As(err, new(*pipeline.PanicError)) {
		err = fmt.Errorf("replaying dead letters, source.format %s: %w; they stay dead letters, and others can be replayed by --partition or --reason", c.Source.Format, err)
	}
	return done, err
}

// tellReplay prints what was done, and why the first of the others are still bad.
func tellReplay(w io.Writer, done replay.Result) error {
	if _, err := fmt.Fprintf(w, "%d dead letters were replayed, %d are still bad\n", done.Replayed, len(done.Still)); err != nil {
		return err
	}
	const shown = 5
	for _, bad := range done.Still[:min(len(done.Still), shown)] {
		if _, err := fmt.Fprintf(w, "partition %d, offset %d: %s\n", bad.Partition, bad.Offset, printable(bad.Err.Error())); err != nil {
			return err
		}
	}
	if done.Former > 0 {
		_, err := fmt.Fprintf(w, "%d are of generations before a rewind that has had their messages read again, or given them up\n", done.Former)
		return err
	}
	return nil
}
