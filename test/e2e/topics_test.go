package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// peakMemory is the most that a process has had resident, in bytes, as Linux tells.
func peakMemory(t testing.TB, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	t.Fatal("the kernel tells no VmHWM")
	return 0
}

// TestFiftyTopics: one process finds 50 topics by a pattern, half of them after it has started, and brings each into a table of its own,
// in less than 1 GiB, while all of them catch up at once.
func TestFiftyTopics(t *testing.T) {
	if runtime.GOOS != "linux" {
		missing(t, "the memory of a process is read from /proc")
	}
	const topics, partitions, each = 50, 2, 20_000
	kafka := realKafka(t)
	prefix := fmt.Sprintf("fifty-%d-", time.Now().UnixNano())
	client, err := kgo.NewClient(kgo.SeedBrokers(kafka.brokers()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	fill := func(from, to int) {
		t.Helper()
		for n := from; n < to; n++ {
			topic := fmt.Sprint(prefix, n)
			createTopic(t, kafka.brokers(), topic, partitions)
			var records []*kgo.Record
			for i := range each {
				records = append(records, &kgo.Record{Topic: topic, Partition: int32(i % partitions), Value: fmt.Appendf(nil, `{"n":%d,"text":"message %d of topic %d, which has some bytes to be held"}`, i, i, n)})
			}
			if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill(0, topics/2)
	folder := t.TempDir()
	config := stream{
		name: "all", brokers: kafka.brokers(), table: filepath.Join(folder, "{topic}"), schema: "n BIGINT, text STRING",
		interval: time.Second, pattern: prefix + "[0-9]+",
	}.write(t)
	p := run(t, config)
	fill(topics/2, topics)
	done := map[int]bool{}
	for deadline := time.Now().Add(4 * time.Minute); len(done) < topics; time.Sleep(time.Second) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d topics are in their tables; the last lines:\n%s", len(done), topics, p.tail(30))
		}
		for n := range topics {
			table := filepath.Join(folder, fmt.Sprint(prefix, n))
			if _, err := os.Stat(filepath.Join(table, "_delta_log")); err == nil && !done[n] {
				done[n] = readLog(t, table, fmt.Sprintf("all.%s%d", prefix, n)).rows == each
			}
			if !done[n] {
				delete(done, n)
			}
		}
	}
	peak := peakMemory(t, p.cmd.Process.Pid)
	t.Logf("%d topics with %d messages each; peak memory %d MiB", topics, each, peak>>20)
	if peak > 1<<30 {
		t.Errorf("the process had %d MiB, want less than 1 GiB", peak>>20)
	}
	p.signal(stopSignal)
	p.wantExit(exitOK, time.Minute)
	for n := range topics {
		if n%10 == 0 {
			wantVerified(t, fmt.Sprintf("%s#all.%s%d", config, prefix, n), filepath.Join(folder, fmt.Sprint(prefix, n)))
		}
	}
}
