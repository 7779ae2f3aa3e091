package registry

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
)

// client makes one of servers, with an environment.
func client(t *testing.T, c Config, env map[string]string) *Client {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	out, err := New(t.Context(), c, func(k string) string { return env[k] }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(out.Close)
	return out
}

// wait asks until the answer is not "later".
func wait(t *testing.T, ask func() (*Schema, error)) (*Schema, error) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		s, err := ask()
		if _, later := errors.AsType[*LaterError](err); !later {
			return s, err
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func byID(c *Client, id int32) func() (*Schema, error) {
	return func() (*Schema, error) { return c.ByID(id) }
}

const number = `{"type":"record","name":"n","fields":[{"name":"a","type":"int"}]}`

// TestSchemasByID: a schema is asked for once, comes with what it refers to, and one that does not exist is told so after the
// registry has said it three times.
func TestSchemasByID(t *testing.T) {
	fake := srfake.New()
	t.Cleanup(fake.Close)
	var requests atomic.Int64
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		http.Redirect(w, r, fake.URL()+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(front.Close)
	admin, err := sr.NewClient(sr.URLs(fake.URL()))
	if err != nil {
		t.Fatal(err)
	}
	base, err := admin.CreateSchema(t.Context(), "base", sr.Schema{Schema: number})
	if err != nil {
		t.Fatal(err)
	}
	top, err := admin.CreateSchema(t.Context(), "top-value", sr.Schema{
		Schema:     `{"type":"record","name":"t","fields":[{"name":"x","type":"n"}]}`,
		References: []sr.SchemaReference{{Name: "n", Subject: "base", Version: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, Config{URLs: []string{front.URL}}, nil)
	if _, err := c.ByID(int32(top.ID)); !errors.As(err, new(*LaterError)) {
		t.Errorf("the first answer does not wait: %v", err)
	}
	s, err := wait(t, byID(c, int32(top.ID)))
	if err != nil || s.Type != "AVRO" || !strings.Contains(s.Text, `"t"`) || len(s.References) != 1 || s.References[0] != (Reference{"n", number}) || s.ID != int32(top.ID) {
		t.Fatalf("%+v, %v", s, err)
	}
	asked := requests.Load()
	if again, err := c.ByID(int32(top.ID)); again != s || err != nil || requests.Load() != asked {
		t.Errorf("asked again: %v, %v", again, err)
	}
	begin := requests.Load()
	if _, err := wait(t, byID(c, 999)); !errors.Is(err, ErrUnknown) || requests.Load()-begin != confirmed {
		t.Errorf("%v after %d requests", err, requests.Load()-begin)
	}
	if _, err := c.ByID(999); !errors.Is(err, ErrUnknown) || requests.Load()-begin != confirmed {
		t.Errorf("%v: asked again for what is known not to be", err)
	}
	latest, err := c.Latest(t.Context(), "base")
	if err != nil || latest.Text != number || latest.ID != int32(base.ID) {
		t.Errorf("%+v, %v", latest, err)
	}
	if _, err := c.Latest(t.Context(), "nothing"); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), `"nothing"`) {
		t.Error(err)
	}
}

// TestFailures: whatever goes wrong is waited for, and never makes a schema unknown; the next server is asked where one fails.
func TestFailures(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"500":            func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"a proxy's 404":  func(w http.ResponseWriter, _ *http.Request) { http.NotFound(w, nil) },
		"401":            func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) },
		"a wrong type":   func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"schema":7}`)) },
		"no JSON":        func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`<html>`)) },
		"no server":      nil,
		"unknown, once":  unknownOnce(),
		"cut connection": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			var healthy atomic.Bool
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !healthy.Load() && answer != nil {
					answer(w, r)
					return
				}
				_, _ = w.Write([]byte(`{"schema":"\"int\""}`))
			}))
			t.Cleanup(server.Close)
			urls := []string{server.URL}
			if answer == nil {
				urls = []string{"http://127.0.0.1:1", server.URL}
			}
			c := client(t, Config{URLs: urls}, nil)
			until := time.Now().Add(400 * time.Millisecond)
			for time.Now().Before(until) {
				s, err := c.ByID(5)
				if _, later := errors.AsType[*LaterError](err); !later && (answer != nil && name != "unknown, once" || err != nil) {
					t.Fatalf("while it fails: %v, %v", s, err)
				}
				time.Sleep(5 * time.Millisecond)
			}
			healthy.Store(true)
			if s, err := wait(t, byID(c, 5)); err != nil || s.Text != `"int"` {
				t.Errorf("once it is well: %+v, %v", s, err)
			}
		})
	}
}

// TestTheNextServerIsAsked: what one server does not know, another one may. It is unknown only where all say so: none of them fails.
func TestTheNextServerIsAsked(t *testing.T) {
	notFound := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			(*says(http.StatusNotFound, fmt.Sprintf(`{"error_code":%d,"message":"not found"}`, code)))(w)
		}
	}
	known := func(w http.ResponseWriter, _ *http.Request) { (*says(http.StatusOK, `{"schema":"\"int\"","id":7}`))(w) }
	down := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
	for name, tt := range map[string]struct {
		servers [2]http.HandlerFunc
		want    string // found, unknown, later
	}{
		"the second knows":             {[2]http.HandlerFunc{notFound(codeSchema), known}, "found"},
		"and the first has no subject": {[2]http.HandlerFunc{notFound(codeSubject), known}, "found"},
		"none knows":                   {[2]http.HandlerFunc{notFound(codeSchema), notFound(codeSchema)}, "unknown"},
		"the second is down":           {[2]http.HandlerFunc{notFound(codeSchema), down}, "later"},
		"the first is down":            {[2]http.HandlerFunc{down, notFound(codeSchema)}, "later"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var urls []string
			var asked [2]atomic.Int64
			for i, answer := range tt.servers {
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					asked[i].Add(1)
					answer(w, r)
				}))
				t.Cleanup(server.Close)
				urls = append(urls, server.URL)
			}
			c := client(t, Config{URLs: urls}, nil)
			if tt.want == "later" {
				for asked[0].Load() <= confirmed {
					if s, err := c.ByID(7); !errors.As(err, new(*LaterError)) {
						t.Fatalf("%+v, %v", s, err)
					}
					time.Sleep(5 * time.Millisecond)
				}
				return
			}
			s, err := wait(t, byID(c, 7))
			latest, latestErr := c.Latest(t.Context(), "x")
			if tt.want == "unknown" {
				if !errors.Is(err, ErrUnknown) || !errors.Is(latestErr, ErrUnknown) || asked[1].Load() != 2*confirmed {
					t.Errorf("%v, %v after %d requests", err, latestErr, asked[1].Load())
				}
				return
			}
			if err != nil || s.Text != `"int"` || latestErr != nil || latest.ID != 7 {
				t.Errorf("%+v, %v; %+v, %v", s, err, latest, latestErr)
			}
		})
	}
}

// TestLatestIsAskedForAgain: a registry that fails for a while is waited for, one that refuses is not, and a context ends it.
func TestLatestIsAskedForAgain(t *testing.T) {
	var asked atomic.Int64
	var status atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n := asked.Add(1); n <= 2 || status.Load() != http.StatusServiceUnavailable {
			w.WriteHeader(int(status.Load()))
			return
		}
		_, _ = w.Write([]byte(`{"schema":"\"int\"","id":7}`))
	}))
	t.Cleanup(server.Close)
	c := client(t, Config{URLs: []string{server.URL}}, nil)
	status.Store(http.StatusServiceUnavailable)
	if s, err := c.Latest(t.Context(), "x"); err != nil || s.ID != 7 || asked.Load() != 3 {
		t.Errorf("%+v, %v after %d requests", s, err, asked.Load())
	}
	asked.Store(0)
	status.Store(http.StatusUnauthorized)
	if _, err := c.Latest(t.Context(), "x"); !errors.Is(err, errRefused) || asked.Load() != 1 {
		t.Errorf("refused: %v after %d requests", err, asked.Load())
	}
	status.Store(http.StatusBadGateway)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := c.Latest(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("at the context's end: %v", err)
	}
}

// TestSchemasByGUID asks for a GUID as text, and keeps it apart from ids.
func TestSchemasByGUID(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/schemas/guids/89791762-2336-4186-9674-299b90a802e2" {
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"error_code":40403,"message":"Schema not found"}`))
			return
		}
		_, _ = w.Write([]byte(`{"schema":"\"int\"","id":7}`))
	}))
	t.Cleanup(server.Close)
	c := client(t, Config{URLs: []string{server.URL}}, nil)
	guid := [16]byte{0x89, 0x79, 0x17, 0x62, 0x23, 0x36, 0x41, 0x86, 0x96, 0x74, 0x29, 0x9b, 0x90, 0xa8, 0x02, 0xe2}
	if s, err := wait(t, func() (*Schema, error) { return c.ByGUID(guid) }); err != nil || s.ID != 7 || s.Text != `"int"` {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := wait(t, func() (*Schema, error) { return c.ByGUID([16]byte{1}) }); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}

