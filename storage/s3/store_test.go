package s3_test

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"testing"

	"kafkadelta/storage/s3"
)

// TestTheSDKDoesNotRetry counts: what fails for good is sent once, what may be mended five times, and each is observed.
func TestTheSDKDoesNotRetry(t *testing.T) {
	for operation, call := range calls {
		for _, tc := range []struct {
			status   int
			code     string
			outcome  string
			requests int
		}{
			{403, "AccessDenied", "denied", 1},
			{400, "InvalidRequest", "invalid", 1},
			{500, "InternalError", "server_error", 5},
			{503, "SlowDown", "throttled", 5},
		} {
			t.Run(operation+" "+tc.code, func(t *testing.T) {
				t.Parallel()
				f := newFake(t, func(_ int, w http.ResponseWriter, _ *http.Request) { refuse(w, tc.status, tc.code) })
				if err := call(t.Context(), f.open(t, f.config())); err == nil {
					t.Error("no error")
				}
				f.want(t, slices.Repeat([]string{operation + " " + tc.outcome}, tc.requests)...)
			})
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	for _, tc := range []struct {
		operation, code string
		status          int
		is              error
		says            string
	}{
		{"put", "AccessDenied", 403, fs.ErrPermission, "s3:PutObject"},
		{"put_if_absent", "AccessDenied", 403, fs.ErrPermission, "s3:PutObject"},
		{"part", "AccessDenied", 403, fs.ErrPermission, "s3:PutObject"},
		{"get", "AccessDenied", 403, fs.ErrPermission, "s3:GetObject"},
		{"list", "AccessDenied", 403, fs.ErrPermission, "s3:ListBucket"},
		{"delete", "AccessDenied", 403, fs.ErrPermission, "s3:DeleteObject"},
		{"list", "NoSuchBucket", 404, fs.ErrPermission, "create the bucket"},
		{"get", "NoSuchBucket", 404, fs.ErrPermission, "create the bucket"},
		{"get", "NoSuchKey", 404, fs.ErrNotExist, "s3://bucket/t/x"},
		{"list", "XAdminUserNotFound", 404, fs.ErrPermission, "access key"}, // versitygw, of a key that it does not know
		{"get", "SomethingNew", 404, fs.ErrPermission, "endpoint of S3"},
		{"put", "InvalidRequest", 400, fs.ErrInvalid, "InvalidRequest"},
		{"put", "InvalidAccessKeyId", 403, fs.ErrPermission, "unknown to this endpoint"},
		{"put", "SignatureDoesNotMatch", 403, fs.ErrPermission, "secret access key"},
		{"put", "ExpiredToken", 400, fs.ErrPermission, "expired"},
		{"put", "RequestTimeTooSkewed", 403, fs.ErrPermission, "clock"},
		{"put", "KMS.NotFoundException", 400, fs.ErrPermission, "storage.s3.kms_key_id"},
		{"put", "AuthorizationHeaderMalformed", 400, fs.ErrPermission, "storage.s3.region"},
		{"put", "PermanentRedirect", 301, fs.ErrPermission, "storage.s3.region"},
		{"put_if_absent", "PreconditionFailed", 412, fs.ErrExist, "PreconditionFailed"},
	} {
		t.Run(tc.operation+" "+tc.code, func(t *testing.T) {
			f := newFake(t, func(_ int, w http.ResponseWriter, _ *http.Request) { refuse(w, tc.status, tc.code) })
			err := calls[tc.operation](t.Context(), f.open(t, f.config()))
			if !errors.Is(err, tc.is) {
				t.Errorf("got %v, want one that is %q", err, tc.is)
			}
			contains(t, err, tc.says, tc.operation)
			if len(f.requests) != 1 {
				t.Errorf("sent %d requests, want 1", len(f.requests))
			}
		})
	}
}

// TestDamagedOnItsWay: what S3 tells by a 400 is not the request's fault.
func TestDamagedOnItsWay(t *testing.T) {
	for _, code := range []string{"IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch", "RequestTimeout"} {
		f := newFake(t, func(n int, w http.ResponseWriter, _ *http.Request) {
			if n == 0 {
				refuse(w, 400, code)
			}
		})
		if err := calls["put"](t.Context(), f.open(t, f.config())); err != nil || len(f.requests) != 2 {
			t.Errorf("%s: %d requests, %v", code, len(f.requests), err)
		}
	}
}

// TestRefusalThatBreaksOff: an answer whose body is cut is asked for again, whatever its status.
func TestRefusalThatBreaksOff(t *testing.T) {
	for _, status := range []int{404, 403, 412, 400} {
		f := newFake(t, func(n int, w http.ResponseWriter, r *http.Request) {
			if n == 0 {
				w.Header().Set("Content-Length", "1000")
				w.WriteHeader(status)
				_, _ = w.Write([]byte("<?xml"))
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}
			refuse(w, 404, "NoSuchKey")
		})
		if err := calls["get"](t.Context(), f.open(t, f.config())); !errors.Is(err, fs.ErrNotExist) || len(f.requests) != 2 {
			t.Errorf("%d: %d requests, %v; want the second one's answer", status, len(f.requests), err)
		}
	}
}

// TestNotFoundOfSomethingElse: a 404 that is not S3's word on the object would make a log look empty.
func TestNotFoundOfSomethingElse(t *testing.T) {
	f := newFake(t, func(_ int, w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) })
	s := f.open(t, f.config())
	for _, call := range []string{"get", "list"} {
		if err := calls[call](t.Context(), s); !errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v", call, err)
		}
	}
}

