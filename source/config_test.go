package source_test

import (
	"errors"
	"strings"
	"testing"

	"kafkadelta/source"
	"kafkadelta/source/auth"
)

// TestAPasswordInTheWrongPlaceIsNotPrinted has the password where its variable, its file or the mechanism belongs, as
// password_env: "${KAFKA_PASSWORD}" brings it about.
func TestAPasswordInTheWrongPlaceIsNotPrinted(t *testing.T) {
	for _, password := range []string{"hunter2", "hunter2 $%/&", "/hunter2", "hunter2\x00", strings.Repeat("hunter2", 40)} {
		for name, x := range map[string]struct {
			sasl auth.SASLConfig
			want string
		}{
			"password_env":  {auth.SASLConfig{Mechanism: "plain", Username: "u", PasswordEnv: password}, "NAME of the variable"},
			"password_file": {auth.SASLConfig{Mechanism: "plain", Username: "u", PasswordFile: password}, "source.sasl.password_file"},
			"mechanism":     {auth.SASLConfig{Mechanism: password, Username: "u", PasswordEnv: "P"}, "scram-sha-256"},
			"no mechanism":  {auth.SASLConfig{Username: "u", PasswordEnv: password}, "no mechanism"},
		} {
			c := valid()
			c.SASL = x.sasl
			err := c.Validate()
			if err == nil {
				err = c.CheckSecrets()
			}
			if err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%s: %v, want %q", name, err, x.want)
			}
			for ; err != nil; err = errors.Unwrap(err) {
				if strings.Contains(err.Error(), "hunter2") {
					t.Errorf("%s: the password is in %q", name, err)
				}
			}
		}
	}
}

func TestPasswordEnvIsTheNameOfAVariable(t *testing.T) {
	for name, good := range map[string]bool{
		"P": true, "_p9": true, "KAFKA_PASSWORD": true, "9P": false, "a-b": false, "${P}": false, " P": false, "P\n": false, "$P": false, "pä": false,
	} {
		c := valid()
		c.SASL = auth.SASLConfig{Mechanism: "plain", Username: "u", PasswordEnv: name}
		if err := c.Validate(); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestSharesBroker(t *testing.T) {
	for _, tt := range []struct {
		a, b []string
		want bool
	}{
		{[]string{"a:1", "b:1"}, []string{"b:1", "a:1"}, true},
		{[]string{"a:1", "b:1"}, []string{"c:1", "B.:1"}, true},
		{[]string{"a"}, []string{"a:9092"}, true},
		{[]string{"[::1]"}, []string{"::1", "x:1"}, true},
		{[]string{"[::1]:9092"}, []string{"::1"}, true},
		{[]string{"a:1"}, []string{"a:2"}, false},
		{[]string{"a:1"}, nil, false},
	} {
		if got := (source.Config{Brokers: tt.a}).SharesBroker(source.Config{Brokers: tt.b}); got != tt.want {
			t.Errorf("%v and %v: %v", tt.a, tt.b, got)
		}
	}
}
