package gcs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"

	contract "kafkadelta/storage"
	"kafkadelta/storage/remote"
)

// Limits of a stream. Memory is one chunk that fills and one that the SDK sends meanwhile.
const (
	chunk      = 8 << 20          // as Google advises: a multiple of 256 KiB, not less than 8 MiB
	chunkTries = 5                // of one chunk, and of beginning the upload
	chunkTime  = 45 * time.Second // of one chunk with its tries
	abortTime  = 10 * time.Second
)

// writer streams one object. Bytes that fit into one chunk are sent in one put at Close, so that small objects cost one
// request; what is larger becomes a resumable upload, whose chunks the SDK sends one after the other.
type writer struct {
	ctx    context.Context // that of Create: it rules the whole stream
	cancel context.CancelFunc
	store  *Store
	name   string
	data   []byte          // the chunk that fills
	stream *storage.Writer // nil until the second chunk begins
	upload upload
	failed error // the first, which every later call answers
	done   bool

	// What follows is the SDK's goroutine's until stream.Close has returned.
	tries  int  // that failed since the last progress
	doubts bool // one of them may have been carried out
}

// Create implements storage.Store. The context rules the whole stream: once it is done, Write and Close fail.
func (s *Store) Create(ctx context.Context, name string) (contract.Writer, error) {
	if err := check(ctx, "create", name); err != nil {
		return nil, err
	}
	w := &writer{store: s, name: name}
	w.ctx, w.cancel = context.WithCancel(ctx)
	return w, nil
}

// Write implements storage.Writer.
func (w *writer) Write(p []byte) (int, error) {
	written := 0
	for {
		if err := w.usable(); err != nil {
			return written, err
		}
		n := min(len(p), chunk-len(w.data))
		w.data = append(w.data, p[:n]...)
		p, written = p[n:], written+n
		if len(p) == 0 {
			return written, nil // a full chunk waits: it may be all there is, and then is no upload of several requests
		}
		if err := w.send(); err != nil {
			return written, err
		}
	}
}

// usable tells why the stream cannot go on.
func (w *writer) usable() error {
	if w.done {
		return fmt.Errorf("writing %q: %w", w.name, fs.ErrClosed)
	}
	if err := w.ctx.Err(); err != nil {
		return fmt.Errorf("writing %q: %w", w.name, err)
	}
	return w.failed
}

func (w *writer) operation(name string) remote.Operation {
	return remote.Operation{Name: name, Object: w.store.url + "/" + w.name, Writes: name == remote.Complete, Once: true}
}

// send gives the full chunk to the SDK, which takes it once the one before has arrived.
func (w *writer) send() error {
	if w.stream == nil {
		w.open()
	}
	_, w.failed = w.store.client.Do(w.ctx, w.operation(remote.Part), func(context.Context) error {
		_, err := w.stream.Write(w.data)
		return shortOfBucket(err)
	})
	w.data = w.data[:0]
	return w.failed
}

// open prepares a resumable upload; the SDK begins it with the first chunk.
func (w *writer) open() {
	ctx := context.WithValue(remote.As(w.ctx, remote.Part), uploadKey{}, &w.upload)
	o := w.store.object(w.name).Retryer(storage.WithPolicy(storage.RetryAlways), storage.WithErrorFunc(w.again))
	w.stream = o.NewWriter(ctx)
	w.stream.ChunkSize, w.stream.ChunkRetryDeadline = chunk, chunkTime
	w.stream.ContentType = contentType
	w.stream.ProgressFunc = func(int64) { w.tries, w.doubts = 0, false }
}

// again tells the SDK whether to send a request of the upload again: the service knows what it has of a chunk, and ignores
// what it gets twice.
func (w *writer) again(err error) bool {
	if err == nil {
		return false
	}
	w.tries++
	answer, answered := errors.AsType[*googleapi.Error](err)
	gone := answered && answer.Code == http.StatusGone // with all chunks that it had
	if gone || w.tries == chunkTries || !w.store.client.Again(explain(short(err)).Outcome) {
		return false
	}
	w.doubts = true
	return true
}

// Close implements storage.Writer.
func (w *writer) Close() error {
	err := w.usable()
	if w.done {
		return err
	}
	w.done = true
	defer w.cancel()
	data := w.data
	w.data = nil
	if w.stream == nil {
		if err != nil {
			return err
		}
		return w.store.Put(w.ctx, w.name, data)
	}
	if err == nil {
		_, err = w.store.client.Do(w.ctx, w.operation(remote.Complete), func(context.Context) error {
			_, _ = w.stream.Write(data) // its error is that of Close
			return shortOfBucket(w.stream.Close())
		})
	}
	if err == nil {
		return nil
	}
	_ = w.remove() // the object may be there: nobody can be told that it is not
	if w.doubts && (errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist)) {
		return fmt.Errorf("%s (an earlier try had no answer, it may have been carried out)", err.Error())
	}
	return err
}

// Abort implements storage.Writer. What the service has of the object is seen by nobody.
func (w *writer) Abort() error {
	if w.done {
		return nil
	}
	w.done, w.data = true, nil
	return w.remove()
}

// remove ends the upload, also when the caller has given up. One that is left behind ends by itself after a week.
func (w *writer) remove() error {
	w.cancel() // before Close, which would complete the object
	if w.stream == nil {
		return nil
	}
	_ = w.stream.Close() // waits for the SDK's goroutine
	if w.upload.session == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), abortTime)
	defer cancel()
	return w.store.do(ctx, remote.Abort, w.name, false, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodDelete, w.upload.session, http.NoBody)
		if err != nil {
			return short(err)
		}
		response, err := w.store.http.Do(req)
		if err != nil {
			return short(err)
		}
		defer response.Body.Close()
		switch response.StatusCode {
		case statusCancelled, http.StatusNotFound, http.StatusGone:
			return nil
		}
		return short(googleapi.CheckResponse(response))
	})
}

const statusCancelled = 499 // how the service says that an upload is cancelled
