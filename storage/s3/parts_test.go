package s3_test

import (
	"net/http"
	"testing"

	"kafkadelta/internal/storetest"
	"kafkadelta/storage/remote"
	"kafkadelta/storage/s3"
)

// TestPartsThatAreSent: however many streams there are, no more parts are sent at a time than there is memory for. Parts have 5 MiB, however little there is.
func TestPartsThatAreSent(t *testing.T) {
	const part, sent = 5 << 20, 3
	handler := &storetest.AtOnce{
		Handler: uploads(t, func(string, int, http.ResponseWriter) bool { return false }).Config.Handler,
		Match:   func(r *http.Request) bool { return r.URL.Query().Has("partNumber") && r.ContentLength > part/2 }, // the last one is what the stream holds
	}
	f := newFake(t, func(_ int, w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) })
	s, err := s3.New(t.Context(), s3.Location{Scheme: "s3", Bucket: "bucket", Prefix: "t"}, f.config(), s3.Options{
		Getenv: func(string) string { return secretValue }, Parts: remote.Parts{Size: 1 << 20, Sent: sent*part + 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	storetest.Streams(t, s.Create, 4, 3, part)
	if most := handler.Most.Load(); most != sent {
		t.Errorf("%d parts were sent at a time, want %d", most, sent)
	}
}
