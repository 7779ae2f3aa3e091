package sink

import (
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/delta"
)

// ChangeKind is what a schema of messages does to one column.
type ChangeKind string

// The kinds of change.
const (
	ChangeAdds    ChangeKind = "adds"    // the table gets the column
	ChangeWidens  ChangeKind = "widens"  // the column gets a wider type
	ChangeIgnores ChangeKind = "ignores" // the table has no column for the field, and gets none: it is left out
	ChangeChecks  ChangeKind = "checks"  // of another kind: each value is looked at by itself, and one that does not fit is poison
	ChangeBreaks  ChangeKind = "breaks"  // values do not fit the column: messages are poison
)

// Change is one difference between a table's schema and that of messages.
type Change struct {
	Kind   ChangeKind
	Path   string         // of the column: "a.b", "tags.element", "attributes.value"; empty for the whole schema
	Table  arrow.DataType // in the table; nil where it has no such column
	Wanted arrow.DataType // in the messages
	Detail string         // why the table can't have it, or what messages lack; empty where the types say it
	MapKey bool           // it is the key of a map
}

// PlanEvolution tells what messages would do to a table that is to have a wanted schema for them, in the order of the schema, and the layout that
// their rows would have. messages has the same columns, with the types that messages have. filled are columns that have their values from
// elsewhere. Nothing is changed.
func PlanEvolution(shape *delta.Shape, now func() time.Time, want, messages *arrow.Schema, how Evolution, filled ...string) ([]Change, *Layout, error) {
	layout, err := LayoutOf(shape, now)
	if err != nil {
		return nil, nil, err
	}
	var p planner
	next, misfit := layout.Toward(want, how)
	if misfit != nil { // no message of the schema becomes a row, whatever its other columns are
		return append(p, Change{Kind: ChangeBreaks, Detail: misfit.Error()}), layout, nil //nolint:nilerr // it is what the plan tells
	}
	p.fields(layout.Schema.Fields(), next.Schema.Fields(), messages.Fields(), "")
	for i, f := range layout.Schema.Fields() {
		switch at := want.FieldIndices(f.Name); {
		case f.Nullable || slices.Contains(filled, f.Name) || layout.Rules.Fills(i):
		case len(at) == 0:
			p = append(p, Change{Kind: ChangeBreaks, Path: f.Name, Table: f.Type, Detail: "it is NOT NULL, and messages do not have it"})
		case want.Field(at[0]).Nullable:
			p = append(p, Change{Kind: ChangeChecks, Path: f.Name, Table: f.Type, Wanted: want.Field(at[0]).Type, Detail: "it is NOT NULL, and messages may have null"})
		}
	}
	return p, next, nil
}

type planner []Change

func (p *planner) fields(have, next, want []arrow.Field, path string) {
	find := func(fields []arrow.Field, name string) *arrow.Field {
		if i := slices.IndexFunc(fields, func(f arrow.Field) bool { return f.Name == name }); i >= 0 {
			return &fields[i]
		}
		return nil
	}
	for _, w := range want {
		h, n := find(have, w.Name), find(next, w.Name)
		at := w.Name
		if path != "" {
			at = path + "." + at
		}
		switch {
		case n == nil:
			*p = append(*p, Change{Kind: ChangeIgnores, Path: at, Wanted: w.Type})
		case h == nil:
			*p = append(*p, Change{Kind: ChangeAdds, Path: at, Wanted: n.Type})
			p.types(n.Type, n.Type, w.Type, at) // by configuration it may have another type
		default:
			p.types(h.Type, n.Type, w.Type, at)
		}
	}
}

func (p *planner) types(have, next, want arrow.DataType, path string) {
	switch w := want.(type) {
	case *arrow.StructType:
		if h, ok := have.(*arrow.StructType); ok {
			p.fields(h.Fields(), next.(*arrow.StructType).Fields(), w.Fields(), path)
			return
		}
	case *arrow.ListType:
		if h, ok := have.(*arrow.ListType); ok {
			p.types(h.Elem(), next.(*arrow.ListType).Elem(), w.Elem(), path+".element")
			return
		}
	case *arrow.MapType:
		if h, ok := have.(*arrow.MapType); ok {
			first := len(*p)
			p.types(h.KeyType(), next.(*arrow.MapType).KeyType(), w.KeyType(), path+".key")
			for i := first; i < len(*p); i++ {
				(*p)[i].MapKey = true
			}
			p.types(h.ItemType(), next.(*arrow.MapType).ItemType(), w.ItemType(), path+".value")
			return
		}
	}
	change := Change{Path: path, Table: have, Wanted: want}
	switch {
	case arrow.TypeEqual(next, want) && arrow.TypeEqual(have, want), delta.Widens(want, have):
		return
	case !arrow.TypeEqual(have, next):
		change.Kind = ChangeWidens
	case arrow.IsNested(have.ID()):
		change.Kind = ChangeBreaks
	default:
		change.Kind = ChangeChecks
	}
	*p = append(*p, change)
}
