package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxDurable bounds the memory of folders that were made durable. Forgetting costs a few syncs.
const maxDurable = 10_000

// makeFolder makes dir exist durably. The sync of a file's own folder says nothing about that folder's entry in its
// parent, and a folder that is already there may have been made a moment ago by another process that has not synced
// yet. So the first use of a folder syncs all parents up to the root's, whoever created it.
func (s *Store) makeFolder(dir string) error {
	s.mu.Lock()
	_, known := s.durable[dir]
	s.mu.Unlock()
	if known {
		return nil
	}
	existing := deepestExisting(dir)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return s.impossible(err)
	}
	for d := dir; within(d, s.root) || within(d, existing) && d != existing; d = filepath.Dir(d) {
		parent := filepath.Dir(d)
		if parent == d {
			break
		}
		err := s.syncPath(parent)
		outside := !within(parent, s.root) && (errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS))
		if err != nil && !outside { // a folder above the root may be one that we may only pass through
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.durable) >= maxDurable {
		clear(s.durable)
	}
	s.durable[dir] = struct{}{}
	return nil
}

// impossible makes of the system's "no such file" about the root, or a folder above it whose parent is there, what it means: no
// folder can be made at that place, as below /proc, and trying again does not help.
func (s *Store) impossible(err error) error {
	var at *fs.PathError
	if !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &at) || !within(s.root, at.Path) {
		return err
	}
	if _, gone := os.Stat(filepath.Dir(at.Path)); gone != nil {
		return err
	}
	return fmt.Errorf("%s: no folder can be made there; check the table's path: %w", at.Path, fs.ErrInvalid)
}

func (s *Store) forgetFolder(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.durable, dir)
}

func (s *Store) syncPath(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // nothing was written through it
	return s.syncFolder(f)
}

// deepestExisting returns dir or its nearest ancestor that exists.
func deepestExisting(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return dir
		}
		dir = parent
	}
}

// within tells whether dir is ancestor or lies below it; both are absolute and clean.
func within(dir, ancestor string) bool {
	if len(dir) <= len(ancestor) {
		return dir == ancestor
	}
	return dir[:len(ancestor)] == ancestor && (os.IsPathSeparator(dir[len(ancestor)]) || os.IsPathSeparator(ancestor[len(ancestor)-1]))
}
