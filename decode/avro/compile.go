package avro

import (
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/decode"
)

// op is what a value becomes. It is chosen once, from the writer's type and the column's.
type op uint8

const (
	opSkip op = iota
	opNull
	opRefuse // the value's presence makes the message poison
	opUnion
	opMembers // a union of several types, as a struct
	opBool
	opInt8 // from int, with a check of the range
	opInt16
	opInt32
	opInt64 // from int or long
	opIntToFloat32
	opIntToFloat64
	opFloat32
	opFloat64
	opFloatToDouble
	opString // of bytes or string: the bytes have to be UTF-8
	opBinary
	opSymbol
	opFixed
	opFixedText // uuid
	opIntToDecimal
	opDecimal // of bytes
	opDecimalFixed
	opDecimalText
	opDecimalDigits // of bytes or fixed, as a text
	opDate
	opDateText
	opTimestamp
	opTimestampText
	opDuration
	opRecord
	opArray
	opMap
)

// program is a decoder's plan for the messages of one writer's schema.
type program = value

// value is one compiled type at one place. Nothing of it changes while messages are decoded.
type value struct {
	op       op
	nullable uint8 // of a union of null and one type, which this is: 1 or 2, one more than the index of null
	extra    bool  // computed or lookups is set
	b        *decode.Builder
	typ      *node // the writer's
	path     string

	epoch            decode.Epoch // of numbers and instants
	precision, scale int32        // of a decimal column
	symbols          []string     // of an enum, as the column gets them
	refusal          string       // opRefuse: what the message's error says
	record           *record      // opRecord
	elem             *value       // opArray, opMap
	branches         []value      // opUnion; opMembers, whose struct has the fields that members names
	computed         []computed
	lookups          []lookup // opMap: keys that computed columns read
}

// record is a compiled record. b is nil for the message itself, and where the table has no struct for it.
type record struct {
	b       *decode.Builder
	fields  []value
	missing []missing // columns that the writer's schema has no field for
}

// missing is a column without a field: the reader's default, or else what the table has for rows without a value.
type missing struct {
	b     *decode.Builder
	text  []byte // the default, as Avro; nil for none
	value value
}

// computed is a computed column that is fed from a value.
type computed struct {
	*decode.Computed
	b     *decode.Builder
	value value // without a cast: how the column takes the value; of an enum's substring the symbols
}

type lookup struct {
	key   string
	value value
}

type compiler struct {
	d      *Decoder
	growth int
}

// compile resolves a writer's schema against the table. reader may be nil.
func (d *Decoder) compile(writer, reader *Schema) (*program, int, error) {
	c := &compiler{d: d, growth: 1}
	w := writer.root
	var r *node
	if reader != nil {
		r = reader.root
	}
	p := &value{op: opRecord, typ: w}
	root := d.Plan.Root()
	var misfits decode.Misfits
	var err error
	switch {
	case w.kind == kindRecord:
		p.record, err = c.record(w, onlyOne(w, r), root, nil, d.Batch.Columns)
	case w.kind == kindUnion: // of records: each message says which
		p.op = opUnion
		for _, branch := range w.branches {
			v := value{op: opRefuse, typ: branch, refusal: fmt.Sprintf("the message is %s: want a record", branch)}
			if branch.kind == kindRecord {
				v = value{op: opRecord, typ: branch}
				v.record, err = c.record(branch, resolved(branch, r), root, nil, d.Batch.Columns)
				if err = misfits.Add(err); err != nil {
					return nil, 0, err
				}
			}
			p.branches = append(p.branches, v)
		}
		err = misfits.Err()
	default:
		return nil, 0, &decode.Mismatch{Path: "", Detail: fmt.Sprintf("the schema is %s: want a record, whose fields are columns", w)}
	}
	return p, c.growth, err
}

// resolved is the reader's type for one of several of the writer's, through unions: of its full name or an alias, else of its name without the namespace, else one that
// the writer's is promoted to; nil where there is none.
func resolved(w, r *node) *node {
	if r == nil {
		return nil
	}
	candidates := []*node{r}
	if r.kind == kindUnion {
		candidates = r.branches
	}
	for _, matches := range []func(*node) bool{
		func(n *node) bool {
			return n.kind == w.kind && (n.name == w.name || slices.Contains(n.aliases, w.name))
		},
		func(n *node) bool { return n.kind == w.kind && n.isNamed(w.name) },
		func(n *node) bool { return slices.Contains(promotions[w.kind], n.kind) },
	} {
		if i := slices.IndexFunc(candidates, matches); i >= 0 {
			return candidates[i]
		}
	}
	return nil
}

