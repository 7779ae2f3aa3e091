// Package registry asks a schema registry for schemas, by Confluent's REST interface, for decoders.
//
// It owns the settings source.schema_registry, and what is known of ids. It promises that an id whose schema is known is never
// asked for again; that an id counts as unknown only after all of the registry's servers have said so, and have said it again a while later; and
// that everything else, however long it lasts, ends as "later" and not as "unknown"; and that ids which messages make up neither fill the memory nor
// hold up each other.
//
// It does not parse schemas: each format does.
package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"regexp"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
)

// Schema is a schema as a registry has it.
type Schema struct {
	ID         int32
	Type       string // AVRO, PROTOBUF or JSON
	Text       string // as it was registered
	References []Reference
}

// Reference is a schema that another one uses, directly or not. It comes before those that use it.
type Reference struct {
	Name string // by which it is used: a full name in Avro, a path of an import in Protobuf
	Text string
}

// ErrUnknown says that the registry has no schema of an id or a subject, or none of those that it refers to.
var ErrUnknown = errors.New("the schema registry does not know it")

// errRefused says that the registry does not let us ask. A schema that messages wait for is asked for again all the same.
var errRefused = errors.New("the schema registry refuses access")

// ErrTooMany says that a schema uses more others than we take, directly or not. Asking again does not change that.
var ErrTooMany = fmt.Errorf("more than %d referenced schemas: have its producers use a schema with fewer of them", maxRefs)

// LaterError says that the registry has not answered yet, or not as it should.
type LaterError struct{ Cause error }

func (e *LaterError) Error() string {
	return fmt.Sprintf("waiting for the schema registry: %v", e.Cause)
}

// Unwrap returns the cause.
func (e *LaterError) Unwrap() error { return e.Cause }

// RetryLater tells how long to wait; a pipeline recognises the outcome by this method.
func (e *LaterError) RetryLater() time.Duration { return pause }

const (
	pause       = 100 * time.Millisecond // between two looks of a decoder that waits for a schema
	limit       = 10 * time.Second       // of one request
	firstWait   = 200 * time.Millisecond // before a failed request is made again; it doubles
	longestWait = 5 * time.Second
	confirmed   = 3                // answers "unknown" in a row that are believed: a follower may lag behind
	forget      = 30 * time.Second // after which an unknown id is asked for again
	maxRefs     = 1000             // schemas that one may use, directly or not
	atOnce      = 16               // requests at a time
	maxAsking   = 1000             // schemas that are being asked for; others wait
	maxUnknown  = 10_000           // ids that are known not to be, or asked for: messages may name any
)

// Client is a registry's client. It is shared by all decoders.
type Client struct {
	servers []*sr.Client
	log     *slog.Logger
	ctx     context.Context //nolint:containedctx // of the requests in the background, which Close ends
	cancel  context.CancelFunc
	idle    func()
	asking  sync.WaitGroup
	slots   chan struct{} // of the requests in the background

	mu      sync.Mutex
	ids     map[name]*entry
	unknown int // of them without a schema
	waiting int // of these, those that are being asked for
}

// name is by what a schema is asked for: its GUID where that is not zero, else its id.
type name struct {
	id   int32
	guid [16]byte
}

func (n name) String() string {
	if g := n.guid; g != [16]byte{} {
		return fmt.Sprintf("%x-%x-%x-%x-%x", g[:4], g[4:6], g[6:8], g[8:10], g[10:])
	}
	return fmt.Sprint(n.id)
}

// entry is what is known of a name.
type entry struct {
	schema *Schema
	err    error // ErrUnknown, or why there is no answer yet
	asking bool
	until  time.Time // of ErrUnknown
}

// New returns a client. Nothing is asked yet.
func New(ctx context.Context, c Config, getenv func(string) string, log *slog.Logger) (*Client, error) {
	conf, err := c.tls()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: conf, TLSHandshakeTimeout: limit, ForceAttemptHTTP2: true}
	return NewOver(ctx, c, transport, getenv, log)
}

// NewOver is New over another transport than the network, such as a test's.
func NewOver(ctx context.Context, c Config, transport http.RoundTripper, getenv func(string) string, log *slog.Logger) (*Client, error) {
	if _, err := c.secret(getenv); err != nil {
		return nil, err
	}
	out := &Client{log: log, idle: (&http.Client{Transport: transport}).CloseIdleConnections, ids: map[name]*entry{}, slots: make(chan struct{}, atOnce)}
	out.ctx, out.cancel = context.WithCancel(ctx)
	for _, u := range c.URLs {
		server, err := sr.NewClient(sr.URLs(u), sr.UserAgent("kafkadelta"), sr.HTTPClient(&http.Client{Timeout: limit, Transport: transport}),
			sr.PreReq(func(r *http.Request) error {
				secret, err := c.secret(getenv)
				switch {
				case err != nil || secret == "":
				case c.Username != "":
					r.SetBasicAuth(c.Username, secret)
				default:
					r.Header.Set("Authorization", "Bearer "+secret)
				}
				return err
			}))
		if err != nil {
			return nil, fmt.Errorf("source.schema_registry: %w", err)
		}
		out.servers = append(out.servers, server)
	}
	return out, nil
}

