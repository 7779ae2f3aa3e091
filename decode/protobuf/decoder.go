package protobuf

import (
	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/decode"
)

// Decoder turns Protobuf messages into batches of a table. One goroutine uses it.
type Decoder struct {
	decode.Shell[*Type, *message]

	whole   bool // a message is the value of the table's only column
	partial bool // a part of a message is looked at
	again   bool // a message within the row has come a second time
	merging bool // it is the second round, which looks for such messages
}

// New returns a decoder for the plan's table.
func New(plan *decode.Plan, framing Framing) *Decoder {
	d := &Decoder{Shell: decode.NewShell[*Type, *message](plan)}
	d.Frame, d.Compile, d.Row = framing, d.compile, d.row
	d.Name = func(t *Type) string { return t.id }
	d.Wanted = func(t *Type) (*arrow.Schema, error) { return MessageSchema(t, plan.Given) }
	return d
}

// NewSingle returns a decoder for the plan's table with one column, a struct that takes the messages, as of keys.
func NewSingle(plan *decode.Plan, framing Framing) *Decoder {
	d := New(plan, framing)
	d.whole = true
	d.Wanted = func(t *Type) (*arrow.Schema, error) { return ColumnSchema(t, plan.Schema().Field(0).Name, plan.Given) }
	return d
}

// row decodes the message behind its framing.
func (d *Decoder) row(m *message, value []byte, begin int) bool {
	d.partial, d.again, d.merging = false, false, false
	ok := d.message(m, value[begin:], d.Batch.Len())
	if d.again {
		d.Batch.Rollback()
		d.Problem, d.partial, d.merging = decode.Problem{}, false, true
		ok = d.message(m, value[begin:], d.Batch.Len())
	}
	return ok
}

// fail notes the reason and returns false.
func (d *Decoder) fail(reason, format string, args ...any) bool {
	d.Problem.Set(reason, format, args...)
	return false
}

// broken fails because the bytes are no message.
func (d *Decoder) broken() bool {
	return d.fail(decode.ReasonInvalidProto, "the bytes are cut off, or are no message of this type")
}

// within notes the path of the innermost field in which a problem arose, and returns false.
func (d *Decoder) within(path string) bool {
	d.Problem.Within(path)
	return false
}
