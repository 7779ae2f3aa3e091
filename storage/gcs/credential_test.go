package gcs

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/auth/credentials"
	"cloud.google.com/go/compute/metadata"

	"kafkadelta/storage/remote"
)

const hunter = "hunter2"

// google stands for everything that gives tokens: the token endpoint, that of workload identity federation, impersonation, and
// the metadata server. Each gives a token of its own, so that a request tells where its token is from.
type google struct {
	*httptest.Server
	mu    sync.Mutex
	asked []url.Values
}

func newGoogle(t *testing.T) *google {
	t.Helper()
	g := &google{}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(text))
		g.mu.Lock()
		g.asked = append(g.asked, form)
		g.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Metadata-Flavor", "Google")
		give := func(token string) {
			_, _ = fmt.Fprintf(w, `{"access_token":%q,"expires_in":3600,"token_type":"Bearer","issued_token_type":"urn:ietf:params:oauth:token-type:access_token"}`, token)
		}
		refuse := func(status int, text string) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}
		switch {
		case r.URL.Path == "/silent":
			<-r.Context().Done()
		case r.URL.Path == "/revoked":
			refuse(400, `{"error":"invalid_grant","error_description":"Invalid JWT Signature."}`)
		case r.URL.Path == "/clock":
			refuse(400, `{"error":"invalid_grant","error_description":"Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."}`)
		case r.URL.Path == "/busy":
			refuse(503, `{"error":"internal_failure"}`)
		case form.Get("refresh_token") == "expired":
			refuse(400, `{"error":"invalid_grant","error_description":"Token has been expired or revoked."}`)
		case form.Get("subject_token") == "stranger":
			refuse(400, `{"error":"invalid_target","error_description":"The target service indicated by the \"audience\" parameters is invalid."}`)
		case strings.HasSuffix(r.URL.Path, "forbidden:generateAccessToken"):
			refuse(403, `{"error":{"code":403,"message":"Permission 'iam.serviceAccounts.getAccessToken' denied","status":"PERMISSION_DENIED"}}`)
		case strings.HasSuffix(r.URL.Path, ":generateAccessToken"):
			_, _ = fmt.Fprintf(w, `{"accessToken":"impersonated by %s","expireTime":%q}`, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
		case strings.HasSuffix(r.URL.Path, "/service-accounts/default/token"):
			give("metadata " + r.URL.Query().Get("scopes"))
		case form.Get("assertion") != "":
			give("service account")
		case form.Get("grant_type") == "refresh_token":
			give("user")
		case form.Get("subject_token") != "":
			give("federated " + form.Get("subject_token"))
		default:
			refuse(404, "")
		}
	}))
	t.Cleanup(g.Close)
	return g
}

// serviceAccount is the JSON of a key.
func serviceAccount(t *testing.T, tokenURL string) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return text(t, map[string]any{
		"type": credentials.ServiceAccount, "project_id": "p", "private_key_id": "1", "client_email": "loader@p.iam.gserviceaccount.com",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "token_uri": tokenURL,
	})
}

func user(t *testing.T, refresh string) string {
	t.Helper()
	return text(t, map[string]any{
		"type": credentials.AuthorizedUser, "client_id": "c", "client_secret": hunter, "refresh_token": refresh, "quota_project_id": "quota",
	})
}

// federated is the JSON of workload identity federation, whose subject token is in a file.
func federated(t *testing.T, g *google, subject, impersonate string) string {
	t.Helper()
	f := map[string]any{
		"type": credentials.ExternalAccount, "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k",
		"subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": g.URL + "/sts",
		"credential_source": map[string]any{"file": file(t, subject)},
	}
	if impersonate != "" {
		f["service_account_impersonation_url"] = g.URL + "/v1/projects/-/serviceAccounts/" + impersonate + ":generateAccessToken"
	}
	return text(t, f)
}

