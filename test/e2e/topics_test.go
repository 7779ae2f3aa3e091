package e2e

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/internal/savetest"
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

// rowsByStream sums up what the commits that a connector has logged brought.
func (p *process) rowsByStream() map[string]int {
	rows := map[string]int{}
	for _, l := range p.log() {
		if n, _ := l.fields["rows"].(float64); l.msg() == "flush committed" {
			stream, _ := l.fields["stream"].(string)
			rows[stream] += int(n)
		}
	}
	return rows
}

// TestFiftyTopics: one process finds 50 topics by a pattern, half of them after it has started, and brings each into a table of its own,
// in less than 1 GiB, while all of them catch up at once. By hand, with the numbers of results/topics.txt:
//
//	go test ./test/e2e -run TestFiftyTopics -results results/topics.txt
func TestFiftyTopics(t *testing.T) {
	if runtime.GOOS != "linux" {
		missing(t, "the memory of a process is read from /proc")
	}
	const topics, partitions, each = 50, 2, 10_000
	kafka := realKafka(t)
	prefix := fmt.Sprintf("fifty-%d-", time.Now().UnixNano())
	client, err := kgo.NewClient(kgo.SeedBrokers(kafka.brokers()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	filler := strings.Repeat("which has some bytes to be held, ", 8)
	fill := func(from, to int) {
		t.Helper()
		var names []string
		for n := from; n < to; n++ {
			names = append(names, fmt.Sprint(prefix, n))
		}
		created, err := admin(t, kafka.brokers()).CreateTopics(t.Context(), partitions, 1, nil, names...)
		if err = cmp.Or(err, created.Error()); err != nil {
			t.Fatal(err)
		}
		for n, topic := range names {
			var records []*kgo.Record
			for i := range each {
				records = append(records, &kgo.Record{Topic: topic, Partition: int32(i % partitions), Value: fmt.Appendf(nil, `{"n":%d,"text":"message %d of topic %d, %s"}`, i, i*i%9973, n, filler)})
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
		interval: 2 * time.Second, pattern: prefix + "[0-9]+", source: "  discovery_interval: 1s\n",
	}.write(t)
	p := startBinary(t, plainBinary(t), nil, nil, runArgs(config)...) // the race detector takes memory of its own
	fill(topics/2, topics)
	p.waitFor("the last row", 4*time.Minute, func(l logLine) bool {
		if l.msg() != "flush committed" {
			return false
		}
		rows := 0
		for _, n := range p.rowsByStream() {
			rows += n
		}
		return rows >= topics*each
	})
	peak := peakMemory(t, p.cmd.Process.Pid)
	if peak > 1<<30 {
		t.Errorf("the process had %d MiB, want less than 1 GiB", peak>>20)
	}
	for stream, rows := range p.rowsByStream() {
		if rows != each {
			t.Errorf("%s has %d rows, want %d", stream, rows, each)
		}
	}
	p.signal(stopSignal)
	p.wantExit(exitOK, time.Minute)
	for n := 0; n < topics; n += 7 {
		wantVerified(t, fmt.Sprintf("%s#all.%s%d", config, prefix, n), filepath.Join(folder, fmt.Sprint(prefix, n)))
	}
	report := fmt.Sprintf("%s: %d topics with %d messages each, found by a pattern, half of them after the start, into a table each by one process: at most %d MiB resident; all rows by the log's commits, every seventh table by verify\n",
		t.Name(), topics, each, peak>>20)
	t.Log(report)
	savetest.Result(t, *results, report)
}
