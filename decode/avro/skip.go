package avro

import "kafkadelta/decode"

// maxSkipDepth bounds recursive types, which only what is passed over can have.
const maxSkipDepth = 1000

// skip passes over a value. It checks no more than where it ends, and what is needed for that.
func (d *Decoder) skip(typ *node, p int) int {
	switch typ.kind {
	case kindNull:
		return p
	case kindBoolean:
		return d.advance(p, 1)
	case kindFloat:
		return d.advance(p, 4)
	case kindDouble:
		return d.advance(p, 8)
	case kindFixed:
		return d.advance(p, typ.size)
	case kindInt, kindLong, kindEnum:
		_, end := long(d.in, p)
		if end < 0 {
			return d.truncated(p)
		}
		return end
	case kindBytes, kindString:
		_, end := d.span(p)
		return end
	default:
	}
	if typ.empty { // the 2^n nothings in n records that each have the next one twice are not looked at one by one
		return p
	}
	if d.depth++; d.depth > maxSkipDepth {
		return d.fail(decode.ReasonTooDeep, p, "values are nested deeper than %d", maxSkipDepth)
	}
	p = d.skipNested(typ, p)
	d.depth--
	return p
}

func (d *Decoder) advance(p, n int) int {
	if n > len(d.in)-p {
		return d.truncated(p)
	}
	return p + n
}

func (d *Decoder) skipNested(typ *node, p int) int {
	switch typ.kind {
	case kindRecord:
		for i := range typ.fields {
			if p = d.skip(typ.fields[i].typ, p); p < 0 {
				return p
			}
		}
		return p
	case kindUnion:
		i, at := long(d.in, p)
		if at < 0 {
			return d.truncated(p)
		}
		if i < 0 || i >= int64(len(typ.branches)) {
			return d.fail(decode.ReasonInvalidAvro, p, "a union of %d types has no type %d", len(typ.branches), i)
		}
		return d.skip(typ.branches[i], at)
	default:
	}
	for { // an array or a map
		n, at := d.count(p)
		if at < 0 || n == 0 {
			return at
		}
		p = at
		for range n {
			if typ.kind == kindMap {
				if _, p = d.span(p); p < 0 {
					return p
				}
			}
			if p = d.skip(typ.items, p); p < 0 {
				return p
			}
		}
	}
}
