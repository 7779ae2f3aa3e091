package source

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkadelta/checkpoint"
)

// Inspector reads a topic without a group, to compare a table with it. It belongs to one goroutine.
type Inspector struct {
	cfg    Config
	opts   []kgo.Opt
	client *kgo.Client
	admin  *kadm.Client
}

// idlePoll is after which time without records an Inspector asks whether any may still come.
const idlePoll = 500 * time.Millisecond

// NewInspector makes the client. It connects to nothing yet. Extra options are for tests (dialers).
func NewInspector(cfg Config, extra ...kgo.Opt) (*Inspector, error) {
	opts, err := readerOptions(cfg, func(error) {})
	if err != nil {
		return nil, err
	}
	opts = append(opts, extra...)
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("setting up the Kafka client: %w", err)
	}
	return &Inspector{cfg: cfg, opts: opts, client: client, admin: kadm.NewClient(client)}, nil
}

// Close closes the connections.
func (i *Inspector) Close() { i.client.Close() }

// Topics are the names of the topics that this user may see, but for Kafka's own.
func (i *Inspector) Topics(ctx context.Context) ([]string, error) {
	topics, err := i.admin.ListTopics(ctx)
	if err != nil {
		return nil, newError("listing the topics", err)
	}
	return topics.Names(), nil
}

// Inspection is what Kafka tells of the topic now. Offsets are those of the first record of a partition, and behind the last
// one that can be read under the configured isolation level.
type Inspection struct {
	Identity   checkpoint.Identity
	Compacted  bool // cleanup.policy has compact, or may not be asked for
	Start, End map[int32]int64
}

// Inspect describes the topic.
func (i *Inspector) Inspect(ctx context.Context) (Inspection, error) {
	t, _, err := describe(ctx, i.admin, i.cfg.Topic)
	if err != nil {
		return Inspection{}, err
	}
	x := Inspection{Identity: t.Identity, Compacted: i.compacted(ctx)}
	if x.Start, err = startOffsets(ctx, i.admin, i.cfg); err != nil {
		return Inspection{}, err
	}
	x.End, err = endOffsets(ctx, i.admin, i.cfg)
	return x, err
}

// OffsetsAt returns, by partition, the offset of the first message that is not older than a time, and the end where all are.
func (i *Inspector) OffsetsAt(ctx context.Context, at time.Time) (map[int32]int64, error) {
	l, err := i.admin.ListOffsetsAfterMilli(ctx, at.UnixMilli(), i.cfg.Topic)
	found, err := offsets(i.cfg, "listing the offsets at "+at.UTC().Format(time.RFC3339), l, err)
	if err != nil {
		return nil, err
	}
	ends, err := endOffsets(ctx, i.admin, i.cfg)
	for id, end := range ends { // a message of an open producer transaction can't be read yet
		if offset := found[id]; offset < 0 || offset > end {
			found[id] = end
		}
	}
	return found, err
}

// Group is what Kafka tells of a consumer group.
type Group struct {
	State   string // "Empty" where it has no members; "" where Kafka does not know it, or does not show it to this user
	Offsets map[int32]int64
}

// Group asks for a group's state, and for the offsets that it has reported of the topic.
func (i *Inspector) Group(ctx context.Context, name string) (Group, error) {
	groups, err := i.admin.ListGroups(ctx)
	if err != nil {
		return Group{}, newError("asking for group "+name, err)
	}
	g := Group{State: groups[name].State}
	if g.State == "" {
		return g, nil
	}
	g.Offsets, err = reported(ctx, i.admin, name, i.cfg.Topic)
	return g, err
}

// compacted takes a topic whose configuration may not be read for a compacted one: then a row without a message proves nothing.
func (i *Inspector) compacted(ctx context.Context) bool {
	configs, err := i.admin.DescribeTopicConfigs(ctx, i.cfg.Topic)
	if err != nil {
		return true
	}
	c, err := configs.On(i.cfg.Topic, nil)
	if err != nil || c.Err != nil {
		return true
	}
	for _, kv := range c.Configs {
		if kv.Key == "cleanup.policy" && kv.Value != nil {
			return strings.Contains(*kv.Value, "compact")
		}
	}
	return true
}

// OffsetRange is the offsets [First, Next).
type OffsetRange struct{ First, Next int64 }

// Read hands on the records of the ranges that can be read under the configured isolation level, control records too, each
// partition's in the order of offsets, and returns once it is sure that no more come. Where visit returns false it wants no more of that partition. What
// retention removes meanwhile is passed over. Errors that trying again may mend are tried for ever.
func (i *Inspector) Read(ctx context.Context, ranges map[int32]OffsetRange, visit func(r *kgo.Record) bool) error {
	left := map[int32]OffsetRange{}
	at := map[int32]kgo.Offset{}
	for id, r := range ranges {
		if r.First < r.Next {
			left[id], at[id] = r, kgo.NewOffset().At(r.First)
		}
	}
	if len(left) == 0 {
		return nil
	}
	client, err := kgo.NewClient(append(i.opts, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{i.cfg.Topic: at}))...)
	if err != nil {
		return fmt.Errorf("setting up the Kafka client: %w", err)
	}
	defer client.Close()
	for len(left) > 0 {
		n, err := i.poll(ctx, client, left, visit)
		if err != nil {
			return err
		}
		for id, r := range left {
			done := r.First >= r.Next
			if !done && n == 0 {
				if done, err = i.exhausted(ctx, id, r); err != nil {
					return err
				}
			}
			if done {
				delete(left, id)
				client.PauseFetchPartitions(map[string][]int32{i.cfg.Topic: {id}})
			}
		}
	}
	return nil
}

