package azure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"kafkadelta/storage/remote"
)

// tokenTime bounds how long a credential may look for a token: az takes seconds, an identity service that is not there takes
// for ever.
const tokenTime = 25 * time.Second

// access is how requests reach an account and prove who sends them: exactly one of key, sas and token is set.
type access struct {
	endpoint string // URL of the blob service, without a slash at the end
	key      *container.SharedKeyCredential
	sas      string // query of a URL, without "?"
	token    azcore.TokenCredential
}

// found is what the URI, the settings and the environment say of an account and its credential.
type found struct {
	kind, secret string
	account      string
	endpoint     string // of access
	parsed       connection
}

// find looks for account, endpoint and credential.
func find(l Location, c Config, getenv func(string) string) (f found, err error) {
	f.kind = c.Credential
	if f.kind == "" {
		f.kind = CredentialDefault
		for _, k := range kinds[:3] { // the kinds of Azure Storage itself
			if getenv(secretVariables[k]) != "" {
				f.kind = k
				break
			}
		}
	}
	if variable, ok := secretVariables[f.kind]; ok {
		if f.secret, err = c.secret(f.kind, getenv); err != nil {
			return f, err
		}
		if f.secret == "" && f.kind != CredentialCertificate {
			return f, fmt.Errorf("storage.azure.credential is %s, but its secret is nowhere: set %s, or storage.azure.secret_env or secret_file", f.kind, variable)
		}
	}
	if f.kind == CredentialConnectionString {
		if f.parsed, err = parseConnection(f.secret); err != nil {
			return f, fmt.Errorf("the connection string (%s, or storage.azure.secret_env or secret_file) %w", secretVariables[f.kind], err)
		}
	}
	if f.account, err = oneAccount(l.Account, c.Account, f.parsed.account, getenv("AZURE_STORAGE_ACCOUNT"), f.kind); err != nil {
		return f, err
	}
	f.endpoint = endpoint(l, c, f.parsed, f.account)
	return f, nil
}

// Place is the same for all spellings of a location: an account has one name in the world, but for those of an emulator.
func Place(l Location, c Config, getenv func(string) string) string {
	account, at := l.Account, l.Endpoint
	if f, err := find(l, c, getenv); err == nil {
		account, at = f.account, f.endpoint
	}
	if u, err := url.Parse(at); err == nil && at != "" && PathStyle(u.Hostname()) {
		account = strings.TrimPrefix(at, u.Scheme+"://")
	}
	return strings.TrimRight("azure://"+account+"/"+l.Container+"/"+l.Folder, "/")
}

// resolve finds the endpoint and the credential from what the URI, the settings and the environment say.
func resolve(l Location, c Config, getenv func(string) string, transport policy.Transporter) (access, error) {
	f, err := find(l, c, getenv)
	if err != nil {
		return access{}, err
	}
	a := access{endpoint: f.endpoint}
	switch f.kind {
	case CredentialConnectionString:
		if a.sas = f.parsed.sas; a.sas == "" {
			a.key, err = container.NewSharedKeyCredential(f.account, f.parsed.key)
		}
	case CredentialAccountKey:
		a.key, err = container.NewSharedKeyCredential(f.account, f.secret)
	case CredentialSAS:
		a.sas = strings.TrimPrefix(f.secret, "?")
		if !strings.Contains(a.sas, "sig=") {
			err = errors.New("it has no sig=: give the whole SAS token, sv=...&sig=..., not the account key")
		}
	default:
		a.token, err = c.identity(f.kind, f.secret, getenv, azcore.ClientOptions{
			Cloud:     c.cloud(a.endpoint, getenv),
			Retry:     policy.RetryOptions{MaxRetries: -1}, // storage/remote tries again
			Transport: transport,
		})
	}
	if err != nil {
		return access{}, fmt.Errorf("credential %s: %w", f.kind, err)
	}
	return a, nil
}

