package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/internal/kafkatest"
	"kafkadelta/internal/savetest"
)

var (
	stormMessages = flag.Int("storm", 60_000, "messages of TestPoisonStorm")
	stormClock    = flag.Bool("storm-clock", false, "hold TestPoisonStorm to half of the throughput by the clock, too: for a machine that does nothing else")
)

// withText adds text of some bytes to a message of badMessage.
func withText(value []byte, i, size int) []byte {
	if size == 0 {
		return value
	}
	var text []byte
	for n := uint64(i); len(text) < size; n = n*6364136223846793005 + 1442695040888963407 {
		text = fmt.Appendf(text, "word %d ", n>>44)
	}
	if body, ok := bytes.CutSuffix(value, []byte("}")); ok {
		return fmt.Appendf(nil, `%s,"text":"%s"}`, body, text[:size])
	}
	return append(value, text[:size]...)
}

// badMessage tells whether message i is bad, as what, and its value: of each ten three.
func badMessage(i int) (value []byte, reason string) {
	switch i % 10 {
	case 3:
		return fmt.Appendf(nil, "message %d", i), "invalid_json"
	case 6:
		return fmt.Appendf(nil, `{"n":"message %d"}`, i), "type_mismatch"
	case 9:
		return fmt.Appendf(nil, `{"n":null,"bucket":%d}`, i), "rejected_by_table" // n is NOT NULL
	}
	return fmt.Appendf(nil, `{"n":%d,"bucket":%d}`, i, i%16), ""
}

// reasonOf is that of a value that badMessage made.
func reasonOf(value []byte) string {
	switch {
	case bytes.HasPrefix(value, []byte("message")):
		return "invalid_json"
	case bytes.HasPrefix(value, []byte(`{"n":"`)):
		return "type_mismatch"
	case bytes.HasPrefix(value, []byte(`{"n":null`)):
		return "rejected_by_table"
	}
	return ""
}

// TestDeadLetters kills workers of a stream of which a third is bad, right when one of their commits begins or has ended, on either
// table, and has two foreign engines read both: each message is a row or a dead letter, once, with its value and the right reason.
func TestDeadLetters(t *testing.T) {
	t.Run("in-process Kafka", func(t *testing.T) {
		deadLettersRun(t, kafkatest.Start(t, "dead", 3).ListenAddrs(), 10)
	})
	t.Run("real Kafka", func(t *testing.T) {
		kafka := realKafka(t)
		createTopic(t, kafka.brokers(), "dead", 3)
		deadLettersRun(t, kafka.brokers(), 5)
	})
}

func deadLettersRun(t *testing.T, brokers []string, lives int) {
	load := startLoad(t, brokers, "dead", 3, 1000, func(i int) []byte { value, _ := badMessage(i); return value })
	folder := t.TempDir()
	letters := filepath.Join(folder, "letters")
	s := stream{
		name: "e2e-dead", topic: "dead", brokers: brokers, table: filepath.Join(folder, "table"), schema: "n BIGINT NOT NULL, bucket INT",
		interval: 50 * time.Millisecond, source: shortTimeouts, more: fmt.Sprintf("on_error: dead_letter\ndead_letters:\n  uri: %s\n", letters),
	}
	config := s.write(t)
	for life := range lives {
		at, skip := begins[inCommit], 3+rand.N(8)
		if life%2 == 1 {
			at = ends[inCommit]
		}
		var p *process
		ready := make(chan struct{})
		p = startWith(t, nil, func(l logLine) {
			if l.msg() != at {
				return
			}
			if skip--; skip == 0 {
				<-ready
				p.kill()
			}
		}, runArgs(config)...)
		close(ready)
		p.wantExit(killedCode, time.Minute)
	}
	sent := load.stop()
	untilEnd(t, config)

	good, bad := messages{}, messages{}
	for at, value := range sent {
		if reasonOf(value) == "" {
			good[at] = value
		} else {
			bad[at] = value
		}
	}
	expect(t, "dead", good, nil).check(t, s.table)
	wantLetters(t, letters, bad)
	wantVerified(t, config, s.table)
	main, dead := newestVersion(t, s.table), newestVersion(t, letters)
	if dead > main {
		t.Errorf("the dead-letter table is at version %d, beyond the stream's %d", dead, main)
	}
	t.Logf("%d kills; %d rows in %d versions, %d dead letters in %d versions", lives, len(good), main, len(bad), dead)
}

