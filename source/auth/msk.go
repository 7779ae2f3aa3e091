package auth

import (
	"context"
	"fmt"
	"regexp"
	"sync"
	"sync/atomic"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/aws"
)

// msk gets credentials by the AWS SDK's default chain, which renews them by itself.
type msk struct {
	roleARN string
	had     atomic.Bool

	mu    sync.Mutex
	chain awssdk.CredentialsProvider // made with the first connection, since the region may be in the broker's name
}

func newMSK(s SASLConfig) *mechanism {
	m := &msk{roleARN: s.RoleARN}
	return &mechanism{"AWS_MSK_IAM", m.begin}
}

func (m *msk) begin(ctx context.Context, host string) (sasl.Mechanism, error) {
	const hint = "check what the AWS SDK's default chain finds (AWS_* variables, profile, web identity, role of the container or machine), and source.sasl.role_arn"
	limited, cancel := context.WithTimeout(ctx, credentialLimit)
	defer cancel()
	chain, err := m.credentials(limited, host)
	if err != nil {
		return nil, &Error{Err: err, Hint: hint, Final: true}
	}
	c, err := chain.Retrieve(limited)
	if err != nil {
		return nil, credentialError(ctx, fmt.Errorf("getting AWS credentials: %w", err), hint, !m.had.Load())
	}
	m.had.Store(true)
	one := aws.Auth{AccessKey: c.AccessKeyID, SecretKey: c.SecretAccessKey, SessionToken: c.SessionToken, UserAgent: "kafkadelta"}
	return regional{one.AsManagedStreamingIAMMechanism()}, nil
}

func (m *msk) credentials(ctx context.Context, host string) (awssdk.CredentialsProvider, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.chain != nil {
		return m.chain, nil
	}
	c, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the AWS configuration: %w", err)
	}
	if found := brokerRegion.FindStringSubmatch(host); c.Region == "" && found != nil {
		c.Region = found[1]
	}
	m.chain = c.Credentials
	if m.roleARN != "" {
		m.chain = awssdk.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(c), m.roleARN))
	}
	return m.chain, nil
}

var brokerRegion = regexp.MustCompile(`\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?:\d+$`)

// regional explains the one error that signing has.
type regional struct{ sasl.Mechanism }

func (r regional) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	session, first, err := r.Mechanism.Authenticate(ctx, host)
	if err != nil {
		err = &Error{Err: err, Hint: "the broker's name holds no region: set AWS_REGION", Final: true}
	}
	return session, first, err
}
