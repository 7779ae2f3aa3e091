package expr

import (
	"fmt"
	"strconv"
	"strings"
)

// Bounds of what is parsed, so that no table can make a writer work without an end.
const (
	maxText  = 64 << 10
	maxDepth = 100
	maxTerms = 2000
)

// term is one node of the syntax tree.
type term struct {
	op       string // "literal", "column", "cast", or the name of an operator or function, in lower case
	pos, end int    // of its text
	args     []*term
	value    literal  // of a literal
	names    []string // of a column
	to       typ      // of a cast
}

// literal is a constant as it is written.
type literal struct {
	t typ
	b bool
	i int64
	f float64
	s string
}

type parser struct {
	text   string
	tokens []token
	at     int
	depth  int
	terms  int
}

// parse reads a whole text as one expression.
func parse(text string) (t *term, err error) {
	if len(text) > maxText {
		return nil, &Error{text[:100], 0, fmt.Sprintf("the text is longer than %d bytes", maxText)}
	}
	p := &parser{text: text}
	defer caught(&err)
	var lexErr *Error
	if p.tokens, lexErr = lex(text); lexErr != nil {
		return nil, lexErr
	}
	t = p.expression()
	if p.peek().kind != tokenEnd {
		p.unexpected()
	}
	return t, nil
}

// caught turns the *Error that ended a parsing or a compilation into the function's error.
func caught(err *error) {
	switch e := recover().(type) {
	case nil:
	case *Error:
		*err = e
	default:
		panic(e)
	}
}

// fail ends the parsing; parse recovers the error.
func (p *parser) fail(pos int, format string, args ...any) {
	panic(&Error{p.text, pos, fmt.Sprintf(format, args...)})
}

func (p *parser) unexpected() {
	t := p.peek()
	if t.kind == tokenEnd {
		p.fail(t.pos, "it ends too early")
	}
	p.fail(t.pos, "%s is not understood here", p.text[t.pos:t.end])
}

func (p *parser) peek() token { return p.tokens[p.at] }

func (p *parser) next() token {
	t := p.tokens[p.at]
	if t.kind != tokenEnd {
		p.at++
	}
	return t
}

// accept takes the words if they all come next.
func (p *parser) accept(words ...string) bool {
	for i, w := range words {
		if p.at+i >= len(p.tokens) || !p.tokens[p.at+i].is(w) {
			return false
		}
	}
	p.at += len(words)
	return true
}

func (p *parser) expect(word string) {
	if !p.accept(word) {
		t := p.peek()
		p.fail(t.pos, "%s is expected here", word)
	}
}

func (p *parser) term(op string, pos int, args ...*term) *term {
	if p.terms++; p.terms > maxTerms {
		p.fail(pos, "it has more than %d terms", maxTerms)
	}
	return &term{op: op, pos: pos, end: p.tokens[max(p.at-1, 0)].end, args: args}
}

func (p *parser) enter() func() {
	if p.depth++; p.depth > maxDepth {
		p.fail(p.peek().pos, "it nests deeper than %d", maxDepth)
	}
	return func() { p.depth-- }
}

// expression is booleanExpression of Spark's grammar: OR, AND, NOT, then predicates.
func (p *parser) expression() *term {
	defer p.enter()()
	left := p.conjunction()
	for p.accept("OR") {
		left = p.term("or", left.pos, left, p.conjunction())
	}
	return left
}

func (p *parser) conjunction() *term {
	left := p.negation()
	for p.accept("AND") {
		left = p.term("and", left.pos, left, p.negation())
	}
	return left
}

func (p *parser) negation() *term {
	pos := p.peek().pos
	if p.accept("NOT") || p.accept("!") {
		defer p.enter()()
		return p.term("not", pos, p.negation())
	}
	return p.predicate()
}

