package delta

import (
	"context"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
)

// FileCounts sums up the files of one version. Deletions are the rows that deletion vectors take away.
type FileCounts struct{ Files, Bytes, DeletionVectors, Deletions int64 }

func (c *FileCounts) add(size int64, dv *DeletionVector) {
	c.Files++
	c.Bytes += size
	if dv != nil {
		c.DeletionVectors++
		c.Deletions += dv.Cardinality
	}
}

func (c *FileCounts) plus(d FileCounts) {
	c.Files += d.Files
	c.Bytes += d.Bytes
	c.DeletionVectors += d.DeletionVectors
	c.Deletions += d.Deletions
}

// fileOutput takes the file actions of a log checkpoint and writes them into one file after another.
type fileOutput struct {
	open   func() (*checkpointOutput, error) // the next file, to which file actions are to be appended
	limit  int64                             // rows of a file, roughly
	rows   *checkpointRows
	now    *checkpointOutput
	counts FileCounts // of what goes to now
	stones int64      // removes that go to now
	done   []*checkpointOutput
}

func newFileOutput(cs *checkpointSchema, limit int64, open func() (*checkpointOutput, error)) *fileOutput {
	return &fileOutput{open: open, limit: limit, rows: newCheckpointRows(cs, cs.sidecar())}
}

func (o *fileOutput) release() { o.rows.release() }

func (o *fileOutput) add(a *Add) error {
	o.rows.add(a)
	o.counts.add(a.Size, a.DeletionVector)
	return o.flushFull()
}

func (o *fileOutput) remove(r *Remove) error {
	o.rows.remove(r)
	o.stones++
	return o.flushFull()
}

func (o *fileOutput) flushFull() error {
	if o.rows.rows < checkpointChunkRows && o.rows.bytes < checkpointChunkBytes {
		return nil
	}
	if err := o.flush(); err != nil {
		return err
	}
	return o.rotate()
}

func (o *fileOutput) flush() error {
	if o.rows.rows == 0 {
		return nil
	}
	rb := o.rows.take()
	defer rb.Release()
	return o.write(rb.Column(0), rb.Column(1))
}

// columns takes file actions that are columns already.
func (o *fileOutput) columns(add, remove arrow.Array, counts FileCounts, stones int64) error {
	o.counts.plus(counts)
	o.stones += stones
	if err := o.write(add, remove); err != nil {
		return err
	}
	return o.rotate()
}

func (o *fileOutput) write(add, remove arrow.Array) error {
	if o.now == nil {
		var err error
		if o.now, err = o.open(); err != nil {
			return err
		}
	}
	return o.now.writeFiles(add, remove)
}

// rotate publishes the file being written when it is full.
func (o *fileOutput) rotate() error {
	if o.now == nil || o.now.rows < o.limit {
		return nil
	}
	return o.finish()
}

// finish publishes the file being written, if there is one.
func (o *fileOutput) finish() error {
	if err := o.flush(); err != nil || o.now == nil {
		return err
	}
	now := o.now
	if err := now.close(); err != nil {
		return err
	}
	now.counts, now.stones = o.counts, o.stones
	o.now, o.counts, o.stones = nil, FileCounts{}, 0
	o.done = append(o.done, now)
	return nil
}

func (o *fileOutput) abort() {
	if o.now != nil {
		o.now.abort()
		o.now = nil
	}
}

// carrier copies the file actions of an earlier log checkpoint: those that no newer commit overrides, and of tombstones
// those that have not expired (PROTOCOL.md, "Action Reconciliation" and "Checkpoints"). Whole batches are handed on as
// they are, where the earlier file has the columns that the new one needs.
type carrier struct {
	schema        *checkpointSchema
	newer         fileSet
	since         int64       // tombstones of that time, in milliseconds, and before have expired
	adds, removes *fileOutput // may be the same
}

