package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// outcome is what a command line did.
type outcome struct {
	code           int
	stdout, stderr string
}

// commandLimit is more than any command here needs: one that waits for what never comes is stopped, and fails its test.
const commandLimit = 30 * time.Second

// command runs a command line in this process.
func command(t testing.TB, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
	defer cancel()
	var stdout, stderr buffer
	code := run(ctx, args, &stdout, &stderr)
	if ctx.Err() != nil {
		t.Fatalf("connector %s did not end in %v:\n%s%s", strings.Join(args, " "), commandLimit, stdout.String(), stderr.String())
	}
	return outcome{code, stdout.String(), stderr.String()}
}

// mustRun is command for one that must go well.
func mustRun(t testing.TB, args ...string) outcome {
	t.Helper()
	o := command(t, args...)
	if o.code != exitOK {
		t.Fatalf("connector %s: exit code %d\n%s%s", strings.Join(args, " "), o.code, o.stdout, o.stderr)
	}
	return o
}

// buffer can be read while a command writes to it.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// file writes text to a file of the given name.
func file(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const goodConfig = `name: web
source:
  brokers: [localhost:9092]
  topic: requests
table:
  uri: ./data/web
  schema: "id BIGINT, at TIMESTAMP"
`

func TestValidate(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("TOPIC", "from-the-environment")
	if err := os.WriteFile("good.yaml", []byte(strings.Replace(goodConfig, "requests", "${TOPIC}", 1)+"on_error: ${ON_ERROR:-skip}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := mustRun(t, "validate", "-c", "good.yaml")
	if want := "good.yaml is valid: topic from-the-environment goes to table ./data/web as stream \"web\"\n"; o.stdout != want {
		t.Errorf("got  %s\nwant %s", o.stdout, want)
	}
	if _, err := os.Stat("data"); err == nil {
		t.Error("validate made the table's folder")
	}
}

// TestConfigurationErrors holds what an operator reads: which file, line and column, what is wrong, and the remedy.
func TestConfigurationErrors(t *testing.T) {
	t.Setenv("SECRET", "hunter2-hunter2")
	for _, tt := range []struct {
		name, config, want string
	}{
		{
			"unknown key", strings.Replace(goodConfig, "brokers:", "broker:", 1),
			`Error: unknown key "source.broker" at c.yaml:3:3; did you mean "brokers"?`,
		},
		{
			"unknown key, nothing near", goodConfig + "colour: red\n",
			`Error: unknown key "colour" at c.yaml:8:1; known keys: dead_letters, flush, http, lanes, limits, memory, name, on_error, pipelines, shutdown_timeout, source, storage, table`,
		},
		{
			"wrong type", goodConfig + "lanes: many\n",
			`Error: wrong value "many" for lanes at c.yaml:8:8; expected an integer`,
		},
		{
			"duplicate key", goodConfig + "name: again\n",
			`Error: duplicate key "name" at c.yaml:8:1; first given at line 1`,
		},
		{
			"variable not set", strings.Replace(goodConfig, "requests", "${NOT_SET_ANYWHERE}", 1),
			`Error: unset environment variable NOT_SET_ANYWHERE in source.topic at c.yaml:4:10; set it, or give a default with ${NOT_SET_ANYWHERE:-default}`,
		},
		{
			"several mistakes", "name: a/b\nsource: {start: middle}\n",
			`Error: c.yaml: name "a/b" has a character that is not allowed: use letters, digits, '.', '_' and '-'
source.brokers is empty: name at least one broker as host:port
source.topic is empty: name the topic to read
source.start is "middle": use earliest or latest
table.uri is empty: name the table's folder`,
		},
		{
			"schema", strings.Replace(goodConfig, "BIGINT", "BIGINTEGER", 1),
			`Error: c.yaml: table.schema: schema DDL, character 4 near "BIGINTEGER": unknown type`,
		},
		{
			"partition column", goodConfig + "  partition_by: [day]\n",
			`"day"`,
		},
		{
			"value of a property", goodConfig + "  properties: {delta.dataSkippingNumIndexedCols: \"x\"}\n",
			`Error: c.yaml: table: the table property delta.dataSkippingNumIndexedCols is "x": use a whole number of at least -1`,
		},
		{
			"no key of a password", strings.Replace(goodConfig, "table:", "  sasl: {mechanism: plain, username: u, password: \"${SECRET}\"}\ntable:", 1),
			`Error: unknown key "source.sasl.password" at c.yaml:5:41; known keys: extensions, kerberos_file, keytab_file, mechanism, password_env,`,
		},
		{
			"a password for the name of its variable", strings.Replace(goodConfig, "table:", "  sasl: {mechanism: plain, username: u, password_env: \"${SECRET}\"}\ntable:", 1),
			`Error: c.yaml: source.sasl.password_env is not the name of a variable: write the NAME of the variable that holds the password`,
		},
		{
			"a password for the mechanism", strings.Replace(goodConfig, "table:", "  sasl: {mechanism: \"${SECRET}\", username: u, password_env: P}\ntable:", 1),
			`Error: c.yaml: source.sasl.mechanism is not one that is known: use plain, scram-sha-256, scram-sha-512, oauthbearer, aws-msk-iam or gssapi`,
		},
		{
			"a number from a variable that is none", goodConfig + "lanes: ${SECRET}\n",
			`Error: wrong value "${SECRET}" for lanes at c.yaml:8:8`,
		},
		{
			"a store with a password in its address", strings.Replace(goodConfig, "./data/web", "ftp://user:hunter2-hunter2@host/web", 1),
			"table.uri",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			if err := os.WriteFile("c.yaml", []byte(tt.config), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, cmd := range []string{"validate", "run"} {
				o := command(t, cmd, "-c", "c.yaml")
				if o.code != exitConfig {
					t.Errorf("%s: exit code %d, expected %d", cmd, o.code, exitConfig)
				}
				if !strings.Contains(o.stderr, tt.want) {
					t.Errorf("%s:\ngot  %s\nwant %s", cmd, o.stderr, tt.want)
				}
				if strings.Contains(o.stderr+o.stdout, "hunter2") {
					t.Errorf("%s shows a secret: %s", cmd, o.stderr)
				}
			}
		})
	}
}

// TestExampleConfigurations holds that every file in configs/ is one that works: `validate` also opens the table's store, with the
// secrets that the file asks for.
func TestExampleConfigurations(t *testing.T) {
	t.Setenv("S3_SECRET_KEY", "c2VjcmV0")
	t.Setenv("LAKE_CLIENT_SECRET", "c2VjcmV0")
	t.Setenv("LAKE_CONNECTION_STRING", "UseDevelopmentStorage=true")
	t.Setenv("LAKE_SAS", "sv=2024-11-04&sr=c&sp=rwdl&se=2100-01-01&sig=c2VjcmV0")
	t.Setenv("LAKE_CREDENTIAL", `{"type":"authorized_user","client_id":"id","client_secret":"secret","refresh_token":"token"}`)
	t.Setenv("LAKE_KEY_FILE", file(t, "key", "c2VjcmV0\n"))
	t.Setenv("LAKE_CERTIFICATE", certificate(t))
	t.Setenv("AZURE_TENANT_ID", "00000000-0000-0000-0000-000000000000") // as AKS does, with the next two
	t.Setenv("AZURE_CLIENT_ID", "11111111-1111-1111-1111-111111111111")
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", file(t, "token", "token"))

	entries, err := os.ReadDir("../../configs")
	if err != nil || len(entries) == 0 {
		t.Fatalf("no examples were found: %v", err)
	}
	for _, e := range entries {
		t.Run(e.Name(), func(t *testing.T) {
			if o := mustRun(t, "validate", "-c", filepath.Join("../../configs", e.Name())); !strings.Contains(o.stdout, "is valid") {
				t.Errorf("it says %q", o.stdout)
			}
		})
	}
}

// TestExamplesShowEveryKind holds that there is an example for each kind of store, credential and format.
func TestExamplesShowEveryKind(t *testing.T) {
	paths, err := filepath.Glob("../../configs/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var examples strings.Builder
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		examples.Write(text)
	}
	keys := documented(t, "configuration.md")
	for _, key := range []string{
		"source.format", "source.compression", "source.key.format", "source.sasl.mechanism", "storage.azure.credential", "storage.gcs.credential", "storage.s3.encryption", "storage.s3.log_store",
	} {
		cells := strings.Split(keys[key], " | ") // type, default, meaning
		values := regexp.MustCompile("`([a-z0-9_-]+)`").FindAllStringSubmatch(cells[len(cells)-1], -1)
		if len(values) == 0 {
			t.Errorf("docs/configuration.md names no value of %s", key)
		}
		name := key[strings.LastIndex(key, ".")+1:]
		for _, v := range values {
			if !regexp.MustCompile(`(?m)^[ #]*` + name + `: .*\b` + v[1] + `\b`).MatchString(examples.String()) {
				t.Errorf("no example in configs/ has %s: %s", key, v[1])
			}
		}
	}
	for _, key := range []string{
		"storage.s3.endpoint", "storage.s3.profile", "storage.s3.access_key_id", "storage.s3.role_arn", "storage.s3.web_identity_token_file",
	} {
		name := key[strings.LastIndex(key, ".")+1:]
		if !regexp.MustCompile(`(?m)^[ #]*` + name + `: `).MatchString(examples.String()) {
			t.Errorf("no example in configs/ has %s", key)
		}
	}
}

// certificate makes a certificate with its key, as a PEM file.
func certificate(t testing.TB) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, "principal.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))+
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}

func TestCommandLineMistakes(t *testing.T) {
	config := file(t, "good.yaml", goodConfig)
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"no such file":             {[]string{"run", "-c", "/no/such/file.yaml"}, "reading the configuration"},
		"no -c":                    {[]string{"run"}, `"config" not set`},
		"unknown flag":             {[]string{"run", "--until-the-end", "-c", config}, "connector run --help"},
		"unknown command":          {[]string{"walk"}, "walk"},
		"unknown command of table": {[]string{"table", "foo"}, `unknown command "foo" for "connector table"`},
		"unknown of dead-letters":  {[]string{"dead-letters", "foo"}, `unknown command "foo" for "connector dead-letters"`},
		"unknown of schema":        {[]string{"schema", "foo"}, `unknown command "foo" for "connector schema"`},
		"argument":                 {[]string{"run", config}, "connector run --help"},
		"log level":                {[]string{"run", "-c", config, "--log-level", "loud"}, "use debug, info, warn or error"},
		"log format":               {[]string{"run", "-c", config, "--log-format", "xml"}, "use text or json"},
		"inspect output":           {[]string{"table", "inspect", "/no/table", "-o", "yaml"}, "use text or json"},
		"inspect version":          {[]string{"table", "inspect", "/no/table", "--version", "-2"}, "use 0 or more"},
		"create schema":            {[]string{"table", "create", "/no/table", "--schema", "id BIGNUM"}, "--schema"},
	} {
		t.Run(name, func(t *testing.T) {
			o := command(t, tt.args...)
			if o.code != exitConfig || !strings.Contains(o.stderr, tt.want) {
				t.Errorf("exit code %d, expected %d with %q: %s", o.code, exitConfig, tt.want, o.stderr)
			}
		})
	}
}

func TestHelpAndVersion(t *testing.T) {
	o := mustRun(t, "run", "--help")
	for _, code := range []string{"0 ", "1 ", "2 ", "3 ", "4 ", "5 ", "6 ", "130 "} {
		if !strings.Contains(o.stdout, "\n  "+code) {
			t.Errorf("the help lacks exit code %s:\n%s", code, o.stdout)
		}
	}
	if o := mustRun(t, "version"); !strings.HasPrefix(o.stdout, "connector ") {
		t.Errorf("version prints %q", o.stdout)
	}
}

// TestStoppedBeforeItStarted has a stop that comes at once end well.
func TestStoppedBeforeItStarted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	config := file(t, "c.yaml", strings.NewReplacer("./data/web", filepath.Join(t.TempDir(), "web"), "localhost:9092", "127.0.0.1:1").Replace(goodConfig)+"http: {listen: \"off\"}\n")
	var stdout, stderr buffer
	if code := run(ctx, []string{"run", "-c", config}, &stdout, &stderr); code != exitOK {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
}
