package open_test

import (
	"strings"
	"testing"

	"kafkadelta/storage/azure"
	"kafkadelta/storage/open"
)

// azureEnv is the environment of an account with a key.
func azureEnv(more map[string]string) func(string) string {
	return func(name string) string {
		if v, ok := more[name]; ok {
			return v
		}
		return map[string]string{"AZURE_STORAGE_KEY": azure.AzuriteKey}[name]
	}
}

func TestAzureForms(t *testing.T) {
	const blob = "https://account.blob.core.windows.net"
	cases := []struct{ uri, want string }{
		{"abfss://c@account.dfs.core.windows.net/a/b", blob + "/c/a/b"},
		{"abfss://c@account.dfs.core.windows.net/a/b/", blob + "/c/a/b"},
		{"abfss://c@account.dfs.core.windows.net", blob + "/c"},
		{"abfss://c@account.blob.core.windows.net/a", blob + "/c/a"},
		{"ABFSS://c@Account.DFS.core.windows.net/a", blob + "/c/a"},
		{"abfs://c@account.dfs.core.windows.net/a", blob + "/c/a"},
		{"abfss://c@account/a", blob + "/c/a"},
		{"abfss://$web@account.dfs.core.windows.net/a", blob + "/$web/a"},
		{"wasbs://c@account.blob.core.windows.net/a", blob + "/c/a"},
		{"wasb://c@account.blob.core.windows.net/a", blob + "/c/a"},
		{"az://c/a/b", blob + "/c/a/b"},
		{"azure://c/a/b", blob + "/c/a/b"},
		{"abfss://c/a/b", blob + "/c/a/b"},
		{"az://c@account.blob.core.windows.net/a", blob + "/c/a"},
		{"https://account.blob.core.windows.net/c/a/b", blob + "/c/a/b"},
		{"https://account.dfs.core.windows.net/c/a/b", blob + "/c/a/b"},
		{"https://account.blob.core.windows.net/c", blob + "/c"},
		{"abfss://c@account.dfs.core.windows.net/a%20b/%C3%BC%25", blob + "/c/a b/ü%"},
		{"abfss://c@account.dfs.core.windows.net/date=2021-01-01/x+y", blob + "/c/date=2021-01-01/x+y"},
		{"abfss://c@account.dfs.core.chinacloudapi.cn/a", "https://account.blob.core.chinacloudapi.cn/c/a"},
		{"abfss://c@account.dfs.core.usgovcloudapi.net/a", "https://account.blob.core.usgovcloudapi.net/c/a"},
		{"https://account.z12.blob.storage.azure.net/c/a", "https://account.z12.blob.storage.azure.net/c/a"},
		{"abfss://c@account.privatelink.dfs.core.windows.net/a", "https://account.privatelink.blob.core.windows.net/c/a"},
		{"http://127.0.0.1:10000/account/c/a", "http://127.0.0.1:10000/account/c/a"},
		{"http://[::1]:10000/account/c/a", "http://[::1]:10000/account/c/a"},
		{"http://azurite:10000/account/c/a", "http://azurite:10000/account/c/a"},
		{"https://localhost:10000/account/c", "https://localhost:10000/account/c"},
	}
	for _, tc := range cases {
		t.Run(tc.uri, func(t *testing.T) {
			s, err := open.Open(t.Context(), tc.uri, open.Options{Getenv: azureEnv(map[string]string{"AZURE_STORAGE_ACCOUNT": "account"})})
			if err != nil {
				t.Fatal(err)
			}
			if got := s.(*azure.Store).URL(); got != tc.want {
				t.Fatalf("opened %s, want %s", got, tc.want)
			}
		})
	}
}

