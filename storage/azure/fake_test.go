package azure

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"kafkadelta/storage"
	"kafkadelta/storage/remote"
	"kafkadelta/storage/storagetest"
)

// hierarchical answers as the blob endpoint of an account with hierarchical namespace does, which no emulator has: it follows
// Microsoft's documentation of List Blobs, Put Blob, Delete Blob and its error codes, and the listings in
// github.com/Azure/azure-sdk-for-go/issues/24210. Folders are blobs, come into being with their first file, stay behind, and
// are listed right before their content.
type hierarchical struct {
	t      *testing.T
	mu     sync.Mutex
	nodes  map[string]*node
	blocks map[string][]byte // of blob and block id
	lists  int               // requests
}

type node struct {
	folder   bool
	data     []byte
	metadata http.Header
	modified time.Time
}

// byComponents is the order of a hierarchical namespace: a folder's content comes right after it.
func byComponents(a, b string) int {
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}

func (h *hierarchical) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/account/container")
	name, q := strings.TrimPrefix(path, "/"), r.URL.Query()
	if name == "" {
		h.list(w, q)
		return
	}
	n := h.nodes[name]
	switch {
	case r.Method == http.MethodPut && q.Get("comp") == "block":
		h.blocks[name+"|"+q.Get("blockid")] = body
		w.WriteHeader(http.StatusCreated)
	case r.Method == http.MethodPut && q.Get("comp") == "blocklist":
		var list struct{ Latest []string }
		if err := xml.Unmarshal(body, &list); err != nil {
			h.t.Error(err)
		}
		var data []byte
		for _, id := range list.Latest {
			block, ok := h.blocks[name+"|"+id]
			if !ok {
				refuse(w, http.StatusBadRequest, "InvalidBlockList")
				return
			}
			data = append(data, block...)
		}
		h.put(w, r, name, data)
	case r.Method == http.MethodPut && n != nil && r.Header.Get("If-None-Match") == "*":
		refuse(w, http.StatusConflict, "BlobAlreadyExists")
	case r.Method == http.MethodPut:
		h.put(w, r, name, body)
	case n == nil:
		refuse(w, http.StatusNotFound, "BlobNotFound")
	case r.Method == http.MethodDelete && n.folder && h.inside(name):
		refuse(w, http.StatusConflict, "DirectoryIsNotEmpty")
	case r.Method == http.MethodDelete:
		delete(h.nodes, name)
		w.WriteHeader(http.StatusAccepted)
	default:
		maps.Copy(w.Header(), n.metadata)
		h.get(w, r, n)
	}
}

