package pipeline_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkadelta/internal/kafkatest"
	"kafkadelta/sink"
	"kafkadelta/storage/faultstore"
)

// stuckLane starts a worker whose only lane hangs while it opens a file, for a first row group of 8 MiB, in the middle of an epoch, so that what
// comes after waits in the lane's queue. action is what becomes of the file.
func (w *world) stuckLane(action faultstore.Action) *worker {
	w.t.Helper()
	w.poll = 10 * time.Millisecond
	k := w.start(func(s *setup) {
		s.Lanes, s.Flush.Interval, s.limit, s.columns = 1, time.Hour, func() int64 { return 64 << 10 }, columns+", padding STRING"
	})
	w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
	w.store.SetPlan(faultstore.First(
		faultstore.Once(func(op faultstore.Op) bool { return op.Method == faultstore.MethodCreate }, action),
		faultstore.When(isLogRead, faultstore.Delay(3*time.Second)), // so that it ends when the queue is full
	))
	// A few at a time, so that the queue behind the lane is not full.
	for i := 0; i < 100 && w.asked(isCreate) == 0; i++ {
		w.producePadded(200)
		time.Sleep(20 * time.Millisecond)
	}
	w.eventually("the lane opens its file", func() bool { return w.asked(isCreate) > 0 })
	w.awaitLook()
	time.Sleep(10 * time.Second) // then it has looked, and does so again some seconds later
	return k
}

// producePadded sends n messages of more than a kilobyte to partition 0.
func (w *world) producePadded(n int) {
	w.t.Helper()
	first := w.next + 1
	records := make([]*kgo.Record, n)
	for i := range records {
		records[i] = w.message(0)
		records[i].Value = fmt.Appendf(nil, `{"padding": %q, %s`, strings.Repeat("x", 1200), records[i].Value[1:])
	}
	kafkatest.ProduceTo(w.t, w.client, records)
	for i, r := range records {
		w.want[place{0, r.Offset}] = first + int64(i)
	}
}

func isCreate(op faultstore.Op) bool { return op.Method == faultstore.MethodCreate }

func isLogRead(op faultstore.Op) bool {
	return (op.Method == faultstore.MethodList || op.Method == faultstore.MethodGet) && strings.HasPrefix(op.Name, "_delta_log")
}

// asked is how often the store was asked for something like this.
func (w *world) asked(match func(faultstore.Op) bool) int {
	n := 0
	for _, op := range w.store.Ops() {
		if match(op) {
			n++
		}
	}
	return n
}

// awaitLook waits until the worker looks for what other writers did.
func (w *world) awaitLook() {
	w.t.Helper()
	before := w.asked(isLogRead)
	w.eventually("the worker looks what others did", func() bool { return w.asked(isLogRead) > before })
}

// fillQueue sends messages one by one once the worker looks what other writers did; more than a lane's queue holds.
func (w *world) fillQueue() {
	w.t.Helper()
	w.awaitLook()
	for range 10 {
		w.produce(0, 1)
		time.Sleep(20 * time.Millisecond)
	}
}

// TestWhatWaitsForAStuckLaneIsDroppedWithIt fences the partition while its messages wait for a lane: what is read again
// must not meet them.
func TestWhatWaitsForAStuckLaneIsDroppedWithIt(t *testing.T) {
	for _, few := range []bool{true, false} {
		t.Run(fmt.Sprintf("room in its queue %v", few), func(t *testing.T) {
			scenario(t, 1, func(w *world) {
				k := w.stuckLane(faultstore.Delay(2 * time.Minute))
				w.foreign(fmt.Sprintf(`{"txn":{"appId":"%s-0","version":%d}}`, stream, w.txn(0)))
				if few {
					w.produce(0, 1)
					time.Sleep(time.Second)
					w.produce(0, 1)
				} else {
					w.fillQueue()
				}
				w.eventually("the fence is seen", func() bool { return strings.Contains(w.logs.String(), "another writer has moved") })
				time.Sleep(3 * time.Minute)
				k.running()
				w.produce(0, 1)
				time.Sleep(10 * time.Second)
				k.stop()
				w.exactlyOnce()
				if log := w.logs.String(); strings.Contains(log, "are offered, but") || strings.Contains(log, "writing data files fails") {
					t.Error("the lane has met messages that were dropped before")
				}
			})
		})
	}
}

// TestFinalErrorDoesNotWaitForAStuckLane: neither for its file nor for room in its queue.
func TestFinalErrorDoesNotWaitForAStuckLane(t *testing.T) {
	scenario(t, 1, func(w *world) {
		k := w.stuckLane(faultstore.Block())
		w.foreign(`{"commitInfo":{"timestamp":1,"operation":"RESTORE"}}`)
		w.fillQueue()
		begun := time.Now()
		w.limit = 10 * time.Minute
		if err := k.wait(); !errors.As(err, new(*sink.Error)) || !strings.Contains(err.Error(), "RESTORE") {
			t.Errorf("the run ended with %v, want a *sink.Error that names RESTORE", err)
		}
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("it took %v to end the run", took)
		}
	})
}

// lags are the lags that the worker tells, by partition.
func (k *worker) lags() map[int32]float64 {
	k.w.t.Helper()
	families, err := k.Gatherer().Gather()
	k.w.check(err)
	lags := map[int32]float64{}
	for _, f := range families {
		if f.GetName() != "kafkadelta_lag_messages" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "partition" {
					id, err := strconv.Atoi(l.GetValue())
					k.w.check(err)
					lags[int32(id)] = m.GetGauge().GetValue()
				}
			}
		}
	}
	return lags
}

// TestLagIsNotToldBeforeItIsKnown: a partition that was assigned and not fetched from must not look as if it were read
// to its end.
func TestLagIsNotToldBeforeItIsKnown(t *testing.T) {
	scenario(t, 2, func(w *world) {
		w.produceAll(2, 100)
		var refuse atomic.Bool
		refuse.Store(true)
		w.kafka.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
			w.kafka.KeepControl()
			return nil, errors.New("no fetch now"), refuse.Load()
		})
		k := w.start()
		w.eventually("the worker is assigned its partitions", func() bool { return strings.Contains(w.logs.String(), "partitions assigned") })
		time.Sleep(5 * time.Second)
		k.running()
		for id, lag := range k.lags() {
			if lag != 100 {
				t.Errorf("before the first fetch the lag of partition %d is told to be %v, it is 100", id, lag)
			}
		}
		refuse.Store(false)
		w.landed()
		if lags := k.lags(); len(lags) != 2 || lags[0] != 0 || lags[1] != 0 {
			t.Errorf("in the end the lags are %v, want 0 for both partitions", lags)
		}
		k.stop()
		w.exactlyOnce()
	})
}
