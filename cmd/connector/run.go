package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/columns"
	"kafkadelta/decode"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
	"kafkadelta/storage"
	"kafkadelta/storage/open"
)

func runCommand() *cobra.Command {
	var file, profile string
	var untilEnd bool
	var logs logFlags
	cmd := &cobra.Command{
		Use:   "run -c FILE",
		Short: "Run the daemon that a configuration file describes",
		Long: `run moves messages until it is stopped. SIGINT and SIGTERM stop it in order: it polls no more, flushes, commits,
reports its offsets and leaves the group. A second signal stops it at once. Nothing is lost or doubled either way.

With --until-end it stops by itself once the table holds everything that was in the topic when it started: for cron jobs
and functions.

` + exitCodesHelp,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := logs.logger(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			d, err := loadDaemon(file)
			if err != nil {
				return err
			}
			stopProfile, err := startCPUProfile(profile)
			if err != nil {
				return err
			}
			return errors.Join(d.run(cmd.Context(), log, runOptions{untilEnd: untilEnd}), stopProfile())
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file; - reads standard input (required)")
	cmd.Flags().BoolVar(&untilEnd, "until-end", false, "stop at the end offsets seen at the start")
	cmd.Flags().StringVar(&profile, "cpuprofile", "", "file for a CPU profile of the run")
	must(cmd.Flags().MarkHidden("cpuprofile")) // for bench/
	logs.add(cmd)
	must(cmd.MarkFlagRequired("config"))
	return cmd
}

// startCPUProfile does nothing without a path.
func startCPUProfile(path string) (stop func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, &configError{fmt.Errorf("--cpuprofile: %w", err)}
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the profile: %w", err), f.Close())
	}
	return func() error { pprof.StopCPUProfile(); return f.Close() }, nil
}

// runOptions are what the command line adds to a configuration.
type runOptions struct {
	untilEnd bool
	metrics  *pipeline.Metrics // made anew where nil
	client   []kgo.Opt
	hub      *hub         // nil: nothing is served
	share    int          // pipelines of this process, among which cores are divided; 0 for one
	memory   func() int64 // bytes that the pipeline may hold now; nil for what it does by default
}

// runStream wires one stream's stages together and runs it.
func runStream(ctx context.Context, c config, log *slog.Logger, o runOptions) error {
	if err := c.Source.Kafka.CheckSecrets(); err != nil {
		return &configError{err}
	}
	unlessStopped := func(err error) error {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // nothing was read yet
		}
		return err
	}
	messages, err := openFormat(ctx, c.Source, log)
	if err != nil {
		return unlessStopped(&configError{err})
	}
	defer messages.close()
	metrics := o.metrics
	if metrics == nil {
		metrics = pipeline.NewMetrics(c.Name, time.Now)
	}
	var check *selfCheck
	gatherers := []prometheus.Gatherer{metrics.Gatherer()}
	if c.Verify.Interval > 0 {
		check = newSelfCheck(c.Name, c.Verify, c.Table.Decode.Metadata.Column, metrics.Leads, time.Now, log)
		gatherers = append(gatherers, check.registry)
	}
	if o.hub != nil {
		o.hub.runs(c.Name, metrics.Ready, gatherers...)
	}
	store, err := openStoreOf(ctx, c.tableURI(), c.Storage, metrics.Request, c.parts(o))
	if err != nil {
		return unlessStopped(&configError{fmt.Errorf("table.uri: %w", err)})
	}
	if check != nil {
		defer check.start(ctx, store)()
	}
	deadLetters, err := c.deadLetters(ctx, o, metrics.Request, log)
	if err != nil {
		return unlessStopped(err)
	}
	routing, err := c.routing(o, metrics.Request, log)
	if err != nil {
		return unlessStopped(err)
	}
	log.Info("starting", "version", version(), "name", c.Name, "topic", c.Source.Kafka.Topic, "table", open.Redact(c.Table.Sink.URI))
	err = pipeline.Run(ctx, pipeline.Options{
		Config: c.Pipeline, Name: c.Name, Source: c.Source.Kafka, UntilEnd: o.untilEnd,
		Metrics: metrics, Log: log, Now: time.Now, ClientOptions: o.client, Share: o.share, Memory: o.memory,
		OpenTable: func(ctx context.Context, events sink.Events) (*sink.Table, error) {
			return c.openTable(ctx, store, messages, o, events, log)
		},
		Routing:         routing,
		OpenDeadLetters: deadLetters,
		DeadLetterTopic: c.DeadLetters.Topic,
		NewDecoder:      c.newDecoder(messages),
	})
	if err == nil {
		log.Info("stopped, everything that was read is committed", "rows", metrics.Progress().Rows, "commits", metrics.Progress().Commits)
	}
	return err
}

