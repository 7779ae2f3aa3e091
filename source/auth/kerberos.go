package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jcmturner/gokrb5/v8/client"
	krb5config "github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/krberror"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/kerberos"
)

// newKerberos logs in anew for each connection, with what the keytab or the password is then.
func newKerberos(s SASLConfig, warn func(error)) (*mechanism, error) {
	login := &kept[func() *client.Client]{read: s.kerberosClient, warn: warn}
	_, err := login.get()
	return &mechanism{"GSSAPI", func(context.Context, string) (sasl.Mechanism, error) {
		newClient, err := login.get()
		if err != nil {
			return nil, err
		}
		c := newClient()
		if err := c.Login(); err != nil {
			c.Destroy()
			return nil, kerberosError(err)
		}
		service := cmp.Or(s.ServiceName, "kafka")
		return ticket{kerberos.Kerberos(func(context.Context) (kerberos.Auth, error) {
			return kerberos.Auth{Client: c, Service: service}, nil
		})}, nil
	}}, err
}

// kerberosClient reads the files, and returns what makes clients of their content.
func (s SASLConfig) kerberosClient() (func() *client.Client, error) {
	path := cmp.Or(s.KerberosFile, os.Getenv("KRB5_CONFIG"), "/etc/krb5.conf") //nolint:forbidigo // the variable of Kerberos' own tools
	conf, err := krb5config.Load(path)
	if _, ok := errors.AsType[krb5config.UnsupportedDirective](err); err != nil && !ok {
		return nil, fmt.Errorf("reading the Kerberos configuration %s, which source.sasl.kerberos_file or KRB5_CONFIG names: %w", path, err)
	}
	user, realm, _ := strings.Cut(s.Username, "@")
	realm = cmp.Or(realm, conf.LibDefaults.DefaultRealm)
	if s.KeytabFile == "" {
		password, err := s.password()
		return func() *client.Client { return client.NewWithPassword(user, realm, password, conf, fast) }, err
	}
	keys, err := keytab.Load(s.KeytabFile)
	if err != nil {
		return nil, fmt.Errorf("reading source.sasl.keytab_file: %w", err)
	}
	return func() *client.Client { return client.NewWithKeytab(user, realm, keys, conf, fast) }, nil
}

// fast turns off what Active Directory does not know and other servers don't need.
var fast = client.DisablePAFXFAST(true)

// ticket explains why the broker's ticket was not given.
type ticket struct{ sasl.Mechanism }

func (t ticket) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	session, first, err := t.Mechanism.Authenticate(ctx, host)
	if err != nil {
		err = kerberosError(err)
	}
	return session, first, err
}

// kerberosError is final unless the key distribution center could not be reached.
func kerberosError(err error) error {
	e, ok := errors.AsType[krberror.Krberror](err)
	return &Error{
		Err:   fmt.Errorf("logging in to Kerberos: %w", err),
		Hint:  "check source.sasl: username (principal@REALM), keytab_file or password, kerberos_file, service_name, and that the brokers are named as in their principals",
		Final: !ok || e.RootCause != krberror.NetworkingError,
	}
}
