package avro

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
)

// Framing tells which schema a message was written with, and where its datum begins. A *decode.FramingError makes the message poison;
// any other error is handed on, such as a *decode.RetryLaterError while a registry does not answer.
type Framing func(value []byte) (schema *Schema, begin int, err error)

// Options of a decoder.
type Options struct {
	Framing Framing
	// Reader is a schema whose aliases name columns, and whose defaults fill them, where a writer's schema has no such field.
	// It may be nil.
	Reader *Schema
}

// Decoder turns Avro messages into batches of a table. One goroutine uses it.
type Decoder struct {
	plan     *decode.Plan
	rows     *decode.Rows
	opts     Options
	programs map[*Schema]*compiled
	last     *compiled

	in      []byte // the message
	items   int    // that arrays and maps of the message may still have
	depth   int    // of what is being skipped
	found   []int  // where the values of looked-up keys are
	keys    decode.KeySet
	problem problem
	all     []*decode.Builder // of computed columns
}

// compiled is what became of one writer's schema.
type compiled struct {
	schema  *Schema
	program *program
	err     *mismatch // why there is no program
}

// maxPrograms bounds the schemas that are remembered; more only cost time.
const maxPrograms = 1000

// New returns a decoder for the plan's table.
func New(plan *decode.Plan, o Options) *Decoder {
	d := &Decoder{plan: plan, rows: plan.NewRows(), opts: o, programs: map[*Schema]*compiled{}, last: &compiled{}}
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
// *decode.PoisonError when the message can never be one, and a *decode.RetryLaterError when the batch has no room for
// it, or its schema can't be had now; both leave the rows as they were. It keeps no reference to the record.
func (d *Decoder) Append(rec *kgo.Record) error {
	if len(rec.Value) == 0 {
		reason, detail := decode.ReasonEmpty, "the record's value has no bytes"
		if rec.Value == nil {
			reason, detail = decode.ReasonTombstone, "the record has no value"
		}
		return d.poison(rec, nil, problem{reason: reason, detail: detail})
	}
	schema, begin, err := d.opts.Framing(rec.Value)
	if err != nil {
		if e, ok := err.(*decode.FramingError); ok { //nolint:errorlint // never wrapped
			return d.poison(rec, nil, problem{reason: e.Reason, detail: e.Detail})
		}
		return err
	}
	c := d.last
	if c.schema != schema {
		if c, err = d.programOf(schema); err != nil {
			return err
		}
	}
	if c.err != nil {
		return d.poison(rec, schema, problem{reason: decode.ReasonTypeMismatch, path: c.err.path, detail: c.err.detail})
	}
	d.rows.Growth = c.program.growth
	if err := d.rows.Begin(rec); err != nil {
		return err
	}
	d.in, d.items, d.depth = rec.Value, len(rec.Value), 0
	end := d.value(&c.program.root, begin)
	if end >= 0 && end != len(d.in) {
		end = d.fail(decode.ReasonTrailingData, end, "%d bytes follow behind the datum: is it of another schema?", len(d.in)-end)
	}
	d.in = nil
	if end < 0 {
		d.rows.Rollback()
		p := d.problem
		d.problem = problem{}
		return d.poison(rec, schema, p)
	}
	for _, b := range d.all {
		if b.Len == d.rows.Len() {
			b.AppendAbsent()
		}
	}
	d.rows.Commit(rec)
	return nil
}

func (d *Decoder) programOf(schema *Schema) (*compiled, error) {
	c := d.programs[schema]
	if c == nil {
		c = &compiled{schema: schema}
		program, err := d.compile(schema, d.opts.Reader)
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
		d.programs[schema] = c
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

// failed is the position that decoding functions return when they could not go on; the decoder's problem says why.
const failed = -1

// problem is why a message is poison.
type problem struct {
	reason, path, detail string
	located              bool // path is set
}

// fail notes the reason and returns failed. p is where, for the detail.
func (d *Decoder) fail(reason string, p int, format string, args ...any) int {
	d.problem = problem{reason: reason, detail: fmt.Sprintf(format, args...) + fmt.Sprintf(" (byte %d)", p)}
	return failed
}

// truncated fails because the message ends within a value.
func (d *Decoder) truncated(p int) int {
	return d.fail(decode.ReasonInvalidAvro, p, "the message of %d bytes ends within a value, or is of another schema", len(d.in))
}

// within notes the path of the innermost field in which a problem arose, and returns failed.
func (d *Decoder) within(path string) int {
	if !d.problem.located && path != "" {
		d.problem.path, d.problem.located = path, true
	}
	return failed
}

func (d *Decoder) poison(rec *kgo.Record, schema *Schema, p problem) error {
	e := &decode.PoisonError{Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset, Path: p.path, Reason: p.reason, Detail: p.detail}
	if schema != nil {
		e.Schema = schema.id
	}
	return e
}
