package s3_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"kafkadelta/storage/s3"
)

// fake is an endpoint of S3 (or STS) that answers by a script.
type fake struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string // "PUT /bucket/t/x"
	headers  []http.Header
	observed []string // "put ok"
}

// newFake answers the n-th request (from 0) with answer. Panicking with http.ErrAbortHandler loses the answer.
func newFake(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) *fake {
	t.Helper()
	f := &fake{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		n := len(f.requests)
		f.requests = append(f.requests, r.Method+" "+r.URL.Path)
		f.headers = append(f.headers, r.Header.Clone())
		f.mu.Unlock()
		answer(n, w, r)
	}))
	t.Cleanup(f.Server.Close)
	return f
}

func (f *fake) config() s3.Config {
	return s3.Config{Endpoint: f.URL, Region: "us-east-1", AccessKeyID: "AKID", SecretAccessKeyEnv: secretVariable}
}

// open returns a store at the endpoint for table s3://bucket/t.
func (f *fake) open(t *testing.T, cfg s3.Config) *s3.Store {
	t.Helper()
	s, err := s3.New(t.Context(), s3.Location{Scheme: "s3", Bucket: "bucket", Prefix: "t"}, cfg, s3.Options{
		Getenv: func(string) string { return secretValue },
		Observe: func(operation, outcome string) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.observed = append(f.observed, operation+" "+outcome)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const secretValue = "hunter2-hunter2"

func (f *fake) want(t *testing.T, observed ...string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.observed, observed) {
		t.Errorf("observed %q, want %q", f.observed, observed)
	}
}

// refuse answers as S3 does.
func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>because of %s</Message></Error>`, code, code)
}

// calls are one call of each method.
var calls = map[string]func(context.Context, *s3.Store) error{
	"list": func(ctx context.Context, s *s3.Store) error {
		for _, err := range s.List(ctx, "", "") {
			return err
		}
		return nil
	},
	"get":           func(ctx context.Context, s *s3.Store) error { _, err := s.Get(ctx, "x", 0, -1); return err },
	"put":           func(ctx context.Context, s *s3.Store) error { return s.Put(ctx, "x", []byte("data")) },
	"put_if_absent": func(ctx context.Context, s *s3.Store) error { return s.PutIfAbsent(ctx, "x", []byte("data")) },
	"delete":        func(ctx context.Context, s *s3.Store) error { return s.Delete(ctx, "x") },
	"part": func(ctx context.Context, s *s3.Store) error {
		w, err := s.Create(ctx, "x")
		if err != nil {
			return err
		}
		_, err = w.Write(make([]byte, 9<<20))
		if abortErr := w.Abort(); abortErr != nil {
			return abortErr
		}
		return err
	},
}

func contains(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v does not say %q", err, part)
		}
	}
	if err != nil && strings.Contains(err.Error(), secretValue) {
		t.Errorf("error %v tells the secret", err)
	}
}
