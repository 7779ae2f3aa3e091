package gcs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
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
}

// newTokens returns the tokens of a kind of credential, nil for none. What stands in a file or a variable is read here, so
// that a mistake in it ends the start. The rest of the default chain is walked through at the first request, since the
// metadata server may have to be asked.
func newTokens(c Config, kind string, getenv func(string) string, client *http.Client) (*tokens, error) {
	t := &tokens{limit: tokenTime, busy: make(chan struct{}, 1)}
	options := credentials.DetectOptions{Scopes: []string{scope}, Client: client}
	t.find = func() (*auth.Credentials, error) { return credentials.DetectDefault(&options) }
	var err error
	from := "storage.gcs.secret_env or secret_file"
	switch kind {
	case CredentialAnonymous:
		return nil, nil //nolint:nilnil // no tokens are no error
	case CredentialJSON:
		options.CredentialsJSON, err = c.secret(getenv)
	default:
		file := getenv("GOOGLE_APPLICATION_CREDENTIALS")
		if file == "" {
			return t, nil
		}
		from = "GOOGLE_APPLICATION_CREDENTIALS"
		if options.CredentialsJSON, err = os.ReadFile(file); err != nil {
			if e, ok := errors.AsType[*fs.PathError](err); ok {
				err = e.Err // without the path: people put the JSON itself there
			}
			err = fmt.Errorf("reading the file that %s names, which must be a path: %w", from, err)
		}
	}
	if err != nil {
		return nil, err
	}
	if len(options.CredentialsJSON) == 0 {
		return nil, fmt.Errorf("the credential in %s is empty", from)
	}
	if t.found, err = t.find(); err != nil {
		return nil, fmt.Errorf("the credential in %s is not one of Google's: want the JSON of a service account's key, of `gcloud iam workload-identity-pools create-cred-config`, or of `gcloud auth application-default login`: %w", from, err)
	}
	return t, nil
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
		return &credentialError{err, ctx.Err() != nil}
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
	header.Set("Authorization", "Bearer "+token.Value)
	if project, err := t.found.QuotaProjectID(ctx); err == nil && project != "" {
		header.Set("X-Goog-User-Project", project)
	}
	return nil
}

// credentialError is that no token could be had.
type credentialError struct {
	error
	late bool // nobody has answered within the limit
}

// Unwrap returns the SDK's own error.
func (e *credentialError) Unwrap() error { return e.error }
