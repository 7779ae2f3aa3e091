package main

import (
	"cmp"
	"context"
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
	"kafkadelta/registry"
)

// openKey sets how keys are decoded, into one column: of a record it is a struct.
func (f *format) openKey(ctx context.Context, c sourceSection, client *registry.Client) {
	f.key = c.Key.Column
	subject := cmp.Or(c.Key.Subject, c.Kafka.Topic+"-key")
	switch {
	case c.Key.Format == formatString || c.Key.Format == formatBinary:
		f.newKey = func(p *decode.Plan) (envelope.Decoder, error) { return raw.New(p, f.key) }
		f.keyType = func(context.Context) (arrow.DataType, error) { return rawTypes[c.Key.Format], nil }
	case c.Key.Format == formatAvro:
		f.openAvroKey(subject, client)
	case c.Key.Format == formatProtobuf:
		f.openProtobufKey(ctx, subject, client)
	case c.Key.Framing == framingRegistry:
		f.openJSONKey(subject, client)
	default:
		f.newKey = func(p *decode.Plan) (envelope.Decoder, error) { return json.NewSingle(p, nil), nil }
	}
}

func (f *format) openJSONKey(subject string, client *registry.Client) {
	known := knownJSON(client, ofKeys)
	column := func(s *registry.Schema, _ decode.Given) (*arrow.Schema, error) {
		t, err := jsonschema.ColumnType(f.key, s.Text, jsonReferences(s)...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", idText(s), err)
		}
		return arrow.NewSchema([]arrow.Field{{Name: f.key, Type: t, Nullable: true}}, nil), nil
	}
	f.newKey = func(p *decode.Plan) (envelope.Decoder, error) {
		return json.NewSingle(p, json.Registry(decode.KeySchemaHeader, followed(p, known, column))), nil
	}
	f.keyType = func(ctx context.Context) (arrow.DataType, error) {
		s, err := known.latest(ctx, subject)
		if err != nil {
			return nil, err
		}
		schema, err := column(s, nil)
		if err != nil {
			return nil, err
		}
		return schema.Field(0).Type, nil
	}
}

func (f *format) openAvroKey(subject string, client *registry.Client) {
	known := knownAvro(client, ofKeys)
	parse := known.parse
	known.parse = func(s *registry.Schema) (*avro.Schema, error) {
		schema, err := parse(s)
		if err != nil {
			return nil, err
		}
		return schema.Single(f.key), nil
	}
	f.newKey = func(p *decode.Plan) (envelope.Decoder, error) {
		return avro.New(p, avro.Options{Framing: avro.Registry(decode.KeySchemaHeader, known.find)}), nil
	}
	f.keyType = func(ctx context.Context) (arrow.DataType, error) {
		s, err := known.latest(ctx, subject)
		if err != nil {
			return nil, err
		}
		table, err := avro.TableSchema(s)
		if err != nil {
			return nil, err
		}
		return table.Field(0).Type, nil
	}
}

func (f *format) openProtobufKey(ctx context.Context, subject string, client *registry.Client) {
	known := knownProtobuf(ctx, client, ofKeys)
	f.newKey = func(p *decode.Plan) (envelope.Decoder, error) {
		return protobuf.NewSingle(p, protobuf.Registry(decode.KeySchemaHeader, known.find)), nil
	}
	f.keyType = func(ctx context.Context) (arrow.DataType, error) {
		s, err := known.latest(ctx, subject)
		if err != nil {
			return nil, err
		}
		typ, err := s.Named("")
		if err != nil {
			return nil, fmt.Errorf("the latest schema of subject %q: %w; say in table.schema which columns a new table gets, this one too", subject, err)
		}
		table, err := protobuf.TableSchema(typ)
		if err != nil {
			return nil, err
		}
		return arrow.StructOf(table.Fields()...), nil
	}
}

// withKey appends the keys' column to a new table's.
func (c config) withKey(ctx context.Context, f *format, schema *arrow.Schema) (*arrow.Schema, error) {
	if len(schema.FieldIndices(f.key)) > 0 {
		return nil, fmt.Errorf("the schema has a column %q, which is the name of the keys' column: name another one in source.key.column", f.key)
	}
	if f.keyType == nil {
		return nil, fmt.Errorf("nothing tells what the keys' column %q is: say in table.schema which columns a new table gets, this one too", f.key)
	}
	typ, err := f.keyType(ctx)
	if err != nil {
		return nil, fmt.Errorf("the keys' column %q: %w", f.key, err)
	}
	own, err := c.keyFields(arrow.NewSchema([]arrow.Field{{Name: f.key, Type: typ, Nullable: true}}, nil), nil)
	if err != nil {
		return nil, err
	}
	return arrow.NewSchema(append(schema.Fields(), own.Fields()...), nil), nil
}

// keyFields are what keys fill of a table: their column, without what is dropped of it. table is nil where there is none yet.
func (c config) keyFields(keys, table *arrow.Schema) (*arrow.Schema, error) {
	types, err := c.columnTypes()
	if err != nil {
		return nil, err
	}
	return columns.Fields(keys, table, c.Table.Decode, types)
}
