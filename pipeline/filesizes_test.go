package pipeline_test

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/batch"
	"kafkadelta/internal/kafkatest"
	"kafkadelta/storage/faultstore"
)

// produceHex sends n messages with a kilobyte of hexadecimal digits each, which zstd makes half of.
func (w *world) produceHex(n int) {
	w.t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	text := make([]byte, 500)
	records := make([]*kgo.Record, n)
	for i := range records {
		for k := range text {
			text[k] = byte(random.Uint32())
		}
		records[i] = &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, `{"n": %d, "text": "%s"}`, i, hex.EncodeToString(text))}
	}
	kafkatest.ProduceTo(w.t, w.client, records)
}

// TestTargetSizeIsMet: who has enough to read makes files of flush.bytes, counted as they are in the store, and of no more above than what waits to be
// decoded when the target is reached.
func TestTargetSizeIsMet(t *testing.T) {
	parallelWorld(t, 1, func(w *world) {
		const messages, target, memory = 25_000, 4 << 20, 16 << 20
		const waiting = memory/8 + 1<<20 + 512<<10 // what may wait, what came with the last poll, and the batch that fills; zstd makes half of it
		w.produceHex(messages)
		w.untilEnd(func(s *setup) {
			s.sink.Parquet.Compression, s.Lanes, s.Flush.Bytes, s.Flush.Interval = "zstd", 1, target, time.Minute
			s.Memory = func() int64 { return memory }
		})
		var sizes []int64
		rows := int64(0)
		for v := range w.version() + 1 {
			for _, line := range w.logLines(v) {
				if line.Add != nil {
					n, _ := line.Add.NumRecords()
					sizes, rows = append(sizes, line.Add.Size), rows+n
				}
			}
		}
		if rows != messages || len(sizes) < 3 {
			t.Fatalf("the table has %d rows in files of %d bytes, want %d rows in some files", rows, sizes, messages)
		}
		for _, size := range sizes[:len(sizes)-1] { // the last has what was left
			if size < target*95/100 || size > target+waiting/2 {
				t.Errorf("files have %d bytes, want %d to %d in all but the last", sizes, target, target+waiting/2)
				break
			}
		}
	})
}

// filesOfCommits tells how many files a commit has at most, and how many have some.
func (w *world) filesOfCommits() (most, commits int) {
	w.t.Helper()
	for v := range w.version() + 1 {
		files := 0
		for _, line := range w.logLines(v) {
			if line.Add != nil {
				files++
			}
		}
		most, commits = max(most, files), commits+min(files, 1)
	}
	return most, commits
}

// TestFewFilesAtLowRates: where little comes, all partitions share a lane, so that a commit has one file however many lanes there are.
func TestFewFilesAtLowRates(t *testing.T) {
	scenario(t, 8, func(w *world) {
		k := w.start(func(s *setup) { s.Lanes = 4 })
		w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
		for range 5 {
			w.produceAll(8, 100)
			w.landed()
		}
		k.stop()
		w.exactlyOnce()
		if most, _ := w.filesOfCommits(); most != 1 {
			t.Errorf("commits have up to %d files, want one", most)
		}
	})
}

