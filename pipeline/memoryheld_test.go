//go:build !race

package pipeline_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	compute "kafkadelta/columns"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
	"kafkadelta/sink/datafile"
	"kafkadelta/source"
	"kafkadelta/storage"
	"kafkadelta/storage/local"
	"kafkadelta/storage/remote"
	"kafkadelta/storage/s3"
)

// heldRun is a pipeline in a process of its own, whose memory is looked at.
type heldRun struct {
	Brokers []string
	Folder  string
	Bucket  string // URL of an S3 that takes the data files; "" for the folder
	Limit   int64
}

// heldDelay is what a store takes for each 8 MiB.
const heldDelay = 300 * time.Millisecond

// heldVariable has TestHeldProcess be such a process.
const heldVariable = "PIPELINE_TEST_HELD"

// TestHeldProcess is that process. It prints the most memory that it has had: heldPeak.
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
	o := pipeline.Options{
		Config: pipeline.DefaultConfig(), Name: stream, Source: source.DefaultConfig(), UntilEnd: true, Now: time.Now,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Metrics: pipeline.NewMetrics(stream, time.Now),
		NewDecoder: func(l *sink.Layout) (pipeline.Decoder, *compute.Plan, error) {
			runtime.GOMAXPROCS(2) // with all of them the collector would wait for cores that the machine does not have
			return newDecoder(l)
		},
		Memory: func() int64 { return r.Limit },
	}
	runtime.GOMAXPROCS(heldCores)
	o.Source.Brokers, o.Source.Topic = r.Brokers, topic
	store, err := r.store(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	o.OpenTable = func(ctx context.Context, events sink.Events) (*sink.Table, error) {
		cfg := sink.DefaultConfig()
		cfg.URI = r.Folder
		return sink.Open(ctx, store, cfg, sink.Options{
			Name: stream, Create: createSchema(t, columns), Engine: "kafkadelta/test", Memory: o.WriterMemory(1, o.Memory, 1), Now: time.Now, Log: o.Log, Events: events,
		})
	}
	stop, peak := make(chan struct{}), make(chan heldPeak)
	go func() {
		sample := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}, {Name: "/gc/heap/live:bytes"}}
		var most heldPeak
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		for {
			metrics.Read(sample)
			most = heldPeak{max(most.Taken, sample[0].Value.Uint64()-sample[1].Value.Uint64()), max(most.Live, sample[2].Value.Uint64())}
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
	most := <-peak
	if fmt.Printf("%s%d %d\n", heldMark, most.Taken, most.Live); err != nil {
		t.Fatal(err)
	}
}

// heldPeak is the most memory that a process had, in bytes.
type heldPeak struct {
	Taken uint64 // from the system
	Live  uint64 // that the collector had to leave
}

const heldMark = "at most: "

// heldStore has the log in a folder, and the data files there or in a bucket.
type heldStore struct {
	storage.Store
	create func(ctx context.Context, name string) (datafile.Writer, error)
}

func (s heldStore) Create(ctx context.Context, name string) (datafile.Writer, error) {
	return s.create(ctx, name)
}

func (r heldRun) store(ctx context.Context, o pipeline.Options) (heldStore, error) {
	folder, err := local.New(r.Folder)
	if err != nil {
		return heldStore{}, err
	}
	if r.Bucket == "" {
		return heldStore{folder, func(ctx context.Context, name string) (datafile.Writer, error) {
			w, err := folder.Create(ctx, name)
			return slowWriter{w, heldDelay}, err
		}}, nil
	}
	size, sent := o.Parts(1, o.Memory)
	bucket, err := s3.New(ctx, s3.Location{Scheme: "s3", Bucket: "bucket", Prefix: "t"},
		s3.Config{Endpoint: r.Bucket, Region: "us-east-1", AccessKeyID: "key", SecretAccessKeyEnv: "SECRET"},
		s3.Options{Getenv: func(string) string { return "secret" }, Parts: remote.Parts{Size: size, Sent: sent}})
	if err != nil {
		return heldStore{}, err
	}
	return heldStore{folder, bucket.Create}, nil
}

// heldBucket is an S3 that takes parts, and keeps nothing. It tells how many there were.
func heldBucket(t *testing.T) (url string, parts *atomic.Int64) {
	parts = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		time.Sleep(heldDelay * time.Duration(n) / (8 << 20))
		switch query := r.URL.Query(); {
		case query.Has("uploads"):
			_, _ = io.WriteString(w, `<InitiateMultipartUploadResult><UploadId>upload</UploadId></InitiateMultipartUploadResult>`)
		case query.Has("partNumber"):
			parts.Add(1)
			w.Header().Set("Etag", `"part"`)
		case r.Method == http.MethodPost:
			_, _ = io.WriteString(w, `<CompleteMultipartUploadResult><ETag>"all"</ETag></CompleteMultipartUploadResult>`)
		}
	}))
	server.Config.SetKeepAlivesEnabled(false) // no connection outlives the run
	t.Cleanup(server.Close)
	return server.URL, parts
}

type slowWriter struct {
	datafile.Writer
	each time.Duration
}

func (w slowWriter) Write(p []byte) (int, error) {
	time.Sleep(w.each * time.Duration(len(p)) / (8 << 20))
	return w.Writer.Write(p)
}

