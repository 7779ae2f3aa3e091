package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"time"
)

// Limits of a connection. What moves may take as long as it needs; what stands still is ended.
const (
	dialTime   = 10 * time.Second
	tlsTime    = 10 * time.Second
	answerTime = 20 * time.Second // from the end of a request to its answer's header
	stillTime  = 30 * time.Second // without one byte in either direction, also while it is kept for the next request
	idleConns  = 64               // to one host
)

// transport is http.DefaultTransport with these limits. It takes the proxy from the environment.
func transport(roots *x509.CertPool) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTime, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return guard(conn, stillTime), nil
		},
		TLSClientConfig:       &tls.Config{RootCAs: roots},
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          0, // no limit over all hosts: there is one
		MaxIdleConnsPerHost:   idleConns,
		IdleConnTimeout:       stillTime - 5*time.Second,
		TLSHandshakeTimeout:   tlsTime,
		ResponseHeaderTimeout: answerTime,
		ExpectContinueTimeout: time.Second,
	}
}

// guarded closes a connection on which nothing moves: a server or a network that went away in the middle of a body would
// otherwise hold a reader or a writer for ever.
type guarded struct {
	net.Conn
	limit time.Duration
	timer *time.Timer
}

func guard(conn net.Conn, limit time.Duration) net.Conn {
	return &guarded{Conn: conn, limit: limit, timer: time.AfterFunc(limit, func() { _ = conn.Close() })}
}

// Read implements net.Conn.
func (g *guarded) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	g.moved(n)
	return n, err
}

// Write implements net.Conn.
func (g *guarded) Write(p []byte) (int, error) {
	n, err := g.Conn.Write(p)
	g.moved(n)
	return n, err
}

// moved starts the limit anew. A timer that fired already has closed the connection; starting it again closes it again.
func (g *guarded) moved(n int) {
	if n > 0 {
		g.timer.Reset(g.limit)
	}
}

// Close implements net.Conn.
func (g *guarded) Close() error {
	g.timer.Stop()
	return g.Conn.Close()
}
