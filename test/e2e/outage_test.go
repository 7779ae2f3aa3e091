package e2e

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kafkadelta/internal/savetest"
)

// TestBrokerDown takes the only broker away while a stream runs: the worker lives, is not ready meanwhile, goes on by itself, and in the end
// each message is in the table once, and none is poison.
func TestBrokerDown(t *testing.T) {
	kafka := realKafka(t)
	topic := fmt.Sprintf("broker-down-%d", time.Now().UnixNano())
	createTopic(t, kafka.brokers(), topic, 4)
	l := startLoad(t, kafka.brokers(), topic, 4, 500, func(i int) []byte { return fmt.Appendf(nil, `{"n":%d}`, i) })
	s := stream{name: "e2e-" + topic, topic: topic, brokers: kafka.brokers(), table: filepath.Join(t.TempDir(), "table"), schema: numberSchema, listen: "127.0.0.1:0"}
	config := s.write(t)
	p := run(t, config)
	line := p.waitFor("the address", time.Minute, func(l logLine) bool { return strings.HasPrefix(l.msg(), "serving") })
	address, _ := line.fields["address"].(string)
	p.waitCommit(3)

	begun, unready := time.Now(), 0
	back := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), *outage+3*time.Minute)
		defer cancel()
		back <- kafka.down(ctx, *outage)
	}()
	for away := true; away; {
		select {
		case err := <-back:
			must(t, err)
			away = false
		case <-time.After(100 * time.Millisecond):
			resp, err := http.Get("http://" + address + "/readyz")
			must(t, err)
			must(t, resp.Body.Close())
			if resp.StatusCode == http.StatusServiceUnavailable {
				unready++
			}
		}
	}
	down, before := time.Since(begun), 0
	for _, l := range p.log() {
		if rows, _ := l.fields["rows"].(float64); l.msg() == "flush committed" && rows > 0 {
			before++
		}
	}
	p.waitCommit(before + 5)
	if unready == 0 {
		t.Error("the worker was ready all the time")
	}
	sent := l.stop()
	p.signal(stopSignal)
	p.wantExit(exitOK, time.Minute)
	untilEnd(t, config)
	agreed := expect(t, topic, sent, nil).check(t, s.table)
	v := wantVerified(t, config, s.table)
	for _, part := range v.Partitions {
		if part.Dead+part.Lost > 0 {
			t.Errorf("partition %+v has dead letters or lost messages", part)
		}
	}
	if v.Rows != int64(len(sent)) {
		t.Errorf("%d rows, %d messages were sent", v.Rows, len(sent))
	}
	report := fmt.Sprintf("%s: the broker was away for %v (kill -9; until it answered %v) under load, and the same worker went on: %d messages, each in the table exactly once by verify, verify.py, %s\n",
		t.Name(), *outage, down.Round(time.Second), len(sent), strings.Join(agreed, " and "))
	t.Log(report)
	savetest.Result(t, *results, report)
}
