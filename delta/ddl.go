package delta

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/delta/variant"
)

// DDLError says where a column list cannot be read.
type DDLError struct {
	Column int    // 1-based, in characters of the whole text
	Token  string // the offending word or sign, "" at the end
	Reason string
}

func (e *DDLError) Error() string {
	near := "at the end"
	if e.Token != "" {
		near = fmt.Sprintf("near %q", e.Token)
	}
	return fmt.Sprintf("schema DDL, character %d %s: %s", e.Column, near, e.Reason)
}

// ddlTypes maps Spark SQL's type words to Delta's primitive names.
var ddlTypes = map[string]string{
	"STRING": "string", "BIGINT": "long", "LONG": "long", "INT": "integer", "INTEGER": "integer", "SMALLINT": "short",
	"SHORT": "short", "TINYINT": "byte", "BYTE": "byte", "DOUBLE": "double", "FLOAT": "float", "REAL": "float",
	"BOOLEAN": "boolean", "BINARY": "binary", "DATE": "date", "TIMESTAMP": "timestamp", "TIMESTAMP_LTZ": "timestamp",
	"TIMESTAMP_NTZ": "timestamp_ntz",
}

// ddlHints answers words that people write and Spark's column lists do not have.
var ddlHints = map[string]string{
	"BOOL": "write BOOLEAN", "TEXT": "write STRING", "BYTES": "write BINARY", "DATETIME": "write TIMESTAMP",
	"VARCHAR": "write STRING, Delta stores no length", "CHAR": "write STRING, Delta stores no length",
	"CHARACTER": "write STRING, Delta stores no length", "INT64": "write BIGINT", "INT32": "write INT", "UUID": "write STRING",
	"JSON": "write STRING", "LIST": "write ARRAY", "TIMESTAMPTZ": "write TIMESTAMP", "TIME": "write STRING or BIGINT",
	"VOID": "VOID columns are not supported", "NULL": "VOID columns are not supported",
	"INTERVAL": "INTERVAL columns are not supported by Delta", "VARIANT": "VARIANT within another column is not supported: make it a column of its own, or write STRING",
}

// ParseDDL reads a column list as Spark SQL writes it:
//
//	id BIGINT NOT NULL, meta STRUCT<at: TIMESTAMP, `odd name`: STRING>, tags ARRAY<STRING> COMMENT 'as sent', m MAP<STRING, INT>
//
// Words are case-insensitive, names are kept as written, a back-quoted name takes any character (the back quote
// doubled). Columns are nullable unless NOT NULL, at every depth; elements and map values are nullable. A mistake is a
// *DDLError. Which names a table may have is checked by Create, not here.
func ParseDDL(ddl string) (*arrow.Schema, error) {
	p := &ddlParser{text: ddl}
	p.next()
	var fields []arrow.Field
	for {
		f, err := p.column()
		if err != nil {
			return nil, err
		}
		fields = append(fields, f)
		if p.tok.kind == ddlEnd {
			return arrow.NewSchema(fields, nil), nil
		}
		if !p.takeSign(",") {
			return nil, p.columnEnd("expected ',' or the end")
		}
	}
}

type ddlKind int

const (
	ddlEnd ddlKind = iota
	ddlWord
	ddlQuoted // back-quoted name; text is unquoted
	ddlText   // string literal; text is unquoted
	ddlSign
	ddlBad // text is the reason
)

type ddlToken struct {
	kind ddlKind
	text string // value
	raw  string // as written
	pos  int    // byte offset
}

type ddlParser struct {
	text  string
	off   int
	tok   ddlToken
	depth int
}

func (p *ddlParser) fail(reason string) error {
	if p.tok.kind == ddlBad {
		reason = p.tok.text
	}
	return &DDLError{Column: utf8.RuneCountInString(p.text[:p.tok.pos]) + 1, Token: p.tok.raw, Reason: reason}
}

// columnEnd explains what cannot follow a column's type.
func (p *ddlParser) columnEnd(expected string) error {
	if p.tok.kind == ddlWord {
		switch strings.ToUpper(p.tok.text) {
		case "GENERATED":
			return p.fail("generated and identity columns are not supported here; the connector's `columns` compute values")
		case "DEFAULT":
			return p.fail("column defaults are not supported")
		case "COLLATE":
			return p.fail("collations are not supported")
		}
	}
	return p.fail(expected)
}

func (p *ddlParser) isWord(word string) bool {
	return p.tok.kind == ddlWord && strings.EqualFold(p.tok.text, word)
}

func (p *ddlParser) takeSign(sign string) bool {
	if p.tok.kind != ddlSign || p.tok.text != sign {
		return false
	}
	p.next()
	return true
}

