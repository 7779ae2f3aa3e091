package pipeline_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"kafkadelta/pipeline"
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
