package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// What the broker expects of a token, and the client that may have one.
const (
	tokenIssuer   = "https://issuer.test"
	tokenAudience = "kafka"
	clientID      = "loader-client"
	clientSecret  = "correct horse token"
)

// issuer is an identity provider of the tests' own. Its tokens are signed, and the broker checks them.
type issuer struct{ key *ecdsa.PrivateKey }

func newIssuer() (issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return issuer{key}, err
}

// keys are the public ones, as a JSON web key set (RFC 7517).
func (i issuer) keys() []byte {
	point, err := i.key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		panic(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return mustJSON(map[string]any{"keys": []map[string]string{{
		"kty": "EC", "crv": "P-256", "kid": "key", "use": "sig", "alg": "ES256", "x": encode(point[1:33]), "y": encode(point[33:]),
	}}})
}

// token is good until its end.
func (i issuer) token(end time.Time) string {
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode(mustJSON(map[string]string{"alg": "ES256", "typ": "JWT", "kid": "key"})) + "." + encode(mustJSON(map[string]any{
		"iss": tokenIssuer, "aud": tokenAudience, "sub": clientID, "scope": "read", "iat": time.Now().Add(-time.Minute).Unix(), "exp": end.Unix(),
	}))
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, sum[:])
	if err != nil {
		panic(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + encode(signature)
}

// endpoint serves tokens to the client who knows the secret.
func (i issuer) endpoint(t testing.TB) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if id, secret, _ := r.BasicAuth(); id != clientID || secret != "correct+horse+token" || r.FormValue("grant_type") != "client_credentials" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"error":"invalid_client","error_description":"no such client, or another secret"}`))
			return
		}
		_, _ = w.Write(mustJSON(map[string]any{"access_token": i.token(time.Now().Add(time.Hour)), "token_type": "Bearer", "expires_in": 3600}))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
