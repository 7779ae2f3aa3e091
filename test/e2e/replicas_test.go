//go:build unix

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkadelta/internal/kafkatest"
)

// heldBack in a node's container keeps its process from being started again.
const heldBack = "/tmp/held-back"

// cluster is a real Kafka of three nodes, each in a container and a rack of its own. The first one is also the controller, and never ends.
type cluster struct {
	t     *testing.T
	nodes map[int32]testcontainers.Container
	addrs []string
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	realKafka(t) // skips or fails where there is no Docker
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	net, err := network.New(ctx)
	if err != nil {
		t.Fatalf("making a network: %v", err)
	}
	t.Cleanup(func() {
		if err := net.Remove(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("removing the network: %v", err)
		}
	})
	c := &cluster{t: t, nodes: map[int32]testcontainers.Container{}}
	for id := int32(1); id <= 3; id++ {
		node, err := testcontainers.Run(ctx, kafkaImage(), append(c.options(id), network.WithNetwork([]string{nodeName(id)}, net))...)
		if node != nil {
			testcontainers.CleanupContainer(t, node, testcontainers.StopTimeout(0))
		}
		if err != nil {
			t.Fatalf("starting %s: %v", nodeName(id), err)
		}
		c.nodes[id] = node
	}
	c.until("all nodes have joined", func(brokers kadm.BrokerDetails, _ kadm.TopicDetails) bool { return len(brokers) == 3 })
	return c
}

func nodeName(id int32) string { return fmt.Sprintf("kafka-%d", id) }

func rackOf(id int32) string { return fmt.Sprintf("zone-%d", id) }

// options describe a node, which starts when its script is there: see broker.options.
func (c *cluster) options(id int32) []testcontainers.ContainerCustomizer {
	env := map[string]string{
		"CLUSTER_ID":                             "6M7h4oTiU-fNDuL--Y97tx",
		"KAFKA_NODE_ID":                          fmt.Sprint(id),
		"KAFKA_PROCESS_ROLES":                    "broker",
		"KAFKA_INTER_BROKER_LISTENER_NAME":       "INSIDE",
		"KAFKA_CONTROLLER_LISTENER_NAMES":        "CONTROLLER",
		"KAFKA_CONTROLLER_QUORUM_VOTERS":         "1@" + nodeName(1) + ":19093",
		"KAFKA_LISTENERS":                        "INSIDE://0.0.0.0:19092,CLEAR://0.0.0.0:9092",
		"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP":   "INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT,CLEAR:PLAINTEXT",
		"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "3", // the first node has it, whatever happens to the others
		"KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS":     "1",
		"KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
		"KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS":     "1000",
		"KAFKA_BROKER_HEARTBEAT_INTERVAL_MS":     "500",
		"KAFKA_BROKER_SESSION_TIMEOUT_MS":        "3000", // so that a node that was killed is soon out of the replicas in sync
		"KAFKA_BROKER_RACK":                      rackOf(id),
		"KAFKA_REPLICA_SELECTOR_CLASS":           "org.apache.kafka.common.replica.RackAwareReplicaSelector",
		"KAFKA_LOG_INITIAL_TASK_DELAY_MS":        "3600000", // retention removes nothing, but on the third node
		"KAFKA_HEAP_OPTS":                        "-Xmx256m",
	}
	if id == 3 {
		env["KAFKA_LOG_INITIAL_TASK_DELAY_MS"], env["KAFKA_LOG_RETENTION_CHECK_INTERVAL_MS"] = "500", "50"
	}
	if id == 1 {
		env["KAFKA_PROCESS_ROLES"] = "broker,controller"
		env["KAFKA_LISTENERS"] += ",CONTROLLER://0.0.0.0:19093"
	}
	loop := "until [ -f " + startScript + " ]; do sleep 0.05; done; " +
		"while :; do while [ -f " + heldBack + " ]; do sleep 0.05; done; bash " + startScript + " & echo $! >" + processID + "; wait; done"
	return []testcontainers.ContainerCustomizer{
		testcontainers.WithExposedPorts("9092/tcp"),
		testcontainers.WithEnv(env),
		testcontainers.WithEntrypoint("sh"),
		testcontainers.WithCmd("-c", loop),
		testcontainers.WithLifecycleHooks(testcontainers.ContainerLifecycleHooks{PostStarts: []testcontainers.ContainerHook{
			func(ctx context.Context, node testcontainers.Container) error {
				if err := wait.ForMappedPort("9092/tcp").WaitUntilReady(ctx, node); err != nil {
					return err
				}
				endpoint, err := node.PortEndpoint(ctx, "9092/tcp", "")
				if err != nil {
					return err
				}
				c.addrs = append(c.addrs, endpoint)
				script := "#!/bin/bash\nexport KAFKA_ADVERTISED_LISTENERS=INSIDE://" + nodeName(id) + ":19092,CLEAR://" + endpoint + "\nexec /etc/kafka/docker/run\n"
				return node.CopyToContainer(ctx, []byte(script), startScript, 0o755)
			},
		}}),
	}
}

