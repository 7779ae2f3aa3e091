package source_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"kafkadelta/checkpoint"
	"kafkadelta/internal/kafkatest"
	"kafkadelta/source"
	"kafkadelta/source/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func valid() source.Config {
	c := source.DefaultConfig()
	c.Brokers, c.Topic = []string{"localhost:9092"}, "topic"
	return c
}

func TestConfig(t *testing.T) {
	cases := map[string]struct {
		change func(*source.Config)
		want   string // in the error; "" for none
	}{
		"default":                  {func(*source.Config) {}, ""},
		"several brokers":          {func(c *source.Config) { c.Brokers = append(c.Brokers, "other:1") }, ""},
		"latest, read_uncommitted": {func(c *source.Config) { c.Start, c.Isolation = "latest", "read_uncommitted" }, ""},
		"TLS":                      {func(c *source.Config) { c.TLS = auth.TLSConfig{Enabled: true, CAFile: "ca.pem", ServerName: "x"} }, ""},
		"plain by environment": {func(c *source.Config) {
			c.SASL = auth.SASLConfig{Mechanism: "plain", Username: "u", PasswordEnv: "P"}
		}, ""},
		"scram by file": {func(c *source.Config) {
			c.SASL = auth.SASLConfig{Mechanism: "scram-sha-512", Username: "u", PasswordFile: "f"}
		}, ""},
		"no broker":                   {func(c *source.Config) { c.Brokers = nil }, "source.brokers is empty"},
		"a blank broker":              {func(c *source.Config) { c.Brokers = []string{"a:1", " "} }, "source.brokers[1]"},
		"a broker with a scheme":      {func(c *source.Config) { c.Brokers = []string{"kafka://a:1"} }, "without a scheme"},
		"no topic":                    {func(c *source.Config) { c.Topic = "" }, "source.topic is empty"},
		"a start that is not known":   {func(c *source.Config) { c.Start = "newest" }, "use earliest or latest"},
		"a protocol of the future":    {func(c *source.Config) { c.GroupProtocol = "next" }, "use classic or consumer"},
		"a loss to be ignored":        {func(c *source.Config) { c.OnDataLoss = "ignore" }, "use fail or continue"},
		"an isolation of databases":   {func(c *source.Config) { c.Isolation = "serializable" }, "read_committed"},
		"a session in milliseconds":   {func(c *source.Config) { c.SessionTimeout = 10 }, "source.session_timeout"},
		"a rebalance in milliseconds": {func(c *source.Config) { c.RebalanceTimeout = 10 }, "source.rebalance_timeout"},
		"TLS settings without TLS":    {func(c *source.Config) { c.TLS.CAFile = "ca.pem" }, "add `enabled: true`"},
		"a mechanism that is unknown": {func(c *source.Config) {
			c.SASL = auth.SASLConfig{Mechanism: "PLAIN", Username: "u", PasswordEnv: "P"}
		}, "scram-sha-256"},
		"a password without mechanism": {func(c *source.Config) { c.SASL.PasswordEnv = "P" }, "no mechanism"},
		"a user that is missing":       {func(c *source.Config) { c.SASL = auth.SASLConfig{Mechanism: "plain", PasswordEnv: "P"} }, "source.sasl.username"},
		"a password that is missing":   {func(c *source.Config) { c.SASL = auth.SASLConfig{Mechanism: "plain", Username: "u"} }, "exactly one"},
		"two passwords": {func(c *source.Config) {
			c.SASL = auth.SASLConfig{Mechanism: "plain", Username: "u", PasswordEnv: "P", PasswordFile: "f"}
		}, "exactly one"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			config := valid()
			c.change(&config)
			err := config.Validate()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("Validate answered %v, want %q", err, c.want)
			}
		})
	}
}

func TestConfigTellsAllMistakesAtOnce(t *testing.T) {
	err := source.Config{}.Validate()
	for _, want := range []string{"brokers", "topic", "start", "isolation", "session_timeout", "rebalance_timeout"} {
		if err == nil || !strings.Contains(err.Error(), "source."+want) {
			t.Errorf("source.%s is not in %v", want, err)
		}
	}
}

