package delta

import (
	"encoding/json"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
)

// Keys of column mapping in a table's properties and in a column's metadata (PROTOCOL.md, "Column Mapping").
const (
	mappingModeKey  = "delta.columnMapping.mode"
	maxColumnIDKey  = "delta.columnMapping.maxColumnId"
	columnIDKey     = "delta.columnMapping.id"
	physicalNameKey = "delta.columnMapping.physicalName"
	nestedIDsKey    = "delta.columnMapping.nested.ids"
)

// columnMappingMode is "name", "id" or "none" (PROTOCOL.md, "Reader Requirements for Column Mapping": the property counts
// only where the protocol supports the feature). In none, physicalName, fieldID and nestedIDs mean nothing. A mode that the
// protocol does not know is given as it is; CheckAppend refuses it.
func (s *state) columnMappingMode() string {
	mode := strings.ToLower(s.metadata.Configuration[mappingModeKey])
	if mode == "" || !s.supports("columnMapping") {
		return "none"
	}
	return mode
}

// physicalName is the name of a column in data files, statistics, partition values and clustering columns of a table with
// column mapping; the column's own name where it has none.
func physicalName(f arrow.Field) string {
	if raw, ok := fieldMetadataOf(f, physicalNameKey); ok {
		var name string
		if json.Unmarshal(raw, &name) == nil && name != "" {
			return name
		}
	}
	return f.Name
}

// fieldID is the column's id, to be the Parquet field_id in a table with column mapping; false where it has none.
func fieldID(f arrow.Field) (int32, bool) {
	if raw, ok := fieldMetadataOf(f, columnIDKey); ok {
		var id int32
		if json.Unmarshal(raw, &id) == nil {
			return id, true
		}
	}
	return 0, false
}

// nestedIDs are the ids of the elements, keys and values inside a column's lists and maps by their path, which begins with
// the column's physical name (PROTOCOL.md, "Writer Requirements for IcebergCompatV2"); empty where it has none.
func nestedIDs(f arrow.Field) map[string]int32 {
	var ids map[string]int32
	if raw, ok := fieldMetadataOf(f, nestedIDsKey); ok && json.Unmarshal(raw, &ids) == nil {
		return ids
	}
	return nil
}