func impersonated(t *testing.T, g *google, account string) string {
	t.Helper()
	return text(t, map[string]any{
		"type": credentials.ImpersonatedServiceAccount, "service_account_impersonation_url": g.URL + "/v1/projects/-/serviceAccounts/" + account + ":generateAccessToken",
		"source_credentials": json.RawMessage(user(t, "refresh")),
	})
}

func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func file(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// bare takes everything away by which the machine that runs the test may have credentials.
func bare(t *testing.T) {
	t.Helper()
	for _, name := range []string{"GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_QUOTA_PROJECT", "STORAGE_EMULATOR_HOST"} {
		t.Setenv(name, "")
	}
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("APPDATA", home)
	t.Setenv("GCE_METADATA_HOST", "127.0.0.1:1") // nobody answers
}

// gcloudLogin is where `gcloud auth application-default login` writes.
func gcloudLogin(t *testing.T, content string) {
	t.Helper()
	for _, folder := range []string{filepath.Join(os.Getenv("HOME"), ".config", "gcloud"), filepath.Join(os.Getenv("APPDATA"), "gcloud")} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "application_default_credentials.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// authorized returns a store of a bucket behind https, as Google's is, which tells of each request its token and its project.
func authorized(t *testing.T, g *google, c Config, getenv func(string) string) (s *Store, seen *[]string, err error) {
	t.Helper()
	b := newBucket(t)
	seen = &[]string{}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*seen = append(*seen, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")+"|"+r.Header.Get("X-Goog-User-Project"))
		b.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	c.Endpoint = server.URL
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	client := remote.New(remote.Options{Explain: explain, RootCAs: roots})
	client.HTTP.Transport = wrapped{client.HTTP.Transport, func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if r.URL.Host == "oauth2.googleapis.com" { // where a user's login always goes
			r.URL.Scheme, r.URL.Host = "http", g.Listener.Addr().String()
		}
		return next.RoundTrip(r)
	}}
	t.Cleanup(client.HTTP.CloseIdleConnections)
	s, err = connect(Location{Bucket: "bucket", Folder: "t"}, c, getenv, client)
	return s, seen, err
}

// TestCredentialsAreTakenFrom looks at whose token a request has.
func TestCredentialsAreTakenFrom(t *testing.T) {
	g := newGoogle(t)
	account := serviceAccount(t, g.URL+"/token")
	for _, tc := range []struct {
		name   string
		c      Config
		env    []string
		gcloud string
		want   string
	}{
		{name: "the file of the environment", env: []string{"GOOGLE_APPLICATION_CREDENTIALS", file(t, account)}, gcloud: user(t, "refresh"), want: "service account|"},
		{name: "gcloud's login", gcloud: user(t, "refresh"), want: "user|quota"},
		{name: "the metadata server", want: "metadata " + scope + "|"},
		{name: "default, named", c: Config{Credential: CredentialDefault}, want: "metadata " + scope + "|"},
		{name: "a file of the settings", c: Config{Credential: CredentialJSON, SecretFile: file(t, account)}, env: []string{"GOOGLE_APPLICATION_CREDENTIALS", "/not/there"}, want: "service account|"},
		{name: "a variable of the settings", c: Config{Credential: CredentialJSON, SecretEnv: "MINE"}, env: []string{"MINE", user(t, "refresh")}, want: "user|quota"},
		{name: "workload identity federation", c: Config{Credential: CredentialJSON, SecretFile: file(t, federated(t, g, "pod", ""))}, want: "federated pod|"},
		{name: "federation with impersonation", env: []string{"GOOGLE_APPLICATION_CREDENTIALS", file(t, federated(t, g, "pod", "loader@p.iam.gserviceaccount.com"))}, want: "impersonated by federated pod|"},
		{name: "impersonation", env: []string{"GOOGLE_APPLICATION_CREDENTIALS", file(t, impersonated(t, g, "loader@p.iam.gserviceaccount.com"))}, want: "impersonated by user|"},
		{name: "nobody", c: Config{Credential: CredentialAnonymous}, env: []string{"GOOGLE_APPLICATION_CREDENTIALS", "/not/there"}, want: "|"},
		{name: "nobody for an emulator", c: Config{}, env: []string{"STORAGE_EMULATOR_HOST", "EMULATOR", "GOOGLE_APPLICATION_CREDENTIALS", "/not/there"}, want: "|"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bare(t)
			t.Setenv("GCE_METADATA_HOST", g.Listener.Addr().String())
			if tc.gcloud != "" {
				gcloudLogin(t, tc.gcloud)
			}
			getenv := env(tc.env...)
			if tc.name == "nobody for an emulator" {
				_, kind, err := tc.c.service(getenv)
				if err != nil || kind != CredentialAnonymous {
					t.Errorf("chose %s, %v", kind, err)
				}
				return
			}
			s, seen, err := authorized(t, g, tc.c, getenv)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(s.Put(t.Context(), "x", nil), s.Delete(t.Context(), "x")); err != nil {
				t.Fatal(err)
			}
			for _, got := range *seen {
				if got != tc.want {
					t.Errorf("the request has the token and project %q, want %q", got, tc.want)
				}
			}
			if len(*seen) != 2 {
				t.Errorf("%d requests", len(*seen))
			}
		})
	}
}

// TestTokenIsKept: it is asked for once, by however many requests.
func TestTokenIsKept(t *testing.T) {
	bare(t)
	g := newGoogle(t)
	s, _, err := authorized(t, g, Config{Credential: CredentialJSON, SecretEnv: "MINE"}, env("MINE", serviceAccount(t, g.URL+"/token")))
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := s.Put(t.Context(), "x", nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(g.asked) != 1 {
		t.Errorf("asked for %d tokens", len(g.asked))
	}
}

// TestNoOrWrongCredentials: a clear error within seconds, which is not tried again.
func TestNoOrWrongCredentials(t *testing.T) {
	g := newGoogle(t)
	damaged := strings.Replace(serviceAccount(t, g.URL+"/token"), "-----BEGIN PRIVATE KEY-----", "-----BEGIN "+hunter, 1)
	for _, tc := range []struct {
		name, json, says string
		not              bool // it is not a matter of permission: another try later may do
	}{
		{name: "a key that was deleted", json: serviceAccount(t, g.URL+"/revoked"), says: "the service account's key was deleted"},
		{name: "a clock that is off", json: serviceAccount(t, g.URL+"/clock"), says: "clock is off"},
		{name: "a private key that is damaged", json: damaged, says: "damaged"},
		{name: "a login that has expired", json: user(t, "expired"), says: "gcloud auth application-default login"},
		{name: "a pool that is gone", json: federated(t, g, "stranger", ""), says: "the credential's audience"},
		{name: "an account that may not be impersonated", json: impersonated(t, g, "forbidden"), says: "roles/iam.serviceAccountTokenCreator"},
		{name: "nobody answers", json: serviceAccount(t, g.URL+"/silent"), says: "does not answer", not: true},
		{name: "nobody is there", json: serviceAccount(t, "http://127.0.0.1:1/token"), says: "does not answer", not: true},
		{name: "the metadata server takes requests and never answers", says: "does not answer", not: true},
		{name: "the metadata server is not there", says: "does not answer", not: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bare(t)
			c := Config{Credential: CredentialJSON, SecretEnv: "MINE"}
			if tc.json == "" {
				c = Config{}
			}
			if strings.Contains(tc.name, "never answers") {
				hole := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
				t.Cleanup(hole.Close)
				t.Setenv("GCE_METADATA_HOST", hole.Listener.Addr().String())
			}
			s, seen, err := authorized(t, g, c, env("MINE", tc.json))
			if err != nil {
				t.Fatal(err)
			}
			s.api.http.Transport.(*transport).tokens.limit = 2 * time.Second
			began := time.Now()
			err = s.Put(t.Context(), "x", nil)
			if errors.Is(err, fs.ErrPermission) == tc.not || err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v does not say %q, or is wrongly fs.ErrPermission", err, tc.says)
			}
			if strings.Contains(fmt.Sprintf("%v %+v", err, err), hunter) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v tells the secret, or is of several lines", err)
			}
			if took := time.Since(began); took > 5*time.Second || len(*seen) > 0 {
				t.Errorf("took %v, sent %v", took, *seen)
			}
		})
	}
}

