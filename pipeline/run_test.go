package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkadelta/batch"
	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/internal/kafkatest"
	"kafkadelta/sink"
	"kafkadelta/source"
	"kafkadelta/storage/faultstore"
)

func TestRunToTheEndAndOnAgain(t *testing.T) {
	scenario(t, 3, func(w *world) {
		w.produceAll(3, 50)
		w.untilEnd()
		w.exactlyOnce()
		version := w.version()
		w.untilEnd() // nothing new
		if got := w.version(); got != version {
			t.Errorf("a run without messages moved the table from version %d to %d", version, got)
		}
		w.produceAll(3, 10)
		w.untilEnd()
		w.exactlyOnce()
	})
}

func TestEmptyTopicIsPinnedAndNothingElse(t *testing.T) {
	scenario(t, 3, func(w *world) {
		k := w.untilEnd()
		if got := w.version(); got != 1 {
			t.Errorf("the table is at version %d, want 1: made, then pinned", got)
		}
		if p := k.Progress(); p.Commits != 0 || p.Rows != 0 {
			t.Errorf("the run tells of %+v", p)
		}
		for p := range int32(3) {
			if got := w.txn(p); got != -1 {
				t.Errorf("partition %d is pinned at %d, want -1", p, got)
			}
		}
		w.produceAll(3, 2)
		w.untilEnd()
		w.exactlyOnce()
	})
}

func TestUntilEndWithEmptyPartitions(t *testing.T) {
	scenario(t, 5, func(w *world) {
		w.produce(3, 10)
		w.untilEnd()
		w.exactlyOnce()
	})
}

// TestAdaptiveFlushHoldsFreshness has a store whose every request takes 100 ms. Flushes begin just early enough, far before the interval.
func TestAdaptiveFlushHoldsFreshness(t *testing.T) {
	scenario(t, 2, func(w *world) {
		w.store.SetPlan(func(faultstore.Op) faultstore.Action { return faultstore.Delay(100 * time.Millisecond) })
		const goal = 8 * time.Second
		k := w.start(func(s *setup) {
			s.Flush.Mode, s.Flush.Freshness, s.Flush.Interval = batch.ModeAdaptive, goal, 10*time.Minute
		})
		w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
		begun := w.version()
		for range 240 {
			w.produceAll(2, 1)
			time.Sleep(500 * time.Millisecond)
			if age := k.metric("kafkadelta_freshness_seconds"); age > goal.Seconds() {
				t.Errorf("a message was %v s old when the table had it, the goal is %v", age, goal)
			}
		}
		w.landed()
		if got := w.version() - begun; got > 24 { // a flush takes more than a second
			t.Errorf("%d versions in two minutes hold a goal of %v: 20 would do", got, goal)
		}
		if age := k.metric("kafkadelta_freshness_seconds"); age <= 0 {
			t.Errorf("the freshness is %v", age)
		}
		k.stop()
		w.exactlyOnce()
	})
}

func TestIdleIntervalCommitsNothing(t *testing.T) {
	scenario(t, 2, func(w *world) {
		w.produceAll(2, 5)
		k := w.start()
		w.landed()
		version, begun := w.version(), len(w.store.Ops())
		time.Sleep(10 * time.Minute)
		k.running()
		if got := w.version(); got != version {
			t.Errorf("an idle worker moved the table from version %d to %d", version, got)
		}
		if ops := len(w.store.Ops()) - begun; ops > 100 {
			t.Errorf("an idle worker asked the store %d times in 10 minutes: rule A3 is once in 15s", ops)
		}
		k.stop()
		w.exactlyOnce()
	})
}

func TestGracefulStopCommitsWhatWasRead(t *testing.T) {
	scenario(t, 2, func(w *world) {
		k := w.start(func(s *setup) { s.Flush.Interval = time.Hour })
		w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
		w.produceAll(2, 30)
		w.eventually("the messages are taken", func() bool { return k.Progress().Messages == 60 })
		if got := w.version(); got != 1 {
			t.Fatalf("the table is at version %d before the stop, want 1", got)
		}
		k.stop()
		w.exactlyOnce()
		// The group knows, too.
		offsets, err := w.kafka.Admin().FetchOffsets(w.t.Context(), stream)
		w.check(err)
		for p := range int32(2) {
			if o, ok := offsets.Lookup(topic, p); !ok || o.At != 30 {
				t.Errorf("partition %d: offset %d was reported, want 30", p, o.At)
			}
		}
	})
}

