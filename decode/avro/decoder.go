package avro

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
)

// Framing tells which schema a message was written with, and where its datum begins. A *decode.FramingError makes the message poison;
// any other error is handed on, such as a *decode.RetryLaterError while a registry does not answer.
type Framing func(rec *kgo.Record) (schema *Schema, begin int, err error)

// Options of a decoder.
type Options struct {
	Framing Framing
	// Reader is a schema whose aliases name columns, and whose defaults fill them, where a writer's schema has no such field.
	// It may be nil.
	Reader *Schema
}

// Decoder turns Avro messages into batches of a table. One goroutine uses it.
type Decoder struct {
	decode.Shell[*Schema, *program]

	in    []byte // the message
	items int    // that arrays and maps of the message may still have
	depth int    // of what is being skipped
	found []int  // where the values of looked-up keys are
}

// New returns a decoder for the plan's table.
func New(plan *decode.Plan, o Options) *Decoder {
	d := &Decoder{Shell: decode.NewShell[*Schema, *program](plan)}
	d.Frame = func(rec *kgo.Record) (*Schema, int, error) {
		s, begin, err := o.Framing(rec)
		if len(rec.Value) > 0 {
			return s, begin, err
		}
		empty := &decode.FramingError{Reason: decode.ReasonEmpty, Detail: "the record's value has no bytes"}
		if err == nil {
			empty.Schema = s.id // a header names it
		}
		return nil, 0, empty
	}
	d.Name = func(s *Schema) string { return s.id }
	d.Compile = func(s *Schema) (*program, int, error) { return d.compile(s, o.Reader) }
	d.Row = d.row
	if o.Reader == nil {
		d.Wanted = func(s *Schema) (*arrow.Schema, error) { return MessageSchema(s, nil, plan.Given, plan) }
	}
	return d
}

// row decodes the datum behind a message's framing.
func (d *Decoder) row(p *program, value []byte, begin int) bool {
	d.in, d.items, d.depth = value, len(value), 0
	end := d.value(p, begin)
	if end >= 0 && end != len(d.in) {
		end = d.fail(decode.ReasonTrailingData, end, "%d bytes follow behind the datum: is it of another schema?", len(d.in)-end)
	}
	d.in = nil
	return end >= 0
}

// failed is the position that decoding functions return when they could not go on; the decoder's Problem says why.
const failed = -1

// fail notes the reason and returns failed. p is where, for the detail.
func (d *Decoder) fail(reason string, p int, format string, args ...any) int {
	d.Problem.Set(reason, format+" (byte %d)", append(args, p)...)
	return failed
}

// truncated fails because the message ends within a value.
func (d *Decoder) truncated(p int) int {
	return d.fail(decode.ReasonInvalidAvro, p, "the message of %d bytes ends within a value, or is of another schema", len(d.in))
}

// within notes the path of the innermost field in which a problem arose, and returns failed.
func (d *Decoder) within(path string) int {
	d.Problem.Within(path)
	return failed
}
