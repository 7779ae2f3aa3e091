package protobuf

import (
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"kafkadelta/decode"
)

// op is what a value becomes.
type op uint8

const (
	opNone   op = iota // no column takes it; what is computed from it may
	opNumber           // a whole number, into any numeric column, or a date or instant
	opBool
	opFloat // float and double
	opBytes // string and bytes
	opText  // a string that is read as a date, an instant or a decimal
	opEnum
	opMessage
	opTimestamp
	opDuration
	opWrapper
	opJSON
)

// message is a compiled message type at one place.
type message struct {
	name   protoreflect.FullName
	b      *decode.Builder // the struct's; nil for the message itself, and where the table has no struct for it
	low    []*field        // by number, for the first ones
	high   map[protowire.Number]*field
	fields []*field // those that the table, a computed column or a rule of proto2 asks for
	absent []*decode.Builder
}

// lowNumbers are the field numbers that are found without a map.
const lowNumbers = 64

func (m *message) field(n protowire.Number) *field {
	if int(n) < len(m.low) {
		return m.low[n]
	}
	return m.high[n]
}

// field is one compiled field. Nothing of it changes while messages are decoded.
type field struct {
	number   protowire.Number
	kind     protoreflect.Kind
	wire     protowire.Type
	op       op
	b        *decode.Builder // of a list or map, of all of it
	path     string
	elem     *field // of a list; the value of a map
	key      *field // of a map
	isMap    bool
	isList   bool
	implicit bool // absent means zero, and not nothing
	required bool
	inParts  bool // a message: its parts are merged

	epoch            decode.Epoch
	precision, scale int32
	names            map[int32]string      // of an enum
	message          *message              // opMessage
	inner            *field                // opWrapper: the wrapped value
	known            protoreflect.FullName // opJSON: of which type
	siblings         []*field              // the other members of its oneof
	computed         []computed
	below            []*decode.Builder // all columns computed from it or from what is below it
	lookups          map[string]*field // of a map: keys that computed columns read
	also             []*field          // of a list or map: columns that take all of it, too
}

type computed struct {
	*decode.Computed
	b     *decode.Builder
	value *field // without a cast: how the column takes the value
}

type compiler struct {
	d      *Decoder
	growth int
}

func (d *Decoder) compile(t *Type) (*message, int, error) {
	c := &compiler{d: d, growth: baseGrowth}
	n, b, children := d.Plan.Root(), (*decode.Builder)(nil), d.Batch.Columns
	if d.whole {
		n, b = n.Fields[0], children[0]
		if children = b.Children; b.Kind != decode.KindStruct {
			return nil, 0, &decode.Mismatch{Path: n.Path, Detail: fmt.Sprintf("%s into %s: want a STRUCT", t.descriptor.FullName(), decode.TypeName(b.Type))}
		}
	}
	root, err := c.message(t.descriptor, n, b, children)
	return root, c.growth, err
}

// baseGrowth bounds what one byte becomes in a column of texts: a duration, or an escaped character of JSON.
const baseGrowth = 16

func (c *compiler) message(m protoreflect.MessageDescriptor, n *decode.Node, b *decode.Builder, children []*decode.Builder) (*message, error) {
	out := &message{name: m.FullName(), b: b, high: map[protowire.Number]*field{}}
	filled := map[*decode.Node]bool{}
	oneofs := map[protoreflect.OneofDescriptor][]*field{}
	var misfits decode.Misfits
	for i := range m.Fields().Len() {
		fd := m.Fields().Get(i)
		column := columnOf(n, fd)
		if column == nil {
			if fd.Cardinality() != protoreflect.Required && fd.ContainingOneof() == nil { // a member takes the others away
				continue
			}
			column = &decode.Node{Name: string(fd.Name()), Path: join(n.Path, string(fd.Name())), Index: -1}
		}
		filled[column] = true
		var cb *decode.Builder
		if column.Index >= 0 {
			cb = children[column.Index]
		}
		f, err := c.field(fd, column, cb)
		if other := misfits.Add(err); other != nil {
			return nil, other
		}
		if err != nil {
			continue
		}
		out.add(f)
		if o := fd.ContainingOneof(); o != nil {
			oneofs[o] = append(oneofs[o], f)
		}
	}
	for _, members := range oneofs {
		for _, f := range members {
			for _, other := range members {
				if other != f && len(members) > 1 {
					f.siblings = append(f.siblings, other)
				}
			}
		}
	}
	for _, column := range n.Fields {
		if !filled[column] && column.Index >= 0 {
			out.absent = append(out.absent, children[column.Index])
		}
	}
	return out, misfits.Err()
}

