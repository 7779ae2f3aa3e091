package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/columns"
	"kafkadelta/decode"
	"kafkadelta/decode/avro"
	"kafkadelta/decode/envelope"
	"kafkadelta/decode/json"
	"kafkadelta/decode/jsonschema"
	"kafkadelta/decode/protobuf"
	"kafkadelta/decode/raw"
	"kafkadelta/delta/variant"
	"kafkadelta/registry"
)

// openKey sets how keys are decoded, into one column: of a record it is a struct.
func (f *format) openKey(ctx context.Context, c sourceSection, client *registry.Client) {
	f.key = c.Key.Column
	subject := cmp.Or(c.Key.Subject, c.Kafka.Topic+"-key")
	switch {
	case c.Key.Format == formatString || c.Key.Format == formatBinary:
		f.keys = &side{
			decoder: func(p *decode.Plan) (envelope.Decoder, error) { return raw.New(p, f.key) },
			schema:  rawSchema(f.key, c.Key.Format),
		}
	case c.Key.Format == formatAvro:
		f.keys = avroKeys(f.key, subject, client)
	case c.Key.Format == formatProtobuf:
		f.keys = protobufKeys(ctx, f.key, subject, client)
	case c.Key.Framing == framingRegistry:
		f.keys = jsonKeys(f.key, subject, client)
	default:
		f.keys = &side{decoder: func(p *decode.Plan) (envelope.Decoder, error) { return json.NewSingle(p, nil), nil }}
	}
	f.keys.file = func(name string, given decode.Given, table *decode.Plan) (columns, values *arrow.Schema, err error) {
		return fileSchema(name, f.key, given, func(s *avro.Schema) (*arrow.Schema, error) {
			return avro.MessageSchema(s.Single(f.key), nil, given, table)
		})
	}
}

func jsonKeys(column, subject string, client *registry.Client) *side {
	known := knownJSON(client, ofKeys)
	values := func(s *registry.Schema, given decode.Given) (*arrow.Schema, error) {
		schema, err := jsonschema.ColumnSchema(column, given, s.Text, jsonReferences(s)...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", idText(s), err)
		}
		return schema, nil
	}
	return &side{
		decoder: func(p *decode.Plan) (envelope.Decoder, error) {
			return json.NewSingle(p, json.Registry(decode.KeySchemaHeader, followed(p, known, values))), nil
		},
		schema: func(ctx context.Context, given decode.Given, _ *decode.Plan) (columns, _ *arrow.Schema, err error) {
			s, err := known.latest(ctx, subject)
			if err != nil {
				return nil, nil, err
			}
			return ofJSONSchema(values(s, given))
		},
	}
}

func avroKeys(column, subject string, client *registry.Client) *side {
	known := knownAvro(client, ofKeys)
	parse := known.parse
	known.parse = func(s *registry.Schema) (*avro.Schema, error) {
		schema, err := parse(s)
		if err != nil {
			return nil, err
		}
		return schema.Single(column), nil
	}
	latest := func(ctx context.Context) (*avro.Schema, error) { return known.latest(ctx, subject) }
	return &side{
		decoder: func(p *decode.Plan) (envelope.Decoder, error) {
			return avro.New(p, avro.Options{Framing: avro.Registry(decode.KeySchemaHeader, known.find)}), nil
		},
		schema: func(ctx context.Context, given decode.Given, table *decode.Plan) (columns, values *arrow.Schema, err error) {
			s, err := latest(ctx)
			if err != nil {
				return nil, nil, err
			}
			return twice(avro.MessageSchema(s, nil, given, table))
		},
		compile: func(ctx context.Context, p *decode.Plan, file string) error {
			s, err := avroOf(ctx, "--key-schema", file, latest)
			if err != nil || s == nil {
				return err
			}
			if file != "" {
				s = s.Single(column)
			}
			_, _, err = avro.New(p, avro.Options{}).Compile(s)
			return err
		},
	}
}

func protobufKeys(ctx context.Context, column, subject string, client *registry.Client) *side {
	known := knownProtobuf(ctx, client, ofKeys)
	latest := func(ctx context.Context) (*protobuf.Type, error) {
		s, err := known.latest(ctx, subject)
		if err != nil {
			return nil, err
		}
		typ, err := s.Named("")
		if err != nil {
			err = fmt.Errorf("the latest schema of subject %q: %w; say in table.columns.%s.type what the column is", subject, err, column)
		}
		return typ, err
	}
	return &side{
		decoder: func(p *decode.Plan) (envelope.Decoder, error) {
			return protobuf.NewSingle(p, protobuf.Registry(decode.KeySchemaHeader, known.find)), nil
		},
		schema: func(ctx context.Context, given decode.Given, _ *decode.Plan) (columns, values *arrow.Schema, err error) {
			typ, err := latest(ctx)
			if err != nil {
				return nil, nil, err
			}
			return twice(protobuf.ColumnSchema(typ, column, given))
		},
		compile: func(ctx context.Context, p *decode.Plan, file string) error {
			typ, err := protobufOf(ctx, file, latest)
			if err != nil || typ == nil {
				return err
			}
			_, _, err = protobuf.NewSingle(p, nil).Compile(typ)
			return err
		},
	}
}

