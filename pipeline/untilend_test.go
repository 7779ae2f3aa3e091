package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkadelta/checkpoint"
	"kafkadelta/pipeline"
	"kafkadelta/source"
	"kafkadelta/storage/faultstore"
)

// TestUntilEndOnAnotherTopicIsRefused: the table's offsets are beyond the end of a topic that it knows nothing of, which
// must not look like a run that has nothing to do.
func TestUntilEndOnAnotherTopicIsRefused(t *testing.T) {
	for _, name := range []string{topic, "other-topic"} {
		for _, messages := range []int{0, 2, 5, 9} { // the table holds 5
			t.Run(fmt.Sprintf("%s with %d messages", name, messages), func(t *testing.T) {
				scenario(t, 2, func(w *world) {
					w.produceAll(2, 5)
					w.untilEnd()
					version := w.version()
					if name == topic {
						w.check(w.kafka.DeleteTopic(topic))
					}
					w.check(w.kafka.CreateTopic(name, 2, nil))
					w.client = w.kafka.Client() // one that does not know the topic before
					for p := range int32(2) {
						for range messages {
							r := w.message(p)
							r.Topic = name
							w.check(w.client.ProduceSync(w.t.Context(), r).FirstErr())
						}
					}
					err := w.start(func(s *setup) { s.UntilEnd, s.Source.Topic = true, name }).wait()
					if !errors.As(err, new(*checkpoint.RefusedError)) {
						t.Errorf("the run ended with %v, want a *checkpoint.RefusedError", err)
					}
					if got := w.version(); got != version {
						t.Errorf("the refused run moved the table from version %d to %d", version, got)
					}
					w.exactlyOnce()
				})
			})
		}
	}
}

// TestUntilEndUnderSteadyTraffic: messages that come after the start must neither keep the run from its end nor make it
// commit after each poll.
func TestUntilEndUnderSteadyTraffic(t *testing.T) {
	for _, partitions := range []int32{1, 3} {
		for _, interval := range []time.Duration{time.Second, time.Hour} {
			t.Run(fmt.Sprintf("%d partitions, a flush each %v", partitions, interval), func(t *testing.T) {
				scenario(t, partitions, func(w *world) {
					w.store.SetPlan(faultstore.When(isPut, faultstore.Delay(200*time.Millisecond)))
					w.produceAll(partitions, 100)
					before := maps.Clone(w.want)
					begun := time.Now()
					k := w.start(func(s *setup) { s.UntilEnd, s.Flush.Interval = true, interval })
					w.whileRunning(k, 50*time.Millisecond, 20*time.Second, func(i int) { w.produce(int32(i)%partitions, 1) })
					w.check(k.wait())
					if took := time.Since(begun); took > 8*time.Second {
						t.Errorf("the run took %v", took)
					}
					if n := k.Progress().Commits; n > 4 {
						t.Errorf("the run made %d commits, want a few at most", n)
					}
					w.forgetUnread(partitions)
					for at := range before {
						if _, ok := w.want[at]; !ok {
							t.Errorf("partition %d offset %d was there at the start and is not in the table", at.partition, at.offset)
						}
					}
					w.exactlyOnce()
				})
			})
		}
	}
}

// whileRunning calls f now and then until the worker has ended, or the limit is over.
func (w *world) whileRunning(k *worker, pause, limit time.Duration, f func(i int)) {
	w.t.Helper()
	begun := time.Now()
	for i := 0; ; i++ {
		select {
		case <-k.done:
			return
		case <-time.After(pause):
		}
		if time.Since(begun) > limit {
			w.t.Fatalf("the worker did not end within %v, after %d commits", limit, k.Progress().Commits)
		}
		f(i)
	}
}

// forgetUnread leaves only those messages that the table claims to hold.
func (w *world) forgetUnread(partitions int32) {
	w.t.Helper()
	for p := range partitions {
		last := w.txn(p)
		maps.DeleteFunc(w.want, func(at place, _ int64) bool { return at.partition == p && at.offset > last })
	}
}