// oneAccount returns the account's name. A key that belongs to another account than the URI names would only be answered with
// "authentication failed".
func oneAccount(uri, config, connection, variable, kind string) (string, error) {
	if kind != CredentialAccountKey {
		if uri == "" && config == "" && connection == "" {
			connection = variable
		}
		variable = ""
	}
	name, from := "", ""
	for _, s := range []struct{ name, from string }{
		{uri, "the URI"}, {config, "storage.azure.account"}, {connection, "the connection string"}, {variable, "AZURE_STORAGE_ACCOUNT, whose key is AZURE_STORAGE_KEY,"},
	} {
		switch {
		case s.name == "" || s.name == name:
		case name == "":
			name, from = s.name, s.from
		default:
			return "", fmt.Errorf("%s names the account %q, but %s names %q: make them the same, or name another credential by storage.azure.credential", from, name, s.from, s.name)
		}
	}
	if name == "" {
		return "", errors.New("no storage account is named: write abfss://container@account.dfs.core.windows.net/path, or set storage.azure.account or AZURE_STORAGE_ACCOUNT")
	}
	return name, nil
}

// endpoint is the URL of the account's blob service.
func endpoint(l Location, c Config, parsed connection, account string) string {
	for _, e := range []string{c.Endpoint, l.Endpoint, parsed.endpoint} {
		if u, err := url.Parse(e); e != "" && err == nil {
			if strings.Trim(u.Path, "/") == "" && PathStyle(u.Hostname()) {
				u.Path = "/" + account
			}
			return strings.TrimRight(u.String(), "/")
		}
	}
	domain := l.Domain
	if domain == "" {
		domain = "blob.core.windows.net"
	}
	return "https://" + account + "." + domain
}

// cloud tells where Entra is. Left empty, the SDK asks AZURE_AUTHORITY_HOST, then takes the public cloud.
func (c Config) cloud(endpoint string, getenv func(string) string) cloud.Configuration {
	host := ""
	if u, err := url.Parse(endpoint); err == nil {
		host = u.Hostname()
	}
	switch {
	case c.AuthorityHost != "":
		return cloud.Configuration{ActiveDirectoryAuthorityHost: c.AuthorityHost}
	case getenv("AZURE_AUTHORITY_HOST") != "":
		return cloud.Configuration{ActiveDirectoryAuthorityHost: getenv("AZURE_AUTHORITY_HOST")}
	case strings.HasSuffix(host, ".chinacloudapi.cn"):
		return cloud.AzureChina
	case strings.HasSuffix(host, ".usgovcloudapi.net"):
		return cloud.AzureGovernment
	default:
		return cloud.Configuration{}
	}
}

// identity makes the credentials of Entra.
func (c Config) identity(kind, secret string, getenv func(string) string, o azcore.ClientOptions) (azcore.TokenCredential, error) {
	or := func(value, variable string) string {
		if value == "" {
			value = getenv(variable)
		}
		return value
	}
	tenant, client := or(c.TenantID, "AZURE_TENANT_ID"), or(c.ClientID, "AZURE_CLIENT_ID")
	switch kind {
	case CredentialClientSecret, CredentialCertificate, CredentialWorkloadIdentity:
		if tenant == "" || client == "" {
			return nil, errors.New("it needs storage.azure.tenant_id (or AZURE_TENANT_ID) and storage.azure.client_id (or AZURE_CLIENT_ID)")
		}
	}
	switch kind {
	case CredentialClientSecret:
		return azidentity.NewClientSecretCredential(tenant, client, secret, &azidentity.ClientSecretCredentialOptions{ClientOptions: o})
	case CredentialCertificate:
		return certificate(or(c.CertificateFile, "AZURE_CLIENT_CERTIFICATE_PATH"), tenant, client, secret, o)
	case CredentialWorkloadIdentity:
		file := or(c.TokenFile, "AZURE_FEDERATED_TOKEN_FILE")
		if file == "" {
			return nil, errors.New("it needs storage.azure.token_file or AZURE_FEDERATED_TOKEN_FILE: does the pod have the label azure.workload.identity/use?")
		}
		return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
			ClientOptions: o, TenantID: tenant, ClientID: client, TokenFilePath: file,
		})
	case CredentialManagedIdentity:
		options := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: o}
		if c.ClientID != "" {
			options.ID = azidentity.ClientID(c.ClientID)
		} else if c.IdentityResourceID != "" {
			options.ID = azidentity.ResourceID(c.IdentityResourceID)
		}
		return azidentity.NewManagedIdentityCredential(options)
	case CredentialCLI:
		return azidentity.NewAzureCLICredential(&azidentity.AzureCLICredentialOptions{TenantID: c.TenantID})
	default:
		return azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: o, TenantID: c.TenantID})
	}
}

