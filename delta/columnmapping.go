package delta

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/uuid"
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

// physicalPartitionColumns are the names under which add actions have partition values.
func (s *state) physicalPartitionColumns() []string {
	columns := s.PartitionColumns()
	if s.columnMappingMode() == "none" {
		return columns
	}
	for i, name := range columns {
		if fields, ok := s.schema.FieldsByName(name); ok {
			columns[i] = physicalName(fields[0])
		}
	}
	return columns
}

// columnMapping says why an append cannot write by the table's mapping (PROTOCOL.md, "Writer Requirements for Column
// Mapping": every column has an id, which is unique, and a physical name, whose path is).
func (s *state) columnMapping() string {
	switch mode := s.columnMappingMode(); mode {
	case "none":
		return ""
	case "name", "id":
		return s.badMapping()
	default:
		return mappingModeKey + " is " + mode
	}
}

func (s *state) badMapping() string {
	ids, paths := map[int32]string{}, map[string]string{}
	var visit func(fields []arrow.Field, path, physical string) string
	visit = func(fields []arrow.Field, path, physical string) string {
		for _, f := range fields {
			p, q := joinPath(path, f.Name), physical+"\x00"+physicalName(f) // names may have dots
			id, ok := fieldID(f)
			if _, named := fieldMetadataOf(f, physicalNameKey); !ok || !named {
				return "column " + p + " has no id or no physical name"
			}
			if other, twice := ids[id]; twice {
				return fmt.Sprintf("columns %s and %s have the same id %d", other, p, id)
			}
			if other, twice := paths[q]; twice {
				return fmt.Sprintf("columns %s and %s have the same physical name %s", other, p, physicalName(f))
			}
			ids[id], paths[q] = p, p
			if bad := visitStructs(f.Type, p, q, visit); bad != "" {
				return bad
			}
		}
		return ""
	}
	return visit(s.schema.Fields(), "", "")
}

// visitStructs calls visit for every struct in a type that no other struct holds.
func visitStructs(t arrow.DataType, path, physical string, visit func(fields []arrow.Field, path, physical string) string) string {
	switch t := t.(type) {
	case *arrow.StructType:
		return visit(t.Fields(), path, physical)
	case *arrow.ListType:
		return visitStructs(t.Elem(), joinPath(path, "element"), physical+"\x00element", visit)
	case *arrow.MapType:
		if bad := visitStructs(t.KeyType(), joinPath(path, "key"), physical+"\x00key", visit); bad != "" {
			return bad
		}
		return visitStructs(t.ItemType(), joinPath(path, "value"), physical+"\x00value", visit)
	}
	return ""
}

// withMapping gives every column that has none an id and a physical name, and with nested the elements, keys and values
// inside columns ids too (PROTOCOL.md, "Writer Requirements for Column Mapping" and "for IcebergCompatV2"). maxID is the
// highest id that the table ever had; the highest one now comes back.
func withMapping(fields []arrow.Field, maxID int64, nested bool) ([]arrow.Field, int64, error) {
	fields = rewriteFields(fields, func(f arrow.Field) arrow.Field {
		if _, ok := fieldID(f); !ok {
			maxID++
			f = withMetadata(f, columnIDKey, maxID)
		}
		if _, ok := fieldMetadataOf(f, physicalNameKey); !ok {
			f = withMetadata(f, physicalNameKey, "col-"+uuid.NewString())
		}
		return f
	})
	if nested {
		fields = rewriteFields(fields, func(f arrow.Field) arrow.Field {
			ids := maps.Clone(nestedIDs(f))
			if ids == nil {
				ids = map[string]int32{}
			}
			for _, path := range collectionPaths(f.Type, physicalName(f)) {
				if _, ok := ids[path]; !ok {
					maxID++
					ids[path] = int32(maxID) //nolint:gosec // checked below
				}
			}
			return withMetadata(f, nestedIDsKey, ids)
		})
	}
	if maxID > math.MaxInt32 {
		return nil, 0, fmt.Errorf("the table has no column id left: %d is the highest, and ids have 32 bits", maxID)
	}
	return fields, maxID, nil
}

// maxColumnID is the highest column id that a table ever had, as its property and its schema say.
func (s *state) maxColumnID() (int64, error) {
	highest := int64(0)
	if text, ok := s.metadata.Configuration[maxColumnIDKey]; ok {
		var err error
		if highest, err = strconv.ParseInt(text, 10, 64); err != nil || highest < 0 {
			return 0, corruptf("version %d: the table property %s is %q", s.version, maxColumnIDKey, text)
		}
	}
	_ = walkFields(s.schema.Fields(), "", func(_ string, f arrow.Field) error {
		id, _ := fieldID(f)
		highest = max(highest, int64(id))
		for _, id := range nestedIDs(f) {
			highest = max(highest, int64(id))
		}
		return nil
	})
	return highest, nil
}

// withoutMapping drops what another table gave its columns.
func withoutMapping(f arrow.Field) arrow.Field {
	for _, key := range []string{columnIDKey, physicalNameKey, nestedIDsKey} {
		f = withMetadata(f, key, nil)
	}
	return f
}

// rewriteFields applies change to every struct field, outer ones first, before their inner ones.
func rewriteFields(fields []arrow.Field, change func(arrow.Field) arrow.Field) []arrow.Field {
	out := make([]arrow.Field, len(fields))
	for i, f := range fields {
		out[i] = change(f)
		out[i].Type = rewriteType(out[i].Type, change)
	}
	return out
}

func rewriteType(t arrow.DataType, change func(arrow.Field) arrow.Field) arrow.DataType {
	switch t := t.(type) {
	case *arrow.StructType:
		return arrow.StructOf(rewriteFields(t.Fields(), change)...)
	case *arrow.ListType:
		return listOf(rewriteType(t.Elem(), change), t.ElemField().Nullable)
	case *arrow.MapType:
		return mapOf(rewriteType(t.KeyType(), change), rewriteType(t.ItemType(), change), t.ItemField().Nullable)
	}
	return t
}

// withMetadata sets one key of a column's Delta metadata, and drops it for nil.
func withMetadata(f arrow.Field, key string, value any) arrow.Field {
	var object map[string]json.RawMessage
	if m, ok := f.Metadata.GetValue(MetadataKey); ok {
		_ = json.Unmarshal([]byte(m), &object) // SchemaFromJSON and SchemaToJSON refuse what is no object
	}
	if object == nil {
		object = map[string]json.RawMessage{}
	}
	if value == nil {
		delete(object, key)
	} else {
		object[key], _ = marshal(value) // a number, a text, or a map or list of these
	}
	if len(object) == 0 {
		f.Metadata = arrow.Metadata{}
		return f
	}
	text, _ := marshal(object)
	f.Metadata = arrow.NewMetadata([]string{MetadataKey}, []string{string(text)})
	return f
}
