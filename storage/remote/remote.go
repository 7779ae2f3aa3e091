// Package remote is what the backends of the clouds share below their SDKs: one HTTP client that counts each request and
// never hangs, and one retry loop, so that an error of any cloud is answered in the same way.
//
// It owns the rules of trying again and the form of an error: the operation, the object, the cause and a hint. It promises
// that each request is counted once, by operation and outcome; that no permission, precondition or not-found error is tried
// again; that retries have a budget; and that a write whose answer was lost is never told as a failure that changed nothing.
// The SDKs' own retries are turned off, or they would multiply these. It knows no cloud: what an error means is told by the
// backend, in Explain. docs/adr/0007-storage-retries.md has the reasons.
package remote

import (
	"cmp"
	"context"
	"crypto/x509"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Limits of trying again. The costs are those of the AWS SDKs' standard mode: an empty budget means that most of what is
// sent fails, when more requests would only make it worse. The caller above has its own, longer backoff.
const (
	maxTries    = 5
	firstWait   = 100 * time.Millisecond // doubled each time, then multiplied by a random number below 1
	longestWait = 30 * time.Second       // of what a server asks for by Retry-After
	lastStart   = 45 * time.Second       // after the first try began
	budgetSize  = 500
	retryCost   = 5
	noAnswerTax = 5 // more, for a retry after no answer
)

// Options are what a backend gives to its client.
type Options struct {
	// Explain tells what an error of the SDK means; it is never asked about nil.
	Explain func(error) Failure
	// Observe is told of every request that was sent, also those that the SDK sends on its own, such as for credentials.
	// It must be fast and safe for use by many goroutines. Nil: nobody is told.
	Observe func(operation, outcome string)
	// RootCAs are the certificates to trust; nil: the system's.
	RootCAs *x509.CertPool
	Parts
	// LeastPart is the size below which the service takes no part but the last, in bytes.
	LeastPart int
}

// Parts say in what large objects are streamed. A stream holds one part that fills; what is sent is bounded for all streams together.
type Parts struct {
	Size int // of a part, in bytes: up to DefaultPart, which 0 stands for
	Sent int // bytes of parts that are sent at a time, at least one part; 0 stands for DefaultSent
}

// DefaultPart is the size of parts that pays, in bytes, and DefaultSent what a single stream sends of them at a time.
const (
	DefaultPart = 8 << 20
	DefaultSent = 2 * DefaultPart
)

// partUnit is what parts are a multiple of, since Google Cloud Storage asks for it.
const partUnit = 256 << 10

// Client sends the requests of one store. Its methods may be called from any goroutine.
type Client struct {
	HTTP *http.Client // for the SDK; it follows no redirects of its own and has no retries

	explain func(error) Failure
	wait    func(context.Context, time.Duration) error
	mu      sync.Mutex
	budget  int
	part    int
	sending chan struct{} // has one for each part that is sent
}

// New returns a client with its own connections.
func New(o Options) *Client {
	part := min(max(cmp.Or(o.Size, DefaultPart)/partUnit*partUnit, o.LeastPart, partUnit), DefaultPart)
	return &Client{
		HTTP:    &http.Client{Transport: &counter{next: transport(o.RootCAs), observe: o.Observe}},
		explain: o.Explain,
		wait:    wait,
		budget:  budgetSize,
		part:    part,
		sending: make(chan struct{}, max(cmp.Or(o.Sent, DefaultSent)/part, 1)),
	}
}

// PartSize is that of a stream's parts, in bytes.
func (c *Client) PartSize() int { return c.part }

// AwaitPart waits until one more part may be sent, of all streams. Sent is to be called when it was, or was given up.
func (c *Client) AwaitPart(ctx context.Context) (sent func(), err error) {
	select {
	case c.sending <- struct{}{}:
		return func() { <-c.sending }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Operation is one call of a store's method, or one step of it.
type Operation struct {
	Name   string // as metrics show it: one of the constants below
	Object string // the URL or name of what it is about, without secrets
	Writes bool   // a lost answer may hide a change
	Once   bool   // it can't be tried again: what it sends is gone after the first try
}

// The names of operations, as the metric and the documentation's table of costs show them.
const (
	List        = "list"
	Get         = "get"
	Head        = "head"
	Put         = "put"
	PutIfAbsent = "put_if_absent"
	Part        = "part"     // of an object that is streamed; beginning a multipart upload, too
	Complete    = "complete" // makes a streamed object visible
	Abort       = "abort"
	Delete      = "delete"
	LogStore    = "log_store"   // outside of the object store, which decides what is a commit (S3's DynamoDB)
	Credentials = "credentials" // and whatever else an SDK asks on its own
)

// Do tries an operation until it succeeds, fails for good, or the budget, the tries or the time are used up. Doubtful tells
// that a try before the last one may have been carried out although its answer was lost: a precondition that fails then may
// have met the caller's own work. The error is an *Error.
func (c *Client) Do(ctx context.Context, op Operation, try func(context.Context) error) (doubtful bool, err error) {
	begin := time.Now()
	for n := 0; ; n++ {
		call := &call{operation: op.Name}
		err := try(context.WithValue(ctx, callKey{}, call))
		if err == nil {
			c.refund()
			return doubtful, nil
		}
		f := c.explain(err)
		failed := &Error{Operation: op, Failure: f, Cause: err, doubtful: doubtful && op.Writes}
		if ctx.Err() != nil {
			return doubtful, failed.cancelled(ctx)
		}
		delay := max(call.retryAfter, rand.N(firstWait<<n))
		if op.Once || f.Once || !f.Outcome.Temporary() || n+1 == maxTries || delay > longestWait || time.Since(begin)+delay > lastStart || !c.take(f.Outcome) {
			return doubtful, failed
		}
		doubtful = true
		if c.wait(ctx, delay) != nil {
			return doubtful, failed.cancelled(ctx)
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// take pays for a retry, if the budget has it.
func (c *Client) take(after Outcome) bool {
	cost := retryCost
	if after == NoAnswer {
		cost += noAnswerTax
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.budget < cost {
		return false
	}
	c.budget -= cost
	return true
}

func (c *Client) refund() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.budget = min(c.budget+1, budgetSize)
}

// Again tells whether an SDK that tries again by itself may do so after this outcome, and pays for it from the same budget.
func (c *Client) Again(after Outcome) bool { return after.Temporary() && c.take(after) }

// As returns a context whose requests are counted as those of an operation, for what an SDK sends outside of Do.
func As(ctx context.Context, operation string) context.Context {
	return context.WithValue(ctx, callKey{}, &call{operation: operation})
}

// ForCredentials returns a context whose requests are counted as Credentials, for what a backend asks of an identity service
// in the middle of an operation.
func ForCredentials(ctx context.Context) context.Context { return As(ctx, Credentials) }

// call is one try of an operation; the transport finds it in the context.
type call struct {
	operation  string
	retryAfter time.Duration // as the server asked, 0 if it did not
}

type callKey struct{}

// counter tells the observer of each request.
type counter struct {
	next    http.RoundTripper
	observe func(operation, outcome string)
}

// RoundTrip implements http.RoundTripper.
func (c *counter) RoundTrip(req *http.Request) (*http.Response, error) {
	response, err := c.next.RoundTrip(req)
	operation, outcome := Credentials, NoAnswer
	call, _ := req.Context().Value(callKey{}).(*call)
	if call != nil {
		operation = call.operation
	}
	switch {
	case err == nil:
		outcome = OutcomeOf(response.StatusCode)
		if call != nil {
			call.retryAfter = retryAfter(response)
		}
	case req.Context().Err() != nil:
		outcome = Cancelled
	}
	if c.observe != nil {
		c.observe(operation, outcome.String())
	}
	return response, err
}

// CloseIdleConnections lets those of http.Client reach the transport.
func (c *counter) CloseIdleConnections() {
	if t, ok := c.next.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// retryAfter reads what a server that refuses for a while asks for, in seconds (RFC 9110, section 10.2.3) or, on Azure, in
// milliseconds.
func retryAfter(r *http.Response) time.Duration {
	for header, unit := range map[string]time.Duration{"X-Ms-Retry-After-Ms": time.Millisecond, "Retry-After": time.Second} {
		if n, err := strconv.ParseUint(r.Header.Get(header), 10, 31); err == nil {
			return time.Duration(n) * unit
		}
	}
	return 0
}
