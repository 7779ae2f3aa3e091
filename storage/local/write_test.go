package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func newStore(t *testing.T) *Store {
	t.Helper()
	s, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// files returns every file below the root, temporary ones included.
func files(t *testing.T, s *Store) []string {
	t.Helper()
	found := []string{}
	err := filepath.WalkDir(s.root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, _ := filepath.Rel(s.root, path)
			found = append(found, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(found)
	return found
}

func wantFiles(t *testing.T, s *Store, want ...string) {
	t.Helper()
	if got := files(t, s); !slices.Equal(got, want) {
		t.Fatalf("files are %q, want %q", got, want)
	}
}

func wantFile(t *testing.T, s *Store, name, want string) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(s.root, filepath.FromSlash(name)))
	if err != nil || string(got) != want {
		t.Fatalf("%q holds %q, %v; want %q", name, got, err, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantUnknown checks that an error claims neither that the object is new nor that it is not.
func wantUnknown(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, class := range []error{fs.ErrExist, fs.ErrNotExist, fs.ErrPermission, fs.ErrInvalid} {
		if errors.Is(err, class) {
			t.Fatalf("%v claims to be %q", err, class)
		}
	}
}

// TestFolderSyncFailsAfterLanding has every class of error come from the sync after the object is visible.
func TestFolderSyncFailsAfterLanding(t *testing.T) {
	for _, cause := range []error{syscall.EIO, syscall.EEXIST, syscall.EACCES, syscall.ENOENT, syscall.EROFS} {
		t.Run(cause.Error(), func(t *testing.T) {
			s := newStore(t)
			must(t, s.Put(t.Context(), "known", []byte("x"))) // the folder is durable now, so the next sync is the last one
			broken := true
			s.syncFolder = func(f *os.File) error {
				if broken {
					return &os.PathError{Op: "sync", Path: f.Name(), Err: cause}
				}
				return nil
			}
			wantUnknown(t, s.PutIfAbsent(t.Context(), "new", []byte("first")))
			wantFile(t, s, "new", "first")
			wantUnknown(t, s.PutIfAbsent(t.Context(), "new", []byte("second"))) // not "exists": it may not last
			wantUnknown(t, s.Put(t.Context(), "put", []byte("put")))
			w, err := s.Create(t.Context(), "created")
			must(t, err)
			_, err = w.Write([]byte("created"))
			must(t, err)
			wantUnknown(t, w.Close())
			must(t, w.Abort())
			wantUnknown(t, s.Delete(t.Context(), "known"))
			wantFiles(t, s, "created", "new", "put")

			broken = false
			if err := s.PutIfAbsent(t.Context(), "new", []byte("second")); !errors.Is(err, fs.ErrExist) {
				t.Fatalf("got %v, want fs.ErrExist", err)
			}
			wantFile(t, s, "new", "first")
		})
	}
}

func TestLinkOutcomes(t *testing.T) {
	enospc := &os.LinkError{Op: "link", Err: syscall.ENOSPC}
	eexist := &os.LinkError{Op: "link", Err: syscall.EEXIST}
	cases := []struct {
		name string
		link func(temp, target string) error
		want error // nil for success
		left []string
	}{
		{"fails and does nothing", func(_, _ string) error { return enospc }, syscall.ENOSPC, []string{}},
		{"lands and reports an error", func(temp, target string) error { return errors.Join(os.Link(temp, target), enospc) }, nil, []string{"x"}},
		{"lands and reports its own link as existing", func(temp, target string) error { return errors.Join(os.Link(temp, target), eexist) }, nil, []string{"x"}},
		{"moves instead of linking", os.Rename, nil, []string{"x"}},
		{"moves and reports an error", func(temp, target string) error { return errors.Join(os.Rename(temp, target), eexist) }, nil, []string{"x"}},
		{"loses", func(_, target string) error { return errors.Join(os.WriteFile(target, []byte("mine"), 0o666), eexist) }, fs.ErrExist, []string{"x"}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := newStore(t)
			s.linkNew = tc.link
			if err := s.PutIfAbsent(t.Context(), "x", []byte("mine")); !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			wantFiles(t, s, tc.left...)
			if len(tc.left) > 0 {
				wantFile(t, s, "x", "mine")
			}
		})
	}
}

// TestReplaceLandedAlready repeats a rename that is done, as a network file system does after a lost answer. It must not
// come out as "there is no such file".
func TestReplaceLandedAlready(t *testing.T) {
	s := newStore(t)
	st, err := s.stage(t.Context(), "x", false)
	must(t, err)
	_, err = st.file.WriteString("content")
	must(t, err)
	must(t, st.seal(t.Context()))
	must(t, os.Rename(st.path, st.target))
	must(t, st.publish())
	st.discard()
	wantFile(t, s, "x", "content")
	wantFiles(t, s, "x")
}

// TestContextEndsBeforeLanding ends the context while bytes are written; the write stops before anything is visible.
func TestContextEndsBeforeLanding(t *testing.T) {
	s := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	st, err := s.stage(ctx, "x", true)
	must(t, err)
	cancel()
	if err := st.seal(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	st.discard()
	wantFiles(t, s)
}

// TestFailedWriteIsNeverPublished closes the file under the writer, as a full disk would fail it.
func TestFailedWriteIsNeverPublished(t *testing.T) {
	s := newStore(t)
	created, err := s.Create(t.Context(), "x")
	must(t, err)
	w := created.(*writer)
	_, err = w.Write([]byte("head"))
	must(t, err)
	intact := w.staged.file
	w.staged.file, err = os.Open(os.DevNull) // not writable
	must(t, err)
	if _, err := w.Write([]byte("hole")); err == nil {
		t.Fatal("Write succeeded")
	}
	w.staged.file.Close()
	w.staged.file = intact
	if _, err := w.Write([]byte("tail")); err == nil {
		t.Fatal("Write went on after a failed one")
	}
	if err := w.Close(); err == nil {
		t.Fatal("Close succeeded")
	}
	wantFiles(t, s)
}

// TestFoldersAreSynced checks which folders are synced before a first write returns: those whose entries the object's
// path consists of, also when another process has just made them.
func TestFoldersAreSynced(t *testing.T) {
	base := t.TempDir()
	for _, made := range []bool{false, true} {
		s, err := New(filepath.Join(base, fmt.Sprint("made=", made), "parent", "root"))
		must(t, err)
		if made {
			must(t, os.MkdirAll(filepath.Join(s.root, "a", "b"), 0o777))
		}
		var synced []string
		s.syncFolder = func(f *os.File) error {
			rel, _ := filepath.Rel(base, f.Name())
			synced = append(synced, filepath.ToSlash(rel))
			return nil
		}
		root := fmt.Sprintf("made=%v/parent/root", made)
		want := []string{root + "/a", root, filepath.Dir(root)}
		if !made {
			want = append(want, "made=false", ".")
		}
		must(t, s.PutIfAbsent(t.Context(), "a/b/x", nil))
		if want := append(want, root+"/a/b"); !slices.Equal(synced, want) {
			t.Errorf("made %v: synced %q, want %q", made, synced, want)
		}
		synced = nil
		must(t, s.PutIfAbsent(t.Context(), "a/b/y", nil))
		if !slices.Equal(synced, []string{root + "/a/b"}) {
			t.Errorf("made %v, second object: synced %q", made, synced)
		}
	}
}

func TestFolderRemovedMeanwhile(t *testing.T) {
	s := newStore(t)
	must(t, s.Put(t.Context(), "a/b/x", nil))
	must(t, os.RemoveAll(filepath.Join(s.root, "a")))
	must(t, s.PutIfAbsent(t.Context(), "a/b/y", []byte("content")))
	wantFile(t, s, "a/b/y", "content")
}

func TestDurableFoldersAreBounded(t *testing.T) {
	s := newStore(t)
	for i := range maxDurable {
		s.durable[fmt.Sprint(i)] = struct{}{}
	}
	must(t, s.Put(t.Context(), "a/x", nil))
	if len(s.durable) != 1 {
		t.Fatalf("%d folders are remembered", len(s.durable))
	}
}

// TestTempName checks that crash leftovers have a name that is hidden, fits, and is nobody's object.
func TestTempName(t *testing.T) {
	for _, base := range []string{"x", "_last_checkpoint", strings.Repeat("l", 255), "x" + strings.Repeat("ü", 127)} {
		target := filepath.Join(t.TempDir(), base)
		temp := tempPath(target)
		name := filepath.Base(temp)
		if filepath.Dir(temp) != filepath.Dir(target) || !isTemp(name) || len(name) > 143 || !fs.ValidPath(name) {
			t.Errorf("%q: temporary name %q", base, temp)
		}
		if temp == tempPath(target) {
			t.Errorf("%q: the temporary name is not random", base)
		}
	}
	s := newStore(t)
	must(t, s.Put(t.Context(), strings.Repeat("l", 255), []byte("x")))
}

func TestCrashLeftoversAreNotListed(t *testing.T) {
	s := newStore(t)
	_, err := s.Create(t.Context(), "_delta_log/00000000000000000001.json") // and the process dies
	must(t, err)
	must(t, s.PutIfAbsent(t.Context(), "_delta_log/00000000000000000000.json", nil))
	if got := files(t, s); len(got) != 2 || !isTemp(filepath.Base(got[0])) {
		t.Fatalf("files are %q, want a leftover and an object", got)
	}
	for _, prefix := range []string{"", "_delta_log/", "_delta_log/."} {
		for info, err := range s.List(t.Context(), prefix, "") {
			if err != nil || info.Name != "_delta_log/00000000000000000000.json" {
				t.Fatalf("prefix %q: listed %q, %v", prefix, info.Name, err)
			}
		}
	}
	if err := s.Put(t.Context(), "a/.x.0123.tmp", nil); !errors.Is(err, fs.ErrInvalid) {
		t.Fatalf("a temporary name as an object: %v", err)
	}
}

// TestPartOfThePathIsAFile is the situation nearest to missing permission that root meets as well.
func TestPartOfThePathIsAFile(t *testing.T) {
	s := newStore(t)
	must(t, s.Put(t.Context(), "file", []byte("kept")))
	_, createErr := s.Create(t.Context(), "file/x")
	for method, err := range map[string]error{
		"Put": s.Put(t.Context(), "file/x", nil), "PutIfAbsent": s.PutIfAbsent(t.Context(), "file/a/b/x", nil), "Create": createErr,
	} {
		wantUnknown(t, err)
		if !errors.Is(err, syscall.ENOTDIR) || !strings.Contains(err.Error(), s.root) {
			t.Errorf("%s: unclear error: %v", method, err)
		}
	}
	if _, err := New(filepath.Join(s.root, "file")); err == nil || !strings.Contains(err.Error(), "it is a file") {
		t.Errorf("a file as root: %v", err)
	}
	if _, err := New(filepath.Join(s.root, "file", "below")); err == nil {
		t.Error("a root below a file was opened")
	}
	wantFile(t, s, "file", "kept")
}

func TestNameIsAFolder(t *testing.T) {
	s := newStore(t)
	must(t, s.Put(t.Context(), "folder/x", nil))
	must(t, os.Mkdir(filepath.Join(s.root, "empty"), 0o777))
	for _, name := range []string{"folder", "empty"} {
		_, err := s.Create(t.Context(), name)
		for _, err := range []error{s.Put(t.Context(), name, nil), s.PutIfAbsent(t.Context(), name, nil), err} {
			wantUnknown(t, err) // above all not "exists"
			if !errors.Is(err, errFolder) {
				t.Errorf("%q: %v", name, err)
			}
		}
		must(t, s.Delete(t.Context(), name))
		if _, err := os.Stat(filepath.Join(s.root, name)); err != nil {
			t.Errorf("Delete removed the folder: %v", err)
		}
	}
	// A folder that appears between staging and publishing.
	w, err := s.Create(t.Context(), "late")
	must(t, err)
	must(t, os.Mkdir(filepath.Join(s.root, "late"), 0o777))
	if err := w.Close(); !errors.Is(err, errFolder) {
		t.Errorf("Close onto a folder: %v", err)
	}
	wantFiles(t, s, "folder/x")
}

func TestErrorClasses(t *testing.T) {
	// Real permission errors cannot be had as root, so the mapping is tested on the error's way out. Not covered:
	// which syscall meets EACCES on a real file system; TestPermission does that for other users.
	cases := []struct {
		cause error
		want  error
	}{{syscall.EACCES, fs.ErrPermission}, {syscall.EPERM, fs.ErrPermission}, {syscall.EROFS, fs.ErrPermission}, {syscall.EROFS, syscall.EROFS}, {syscall.ENOSPC, syscall.ENOSPC}}
	for _, tc := range cases {
		s := newStore(t)
		must(t, s.Put(t.Context(), "a/x", nil))
		s.syncFolder = func(*os.File) error { return &os.PathError{Op: "sync", Path: s.root, Err: tc.cause} }
		// A new folder in the root: its sync comes before anything is visible, so the class is told.
		err := s.PutIfAbsent(t.Context(), "b/x", nil)
		if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), `putting if absent "b/x"`) {
			t.Errorf("%v: got %v", tc.cause, err)
		}
		wantFiles(t, s, "a/x")
	}
}

func TestPermission(t *testing.T) {
	if os.Getuid() <= 0 {
		t.Skip("root (or Windows) passes every permission check")
	}
	s := newStore(t)
	must(t, s.Put(t.Context(), "a/x", nil))
	must(t, os.Chmod(filepath.Join(s.root, "a"), 0o555))
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(s.root, "a"), 0o777) })
	for _, err := range []error{s.Put(t.Context(), "a/y", nil), s.PutIfAbsent(t.Context(), "a/y", nil), s.Delete(t.Context(), "a/x"), s.Put(t.Context(), "a/b/y", nil)} {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("got %v, want fs.ErrPermission", err)
		}
	}
}

