package delta

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// checkpointRows collects actions as rows of a log checkpoint: one row for each, in which all other actions are null.
// It is not goroutine-safe. Columns that the schema lacks are left out.
type checkpointRows struct {
	schema *checkpointSchema
	arrow  *arrow.Schema
	cols   []structRows // in the order of the Arrow schema
	rows   int
	bytes  int // of the texts in it, roughly
}

// structRows builds one struct column. Its fields are filled by position with set, which is the order of the type.
type structRows struct {
	b    *array.StructBuilder
	rows int // filled, which lag behind while other actions are added
}

func newCheckpointRows(cs *checkpointSchema, schema *arrow.Schema) *checkpointRows {
	r := &checkpointRows{schema: cs, arrow: schema, cols: make([]structRows, schema.NumFields())}
	for i, f := range schema.Fields() {
		r.cols[i].b = array.NewStructBuilder(memory.DefaultAllocator, f.Type.(*arrow.StructType))
	}
	return r
}

func (r *checkpointRows) release() {
	for i := range r.cols {
		r.cols[i].b.Release()
	}
}

// begin starts a row of an action and gives its builder.
func (r *checkpointRows) begin(name string) *array.StructBuilder {
	i := r.arrow.FieldIndices(name)[0]
	c := &r.cols[i]
	c.b.AppendNulls(r.rows - c.rows)
	c.b.Append(true)
	r.rows++
	c.rows = r.rows
	return c.b
}

// take gives what was collected and starts anew.
func (r *checkpointRows) take() arrow.RecordBatch {
	arrays := make([]arrow.Array, len(r.cols))
	for i := range r.cols {
		c := &r.cols[i]
		c.b.AppendNulls(r.rows - c.rows)
		c.rows = 0
		arrays[i] = c.b.NewArray()
		defer arrays[i].Release()
	}
	n := r.rows
	r.rows, r.bytes = 0, 0
	return array.NewRecordBatch(r.arrow, arrays, int64(n))
}

// add takes dataChange as false: in a state nothing changes (Spark does the same).
func (r *checkpointRows) add(a *Add) {
	b := r.begin("add")
	r.bytes += len(a.Path) + len(a.Stats)
	setText(b, 0, a.Path)
	setNullableMap(b, 1, a.PartitionValues)
	setInt(b, 2, a.Size)
	setInt(b, 3, a.ModificationTime)
	setBool(b, 4, false)
	setMap(b, 5, a.Tags)
	setDV(b, 6, a.DeletionVector)
	setIntPtr(b, 7, a.BaseRowID)
	setIntPtr(b, 8, a.DefaultRowCommitVersion)
	setOptional(b, 9, a.ClusteringProvider)
	next := 10
	if r.schema.statsJSON {
		setOptional(b, next, a.Stats)
		next++
	}
	if r.schema.parts != nil {
		appendPartitions(b.FieldBuilder(next).(*array.StructBuilder), a.PartitionValues)
		next++
	}
	if r.schema.stats != nil {
		appendStats(b.FieldBuilder(next).(*array.StructBuilder), a.Stats)
	}
}

func (r *checkpointRows) remove(t *Remove) {
	b := r.begin("remove")
	r.bytes += len(t.Path)
	setText(b, 0, t.Path)
	setIntPtr(b, 1, t.DeletionTimestamp)
	setBool(b, 2, false)
	if t.ExtendedFileMetadata == nil {
		b.FieldBuilder(3).AppendNull()
	} else {
		setBool(b, 3, *t.ExtendedFileMetadata)
	}
	setNullableMap(b, 4, t.PartitionValues)
	setIntPtr(b, 5, t.Size)
	setDV(b, 6, t.DeletionVector)
	setIntPtr(b, 7, t.BaseRowID)
	setIntPtr(b, 8, t.DefaultRowCommitVersion)
}

