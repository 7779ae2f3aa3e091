package auth

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const mskBroker = "b-1.example.abc123.c2.kafka.eu-west-1.amazonaws.com:9098"

// clearAWS keeps the machine's own settings out.
func clearAWS(t *testing.T) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("AWS_CONFIG_FILE", write(t, ""))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", write(t, ""))
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

// signedWith checks what is sent to a broker against a signature of the SDK's own, and returns it.
func signedWith(t *testing.T, sent, region string, c awssdk.Credentials) map[string]string {
	t.Helper()
	got := map[string]string{}
	if err := json.Unmarshal([]byte(sent), &got); err != nil {
		t.Fatalf("%q is sent: %v", sent, err)
	}
	at, err := time.Parse("20060102T150405Z", got["x-amz-date"])
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+got["host"]+"/?Action=kafka-cluster%3AConnect&X-Amz-Expires="+got["x-amz-expires"], nil)
	if err != nil {
		t.Fatal(err)
	}
	const ofNothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	signed, _, err := v4.NewSigner().PresignHTTP(t.Context(), c, r, ofNothing, "kafka-cluster", region, at)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(signed)
	if err != nil {
		t.Fatal(err)
	}
	if want := u.Query().Get("X-Amz-Signature"); got["x-amz-signature"] != want || want == "" {
		t.Errorf("the signature is %s, the SDK's own is %s", got["x-amz-signature"], want)
	}
	return got
}

// TestMSKSignsForTheBroker takes credentials of the environment and the region of the broker's name.
func TestMSKSignsForTheBroker(t *testing.T) {
	clearAWS(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIA")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
	t.Setenv("AWS_SESSION_TOKEN", "session")
	c := awssdk.Credentials{AccessKeyID: "AKIA", SecretAccessKey: "hunter2", SessionToken: "session"}
	m := newMSK(SASLConfig{})
	sent, err := first(t, m, mskBroker)
	if err != nil {
		t.Fatal(err)
	}
	got := signedWith(t, sent, "eu-west-1", c)
	if got["host"] != strings.TrimSuffix(mskBroker, ":9098") || got["x-amz-security-token"] != "session" || got["user-agent"] != "kafkadelta" || strings.Contains(sent, "hunter2") {
		t.Errorf("%v is sent", got)
	}
	_, err = first(t, m, "kafka.internal:9098")
	wantError(t, err, true, "region")
	t.Setenv("AWS_REGION", "us-east-2")
	if sent, err = first(t, m, "kafka.internal:9098"); err != nil {
		t.Fatal(err)
	}
	signedWith(t, sent, "us-east-2", c)
}

// TestMSKWithTheRoleOfAContainer takes credentials from the endpoint of a container, again when they end.
func TestMSKWithTheRoleOfAContainer(t *testing.T) {
	clearAWS(t)
	asked, status := 0, http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "hunter2" {
			t.Error("the token is missing")
		}
		asked++
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"AccessKeyId":"AKIA%d","SecretAccessKey":"secret","Token":"t","Expiration":%q}`, asked, time.Now().Add(-time.Minute).UTC().Format(time.RFC3339))
	}))
	defer server.Close()
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.URL)
	t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "hunter2")
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	m := newMSK(SASLConfig{})
	for n := 1; n <= 2; n++ {
		sent, err := first(t, m, mskBroker)
		if err != nil || !strings.Contains(sent, fmt.Sprintf("AKIA%d/", n)) {
			t.Errorf("%q, %v is sent", sent, err)
		}
	}
	status = http.StatusForbidden
	_, err := first(t, m, mskBroker)
	wantError(t, err, true, "getting AWS credentials")
	status = http.StatusBadGateway
	_, err = first(t, m, mskBroker)
	wantError(t, err, false, "getting AWS credentials")
	server.Close() // it has given some before, so it is down
	_, err = first(t, m, mskBroker)
	wantError(t, err, false, "getting AWS credentials")
	_, err = first(t, newMSK(SASLConfig{}), mskBroker)
	wantError(t, err, true, "getting AWS credentials")
}

// TestMSKAssumesARole asks STS for the role, in the broker's region.
func TestMSKAssumesARole(t *testing.T) {
	clearAWS(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIA")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
	const role = "arn:aws:iam::123456789012:role/reader"
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Authorization"), "/eu-west-1/sts/") || r.FormValue("RoleArn") != role {
			t.Errorf("asked for %q by %q", r.FormValue("RoleArn"), r.Header.Get("Authorization"))
		}
		w.WriteHeader(status)
		if status != http.StatusOK {
			_, _ = w.Write([]byte(`<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not allowed to sts:AssumeRole</Message></Error></ErrorResponse>`))
			return
		}
		_, _ = fmt.Fprintf(w, `<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>assumed</SecretAccessKey>`+
			`<SessionToken>token</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	defer server.Close()
	t.Setenv("AWS_ENDPOINT_URL_STS", server.URL)
	sent, err := first(t, newMSK(SASLConfig{RoleARN: role}), mskBroker)
	if err != nil {
		t.Fatal(err)
	}
	signedWith(t, sent, "eu-west-1", awssdk.Credentials{AccessKeyID: "ASIA", SecretAccessKey: "assumed", SessionToken: "token"})
	status = http.StatusForbidden
	_, err = first(t, newMSK(SASLConfig{RoleARN: role}), mskBroker)
	wantError(t, err, true, "AccessDenied")
}

// TestMSKWithoutCredentials says so, instead of waiting for some.
func TestMSKWithoutCredentials(t *testing.T) {
	clearAWS(t)
	_, err := first(t, newMSK(SASLConfig{}), mskBroker)
	wantError(t, err, true, "getting AWS credentials")
}
