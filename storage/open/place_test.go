package open_test

import (
	"os"
	"path/filepath"
	"testing"

	"kafkadelta/storage/azure"
	"kafkadelta/storage/gcs"
	"kafkadelta/storage/open"
	"kafkadelta/storage/s3"
)

// TestPlaces: the URIs of a line lead to one place, those of two lines to two.
func TestPlaces(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.Mkdir("real", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", "link"); err != nil {
		t.Skip(err)
	}
	places := map[string]string{} // place -> its first URI
	for _, uris := range [][]string{
		{"real/t", "./real/t/", "real/../real//t", filepath.Join(dir, "real", "t"), "file://" + dir + "/real/t", "file:" + dir + "/link/t/", "link/t", "FILE://localhost" + dir + "/real/%74"},
		{"real/t/missing/deeper", "link/t/missing/deeper"},
		{"real", "link"},
		{"real/a%20b"}, {"real/a b", "file://" + dir + "/link/a%20b"},
		{"memory://name", "memory://name/", "MEMORY://name"}, {"memory://name/deeper"},
		{"s3://bucket/a/b", "s3a://bucket/a/b/", "S3://bucket/a/b"}, {"s3://bucket/a"}, {"s3://bucket/a%20b"}, {"s3://other/a/b"},
		{"gs://bucket/a", "gs://bucket/a/"}, {"gs://bucket/b"},
		{
			"abfss://c@account.dfs.core.windows.net/a%20b", "abfs://c@account.blob.core.windows.net/a%20b/", "wasbs://c@account/a%20b", "az://c/a%20b",
			"https://account.blob.core.windows.net/c/a%20b", "https://Account.dfs.core.windows.net/c/a%20b",
		},
		{"az://c/a", "azure://c/a/"}, {"az://c@other/a"}, {"az://d/a"},
		{"http://127.0.0.1:10000/account/c/a"}, {"http://127.0.0.1:10001/account/c/a"},
		{""}, {"file:t"}, {"s3:bucket"}, {"gs://B"}, {"az://"}, {"hdfs://node/t"}, // not understood
	} {
		first := ""
		for i, uri := range uris {
			place := open.Place(uri, open.Options{Getenv: azureEnv(map[string]string{"AZURE_STORAGE_ACCOUNT": "account"})})
			if before, ok := places[place]; ok && i == 0 {
				t.Errorf("%s and %s are one place: %s", before, uri, place)
			}
			if i == 0 {
				first, places[place] = place, uri
			}
			if place != first {
				t.Errorf("%s is at %s, and %s at %s", uris[0], first, uri, place)
			}
		}
	}
}

// TestPlacesOfSettings: the server that settings or environment name is part of the place, unless the cloud's own.
func TestPlacesOfSettings(t *testing.T) {
	place := func(uri string, c open.Config, env map[string]string) string {
		return open.Place(uri, open.Options{Config: c, Getenv: func(name string) string { return env[name] }})
	}
	azurite := open.Config{Azure: azure.Config{Endpoint: "http://127.0.0.1:10000/devstoreaccount1"}}
	connection := map[string]string{"AZURE_STORAGE_CONNECTION_STRING": "AccountName=account;AccountKey=" + azure.AzuriteKey}
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{place("s3://bucket/t", open.Config{}, nil), place("s3://bucket/t", open.Config{S3: s3.Config{Endpoint: "https://s3.eu-west-1.amazonaws.com"}}, nil), true},
		{place("s3://bucket/t", open.Config{}, nil), place("s3://bucket/t", open.Config{S3: s3.Config{Endpoint: "http://minio:9000"}}, nil), false},
		{place("s3://bucket/t", open.Config{S3: s3.Config{Endpoint: "http://minio:9000/"}}, nil), place("s3a://bucket/t", open.Config{}, map[string]string{"AWS_ENDPOINT_URL": "http://minio:9000"}), true},
		{place("gs://bucket/t", open.Config{}, nil), place("gs://bucket/t", open.Config{GCS: gcs.Config{Endpoint: "https://storage.europe-west3.rep.googleapis.com"}}, nil), true},
		{place("gs://bucket/t", open.Config{}, nil), place("gs://bucket/t", open.Config{}, map[string]string{"STORAGE_EMULATOR_HOST": "localhost:4443"}), false},
		{place("az://c/t", azurite, map[string]string{"AZURE_STORAGE_ACCOUNT": "devstoreaccount1"}), place("http://127.0.0.1:10000/devstoreaccount1/c/t", open.Config{}, nil), true},
		{place("az://c/t", open.Config{}, connection), place("abfss://c@account.dfs.core.windows.net/t", open.Config{}, nil), true},
		{place("az://c/t", open.Config{Azure: azure.Config{Endpoint: "https://private.example.com", Account: "account"}}, nil), place("az://c@account/t", open.Config{}, nil), true},
	} {
		if (tt.a == tt.b) != tt.same {
			t.Errorf("%s and %s: the same place is to be %v", tt.a, tt.b, tt.same)
		}
	}
}
