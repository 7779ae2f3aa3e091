package decode

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kgo"
)

// SchemaRef names a schema of a registry: by its id, or by its GUID where that is not zero.
type SchemaRef struct {
	ID   int32
	GUID [16]byte
}

func (r SchemaRef) String() string {
	if g := r.GUID; g != [16]byte{} {
		return fmt.Sprintf("schema guid %x-%x-%x-%x-%x", g[:4], g[4:6], g[6:8], g[8:10], g[10:])
	}
	return fmt.Sprintf("schema id %d", r.ID)
}

// Headers in which serializers name the schema of a value and of a key, unless they put it before the bytes.
const (
	ValueSchemaHeader = "__value_schema_id"
	KeySchemaHeader   = "__key_schema_id"
)

// Remember has find asked once for each schema that it gives, so that messages of several schemas in turn cost no more than a look-up in a map. One decoder
// uses it.
func Remember[S any](find func(SchemaRef) (S, error)) func(SchemaRef) (S, error) {
	known := map[SchemaRef]S{}
	return func(ref SchemaRef) (S, error) {
		if s, ok := known[ref]; ok {
			return s, nil
		}
		s, err := find(ref)
		if err == nil {
			if len(known) >= maxPrograms {
				clear(known)
			}
			known[ref] = s
		}
		return s, err
	}
}

// Framed is how a record tells its schema in a registry: in from, whose bytes go on at next, as Protobuf's message indexes do.
// Where that is a header, the value has nothing but the message.
type Framed struct {
	Ref      SchemaRef
	From     []byte
	Next     int
	InHeader bool
}

// Begin is where the message begins in the record's value, if nothing else stands before it.
func (f Framed) Begin() int {
	if f.InHeader {
		return 0
	}
	return f.Next
}

// Lengths of a schema's name: a byte, then an id of 4 bytes or a GUID of 16 bytes.
const (
	idLength   = 1 + 4
	guidLength = 1 + 16
)

// RegistryFraming reads which schema a record's value is of: in the header of that name, or else at the beginning of the value, a
// zero byte and an id of 4 bytes, big-endian, or a byte 1 and a GUID (Confluent's documentation, "Wire format", and its
// serializers' SchemaId). The error is a *FramingError.
func RegistryFraming(rec *kgo.Record, header string) (Framed, error) {
	f := Framed{From: rec.Value}
	for i := range rec.Headers {
		if rec.Headers[i].Key == header { // the last one counts, as for the serializers' own side
			f.From, f.InHeader = rec.Headers[i].Value, true
		}
	}
	switch {
	case len(f.From) >= idLength && f.From[0] == 0:
		id := binary.BigEndian.Uint32(f.From[1:])
		if id > math.MaxInt32 {
			return f, &FramingError{Reason: ReasonInvalidFraming, Detail: fmt.Sprintf("the schema id is %d, and a registry's ids end at %d: is it framed otherwise?", id, math.MaxInt32)}
		}
		f.Ref.ID, f.Next = int32(id), idLength
	case len(f.From) >= guidLength && f.From[0] == 1:
		f.Ref.GUID, f.Next = [16]byte(f.From[1:guidLength]), guidLength
	default:
		what := "the message"
		if f.InHeader {
			what = "the header " + header
		}
		return f, &FramingError{Reason: ReasonInvalidFraming, Detail: fmt.Sprintf(
			"%s begins with %s: want a zero byte and a schema id of 4 bytes, or a byte 1 and a GUID, as a schema registry's serializers write them",
			what, Shorten(f.From[:min(len(f.From), guidLength)]))}
	}
	return f, nil
}
