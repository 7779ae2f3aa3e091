package azure

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"kafkadelta/internal/storetest"
	"kafkadelta/storage/remote"
)

// TestBlocksThatAreSent: however many streams there are, no more blocks are sent at a time than there is memory for.
func TestBlocksThatAreSent(t *testing.T) {
	const part, sent = 256 << 10, 3
	handler := &storetest.AtOnce{Handler: newHierarchical(t), Match: func(r *http.Request) bool { return r.URL.Query().Get("comp") == "block" }}
	server := httptest.NewServer(handler)
	defer server.Close()
	client := remote.New(remote.Options{Explain: explain, Parts: remote.Parts{Size: part, Sent: sent*part + 1}})
	defer client.HTTP.CloseIdleConnections()
	s, err := connect(Location{Endpoint: server.URL + "/account", Account: "account", Container: "container"}, Config{}, env("AZURE_STORAGE_KEY", AzuriteKey), client)
	if err != nil {
		t.Fatal(err)
	}
	storetest.Streams(t, s.Create, 4, 5, part)
	if most := handler.Most.Load(); most != sent {
		t.Errorf("%d blocks were sent at a time, want %d", most, sent)
	}
}
