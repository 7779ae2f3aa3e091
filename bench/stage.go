package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime/pprof"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/batch"
	"kafkadelta/checkpoint"
	"kafkadelta/decode"
	decodejson "kafkadelta/decode/json"
	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/storage/local"
)

// The stages, in the order of a message's path.
const (
	stageDecode  = "decode"
	stageParquet = "parquet"
	stagePath    = "path"
)

var allStages = []string{stageDecode, stageParquet, stagePath}

// childStage is the hidden subcommand that runs decode or parquet in a process of its own.
const childStage = "child-stage"

const (
	// chunkMessages are made at a time, outside of what is measured, so that the input takes little memory.
	chunkMessages = 1 << 15
	// batchRows and batchBytes are the pipeline's.
	batchRows  = 8192
	batchBytes = 4 << 20
)

// stageRun is one run of decode or parquet.
type stageRun struct {
	stage, data, dir string
	shape            shape
	messages         int64
	partitions       int32

	decoder decoder
	table   *sink.Table // nil for decode
	layout  *sink.Layout
	writer  *sink.Writer
	ledger  *batch.Ledger
	flush   batch.Config
	rows    int64
}

func stageChild(ctx context.Context, args []string) error {
	var r stageRun
	var shapeName, profile string
	var partitions int
	f := flag.NewFlagSet(childStage, flag.ContinueOnError)
	f.StringVar(&r.stage, "stage", "", "")
	f.StringVar(&shapeName, "shape", "", "")
	f.Int64Var(&r.messages, "messages", 0, "")
	f.IntVar(&partitions, "partitions", 1, "")
	f.StringVar(&r.data, "data", "", "")
	f.StringVar(&r.dir, "dir", "", "")
	f.StringVar(&profile, "cpuprofile", "", "")
	if err := f.Parse(args); err != nil {
		return err
	}
	r.partitions = int32(partitions)
	var err error
	if r.shape, err = shapeOf(shapeName); err != nil {
		return err
	}
	stopProfile, err := startProfile(profile)
	if err != nil {
		return err
	}
	result, err := r.run(ctx)
	if stopErr := stopProfile(); err == nil {
		err = stopErr
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// startProfile does nothing without a path.
func startProfile(path string) (stop func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("saving the profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() error { pprof.StopCPUProfile(); return f.Close() }, nil
}

func (r *stageRun) run(ctx context.Context) (run, error) {
	out := run{Stage: r.stage, Shape: r.shape.name, Messages: r.messages}
	if err := r.prepare(ctx); err != nil {
		return out, err
	}
	in, err := r.shape.open(r.data)
	if err != nil {
		return out, err
	}
	chunk := newChunk(r.shape.name)
	measured := pprof.WithLabels(ctx, pprof.Labels("bench", "measured")) // pprof -tagfocus=measured leaves the input out
	size := r.shape.messages(chunkMessages)
	for first := int64(0); first < r.messages; first += size {
		if err := chunk.fill(in, first, min(size, r.messages-first), r.partitions); err != nil {
			return out, err
		}
		out.Bytes += int64(len(chunk.text))
		last := first+size >= r.messages
		pprof.SetGoroutineLabels(measured)
		err := out.measure(func() error { return r.take(ctx, chunk, last) })
		pprof.SetGoroutineLabels(ctx)
		if err != nil {
			return out, err
		}
	}
	out.PeakRSS = peakRSS(os.Getpid())
	return out, r.check(ctx, &out)
}

// prepare makes the decoder and, for parquet, the table.
func (r *stageRun) prepare(ctx context.Context) error {
	schema, err := r.shape.schema()
	if err != nil {
		return err
	}
	plan, err := decode.NewPlan(schema, decode.Config{Columns: r.shape.columns})
	if err != nil {
		return err
	}
	if r.decoder = decodejson.New(plan); r.shape.decoder != nil {
		if r.decoder, err = r.shape.decoder(plan); err != nil {
			return err
		}
	}
	if r.stage == stageDecode {
		return nil
	}
	store, err := local.New(r.dir)
	if err != nil {
		return err
	}
	cfg := sink.DefaultConfig()
	cfg.URI, cfg.PartitionBy = r.dir, r.shape.partitionBy
	r.table, err = sink.Open(ctx, store, cfg, sink.Options{
		Name: r.shape.name, Create: schema, Engine: "bench/0.0.0", Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	if err := r.claim(ctx); err != nil {
		return err
	}
	if r.layout, err = r.table.Layout(ctx); err != nil {
		return err
	}
	r.writer, r.ledger, r.flush = r.table.NewWriter(r.layout), batch.NewLedger(), batch.DefaultConfig()
	return nil
}

// claim makes the table ready to take every partition from offset 0.
func (r *stageRun) claim(ctx context.Context) error {
	if err := pinStarts(ctx, r.table, r.shape.name, r.partitions); err != nil {
		return err
	}
	var parts []checkpoint.Partition
	for id := range r.partitions {
		parts = append(parts, checkpoint.Partition{Topic: r.shape.name, ID: id})
	}
	_, err := r.table.Claim(ctx, parts)
	return err
}

// pinStarts has every partition of the topic begin at offset 0.
func pinStarts(ctx context.Context, table *sink.Table, topic string, partitions int32) error {
	starts := map[int32]int64{}
	for id := range partitions {
		starts[id] = 0
	}
	return table.Pin(ctx, sink.PinRequest{
		Topic: topic, Identity: checkpoint.Identity{ClusterID: "bench", TopicID: "bench"}, Partitions: partitions,
		Reported: func(context.Context) (map[int32]int64, error) { return nil, nil },
		Starts:   func(context.Context, bool) (map[int32]int64, error) { return starts, nil },
	})
}

// take is what is measured: decode, and write. The last chunk ends with a flush.
func (r *stageRun) take(ctx context.Context, c *chunk, last bool) error {
	for i := range c.records {
		if err := r.decoder.Append(&c.records[i]); err != nil {
			return err
		}
		if r.decoder.Rows() < batchRows && r.decoder.Bytes() < batchBytes && i < len(c.records)-1 {
			continue
		}
		if err := r.write(ctx, r.decoder.NewBatch()); err != nil {
			return err
		}
	}
	if r.table == nil {
		return nil
	}
	if err := r.account(c); err != nil {
		return err
	}
	if last || r.flush.Due(r.writer.Bytes(), r.ledger.Rows()) {
		return r.commit(ctx)
	}
	return nil
}

func (r *stageRun) write(ctx context.Context, rb arrow.RecordBatch) error {
	defer rb.Release()
	r.rows += rb.NumRows()
	if r.table == nil {
		return nil
	}
	checked, bad := r.layout.Rules.Apply(rb)
	if len(bad) > 0 {
		return fmt.Errorf("row %d of the input is refused by the table: column %s: %s", bad[0].Row, bad[0].Path, bad[0].Reason)
	}
	defer checked.Release()
	return r.writer.Write(ctx, checked)
}

// account enters the chunk's offsets: partition by partition, as many of each.
func (r *stageRun) account(c *chunk) error {
	for id, next := range c.next {
		span, err := r.ledger.Open(checkpoint.Partition{Topic: r.shape.name, ID: int32(id)}, c.first[id])
		if err != nil {
			return err
		}
		span.Next, span.Records, span.Rows = next, span.Records+next-c.first[id], span.Rows+next-c.first[id]
	}
	return nil
}

func (r *stageRun) commit(ctx context.Context) error {
	unit, err := r.writer.Finish(r.ledger.Spans())
	if err != nil {
		return err
	}
	r.ledger.Reset()
	if err := r.table.Commit(ctx, []*sink.Unit{unit}); err != nil {
		return err
	}
	if unit.State() != sink.Landed {
		return fmt.Errorf("committing to %s: the unit is %v", r.dir, unit.State())
	}
	return nil
}

// check makes sure that no message was lost on the way.
func (r *stageRun) check(ctx context.Context, out *run) error {
	if r.rows != r.messages {
		return fmt.Errorf("%d messages were decoded to %d rows", r.messages, r.rows)
	}
	if r.table == nil {
		return nil
	}
	return out.checkTable(ctx, r.dir)
}

// checkTable compares the table's rows with the messages, and notes its size.
func (r *run) checkTable(ctx context.Context, dir string) error {
	store, err := local.New(dir)
	if err != nil {
		return err
	}
	s, err := delta.OpenSnapshot(ctx, store, -1)
	if err != nil {
		return err
	}
	totals, err := s.Totals(ctx)
	if err != nil {
		return err
	}
	if totals.Rows != r.Messages || totals.FilesWithoutRows > 0 {
		return fmt.Errorf("%d messages of %s became %d rows of the table", r.Messages, r.Shape, totals.Rows)
	}
	r.Files, r.FileBytes, r.Versions = totals.Files, totals.Bytes, s.Version()
	return nil
}

// chunk is a piece of the input in memory, ready to be measured.
type chunk struct {
	topic       string
	text        []byte
	ends        []int
	records     []kgo.Record
	first, next []int64 // offsets by partition
}

func newChunk(topic string) *chunk {
	return &chunk{
		topic: topic, text: make([]byte, 0, chunkMessages*320), ends: make([]int, 0, chunkMessages), records: make([]kgo.Record, 0, chunkMessages),
	}
}

// fill reads messages from `from` on. Like in a topic that was filled in turn, message i has partition i modulo their
// number; like from a poll, the messages of one partition follow each other.
func (c *chunk) fill(in feed, from, n int64, partitions int32) (err error) {
	c.text, c.ends, c.records = c.text[:0], c.ends[:0], c.records[:0]
	for range n {
		if c.text, err = in.append(c.text); err != nil {
			return err
		}
		c.ends = append(c.ends, len(c.text))
	}
	c.first, c.next = make([]int64, partitions), make([]int64, partitions)
	now := time.Now()
	for id := range int64(partitions) {
		c.first[id] = (from + int64(partitions) - 1 - id) / int64(partitions)
		c.next[id] = c.first[id]
		for i := (id - from%int64(partitions) + int64(partitions)) % int64(partitions); i < n; i += int64(partitions) {
			begin := 0
			if i > 0 {
				begin = c.ends[i-1]
			}
			c.records = append(c.records, kgo.Record{
				Topic: c.topic, Partition: int32(id), Offset: c.next[id], Timestamp: now, Value: c.text[begin:c.ends[i]:c.ends[i]],
			})
			c.next[id]++
		}
	}
	return nil
}
