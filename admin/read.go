package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"

	"kafkadelta/delta"
)

const (
	batchRows = 8192
	fileTail  = 64 << 10  // read at once from the end of a file: its footer is nearly always in there
	maxPage   = 256 << 20 // bytes of one page
	wholeRead = 16 << 20  // bytes of a column chunk that are read at once; more go through a buffer
)

// columns are the paths in data files of the metadata column's fields. Topic is "" where the table has none.
type columns struct{ topic, partition, offset string }

// findColumns finds the fields of the metadata column; false where the rows don't tell their offsets.
func findColumns(schema *arrow.Schema, name string) (columns, bool) {
	at := schema.FieldIndices(name)
	if len(at) != 1 {
		return columns{}, false
	}
	f := schema.Field(at[0])
	st, ok := f.Type.(*arrow.StructType)
	if !ok {
		return columns{}, false
	}
	var c columns
	for field, want := range map[string]struct {
		path *string
		id   arrow.Type
	}{"topic": {&c.topic, arrow.STRING}, "partition": {&c.partition, arrow.INT32}, "offset": {&c.offset, arrow.INT64}} {
		if i, ok := st.FieldIdx(field); ok && st.Field(i).Type.ID() == want.id {
			*want.path = physicalName(f) + "." + physicalName(st.Field(i))
		}
	}
	return c, c.partition != "" && c.offset != ""
}

// physicalName is a field's name in data files (PROTOCOL.md, "Column Mapping").
func physicalName(f arrow.Field) string {
	text, _ := f.Metadata.GetValue(delta.MetadataKey)
	var meta struct {
		Name string `json:"delta.columnMapping.physicalName"`
	}
	if json.Unmarshal([]byte(text), &meta) == nil && meta.Name != "" {
		return meta.Name
	}
	return f.Name
}

// batch is some rows of a file. An offset of -1 is none.
type batch struct {
	row        int64 // number of the first one in the file
	offsets    []int64
	partitions []int32
	topics     []parquet.ByteArray // nil: all are topic
	topic      string
}

func (b *batch) topicOf(i int) string {
	if b.topics == nil {
		return b.topic
	}
	return string(b.topics[i])
}

// brokenError is a file that can't be read, whose store is not at fault.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return e.err.Error() }

// readFile reads the offsets of a data file and hands them on, and tells its number of rows. A file without the columns has
// rows without offsets. With wanted, row groups that it does not want are passed over. The error of a missing file is
// fs.ErrNotExist, that of a broken one a *brokenError.
func readFile(ctx context.Context, store delta.LogStore, name string, size int64, c columns, wanted func(*metadata.RowGroupMetaData) bool, visit func(*batch)) (rows int64, err error) {
	src, err := openObject(ctx, store, name, size)
	if err != nil {
		return 0, err
	}
	defer func() {
		if r := recover(); r != nil { // the library does so on some broken files
			err = fmt.Errorf("%v", r)
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			err = ctx.Err()
		case src.err != nil:
			err = src.err
		default:
			err = &brokenError{err}
		}
	}()
	props := parquet.NewReaderProperties(memory.DefaultAllocator)
	props.MaxCompressedPageSize, props.MaxUncompressedPageSize = maxPage, maxPage
	pf, err := file.NewParquetReader(src, file.WithReadProps(props))
	if err != nil {
		return 0, err
	}
	schema := pf.MetaData().Schema
	at := [3]int{schema.ColumnIndexByName(c.offset), schema.ColumnIndexByName(c.partition), -1}
	if c.topic != "" {
		at[2] = schema.ColumnIndexByName(c.topic)
	}
	if c.offset == "" || at[0] < 0 || at[1] < 0 || visit == nil {
		return pf.NumRows(), nil
	}
	if largeChunks(pf.MetaData(), at) {
		props.BufferedStreamEnabled, props.BufferSize = true, 1<<20
		if pf, err = file.NewParquetReader(src, file.WithReadProps(props), file.WithMetadata(pf.MetaData())); err != nil {
			return 0, err
		}
	}
	for i := range pf.NumRowGroups() {
		rg := pf.RowGroup(i)
		if wanted == nil || wanted(rg.MetaData()) {
			if err := readGroup(ctx, rg, rows, at, visit); err != nil {
				return 0, err
			}
		}
		rows += rg.NumRows()
	}
	return rows, nil
}

