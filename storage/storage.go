// Package storage is the contract between this project and an object store: a flat namespace of immutable objects under
// one root (a table's folder), with an atomic put-if-absent, which is the one primitive that Delta's commit protocol
// needs (PROTOCOL.md, "Delta Log Entries": writers must never overwrite an existing log entry).
//
// Names are relative to the root, '/'-separated, without a leading slash, and are compared byte by byte. A backend lives
// in its own folder (storage/local, storage/memory, ...), passes storagetest.Run, and is reached by URI through
// storage/open. This package imports nothing but the standard library and never retries.
package storage

import (
	"context"
	"io"
	"iter"
	"time"
)

// ObjectInfo describes one listed object. It is an alias of an unnamed struct, so that packages which must not import
// this one (delta) can declare the same listing method.
type ObjectInfo = struct {
	Name    string    // relative to the store's root
	Size    int64     // bytes
	ModTime time.Time // by the store's clock
}

// Writer streams one new object. Nothing is visible before Close returns nil; then the object is whole and durable.
// Abort gives up and removes what was staged; it is a no-op after Close. A failed Close means Unknown: the object may
// exist, whole. Exactly one of Close and Abort must be called. It is an alias for the same reason as ObjectInfo.
type Writer = interface {
	io.Writer
	Close() error
	Abort() error
}

// Store is an object store rooted at one folder. Its methods may be called from any goroutine.
//
// Errors: a missing object wraps fs.ErrNotExist, an existing one fs.ErrExist, missing permission fs.ErrPermission, what the
// store will refuse however often it is asked fs.ErrInvalid. Anything else of a writing method is Unknown: the write may
// have landed or may still land.
type Store interface {
	// List yields the objects whose name starts with prefix and sorts after `after` ("" for all), in byte order of
	// names. A listing sees every object whose write had returned before the listing started. A missing folder lists as
	// empty. Staged, unfinished writes are never listed.
	List(ctx context.Context, prefix, after string) iter.Seq2[ObjectInfo, error]

	// Get reads length bytes from offset; length < 0 reads to the end. A range past the end is cut short.
	Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)

	// Put writes the object whole, replacing what was there.
	Put(ctx context.Context, name string, data []byte) error

	// PutIfAbsent writes the object whole and durably only if the name is free; of concurrent callers exactly one gets
	// nil, the others fs.ErrExist. Nobody ever reads a part of it.
	PutIfAbsent(ctx context.Context, name string, data []byte) error

	// Create streams a new object; an existing one is replaced at Close.
	Create(ctx context.Context, name string) (Writer, error)

	// Delete removes the object. A missing object is no error.
	Delete(ctx context.Context, name string) error
}
