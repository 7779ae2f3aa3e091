package open_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"kafkadelta/storage/gcs"
	"kafkadelta/storage/local"
	"kafkadelta/storage/memory"
	"kafkadelta/storage/open"
	"kafkadelta/storage/s3"
)

func TestFolders(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	dir, err := os.Getwd() // with links resolved
	if err != nil {
		t.Fatal(err)
	}
	slashed := filepath.ToSlash(dir)
	if !strings.HasPrefix(slashed, "/") {
		slashed = "/" + slashed // a drive in a URI
	}
	cases := []struct{ name, uri, want string }{
		{"absolute path", filepath.Join(dir, "t"), "t"},
		{"relative path", "./t", "t"},
		{"bare name", "t", "t"},
		{"trailing slash", "./a/t/", "a/t"},
		{"path with percent", "./a%20b", "a%20b"},
		{"path with colon", "./a:b", "a:b"},
		{"path with space and at", "./a b@c", "a b@c"},
		{"file URI", "file://" + slashed + "/t", "t"},
		{"file URI in Hadoop's spelling", "file:" + slashed + "/t", "t"},
		{"file URI in capitals", "FILE://" + slashed + "/t", "t"},
		{"file URI with localhost", "file://localhost" + slashed + "/t", "t"},
		{"file URI is decoded", "file://" + slashed + "/a%20b%3F%25", "a b?%"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if runtime.GOOS == "windows" && strings.ContainsAny(tc.want, ":?") {
				t.Skip("no such names on Windows")
			}
			s, err := open.Open(t.Context(), tc.uri, open.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got, want := s.(*local.Store).Root(), filepath.Join(dir, filepath.FromSlash(tc.want)); got != want {
				t.Fatalf("opened %q, want %q", got, want)
			}
		})
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Fatalf("opening created %v, %v", left, err)
	}
}

func TestMemoryIsSharedByName(t *testing.T) {
	uri := "memory://" + t.Name()
	first, err := open.Open(t.Context(), uri, open.Options{})
	if err != nil {
		t.Fatal(err)
	}
	same, err := open.Open(t.Context(), uri+"/", open.Options{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := open.Open(t.Context(), uri+"/other", open.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := first.(*memory.Store); !ok || first != same || first == other {
		t.Fatalf("opened %T, same %v, other %v", first, first == same, first == other)
	}
}

func TestRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	cases := []struct{ name, uri, want string }{
		{"empty", "", "empty"},
		{"S3 with keys", "s3://key:" + secret + "@bucket/t", "AWS_ACCESS_KEY_ID"},
		{"S3 with a port", "s3://localhost:9000/bucket/t", "AWS_ENDPOINT_URL"},
		{"S3 with a query", "s3a://bucket/t?key=" + secret, "no query"},
		{"S3 without slashes", "s3:bucket/t", "two slashes"},
		{"S3 without a bucket", "s3:///t", "no name of a bucket"},
		{"S3 with an empty part", "s3://bucket//t", "\"..\" part"},
		{"S3 in Hadoop's old spelling", "s3n://bucket/t", "write s3://"},
		{"S3 Express", "s3://name--use1-az4--x-s3/t", "directory bucket"},
		{"cloud says what is supported", "hdfs://node/t", "memory://name"},
		{"cloud has a hint", "HDFS://node/t", "this build has no backend"},
		{"GCS misspelled", "gcs://bucket/t", "write gs://"},
		{"GCS with keys", "gs://key:" + secret + "@bucket/t", "GOOGLE_APPLICATION_CREDENTIALS"},
		{"GCS with a port", "gs://localhost:4443/bucket/t", "STORAGE_EMULATOR_HOST"},
		{"GCS with a query", "gs://bucket/t?token=" + secret, "no query"},
		{"GCS without slashes", "gs:bucket/t", "two slashes"},
		{"GCS without a bucket", "gs:///t", "no name of a bucket"},
		{"GCS with a name that no bucket has", "gs://Bucket/t", "no name of a bucket"},
		{"GCS with an empty part", "gs://bucket//t", "\"..\" part"},
		{"misspelled", "fiel:///t", "misspelled"},
		{"scheme without slashes", "gs5:bucket/t", `scheme "gs5"`},
		{"home", "~/t", "~ is expanded by shells only"},
		{"a file", file, "it is a file"},
		{"path with query", "account.blob.example/t?sig=" + secret, "a path has no query"},
		{"file with host", "file://data/t", "three slashes"},
		{"file with user", "file://me:" + secret + "@localhost/t", "names no host"},
		{"file with query", "file:///t?sig=" + secret, "%3F"},
		{"file with fragment", "file:///t#x", "%23"},
		{"file with bad encoding", "file:///t%zz", "%25"},
		{"file relative", "file:t", "absolute path"},
		{"file without path", "file://", "absolute path"},
		{"memory without name", "memory://", "memory://name"},
		{"memory with path only", "memory:/x", "memory://name"},
		{"memory with query", "memory://x?k=" + secret, "without ?"},
	}
	if runtime.GOOS != "windows" {
		cases = append(cases, struct{ name, uri, want string }{"drive", `C:\t`, "drive letter"})
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s, err := open.Open(t.Context(), tc.uri, open.Options{})
			if err == nil {
				t.Fatalf("opened %T", s)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%q does not say %q", err, tc.want)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%q tells the secret", err)
			}
		})
	}
}

