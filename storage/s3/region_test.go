package s3

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestRegionIsLearnt: without a region the bucket's own answer tells it, at the cost of one request.
func TestRegionIsLearnt(t *testing.T) {
	var regions []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		region := strings.Split(r.Header.Get("Authorization"), "/")[2]
		regions = append(regions, region)
		if region != "eu-central-1" {
			w.Header().Set("X-Amz-Bucket-Region", "eu-central-1")
			w.WriteHeader(http.StatusMovedPermanently)
		}
	}))
	defer server.Close()
	cfg := Config{Endpoint: server.URL, AccessKeyID: "k", SecretAccessKeyEnv: "S"}
	s, err := New(t.Context(), Location{"s3", "bucket", "t"}, cfg, Options{Getenv: func(string) string { return "secret" }})
	if err != nil {
		t.Fatal(err)
	}
	s.ask = true // as with Amazon's endpoint, to which no test can go
	for range 2 {
		if err := s.Put(t.Context(), "x", []byte("data")); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(regions, " "); got != "us-east-1 eu-central-1 eu-central-1" {
		t.Errorf("asked %s", got)
	}
}

func TestEndpointsOfAmazon(t *testing.T) {
	for endpoint, want := range map[string]bool{
		"https://s3.eu-west-1.amazonaws.com":                         true,
		"https://bucket.vpce-1a2b3c.s3.us-east-1.vpce.amazonaws.com": true,
		"https://s3.cn-north-1.amazonaws.com.cn":                     true,
		"https://s3.us-east-1.api.aws":                               true,
		"http://localhost:9000":                                      false,
		"https://amazonaws.com.example.org":                          false,
	} {
		if isAWS(&endpoint) != want {
			t.Errorf("%s: got %v", endpoint, !want)
		}
	}
	if !isAWS(nil) {
		t.Error("no endpoint: is not Amazon's")
	}
}
