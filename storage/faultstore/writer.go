package faultstore

import (
	"context"
	"fmt"
	"io/fs"

	"kafkadelta/storage"
)

// Create implements storage.Store. A create that lands and then fails leaves a stream that nobody holds; it is aborted.
func (s *Store) Create(ctx context.Context, name string) (storage.Writer, error) {
	var inner storage.Writer
	err := s.run(ctx, MethodCreate, name, func() (err error) {
		inner, err = s.inner.Create(ctx, name)
		return err
	}, nil)
	if err != nil {
		if inner != nil {
			_ = inner.Abort()
		}
		return nil, err
	}
	return &writer{store: s, ctx: ctx, name: name, inner: inner}, nil
}

// writer is used by one goroutine. The context of Create lets its waits end.
type writer struct {
	store  *Store
	ctx    context.Context
	name   string
	inner  storage.Writer
	failed error // of a Write: Close must not publish an object with a hole
	done   bool
}

func (w *writer) Write(p []byte) (int, error) {
	n := 0
	err := w.store.run(w.ctx, MethodWrite, w.name, func() (err error) {
		if w.failed != nil {
			return w.failed
		}
		n, err = w.inner.Write(p)
		return err
	}, nil)
	if err != nil && w.failed == nil {
		w.failed = err
	}
	return n, err
}

func (w *writer) Close() error {
	reached := false
	err := w.store.run(w.ctx, MethodClose, w.name, func() error {
		if w.done {
			return fmt.Errorf("closing %q: %w", w.name, fs.ErrClosed)
		}
		if w.failed != nil {
			return fmt.Errorf("closing %q: an earlier write failed: %v", w.name, w.failed) //nolint:errorlint // its class was that write's
		}
		reached = true
		return w.inner.Close()
	}, nil)
	if !reached && !w.done {
		_ = w.inner.Abort() // a Close that failed has given up what was staged; the caller will not call Abort
	}
	w.done = true
	return err
}

// Abort always reaches the inner store, also when it is told to fail: what stays staged is the backend's own litter to
// test, and would look like a leak of the code under test.
func (w *writer) Abort() error {
	if w.done {
		return w.store.run(w.ctx, MethodAbort, w.name, func() error { return nil }, nil)
	}
	w.done = true
	reached := false
	err := w.store.run(w.ctx, MethodAbort, w.name, func() error {
		reached = true
		return w.inner.Abort()
	}, nil)
	if !reached {
		_ = w.inner.Abort()
	}
	return err
}
