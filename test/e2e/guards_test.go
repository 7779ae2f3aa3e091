package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkadelta/internal/kafkatest"
)

// guarded is a stream of a new topic on the real broker, with a table that has its first messages.
type guarded struct {
	t *testing.T
	stream
	config string
	admin  *kadm.Client
	sent   messages  // that must be rows
	made   time.Time // of messages that come; zero: now
}

func newGuarded(t *testing.T, topic string, partitions int32, change ...func(*stream)) *guarded {
	t.Helper()
	kafka := realKafka(t)
	createTopic(t, kafka.brokers(), topic, partitions)
	g := &guarded{t: t, admin: admin(t, kafka.brokers()), sent: messages{}, stream: stream{
		name: "e2e-" + topic, topic: topic, brokers: kafka.brokers(), table: filepath.Join(t.TempDir(), "table"), schema: numberSchema,
		source: shortTimeouts,
	}}
	for _, f := range change {
		f(&g.stream)
	}
	g.config = g.write(t)
	g.produce(20, 0, 1)
	untilEnd(t, g.config)
	return g
}

// produce sends n messages to each of the partitions.
func (g *guarded) produce(n int, partitions ...int32) {
	g.t.Helper()
	var records []*kgo.Record
	for _, p := range partitions {
		for range n {
			records = append(records, &kgo.Record{Topic: g.topic, Partition: p, Timestamp: g.made, Value: number(len(g.sent) + len(records))})
		}
	}
	kafkatest.ProduceRecords(g.t, g.brokers, records)
	for _, r := range records {
		g.sent[place{r.Partition, r.Offset}] = r.Value
	}
}

// remove has Kafka delete what is before the offset.
func (g *guarded) remove(partition int32, before int64) {
	g.t.Helper()
	offsets := kadm.Offsets{}
	offsets.AddOffset(g.topic, partition, before, -1)
	answer, err := g.admin.DeleteRecords(g.t.Context(), offsets)
	if err == nil {
		err = answer.Error()
	}
	if err != nil {
		g.t.Fatalf("deleting records: %v", err)
	}
}

// assigned starts a worker, and waits until it has its partitions.
func (g *guarded) assigned() *process {
	g.t.Helper()
	p := run(g.t, g.config)
	p.waitFor("assignment", 30*time.Second, func(l logLine) bool { return l.msg() == "partitions assigned" })
	return p
}

// stop ends a worker in order.
func (g *guarded) stop(p *process) {
	g.t.Helper()
	p.signal(stopSignal)
	p.wantExit(exitOK, 30*time.Second)
}

// refused wants the run to end with the code, and the last line to have all of the words.
func (g *guarded) refused(p *process, code int, words ...string) {
	g.t.Helper()
	p.wantExit(code, 2*time.Minute)
	for _, word := range words {
		if last := p.tail(1); !strings.Contains(last, word) {
			g.t.Errorf("the last line does not say %q: %s", word, last)
		}
	}
}

// whole wants each message to be a row, once, and verify to agree.
func (g *guarded) whole() verification {
	g.t.Helper()
	expect(g.t, g.topic, g.sent, nil).check(g.t, g.table)
	return wantVerified(g.t, g.config, g.table)
}

// log is the text of all versions from the first on.
func (g *guarded) log() string {
	g.t.Helper()
	var text strings.Builder
	for v := int64(0); ; v++ {
		b, err := os.ReadFile(commitFile(g.table, v))
		if errors.Is(err, fs.ErrNotExist) && v > 0 {
			return text.String()
		}
		if err != nil {
			g.t.Fatal(err)
		}
		text.Write(b)
	}
}

// commit puts a version of another writer.
func (g *guarded) commit(lines ...string) {
	g.t.Helper()
	version := readLog(g.t, g.table, g.name).version + 1
	if err := os.WriteFile(commitFile(g.table, version), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

func TestGuardRetention(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "guard-retention", 2)
	g.produce(20, 0, 1)
	g.remove(0, 35)
	begun := time.Now()
	g.refused(run(t, g.config), exitRefused, "guard-retention[0]", "offsets 20 to 34 (15)", "source.on_data_loss: continue")
	if took := time.Since(begun); took < 30*time.Second {
		t.Errorf("refused after %v, before its leader was asked for 30 s", took)
	}
	g.source += "  on_data_loss: continue\n"
	g.config = g.write(t)
	g.produce(5, 0)
	untilEnd(t, g.config)
	for offset := int64(20); offset < 35; offset++ {
		delete(g.sent, place{0, offset})
	}
	v := g.whole()
	if len(v.Partitions) != 2 || v.Partitions[0].Lost != 15 || v.Partitions[1].Lost != 0 {
		t.Errorf("verify tells of %+v, want 15 lost offsets of partition 0", v.Partitions)
	}
	if _, output := foreignVerify(t, g.table); !strings.Contains(output, "15 offsets lost") {
		t.Errorf("verify.py says: %s", output)
	}
	out, err := exec.Command(binary, "explain", "-c", g.config, "0", "30").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "15 offsets that Kafka had deleted before they were read") {
		t.Errorf("explain says: %s, %v", out, err)
	}
}

