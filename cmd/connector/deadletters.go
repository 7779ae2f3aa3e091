package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
	"kafkadelta/storage"
	"kafkadelta/storage/open"
)

// deadLettersConfig says where the messages go that can't become rows, under on_error: dead_letter.
type deadLettersConfig struct {
	// URI is where the dead-letter table is. It is made if missing. Streams may share one.
	URI string `yaml:"uri"`
	// Topic is a topic of the source's Kafka that they are sent to instead, at least once. It must be there.
	Topic string `yaml:"topic"`
}

func (c config) validateDeadLetters() error {
	switch wanted := c.Pipeline.OnError == pipeline.OnErrorDeadLetter; {
	case c.DeadLetters.URI != "" && c.DeadLetters.Topic != "":
		return errors.New("dead_letters has a uri and a topic: choose one")
	case wanted && c.DeadLetters == deadLettersConfig{}:
		return errors.New("on_error is dead_letter, but dead_letters.uri is empty: name the folder of the dead-letter table (or dead_letters.topic)")
	case wanted && c.DeadLetters.Topic == c.Source.Kafka.Topic:
		return errors.New("dead_letters.topic is source.topic: each dead letter would come back as a message")
	case !wanted && c.DeadLetters != deadLettersConfig{}:
		return fmt.Errorf("dead_letters is set, but on_error is %q, under which there are none: set on_error: dead_letter", c.Pipeline.OnError)
	case c.DeadLetters.URI != "" && c.place(c.DeadLetters.URI) == c.place(c.tableURI()):
		return errors.New("dead_letters.uri is table.uri, or the catalog: give the dead letters a folder of their own")
	}
	return nil
}

func (c config) deadLetterStore(ctx context.Context) (storage.Store, error) {
	return c.deadLetterStoreOf(ctx, nil, open.Parts{})
}

func (c config) deadLetterStoreOf(ctx context.Context, observe func(operation, outcome string), parts open.Parts) (storage.Store, error) {
	store, err := openStoreOf(ctx, c.DeadLetters.URI, c.Storage, observe, parts)
	if err != nil {
		return nil, &configError{fmt.Errorf("dead_letters.uri: %w", err)}
	}
	return store, nil
}

// deadLetters gives what opens the dead-letter table; nil where there is to be none.
func (c config) deadLetters(ctx context.Context, o runOptions, observe func(operation, outcome string), log *slog.Logger) (func(context.Context, sink.Events) (*sink.Table, error), error) {
	if c.DeadLetters.URI == "" {
		return nil, nil
	}
	store, err := c.deadLetterStoreOf(ctx, observe, c.parts(o))
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, events sink.Events) (*sink.Table, error) {
		table, err := openLetters(ctx, store, c.DeadLetters.URI, true, c.Pipeline.WriterMemory(o.share, o.memory, lettersPart), log, events)
		if err != nil {
			return nil, err
		}
		if taken, err := admin.LettersTakenBack(ctx, store, c.Name, true); err == nil && taken != nil { // what can't be read is read by others
			log.Warn("the dead-letter table was restored: what that took is not delivered again, run connector verify", "version", taken.Version)
		}
		return table, nil
	}, nil
}

// refuseTakenMarks refuses to replay letters whose marks a RESTORE of the dead-letter table took: they are rows already.
func (c config) refuseTakenMarks(ctx context.Context, letters storage.Store) error {
	taken, err := admin.LettersTakenBack(ctx, letters, c.Name, false)
	switch {
	case err != nil:
		return adminError("reading dead-letter table "+open.Redact(c.DeadLetters.URI), err)
	case taken == nil || !taken.Marks:
		return nil
	}
	return adminError("replaying", &checkpoint.RefusedError{
		Cause:  fmt.Sprintf("%s, marks of replays as well: letters that are rows already would become rows once more", taken),
		Remedy: fmt.Sprintf("as long as nothing else came since, a RESTORE of the dead-letter table to version %d brings back what that took; else have the messages read again by `connector rewind`, after their rows were deleted", taken.Version-1),
	})
}