func TestSecretsAreCheckedAndNeverPrinted(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	t.Setenv("TEST_PASSWORD", "hunter2")
	t.Setenv("EMPTY_PASSWORD", "")
	sasl := func(env, file string) source.Config {
		c := valid()
		c.SASL = auth.SASLConfig{Mechanism: "plain", Username: "u", PasswordEnv: env, PasswordFile: file}
		return c
	}
	ca := func(file string) source.Config {
		c := valid()
		c.TLS = auth.TLSConfig{Enabled: true, CAFile: file}
		return c
	}
	for name, c := range map[string]struct {
		config source.Config
		want   string
	}{
		"environment":           {sasl("TEST_PASSWORD", ""), ""},
		"file":                  {sasl("", file("password", "hunter2\n")), ""},
		"variable not set":      {sasl("NO_SUCH_PASSWORD", ""), "source.sasl.password_env names a variable that is not set"},
		"variable empty":        {sasl("EMPTY_PASSWORD", ""), "NAME of the variable"},
		"file missing":          {sasl("", filepath.Join(dir, "nothing")), "password_file"},
		"CA missing":            {ca(filepath.Join(dir, "nothing.pem")), "source.tls.ca_file"},
		"CA that is no PEM":     {ca(file("ca.pem", "hello")), "no PEM certificate"},
		"neither, and no proof": {valid(), ""},
	} {
		err := c.config.CheckSecrets()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: CheckSecrets answered %v, want %q", name, err, c.want)
		}
		if text := fmt.Sprintf("%+v %v", c.config, err); strings.Contains(text, "hunter2") {
			t.Errorf("%s: the password is in %s", name, text)
		}
	}
}

func TestErrorsAreJudged(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		final bool
		hint  string
	}{
		"wrong password":            {kerr.SaslAuthenticationFailed, true, "source.sasl"},
		"no right to the topic":     {kerr.TopicAuthorizationFailed, true, "READ and DESCRIBE"},
		"no right to the group":     {kerr.GroupAuthorizationFailed, true, "consumer group"},
		"unknown topic":             {kerr.UnknownTopicOrPartition, true, "source.topic"},
		"out of range":              {kerr.OffsetOutOfRange, true, "retention"},
		"session timeout":           {kerr.InvalidSessionTimeout, true, "group.min.session.timeout.ms"},
		"another protocol":          {kerr.InconsistentGroupProtocol, true, "source.group"},
		"two workers of one name":   {kerr.FencedInstanceID, true, "source.instance_id"},
		"wrapped":                   {fmt.Errorf("fetching: %w", kerr.OffsetOutOfRange), true, "retention"},
		"unknown certificate":       {&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, true, "source.tls.ca_file"},
		"no TLS":                    {tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, true, "source.tls.enabled"},
		"closed at the first read":  {&kgo.ErrFirstReadEOF{}, false, "TLS"},
		"leader is elsewhere":       {kerr.NotLeaderForPartition, false, ""},
		"coordinator is loading":    {kerr.CoordinatorLoadInProgress, false, ""},
		"network":                   {io.ErrUnexpectedEOF, false, ""},
		"the group session ends":    {&kgo.ErrGroupSession{Err: errors.New("x")}, false, ""},
		"rebalance while reporting": {kerr.RebalanceInProgress, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			final, judged := source.Judge("topic", 3, c.err)
			if final != c.final || !strings.Contains(judged.Error(), c.hint) || !strings.Contains(judged.Error(), "topic[3]") {
				t.Errorf("judged as final %v: %v", final, judged)
			}
			if !errors.Is(judged, c.err) && name != "no TLS" {
				t.Errorf("the cause is lost in %v", judged)
			}
			var e *source.Error
			if errors.As(judged, &e) != c.final {
				t.Errorf("%v is a *source.Error: %v", judged, e != nil)
			}
		})
	}
	if final, judged := source.Judge("", 0, kerr.SaslAuthenticationFailed); !final || !strings.HasPrefix(judged.Error(), "reading from Kafka") {
		t.Errorf("judged as %v", judged)
	}
}