// logLimit calls reached at the line that is one too many.
type logLimit struct {
	io.Writer
	left    atomic.Int64
	reached atomic.Pointer[context.CancelFunc]
}

func newLogLimit(w io.Writer, lines int64) *logLimit {
	l := &logLimit{Writer: w}
	l.left.Store(lines)
	return l
}

func (l *logLimit) Write(p []byte) (int, error) {
	if f := l.reached.Load(); l.left.Add(-1) <= 0 && f != nil {
		(*f)()
	}
	return l.Writer.Write(p)
}

// TestTopicMadeAnewUnderARunningWorker: the client gets nothing but errors for a topic id that is gone.
func TestTopicMadeAnewUnderARunningWorker(t *testing.T) {
	for _, gone := range []time.Duration{0, 30 * time.Second} {
		for _, traffic := range []bool{false, true} {
			t.Run(fmt.Sprintf("gone for %v, with messages %v", gone, traffic), func(t *testing.T) {
				scenario(t, 2, func(w *world) {
					w.produceAll(2, 5)
					flood := newLogLimit(w.logs, 300) // without it, a worker in a tight loop would keep the clock still
					k := w.start(func(s *setup) { s.Log = slog.New(slog.NewTextHandler(flood, nil)) })
					flood.reached.Store(&k.cancel)
					w.landed()
					version := w.version()
					w.check(w.kafka.DeleteTopic(topic))
					time.Sleep(gone)
					w.check(w.kafka.CreateTopic(topic, 2, nil))
					if traffic {
						w.client = w.kafka.Client()
						for p := range int32(2) {
							for range 9 {
								w.check(w.client.ProduceSync(w.t.Context(), w.message(p)).FirstErr())
							}
						}
					}
					begun := time.Now()
					w.whileRunning(k, time.Second, 10*time.Minute, func(int) {})
					err := k.wait()
					t.Logf("%v after: %v", time.Since(begun), err)
					if !errors.As(err, new(*checkpoint.RefusedError)) {
						t.Errorf("the run ended with %v, want a *checkpoint.RefusedError", err)
					}
					if flood.left.Load() < 200 {
						t.Errorf("the worker has logged more than 100 lines about it")
					}
					if got := w.version(); got != version {
						t.Errorf("the table was moved from version %d to %d", version, got)
					}
					w.exactlyOnce()
				})
			})
		}
	}
}

// TestTopicDeletedUnderARunningWorker: it ends, and tells what happened and what to do. What was read is committed.
func TestTopicDeletedUnderARunningWorker(t *testing.T) {
	for name, pending := range map[string]bool{"idle": false, "with messages that are not committed": true} {
		t.Run(name, func(t *testing.T) {
			scenario(t, 2, func(w *world) {
				w.produceAll(2, 5)
				k := w.start(func(s *setup) { s.Flush.Interval = time.Minute })
				if pending {
					w.poll = 10 * time.Millisecond
					w.eventually("the messages are taken", func() bool { return k.Progress().Messages >= 10 })
				} else {
					w.landed()
				}
				w.check(w.kafka.DeleteTopic(topic))
				begun := time.Now()
				w.whileRunning(k, time.Second, 10*time.Minute, func(int) {})
				err := k.wait()
				t.Logf("%v after: %v", time.Since(begun), err)
				var e *source.Error
				if !errors.As(err, &e) || !strings.Contains(err.Error(), "topic "+topic) || !strings.Contains(err.Error(), "has been deleted") || !strings.Contains(e.Hint, "--new-topic") {
					t.Errorf("the run ended with %v, want a *source.Error that tells of it", err)
				}
				w.exactlyOnce()
			})
		})
	}
}

