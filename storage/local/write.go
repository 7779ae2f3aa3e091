package local

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unicode/utf8"

	"kafkadelta/storage"
)

// Put implements storage.Store.
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	if err := s.put(ctx, name, data, false); err != nil {
		return opError("putting", name, err)
	}
	return nil
}

// PutIfAbsent implements storage.Store.
func (s *Store) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	if err := s.put(ctx, name, data, true); err != nil {
		return opError("putting if absent", name, err)
	}
	return nil
}

func (s *Store) put(ctx context.Context, name string, data []byte, absent bool) error {
	st, err := s.stage(ctx, name, absent)
	if err != nil {
		return err
	}
	defer st.discard()
	if _, err := st.file.Write(data); err != nil {
		return err
	}
	if err := st.seal(ctx); err != nil {
		return err
	}
	if absent {
		return st.publishNew()
	}
	return st.publish()
}

// Create implements storage.Store. The context rules the whole stream: once it is done, Write and Close fail.
func (s *Store) Create(ctx context.Context, name string) (storage.Writer, error) {
	st, err := s.stage(ctx, name, false)
	if err != nil {
		return nil, opError("creating", name, err)
	}
	return &writer{ctx: ctx, name: name, staged: st}, nil
}

// writer streams into a staged file. It is used by one goroutine.
type writer struct {
	ctx    context.Context
	name   string
	staged *staged
	failed error // of a Write: an object with a hole must never be published
	done   bool
}

func (w *writer) Write(p []byte) (int, error) {
	if w.done {
		return 0, opError("writing", w.name, fs.ErrClosed)
	}
	if w.failed == nil {
		w.failed = w.ctx.Err()
	}
	if w.failed != nil {
		return 0, opError("writing", w.name, w.failed)
	}
	n, err := w.staged.file.Write(p)
	if err != nil {
		w.failed = err
		return n, opError("writing", w.name, err)
	}
	return n, nil
}

func (w *writer) Close() error {
	if w.done {
		return opError("closing", w.name, fs.ErrClosed)
	}
	w.done = true
	defer w.staged.discard()
	if w.failed != nil {
		return opError("closing", w.name, fmt.Errorf("an earlier write failed: %w", w.failed))
	}
	if err := w.staged.seal(w.ctx); err != nil {
		return opError("closing", w.name, err)
	}
	if err := w.staged.publish(); err != nil {
		return opError("closing", w.name, err)
	}
	return nil
}

func (w *writer) Abort() error {
	if w.done {
		return nil
	}
	w.done = true
	w.staged.discard()
	return nil
}

// staged is a temporary file on its way to become the object at target. discard must be called in the end.
type staged struct {
	store  *Store
	target string
	path   string
	file   *os.File
	folder *os.File // opened before anything is visible, so that only the sync itself can fail afterwards
	info   os.FileInfo
	closed bool
	gone   bool // the temporary name no longer exists
}

// stage opens a temporary file next to the object. With absent, a name that is taken is refused right here, which
// spares the loser of a race the writing.
func (s *Store) stage(ctx context.Context, name string, absent bool) (*staged, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	target, err := s.path(name)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(target)
	if err := s.makeFolder(dir); err != nil {
		return nil, err
	}
	st, err := s.openStaged(target, absent)
	if errors.Is(err, fs.ErrNotExist) {
		// The folder was known as durable and has been removed since: make it once more.
		s.forgetFolder(dir)
		if err := s.makeFolder(dir); err != nil {
			return nil, err
		}
		st, err = s.openStaged(target, absent)
	}
	return st, err
}

