package s3

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Values of Config.Encryption and Config.LogStore.
const (
	EncryptionS3     = "sse-s3"
	EncryptionKMS    = "sse-kms"
	LogStoreDynamoDB = "dynamodb"
)

// Config says how a bucket is reached. What it leaves out comes from where AWS's own tools take it: environment, shared
// configuration files, web identity, container and instance. The zero value takes everything from there.
type Config struct {
	// Region of the bucket. Default: AWS_REGION or the profile's; else the bucket is asked.
	Region string `yaml:"region"`
	// Endpoint is the URL of an S3-compatible store. Default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile's; else AWS.
	Endpoint string `yaml:"endpoint"`
	// PathStyle puts the bucket into the path of a URL instead of its host. Default: true with an endpoint that is not
	// AWS's, else false.
	PathStyle *bool `yaml:"path_style"`
	// CAFile is a PEM file with the certificates to trust instead of the system's. Default: AWS_CA_BUNDLE.
	CAFile string `yaml:"ca_file"`

	// Profile of the shared configuration and credentials files. Default: AWS_PROFILE.
	Profile string `yaml:"profile"`
	// AccessKeyID is one half of a static key. The other half comes from a variable or a file, which is read again when the
	// key is five minutes old.
	AccessKeyID         string `yaml:"access_key_id"`
	SecretAccessKeyEnv  string `yaml:"secret_access_key_env"`
	SecretAccessKeyFile string `yaml:"secret_access_key_file"`
	// RoleARN is a role to assume with the credentials that the rest says.
	RoleARN string `yaml:"role_arn"`
	// ExternalID is what the role's trust policy asks for, if it does.
	ExternalID string `yaml:"external_id"`
	// SessionName is how the assumed role shows in CloudTrail. Default "kafkadelta".
	SessionName string `yaml:"session_name"`
	// WebIdentityTokenFile holds the token of an OpenID Connect provider with which RoleARN is assumed, as on EKS.
	WebIdentityTokenFile string `yaml:"web_identity_token_file"`

	// Encryption of new objects: sse-s3 or sse-kms. Default: the bucket's own.
	Encryption string `yaml:"encryption"`
	// KMSKeyID is the key of sse-kms. Default: the account's key for S3.
	KMSKeyID string `yaml:"kms_key_id"`

	// LogStore is dynamodb for a table that Spark also writes through S3DynamoDBLogStore. Default: conditional puts.
	LogStore string         `yaml:"log_store"`
	DynamoDB DynamoDBConfig `yaml:"dynamodb"`
}

// DynamoDBConfig says where the log store of Delta's S3DynamoDBLogStore is.
type DynamoDBConfig struct {
	// Table is the DynamoDB table. Default "delta_log", as Spark's.
	Table string `yaml:"table"`
	// Region of the DynamoDB table. Default: the bucket's, if it is known from Config or environment, else us-east-1, as Spark's.
	Region string `yaml:"region"`
	// Endpoint is a URL. Default: AWS_ENDPOINT_URL_DYNAMODB, AWS_ENDPOINT_URL; else AWS.
	Endpoint string `yaml:"endpoint"`
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Validate checks the settings without reaching for a file or a server. Its errors show no value that stands where a
// secret may have been put by mistake.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("storage.s3."+format, args...)) }
	checkEndpoint(bad, "endpoint", c.Endpoint)
	checkEndpoint(bad, "dynamodb.endpoint", c.DynamoDB.Endpoint)
	secrets := 0
	for _, s := range []string{c.SecretAccessKeyEnv, c.SecretAccessKeyFile} {
		if s != "" {
			secrets++
		}
	}
	switch {
	case c.AccessKeyID != "" && secrets != 1:
		bad("access_key_id needs exactly one of secret_access_key_env (name of an environment variable) and secret_access_key_file")
	case c.AccessKeyID == "" && secrets > 0:
		bad("access_key_id is missing, but its secret is there")
	case c.AccessKeyID != "" && c.Profile != "":
		bad("access_key_id and profile exclude each other")
	}
	if c.SecretAccessKeyEnv != "" && !variableName.MatchString(c.SecretAccessKeyEnv) {
		bad("secret_access_key_env is not the name of a variable: %s", secretEnvRemedy)
	}
	if c.RoleARN == "" && (c.ExternalID != "" || c.SessionName != "" || c.WebIdentityTokenFile != "") {
		bad("role_arn is missing: external_id, session_name and web_identity_token_file say how it is assumed")
	}
	if c.RoleARN != "" && !strings.HasPrefix(c.RoleARN, "arn:") {
		bad("role_arn is %q: use the role's full name, arn:aws:iam::123456789012:role/name", c.RoleARN)
	}
	if c.WebIdentityTokenFile != "" && (c.AccessKeyID != "" || c.ExternalID != "") {
		bad("web_identity_token_file excludes access_key_id and external_id: the token is the credential")
	}
	switch c.Encryption {
	case "", EncryptionS3, EncryptionKMS:
	default:
		bad("encryption is %q: use %s or %s, or leave it out for the bucket's own", c.Encryption, EncryptionS3, EncryptionKMS)
	}
	if c.KMSKeyID != "" && c.Encryption != EncryptionKMS {
		bad("kms_key_id needs encryption: %s", EncryptionKMS)
	}
	switch {
	case c.LogStore != "" && c.LogStore != LogStoreDynamoDB:
		bad("log_store is %q: use %s, or leave it out", c.LogStore, LogStoreDynamoDB)
	case c.LogStore == "" && c.DynamoDB != (DynamoDBConfig{}):
		bad("dynamodb has settings but is not used: add log_store: %s", LogStoreDynamoDB)
	}
	return errors.Join(errs...)
}

func checkEndpoint(bad func(string, ...any), key, value string) {
	if value != "" && !isEndpoint(value) {
		bad("%s is %s", key, notEndpoint)
	}
}

const notEndpoint = "not a URL such as https://s3.example.com:9000, without user, query and fragment"

func isEndpoint(value string) bool {
	u, err := url.Parse(value)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
}

const secretEnvRemedy = "write the NAME of the variable that holds the key, such as AWS_SECRET_ACCESS_KEY, without ${}"

// secretLife is how long a static key is used before its variable or file is read again.
const secretLife = 5 * time.Minute

// staticKey reads the static key of the configuration.
func (c Config) staticKey(getenv func(string) string) (aws.Credentials, error) {
	key := aws.Credentials{AccessKeyID: c.AccessKeyID, Source: "storage.s3.access_key_id", CanExpire: true, Expires: time.Now().Add(secretLife)}
	if c.SecretAccessKeyEnv != "" {
		key.SecretAccessKey = getenv(c.SecretAccessKeyEnv)
		if key.SecretAccessKey == "" {
			return key, errors.New("storage.s3.secret_access_key_env names a variable that is not set, or empty: " + secretEnvRemedy)
		}
		return key, nil
	}
	data, err := os.ReadFile(c.SecretAccessKeyFile)
	if e, ok := errors.AsType[*os.PathError](err); ok {
		err = e.Err // without the path, which may be the key
	}
	if err != nil {
		return key, fmt.Errorf("reading storage.s3.secret_access_key_file, which must be the path of a file: %w", err)
	}
	if key.SecretAccessKey = strings.TrimSpace(string(data)); key.SecretAccessKey == "" {
		return key, errors.New("storage.s3.secret_access_key_file names a file that is empty")
	}
	return key, nil
}
