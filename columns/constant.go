package columns

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/decode"
	"kafkadelta/delta/expr"
)

// constant is one value of a type. Without a program it is null.
type constant struct {
	typ     arrow.DataType
	program *expr.Program
}

// newConstant reads the text of a configuration as a value of the column's type, as SQL's CAST reads it.
func newConstant(text string, t arrow.DataType) (constant, error) {
	name := decode.TypeName(t)
	refuse := func(why any) (constant, error) {
		return constant{}, fmt.Errorf("%q is no value for a column of type %s: %v", text, name, why)
	}
	switch t.(type) {
	case *arrow.StructType, *arrow.ListType, *arrow.MapType:
		return refuse("only columns that are not nested can be constant")
	}
	if !utf8.ValidString(text) {
		return refuse("it is not UTF-8")
	}
	literal := "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
	if t.ID() != arrow.STRING {
		literal = fmt.Sprintf("CAST(%s AS %s)", literal, name)
	}
	program, err := expr.CompileValue(literal, arrow.NewSchema(nil, nil), t)
	if err != nil {
		return refuse(err)
	}
	c := constant{t, program}
	empty := array.NewRecordBatch(arrow.NewSchema(nil, nil), nil, 0)
	defer empty.Release()
	b := array.NewBuilder(memory.DefaultAllocator, t)
	defer b.Release()
	switch err := program.Bind(empty, time.Time{}).AppendTo(b, 0); {
	case err != nil:
		return refuse(err)
	case b.NullN() > 0:
		return refuse("it reads as NULL")
	}
	return c, nil
}

// repeat gives the value n times.
func (c constant) repeat(n int) arrow.Array {
	if c.program == nil {
		return array.MakeArrayOfNull(memory.DefaultAllocator, c.typ, n)
	}
	empty := array.NewRecordBatch(arrow.NewSchema(nil, nil), nil, 0)
	defer empty.Release()
	b := array.NewBuilder(memory.DefaultAllocator, c.typ)
	defer b.Release()
	b.Reserve(n)
	rows := c.program.Bind(empty, time.Time{})
	for range n {
		_ = rows.AppendTo(b, 0) // it did not fail when it was compiled
	}
	return b.NewArray()
}
