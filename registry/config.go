package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// Config says how a schema registry is reached. No secret is written in it: it comes from an environment variable or a file.
type Config struct {
	// URLs are addresses of one registry, http:// or https://; the next one is asked where one does not answer, or does not know a schema.
	URLs []string `yaml:"urls"`
	// Username, with PasswordEnv or PasswordFile, is for HTTP basic authentication.
	Username     string `yaml:"username"`
	PasswordEnv  string `yaml:"password_env"`
	PasswordFile string `yaml:"password_file"`
	// TokenEnv or TokenFile holds a bearer token.
	TokenEnv  string `yaml:"token_env"`
	TokenFile string `yaml:"token_file"`
	// CAFile is a PEM file with the certificates to trust instead of the system's; CertFile and KeyFile are the client's own.
	CAFile   string `yaml:"ca_file"`
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
}

// Validate checks the settings without reading a file.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("source.schema_registry."+format, args...))
	}
	for i, text := range c.URLs {
		u, err := url.Parse(text)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
			bad("urls[%d] is no address: use http://host:8081 or https://host", i)
		case u.User != nil:
			bad("urls[%d] has a user or a password in it: use username, and password_env or password_file", i)
		}
	}
	secrets := 0
	for _, s := range []string{c.PasswordEnv, c.PasswordFile, c.TokenEnv, c.TokenFile} {
		if s != "" {
			secrets++
		}
	}
	switch password := c.PasswordEnv != "" || c.PasswordFile != ""; {
	case secrets > 1:
		bad("password_env, password_file, token_env and token_file exclude each other: keep one")
	case c.Username != "" && !password:
		bad("username needs password_env or password_file")
	case c.Username == "" && password:
		bad("username is missing: a password was given")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		bad("cert_file and key_file go together: set both")
	}
	return errors.Join(errs...)
}

// tls reads the certificates. The client's own is read again at each handshake, so that it may be renewed.
func (c Config) tls() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading source.schema_registry.ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading source.schema_registry.ca_file: %s holds no PEM certificate", c.CAFile)
		}
	}
	if c.CertFile != "" {
		load := func() (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
			if err != nil {
				err = fmt.Errorf("reading source.schema_registry.cert_file and key_file: %w", err)
			}
			return &cert, err
		}
		if _, err := load(); err != nil {
			return nil, err
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return conf, nil
}

// secret is the password or the token; "" for neither. It is read again for each request, of which there are few.
func (c Config) secret(getenv func(string) string) (string, error) {
	for _, from := range []struct{ key, env, file string }{
		{"password", c.PasswordEnv, c.PasswordFile}, {"token", c.TokenEnv, c.TokenFile},
	} {
		switch {
		case from.env != "":
			if v := getenv(from.env); v != "" {
				return v, nil
			}
			return "", fmt.Errorf("source.schema_registry.%s_env names a variable that is not set, or empty", from.key)
		case from.file != "":
			data, err := os.ReadFile(from.file)
			secret := strings.TrimRight(string(data), "\r\n")
			switch {
			case err != nil:
				return "", fmt.Errorf("reading source.schema_registry.%s_file, which must be the path of a file: it can't be read", from.key)
			case secret == "":
				return "", fmt.Errorf("reading source.schema_registry.%s_file: the file is empty", from.key)
			}
			return secret, nil
		}
	}
	return "", nil
}
