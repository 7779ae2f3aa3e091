package delta

import (
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Access to file actions in Arrow batches of log checkpoints. Columns and fields that are missing, or of a type that makes
// no sense, read as null (PROTOCOL.md, "Checkpoints": any missing column should be treated as null).

func structAt(rb arrow.RecordBatch, name string) *array.Struct {
	for i, f := range rb.Schema().Fields() {
		if s, ok := rb.Column(i).(*array.Struct); ok && f.Name == name {
			return s
		}
	}
	return nil
}

func fieldAt(s *array.Struct, name string) arrow.Array {
	if s == nil {
		return nil
	}
	i, ok := s.DataType().(*arrow.StructType).FieldIdx(name)
	if !ok {
		return nil
	}
	return s.Field(i)
}

func childAt(s *array.Struct, name string) *array.Struct {
	c, _ := fieldAt(s, name).(*array.Struct)
	return c
}

// addAt decodes a row's add; nil when it has none. Its path decides: some writers store the structs of other actions as
// not null.
func addAt(s *array.Struct, row int) *Add {
	path, ok := textAt(s, "path", row)
	if s == nil || s.IsNull(row) || !ok {
		return nil
	}
	a := &Add{
		Path: path, PartitionValues: mapAt(s, "partitionValues", row), Tags: plainMap(mapAt(s, "tags", row)),
		BaseRowID: intAt(s, "baseRowId", row), DefaultRowCommitVersion: intAt(s, "defaultRowCommitVersion", row),
		DeletionVector: dvAt(childAt(s, "deletionVector"), row),
	}
	a.Stats, _ = textAt(s, "stats", row)
	if a.Stats == "" {
		a.Stats = statsText(childAt(s, "stats_parsed"), row)
	}
	a.ClusteringProvider, _ = textAt(s, "clusteringProvider", row)
	if v := intAt(s, "size", row); v != nil {
		a.Size = *v
	}
	if v := intAt(s, "modificationTime", row); v != nil {
		a.ModificationTime = *v
	}
	return a
}

func removeAt(s *array.Struct, row int) *Remove {
	path, ok := textAt(s, "path", row)
	if s == nil || s.IsNull(row) || !ok {
		return nil
	}
	r := &Remove{
		Path: path, DeletionTimestamp: intAt(s, "deletionTimestamp", row), PartitionValues: mapAt(s, "partitionValues", row),
		Size: intAt(s, "size", row), DeletionVector: dvAt(childAt(s, "deletionVector"), row),
		BaseRowID: intAt(s, "baseRowId", row), DefaultRowCommitVersion: intAt(s, "defaultRowCommitVersion", row),
	}
	if b, ok := fieldAt(s, "extendedFileMetadata").(*array.Boolean); ok && b.IsValid(row) {
		v := b.Value(row)
		r.ExtendedFileMetadata = &v
	}
	return r
}

func dvAt(s *array.Struct, row int) *DeletionVector {
	if s == nil || s.IsNull(row) {
		return nil
	}
	storage, ok := textAt(s, "storageType", row)
	if !ok {
		return nil
	}
	d := &DeletionVector{StorageType: storage}
	d.PathOrInlineDv, _ = textAt(s, "pathOrInlineDv", row)
	if v := intAt(s, "offset", row); v != nil {
		o := int32(*v)
		d.Offset = &o
	}
	if v := intAt(s, "sizeInBytes", row); v != nil {
		d.SizeInBytes = int32(*v)
	}
	if v := intAt(s, "cardinality", row); v != nil {
		d.Cardinality = *v
	}
	return d
}

func textAt(s *array.Struct, name string, row int) (string, bool) {
	return cellText(fieldAt(s, name), row)
}

// cellText copies a text out of any of Arrow's arrays of them.
func cellText(a arrow.Array, row int) (string, bool) {
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
		return cellText(a.Dictionary(), a.GetValueIndex(row))
	}
	return "", false
}

func intAt(s *array.Struct, name string, row int) *int64 {
	a := fieldAt(s, name)
	if a == nil || a.IsNull(row) {
		return nil
	}
	var v int64
	switch a := a.(type) {
	case *array.Int64:
		v = a.Value(row)
	case *array.Int32:
		v = int64(a.Value(row))
	default:
		return nil
	}
	return &v
}

func mapAt(s *array.Struct, name string, row int) map[string]*string {
	m, ok := fieldAt(s, name).(*array.Map)
	if !ok || m.IsNull(row) {
		return nil
	}
	out := map[string]*string{}
	from, to := m.ValueOffsets(row)
	for i := from; i < to; i++ {
		key, _ := cellText(m.Keys(), int(i))
		if value, ok := cellText(m.Items(), int(i)); ok {
			out[key] = &value
		} else {
			out[key] = nil
		}
	}
	return out
}

// plainMap leaves out entries without a value.
func plainMap(m map[string]*string) map[string]string {
	if m == nil {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		if v != nil {
			out[k] = *v
		}
	}
	return out
}
