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
	inFile    bool   // the password is in a file, not in the environment
	pair      []byte // the client's key and certificate
	token     string
	tokenURL  string
	server    string // the name that the broker's certificate must have
}

func (a access) source(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	if a.tls {
		line("  tls:\n    enabled: true")
	}
	if a.caFile != "" {
		line("    ca_file: %s", a.caFile)
	}
	if a.server != "" {
		line("    server_name: %s", a.server)
	}
	if a.pair != nil {
		file := secret(t, string(a.pair))
		line("    cert_file: %s\n    key_file: %s", file, file)
	}
	if a.mechanism != "" {
		line("  sasl:\n    mechanism: %s", a.mechanism)
	}
	switch {
	case a.tokenURL != "":
		line("    token_url: %s\n    username: %s", a.tokenURL, clientID)
	case a.token != "":
		line("    token_file: %s", secret(t, a.token+"\n"))
		return b.String()
	case a.mechanism != "":
		line("    username: %s", brokerUser)
	default:
		return b.String()
	}
	if a.inFile {
		line("    password_file: %s", secret(t, a.password+"\n"))
	} else {
		line("    password_env: %s", passwordEnv)
	}
	return b.String()
}

// secret writes a file for one connector.
func secret(t testing.TB, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// pair is a client's key and certificate.
func (a authority) pair(t testing.TB, end time.Time) []byte {
	t.Helper()
	pem, err := a.issueUntil(end, "loader", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return pem
}

// TestListeners reads a topic through every kind of listener of a real broker.
func TestListeners(t *testing.T) {
	kafka := realKafka(t)
	ca := kafka.ca.file(t)
	tomorrow := time.Now().Add(24 * time.Hour)
	token := kafka.issuer.token(tomorrow)
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
		"client certificate":         {listener: mutualListener, tls: true, caFile: ca, pair: kafka.ca.pair(t, tomorrow)},
		"token from a file":          {listener: bearerListener, tls: true, caFile: ca, mechanism: "oauthbearer", token: token},
		"token of an endpoint":       {listener: bearerListener, tls: true, caFile: ca, mechanism: "oauthbearer", tokenURL: kafka.issuer.endpoint(t), password: clientSecret},
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
			for _, secret := range []string{a.password, a.token} {
				if secret != "" && strings.Contains(p.stderr(), secret) {
					t.Error("the log holds the password or token")
				}
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
	stranger, err := newIssuer()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	tomorrow := now.Add(24 * time.Hour)
	mutual := func(pair []byte) access { return access{listener: mutualListener, tls: true, caFile: ca, pair: pair} }
	bearer := func(token string) access {
		return access{listener: bearerListener, tls: true, caFile: ca, mechanism: "oauthbearer", token: token}
	}
	createTopic(t, kafka.brokers(), "refused", 1)
	createTopic(t, kafka.brokers(), "of-others", 1)
	kafka.keepFrom(t, "of-others", brokerUser)
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
		"tls to plaintext":              {access{listener: clearListener, tls: true, caFile: ca}, "refused", "does not speak TLS"},
		"unknown topic":                 {access{listener: clearListener}, "no-such-topic", "source.topic"},
		"topic name that cannot be":     {access{listener: clearListener}, "no such topic", "source.topic"},
		"no right to the topic":         {access{listener: saslListener, mechanism: "plain", password: brokerPassword}, "of-others", "grant the user READ and DESCRIBE"},
		"broker with another name":      {access{listener: tlsListener, tls: true, caFile: ca, server: "elsewhere.test"}, "refused", "source.tls.server_name"},
		"broker that has expired":       {access{listener: staleListener, tls: true, caFile: ca}, "refused", "it is not valid now"},
		"no client certificate":         {mutual(nil), "refused", "set source.tls.cert_file"},
		"unknown client certificate":    {mutual(other.pair(t, tomorrow)), "refused", "issued by CN=another authority"},
		"expired client certificate":    {mutual(kafka.ca.pair(t, now.Add(-time.Minute))), "refused", "valid until " + now.UTC().Format("2006")},
		"token of another issuer":       {bearer(stranger.token(tomorrow)), "refused", "check source.sasl"},
		"expired token":                 {bearer(kafka.issuer.token(now.Add(-time.Second))), "refused", "check source.sasl"},
		"no token at all":               {bearer("hello"), "refused", "check source.sasl"},
		"wrong client secret":           {access{listener: bearerListener, tls: true, caFile: ca, mechanism: "oauthbearer", tokenURL: kafka.issuer.endpoint(t), password: "wrong"}, "refused", "invalid_client"},
		"password where tokens are":     {access{listener: bearerListener, tls: true, caFile: ca, mechanism: "plain", password: brokerPassword}, "refused", "does not offer"},
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
