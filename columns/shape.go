package columns

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/decode"
	"kafkadelta/delta/expr"
	"kafkadelta/delta/variant"
)

// Fields are what messages of a schema fill of a table by themselves, under the names of its columns: renamed, without what is dropped,
// and without what is filled from elsewhere. A column whose type the configuration names gets that one, and keeps that of the table where it is there.
// table is nil where there is none yet.
func Fields(messages, table *arrow.Schema, cfg decode.Config, types Types) (*arrow.Schema, error) {
	var out []arrow.Field
	for _, f := range messages.Fields() {
		for _, name := range namesOf(f.Name, table, cfg) {
			have := typeIn(table, name)
			if have != nil && variant.Is(have) {
				continue // it takes anything
			}
			field := arrow.Field{Name: name, Type: f.Type, Nullable: f.Nullable, Metadata: f.Metadata}
			if f.Type.ID() == arrow.NULL && have != nil { // given: the table says what it is
				field.Type = have
			} else if t := types[name]; t != nil && have == nil {
				field.Type = t
			} else if t != nil && !arrow.IsNested(have.ID()) { // a struct follows the messages in what it has in it
				field.Type = have
			}
			out = append(out, field)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Columns)) {
		if path, err := decode.ParsePath(name); err == nil && cfg.Columns[name].Drop && len(path) > 1 {
			out, _ = without(out, path)
		}
	}
	for _, f := range out {
		if t, ok := f.Type.(*arrow.StructType); ok && t.NumFields() == 0 {
			return nil, fmt.Errorf("columns: all fields of %s are dropped: drop it instead", f.Name)
		}
	}
	return arrow.NewSchema(out, nil), nil
}

// Given reports whether it is known without the schema of messages what a field of theirs fills (decode.Given): it is dropped, the configuration
// names a type, or the table has the column. table is nil where there is none yet.
func Given(field string, table *arrow.Schema, cfg decode.Config, types Types) bool {
	path, err := decode.ParsePath(field)
	if err != nil {
		return false
	}
	if cfg.Columns[field].Drop {
		return true
	}
	for _, name := range namesOf(path[0], table, cfg) {
		typed := len(path) == 1 && types[name] != nil
		if !typed && (table == nil || !has(table.Fields(), append([]string{name}, path[1:]...))) {
			return false
		}
	}
	return true
}

// typeIn is that of a table's column, nil where it has none.
func typeIn(table *arrow.Schema, name string) arrow.DataType {
	if table == nil || len(table.FieldIndices(name)) == 0 {
		return nil
	}
	return table.Field(table.FieldIndices(name)[0]).Type
}

// namesOf are the columns that take a field of messages as it is. A field that columns take by from has their names instead of its own,
// unless the table has a column of its own for it or the configuration says what that is.
func namesOf(field string, table *arrow.Schema, cfg decode.Config) []string {
	own, said := columnOf(cfg, field)
	var renamed []string
	for _, name := range slices.Sorted(maps.Keys(cfg.Columns)) {
		c := cfg.Columns[name]
		from, err := decode.ParsePath(c.From)
		to, err2 := decode.ParsePath(name)
		if err == nil && err2 == nil && c.Cast == "" && !c.Drop && len(from) == 1 && from[0] == field && len(to) == 1 && to[0] != field {
			renamed = append(renamed, to[0])
		}
	}
	switch {
	case own.Drop, own.Computed(), said && takesOther(own, field):
		return renamed
	case said, len(renamed) == 0, table != nil && len(table.FieldIndices(field)) > 0:
		return append([]string{field}, renamed...)
	}
	return renamed
}

// Arriving gives the configuration for a table as it is, of one whose schema follows the messages' one, and the entries that are left out
// for that, by name: they say how a column is read that the table gets with the first messages that have the field.
func Arriving(table *arrow.Schema, cfg decode.Config) (decode.Config, []string) {
	now := cfg
	now.Columns = map[string]decode.Column{}
	var waiting []string
	for _, name := range slices.Sorted(maps.Keys(cfg.Columns)) {
		c := cfg.Columns[name]
		path, err := pathOf(table, name)
		from, err2 := decode.ParsePath(cmp.Or(c.From, "own"))
		if err == nil && err2 == nil && !c.Computed() && !c.Drop && c.Cast == "" && len(from) == 1 && !has(table.Fields(), path) {
			waiting = append(waiting, name)
			continue
		}
		now.Columns[name] = c
	}
	return now, waiting
}

