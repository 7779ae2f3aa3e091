package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"kafkadelta/internal/savetest"
)

// TestKillTopicsOfOneTable has two processes bring three topics into one table, each topic a stream of its own, kills them with kill -9 at
// random and right when a commit or a file begins, and in the end compares every message with its row.
func TestKillTopicsOfOneTable(t *testing.T) {
	const partitions = 4
	kafka := realKafka(t)
	prefix := fmt.Sprintf("into-one-%d-", time.Now().UnixNano())
	topics := []string{prefix + "a", prefix + "b", prefix + "c"}
	var loads []*load
	for _, topic := range topics {
		createTopic(t, kafka.brokers(), topic, partitions)
		loads = append(loads, startLoad(t, kafka.brokers(), topic, partitions, 300, func(i int) []byte { return fmt.Appendf(nil, `{"n":%d}`, i) }))
	}
	s := stream{
		name: "one", brokers: kafka.brokers(), table: filepath.Join(t.TempDir(), "table"), schema: "n BIGINT",
		interval: 100 * time.Millisecond, pattern: prefix + "[a-z]+", source: shortTimeouts,
	}
	config := s.write(t)
	lives := []*process{start(t, runArgs(config)...), start(t, runArgs(config)...)}
	hit := map[window]int{}
	var longest time.Duration // until a life has committed
	for kill := range *kills {
		at := rand.N(len(lives))
		p, begun := lives[at], time.Now()
		p.waitCommit(1 + rand.N(5))
		longest = max(longest, time.Since(begun))
		switch kill % 3 {
		case 0:
			time.Sleep(rand.N(300 * time.Millisecond))
		case 1:
			p.waitNext(begins[inCommit])
		case 2:
			p.waitNext(begins[inData])
		}
		p.kill()
		p.wantExit(killedCode, time.Minute)
		hit[windowAt(p.log())]++
		lives[at] = start(t, runArgs(config)...)
	}
	var expected []expectation
	sent := 0
	for i, l := range loads {
		m := l.stop()
		sent += len(m)
		expected = append(expected, expect(t, topics[i], m, nil))
	}
	for _, p := range lives { // one of them while it may not have joined yet
		p.waitBegun()
		p.signal(stopSignal)
		p.wantExit(exitOK, time.Minute)
	}
	untilEnd(t, config)

	agreed := checkTopics(t, s.table, expected...)
	for _, topic := range topics {
		if v := wantVerified(t, fmt.Sprintf("%s#one.%s", config, topic), s.table); v.Rows != int64(sent) {
			t.Errorf("verify tells %d rows, %d messages were sent", v.Rows, sent)
		}
	}
	if t.Failed() {
		return
	}
	report := fmt.Sprintf("%s: %d kills of lives that had committed, of two processes with three topics into one table, %s/%s: %d while a commit was put, %d while a file was written, %d else\n"+
		"  %d messages in %d versions; the longest wait for a life's commits was %v; checked by verify, verify.py, and %s: each message is in the table exactly once\n",
		t.Name(), *kills, runtime.GOOS, runtime.GOARCH, hit[inCommit], hit[inData], hit[inReport]+hit[inBetween], sent, newestVersion(t, s.table), longest.Round(time.Second), strings.Join(agreed, " and "))
	t.Log(report)
	savetest.Result(t, *results, report)
}

// waitNext waits for a line that is not there yet, for a while: a worker that commits nothing writes none.
func (p *process) waitNext(msg string) {
	seen := len(p.log())
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); {
		for _, l := range p.log()[seen:] {
			if l.msg() == msg {
				return
			}
		}
		time.Sleep(time.Millisecond)
	}
}

// checkTopics has foreign readers compare a table of many topics with the messages of each. It returns those that could be run.
func checkTopics(t *testing.T, table string, topics ...expectation) (agreed []string) {
	t.Helper()
	for _, reader := range []string{deltaRS, duckDB} {
		out, err := exec.Command(python(t), "-B", filepath.Join("readers", reader), table).Output()
		if err != nil {
			t.Errorf("%s: %v", reader, err)
			continue
		}
		lines := map[string]*bytes.Buffer{}
		for line := range bytes.Lines(out) {
			topic := ""
			if part := bytes.SplitN(line, []byte(","), 4); len(part) == 4 {
				topic = string(part[2])
			}
			if lines[topic] == nil {
				lines[topic] = &bytes.Buffer{}
			}
			lines[topic].Write(line)
		}
		if len(lines) != len(topics) {
			t.Errorf("%s: the table has rows of %d topics, want %d", reader, len(lines), len(topics))
		}
		for _, e := range topics {
			rows := lines[strconv.Quote(e.topic)]
			if rows == nil {
				rows = &bytes.Buffer{}
			}
			e.compare(t, reader, rows, func() error { return nil })
		}
		agreed = append(agreed, strings.TrimSuffix(reader, ".py"))
	}
	return agreed
}
