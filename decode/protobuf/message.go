package protobuf

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"kafkadelta/decode"
)

// tag reads a field's number and wire type; n is 0 where there is none.
func tag(in []byte, p int) (number protowire.Number, typ protowire.Type, n int) {
	if p < len(in) && in[p] < 0x80 {
		number, typ = protowire.Number(in[p]>>3), protowire.Type(in[p]&7)
		if number == 0 {
			return 0, 0, 0
		}
		return number, typ, 1
	}
	number, typ, n = protowire.ConsumeTag(in[p:])
	if n < 0 || number > protowire.MaxValidNumber {
		return 0, 0, 0
	}
	return number, typ, n
}

// payload reads what follows a tag: a number, or bytes; n is negative where it is broken.
func payload(number protowire.Number, typ protowire.Type, in []byte) (u uint64, s []byte, n int) {
	switch typ {
	case protowire.VarintType:
		if len(in) > 0 && in[0] < 0x80 {
			return uint64(in[0]), nil, 1
		}
		u, n = protowire.ConsumeVarint(in)
	case protowire.Fixed32Type:
		var v uint32
		v, n = protowire.ConsumeFixed32(in)
		u = uint64(v)
	case protowire.Fixed64Type:
		u, n = protowire.ConsumeFixed64(in)
	case protowire.BytesType:
		s, n = protowire.ConsumeBytes(in)
	case protowire.StartGroupType:
		s, n = protowire.ConsumeGroup(number, in)
	default:
		n = -1
	}
	return u, s, n
}

// message decodes a message into the row with that index of its builders. This is the hot loop.
func (d *Decoder) message(m *message, in []byte, row int) bool {
	var parts []*field // messages that come more than once, in a second round, where that is known: they are merged in the end
	if d.merging {
		parts = inParts(m, in)
	}
	for p := 0; p < len(in); {
		number, typ, n := tag(in, p)
		if n == 0 {
			return d.broken()
		}
		p += n
		f := m.field(number)
		u, s, n := payload(number, typ, in[p:])
		if n < 0 {
			if d.broken(); f != nil {
				d.within(f.path)
			}
			return false
		}
		p += n
		switch {
		case f == nil:
		case f.isMap || f.isList:
			if !d.items(f, typ, u, s) {
				return false
			}
			for _, also := range f.also {
				if !d.items(also, typ, u, s) {
					return false
				}
			}
		case typ != f.wire: // the official runtime takes it for an unknown field
		case parts != nil && slices.Contains(parts, f):
			d.clearSiblings(f, row)
		case f.inParts && (f.b != nil && f.b.Len != row || f.b == nil && d.came(f)):
			d.again = true // rare: the row is decoded once more, with an eye on such messages
			return false
		default:
			if len(f.siblings) > 0 {
				d.clearSiblings(f, row)
			}
			if f.b != nil && f.b.Len != row {
				f.b.Truncate(row) // the last one counts
			}
			if !d.field(f, u, s) {
				return d.within(f.path)
			}
		}
	}
	for _, f := range parts {
		if !d.merge(f, in, row) {
			return d.within(f.path)
		}
	}
	return d.finish(m, in, row)
}

// items takes an entry of a map, or what stands for one or more elements of a list.
func (d *Decoder) items(f *field, typ protowire.Type, u uint64, s []byte) bool {
	switch {
	case f.isMap:
		if typ == protowire.BytesType && !d.entry(f, s) {
			return d.within(f.path)
		}
	case f.elem != nil:
		if !d.element(f.elem, typ, u, s) {
			return d.within(f.elem.path)
		}
	}
	return true
}

// clearSiblings takes away the other members of a oneof.
func (d *Decoder) clearSiblings(f *field, row int) {
	for _, other := range f.siblings {
		if other.b != nil && other.b.Len != row {
			other.b.Truncate(row)
		}
		d.forget(other)
	}
}

// inParts are the messages within a message that come more than once; nil for none. It reads no further down than their ends.
func inParts(m *message, in []byte) []*field {
	var parts []*field
	seen := map[*field]int{}
	for p := 0; p < len(in); {
		number, typ, n := tag(in, p)
		p += n
		if n == 0 {
			break // which decoding tells
		}
		_, _, n = payload(number, typ, in[p:])
		if n < 0 {
			break
		}
		p += n
		if f := m.field(number); f != nil && f.inParts && !f.isMap && !f.isList && typ == f.wire {
			if seen[f]++; seen[f] == 2 {
				parts = append(parts, f)
			}
		}
	}
	return parts
}

// forget takes back what was computed from a field, or from below it.
func (d *Decoder) forget(f *field) {
	for _, b := range f.below {
		if row := d.Batch.Len(); b.Len != row {
			b.Truncate(row)
		}
	}
}

// merge decodes a message that came in parts: they stand for their bytes one after the other ("Last One Wins"), so that each byte is decoded
// once, however deep parts stand in parts.
func (d *Decoder) merge(f *field, in []byte, row int) bool {
	all, set := []byte{}, false
	for p := 0; p < len(in); {
		number, typ, n := tag(in, p)
		p += n
		_, s, n := payload(number, typ, in[p:])
		p += n
		switch {
		case number == f.number && typ == f.wire:
			if f.b != nil && !complete(s) { // by itself, as the official runtime asks
				return d.broken()
			}
			all, set = append(all, s...), true
		case set && slices.ContainsFunc(f.siblings, func(o *field) bool { return o.number == number && o.wire == typ }):
			if !d.valid(f, row, all) {
				return false
			}
			d.forget(f)
			all, set = all[:0], false
		}
	}
	return !set || d.field(f, 0, all)
}