// openTable opens the stream's table, or makes it, and tells where it is another one than configured.
func (c config) openTable(ctx context.Context, store storage.Store, messages *format, o runOptions, events sink.Events, log *slog.Logger) (*sink.Table, error) {
	schema, err := c.newTableSchema(ctx, store, messages, o, log)
	if err != nil {
		return nil, err
	}
	create := schema
	if c.Table.Sink.Create == sink.CreateNever {
		create = nil
	}
	t, err := sink.Open(ctx, store, c.Table.Sink, sink.Options{
		Name: c.Name, Filtered: c.Table.Decode.Filter != "", Create: create, Engine: engine(), Memory: c.Pipeline.WriterMemory(o.share, o.memory, 1), Now: time.Now, Log: log, Events: events,
	})
	if err != nil {
		return nil, err
	}
	tellDifferences(ctx, t, schema, log)
	if layout, err := t.Layout(ctx); err == nil {
		c.tellTypes(layout.Schema, log)
	}
	return t, nil
}

// newDecoder compiles what makes rows of messages for a layout of the table.
func (c config) newDecoder(messages *format) pipeline.NewDecoder {
	return func(layout *sink.Layout) (pipeline.Decoder, *columns.Plan, error) {
		made, err := c.columnsOf(layout)
		if err != nil {
			return nil, nil, err
		}
		d, err := messages.decoder(layout, made, c.follow(layout), c.followKeys(layout), c.given(layout.Schema))
		return d, made, err
	}
}

// newPlan plans the decoding of messages into schema, which are columns of what is decoded for a table's layout. A message that has no
// value for a column of the table gets the column's default.
func newPlan(schema *arrow.Schema, cfg decode.Config, layout *sink.Layout, made *columns.Plan) (*decode.Plan, error) {
	var defaults []decode.Default
	for _, d := range layout.Rules.Defaults() {
		if at := schema.FieldIndices(layout.Schema.Field(d.Column).Name); len(at) > 0 && made.Decodes(d.Column) {
			defaults = append(defaults, decode.Default{Column: at[0], Value: d.Value})
		}
	}
	return decode.NewPlan(schema, cfg, defaults...)
}

// follow has the table follow values, followKeys keys, which fill their column alone.
func (c config) follow(layout *sink.Layout) follow     { return c.following(layout, c.ownFields) }
func (c config) followKeys(layout *sink.Layout) follow { return c.following(layout, c.keyFields) }

// following has the table follow what messages of a schema fill of it.
func (c config) following(layout *sink.Layout, fields func(messages, table *arrow.Schema) (*arrow.Schema, error)) follow {
	how := c.Table.Sink.SchemaEvolution
	if how == sink.EvolveNone {
		return nil
	}
	return func(messages *arrow.Schema) (*arrow.Schema, error) {
		want, err := fields(messages, layout.Schema)
		if err != nil {
			return nil, err
		}
		next, err := layout.Toward(want, how)
		if err != nil || next == layout {
			return nil, err
		}
		return want, c.fits(layout, next)
	}
}

