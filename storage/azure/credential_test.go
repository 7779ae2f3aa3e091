package azure

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"kafkadelta/internal/storetest"
	"kafkadelta/storage/remote"
)

const (
	secret = "aHVudGVyMg==" // base64, as account keys are
	tenant = "11111111-2222-3333-4444-555555555555"
	client = "66666666-7777-8888-9999-000000000000"
)

// certificateFile writes a certificate with its key.
func certificateFile(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "certificate.pem")
	data := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// kindOf names what resolve has chosen, by the SDK's types.
func kindOf(a access) string {
	switch a.token.(type) {
	case nil:
		if a.key != nil {
			return "key of " + a.key.AccountName()
		}
		return "sas " + a.sas
	case *azidentity.ClientSecretCredential:
		return "client secret"
	case *azidentity.ClientCertificateCredential:
		return "client certificate"
	case *azidentity.ManagedIdentityCredential:
		return "managed identity"
	case *azidentity.WorkloadIdentityCredential:
		return "workload identity"
	case *azidentity.AzureCLICredential:
		return "azure cli"
	case *azidentity.DefaultAzureCredential:
		return "default"
	default:
		return fmt.Sprintf("%T", a.token)
	}
}

func TestCredentialSelection(t *testing.T) {
	cert := certificateFile(t)
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const connection = "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=" + secret + ";EndpointSuffix=core.windows.net"
	cases := []struct {
		name string
		c    Config
		env  []string
		want string
	}{
		{"nothing", Config{}, nil, "default"},
		{"connection string", Config{}, []string{"AZURE_STORAGE_CONNECTION_STRING", connection, "AZURE_STORAGE_KEY", secret, "AZURE_STORAGE_SAS_TOKEN", "sig=1"}, "key of acc"},
		{"connection string with a SAS", Config{}, []string{"AZURE_STORAGE_CONNECTION_STRING", "BlobEndpoint=https://acc.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=2"}, "sas sv=1&sig=2"},
		{"key", Config{}, []string{"AZURE_STORAGE_ACCOUNT", "acc", "AZURE_STORAGE_KEY", secret, "AZURE_STORAGE_SAS_TOKEN", "sig=1"}, "key of acc"},
		{"key without account", Config{}, []string{"AZURE_STORAGE_KEY", secret}, "key of acc"},
		{"SAS", Config{}, []string{"AZURE_STORAGE_SAS_TOKEN", "?sv=1&sig=2", "AZURE_CLIENT_SECRET", "x"}, "sas sv=1&sig=2"},
		{"variables of azidentity are the chain's", Config{}, []string{"AZURE_TENANT_ID", tenant, "AZURE_CLIENT_ID", client, "AZURE_CLIENT_SECRET", "x"}, "default"},
		{"another account's name alone", Config{}, []string{"AZURE_STORAGE_ACCOUNT", "other"}, "default"},
		{"default, named", Config{Credential: "default", TenantID: tenant}, []string{"AZURE_STORAGE_KEY", secret}, "default"},
		{"connection string, named", Config{Credential: "connection_string", SecretEnv: "MINE"}, []string{"MINE", connection, "AZURE_STORAGE_SAS_TOKEN", "sig=1"}, "key of acc"},
		{"key, named", Config{Credential: "account_key", SecretFile: file}, []string{"AZURE_STORAGE_CONNECTION_STRING", connection}, "key of acc"},
		{"SAS, named", Config{Credential: "sas", SecretEnv: "MINE"}, []string{"MINE", "sig=3"}, "sas sig=3"},
		{"client secret", Config{Credential: "client_secret", TenantID: tenant, ClientID: client, SecretFile: file}, nil, "client secret"},
		{"client secret of the environment", Config{Credential: "client_secret"}, []string{"AZURE_TENANT_ID", tenant, "AZURE_CLIENT_ID", client, "AZURE_CLIENT_SECRET", "x"}, "client secret"},
		{"client certificate", Config{Credential: "client_certificate", TenantID: tenant, ClientID: client, CertificateFile: cert}, nil, "client certificate"},
		{"client certificate of the environment", Config{Credential: "client_certificate"}, []string{"AZURE_TENANT_ID", tenant, "AZURE_CLIENT_ID", client, "AZURE_CLIENT_CERTIFICATE_PATH", cert}, "client certificate"},
		{"managed identity", Config{Credential: "managed_identity"}, nil, "managed identity"},
		{"user-assigned", Config{Credential: "managed_identity", ClientID: client}, nil, "managed identity"},
		{"user-assigned by its resource", Config{Credential: "managed_identity", IdentityResourceID: "/subscriptions/x"}, nil, "managed identity"},
		{"workload identity", Config{Credential: "workload_identity", TenantID: tenant, ClientID: client, TokenFile: file}, nil, "workload identity"},
		{"workload identity of a pod", Config{Credential: "workload_identity"}, []string{"AZURE_TENANT_ID", tenant, "AZURE_CLIENT_ID", client, "AZURE_FEDERATED_TOKEN_FILE", file}, "workload identity"},
		{"azure cli", Config{Credential: "azure_cli"}, []string{"AZURE_STORAGE_KEY", secret}, "azure cli"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if err := tc.c.Validate(); err != nil {
				t.Fatal(err)
			}
			a, err := resolve(Location{Account: "acc", Container: "c"}, tc.c, env(tc.env...), http.DefaultClient)
			if err != nil {
				t.Fatal(err)
			}
			if got := kindOf(a); got != tc.want {
				t.Errorf("chose %s, want %s", got, tc.want)
			}
			if a.endpoint != "https://acc.blob.core.windows.net" {
				t.Errorf("endpoint %s", a.endpoint)
			}
		})
	}
}

