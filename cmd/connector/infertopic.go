package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode/envelope"
	"kafkadelta/delta"
	"kafkadelta/internal/backoff"
	"kafkadelta/pipeline"
	"kafkadelta/source"
)

// maxInferred bounds table.infer.
const maxInferred = 1_000_000

// errNoMessages says that there is nothing yet to infer columns from.
var errNoMessages = errors.New("the topic has no messages to infer the table's columns from")

// inferTopic finds the columns of a new table in the first messages of the topic that say something of columns, table.infer of them at most, as many of each partition.
// It waits for some, unless the run is to end at the topic's end.
func (c config) inferTopic(ctx context.Context, o runOptions, log *slog.Logger) (*arrow.Schema, error) {
	inspector, err := source.NewInspector(c.Source.Kafka, o.client...)
	if err != nil {
		return nil, err
	}
	defer inspector.Close()
	wait := backoff.Backoff{Longest: 5 * time.Second}
	var bad int64
	passed := map[int32]int64{}
	for warned := false; ; {
		schema, n, more, err := c.inferOnce(ctx, inspector, passed)
		bad += more
		switch {
		case err == nil:
			log.Info("the new table's columns are inferred from the topic's first messages; as table.schema they would be", "messages", n, "bad", bad, "schema", delta.FormatDDL(schema))
			return schema, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.As(err, new(*source.Error)), errors.As(err, new(*configError)), o.untilEnd && errors.Is(err, errNoMessages):
			return nil, err
		case !warned:
			log.Warn("the table is made once its columns can be inferred", "error", err)
			warned = true
		}
		if err := backoff.Sleep(ctx, wait.Next()); err != nil {
			return nil, err
		}
	}
}

// inferOnce looks at what is there now, and tells how many messages that was, and how many besides are no JSON objects. Those say nothing of columns
// under an on_error by which they keep no stream from going on, nor do tombstones. Where there is nothing else, passed has the offsets from which the next look goes on.
func (c config) inferOnce(ctx context.Context, inspector *source.Inspector, passed map[int32]int64) (schema *arrow.Schema, n, others int64, err error) {
	topic, err := inspector.Inspect(ctx)
	if err != nil {
		return nil, 0, 0, err
	}
	partitions := max(int64(len(topic.End)), 1)
	each := (int64(c.Table.Infer) + partitions - 1) / partitions
	ranges := map[int32]source.OffsetRange{}
	for id, first := range topic.Start {
		if at := passed[id]; at <= topic.End[id] { // else the topic was made anew
			first = max(first, at)
		}
		ranges[id] = source.OffsetRange{First: first, Next: topic.End[id]}
	}
	decompress := func(r *kgo.Record) ([]byte, error) { return r.Value, nil }
	if c.Source.Compression != noCompression {
		d, err := envelope.NewCompressed(c.Source.Compression, int(c.Source.MaxDecompressed), "", nil)
		if err != nil {
			return nil, 0, 0, err
		}
		decompress = d.Decompress
	}
	in, taken := newInference("table.schema"), map[int32]int64{}
	var bad error
	err = inspector.Read(ctx, ranges, func(r *kgo.Record) bool {
		switch {
		case bad != nil:
			return false
		case r.Attrs.IsControl() || r.Value == nil:
			return true
		}
		text, err := decompress(r)
		if c.Pipeline.OnError != pipeline.OnErrorFail && (err != nil || !isObject(text)) {
			others++
			return true
		}
		if err == nil {
			err = in.add(c.Source.Kafka.Topic, message{place: fmt.Sprintf("partition %d offset %d", r.Partition, r.Offset), text: text})
		}
		if e, ok := errors.AsType[*rowError](err); ok {
			err = fmt.Errorf("%s, %s: %s%s: %s", e.file, e.at, column(e.path), e.reason, e.detail)
		}
		bad = err
		taken[r.Partition]++
		return bad == nil && taken[r.Partition] < each
	})
	if err != nil {
		return nil, 0, 0, err
	}
	if bad != nil {
		return nil, 0, 0, &configError{fmt.Errorf("table.infer: no columns can be inferred from %w; name the columns in table.schema", bad)}
	}
	schema, err = in.schema(c.Source.Kafka.Topic)
	if err == nil && schema == nil {
		err = errNoMessages
		for id, r := range ranges {
			passed[id] = r.Next
		}
	}
	return schema, in.messages, others, err
}

// isObject reports whether a message is one JSON object.
func isObject(text []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("{")) && json.Valid(text)
}
