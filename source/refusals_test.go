package source_test

import (
	"context"
	"errors"
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
	"kafkadelta/source"
	"kafkadelta/source/auth"
)

// TestARefusalThatOnlyFetchesMeet has the password end under a running client, and then its connection for fetches. The
// group and all other requests go on over connections that stand; the client itself says nothing.
func TestARefusalThatOnlyFetchesMeet(t *testing.T) {
	t.Setenv("TEST_PASSWORD", "right")
	f := start(t, 1, kfake.EnableSASL(), kfake.Superuser("PLAIN", "user", "right"))
	var ended, dropped atomic.Bool
	f.cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(r kmsg.Request) (kmsg.Response, error, bool) {
		f.cluster.KeepControl()
		if !ended.Load() {
			return nil, nil, false
		}
		resp := r.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
		return resp, nil, true
	})
	f.cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		f.cluster.KeepControl()
		if ended.Load() && dropped.CompareAndSwap(false, true) {
			return nil, errors.New("the connection is cut"), true
		}
		return nil, nil, false
	})
	c := f.config("topic")
	c.SASL = auth.SASLConfig{Mechanism: "plain", Username: "user", PasswordEnv: "TEST_PASSWORD"}
	s := open(t, c, map[checkpoint.Partition]int64{{Topic: "topic", ID: 0}: 0})
	s.Start()
	options, err := auth.Options(c.TLS, c.SASL, nil)
	if err != nil {
		t.Fatal(err)
	}
	producer, err := kgo.NewClient(append(options, kgo.SeedBrokers(c.Brokers...))...)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	kafkatest.ProduceTo(t, producer, []*kgo.Record{{Topic: "topic"}, {Topic: "topic"}})
	offsets(t, s, 2)
	ended.Store(true)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // the pipeline polls for a second at most
		fetches := s.Poll(ctx, source.PollRecords)
		cancel()
		for _, e := range fetches.Errors() {
			final, judged := source.Judge(e.Topic, e.Partition, e.Err)
			if final && errors.Is(judged, kerr.SaslAuthenticationFailed) && strings.Contains(judged.Error(), "check source.sasl") {
				return
			}
		}
	}
	t.Error("no poll has told of it")
}
