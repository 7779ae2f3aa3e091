package gcs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"testing"

	"kafkadelta/storage/remote"
)

// TestAnswers has the answers of Cloud Storage in the form that Google documents (cloud.google.com/storage/docs/json_api/v1/
// status-codes), which fake-gcs-server gives only some of.
func TestAnswers(t *testing.T) {
	const create = "loader@p.iam.gserviceaccount.com does not have storage.objects.create access to the Google Cloud Storage object. Permission 'storage.objects.create' denied on resource (or it may not exist)."
	cases := []struct {
		name, reason, message string
		status                int
		is, not               error
		want                  string
	}{
		{"lost race", "conditionNotMet", "At least one of the pre-conditions you specified did not hold.", 412, fs.ErrExist, nil, ""},
		{"organization", "orgPolicyConstraintFailed", "Constraint constraints/gcp.restrictNonCmekServices violated.", 412, fs.ErrPermission, fs.ErrExist, "organization's policy"},
		{"bucket", "notFound", "The specified bucket does not exist.", 404, nil, fs.ErrNotExist, "create the bucket"},
		{"bucket, without words", "notFound", "Not Found", 404, nil, fs.ErrNotExist, "create the bucket"},
		{"permission", "forbidden", create, 403, fs.ErrPermission, nil, "lacks the permission storage.objects.create: grant it the role \"Storage Object User\""},
		{"other permission", "forbidden", "Request is prohibited by organization's policy.", 403, fs.ErrPermission, nil, "VPC Service Controls"},
		{"anonymous", "required", "Anonymous caller does not have storage.objects.create access", 401, fs.ErrPermission, nil, "no credential was sent"},
		{"expired token", "authError", "Invalid Credentials", 401, fs.ErrPermission, nil, "has expired"},
		{"billing", "accountDisabled", "The billing account for the owning project is disabled in state absent", 403, fs.ErrPermission, nil, "no billing account"},
		{"billing, by words", "forbidden", "The project to be billed is associated with an absent billing account.", 403, fs.ErrPermission, nil, "no billing account"},
		{"requester pays", "required", "Bucket is a requester pays bucket but no user project provided.", 400, fs.ErrPermission, nil, "storage.gcs.user_project"},
		{"payer's permission", "forbidden", "Caller does not have serviceusage.services.use access to the project.", 403, fs.ErrPermission, nil, "serviceusage.services.use"},
		{"scopes", "insufficientPermissions", "Insufficient Permission", 403, fs.ErrPermission, nil, "access scopes"},
		{"retention", "retentionPolicyNotMet", "Object 'bucket/t/x' is subject to bucket's retention policy", 403, fs.ErrPermission, nil, "retention policy"},
		{"interface is off", "accessNotConfigured", "Cloud Storage JSON API has not been used in project 1", 403, fs.ErrPermission, nil, "gcloud services enable"},
		{"wrong request", "invalid", "Invalid bucket name: 'b'", 400, nil, fs.ErrPermission, ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			seen := &requests{}
			s := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				refuse(w, tc.status, tc.reason, tc.message)
			}), seen.observe, nil)
			err := s.PutIfAbsent(t.Context(), "x", nil)
			if err == nil || tc.is != nil && !errors.Is(err, tc.is) || tc.not != nil && errors.Is(err, tc.not) {
				t.Errorf("%v: want one that is %v and not %v", err, tc.is, tc.not)
			}
			for _, want := range slices.Concat([]string{tc.want}, []string{"put_if_absent", "gs://bucket/t/x", tc.reason, tc.message, "request id ABg5"}) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "\n") || len(seen.seen) != 1 {
				t.Errorf("%v is of several lines, or came after %d requests", err, len(seen.seen))
			}
		})
	}
}

// TestTemporaryAnswers are tried again.
func TestTemporaryAnswers(t *testing.T) {
	for _, tc := range []struct {
		status          int
		reason, message string
	}{
		{429, "rateLimitExceeded", "The object bucket/t/x exceeded the rate limit for object mutation operations (create, update, and delete)."},
		{403, "rateLimitExceeded", "Rate Limit Exceeded"},
		{409, "conflict", "Another change was made at the same time."},
		{503, "backendError", "Backend Error"},
		{500, "internalError", "Internal Error"},
		{408, "uploadBrokenConnection", "The upload was interrupted."},
		{400, "invalid", "Provided CRC32C \"AAAAAA==\" doesn't match calculated CRC32C \"AAAAAQ==\"."},
	} {
		b, refused := newBucket(t), false
		s := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !refused {
				refused = true
				_, _ = io.Copy(io.Discard, r.Body)
				refuse(w, tc.status, tc.reason, tc.message)
				return
			}
			b.ServeHTTP(w, r)
		}), nil, nil)
		if err := s.PutIfAbsent(t.Context(), "x", []byte("1")); err != nil || string(b.objects["t/x"].data) != "1" {
			t.Errorf("%d %s: %v", tc.status, tc.reason, err)
		}
	}
}

// TestMissingBucket is no empty table and no missing object.
func TestMissingBucket(t *testing.T) {
	s := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		refuse(w, http.StatusNotFound, "notFound", "The specified bucket does not exist.")
	}), nil, nil)
	_, get := s.Get(t.Context(), "x", 0, -1)
	_, head := s.Get(t.Context(), "x", 0, 0)
	for name, err := range map[string]error{
		"list": listErr(t.Context(), s), "get": get, "head": head, "put": s.Put(t.Context(), "x", nil), "delete": s.Delete(t.Context(), "x"),
		"stream": stream(t.Context(), s, pattern(chunk+1)),
	} {
		if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "create the bucket") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAnswersWithoutBody: proxies give what they like.
func TestAnswersWithoutBody(t *testing.T) {
	s := served(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }), nil, nil)
	for _, length := range []int64{0, -1} {
		if _, err := s.Get(t.Context(), "x", 0, length); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("got %v", err)
		}
	}
}

// TestUserProject pays for each request.
func TestUserProject(t *testing.T) {
	b := newBucket(t)
	s := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if query(r).Get("userProject") != "payer" && !query(r).Has("upload_id") {
			t.Errorf("%s %s names no payer", r.Method, r.URL)
		}
		b.ServeHTTP(w, r)
	}), nil, nil)
	s.api.payer = "payer"
	if err := errors.Join(s.PutIfAbsent(t.Context(), "x", nil), stream(t.Context(), s, pattern(chunk+1))); err != nil {
		t.Fatal(err)
	}
	read(t, s, "x")
	if _, err := s.Get(t.Context(), "x", 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
}

func TestFailuresOnTheWay(t *testing.T) {
	s := storeAt(t, "https://gcs.invalid", Location{Bucket: "bucket"}, nil, nil)
	s.api.http.Transport.(*transport).tokens = nil
	if err := s.Put(t.Context(), "x", nil); err == nil || !strings.Contains(err.Error(), "storage.gcs.endpoint right") {
		t.Errorf("no such host: %v", err)
	}
	if f := explain(context.DeadlineExceeded); f.Outcome != remote.NoAnswer {
		t.Errorf("a request that took too long is %v", f.Outcome)
	}
}
