package storagetest

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kafkadelta/storage"
)

// orderNames are in byte order of full names. Around '/' that is neither the order of a folder walk ("a" before "a-b")
// nor of names compared part by part.
var orderNames = []string{
	"_connector/proposals/p1",
	"_delta_log/00000000000000000009.json",
	"_delta_log/00000000000000000010.checkpoint.parquet",
	"_delta_log/00000000000000000010.json",
	"_delta_log/_last_checkpoint",
	"_delta_log/_sidecars/s.parquet",
	"a b/c",
	"a!b",
	"a-b",
	"a-b2/c",
	"a.b",
	"a/b-c",
	"a/b.c",
	"a/b/c",
	"a/b/d/e",
	"a/b0",
	"a/c",
	"a0",
	"aa/b",
	"b",
	"é/x",
}

// putOrderNames stores them in an order that helps nobody.
func putOrderNames(t *testing.T, s storage.Store) []string {
	t.Helper()
	sorted := slices.Clone(orderNames)
	slices.Sort(sorted)
	for i := range sorted {
		name := sorted[i*8%len(sorted)] // 8 and 21 have no common divisor
		put(t, s, name, name)
	}
	return sorted
}

// expect is the contract's definition of a listing.
func expect(sorted []string, prefix, after string) []string {
	want := []string{}
	for _, name := range sorted {
		if strings.HasPrefix(name, prefix) && name > after {
			want = append(want, name)
		}
	}
	return want
}

func testListOrder(t *testing.T, _ Config, s storage.Store) {
	want := putOrderNames(t, s)
	if got := list(t, s, "", ""); !slices.Equal(got, want) {
		t.Fatalf("listed\n%q, want\n%q", got, want)
	}
}

func testListPrefix(t *testing.T, _ Config, s storage.Store) {
	sorted := putOrderNames(t, s)
	prefixes := []string{"a", "a/", "a/b", "a/b/", "a/b/d/e", "a/b/d/e/", "a-", "_delta_log/", "_delta_log/0000000000000000001",
		"_delta_log/_", "_", "é", "\xc3", "zzz", "zzz/", "no/such/folder/x", "b", "b/", "b/below/x"}
	for _, prefix := range prefixes {
		if got, want := list(t, s, prefix, ""), expect(sorted, prefix, ""); !slices.Equal(got, want) {
			t.Errorf("prefix %q: listed %q, want %q", prefix, got, want)
		}
	}
}

func testListAfter(t *testing.T, _ Config, s storage.Store) {
	sorted := putOrderNames(t, s)
	afters := append([]string{"A", "a/", "a/b/", "a/b/c/d", "a/b/d", "a/b/d/", "a/b/d/zzz", "a/zzz", "a-", "a-b/", "zzz", "_delta_log",
		"_delta_log/00000000000000000009.zzz", "_delta_log/zzz", "\xff", "a/../b", "/"}, sorted...)
	for _, prefix := range []string{"", "a", "a/", "a/b", "_delta_log/"} {
		for _, after := range afters {
			if got, want := list(t, s, prefix, after), expect(sorted, prefix, after); !slices.Equal(got, want) {
				t.Errorf("prefix %q after %q: listed %q, want %q", prefix, after, got, want)
			}
		}
	}
}

func testListEmpty(t *testing.T, _ Config, s storage.Store) {
	for _, prefix := range []string{"", "a", "a/", "a/b/c"} {
		if got := list(t, s, prefix, ""); len(got) > 0 {
			t.Errorf("prefix %q: listed %q", prefix, got)
		}
	}
}

func testListBreak(t *testing.T, _ Config, s storage.Store) {
	sorted := putOrderNames(t, s)
	for n := 1; n <= len(sorted); n++ {
		var got []string
		for info, err := range s.List(t.Context(), "", "") { // a backend that goes on after the break panics here
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, info.Name); len(got) == n {
				break
			}
		}
		if !slices.Equal(got, sorted[:n]) {
			t.Fatalf("broke off after %d: got %q", n, got)
		}
	}
}

