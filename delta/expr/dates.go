package expr

import (
	"strings"
)

// currentTime compiles what gives the time that Bind was handed.
func (c *compiler) currentTime(t *term, name string) *node {
	switch strings.ToLower(name) {
	case "now", "current_timestamp":
		if name := strings.ToLower(name); name == "now" && t.op == "column" {
			return nil
		}
		c.program.clock = true
		return &node{t: typ{k: kTimestamp}, i: func(r *Rows, _ int) (int64, bool) { return r.now, true }}
	case "current_date", "curdate":
		if name := strings.ToLower(name); name == "curdate" && t.op == "column" {
			return nil
		}
		c.program.clock = true
		return &node{t: typ{k: kDate}, i: func(r *Rows, _ int) (int64, bool) { return floorDiv(r.now, microsPerDay), true }}
	}
	return nil
}

// parts are the functions that take a number out of a DATE.
var parts = map[string]func(y int64, m, d int, day int64) int64{
	"year":       func(y int64, _, _ int, _ int64) int64 { return y },
	"quarter":    func(_ int64, m, _ int, _ int64) int64 { return int64(m-1)/3 + 1 },
	"month":      func(_ int64, m, _ int, _ int64) int64 { return int64(m) },
	"day":        func(_ int64, _, d int, _ int64) int64 { return int64(d) },
	"dayofmonth": func(_ int64, _, d int, _ int64) int64 { return int64(d) },
	"dayofyear":  func(y int64, _, _ int, day int64) int64 { return day - fromCivil(y, 1, 1) + 1 },
	"dayofweek":  func(_ int64, _, _ int, day int64) int64 { return floorMod(day+4, 7) + 1 },
}

// clock are the functions that take a number out of the time of day, and the microseconds of their unit.
var clock = map[string]struct{ unit, modulus int64 }{
	"hour": {3600 * microsPerSecond, 24}, "minute": {60 * microsPerSecond, 60}, "second": {microsPerSecond, 60},
}

func (c *compiler) dateFunction(t *term, args []*node) *node {
	if part, ok := parts[t.op]; ok {
		c.count(t, args, 1)
		x := c.instant(t, args[0], kDate)
		return &node{t: typ{k: kInt32}, i: func(r *Rows, row int) (int64, bool) {
			v, ok := x.i(r, row)
			if !ok {
				return 0, false
			}
			y, m, d := civil(v)
			return part(y, m, d, v), true
		}}
	}
	if u, ok := clock[t.op]; ok {
		c.count(t, args, 1)
		x := c.instant(t, args[0], kTimestamp)
		return &node{t: typ{k: kInt32}, i: func(r *Rows, row int) (int64, bool) {
			v, ok := x.i(r, row)
			return floorMod(floorDiv(v, u.unit), u.modulus), ok
		}}
	}
	switch t.op {
	case "date", "to_date":
		c.count(t, args, 1)
		return c.sameNode(c.instant(t, args[0], kDate))
	case "timestamp", "to_timestamp":
		c.count(t, args, 1)
		return c.sameNode(c.instant(t, args[0], kTimestamp))
	case "date_add", "dateadd", "date_sub":
		c.count(t, args, 2)
		return c.addDays(t, args[0], args[1], t.op == "date_sub")
	case "datediff", "date_diff":
		c.count(t, args, 2)
		end, start := c.instant(t, args[0], kDate), c.instant(t, args[1], kDate)
		return &node{t: typ{k: kInt32}, i: intArithmetic("-", end.i, start.i, typ{k: kInt32})}
	case "date_trunc":
		c.count(t, args, 2)
		return c.truncate(t, args[0], c.instant(t, args[1], kTimestamp))
	case "trunc":
		c.count(t, args, 2)
		return c.truncate(t, args[1], c.instant(t, args[0], kDate))
	case "date_format":
		c.count(t, args, 2)
		return c.dateFormat(t, c.instant(t, args[0], kTimestamp), args[1])
	}
	return nil
}

func (c *compiler) sameNode(x *node) *node {
	copied := *x
	return &copied
}

// instant is an argument that a function takes as a date or timestamp.
func (c *compiler) instant(t *term, x *node, k kind) *node {
	if !x.t.instant() && x.t.k != kString && x.t.k != kNull {
		c.fail(x.term, "%s takes a date or timestamp, not %s", t.op, x.t)
	}
	return c.cast(x, typ{k: k})
}

// dateArithmetic is DATE + days, days + DATE and DATE - days; nil when no side is a DATE.
func (c *compiler) dateArithmetic(t *term, op string, l, r *node) *node {
	switch {
	case l.t.k == kDate && (op == "+" || op == "-") && r.t.integral():
		return c.addDays(t, l, r, op == "-")
	case r.t.k == kDate && op == "+" && l.t.integral():
		return c.addDays(t, r, l, false)
	}
	return nil
}

func (c *compiler) addDays(t *term, date, days *node, subtract bool) *node {
	date, days = c.instant(t, date, kDate), c.int1(t, days)
	op := "+"
	if subtract {
		op = "-"
	}
	add := intArithmetic(op, date.i, days.i, typ{k: kInt64})
	return &node{t: typ{k: kDate}, i: func(r *Rows, row int) (int64, bool) {
		v, ok := add(r, row)
		return int64(int32(v)), ok // Spark adds INTs and lets them wrap around
	}}
}