// TestCredentialRefused has what is wrong before anything is sent. No error tells a secret.
func TestCredentialRefused(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken.pem")
	if err := os.WriteFile(broken, []byte("-----BEGIN CERTIFICATE-----\n"+secret), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name, account string
		c             Config
		env           []string
		want          string
	}{
		{"connection string of another account", "acc", Config{}, []string{"AZURE_STORAGE_CONNECTION_STRING", "AccountName=other;AccountKey=" + secret}, `the URI names the account "acc", but the connection string names "other"`},
		{"key of another account", "acc", Config{}, []string{"AZURE_STORAGE_ACCOUNT", "other", "AZURE_STORAGE_KEY", secret}, `AZURE_STORAGE_ACCOUNT, whose key is AZURE_STORAGE_KEY, names "other"`},
		{"settings of another account", "acc", Config{Account: "other"}, nil, `storage.azure.account names "other"`},
		{"no account", "", Config{}, []string{"AZURE_STORAGE_KEY", secret}, "no storage account is named"},
		{"no connection string", "acc", Config{}, []string{"AZURE_STORAGE_CONNECTION_STRING", "hunter2"}, "is not Name=value"},
		{"connection string without a key", "acc", Config{}, []string{"AZURE_STORAGE_CONNECTION_STRING", "AccountName=acc"}, "neither AccountKey nor SharedAccessSignature"},
		{"connection string without an account", "", Config{}, []string{"AZURE_STORAGE_CONNECTION_STRING", "AccountKey=" + secret}, "neither AccountName nor BlobEndpoint"},
		{"key that is none", "acc", Config{}, []string{"AZURE_STORAGE_KEY", secret + "!"}, "credential account_key: decode account key"},
		{"SAS that is none", "acc", Config{}, []string{"AZURE_STORAGE_SAS_TOKEN", secret}, "no sig="},
		{"no secret", "acc", Config{Credential: "account_key"}, nil, "set AZURE_STORAGE_KEY, or"},
		{"variable that is not set", "acc", Config{Credential: "account_key", SecretEnv: "MINE"}, nil, "storage.azure.secret_env names a variable that is not set"},
		{"file that is not there", "acc", Config{Credential: "account_key", SecretFile: "/no/" + secret}, nil, "storage.azure.secret_file"},
		{"no tenant", "acc", Config{Credential: "client_secret", ClientID: client}, []string{"AZURE_CLIENT_SECRET", secret}, "tenant_id"},
		{"no certificate", "acc", Config{Credential: "client_certificate", ClientID: client, TenantID: tenant}, nil, "certificate_file"},
		{"certificate that is none", "acc", Config{Credential: "client_certificate", ClientID: client, TenantID: tenant, CertificateFile: broken}, nil, "must be PEM or PKCS #12"},
		{"no token", "acc", Config{Credential: "workload_identity", ClientID: client, TenantID: tenant}, nil, "azure.workload.identity/use"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			_, err := resolve(Location{Account: tc.account, Container: "c"}, tc.c, env(tc.env...), http.DefaultClient)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("%v does not say %q", err, tc.want)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%v tells the secret", err)
			}
		})
	}
}