// TestWrongRegionIsNamed: where the region is set, the bucket's own answer says which is right.
func TestWrongRegionIsNamed(t *testing.T) {
	f := newFake(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Amz-Bucket-Region", "eu-central-1")
		refuse(w, 301, "PermanentRedirect")
	})
	err := calls["list"](t.Context(), f.open(t, f.config()))
	contains(t, err, "the bucket is in eu-central-1", "storage.s3.region")
}

// lands keeps what is put, and loses the answers that lost names.
func lands(t *testing.T, status int, lost func(n int) bool) (*fake, map[string]http.Header) {
	objects := map[string]http.Header{}
	return newFake(t, func(n int, w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, exists := objects[r.URL.Path]
		switch {
		case r.Method == http.MethodHead && !exists:
			w.WriteHeader(404)
		case r.Method == http.MethodHead:
			w.Header().Set("X-Amz-Meta-Kafkadelta-Write", objects[r.URL.Path].Get("X-Amz-Meta-Kafkadelta-Write"))
		case exists && r.Header.Get("If-None-Match") == "*":
			refuse(w, 412, "PreconditionFailed")
		default:
			objects[r.URL.Path] = r.Header.Clone()
			if lost(n) && status == 0 {
				panic(http.ErrAbortHandler)
			} else if lost(n) {
				refuse(w, status, "InternalError")
			}
		}
	}), objects
}

// TestOwnPutIsRecognised: the put lands and its answer is lost; the second try sees "exists", and one HEAD tells whose.
func TestOwnPutIsRecognised(t *testing.T) {
	for name, status := range map[string]int{"the answer is lost": 0, "the server calls it failed": 500} {
		t.Run(name, func(t *testing.T) {
			f, _ := lands(t, status, func(n int) bool { return n == 0 })
			if err := f.open(t, f.config()).PutIfAbsent(t.Context(), "x", []byte("data")); err != nil {
				t.Errorf("got %v, want success", err)
			}
			first := map[int]string{0: "put_if_absent no_answer", 500: "put_if_absent server_error"}[status]
			f.want(t, first, "put_if_absent exists", "head ok")
		})
	}
}

