package pipeline_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkadelta/pipeline"
	"kafkadelta/source"
	"kafkadelta/storage/faultstore"
)

const deadTopic = "letters"

func toTopic(s *setup) { s.OnError, s.DeadLetterTopic = pipeline.OnErrorDeadLetter, deadTopic }

// sent reads the dead letters' topic: how often each message is in it, and its headers.
func (w *world) sent() (times map[place]int, headers map[place]map[string]string) {
	w.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(w.kafka.ListenAddrs()...), w.kafka.Dialer(), kgo.ConsumeTopics(deadTopic))
	w.check(err)
	defer client.Close()
	times, headers = map[place]int{}, map[place]map[string]string{}
	for {
		ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
		fetches := client.PollFetches(ctx)
		cancel()
		if fetches.NumRecords() == 0 {
			return times, headers
		}
		fetches.EachRecord(func(r *kgo.Record) {
			h := map[string]string{"value": string(r.Value), "key": string(r.Key)}
			for _, x := range r.Headers {
				h[x.Key] = string(x.Value)
			}
			partition, err1 := strconv.Atoi(h["kafkadelta.partition"])
			offset, err2 := strconv.ParseInt(h["kafkadelta.offset"], 10, 64)
			w.check(errors.Join(err1, err2))
			at := place{int32(partition), offset}
			times[at]++
			headers[at] = h
		})
	}
}

func TestDeadLettersToATopic(t *testing.T) {
	scenarioOf(t, 2, func(w *world) {
		m := newMorgue(w)
		m.poison(0, 3)
		w.produceAll(2, 5)
		m.poison(1, 2)
		w.untilEnd(toTopic)
		w.exactlyOnce()
		times, headers := w.sent()
		for at, reason := range m.bad {
			h := headers[at]
			if times[at] != 1 || h["kafkadelta.reason"] != reason || h["kafkadelta.connector"] != stream || h["kafkadelta.error"] == "" || h["kafkadelta.topic"] != topic ||
				!strings.HasPrefix(h["key"], "key ") || h["trace"] == "" || h["value"] == "" {
				t.Errorf("the message at %v was sent %d times, as %v", at, times[at], h)
			}
			for _, name := range []string{"timestamp", "time", "generation"} {
				if h["kafkadelta."+name] == "" {
					t.Errorf("the message at %v has no header for its %s: %v", at, name, h)
				}
			}
			if path, ok := h["kafkadelta.field_path"]; reason == "rejected_by_table" && path != "n" || reason != "rejected_by_table" && ok {
				t.Errorf("the message at %v is bad for %s at %q", at, reason, path)
			}
		}
		if len(times) != len(m.bad) {
			t.Errorf("%d messages were sent, want %d", len(times), len(m.bad))
		}
	}, kfake.SeedTopics(1, deadTopic))
}

// TestDeadLettersAreSentBeforeTheCommit: when the version is put that passes over them, the brokers have them.
func TestDeadLettersAreSentBeforeTheCommit(t *testing.T) {
	scenarioOf(t, 1, func(w *world) {
		m := newMorgue(w)
		sent := 0
		w.store.SetHook(func(op faultstore.Op) {
			if op.Method == faultstore.MethodPutIfAbsent && strings.HasSuffix(op.Name, "2.json") { // the first one with rows
				times, _ := w.sent()
				sent = len(times)
			}
		})
		m.poison(0, 4)
		w.produce(0, 2)
		w.untilEnd(toTopic)
		w.exactlyOnce()
		if sent != 4 {
			t.Errorf("%d dead letters had been sent when their offsets were committed, want 4", sent)
		}
	}, kfake.SeedTopics(1, deadTopic))
}

