package avro

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/linkedin/goavro/v2"
)

// kind is a type of Avro.
type kind uint8

const (
	kindNull kind = iota
	kindBoolean
	kindInt
	kindLong
	kindFloat
	kindDouble
	kindBytes
	kindString
	kindRecord
	kindEnum
	kindFixed
	kindArray
	kindMap
	kindUnion
)

var kindNames = [...]string{"null", "boolean", "int", "long", "float", "double", "bytes", "string", "record", "enum", "fixed", "array", "map", "union"}

func (k kind) String() string { return kindNames[k] }

// primitives are the types that a schema names without defining them.
var primitives = func() map[string]kind {
	m := map[string]kind{}
	for k := kindNull; k <= kindString; k++ {
		m[k.String()] = k
	}
	return m
}()

// logical is what a logical type makes of a type. A logical type that is unknown, or that does not fit its type, is none: the
// specification wants it ignored.
type logical uint8

const (
	plain logical = iota
	decimal
	uuid
	date
	timeMillis
	timeMicros
	timestampMillis
	timestampMicros
	timestampNanos
	localMillis
	localMicros
	localNanos
	duration
)

// logicals are the logical types with the types that they may stand on.
var logicals = map[string]struct {
	logical
	on []kind
}{
	"decimal": {decimal, []kind{kindBytes, kindFixed}}, "uuid": {uuid, []kind{kindString, kindFixed}}, "date": {date, []kind{kindInt}},
	"time-millis": {timeMillis, []kind{kindInt}}, "time-micros": {timeMicros, []kind{kindLong}},
	"timestamp-millis": {timestampMillis, []kind{kindLong}}, "timestamp-micros": {timestampMicros, []kind{kindLong}},
	"timestamp-nanos": {timestampNanos, []kind{kindLong}}, "local-timestamp-millis": {localMillis, []kind{kindLong}},
	"local-timestamp-micros": {localMicros, []kind{kindLong}}, "local-timestamp-nanos": {localNanos, []kind{kindLong}},
	"duration": {duration, []kind{kindFixed}},
}

// Schema is a parsed Avro schema. It does not change, and is told from others by its pointer.
type Schema struct {
	root   *node
	id     string // by which errors name it; "" for the one and only
	column string // of Single
}

// node is one type of a schema. Named types may contain themselves.
type node struct {
	kind             kind
	logical          logical
	precision, scale int32    // of a decimal
	name             string   // full name of a record, enum or fixed
	aliases          []string // of a named type, as full names
	fields           []field  // of a record
	symbols          []string // of an enum
	fallback         string   // an enum's default; "" for none
	items            *node    // of an array; the values of a map
	size             int      // of a fixed
	branches         []*node  // of a union
	empty            bool     // its values have no bytes: null, and a record of such
	single           bool     // a union of one type that the schema does not have: its values have no index
}

// field is one field of a record.
type field struct {
	name    string
	aliases []string
	typ     *node
	value   any // the default, as JSON
	hasOne  bool
}

// String names a type for errors.
func (n *node) String() string {
	switch n.kind {
	case kindRecord, kindEnum, kindFixed:
		return n.kind.String() + " " + n.name
	case kindArray:
		return "array of " + n.items.String()
	case kindMap:
		return "map of " + n.items.String()
	case kindUnion:
		names := make([]string, len(n.branches))
		for i, b := range n.branches {
			names[i] = b.String()
		}
		return "union of " + strings.Join(names, ", ")
	default:
		return n.kind.String()
	}
}

// logicalName names the logical type for errors.
func (n *node) logicalName() string {
	for name, l := range logicals {
		switch {
		case l.logical != n.logical:
		case n.logical == decimal:
			return fmt.Sprintf("decimal(%d,%d)", n.precision, n.scale)
		default:
			return name
		}
	}
	return "none"
}

// maxNesting bounds how deep a schema's types stand in each other.
const maxNesting = 100

// Parse reads a schema. References are schemas whose named types it uses, in an order in which each is defined before it is
// used, as a schema registry keeps them. id is how errors name the schema.
func Parse(id, text string, references ...string) (*Schema, error) {
	return parse(id, text, nil, references...)
}

// ParseWith is Parse with the references that find gives: the text of the schema that defines a type of that full name, "" for none.
func ParseWith(id, text string, find func(name string) (string, error)) (*Schema, error) {
	return parse(id, text, find)
}

func parse(id, text string, find func(name string) (string, error), references ...string) (*Schema, error) {
	p := &parser{names: map[string]*node{}, find: find}
	var root *node
	for i, text := range append(slices.Clone(references), text) {
		value, err := decodeJSON(text)
		if err == nil {
			root, err = p.parse(value, "", 0)
		}
		if err != nil {
			what := "parsing an Avro schema"
			if i < len(references) {
				what = fmt.Sprintf("parsing an Avro schema's reference %d", i+1)
			}
			return nil, fmt.Errorf("%s: %w", what, err)
		}
	}
	s := &Schema{root: root, id: id}
	if _, err := goavro.NewCodec(s.canonical()); err != nil {
		return nil, fmt.Errorf("parsing an Avro schema: %w", err)
	}
	return s, nil
}