// TestGuardMarkersAtTheEdge has retention remove nothing but the marker of an aborted transaction, and what was aborted.
func TestGuardMarkersAtTheEdge(t *testing.T) {
	g := newGuarded(t, "guard-markers", 2)
	producer, err := kgo.NewClient(kgo.SeedBrokers(g.brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID("guard-markers"))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	if err := producer.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := producer.ProduceSync(t.Context(), &kgo.Record{Topic: g.topic, Partition: 0, Value: number(0)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := producer.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	p := run(t, g.config)
	g.produce(5, 1) // a commit of another partition takes the marker along
	p.waitCommit(1)
	g.stop(p)
	g.remove(0, 22)
	g.produce(5, 0)
	untilEnd(t, g.config)
	g.whole()
}

func TestGuardBeyondTheEnd(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "guard-beyond", 2)
	g.commit(`{"txn":{"appId":"e2e-guard-beyond-0","version":99}}`)
	g.source += "  on_data_loss: continue\n"
	g.refused(run(t, g.write(t)), exitRefused, "guard-beyond[0]", "up to offset 99", "ends at 19", "connector rewind")
}

// TestGuardLeaderEpoch looks whether a real broker's epochs are kept, and asked for without a false alarm. TestReplicas has a log that is cut back.
func TestGuardLeaderEpoch(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "guard-epoch", 2)
	found := regexp.MustCompile(`"appId":"e2e-guard-epoch#leader/0","version":0[,}]`)
	if n := len(found.FindAllString(g.log(), -1)); n != 1 {
		t.Errorf("the leader epoch is in the log %d times, want once", n)
	}
	g.produce(5, 0, 1)
	untilEnd(t, g.config)
	g.commit(`{"txn":{"appId":"e2e-guard-epoch#leader/0","version":7}}`) // as if the brokers had forgotten later epochs
	g.produce(5, 0)
	g.refused(run(t, g.config), exitRefused, "guard-epoch[0]", "leader epoch 7", "unclean leader election")
}

// TestGuardAnotherCluster fills a table from one cluster and goes on with another, which has a topic of the name.
func TestGuardAnotherCluster(t *testing.T) {
	g := newGuarded(t, "guard-cluster", 2)
	other := kafkatest.Start(t, "guard-cluster", 2)
	kafkatest.Produce(t, other.ListenAddrs(), "guard-cluster", 2, numbers(100))
	elsewhere := g.stream
	elsewhere.brokers = other.ListenAddrs()
	g.refused(run(t, elsewhere.write(t)), exitRefused, "cluster 5L6g3nShT-eMCtK--X86sw", "made anew")
	g.produce(5, 0, 1)
	untilEnd(t, g.config)
	g.whole()
}

func TestGuardTwoTopicsUnderOneName(t *testing.T) {
	g := newGuarded(t, "guard-name", 2)
	createTopic(t, g.brokers, "guard-name-other", 2)
	p := g.assigned()
	other := g.stream
	other.topic = "guard-name-other"
	g.refused(run(t, other.write(t)), exitRefused, "another stream has the same name")
	g.produce(5, 0, 1)
	p.waitCommit(1)
	g.stop(p)
	g.whole()
}

func TestGuardTableThatVanished(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "guard-vanished", 2)
	p := g.assigned()
	if err := os.RemoveAll(g.table); err != nil {
		t.Fatal(err)
	}
	g.refused(p, exitTable, "log is gone", "removed, moved, or is not mounted")
	if _, err := os.Stat(filepath.Join(g.table, "_delta_log")); err == nil {
		t.Error("the log was made anew")
	}
	g.refused(run(t, g.config), exitRefused, "the consumer group has reported offsets", "check table.uri")
}

