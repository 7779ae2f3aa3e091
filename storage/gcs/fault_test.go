package gcs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kafkadelta/internal/storetest"
	contract "kafkadelta/storage"
	"kafkadelta/storage/remote"
)

func isInsert(r *http.Request) bool { return query(r).Get("uploadType") == "multipart" }

func emulated(t *testing.T, g storetest.GCS, observe func(operation, outcome string), wrap exchange) *Store {
	t.Helper()
	return storeAt(t, g.Endpoint, Location{Bucket: g.Bucket, Folder: "t"}, observe, wrap)
}

// TestLostAnswer is the case for which the id in the metadata is there: the put landed, its answer did not.
func TestLostAnswer(t *testing.T) {
	for _, landed := range []bool{true, false} {
		t.Run(fmt.Sprint("landed ", landed), func(t *testing.T) {
			seen := &requests{}
			s := emulated(t, storetest.FakeGCS(t), seen.observe, cutOnce(isInsert, landed))
			if err := s.PutIfAbsent(t.Context(), "x", []byte("mine")); err != nil {
				t.Fatal(err)
			}
			if got := read(t, s, "x"); got != "mine" {
				t.Fatalf("read %q", got)
			}
			if err := s.PutIfAbsent(t.Context(), "x", []byte("again")); !errors.Is(err, fs.ErrExist) {
				t.Fatalf("a second put: %v", err)
			}
			want := "put_if_absent ok, get ok, put_if_absent exists"
			if landed {
				want = "put_if_absent ok, put_if_absent exists, head ok, get ok, put_if_absent exists"
			}
			if got := seen.String(); got != want {
				t.Errorf("requests %s, want %s", got, want)
			}
		})
	}
}

// TestLostAnswerOfALoser: the put never arrived, and another writer took the name before the second try.
func TestLostAnswerOfALoser(t *testing.T) {
	g := storetest.FakeGCS(t)
	other := emulated(t, g, nil, nil)
	cut := cutOnce(isInsert, false)
	s := emulated(t, g, nil, func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		response, err := cut(r, next)
		if errors.Is(err, errCut) {
			err = errors.Join(err, other.PutIfAbsent(context.WithoutCancel(r.Context()), "x", []byte("other")))
		}
		return response, err
	})
	if err := s.PutIfAbsent(t.Context(), "x", []byte("mine")); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("got %v, want fs.ErrExist", err)
	}
	if got := read(t, s, "x"); got != "other" {
		t.Fatalf("read %q", got)
	}
}

const chunk = remote.DefaultPart

// pattern is content of which no part repeats at a chunk's distance.
func pattern(size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "%d,", i)
	}
	return b.String()[:size]
}

func stream(ctx context.Context, s *Store, content string) error {
	w, err := s.Create(ctx, "x")
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, content); err != nil {
		return errors.Join(err, w.Close())
	}
	return w.Close()
}

