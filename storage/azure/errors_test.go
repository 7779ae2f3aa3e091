package azure

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

// TestAnswers has the answers of Azure Storage in the form that Microsoft documents (learn.microsoft.com/rest/api/
// storageservices/status-and-error-codes2), which Azurite gives only some of.
func TestAnswers(t *testing.T) {
	const skew = "<AuthenticationErrorDetail>Request date header too old: 'Mon, 23 Nov 2026 03:00:00 GMT'</AuthenticationErrorDetail>"
	const expired = "<AuthenticationErrorDetail>Signature not valid in the specified time frame: Start [x] - Expiry [y] - Current [z]</AuthenticationErrorDetail>"
	const key = "<AuthenticationErrorDetail>The MAC signature found in the HTTP request 'abc' is not the same as any computed signature.</AuthenticationErrorDetail>"
	const issuer = "<AuthenticationErrorDetail>Issuer validation failed. Issuer did not match.</AuthenticationErrorDetail>"
	const version = "<HeaderName>x-ms-version</HeaderName><HeaderValue>2026-12-06</HeaderValue>"
	cases := []struct {
		status       int
		code, detail string
		is, not      error
		want         []string
	}{
		{404, "BlobNotFound", "", fs.ErrNotExist, nil, nil},
		{404, "ContainerNotFound", "", fs.ErrInvalid, fs.ErrNotExist, []string{"create the container"}},
		{404, "SomethingNew", "", fs.ErrInvalid, fs.ErrNotExist, []string{"storage.azure.endpoint"}},
		{409, "ContainerBeingDeleted", "", nil, fs.ErrExist, []string{"wait until it is gone"}},
		{409, "BlobAlreadyExists", "", fs.ErrExist, nil, nil},
		{412, "ConditionNotMet", "", fs.ErrExist, nil, nil},
		{409, "SomethingNew", "", nil, fs.ErrExist, nil},
		{412, "LeaseIdMissing", "", fs.ErrPermission, fs.ErrExist, []string{"lease"}},
		{409, "BlobImmutableDueToPolicy", "", fs.ErrPermission, fs.ErrExist, []string{"immutability policy"}},
		{409, "PublicAccessNotPermitted", "", fs.ErrPermission, fs.ErrExist, nil},
		{403, "AuthorizationPermissionMismatch", "", fs.ErrPermission, nil, []string{"Storage Blob Data Contributor"}},
		{403, "AuthorizationFailure", "", fs.ErrPermission, nil, []string{"firewall"}},
		{403, "KeyBasedAuthenticationNotPermitted", "", fs.ErrPermission, nil, []string{"storage.azure.credential"}},
		{403, "AuthenticationFailed", skew, fs.ErrPermission, nil, []string{"clock is off", "date header too old"}},
		{403, "AuthenticationFailed", expired, fs.ErrPermission, nil, []string{"SAS has expired", "Expiry [y]"}},
		{403, "AuthenticationFailed", key, fs.ErrPermission, nil, []string{"account key is wrong"}},
		{401, "AuthenticationFailed", issuer, fs.ErrPermission, nil, []string{"storage.azure.tenant_id"}},
		{401, "InvalidAuthenticationInfo", "", fs.ErrPermission, nil, []string{"authority_host"}},
		{400, "InvalidHeaderValue", version, nil, fs.ErrPermission, []string{"x-ms-version", "--skipApiVersionCheck"}},
	}
	for _, tc := range cases {
		t.Run(tc.code, func(t *testing.T) {
			seen := &requests{}
			s := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				refuse(w, tc.status, tc.code, tc.detail)
			}), "t", seen.observe)
			err := s.PutIfAbsent(t.Context(), "x", nil)
			if err == nil || tc.is != nil && !errors.Is(err, tc.is) || tc.not != nil && errors.Is(err, tc.not) {
				t.Errorf("%v: want one that is %v and not %v", err, tc.is, tc.not)
			}
			for _, want := range slices.Concat(tc.want, []string{"put_if_absent", "/account/container/t/x", tc.code, "It is refused.", "request id 4e9a"}) {
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

// TestAnswersWithoutBody: an answer to HEAD has none, and proxies give what they like.
func TestAnswersWithoutBody(t *testing.T) {
	s := served(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }), "", nil)
	if _, err := s.Get(t.Context(), "x", 0, 0); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Get(t.Context(), "x", 0, -1); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v", err)
	}
}

// TestNotFoundOfSomethingElse: a 404 that is not the service's word on the object would make a log look empty.
func TestNotFoundOfSomethingElse(t *testing.T) {
	s := served(t, http.NotFoundHandler(), "", nil)
	if _, err := s.Get(t.Context(), "x", 0, -1); !errors.Is(err, fs.ErrInvalid) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	for _, err := range s.List(t.Context(), "", "") {
		if !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("got %v", err)
		}
	}
}

func TestFailuresOnTheWay(t *testing.T) {
	s, err := New(Location{Account: "acc", Container: "c", Domain: "blob.invalid"}, Config{}, Options{Getenv: env("AZURE_STORAGE_KEY", secret)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "x", nil); err == nil || !strings.Contains(err.Error(), "account's name right") {
		t.Errorf("no such account: %v", err)
	}
	if f := explain(context.DeadlineExceeded); f.Outcome != remote.NoAnswer {
		t.Errorf("a request that took too long is %v", f.Outcome)
	}
}
