package json

import (
	"encoding/base64"
	"math"

	"kafkadelta/decode"
)

// value decodes the value at p into one row of f's builder: null, or what the column's type takes.
func (d *Decoder) value(f *field, p int) int {
	c := d.at(p)
	if c == 'n' && d.isNull(p) {
		if f.op < opPath && f.op > opSkip {
			f.b.AppendNull()
		}
		return p + 4
	}
	number := c == '-' || c-'0' <= 9
	switch f.op {
	case opString:
		return d.stringValue(f, p, c)
	case opInt8, opInt16, opInt32, opInt64:
		if !number {
			return d.mismatch(f, p, "an integer")
		}
		return d.integerValue(f, p)
	case opFloat64, opFloat32:
		return d.floatValue(f, p, c, number)
	case opBool:
		return d.boolValue(f, p)
	case opDecimal:
		return d.decimalValue(f, p, c, number)
	case opDate:
		return d.dateValue(f, p, c, number)
	case opTimestamp, opTimestampNTZ:
		return d.timestampValue(f, p, c, number)
	case opBinary:
		return d.binaryValue(f, p, c)
	case opStruct:
		if c != '{' {
			return d.mismatch(f, p, "an object")
		}
		return d.object(f.obj, p+1, f.b.Len)
	case opPath:
		if c != '{' {
			if end := d.skip(p, f.depth); end < 0 {
				return end
			}
			return d.fail(decode.ReasonTypeMismatch, p, "a computed column reads a field below this one, and it is no object")
		}
		return d.object(f.obj, p+1, d.rows.Len())
	case opList:
		if c != '[' {
			return d.mismatch(f, p, "an array")
		}
		return d.list(f, p+1)
	case opMap:
		if c != '{' {
			return d.mismatch(f, p, "an object")
		}
		return d.mapValue(f, p)
	default:
		return d.skip(p, f.depth)
	}
}

// stringValue keeps everything that is not a string as its JSON text: nothing is lost, and Spark does the same.
func (d *Decoder) stringValue(f *field, p int, c byte) int {
	if c == '"' {
		text, end := d.str(p + 1)
		if end >= 0 {
			f.b.AppendBytes(text)
		}
		return end
	}
	end := d.skip(p, f.depth)
	if end >= 0 {
		f.b.AppendBytes(d.buf[p:end])
	}
	return end
}

func (d *Decoder) integerValue(f *field, p int) int {
	var v int64
	var end int
	switch f.op {
	case opInt8:
		if v, end = d.integer(f, p, math.MinInt8, math.MaxInt8); end >= 0 {
			f.b.AppendInt8(int8(v))
		}
	case opInt16:
		if v, end = d.integer(f, p, math.MinInt16, math.MaxInt16); end >= 0 {
			f.b.AppendInt16(int16(v))
		}
	case opInt32:
		if v, end = d.integer(f, p, math.MinInt32, math.MaxInt32); end >= 0 {
			f.b.AppendInt32(int32(v))
		}
	default:
		if v, end = d.integer(f, p, math.MinInt64, math.MaxInt64); end >= 0 {
			f.b.AppendInt64(v)
		}
	}
	return end
}

func (d *Decoder) floatValue(f *field, p int, c byte, number bool) int {
	if number {
		if f.op == opFloat64 {
			return d.double(f, p)
		}
		return d.single(f, p)
	}
	if c != '"' {
		return d.mismatch(f, p, "a number")
	}
	text, end := d.str(p + 1)
	if end < 0 {
		return end
	}
	v, ok := special(text)
	if !ok {
		return d.mismatch(f, p, `a number, "NaN", "Infinity" or "-Infinity"`)
	}
	if f.op == opFloat64 {
		f.b.AppendFloat64(v)
	} else {
		f.b.AppendFloat32(float32(v))
	}
	return end
}

func (d *Decoder) boolValue(f *field, p int) int {
	switch {
	case d.isTrue(p):
		f.b.AppendBool(true)
		return p + 4
	case d.isFalse(p):
		f.b.AppendBool(false)
		return p + 5
	}
	return d.mismatch(f, p, "true or false")
}

