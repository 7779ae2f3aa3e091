package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// authority signs its own certificate and others.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	a := authority{}
	cert, key := a.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return authority{cert, key}
}

func (a authority) sign(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if a.key == nil {
		a = authority{template, key}
	}
	template.SerialNumber, template.NotBefore = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func (a authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

// pair is a certificate with its key, as PEM.
func (a authority) pair(t *testing.T, name string) (cert, key string) {
	t.Helper()
	c, k := a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// server is a listener that asks for client certificates, and answers each connection with the name in it.
type server struct {
	net.Listener
	own atomic.Pointer[tls.Certificate]
}

func startServer(t *testing.T, a authority, newest uint16) *server {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	s := &server{}
	s.serve(t, a)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: tls.VersionTLS12, MaxVersion: newest,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.own.Load(), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Listener = l
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c := conn.(*tls.Conn)
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			if err := c.HandshakeContext(t.Context()); err == nil {
				_, _ = c.Write([]byte(c.ConnectionState().PeerCertificates[0].Subject.CommonName))
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return s
}

// serve has the server prove itself with a certificate of this authority from now on.
func (s *server) serve(t *testing.T, a authority) {
	t.Helper()
	cert, key := a.pair(t, "localhost")
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	s.own.Store(&pair)
}

// ask connects and returns the name that the server has seen.
func ask(t *testing.T, d *dialer, s *server) (string, error) {
	t.Helper()
	conn, err := d.dial(t.Context(), "tcp", s.Addr().String())
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	b := make([]byte, 100)
	n, err := conn.Read(b)
	if n > 0 {
		err = nil
	}
	return string(b[:n]), err
}

// TestCertificatesChange has client certificate and authorities replaced between two connections of one dialer.
func TestCertificatesChange(t *testing.T) {
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			a, other := newAuthority(t, "one"), newAuthority(t, "other")
			s := startServer(t, a, version)
			cert, key := a.pair(t, "first")
			c := TLSConfig{Enabled: true, CAFile: write(t, a.pem()), CertFile: write(t, cert), KeyFile: write(t, key)}
			var stale []string
			d := newDialer(c, func(err error) { stale = append(stale, err.Error()) })
			if err := d.check(); err != nil {
				t.Fatal(err)
			}
			want := func(name string) {
				t.Helper()
				if got, err := ask(t, d, s); got != name || err != nil {
					t.Errorf("the server has seen %q, %v, want %s", got, err, name)
				}
			}
			want("first")
			cert, key = a.pair(t, "second")
			rewrite(t, c.CertFile, cert) // the key does not fit yet
			want("first")
			if len(stale) != 1 || !strings.Contains(stale[0], "source.tls.cert_file") {
				t.Errorf("the warnings are %q", stale)
			}
			rewrite(t, c.KeyFile, key)
			want("second")

			s.serve(t, other)
			_, err := ask(t, d, s)
			wantError(t, err, true, "unknown authority")
			rewrite(t, c.CAFile, "-----BEGIN")
			_, err = ask(t, d, s)
			wantError(t, err, true, "unknown authority")
			rewrite(t, c.CAFile, other.pem())
			want("second")

			strange, key := other.pair(t, "stranger")
			rewrite(t, c.CertFile, strange)
			rewrite(t, c.KeyFile, key)
			_, err = ask(t, d, s)
			wantError(t, err, true, "the broker answered")
			if e := Explain(err); !strings.Contains(e.Hint, "CN=stranger") || errors.As(err, new(*net.OpError)) {
				t.Errorf("the hint is %q, of %#v", e.Hint, err)
			}
			_, err = ask(t, newDialer(TLSConfig{Enabled: true, CAFile: c.CAFile}, nil), s)
			wantError(t, err, true, "the broker answered")
			if e := Explain(err); !strings.Contains(e.Hint, "set source.tls.cert_file") {
				t.Errorf("the hint is %q", e.Hint)
			}
			_, err = ask(t, newDialer(TLSConfig{Enabled: true, CAFile: c.CAFile, ServerName: "elsewhere"}, nil), s)
			wantError(t, err, true, "elsewhere")
		})
	}
}

func TestCertificateFilesThatAreWrong(t *testing.T) {
	a := newAuthority(t, "one")
	cert, key := a.pair(t, "client")
	_, otherKey := a.pair(t, "client")
	for name, c := range map[string]TLSConfig{
		"source.tls.ca_file, missing":   {Enabled: true, CAFile: "/no/such/file"},
		"source.tls.cert_file, missing": {Enabled: true, CertFile: "/no/such/file", KeyFile: write(t, key)},
		"source.tls.key_file, another":  {Enabled: true, CertFile: write(t, cert), KeyFile: write(t, otherKey)},
		"source.tls.cert_file, no PEM":  {Enabled: true, CertFile: write(t, "hello"), KeyFile: write(t, key)},
		"source.tls.key_file, swapped":  {Enabled: true, CertFile: write(t, key), KeyFile: write(t, cert)},
	} {
		place, _, _ := strings.Cut(name, ",")
		if _, err := Options(c, SASLConfig{}, nil); err == nil || !strings.Contains(err.Error(), place) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTLSWhereThereIsNone tells a Kafka without TLS from something that hangs up.
func TestTLSWhereThereIsNone(t *testing.T) {
	for answers, final := range map[bool]bool{true: true, false: false} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				request := make([]byte, 10_000)
				_, _ = conn.Read(request)
				if answers && request[0] == 0 { // a length, and no TLS record
					_, _ = conn.Write(append([]byte{0, 0, 0, 8}, request[8:16]...))
				}
				_ = conn.Close()
			}
		}()
		_, err = newDialer(TLSConfig{Enabled: true}, nil).dial(t.Context(), "tcp", l.Addr().String())
		if final {
			wantError(t, err, true, "answers without")
		} else if err == nil || Explain(err) != nil {
			t.Errorf("what hangs up may be going down, but it is %v", err)
		}
		_ = l.Close()
		<-done
	}
}

// TestPasswordsAreReadForEachConnection holds for each mechanism with a password, and keeps a connection string as it is.
func TestPasswordsAreReadForEachConnection(t *testing.T) {
	const connection = "Endpoint=sb://example.servicebus.windows.net/;SharedAccessKeyName=listen;SharedAccessKey=aGVsbG8="
	file := write(t, "one")
	m, err := newMechanism(SASLConfig{Mechanism: plainPassword, Username: "$ConnectionString", PasswordFile: file}, func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]string{"two\n": "two", connection + "\r\n": connection} {
		rewrite(t, file, content)
		if got, err := first(t, m, broker); err != nil || got != "\x00$ConnectionString\x00"+want {
			t.Errorf("%q, %v is sent", got, err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := first(t, m, broker); err != nil {
		t.Errorf("with the file gone: %v", err)
	}
}
