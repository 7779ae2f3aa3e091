package auth

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
)

// startKDC answers every request with one error, and counts the requests of each principal.
func startKDC(t *testing.T, code int32) (address string, asked chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked = make(chan string, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			size := make([]byte, 4)
			_, _ = io.ReadFull(conn, size)
			request := make([]byte, binary.BigEndian.Uint32(size))
			_, _ = io.ReadFull(conn, request)
			var r messages.ASReq
			if err := r.Unmarshal(request); err != nil {
				t.Error(err)
			}
			asked <- r.ReqBody.CName.PrincipalNameString() + "@" + r.ReqBody.Realm
			refusal := messages.NewKRBError(r.ReqBody.SName, r.ReqBody.Realm, code, "no")
			b, err := refusal.Marshal()
			if err != nil {
				t.Error(err)
			}
			_, _ = conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String(), asked
}

func krb5(t *testing.T, kdc string) string {
	t.Helper()
	return write(t, fmt.Sprintf("[libdefaults]\n default_realm = EXAMPLE.COM\n udp_preference_limit = 1\n dns_lookup_kdc = false\n[realms]\n EXAMPLE.COM = {\n  kdc = %s\n }\n OTHER.COM = {\n  kdc = %s\n }\n", kdc, kdc))
}

func keys(t *testing.T, principal, realm string) string {
	t.Helper()
	k := keytab.New()
	if err := k.AddEntry(principal, realm, "hunter2", time.Now(), 1, etypeID.AES256_CTS_HMAC_SHA1_96); err != nil {
		t.Fatal(err)
	}
	b, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return write(t, string(b))
}

// TestKerberosLogsIn as the principal that is named, in its realm or the default one, and tells a refusal from a center that
// is down.
func TestKerberosLogsIn(t *testing.T) {
	const unknownPrincipal = 6 // RFC 4120, 7.5.9
	kdc, asked := startKDC(t, unknownPrincipal)
	t.Setenv("KERBEROS_PASSWORD", "hunter2")
	for name, c := range map[string]struct {
		sasl SASLConfig
		want string
	}{
		"keytab":             {SASLConfig{Username: "loader@OTHER.COM", KeytabFile: keys(t, "loader", "OTHER.COM")}, "loader@OTHER.COM"},
		"keytab, default":    {SASLConfig{Username: "loader", KeytabFile: keys(t, "loader", "EXAMPLE.COM")}, "loader@EXAMPLE.COM"},
		"password":           {SASLConfig{Username: "svc/host.example.com@OTHER.COM", PasswordEnv: "KERBEROS_PASSWORD"}, "svc/host.example.com@OTHER.COM"},
		"password in a file": {SASLConfig{Username: "loader", PasswordFile: write(t, "hunter2\n")}, "loader@EXAMPLE.COM"},
	} {
		t.Run(name, func(t *testing.T) {
			c.sasl.Mechanism, c.sasl.KerberosFile = gssapi, krb5(t, kdc)
			if err := c.sasl.Validate(); err != nil {
				t.Fatal(err)
			}
			m, err := newMechanism(c.sasl, nil)
			if err != nil || m.Name() != "GSSAPI" {
				t.Fatalf("%v, %v", m, err)
			}
			_, err = first(t, m, "broker-1.example.com:9092")
			wantError(t, err, true, "KDC_ERR_C_PRINCIPAL_UNKNOWN")
			select {
			case got := <-asked:
				if got != c.want {
					t.Errorf("%s asked, want %s", got, c.want)
				}
			default:
				t.Error("nobody asked")
			}
		})
	}
	down, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = down.Close()
	m, err := newMechanism(SASLConfig{Mechanism: gssapi, Username: "loader", PasswordEnv: "KERBEROS_PASSWORD", KerberosFile: krb5(t, down.Addr().String())}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = first(t, m, "broker-1.example.com:9092")
	wantError(t, err, false, "logging in to Kerberos")
}

func TestKerberosFilesThatAreWrong(t *testing.T) {
	for want, s := range map[string]SASLConfig{
		"source.sasl.kerberos_file": {Username: "u", KeytabFile: keys(t, "u", "EXAMPLE.COM"), KerberosFile: "/no/such/file"},
		"source.sasl.keytab_file":   {Username: "u", KeytabFile: write(t, "hello"), KerberosFile: krb5(t, "127.0.0.1:88")},
		"source.sasl.password_file": {Username: "u", PasswordFile: "/no/such/file", KerberosFile: krb5(t, "127.0.0.1:88")},
	} {
		s.Mechanism = gssapi
		if _, err := newMechanism(s, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	t.Setenv("KRB5_CONFIG", krb5(t, "127.0.0.1:88"))
	if _, err := newMechanism(SASLConfig{Mechanism: gssapi, Username: "u", KeytabFile: keys(t, "u", "EXAMPLE.COM")}, nil); err != nil {
		t.Errorf("with KRB5_CONFIG: %v", err)
	}
}