// get answers GET and HEAD.
func (h *hierarchical) get(w http.ResponseWriter, r *http.Request, n *node) {
	var from, to int
	header := cmp.Or(r.Header.Get("X-Ms-Range"), r.Header.Get("Range"))
	if header == "" {
		w.Header().Set("Content-Length", strconv.Itoa(len(n.data)))
		_, _ = w.Write(n.data)
		return
	}
	first, last, _ := strings.Cut(strings.TrimPrefix(header, "bytes="), "-")
	from, _ = strconv.Atoi(first)
	if to = len(n.data) - 1; last != "" {
		asked, _ := strconv.Atoi(last)
		to = min(to, asked)
	}
	if from >= len(n.data) {
		refuse(w, http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
		return
	}
	w.WriteHeader(http.StatusPartialContent)
	_, _ = w.Write(n.data[from : to+1])
}

func (h *hierarchical) put(w http.ResponseWriter, r *http.Request, name string, data []byte) {
	for i, c := range name {
		if c != '/' {
			continue
		}
		if above := h.nodes[name[:i]]; above != nil && !above.folder {
			refuse(w, http.StatusConflict, "ResourceTypeMismatch")
			return
		}
		h.nodes[name[:i]] = &node{folder: true, metadata: http.Header{"X-Ms-Meta-Hdi_isfolder": {"true"}}, modified: time.Now()}
	}
	n := &node{data: data, metadata: http.Header{}, modified: time.Now()}
	for key, v := range r.Header {
		if strings.HasPrefix(key, "X-Ms-Meta-") {
			n.metadata[key] = v
		}
	}
	h.nodes[name] = n
	w.WriteHeader(http.StatusCreated)
}

func (h *hierarchical) inside(folder string) bool {
	for name := range h.nodes {
		if strings.HasPrefix(name, folder+"/") {
			return true
		}
	}
	return false
}

func (h *hierarchical) list(w http.ResponseWriter, q url.Values) {
	h.lists++
	prefix := q.Get("prefix")
	for i, c := range prefix {
		if n := h.nodes[prefix[:i]]; c == '/' && n != nil && !n.folder {
			refuse(w, http.StatusConflict, "ResourceTypeMismatch")
			return
		}
	}
	size := 5000
	if n, err := strconv.Atoi(q.Get("maxresults")); err == nil {
		size = n
	}
	var page strings.Builder
	next, count := "", 0
	for _, name := range slices.SortedFunc(maps.Keys(h.nodes), byComponents) {
		n := h.nodes[name]
		if !strings.HasPrefix(name, prefix) || byComponents(name, q.Get("startFrom")) < 0 || byComponents(name, q.Get("marker")) < 0 {
			continue
		}
		if count == size {
			next = name
			break
		}
		count++
		kind, metadata := "file", ""
		if n.folder {
			kind, metadata = "directory", "<hdi_isfolder>true</hdi_isfolder>"
		}
		var escaped strings.Builder
		_ = xml.EscapeText(&escaped, []byte(name))
		fmt.Fprintf(&page, "<Blob><Name>%s</Name><Properties><Last-Modified>%s</Last-Modified><Etag>0x1</Etag><ResourceType>%s</ResourceType>"+
			"<Content-Length>%d</Content-Length><BlobType>BlockBlob</BlobType></Properties><Metadata>%s</Metadata></Blob>",
			&escaped, n.modified.UTC().Format(http.TimeFormat), kind, len(n.data), metadata)
	}
	w.Header().Set("Content-Type", "application/xml")
	_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="container"><Blobs>%s</Blobs><NextMarker>`, &page)
	_ = xml.EscapeText(w, []byte(next))
	_, _ = io.WriteString(w, "</NextMarker></EnumerationResults>")
}

// refuse answers as Azure Storage does, with the code in the body and in a header.
func refuse(w http.ResponseWriter, status int, code string, detail ...string) {
	w.Header().Set("X-Ms-Error-Code", code)
	w.Header().Set("X-Ms-Request-Id", "4e9a")
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>%s</Code><Message>It is refused.\nRequestId:4e9a\nTime:2026-11-23T00:00:00Z</Message>%s</Error>",
		code, strings.Join(detail, ""))
}

// served returns a store whose account is answered for by handler.
func served(t *testing.T, handler http.Handler, folder string, observe func(operation, outcome string)) *Store {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return storeAt(t, Location{Endpoint: server.URL + "/account", Account: "account", Container: "container", Folder: folder}, observe, nil)
}

// storeAt returns a store with a key, whose requests pass through wrap.
func storeAt(t *testing.T, l Location, observe func(operation, outcome string), wrap exchange) *Store {
	t.Helper()
	client := remote.New(remote.Options{Explain: explain, Observe: observe})
	if wrap != nil {
		client.HTTP.Transport = wrapped{client.HTTP.Transport, wrap}
	}
	t.Cleanup(client.HTTP.CloseIdleConnections)
	s, err := connect(l, Config{}, env("AZURE_STORAGE_KEY", AzuriteKey), client)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// exchange is what a test does to a request or its answer.
type exchange func(*http.Request, http.RoundTripper) (*http.Response, error)

// wrapped lets a test do something to a request or its answer.
type wrapped struct {
	next http.RoundTripper
	do   exchange
}

func (w wrapped) RoundTrip(r *http.Request) (*http.Response, error) { return w.do(r, w.next) }

func (w wrapped) CloseIdleConnections() {
	w.next.(interface{ CloseIdleConnections() }).CloseIdleConnections()
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

func newHierarchical(t *testing.T) *hierarchical {
	return &hierarchical{t: t, nodes: map[string]*node{}, blocks: map[string][]byte{}}
}

// TestHierarchicalNamespace runs the whole suite: folders are no objects, and the order is that of full names.
func TestHierarchicalNamespace(t *testing.T) {
	storagetest.Run(t, storagetest.Config{
		New: func(t *testing.T) storage.Store {
			s := served(t, newHierarchical(t), "tables/t", nil)
			page := int32(10)
			s.page = &page
			return s
		},
		Page:         10,
		StreamMemory: -1,
	})
}
