package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/admin"
	"kafkadelta/decode"
	"kafkadelta/delta"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
	"kafkadelta/storage"
	"kafkadelta/storage/open"
)

// routePart is a part of table.uri that a value of each message stands in for.
var routePart = regexp.MustCompile(`\{(field|header):([^{}]*)\}`)

// nullKey stands for null, a missing value and an empty text. It is fixed for ever, as keyText is: tables have these names.
const nullKey = "__null__"

// catalogFolder is beside the tables, where table.catalog does not name another place. No value is spelled like it.
const catalogFolder = "_catalog"

// maxKey bounds the spelling of one value, in bytes: file systems take no longer names.
const maxKey = 200

// Bounds of table.max_open and table.max_tables.
const (
	maxOpenTables = 10_000
	maxTables     = 100_000
)

// divided tells whether the rows go to many tables, by values.
func (c config) divided() bool { return routePart.MatchString(c.Table.Sink.URI) }

// tableURI is where the table of the stream's offsets is: the only one, or the catalog.
func (c config) tableURI() string {
	if !c.divided() {
		return c.Table.Sink.URI
	}
	if c.Table.Catalog != "" {
		return c.Table.Catalog
	}
	uri := c.Table.Sink.URI
	first := routePart.FindStringIndex(uri)[0]
	return uri[:strings.LastIndexAny(uri[:first], `/\`)+1] + catalogFolder
}

// routeParts are those of table.uri.
func (c config) routeParts() ([]pipeline.RoutePart, error) {
	var parts []pipeline.RoutePart
	for _, m := range routePart.FindAllStringSubmatch(c.Table.Sink.URI, -1) {
		if m[1] == "header" {
			if m[2] == "" {
				return nil, errors.New("table.uri: {header:} names no header")
			}
			parts = append(parts, pipeline.RoutePart{Header: m[2]})
			continue
		}
		path, err := decode.ParsePath(m[2])
		if err != nil {
			return nil, fmt.Errorf("table.uri: {field:%s}: %w", m[2], err)
		}
		parts = append(parts, pipeline.RoutePart{Field: path})
	}
	return parts, nil
}

// keyText spells a value as a part of a folder's name: letters, digits, '.', '_', '-', but no '.' or '_' at the beginning, and other bytes as ~XX.
// It is not %XX, since some readers take a path for a URI and decode that (delta-rs, DuckDB), and others don't (Spark).
func keyText(value *string) (string, error) {
	if value == nil {
		return nullKey, nil
	}
	var b strings.Builder
	for i := range len(*value) {
		switch c := (*value)[i]; {
		case 'a' <= c|0x20 && c|0x20 <= 'z', '0' <= c && c <= '9', c == '-', (c == '.' || c == '_') && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "~%02X", c)
		}
	}
	if b.Len() > maxKey {
		return "", fmt.Errorf("its name would have %d bytes, and %d are allowed", b.Len(), maxKey)
	}
	return b.String(), nil
}

// tableKey names a table by the values of the parts, with slashes between.
func tableKey(values []*string) (string, error) {
	texts := make([]string, len(values))
	for i, v := range values {
		var err error
		if texts[i], err = keyText(v); err != nil {
			return "", err
		}
	}
	return strings.Join(texts, "/"), nil
}

// uriOf is where the table of a key is.
func (c config) uriOf(key string) (string, error) {
	texts := strings.Split(key, "/")
	if want := len(routePart.FindAllString(c.Table.Sink.URI, -1)); len(texts) != want {
		return "", &configError{fmt.Errorf("the catalog knows a table %s by %d values, and table.uri is %q, with %d: have in it what was there in braces", key, len(texts), open.Redact(c.Table.Sink.URI), want)}
	}
	return routePart.ReplaceAllStringFunc(c.Table.Sink.URI, func(string) string {
		text := texts[0]
		texts = texts[1:]
		return text
	}), nil
}

// keyStores opens the stores of a catalog's tables, by their keys. Those of one bucket share a client.
func (c config) keyStores(observe func(operation, outcome string), parts open.Parts) func(ctx context.Context, key string) (storage.Store, error) {
	o := open.Options{Config: c.Storage, Getenv: os.Getenv, Observe: observe, Parts: parts, Clients: &open.Clients{}}
	return func(ctx context.Context, key string) (storage.Store, error) {
		uri, err := c.uriOf(key)
		if err != nil {
			return nil, err
		}
		store, err := open.Open(ctx, uri, o)
		if err != nil {
			return nil, &configError{fmt.Errorf("table.uri: %w", err)}
		}
		return store, nil
	}
}

// validateTables checks what is only for many tables.
func (c config) validateTables() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !c.divided() {
		if strings.Contains(c.Table.Sink.URI, "{field") || strings.Contains(c.Table.Sink.URI, "{header") {
			bad("table.uri is %q: write {field:PATH} or {header:NAME}", open.Redact(c.Table.Sink.URI))
		}
		if c.Table.Catalog != "" {
			bad("table.catalog is for many tables: leave it out, or have {field:PATH} or {header:NAME} in table.uri")
		}
		return errors.Join(errs...)
	}
	parts, err := c.routeParts()
	if err != nil {
		errs = append(errs, err)
	}
	if last := routePart.FindAllStringIndex(c.Table.Sink.URI, -1); strings.ContainsAny(routePart.ReplaceAllString(c.Table.Sink.URI, ""), "{}") {
		bad("table.uri is %q: between {field:PATH} or {header:NAME}, of which there are %d, no braces are allowed", open.Redact(c.Table.Sink.URI), len(last))
	}
	errs = append(errs, c.checkFolders())
	if c.Table.MaxOpen < 1 || c.Table.MaxOpen > maxOpenTables {
		bad("table.max_open is %d: use 1 to %d", c.Table.MaxOpen, maxOpenTables)
	}
	if c.Table.MaxTables < 1 || c.Table.MaxTables > maxTables {
		bad("table.max_tables is %d: use 1 to %d", c.Table.MaxTables, maxTables)
	}
	if c.Table.Sink.Properties["delta.setTransactionRetentionDuration"] != "" {
		bad("table.properties has delta.setTransactionRetentionDuration: the txns of the tables say which rows they have, and must not expire; leave it out")
	}
	if mode := c.Table.Sink.Properties["delta.columnMapping.mode"]; mode != "" && mode != "none" {
		bad("table.properties has delta.columnMapping.mode %s: tables of a table.uri with values can't have column mapping, since each would have names of its own in its files; leave it out", mode)
	}
	if c.Verify.Interval > 0 {
		bad("verify.interval checks one table, and table.uri has values: run `connector verify` instead")
	}
	return errors.Join(append(errs, c.checkRoute(parts))...)
}

// checkRoute looks for the columns that name tables, where the configuration has the schema.
func (c config) checkRoute(parts []pipeline.RoutePart) error {
	schema, err := c.createSchema()
	if schema == nil || err != nil {
		return nil //nolint:nilerr // validate tells it
	}
	for _, p := range parts {
		if _, err := pipeline.RouteType(p, schema); err != nil {
			return fmt.Errorf("table.uri: %w", err)
		}
	}
	return nil
}

// routing has the rows go to many tables; nil where table.uri names one.
func (c config) routing(o runOptions, observe func(operation, outcome string), log *slog.Logger) (*pipeline.Routing, error) {
	if !c.divided() {
		return nil, nil
	}
	return c.routingIn(c.keyStores(observe, c.parts(o)), o, log)
}

// routingIn has the tables in the stores that are given by their keys.
func (c config) routingIn(stores func(ctx context.Context, key string) (storage.Store, error), o runOptions, log *slog.Logger) (*pipeline.Routing, error) {
	parts, err := c.routeParts()
	if err != nil {
		return nil, &configError{err}
	}
	r := &pipeline.Routing{Parts: parts, Key: tableKey, MaxOpen: c.Table.MaxOpen, MaxTables: c.Table.MaxTables}
	r.Open = func(ctx context.Context, key, known string, columns *arrow.Schema, events sink.Events) (*sink.Table, error) {
		store, err := stores(ctx, key)
		if err != nil {
			return nil, &sink.Error{Op: "opening the table", Err: err}
		}
		options := sink.Options{
			Name: c.Name, Follows: true, Filtered: c.Table.Decode.Filter != "", Engine: engine(), Memory: c.Pipeline.WriterMemory(o.share, o.memory, sharedBy(c.Table.MaxOpen)), Now: time.Now, Log: log.With("table", key), Events: events,
		}
		if known == "" && c.Table.Sink.Create != sink.CreateNever {
			options.Create = columns
		}
		table, err := sink.Open(ctx, store, c.Table.Sink, options)
		if known != "" && errors.Is(err, delta.ErrNotTable) {
			err = c.notThere(known)
		}
		return table, err
	}
	return r, nil
}

// notThere says of a table that the catalog knows, by a stream, that it is not there.
func (c config) notThere(known string) error {
	err := &sink.Error{
		Op: "opening the table", Err: fmt.Errorf("the catalog knows it, and it is not there: %w", delta.ErrNotTable),
		Hint: "bring it back; or, if its rows are not wanted any more, make an empty one in its place with `connector table create` and the schema that `connector table inspect` shows of the catalog",
	}
	if known != c.Name {
		err.Err = fmt.Errorf("the catalog knows it by another stream, %q, and it is not where this stream's table.uri has it: %w", known, delta.ErrNotTable)
		err.Hint = "streams that share a catalog have the same table.uri, since it knows tables by their values alone: take that of the other one, or a table.catalog of your own. If they are the same, the table was removed: " + err.Hint
	}
	return err
}

// sharedBy is among how many the memory of one open file is divided: of so many tables some are written to at a time.
func sharedBy(maxOpen int) int { return min(maxOpen, 16) }

// verify checks the table, or a catalog with its tables.
func (t *target) verify(ctx context.Context) (*admin.Report, []admin.TableReport, error) {
	if t.many == nil {
		r, err := admin.Verify(ctx, t.store, t.opts)
		return r, nil, err
	}
	if t.opts.Since >= 0 || t.opts.Until >= 0 {
		return nil, nil, &configError{errors.New("--since and --until name a version of one table, and table.uri has values: leave them out, or verify one table with --table")}
	}
	stores := t.many.keyStores(nil, open.Parts{})
	return admin.VerifyCatalog(ctx, t.store, t.many.Name, func(ctx context.Context, key string) (delta.LogStore, error) { return stores(ctx, key) }, t.opts)
}

// explanation is what `explain -o json` prints.
type explanation struct {
	*admin.Explanation
	In *tableExplanation `json:"in,omitempty"` // the table that has the row, of those that the first one is the catalog of
}

type tableExplanation struct {
	Table string `json:"table"`
	*admin.Explanation
}

// explain looks for a message in the table, or in a catalog and then in its tables.
func (t *target) explain(ctx context.Context, at place) (*explanation, error) {
	e, err := admin.Explain(ctx, t.store, at.partition, at.offset, t.opts)
	if err != nil {
		return nil, err
	}
	found := &explanation{Explanation: e}
	if t.many == nil || !slices.ContainsFunc(e.Spans, func(s admin.SpanAt) bool { return s.Routed+s.Dead > 0 }) { // a dead letter may have been replayed
		return found, nil
	}
	keys, err := admin.Tables(ctx, t.store, t.many.Name)
	if err != nil {
		return nil, err
	}
	opts := t.opts
	opts.Kafka, opts.Letters = nil, nil
	stores := t.many.keyStores(nil, open.Parts{})
	for _, key := range keys {
		store, err := stores(ctx, key)
		if err != nil {
			return nil, err
		}
		in, err := admin.Explain(ctx, store, at.partition, at.offset, opts)
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", key, err)
		}
		if len(in.Rows) > 0 && (found.In == nil || lastGeneration(in) > lastGeneration(found.In.Explanation)) { // one for each generation that has it in another table
			found.In = &tableExplanation{key, in}
		}
	}
	return found, nil
}

// lastGeneration is that of the last row that was told of; -1 where others have rewritten the files of all.
func lastGeneration(e *admin.Explanation) int64 {
	generation := int64(-1)
	for _, s := range e.Spans {
		if slices.ContainsFunc(e.Rows, func(r admin.RowAt) bool { return r.Unit == s.Unit }) {
			generation = max(generation, s.Generation)
		}
	}
	return generation
}
