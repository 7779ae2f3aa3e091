package expr

import (
	"math"
	"math/big"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// arithmetic compiles + - * / % DIV. An overflow and a division by zero are errors, as in Spark's ANSI mode.
func (c *compiler) arithmetic(t *term, l, r *node) *node {
	op := t.op
	if op == "mod" {
		op = "%"
	}
	if n := c.dateArithmetic(t, op, l, r); n != nil {
		return n
	}
	for _, x := range []*node{l, r} {
		if !x.t.numeric() && x.t.k != kString && x.t.k != kNull {
			c.fail(t, "%s between %s and %s is not understood", op, l.t, r.t)
		}
	}
	to, _ := wider(l.t, r.t)
	switch {
	case to.k == kString: // two strings, or one and NULL
		c.fail(t, "%s between %s and %s is not understood", op, l.t, r.t)
	case to.k == kNull:
		to = typ{k: kDouble}
	case to.k == kDecimal:
		return c.decimalArithmetic(t, op, l, r)
	case op == "/":
		if to.integral() { // a string becomes a whole number first
			l, r = c.cast(l, widestString(l.t, to)), c.cast(r, widestString(r.t, to))
		}
		to = typ{k: kDouble}
	case op == "div" && to.integral():
		to = typ{k: kInt64}
	case op == "div":
		c.fail(t, "DIV between %s and %s is not understood", l.t, r.t)
	}
	if op == "div" {
		to = typ{k: kInt64}
	}
	l, r = c.cast(l, to), c.cast(r, to)
	n := &node{t: to}
	if to.floating() {
		n.f = floatArithmetic(op, l.f, r.f, to.k == kFloat)
	} else {
		n.i = intArithmetic(op, l.i, r.i, to)
	}
	return n
}

// widestString is the type that a string takes, and any other type as it is.
func widestString(t, common typ) typ {
	if t.k == kString {
		return common
	}
	return t
}

// widths of the whole numbers' types in bits.
var widths = map[kind]int{kInt8: 8, kInt16: 16, kInt32: 32, kInt64: 64}

// fits tells whether v is in the type's range.
func fits(v int64, k kind) bool {
	shift := 64 - widths[k]
	return v<<shift>>shift == v
}

func intArithmetic(op string, l, r fn[int64], t typ) fn[int64] {
	if op == "div" || op == "%" {
		// The right side first, as Spark does: nothing is divided by NULL.
		return func(rows *Rows, row int) (int64, bool) {
			b, ok := r(rows, row)
			if !ok {
				return 0, false
			}
			a, ok := l(rows, row)
			switch {
			case !ok:
				return 0, false
			case b == 0:
				rows.fail("division by zero")
				return 0, false
			case b == -1 && op == "%":
				return 0, true
			case op == "%":
				return a % b, true
			case b == -1 && a == math.MinInt64:
				rows.fail("%d DIV -1 is out of range of BIGINT", a)
				return 0, false
			}
			return a / b, true
		}
	}
	apply := map[string]func(a, b int64) (int64, bool){
		"+": func(a, b int64) (int64, bool) { s := a + b; return s, (s > a) == (b > 0) },
		"-": func(a, b int64) (int64, bool) { s := a - b; return s, (s < a) == (b > 0) },
		"*": multiply,
	}[op]
	return func(rows *Rows, row int) (int64, bool) {
		a, ok := l(rows, row)
		if !ok {
			return 0, false
		}
		b, ok := r(rows, row)
		if !ok {
			return 0, false
		}
		v, ok := apply(a, b)
		if !ok || !fits(v, t.k) {
			rows.fail("%d %s %d is out of range of %s", a, op, b, t)
			return 0, false
		}
		return v, true
	}
}

func multiply(a, b int64) (int64, bool) {
	if a == 0 || b == 0 {
		return 0, true
	}
	v := a * b
	return v, v/b == a && !(a == -1 && b == math.MinInt64) && !(b == -1 && a == math.MinInt64)
}

func floatArithmetic(op string, l, r fn[float64], single bool) fn[float64] {
	return func(rows *Rows, row int) (float64, bool) {
		first, second := l, r
		if op == "/" || op == "%" {
			first, second = r, l
		}
		a, ok := first(rows, row)
		if !ok {
			return 0, false
		}
		b, ok := second(rows, row)
		if !ok {
			return 0, false
		}
		var v float64
		switch op {
		case "+":
			v = a + b
		case "-":
			v = a - b
		case "*":
			v = a * b
		default:
			a, b = b, a
			if b == 0 {
				rows.fail("division by zero")
				return 0, false
			}
			if v = a / b; op == "%" {
				v = math.Mod(a, b)
			}
		}
		if single {
			v = float64(float32(v))
		}
		return v, true
	}
}

// decimalArithmetic works in big integers: results have up to 76 digits before they are rounded.
func (c *compiler) decimalArithmetic(t *term, op string, l, r *node) *node {
	side := func(n *node) *node {
		switch {
		case n.t.k == kDecimal:
			return n
		case n.term != nil && n.term.op == "literal" && n.t.integral(): // no more digits than it has (DecimalType.fromLiteral)
			v, _ := n.i(nil, 0)
			return c.cast(n, typ{kDecimal, digits(v), 0})
		}
		return c.cast(n, n.t.asDecimal())
	}
	if l.t.k == kNull {
		l = c.cast(l, r.t)
	}
	if r.t.k == kNull {
		r = c.cast(r, l.t)
	}
	l, r = side(l), side(r)
	result := arithmetic(op, l.t, r.t)
	ls, rs := l.t.s, r.t.s
	both := func(rows *Rows, row int) (a, b *big.Int, ok bool) {
		first, second := l, r
		if op == "/" || op == "%" || op == "div" {
			first, second = r, l
		}
		x, ok := first.d(rows, row)
		if !ok {
			return nil, nil, false
		}
		y, ok := second.d(rows, row)
		if !ok {
			return nil, nil, false
		}
		if first == r {
			x, y = y, x
			if y.Sign() == 0 {
				rows.fail("division by zero")
				return nil, nil, false
			}
		}
		return x.BigInt(), y.BigInt(), true
	}
	if op == "div" {
		return &node{t: typ{k: kInt64}, i: func(rows *Rows, row int) (int64, bool) {
			a, b, ok := both(rows, row)
			if !ok {
				return 0, false
			}
			s := max(ls, rs)
			q := new(big.Int).Quo(scaleUp(a, s-ls), scaleUp(b, s-rs))
			return int64(q.And(q, lowBits).Uint64()), true // which wraps around, as Java's longValue does
		}}
	}
	return &node{t: result, d: func(rows *Rows, row int) (decimal128.Num, bool) {
		a, b, ok := both(rows, row)
		if !ok {
			return decimal128.Num{}, false
		}
		v, scale := decimalResult(op, a, b, ls, rs)
		d, ok := bigToDecimal(v, scale, result)
		if !ok {
			rows.fail("the result of %s is out of range of %s", op, result)
		}
		return d, ok
	}}
}

var lowBits = new(big.Int).SetUint64(math.MaxUint64)

// decimalResult computes as java.math.BigDecimal does in Spark's Decimal: products keep 39 digits, quotients 38 decimals.
func decimalResult(op string, a, b *big.Int, ls, rs int32) (*big.Int, int32) {
	s := max(ls, rs)
	switch op {
	case "+":
		return new(big.Int).Add(scaleUp(a, s-ls), scaleUp(b, s-rs)), s
	case "-":
		return new(big.Int).Sub(scaleUp(a, s-ls), scaleUp(b, s-rs)), s
	case "%":
		return new(big.Int).Rem(scaleUp(a, s-ls), scaleUp(b, s-rs)), s
	case "*":
		v, scale := new(big.Int).Mul(a, b), ls+rs
		if excess := int32(len(new(big.Int).Abs(v).Text(10))) - (maxPrecision + 1); excess > 0 {
			v, scale = divideHalfUp(v, pow10(excess)), scale-excess
		}
		return v, scale
	}
	// a/10^ls / (b/10^rs) with 38 decimals
	return divideHalfUp(scaleUp(a, maxPrecision+rs-ls+maxPrecision), scaleUp(b, maxPrecision)), maxPrecision
}

// sign compiles unary minus and plus.
func (c *compiler) sign(t *term, x *node) *node {
	if x.t.k == kString {
		x = c.cast(x, typ{k: kDouble})
	}
	if x.t.k == kNull {
		x = c.cast(x, typ{k: kDouble})
	}
	if !x.t.numeric() {
		c.fail(t, "the sign of %s is not understood", x.t)
	}
	if t.op == "plus" {
		copied := *x
		return &copied
	}
	n := &node{t: x.t}
	switch {
	case x.f != nil:
		n.f = func(r *Rows, row int) (float64, bool) { v, ok := x.f(r, row); return -v, ok }
	case x.d != nil:
		n.d = opposite(x, func(decimal128.Num) bool { return true })
	default:
		n.i = negated(x, func(int64) bool { return true })
	}
	return n
}

// opposite is -x where the value asks for it. Spark rounds to 34 digits there, so that only what has no more is taken.
func opposite(x *node, when func(decimal128.Num) bool) fn[decimal128.Num] {
	return func(r *Rows, row int) (decimal128.Num, bool) {
		v, ok := x.d(r, row)
		if !ok || !when(v) {
			return v, ok
		}
		if !v.FitsInPrecision(34) && new(big.Int).Rem(v.BigInt(), pow10(maxPrecision-34)).Sign() != 0 {
			r.fail("the opposite of a DECIMAL of more than 34 digits is not understood")
			return v, false
		}
		return v.Negate(), true
	}
}

// negated is -x where the value asks for it.
func negated(x *node, when func(int64) bool) fn[int64] {
	k := x.t.k
	return func(r *Rows, row int) (int64, bool) {
		v, ok := x.i(r, row)
		if !ok || !when(v) {
			return v, ok
		}
		if v == math.MinInt64 || !fits(-v, k) {
			r.fail("the opposite of %d is out of range of %s", v, typ{k: k})
			return 0, false
		}
		return -v, true
	}
}