// Single is the schema of messages that are values for a table's only column, of that name, as keys are: Avro writes a record of one field
// as it writes the field.
func (s *Schema) Single(column string) *Schema {
	return &Schema{root: &node{kind: kindRecord, name: "message", fields: []field{{name: column, typ: s.root}}}, id: s.id, column: column}
}

func decodeJSON(text string) (any, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		if trimmed := strings.TrimSpace(text); trimmed != "" && !strings.ContainsAny(trimmed[:1], `{["`) {
			value = trimmed // a bare name such as long, which registries give for primitive schemas
			return value, nil
		}
		return nil, err
	}
	if d.More() {
		return nil, errors.New("more follows behind the schema")
	}
	return value, nil
}

// parser collects the named types.
type parser struct {
	names map[string]*node
	find  func(name string) (string, error) // the schema that defines a type; nil: there are no others
}

func (p *parser) parse(value any, namespace string, depth int) (*node, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("types are nested deeper than %d", maxNesting)
	}
	switch v := value.(type) {
	case string:
		return p.named(v, namespace, depth)
	case []any:
		n := &node{kind: kindUnion}
		for _, b := range v {
			branch, err := p.parse(b, namespace, depth+1)
			if err != nil {
				return nil, err
			}
			n.branches = append(n.branches, branch)
		}
		if len(n.branches) == 0 {
			return nil, errors.New("a union has no types")
		}
		return n, nil
	case map[string]any:
		return p.complex(v, namespace, depth)
	}
	return nil, fmt.Errorf("%v is no type: use a name, an object or an array", value)
}

func (p *parser) named(name, namespace string, depth int) (*node, error) {
	if k, ok := primitives[name]; ok {
		return &node{kind: k, empty: k == kindNull}, nil
	}
	if n, ok := p.names[fullName(name, namespace)]; ok {
		return n, nil
	}
	if n, ok := p.names[name]; ok {
		return n, nil
	}
	for _, full := range []string{fullName(name, namespace), name} {
		if p.find == nil {
			break
		}
		text, err := p.find(full)
		if err != nil {
			return nil, err
		}
		if text == "" {
			continue
		}
		value, err := decodeJSON(text)
		if err == nil {
			_, err = p.parse(value, "", depth+1)
		}
		if err != nil {
			return nil, fmt.Errorf("the type %q: %w", full, err)
		}
		if n, ok := p.names[full]; ok {
			return n, nil
		}
	}
	return nil, fmt.Errorf("the type %q is not defined", name)
}

func fullName(name, namespace string) string {
	if strings.Contains(name, ".") || namespace == "" {
		return name
	}
	return namespace + "." + name
}

func (p *parser) complex(v map[string]any, namespace string, depth int) (*node, error) {
	name, isName := v["type"].(string)
	if !isName { // {"type": {...}}: only the inner one counts
		if v["type"] == nil {
			return nil, fmt.Errorf("an object without \"type\": %v", v)
		}
		return p.parse(v["type"], namespace, depth+1)
	}
	n := &node{}
	var err error
	switch name {
	case "record", "error", "enum", "fixed":
		return p.define(name, v, namespace, depth)
	case "array":
		n.kind = kindArray
		n.items, err = p.parse(v["items"], namespace, depth+1)
	case "map":
		n.kind = kindMap
		n.items, err = p.parse(v["values"], namespace, depth+1)
	default:
		if n, err = p.named(name, namespace, depth); err == nil && n.name == "" {
			n.setLogical(v)
		}
	}
	return n, err
}

// define takes a named type. Its name is known within it.
func (p *parser) define(kind string, v map[string]any, namespace string, depth int) (*node, error) {
	name, _ := v["name"].(string)
	if name == "" {
		return nil, fmt.Errorf("a type %s has no name", kind)
	}
	if given, ok := v["namespace"].(string); ok && !strings.Contains(name, ".") {
		namespace = given
	}
	n := &node{name: fullName(name, namespace)}
	if at := strings.LastIndexByte(n.name, '.'); at >= 0 {
		namespace = n.name[:at]
	}
	if _, twice := p.names[n.name]; twice {
		return nil, fmt.Errorf("the type %q is defined twice", n.name)
	}
	p.names[n.name] = n
	for _, a := range texts(v["aliases"]) {
		n.aliases = append(n.aliases, fullName(a, namespace))
	}
	switch kind {
	case "enum":
		n.kind, n.symbols = kindEnum, texts(v["symbols"])
		n.fallback, _ = v["default"].(string)
		if len(n.symbols) == 0 {
			return nil, fmt.Errorf("enum %s has no symbols", n.name)
		}
	case "fixed":
		n.kind = kindFixed
		size, ok := whole(v["size"])
		if !ok || size < 0 || size > 1<<30 {
			return nil, fmt.Errorf("fixed %s has no size, or one that can't be: %v", n.name, v["size"])
		}
		n.size = int(size)
		n.setLogical(v)
	default:
		n.kind = kindRecord
		return n, p.addFields(n, v["fields"], namespace, depth)
	}
	return n, nil
}