// testListMany lists over more than two pages of the service.
func testListMany(t *testing.T, cfg Config, s storage.Store) {
	if testing.Short() {
		t.Skip("writes thousands of objects")
	}
	want := make([]string, 2*cfg.Page+100)
	for i := range want {
		want[i] = fmt.Sprintf("log/%020d.json", i)
	}
	var wg sync.WaitGroup
	for w := range putters {
		wg.Go(func() {
			for i := w; i < len(want); i += putters {
				if err := s.Put(t.Context(), want[i], []byte("x")); err != nil {
					t.Errorf("Put %q: %v", want[i], err)
					return
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	put(t, s, "log-", "before") // sorts in front, and is not in the folder
	put(t, s, "log0", "behind")
	if got := list(t, s, "log/", ""); !slices.Equal(got, want) {
		t.Fatalf("listed %d names, want %d", len(got), len(want))
	}
	for _, i := range []int{0, 98, cfg.Page - 2, cfg.Page - 1, cfg.Page, 2*cfg.Page - 1, len(want) - 2, len(want) - 1} {
		if got := list(t, s, "log/", want[i]); !slices.Equal(got, want[i+1:]) {
			t.Errorf("listed %d names after number %d, want %d", len(got), i, len(want)-i-1)
		}
	}
	// A name that is not there, between two pages and above all.
	if got := list(t, s, "log/", want[cfg.Page-1]+"!"); !slices.Equal(got, want[cfg.Page:]) {
		t.Errorf("listed %d names after one that is not there, want %d", len(got), len(want)-cfg.Page)
	}
	if got := list(t, s, "log/", "log/9"); len(got) > 0 {
		t.Errorf("listed %d names after the last", len(got))
	}
	cancelList(t, s, len(want))
}

const putters = 32

// cancelList ends the context at the first name of n: pages that are here already may still come, no more.
func cancelList(t *testing.T, s storage.Store, n int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := 0
	var failed error
	for _, err := range s.List(ctx, "log/", "") {
		if err != nil {
			failed = err
			continue // a listing ends with its error: one that goes on is counted
		}
		got++
		cancel()
	}
	wantIs(t, failed, context.Canceled, "a listing that was cancelled")
	if got >= n {
		t.Errorf("a listing that was cancelled at its first name listed all %d", n)
	}
}

func testListAgain(t *testing.T, _ Config, s storage.Store) {
	put(t, s, "a", "1")
	seq := s.List(t.Context(), "", "")
	put(t, s, "b", "2")
	for range 2 {
		var got []string
		for info, err := range seq {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, info.Name)
		}
		if !slices.Equal(got, []string{"a", "b"}) {
			t.Fatalf("listed %q", got)
		}
	}
}

// testListReentrant deletes what it lists, as cleaning does.
func testListReentrant(t *testing.T, _ Config, s storage.Store) {
	sorted := putOrderNames(t, s)
	var got []string
	for info, err := range s.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, info.Name)
		wantContent(t, s, info.Name, info.Name)
		if err := s.Delete(t.Context(), info.Name); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(got, sorted) {
		t.Fatalf("listed %q, want %q", got, sorted)
	}
	if left := list(t, s, "", ""); len(left) > 0 {
		t.Fatalf("left over: %q", left)
	}
}

func testListInfo(t *testing.T, _ Config, s storage.Store) {
	start := time.Now()
	put(t, s, "x", "0123456789")
	w := create(t, s, "y")
	write(t, w, "01234")
	closeWriter(t, w)
	if err := s.PutIfAbsent(t.Context(), "z", nil); err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{"x": 10, "y": 5, "z": 0}
	for info, err := range s.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if info.Size != want[info.Name] {
			t.Errorf("%q: size %d, want %d", info.Name, info.Size, want[info.Name])
		}
		// Whole seconds on some stores, and their clock is not ours.
		if d := info.ModTime.Sub(start); d < -10*time.Minute || d > 10*time.Minute {
			t.Errorf("%q: written %s, listed with %s", info.Name, start, info.ModTime)
		}
	}
}

func testListInvalidPrefix(t *testing.T, _ Config, s storage.Store) {
	put(t, s, "a/x", "1")
	for _, prefix := range []string{"../", "/", "a//", "a/../", "./", "../../x"} {
		var got error
		for _, err := range s.List(t.Context(), prefix, "") {
			if got = err; err != nil {
				break
			}
		}
		wantIs(t, got, fs.ErrInvalid, fmt.Sprintf("prefix %q", prefix))
	}
}
