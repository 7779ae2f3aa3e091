package sink

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"golang.org/x/sync/errgroup"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink/datafile"
)

// DefaultMemory is what the open data files of one Writer may take together where Options.Memory says nothing, in bytes. Past it the
// largest is finished, so that many partition values cost more files but never unbounded memory.
const DefaultMemory = datafile.DefaultMemory

// extensions end the names of data files, by compression, as Spark spells them.
var extensions = map[string]string{"zstd": "zstd.parquet", "snappy": "snappy.parquet", "none": "parquet"}

// Writer writes the data files of one unit after the other, for one lane: one open file per combination of partition
// values. It belongs to one goroutine.
type Writer struct {
	table  *Table
	layout *Layout
	split  splitter

	newID  func() string
	unit   string // id of the unit being written
	number int    // of its next file
	open   map[string]*partFile
	held   held
	memory int64 // that the open files take
	done   []file
	bytes  int64 // of finished files
}

func (t *Table) memory() int64 {
	if t.opts.Memory != nil {
		return t.opts.Memory()
	}
	return DefaultMemory
}

// OpenMemory is what the open files of one lane may take together, in bytes.
func (t *Table) OpenMemory() int64 { return max(t.memory()/heldPart*(heldPart-1), leastOpenMemory) }

// leastOpenMemory is what open files have at least: with less, files of a few rows would be finished again and again.
const leastOpenMemory = 8 << 20

// partFile is the open data file of one combination of partition values.
type partFile struct {
	*datafile.File
	key    string
	values map[string]*string
	memory int64 // that it took when it was last looked at
}

// NewWriter returns a writer for the layout. Nothing is opened before the first row.
func (t *Table) NewWriter(layout *Layout) *Writer {
	return &Writer{table: t, layout: layout, split: layoutSplitter(layout), newID: newUnitID, unit: newUnitID(), open: map[string]*partFile{}}
}

// Write appends a batch with the layout's schema. The batch's buffers may be reused when Write returns. After an error
// the Writer is only good for Abort; an *Error is final.
func (w *Writer) Write(ctx context.Context, rb arrow.RecordBatch) error {
	if rb.NumRows() == 0 {
		return nil
	}
	return orFinal(w.write(ctx, rb))
}

// orFinal marks an error that trying again cannot mend.
func orFinal(err error) error {
	if err == nil {
		return nil
	}
	if final := finalError("writing data files", err); final != nil {
		return final
	}
	return err
}

func (w *Writer) write(ctx context.Context, rb arrow.RecordBatch) error {
	if len(w.layout.files.Partitions) == 0 {
		f, err := w.file(ctx, nil, rb, 0)
		if err != nil {
			return err
		}
		data := w.layout.fileBatch(rb)
		defer data.Release()
		return w.add(f, data)
	}
	if err := w.split.look(rb); err != nil {
		return err
	}
	if w.split.scattered() {
		return w.hold(ctx, rb)
	}
	return w.divide(ctx, rb)
}

// divide writes a batch that was looked at.
func (w *Writer) divide(ctx context.Context, rb arrow.RecordBatch) error {
	data := w.layout.fileBatch(rb)
	defer data.Release()
	return w.split.each(ctx, data, func(key []byte, row int, part arrow.RecordBatch) error { return w.writePart(ctx, key, rb, row, part) })
}

// writePart writes rows of equal partition values, which the given row of rb has.
func (w *Writer) writePart(ctx context.Context, key []byte, rb arrow.RecordBatch, row int, part arrow.RecordBatch) error {
	f, err := w.file(ctx, key, rb, row)
	if err != nil {
		return err
	}
	part = w.layout.asInLog(part, f.values)
	defer part.Release()
	return w.add(f, part)
}

// add writes rows to one of the open files, and makes room where they take too much memory together.
func (w *Writer) add(f *partFile, rows arrow.RecordBatch) error {
	before := f.memory
	err := f.Write(rows)
	f.memory = f.Memory()
	w.memory += f.memory - before
	if most := w.table.OpenMemory(); err == nil && len(w.open) > 1 && w.memory > most {
		err = w.makeRoom(most / 4 * 3)
	}
	return err
}

// makeRoom finishes the largest files, until the open ones take no more than that, or as many as are put at a time.
func (w *Writer) makeRoom(most int64) error {
	files := slices.SortedFunc(maps.Values(w.open), func(a, b *partFile) int {
		return cmp.Or(cmp.Compare(b.memory, a.memory), cmp.Compare(a.key, b.key))
	})
	n, left := 0, w.memory
	for n < min(putting, len(files)-1) && left > most {
		left -= files[n].memory
		n++
	}
	return w.finish(files[:n])
}

