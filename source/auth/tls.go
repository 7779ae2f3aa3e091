package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// dialLimit bounds the making of one connection, the TLS handshake included.
const dialLimit = 10 * time.Second

// dialer makes encrypted connections.
type dialer struct {
	cfg   TLSConfig
	roots *kept[*x509.CertPool]   // holds nil: the system's
	own   *kept[*tls.Certificate] // holds one without content: none
}

func newDialer(cfg TLSConfig, warn func(error)) *dialer {
	return &dialer{
		cfg:   cfg,
		roots: &kept[*x509.CertPool]{read: cfg.roots, warn: warn},
		own:   &kept[*tls.Certificate]{read: cfg.certificate, warn: warn},
	}
}

func (c TLSConfig) roots() (*x509.CertPool, error) {
	if c.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("reading source.tls.ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading source.tls.ca_file: %s holds no PEM certificate", c.CAFile)
	}
	return pool, nil
}

func (c TLSConfig) certificate() (*tls.Certificate, error) {
	if c.CertFile == "" {
		return &tls.Certificate{}, nil
	}
	cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("reading source.tls.cert_file and source.tls.key_file, PEM files of one certificate and its key without passphrase: %w", err)
	}
	return &cert, nil
}

// check reads the files.
func (d *dialer) check() error {
	_, err := d.roots.get()
	_, certErr := d.own.get()
	return errors.Join(err, certErr)
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	roots, err := d.roots.get()
	if err != nil {
		return nil, err
	}
	own, err := d.own.get()
	if err != nil {
		return nil, err
	}
	asked := &atomic.Bool{}
	conf := &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: d.cfg.ServerName,
		// The certificate is sent whatever authorities the broker names: one that it refuses is told by the broker.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked.Store(true)
			return own, nil
		},
	}
	refused := func(err error) error { return d.refused(err, own, asked.Load()) }
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{Timeout: dialLimit}, Config: conf}).DialContext(ctx, network, address)
	if errors.Is(err, io.EOF) && speaksPlain(ctx, network, address) {
		err = &Error{Err: errors.New("the broker hangs up on TLS and answers without"), Hint: noTLS, Final: true}
	}
	if err != nil {
		return nil, refused(err)
	}
	return &encrypted{conn, refused}, nil
}

// refused explains a broker's alert. The client would take it for a failure of the network, and go on trying.
func (d *dialer) refused(err error, own *tls.Certificate, asked bool) error {
	said := alert(err)
	if said == "" {
		return err
	}
	hint := "the broker ends the TLS handshake: check the port and source.tls"
	switch {
	case asked && own.Leaf != nil:
		hint = fmt.Sprintf("the broker refuses the client certificate of source.tls.cert_file (%s, issued by %s, valid until %s): renew it, or let the broker trust its authority",
			own.Leaf.Subject, own.Leaf.Issuer, own.Leaf.NotAfter.UTC().Format(time.RFC3339))
	case asked:
		hint = "the broker asks for a client certificate: set source.tls.cert_file and source.tls.key_file"
	}
	return &Error{Err: errors.New("the broker answered " + said), Hint: hint, Final: true}
}

// encrypted tells a refusal that comes behind the handshake: in TLS 1.3 the client is done with it before the broker has
// looked at its certificate.
type encrypted struct {
	net.Conn
	refused func(error) error
}

func (c *encrypted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		err = c.refused(err)
	}
	return n, err
}
