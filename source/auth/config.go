// Package auth makes connections that Kafka's brokers accept: TLS with and without client certificates, and SASL.
//
// It owns the settings source.tls and source.sasl, the SDKs that get a cloud's credentials, and what a refusal means
// (Explain). It promises that files and credentials are looked at again for each new connection, so that they may change
// under a running worker, and that no secret is in an error. It never sends anything but what a connection begins with,
// and knows nothing of topics and groups.
package auth

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// TLSConfig says whether and how connections are encrypted.
type TLSConfig struct {
	Enabled bool `yaml:"enabled"`
	// CAFile is a PEM file with the certificates to trust instead of the system's.
	CAFile string `yaml:"ca_file"`
	// CertFile and KeyFile are PEM files with the client's certificate (chain) and key, for brokers that ask for one.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// ServerName overrides the name that the broker's certificate must carry.
	ServerName string `yaml:"server_name"`
}

// SASLConfig says how the client authenticates. No secret is written in the configuration itself: it comes from an
// environment variable or a file, or from the cloud. Which keys go with which mechanism is in the table uses.
type SASLConfig struct {
	// Mechanism is one of the keys of uses. Empty: no authentication.
	Mechanism string `yaml:"mechanism"`
	// Username is the user; for token_url the client id; for gssapi the principal, user@REALM.
	Username     string `yaml:"username"`
	PasswordEnv  string `yaml:"password_env"`
	PasswordFile string `yaml:"password_file"`
	// TokenFile holds a token that somebody else renews; TokenURL is an OAuth token endpoint that gives one for client
	// credentials; TokenAzure takes one of Microsoft Entra. Exactly one of them.
	TokenFile  string `yaml:"token_file"`
	TokenURL   string `yaml:"token_url"`
	TokenAzure bool   `yaml:"token_azure"`
	// Scope is what the token is asked for, several separated by spaces. Of token_azure it defaults to the broker.
	Scope string `yaml:"scope"`
	// Extensions are sent to the broker along with the token (KIP-342).
	Extensions map[string]string `yaml:"extensions"`
	// RoleARN is an AWS role to assume with the credentials that the environment gives.
	RoleARN string `yaml:"role_arn"`
	// KeytabFile is the principal's keytab, KerberosFile the Kerberos configuration, ServiceName the brokers' principal
	// without host and realm.
	KeytabFile   string `yaml:"keytab_file"`
	KerberosFile string `yaml:"kerberos_file"`
	ServiceName  string `yaml:"service_name"`
}

// Values of SASLConfig.Mechanism.
const (
	plainPassword = "plain"
	scramSHA256   = "scram-sha-256"
	scramSHA512   = "scram-sha-512"
	bearerToken   = "oauthbearer"
	mskIAM        = "aws-msk-iam"
	gssapi        = "gssapi"
)

const mechanisms = "plain, scram-sha-256, scram-sha-512, oauthbearer, aws-msk-iam or gssapi"

// uses says which keys go with a mechanism.
var uses = map[string][]string{
	plainPassword: {"username", "password_env", "password_file"},
	scramSHA256:   {"username", "password_env", "password_file"},
	scramSHA512:   {"username", "password_env", "password_file"},
	bearerToken:   {"username", "password_env", "password_file", "token_file", "token_url", "token_azure", "scope", "extensions"},
	mskIAM:        {"role_arn"},
	gssapi:        {"username", "password_env", "password_file", "keytab_file", "kerberos_file", "service_name"},
}

// Validate checks the settings without reading a file.
func (c TLSConfig) Validate() error {
	if !c.Enabled && c != (TLSConfig{}) {
		return errors.New("source.tls has settings but is not enabled: add `enabled: true`")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return errors.New("source.tls.cert_file and source.tls.key_file go together: name both (they may be one file), or neither")
	}
	return nil
}