// TestStopWhileDataFilesCannotBeWrittenIsInterrupted: what was read is not committed, which a stop must tell.
func TestStopWhileDataFilesCannotBeWrittenIsInterrupted(t *testing.T) {
	for _, method := range []string{faultstore.MethodCreate, faultstore.MethodWrite, faultstore.MethodClose} {
		for name, wait := range map[string]time.Duration{"before the first flush": 100 * time.Millisecond, "between tries": 3 * time.Minute} {
			t.Run(method+" "+name, func(t *testing.T) {
				scenario(t, 2, func(w *world) {
					k := w.start(func(s *setup) { s.ShutdownTimeout = 5 * time.Second })
					w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
					w.store.Down(func(op faultstore.Op) bool { return op.Method == method })
					w.produceAll(2, 20)
					w.poll = 10 * time.Millisecond
					w.eventually("the messages are taken", func() bool { return k.Progress().Messages >= 40 })
					time.Sleep(wait)
					begun := time.Now()
					if err := k.stopped(); !errors.Is(err, pipeline.ErrInterrupted) {
						t.Errorf("the stop ended with %v, want ErrInterrupted", err)
					}
					if took := time.Since(begun); took > 20*time.Second {
						t.Errorf("the stop took %v, its limit is 5s", took)
					}
					w.store.Up()
					w.untilEnd()
					w.exactlyOnce()
				})
			})
		}
	}
}

// TestStopWithNothingUncommittedIsGood while the store refuses data files: nothing needs one.
func TestStopWithNothingUncommittedIsGood(t *testing.T) {
	scenario(t, 2, func(w *world) {
		w.produceAll(2, 20)
		k := w.start()
		w.landed()
		w.store.Down(func(op faultstore.Op) bool { return op.Method == faultstore.MethodCreate })
		time.Sleep(time.Minute)
		k.stop()
		w.exactlyOnce()
	})
}

// isUpkeep tells what puts log checkpoints and checksums.
func isUpkeep(op faultstore.Op) bool {
	return op.Method == faultstore.MethodClose && strings.Contains(op.Name, ".checkpoint.") || op.Method == faultstore.MethodPutIfAbsent && strings.HasSuffix(op.Name, ".crc")
}

// TestShortRunsKeepTheLogInOrder: a table that is filled by short runs alone gets the log checkpoints, the cleanup and the checksums that are due, though the
// store takes its time for them: nobody else would ever make them.
func TestShortRunsKeepTheLogInOrder(t *testing.T) {
	scenario(t, 1, func(w *world) {
		w.store.SetPlan(faultstore.When(isUpkeep, faultstore.Delay(3*time.Second)))
		run := func() {
			w.produce(0, 1)
			w.untilEnd(func(s *setup) {
				s.sink.Properties = map[string]string{"delta.checkpointInterval": "2", "delta.logRetentionDuration": "interval 1 hour", "delta.parquet.compression.codec": "none"}
			})
		}
		for range 10 {
			run()
		}
		var checkpoints []int64
		checksums := 0
		for o, err := range w.memory.List(t.Context(), "_delta_log/0", "") {
			w.check(err)
			var v int64
			if n, _ := fmt.Sscanf(strings.TrimPrefix(o.Name, "_delta_log/"), "%d.checkpoint.parquet", &v); n == 1 && strings.HasSuffix(o.Name, ".parquet") {
				checkpoints = append(checkpoints, v)
			}
			if strings.HasSuffix(o.Name, ".crc") {
				checksums++
			}
		}
		newest := w.version()
		if got, want := len(checkpoints), int(newest/2); got != want {
			t.Errorf("after %d versions there are log checkpoints of %v, want one of every second", newest, checkpoints)
		}
		if want := int(newest); checksums < want {
			t.Errorf("after %d versions there are %d checksums, want %d", newest, checksums, want)
		}
		w.exactlyOnce()

		time.Sleep(2 * time.Hour)
		run()
		run()
		if _, err := w.memory.Get(t.Context(), fmt.Sprintf("_delta_log/%020d.json", newest-2), 0, -1); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("version %d is %v in the log, want it cleaned after two hours", newest-2, err)
		}
	})
}

