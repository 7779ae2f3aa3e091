package gcs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/credentials"

	"kafkadelta/storage/remote"
)

// tokenTime bounds how long a credential may look for a token: a metadata server that is not there takes for ever.
const tokenTime = 25 * time.Second

// scope is all that a table needs: objects, but neither their access lists nor buckets.
const scope = "https://www.googleapis.com/auth/devstorage.read_write"

// tokens gives the token of each request. The SDK keeps it until shortly before it expires.
type tokens struct {
	find  func() (*auth.Credentials, error)
	limit time.Duration
	busy  chan struct{} // whoever has put into it looks for credentials or a token; the others wait with their own context
	found *auth.Credentials

	worked atomic.Bool // there was a token
}

// newTokens returns the tokens of a kind of credential, nil for none. What stands in a file or a variable is read here, so
// that a mistake in it ends the start. The rest of the default chain is walked through at the first request, since the
// metadata server may have to be asked.
func newTokens(c Config, kind string, getenv func(string) string, client *http.Client) (*tokens, error) {
	options := &credentials.DetectOptions{Scopes: []string{scope}, Client: client}
	t := &tokens{limit: tokenTime, busy: make(chan struct{}, 1)}
	t.find = func() (*auth.Credentials, error) { return credentials.DetectDefault(options) }
	file := getenv("GOOGLE_APPLICATION_CREDENTIALS")
	var text []byte
	var err error
	from := "storage.gcs.secret_env or secret_file"
	switch {
	case kind == CredentialAnonymous:
		return nil, nil //nolint:nilnil // no tokens are no error
	case kind == CredentialJSON:
		text, err = c.secret(getenv)
	case file == "":
		return t, nil
	default:
		from = "the file that GOOGLE_APPLICATION_CREDENTIALS names"
		if text, err = os.ReadFile(file); err != nil {
			err = fmt.Errorf("reading %s, which must be a path: %w", from, pathless(err))
		}
	}
	if err != nil {
		return nil, err
	}
	t.found, err = parse(text, options)
	if err != nil {
		return nil, fmt.Errorf("the credential in %s %w", from, err)
	}
	return t, nil
}

// known are the kinds of a credential's JSON.
var known = []credentials.CredType{
	credentials.ServiceAccount, credentials.ExternalAccount, credentials.ImpersonatedServiceAccount, credentials.AuthorizedUser,
	credentials.ExternalAccountAuthorizedUser,
}

// parse makes a credential of its JSON. Its errors quote nothing of it but its kind.
func parse(text []byte, options *credentials.DetectOptions) (*auth.Credentials, error) {
	var file struct {
		Type credentials.CredType `json:"type"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, errors.New("is no JSON: it has to be the whole file of a service account's key, of `gcloud iam workload-identity-pools create-cred-config`, or of `gcloud auth application-default login`")
	}
	if !slices.Contains(known, file.Type) {
		return nil, fmt.Errorf("is of the type %q: want one of %q", file.Type, known)
	}
	found, err := credentials.NewCredentialsFromJSON(file.Type, text, options)
	if err != nil {
		return nil, fmt.Errorf("is damaged: %w", err)
	}
	return found, nil
}

// pathless is the error of a file without its path, since people put the secret itself where a path should be.
func pathless(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// authorize puts the token into a request's header, and the project whose quota counts where the credential names one.
func (t *tokens) authorize(req *http.Request) error {
	ctx, cancel := context.WithTimeout(remote.ForCredentials(req.Context()), t.limit)
	defer cancel()
	err := t.set(ctx, req.Header)
	switch {
	case err == nil:
		return nil
	case req.Context().Err() != nil:
		return req.Context().Err()
	default:
		return &credentialError{err, ctx.Err() != nil, t.worked.Load()}
	}
}

func (t *tokens) set(ctx context.Context, header http.Header) error {
	select {
	case t.busy <- struct{}{}:
		defer func() { <-t.busy }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if t.found == nil {
		found, err := t.find()
		if err != nil {
			return err
		}
		t.found = found
	}
	token, err := t.found.Token(ctx)
	if err != nil {
		return err
	}
	t.worked.Store(true)
	header.Set("Authorization", "Bearer "+token.Value)
	if project, err := t.found.QuotaProjectID(ctx); err == nil && project != "" {
		header.Set("X-Goog-User-Project", project)
	}
	return nil
}

// credentialError is that no token could be had.
type credentialError struct {
	error
	late   bool // nobody has answered within the limit
	worked bool // there was one before
}

// Unwrap returns the SDK's own error.
func (e *credentialError) Unwrap() error { return e.error }
