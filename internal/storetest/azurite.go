package storetest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

// AzuriteImage is what docker-compose.yml uses too. AZURITE_IMAGE names another one.
const AzuriteImage = "mcr.microsoft.com/azure-storage/azurite:3.37.0"

// Azure is a container of an Azurite, made for one test.
type Azure struct {
	Endpoint         string // of the account, http://host:port/account
	Account, Key     string
	Container        string
	ConnectionString string
}

// The account that every Azurite has (learn.microsoft.com/azure/storage/common/storage-use-azurite).
const (
	azuriteAccount = "devstoreaccount1"
	azuriteKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

var azuriteContainers atomic.Int64

// Azurite returns a new container of the Azurite that the tests of this process share.
func Azurite(t testing.TB) Azure {
	t.Helper()
	image := AzuriteImage
	if name := os.Getenv("AZURITE_IMAGE"); name != "" {
		image = name
	}
	address := start(t, image,
		testcontainers.WithExposedPorts("10000/tcp"),
		testcontainers.WithCmd("azurite", "--blobHost", "0.0.0.0", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"),
		testcontainers.WithWaitStrategy(wait.ForHTTP("/").WithPort("10000/tcp").WithStatusCodeMatcher(func(int) bool { return true }).
			WithPollInterval(100*time.Millisecond).WithStartupTimeout(time.Minute)),
	)
	a := Azure{
		Endpoint:  "http://" + address + "/" + azuriteAccount,
		Account:   azuriteAccount,
		Key:       azuriteKey,
		Container: fmt.Sprintf("test-%d-%d", os.Getpid(), azuriteContainers.Add(1)),
	}
	a.ConnectionString = fmt.Sprintf("DefaultEndpointsProtocol=http;AccountName=%s;AccountKey=%s;BlobEndpoint=%s;", a.Account, a.Key, a.Endpoint)
	a.create(t)
	return a
}

// create makes the container by a request of our own, so that this package needs no SDK
// (learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key).
func (a Azure) create(t testing.TB) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, a.Endpoint+"/"+a.Container+"?restype=container", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	date := time.Now().UTC().Format(http.TimeFormat)
	req.Header.Set("X-Ms-Date", date)
	req.Header.Set("X-Ms-Version", "2021-12-02")
	toSign := "PUT" + strings.Repeat("\n", 12) + "x-ms-date:" + date + "\nx-ms-version:2021-12-02\n" +
		"/" + a.Account + "/" + a.Account + "/" + a.Container + "\nrestype:container"
	key, err := base64.StdEncoding.DecodeString(a.Key)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(toSign))
	req.Header.Set("Authorization", "SharedKey "+a.Account+":"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	response, err := client.Do(req)
	if err != nil {
		t.Fatalf("making a container on Azurite: %v", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusCreated {
		t.Fatalf("making a container on Azurite: %s", response.Status)
	}
}
