package expr

import (
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

// like compiles LIKE: % is any text, _ one character, and the escape character takes their meaning away.
func (c *compiler) like(t *term, args []*node) *node {
	x, pattern := c.text1(args[0]), c.text1(args[1])
	escape := byte('\\')
	if t.value.s != "" {
		escape = t.value.s[0]
	}
	if !pattern.konst {
		c.fail(args[1].term, "the pattern of LIKE must be a constant")
	}
	text, ok := constant(c, args[1].term, pattern.s)
	if !ok {
		n := &node{t: typ{k: kBool}}
		n.setNull()
		return n
	}
	parts, ok := likePattern(text, escape)
	if !ok {
		c.fail(args[1].term, "the pattern %q of LIKE is invalid: %c must stand before %%, _ or itself", text, escape)
	}
	return &node{t: typ{k: kBool}, b: func(r *Rows, row int) (bool, bool) {
		v, ok := x.s(r, row)
		return ok && likeMatch(v, parts), ok
	}}
}

// anyText and anyRune are the wildcards in a compiled pattern.
const (
	anyText rune = -1 - iota
	anyRune
)

func likePattern(text string, escape byte) ([]rune, bool) {
	var out []rune
	all := []rune(text)
	for i := 0; i < len(all); i++ {
		switch ch := all[i]; {
		case ch == rune(escape):
			i++
			if i == len(all) || all[i] != '%' && all[i] != '_' && all[i] != rune(escape) {
				return nil, false
			}
			out = append(out, all[i])
		case ch == '%':
			if len(out) == 0 || out[len(out)-1] != anyText {
				out = append(out, anyText)
			}
		case ch == '_':
			out = append(out, anyRune)
		default:
			out = append(out, ch)
		}
	}
	return out, true
}

// likeMatch goes back to the last % where it can't go on, which is enough: the earlier ones have matched the least.
func likeMatch(s string, pattern []rune) bool {
	at, p := 0, 0
	back, backAt := -1, 0
	for at < len(s) {
		r, size := rune(s[at]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(s[at:])
		}
		switch {
		case p < len(pattern) && pattern[p] == anyText:
			back, backAt = p, at
			p++
		case p < len(pattern) && (pattern[p] == anyRune || pattern[p] == r):
			p++
			at += size
		case back >= 0:
			_, step := utf8.DecodeRuneInString(s[backAt:])
			backAt += step
			at, p = backAt, back+1
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == anyText {
		p++
	}
	return p == len(pattern)
}

// regexp compiles RLIKE for patterns that mean the same in Java and in Go, whose engine needs no more than linear time.
func (c *compiler) regexp(t *term, args []*node) *node {
	c.count(t, args, 2)
	x, pattern := c.text1(args[0]), c.text1(args[1])
	if !pattern.konst {
		c.fail(args[1].term, "the pattern of RLIKE must be a constant")
	}
	text, ok := constant(c, args[1].term, pattern.s)
	if !ok {
		c.fail(args[1].term, "the pattern of RLIKE is NULL")
	}
	if why := differs(text); why != "" {
		c.fail(args[1].term, "the pattern %q of RLIKE is not understood: %s", text, why)
	}
	re, err := regexp.Compile(text)
	if err != nil {
		c.fail(args[1].term, "the pattern %q of RLIKE is not understood: %v", text, err)
	}
	return &node{t: typ{k: kBool}, b: func(r *Rows, row int) (bool, bool) {
		v, ok := x.s(r, row)
		if ok && strings.ContainsAny(v, "\n\r\v\u0085\u2028\u2029") {
			r.fail("RLIKE of a text with line breaks is not understood") // . and $ differ between Java and Go
			return false, false
		}
		return ok && re.MatchString(v), ok
	}}
}

// differs says what in a pattern Java would read in another way, or not at all.
func differs(pattern string) string {
	if _, err := syntax.Parse(pattern, syntax.Perl); err != nil {
		return err.Error()
	}
	class := false
	for i := 0; i < len(pattern); i++ {
		switch ch := pattern[i]; {
		case ch >= utf8.RuneSelf:
			return "it has characters beyond ASCII"
		case ch == '\\':
			i++
			if next := pattern[i]; (isLetter(next) || isDigit(next)) && strings.IndexByte("dDwWsStnr", next) < 0 {
				return "\\" + string(next)
			}
		case class && (ch == '[' || ch == '&' || ch == '^' && pattern[i-1] != '['):
			return "a character class with " + string(ch)
		case ch == '[':
			class = true
			if i+1 < len(pattern) && (pattern[i+1] == ']' || strings.HasPrefix(pattern[i+1:], "^]")) {
				return "a character class that begins with ]"
			}
		case class && ch == ']':
			class = false
		case !class && ch == '(' && strings.HasPrefix(pattern[i+1:], "?") && !strings.HasPrefix(pattern[i+1:], "?:"):
			return "(?"
		case !class && (ch == '+' || ch == '?') && i > 0 && strings.IndexByte("*+?}", pattern[i-1]) >= 0 && ch == '+':
			return "possessive quantifiers"
		case !class && ch == '{' && (i+1 == len(pattern) || !isDigit(pattern[i+1])):
			return "{ without a number"
		}
	}
	return ""
}
