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
// exist, whole. Abort removes what was staged. Exactly one of Close and Abort is called. What is written is never changed any more: a Writer may keep it.
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

	// Memory is about what the file may take, in bytes; 0 stands for DefaultMemory. With less, row groups and pages are smaller.
	Memory int64
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
	tuning tuning
	opts   Options

	out     output
	encoder *encoder            // nil until the encodings are chosen from the first rows
	staged  []arrow.RecordBatch // copies of the rows that came before that
	stage   struct{ rows, bytes int64 }

	stats *statistics
	rows  int64
	told  string // the statistics as JSON, once the file is sealed
	err   error  // the first failure; every later Write and Close returns it
	state state
}

type state uint8

const (
	open state = iota
	sealed
	closed
	aborted
)

// New prepares a file of the given schema. The object is opened with the first bytes that are written to it, which is not before the first row
// group is full: a small file takes nothing but memory until Close. A field's metadata may name its Parquet field id under
// PARQUET:field_id, which is arrow-go's key; other metadata is not written. It refuses a schema with types that Delta does
// not have.
func New(ctx context.Context, creator Creator, name string, schema *arrow.Schema, opts Options) (*File, error) {
	return newFile(ctx, creator, name, schema, opts, defaultTuning().within(opts.Memory))
}

func newFile(ctx context.Context, creator Creator, name string, schema *arrow.Schema, opts Options, t tuning) (*File, error) {
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("opening data file %s: %w", name, err)
	}
	if err := checkSchema(schema); err != nil {
		return nil, fmt.Errorf("opening data file %s: %w", name, err)
	}
	return &File{
		name:   name,
		schema: arrow.NewSchema(schema.Fields(), nil),
		tuning: t,
		opts:   opts,
		out:    output{create: func() (Writer, error) { return creator.Create(ctx, name) }},
		stats:  newStatistics(schema, opts.Stats, opts.TightBounds),
	}, nil
}

// Write appends the batch's rows. The batch's schema must be the file's (names, types and nullability; metadata does not
// matter). The caller may reuse the batch's buffers as soon as Write returns. After an error the file is only good for Abort.
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
	// The statistics come first because they also find a null in a NOT NULL column, which would be written as whatever bytes
	// lie in the null's slot.
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
	f.encoder = newEncoder(f.schema, &f.out, f.opts, f.tuning, sample, f.stats.totals)
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
			f.encoder.endRowGroup()
		}
		n := min(step, rows-at)
		// All rows of a batch are taken to be of the same weight; the limits need no more.
		f.encoder.write(rb, int(at), int(at+n), int64(float64(raw)*float64(n)/float64(rows)))
		if f.out.err != nil {
			return f.out.err
		}
	}
	return nil
}

// Bytes is the size that the file has so far, what is still buffered included: exact for what has been written out and
// for finished pages, an estimate for the page that each column is filling.
func (f *File) Bytes() int64 {
	if f.state == sealed || f.state == closed {
		return f.out.n
	}
	return f.out.n + f.groupBytes()
}

// groupBytes is the size that the row group which fills has so far, as of Bytes.
func (f *File) groupBytes() int64 {
	encoded, pending := int64(0), f.stage.bytes
	if f.encoder != nil {
		encoded, pending = f.encoder.group.encoded, f.encoder.group.pending
	}
	return encoded + int64(float64(pending)*f.tuning.pendingRatio(f.opts.Compression))
}

// Memory is about what the file holds of memory, in bytes.
func (f *File) Memory() int64 {
	n := f.stage.bytes + fileMemory + int64(len(f.stats.totals))*leafMemory
	if f.encoder != nil {
		n += f.encoder.group.encoded + slack*f.encoder.group.held
	}
	return n
}

// An open file takes fileMemory, and leafMemory for each leaf column, before it has a row worth mentioning. What pages are collected in has
// grown past what is in it by slack.
const (
	fileMemory = 4 << 10
	leafMemory = 2 << 10
	slack      = 2
)

// EndGroup writes out the row group that fills, if it comes to at least so many bytes, by an estimate: the file goes on in another one, and takes less memory.
// After an error it is only good for Abort.
func (f *File) EndGroup(least int64) error {
	if err := f.usable(); err != nil || f.groupBytes() < least {
		return err
	}
	return f.guard(func() error {
		if f.encoder == nil {
			if err := f.start(nil); err != nil {
				return err
			}
		}
		f.encoder.endRowGroup()
		return f.out.err
	})
}

