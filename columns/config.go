package columns

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/decode"
	"kafkadelta/delta/expr"
)

// Validate checks what can be checked without a table: New checks the rest.
func Validate(cfg decode.Config) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(cfg.Columns)) {
		c := cfg.Columns[name]
		if c.Expression == "" {
			continue
		}
		if err := expr.Check(c.Expression); err != nil {
			errs = append(errs, fmt.Errorf("columns.%s.expression: %w", name, err))
		}
	}
	if cfg.Filter != "" {
		if err := expr.Check(cfg.Filter); err != nil {
			errs = append(errs, fmt.Errorf("filter: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Split divides what is configured between a column, with what is below it, and the others, which keep the filter and the metadata. table may be nil.
func Split(cfg decode.Config, column string, table *arrow.Schema) (own, others decode.Config) {
	if table == nil {
		table = arrow.NewSchema(nil, nil)
	}
	own.Columns = map[string]decode.Column{}
	others = cfg
	others.Columns = map[string]decode.Column{}
	for name, c := range cfg.Columns {
		switch path, err := pathOf(table, name); {
		case name == column, err == nil && len(path) == 1 && path[0] == column:
			own.Columns[column] = c
		case err == nil && path[0] == column:
			own.Columns[name] = c
		default:
			others.Columns[name] = c
		}
	}
	return own, others
}

// pathOf is the path of a configured column: a top-level column of the table, whatever its name, or a path with dots.
func pathOf(table *arrow.Schema, name string) ([]string, error) {
	if len(table.FieldIndices(name)) > 0 {
		return []string{name}, nil
	}
	path, err := decode.ParsePath(name)
	if err != nil {
		return nil, fmt.Errorf("columns.%s: %w", name, err)
	}
	return path, nil
}

// columnOf is what is configured for a top-level column or field of that name, if anything is.
func columnOf(cfg decode.Config, name string) (c decode.Column, said bool) {
	if c, ok := cfg.Columns[name]; ok {
		return c, true
	}
	for quoted, c := range cfg.Columns { // rare, and few
		if path, err := decode.ParsePath(quoted); err == nil && len(path) == 1 && path[0] == name {
			return c, true
		}
	}
	return decode.Column{}, false
}

// mustHave is the path of what makes a table reject a null in the column: NOT NULL of the column, or of a field in it, but for lists and maps
// (docs/expressions.md); "" for nothing.
func mustHave(f arrow.Field, path string) string {
	path += f.Name
	if !f.Nullable {
		return path
	}
	if t, ok := f.Type.(*arrow.StructType); ok {
		for _, below := range t.Fields() {
			if found := mustHave(below, path+"."); found != "" {
				return found
			}
		}
	}
	return ""
}

// has reports whether there is a field at a path: of structs by name, of lists and maps by element, key and value.
func has(fields []arrow.Field, path []string) bool {
	_, ok := without(fields, path)
	return ok
}

// without gives the fields but the one at the path; false where there is none.
func without(fields []arrow.Field, path []string) ([]arrow.Field, bool) {
	i := slices.IndexFunc(fields, func(f arrow.Field) bool { return f.Name == path[0] })
	if i < 0 {
		return fields, false
	}
	out := slices.Clone(fields)
	if len(path) == 1 {
		return slices.Delete(out, i, i+1), true
	}
	t, ok := withoutWithin(out[i].Type, path[1:])
	out[i].Type = t
	return out, ok
}

func withoutWithin(t arrow.DataType, path []string) (arrow.DataType, bool) {
	switch t := t.(type) {
	case *arrow.StructType:
		fields, ok := without(t.Fields(), path)
		return arrow.StructOf(fields...), ok
	case *arrow.ListType:
		if len(path) > 1 && path[0] == "element" {
			elem := t.ElemField()
			var ok bool
			elem.Type, ok = withoutWithin(elem.Type, path[1:])
			return arrow.ListOfField(elem), ok
		}
	case *arrow.MapType:
		if len(path) > 1 && path[0] == "value" {
			item := t.ItemField()
			var ok bool
			item.Type, ok = withoutWithin(item.Type, path[1:])
			return arrow.MapOfFields(t.KeyField(), item), ok
		}
	}
	return t, false
}
