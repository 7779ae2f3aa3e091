package expr

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

const (
	microsPerSecond = 1_000_000
	microsPerDay    = 86_400 * microsPerSecond
)

// explicitCast is CAST(x AS type), in Spark's ANSI mode.
func (c *compiler) explicitCast(x *node, t *term) *node {
	if !castable(x.t, t.to) {
		c.fail(t, "a cast of %s to %s is not understood: %s", x.t, t.to, c.source(t))
	}
	n := *c.cast(x, t.to)
	n.cost = 1
	return &n
}

// store casts for a column (Spark's ANSI store assignment).
func (c *compiler) store(x *node, to typ) *node {
	from := x.t
	ok := from == to || from.k == kNull || from.numeric() && to.numeric() || from.instant() && to.instant() ||
		to.k == kString && from.k != kBinary && castable(from, to)
	if !ok {
		c.fail(x.term, "its value is %s, which cannot be stored as %s", from, to)
	}
	return c.cast(x, to)
}

// castable tells whether a cast is in the subset. A FLOAT or DOUBLE as text is not: its digits would have to be Java's.
func castable(from, to typ) bool {
	switch {
	case from.k == kNested:
		return false
	case from.k == kNull || from.k == to.k:
		return true
	case to.k == kString:
		return !from.floating()
	case from.k == kString:
		return true
	case to.k == kBinary || from.k == kBinary:
		return false
	case from.instant() && to.instant():
		return true
	case from.k == kTimestamp:
		return to.numeric()
	case to.k == kTimestamp:
		return from.numeric()
	}
	return !from.instant() && !to.instant()
}

// cast converts without asking whether it is allowed where the types are equal or one is wider; it refuses the rest.
func (c *compiler) cast(x *node, to typ) *node {
	if x.t == to {
		return x
	}
	if !castable(x.t, to) {
		c.fail(x.term, "%s is %s, and %s is wanted", c.source(x.term), x.t, to)
	}
	n := &node{t: to, term: x.term, cost: x.cost}
	switch {
	case x.t.k == kNull:
		n.setNull()
		n.konst = true
		return n
	case to.k == kBool:
		n.b = toBool(x)
	case to.storedInt():
		n.i = toInt(x, to)
	case to.floating():
		n.f = toFloat(x, to.k == kFloat)
	case to.k == kDecimal:
		n.d = toDecimal(x, to)
	default: // a string, or the bytes of one
		n.s = toText(x)
	}
	if to.k != kBinary && x.t.k != kBinary && x.null != nil && x.t.k != kString && (to.k == kString || to.floating()) {
		n.null = x.null // such a cast never fails
	}
	return fold(n, x)
}

// setNull gives the node the function of its type, which is always NULL.
func (n *node) setNull() {
	switch {
	case n.t.k == kBool:
		n.b = func(*Rows, int) (bool, bool) { return false, false }
	case n.t.storedInt():
		n.i = func(*Rows, int) (int64, bool) { return 0, false }
	case n.t.floating():
		n.f = func(*Rows, int) (float64, bool) { return 0, false }
	case n.t.k == kDecimal:
		n.d = func(*Rows, int) (decimal128.Num, bool) { return decimal128.Num{}, false }
	default:
		n.s = func(*Rows, int) (string, bool) { return "", false }
	}
}

// convert is a cast that can fail with a reason.
func convert[F, T any](from fn[F], how func(F) (T, string)) fn[T] {
	return func(r *Rows, row int) (out T, ok bool) {
		v, ok := from(r, row)
		if !ok {
			return out, false
		}
		out, reason := how(v)
		if reason != "" {
			r.fail("%s", reason)
			return out, false
		}
		return out, true
	}
}

func malformed(s string, t typ) string {
	if utf8.RuneCountInString(s) > 40 {
		s = string([]rune(s)[:40]) + "..."
	}
	return fmt.Sprintf("%q cannot be cast to %s", s, t)
}

func toBool(x *node) fn[bool] {
	switch {
	case x.s != nil:
		return convert(x.s, func(s string) (bool, string) {
			switch strings.ToLower(trimControls(s)) {
			case "t", "true", "y", "yes", "1":
				return true, ""
			case "f", "false", "n", "no", "0":
				return false, ""
			}
			return false, malformed(s, typ{k: kBool})
		})
	case x.f != nil:
		return func(r *Rows, row int) (bool, bool) { v, ok := x.f(r, row); return v != 0, ok }
	case x.d != nil:
		return func(r *Rows, row int) (bool, bool) { v, ok := x.d(r, row); return v.Sign() != 0, ok }
	}
	return func(r *Rows, row int) (bool, bool) { v, ok := x.i(r, row); return v != 0, ok }
}

// trimControls is UTF8String.trimAll.
func trimControls(s string) string {
	return strings.TrimFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f })
}

