package local

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// TestRenameWithoutReplace runs the way that file systems without hard links get.
func TestRenameWithoutReplace(t *testing.T) {
	s := newStore(t)
	s.linkNew = renameNew
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			err := s.PutIfAbsent(t.Context(), "f/x", []byte("content"))
			switch {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, fs.ErrExist):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Fatalf("%d callers won", won.Load())
	}
	wantFiles(t, s, "f/x")
	wantFile(t, s, "f/x", "content")
}

func TestFallbackIsChosenByError(t *testing.T) {
	for _, e := range []error{syscall.EPERM, syscall.EOPNOTSUPP, syscall.ENOSYS} {
		if !noHardLinks(&os.LinkError{Op: "link", Err: e}) {
			t.Errorf("%v does not lead to the fallback", e)
		}
	}
	for _, e := range []error{nil, syscall.EEXIST, syscall.EIO, syscall.ENOSPC, syscall.EACCES} {
		if e != nil && noHardLinks(&os.LinkError{Op: "link", Err: e}) {
			t.Errorf("%v leads to the fallback", e)
		}
	}
}

// TestFileSystemWithoutEither uses /proc, which can do neither; the error says so.
func TestFileSystemWithoutEither(t *testing.T) {
	err := linkNew("/proc/self/comm", "/proc/self/new")
	if err == nil || !strings.Contains(err.Error(), "no atomic put-if-absent") {
		t.Skipf("/proc answers %v here", err)
	}
	if errors.Is(err, fs.ErrExist) {
		t.Fatalf("%v claims that the name is taken", err)
	}
}

// TestDiskFull writes to a device that is always full: the cause comes through.
func TestDiskFull(t *testing.T) {
	s := newStore(t)
	created, err := s.Create(t.Context(), "x")
	must(t, err)
	w := created.(*writer)
	w.staged.file.Close()
	if w.staged.file, err = os.OpenFile("/dev/full", os.O_WRONLY, 0); err != nil {
		t.Skip(err)
	}
	if _, err := w.Write([]byte("x")); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Write: %v", err)
	}
	if err := w.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Close: %v", err)
	}
	if _, err := os.Stat(filepath.Join(s.root, "x")); err == nil {
		t.Fatal("a part was published")
	}
	wantFiles(t, s)
}