func TestConfigRefused(t *testing.T) {
	cases := []struct {
		name string
		c    Config
		want string
	}{
		{"credential", Config{Credential: secret}, "workload_identity"},
		{"account", Config{Account: secret}, "storage.azure.account"},
		{"endpoint", Config{Endpoint: "account.blob.core.windows.net"}, "storage.azure.endpoint is no URL"},
		{"SAS in the endpoint", Config{Endpoint: "https://account.blob.core.windows.net/?sig=" + secret}, "AZURE_STORAGE_SAS_TOKEN"},
		{"user in the endpoint", Config{Endpoint: "https://x:" + secret + "@account.blob.core.windows.net"}, "more than host"},
		{"two secrets", Config{Credential: "sas", SecretEnv: "A", SecretFile: "b"}, "keep one"},
		{"secret as a name", Config{Credential: "sas", SecretEnv: "sv=1&sig=" + secret}, "NAME of the variable"},
		{"secret without credential", Config{SecretEnv: "A"}, "add `credential:`"},
		{"secret of a credential that has none", Config{Credential: "managed_identity", SecretFile: secret}, "belong to a credential with a secret"},
		{"tenant of a key", Config{Credential: "account_key", TenantID: tenant}, "storage.azure.tenant_id belongs to"},
		{"client without credential", Config{ClientID: client}, "storage.azure.client_id belongs to"},
		{"certificate of a secret", Config{Credential: "client_secret", CertificateFile: "a"}, "client_certificate"},
		{"two identities", Config{Credential: "managed_identity", ClientID: client, IdentityResourceID: "x"}, "keep the one"},
		{"authority", Config{AuthorityHost: "login.microsoftonline.com"}, "https"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			_, err := New(Location{Account: "acc", Container: "c"}, tc.c, Options{Getenv: env()})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("%v does not say %q", err, tc.want)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%v tells the secret", err)
			}
		})
	}
}

func TestCloud(t *testing.T) {
	cases := []struct {
		c              Config
		env            []string
		endpoint, want string
	}{
		{Config{}, nil, "https://a.blob.core.windows.net", ""},
		{Config{}, nil, "https://a.blob.core.chinacloudapi.cn", cloud.AzureChina.ActiveDirectoryAuthorityHost},
		{Config{}, nil, "https://a.blob.core.usgovcloudapi.net", cloud.AzureGovernment.ActiveDirectoryAuthorityHost},
		{Config{}, []string{"AZURE_AUTHORITY_HOST", "https://env/"}, "https://a.blob.core.usgovcloudapi.net", "https://env/"},
		{Config{AuthorityHost: "https://own/"}, []string{"AZURE_AUTHORITY_HOST", "https://env/"}, "https://a.blob.core.usgovcloudapi.net", "https://own/"},
	}
	for _, tc := range cases {
		if got := tc.c.cloud(tc.endpoint, env(tc.env...)).ActiveDirectoryAuthorityHost; got != tc.want {
			t.Errorf("%+v, %v, %s: got %q, want %q", tc.c, tc.env, tc.endpoint, got, tc.want)
		}
	}
}