// fits tells why rows can't be made, or divided among tables, in a table that has followed a schema.
func (c config) fits(layout, next *sink.Layout) error {
	if err := c.fitsColumns(next); err != nil {
		return err
	}
	parts, err := c.routeParts()
	if err != nil {
		return err
	}
	if err := pipeline.CheckRoute(parts, layout.Schema, next.Schema); err != nil {
		return fmt.Errorf("table.uri: %w", err)
	}
	return nil
}

// fitsColumns tells why the configured columns can't be made in a table that has followed a schema, as where an expression reads a column that gets wider.
func (c config) fitsColumns(next *sink.Layout) error {
	if _, err := c.columnsOf(next); err != nil {
		return fmt.Errorf("table.columns and table.filter don't fit the table that follows: %w", err)
	}
	return nil
}

// given tells which fields of messages need no column by their schema. table is nil where there is none yet.
func (c config) given(table *arrow.Schema) decode.Given {
	types, err := c.columnTypes()
	if err != nil {
		return nil // validate tells it
	}
	return func(path string) bool { return columns.Given(path, table, c.Table.Decode, types) }
}

// ownFields are what messages of a schema fill of the table by themselves.
func (c config) ownFields(messages, table *arrow.Schema) (*arrow.Schema, error) {
	types, err := c.columnTypes()
	if err != nil {
		return nil, err
	}
	want, err := columns.Fields(messages, table, c.Table.Decode, types)
	if err != nil {
		return nil, err
	}
	return want, c.checkFields(want)
}

// checkFields refuses a schema of messages with a field that has the name of a column of the connector's own.
func (c config) checkFields(want *arrow.Schema) error {
	metadata, _ := c.Table.Decode.Metadata.Field()
	for _, f := range want.Fields() {
		if f.Name == metadata.Name || c.Source.Key.Format != "" && f.Name == c.Source.Key.Column {
			return fmt.Errorf("the schema has a field %q, which is the name of the column of Kafka's metadata or keys", f.Name)
		}
	}
	return nil
}

// tellDifferences lists where the configured schema deviates from the table's, which counts.
func tellDifferences(ctx context.Context, t *sink.Table, schema *arrow.Schema, log *slog.Logger) {
	layout, err := t.Layout(ctx)
	if err != nil || schema == nil {
		return
	}
	for _, d := range sink.Differences(schema, layout.Schema) {
		log.Warn("the table's schema differs from the configured one; the table's counts", "difference", d)
	}
}

func validateCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "validate -c FILE",
		Short: "Check a configuration file without reaching for Kafka or the table",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := loadDaemon(file)
			if err != nil {
				return err
			}
			for _, c := range d.pipelines {
				if err := showValid(cmd.Context(), cmd.OutOrStdout(), file, c); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file; - reads standard input (required)")
	must(cmd.MarkFlagRequired("config"))
	return cmd
}

// showValid says what a valid pipeline does, once its stores can be set up.
func showValid(ctx context.Context, w io.Writer, file string, c config) error {
	topic, example := "topic "+c.Source.Kafka.Topic, c
	if c.manyTopics() {
		example = c.forTopic(patternTopic)
		topic = "each topic that matches " + c.Source.TopicPattern
		if to := c.DeadLetters.Topic; to != "" {
			topic += ", but for " + to + " of dead letters,"
		}
		if c.Source.TopicPattern == "" {
			topic = "each of the topics " + strings.Join(c.Source.Topics, ", ")
		}
	}
	if _, err := openStore(ctx, example.tableURI(), example.Storage, nil); err != nil {
		return &configError{fmt.Errorf("table.uri: %w", err)}
	}
	if example.DeadLetters.URI != "" {
		if _, err := example.deadLetterStore(ctx); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%s is valid: %s goes to table %s as stream %q\n", file, topic, open.Redact(c.Table.Sink.URI), c.Name)
	return err
}

// must is for mistakes in this program's own command definitions.
func must(err error) {
	if err != nil {
		panic(errors.Join(errors.New("defining the command line"), err))
	}
}