// TestHadoopChecksums plays Spark's local file system, which leaves a checksum beside each file.
func TestHadoopChecksums(t *testing.T) {
	s := newStore(t)
	crc := func(name string) {
		must(t, s.Put(t.Context(), name, []byte("old")))
		dir, base := filepath.Split(filepath.Join(s.root, name))
		must(t, os.WriteFile(dir+"."+base+".crc", []byte("crc of old"), 0o666))
	}
	for _, name := range []string{"put", "created", "deleted", "kept"} {
		crc("l/" + name)
	}
	must(t, s.Put(t.Context(), "l/put", []byte("new")))
	w, err := s.Create(t.Context(), "l/created")
	must(t, err)
	must(t, w.Close())
	must(t, s.Delete(t.Context(), "l/deleted"))
	if err := s.PutIfAbsent(t.Context(), "l/kept", nil); !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	wantFiles(t, s, "l/.kept.crc", "l/created", "l/kept", "l/put")
}

// TestObjectsAreReadableByOthers guards against the mode 0600 of temporary files.
func TestObjectsAreReadableByOthers(t *testing.T) {
	s := newStore(t)
	plain := filepath.Join(t.TempDir(), "plain")
	must(t, os.WriteFile(plain, nil, 0o666))
	want, err := os.Stat(plain)
	must(t, err)
	must(t, s.PutIfAbsent(t.Context(), "x", nil))
	got, err := os.Stat(filepath.Join(s.root, "x"))
	must(t, err)
	if got.Mode() != want.Mode() {
		t.Fatalf("mode %v, want that of any new file, %v", got.Mode(), want.Mode())
	}
}

