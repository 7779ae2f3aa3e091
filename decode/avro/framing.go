package avro

import (
	"encoding/binary"
	"fmt"

	"github.com/linkedin/goavro/v2"

	"kafkadelta/decode"
)

// Bare is the framing of messages that are nothing but a datum of one schema.
func Bare(s *Schema) Framing {
	return func([]byte) (*Schema, int, error) { return s, 0, nil }
}

// registryHeader is the length of a schema registry's framing: a zero byte, and the schema's id as 4 bytes, big-endian
// (Confluent's documentation, "Wire format").
const registryHeader = 5

// Registry is the framing of a schema registry. An id's schema comes from byID, whose errors are handed on.
func Registry(byID func(id int32) (*Schema, error)) Framing {
	return func(value []byte) (*Schema, int, error) {
		if len(value) < registryHeader || value[0] != 0 {
			return nil, 0, &decode.FramingError{Reason: decode.ReasonInvalidFraming, Detail: fmt.Sprintf(
				"the message begins with %s: want a zero byte and a schema id of 4 bytes, as a schema registry's serializers write them", decode.Shorten(value[:min(len(value), registryHeader)]))}
		}
		s, err := byID(int32(binary.BigEndian.Uint32(value[1:])))
		return s, registryHeader, err
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
	return func(value []byte) (*Schema, int, error) {
		if len(value) < singleObjectHeader || value[0] != 0xc3 || value[1] != 0x01 {
			return nil, 0, &decode.FramingError{Reason: decode.ReasonInvalidFraming, Detail: fmt.Sprintf(
				"the message begins with %s: want C3 01 and a fingerprint of 8 bytes, Avro's single-object encoding", decode.Shorten(value[:min(len(value), singleObjectHeader)]))}
		}
		fingerprint := binary.LittleEndian.Uint64(value[2:])
		s, ok := byPrint[fingerprint]
		if !ok {
			return nil, 0, &decode.FramingError{Reason: decode.ReasonUnknownSchema, Detail: fmt.Sprintf("none of the %d schemas has the fingerprint %016x", len(byPrint), fingerprint)}
		}
		return s, singleObjectHeader, nil
	}, nil
}
