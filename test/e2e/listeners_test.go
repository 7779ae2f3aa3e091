package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"kafkadelta/internal/kafkatest"
)

// numbers are small messages {"n": 0}, {"n": 1}, ...
func number(i int) []byte { return fmt.Appendf(nil, `{"n":%d}`, i) }

func numbers(n int) [][]byte {
	lines := make([][]byte, n)
	for i := range lines {
		lines[i] = number(i)
	}
	return lines
}

const numberSchema = "n BIGINT"

const passwordEnv = "E2E_KAFKA_PASSWORD"

// access says how a connector reaches a listener.
type access struct {
	listener
	caFile    string
	tls       bool
	mechanism string
	password  string
	inFile    bool // the password is in a file, not in the environment
}

func (a access) source(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	if a.tls {
		b.WriteString("  tls:\n    enabled: true\n")
		if a.caFile != "" {
			fmt.Fprintf(&b, "    ca_file: %s\n", a.caFile)
		}
	}
	if a.mechanism != "" {
		fmt.Fprintf(&b, "  sasl:\n    mechanism: %s\n    username: %s\n", a.mechanism, brokerUser)
		if a.inFile {
			file := filepath.Join(t.TempDir(), "password")
			if err := os.WriteFile(file, []byte(a.password+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "    password_file: %s\n", file)
		} else {
			fmt.Fprintf(&b, "    password_env: %s\n", passwordEnv)
		}
	}
	return b.String()
}

// TestListeners reads a topic through every kind of listener of a real broker.
func TestListeners(t *testing.T) {
	kafka := realKafka(t)
	ca := kafka.ca.file(t)
	createTopic(t, kafka.brokers(), "listeners", 2)
	kafkatest.Produce(t, kafka.brokers(), "listeners", 2, numbers(100))
	for name, a := range map[string]access{
		"tls with own authority":     {listener: tlsListener, tls: true, caFile: ca},
		"plain":                      {listener: saslListener, mechanism: "plain", password: brokerPassword},
		"scram-sha-256":              {listener: saslListener, mechanism: "scram-sha-256", password: brokerPassword},
		"scram-sha-512":              {listener: saslListener, mechanism: "scram-sha-512", password: brokerPassword},
		"plain over tls":             {listener: secureListener, tls: true, caFile: ca, mechanism: "plain", password: brokerPassword},
		"scram-sha-512 over tls":     {listener: secureListener, tls: true, caFile: ca, mechanism: "scram-sha-512", password: brokerPassword},
		"scram-sha-256, from a file": {listener: saslListener, mechanism: "scram-sha-256", password: brokerPassword, inFile: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := stream{
				name: "e2e-" + strings.NewReplacer(" ", "-", ",", "").Replace(name), topic: "listeners", brokers: []string{kafka.endpoints[a.listener]},
				table: filepath.Join(t.TempDir(), "table"), schema: numberSchema, source: a.source(t),
			}
			p := startWith(t, []string{passwordEnv + "=" + a.password}, nil, runArgs(s.write(t), "--until-end")...)
			p.wantExit(exitOK, time.Minute)
			if log := readLog(t, s.table, s.name); log.rows != 100 {
				t.Errorf("the table has %d rows, expected 100", log.rows)
			}
			if a.password != "" && strings.Contains(p.stderr(), a.password) {
				t.Error("the log holds the password")
			}
		})
	}
}

// TestRefusedByKafka has mistakes end the process within seconds (where brokers just hang up, within half a minute), with the exit code of Kafka's side and a hint.
func TestRefusedByKafka(t *testing.T) {
	kafka := realKafka(t)
	ca := kafka.ca.file(t)
	other, err := newAuthority("another authority")
	if err != nil {
		t.Fatal(err)
	}
	createTopic(t, kafka.brokers(), "refused", 1)
	for name, tt := range map[string]struct {
		access
		topic string
		hint  string
	}{
		"wrong password, plain":         {access{listener: saslListener, mechanism: "plain", password: "wrong"}, "refused", "check source.sasl"},
		"wrong password, scram-sha-256": {access{listener: saslListener, mechanism: "scram-sha-256", password: "wrong"}, "refused", "check source.sasl"},
		"wrong password, scram-sha-512": {access{listener: secureListener, tls: true, caFile: ca, mechanism: "scram-sha-512", password: "wrong"}, "refused", "check source.sasl"},
		"no password":                   {access{listener: saslListener}, "refused", "source.sasl"},
		"wrong authority":               {access{listener: tlsListener, tls: true, caFile: other.file(t)}, "refused", "source.tls.ca_file"},
		"the system's authorities":      {access{listener: tlsListener, tls: true}, "refused", "source.tls.ca_file"},
		"plaintext to tls":              {access{listener: tlsListener}, "refused", "source.tls"},
		"tls to plaintext":              {access{listener: clearListener, tls: true, caFile: ca}, "refused", "source.tls"},
		"unknown topic":                 {access{listener: clearListener}, "no-such-topic", "source.topic"},
		"topic name that cannot be":     {access{listener: clearListener}, "no such topic", "source.topic"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := stream{
				name: "e2e-refused", topic: tt.topic, brokers: []string{kafka.endpoints[tt.listener]},
				table: filepath.Join(t.TempDir(), "table"), schema: numberSchema, source: tt.source(t),
			}
			p := startWith(t, []string{passwordEnv + "=" + tt.password}, nil, runArgs(s.write(t))...)
			begun := time.Now()
			p.wantExit(exitSource, time.Minute)
			last := p.tail(1)
			if !strings.HasPrefix(last, "Error: ") || !strings.Contains(last, tt.hint) {
				t.Errorf("the last line is no error with a hint to %q: %s", tt.hint, last)
			}
			t.Logf("after %v: %s", time.Since(begun).Round(100*time.Millisecond), last)
		})
	}
}

// TestBrokersHangUp has brokers that answer nothing end the start after a while: here, because the password is wrong.
func TestBrokersHangUp(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Start(t, "hang-up", 1, kfake.EnableSASL(), kfake.Superuser("PLAIN", brokerUser, brokerPassword))
	a := access{mechanism: "plain", password: "wrong"}
	s := stream{
		name: "e2e-hang-up", topic: "hang-up", brokers: cluster.ListenAddrs(), table: filepath.Join(t.TempDir(), "table"),
		schema: numberSchema, source: a.source(t),
	}
	p := startWith(t, []string{passwordEnv + "=" + a.password}, nil, runArgs(s.write(t))...)
	p.wantExit(exitSource, time.Minute)
	if last := p.tail(1); !strings.Contains(last, "check source.tls and source.sasl") {
		t.Errorf("the last line gives no hint: %s", last)
	}
}

// TestKafkaIsDown has a connector wait for a broker that is not there yet, and stop in time.
func TestKafkaIsDown(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	s := stream{name: "e2e-down", topic: "down", brokers: []string{address}, table: filepath.Join(t.TempDir(), "table"), schema: numberSchema}
	p := run(t, s.write(t))
	p.waitFor("a word that Kafka is away", 20*time.Second, func(l logLine) bool { return strings.Contains(l.msg(), "Kafka does not answer") })
	p.signal(stopSignal)
	p.wantExit(exitOK, 10*time.Second)
}