// promotions are what the specification lets a reader take a type for ("Schema Resolution").
var promotions = map[kind][]kind{
	kindInt: {kindLong, kindFloat, kindDouble}, kindLong: {kindFloat, kindDouble}, kindFloat: {kindDouble}, kindString: {kindBytes}, kindBytes: {kindString},
}

// onlyOne is resolved where the writer has no other type at this place. As in Java, a record, enum or fixed may then have any name, if the reader has one of its
// kind only: registries let a subject's record be renamed.
func onlyOne(w, r *node) *node {
	if n := resolved(w, r); n != nil || r == nil {
		return n
	}
	if r.kind != kindUnion {
		if r.kind == w.kind {
			return r
		}
		return nil
	}
	var found *node
	for _, branch := range r.branches {
		if branch.kind != w.kind {
			continue
		}
		if found != nil {
			return nil
		}
		found = branch
	}
	return found
}

// isNamed compares names without namespaces, as the specification's "(unqualified) name".
func (n *node) isNamed(name string) bool {
	name = unqualified(name)
	return unqualified(n.name) == name || slices.ContainsFunc(n.aliases, func(a string) bool { return unqualified(a) == name })
}

func unqualified(name string) string {
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '.' {
			return name[i+1:]
		}
	}
	return name
}

// record compiles the fields of w into the columns of n. b is the struct's builder.
func (c *compiler) record(w, r *node, n *decode.Node, b *decode.Builder, children []*decode.Builder) (*record, error) {
	out := &record{b: b}
	filled := map[*decode.Node]string{}
	var misfits decode.Misfits
	for i := range w.fields {
		f := &w.fields[i]
		name, rt := r.reads(f)
		column := columnOf(n, name)
		if column == nil {
			out.fields = append(out.fields, value{op: opSkip, typ: f.typ, path: join(n.Path, name)})
			continue
		}
		if other, twice := filled[column]; twice {
			_ = misfits.Add(&decode.Mismatch{Path: column.Path, Detail: fmt.Sprintf("both fields %s and %s of the schema are for this column", other, f.name)})
			continue
		}
		filled[column] = f.name
		v, err := c.field(f.typ, rt, column, children)
		if err = misfits.Add(err); err != nil {
			return nil, err
		}
		out.fields = append(out.fields, v)
	}
	for _, column := range n.Fields {
		if _, ok := filled[column]; ok || column.Index < 0 {
			continue
		}
		m := missing{b: children[column.Index]}
		if rf := r.fieldNamed(column.Name); rf != nil && rf.hasOne {
			text, err := appendDefault(nil, rf.typ, rf.value)
			if err != nil {
				_ = misfits.Add(&decode.Mismatch{Path: column.Path, Detail: fmt.Sprintf("the default of the reader's schema: %v", err)})
				continue
			}
			before := c.growth
			c.growth = 1
			m.value, err = c.value(rf.typ, rf.typ, column, m.b)
			if err = misfits.Add(err); err != nil {
				return nil, err
			}
			m.text = text
			c.growth = max(before, (len(text)+1)*c.growth) // a record that lacks the field may be a byte
		}
		out.missing = append(out.missing, m)
	}
	return out, misfits.Err()
}

// reads is by which name the reader, if there is one, takes the writer's field, and as which type: nil where it has none for it.
func (n *node) reads(f *field) (name string, typ *node) {
	if n == nil {
		return f.name, nil
	}
	if own := n.fieldNamed(f.name); own != nil {
		return own.name, own.typ
	}
	for i := range n.fields {
		if slices.Contains(n.fields[i].aliases, f.name) {
			return n.fields[i].name, n.fields[i].typ
		}
	}
	return f.name, nil
}

func (n *node) fieldNamed(name string) *field {
	if n == nil {
		return nil
	}
	for i := range n.fields {
		if n.fields[i].name == name {
			return &n.fields[i]
		}
	}
	return nil
}

