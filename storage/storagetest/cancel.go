package storagetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"testing"
	"time"

	"kafkadelta/storage"
)

func testCancelled(t *testing.T, _ Config, s storage.Store) {
	put(t, s, "x", "kept")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	calls := map[string]func() error{
		"Get":         func() error { _, err := s.Get(ctx, "x", 0, -1); return err },
		"Put":         func() error { return s.Put(ctx, "x", []byte("new")) },
		"PutIfAbsent": func() error { return s.PutIfAbsent(ctx, "new", []byte("new")) },
		"Create":      func() error { _, err := s.Create(ctx, "new"); return err },
		"Delete":      func() error { return s.Delete(ctx, "x") },
		"List": func() error {
			for _, err := range s.List(ctx, "", "") {
				return err
			}
			return nil
		},
	}
	for method, call := range calls {
		wantIs(t, call(), context.Canceled, method)
	}
	wantContent(t, s, "x", "kept")
	if got := list(t, s, "", ""); !slices.Equal(got, []string{"x"}) {
		t.Fatalf("listed %q", got)
	}
}

// testCancelledPut ends the context at some time during a put. What is there afterwards is whole or nothing, and a put
// that says nil is there.
func testCancelledPut(t *testing.T, cfg Config, s storage.Store) {
	content := bytes.Repeat([]byte("0123456789abcdef"), cfg.LargeSize/16/4)
	puts := map[string]func(context.Context, string, []byte) error{"put": s.Put, "absent": s.PutIfAbsent}
	for name, put := range puts {
		for i := range 4 {
			name := name + string(rune('0'+i))
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*i)*5*time.Millisecond)
			err := put(ctx, name, content)
			cancel()
			if err != nil {
				wantIs(t, err, context.DeadlineExceeded, name)
			}
			got, readErr := get(t.Context(), s, name, 0, -1)
			switch {
			case errors.Is(readErr, fs.ErrNotExist) && err != nil:
			case readErr != nil:
				t.Errorf("%s answered %v, then reading it: %v", name, err, readErr)
			case !bytes.Equal(got, content):
				t.Errorf("%s answered %v, and %d of %d bytes are there", name, err, len(got), len(content))
			}
		}
	}
}

func testCancelledStream(t *testing.T, _ Config, s storage.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	w, err := s.Create(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	write(t, w, "content")
	cancel()
	wantIs(t, w.Close(), context.Canceled, "Close")
}

// testCancelledLarge ends the context when parts of the stream were sent already. Neither Close nor Abort may leave
// anything to see, and Abort works without the context.
func testCancelledLarge(t *testing.T, cfg Config, s storage.Store) {
	put(t, s, "kept", "first")
	chunk := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for _, name := range []string{"kept", "closed", "aborted"} {
		ctx, cancel := context.WithCancel(t.Context())
		w, err := s.Create(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		var failed error
		for sent := 0; sent < cfg.LargeSize && failed == nil; sent += len(chunk) {
			if sent >= cfg.LargeSize*3/4 {
				cancel()
			}
			_, failed = w.Write(chunk)
		}
		cancel()
		if name == "closed" {
			if err := w.Close(); failed == nil {
				failed = err
			} else if err == nil {
				t.Errorf("%s: Close succeeded after a Write that failed with %v", name, failed)
			}
			wantIs(t, failed, context.Canceled, name)
			continue
		}
		if failed != nil {
			wantIs(t, failed, context.Canceled, name)
		}
		if err := w.Abort(); err != nil {
			t.Errorf("%s: Abort after the context's end: %v", name, err)
		}
	}
	wantContent(t, s, "kept", "first")
	if got := list(t, s, "", ""); !slices.Equal(got, []string{"kept"}) {
		t.Fatalf("listed %q", got)
	}
}

// testCancelledReader ends the context in the middle of an object: what is on its way may still come, not the rest.
func testCancelledReader(t *testing.T, cfg Config, s storage.Store) {
	w := create(t, s, "large")
	write(t, w, string(make([]byte, cfg.LargeSize)))
	closeWriter(t, w)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := s.Get(ctx, "large", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	cancel()
	n, err := io.Copy(io.Discard, r)
	wantIs(t, err, context.Canceled, "reading on")
	if n >= int64(cfg.LargeSize)-1000 {
		t.Errorf("all %d bytes came after the context's end", n)
	}
}
