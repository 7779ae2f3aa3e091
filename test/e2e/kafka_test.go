package e2e

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// admin is a client for what operators do. It lives as long as the test.
func admin(t testing.TB, brokers []string) *kadm.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return kadm.NewClient(client)
}

func createTopic(t testing.TB, brokers []string, topic string, partitions int32) {
	t.Helper()
	if _, err := admin(t, brokers).CreateTopic(t.Context(), partitions, 1, nil, topic); err != nil {
		t.Fatalf("creating topic %s: %v", topic, err)
	}
}

// wantReported checks that the group's offsets are the table's.
func wantReported(t testing.TB, brokers []string, group, topic string, want map[int32]int64) {
	t.Helper()
	offsets, err := admin(t, brokers).FetchOffsets(t.Context(), group)
	if err == nil {
		err = offsets.Error()
	}
	if err != nil {
		t.Fatalf("reading the offsets of group %s: %v", group, err)
	}
	for p, next := range want {
		if next == 0 {
			continue // nothing was read, nothing is reported
		}
		if o, ok := offsets.Lookup(topic, p); !ok || o.At != next {
			t.Errorf("the group has offset %d of partition %d (%v), the table %d", o.At, p, ok, next)
		}
	}
}

// load produces messages to partitions in turn, at a rate, until it is stopped. It remembers each by partition and offset.
type load struct {
	t          testing.TB
	client     *kgo.Client
	topic      string
	partitions int32

	mu   sync.Mutex
	sent map[int32][][]byte // values by partition; the index is the offset

	stopped context.CancelFunc
	done    chan struct{}
}

// startLoad produces message(0), message(1), ... into a new topic.
func startLoad(t testing.TB, brokers []string, topic string, partitions int32, perSecond int, message func(i int) []byte) *load {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(5*time.Millisecond),
		kgo.AlwaysRetryEOF()) // Docker's proxy takes connections to a broker that is down, and closes them
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background()) //nolint:usetesting // ends in Cleanup, which waits
	l := &load{t: t, client: client, topic: topic, partitions: partitions, sent: map[int32][][]byte{}, stopped: cancel, done: make(chan struct{})}
	t.Cleanup(func() { cancel(); <-l.done; client.Close() })
	go l.produce(ctx, perSecond, message)
	return l
}

func (l *load) produce(ctx context.Context, perSecond int, message func(int) []byte) {
	defer close(l.done)
	const tick = 20 * time.Millisecond
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for i := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		var records []*kgo.Record
		for range perSecond * int(tick) / int(time.Second) {
			records = append(records, &kgo.Record{Topic: l.topic, Partition: int32(i) % l.partitions, Value: message(i)})
			i++
		}
		if err := l.client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
			l.t.Errorf("producing: %v", err)
			return
		}
		l.mu.Lock()
		for _, r := range records {
			if r.Offset != int64(len(l.sent[r.Partition])) {
				l.t.Errorf("message of partition %d has offset %d, expected %d", r.Partition, r.Offset, len(l.sent[r.Partition]))
			}
			l.sent[r.Partition] = append(l.sent[r.Partition], r.Value)
		}
		l.mu.Unlock()
	}
}

// next is, by partition, the offset after the last message that was acknowledged so far.
func (l *load) next() map[int32]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := map[int32]int64{}
	for p, values := range l.sent {
		n[p] = int64(len(values))
	}
	return n
}

// stop ends the load and returns what was sent.
func (l *load) stop() messages {
	l.stopped()
	<-l.done
	m := messages{}
	for p, values := range l.sent {
		for offset, v := range values {
			m[place{p, int64(offset)}] = v
		}
	}
	return m
}

// place is where a message is in its topic.
type place struct {
	partition int32
	offset    int64
}

// messages are the values that a topic holds.
type messages map[place][]byte

// next is, by partition, the offset after the last message.
func (m messages) next() map[int32]int64 {
	n := map[int32]int64{}
	for at := range m {
		n[at.partition] = max(n[at.partition], at.offset+1)
	}
	return n
}

// dealt is what kafkatest.Produce makes of the lines in a new topic.
func dealt(lines [][]byte, partitions int32) messages {
	m := make(messages, len(lines))
	for i, line := range lines {
		m[place{int32(i) % partitions, int64(i) / int64(partitions)}] = line
	}
	return m
}
