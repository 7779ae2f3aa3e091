package source_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/source"
)

// TestProducersHoldNoMoreThanTheyMay: while no broker answers, whoever sends waits once so many bytes, or so many records, wait.
func TestProducersHoldNoMoreThanTheyMay(t *testing.T) {
	for name, tc := range map[string]struct {
		bytes      int64
		size, want int
	}{
		"large records":  {8 << 20, 128 << 10, 64},
		"small records":  {8 << 20, 10, 8 << 10},
		"with no memory": {1, 512 << 10, 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := source.DefaultConfig()
				c.Brokers = []string{"down:9092"}
				down := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("down") }
				p, err := source.NewProducer(c, "letters", tc.bytes, kgo.Dialer(down))
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				value, sent := make([]byte, tc.size), 0
				for ; sent <= tc.want+1; sent++ {
					if p.Send(ctx, &kgo.Record{Value: value}, func(error) {}); ctx.Err() != nil {
						break
					}
				}
				if sent != tc.want {
					t.Errorf("%d records of %d bytes were taken, want %d", sent, tc.size, tc.want)
				}
			})
		})
	}
}
