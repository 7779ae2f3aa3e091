// Package gcs keeps objects in a bucket of Google Cloud Storage.
//
// It owns the choice of credentials, the meaning of the service's errors and the streaming of objects as resumable uploads. It
// promises the contract of storage.Store: put-if-absent is one upload on the condition that the name has no generation, of
// which a lost answer is cleared up by the id in the object's metadata; a stream is visible once its last chunk has arrived.
// It speaks JSON over HTTP, through Google's own library.
//
// It parses no URI (storage/open does) and never writes a secret into an error. It tries nothing again (storage/remote does)
// but the chunks of an upload and the rest of an object that broke off while it was read, which the library does, from the
// same budget.
package gcs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"net/http"

	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"

	contract "kafkadelta/storage"
	"kafkadelta/storage/remote"
)

// Location is what a URI says of a folder.
type Location struct {
	Bucket string
	Folder string // without slashes at its ends; "" is the bucket itself
}

// Options are what the store needs to know beside location and settings.
type Options struct {
	Getenv  func(string) string // required; looks up environment variables
	Observe func(operation, outcome string)
}

// Store is a storage.Store in one folder of a bucket.
type Store struct {
	bucket *storage.BucketHandle
	http   *http.Client // signs requests
	client *remote.Client
	url    string // of the folder, for errors
	folder string // in the bucket, "" or with a slash at its end
	page   int    // how many objects one answer lists, 0 for as many as it can (1,000)
}

var _ contract.Store = (*Store)(nil)

// New returns the store at l. It sends nothing: what is wrong with bucket or credential shows at the first use, but what is
// wrong in a credential's file shows here.
func New(ctx context.Context, l Location, c Config, o Options) (*Store, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return connect(ctx, l, c, o.Getenv, remote.New(remote.Options{Explain: explain, Observe: o.Observe}))
}

// connect is New with the client to send by.
func connect(ctx context.Context, l Location, c Config, getenv func(string) string, client *remote.Client) (*Store, error) {
	endpoint, kind, err := c.service(getenv)
	if err != nil {
		return nil, err
	}
	t, err := newTokens(c, kind, getenv, client.HTTP)
	if err != nil {
		return nil, err
	}
	s := &Store{client: client, url: "gs://" + l.Bucket}
	s.http = &http.Client{
		Transport:     &transport{next: client.HTTP.Transport, tokens: t, again: client.Again},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token is for this host
	}
	endpoint.Path = "/storage/v1/"
	sdk, err := storage.NewClient(ctx, option.WithHTTPClient(s.http), option.WithoutAuthentication(), option.WithEndpoint(endpoint.String()), storage.WithJSONReads())
	if err != nil {
		return nil, fmt.Errorf("opening Google's client: %w", err)
	}
	sdk.SetRetry(storage.WithPolicy(storage.RetryNever)) // storage/remote tries again
	s.bucket = sdk.Bucket(l.Bucket)
	if c.UserProject != "" {
		s.bucket = s.bucket.UserProject(c.UserProject)
	}
	if l.Folder != "" {
		s.folder = l.Folder + "/"
		s.url += "/" + l.Folder
	}
	return s, nil
}

// URL returns the folder's address.
func (s *Store) URL() string { return s.url }

func (s *Store) object(name string) *storage.ObjectHandle { return s.bucket.Object(s.folder + name) }

// do tries one operation on an object.
func (s *Store) do(ctx context.Context, operation, name string, writes bool, try func(context.Context) error) error {
	_, err := s.client.Do(ctx, remote.Operation{Name: operation, Object: s.url + "/" + name, Writes: writes}, try)
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
		length = -1 // for the SDK: to the end
	}
	var r *storage.Reader
	err := s.do(ctx, remote.Get, name, false, func(ctx context.Context) (err error) {
		r, err = s.object(name).NewRangeReader(reading(ctx), offset, length)
		return short(err)
	})
	if answer, ok := errors.AsType[*googleapi.Error](err); ok && answer.Code == http.StatusRequestedRangeNotSatisfiable {
		return s.empty(ctx, name) // past the end
	}
	if err != nil {
		return nil, err
	}
	return body{r, s.url + "/" + name}, nil
}

// body says of which object a broken one is, and never takes a broken one for its end: a connection that is closed before it
// answers is io.EOF to the SDK, too.
type body struct {
	*storage.Reader
	object string
}

// Read implements io.Reader.
func (b body) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	switch {
	case err == nil || err == io.EOF: //nolint:errorlint // one that wraps io.EOF is no end
		return n, err //nolint:wrapcheck // io.EOF stays what it is
	case errors.Is(err, io.EOF):
		return n, fmt.Errorf("%s %s: %s: %w", remote.Get, b.object, short(err).Error(), io.ErrUnexpectedEOF)
	default:
		return n, fmt.Errorf("%s %s: %w", remote.Get, b.object, short(err))
	}
}

// empty reads nothing of an object, which must be there.
func (s *Store) empty(ctx context.Context, name string) (io.ReadCloser, error) {
	if _, err := s.attributes(ctx, name); err != nil {
		return nil, err
	}
	return http.NoBody, nil
}

func (s *Store) attributes(ctx context.Context, name string) (a *storage.ObjectAttrs, err error) {
	err = s.do(ctx, remote.Head, name, false, func(ctx context.Context) (err error) {
		a, err = s.object(name).Attrs(ctx)
		return short(err)
	})
	return a, err
}

const contentType = "application/octet-stream" // or the SDK would guess one

// castagnoli is the checksum that the service compares with what arrives.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// insert writes an object in one request.
func insert(ctx context.Context, o *storage.ObjectHandle, data []byte, metadata map[string]string) error {
	w := o.NewWriter(ctx)
	w.ChunkSize = len(data) + 1 // or it would begin a resumable upload
	w.ContentType, w.Metadata = contentType, metadata
	w.CRC32C, w.SendCRC32C = crc32.Checksum(data, castagnoli), true
	_, _ = w.Write(data) // its error is that of Close
	return shortOfBucket(w.Close())
}

// Put implements storage.Store.
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	if err := check(ctx, remote.Put, name); err != nil {
		return err
	}
	return s.do(ctx, remote.Put, name, true, func(ctx context.Context) error { return insert(ctx, s.object(name), data, nil) })
}

// putID is the metadata by which a put-if-absent recognises its own object.
const putID = "kafkadelta_put"

// PutIfAbsent implements storage.Store.
func (s *Store) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	if err := check(ctx, remote.PutIfAbsent, name); err != nil {
		return err
	}
	id := rand.Text()
	free := s.object(name).If(storage.Conditions{DoesNotExist: true})
	put := func(ctx context.Context) error { return insert(ctx, free, data, map[string]string{putID: id}) }
	idOf := func(ctx context.Context) (string, error) {
		a, err := s.object(name).Attrs(ctx)
		if err != nil {
			return "", short(err)
		}
		return a.Metadata[putID], nil
	}
	return s.client.PutIfAbsent(ctx, s.url+"/"+name, id, put, idOf)
}

// Delete implements storage.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := check(ctx, remote.Delete, name); err != nil {
		return err
	}
	err := s.do(ctx, remote.Delete, name, true, func(ctx context.Context) error { return short(s.object(name).Delete(ctx)) })
	if failed, ok := errors.AsType[*remote.Error](err); ok && failed.Outcome == remote.NotFound {
		return nil
	}
	return err
}