func (p *parser) predicate() *term {
	x := p.comparison()
	if p.accept("IS") {
		return p.isPredicate(x)
	}
	not := p.accept("NOT")
	var t *term
	switch {
	case p.accept("BETWEEN"):
		low := p.comparison()
		p.expect("AND")
		t = p.term("and", x.pos, p.term(">=", x.pos, x, low), p.term("<=", x.pos, x, p.comparison()))
	case p.accept("IN"):
		p.expect("(")
		if w := p.peek(); w.is("SELECT") || w.is("WITH") {
			p.unexpected()
		}
		t = p.term("in", x.pos, append([]*term{x}, p.list()...)...)
	case p.accept("LIKE"):
		t = p.term("like", x.pos, x, p.comparison())
		if p.accept("ESCAPE") {
			escape := p.next()
			if escape.kind != tokenString || len(escape.text) != 1 {
				p.fail(escape.pos, "ESCAPE takes a string of one ASCII character")
			}
			t.value.s = escape.text
		}
	case p.accept("RLIKE"), p.accept("REGEXP"):
		t = p.term("rlike", x.pos, x, p.comparison())
	case not:
		p.unexpected()
	default:
		return x
	}
	t.end = p.tokens[p.at-1].end
	if not {
		t = p.term("not", x.pos, t)
	}
	return t
}

func (p *parser) isPredicate(x *term) *term {
	not := p.accept("NOT")
	var t *term
	switch {
	case p.accept("NULL"), p.accept("UNKNOWN"):
		t = p.term("isnull", x.pos, x)
	case p.accept("TRUE"):
		t = p.term("<=>", x.pos, x, p.boolean(true))
	case p.accept("FALSE"):
		t = p.term("<=>", x.pos, x, p.boolean(false))
	case p.accept("DISTINCT", "FROM"):
		t = p.term("not", x.pos, p.term("<=>", x.pos, x, p.comparison()))
	default:
		p.unexpected()
	}
	if not {
		t = p.term("not", x.pos, t)
	}
	return t
}

func (p *parser) boolean(v bool) *term {
	t := p.term("literal", p.tokens[p.at-1].pos)
	t.value = literal{t: typ{k: kBool}, b: v}
	return t
}

// comparison is valueExpression of Spark's grammar: a = b = c is (a = b) = c.
func (p *parser) comparison() *term {
	left := p.sum()
	for {
		op := p.peek()
		switch op.text {
		case "=", "==":
			op.text = "="
		case "<>", "!=":
			op.text = "<>"
		case "<=>", "<", "<=", ">", ">=":
		default:
			return left
		}
		if op.kind != tokenOp {
			return left
		}
		p.next()
		left = p.term(op.text, left.pos, left, p.sum())
	}
}

func (p *parser) sum() *term {
	left := p.product()
	for p.peek().is("+") || p.peek().is("-") || p.peek().is("||") {
		op := p.next().text
		if op == "||" {
			op = "concat"
		}
		left = p.term(op, left.pos, left, p.product())
	}
	return left
}

func (p *parser) product() *term {
	left := p.unary()
	for p.peek().is("*") || p.peek().is("/") || p.peek().is("%") || p.peek().is("DIV") {
		op := strings.ToLower(p.next().text)
		left = p.term(op, left.pos, left, p.unary())
	}
	return left
}

func (p *parser) unary() *term {
	pos := p.peek().pos
	switch {
	case p.peek().is("-") && p.tokens[p.at+1].kind == tokenNumber: // the sign is part of the number
		p.next()
		return p.postfix(p.number("-", pos))
	case p.accept("-"):
		defer p.enter()()
		return p.term("negate", pos, p.unary())
	case p.accept("+"):
		defer p.enter()()
		return p.term("plus", pos, p.unary())
	}
	return p.postfix(p.primary())
}

// postfix takes what may follow a primary expression: .field and ::type.
func (p *parser) postfix(t *term) *term {
	for {
		switch {
		case p.accept("::"):
			to := p.typeName()
			t = p.term("cast", t.pos, t)
			t.to = to
		case p.peek().is(".") && t.op == "column":
			p.next()
			name := p.next()
			if name.kind != tokenWord && name.kind != tokenQuoted {
				p.fail(name.pos, "a field's name is expected here")
			}
			t.names = append(t.names, name.text)
			t.end = name.end
		default:
			return t
		}
	}
}

