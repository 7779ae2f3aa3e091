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
// values. It belongs to one goroutine. What it has encoded is put in the background.
type Writer struct {
	table   *Table
	layout  *Layout
	uploads *Uploads
	split   splitter

	newID  func() string
	unit   string // id of the unit being written
	number int    // of its next file
	open   map[string]*partFile
	held   held
	memory int64        // that the open files take
	kept   atomic.Int64 // and their objects
	sealed []*partFile
	bytes  int64 // of sealed files
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

// partFile is a data file of one combination of partition values.
type partFile struct {
	*datafile.File
	name   string
	key    string
	values map[string]*string
	memory int64   // that it took when it was last looked at
	kept   int64   // and its object, when room was last made
	put    *upload // nil before the first byte
	begin  func(ctx context.Context, name string) *upload
}

// Create implements datafile.Creator. The object itself is opened in the background.
func (f *partFile) Create(ctx context.Context, name string) (datafile.Writer, error) {
	f.put = f.begin(ctx, name)
	return f.put, nil
}

// NewWriter returns a writer for the layout. Nothing is opened before the first row.
func (t *Table) NewWriter(layout *Layout) *Writer {
	return &Writer{
		table: t, layout: layout, uploads: NewUploads(t.memory), split: layoutSplitter(layout), newID: newUnitID, unit: newUnitID(), open: map[string]*partFile{},
	}
}

// Share has files put by the uploads that other Writers of the lane have too. It comes before the first row.
func (w *Writer) Share(u *Uploads) { w.uploads = u }

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

// keptPart of the memory is for what objects keep of open files, besides; more counts as the files' own. It is as large as a part where there is memory, so that
// a file of the target size is not finished early for it.
const keptPart = 8

// add writes rows to one of the open files, and makes room where they take too much memory together.
func (w *Writer) add(f *partFile, rows arrow.RecordBatch) error {
	before := f.memory
	err := f.Write(rows)
	f.memory = f.Memory()
	w.memory += f.memory - before
	kept := w.kept.Load()
	if most := w.table.OpenMemory() + min(kept, w.table.memory()/keptPart); err == nil && len(w.open) > 1 && w.memory+kept > most {
		err = w.makeRoom(most / 4 * 3)
	}
	return err
}

const (
	leastGroup = 256 << 10 // of the row groups that are ended early to make room, in the file
	mostBegun  = 64        // files that are open where that is done: each then has an object in the store, which takes descriptors
)

// makeRoom ends the largest row groups, so that files stay open until they have their size. Where those are small, or files are many, it seals the largest
// files, until the open ones take no more than that, or as many as are put at a time.
func (w *Writer) makeRoom(most int64) error {
	left := w.memory
	for _, f := range w.open {
		f.kept = f.put.keeps()
		left += f.kept
	}
	largestFirst := func(a, b *partFile) int {
		return cmp.Or(cmp.Compare(b.memory+b.kept, a.memory+a.kept), cmp.Compare(a.key, b.key))
	}
	files := slices.SortedFunc(maps.Values(w.open), largestFirst)
	for i := 0; i < len(files) && left > most && len(files) <= mostBegun; i++ {
		f := files[i]
		before := f.memory
		if err := f.EndGroup(leastGroup); err != nil {
			return fmt.Errorf("writing a data file: %w", err)
		}
		f.memory = f.Memory()
		left += f.memory - before
		w.memory += f.memory - before
	}
	slices.SortFunc(files, largestFirst)
	n := 0
	for n < min(putting, len(files)-1) && left > most {
		left -= files[n].memory + files[n].kept
		n++
	}
	return w.seal(files[:n])
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
	f := &partFile{name: name, key: string(key), values: values, begin: w.upload}
	var err error
	f.File, err = datafile.New(ctx, f, name, w.layout.files.Schema, datafile.Options{
		Config: w.table.cfg.Parquet, Stats: w.layout.files.Stats, TightBounds: w.layout.files.TightBounds, Engine: w.table.opts.Engine, Memory: w.table.memory(),
	})
	if err != nil {
		return nil, fmt.Errorf("opening data file %s: %w", name, err)
	}
	w.open[f.key] = f
	return f, nil
}

func (w *Writer) upload(ctx context.Context, name string) *upload {
	return w.uploads.begin(ctx, w.table.opts.Now, &w.kept, func(ctx context.Context) (datafile.Writer, error) { return w.table.store.Create(ctx, name) })
}

// seal encodes the rest of open files one after the other; what is encoded is put meanwhile, and nobody waits for that.
func (w *Writer) seal(files []*partFile) error {
	for _, f := range files {
		if err := f.Seal(); err != nil {
			return fmt.Errorf("finishing a data file: %w", err)
		}
		f.put.seal()
		delete(w.open, f.key)
		w.memory -= f.memory
		w.sealed = append(w.sealed, f)
		w.bytes += f.Bytes()
	}
	return nil
}

// Relayout goes on under another layout, which what was written before must fit (Layout.Fits): it stays part of the unit. After an error the
// Writer is only good for Abort; an *Error is final.
func (w *Writer) Relayout(next *Layout) error {
	if !w.layout.equal(next) {
		if err := w.sealAll(); err != nil {
			return err
		}
		w.split = layoutSplitter(next)
	}
	w.layout = next
	return nil
}

// Memory is what open files with their objects, and rows that are held for them, take, in bytes.
func (w *Writer) Memory() int64 { return w.memory + w.kept.Load() + w.held.bytes }

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
	return finish(w, func(s *Sealed) (*Unit, error) { return s.unit(spans) })
}

// finish seals the unit, waits until the store has it, and makes of it what it is for.
func finish[T any](w *Writer, of func(*Sealed) (T, error)) (made T, err error) {
	if err = w.sealAll(); err != nil {
		return made, err
	}
	if made, err = of(w.all()); err == nil {
		w.reset()
	}
	return made, err
}

func (w *Writer) sealAll() error {
	if err := w.writeHeld(); err != nil {
		return orFinal(err)
	}
	return orFinal(w.seal(slices.SortedFunc(maps.Values(w.open), func(a, b *partFile) int { return cmp.Compare(a.key, b.key) })))
}

// Abort gives up what was written since the last Finish or Seal. The Writer can be used again.
func (w *Writer) Abort(ctx context.Context) {
	w.all().Abort(ctx)
	w.reset()
}

func (w *Writer) reset() {
	w.held.drop()
	w.unit, w.number, w.sealed, w.bytes, w.memory = w.newID(), 0, nil, 0, 0
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
