package json

import (
	"bytes"

	"kafkadelta/decode"
)

// derive fills the columns that are computed from the value in [p, end), which is valid JSON, or from fields below it.
func (d *Decoder) derive(f *field, p, end, row int) bool {
	for i := range f.computed {
		c := &f.computed[i]
		var ok bool
		switch {
		case c.value != nil:
			ok = d.value(c.value, p) >= 0
		case d.at(p) == 'n':
			c.b.AppendNull()
			ok = true
		case c.Cast == decode.CastJSON:
			c.b.AppendBytes(d.buf[p:end])
			ok = true
		case c.Cast == decode.CastSubstring:
			ok = d.deriveSubstring(c, p, end)
		default:
			ok = d.deriveInstant(c, p, end)
		}
		if !ok {
			return false
		}
	}
	if f.sub != nil && d.at(p) == '{' {
		return d.object(f.sub, p+1, row) >= 0
	}
	return true
}

func (d *Decoder) deriveInstant(c *computed, p, end int) bool {
	var micros int64
	var reason string
	switch first := d.at(p); {
	case first == '"':
		text := d.buf[p+1 : end-1]
		if bytes.IndexByte(text, '\\') >= 0 {
			text, _ = d.str(p + 1)
		}
		micros, _, reason = decode.ParseTimestamp(text)
	case first == '-' || first-'0' <= 9:
		micros, reason = decode.ParseEpoch(d.buf[p:end], c.Epoch)
	default:
		d.fail(decode.ReasonTypeMismatch, p, "%s for the computed column %s: want a timestamp string or a number", d.shorten(p, end), c.name)
		return false
	}
	switch reason {
	case "":
		c.AppendInstant(c.b, micros)
		return true
	case decode.ReasonOutOfRange:
		d.fail(reason, p, "%s for the computed column %s: outside the years 0001 to 9999 (numbers are %s since 1970: set the column's epoch to their unit)",
			d.shorten(p, end), c.name, c.Epoch)
	default:
		d.fail(reason, p, "%s for the computed column %s: want 2006-01-02T15:04:05.123456+07:00, or parts of it", d.shorten(p, end), c.name)
	}
	return false
}

// deriveSubstring takes the text that a STRING column would get.
func (d *Decoder) deriveSubstring(c *computed, p, end int) bool {
	text := d.buf[p:end]
	if d.at(p) == '"' {
		text, _ = d.str(p + 1)
	}
	c.AppendSubstring(c.b, text)
	return true
}
