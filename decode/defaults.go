package decode

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Default is what a top-level column gets in the row of a message that has no value for it; an explicit null stays null.
// Value gives an array of one value of the column's type, which the caller releases. It is called once for each batch that
// needs it, so that a default like the present time is the same for a whole batch.
type Default struct {
	Column int
	Value  func() arrow.Array
}

func checkDefaults(table *arrow.Schema, defaults []Default) error {
	for _, d := range defaults {
		f := table.Field(d.Column)
		if kind, _, err := kindOf(f.Type); err != nil || kind >= KindStruct {
			return fmt.Errorf("column %q: a default of type %s cannot be filled in: drop it", f.Name, TypeName(f.Type))
		}
	}
	return nil
}

// absent is a column's default in a Builder.
type absent struct {
	value func() arrow.Array
	row   *Builder // its one row; none until the batch needs it
}

// AppendAbsent appends what the row of a message gets that has no value for the column: its default, or null.
func (b *Builder) AppendAbsent() {
	if b.absent == nil {
		b.AppendNull()
		return
	}
	row := b.absent.row
	if row.Len == 0 {
		b.absent.evaluate()
	}
	switch {
	case row.Nulls > 0:
		b.AppendNull()
	case b.Kind == KindBool:
		b.AppendBool(row.Data[0]&1 != 0)
	case b.hasOffsets():
		b.AppendBytes(row.Data)
	default:
		b.Data = append(b.Data, row.Data...)
		b.Len++
	}
}

func (a *absent) evaluate() {
	arr := a.value()
	defer arr.Release()
	if arr.IsNull(0) {
		a.row.AppendNull()
		return
	}
	switch v := arr.(type) {
	case *array.Boolean:
		a.row.AppendBool(v.Value(0))
	case *array.String:
		a.row.AppendString(v.Value(0))
	case *array.Binary:
		a.row.AppendBytes(v.Value(0))
	default:
		at := arr.Data().Offset() * a.row.Width
		a.row.Data = append(a.row.Data, arr.Data().Buffers()[1].Bytes()[at:at+a.row.Width]...)
		a.row.Len++
	}
}

// setDefaults gives the builders their defaults, and makes room for them in the account of how long columns may get.
func (r *Rows) setDefaults(defaults []Default) {
	for _, d := range defaults {
		b := r.Columns[d.Column]
		row, err := NewBuilder(b.Type)
		if err != nil {
			panic(fmt.Sprintf("decode: a plan holds a type that NewPlan refuses: %v", err))
		}
		b.absent = &absent{d.Value, row}
		b.absent.evaluate()
		if b.hasOffsets() {
			r.slack = max(r.slack, rowSlack+len(row.Data))
		}
		row.reset()
	}
}
