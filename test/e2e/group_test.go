package e2e

import (
	"path/filepath"
	"testing"
	"time"
)

// shortTimeouts free the partitions of a killed member soon. The in-process Kafka watches no session of a member that died
// while it was joining: there, the next ones wait for the rebalance timeout.
const shortTimeouts = "  session_timeout: 1s\n  rebalance_timeout: 3s\n"

// TestGroup runs several connectors on one topic and table in one group, while messages come in: they join, leave, stop
// in order and are killed. Each message is in the table exactly once.
func TestGroup(t *testing.T) {
	for name, brokers := range brokersOf(t) {
		t.Run(name, func(t *testing.T) { groupRun(t, brokers(t, "group", 6), "group", 6) })
	}
}

func groupRun(t *testing.T, brokers []string, topic string, partitions int32) {
	l := startLoad(t, brokers, topic, partitions, 3000, number)
	s := stream{
		name: "e2e-" + topic, topic: topic, brokers: brokers, table: filepath.Join(t.TempDir(), "table"), schema: numberSchema,
		interval: 50 * time.Millisecond, source: shortTimeouts,
	}
	config := s.write(t)
	member := func(what string) *process {
		t.Helper()
		p := run(t, config)
		p.waitCommit(2)
		t.Logf("%s commits", what)
		return p
	}
	stop := func(p *process) {
		t.Helper()
		p.signal(stopSignal)
		p.wantEnd(30 * time.Second)
		if code := p.code(); code != exitOK && code != exitInterrupted { // interrupted: what was fenced while it stopped is for others
			t.Fatalf("exit code %d after a stop; the last lines:\n%s", code, p.tail(30))
		}
	}
	a := member("the first")
	b := member("a second one")
	c := member("a third one")
	stop(a)
	d := member("one in place of the first")
	b.kill()
	b.wantExit(killedCode, 10*time.Second)
	e := member("one in place of the killed one")
	for i := range 3 { // joining and going at once
		p := run(t, config)
		p.waitFor("start", time.Minute, func(l logLine) bool { return l.msg() == "starting" })
		time.Sleep(time.Duration(i+1) * 150 * time.Millisecond)
		if i == 1 {
			p.kill()
			p.wantExit(killedCode, 10*time.Second)
		} else {
			stop(p)
		}
	}
	c.kill()
	stop(d)
	sent := l.stop()
	stop(e)
	untilEnd(t, config)

	log := readLog(t, s.table, s.name)
	log.wantNext(t, sent.next())
	if log.rows != int64(len(sent)) {
		t.Errorf("the log tells %d rows, %d messages were sent", log.rows, len(sent))
	}
	wantReported(t, brokers, s.name, topic, sent.next())
	t.Logf("%d messages in %d versions with rows", len(sent), log.commits)
	expect(t, topic, sent, nil).check(t, s.table)
}
