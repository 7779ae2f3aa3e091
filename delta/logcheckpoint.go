package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
)

// Columns of a log checkpoint that are read (PROTOCOL.md, "Checkpoint Schema"). A name stands for the whole column below
// it. The typed copies of statistics and partition values are not needed, but for the number of records, which some
// tables keep only there.
var (
	stateColumns = []string{"protocol", "metaData", "txn", "domainMetadata"}
	fileColumns  = []string{
		"add.path", "add.partitionValues", "add.size", "add.modificationTime", "add.dataChange", "add.stats", "add.tags",
		"add.deletionVector", "add.baseRowId", "add.defaultRowCommitVersion", "add.clusteringProvider",
		"add.stats_parsed.numRecords", "sidecar.path",
	}
	totalColumns = []string{
		"add.path", "add.size", "add.stats", "add.deletionVector", "add.stats_parsed.numRecords", "sidecar.path",
	}
)

// checkpointBatchRows bounds the memory of reading a log checkpoint: rows decoded at a time.
const checkpointBatchRows = 4096

// wholeCheckpoint is the size up to which a log checkpoint is fetched with one read. A larger one is read column chunk by
// column chunk through buffers of checkpointBuffer bytes. A variable for the tests' sake.
var wholeCheckpoint int64 = 8 << 20

const checkpointBuffer = 1 << 20

// readLogCheckpoint calls visit with batches of the wanted columns of one file of a classic log checkpoint.
func readLogCheckpoint(
	ctx context.Context, store LogStore, f checkpointFile, columns []string, mem memory.Allocator, visit func(arrow.RecordBatch) error,
) error {
	src, err := openRanged(ctx, store, f)
	if err != nil {
		return err
	}
	var rr pqarrow.RecordReader
	if err := src.guard(func() (err error) {
		rr, err = recordReader(ctx, src, columns, mem)
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

// recordReader opens the projection of one Parquet file; nil when it has no such column or no row.
func recordReader(ctx context.Context, src *rangedObject, columns []string, mem memory.Allocator) (pqarrow.RecordReader, error) {
	props := parquet.NewReaderProperties(mem)
	if src.Size() > wholeCheckpoint {
		props.BufferedStreamEnabled, props.BufferSize = true, checkpointBuffer
	}
	pf, err := file.NewParquetReader(src, file.WithReadProps(props))
	if err != nil {
		return nil, err
	}
	fr, err := pqarrow.NewFileReader(pf, pqarrow.ArrowReadProperties{BatchSize: checkpointBatchRows}, mem)
	if err != nil {
		return nil, err
	}
	var leaves []int
	for i := range pf.MetaData().Schema.NumColumns() {
		if wanted(pf.MetaData().Schema.Column(i).ColumnPath(), columns) {
			leaves = append(leaves, i)
		}
	}
	if len(leaves) == 0 || pf.NumRows() == 0 {
		return nil, nil
	}
	return fr.GetRecordReader(ctx, leaves, nil)
}

func wanted(path parquet.ColumnPath, columns []string) bool {
	p := path.String()
	for _, c := range columns {
		if p == c || strings.HasPrefix(p, c) && p[len(c)] == '.' {
			return true
		}
	}
	return false
}

// rangedObject reads an object in the store at will, as Parquet needs it. There is nothing to close.
type rangedObject struct {
	*io.SectionReader
	at *storeReaderAt
}

type storeReaderAt struct {
	ctx   context.Context //nolint:containedctx // of one reading: io.ReaderAt has no place for one
	store LogStore
	name  string
	err   error // the store's first error, which the Parquet library may hide
}

func openRanged(ctx context.Context, store LogStore, f checkpointFile) (*rangedObject, error) {
	at := &storeReaderAt{ctx: ctx, store: store, name: f.name}
	if f.size > wholeCheckpoint {
		return &rangedObject{io.NewSectionReader(at, 0, f.size), at}, nil
	}
	data, err := readObject(ctx, store, f.name)
	if err != nil {
		return nil, fmt.Errorf("reading the log checkpoint %s: %w", f.name, err)
	}
	return &rangedObject{io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data))), at}, nil
}

func (s *storeReaderAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.read(p, off)
	if err != nil && !errors.Is(err, io.EOF) && s.err == nil {
		s.err = err
	}
	return n, err
}