func (m *message) add(f *field) {
	m.fields = append(m.fields, f)
	if f.number >= lowNumbers {
		m.high[f.number] = f
		return
	}
	for len(m.low) <= int(f.number) {
		m.low = append(m.low, nil)
	}
	m.low[f.number] = f
}

// columnOf finds a field's column by the field's name, or by its JSON name, which lowerCamelCase tables have.
func columnOf(n *decode.Node, fd protoreflect.FieldDescriptor) *decode.Node {
	for _, name := range []string{string(fd.Name()), fd.JSONName()} {
		for _, f := range n.Fields {
			if f.Name == name {
				return f
			}
		}
	}
	return nil
}

func (c *compiler) field(fd protoreflect.FieldDescriptor, n *decode.Node, b *decode.Builder) (*field, error) {
	f := &field{
		number: fd.Number(), kind: fd.Kind(), wire: wireTypes[fd.Kind()], b: b, path: n.Path, epoch: n.Epoch,
		implicit: !fd.HasPresence() && !fd.IsList() && !fd.IsMap(), required: fd.Cardinality() == protoreflect.Required,
	}
	f.below = c.columnsBelow(n)
	var misfits decode.Misfits
	var err error
	if fd.IsMap() || fd.IsList() {
		if err = misfits.Add(c.copies(f, fd, n)); err != nil {
			return nil, err
		}
	}
	switch {
	case fd.IsMap():
		f.isMap = true
		err = c.mapping(f, fd, n)
	case fd.IsList():
		f.isList = true
		if b == nil {
			break
		}
		if b.Kind != decode.KindList {
			err = c.refused(f, fd)
			break
		}
		f.elem = &field{number: f.number, kind: f.kind, wire: f.wire, b: b.Children[0], path: n.Elem.Path, epoch: n.Elem.Epoch}
		err = c.single(f.elem, fd, n.Elem)
	default:
		if err = misfits.Add(c.single(f, fd, n)); err == nil {
			err = c.compute(f, fd, n)
		}
	}
	if err = misfits.Add(err); err == nil {
		err = misfits.Err()
	}
	return f, err
}

// copies compiles the columns that take all of a list or a map under another name.
func (c *compiler) copies(f *field, fd protoreflect.FieldDescriptor, n *decode.Node) error {
	if fd.IsList() && slices.ContainsFunc(n.Fields, func(child *decode.Node) bool { return child.Index < 0 }) {
		return &decode.Mismatch{Path: n.Path, Detail: "a computed column reads a field below a repeated one: only all of it can be read"}
	}
	var misfits decode.Misfits
	for _, from := range n.Computed {
		if from.Cast != decode.CastNone {
			_ = misfits.Add(&decode.Mismatch{Path: n.Path, Detail: fmt.Sprintf("a computed column's cast needs a text or an instant, and the field is %s", typeName(fd))})
			continue
		}
		also, err := c.field(fd, from.Value, c.d.Batch.Columns[from.Column])
		if err = misfits.Add(err); err != nil {
			return err
		}
		f.also = append(f.also, also)
	}
	return misfits.Err()
}

func (c *compiler) mapping(f *field, fd protoreflect.FieldDescriptor, n *decode.Node) error {
	if f.b != nil && f.b.Kind != decode.KindMap {
		return c.refused(f, fd)
	}
	var misfits decode.Misfits
	if f.b != nil {
		entry := f.b.Children[0]
		f.key = mapField(fd.MapKey(), n.Key, entry.Children[0])
		f.elem = mapField(fd.MapValue(), n.Elem, entry.Children[1])
		for _, err := range []error{c.single(f.key, fd.MapKey(), n.Key), c.single(f.elem, fd.MapValue(), n.Elem)} {
			if err = misfits.Add(err); err != nil {
				return err
			}
		}
	}
	for _, child := range n.Fields {
		if child.Index >= 0 {
			continue
		}
		if fd.MapKey().Kind() != protoreflect.StringKind {
			_ = misfits.Add(&decode.Mismatch{Path: child.Path, Detail: "a computed column reads a key of a map whose keys are no strings"})
			continue
		}
		value := mapField(fd.MapValue(), child, nil)
		value.below = c.columnsBelow(child)
		for _, err := range []error{c.single(value, fd.MapValue(), child), c.compute(value, fd.MapValue(), child)} {
			if err = misfits.Add(err); err != nil {
				return err
			}
		}
		if f.lookups == nil {
			f.lookups = map[string]*field{}
		}
		f.lookups[child.Name] = value
	}
	return misfits.Err()
}