// keyColumns divides table.columns between the keys' column, with what is below it, and the others.
func (c config) keyColumns() (keys, others decode.Config) {
	if c.Source.Key.Format == "" {
		return decode.Config{}, c.Table.Decode
	}
	return columns.Split(c.Table.Decode, c.Source.Key.Column, nil)
}

// newKey is the keys' column for a new table, by what is configured or else by their own schema: what decoders fill, also where it is dropped from the table.
func (c config) newKey(ctx context.Context, f *format) (key arrow.Field, dropped bool, err error) {
	types, err := c.columnTypes()
	if err != nil {
		return key, false, err
	}
	cfg, _ := c.keyColumns()
	own := cfg.Columns[f.key]
	messages := arrow.NewSchema(nil, nil)
	switch {
	case own.Type != "" || own.Cast != "": // which tell all of it
	case f.keys.schema == nil:
		return key, false, fmt.Errorf("nothing tells what the keys' column %q is: say it in table.columns.%s.type", f.key, f.key)
	default:
		if messages, _, err = f.keys.schema(ctx, c.given(nil), nil); err != nil {
			return key, false, fmt.Errorf("the keys' column %q: %w", f.key, err)
		}
	}
	dropped = own.Drop
	own.Drop = false
	if own != (decode.Column{}) {
		cfg.Columns[f.key] = own
	}
	made, err := columns.NewTable(messages, cfg, types)
	if err != nil {
		return key, false, err
	}
	return made.Field(0), dropped, nil
}

// withKey appends the keys' column to a new table's.
func (c config) withKey(ctx context.Context, f *format, schema *arrow.Schema) (*arrow.Schema, error) {
	key, dropped, err := c.newKey(ctx, f)
	switch {
	case err != nil || dropped:
		return schema, err
	case len(schema.FieldIndices(f.key)) > 0:
		return nil, fmt.Errorf("the schema has a column %q, which is the name of the keys' column: name another one in source.key.column", f.key)
	}
	return arrow.NewSchema(append(schema.Fields(), key), nil), nil
}

// keyFields are what keys fill of a table: their column, without what is dropped of it. table is nil where there is none yet.
func (c config) keyFields(keys, table *arrow.Schema) (*arrow.Schema, error) {
	types, err := c.columnTypes()
	if err != nil {
		return nil, err
	}
	return columns.Fields(keys, table, c.Table.Decode, types)
}

// validateKeyColumns checks what table.columns says of keys, and that no other column takes a field of them.
func (c config) validateKeyColumns() error {
	keys, others := c.keyColumns()
	key := c.Source.Key
	types, _ := c.columnTypes() // what is wrong with them, their own check tells
	var errs []error
	for name, column := range keys.Columns {
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("table.columns.%s"+format, append([]any{name}, args...)...))
		}
		asBytes := key.Format == formatString || key.Format == formatBinary
		cast, _, _, _ := decode.ParseCast(column.Cast)
		switch typ := types[key.Column]; {
		case column.Computed():
			bad(": it is the column of the keys: put the constant or expression, which may read %s, into another column, or name another one for keys in source.key.column", key.Column)
		case column.From != "":
			bad(".from: it is the column of the keys, which takes all of a key: remove it, or name another one in source.key.column")
		case name == key.Column && column.Drop && column.Type == "":
			bad(".drop: it is the column of the keys, and nothing would read it: give it a type, for expressions and the filter, or leave out source.key")
		case asBytes && (column.Cast != "" || column.Epoch != ""):
			bad(": keys of format %s have nothing to take by cast or epoch: use an expression over %s, in another column", key.Format, key.Column)
		case cast == decode.CastJSON && key.Format != formatJSON:
			bad(".cast: json takes the text of JSON, and source.key.format is %s: use an expression over %s, in another column", key.Format, key.Column)
		case column.Cast != "" && key.Format == formatProtobuf:
			bad(".cast: a key of Protobuf is a message, and %s takes a single value: use an expression over a field of %s, in another column", column.Cast, key.Column)
		case name != key.Column || typ == nil:
		case variant.Is(typ):
			bad(".type: keys are not read into VARIANT: use another type")
		case asBytes && typ.ID() != arrow.STRING && typ.ID() != arrow.BINARY:
			bad(".type: keys of format %s are kept as they are, in a STRING or a BINARY: use one of them, and an expression over it in another column", key.Format)
		case key.Format == formatProtobuf && typ.ID() != arrow.STRUCT:
			bad(".type: a key of Protobuf is a message, and becomes a STRUCT: use one, or drop fields of it")
		}
	}
	for name, column := range others.Columns {
		if path, err := decode.ParsePath(column.From); key.Format != "" && err == nil && path[0] == key.Column {
			errs = append(errs, fmt.Errorf("table.columns.%s.from: %s is the column of the keys, and from takes a field of values: use an expression, such as {expression: %q}, or name another column for keys in source.key.column",
				name, key.Column, column.From))
		}
	}
	return errors.Join(errs...)
}
