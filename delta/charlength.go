package delta

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// charVarcharKey is the key in a column's metadata under which Spark keeps the type of a column that has a CHAR or VARCHAR,
// at whatever depth; in the schema itself these are strings. PROTOCOL.md does not have it.
const charVarcharKey = "__CHAR_VARCHAR_TYPE_STRING"

const (
	charFeature = "char and varchar"
	charRemedy  = "make the column a STRING with ALTER TABLE, or write to a table without it"
)

// limitLengths puts the lengths that the column's metadata asks for on the column's nodes.
func limitLengths(n *node, f arrow.Field) error {
	text, ok, err := columnRule(f, charVarcharKey)
	if !ok || err != nil {
		return err
	}
	p := &ddlParser{text: text}
	p.next()
	if err = p.lengths(n, f.Type); err == nil && p.tok.kind != ddlEnd {
		err = p.fail("expected the end")
	}
	if err != nil {
		return fmt.Errorf("its metadata says %s %q: %w", charVarcharKey, text, err)
	}
	return nil
}

// lengths reads a type as Spark's catalogString spells it: struct<a:varchar(2),b:array<char(3)>>. Other types are
// passed over, since only the schema tells them. Fields of structs go by position, as in Spark: the text
// may have their names from before a rename.
func (p *ddlParser) lengths(n *node, t arrow.DataType) error {
	if p.depth++; p.depth > maxNesting {
		return p.fail(fmt.Sprintf("types nest deeper than %d", maxNesting))
	}
	defer func() { p.depth-- }()
	if p.tok.kind != ddlWord {
		return p.fail("expected a type")
	}
	start, word := p.tok, strings.ToUpper(p.tok.text)
	fits := false
	switch word {
	case "STRUCT":
		_, fits = t.(*arrow.StructType)
	case "ARRAY":
		_, fits = t.(*arrow.ListType)
	case "MAP":
		_, fits = t.(*arrow.MapType)
	case "CHAR", "VARCHAR":
		fits = t.ID() == arrow.STRING
	default:
		return p.skipPlain()
	}
	if !fits {
		return p.fail(fmt.Sprintf("the table has a %s here", t))
	}
	if word != "CHAR" && word != "VARCHAR" {
		return p.nestedLengths(word, n, t.(arrow.NestedType))
	}
	p.next()
	if !p.takeSign("(") {
		return p.fail("expected '(' and a length")
	}
	limit, err := p.number()
	if err != nil {
		return err
	}
	if !p.takeSign(")") {
		return p.fail("expected ')' after the length")
	}
	n.declared, n.limit = fmt.Sprintf("%s(%d)", strings.ToUpper(start.text), limit), int(limit)
	return nil
}

// nestedLengths reads what is between < and >.
func (p *ddlParser) nestedLengths(word string, n *node, t arrow.NestedType) error {
	if err := p.open(word); err != nil {
		return err
	}
	fields := t.Fields()
	if word == "MAP" { // Arrow has one struct of both
		fields = fields[0].Type.(*arrow.StructType).Fields()
	}
	for i := 0; ; i++ {
		if i == len(fields) {
			return p.fail(fmt.Sprintf("the table has %d fields here", i))
		}
		if word == "STRUCT" {
			if p.tok.kind != ddlWord && p.tok.kind != ddlQuoted {
				return p.fail("expected a field's name")
			}
			if p.next(); !p.takeSign(":") {
				return p.fail("expected ':' after the field's name")
			}
		}
		if err := p.lengths(n.children[i], fields[i].Type); err != nil {
			return err
		}
		if p.takeSign(">") {
			return nil
		}
		if !p.takeSign(",") {
			return p.fail("expected ',' or '>'")
		}
	}
}

// skipPlain passes over a type without parts: int, decimal(10,2), interval day to second.
func (p *ddlParser) skipPlain() error {
	p.next()
	if p.takeSign("(") {
		for more := true; more; more = p.takeSign(",") {
			if _, err := p.number(); err != nil {
				return err
			}
		}
		if !p.takeSign(")") {
			return p.fail("expected ')'")
		}
	}
	for p.tok.kind == ddlWord {
		p.next()
	}
	return nil
}

// mayBeLong reports whether a value has more bytes than it may have characters.
func (n *node) mayBeLong(arr arrow.Array) bool {
	offsets := arr.(*array.String).ValueOffsets() // an empty array may have none
	for i := 1; i < len(offsets); i++ {
		if int(offsets[i]-offsets[i-1]) > n.limit {
			return true
		}
	}
	return false
}

// tooLong counts characters, which for Spark are code points, spaces at the end included: Spark's OPTIMIZE and UPDATE
// refuse a table with more, where its INSERT can cut spaces off. Less than a CHAR's length is no violation: Spark pads when it reads.
func (n *node) tooLong(value string) (Violation, bool) {
	if len(value) <= n.limit {
		return Violation{}, false
	}
	count := utf8.RuneCountInString(value)
	reason := fmt.Sprintf("%s: the value has %d characters; send a shorter one, or make the column a STRING with ALTER TABLE", n.declared, count)
	return Violation{Path: n.path, Reason: reason}, count > n.limit
}
