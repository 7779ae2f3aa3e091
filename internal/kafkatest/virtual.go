package kafkatest

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Virtual is an in-process Kafka on a network in memory, for testing/synctest: nothing in it waits for the world outside
// of the bubble, so that the bubble's clock jumps over every timeout.
type Virtual struct {
	*kfake.Cluster
	t       testing.TB
	network kfake.VirtualNetwork
}

// StartVirtual runs a Kafka of one broker with one topic until the test ends. Call it inside of the bubble.
func StartVirtual(t testing.TB, topic string, partitions int32, opts ...kfake.Opt) *Virtual {
	t.Helper()
	v := &Virtual{t: t}
	v.Cluster = Start(t, topic, partitions, append([]kfake.Opt{kfake.Ports(9092), kfake.ListenFn(v.network.Listen)}, opts...)...)
	return v
}

// Dialer connects a client to the cluster.
func (v *Virtual) Dialer() kgo.Opt { return kgo.Dialer(v.network.DialContext) }

// Dial connects to the cluster.
func (v *Virtual) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return v.network.DialContext(ctx, network, address)
}

// Client returns a client that ends with the test.
func (v *Virtual) Client(opts ...kgo.Opt) *kgo.Client {
	v.t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(v.ListenAddrs()...), v.Dialer(), kgo.RecordPartitioner(kgo.ManualPartitioner()),
	}, opts...)...)
	if err != nil {
		v.t.Fatalf("making a client: %v", err)
	}
	v.t.Cleanup(client.Close)
	return client
}

// Admin returns an admin client that ends with the test.
func (v *Virtual) Admin() *kadm.Client {
	v.t.Helper()
	return kadm.NewClient(v.Client())
}

// Gate is a network connection of one client that a test can cut off, as a network partition or a stopped process does:
// what was sent stays unanswered, and nobody is told.
type Gate struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu   sync.Mutex
	open chan struct{} // closed while the gate is open
}

// Gate returns an open gate to the cluster.
func (v *Virtual) Gate() *Gate {
	open := make(chan struct{})
	close(open)
	return &Gate{dial: v.network.DialContext, open: open}
}

// Dialer connects a client through the gate.
func (g *Gate) Dialer() kgo.Opt {
	return kgo.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
		if err := g.wait(ctx.Done()); err != nil {
			return nil, err
		}
		conn, err := g.dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &gatedConn{Conn: conn, gate: g, closed: make(chan struct{})}, nil
	})
}

// Shut holds everything back until Open.
func (g *Gate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
		g.open = make(chan struct{})
	default:
	}
}

// Open lets everything pass again.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
	default:
		close(g.open)
	}
}

// Wait waits until the gate is open, for what a test puts behind the same gate.
func (g *Gate) Wait() { _ = g.wait(nil) }

func (g *Gate) wait(giveUp <-chan struct{}) error {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	select {
	case <-open:
		return nil
	case <-giveUp:
		return errors.New("the connection was given up while the gate was shut")
	}
}

type gatedConn struct {
	net.Conn
	gate   *Gate
	once   sync.Once
	closed chan struct{}
}

func (c *gatedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if shut := c.gate.wait(c.closed); shut != nil {
		return 0, shut
	}
	return n, err
}

func (c *gatedConn) Write(p []byte) (int, error) {
	if err := c.gate.wait(c.closed); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *gatedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// ProduceTo sends the records through the client to the partitions that they name, and waits until all are acknowledged.
// Afterwards each record carries its offset.
func ProduceTo(t testing.TB, client *kgo.Client, records []*kgo.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatalf("producing: %v", err)
	}
}
