package sim

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// cable is one process's network to Kafka. It can be frozen with its process, cut, or dead with it.
type cable struct {
	network *kfake.VirtualNetwork
	process *process

	mu    sync.Mutex
	cut   bool
	conns map[*conn]struct{}
}

var errCut = errors.New("no route to Kafka")

// dialer connects a client through the cable.
func (c *cable) dialer() kgo.Opt {
	return kgo.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
		if err := c.process.thawed(); err != nil {
			return nil, err
		}
		c.mu.Lock()
		cut := c.cut
		c.mu.Unlock()
		if cut {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-c.process.dead:
				return nil, errDead
			case <-time.After(10 * time.Second):
				return nil, errCut
			}
		}
		inner, err := c.network.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		open := &conn{Conn: inner, cable: c}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.conns[open] = struct{}{}
		return open, nil
	})
}

// lose cuts the network: what is sent goes nowhere, and nobody is told.
func (c *cable) lose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
	for open := range c.conns {
		open.lose()
	}
}

// heal lets new connections through. Those from before are reset.
func (c *cable) heal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		c.cut = false
		c.reset()
	}
}

// die ends every connection, as the system does for a process that is killed.
func (c *cable) die() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reset()
}

// reset closes every connection. The caller holds the lock.
func (c *cable) reset() {
	for open := range c.conns {
		_ = open.current().Close()
	}
	clear(c.conns)
}

// conn is a connection that can be swapped for one that leads nowhere.
type conn struct {
	net.Conn // the first one
	cable    *cable

	mu          sync.Mutex
	nowhere     net.Conn // instead, once the network is lost
	read, write time.Time
}

func (c *conn) current() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nowhere != nil {
		return c.nowhere
	}
	return c.Conn
}

func (c *conn) lose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nowhere != nil {
		return
	}
	c.nowhere, _ = net.Pipe()
	_, _ = c.nowhere.SetReadDeadline(c.read), c.nowhere.SetWriteDeadline(c.write)
	_ = c.Conn.Close() // whoever waits at it goes on to wait at the other
}

func (c *conn) Read(p []byte) (int, error) {
	return c.through(func(inner net.Conn) (int, error) { return inner.Read(p) })
}

func (c *conn) Write(p []byte) (int, error) {
	return c.through(func(inner net.Conn) (int, error) { return inner.Write(p) })
}

func (c *conn) through(do func(net.Conn) (int, error)) (int, error) {
	if err := c.cable.process.thawed(); err != nil {
		return 0, err
	}
	for {
		inner := c.current()
		n, err := do(inner)
		if err != nil && inner != c.current() {
			continue
		}
		if dead := c.cable.process.thawed(); dead != nil {
			return 0, dead
		}
		return n, err
	}
}

func (c *conn) Close() error {
	c.cable.mu.Lock()
	delete(c.cable.conns, c)
	c.cable.mu.Unlock()
	return c.current().Close()
}

func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.read = t
	c.mu.Unlock()
	return c.current().SetReadDeadline(t)
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	c.write = t
	c.mu.Unlock()
	return c.current().SetWriteDeadline(t)
}
