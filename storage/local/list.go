package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"kafkadelta/storage"
)

// List implements storage.Store. It reads one folder at a time, when the iteration gets there, and only folders that
// can hold a name of the range; memory is that of the largest folder. Files whose names no Store method accepts are
// left out.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[storage.ObjectInfo, error] {
	return lister{ctx: ctx, store: s, prefix: prefix, after: after}.all()
}

type lister struct {
	ctx           context.Context
	store         *Store
	prefix, after string
	yield         func(storage.ObjectInfo, error) bool
	reading       func(folder string) // told before a folder is read; tests only
}

// all may be ranged over several times, also at once, so each range works on a copy.
func (l lister) all() iter.Seq2[storage.ObjectInfo, error] {
	return func(yield func(storage.ObjectInfo, error) bool) {
		l := l
		l.yield = yield
		folder := l.prefix[:strings.LastIndexByte(l.prefix, '/')+1]
		if folder != "" && (folder == "./" || !fs.ValidPath(strings.TrimSuffix(folder, "/"))) {
			l.fail(fmt.Errorf("invalid prefix: %w", fs.ErrInvalid))
			return
		}
		l.walk(folder)
	}
}

// fail reports an error, which ends the listing.
func (l *lister) fail(err error) bool {
	l.yield(storage.ObjectInfo{}, opError("listing", l.prefix, err))
	return false
}

// walk lists one folder, given as "" or with a trailing slash, and all below it. It returns false when the listing is
// over: broken off by the consumer, or failed.
func (l *lister) walk(folder string) bool {
	if err := l.ctx.Err(); err != nil {
		return l.fail(err)
	}
	dir := strings.TrimSuffix(folder, "/")
	if folder == "" {
		dir = "."
	}
	rel, err := filepath.Localize(dir)
	if err != nil {
		return true // no object can have such a name here
	}
	if l.reading != nil {
		l.reading(folder)
	}
	entries, err := readFolder(filepath.Join(l.store.root, rel))
	if err != nil {
		if folder != "" {
			err = missing(err)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return true
		}
		return l.fail(err)
	}
	for _, e := range entries {
		if !l.visit(folder+e.key, e.DirEntry) {
			return false
		}
	}
	return true
}

func (l *lister) visit(name string, e fs.DirEntry) bool {
	if e.IsDir() {
		if !l.mayHold(name) {
			return true
		}
		return l.walk(name)
	}
	if name <= l.after || !strings.HasPrefix(name, l.prefix) {
		return true
	}
	if err := l.ctx.Err(); err != nil {
		return l.fail(err)
	}
	full, err := l.store.path(name)
	if err != nil {
		return true // a temporary file, or not an object's name
	}
	info, err := os.Stat(full) // not e.Info: NTFS keeps stale sizes in folder entries, and a link's size is its target's
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true // deleted since the folder was read, or a dangling link
	case err != nil:
		return l.fail(err)
	case !info.Mode().IsRegular():
		return true
	}
	return l.yield(storage.ObjectInfo{Name: name, Size: info.Size(), ModTime: info.ModTime()}, nil)
}

// mayHold tells whether a folder (with trailing slash) can hold a name of the range.
func (l *lister) mayHold(folder string) bool {
	if !strings.HasPrefix(folder, l.prefix) && !strings.HasPrefix(l.prefix, folder) {
		return false
	}
	// All names below folder compare to `after` like folder does, except when `after` lies below it too.
	return folder > l.after || strings.HasPrefix(l.after, folder)
}

// entry is a folder's entry with the key that puts it in the order of full names: a folder stands where its content
// does, so that "a-b" comes before "a/b" although "a" comes before "a-b".
type entry struct {
	fs.DirEntry
	key string
}

func readFolder(dir string) ([]entry, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	found, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	entries := make([]entry, 0, len(found))
	for _, e := range found {
		key := e.Name()
		if e.IsDir() {
			key += "/"
		}
		entries = append(entries, entry{e, key})
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	// A file that is replaced while the folder is read may show up twice.
	return slices.CompactFunc(entries, func(a, b entry) bool { return a.key == b.key }), nil
}