// open makes a source that is told its positions.
func open(t *testing.T, c source.Config, next map[checkpoint.Partition]int64, extra ...kgo.Opt) *source.Source {
	t.Helper()
	s, err := source.New(c, "group", source.Callbacks{
		Positions: func(_ context.Context, assigned []checkpoint.Partition) (map[checkpoint.Partition]checkpoint.Position, error) {
			return positions(next), nil
		},
		Joined:  func() {},
		Revoked: func(context.Context, []checkpoint.Partition) {},
		Lost:    func([]checkpoint.Partition) {},
		Stale:   func(err error) { t.Error(err) },
	}, extra...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(context.Background()) }) //nolint:usetesting // t.Context is done by then
	return s
}

// positions have no leader epoch.
func positions(next map[checkpoint.Partition]int64) map[checkpoint.Partition]checkpoint.Position {
	m := map[checkpoint.Partition]checkpoint.Position{}
	for p, offset := range next {
		m[p] = checkpoint.Position{Next: offset}
	}
	return m
}

func (f fixture) config(topic string) source.Config {
	c := valid()
	c.Brokers, c.Topic, c.SessionTimeout = f.cluster.ListenAddrs(), topic, 2*time.Second
	return c
}

type fixture struct{ cluster *kfake.Cluster }

func start(t *testing.T, partitions int32, opts ...kfake.Opt) fixture {
	t.Helper()
	return fixture{kafkatest.Start(t, "topic", partitions, opts...)}
}

// offsets polls until n messages have come, and returns their offsets by partition.
func offsets(t *testing.T, s *source.Source, n int) map[int32][]int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	got := map[int32][]int64{}
	for total := 0; total < n; {
		fetches := s.Poll(ctx, source.PollRecords)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d messages came: %v", total, n, fetches.Errors())
		}
		fetches.EachRecord(func(r *kgo.Record) {
			got[r.Partition] = append(got[r.Partition], r.Offset)
			total++
		})
	}
	return got
}

func TestReadingBeginsWhereThePositionsSay(t *testing.T) {
	f := start(t, 2)
	kafkatest.Produce(t, f.cluster.ListenAddrs(), "topic", 2, make([][]byte, 20))
	s := open(t, f.config("topic"), map[checkpoint.Partition]int64{{Topic: "topic", ID: 0}: 7, {Topic: "topic", ID: 1}: 0})
	s.Start()
	got := offsets(t, s, 13)
	if got[0][0] != 7 || len(got[0]) != 3 || got[1][0] != 0 {
		t.Errorf("the messages are %v, want partition 0 from 7 and partition 1 from 0", got)
	}
	s.Seek(positions(map[checkpoint.Partition]int64{{Topic: "topic", ID: 0}: 2}))
	if got := offsets(t, s, 8); got[0][0] != 2 || len(got) != 1 {
		t.Errorf("after seeking the messages are %v, want partition 0 from 2", got)
	}
}

func TestReportIsAdvisory(t *testing.T) {
	f := start(t, 1)
	kafkatest.Produce(t, f.cluster.ListenAddrs(), "topic", 1, make([][]byte, 10))
	p := checkpoint.Partition{Topic: "topic", ID: 0}
	s := open(t, f.config("topic"), map[checkpoint.Partition]int64{p: 0})
	s.Start()
	offsets(t, s, 10)
	if err := s.Report(t.Context(), positions(map[checkpoint.Partition]int64{p: 9})); err != nil {
		t.Fatal(err)
	}
	s.Close(t.Context())
	// The next reader is told of it, and reads from where its positions say.
	again := open(t, f.config("topic"), map[checkpoint.Partition]int64{p: 3})
	again.Start()
	if got := offsets(t, again, 7); got[0][0] != 3 {
		t.Errorf("the messages are %v, want from 3", got)
	}
}

