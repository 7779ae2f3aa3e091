package s3_test

import (
	"os"
	"testing"

	"kafkadelta/internal/storetest"
	"kafkadelta/storage"
	"kafkadelta/storage/s3"
	"kafkadelta/storage/storagetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Run(m)) }

const secretVariable = "TEST_SECRET_KEY"

// settings reach a test's bucket by the configuration alone.
func settings(b storetest.S3) s3.Config {
	return s3.Config{Endpoint: b.Endpoint, Region: b.Region, AccessKeyID: b.AccessKey, SecretAccessKeyEnv: secretVariable}
}

func openIn(t *testing.T, b storetest.S3, where s3.Location, cfg s3.Config, observe func(operation, outcome string)) *s3.Store {
	t.Helper()
	s, err := s3.New(t.Context(), where, cfg, s3.Options{Observe: observe, Getenv: func(name string) string {
		if name == secretVariable {
			return b.SecretKey
		}
		return ""
	}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	for name, start := range map[string]func(testing.TB) storetest.S3{"versitygw": storetest.Versitygw, "moto": storetest.Moto} {
		t.Run(name, func(t *testing.T) {
			buckets := map[storage.Store]storetest.S3{}
			storagetest.Run(t, storagetest.Config{
				New: func(t *testing.T) storage.Store {
					b := start(t)
					s := openIn(t, b, s3.Location{Scheme: "s3", Bucket: b.Bucket, Prefix: "folder/a table"}, settings(b), nil)
					buckets[s] = b
					return s
				},
				Reopen: func(t *testing.T, s storage.Store) storage.Store {
					b := buckets[s]
					return openIn(t, b, s3.Location{Scheme: "s3", Bucket: b.Bucket, Prefix: "folder/a table"}, settings(b), nil)
				},
			})
		})
	}
}
