package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/columns"
	"kafkadelta/decode"
	"kafkadelta/decode/json"
	"kafkadelta/delta"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
)

// Bounds of one Arrow batch, as in the pipeline: small enough for the cache, large enough to amortise the calls.
const (
	rowsOfBatch  = 8192
	bytesOfBatch = 4 << 20 // of messages
)

// rowError is a message of an input that can't become a row.
type rowError struct {
	file, at             string
	path, reason, detail string
	remedy               string // "": by the reason
}

func (e *rowError) Error() string {
	remedy := e.remedy
	if remedy == "" {
		remedy = e.byReason()
	}
	return fmt.Sprintf("%s, %s: %s%s: %s; nothing was appended: %s", e.file, e.at, column(e.path), e.reason, e.detail, remedy)
}

// byReason is what the user can do about it.
// column names a column before what is said of it.
func column(path string) string {
	if path == "" {
		return ""
	}
	return "column " + path + ": "
}

func (e *rowError) byReason() string {
	switch e.reason {
	case decode.ReasonInvalidJSON, decode.ReasonTrailingData, decode.ReasonEmpty:
		return "write one JSON object on each line, as `jq -c .` does"
	case decode.ReasonInvalidUTF8:
		return "convert the input to UTF-8"
	case decode.ReasonTooDeep, decode.ReasonTooLarge:
		return "leave the message out"
	case reasonRejected:
		return "mend the value, or change the table's rule"
	}
	if e.path == "" {
		return "write one JSON object on each line, as `jq -c .` does"
	}
	return "mend the value, or give the column a type that takes it (docs/json.md)"
}

// reasonRejected is a row that the table's own rules reject, as in the pipeline.
const reasonRejected = "rejected_by_table"

// inputError is an error of reading the input: of the file, or of one message in it.
func inputError(file string, err error) error {
	if long, ok := errors.AsType[*tooLongError](err); ok {
		return &rowError{file: file, at: long.at(), reason: decode.ReasonTooLarge, detail: fmt.Sprintf("longer than %d bytes", maxMessage)}
	}
	return &configError{fmt.Errorf("--input: reading %s: %w", file, err)}
}

// rowReader turns messages into batches of the table's schema.
type rowReader struct {
	in      *inputFile
	layout  *sink.Layout
	made    *columns.Plan
	decoder pipeline.Decoder
	write   func(arrow.RecordBatch) error
	log     *slog.Logger

	held  []message // of the rows in the decoder, without their text
	bytes int
}

// readRows decodes the input from its beginning and hands over batches of rows that keep the table's rules. A batch is
// only good until write returns. The first message that can't become a row ends it with a *rowError, one at which the decoder, a computed column or a rule of the
// table panics with a *pipeline.ContainedError, whose stack the log gets.
func readRows(ctx context.Context, in *inputFile, layout *sink.Layout, log *slog.Logger, write func(arrow.RecordBatch) error) error {
	r, err := newRowReader(in, layout, log, write)
	if err != nil {
		return err
	}
	return r.read(ctx)
}

func newRowReader(in *inputFile, layout *sink.Layout, log *slog.Logger, write func(arrow.RecordBatch) error) (*rowReader, error) {
	off := false // a column _kafka is filled from the message like any other
	made, err := columns.New(layout.Schema, decode.Config{Metadata: decode.MetadataConfig{Enabled: &off}}, nil, true)
	if err != nil {
		return nil, &sink.Error{Op: "fitting messages to the table", Err: err}
	}
	plan, err := newPlan(made.Schema(), made.Config(), layout, made)
	if err != nil {
		return nil, &sink.Error{Op: "fitting messages to the table", Err: err}
	}
	return &rowReader{in: in, layout: layout, made: made, decoder: json.New(plan), write: write, log: log}, nil
}

func (r *rowReader) read(ctx context.Context) error {
	for m, err := range r.in.messages() {
		if err != nil {
			return inputError(r.in.name, err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.take(m); err != nil {
			return err
		}
	}
	return r.flush()
}

func (r *rowReader) take(m message) error {
	record := &kgo.Record{Value: m.text}
	err := pipeline.Contain(r.decoder, record)
	if _, full := errors.AsType[*decode.RetryLaterError](err); full {
		if err := r.flush(); err != nil {
			return err
		}
		err = pipeline.Contain(r.decoder, record)
	}
	if poison, ok := errors.AsType[*decode.PoisonError](err); ok {
		if err := r.flush(); err != nil { // a row before it that the table rejects comes first
			return err
		}
		return &rowError{file: r.in.name, at: m.at(), path: poison.Path, reason: poison.Reason, detail: poison.Detail}
	}
	if panicked, ok := errors.AsType[*pipeline.ContainedError](err); ok {
		return r.panicked(panicked, m.at())
	}
	if err != nil {
		return err
	}
	r.bytes += len(m.text)
	m.text = nil
	r.held = append(r.held, m)
	if len(r.held) >= rowsOfBatch || r.bytes >= bytesOfBatch {
		return r.flush()
	}
	return nil
}

// flush hands over the rows in the decoder, unless the table's rules reject one.
func (r *rowReader) flush() error {
	if len(r.held) == 0 {
		return nil
	}
	rb, err := r.rows()
	if panicked, ok := errors.AsType[*pipeline.ContainedError](err); ok {
		at := r.held[0].at()
		if last := r.held[len(r.held)-1].at(); last != at {
			at += " to " + last
		}
		return r.panicked(panicked, at)
	}
	if err != nil {
		return err
	}
	defer rb.Release()
	r.held, r.bytes = r.held[:0], 0
	return r.write(rb)
}

// rows are those in the decoder, with the columns that are computed, as the table's rules take them.
func (r *rowReader) rows() (rows arrow.RecordBatch, err error) {
	defer pipeline.Contained("computing columns and checking the table's rules", &err)
	decoded := r.decoder.NewBatch()
	defer decoded.Release()
	rb, _, failed := r.made.Apply(decoded)
	if len(failed) > 0 {
		f := failed[0]
		return nil, &rowError{file: r.in.name, at: r.held[f.Row].at(), path: f.Path, reason: decode.ReasonInvalidValue, detail: f.Reason}
	}
	defer rb.Release()
	checked, bad := r.layout.Rules.Apply(rb)
	if len(bad) > 0 {
		v := bad[0]
		return nil, &rowError{file: r.in.name, at: r.held[v.Row].at(), path: v.Path, reason: reasonRejected, detail: v.Reason + valuesOf(rb, v)}
	}
	return checked, nil
}

// panicked logs the stack of a panic, and says at which messages it was.
func (r *rowReader) panicked(e *pipeline.ContainedError, at string) error {
	e.Log(r.log, "input", r.in.name, "message", at)
	return fmt.Errorf("%s, %s: %w; nothing was appended", r.in.name, at, e)
}

// valuesOf shows the values of the columns that the violation names.
func valuesOf(rb arrow.RecordBatch, v delta.Violation) string {
	var values []string
	for path := range strings.SplitSeq(v.Path, ", ") {
		name, _, _ := strings.Cut(path, ".")
		at := rb.Schema().FieldIndices(name)
		if len(at) == 0 {
			continue
		}
		value := "null"
		if column := rb.Column(at[0]); !column.IsNull(v.Row) {
			value = shorten(column.ValueStr(v.Row))
		}
		values = append(values, name+" = "+value)
	}
	if values == nil {
		return ""
	}
	return " (" + strings.Join(values, ", ") + ")"
}
