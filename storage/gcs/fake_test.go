package gcs

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	contract "kafkadelta/storage"
	"kafkadelta/storage/remote"
)

// bucket answers as the JSON interface of Cloud Storage does where fake-gcs-server does not: a session of a resumable upload
// ignores what it has already, answers the last chunk again, checks the whole's CRC32C, and can be cancelled
// (cloud.google.com/storage/docs/performing-resumable-uploads).
type bucket struct {
	t        *testing.T
	mu       sync.Mutex
	objects  map[string]*object // by full name
	sessions map[string]*session
	begun    int // sessions
	gone     int // what it answers of a session that is gone; 410 for 0
	takes    int // of the next chunk that is longer; 0 for all
}

type object struct {
	Name       string            `json:"name"`
	Size       string            `json:"size"`
	Generation string            `json:"generation"`
	Updated    time.Time         `json:"updated"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	data       []byte
}

type session struct {
	name     string
	data     []byte
	complete bool
	gone     bool
}

func newBucket(t *testing.T) *bucket {
	return &bucket{t: t, objects: map[string]*object{}, sessions: map[string]*session{}}
}

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	q := r.URL.Query()
	name := strings.TrimPrefix(r.URL.Path, "/storage/v1/b/bucket/o/")
	o := b.objects[name]
	switch {
	case q.Get("upload_id") != "":
		b.chunk(w, r, b.sessions[q.Get("upload_id")], body)
	case q.Get("uploadType") == "resumable":
		b.begun++
		id := strconv.Itoa(b.begun)
		b.sessions[id] = &session{name: q.Get("name")}
		w.Header().Set("Location", "http://"+r.Host+"/upload/storage/v1/b/bucket/o?uploadType=resumable&upload_id="+id)
	case q.Get("uploadType") == "multipart":
		b.insert(w, r, body)
	case r.URL.Path == "/storage/v1/b/bucket/o":
		b.t.Error("this fake lists nothing")
	case o == nil:
		refuse(w, http.StatusNotFound, "notFound", "No such object: bucket/"+name)
	case r.Method == http.MethodDelete:
		delete(b.objects, name)
		w.WriteHeader(http.StatusNoContent)
	case q.Get("alt") == "media":
		w.Header().Set("X-Goog-Generation", o.Generation)
		w.Header().Set("X-Goog-Hash", "crc32c="+checksum(o.data))
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(o.data)))
	default:
		_ = json.NewEncoder(w).Encode(o)
	}
}

// insert takes an upload of one request.
func (b *bucket) insert(w http.ResponseWriter, r *http.Request, body []byte) {
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		b.t.Error(err)
	}
	parts := multipart.NewReader(strings.NewReader(string(body)), params["boundary"])
	var o struct {
		object
		CRC32C string `json:"crc32c"`
	}
	for i := range 2 {
		part, err := parts.NextPart()
		if err != nil {
			b.t.Error(err)
			return
		}
		if i == 0 {
			err = json.NewDecoder(part).Decode(&o)
		} else {
			o.data, err = io.ReadAll(part)
		}
		if err != nil {
			b.t.Error(err)
		}
	}
	switch {
	case o.CRC32C != checksum(o.data):
		refuse(w, http.StatusBadRequest, "invalid", fmt.Sprintf("Provided CRC32C %q doesn't match calculated CRC32C %q.", o.CRC32C, checksum(o.data)))
	case r.URL.Query().Get("ifGenerationMatch") == "0" && b.objects[o.Name] != nil:
		refuse(w, http.StatusPreconditionFailed, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
	default:
		b.put(w, o.object)
	}
}

func (b *bucket) put(w http.ResponseWriter, o object) {
	o.Size, o.Updated, o.Generation = strconv.Itoa(len(o.data)), time.Now(), strconv.FormatInt(time.Now().UnixMicro(), 10)
	b.objects[o.Name] = &o
	_ = json.NewEncoder(w).Encode(o)
}

// chunk takes a part of a resumable upload, or its end.
func (b *bucket) chunk(w http.ResponseWriter, r *http.Request, s *session, body []byte) {
	if s == nil || s.gone {
		refuse(w, cmp.Or(b.gone, http.StatusGone), "gone", "The upload session is gone.")
		return
	}
	if r.Method == http.MethodDelete {
		s.gone = true
		w.WriteHeader(499)
		return
	}
	span, total, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Content-Range"), "bytes "), "/")
	if first, _, _ := strings.Cut(span, "-"); first != "*" {
		at, err := strconv.Atoi(first)
		if err != nil || at > len(s.data) {
			refuse(w, http.StatusServiceUnavailable, "backendError", "a chunk is missing before this one")
			return
		}
		if b.takes > 0 && len(body) > b.takes {
			body, b.takes, total = body[:b.takes], 0, "*"
		}
		if end := at + len(body); end > len(s.data) {
			s.data = append(s.data, body[len(s.data)-at:]...)
		}
	}
	if total == "*" {
		w.Header().Set("X-Http-Status-Code-Override", "308")
		if len(s.data) > 0 {
			w.Header().Set("Range", fmt.Sprintf("bytes=0-%d", len(s.data)-1))
		}
		return
	}
	if want := "crc32c=" + checksum(s.data); strconv.Itoa(len(s.data)) != total || r.Header.Get("X-Goog-Hash") != want {
		refuse(w, http.StatusBadRequest, "invalid", "Provided CRC32C doesn't match calculated CRC32C.")
		return
	}
	s.complete = true
	b.put(w, object{Name: s.name, data: s.data})
}

func checksum(data []byte) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.Checksum(data, castagnoli)))
}

// refuse answers as Cloud Storage does.
func refuse(w http.ResponseWriter, status int, reason, message string) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.Header().Set("X-Guploader-Uploadid", "ABg5")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{
		"code": status, "message": message, "errors": []map[string]string{{"message": message, "domain": "global", "reason": reason}},
	}})
}

// served returns a store whose bucket is answered for by handler.
func served(t *testing.T, handler http.Handler, observe func(operation, outcome string), wrap exchange) *Store {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return storeAt(t, server.URL, Location{Bucket: "bucket", Folder: "t"}, observe, wrap)
}

// storeAt returns a store without credential, whose requests pass through wrap.
func storeAt(t *testing.T, endpoint string, l Location, observe func(operation, outcome string), wrap exchange) *Store {
	t.Helper()
	client := remote.New(remote.Options{Explain: explain, Observe: observe})
	if wrap != nil {
		client.HTTP.Transport = wrapped{client.HTTP.Transport, wrap}
	}
	t.Cleanup(client.HTTP.CloseIdleConnections)
	s, err := connect(l, Config{Endpoint: endpoint}, env(), client)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// exchange is what a test does to a request or its answer.
type exchange func(*http.Request, http.RoundTripper) (*http.Response, error)

type wrapped struct {
	next http.RoundTripper
	do   exchange
}

func (w wrapped) RoundTrip(r *http.Request) (*http.Response, error) { return w.do(r, w.next) }

func (w wrapped) CloseIdleConnections() {
	w.next.(interface{ CloseIdleConnections() }).CloseIdleConnections()
}

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

// env is an environment of these names and values.
func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

// requests are those that a store has sent.
type requests struct {
	mu   sync.Mutex
	seen []string
}

func (r *requests) observe(operation, outcome string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, operation+" "+outcome)
}

func (r *requests) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.seen, ", ")
}

func (r *requests) reset() { r.seen = nil }

func read(t *testing.T, s contract.Store, name string) string {
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

func query(r *http.Request) url.Values { return r.URL.Query() }
