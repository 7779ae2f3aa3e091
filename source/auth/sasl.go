package auth

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Options are what a client needs in order to connect. The settings are valid. Files are read, so that a mistake shows
// before anything else is done; a cloud is not asked yet. Later warn is told of files that can't be read any more.
func Options(t TLSConfig, s SASLConfig, warn func(error)) ([]kgo.Opt, error) {
	var opts []kgo.Opt
	var errs []error
	if t.Enabled {
		d := newDialer(t, warn)
		errs = append(errs, d.check())
		opts = append(opts, kgo.Dialer(d.dial))
	}
	if s.Mechanism != "" {
		m, err := newMechanism(s, warn)
		errs = append(errs, err)
		opts = append(opts, kgo.SASL(m))
	}
	return opts, errors.Join(errs...)
}

// mechanism authenticates each connection with the secret of that moment.
type mechanism struct {
	name string
	// begin gives what authenticates one connection to the broker host, an address with port. Its errors are final unless
	// they are an *Error that says otherwise.
	begin func(ctx context.Context, host string) (sasl.Mechanism, error)
}

func (m *mechanism) Name() string { return m.name }

func (m *mechanism) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	one, err := m.begin(ctx, host)
	if err != nil {
		return nil, nil, orFinal(ctx, err)
	}
	session, first, err := one.Authenticate(ctx, host)
	if err != nil {
		return nil, nil, orFinal(ctx, err)
	}
	return session, first, nil
}

func orFinal(ctx context.Context, err error) error {
	if _, ok := errors.AsType[*Error](err); ok || ctx.Err() != nil {
		return err
	}
	return &Error{Err: err, Hint: "check source.sasl", Final: true}
}

func newMechanism(s SASLConfig, warn func(error)) (*mechanism, error) {
	switch s.Mechanism {
	case bearerToken:
		return newBearer(s, warn)
	case mskIAM:
		return newMSK(s), nil
	case gssapi:
		return newKerberos(s, warn)
	}
	password := &kept[string]{read: s.password, warn: warn}
	_, err := password.get()
	var name string
	var with func(password string) sasl.Mechanism
	switch s.Mechanism {
	case plainPassword:
		name, with = "PLAIN", func(p string) sasl.Mechanism { return plain.Auth{User: s.Username, Pass: p}.AsMechanism() }
	case scramSHA256:
		name, with = "SCRAM-SHA-256", func(p string) sasl.Mechanism { return scram.Auth{User: s.Username, Pass: p}.AsSha256Mechanism() }
	default:
		name, with = "SCRAM-SHA-512", func(p string) sasl.Mechanism { return scram.Auth{User: s.Username, Pass: p}.AsSha512Mechanism() }
	}
	return &mechanism{name, func(context.Context, string) (sasl.Mechanism, error) {
		p, err := password.get()
		return with(p), err
	}}, err
}