// TestGUIDsOfARegistryWithoutThem: such a registry has no page for GUIDs, so that a GUID that messages make up is unknown, once it has been said three times. Where
// nothing shows that there is a registry, it is asked again.
func TestGUIDsOfARegistryWithoutThem(t *testing.T) {
	noPage := `{"error_code":404,"message":"HTTP 404 Not Found"}`
	for name, tt := range map[string]struct {
		guids, ids string
		status     int // of ids
		unknown    bool
	}{
		"a registry":                      {noPage, `{"error_code":40403,"message":"Schema not found"}`, http.StatusNotFound, true},
		"one that words it otherwise":     {`{"code":404,"message":"Not found"}`, `{"error_code":40403,"message":"Schema not found"}`, http.StatusNotFound, true},
		"behind a proxy with other pages": {"<html>", `{"schema":"\"int\""}`, http.StatusOK, true},
		"no registry":                     {noPage, noPage, http.StatusNotFound, false},
		"something else":                  {noPage, `{}`, http.StatusOK, false},
		"one that is down":                {noPage, "", http.StatusBadGateway, false},
		"one that refuses":                {noPage, "", http.StatusForbidden, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				answer, status := tt.ids, tt.status
				if strings.HasPrefix(r.URL.Path, "/schemas/guids/") {
					asked.Add(1)
					answer, status = tt.guids, http.StatusNotFound
				}
				w.WriteHeader(status)
				_, _ = w.Write([]byte(answer))
			}))
			t.Cleanup(server.Close)
			c := client(t, Config{URLs: []string{server.URL}}, nil)
			ask := func() (*Schema, error) { return c.ByGUID([16]byte([]byte("this is no messa"))) }
			if tt.unknown {
				if _, err := wait(t, ask); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "no GUIDs") || asked.Load() != confirmed {
					t.Errorf("%v after %d requests", err, asked.Load())
				}
				return
			}
			for asked.Load() <= confirmed {
				if s, err := ask(); !errors.As(err, new(*LaterError)) {
					t.Fatalf("%+v, %v", s, err)
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
}

// unknownOnce is a follower that lags behind.
func unknownOnce() http.HandlerFunc {
	var n atomic.Int64
	return func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) == 1 {
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"error_code":40403,"message":"Schema not found"}`))
			return
		}
		_, _ = w.Write([]byte(`{"schema":"\"int\""}`))
	}
}

// TestCredentials: each kind reaches the registry, is read again for each request, and is in no error.
func TestCredentials(t *testing.T) {
	var header atomic.Value
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header.Store(r.Header.Get("Authorization"))
		_, _ = w.Write([]byte(`{"schema":"\"int\""}`))
	}))
	t.Cleanup(server.Close)
	ca, secret := filepath.Join(t.TempDir(), "ca.pem"), filepath.Join(t.TempDir(), "secret")
	writeCertificate(t, ca, server)
	if err := os.WriteFile(secret, []byte("first\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"PASS": "hunter2"}
	for _, tt := range []struct {
		c    Config
		want string
	}{
		{Config{}, ""},
		{Config{Username: "u", PasswordEnv: "PASS"}, "Basic dTpodW50ZXIy"},
		{Config{TokenFile: secret}, "Bearer first"},
	} {
		tt.c.URLs, tt.c.CAFile = []string{server.URL}, ca
		c := client(t, tt.c, env)
		if _, err := wait(t, byID(c, 1)); err != nil || header.Load() != tt.want {
			t.Errorf("%+v: %v, %v", tt.c, header.Load(), err)
		}
		if tt.c.TokenFile != "" {
			if err := os.WriteFile(secret, []byte("second"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := wait(t, byID(c, 2)); err != nil || header.Load() != "Bearer second" {
				t.Errorf("after a change: %v, %v", header.Load(), err)
			}
		}
	}
	c := client(t, Config{URLs: []string{server.URL}}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := c.Latest(ctx, "x"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the authority: %v", err)
	}
}

// TestClientCertificate: a registry that asks for a certificate gets ours, and without one nothing comes of it.
func TestClientCertificate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "connector"}, NotAfter: time.Now().Add(time.Hour)}
	der, err1 := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	private, err2 := x509.MarshalPKCS8PrivateKey(key)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	cert, keyFile, ca := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem"), filepath.Join(t.TempDir(), "ca.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var shown atomic.Value
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown.Store(r.TLS.PeerCertificates[0].Subject.CommonName)
		_, _ = w.Write([]byte(`{"schema":"\"int\""}`))
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	t.Cleanup(server.Close)
	writeCertificate(t, ca, server)
	c := client(t, Config{URLs: []string{server.URL}, CAFile: ca, CertFile: cert, KeyFile: keyFile}, nil)
	if _, err := wait(t, byID(c, 1)); err != nil || shown.Load() != "connector" {
		t.Errorf("the registry was shown %v: %v", shown.Load(), err)
	}
	bare := client(t, Config{URLs: []string{server.URL}, CAFile: ca}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := bare.Latest(ctx, "x"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without a certificate: %v", err)
	}
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		c    Config
		want string
	}{
		{Config{URLs: []string{"registry:8081"}}, "urls[0] is no address"},
		{Config{URLs: []string{"http://u:p@registry"}}, "password_env"},
		{Config{Username: "u"}, "username needs"},
		{Config{PasswordEnv: "X"}, "username is missing"},
		{Config{TokenEnv: "X", TokenFile: "y"}, "exclude each other"},
		{Config{CertFile: "x"}, "go together"},
	} {
		if err := tt.c.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "u:p@") {
			t.Errorf("%+v: %v", tt.c, err)
		}
	}
	for _, c := range []Config{{TokenEnv: "NOT_SET"}, {TokenFile: "/nowhere"}, {CAFile: "/nowhere"}, {CertFile: "/nowhere", KeyFile: "/nowhere"}} {
		if _, err := New(t.Context(), c, func(string) string { return "" }, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "source.schema_registry.") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func writeCertificate(t *testing.T, path string, server *httptest.Server) {
	t.Helper()
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// answers is a registry that gives a text for each path with its query; what it lacks it does not know.
func answers(t *testing.T, texts map[string]string) (c *Client, asked func(path string) int) {
	t.Helper()
	var mu sync.Mutex
	counts := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		counts[r.URL.RequestURI()]++
		mu.Unlock()
		text, ok := texts[r.URL.RequestURI()]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			text = `{"error_code":40403,"message":"not found"}`
		}
		_, _ = w.Write([]byte(text))
	}))
	t.Cleanup(server.Close)
	return client(t, Config{URLs: []string{server.URL}}, nil), func(path string) int {
		mu.Lock()
		defer mu.Unlock()
		return counts[path]
	}
}

// TestAnswersWithoutASchema: an answer of something on the way is no schema, and is asked for again, also where a reference is.
func TestAnswersWithoutASchema(t *testing.T) {
	texts := map[string]string{
		"/schemas/ids/1": `{}`, "/schemas/ids/2": `{"schema":""}`, "/schemas/ids/3": `{"schema":"\"r\"","references":[{"name":"r","subject":"s","version":1}]}`,
		"/subjects/s/versions/1?deleted=true": `{}`,
	}
	c, asked := answers(t, texts)
	for id, path := range map[int32]string{1: "/schemas/ids/1", 2: "/schemas/ids/2", 3: "/subjects/s/versions/1?deleted=true"} {
		for asked(path) < 2 {
			s, err := c.ByID(id)
			if _, later := errors.AsType[*LaterError](err); !later {
				t.Fatalf("%d: %+v, %v", id, s, err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		if _, err := c.ByID(id); err == nil || !strings.Contains(err.Error(), "the answer has no schema") {
			t.Errorf("%d: %v", id, err)
		}
	}
}

// TestReferences: a deleted version is one still, and of two versions under one name the one counts that is met first, as in Confluent's registry.
func TestReferences(t *testing.T) {
	c, asked := answers(t, map[string]string{
		"/schemas/ids/1":                      `{"schema":"top","schemaType":"PROTOBUF","references":[{"name":"a","subject":"a","version":1},{"name":"b","subject":"b","version":1},{"name":"c","subject":"c","version":3}]}`,
		"/subjects/a/versions/1?deleted=true": `{"schema":"a1","references":[{"name":"c","subject":"c","version":1}]}`,
		"/subjects/b/versions/1?deleted=true": `{"schema":"b1","references":[{"name":"c","subject":"c","version":2}]}`,
		"/subjects/c/versions/1?deleted=true": `{"schema":"c1"}`, "/subjects/c/versions/2?deleted=true": `{"schema":"c2"}`, "/subjects/c/versions/3?deleted=true": `{"schema":"c3"}`,
	})
	s, err := wait(t, byID(c, 1))
	if err != nil || !slices.Equal(s.References, []Reference{{"c", "c1"}, {"a", "a1"}, {"b", "b1"}}) || asked("/subjects/c/versions/2?deleted=true") > 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

// withoutReference is a registry of two schemas that refer to one which it answers for as it is told; asked counts that.
func withoutReference(t *testing.T, answer *atomic.Pointer[func(http.ResponseWriter)]) (c *Client, asked *atomic.Int64) {
	t.Helper()
	texts := map[string]string{
		"/schemas/ids/1":              `{"schema":"top","references":[{"name":"n","subject":"gone","version":7}]}`,
		"/schemas/ids/2":              `{"schema":"top","references":[{"name":"m","subject":"middle","version":1}]}`,
		"/subjects/middle/versions/1": `{"schema":"middle","references":[{"name":"n","subject":"gone","version":7}]}`,
	}
	asked = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if text, ok := texts[r.URL.Path]; ok {
			_, _ = w.Write([]byte(text))
			return
		}
		asked.Add(1)
		(*answer.Load())(w)
	}))
	t.Cleanup(server.Close)
	return client(t, Config{URLs: []string{server.URL}}, nil), asked
}

func says(status int, text string) *func(http.ResponseWriter) {
	answer := func(w http.ResponseWriter) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(text))
	}
	return &answer
}

// TestReferencesThatAreNot: a schema whose reference the registry says it does not have, in whatever depth, is unknown once it has been said three times, and the error names the
// reference.
func TestReferencesThatAreNot(t *testing.T) {
	for _, code := range []int{codeSubject, codeVersion} {
		for id := int32(1); id <= 2; id++ {
			var answer atomic.Pointer[func(http.ResponseWriter)]
			answer.Store(says(http.StatusNotFound, fmt.Sprintf(`{"error_code":%d,"message":"not found"}`, code)))
			c, asked := withoutReference(t, &answer)
			_, err := wait(t, byID(c, id))
			if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "reference n, version 7 of subject gone") || asked.Load() != confirmed {
				t.Errorf("%d: id %d: %v after %d requests", code, id, err, asked.Load())
			}
		}
	}
}

// TestTooManyReferences: a schema that uses 1,000 others is taken. One that uses more is refused at once, since asking again does not help, and the error names the reference.
func TestTooManyReferences(t *testing.T) {
	refs := func(n int) string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprintf(`{"name":"n%d","subject":"s%d","version":1}`, i, i))
		}
		return `{"schema":"top","references":[` + strings.Join(out, ",") + `]}`
	}
	var tops atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/schemas/ids/1":
			_, _ = w.Write([]byte(refs(maxRefs)))
		case "/schemas/ids/2", "/subjects/top/versions/latest":
			tops.Add(1)
			_, _ = w.Write([]byte(refs(maxRefs + 1)))
		default:
			_, _ = w.Write([]byte(`{"schema":"x"}`))
		}
	}))
	t.Cleanup(server.Close)
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }))
	t.Cleanup(down.Close)
	c := client(t, Config{URLs: []string{server.URL, down.URL}}, nil)
	if s, err := wait(t, byID(c, 1)); err != nil || len(s.References) != maxRefs {
		t.Errorf("of %d references: %v", maxRefs, err)
	}
	const told = "its reference n1000, version 1 of subject s1000: more than 1000 referenced schemas"
	for range 2 { // the second time it is known
		if _, err := wait(t, byID(c, 2)); err == nil || !strings.Contains(err.Error(), told) || tops.Load() != 1 {
			t.Errorf("%v, asked %d times", err, tops.Load())
		}
	}
	if _, err := c.Latest(t.Context(), "top"); err == nil || !strings.Contains(err.Error(), told) || tops.Load() != 2 {
		t.Errorf("%v, asked %d times", err, tops.Load())
	}
}

// TestReferencesThatAreNotAnswered: a schema waits while its reference is not answered, or by something else than a registry.
func TestReferencesThatAreNotAnswered(t *testing.T) {
	for name, first := range map[string]*func(http.ResponseWriter){
		"down":          says(http.StatusInternalServerError, `{"error_code":50001,"message":"down"}`),
		"no registry":   says(http.StatusNotFound, `{"error_code":404,"message":"HTTP 404 Not Found"}`),
		"a proxy's 404": says(http.StatusNotFound, ""),
		"refused":       says(http.StatusForbidden, ""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var answer atomic.Pointer[func(http.ResponseWriter)]
			answer.Store(first)
			c, asked := withoutReference(t, &answer)
			for asked.Load() <= confirmed {
				if s, err := c.ByID(1); !errors.As(err, new(*LaterError)) {
					t.Fatalf("%+v, %v", s, err)
				}
				time.Sleep(5 * time.Millisecond)
			}
			if _, err := c.ByID(1); !errors.As(err, new(*LaterError)) || !strings.Contains(err.Error(), "subject gone") {
				t.Errorf("%v", err)
			}
			answer.Store(says(http.StatusOK, `{"schema":"found"}`))
			if s, err := wait(t, byID(c, 1)); err != nil || !slices.Equal(s.References, []Reference{{"n", "found"}}) {
				t.Errorf("once it is answered: %+v, %v", s, err)
			}
		})
	}
}

// TestDeletedReferences is TestReferences by franz-go's registry, which gives deleted versions to who asks for them.
func TestDeletedReferences(t *testing.T) {
	fake := srfake.New()
	t.Cleanup(fake.Close)
	admin, err := sr.NewClient(sr.URLs(fake.URL()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CreateSchema(t.Context(), "base", sr.Schema{Schema: number}); err != nil {
		t.Fatal(err)
	}
	top, err := admin.CreateSchema(t.Context(), "top", sr.Schema{Schema: `{"type":"record","name":"t","fields":[{"name":"x","type":"n"}]}`,
		References: []sr.SchemaReference{{Name: "n", Subject: "base", Version: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"top", "base"} { // the one that uses it first
		if _, err := admin.DeleteSubject(t.Context(), subject, sr.SoftDelete); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := wait(t, byID(client(t, Config{URLs: []string{fake.URL()}}, nil), int32(top.ID))); err != nil || len(s.References) != 1 || s.References[0].Text != number {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestOtherTypes: a type that nobody here reads is an answer, and nothing to wait for.
func TestOtherTypes(t *testing.T) {
	c, asked := answers(t, map[string]string{
		"/schemas/ids/1": `{"schema":"x","schemaType":"thrift"}`, "/schemas/ids/2": `{"schema":"x","references":[{"name":"r","subject":"s","version":1}]}`,
		"/subjects/s/versions/1?deleted=true": `{"schema":"x","schemaType":"THRIFT"}`,
	})
	for id := int32(1); id <= 2; id++ {
		if s, err := wait(t, byID(c, id)); err != nil || s.Type != "THRIFT" {
			t.Errorf("%d: %+v, %v", id, s, err)
		}
	}
	if n := asked("/schemas/ids/1"); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// TestUnknownIdsAreBounded: ids that messages make up are asked for beside each other, and are forgotten when they are too many; what is known stays.
func TestUnknownIdsAreBounded(t *testing.T) {
	c, _ := answers(t, map[string]string{"/schemas/ids/1": `{"schema":"\"int\""}`})
	known, err := wait(t, byID(c, 1))
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for id := int32(2); id < 200; id++ {
		_, _ = c.ByID(id)
	}
	for id := int32(2); id < 200; id++ {
		if _, err := wait(t, byID(c, id)); !errors.Is(err, ErrUnknown) {
			t.Fatal(err)
		}
	}
	if took := time.Since(begin); took > 20*time.Second { // 0.6 s each, one after the other: two minutes
		t.Errorf("198 ids took %v", took)
	}
	for id := int32(1000); id < 1000+2*maxAsking; id++ {
		if _, err := c.ByID(id); !errors.As(err, new(*LaterError)) {
			t.Fatal(err)
		}
	}
	c.mu.Lock()
	waiting := c.waiting
	for i := range int32(maxUnknown) { // of which many were answered
		if n := (name{id: -1 - i}); c.ids[n] == nil {
			c.ids[n] = &entry{err: ErrUnknown}
			c.unknown++
		}
	}
	c.mu.Unlock()
	if waiting > maxAsking {
		t.Errorf("%d are asked for at once", waiting)
	}
	if _, err := wait(t, byID(c, 999_999)); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	c.mu.Lock()
	kept, unknown := len(c.ids), c.unknown
	c.mu.Unlock()
	if kept > maxAsking+2 || unknown != kept-1 {
		t.Errorf("%d ids are kept, of which %d unknown", kept, unknown)
	}
	if again, err := c.ByID(1); again != known || err != nil {
		t.Errorf("%v, %v", again, err)
	}
}
