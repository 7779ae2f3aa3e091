package expr

import (
	"cmp"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// call compiles an operator or a function.
func (c *compiler) call(t *term, args []*node) *node {
	n := c.operator(t, args)
	if n == nil {
		n = c.function(t, args)
	}
	if n == nil {
		c.fail(t, "the function %s is not understood", t.op)
	}
	return fold(n, args...)
}

// fold evaluates what has only constant arguments once. What fails then fails for each row.
func fold(n *node, args ...*node) *node {
	for _, a := range args {
		if !a.konst {
			return n
		}
	}
	n.konst = len(args) > 0 && n.t.k != kNull
	if !n.konst {
		return n
	}
	var r Rows
	n.b, n.i, n.f, n.s, n.d = foldFn(&r, n.b), foldFn(&r, n.i), foldFn(&r, n.f), foldFn(&r, n.s), foldFn(&r, n.d)
	n.null, n.size = nil, nil
	return n
}

// constant is the value of what was folded, which the compilation itself needs.
func constant[T any](c *compiler, t *term, f fn[T]) (v T, ok bool) {
	var r Rows
	if v, ok = f(&r, 0); r.err != nil {
		c.fail(t, "it has no value: %s: %v", c.source(t), r.err)
	}
	return v, ok
}

func foldFn[T any](r *Rows, f fn[T]) fn[T] {
	if f == nil {
		return nil
	}
	v, ok := f(r, 0)
	if r.err != nil {
		err := r.err
		return func(r *Rows, _ int) (v T, ok bool) { r.fail("%w", err); return v, false }
	}
	return func(*Rows, int) (T, bool) { return v, ok }
}

func (c *compiler) operator(t *term, args []*node) *node {
	switch t.op {
	case "and", "or":
		return c.logic(t, c.condition(args[0]), c.condition(args[1]))
	case "not":
		x := c.condition(args[0])
		return &node{t: typ{k: kBool}, b: func(r *Rows, row int) (bool, bool) { v, ok := x.b(r, row); return !v, ok }}
	case "isnull", "isnotnull":
		c.count(t, args, 1)
		isNull, want := args[0].isNull(), t.op == "isnull"
		return &node{t: typ{k: kBool}, b: func(r *Rows, row int) (bool, bool) { v := isNull(r, row); return v == want, r.err == nil }}
	case "=", "<>", "<", "<=", ">", ">=":
		l, r := c.common(t, args[0], args[1])
		return compareNodes(t.op, l, r)
	case "<=>":
		l, r := c.common(t, args[0], args[1])
		return c.nullSafeEqual(t, l, r)
	case "+", "-", "*", "/", "%", "div", "mod":
		c.count(t, args, 2)
		return c.arithmetic(t, args[0], args[1])
	case "negate", "plus":
		return c.sign(t, args[0])
	case "in":
		return c.in(t, args)
	case "case", "if", "coalesce", "ifnull", "nvl", "nullif":
		return c.conditional(t, args)
	}
	return nil
}

// count refuses a call with another number of arguments.
func (c *compiler) count(t *term, args []*node, want ...int) {
	if !slices.Contains(want, len(args)) {
		c.fail(t, "%s does not take %d arguments", t.op, len(args))
	}
}

// condition wants a BOOLEAN; a string is cast, as Spark does for AND, OR and NOT.
func (c *compiler) condition(n *node) *node {
	if n.t.k == kNull || n.t.k == kString {
		n = c.cast(n, typ{k: kBool})
	}
	if n.t.k != kBool {
		c.fail(n.term, "%s is %s, and BOOLEAN is wanted", c.source(n.term), n.t)
	}
	return n
}

// logic is AND and OR in three-valued logic; the right side is not evaluated when the left one decides.
func (c *compiler) logic(t *term, l, r *node) *node {
	decides := t.op == "or"
	left, right := l.b, r.b
	return &node{t: typ{k: kBool}, b: func(r *Rows, row int) (bool, bool) {
		a, aOK := left(r, row)
		if aOK && a == decides {
			return decides, true
		}
		if r.err != nil {
			return false, false
		}
		b, bOK := right(r, row)
		if bOK && b == decides {
			return decides, true
		}
		return b, aOK && bOK
	}}
}

// common brings both sides of a comparison to one type.
func (c *compiler) common(t *term, l, r *node) (*node, *node) {
	to, ok := wider(l.t, r.t)
	if !ok {
		c.fail(t, "%s and %s cannot be compared: %s", l.t, r.t, c.source(t))
	}
	if to.k == kNull {
		to = typ{k: kBool}
	}
	return c.cast(l, to), c.cast(r, to)
}

func compareNodes(op string, l, r *node) *node {
	n := &node{t: typ{k: kBool}}
	switch {
	case l.i != nil:
		n.b = ordered(op, l.i, r.i, r.konst)
	case l.s != nil:
		n.b = ordered(op, l.s, r.s, r.konst)
	case l.b != nil:
		n.b = byOrder(op, l.b, r.b, func(a, b bool) int { return boolOrder(a) - boolOrder(b) })
	case l.f != nil:
		n.b = byOrder(op, l.f, r.f, floatOrder)
	case l.d != nil:
		n.b = byOrder(op, l.d, r.d, decimal128.Num.Cmp)
	}
	return n
}

func boolOrder(v bool) int {
	if v {
		return 1
	}
	return 0
}

// floatOrder is Spark's order of numbers: NaN equals itself and is the largest, -0.0 equals 0.0.
func floatOrder(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	case a == b:
		return 0
	}
	return boolOrder(math.IsNaN(a)) - boolOrder(math.IsNaN(b))
}

