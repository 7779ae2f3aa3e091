package e2e

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkadelta/internal/kafkatest"
	"kafkadelta/internal/savetest"
)

// window is what a connector was doing when it was killed, as its log tells. Data files are written while the flush
// before them is committed: a commit or a report that is under way counts first.
type window string

const (
	inData    window = "data put"
	inCommit  window = "commit put"
	inReport  window = "report"
	inBetween window = "between"
)

var windows = []window{inData, inCommit, inReport, inBetween}

// begins is the line at which a window opens.
var begins = map[window]string{inData: "data file begins", inCommit: "commit put begins", inReport: "report begins"}

// ends is the line at which it closes.
var ends = map[window]string{inData: "data file ends", inCommit: "commit put ends", inReport: "report ends"}

// windowAt tells from the whole log of a killed connector what was under way.
func windowAt(lines []logLine) window {
	open := map[window]int{}
	for _, l := range lines {
		for _, w := range windows {
			switch l.msg() {
			case begins[w]:
				open[w]++
			case ends[w]:
				open[w]--
			}
		}
	}
	for _, w := range []window{inCommit, inReport, inData} {
		if open[w] > 0 {
			return w
		}
	}
	return inBetween
}

// TestKill kills connectors under load with kill -9, at random moments and right after a window has opened, lets the
// next one go on, and in the end compares every message with its row: nothing is missing, nothing is there twice. A
// kill counts if its life had committed rows before.
func TestKill(t *testing.T) {
	t.Run("in-process Kafka", func(t *testing.T) {
		cluster := kafkatest.Start(t, "kill", killPartitions)
		// A report takes about as long as over a network, so that kills hit some.
		cluster.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
			cluster.KeepControl()
			time.Sleep(rand.N(2 * time.Millisecond))
			return nil, nil, false
		})
		killRun(t, cluster.ListenAddrs(), "kill", *kills)
	})
	t.Run("real Kafka", func(t *testing.T) {
		kafka := realKafka(t)
		createTopic(t, kafka.brokers(), "kill", killPartitions)
		killRun(t, kafka.brokers(), "kill", (*kills+2)/3)
	})
}

const killPartitions = 4

// killed is the account of a run's kills.
type killed struct {
	counted map[window]int // lives that had committed
	early   int            // lives that had not
	aimed   map[window]int // of the counted ones, those aimed at a window's begin; by what they hit
	commits int            // rows committed by killed lives, in commits
}

func killRun(t *testing.T, brokers []string, topic string, want int) {
	l := startLoad(t, brokers, topic, killPartitions, 2000, func(i int) []byte { return fmt.Appendf(nil, `{"n":%d,"bucket":%d}`, i, i%16) })
	s := stream{
		name: "e2e-" + topic, topic: topic, brokers: brokers, table: filepath.Join(t.TempDir(), "table"), schema: "n BIGINT, bucket INT",
		partitionBy: "bucket", // several files a flush
		interval:    20 * time.Millisecond, source: shortTimeouts,
	}
	static := s // every other life is a static member, whose partitions wait for it
	static.source += "  instance_id: the-one\n"
	configs := []string{s.write(t), static.write(t)}
	k := killed{counted: map[window]int{}, aimed: map[window]int{}}
	for life := 0; k.total() < want; life++ {
		if life > 3*want+20 {
			t.Fatalf("only %d of %d lives had committed before they were killed", k.total(), life)
		}
		k.live(t, life, configs[life/2%2])
	}
	sent := l.stop()
	begun := time.Now()
	final := untilEnd(t, configs[0])
	t.Logf("the last life went to the end in %v", time.Since(begun).Round(time.Millisecond))
	for _, line := range final.log() {
		if strings.Contains(line.text, `"level":"ERROR"`) {
			t.Errorf("the last life logged an error: %s", line.text)
		}
	}

	log := readLog(t, s.table, s.name)
	log.wantNext(t, sent.next())
	if log.rows != int64(len(sent)) {
		t.Errorf("the log tells %d rows, %d messages were sent", log.rows, len(sent))
	}
	wantReported(t, brokers, s.name, topic, sent.next())
	agreed := expect(t, topic, sent, nil).check(t, s.table)
	wantVerified(t, configs[0], s.table)
	if t.Failed() {
		return
	}
	report := k.report(t, len(sent), log, len(log.orphans(t, s.table)), agreed)
	t.Log(report)
	savetest.Result(t, *results, report)
}