func (p *parser) addFields(n *node, value any, namespace string, depth int) error {
	list, ok := value.([]any)
	if !ok {
		return fmt.Errorf("record %s has no array of fields", n.name)
	}
	empty := true // one that is within itself is not: it has no end
	for i, f := range list {
		v, _ := f.(map[string]any)
		name, _ := v["name"].(string)
		if name == "" {
			return fmt.Errorf("record %s: field %d has no name", n.name, i+1)
		}
		typ, err := p.parse(v["type"], namespace, depth+1)
		if err != nil {
			return fmt.Errorf("record %s, field %s: %w", n.name, name, err)
		}
		if typ.name == "" && typ.kind < kindRecord && typ.logical == plain {
			typ.setLogical(v) // beside the field's name, where some writers put it
		}
		def, has := v["default"]
		n.fields = append(n.fields, field{name: name, aliases: texts(v["aliases"]), typ: typ, value: def, hasOne: has})
		empty = empty && typ.empty
	}
	n.empty = empty
	return nil
}

// setLogical takes the logical type of a definition, if it is one that the type may have.
func (n *node) setLogical(v map[string]any) {
	name, _ := v["logicalType"].(string)
	l, ok := logicals[name]
	if !ok || !slices.Contains(l.on, n.kind) {
		return
	}
	switch l.logical {
	case decimal:
		precision, hasPrecision := whole(v["precision"])
		scale, hasScale := whole(v["scale"])
		if !hasScale && v["scale"] != nil || !hasPrecision || precision < 1 || scale < 0 || scale > precision || precision > 1<<16 {
			return
		}
		n.precision, n.scale = int32(precision), int32(scale)
	case uuid:
		if n.kind == kindFixed && n.size != 16 {
			return
		}
	case duration:
		if n.size != 12 {
			return
		}
	default:
	}
	n.logical = l.logical
}

func texts(value any) []string {
	list, _ := value.([]any)
	var out []string
	for _, v := range list {
		if s, ok := v.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

func whole(value any) (int64, bool) {
	n, ok := value.(json.Number)
	if !ok {
		return 0, false
	}
	v, err := n.Int64()
	return v, err == nil
}

// canonical is the schema as far as it matters for a message's bytes, complete in itself: close to the specification's
// parsing canonical form.
func (s *Schema) canonical() string {
	var b bytes.Buffer
	s.root.canonical(&b, map[*node]bool{})
	return b.String()
}

func (n *node) canonical(b *bytes.Buffer, seen map[*node]bool) {
	if n.name != "" {
		if seen[n] {
			quote(b, n.name)
			return
		}
		seen[n] = true
	}
	switch n.kind {
	case kindRecord:
		b.WriteString(`{"name":`)
		quote(b, n.name)
		b.WriteString(`,"type":"record","fields":[`)
		for i, f := range n.fields {
			comma(b, i)
			b.WriteString(`{"name":`)
			quote(b, f.name)
			b.WriteString(`,"type":`)
			f.typ.canonical(b, seen)
			b.WriteByte('}')
		}
		b.WriteString(`]}`)
	case kindEnum:
		b.WriteString(`{"name":`)
		quote(b, n.name)
		b.WriteString(`,"type":"enum","symbols":[`)
		for i, s := range n.symbols {
			comma(b, i)
			quote(b, s)
		}
		b.WriteString(`]}`)
	case kindFixed:
		b.WriteString(`{"name":`)
		quote(b, n.name)
		fmt.Fprintf(b, `,"type":"fixed","size":%d}`, n.size)
	case kindArray, kindMap:
		word := "items"
		if n.kind == kindMap {
			word = "values"
		}
		fmt.Fprintf(b, `{"type":%q,%q:`, n.kind, word)
		n.items.canonical(b, seen)
		b.WriteByte('}')
	case kindUnion:
		b.WriteByte('[')
		for i, branch := range n.branches {
			comma(b, i)
			branch.canonical(b, seen)
		}
		b.WriteByte(']')
	default:
		quote(b, n.kind.String())
	}
}

func comma(b *bytes.Buffer, i int) {
	if i > 0 {
		b.WriteByte(',')
	}
}

func quote(b *bytes.Buffer, s string) {
	text, err := json.Marshal(s)
	if err != nil { // a string always can be
		panic(err)
	}
	b.Write(text)
}
