package storagetest

import (
	"bytes"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"kafkadelta/storage"
)

func testCreateInvisible(t *testing.T, _ Config, s storage.Store) {
	put(t, s, "folder/before", "x")
	w := create(t, s, "folder/new")
	write(t, w, "first,")
	wantAbsent := func() {
		t.Helper()
		_, err := s.Get(t.Context(), "folder/new", 0, -1)
		wantIs(t, err, fs.ErrNotExist, "before Close")
		if got := list(t, s, "", ""); !slices.Equal(got, []string{"folder/before"}) {
			t.Fatalf("before Close: listed %q", got)
		}
	}
	wantAbsent()
	write(t, w, strings.Repeat("more", 1<<18))
	wantAbsent()
	closeWriter(t, w)
	wantContent(t, s, "folder/new", "first,"+strings.Repeat("more", 1<<18))
	if got := list(t, s, "folder/", ""); !slices.Equal(got, []string{"folder/before", "folder/new"}) {
		t.Fatalf("after Close: listed %q", got)
	}
}

func testCreateEmpty(t *testing.T, _ Config, s storage.Store) {
	closeWriter(t, create(t, s, "never written"))
	w := create(t, s, "written nothing")
	write(t, w, "")
	closeWriter(t, w)
	wantContent(t, s, "never written", "")
	wantContent(t, s, "written nothing", "")
}

func testCreateReplaces(t *testing.T, _ Config, s storage.Store) {
	put(t, s, "x", "a longer first content")
	w := create(t, s, "x")
	write(t, w, "second")
	wantContent(t, s, "x", "a longer first content")
	closeWriter(t, w)
	wantContent(t, s, "x", "second")
}

func testCreateLarge(t *testing.T, cfg Config, s storage.Store) {
	content := make([]byte, cfg.LargeSize)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range content {
		content[i] = byte(r.Uint32())
	}
	w := create(t, s, "large")
	for rest := content; len(rest) > 0; {
		n := min(len(rest), 1+r.IntN(3<<20))
		if written, err := w.Write(rest[:n]); err != nil || written != n {
			t.Fatalf("Write of %d bytes: %d, %v", n, written, err)
		}
		rest = rest[n:]
	}
	closeWriter(t, w)
	got, err := get(t.Context(), s, "large", 0, -1)
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("got %d bytes, %v; want the %d bytes written", len(got), err, len(content))
	}
	offset := int64(len(content)/2 + 1)
	got, err = get(t.Context(), s, "large", offset, 1000)
	if err != nil || !bytes.Equal(got, content[offset:offset+1000]) {
		t.Fatalf("a range from the middle differs (%v)", err)
	}
}

// testCreateTwice has two streams for one name open at once: each is whole, the last Close wins.
func testCreateTwice(t *testing.T, _ Config, s storage.Store) {
	first, second := create(t, s, "x"), create(t, s, "x")
	write(t, first, "first")
	write(t, second, "second content")
	closeWriter(t, second)
	wantContent(t, s, "x", "second content")
	closeWriter(t, first)
	wantContent(t, s, "x", "first")
}

func testAbort(t *testing.T, _ Config, s storage.Store) {
	put(t, s, "kept", "first")
	for _, name := range []string{"kept", "new", "folder/new"} {
		w := create(t, s, name)
		write(t, w, "unwanted")
		for range 2 {
			if err := w.Abort(); err != nil {
				t.Fatalf("Abort: %v", err)
			}
		}
	}
	wantContent(t, s, "kept", "first")
	if got := list(t, s, "", ""); !slices.Equal(got, []string{"kept"}) {
		t.Fatalf("listed %q", got)
	}
}

func testAbortAfterClose(t *testing.T, _ Config, s storage.Store) {
	w := create(t, s, "x")
	write(t, w, "content")
	closeWriter(t, w)
	if err := w.Abort(); err != nil {
		t.Fatalf("Abort after Close: %v", err)
	}
	wantContent(t, s, "x", "content")
}

func testWriterUsedUp(t *testing.T, _ Config, s storage.Store) {
	closed := create(t, s, "closed")
	write(t, closed, "content")
	closeWriter(t, closed)
	aborted := create(t, s, "aborted")
	write(t, aborted, "content")
	if err := aborted.Abort(); err != nil {
		t.Fatal(err)
	}
	for name, w := range map[string]storage.Writer{"closed": closed, "aborted": aborted} {
		if _, err := w.Write([]byte("late")); err == nil {
			t.Errorf("%s: a later Write succeeded", name)
		}
		if err := w.Close(); err == nil {
			t.Errorf("%s: a later Close succeeded", name)
		}
	}
	wantContent(t, s, "closed", "content")
	if got := list(t, s, "", ""); !slices.Equal(got, []string{"closed"}) {
		t.Fatalf("listed %q", got)
	}
}
