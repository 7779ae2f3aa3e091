package delta

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
)

const (
	// checkpointGroupRows is the length of row groups with files: small enough to be held in memory, compressed, while its
	// columns grow.
	checkpointGroupRows = 1 << 17
	// Rows and bytes of text that are collected before they are encoded.
	checkpointChunkRows  = 4096
	checkpointChunkBytes = 4 << 20
)

// checkpointOutput streams one Parquet file of a log checkpoint into the store. Nothing is visible before close.
type checkpointOutput struct {
	name   string
	to     Writer
	pq     *pqarrow.FileWriter
	schema *arrow.Schema
	rows   int64
	size   int64
	files  bool       // whether rows of files were written
	counts FileCounts // of them
	stones int64      // removes
}

func createCheckpointFile(ctx context.Context, store LogStore, name string, schema *arrow.Schema, codec string) (*checkpointOutput, error) {
	to, err := store.Create(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", name, err)
	}
	o := &checkpointOutput{name: name, to: to, schema: schema}
	o.pq, err = pqarrow.NewFileWriter(schema, (*countedWriter)(o), checkpointProperties(codec), pqarrow.DefaultWriterProps())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("writing %s: %w", name, err), to.Abort())
	}
	return o, nil
}

// checkpointProperties: statistics only where readers skip row groups by them. Texts that never repeat get no dictionary.
func checkpointProperties(codec string) *parquet.WriterProperties {
	props := []parquet.WriterProperty{
		parquet.WithMaxRowGroupLength(checkpointGroupRows), parquet.WithStats(false), parquet.WithStoreDecimalAsInteger(true),
	}
	switch strings.ToLower(codec) {
	case "snappy":
		props = append(props, parquet.WithCompression(compress.Codecs.Snappy))
	case "gzip":
		props = append(props, parquet.WithCompression(compress.Codecs.Gzip))
	case "none", "uncompressed":
		props = append(props, parquet.WithCompression(compress.Codecs.Uncompressed))
	default: // PROTOCOL.md, "Table Properties": zstd unless the table says otherwise
		props = append(props, parquet.WithCompression(compress.Codecs.Zstd), parquet.WithCompressionLevel(1))
	}
	for _, leaf := range []string{"add.path", "remove.path", "txn.appId", "metaData.id", "protocol.minReaderVersion", "domainMetadata.domain", "sidecar.path", "checkpointMetadata.version"} {
		props = append(props, parquet.WithStatsFor(leaf, true))
	}
	for _, leaf := range []string{"add.path", "add.stats", "remove.path", "metaData.schemaString"} {
		props = append(props, parquet.WithDictionaryFor(leaf, false))
	}
	return parquet.NewWriterProperties(props...)
}

// countedWriter hides the store's Close from the Parquet library.
type countedWriter checkpointOutput

func (w *countedWriter) Write(p []byte) (int, error) {
	n, err := w.to.Write(p)
	w.size += int64(n)
	return n, err
}

// write appends a batch of the output's schema.
func (o *checkpointOutput) write(rb arrow.RecordBatch) error {
	if rb.NumRows() == 0 {
		return nil
	}
	if err := o.pq.WriteBuffered(rb); err != nil {
		return fmt.Errorf("writing %s: %w", o.name, err)
	}
	o.rows += rb.NumRows()
	return nil
}

// writeFiles appends rows of adds and removes; the other columns are null.
// They begin a row group of their own, so that who reads only the rest passes over them.
func (o *checkpointOutput) writeFiles(add, remove arrow.Array) error {
	if !o.files && o.rows > 0 {
		if err := o.pq.NewBufferedRowGroupChecked(); err != nil {
			return fmt.Errorf("writing %s: %w", o.name, err)
		}
	}
	o.files = true
	cols := make([]arrow.Array, o.schema.NumFields())
	for i, f := range o.schema.Fields() {
		switch f.Name {
		case "add":
			cols[i] = add
		case "remove":
			cols[i] = remove
		default:
			cols[i] = array.MakeArrayOfNull(memory.DefaultAllocator, f.Type, add.Len())
			defer cols[i].Release()
		}
	}
	rb := array.NewRecordBatch(o.schema, cols, int64(add.Len()))
	defer rb.Release()
	return o.write(rb)
}

// close publishes the file.
func (o *checkpointOutput) close() error {
	if err := o.pq.Close(); err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", o.name, err), o.to.Abort())
	}
	if err := o.to.Close(); err != nil {
		return fmt.Errorf("publishing %s: %w", o.name, err)
	}
	return nil
}

// abort leaves nothing behind. The Parquet library must be closed too, for its buffers.
func (o *checkpointOutput) abort() {
	_ = o.pq.Close()
	_ = o.to.Abort()
}
