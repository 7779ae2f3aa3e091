package pipeline_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkadelta/checkpoint"
	"kafkadelta/internal/kafkatest"
	"kafkadelta/pipeline"
	"kafkadelta/source"
	"kafkadelta/storage/faultstore"
)

func goOn(s *setup) { s.Options.Source.OnDataLoss = source.OnDataLossContinue }

// refused waits for the worker's end, which must be a refusal with a remedy that has all of the words.
func (k *worker) refused(words ...string) {
	k.w.t.Helper()
	err := k.wait()
	refused, ok := errors.AsType[*checkpoint.RefusedError](err)
	if !ok || refused.Remedy == "" {
		k.w.t.Fatalf("the run ended with %v, want a *checkpoint.RefusedError with a remedy", err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			k.w.t.Errorf("the refusal %q does not say %q", err, word)
		}
	}
}

// metric is the sum of a counter or a gauge over its labels.
func (k *worker) metric(name string) (sum float64) {
	k.w.t.Helper()
	families, err := k.Gatherer().Gather()
	k.w.check(err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// setTxn has another writer set a txn, and moveTxn that of a partition.
func (w *world) setTxn(appID string, version int64) {
	w.t.Helper()
	w.foreign(fmt.Sprintf(`{"txn":{"appId":%q,"version":%d}}`, appID, version))
}

func (w *world) moveTxn(partition int32, last int64) {
	w.t.Helper()
	w.setTxn(checkpoint.AppID(stream, partition), last)
}

// spans are those of a partition in the whole log, pins left out.
func (w *world) spans(partition int32) []checkpoint.Span {
	w.t.Helper()
	var spans []checkpoint.Span
	for v := range w.version() + 1 {
		for _, u := range w.units(v) {
			for _, s := range u.Spans {
				if s.ID == partition && !u.Pin {
					spans = append(spans, s)
				}
			}
		}
	}
	return spans
}

// wantLost compares how many offsets the spans of each partition count as lost.
func (w *world) wantLost(want ...int64) {
	w.t.Helper()
	for id := range want {
		var lost int64
		for _, s := range w.spans(int32(id)) {
			lost += s.Lost
		}
		if lost != want[id] {
			w.t.Errorf("partition %d: %d offsets are counted as lost, want %d", id, lost, want[id])
		}
	}
}

// lose has Kafka delete the messages of a partition before an offset, and returns how many of them were wanted.
func (w *world) lose(partition int32, before int64) (n int64) {
	w.t.Helper()
	w.check(w.kafka.DeleteRecords(topic, partition, before))
	for at := range w.want {
		if at.partition == partition && at.offset < before {
			n++
			delete(w.want, at)
		}
	}
	return n
}

func TestMessagesLostToRetentionEndTheRun(t *testing.T) {
	scenario(t, 1, func(w *world) {
		w.produce(0, 5)
		w.untilEnd()
		w.produce(0, 10)
		w.check(w.kafka.DeleteRecords(topic, 0, 9))
		begun := time.Now()
		w.start().refused(topic+"[0]", "offsets 5 to 8 (4)", "on_data_loss: continue", "retention")
		if took := time.Since(begun); took < 30*time.Second {
			t.Errorf("it was refused after %v: a leader must be asked for 30 s", took)
		}
		if got := w.txn(0); got != 4 {
			t.Errorf("the table stands at offset %d, want 4", got)
		}
	})
}

// TestLostMessagesAreCounted: under continue the offsets that are gone are in a span, whether or not messages follow them, and the
// other partitions flow on.
func TestLostMessagesAreCounted(t *testing.T) {
	scenario(t, 3, func(w *world) {
		w.produceAll(3, 5)
		w.untilEnd()
		rows := map[place]int64{}
		maps.Copy(rows, w.want) // in the table already
		w.produceAll(3, 10)
		w.lose(0, 9)
		w.lose(1, 15) // nothing is left
		maps.Copy(w.want, rows)
		k := w.start(goOn)
		w.eventually("partition 2 flows on", func() bool { return w.txn(2) == 14 })
		if got := w.txn(0); got != 4 {
			t.Errorf("partition 0 stands at %d before the leader has been heard for long enough, want 4", got)
		}
		w.eventually("the losses are committed", func() bool { return w.txn(0) == 14 && w.txn(1) == 14 })
		w.produceAll(3, 2)
		w.landed()
		k.stop()
		w.wantLost(4, 10, 0)
		if got := k.metric("kafkadelta_lost_offsets_total"); got != 14 {
			t.Errorf("the metric tells %v lost offsets, want 14", got)
		}
		w.exactlyOnce()
	})
}

// TestALossThatIsDroppedIsCountedOnce has another writer fence the partition while its loss waits to be committed.
func TestALossThatIsDroppedIsCountedOnce(t *testing.T) {
	scenario(t, 1, func(w *world) {
		w.produce(0, 5)
		w.untilEnd()
		w.produce(0, 10)
		w.check(w.kafka.DeleteRecords(topic, 0, 9))
		k := w.start(goOn, func(s *setup) { s.Flush.Interval = 10 * time.Minute })
		w.eventually("the loss is found", func() bool { return strings.Contains(w.logs.String(), "as source.on_data_loss says") })
		w.moveTxn(0, 4)
		w.eventually("it is found again", func() bool { return strings.Count(w.logs.String(), "as source.on_data_loss says") == 2 })
		w.eventually("it is committed", func() bool { return w.txn(0) == 14 })
		k.stop()
		if spans := w.spans(0); len(spans) != 2 || spans[1].Lost != 4 || spans[1].Rows != 6 {
			t.Errorf("the spans are %+v, want 4 lost and 6 rows in the second", spans)
		}
		if got := k.metric("kafkadelta_lost_offsets_total"); got != 4 {
			t.Errorf("the metric tells %v lost offsets, want 4", got)
		}
	})
}

// TestALossBehindAStoppingMessage: a message that a rule rejects under on_error: fail stops its partition, also where it is still held when retention has taken what
// comes behind it. Nothing of that is counted: the next run finds the loss again.
func TestALossBehindAStoppingMessage(t *testing.T) {
	scenario(t, 1, func(w *world) {
		w.produce(0, 1)
		at := w.produceRaw(0, `{"n": null, "text": "no number"}`)
		gate := w.kafka.Gate()
		k := w.start(goOn, func(s *setup) {
			s.ClientOptions = []kgo.Opt{gate.Dialer()}
			s.OnError, s.Flush.Interval = pipeline.OnErrorFail, 10*time.Minute
		})
		w.eventually("both messages are held", func() bool { return k.metric("kafkadelta_messages_total") == 2 })
		gate.Shut()
		time.Sleep(2 * time.Second) // no fetch waits for messages any more
		w.produce(0, 10)
		w.lose(0, at+7)
		w.want[place{0, 0}] = 1
		gate.Open()
		if _, ok := errors.AsType[*pipeline.PoisonError](k.wait()); !ok || !strings.Contains(k.err.Error(), fmt.Sprintf("offset %d", at)) {
			t.Fatalf("the run ended with %v, want a *PoisonError of offset %d", k.err, at)
		}
		if spans := w.spans(0); len(spans) != 1 || spans[0].Next != at || spans[0].Records != 1 || spans[0].Rows != 1 || spans[0].Gaps() != 0 || spans[0].Lost != 0 {
			t.Errorf("the spans are %+v, want the one message before offset %d", spans, at)
		}
		if got := k.metric("kafkadelta_lost_offsets_total"); got != 0 {
			t.Errorf("the metric tells %v lost offsets, want none", got)
		}
		w.untilEnd(goOn, skip)
		w.wantLost(7) // with the message itself
		w.exactlyOnce()
	})
}

// TestMessagesOfAnAddedPartitionAreLost has retention remove the first messages of a partition that was added while no worker ran: no worker
// has ever claimed it, and they are lost all the same.
func TestMessagesOfAnAddedPartitionAreLost(t *testing.T) {
	added := func(w *world) {
		w.produce(0, 5)
		w.untilEnd()
		_, err := w.kafka.Admin().CreatePartitions(w.t.Context(), 2, topic)
		w.check(err)
		w.client = w.kafka.Client() // one that knows of them
		w.produce(1, 5)
		w.produce(2, 4)
		w.lose(1, 3)
		w.lose(2, 4) // nothing is left
	}
	t.Run("fail", func(t *testing.T) {
		scenario(t, 1, func(w *world) {
			added(w)
			w.start().refused(topic+"[", "offsets 0 to ", "on_data_loss: continue", "=earliest")
		})
	})
	t.Run("continue", func(t *testing.T) {
		scenario(t, 1, func(w *world) {
			added(w)
			k := w.start(goOn)
			w.eventually("the losses are committed", func() bool { return len(w.spans(1)) > 0 && len(w.spans(2)) > 0 })
			w.produceAll(3, 2)
			w.landed()
			k.stop()
			w.wantLost(0, 3, 4)
			w.exactlyOnce()
		})
	})
}

// outOfRange has brokers say of the partitions, of all if none are named, that the offset that is asked for is out of range.
func outOfRange(w *world, until func() bool, partitions ...int32) {
	w.kafka.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		if until() {
			return nil, nil, false
		}
		w.kafka.KeepControl()
		r := req.(*kmsg.FetchRequest)
		resp := r.ResponseKind().(*kmsg.FetchResponse)
		some := false
		for _, t := range r.Topics {
			rt := kmsg.NewFetchResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				if len(partitions) > 0 && !slices.Contains(partitions, p.Partition) {
					continue
				}
				rp := kmsg.NewFetchResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, kerr.OffsetOutOfRange.Code
				rt.Partitions = append(rt.Partitions, rp)
				some = true
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, some
	})
}

// TestFalseAlarms has brokers say for a while, or the wrong ones for ever, that an offset is out of range. Nothing is refused, lost
// or doubled.
func TestFalseAlarms(t *testing.T) {
	wrongEnds := func(w *world, failing, until func() bool) {
		w.kafka.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
			if until() {
				return nil, nil, false
			}
			w.kafka.KeepControl()
			r := req.(*kmsg.ListOffsetsRequest)
			resp := r.ResponseKind().(*kmsg.ListOffsetsResponse)
			for _, t := range r.Topics {
				rt := kmsg.NewListOffsetsResponseTopic()
				rt.Topic = t.Topic
				for _, p := range t.Partitions {
					rp := kmsg.NewListOffsetsResponseTopicPartition()
					rp.Partition, rp.Offset, rp.LeaderEpoch = p.Partition, 3, 0 // a log that is behind
					if failing() {
						rp.ErrorCode = kerr.NotLeaderForPartition.Code
					}
					rt.Partitions = append(rt.Partitions, rp)
				}
				resp.Topics = append(resp.Topics, rt)
			}
			return resp, nil, true
		})
	}
	// staleTopic denies that there is the topic for 20 seconds, once the worker has found it.
	staleTopic := func(w *world) {
		refused := time.Time{}
		outOfRange(w, func() bool {
			if refused.IsZero() {
				refused = time.Now()
			}
			return time.Since(refused) > time.Minute
		})
		w.kafka.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
			w.kafka.KeepControl()
			if refused.IsZero() || time.Since(refused) > 20*time.Second {
				return nil, nil, false
			}
			resp := req.(*kmsg.MetadataRequest).ResponseKind().(*kmsg.MetadataResponse)
			cluster := "stale"
			resp.ClusterID = &cluster
			b := kmsg.NewMetadataResponseBroker()
			b.Host, b.Port = "127.0.0.1", 9092
			resp.Brokers = append(resp.Brokers, b)
			mt := kmsg.NewMetadataResponseTopic()
			mt.Topic, mt.ErrorCode = new(topic), kerr.UnknownTopicOrPartition.Code
			resp.Topics = append(resp.Topics, mt)
			return resp, nil, true
		})
	}
	for name, disturb := range map[string]func(w *world){
		"the topic is unknown for 20 seconds": func(w *world) {
			staleTopic(w)
		},
		"fetches are refused for two minutes, the leader has the offsets": func(w *world) {
			end := time.Now().Add(2 * time.Minute)
			outOfRange(w, func() bool { return time.Now().After(end) })
		},
		"a new leader is behind for 20 seconds": func(w *world) {
			end := time.Now().Add(20 * time.Second)
			outOfRange(w, func() bool { return time.Now().After(end) })
			wrongEnds(w, func() bool { return false }, func() bool { return time.Now().After(end) })
		},
		"the leader can't be asked for 40 seconds, and is behind for 20 more": func(w *world) {
			failing, end := time.Now().Add(40*time.Second), time.Now().Add(time.Minute)
			outOfRange(w, func() bool { return time.Now().After(end) })
			wrongEnds(w, func() bool { return time.Now().Before(failing) }, func() bool { return time.Now().After(end) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			scenarioOf(t, 2, func(w *world) {
				w.produceAll(2, 5)
				w.untilEnd()
				w.produceAll(2, 5)
				disturb(w)
				k := w.start()
				w.landed()
				k.running()
				k.stop()
				if !strings.Contains(w.logs.String(), "after all") {
					t.Error("the leader was not asked")
				}
				w.exactlyOnce()
			}, kfake.ClusterID("stale"))
		})
	}
}