// TestBrokersThatRefuseDeadLetters: what passes is waited for, and read again; what only an operator can mend ends the run.
func TestBrokersThatRefuseDeadLetters(t *testing.T) {
	for name, tt := range map[string]struct {
		code  int16
		final string
	}{
		"for a while": {kerr.NotEnoughReplicas.Code, ""},
		"for good":    {kerr.TopicAuthorizationFailed.Code, "grant the user WRITE"},
	} {
		t.Run(name, func(t *testing.T) {
			scenarioOf(t, 1, func(w *world) {
				m := newMorgue(w)
				m.poison(0, 3)
				w.produce(0, 2)
				var refused atomic.Int32
				w.kafka.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
					w.kafka.KeepControl()
					if refused.Add(1) > 3 {
						return nil, nil, false
					}
					req := r.(*kmsg.ProduceRequest)
					resp := req.ResponseKind().(*kmsg.ProduceResponse)
					for _, t := range req.Topics {
						rt := kmsg.NewProduceResponseTopic()
						rt.Topic, rt.TopicID = t.Topic, t.TopicID
						for _, p := range t.Partitions {
							rp := kmsg.NewProduceResponseTopicPartition()
							rp.Partition, rp.ErrorCode = p.Partition, tt.code
							rt.Partitions = append(rt.Partitions, rp)
						}
						resp.Topics = append(resp.Topics, rt)
					}
					return resp, nil, true
				})
				k := w.start(func(s *setup) { toTopic(s); s.UntilEnd = true })
				err := k.wait()
				if tt.final != "" {
					if !errors.As(err, new(*source.Error)) || !strings.Contains(err.Error(), tt.final) {
						t.Fatalf("the run ended with %v", err)
					}
					refused.Store(100)
					w.untilEnd(toTopic)
				} else {
					w.check(err)
				}
				w.exactlyOnce()
				if times, _ := w.sent(); len(times) != 3 {
					t.Errorf("%d dead letters were sent, want 3", len(times))
				}
			}, kfake.SeedTopics(1, deadTopic))
		})
	}
}

// TestDeadLetterTopicThatIsNotThere is refused by the start, also where no message is bad. One that is deleted later ends the run at the first dead letter.
func TestDeadLetterTopicThatIsNotThere(t *testing.T) {
	refused := func(w *world, err error, want string) {
		t.Helper()
		if !errors.As(err, new(*source.Error)) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "source.topic") {
			t.Errorf("the run ended with %v", err)
		}
	}
	scenario(t, 1, func(w *world) {
		w.produce(0, 1)
		refused(w, w.start(toTopic).wait(), "dead_letters.topic: producing to topic letters: UNKNOWN_TOPIC_OR_PARTITION")
	})
	scenario(t, 1, func(w *world) {
		w.kafka.ControlKey(int16(kmsg.Metadata), func(r kmsg.Request) (kmsg.Response, error, bool) {
			w.kafka.KeepControl()
			req := r.(*kmsg.MetadataRequest)
			if len(req.Topics) != 1 || req.Topics[0].Topic == nil || *req.Topics[0].Topic != deadTopic {
				return nil, nil, false
			}
			resp := req.ResponseKind().(*kmsg.MetadataResponse)
			rt := kmsg.NewMetadataResponseTopic()
			rt.Topic, rt.ErrorCode = req.Topics[0].Topic, kerr.TopicAuthorizationFailed.Code
			resp.Topics = append(resp.Topics, rt)
			return resp, nil, true
		})
		refused(w, w.start(toTopic).wait(), "grant the user WRITE and DESCRIBE")
	})
	scenarioOf(t, 1, func(w *world) {
		k := w.start(toTopic)
		w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
		admin := w.kafka.Admin()
		_, err := admin.DeleteTopics(w.t.Context(), deadTopic)
		w.check(err)
		m := newMorgue(w)
		m.poison(0, 1)
		w.produce(0, 1)
		refused(w, k.wait(), "create the topic")
		if w.txn(0) != -1 {
			t.Errorf("the table stands at offset %d", w.txn(0))
		}
	}, kfake.SeedTopics(1, deadTopic))
	scenarioOf(t, 1, func(w *world) { // a Kafka that is down at the start is waited for
		gate := w.kafka.Gate()
		gate.Shut()
		k := w.start(toTopic, func(s *setup) { s.ClientOptions = []kgo.Opt{gate.Dialer()} })
		time.Sleep(time.Minute)
		k.running()
		gate.Open()
		newMorgue(w).poison(0, 1)
		w.produce(0, 1)
		w.landed()
		k.stop()
		if times, _ := w.sent(); len(times) != 1 {
			t.Errorf("%d dead letters were sent, want 1", len(times))
		}
	}, kfake.SeedTopics(1, deadTopic))
}
