package source

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/source/auth"
)

// refusals has polls tell of connections that TLS or SASL prevents. The client says so where a request of ours or of the
// group fails by it. Where only its fetches do, after a broker was restarted for example, it goes on trying in silence.
type refusals struct {
	mu   sync.Mutex
	last error
	wake context.CancelFunc // ends the poll that waits; nil for none
}

var _ kgo.HookBrokerConnect = (*refusals)(nil)

// OnBrokerConnect is called by the client for each connection that it has made, authentication included, or has not.
func (r *refusals) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err == nil || auth.Explain(err) == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = err
	if r.wake != nil {
		r.wake()
	}
}

// during polls, and adds what was refused meanwhile or since the poll before.
func (r *refusals) during(ctx context.Context, poll func(context.Context) kgo.Fetches) kgo.Fetches {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.mu.Lock()
	r.wake = cancel
	if r.last != nil {
		cancel() // what is there already is still taken
	}
	r.mu.Unlock()
	fetches := poll(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wake = nil
	if r.last == nil {
		return fetches
	}
	refused := kgo.NewErrFetch(r.last)
	r.last = nil
	return append(fetches, refused...)
}
