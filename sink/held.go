package sink

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow"
)

// heldPart of the memory is for rows that are held for many files.
const heldPart = 4

// leastHeld is what is held at least: with less, files of a few rows would be finished again and again.
const leastHeld = 1 << 20

// heldRatio is what their bytes are expected to shrink to, inverted.
const heldRatio = 4

// held are rows that are not in any file yet, because few of them are for each. They are kept by column, so that sorting them takes a copy of one
// column at a time and not of all.
type held struct {
	schema  *arrow.Schema
	columns [][]arrow.Array // of each column the pieces, copies of what came
	rows    int
	bytes   int64
	ctx     context.Context //nolint:containedctx // of the last Write, which goes on when they are written
}

// add keeps a copy of a batch.
func (h *held) add(ctx context.Context, s *splitter, rb arrow.RecordBatch) error {
	h.ctx = ctx
	if h.columns == nil {
		h.schema, h.columns = rb.Schema(), make([][]arrow.Array, rb.NumCols())
	}
	for i, c := range rb.Columns() {
		kept, err := s.join([]arrow.Array{c}, rb.ColumnName(i))
		if err != nil {
			return err
		}
		h.columns[i] = append(h.columns[i], kept)
		h.bytes += int64(kept.Data().SizeInBytes())
	}
	h.rows += int(rb.NumRows())
	return nil
}

// sorted takes out all rows as one batch, ordered by the splitter's groups.
func (h *held) sorted(s *splitter) (arrow.RecordBatch, error) {
	defer h.drop()
	keys := map[int]arrow.Array{}
	defer func() {
		for _, k := range keys {
			k.Release()
		}
	}()
	s.keyers = s.keyers[:0]
	for _, c := range s.columns {
		key, err := s.join(h.columns[c], h.schema.Field(c).Name)
		if err != nil {
			return nil, err
		}
		keys[c] = key
		h.dropColumn(c)
		if err := s.bindColumn(key, h.schema.Field(c).Name); err != nil {
			return nil, err
		}
	}
	s.findRuns(h.rows)
	s.sort()
	return newColumns(h.schema, h.rows, func(i int) (arrow.Array, error) {
		name := h.schema.Field(i).Name
		if key := keys[i]; key != nil {
			return s.take(h.ctx, key, name)
		}
		all, err := s.join(h.columns[i], name)
		if err != nil {
			return nil, err
		}
		defer all.Release()
		h.dropColumn(i)
		return s.take(h.ctx, all, name)
	})
}

func (h *held) dropColumn(i int) {
	for _, piece := range h.columns[i] {
		piece.Release()
	}
	h.columns[i] = nil
}

func (h *held) drop() {
	for i := range h.columns {
		h.dropColumn(i)
	}
	*h = held{}
}

// hold keeps a copy of a batch whose rows go to many files, a few to each.
func (w *Writer) hold(ctx context.Context, rb arrow.RecordBatch) error {
	if err := w.held.add(ctx, &w.split, rb); err != nil || w.held.bytes < max(w.table.memory()/heldPart, leastHeld) {
		return err
	}
	return w.writeHeld()
}

func (w *Writer) writeHeld() error {
	if w.held.rows == 0 {
		return nil
	}
	ctx := w.held.ctx
	all, err := w.held.sorted(&w.split)
	if err != nil {
		return err
	}
	defer all.Release()
	data := w.layout.fileBatch(all)
	defer data.Release()
	return w.split.eachGroup(data, func(g *group, first int, part arrow.RecordBatch) error {
		return w.writePart(ctx, g.key, all, first, part)
	})
}
