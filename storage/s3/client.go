package s3

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"
)

// load reads environment and shared files as AWS's own tools do. The SDK's client for metadata services stays the SDK's:
// it knows how quickly they answer. Roots are the certificates to trust, nil for the system's.
func load(ctx context.Context, cfg Config, getenv func(string) string) (aws.Config, *x509.CertPool, error) {
	var with []func(*config.LoadOptions) error
	if cfg.Region != "" {
		with = append(with, config.WithRegion(cfg.Region))
	}
	if cfg.Profile != "" {
		with = append(with, config.WithSharedConfigProfile(cfg.Profile))
	}
	if cfg.AccessKeyID != "" {
		if _, err := cfg.staticKey(getenv); err != nil { // shows now, not with the first request
			return aws.Config{}, nil, err
		}
		with = append(with, config.WithCredentialsProvider(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return cfg.staticKey(getenv)
		})))
	}
	if cfg.WebIdentityTokenFile != "" { // the token is all that is needed: no chain is asked
		with = append(with, config.WithCredentialsProvider(aws.AnonymousCredentials{}))
	}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return aws.Config{}, nil, fmt.Errorf("reading storage.s3.ca_file: %w", err)
		}
		with = append(with, config.WithCustomCABundle(bytes.NewReader(pem)))
	}
	shared, err := config.LoadDefaultConfig(ctx, with...)
	if err != nil {
		return aws.Config{}, nil, fmt.Errorf("reading the AWS configuration (environment, ~/.aws, storage.s3): %w", err)
	}
	var roots *x509.CertPool
	if client, ok := shared.HTTPClient.(*awshttp.BuildableClient); ok {
		if tls := client.GetTransport().TLSClientConfig; tls != nil {
			roots = tls.RootCAs
		}
	}
	shared.Logger = logging.Nop{} // it writes to standard error by itself, of what is tried again anyway
	return shared, roots, nil
}

// credentialsTime bounds what getting credentials may take, so that a machine without any says so within seconds.
const credentialsTime = 15 * time.Second

// credentials are those of the configuration or of the SDK's default chain, then of the role that is assumed with them.
func credentials(shared aws.Config, cfg Config) aws.CredentialsProvider {
	provider := shared.Credentials
	session := cfg.SessionName
	if session == "" {
		session = "kafkadelta"
	}
	switch {
	case cfg.WebIdentityTokenFile != "":
		provider = stscreds.NewWebIdentityRoleProvider(sts.NewFromConfig(shared), cfg.RoleARN, stscreds.IdentityTokenFile(cfg.WebIdentityTokenFile),
			func(o *stscreds.WebIdentityRoleOptions) { o.RoleSessionName = session })
	case cfg.RoleARN != "":
		provider = stscreds.NewAssumeRoleProvider(sts.NewFromConfig(shared), cfg.RoleARN, func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName = session
			if cfg.ExternalID != "" {
				o.ExternalID = aws.String(cfg.ExternalID)
			}
		})
	}
	return aws.NewCredentialsCache(&bounded{next: provider}, func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = time.Minute })
}

// bounded gives getting credentials a time limit and its errors a type.
type bounded struct {
	next aws.CredentialsProvider
	ever atomic.Bool // it worked before
}

// Retrieve implements aws.CredentialsProvider.
func (b *bounded) Retrieve(ctx context.Context) (aws.Credentials, error) {
	limited, cancel := context.WithTimeoutCause(ctx, credentialsTime, errors.New("no answer in time"))
	defer cancel()
	c, err := b.next.Retrieve(limited)
	if err != nil {
		return c, &credentialsError{err: err, worked: b.ever.Load()}
	}
	b.ever.Store(true)
	return c, nil
}

// credentialsError is why there are no credentials.
type credentialsError struct {
	err    error
	worked bool // there were some before: their source is away for now
}

func (e *credentialsError) Error() string { return "getting credentials: " + e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }
