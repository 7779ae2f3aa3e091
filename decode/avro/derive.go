package avro

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/decode"
)

// TableSchema is the schema of a table that takes all that messages of the schema hold: types as the package's decoder fills
// them, a union of several types as a struct with a field for each, of its name (member_int, member_order, ...), every column nullable. The
// error names what no column can hold.
func TableSchema(s *Schema) (*arrow.Schema, error) { return MessageSchema(s, nil, nil, nil) }

// MessageSchema is TableSchema by the names that a decoder of these options and this plan goes by: those of the reader's schema for fields and types that it
// has, and for members of unions those of the plan's table. Fields that are given may be what no column can hold. All three may be nil.
func MessageSchema(s, reader *Schema, given decode.Given, plan *decode.Plan) (*arrow.Schema, error) {
	if s.root.kind != kindRecord {
		return nil, fmt.Errorf("the schema is %s: want a record, whose fields are columns", s.root)
	}
	var r *node
	if reader != nil {
		r = onlyOne(s.root, reader.root)
	}
	var table *decode.Node
	if plan != nil {
		table = plan.Root()
	}
	d := &deriver{Fields: decode.Fields{Of: strings.TrimSpace(s.id + " " + s.root.String()), Given: given, Whole: s.column}, within: map[*node]bool{}}
	fields, err := d.fields(s.root, r, "", table)
	if err != nil {
		return nil, err
	}
	if len(fields) == 0 {
		return nil, fmt.Errorf("%s has no fields, and a table needs a column", s.root)
	}
	return arrow.NewSchema(fields, nil), nil
}

type deriver struct {
	decode.Fields
	within map[*node]bool
}

func (d *deriver) fields(n, r *node, path string, table *decode.Node) ([]arrow.Field, error) {
	if d.within[n] {
		return nil, d.NoColumn(path, false, ": %s contains itself, which no column can", n)
	}
	d.within[n] = true
	defer delete(d.within, n)
	var out []arrow.Field
	for i := range n.fields {
		f := &n.fields[i]
		name, rt := r.reads(f)
		at := join(path, name)
		t, err := d.Column(at, func() (arrow.DataType, error) { return d.typ(f.typ, rt, at, below(table, name)) })
		if err != nil {
			return nil, err
		}
		if t != nil {
			out = append(out, arrow.Field{Name: name, Type: t, Nullable: true})
		}
	}
	return out, nil
}

// below is the node of a field, or of the column that takes it under another name; nil where there is none.
func below(table *decode.Node, name string) *decode.Node {
	if table == nil {
		return nil
	}
	n := columnOf(table, name)
	if n != nil && n.Index < 0 && len(n.Computed) == 1 && n.Computed[0].Value != nil {
		return n.Computed[0].Value
	}
	return n
}

// maxDelta is the most digits of a decimal in a table.
const maxDelta = 38

// typ is a type's column; nil for null, of which there is nothing to keep.
func (d *deriver) typ(n, r *node, path string, table *decode.Node) (arrow.DataType, error) {
	if err := d.Count(path); err != nil {
		return nil, err
	}
	if m := ofOne(n, r, table); m != nil {
		n = m
	}
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
		var elem *decode.Node
		if table != nil {
			elem = table.Elem
		}
		item, err := d.typ(n.items, onlyOne(n, r).itemsOf(), join(path, map[kind]string{kindArray: "element", kindMap: "value"}[n.kind]), elem)
		if err != nil {
			return nil, err
		}
		if item == nil {
			return nil, d.NoColumn(path, false, ": %s has nothing but nulls", n)
		}
		if n.kind == kindMap {
			return arrow.MapOf(arrow.BinaryTypes.String, item), nil
		}
		return arrow.ListOf(item), nil
	case kindUnion:
		return d.union(n, r, path, table)
	case kindRecord:
	}
	fields, err := d.fields(n, onlyOne(n, r), path, table)
	if err == nil && len(fields) == 0 {
		err = d.NoColumn(path, false, ": %s has no fields", n)
	}
	return arrow.StructOf(fields...), err
}

func (d *deriver) union(n, r *node, path string, table *decode.Node) (arrow.DataType, error) {
	known, asStruct := members(n, r, table)
	names, byNumber := memberNames(n.readAs(r)), numbered(table)
	if t := wider(n); t != nil && !asStruct {
		return t, nil
	}
	var fields []arrow.Field
	var types int
	for i, branch := range n.branches {
		if branch.kind == kindNull {
			continue
		}
		name, field := names[i], (*decode.Node)(nil)
		switch {
		case len(known[i]) > 0:
			field = known[i][0]
			name = field.Name
		case len(byNumber) > 0:
			at := 0
			for byNumber[at] != nil {
				at++
			}
			name = "member" + strconv.Itoa(at)
			byNumber[at] = &decode.Node{}
		}
		t, err := d.typ(branch, n.matcher()(branch, r), join(path, name), field)
		if err != nil {
			return nil, err
		}
		types++
		if t != nil {
			fields = append(fields, arrow.Field{Name: name, Type: t, Nullable: true})
		}
	}
	switch {
	case types == 0:
		return nil, nil
	case types == 1 && len(n.branches) <= 2 && !asStruct:
		return fields[0].Type, nil
	}
	return arrow.StructOf(fields...), nil
}

// wider is the column of a union of two types of which one takes all values of the other, as in Spark; nil for any other.
func wider(n *node) arrow.DataType {
	var kinds []kind
	for _, b := range n.branches {
		switch {
		case b.kind == kindNull:
		case b.logical != plain:
			return nil
		default:
			kinds = append(kinds, b.kind)
		}
	}
	slices.Sort(kinds)
	switch {
	case slices.Equal(kinds, []kind{kindInt, kindLong}):
		return arrow.PrimitiveTypes.Int64
	case slices.Equal(kinds, []kind{kindFloat, kindDouble}):
		return arrow.PrimitiveTypes.Float64
	}
	return nil
}
