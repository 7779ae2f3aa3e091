package source

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Values of Config.Start and Config.Isolation.
const (
	StartEarliest   = "earliest"
	StartLatest     = "latest"
	ReadCommitted   = "read_committed"
	ReadUncommitted = "read_uncommitted"
)

// Config says which topic is read, and how the brokers are reached.
type Config struct {
	// Brokers are the bootstrap addresses, host:port.
	Brokers []string `yaml:"brokers"`
	// Topic is the topic to read.
	Topic string `yaml:"topic"`
	// Group is the consumer group. Default: the stream's name.
	Group string `yaml:"group"`
	// Start says where a topic is read from that the table does not know yet: earliest (default) or latest. It is asked
	// once: the first commit pins it for every partition.
	Start string `yaml:"start"`
	// Isolation is read_committed (default) or read_uncommitted.
	Isolation string `yaml:"isolation"`
	// SessionTimeout is how long the group waits for a worker that went silent before its partitions go to others.
	// Default 10s; the broker's group.min.session.timeout.ms (6s) and group.max.session.timeout.ms bound it.
	SessionTimeout time.Duration `yaml:"session_timeout"`
	// RebalanceTimeout is how long a worker may take to flush and commit what it must give away. Default 60s.
	RebalanceTimeout time.Duration `yaml:"rebalance_timeout"`
	// InstanceID makes the worker a static member (KIP-345): a restart within the session timeout moves no partition.
	InstanceID string `yaml:"instance_id"`
	// ClientID is what brokers log for this client. Default "kafkadelta".
	ClientID string     `yaml:"client_id"`
	TLS      TLSConfig  `yaml:"tls"`
	SASL     SASLConfig `yaml:"sasl"`
}

// TLSConfig says whether and how connections are encrypted.
type TLSConfig struct {
	Enabled bool `yaml:"enabled"`
	// CAFile is a PEM file with the certificates to trust instead of the system's.
	CAFile string `yaml:"ca_file"`
	// ServerName overrides the name that the broker's certificate must carry.
	ServerName string `yaml:"server_name"`
}

// SASLConfig says how the client authenticates. The password is never written in the configuration itself: it comes from
// an environment variable or a file.
type SASLConfig struct {
	// Mechanism is plain, scram-sha-256 or scram-sha-512. Empty: no authentication.
	Mechanism    string `yaml:"mechanism"`
	Username     string `yaml:"username"`
	PasswordEnv  string `yaml:"password_env"`
	PasswordFile string `yaml:"password_file"`
}

// DefaultConfig returns the settings used where the configuration is silent.
func DefaultConfig() Config {
	return Config{
		Start:            StartEarliest,
		Isolation:        ReadCommitted,
		SessionTimeout:   10 * time.Second,
		RebalanceTimeout: 60 * time.Second,
		ClientID:         "kafkadelta",
	}
}

// Validate checks the settings without reaching for a broker or a file.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Brokers) == 0 {
		bad("source.brokers is empty: name at least one broker as host:port")
	}
	for i, b := range c.Brokers {
		if strings.TrimSpace(b) == "" || strings.Contains(b, "/") {
			bad("source.brokers[%d] is %q: use host:port, without a scheme", i, b)
		}
	}
	if c.Topic == "" {
		bad("source.topic is empty: name the topic to read")
	}
	if c.Start != StartEarliest && c.Start != StartLatest {
		bad("source.start is %q: use %s or %s", c.Start, StartEarliest, StartLatest)
	}
	if c.Isolation != ReadCommitted && c.Isolation != ReadUncommitted {
		bad("source.isolation is %q: use %s or %s", c.Isolation, ReadCommitted, ReadUncommitted)
	}
	if c.SessionTimeout < time.Second {
		bad("source.session_timeout is %v: use at least 1s (most brokers ask for 6s)", c.SessionTimeout)
	}
	if c.RebalanceTimeout < time.Second {
		bad("source.rebalance_timeout is %v: use at least 1s", c.RebalanceTimeout)
	}
	if !c.TLS.Enabled && (c.TLS.CAFile != "" || c.TLS.ServerName != "") {
		bad("source.tls has settings but is not enabled: add `enabled: true`")
	}
	return errors.Join(append(errs, c.SASL.validate())...)
}

// CheckSecrets reads the files and environment variables that the settings name, so that a mistake shows before anything
// else is done.
func (c Config) CheckSecrets() error {
	_, tlsErr := c.TLS.tlsConfig()
	_, saslErr := c.SASL.mechanism()
	return errors.Join(tlsErr, saslErr)
}

func (s SASLConfig) validate() error {
	switch s.Mechanism {
	case "":
		if s.Username != "" || s.PasswordEnv != "" || s.PasswordFile != "" {
			return errors.New("source.sasl has settings but no mechanism: use plain, scram-sha-256 or scram-sha-512")
		}
		return nil
	case "plain", "scram-sha-256", "scram-sha-512":
	default:
		return errors.New("source.sasl.mechanism is not one that is known: use plain, scram-sha-256 or scram-sha-512")
	}
	if s.Username == "" {
		return errors.New("source.sasl.username is empty")
	}
	if (s.PasswordEnv == "") == (s.PasswordFile == "") {
		return errors.New("source.sasl needs exactly one of password_env (name of an environment variable) and password_file")
	}
	if s.PasswordEnv != "" && !variableName.MatchString(s.PasswordEnv) {
		return errors.New("source.sasl.password_env is not the name of a variable: " + passwordEnvRemedy)
	}
	return nil
}

// Errors show no value of the keys around the password: a password that stands there by mistake, such as in
// password_env: "${KAFKA_PASSWORD}", must not reach a log.
const passwordEnvRemedy = "write the NAME of the variable that holds the password, such as KAFKA_PASSWORD, without ${}"

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// tlsConfig is nil where connections are not encrypted.
func (c TLSConfig) tlsConfig() (*tls.Config, error) {
	if !c.Enabled {
		return nil, nil
	}
	conf := &tls.Config{ServerName: c.ServerName, MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading source.tls.ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading source.tls.ca_file: %s holds no PEM certificate", c.CAFile)
		}
	}
	return conf, nil
}

// mechanism is nil where the client does not authenticate.
func (s SASLConfig) mechanism() (sasl.Mechanism, error) {
	if s.Mechanism == "" {
		return nil, nil
	}
	password, err := s.password()
	if err != nil {
		return nil, err
	}
	switch s.Mechanism {
	case "plain":
		return plain.Auth{User: s.Username, Pass: password}.AsMechanism(), nil
	case "scram-sha-256":
		return scram.Auth{User: s.Username, Pass: password}.AsSha256Mechanism(), nil
	default:
		return scram.Auth{User: s.Username, Pass: password}.AsSha512Mechanism(), nil
	}
}

func (s SASLConfig) password() (string, error) {
	if s.PasswordEnv != "" {
		v, ok := os.LookupEnv(s.PasswordEnv) //nolint:forbidigo // the configuration holds the name alone, so that the secret stays here
		if !ok || v == "" {
			return "", errors.New("source.sasl.password_env names a variable that is not set, or empty: " + passwordEnvRemedy)
		}
		return v, nil
	}
	b, err := os.ReadFile(s.PasswordFile)
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err // without the path
	}
	if err != nil {
		return "", fmt.Errorf("reading source.sasl.password_file, which must be the path of a file: %w", err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}
