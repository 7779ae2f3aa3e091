package pipeline_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	compute "kafkadelta/columns"
	"kafkadelta/internal/kafkatest"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
	"kafkadelta/source"
	"kafkadelta/storage/faultstore"
)

// member is a worker with a store decorator and a network of its own, so that a test can freeze it alone.
type member struct {
	*worker
	store *faultstore.Store
	gate  *kafkatest.Gate // to Kafka
	hold  *kafkatest.Gate // to the store
	puts  *kafkatest.Gate // to the store, for commits alone
}

func (w *world) join(change ...func(*setup)) *member {
	w.t.Helper()
	m := &member{store: faultstore.New(w.memory), gate: w.kafka.Gate(), hold: w.kafka.Gate(), puts: w.kafka.Gate()}
	m.store.SetHook(func(op faultstore.Op) {
		m.hold.Wait()
		if isPut(op) {
			m.puts.Wait()
		}
	})
	own := func(s *setup) {
		s.store = m.store
		s.ClientOptions = []kgo.Opt{m.gate.Dialer()}
	}
	m.worker = w.start(append([]func(*setup){own}, change...)...)
	w.t.Cleanup(m.thaw)
	return m
}

// freeze cuts the member off: nothing that it sends arrives any more, neither at Kafka nor at the store.
func (m *member) freeze() {
	m.gate.Shut()
	m.hold.Shut()
}

// thaw lets the member go on, and what it has sent arrive.
func (m *member) thaw() {
	m.puts.Open()
	m.hold.Open()
	m.gate.Open()
}

// leave stops the member, whose last flush may have been dropped: another worker has committed the same messages, or a fault hit it.
func (m *member) leave() {
	m.w.t.Helper()
	if err := m.stopped(); err != nil && !errors.Is(err, pipeline.ErrInterrupted) {
		m.w.t.Fatalf("stopping a worker: %v", err)
	}
}

// soon has everything in a group take place within a second or two, for worlds in real time.
func soon(s *setup) {
	s.Flush.Interval = 100 * time.Millisecond
	s.Source.SessionTimeout = 1500 * time.Millisecond
	s.Source.RebalanceTimeout = 4 * time.Second
	s.ShutdownTimeout = 10 * time.Second
}

// TestWorkersJoinAndLeaveWhileMessagesFlow starts, stops, freezes and thaws workers of one group at random, over a store
// that is slow and fails at random.
func TestWorkersJoinAndLeaveWhileMessagesFlow(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			parallelWorld(t, 4, func(w *world) { churn(w, seed, source.ProtocolClassic) })
		})
	}
	for seed := range uint64(2) {
		t.Run(fmt.Sprintf("KIP-848, seed %d", seed), func(t *testing.T) {
			parallelWorld(t, 4, func(w *world) { churn(w, seed, source.ProtocolConsumer) }, kfake.BrokerConfigs(map[string]string{
				"group.consumer.session.timeout.ms": "1500", "group.consumer.heartbeat.interval.ms": "150",
			}))
		})
	}
}

func churn(w *world, seed uint64, protocol string) {
	rnd := rand.New(rand.NewPCG(seed, 7))
	var live, frozen []*member
	start := func() {
		m := w.join(soon, func(s *setup) {
			s.Flush.Interval = time.Duration(20+rnd.IntN(400)) * time.Millisecond
			s.Source.RebalanceTimeout = time.Duration(1+rnd.IntN(4)) * time.Second
			s.Source.GroupProtocol = protocol
		})
		m.store.SetPlan(unreliable(rand.New(rand.NewPCG(seed, rnd.Uint64()))))
		live = append(live, m)
	}
	take := func(from *[]*member) *member {
		i := rnd.IntN(len(*from))
		m := (*from)[i]
		*from = append((*from)[:i], (*from)[i+1:]...)
		return m
	}
	start()
	for range 16 {
		for range rnd.IntN(4) {
			w.produce(int32(rnd.IntN(4)), 1+rnd.IntN(30))
		}
		time.Sleep(time.Duration(rnd.IntN(700)) * time.Millisecond)
		switch n := rnd.IntN(10); {
		case len(live) == 0 || n < 4 && len(live) < 4:
			start()
		case n < 6:
			take(&live).leave()
		case n < 8 && len(frozen) < 2:
			m := take(&live)
			m.freeze()
			frozen = append(frozen, m)
		case len(frozen) > 0:
			m := take(&frozen)
			m.thaw()
			live = append(live, m)
		}
		for _, m := range live {
			m.running()
		}
	}
	if len(live) == 0 {
		start()
	}
	w.landed()
	for _, m := range frozen {
		m.thaw()
	}
	w.produce(0, 1)
	w.landed()
	for _, m := range append(live, frozen...) {
		m.leave()
	}
	w.exactlyOnce()
}

