package azure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"

	"kafkadelta/internal/storetest"
	"kafkadelta/storage"
	"kafkadelta/storage/remote"
)

var errCut = errors.New("connection reset by peer")

// cutOnce cuts off the first request that matches: after the server has answered, or before it is sent.
func cutOnce(match func(*http.Request) bool, landed bool) exchange {
	var done atomic.Bool
	return func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if !match(r) || done.Swap(true) {
			return next.RoundTrip(r)
		}
		if !landed {
			return nil, errCut
		}
		response, err := next.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		response.Body.Close()
		if response.StatusCode >= 300 {
			return nil, fmt.Errorf("the first try got %s", response.Status)
		}
		return nil, errCut
	}
}

func isPut(r *http.Request) bool { return r.Method == http.MethodPut }

func azuriteStore(t *testing.T, a storetest.Azure, observe func(operation, outcome string), wrap exchange) *Store {
	t.Helper()
	return storeAt(t, Location{Endpoint: a.Endpoint, Account: a.Account, Container: a.Container, Folder: "t"}, observe, wrap)
}

// TestLostAnswer is the case for which the id in the metadata is there: the put landed, its answer did not.
func TestLostAnswer(t *testing.T) {
	for _, landed := range []bool{true, false} {
		t.Run(fmt.Sprint("landed ", landed), func(t *testing.T) {
			a, seen := storetest.Azurite(t), &requests{}
			s := azuriteStore(t, a, seen.observe, cutOnce(isPut, landed))
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

// TestLostAnswerOfALoser lets another writer take the name before the second try.
func TestLostAnswerOfALoser(t *testing.T) {
	a := storetest.Azurite(t)
	other := azuriteStore(t, a, nil, nil)
	cut := cutOnce(isPut, false)
	s := azuriteStore(t, a, nil, func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
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

// TestLostAnswerOfAStream cuts off what makes a stream visible, after it was carried out.
func TestLostAnswerOfAStream(t *testing.T) {
	s := azuriteStore(t, storetest.Azurite(t), nil, cutOnce(func(r *http.Request) bool { return r.URL.Query().Get("comp") == "blocklist" }, true))
	content := strings.Repeat("0123456789abcdef", (2*firstBlock+100)/16)
	w, err := s.Create(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if read(t, s, "x") != content {
		t.Fatal("another content")
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
			"stream": func(s *Store) error {
				w, err := s.Create(t.Context(), "x")
				if err != nil {
					return err
				}
				_, err = w.Write(make([]byte, firstBlock+1))
				return errors.Join(err, w.Close())
			},
		} {
			t.Run(fmt.Sprint(name, " ", status), func(t *testing.T) {
				t.Parallel()
				var requests atomic.Int64
				s := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					requests.Add(1)
					refuse(w, status, "SomeCode")
				}), "t", nil)
				err := do(s)
				got := int(requests.Load())
				if name == "stream" && got == 2*want { // its two blocks
					got = want
				}
				if err == nil || got != want {
					t.Errorf("%d requests, %v; want %d", got, err, want)
				}
			})
		}
	}
}

func listErr(ctx context.Context, s storage.Store) error {
	for _, err := range s.List(ctx, "", "") {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestNothingShowsOfAnAbortedStream asks the service for what is staged, too: it stays for a week, out of sight.
func TestNothingShowsOfAnAbortedStream(t *testing.T) {
	s := azuriteStore(t, storetest.Azurite(t), nil, nil)
	w, err := s.Create(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 2*firstBlock)); err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	for info, err := range s.List(t.Context(), "", "") {
		t.Fatalf("listed %v, %v", info, err)
	}
	// Azurite takes blocks that are staged for a blob, once it is asked under a condition. No name of a stream is ever used again so.
	if err := s.Put(t.Context(), "x", nil); err != nil {
		t.Fatalf("the name is not free: %v", err)
	}
}

const firstBlock = remote.DefaultPart

func TestBlocks(t *testing.T) {
	total := 0
	for n := range blocksLimit {
		total += blockSize(firstBlock, n)
	}
	if last := blockSize(firstBlock, blocksLimit-1); last > 4000<<20 || total < 2<<40 {
		t.Errorf("blocks grow to %d bytes and hold %d", last, total)
	}
	a, b := randomID(), randomID()
	if a == b || blockID(a, 1) == blockID(b, 1) || blockID(a, 1) == blockID(a, 2) {
		t.Error("ids of blocks are not unique")
	}
	if len(blockID(a, 0)) != len(blockID(b, blocksLimit)) || len(a)+4 > 64 {
		t.Error("ids of blocks have to be of one length, and at most 64 bytes")
	}
}

// TestTooManyBlocks has the limit in reach.
func TestTooManyBlocks(t *testing.T) {
	s := served(t, newHierarchical(t), "", nil)
	created, err := s.Create(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	w := created.(*writer)
	w.blocks = make([]string, blocksLimit)
	if _, err := w.Write(make([]byte, blockSize(firstBlock, blocksLimit)+1)); err == nil || !strings.Contains(err.Error(), "50000 blocks") {
		t.Errorf("got %v", err)
	}
	if err := w.Close(); err == nil {
		t.Error("closed an object that lacks what did not fit")
	}
}

// TestStillServer meets a server that takes a request and never answers; the caller's context ends it.
func TestStillServer(t *testing.T) {
	release := make(chan struct{})
	s := served(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}), "", nil)
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.PutIfAbsent(ctx, "x", nil); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
}

// TestFollowingALogIsOneRequest lists what is new behind 1,200 versions, in an account that lists 100 an answer.
func TestFollowingALogIsOneRequest(t *testing.T) {
	h := newHierarchical(t)
	seen := &requests{}
	s := served(t, h, "t", seen.observe)
	page := int32(100)
	s.page = &page
	for v := range 1200 {
		h.nodes[fmt.Sprintf("t/_delta_log/%020d.json", v)] = &node{}
	}
	for _, tc := range []struct {
		after string
		want  int
	}{{"_delta_log/00000000000000001195", 5}, {"_delta_log/00000000000000001195.json", 4}, {"_delta_log/00000000000000001200", 0}, {"_delta_log/9", 0}} {
		h.lists = 0
		count := 0
		for info, err := range s.List(t.Context(), "_delta_log/0", tc.after) {
			if err != nil || info.Name <= tc.after {
				t.Fatal(info, err)
			}
			count++
		}
		if count != tc.want || h.lists > 1 {
			t.Errorf("after %s: %d names by %d requests, want %d by one", tc.after, count, h.lists, tc.want)
		}
	}
	a := storetest.Azurite(t)
	s = azuriteStore(t, a, seen.observe, nil)
	s.page = &page
	for v := range 220 {
		if err := s.Put(t.Context(), fmt.Sprintf("_delta_log/%020d.json", v), nil); err != nil {
			t.Fatal(err)
		}
	}
	seen.reset()
	for _, err := range s.List(t.Context(), "_delta_log/0", "_delta_log/00000000000000000215") {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := seen.String(); got != "list ok" {
		t.Errorf("Azurite was asked for %s, want one listing", got)
	}
}

// TestOrderIsChecked: a service that lists in an order of its own is an error, not a version that is missed.
func TestOrderIsChecked(t *testing.T) {
	pages := []string{"<Name>b</Name>", "<Name>a</Name>"}
	s := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i, next := 0, "1"
		if r.URL.Query().Get("marker") != "" {
			i, next = 1, ""
		}
		_, _ = fmt.Fprintf(w, "<EnumerationResults><Blobs><Blob>%s<Properties><Content-Length>1</Content-Length></Properties></Blob></Blobs><NextMarker>%s</NextMarker></EnumerationResults>", pages[i], next)
	}), "", nil)
	if err := listErr(t.Context(), s); err == nil || !strings.Contains(err.Error(), "order") {
		t.Errorf("got %v", err)
	}
}

// TestFolderMarkers are what Hadoop's drivers leave in an account without hierarchical namespace.
func TestFolderMarkers(t *testing.T) {
	s := azuriteStore(t, storetest.Azurite(t), nil, nil)
	if err := s.Put(t.Context(), "a/x", []byte("1")); err != nil {
		t.Fatal(err)
	}
	yes := "true"
	if _, err := s.blob("a").Upload(t.Context(), body(nil), &blockblob.UploadOptions{Metadata: map[string]*string{"hdi_isfolder": &yes}}); err != nil {
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
	for _, length := range []int64{-1, 0} {
		if _, err := s.Get(t.Context(), "a", 0, length); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("reading the marker: %v", err)
		}
	}
}

// requests are those that a store has sent.
type requests struct{ seen []string }

func (r *requests) observe(operation, outcome string) { r.seen = append(r.seen, operation+" "+outcome) }

func (r *requests) String() string { return strings.Join(r.seen, ", ") }

func (r *requests) reset() { r.seen = nil }

func read(t *testing.T, s storage.Store, name string) string {
	t.Helper()
	r, err := s.Get(t.Context(), name, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