// Close ends what is under way.
func (c *Client) Close() {
	c.cancel()
	c.asking.Wait()
	c.idle()
}

// ByID gives the schema of an id. It does not wait: what is not known yet is asked for in the background, and the error is a
// *LaterError until the answer is there. ErrUnknown says that the registry has no such schema, or none that it refers to: its text names that.
// ErrTooMany says that the schema uses more than 1,000 others.
func (c *Client) ByID(id int32) (*Schema, error) { return c.find(name{id: id}) }

// ByGUID gives the schema of a GUID, as ByID does. Confluent's registries before 8.0 know none: ErrUnknown.
func (c *Client) ByGUID(guid [16]byte) (*Schema, error) { return c.find(name{guid: guid}) }

func (c *Client) find(n name) (*Schema, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.ids[n]
	switch {
	case e != nil && e.schema != nil:
		return e.schema, nil
	case e != nil && (errors.Is(e.err, ErrUnknown) || errors.Is(e.err, ErrTooMany)) && time.Now().Before(e.until):
		return nil, e.err
	case e != nil && e.asking:
	case c.waiting >= maxAsking:
		return nil, &LaterError{fmt.Errorf("schema %s: %d others are being asked for", n, c.waiting)}
	default:
		if e == nil {
			if c.unknown >= maxUnknown {
				c.forget()
			}
			e = &entry{}
			c.ids[n] = e
			c.unknown++
		}
		c.waiting++
		e.asking, e.err = true, errors.New("schema "+n.String()+" is being asked for")
		c.asking.Go(func() { c.ask(n, e) })
	}
	return nil, &LaterError{e.err}
}

// forget drops what is known not to be: who names it again has it asked for again.
func (c *Client) forget() {
	for n, e := range c.ids {
		if e.schema == nil && !e.asking {
			delete(c.ids, n)
			c.unknown--
		}
	}
}

// ask asks until there is an answer that counts.
func (c *Client) ask(n name, e *entry) {
	wait, unknown := firstWait, 0
	for {
		s, err := c.fetchInTurn(n)
		if errors.Is(err, ErrUnknown) {
			unknown++
		} else {
			unknown = 0
		}
		done := err == nil || unknown == confirmed || errors.Is(err, ErrTooMany)
		c.mu.Lock()
		first := e.err == nil || e.err.Error() != fmt.Sprint(err)
		e.schema, e.asking = s, !done
		e.err = err
		if err != nil && !done && unknown > 0 {
			e.err = errors.New("schema " + n.String() + ": " + err.Error() + "; it is asked again") // not ErrUnknown yet
		}
		e.until = time.Now().Add(forget)
		if done {
			c.waiting--
		}
		if s != nil {
			c.unknown--
		}
		c.mu.Unlock()
		if done || c.ctx.Err() != nil {
			return
		}
		if first && unknown == 0 {
			c.log.Warn("the schema registry does not answer; its messages wait, nothing is lost", "schema", n.String(), "error", err)
		}
		select {
		case <-time.After(wait):
		case <-c.ctx.Done():
			return
		}
		wait = min(2*wait, longestWait)
	}
}

// fetchInTurn is fetch, of which only some run at a time.
func (c *Client) fetchInTurn(n name) (*Schema, error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
		return c.fetch(c.ctx, n.get)
	case <-c.ctx.Done():
		return nil, c.ctx.Err()
	}
}

func (n name) get(ctx context.Context, server *sr.Client) (sr.SubjectSchema, error) {
	if n.guid != [16]byte{} {
		s, err := server.SchemaByGUID(ctx, n.String())
		if e, ok := errors.AsType[*sr.ResponseError](err); ok && e.StatusCode == http.StatusNotFound && !errors.Is(explain(err), ErrUnknown) && answersForIDs(ctx, server) {
			err = fmt.Errorf("%w: it answers for ids, but knows no GUIDs, as Confluent's before 8.0: have serializers write ids", ErrUnknown)
		}
		return s, err
	}
	s, err := server.SchemaByID(ctx, int(n.id))
	return sr.SubjectSchema{Schema: s, ID: int(n.id)}, err
}

// answersForIDs tells whether there is a registry that answers where schemas of ids are: it has that of the greatest id, or says that it has not.
func answersForIDs(ctx context.Context, server *sr.Client) bool {
	_, err := answered(name{id: math.MaxInt32}.get(ctx, server))
	return err == nil || errors.Is(err, ErrUnknown)
}

