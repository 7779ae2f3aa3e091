package gcs

import "net/http"

// transport signs requests on their way to storage/remote.
type transport struct {
	next   http.RoundTripper
	tokens *tokens // nil: no credential
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("User-Agent", "kafkadelta")
	if t.tokens != nil {
		if err := t.tokens.authorize(req); err != nil {
			if req.Body != nil {
				_ = req.Body.Close()
			}
			return nil, err
		}
	}
	return t.next.RoundTrip(req)
}

// CloseIdleConnections lets those of http.Client reach the transport.
func (t *transport) CloseIdleConnections() {
	if next, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		next.CloseIdleConnections()
	}
}