// TestForeignPutIsNot: between a lost answer of a put that did not land and its second try, another writer wins.
func TestForeignPutIsNot(t *testing.T) {
	f := newFake(t, func(n int, w http.ResponseWriter, r *http.Request) {
		switch {
		case n == 0:
			panic(http.ErrAbortHandler)
		case r.Method == http.MethodHead:
			w.Header().Set("X-Amz-Meta-Kafkadelta-Write", "another's")
		default:
			refuse(w, 412, "PreconditionFailed")
		}
	})
	if err := f.open(t, f.config()).PutIfAbsent(t.Context(), "x", []byte("data")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want fs.ErrExist", err)
	}
	f.want(t, "put_if_absent no_answer", "put_if_absent exists", "head ok")
}

// TestConflictIsTriedAgain: S3 answers 409 when two conditional puts meet, and means that neither won.
func TestConflictIsTriedAgain(t *testing.T) {
	f := newFake(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n < 2 {
			refuse(w, 409, "ConditionalRequestConflict")
		}
	})
	if err := f.open(t, f.config()).PutIfAbsent(t.Context(), "x", []byte("data")); err != nil {
		t.Errorf("got %v, want success", err)
	}
	if len(f.requests) != 3 {
		t.Errorf("sent %d requests, want 3", len(f.requests))
	}
}

func TestRequestsAreAsConfigured(t *testing.T) {
	virtual := false
	for name, tc := range map[string]struct {
		change  func(*s3.Config)
		headers map[string]string
	}{
		"the bucket's own encryption": {func(*s3.Config) {}, map[string]string{"X-Amz-Server-Side-Encryption": ""}},
		"SSE-S3":                      {func(c *s3.Config) { c.Encryption = s3.EncryptionS3 }, map[string]string{"X-Amz-Server-Side-Encryption": "AES256"}},
		"SSE-KMS": {func(c *s3.Config) { c.Encryption = s3.EncryptionKMS }, map[string]string{
			"X-Amz-Server-Side-Encryption": "aws:kms", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": ""}},
		"SSE-KMS with a key": {func(c *s3.Config) { c.Encryption, c.KMSKeyID = s3.EncryptionKMS, "key-1" }, map[string]string{
			"X-Amz-Server-Side-Encryption": "aws:kms", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "key-1"}},
		"no checksums that compatible stores don't know": {func(*s3.Config) {}, map[string]string{"X-Amz-Checksum-Crc32": "", "X-Amz-Sdk-Checksum-Algorithm": "", "X-Amz-Trailer": ""}},
		"bucket in the host": {func(c *s3.Config) {
			c.PathStyle = &virtual
			c.Endpoint = strings.Replace(c.Endpoint, "127.0.0.1", "localhost", 1)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			uploads := 0
			f := newFake(t, func(_ int, w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if r.URL.Query().Has("uploads") {
					uploads++
					_, _ = io.WriteString(w, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
				}
			})
			cfg := f.config()
			tc.change(&cfg)
			s := f.open(t, cfg)
			for _, operation := range []string{"put", "put_if_absent", "part"} {
				if err := calls[operation](t.Context(), s); err != nil && name != "bucket in the host" {
					t.Fatal(err)
				}
			}
			if cfg.PathStyle != nil { // bucket.localhost need not resolve: the name of the host is in the error, if not
				if err := calls["put"](t.Context(), s); err != nil {
					contains(t, err, "bucket.localhost")
				} else if f.requests[0] != "PUT /t/x" {
					t.Errorf("sent %q", f.requests[0])
				}
				return
			}
			if uploads != 1 {
				t.Errorf("began %d uploads, want 1", uploads)
			}
			for i, request := range f.requests {
				if strings.HasPrefix(request, "DELETE") || request != "POST /bucket/t/x" && i >= 3 { // abort and parts
					continue
				}
				for header, want := range tc.headers {
					if got := f.headers[i].Get(header); got != want {
						t.Errorf("%s: header %s is %q, want %q", request, header, got, want)
					}
				}
			}
		})
	}
}
