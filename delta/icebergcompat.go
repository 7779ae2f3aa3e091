package delta

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
)

// icebergCompatible reports whether icebergCompatV1 or V2 is active: new files then need numRecords, their partition values
// as columns, and ids (PROTOCOL.md, "Iceberg Compatibility V1" and "V2").
func (s *state) icebergCompatible() bool {
	return s.active("icebergCompatV1") || s.active("icebergCompatV2")
}

// icebergCompat says what in a table breaks the rules of an active icebergCompatV1 or V2 ("Writer Requirements for
// IcebergCompatV1" and "V2"): a writer must not add to it. Deletion vectors count where they are enabled, as for the
// reference implementation.
func icebergCompat(version int) func(*state) string {
	return func(s *state) string {
		property := fmt.Sprintf("delta.enableIcebergCompatV%d", version)
		if !s.isTrue(property) {
			return ""
		}
		switch mode := s.columnMappingMode(); {
		case mode != "name" && mode != "id":
			return property + " is true, but delta.columnMapping.mode is " + mode
		case s.active("deletionVectors"):
			return property + " and delta.enableDeletionVectors are both true"
		case version == 2 && s.active("icebergCompatV1"):
			return property + " and delta.enableIcebergCompatV1 are both true"
		}
		broken := ""
		_ = walkFields(s.schema.Fields(), "", func(path string, f arrow.Field) error {
			if broken == "" {
				broken = icebergColumn(version, path, f)
			}
			return nil
		})
		if broken == "" {
			return ""
		}
		return property + " is true, but " + broken
	}
}

func icebergColumn(version int, path string, f arrow.Field) string {
	for _, c := range typeChanges(f) {
		from, err1 := typeFromJSON(c.From, path, 0)
		to, err2 := typeFromJSON(c.To, path, 0)
		if err1 != nil || err2 != nil || !widensForIceberg(from, to) {
			return fmt.Sprintf("column %s was changed from %s to %s", path, c.From, c.To)
		}
	}
	collections := collectionPaths(f.Type, physicalName(f))
	if version == 1 && len(collections) > 0 {
		return fmt.Sprintf("column %s has the type %s", path, f.Type)
	}
	ids := nestedIDs(f)
	for _, p := range collections {
		if _, ok := ids[p]; !ok {
			return fmt.Sprintf("column %s has no id for %s", path, p)
		}
	}
	return ""
}

// collectionPaths are the paths of the elements, keys and values inside a column, as nestedIDs has them, in their order;
// those inside structs belong to the fields of the structs.
func collectionPaths(t arrow.DataType, path string) []string {
	var paths []string
	visit := func(t arrow.DataType, name string) {
		p := path + "." + name
		paths = append(append(paths, p), collectionPaths(t, p)...)
	}
	switch t := t.(type) {
	case *arrow.ListType:
		visit(t.Elem(), "element")
	case *arrow.MapType:
		visit(t.KeyType(), "key")
		visit(t.ItemType(), "value")
	}
	return paths
}
