package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"kafkadelta/pipeline"
	"kafkadelta/sink"
)

func settleCommand() *cobra.Command {
	var file string
	var giveUp bool
	cmd := &cobra.Command{
		Use:   "settle -c FILE",
		Short: "Bring the tables that follow a stream's table up to what that says",
		Long: `The stream's table decides, and others follow: the dead-letter table, and the tables of a table.uri with values. A worker
brings them what is theirs after each commit, and what a dead worker left when it takes over a partition. settle does the
same without a worker, and may run beside them. It changes nothing where nothing is pending.

With --give-up it goes on without what is lost: dead letters and rows whose files are gone, or whose table is another one
than before, or does not take them any more since it was altered. It notes them as delivered, without a row. Read the refusal
first: it names their offsets.

` + exitCodesHelp,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(file)
			if err != nil {
				return err
			}
			return settle(cmd.Context(), cmd.OutOrStdout(), c, giveUp)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file of the stream (required)")
	must(cmd.MarkFlagRequired("config"))
	cmd.Flags().BoolVar(&giveUp, "give-up", false, "go on without what is lost")
	return cmd
}

func settle(ctx context.Context, w io.Writer, c config, giveUp bool) error {
	if c.DeadLetters.URI == "" && !c.divided() {
		return &configError{errors.New("no table follows the stream's: dead_letters.uri is empty, and table.uri has no values")}
	}
	store, err := openStore(ctx, c.tableURI(), c.Storage, nil)
	if err != nil {
		return &configError{fmt.Errorf("table.uri: %w", err)}
	}
	stream, parts, err := c.openToSettle(ctx, store)
	if err != nil {
		return err
	}
	var lettersErr error // so that the refusals of both are seen before anything is given up
	if c.DeadLetters.URI != "" {
		lettersErr = settleLetters(ctx, w, c, stream, parts, giveUp)
	}
	if !c.divided() {
		return lettersErr
	}
	lost, err := c.settleAll(ctx, store, giveUp)
	tellGivenUp(w, lost)
	switch {
	case err != nil:
	case giveUp:
		_, err = fmt.Fprintf(w, "rows were given up in %d places; what was there yet is delivered\n", len(lost))
	default:
		_, err = fmt.Fprintln(w, "nothing is pending: the tables have all that the catalog names")
	}
	return errors.Join(lettersErr, err)
}

// tellGivenUp names what tables will never get.
func tellGivenUp(w io.Writer, lost []string) {
	for _, line := range lost {
		_, _ = fmt.Fprintf(w, "given up: %s\n", printable(line))
	}
}

// followers opens the tables of a catalog to bring them what it has decided about.
func followers(routing *pipeline.Routing, catalog *sink.Table, stream string) sink.OpenTable {
	return func(ctx context.Context, key string) (*sink.Table, error) {
		table, err := routing.Open(ctx, key, stream, nil, sink.Events{})
		if err == nil {
			err = table.CheckFollows(ctx, sink.Origin{Generation: catalog.Generation()})
		}
		return table, err
	}
}

func settleLetters(ctx context.Context, w io.Writer, c config, stream *sink.Table, parts []int32, giveUp bool) error {
	letters, err := c.deadLetterStore(ctx)
	if err != nil {
		return err
	}
	table, err := openLetters(ctx, letters, c.DeadLetters.URI, giveUp, nil, slog.New(slog.DiscardHandler), sink.Events{})
	if err != nil {
		return err
	}
	if !giveUp {
		if _, err := sink.Settle(ctx, stream, table, parts); err != nil {
			return err
		}
		_, err = fmt.Fprintln(w, "nothing is pending: the dead-letter table has all that the stream's table names")
		return err
	}
	n, marks, err := sink.GiveUp(ctx, stream, table, func(ctx context.Context, note json.RawMessage) (*sink.Parcel, error) {
		return markAgain(ctx, table, note)
	})
	if err != nil {
		return err
	}
	if marks {
		_, _ = fmt.Fprintln(w, "the marks of a replay are lost: its rows are in the table, but the dead-letter table does not say so, and another replay would land them again. Don't replay what is older than that")
	}
	_, err = fmt.Fprintf(w, "dead letters of %d partitions were given up; what was there yet is delivered\n", n)
	return err
}

// markAgain makes the marks of a replay again, whose file is gone.
func markAgain(ctx context.Context, table *sink.Table, note json.RawMessage) (*sink.Parcel, error) {
	layout, err := table.Layout(ctx)
	if err != nil {
		return nil, err
	}
	marks, err := pipeline.NewLetterWriter(table, layout)
	if err != nil {
		return nil, err
	}
	return marks.MarkAgain(ctx, note, time.Now())
}