func TestS3Forms(t *testing.T) {
	for uri, want := range map[string]string{
		"s3://bucket/a/b":     "s3://bucket/a/b",
		"s3a://bucket/a/b/":   "s3a://bucket/a/b",
		"S3://my.bucket/a%20": "s3://my.bucket/a%20",
		"s3://bucket":         "s3://bucket",
		"s3://bucket/":        "s3://bucket",
	} {
		s, err := open.Open(t.Context(), uri, open.Options{})
		if err != nil {
			t.Errorf("%s: %v", uri, err)
		} else if got := s.(*s3.Store).Location().String(); got != want {
			t.Errorf("%s is opened as %s, want %s", uri, got, want)
		}
	}
}

func TestGCSForms(t *testing.T) {
	for uri, want := range map[string]string{
		"gs://bucket/a/b":           "gs://bucket/a/b",
		"gs://bucket/a/b/":          "gs://bucket/a/b",
		"GS://my.bucket_1/a%20 b=ü": "gs://my.bucket_1/a%20 b=ü",
		"gs://bucket":               "gs://bucket",
		"gs://bucket/":              "gs://bucket",
	} {
		s, err := open.Open(t.Context(), uri, open.Options{})
		if err != nil {
			t.Errorf("%s: %v", uri, err)
		} else if got := s.(*gcs.Store).URL(); got != want {
			t.Errorf("%s is opened as %s, want %s", uri, got, want)
		}
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open.Open(ctx, "./t", open.Options{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

const secret = "hunter2"

func TestRedact(t *testing.T) {
	cases := []struct{ name, uri, want string }{
		{"nothing to hide", "s3://bucket/a/b", "s3://bucket/a/b"},
		{"path", "/data/a b@c:d", "/data/a b@c:d"},
		{"relative path", "./t", "./t"},
		{"Windows path", `C:\data\t`, `C:\data\t`},
		{"file", "file:///data/a@b", "file:///data/a@b"},
		{"file without slashes", "file:/data/a@b", "file:/data/a@b"},
		{"file with user", "file://me:hunter2@host/a", "file://REDACTED@host/a"},
		{"empty", "", ""},
		{"user info", "s3://key:hunter2@bucket/a", "s3://REDACTED@bucket/a"},
		{"user only", "s3://hunter2@bucket/a", "s3://REDACTED@bucket/a"},
		{"query", "https://account/c/t?sv=1&sig=hunter2", "https://account/c/t?REDACTED"},
		{"fragment", "https://account/c/t#hunter2", "https://account/c/t#REDACTED"},
		{"both", "s3://key:hunter2@bucket/a?b=hunter2", "s3://REDACTED@bucket/a?REDACTED"},
		{"container is an address", "abfss://container@account/t?sig=hunter2", "abfss://container@account/t?REDACTED"},
		{"container with key", "abfss://container:hunter2@account/t", "abfss://REDACTED@account/t"},
		{"key with slash", "s3://key:hun/ter2@bucket/a", "s3://REDACTED@bucket/a"},
		{"key with at", "s3://key:hun@ter2@bucket/a", "s3://REDACTED@bucket/a"},
		{"key with question mark", "s3://key:hun?ter2@bucket/a", "s3://REDACTED"},
		{"query with at", "s3://bucket/a?user=me@hunter2", "s3://REDACTED"},
		{"no slashes", "s3:key:hunter2@bucket", "s3:REDACTED@bucket"},
		{"capitals", "S3://key:hunter2@bucket", "S3://REDACTED@bucket"},
		{"scheme forgotten", "account/c/t?sig=hunter2", "account/c/t?REDACTED"},
		{"not a URI at all", "s3://key:hunter2@bu cket/%zz\x00", "s3://REDACTED@bu cket/%zz\x00"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if got := open.Redact(tc.uri); got != tc.want {
				t.Fatalf("Redact(%q) = %q, want %q", tc.uri, got, tc.want)
			}
		})
	}
}

// FuzzRedact looks for a way past: whatever net/url takes for a password or query must not come out.
func FuzzRedact(f *testing.F) {
	f.Add("s3", "key", "hunter2", "bucket/a", "sig=hunter2")
	f.Add("s3", "k@y", "hun?t/er#2", "b", "x@y")
	f.Fuzz(func(t *testing.T, scheme, user, password, rest, query string) {
		password, query = "secret-one"+password, "secret-two"+query
		for _, uri := range []string{
			scheme + "://" + user + ":" + password + "@" + rest + "?" + query,
			scheme + "://" + url.UserPassword(user, password).String() + "@" + rest + "?" + query,
		} {
			if u, err := url.Parse(uri); err != nil || u.User == nil || len(u.Scheme) < 2 {
				continue
			}
			if got := open.Redact(uri); strings.Contains(got, "secret-one") || strings.Contains(got, "secret-two") {
				t.Fatalf("Redact(%q) = %q", uri, got)
			}
		}
	})
}
