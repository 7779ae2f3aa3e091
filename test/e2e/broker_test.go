package e2e

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// defaultImage is what docker-compose.yml uses too. KAFKA_IMAGE names another one that takes the same environment.
const defaultImage = "apache/kafka:4.1.0"

func kafkaImage() string { return cmp.Or(os.Getenv("KAFKA_IMAGE"), defaultImage) }

// Users of the broker. The names are checked by PLAIN and by SCRAM.
const (
	brokerUser     = "loader"
	brokerPassword = "correct horse battery"
)

// listener is one way into the broker. Their names have neither "SSL" nor "SASL" in them: the image's start script
// asks for Java keystores where they do.
type listener struct {
	name, protocol string
	port           int
}

var (
	clearListener  = listener{"CLEAR", "PLAINTEXT", 9092}
	tlsListener    = listener{"ENCRYPTED", "SSL", 9093}
	saslListener   = listener{"LOGIN", "SASL_PLAINTEXT", 9094}
	secureListener = listener{"SAFELOGIN", "SASL_SSL", 9095}
	mutualListener = listener{"MUTUAL", "SSL", 9096}      // asks for a client certificate
	bearerListener = listener{"BEARER", "SASL_SSL", 9097} // takes tokens
	staleListener  = listener{"STALE", "SSL", 9098}       // its certificate has expired
	frailListener  = listener{"FRAIL", "PLAINTEXT", 9099} // behind a Toxiproxy
	listeners      = []listener{clearListener, tlsListener, saslListener, secureListener, mutualListener, bearerListener, staleListener, frailListener}
)

// broker is the real Kafka that all tests share.
type broker struct {
	container testcontainers.Container
	endpoints map[listener]string
	frail     *toxiproxy.Proxy // before frailListener
	ca        authority
	issuer    issuer
}

var theBroker struct {
	once sync.Once
	*broker
	err     error
	lacking bool // err is the machine's fault
}

// realKafka starts the broker the first time. Without Docker the test skips, or fails under CI=true.
func realKafka(t testing.TB) *broker {
	t.Helper()
	theBroker.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) //nolint:usetesting // for all tests; an image may have to be pulled
		defer cancel()
		theBroker.broker, theBroker.lacking, theBroker.err = startBroker(ctx)
	})
	if theBroker.lacking {
		missing(t, "this test needs Docker and the image of a Kafka: %v", theBroker.err)
	}
	if theBroker.err != nil {
		t.Fatalf("starting Kafka: %v", theBroker.err)
	}
	return theBroker.broker
}

// stopBroker removes the container, if there is one.
func stopBroker() {
	if theBroker.broker == nil || theBroker.container == nil {
		return
	}
	theBroker.frail.Stop()
	if err := testcontainers.TerminateContainer(theBroker.container, testcontainers.StopTimeout(0)); err != nil {
		fmt.Fprintln(os.Stderr, "removing the container:", err)
	}
}

func startBroker(ctx context.Context) (b *broker, lacking bool, err error) {
	defer func() { // testcontainers panics where it finds no Docker host at all
		if r := recover(); r != nil {
			lacking, err = true, fmt.Errorf("no Docker host was found: %v", r)
		}
	}()
	provider, err := testcontainers.ProviderDocker.GetProvider()
	if err == nil {
		defer func() { _ = provider.Close() }()
		err = provider.Health(ctx)
	}
	if err != nil {
		return nil, true, err
	}
	b = &broker{endpoints: map[listener]string{}}
	if b.ca, err = newAuthority("test authority"); err != nil {
		return nil, false, err
	}
	if b.issuer, err = newIssuer(); err != nil {
		return nil, false, err
	}
	files, err := b.files()
	if err != nil {
		return nil, false, err
	}
	container, err := testcontainers.Run(ctx, kafkaImage(), b.options(files)...)
	switch {
	case err != nil && container == nil: // nothing could be created: most likely there is no image and no network
		return nil, true, err
	case err != nil:
		return nil, false, errors.Join(err, testcontainers.TerminateContainer(container, testcontainers.StopTimeout(0)))
	}
	b.container = container
	return b, false, b.prepare(ctx)
}

// Files in the container.
const (
	startScript   = "/tmp/start-kafka.sh"
	processID     = "/tmp/kafka.pid"
	hold          = "/tmp/hold" // while it is there, a broker that has ended is not started again
	keystore      = "/tmp/broker.pem"
	staleKeystore = "/tmp/stale.pem"
	truststore    = "/tmp/ca.pem"
	tokenKeys     = "/tmp/jwks.json"
)

