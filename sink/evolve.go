package sink

import (
	"context"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/delta"
)

// Evolution says how a table's schema may follow that of the messages.
type Evolution string

// The kinds of evolution.
const (
	EvolveNone   Evolution = "none"
	EvolveAdd    Evolution = "add_columns"   // columns that the table lacks are added, nullable, at any depth
	EvolveWidens Evolution = "add_and_widen" // besides, types get wider where the table has type widening
)

// Toward gives the layout for rows of a wanted schema: the same one where nothing of it is new to the table. Another one is ahead of the
// table, which gets the new columns and wider types in the commit that brings the first rows of that layout. A type that can't get wider
// stays, and so does NOT NULL. What can't be added is an error that names the column.
func (l *Layout) Toward(want *arrow.Schema, how Evolution) (*Layout, error) {
	switch how {
	case EvolveAdd:
		return l.grown(want, never)
	case EvolveWidens:
		if next, err := l.grown(want, always); err == nil {
			return next, nil
		}
		return l.grown(want, l.mayWiden(want))
	default:
		return l, nil
	}
}

// Lacks gives the wanted schema where Toward has another layout for it: something of it is new to the table. It is nil where nothing is.
func (l *Layout) Lacks(want *arrow.Schema, how Evolution) (*arrow.Schema, error) {
	if next, err := l.Toward(want, how); err != nil || next == l {
		return nil, err
	}
	return want, nil
}

// widening tells which columns may get a wider type.
type widening func(path string) bool

func always(string) bool { return true }
func never(string) bool  { return false }

// mayWiden finds out which columns may, where not all of them do: one of a partition or in a constraint, say, does not.
func (l *Layout) mayWiden(want *arrow.Schema) widening {
	var paths []string
	grow(l.Schema.Fields(), want.Fields(), "", func(path string) bool { paths = append(paths, path); return false })
	may := map[string]bool{}
	for _, one := range paths {
		_, err := l.grown(want, func(path string) bool { return path == one })
		may[one] = err == nil
	}
	return func(path string) bool { return may[path] }
}

func (l *Layout) grown(want *arrow.Schema, widen widening) (*Layout, error) {
	shape, err := l.shape.Evolve(arrow.NewSchema(grow(l.Schema.Fields(), want.Fields(), "", widen), nil))
	if err != nil || shape == l.shape {
		return l, err
	}
	next, err := LayoutOf(shape, l.now)
	if err != nil {
		return l, err
	}
	next.ahead, next.base = true, l
	if l.ahead {
		next.base = l.base
	}
	return next, nil
}

// grow gives the fields of the table with what is new in the wanted ones. New columns may be null at every depth, as the rows that are
// there have no value for them.
func grow(have, want []arrow.Field, path string, widen widening) []arrow.Field {
	out := slices.Clone(have)
	for _, w := range want {
		if i := slices.IndexFunc(have, func(f arrow.Field) bool { return f.Name == w.Name }); i >= 0 {
			out[i].Type = growType(have[i].Type, w.Type, path+"."+w.Name, widen)
		} else {
			out = append(out, nullable(w))
		}
	}
	return out
}

func growType(have, want arrow.DataType, path string, widen widening) arrow.DataType {
	switch h := have.(type) {
	case *arrow.StructType:
		if w, ok := want.(*arrow.StructType); ok {
			return arrow.StructOf(grow(h.Fields(), w.Fields(), path, widen)...)
		}
	case *arrow.ListType:
		if w, ok := want.(*arrow.ListType); ok {
			elem := h.ElemField()
			elem.Type = growType(elem.Type, w.Elem(), path+".element", widen)
			return arrow.ListOfField(elem)
		}
	case *arrow.MapType:
		if w, ok := want.(*arrow.MapType); ok {
			item := h.ItemField()
			item.Type = growType(item.Type, w.ItemType(), path+".value", widen)
			return arrow.MapOfFields(h.KeyField(), item)
		}
	default:
		if delta.Widens(have, want) && widen(path) {
			return want
		}
	}
	return have
}

func nullable(f arrow.Field) arrow.Field {
	out := arrow.Field{Name: f.Name, Nullable: true, Type: f.Type}
	switch t := f.Type.(type) {
	case *arrow.StructType:
		var fields []arrow.Field
		for _, inner := range t.Fields() {
			fields = append(fields, nullable(inner))
		}
		out.Type = arrow.StructOf(fields...)
	case *arrow.ListType:
		out.Type = arrow.ListOfField(nullable(t.ElemField()))
	case *arrow.MapType:
		key := nullable(t.KeyField())
		key.Nullable = false
		out.Type = arrow.MapOfFields(key, nullable(t.ItemField()))
	}
	return delta.WithTypesOf(out, f)
}

