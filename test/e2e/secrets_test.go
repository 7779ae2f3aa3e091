package e2e

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/checkpoint"
	"kafkadelta/internal/kafkatest"
	"kafkadelta/source"
	"kafkadelta/source/auth"
)

// TestSecretsChangeUnderAClient rewrites each kind of file under one client that makes a new connection for each request:
// what is right then counts, and what is in the middle of being written does not.
func TestSecretsChangeUnderAClient(t *testing.T) {
	kafka := realKafka(t)
	createTopic(t, kafka.brokers(), "secrets", 1)
	other, err := newAuthority("another authority")
	if err != nil {
		t.Fatal(err)
	}
	tomorrow := time.Now().Add(24 * time.Hour)
	ca := kafka.ca.file(t)
	for name, tt := range map[string]struct {
		listener
		config              func(c *source.Config, file string)
		right, wrong, again string
		half                string
	}{
		"client certificate": {
			mutualListener, func(c *source.Config, file string) { c.TLS.CertFile, c.TLS.KeyFile = file, file },
			string(kafka.ca.pair(t, tomorrow)), string(other.pair(t, tomorrow)), string(kafka.ca.pair(t, tomorrow)), "-----BEGIN PRIVATE KEY-----\nMIG",
		},
		"authorities": {
			tlsListener, func(c *source.Config, file string) { c.TLS.CAFile = file },
			string(kafka.ca.pem()), string(other.pem()), string(other.pem()) + string(kafka.ca.pem()), "-----BEGIN CERT",
		},
		"password, scram": {
			secureListener, func(c *source.Config, file string) {
				c.SASL = auth.SASLConfig{Mechanism: "scram-sha-512", Username: brokerUser, PasswordFile: file}
			},
			brokerPassword, "wrong", brokerPassword + "\n", "",
		},
		"token": {
			bearerListener, func(c *source.Config, file string) {
				c.SASL = auth.SASLConfig{Mechanism: "oauthbearer", TokenFile: file}
			},
			kafka.issuer.token(tomorrow), kafka.issuer.token(time.Now().Add(-time.Minute)), kafka.issuer.token(tomorrow), "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := secret(t, tt.right)
			c := source.DefaultConfig()
			c.Brokers, c.Topic = []string{kafka.endpoints[tt.listener]}, "secrets"
			c.TLS = auth.TLSConfig{Enabled: true, CAFile: ca}
			tt.config(&c, file)
			if err := c.Validate(); err != nil {
				t.Fatal(err)
			}
			var stale atomic.Int32
			conns := &connections{}
			s, err := source.New(c, "secrets", source.Callbacks{
				Joined: func() {}, Revoked: func(context.Context, []checkpoint.Partition) {}, Lost: func([]checkpoint.Partition) {},
				Stale: func(error) { stale.Add(1) },
			}, kgo.WithHooks(conns))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close(t.Context())
			for _, step := range []struct {
				name, content string
				good          bool
				stale         bool
			}{
				{"at first", tt.right, true, false}, {"wrong", tt.wrong, false, false}, {"again", tt.again, true, false}, {"half", tt.half, true, true},
			} {
				if err := os.WriteFile(file, []byte(step.content), 0o600); err != nil {
					t.Fatal(err)
				}
				conns.cut()
				stale.Store(0)
				_, err := s.EndOffsets(t.Context())
				if (err == nil) != step.good || (stale.Load() > 0) != step.stale {
					t.Errorf("%s: the answer is %v, with %d warnings", step.name, err, stale.Load())
				}
				var final *source.Error
				if err != nil && (!errors.As(err, &final) || final.Hint == "") {
					t.Errorf("%s: %v is not final, or has no hint", step.name, err)
				}
			}
		})
	}
}

// TestTokenChangesUnderAConnector has a token end under a connector, whose file another one was written to before.
func TestTokenChangesUnderAConnector(t *testing.T) {
	kafka := realKafka(t)
	const topic = "token-changes"
	createTopic(t, kafka.brokers(), topic, 1)
	end := time.Now().Add(6 * time.Second)
	a := access{listener: bearerListener, tls: true, caFile: kafka.ca.file(t), mechanism: "oauthbearer", token: kafka.issuer.token(end)}
	lines := a.source(t)
	_, file, _ := strings.Cut(lines, "token_file: ")
	s := stream{
		name: "e2e-token-changes", topic: topic, brokers: []string{kafka.endpoints[a.listener]}, table: filepath.Join(t.TempDir(), "table"),
		schema: numberSchema, source: lines,
	}
	p := run(t, s.write(t))
	sent := 0
	send := func() {
		kafkatest.Produce(t, kafka.brokers(), topic, 1, [][]byte{number(sent)})
		sent++
	}
	send()
	p.waitFor("partitions", 20*time.Second, func(l logLine) bool { return l.msg() == "partitions assigned" })
	if err := os.WriteFile(strings.TrimSpace(file), []byte(kafka.issuer.token(end.Add(time.Hour))), 0o600); err != nil {
		t.Fatal(err)
	}
	for ; time.Now().Before(end.Add(2 * time.Second)); time.Sleep(100 * time.Millisecond) { // past the end of the first token
		send()
	}
	for deadline := time.Now().Add(30 * time.Second); readLog(t, s.table, s.name).rows < int64(sent); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the table has %d rows of %d; the log: %s", readLog(t, s.table, s.name).rows, sent, p.tail(10))
		}
	}
	p.signal(stopSignal)
	p.wantExit(exitOK, 20*time.Second)
	assigned := false
	for _, l := range p.log() {
		if assigned = assigned || l.msg() == "partitions assigned"; assigned && l.fields["level"] == "WARN" {
			t.Errorf("a warning: %v", l.fields)
		}
	}
}

// connections are all that a client has made.
type connections struct {
	mu   sync.Mutex
	made []net.Conn
}

func (c *connections) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, conn net.Conn, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.made = append(c.made, conn)
	}
}

func (c *connections) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.made {
		_ = conn.Close()
	}
	c.made = nil
}
