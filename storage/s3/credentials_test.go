package s3_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kafkadelta/storage/s3"
)

// services stand for everything that gives credentials: STS, the containers' endpoint (EKS pod identity, ECS), and the
// instance's metadata. Each gives keys of its own, so that the signature of a request tells where they are from.
func services(t *testing.T) (address string, asked *[]url.Values) {
	t.Helper()
	asked = &[]url.Values{}
	expires := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		*asked = append(*asked, form)
		switch {
		case form.Get("RoleArn") == "arn:aws:iam::1:role/forbidden":
			w.WriteHeader(403)
			_, _ = io.WriteString(w, `<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>`)
		case form.Get("WebIdentityToken") == "expired":
			w.WriteHeader(400)
			_, _ = io.WriteString(w, `<ErrorResponse><Error><Code>ExpiredTokenException</Code><Message>too late</Message></Error></ErrorResponse>`)
		case form.Get("Action") != "":
			action := form.Get("Action")
			_, _ = fmt.Fprintf(w, `<%[1]sResponse><%[1]sResult><Credentials><AccessKeyId>KEY-OF-%[1]s</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>%[2]s</Expiration></Credentials></%[1]sResult></%[1]sResponse>`, action, expires)
		case r.URL.Path == "/container":
			_, _ = fmt.Fprintf(w, `{"AccessKeyId":"KEY-OF-container","SecretAccessKey":"s","Token":"t","Expiration":%q}`, expires)
		case r.URL.Path == "/latest/api/token":
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
			_, _ = io.WriteString(w, "token")
		case strings.HasSuffix(r.URL.Path, "/security-credentials/"):
			_, _ = io.WriteString(w, "role")
		case strings.HasSuffix(r.URL.Path, "/security-credentials/role"):
			_, _ = fmt.Fprintf(w, `{"Code":"Success","AccessKeyId":"KEY-OF-instance","SecretAccessKey":"s","Token":"t","Expiration":%q,"Type":"AWS-HMAC","LastUpdated":"2026-01-01T00:00:00Z"}`, expires)
		default:
			w.WriteHeader(404)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, asked
}

// bare takes everything away by which the machine that runs the test may have credentials.
func bare(t *testing.T) {
	t.Helper()
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

func file(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

const profiles = `[default]
aws_access_key_id = KEY-OF-default
aws_secret_access_key = s
[other]
aws_access_key_id = KEY-OF-other
aws_secret_access_key = s
`

// TestCredentialsAreTakenFrom looks at whose key signs a request.
func TestCredentialsAreTakenFrom(t *testing.T) {
	const role = "arn:aws:iam::1:role/loader"
	for _, tc := range []struct {
		name  string
		env   map[string]string
		cfg   s3.Config
		key   string
		asked url.Values // of STS
	}{
		{name: "the environment", env: map[string]string{"AWS_ACCESS_KEY_ID": "KEY-OF-env", "AWS_SECRET_ACCESS_KEY": "s"}, key: "KEY-OF-env"},
		{name: "the default profile", env: map[string]string{"AWS_SHARED_CREDENTIALS_FILE": file(t, profiles)}, key: "KEY-OF-default"},
		{name: "AWS_PROFILE", env: map[string]string{"AWS_SHARED_CREDENTIALS_FILE": file(t, profiles), "AWS_PROFILE": "other"}, key: "KEY-OF-other"},
		{name: "profile", env: map[string]string{"AWS_SHARED_CREDENTIALS_FILE": file(t, profiles)}, cfg: s3.Config{Profile: "other"}, key: "KEY-OF-other"},
		{name: "a static key", env: map[string]string{"AWS_ACCESS_KEY_ID": "KEY-OF-env", "AWS_SECRET_ACCESS_KEY": "s"},
			cfg: s3.Config{AccessKeyID: "KEY-OF-config", SecretAccessKeyEnv: secretVariable}, key: "KEY-OF-config"},
		{name: "a static key, secret in a file", cfg: s3.Config{AccessKeyID: "KEY-OF-config", SecretAccessKeyFile: file(t, secretValue+"\n")}, key: "KEY-OF-config"},
		{name: "EKS: web identity in the environment", env: map[string]string{"AWS_ROLE_ARN": role, "AWS_WEB_IDENTITY_TOKEN_FILE": file(t, "token"), "AWS_ROLE_SESSION_NAME": "pod"},
			key: "KEY-OF-AssumeRoleWithWebIdentity", asked: url.Values{"RoleArn": {role}, "WebIdentityToken": {"token"}, "RoleSessionName": {"pod"}}},
		{name: "web identity", cfg: s3.Config{RoleARN: role, WebIdentityTokenFile: file(t, "token")},
			key: "KEY-OF-AssumeRoleWithWebIdentity", asked: url.Values{"RoleArn": {role}, "WebIdentityToken": {"token"}, "RoleSessionName": {"kafkadelta"}}},
		{name: "an assumed role", env: map[string]string{"AWS_ACCESS_KEY_ID": "KEY-OF-env", "AWS_SECRET_ACCESS_KEY": "s"},
			cfg: s3.Config{RoleARN: role, ExternalID: "ext", SessionName: "me"},
			key: "KEY-OF-AssumeRole", asked: url.Values{"RoleArn": {role}, "ExternalId": {"ext"}, "RoleSessionName": {"me"}}},
		{name: "a role assumed on EKS", env: map[string]string{"AWS_ROLE_ARN": role + "-of-pod", "AWS_WEB_IDENTITY_TOKEN_FILE": file(t, "token")},
			cfg: s3.Config{RoleARN: role}, key: "KEY-OF-AssumeRole", asked: url.Values{"RoleArn": {role}}},
		{name: "EKS pod identity", env: map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "SERVICES/container", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": file(t, "token")}, key: "KEY-OF-container"},
		{name: "the instance", env: map[string]string{"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": "SERVICES"}, key: "KEY-OF-instance"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bare(t)
			address, asked := services(t)
			t.Setenv("AWS_ENDPOINT_URL_STS", address)
			for name, value := range tc.env {
				t.Setenv(name, strings.Replace(value, "SERVICES", address, 1))
			}
			f := newFake(t, func(int, http.ResponseWriter, *http.Request) {})
			tc.cfg.Endpoint = f.URL
			if err := f.open(t, tc.cfg).Put(t.Context(), "x", nil); err != nil {
				t.Fatal(err)
			}
			if got := f.headers[0].Get("Authorization"); !strings.Contains(got, "Credential="+tc.key+"/") {
				t.Errorf("signed by %q, want %s", got, tc.key)
			}
			for name, want := range tc.asked {
				if got := (*asked)[len(*asked)-1][name]; len(got) != 1 || got[0] != want[0] {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

// TestNoOrWrongCredentials: a clear error within seconds, which is not tried again.
func TestNoOrWrongCredentials(t *testing.T) {
	hole := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(hole.Close)
	for _, tc := range []struct {
		name string
		env  map[string]string
		cfg  s3.Config
		says string
	}{
		{"none at all", nil, s3.Config{}, "AWS_ACCESS_KEY_ID"},
		{"none, and nobody answers for the instance", map[string]string{"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": hole.URL}, s3.Config{}, "AWS_ACCESS_KEY_ID"},
		{"a role that may not be assumed", map[string]string{"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}, s3.Config{RoleARN: "arn:aws:iam::1:role/forbidden"}, "trust policy"},
		{"a token that is expired", nil, s3.Config{RoleARN: "arn:aws:iam::1:role/x", WebIdentityTokenFile: file(t, "expired")}, "expired"},
		{"a token's file that is not there", nil, s3.Config{RoleARN: "arn:aws:iam::1:role/x", WebIdentityTokenFile: "/does/not/exist"}, "/does/not/exist"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bare(t)
			address, _ := services(t)
			t.Setenv("AWS_ENDPOINT_URL_STS", address)
			for name, value := range tc.env {
				t.Setenv(name, value)
			}
			f := newFake(t, func(int, http.ResponseWriter, *http.Request) { t.Error("a request was sent") })
			tc.cfg.Endpoint = f.URL
			began := time.Now()
			err := f.open(t, tc.cfg).Put(t.Context(), "x", nil)
			if !errors.Is(err, fs.ErrPermission) {
				t.Errorf("got %v, want fs.ErrPermission", err)
			}
			contains(t, err, tc.says)
			if took := time.Since(began); took > credentialsLimit {
				t.Errorf("took %v", took)
			}
		})
	}
}

const credentialsLimit = 20 * time.Second

func TestSettingsAreRefused(t *testing.T) {
	bare(t)
	for name, tc := range map[string]struct {
		cfg  s3.Config
		says string
	}{
		"a secret without its key":            {s3.Config{SecretAccessKeyEnv: "A"}, "access_key_id"},
		"a key without its secret":            {s3.Config{AccessKeyID: "k"}, "secret_access_key_env"},
		"a secret instead of a name":          {s3.Config{AccessKeyID: "k", SecretAccessKeyEnv: secretValue}, "NAME of the variable"},
		"a secret instead of a path":          {s3.Config{AccessKeyID: "k", SecretAccessKeyFile: secretValue}, "must be the path"},
		"an endpoint with keys":               {s3.Config{Endpoint: "http://k:" + secretValue + "@host"}, "not a URL such as"},
		"an endpoint without scheme":          {s3.Config{Endpoint: "localhost:9000"}, "not a URL such as"},
		"an external id without role":         {s3.Config{ExternalID: "x"}, "role_arn"},
		"a role's short name":                 {s3.Config{RoleARN: "loader"}, "arn:aws:iam"},
		"an unknown encryption":               {s3.Config{Encryption: "aes"}, "sse-kms"},
		"a KMS key without sse-kms":           {s3.Config{KMSKeyID: "k"}, "sse-kms"},
		"an unknown log store":                {s3.Config{LogStore: "zookeeper"}, "dynamodb"},
		"settings of a log store without one": {s3.Config{DynamoDB: s3.DynamoDBConfig{Table: "x"}}, "log_store"},
		"a profile that is not there":         {s3.Config{Profile: "nobody"}, "nobody"},
		"a certificate that is not there":     {s3.Config{CAFile: "/does/not/exist"}, "ca_file"},
	} {
		_, err := s3.New(t.Context(), s3.Location{Scheme: "s3", Bucket: "bucket"}, tc.cfg, s3.Options{})
		if err == nil {
			t.Errorf("%s: taken", name)
			continue
		}
		contains(t, err, tc.says)
	}
}

// TestFoundEndpointsAreRefused: the SDK quotes what it can't use, and a user in a URL is a secret.
func TestFoundEndpointsAreRefused(t *testing.T) {
	for _, variable := range []string{"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL_DYNAMODB"} {
		for _, value := range []string{"http://u:" + secretValue + "@host", "http://host/?key=" + secretValue, "http://" + secretValue + "@ host", "host:9000"} {
			bare(t)
			t.Setenv(variable, value)
			_, err := s3.New(t.Context(), s3.Location{Scheme: "s3", Bucket: "bucket"}, s3.Config{}, s3.Options{})
			if err == nil {
				t.Errorf("%s of %s: taken", variable, value)
				continue
			}
			contains(t, err, variable)
		}
	}
}
