package main

import (
	"testing"
	"time"

	"kafkadelta/delta"
	"kafkadelta/storage/local"
)

func TestLogTableHasItsFiles(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	table := logTable{files: 1234, following: 5}
	for _, write := range []func() error{
		func() error { return table.writeBase(ctx, dir) },
		func() error { return table.writeFollowing(dir) },
	} {
		if err := write(); err != nil {
			t.Fatal(err)
		}
	}
	store, err := local.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := delta.OpenSnapshot(ctx, store, -1)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Totals(ctx)
	if err != nil {
		t.Fatal(err)
	}
	files := table.files + table.following*followedFiles
	if s.Version() != table.newest() || got.Files != files || got.Rows != files*10_000 {
		t.Errorf("version %d, %+v; want version %d, %d files of 10000 rows", s.Version(), got, table.newest(), files)
	}
	log, err := delta.Open(ctx, store, delta.Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.CheckAppend(); err != nil {
		t.Error(err)
	}
}
