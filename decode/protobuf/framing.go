package protobuf

import (
	"encoding/binary"
	"fmt"

	"kafkadelta/decode"
)

// Framing tells of which type a message is, and where its bytes begin. A *decode.FramingError makes the message poison; any
// other error is handed on, such as one that asks to try again while a registry does not answer.
type Framing func(value []byte) (typ *Type, begin int, err error)

// Bare is the framing of messages that are nothing but the bytes of one type.
func Bare(t *Type) Framing {
	return func([]byte) (*Type, int, error) { return t, 0, nil }
}

// registryHeader is the length of a registry's framing before the indexes: a zero byte and the schema's id.
const registryHeader = 5

// maxLevels bounds how deep a message type may be nested in others.
const maxLevels = 32

// Registry is the framing of a schema registry: a zero byte, the schema's id as 4 bytes, big-endian, then the number of
// indexes and the indexes that lead to the type in the schema's file, as zig-zag varints; a single zero stands for the first
// type (Confluent's documentation, "Wire format"). An id's schema comes from byID, whose errors are handed on.
func Registry(byID func(id int32) (*Schema, error)) Framing {
	first := []int{0}
	return func(value []byte) (*Type, int, error) {
		if len(value) <= registryHeader || value[0] != 0 {
			return nil, 0, &decode.FramingError{Reason: decode.ReasonInvalidFraming, Detail: fmt.Sprintf(
				"the message begins with %s: want a zero byte, a schema id of 4 bytes and message indexes, as a schema registry's serializers write them",
				decode.Shorten(value[:min(len(value), registryHeader)]))}
		}
		path, begin := first, registryHeader+1
		if value[registryHeader] != 0 {
			var ok bool
			if path, begin, ok = indexes(value); !ok {
				return nil, 0, &decode.FramingError{Reason: decode.ReasonInvalidFraming, Detail: "what follows the schema id are no message indexes"}
			}
		}
		s, err := byID(int32(binary.BigEndian.Uint32(value[1:])))
		if err != nil {
			return nil, 0, err
		}
		t, err := s.at(path)
		if err != nil {
			return nil, 0, &decode.FramingError{Reason: decode.ReasonInvalidFraming, Detail: err.Error()}
		}
		return t, begin, nil
	}
}

func indexes(value []byte) (path []int, begin int, ok bool) {
	begin = registryHeader
	next := func() int64 {
		v, n := binary.Varint(value[begin:])
		if n <= 0 {
			return -1
		}
		begin += n
		return v
	}
	n := next()
	if n < 1 || n > maxLevels {
		return nil, 0, false
	}
	for range n {
		i := next()
		if i < 0 || i > 1<<20 {
			return nil, 0, false
		}
		path = append(path, int(i))
	}
	return path, begin, true
}
