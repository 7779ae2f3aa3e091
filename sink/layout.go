package sink

import (
	"fmt"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/delta"
)

// Layout is what rows and data files must fit: the table's schema, its rules and the form of its files at one time. It does
// not change; a table that changes gets another one.
type Layout struct {
	Schema *arrow.Schema // all columns with their own names, in the table's order
	Rules  *delta.Rules  // what Writer.Write's rows have gone through

	files *delta.FileLayout
	table string // metaData id
	shape *delta.Shape
	now   func() time.Time
	asOf  int64   // version of the table that it is of, where a Table has it
	ahead bool    // the table does not have the schema yet: it gets it with the first rows
	base  *Layout // of an ahead one: that of the table that it came from
}

// LayoutOf is how rows come into a table of this shape. Properties and rules of it that are not understood are an *Error.
func LayoutOf(shape *delta.Shape, now func() time.Time) (*Layout, error) {
	files, err := shape.FileLayout()
	if err != nil {
		return nil, &Error{Op: "reading the table's properties", Err: err}
	}
	rules, err := shape.Rules(now)
	if err != nil {
		return nil, &Error{Op: "reading the table's rules", Err: err}
	}
	return &Layout{Schema: shape.Schema(), Rules: rules, files: files, table: shape.Metadata().ID, shape: shape, now: now}, nil
}

// Before reports whether the table got the other one later.
func (l *Layout) Before(other *Layout) bool { return l.asOf < other.asOf }

// equal reports whether rows and files of both are the same. Comments of columns may differ.
func (l *Layout) equal(o *Layout) bool {
	same := func(x, y arrow.Field) bool {
		return x.Name == y.Name && x.Nullable == y.Nullable && arrow.TypeEqual(x.Type, y.Type)
	}
	return slices.EqualFunc(l.Schema.Fields(), o.Schema.Fields(), same) && l.files.Equal(o.files) && l.Rules.Equal(o.Rules) &&
		l.shape.TypeWidening() == o.shape.TypeWidening()
}

// misfit says why files of this layout can't be appended to the table under its newer one; "" where they can.
func (l *Layout) misfit(table *Layout) string {
	if rule := l.Rules.Added(table.Rules); rule != "" {
		return "the table has a new rule: " + rule
	}
	return l.files.Misfit(table.files)
}

// Fits reports whether rows and files of this layout can be appended to a table that has another one by now, so that nothing needs to be
// read again.
func (l *Layout) Fits(table *Layout) bool { return l.misfit(table) == "" && !l.retypes(table) }

// Plain reports whether files have all columns of the table, under their own names: there are no partition columns and no column mapping.
func (l *Layout) Plain() bool { return len(l.files.Partitions) == 0 && !l.shape.ColumnMapping() }

// Ahead reports whether the table gets the layout only with the first rows of it.
func (l *Layout) Ahead() bool { return l.ahead }

// fileBatch gives the columns that data files hold, under their names there. No values are copied. The caller releases it.
func (l *Layout) fileBatch(rb arrow.RecordBatch) arrow.RecordBatch {
	columns := make([]arrow.Array, len(l.files.Columns))
	for i, c := range l.files.Columns {
		columns[i] = rb.Column(c)
		if want := l.files.Schema.Field(i).Type; !arrow.TypeEqual(columns[i].DataType(), want) {
			data := retype(columns[i].Data(), want)
			columns[i] = array.MakeFromData(data)
			data.Release()
			defer columns[i].Release()
		}
	}
	return array.NewRecordBatch(l.files.Schema, columns, rb.NumRows())
}

// retype gives the same values under a type that differs in the names of fields alone. The caller releases it.
func retype(d arrow.ArrayData, to arrow.DataType) arrow.ArrayData {
	var fields []arrow.Field
	if nested, ok := to.(arrow.NestedType); ok {
		fields = nested.Fields()
	}
	children := make([]arrow.ArrayData, len(d.Children()))
	for i, c := range d.Children() {
		children[i] = retype(c, fields[i].Type)
		defer children[i].Release()
	}
	return array.NewData(to, d.Len(), d.Buffers(), children, d.NullN(), d.Offset())
}

// asInLog gives null to the partition columns of a data file that read as null from the log though they are not, as empty
// strings do. Files without partition columns are left as they are. The caller releases the batch.
func (l *Layout) asInLog(part arrow.RecordBatch, values map[string]*string) arrow.RecordBatch {
	part.Retain()
	if !l.files.Materialized {
		return part
	}
	first := len(l.files.Columns) - len(l.files.Partitions)
	for i, p := range l.files.Partitions {
		column := part.Column(first + i)
		if values[p.Physical] != nil || column.NullN() == column.Len() {
			continue
		}
		nulls := array.MakeArrayOfNull(memory.DefaultAllocator, column.DataType(), column.Len())
		changed, err := part.SetColumn(first+i, nulls)
		nulls.Release()
		part.Release()
		if err != nil {
			panic(err) // the type and the length are the column's own
		}
		part = changed
	}
	return part
}

// Differences lists how the table's schema deviates from the configured one, a line each, for the operator to read.
// The table's schema is the one that counts.
func Differences(wanted, table *arrow.Schema) []string {
	return fieldDifferences("", wanted.Fields(), table.Fields())
}

func fieldDifferences(prefix string, wanted, table []arrow.Field) []string {
	var out []string
	for _, w := range wanted {
		i := slices.IndexFunc(table, func(f arrow.Field) bool { return f.Name == w.Name })
		if i < 0 {
			out = append(out, fmt.Sprintf("column %s%s is configured but not in the table: it is not written", prefix, w.Name))
			continue
		}
		have := table[i]
		ws, wok := w.Type.(*arrow.StructType)
		hs, hok := have.Type.(*arrow.StructType)
		switch {
		case wok && hok:
			out = append(out, fieldDifferences(prefix+w.Name+".", ws.Fields(), hs.Fields())...)
		case !arrow.TypeEqual(w.Type, have.Type):
			out = append(out, fmt.Sprintf("column %s%s is %s in the table, not %s", prefix, w.Name, have.Type, w.Type))
		}
		if w.Nullable != have.Nullable {
			out = append(out, fmt.Sprintf("column %s%s is %s in the table", prefix, w.Name, map[bool]string{true: "nullable", false: "NOT NULL"}[have.Nullable]))
		}
	}
	for _, h := range table {
		if !slices.ContainsFunc(wanted, func(f arrow.Field) bool { return f.Name == h.Name }) {
			out = append(out, fmt.Sprintf("column %s%s is in the table but not configured: messages may fill it", prefix, h.Name))
		}
	}
	return out
}
