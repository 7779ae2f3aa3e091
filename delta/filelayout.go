package delta

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/delta/variant"
)

// ParquetFieldIDKey is the key in arrow.Field.Metadata under which a Parquet writer of Arrow takes a field's field_id.
const ParquetFieldIDKey = "PARQUET:field_id"

// FileLayout says what a data file and its add action must look like in a table, as its features and properties ask.
type FileLayout struct {
	// Schema is that of the Parquet files: the table's columns without the partition columns, and after them the partition
	// columns where Materialized. With column mapping it has the physical names at every depth, and every field that has an
	// id carries it under ParquetFieldIDKey (PROTOCOL.md, "Writer Requirements for Column Mapping"), elements, keys and
	// values too (PROTOCOL.md, "Writer Requirements for IcebergCompatV2").
	Schema *arrow.Schema
	// Columns tells for each field of Schema which column of the table it holds.
	Columns []int
	// Partitions are the partition columns in their order.
	Partitions []PartitionColumn
	// Materialized says that the data files hold the partition columns too.
	Materialized bool
	// Stats tells for each leaf of Schema whether it gets statistics. A leaf is what is no struct: lists and maps are leaves.
	Stats []bool
	// TightBounds says that statistics tell so (PROTOCOL.md, "Per-file Statistics").
	TightBounds bool
	// RandomPrefix is the length of the random folder name that replaces the partition folders; 0 where those are used.
	RandomPrefix int

	mapping    string        // column mapping mode
	widening   bool          // readers convert values of files with narrower types
	partitions []arrow.Field // as they are or would be in data files
	clustering []string      // physical paths of the clustering columns, as pathKey spells them
	indexed    []string      // physical paths of the leaves with statistics
}

// PartitionColumn is a partition column of a table.
type PartitionColumn struct {
	Name     string // in the table's schema
	Physical string // key in add.partitionValues and name of its folders
	Column   int    // of the table
}

// FileLayout gives the layout of the data files that an append to this version writes. It fails where the table's
// properties or metadata leave open what that is.
func (s *state) FileLayout() (*FileLayout, error) {
	l := &FileLayout{
		TightBounds: s.supports("deletionVectors"), Materialized: s.materializesPartitions(), mapping: s.columnMappingMode(),
		widening: s.supports("typeWidening") || s.supports("typeWidening-preview"),
	}
	var err error
	if l.RandomPrefix, err = s.randomPrefix(); err != nil {
		return nil, err
	}
	fields := s.schema.Fields()
	physical := make([]arrow.Field, len(fields))
	for i, f := range fields {
		if physical[i], err = l.fileField(f, f.Name); err != nil {
			return nil, err
		}
	}
	var data []arrow.Field
	for i, f := range fields {
		if !slices.Contains(s.metadata.PartitionColumns, f.Name) {
			data, l.Columns = append(data, physical[i]), append(l.Columns, i)
		}
	}
	if err := s.chooseStats(l, data); err != nil {
		return nil, err
	}
	for _, name := range s.metadata.PartitionColumns {
		i := slices.IndexFunc(fields, func(f arrow.Field) bool { return f.Name == name })
		l.Partitions = append(l.Partitions, PartitionColumn{Name: name, Physical: physical[i].Name, Column: i})
		l.partitions = append(l.partitions, physical[i])
		if l.Materialized {
			data, l.Columns, l.Stats = append(data, physical[i]), append(l.Columns, i), append(l.Stats, false)
		}
	}
	l.Schema = arrow.NewSchema(data, nil)
	return l, nil
}

// materializesPartitions says whether the data files must hold the partition columns: PROTOCOL.md, "Writer Requirements
// for IcebergCompatV1" and V2, and the feature materializePartitionColumns with its property, of which only
// protocol_rfcs/materialize-partition-columns.md tells yet.
func (s *state) materializesPartitions() bool {
	return s.icebergCompatible() || s.supports("materializePartitionColumns") || s.isTrue("delta.writePartitionColumnsToParquet")
}

