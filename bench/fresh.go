package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// warmUp is how long the messages of a new stream don't count: it claims, makes its table, and fills its caches.
const warmUp = 5 * time.Second

// produceStep is how often the producer sends what is due.
const produceStep = 5 * time.Millisecond

// runFresh asks how old a message is when a reader of the table can see it: from the call that produces it to the version that holds it.
func runFresh(ctx context.Context, s *liveSuite, dir string) ([]figure, error) {
	t, err := s.startStream(ctx, dir, webTable, "flush: {interval: 1s}")
	if err != nil {
		return nil, err
	}
	figures, err := s.measureFresh(ctx, t)
	peak, endErr := t.live.end()
	return append(figures, figure{Name: "peak RSS", Value: float64(peak) / (1 << 20), Unit: "MiB"}), errors.Join(err, endErr)
}

func (s *liveSuite) measureFresh(ctx context.Context, t stream) ([]figure, error) {
	if err := t.live.await(ctx, "kafkadelta_ready", 1, 10*time.Millisecond); err != nil {
		return nil, err
	}
	w := &watched{sent: make([][]time.Time, s.partitions), held: make([]int64, s.partitions)}
	produced := make(chan error, 1)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	begun := time.Now()
	cpu := t.live.cpuSeconds()
	go func() { produced <- s.produceSteadily(ctx, t.topic, w) }()
	var watchErr error
	var watch sync.WaitGroup
	watch.Go(func() { watchErr = w.follow(watching, t, begun.Add(warmUp)) })
	err := <-produced
	used := t.live.cpuSeconds() - cpu
	if err == nil {
		err = w.await(ctx, begun.Add(warmUp+s.length+liveTimeout))
	}
	stop()
	watch.Wait()
	if err = errors.Join(err, watchErr); err != nil {
		return nil, err
	}
	slices.Sort(w.ages)
	at := func(share float64) float64 { return w.ages[int(share*float64(len(w.ages)-1))].Seconds() }
	seconds := (warmUp + s.length).Seconds()
	return []figure{
		{Name: "produced to readable, median", Value: at(0.5), Unit: "s"},
		{Name: "produced to readable, p99", Value: at(0.99), Unit: "s"},
		{Name: "produced to readable, largest", Value: at(1), Unit: "s"},
		{Name: "CPU", Value: 100 * used / seconds, Unit: "% of a core"},
		{Name: "versions a second", Value: float64(w.versions) / seconds, Unit: "1/s"},
	}, nil
}

// watched knows when each message was produced, and how old it was when it became readable.
type watched struct {
	mu       sync.Mutex
	sent     [][]time.Time // by partition and offset
	held     []int64       // offsets before it are readable
	ages     []time.Duration
	versions int
}

// follow waits for one version of the table after the other. Messages from counted on have their ages taken.
func (w *watched) follow(ctx context.Context, t stream, counted time.Time) error {
	for version := int64(0); ctx.Err() == nil; {
		text, err := os.ReadFile(logEntry(t.table, version))
		if errors.Is(err, os.ErrNotExist) {
			time.Sleep(2 * time.Millisecond)
			continue
		}
		now := time.Now()
		if err != nil {
			return err
		}
		offsets, err := offsetsOf(text, t.name)
		if err != nil {
			return err
		}
		w.mu.Lock()
		for partition, last := range offsets {
			for ; w.held[partition] <= last; w.held[partition]++ {
				if at := w.sent[partition][w.held[partition]]; !at.Before(counted) {
					w.ages = append(w.ages, now.Sub(at))
				}
			}
		}
		w.mu.Unlock()
		version++
		w.versions++
	}
	return nil
}

// await returns once everything that was sent is readable.
func (w *watched) await(ctx context.Context, until time.Time) error {
	for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		missing := int64(0)
		w.mu.Lock()
		for i := range w.sent {
			missing += int64(len(w.sent[i])) - w.held[i]
		}
		w.mu.Unlock()
		if missing == 0 {
			return nil
		}
		if time.Now().After(until) {
			return fmt.Errorf("%d messages did not become readable", missing)
		}
	}
	return ctx.Err()
}

// produceSteadily sends messages at the rate, message i to partition i modulo their number.
func (s *liveSuite) produceSteadily(ctx context.Context, topic string, w *watched) error {
	in := newWebRequests(webSeed)
	client, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(topic),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(0))
	if err != nil {
		return err
	}
	defer client.Close()
	var failed error
	var mu sync.Mutex
	begun := time.Now()
	all := int64((warmUp + s.length).Seconds() * float64(s.rate))
	for i := int64(0); i < all && ctx.Err() == nil; {
		due := min(int64(time.Since(begun).Seconds()*float64(s.rate)), all)
		w.mu.Lock()
		for ; i < due; i++ {
			text, _ := in.append(nil) // never fails
			partition := int32(i % int64(s.partitions))
			w.sent[partition] = append(w.sent[partition], time.Now())
			client.Produce(ctx, &kgo.Record{Partition: partition, Value: text}, func(_ *kgo.Record, err error) {
				mu.Lock()
				defer mu.Unlock()
				failed = errors.Join(failed, err)
			})
		}
		w.mu.Unlock()
		time.Sleep(produceStep)
	}
	err = client.Flush(ctx)
	mu.Lock()
	defer mu.Unlock()
	return errors.Join(err, failed)
}

func (s *liveSuite) makeTopic(ctx context.Context, topic string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...))
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(ctx, int32(s.partitions), -1, nil, topic); err != nil {
		return fmt.Errorf("making topic %s: %w", topic, err)
	}
	return nil
}

// produce sends n messages in turn to all partitions.
func (s *liveSuite) produce(ctx context.Context, topic string, message func(int64) []byte, n int64) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(topic))
	if err != nil {
		return err
	}
	defer client.Close()
	return sendInTurn(ctx, client, n, s.partitions, func(i int64) ([]byte, error) { return message(i), nil })
}
