package pipeline_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

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
