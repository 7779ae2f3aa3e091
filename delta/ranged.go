package delta

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
)

// wholeCheckpoint is the size up to which a file of a log checkpoint is fetched with one read. A larger one is read column
// chunk by column chunk through buffers of checkpointBuffer bytes. A variable for the tests' sake.
var wholeCheckpoint int64 = 8 << 20

const (
	checkpointBuffer = 1 << 20
	checkpointTail   = 128 << 10 // read at once from the end of a large one: its footer is nearly always in there
)

// rangedObject reads an object in the store at will, as Parquet needs it. There is nothing to close.
type rangedObject struct {
	*io.SectionReader
	at *storeReaderAt
}

type storeReaderAt struct {
	ctx   context.Context //nolint:containedctx // of one reading: io.ReaderAt has no place for one
	store LogStore
	name  string
	err   error // the store's first error, which the Parquet library may hide

	window    []byte // a part of the object that was read ahead
	windowOff int64
}

// openRanged opens a file of a log checkpoint. Its size is the one that a listing or a sidecar action told.
func openRanged(ctx context.Context, store LogStore, f checkpointFile) (*rangedObject, error) {
	at := &storeReaderAt{ctx: ctx, store: store, name: f.name}
	if f.size > wholeCheckpoint {
		tail := min(checkpointTail, wholeCheckpoint, f.size)
		if err := at.prefetch(f.size-tail, tail); err != nil {
			return nil, fmt.Errorf("reading the log checkpoint %s: %w", f.name, err)
		}
		return &rangedObject{io.NewSectionReader(at, 0, f.size), at}, nil
	}
	data, err := at.get(0, max(f.size, 0)+1)
	if err != nil {
		return nil, fmt.Errorf("reading the log checkpoint %s: %w", f.name, err)
	}
	if int64(len(data)) > f.size {
		return nil, corruptf("log checkpoint %s is larger than the %d bytes that the log says", f.name, f.size)
	}
	return &rangedObject{io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data))), at}, nil
}

// get reads a range; it is shorter where the object ends.
func (s *storeReaderAt) get(off, n int64) ([]byte, error) {
	r, err := s.store.Get(s.ctx, s.name, off, n)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, n))
	return data, errors.Join(err, r.Close())
}

// prefetch reads a range ahead, so that reads within it cost nothing more.
func (s *storeReaderAt) prefetch(off, n int64) error {
	data, err := s.get(off, n)
	if err != nil {
		s.err = cmp.Or(s.err, err)
		return err
	}
	s.window, s.windowOff = data, off
	return nil
}

// ahead tells whether a range was read ahead.
func (s *storeReaderAt) ahead(off, n int64) bool {
	return off >= s.windowOff && off+n <= s.windowOff+int64(len(s.window))
}

func (s *storeReaderAt) ReadAt(p []byte, off int64) (int, error) {
	if s.ahead(off, int64(len(p))) {
		return copy(p, s.window[off-s.windowOff:]), nil
	}
	n, err := s.read(p, off)
	if err != nil && !errors.Is(err, io.EOF) && s.err == nil {
		s.err = err
	}
	return n, err
}

func (s *storeReaderAt) read(p []byte, off int64) (int, error) {
	r, err := s.store.Get(s.ctx, s.name, off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	n, err := io.ReadFull(r, p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, errors.Join(err, r.Close())
}

// guard runs a piece of the Parquet library, which panics on some corrupt files. It tells a store that failed, where trying
// again helps, from a file that is broken, where it does not.
func (o *rangedObject) guard(f func() error) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case runtime.Error:
			err = fmt.Errorf("the Parquet library cannot read it (%w)", r)
		default:
			err = fmt.Errorf("%v", r)
		}
		switch {
		case err == nil:
		case o.at.err != nil:
			err = fmt.Errorf("reading the log checkpoint %s: %w", o.at.name, o.at.err)
		case o.at.ctx.Err() != nil:
			err = o.at.ctx.Err()
		default:
			err = corruptf("log checkpoint %s: %w", o.at.name, err)
		}
	}()
	if err := o.at.ctx.Err(); err != nil {
		return err
	}
	return f()
}
