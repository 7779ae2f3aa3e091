package pipeline_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkadelta/checkpoint"
	"kafkadelta/internal/kafkatest"
	"kafkadelta/sink"
)

// removeTable removes every object of the table, as rm -r does.
func (w *world) removeTable() {
	w.t.Helper()
	var names []string
	for info, err := range w.memory.List(w.t.Context(), "", "") {
		w.check(err)
		names = append(names, info.Name)
	}
	for _, name := range names {
		w.check(w.memory.Delete(w.t.Context(), name))
	}
}

func TestTableThatVanishesEndsTheRun(t *testing.T) {
	for name, busy := range map[string]bool{"idle": false, "busy": true} {
		t.Run(name, func(t *testing.T) {
			scenario(t, 1, func(w *world) {
				w.produce(0, 5)
				k := w.start()
				w.landed()
				w.removeTable()
				ended := time.After(2 * time.Minute)
				for running := true; running; {
					select {
					case <-k.done:
						running = false
					case <-ended:
						t.Fatal("the worker goes on without its table")
					case <-time.After(3 * time.Second):
						if busy {
							w.produce(0, 1)
						}
					}
				}
				var e *sink.Error
				if err := k.wait(); !errors.As(err, &e) || !strings.Contains(e.Hint, "removed, moved, or is not mounted") {
					t.Errorf("the run ended with %v, want a *sink.Error that says what to do", err)
				}
			})
		})
	}
}

func TestTableThatVanishedBeforeTheStartIsRefused(t *testing.T) {
	scenario(t, 2, func(w *world) {
		w.produceAll(2, 5)
		w.untilEnd()
		w.removeTable()
		w.start().refused("the consumer group has reported offsets", "check table.uri", "kafka-consumer-groups.sh --delete")
		for info, err := range w.memory.List(w.t.Context(), "", "") {
			w.check(err)
			t.Errorf("%s was made: it is in the way of whoever brings the table back", info.Name)
		}
		w.start(func(s *setup) { s.Options.Source.Group = "another" }).stop() // is how to begin a new table
	})
}

// TestTwoTopicsUnderOneName has two streams with one name on one table, on different topics: whoever comes second is refused, and the
// first is not disturbed.
func TestTwoTopicsUnderOneName(t *testing.T) {
	other := func(s *setup) { s.Options.Source.Topic = "other" }
	scenario(t, 1, func(w *world) {
		w.check(w.kafka.CreateTopic("other", 1, nil))
		w.produce(0, 5)
		k := w.start()
		w.landed()
		w.start(other).refused(`stream "events"`, "another stream has the same name", "another `name`")
		w.produce(0, 5)
		w.landed()
		k.running()
		k.stop()
		w.start(other).refused("another stream has the same name")
		w.exactlyOnce()
	})
	t.Run("at once on a new table", func(t *testing.T) {
		scenario(t, 1, func(w *world) {
			w.check(w.kafka.CreateTopic("other", 1, nil))
			a, b := w.start(), w.start(other)
			time.Sleep(5 * time.Minute)
			ended := 0
			for _, k := range []*worker{a, b} {
				select {
				case <-k.done:
					ended++
					k.refused("another stream has the same name")
				default:
				}
			}
			if ended != 1 {
				t.Errorf("%d of two workers were refused, want one", ended)
			}
		})
	})
}

func TestAnotherClusterBehindTheSameName(t *testing.T) {
	scenario(t, 1, func(w *world) {
		w.produce(0, 5)
		w.untilEnd()
		kafka := kafkatest.StartVirtual(w.t, topic, 1, kfake.ClusterID("elsewhere"))
		w.kafka = kafka
		w.start().refused("in cluster elsewhere", "made anew")
	})
	t.Run("under a running worker", func(t *testing.T) {
		scenario(t, 1, func(w *world) {
			there := kafkatest.StartVirtual(w.t, topic, 1, kfake.ClusterID("elsewhere"))
			kafkatest.ProduceTo(w.t, there.Client(), []*kgo.Record{w.message(0)})
			var moved atomic.Bool
			s := switchboard{from: w.kafka, to: there, moved: &moved}
			k := w.start(func(o *setup) { o.ClientOptions = []kgo.Opt{kgo.Dialer(s.dial)} })
			w.produce(0, 5)
			w.landed()
			moved.Store(true)
			k.refused("in cluster elsewhere")
			w.exactlyOnce()
		})
	})
}