// lettersPart of what a lane has for data files is what it has for those of dead letters besides.
const lettersPart = 4

func openLetters(ctx context.Context, store storage.Store, uri string, create bool, memory func() int64, log *slog.Logger, events sink.Events) (*sink.Table, error) {
	cfg := sink.DefaultConfig()
	cfg.URI = uri
	cfg.Comment = "messages that could not become rows"
	o := sink.Options{Engine: engine(), Memory: memory, Now: time.Now, Log: log, Events: events}
	if create {
		o.Create = pipeline.DeadLetterSchema()
	}
	return sink.Open(ctx, store, cfg, o)
}

func deadLettersCommand() *cobra.Command {
	cmd := groupCommand("dead-letters", "Look at messages that could not become rows, and replay them")
	cmd.Long = `Under on_error: dead_letter, a message that can't become a row is put into the dead-letter table, exactly once.
docs/dead-letters.md tells how, and what to do about them.

` + exitCodesHelp
	cmd.AddCommand(deadLettersListCommand(), deadLettersShowCommand(), deadLettersReplayCommand())
	return cmd
}

// lettersFlags are shared by the commands about dead letters.
type lettersFlags struct{ config, output string }

func (f *lettersFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.config, "config", "c", "", "configuration file of the stream (required)")
	must(cmd.MarkFlagRequired("config"))
}

func (f *lettersFlags) addOutput(cmd *cobra.Command) {
	f.add(cmd)
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "text or json")
}

// open reads the configuration and opens the store of its dead-letter table.
func (f *lettersFlags) open(ctx context.Context) (config, storage.Store, error) {
	if f.output != "" && f.output != "text" && f.output != "json" {
		return config{}, nil, &configError{fmt.Errorf("--output is %q: use text or json", f.output)}
	}
	c, err := loadConfig(f.config)
	if err != nil {
		return c, nil, err
	}
	if c.DeadLetters.URI == "" {
		return c, nil, &configError{fmt.Errorf("%s: dead_letters.uri is empty: the stream has no dead-letter table", f.config)}
	}
	store, err := c.deadLetterStore(ctx)
	return c, store, err
}

func deadLettersListCommand() *cobra.Command {
	var f lettersFlags
	var filter admin.LetterFilter
	var limit int
	var all, withReplayed bool
	cmd := &cobra.Command{
		Use:   "list -c FILE",
		Short: "List the stream's dead letters",
		Example: `  connector dead-letters list -c connector.yaml --reason type_mismatch
  connector dead-letters list -c connector.yaml -o json | jq -r '.[].error'`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, store, err := f.open(cmd.Context())
			if err != nil {
				return err
			}
			if limit < 1 {
				return &configError{fmt.Errorf("--limit is %d: use a number from 1 on", limit)}
			}
			if !all {
				filter.Connector = c.Name
			}
			filter.Offset = -1
			letters := []admin.Letter{}
			found := 0
			err = admin.Letters(cmd.Context(), store, filter, func(l *admin.Letter) bool {
				if l.Replayed && !withReplayed {
					return true
				}
				if found++; len(letters) < limit {
					if f.output != "json" { // the lines don't tell them, and they may be large
						l.Key, l.Value, l.Headers = nil, nil, nil
					}
					letters = append(letters, *l)
				}
				return true
			})
			if err != nil {
				return adminError("reading dead-letter table "+open.Redact(c.DeadLetters.URI), err)
			}
			if f.output == "json" {
				return printIndented(cmd.OutOrStdout(), letters)
			}
			return printLetters(cmd.OutOrStdout(), letters, found)
		},
	}
	f.addOutput(cmd)
	cmd.Flags().Int32Var(&filter.Partition, "partition", -1, "only of this partition")
	cmd.Flags().StringVar(&filter.Reason, "reason", "", "only for this reason")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so many")
	cmd.Flags().BoolVar(&withReplayed, "replayed", false, "also those that have become rows since")
	cmd.Flags().BoolVar(&all, "all-streams", false, "also those of other streams in the table")
	return cmd
}