func toInt(x *node, to typ) fn[int64] {
	outOfRange := func(v any) string { return fmt.Sprintf("%v is out of range of %s", v, to) }
	switch {
	case x.t.instant() && to.instant():
		return convert(x.i, func(v int64) (int64, string) { return betweenInstants(v, x.t.k, to.k) })
	case x.s != nil && to.instant():
		return convert(x.s, func(s string) (int64, string) { return parseInstant(s, to.k) })
	case x.s != nil:
		return convert(x.s, func(s string) (int64, string) {
			v, ok := parseWhole(trimControls(s))
			if !ok || !fits(v, to.k) {
				return 0, malformed(s, to)
			}
			return v, ""
		})
	case to.k == kTimestamp:
		return toTimestamp(x)
	case x.b != nil:
		return func(r *Rows, row int) (int64, bool) { v, ok := x.b(r, row); return int64(boolOrder(v)), ok }
	case x.f != nil:
		top := math.Ldexp(1, widths[to.k]-1)
		return convert(x.f, func(v float64) (int64, string) {
			if to.k == kInt64 && v == top { // Spark compares with Long.MaxValue as a double, which is 2^63
				return math.MaxInt64, ""
			}
			if !(math.Floor(v) < top && math.Ceil(v) >= -top) {
				return 0, outOfRange(v)
			}
			return int64(v), ""
		})
	case x.d != nil:
		return convert(x.d, func(v decimal128.Num) (int64, string) {
			q := new(big.Int).Quo(v.BigInt(), pow10(x.t.s))
			if !q.IsInt64() || !fits(q.Int64(), to.k) {
				return 0, outOfRange(plain(v, x.t.s))
			}
			return q.Int64(), ""
		})
	}
	seconds := x.t.k == kTimestamp
	if !seconds && x.t.k < to.k {
		return x.i
	}
	return convert(x.i, func(v int64) (int64, string) {
		if seconds {
			v = floorDiv(v, microsPerSecond)
		}
		if !fits(v, to.k) {
			return 0, outOfRange(v)
		}
		return v, ""
	})
}

// toTimestamp takes numbers as seconds since 1970.
func toTimestamp(x *node) fn[int64] {
	t := typ{k: kTimestamp}
	switch {
	case x.f != nil:
		return convert(x.f, func(v float64) (int64, string) {
			if v *= microsPerSecond; !(math.Abs(v) < 1<<63) {
				return 0, fmt.Sprintf("%v is out of range of %s", v/microsPerSecond, t)
			}
			return int64(v), ""
		})
	case x.d != nil:
		return convert(x.d, func(v decimal128.Num) (int64, string) {
			micros := new(big.Int).Mul(v.BigInt(), big.NewInt(microsPerSecond))
			micros.Quo(micros, pow10(x.t.s))
			if !micros.IsInt64() {
				return 0, fmt.Sprintf("%s is out of range of %s", plain(v, x.t.s), t)
			}
			return micros.Int64(), ""
		})
	case x.b != nil:
		return nil
	}
	return func(r *Rows, row int) (int64, bool) {
		v, ok := x.i(r, row)
		if micros, fit := multiply(v, microsPerSecond); fit {
			return micros, ok
		}
		if v < 0 {
			return math.MinInt64, ok
		}
		return math.MaxInt64, ok
	}
}

// saturate is Java's conversion of a double to a long.
func saturate(v float64) int64 {
	switch {
	case v >= math.MaxInt64:
		return math.MaxInt64
	case v <= math.MinInt64:
		return math.MinInt64
	}
	return int64(v)
}

// parseWhole is UTF8String.toLong without decimals: a sign and digits.
func parseWhole(s string) (int64, bool) {
	v, err := strconv.ParseInt(s, 10, 64)
	return v, err == nil
}

func toFloat(x *node, single bool) fn[float64] {
	round := func(v float64) float64 {
		if single {
			return float64(float32(v))
		}
		return v
	}
	switch {
	case x.s != nil:
		size, to := 64, typ{k: kDouble}
		if single {
			size, to = 32, typ{k: kFloat}
		}
		return convert(x.s, func(s string) (float64, string) {
			v, ok := parseFloat(strings.TrimFunc(s, func(r rune) bool { return r <= ' ' }), size)
			if !ok {
				return 0, malformed(s, to)
			}
			return v, ""
		})
	case x.f != nil:
		return func(r *Rows, row int) (float64, bool) { v, ok := x.f(r, row); return round(v), ok }
	case x.b != nil:
		return func(r *Rows, row int) (float64, bool) { v, ok := x.b(r, row); return float64(boolOrder(v)), ok }
	case x.d != nil:
		return func(r *Rows, row int) (float64, bool) {
			v, ok := x.d(r, row)
			if !ok {
				return 0, false
			}
			return round(decimalFloat(v, x.t.s)), true
		}
	case x.t.k == kTimestamp:
		return func(r *Rows, row int) (float64, bool) {
			v, ok := x.i(r, row)
			return round(float64(v) / microsPerSecond), ok
		}
	case single:
		return func(r *Rows, row int) (float64, bool) { v, ok := x.i(r, row); return float64(float32(v)), ok }
	}
	return func(r *Rows, row int) (float64, bool) { v, ok := x.i(r, row); return float64(v), ok }
}

