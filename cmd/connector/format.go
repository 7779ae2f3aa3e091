package main

import (
	"cmp"
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
	"kafkadelta/decode/protobuf"
	"kafkadelta/delta"
	"kafkadelta/pipeline"
	"kafkadelta/registry"
)

// format makes the decoders of a stream.
type format struct {
	newDecoder func(*decode.Plan) pipeline.Decoder
	// tableSchema is the schema of a new table by the messages' own; nil where they have none.
	tableSchema func(context.Context) (*arrow.Schema, error)
	close       func()
}

// openFormat reads the schemas' files. A registry is not asked yet.
func openFormat(ctx context.Context, c sourceSection, log *slog.Logger) (*format, error) {
	f := &format{close: func() {}}
	var client *registry.Client
	if len(c.Registry.URLs) > 0 {
		var err error
		if client, err = registry.New(ctx, c.Registry, os.Getenv, log); err != nil {
			return nil, err
		}
		f.close = client.Close
	}
	var err error
	switch c.Format {
	case formatAvro:
		err = f.openAvro(c, client)
	case formatProtobuf:
		err = f.openProtobuf(ctx, c, client)
	default:
		f.openJSON(c, client)
	}
	if err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (f *format) openJSON(c sourceSection, client *registry.Client) {
	if c.JSON.Framing != framingRegistry {
		f.newDecoder = func(p *decode.Plan) pipeline.Decoder { return json.New(p) }
		return
	}
	known := &registered[*registry.Schema]{client: client, parsed: map[*registry.Schema]parsedSchema[*registry.Schema]{}, typ: "JSON", parse: func(s *registry.Schema) (*registry.Schema, error) {
		return s, nil
	}}
	f.newDecoder = func(p *decode.Plan) pipeline.Decoder {
		return json.NewFramed(p, json.Registry(decode.ValueSchemaHeader, func(ref decode.SchemaRef) (string, error) {
			s, err := known.find(ref)
			if err != nil {
				return "", err
			}
			return idText(s), nil
		}))
	}
	f.tableSchema = func(ctx context.Context) (*arrow.Schema, error) {
		s, err := known.latest(ctx, cmp.Or(c.JSON.Subject, c.Kafka.Topic+"-value"))
		if err != nil {
			return nil, err
		}
		var references []json.Reference
		for _, r := range s.References {
			references = append(references, json.Reference{Name: r.Name, Text: r.Text})
		}
		schema, err := json.TableSchema(s.Text, references...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", idText(s), err)
		}
		return schema, nil
	}
}

func (f *format) openAvro(c sourceSection, client *registry.Client) error {
	o := avro.Options{}
	if c.Avro.ReaderSchema != "" {
		reader, err := readSchemas("source.avro.reader_schema", c.Avro.ReaderSchema, false)
		if err != nil {
			return err
		}
		o.Reader = reader[0]
	}
	framing := func() avro.Framing { return o.Framing }
	f.newDecoder = func(p *decode.Plan) pipeline.Decoder {
		return avro.New(p, avro.Options{Framing: framing(), Reader: o.Reader})
	}
	if c.Avro.Framing != framingRegistry {
		schemas, err := readSchemas("source.avro.schema", c.Avro.Schema, c.Avro.Framing == framingSingleObject)
		if err != nil {
			return err
		}
		o.Framing = avro.Bare(schemas[0])
		if c.Avro.Framing == framingSingleObject {
			if o.Framing, err = avro.SingleObject(schemas...); err != nil {
				return err
			}
		}
		f.tableSchema = func(context.Context) (*arrow.Schema, error) {
			if len(schemas) > 1 {
				return nil, fmt.Errorf("source.avro.schema has %d schemas: say in table.schema which columns a new table gets", len(schemas))
			}
			return avro.TableSchema(schemas[0])
		}
		return nil
	}
	known := &registered[*avro.Schema]{client: client, parsed: map[*registry.Schema]parsedSchema[*avro.Schema]{}, typ: "AVRO", parse: func(s *registry.Schema) (*avro.Schema, error) {
		var references []string
		for _, r := range s.References {
			references = append(references, r.Text)
		}
		return avro.Parse(idText(s), s.Text, references...)
	}}
	framing = func() avro.Framing { return avro.Registry(decode.ValueSchemaHeader, known.find) }
	f.tableSchema = func(ctx context.Context) (*arrow.Schema, error) {
		s, err := known.latest(ctx, cmp.Or(c.Avro.Subject, c.Kafka.Topic+"-value"))
		if err != nil {
			return nil, err
		}
		return avro.TableSchema(s)
	}
	return nil
}

func (f *format) openProtobuf(ctx context.Context, c sourceSection, client *registry.Client) error {
	var framing func() protobuf.Framing
	f.newDecoder = func(p *decode.Plan) pipeline.Decoder { return protobuf.New(p, framing()) }
	if c.Protobuf.Framing == framingNone {
		data, err := os.ReadFile(c.Protobuf.DescriptorSet)
		if err != nil {
			return fmt.Errorf("source.protobuf.descriptor_set: %w", err)
		}
		typ, err := protobuf.FromDescriptorSet(data, c.Protobuf.Message)
		if err != nil {
			return fmt.Errorf("source.protobuf.descriptor_set: %s: %w", c.Protobuf.DescriptorSet, err)
		}
		framing = func() protobuf.Framing { return protobuf.Bare(typ) }
		f.tableSchema = func(context.Context) (*arrow.Schema, error) { return protobuf.TableSchema(typ) }
		return nil
	}
	known := &registered[*protobuf.Schema]{client: client, parsed: map[*registry.Schema]parsedSchema[*protobuf.Schema]{}, typ: "PROTOBUF", parse: func(s *registry.Schema) (*protobuf.Schema, error) {
		var references []protobuf.Reference
		for _, r := range s.References {
			references = append(references, protobuf.Reference{Path: r.Name, Text: r.Text})
		}
		return protobuf.Parse(context.WithoutCancel(ctx), idText(s), s.Text, references...)
	}}
	framing = func() protobuf.Framing { return protobuf.Registry(decode.ValueSchemaHeader, known.find) }
	f.tableSchema = func(ctx context.Context) (*arrow.Schema, error) {
		s, err := known.latest(ctx, cmp.Or(c.Protobuf.Subject, c.Kafka.Topic+"-value"))
		if err != nil {
			return nil, err
		}
		typ, err := s.First()
		if err != nil {
			return nil, err
		}
		return protobuf.TableSchema(typ)
	}
	return nil
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

// registered are a registry's schemas of one type, parsed once for all decoders.
type registered[S any] struct {
	client *registry.Client
	typ    string
	parse  func(*registry.Schema) (S, error)

	mu     sync.Mutex
	parsed map[*registry.Schema]parsedSchema[S]
}

type parsedSchema[S any] struct {
	schema S
	err    error
}

// find gives the schema that a message names. What its messages are poison for is a *decode.FramingError.
func (r *registered[S]) find(ref decode.SchemaRef) (schema S, err error) {
	ask := func() (*registry.Schema, error) { return r.client.ByID(ref.ID) }
	if ref.GUID != [16]byte{} {
		ask = func() (*registry.Schema, error) { return r.client.ByGUID(ref.GUID) }
	}
	s, err := ask()
	if errors.Is(err, registry.ErrUnknown) {
		return schema, &decode.FramingError{Reason: decode.ReasonUnknownSchema, Detail: fmt.Sprintf("%v: %v", ref, err)}
	}
	if err != nil {
		return schema, err
	}
	r.mu.Lock() // one for all lanes: schemas are told apart by their pointers
	defer r.mu.Unlock()
	p, ok := r.parsed[s]
	if !ok {
		if p.schema, err = r.parseOf(s); err != nil {
			p.err = &decode.FramingError{Reason: decode.ReasonInvalidSchema, Detail: err.Error()}
		}
		r.parsed[s] = p
	}
	return p.schema, p.err
}

// latest gives the newest schema of a subject.
func (r *registered[S]) latest(ctx context.Context, subject string) (schema S, err error) {
	s, err := r.client.Latest(ctx, subject)
	if err != nil {
		return schema, fmt.Errorf("%w; name another subject in subject of source.json, source.avro or source.protobuf, or say in table.schema which columns a new table gets", err)
	}
	return r.parseOf(s)
}

func (r *registered[S]) parseOf(s *registry.Schema) (schema S, err error) {
	if s.Type != r.typ {
		return schema, fmt.Errorf("%s is of type %s: want %s, as source.format says", idText(s), s.Type, r.typ)
	}
	if schema, err = r.parse(s); err != nil {
		err = fmt.Errorf("%s: %w", idText(s), err)
	}
	return schema, err
}

func idText(s *registry.Schema) string { return fmt.Sprintf("schema id %d", s.ID) }

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