// column reads: name [:] type [NOT NULL] [COMMENT 'text'].
func (p *ddlParser) column() (arrow.Field, error) {
	if p.tok.kind != ddlWord && p.tok.kind != ddlQuoted {
		return arrow.Field{}, p.fail("expected a column name (odd names in back quotes)")
	}
	f := arrow.Field{Name: p.tok.text, Nullable: true}
	p.next()
	p.takeSign(":")
	var err error
	if f.Type, err = p.dataType(); err != nil {
		return f, err
	}
	if p.isWord("NOT") {
		p.next()
		if !p.isWord("NULL") {
			return f, p.fail("expected NULL after NOT")
		}
		p.next()
		f.Nullable = false
	}
	if p.isWord("COMMENT") {
		p.next()
		if p.tok.kind != ddlText {
			return f, p.fail("expected a quoted text after COMMENT")
		}
		meta, err := marshal(map[string]string{"comment": p.tok.text})
		if err != nil {
			return f, err
		}
		f.Metadata = arrow.NewMetadata([]string{MetadataKey}, []string{string(meta)})
		p.next()
	}
	return f, nil
}

func (p *ddlParser) dataType() (arrow.DataType, error) {
	if p.tok.kind != ddlWord {
		return nil, p.fail("expected a type, such as STRING, BIGINT, DOUBLE, TIMESTAMP, STRUCT<...>, ARRAY<...>, MAP<...>")
	}
	if p.depth++; p.depth > maxNesting {
		return nil, p.fail(fmt.Sprintf("types nest deeper than %d", maxNesting))
	}
	defer func() { p.depth-- }()
	word := strings.ToUpper(p.tok.text)
	switch word {
	case "STRUCT":
		return p.structType()
	case "ARRAY":
		return p.arrayType()
	case "MAP":
		return p.mapType()
	case "DECIMAL", "DEC", "NUMERIC":
		return p.decimalType()
	}
	name, ok := ddlTypes[word]
	if word == "VARIANT" && p.depth == 1 {
		p.next()
		return variant.New(), nil
	}
	if !ok {
		if hint, ok := ddlHints[word]; ok {
			return nil, p.fail(hint)
		}
		return nil, p.fail("unknown type; the types are STRING, BIGINT, INT, SMALLINT, TINYINT, DOUBLE, FLOAT, DECIMAL(p,s), BOOLEAN, " +
			"BINARY, DATE, TIMESTAMP, TIMESTAMP_NTZ, VARIANT, STRUCT<...>, ARRAY<...>, MAP<...>")
	}
	p.next()
	return primitiveFromName(name, "")
}

// open takes the '<' after a nested type's word.
func (p *ddlParser) open(word string) error {
	p.next()
	if !p.takeSign("<") {
		return p.fail("expected '<' after " + word)
	}
	return nil
}

func (p *ddlParser) structType() (arrow.DataType, error) {
	if err := p.open("STRUCT"); err != nil {
		return nil, err
	}
	var fields []arrow.Field
	for {
		f, err := p.column()
		if err != nil {
			return nil, err
		}
		fields = append(fields, f)
		if p.takeSign(">") {
			return arrow.StructOf(fields...), nil
		}
		if !p.takeSign(",") {
			return nil, p.columnEnd("expected ',' or '>'")
		}
	}
}

func (p *ddlParser) arrayType() (arrow.DataType, error) {
	if err := p.open("ARRAY"); err != nil {
		return nil, err
	}
	elem, err := p.dataType()
	if err != nil {
		return nil, err
	}
	if !p.takeSign(">") {
		return nil, p.fail("expected '>' after the element type")
	}
	return listOf(elem, true), nil
}

func (p *ddlParser) mapType() (arrow.DataType, error) {
	if err := p.open("MAP"); err != nil {
		return nil, err
	}
	key, err := p.dataType()
	if err != nil {
		return nil, err
	}
	if !p.takeSign(",") {
		return nil, p.fail("expected ',' after the key type")
	}
	value, err := p.dataType()
	if err != nil {
		return nil, err
	}
	if !p.takeSign(">") {
		return nil, p.fail("expected '>' after the value type")
	}
	return mapOf(key, value, true), nil
}

// decimalType reads DECIMAL, DECIMAL(p) or DECIMAL(p,s); the default is (10,0), as in Spark.
func (p *ddlParser) decimalType() (arrow.DataType, error) {
	start := p.tok
	p.next()
	precision, scale := int64(10), int64(0)
	if p.takeSign("(") {
		var err error
		if precision, err = p.number(); err != nil {
			return nil, err
		}
		if p.takeSign(",") {
			if scale, err = p.number(); err != nil {
				return nil, err
			}
		}
		if !p.takeSign(")") {
			return nil, p.fail("expected ')' after the decimal's precision and scale")
		}
	}
	if err := checkDecimal(precision, scale); err != nil {
		p.tok = start
		return nil, p.fail(err.Error())
	}
	return &arrow.Decimal128Type{Precision: int32(precision), Scale: int32(scale)}, nil
}

func (p *ddlParser) number() (int64, error) {
	n, err := strconv.ParseInt(p.tok.text, 10, 32)
	if p.tok.kind != ddlWord || err != nil {
		return 0, p.fail("expected a number")
	}
	p.next()
	return n, nil
}