// TestGuardTxnThatWasLost takes the txn of a partition out of the log, as an expiry does.
func TestGuardTxnThatWasLost(t *testing.T) {
	g := newGuarded(t, "guard-txn", 2)
	for v := range readLog(t, g.table, g.name).version + 1 {
		name := filepath.Join(g.table, "_delta_log", fmt.Sprintf("%020d.json", v))
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		kept := regexp.MustCompile(`(?m)^\{"txn":\{"appId":"e2e-guard-txn(-1|#topic/[^"]*)".*\n`).ReplaceAll(b, nil)
		if err := os.WriteFile(name, kept, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(strings.TrimSuffix(name, ".json") + ".crc")
	}
	// Without the identity the table looks like one of kafka-delta-ingest, where a partition may have none: the group knows better.
	g.refused(run(t, g.config), exitRefused, "no offset of partition 1", "was reported to the consumer group")
}

// TestGuardFewerPartitions has a topic deleted and made anew with fewer partitions behind the stream. What the refusal says to do begins with it.
func TestGuardFewerPartitions(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "guard-fewer", 3)
	p := g.assigned()
	if _, err := g.admin.DeleteTopic(t.Context(), g.topic); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := g.admin.CreateTopic(t.Context(), 2, 1, nil, g.topic); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	words := []string{"belong to topic id", "made anew", "connector rewind --to earliest --new-topic"}
	g.refused(p, exitRefused, words...)
	g.refused(run(t, g.config), exitRefused, words...)
	g.produce(10, 0, 1)
	command(t, exitOK, "rewind", "-c", g.config, "--to", "earliest", "--new-topic", "--yes")
	untilEnd(t, g.config)
	wantVerified(t, g.config, g.table)
	if got := reader(t, "distinct.py", g.table, "n"); got != "60 60" {
		t.Errorf("the table has %s rows and distinct ones, want the 40 of the first topic and the 20 of the second, each once", got)
	}
}

// TestGuardPartitionsThatAreGone is of one and the same topic: more partitions were pinned than the brokers tell of.
func TestGuardPartitionsThatAreGone(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "guard-gone", 2)
	identity := regexp.MustCompile(`"appId":"(e2e-guard-gone#topic/[^"]+)"`).FindStringSubmatch(g.log())
	g.commit(fmt.Sprintf(`{"txn":{"appId":%q,"version":3}}`, identity[1]), `{"txn":{"appId":"e2e-guard-gone-2","version":19}}`)
	begun := time.Now()
	g.refused(run(t, g.config), exitRefused, "has 2 partitions, but 3 partitions", "made anew with fewer partitions", "connector retire")
	if took := time.Since(begun); took < 30*time.Second {
		t.Errorf("refused after %v, before the brokers were asked for 30 s", took)
	}
}

// TestGuardTxnRetention has log checkpoints forget offsets after some seconds. Those of a partition that rests are kept fresh.
func TestGuardTxnRetention(t *testing.T) {
	t.Parallel()
	const retention = 6 * time.Second
	g := newGuarded(t, "guard-expiry", 2, func(s *stream) {
		s.interval = 100 * time.Millisecond
		s.properties = fmt.Sprintf(`{delta.setTransactionRetentionDuration: "interval %d seconds", delta.checkpointInterval: "5"}`, int(retention.Seconds()))
	})
	p := g.assigned()
	for begun := time.Now(); time.Since(begun) < 2*retention; time.Sleep(100 * time.Millisecond) {
		g.produce(1, 0)
	}
	g.stop(p)
	p.waitFor("a log checkpoint", time.Second, func(l logLine) bool { return l.msg() == "a log checkpoint is written" })
	g.produce(5, 0, 1)
	untilEnd(t, g.config)
	expect(t, g.topic, g.sent, nil).check(t, g.table)
	if v, code := verifyWith(t, "-c", g.config); code != exitOK || v.Rows != int64(len(g.sent)) { // delta-rs has forgotten txns by now
		t.Errorf("verify ends with %d and tells of %d rows, want %d", code, v.Rows, len(g.sent))
	}
}