// TestWrongCredentials asks Azurite with keys and SAS that it must refuse.
func TestWrongCredentials(t *testing.T) {
	a := storetest.Azurite(t)
	key, err := container.NewSharedKeyCredential(a.Account, a.Key)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := container.NewClientWithSharedKeyCredential(a.Endpoint+"/"+a.Container, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	token := func(p sas.ContainerPermissions, expires time.Duration) string {
		link, err := signer.GetSASURL(p, time.Now().Add(expires), &container.GetSASURLOptions{StartTime: new(time.Now().Add(-48 * time.Hour))})
		if err != nil {
			t.Fatal(err)
		}
		_, query, _ := strings.Cut(link, "?")
		return query
	}
	all := sas.ContainerPermissions{Read: true, Write: true, Delete: true, List: true}
	good := token(all, time.Hour)
	cases := []struct {
		name string
		env  []string
		want string // "": it works
	}{
		{"SAS", []string{"AZURE_STORAGE_SAS_TOKEN", good}, ""},
		{"key", []string{"AZURE_STORAGE_KEY", a.Key}, ""},
		{"connection string", []string{"AZURE_STORAGE_CONNECTION_STRING", a.ConnectionString}, ""},
		{"wrong key", []string{"AZURE_STORAGE_KEY", secret}, "403 AuthorizationFailure"}, // Azure says AuthenticationFailed
		{"expired SAS", []string{"AZURE_STORAGE_SAS_TOKEN", token(all, -24*time.Hour)}, "403 AuthorizationFailure"},
		{"changed SAS", []string{"AZURE_STORAGE_SAS_TOKEN", strings.Replace(good, "sp=", "sp=c", 1)}, "403 AuthorizationFailure"},
		{"SAS that may only read", []string{"AZURE_STORAGE_SAS_TOKEN", token(sas.ContainerPermissions{Read: true, List: true}, time.Hour)}, "it needs r, w, d, l"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			begin := time.Now()
			s, err := New(Location{Endpoint: a.Endpoint, Account: a.Account, Container: a.Container}, Config{}, Options{Getenv: env(tc.env...)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.client.HTTP.CloseIdleConnections)
			err = s.Put(t.Context(), "x", nil)
			if tc.want == "" {
				if err = errors.Join(err, listErr(t.Context(), s)); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v does not say %q", err, tc.want)
			}
			noSecret(t, err, tc.env[1])
			if d := time.Since(begin); d > 5*time.Second {
				t.Errorf("it took %v", d)
			}
		})
	}
}

// noSecret fails where an error shows a credential or the signature in it.
func noSecret(t *testing.T, err error, credential string) {
	t.Helper()
	for part := range strings.SplitSeq(credential, "&") {
		if part, ok := strings.CutPrefix(part, "sig="); ok && strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, errors.Unwrap(err)), part) {
			t.Errorf("%v tells the signature", err)
		}
	}
	if strings.Contains(err.Error(), credential) {
		t.Errorf("%v tells the credential", err)
	}
}

// TestUnreachableAccount: net/http quotes the URL with the SAS in it.
func TestUnreachableAccount(t *testing.T) {
	s, err := New(Location{Endpoint: "http://127.0.0.1:1/acc", Account: "acc", Container: "c"}, Config{}, Options{Getenv: env("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig="+secret)})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Put(t.Context(), "x", nil)
	if err == nil || !strings.Contains(err.Error(), "http://127.0.0.1:1/acc/c/x") {
		t.Errorf("got %v", err)
	}
	noSecret(t, err, "sig="+secret)
	if strings.Contains(fmt.Sprintf("%v %+v %#v", s, s, s), secret) {
		t.Error("the store prints its SAS")
	}
}