// createTopic makes a topic of one partition, whose leader is the second node, with a copy on the third.
func (c *cluster) createTopic(topic string, configs map[string]string) {
	c.t.Helper()
	request := kmsg.NewPtrCreateTopicsRequest()
	request.TimeoutMillis = 30_000
	created := kmsg.NewCreateTopicsRequestTopic()
	created.Topic, created.NumPartitions, created.ReplicationFactor = topic, -1, -1
	created.ReplicaAssignment = []kmsg.CreateTopicsRequestTopicReplicaAssignment{{Partition: 0, Replicas: []int32{2, 3}}}
	for name, value := range configs {
		config := kmsg.NewCreateTopicsRequestTopicConfig()
		config.Name, config.Value = name, new(value)
		created.Configs = append(created.Configs, config)
	}
	request.Topics = append(request.Topics, created)
	if answer, err := request.RequestWith(c.t.Context(), c.client()); err != nil || answer.Topics[0].ErrorCode != 0 {
		c.t.Fatalf("creating topic %s: %+v, %v", topic, answer, err)
	}
	c.until("both replicas are in sync", leads(topic, 2, 2, 3))
}

// leads is for until: the leader of a topic of createTopic, and the nodes that are in sync.
func leads(topic string, leader int32, inSync ...int32) func(kadm.BrokerDetails, kadm.TopicDetails) bool {
	return func(_ kadm.BrokerDetails, topics kadm.TopicDetails) bool {
		p := topics[topic].Partitions[0]
		slices.Sort(p.ISR)
		return p.Leader == leader && slices.Equal(p.ISR, inSync)
	}
}

// client lives as long as the test.
func (c *cluster) client() *kgo.Client {
	c.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.addrs...))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(client.Close)
	return client
}

// kill ends the node's process, which stays away until revive.
func (c *cluster) kill(id int32) {
	c.t.Helper()
	c.in(id, "touch "+heldBack+"; kill -KILL $(cat "+processID+")")
}

func (c *cluster) revive(id int32) {
	c.t.Helper()
	c.in(id, "rm "+heldBack)
}

func (c *cluster) in(id int32, command string) {
	c.t.Helper()
	if code, _, err := c.nodes[id].Exec(c.t.Context(), []string{"sh", "-c", command}); err != nil || code != 0 {
		c.t.Fatalf("%q in %s: exit code %d, %v", command, nodeName(id), code, err)
	}
}

// until waits for a state of the cluster, as its controller tells it.
func (c *cluster) until(what string, is func(kadm.BrokerDetails, kadm.TopicDetails) bool) {
	c.t.Helper()
	a := admin(c.t, c.addrs)
	var err error
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		var m kadm.Metadata
		ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
		m, err = a.Metadata(ctx)
		cancel()
		if err == nil && is(m.Brokers, m.Topics) {
			return
		}
	}
	c.t.Fatalf("waited in vain until %s: %v", what, err)
}