func TestOffsetsAreReportedOnlyAfterTheCommit(t *testing.T) {
	scenario(t, 1, func(w *world) {
		k := w.start()
		w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
		w.store.Down(isPut)
		w.produce(0, 10)
		time.Sleep(2 * time.Minute)
		offsets, err := w.kafka.Admin().FetchOffsets(w.t.Context(), stream)
		w.check(err)
		if o, ok := offsets.Lookup(topic, 0); ok && o.At > 0 {
			t.Errorf("offset %d was reported although nothing is committed", o.At)
		}
		w.store.Up()
		w.landed()
		k.stop()
		w.exactlyOnce()
	})
}

// TestSlowReportsHoldUpNoCommit has a group coordinator that takes long to take offsets, as while a group joins.
func TestSlowReportsHoldUpNoCommit(t *testing.T) {
	scenario(t, 1, func(w *world) {
		k := w.start()
		w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
		w.kafka.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
			w.kafka.KeepControl()
			w.kafka.SleepControl(func() { time.Sleep(4 * time.Second) })
			return nil, nil, false
		})
		before := w.version()
		for range 20 {
			w.produce(0, 1)
			time.Sleep(1100 * time.Millisecond)
		}
		if commits := w.version() - before; commits < 15 {
			t.Errorf("%d commits in 22 s with a flush each second", commits)
		}
		k.stop()
		offsets, err := w.kafka.Admin().FetchOffsets(w.t.Context(), stream)
		w.check(err)
		if o, ok := offsets.Lookup(topic, 0); !ok || o.At != 20 {
			t.Errorf("at the end %v was reported, want offset 20", o)
		}
		w.exactlyOnce()
	})
}

// TestLatestIsPinnedOnce stops a first worker between its start and its first commit of rows: what was produced in
// between must not be skipped by asking for `latest` again.
func TestLatestIsPinnedOnce(t *testing.T) {
	scenario(t, 2, func(w *world) {
		latest := func(s *setup) {
			s.Source.Start = source.StartLatest
			s.Flush.Interval = time.Hour
			s.ShutdownTimeout = time.Second
		}
		w.produceAll(2, 5)
		clear(w.want) // before the first start
		first := w.start(latest)
		w.eventually("the worker is ready", func() bool { return first.Ready() == nil })
		w.store.Down(func(op faultstore.Op) bool { return op.Method == faultstore.MethodCreate })
		w.produceAll(2, 10)
		time.Sleep(time.Second)
		_ = first.stopped()
		w.store.Up()
		w.produceAll(2, 3)
		w.untilEnd(latest)
		w.exactlyOnce()
	})
}

func TestControlRecordsAndAbortedTransactions(t *testing.T) {
	for _, tail := range []string{"committed", "aborted", "open"} {
		t.Run(tail+" transaction at the end", func(t *testing.T) {
			scenario(t, 2, func(w *world) {
				producer := w.kafka.Client(kgo.TransactionalID("tx"))
				transaction := func(commit kgo.TransactionEndTry, n int) {
					w.check(producer.BeginTransaction())
					var records []*kgo.Record
					first := w.next + 1
					for p := range int32(2) {
						for range n {
							records = append(records, w.message(p))
						}
					}
					kafkatest.ProduceTo(w.t, producer, records)
					for i, r := range records {
						if commit {
							w.want[place{r.Partition, r.Offset}] = first + int64(i)
						}
					}
					w.check(producer.EndTransaction(w.t.Context(), commit))
				}
				transaction(kgo.TryCommit, 5)
				transaction(kgo.TryAbort, 5)
				w.produceAll(2, 3)
				transaction(kgo.TryCommit, 2)
				transaction(kgo.TryAbort, 1)
				switch tail {
				case "committed":
					transaction(kgo.TryCommit, 1)
				case "open":
					w.check(producer.BeginTransaction())
					kafkatest.ProduceTo(w.t, producer, []*kgo.Record{w.message(0)})
				}
				w.untilEnd()
				w.exactlyOnce()
				version := w.version()
				w.untilEnd()
				if got := w.version(); got != version {
					t.Errorf("a second run over the same messages moved the table from version %d to %d", version, got)
				}
				if tail == "open" {
					w.check(producer.EndTransaction(w.t.Context(), kgo.TryAbort))
				}
				w.produceAll(2, 2)
				w.untilEnd()
				w.exactlyOnce()
			})
		})
	}
}

