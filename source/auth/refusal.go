package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Error is a connection that could not be made because of TLS or SASL.
type Error struct {
	Err  error
	Hint string
	// Final says that only an operator can mend it. Otherwise the same is worth another try.
	Final bool
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

var brokerRefusals = map[*kerr.Error]string{
	kerr.SaslAuthenticationFailed: "check source.sasl: mechanism, user, and the password, token or key that it names",
	kerr.UnsupportedSaslMechanism: "the broker does not offer this source.sasl.mechanism",
	kerr.IllegalSaslState:         "the listener does not expect this kind of authentication: check source.sasl and the port",
}

const noTLS = "the listener does not speak TLS: check the port and source.tls.enabled"

// Explain finds out whether err is about TLS or SASL, and what it asks of the operator. It answers nil for everything else.
func Explain(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	hint := ""
	if ke, ok := errors.AsType[*kerr.Error](err); ok {
		hint = brokerRefusals[ke]
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		hint = untrusted(e)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		hint = noTLS
	}
	if strings.Contains(err.Error(), "plaintext connection speaking to a tls endpoint") { // the client has no type for it
		hint = "the listener speaks TLS: set source.tls.enabled, or use another port"
	}
	if hint == "" {
		return nil
	}
	return &Error{Err: err, Hint: hint, Final: true}
}

// untrusted says why a broker's certificate is not accepted.
func untrusted(e *tls.CertificateVerificationError) string {
	const prefix = "the broker's certificate is not trusted: "
	if _, ok := errors.AsType[x509.HostnameError](e.Err); ok {
		return prefix + "it is for another name. Use that name in source.brokers, or set source.tls.server_name"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](e.Err); ok && invalid.Reason == x509.Expired {
		return prefix + "it is not valid now. Renew it, and check the clocks"
	}
	return prefix + "no authority in source.tls.ca_file (or of the system) has signed it. Name the authority's certificate there"
}

// credentialError is about a service that gives credentials. A service that does not answer now is asked again; one that
// refuses is not, and neither is a chain of credentials that has never given any, since then there are none.
func credentialError(ctx context.Context, err error, hint string, never bool) error {
	if ctx.Err() != nil { // the client is closed
		return err
	}
	if status := httpStatus(err); status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout {
		never = false
	} else if status >= 400 {
		never = true
	}
	// The text alone: a time limit of the service's client must not look like the end of our own context.
	return &Error{Err: errors.New(err.Error()), Hint: hint, Final: never}
}

// httpStatus is the status with which a service has refused; 0 where it was not reached.
func httpStatus(err error) int {
	if e, ok := errors.AsType[*azidentity.AuthenticationFailedError](err); ok && e.RawResponse != nil {
		return e.RawResponse.StatusCode
	}
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return e.StatusCode
	}
	if e, ok := errors.AsType[interface {
		error
		HTTPStatusCode() int
	}](err); ok { // statusError, and AWS
		return e.HTTPStatusCode()
	}
	return 0
}

// alert is what the other side has ended the TLS session with; "" for everything else.
func alert(err error) string {
	e, ok := errors.AsType[*net.OpError](err)
	if !ok || e.Op != "remote error" || e.Err.Error() == "tls: internal error" {
		return ""
	}
	return e.Err.Error()
}
