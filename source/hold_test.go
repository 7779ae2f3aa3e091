package source_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkadelta/checkpoint"
	"kafkadelta/internal/kafkatest"
	"kafkadelta/source"
)

// TestManyBrokers: messages of a broker don't wait for others to which nothing comes, and what is asked of all brokers together is what may be held.
func TestManyBrokers(t *testing.T) {
	const brokers, held = 12, 1 << 30
	synctest.Test(t, func(t *testing.T) {
		var ports []int
		for i := range brokers {
			ports = append(ports, 9092+i)
		}
		kafka := kafkatest.StartVirtual(t, "t", brokers, kfake.NumBrokers(brokers), kfake.Ports(ports...))
		next := map[checkpoint.Partition]int64{}
		for p := range int32(brokers) {
			if err := kafka.MoveTopicPartition("t", p, p); err != nil {
				t.Fatal(err)
			}
			next[checkpoint.Partition{Topic: "t", ID: p}] = 0
		}
		var asked atomic.Int32
		kafka.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
			kafka.KeepControl()
			asked.Store(r.(*kmsg.FetchRequest).MaxBytes)
			return nil, nil, false
		})
		c := source.DefaultConfig()
		c.Brokers, c.Topic = kafka.ListenAddrs(), "t"
		s := open(t, c, next, kafka.Dialer())
		s.Start()
		producer := kafka.Client()
		for i := range 10 {
			kafkatest.ProduceTo(t, producer, []*kgo.Record{{Topic: "t", Value: []byte("x")}})
			begun := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			fetches := s.Poll(ctx, 10)
			cancel()
			if fetches.NumRecords() != 1 {
				t.Fatalf("a poll has %d messages: %v", fetches.NumRecords(), fetches.Errors())
			}
			if waited := time.Since(begun); i > 0 && waited > 100*time.Millisecond { // before the first is the group's assignment
				t.Errorf("message %d came after %v", i, waited)
			}
			time.Sleep(time.Duration(700+170*i) * time.Millisecond) // so that the brokers' long polls are at another stage each time
		}
		const guess = 256 // how much larger what is fetched may get, before anything worth mentioning was
		for _, tc := range []struct {
			held       int64
			partitions int
			want       int32
		}{{held, brokers, held / guess / brokers}, {held, 2, held / guess / 2}, {held, 0, held / guess}, {1 << 20, brokers, 1 << 20 / guess}} {
			s.Hold(tc.held, tc.partitions)
			time.Sleep(2 * time.Second) // nothing comes, and each broker is asked again
			if got := asked.Load(); got != tc.want {
				t.Errorf("of %d bytes for %d partitions, a broker is asked for %d, want %d", tc.held, tc.partitions, got, tc.want)
			}
		}
	})
}
