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

// Values of source.format.
const (
	formatJSON     = "json"
	formatAvro     = "avro"
	formatProtobuf = "protobuf"
)

// Values of source.avro.framing and source.protobuf.framing.
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

// protobufConfig says how Protobuf messages tell their type.
type protobufConfig struct {
	// Framing is registry (default) or none.
	Framing string `yaml:"framing"`
	// DescriptorSet is a file as protoc --descriptor_set_out --include_imports writes it, for framing none.
	DescriptorSet string `yaml:"descriptor_set"`
	// Message is the full name of the messages' type in it. It may be empty where the set was made for a file with one type.
	Message string `yaml:"message"`
	// Subject is whose latest schema a new table is made from, with framing registry. Default: <topic>-value.
	Subject string `yaml:"subject"`
}

// validateFormat checks what goes with which format.
func (c sourceSection) validateFormat() error {
	errs := []error{c.Registry.Validate()}
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Format != formatAvro && c.Avro != (avroConfig{Framing: framingRegistry}) {
		bad("source.avro is set, but source.format is %s: set source.format to avro", c.Format)
	}
	if c.Format != formatProtobuf && c.Protobuf != (protobufConfig{Framing: framingRegistry}) {
		bad("source.protobuf is set, but source.format is %s: set source.format to protobuf", c.Format)
	}
	framing := ""
	switch c.Format {
	case formatAvro:
		framing = c.Avro.Framing
		errs = append(errs, c.Avro.validate())
	case formatProtobuf:
		framing = c.Protobuf.Framing
		errs = append(errs, c.Protobuf.validate())
	case formatJSON:
	default:
		bad("source.format is %q: use json, avro or protobuf", c.Format)
	}
	switch uses := framing == framingRegistry; {
	case uses && len(c.Registry.URLs) == 0:
		bad("source.schema_registry.urls is empty: name the registry whose serializers wrote the messages, or set source.%s.framing", c.Format)
	case !uses && len(c.Registry.URLs) > 0:
		bad("source.schema_registry is set, but nothing asks it: it is for avro and protobuf with framing %s", framingRegistry)
	}
	return errors.Join(errs...)
}

func (c avroConfig) validate() error {
	switch c.Framing {
	case framingRegistry:
		if c.Schema != "" {
			return fmt.Errorf("source.avro.schema is for framing %s and %s: with a registry each message names its schema", framingSingleObject, framingNone)
		}
		return nil
	case framingSingleObject, framingNone:
		var errs []error
		if c.Schema == "" {
			errs = append(errs, fmt.Errorf("source.avro.schema is empty: framing %s needs the schema's file%s", c.Framing, map[string]string{framingSingleObject: ", or a folder of them"}[c.Framing]))
		}
		if c.Subject != "" {
			errs = append(errs, fmt.Errorf("source.avro.subject is for framing %s", framingRegistry))
		}
		return errors.Join(errs...)
	}
	return fmt.Errorf("source.avro.framing is %q: use %s, %s or %s", c.Framing, framingRegistry, framingSingleObject, framingNone)
}

func (c protobufConfig) validate() error {
	switch c.Framing {
	case framingRegistry:
		if c.DescriptorSet != "" || c.Message != "" {
			return fmt.Errorf("source.protobuf.descriptor_set and message are for framing %s: with a registry each message names its type", framingNone)
		}
		return nil
	case framingNone:
		var errs []error
		if c.DescriptorSet == "" {
			errs = append(errs, errors.New("source.protobuf.descriptor_set is empty: framing none needs the file that protoc --descriptor_set_out --include_imports writes"))
		}
		if c.Subject != "" {
			errs = append(errs, fmt.Errorf("source.protobuf.subject is for framing %s", framingRegistry))
		}
		return errors.Join(errs...)
	}
	return fmt.Errorf("source.protobuf.framing is %q: use %s or %s", c.Framing, framingRegistry, framingNone)
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
		f.newDecoder = func(p *decode.Plan) pipeline.Decoder { return json.New(p) }
	}
	if err != nil {
		f.close()
		return nil, err
	}
	return f, nil
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
	f.newDecoder = func(p *decode.Plan) pipeline.Decoder { return avro.New(p, o) }
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
	o.Framing = avro.Registry(known.byID)
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
	var framing protobuf.Framing
	f.newDecoder = func(p *decode.Plan) pipeline.Decoder { return protobuf.New(p, framing) }
	if c.Protobuf.Framing == framingNone {
		data, err := os.ReadFile(c.Protobuf.DescriptorSet)
		if err != nil {
			return fmt.Errorf("source.protobuf.descriptor_set: %w", err)
		}
		typ, err := protobuf.FromDescriptorSet(data, c.Protobuf.Message)
		if err != nil {
			return fmt.Errorf("source.protobuf.descriptor_set: %s: %w", c.Protobuf.DescriptorSet, err)
		}
		framing = protobuf.Bare(typ)
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
	framing = protobuf.Registry(known.byID)
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

// byID gives an id's schema. What its messages are poison for is a *decode.FramingError.
func (r *registered[S]) byID(id int32) (schema S, err error) {
	s, err := r.client.ByID(id)
	if errors.Is(err, registry.ErrUnknown) {
		return schema, &decode.FramingError{Reason: decode.ReasonUnknownSchema, Detail: fmt.Sprintf("schema id %d: %v", id, err)}
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
		return schema, fmt.Errorf("%w; name another subject in source.avro.subject or source.protobuf.subject, or say in table.schema which columns a new table gets", err)
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
