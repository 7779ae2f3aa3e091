package pipeline_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/internal/kafkatest"
	"kafkadelta/pipeline"
	"kafkadelta/storage/faultstore"
)

// TestTooManyBadMessagesStopTheRun: everything up to the message too many is committed, and the next start goes on behind it.
func TestTooManyBadMessagesStopTheRun(t *testing.T) {
	for name, limits := range map[string]pipeline.LimitsConfig{
		"number": {BadMessages: 10, Window: time.Minute},
		"share":  {BadShare: 0.01, Window: time.Minute}, // of 1,000 messages or more
	} {
		t.Run(name, func(t *testing.T) {
			scenario(t, 2, func(w *world) {
				m := newMorgue(w)
				w.produce(0, 1200)
				for range 20 {
					m.poison(0, 2) // one of the two only the table's rules find
					w.produceAll(2, 2)
				}
				limited := func(s *setup) { m.buries(s); s.UntilEnd, s.Limits = true, limits }
				k := w.start(limited)
				err := k.wait()
				if !errors.As(err, new(*pipeline.PoisonError)) || !strings.Contains(err.Error(), "limits.bad_") || !strings.Contains(err.Error(), "start again") {
					t.Fatalf("the run ended with %v", err)
				}
				taken := w.txn(0) + 1
				var bad int64
				for _, l := range m.rows() {
					bad += int64(len(l))
				}
				if bad < 11 || bad == int64(len(m.bad)) || taken <= 1200 || taken >= 1280 {
					t.Errorf("%d of %d dead letters and %d of 1280 messages of partition 0 were taken", bad, len(m.bad), taken)
				}
				if poison := k.Progress().Poison; poison != bad {
					t.Errorf("%d messages are counted as poison, want %d", poison, bad)
				}
				m.run() // without limits
				m.exactlyOnce()
			})
		})
	}
}

// TestLimitsBeginAnewWithEachWindow, and a share of few messages says nothing.
func TestLimitsBeginAnewWithEachWindow(t *testing.T) {
	scenario(t, 2, func(w *world) {
		m := newMorgue(w)
		k := w.start(func(s *setup) {
			m.buries(s)
			s.Limits = pipeline.LimitsConfig{BadMessages: 10, BadShare: 0.5, Window: time.Minute}
		})
		for range 5 {
			m.poison(0, 9)
			w.produceAll(2, 1)
			time.Sleep(90 * time.Second)
			k.running()
		}
		k.stop()
		m.exactlyOnce()
	})
}

// TestLimitsCountOnce: messages that are read again, after a fence or a file that can't be written, are counted once.
func TestLimitsCountOnce(t *testing.T) {
	fence := func(w *world) { w.foreign(fmt.Sprintf(`{"txn":{"appId":"%s-0","version":%d}}`, stream, w.txn(0))) }
	for name, tt := range map[string]struct {
		interval time.Duration // of flushes; a look at the log is each 15 s
		happens  func(w *world)
	}{
		"fenced before a flush": {20 * time.Second, fence},
		"fenced at the commit":  {time.Second, fence},
		"a file fails":          {time.Second, func(w *world) { w.store.SetPlan(faultstore.Once(isCreate, faultstore.Fail(errors.New("no file")))) }},
	} {
		for limit, more := range map[string]struct {
			pipeline.LimitsConfig
			few, tooMany int // bad messages, after 10 of 1610
		}{
			"number": {pipeline.LimitsConfig{BadMessages: 12, Window: time.Hour}, 2, 2},
			"share":  {pipeline.LimitsConfig{BadShare: 0.01, Window: time.Hour}, 6, 2},
		} {
			t.Run(name+", "+limit, func(t *testing.T) {
				scenario(t, 1, func(w *world) {
					m := newMorgue(w)
					w.poll = 10 * time.Millisecond
					k := w.start(func(s *setup) { m.buries(s); s.Limits, s.Flush.Interval, s.Lanes = more.LimitsConfig, tt.interval, 1 })
					w.eventually("the worker is ready", func() bool { return k.Ready() == nil })
					w.produce(0, 1600)
					m.poison(0, 10) // one of two only the table's rules find
					w.eventually("the messages are taken", func() bool { return k.Progress().Messages >= 1610 })
					tt.happens(w)
					w.eventually("they are taken again", func() bool { return k.Progress().Messages >= 3220 })
					m.poison(0, more.few)
					time.Sleep(time.Minute)
					k.running()
					m.poison(0, more.tooMany)
					if err := k.wait(); !errors.As(err, new(*pipeline.PoisonError)) || !strings.Contains(err.Error(), "limits.bad_") {
						t.Errorf("the run ended with %v", err)
					}
					if got := k.Progress().Messages; got < 3220 || got > 3240 {
						t.Errorf("%d messages were taken", got)
					}
				})
			})
		}
	}
}