// TestReplicas is of a real Kafka whose nodes differ in what they have.
func TestReplicas(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	t.Run("a follower that has deleted earlier", c.followerThatHasDeletedEarlier)
	t.Run("an unclean election", c.uncleanElection)
}

// followerThatHasDeletedEarlier: a worker reads from a follower, for it is in its rack, and the follower's retention is ahead of the leader's.
// That the follower does not have the next offset any more is no loss: the leader has it.
func (c *cluster) followerThatHasDeletedEarlier(t *testing.T) {
	c.t = t
	const topic, follower = "follower", 3
	c.createTopic(topic, map[string]string{"retention.ms": "-1"})
	g := &guarded{t: t, sent: messages{}, stream: stream{
		name: "e2e-" + topic, topic: topic, brokers: c.addrs, table: filepath.Join(t.TempDir(), "table"), schema: numberSchema,
		source: "  session_timeout: 30s\n  client_id: near\n  rack: " + rackOf(follower) + "\n",
	}}
	g.config = g.write(t)
	g.made = time.Now().Add(-10 * 24 * time.Hour) // old enough to be removed
	retention := func(time time.Duration) {
		t.Helper()
		config := kadm.AlterConfig{Op: kadm.SetConfig, Name: "retention.ms", Value: new(fmt.Sprint(time.Milliseconds()))}
		if answer, err := admin(t, c.addrs).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{config}, topic); err != nil || answer[0].Err != nil {
			t.Fatalf("setting the topic's retention: %+v, %v", answer, err)
		}
	}
	until := func(what string, is func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("waited in vain until %s", what)
			}
		}
	}
	c.logRequests(follower, "DEBUG")
	defer c.logRequests(follower, "INFO")
	client := c.client()
	p := g.assigned()
	refused := 0
	for rounds := 0; refused == 0 && rounds < 8; rounds++ { // the worker may just have gone back to the leader, as it does now and then
		retention(100 * 24 * time.Hour)
		g.produce(20, 0)
		until("the worker waits for more", func() bool { return readLog(t, g.table, g.name).rows == int64(len(g.sent)) })
		p.signal(syscall.SIGSTOP)
		for range 3 { // of which one may be on its way to the worker
			g.produce(10, 0)
		}
		retention(24 * time.Hour)
		until("the follower's retention has removed all", func() bool { return c.firstOffset(client, follower, topic) == int64(len(g.sent)) })
		p.signal(syscall.SIGCONT)
		until("all messages are in the table", func() bool { return readLog(t, g.table, g.name).rows == int64(len(g.sent)) })
		refused = c.refusals(follower, "near")
	}
	if first := c.firstOffset(client, 2, topic); first != 0 || refused == 0 {
		t.Errorf("the leader's log begins at offset %d, want 0; the follower has refused %d fetches, want some", first, refused)
	}
	g.stop(p)
	g.whole()
	t.Logf("the follower has refused %d fetches", refused)
}

// firstOffset is where the log of the topic's partition begins on a node, be it the leader or not.
func (c *cluster) firstOffset(client *kgo.Client, node int32, topic string) int64 {
	c.t.Helper()
	partition := kmsg.NewListOffsetsRequestTopicPartition()
	partition.Timestamp = -2 // the first one
	of := kmsg.NewListOffsetsRequestTopic()
	of.Topic, of.Partitions = topic, append(of.Partitions, partition)
	request := kmsg.NewPtrListOffsetsRequest()
	request.ReplicaID = -2 // as a tool for debugging, which followers answer, too
	request.Topics = append(request.Topics, of)
	answer, err := client.Broker(int(node)).RetriableRequest(c.t.Context(), request)
	if err != nil {
		c.t.Fatalf("asking %s for its first offset: %v", nodeName(node), err)
	}
	p := answer.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		c.t.Fatalf("asking %s for its first offset: error code %d", nodeName(node), p.ErrorCode)
	}
	return p.Offset
}

