package pipeline

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/columns"
	"kafkadelta/sink"
)

// Reasons of messages that a decoder has taken and that can't become rows all the same. The words are stable.
const (
	reasonRejected   = "rejected_by_table"
	reasonExpression = "expression_failed"
)

// Rows makes rows of a table out of what a decoder has taken: columns are computed, the filter is applied, and then the table's rules.
type Rows struct {
	Decoder Decoder
	Columns *columns.Plan // nil: decoders fill the table's columns
	Layout  *sink.Layout
}

// CompileRows compiles what makes rows under a layout. newColumns may be nil.
func CompileRows(layout *sink.Layout, newDecoder func(*sink.Layout) (Decoder, error), newColumns func(*sink.Layout) (*columns.Plan, error)) (Rows, error) {
	rows := Rows{Layout: layout}
	var err error
	if rows.Decoder, err = newDecoder(layout); err == nil && newColumns != nil {
		rows.Columns, err = newColumns(layout)
	}
	return rows, err
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

// of says it of a message.
func (m Misfit) of(r *kgo.Record) error {
	return &misfitError{r.Topic, r.Partition, r.Offset, m}
}

// misfitError is a message that was decoded and can't become a row: poison too.
type misfitError struct {
	topic     string
	partition int32
	offset    int64
	Misfit
}

func (e *misfitError) Error() string {
	return fmt.Sprintf("%s[%d] offset %d: %v", e.topic, e.partition, e.offset, e.Misfit)
}

func (m Misfit) String() string {
	if m.Path == columns.FilterPath {
		return m.Path + ": " + m.Detail
	}
	return fmt.Sprintf("column %s: %s", m.Path, m.Detail)
}

// Poison tells the column and the reason.
func (e *misfitError) Poison() (path, reason string) { return e.Path, e.Misfit.Reason }
