package gcs

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"kafkadelta/internal/storetest"
	"kafkadelta/storage/remote"
)

// TestChunksThatAreSent: however many streams there are, no more chunks are sent at a time than there is memory for. The last one of each is what the stream holds.
func TestChunksThatAreSent(t *testing.T) {
	const part, sent = 256 << 10, 3
	handler := &storetest.AtOnce{Handler: newBucket(t), Match: func(r *http.Request) bool { return strings.HasSuffix(r.Header.Get("Content-Range"), "/*") }}
	server := httptest.NewServer(handler)
	defer server.Close()
	client := remote.New(remote.Options{Explain: explain, Parts: remote.Parts{Size: part, Sent: sent*part + 1}})
	defer client.HTTP.CloseIdleConnections()
	s, err := connect(Location{Bucket: "bucket", Folder: "t"}, Config{Endpoint: server.URL}, env(), client)
	if err != nil {
		t.Fatal(err)
	}
	storetest.Streams(t, s.Create, 6, 5, part)
	if most := handler.Most.Load(); most != sent {
		t.Errorf("%d chunks were sent at a time, want %d", most, sent)
	}
}
