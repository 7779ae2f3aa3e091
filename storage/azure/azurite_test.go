package azure

import (
	"os"
	"strings"
	"testing"

	"kafkadelta/internal/storetest"
	"kafkadelta/storage"
	"kafkadelta/storage/storagetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Run(m)) }

// azurite returns a store in a new container that lists 100 objects in an answer.
func azurite(t *testing.T, folder string) *Store {
	t.Helper()
	a := storetest.Azurite(t)
	s, err := New(Location{Container: a.Container, Folder: folder}, Config{}, Options{Getenv: env("AZURE_STORAGE_CONNECTION_STRING", a.ConnectionString)})
	if err != nil {
		t.Fatal(err)
	}
	page := int32(100)
	s.page = &page
	t.Cleanup(s.client.HTTP.CloseIdleConnections)
	return s
}

func TestConformance(t *testing.T) {
	storagetest.Run(t, storagetest.Config{
		New: func(t *testing.T) storage.Store { return azurite(t, "a folder/tablé") },
		Reopen: func(_ *testing.T, s storage.Store) storage.Store {
			again := *s.(*Store)
			return &again
		},
		Page: 100,
	})
}

// TestRootOfAContainer has no folder.
func TestRootOfAContainer(t *testing.T) {
	s := azurite(t, "")
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
