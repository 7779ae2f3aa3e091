// Package backoff owns how long this program waits before it tries again what is down: a table's store or a broker.
//
// It promises that waits double up to a bound, that they are spread so that many processes don't come back at once, and that every
// wait ends with its context. What is tried again, and what can't be mended by that, is the caller's business. Requests of the clouds'
// backends are tried again by storage/remote, a few times and for a shorter while.
package backoff

import (
	"cmp"
	"context"
	"math/rand/v2"
	"time"
)

// Bounds of the wait, before it is spread.
const (
	shortest = 100 * time.Millisecond
	longest  = 15 * time.Second
)

// Backoff is the wait between the tries of one thing. The zero value is before the first.
type Backoff struct {
	Longest time.Duration // before it is spread; 0 for 15 s

	wait time.Duration
}

// Next is the wait before the next try, from half to one and a half of twice the one before.
func (b *Backoff) Next() time.Duration {
	b.wait = min(max(shortest, 2*b.wait), cmp.Or(b.Longest, longest))
	return b.wait/2 + rand.N(b.wait)
}

// Sleep waits, or returns the context's error when that is done first.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
