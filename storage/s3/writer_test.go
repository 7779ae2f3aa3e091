package s3_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"kafkadelta/internal/storetest"
	"kafkadelta/storage/s3"

	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
)

// uploads answers a multipart upload as S3 does, but for the step that fails.
func uploads(t *testing.T, fail func(step string, n int, w http.ResponseWriter) (answered bool)) *fake {
	var mu sync.Mutex
	completed := map[string]string{} // by object
	steps := map[string]int{}
	return newFake(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		mu.Lock()
		defer mu.Unlock()
		query := r.URL.Query()
		step := "put"
		switch {
		case r.Method == http.MethodHead:
			step = "head"
		case query.Has("uploads"):
			step = "begin"
		case r.Method == http.MethodPost:
			step = "complete"
		case r.Method == http.MethodDelete:
			step = "abort"
		case query.Has("partNumber"):
			step = "part"
		}
		steps[step]++
		id := r.Header.Get("X-Amz-Meta-Kafkadelta-Write")
		switch step {
		case "begin":
			completed[r.URL.Path] = "pending " + id
		case "complete":
			if strings.HasPrefix(completed[r.URL.Path], "done ") {
				refuse(w, 404, "NoSuchUpload")
				return
			}
			completed[r.URL.Path] = "done " + strings.TrimPrefix(completed[r.URL.Path], "pending ")
		case "head":
			w.Header().Set("X-Amz-Meta-Kafkadelta-Write", strings.TrimPrefix(completed[r.URL.Path], "done "))
		}
		if fail(step, steps[step], w) {
			return
		}
		switch step {
		case "begin":
			_, _ = io.WriteString(w, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
		case "part":
			w.Header().Set("ETag", fmt.Sprintf("%q", query.Get("partNumber")))
		case "complete":
			_, _ = io.WriteString(w, "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>")
		case "abort":
			w.WriteHeader(204)
		}
	})
}

// TestFailedUploadIsAborted: wherever an upload fails, its parts are given back.
func TestFailedUploadIsAborted(t *testing.T) {
	for _, at := range []string{"begin", "part", "complete"} {
		t.Run(at, func(t *testing.T) {
			f := uploads(t, func(step string, _ int, w http.ResponseWriter) bool {
				if step == at {
					refuse(w, 400, "InvalidRequest")
				}
				return step == at
			})
			w, err := f.open(t, f.config()).Create(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			_, err = w.Write(make([]byte, 30<<20))
			if closeErr := w.Close(); err == nil {
				err = closeErr
			}
			if err == nil {
				t.Error("no error")
			}
			if aborted := slices.Contains(f.observed, "abort ok"); aborted != (at != "begin") {
				t.Errorf("aborted: %v; observed %q", aborted, f.observed)
			}
			if slices.Contains(f.observed, "put ok") {
				t.Errorf("observed %q: a part of the object was put", f.observed)
			}
		})
	}
}

// TestLostCompleteIsRecognised: the upload is completed, the answer lost; the second try sees that the upload is gone.
func TestLostCompleteIsRecognised(t *testing.T) {
	f := uploads(t, func(step string, n int, _ http.ResponseWriter) bool {
		if step == "complete" && n == 1 {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	w, err := f.open(t, f.config()).Create(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 9<<20)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if last := f.observed[len(f.observed)-1]; last != "head ok" {
		t.Errorf("observed %q, want a look at the object at the end", f.observed)
	}
}

// TestErrorInTheBodyOfSuccess: S3 answers 200 to the completion of an upload before it knows how it ends.
func TestErrorInTheBodyOfSuccess(t *testing.T) {
	f := uploads(t, func(step string, n int, w http.ResponseWriter) bool {
		if step == "complete" && n == 1 {
			_, _ = io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>InternalError</Code><Message>m</Message></Error>`)
			return true
		}
		return false
	})
	w, err := f.open(t, f.config()).Create(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 9<<20)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if n := len(f.observed) - 3; n < 0 || !slices.Equal(f.observed[n:], []string{"complete ok", "complete not_found", "head ok"}) {
		t.Errorf("observed %q, want the completion tried again", f.observed)
	}
}

// TestAbortLeavesNoParts looks at a real server for what is left of an upload.
func TestAbortLeavesNoParts(t *testing.T) {
	b := storetest.Versitygw(t)
	s := openIn(t, b, s3.Location{Scheme: "s3", Bucket: b.Bucket, Prefix: "t"}, settings(b), nil)
	w, err := s.Create(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 20<<20)); err != nil {
		t.Fatal(err)
	}
	left := func() int {
		out, err := b.Client().ListMultipartUploads(t.Context(), &sdk.ListMultipartUploadsInput{Bucket: &b.Bucket})
		if err != nil {
			t.Fatal(err)
		}
		return len(out.Uploads)
	}
	if n := left(); n != 1 {
		t.Errorf("%d uploads while writing, want 1", n)
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	if n := left(); n != 0 {
		t.Errorf("%d uploads after Abort, want 0", n)
	}
}
