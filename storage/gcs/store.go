// Package gcs keeps objects in a bucket of Google Cloud Storage.
//
// It owns the choice of credentials, the meaning of the service's errors and the streaming of objects as resumable uploads. It
// promises the contract of storage.Store: put-if-absent is one upload on the condition that the name has no generation, of
// which a lost answer is cleared up by the id in the object's metadata; a stream is visible once its last chunk has arrived.
// It speaks JSON over HTTP by itself (ADR 14); tokens come from Google's library.
//
// It parses no URI (storage/open does) and never writes a secret into an error. It tries nothing again (storage/remote does), and asks for the rest of
// an object that broke off while it was read from the same budget.
package gcs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"

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
	Parts   remote.Parts // of large objects
}

// Store is a storage.Store in one folder of a bucket.
type Store struct {
	api    *api
	client *remote.Client
	url    string // of the folder, for errors
	folder string // in the bucket, "" or with a slash at its end
	page   int    // how many objects one answer lists, 0 for as many as it can (1,000)
}

var _ contract.Store = (*Store)(nil)

// New returns the store at l. It sends nothing: what is wrong with bucket or credential shows at the first use, but what is
// wrong in a credential's file shows here.
func New(l Location, c Config, o Options) (*Store, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return connect(l, c, o.Getenv, remote.New(remote.Options{Explain: explain, Observe: o.Observe, Parts: o.Parts}))
}

// connect is New with the client to send by.
func connect(l Location, c Config, getenv func(string) string, client *remote.Client) (*Store, error) {
	endpoint, kind, err := c.service(getenv)
	if err != nil {
		return nil, err
	}
	t, err := newTokens(c, kind, getenv, client.HTTP)
	if err != nil {
		return nil, err
	}
	s := &Store{client: client, url: "gs://" + l.Bucket, api: &api{server: endpoint.String(), bucket: l.Bucket, payer: c.UserProject}}
	s.api.http = &http.Client{
		Transport:     &transport{next: client.HTTP.Transport, tokens: t},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token is for this host
	}
	if l.Folder != "" {
		s.folder = l.Folder + "/"
		s.url += "/" + l.Folder
	}
	return s, nil
}

// Below returns the store in a folder of this one, without slashes at its ends, by the same client.
func (s *Store) Below(folder string) contract.Store {
	below := *s
	if folder != "" {
		below.folder += folder + "/"
		below.url += "/" + folder
	}
	return &below
}

// URL returns the folder's address.
func (s *Store) URL() string { return s.url }

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
		length = -1 // to the end
	}
	r := &body{store: s, ctx: remote.As(ctx, remote.Get), name: name, at: offset, left: length}
	err := s.do(ctx, remote.Get, name, false, r.open)
	if answer, ok := errors.AsType[*answerError](err); ok && answer.code == http.StatusRequestedRangeNotSatisfiable {
		return s.empty(ctx, name) // past the end
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// empty reads nothing of an object, which must be there.
func (s *Store) empty(ctx context.Context, name string) (io.ReadCloser, error) {
	if _, err := s.attributes(ctx, name); err != nil {
		return nil, err
	}
	return http.NoBody, nil
}

func (s *Store) attributes(ctx context.Context, name string) (a attributes, err error) {
	err = s.do(ctx, remote.Head, name, false, func(ctx context.Context) (err error) {
		a, err = s.api.attributes(ctx, s.folder+name)
		return err
	})
	return a, err
}

// Put implements storage.Store.
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	if err := check(ctx, remote.Put, name); err != nil {
		return err
	}
	return s.do(ctx, remote.Put, name, true, func(ctx context.Context) error { return s.api.insert(ctx, s.folder+name, data, nil, false) })
}

// putID is the metadata by which a put-if-absent recognises its own object.
const putID = "kafkadelta_put"

// PutIfAbsent implements storage.Store.
func (s *Store) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	if err := check(ctx, remote.PutIfAbsent, name); err != nil {
		return err
	}
	id := rand.Text()
	put := func(ctx context.Context) error {
		return s.api.insert(ctx, s.folder+name, data, map[string]string{putID: id}, true)
	}
	idOf := func(ctx context.Context) (string, error) {
		a, err := s.api.attributes(ctx, s.folder+name)
		return a.Metadata[putID], err
	}
	return s.client.PutIfAbsent(ctx, s.url+"/"+name, id, put, idOf)
}

// Delete implements storage.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := check(ctx, remote.Delete, name); err != nil {
		return err
	}
	err := s.do(ctx, remote.Delete, name, true, func(ctx context.Context) error { return s.api.remove(ctx, s.folder+name) })
	if failed, ok := errors.AsType[*remote.Error](err); ok && failed.Outcome == remote.NotFound {
		return nil
	}
	return err
}
