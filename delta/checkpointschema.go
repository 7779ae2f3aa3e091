package delta

import (
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
)

// checkpointSchema is the form of the log checkpoints of one version of a table (PROTOCOL.md, "Checkpoint Schema"). It
// depends on the table's properties and, where statistics are stored typed, on its columns.
type checkpointSchema struct {
	add       *arrow.StructType
	statsJSON bool              // delta.checkpoint.writeStatsAsJson
	stats     *arrow.StructType // of add.stats_parsed; nil without delta.checkpoint.writeStatsAsStruct
	parts     *arrow.StructType // of add.partitionValues_parsed; nil without that property or without partition columns
}

var (
	stringType = arrow.BinaryTypes.String
	longType   = arrow.PrimitiveTypes.Int64
	intType    = arrow.PrimitiveTypes.Int32
	boolType   = arrow.FixedWidthTypes.Boolean
	mapType    = arrow.MapOf(stringType, stringType)
	listType   = arrow.ListOfField(arrow.Field{Name: "element", Type: stringType, Nullable: true})

	dvType = structOf("storageType", stringType, "pathOrInlineDv", stringType, "offset", intType, "sizeInBytes", intType,
		"cardinality", longType)
	// Tombstones have no statistics and no tags (PROTOCOL.md, "Checkpoints").
	removeType = structOf("path", stringType, "deletionTimestamp", longType, "dataChange", boolType,
		"extendedFileMetadata", boolType, "partitionValues", mapType, "size", longType, "deletionVector", dvType,
		"baseRowId", longType, "defaultRowCommitVersion", longType)
	protocolType = structOf("minReaderVersion", intType, "minWriterVersion", intType, "readerFeatures", listType, "writerFeatures", listType)
	metadataType = structOf("id", stringType, "name", stringType, "description", stringType,
		"format", structOf("provider", stringType, "options", mapType), "schemaString", stringType,
		"partitionColumns", listType, "configuration", mapType, "createdTime", longType)
	txnType                = structOf("appId", stringType, "version", longType, "lastUpdated", longType)
	domainType             = structOf("domain", stringType, "configuration", stringType, "removed", boolType)
	checkpointMetadataType = structOf("version", longType, "tags", mapType)
	sidecarType            = structOf("path", stringType, "sizeInBytes", longType, "modificationTime", longType, "tags", mapType)
)

// structOf makes a struct of nullable fields from names and types in turn: readers of log checkpoints expect every column
// to be optional.
func structOf(namesAndTypes ...any) *arrow.StructType {
	fields := make([]arrow.Field, 0, len(namesAndTypes)/2)
	for i := 0; i < len(namesAndTypes); i += 2 {
		fields = append(fields, arrow.Field{Name: namesAndTypes[i].(string), Type: namesAndTypes[i+1].(arrow.DataType), Nullable: true})
	}
	return arrow.StructOf(fields...)
}

func newCheckpointSchema(s *state) (*checkpointSchema, error) {
	cs := &checkpointSchema{statsJSON: !s.isFalse("delta.checkpoint.writeStatsAsJson")}
	add := []any{
		"path", stringType, "partitionValues", mapType, "size", longType, "modificationTime", longType, "dataChange", boolType,
		"tags", mapType, "deletionVector", dvType, "baseRowId", longType, "defaultRowCommitVersion", longType, "clusteringProvider", stringType,
	}
	if cs.statsJSON {
		add = append(add, "stats", stringType)
	}
	if s.isTrue("delta.checkpoint.writeStatsAsStruct") {
		if cs.parts = s.partitionStruct(); cs.parts != nil {
			add = append(add, "partitionValues_parsed", cs.parts)
		}
		var err error
		if cs.stats, err = s.statsStruct(); err != nil {
			return nil, err
		}
		add = append(add, "stats_parsed", cs.stats)
	}
	cs.add = structOf(add...)
	return cs, nil
}

// top is the schema of a checkpoint that holds its files itself; with v2 it may have sidecars and checkpointMetadata.
func (cs *checkpointSchema) top(v2 bool) *arrow.Schema {
	fields := []any{"txn", txnType, "add", cs.add, "remove", removeType, "metaData", metadataType, "protocol", protocolType, "domainMetadata", domainType}
	if v2 {
		fields = append(fields, "checkpointMetadata", checkpointMetadataType, "sidecar", sidecarType)
	}
	return arrow.NewSchema(structOf(fields...).Fields(), nil)
}

// sidecar is the schema of a sidecar file, which holds file actions only (PROTOCOL.md, "Sidecar Files").
func (cs *checkpointSchema) sidecar() *arrow.Schema {
	return arrow.NewSchema(structOf("add", cs.add, "remove", removeType).Fields(), nil)
}

// partitionStruct is the type of add.partitionValues_parsed: the partition columns under their physical names; nil when
// there are none.
func (s *state) partitionStruct() *arrow.StructType {
	var fields []any
	for _, name := range s.metadata.PartitionColumns {
		for _, f := range s.schema.Fields() {
			if f.Name == name {
				fields = append(fields, physicalName(f), f.Type)
			}
		}
	}
	if fields == nil {
		return nil
	}
	return structOf(fields...)
}

// statsStruct is the type of add.stats_parsed (PROTOCOL.md, "Per-file Statistics"): the columns that have statistics in the
// table's own files, under physical names, in the form that Spark derives.
func (s *state) statsStruct() (*arrow.StructType, error) {
	l, err := s.FileLayout()
	if err != nil {
		return nil, err
	}
	var data []arrow.Field
	for _, f := range s.schema.Fields() {
		if !slices.Contains(s.metadata.PartitionColumns, f.Name) {
			data = append(data, f)
		}
	}
	bounds, counts := statsFields(data, nil, l.indexed)
	all := []any{"numRecords", longType}
	if len(bounds) > 0 {
		all = append(all, "minValues", structOf(bounds...), "maxValues", structOf(bounds...))
	}
	if len(counts) > 0 {
		all = append(all, "nullCount", structOf(counts...))
	}
	return structOf(append(all, "tightBounds", boolType)...), nil
}

// statsFields gives the fields of minValues and of nullCount.
func statsFields(fields []arrow.Field, path, indexed []string) (bounds, counts []any) {
	for _, f := range fields {
		name := physicalName(f)
		p := append(slices.Clip(path), name)
		if st, ok := f.Type.(*arrow.StructType); ok {
			b, c := statsFields(st.Fields(), p, indexed)
			if len(b) > 0 {
				bounds = append(bounds, name, structOf(b...))
			}
			if len(c) > 0 {
				counts = append(counts, name, structOf(c...))
			}
			continue
		}
		if !slices.Contains(indexed, pathKey(p)) {
			continue
		}
		counts = append(counts, name, longType)
		if hasBounds(f.Type) {
			bounds = append(bounds, name, f.Type)
		}
	}
	return bounds, counts
}

// hasBounds reports whether columns of a type have a smallest and largest value in statistics, as Spark has it.
func hasBounds(t arrow.DataType) bool {
	switch t.(type) {
	case *arrow.Int8Type, *arrow.Int16Type, *arrow.Int32Type, *arrow.Int64Type, *arrow.Float32Type, *arrow.Float64Type,
		*arrow.Decimal128Type, *arrow.Date32Type, *arrow.TimestampType, *arrow.StringType:
		return true
	}
	return false
}