// TestDeadLettersToATopic sends them to a topic of a real Kafka, and reads that.
func TestDeadLettersToATopic(t *testing.T) {
	kafka := realKafka(t)
	createTopic(t, kafka.brokers(), "dead-in", 2)
	createTopic(t, kafka.brokers(), "dead-out", 1)
	bad := map[string]string{} // reason by value
	var values [][]byte
	for i := range 300 {
		value, reason := badMessage(i)
		if values = append(values, value); reason != "" {
			bad[string(value)] = reason
		}
	}
	kafkatest.Produce(t, kafka.brokers(), "dead-in", 2, values)
	s := stream{
		name: "e2e-dead-topic", topic: "dead-in", brokers: kafka.brokers(), table: filepath.Join(t.TempDir(), "table"), schema: "n BIGINT NOT NULL, bucket INT",
		more: "on_error: dead_letter\ndead_letters:\n  topic: dead-out\n",
	}
	config := s.write(t)
	untilEnd(t, config)
	if v, code := verifyWith(t, "-c", config); code != exitOK || v.Rows != int64(300-len(bad)) {
		t.Errorf("verify ends with %d: %+v", code, v)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(kafka.brokers()...), kgo.ConsumeTopics("dead-out"))
	must(t, err)
	defer client.Close()
	for want := len(bad); len(bad) > 0; {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		fetches := client.PollFetches(ctx)
		cancel()
		if fetches.NumRecords() == 0 {
			t.Fatalf("%d of %d dead letters are not in the topic", len(bad), want)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			reason, ok := bad[string(r.Value)]
			at := slices.IndexFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == "kafkadelta.reason" })
			if !ok || at < 0 || string(r.Headers[at].Value) != reason {
				t.Errorf("%q was sent with %v, want %s", r.Value, r.Headers, reason)
			}
			delete(bad, string(r.Value))
		})
	}
}

// wantLetters compares the dead-letter table, as two engines read it, with the bad messages.
func wantLetters(t *testing.T, table string, bad messages) {
	t.Helper()
	cmd := exec.Command(python(t), "-B", filepath.Join("readers", "letters.py"), table)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("letters.py: %v\n%s", err, stderr.String())
	}
	found := map[string]map[place]int{"deltars": {}, "duckdb": {}}
	scan := bufio.NewScanner(bytes.NewReader(out))
	for scan.Scan() {
		var engine, reason, value string
		var at place
		var generation int
		if _, err := fmt.Sscan(scan.Text(), &engine, &at.partition, &at.offset, &generation, &reason, &value); err != nil {
			t.Fatalf("%q: %v", scan.Text(), err)
		}
		found[engine][at]++
		raw, err := hex.DecodeString(value)
		if want, ok := bad[at]; err != nil || !ok || !bytes.Equal(raw, want) || reason != reasonOf(want) || generation != 0 {
			t.Errorf("%s: the dead letter at %v is %q for %s in generation %d, want %q for %s in generation 0", engine, at, raw, reason, generation, want, reasonOf(want))
		}
	}
	for engine, letters := range found {
		for at := range bad {
			if letters[at] != 1 {
				t.Errorf("%s: the message at %v is %d dead letters, want 1", engine, at, letters[at])
			}
		}
		t.Logf("%s: %d dead letters, each equal to its message, each once", engine, len(letters))
	}
}

// fullStorm is from how many messages on TestPoisonStorm holds the storm to half of the throughput: fewer are gone while a process starts.
const fullStorm = 1_000_000

