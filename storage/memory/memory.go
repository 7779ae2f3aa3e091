// Package memory keeps objects in the memory of the process, for tests, simulations and demos.
//
// It owns a sorted list of objects. It promises the whole contract of storage.Store, with the strictest reading of it:
// a call takes effect at one instant under one lock, and a stream's bytes are nowhere before Close. It does nothing in
// the background, so it fits into testing/synctest, whose clock also stamps the objects.
//
// It never survives the process, and never fails except as the contract says; wrap it in faultstore for that.
package memory

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"kafkadelta/storage"
)

// Store is a storage.Store in memory.
type Store struct {
	mu      sync.RWMutex
	objects []object // sorted by name
}

// object is immutable, its bytes included: replacing an object replaces the element.
type object struct {
	name    string
	data    []byte
	modTime time.Time
}

var _ storage.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store { return &Store{} }

// Clone returns an independent copy of what is visible now, as a crash of every writer would leave it: streams that
// are not closed are not in it. It costs one pointer copy per object, the bytes are shared.
func (s *Store) Clone() *Store {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return &Store{objects: slices.Clone(s.objects)}
}

// page is how many objects List takes at a time under the lock.
const page = 256

// List implements storage.Store. The consumer may call the store while it ranges; what changes behind the listing's
// position is then not seen, as with an object store that lists in pages.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[storage.ObjectInfo, error] {
	return func(yield func(storage.ObjectInfo, error) bool) {
		folder := prefix[:strings.LastIndexByte(prefix, '/')+1]
		if folder != "" && (folder == "./" || !fs.ValidPath(strings.TrimSuffix(folder, "/"))) {
			yield(storage.ObjectInfo{}, fmt.Errorf("listing %q: invalid prefix: %w", prefix, fs.ErrInvalid))
			return
		}
		for {
			if err := ctx.Err(); err != nil {
				yield(storage.ObjectInfo{}, fmt.Errorf("listing %q: %w", prefix, err))
				return
			}
			found := s.page(prefix, after)
			for _, o := range found {
				if !yield(storage.ObjectInfo{Name: o.name, Size: int64(len(o.data)), ModTime: o.modTime}, nil) {
					return
				}
			}
			if len(found) < page {
				return
			}
			after = found[len(found)-1].name
		}
	}
}

// page returns copies of the next objects of a listing.
func (s *Store) page(prefix, after string) []object {
	s.mu.RLock()
	defer s.mu.RUnlock()
	i, _ := s.find(prefix)
	if after >= prefix {
		var exact bool
		if i, exact = s.find(after); exact {
			i++
		}
	}
	end := i
	for end < len(s.objects) && end-i < page && strings.HasPrefix(s.objects[end].name, prefix) {
		end++
	}
	return slices.Clone(s.objects[i:end])
}

// Get implements storage.Store. Reads fail once ctx is done.
func (s *Store) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := check(ctx, "getting", name); err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, fmt.Errorf("getting %q: offset %d is negative: %w", name, offset, fs.ErrInvalid)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	i, ok := s.find(name)
	if !ok {
		return nil, fmt.Errorf("getting %q: %w", name, fs.ErrNotExist)
	}
	data := s.objects[i].data
	data = data[min(offset, int64(len(data))):]
	if length >= 0 {
		data = data[:min(length, int64(len(data)))]
	}
	return &reader{Reader: bytes.NewReader(data), ctx: ctx}, nil
}

// reader hides bytes.Reader's WriteTo, which would pass by the context.
type reader struct {
	io.Reader
	ctx context.Context
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

func (r *reader) Close() error { return nil }

// Put implements storage.Store.
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	if err := check(ctx, "putting", name); err != nil {
		return err
	}
	s.set(name, bytes.Clone(data))
	return nil
}

// PutIfAbsent implements storage.Store.
func (s *Store) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	if err := check(ctx, "putting if absent", name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.find(name)
	if ok {
		return fmt.Errorf("putting if absent %q: %w", name, fs.ErrExist)
	}
	s.objects = slices.Insert(s.objects, i, object{name, bytes.Clone(data), time.Now()})
	return nil
}

// Create implements storage.Store. The context rules the whole stream: once it is done, Write and Close fail.
func (s *Store) Create(ctx context.Context, name string) (storage.Writer, error) {
	if err := check(ctx, "creating", name); err != nil {
		return nil, err
	}
	return &writer{ctx: ctx, store: s, name: name}, nil
}

// Delete implements storage.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := check(ctx, "deleting", name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, ok := s.find(name); ok {
		s.objects = slices.Delete(s.objects, i, i+1)
	}
	return nil
}

// set puts an object whose bytes nobody else changes any more.
func (s *Store) set(name string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := object{name, data, time.Now()}
	if i, ok := s.find(name); ok {
		s.objects[i] = o
	} else {
		s.objects = slices.Insert(s.objects, i, o)
	}
}

func (s *Store) find(name string) (int, bool) {
	return slices.BinarySearchFunc(s.objects, name, func(o object, name string) int { return strings.Compare(o.name, name) })
}

// check refuses what every backend refuses, so that a simulation does not pass with a name that a real store rejects.
func check(ctx context.Context, op, name string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %q: %w", op, name, err)
	}
	if !fs.ValidPath(name) || name == "." {
		return fmt.Errorf("%s %q: invalid object name: want relative UTF-8 without empty, \".\" or \"..\" parts: %w", op, name, fs.ErrInvalid)
	}
	return nil
}

type writer struct {
	ctx   context.Context
	store *Store
	name  string
	data  []byte
	done  bool
}

func (w *writer) Write(p []byte) (int, error) {
	if err := w.usable("writing"); err != nil {
		return 0, err
	}
	w.data = append(w.data, p...)
	return len(p), nil
}

func (w *writer) Close() error {
	err := w.usable("closing")
	w.done = true
	if err != nil {
		return err
	}
	w.store.set(w.name, w.data)
	return nil
}

func (w *writer) Abort() error {
	w.done, w.data = true, nil
	return nil
}

// usable lets a Write that failed because of the context fail Close as well: a context stays done.
func (w *writer) usable(op string) error {
	if w.done {
		return fmt.Errorf("%s %q: %w", op, w.name, fs.ErrClosed)
	}
	if err := w.ctx.Err(); err != nil {
		return fmt.Errorf("%s %q: %w", op, w.name, err)
	}
	return nil
}