// TestOnlyControlRecordsSinceTheLastCommit has nothing but an aborted transaction to read: the end is reached, and a
// commit without files notes it.
func TestOnlyControlRecordsSinceTheLastCommit(t *testing.T) {
	scenario(t, 1, func(w *world) {
		w.produce(0, 3)
		w.untilEnd()
		producer := w.kafka.Client(kgo.TransactionalID("tx"))
		w.check(producer.BeginTransaction())
		kafkatest.ProduceTo(w.t, producer, []*kgo.Record{w.message(0), w.message(0)})
		w.check(producer.EndTransaction(w.t.Context(), kgo.TryAbort))
		w.untilEnd()
		if got := w.txn(0); got != 5 {
			t.Errorf("the table stands at offset %d, want 5: 3 messages, 2 aborted, 1 marker", got)
		}
		w.exactlyOnce()
	})
}

func TestReadUncommittedTakesAbortedMessages(t *testing.T) {
	scenario(t, 1, func(w *world) {
		producer := w.kafka.Client(kgo.TransactionalID("tx"))
		w.check(producer.BeginTransaction())
		first := w.next + 1
		records := []*kgo.Record{w.message(0), w.message(0)}
		kafkatest.ProduceTo(w.t, producer, records)
		for i, r := range records {
			w.want[place{0, r.Offset}] = first + int64(i)
		}
		w.check(producer.EndTransaction(w.t.Context(), kgo.TryAbort))
		w.untilEnd(func(s *setup) { s.Source.Isolation = source.ReadUncommitted })
		w.exactlyOnce()
	})
}

// alter puts a metaData action by hand, as another writer's ALTER TABLE would.
func (w *world) alter(change func(*delta.Metadata)) {
	w.t.Helper()
	snapshot, err := delta.OpenSnapshot(w.t.Context(), w.memory, -1)
	w.check(err)
	meta := snapshot.Metadata()
	change(&meta)
	w.foreign(`{"commitInfo":{"timestamp":1,"operation":"SET TBLPROPERTIES"}}`, `{"metaData":`+jsonOf(w.t, meta)+`}`)
}

// foreign makes the next version with these lines.
func (w *world) foreign(lines ...string) {
	w.t.Helper()
	w.check(w.memory.PutIfAbsent(w.t.Context(), fmt.Sprintf("_delta_log/%020d.json", w.version()+1), []byte(strings.Join(lines, "\n")+"\n")))
}

func TestSchemaChangedByAnotherWriter(t *testing.T) {
	scenario(t, 2, func(w *world) {
		w.produceAll(2, 5)
		k := w.start()
		w.landed()
		w.alter(func(m *delta.Metadata) {
			m.SchemaString = schemaJSON(w.t, columns+", extra STRING")
		})
		r := &kgo.Record{Topic: topic, Value: []byte(`{"n": 100, "extra": "new"}`)}
		kafkatest.ProduceTo(w.t, w.client, []*kgo.Record{r})
		w.want[place{0, r.Offset}] = 100
		w.landed()
		w.produceAll(2, 5)
		w.landed()
		k.stop()
		w.exactlyOnce()
		if !strings.Contains(w.logs.String(), "schema has changed") {
			t.Error("the change was not told")
		}
		w.untilEnd()
	})
}

// TestBusyWorkerFillsANewColumn has a flush every second, so that nobody looks for other writers' versions in between: the
// commit that lands after the change tells of it.
func TestBusyWorkerFillsANewColumn(t *testing.T) {
	scenario(t, 1, func(w *world) {
		w.produce(0, 5)
		k := w.start(func(s *setup) { s.Flush.Interval = time.Second })
		w.landed()
		w.alter(func(m *delta.Metadata) { m.SchemaString = schemaJSON(w.t, columns+", extra STRING") })
		for range 6 {
			r := &kgo.Record{Topic: topic, Value: []byte(`{"n": 100, "extra": "new"}`)}
			kafkatest.ProduceTo(w.t, w.client, []*kgo.Record{r})
			w.want[place{0, r.Offset}] = 100
			w.landed()
		}
		if last := string(w.object(fmt.Sprintf("_delta_log/%020d.json", w.version()))); !strings.Contains(last, `\"maxValues\":{\"n\":100,\"extra\":\"new\"`) {
			t.Errorf("the new column is not filled: %s", last)
		}
		k.stop()
		w.exactlyOnce()
	})
}

// TestBusyWorkerClaimsAQuietPartitionAgain has another writer move the offset of a partition without messages, whose worker commits those of another all the time: it has no idle look.
func TestBusyWorkerClaimsAQuietPartitionAgain(t *testing.T) {
	scenario(t, 2, func(w *world) {
		w.produce(1, 5)
		k := w.start(func(s *setup) { s.Flush.Interval = time.Second })
		w.landed()
		w.foreign(fmt.Sprintf(`{"txn":{"appId":"%s-1","version":1}}`, stream))
		begun, again := time.Now(), int64(0)
		for ; again != 4 && time.Since(begun) < time.Minute; time.Sleep(time.Second) {
			w.produce(0, 1)
			again = w.txn(1)
		}
		if again != 4 {
			t.Errorf("the table has offset %d of the quiet partition, which was to be read again to 4 (rule A3)", again)
		}
		k.stop()
	})
}