// Latest gives the newest schema of a subject. It asks until there is an answer that counts, as long as the context allows, unless
// the registry refuses who asks, or the schema uses more than 1,000 others. ErrUnknown says that the registry has no such subject; where the context ends it, the error is the context's.
func (c *Client) Latest(ctx context.Context, subject string) (*Schema, error) {
	wait, unknown := firstWait, 0
	for warned := false; ; {
		s, err := c.fetch(ctx, func(ctx context.Context, server *sr.Client) (sr.SubjectSchema, error) {
			return server.SchemaByVersion(ctx, subject, -1)
		})
		if err == nil {
			return s, nil
		}
		if errors.Is(err, ErrUnknown) {
			unknown++
		} else {
			unknown = 0
		}
		err = fmt.Errorf("asking the schema registry for the latest schema of subject %q: %w", subject, err)
		if unknown == confirmed || errors.Is(err, errRefused) || errors.Is(err, ErrTooMany) {
			return nil, err
		}
		if unknown == 0 && !warned && ctx.Err() == nil {
			c.log.Warn("the schema registry does not answer; the start waits for it", "subject", subject, "error", err)
			warned = true
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done(): // told as such: a stop is no fault of the registry
			return nil, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		wait = min(2*wait, longestWait)
	}
}

// fetch asks one server after the other, and for what the schema refers to. It is ErrUnknown where all of them say so: one that lags behind may not know what the next one does.
func (c *Client) fetch(ctx context.Context, get func(context.Context, *sr.Client) (sr.SubjectSchema, error)) (*Schema, error) {
	var unknown, failed error
	for _, server := range c.servers {
		found, err := answered(get(ctx, server))
		if err == nil {
			out := &Schema{ID: int32(found.ID), Type: found.Type.String(), Text: found.Schema.Schema}
			if out.References, err = references(ctx, server, found.References, map[string]bool{}); err == nil {
				return out, nil
			}
		}
		if typ := otherType.FindStringSubmatch(fmt.Sprint(err)); typ != nil { // it is an answer: no format of ours reads such a schema
			return &Schema{ID: int32(found.ID), Type: typ[1]}, nil
		}
		if errors.Is(err, ErrTooMany) { // an answer, too
			return nil, err
		}
		if errors.Is(err, ErrUnknown) {
			unknown = err
		} else {
			failed = err
		}
	}
	return nil, cmp.Or(failed, unknown)
}

// otherType is how package sr tells of a schema type that it does not know.
var otherType = regexp.MustCompile(`unknown schema type "([^"]*)"`)

// answered says what an answer is worth: one of something on the way is no schema.
func answered(s sr.SubjectSchema, err error) (sr.SubjectSchema, error) {
	if err == nil && s.Schema.Schema == "" {
		err = errors.New("the answer has no schema: is there a schema registry at source.schema_registry.urls?")
	}
	return s, explain(err)
}

// references gives the schemas that refs name, with those that these use before them. Of two versions under one name the first one counts that is met from
// above, as registries themselves resolve them. A version that was deleted is one still: schemas that use it have stayed.
func references(ctx context.Context, server *sr.Client, refs []sr.SchemaReference, seen map[string]bool) ([]Reference, error) {
	var out []Reference
	for _, ref := range refs {
		if seen[ref.Name] {
			continue
		}
		if seen[ref.Name] = true; len(seen) > maxRefs {
			return nil, fmt.Errorf("its reference %s, version %d of subject %s: %w", ref.Name, ref.Version, ref.Subject, ErrTooMany)
		}
		found, err := answered(server.SchemaByVersion(sr.WithParams(ctx, sr.ShowDeleted), ref.Subject, ref.Version))
		if err != nil {
			return nil, fmt.Errorf("its reference %s, version %d of subject %s: %w", ref.Name, ref.Version, ref.Subject, err)
		}
		below, err := references(ctx, server, found.References, seen)
		if err != nil {
			return nil, err
		}
		out = append(append(out, below...), Reference{ref.Name, found.Schema.Schema})
	}
	return out, nil
}

// Error codes of Confluent's REST interface that say that there is no such schema, subject or version.
const (
	codeSubject = 40401
	codeVersion = 40402
	codeSchema  = 40403
)

// explain tells a registry's word that it does not know from a 404 of anything else on the way.
func explain(err error) error {
	e, ok := errors.AsType[*sr.ResponseError](err)
	switch {
	case !ok:
		return err
	case e.StatusCode == http.StatusNotFound && (e.ErrorCode == codeSubject || e.ErrorCode == codeVersion || e.ErrorCode == codeSchema):
		return fmt.Errorf("%w (%s)", ErrUnknown, e.Message)
	case e.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%w: is there a schema registry at source.schema_registry.urls?", err)
	case e.StatusCode == http.StatusUnauthorized || e.StatusCode == http.StatusForbidden:
		return fmt.Errorf("%w, status %d: check the user or token of source.schema_registry: %w", errRefused, e.StatusCode, err)
	}
	return err
}