// switchboard connects to one cluster, and then to another at the same address.
type switchboard struct {
	from, to *kafkatest.Virtual
	moved    *atomic.Bool
}

func (s switchboard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	there := s.moved.Load()
	v := s.from
	if there {
		v = s.to
	}
	conn, err := v.Dial(ctx, network, address)
	return switched{conn, s.moved, there}, err
}

// switched fails once the address belongs to the other cluster.
type switched struct {
	net.Conn
	moved *atomic.Bool
	there bool
}

func (c switched) Write(p []byte) (int, error) {
	if !c.there && c.moved.Load() {
		return 0, errors.New("connection reset")
	}
	return c.Conn.Write(p)
}

// TestFewerPartitionsThanPinned: a broker that is out of date is no reason to end, but one that says so for 30 s is.
func TestFewerPartitionsThanPinned(t *testing.T) {
	fewer := func(w *world, until time.Time) {
		w.kafka.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
			if time.Now().After(until) {
				return nil, nil, false
			}
			w.kafka.KeepControl()
			info := w.kafka.TopicInfo(topic)
			r := req.(*kmsg.MetadataRequest)
			resp := r.ResponseKind().(*kmsg.MetadataResponse)
			cluster := "elected"
			resp.ClusterID = &cluster
			b := kmsg.NewMetadataResponseBroker()
			b.Host, b.Port = "127.0.0.1", 9092
			resp.Brokers = append(resp.Brokers, b)
			mt := kmsg.NewMetadataResponseTopic()
			mt.Topic, mt.TopicID = new(topic), info.TopicID
			for id := range int32(2) {
				p := kmsg.NewMetadataResponseTopicPartition()
				p.Partition, p.Replicas, p.ISR = id, []int32{0}, []int32{0}
				mt.Partitions = append(mt.Partitions, p)
			}
			resp.Topics = append(resp.Topics, mt)
			return resp, nil, true
		})
	}
	for name, lasts := range map[string]time.Duration{"for ever": time.Hour, "for 20 seconds": 20 * time.Second} {
		t.Run(name, func(t *testing.T) {
			scenarioOf(t, 3, func(w *world) {
				w.produceAll(3, 5)
				w.untilEnd()
				w.produceAll(3, 5)
				fewer(w, time.Now().Add(lasts))
				k := w.start()
				if lasts == time.Hour {
					k.refused("has 2 partitions, but 3", "made anew")
					return
				}
				w.landed()
				k.stop()
				w.exactlyOnce()
			}, kfake.ClusterID("elected"))
		})
	}
}

// TestRewindToANewTopicUnderARunningWorker: a worker whose own topic is still there takes nothing of it as that of the new one (rule K5).
func TestRewindToANewTopicUnderARunningWorker(t *testing.T) {
	scenario(t, 1, func(w *world) {
		w.produce(0, 5)
		k := w.start()
		w.landed()
		before := w.version()
		there, err := w.kafka.Admin().Metadata(w.t.Context(), topic)
		w.check(err)
		id := there.Topics[topic].ID
		former := checkpoint.Identity{ClusterID: there.Cluster, TopicID: base64.RawURLEncoding.EncodeToString(id[:])}
		w.foreign(fmt.Sprintf(`{"txn":{"appId":"%s#gen","version":1}}`, stream), fmt.Sprintf(`{"txn":{"appId":"%s-0","version":-1}}`, stream),
			fmt.Sprintf(`{"txn":{"appId":%q,"version":0}}`, checkpoint.IdentityAppID(stream, former)), fmt.Sprintf(`{"txn":{"appId":"%s#topic/elsewhere/another","version":1}}`, stream))
		w.produce(0, 5)
		k.refused("has led stream", "reads the former one", "start it again")
		if now := w.version(); now != before+1 {
			t.Errorf("the worker has made versions %d to %d after the rewind", before+2, now)
		}
	})
}