// entra answers for the identity services with a status and a body, or not at all where the status is 0.
func entra(t *testing.T, status int, answer string) (exchange, *requests) {
	seen := &requests{}
	return func(r *http.Request, _ http.RoundTripper) (*http.Response, error) {
		code, text := status, answer
		switch {
		case strings.Contains(r.URL.Path, "discovery/instance"):
			code, text = 200, `{"tenant_discovery_endpoint":"https://login.microsoftonline.com/`+tenant+`/v2.0/.well-known/openid-configuration","metadata":[]}`
		case strings.Contains(r.URL.Path, "openid-configuration"):
			code, text = 200, `{"token_endpoint":"https://login.microsoftonline.com/`+tenant+`/oauth2/v2.0/token","authorization_endpoint":"https://login.microsoftonline.com/x","issuer":"https://login.microsoftonline.com/`+tenant+`/v2.0"}`
		default:
			seen.observe(r.Method, r.URL.Host)
		}
		if code == 0 {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}
		if code < 0 {
			return nil, errCut
		}
		return &http.Response{
			StatusCode: code, Status: fmt.Sprint(code), Header: http.Header{"Content-Type": {"application/json"}},
			Body: io.NopCloser(strings.NewReader(text)), Request: r,
		}, nil
	}, seen
}

// TestIdentityRefused has the answers of Entra and of a machine's identity service that people meet, as Microsoft documents
// them (learn.microsoft.com/entra/identity-platform/reference-error-codes).
func TestIdentityRefused(t *testing.T) {
	aadsts := func(code, text string) string {
		return `{"error":"invalid_client","error_description":"` + code + `: ` + text + ` Trace ID: 1\r\nTimestamp: 2026","error_codes":[1]}`
	}
	principal := Config{Credential: "client_secret", TenantID: tenant, ClientID: client}
	secretEnv := []string{"AZURE_CLIENT_SECRET", secret}
	cases := []struct {
		name   string
		c      Config
		status int
		answer string
		want   []string
		denied bool
		tries  int
	}{
		{"wrong secret", principal, 401, aadsts("AADSTS7000215", "Invalid client secret provided."), []string{"AADSTS7000215: Invalid client secret", "not its id"}, true, 1},
		{"expired secret", principal, 401, aadsts("AADSTS7000222", "The provided client secret keys are expired."), []string{"has expired: make a new one"}, true, 1},
		{"no such application", principal, 400, aadsts("AADSTS700016", "Application not found in the directory."), []string{"no application has this client id"}, true, 1},
		{"no such tenant", principal, 400, aadsts("AADSTS90002", "Tenant not found."), []string{"no such tenant"}, true, 1},
		{"Entra is busy", principal, 429, aadsts("AADSTS50196", "loop"), []string{"429"}, false, 5},
		{"Entra is broken", principal, 503, `{}`, []string{"503"}, false, 5},
		{"Entra is cut off", principal, -1, "", []string{"identity service does not answer"}, false, 1},
		{"no such identity", Config{Credential: "managed_identity", ClientID: client}, 400, `{"error":"invalid_request","error_description":"Identity not found"}`, []string{"assigned to this machine"}, true, 1},
		{"no identity service", Config{Credential: "managed_identity"}, -1, "", []string{"works on Azure only"}, false, 1},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			fake, seen := entra(t, tc.status, tc.answer)
			client := remote.New(remote.Options{Explain: explain})
			client.HTTP.Transport = wrapped{client.HTTP.Transport, fake}
			s, err := connect(Location{Account: "acc", Container: "c"}, tc.c, env(secretEnv...), client)
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			err = s.Put(t.Context(), "x", nil)
			if err == nil || errors.Is(err, fs.ErrPermission) != tc.denied {
				t.Fatalf("got %v, denied is to be %v", err, tc.denied)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q tells the secret or is of several lines", err)
			}
			if len(seen.seen) != tc.tries {
				t.Errorf("%d requests for tokens (%s), want %d", len(seen.seen), seen, tc.tries)
			}
			if d := time.Since(begin); d > 10*time.Second {
				t.Errorf("it took %v", d)
			}
		})
	}
}

// TestTokenIsBounded lets an identity service be silent. The limit is that of the credential, not the store's.
func TestTokenIsBounded(t *testing.T) {
	fake, _ := entra(t, 0, "")
	client := remote.New(remote.Options{Explain: explain})
	client.HTTP.Transport = wrapped{client.HTTP.Transport, fake}
	a, err := resolve(Location{Account: "acc"}, Config{Credential: "managed_identity"}, env(), client.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	_, err = (&boundCredential{TokenCredential: a.token, limit: 50 * time.Millisecond}).GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://storage.azure.com/.default"}})
	if err == nil || time.Since(begin) > 5*time.Second {
		t.Fatalf("got %v after %v", err, time.Since(begin))
	}
	if f := explain(err); f.Outcome != remote.Invalid || !strings.Contains(f.Hint, "does not answer") {
		t.Errorf("%v means %+v", err, f)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = (&boundCredential{TokenCredential: a.token, limit: time.Minute}).GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"https://storage.azure.com/.default"}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who gave up got %v", err)
	}
}

