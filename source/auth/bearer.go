package auth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// credentialLimit bounds one request for a credential.
const credentialLimit = 15 * time.Second

// newBearer is OAUTHBEARER (RFC 7628, KIP-255) with a token from wherever the settings say.
func newBearer(s SASLConfig, warn func(error)) (*mechanism, error) {
	var token func(ctx context.Context, host string) (string, error)
	var err error
	switch {
	case s.TokenFile != "":
		file := &kept[string]{read: func() (string, error) { return secretFile("token_file", s.TokenFile) }, warn: warn}
		_, err = file.get()
		token = func(context.Context, string) (string, error) { return file.get() }
	case s.TokenURL != "":
		e := &endpoint{cfg: s, secret: &kept[string]{read: s.password, warn: warn}, client: &http.Client{Timeout: credentialLimit}, now: time.Now}
		_, err = e.secret.get()
		token = e.token
	default:
		token, err = entraToken(s, nil)
	}
	return &mechanism{"OAUTHBEARER", func(ctx context.Context, host string) (sasl.Mechanism, error) {
		t, err := token(ctx, host)
		return bearer{oauth.Auth{Token: strings.TrimSpace(t), Extensions: s.Extensions}.AsMechanism()}, err
	}}, err
}

// bearer is the library's mechanism with a session that lets the broker say why it refuses a token.
type bearer struct{ sasl.Mechanism }

func (b bearer) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	_, first, err := b.Mechanism.Authenticate(ctx, host)
	return &bearerSession{}, first, err
}

type bearerSession struct{ refused string }

// Challenge answers a broker's word of refusal as RFC 7628, 3.2.3 asks, upon which the broker fails the authentication.
func (s *bearerSession) Challenge(said []byte) (bool, []byte, error) {
	switch {
	case s.refused != "":
		return false, nil, &Error{Err: fmt.Errorf("the broker refuses the token: %q", s.refused), Hint: "check source.sasl and what the broker expects of a token", Final: true}
	case len(said) > 0:
		s.refused = string(said)
		return false, []byte{1}, nil
	}
	return true, nil, nil
}

// endpoint gets tokens for client credentials, and gives each out for the first half of its life: the client authenticates
// again near the end of it.
type endpoint struct {
	cfg    SASLConfig
	secret *kept[string]
	client *http.Client
	now    func() time.Time

	mu     sync.Mutex
	last   string
	expire time.Time // when last is no longer given out
}

func (e *endpoint) token(ctx context.Context, _ string) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.now().Before(e.expire) {
		return e.last, nil
	}
	secret, err := e.secret.get()
	if err != nil {
		return "", err
	}
	c := clientcredentials.Config{ClientID: e.cfg.Username, ClientSecret: secret, TokenURL: e.cfg.TokenURL, Scopes: strings.Fields(e.cfg.Scope)}
	t, err := c.Token(context.WithValue(ctx, oauth2.HTTPClient, e.client))
	if err != nil {
		hint := "check source.sasl: token_url, username (the client id), the secret in password_env or password_file, scope"
		return "", credentialError(ctx, tokenError(err), hint, false)
	}
	now := e.now()
	e.last, e.expire = t.AccessToken, now.Add(t.Expiry.Sub(now)/2) // without an expiry: asked again each time
	return e.last, nil
}

// tokenError keeps what the endpoint says of the error, and not its whole answer.
func tokenError(err error) error {
	const op = "asking source.sasl.token_url for a token"
	if e, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		said := strings.TrimSpace(e.ErrorCode + " " + e.ErrorDescription)
		return &statusError{fmt.Errorf("%s: %s %s", op, e.Response.Status, said), e.Response.StatusCode}
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	return fmt.Errorf("%s: %w", op, err)
}

// statusError is an answer of an HTTP service.
type statusError struct {
	error
	status int
}

func (e *statusError) HTTPStatusCode() int { return e.status }

// entraToken gets tokens of Microsoft Entra by azidentity's default chain, which its environment variables direct. The
// library keeps a token until shortly before its end. Tests have options.
func entraToken(s SASLConfig, options *azidentity.DefaultAzureCredentialOptions) (func(ctx context.Context, host string) (string, error), error) {
	const hint = "check what azidentity's default chain finds: AZURE_TENANT_ID, AZURE_CLIENT_ID and so on, a workload or managed identity, or a login of the Azure CLI"
	chain, err := azidentity.NewDefaultAzureCredential(options)
	if err != nil {
		return nil, fmt.Errorf("source.sasl.token_azure: %w; %s", err, hint)
	}
	var had atomic.Bool
	return func(ctx context.Context, host string) (string, error) {
		scopes := strings.Fields(s.Scope)
		if len(scopes) == 0 {
			name, _, err := net.SplitHostPort(host)
			if err != nil {
				return "", err
			}
			scopes = []string{"https://" + name + "/.default"}
		}
		limited, cancel := context.WithTimeout(ctx, credentialLimit)
		defer cancel()
		t, err := chain.GetToken(limited, policy.TokenRequestOptions{Scopes: scopes})
		if err != nil {
			return "", credentialError(ctx, fmt.Errorf("getting a token of Microsoft Entra: %w", err), hint, !had.Load())
		}
		had.Store(true)
		return t.Token, nil
	}, nil
}