// unreliable is a store that is slow to commit, fails now and then, and loses an answer now and then.
func unreliable(rnd *rand.Rand) faultstore.Plan {
	return func(op faultstore.Op) faultstore.Action { // asked by one caller at a time
		switch n := rnd.IntN(100); {
		case n < 3:
			return faultstore.Fail(nil)
		case n < 6:
			return faultstore.LandThenFail(nil)
		case op.Method == faultstore.MethodPutIfAbsent:
			return faultstore.Delay(time.Duration(rnd.IntN(300)) * time.Millisecond)
		}
		return faultstore.Pass()
	}
}

func isPut(op faultstore.Op) bool { return op.Method == faultstore.MethodPutIfAbsent }

// TestZombieIsFenced holds one worker's commit back until another has taken its partitions over and committed.
func TestZombieIsFenced(t *testing.T) {
	cases := map[string]func(*member){ // what becomes of the zombie's commits
		"its put was not sent yet":      func(m *member) { m.puts.Shut() },
		"its put is still on its way":   func(m *member) { m.store.SetPlan(faultstore.When(isPut, faultstore.FailThenLand(nil))) },
		"its put fails for a long time": func(m *member) { m.store.SetPlan(faultstore.When(isPut, faultstore.Fail(nil))) },
	}
	for name, block := range cases {
		t.Run(name, func(t *testing.T) {
			parallelWorld(t, 2, func(w *world) {
				zombie := w.join(soon)
				w.produceAll(2, 5)
				w.landed()
				block(zombie)
				w.produceAll(2, 20)
				before := w.version()
				w.eventually("the zombie is committing", func() bool {
					ops := zombie.store.Ops()
					for _, op := range ops {
						if isPut(op) && strings.HasSuffix(op.Name, fmt.Sprintf("%d.json", before+1)) {
							return true
						}
					}
					return false
				})
				zombie.gate.Shut()
				other := w.join(soon)
				w.landed() // the other has taken over: the zombie cannot have
				zombie.store.LandPostponed()
				zombie.store.SetPlan(nil)
				zombie.thaw()
				w.produceAll(2, 5)
				w.landed()
				w.eventually("the zombie has dropped its flush", func() bool {
					return strings.Contains(w.logs.String(), "a flush is dropped") || strings.Contains(w.logs.String(), "before their messages could be committed")
				})
				zombie.leave() // both may have read the same once more, where the zombie learns of its loss last
				other.leave()
				w.exactlyOnce()
			})
		})
	}
}

// TestPutOfADeadWorkerLandsLate lets the last commit of a worker that died arrive after its successor has joined.
func TestPutOfADeadWorkerLandsLate(t *testing.T) {
	parallelWorld(t, 1, func(w *world) {
		first := w.join(soon)
		w.produce(0, 5)
		w.landed()
		first.store.SetPlan(faultstore.When(isPut, faultstore.FailThenLand(nil)))
		w.produce(0, 5)
		w.eventually("its put is on its way", func() bool {
			ops := first.store.Ops()
			return ops[len(ops)-1].Outcome == faultstore.Postponed
		})
		first.freeze()
		second := w.join(soon)
		w.eventually("the successor has read the table", func() bool { return second.Ready() == nil })
		first.store.LandPostponed()
		w.produce(0, 5)
		w.landed()
		second.stop()
		w.exactlyOnce()
		first.thaw()
		first.leave()
		w.exactlyOnce()
	})
}

