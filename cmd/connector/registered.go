package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/decode"
	"kafkadelta/decode/avro"
	"kafkadelta/decode/jsonschema"
	"kafkadelta/decode/protobuf"
	"kafkadelta/registry"
)

// settings say where the configuration speaks of values of one format, or of keys.
type settings struct{ format, subject string }

var (
	ofKeys                     = settings{"source.key.format", "source.key.subject"}
	ofAvro, ofProtobuf, ofJSON = settings{"source.format", "source.avro.subject"}, settings{"source.format", "source.protobuf.subject"}, settings{"source.format", "source.json.subject"}
)

// registered are a registry's schemas of one type, parsed once for all decoders.
type registered[S any] struct {
	client *registry.Client
	of     settings
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
		return schema, &decode.FramingError{Reason: decode.ReasonUnknownSchema, Schema: ref.String(), Detail: err.Error()}
	}
	if errors.Is(err, registry.ErrTooMany) {
		return schema, &decode.FramingError{Reason: decode.ReasonInvalidSchema, Schema: ref.String(), Detail: err.Error()}
	}
	if err != nil {
		return schema, err
	}
	r.mu.Lock() // one for all lanes: schemas are told apart by their pointers
	defer r.mu.Unlock()
	p, ok := r.parsed[s]
	if !ok {
		if p.schema, err = r.parseOf(s); err != nil {
			p.err = &decode.FramingError{Reason: decode.ReasonInvalidSchema, Schema: ref.String(), Detail: err.Error()}
		}
		r.parsed[s] = p
	}
	return p.schema, p.err
}

// latest gives the newest schema of a subject.
func (r *registered[S]) latest(ctx context.Context, subject string) (schema S, err error) {
	s, err := r.client.Latest(ctx, subject)
	if err != nil {
		return schema, fmt.Errorf("%w; name another subject in %s, or say in table.schema which columns a new table gets", err, r.of.subject)
	}
	return r.parseOf(s)
}

func (r *registered[S]) parseOf(s *registry.Schema) (schema S, err error) {
	if s.Type != r.typ {
		return schema, fmt.Errorf("%s is of type %s: want %s, as %s says", idText(s), s.Type, r.typ, r.of.format)
	}
	if schema, err = r.parse(s); err != nil {
		err = fmt.Errorf("%s: %w", idText(s), err)
	}
	return schema, err
}

func idText(s *registry.Schema) string { return fmt.Sprintf("schema id %d", s.ID) }

func known[S any](client *registry.Client, of settings, typ string, parse func(*registry.Schema) (S, error)) *registered[S] {
	return &registered[S]{client: client, of: of, typ: typ, parse: parse, parsed: map[*registry.Schema]parsedSchema[S]{}}
}

func knownAvro(client *registry.Client, of settings) *registered[*avro.Schema] {
	return known(client, of, "AVRO", func(s *registry.Schema) (*avro.Schema, error) {
		var references []string
		for _, r := range s.References {
			references = append(references, r.Text)
		}
		return avro.Parse(idText(s), s.Text, references...)
	})
}

func knownProtobuf(ctx context.Context, client *registry.Client, of settings) *registered[*protobuf.Schema] {
	return known(client, of, "PROTOBUF", func(s *registry.Schema) (*protobuf.Schema, error) {
		var references []protobuf.Reference
		for _, r := range s.References {
			references = append(references, protobuf.Reference{Path: r.Name, Text: r.Text})
		}
		return protobuf.Parse(context.WithoutCancel(ctx), idText(s), s.Text, references...)
	})
}

// knownJSON keeps JSON Schemas as they are: messages are not read by them.
func knownJSON(client *registry.Client, of settings) *registered[*registry.Schema] {
	return known(client, of, "JSON", func(s *registry.Schema) (*registry.Schema, error) { return s, nil })
}

// followed gives a schema's name for errors, if the registry has it, for a decoder whose table may have to follow it first, by the values of its
// messages. It is for one decoder.
func followed(p *decode.Plan, known *registered[*registry.Schema], values func(*registry.Schema, decode.Given) (*arrow.Schema, error)) func(decode.SchemaRef) (string, error) {
	type verdict struct {
		name string
		err  error
	}
	asked := map[*registry.Schema]verdict{}
	return func(ref decode.SchemaRef) (string, error) {
		s, err := known.find(ref)
		if err != nil {
			return "", err
		}
		v, ok := asked[s]
		if !ok {
			v = verdict{idText(s), nil}
			if p.Follow != nil {
				v.err = followJSON(p, s, values)
			}
			asked[s] = v
		}
		return v.name, v.err
	}
}

// followJSON is a *decode.EvolveError where the table is to follow the schema first, and a *decode.FramingError where it can't.
func followJSON(p *decode.Plan, s *registry.Schema, values func(*registry.Schema, decode.Given) (*arrow.Schema, error)) error {
	messages, err := values(s, p.Given)
	if err != nil {
		return &decode.FramingError{Reason: decode.ReasonInvalidSchema, Schema: idText(s), Detail: err.Error()}
	}
	err = p.CheckFollow(idText(s), jsonschema.Columns(messages))
	if misfit, ok := errors.AsType[*decode.Mismatch](err); ok {
		return &decode.FramingError{Reason: decode.ReasonTypeMismatch, Schema: idText(s), Detail: misfit.Detail}
	}
	return err
}

func jsonValueSchema(s *registry.Schema, given decode.Given) (*arrow.Schema, error) {
	values, err := jsonschema.ValueSchema(given, s.Text, jsonReferences(s)...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", idText(s), err)
	}
	return values, nil
}

func jsonReferences(s *registry.Schema) []jsonschema.Reference {
	var out []jsonschema.Reference
	for _, r := range s.References {
		out = append(out, jsonschema.Reference{Name: r.Name, Text: r.Text})
	}
	return out
}
