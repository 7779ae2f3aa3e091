package expr

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Error says what in an expression is not understood.
type Error struct {
	Text   string // the whole expression
	Pos    int    // byte offset in Text
	Reason string
}

func (e *Error) Error() string {
	return fmt.Sprintf("expression %q, at character %d: %s", e.Text, utf8.RuneCountInString(e.Text[:e.Pos])+1, e.Reason)
}

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenWord
	tokenQuoted // a back-quoted identifier
	tokenString
	tokenNumber
	tokenOp
)

type token struct {
	kind tokenKind
	text string // a word as it stands, a string or quoted name unescaped
	pos  int
	end  int
}

// is tells whether the token is the keyword or operator, which is given in upper case.
func (t token) is(word string) bool {
	return (t.kind == tokenWord || t.kind == tokenOp) && strings.EqualFold(t.text, word)
}

// operators, longer ones first.
var operators = []string{"<=>", "||", "::", "<=", ">=", "<>", "!=", "==", "=", "<", ">", "+", "-", "*", "/", "%", "(", ")", ",", ".", "!"}

// lex divides a text into tokens; the last one is tokenEnd.
func lex(text string) ([]token, *Error) {
	var out []token
	for at := 0; ; {
		for at < len(text) && strings.IndexByte(" \t\r\n", text[at]) >= 0 {
			at++
		}
		if at == len(text) {
			return append(out, token{kind: tokenEnd, pos: at, end: at}), nil
		}
		t, err := lexOne(text, at)
		if err != nil {
			return nil, err
		}
		t.pos = at
		out = append(out, t)
		at = t.end
	}
}

func lexOne(text string, at int) (token, *Error) {
	c := text[at]
	switch {
	case c == '\'' || c == '"':
		return lexString(text, at)
	case c == '`':
		return lexQuoted(text, at)
	case isDigit(c) || c == '.' && at+1 < len(text) && isDigit(text[at+1]):
		return lexNumber(text, at)
	case isLetter(c):
		end := at
		for end < len(text) && (isLetter(text[end]) || isDigit(text[end])) {
			end++
		}
		return token{kind: tokenWord, text: text[at:end], end: end}, nil
	}
	for _, op := range operators {
		if strings.HasPrefix(text[at:], op) && !strings.HasPrefix(text[at:], "--") && !strings.HasPrefix(text[at:], "/*") {
			return token{kind: tokenOp, text: op, end: at + len(op)}, nil
		}
	}
	r, _ := utf8.DecodeRuneInString(text[at:])
	return token{}, &Error{text, at, fmt.Sprintf("%q is not understood", r)}
}

func isDigit(c byte) bool  { return c-'0' <= 9 }
func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' }

// lexQuoted reads a back-quoted name, in which two back quotes stand for one.
func lexQuoted(text string, at int) (token, *Error) {
	var b strings.Builder
	for i := at + 1; i < len(text); i++ {
		if text[i] == '`' {
			if i+1 == len(text) || text[i+1] != '`' {
				return token{kind: tokenQuoted, text: b.String(), end: i + 1}, nil
			}
			i++
		}
		b.WriteByte(text[i])
	}
	return token{}, &Error{text, at, "the name has no closing back quote"}
}

// lexString reads a string with Spark's escapes (ParserUtils.unescapeSQLString). Strings that follow each other without a
// blank between them are the parser's.
func lexString(text string, at int) (token, *Error) {
	quote := text[at]
	var b strings.Builder
	for i := at + 1; i < len(text); {
		c := text[i]
		if c == quote {
			return token{kind: tokenString, text: b.String(), end: i + 1}, nil
		}
		if c != '\\' || i+1 == len(text) {
			b.WriteByte(c)
			i++
			continue
		}
		i += unescape(&b, text[i+1:]) + 1
	}
	return token{}, &Error{text, at, "the string has no closing quote"}
}

// unescape writes what stands behind a backslash, and returns how many bytes that were.
func unescape(b *strings.Builder, s string) int {
	if n := map[byte]int{'u': 4, 'U': 8}[s[0]]; n > 0 && len(s) > n {
		if v, err := strconv.ParseUint(s[1:n+1], 16, 32); err == nil {
			b.WriteRune(rune(v))
			return n + 1
		}
	}
	if len(s) >= 3 && s[0]|1 == '1' && s[1]&^7 == '0' && s[2]&^7 == '0' {
		b.WriteRune(rune(s[0]-'0')<<6 | rune(s[1]-'0')<<3 | rune(s[2]-'0'))
		return 3
	}
	switch s[0] {
	case '0':
		b.WriteByte(0)
	case 'b':
		b.WriteByte('\b')
	case 'n':
		b.WriteByte('\n')
	case 'r':
		b.WriteByte('\r')
	case 't':
		b.WriteByte('\t')
	case 'Z':
		b.WriteByte(0x1a)
	case '%', '_': // for LIKE, which takes the backslash
		b.WriteByte('\\')
		b.WriteByte(s[0])
	default:
		_, size := utf8.DecodeRuneInString(s)
		b.WriteString(s[:size])
		return size
	}
	return 1
}

// lexNumber reads a number with its exponent and its type suffix.
func lexNumber(text string, at int) (token, *Error) {
	end := at
	digits := func() {
		for end < len(text) && isDigit(text[end]) {
			end++
		}
	}
	digits()
	if end < len(text) && text[end] == '.' {
		end++
		digits()
	}
	if end < len(text) && text[end]|0x20 == 'e' {
		mantissa := end
		end++
		if end < len(text) && (text[end] == '+' || text[end] == '-') {
			end++
		}
		if end == len(text) || !isDigit(text[end]) {
			end = mantissa
		}
		digits()
	}
	for end < len(text) && isLetter(text[end]) {
		end++
	}
	if end < len(text) && isDigit(text[end]) {
		return token{}, &Error{text, at, "a name that begins with a digit must stand in back quotes"}
	}
	return token{kind: tokenNumber, text: text[at:end], end: end}, nil
}