func TestPartitionsAddedAtRunTimeAreReadFromTheirBeginning(t *testing.T) {
	scenario(t, 2, func(w *world) {
		w.produceAll(2, 5)
		k := w.start(func(s *setup) { s.Source.Start = "latest" })
		w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
		clear(w.want) // what was there before the first start is not read
		w.produceAll(2, 5)
		w.landed()
		_, err := w.kafka.Admin().CreatePartitions(w.t.Context(), 2, topic)
		w.check(err)
		w.client = w.kafka.Client() // one that knows of them
		w.produceAll(4, 7)
		w.landed()
		k.stop()
		w.produceAll(4, 1)
		w.untilEnd()
		w.exactlyOnce()
	})
}

func TestRevokedPartitionsAreCommittedBeforeTheyAreGivenAway(t *testing.T) {
	parallelWorld(t, 4, func(w *world) {
		lazy := func(s *setup) { soon(s); s.Flush.Interval = time.Hour }
		a := w.join(lazy)
		w.eventually("the worker is ready", func() bool { return a.Ready() == nil })
		w.produceAll(4, 10)
		w.eventually("the messages are taken", func() bool { return a.Progress().Messages == 40 })
		b := w.join(lazy)
		w.eventually("both have partitions", func() bool { return b.Ready() == nil && strings.Contains(w.logs.String(), "partitions revoked") })
		a.stop()
		b.stop()
		w.exactlyOnce()
		if a.Progress().Rows != 40 {
			t.Errorf("the first worker committed %d rows, want all 40: the second had to read again what was revoked", a.Progress().Rows)
		}
	})
}

func TestRevocationThatCannotCommitInTimeDropsAndLosesNothing(t *testing.T) {
	parallelWorld(t, 4, func(w *world) {
		a := w.join(soon)
		w.produceAll(4, 10)
		w.landed()
		a.store.Down(nil)
		w.produceAll(4, 10)
		b := w.join(soon)
		w.eventually("the other has partitions", func() bool { return b.Ready() == nil })
		a.store.Up()
		w.landed()
		a.leave()
		b.leave()
		w.exactlyOnce()
	})
}

// waiting is a decoder that has no answer yet for messages of some partitions.
type waiting struct {
	pipeline.Decoder
	those *atomic.Pointer[func(partition int32) bool]
}

type later struct{ error }

func (later) RetryLater() time.Duration { return 20 * time.Millisecond }

func (d waiting) Append(r *kgo.Record) error {
	if (*d.those.Load())(r.Partition) {
		return later{errors.New("the registry does not answer")}
	}
	return d.Decoder.Append(r)
}

// TestLaneThatWaitsLetsGoOfWhatWasGivenAway: a lane whose decoder waits for something outside is freed by a revocation, also if
// the answer for that partition never comes. One of the two partitions is given away; the lane waits with a message of each in turn.
func TestLaneThatWaitsLetsGoOfWhatWasGivenAway(t *testing.T) {
	for first := range int32(2) {
		t.Run(fmt.Sprint("partition ", first), func(t *testing.T) {
			parallelWorld(t, 2, func(w *world) {
				var stuck atomic.Pointer[func(int32) bool]
				all := func(int32) bool { return true }
				stuck.Store(&all)
				a := w.join(soon, func(s *setup) {
					s.Lanes = 1
					s.NewDecoder = func(l *sink.Layout) (pipeline.Decoder, *compute.Plan, error) {
						d, made, err := newDecoder(l)
						return waiting{d, &stuck}, made, err
					}
				})
				w.eventually("the worker is ready", func() bool { return a.assigned() == 2 })
				w.produce(first, 10)
				time.Sleep(200 * time.Millisecond) // its lane waits
				w.produce(1-first, 10)
				b := w.join(soon)
				w.eventually("the other has committed what it was given", func() bool { return b.Progress().Rows >= 10 })
				given := int32(0)
				if w.txn(1) >= 9 {
					given = 1
				}
				gone := func(id int32) bool { return id == given }
				stuck.Store(&gone)
				w.landed()
				a.leave()
				b.leave()
				w.exactlyOnce()
			})
		})
	}
}