func (s *storeReaderAt) read(p []byte, off int64) (int, error) {
	r, err := s.store.Get(s.ctx, s.name, off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	n, err := io.ReadFull(r, p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, errors.Join(err, r.Close())
}

// guard runs a piece of the Parquet library, which panics on some corrupt files. It tells a store that failed, where trying
// again helps, from a file that is broken, where it does not.
func (o *rangedObject) guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
		switch {
		case err == nil:
		case o.at.err != nil:
			err = fmt.Errorf("reading the log checkpoint %s: %w", o.at.name, o.at.err)
		case o.at.ctx.Err() != nil:
			err = o.at.ctx.Err()
		default:
			err = corruptf("log checkpoint %s: %w", o.at.name, err)
		}
	}()
	if err := o.at.ctx.Err(); err != nil {
		return err
	}
	return f()
}

// rows gives access to a struct column, or nothing at all when the column is missing or null: then every field reads as
// absent, as the protocol asks for missing columns.
type rows struct{ s *array.Struct }

func column(rb arrow.RecordBatch, name string) rows {
	for i, f := range rb.Schema().Fields() {
		if s, ok := rb.Column(i).(*array.Struct); ok && f.Name == name {
			return rows{s}
		}
	}
	return rows{}
}

func (r rows) field(name string) arrow.Array {
	if r.s == nil {
		return nil
	}
	i, ok := r.s.DataType().(*arrow.StructType).FieldIdx(name)
	if !ok {
		return nil
	}
	return r.s.Field(i)
}

func (r rows) child(name string) rows {
	s, _ := r.field(name).(*array.Struct)
	return rows{s}
}

// absent reports whether the struct itself is null in a row.
func (r rows) absent(row int) bool { return r.s == nil || r.s.IsNull(row) }

func (r rows) str(name string, row int) (string, bool) { return stringAt(r.field(name), row) }

func (r rows) text(name string, row int) string {
	s, _ := r.str(name, row)
	return s
}

func (r rows) int(name string, row int) (int64, bool) {
	a := r.field(name)
	if a == nil || a.IsNull(row) {
		return 0, false
	}
	switch a := a.(type) {
	case *array.Int64:
		return a.Value(row), true
	case *array.Int32:
		return int64(a.Value(row)), true
	}
	return 0, false
}

func (r rows) intPtr(name string, row int) *int64 {
	if v, ok := r.int(name, row); ok {
		return &v
	}
	return nil
}

func (r rows) bool(name string, row int) bool {
	a, ok := r.field(name).(*array.Boolean)
	return ok && a.IsValid(row) && a.Value(row)
}

// stringAt copies a string out of any of Arrow's string-like arrays.
func stringAt(a arrow.Array, row int) (string, bool) {
	if a == nil || a.IsNull(row) {
		return "", false
	}
	switch a := a.(type) {
	case *array.String:
		return strings.Clone(a.Value(row)), true
	case *array.LargeString:
		return strings.Clone(a.Value(row)), true
	case *array.StringView:
		return strings.Clone(a.Value(row)), true
	case *array.Binary:
		return string(a.Value(row)), true
	case *array.Dictionary:
		return stringAt(a.Dictionary(), a.GetValueIndex(row))
	}
	return "", false
}

func (r rows) strings(name string, row int) []string {
	l, ok := r.field(name).(array.ListLike)
	if !ok || l.IsNull(row) {
		return nil
	}
	from, to := l.ValueOffsets(row)
	out := make([]string, 0, to-from)
	for i := from; i < to; i++ {
		if s, ok := stringAt(l.ListValues(), int(i)); ok {
			out = append(out, s)
		}
	}
	return out
}

// entries calls visit for every entry of a map column's row; false when the map is null or missing.
func (r rows) entries(name string, row int, visit func(key string, value *string)) bool {
	m, ok := r.field(name).(*array.Map)
	if !ok || m.IsNull(row) {
		return false
	}
	from, to := m.ValueOffsets(row)
	for i := from; i < to; i++ {
		key, _ := stringAt(m.Keys(), int(i))
		if value, ok := stringAt(m.Items(), int(i)); ok {
			visit(key, &value)
		} else {
			visit(key, nil)
		}
	}
	return true
}

func (r rows) stringMap(name string, row int) map[string]string {
	out := map[string]string{}
	if !r.entries(name, row, func(k string, v *string) {
		if v != nil {
			out[k] = *v
		}
	}) {
		return nil
	}
	return out
}