// TestBusyTokenServer is tried again.
func TestBusyTokenServer(t *testing.T) {
	bare(t)
	g := newGoogle(t)
	s, _, err := authorized(t, g, Config{Credential: CredentialJSON, SecretEnv: "MINE"}, env("MINE", serviceAccount(t, g.URL+"/busy")))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "x", nil); err == nil || errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v", err)
	}
	if len(g.asked) < 5 {
		t.Errorf("asked %d times", len(g.asked))
	}
}

// TestTokenCannotBeRenewed: a token service that has given a token and is away when the next one is due ends no worker.
func TestTokenCannotBeRenewed(t *testing.T) {
	bare(t)
	g := newGoogle(t)
	s, seen, err := authorized(t, g, Config{Credential: CredentialJSON, SecretEnv: "MINE"}, env("MINE", serviceAccount(t, g.URL+"/token")))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "x", nil); err != nil {
		t.Fatal(err)
	}
	tokens := s.api.http.Transport.(*transport).tokens
	if tokens.found, err = parse([]byte(serviceAccount(t, "http://127.0.0.1:1/token")), &credentials.DetectOptions{Scopes: []string{scope}}); err != nil {
		t.Fatal(err)
	}
	err = s.Put(t.Context(), "x", nil)
	if err == nil || errors.Is(err, fs.ErrInvalid) || errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("got %v, which is to be no final error, with a hint", err)
	}
	if len(*seen) != 1 {
		t.Errorf("sent %v", *seen)
	}
}

