package azure

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Config are the settings of Azure's storage, "storage.azure" in a configuration file. All may be empty: then the URI and the
// environment variables of Azure's own tools say everything.
type Config struct {
	// Account is the storage account, for URIs that do not name it (az://container/path).
	Account string `yaml:"account"`
	// Endpoint is the URL of the account's blob service where it is not https://ACCOUNT.blob.core.windows.net: of a private
	// endpoint, or of Azurite with the account as its path, http://127.0.0.1:10000/devstoreaccount1. It wins over the URI's host.
	Endpoint string `yaml:"endpoint"`
	// Credential is one of the Credential constants. Empty: AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_KEY and
	// AZURE_STORAGE_SAS_TOKEN are looked up in this order, and where none is set it is CredentialDefault.
	Credential string `yaml:"credential"`
	// SecretEnv names the environment variable that holds what Credential needs: the connection string, the account key, the
	// SAS, the client's secret or the password of its certificate. Where neither this nor SecretFile is set, it is the variable
	// of Azure's own tools.
	SecretEnv string `yaml:"secret_env"`
	// SecretFile is a file that holds the same; line ends at its end are left out.
	SecretFile string `yaml:"secret_file"`
	// TenantID is the Entra tenant; empty: AZURE_TENANT_ID.
	TenantID string `yaml:"tenant_id"`
	// ClientID is the application of a service principal or workload identity, empty: AZURE_CLIENT_ID; or the user-assigned
	// managed identity, empty: the system-assigned one.
	ClientID string `yaml:"client_id"`
	// IdentityResourceID is the resource id of a user-assigned managed identity, instead of its ClientID.
	IdentityResourceID string `yaml:"identity_resource_id"`
	// CertificateFile is the service principal's certificate and private key, PEM or PKCS #12; empty:
	// AZURE_CLIENT_CERTIFICATE_PATH.
	CertificateFile string `yaml:"certificate_file"`
	// TokenFile is the Kubernetes token of a workload identity; empty: AZURE_FEDERATED_TOKEN_FILE.
	TokenFile string `yaml:"token_file"`
	// AuthorityHost is where Entra's tokens come from, https://login.microsoftonline.com/ by default; empty:
	// AZURE_AUTHORITY_HOST, or that of the cloud which the account's host belongs to (China, US government).
	AuthorityHost string `yaml:"authority_host"`
}

// The kinds of credentials.
const (
	CredentialConnectionString = "connection_string"
	CredentialAccountKey       = "account_key"
	CredentialSAS              = "sas"
	CredentialClientSecret     = "client_secret"
	CredentialCertificate      = "client_certificate"
	CredentialManagedIdentity  = "managed_identity"
	CredentialWorkloadIdentity = "workload_identity"
	CredentialCLI              = "azure_cli"
	CredentialDefault          = "default" // azidentity's chain: environment, workload identity, managed identity, az, azd
)

// secretVariables are where Azure's own tools have the secret of each kind; the last of the list has none that is required.
var secretVariables = map[string]string{
	CredentialConnectionString: "AZURE_STORAGE_CONNECTION_STRING",
	CredentialAccountKey:       "AZURE_STORAGE_KEY",
	CredentialSAS:              "AZURE_STORAGE_SAS_TOKEN",
	CredentialClientSecret:     "AZURE_CLIENT_SECRET",
	CredentialCertificate:      "AZURE_CLIENT_CERTIFICATE_PASSWORD",
}

// kinds are the values of Config.Credential, in the order of the documentation.
var kinds = []string{
	CredentialConnectionString, CredentialAccountKey, CredentialSAS, CredentialClientSecret, CredentialCertificate,
	CredentialManagedIdentity, CredentialWorkloadIdentity, CredentialCLI, CredentialDefault,
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Validate checks the settings without reaching for a file or a server. Its errors show no value of the keys around the
// secret, since the secret itself may stand there by mistake.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("storage.azure."+format, args...)) }
	_, hasSecret := secretVariables[c.Credential]
	if c.Credential != "" && !slices.Contains(kinds, c.Credential) {
		bad("credential is not one that is known: use one of %s, or leave it out", strings.Join(kinds, ", "))
	}
	if c.Account != "" && !accountName.MatchString(c.Account) {
		bad("account is not the name of a storage account, which has 3 to 24 lower-case letters and digits")
	}
	if c.Endpoint != "" {
		if err := checkEndpoint(c.Endpoint); err != nil {
			bad("endpoint %w", err)
		}
	}
	if c.SecretEnv != "" && c.SecretFile != "" {
		bad("secret_env and storage.azure.secret_file are both set: keep one")
	}
	if c.SecretEnv != "" && !variableName.MatchString(c.SecretEnv) {
		bad("secret_env is not the name of a variable: write the NAME of the variable that holds the secret, such as AZURE_STORAGE_KEY, without ${}")
	}
	if (c.SecretEnv != "" || c.SecretFile != "") && !hasSecret {
		bad("secret_env and storage.azure.secret_file belong to a credential with a secret: add `credential:` with one of %s", strings.Join(kinds[:5], ", "))
	}
	only := func(key, value string, kinds ...string) {
		if value != "" && !slices.Contains(kinds, c.Credential) {
			bad("%s belongs to storage.azure.credential: %s", key, strings.Join(kinds, " or "))
		}
	}
	only("tenant_id", c.TenantID, CredentialClientSecret, CredentialCertificate, CredentialWorkloadIdentity, CredentialCLI, CredentialDefault)
	only("client_id", c.ClientID, CredentialClientSecret, CredentialCertificate, CredentialWorkloadIdentity, CredentialManagedIdentity)
	only("identity_resource_id", c.IdentityResourceID, CredentialManagedIdentity)
	only("certificate_file", c.CertificateFile, CredentialCertificate)
	only("token_file", c.TokenFile, CredentialWorkloadIdentity)
	if c.ClientID != "" && c.IdentityResourceID != "" {
		bad("client_id and storage.azure.identity_resource_id are both set: keep the one of the identity that is meant")
	}
	if c.AuthorityHost != "" && !strings.HasPrefix(c.AuthorityHost, "https://") {
		bad("authority_host is no https URL")
	}
	return errors.Join(errs...)
}

var accountName = regexp.MustCompile(`^[a-z0-9]{3,24}$`)

// checkEndpoint never quotes what it refuses: a SAS may stand in it.
func checkEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return errors.New("is no URL like https://account.blob.core.windows.net or http://127.0.0.1:10000/devstoreaccount1")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("has more than host, port and path: a SAS stands in AZURE_STORAGE_SAS_TOKEN, or where storage.azure.secret_env or secret_file says")
	}
	return nil
}

// secret reads the secret of a credential, "" where its variable is not set.
func (c Config) secret(kind string, getenv func(string) string) (string, error) {
	switch {
	case c.SecretFile != "":
		b, err := os.ReadFile(c.SecretFile)
		if e, ok := errors.AsType[*fs.PathError](err); ok {
			err = e.Err // without the path, which may be the secret itself
		}
		if err != nil {
			return "", fmt.Errorf("reading storage.azure.secret_file, which must be the path of a file: %w", err)
		}
		return strings.TrimRight(string(b), "\r\n"), nil
	case c.SecretEnv != "":
		v := getenv(c.SecretEnv)
		if v == "" {
			return "", errors.New("storage.azure.secret_env names a variable that is not set, or empty: write the NAME of the variable that holds the secret")
		}
		return v, nil
	default:
		return getenv(secretVariables[kind]), nil
	}
}
