package storagetest

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"kafkadelta/storage"
)

// trickyNames are valid names that a careless backend escapes, normalises, splits or hides. None is another's folder.
var trickyNames = []string{
	"date=2021-03-24/part-0.parquet",
	"date=2021-03-24 10%3A00%3A00/part-0.parquet",
	"a b/ü%20.txt",
	"a b/ü .txt",
	"a+b/c=d&e.txt",
	"%/%2F/%25.txt",
	"..a/b../...c",
	".hidden/.file",
	"_delta_log/_last_checkpoint",
	"日本語/ключ/🙂.json",
	"quote'/[brackets]{x}/~tilde#hash,comma;semi!@$^()",
	"UPPER/x",
	"dots./...trailing.",
	strings.Repeat("l", 200) + "/" + strings.Repeat("ü", 100) + ".parquet",
}

// invalidNames are refused by every backend, so that no code works on one and fails on another.
var invalidNames = []string{"", ".", "..", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a/..", "./a", "bad\xffutf8"}

func testPutGet(t *testing.T, _ Config, s storage.Store) {
	put(t, s, "a/b/c.json", "content")
	wantContent(t, s, "a/b/c.json", "content")
}

func testPutReplaces(t *testing.T, _ Config, s storage.Store) {
	put(t, s, "x", "a longer first content")
	put(t, s, "x", "second")
	wantContent(t, s, "x", "second")
	if got := list(t, s, "", ""); !slices.Equal(got, []string{"x"}) {
		t.Fatalf("listed %q", got)
	}
}

func testPutCopies(t *testing.T, _ Config, s storage.Store) {
	data := []byte("first")
	if err := s.Put(t.Context(), "put", data); err != nil {
		t.Fatal(err)
	}
	if err := s.PutIfAbsent(t.Context(), "absent", data); err != nil {
		t.Fatal(err)
	}
	w := create(t, s, "create")
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	copy(data, "XXXXX")
	closeWriter(t, w)
	for _, name := range []string{"put", "absent", "create"} {
		wantContent(t, s, name, "first")
	}
}

func testGetRanges(t *testing.T, _ Config, s storage.Store) {
	const content = "0123456789"
	put(t, s, "digits", content)
	cases := []struct {
		name           string
		offset, length int64
		want           string
	}{
		{"whole", 0, -1, content},
		{"whole by length", 0, 10, content},
		{"head", 0, 3, "012"},
		{"middle", 3, 4, "3456"},
		{"one byte", 9, 1, "9"},
		{"to the end", 7, -1, "789"},
		{"any negative length is to the end", 7, -5, "789"},
		{"length past the end", 7, 100, "789"},
		{"largest length", 7, 1<<63 - 1, "789"},
		{"zero length", 3, 0, ""},
		{"offset at the end", 10, -1, ""},
		{"offset at the end with length", 10, 5, ""},
		{"offset past the end", 11, -1, ""},
		{"offset far past the end", 1 << 40, 5, ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got, err := get(t.Context(), s, "digits", tc.offset, tc.length)
			if err != nil || string(got) != tc.want {
				t.Fatalf("Get(%d, %d) = %q, %v; want %q", tc.offset, tc.length, got, err, tc.want)
			}
		})
	}
}

func testGetNegativeOffset(t *testing.T, _ Config, s storage.Store) {
	put(t, s, "x", "content")
	if got, err := get(t.Context(), s, "x", -1, 2); err == nil {
		t.Fatalf("got %q, want an error", got)
	}
}

func testGetMissing(t *testing.T, _ Config, s storage.Store) {
	put(t, s, "folder/object", "x")
	for _, name := range []string{"missing", "missing/deeper/x", "folder/missing", "folder", "folder/object/below"} {
		for _, r := range [][2]int64{{0, -1}, {5, 2}, {0, 0}} {
			_, err := s.Get(t.Context(), name, r[0], r[1])
			wantIs(t, err, fs.ErrNotExist, name)
		}
	}
}

func testEmptyObject(t *testing.T, _ Config, s storage.Store) {
	put(t, s, "put", "")
	if err := s.PutIfAbsent(t.Context(), "absent", nil); err != nil {
		t.Fatal(err)
	}
	wantIs(t, s.PutIfAbsent(t.Context(), "put", []byte("x")), fs.ErrExist, "put")
	for _, name := range []string{"put", "absent"} {
		wantContent(t, s, name, "")
	}
	if got := list(t, s, "", ""); !slices.Equal(got, []string{"absent", "put"}) {
		t.Fatalf("listed %q", got)
	}
}

func testNames(t *testing.T, _ Config, s storage.Store) {
	for i, name := range trickyNames {
		content := fmt.Sprint("content ", i)
		switch i % 3 {
		case 0:
			put(t, s, name, content)
		case 1:
			if err := s.PutIfAbsent(t.Context(), name, []byte(content)); err != nil {
				t.Fatalf("PutIfAbsent %q: %v", name, err)
			}
		default:
			w := create(t, s, name)
			write(t, w, content)
			closeWriter(t, w)
		}
	}
	want := slices.Clone(trickyNames)
	slices.Sort(want)
	if got := list(t, s, "", ""); !slices.Equal(got, want) {
		t.Fatalf("listed\n%q, want\n%q", got, want)
	}
	for i, name := range trickyNames {
		wantContent(t, s, name, fmt.Sprint("content ", i))
		if got := list(t, s, name, ""); !slices.Equal(got, []string{name}) {
			t.Fatalf("listing %q as a prefix: %q", name, got)
		}
		if err := s.Delete(t.Context(), name); err != nil {
			t.Fatalf("Delete %q: %v", name, err)
		}
	}
	if got := list(t, s, "", ""); len(got) > 0 {
		t.Fatalf("left over: %q", got)
	}
}

