package avro

import (
	"encoding/binary"
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
// form, little-endian.
func SingleObject(schemas ...*Schema) (Framing, error) {
	byPrint := map[uint64]*Schema{}
	for _, s := range schemas {
		codec, err := goavro.NewCodec(s.canonical())
		if err != nil {
			return nil, fmt.Errorf("fingerprint of an Avro schema: %w", err)
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
