package sink

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"kafkadelta/checkpoint"
)

// Sealed is all that a Writer has written of one unit: it is encoded, and on its way to the store. What it becomes is made by one call, from any
// goroutine, which waits until the store has all files, and leaves nothing behind after an error. When the context is done, it is given up.
type Sealed struct {
	table  *Table
	layout *Layout
	id     string
	files  []*partFile
}

// Seal encodes what is left of the unit, and returns it. The Writer goes on with the next one. After an error it is only good for Abort; an *Error is
// final.
func (w *Writer) Seal() (*Sealed, error) {
	if err := w.sealAll(); err != nil {
		return nil, err
	}
	s := w.all()
	w.reset()
	return s, nil
}

// all is what there is of the unit, open files included.
func (w *Writer) all() *Sealed {
	return &Sealed{table: w.table, layout: w.layout, id: w.unit, files: slices.Concat(w.sealed, slices.Collect(maps.Values(w.open)))}
}

// Unit makes a unit of the files and the spans.
func (s *Sealed) Unit(ctx context.Context, spans []checkpoint.Span) (*Unit, error) {
	return waitFor(ctx, s, func() (*Unit, error) { return s.unit(spans) })
}

// Parcel writes down what the files are, and of which stream. Spans are those of the other table's unit; it is named by them if the files get lost.
// Again, which may be nil, is what GiveUp hands back then, to make the rows again.
func (s *Sealed) Parcel(ctx context.Context, stream string, spans []checkpoint.Span, again json.RawMessage) (*Parcel, error) {
	return waitFor(ctx, s, func() (*Parcel, error) {
		return s.parcel(ctx, &parcelNote{Table: s.layout.table, Stream: stream, Spans: spans, Again: again})
	})
}

// Routed writes down what the files are, of rows of a NewRoutedWriter (rule T1). Spans are those of the catalog's unit that have rows of other tables, with
// as many as this table gets.
func (s *Sealed) Routed(ctx context.Context, table *Layout, from Origin, spans []checkpoint.Span) (*Parcel, error) {
	for i, span := range spans {
		spans[i] = checkpoint.Span{Partition: span.Partition, First: span.First, Next: span.Next, Records: span.Rows, Rows: span.Rows}
	}
	return waitFor(ctx, s, func() (*Parcel, error) {
		return s.parcel(ctx, &parcelNote{Table: table.table, Routed: &routedNote{from, spans}})
	})
}

func waitFor[T any](ctx context.Context, s *Sealed, made func() (T, error)) (T, error) {
	stop := context.AfterFunc(ctx, s.giveUp)
	defer stop()
	t, err := made()
	if err != nil {
		if ctx.Err() != nil { // it was given up for that
			err = ctx.Err()
		}
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTimeout)
		defer cancel()
		s.Abort(cleanup)
	}
	return t, err
}

// discardTimeout bounds the deletion of files that nobody has waited for. What it misses, VACUUM removes.
const discardTimeout = 5 * time.Second

func (s *Sealed) giveUp() {
	for _, f := range s.files {
		if f.put != nil {
			f.put.giveUp()
		}
	}
}

// Abort gives up all files, and deletes those that are there. After one of the other calls it need not be called.
func (s *Sealed) Abort(ctx context.Context) {
	s.giveUp()
	u := &Unit{ID: s.id}
	for _, f := range s.files {
		if err := f.Abort(); err != nil {
			s.table.opts.Log.Debug("giving up a data file", "error", err)
		}
		if f.put == nil {
			continue
		}
		<-f.put.done
		if !f.put.finished.IsZero() {
			u.files = append(u.files, file{})
			u.files[len(u.files)-1].Name = f.name
		}
	}
	s.table.Discard(ctx, []*Unit{u})
}

// wait returns the files once the store has all of them.
func (s *Sealed) wait() ([]file, error) {
	files := make([]file, 0, len(s.files))
	for _, f := range s.files {
		<-f.put.done
		if f.put.err != nil {
			return nil, orFinal(fmt.Errorf("putting data file %s: %w", f.name, f.put.err))
		}
		info, err := f.Close()
		if err != nil {
			return nil, &Error{Op: "finishing a data file", Err: err}
		}
		s.table.opts.Log.Debug("data file ends", "file", info.Name, "rows", info.Rows, "bytes", info.Size)
		files = append(files, file{info, f.values, f.put.finished})
	}
	return files, nil
}

func (s *Sealed) unit(spans []checkpoint.Span) (*Unit, error) {
	files, err := s.wait()
	if err != nil {
		return nil, err
	}
	u := &Unit{ID: s.id, Spans: spans, files: files, layout: s.layout}
	var rows, expected int64
	for _, f := range u.files {
		rows += f.Rows
	}
	for _, s := range spans {
		expected += s.Rows
		if err := s.Validate(); err != nil {
			return nil, &Error{Op: "closing a flush", Err: err}
		}
	}
	if rows != expected {
		return nil, &Error{Op: "closing a flush", Err: fmt.Errorf("the files hold %d rows, but the spans tell %d", rows, expected)}
	}
	return u, nil
}
