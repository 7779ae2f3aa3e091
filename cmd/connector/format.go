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
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/columns"
	"kafkadelta/decode"
	"kafkadelta/decode/avro"
	"kafkadelta/decode/envelope"
	"kafkadelta/decode/json"
	"kafkadelta/decode/jsonschema"
	"kafkadelta/decode/protobuf"
	"kafkadelta/decode/raw"
	"kafkadelta/delta"
	"kafkadelta/delta/variant"
	"kafkadelta/pipeline"
	"kafkadelta/registry"
	"kafkadelta/sink"
	"kafkadelta/storage/open"
)

// format makes the decoders of a stream.
type format struct {
	values side
	keys   *side        // nil: keys are not decoded
	key    string       // name of their column
	reader *avro.Schema // of values; nil: none
	close  func()
}

// side is how values, or keys, are decoded, and what their own schemas tell. A schema of keys has one field, for their column.
type side struct {
	decoder func(*decode.Plan) (envelope.Decoder, error)
	// schema tells what a table has for messages by their own schema, the latest one, in which fields that are given may have the type null, and what their values are: the
	// same, or of a JSON Schema what jsonschema.ValueSchema tells. What a table has that is there already, by its plan, keeps its names. It is nil where messages tell none.
	schema func(context.Context, decode.Given, *decode.Plan) (columns, values *arrow.Schema, err error)
	// file tells the same by the schema of a file.
	file func(string, decode.Given, *decode.Plan) (columns, values *arrow.Schema, err error)
	// compile tries a schema of the messages' own format, the file's or the latest one, on a table: a *decode.Mismatch makes all its messages
	// poison. It is nil where messages are not compiled.
	compile func(ctx context.Context, plan *decode.Plan, file string) error
}

// twice is what side.schema tells where a table has the values as they are.
func twice(s *arrow.Schema, err error) (columns, values *arrow.Schema, _ error) { return s, s, err }

// ofJSONSchema is what side.schema tells by the values of a JSON Schema.
func ofJSONSchema(values *arrow.Schema, err error) (columns, _ *arrow.Schema, _ error) {
	if err != nil {
		return nil, nil, err
	}
	return jsonschema.Columns(values), values, nil
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
	f.values.file = f.valuesOfFile
	switch c.Format {
	case formatAvro:
		err = f.openAvro(c, client)
	case formatProtobuf:
		err = f.openProtobuf(ctx, c, client)
	case formatRaw:
		f.values.decoder = func(p *decode.Plan) (envelope.Decoder, error) { return raw.New(p, c.Raw.Column) }
		f.values.schema = rawSchema(c.Raw.Column, c.Raw.Type)
	default:
		f.openJSON(c, client)
	}
	if err != nil {
		f.close()
		return nil, err
	}
	if c.Compression != noCompression {
		inner, header := f.values.decoder, ""
		if c.framing() == framingRegistry {
			header = decode.ValueSchemaHeader
		}
		f.values.decoder = func(p *decode.Plan) (envelope.Decoder, error) {
			d, err := inner(p)
			if err != nil {
				return nil, err
			}
			return envelope.NewCompressed(c.Compression, int(c.MaxDecompressed), header, d)
		}
	}
	if c.Key.Format != "" {
		f.openKey(ctx, c, client)
	}
	return f, nil
}

// rawTypes are the columns of bytes that are kept as they are.
var rawTypes = map[string]arrow.DataType{formatString: arrow.BinaryTypes.String, formatBinary: arrow.BinaryTypes.Binary}

// rawSchema is side.schema of what is kept as it is, of a type of rawTypes.
func rawSchema(column, typ string) func(context.Context, decode.Given, *decode.Plan) (columns, values *arrow.Schema, err error) {
	schema := arrow.NewSchema([]arrow.Field{{Name: column, Type: rawTypes[typ], Nullable: true}}, nil)
	return func(context.Context, decode.Given, *decode.Plan) (columns, values *arrow.Schema, err error) {
		return schema, schema, nil
	}
}

// valuesOfFile is side.file of values.
func (f *format) valuesOfFile(name string, given decode.Given, table *decode.Plan) (columns, values *arrow.Schema, err error) {
	return fileSchema(name, "", given, func(s *avro.Schema) (*arrow.Schema, error) { return avro.MessageSchema(s, f.reader, given, table) })
}

