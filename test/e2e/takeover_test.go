package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkadelta/delta"
	"kafkadelta/internal/kafkatest"
)

// reader runs one of the scripts of the readers, which must go well.
func reader(t testing.TB, script string, args ...string) string {
	t.Helper()
	out, err := exec.Command(python(t), append([]string{"-B", filepath.Join("readers", script)}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", script, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// wantNoFaults wants nothing wrong by both verifiers. Rows of another program may be there.
func wantNoFaults(t testing.TB, config, table string, code int) (otherRows int64) {
	t.Helper()
	var r struct {
		OtherRows int64 `json:"other_rows"`
	}
	cmd := exec.Command(binary, "verify", "-c", config, "-o", "json")
	out, _ := cmd.Output()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("verify ends with %d, want %d:\n%s", got, code, out)
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	if kinds, output := foreignVerify(t, table); len(kinds) > 0 {
		t.Errorf("verify.py finds\n%s", output)
	}
	return r.OtherRows
}

// txns are those of a table's newest version, by app id.
func txns(t testing.TB, table string) map[string]int64 {
	t.Helper()
	snapshot, err := delta.OpenSnapshot(t.Context(), openStore(t, table), -1)
	fatal(t, err)
	found := map[string]int64{}
	for txn := range snapshot.Txns() {
		found[txn.AppID] = txn.Version
	}
	return found
}

// TestTakeOverFromKafkaDeltaIngest goes on with a table that kafka-delta-ingest itself has filled (fixtures/make_ingest.py): one partition in the middle, one
// at its end, one without a message and hence without a txn. Each message is in the table exactly once.
func TestTakeOverFromKafkaDeltaIngest(t *testing.T) {
	const partitions = 3
	b := kafkatest.Start(t, "web_requests", partitions).ListenAddrs()
	lines := webRequests.lines(t)
	kafkatest.Produce(t, b, "web_requests", partitions, lines)
	end := dealt(lines, partitions).next()
	folder := t.TempDir()
	unzip(t, filepath.Join("..", "fixtures", "ingest.zip"), folder)
	s := stream{
		name: "web_requests", topic: "web_requests", brokers: b, table: filepath.Join(folder, "table"), interval: time.Minute,
		schema: strings.Replace(webRequests.schema, "date DATE", "date STRING", 1), partitionBy: "date",
		columns: `{date: {from: meta.producer.timestamp, cast: "substring(1, 10)"}}`,
	}
	config := s.write(t)
	if left, want := txns(t, s.table), map[string]int64{"web_requests-0": 19, "web_requests-1": 32}; !maps.Equal(left, want) || end[1] != 33 {
		t.Fatalf("kafka-delta-ingest has left the txns %v, want %v", left, want)
	}
	untilEnd(t, config)
	for p, next := range end {
		if is := txns(t, s.table)[fmt.Sprintf("web_requests-%d", p)]; is != next-1 {
			t.Errorf("the txn of partition %d is %d, want %d", p, is, next-1)
		}
	}
	if got, want := reader(t, "distinct.py", s.table, "uuid"), fmt.Sprintf("%d %d", len(lines), len(lines)); got != want {
		t.Errorf("the table has %s rows and distinct uuids, want %s", got, want)
	}
	if others := wantNoFaults(t, config, s.table, exitOK); others != 20+33 {
		t.Errorf("verify counts %d rows of others, want 53", others)
	}
	// More messages, a rewind behind the take-over, and a log that was cleaned.
	kafkatest.Produce(t, b, "web_requests", partitions, lines[:9])
	untilEnd(t, config)
	wantNoFaults(t, config, s.table, exitOK)
	command(t, exitOK, "rewind", "-c", config, "--to-offsets", "0=1", "--yes")
	untilEnd(t, config)
	wantNoFaults(t, config, s.table, exitOK)
}

// TestAdoptFromAGroup takes over from a consumer group of a real Kafka: refused while it has members, and exact after it has stopped.
func TestAdoptFromAGroup(t *testing.T) {
	kafka := realKafka(t)
	const partitions = 2
	createTopic(t, kafka.brokers(), "adopted", partitions)
	kafkatest.Produce(t, kafka.brokers(), "adopted", partitions, numbers(100))
	s := stream{
		name: "adopted", topic: "adopted", brokers: kafka.brokers(), table: filepath.Join(t.TempDir(), "table"), schema: "n BIGINT", interval: time.Minute,
	}
	config := s.write(t)
	adopt := []string{"adopt", "-c", config, "--from-group", "connect-sink"}
	refused := func(code int, want string) {
		t.Helper()
		if out := command(t, code, append(adopt, "--yes")...); !strings.Contains(out, want) {
			t.Errorf("adopt does not say %q:\n%s", want, out)
		}
	}
	refused(exitTable, "table create")
	command(t, exitOK, "table", "create", s.table, "--schema", "n BIGINT")
	refused(exitRefused, "no consumer group")

	client, err := kgo.NewClient(kgo.SeedBrokers(kafka.brokers()...), kgo.ConsumerGroup("connect-sink"), kgo.ConsumeTopics("adopted"), kgo.DisableAutoCommit())
	must(t, err)
	defer client.Close()
	for n := 0; n < 100; {
		n += client.PollFetches(t.Context()).NumRecords()
	}
	client.CommitOffsetsSync(t.Context(), map[string]map[int32]kgo.EpochOffset{"adopted": {0: {Epoch: -1, Offset: 30}, 1: {Epoch: -1, Offset: 30}}},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, _ *kmsg.OffsetCommitResponse, e error) { must(t, e) })
	refused(exitRefused, "it has members")
	client.Close()

	out := command(t, exitOK, append(adopt, "--yes")...)
	if !strings.Contains(out, "0          30         20 messages at most are waiting") {
		t.Errorf("adopt says\n%s", out)
	}
	refused(exitRefused, "connector rewind")
	untilEnd(t, config)
	if got := reader(t, "distinct.py", s.table, "n"); got != "40 40" {
		t.Errorf("the table has %s rows and distinct numbers, want 40 40", got)
	}
	wantNoFaults(t, config, s.table, exitOK)
}
