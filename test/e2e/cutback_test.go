package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkadelta/internal/kafkatest"
)

// heldBack in a node's container keeps its process from being started again.
const heldBack = "/tmp/held-back"

// cluster is a real Kafka of three nodes, each in a container of its own. The first one is also the controller, and never ends.
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
		"KAFKA_HEAP_OPTS":                        "-Xmx256m",
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

// TestUncleanElection has a broker that lacks messages become the leader, of a real Kafka: what the table has taken is not in Kafka any
// more, and new messages get the same offsets. The worker that runs notices, a start notices, and what the error says to do loses nothing.
func TestUncleanElection(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	const topic = "unclean"
	request := kmsg.NewPtrCreateTopicsRequest()
	request.TimeoutMillis = 30_000
	created := kmsg.NewCreateTopicsRequestTopic()
	created.Topic, created.NumPartitions, created.ReplicationFactor = topic, -1, -1
	created.ReplicaAssignment = []kmsg.CreateTopicsRequestTopicReplicaAssignment{{Partition: 0, Replicas: []int32{2, 3}}}
	allowed := kmsg.NewCreateTopicsRequestTopicConfig()
	allowed.Name, allowed.Value = "unclean.leader.election.enable", new("true")
	created.Configs = append(created.Configs, allowed)
	request.Topics = append(request.Topics, created)
	client, err := kgo.NewClient(kgo.SeedBrokers(c.addrs...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if answer, err := request.RequestWith(t.Context(), client); err != nil || answer.Topics[0].ErrorCode != 0 {
		t.Fatalf("creating the topic: %+v, %v", answer, err)
	}
	leads := func(leader int32, inSync ...int32) func(kadm.BrokerDetails, kadm.TopicDetails) bool {
		return func(_ kadm.BrokerDetails, topics kadm.TopicDetails) bool {
			p := topics[topic].Partitions[0]
			slices.Sort(p.ISR)
			return p.Leader == leader && slices.Equal(p.ISR, inSync)
		}
	}
	c.until("both replicas are in sync", leads(2, 2, 3))

	g := &guarded{t: t, sent: messages{}, stream: stream{
		name: "e2e-" + topic, topic: topic, brokers: c.addrs, table: filepath.Join(t.TempDir(), "table"), schema: numberSchema, source: shortTimeouts,
	}}
	g.config = g.write(t)
	g.produce(20, 0)
	untilEnd(t, g.config)

	c.kill(3)
	c.until("one replica is in sync", leads(2, 2))
	running := run(t, g.config)
	g.produce(20, 0) // which the other one never has
	running.waitCommit(1)
	c.kill(2)
	c.revive(3)
	c.until("the replica that lacks messages leads", leads(3, 3))

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
	c.until("both replicas are in sync", leads(3, 2, 3))
	g.refused(run(t, g.config), exitRefused, words...)
	command(t, exitOK, "rewind", "-c", g.config, "--to-offsets", "0=20", "--yes")
	untilEnd(t, g.config)
	wantVerified(t, g.config, g.table)
	if got := reader(t, "distinct.py", g.table, "n"); got != "70 70" {
		t.Errorf("the table has %s rows and distinct ones, want the 40 of before and the 30 new ones, each once", got)
	}
}
