package auth_test

import (
	"errors"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"kafkadelta/source/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSettings(t *testing.T) {
	for name, c := range map[string]struct {
		sasl auth.SASLConfig
		want string // in the error; "" for none
	}{
		"none":                           {auth.SASLConfig{}, ""},
		"plain":                          {auth.SASLConfig{Mechanism: "plain", Username: "u", PasswordEnv: "P"}, ""},
		"event hubs":                     {auth.SASLConfig{Mechanism: "plain", Username: "$ConnectionString", PasswordFile: "f"}, ""},
		"token file":                     {auth.SASLConfig{Mechanism: "oauthbearer", TokenFile: "f", Extensions: map[string]string{"logicalCluster": "lkc-1"}}, ""},
		"token endpoint":                 {auth.SASLConfig{Mechanism: "oauthbearer", TokenURL: "https://idp/token", Username: "id", PasswordFile: "f", Scope: "a b"}, ""},
		"entra":                          {auth.SASLConfig{Mechanism: "oauthbearer", TokenAzure: true, Scope: "https://x/.default"}, ""},
		"msk":                            {auth.SASLConfig{Mechanism: "aws-msk-iam"}, ""},
		"msk with a role":                {auth.SASLConfig{Mechanism: "aws-msk-iam", RoleARN: "arn:aws:iam::1:role/r"}, ""},
		"keytab":                         {auth.SASLConfig{Mechanism: "gssapi", Username: "u@R", KeytabFile: "f", KerberosFile: "c", ServiceName: "k"}, ""},
		"kerberos by password":           {auth.SASLConfig{Mechanism: "gssapi", Username: "u@R", PasswordEnv: "P"}, ""},
		"unknown mechanism":              {auth.SASLConfig{Mechanism: "PLAIN", Username: "u", PasswordEnv: "P"}, "use plain, scram-sha-256"},
		"no mechanism":                   {auth.SASLConfig{TokenAzure: true}, "no mechanism"},
		"token for a password":           {auth.SASLConfig{Mechanism: "plain", Username: "u", TokenFile: "f"}, "source.sasl.token_file has no meaning for mechanism plain"},
		"role for a token":               {auth.SASLConfig{Mechanism: "oauthbearer", TokenFile: "f", RoleARN: "arn:x"}, "source.sasl.role_arn has no meaning"},
		"user of msk":                    {auth.SASLConfig{Mechanism: "aws-msk-iam", Username: "u"}, "source.sasl.username has no meaning"},
		"no token":                       {auth.SASLConfig{Mechanism: "oauthbearer"}, "exactly one of token_file, token_url, token_azure"},
		"two tokens":                     {auth.SASLConfig{Mechanism: "oauthbearer", TokenFile: "f", TokenAzure: true}, "exactly one of token_file"},
		"endpoint without client":        {auth.SASLConfig{Mechanism: "oauthbearer", TokenURL: "https://idp/token", PasswordFile: "f"}, "the client id"},
		"endpoint without secret":        {auth.SASLConfig{Mechanism: "oauthbearer", TokenURL: "https://idp/token", Username: "id"}, "password_env"},
		"endpoint that is a host":        {auth.SASLConfig{Mechanism: "oauthbearer", TokenURL: "idp/token", Username: "id", PasswordFile: "f"}, "source.sasl.token_url"},
		"endpoint with a secret":         {auth.SASLConfig{Mechanism: "oauthbearer", TokenURL: "https://id:hunter2@idp/token", Username: "id", PasswordFile: "f"}, "source.sasl.token_url"},
		"endpoint with a query":          {auth.SASLConfig{Mechanism: "oauthbearer", TokenURL: "https://idp/token?secret=hunter2", Username: "id", PasswordFile: "f"}, "source.sasl.token_url"},
		"user of a token file":           {auth.SASLConfig{Mechanism: "oauthbearer", TokenFile: "f", Username: "u"}, "source.sasl.username goes with token_url"},
		"scope of a token file":          {auth.SASLConfig{Mechanism: "oauthbearer", TokenFile: "f", Scope: "s"}, "source.sasl.scope"},
		"extension that ends the others": {auth.SASLConfig{Mechanism: "oauthbearer", TokenFile: "f", Extensions: map[string]string{"a": "b\x01auth=c"}}, "source.sasl.extensions"},
		"extension for the token":        {auth.SASLConfig{Mechanism: "oauthbearer", TokenFile: "f", Extensions: map[string]string{"auth": "b"}}, "source.sasl.extensions"},
		"role that is a name":            {auth.SASLConfig{Mechanism: "aws-msk-iam", RoleARN: "reader"}, "source.sasl.role_arn"},
		"principal that is missing":      {auth.SASLConfig{Mechanism: "gssapi", KeytabFile: "f"}, "loader@EXAMPLE.COM"},
		"keytab and password":            {auth.SASLConfig{Mechanism: "gssapi", Username: "u", KeytabFile: "f", PasswordEnv: "P"}, "exactly one of keytab_file"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.sasl.Validate()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("Validate answered %v, want %q", err, c.want)
			}
			for ; err != nil; err = errors.Unwrap(err) {
				if strings.Contains(err.Error(), "hunter2") {
					t.Errorf("the secret is in %q", err)
				}
			}
		})
	}
	for name, c := range map[string]auth.TLSConfig{
		"a certificate without key": {Enabled: true, CertFile: "f"}, "a key without certificate": {Enabled: true, KeyFile: "f"},
		"not enabled": {CertFile: "f", KeyFile: "f"},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "source.tls") {
			t.Errorf("%s: Validate answered %v", name, err)
		}
	}
}
