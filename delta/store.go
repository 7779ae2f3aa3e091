package delta

import (
	"context"
	"io"
	"iter"
	"time"
)

// ObjectInfo describes one listed object; Name is relative to the table's folder, Size is in bytes.
type ObjectInfo = struct {
	Name    string
	Size    int64
	ModTime time.Time
}

// Writer streams one new object; nothing is visible before Close returns nil. Abort is a no-op after Close.
type Writer = interface {
	io.Writer
	Close() error
	Abort() error
}

// LogStore is the object store that holds one table, rooted at the table's folder. Its methods may be called from any
// goroutine. A missing object wraps fs.ErrNotExist, an existing one fs.ErrExist; any other error of a writing method
// means that the write may have landed or may still land.
type LogStore interface {
	// List yields, in byte order of names, the objects whose name starts with prefix and sorts after `after`.
	List(ctx context.Context, prefix, after string) iter.Seq2[ObjectInfo, error]
	// Get reads length bytes from offset; length < 0 reads to the end.
	Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)
	// Put writes an object whole, replacing what was there.
	Put(ctx context.Context, name string, data []byte) error
	// PutIfAbsent writes an object whole only if the name is free; of concurrent callers exactly one succeeds.
	PutIfAbsent(ctx context.Context, name string, data []byte) error
	// Create streams a new object, replacing at Close what was there.
	Create(ctx context.Context, name string) (Writer, error)
	// Delete removes an object; a missing one is no error.
	Delete(ctx context.Context, name string) error
}

// CheckWrites asks a store that can tell, before the first write, whether it keeps what LogStore promises of writes; an answer
// that is no wraps errors.ErrUnsupported. Who writes to a table calls it once; Create does.
func CheckWrites(ctx context.Context, store LogStore) error {
	if checker, ok := store.(interface{ CheckWrites(context.Context) error }); ok {
		return checker.CheckWrites(ctx)
	}
	return nil
}
