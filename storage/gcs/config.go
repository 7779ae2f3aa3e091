package gcs

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Config are the settings of Google Cloud Storage, "storage.gcs" in a configuration file. All may be empty: then the URI and
// what Google's own tools have (application default credentials) say everything.
type Config struct {
	// Endpoint is the URL of the service where it is not https://storage.googleapis.com: regional, private, or an emulator's.
	// It wins over STORAGE_EMULATOR_HOST.
	Endpoint string `yaml:"endpoint"`
	// Credential is one of the Credential constants. Empty: CredentialAnonymous for an endpoint of http, which only emulators
	// have, else CredentialDefault.
	Credential string `yaml:"credential"`
	// SecretEnv names the environment variable that holds the JSON of CredentialJSON.
	SecretEnv string `yaml:"secret_env"`
	// SecretFile is a file that holds the same.
	SecretFile string `yaml:"secret_file"`
	// UserProject is the project that pays for the requests, where the bucket asks for that ("requester pays").
	UserProject string `yaml:"user_project"`
}

// The kinds of credentials.
const (
	CredentialDefault   = "default"          // GOOGLE_APPLICATION_CREDENTIALS, then gcloud's login, then the metadata server
	CredentialJSON      = "credentials_json" // of a service account, an external account, an impersonated one, or a user
	CredentialAnonymous = "anonymous"        // none is sent
)

var kinds = []string{CredentialDefault, CredentialJSON, CredentialAnonymous}

var (
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	projectName  = regexp.MustCompile(`^[a-z0-9][a-z0-9.:-]{0,99}$`) // ids, old ones with a domain, and numbers
)

// Validate checks the settings without reaching for a file or a server. Its errors show no value of the keys around the
// secret, since the secret itself may stand there by mistake.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("storage.gcs."+format, args...)) }
	if c.Credential != "" && !slices.Contains(kinds, c.Credential) {
		bad("credential is not one that is known: use one of %s, or leave it out", strings.Join(kinds, ", "))
	}
	if c.Endpoint != "" {
		if _, err := parseEndpoint(c.Endpoint); err != nil {
			bad("endpoint %w", err)
		}
	}
	hasSecret := c.SecretEnv != "" || c.SecretFile != ""
	switch {
	case c.SecretEnv != "" && c.SecretFile != "":
		bad("secret_env and storage.gcs.secret_file are both set: keep one")
	case hasSecret && c.Credential != CredentialJSON:
		bad("secret_env and storage.gcs.secret_file belong to `credential: %s`", CredentialJSON)
	case !hasSecret && c.Credential == CredentialJSON:
		bad("credential is %s, but its secret is nowhere: set storage.gcs.secret_file, or secret_env; GOOGLE_APPLICATION_CREDENTIALS needs no credential to be named", CredentialJSON)
	}
	if c.SecretEnv != "" && !variableName.MatchString(c.SecretEnv) {
		bad("secret_env is not the name of a variable: write the NAME of the variable that holds the credential's JSON, without ${}")
	}
	if c.UserProject != "" && !projectName.MatchString(c.UserProject) {
		bad("user_project is not the id or number of a project")
	}
	return errors.Join(errs...)
}

// parseEndpoint reads scheme and host of the service's URL. It never quotes what it refuses.
func parseEndpoint(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return nil, errors.New("is no URL like https://storage.googleapis.com or http://127.0.0.1:4443")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return nil, errors.New("has more than host and port")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// Place is the same for all spellings of a location: Google's endpoints lead to the same buckets.
func Place(l Location, c Config, getenv func(string) string) string {
	host := ""
	if endpoint, _, err := c.service(getenv); err == nil && !strings.HasSuffix(endpoint.Hostname(), "googleapis.com") {
		host = endpoint.Host
	}
	return strings.TrimRight("gs://"+host+"/"+l.Bucket+"/"+l.Folder, "/")
}

// service finds the service and the kind of credential from settings and environment. STORAGE_EMULATOR_HOST is a URL, or
// host:port alone, as in Google's libraries.
func (c Config) service(getenv func(string) string) (endpoint *url.URL, kind string, err error) {
	endpoint = &url.URL{Scheme: "https", Host: "storage.googleapis.com"}
	emulator := getenv("STORAGE_EMULATOR_HOST")
	switch {
	case c.Endpoint != "":
		endpoint, err = parseEndpoint(c.Endpoint)
	case emulator != "":
		if !strings.Contains(emulator, "://") {
			emulator = "http://" + emulator
		}
		if endpoint, err = parseEndpoint(emulator); err != nil {
			err = fmt.Errorf("STORAGE_EMULATOR_HOST %w", err)
		}
	}
	if err != nil {
		return nil, "", err
	}
	kind = c.Credential
	if kind == "" {
		kind = CredentialDefault
		if endpoint.Scheme == "http" || c.Endpoint == "" && emulator != "" {
			kind = CredentialAnonymous
		}
	}
	return endpoint, kind, nil
}

// secret reads the JSON of a credential.
func (c Config) secret(getenv func(string) string) ([]byte, error) {
	if c.SecretEnv != "" {
		v := getenv(c.SecretEnv)
		if v == "" {
			return nil, errors.New("storage.gcs.secret_env names a variable that is not set, or empty: write the NAME of the variable that holds the credential's JSON")
		}
		return []byte(v), nil
	}
	b, err := os.ReadFile(c.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("reading storage.gcs.secret_file, which must be the path of a file: %w", pathless(err))
	}
	return b, nil
}
