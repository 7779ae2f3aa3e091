package source

import (
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
}

// add puts what was refused since the poll before behind what a poll has brought.
func (r *refusals) add(fetches kgo.Fetches) kgo.Fetches {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last != nil {
		fetches = append(fetches, kgo.NewErrFetch(r.last)...)
		r.last = nil
	}
	return fetches
}
