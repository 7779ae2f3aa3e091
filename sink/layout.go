package sink

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/delta"
	"kafkadelta/sink/datafile"
)

func newLayout(log *delta.Table) (*Layout, error) {
	l := &Layout{Schema: log.Schema(), PartitionColumns: log.PartitionColumns(), RowCheck: log.RowCheck(), StatsColumns: datafile.DefaultStatsColumns}
	if v, ok := log.Metadata().Configuration["delta.dataSkippingNumIndexedCols"]; ok {
		var err error
		if l.StatsColumns, err = strconv.Atoi(v); err != nil {
			return nil, &Error{Op: "reading the table's properties", Err: fmt.Errorf("delta.dataSkippingNumIndexedCols is %q: a number is expected", v)}
		}
		if l.StatsColumns == 0 {
			l.StatsColumns = datafile.NoStatsColumns
		}
	}
	var fields []arrow.Field
	for _, f := range l.Schema.Fields() {
		if !slices.Contains(l.PartitionColumns, f.Name) {
			fields = append(fields, f)
		}
	}
	l.DataSchema = arrow.NewSchema(fields, nil)
	return l, nil
}

func (l *Layout) equal(o *Layout) bool {
	return l.Schema.Equal(o.Schema) && schemaMetadataEqual(l.Schema.Fields(), o.Schema.Fields()) &&
		slices.Equal(l.PartitionColumns, o.PartitionColumns) && l.StatsColumns == o.StatsColumns
}

// schemaMetadataEqual compares column metadata too, which can hold rules (invariants, generation expressions).
func schemaMetadataEqual(a, b []arrow.Field) bool {
	return slices.EqualFunc(a, b, func(x, y arrow.Field) bool { return x.Equal(y) })
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
