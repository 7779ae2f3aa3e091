package open_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"kafkadelta/storage/open"
	"kafkadelta/storage/s3"
)

// TestStoresOfOneBucketShareAClient: the stores of many tables have one set of connections and load the credentials once, and each is in its folder.
func TestStoresOfOneBucketShareAClient(t *testing.T) {
	var connections, loads atomic.Int64
	prefixes := make(chan string, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		prefixes <- r.URL.Query().Get("prefix")
		_, _ = fmt.Fprint(w, `<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>`)
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	const tables = 200
	list := func(clients *open.Clients) (int64, int64) {
		connections.Store(0)
		loads.Store(0)
		o := open.Options{
			Config: open.Config{S3: s3.Config{Endpoint: server.URL, Region: "x", AccessKeyID: "key", SecretAccessKeyEnv: "SECRET"}}, Clients: clients,
			Getenv: func(name string) string {
				if name == "SECRET" {
					loads.Add(1)
				}
				return "secret"
			},
		}
		for i := range tables {
			s, err := open.Open(t.Context(), fmt.Sprintf("s3://bucket/t/%d", i), o)
			if err != nil {
				t.Fatal(err)
			}
			for _, err := range s.List(t.Context(), "_delta_log/", "") {
				t.Fatal(err)
			}
			if got, want := <-prefixes, fmt.Sprintf("t/%d/_delta_log/", i); got != want {
				t.Fatalf("table %d lists %s, want %s", i, got, want)
			}
		}
		return connections.Load(), loads.Load()
	}
	if connections, loads := list(&open.Clients{}); connections > 2 || loads > 4 {
		t.Errorf("%d tables have made %d connections, and loaded the credentials %d times", tables, connections, loads)
	}
	if connections, loads := list(nil); connections < tables || loads < tables {
		t.Errorf("without a client in common it is %d and %d: the test counts nothing", connections, loads)
	}
}

// TestStoresBelowOthers: by a client in common, each cloud's store is where it is by one of its own.
func TestStoresBelowOthers(t *testing.T) {
	clients := &open.Clients{}
	env := map[string]string{
		"AZURE_STORAGE_ACCOUNT": "acc", "AZURE_STORAGE_KEY": "a2V5", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "STORAGE_EMULATOR_HOST": "localhost:1",
	}
	for _, uri := range []string{"az://c/x/1", "az://c/x/2", "az://d/x/1", "az://c", "gs://bucket/x/1", "gs://bucket/2", "gs://bucket", "s3://bucket/x", "s3a://bucket/y", "s3://bucket"} {
		place := func(c *open.Clients) string {
			s, err := open.Open(t.Context(), uri, open.Options{Getenv: func(name string) string { return env[name] }, Clients: c})
			if err != nil {
				t.Fatal(err)
			}
			switch s := s.(type) {
			case interface{ URL() string }:
				return s.URL()
			case *s3.Store:
				return s.Location().String()
			}
			t.Fatalf("%s is opened as %T", uri, s)
			return ""
		}
		if got, want := place(clients), place(nil); got != want || !strings.Contains(got, "/") {
			t.Errorf("%s is opened as %s, and by itself as %s", uri, got, want)
		}
	}
}
