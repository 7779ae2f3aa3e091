package protobuf

import (
	"bytes"
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
)

// Framing tells of which type a message is, and where its bytes begin. A *decode.FramingError makes the message poison; any
// other error is handed on, such as one that asks to try again while a registry does not answer.
type Framing func(rec *kgo.Record) (typ *Type, begin int, err error)

// Bare is the framing of messages that are nothing but the bytes of one type.
func Bare(t *Type) Framing {
	return func(*kgo.Record) (*Type, int, error) { return t, 0, nil }
}

// maxLevels bounds how deep a message type may be nested in others.
const maxLevels = 32

// Registry is the framing of a schema registry, whose serializers may use the header. Behind the schema's id or GUID come the
// number of indexes and the indexes that lead to the type in the schema's file, as zig-zag varints; a single zero stands for
// the first type (Confluent's documentation, "Wire format"). A schema comes from find, whose errors are handed on; it is not
// asked again for the type of the message before. One decoder uses it.
func Registry(header string, find func(decode.SchemaRef) (*Schema, error)) Framing {
	var last decode.SchemaRef
	var path []byte // the indexes as they stand in the message before; they tell their own end
	var typ *Type
	return func(rec *kgo.Record) (*Type, int, error) {
		f, err := decode.RegistryFraming(rec, header)
		if err != nil {
			return nil, 0, err
		}
		if typ == nil || f.Ref != last || !bytes.HasPrefix(f.From[f.Next:], path) {
			if typ, path, err = typeOf(f, find); err != nil {
				typ = nil
				return nil, 0, err
			}
			last = f.Ref
		}
		if f.InHeader {
			return typ, 0, nil
		}
		return typ, f.Next + len(path), nil
	}
}

// typeOf finds the type that the indexes lead to. path is a copy of their bytes.
func typeOf(f decode.Framed, find func(decode.SchemaRef) (*Schema, error)) (typ *Type, path []byte, err error) {
	found, n := indexes(f.From[f.Next:])
	if n < 0 {
		return nil, nil, &decode.FramingError{Reason: decode.ReasonInvalidFraming, Detail: "what follows the schema id are no message indexes"}
	}
	schema, err := find(f.Ref)
	if err != nil {
		return nil, nil, err
	}
	if typ, err = schema.at(found); err != nil {
		return nil, nil, &decode.FramingError{Reason: decode.ReasonInvalidFraming, Schema: schema.id, Detail: err.Error()}
	}
	return typ, bytes.Clone(f.From[f.Next : f.Next+n]), nil
}

// indexes reads the path to a type, and how many bytes it takes; -1 where the bytes are none.
func indexes(b []byte) (path []int, n int) {
	next := func() int64 {
		v, length := binary.Varint(b[n:])
		if length <= 0 {
			return -1
		}
		n += length
		return v
	}
	levels := next()
	if levels == 0 {
		return []int{0}, n
	}
	if levels < 0 || levels > maxLevels {
		return nil, -1
	}
	for range levels {
		i := next()
		if i < 0 || i > 1<<20 {
			return nil, -1
		}
		path = append(path, int(i))
	}
	return path, n
}
