package avro

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/linkedin/goavro/v2"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
)

// Bare is the framing of messages that are nothing but a datum of one schema.
func Bare(s *Schema) Framing {
	return func(*kgo.Record) (*Schema, int, error) { return s, 0, nil }
}

// Registry is the framing of a schema registry, whose serializers may use the header. A schema comes from find, whose errors are
// handed on; it is not asked again for a schema that it gave. One decoder uses it.
func Registry(header string, find func(decode.SchemaRef) (*Schema, error)) Framing {
	find = decode.Remember(find)
	var last decode.SchemaRef
	var schema *Schema
	return func(rec *kgo.Record) (*Schema, int, error) {
		f, err := decode.RegistryFraming(rec, header)
		if err != nil {
			return nil, 0, err
		}
		if schema == nil || f.Ref != last {
			if schema, err = find(f.Ref); err != nil {
				return nil, 0, err
			}
			last = f.Ref
		}
		return schema, f.Begin(), nil
	}
}

// singleObjectHeader is the length of the single-object encoding's marker and fingerprint.
const singleObjectHeader = 10

// SingleObject is the framing of the single-object encoding: C3 01, then the CRC-64-AVRO fingerprint of the schema's canonical
// form, little-endian. Schemas of one fingerprint that make different rows of a message are an error, which names both.
func SingleObject(schemas ...*Schema) (Framing, error) {
	byPrint := map[uint64]*Schema{}
	for _, s := range schemas {
		codec, err := goavro.NewCodec(s.canonical())
		if err != nil {
			return nil, fmt.Errorf("fingerprint of an Avro schema: %w", err)
		}
		if other := byPrint[codec.Rabin]; other != nil {
			if err := alike(other, s); err != nil {
				return nil, fmt.Errorf("%s and %s have the same fingerprint %016x, and a message tells no more of its schema: %w; keep one of them, or make them the same there", other.id, s.id, codec.Rabin, err)
			}
		}
		byPrint[codec.Rabin] = s
	}
	return func(rec *kgo.Record) (*Schema, int, error) {
		value := rec.Value
		if len(value) < singleObjectHeader || value[0] != 0xc3 || value[1] != 0x01 {
			return nil, 0, &decode.FramingError{Reason: decode.ReasonInvalidFraming, Detail: fmt.Sprintf(
				"the message begins with %s: want C3 01 and a fingerprint of 8 bytes, Avro's single-object encoding", decode.Shorten(value[:min(len(value), singleObjectHeader)]))}
		}
		fingerprint := binary.LittleEndian.Uint64(value[2:])
		s, ok := byPrint[fingerprint]
		if !ok {
			return nil, 0, &decode.FramingError{
				Reason: decode.ReasonUnknownSchema, Schema: fmt.Sprintf("fingerprint %016x", fingerprint), Detail: fmt.Sprintf("none of the %d schemas has that fingerprint", len(byPrint)),
			}
		}
		return s, singleObjectHeader, nil
	}, nil
}

// alike says where two schemas of one fingerprint differ in what they make of a message. The fingerprint leaves out names' aliases, defaults and documentation,
// which a writer's schema needs for nothing, and logical types, which decide.
func alike(a, b *Schema) error {
	if a.canonical() != b.canonical() {
		return errors.New("they are of different types")
	}
	return sameLogical(a.root, b.root, "", map[*node]bool{})
}

// sameLogical looks for a type that is another logical one, in schemas that are else the same.
func sameLogical(a, b *node, path string, seen map[*node]bool) error {
	if seen[a] {
		return nil
	}
	seen[a] = a.name != ""
	if one, two := a.logicalName(), b.logicalName(); one != two && a.kind != kindString { // a uuid is a text like any other
		if path != "" {
			path = "field " + path + ": "
		}
		return fmt.Errorf("%sthe logical type is %s in the one and %s in the other", path, one, two)
	}
	for i, f := range a.fields {
		at := f.name
		if path != "" {
			at = path + "." + at
		}
		if err := sameLogical(f.typ, b.fields[i].typ, at, seen); err != nil {
			return err
		}
	}
	for i, branch := range a.branches {
		if err := sameLogical(branch, b.branches[i], path, seen); err != nil {
			return err
		}
	}
	if a.items == nil {
		return nil
	}
	element := "element"
	if a.kind == kindMap {
		element = "value"
	}
	return sameLogical(a.items, b.items, path+"."+element, seen)
}
