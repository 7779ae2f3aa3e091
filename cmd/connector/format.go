package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/decode"
	"kafkadelta/decode/avro"
	"kafkadelta/decode/json"
	"kafkadelta/delta"
	"kafkadelta/pipeline"
	"kafkadelta/registry"
)

// Values of source.format.
const (
	formatJSON = "json"
	formatAvro = "avro"
)

// Values of source.avro.framing.
const (
	framingRegistry     = "registry"
	framingSingleObject = "single_object"
	framingNone         = "none"
)

// avroConfig says how Avro messages tell their schema.
type avroConfig struct {
	// Framing is registry (default), single_object or none.
	Framing string `yaml:"framing"`
	// Schema is a file with a schema, or a folder of such files (*.avsc) for single_object.
	Schema string `yaml:"schema"`
	// Subject is whose latest schema a new table is made from, with framing registry. Default: <topic>-value.
	Subject string `yaml:"subject"`
	// ReaderSchema is a file with a schema whose aliases name columns and whose defaults fill them.
	ReaderSchema string `yaml:"reader_schema"`
}

// validateFormat checks what goes with which format.
func (c sourceSection) validateFormat() error {
	errs := []error{c.Registry.Validate()}
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch c.Format {
	case formatAvro:
	case formatJSON:
		if c.Avro != (avroConfig{Framing: framingRegistry}) {
			bad("source.avro is set, but source.format is json: set source.format to avro")
		}
		if len(c.Registry.URLs) > 0 {
			bad("source.schema_registry is set, but source.format is json, which needs none")
		}
		return errors.Join(errs...)
	default:
		bad("source.format is %q: use json or avro", c.Format)
		return errors.Join(errs...)
	}
	a := c.Avro
	switch a.Framing {
	case framingRegistry:
		if len(c.Registry.URLs) == 0 {
			bad("source.schema_registry.urls is empty: name the registry whose serializers wrote the messages, or set source.avro.framing to %s or %s", framingSingleObject, framingNone)
		}
		if a.Schema != "" {
			bad("source.avro.schema is for framing %s and %s: with a registry each message names its schema", framingSingleObject, framingNone)
		}
	case framingSingleObject, framingNone:
		if a.Schema == "" {
			bad("source.avro.schema is empty: framing %s needs the schema's file%s", a.Framing, map[string]string{framingSingleObject: ", or a folder of them"}[a.Framing])
		}
		if a.Subject != "" || len(c.Registry.URLs) > 0 {
			bad("source.avro.subject and source.schema_registry are for framing %s", framingRegistry)
		}
	default:
		bad("source.avro.framing is %q: use %s, %s or %s", a.Framing, framingRegistry, framingSingleObject, framingNone)
	}
	return errors.Join(errs...)
}

// format makes the decoders of a stream.
type format struct {
	newDecoder func(*decode.Plan) pipeline.Decoder
	// tableSchema is the schema of a new table by the messages' own; nil where they have none.
	tableSchema func(context.Context) (*arrow.Schema, error)
	close       func()
}