// randomPrefix is the length of the random folder that every data file gets where the table asks for it, or has column
// mapping: a folder by partition value would show a name that is not the column's, so Spark makes none there
// (TransactionalWrite.getCommitter).
func (s *state) randomPrefix() (int, error) {
	if !s.isTrue("delta.randomizeFilePrefixes") && s.columnMappingMode() == "none" {
		return 0, nil
	}
	const property, spark = "delta.randomPrefixLength", 2
	v, ok := s.metadata.Configuration[property]
	if !ok {
		return spark, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > maxFolderName {
		return 0, fmt.Errorf("the table property %s is %q: set it to a number from 1 to %d", property, v, maxFolderName)
	}
	return n, nil
}

// fileField is a column or field as data files hold it: with no metadata but its id.
func (l *FileLayout) fileField(f arrow.Field, path string) (arrow.Field, error) {
	out := arrow.Field{Name: f.Name, Nullable: f.Nullable}
	var ids map[string]int32
	if l.mapping != "none" {
		if _, ok := fieldMetadataOf(f, physicalNameKey); !ok {
			return f, corruptf("column %s has no %s, but the table has column mapping", path, physicalNameKey)
		}
		id, ok := fieldID(f)
		if !ok {
			return f, corruptf("column %s has no %s, but the table has column mapping", path, columnIDKey)
		}
		out.Name, out.Metadata, ids = physicalName(f), parquetFieldID(id), nestedIDs(f)
	}
	var err error
	out.Type, err = l.fileType(f.Type, path, out.Name, ids)
	return out, err
}

// fileType maps what is inside of a column; key is the path of its ids in delta.columnMapping.nested.ids.
func (l *FileLayout) fileType(t arrow.DataType, path, key string, ids map[string]int32) (arrow.DataType, error) {
	inner := func(f arrow.Field, step string) (arrow.Field, error) {
		var err error
		f.Metadata = arrow.Metadata{}
		if id, ok := ids[joinPath(key, step)]; ok {
			f.Metadata = parquetFieldID(id)
		}
		f.Type, err = l.fileType(f.Type, joinPath(path, step), joinPath(key, step), ids)
		return f, err
	}
	switch t := t.(type) {
	case *arrow.StructType:
		fields := make([]arrow.Field, t.NumFields())
		for i, f := range t.Fields() {
			var err error
			if fields[i], err = l.fileField(f, joinPath(path, f.Name)); err != nil {
				return nil, err
			}
		}
		return arrow.StructOf(fields...), nil
	case *arrow.ListType:
		element, err := inner(t.ElemField(), "element")
		return arrow.ListOfField(element), err
	case *arrow.MapType:
		k, err := inner(t.KeyField(), "key")
		if err != nil {
			return nil, err
		}
		v, err := inner(t.ItemField(), "value")
		if err != nil {
			return nil, err
		}
		m := arrow.MapOfWithMetadata(k.Type, k.Metadata, v.Type, v.Metadata)
		m.SetItemNullable(v.Nullable)
		return m, nil
	case *variant.Type:
		return variant.Storage, nil
	}
	return t, nil
}

func parquetFieldID(id int32) arrow.Metadata {
	return arrow.NewMetadata([]string{ParquetFieldIDKey}, []string{strconv.Itoa(int(id))})
}

// Equal reports whether both ask the same of files and add actions.
func (l *FileLayout) Equal(o *FileLayout) bool {
	sameField := func(x, y arrow.Field) bool {
		return x.Name == y.Name && x.Nullable == y.Nullable && sameType(x, y)
	}
	return slices.EqualFunc(l.Schema.Fields(), o.Schema.Fields(), sameField) && slices.Equal(l.Columns, o.Columns) &&
		slices.EqualFunc(l.partitions, o.partitions, sameField) && slices.Equal(l.Partitions, o.Partitions) &&
		l.Materialized == o.Materialized && slices.Equal(l.Stats, o.Stats) && slices.Equal(l.clustering, o.clustering) &&
		l.TightBounds == o.TightBounds && l.RandomPrefix == o.RandomPrefix && l.mapping == o.mapping
}

// sameType compares types and ids of two fields of data files, nested ones too.
func sameType(a, b arrow.Field) bool {
	return a.Metadata.Equal(b.Metadata) && arrow.TypeEqual(a.Type, b.Type, arrow.CheckMetadata())
}

// Misfit says why files that were written under this layout can't be appended to the table under a newer one of its
// layouts; "" where they can, because what has changed asks nothing of them: readers give null for a column that a file
// does not have, read columns by name or id in any order, with column mapping never look at a column that was dropped, and
// with type widening convert to the wider type.
func (l *FileLayout) Misfit(table *FileLayout) string {
	switch {
	case l.mapping != table.mapping:
		return fmt.Sprintf("the column mapping has changed from %s to %s", l.mapping, table.mapping)
	case table.Materialized && !l.Materialized:
		return "the table now wants its partition columns in the data files"
	case !slices.EqualFunc(l.partitions, table.partitions, func(a, b arrow.Field) bool { return a.Name == b.Name && sameType(a, b) }):
		return "the partition columns have changed"
	}
	for i, p := range table.partitions {
		if l.partitions[i].Nullable && !p.Nullable {
			return fmt.Sprintf("column %s is NOT NULL now", p.Name)
		}
	}
	if reason := table.misfitOfFields(l.data(), table.data(), ""); reason != "" {
		return reason
	}
	for _, path := range table.clustering {
		if !slices.Contains(l.indexed, path) {
			return "the table is clustered by a column now that has no statistics in the files"
		}
	}
	return ""
}

// data are the fields of the data files without partition columns.
func (l *FileLayout) data() []arrow.Field {
	fields := l.Schema.Fields()
	if l.Materialized {
		fields = fields[:len(fields)-len(l.partitions)]
	}
	return fields
}

func (l *FileLayout) misfitOfFields(have, want []arrow.Field, path string) string {
	shared := 0
	for _, w := range want {
		p := joinPath(path, w.Name)
		i := slices.IndexFunc(have, func(f arrow.Field) bool { return f.Name == w.Name })
		if i < 0 {
			if !w.Nullable {
				return fmt.Sprintf("column %s is new and NOT NULL", p)
			}
			continue
		}
		shared++
		if have[i].Nullable && !w.Nullable {
			return fmt.Sprintf("column %s is NOT NULL now", p)
		}
		if reason := l.misfitOfField(have[i], w, p); reason != "" {
			return reason
		}
	}
	if shared == 0 { // readers take a struct without any column that they look for to be null
		return strings.TrimSpace("no column is left of what the files hold " + path)
	}
	if shared < len(have) && l.mapping == "none" {
		return strings.TrimSpace("a column was dropped or renamed " + path)
	}
	return ""
}

// misfitOfField compares ids and types of one column.
func (l *FileLayout) misfitOfField(have, want arrow.Field, path string) string {
	haveID, _ := have.Metadata.GetValue(ParquetFieldIDKey)
	if wantID, ok := want.Metadata.GetValue(ParquetFieldIDKey); ok && haveID != wantID {
		return fmt.Sprintf("column %s has another column id", path)
	}
	inner := func(h, w arrow.Field, step string) string {
		p := joinPath(path, step)
		if h.Nullable && !w.Nullable {
			return fmt.Sprintf("column %s may not be null any more", p)
		}
		return l.misfitOfField(h, w, p)
	}
	if have.Type.ID() == want.Type.ID() {
		switch w := want.Type.(type) {
		case *arrow.StructType:
			return l.misfitOfFields(have.Type.(*arrow.StructType).Fields(), w.Fields(), path)
		case *arrow.ListType:
			return inner(have.Type.(*arrow.ListType).ElemField(), w.ElemField(), "element")
		case *arrow.MapType:
			h := have.Type.(*arrow.MapType)
			if reason := inner(h.KeyField(), w.KeyField(), "key"); reason != "" {
				return reason
			}
			return inner(h.ItemField(), w.ItemField(), "value")
		}
	}
	if !arrow.TypeEqual(have.Type, want.Type) && !(l.widening && widensInFiles(have.Type, want.Type)) {
		return fmt.Sprintf("column %s is %s now, not %s", path, want.Type, have.Type)
	}
	return ""
}
