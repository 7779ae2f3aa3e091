// Package kafkatest starts in-process Kafka clusters for tests and fills topics.
package kafkatest

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Start runs an in-process Kafka of one broker with one topic, until the test ends.
func Start(t testing.TB, topic string, partitions int32, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	opts = append([]kfake.Opt{
		kfake.NumBrokers(1), kfake.SeedTopics(partitions, topic), kfake.GroupMinSessionTimeout(100 * time.Millisecond),
		// A group that waits for more members before its first assignment makes tests slow.
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}),
	}, opts...)
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatalf("starting an in-process Kafka: %v", err)
	}
	t.Cleanup(c.Close)
	return c
}

// Produce sends the values, value i to partition i modulo partitions, and waits until all are acknowledged.
func Produce(t testing.TB, brokers []string, topic string, partitions int32, values [][]byte) {
	t.Helper()
	records := make([]*kgo.Record, len(values))
	for i, v := range values {
		records[i] = &kgo.Record{Topic: topic, Partition: int32(i) % partitions, Value: v}
	}
	ProduceRecords(t, brokers, records)
}

// ProduceRecords sends the records to the partitions that they name, and waits until all are acknowledged.
func ProduceRecords(t testing.TB, brokers []string, records []*kgo.Record) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(1<<20), kgo.ProducerLinger(5*time.Millisecond))
	if err != nil {
		t.Fatalf("making a producer: %v", err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatalf("producing: %v", err)
	}
}