// complete reports whether bytes end where a field does.
func complete(in []byte) bool {
	for p := 0; p < len(in); {
		number, typ, n := tag(in, p)
		if n == 0 {
			return false
		}
		p += n
		if _, _, n = payload(number, typ, in[p:]); n < 0 {
			return false
		}
		p += n
	}
	return true
}

// valid reports whether a part of a message is one by itself, as the official runtime asks. It leaves no row.
func (d *Decoder) valid(f *field, row int, part []byte) bool {
	if f.b == nil {
		return true
	}
	if f.b.Len != row {
		f.b.Truncate(row)
	}
	before := d.partial
	d.partial = true // only the whole has to have what is required
	ok := d.single(f, 0, part)
	d.partial = before
	if ok {
		f.b.Truncate(row)
	}
	return ok
}

// finish completes the row: lists and maps end, and fields that did not come are absent.
func (d *Decoder) finish(m *message, in []byte, row int) bool {
	for _, f := range m.fields {
		switch {
		case f.isMap || f.isList:
			d.endItems(f)
			for _, also := range f.also {
				d.endItems(also)
			}
		case f.b != nil && f.b.Len != row || f.b == nil && d.came(f):
		case f.required && !d.partial:
			if f.b == nil && hasField(in, f) {
				break
			}
			d.fail(decode.ReasonInvalidProto, "a required field is missing")
			return d.within(f.path)
		case f.implicit && f.kind == protoreflect.StringKind:
			d.empty(f)
		case f.implicit:
			if !d.field(f, 0, nil) {
				return d.within(f.path)
			}
		case f.b != nil:
			f.b.AppendAbsent()
		}
	}
	for _, b := range m.absent {
		b.AppendAbsent()
	}
	if m.b != nil {
		m.b.Len++
	}
	return true
}

// empty takes an implicit text, which is empty: as a date, an instant or a decimal there is none.
func (d *Decoder) empty(f *field) {
	switch {
	case f.op == opText:
		f.b.AppendAbsent()
	case f.b != nil:
		f.b.AppendBytes(nil)
	}
	for i := range f.computed {
		switch c := &f.computed[i]; {
		case c.Cast == decode.CastSubstring:
			c.AppendSubstring(c.b, nil)
		case c.Cast == decode.CastNone && c.value.op == opBytes:
			c.b.AppendBytes(nil)
		}
	}
}

// came reports whether a field without a column of its own has been there, by what is computed from it, or from what is below it.
func (d *Decoder) came(f *field) bool {
	for _, b := range f.below {
		if b.Len != d.Batch.Len() {
			return true
		}
	}
	return false
}

// hasField looks for a field of proto2 that is required and has no column.
func hasField(in []byte, f *field) bool {
	for p := 0; p < len(in); {
		number, typ, n := tag(in, p)
		p += n
		_, _, n = payload(number, typ, in[p:])
		p += n
		if number == f.number && typ == f.wire {
			return true
		}
	}
	return false
}

// element takes one value of a repeated field, or many that are packed.
func (d *Decoder) element(f *field, typ protowire.Type, u uint64, s []byte) bool {
	if typ == f.wire {
		return d.single(f, u, s)
	}
	if typ != protowire.BytesType || f.wire == protowire.StartGroupType {
		return true // the official runtime takes it for an unknown field
	}
	for len(s) > 0 {
		u, _, n := payload(f.number, f.wire, s)
		if n < 0 {
			return d.broken()
		}
		if s = s[n:]; !d.single(f, u, nil) {
			return false
		}
	}
	return true
}

// entry takes one entry of a map.
func (d *Decoder) entry(f *field, in []byte) bool {
	var key, value datum
	var parts []byte
	for p := 0; p < len(in); {
		number, typ, n := tag(in, p)
		if n == 0 {
			return d.broken()
		}
		p += n
		u, s, n := payload(number, typ, in[p:])
		if n < 0 {
			return d.broken()
		}
		p += n
		switch {
		case number == 1 && (f.key == nil || typ == f.key.wire):
			if !d.replaced(f.key, key) {
				return false
			}
			key = datum{u, s}
		case number == 2 && f.elem != nil && typ == f.elem.wire && f.elem.inParts && value.s != nil: // parts of a message
			if f.elem.b != nil && (parts == nil && !complete(value.s) || !complete(s)) {
				return d.broken()
			}
			if parts == nil {
				parts = append([]byte{}, value.s...)
			}
			parts = append(parts, s...)
			value.s = parts
		case number == 2:
			if f.elem == nil || typ == f.elem.wire {
				if !d.replaced(f.elem, value) {
					return false
				}
				value = datum{u, s}
			}
		}
	}
	for name, l := range f.lookups {
		if string(key.s) != name {
			continue
		}
		d.forget(l) // an entry of the same key before
		if !d.field(l, value.u, value.s) {
			return d.within(l.path)
		}
	}
	if f.b == nil {
		return true
	}
	if !d.single(f.key, key.u, key.s) {
		return d.within(f.key.path)
	}
	if !d.single(f.elem, value.u, value.s) {
		return d.within(f.elem.path)
	}
	f.b.Children[0].EndRow()
	return true
}

// replaced reports whether a key or a value that came before another one in its entry is one, as the official runtime asks.
func (d *Decoder) replaced(f *field, before datum) bool {
	return f == nil || f.b == nil || before.s == nil || d.valid(f, f.b.Len, before.s)
}

// datum is a value as it stands in a message. The zero value stands for zero of every kind.
type datum struct {
	u uint64
	s []byte
}

// endItems ends the row of a list or a map. Of equal keys the last one counts.
func (d *Decoder) endItems(f *field) {
	if f.b == nil {
		return
	}
	if f.isMap {
		d.Keys.LastWins(f.b.Children[0], int(f.b.Offsets[f.b.Len]))
	}
	f.b.EndRow()
}