func testInvalidNames(t *testing.T, _ Config, s storage.Store) {
	for _, name := range invalidNames {
		calls := map[string]func() error{
			"Get":         func() error { _, err := s.Get(t.Context(), name, 0, -1); return err },
			"Put":         func() error { return s.Put(t.Context(), name, []byte("x")) },
			"PutIfAbsent": func() error { return s.PutIfAbsent(t.Context(), name, []byte("x")) },
			"Create":      func() error { _, err := s.Create(t.Context(), name); return err },
			"Delete":      func() error { return s.Delete(t.Context(), name) },
		}
		for method, call := range calls {
			err := call()
			wantIs(t, err, fs.ErrInvalid, fmt.Sprintf("%s %q", method, name))
			if err != nil && !strings.Contains(err.Error(), fmt.Sprintf("%q", name)) {
				t.Errorf("%s: the error does not name %q: %v", method, name, err)
			}
		}
	}
	if got := list(t, s, "", ""); len(got) > 0 {
		t.Fatalf("listed %q", got)
	}
}

func testDelete(t *testing.T, _ Config, s storage.Store) {
	put(t, s, "a/x", "1")
	put(t, s, "a/y", "2")
	if err := s.Delete(t.Context(), "a/x"); err != nil {
		t.Fatal(err)
	}
	_, err := s.Get(t.Context(), "a/x", 0, -1)
	wantIs(t, err, fs.ErrNotExist, "a/x")
	wantContent(t, s, "a/y", "2")
	if got := list(t, s, "", ""); !slices.Equal(got, []string{"a/y"}) {
		t.Fatalf("listed %q", got)
	}
}

func testDeleteMissing(t *testing.T, _ Config, s storage.Store) {
	put(t, s, "a/x", "1")
	for _, name := range []string{"missing", "no/such/folder", "a/missing", "a/x/below"} {
		if err := s.Delete(t.Context(), name); err != nil {
			t.Fatalf("Delete %q: %v", name, err)
		}
	}
	if err := s.Delete(t.Context(), "a/x"); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), "a/x"); err != nil {
		t.Fatalf("the second delete: %v", err)
	}
}

func testDeleteFolder(t *testing.T, _ Config, s storage.Store) {
	put(t, s, "a/b/x", "1")
	for _, name := range []string{"a", "a/b"} {
		if err := s.Delete(t.Context(), name); err != nil {
			t.Fatalf("Delete %q, which is no object: %v", name, err)
		}
	}
	wantContent(t, s, "a/b/x", "1")
}

// testReadAfterWrite does random operations, looks at each one's object afterwards, and compares the whole store with a map
// now and then: a request to a real server costs milliseconds.
func testReadAfterWrite(t *testing.T, _ Config, s storage.Store) {
	r := rand.New(rand.NewPCG(1, 2))
	model := map[string]string{}
	for i := range 150 {
		name := fmt.Sprintf("%c/%d", 'a'+rune(r.IntN(3)), r.IntN(5))
		content := fmt.Sprint("content ", i)
		_, exists := model[name]
		switch r.IntN(4) {
		case 0:
			put(t, s, name, content)
			model[name] = content
		case 1:
			err := s.PutIfAbsent(t.Context(), name, []byte(content))
			if exists != errors.Is(err, fs.ErrExist) || !exists && err != nil {
				t.Fatalf("step %d: PutIfAbsent %q (exists: %v): %v", i, name, exists, err)
			}
			if !exists {
				model[name] = content
			}
		case 2:
			w := create(t, s, name)
			write(t, w, content)
			closeWriter(t, w)
			model[name] = content
		default:
			if err := s.Delete(t.Context(), name); err != nil {
				t.Fatalf("step %d: Delete %q: %v", i, name, err)
			}
			delete(model, name)
		}
		if content, ok := model[name]; ok {
			wantContent(t, s, name, content)
		} else {
			_, err := s.Get(t.Context(), name, 0, -1)
			wantIs(t, err, fs.ErrNotExist, name)
		}
		if i%10 == 9 {
			wantModel(t, s, model, i)
		}
	}
}

func wantModel(t *testing.T, s storage.Store, model map[string]string, step int) {
	t.Helper()
	want := []string{}
	for name, content := range model {
		want = append(want, name)
		wantContent(t, s, name, content)
	}
	slices.Sort(want)
	if got := list(t, s, "", ""); !slices.Equal(got, want) {
		t.Fatalf("step %d: listed %q, want %q", step, got, want)
	}
}

func testReadAfterWriteReopened(t *testing.T, cfg Config, s storage.Store) {
	if cfg.Reopen == nil {
		t.Skip("this backend has no second handle")
	}
	other := cfg.Reopen(t, s)
	for i := range 20 {
		name, content := fmt.Sprintf("f%d/x", i%4), fmt.Sprint("content ", i)
		put(t, s, name, content)
		wantContent(t, other, name, content)
		wantIs(t, other.PutIfAbsent(t.Context(), name, nil), fs.ErrExist, name)
		if got := list(t, other, name, ""); len(got) != 1 {
			t.Fatalf("the other handle lists %q", got)
		}
		if i%2 == 0 {
			if err := other.Delete(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			_, err := s.Get(t.Context(), name, 0, -1)
			wantIs(t, err, fs.ErrNotExist, name)
		}
	}
}

func wantIs(t *testing.T, err, target error, what string) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s: got error %v, want one that is %q", what, err, target)
	}
}
