package avro

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/decode"
)

// TableSchema is the schema of a table that takes all that messages of the schema hold: types as the package's decoder fills
// them, a union of several types as a struct with a field for each (member0, member1, ...), every column nullable. The
// error names what no column can hold.
func TableSchema(s *Schema) (*arrow.Schema, error) { return MessageSchema(s, nil) }

// MessageSchema is TableSchema but for fields that are given: they may be what no column can hold.
func MessageSchema(s *Schema, given decode.Given) (*arrow.Schema, error) {
	if s.root.kind != kindRecord {
		return nil, fmt.Errorf("the schema is %s: want a record, whose fields are columns", s.root)
	}
	d := &deriver{given: given, within: map[*node]bool{}}
	fields, err := d.fields(s.root, "")
	if err != nil {
		return nil, err
	}
	if len(fields) == 0 {
		return nil, fmt.Errorf("%s has no fields, and a table needs a column", s.root)
	}
	return arrow.NewSchema(fields, nil), nil
}

type deriver struct {
	given  decode.Given
	within map[*node]bool
}

func (d *deriver) fields(n *node, path string) ([]arrow.Field, error) {
	if d.within[n] {
		return nil, fmt.Errorf("field %s: %s contains itself, which no column can: drop it in table.columns", path, n)
	}
	d.within[n] = true
	defer delete(d.within, n)
	var out []arrow.Field
	for i := range n.fields {
		f := &n.fields[i]
		at := join(path, f.name)
		t, err := d.typ(f.typ, at)
		if t, err = d.given.Or(t, err, at); err != nil {
			return nil, err
		}
		if t != nil {
			out = append(out, arrow.Field{Name: f.name, Type: t, Nullable: true})
		}
	}
	return out, nil
}

// maxDelta is the most digits of a decimal in a table.
const maxDelta = 38

// typ is a type's column; nil for null, of which there is nothing to keep.
func (d *deriver) typ(n *node, path string) (arrow.DataType, error) {
	switch n.kind {
	case kindNull:
		return nil, nil
	case kindBoolean:
		return arrow.FixedWidthTypes.Boolean, nil
	case kindInt:
		if n.logical == date {
			return arrow.FixedWidthTypes.Date32, nil
		}
		return arrow.PrimitiveTypes.Int32, nil
	case kindLong:
		switch n.logical {
		case timestampMillis, timestampMicros, timestampNanos:
			return &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, nil
		case localMillis, localMicros, localNanos:
			return &arrow.TimestampType{Unit: arrow.Microsecond}, nil
		default:
			return arrow.PrimitiveTypes.Int64, nil
		}
	case kindFloat:
		return arrow.PrimitiveTypes.Float32, nil
	case kindDouble:
		return arrow.PrimitiveTypes.Float64, nil
	case kindString, kindEnum:
		return arrow.BinaryTypes.String, nil
	case kindBytes, kindFixed:
		switch {
		case n.logical == decimal && n.precision <= maxDelta:
			return &arrow.Decimal128Type{Precision: n.precision, Scale: n.scale}, nil
		case n.logical == uuid, n.logical == duration:
			return arrow.BinaryTypes.String, nil
		}
		return arrow.BinaryTypes.Binary, nil
	case kindArray, kindMap:
		item, err := d.typ(n.items, join(path, map[kind]string{kindArray: "element", kindMap: "value"}[n.kind]))
		if err != nil {
			return nil, err
		}
		if item == nil {
			return nil, fmt.Errorf("field %s: %s has nothing but nulls: drop it in table.columns", path, n)
		}
		if n.kind == kindMap {
			return arrow.MapOf(arrow.BinaryTypes.String, item), nil
		}
		return arrow.ListOf(item), nil
	case kindUnion:
		return d.union(n, path)
	case kindRecord:
	}
	fields, err := d.fields(n, path)
	if err == nil && len(fields) == 0 {
		err = fmt.Errorf("field %s: %s has no fields: drop it in table.columns", path, n)
	}
	return arrow.StructOf(fields...), err
}

func (d *deriver) union(n *node, path string) (arrow.DataType, error) {
	var members []arrow.Field
	for _, branch := range n.branches {
		if branch.kind == kindNull {
			continue
		}
		name := memberName(len(members))
		t, err := d.typ(branch, join(path, name))
		if err != nil {
			return nil, err
		}
		members = append(members, arrow.Field{Name: name, Type: t, Nullable: true})
	}
	switch {
	case len(members) == 0:
		return nil, nil
	case len(members) == 1 && len(n.branches) <= 2:
		return members[0].Type, nil
	}
	return arrow.StructOf(members...), nil
}
