package decode

import (
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Mismatch is why a schema does not fit the table: every message that was written with it is poison.
type Mismatch struct {
	Path, Detail string
	Others       []*Mismatch // what does not fit besides; none of them has others
}

func (e *Mismatch) Error() string {
	if e.Path == "" {
		return e.Detail
	}
	return e.Path + ": " + e.Detail
}

// Misfits gathers mismatches while a schema is compiled, so that it tells of all of them and not of the first alone.
type Misfits struct{ first *Mismatch }

// Add keeps a *Mismatch, and returns any other error.
func (m *Misfits) Add(err error) error {
	e, ok := err.(*Mismatch) //nolint:errorlint // never wrapped
	switch {
	case !ok:
		return err
	case m.first == nil:
		m.first = e
	default:
		m.first.Others = append(append(m.first.Others, e), e.Others...)
		e.Others = nil
	}
	return nil
}

// Err is the first *Mismatch, with the others; nil for none.
func (m *Misfits) Err() error {
	if m.first == nil {
		return nil
	}
	return m.first
}

// Problem is why a message is poison, as a decoder finds it on the way.
type Problem struct {
	Reason, Path, Detail string
	located              bool // Path is set
}

// Set notes the reason. The path comes from the inside out: see Within.
func (p *Problem) Set(reason, format string, args ...any) {
	p.SetText(reason, fmt.Sprintf(format, args...))
}

// SetText is Set without a format, for what a storm of bad messages ends with.
func (p *Problem) SetText(reason, detail string) { *p = Problem{Reason: reason, Detail: detail} }

// Within notes the path of the innermost field in which the problem arose.
func (p *Problem) Within(path string) {
	if !p.located && path != "" {
		p.Path, p.located = path, true
	}
}

// Shell is what the decoders have in common whose messages are read by the schema that they were written with, W. What is compiled
// from a schema and the table, P, is kept.
type Shell[W comparable, P any] struct {
	Plan    *Plan
	Batch   *Rows
	Keys    KeySet
	Problem Problem // why Row has returned false

	// Frame tells what a message was written with, and where its own bytes begin. A *FramingError makes it poison.
	Frame func(rec *kgo.Record) (written W, begin int, err error)
	// Name is by which errors name what a message was written with.
	Name func(W) string
	// Compile also tells how many bytes of a column one byte of a message can become. A *Mismatch makes its messages poison.
	Compile func(W) (program P, growth int, err error)
	// Wanted is the schema of a table that takes all of such a message; nil where there is none to follow.
	Wanted func(W) (*arrow.Schema, error)
	// Row decodes the message into one row of the batch. False: Problem says why not, and what was appended is taken back.
	Row func(program P, value []byte, begin int) bool

	programs map[W]*compiled[W, P]
	last     *compiled[W, P]
	computed []*Builder
}

type compiled[W comparable, P any] struct {
	written W
	program P
	growth  int
	misfit  *Mismatch    // why there is no program
	evolve  *EvolveError // why there is none for this table
}

// maxPrograms bounds the schemas that are remembered; more only cost time.
const maxPrograms = 1000

// NewShell returns the shell of a decoder for the plan's table, whose functions are to be set.
func NewShell[W comparable, P any](plan *Plan) Shell[W, P] {
	s := Shell[W, P]{Plan: plan, Batch: plan.NewRows(), programs: map[W]*compiled[W, P]{}, last: &compiled[W, P]{}}
	s.addComputed(plan.Root())
	return s
}

func (s *Shell[W, P]) addComputed(n *Node) {
	for _, c := range n.Computed {
		s.computed = append(s.computed, s.Batch.Columns[c.Column])
	}
	for _, f := range n.Fields {
		s.addComputed(f)
	}
}

// Append decodes one record's value into a row. It returns nil when exactly one more row is held, a
// *PoisonError when the message can never be one, and an error that asks to try again when the batch has no room for
// it, or its schema can't be had now; both leave the rows as they were. It keeps no reference to the record.
func (s *Shell[W, P]) Append(rec *kgo.Record) error {
	if rec.Value == nil {
		return poison(rec, "", Problem{Reason: ReasonTombstone, Detail: "the record has no value"})
	}
	written, begin, err := s.Frame(rec)
	if err != nil {
		if e, ok := errors.AsType[*FramingError](err); ok {
			return poison(rec, e.Schema, Problem{Reason: e.Reason, Detail: e.Detail})
		}
		return err
	}
	c := s.last
	if c.written != written {
		if c, err = s.programOf(written); err != nil {
			return err
		}
	}
	if c.misfit != nil {
		return poison(rec, s.Name(written), Problem{Reason: ReasonTypeMismatch, Path: c.misfit.Path, Detail: c.misfit.Detail})
	}
	s.Batch.Growth = c.growth
	if err := s.Batch.Begin(rec); err != nil {
		return WrittenWith(err, s.Name(written))
	}
	if !s.Row(c.program, rec.Value, begin) {
		s.Batch.Rollback()
		p := s.Problem
		s.Problem = Problem{}
		return poison(rec, s.Name(written), p)
	}
	for _, b := range s.computed {
		if b.Len == s.Batch.Len() {
			b.AppendAbsent()
		}
	}
	s.Batch.Commit(rec)
	return nil
}

func (s *Shell[W, P]) programOf(written W) (*compiled[W, P], error) {
	c := s.programs[written]
	if c == nil {
		c = &compiled[W, P]{written: written}
		err := s.follow(written)
		if err == nil {
			c.program, c.growth, err = s.Compile(written)
		}
		switch e := err.(type) { //nolint:errorlint // never wrapped
		case nil:
		case *Mismatch:
			c.misfit = e
		case *EvolveError:
			c.evolve = e
		default:
			return nil, err
		}
		if len(s.programs) >= maxPrograms {
			clear(s.programs)
		}
		s.programs[written] = c
	}
	if c.evolve != nil {
		return nil, c.evolve
	}
	s.last = c
	return c, nil
}

// WrittenBy tells the schema of a message that Append has taken; "" where there is only one.
func (s *Shell[W, P]) WrittenBy(rec *kgo.Record) string {
	written, _, err := s.Frame(rec)
	if err != nil {
		return ""
	}
	return s.Name(written)
}

// Builders are the rows that are held.
func (s *Shell[W, P]) Builders() *Rows { return s.Batch }

// follow is an *EvolveError where the table is to follow the schema first, and a *Mismatch where it can't.
func (s *Shell[W, P]) follow(written W) error {
	if s.Plan.Follow == nil || s.Wanted == nil {
		return nil
	}
	want, err := s.Wanted(written)
	if err != nil {
		return &Mismatch{Detail: err.Error()}
	}
	return s.Plan.CheckFollow(s.Name(written), want)
}

// Rows is the number of rows since the last NewBatch or Reset.
func (s *Shell[W, P]) Rows() int { return s.Batch.Len() }

// Bytes is the size of those rows in memory.
func (s *Shell[W, P]) Bytes() int { return s.Batch.Bytes() }

// NewBatch returns the rows as a batch of exactly the table's schema and starts a new one. The batch's buffers are the
// decoder's: release it before the next Append, or the decoder has to allocate new ones.
func (s *Shell[W, P]) NewBatch() arrow.RecordBatch {
	s.Keys.Shrink()
	return s.Batch.NewBatch()
}

// Reset drops the rows.
func (s *Shell[W, P]) Reset() {
	s.Keys.Shrink()
	s.Batch.Reset()
}

func poison(rec *kgo.Record, schema string, p Problem) error {
	return &PoisonError{Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset, Schema: schema, Path: p.Path, Reason: p.Reason, Detail: p.Detail}
}
