package backoff_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"kafkadelta/internal/backoff"
)

func TestWaitsDoubleUpToABoundAndAreSpread(t *testing.T) {
	spread := false
	for range 20 {
		var b, other backoff.Backoff
		for n, want := range []time.Duration{100, 200, 400, 800, 1600, 3200, 6400, 12800, 15000, 15000, 15000} {
			got := b.Next() / time.Millisecond
			if got < want/2-1 || got > want*3/2 {
				t.Errorf("wait %d is %d ms, want about %d", n, got, want)
			}
			spread = spread || got != other.Next()/time.Millisecond
		}
	}
	short := backoff.Backoff{Longest: time.Second}
	for range 20 {
		if got := short.Next(); got >= 3*time.Second/2 {
			t.Errorf("a wait of at most 1 s, spread, is %v", got)
		}
	}
	if !spread {
		t.Error("all waits are alike")
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		if err := backoff.Sleep(ctx, 300*time.Millisecond); err != nil || time.Since(begun) != 300*time.Millisecond {
			t.Errorf("it slept %v and says %v", time.Since(begun), err)
		}
		if err := backoff.Sleep(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Second {
			t.Errorf("it slept until %v and says %v", time.Since(begun), err)
		}
	})
}