func TestListReadsOnlyWhatItNeeds(t *testing.T) {
	s := newStore(t)
	for _, name := range []string{"a/x", "b/c/x", "b/d/x", "c/x"} {
		must(t, s.Put(t.Context(), name, nil))
	}
	cases := []struct {
		prefix, after string
		stopAt        string
		want          []string // folders read
	}{
		{"", "", "", []string{"", "a/", "b/", "b/c/", "b/d/", "c/"}},
		{"b/", "", "", []string{"b/", "b/c/", "b/d/"}},
		{"b/d", "", "", []string{"b/", "b/d/"}},
		{"b/d/", "", "", []string{"b/d/"}},
		{"", "b/c/x", "", []string{"", "b/", "b/c/", "b/d/", "c/"}},
		{"", "b/d", "", []string{"", "b/", "b/d/", "c/"}},
		{"", "", "a/x", []string{"", "a/"}},
	}
	for _, tc := range cases {
		t.Run(fmt.Sprintf("%q after %q until %q", tc.prefix, tc.after, tc.stopAt), func(t *testing.T) {
			var read []string
			l := lister{ctx: t.Context(), store: s, prefix: tc.prefix, after: tc.after, reading: func(f string) { read = append(read, f) }}
			for info, err := range l.all() {
				must(t, err)
				if info.Name == tc.stopAt {
					break
				}
			}
			if !slices.Equal(read, tc.want) {
				t.Fatalf("read %q, want %q", read, tc.want)
			}
		})
	}
}

