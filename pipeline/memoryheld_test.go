//go:build !race

package pipeline_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/pipeline"
	"kafkadelta/sink"
	"kafkadelta/sink/datafile"
	"kafkadelta/source"
	"kafkadelta/storage"
	"kafkadelta/storage/local"
)

// heldRun is a pipeline in a process of its own, whose memory is looked at.
type heldRun struct {
	Brokers []string
	Folder  string
	Limit   int64
	Delay   time.Duration // of the store, for each 8 MiB
}

// heldVariable has TestHeldProcess be such a process.
const heldVariable = "PIPELINE_TEST_HELD"

// TestHeldProcess is that process. It prints the most memory that it has had from the system, in bytes.
func TestHeldProcess(t *testing.T) {
	text, ok := os.LookupEnv(heldVariable)
	if !ok {
		t.Skip("a process of TestMemoryIsHeld")
	}
	var r heldRun
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	debug.SetMemoryLimit(r.Limit)
	store, err := local.New(r.Folder)
	if err != nil {
		t.Fatal(err)
	}
	o := pipeline.Options{
		Config: pipeline.DefaultConfig(), Name: stream, Source: source.DefaultConfig(), UntilEnd: true, Now: time.Now,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Metrics: pipeline.NewMetrics(stream, time.Now), NewDecoder: newDecoder,
		Memory: func() int64 { return r.Limit },
	}
	o.Source.Brokers, o.Source.Topic, o.Lanes, o.Flush.Interval = r.Brokers, topic, 2, 2*time.Second
	o.OpenTable = func(ctx context.Context, events sink.Events) (*sink.Table, error) {
		cfg := sink.DefaultConfig()
		cfg.URI = r.Folder
		return sink.Open(ctx, slowStore{store, r.Delay}, cfg, sink.Options{
			Name: stream, Create: createSchema(t, columns), Engine: "kafkadelta/test", Memory: o.WriterMemory(1, o.Memory, 1), Now: time.Now, Log: o.Log, Events: events,
		})
	}
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		sample := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
		most, ticker := uint64(0), time.NewTicker(5*time.Millisecond)
		defer ticker.Stop()
		for {
			metrics.Read(sample)
			most = max(most, sample[0].Value.Uint64()-sample[1].Value.Uint64())
			select {
			case <-ticker.C:
			case <-stop:
				peak <- most
				return
			}
		}
	}()
	err = pipeline.Run(t.Context(), o)
	close(stop)
	if fmt.Printf("%s%d\n", heldMark, <-peak); err != nil {
		t.Fatal(err)
	}
}

const heldMark = "at most: "

// slowStore is a store whose network is slow.
type slowStore struct {
	storage.Store
	each time.Duration
}

func (s slowStore) Create(ctx context.Context, name string) (datafile.Writer, error) {
	w, err := s.Store.Create(ctx, name)
	return slowWriter{w, s.each}, err
}

type slowWriter struct {
	datafile.Writer
	each time.Duration
}

func (w slowWriter) Write(p []byte) (int, error) {
	time.Sleep(w.each * time.Duration(len(p)) / (8 << 20))
	return w.Writer.Write(p)
}