// ordered compares values that Go orders as Spark does. Against a constant, which is the usual case, it calls one function.
func ordered[T cmp.Ordered](op string, l, r fn[T], constant bool) fn[bool] {
	var rows Rows
	if constant {
		if k, ok := r(&rows, 0); ok {
			switch op {
			case "=":
				return func(r *Rows, row int) (bool, bool) { v, ok := l(r, row); return v == k, ok }
			case "<>":
				return func(r *Rows, row int) (bool, bool) { v, ok := l(r, row); return v != k, ok }
			case "<":
				return func(r *Rows, row int) (bool, bool) { v, ok := l(r, row); return v < k, ok }
			case "<=":
				return func(r *Rows, row int) (bool, bool) { v, ok := l(r, row); return v <= k, ok }
			case ">":
				return func(r *Rows, row int) (bool, bool) { v, ok := l(r, row); return v > k, ok }
			case ">=":
				return func(r *Rows, row int) (bool, bool) { v, ok := l(r, row); return v >= k, ok }
			}
		}
	}
	return byOrder(op, l, r, cmp.Compare[T])
}

func byOrder[T any](op string, l, r fn[T], order func(a, b T) int) fn[bool] {
	var want [3]bool // of less, equal, greater
	switch op {
	case "=":
		want[1] = true
	case "<>":
		want[0], want[2] = true, true
	case "<":
		want[0] = true
	case "<=":
		want[0], want[1] = true, true
	case ">":
		want[2] = true
	case ">=":
		want[1], want[2] = true, true
	}
	return func(rows *Rows, row int) (bool, bool) {
		a, ok := l(rows, row)
		if !ok {
			return false, false
		}
		b, ok := r(rows, row)
		if !ok {
			return false, false
		}
		return want[order(a, b)+1], true
	}
}

// nullSafeEqual is <=>: two NULLs are equal.
func (c *compiler) nullSafeEqual(t *term, l, r *node) *node {
	if l.t != r.t || l.t.k == kNested {
		c.fail(t, "%s and %s cannot be compared", l.t, r.t)
	}
	lNull, rNull, equal := l.isNull(), r.isNull(), compareNodes("=", l, r).b
	return &node{t: typ{k: kBool}, cost: 1 + l.cost + r.cost, b: func(r *Rows, row int) (bool, bool) {
		v, ok := equal(r, row)
		if ok || r.err != nil {
			return v, ok
		}
		a, b := lNull(r, row), rNull(r, row)
		return a && b, r.err == nil
	}}
}

// in compares with one value after the other, and is NULL when none is equal and one is NULL.
func (c *compiler) in(t *term, args []*node) *node {
	types := make([]typ, len(args))
	for i, a := range args {
		types[i] = a.t
	}
	to, ok := widest(types)
	if !ok {
		c.fail(t, "the values of IN have types that cannot be compared: %s", c.source(t))
	}
	if to.k == kNull {
		to = typ{k: kBool}
	}
	x := c.cast(args[0], to)
	isNull := x.isNull()
	equals := make([]fn[bool], 0, len(args)-1)
	cost := 0
	for _, a := range args[1:] {
		equals = append(equals, compareNodes("=", x, c.cast(a, to)).b)
		cost += x.cost
	}
	return &node{t: typ{k: kBool}, cost: 1 + cost, b: func(r *Rows, row int) (bool, bool) {
		if isNull(r, row) {
			return false, false
		}
		null := false
		for _, equal := range equals {
			v, ok := equal(r, row)
			if ok && v {
				return true, true
			}
			if r.err != nil {
				return false, false
			}
			null = null || !ok
		}
		return false, !null
	}}
}