func TestTableBeyondTheEndOfTheLogIsRefused(t *testing.T) {
	scenario(t, 1, func(w *world) {
		w.produce(0, 5)
		w.untilEnd()
		w.moveTxn(0, 99)
		w.start(goOn).refused(topic+"[0]", "up to offset 99", "ends at 4", "connector rewind")
	})
}

// TestControlRecordsAreCommittedAloneAfterAWhile has retention remove the marker of a transaction that was aborted: had the table's
// offset stayed before it, that would look like a loss.
func TestControlRecordsAreCommittedAloneAfterAWhile(t *testing.T) {
	scenario(t, 1, func(w *world) {
		w.produce(0, 3)
		w.untilEnd()
		producer := w.kafka.Client(kgo.TransactionalID("tx"))
		w.check(producer.BeginTransaction())
		kafkatest.ProduceTo(w.t, producer, []*kgo.Record{w.message(0), w.message(0)})
		w.check(producer.EndTransaction(w.t.Context(), kgo.TryAbort))
		k := w.start()
		time.Sleep(9 * time.Minute)
		if got := w.txn(0); got != 2 {
			t.Errorf("after 9 minutes the table stands at offset %d: the marker has made a version", got)
		}
		time.Sleep(2 * time.Minute)
		if got := w.txn(0); got != 5 {
			t.Errorf("after 11 minutes the table stands at offset %d, want 5", got)
		}
		versions := w.version()
		time.Sleep(30 * time.Minute)
		if got := w.version(); got != versions {
			t.Errorf("an idle worker has made %d versions", got-versions)
		}
		k.stop()
		w.check(w.kafka.DeleteRecords(topic, 0, 6))
		w.untilEnd()
		w.exactlyOnce()
	})
}