// TestFencedAgainAndAgainWhileMessagesFlow has another writer touch an offset, to the value that it has, while the store is
// slow: what is polled before a partition was sought again must not count.
func TestFencedAgainAndAgainWhileMessagesFlow(t *testing.T) {
	scenario(t, 2, func(w *world) {
		k := w.start(func(s *setup) { s.Flush.Interval = 150 * time.Millisecond })
		w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
		w.store.SetPlan(faultstore.When(func(op faultstore.Op) bool { return op.Method != faultstore.MethodWrite }, faultstore.Delay(40*time.Millisecond)))
		for round := range 150 {
			w.produceAll(2, 3)
			time.Sleep(30 * time.Millisecond)
			if round%7 == 0 {
				id := int32(round % 2)
				line := fmt.Sprintf(`{"txn":{"appId":"%s-%d","version":%d}}`, stream, id, w.txn(id))
				w.check(w.memory.PutIfAbsent(w.t.Context(), logName(w.version()+1), []byte(line))) // time stands still meanwhile
			}
		}
		w.landed()
		k.stop()
		w.exactlyOnce()
		if n := strings.Count(w.logs.String(), "a flush is dropped"); n < 5 {
			t.Errorf("%d flushes were dropped: the test no longer does what it says", n)
		}
	})
}

// TestRevocationThatALaneCannotFollow has a file that does not close for longer than a revocation may take, while the
// next epoch fills. The partitions come back before the file is closed: what was taken of them before must not count.
func TestRevocationThatALaneCannotFollow(t *testing.T) {
	const partitions = 2 // so few that a lane's queue has room for what comes after
	away := map[string]func(w *world, a *member, quick func(*setup)){
		"another worker has them meanwhile": func(w *world, a *member, quick func(*setup)) {
			b := w.join(quick)
			w.eventually("the other has committed what it was given", func() bool { return b.Progress().Rows >= 20 })
			w.produceAll(partitions, 5) // so that its end is not where the first worker's messages end
			w.eventually("the other has committed more", func() bool { return b.Progress().Rows >= 25 })
			b.leave()
		},
		"nobody has them meanwhile": func(w *world, a *member, _ func(*setup)) {
			a.gate.Shut()
			time.Sleep(3 * time.Second) // longer than the session lasts
			a.gate.Open()
			w.eventually("the worker has lost its partitions", func() bool { return a.assigned() == 0 })
		},
	}
	for name, happens := range away {
		t.Run(name, func(t *testing.T) {
			parallelWorld(t, partitions, func(w *world) {
				quick := func(s *setup) { soon(s); s.Source.RebalanceTimeout = time.Second }
				a := w.join(quick)
				w.eventually("the worker is ready", func() bool { return a.Ready() == nil })
				closes := w.kafka.Gate()
				t.Cleanup(closes.Open)
				var hangs atomic.Bool
				a.store.SetHook(func(op faultstore.Op) {
					a.hold.Wait()
					if op.Method == faultstore.MethodClose {
						hangs.Store(true)
						closes.Wait()
					}
				})
				closes.Shut()
				w.produceAll(partitions, 10)
				w.eventually("a file is being closed", hangs.Load)
				w.produceAll(partitions, 10)
				w.eventually("the messages are taken", func() bool { return a.Progress().Messages == 20*partitions })
				happens(w, a, quick)
				w.eventually("the worker has them back", func() bool { return a.assigned() == partitions })
				w.produceAll(partitions, 5)
				time.Sleep(time.Second)
				closes.Open()
				w.landed()
				w.produceAll(partitions, 5)
				w.landed()
				a.running()
				a.leave()
				w.exactlyOnce()
				if strings.Contains(w.logs.String(), "are offered, but") {
					t.Error("a lane has met messages that were dropped before")
				}
			})
		})
	}
}

// assigned is the number of partitions that the worker owns.
func (m *member) assigned() int {
	m.w.t.Helper()
	return int(m.metric("kafkadelta_assigned_partitions"))
}