// largeChunks tells whether some column chunk to be read is too large for memory.
func largeChunks(md *metadata.FileMetaData, at [3]int) bool {
	for _, rg := range md.RowGroups {
		for _, i := range at {
			if i >= 0 && i < len(rg.Columns) && rg.Columns[i].MetaData != nil && rg.Columns[i].MetaData.TotalCompressedSize > wholeRead {
				return true
			}
		}
	}
	return false
}

// readGroup reads a row group whose first row has the number `row`.
func readGroup(ctx context.Context, rg *file.RowGroupReader, row int64, at [3]int, visit func(*batch)) error {
	var c [3]*column
	b := &batch{}
	for i, index := range at {
		if index < 0 {
			continue
		}
		if i == 2 {
			if text, ok := constant(rg.MetaData(), index); ok {
				b.topic = text
				continue
			}
		}
		var err error
		if c[i], err = openColumn(rg, index); err != nil {
			return err
		}
		defer c[i].close()
	}
	for done := int64(0); done < rg.NumRows(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := int(min(batchRows, rg.NumRows()-done))
		for _, col := range c {
			if col == nil {
				continue
			}
			if err := col.read(n); err != nil {
				return err
			}
		}
		b.row, b.offsets, b.partitions = row+done, c[0].longs[:n], c[1].ints[:n]
		for i, p := range b.partitions {
			if p < 0 {
				b.offsets[i] = -1
			}
		}
		if c[2] != nil {
			b.topics = c[2].texts[:n]
		}
		visit(b)
		done += int64(n)
	}
	return nil
}

// constant is the one value of a column of texts where its statistics say that it has no other, and no null.
func constant(md *metadata.RowGroupMetaData, index int) (string, bool) {
	chunk, err := md.ColumnChunk(index)
	if err != nil {
		return "", false
	}
	stats, err := chunk.Statistics()
	if err != nil || stats == nil || !stats.HasMinMax() || !stats.HasNullCount() || stats.NullCount() != 0 {
		return "", false
	}
	s, ok := stats.(*metadata.ByteArrayStatistics)
	if !ok || !slices.Equal(s.Min(), s.Max()) {
		return "", false
	}
	return string(s.Min()), true
}

// column reads one leaf, whose rows have one value or null each.
type column struct {
	chunk file.ColumnChunkReader
	name  string
	max   int16
	defs  []int16
	longs []int64
	ints  []int32
	texts []parquet.ByteArray
	last  parquet.ByteArray // a copy of the text before
}

func openColumn(rg *file.RowGroupReader, index int) (*column, error) {
	d := rg.MetaData().Schema.Column(index)
	if d.MaxRepetitionLevel() > 0 {
		return nil, fmt.Errorf("the column %s is repeated", d.Path())
	}
	chunk, err := rg.Column(index)
	if err != nil {
		return nil, err
	}
	c := &column{chunk: chunk, name: d.Path(), max: d.MaxDefinitionLevel(), defs: make([]int16, batchRows)}
	switch chunk.(type) {
	case *file.Int64ColumnChunkReader:
		c.longs = make([]int64, batchRows)
	case *file.Int32ColumnChunkReader:
		c.ints = make([]int32, batchRows)
	case *file.ByteArrayColumnChunkReader:
		c.texts = make([]parquet.ByteArray, batchRows)
	default:
		return nil, fmt.Errorf("the column %s has the Parquet type %s", c.name, d.PhysicalType())
	}
	return c, nil
}

