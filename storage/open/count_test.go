package open_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"testing"

	"kafkadelta/storage"
	"kafkadelta/storage/open"
)

// TestStoresWithoutRequestsAreCounted does each operation with each outcome on the stores that send no requests.
func TestStoresWithoutRequestsAreCounted(t *testing.T) {
	for _, uri := range []string{t.TempDir() + "/t", "memory://" + t.Name()} {
		got := map[string]int{}
		s, err := open.Open(t.Context(), uri, open.Options{Observe: func(operation, outcome string) { got[operation+" "+outcome]++ }})
		if err != nil {
			t.Fatal(err)
		}
		want := func(what string, counts map[string]int) {
			t.Helper()
			if !maps.Equal(got, counts) {
				t.Errorf("%s: counted %v, want %v", what, got, counts)
			}
			clear(got)
		}
		ctx := t.Context()
		must(t, s.Put(ctx, "a", nil), nil)
		must(t, s.PutIfAbsent(ctx, "b", nil), nil)
		must(t, s.PutIfAbsent(ctx, "b", nil), fs.ErrExist)
		must(t, s.Put(ctx, "../b", nil), fs.ErrInvalid)
		want("puts", map[string]int{"put ok": 1, "put_if_absent ok": 1, "put_if_absent exists": 1, "put invalid": 1})
		r, err := s.Get(ctx, "a", 0, -1)
		must(t, err, nil)
		must(t, r.Close(), nil)
		_, err = s.Get(ctx, "c", 0, -1)
		must(t, err, fs.ErrNotExist)
		want("gets", map[string]int{"get ok": 1, "get not_found": 1})
		for range 2 {
			w, err := s.Create(ctx, "c")
			must(t, err, nil)
			_, err = w.Write([]byte("x"))
			must(t, errors.Join(err, w.Close()), nil)
		}
		w, err := s.Create(ctx, "d")
		must(t, errors.Join(err, w.Abort()), nil)
		must(t, s.Delete(ctx, "a"), nil)
		want("streams", map[string]int{"complete ok": 2, "abort ok": 1, "delete ok": 1})
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		must(t, s.Delete(cancelled, "c"), context.Canceled)
		must(t, names(s.List(cancelled, "", "")), context.Canceled)
		must(t, names(s.List(ctx, "", "")), nil)
		for _, err := range s.List(ctx, "", "") {
			must(t, err, nil)
			break
		}
		want("lists", map[string]int{"delete cancelled": 1, "list cancelled": 1, "list ok": 2})
		for i := range 1000 {
			must(t, s.Put(ctx, fmt.Sprint("many/", i), nil), nil)
		}
		clear(got)
		must(t, names(s.List(ctx, "many/", "")), nil)
		must(t, names(s.List(ctx, "", "")), nil)
		want("lists of 1,000 and 1,002", map[string]int{"list ok": 3})
	}
}

func names(seq func(func(storage.ObjectInfo, error) bool)) error {
	for _, err := range seq {
		if err != nil {
			return err
		}
	}
	return nil
}

func must(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}