// Seal encodes what is left, and hands it to the object: after it, Close only waits for the store, and takes no more of the encoder's memory. Nothing
// is written to the file any more. After an error it is only good for Abort.
func (f *File) Seal() error {
	if err := f.usable(); err != nil {
		return fmt.Errorf("closing data file %s: %w", f.name, err)
	}
	if err := f.finish(); err != nil {
		f.err = err
		return fmt.Errorf("closing data file %s: %w", f.name, err)
	}
	f.state, f.encoder = sealed, nil
	return nil
}

// Close seals the file if it is not, and makes it visible. When it fails before the object itself is closed the file is only good for
// Abort; when closing the object fails, the object may exist, whole, and Abort does nothing.
func (f *File) Close() (Info, error) {
	if f.state != sealed {
		if err := f.Seal(); err != nil {
			return Info{}, err
		}
	}
	f.state = closed
	if err := f.out.w.Close(); err != nil {
		f.err = fmt.Errorf("finishing the object, which may exist now: %w", err)
		return Info{}, fmt.Errorf("closing data file %s: %w", f.name, f.err)
	}
	return Info{Name: f.name, Size: f.out.n, Rows: f.rows, Stats: f.told}, nil
}

func (f *File) finish() error {
	return f.guard(func() error {
		if f.encoder == nil {
			if err := f.start(nil); err != nil {
				return err
			}
		}
		f.encoder.finish()
		f.told = f.stats.json(f.rows)
		return f.out.err
	})
}

// Abort gives the file up, frees its memory and removes what was staged of the object. After Close has closed the object,
// and after Abort, it does nothing.
func (f *File) Abort() error {
	if f.state != open && f.state != sealed {
		return nil
	}
	f.state = aborted
	f.dropStage()
	f.encoder = nil
	if f.out.w == nil {
		return nil
	}
	if err := f.out.w.Abort(); err != nil {
		return fmt.Errorf("aborting data file %s: %w", f.name, err)
	}
	return nil
}

func (f *File) usable() error {
	switch {
	case f.state == sealed:
		return errors.New("the file is sealed")
	case f.state == closed:
		return errors.New("the file is closed")
	case f.state == aborted:
		return errors.New("the file is aborted")
	}
	return f.err
}

// guard turns a panic into an error. The object is published by nothing but Writer.Close in finish, so the file is as unfinished
// after a panic as after an error.
func (f *File) guard(do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("encoder panic: %v\n%s", r, debug.Stack())
		}
	}()
	return do()
}

// output stands between the encoder and the object, which it opens. The first error is kept here, everything after it is swallowed, and
// File looks at it after each step.
type output struct {
	create func() (Writer, error)
	w      Writer // nil before the first byte
	n      int64
	err    error
}

func (o *output) write(p []byte) {
	if o.err != nil || len(p) == 0 {
		return
	}
	if o.w == nil {
		if o.w, o.err = o.create(); o.err != nil {
			o.w, o.err = nil, fmt.Errorf("opening the object: %w", o.err)
			return
		}
	}
	n, err := o.w.Write(p)
	o.n += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		o.err = fmt.Errorf("writing the object at byte %d: %w", o.n, err)
	}
}

// tuning holds what tests and benchmarks vary.
type tuning struct {
	allocator memory.Allocator

	// limits of a row group; the first one reached closes it
	groupRows, groupRaw, groupEncoded int64

	pageBytes   int64 // uncompressed bytes after which a page is compressed
	dictBytes   int64 // largest dictionary of a column chunk
	sliceRows   int64 // rows that are encoded column by column
	sliceBytes  int64
	sampleRows  int64
	sampleBytes int64

	choose func(arrow.DataType, sampled) columnEncoding
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
		sliceRows:    8192,
		sliceBytes:   4 << 20,
		sampleRows:   8192,
		sampleBytes:  8 << 20,
		choose:       chooseEncoding,
	}
}

// DefaultMemory is what a file needs for the largest row groups that pay, in bytes.
const DefaultMemory = 64 << 20

// within are the settings of a file that takes so much memory, or where that would be too little to encode well, as much as pays.
func (t tuning) within(memory int64) tuning {
	if memory <= 0 || memory > DefaultMemory {
		memory = DefaultMemory
	}
	part := func(all, least int64) int64 { return max(all*(memory>>10)/(DefaultMemory>>10), min(all, least)) }
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
