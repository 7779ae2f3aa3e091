package storetest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

// FakeGCSImage is the image of fake-gcs-server. FAKE_GCS_IMAGE names another one.
const FakeGCSImage = "fsouza/fake-gcs-server:latest"

// GCS is a bucket of a test's own.
type GCS struct {
	Endpoint string // http://host:port
	Bucket   string
}

var gcsHost sync.Once

// FakeGCS returns a new bucket of the fake-gcs-server that the tests of this process share.
func FakeGCS(t testing.TB) GCS {
	t.Helper()
	address := start(t, imageOf("FAKE_GCS_IMAGE", FakeGCSImage),
		testcontainers.WithExposedPorts("4443/tcp"),
		testcontainers.WithCmd("-scheme", "http", "-backend", "memory", "-log-level", "error"),
		testcontainers.WithWaitStrategy(wait.ForHTTP("/_internal/healthcheck").WithPort("4443/tcp").
			WithPollInterval(100*time.Millisecond).WithStartupTimeout(time.Minute)),
	)
	g := GCS{Endpoint: "http://" + address, Bucket: unique("bucket")}
	gcsHost.Do(func() { // it tells the XML interface, which delta-rs speaks, from other paths by the host
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		g.send(t, http.MethodPut, "/_internal/config", fmt.Sprintf(`{"publicHost":%q}`, host))
	})
	g.send(t, http.MethodPost, "/storage/v1/b?project=test", fmt.Sprintf(`{"name":%q}`, g.Bucket))
	return g
}

// send makes one request of our own, so that this package needs no SDK.
func (g GCS) send(t testing.TB, method, path, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, g.Endpoint+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	response, err := client.Do(req)
	if err != nil {
		t.Fatalf("preparing fake-gcs-server: %v", err)
	}
	defer response.Body.Close()
	if text, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK {
		t.Fatalf("preparing fake-gcs-server: %s %s: %s: %s", method, path, response.Status, text)
	}
}
