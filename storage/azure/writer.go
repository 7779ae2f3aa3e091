package azure

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io/fs"
	"sync"

	"kafkadelta/storage"
	"kafkadelta/storage/remote"
)

// Limits of a stream. A blob has at most 50,000 blocks (learn.microsoft.com/rest/api/storageservices/put-block), so blocks
// double in size each 10,000: 2.4 TiB of blocks of 8 MiB at first, the last of 128 MiB; less of smaller ones. Memory is one block that fills, and those that are sent.
const (
	blocksGrow  = 10_000
	blocksLimit = 50_000
)

// blockSize is the size of block number n of a stream, from 0.
func blockSize(first, n int) int { return first << (n / blocksGrow) }

// writer streams one object. Bytes that fit into one block are sent in one put at Close, so that small objects cost one
// request. Its context is that of Create.
type writer struct {
	ctx    context.Context // that of Create: it rules the whole stream
	cancel context.CancelFunc
	store  *Store
	name   string
	id     string // of this attempt: the blocks of another one for the same name never mix in
	first  int    // size of the first block
	data   []byte // the block that fills
	blocks []string
	done   bool

	flying sync.WaitGroup
	mu     sync.Mutex
	err    error // the first of a block
}

// Create implements storage.Store. The context rules the whole stream: once it is done, Write and Close fail.
func (s *Store) Create(ctx context.Context, name string) (storage.Writer, error) {
	if err := check(ctx, "create", name); err != nil {
		return nil, err
	}
	w := &writer{store: s, name: name, id: randomID(), first: s.client.PartSize()}
	w.ctx, w.cancel = context.WithCancel(ctx)
	return w, nil
}

// Held is the memory that the block takes that fills, in bytes. It is for who writes.
func (w *writer) Held() int { return cap(w.data) }

// Write implements storage.Writer.
func (w *writer) Write(p []byte) (int, error) {
	written := 0
	for {
		if err := w.usable(); err != nil {
			return written, err
		}
		n := min(len(p), blockSize(w.first, len(w.blocks))-len(w.data))
		w.data = append(w.data, p[:n]...)
		p, written = p[n:], written+n
		if len(p) == 0 {
			return written, nil
		}
		if err := w.stage(); err != nil {
			return written, err
		}
		w.data = make([]byte, 0, blockSize(w.first, len(w.blocks)))
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
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// stage sends the block that has filled, once few enough are in flight.
func (w *writer) stage() error {
	if len(w.blocks) == blocksLimit {
		return fmt.Errorf("writing %q: the object is larger than %d blocks, the most that Azure takes", w.name, blocksLimit)
	}
	sent, err := w.store.client.AwaitPart(w.ctx)
	if err != nil {
		return fmt.Errorf("writing %q: %w", w.name, err)
	}
	data, id := w.data, blockID(w.id, len(w.blocks))
	w.data, w.blocks = nil, append(w.blocks, id)
	w.flying.Go(func() {
		defer sent()
		op := remote.Operation{Name: remote.Part, Object: w.store.url + "/" + w.name} // writes nothing that shows
		_, err := w.store.client.Do(w.ctx, op, func(ctx context.Context) error {
			_, err := w.store.blob(w.name).StageBlock(ctx, id, body(data), nil)
			return short(err)
		})
		if err != nil {
			w.mu.Lock()
			if w.err == nil {
				w.err = err
			}
			w.mu.Unlock()
		}
	})
	return nil
}

// blockID is the id of a block; those of one object must have one length.
func blockID(attempt string, n int) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32([]byte(attempt), uint32(n)))
}

// Close implements storage.Writer.
func (w *writer) Close() error {
	err := w.usable()
	if err == nil && len(w.blocks) > 0 && len(w.data) > 0 {
		err = w.stage()
	}
	w.done = true
	w.flying.Wait()
	defer w.cancel()
	if err == nil {
		w.mu.Lock()
		err = w.err
		w.mu.Unlock()
	}
	data := w.data
	w.data = nil
	switch {
	case err != nil:
		return err
	case len(w.blocks) == 0:
		return w.store.Put(w.ctx, w.name, data)
	}
	return w.store.do(w.ctx, remote.Complete, w.name, true, func(ctx context.Context) error {
		_, err := w.store.blob(w.name).CommitBlockList(ctx, w.blocks, nil)
		return err
	})
}

// Abort implements storage.Writer. What was staged is seen by nobody; the service forgets it within a week, or when the name
// is written again, and has no request that removes it earlier.
func (w *writer) Abort() error {
	if !w.done {
		w.done = true
		w.cancel()
		w.flying.Wait()
		w.data = nil
	}
	return nil
}
