// Package datafile turns Arrow batches into one immutable Parquet object with its Delta statistics.
//
// It owns the Parquet encoding (row groups, encodings, compression) and the add.stats JSON of one file, from New to
// Close or Abort. It promises that nothing is visible before Close returns nil, that it keeps no reference to a batch
// after Write returns, that the memory of one open file is bounded however long the file gets (see limits), and that the
// statistics never exclude a value that is in the file. It never names files, retries, commits, or knows partition
// values; it starts no goroutine and reads no clock.
package datafile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Writer streams one new object. Nothing is visible before Close returns nil; a failed Close means that the object may
// exist, whole. Abort removes what was staged. Exactly one of Close and Abort is called.
type Writer = interface {
	io.Writer
	Close() error
	Abort() error
}

// Creator opens the object that a file is streamed to.
type Creator interface {
	Create(ctx context.Context, name string) (Writer, error)
}

// Config is what a user may choose about data files.
type Config struct {
	// Compression of the pages: zstd (level 1, the default when empty), snappy or none.
	Compression string `yaml:"compression"`
}

// compressions in the order that errors name them.
var compressions = []string{"zstd", "snappy", "none"}

// Validate refuses an unknown compression, naming the ones there are.
func (c Config) Validate() error {
	if c.Compression == "" {
		return nil
	}
	if slices.Contains(compressions, c.Compression) {
		return nil
	}
	return fmt.Errorf("compression %q is not known: use one of %s", c.Compression, strings.Join(compressions, ", "))
}

// Options of one file.
type Options struct {
	Config

	// Stats tells for each leaf of the schema, depth first, whether it gets statistics; nil stands for all. A leaf is what
	// is no struct: a list or a map is one.
	Stats []bool

	// TightBounds writes tightBounds into the statistics (PROTOCOL.md, "Per-file Statistics"). Without it they mean the
	// same; Spark writes it where a table supports deletion vectors.
	TightBounds bool

	// Engine names the writer in the Parquet footer, as "kafkadelta/1.2.3". Empty means "kafkadelta".
	Engine string

	// Share is the number of files that share the memory of one; 0 stands for 1. Each has smaller row groups and pages then.
	Share int
}

// Info describes a finished file.
type Info struct {
	Name  string // as given to New
	Size  int64  // bytes
	Rows  int64
	Stats string // Delta's add.stats JSON (PROTOCOL.md, "Per-file Statistics")
}

// File is one Parquet file being written. It belongs to one goroutine.
type File struct {
	name   string
	schema *arrow.Schema // without metadata: nothing but Parquet's own schema goes into the footer
	repair []int         // columns that arrow-go must not get as they are; see needsRepair
	tuning tuning
	opts   Options

	out     output
	encoder *encoder            // nil until the encodings are chosen from the first rows
	staged  []arrow.RecordBatch // copies of the rows that came before that
	stage   struct{ rows, bytes int64 }

	stats *statistics
	rows  int64
	err   error // the first failure; every later Write and Close returns it
	state state
}

type state uint8

const (
	open state = iota
	closed
	aborted
)

// New opens the object and prepares a file of the given schema. A field's metadata may name its Parquet field id under
// PARQUET:field_id, which is arrow-go's key; other metadata is not written. It refuses a schema with types that Delta does
// not have.
func New(ctx context.Context, creator Creator, name string, schema *arrow.Schema, opts Options) (*File, error) {
	return newFile(ctx, creator, name, schema, opts, defaultTuning().shared(opts.Share))
}

func newFile(ctx context.Context, creator Creator, name string, schema *arrow.Schema, opts Options, t tuning) (*File, error) {
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("opening data file %s: %w", name, err)
	}
	if err := checkSchema(schema); err != nil {
		return nil, fmt.Errorf("opening data file %s: %w", name, err)
	}
	w, err := creator.Create(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("opening data file %s: %w", name, err)
	}
	f := &File{
		name:   name,
		schema: arrow.NewSchema(schema.Fields(), nil),
		tuning: t,
		opts:   opts,
		out:    output{w: w},
		stats:  newStatistics(schema, opts.Stats, opts.TightBounds),
	}
	for i, field := range schema.Fields() {
		if needsRepair(field.Type, false) {
			f.repair = append(f.repair, i)
		}
	}
	return f, nil
}

// Write appends the batch's rows. The batch's schema must be the file's (names, types and nullability; metadata does not
// matter), and a list or map that is null or below a null must have no elements. The caller may reuse the batch's buffers
// as soon as Write returns. After an error the file is only good for Abort.
func (f *File) Write(rb arrow.RecordBatch) error {
	if err := f.usable(); err != nil {
		return fmt.Errorf("writing data file %s: %w", f.name, err)
	}
	if err := f.guard(func() error { return f.write(rb) }); err != nil {
		f.err = err
		return fmt.Errorf("writing data file %s: %w", f.name, err)
	}
	return nil
}