// epochEnd makes the brokers answer with an end of the asked leader epoch, from now on.
func (w *world) epochEnd(end int64) *atomic.Int64 {
	asked := &atomic.Int64{}
	w.epochs(func() bool { asked.Add(1); return true }, func(epoch int32, p *kmsg.OffsetForLeaderEpochResponseTopicPartition) {
		p.LeaderEpoch, p.EndOffset = epoch, end
	})
	return asked
}

// epochs answers the questions for leader epochs instead of the brokers, those that it takes.
func (w *world) epochs(takes func() bool, answer func(epoch int32, p *kmsg.OffsetForLeaderEpochResponseTopicPartition)) {
	w.kafka.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.kafka.KeepControl()
		if !takes() {
			return nil, nil, false
		}
		r := req.(*kmsg.OffsetForLeaderEpochRequest)
		resp := r.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		for _, t := range r.Topics {
			rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
				rp.Partition = p.Partition
				answer(p.LeaderEpoch, &rp)
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
}

// elect moves a partition to another broker, which raises its leader epoch.
func (w *world) elect(partition int32) {
	w.t.Helper()
	w.check(w.kafka.MoveTopicPartition(topic, partition, (w.kafka.LeaderFor(topic, partition)+1)%3))
}

func electionWorld(t *testing.T, f func(w *world)) {
	t.Helper()
	scenarioOf(t, 1, f, kfake.NumBrokers(3), kfake.Ports(9092, 9093, 9094))
}

// leader is the leader epoch that the table holds of partition 0, and how many versions have written it.
func (w *world) leader() (epoch int64, written int) {
	w.t.Helper()
	epoch = -1
	for v := range w.version() + 1 {
		for _, l := range w.logLines(v) {
			if l.Txn != nil && l.Txn.AppID == checkpoint.LeaderAppID(stream, 0) {
				epoch = l.Txn.Version
				written++
			}
		}
	}
	return epoch, written
}

func TestLeaderEpochsAreKeptOnChange(t *testing.T) {
	electionWorld(t, func(w *world) {
		k := w.start()
		w.produce(0, 5)
		w.landed()
		first, _ := w.leader()
		for range 3 {
			w.produce(0, 5)
			w.landed()
		}
		if epoch, written := w.leader(); epoch != first || first < 0 || written != 1 {
			t.Errorf("after four commits under one leader its epoch %d is written %d times as %d", first, written, epoch)
		}
		w.elect(0)
		w.produce(0, 5)
		w.landed()
		if epoch, written := w.leader(); epoch <= first || written != 2 {
			t.Errorf("after an election the epoch is %d, written %d times; it was %d", epoch, written, first)
		}
		k.stop()
		w.untilEnd()
		w.exactlyOnce()
	})
}

// TestLogThatWasCutBackIsRefused: brokers that know the epoch of the last row no further than before it have given its offset to
// another message, or will.
func TestLogThatWasCutBackIsRefused(t *testing.T) {
	words := []string{topic + "[0]", "unclean leader election", "up to offset 4", "from offset 3 on", "connector rewind --to-offsets 0=3`"}
	t.Run("at the start", func(t *testing.T) {
		electionWorld(t, func(w *world) {
			w.produce(0, 5)
			w.untilEnd()
			w.elect(0)
			w.produce(0, 5)
			w.epochEnd(3)
			w.start(goOn).refused(words...)
			if got := w.txn(0); got != 4 {
				t.Errorf("the table stands at offset %d, want 4", got)
			}
		})
	})
	t.Run("under a running worker", func(t *testing.T) {
		electionWorld(t, func(w *world) {
			k := w.start()
			w.produce(0, 5)
			w.landed()
			w.epochEnd(3)
			w.elect(0)
			w.produce(0, 5)
			k.refused(words...)
			if got := w.txn(0); got != 4 {
				t.Errorf("the table stands at offset %d, want 4", got)
			}
		})
	})
	t.Run("a log of earlier epochs", func(t *testing.T) { // of a backup: the brokers know nothing of the later epoch
		electionWorld(t, func(w *world) {
			w.produce(0, 5)
			w.untilEnd()
			w.setTxn(checkpoint.LeaderAppID(stream, 0), 77)
			w.produce(0, 5)
			w.start(goOn).refused(topic+"[0]", "leader epoch 77", "can't tell")
		})
	})
}

// TestElectionIsNoAlarm: a new leader that has all is read on from, also where the table's epoch is none or that of a record behind.
func TestElectionIsNoAlarm(t *testing.T) {
	electionWorld(t, func(w *world) {
		k := w.start()
		for range 4 {
			w.produce(0, 5)
			w.landed()
			w.elect(0)
		}
		w.landed()
		k.stop()
		w.setTxn(checkpoint.LeaderAppID(stream, 0), -1)
		w.produce(0, 5)
		w.untilEnd()
		w.exactlyOnce()
	})
}

// TestADoubtOutlivesAClaim has a log cut back by an election, and the claim of the partition read again before its leader is believed, or while it is doubted: the run
// ends all the same (rule K4). Its next commit would write the new epoch, and nobody could tell any more.
func TestADoubtOutlivesAClaim(t *testing.T) {
	refused := func(w *world, k *worker) {
		w.t.Helper()
		time.Sleep(25 * time.Second)
		w.produce(0, 5)
		k.refused(topic+"[0]", "unclean leader election", "from offset 3 on")
		if w.txn(0) != 4 {
			w.t.Errorf("the table has taken offsets up to %d", w.txn(0))
		}
	}
	touch := fmt.Sprintf(`{"txn":{"appId":"%s-0","version":4}}`, stream)
	t.Run("claimed while the leader is doubted", func(t *testing.T) {
		electionWorld(t, func(w *world) {
			w.produce(0, 5)
			k := w.start()
			w.landed()
			time.Sleep(20 * time.Second)
			w.epochEnd(3)
			w.elect(0)
			w.eventually("doubt", func() bool { return strings.Contains(w.logs.String(), "asking its leader") })
			w.foreign(touch)
			refused(w, k)
		})
	})
	t.Run("cut while it is claimed", func(t *testing.T) {
		electionWorld(t, func(w *world) {
			w.produce(0, 5)
			k := w.start()
			w.landed()
			time.Sleep(20 * time.Second)
			var slow atomic.Bool
			w.store.SetHook(func(op faultstore.Op) {
				if slow.Load() && op.Method == faultstore.MethodGet {
					time.Sleep(5 * time.Second)
				}
			})
			slow.Store(true)
			w.foreign(touch)
			w.eventually("fence", func() bool { return strings.Contains(w.logs.String(), "has moved a partition") })
			w.epochEnd(3)
			w.elect(0)
			time.Sleep(20 * time.Second)
			slow.Store(false)
			refused(w, k)
		})
	})
}

// TestRewindWhileThePositionLoads: the client asks the leader whether it has the epoch of a position before it reads from there, and passes over any other one that
// it is given meanwhile. A rewind that a worker hears of then is read from its offset all the same (rule A5), also where no message comes by which that is noticed.
func TestRewindWhileThePositionLoads(t *testing.T) {
	for name, more := range map[string]int{"messages come behind": 5, "none come": 0} {
		t.Run(name, func(t *testing.T) {
			scenario(t, 1, func(w *world) {
				w.produce(0, 20)
				k := w.start()
				w.landed()
				k.stop()
				var holding atomic.Bool
				holding.Store(true)
				w.epochs(holding.Load, func(_ int32, p *kmsg.OffsetForLeaderEpochResponseTopicPartition) {
					p.ErrorCode = kerr.NotLeaderForPartition.Code
				})
				k = w.start()
				w.eventually("assigned", func() bool { return strings.Count(w.logs.String(), "partitions assigned") == 2 })
				time.Sleep(time.Second)
				w.foreign(fmt.Sprintf(`{"txn":{"appId":"%s#gen","version":1}}`, stream), fmt.Sprintf(`{"txn":{"appId":"%s-0","version":9}}`, stream),
					fmt.Sprintf(`{"txn":{"appId":%q,"version":-1}}`, checkpoint.LeaderAppID(stream, 0)))
				w.produce(0, more)
				time.Sleep(40 * time.Second)
				holding.Store(false)
				last := int64(20 + more - 1)
				w.eventually("all is there", func() bool { return w.txn(0) == last })
				k.stop()
				rows := w.rows()
				for o := range last + 1 {
					want := 1
					if o >= 10 && o < 20 { // in either generation
						want = 2
					}
					if n := len(rows[place{0, o}]); n != want {
						t.Errorf("offset %d: %d rows, want %d", o, n, want)
					}
				}
			})
		})
	}
}