// TestLostAnswersOfAStream cuts off each request of a resumable upload once, before it is sent or after it was carried out.
func TestLostAnswersOfAStream(t *testing.T) {
	content := pattern(2*chunk + 100)
	for name, match := range map[string]func(*http.Request) bool{
		"begin": func(r *http.Request) bool {
			return query(r).Get("uploadType") == "resumable" && !query(r).Has("upload_id")
		},
		"first chunk": func(r *http.Request) bool { return strings.HasPrefix(r.Header.Get("Content-Range"), "bytes 0-") },
		"second": func(r *http.Request) bool {
			return strings.HasPrefix(r.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", chunk))
		},
		"last chunk": func(r *http.Request) bool {
			return strings.HasSuffix(r.Header.Get("Content-Range"), fmt.Sprint("/", len(content)))
		},
	} {
		for _, landed := range []bool{true, false} {
			t.Run(fmt.Sprint(name, ", landed ", landed), func(t *testing.T) {
				b, seen := newBucket(t), &requests{}
				s := served(t, b, seen.observe, cutOnce(match, landed))
				if err := stream(t.Context(), s, content); err != nil {
					t.Fatal(err)
				}
				if string(b.objects["t/x"].data) != content {
					t.Error("another content")
				}
				got := seen.String()
				want := "part ok, part ok, part ok, complete ok"
				if landed && name == "last chunk" {
					want += ", complete ok"
				} else if landed {
					want = "part ok, " + want
				}
				if got != want {
					t.Errorf("requests %s, want %s", got, want)
				}
			})
		}
	}
}

// TestLengthsOfStreams counts the requests: one, or one to begin and one for each chunk.
func TestLengthsOfStreams(t *testing.T) {
	for size, want := range map[int]string{
		0: "put ok", 1: "put ok", chunk: "put ok", chunk + 1: "part ok, part ok, complete ok", 2 * chunk: "part ok, part ok, complete ok",
	} {
		b, seen := newBucket(t), &requests{}
		content := pattern(size)
		if err := stream(t.Context(), served(t, b, seen.observe, nil), content); err != nil {
			t.Fatal(err)
		}
		if got := seen.String(); got != want || string(b.objects["t/x"].data) != content {
			t.Errorf("%d bytes: requests %s, want %s; or another content", size, got, want)
		}
	}
}

// TestSmallChunks: a stream that is to take little memory is sent in smaller chunks, of a multiple of 256 KiB.
func TestSmallChunks(t *testing.T) {
	b, seen := newBucket(t), &requests{}
	server := httptest.NewServer(b)
	defer server.Close()
	client := remote.New(remote.Options{Explain: explain, Observe: seen.observe, Parts: remote.Parts{Size: 600 << 10}})
	defer client.HTTP.CloseIdleConnections()
	s, err := connect(Location{Bucket: "bucket", Folder: "t"}, Config{Endpoint: server.URL}, env(), client)
	if err != nil {
		t.Fatal(err)
	}
	content := pattern(1<<20 + 1)
	if err := stream(t.Context(), s, content); err != nil {
		t.Fatal(err)
	}
	if got, want := seen.String(), "part ok, part ok, part ok, complete ok"; got != want || string(b.objects["t/x"].data) != content {
		t.Errorf("requests %s, want %s: to begin, and three chunks; or another content", got, want)
	}
}

// TestRequestsOfAFailingOperation finds retries of the SDK's own.
func TestRequestsOfAFailingOperation(t *testing.T) {
	for status, want := range map[int]int{http.StatusInternalServerError: 5, http.StatusServiceUnavailable: 5, http.StatusForbidden: 1, http.StatusBadRequest: 1} {
		for name, do := range map[string]func(*Store) error{
			"list":          func(s *Store) error { return listErr(t.Context(), s) },
			"get":           func(s *Store) error { _, err := s.Get(t.Context(), "x", 0, -1); return err },
			"head":          func(s *Store) error { _, err := s.Get(t.Context(), "x", 0, 0); return err },
			"put":           func(s *Store) error { return s.Put(t.Context(), "x", nil) },
			"put if absent": func(s *Store) error { return s.PutIfAbsent(t.Context(), "x", nil) },
			"delete":        func(s *Store) error { return s.Delete(t.Context(), "x") },
			"stream":        func(s *Store) error { return stream(t.Context(), s, pattern(chunk+1)) },
		} {
			t.Run(fmt.Sprint(name, " ", status), func(t *testing.T) {
				t.Parallel()
				var got atomic.Int64
				s := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					got.Add(1)
					refuse(w, status, "someReason", "It is refused.")
				}), nil, nil)
				if err := do(s); err == nil || int(got.Load()) != want {
					t.Errorf("%d requests, %v; want %d", got.Load(), err, want)
				}
			})
		}
	}
}

// failing lets requests of an upload fail from the n-th chunk on.
func failing(t *testing.T, b *bucket, n, status int) (http.Handler, *atomic.Int64) {
	t.Helper()
	var chunks, failed atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if query(r).Has("upload_id") && r.Method == http.MethodPost && int(chunks.Add(1)) >= n {
			failed.Add(1)
			_, _ = io.Copy(io.Discard, r.Body)
			refuse(w, status, "someReason", "It is refused.")
			return
		}
		b.ServeHTTP(w, r)
	}), &failed
}