func (k *killed) total() int {
	n := 0
	for _, c := range k.counted {
		n += c
	}
	return n
}

// live runs one life and kills it: one in six soon after its start, one in six at a random moment after it has committed,
// the others right when a window opens, or up to a few hundred microseconds later.
func (k *killed) live(t *testing.T, life int, config string) {
	t.Helper()
	target, aimed := window(""), life%6 > 1
	if aimed {
		target = []window{inData, inCommit, inReport, inCommit}[life%6-2]
	}
	var committed atomic.Int64
	var p *process
	ready := make(chan struct{})
	skip := rand.N(5) // windows that pass before the one that is aimed at
	kill := func(l logLine) {
		if l.msg() == "flush committed" {
			committed.Add(1)
		}
		if !aimed || committed.Load() == 0 || l.msg() != begins[target] {
			return
		}
		if skip--; skip >= 0 {
			return
		}
		<-ready
		if rand.N(2) == 0 {
			time.Sleep(rand.N(300 * time.Microsecond))
		}
		p.kill()
	}
	p = startWith(t, nil, kill, runArgs(config)...)
	close(ready)
	switch life % 6 {
	case 0:
		p.waitCommit(1)
		time.Sleep(rand.N(300 * time.Millisecond))
		p.kill()
	case 1:
		time.Sleep(rand.N(300 * time.Millisecond))
		p.kill()
	}
	p.wantExit(killedCode, time.Minute)
	if committed.Load() == 0 {
		k.early++
		return
	}
	hit := windowAt(p.log())
	k.counted[hit]++
	k.commits += int(committed.Load())
	if aimed {
		k.aimed[hit]++
	}
}

func (k *killed) report(t testing.TB, messages int, log tableLog, orphans int, agreed []string) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d kills of lives that had committed", t.Name(), k.total())
	if raceEnabled {
		b.WriteString(" (connector built with -race)")
	}
	fmt.Fprintf(&b, ", %s/%s\n", runtime.GOOS, runtime.GOARCH)
	for _, w := range windows {
		fmt.Fprintf(&b, "  killed in %-10s  %3d  (%d of them aimed at the begin of a window)\n", w, k.counted[w], k.aimed[w])
	}
	fmt.Fprintf(&b, "  killed before the first commit: %d lives more\n", k.early)
	fmt.Fprintf(&b, "  %d messages; %d versions with rows, %d of them reported by lives that were killed; %d files of killed lives are in no version\n",
		messages, log.commits, k.commits, orphans)
	b.WriteString("  checked: the spans in the log tile up to the last message, and its rows are as many as the messages\n")
	if len(agreed) == 0 {
		b.WriteString("  NOT checked by a foreign reader: none could be run\n")
	} else {
		fmt.Fprintf(&b, "  checked by %s: each message is in the table exactly once\n", strings.Join(agreed, " and "))
	}
	return b.String()
}

func TestWindowAt(t *testing.T) {
	for _, tt := range []struct {
		lines string
		want  window
	}{
		{"", inBetween},
		{"data file begins", inData},
		{"data file begins, data file ends", inBetween},
		{"data file begins, data file ends, data file begins, commit put begins", inCommit},
		{"commit put begins, commit put ends, report begins, data file begins", inReport},
		{"commit put begins, commit put ends, report begins, data file begins, report ends", inData},
	} {
		var lines []logLine
		for msg := range strings.SplitSeq(tt.lines, ", ") {
			lines = append(lines, logLine{fields: map[string]any{"msg": msg}})
		}
		if got := windowAt(slices.Clip(lines)); got != tt.want {
			t.Errorf("after %q: %s, expected %s", tt.lines, got, tt.want)
		}
	}
}
