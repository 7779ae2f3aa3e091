// Package local keeps objects as files below one folder of a file system.
//
// It owns the mapping from object names to paths, the temporary files of unfinished writes, and the order of syscalls
// that makes a write atomic and durable.
//
// It promises what storage.Store promises, and:
//   - A write that returned nil survives a power loss: the file's bytes, its entry in the folder, and the entries of
//     folders that were created for it. The same holds for Delete, and for an fs.ErrExist from PutIfAbsent: who reads
//     the object that won builds on something that stays.
//   - PutIfAbsent is atomic among goroutines, processes and machines that see the same file system, as far as link(2)
//     is (ext4, xfs, btrfs, overlayfs, tmpfs, APFS, NFS). Where there are no hard links it renames without replacing
//     (renameat2, renamex_np, MoveFileEx), and where there is neither it fails, having written nothing.
//   - Once an object is visible, an error of the same call wraps no classified cause: Unknown is all that is left.
//
// It never removes anything but the temporary file it created itself, the object it was told to delete, and Hadoop's
// checksum of an object that was replaced or deleted: Hadoop's local file system (Spark) writes a ".<name>.crc" next to
// each file and refuses to read a file that no longer matches it.
//
// # Temporary files
//
// An unfinished write is the file ".<name>.<random>.tmp" in the folder of its target. A crash leaves it there. It is
// never listed, and readers and VACUUM skip it because of the dot, so it costs space only; nothing here removes it,
// since only the operator knows that its writer is dead. Once no writer is older than a day, this does it:
//
//	find <root> -name '.*.tmp' -mtime +1 -delete
//
// Names of that form cannot be used for objects.
//
// # What a file system is not
//
// An object cannot have the name of a folder ("a" next to "a/b"). Where the file system ignores case or normalises
// Unicode (macOS, Windows), so do names. Listing follows a symbolic link to a file but not to a folder, where it could
// loop. File systems that cannot sync a folder at all (some FUSE and SMB mounts) get no durability for folder entries.
// Windows has no folder sync; moves are written through instead, and replacing or deleting a file that is being read
// may be refused there.
//
// Only writers with the same put-if-absent may share a table: delta-rs on a local path does, Spark's local log store
// does not (it checks, then renames over what is there), so Spark may read such a table but not write to it meanwhile.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"kafkadelta/storage"
)

// Store is a storage.Store over the files below one folder.
type Store struct {
	root string // absolute

	// The two syscalls whose failure decides between "not written" and "unknown". Replaced by tests only.
	linkNew    func(temp, target string) error
	syncFolder func(*os.File) error

	mu      sync.Mutex
	durable map[string]struct{} // folders whose entries, up to the root's own, are known to be on disk
}

var _ storage.Store = (*Store)(nil)

// New returns the store whose root is the given folder, relative to the working directory of now. The folder need not
// exist: the first write creates it. It is an error when root is something else than a folder or cannot be looked at.
func New(root string) (*Store, error) {
	if root == "" {
		return nil, errors.New("opening local store: the path is empty; give a folder")
	}
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("opening local store %q: %w", root, err)
	}
	info, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("opening local store %q: %w", root, err)
	case !info.IsDir():
		return nil, fmt.Errorf("opening local store %q: it is a file; give the table's folder", root)
	}
	return &Store{root: abs, linkNew: linkNew, syncFolder: syncFolder, durable: map[string]struct{}{}}, nil
}

// Root returns the absolute path of the root folder.
func (s *Store) Root() string { return s.root }

// Get implements storage.Store. Reads fail once ctx is done.
func (s *Store) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	r, err := s.get(ctx, name, offset, length)
	if err != nil {
		return nil, opError("getting", name, err)
	}
	return r, nil
}

func (s *Store) get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	target, err := s.path(name)
	if err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, fmt.Errorf("offset %d is negative: %w", offset, fs.ErrInvalid)
	}
	f, err := os.Open(target)
	if err != nil {
		return nil, missing(err)
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("it is a folder, not an object: %w", fs.ErrNotExist)
	}
	if err != nil {
		_ = f.Close() // only read
		return nil, err
	}
	rest := max(0, info.Size()-offset)
	if length < 0 || length > rest {
		length = rest
	}
	return &reader{SectionReader: io.NewSectionReader(f, offset, length), ctx: ctx, file: f}, nil
}

type reader struct {
	*io.SectionReader
	ctx  context.Context
	file *os.File
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.SectionReader.Read(p)
}

func (r *reader) Close() error { return r.file.Close() }

// Delete implements storage.Store. Folders stay, also when they become empty: removing one races with a writer that is
// about to use it.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := s.delete(ctx, name); err != nil {
		return opError("deleting", name, err)
	}
	return nil
}

func (s *Store) delete(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	target, err := s.path(name)
	if err != nil {
		return err
	}
	// os.Remove would also remove an empty folder, which is not an object.
	info, err := os.Lstat(target)
	if err == nil && info.IsDir() {
		return nil
	}
	if err != nil {
		if errors.Is(missing(err), fs.ErrNotExist) {
			return nil
		}
		return err
	}
	dropHadoopChecksum(target)
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	folder, err := os.Open(filepath.Dir(target))
	if err != nil {
		return afterLanding(err)
	}
	defer func() { _ = folder.Close() }() // nothing was written through it
	if err := s.syncFolder(folder); err != nil {
		return afterLanding(err)
	}
	return nil
}

// path validates an object name and maps it to a path of the operating system.
func (s *Store) path(name string) (string, error) {
	if !fs.ValidPath(name) || name == "." {
		return "", fmt.Errorf("invalid object name: want relative UTF-8 without empty, \".\" or \"..\" parts: %w", fs.ErrInvalid)
	}
	if isTemp(path.Base(name)) {
		return "", fmt.Errorf("invalid object name: \".*.tmp\" is kept for temporary files: %w", fs.ErrInvalid)
	}
	rel, err := filepath.Localize(name)
	if err != nil {
		return "", fmt.Errorf("invalid object name: this operating system cannot store it: %w", fs.ErrInvalid)
	}
	return filepath.Join(s.root, rel), nil
}

// isTemp tells a temporary file by its base name. Spark's have the same form, so they are skipped too.
func isTemp(base string) bool {
	const suffix = ".tmp"
	return strings.HasPrefix(base, ".") && len(base) > len(suffix) && strings.EqualFold(base[len(base)-len(suffix):], suffix)
}

// missing makes "a part of the path is a file" mean what it means for names: there is no such object.
func missing(err error) error {
	if errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	}
	return err
}

// opError adds what was done to which object. A read-only file system is a missing permission: waiting does not help.
func opError(op, name string, err error) error {
	if errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("%s %q: %w: %w", op, name, err, fs.ErrPermission)
	}
	return fmt.Errorf("%s %q: %w", op, name, err)
}

// afterLanding hides the cause's class: the write is visible already, so nobody may read fs.ErrExist or
// fs.ErrPermission, and with it "not written", out of the error. What is left is Unknown.
func afterLanding(err error) error {
	return fmt.Errorf("done, but not known to be durable: %v", err) //nolint:errorlint // hides the class
}

// dropHadoopChecksum removes the checksum file that Hadoop may have left for an earlier content of target. It comes
// before the change, so that no reader meets the new content with the old checksum; without one Hadoop reads unchecked.
func dropHadoopChecksum(target string) {
	dir, base := filepath.Split(target)
	_ = os.Remove(dir + "." + base + ".crc") // mostly not there; and if it stays, only Hadoop's check of this file suffers
}