// list reads expressions up to the closing parenthesis.
func (p *parser) list() []*term {
	out := []*term{p.expression()}
	for p.accept(",") {
		out = append(out, p.expression())
	}
	p.expect(")")
	return out
}

func (p *parser) primary() *term {
	t := p.peek()
	switch t.kind {
	case tokenNumber:
		return p.number("", t.pos)
	case tokenString:
		return p.stringLiteral()
	case tokenQuoted:
		p.next()
		out := p.term("column", t.pos)
		out.names = []string{t.text}
		return out
	case tokenWord:
		return p.word()
	case tokenOp, tokenEnd:
	}
	if p.accept("(") {
		out := p.expression()
		p.expect(")")
		return out
	}
	p.unexpected()
	return nil
}

func (p *parser) stringLiteral() *term {
	pos := p.peek().pos
	var s strings.Builder
	for p.peek().kind == tokenString {
		s.WriteString(p.next().text)
	}
	out := p.term("literal", pos)
	out.value = literal{t: typ{k: kString}, s: s.String()}
	return out
}

// word reads what begins with a name: a keyword, a typed literal, a call or a column.
func (p *parser) word() *term {
	t := p.next()
	upper := strings.ToUpper(t.text)
	switch upper {
	case "TRUE", "FALSE":
		return p.boolean(upper == "TRUE")
	case "NULL":
		return p.term("literal", t.pos)
	case "CASE":
		return p.caseWhen(t.pos)
	case "CAST":
		if p.accept("(") {
			x := p.expression()
			p.expect("AS")
			to := p.typeName()
			p.expect(")")
			out := p.term("cast", t.pos, x)
			out.to = to
			return out
		}
	case "NOT", "AND", "OR", "WHEN", "THEN", "ELSE", "END", "IS", "IN", "BETWEEN", "LIKE", "FROM", "SELECT":
		p.at--
		p.unexpected()
	}
	if p.peek().kind == tokenString {
		return p.typedLiteral(upper, t.pos)
	}
	if p.peek().kind == tokenNumber {
		p.unexpected() // INTERVAL 1 DAY
	}
	if !p.accept("(") {
		out := p.term("column", t.pos)
		out.names = []string{t.text}
		return out
	}
	var args []*term
	if !p.accept(")") {
		if p.peek().is("*") || p.peek().is("DISTINCT") {
			p.unexpected()
		}
		args = p.list()
	}
	return p.term(strings.ToLower(t.text), t.pos, args...)
}

// typedLiteral reads DATE '...' and its like; the string is cast when it is compiled.
func (p *parser) typedLiteral(name string, pos int) *term {
	k, ok := map[string]kind{"DATE": kDate, "TIMESTAMP": kTimestamp, "TIMESTAMP_LTZ": kTimestamp, "TIMESTAMP_NTZ": kNTZ}[name]
	if !ok {
		p.fail(pos, "%s in front of a string is not understood", name)
	}
	text := p.stringLiteral().value.s
	micros, err := parseInstant(text, k)
	if err != "" {
		p.fail(pos, "%s", err)
	}
	out := p.term("literal", pos)
	out.value = literal{t: typ{k: k}, i: micros}
	return out
}

func (p *parser) caseWhen(pos int) *term {
	var operand *term
	if !p.peek().is("WHEN") {
		operand = p.expression()
	}
	var args []*term
	for p.accept("WHEN") {
		when := p.expression()
		if operand != nil {
			when = p.term("=", when.pos, operand, when)
		}
		p.expect("THEN")
		args = append(args, when, p.expression())
	}
	if args == nil {
		p.expect("WHEN")
	}
	if p.accept("ELSE") {
		args = append(args, p.expression())
	}
	p.expect("END")
	return p.term("case", pos, args...)
}

