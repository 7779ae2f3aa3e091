package open

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"

	"kafkadelta/storage"
	"kafkadelta/storage/remote"
)

// listPage is how many names count as one request of a listing, as on S3 and GCS.
const listPage = 1000

// counted tells of the operations on a store that sends no requests of its own, under the names that the clouds' backends
// use, so that a local table shows in the same metrics. A stream counts once, when it ends.
type counted struct {
	storage.Store
	observe func(operation, outcome string)
}

func count(s storage.Store, observe func(operation, outcome string)) storage.Store {
	if observe == nil {
		return s
	}
	return &counted{s, observe}
}

func (c *counted) tell(operation string, err error) error {
	outcome := remote.Broken
	switch {
	case err == nil:
		outcome = remote.Done
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		outcome = remote.Cancelled
	case errors.Is(err, fs.ErrNotExist):
		outcome = remote.NotFound
	case errors.Is(err, fs.ErrExist):
		outcome = remote.Exists
	case errors.Is(err, fs.ErrPermission):
		outcome = remote.Denied
	case errors.Is(err, fs.ErrInvalid):
		outcome = remote.Invalid
	}
	c.observe(operation, outcome.String())
	return err
}

// List implements storage.Store.
func (c *counted) List(ctx context.Context, prefix, after string) iter.Seq2[storage.ObjectInfo, error] {
	return func(yield func(storage.ObjectInfo, error) bool) {
		n := 0
		for info, err := range c.Store.List(ctx, prefix, after) {
			if n > 0 && n%listPage == 0 {
				_ = c.tell(remote.List, nil)
			}
			n++
			if err != nil {
				_ = c.tell(remote.List, err)
				yield(info, err)
				return
			}
			if !yield(info, nil) {
				break
			}
		}
		_ = c.tell(remote.List, nil)
	}
}

// Get implements storage.Store.
func (c *counted) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	r, err := c.Store.Get(ctx, name, offset, length)
	return r, c.tell(remote.Get, err)
}

// Put implements storage.Store.
func (c *counted) Put(ctx context.Context, name string, data []byte) error {
	return c.tell(remote.Put, c.Store.Put(ctx, name, data))
}

// PutIfAbsent implements storage.Store.
func (c *counted) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	return c.tell(remote.PutIfAbsent, c.Store.PutIfAbsent(ctx, name, data))
}

// Create implements storage.Store.
func (c *counted) Create(ctx context.Context, name string) (storage.Writer, error) {
	w, err := c.Store.Create(ctx, name)
	if err != nil {
		return nil, c.tell(remote.Complete, err)
	}
	return &countedWriter{w, c}, nil
}

// Delete implements storage.Store.
func (c *counted) Delete(ctx context.Context, name string) error {
	return c.tell(remote.Delete, c.Store.Delete(ctx, name))
}

type countedWriter struct {
	storage.Writer
	store *counted
}

func (w *countedWriter) Close() error { return w.store.tell(remote.Complete, w.Writer.Close()) }
func (w *countedWriter) Abort() error { return w.store.tell(remote.Abort, w.Writer.Abort()) }