// TestPoisonStorm is a topic of which 30 % are bad, beside the same topic clean, of small messages and of larger ones: a dead letter costs about the
// same for both, and a small message little. What it took is logged, as figures of a machine that does other things too; only the time of the
// cores is held to something, unless -storm-clock says that the machine does nothing else.
func TestPoisonStorm(t *testing.T) {
	var reports string
	for _, size := range []int{0, 300} {
		t.Run(fmt.Sprintf("%d bytes of text", size), func(t *testing.T) {
			clean, storm := stormRun(t, 0, size), stormRun(t, 30, size)
			ratio, work := storm.took.Seconds()/clean.took.Seconds(), storm.worked.Seconds()/clean.worked.Seconds()
			report := fmt.Sprintf("%s: %d messages, 30 %% of them bad: %s; the storm took %.2f times as long as the clean run, and %.2f times as much time of the cores (start and stop included)\n",
				t.Name(), *stormMessages, storm.letters, ratio, work)
			if *stormMessages >= fullStorm && work > 2 {
				t.Errorf("want at most twice the time of the cores: %s", report)
			}
			if *stormClock && ratio > 2 {
				t.Errorf("want at most twice the time: %s", report)
			}
			t.Log(report)
			reports += report
		})
	}
	savetest.Result(t, *results, reports)
}

// storm is what a run over a topic has come to.
type storm struct {
	took, worked time.Duration // by the clock, and of the cores
	letters      string
}

// stormRun brings a topic, of which some of a hundred messages are bad, to its end, and compares what became of it.
func stormRun(t *testing.T, percent, size int) storm {
	cluster := kafkatest.Start(t, "storm", 4)
	values := make([][]byte, *stormMessages)
	bad := messages{}
	for i := range values {
		value, reason := fmt.Appendf(nil, `{"n":%d,"bucket":%d}`, i, i%16), ""
		if percent > 0 {
			value, reason = badMessage(i)
		}
		if values[i] = withText(value, i, size); reason != "" {
			bad[place{int32(i % 4), int64(i / 4)}] = values[i]
		}
	}
	kafkatest.Produce(t, cluster.ListenAddrs(), "storm", 4, values)
	folder := t.TempDir()
	letters := filepath.Join(folder, "letters")
	s := stream{
		name: "e2e-storm", topic: "storm", brokers: cluster.ListenAddrs(), table: filepath.Join(folder, "table"), schema: "n BIGINT NOT NULL, bucket INT, text STRING",
		interval: time.Second, more: fmt.Sprintf("on_error: dead_letter\ndead_letters:\n  uri: %s\n", letters),
	}
	config := s.write(t)
	begun := time.Now()
	state := untilEnd(t, config).cmd.ProcessState
	result := storm{took: time.Since(begun), worked: state.UserTime() + state.SystemTime()}
	v, code := verifyWith(t, "-c", config)
	var dead int64
	for _, p := range v.Partitions {
		dead += p.Dead
	}
	main, dl := newestVersion(t, s.table), newestVersion(t, letters)
	if code != exitOK || dead != int64(len(bad)) || v.Rows != int64(len(values)-len(bad)) || dl > main || len(bad) == 0 && dl != 0 {
		t.Errorf("%d %% bad: verify ends with %d; %d rows and %d dead letters, want %d and %d; the tables are at versions %d and %d",
			percent, code, v.Rows, dead, len(values)-len(bad), len(bad), main, dl)
	}
	if len(bad) > 0 {
		wantLetters(t, letters, bad)
		result.letters = fmt.Sprintf("%d dead letters, each once by two foreign readers, in %d versions beside %d", len(bad), dl, main)
	}
	t.Logf("%d messages, %d of them bad, in %v (%.0f a second, start and stop included), %v of the cores; versions %d and %d", len(values), len(bad),
		result.took.Round(time.Millisecond), float64(len(values))/result.took.Seconds(), result.worked.Round(time.Millisecond), main, dl)
	return result
}
