package avro

import (
	"encoding/binary"
	"math"
	"unicode/utf8"

	"kafkadelta/decode"
)

// record decodes the fields of a record. This is the hot loop: the most frequent ops stand here, the others in value.
func (d *Decoder) record(r *record, p int) int {
	in := d.in
	for i := range r.fields {
		v := &r.fields[i]
		start := p
		if v.nullable != 0 {
			if uint(p) >= uint(len(in)) || in[p] != (2-v.nullable)<<1 || v.extra { // null, or broken
				if p = d.value(v, p); p < 0 {
					return p
				}
				continue
			}
			p++
		}
		if v.extra {
			if p = d.value(v, start); p < 0 {
				return p
			}
			continue
		}
		switch v.op {
		case opString:
			n, begin := long(in, p)
			if begin < 0 || n < 0 || n > int64(len(in)-begin) {
				d.truncated(p)
				return d.within(v.path)
			}
			p = begin + int(n)
			text := in[begin:p]
			if !utf8.Valid(text) {
				d.fail(decode.ReasonInvalidUTF8, begin, "the text is not UTF-8: %s", decode.Shorten(text))
				return d.within(v.path)
			}
			b := v.b
			b.Data = append(b.Data, text...)
			b.Offsets = append(b.Offsets, int32(len(b.Data)))
			b.Len++
		case opInt64:
			n, end := long(in, p)
			if end < 0 || v.typ.kind == kindInt && n != int64(int32(n)) {
				p = d.number(v, p)
				break
			}
			v.b.Data = binary.LittleEndian.AppendUint64(v.b.Data, uint64(n))
			v.b.Len++
			p = end
		case opInt32:
			n, end := long(in, p)
			if end < 0 || n != int64(int32(n)) {
				p = d.number(v, p)
				break
			}
			v.b.Data = binary.LittleEndian.AppendUint32(v.b.Data, uint32(n))
			v.b.Len++
			p = end
		case opFloat64:
			if len(in)-p < 8 {
				p = d.truncated(p)
				break
			}
			v.b.AppendFloat64(math.Float64frombits(binary.LittleEndian.Uint64(in[p:])))
			p += 8
		case opRecord:
			p = d.record(v.record, p)
		default:
			p = d.plain(v, p)
		}
		if p < 0 {
			return d.within(v.path)
		}
	}
	for i := range r.missing {
		m := &r.missing[i]
		if m.text == nil {
			m.b.AppendAbsent()
			continue
		}
		if end := d.constant(m); end < 0 {
			return end
		}
	}
	if r.b != nil {
		r.b.Len++
	}
	return p
}

// constant decodes a default.
func (d *Decoder) constant(m *missing) int {
	in, items := d.in, d.items
	d.in, d.items = m.text, len(m.text)+maxDefaultItems
	end := d.value(&m.value, 0)
	d.in, d.items = in, items
	return end
}

const maxDefaultItems = 1 << 20

// count reads the number of items of the next block of an array or a map, 0 at its end, and where the first one stands.
func (d *Decoder) count(p int) (int, int) {
	n, at := long(d.in, p)
	if at >= 0 && n < 0 { // the block's size in bytes follows
		if n == math.MinInt64 {
			return 0, d.truncated(p)
		}
		n = -n
		_, at = long(d.in, at)
	}
	if at < 0 {
		return 0, d.truncated(p)
	}
	if n > int64(d.items) { // items take a byte, or else nothing bounds their number
		return 0, d.fail(decode.ReasonTooLarge, p, "an array or map of %d items in a message of %d bytes", n, len(d.in))
	}
	d.items -= int(n)
	return int(n), at
}

func (d *Decoder) array(v *value, p int) int {
	for {
		n, at := d.count(p)
		if at < 0 || n == 0 {
			if at >= 0 {
				v.b.EndRow()
			}
			return at
		}
		p = at
		for range n {
			if p = d.value(v.elem, p); p < 0 {
				return d.within(v.elem.path)
			}
		}
	}
}