func TestLimitsAreValidated(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*pipeline.Config)
		want   string
	}{
		"negative":      {func(c *pipeline.Config) { c.Limits.BadMessages = -1 }, "limits.bad_messages is -1"},
		"all are bad":   {func(c *pipeline.Config) { c.Limits.BadShare = 1 }, "limits.bad_share is 1"},
		"no window":     {func(c *pipeline.Config) { c.Limits.Window = 0 }, "limits.window is 0s"},
		"nothing to do": {func(c *pipeline.Config) { c.OnError, c.Limits.BadMessages = pipeline.OnErrorFail, 5 }, "under on_error: fail"},
	} {
		c := pipeline.DefaultConfig()
		c.OnError = pipeline.OnErrorSkip
		tt.change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// TestShareIsOfTheMessagesThatBadOnesAreOf: the table's rules find bad messages later than the decoder does, many at a time. They count against all messages
// that they were found among, also where another window has begun meanwhile.
func TestShareIsOfTheMessagesThatBadOnesAreOf(t *testing.T) {
	rejected, broken := `{"text": "no n"}`, "not JSON"
	for name, tt := range map[string]struct {
		polls  [][2]int // messages and, of them, each how many-th is bad; 0: none
		bad    string
		window time.Duration
		pause  time.Duration // between polls; flushes are each 50 s
	}{
		"found within a large poll":           {[][2]int{{2000, 0}, {20_000, 25}}, rejected, time.Minute, 0},
		"found by the decoder":                {[][2]int{{2000, 0}, {20_000, 25}}, broken, time.Minute, 0},
		"found when another window has begun": {[][2]int{{1900, 25}, {1050, 25}}, rejected, 30 * time.Second, 40 * time.Second},
		"found with what the decoder finds":   {[][2]int{{1900, 25}, {1050, 25}, {1, 1}}, broken, 30 * time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			scenario(t, 1, func(w *world) {
				m := newMorgue(w)
				k := w.start(func(s *setup) {
					m.buries(s)
					s.Lanes, s.Flush.Interval = 1, 50*time.Second
					s.Limits = pipeline.LimitsConfig{BadShare: 0.05, Window: tt.window}
				})
				taken := int64(0)
				for _, poll := range tt.polls {
					m.share(poll[0], poll[1], tt.bad)
					taken += int64(poll[0])
					w.eventually("they are taken", func() bool { return k.Progress().Messages >= taken })
					time.Sleep(tt.pause)
				}
				time.Sleep(time.Minute)
				k.running()
				k.stop()
				m.exactlyOnce()
			})
		})
	}
}

// TestAllBadInTheFirstPoll: the share is looked at within the first poll, though nothing was counted before it.
func TestAllBadInTheFirstPoll(t *testing.T) {
	scenario(t, 1, func(w *world) {
		m := newMorgue(w)
		m.share(12_000, 1, `{"text": "no n"}`)
		k := w.start(func(s *setup) {
			m.buries(s)
			s.UntilEnd, s.Lanes, s.Limits = true, 1, pipeline.LimitsConfig{BadShare: 0.5, Window: time.Minute}
		})
		if err := k.wait(); !errors.As(err, new(*pipeline.PoisonError)) || !strings.Contains(err.Error(), "limits.bad_share") {
			t.Fatalf("the run ended with %v", err)
		}
		if got := w.txn(0) + 1; got > 9000 {
			t.Errorf("%d of 12000 messages were taken", got)
		}
	})
}

// share sends n messages to partition 0 at once, each `each`-th of which has a value that must become a dead letter.
func (m *morgue) share(n, each int, bad string) {
	m.t.Helper()
	reason := "invalid_json"
	if strings.HasPrefix(bad, "{") {
		reason = "rejected_by_table"
	}
	records := make([]*kgo.Record, n)
	values := map[int]int64{}
	for i := range records {
		if each > 0 && (i+1)%each == 0 {
			records[i] = &kgo.Record{Topic: topic, Value: []byte(bad)}
			continue
		}
		records[i] = m.message(0)
		values[i] = m.next
	}
	kafkatest.ProduceTo(m.t, m.client, records)
	for i, r := range records {
		if n, ok := values[i]; ok {
			m.want[place{0, r.Offset}] = n
		} else {
			m.bad[place{0, r.Offset}] = reason
		}
	}
}