// heldCores is by how many the number of lanes is chosen: more than there is memory for, as in a container that has a limit of memory and none of cores.
const heldCores = 16

// TestMemoryIsHeld: whatever the size of messages, however they are compressed, however many brokers have them, and wherever the files go, the process takes no more
// than its limit, with the backlog on as many lanes as there are by default. The collector keeps garbage below that, and can do nothing about what is held.
func TestMemoryIsHeld(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	for name, tc := range map[string]struct {
		brokers    int
		partitions int32
		limit      int64
		bucket     bool
		send       func(p *heldProducer)
	}{
		"200 bytes, zstd":    {3, 6, 128 << 20, false, func(p *heldProducer) { p.sized(200, 1_000_000, 100, kgo.ZstdCompression()) }},
		"10 KB, zstd":        {3, 6, 128 << 20, false, func(p *heldProducer) { p.sized(10<<10, 30_000, 10, kgo.ZstdCompression()) }},
		"1 MB, zstd":         {3, 6, 192 << 20, false, func(p *heldProducer) { p.sized(1<<20, 300, 20, kgo.ZstdCompression()) }},
		"1 MB, as they are":  {3, 6, 192 << 20, false, func(p *heldProducer) { p.sized(1<<20, 200, 1, kgo.NoCompression()) }},
		"10 MB, zstd":        {3, 16, 512 << 20, false, func(p *heldProducer) { p.sized(10<<20, 150, 20, kgo.ZstdCompression()) }},
		"10 KB, to a bucket": {3, 6, 128 << 20, true, func(p *heldProducer) { p.sized(10<<10, 30_000, 1, kgo.NoCompression()) }},
		"1 MB, to a bucket":  {3, 6, 192 << 20, true, func(p *heldProducer) { p.sized(1<<20, 300, 1, kgo.NoCompression()) }},
		"10 MB, to a bucket": {3, 16, 512 << 20, true, func(p *heldProducer) { p.sized(10<<20, 60, 1, kgo.NoCompression()) }},
		"10 KB, then 10 MB, zstd": {3, 16, 512 << 20, false, func(p *heldProducer) {
			p.sized(10<<10, 30_000, 10, kgo.ZstdCompression())
			p.sized(10<<20, 100, 20, kgo.ZstdCompression())
		}},
		// These get some 40 times as large in memory, and one broker sends of four partitions at once.
		"log lines, zstd": {1, 8, 128 << 20, false, func(p *heldProducer) { p.lines(1_500_000, kgo.ZstdCompression()) }},
		"log lines as they are, then zstd": {1, 8, 128 << 20, false, func(p *heldProducer) {
			p.lines(1_000_000, kgo.NoCompression())
			p.lines(1_000_000, kgo.ZstdCompression())
		}},
		// These get some hundred times as large, so that a few KiB from each broker are as much as may be held.
		"10 KB, all the same, zstd": {10, 20, 128 << 20, false, func(p *heldProducer) {
			value := fmt.Appendf(nil, `{"n": 1, "text": "%s"}`, strings.Repeat("message ", 1280))
			p.send(10<<10, 100_000, kgo.ZstdCompression(), func(int) *kgo.Record { return &kgo.Record{Value: value} })
		}},
		"headers of 20 KB": {3, 6, 128 << 20, false, func(p *heldProducer) {
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
			run, parts := heldRun{Brokers: kafka.ListenAddrs(), Folder: t.TempDir(), Limit: tc.limit}, new(atomic.Int64)
			if tc.bucket {
				run.Bucket, parts = heldBucket(t)
			}
			text, err := json.Marshal(run)
			if err != nil {
				t.Fatal(err)
			}
			command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHeldProcess$")
			command.Env = append(os.Environ(), heldVariable+"="+string(text))
			var told bytes.Buffer
			command.Stderr = &told
			out, err := command.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, told.String())
			}
			var peak, live int64
			if _, told, _ := strings.Cut(string(out), heldMark); told != "" {
				_, err = fmt.Sscan(told, &peak, &live)
			}
			if err != nil || live == 0 {
				t.Fatalf("%v: %s", err, out)
			}
			lanes := run.lanes(t)
			t.Logf("at most %d MiB of %d, %d of them live, with %d lanes and %d parts; sent in %v, read in %v", peak>>20, tc.limit>>20, live>>20, lanes, parts.Load(), sent.Round(time.Millisecond), (time.Since(begun) - sent).Round(time.Millisecond))
			if peak > tc.limit/20*21 { // the collector aims at it
				t.Errorf("the process had %d MiB, its limit is %d MiB", peak>>20, tc.limit>>20)
			}
			if live > tc.limit/4*3 { // with less to play with, it falls behind on a busy machine
				t.Errorf("%d MiB of the %d MiB that are the limit were live at once", live>>20, tc.limit>>20)
			}
			if tc.bucket != (parts.Load() > 0) {
				t.Errorf("the bucket got %d parts", parts.Load())
			}
		})
	}
}

// lanes is how many have written files of one commit.
func (r heldRun) lanes(t *testing.T) (most int) {
	logs, err := filepath.Glob(filepath.Join(r.Folder, "_delta_log", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range logs {
		log, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, bytes.Count(log, []byte(`{"add":`)))
	}
	return most
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
