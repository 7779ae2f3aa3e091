package sink

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink/datafile"
)

// maxOpenFiles bounds the data files that one Writer holds open. Past it the largest is finished, so that many partition
// values cost more files but never unbounded memory.
const maxOpenFiles = 256

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
	done   []file
	bytes  int64 // of finished files
}

// partFile is the open data file of one combination of partition values.
type partFile struct {
	*datafile.File
	values map[string]*string
}

// NewWriter returns a writer for the layout. Nothing is opened before the first row.
func (t *Table) NewWriter(layout *Layout) *Writer {
	return &Writer{table: t, layout: layout, split: newSplitter(layout), newID: newUnitID, unit: newUnitID(), open: map[string]*partFile{}}
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
	data := w.layout.fileBatch(rb)
	defer data.Release()
	if len(w.layout.files.Partitions) == 0 {
		f, err := w.file(ctx, nil, rb, 0)
		if err != nil {
			return err
		}
		return f.Write(data)
	}
	return w.split.each(ctx, rb, data, func(key []byte, row int, part arrow.RecordBatch) error {
		f, err := w.file(ctx, key, rb, row)
		if err != nil {
			return err
		}
		part = w.layout.asInLog(part, f.values)
		defer part.Release()
		return f.Write(part)
	})
}

// file returns the open file for the partition values of the given row, whose key is `key`.
func (w *Writer) file(ctx context.Context, key []byte, rb arrow.RecordBatch, row int) (*partFile, error) {
	if f, ok := w.open[string(key)]; ok { // this form of lookup does not copy the key
		return f, nil
	}
	if len(w.open) >= maxOpenFiles {
		if err := w.finishLargest(); err != nil {
			return nil, err
		}
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
		Config: w.table.cfg.Parquet, Stats: w.layout.files.Stats, TightBounds: w.layout.files.TightBounds, Engine: w.table.opts.Engine, Share: w.table.opts.Share,
	})
	if err != nil {
		return nil, fmt.Errorf("opening data file %s: %w", name, err)
	}
	f := &partFile{File: df, values: values}
	w.open[string(key)] = f
	return f, nil
}

func (w *Writer) finishLargest() error {
	var largest string
	size := int64(-1)
	for key, f := range w.open {
		if n := f.Bytes(); n > size {
			largest, size = key, n
		}
	}
	return w.finish(largest)
}

func (w *Writer) finish(key string) error {
	f := w.open[key]
	delete(w.open, key)
	info, err := f.Close()
	if err != nil {
		_ = f.Abort() // the error of Close says more
		return fmt.Errorf("finishing a data file: %w", err)
	}
	w.table.opts.Log.Debug("data file ends", "file", info.Name, "rows", info.Rows, "bytes", info.Size)
	w.done = append(w.done, file{info, f.values, w.table.opts.Now()})
	w.bytes += info.Size
	return nil
}

// Relayout goes on under another layout, which what was written before must fit (Layout.Fits): it stays part of the unit. After an error the
// Writer is only good for Abort; an *Error is final.
func (w *Writer) Relayout(next *Layout) error {
	if !w.layout.equal(next) {
		if err := w.finishAll(); err != nil {
			return err
		}
		w.split = newSplitter(next)
	}
	w.layout = next
	return nil
}

// Bytes is the Parquet output so far, in bytes, of what is open an estimate.
func (w *Writer) Bytes() int64 {
	n := w.bytes
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
	for _, key := range sortedKeys(w.open) {
		if err := w.finish(key); err != nil {
			return orFinal(err)
		}
	}
	return nil
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
	w.unit, w.number, w.done, w.bytes = w.newID(), 0, nil, 0
	clear(w.open)
}

func sortedKeys(m map[string]*partFile) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
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
