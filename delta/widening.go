package delta

import (
	"encoding/json"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
)

const typeChangesKey = "delta.typeChanges"

// typeChange is one entry of a column's history of types (PROTOCOL.md, "Type Change Metadata").
type typeChange struct {
	From json.RawMessage `json:"fromType"`
	To   json.RawMessage `json:"toType"`
	Path string          `json:"fieldPath,omitempty"`
}

func typeChanges(f arrow.Field) []typeChange {
	var changes []typeChange
	if raw, ok := fieldMetadataOf(f, typeChangesKey); ok && json.Unmarshal(raw, &changes) == nil {
		return changes
	}
	return nil
}

// WithTypesOf gives a field what another one says of the types that it has had.
func WithTypesOf(f, of arrow.Field) arrow.Field {
	if changes := typeChanges(of); changes != nil {
		return withMetadata(f, typeChangesKey, changes)
	}
	return f
}

// integerRank orders byte, short, int and long; 0 for another type.
func integerRank(t arrow.DataType) int {
	return 1 + slices.Index([]arrow.Type{arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64}, t.ID())
}

// Widens reports whether a plain type may become another one (PROTOCOL.md, "Type Widening").
func Widens(from, to arrow.DataType) bool {
	if widensForIceberg(from, to) {
		return true
	}
	rank := integerRank(from)
	switch to := to.(type) {
	case *arrow.Float64Type:
		return rank >= 1 && rank <= 3
	case *arrow.TimestampType:
		return from.ID() == arrow.DATE32 && to.TimeZone == ""
	case *arrow.Decimal128Type:
		if from, ok := from.(*arrow.Decimal128Type); ok {
			return to.Scale > from.Scale && to.Precision-from.Precision >= to.Scale-from.Scale
		}
		whole := int32(10) // decimal(10, 0) holds every int, decimal(20, 0) every long
		if rank == 4 {
			whole = 20
		}
		return rank > 0 && to.Precision-to.Scale >= whole
	}
	return false
}

// widensInFiles are those of the changes after which files of the narrower type may still be added: their statistics mean the same
// under both types. A bound of a FLOAT is another DOUBLE, and so is no bound there; what changes the form of a value is left out too.
func widensInFiles(from, to arrow.DataType) bool {
	return from.ID() != arrow.FLOAT32 && widensForIceberg(from, to)
}

// widensForIceberg are those of the changes that tables with icebergCompatV1 and V2 may have (PROTOCOL.md, "Writer
// Requirements for Type Widening").
func widensForIceberg(from, to arrow.DataType) bool {
	if rank := integerRank(from); rank > 0 {
		return integerRank(to) > rank
	}
	if from, ok := from.(*arrow.Decimal128Type); ok {
		to, ok := to.(*arrow.Decimal128Type)
		return ok && to.Scale == from.Scale && to.Precision > from.Precision
	}
	return from.ID() == arrow.FLOAT32 && to.ID() == arrow.FLOAT64
}
