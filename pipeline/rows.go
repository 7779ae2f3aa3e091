package pipeline

import (
	"iter"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/columns"
	"kafkadelta/sink"
)

// Reasons of messages that a decoder has taken and that can't become rows all the same. The words are stable.
const (
	reasonRejected   = "rejected_by_table"
	reasonExpression = "expression_failed"
	reasonMismatch   = "type_mismatch" // as decoders say of what a column does not take
)

// columnsPath stands in the place of a column where the configured ones as a whole don't fit.
const columnsPath = "table.columns"

// Rows makes rows of a table out of what a decoder has taken: columns are computed, the filter is applied, and then the table's rules.
type Rows struct {
	Decoder Decoder
	Columns *columns.Plan // nil: decoders fill the table's columns
	Layout  *sink.Layout
}

// NewDecoder compiles a decoder for a layout of the table, and what makes the table's columns out of those that it fills: nil where they are
// the same.
type NewDecoder func(layout *sink.Layout) (Decoder, *columns.Plan, error)

// CompileRows compiles what makes rows under a layout. A configuration that does not fit the table is a *sink.Error.
func CompileRows(layout *sink.Layout, compile NewDecoder) (Rows, error) {
	decoder, made, err := compile(layout)
	if err != nil {
		return Rows{}, &sink.Error{Op: "fitting the configured columns to the table", Err: err}
	}
	return Rows{decoder, made, layout}, nil
}

// Misfit is why one of the decoder's rows can't become a row of the table.
type Misfit struct {
	Path   string // column, or columns, or the filter
	Reason string // a stable word
	Detail string
}

// Take takes the decoder's rows. kept are those that the filter has kept, ascending; nil: all. Where some can't become rows of the table, misfits
// has them by their number among the decoder's, and there is no batch. The caller releases the batch.
func (r Rows) Take() (rows arrow.RecordBatch, kept []int, misfits map[int]Misfit) {
	decoded := r.Decoder.NewBatch()
	defer decoded.Release()
	made, kept, failed := r.Columns.Apply(decoded)
	if len(failed) > 0 {
		misfits = make(map[int]Misfit, len(failed))
		for _, f := range failed {
			misfits[f.Row] = Misfit{f.Path, reasonExpression, f.Reason}
		}
		return nil, nil, misfits
	}
	defer made.Release()
	rows, bad := r.Layout.Rules.Apply(made)
	for _, v := range bad {
		row := v.Row
		if kept != nil {
			row = kept[row]
		}
		if misfits == nil {
			misfits = make(map[int]Misfit, len(bad))
		}
		misfits[row] = Misfit{v.Path, reasonRejected, v.Reason}
	}
	return rows, kept, misfits
}

// LeftOut are the rows of n that are not among those that Take says were kept.
func LeftOut(kept []int, n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		if kept == nil {
			return
		}
		for row := range n {
			if len(kept) > 0 && kept[0] == row {
				kept = kept[1:]
			} else if !yield(row) {
				return
			}
		}
	}
}

// unfit says that a message which the decoder has taken can't become a row.
func (r Rows) unfit(rec *kgo.Record, m Misfit) error {
	e := &misfitError{rec.Topic, rec.Partition, rec.Offset, "", m}
	if d, ok := r.Decoder.(interface{ WrittenBy(*kgo.Record) string }); ok {
		e.schema = d.WrittenBy(rec)
	}
	return e
}

// misfitError is a message that was decoded and can't become a row: poison too.
type misfitError struct {
	topic     string
	partition int32
	offset    int64
	schema    string // that it was written with; empty where there is none, or only one
	Misfit
}

func (e *misfitError) Error() string {
	schema := ""
	if e.schema != "" {
		schema = " (" + e.schema + ")"
	}
	return e.topic + "[" + strconv.Itoa(int(e.partition)) + "] offset " + strconv.FormatInt(e.offset, 10) + schema + ": " + e.Misfit.String()
}

func (m Misfit) String() string {
	if m.Path == columns.FilterPath || m.Path == routingPath || m.Path == columnsPath { // no column
		return m.Path + ": " + m.Detail
	}
	return "column " + m.Path + ": " + m.Detail
}

// Poison tells the column and the reason.
func (e *misfitError) Poison() (path, reason string) { return e.Path, e.Misfit.Reason }

// Found tells what is wrong with the row.
func (e *misfitError) Found() string { return e.Detail }

// WrittenBy tells the schema that the message was written with.
func (e *misfitError) WrittenBy() string { return e.schema }