// changes reports whether the table gets another schema with the unit.
func (t *Table) changes(u *Unit) bool {
	if u.layout == nil || !u.layout.ahead {
		return false
	}
	next, err := t.layout.Toward(u.layout.Schema, t.cfg.SchemaEvolution)
	return err != nil || next != t.layout
}

// retypes reports whether a column that is new here has another type under a later layout. Files of both types would be in a table that never
// had the first one, so that no change of type would be recorded for their readers (PROTOCOL.md, "Type Change Metadata").
func (l *Layout) retypes(later *Layout) bool {
	return l.ahead && retyped(l.Schema.Fields(), later.Schema.Fields(), l.base.Schema.Fields())
}

func retyped(have, later, base []arrow.Field) bool {
	for _, h := range have {
		named := func(f arrow.Field) bool { return f.Name == h.Name }
		i, j := slices.IndexFunc(later, named), slices.IndexFunc(base, named)
		switch {
		case i < 0:
		case j < 0 && !sameTypes(h.Type, later[i].Type), j >= 0 && retypedWithin(h.Type, later[i].Type, base[j].Type):
			return true
		}
	}
	return false
}

func retypedWithin(have, later, base arrow.DataType) bool {
	switch h := have.(type) {
	case *arrow.StructType:
		l, ok := later.(*arrow.StructType)
		b, ok2 := base.(*arrow.StructType)
		return ok && ok2 && retyped(h.Fields(), l.Fields(), b.Fields())
	case *arrow.ListType:
		l, ok := later.(*arrow.ListType)
		b, ok2 := base.(*arrow.ListType)
		return ok && ok2 && retypedWithin(h.Elem(), l.Elem(), b.Elem())
	case *arrow.MapType:
		l, ok := later.(*arrow.MapType)
		b, ok2 := base.(*arrow.MapType)
		return ok && ok2 && retypedWithin(h.ItemType(), l.ItemType(), b.ItemType())
	}
	return false // a change of a column that the table had is recorded
}

// sameTypes compares plain types; structs, lists and maps may have more within them later.
func sameTypes(have, later arrow.DataType) bool {
	switch h := have.(type) {
	case *arrow.StructType:
		l, ok := later.(*arrow.StructType)
		return ok && !retyped(h.Fields(), l.Fields(), nil)
	case *arrow.ListType:
		l, ok := later.(*arrow.ListType)
		return ok && sameTypes(h.Elem(), l.Elem())
	case *arrow.MapType:
		l, ok := later.(*arrow.MapType)
		return ok && sameTypes(h.ItemType(), l.ItemType())
	}
	return arrow.TypeEqual(have, later)
}

// Toward gives the layout that Evolve goes on from a layout to, as far as is known without the table. Nothing is changed.
func (t *Table) Toward(from *Layout, want *arrow.Schema) (*Layout, error) {
	return from.Toward(want, t.cfg.SchemaEvolution)
}

// Stays reports whether what was written under a layout can stay in a table that has what Evolve gives for a wanted schema. Nothing is changed.
func (t *Table) Stays(from *Layout, want *arrow.Schema) bool {
	next, err := t.Toward(from, want)
	return err != nil || from.Fits(next) // what is wrong, Evolve tells
}

// Evolve gives the layout for rows of a wanted schema, as Layout.Toward does. Where files have other names than the columns, which are
// chosen with the column, the table is changed first, in a commit of its own; that tries for as long as the store is down.
func (t *Table) Evolve(ctx context.Context, from *Layout, want *arrow.Schema) (*Layout, error) {
	how := t.cfg.SchemaEvolution
	if !from.shape.ColumnMapping() {
		return from.Toward(want, how)
	}
	if err := t.lock(ctx); err != nil {
		return nil, err
	}
	defer t.unlock()
	for {
		if err := t.advance(ctx, nil); err != nil {
			return nil, err
		}
		next, err := t.layout.Toward(want, how)
		if err != nil || next == t.layout {
			return t.layout, err
		}
		unit := &Unit{ID: newUnitID(), layout: next}
		if err := t.land(ctx, []*Unit{unit}); err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil && (unit.state == Pending || unit.state == Unresolved) {
			return nil, fmt.Errorf("changing the table's schema: %w", err)
		}
	}
}
