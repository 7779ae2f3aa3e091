package protobuf

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
)

// Decoder turns Protobuf messages into batches of a table. One goroutine uses it.
type Decoder struct {
	plan     *decode.Plan
	rows     *decode.Rows
	framing  Framing
	programs map[*Type]*compiled
	last     *compiled

	keys    decode.KeySet
	partial bool // a part of a message is looked at
	problem problem
	all     []*decode.Builder // of computed columns
}

// compiled is what became of one message type.
type compiled struct {
	typ     *Type
	program *program
	err     *mismatch // why there is no program
}

// maxPrograms bounds the types that are remembered; more only cost time.
const maxPrograms = 1000

// New returns a decoder for the plan's table.
func New(plan *decode.Plan, framing Framing) *Decoder {
	d := &Decoder{plan: plan, rows: plan.NewRows(), framing: framing, programs: map[*Type]*compiled{}, last: &compiled{}}
	d.computedOf(plan.Root())
	return d
}

func (d *Decoder) computedOf(n *decode.Node) {
	for _, c := range n.Computed {
		d.all = append(d.all, d.rows.Columns[c.Column])
	}
	for _, f := range n.Fields {
		d.computedOf(f)
	}
}

// Append decodes one record's value into a row. It returns nil when exactly one more row is held, a
// *decode.PoisonError when the message can never be one, and an error that asks to try again when the batch has no room for
// it, or its schema can't be had now; both leave the rows as they were. It keeps no reference to the record.
func (d *Decoder) Append(rec *kgo.Record) error {
	if rec.Value == nil {
		return d.poison(rec, nil, problem{reason: decode.ReasonTombstone, detail: "the record has no value"})
	}
	typ, begin, err := d.framing(rec.Value)
	if err != nil {
		if e, ok := err.(*decode.FramingError); ok { //nolint:errorlint // never wrapped
			return d.poison(rec, nil, problem{reason: e.Reason, detail: e.Detail})
		}
		return err
	}
	c := d.last
	if c.typ != typ {
		if c, err = d.programOf(typ); err != nil {
			return err
		}
	}
	if c.err != nil {
		return d.poison(rec, typ, problem{reason: decode.ReasonTypeMismatch, path: c.err.path, detail: c.err.detail})
	}
	d.rows.Growth = c.program.growth
	if err := d.rows.Begin(rec); err != nil {
		return err
	}
	if !d.message(c.program.root, rec.Value[begin:], d.rows.Len()) {
		d.rows.Rollback()
		d.partial = false
		p := d.problem
		d.problem = problem{}
		return d.poison(rec, typ, p)
	}
	for _, b := range d.all {
		if b.Len == d.rows.Len() {
			b.AppendAbsent()
		}
	}
	d.rows.Commit(rec)
	return nil
}

func (d *Decoder) programOf(typ *Type) (*compiled, error) {
	c := d.programs[typ]
	if c == nil {
		c = &compiled{typ: typ}
		program, err := d.compile(typ)
		switch e := err.(type) { //nolint:errorlint // never wrapped
		case nil:
			c.program = program
		case *mismatch:
			c.err = e
		default:
			return nil, err
		}
		if len(d.programs) >= maxPrograms {
			clear(d.programs)
		}
		d.programs[typ] = c
	}
	d.last = c
	return c, nil
}

// Rows is the number of rows since the last NewBatch or Reset.
func (d *Decoder) Rows() int { return d.rows.Len() }

// Bytes is the size of those rows in memory.
func (d *Decoder) Bytes() int { return d.rows.Bytes() }

// NewBatch returns the rows as a batch of exactly the table's schema and starts a new one. The batch's buffers are the
// decoder's: release it before the next Append, or the decoder has to allocate new ones.
func (d *Decoder) NewBatch() arrow.RecordBatch {
	d.keys.Shrink()
	return d.rows.NewBatch()
}

// Reset drops the rows.
func (d *Decoder) Reset() {
	d.keys.Shrink()
	d.rows.Reset()
}

// problem is why a message is poison.
type problem struct {
	reason, path, detail string
	located              bool // path is set
}

// fail notes the reason and returns false.
func (d *Decoder) fail(reason, format string, args ...any) bool {
	d.problem = problem{reason: reason, detail: fmt.Sprintf(format, args...)}
	return false
}

// broken fails because the bytes are no message.
func (d *Decoder) broken() bool {
	return d.fail(decode.ReasonInvalidProto, "the bytes are cut off, or are no message of this type")
}

// within notes the path of the innermost field in which a problem arose, and returns false.
func (d *Decoder) within(path string) bool {
	if !d.problem.located && path != "" {
		d.problem.path, d.problem.located = path, true
	}
	return false
}

func (d *Decoder) poison(rec *kgo.Record, typ *Type, p problem) error {
	e := &decode.PoisonError{Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset, Path: p.path, Reason: p.reason, Detail: p.detail}
	if typ != nil {
		e.Schema = typ.id
	}
	return e
}
