package storagetest

import (
	"bytes"
	"crypto/sha256"
	"io"
	"io/fs"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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
	for range 12 { // over the parts' bounds, too
		offset, length := r.IntN(len(content)), 1+r.IntN(len(content)/4)
		want := content[offset:min(offset+length, len(content))]
		if got, err := get(t.Context(), s, "large", int64(offset), int64(length)); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("Get(%d, %d) differs: %d bytes of %d, %v", offset, length, len(got), len(want), err)
		}
	}
}

// testStreamMemory streams more than the heap may grow, in both directions.
func testStreamMemory(t *testing.T, cfg Config, s storage.Store) {
	size := int64(*streamMiB) << 20
	if size <= int64(cfg.StreamMemory) {
		t.Fatalf("-stream-mib %d shows nothing: the heap may grow by %d MiB", *streamMiB, cfg.StreamMemory>>20)
	}
	want, got := sha256.New(), sha256.New()
	stop := watchHeap(t, "writing", cfg.StreamMemory)
	w := create(t, s, "large")
	source := rand.NewChaCha8([32]byte{1})
	if n, err := io.CopyBuffer(io.MultiWriter(w, want), onlyReader{io.LimitReader(source, size)}, make([]byte, 100_000)); err != nil || n != size {
		t.Fatalf("wrote %d bytes, %v", n, err)
	}
	closeWriter(t, w)
	stop()
	stop = watchHeap(t, "reading", cfg.StreamMemory)
	r, err := s.Get(t.Context(), "large", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n, err := io.CopyBuffer(got, onlyReader{r}, make([]byte, 100_000)); err != nil || n != size {
		t.Fatalf("read %d bytes of %d, %v", n, size, err)
	}
	stop()
	if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Fatal("what was read is not what was written")
	}
}

// onlyReader hides the shortcuts of a reader, which would pass by the buffer.
type onlyReader struct{ io.Reader }

// watchHeap samples the heap until stop is called, and fails the test if it ever grew by more than the limit. Garbage
// counts, but the collector is made to run so often that there is little of it.
func watchHeap(t *testing.T, what string, limit int) (stop func()) {
	t.Helper()
	gcPercent := debug.SetGCPercent(10)
	runtime.GC()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	heap := func() int64 {
		metrics.Read(sample)
		return int64(sample[0].Value.Uint64())
	}
	base := heap()
	peak := base
	end := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				peak = max(peak, heap())
			case <-end:
				return
			}
		}
	})
	stop = sync.OnceFunc(func() {
		t.Helper()
		close(end)
		wg.Wait()
		debug.SetGCPercent(gcPercent)
		t.Logf("%s %d MiB: the heap grew by at most %.1f MiB from %.1f MiB", what, *streamMiB, float64(peak-base)/(1<<20), float64(base)/(1<<20))
		if peak-base > int64(limit) {
			t.Errorf("%s: the heap grew by more than %d MiB", what, limit>>20)
		}
	})
	t.Cleanup(stop)
	return stop
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
