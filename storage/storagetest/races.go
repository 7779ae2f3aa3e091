package storagetest

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"

	"kafkadelta/storage"
)

func testPutIfAbsentSecond(t *testing.T, _ Config, s storage.Store) {
	const name = "_delta_log/00000000000000000010.json"
	if err := s.PutIfAbsent(t.Context(), name, []byte("first")); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"second", "", "first"} {
		wantIs(t, s.PutIfAbsent(t.Context(), name, []byte(content)), fs.ErrExist, content)
		wantContent(t, s, name, "first")
	}
	if got := list(t, s, "", ""); !slices.Equal(got, []string{name}) {
		t.Fatalf("listed %q", got)
	}
}

func testPutIfAbsentAfterPut(t *testing.T, _ Config, s storage.Store) {
	put(t, s, "put", "first")
	w := create(t, s, "created")
	write(t, w, "first")
	closeWriter(t, w)
	for _, name := range []string{"put", "created"} {
		wantIs(t, s.PutIfAbsent(t.Context(), name, []byte("second")), fs.ErrExist, name)
		wantContent(t, s, name, "first")
	}
}

func testPutIfAbsentAfterDelete(t *testing.T, _ Config, s storage.Store) {
	put(t, s, "x", "first")
	if err := s.Delete(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if err := s.PutIfAbsent(t.Context(), "x", []byte("second")); err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, "x", "second")
}

// racers calls PutIfAbsent once per content at the same time and returns the errors. The name's folder does not exist
// yet, so creating it is part of the race.
func racers(t *testing.T, s storage.Store, name string, contents []string) []error {
	t.Helper()
	errs := make([]error, len(contents))
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i, content := range contents {
		wg.Go(func() {
			<-start
			errs[i] = s.PutIfAbsent(t.Context(), name, []byte(content))
		})
	}
	close(start)
	wg.Wait()
	return errs
}

// distinct returns n contents of different lengths, so that a mix of two shows.
func distinct(n int) []string {
	contents := make([]string, n)
	for i := range contents {
		contents[i] = strings.Repeat(fmt.Sprintf("<%d>", i), 1+i*7)
	}
	return contents
}

func testRaceOneName(t *testing.T, _ Config, s storage.Store) {
	for round := range 5 {
		name := fmt.Sprintf("round%d/log/x.json", round)
		contents := distinct(64)
		winner := -1
		for i, err := range racers(t, s, name, contents) {
			switch {
			case err == nil && winner >= 0:
				t.Fatalf("%d and %d both won", winner, i)
			case err == nil:
				winner = i
			case !errors.Is(err, fs.ErrExist):
				t.Fatalf("caller %d: got error %v, want fs.ErrExist", i, err)
			}
		}
		if winner < 0 {
			t.Fatal("nobody won")
		}
		wantContent(t, s, name, contents[winner])
		if got := list(t, s, fmt.Sprintf("round%d/", round), ""); !slices.Equal(got, []string{name}) {
			t.Fatalf("listed %q", got)
		}
	}
}

// testRaceLog lets writers append to one log as Delta's do: on a loss the next version is tried.
func testRaceLog(t *testing.T, _ Config, s storage.Store) {
	const writers, each = 4, 8
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			version := 0
			for n := range each {
				for {
					err := s.PutIfAbsent(t.Context(), fmt.Sprintf("_delta_log/%020d.json", version), fmt.Appendf(nil, "%d/%d", w, n))
					version++
					if err == nil {
						break
					}
					if !errors.Is(err, fs.ErrExist) {
						t.Errorf("writer %d: %v", w, err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	names := list(t, s, "_delta_log/", "")
	if len(names) != writers*each {
		t.Fatalf("got %d versions, want %d", len(names), writers*each)
	}
	seen := map[string]bool{}
	for i, name := range names {
		if want := fmt.Sprintf("_delta_log/%020d.json", i); name != want {
			t.Fatalf("version %d is %q", i, name)
		}
		content, err := get(t.Context(), s, name, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if seen[string(content)] {
			t.Fatalf("%q is in the log twice", content)
		}
		seen[string(content)] = true
	}
}

// testRaceReaders reads and lists while writers race: an object is missing or whole, and once seen it stays.
func testRaceReaders(t *testing.T, _ Config, s storage.Store) {
	const name = "folder/x"
	contents := distinct(16)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			seen := ""
			for {
				data, err := get(t.Context(), s, name, 0, -1)
				switch {
				case errors.Is(err, fs.ErrNotExist) && seen == "":
				case err != nil:
					t.Errorf("reader: %v after %.20q", err, seen)
					return
				case !slices.Contains(contents, string(data)):
					t.Errorf("reader got a part: %.40q (%d bytes)", data, len(data))
					return
				case seen != "" && seen != string(data):
					t.Errorf("the content changed from %.20q to %.20q", seen, data)
					return
				default:
					seen = string(data)
				}
				for info, err := range s.List(t.Context(), "folder/", "") {
					if err != nil || info.Name != name || info.Size != int64(len(seen)) && seen != "" {
						t.Errorf("listed %v, %v", info, err)
						return
					}
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	racers(t, s, name, contents)
	close(stop)
	wg.Wait()
}
