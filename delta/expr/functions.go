package expr

import (
	"math"
	"math/big"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// function compiles a call by name; nil when there is no such function.
func (c *compiler) function(t *term, args []*node) *node {
	if n := c.currentTime(t, t.op); n != nil {
		c.count(t, args, 0)
		return n
	}
	switch t.op {
	case "like":
		return c.like(t, args)
	case "rlike", "regexp", "regexp_like":
		return c.regexp(t, args)
	case "concat":
		return c.concat(t, args)
	case "lower", "lcase", "upper", "ucase":
		c.count(t, args, 1)
		return changeCase(c.text1(args[0]), t.op[0] == 'u')
	case "trim", "ltrim", "rtrim":
		c.count(t, args, 1)
		return trim(c.text1(args[0]), t.op)
	case "length", "char_length", "character_length", "len", "octet_length":
		c.count(t, args, 1)
		return c.length(t, args[0])
	case "substring", "substr", "left", "right":
		return c.substring(t, args)
	case "startswith", "endswith", "contains":
		c.count(t, args, 2)
		return c.find2(t, args)
	case "abs":
		c.count(t, args, 1)
		return c.abs(t, args[0])
	case "floor", "ceil", "ceiling", "round":
		return c.round(t, args)
	case "isnan":
		c.count(t, args, 1)
		x := c.cast(args[0], typ{k: kDouble})
		return &node{t: typ{k: kBool}, b: func(r *Rows, row int) (bool, bool) {
			v, ok := x.f(r, row)
			return ok && math.IsNaN(v), ok || r.err == nil
		}}
	case "size", "cardinality":
		c.count(t, args, 1)
		return c.sizeOf(t, args[0])
	}
	return c.dateFunction(t, args)
}

// text1 is an argument that a function takes as a string.
func (c *compiler) text1(x *node) *node { return c.cast(x, typ{k: kString}) }

// int1 is an argument that must be a whole number that INT holds.
func (c *compiler) int1(t *term, x *node) *node {
	if x.t.k != kNull && (!x.t.integral() || x.t.k == kInt64) {
		c.fail(x.term, "%s takes INT here, not %s", t.op, x.t)
	}
	return c.cast(x, typ{k: kInt32})
}

// maxJoined bounds what concat makes of one batch: it can multiply a message's size.
const maxJoined = 512 << 20

func (c *compiler) concat(t *term, args []*node) *node {
	if len(args) == 0 {
		c.fail(t, "concat without arguments is not understood")
	}
	parts := make([]fn[string], len(args))
	for i, a := range args {
		if a.t.k == kBinary {
			c.fail(a.term, "concat of BINARY is not understood")
		}
		parts[i] = c.text1(a).s
	}
	return &node{t: typ{k: kString}, s: func(r *Rows, row int) (string, bool) {
		var short [128]byte // what fits into it is allocated once
		out := short[:0]
		null := false
		for _, p := range parts {
			v, ok := p(r, row)
			if r.err != nil {
				return "", false
			}
			null = null || !ok
			out = append(out, v...)
		}
		if r.joined += len(out); r.joined > maxJoined {
			r.fail("concat makes more than %d MiB of one batch", maxJoined>>20)
			return "", false
		}
		return string(out), !null
	}}
}

// changeCase is exact for characters whose case has one form only. The few others (final sigma, ligatures) are refused for
// the row, because their form depends on what is around them or on the version of Unicode.
func changeCase(x *node, upper bool) *node {
	change, special := strings.ToLower, "\u0130\u03a3"
	if upper {
		change = func(s string) string { return strings.ReplaceAll(strings.ToUpper(s), "ß", "SS") }
		special = "\u0131\u0149\u01f0\u0345\u0390\u03b0\u03c2\u0587\u1e9e\u1e96\u1e97\u1e98\u1e99\u1e9a"
	}
	return &node{t: typ{k: kString}, s: convert(x.s, func(s string) (string, string) {
		for _, r := range s {
			if r >= utf8.RuneSelf && (strings.ContainsRune(special, r) || rareCase(r)) {
				return "", "the case of " + string(r) + " is not understood"
			}
		}
		return change(s), ""
	})}
}

// rareCase tells whether r is of an alphabet whose case changed between versions of Unicode, or has special rules.
func rareCase(r rune) bool {
	return r >= 0x10a0 && r <= 0x10ff || r >= 0x13a0 && r <= 0x13fd || r >= 0x1c80 && r <= 0x1cbf || r >= 0x1f50 && r <= 0x1fff ||
		r >= 0xa640 && r <= 0xabff || r >= 0xfb00 && r <= 0xfb17 || r >= 0x10400 && r <= 0x1e943 || r == utf8.RuneError
}

func trim(x *node, op string) *node {
	return &node{t: typ{k: kString}, s: func(r *Rows, row int) (string, bool) {
		v, ok := x.s(r, row)
		if op != "rtrim" {
			v = strings.TrimLeft(v, " ")
		}
		if op != "ltrim" {
			v = strings.TrimRight(v, " ")
		}
		return v, ok
	}}
}

func (c *compiler) length(t *term, x *node) *node {
	runes := t.op != "octet_length" && x.t.k != kBinary
	if x.t.k != kBinary {
		x = c.text1(x)
	}
	return &node{t: typ{k: kInt32}, i: func(r *Rows, row int) (int64, bool) {
		v, ok := x.s(r, row)
		if runes {
			return int64(utf8.RuneCountInString(v)), ok
		}
		return int64(len(v)), ok
	}}
}

// substring counts characters from 1, negative ones from the end; what lies outside the string is empty.
func (c *compiler) substring(t *term, args []*node) *node {
	if t.op == "left" || t.op == "right" {
		c.count(t, args, 2)
	} else {
		c.count(t, args, 2, 3)
	}
	if args[0].t.k == kBinary {
		c.fail(args[0].term, "%s of BINARY is not understood", t.op)
	}
	x, from := c.text1(args[0]), c.int1(t, args[1])
	length := &node{i: func(*Rows, int) (int64, bool) { return math.MaxInt32, true }}
	if len(args) == 3 {
		length = c.int1(t, args[2])
	}
	op := t.op
	return &node{t: typ{k: kString}, s: func(r *Rows, row int) (string, bool) {
		v, ok := x.s(r, row)
		if !ok {
			return "", false
		}
		start, ok := from.i(r, row)
		if !ok {
			return "", false
		}
		n, ok := length.i(r, row)
		switch {
		case !ok:
			return "", false
		case op == "left":
			start, n = 1, start
		case op == "right" && start <= 0:
			return "", true
		case op == "right":
			start = -start
		}
		return runes(v, start, n), true
	}}
}

// runes is UTF8String.substringSQL.
func runes(s string, start, n int64) string {
	switch {
	case start > 0:
		start--
	case start < 0:
		start += int64(utf8.RuneCountInString(s))
	}
	end := start + n
	if n <= 0 || end <= 0 {
		return ""
	}
	from := skip(s, max(start, 0))
	return s[from : from+skip(s[from:], end-max(start, 0))]
}

// skip is the length of the first n characters.
func skip(s string, n int64) int {
	at := 0
	for ; n > 0 && at < len(s); n-- {
		_, size := utf8.DecodeRuneInString(s[at:])
		at += size
	}
	return at
}

func (c *compiler) find2(t *term, args []*node) *node {
	x, y := c.text1(args[0]), c.text1(args[1])
	test := map[string]func(string, string) bool{"startswith": strings.HasPrefix, "endswith": strings.HasSuffix, "contains": strings.Contains}[t.op]
	return &node{t: typ{k: kBool}, b: func(r *Rows, row int) (bool, bool) {
		a, ok := x.s(r, row)
		if !ok {
			return false, false
		}
		b, ok := y.s(r, row)
		return ok && test(a, b), ok
	}}
}

func (c *compiler) abs(t *term, x *node) *node {
	if x.t.k == kString || x.t.k == kNull {
		x = c.cast(x, typ{k: kDouble})
	}
	n := &node{t: x.t}
	switch {
	case !x.t.numeric():
		c.fail(t, "abs of %s is not understood", x.t)
	case x.f != nil:
		n.f = func(r *Rows, row int) (float64, bool) { v, ok := x.f(r, row); return math.Abs(v), ok }
	case x.d != nil:
		n.d = opposite(x, func(v decimal128.Num) bool { return v.Sign() < 0 })
	default:
		n.i = negated(x, func(v int64) bool { return v < 0 })
	}
	return n
}

// round compiles floor, ceil and round of whole numbers and decimals, and floor and ceil of DOUBLE. round with a number of
// digits is taken for decimals only.
func (c *compiler) round(t *term, args []*node) *node {
	c.count(t, args, 1, 2)
	x := args[0]
	var places int64
	if len(args) == 2 {
		ok := args[1].konst && args[1].t.k == kInt32
		if ok {
			places, ok = constant(c, args[1].term, args[1].i)
		}
		if !ok || t.op != "round" || x.t.k != kDecimal || places < 0 || places > int64(x.t.s) {
			c.fail(t, "%s to a number of digits is understood for DECIMAL only, up to its scale", t.op)
		}
	}
	switch {
	case x.t.integral() && t.op == "round":
		copied := *x
		return &copied
	case x.t.integral():
		return &node{t: typ{k: kInt64}, i: x.i}
	case x.t.k == kDecimal:
		return roundDecimal(t.op, x, int32(places))
	case x.t.floating() && t.op != "round":
		up := t.op != "floor"
		return &node{t: typ{k: kInt64}, i: func(r *Rows, row int) (int64, bool) {
			v, ok := x.f(r, row)
			if v = math.Floor(v); up {
				v, ok = x.f(r, row)
				v = math.Ceil(v)
			}
			if math.IsNaN(v) {
				v = 0
			}
			return saturate(v), ok
		}}
	}
	c.fail(t, "%s of %s is not understood", t.op, x.t)
	return nil
}

func roundDecimal(op string, x *node, places int32) *node {
	from := x.t
	to := typ{kDecimal, min(from.p-from.s+places+1, maxPrecision), places}
	if from.s == 0 && op != "round" {
		to.p = from.p
	}
	return &node{t: to, d: func(r *Rows, row int) (decimal128.Num, bool) {
		v, ok := x.d(r, row)
		if !ok {
			return v, false
		}
		unit := pow10(from.s - places)
		var q *big.Int
		switch op {
		case "round":
			q = divideHalfUp(v.BigInt(), unit)
		case "floor":
			q = new(big.Int).Div(v.BigInt(), unit) // Euclidean, which is the floor for a positive divisor
		default:
			q = new(big.Int).Neg(new(big.Int).Div(new(big.Int).Neg(v.BigInt()), unit))
		}
		d, ok := bigToDecimal(q, places, to)
		if !ok {
			r.fail("the result of %s is out of range of %s", op, to)
		}
		return d, ok
	}}
}

// sizeOf is size(): NULL of NULL, as in ANSI mode.
func (c *compiler) sizeOf(t *term, x *node) *node {
	if x.size == nil {
		c.fail(t, "size of %s is not understood", x.t)
	}
	return &node{t: typ{k: kInt32}, i: func(r *Rows, row int) (int64, bool) {
		if x.null(r, row) {
			return 0, false
		}
		return x.size(r, row), true
	}}
}