// conditional compiles what evaluates only one of its values: CASE, IF, COALESCE, NULLIF.
func (c *compiler) conditional(t *term, args []*node) *node {
	switch t.op {
	case "coalesce":
		if len(args) == 0 {
			c.count(t, args, 1)
		}
		return c.coalesce(t, args)
	case "ifnull", "nvl":
		c.count(t, args, 2)
		return c.coalesce(t, args)
	case "nullif":
		c.count(t, args, 2)
		l, r := c.common(t, args[0], args[1])
		equal := fold(compareNodes("=", l, r), l, r)
		return c.choose(t, []*node{equal}, []*node{c.cast(&node{term: t, konst: true}, args[0].t), args[0]})
	case "if":
		c.count(t, args, 3)
	}
	var whens, values []*node
	for i := 0; i+1 < len(args); i += 2 {
		if k := args[i].t.k; k == kString || k == kNull && t.op == "case" {
			c.fail(args[i].term, "the condition %s is %s, and BOOLEAN is wanted", c.source(args[i].term), args[i].t)
		}
		whens, values = append(whens, c.condition(args[i])), append(values, args[i+1])
	}
	if len(args)%2 == 1 {
		values = append(values, args[len(args)-1])
	} else {
		values = append(values, &node{term: t, konst: true})
	}
	return c.choose(t, whens, c.alike(t, values))
}

// alike casts values to the type that holds them all.
func (c *compiler) alike(t *term, values []*node) []*node {
	types := make([]typ, len(values))
	for i, v := range values {
		types[i] = v.t
	}
	to, ok := widest(types)
	if !ok {
		c.fail(t, "the values have types that do not fit together: %s", c.source(t))
	}
	out := make([]*node, len(values))
	for i, v := range values {
		out[i] = c.cast(v, to)
	}
	return out
}

// choose is the value behind the first condition that is true, or the last value.
func (c *compiler) choose(t *term, whens, values []*node) *node {
	pick := func(r *Rows, row int) int {
		for i, w := range whens {
			v, ok := w.b(r, row)
			if ok && v {
				return i
			}
			if r.err != nil {
				return -1
			}
		}
		return len(whens)
	}
	n := &node{t: values[0].t}
	switch first := values[0]; {
	case first.b != nil:
		n.b = chosen(pick, functions(values, func(n *node) fn[bool] { return n.b }))
	case first.i != nil:
		n.i = chosen(pick, functions(values, func(n *node) fn[int64] { return n.i }))
	case first.f != nil:
		n.f = chosen(pick, functions(values, func(n *node) fn[float64] { return n.f }))
	case first.s != nil:
		n.s = chosen(pick, functions(values, func(n *node) fn[string] { return n.s }))
	case first.d != nil:
		n.d = chosen(pick, functions(values, func(n *node) fn[decimal128.Num] { return n.d }))
	case n.t.k != kNull:
		c.fail(t, "the values are %s, which is not understood: %s", n.t, c.source(t))
	}
	return n
}

func functions[T any](nodes []*node, get func(*node) fn[T]) []fn[T] {
	out := make([]fn[T], len(nodes))
	for i, n := range nodes {
		out[i] = get(n)
	}
	return out
}

func chosen[T any](pick func(*Rows, int) int, values []fn[T]) fn[T] {
	return func(r *Rows, row int) (v T, ok bool) {
		i := pick(r, row)
		if i < 0 {
			return v, false
		}
		return values[i](r, row)
	}
}

// coalesce is the first value that is not NULL.
func (c *compiler) coalesce(t *term, args []*node) *node {
	values := c.alike(t, args)
	n := &node{t: values[0].t}
	switch first := values[0]; {
	case first.b != nil:
		n.b = firstOf(functions(values, func(n *node) fn[bool] { return n.b }))
	case first.i != nil:
		n.i = firstOf(functions(values, func(n *node) fn[int64] { return n.i }))
	case first.f != nil:
		n.f = firstOf(functions(values, func(n *node) fn[float64] { return n.f }))
	case first.s != nil:
		n.s = firstOf(functions(values, func(n *node) fn[string] { return n.s }))
	case first.d != nil:
		n.d = firstOf(functions(values, func(n *node) fn[decimal128.Num] { return n.d }))
	case n.t.k != kNull:
		c.fail(t, "the values are %s, which is not understood: %s", n.t, c.source(t))
	}
	return n
}

func firstOf[T any](values []fn[T]) fn[T] {
	return func(r *Rows, row int) (v T, ok bool) {
		for _, f := range values {
			if v, ok = f(r, row); ok || r.err != nil {
				break
			}
		}
		return v, ok
	}
}