// openFormat reads the schemas' files. A registry is not asked yet.
func openFormat(ctx context.Context, c sourceSection, log *slog.Logger) (*format, error) {
	if c.Format == formatJSON {
		return &format{newDecoder: func(p *decode.Plan) pipeline.Decoder { return json.New(p) }, close: func() {}}, nil
	}
	o := avro.Options{}
	if c.Avro.ReaderSchema != "" {
		reader, err := readSchemas("source.avro.reader_schema", c.Avro.ReaderSchema, false)
		if err != nil {
			return nil, err
		}
		o.Reader = reader[0]
	}
	f := &format{close: func() {}, newDecoder: func(p *decode.Plan) pipeline.Decoder { return avro.New(p, o) }}
	if c.Avro.Framing != framingRegistry {
		schemas, err := readSchemas("source.avro.schema", c.Avro.Schema, c.Avro.Framing == framingSingleObject)
		if err != nil {
			return nil, err
		}
		o.Framing = avro.Bare(schemas[0])
		if c.Avro.Framing == framingSingleObject {
			if o.Framing, err = avro.SingleObject(schemas...); err != nil {
				return nil, err
			}
		}
		f.tableSchema = func(context.Context) (*arrow.Schema, error) {
			if len(schemas) > 1 {
				return nil, fmt.Errorf("source.avro.schema has %d schemas: say in table.schema which columns a new table gets", len(schemas))
			}
			return avro.TableSchema(schemas[0])
		}
		return f, nil
	}
	client, err := registry.New(ctx, c.Registry, os.Getenv, log)
	if err != nil {
		return nil, err
	}
	f.close = client.Close
	known := &registered{client: client, parsed: map[*registry.Schema]parsedSchema{}}
	o.Framing = avro.Registry(known.byID)
	subject := c.Avro.Subject
	if subject == "" {
		subject = c.Kafka.Topic + "-value"
	}
	f.tableSchema = func(ctx context.Context) (*arrow.Schema, error) {
		latest, err := client.Latest(ctx, subject)
		if err != nil {
			return nil, fmt.Errorf("%w; set source.avro.subject, or say in table.schema which columns a new table gets", err)
		}
		s, err := parseRegistered(latest)
		if err != nil {
			return nil, err
		}
		return avro.TableSchema(s)
	}
	return f, nil
}

// readSchemas reads the schema of a file, or those of a folder's *.avsc files.
func readSchemas(key, path string, many bool) ([]*avro.Schema, error) {
	files := []string{path}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		if !many {
			return nil, fmt.Errorf("%s: %s is a folder: name the file of the schema", key, path)
		}
		if files, err = filepath.Glob(filepath.Join(path, "*.avsc")); err != nil || len(files) == 0 {
			return nil, fmt.Errorf("%s: the folder %s has no file *.avsc", key, path)
		}
		slices.Sort(files)
	}
	var out []*avro.Schema
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		id := ""
		if len(files) > 1 {
			id = filepath.Base(file)
		}
		s, err := avro.Parse(id, string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", key, file, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// registered are a registry's schemas, parsed once for all decoders.
type registered struct {
	client *registry.Client

	mu     sync.Mutex
	parsed map[*registry.Schema]parsedSchema
}

type parsedSchema struct {
	schema *avro.Schema
	err    error
}

func (r *registered) byID(id int32) (*avro.Schema, error) {
	s, err := r.client.ByID(id)
	if errors.Is(err, registry.ErrUnknown) {
		return nil, &decode.FramingError{Reason: decode.ReasonUnknownSchema, Detail: fmt.Sprintf("schema id %d: %v", id, err)}
	}
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.parsed[s]
	if !ok {
		if p.schema, err = parseRegistered(s); err != nil {
			p.err = &decode.FramingError{Reason: decode.ReasonInvalidSchema, Detail: err.Error()}
		}
		r.parsed[s] = p
	}
	return p.schema, p.err
}

// parseRegistered parses what a registry has.
func parseRegistered(s *registry.Schema) (*avro.Schema, error) {
	if s.Type != "AVRO" {
		return nil, fmt.Errorf("schema id %d is of type %s: want AVRO, as source.format says", s.ID, s.Type)
	}
	out, err := avro.Parse(fmt.Sprintf("schema id %d", s.ID), s.Text, s.References...)
	if err != nil {
		return nil, fmt.Errorf("schema id %d: %w", s.ID, err)
	}
	return out, nil
}

// newTableSchema is the schema of the table if it has to be made: the configured one, or else the messages' own. It is nil where
// the table is there already, or neither is known.
func (c config) newTableSchema(ctx context.Context, store delta.LogStore, f *format) (*arrow.Schema, error) {
	schema, err := c.createSchema()
	if err != nil || schema != nil || f.tableSchema == nil {
		return schema, err
	}
	if _, err := delta.OpenSnapshot(ctx, store, -1); !errors.Is(err, delta.ErrNotTable) {
		return nil, nil // what is wrong with it, opening it tells
	}
	if schema, err = f.tableSchema(ctx); err != nil {
		return nil, fmt.Errorf("making table %s: %w", c.Table.Sink.URI, err)
	}
	return c.withMetadata(schema)
}
