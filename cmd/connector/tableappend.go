package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/spf13/cobra"

	"kafkadelta/delta"
	"kafkadelta/internal/backoff"
	"kafkadelta/sink"
	"kafkadelta/storage"
	"kafkadelta/storage/memory"
	"kafkadelta/storage/open"
)

// appendFlags are what `table append` takes.
type appendFlags struct {
	uri, input, format, output string
	create                     bool
	schema                     string
	partitionBy                []string
	properties                 propertiesFlag
	app                        sink.AppTxn
}

func tableAppendCommand(stores *storeFlags) *cobra.Command {
	var f appendFlags
	var logs logFlags
	cmd := &cobra.Command{
		Use:   "append URI --input FILE",
		Short: "Append JSON messages to a table, in one commit",
		Long: `append makes rows of all messages of the input and commits them as one version, whose number it prints. All or nothing:
one message that can't become a row refuses the input. It may run beside other writers of the table, and goes on through
lost races and while the store is down until it is stopped.

The input has one JSON object a line, or is one JSON array of objects. Files that end in .zst or .gz are decompressed. Fields
that the table does not have are passed over; docs/json.md says what each column takes.

With --app-id and --version a repeated append changes nothing: where the table has that version of the app id or a later
one, nothing is read, and the exit code is 0. So a job that may have died is just run again, with the same version. The ids
<name>-<partition> are those of streams: give your job another one. docs/table.md says more.

` + exitCodesHelp,
		Example: `  # a shell
  connector table append ./data/events --input events.jsonl --create
  jq -c '.items[]' page.json | connector table append ./data/events --input -

  # cron: a day's file, once, however often the job runs
  connector table append /data/events --input "/in/$(date +%F).jsonl.zst" --app-id daily --version "$(date +%Y%m%d)"

  # a function that is called at least once for each object, whose sequence number only grows
  connector table append /data/events --input "$OBJECT" --app-id "uploads" --version "$SEQUENCE" -o json`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.uri = args[0]
			if err := f.check(cmd); err != nil {
				return err
			}
			log, err := logs.logger(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			store, err := stores.open(cmd.Context(), f.uri)
			if err != nil {
				return err
			}
			a := appender{appendFlags: f, log: log, stderr: cmd.ErrOrStderr(), store: store}
			defer a.close(cmd.Context())
			done, err := a.run(cmd.Context(), cmd.InOrStdin())
			if errors.Is(err, context.Canceled) && !a.unresolved {
				return fmt.Errorf("stopped, nothing was appended: %w", err)
			}
			if err != nil {
				return err
			}
			if err := done.print(cmd.OutOrStdout(), f.output); err != nil { // before close, which may take a while
				return done.untold(err)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.input, "input", "", "file of messages; - reads standard input (required)")
	flags.StringVar(&f.format, "format", formatJSON, "format of the messages: json")
	flags.StringVar(&f.app.ID, "app-id", "", "append once: name of the job in the table's txns (needs --version)")
	flags.Int64Var(&f.app.Version, "version", 0, "append once: number of this input, larger for each (needs --app-id)")
	flags.BoolVar(&f.create, "create", false, "make the table if there is none")
	flags.StringVar(&f.schema, "schema", "", "with --create: column list in Spark's SQL notation (default: what the input has)")
	flags.StringSliceVar(&f.partitionBy, "partition-by", nil, "with --create: partition columns, separated by commas")
	flags.Var(&f.properties, "property", "with --create: table property as `key=value`, the value as it stands; may be repeated")
	flags.StringVarP(&f.output, "output", "o", "text", "text or json")
	logs.add(cmd)
	must(flags.Set("log-level", "warn"))
	flags.Lookup("log-level").DefValue = "warn"
	must(cmd.MarkFlagRequired("input"))
	cmd.MarkFlagsRequiredTogether("app-id", "version")
	return cmd
}

// check looks for mistakes before anything is opened.
func (f *appendFlags) check(cmd *cobra.Command) error {
	changed := cmd.Flags().Changed
	for _, name := range []string{"schema", "partition-by", "property"} {
		if changed(name) && !f.create {
			return &configError{fmt.Errorf("--%s says how a new table is made: it needs --create", name)}
		}
	}
	switch {
	case f.format != formatJSON:
		return &configError{fmt.Errorf("--format is %q: use json", f.format)}
	case f.output != "text" && f.output != "json":
		return &configError{fmt.Errorf("--output is %q: use text or json", f.output)}
	case changed("app-id") && f.app.ID == "":
		return &configError{errors.New("--app-id is empty: name the job")}
	case f.app.Version < 0:
		return &configError{fmt.Errorf("--version is %d: use 0 or more", f.app.Version)}
	case f.input == "":
		return &configError{errors.New("--input is empty: name a file, or - for standard input")}
	}
	return nil
}

// appended is what `table append -o json` prints. Its field names are documented in docs/table.md and stay.
type appended struct {
	Version    *int64 `json:"version"`
	Appended   bool   `json:"appended"`
	Rows       int64  `json:"rows"`
	Files      int    `json:"files"`
	Bytes      int64  `json:"bytes"`
	AppID      string `json:"app_id,omitzero"`
	AppVersion *int64 `json:"app_version,omitzero"`
}

func (a appended) print(w io.Writer, output string) error {
	var err error
	switch {
	case output == "json":
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		return enc.Encode(a)
	case a.Appended:
		_, err = fmt.Fprintf(w, "version %d, %d rows\n", *a.Version, a.Rows)
	case a.AppVersion != nil:
		_, err = fmt.Fprintf(w, "already at version %d of app id %q: nothing was appended\n", *a.AppVersion, a.AppID)
	default:
		_, err = fmt.Fprintln(w, "the input is empty: nothing was appended")
	}
	return err
}

// untold keeps a caller that could not be told what was done from doing it again.
func (a appended) untold(err error) error {
	if !a.Appended {
		return fmt.Errorf("nothing was appended; printing that: %w", err)
	}
	return fmt.Errorf("the rows are in the table, as version %d: don't append them again; printing that: %w", *a.Version, err)
}

// appender runs one append.
type appender struct {
	appendFlags
	log    *slog.Logger
	stderr io.Writer
	store  storage.Store

	in         *inputFile
	table      *sink.Table
	unresolved bool // a commit's answer is outstanding
}

// cleanupTimeout bounds the deletion of files that were written and are not part of the table. What it misses, VACUUM removes.
const cleanupTimeout = 5 * time.Second

// upkeepTimeout bounds how long an append that made a log checkpoint due, one in a hundred, goes on to write it.
const upkeepTimeout = time.Minute

func (a *appender) run(ctx context.Context, stdin io.Reader) (appended, error) {
	if err := a.open(ctx); err != nil {
		return appended{}, err
	}
	// The table comes first: a job that died after its commit may have moved its input away.
	if done, already, err := a.applied(ctx); err != nil || already {
		return done, err
	}
	var err error
	if a.in, err = openInputFile(ctx, a.input, stdin); err != nil {
		return appended{}, err
	}
	defer func() { _ = a.in.Close() }() // only read
	if a.table == nil {
		if empty, err := a.makeTable(ctx); err != nil || empty {
			return appended{}, err
		}
		if done, already, err := a.applied(ctx); err != nil || already { // another process was faster
			return done, err
		}
	}
	if err := a.table.Maintain(ctx); err != nil {
		return appended{}, err
	}
	for wait := (backoff.Backoff{}); ; {
		done, err := a.attempt(ctx)
		failed, isWrite := errors.AsType[*writeError](err)
		switch {
		case errors.Is(err, sink.ErrRewrite):
		case isWrite && ctx.Err() == nil:
			again := wait.Next()
			a.log.Warn("writing data files fails; their messages are read again, nothing is lost", "error", failed.err, "again_in", again.Round(time.Millisecond))
			if err := backoff.Sleep(ctx, again); err != nil {
				return appended{}, err
			}
		default:
			return done, err
		}
	}
}

// writeError is a failure of the store while data files were written. Trying again may help.
type writeError struct{ err error }

func (e *writeError) Error() string { return "writing data files: " + e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// close writes what the append has made due.
func (a *appender) close(ctx context.Context) {
	if a.table == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, upkeepTimeout)
	defer cancel()
	a.table.Close(ctx)
}

// open opens the table. Where there is none yet, and one may be made, it stays nil.
func (a *appender) open(ctx context.Context) (err error) {
	a.table, err = a.openTable(ctx, a.store, nil)
	switch {
	case errors.Is(err, delta.ErrNotTable) && a.create:
		return nil
	case errors.Is(err, delta.ErrNotTable):
		return &sink.Error{Op: "appending to " + open.Redact(a.uri), Err: delta.ErrNotTable, Hint: "or let --create make it"}
	case err == nil && a.schema != "":
		return a.tellDifferences(ctx)
	}
	return err
}

// applied answers an append that the table, where there is one, has already.
func (a *appender) applied(ctx context.Context) (done appended, already bool, err error) {
	if a.table == nil {
		return appended{}, false, nil
	}
	version, already, err := a.table.Applied(ctx, a.app)
	if err != nil || !already {
		return appended{}, false, err
	}
	return appended{AppID: a.app.ID, AppVersion: &version}, true, nil
}

// makeTable makes the table. It is empty where that would have to be made of an input without messages.
func (a *appender) makeTable(ctx context.Context) (empty bool, err error) {
	schema, err := a.newSchema()
	if err != nil || schema == nil {
		return err == nil, err
	}
	if err := a.rehearse(ctx, schema); err != nil {
		return false, err
	}
	a.table, err = a.openTable(ctx, a.store, schema)
	return false, err
}

func (a *appender) openTable(ctx context.Context, store storage.Store, create *arrow.Schema) (*sink.Table, error) {
	cfg := sink.DefaultConfig()
	cfg.URI, cfg.PartitionBy, cfg.Properties = a.uri, a.partitionBy, a.properties
	return sink.Open(ctx, store, cfg, sink.Options{
		Create: create, Engine: engine(), Now: time.Now, Log: a.log, Events: sink.Events{
			Retry: func(op string, err error, wait time.Duration) {
				a.log.Warn("the table's store fails; the same is tried again, nothing is lost", "doing", op, "error", err, "again_in", wait.Round(time.Millisecond))
			},
			Recovered: func(op string) { a.log.Info("the table's store answers again", "doing", op) },
			RaceLost:  func(version int64) { a.log.Debug("another writer made the version first", "version", version) },
		},
	})
}

// newSchema is the schema of a table that has to be made: what was asked for, or what the input has. Nil: it has nothing.
func (a *appender) newSchema() (*arrow.Schema, error) {
	var schema *arrow.Schema
	var err error
	if a.schema != "" {
		if schema, err = delta.ParseDDL(a.schema); err != nil {
			return nil, &configError{fmt.Errorf("--schema: %w", err)}
		}
	} else if schema, err = inferSchema(a.in.name, a.in.messages()); err != nil || schema == nil {
		return nil, err
	}
	err = delta.CheckCreate(delta.CreateOptions{Schema: schema, PartitionBy: a.partitionBy, Properties: a.properties, Now: time.Now})
	if err != nil {
		return nil, &configError{fmt.Errorf("making the table: %w", err)}
	}
	if a.schema == "" {
		_, _ = fmt.Fprintf(a.stderr, "schema of the new table, inferred from the input: %s\n", delta.FormatDDL(schema))
	}
	return schema, nil
}

// rehearse makes the table in memory and has the input decoded for it, so that an input with a bad message makes no table.
func (a *appender) rehearse(ctx context.Context, schema *arrow.Schema) error {
	table, err := a.openTable(ctx, memory.New(), schema)
	if err != nil {
		return err
	}
	layout, err := table.Layout(ctx)
	if err != nil {
		return err
	}
	return readRows(ctx, a.in, layout, a.log, func(arrow.RecordBatch) error { return nil })
}

// tellDifferences lists where a --schema deviates from the table's own, which counts.
func (a *appender) tellDifferences(ctx context.Context) error {
	schema, err := delta.ParseDDL(a.schema)
	if err != nil {
		return &configError{fmt.Errorf("--schema: %w", err)}
	}
	tellDifferences(ctx, a.table, schema, a.log)
	return nil
}

// attempt writes the whole input under the table's present layout and commits it. sink.ErrRewrite: the layout is another one by now.
func (a *appender) attempt(ctx context.Context) (appended, error) {
	layout, err := a.table.Layout(ctx)
	if err != nil {
		return appended{}, err
	}
	unit, err := a.write(ctx, layout)
	if err != nil {
		return appended{}, err
	}
	if unit.Rows() == 0 && a.app.ID == "" {
		return appended{}, nil
	}
	done := appended{Appended: true, Rows: unit.Rows(), Files: unit.Files(), Bytes: unit.Bytes(), AppID: a.app.ID}
	version, already, err := a.table.Append(ctx, unit, a.app)
	switch {
	case err != nil:
		return appended{}, a.stopped(ctx, unit, err)
	case already:
		return appended{AppID: a.app.ID, AppVersion: &version}, nil
	}
	done.Version = &version
	if a.app.ID != "" {
		done.AppVersion = &a.app.Version
	}
	return done, nil
}

// write makes the data files. After an error none stays.
func (a *appender) write(ctx context.Context, layout *sink.Layout) (unit *sink.Unit, err error) {
	w := a.table.NewWriter(layout)
	var failed error // of the store, not of the input
	err = readRows(ctx, a.in, layout, a.log, func(rb arrow.RecordBatch) error {
		failed = w.Write(ctx, rb)
		return failed
	})
	if err == nil {
		unit, failed = w.FinishAppend()
		err = failed
	}
	if err == nil {
		return unit, nil
	}
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	w.Abort(cleanup)
	if failed != nil && !errors.As(failed, new(*sink.Error)) {
		return nil, &writeError{failed}
	}
	return nil, err
}

// stopped cleans up after an append that ended without an outcome, and says what is left to do.
func (a *appender) stopped(ctx context.Context, unit *sink.Unit, err error) error {
	if a.unresolved = unit.State() == sink.Unresolved; a.unresolved {
		if a.app.ID != "" {
			return fmt.Errorf("%w; the rows may be in the table: run the same command again, with the same --app-id and --version", err)
		}
		return fmt.Errorf("%w; the rows may be in the table: look at `connector table history %s` before you run it again", err, open.Redact(a.uri))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	a.table.Discard(ctx, []*sink.Unit{unit})
	return err
}
