package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/checkpoint"
	"kafkadelta/pipeline"
)

// flightsSchema is the shape of the sample: flights that left New York City in 2013.
const flightsSchema = `year INT, month INT, day INT, dep_time INT, sched_dep_time INT, dep_delay INT, arr_time INT, ` +
	`sched_arr_time INT, arr_delay INT, carrier STRING, flight INT, tailnum STRING, origin STRING, dest STRING, air_time INT, ` +
	`distance INT, hour INT, minute INT, time_hour TIMESTAMP`

// demoName is the demo's topic, consumer group and stream.
const demoName = "flights"

// demoFlags are what `demo` takes.
type demoFlags struct {
	input, schema, table string
	partitions           int32
	fresh, skipPoison    bool
}

func demoCommand() *cobra.Command {
	var f demoFlags
	var logs logFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it work: an embedded Kafka, real events, and a local table",
		Long: `demo starts a Kafka inside this process, produces 10,000 real events (flights that left New York City in 2013), and runs
into ./demo-table the very pipeline that ` + "`run`" + ` runs. It needs no network and no other program. The embedded Kafka keeps
its log beside the table, so a second demo goes on where the first stopped, and adds nothing twice.`,
		Example: `  connector demo
  connector demo --input events.jsonl.zst --schema "id BIGINT, at TIMESTAMP, tags ARRAY<STRING>" --table ./events
  connector demo --fresh`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := logs.logger(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return demo(cmd.Context(), f, log, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.input, "input", "", "JSON lines file, plain, .zst or .gz (default: 10,000 flights that are part of this program)")
	flags.StringVar(&f.schema, "schema", "", "columns of the input, in Spark's SQL notation (default: those of the flights)")
	flags.StringVar(&f.table, "table", "./demo-table", "folder of the table")
	flags.Int32Var(&f.partitions, "partitions", 4, "partitions of the embedded topic")
	flags.BoolVar(&f.skipPoison, "skip-poison", false, "leave out messages that cannot become rows, and count them")
	flags.BoolVar(&f.fresh, "fresh", false, "remove the demo's table and topic, and start over")
	logs.add(cmd)
	must(cmd.Flags().Set("log-level", "warn"))
	cmd.Flags().Lookup("log-level").DefValue = "warn"
	return cmd
}

func (f demoFlags) kafkaFolder() string { return strings.TrimRight(f.table, `/\`) + ".kafka" }

func demo(ctx context.Context, f demoFlags, log *slog.Logger, stdout, stderr io.Writer) error {
	c, err := f.config()
	if err != nil {
		return err
	}
	if err := f.prepareFolders(); err != nil {
		return err
	}
	cluster, err := f.startKafka()
	if err != nil {
		return err
	}
	defer cluster.Close()
	c.Source.Kafka.Brokers = cluster.ListenAddrs()
	produced, err := f.produce(ctx, c.Source.Kafka.Brokers, stderr)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(stdout, "embedded Kafka: topic %s with %d partitions, %d messages produced now, log in %s\n", demoName, f.partitions, produced, f.kafkaFolder())

	metrics := pipeline.NewMetrics(c.Name, time.Now)
	begun := time.Now()
	stopProgress := showProgress(stderr, metrics, begun)
	err = runStream(ctx, c, log, runOptions{untilEnd: true, metrics: metrics})
	stopProgress()
	if poison, ok := errors.AsType[*pipeline.PoisonError](err); ok {
		return &demoPoisonError{poison}
	}
	if err != nil {
		return err
	}
	return f.summary(ctx, c, metrics.Progress(), time.Since(begun), stdout)
}

// demoPoisonError says what to do where there is no configuration file.
type demoPoisonError struct{ poison *pipeline.PoisonError }

func (e *demoPoisonError) Error() string {
	return fmt.Sprintf("stopped at a message that cannot become a row: %v; everything before it is committed; leave such messages out with --skip-poison, or mend the input and start over with --fresh", e.poison.Err)
}

func (e *demoPoisonError) Unwrap() error { return e.poison }

// config is the configuration that a user would write for the demo's topic and table.
func (f demoFlags) config() (config, error) {
	c := defaultConfig()
	c.Name = demoName
	c.Source.Kafka.Brokers = []string{"embedded:0"} // replaced once the embedded Kafka listens
	c.Source.Kafka.Topic = demoName
	c.Source.Kafka.SessionTimeout = 6 * time.Second
	c.Table.Sink.URI = f.table
	c.Table.Sink.Schema = f.schema
	if f.schema == "" {
		c.Table.Sink.Schema = flightsSchema
		c.Table.Sink.PartitionBy = []string{"month"}
	}
	c.Pipeline.Flush.Interval = time.Second
	if f.skipPoison {
		c.Pipeline.OnError = pipeline.OnErrorSkip
	}
	c.Process.HTTP.Listen = httpOff
	if f.partitions < 1 || f.partitions > 1000 {
		return c, &configError{fmt.Errorf("--partitions is %d: use 1 to 1000", f.partitions)}
	}
	if err := c.validate(); err != nil {
		return c, &configError{err}
	}
	return c, nil
}

// prepareFolders makes the folder of the embedded Kafka, and under --fresh removes what an earlier demo left. It removes
// nothing that a demo has not made.
func (f demoFlags) prepareFolders() error {
	if strings.Contains(f.table, "://") {
		return &configError{fmt.Errorf("--table is %q: the demo writes to a local folder", f.table)}
	}
	_, err := os.Stat(f.kafkaFolder())
	made := err == nil
	entries, err := os.ReadDir(f.table)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return &configError{fmt.Errorf("--table: %w", err)}
	}
	if len(entries) > 0 && !made {
		return &configError{fmt.Errorf("--table %s exists, but no demo made it (there is no %s): use another folder", f.table, f.kafkaFolder())}
	}
	if f.fresh && made {
		if err := errors.Join(os.RemoveAll(f.table), os.RemoveAll(f.kafkaFolder())); err != nil {
			return fmt.Errorf("removing the last demo: %w", err)
		}
	}
	return os.MkdirAll(f.kafkaFolder(), 0o777)
}

// startKafka starts the embedded Kafka on its kept log, and makes the topic the first time.
func (f demoFlags) startKafka() (*kfake.Cluster, error) {
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1), kfake.ClusterID("connector-demo"), kfake.DataDir(filepath.Join(f.kafkaFolder(), "log")),
		kfake.SyncWrites(),                       // the table must never be ahead of the log, not even after a crash of the machine
		kfake.SeedTopics(f.partitions, demoName), // where there is no log yet
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}),
	)
	if err != nil {
		return nil, fmt.Errorf("starting the embedded Kafka on %s: %w; `--fresh` starts over", f.kafkaFolder(), err)
	}
	return cluster, nil
}

// produce brings the input into the topic, each line once.
func (f *demoFlags) produce(ctx context.Context, brokers []string, stderr io.Writer) (int64, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return 0, err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	topics, err := admin.ListTopics(ctx, demoName)
	if err != nil {
		return 0, err
	}
	f.partitions = int32(len(topics[demoName].Partitions)) // an earlier demo may have made another number
	if f.partitions == 0 {
		return 0, fmt.Errorf("the embedded Kafka has lost its topic: `--fresh` starts over")
	}
	ends, err := admin.ListEndOffsets(ctx, demoName)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return 0, err
	}
	at := make([]int64, f.partitions)
	ends.Each(func(o kadm.ListedOffset) { at[o.Partition] = o.Offset })
	in, err := openDemoInput(f.input)
	if err != nil {
		return 0, err
	}
	defer func() { _ = in.Close() }() // only read
	ledger, err := openLedger(f.kafkaFolder())
	if err != nil {
		return 0, err
	}
	entry, err := ledger.begin(ctx, in, at)
	if err != nil || entry.Complete {
		return 0, err
	}
	produced, err := produceLines(ctx, client, in, entry.Starts, at, stderr)
	if err != nil {
		return produced, err
	}
	return produced, ledger.finish(ctx, entry)
}

// produceLines sends line i to partition i modulo their number, and leaves out what the topic holds already.
func produceLines(ctx context.Context, client *kgo.Client, in *demoInput, starts, at []int64, stderr io.Writer) (int64, error) {
	var produced, line int64
	var failed error
	partitions := int64(len(at))
	for m, err := range messages(in.reader) {
		if err != nil {
			return produced, &configError{fmt.Errorf("--input: reading %s: %w", in.name, err)}
		}
		p := line % partitions
		offset := starts[p] + line/partitions
		line++
		if offset < at[p] {
			continue
		}
		client.Produce(ctx, &kgo.Record{Topic: demoName, Partition: int32(p), Value: slices.Clone(m.text)}, func(_ *kgo.Record, err error) {
			if err != nil && failed == nil {
				failed = err // read after Flush
			}
		})
		produced++
		if produced%100_000 == 0 {
			_, _ = fmt.Fprintf(stderr, "produced %d messages into the embedded Kafka\n", produced)
		}
	}
	if err := client.Flush(ctx); err != nil {
		return produced, err
	}
	return produced, failed
}

// showProgress writes a live line until the returned function is called.
func showProgress(w io.Writer, m *pipeline.Metrics, begun time.Time) func() {
	interval, end := time.Second, "\n"
	if isTerminal(w) {
		interval, end = 200*time.Millisecond, "\r"
	}
	show := func(end string) {
		p := m.Progress()
		seconds := time.Since(begun).Seconds()
		_, _ = fmt.Fprintf(w, "%8d messages read  %8d rows committed  %4d commits  %9.0f rows/s%s", p.Messages, p.Rows, p.Commits, float64(p.Rows)/seconds, end)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				show(end)
			case <-stop:
				show("\n")
				return
			}
		}
	}()
	return func() { close(stop); <-done }
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (f demoFlags) summary(ctx context.Context, c config, p pipeline.Progress, took time.Duration, w io.Writer) error {
	store, err := openStore(ctx, f.table, c.Storage, nil)
	if err != nil {
		return err
	}
	i, err := inspect(ctx, store, f.table)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\ntable %s: version %d, %d files, %d rows, %d bytes\n", f.table, i.Version, i.Files, i.Rows, i.Bytes)
	fmt.Fprintf(&b, "this run: %d rows in %d commits, %v\n", p.Rows, p.Commits, took.Round(time.Millisecond))
	if p.Poison > 0 {
		fmt.Fprintf(&b, "skipped: %d messages that cannot become rows\n", p.Poison)
	}
	b.WriteString("next offset by partition, as the table holds it:")
	for _, txn := range i.Txns {
		if n, ok := checkpoint.PartitionOf(c.Name, txn.AppID); ok {
			fmt.Fprintf(&b, "  %d: %d", n, txn.Version+1)
		}
	}
	path, err := filepath.Abs(f.table)
	if err != nil {
		return err
	}
	b.WriteString("\n\nLook at it:\n" + queries(path) + "\nRun the demo again: it adds nothing twice.\n")
	_, err = io.WriteString(w, b.String())
	return err
}