func TestIdleWorkerSeesASchemaChangeAndAFence(t *testing.T) {
	scenario(t, 1, func(w *world) {
		w.produce(0, 5)
		k := w.start()
		w.landed()
		w.alter(func(m *delta.Metadata) { m.SchemaString = schemaJSON(w.t, columns+", extra STRING") })
		time.Sleep(time.Minute)
		w.foreign(fmt.Sprintf(`{"txn":{"appId":"%s-0","version":4}}`, stream))
		time.Sleep(time.Minute)
		if !strings.Contains(w.logs.String(), "schema has changed") || !strings.Contains(w.logs.String(), "another writer has moved") {
			t.Error("an idle worker did not see what another writer did (rule A3)")
		}
		w.produce(0, 5)
		w.landed()
		k.stop()
		w.exactlyOnce()
	})
}

func TestTablePropertyChangeDropsNothing(t *testing.T) {
	scenario(t, 1, func(w *world) {
		k := w.start(func(s *setup) { s.Flush.Interval = time.Minute })
		w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
		w.produce(0, 5)
		time.Sleep(5 * time.Second)
		w.alter(func(m *delta.Metadata) { m.Configuration = map[string]string{"team": "data"} })
		w.landed()
		k.stop()
		w.exactlyOnce()
		if got := k.Progress().Messages; got != 5 {
			t.Errorf("%d messages were taken, want 5: none again", got)
		}
	})
}

func TestRestoreByAnotherWriterEndsTheRun(t *testing.T) {
	scenario(t, 1, func(w *world) {
		w.produce(0, 5)
		k := w.start()
		w.landed()
		w.foreign(`{"commitInfo":{"timestamp":1,"operation":"RESTORE"}}`)
		err := k.wait()
		if !errors.As(err, new(*sink.Error)) || !strings.Contains(err.Error(), "RESTORE") {
			t.Errorf("the run ended with %v, want a *sink.Error that names RESTORE", err)
		}
	})
}

func TestTopicMadeAnewIsRefused(t *testing.T) {
	scenario(t, 1, func(w *world) {
		w.produce(0, 5)
		w.untilEnd()
		w.check(w.kafka.DeleteTopic(topic))
		w.check(w.kafka.CreateTopic(topic, 1, nil))
		w.client = w.kafka.Client()
		err := w.start().wait()
		if !errors.As(err, new(*checkpoint.RefusedError)) {
			t.Errorf("the run ended with %v, want a *checkpoint.RefusedError", err)
		}
	})
}

func TestUnknownTopicEndsTheRunWithAHint(t *testing.T) {
	scenario(t, 1, func(w *world) {
		err := w.start(func(s *setup) { s.Source.Topic = "nothing" }).wait()
		var e *source.Error
		if !errors.As(err, &e) || !strings.Contains(e.Hint, "source.topic") {
			t.Errorf("the run ended with %v, want a *source.Error with a hint", err)
		}
	})
}

// TestNoTableEndsTheRun: without leave to make one.
func TestNoTableEndsTheRun(t *testing.T) {
	scenario(t, 1, func(w *world) {
		err := w.start(func(s *setup) {
			s.OpenTable = func(ctx context.Context, events sink.Events) (*sink.Table, error) {
				return sink.Open(ctx, w.store, s.sink, sink.Options{Name: stream, Now: time.Now, Log: s.Log, Events: events})
			}
		}).wait()
		if !errors.As(err, new(*sink.Error)) {
			t.Errorf("the run ended with %v, want a *sink.Error", err)
		}
	})
}

// TestCatchUpOverManyLanes has so much to read that partitions are spread over lanes, and move when they have caught up;
// one flush fills while the one before commits slowly.
func TestCatchUpOverManyLanes(t *testing.T) {
	scenario(t, 2, func(w *world) {
		w.produceAll(2, 22_000)
		w.store.SetPlan(faultstore.When(isPut, faultstore.Delay(time.Second)))
		k := w.start(func(s *setup) { s.Lanes, s.Flush.Rows, s.Flush.Interval = 3, 3000, 100*time.Millisecond })
		for range 20 {
			w.produceAll(2, 50)
			time.Sleep(300 * time.Millisecond)
		}
		w.landed()
		k.stop()
		w.exactlyOnce()
		if got := w.version(); got < 5 {
			t.Errorf("the table is at version %d: the rows were not spread over several flushes", got)
		}
	})
}
