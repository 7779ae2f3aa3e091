// Package azure keeps objects in a container of Azure Blob Storage, with or without hierarchical namespace (ADLS Gen2).
//
// It owns the choice of credentials, the meaning of Azure's error codes and the streaming of objects as staged blocks. It
// promises the contract of storage.Store: put-if-absent is one Put Blob with If-None-Match: *, of which a lost answer is
// cleared up by the id in the object's metadata; a stream is visible once its block list is committed; folders that an account
// with hierarchical namespace lists as blobs are no objects. It speaks to the blob endpoint alone, also where the URI names the
// dfs endpoint, since only that one has conditional puts of a whole object in one request.
//
// It parses no URI (storage/open does), tries nothing again (storage/remote does), and never writes a secret into an error.
// Two streams of one name at once disturb each other: committing one discards the other's staged blocks, and its Close fails.
package azure

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"net/netip"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"kafkadelta/storage"
	"kafkadelta/storage/remote"
)

// AzuriteAccount and AzuriteKey are known to everybody: every Azurite has them (learn.microsoft.com/azure/storage/common/
// storage-use-azurite), and UseDevelopmentStorage=true means them.
const (
	AzuriteAccount = "devstoreaccount1"
	AzuriteKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// Location is what a URI says of a folder.
type Location struct {
	Endpoint  string // URL of the blob service with the account as its path, for Azurite; else ""
	Account   string // "" where the URI does not say it
	Domain    string // what follows the account in the blob service's host, "blob.core.windows.net"; "" where the URI does not say it
	Container string
	Folder    string // without slashes at its ends; "" is the container itself
}

// PathStyle tells whether the account is the first part of a URL's path, as for Azurite: its host is an address or a name
// without a dot, which no host of Azure is.
func PathStyle(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil || !strings.Contains(host, ".")
}

// Options are what the store needs to know beside location and settings.
type Options struct {
	Getenv  func(string) string // required; looks up environment variables
	Observe func(operation, outcome string)
	Parts   remote.Parts // of large objects
}

// Store is a storage.Store in one folder of a container.
type Store struct {
	container *container.Client
	url       string // of the folder, for errors: without secrets
	folder    string // in the container, "" or with a slash at its end
	client    *remote.Client
	page      *int32 // how many objects one answer lists, nil for as many as it can (5,000)
}

var _ storage.Store = (*Store)(nil)

// New returns the store at l. It sends nothing: what is wrong with account, container or credential shows at the first use.
func New(l Location, c Config, o Options) (*Store, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return connect(l, c, o.Getenv, remote.New(remote.Options{Explain: explain, Observe: o.Observe, Parts: o.Parts}))
}

// connect is New with the client to send by.
func connect(l Location, c Config, getenv func(string) string, client *remote.Client) (*Store, error) {
	a, err := resolve(l, c, getenv, client.HTTP)
	if err != nil {
		return nil, err
	}
	s := &Store{url: a.endpoint + "/" + l.Container, client: client}
	options := &container.ClientOptions{
		ClientOptions: azcore.ClientOptions{
			Retry:     policy.RetryOptions{MaxRetries: -1}, // storage/remote tries again
			Transport: transporter{client.HTTP},
			Telemetry: policy.TelemetryOptions{ApplicationID: "kafkadelta"},
		},
	}
	switch {
	case a.key != nil:
		s.container, err = container.NewClientWithSharedKeyCredential(s.url, a.key, options)
	case a.sas != "":
		s.container, err = container.NewClientWithNoCredential(s.url+"?"+a.sas, options)
	default:
		s.container, err = container.NewClient(s.url, &boundCredential{TokenCredential: a.token, limit: tokenTime}, options)
	}
	if err != nil {
		return nil, errors.New("the SDK refuses the endpoint " + s.url) // its own error may quote a SAS
	}
	if l.Folder != "" {
		s.folder = l.Folder + "/"
		s.url += "/" + l.Folder
	}
	return s, nil
}

// Below returns the store in a folder of this one, without slashes at its ends, by the same client.
func (s *Store) Below(folder string) storage.Store {
	below := *s
	if folder != "" {
		below.folder += folder + "/"
		below.url += "/" + folder
	}
	return &below
}

// URL returns the folder's address, without secrets.
func (s *Store) URL() string { return s.url }

func (s *Store) blob(name string) *blockblob.Client {
	return s.container.NewBlockBlobClient(s.folder + name)
}

// do tries one operation on an object.
func (s *Store) do(ctx context.Context, operation, name string, writes bool, try func(context.Context) error) error {
	op := remote.Operation{Name: operation, Object: s.url + "/" + name, Writes: writes}
	_, err := s.client.Do(ctx, op, func(ctx context.Context) error { return short(try(ctx)) })
	return err
}

// check refuses what every backend refuses.
func check(ctx context.Context, operation, name string) error {
	if !fs.ValidPath(name) || name == "." {
		return fmt.Errorf("%s %q: invalid object name: want relative UTF-8 without empty, \".\" or \"..\" parts: %w", operation, name, fs.ErrInvalid)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %q: %w", operation, name, err)
	}
	return nil
}

// Get implements storage.Store.
func (s *Store) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := check(ctx, remote.Get, name); err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, fmt.Errorf("%s %q: offset %d is negative: %w", remote.Get, name, offset, fs.ErrInvalid)
	}
	if length == 0 {
		return s.empty(ctx, name)
	}
	if length < 0 || length > math.MaxInt64-offset {
		length = 0 // for the SDK: to the end
	}
	var answer blob.DownloadStreamResponse
	err := s.do(ctx, remote.Get, name, false, func(ctx context.Context) (err error) {
		answer, err = s.blob(name).DownloadStream(ctx, &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: offset, Count: length}})
		return err
	})
	if failed, ok := errors.AsType[*remote.Error](err); ok && failed.Code == "InvalidRange" {
		return s.empty(ctx, name) // past the end, unless it is a folder
	}
	if err != nil {
		return nil, err
	}
	if isFolder(answer.Metadata) {
		_ = answer.Body.Close()
		return nil, s.noObject(remote.Get, name)
	}
	return answer.Body, nil
}