// number reads a numeric literal. Its type follows from its form (Spark's AstBuilder, "Numeric literals").
func (p *parser) number(sign string, pos int) *term {
	tok := p.next()
	text := strings.TrimRightFunc(tok.text, func(r rune) bool { return r > '9' })
	suffix := strings.ToUpper(tok.text[len(text):])
	out := p.term("literal", pos)
	out.pos = pos
	v, ok := numberLiteral(sign+text, suffix)
	if !ok {
		p.fail(tok.pos, "the number %s is not understood or is out of range", tok.text)
	}
	out.value = v
	return out
}

func numberLiteral(text, suffix string) (literal, bool) {
	exponent := strings.ContainsAny(text, "eE")
	integer := !exponent && !strings.Contains(text, ".")
	switch suffix {
	case "Y", "S", "L":
		bits := map[string]int{"Y": 8, "S": 16, "L": 64}[suffix]
		v, err := strconv.ParseInt(text, 10, bits)
		return literal{t: typ{k: map[int]kind{8: kInt8, 16: kInt16, 64: kInt64}[bits]}, i: v}, err == nil && integer
	case "D":
		v, err := strconv.ParseFloat(text, 64)
		return literal{t: typ{k: kDouble}, f: v}, err == nil
	case "F":
		v, err := strconv.ParseFloat(text, 32)
		return literal{t: typ{k: kFloat}, f: v}, err == nil
	case "BD":
		return decimalLiteral(text)
	case "":
	default:
		return literal{}, false
	}
	if exponent {
		v, err := strconv.ParseFloat(text, 64)
		return literal{t: typ{k: kDouble}, f: v}, err == nil
	}
	if v, err := strconv.ParseInt(text, 10, 64); integer && err == nil {
		if v == int64(int32(v)) {
			return literal{t: typ{k: kInt32}, i: v}, true
		}
		return literal{t: typ{k: kInt64}, i: v}, true
	}
	return decimalLiteral(text)
}

func decimalLiteral(text string) (literal, bool) {
	v, scale, ok := parseBig(text)
	if !ok {
		return literal{}, false
	}
	precision := int32(len(v.Text(10)))
	if v.Sign() < 0 {
		precision--
	}
	if scale < 0 {
		precision -= scale
		scale = 0
	}
	t := typ{k: kDecimal, p: max(precision, scale), s: scale}
	return literal{t: t, s: text}, t.p <= maxPrecision
}

// typeNames are the types that CAST takes.
var typeNames = map[string]kind{
	"BOOLEAN": kBool, "TINYINT": kInt8, "BYTE": kInt8, "SMALLINT": kInt16, "SHORT": kInt16, "INT": kInt32, "INTEGER": kInt32,
	"BIGINT": kInt64, "LONG": kInt64, "FLOAT": kFloat, "REAL": kFloat, "DOUBLE": kDouble, "STRING": kString, "BINARY": kBinary,
	"DATE": kDate, "TIMESTAMP": kTimestamp, "TIMESTAMP_LTZ": kTimestamp, "TIMESTAMP_NTZ": kNTZ,
	"DECIMAL": kDecimal, "DEC": kDecimal, "NUMERIC": kDecimal,
}

func (p *parser) typeName() typ {
	name := p.next()
	k, ok := typeNames[strings.ToUpper(name.text)]
	if name.kind != tokenWord || !ok {
		p.fail(name.pos, "a cast to %s is not understood", p.text[name.pos:name.end])
	}
	t := typ{k: k}
	if k != kDecimal {
		return t
	}
	t.p = 10
	if p.accept("(") {
		t.p = p.small()
		if p.accept(",") {
			t.s = p.small()
		}
		p.expect(")")
	}
	if t.p < 1 || t.p > maxPrecision || t.s > t.p {
		p.fail(name.pos, "DECIMAL(%d,%d) is out of range", t.p, t.s)
	}
	return t
}

func (p *parser) small() int32 {
	t := p.next()
	v, err := strconv.ParseUint(t.text, 10, 8)
	if t.kind != tokenNumber || err != nil {
		p.fail(t.pos, "a number is expected here")
	}
	return int32(v)
}