// files are what the broker proves itself with, and what it believes.
func (b *broker) files() (map[string][]byte, error) {
	pem, err := b.ca.issue("localhost", "127.0.0.1")
	if err != nil {
		return nil, err
	}
	stale, err := b.ca.issueUntil(time.Now().Add(-time.Minute), "localhost", "127.0.0.1")
	return map[string][]byte{keystore: pem, staleKeystore: stale, truststore: b.ca.pem(), tokenKeys: b.issuer.keys()}, err
}

// options describe the container. The ports that the host gives are known only after the start, and the broker must
// advertise them: the entrypoint waits for a script that does. A broker that ends is started again: with its container it
// would get other ports.
func (b *broker) options(files map[string][]byte) []testcontainers.ContainerCustomizer {
	env := map[string]string{
		"CLUSTER_ID":                                     "5L6g3nShT-eMCtK--X86sw",
		"KAFKA_NODE_ID":                                  "1",
		"KAFKA_PROCESS_ROLES":                            "broker,controller",
		"KAFKA_INTER_BROKER_LISTENER_NAME":               "INSIDE",
		"KAFKA_CONTROLLER_LISTENER_NAMES":                "CONTROLLER",
		"KAFKA_CONTROLLER_QUORUM_VOTERS":                 "1@localhost:19093",
		"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR":         "1",
		"KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS":             "1",
		"KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
		"KAFKA_TRANSACTION_STATE_LOG_MIN_ISR":            "1",
		"KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS":     "1",
		"KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS":         "0",
		"KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS":             "1000", // so that a killed worker's partitions are free soon
		"KAFKA_AUTO_CREATE_TOPICS_ENABLE":                "false",
		"KAFKA_SSL_KEYSTORE_TYPE":                        "PEM",
		"KAFKA_SSL_KEYSTORE_LOCATION":                    keystore,
		"KAFKA_SSL_TRUSTSTORE_TYPE":                      "PEM",
		"KAFKA_SSL_TRUSTSTORE_LOCATION":                  truststore,
		"KAFKA_SASL_ENABLED_MECHANISMS":                  "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		// Topics without rules of their own are everybody's.
		"KAFKA_AUTHORIZER_CLASS_NAME":                 "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"KAFKA_ALLOW_EVERYONE_IF_NO_ACL_FOUND":        "true",
		"KAFKA_SUPER_USERS":                           "User:ANONYMOUS",
		"KAFKA_OPTS":                                  "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://" + tokenKeys,
		mutualListener.key("SSL_CLIENT_AUTH"):         "required",
		staleListener.key("SSL_KEYSTORE_TYPE"):        "PEM",
		staleListener.key("SSL_KEYSTORE_LOCATION"):    staleKeystore,
		bearerListener.key("SASL_ENABLED_MECHANISMS"): "OAUTHBEARER",
	}
	// Of 4.1, the default looks at no signature, and a class under the mechanism's prefix is not looked for.
	env[bearerListener.key("SASL_OAUTHBEARER_JWT_VALIDATOR_CLASS")] = "org.apache.kafka.common.security.oauthbearer.BrokerJwtValidator"
	for key, value := range map[string]string{
		"JAAS_CONFIG":                    "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;",
		"SERVER_CALLBACK_HANDLER_CLASS":  "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler",
		"OAUTHBEARER_JWKS_ENDPOINT_URL":  "file://" + tokenKeys,
		"OAUTHBEARER_EXPECTED_ISSUER":    tokenIssuer,
		"OAUTHBEARER_EXPECTED_AUDIENCE":  tokenAudience,
		"OAUTHBEARER_CLOCK_SKEW_SECONDS": "0",
	} {
		env[bearerListener.key("OAUTHBEARER_SASL_"+key)] = value
	}
	// A session ends with its token, and the client has to show another one before.
	env[bearerListener.key("OAUTHBEARER_CONNECTIONS_MAX_REAUTH_MS")] = "3600000"
	binds := []string{"INSIDE://0.0.0.0:19092", "CONTROLLER://0.0.0.0:19093"}
	protocols := []string{"INSIDE:PLAINTEXT", "CONTROLLER:PLAINTEXT"}
	var ports []string
	for _, l := range listeners {
		binds = append(binds, fmt.Sprintf("%s://0.0.0.0:%d", l.name, l.port))
		protocols = append(protocols, l.name+":"+l.protocol)
		ports = append(ports, l.exposed())
		if strings.HasPrefix(l.protocol, "SASL") && l != bearerListener {
			env[l.key("PLAIN_SASL_JAAS_CONFIG")] = fmt.Sprintf("org.apache.kafka.common.security.plain.PlainLoginModule required user_%s=%q;", brokerUser, brokerPassword)
			for _, mechanism := range []string{"256", "512"} {
				env[l.key("SCRAM___SHA___"+mechanism+"_SASL_JAAS_CONFIG")] = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
			}
		}
	}
	env["KAFKA_LISTENERS"] = strings.Join(binds, ",")
	env["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"] = strings.Join(protocols, ",")
	var content []testcontainers.ContainerFile
	for path, b := range files {
		content = append(content, testcontainers.ContainerFile{Reader: bytes.NewReader(b), ContainerFilePath: path, FileMode: 0o644})
	}
	return []testcontainers.ContainerCustomizer{
		testcontainers.WithExposedPorts(ports...),
		testcontainers.WithEnv(env),
		testcontainers.WithEntrypoint("sh"),
		testcontainers.WithCmd("-c", "until [ -f "+startScript+" ]; do sleep 0.05; done; while :; do bash "+startScript+" & echo $! >"+processID+"; wait; while [ -f "+hold+" ]; do sleep 0.05; done; done"),
		testcontainers.WithFiles(content...),
		testcontainers.WithLifecycleHooks(testcontainers.ContainerLifecycleHooks{PostStarts: []testcontainers.ContainerHook{b.advertise}}),
	}
}