func TestOutOfRangeIsAnErrorNeverAJump(t *testing.T) {
	for name, at := range map[string]int64{"before the first": 2, "after the last": 1000} {
		t.Run(name, func(t *testing.T) {
			f := start(t, 1)
			kafkatest.Produce(t, f.cluster.ListenAddrs(), "topic", 1, make([][]byte, 10))
			if err := f.cluster.DeleteRecords("topic", 0, 5); err != nil {
				t.Fatal(err)
			}
			s := open(t, f.config("topic"), map[checkpoint.Partition]int64{{Topic: "topic", ID: 0}: at})
			s.Start()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			for {
				fetches := s.Poll(ctx, source.PollRecords)
				if fetches.NumRecords() > 0 {
					t.Fatalf("%d messages came", fetches.NumRecords())
				}
				for _, e := range fetches.Errors() {
					if final, judged := source.Judge(e.Topic, e.Partition, e.Err); final && strings.Contains(judged.Error(), "retention") {
						return
					} else if ctx.Err() != nil {
						t.Fatalf("no error came but %v", judged)
					}
				}
			}
		})
	}
}

func TestDescribe(t *testing.T) {
	f := start(t, 3, kfake.ClusterID("here"))
	s := open(t, f.config("topic"), nil)
	topic, err := s.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if topic.Partitions != 3 || topic.Identity.ClusterID != "here" || len(topic.Identity.TopicID) != 22 {
		t.Errorf("the topic is %+v, want 3 partitions in cluster here and an id as Kafka's tools spell it", topic)
	}
	if again, err := s.Describe(t.Context()); err != nil || again != topic {
		t.Errorf("asked again it is %+v, %v", again, err)
	}
	missing := open(t, f.config("nothing"), nil)
	var e *source.Error
	if _, err := missing.Describe(t.Context()); !errors.As(err, &e) || !strings.Contains(e.Hint, "source.topic") {
		t.Errorf("an unknown topic is %v, want a *source.Error with a hint", err)
	}
}

func TestStartAndEndOffsets(t *testing.T) {
	f := start(t, 2)
	kafkatest.Produce(t, f.cluster.ListenAddrs(), "topic", 2, make([][]byte, 20))
	if err := f.cluster.DeleteRecords("topic", 0, 4); err != nil {
		t.Fatal(err)
	}
	for _, isolation := range []string{source.ReadCommitted, source.ReadUncommitted} {
		c := f.config("topic")
		c.Isolation = isolation
		s := open(t, c, nil)
		first, err := s.StartOffsets(t.Context(), source.StartEarliest)
		if err != nil || first[0] != 4 || first[1] != 0 || len(first) != 2 {
			t.Errorf("%s: the first offsets are %v, %v", isolation, first, err)
		}
		latest, err := s.StartOffsets(t.Context(), source.StartLatest)
		if err != nil || latest[0] != 10 || latest[1] != 10 {
			t.Errorf("%s: the latest offsets are %v, %v", isolation, latest, err)
		}
	}
}

func TestSASLAgainstABroker(t *testing.T) {
	t.Setenv("TEST_PASSWORD", "right")
	t.Setenv("WRONG_PASSWORD", "wrong")
	for _, mechanism := range []string{"plain", "scram-sha-256", "scram-sha-512"} {
		t.Run(mechanism, func(t *testing.T) {
			f := start(t, 1, kfake.EnableSASL(), kfake.Superuser(strings.ToUpper(mechanism), "user", "right"))
			for env, good := range map[string]bool{"TEST_PASSWORD": true, "WRONG_PASSWORD": false} {
				c := f.config("topic")
				c.SASL = auth.SASLConfig{Mechanism: mechanism, Username: "user", PasswordEnv: env}
				_, err := open(t, c, nil).Describe(t.Context())
				if good && err != nil {
					t.Errorf("with the password: %v", err)
				}
				if !good && err == nil { // this broker hangs up where a real one answers SASL_AUTHENTICATION_FAILED
					t.Error("with a wrong password the topic was described")
				}
			}
		})
	}
}