// plans are how values become the columns of a table that are decoded, but that of keys, and how keys become theirs: nil where keys are not decoded.
func (f *format) plans(layout *sink.Layout, made *columns.Plan) (values, keys *decode.Plan, err error) {
	schema, cfg := made.Schema(), made.Config()
	if f.keys == nil {
		values, err = newPlan(schema, cfg, layout, made)
		return values, nil, err
	}
	at := schema.FieldIndices(f.key)
	if len(at) == 0 {
		return nil, nil, fmt.Errorf("the table has no column %q for keys: add it, or name another one in source.key.column", f.key)
	}
	if in := layout.Schema.FieldIndices(f.key); len(in) > 0 && made.Decodes(in[0]) && variant.Is(layout.Schema.Field(in[0]).Type) {
		return nil, nil, fmt.Errorf("the column %q for keys is VARIANT, which keys are not read into: name another one in source.key.column", f.key)
	}
	own, others := columns.Split(cfg, f.key, schema)
	off := false
	own.Metadata.Enabled = &off
	if keys, err = decode.NewPlan(arrow.NewSchema([]arrow.Field{schema.Field(at[0])}, nil), own); err != nil {
		return nil, nil, err
	}
	values, err = newPlan(arrow.NewSchema(slices.Concat(schema.Fields()[:at[0]], schema.Fields()[at[0]+1:]), nil), others, layout, made)
	return values, keys, err
}

// follow tells by a schema of messages what the table is to have for them, if it lacks something of that; nil where it never is to follow.
type follow func(messages *arrow.Schema) (want *arrow.Schema, err error)

// decoder compiles a decoder for what the columns of a table are made of.
func (f *format) decoder(layout *sink.Layout, made *columns.Plan, values, keys follow, given decode.Given) (pipeline.Decoder, error) {
	plan, keyPlan, err := f.plans(layout, made)
	if err != nil {
		return nil, err
	}
	plan.Follow, plan.Given = values, given
	value, err := f.values.decoder(plan)
	if err != nil || keyPlan == nil {
		return value, err
	}
	keyPlan.Follow, keyPlan.Given = keys, given
	key, err := f.keys.decoder(keyPlan)
	if err != nil {
		return nil, err
	}
	return envelope.NewKeyed(made.Schema(), made.Schema().FieldIndices(f.key)[0], value, key), nil
}

func (f *format) openJSON(c sourceSection, client *registry.Client) {
	if c.JSON.Framing != framingRegistry {
		f.values.decoder = func(p *decode.Plan) (envelope.Decoder, error) { return json.New(p), nil }
		return
	}
	known := knownJSON(client, ofJSON)
	f.values.decoder = func(p *decode.Plan) (envelope.Decoder, error) {
		return json.NewFramed(p, json.Registry(decode.ValueSchemaHeader, followed(p, known, jsonValueSchema))), nil
	}
	f.values.schema = func(ctx context.Context, given decode.Given, _ *decode.Plan) (columns, values *arrow.Schema, err error) {
		s, err := known.latest(ctx, cmp.Or(c.JSON.Subject, c.Kafka.Topic+"-value"))
		if err != nil {
			return nil, nil, err
		}
		return ofJSONSchema(jsonValueSchema(s, given))
	}
}

func (f *format) openAvro(c sourceSection, client *registry.Client) error {
	if c.Avro.ReaderSchema != "" {
		reader, err := readSchemas("source.avro.reader_schema", c.Avro.ReaderSchema, false)
		if err != nil {
			return err
		}
		f.reader = reader[0]
	}
	known := knownAvro(client, ofAvro)
	var fixed avro.Framing // without a registry
	framing := func() avro.Framing { return fixed }
	f.values.decoder = func(p *decode.Plan) (envelope.Decoder, error) {
		return avro.New(p, avro.Options{Framing: framing(), Reader: f.reader}), nil
	}
	latest := func(ctx context.Context) (*avro.Schema, error) {
		return known.latest(ctx, cmp.Or(c.Avro.Subject, c.Kafka.Topic+"-value"))
	}
	f.values.schema = func(ctx context.Context, given decode.Given, table *decode.Plan) (columns, values *arrow.Schema, err error) {
		s, err := latest(ctx)
		if err != nil {
			return nil, nil, err
		}
		return twice(avro.MessageSchema(s, f.reader, given, table))
	}
	f.values.compile = func(ctx context.Context, p *decode.Plan, file string) error {
		s, err := avroOf(ctx, "--schema", file, latest)
		if err != nil || s == nil {
			return err
		}
		_, _, err = avro.New(p, avro.Options{Reader: f.reader}).Compile(s)
		return err
	}
	if c.Avro.Framing != framingRegistry {
		schemas, err := readSchemas("source.avro.schema", c.Avro.Schema, c.Avro.Framing == framingSingleObject)
		if err != nil {
			return err
		}
		fixed = avro.Bare(schemas[0])
		if c.Avro.Framing == framingSingleObject {
			if fixed, err = avro.SingleObject(schemas...); err != nil {
				return fmt.Errorf("source.avro.schema: %w", err)
			}
		}
		latest = func(context.Context) (*avro.Schema, error) {
			if len(schemas) > 1 {
				return nil, fmt.Errorf("source.avro.schema has %d schemas: say in table.schema which columns a new table gets, and in --schema which one to plan for", len(schemas))
			}
			return schemas[0], nil
		}
		return nil
	}
	framing = func() avro.Framing { return avro.Registry(decode.ValueSchemaHeader, known.find) }
	return nil
}