func TestListSkipsWhatIsNoObject(t *testing.T) {
	s := newStore(t)
	must(t, s.Put(t.Context(), "a/x", []byte("12345")))
	must(t, os.Mkdir(filepath.Join(s.root, "empty"), 0o777))
	must(t, os.Symlink(filepath.Join(s.root, "a", "x"), filepath.Join(s.root, "link")))
	must(t, os.Symlink(s.root, filepath.Join(s.root, "a", "loop")))
	must(t, os.Symlink("nowhere", filepath.Join(s.root, "dangling")))
	must(t, os.WriteFile(filepath.Join(s.root, ".x.TMP"), nil, 0o666))
	got := map[string]int64{}
	for info, err := range s.List(t.Context(), "", "") {
		must(t, err)
		got[info.Name] = info.Size
	}
	if len(got) != 2 || got["a/x"] != 5 || got["link"] != 5 {
		t.Fatalf("listed %v", got)
	}
}

func TestRootIsFixedAtNew(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	s, err := New("table")
	must(t, err)
	t.Chdir(t.TempDir())
	must(t, s.Put(t.Context(), "x", nil))
	if _, err := os.Stat(filepath.Join(dir, "table", "x")); err != nil {
		t.Fatal(err)
	}
}

func TestGetStopsWithItsContext(t *testing.T) {
	s := newStore(t)
	must(t, s.Put(t.Context(), "x", []byte("content")))
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	r, err := s.Get(ctx, "x", 0, -1)
	must(t, err)
	defer r.Close()
	cancel()
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Fatalf("read after the context's end: %v", err)
	}
}
