package pipeline

import (
	"context"
	"testing"
)

// TestNothingIsCommittedBehindAPanic: a flush whose last lane answers when a panic is known is not committed; behind another failure it is.
func TestNothingIsCommittedBehindAPanic(t *testing.T) {
	for _, failure := range []error{&PanicError{}, context.DeadlineExceeded} {
		d := &dispatcher{commits: make(chan *epoch, 1)}
		e := newEpoch(1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		e.ctx, e.cancel = ctx, cancel //nolint:fatcontext // each has its own
		e.waiting = 1
		d.fail(failure)
		d.flushed(e, nil, tally{}, nil)
		_, panicked := failure.(*PanicError) //nolint:errorlint // never wrapped
		if handed := <-d.commits; handed != e || (e.ctx.Err() != nil) != panicked {
			t.Errorf("after %T the commit's context is %v", failure, e.ctx.Err())
		}
	}
}