// takesOther reports whether the column is filled from another field than its own.
func takesOther(c decode.Column, name string) bool {
	from, err := decode.ParsePath(c.From)
	return c.Cast != "" || c.From != "" && (err != nil || len(from) != 1 || from[0] != name)
}

// NewTable gives the columns of a new table for messages of a schema: what they fill by themselves, and then those that are configured, by
// name. others are columns that are filled from elsewhere, which expressions may read.
func NewTable(messages *arrow.Schema, cfg decode.Config, types Types, others ...arrow.Field) (*arrow.Schema, error) {
	own, err := Fields(messages, nil, cfg, types)
	if err != nil {
		return nil, err
	}
	fields := slices.Clone(own.Fields())
	var computed []string
	readable := slices.Clone(others)
	for _, name := range slices.Sorted(maps.Keys(cfg.Columns)) {
		c := cfg.Columns[name]
		path, err := decode.ParsePath(name)
		if err != nil {
			return nil, fmt.Errorf("columns.%s: %w", name, err)
		}
		switch {
		case len(path) > 1 || slices.ContainsFunc(fields, func(f arrow.Field) bool { return f.Name == path[0] }):
		case c.Drop && c.Type != "":
			readable = append(readable, arrow.Field{Name: path[0], Type: types[path[0]], Nullable: true})
		case c.Drop:
		case c.Computed():
			computed = append(computed, name)
		default:
			t, err := readType(messages, name, c, types[path[0]])
			if err != nil {
				return nil, err
			}
			fields = append(fields, arrow.Field{Name: path[0], Type: t, Nullable: true})
		}
	}
	decoded := arrow.NewSchema(slices.Concat(fields, readable), nil)
	for _, name := range computed {
		path, _ := decode.ParsePath(name)
		t := types[path[0]]
		switch c := cfg.Columns[name]; {
		case t != nil:
		case c.Constant != nil:
			t = arrow.BinaryTypes.String
		default:
			if t, err = expr.TypeOf(c.Expression, decoded); err != nil {
				return nil, fmt.Errorf("columns.%s.expression: %w", name, err)
			}
		}
		fields = append(fields, arrow.Field{Name: path[0], Type: t, Nullable: true})
	}
	if len(fields) == 0 {
		return nil, errors.New("columns: no field of the messages is left for a new table: drop less of them")
	}
	return arrow.NewSchema(fields, nil), nil
}

// readType is the type of a column that is read from another field, or is not one of the messages' at all.
func readType(messages *arrow.Schema, name string, c decode.Column, t arrow.DataType) (arrow.DataType, error) {
	switch cast, _, _, _ := decode.ParseCast(c.Cast); {
	case t != nil:
		return t, nil
	case cast == decode.CastDate:
		return arrow.FixedWidthTypes.Date32, nil
	case cast == decode.CastSubstring, cast == decode.CastJSON:
		return arrow.BinaryTypes.String, nil
	case cast != decode.CastNone:
		return arrow.PrimitiveTypes.Int32, nil
	}
	path, err := decode.ParsePath(c.From)
	if err == nil {
		if t := typeAt(messages.Fields(), path); t != nil {
			return t, nil
		}
	}
	return nil, fmt.Errorf("columns.%s: the messages' schema has no field %q that would tell what a new table's column is: say it in columns.%s.type, or correct the path",
		name, cmp.Or(c.From, name), name)
}

// typeAt follows a path through structs and maps; nil where it leads nowhere.
func typeAt(fields []arrow.Field, path []string) arrow.DataType {
	i := slices.IndexFunc(fields, func(f arrow.Field) bool { return f.Name == path[0] })
	if i < 0 {
		return nil
	}
	t := fields[i].Type
	for _, name := range path[1:] {
		switch at := t.(type) {
		case *arrow.StructType:
			f, ok := at.FieldByName(name)
			if !ok {
				return nil
			}
			t = f.Type
		case *arrow.MapType:
			t = at.ItemType()
		default:
			return nil
		}
	}
	return t
}
