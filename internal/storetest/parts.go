package storetest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// AtOnce is a server that tells how many of some requests it has had at the same time.
type AtOnce struct {
	http.Handler
	Match func(*http.Request) bool // which requests count: each takes 20 ms longer, so that those which may meet do
	Most  atomic.Int64
	now   atomic.Int64
}

// ServeHTTP implements http.Handler.
func (a *AtOnce) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if a.Match(r) {
		n := a.now.Add(1)
		defer a.now.Add(-1)
		for most := a.Most.Load(); n > most && !a.Most.CompareAndSwap(most, n); {
			most = a.Most.Load()
		}
		time.Sleep(20 * time.Millisecond)
	}
	a.Handler.ServeHTTP(w, r)
}

// writer is a storage.Writer.
type writer = interface {
	io.Writer
	Close() error
	Abort() error
}

// Streams writes so many objects of so many parts, and a byte, at the same time. What a stream tells to hold is no more than a part, with what its memory has grown past that.
func Streams(t *testing.T, create func(context.Context, string) (writer, error), streams, parts, part int) {
	t.Helper()
	var wait sync.WaitGroup
	for i := range streams {
		wait.Go(func() {
			w, err := create(t.Context(), fmt.Sprint("stream-", i))
			if err != nil {
				t.Error(err)
				return
			}
			for range parts {
				if _, err := w.Write(make([]byte, part)); err != nil {
					t.Error(err)
				}
				if held := w.(interface{ Held() int }).Held(); held > part/2*3 {
					t.Errorf("a stream holds %d bytes, a part has %d", held, part)
				}
			}
			if _, err := w.Write([]byte{1}); err != nil {
				t.Error(err)
			}
			if held := w.(interface{ Held() int }).Held(); held == 0 {
				t.Error("a stream with a part that is not full holds nothing")
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
}
