package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

const broker = "example.servicebus.windows.net:9093"

// first is what a mechanism sends first.
func first(t *testing.T, m *mechanism, host string) (string, error) {
	t.Helper()
	begun := time.Now()
	_, b, err := m.Authenticate(t.Context(), host)
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	return string(b), err
}

// wantError looks for an *Error that is final or not, with a hint, and without the secret.
func wantError(t *testing.T, err error, final bool, text string) {
	t.Helper()
	e := Explain(errors.Join(err))
	if err == nil || e == nil || e.Final != final || e.Hint == "" || !strings.Contains(e.Error(), text) {
		t.Errorf("the error is %v (%+v), want one that is final: %v, with %q", err, e, final, text)
	}
	if err != nil && strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the secret is in %v", err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v looks like the end of the caller's context", err)
	}
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	rewrite(t, path, content)
	return path
}

func rewrite(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// service is a token endpoint.
type service struct {
	*httptest.Server
	mu     sync.Mutex
	answer func(w http.ResponseWriter, id, secret string, form url.Values)
	asked  int
}

func startService(t *testing.T) *service {
	t.Helper()
	s := &service{answer: func(w http.ResponseWriter, _, secret string, _ url.Values) {
		_, _ = fmt.Fprintf(w, `{"access_token":"token for %s","token_type":"Bearer","expires_in":3600}`, secret)
	}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked++
		id, secret, _ := r.BasicAuth()
		w.Header().Set("Content-Type", "application/json")
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		s.answer(w, id, secret, r.Form)
	}))
	t.Cleanup(func() { s.Close(); http.DefaultTransport.(*http.Transport).CloseIdleConnections() })
	return s
}

func (s *service) refuse(status int, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = func(w http.ResponseWriter, _, _ string, _ url.Values) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func newEndpoint(t *testing.T, s *service, password string) (*endpoint, *time.Time) {
	t.Helper()
	now := time.Now()
	c := SASLConfig{Mechanism: bearerToken, TokenURL: s.URL, Username: "client", PasswordFile: password, Scope: "read write"}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return &endpoint{
		cfg: c, client: &http.Client{Timeout: time.Second}, now: func() time.Time { return now },
		secret: &kept[string]{read: c.password, warn: func(err error) { t.Error(err) }},
	}, &now
}

// TestTokenEndpoint gives a token out for half of its life, and asks again with the secret of then.
func TestTokenEndpoint(t *testing.T) {
	s := startService(t)
	file := write(t, "one\n")
	e, now := newEndpoint(t, s, file)
	s.mu.Lock()
	answer := s.answer
	s.answer = func(w http.ResponseWriter, id, secret string, form url.Values) {
		if id != "client" || form.Get("grant_type") != "client_credentials" || form.Get("scope") != "read write" {
			t.Errorf("client %q asked for %v", id, form)
		}
		answer(w, id, secret, form)
	}
	s.mu.Unlock()
	for _, step := range []struct {
		later  time.Duration
		secret string
		want   string
		asked  int
	}{
		{0, "one", "token for one", 1}, {29 * time.Minute, "two", "token for one", 1}, {2 * time.Minute, "two", "token for two", 2},
	} {
		*now = now.Add(step.later)
		rewrite(t, file, step.secret)
		got, err := e.token(t.Context(), broker)
		if err != nil || got != step.want || s.asked != step.asked {
			t.Errorf("after %v more: %q, %v, asked %d times, want %q and %d", step.later, got, err, s.asked, step.want, step.asked)
		}
	}
}

func TestTokenEndpointRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		final  bool
		text   string
	}{
		"wrong secret":     {401, `{"error":"invalid_client","error_description":"no such secret"}`, true, "invalid_client no such secret"},
		"wrong scope":      {400, `{"error":"invalid_scope"}`, true, "400 Bad Request invalid_scope"},
		"wrong path":       {404, `<html>hunter2</html>`, true, "404 Not Found"},
		"too many":         {429, ``, false, "429"},
		"down":             {503, `hunter2`, false, "503"},
		"no token in it":   {200, `{}`, false, "asking source.sasl.token_url"},
		"no JSON at all":   {200, `hunter2`, false, "asking source.sasl.token_url"},
		"error with a 200": {200, `{"error":"invalid_client"}`, false, "invalid_client"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startService(t)
			s.refuse(c.status, c.body)
			e, _ := newEndpoint(t, s, write(t, "hunter2"))
			_, err := e.token(t.Context(), broker)
			wantError(t, err, c.final, c.text)
		})
	}
	s := startService(t)
	release := make(chan struct{})
	defer close(release)
	s.answer = func(http.ResponseWriter, string, string, url.Values) { <-release }
	e, _ := newEndpoint(t, s, write(t, "hunter2"))
	e.client.Timeout = 100 * time.Millisecond
	_, err := e.token(t.Context(), broker)
	wantError(t, err, false, "asking source.sasl.token_url")
	gone := startService(t)
	gone.Close()
	e, _ = newEndpoint(t, gone, write(t, "hunter2"))
	_, err = e.token(t.Context(), broker)
	wantError(t, err, false, "connection refused")
}

