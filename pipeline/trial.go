package pipeline

import (
	"errors"
	"log/slog"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/columns"
	"kafkadelta/sink"
)

// Trial makes rows of messages as the table would that follows their schema, and drops them: a message that is poison or filtered all the same is to leave the table as it is. Only messages
// whose schema the table does not have yet come to it. The zero value is ready; it keeps what it has compiled for the last schema.
type Trial struct {
	from *sink.Layout
	want *arrow.Schema
	rows Rows
}

// ErrLeftOut says of a message that the filter leaves it out, so that its schema brings the table nothing either.
var ErrLeftOut = errors.New(columns.FilterPath + " leaves it out")

// maxFollowed bounds the schemas that one message brings: those of its value and its key.
const maxFollowed = 2

// Append tries a message that wants a schema, under the layout that the table gets for it, which goes beyond that of `have`. It returns what hinders the message from becoming a row there,
// which is poison, ErrLeftOut, or that it may become one later; nil where nothing does, or where that can't be told.
func (t *Trial) Append(rec *kgo.Record, have Rows, want *arrow.Schema, table *sink.Table, compile NewDecoder, stream string, log *slog.Logger) error {
	from := have.Layout
	for range maxFollowed {
		if t.from != from || t.want != want {
			next, err := table.Toward(from, want)
			if err != nil || next == from {
				return nil //nolint:nilerr // Evolve tells of it, with the names that the message is told by
			}
			rows, err := CompileRows(next, compile)
			if err != nil { // the configuration fits the table as it is
				return have.unfit(rec, Misfit{columnsPath, reasonMismatch, "it does not fit the table that follows the message: " + err.Error()})
			}
			*t = Trial{from, want, rows}
		}
		err := t.rows.Append(rec, stream, log)
		next, more := errors.AsType[evolve](err)
		switch {
		case more:
			from, want = t.rows.Layout, next.Wanted()
			continue
		case err != nil:
			return err
		}
		rb, kept, misfits := t.rows.Take()
		if misfit, bad := misfits[0]; bad {
			return t.rows.unfit(rec, misfit)
		}
		rb.Release()
		if kept != nil && len(kept) == 0 {
			return ErrLeftOut
		}
		return nil
	}
	return nil
}
