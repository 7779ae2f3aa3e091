package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/storage/local"
)

// childCommits is the hidden subcommand of one process that commits beside others.
const childCommits = "child-commits"

// committedTopic is what the stream of `bench commits` is called; each process has one of its partitions.
const committedTopic = "commits"

// openCommitted opens the table, which it makes at first, with as many partitions as there are processes.
func openCommitted(ctx context.Context, dir string, processes int) (*sink.Table, error) {
	store, err := local.New(dir)
	if err != nil {
		return nil, err
	}
	schema, err := delta.ParseDDL("id BIGINT, text STRING")
	if err != nil {
		return nil, err
	}
	cfg := sink.DefaultConfig()
	cfg.URI = dir
	table, err := sink.Open(ctx, store, cfg, sink.Options{
		Name: committedTopic, Create: schema, Engine: "bench/0.0.0", Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	return table, pinStarts(ctx, table, committedTopic, int32(processes))
}

// commitsChild commits as a worker of the pipeline does: files, offsets, and upkeep of the log.
func commitsChild(ctx context.Context, args []string) error {
	if len(args) != 5 {
		return fmt.Errorf("%s takes a folder, the process's number, that of all processes, of commits, and of the rows of each", childCommits)
	}
	var n [4]int
	for i := range n {
		var err error
		if n[i], err = strconv.Atoi(args[i+1]); err != nil {
			return err
		}
	}
	table, err := openCommitted(ctx, args[0], n[1])
	if err != nil {
		return err
	}
	c := &commits{table: table, rows: int64(n[3]), part: checkpoint.Partition{Topic: committedTopic, ID: int32(n[0])}}
	if err := c.prepare(ctx); err != nil {
		return err
	}
	fmt.Println(readyToCommit)
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	var out commitRun
	var used run
	err = used.measure(func() error {
		for range n[2] {
			begun := time.Now()
			state, err := c.one(ctx)
			if err != nil {
				return err
			}
			if state != sink.Landed {
				out.Refusal = "the unit is " + state.String()
				break
			}
			out.Landed++
			out.Waits = append(out.Waits, time.Since(begun).Seconds())
		}
		table.Close(ctx)
		return nil
	})
	if err != nil {
		return err
	}
	out.CPUSeconds = used.UserSeconds + used.SystemSeconds
	return json.NewEncoder(os.Stdout).Encode(out)
}

// commits are those of one process.
type commits struct {
	table *sink.Table
	part  checkpoint.Partition
	next  int64 // offset
	rows  int64 // of each

	layout *sink.Layout
	writer *sink.Writer
}

func (c *commits) prepare(ctx context.Context) error {
	positions, err := c.table.Claim(ctx, []checkpoint.Partition{c.part})
	if err != nil {
		return err
	}
	c.next = positions[c.part].Next
	if c.layout, err = c.table.Layout(ctx); err != nil {
		return err
	}
	c.writer = c.table.NewWriter(c.layout)
	return c.table.Maintain(ctx)
}

// one writes a file and commits it.
func (c *commits) one(ctx context.Context) (sink.State, error) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, c.layout.Schema)
	defer b.Release()
	for offset := c.next; offset < c.next+c.rows; offset++ {
		b.Field(0).(*array.Int64Builder).Append(offset)
		b.Field(1).(*array.StringBuilder).Append(fmt.Sprintf("row %d of process %d", offset, c.part.ID))
	}
	rb := b.NewRecordBatch()
	defer rb.Release()
	checked, _ := c.layout.Rules.Apply(rb) // the table has no rule
	defer checked.Release()
	if err := c.writer.Write(ctx, checked); err != nil {
		return 0, err
	}
	unit, err := c.writer.Finish([]checkpoint.Span{{Partition: c.part, First: c.next, Next: c.next + c.rows, Records: c.rows, Rows: c.rows}})
	if err != nil {
		return 0, err
	}
	c.next += c.rows
	err = c.table.Commit(ctx, []*sink.Unit{unit})
	return unit.State(), err
}
