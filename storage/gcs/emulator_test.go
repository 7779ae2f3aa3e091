package gcs

import (
	"os"
	"strings"
	"testing"

	"kafkadelta/internal/storetest"
	contract "kafkadelta/storage"
	"kafkadelta/storage/storagetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Run(m)) }

// emulator returns a store in a new bucket that lists 100 objects in an answer.
func emulator(t *testing.T, folder string) *Store {
	t.Helper()
	g := storetest.FakeGCS(t)
	s, err := New(Location{Bucket: g.Bucket, Folder: folder}, Config{}, Options{Getenv: env("STORAGE_EMULATOR_HOST", g.Endpoint)})
	if err != nil {
		t.Fatal(err)
	}
	s.page = 100
	t.Cleanup(s.client.HTTP.CloseIdleConnections)
	return s
}

func TestConformance(t *testing.T) {
	storagetest.Run(t, storagetest.Config{
		New: func(t *testing.T) contract.Store { return emulator(t, "a folder/tablé") },
		Reopen: func(_ *testing.T, s contract.Store) contract.Store {
			again := *s.(*Store)
			return &again
		},
		Page: 100,
	})
}

// TestRootOfABucket has no folder.
func TestRootOfABucket(t *testing.T) {
	s := emulator(t, "")
	for _, name := range []string{"_delta_log/00000000000000000000.json", "a"} {
		if err := s.PutIfAbsent(t.Context(), name, []byte(name)); err != nil {
			t.Fatal(err)
		}
		if got := read(t, s, name); got != name {
			t.Errorf("read %q", got)
		}
	}
	var names []string
	for info, err := range s.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	if got := strings.Join(names, " "); got != "_delta_log/00000000000000000000.json a" {
		t.Errorf("listed %s", got)
	}
}