// TestFailingChunk: it is tried as often as any request, then the upload is cancelled.
func TestFailingChunk(t *testing.T) {
	for status, want := range map[int]int64{http.StatusServiceUnavailable: 5, http.StatusForbidden: 1} {
		for n := 1; n <= 3; n++ {
			b := newBucket(t)
			handler, failed := failing(t, b, n, status)
			err := stream(t.Context(), served(t, handler, nil, nil), pattern(2*chunk+1))
			if err == nil || failed.Load() != want {
				t.Errorf("chunk %d is answered %d: %v after %d requests, want %d", n, status, err, failed.Load(), want)
			}
			if errors.Is(err, fs.ErrPermission) != (status == http.StatusForbidden) {
				t.Errorf("chunk %d is answered %d: %v", n, status, err)
			}
			if !b.sessions["1"].gone || len(b.objects) > 0 {
				t.Errorf("chunk %d is answered %d: the upload was not cancelled", n, status)
			}
		}
	}
}

// TestDoubtfulEnd: the last chunk's answer is lost, then permission is withdrawn. Nobody may read "it did not happen" from that.
func TestDoubtfulEnd(t *testing.T) {
	b := newBucket(t)
	handler, _ := failing(t, b, 3, http.StatusForbidden)
	cut := cutOnce(func(r *http.Request) bool {
		return strings.HasSuffix(r.Header.Get("Content-Range"), fmt.Sprint("/", chunk+1))
	}, true)
	err := stream(t.Context(), served(t, handler, nil, cut), pattern(chunk+1))
	if err == nil || errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "may have been carried out") {
		t.Errorf("got %v", err)
	}
	if b.objects["t/x"] == nil {
		t.Error("the test is wrong: nothing landed")
	}
}

// TestUploadIsGone: a session that the service has dropped is no reason to end the worker, and can't be mended by another try.
func TestUploadIsGone(t *testing.T) {
	for _, code := range []int{http.StatusGone, http.StatusNotFound} {
		uploadIsGone(t, code)
	}
}

func uploadIsGone(t *testing.T, code int) {
	t.Helper()
	b := newBucket(t)
	b.gone = code
	chunks := 0
	s := served(t, b, nil, func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if r.Header.Get("Content-Range") != "" {
			chunks++
			b.mu.Lock()
			for _, s := range b.sessions {
				s.gone = chunks > 1
			}
			b.mu.Unlock()
		}
		return next.RoundTrip(r)
	})
	w, err := s.Create(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(make([]byte, 3*chunk))
	if closed := w.Close(); err == nil {
		err = closed
	}
	if err == nil || errors.Is(err, fs.ErrInvalid) || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "begin anew") {
		t.Errorf("%d: got %v, which is to be no final error, with a hint", code, err)
	}
	if chunks != 2 {
		t.Errorf("sent %d chunks, want 2", chunks)
	}
}

// TestChunkIsTakenInPart: the service tells how far it has an upload, which need not be the end of the chunk; the rest is sent again.
func TestChunkIsTakenInPart(t *testing.T) {
	content := pattern(2*chunk + chunk/2)
	for _, from := range []int{1, 2, 3} { // the chunk, the last one too
		b := newBucket(t)
		chunks := 0
		s := served(t, b, nil, func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			if r.Header.Get("Content-Range") != "" {
				if chunks++; chunks == from {
					b.mu.Lock()
					b.takes = 256 << 10
					b.mu.Unlock()
				}
			}
			return next.RoundTrip(r)
		})
		w, err := s.Create(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.WriteString(w, content)
		if err := errors.Join(err, w.Close()); err != nil {
			t.Errorf("chunk %d: %v", from, err)
			continue
		}
		if got := string(b.objects["t/x"].data); got != content || chunks != 4 {
			t.Errorf("chunk %d: the object has %d bytes of %d, after %d requests", from, len(got), len(content), chunks)
		}
	}
}

// TestAbortCancels asks the service whether the upload has ended, also after the caller's context.
func TestAbortCancels(t *testing.T) {
	for _, cancelled := range []bool{false, true} {
		b, seen := newBucket(t), &requests{}
		s := served(t, b, seen.observe, nil)
		ctx, cancel := context.WithCancel(t.Context())
		w, err := s.Create(ctx, "x")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, pattern(2*chunk+1)); err != nil {
			t.Fatal(err)
		}
		for query := time.Now().Add(10 * time.Second); !strings.Contains(seen.String(), "part ok, part ok") && time.Now().Before(query); {
			time.Sleep(time.Millisecond)
		}
		if cancelled {
			cancel()
		}
		if err := w.Abort(); err != nil {
			t.Fatal(err)
		}
		cancel()
		if !b.sessions["1"].gone || len(b.objects) > 0 || strings.Contains(seen.String(), "complete") {
			t.Errorf("cancelled %v: requests %s", cancelled, seen)
		}
	}
}