func (f *File) write(rb arrow.RecordBatch) error {
	if err := f.checkBatch(rb); err != nil {
		return err
	}
	if rb.NumRows() == 0 {
		return nil
	}
	// The statistics come first because they also find a null in a NOT NULL column, which arrow-go would silently write
	// as whatever bytes lie in the null's slot.
	if err := f.stats.observe(rb); err != nil {
		return err
	}
	f.rows += rb.NumRows()
	if f.encoder != nil {
		return f.encode(rb)
	}
	raw := rawBytes(rb)
	if f.stage.rows+rb.NumRows() < f.tuning.sampleRows && f.stage.bytes+raw < f.tuning.sampleBytes {
		return f.keep(rb, raw)
	}
	return f.start(rb)
}

// keep copies a small batch aside, so that the encodings are chosen from more than the first few rows.
func (f *File) keep(rb arrow.RecordBatch, raw int64) error {
	columns := make([]arrow.Array, rb.NumCols())
	defer func() {
		for _, c := range columns {
			if c != nil {
				c.Release()
			}
		}
	}()
	for i := range columns {
		var err error
		// Concatenating one array copies it.
		if columns[i], err = array.Concatenate([]arrow.Array{rb.Column(i)}, f.tuning.allocator); err != nil {
			return fmt.Errorf("copying column %s: %w", f.schema.Field(i).Name, err)
		}
	}
	f.staged = append(f.staged, array.NewRecordBatch(f.schema, columns, rb.NumRows()))
	f.stage.rows += rb.NumRows()
	f.stage.bytes += raw
	return nil
}

// start chooses the encodings from the staged rows and, when there is one, the batch at hand, and encodes all of them.
func (f *File) start(rb arrow.RecordBatch) error {
	sample := f.staged
	if rb != nil {
		sample = append(slices.Clip(sample), rb)
	}
	encoder, err := newEncoder(f.schema, &f.out, f.opts, f.tuning, sample)
	if err != nil {
		return err
	}
	f.encoder = encoder
	for _, b := range sample {
		if err := f.encode(b); err != nil {
			return err
		}
	}
	f.dropStage()
	return nil
}

func (f *File) dropStage() {
	for _, b := range f.staged {
		b.Release()
	}
	f.staged, f.stage.rows, f.stage.bytes = nil, 0, 0
}

// encode hands the batch to the encoder in slices, so that neither a page nor a row group can outgrow its limit by more
// than a slice.
func (f *File) encode(rb arrow.RecordBatch) error {
	rows, raw := rb.NumRows(), rawBytes(rb)
	step := f.tuning.sliceRows
	if perRow := raw/rows + 1; step*perRow > f.tuning.sliceBytes {
		step = max(1, f.tuning.sliceBytes/perRow)
	}
	for at := int64(0); at < rows; at += step {
		// A full row group ends only when more rows come, so that none is empty.
		if f.encoder.group.full(f.tuning) {
			if err := f.encoder.nextRowGroup(); err != nil {
				return err
			}
		}
		n := min(step, rows-at)
		// All rows of a batch are taken to be of the same weight; the limits need no more.
		if err := f.encodeSlice(rb, at, n, int64(float64(raw)*float64(n)/float64(rows))); err != nil {
			return err
		}
		if f.out.err != nil {
			return f.out.err
		}
	}
	return nil
}

func (f *File) encodeSlice(rb arrow.RecordBatch, from, n, raw int64) error {
	columns := rb.Columns()
	if n < rb.NumRows() {
		slice := rb.NewSlice(from, from+n)
		defer slice.Release()
		columns = slice.Columns()
	}
	if len(f.repair) > 0 {
		columns = slices.Clone(columns)
		for _, i := range f.repair {
			columns[i] = repair(columns[i])
			defer columns[i].Release()
		}
	}
	// The encoder compares schemas, metadata included, by every batch; the same pointer is the shortest way through.
	same := array.NewRecordBatch(f.schema, columns, n)
	defer same.Release()
	return f.encoder.write(same, raw)
}

// Bytes is the size that the file has so far, what is still buffered included: exact for what has been written out and
// for finished pages, an estimate for the page that each column is filling.
func (f *File) Bytes() int64 {
	if f.state == closed {
		return f.out.n
	}
	ratio := f.tuning.pendingRatio(f.opts.Compression)
	if f.encoder == nil {
		return f.out.n + int64(float64(f.stage.bytes)*ratio)
	}
	// Of each column about half a page is not compressed yet, and the dictionaries are not until the row group ends.
	group := f.encoder.group
	pending := min(group.raw, f.stats.leaves*f.tuning.pageBytes/2+f.encoder.dicts)
	return f.out.n + group.encoded + int64(float64(pending)*ratio)
}

// Close finishes the file and makes it visible. When it fails before the object itself is closed the file is only good for
// Abort; when closing the object fails, the object may exist, whole, and Abort does nothing.
func (f *File) Close() (Info, error) {
	if err := f.usable(); err != nil {
		return Info{}, fmt.Errorf("closing data file %s: %w", f.name, err)
	}
	info, err := f.finish()
	if err != nil {
		f.err = err
		return Info{}, fmt.Errorf("closing data file %s: %w", f.name, err)
	}
	return info, nil
}

