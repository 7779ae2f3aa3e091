package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"kafkadelta/storage/open"
)

// fate is what happens to a conditional put on its way.
type fate int

const (
	passes         fate = iota
	answerLost          // it lands; the connection is cut before the answer
	answerBroken        // it lands; the answer says that the server failed
	requestLost         // it does not land; the connection is cut
	requestRefused      // it does not land; the answer says that it is asked too much
)

// middle is an HTTP proxy before a cloud's server, which decides on each conditional put.
type middle struct {
	upstream string
	client   *http.Client

	mu     sync.Mutex
	fates  []fate // of the next conditional puts; the last one stays
	before func() // is called once, before a fate is carried out
	puts   int    // conditional puts that came
}

func newMiddle(t *testing.T, c cloud) (*middle, string) {
	t.Helper()
	m := &middle{upstream: c.address, client: &http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: time.Minute}}
	server := httptest.NewServer(m)
	t.Cleanup(func() {
		server.Close()
		m.client.CloseIdleConnections()
	})
	return m, strings.TrimPrefix(server.URL, "http://")
}

func (m *middle) set(before func(), fates ...fate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fates, m.before, m.puts = fates, before, 0
}

func (m *middle) decide(r *http.Request) (fate, func()) {
	if r.Header.Get("If-None-Match") != "*" && r.URL.Query().Get("ifGenerationMatch") != "0" {
		return passes, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.puts++
	f, before := m.fates[0], m.before
	if len(m.fates) > 1 {
		m.fates = m.fates[1:]
	}
	m.before = nil
	return f, before
}

func (m *middle) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	f, before := m.decide(r)
	if before != nil {
		before()
	}
	switch f {
	case requestLost:
		panic(http.ErrAbortHandler) // cuts the connection
	case requestRefused:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case passes, answerLost, answerBroken:
	}
	out, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+m.upstream+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	out.Header, out.Host, out.ContentLength = r.Header.Clone(), r.Host, int64(len(body))
	response, err := m.client.Do(out)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	switch {
	case err != nil, f == answerLost:
		panic(http.ErrAbortHandler)
	case f == answerBroken:
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	maps.Copy(w.Header(), response.Header)
	w.WriteHeader(response.StatusCode)
	_, _ = w.Write(answer) // a client that is gone asks again
}

// TestLostAnswers is the promise that no lost answer is taken for a failure, or for success, on each cloud.
func TestLostAnswers(t *testing.T) {
	onClouds(t, func(t *testing.T, c cloud) {
		m, address := newMiddle(t, c)
		store, err := open.Open(t.Context(), c.root+"/lost", c.through(address))
		if err != nil {
			t.Fatal(err)
		}
		direct := openStore(t, c.root+"/lost")
		for _, tt := range []struct {
			name  string
			fates []fate
			rival bool  // another writer's put lands before the first try
			want  error // nil, fs.ErrExist, or errUnknown
			there string
			tries int
		}{
			{"all is well", []fate{passes}, false, nil, "ours", 1},
			{"the first answer is lost", []fate{answerLost, passes}, false, nil, "ours", 2},
			{"two answers are lost", []fate{answerLost, answerLost, passes}, false, nil, "ours", 3},
			{"the server fails after it was done", []fate{answerBroken, passes}, false, nil, "ours", 2},
			{"the first request is lost", []fate{requestLost, passes}, false, nil, "ours", 2},
			{"refused for a while", []fate{requestRefused, requestRefused, passes}, false, nil, "ours", 3},
			{"another's, all is well", []fate{passes}, true, fs.ErrExist, "theirs", 1},
			{"another's, and the first answer is lost", []fate{answerLost, passes}, true, fs.ErrExist, "theirs", 2},
			{"another's, and the first request is lost", []fate{requestLost, passes}, true, fs.ErrExist, "theirs", 2},
			{"every answer is lost", []fate{answerLost}, false, errUnknown, "ours", 5},
			{"every request is lost", []fate{requestLost}, false, errUnknown, "", 5},
		} {
			t.Run(tt.name, func(t *testing.T) {
				name := "_delta_log/" + tt.name + ".json"
				m.set(func() {
					if tt.rival {
						if err := direct.PutIfAbsent(t.Context(), name, []byte("theirs")); err != nil {
							t.Errorf("the other writer: %v", err)
						}
					}
				}, tt.fates...)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				err := store.PutIfAbsent(ctx, name, []byte("ours"))
				switch {
				case errors.Is(tt.want, errUnknown):
					if err == nil || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
						t.Errorf("answered %v, want an error that says nothing for certain", err)
					}
				case !errors.Is(err, tt.want):
					t.Errorf("answered %v, want %v", err, tt.want)
				}
				if tt.there != "" {
					if got := string(object(t, direct, name)); got != tt.there {
						t.Errorf("there is %q, want %q", got, tt.there)
					}
				}
				m.mu.Lock()
				defer m.mu.Unlock()
				if m.puts != tt.tries {
					t.Errorf("it was put %d times, want %d", m.puts, tt.tries)
				}
			})
		}
	})
}

// errUnknown stands for an error of no class.
var errUnknown = errors.New("unknown")