func columnOf(n *decode.Node, name string) *decode.Node {
	for _, f := range n.Fields {
		if f.Name == name {
			return f
		}
	}
	return nil
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// field compiles a field that the table has a column for, or that computed columns read.
func (c *compiler) field(w, r *node, n *decode.Node, children []*decode.Builder) (value, error) {
	if n.Index >= 0 {
		return c.value(w, r, n, children[n.Index])
	}
	return c.value(w, r, n, nil)
}

// value compiles one place. Without a builder only what is computed from it counts.
func (c *compiler) value(w, r *node, n *decode.Node, b *decode.Builder) (value, error) {
	if w.kind == kindUnion {
		return c.union(w, r, n, b)
	}
	if m := ofOne(w, r, n); m != nil { // of a union that has had one type only
		return c.union(m, r, n, b)
	}
	v := value{op: opSkip, typ: w, path: n.Path, b: b, epoch: n.Epoch}
	var misfits decode.Misfits
	if err := misfits.Add(c.shape(&v, w, onlyOne(w, r), n)); err != nil {
		return v, err
	}
	for _, from := range n.Computed {
		out := computed{Computed: from, b: c.d.Batch.Columns[from.Column]}
		var err error
		if from.Cast == decode.CastNone {
			out.value, err = c.value(w, r, from.Value, out.b)
		} else {
			out.value.symbols = c.symbols(w, onlyOne(w, r))
			err = castable(w, from.Cast, n.Path)
		}
		if err = misfits.Add(err); err != nil {
			return v, err
		}
		v.computed = append(v.computed, out)
	}
	v.extra = len(v.computed) > 0 || len(v.lookups) > 0
	return v, misfits.Err()
}

// castable reports whether a computed column can be taken of a type.
func castable(w *node, cast decode.Cast, path string) error {
	switch {
	case cast == decode.CastSubstring && (w.kind == kindString || w.kind == kindEnum):
	case cast != decode.CastSubstring && cast != decode.CastJSON && (w.kind == kindString || w.kind == kindInt || w.kind == kindLong) && w.logical != timeMillis && w.logical != timeMicros:
	case w.kind == kindNull:
	default:
		return &decode.Mismatch{Path: path, Detail: fmt.Sprintf("a computed column's cast needs a text or an instant, and the schema has %s", w)}
	}
	return nil
}

// shape chooses the op.
func (c *compiler) shape(v *value, w, r *node, n *decode.Node) error {
	var err error
	if v.b == nil {
		switch w.kind {
		case kindRecord:
			if len(n.Fields) > 0 {
				v.op = opRecord
				v.record, err = c.record(w, r, n, nil, nil)
			}
		case kindMap:
			if len(n.Fields) > 0 {
				v.op = opMap
				err = c.lookups(v, w, r, n)
			}
		default:
			if len(n.Fields) > 0 && w.kind != kindNull {
				err = &decode.Mismatch{Path: n.Path, Detail: fmt.Sprintf("a computed column reads a field below this one, and the schema has %s", w)}
			}
		}
		return err
	}
	switch w.kind {
	case kindNull:
		v.op = opNull
		return nil
	case kindRecord:
		if v.b.Kind != decode.KindStruct {
			return c.refuse(v, w)
		}
		v.op = opRecord
		v.record, err = c.record(w, r, n, v.b, v.b.Children)
	case kindArray:
		if v.b.Kind != decode.KindList {
			return c.refuse(v, w)
		}
		v.op = opArray
		v.elem, err = c.elem(w.items, r.itemsOf(), n.Elem, v.b.Children[0])
	case kindMap:
		if v.b.Kind != decode.KindMap || n.Key.Type.ID() != arrow.STRING {
			return c.refuse(v, w)
		}
		v.op = opMap
		var misfits decode.Misfits
		v.elem, err = c.elem(w.items, r.itemsOf(), n.Elem, v.b.Children[0].Children[1])
		for _, err := range []error{err, c.lookups(v, w, r, n)} {
			if err = misfits.Add(err); err != nil {
				return err
			}
		}
		err = misfits.Err()
	default:
		return c.scalar(v, w, r)
	}
	return err
}

func (n *node) itemsOf() *node {
	if n == nil {
		return nil
	}
	return n.items
}

func (c *compiler) elem(w, r *node, n *decode.Node, b *decode.Builder) (*value, error) {
	v, err := c.value(w, r, n, b)
	return &v, err
}

func (c *compiler) lookups(v *value, w, r *node, n *decode.Node) error {
	var misfits decode.Misfits
	for _, f := range n.Fields {
		if f.Index >= 0 { // a struct's field, which a map does not have
			continue
		}
		out, err := c.value(w.items, r.itemsOf(), f, nil)
		if err = misfits.Add(err); err != nil {
			return err
		}
		v.lookups = append(v.lookups, lookup{f.Name, out})
	}
	return misfits.Err()
}

func (c *compiler) refuse(v *value, w *node) error {
	return &decode.Mismatch{Path: v.path, Detail: fmt.Sprintf("%s into %s: change the column's type, or leave the column out", w.described(), decode.TypeName(v.b.Type))}
}

// described is a type with its logical type.
func (n *node) described() string {
	for name, l := range logicals {
		if n.logical != plain && l.logical == n.logical {
			return fmt.Sprintf("%s (%s)", n, name)
		}
	}
	return n.String()
}

// scalar chooses the op of a single value: the specification's promotions, the logical types, and, as in every format, texts of
// dates, timestamps and decimals.
func (c *compiler) scalar(v *value, w, r *node) error {
	to := v.b.Kind
	if d, ok := v.b.Type.(*arrow.Decimal128Type); ok {
		v.precision, v.scale = d.Precision, d.Scale
	}
	instant := to == decode.KindTimestamp || to == decode.KindTimestampNTZ
	switch w.kind {
	case kindBoolean:
		if to == decode.KindBool {
			v.op = opBool
		}
	case kindInt, kindLong:
		v.op = wholeNumber(w, to)
		if w.logical != plain {
			v.epoch = epochOf[w.logical]
		}
	case kindFloat:
		v.op = map[decode.Kind]op{decode.KindFloat32: opFloat32, decode.KindFloat64: opFloatToDouble}[to]
	case kindDouble:
		v.op = map[decode.Kind]op{decode.KindFloat64: opFloat64}[to]
	case kindBytes:
		v.op = map[decode.Kind]op{decode.KindBinary: opBinary, decode.KindString: opString}[to]
		switch {
		case w.logical == decimal && to == decode.KindDecimal:
			v.op = opDecimal
		case w.logical == decimal && to == decode.KindString:
			c.digits(v, w)
		}
	case kindString:
		switch {
		case instant:
			v.op = opTimestampText
		default:
			v.op = map[decode.Kind]op{
				decode.KindBinary: opBinary, decode.KindString: opString, decode.KindDate: opDateText, decode.KindDecimal: opDecimalText,
			}[to]
		}
	case kindEnum:
		if to == decode.KindString {
			v.op = opSymbol
			v.symbols = c.symbols(w, r)
		}
	case kindFixed:
		c.fixed(v, w, to)
	default:
	}
	if v.op == opSkip {
		return c.refuse(v, w)
	}
	return nil
}

// epochOf are the units of logical types.
var epochOf = map[logical]decode.Epoch{
	date: decode.EpochDays, timestampMillis: decode.EpochMillis, timestampMicros: decode.EpochMicros, timestampNanos: decode.EpochNanos,
	localMillis: decode.EpochMillis, localMicros: decode.EpochMicros, localNanos: decode.EpochNanos,
}

func wholeNumber(w *node, to decode.Kind) op {
	if w.logical == date || w.kind == kindLong && w.logical != plain && w.logical != timeMicros { // days, or an instant
		switch to {
		case decode.KindDate:
			return opDate
		case decode.KindTimestamp, decode.KindTimestampNTZ:
			return opTimestamp
		default:
		}
	}
	ops := map[decode.Kind]op{
		decode.KindInt64: opInt64, decode.KindFloat32: opIntToFloat32, decode.KindFloat64: opIntToFloat64, decode.KindDecimal: opIntToDecimal,
	}
	if w.kind == kindInt {
		ops[decode.KindInt8], ops[decode.KindInt16], ops[decode.KindInt32] = opInt8, opInt16, opInt32
	}
	if w.logical == plain {
		ops[decode.KindDate], ops[decode.KindTimestamp], ops[decode.KindTimestampNTZ] = opDate, opTimestamp, opTimestamp
	}
	return ops[to]
}

// symbols are what a column gets for each symbol of the writer's enum: itself, or the reader's default for one that the reader lacks.
func (c *compiler) symbols(w, r *node) []string {
	out := w.symbols
	if r != nil && r.fallback != "" {
		out = slices.Clone(out)
		for i, s := range out {
			if !slices.Contains(r.symbols, s) {
				out[i] = r.fallback
			}
		}
	}
	for _, s := range out {
		c.growth = max(c.growth, len(s))
	}
	return out
}

func (c *compiler) fixed(v *value, w *node, to decode.Kind) {
	switch {
	case to == decode.KindDecimal && w.logical == decimal:
		v.op = opDecimalFixed
	case to == decode.KindString && w.logical == decimal:
		c.digits(v, w)
	case to == decode.KindBinary:
		v.op = opFixed
	case to == decode.KindString && w.logical == uuid:
		v.op = opFixedText
		c.growth = max(c.growth, 3)
	case to == decode.KindString && w.logical == duration:
		v.op = opDuration
		c.growth = max(c.growth, 4)
	}
}

// digits takes a decimal as its text.
func (c *compiler) digits(v *value, w *node) {
	v.op = opDecimalDigits
	c.growth = max(c.growth, 3+int(w.scale)) // a byte has less than 3 digits, and there are a sign, a zero and a point
}