// parseFloat takes what Java's Double.parseDouble and Spark's names of special values take, but for hexadecimal digits.
func parseFloat(s string, size int) (float64, bool) {
	switch strings.ToLower(s) {
	case "nan":
		return math.NaN(), true
	case "inf", "+inf", "infinity", "+infinity":
		return math.Inf(1), true
	case "-inf", "-infinity":
		return math.Inf(-1), true
	}
	if n := len(s); n > 1 && strings.IndexByte("dDfF", s[n-1]) >= 0 {
		s = s[:n-1]
	}
	for i := range len(s) {
		if !isDigit(s[i]) && strings.IndexByte("+-.eE", s[i]) < 0 {
			return 0, false
		}
	}
	v, err := strconv.ParseFloat(s, size)
	if err != nil && !math.IsInf(v, 0) { // too large a number is infinite
		return 0, false
	}
	return v, true
}

func toDecimal(x *node, to typ) fn[decimal128.Num] {
	outOfRange := func(v any) string { return fmt.Sprintf("%v is out of range of %s", v, to) }
	switch {
	case x.s != nil:
		return convert(x.s, func(s string) (decimal128.Num, string) {
			v, scale, ok := parseBig(strings.TrimFunc(s, func(r rune) bool { return r <= ' ' }))
			if !ok {
				return decimal128.Num{}, malformed(s, to)
			}
			d, ok := bigToDecimal(v, scale, to)
			if !ok {
				return d, outOfRange(strings.TrimSpace(s))
			}
			return d, ""
		})
	case x.d != nil:
		return convert(x.d, func(v decimal128.Num) (decimal128.Num, string) {
			d, ok := rescale(v, x.t, to)
			if !ok {
				return d, outOfRange(plain(v, x.t.s))
			}
			return d, ""
		})
	case x.f != nil:
		return floatsToDecimal(x.f, x.t.k == kFloat, to)
	case x.t.k == kTimestamp: // seconds, over a DOUBLE
		return floatsToDecimal(toFloat(x, false), false, to)
	}
	whole := x.i
	from := x.t.asDecimal()
	if x.b != nil {
		whole = func(r *Rows, row int) (int64, bool) { v, ok := x.b(r, row); return int64(boolOrder(v)), ok }
		from = typ{kDecimal, 1, 0}
	}
	return convert(whole, func(v int64) (decimal128.Num, string) {
		d, ok := rescale(decimal128.FromI64(v), from, to)
		if !ok {
			return d, outOfRange(v)
		}
		return d, ""
	})
}

// floatsToDecimal gives NULL for NaN and the infinities, as Spark does even in ANSI mode.
func floatsToDecimal(x fn[float64], single bool, to typ) fn[decimal128.Num] {
	finite := func(r *Rows, row int) (float64, bool) {
		v, ok := x(r, row)
		return v, ok && !math.IsNaN(v) && !math.IsInf(v, 0)
	}
	return convert(finite, func(v float64) (decimal128.Num, string) { return floatDecimal(v, single, to) })
}

// floatDecimal goes over the shortest digits that give the number, as Java's BigDecimal.valueOf does.
func floatDecimal(v float64, single bool, to typ) (decimal128.Num, string) {
	size := 64
	if single {
		size = 32
	}
	unscaled, scale, ok := parseBig(strconv.FormatFloat(v, 'e', -1, size))
	var d decimal128.Num
	if ok {
		d, ok = bigToDecimal(unscaled, scale, to)
	}
	if !ok {
		return d, fmt.Sprintf("%v is out of range of %s", v, to)
	}
	return d, ""
}

func toText(x *node) fn[string] {
	switch {
	case x.s != nil:
		return x.s
	case x.b != nil:
		return func(r *Rows, row int) (string, bool) { v, ok := x.b(r, row); return strconv.FormatBool(v), ok }
	case x.d != nil:
		return func(r *Rows, row int) (string, bool) {
			v, ok := x.d(r, row)
			if !ok {
				return "", false
			}
			return plain(v, x.t.s), true
		}
	}
	return func(r *Rows, row int) (string, bool) {
		v, ok := x.i(r, row)
		if !ok {
			return "", false
		}
		switch {
		case x.t.k == kDate:
			return dateText(v), true
		case x.t.instant():
			return timestampText(v), true
		}
		return strconv.FormatInt(v, 10), true
	}
}