// read reads the values of the next n rows. A null is -1, or an empty text.
func (c *column) read(n int) error {
	for done := 0; done < n; {
		var total int64
		var values int
		var err error
		want := int64(n - done)
		defs := c.defs[done:n]
		switch r := c.chunk.(type) {
		case *file.Int64ColumnChunkReader:
			total, values, err = r.ReadBatchInPage(want, c.longs[done:n], defs, nil)
			spread(c.longs[done:n], defs, c.max, total, values, -1)
		case *file.Int32ColumnChunkReader:
			total, values, err = r.ReadBatchInPage(want, c.ints[done:n], defs, nil)
			spread(c.ints[done:n], defs, c.max, total, values, -1)
		case *file.ByteArrayColumnChunkReader:
			total, values, err = r.ReadBatchInPage(want, c.texts[done:n], defs, nil)
			spread(c.texts[done:n], defs, c.max, total, values, nil)
			for i := done; i < done+int(total); i++ { // the library reuses what a page is decoded to
				if !slices.Equal(c.last, c.texts[i]) {
					c.last = slices.Clone(c.texts[i])
				}
				c.texts[i] = c.last
			}
		}
		if err != nil {
			return fmt.Errorf("column %s: %w", c.name, err)
		}
		if total <= 0 {
			return fmt.Errorf("column %s has fewer values than its row group has rows", c.name)
		}
		done += int(total)
	}
	return nil
}

// spread moves the values, which come without the nulls, to their rows.
func spread[T any](rows []T, defs []int16, most int16, total int64, values int, null T) {
	if int64(values) == total || most == 0 {
		return
	}
	v := values - 1
	for i := int(total) - 1; i >= 0; i-- {
		if defs[i] == most && v >= 0 {
			rows[i] = rows[v]
			v--
		} else {
			rows[i] = null
		}
	}
}

func (c *column) close() {
	if c != nil {
		_ = c.chunk.Close() // holds no file
	}
}

// object reads an object in the store at will.
type object struct {
	*io.SectionReader
	ctx   context.Context //nolint:containedctx // of one reading: io.ReaderAt has no place for one
	store delta.LogStore
	name  string
	tail  []byte
	from  int64 // of the tail
	err   error // the store's first error, which the Parquet library may hide
}

func openObject(ctx context.Context, store delta.LogStore, name string, size int64) (*object, error) {
	if strings.Contains(name, "://") || strings.HasPrefix(name, "/") {
		return nil, errOtherStore
	}
	o := &object{ctx: ctx, store: store, name: name, from: max(size-fileTail, 0)}
	tail, err := o.get(o.from, size-o.from+1)
	if err != nil {
		return nil, err
	}
	if int64(len(tail)) != size-o.from {
		what := "shorter"
		if int64(len(tail)) > size-o.from {
			what = "longer"
		}
		return nil, &brokenError{fmt.Errorf("it is %s than the %d bytes that the log says", what, size)}
	}
	o.tail = tail
	o.SectionReader = io.NewSectionReader(readerAt{o}, 0, size)
	return o, nil
}

func (o *object) get(from, n int64) ([]byte, error) {
	r, err := o.store.Get(o.ctx, o.name, from, n)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, n))
	return data, errors.Join(err, r.Close())
}

type readerAt struct{ o *object }

func (r readerAt) ReadAt(p []byte, off int64) (int, error) {
	o := r.o
	if off >= o.from {
		n := copy(p, o.tail[off-o.from:])
		if n < len(p) {
			return n, io.EOF
		}
		return n, nil
	}
	body, err := o.store.Get(o.ctx, o.name, off, int64(len(p)))
	if err == nil {
		var n int
		n, err = io.ReadFull(body, p)
		err = errors.Join(err, body.Close())
		if err == nil {
			return n, nil
		}
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			return n, io.ErrUnexpectedEOF
		}
	}
	if o.err == nil && !errors.Is(err, fs.ErrNotExist) {
		o.err = err
	}
	return 0, err
}