func (d *Decoder) decimalValue(f *field, p int, c byte, number bool) int {
	var text []byte
	var end int
	switch {
	case number:
		if end = d.number(p); end >= 0 {
			text = d.buf[p:end]
		}
	case c == '"':
		text, end = d.str(p + 1)
	default:
		return d.mismatch(f, p, "a number, or a string that holds one")
	}
	if end < 0 {
		return end
	}
	v, reason := decode.ParseDecimal(text, f.precision, f.scale)
	switch reason {
	case "":
		f.b.AppendDecimal(v)
		return end
	case decode.ReasonInexact:
		return d.refuse(f, reason, p, end, "it has more decimal places than the column")
	case decode.ReasonOutOfRange:
		return d.refuse(f, reason, p, end, "it has more digits before the point than the column")
	}
	return d.refuse(f, reason, p, end, "not a decimal number")
}

func (d *Decoder) binaryValue(f *field, p int, c byte) int {
	if c != '"' {
		return d.mismatch(f, p, "a string with base64")
	}
	text, end := d.str(p + 1)
	if end < 0 {
		return end
	}
	if !appendBase64(f.b, text) {
		return d.refuse(f, decode.ReasonInvalidValue, p, end, "not base64 (standard alphabet, padded)")
	}
	return end
}

func appendBase64(b *decode.Builder, text []byte) bool {
	data, err := base64.StdEncoding.AppendDecode(b.Data, text)
	if err != nil {
		return false
	}
	b.Data = data
	b.Offsets = append(b.Offsets, int32(len(data)))
	b.Len++
	return true
}

func (d *Decoder) dateValue(f *field, p int, c byte, number bool) int {
	var micros int64
	var end int
	switch {
	case number:
		micros, end = d.epoch(f, p)
	case c == '"':
		var text []byte
		if text, end = d.str(p + 1); end >= 0 {
			if day, reason := decode.ParseDate(text); reason == "" {
				f.b.AppendInt32(day)
				return end
			}
			micros, end = d.instant(f, p, end, text, false)
		}
	default:
		return d.mismatch(f, p, "a string like 2006-01-02, or a number")
	}
	if end >= 0 {
		f.b.AppendInt32(decode.FloorDays(micros))
	}
	return end
}

func (d *Decoder) timestampValue(f *field, p int, c byte, number bool) int {
	var micros int64
	var end int
	switch {
	case number:
		micros, end = d.epoch(f, p)
	case c == '"':
		var text []byte
		if text, end = d.str(p + 1); end >= 0 {
			micros, end = d.instant(f, p, end, text, f.op == opTimestampNTZ)
		}
	default:
		return d.mismatch(f, p, "a string like 2006-01-02T15:04:05Z, or a number")
	}
	if end >= 0 {
		f.b.AppendInt64(micros)
	}
	return end
}

// instant reads the text of the string in [p, end) as a timestamp.
func (d *Decoder) instant(f *field, p, end int, text []byte, local bool) (micros int64, next int) {
	micros, zoned, reason := decode.ParseTimestamp(text)
	switch {
	case reason == decode.ReasonOutOfRange:
		return 0, d.refuse(f, reason, p, end, "outside the years 0001 to 9999")
	case reason != "":
		return 0, d.refuse(f, reason, p, end, "want 2006-01-02T15:04:05.123456+07:00, or parts of it")
	case zoned && local:
		return 0, d.refuse(f, decode.ReasonInvalidValue, p, end, "a zone or offset cannot be kept without a time zone: make the column TIMESTAMP, or send local time")
	}
	return micros, end
}

// epoch reads a number at p as an instant in the column's unit.
func (d *Decoder) epoch(f *field, p int) (micros int64, end int) {
	if v, end := d.smallInt(p, d.at(p)); end >= 0 && f.epoch == decode.EpochMillis &&
		v >= decode.MinMicros/1000 && v <= decode.MaxMicros/1000 {
		return v * 1000, end
	}
	if end = d.number(p); end < 0 {
		return 0, end
	}
	micros, reason := decode.ParseEpoch(d.buf[p:end], f.epoch)
	switch reason {
	case "":
		return micros, end
	case decode.ReasonInexact:
		return 0, d.refuse(f, reason, p, end, "days since 1970 must be whole")
	}
	return 0, d.refuse(f, reason, p, end, "outside the years 0001 to 9999 as "+f.epoch.String()+" since 1970: set the column's epoch to the unit of the numbers")
}
