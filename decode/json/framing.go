package json

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
)

// Framing tells by which schema a message was written, for errors, and where its JSON begins. A *decode.FramingError makes the
// message poison; any other error is handed on, such as one that asks to try again while a registry does not answer.
type Framing func(rec *kgo.Record) (schema string, begin int, err error)

// Registry is the framing of a schema registry, whose serializers may use the header. known says whether the registry has the
// schema, and gives its name; its errors are handed on. It is not asked again for a schema whose name it gave. One decoder uses it.
//
// The schema itself is not used: what a message holds goes into the table's columns by the rules of package json, which are
// stricter where it counts, and its producer has checked the message already.
func Registry(header string, known func(decode.SchemaRef) (name string, err error)) Framing {
	known = decode.Remember(known)
	var last decode.SchemaRef
	var name string
	return func(rec *kgo.Record) (string, int, error) {
		f, err := decode.RegistryFraming(rec, header)
		if err != nil {
			return "", 0, err
		}
		if name == "" || f.Ref != last {
			if name, err = known(f.Ref); err != nil {
				name = ""
				return "", 0, err
			}
			last = f.Ref
		}
		return name, f.Begin(), nil
	}
}

// unframed is what becomes of a message whose framing was not understood.
func (d *Decoder) unframed(rec *kgo.Record, err error) error {
	if e, ok := errors.AsType[*decode.FramingError](err); ok {
		d.schema = e.Schema
		d.problem.Set(e.Reason, "%s", e.Detail)
		return d.poison(rec)
	}
	return err
}