// file returns the open file for the partition values of the given row, whose key is `key`.
func (w *Writer) file(ctx context.Context, key []byte, rb arrow.RecordBatch, row int) (*partFile, error) {
	if f, ok := w.open[string(key)]; ok { // this form of lookup does not copy the key
		return f, nil
	}
	var folder strings.Builder
	values := map[string]*string{}
	for _, p := range w.layout.files.Partitions {
		value, null := delta.PartitionValue(rb.Column(p.Column), row)
		if null {
			values[p.Physical] = nil
		} else {
			values[p.Physical] = &value
		}
		if w.layout.files.RandomPrefix == 0 {
			folder.WriteString(delta.PartitionFolder(p.Physical, value, null) + "/")
		}
	}
	if n := w.layout.files.RandomPrefix; n > 0 {
		folder.WriteString(randomText(n) + "/")
	}
	name := fmt.Sprintf("%spart-%05d-%s.c000.%s", folder.String(), w.number, w.unit, extensions[w.table.cfg.Parquet.Compression])
	w.number++
	w.table.opts.Log.Debug("data file begins", "file", name)
	df, err := datafile.New(ctx, w.table.store, name, w.layout.files.Schema, datafile.Options{
		Config: w.table.cfg.Parquet, Stats: w.layout.files.Stats, TightBounds: w.layout.files.TightBounds, Engine: w.table.opts.Engine, Memory: w.table.memory(),
	})
	if err != nil {
		return nil, fmt.Errorf("opening data file %s: %w", name, err)
	}
	f := &partFile{File: df, key: string(key), values: values}
	w.open[f.key] = f
	return f, nil
}

// putting is how many files of one Writer are put, or deleted, at a time: a cloud takes some ten milliseconds for each, however small it is.
const putting = 16

// finish encodes the rest of open files one after the other, and meanwhile puts those that are encoded. After an error some of the files may
// still be open; what was put is in done, for Abort to delete.
func (w *Writer) finish(files []*partFile) error {
	finished := make([]*file, len(files))
	var puts errgroup.Group
	puts.SetLimit(putting)
	var failed atomic.Bool
	for i, f := range files {
		if failed.Load() {
			break
		}
		delete(w.open, f.key)
		w.memory -= f.memory
		err := f.Seal()
		puts.Go(func() error {
			var info datafile.Info
			if err == nil {
				info, err = f.Close()
			}
			if err != nil {
				failed.Store(true)
				_ = f.Abort() // the error says more
				return fmt.Errorf("finishing a data file: %w", err)
			}
			w.table.opts.Log.Debug("data file ends", "file", info.Name, "rows", info.Rows, "bytes", info.Size)
			finished[i] = &file{info, f.values, w.table.opts.Now()}
			return nil
		})
	}
	err := puts.Wait()
	for _, f := range finished {
		if f != nil {
			w.done = append(w.done, *f)
			w.bytes += f.Size
		}
	}
	return err
}

// Relayout goes on under another layout, which what was written before must fit (Layout.Fits): it stays part of the unit. After an error the
// Writer is only good for Abort; an *Error is final.
func (w *Writer) Relayout(next *Layout) error {
	if !w.layout.equal(next) {
		if err := w.finishAll(); err != nil {
			return err
		}
		w.split = layoutSplitter(next)
	}
	w.layout = next
	return nil
}

// Memory is what open files, and rows that are held for them, take, in bytes.
func (w *Writer) Memory() int64 { return w.memory + w.held.bytes }

// Bytes is the Parquet output so far, in bytes, of what is open an estimate.
func (w *Writer) Bytes() int64 {
	n := w.bytes + w.held.bytes/heldRatio
	for _, f := range w.open {
		n += f.Bytes()
	}
	return n
}

// Finish closes all files and returns the unit that they and the spans make. The Writer goes on with the next unit.
// After an error it is only good for Abort; an *Error is final.
func (w *Writer) Finish(spans []checkpoint.Span) (*Unit, error) {
	if err := w.finishAll(); err != nil {
		return nil, err
	}
	u := &Unit{ID: w.unit, Spans: spans, files: w.done, layout: w.layout}
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
	w.reset()
	return u, nil
}

func (w *Writer) finishAll() error {
	if err := w.writeHeld(); err != nil {
		return orFinal(err)
	}
	return orFinal(w.finish(slices.SortedFunc(maps.Values(w.open), func(a, b *partFile) int { return cmp.Compare(a.key, b.key) })))
}

// Abort gives up what was written since the last Finish. The Writer can be used again.
func (w *Writer) Abort(ctx context.Context) {
	for _, f := range w.open {
		if err := f.Abort(); err != nil {
			w.table.opts.Log.Debug("giving up a data file", "error", err)
		}
	}
	w.table.Discard(ctx, []*Unit{{ID: w.unit, files: w.done}})
	w.reset()
}

func (w *Writer) reset() {
	w.held.drop()
	w.unit, w.number, w.done, w.bytes, w.memory = w.newID(), 0, nil, 0, 0
	clear(w.open)
}

// randomText is a name of letters and digits, as Spark's random folders have.
func randomText(n int) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[rand.IntN(len(alphabet))]
	}
	return string(b)
}