// TestPartitionsAreAdded adds partitions to a topic under a running worker and under a stopped one, of which retention removes messages before a
// worker comes.
func TestPartitionsAreAdded(t *testing.T) {
	g := newGuarded(t, "guard-added", 2)
	add := func(to int) {
		t.Helper()
		answer, err := g.admin.UpdatePartitions(t.Context(), to, g.topic)
		if err == nil {
			err = answer.Error()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	g.source += "  start: latest\n" // of the topic, not of partitions that come later
	g.config = g.write(t)
	p := g.assigned()
	add(4)
	g.produce(10, 2, 3)
	p.waitCommit(1)
	g.stop(p)
	add(5)
	g.produce(10, 0, 1, 2, 3, 4)
	g.remove(4, 3) // which no worker has met
	g.refused(run(t, g.config), exitRefused, "guard-added[4]", "offsets 0 to 2 (3)", "source.on_data_loss: continue")
	g.source += "  on_data_loss: continue\n"
	g.config = g.write(t)
	untilEnd(t, g.config)
	for offset := range int64(3) {
		delete(g.sent, place{4, offset})
	}
	if v := g.whole(); len(v.Partitions) != 5 || v.Partitions[4].Lost != 3 {
		t.Errorf("verify tells of %+v, want 3 lost offsets of partition 4", v.Partitions)
	}
}

// TestStaticMembership restarts a worker that has an instance id within the session timeout: the partitions of the others don't move.
func TestStaticMembership(t *testing.T) {
	g := newGuarded(t, "guard-static", 4)
	member := func(id string) string {
		s := g.stream
		s.source = "  session_timeout: 20s\n  rebalance_timeout: 5s\n  instance_id: " + id + "\n"
		return s.write(t)
	}
	moves := func(p *process) (n int) {
		for _, l := range p.log() {
			if l.msg() == "partitions assigned" || l.msg() == "partitions revoked" {
				n++
			}
		}
		return n
	}
	assigned := func(l logLine) bool { return l.msg() == "partitions assigned" }
	a := run(t, member("a"))
	a.waitFor("assignment", 30*time.Second, assigned)
	b := run(t, member("b"))
	b.waitFor("assignment", 60*time.Second, assigned)
	before := moves(a)
	b.kill()
	b.wantExit(killedCode, 10*time.Second)
	b = run(t, member("b"))
	b.waitFor("assignment", 30*time.Second, assigned)
	g.produce(10, 0, 1, 2, 3)
	for deadline := time.Now().Add(30 * time.Second); readLog(t, g.table, g.name).rows < int64(len(g.sent)); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not all messages are in the table")
		}
	}
	if after := moves(a); after != before {
		t.Errorf("the other worker was given or lost partitions %d times while one was restarted", after-before)
	}
	twin := run(t, member("b")) // takes the id over: the one before must not go on
	b.wantExit(exitSource, 60*time.Second)
	if last := b.tail(1); !strings.Contains(last, "source.instance_id") {
		t.Errorf("the last line does not say what to do: %s", last)
	}
	for _, p := range []*process{a, twin} {
		p.signal(stopSignal)
		p.wantExit(exitOK, 30*time.Second)
	}
	g.whole()
}

// TestGroupOfTheBroker has the broker share out the partitions (KIP-848), while workers join and leave under load.
func TestGroupOfTheBroker(t *testing.T) {
	kafka := realKafka(t)
	const topic = "group-848"
	createTopic(t, kafka.brokers(), topic, 6)
	l := startLoad(t, kafka.brokers(), topic, 6, 1000, number)
	s := stream{
		name: "e2e-" + topic, topic: topic, brokers: kafka.brokers(), table: filepath.Join(t.TempDir(), "table"), schema: numberSchema,
		interval: 100 * time.Millisecond, source: shortTimeouts + "  group_protocol: consumer\n",
	}
	config := s.write(t)
	var members []*process
	for range 3 {
		p := run(t, config)
		p.waitCommit(2)
		members = append(members, p)
	}
	if kind := groupType(t, kafka.brokers(), s.name); kind != "consumer" {
		t.Errorf("the group is of type %q, want one that the broker shares out", kind)
	}
	for _, p := range members[:2] {
		p.signal(stopSignal)
		p.wantExit(exitOK, 30*time.Second)
		last := run(t, config)
		last.waitCommit(2)
		members = append(members, last)
	}
	sent := l.stop()
	for _, p := range members[2:] {
		p.signal(stopSignal)
		p.wantExit(exitOK, 30*time.Second)
	}
	untilEnd(t, config)
	readLog(t, s.table, s.name).wantNext(t, sent.next())
	expect(t, topic, sent, nil).check(t, s.table)
}

func groupType(t *testing.T, brokers []string, group string) string {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	answer, err := kmsg.NewPtrListGroupsRequest().RequestWith(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range answer.Groups {
		if g.Group == group {
			return g.GroupType
		}
	}
	return ""
}