// checkpointState collects what a log checkpoint says besides files into a commit: like a commit of all versions so far.
// A struct counts as present when its required field is: some writers store the structs of other actions as not null.
func checkpointState(rb arrow.RecordBatch, c *Commit) error {
	protocol, metadata, txn, domain := column(rb, "protocol"), column(rb, "metaData"), column(rb, "txn"), column(rb, "domainMetadata")
	for row := range int(rb.NumRows()) {
		if !protocol.absent(row) {
			if reader, ok := protocol.int("minReaderVersion", row); ok {
				writer, _ := protocol.int("minWriterVersion", row)
				c.Protocol = &Protocol{
					MinReaderVersion: int(reader), MinWriterVersion: int(writer),
					ReaderFeatures: protocol.strings("readerFeatures", row), WriterFeatures: protocol.strings("writerFeatures", row),
				}
				if err := c.Protocol.check(); err != nil {
					return err
				}
			}
		}
		if !metadata.absent(row) {
			if id, ok := metadata.str("id", row); ok {
				format := metadata.child("format")
				c.Metadata = &Metadata{
					ID: id, Name: metadata.text("name", row), Description: metadata.text("description", row),
					Format:       Format{Provider: format.text("provider", row), Options: format.stringMap("options", row)},
					SchemaString: metadata.text("schemaString", row), PartitionColumns: metadata.strings("partitionColumns", row),
					CreatedTime: metadata.intPtr("createdTime", row), Configuration: metadata.stringMap("configuration", row),
				}
				if err := c.Metadata.check(); err != nil {
					return err
				}
			}
		}
		if !txn.absent(row) {
			if id, ok := txn.str("appId", row); ok {
				version, ok := txn.int("version", row)
				if !ok {
					return fmt.Errorf("txn of %q without version", id)
				}
				c.Txns = append(c.Txns, Txn{AppID: id, Version: version, LastUpdated: txn.intPtr("lastUpdated", row)})
			}
		}
		if !domain.absent(row) {
			if name, ok := domain.str("domain", row); ok {
				c.Domains = append(c.Domains, DomainMetadata{
					Domain: name, Configuration: domain.text("configuration", row), Removed: domain.bool("removed", row),
				})
			}
		}
	}
	return nil
}

// checkpointAdds calls visit for every add of a batch until it returns false.
func checkpointAdds(rb arrow.RecordBatch, visit func(*Add) bool) (bool, error) {
	add, sidecar := column(rb, "add"), column(rb, "sidecar")
	dv, parsed := add.child("deletionVector"), add.child("stats_parsed")
	for row := range int(rb.NumRows()) {
		if name, ok := sidecar.str("path", row); ok && !sidecar.absent(row) {
			return false, &UnsupportedError{
				Features: []string{"v2Checkpoint"}, Detail: "the log checkpoint keeps its files in the sidecar " + name,
				Remedy: "set delta.checkpointPolicy = classic and write a new log checkpoint",
			}
		}
		if add.absent(row) {
			continue
		}
		path, ok := add.str("path", row)
		if !ok {
			continue
		}
		a := &Add{
			Path: path, PartitionValues: map[string]*string{}, DataChange: add.bool("dataChange", row),
			Stats: add.text("stats", row), Tags: add.stringMap("tags", row), BaseRowID: add.intPtr("baseRowId", row),
			DefaultRowCommitVersion: add.intPtr("defaultRowCommitVersion", row), ClusteringProvider: add.text("clusteringProvider", row),
			DeletionVector: checkpointDV(dv, row),
		}
		a.Size, _ = add.int("size", row)
		a.ModificationTime, _ = add.int("modificationTime", row)
		add.entries("partitionValues", row, func(k string, v *string) { a.PartitionValues[k] = v })
		if n, ok := parsed.int("numRecords", row); ok && a.Stats == "" {
			a.Stats = `{"numRecords":` + strconv.FormatInt(n, 10) + `}`
		}
		if !visit(a) {
			return false, nil
		}
	}
	return true, nil
}

func checkpointDV(dv rows, row int) *DeletionVector {
	if dv.absent(row) {
		return nil
	}
	storage, ok := dv.str("storageType", row)
	if !ok {
		return nil
	}
	d := &DeletionVector{StorageType: storage, PathOrInlineDv: dv.text("pathOrInlineDv", row)}
	if offset, ok := dv.int("offset", row); ok {
		o := int32(offset)
		d.Offset = &o
	}
	size, _ := dv.int("sizeInBytes", row)
	d.SizeInBytes = int32(size)
	d.Cardinality, _ = dv.int("cardinality", row)
	return d
}
