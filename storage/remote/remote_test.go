package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// status is an SDK's error of these tests.
type status int

func (s status) Error() string { return fmt.Sprintf("status %d", int(s)) }

func explain(err error) Failure {
	if s, ok := errors.AsType[status](err); ok {
		return Failure{Outcome: OutcomeOf(int(s)), Hint: "look at the number"}
	}
	return Failure{Outcome: NoAnswer}
}

// served answers requests with these status codes, in turn; 0 cuts the connection.
func served(t *testing.T, header http.Header, codes ...int) (*Client, *httptest.Server, *[]string) {
	t.Helper()
	var next atomic.Int64 // a request that was cut off may still be served beside the one after it
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		code := codes[min(int(next.Add(1)), len(codes))-1]
		if code == 0 {
			panic(http.ErrAbortHandler)
		}
		maps.Copy(w.Header(), header)
		w.WriteHeader(code)
	}))
	t.Cleanup(server.Close)
	var mu sync.Mutex
	seen := &[]string{}
	c := New(Options{Explain: explain, Observe: func(operation, outcome string) {
		mu.Lock()
		defer mu.Unlock()
		*seen = append(*seen, operation+" "+outcome)
	}})
	c.wait = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	t.Cleanup(c.HTTP.CloseIdleConnections)
	return c, server, seen
}

func do(ctx context.Context, c *Client, server *httptest.Server, writes bool) (bool, error) {
	return c.Do(ctx, Operation{Name: PutIfAbsent, Object: server.URL + "/x", Writes: writes}, func(ctx context.Context) error {
		return send(ctx, c, server.URL)
	})
}

func TestRetries(t *testing.T) {
	for _, tc := range []struct {
		name     string
		codes    []int
		writes   bool
		is       error
		not      error
		doubtful bool
		seen     string
	}{
		{name: "done", codes: []int{200}, seen: "ok"},
		{name: "a throttled request is tried again", codes: []int{503, 429, 200}, doubtful: true, seen: "throttled throttled ok"},
		{name: "a server's failure is tried again", codes: []int{500, 201}, doubtful: true, seen: "server_error ok"},
		{name: "no answer is tried again", codes: []int{0, 200}, doubtful: true, seen: "no_answer ok"},
		{name: "not for ever", codes: []int{500}, doubtful: true, is: status(500), seen: "server_error server_error server_error server_error server_error"},
		{name: "no permission is not", codes: []int{403}, is: fs.ErrPermission, seen: "denied"},
		{name: "wrong credentials are not", codes: []int{401}, is: fs.ErrPermission, seen: "denied"},
		{name: "a missing object is not", codes: []int{404}, is: fs.ErrNotExist, seen: "not_found"},
		{name: "a taken name is not", codes: []int{412}, writes: true, is: fs.ErrExist, seen: "exists"},
		{name: "a wrong request is not", codes: []int{400}, is: status(400), seen: "invalid"},
		{name: "a taken name after a lost answer is told as doubtful", codes: []int{500, 409}, writes: true, doubtful: true, is: fs.ErrExist, seen: "server_error exists"},
		{name: "a write that may have landed is not told as forbidden", codes: []int{0, 403}, writes: true, doubtful: true, is: status(403), not: fs.ErrPermission, seen: "no_answer denied"},
		{name: "a write that may have landed is not told as missing", codes: []int{500, 404}, writes: true, doubtful: true, is: status(404), not: fs.ErrNotExist, seen: "server_error not_found"},
		{name: "a read after a failure is", codes: []int{500, 404}, doubtful: true, is: fs.ErrNotExist, seen: "server_error not_found"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, server, seen := served(t, nil, tc.codes...)
			doubtful, err := do(t.Context(), c, server, tc.writes)
			if doubtful != tc.doubtful {
				t.Errorf("doubtful: got %v, want %v", doubtful, tc.doubtful)
			}
			if (err != nil) != (tc.is != nil) || tc.is != nil && !errors.Is(err, tc.is) || tc.not != nil && errors.Is(err, tc.not) {
				t.Errorf("error %v: want one that is %v and not %v", err, tc.is, tc.not)
			}
			want := PutIfAbsent + " " + strings.ReplaceAll(tc.seen, " ", " "+PutIfAbsent+" ")
			if got := strings.Join(*seen, " "); got != want {
				t.Errorf("observed %q, want %q", got, want)
			}
		})
	}
}

func TestOnceIsNotTriedAgain(t *testing.T) {
	c, server, seen := served(t, nil, 503, 200)
	doubtful, err := c.Do(t.Context(), Operation{Name: Part, Once: true}, func(ctx context.Context) error {
		return get(ctx, c, server)
	})
	if doubtful || !errors.Is(err, status(503)) || len(*seen) != 1 {
		t.Errorf("got %v, doubtful %v, after %d requests; want the answer of the first", err, doubtful, len(*seen))
	}
}

func TestRequestsForCredentials(t *testing.T) {
	c, server, seen := served(t, http.Header{"Retry-After": {"7200"}}, 503, 503, 200)
	if _, err := c.Do(t.Context(), Operation{Name: Put, Writes: true}, func(ctx context.Context) error {
		if err := get(ForCredentials(ctx), c, server); err != nil {
			return err
		}
		return get(ctx, c, server)
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"credentials throttled", "credentials throttled", "credentials ok", "put ok"}; !slices.Equal(*seen, want) {
		t.Errorf("observed %q, want %q", *seen, want)
	}
}

func get(ctx context.Context, c *Client, server *httptest.Server) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
	if err != nil {
		return err
	}
	response, err := c.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		return status(response.StatusCode)
	}
	return nil
}

