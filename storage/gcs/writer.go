package gcs

import (
	"context"
	"fmt"
	"hash/crc32"
	"io/fs"
	"time"

	contract "kafkadelta/storage"
	"kafkadelta/storage/remote"
)

// abortTime bounds the end of an upload that is given up.
const abortTime = 10 * time.Second

// writer streams one object. Bytes that fit into one chunk are sent in one put at Close, so that small objects cost one
// request; what is larger becomes a resumable upload, whose chunks are sent one after the other. Google asks for a multiple of 256 KiB, and advises 8 MiB. Memory is
// one chunk that fills and one that is sent meanwhile.
type writer struct {
	ctx    context.Context // that of Create: it rules the whole stream
	cancel context.CancelFunc
	store  *Store
	name   string
	chunk  int    // size of a chunk
	data   []byte // the chunk that fills
	failed error  // the first, which every later call answers
	done   bool

	// The upload. While a chunk is sent, these are its goroutine's; what sending gives ends that.
	sending chan error // nil while none is
	session string     // "" before it has begun
	offset  int64      // of what the service has
	sum     uint32     // the checksum of that
}

// Create implements storage.Store. The context rules the whole stream: once it is done, Write and Close fail.
func (s *Store) Create(ctx context.Context, name string) (contract.Writer, error) {
	if err := check(ctx, "create", name); err != nil {
		return nil, err
	}
	w := &writer{store: s, name: name, chunk: s.client.PartSize()}
	w.ctx, w.cancel = context.WithCancel(ctx)
	return w, nil
}

// Held is the memory that the chunk takes that fills, in bytes. It is for who writes.
func (w *writer) Held() int { return cap(w.data) }

// Write implements storage.Writer.
func (w *writer) Write(p []byte) (int, error) {
	written := 0
	for {
		if err := w.usable(); err != nil {
			return written, err
		}
		n := min(len(p), w.chunk-len(w.data))
		w.data = append(w.data, p[:n]...)
		p, written = p[n:], written+n
		if len(p) == 0 {
			return written, nil // a full chunk waits: it may be all there is, and then is no upload of several requests
		}
		if err := w.flush(); err != nil {
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

// flush has the full chunk sent, once the one before has arrived.
func (w *writer) flush() error {
	if w.failed = w.wait(); w.failed != nil {
		return w.failed
	}
	sent, err := w.store.client.AwaitPart(w.ctx)
	if err != nil {
		return fmt.Errorf("writing %q: %w", w.name, err)
	}
	full := w.data
	w.data = make([]byte, 0, w.chunk)
	sending := make(chan error, 1)
	go func() {
		defer sent()
		sending <- w.send(full, false)
	}()
	w.sending = sending
	return nil
}

// wait ends the sending of a chunk.
func (w *writer) wait() error {
	if w.sending == nil {
		return nil
	}
	err := <-w.sending
	w.sending = nil
	return err
}

// send sends a chunk, and begins the upload where it is the first. It is tried as often as any request: the service passes over what it has.
func (w *writer) send(data []byte, last bool) error {
	if w.session == "" {
		err := w.do(remote.Part, func(ctx context.Context) (err error) {
			w.session, err = w.store.api.begin(ctx, w.store.folder+w.name)
			return err
		})
		if err != nil {
			return err
		}
	}
	operation := remote.Part
	if last {
		operation = remote.Complete
	}
	end, sum := w.offset+int64(len(data)), crc32.Update(w.sum, castagnoli, data)
	for first := true; first || w.offset < end; first = false { // the service need not take all of it at once
		err := w.do(operation, func(ctx context.Context) error {
			has, err := w.store.api.chunk(ctx, w.session, w.offset, data[len(data)-int(end-w.offset):], last, sum)
			if err == nil {
				w.offset = has
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	w.sum = sum
	return nil
}

func (w *writer) do(operation string, try func(context.Context) error) error {
	return w.store.do(w.ctx, operation, w.name, operation == remote.Complete, try)
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
	if w.sending == nil && w.session == "" {
		if err != nil {
			return err
		}
		return w.store.Put(w.ctx, w.name, data)
	}
	if sent := w.wait(); err == nil {
		err = sent
	}
	if err == nil {
		err = w.send(data, true)
	}
	if err != nil {
		_ = w.remove() // the object may be there: nobody can be told that it is not
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
	w.cancel()
	_ = w.wait() // it matters no more
	if w.session == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), abortTime)
	defer cancel()
	return w.store.do(ctx, remote.Abort, w.name, false, func(ctx context.Context) error { return w.store.api.cancel(ctx, w.session) })
}
