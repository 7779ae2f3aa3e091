package azure

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"kafkadelta/storage/remote"
)

// answerError is an answer of the service in one line; the SDK's own text has the whole body over a dozen lines.
type answerError struct {
	*azcore.ResponseError
	detail string
}

// Error says status, code, reason and the request's id, by which Microsoft's support finds it.
func (e *answerError) Error() string {
	text := fmt.Sprintf("%d %s", e.StatusCode, e.ErrorCode)
	if e.detail != "" {
		text += ", " + e.detail
	}
	if e.RawResponse != nil {
		if id := e.RawResponse.Header.Get("X-Ms-Request-Id"); id != "" {
			text += " (request id " + id + ")"
		}
	}
	return text
}

// Unwrap returns the SDK's error.
func (e *answerError) Unwrap() error { return e.ResponseError }

// short replaces the SDK's texts of many lines.
func short(err error) error {
	if _, ok := errors.AsType[*credentialError](err); ok {
		return err
	}
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return &answerError{e, detail(e.RawResponse)}
	}
	return err
}

// detail is why the service refuses. The signature of a wrong request, which may be in it, gives no access.
func detail(r *http.Response) string {
	if r == nil {
		return ""
	}
	body, err := runtime.Payload(r)
	var answer struct {
		Message, AuthenticationErrorDetail, HeaderName, HeaderValue string
	}
	if err != nil || xml.Unmarshal(body, &answer) != nil {
		return ""
	}
	text, _, _ := strings.Cut(answer.Message, "\n") // then come the request's id and the time
	for _, more := range []string{answer.AuthenticationErrorDetail, answer.HeaderName} {
		if more != "" {
			text += " " + more
		}
	}
	return strings.Join(strings.Fields(text), " ")
}

// explain says what an error means, for storage/remote.
func explain(err error) remote.Failure {
	if e, ok := errors.AsType[*credentialError](err); ok {
		return explainCredential(e)
	}
	if e, ok := errors.AsType[*answerError](err); ok {
		return explainAnswer(e)
	}
	var final interface {
		error
		NonRetriable()
	}
	var dns *net.DNSError
	var tls *x509.UnknownAuthorityError
	switch {
	case errors.As(err, &final):
		return remote.Failure{Outcome: remote.Invalid}
	case errors.As(err, &tls):
		return remote.Failure{Outcome: remote.Invalid, Hint: "the server's certificate is not trusted here: is storage.azure.endpoint right, or is the system's CA bundle missing a CA?"}
	case errors.As(err, &dns) && dns.IsNotFound:
		return remote.Failure{Outcome: remote.NoAnswer, Hint: "there is no such host: is the storage account's name right? A private endpoint also needs its DNS zone"}
	default:
		return remote.Failure{Outcome: remote.NoAnswer}
	}
}

// answers are codes of the service that mean another thing than their status says, or that have a remedy
// (learn.microsoft.com/rest/api/storageservices/blob-service-error-codes).
var answers = map[string]struct {
	outcome remote.Outcome // Done: as the status says
	hint    string
}{
	"BlobNotFound":                    {},
	"ContainerNotFound":               {remote.Invalid, "create the container, or correct its name in the URI"},
	"ContainerBeingDeleted":           {remote.Invalid, "the container is being deleted: wait until it is gone, then create it anew"},
	"ContainerDisabled":               {remote.Denied, "an administrator has disabled the container"},
	"AccountIsDisabled":               {remote.Denied, "the storage account is disabled: look at its subscription"},
	"FilesystemNotFound":              {remote.Invalid, "create the container, or correct its name in the URI"},
	"PathNotFound":                    {remote.NotFound, ""},
	"ResourceNotFound":                {remote.NotFound, ""},
	"ResourceTypeMismatch":            {remote.Invalid, "a part of the path is a file, not a folder"},
	"DirectoryIsNotEmpty":             {remote.Invalid, "the name is a folder's"},
	"BlobImmutableDueToPolicy":        {remote.Denied, "an immutability policy or legal hold covers the container: a Delta table needs to replace _last_checkpoint and delete old files"},
	"LeaseIdMissing":                  {remote.Denied, "somebody holds a lease on the object or the container: break it"},
	"InvalidBlobType":                 {remote.Invalid, "an append or page blob of this name is there: delete it"},
	"InvalidBlockList":                {remote.Invalid, "another writer of the same name has discarded the staged blocks"},
	"SnapshotsPresent":                {remote.Invalid, "the object has snapshots: delete them first"},
	"AuthorizationPermissionMismatch": {remote.Denied, "the identity lacks a role for data: grant it \"Storage Blob Data Contributor\" on the container or the account (Owner and Contributor are not enough), or the SAS lacks a permission: it needs r, w, d, l; a new role may take minutes to count"},
	"AuthorizationFailure":            {remote.Denied, "the account's firewall or network rules refuse this address, or the key or SAS is wrong or lacks the permission"},
	"AuthorizationSourceIPMismatch":   {remote.Denied, "the SAS does not allow this address"},
	"AuthorizationProtocolMismatch":   {remote.Denied, "the SAS allows https only"},
	"AuthorizationServiceMismatch":    {remote.Denied, "the SAS is for another service: it needs ss=b"},
	"AuthorizationResourceTypeMismatch": {remote.Denied,
		"the SAS is for other resources: an account SAS needs srt=co, a service SAS sr=c"},
	"InsufficientAccountPermissions":     {remote.Denied, "the account key may only read, or the account is locked"},
	"KeyBasedAuthenticationNotPermitted": {remote.Denied, "the account forbids account keys and the SAS tokens made with them: use an identity of Entra (storage.azure.credential)"},
	"NoAuthenticationInformation":        {remote.Denied, "the request had no credential that the account takes"},
	"PublicAccessNotPermitted":           {remote.Denied, "the request had no credential that the account takes"},
	"InvalidAuthenticationInfo":          {remote.Denied, "the token is not for this account: is the tenant right, and the cloud (storage.azure.authority_host)?"},
	"InvalidHeaderValue":                 {remote.Invalid, "if the header is x-ms-version, the service is older than this client: start Azurite with --skipApiVersionCheck"},
	"InvalidRange":                       {remote.Invalid, ""},
	"UnauthorizedBlobOverwrite":          {remote.Denied, "the SAS allows to create but not to write: it needs r, w, d, l"},
	"Md5Mismatch":                        {remote.Broken, ""},
	"Crc64Mismatch":                      {remote.Broken, ""},
}

