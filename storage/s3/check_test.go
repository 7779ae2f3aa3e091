package s3_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"kafkadelta/internal/storetest"
	"kafkadelta/storage/s3"
)

// emptyList answers a listing of nothing.
const emptyList = `<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>`

func TestStoreWithoutConditionalPuts(t *testing.T) {
	for name, tc := range map[string]struct {
		put  func(n int, w http.ResponseWriter)
		says string
	}{
		"refuses them":          {func(_ int, w http.ResponseWriter) { refuse(w, 501, "NotImplemented") }, "refuses conditional puts"},
		"refuses the header":    {func(_ int, w http.ResponseWriter) { refuse(w, 400, "InvalidArgument") }, "refuses conditional puts"},
		"ignores the condition": {func(int, http.ResponseWriter) {}, "ignores If-None-Match"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, func(n int, w http.ResponseWriter, r *http.Request) {
				switch r.Method {
				case http.MethodGet:
					_, _ = w.Write([]byte(emptyList))
				case http.MethodPut:
					tc.put(n, w)
				default:
					w.WriteHeader(204)
				}
			})
			err := f.open(t, f.config()).CheckWrites(t.Context())
			if !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("got %v, want errors.ErrUnsupported", err)
			}
			contains(t, err, tc.says, f.URL, "log_store: dynamodb")
			if last := f.requests[len(f.requests)-1]; !strings.HasPrefix(last, "DELETE /bucket/t/_delta_log/.probe-") {
				t.Errorf("the last request is %q, want the probe removed", last)
			}
		})
	}
}

// TestAStoreThatDoesNotAnswerIsNoAnswer: what is down may have conditional puts.
func TestAStoreThatDoesNotAnswerIsNoAnswer(t *testing.T) {
	f := newFake(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = w.Write([]byte(emptyList))
			return
		}
		refuse(w, 503, "SlowDown")
	})
	s := f.open(t, f.config())
	if err := s.CheckWrites(t.Context()); err == nil || errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want an error that says nothing of the store's abilities", err)
	}
}

// TestCheckCosts: one listing and the probe, once; nothing is left behind.
func TestCheckCosts(t *testing.T) {
	for name, start := range map[string]func(testing.TB) storetest.S3{"versitygw": storetest.Versitygw, "moto": storetest.Moto} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			var observed []string
			s := openIn(t, b, s3.Location{Scheme: "s3", Bucket: b.Bucket, Prefix: "t"}, settings(b), func(operation, outcome string) {
				observed = append(observed, operation+" "+outcome)
			})
			for range 2 {
				if err := s.CheckWrites(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if got := strings.Join(observed, ", "); got != "list ok, put_if_absent ok, put_if_absent exists, delete ok" {
				t.Errorf("observed %s", got)
			}
			for info, err := range s.List(t.Context(), "", "") {
				t.Errorf("left behind: %s, %v", info.Name, err)
			}
		})
	}
}

// TestTableOfTheLogStoreIsRefused: Spark would take a version that it lost for its own.
func TestTableOfTheLogStoreIsRefused(t *testing.T) {
	b := storetest.Versitygw(t)
	s := openIn(t, b, s3.Location{Scheme: "s3", Bucket: b.Bucket, Prefix: "t"}, settings(b), nil)
	if err := s.Put(t.Context(), "_delta_log/.tmp/00000000000000000000.json.b66a4a1c-5a52-4b5b-b3f0-5e7b5c3a2f11", nil); err != nil {
		t.Fatal(err)
	}
	err := s.CheckWrites(t.Context())
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want errors.ErrUnsupported", err)
	}
	contains(t, err, "log_store: dynamodb")
}
