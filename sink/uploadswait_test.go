package sink

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

// cutLate is a context that is done as soon as somebody was told that it is not.
type cutLate struct {
	context.Context //nolint:containedctx // one that is looked at
	cut             context.CancelFunc
}

func (c cutLate) Err() error {
	err := c.Context.Err()
	if err == nil {
		c.cut()
		time.Sleep(50 * time.Millisecond) // so that whoever is to be woken by that would be
	}
	return err
}

// TestAWriterIsCutOffAtAnyMoment: a context that is done between a look at it and the wait behind that is heard of, too.
func TestAWriterIsCutOffAtAnyMoment(t *testing.T) {
	u := NewUploads(func() int64 { return 0 })
	u.bytes = 1 // which nobody takes
	f := u.begin(t.Context(), time.Now, new(atomic.Int64), nil)
	f.ctx = cutLate{f.ctx, f.cancel}
	told := make(chan error, 1)
	go func() {
		_, err := f.Write([]byte{1})
		told <- err
	}()
	select {
	case err := <-told:
		if err == nil {
			t.Error("it was written")
		}
	case <-time.After(10 * time.Second):
		u.mu.Lock()
		u.taken.Broadcast()
		u.mu.Unlock()
		t.Error("the writer waits for ever")
	}
}