func explainAnswer(e *answerError) remote.Failure {
	f := remote.Failure{Outcome: remote.OutcomeOf(e.StatusCode), Code: e.ErrorCode}
	a, known := answers[e.ErrorCode]
	if known && a.outcome != remote.Done {
		f.Outcome = a.outcome
	}
	f.Hint = a.hint
	switch {
	case e.StatusCode == http.StatusConflict && !known && e.ErrorCode != "BlobAlreadyExists":
		f.Outcome = remote.Invalid // what 409 means on Azure is in its code
	case e.StatusCode == http.StatusNotFound && !known:
		f.Outcome, f.Hint = remote.Invalid, "the answer is not about the object: is this a blob endpoint (storage.azure.endpoint)?"
	}
	if e.ErrorCode == "AuthenticationFailed" {
		f.Hint = authenticationHint(e.detail)
	}
	return f
}

// authenticationHint reads the service's reason, which stands in the answer to a wrong key, SAS, token or clock.
func authenticationHint(detail string) string {
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(detail, p) {
				return true
			}
		}
		return false
	}
	switch {
	case has("date header"):
		return "this machine's clock is off by more than 15 minutes: set it"
	case has("time frame", "expiry time", "Signed expiry"):
		return "the SAS has expired or is not valid yet: make a new one, and check this machine's clock"
	case has("MAC signature"):
		return "the account key is wrong: was it rotated, or is it another account's?"
	case has("Signature did not match", "Signature fields"):
		return "the SAS is wrong: copy the whole token; was the key that signed it rotated?"
	case has("Issuer", "Audience", "tenant"):
		return "the token is of another tenant or cloud than the account: storage.azure.tenant_id, storage.azure.authority_host"
	default:
		return "the account key, SAS or token is wrong or has expired, or this machine's clock is off"
	}
}

// tokenRemedies are for the refusals of Entra that people meet
// (learn.microsoft.com/entra/identity-platform/reference-error-codes).
var tokenRemedies = []struct{ code, hint string }{
	{"AADSTS7000215", "the client's secret is wrong: it is the secret's value, not its id"},
	{"AADSTS7000222", "the client's secret has expired: make a new one"},
	{"AADSTS700016", "no application has this client id in the tenant"},
	{"AADSTS90002", "there is no such tenant"},
	{"AADSTS900023", "there is no such tenant"},
	{"AADSTS700027", "the certificate is not one of the application's, or has expired"},
	{"AADSTS700213", "the application has no federated credential for this service account: compare issuer, subject and audience"},
	{"AADSTS70021", "the application has no federated credential for this service account: compare issuer, subject and audience"},
	{"AADSTS700024", "the token of the service account has expired, or this machine's clock is off"},
	{"AADSTS50173", "log in again: az login"},
	{"AADSTS700082", "log in again: az login"},
	{"Identity not found", "no such managed identity is assigned to this machine: storage.azure.client_id names a user-assigned one"},
}

const tokenHint = "no token could be had: storage.azure.credential names the credential to use, docs/storage.md lists them"

// explainCredential: an identity service that is busy is asked again, and so is one that does not answer any more; what it refuses
// is final. One that has never answered is final, too, so that a start shows within seconds what is wrong.
func explainCredential(e *credentialError) remote.Failure {
	f := remote.Failure{Outcome: remote.Denied, Hint: tokenHint}
	text := e.Error()
	for _, r := range tokenRemedies {
		if strings.Contains(text, r.code) {
			f.Hint = r.hint
			return f
		}
	}
	failed, ok := errors.AsType[*azidentity.AuthenticationFailedError](e.error)
	switch {
	case ok && failed.RawResponse != nil:
		if o := remote.OutcomeOf(failed.RawResponse.StatusCode); o == remote.Throttled || o == remote.Broken {
			f.Outcome = o
		}
	case ok, errors.Is(e.error, context.DeadlineExceeded): // the SDK tells a lost answer as a failed authentication
		f = remote.Failure{Outcome: remote.Invalid, Hint: "the identity service does not answer: is this machine where the credential works (a managed identity works on Azure only), and is the way to it open?"}
		if e.worked {
			f.Outcome = remote.NoAnswer
		}
	}
	return f
}

// Error says what was tried in one line.
func (e *credentialError) Error() string {
	if failed, ok := errors.AsType[*azidentity.AuthenticationFailedError](e.error); ok && failed.RawResponse != nil {
		if body, err := runtime.Payload(failed.RawResponse); err == nil {
			var answer struct {
				Error       string `json:"error"`
				Description string `json:"error_description"`
			}
			if json.Unmarshal(body, &answer) == nil && answer.Description != "" {
				first, _, _ := strings.Cut(answer.Description, "\n")
				return fmt.Sprintf("getting a token: %d %s, %s", failed.RawResponse.StatusCode, answer.Error, strings.TrimSpace(first))
			}
		}
	}
	return "getting a token: " + strings.Join(strings.Fields(strings.ReplaceAll(e.error.Error(), "-----", "")), " ")
}
