package azure

import (
	"os"
	"testing"

	"kafkadelta/internal/storetest"
	"kafkadelta/storage"
	"kafkadelta/storage/storagetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Run(m)) }

// azurite returns a store in a new container, that lists so many objects in an answer (0: as many as the service does).
func azurite(t *testing.T, folder string, page int32, observe func(operation, outcome string)) *Store {
	t.Helper()
	a := storetest.Azurite(t)
	return openAt(t, a, folder, page, observe)
}

func openAt(t *testing.T, a storetest.Azure, folder string, page int32, observe func(operation, outcome string)) *Store {
	t.Helper()
	s, err := New(Location{Container: a.Container, Folder: folder}, Config{}, Options{Observe: observe, Getenv: func(name string) string {
		return map[string]string{"AZURE_STORAGE_CONNECTION_STRING": a.ConnectionString}[name]
	}})
	if err != nil {
		t.Fatal(err)
	}
	if page > 0 {
		s.page = &page
	}
	t.Cleanup(s.client.HTTP.CloseIdleConnections)
	return s
}

func TestConformance(t *testing.T) {
	for name, folder := range map[string]string{"folder": "a folder/tablé", "container": ""} {
		t.Run(name, func(t *testing.T) {
			if folder == "" && testing.Short() {
				t.Skip("the same in the container's root")
			}
			storagetest.Run(t, storagetest.Config{
				New: func(t *testing.T) storage.Store { return azurite(t, folder, 100, nil) },
				Reopen: func(t *testing.T, s storage.Store) storage.Store {
					again := *s.(*Store)
					return &again
				},
				Page: 100,
			})
		})
	}
}
