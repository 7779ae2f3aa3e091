// Package registry asks a schema registry for schemas, by Confluent's REST interface, for decoders.
//
// It owns the settings source.schema_registry, and what is known of ids. It promises that an id whose schema is known is never
// asked for again; that an id counts as unknown only after the registry has said so, and has said it again a while later; and
// that everything else, however long it lasts, ends as "later" and not as "unknown".
//
// It does not parse schemas: each format does.
package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
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

// ErrUnknown says that the registry has no schema of an id or a subject.
var ErrUnknown = errors.New("the schema registry does not know it")

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
)

// Client is a registry's client. It is shared by all decoders.
type Client struct {
	servers []*sr.Client
	log     *slog.Logger
	ctx     context.Context //nolint:containedctx // of the requests in the background, which Close ends
	cancel  context.CancelFunc
	idle    func()
	asking  sync.WaitGroup

	mu  sync.Mutex
	ids map[int32]*entry
}

// entry is what is known of an id.
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
	if _, err := c.secret(getenv); err != nil {
		return nil, err
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: conf, TLSHandshakeTimeout: limit, ForceAttemptHTTP2: true}
	out := &Client{log: log, idle: transport.CloseIdleConnections, ids: map[int32]*entry{}}
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
// *LaterError until the answer is there. ErrUnknown says that the registry has no such schema.
func (c *Client) ByID(id int32) (*Schema, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.ids[id]
	if e == nil {
		e = &entry{}
		c.ids[id] = e
	}
	switch {
	case e.schema != nil:
		return e.schema, nil
	case errors.Is(e.err, ErrUnknown) && time.Now().Before(e.until):
		return nil, e.err
	case !e.asking:
		e.asking, e.err = true, errors.New("schema "+fmt.Sprint(id)+" is being asked for")
		c.asking.Go(func() { c.ask(id, e) })
	}
	return nil, &LaterError{e.err}
}

// ask asks until there is an answer that counts.
func (c *Client) ask(id int32, e *entry) {
	wait, unknown := firstWait, 0
	for {
		s, err := c.fetch(c.ctx, func(ctx context.Context, server *sr.Client) (sr.Schema, error) {
			return server.SchemaByID(ctx, int(id))
		})
		if err == nil {
			s.ID = id
		}
		if errors.Is(err, ErrUnknown) {
			unknown++
		} else {
			unknown = 0
		}
		done := err == nil || unknown == confirmed
		c.mu.Lock()
		first := e.err == nil || e.err.Error() != fmt.Sprint(err)
		e.schema, e.asking = s, !done
		e.err = err
		if err != nil && !done && unknown > 0 {
			e.err = fmt.Errorf("schema %d: the registry says that it does not know it; it is asked again", id)
		}
		e.until = time.Now().Add(forget)
		c.mu.Unlock()
		if done || c.ctx.Err() != nil {
			return
		}
		if first && unknown == 0 {
			c.log.Warn("the schema registry does not answer; its messages wait, nothing is lost", "schema_id", id, "error", err)
		}
		select {
		case <-time.After(wait):
		case <-c.ctx.Done():
			return
		}
		wait = min(2*wait, longestWait)
	}
}

// Latest gives the newest schema of a subject, and waits for it as long as the context allows. ErrUnknown says that the registry
// has no such subject.
func (c *Client) Latest(ctx context.Context, subject string) (*Schema, error) {
	var id int
	s, err := c.fetch(ctx, func(ctx context.Context, server *sr.Client) (sr.Schema, error) {
		found, err := server.SchemaByVersion(ctx, subject, -1)
		id = found.ID
		return found.Schema, err
	})
	if err != nil {
		return nil, fmt.Errorf("asking the schema registry for the latest schema of subject %q: %w", subject, err)
	}
	s.ID = int32(id)
	return s, nil
}

// fetch asks one server after the other, and for what the schema refers to.
func (c *Client) fetch(ctx context.Context, get func(context.Context, *sr.Client) (sr.Schema, error)) (*Schema, error) {
	var last error
	for _, server := range c.servers {
		found, err := get(ctx, server)
		if err == nil {
			out := &Schema{Type: found.Type.String(), Text: found.Schema}
			if out.References, err = references(ctx, server, found.References, map[string]bool{}); err == nil {
				return out, nil
			}
		}
		if last = explain(err); errors.Is(last, ErrUnknown) {
			return nil, last
		}
	}
	return nil, last
}

// references gives the schemas that refs name, with those that these use before them.
func references(ctx context.Context, server *sr.Client, refs []sr.SchemaReference, seen map[string]bool) ([]Reference, error) {
	var out []Reference
	for _, ref := range refs {
		key := fmt.Sprintf("%s/%s/%d", ref.Name, ref.Subject, ref.Version)
		if seen[key] {
			continue
		}
		if seen[key] = true; len(seen) > maxRefs {
			return nil, fmt.Errorf("more than %d referenced schemas", maxRefs)
		}
		found, err := server.SchemaByVersion(ctx, ref.Subject, ref.Version)
		if err != nil {
			return nil, fmt.Errorf("its reference %s, version %d of subject %s: %w", ref.Name, ref.Version, ref.Subject, notUnknown(err))
		}
		below, err := references(ctx, server, found.References, seen)
		if err != nil {
			return nil, err
		}
		out = append(append(out, below...), Reference{ref.Name, found.Schema.Schema})
	}
	return out, nil
}

// notUnknown keeps a reference that is not there from being taken for a schema that is not.
func notUnknown(err error) error { return errors.New(err.Error()) }

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
		return fmt.Errorf("status %d: check the user or token of source.schema_registry: %w", e.StatusCode, err)
	}
	return err
}