// columnsBelow are the columns that are computed from a field, or from what is below it.
func (c *compiler) columnsBelow(n *decode.Node) []*decode.Builder {
	var out []*decode.Builder
	for _, column := range n.Below {
		out = append(out, c.d.Batch.Columns[column])
	}
	return out
}

func mapField(fd protoreflect.FieldDescriptor, n *decode.Node, b *decode.Builder) *field {
	return &field{number: fd.Number(), kind: fd.Kind(), wire: wireTypes[fd.Kind()], b: b, path: n.Path, epoch: n.Epoch}
}

func (c *compiler) compute(f *field, fd protoreflect.FieldDescriptor, n *decode.Node) error {
	var misfits decode.Misfits
	for _, from := range n.Computed {
		out := computed{Computed: from, b: c.d.Batch.Columns[from.Column]}
		text := fd.Kind() == protoreflect.StringKind || fd.Kind() == protoreflect.EnumKind
		instant := fd.Kind() == protoreflect.StringKind || isWhole(fd.Kind()) || fd.Message() != nil && wellKnown[fd.Message().FullName()] == knownTimestamp
		switch {
		case from.Cast == decode.CastNone:
			out.value = &field{number: f.number, kind: f.kind, wire: f.wire, b: out.b, path: from.Value.Path, epoch: from.Value.Epoch}
			if err := misfits.Add(c.single(out.value, fd, from.Value)); err != nil {
				return err
			}
			out.value.path = n.Path // a message's error names the field, and that of a schema the column
		case from.Cast == decode.CastJSON, from.Cast == decode.CastSubstring && !text, from.Cast != decode.CastSubstring && !instant:
			_ = misfits.Add(&decode.Mismatch{Path: n.Path, Detail: fmt.Sprintf("a computed column's cast needs a text or an instant, and the field is %s", typeName(fd))})
		}
		f.computed = append(f.computed, out)
	}
	return misfits.Err()
}

// single chooses the op of one value.
func (c *compiler) single(f *field, fd protoreflect.FieldDescriptor, n *decode.Node) error {
	if fd.Kind() == protoreflect.EnumKind {
		c.enum(f, fd.Enum())
	}
	if m := fd.Message(); m != nil {
		f.inParts = true
		return c.messageField(f, fd, m, n)
	}
	if f.b == nil {
		if len(n.Fields) > 0 {
			return &decode.Mismatch{Path: n.Path, Detail: fmt.Sprintf("a computed column reads a field below this one, and the field is %s", typeName(fd))}
		}
		return nil
	}
	if t, ok := f.b.Type.(*arrow.Decimal128Type); ok {
		f.precision, f.scale = t.Precision, t.Scale
	}
	to := f.b.Kind
	switch fd.Kind() {
	case protoreflect.BoolKind:
		if to == decode.KindBool {
			f.op = opBool
		}
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		if to == decode.KindFloat64 || to == decode.KindFloat32 && fd.Kind() == protoreflect.FloatKind {
			f.op = opFloat
		}
	case protoreflect.StringKind:
		switch to {
		case decode.KindString, decode.KindBinary:
			f.op = opBytes
		case decode.KindDate, decode.KindTimestamp, decode.KindTimestampNTZ, decode.KindDecimal:
			f.op = opText
		default:
		}
	case protoreflect.BytesKind:
		if to == decode.KindString || to == decode.KindBinary {
			f.op = opBytes
		}
	case protoreflect.EnumKind:
		switch to {
		case decode.KindString:
			f.op = opEnum
		case decode.KindInt32, decode.KindInt64:
			f.op = opNumber
		default:
		}
	default: // whole numbers
		if to != decode.KindBool && to != decode.KindString && to != decode.KindBinary && to < decode.KindStruct {
			f.op = opNumber
		}
	}
	if f.op == opNone {
		return c.refused(f, fd)
	}
	return nil
}

