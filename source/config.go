package source

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"kafkadelta/source/auth"
)

// Values of Config.Start and Config.Isolation.
const (
	StartEarliest   = "earliest"
	StartLatest     = "latest"
	ReadCommitted   = "read_committed"
	ReadUncommitted = "read_uncommitted"
)

// Values of Config.GroupProtocol.
const (
	ProtocolClassic  = "classic"
	ProtocolConsumer = "consumer"
)

// Values of Config.OnDataLoss.
const (
	OnDataLossFail     = "fail"
	OnDataLossContinue = "continue"
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
	// OnDataLoss says what happens once Kafka's retention has removed messages that were not read: fail (default) refuses to go on;
	// continue goes on behind them and counts their offsets as lost.
	OnDataLoss string `yaml:"on_data_loss"`
	// GroupProtocol is how partitions are shared out: classic (default), by one of the workers; or consumer (KIP-848), by the broker, which
	// then has its own session timeout. A broker that lacks that gets classic.
	GroupProtocol string `yaml:"group_protocol"`
	// SessionTimeout is how long the group waits for a worker that went silent before its partitions go to others.
	// Default 10s; the broker's group.min.session.timeout.ms (6s) and group.max.session.timeout.ms bound it.
	SessionTimeout time.Duration `yaml:"session_timeout"`
	// RebalanceTimeout is how long a worker may take to flush and commit what it must give away. Default 60s.
	RebalanceTimeout time.Duration `yaml:"rebalance_timeout"`
	// InstanceID makes the worker a static member (KIP-345): a restart within the session timeout moves no partition.
	InstanceID string `yaml:"instance_id"`
	// Rack says where the worker runs: brokers that choose replicas by rack (KIP-392) then let it read from one that is near.
	Rack string `yaml:"rack"`
	// ClientID is what brokers log for this client. Default "kafkadelta".
	ClientID string          `yaml:"client_id"`
	TLS      auth.TLSConfig  `yaml:"tls"`
	SASL     auth.SASLConfig `yaml:"sasl"`
}

// DefaultConfig returns the settings used where the configuration is silent.
func DefaultConfig() Config {
	return Config{
		Start:            StartEarliest,
		Isolation:        ReadCommitted,
		OnDataLoss:       OnDataLossFail,
		GroupProtocol:    ProtocolClassic,
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
	if c.OnDataLoss != OnDataLossFail && c.OnDataLoss != OnDataLossContinue {
		bad("source.on_data_loss is %q: use %s or %s", c.OnDataLoss, OnDataLossFail, OnDataLossContinue)
	}
	if c.GroupProtocol != ProtocolClassic && c.GroupProtocol != ProtocolConsumer {
		bad("source.group_protocol is %q: use %s or %s", c.GroupProtocol, ProtocolClassic, ProtocolConsumer)
	}
	if c.SessionTimeout < time.Second {
		bad("source.session_timeout is %v: use at least 1s (most brokers ask for 6s)", c.SessionTimeout)
	}
	if c.RebalanceTimeout < time.Second {
		bad("source.rebalance_timeout is %v: use at least 1s", c.RebalanceTimeout)
	}
	return errors.Join(append(errs, c.TLS.Validate(), c.SASL.Validate())...)
}

// SharesBroker tells whether both settings name one and the same broker: then they are of one cluster.
func (c Config) SharesBroker(other Config) bool {
	return slices.ContainsFunc(c.Brokers, func(a string) bool {
		return slices.ContainsFunc(other.Brokers, func(b string) bool { return brokerAddress(a) == brokerAddress(b) })
	})
}

// brokerAddress is host:port in one spelling. The client takes a port of 9092 where none is named.
func brokerAddress(broker string) string {
	broker = strings.ToLower(strings.TrimSpace(broker))
	host, port, err := net.SplitHostPort(broker)
	if err != nil {
		host, port = strings.Trim(broker, "[]"), "9092"
	}
	return net.JoinHostPort(strings.TrimSuffix(host, "."), port)
}

// CheckSecrets reads the files and environment variables that the settings name, so that a mistake shows before anything
// else is done.
func (c Config) CheckSecrets() error {
	_, err := auth.Options(c.TLS, c.SASL, nil)
	return err
}