// TestFewFilesOfASteadyTrickle: what comes all the time, and is read as it comes, is no backlog, however much it comes to.
func TestFewFilesOfASteadyTrickle(t *testing.T) {
	scenario(t, 8, func(w *world) {
		k := w.start(func(s *setup) { s.Lanes, s.Flush.Interval = 4, 10*time.Second })
		w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
		client, err := kgo.NewClient(kgo.SeedBrokers(w.kafka.ListenAddrs()...), w.kafka.Dialer(), kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		w.check(err)
		defer client.Close()
		n := 0
		for range 15_000 {
			for range 6 {
				client.Produce(w.t.Context(), &kgo.Record{Topic: topic, Partition: int32(n / 6 % 8), Value: fmt.Appendf(nil, `{"n": %d}`, n)}, nil)
				n++
			}
			time.Sleep(2 * time.Millisecond)
		}
		w.check(client.Flush(w.t.Context()))
		time.Sleep(20 * time.Second)
		k.stop()
		most, commits := w.filesOfCommits()
		if most != 1 || commits < 3 {
			t.Errorf("%d commits in half a minute, of up to %d files, want one", commits, most)
		}
	})
}

// TestABacklogIsSpread: all lanes work on what is unread, be it little in each of many partitions, or few large messages.
func TestABacklogIsSpread(t *testing.T) {
	for name, produce := range map[string]func(w *world){
		"many partitions": func(w *world) { w.produceAll(16, 5_000) },
		"large messages": func(w *world) {
			text := strings.Repeat("x", 100_000)
			var records []*kgo.Record
			for i := range 16 * 60 {
				records = append(records, &kgo.Record{Topic: topic, Partition: int32(i % 16), Value: fmt.Appendf(nil, `{"n": %d, "text": %q}`, i, text)})
			}
			kafkatest.ProduceTo(w.t, w.client, records)
		},
	} {
		t.Run(name, func(t *testing.T) {
			scenario(t, 16, func(w *world) {
				produce(w)
				w.untilEnd(func(s *setup) { s.Lanes = 2 })
				most, _ := w.filesOfCommits()
				if most != 2 {
					t.Errorf("commits have at most %d files: some lane did nothing", most)
				}
			})
		})
	}
}

// TestLargeMessagesAreOnFewLanes: on no more than there is memory for. Where partitions are on many when such messages come, they are flushed at once, and then are on few.
func TestLargeMessagesAreOnFewLanes(t *testing.T) {
	const partitions, lanes, limit, few = 16, 8, 64 << 20, 3 // a quarter of the limit is for 3 times 6 messages of 0.9 MB
	scenario(t, partitions, func(w *world) {
		large := func(partition int32) *kgo.Record {
			return &kgo.Record{Topic: topic, Partition: partition, Value: fmt.Appendf(nil, `{"n": 1, "text": %q}`, strings.Repeat("x", 900_000))}
		}
		w.produceAll(partitions, 5_000)
		k := w.start(func(s *setup) {
			s.Lanes, s.Flush.Interval, s.Memory = lanes, time.Hour, func() int64 { return limit }
		})
		w.eventually("all is read", func() bool { return k.metric("kafkadelta_messages_total") == partitions*5_000 })
		kafkatest.ProduceTo(w.t, w.client, []*kgo.Record{large(1)}) // its lane is one of the few
		time.Sleep(time.Minute)
		if _, commits := w.filesOfCommits(); commits != 0 {
			t.Fatal("a flush came by itself")
		}
		kafkatest.ProduceTo(w.t, w.client, []*kgo.Record{large(lanes - 1)})
		time.Sleep(time.Minute)
		most, commits := w.filesOfCommits()
		if most != lanes || commits != 1 {
			t.Errorf("%d commits, of %d files, want one that ends what was on %d lanes", commits, most, lanes)
		}
		var records []*kgo.Record
		for i := range int32(4 * partitions) {
			records = append(records, large(i%partitions))
		}
		kafkatest.ProduceTo(w.t, w.client, records)
		w.eventually("they are read", func() bool { return k.metric("kafkadelta_messages_total") == partitions*5_000+2+4*partitions })
		before := w.version()
		k.stop()
		files := 0
		for _, line := range w.logLines(w.version()) {
			if line.Add != nil {
				files++
			}
		}
		if files != few || w.version() != before+1 {
			t.Errorf("versions %d to %d, the last of %d files, want one, of %d lanes", before+1, w.version(), files, few)
		}
	})
}

// TestAdaptiveLooksAtAllMessagesOfAFetch: an old one at its head does not let the new ones behind it wait, and one that is late behind a new one is in time, too, and is what the metric tells of.
func TestAdaptiveLooksAtAllMessagesOfAFetch(t *testing.T) {
	const goal = 5 * time.Second
	for name, tt := range map[string]struct {
		ages      []time.Duration
		in        time.Duration
		freshness float64
	}{
		"an old one at the head":   {[]time.Duration{time.Hour, 0, 0}, goal, 3600},
		"a late one behind others": {[]time.Duration{0, 0, 3 * time.Second}, 2 * time.Second, 3},
	} {
		t.Run(name, func(t *testing.T) {
			scenario(t, 1, func(w *world) {
				k := w.start(func(s *setup) {
					s.Flush.Mode, s.Flush.Freshness, s.Flush.Interval = batch.ModeAdaptive, goal, 10*time.Second
				})
				w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
				var records []*kgo.Record
				begun, before := time.Now(), w.version()
				for i, age := range tt.ages {
					records = append(records, &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, `{"n": %d}`, i), Timestamp: begun.Add(-age)})
				}
				kafkatest.ProduceTo(w.t, w.client, records)
				for w.version() == before {
					time.Sleep(10 * time.Millisecond)
				}
				if took := time.Since(begun); took > tt.in {
					t.Errorf("they are in the table after %v, want %v", took, tt.in)
				}
				w.eventually("the metric", func() bool { return k.metric("kafkadelta_freshness_seconds") >= tt.freshness })
				k.stop()
			})
		})
	}
}

// TestAdaptiveHoldsTheGoal: messages that come all the time are in the table within flush.freshness, in hardly more commits than that allows, where
// a fixed interval that is as safe makes twice as many.
func TestAdaptiveHoldsTheGoal(t *testing.T) {
	const goal, length = 5 * time.Second, time.Minute
	scenario(t, 2, func(w *world) {
		w.store.SetPlan(faultstore.When(isPut, faultstore.Delay(300*time.Millisecond)))
		k := w.start(func(s *setup) { s.Flush.Mode, s.Flush.Freshness = batch.ModeAdaptive, goal })
		w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
		before := w.version()
		oldest := 0.0
		for i := range int32(length / (100 * time.Millisecond)) {
			w.produce(i%2, 1)
			time.Sleep(100 * time.Millisecond)
			oldest = max(oldest, k.metric("kafkadelta_freshness_seconds"))
		}
		k.stop()
		w.exactlyOnce()
		commits := w.version() - before
		if oldest > goal.Seconds() || oldest < goal.Seconds()/2 {
			t.Errorf("the oldest message of a commit was %.1f s old, the goal is %v", oldest, goal)
		}
		if most := int64(length/(goal*3/4)) + 1; commits > most {
			t.Errorf("%d commits in %v, want at most %d", commits, length, most)
		}
	})
}