// avroOf is the schema of a file, or the latest one where no file is named; nil where the file has another kind of schema.
func avroOf(ctx context.Context, flag, file string, latest func(context.Context) (*avro.Schema, error)) (*avro.Schema, error) {
	switch {
	case file == "":
		return latest(ctx)
	case strings.ToLower(filepath.Ext(file)) != ".avsc":
		return nil, nil
	}
	s, err := readSchemas(flag, file, false)
	if err != nil {
		return nil, err
	}
	return s[0], nil
}

func (f *format) openProtobuf(ctx context.Context, c sourceSection, client *registry.Client) error {
	var framing func() protobuf.Framing
	var latest func(context.Context) (*protobuf.Type, error)
	f.values.schema = func(ctx context.Context, given decode.Given, _ *decode.Plan) (columns, values *arrow.Schema, err error) {
		typ, err := latest(ctx)
		if err != nil {
			return nil, nil, err
		}
		return twice(protobuf.MessageSchema(typ, given))
	}
	f.values.compile = func(ctx context.Context, p *decode.Plan, file string) error {
		typ, err := protobufOf(ctx, file, latest)
		if err != nil || typ == nil {
			return err
		}
		_, _, err = protobuf.New(p, nil).Compile(typ)
		return err
	}
	f.values.decoder = func(p *decode.Plan) (envelope.Decoder, error) { return protobuf.New(p, framing()), nil }
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
		latest = func(context.Context) (*protobuf.Type, error) { return typ, nil }
		return nil
	}
	known := knownProtobuf(ctx, client, ofProtobuf)
	framing = func() protobuf.Framing { return protobuf.Registry(decode.ValueSchemaHeader, known.find) }
	latest = func(ctx context.Context) (*protobuf.Type, error) {
		subject := cmp.Or(c.Protobuf.Subject, c.Kafka.Topic+"-value")
		s, err := known.latest(ctx, subject)
		if err != nil {
			return nil, err
		}
		typ, err := s.Named(c.Protobuf.Message)
		if err != nil { // guessed wrong, a table would have columns that no message fills
			err = fmt.Errorf("the latest schema of subject %q: %w; say in source.protobuf.message which one the messages are", subject, err)
		}
		return typ, err
	}
	return nil
}

// protobufOf is the type of a file, or the latest one where no file is named; nil where the file has another kind of schema.
func protobufOf(ctx context.Context, file string, latest func(context.Context) (*protobuf.Type, error)) (*protobuf.Type, error) {
	if file == "" {
		return latest(ctx)
	}
	path, message := splitMessage(file)
	ext := strings.ToLower(filepath.Ext(path))
	if ext != ".proto" && ext != ".pb" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return protoType(path, data, message)
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
		s, err := avroFile(id, file, string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", key, file, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// newTableSchema is the schema of the table if it has to be made: the configured one, the one inferred, or else the messages' own. It is
// nil where the table is there already, or none is known.
func (c config) newTableSchema(ctx context.Context, store delta.LogStore, f *format, o runOptions, log *slog.Logger) (*arrow.Schema, error) {
	if c.Table.Sink.Schema != "" {
		return c.createSchema() // all of it
	}
	if _, err := delta.OpenSnapshot(ctx, store, -1); !errors.Is(err, delta.ErrNotTable) || c.Table.Sink.Create == sink.CreateNever {
		return nil, nil // what is wrong with it, opening it tells
	}
	schema, err := c.configuredSchema()
	switch {
	case err != nil || schema != nil:
	default:
		if schema, err = c.messageSchema(ctx, f, o, log); err == nil && schema == nil {
			return nil, nil
		}
		if err == nil {
			schema, err = c.newColumns(ctx, f, schema)
		}
	}
	if err == nil && f.keys != nil {
		schema, err = c.withKey(ctx, f, schema)
	}
	if err != nil {
		return nil, fmt.Errorf("making table %s: %w", open.Redact(c.Table.Sink.URI), err)
	}
	return c.withMetadata(schema)
}

// messageSchema is the schema of the messages, inferred or their own; nil where they tell none.
func (c config) messageSchema(ctx context.Context, f *format, o runOptions, log *slog.Logger) (*arrow.Schema, error) {
	switch {
	case c.Table.Infer > 0:
		return c.inferTopic(ctx, o, log)
	case f.values.schema != nil:
		schema, _, err := f.values.schema(ctx, c.given(nil), nil)
		return schema, err
	}
	return nil, nil
}