// TestSessionIsSecret: the URL of a session lets everybody write who has it.
func TestSessionIsSecret(t *testing.T) {
	b := newBucket(t)
	s := served(t, b, nil, func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if query(r).Has("upload_id") {
			return nil, errCut
		}
		return next.RoundTrip(r)
	})
	err := stream(t.Context(), s, pattern(chunk+1))
	if !errors.Is(err, errCut) || strings.Contains(fmt.Sprintf("%v %+v", err, err), "upload_id") {
		t.Errorf("got %v", err)
	}
}

// TestReadGoesOn: a body that breaks off is read on from where it broke, but not for ever.
func TestReadGoesOn(t *testing.T) {
	content := pattern(1 << 20)
	b := newBucket(t)
	b.objects["t/x"] = &object{Name: "t/x", Generation: "7", data: []byte(content)}
	for cuts, want := range map[int]int{0: 1, 3: 4, 1 << 30: 56} { // each costs ten of the budget's 500, and an answer gives one back
		seen := &requests{}
		left := cuts
		s := served(t, b, seen.observe, func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			response, err := next.RoundTrip(r)
			if err == nil && left > 0 {
				left--
				response.Body = &broken{response.Body, 1000}
			}
			return response, err
		})
		r, err := s.Get(t.Context(), "x", 10, -1)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		r.Close()
		if want < 10 && (err != nil || string(data) != content[10:]) {
			t.Errorf("%d cuts: read %d bytes, %v", cuts, len(data), err)
		}
		if want >= 10 && (!errors.Is(err, errBroken) || !strings.Contains(err.Error(), "gs://bucket/t/x")) {
			t.Errorf("%d cuts: %v", cuts, err)
		}
		if got := strings.Count(seen.String(), "get ok"); got != want {
			t.Errorf("%d cuts: %d requests, want %d", cuts, got, want)
		}
	}
}

// TestRestIsAskedForAgain: a service that does not answer, or is busy, when the rest of an object is asked for is asked again, as at any request.
func TestRestIsAskedForAgain(t *testing.T) {
	content := pattern(5000)
	b := newBucket(t)
	b.objects["t/x"] = &object{Name: "t/x", Generation: "7", data: []byte(content)}
	sent := 0
	s := served(t, b, nil, func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		switch sent++; sent {
		case 1:
			response, err := next.RoundTrip(r)
			if err == nil {
				response.Body = &broken{response.Body, 1000}
			}
			return response, err
		case 2:
			return nil, errCut
		case 3:
			busy := httptest.NewRecorder()
			refuse(busy, http.StatusServiceUnavailable, "backendError", "We encountered an internal error.")
			return busy.Result(), nil
		}
		return next.RoundTrip(r)
	})
	r, err := s.Get(t.Context(), "x", 10, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if data, err := io.ReadAll(r); err != nil || string(data) != content[10:] || sent != 4 {
		t.Errorf("read %d bytes of %d in %d requests, want 4: %v", len(data), len(content)-10, sent, err)
	}
}

// TestAnswersThatKnowNoRange: an object that is stored compressed is unpacked on the way, as a whole, and some proxies and emulators give the whole
// whatever is asked for. A part is a part all the same, also of an object that has broken off.
func TestAnswersThatKnowNoRange(t *testing.T) {
	content := pattern(10_000)
	b := newBucket(t)
	b.objects["t/x"] = &object{Name: "t/x", Size: "10000", Generation: "7", data: []byte(content)}
	for _, tt := range []struct {
		offset, length int64
		cuts           int
		want           string
	}{
		{0, -1, 1, content},
		{100, -1, 0, content[100:]},
		{100, -1, 2, content[100:]},
		{100, 50, 0, content[100:150]},
		{100, 5000, 2, content[100:5100]},
		{9_990, 100, 0, content[9_990:]},
		{10_000, 100, 0, ""},
		{20_000, 100, 0, ""},
	} {
		left := tt.cuts
		s := served(t, b, nil, func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			r = r.Clone(r.Context())
			r.Header.Del("Range")
			response, err := next.RoundTrip(r)
			if err == nil && left > 0 {
				left--
				response.Body = &broken{response.Body, 1000}
			}
			return response, err
		})
		r, err := s.Get(t.Context(), "x", tt.offset, tt.length)
		if err != nil {
			t.Fatalf("%+v: %v", tt.cuts, err)
		}
		data, err := io.ReadAll(r)
		if err != nil || string(data) != tt.want {
			t.Errorf("%d bytes from %d on, with %d cuts: read %d, want %d, %v", tt.length, tt.offset, tt.cuts, len(data), len(tt.want), err)
		}
		r.Close()
	}
}

