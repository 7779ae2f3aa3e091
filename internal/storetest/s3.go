package storetest

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const (
	s3Key    = "test-access-key"
	s3Secret = "test-secret-key"
)

// S3 is a bucket of a test's own.
type S3 struct {
	Endpoint  string // URL
	Region    string
	AccessKey string
	SecretKey string
	Bucket    string
}

// Client returns the SDK's own client, for what a test looks at behind the connector's back.
func (s S3) Client() *s3.Client {
	return s3.New(s3.Options{Region: s.Region, BaseEndpoint: &s.Endpoint, UsePathStyle: true, Credentials: s.credentials()})
}

func (s S3) credentials() aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: s.AccessKey, SecretAccessKey: s.SecretKey}, nil
	})
}

// Env returns the environment variables by which AWS's tools, the connector and delta-rs find the bucket.
func (s S3) Env() map[string]string {
	return map[string]string{
		"AWS_ENDPOINT_URL": s.Endpoint, "AWS_REGION": s.Region, "AWS_ACCESS_KEY_ID": s.AccessKey, "AWS_SECRET_ACCESS_KEY": s.SecretKey,
		"AWS_ALLOW_HTTP": "true", // asked for by delta-rs only
	}
}

func newS3(t testing.TB, address string) S3 {
	t.Helper()
	s := S3{Endpoint: "http://" + address, Region: "us-east-1", AccessKey: s3Key, SecretKey: s3Secret, Bucket: unique("bucket")}
	if _, err := s.Client().CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &s.Bucket}); err != nil {
		t.Fatalf("making bucket %s: %v", s.Bucket, err)
	}
	return s
}

// unique returns a name that no other test has.
func unique(prefix string) string { return prefix + "-" + strings.ToLower(rand.Text()[:12]) }

func imageOf(variable, image string) string {
	if name := os.Getenv(variable); name != "" {
		return name
	}
	return image
}