// TestBusyMetadataServer is tried again: its answers are errors of their own in the SDK.
func TestBusyMetadataServer(t *testing.T) {
	for status, want := range map[int]remote.Outcome{429: remote.Throttled, 503: remote.Throttled, 500: remote.Broken, 404: remote.Denied} {
		err := fmt.Errorf("credentials: cannot fetch token: %w", &metadata.Error{Code: status, Message: "x"})
		if got := explain(&credentialError{error: err}).Outcome; got != want {
			t.Errorf("%d is %v, want %v", status, got, want)
		}
	}
}

// TestWaitingForAToken: whoever waits behind another's search for a token goes when its own context ends.
func TestWaitingForAToken(t *testing.T) {
	busy := &tokens{limit: time.Minute, busy: make(chan struct{}, 1)}
	busy.busy <- struct{}{}
	req := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	busy.limit = 10 * time.Millisecond
	if err := busy.authorize(req); err == nil || !strings.Contains(err.Error(), "getting a token") {
		t.Errorf("got %v", err)
	}
}

// TestNoCredentialsAtAll is a process of its own, since the SDK asks once in a process whether it runs on Google's cloud.
func TestNoCredentialsAtAll(t *testing.T) {
	if os.Getenv("NO_CREDENTIALS_AT_ALL") == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNoCredentialsAtAll$", "-test.v")
		cmd.Env = append(os.Environ(), "NO_CREDENTIALS_AT_ALL=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	bare(t)
	if err := os.Unsetenv("GCE_METADATA_HOST"); err != nil {
		t.Fatal(err)
	}
	s, _, err := authorized(t, newGoogle(t), Config{}, env())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	err = s.Put(t.Context(), "x", nil)
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "set GOOGLE_APPLICATION_CREDENTIALS") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("took %v", took)
	}
}