// Validate checks the settings without reading a file. An error shows no value that may be a secret in the wrong place,
// such as in password_env: "${KAFKA_PASSWORD}".
func (s SASLConfig) Validate() error {
	given := s.given()
	if s.Mechanism == "" {
		if len(given) > 0 {
			return errors.New("source.sasl has settings but no mechanism: use " + mechanisms)
		}
		return nil
	}
	known, ok := uses[s.Mechanism]
	if !ok {
		return errors.New("source.sasl.mechanism is not one that is known: use " + mechanisms)
	}
	var errs []error
	for _, key := range given {
		if !slices.Contains(known, key) {
			errs = append(errs, fmt.Errorf("source.sasl.%s has no meaning for mechanism %s, which takes %s: remove it", key, s.Mechanism, strings.Join(known, ", ")))
		}
	}
	switch s.Mechanism {
	case bearerToken:
		errs = append(errs, s.validateToken(given))
	case gssapi:
		errs = append(errs, s.needUser("the principal, such as loader@EXAMPLE.COM"), exactlyOne(given, "keytab_file", "password_env", "password_file"))
	case mskIAM:
		if s.RoleARN != "" && !strings.HasPrefix(s.RoleARN, "arn:") {
			errs = append(errs, errors.New("source.sasl.role_arn is no ARN: use arn:aws:iam::<account>:role/<name>"))
		}
	default:
		errs = append(errs, s.needUser("the user"), needPassword(given))
	}
	if s.PasswordEnv != "" && !variableName.MatchString(s.PasswordEnv) {
		errs = append(errs, errors.New("source.sasl.password_env is not the name of a variable: "+passwordEnvRemedy))
	}
	return errors.Join(errs...)
}

func (s SASLConfig) validateToken(given []string) error {
	errs := []error{exactlyOne(given, "token_file", "token_url", "token_azure")}
	if s.TokenURL != "" {
		errs = append(errs, s.needUser("the client id"), needPassword(given))
		u, err := url.Parse(s.TokenURL)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			errs = append(errs, errors.New("source.sasl.token_url is no plain address: use https://<host>/<path>, without user, ? and #"))
		}
	} else {
		for _, key := range []string{"username", "password_env", "password_file"} {
			if slices.Contains(given, key) {
				errs = append(errs, fmt.Errorf("source.sasl.%s goes with token_url alone: remove it", key))
			}
		}
	}
	if s.TokenFile != "" && s.Scope != "" {
		errs = append(errs, errors.New("source.sasl.scope has no meaning for a token_file: remove it"))
	}
	for key, value := range s.Extensions {
		if !extensionName.MatchString(key) || key == "auth" || !extensionValue.MatchString(value) {
			errs = append(errs, fmt.Errorf("source.sasl.extensions has %q, which can't be sent: a name is letters (not auth), a value is printable ASCII", key))
		}
	}
	return errors.Join(errs...)
}

func (s SASLConfig) needUser(what string) error {
	if s.Username == "" {
		return fmt.Errorf("source.sasl.username is empty: mechanism %s needs %s", s.Mechanism, what)
	}
	return nil
}

func needPassword(given []string) error {
	if slices.Contains(given, "password_env") == slices.Contains(given, "password_file") {
		return errors.New("source.sasl needs exactly one of password_env (name of an environment variable) and password_file")
	}
	return nil
}

func exactlyOne(given []string, keys ...string) error {
	n := 0
	for _, key := range keys {
		if slices.Contains(given, key) {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("source.sasl needs exactly one of %s", strings.Join(keys, ", "))
	}
	return nil
}

// given lists the keys that are set, but for mechanism.
func (s SASLConfig) given() []string {
	var keys []string
	for _, k := range []struct {
		name string
		set  bool
	}{
		{"username", s.Username != ""}, {"password_env", s.PasswordEnv != ""}, {"password_file", s.PasswordFile != ""},
		{"token_file", s.TokenFile != ""}, {"token_url", s.TokenURL != ""}, {"token_azure", s.TokenAzure},
		{"scope", s.Scope != ""}, {"extensions", len(s.Extensions) > 0}, {"role_arn", s.RoleARN != ""},
		{"keytab_file", s.KeytabFile != ""}, {"kerberos_file", s.KerberosFile != ""}, {"service_name", s.ServiceName != ""},
	} {
		if k.set {
			keys = append(keys, k.name)
		}
	}
	return keys
}

const passwordEnvRemedy = "write the NAME of the variable that holds the password, such as KAFKA_PASSWORD, without ${}"

var (
	variableName   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	extensionName  = regexp.MustCompile(`^[A-Za-z]+$`)
	extensionValue = regexp.MustCompile(`^[\x20-\x7E\t\r\n]+$`)
)