func (s *Store) openStaged(target string, absent bool) (_ *staged, err error) {
	folder, err := os.Open(filepath.Dir(target))
	if err != nil {
		return nil, err
	}
	st := &staged{store: s, target: target, folder: folder, gone: true, closed: true}
	defer func() {
		if err != nil {
			st.discard()
		}
	}()
	info, err := os.Lstat(target)
	switch {
	case err == nil && info.IsDir():
		return nil, errFolder
	case err == nil && absent:
		return nil, st.taken()
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	st.path = tempPath(target)
	// Not os.CreateTemp: its mode 0600 would stay with the object and lock out readers that run as another user.
	if st.file, err = os.OpenFile(st.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666); err != nil {
		return nil, err
	}
	st.gone, st.closed = false, false
	st.info, err = st.file.Stat()
	return st, err
}

var errFolder = errors.New("a folder has this name, and a file system cannot keep an object beside it")

// seal makes the bytes durable under the temporary name. A context that is done by now still stops the write: nothing
// is visible yet.
func (st *staged) seal(ctx context.Context) error {
	if err := st.file.Sync(); err != nil {
		return err
	}
	st.closed = true
	if err := st.file.Close(); err != nil {
		return err
	}
	return ctx.Err()
}

// publish makes the sealed file the object, replacing what was there.
func (st *staged) publish() error {
	dropHadoopChecksum(st.target)
	if err := renameOver(st.path, st.target); err != nil && !st.landed() {
		if st.folderInTheWay() {
			return errFolder // os.Rename calls this fs.ErrExist, which it is not: nothing here is an object
		}
		return err
	}
	st.gone = true
	if err := st.store.syncFolder(st.folder); err != nil {
		return afterLanding(err)
	}
	return nil
}

// publishNew makes the sealed file the object if the name is free.
func (st *staged) publishNew() error {
	err := st.store.linkNew(st.path, st.target)
	switch {
	case err == nil || st.landed():
	case !errors.Is(err, fs.ErrExist):
		return err
	case st.folderInTheWay():
		return errFolder
	default:
		return st.taken()
	}
	// The temporary name goes before the sync, so that one sync covers both entries. A crash in between may lose
	// both, but then the call has not returned.
	st.removeTemp()
	if err := st.store.syncFolder(st.folder); err != nil {
		return afterLanding(err)
	}
	return nil
}

// landed tells whether the target is the staged file although an error was reported. A network file system that repeats
// a request whose answer was lost finds its own link in the way, or its own rename done.
func (st *staged) landed() bool {
	info, err := os.Lstat(st.target)
	return err == nil && os.SameFile(info, st.info)
}

// taken is the answer for a name that is not free. The winner may be between its link and its sync; the caller will
// read the object and act on it, so it is made durable here first. If that fails, "exists" cannot be said.
func (st *staged) taken() error {
	if err := st.store.syncFolder(st.folder); err != nil {
		return fmt.Errorf("the name is taken, but not known to be durable: %v", err) //nolint:errorlint // Unknown, whatever the cause
	}
	return fs.ErrExist
}

func (st *staged) folderInTheWay() bool {
	info, err := os.Lstat(st.target)
	return err == nil && info.IsDir()
}

// discard closes what is open and removes the temporary name if it is still there. It is safe to call at any time: the
// temporary name is never the target's.
func (st *staged) discard() {
	if !st.closed {
		st.closed = true
		_ = st.file.Close() // the content is given up
	}
	st.removeTemp()
	_ = st.folder.Close() // nothing was written through it
}

// removeTemp is not allowed to change an outcome: a name that stays is only litter.
func (st *staged) removeTemp() {
	if st.gone {
		return
	}
	st.gone = true
	_ = os.Remove(st.path)
}

// tempPath returns a fresh temporary name beside target. The object's own name is in it for whoever finds the file,
// cut so that a long name does not become too long for the file system (255 bytes, on some 143).
func tempPath(target string) string {
	const keep = 80
	dir, base := filepath.Split(target)
	if len(base) > keep {
		cut := keep
		for cut > 0 && !utf8.RuneStart(base[cut]) {
			cut--
		}
		base = base[:cut]
	}
	var random [16]byte
	rand.Read(random[:]) // never fails
	return dir + "." + base + "." + hex.EncodeToString(random[:]) + ".tmp"
}
