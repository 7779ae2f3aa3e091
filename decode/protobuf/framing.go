package protobuf

import (
	"bytes"
	"encoding/binary"
	"slices"

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
// asked again for the last few types of a schema. One decoder uses it.
func Registry(header string, find func(decode.SchemaRef) (*Schema, error)) Framing {
	known := map[decode.SchemaRef][]indexed{}
	var last decode.SchemaRef
	var now indexed // of the message before
	return func(rec *kgo.Record) (*Type, int, error) {
		f, err := decode.RegistryFraming(rec, header)
		if err != nil {
			return nil, 0, err
		}
		if now.typ == nil || f.Ref != last || !bytes.HasPrefix(f.From[f.Next:], now.path) {
			of := known[f.Ref]
			if i := slices.IndexFunc(of, func(t indexed) bool { return bytes.HasPrefix(f.From[f.Next:], t.path) }); i >= 0 {
				now = of[i]
			} else {
				if now, err = typeOf(f, find); err != nil {
					return nil, 0, err
				}
				if len(of) >= maxTypes {
					of = nil
				}
				if len(known) >= maxSchemas {
					clear(known)
				}
				known[f.Ref] = append(of, now)
			}
			last = f.Ref
		}
		if f.InHeader {
			return now.typ, 0, nil
		}
		return now.typ, f.Next + len(now.path), nil
	}
}

// Bounds of what is remembered; more only cost time.
const (
	maxSchemas = 1000
	maxTypes   = 16 // of a schema
)

// indexed is a type, and the indexes that lead to it as they stand in messages; they tell their own end.
type indexed struct {
	typ  *Type
	path []byte
}

// typeOf finds the type that the indexes lead to.
func typeOf(f decode.Framed, find func(decode.SchemaRef) (*Schema, error)) (indexed, error) {
	found, n := indexes(f.From[f.Next:])
	if n < 0 {
		return indexed{}, &decode.FramingError{Reason: decode.ReasonInvalidFraming, Detail: "what follows the schema id are no message indexes", Schema: f.Ref.String()}
	}
	schema, err := find(f.Ref)
	if err != nil {
		return indexed{}, err
	}
	typ, err := schema.at(found)
	if err != nil {
		return indexed{}, &decode.FramingError{Reason: decode.ReasonInvalidFraming, Schema: schema.id, Detail: err.Error()}
	}
	return indexed{typ, bytes.Clone(f.From[f.Next : f.Next+n])}, nil
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