func (c *carrier) batch(rb arrow.RecordBatch) error {
	add, remove := structAt(rb, "add"), structAt(rb, "remove")
	if fast, err := c.columns(rb, add, remove); fast || err != nil {
		return err
	}
	for row := range int(rb.NumRows()) {
		if a := addAt(add, row); a != nil {
			if err := c.add(a); err != nil {
				return err
			}
		}
		if r := removeAt(remove, row); r != nil {
			if err := c.remove(r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *carrier) add(a *Add) error {
	if c.newer.has(a.Path, a.DeletionVector) {
		return nil
	}
	return c.adds.add(a)
}

func (c *carrier) remove(r *Remove) error {
	if expired(r, c.since) || c.newer.has(r.Path, r.DeletionVector) {
		return nil
	}
	return c.removes.remove(r)
}

// columns copies a batch column by column; false when it must go row by row.
func (c *carrier) columns(rb arrow.RecordBatch, add, remove *array.Struct) (bool, error) {
	n := int(rb.NumRows())
	if !c.sameStats(add) {
		return false, nil
	}
	adds, ok := conformOrNull(add, c.schema.add, n)
	if !ok {
		return false, nil
	}
	defer adds.Release()
	removes, ok := conformOrNull(remove, removeType, n)
	if !ok {
		return false, nil
	}
	defer removes.Release()
	keep, counts, stones, ok := c.keep(adds.(*array.Struct), removes.(*array.Struct), n)
	if !ok || keep.rows() == 0 {
		return ok, nil
	}
	a, err := keep.take(adds)
	if err != nil {
		return false, err
	}
	defer a.Release()
	r, err := keep.take(removes)
	if err != nil {
		return false, err
	}
	defer r.Release()
	return true, c.adds.columns(a, r, counts, stones)
}

// keep finds the rows to copy. ok is false when a struct is there without its required field, as some writers have it:
// then columns can't be taken as they are.
func (c *carrier) keep(adds, removes *array.Struct, n int) (keep runs, counts FileCounts, stones int64, ok bool) {
	addPath, addDV, sizes := adds.Field(0).(*array.String), adds.Field(6).(*array.Struct), adds.Field(2).(*array.Int64)
	removePath, removeDV, times := removes.Field(0).(*array.String), removes.Field(6).(*array.Struct), removes.Field(1).(*array.Int64)
	for row := range n {
		isAdd, isRemove := adds.IsValid(row), removes.IsValid(row)
		switch {
		case !isAdd && !isRemove:
			continue
		case isAdd && isRemove, isAdd && addPath.IsNull(row), isRemove && removePath.IsNull(row):
			return nil, counts, 0, false
		case isAdd:
			dv := dvAt(addDV, row)
			if c.newer.has(addPath.Value(row), dv) {
				continue
			}
			counts.add(sizes.Value(row), dv)
		case times.IsNull(row) || times.Value(row) <= c.since || c.newer.has(removePath.Value(row), dvAt(removeDV, row)):
			continue
		default:
			stones++
		}
		keep.add(row)
	}
	return keep, counts, stones, true
}

// sameStats reports whether the earlier file keeps statistics in every form that the new one needs.
func (c *carrier) sameStats(add *array.Struct) bool {
	if add == nil {
		return true
	}
	have := add.DataType().(*arrow.StructType)
	has := func(name string) bool { _, ok := have.FieldIdx(name); return ok }
	text, parsed := fieldAt(add, "stats"), childAt(add, "stats_parsed")
	switch {
	case c.schema.stats != nil && (parsed == nil || c.schema.parts != nil && !has("partitionValues_parsed")):
		return false
	case parsed == nil:
		return true
	}
	for row := range add.Len() {
		hasText, hasParsed := text != nil && text.IsValid(row), parsed.IsValid(row)
		if hasParsed && !hasText && c.schema.statsJSON || hasText && !hasParsed && c.schema.stats != nil {
			return false
		}
	}
	return true
}

func conformOrNull(a *array.Struct, want *arrow.StructType, n int) (arrow.Array, bool) {
	if a == nil {
		return array.MakeArrayOfNull(memory.DefaultAllocator, want, n), true
	}
	return conform(a, want)
}

// carryColumns are the columns of a log checkpoint that are carried over.
func carryColumns(path string) bool {
	return strings.HasPrefix(path, "add.") || strings.HasPrefix(path, "remove.") &&
		!strings.HasPrefix(path, "remove.stats") && !strings.HasPrefix(path, "remove.tags")
}

// keyColumns are those that identify logical files.
func keyColumns(path string) bool {
	return path == "add.path" || path == "remove.path" || strings.HasPrefix(path, "add.deletionVector.") ||
		strings.HasPrefix(path, "remove.deletionVector.")
}

// eachBatch reads the wanted columns of a Parquet file of a log checkpoint as Arrow batches, which live until visit returns.
func eachBatch(ctx context.Context, store LogStore, f checkpointFile, want func(path string) bool, visit func(arrow.RecordBatch) error) error {
	src, err := openRanged(ctx, store, f)
	if err != nil {
		return err
	}
	var rr pqarrow.RecordReader
	if err := src.guard(func() (err error) {
		rr, err = batchReader(ctx, src, want)
		return err
	}); err != nil || rr == nil {
		return err
	}
	defer rr.Release()
	for {
		var rb arrow.RecordBatch
		if err := src.guard(func() error {
			if rr.Next() {
				rb = rr.RecordBatch()
			}
			return rr.Err()
		}); err != nil || rb == nil {
			return err
		}
		if err := visit(rb); err != nil {
			return err
		}
	}
}

// batchReader opens a projection of a Parquet file; nil when it has no such column or no row.
func batchReader(ctx context.Context, src *rangedObject, want func(path string) bool) (pqarrow.RecordReader, error) {
	props := parquet.NewReaderProperties(memory.DefaultAllocator)
	if src.Size() > wholeCheckpoint {
		props.BufferedStreamEnabled, props.BufferSize = true, checkpointBuffer
	}
	pf, err := file.NewParquetReader(src, file.WithReadProps(props))
	if err != nil {
		return nil, err
	}
	fr, err := pqarrow.NewFileReader(pf, pqarrow.ArrowReadProperties{BatchSize: checkpointChunkRows}, memory.DefaultAllocator)
	if err != nil {
		return nil, err
	}
	var leaves []int
	for i := range pf.MetaData().Schema.NumColumns() {
		if want(pf.MetaData().Schema.Column(i).ColumnPath().String()) {
			leaves = append(leaves, i)
		}
	}
	if len(leaves) == 0 || pf.NumRows() == 0 {
		return nil, nil
	}
	return fr.GetRecordReader(ctx, leaves, nil)
}