// TestAzureEndpoint lets settings and environment name the endpoint.
func TestAzureEndpoint(t *testing.T) {
	const azurite = "http://azurite:10000/devstoreaccount1"
	cases := []struct {
		name, uri string
		config    azure.Config
		env       map[string]string
		want      string
	}{
		{"of the settings", "abfss://c@devstoreaccount1.dfs.core.windows.net/a", azure.Config{Endpoint: azurite}, nil, azurite + "/c/a"},
		{"of the settings without the account", "az://c/a", azure.Config{Endpoint: "http://azurite:10000", Account: "devstoreaccount1"}, nil, azurite + "/c/a"},
		{"a private one", "az://c/a", azure.Config{Endpoint: "https://data.example.com/", Account: "acc"}, nil, "https://data.example.com/c/a"},
		{"account of the settings", "az://c/a", azure.Config{Account: "other"}, nil, "https://other.blob.core.windows.net/c/a"},
		{
			"of the connection string", "abfss://c@devstoreaccount1.dfs.core.windows.net/a", azure.Config{},
			map[string]string{"AZURE_STORAGE_CONNECTION_STRING": "AccountName=devstoreaccount1;AccountKey=a2V5;BlobEndpoint=" + azurite + ";"}, azurite + "/c/a",
		},
		{
			"suffix of the connection string", "az://c/a", azure.Config{},
			map[string]string{"AZURE_STORAGE_CONNECTION_STRING": "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=a2V5;EndpointSuffix=core.chinacloudapi.cn"},
			"https://acc.blob.core.chinacloudapi.cn/c/a",
		},
		{
			"development storage", "az://c/a", azure.Config{},
			map[string]string{"AZURE_STORAGE_CONNECTION_STRING": "UseDevelopmentStorage=true"}, "http://127.0.0.1:10000/devstoreaccount1/c/a",
		},
		{
			"an http URI wins over the connection string", "http://127.0.0.1:1/devstoreaccount1/c/a", azure.Config{},
			map[string]string{"AZURE_STORAGE_CONNECTION_STRING": "UseDevelopmentStorage=true"}, "http://127.0.0.1:1/devstoreaccount1/c/a",
		},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s, err := open.Open(t.Context(), tc.uri, open.Options{Config: open.Config{Azure: tc.config}, Getenv: azureEnv(tc.env)})
			if err != nil {
				t.Fatal(err)
			}
			if got := s.(*azure.Store).URL(); got != tc.want {
				t.Fatalf("opened %s, want %s", got, tc.want)
			}
		})
	}
}

func TestAzureRefused(t *testing.T) {
	const host = "account.dfs.core.windows.net"
	cases := []struct{ name, uri, want string }{
		{"SAS", "https://account.blob.core.windows.net/c/t?sv=1&sig=" + secret, "AZURE_STORAGE_SAS_TOKEN"},
		{"SAS of a container", "abfss://c@" + host + "/t?sig=" + secret, "AZURE_STORAGE_SAS_TOKEN"},
		{"fragment", "abfss://c@" + host + "/t#" + secret, "%23"},
		{"key", "abfss://c:" + secret + "@" + host + "/t", "AZURE_STORAGE_KEY"},
		{"user of an https URI", "https://" + secret + "@account.blob.core.windows.net/c/t", "https URI has no user"},
		{"dot at the end of a part", "abfss://c@" + host + "/a./t", `"a."`},
		{"backslash", "az://c/a%5Ct", `"a\\t"`},
		{"bad encoding", "abfss://c@" + host + "/%zz", "%25"},
		{"no host", "abfss:///t", "names no host"},
		{"no slashes", "abfss:c@" + host, "names no host"},
		{"no container", "https://account.blob.core.windows.net/", "names no container"},
		{"host in the place of the container", "abfss://" + host + "/c/t", "names no container"},
		{"another host", "https://bucket.s3.amazonaws.com/t/x", "not one of Azure's"},
		{"custom domain", "https://data.example.com/c/t", "storage.azure.endpoint"},
		{"secondary", "https://account-secondary.blob.core.windows.net/c/t", "leave -secondary out"},
		{"dots", "abfss://c@" + host + "/a/../b", `part ".."`},
		{"double slash", "abfss://c@" + host + "/a//b", `part ""`},
		{"no account", "az://c/t", "no storage account is named"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			_, err := open.Open(t.Context(), tc.uri, open.Options{Getenv: azureEnv(nil)})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v does not say %q", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%v tells the secret", err)
			}
		})
	}
}