func printLetters(w io.Writer, letters []admin.Letter, found int) error {
	slices.SortFunc(letters, func(a, b admin.Letter) int { return a.Time.Compare(b.Time) })
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "found at\tpartition\toffset\treason\tfield\terror") // Flush tells errors
	for _, l := range letters {
		_, _ = fmt.Fprintf(t, "%s\t%s[%d]\t%d\t%s\t%s\t%s\n", l.Time.UTC().Format(time.RFC3339), printable(l.Topic), l.Partition, l.Offset,
			printable(l.Reason), printable(l.FieldPath), printable(l.Error))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(&b, "%d of %d dead letters\n", len(letters), found)
	_, err := w.Write(b.Bytes())
	return err
}

func deadLettersShowCommand() *cobra.Command {
	var f lettersFlags
	cmd := &cobra.Command{
		Use:     "show PARTITION OFFSET -c FILE",
		Short:   "Show one dead letter with its key, value and headers",
		Example: `  connector dead-letters show 3 1207311 -c connector.yaml`,
		Args:    exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := parsePlace(args[0], args[1])
			if err != nil {
				return err
			}
			c, store, err := f.open(cmd.Context())
			if err != nil {
				return err
			}
			letters := []admin.Letter{}
			filter := admin.LetterFilter{Connector: c.Name, Partition: at.partition, Offset: at.offset}
			err = admin.Letters(cmd.Context(), store, filter, func(l *admin.Letter) bool { letters = append(letters, *l); return true })
			switch {
			case err != nil:
				return adminError("reading dead-letter table "+open.Redact(c.DeadLetters.URI), err)
			case len(letters) == 0:
				return tableError("reading dead-letter table "+open.Redact(c.DeadLetters.URI),
					fmt.Errorf("there is no dead letter of partition %d, offset %d: `connector explain %d %d -c %s` says what became of the message", at.partition, at.offset, at.partition, at.offset, f.config))
			case f.output == "json":
				return printIndented(cmd.OutOrStdout(), letters)
			}
			return printLetter(cmd.OutOrStdout(), letters)
		},
	}
	f.addOutput(cmd)
	return cmd
}

func printLetter(w io.Writer, letters []admin.Letter) error {
	var b bytes.Buffer
	for _, l := range letters {
		line := func(name, value string) { fmt.Fprintf(&b, "%-11s %s\n", name, value) }
		line("message", fmt.Sprintf("%s[%d] offset %d of %s", printable(l.Topic), l.Partition, l.Offset, l.Timestamp.UTC().Format(time.RFC3339Nano)))
		line("found at", fmt.Sprintf("%s by %s, generation %d", l.Time.UTC().Format(time.RFC3339Nano), printable(l.Connector), l.Generation))
		if l.Replayed {
			line("replayed", "it is a row of the stream's table by now")
		}
		line("reason", printable(l.Reason))
		for name, value := range map[string]string{"field": l.FieldPath, "schema": l.SchemaID} {
			if value != "" {
				line(name, printable(value))
			}
		}
		line("error", printable(l.Error))
		for _, h := range l.Headers {
			line("header", printable(h.Key)+": "+bytesText(h.Value))
		}
		line("key", bytesText(l.Key))
		line("value", bytesText(l.Value))
	}
	_, err := w.Write(b.Bytes())
	return err
}

// bytesText is text where it is some, and base64 elsewhere.
func bytesText(v []byte) string {
	switch {
	case v == nil:
		return "null"
	case utf8.Valid(v):
		return printable(string(v))
	}
	return "base64 " + base64.StdEncoding.EncodeToString(v)
}