// TestMemoryIsHeld: whatever the size of messages, however they are compressed and however many brokers have them, the process takes no more than its limit. The
// collector keeps garbage below that, and can do nothing about what is held.
func TestMemoryIsHeld(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	for name, tc := range map[string]struct {
		brokers    int
		partitions int32
		limit      int64
		send       func(p *heldProducer)
	}{
		"200 bytes, zstd":   {3, 6, 128 << 20, func(p *heldProducer) { p.sized(200, 1_000_000, 100, kgo.ZstdCompression()) }},
		"10 KB, zstd":       {3, 6, 128 << 20, func(p *heldProducer) { p.sized(10<<10, 30_000, 10, kgo.ZstdCompression()) }},
		"1 MB, zstd":        {3, 6, 192 << 20, func(p *heldProducer) { p.sized(1<<20, 300, 20, kgo.ZstdCompression()) }},
		"1 MB, as they are": {3, 6, 192 << 20, func(p *heldProducer) { p.sized(1<<20, 200, 1, kgo.NoCompression()) }},
		"10 MB, zstd":       {3, 6, 512 << 20, func(p *heldProducer) { p.sized(10<<20, 150, 20, kgo.ZstdCompression()) }},
		// These get some 40 times as large in memory, and one broker sends of four partitions at once.
		"log lines, zstd": {1, 8, 128 << 20, func(p *heldProducer) { p.lines(1_500_000, kgo.ZstdCompression()) }},
		"log lines as they are, then zstd": {1, 8, 128 << 20, func(p *heldProducer) {
			p.lines(1_000_000, kgo.NoCompression())
			p.lines(1_000_000, kgo.ZstdCompression())
		}},
		// These get some hundred times as large, so that a few KiB from each broker are as much as may be held.
		"10 KB, all the same, zstd": {10, 20, 128 << 20, func(p *heldProducer) {
			value := fmt.Appendf(nil, `{"n": 1, "text": "%s"}`, strings.Repeat("message ", 1280))
			p.send(10<<10, 100_000, kgo.ZstdCompression(), func(int) *kgo.Record { return &kgo.Record{Value: value} })
		}},
		"headers of 20 KB": {3, 6, 128 << 20, func(p *heldProducer) {
			text := repeating(20<<10, 10)
			p.send(21<<10, 15_000, kgo.ZstdCompression(), func(i int) *kgo.Record {
				return &kgo.Record{Value: fmt.Appendf(nil, `{"n": %d}`, i), Headers: []kgo.RecordHeader{{Key: "trace", Value: []byte(text())}}}
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			kafka, err := kfake.NewCluster(kfake.NumBrokers(tc.brokers), kfake.SeedTopics(tc.partitions, topic), kfake.BrokerConfigs(map[string]string{"message.max.bytes": "20000000"}))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(kafka.Close)
			begun := time.Now()
			tc.send(&heldProducer{t, kafka.ListenAddrs(), tc.partitions})
			sent := time.Since(begun)
			text, err := json.Marshal(heldRun{kafka.ListenAddrs(), t.TempDir(), tc.limit, 300 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHeldProcess$")
			command.Env = append(os.Environ(), heldVariable+"="+string(text), "GOMAXPROCS=2")
			var told bytes.Buffer
			command.Stderr = &told
			out, err := command.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, told.String())
			}
			var peak int64
			if _, told, _ := strings.Cut(string(out), heldMark); told != "" {
				_, err = fmt.Sscan(told, &peak)
			}
			if err != nil || peak == 0 {
				t.Fatalf("%v: %s", err, out)
			}
			t.Logf("at most %d MiB of %d; sent in %v, read in %v", peak>>20, tc.limit>>20, sent.Round(time.Millisecond), (time.Since(begun) - sent).Round(time.Millisecond))
			if peak > tc.limit/20*21 { // the collector aims at it
				t.Errorf("the process had %d MiB, its limit is %d MiB", peak>>20, tc.limit>>20)
			}
		})
	}
}

// heldProducer sends messages in batches as producers make them.
type heldProducer struct {
	t          *testing.T
	addrs      []string
	partitions int32
}

// sized sends messages of a size, which compress as well as they repeat themselves.
func (p *heldProducer) sized(size, messages, repeats int, codec kgo.CompressionCodec) {
	text := repeating(size, repeats)
	p.send(size, messages, codec, func(i int) *kgo.Record {
		return &kgo.Record{Value: fmt.Appendf(nil, `{"n": %d, "text": "%s"}`, i, text())}
	})
}

// repeating makes texts of a size that repeat themselves so often.
func repeating(size, repeats int) func() string {
	random := rand.New(rand.NewPCG(1, 2))
	part := make([]byte, min(max(size/repeats/2, 1), 8<<10)) // the client's zstd sees no repetition that is far away
	return func() string {
		var text strings.Builder
		for text.Len() < size {
			for k := range part {
				part[k] = byte(random.Uint32())
			}
			text.WriteString(strings.Repeat(hex.EncodeToString(part), repeats))
		}
		return text.String()[:size]
	}
}

// lines sends messages of some 85 bytes that have little to tell.
func (p *heldProducer) lines(messages int, codec kgo.CompressionCodec) {
	p.send(100, messages, codec, func(i int) *kgo.Record {
		return &kgo.Record{Value: fmt.Appendf(nil, `{"n":%d,"level":"info","text":"request handled","path":"/api/v1/items","status":200}`, i)}
	})
}

func (p *heldProducer) send(largest, messages int, codec kgo.CompressionCodec, message func(i int) *kgo.Record) {
	p.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(p.addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codec),
		kgo.ProducerBatchMaxBytes(int32(max(1_000_000, largest+largest/8))), kgo.BrokerMaxWriteBytes(1<<30), kgo.ProducerLinger(50*time.Millisecond), kgo.MaxBufferedBytes(128<<20))
	if err != nil {
		p.t.Fatal(err)
	}
	defer client.Close()
	var wait sync.WaitGroup
	var failed error
	for i := range messages {
		r := message(i)
		r.Topic, r.Partition = topic, int32(i)%p.partitions
		wait.Add(1)
		client.Produce(p.t.Context(), r, func(_ *kgo.Record, err error) {
			if err != nil {
				failed = err
			}
			wait.Done()
		})
	}
	wait.Wait()
	if failed != nil {
		p.t.Fatal(failed)
	}
}