// units of trunc and date_trunc, by the names that Spark takes.
var units = map[string]string{
	"YEAR": "year", "YYYY": "year", "YY": "year", "QUARTER": "quarter", "MONTH": "month", "MM": "month", "MON": "month", "WEEK": "week",
	"DAY": "day", "DD": "day", "HOUR": "hour", "MINUTE": "minute", "SECOND": "second", "MILLISECOND": "millisecond", "MICROSECOND": "microsecond",
}

// truncate compiles trunc (of a DATE, to a week or more) and date_trunc (of a TIMESTAMP). The unit must be a constant; of
// one that Spark does not know the result is NULL.
func (c *compiler) truncate(t *term, format, x *node) *node {
	if format.t.k == kNull {
		format = c.cast(format, typ{k: kString})
	}
	if !format.konst || format.t.k != kString {
		c.fail(format.term, "the unit of %s must be a string constant", t.op)
	}
	text, ok := constant(c, format.term, format.s)
	unit := units[strings.ToUpper(text)]
	n := &node{t: x.t}
	small := map[string]int64{"day": microsPerDay, "hour": 3600 * microsPerSecond, "minute": 60 * microsPerSecond,
		"second": microsPerSecond, "millisecond": 1000, "microsecond": 1}[unit]
	switch {
	case !ok || unit == "" || x.t.k == kDate && small > 0:
		n.setNull()
	case x.t.k == kDate:
		n.i = func(r *Rows, row int) (int64, bool) {
			v, ok := x.i(r, row)
			if !ok {
				return 0, false
			}
			return truncateDay(v, unit), true
		}
	case small > 0:
		n.i = func(r *Rows, row int) (int64, bool) { v, ok := x.i(r, row); return floorDiv(v, small) * small, ok }
	default:
		n.i = func(r *Rows, row int) (int64, bool) {
			v, ok := x.i(r, row)
			if !ok {
				return 0, false
			}
			return truncateDay(floorDiv(v, microsPerDay), unit) * microsPerDay, true
		}
	}
	return n
}

func truncateDay(day int64, unit string) int64 {
	y, m, _ := civil(day)
	switch unit {
	case "year":
		m = 1
	case "quarter":
		m = (m-1)/3*3 + 1
	case "week": // to Monday; day 0 was a Thursday
		return day - floorMod(day+3, 7)
	}
	return fromCivil(y, m, 1)
}

// dateFormat compiles date_format with the letters that partitions are made of: yyyy, MM, dd, HH, mm, ss, and text in
// quotes or without letters.
func (c *compiler) dateFormat(t *term, x, format *node) *node {
	if !format.konst || format.t.k != kString {
		c.fail(format.term, "the pattern of date_format must be a string constant")
	}
	pattern, ok := constant(c, format.term, format.s)
	if !ok {
		c.fail(format.term, "the pattern of date_format is NULL")
	}
	var fields []string // a name of letters, or ' and text
	for rest := pattern; rest != ""; {
		switch ch := rest[0]; {
		case isLetter(ch) && ch != '_':
			n := len(rest) - len(strings.TrimLeft(rest, rest[:1]))
			switch word := rest[:n]; word {
			case "yyyy", "MM", "dd", "HH", "mm", "ss":
				fields = append(fields, word)
			default:
				c.fail(format.term, "%s in the pattern of date_format is not understood: yyyy, MM, dd, HH, mm and ss are", word)
			}
			rest = rest[n:]
		case ch == '\'':
			text, after, closed := strings.Cut(rest[1:], "'")
			if !closed || text == "" || strings.HasPrefix(after, "'") {
				c.fail(format.term, "the quotes in the pattern of date_format are not understood")
			}
			fields, rest = append(fields, "'"+text), after
		case strings.IndexByte("#{}[]", ch) >= 0:
			c.fail(format.term, "%c in the pattern of date_format is not understood", ch)
		default:
			fields, rest = append(fields, "'"+rest[:1]), rest[1:]
		}
	}
	return &node{t: typ{k: kString}, s: func(r *Rows, row int) (string, bool) {
		v, ok := x.i(r, row)
		if !ok {
			return "", false
		}
		return formatted(v, fields), true
	}}
}

func formatted(micros int64, fields []string) string {
	day := floorDiv(micros, microsPerDay)
	seconds := (micros - day*microsPerDay) / microsPerSecond
	y, m, d := civil(day)
	out := make([]byte, 0, 32)
	two := func(v int64) { out = append(out, byte('0'+v/10), byte('0'+v%10)) }
	for _, f := range fields {
		switch f {
		case "yyyy":
			out = append(out, yearText(y)...)
		case "MM":
			two(int64(m))
		case "dd":
			two(int64(d))
		case "HH":
			two(seconds / 3600)
		case "mm":
			two(seconds / 60 % 60)
		case "ss":
			two(seconds % 60)
		default:
			out = append(out, f[1:]...)
		}
	}
	return string(out)
}
