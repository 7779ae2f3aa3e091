package source_test

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/internal/kafkatest"
	"kafkadelta/source"
)

// TestInspectorReadsRanges reads parts of a topic, over the markers of producer transactions, and what was aborted not.
func TestInspectorReadsRanges(t *testing.T) {
	cluster := kafkatest.Start(t, "topic", 3)
	producer, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID("inspected"))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	for _, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit, kgo.TryAbort} {
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		var batch []*kgo.Record
		for i := range 20 {
			batch = append(batch, &kgo.Record{Topic: "topic", Partition: int32(i % 2), Value: []byte("x")})
		}
		if err := producer.ProduceSync(t.Context(), batch...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := producer.EndTransaction(t.Context(), end); err != nil {
			t.Fatal(err)
		}
	}
	cfg := valid()
	cfg.Brokers = cluster.ListenAddrs()
	inspector, err := source.NewInspector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer inspector.Close()
	x, err := inspector.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := map[int32]int64{0: 44, 1: 44, 2: 0}; !maps.Equal(x.End, want) || x.Identity.TopicID == "" || x.Compacted {
		t.Errorf("the topic is %+v, want the ends %v", x, want)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var data, controls []int64
	err = inspector.Read(ctx, map[int32]source.OffsetRange{0: {First: 5, Next: 44}, 1: {First: 44, Next: 44}, 2: {First: 0, Next: 7}}, func(r *kgo.Record) bool {
		switch {
		case r.Partition != 0:
			t.Errorf("a record of partition %d", r.Partition)
		case r.Attrs.IsControl():
			controls = append(controls, r.Offset)
		default:
			data = append(data, r.Offset)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []int64{5, 6, 7, 8, 9, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31}; !slices.Equal(data, want) {
		t.Errorf("messages at %v, want %v", data, want)
	}
	if want := []int64{10, 21, 32, 43}; !slices.Equal(controls, want) {
		t.Errorf("control records at %v, want %v", controls, want)
	}
	seen := map[int32][]int64{} // one partition has enough before the other
	err = inspector.Read(ctx, map[int32]source.OffsetRange{0: {First: 0, Next: 44}, 1: {First: 2, Next: 44}}, func(r *kgo.Record) bool {
		seen[r.Partition] = append(seen[r.Partition], r.Offset)
		return len(seen[r.Partition]) < 3*int(1+r.Partition)
	})
	if err != nil || !slices.Equal(seen[0], []int64{0, 1, 2}) || !slices.Equal(seen[1], []int64{2, 3, 4, 5, 6, 7}) {
		t.Errorf("until it is enough: %v, %v", seen, err)
	}
	cfg.Topic = "nowhere"
	other, err := source.NewInspector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Inspect(ctx); !errors.As(err, new(*source.Error)) {
		t.Errorf("a topic that is not there: %v", err)
	}
}

// TestEmptyBatches: what compaction left of batches moves the position, and a batch with records stops it.
func TestEmptyBatches(t *testing.T) {
	batch := func(first, last int64, records uint32) []byte {
		b := make([]byte, 61+10*records)
		binary.BigEndian.PutUint64(b, uint64(first))
		binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
		b[16] = 2
		binary.BigEndian.PutUint32(b[23:], uint32(last-first))
		binary.BigEndian.PutUint32(b[57:], records)
		return b
	}
	for name, tt := range map[string]struct {
		bytes []byte
		at    int64
		next  int64
		some  bool
	}{
		"nothing":                      {nil, 7, 7, false},
		"empty ones":                   {slices.Concat(batch(0, 9, 0), batch(10, 14, 0)), 5, 15, false},
		"records":                      {slices.Concat(batch(0, 9, 0), batch(10, 14, 2)), 5, 10, true},
		"records before":               {slices.Concat(batch(0, 9, 3), batch(10, 14, 0)), 10, 15, false},
		"cut":                          {batch(0, 9, 3)[:40], 0, 0, false},
		"the records of a cut one too": {batch(0, 9, 3)[:61], 0, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			if next, some := source.EmptyBatches(tt.bytes, tt.at); next != tt.next || some != tt.some {
				t.Errorf("next is %d, some %v; want %d, %v", next, some, tt.next, tt.some)
			}
		})
	}
}

// TestInspectorPassesWhatRetentionRemoves: the beginning moves on after it was asked for, before the reading and under it. An offset beyond
// the end stays an error.
func TestInspectorPassesWhatRetentionRemoves(t *testing.T) {
	cluster := kafkatest.Start(t, "topic", 2)
	producer, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.DefaultProduceTopic("topic"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	for n := range 50 {
		if err := producer.ProduceSync(t.Context(), &kgo.Record{Value: []byte("x")}).FirstErr(); err != nil {
			t.Fatal(n, err)
		}
	}
	cfg := valid()
	cfg.Brokers = cluster.ListenAddrs()
	inspector, err := source.NewInspector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer inspector.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	read := func(first, next int64) (at []int64, err error) {
		return at, inspector.Read(ctx, map[int32]source.OffsetRange{0: {First: first, Next: next}, 1: {First: 0, Next: 9}}, func(r *kgo.Record) bool { at = append(at, r.Offset); return true })
	}
	if err := cluster.DeleteRecords("topic", 0, 20); err != nil {
		t.Fatal(err)
	}
	if at, err := read(5, 50); err != nil || len(at) != 30 || at[0] != 20 {
		t.Errorf("read %d from %v, %v; want the 30 from 20 on", at, at[:min(1, len(at))], err)
	}
	if at, err := read(5, 15); err != nil || len(at) != 0 {
		t.Errorf("of what is gone it has read %d, %v", at, err)
	}
	if at, err := read(60, 70); !errors.As(err, new(*source.Error)) {
		t.Errorf("beyond the end it has read %d, %v; want an error", at, err)
	}
}