// TestALogCheckpointThatHangsHoldsNoStop: neither a stop nor a run to the end waits for a store that does not answer for longer than shutdown_timeout.
func TestALogCheckpointThatHangsHoldsNoStop(t *testing.T) {
	for _, untilEnd := range []bool{false, true} {
		t.Run(fmt.Sprintf("until end %v", untilEnd), func(t *testing.T) {
			scenario(t, 1, func(w *world) {
				w.store.SetPlan(faultstore.When(isUpkeep, faultstore.Block()))
				w.produce(0, 10)
				k := w.start(func(s *setup) {
					s.UntilEnd, s.ShutdownTimeout = untilEnd, 5*time.Second
					s.sink.Properties = map[string]string{"delta.checkpointInterval": "2", "delta.parquet.compression.codec": "none"}
				})
				w.poll = 10 * time.Millisecond
				w.landed()
				begun := time.Now()
				if !untilEnd {
					time.Sleep(time.Minute) // the log checkpoint hangs already
					begun = time.Now()
					k.cancel()
				}
				w.check(k.wait())
				if took := time.Since(begun); took < 4*time.Second || took > 7*time.Second {
					t.Errorf("the stop took %v, want the 5s of its limit", took)
				}
				w.exactlyOnce()
			})
		})
	}
}

// TestWhatWasFetchedOfADeletedTopicIsCommitted: brokers say that the topic is gone while commits are slow and the client has more than was taken of
// it. Nobody can read that again.
func TestWhatWasFetchedOfADeletedTopicIsCommitted(t *testing.T) {
	scenarioOf(t, 2, func(w *world) {
		w.produceAll(2, 5)
		k := w.start(func(s *setup) {
			s.Share, s.Lanes, s.Flush.Rows, s.Flush.Interval = 20, 1, 1000, 100*time.Millisecond
			s.ClientOptions = append(s.ClientOptions, kgo.FetchMaxBytes(16<<20), kgo.FetchMaxPartitionBytes(16<<20))
		})
		w.landed()
		w.store.SetPlan(faultstore.When(isPut, faultstore.Delay(2*time.Minute)))
		w.kafka.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
			w.kafka.KeepControl()
			resp := req.(*kmsg.MetadataRequest).ResponseKind().(*kmsg.MetadataResponse)
			resp.ClusterID = new("elected")
			b := kmsg.NewMetadataResponseBroker()
			b.Host, b.Port = "127.0.0.1", 9092
			resp.Brokers = append(resp.Brokers, b)
			mt := kmsg.NewMetadataResponseTopic()
			mt.Topic, mt.ErrorCode = new(topic), kerr.UnknownTopicOrPartition.Code
			resp.Topics = append(resp.Topics, mt)
			return resp, nil, true
		})
		id := w.kafka.TopicInfo(topic).TopicID
		w.kafka.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) { // once, of the partition that is gone first
			resp := req.(*kmsg.FetchRequest).ResponseKind().(*kmsg.FetchResponse)
			ft := kmsg.NewFetchResponseTopic()
			ft.Topic, ft.TopicID = topic, id
			fp := kmsg.NewFetchResponseTopicPartition()
			fp.ErrorCode = kerr.OffsetOutOfRange.Code
			ft.Partitions = append(ft.Partitions, fp)
			resp.Topics = append(resp.Topics, ft)
			return resp, nil, true
		})
		w.eventually("the brokers are asked whether the topic is there", func() bool { return strings.Contains(w.logs.String(), "asking its leader") })
		w.produce(1, 200_000)
		time.Sleep(10 * time.Second)
		taken := k.Progress().Messages
		err := k.wait()
		t.Logf("%d messages were taken at first, and %d after all: %v", taken, k.Progress().Messages, err)
		if !errors.As(err, new(*source.Error)) || !strings.Contains(err.Error(), "has been deleted") {
			t.Errorf("the run ended with %v, want a *source.Error that tells of it", err)
		}
		if taken >= 200_000 {
			t.Error("all messages were taken before: this tests nothing")
		}
		w.exactlyOnce()
	}, kfake.ClusterID("elected"))
}
