package local_test

import (
	"testing"

	"kafkadelta/storage"
	"kafkadelta/storage/local"
	"kafkadelta/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Run(t, storagetest.Config{
		New:    func(t *testing.T) storage.Store { return open(t, t.TempDir()+"/not/there/yet") },
		Reopen: func(t *testing.T, s storage.Store) storage.Store { return open(t, s.(*local.Store).Root()) },
	})
}

func open(t *testing.T, root string) *local.Store {
	t.Helper()
	s, err := local.New(root)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