// empty reads nothing of an object, which must be there.
func (s *Store) empty(ctx context.Context, name string) (io.ReadCloser, error) {
	var answer blob.GetPropertiesResponse
	err := s.do(ctx, remote.Head, name, false, func(ctx context.Context) (err error) {
		answer, err = s.blob(name).GetProperties(ctx, nil)
		return err
	})
	if err == nil && isFolder(answer.Metadata) {
		err = s.noObject(remote.Head, name)
	}
	if err != nil {
		return nil, err
	}
	return http.NoBody, nil
}

func (s *Store) noObject(operation, name string) error {
	return fmt.Errorf("%s %s/%s: it is a folder: %w", operation, s.url, name, fs.ErrNotExist)
}

// isFolder recognises the blob that stands for a folder: every folder of an account with hierarchical namespace has this
// metadata, and so have the markers that Hadoop's drivers leave in other accounts.
func isFolder(metadata map[string]*string) bool { return value(metadata, "hdi_isfolder") == "true" }

// value looks up metadata, whose keys come back with the capitals of HTTP headers.
func value(metadata map[string]*string, key string) string {
	for k, v := range metadata {
		if strings.EqualFold(k, key) && v != nil {
			return *v
		}
	}
	return ""
}

func body(data []byte) io.ReadSeekCloser { return streaming.NopCloser(bytes.NewReader(data)) }

// Put implements storage.Store.
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	if err := check(ctx, remote.Put, name); err != nil {
		return err
	}
	return s.do(ctx, remote.Put, name, true, func(ctx context.Context) error {
		_, err := s.blob(name).Upload(ctx, body(data), nil)
		return err
	})
}

// putID is the metadata by which a put-if-absent recognises its own object.
const putID = "kafkadelta_put"

// PutIfAbsent implements storage.Store.
func (s *Store) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	if err := check(ctx, remote.PutIfAbsent, name); err != nil {
		return err
	}
	id := randomID()
	options := &blockblob.UploadOptions{
		Metadata:         map[string]*string{putID: &id},
		AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)}},
	}
	put := func(ctx context.Context) error {
		_, err := s.blob(name).Upload(ctx, body(data), options)
		return short(err)
	}
	idOf := func(ctx context.Context) (string, error) {
		answer, err := s.blob(name).GetProperties(ctx, nil)
		return value(answer.Metadata, putID), short(err)
	}
	return s.client.PutIfAbsent(ctx, s.url+"/"+name, id, put, idOf)
}

func randomID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// Delete implements storage.Store. In an account with hierarchical namespace the folders above stay; an empty folder of this
// name is removed, one with objects in it stays.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := check(ctx, remote.Delete, name); err != nil {
		return err
	}
	err := s.do(ctx, remote.Delete, name, true, func(ctx context.Context) error {
		_, err := s.blob(name).Delete(ctx, nil)
		return err
	})
	if failed, ok := errors.AsType[*remote.Error](err); ok {
		switch {
		case failed.Outcome == remote.NotFound, failed.Code == "DirectoryIsNotEmpty", failed.Code == "ResourceTypeMismatch":
			return nil
		}
	}
	return err
}