// next moves on to the next token.
func (p *ddlParser) next() {
	rest := p.text[p.off:]
	trimmed := strings.TrimLeftFunc(rest, unicode.IsSpace)
	p.off += len(rest) - len(trimmed)
	p.tok = ddlToken{pos: p.off}
	if trimmed == "" {
		return
	}
	switch c := trimmed[0]; c {
	case '`', '\'', '"':
		p.quoted(trimmed, c)
	default:
		n := 0
		for _, r := range trimmed {
			if r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
				break
			}
			n += utf8.RuneLen(r)
		}
		p.tok.kind = ddlWord
		if n == 0 {
			p.tok.kind = ddlSign
			_, n = utf8.DecodeRuneInString(trimmed)
		}
		p.tok.text = trimmed[:n]
	}
	if p.tok.raw == "" {
		p.tok.raw = p.tok.text
	}
	p.off += len(p.tok.raw)
}

// quoted reads a back-quoted name, in which a doubled back quote is one, or a text with Spark's backslash escapes.
func (p *ddlParser) quoted(s string, quote byte) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == quote && quote == '`' && i+1 < len(s) && s[i+1] == '`':
			b.WriteByte('`')
			i++
		case c == quote:
			p.tok.kind, p.tok.text, p.tok.raw = ddlText, b.String(), s[:i+1]
			if quote == '`' {
				p.tok.kind = ddlQuoted
			}
			return
		case c == '\\' && quote != '`' && i+1 < len(s):
			i += unescapeText(&b, s[i+1:])
		default:
			b.WriteByte(c)
		}
	}
	p.tok.kind, p.tok.text, p.tok.raw = ddlBad, "the quote is not closed", s
}

// unescapeText writes what follows a backslash in a Spark text and returns how many bytes it took.
func unescapeText(b *strings.Builder, s string) int {
	switch s[0] {
	case 'n':
		b.WriteByte('\n')
	case 't':
		b.WriteByte('\t')
	case 'r':
		b.WriteByte('\r')
	case 'b':
		b.WriteByte('\b')
	case '0':
		b.WriteByte(0)
	case 'Z':
		b.WriteByte(0x1a)
	case '%', '_':
		b.WriteString("\\" + s[:1]) // kept for LIKE patterns
	case 'u':
		if len(s) >= 5 {
			if v, err := strconv.ParseUint(s[1:5], 16, 16); err == nil {
				b.WriteRune(rune(v))
				return 5
			}
		}
		b.WriteByte('u')
	default:
		b.WriteByte(s[0])
	}
	return 1
}

// FormatDDL writes a schema as a Spark SQL column list that ParseDDL reads back. Of column metadata only the comment is
// kept, and whether elements and map values may be null has no spelling in DDL.
func FormatDDL(s *arrow.Schema) string {
	var b strings.Builder
	formatColumns(&b, s.Fields(), " ")
	return b.String()
}

func formatColumns(b *strings.Builder, fields []arrow.Field, separator string) {
	for i, f := range fields {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(quoteName(f.Name) + separator)
		formatType(b, f.Type)
		if !f.Nullable {
			b.WriteString(" NOT NULL")
		}
		if raw, ok := fieldMetadataOf(f, "comment"); ok {
			var comment string
			if json.Unmarshal(raw, &comment) == nil {
				b.WriteString(" COMMENT " + quoteText(comment))
			}
		}
	}
}

func formatType(b *strings.Builder, t arrow.DataType) {
	switch t := t.(type) {
	case *arrow.StructType:
		b.WriteString("STRUCT<")
		formatColumns(b, t.Fields(), ": ")
		b.WriteByte('>')
	case *arrow.ListType:
		b.WriteString("ARRAY<")
		formatType(b, t.Elem())
		b.WriteByte('>')
	case *arrow.MapType:
		b.WriteString("MAP<")
		formatType(b, t.KeyType())
		b.WriteString(", ")
		formatType(b, t.ItemType())
		b.WriteByte('>')
	case *arrow.Decimal128Type:
		fmt.Fprintf(b, "DECIMAL(%d,%d)", t.Precision, t.Scale)
	default:
		b.WriteString(ddlWordOf(t))
	}
}

func ddlWordOf(t arrow.DataType) string {
	for _, p := range primitives {
		if arrow.TypeEqual(p.arrow, t) {
			switch p.name {
			case "long":
				return "BIGINT"
			case "integer":
				return "INT"
			case "short":
				return "SMALLINT"
			case "byte":
				return "TINYINT"
			}
			return strings.ToUpper(p.name)
		}
	}
	return strings.ToUpper(t.String()) // no Delta type; SchemaToJSON is where it is refused
}

func quoteName(name string) string {
	plain := name != "" && (name[0] < '0' || name[0] > '9')
	for i := range len(name) {
		c := name[i]
		plain = plain && (c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9')
	}
	if plain {
		return name
	}
	return "`" + strings.ReplaceAll(name, "`", "``") + "`"
}

var textEscapes = strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "\t", `\t`, "\r", `\r`, "\x00", `\0`)

func quoteText(s string) string { return "'" + textEscapes.Replace(s) + "'" }
