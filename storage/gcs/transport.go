package gcs

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"kafkadelta/storage/remote"
)

// transport is what lies between the SDK and storage/remote: it signs requests, and keeps an eye on those that the SDK sends
// by itself.
type transport struct {
	next   http.RoundTripper
	tokens *tokens // nil: no credential
	again  func(remote.Outcome) bool
}

type (
	readKey   struct{}
	uploadKey struct{}
)

// attempt is one try to read an object. The SDK goes on behind what it has got when the connection breaks in the middle, as
// often as that happens.
type attempt struct{ begun bool }

// upload is a resumable upload.
type upload struct{ session string } // URL of the session, which is a credential by itself; "" before it has begun

var errBroken = errors.New("the connection broke in the middle of the object, too often to go on")

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("User-Agent", "kafkadelta "+req.Header.Get("User-Agent"))
	if err := t.prepare(req); err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	if sent := req.Header.Get("Content-Range"); sent != "" && !strings.HasSuffix(sent, "/*") {
		req = req.WithContext(remote.As(req.Context(), remote.Complete)) // the chunk with which the object is there
	}
	response, err := t.next.RoundTrip(req)
	if u, ok := req.Context().Value(uploadKey{}).(*upload); ok && err == nil && response.Header.Get("Location") != "" {
		u.session = response.Header.Get("Location")
	}
	return response, err
}

func (t *transport) prepare(req *http.Request) error {
	if r, ok := req.Context().Value(readKey{}).(*attempt); ok {
		if r.begun && !t.again(remote.NoAnswer) {
			return errBroken
		}
		r.begun = true
	}
	if t.tokens == nil {
		return nil
	}
	return t.tokens.authorize(req)
}

// CloseIdleConnections lets those of http.Client reach the transport.
func (t *transport) CloseIdleConnections() {
	if next, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		next.CloseIdleConnections()
	}
}

// reading marks the requests of one try to read an object.
func reading(ctx context.Context) context.Context {
	return context.WithValue(ctx, readKey{}, &attempt{})
}
