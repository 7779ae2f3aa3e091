package pipeline_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	compute "kafkadelta/columns"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
)

// held wraps the decoder of a setup: messages of the partitions that stuck names wait for ever.
func held(s *setup, stuck *atomic.Pointer[func(int32) bool]) {
	s.NewDecoder = func(l *sink.Layout) (pipeline.Decoder, *compute.Plan, error) {
		d, made, err := newDecoder(l)
		return waiting{d, stuck}, made, err
	}
}

// TestHeldUpPartitionStandsStillAlone: while messages of one partition wait for something outside, the other's are committed, by the
// same lane, the worker is not ready, and nothing of the one that waits is fetched again and again.
func TestHeldUpPartitionStandsStillAlone(t *testing.T) {
	parallelWorld(t, 2, func(w *world) {
		var stuck atomic.Pointer[func(int32) bool]
		none, zero := func(int32) bool { return false }, func(p int32) bool { return p == 0 }
		stuck.Store(&none)
		k := w.join(soon, func(s *setup) { s.Lanes = 1; held(s, &stuck) })
		w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
		w.produceAll(2, 5)
		w.landed()
		stuck.Store(&zero)
		w.produce(0, 1000)
		for range 5 { // more of it comes while the lane waits, which must not be taken either
			time.Sleep(100 * time.Millisecond)
			w.produce(0, 3)
		}
		w.produce(1, 10)
		w.eventually("the other partition is committed", func() bool { return w.txn(1) == 14 })
		if at := w.txn(0); at != 4 {
			t.Errorf("offset %d of what waits is in the table", at)
		}
		err := k.Ready()
		if err == nil || !strings.Contains(err.Error(), "messages of 1 partitions wait") {
			t.Errorf("ready: %v", err)
		}
		for range 5 {
			w.produce(1, 10)
			time.Sleep(300 * time.Millisecond)
		}
		w.eventually("all of the other partition", func() bool { return w.txn(1) == 64 })
		if n := k.Progress().Messages; n > 10*1010 {
			t.Errorf("%d messages were taken, most of them again and again", n)
		}
		stuck.Store(&none)
		w.landed()
		w.eventually("the worker is ready again", func() bool { return k.Ready() == nil })
		k.stop()
		w.exactlyOnce()
		for _, line := range []string{"messages wait for something outside", "messages that waited are taken"} {
			if n := strings.Count(w.logs.String(), line); n != 1 {
				t.Errorf("it says %d times %q", n, line)
			}
		}
	})
}

// TestHeldUpWhileALeaderIsDoubted: while a lane waits for the fifth message, a broker says wrongly that what comes after those that
// it has is out of range. What was passed over is read again for that, and not taken for a gap.
func TestHeldUpWhileALeaderIsDoubted(t *testing.T) {
	parallelWorld(t, 1, func(w *world) {
		var stuck atomic.Pointer[func(int32) bool]
		none := func(int32) bool { return false }
		var met atomic.Int32
		fifth := func(int32) bool { return met.Add(1) > 4 }
		stuck.Store(&fifth)
		k := w.start(func(s *setup) {
			s.Lanes, s.Flush.Interval = 1, 8*time.Second
			held(s, &stuck)
		})
		w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
		w.produce(0, 10)
		w.eventually("the lane waits", func() bool { return met.Load() > 4 })
		asked := func() bool { return strings.Contains(w.logs.String(), "asking its leader") }
		outOfRange(w, asked)
		w.produce(0, 1) // ends the fetch that is waiting, before the lane gives up and nothing more is fetched
		w.eventually("the leader is asked", asked)
		w.eventually("the lane has given up waiting", func() bool { return strings.Contains(w.logs.String(), "the leader has what comes next") })
		time.Sleep(2 * time.Second)
		stuck.Store(&none)
		w.produce(0, 10)
		w.landed()
		k.stop()
		w.exactlyOnce()
	})
}

// TestHeldUpAgainAndAgain has partitions wait and flow by turns, over flushes, lanes, false alarms of brokers, a second worker that comes and
// goes, and a stop while some wait.
func TestHeldUpAgainAndAgain(t *testing.T) {
	const partitions = 4
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			parallelWorld(t, partitions, func(w *world) {
				rnd := rand.New(rand.NewPCG(seed, 7))
				var stuck atomic.Pointer[func(int32) bool]
				change := func(share float64) {
					var those [partitions]bool
					for i := range those {
						those[i] = rnd.Float64() < share
					}
					f := func(p int32) bool { return those[p] }
					stuck.Store(&f)
				}
				change(0.5)
				k := w.join(soon, func(s *setup) { s.Lanes = 2; held(s, &stuck) })
				for round := range 12 {
					for p := range int32(partitions) {
						w.produce(p, 1+rnd.IntN(30))
					}
					if over := time.Now().Add(100 * time.Millisecond); rnd.IntN(2) == 0 {
						outOfRange(w, func() bool { return time.Now().After(over) }, rnd.Int32N(partitions))
					}
					time.Sleep(time.Duration(rnd.IntN(1500)) * time.Millisecond)
					change(0.4)
					switch round {
					case 5:
						other := w.join(soon, func(s *setup) { held(s, &stuck) })
						time.Sleep(time.Second)
						other.stop()
					case 8:
						k.stop() // what waits is no reason not to stop in order
						k = w.join(soon, func(s *setup) { s.Lanes = 2; held(s, &stuck) })
					}
				}
				change(0)
				w.landed()
				k.stop()
				w.exactlyOnce()
				if strings.Contains(w.logs.String(), "are offered, but") {
					t.Error("a lane has met messages that were passed over before")
				}
			})
		})
	}
}

// asking is a decoder that has an answer for each message of partition 0 a while after it has been asked for it, by Append or WrittenBy.
type asking struct {
	pipeline.Decoder
	asked map[int64]time.Time
}

func (d asking) Append(r *kgo.Record) error {
	if r.Partition == 0 && d.pending(r) {
		return later{errors.New("the registry has not said yet that it does not know the schema")}
	}
	return d.Decoder.Append(r)
}

func (d asking) WrittenBy(r *kgo.Record) string {
	d.pending(r)
	return ""
}

func (d asking) pending(r *kgo.Record) bool {
	at, ok := d.asked[r.Offset]
	if !ok {
		at = time.Now()
		d.asked[r.Offset] = at
	}
	return time.Since(at) < 600*time.Millisecond
}

// TestManyWaitsAreOnePartitions: messages that each wait for less than a lane's patience hold up the other partition no longer than one does, and are waited for
// beside each other.
func TestManyWaitsAreOnePartitions(t *testing.T) {
	parallelWorld(t, 2, func(w *world) {
		k := w.join(soon, func(s *setup) {
			s.Lanes = 1
			asked := map[int64]time.Time{} // of the only lane
			s.NewDecoder = func(l *sink.Layout) (pipeline.Decoder, *compute.Plan, error) {
				d, made, err := newDecoder(l)
				return asking{d, asked}, made, err
			}
		})
		w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
		w.produce(1, 5)
		w.eventually("the other partition flows", func() bool { return w.txn(1) == 4 })
		w.produce(0, 100) // a minute, one after the other
		time.Sleep(200 * time.Millisecond)
		begin := time.Now()
		w.produce(1, 10)
		w.eventually("the other partition is committed", func() bool { return w.txn(1) == 14 })
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("the other partition waited for %v", took)
		}
		w.landed()
		if took := time.Since(begin); took > 30*time.Second {
			t.Errorf("the messages were waited for one after the other: %v", took)
		}
		k.stop()
		w.exactlyOnce()
	})
}