// TestCredentialRefused has what is wrong before anything is sent. No error tells a secret.
func TestCredentialRefused(t *testing.T) {
	for _, tc := range []struct {
		name string
		c    Config
		env  []string
		want string
	}{
		{"credential", Config{Credential: hunter}, nil, "anonymous"},
		{"endpoint", Config{Endpoint: "storage.googleapis.com"}, nil, "storage.gcs.endpoint is no URL"},
		{"user in the endpoint", Config{Endpoint: "https://x:" + hunter + "@storage.googleapis.com"}, nil, "more than host"},
		{"path in the endpoint", Config{Endpoint: "https://storage.googleapis.com/storage/v1"}, nil, "more than host"},
		{"emulator", Config{}, []string{"STORAGE_EMULATOR_HOST", "http://x:" + hunter + "@host"}, "STORAGE_EMULATOR_HOST has more"},
		{"two secrets", Config{Credential: CredentialJSON, SecretEnv: "A", SecretFile: "b"}, nil, "keep one"},
		{"secret as a name", Config{Credential: CredentialJSON, SecretEnv: `{"key":"` + hunter}, nil, "NAME of the variable"},
		{"secret as a path", Config{Credential: CredentialJSON, SecretFile: `/{"key":"` + hunter}, nil, "must be the path"},
		{"secret without credential", Config{SecretFile: hunter}, nil, "credential: credentials_json"},
		{"credential without secret", Config{Credential: CredentialJSON}, nil, "secret_file"},
		{"variable that is not set", Config{Credential: CredentialJSON, SecretEnv: "A"}, nil, "not set, or empty"},
		{"payer", Config{UserProject: "No Project"}, nil, "storage.gcs.user_project"},
		{"secret instead of a path", Config{}, []string{"GOOGLE_APPLICATION_CREDENTIALS", `{"private_key":"` + hunter}, "GOOGLE_APPLICATION_CREDENTIALS names, which must be a path"},
		{"no JSON", Config{Credential: CredentialJSON, SecretEnv: "A"}, []string{"A", hunter}, "is no JSON"},
		{"JSON of another kind", Config{Credential: CredentialJSON, SecretEnv: "A"}, []string{"A", `{"installed":{"client_secret":"` + hunter + `"}}`}, `is of the type ""`},
		{"incomplete JSON", Config{Credential: CredentialJSON, SecretEnv: "A"}, []string{"A", `{"type":"service_account","private_key_id":"` + hunter + `"}`}, "is damaged"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := New(Location{Bucket: "bucket"}, tc.c, Options{Getenv: env(tc.env...)})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("%v does not say %q", err, tc.want)
			}
			if strings.Contains(err.Error(), hunter) {
				t.Errorf("%v tells the secret", err)
			}
		})
	}
}

func TestEndpoint(t *testing.T) {
	for _, tc := range []struct {
		c        Config
		emulator string
		want     string
	}{
		{Config{}, "", "https://storage.googleapis.com default"},
		{Config{}, "localhost:4443", "http://localhost:4443 anonymous"},
		{Config{}, "https://localhost:4443/", "https://localhost:4443 anonymous"},
		{Config{Credential: CredentialDefault}, "localhost:4443", "http://localhost:4443 default"},
		{Config{Endpoint: "http://fake:4443"}, "localhost:1", "http://fake:4443 anonymous"},
		{Config{Endpoint: "https://storage.europe-west3.rep.googleapis.com/"}, "localhost:1", "https://storage.europe-west3.rep.googleapis.com default"},
	} {
		endpoint, kind, err := tc.c.service(env("STORAGE_EMULATOR_HOST", tc.emulator))
		if err != nil || endpoint.String()+" "+kind != tc.want {
			t.Errorf("%+v, %s: %v %s, %v; want %s", tc.c, tc.emulator, endpoint, kind, err, tc.want)
		}
	}
}

// TestTokenStaysWithTheHost: a redirect does not carry it elsewhere.
func TestTokenStaysWithTheHost(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	t.Cleanup(other.Close)
	s := served(t, http.RedirectHandler(other.URL, http.StatusTemporaryRedirect), nil, nil)
	if _, err := s.Get(t.Context(), "x", 0, -1); err == nil {
		t.Error("no error")
	}
}
