package gcs

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/compute/metadata"

	"kafkadelta/storage/remote"
)

// answerError is a refusal of the service in one line.
type answerError struct {
	code            int // of HTTP
	reason, message string
	request         string // its id, by which Google's support finds it
	bucket          bool   // it is about the bucket: there was no object that could be missing
}

// Error says status, reason, message and the request's id.
func (e *answerError) Error() string {
	text := fmt.Sprint(e.code)
	if e.reason != "" {
		text += " " + e.reason
	}
	if e.message != "" {
		text += ", " + strings.Join(strings.Fields(e.message), " ")
	}
	if e.request != "" {
		text += " (request id " + e.request + ")"
	}
	return text
}

// refusal reads an answer that is none of what was asked for. Proxies give what they like.
func refusal(response *http.Response) error {
	var answer struct {
		Error struct {
			Message string                    `json:"message"`
			Errors  []struct{ Reason string } `json:"errors"`
		} `json:"error"`
	}
	text, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	_ = json.Unmarshal(text, &answer)
	e := &answerError{code: response.StatusCode, message: answer.Error.Message, request: response.Header.Get("X-Guploader-Uploadid")}
	if len(answer.Error.Errors) > 0 {
		e.reason = answer.Error.Errors[0].Reason
	}
	return e
}

// short takes secrets out of an error of a request: the URL of an upload's session is one.
func short(err error) error {
	if e, ok := errors.AsType[*credentialError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		address, _, _ := strings.Cut(e.URL, "?")
		return &url.Error{Op: e.Op, URL: address, Err: e.Err}
	}
	return err
}

// ofBucket marks an answer to a request that can miss nothing but the bucket.
func ofBucket(err error) error {
	if e, ok := errors.AsType[*answerError](err); ok {
		e.bucket = true
	}
	return err
}

// explain says what an error means, for storage/remote.
func explain(err error) remote.Failure {
	if e, ok := errors.AsType[*credentialError](err); ok {
		return explainCredential(e)
	}
	if e, ok := errors.AsType[*answerError](err); ok {
		return explainAnswer(e)
	}
	var dns *net.DNSError
	var tls *x509.UnknownAuthorityError
	switch {
	case errors.As(err, &tls):
		return remote.Failure{Outcome: remote.Invalid, Hint: "the server's certificate is not trusted here: is storage.gcs.endpoint right, or is the system's CA bundle missing a CA?"}
	case errors.As(err, &dns) && dns.IsNotFound:
		return remote.Failure{Outcome: remote.NoAnswer, Hint: "there is no such host: is storage.gcs.endpoint right, and does the machine have DNS?"}
	default:
		return remote.Failure{Outcome: remote.NoAnswer}
	}
}

// reasons are those of the service that mean another thing than their status says, or that have a remedy
// (cloud.google.com/storage/docs/json_api/v1/status-codes).
var reasons = map[string]remote.Failure{
	"rateLimitExceeded":         {Outcome: remote.Throttled},
	"userRateLimitExceeded":     {Outcome: remote.Throttled},
	"conflict":                  {Outcome: remote.Throttled}, // with another change at the same time: this one was not made
	"orgPolicyConstraintFailed": {Outcome: remote.Denied, Hint: "a constraint of the organization's policy forbids it: ask who administers the organization"},
	"retentionPolicyNotMet":     {Outcome: remote.Denied, Hint: "a retention policy or hold covers the object: a Delta table needs to replace _last_checkpoint and delete old files"},
	"objectUnderActiveHold":     {Outcome: remote.Denied, Hint: "a hold covers the object: a Delta table needs to replace _last_checkpoint and delete old files"},
	"accountDisabled":           {Outcome: remote.Denied, Hint: "the bucket's project has no billing account, or a disabled one: look at its billing"},
	"userProjectAccountProblem": {Outcome: remote.Denied, Hint: "the project that pays (storage.gcs.user_project) has no billing account, or a disabled one"},
	"userProjectMissing":        {Outcome: remote.Denied, Hint: requesterPays},
	"userProjectInconsistent":   {Outcome: remote.Denied, Hint: requesterPays},
	"userProjectInvalid":        {Outcome: remote.Denied, Hint: "storage.gcs.user_project names no project"},
	"accessNotConfigured":       {Outcome: remote.Denied, Hint: "the Cloud Storage API is off in the project: gcloud services enable storage.googleapis.com"},
	"insufficientPermissions":   {Outcome: remote.Denied, Hint: "the machine's or the login's access scopes leave out Cloud Storage: it needs devstorage.read_write or cloud-platform"},
	"authError":                 {Outcome: remote.Denied, Hint: "the token is wrong or has expired, or this machine's clock is off"},
}