func TestErrorNamesItsParts(t *testing.T) {
	c, server, _ := served(t, nil, 0, 403)
	_, err := do(t.Context(), c, server, true)
	for _, part := range []string{PutIfAbsent, server.URL + "/x", "status 403", "may have been carried out", "look at the number"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
}

func TestRetryWaitsAsTheServerAsks(t *testing.T) {
	for header, want := range map[string]time.Duration{"Retry-After": 7 * time.Second, "X-Ms-Retry-After-Ms": 7 * time.Millisecond} {
		c, server, _ := served(t, http.Header{header: {"7"}}, 503, 200)
		var waits []time.Duration
		c.wait = func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }
		if _, err := do(t.Context(), c, server, false); err != nil {
			t.Fatal(err)
		}
		if len(waits) != 1 || waits[0] < want || want > time.Second && waits[0] > want {
			t.Errorf("%s: waited %v, want %v", header, waits, want)
		}
	}
}

func TestRetryDoesNotWaitForHours(t *testing.T) {
	c, server, seen := served(t, http.Header{"Retry-After": {"7200"}}, 503, 200)
	if _, err := do(t.Context(), c, server, false); !errors.Is(err, status(503)) || len(*seen) != 1 {
		t.Errorf("got %v after %d requests, want the answer of the first", err, len(*seen))
	}
}

func TestRetriesHaveABudget(t *testing.T) {
	c, server, seen := served(t, nil, 500)
	for range 100 {
		if _, err := do(t.Context(), c, server, false); err == nil {
			t.Fatal("no error")
		}
	}
	if want := 100 + budgetSize/retryCost; len(*seen) != want {
		t.Errorf("sent %d requests for 100 operations, want %d", len(*seen), want)
	}
}

// TestRetriesOfAnSDKHaveTheSameBudget asks for those that an SDK makes by itself.
func TestRetriesOfAnSDKHaveTheSameBudget(t *testing.T) {
	c, server, seen := served(t, nil, 500)
	for _, final := range []Outcome{NotFound, Exists, Denied, Invalid, Cancelled} {
		if c.Again(final) {
			t.Errorf("%v may be tried again", final)
		}
	}
	got := 0
	for c.Again(NoAnswer) {
		got++
	}
	if want := budgetSize / (retryCost + noAnswerTax); got != want {
		t.Errorf("%d retries, want %d", got, want)
	}
	if _, err := do(t.Context(), c, server, false); err == nil || len(*seen) != 1 {
		t.Errorf("got %v after %d requests, want one without a retry: the budget is used up", err, len(*seen))
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c, server, seen := served(t, nil, 503)
	c.wait = func(context.Context, time.Duration) error { cancel(); return ctx.Err() }
	_, err := do(ctx, c, server, true)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, status(503)) {
		t.Errorf("got %v, want the context's error and the last answer", err)
	}
	if !slices.Equal(*seen, []string{PutIfAbsent + " throttled"}) {
		t.Errorf("observed %v, want one request", *seen)
	}
}

func TestRequestsOfTheSDKAreCounted(t *testing.T) {
	c, server, seen := served(t, nil, 200)
	response, err := c.HTTP.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if err := get(As(t.Context(), Part), c, server); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(*seen, []string{Credentials + " ok", Part + " ok"}) {
		t.Errorf("observed %v", *seen)
	}
}

// TestStillConnection reads from a peer that sends two bytes and then nothing more.
func TestStillConnection(t *testing.T) {
	near, far := net.Pipe()
	t.Cleanup(func() { _ = far.Close() })
	guarded := guard(near, 50*time.Millisecond)
	go func() { _, _ = far.Write([]byte("ab")) }()
	data, err := io.ReadAll(guarded)
	if string(data) != "ab" || err == nil {
		t.Errorf("read %q, %v; want two bytes and an error", data, err)
	}
	if err := guarded.Close(); err != nil {
		t.Error(err)
	}
}

func TestParts(t *testing.T) {
	for _, tc := range []struct{ part, sent, least, want, atOnce int }{
		{0, 0, 0, 8 << 20, 2}, {1 << 30, 100 << 20, 0, 8 << 20, 12}, {3<<20 + 1, 0, 0, 3 << 20, 5}, {3 << 20, 1 << 20, 5 << 20, 5 << 20, 1}, {1, 1 << 20, 0, 256 << 10, 4},
		{600 << 10, 1 << 20, 0, 512 << 10, 2},
	} {
		c := New(Options{Parts: Parts{tc.part, tc.sent}, LeastPart: tc.least})
		if got := c.PartSize(); got != tc.want {
			t.Errorf("parts of %d, at least %d, have %d bytes, want %d", tc.part, tc.least, got, tc.want)
		}
		var sent []func()
		for range tc.atOnce {
			done, err := c.AwaitPart(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			sent = append(sent, done)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.AwaitPart(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%v: one part more than %d may be sent: %v", tc, tc.atOnce, err)
		}
		for _, done := range sent {
			done()
		}
		if _, err := c.AwaitPart(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
