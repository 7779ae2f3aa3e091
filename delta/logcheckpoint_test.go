package delta_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"

	gomem "github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"

	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

// Whatever a log checkpoint holds: no panic, an error that says that the log is corrupt, no more memory than is sane.
func FuzzLogCheckpoint(f *testing.F) {
	for _, store := range oddTables(f) {
		for info, err := range store.List(ctx, "_delta_log/", "") {
			check(f, err)
			if strings.HasSuffix(info.Name, ".parquet") && info.Size < 16<<10 {
				f.Add(read(f, store, info.Name))
			}
		}
	}
	for _, name := range []string{"one txn", "domains", "configuration"} {
		f.Add(bomb(f, bombs[name], 600, 1<<20))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 64<<10 {
			return
		}
		for _, limit := range []int64{0, 1 << 20} {
			restore := delta.SetWholeCheckpoint(limit)
			_, err := readWithinBounds(t, data)
			restore()
			if err != nil && !errors.Is(err, delta.ErrCorrupt) {
				t.Errorf("%v is not ErrCorrupt", err)
			}
		}
	})
}

// A file of which one bit is another one is read, or refused by its name: also where the Parquet library panics.
func TestFlippedBitsInLogCheckpoints(t *testing.T) {
	const name = "_delta_log/00000000000000000001.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.parquet"
	store, panics := oddTables(t)["v2_pq_sidecar"], 0
	whole := read(t, store, name)
	for i := 0; i < len(whole); i += 41 {
		data := bytes.Clone(whole)
		data[i] ^= 0x80
		check(t, store.Put(ctx, name, data))
		_, _, err := delta.CountCheckpointFile(ctx, store, name, int64(len(data)), gomem.DefaultAllocator)
		switch {
		case err == nil:
		case !errors.Is(err, delta.ErrCorrupt) || !strings.Contains(err.Error(), name):
			t.Errorf("byte %d: %v", i, err)
		case strings.Contains(err.Error(), "runtime error"):
			if panics++; !strings.Contains(err.Error(), "the Parquet library cannot read it") {
				t.Errorf("byte %d: %v", i, err)
			}
		}
	}
	if panics == 0 {
		t.Error("the library panics no more: guard may go")
	}
}

// readWithinBounds reads a file of a log checkpoint, and measures what that takes: what is kept of it, and, of what was set
// aside on the way, a few times the limits of pages.go.
func readWithinBounds(t testing.TB, data []byte) (*delta.Commit, error) {
	t.Helper()
	const name = "_delta_log/00000000000000000001.checkpoint.parquet"
	store := memory.New()
	check(t, store.Put(ctx, name, data))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c, _, err := delta.CountCheckpointFile(ctx, store, name, int64(len(data)), gomem.DefaultAllocator)
	runtime.ReadMemStats(&after)
	total := after.TotalAlloc - before.TotalAlloc
	if total > 1<<30 {
		t.Errorf("%d bytes set aside for a file of %d", total, len(data))
	}
	if total > 256<<20 { // else it can't keep more either
		runtime.GC()
		runtime.ReadMemStats(&after)
		if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); kept > 320<<20 {
			t.Errorf("%d bytes kept of a file of %d", kept, len(data))
		}
	}
	runtime.KeepAlive(c)
	return c, err
}

// counting counts what is read of a store.
type counting struct {
	delta.LogStore
	gets, bytes int64
}

func (c *counting) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	r, err := c.LogStore.Get(ctx, name, off, n)
	c.gets++
	return struct {
		io.Reader
		io.Closer
	}{io.TeeReader(r, counter{c}), r}, err
}

type counter struct{ c *counting }

func (w counter) Write(p []byte) (int, error) {
	w.c.bytes += int64(len(p))
	return len(p), nil
}

// Opening for append reads what it needs of a large log checkpoint: its end, and one stretch with what is no file.
func TestOpenReadsOnlyWhatAnAppendNeedsOfALogCheckpoint(t *testing.T) {
	t.Cleanup(delta.SetWholeCheckpoint(32 << 10))
	store := &counting{LogStore: oddTables(t)["ck_many"]}
	open(t, store, newClock())
	size := int64(len(read(t, store.LogStore, "_delta_log/00000000000000000001.checkpoint.parquet")))
	if size < 100<<10 {
		t.Fatalf("the log checkpoint has %d bytes only", size)
	}
	if store.gets != 4 {
		t.Errorf("%d requests, want the hint, the end of the log checkpoint, its txns, and the commit after it", store.gets)
	}
}

// Counts in page headers that cannot be true are refused before memory is set aside for them.
func TestPageHeadersThatCannotBeTrue(t *testing.T) {
	buffer := gomem.NewBufferBytes(make([]byte, 100))
	for values, fits := range map[int32]bool{25: true, 100: true, 101: false, math.MaxInt32: false} {
		if err := delta.CheckPage(file.NewDictionaryPage(buffer, values, parquet.Encodings.Plain)); (err == nil) != fits {
			t.Errorf("a dictionary of %d values in 100 bytes: %v", values, err)
		}
	}
	for values, fits := range map[int32]bool{1_000_000: true, math.MaxInt32: false} {
		page := file.NewDataPageV1(buffer, values, parquet.Encodings.Plain, parquet.Encodings.RLE, parquet.Encodings.RLE, 100)
		if err := delta.CheckPage(page); (err == nil) != fits {
			t.Errorf("a page of %d values: %v", values, err)
		}
	}
}

// A store that fails while a log checkpoint is read is not a log that is corrupt.
func TestFailingStoreIsNoCorruptLogCheckpoint(t *testing.T) {
	t.Cleanup(delta.SetWholeCheckpoint(32 << 10))
	tables := oddTables(t)
	for after := range 3 {
		store, gets := &spy{LogStore: tables["ck_many"]}, 0
		store.get = func(name string) error {
			if strings.HasSuffix(name, ".parquet") {
				if gets++; gets > after {
					return errors.New("the store is down")
				}
			}
			return nil
		}
		_, err := delta.Open(ctx, store, newClock().options())
		if gets > after && (err == nil || errors.Is(err, delta.ErrCorrupt) || !strings.Contains(err.Error(), "the store is down")) {
			t.Errorf("after %d requests: %v, want the store's error", after, err)
		}
	}
}
