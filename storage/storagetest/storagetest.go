// Package storagetest is the conformance suite of storage.Store: every backend runs it, and what it asserts is what the
// rest of the project may rely on.
//
// It owns the executable reading of the contract, each behaviour in its own subtest, so that a failure names the
// promise that broke. It promises to need nothing but an empty store per subtest, and to leave no goroutine behind. Its
// subtests run one after the other, and nothing else may run beside them: one measures the heap.
//
// It never tests what differs between backends: durability over a power loss, races between processes, permissions,
// and names that are both object and folder. Those are the backend's own tests.
package storagetest

import (
	"bytes"
	"context"
	"flag"
	"io"
	"testing"

	"kafkadelta/storage"
)

// Config says how to run the suite against one backend.
type Config struct {
	// New returns an empty store. It is called once per subtest and cleans up with t.Cleanup.
	New func(t *testing.T) storage.Store

	// Reopen returns a second handle on the same objects, as another process would have; nil skips what needs it.
	Reopen func(t *testing.T, s storage.Store) storage.Store

	// LargeSize is the bytes of the large stream; 0 means 24 MiB, enough for several parts of a multipart upload.
	LargeSize int

	// Page is how many objects the service lists in one answer; 0 means 1,000, as on S3 and GCS. The suite lists a little
	// more than two pages, so a service that takes long to make objects is better asked for small pages.
	Page int

	// StreamMemory is how far the heap may grow while an object is streamed through the store; 0 means 48 MiB, a few parts
	// in flight. A negative number leaves the test out: for a store whose objects lie in this process.
	StreamMemory int
}

// streamMiB is how much is streamed through a store to see that its memory is bounded. In CI it is a little more than
// StreamMemory; by hand, go test ./storage/X -run TestConformance -stream-mib 1024.
var streamMiB = flag.Int("stream-mib", 64, "storagetest: MiB of the object that is streamed in bounded memory")

// Run runs the suite.
func Run(t *testing.T, cfg Config) {
	if cfg.LargeSize == 0 {
		cfg.LargeSize = 24 << 20
	}
	if cfg.Page == 0 {
		cfg.Page = 1000
	}
	if cfg.StreamMemory == 0 {
		cfg.StreamMemory = 48 << 20
	}
	type promise struct {
		name string
		run  func(*testing.T, Config, storage.Store)
	}
	suite := []promise{
		{"put is read back", testPutGet},
		{"put replaces", testPutReplaces},
		{"put keeps no hold on the caller's bytes", testPutCopies},
		{"get reads ranges", testGetRanges},
		{"get refuses a negative offset", testGetNegativeOffset},
		{"get of a missing object", testGetMissing},
		{"an object of zero bytes", testEmptyObject},
		{"names are kept byte by byte", testNames},
		{"invalid names are refused", testInvalidNames},
		{"put if absent keeps the first", testPutIfAbsentSecond},
		{"put if absent after put", testPutIfAbsentAfterPut},
		{"put if absent after delete", testPutIfAbsentAfterDelete},
		{"put if absent races for one name", testRaceOneName},
		{"put if absent races for a log", testRaceLog},
		{"readers of a race see whole objects", testRaceReaders},
		{"create is invisible until close", testCreateInvisible},
		{"create of nothing is an empty object", testCreateEmpty},
		{"create replaces at close", testCreateReplaces},
		{"create streams a large object", testCreateLarge},
		{"create and close twice", testCreateTwice},
		{"abort leaves nothing", testAbort},
		{"abort after close is a no-op", testAbortAfterClose},
		{"a writer is used up by close and abort", testWriterUsedUp},
		{"list is in byte order of full names", testListOrder},
		{"list of a prefix", testListPrefix},
		{"list after a name", testListAfter},
		{"list of an empty store", testListEmpty},
		{"list stops when the consumer breaks", testListBreak},
		{"list more than a page", testListMany},
		{"list may be ranged over again", testListAgain},
		{"the store may be used while listing", testListReentrant},
		{"list tells size and time", testListInfo},
		{"list refuses to leave the root", testListInvalidPrefix},
		{"delete", testDelete},
		{"delete of a missing object", testDeleteMissing},
		{"delete of a folder's name", testDeleteFolder},
		{"a done context stops everything", testCancelled},
		{"a context that ends stops a put", testCancelledPut},
		{"a context that ends stops a stream", testCancelledStream},
		{"a context that ends stops a large stream", testCancelledLarge},
		{"a context that ends stops a reader", testCancelledReader},
		{"read after write", testReadAfterWrite},
		{"read after write through another handle", testReadAfterWriteReopened},
	}
	if cfg.StreamMemory > 0 {
		suite = append(suite, promise{"a stream takes bounded memory", testStreamMemory})
	}
	for _, tc := range suite {
		t.Run(tc.name, func(t *testing.T) { tc.run(t, cfg, cfg.New(t)) })
	}
}

func put(t *testing.T, s storage.Store, name, content string) {
	t.Helper()
	if err := s.Put(t.Context(), name, []byte(content)); err != nil {
		t.Fatalf("Put %q: %v", name, err)
	}
}

func get(ctx context.Context, s storage.Store, name string, offset, length int64) ([]byte, error) {
	r, err := s.Get(ctx, name, offset, length)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	return data, err
}

func wantContent(t *testing.T, s storage.Store, name, want string) {
	t.Helper()
	got, err := get(t.Context(), s, name, 0, -1)
	if err != nil {
		t.Fatalf("Get %q: %v", name, err)
	}
	if !bytes.Equal(got, []byte(want)) {
		t.Fatalf("Get %q: got %.60q (%d bytes), want %.60q (%d bytes)", name, got, len(got), want, len(want))
	}
}

// list returns the names of a listing and fails on anything that breaks the listing's own rules.
func list(t *testing.T, s storage.Store, prefix, after string) []string {
	t.Helper()
	names := []string{}
	for info, err := range s.List(t.Context(), prefix, after) {
		if err != nil {
			t.Fatalf("List(%q, %q): %v", prefix, after, err)
		}
		names = append(names, info.Name)
	}
	return names
}

func create(t *testing.T, s storage.Store, name string) storage.Writer {
	t.Helper()
	w, err := s.Create(t.Context(), name)
	if err != nil {
		t.Fatalf("Create %q: %v", name, err)
	}
	return w
}

func write(t *testing.T, w storage.Writer, content string) {
	t.Helper()
	if n, err := io.WriteString(w, content); err != nil || n != len(content) {
		t.Fatalf("Write of %d bytes: %d, %v", len(content), n, err)
	}
}

func closeWriter(t *testing.T, w storage.Writer) {
	t.Helper()
	if err := w.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}
