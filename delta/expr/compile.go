package expr

import (
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// maxCost bounds the terms that one row may evaluate. Some terms are evaluated twice (x BETWEEN, NULLIF), so that their
// nesting would double the work at each level.
const maxCost = 20_000

// Program is a compiled expression, to be shared by any goroutines.
type Program struct {
	text    string
	columns [][]int // leaves that it reads: positions from the table's columns down
	clock   bool
	root    *node
}

// ReadsClock reports whether the value depends on the time that Bind is handed.
func (p *Program) ReadsClock() bool { return p.clock }

// Columns are the positions of the top-level columns that the expression reads, ascending.
func (p *Program) Columns() []int {
	var out []int
	for _, path := range p.columns {
		out = append(out, path[0])
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// CompileCondition compiles a BOOLEAN expression over the schema's columns. The error is an *Error.
func CompileCondition(text string, schema *arrow.Schema) (*Program, error) {
	return compile(text, schema, func(c *compiler, n *node) *node {
		if n.t.k == kNull {
			n = c.cast(n, typ{k: kBool})
		}
		if n.t.k != kBool {
			c.fail(n.term, "it is %s, and BOOLEAN is wanted", n.t)
		}
		return n
	})
}

// CompileValue compiles an expression whose value is stored in a column of type t, by Spark's store assignment: a whole
// number into a wider or narrower one (an overflow is an error), anything into a string, but no string into a number.
func CompileValue(text string, schema *arrow.Schema, t arrow.DataType) (*Program, error) {
	to, ok := typeOf(t)
	if !ok || to.k == kNested {
		return nil, &Error{text, 0, fmt.Sprintf("a column of type %s cannot be computed", t)}
	}
	return compile(text, schema, func(c *compiler, n *node) *node { return c.store(n, to) })
}

// Check looks for mistakes that can be found without a schema. The error is an *Error.
func Check(text string) error {
	_, err := parse(text)
	return err
}

// TypeOf is the type of an expression's value. The error is an *Error.
func TypeOf(text string, schema *arrow.Schema) (arrow.DataType, error) {
	p, err := compile(text, schema, func(c *compiler, n *node) *node {
		if n.t.k == kNull || n.t.k == kNested {
			c.fail(n.term, "a column can't be %s", n.t)
		}
		return n
	})
	if err != nil {
		return nil, err
	}
	return p.root.t.arrow(), nil
}

// CompileEqual compiles the condition "column <=> value", the value stored as CompileValue says (PROTOCOL.md, "Generated
// Columns").
func CompileEqual(text string, schema *arrow.Schema, column int) (*Program, error) {
	f := schema.Field(column)
	to, ok := typeOf(f.Type)
	if !ok || to.k == kNested {
		return nil, &Error{text, 0, fmt.Sprintf("a column of type %s cannot be compared", f.Type)}
	}
	return compile(text, schema, func(c *compiler, n *node) *node {
		given := c.column(&term{op: "column"}, []int{column}, f.Type)
		return c.nullSafeEqual(&term{op: "<=>"}, given, c.store(n, to))
	})
}

func compile(text string, schema *arrow.Schema, wrap func(*compiler, *node) *node) (p *Program, err error) {
	t, err := parse(text)
	if err != nil {
		return nil, err
	}
	c := &compiler{text: text, schema: schema, known: map[*term]*node{}, program: &Program{text: text}}
	defer caught(&err)
	c.program.root = wrap(c, c.compile(t))
	return c.program, nil
}

type compiler struct {
	text    string
	schema  *arrow.Schema
	program *Program
	known   map[*term]*node // a term that stands in two places is compiled once
}

// fail ends the compilation; compile recovers the error.
func (c *compiler) fail(t *term, format string, args ...any) {
	panic(&Error{c.text, t.pos, fmt.Sprintf(format, args...)})
}

// source is a term as it is written.
func (c *compiler) source(t *term) string { return c.text[t.pos:max(t.pos, t.end)] }

func (c *compiler) compile(t *term) *node {
	if n, ok := c.known[t]; ok {
		return n
	}
	var n *node
	switch t.op {
	case "literal":
		n = literalNode(t)
	case "column":
		n = c.columnTerm(t)
	case "cast":
		n = c.explicitCast(c.compile(t.args[0]), t)
	default:
		args := make([]*node, len(t.args))
		for i, a := range t.args {
			args[i] = c.compile(a)
		}
		n = c.call(t, args)
	}
	n.term = t
	n.cost = max(n.cost, 1)
	for _, a := range t.args {
		n.cost += c.known[a].cost
	}
	if t.op == "nullif" || t.op == "case" {
		n.cost += n.cost - 1
	}
	if n.cost > maxCost {
		c.fail(t, "it nests in a way that takes too much work")
	}
	c.known[t] = n
	return n
}

func literalNode(t *term) *node {
	v := t.value
	n := &node{t: v.t, konst: true}
	switch {
	case v.t.k == kBool:
		n.b = func(*Rows, int) (bool, bool) { return v.b, true }
	case v.t.storedInt():
		n.i = func(*Rows, int) (int64, bool) { return v.i, true }
	case v.t.floating():
		n.f = func(*Rows, int) (float64, bool) { return v.f, true }
	case v.t.k == kString:
		n.s = func(*Rows, int) (string, bool) { return v.s, true }
	case v.t.k == kDecimal:
		unscaled, scale, _ := parseBig(v.s)
		d, _ := bigToDecimal(unscaled, scale, v.t)
		n.d = func(*Rows, int) (decimal128.Num, bool) { return d, true }
	}
	return n
}

// columnTerm resolves a name, without regard to case as Spark does, through the fields of structs.
func (c *compiler) columnTerm(t *term) *node {
	if len(t.names) == 1 && len(c.find(c.schema.Fields(), t.names[0])) == 0 {
		if out := c.currentTime(t, t.names[0]); out != nil {
			return out
		}
	}
	fields := c.schema.Fields()
	var path []int
	var found arrow.DataType
	for i, name := range t.names {
		at := c.find(fields, name)
		switch {
		case len(at) == 0:
			c.fail(t, "there is no column %s", strings.Join(t.names[:i+1], "."))
		case len(at) > 1:
			c.fail(t, "the name %s is ambiguous", strings.Join(t.names[:i+1], "."))
		}
		path = append(path, at[0])
		found = fields[at[0]].Type
		if i+1 == len(t.names) {
			break
		}
		st, ok := found.(*arrow.StructType)
		if !ok {
			c.fail(t, "%s is no struct", strings.Join(t.names[:i+1], "."))
		}
		fields = st.Fields()
	}
	return c.column(t, path, found)
}

func (c *compiler) find(fields []arrow.Field, name string) []int {
	var out []int
	for i, f := range fields {
		if strings.EqualFold(f.Name, name) {
			out = append(out, i)
		}
	}
	return out
}

// column reads the leaf at a path.
func (c *compiler) column(t *term, path []int, dt arrow.DataType) *node {
	ty, ok := typeOf(dt)
	if !ok {
		c.fail(t, "columns of type %s are not understood", dt)
	}
	k := slices.IndexFunc(c.program.columns, func(p []int) bool { return slices.Equal(p, path) })
	if k < 0 {
		k = len(c.program.columns)
		c.program.columns = append(c.program.columns, path)
	}
	n := &node{t: ty, term: t, null: func(r *Rows, row int) bool { return r.columns[k].null(row) }}
	switch ty.k {
	case kBool:
		n.b = read(k, func(c *column, row int) bool { return c.bools.Value(row) })
	case kInt8:
		n.i = read(k, func(c *column, row int) int64 { return int64(c.i8[row]) })
	case kInt16:
		n.i = read(k, func(c *column, row int) int64 { return int64(c.i16[row]) })
	case kInt32, kDate:
		n.i = func(r *Rows, row int) (int64, bool) {
			c := &r.columns[k]
			if c.null(row) {
				return 0, false
			}
			return int64(c.i32[row]), true
		}
	case kInt64, kNTZ, kTimestamp:
		n.i = func(r *Rows, row int) (int64, bool) {
			c := &r.columns[k]
			if c.null(row) {
				return 0, false
			}
			return c.i64[row], true
		}
	case kFloat:
		n.f = read(k, func(c *column, row int) float64 { return float64(c.f32[row]) })
	case kDouble:
		n.f = read(k, func(c *column, row int) float64 { return c.f64[row] })
	case kDecimal:
		n.d = read(k, func(c *column, row int) decimal128.Num { return c.dec[row] })
	case kString:
		n.s = read(k, func(c *column, row int) string { return c.str.Value(row) })
	case kBinary:
		n.s = read(k, func(c *column, row int) string { return c.bin.ValueString(row) })
	case kNested:
		if _, isStruct := dt.(*arrow.StructType); !isStruct {
			n.size = func(r *Rows, row int) int64 { from, to := r.columns[k].list.ValueOffsets(row); return to - from }
		}
	case kNull: // no column has it
	}
	return n
}

func read[T any](k int, value func(c *column, row int) T) fn[T] {
	return func(r *Rows, row int) (v T, ok bool) {
		c := &r.columns[k]
		if c.null(row) {
			return v, false
		}
		return value(c, row), true
	}
}