// key is the environment variable of a setting of this listener.
func (l listener) key(setting string) string { return "KAFKA_LISTENER_NAME_" + l.name + "_" + setting }

func (l listener) exposed() string { return fmt.Sprintf("%d/tcp", l.port) }

// advertise tells the broker under which ports it is reached, which starts it.
func (b *broker) advertise(ctx context.Context, c testcontainers.Container) error {
	advertised := []string{"INSIDE://localhost:19092"}
	for _, l := range listeners {
		if err := wait.ForMappedPort(l.exposed()).WaitUntilReady(ctx, c); err != nil {
			return err
		}
		endpoint, err := c.PortEndpoint(ctx, l.exposed(), "")
		if err != nil {
			return err
		}
		if l == frailListener {
			if b.frail, err = newProxy(endpoint); err != nil {
				return err
			}
			endpoint = b.frail.Listen
		}
		b.endpoints[l] = endpoint
		advertised = append(advertised, l.name+"://"+endpoint)
	}
	script := "#!/bin/bash\nexport KAFKA_ADVERTISED_LISTENERS=" + strings.Join(advertised, ",") + "\nexec /etc/kafka/docker/run\n"
	return c.CopyToContainer(ctx, []byte(script), startScript, 0o755)
}

// prepare waits until the broker answers, and makes the user known to SCRAM.
func (b *broker) prepare(ctx context.Context) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(b.endpoints[clearListener]))
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		err := b.addUser(ctx, admin)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waiting for Kafka to answer: %w", err)
		}
	}
}

func (b *broker) addUser(ctx context.Context, admin *kadm.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, m := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} { // one request takes a user once
		user := kadm.UpsertSCRAM{User: brokerUser, Mechanism: m, Iterations: 4096, Password: brokerPassword}
		altered, err := admin.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{user})
		if err == nil {
			err = altered.Error()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// exec runs a command in the container.
func (b *broker) exec(ctx context.Context, command string) error {
	code, _, err := b.container.Exec(ctx, []string{"sh", "-c", command})
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d", code)
	}
	if err != nil {
		return fmt.Errorf("%s in the broker's container: %w", command, err)
	}
	return nil
}

// down takes the broker away with kill -9 for a while, and waits until it answers again.
func (b *broker) down(ctx context.Context, gone time.Duration) error {
	if err := b.exec(ctx, "touch "+hold); err != nil {
		return err
	}
	time.AfterFunc(gone, func() { _ = b.exec(ctx, "rm -f "+hold) })
	return b.restart(ctx, "9")
}

// restart ends the broker's process by a signal and waits until the next one answers.
func (b *broker) restart(ctx context.Context, signal string) error {
	if err := b.exec(ctx, "kill -"+signal+" $(cat "+processID+")"); err != nil {
		return err
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(b.brokers()...))
	if err != nil {
		return err
	}
	defer client.Close()
	for down := false; ; time.Sleep(50 * time.Millisecond) {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := client.Ping(try)
		cancel()
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("waiting for the broker to answer again: %w", cmp.Or(err, ctx.Err()))
		case err != nil:
			down = true
		case down:
			return nil
		}
	}
}

// keepFrom takes a topic from one user.
func (b *broker) keepFrom(t testing.TB, topic, user string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.brokers()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	rule := kadm.NewACLs().Topics(topic).Deny("User:" + user).DenyHosts().Operations(kadm.OpAll).ResourcePatternType(kadm.ACLPatternLiteral)
	created, err := kadm.NewClient(client).CreateACLs(t.Context(), rule)
	for _, c := range created {
		err = errors.Join(err, c.Err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// brokers are the bootstrap addresses of the listener without encryption and password.
func (b *broker) brokers() []string { return []string{b.endpoints[clearListener]} }
