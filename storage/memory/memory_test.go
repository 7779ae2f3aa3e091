package memory_test

import (
	"io"
	"slices"
	"testing"

	"kafkadelta/storage"
	"kafkadelta/storage/memory"
	"kafkadelta/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Run(t, storagetest.Config{
		New:    func(t *testing.T) storage.Store { return memory.New() },
		Reopen: func(t *testing.T, s storage.Store) storage.Store { return s },

		StreamMemory: -1,
	})
}

func TestCloneIsIndependent(t *testing.T) {
	ctx := t.Context()
	original := memory.New()
	must(t, original.Put(ctx, "both", []byte("first")))
	open, err := original.Create(ctx, "open")
	must(t, err)
	_, err = open.Write([]byte("staged"))
	must(t, err)

	clone := original.Clone()
	must(t, clone.Put(ctx, "both", []byte("changed in the clone"))) // in place, before anything grows the list
	must(t, clone.PutIfAbsent(ctx, "clone", []byte("x")))
	must(t, original.Delete(ctx, "none"))
	must(t, original.Put(ctx, "original", []byte("x")))
	must(t, open.Close())

	wantNames(t, clone, "both", "clone")
	wantNames(t, original, "both", "open", "original")
	r, err := original.Get(ctx, "both", 0, -1)
	must(t, err)
	if data, err := io.ReadAll(r); err != nil || string(data) != "first" {
		t.Fatalf("the original has %q, %v", data, err)
	}
}

func TestReaderKeepsItsContent(t *testing.T) {
	ctx := t.Context()
	s := memory.New()
	must(t, s.Put(ctx, "x", []byte("first")))
	r, err := s.Get(ctx, "x", 0, -1)
	must(t, err)
	must(t, s.Put(ctx, "x", []byte("other")))
	must(t, s.Delete(ctx, "x"))
	if data, err := io.ReadAll(r); err != nil || string(data) != "first" {
		t.Fatalf("read %q, %v", data, err)
	}
}

func wantNames(t *testing.T, s storage.Store, want ...string) {
	t.Helper()
	var got []string
	for info, err := range s.List(t.Context(), "", "") {
		must(t, err)
		got = append(got, info.Name)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("listed %q, want %q", got, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