func TestTokenFile(t *testing.T) {
	file := write(t, "one\n")
	warned := 0
	m, err := newBearer(SASLConfig{TokenFile: file, Extensions: map[string]string{"logicalCluster": "lkc-1"}}, func(error) { warned++ })
	if err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]string{"two": "two", "three\r\n": "three"} {
		rewrite(t, file, content)
		got, err := first(t, m, broker)
		if err != nil || got != "n,,\x01auth=Bearer "+want+"\x01logicalCluster=lkc-1\x01\x01" {
			t.Errorf("%q, %v is sent", got, err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := first(t, m, broker); err != nil || warned != 1 {
		t.Errorf("with the file gone: %v, %d warnings", err, warned)
	}
	if _, err := newBearer(SASLConfig{TokenFile: file}, nil); err == nil || !strings.Contains(err.Error(), "source.sasl.token_file") || strings.Contains(err.Error(), file) {
		t.Errorf("a file that never was: %v", err)
	}
}

// TestBrokerRefusesAToken has the broker say why, and end it only then.
func TestBrokerRefusesAToken(t *testing.T) {
	s := &bearerSession{}
	if done, answer, err := s.Challenge([]byte(`{"status":"invalid_token"}`)); done || string(answer) != "\x01" || err != nil {
		t.Errorf("answered %v %q %v", done, answer, err)
	}
	_, _, err := s.Challenge(nil)
	wantError(t, err, true, "invalid_token")
	if done, _, err := (&bearerSession{}).Challenge(nil); !done || err != nil {
		t.Errorf("accepted: %v, %v", done, err)
	}
}

// clearAzure keeps the machine's own settings out.
func clearAzure(t *testing.T) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AZURE_") || strings.HasPrefix(name, "IDENTITY_") || strings.HasPrefix(name, "MSI_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("PATH", "") // no command of a developer's tools
}

// TestEntraManagedIdentity gets a token as in Azure's App Service, for the broker that is connected to.
func TestEntraManagedIdentity(t *testing.T) {
	clearAzure(t)
	var resources []string
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resources = append(resources, r.URL.Query().Get("resource"))
		if r.Header.Get("X-Identity-Header") != "hunter2" {
			t.Error("the header is missing")
		}
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"access_token":"entra","expires_on":"%d","token_type":"Bearer"}`, time.Now().Add(time.Hour).Unix())
	}))
	defer server.Close()
	t.Setenv("IDENTITY_ENDPOINT", server.URL)
	t.Setenv("IDENTITY_HEADER", "hunter2")
	t.Setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
	m, err := newBearer(SASLConfig{TokenAzure: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := first(t, m, broker)
	if err != nil || got != "n,,\x01auth=Bearer entra\x01\x01" {
		t.Errorf("%q, %v is sent", got, err)
	}
	if len(resources) != 1 || resources[0] != "https://example.servicebus.windows.net" {
		t.Errorf("tokens were asked for %v", resources)
	}
	t.Setenv("AZURE_TOKEN_CREDENTIALS", "FloppyDiskCredential")
	if _, err := newBearer(SASLConfig{TokenAzure: true}, nil); err == nil || !strings.Contains(err.Error(), "source.sasl.token_azure") {
		t.Errorf("a kind that is none: %v", err)
	}
}

// transport answers for login.microsoftonline.com.
type transport func(r *http.Request) *http.Response

func (f transport) Do(r *http.Request) (*http.Response, error) { return f(r), nil }

func answer(r *http.Request, status int, body map[string]any) *http.Response {
	b, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Header: http.Header{"Content-Type": {"application/json"}}, Request: r,
		Body: io.NopCloser(strings.NewReader(string(b))),
	}
}

// TestEntraServicePrincipal gets a token with the secret of a service principal, by the environment's variables.
func TestEntraServicePrincipal(t *testing.T) {
	clearAzure(t)
	const tenant = "11111111-2222-3333-4444-555555555555"
	t.Setenv("AZURE_TENANT_ID", tenant)
	t.Setenv("AZURE_CLIENT_ID", "client")
	t.Setenv("AZURE_CLIENT_SECRET", "hunter2")
	t.Setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
	status := http.StatusOK
	token := func(r *http.Request) *http.Response {
		const authority = "https://login.microsoftonline.com/" + tenant
		if strings.HasSuffix(r.URL.Path, "openid-configuration") {
			return answer(r, 200, map[string]any{"token_endpoint": authority + "/oauth2/v2.0/token", "authorization_endpoint": authority + "/authorize", "issuer": authority + "/v2.0"})
		}
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		if r.Form.Get("client_secret") != "hunter2" || !strings.Contains(r.Form.Get("scope"), "https://example.servicebus.windows.net/.default") {
			t.Errorf("asked with %v", r.Form)
		}
		if status != http.StatusOK {
			return answer(r, status, map[string]any{"error": "invalid_client", "error_description": "AADSTS7000222: the secret has expired"})
		}
		return answer(r, 200, map[string]any{"access_token": "entra", "expires_in": 3600, "token_type": "Bearer"})
	}
	for want, code := range map[string]int{"": http.StatusOK, "AADSTS7000222": http.StatusUnauthorized} {
		status = code
		options := &azidentity.DefaultAzureCredentialOptions{DisableInstanceDiscovery: true, ClientOptions: azcore.ClientOptions{Transport: transport(token)}}
		get, err := entraToken(SASLConfig{TokenAzure: true}, options)
		if err != nil {
			t.Fatal(err)
		}
		got, err := get(t.Context(), broker)
		if want == "" && (err != nil || got != "entra") {
			t.Errorf("%q, %v", got, err)
		} else if want != "" {
			wantError(t, err, true, want)
		}
	}
}