// mapping decodes a map, which the table may keep, and in which computed columns may look for keys. Of equal keys the last one
// counts.
func (d *Decoder) mapping(v *value, p int) int {
	base := len(d.found)
	for range v.lookups {
		d.found = append(d.found, failed)
	}
	first, items := 0, d.items
	if v.b != nil {
		first = v.b.Children[0].Len
	}
	end := d.entries(v, p, base)
	if end >= 0 && v.b != nil {
		d.Keys.LastWins(v.b.Children[0], first)
		v.b.EndRow()
	}
	left := d.items
	for i := range v.lookups {
		d.items = items // each reads again what the entries were counted for
		if at := d.found[base+i]; end >= 0 && at >= 0 && d.value(&v.lookups[i].value, at) < 0 {
			end = failed
		}
	}
	d.items = left
	d.found = d.found[:base]
	return end
}

// entries decodes a map's blocks.
func (d *Decoder) entries(v *value, p, base int) int {
	for {
		n, next := d.count(p)
		if next < 0 || n == 0 {
			return next
		}
		p = next
		for range n {
			key, next := d.span(p)
			if next < 0 {
				return next
			}
			for i := range v.lookups {
				if v.lookups[i].key == string(key) {
					d.found[base+i] = next
				}
			}
			if v.b == nil {
				p = d.skip(v.typ.items, next)
			} else {
				p = d.entry(v, key, next)
			}
			if p < 0 {
				return p
			}
		}
	}
}

// entry decodes one entry of a map, whose value stands at p.
func (d *Decoder) entry(v *value, key []byte, p int) int {
	if !utf8.Valid(key) {
		d.fail(decode.ReasonInvalidUTF8, p, "the key is not UTF-8: %s", decode.Shorten(key))
		return d.within(v.path + ".key")
	}
	entries := v.b.Children[0]
	entries.Children[0].AppendBytes(key)
	if p = d.value(v.elem, p); p < 0 {
		return d.within(v.elem.path)
	}
	entries.EndRow()
	return p
}

// union decodes a union of several types.
func (d *Decoder) union(v *value, p int) int {
	i, at := int64(0), p
	if !v.typ.single {
		i, at = long(d.in, p)
	}
	switch {
	case at < 0:
		return d.truncated(p)
	case i < 0 || i >= int64(len(v.branches)):
		return d.fail(decode.ReasonInvalidAvro, p, "a union of %d types has no type %d", len(v.branches), i)
	}
	branch := &v.branches[i]
	if branch.op == opNull || branch.op == opSkip && branch.typ.kind == kindNull {
		d.null(branch)
		return at
	}
	end := d.value(branch, at)
	if v.op == opMembers && end >= 0 {
		for _, c := range v.b.Children {
			if c.Len == v.b.Len {
				c.AppendNull()
			}
		}
		v.b.Len++
	}
	return end
}

// compute feeds the columns that are computed from the value in [p, end). items is what was left before it: a copy has the same ones, and each is counted alone.
func (d *Decoder) compute(v *value, p, end, items int) int {
	for i := range v.computed {
		c := &v.computed[i]
		switch {
		case c.Cast == decode.CastNone:
			d.items = items
			if d.value(&c.value, p) < 0 {
				return failed
			}
		case v.typ.kind == kindNull:
			c.b.AppendNull()
		case c.Cast == decode.CastSubstring:
			if v.typ.kind == kindEnum {
				symbol, _ := long(d.in, p)
				if symbol < 0 || symbol >= int64(len(c.value.symbols)) { // no column of its own has seen it
					return d.noSymbol(v, p, symbol)
				}
				c.AppendSubstring(c.b, []byte(c.value.symbols[symbol]))
				break
			}
			text, _ := d.span(p)
			if !utf8.Valid(text) {
				return d.fail(decode.ReasonInvalidUTF8, p, "the text is not UTF-8: %s", decode.Shorten(text))
			}
			c.AppendSubstring(c.b, text)
		default:
			micros, reason := d.instant(v, c, p)
			if reason != "" {
				return d.fail(reason, p, "no instant for the computed column %s", d.Plan.Schema().Field(c.Column).Name)
			}
			c.AppendInstant(c.b, micros)
		}
	}
	return end
}

// instant reads the value at p, which was decoded before, as an instant.
func (d *Decoder) instant(v *value, c *computed, p int) (micros int64, reason string) {
	if v.typ.kind == kindString {
		text, _ := d.span(p)
		micros, _, reason = decode.ParseTimestamp(text)
		return micros, reason
	}
	n, _ := long(d.in, p)
	unit := c.Epoch
	if e, ok := epochOf[v.typ.logical]; ok {
		unit = e
	}
	return decode.EpochMicrosOf(n, unit)
}