func (f *File) finish() (Info, error) {
	var stats string
	err := f.guard(func() error {
		if f.encoder == nil {
			if err := f.start(nil); err != nil {
				return err
			}
		}
		if err := f.encoder.Close(); err != nil {
			return fmt.Errorf("writing the footer: %w", err)
		}
		stats = f.stats.json(f.rows)
		return f.out.err
	})
	if err != nil {
		return Info{}, err
	}
	f.state = closed
	if err := f.out.w.Close(); err != nil {
		return Info{}, fmt.Errorf("finishing the object, which may exist now: %w", err)
	}
	return Info{Name: f.name, Size: f.out.n, Rows: f.rows, Stats: stats}, nil
}

// Abort gives the file up, frees its memory and removes what was staged of the object. After Close has closed the object,
// and after Abort, it does nothing.
func (f *File) Abort() error {
	if f.state != open {
		return nil
	}
	f.state = aborted
	f.out.discard = true
	f.dropStage()
	if f.encoder != nil {
		// The encoder gives its buffers back only by finishing, so it finishes into nothing. What it says about that is
		// of no interest any more.
		_ = f.guard(f.encoder.Close)
	}
	if err := f.out.w.Abort(); err != nil {
		return fmt.Errorf("aborting data file %s: %w", f.name, err)
	}
	return nil
}

func (f *File) usable() error {
	switch {
	case f.state == closed:
		return errors.New("the file is closed")
	case f.state == aborted:
		return errors.New("the file is aborted")
	}
	return f.err
}

// guard turns a panic into an error. arrow-go uses panics for some of its failures; the object is published by nothing but
// Writer.Close in finish, so the file is as unfinished after a panic as after an error.
func (f *File) guard(do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("encoder panic: %v\n%s", r, debug.Stack())
		}
	}()
	return do()
}

// output stands between the encoder and the object. The encoder never sees an error of the object: on its error paths it
// leaves buffers unreleased. The first error is kept here, everything after it is swallowed, and File looks at it after
// each step. It has no Close method on purpose: the encoder closes what it can close, which would publish the object.
type output struct {
	w       Writer
	n       int64
	err     error
	discard bool
}

func (o *output) Write(p []byte) (int, error) {
	if o.err != nil || o.discard {
		return len(p), nil //nolint:nilerr // the first error is kept and found at the next step
	}
	n, err := o.w.Write(p)
	o.n += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		o.err = fmt.Errorf("writing the object at byte %d: %w", o.n, err)
	}
	return len(p), nil
}

// tuning holds what tests and benchmarks vary.
type tuning struct {
	allocator memory.Allocator

	// limits of a row group; the first one reached closes it
	groupRows, groupRaw, groupEncoded int64

	pageBytes   int64 // uncompressed bytes after which a page is compressed
	dictBytes   int64 // largest dictionary of a column chunk
	encodeRows  int64 // values after which arrow-go looks whether a page is full; not less than sliceRows (see deltaTexts)
	sliceRows   int64
	sliceBytes  int64
	sampleRows  int64
	sampleBytes int64

	parquetStats bool
	choose       func(arrow.DataType, sampled) columnEncoding
}

// defaultTuning gives the settings that the benchmarks chose (BenchmarkWrite, BenchmarkTuning).
//
// One open file holds at most: the compressed pages of one row group (groupEncoded, plus one slice; the page buffer may
// have doubled past it), for each leaf column an unfinished page, its copy and its compressed form (3 x pageBytes) and a
// dictionary (dictBytes), and before that the staged sample. All are constants but for the number of leaf columns.
func defaultTuning() tuning {
	return tuning{
		allocator:    memory.DefaultAllocator,
		groupRows:    1 << 20,
		groupRaw:     128 << 20,
		groupEncoded: 32 << 20,
		pageBytes:    256 << 10,
		dictBytes:    1 << 20,
		encodeRows:   8192,
		sliceRows:    8192,
		sliceBytes:   16 << 20,
		sampleRows:   8192,
		sampleBytes:  8 << 20,
		parquetStats: true,
		choose:       chooseEncoding,
	}
}

// shared are the settings of one of n files that hold together what one does by default, or where that would be too little to encode well,
// as much as pays.
func (t tuning) shared(n int) tuning {
	part := func(all, least int64) int64 { return max(all/int64(max(n, 1)), min(all, least)) }
	t.groupRaw, t.groupEncoded = part(t.groupRaw, 8<<20), part(t.groupEncoded, 1<<20)
	t.pageBytes, t.dictBytes = part(t.pageBytes, 64<<10), part(t.dictBytes, 128<<10)
	t.sampleBytes = part(t.sampleBytes, 1<<20)
	return t
}

// pendingRatio is what pages are expected to shrink to.
func (t tuning) pendingRatio(compression string) float64 {
	switch compression {
	case "none":
		return 0.8
	case "snappy":
		return 0.5
	}
	return 0.3
}