// TestBrokenReadIsNoEnd: when the way to the rest is closed, too, nobody may take what has come for the whole.
func TestBrokenReadIsNoEnd(t *testing.T) {
	b := newBucket(t)
	b.objects["t/x"] = &object{Name: "t/x", Generation: "7", data: []byte(pattern(5000))}
	first := true
	s := served(t, b, nil, func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if !first {
			return nil, io.EOF // as net/http says of a connection that was closed before the answer
		}
		first = false
		response, err := next.RoundTrip(r)
		if err == nil {
			response.Body = &broken{response.Body, 1000}
		}
		return response, err
	})
	r, err := s.Get(t.Context(), "x", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if data, err := io.ReadAll(r); err == nil || errors.Is(err, io.EOF) || len(data) != 1000 || !strings.Contains(err.Error(), "gs://bucket/t/x") {
		t.Errorf("read %d bytes, %v", len(data), err)
	}
	if n, err := r.Read(make([]byte, 10)); n > 0 || err == nil || errors.Is(err, io.EOF) {
		t.Errorf("asked again, it gives %d bytes and %v", n, err)
	}
}

// broken is a body that breaks off.
type broken struct {
	io.ReadCloser
	left int
}

func (b *broken) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errCut
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// TestStillServer meets a server that takes a request and never answers; the caller's context ends it.
func TestStillServer(t *testing.T) {
	release := make(chan struct{})
	s := served(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}), nil, nil)
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.PutIfAbsent(ctx, "x", nil); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
}

// TestFollowingALogIsOneRequest lists what is new behind 220 versions, in pages of 100.
func TestFollowingALogIsOneRequest(t *testing.T) {
	seen := &requests{}
	s := emulated(t, storetest.FakeGCS(t), seen.observe, nil)
	s.page = 100
	for v := range 220 {
		if err := s.Put(t.Context(), fmt.Sprintf("_delta_log/%020d.json", v), nil); err != nil {
			t.Fatal(err)
		}
	}
	for after, want := range map[string]string{
		"_delta_log/00000000000000000215": "5, list ok", "_delta_log/00000000000000000219.json": "0, list ok", "_delta_log/9": "0, ",
		"": "220, list ok, list ok, list ok",
	} {
		seen.reset()
		count := 0
		for info, err := range s.List(t.Context(), "_delta_log/0", after) {
			if err != nil || info.Name <= after {
				t.Fatal(info, err)
			}
			count++
		}
		if got := fmt.Sprintf("%d, %s", count, seen); got != want {
			t.Errorf("after %q: %s, want %s", after, got, want)
		}
	}
}

// TestOrderIsChecked: a service that lists in an order of its own is an error, not a version that is missed.
func TestOrderIsChecked(t *testing.T) {
	s := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if query(r).Get("pageToken") == "" {
			_, _ = io.WriteString(w, `{"items":[{"name":"t/b","size":"1"}],"nextPageToken":"1"}`)
		} else {
			_, _ = io.WriteString(w, `{"items":[{"name":"t/a","size":"1"}]}`)
		}
	}), nil, nil)
	if err := listErr(t.Context(), s); err == nil || !strings.Contains(err.Error(), "order") {
		t.Errorf("got %v", err)
	}
}

// TestFolderMarkers are what the console and Hadoop's connector leave.
func TestFolderMarkers(t *testing.T) {
	s := emulated(t, storetest.FakeGCS(t), nil, nil)
	if err := errors.Join(s.Put(t.Context(), "a/x", []byte("1")), s.api.insert(t.Context(), s.folder+"a/", nil, nil, false)); err != nil {
		t.Fatal(err)
	}
	var names []string
	for info, err := range s.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	if len(names) != 1 || names[0] != "a/x" {
		t.Errorf("listed %q", names)
	}
}

func listErr(ctx context.Context, s contract.Store) error {
	for _, err := range s.List(ctx, "", "") {
		if err != nil {
			return err
		}
	}
	return nil
}