const requesterPays = "the bucket makes its users pay: set storage.gcs.user_project to the project that pays, where the identity needs serviceusage.services.use"

var permission = regexp.MustCompile(`\b(storage|serviceusage)\.[a-zA-Z]+\.[a-zA-Z]+\b`)

func explainAnswer(e *answerError) remote.Failure {
	f, known := reasons[e.reason]
	if !known {
		f.Outcome = remote.OutcomeOf(e.code)
	}
	f.Code = e.reason
	has := func(text string) bool { return strings.Contains(e.message, text) }
	switch {
	case e.code == http.StatusNotFound && (e.bucket || has("bucket does not exist")):
		f.Outcome, f.Hint = remote.Invalid, "create the bucket, or correct its name in the URI"
	case e.code == http.StatusConflict:
		f.Outcome = remote.Throttled // Exists is 412 here
	case e.code == http.StatusGone:
		f.Outcome, f.Once, f.Hint = remote.Broken, true, "the service has dropped the upload, which has to begin anew"
	case has("requester pays"):
		f.Outcome, f.Hint = remote.Denied, requesterPays
	case has("doesn't match calculated"): // CRC32C or MD5
		f.Outcome = remote.Broken
	case f.Outcome == remote.Denied && has("billing"):
		f.Hint = reasons["accountDisabled"].Hint
	case f.Outcome == remote.Denied && has("Anonymous caller"):
		f.Hint = "no credential was sent: leave out `storage.gcs.credential: anonymous` and STORAGE_EMULATOR_HOST, and give one (docs/storage.md lists them)"
	case f.Outcome == remote.Denied && f.Hint == "" && permission.MatchString(e.message):
		f.Hint = fmt.Sprintf("the identity lacks the permission %s: grant it the role \"Storage Object User\" (roles/storage.objectUser) on the bucket", permission.FindString(e.message))
	case f.Outcome == remote.Denied && f.Hint == "":
		f.Hint = "the identity needs the role \"Storage Object User\" (roles/storage.objectUser) on the bucket; VPC Service Controls may refuse it, too"
	}
	return f
}

// tokenRemedies are for the refusals of Google's token services that people meet.
var tokenRemedies = []struct{ text, hint string }{
	{"could not find default credentials", "there are none here: set GOOGLE_APPLICATION_CREDENTIALS to a file, log in by `gcloud auth application-default login`, or run where a service account is attached"},
	{"Invalid JWT Signature", "the service account's key was deleted or is another's: make a new one"},
	{"Invalid JWT", "this machine's clock is off: set it"},
	{"account not found", "the service account is gone, or disabled"},
	{"invalid_rapt", "log in again: gcloud auth application-default login"},
	{"Token has been expired or revoked", "log in again: gcloud auth application-default login"},
	{"invalid_grant", "the key, login or subject token is wrong, expired or revoked: make a new one, and check this machine's clock"},
	{"invalid_target", "the pool or provider of the workload identity federation is wrong, disabled or gone: compare the credential's audience"},
	{"unauthorized_client", "the client of the login is not allowed to have tokens: log in again"},
	{"getAccessToken", "the identity may not impersonate the service account: grant it roles/iam.serviceAccountTokenCreator there"},
	{"parse", "the credential's JSON is damaged: copy the whole file"},
}

const tokenHint = "no token could be had: docs/storage.md lists the credentials"

// explainCredential: a token service that is busy is asked again, and so is one that does not answer any more; what it refuses is
// final. One that has never answered is final, too, so that a start shows within seconds what is wrong.
func explainCredential(e *credentialError) remote.Failure {
	f := remote.Failure{Outcome: remote.Denied, Hint: tokenHint}
	status := 0
	if refused, ok := errors.AsType[*auth.Error](e.error); ok && refused.Response != nil {
		status = refused.Response.StatusCode
	}
	if refused, ok := errors.AsType[*metadata.Error](e.error); ok {
		status = refused.Code
	}
	if o := remote.OutcomeOf(status); o == remote.Throttled || o == remote.Broken {
		f.Outcome = o
	}
	text := e.Error()
	for _, r := range tokenRemedies {
		if strings.Contains(text, r.text) {
			f.Hint = r.hint
			return f
		}
	}
	var unanswered net.Error
	if e.late || errors.As(e.error, &unanswered) {
		f = remote.Failure{Outcome: remote.Invalid, Hint: "the token or metadata server does not answer: is this machine where the credential works, and is the way to it open?"}
		if e.worked {
			f.Outcome = remote.NoAnswer
		}
	}
	return f
}

// Error says what was tried in one line.
func (e *credentialError) Error() string {
	return "getting a token: " + strings.Join(strings.Fields(e.error.Error()), " ")
}