// TestTokenIsUsed lets Entra give a token, once, which the account then sees.
func TestTokenIsUsed(t *testing.T) {
	client := remote.New(remote.Options{Explain: explain})
	identity, tokens := entra(t, 200, `{"token_type":"Bearer","expires_in":3600,"ext_expires_in":3600,"access_token":"the-token"}`)
	client.HTTP.Transport = wrapped{nil, func(r *http.Request, _ http.RoundTripper) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Host, "microsoftonline.com") {
			return identity(r, nil)
		}
		status := http.StatusForbidden
		if r.Header.Get("Authorization") == "Bearer the-token" {
			status = http.StatusCreated
		}
		return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	}}
	s, err := connect(Location{Account: "acc", Container: "c"}, Config{Credential: "client_secret", TenantID: tenant, ClientID: "x"}, env("AZURE_CLIENT_SECRET", secret), client)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Put(t.Context(), "x", nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(tokens.seen) != 1 {
		t.Errorf("requests for tokens: %s; want one", tokens)
	}
}

// TestTokenCannotBeRenewed: an identity service that has given a token and is away when the next one is due ends no worker.
func TestTokenCannotBeRenewed(t *testing.T) {
	away := false
	client := remote.New(remote.Options{Explain: explain})
	gives, _ := entra(t, 200, `{"token_type":"Bearer","expires_in":3600,"ext_expires_in":3600,"access_token":"the-token"}`)
	cut, seen := entra(t, -1, "")
	client.HTTP.Transport = wrapped{nil, func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if away {
			return cut(r, next)
		}
		return gives(r, next)
	}}
	a, err := resolve(Location{Account: "acc"}, Config{Credential: "client_secret", TenantID: tenant, ClientID: "x"}, env("AZURE_CLIENT_SECRET", secret), client.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	b := &boundCredential{TokenCredential: a.token, limit: time.Minute}
	get := func(scope string) error {
		_, err := client.Do(t.Context(), remote.Operation{Name: remote.Put}, func(ctx context.Context) error {
			_, err := b.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
			return err
		})
		return err
	}
	if err := get("https://storage.azure.com/.default"); err != nil {
		t.Fatal(err)
	}
	away = true
	err = get("https://another.azure.com/.default") // which is not kept yet, as one that has expired
	if err == nil || errors.Is(err, fs.ErrInvalid) || errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("got %v, which is to be no final error, with a hint", err)
	}
	if len(seen.seen) < 2 {
		t.Errorf("asked %s, want several times", seen)
	}
}

// asking is a credential that sends a request.
type asking struct {
	client *remote.Client
	url    string
}

func (a asking) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url, http.NoBody)
	if err != nil {
		return azcore.AccessToken{}, err
	}
	response, err := a.client.HTTP.Do(r)
	if err == nil {
		response.Body.Close()
	}
	return azcore.AccessToken{}, err
}

// TestTokensAreCounted as what they are, in the middle of another operation.
func TestTokensAreCounted(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	seen := &requests{}
	client := remote.New(remote.Options{Explain: explain, Observe: seen.observe})
	t.Cleanup(client.HTTP.CloseIdleConnections)
	_, err := client.Do(t.Context(), remote.Operation{Name: remote.Put}, func(ctx context.Context) error {
		_, err := (&boundCredential{TokenCredential: asking{client, server.URL}, limit: time.Minute}).GetToken(ctx, policy.TokenRequestOptions{})
		return err
	})
	if err != nil || seen.String() != "credentials ok" {
		t.Errorf("requests %s, %v", seen, err)
	}
}
