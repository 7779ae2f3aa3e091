package json

import (
	"strconv"

	"kafkadelta/decode"
)

// list decodes the elements of an array whose '[' is before p.
func (d *Decoder) list(f *field, p int) int {
	p = d.space(p)
	if d.at(p) == ']' {
		f.b.EndRow()
		return p + 1
	}
	for {
		if p = d.value(f.elem, p); p < 0 {
			return d.within(f.elem.path)
		}
		p = d.gap(p)
		switch d.at(p) {
		case ',':
			p++
			p = d.gap(p)
		case ']':
			f.b.EndRow()
			return p + 1
		default:
			return d.unexpected(p, false)
		}
	}
}

// mapValue decodes the entries of an object at p into a map. Of equal keys the last one wins.
func (d *Decoder) mapValue(f *field, p int) int {
	entries := f.b.Children[0]
	first := entries.Len
	end := d.entries(f, p+1)
	if end < 0 {
		return end
	}
	d.keys.LastWins(entries, first)
	f.b.EndRow()
	return end
}

// entries decodes a map's entries from p on.
func (d *Decoder) entries(f *field, p int) (end int) {
	entries := f.b.Children[0]
	p = d.space(p)
	if d.at(p) == '}' {
		return p + 1
	}
	for {
		if d.at(p) != '"' {
			return d.syntax(p, "a field name in quotes")
		}
		text, end := d.str(p + 1)
		if end < 0 {
			return end
		}
		if end = d.mapKey(f.key, text, p, end); end < 0 {
			return d.within(f.key.path)
		}
		if p = d.colon(end); p < 0 {
			return p
		}
		if p = d.value(f.elem, p); p < 0 {
			return d.within(f.elem.path)
		}
		entries.EndRow()
		p = d.space(p)
		switch d.at(p) {
		case ',':
			p = d.space(p + 1)
		case '}':
			return p + 1
		default:
			return d.unexpected(p, true)
		}
	}
}

// mapKey appends the key with the given text, which stands in [p, end), and returns end.
func (d *Decoder) mapKey(f *field, text []byte, p, end int) int {
	b := f.b
	ok := true
	switch f.op {
	case opString:
		b.AppendBytes(text)
	case opBinary:
		ok = appendBase64(b, text)
	case opBool:
		if ok = string(text) == "true" || string(text) == "false"; ok {
			b.AppendBool(len(text) == 4)
		}
	case opDecimal:
		v, reason := decode.ParseDecimal(text, f.precision, f.scale)
		if reason != "" {
			return d.refuse(f, reason, p, end, "as a map key")
		}
		b.AppendDecimal(v)
	case opDate, opTimestamp, opTimestampNTZ:
		micros, next := d.instant(f, p, end, text, f.op == opTimestampNTZ)
		if next < 0 {
			return next
		}
		if f.op == opDate {
			b.AppendInt32(decode.FloorDays(micros))
		} else {
			b.AppendInt64(micros)
		}
	case opFloat32, opFloat64:
		ok = floatKey(f, text)
	default:
		return d.integerKey(f, text, p, end)
	}
	if !ok {
		return d.refuse(f, decode.ReasonInvalidValue, p, end, "as a map key")
	}
	return end
}

func floatKey(f *field, text []byte) bool {
	v, ok := special(text)
	if !ok {
		size := 64
		if f.op == opFloat32 {
			size = 32
		}
		var err error
		if v, err = strconv.ParseFloat(string(text), size); err != nil || !isNumber(text) {
			return false
		}
	}
	if f.op == opFloat32 {
		f.b.AppendFloat32(float32(v))
	} else {
		f.b.AppendFloat64(v)
	}
	return true
}

func (d *Decoder) integerKey(f *field, text []byte, p, end int) int {
	v, reason := decode.ParseInteger(text)
	if reason == "" && !isNumber(text) {
		reason = decode.ReasonInvalidValue
	}
	shift := 64 - 8*f.b.Width
	if reason == "" && v<<shift>>shift != v {
		reason = decode.ReasonOutOfRange
	}
	if reason != "" {
		return d.refuse(f, reason, p, end, "as a map key")
	}
	switch f.op {
	case opInt8:
		f.b.AppendInt8(int8(v))
	case opInt16:
		f.b.AppendInt16(int16(v))
	case opInt32:
		f.b.AppendInt32(int32(v))
	default:
		f.b.AppendInt64(v)
	}
	return end
}

// isNumber tells whether a text that already parsed as a number begins and ends as JSON writes one.
func isNumber(text []byte) bool {
	if text[0] == '-' {
		text = text[1:]
	}
	isDigit := func(c byte) bool { return c-'0' <= 9 }
	switch {
	case len(text) == 0 || !isDigit(text[0]) || !isDigit(text[len(text)-1]):
		return false
	case len(text) > 1 && text[0] == '0' && isDigit(text[1]):
		return false
	}
	for i, c := range text {
		if c == '.' && !isDigit(text[i+1]) || c == '_' || c == 'x' || c == 'X' {
			return false
		}
	}
	return true
}