func certificate(file, tenant, client, password string, o azcore.ClientOptions) (azcore.TokenCredential, error) {
	if file == "" {
		return nil, errors.New("it needs storage.azure.certificate_file or AZURE_CLIENT_CERTIFICATE_PATH")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading storage.azure.certificate_file: %w", err)
	}
	certs, key, err := azidentity.ParseCertificates(data, []byte(password))
	if err != nil {
		return nil, fmt.Errorf("reading storage.azure.certificate_file %s, which must be PEM or PKCS #12 with certificate and private key: %w", file, err)
	}
	return azidentity.NewClientCertificateCredential(tenant, client, certs, key, &azidentity.ClientCertificateCredentialOptions{ClientOptions: o})
}

// connection is a parsed connection string.
type connection struct{ endpoint, account, key, sas string }

// parseConnection reads "Key=value;..." as Azure's tools do. Its errors quote nothing of it.
func parseConnection(text string) (connection, error) {
	values := map[string]string{}
	for part := range strings.SplitSeq(text, ";") {
		if key, value, ok := strings.Cut(strings.TrimSpace(part), "="); ok {
			values[strings.ToLower(key)] = value
		} else if part != "" {
			return connection{}, errors.New("is not Name=value;Name=value")
		}
	}
	if strings.EqualFold(values["usedevelopmentstorage"], "true") {
		return connection{"http://127.0.0.1:10000/" + AzuriteAccount, AzuriteAccount, AzuriteKey, ""}, nil
	}
	c := connection{values["blobendpoint"], values["accountname"], values["accountkey"], strings.TrimPrefix(values["sharedaccesssignature"], "?")}
	if c.endpoint != "" {
		if err := checkEndpoint(c.endpoint); err != nil {
			return connection{}, fmt.Errorf("has a BlobEndpoint that %w", err)
		}
	}
	if c.endpoint == "" && c.account != "" && (values["endpointsuffix"] != "" || values["defaultendpointsprotocol"] == "http") {
		scheme, suffix := "https", "core.windows.net"
		if values["defaultendpointsprotocol"] == "http" {
			scheme = "http"
		}
		if values["endpointsuffix"] != "" {
			suffix = values["endpointsuffix"]
		}
		c.endpoint = scheme + "://" + c.account + ".blob." + suffix
	}
	if c.account == "" && c.endpoint != "" {
		c.account = accountOf(c.endpoint)
	}
	switch {
	case c.account == "":
		return connection{}, errors.New("names neither AccountName nor BlobEndpoint")
	case c.key == "" && c.sas == "":
		return connection{}, errors.New("has neither AccountKey nor SharedAccessSignature")
	}
	return c, nil
}

// accountOf reads the account from an endpoint: its path, as Azurite has it, or the first part of its host.
func accountOf(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	if path := strings.Trim(u.Path, "/"); path != "" {
		return path
	}
	account, _, _ := strings.Cut(u.Hostname(), ".")
	return account
}

// boundCredential makes a credential's errors recognisable and its search short, and counts its requests as what they are.
type boundCredential struct {
	azcore.TokenCredential
	limit  time.Duration
	worked atomic.Bool // it has given a token
}

// GetToken implements azcore.TokenCredential.
func (b *boundCredential) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	limited, cancel := context.WithTimeout(remote.ForCredentials(ctx), b.limit)
	defer cancel()
	token, err := b.TokenCredential.GetToken(limited, o)
	switch {
	case err == nil:
		b.worked.Store(true)
		return token, nil
	case ctx.Err() != nil:
		return token, ctx.Err() // which not every credential wraps
	default:
		return token, &credentialError{err, b.worked.Load()}
	}
}

// credentialError is that no token could be had.
type credentialError struct {
	error
	worked bool // there was one before
}

// Unwrap returns the SDK's own error.
func (e *credentialError) Unwrap() error { return e.error }

// NonRetriable tells the SDK what every error of azidentity tells it.
func (e *credentialError) NonRetriable() {}

// transporter keeps SAS tokens out of the errors of net/http, which quote the URL.
type transporter struct{ http *http.Client }

// Do implements policy.Transporter.
func (t transporter) Do(req *http.Request) (*http.Response, error) {
	response, err := t.http.Do(req)
	if e, ok := errors.AsType[*url.Error](err); ok {
		e.URL, _, _ = strings.Cut(e.URL, "?")
	}
	return response, err
}