// enum takes an enum's names. Of several names of a number the first one counts.
func (c *compiler) enum(f *field, e protoreflect.EnumDescriptor) {
	f.names = map[int32]string{}
	longest := 0
	for i := range e.Values().Len() {
		v := e.Values().Get(i)
		if _, ok := f.names[int32(v.Number())]; !ok {
			f.names[int32(v.Number())] = string(v.Name())
		}
		longest = max(longest, len(v.Name()))
	}
	c.growth = max(c.growth, longest) // of one column; also for each message within the message that lacks the field, none of which is less than a byte
}

func (c *compiler) messageField(f *field, fd protoreflect.FieldDescriptor, m protoreflect.MessageDescriptor, n *decode.Node) error {
	var err error
	if f.b == nil {
		if len(n.Fields) > 0 {
			f.op = opMessage
			f.message, err = c.message(m, n, nil, nil)
		}
		return err
	}
	to := f.b.Kind
	switch k := wellKnown[m.FullName()]; {
	case to == decode.KindStruct && k != knownJSON:
		f.op = opMessage
		f.message, err = c.message(m, n, f.b, f.b.Children)
		return err
	case k == knownTimestamp && (to == decode.KindTimestamp || to == decode.KindTimestampNTZ || to == decode.KindDate):
		f.op = opTimestamp
	case k == knownDuration && (to == decode.KindString || to == decode.KindInt64):
		f.op = opDuration
	case k == knownJSON && to == decode.KindString:
		f.op, f.known = opJSON, m.FullName()
	case k == knownWrapper:
		f.op = opWrapper
		value := m.Fields().ByNumber(1)
		f.inner = &field{number: 1, kind: value.Kind(), wire: wireTypes[value.Kind()], b: f.b, path: n.Path, epoch: n.Epoch}
		return c.single(f.inner, value, n)
	default:
		return c.refused(f, fd)
	}
	return nil
}

func (c *compiler) refused(f *field, fd protoreflect.FieldDescriptor) error {
	return &decode.Mismatch{Path: f.path, Detail: fmt.Sprintf("%s into %s: change the column's type, or leave the column out", typeName(fd), decode.TypeName(f.b.Type))}
}

func typeName(fd protoreflect.FieldDescriptor) string {
	name := fd.Kind().String()
	switch {
	case fd.IsMap():
		return fmt.Sprintf("map<%s, %s>", typeName(fd.MapKey()), typeName(fd.MapValue()))
	case fd.Message() != nil:
		name = "message " + string(fd.Message().FullName())
	case fd.Enum() != nil:
		name = "enum " + string(fd.Enum().FullName())
	}
	if fd.IsList() {
		name = "repeated " + name
	}
	return name
}

func isWhole(k protoreflect.Kind) bool {
	switch k {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind, protoreflect.Uint32Kind, protoreflect.Fixed32Kind,
		protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return true
	default:
		return false
	}
}

// wireTypes are how values of each kind stand in a message.
var wireTypes = map[protoreflect.Kind]protowire.Type{
	protoreflect.BoolKind: protowire.VarintType, protoreflect.EnumKind: protowire.VarintType, protoreflect.Int32Kind: protowire.VarintType,
	protoreflect.Sint32Kind: protowire.VarintType, protoreflect.Uint32Kind: protowire.VarintType, protoreflect.Int64Kind: protowire.VarintType,
	protoreflect.Sint64Kind: protowire.VarintType, protoreflect.Uint64Kind: protowire.VarintType, protoreflect.Sfixed32Kind: protowire.Fixed32Type,
	protoreflect.Fixed32Kind: protowire.Fixed32Type, protoreflect.FloatKind: protowire.Fixed32Type, protoreflect.Sfixed64Kind: protowire.Fixed64Type,
	protoreflect.Fixed64Kind: protowire.Fixed64Type, protoreflect.DoubleKind: protowire.Fixed64Type, protoreflect.StringKind: protowire.BytesType,
	protoreflect.BytesKind: protowire.BytesType, protoreflect.MessageKind: protowire.BytesType, protoreflect.GroupKind: protowire.StartGroupType,
}