// logRequests sets the level of a node's log of requests, which tells each of them at DEBUG.
func (c *cluster) logRequests(node int32, level string) {
	c.t.Helper()
	config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	config.Name, config.Op, config.Value = "kafka.request.logger", kmsg.IncrementalAlterConfigOpSet, new(level)
	logger := kmsg.NewIncrementalAlterConfigsRequestResource()
	logger.ResourceType, logger.ResourceName, logger.Configs = kmsg.ConfigResourceTypeBrokerLogger, fmt.Sprint(node), append(logger.Configs, config)
	request := kmsg.NewPtrIncrementalAlterConfigsRequest()
	request.Resources = append(request.Resources, logger)
	answer, err := c.client().Broker(int(node)).RetriableRequest(c.t.Context(), request)
	if err != nil {
		c.t.Fatalf("setting the level of a logger of %s: %v", nodeName(node), err)
	}
	if r := answer.(*kmsg.IncrementalAlterConfigsResponse).Resources[0]; r.ErrorCode != 0 {
		c.t.Fatalf("setting the level of a logger of %s: %+v", nodeName(node), r)
	}
}

// refusals is how many fetches of a client the node has refused, since their offset is out of range, by its log of requests.
func (c *cluster) refusals(node int32, client string) (n int) {
	c.t.Helper()
	logs, err := c.nodes[node].Logs(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	defer logs.Close()
	lines := bufio.NewScanner(logs)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		line := lines.Text()
		if strings.Contains(line, `"requestApiKeyName":"FETCH"`) && strings.Contains(line, `"clientId":"`+client+`"`) &&
			strings.Contains(line, fmt.Sprintf(`"errorCode":%d,`, kerr.OffsetOutOfRange.Code)) {
			n++
		}
	}
	return n
}

// uncleanElection has a broker that lacks messages become the leader: what the table has taken is not in Kafka any
// more, and new messages get the same offsets. The worker that runs notices, a start notices, and what the error says to do loses nothing.
func (c *cluster) uncleanElection(t *testing.T) {
	c.t = t
	const topic = "unclean"
	c.createTopic(topic, map[string]string{"unclean.leader.election.enable": "true"})

	g := &guarded{t: t, sent: messages{}, stream: stream{
		name: "e2e-" + topic, topic: topic, brokers: c.addrs, table: filepath.Join(t.TempDir(), "table"), schema: numberSchema, source: shortTimeouts,
	}}
	g.config = g.write(t)
	g.produce(20, 0)
	untilEnd(t, g.config)

	c.kill(3)
	c.until("one replica is in sync", leads(topic, 2, 2))
	running := run(t, g.config)
	g.produce(20, 0) // which the other one never has
	running.waitCommit(1)
	c.kill(2)
	c.revive(3)
	c.until("the replica that lacks messages leads", leads(topic, 3, 3))

	var others []*kgo.Record // more than the table has taken: an end of the log that looks as it should
	for n := range 30 {
		others = append(others, &kgo.Record{Topic: topic, Value: number(1000 + n)})
	}
	kafkatest.ProduceRecords(t, c.addrs, others)
	if others[0].Offset != 20 {
		t.Fatalf("the first new message has offset %d, want 20: nothing was cut back", others[0].Offset)
	}
	words := []string{topic + "[0]", "cut back", "unclean leader election", "up to offset 39", "from offset 20 on", "connector rewind --to-offsets 0=20"}
	g.refused(running, exitRefused, words...)
	expect(t, topic, g.sent, nil).check(t, g.table)

	c.revive(2) // it follows the new leader, and forgets what the table has
	c.until("both replicas are in sync", leads(topic, 3, 2, 3))
	g.refused(run(t, g.config), exitRefused, words...)
	command(t, exitOK, "rewind", "-c", g.config, "--to-offsets", "0=20", "--yes")
	untilEnd(t, g.config)
	wantVerified(t, g.config, g.table)
	if got := reader(t, "distinct.py", g.table, "n"); got != "70 70" {
		t.Errorf("the table has %s rows and distinct ones, want the 40 of before and the 30 new ones, each once", got)
	}
}