// state adds the actions that are not files. A txn that expired before txnsSince, in milliseconds, is left out, and so is
// one that does not say when it was made (delta.setTransactionRetentionDuration, as delta-io/delta pull request 1167).
func (r *checkpointRows) state(s *state, txnsSince *int64) {
	p := r.begin("protocol")
	setInt(p, 0, int64(s.protocol.MinReaderVersion))
	setInt(p, 1, int64(s.protocol.MinWriterVersion))
	setList(p, 2, s.protocol.ReaderFeatures, s.protocol.MinReaderVersion >= 3)
	setList(p, 3, s.protocol.WriterFeatures, s.protocol.MinWriterVersion >= 7)
	m := r.begin("metaData")
	setText(m, 0, s.metadata.ID)
	setOptional(m, 1, s.metadata.Name)
	setOptional(m, 2, s.metadata.Description)
	format := m.FieldBuilder(3).(*array.StructBuilder)
	format.Append(true)
	setText(format, 0, s.metadata.Format.Provider)
	setMap(format, 1, orEmpty(s.metadata.Format.Options))
	setText(m, 4, s.metadata.SchemaString)
	setList(m, 5, s.metadata.PartitionColumns, true)
	setMap(m, 6, orEmpty(s.metadata.Configuration))
	setIntPtr(m, 7, s.metadata.CreatedTime)
	for t := range s.Txns() {
		if txnsSince != nil && (t.LastUpdated == nil || *t.LastUpdated <= *txnsSince) {
			continue
		}
		b := r.begin("txn")
		setText(b, 0, t.AppID)
		setInt(b, 1, t.Version)
		setIntPtr(b, 2, t.LastUpdated)
	}
	for d := range s.Domains() {
		b := r.begin("domainMetadata")
		setText(b, 0, d.Domain)
		setText(b, 1, d.Configuration)
		setBool(b, 2, false)
	}
}

// checkpointMetadata is the row that makes a checkpoint one of the V2 spec (PROTOCOL.md, "Checkpoint Metadata").
func (r *checkpointRows) checkpointMetadata(version int64, tags map[string]string) {
	b := r.begin("checkpointMetadata")
	setInt(b, 0, version)
	setMap(b, 1, tags)
}

func (r *checkpointRows) sidecar(s *Sidecar) {
	b := r.begin("sidecar")
	setText(b, 0, s.Path)
	setInt(b, 1, s.SizeInBytes)
	setInt(b, 2, s.ModificationTime)
	setMap(b, 3, s.Tags)
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func setText(b *array.StructBuilder, i int, v string) {
	b.FieldBuilder(i).(*array.StringBuilder).Append(v)
}

// setOptional writes null for the empty text.
func setOptional(b *array.StructBuilder, i int, v string) {
	if v == "" {
		b.FieldBuilder(i).AppendNull()
		return
	}
	setText(b, i, v)
}

func setInt(b *array.StructBuilder, i int, v int64) {
	switch f := b.FieldBuilder(i).(type) {
	case *array.Int64Builder:
		f.Append(v)
	case *array.Int32Builder:
		f.Append(int32(v))
	}
}

func setIntPtr(b *array.StructBuilder, i int, v *int64) {
	if v == nil {
		b.FieldBuilder(i).AppendNull()
		return
	}
	setInt(b, i, *v)
}

func setBool(b *array.StructBuilder, i int, v bool) {
	b.FieldBuilder(i).(*array.BooleanBuilder).Append(v)
}

func setList(b *array.StructBuilder, i int, values []string, present bool) {
	l := b.FieldBuilder(i).(*array.ListBuilder)
	l.Append(present)
	if !present {
		return
	}
	for _, v := range values {
		l.ValueBuilder().(*array.StringBuilder).Append(v)
	}
}

func setMap(b *array.StructBuilder, i int, values map[string]string) {
	m := b.FieldBuilder(i).(*array.MapBuilder)
	m.Append(values != nil)
	for k, v := range values {
		m.KeyBuilder().(*array.StringBuilder).Append(k)
		m.ItemBuilder().(*array.StringBuilder).Append(v)
	}
}

func setNullableMap(b *array.StructBuilder, i int, values map[string]*string) {
	m := b.FieldBuilder(i).(*array.MapBuilder)
	m.Append(values != nil)
	for k, v := range values {
		m.KeyBuilder().(*array.StringBuilder).Append(k)
		if v == nil {
			m.ItemBuilder().AppendNull()
		} else {
			m.ItemBuilder().(*array.StringBuilder).Append(*v)
		}
	}
}

func setDV(b *array.StructBuilder, i int, d *DeletionVector) {
	dv := b.FieldBuilder(i).(*array.StructBuilder)
	if d == nil {
		dv.AppendNull()
		return
	}
	dv.Append(true)
	setText(dv, 0, d.StorageType)
	setText(dv, 1, d.PathOrInlineDv)
	if d.Offset == nil {
		dv.FieldBuilder(2).AppendNull()
	} else {
		setInt(dv, 2, int64(*d.Offset))
	}
	setInt(dv, 3, int64(d.SizeInBytes))
	setInt(dv, 4, d.Cardinality)
}