// poll takes what has come, and moves the beginnings of what is left. It returns the number of records.
func (i *Inspector) poll(ctx context.Context, client *kgo.Client, left map[int32]OffsetRange, visit func(r *kgo.Record) bool) (n int, err error) {
	pollCtx, cancel := context.WithTimeout(ctx, idlePoll)
	defer cancel()
	retired := map[int32]error{}
	fetches := client.PollRecords(pollCtx, PollRecords)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	fetches.EachError(func(topic string, partition int32, e error) {
		if errors.Is(e, context.DeadlineExceeded) {
			return
		}
		if final, judged := Judge(topic, partition, e); !final {
			return
		} else if _, ok := left[partition]; ok && errors.Is(e, kerr.OffsetOutOfRange) {
			retired[partition] = judged
		} else {
			err = judged
		}
	})
	fetches.EachRecord(func(r *kgo.Record) {
		n++
		at, ok := left[r.Partition]
		if !ok || r.Offset < at.First {
			return
		}
		if r.Offset < at.Next && !visit(r) {
			at.Next = r.Offset + 1
		}
		at.First = r.Offset + 1
		left[r.Partition] = at
	})
	if len(retired) > 0 && err == nil {
		err = i.passRetired(ctx, client, left, retired)
	}
	return n, err
}

// passRetired goes on where partitions begin now whose offsets are out of range: retention may remove what was asked for before it is
// read. An offset that is not before the beginning is beyond the end, which nothing mends.
func (i *Inspector) passRetired(ctx context.Context, client *kgo.Client, left map[int32]OffsetRange, retired map[int32]error) error {
	starts, err := startOffsets(ctx, i.admin, i.cfg)
	if final, ok := errors.AsType[*Error](err); ok {
		return final
	}
	at := map[int32]kgo.EpochOffset{}
	for id, cause := range retired {
		r := left[id]
		start, known := starts[id]
		if !known { // no answer: the client asks again, and is told the same
			continue
		}
		if start <= r.First {
			return cause
		}
		r.First = start
		left[id], at[id] = r, kgo.EpochOffset{Epoch: -1, Offset: r.First}
	}
	client.SetOffsets(map[string]map[int32]kgo.EpochOffset{i.cfg.Topic: at})
	return nil
}

// exhausted asks the partition's leader whether it has anything left of a range: the client says nothing of batches that
// compaction has left empty, and nothing of an end.
func (i *Inspector) exhausted(ctx context.Context, id int32, r OffsetRange) (bool, error) {
	_, detail, err := describe(ctx, i.admin, i.cfg.Topic)
	if err != nil {
		return false, err
	}
	partition := kmsg.NewFetchRequestTopicPartition()
	partition.Partition, partition.FetchOffset, partition.PartitionMaxBytes = id, r.First, 4<<20
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID, topic.Partitions = i.cfg.Topic, detail.ID, []kmsg.FetchRequestTopicPartition{partition}
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.Topics = 100, 0, 4<<20, []kmsg.FetchRequestTopic{topic}
	if i.cfg.Isolation == ReadCommitted {
		req.IsolationLevel = 1
	}
	answer, err := i.client.Broker(int(detail.Partitions[id].Leader)).RetriableRequest(ctx, req)
	if err != nil {
		return false, newError("asking for the end of "+i.cfg.Topic, err)
	}
	resp := answer.(*kmsg.FetchResponse)
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return false, nil
	}
	p := resp.Topics[0].Partitions[0]
	if e := kerr.ErrorForCode(p.ErrorCode); e != nil {
		final, judged := Judge(i.cfg.Topic, id, e)
		if final && !errors.Is(e, kerr.OffsetOutOfRange) {
			return false, judged
		}
		return false, nil // such as a new leader: the client goes on by itself, or is told the same
	}
	end := p.HighWatermark
	if i.cfg.Isolation == ReadCommitted {
		end = p.LastStableOffset
	}
	at, some := emptyBatches(p.RecordBatches, r.First)
	return !some && (at >= r.Next || at >= end), nil
}

// emptyBatches passes over batches without records, and tells whether one with some follows.
func emptyBatches(b []byte, at int64) (next int64, some bool) {
	const header = 61 // bytes of a batch up to its records
	for len(b) >= header {
		size := int64(binary.BigEndian.Uint32(b[8:])) + 12
		last := int64(binary.BigEndian.Uint64(b)) + int64(binary.BigEndian.Uint32(b[23:]))
		if last >= at {
			if b[16] < 2 || binary.BigEndian.Uint32(b[57:]) > 0 {
				return at, true
			}
			at = last + 1
		}
		if size > int64(len(b)) {
			break
		}
		b = b[size:]
	}
	return at, false
}
