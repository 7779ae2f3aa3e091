package avro

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow/decimal128"

	"kafkadelta/decode"
)

// long reads a zig-zag varint, and returns where it ends; failed where it does not.
func long(in []byte, p int) (int64, int) {
	if uint(p) < uint(len(in)) && in[p] < 0x80 {
		b := in[p]
		return int64(b>>1) ^ -int64(b&1), p + 1
	}
	return longer(in, p)
}

func longer(in []byte, p int) (int64, int) {
	var u uint64
	for shift := uint(0); shift < 70; shift += 7 {
		if p >= len(in) {
			return 0, failed
		}
		b := in[p]
		p++
		if shift == 63 && b > 1 {
			return 0, failed
		}
		u |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return int64(u>>1) ^ -int64(u&1), p
		}
	}
	return 0, failed
}

// whole reads an int or a long.
func (d *Decoder) whole(typ *node, p int) (int64, int) {
	v, end := long(d.in, p)
	if end < 0 {
		return 0, d.truncated(p)
	}
	if typ.kind == kindInt && v != int64(int32(v)) {
		return 0, d.fail(decode.ReasonInvalidAvro, p, "%d is no int", v)
	}
	return v, end
}

// span reads a length and returns what it spans. Its end is failed where the message is shorter.
func (d *Decoder) span(p int) ([]byte, int) {
	n, begin := long(d.in, p)
	if begin < 0 || n < 0 || n > int64(len(d.in)-begin) {
		return nil, d.truncated(p)
	}
	return d.in[begin : begin+int(n)], begin + int(n)
}

// bytesOf reads a bytes, string or fixed.
func (d *Decoder) bytesOf(typ *node, p int) ([]byte, int) {
	if typ.kind != kindFixed {
		return d.span(p)
	}
	if typ.size > len(d.in)-p {
		return nil, d.truncated(p)
	}
	return d.in[p : p+typ.size], p + typ.size
}

// value decodes the value at p into one row of v's builder, and feeds what is computed from it.
func (d *Decoder) value(v *value, p int) int {
	if v.nullable != 0 {
		branch, at := long(d.in, p)
		switch {
		case at < 0:
			d.truncated(p)
			return d.within(v.path)
		case branch == int64(v.nullable-1):
			d.null(v)
			return at
		case branch != int64(2-v.nullable):
			d.fail(decode.ReasonInvalidAvro, p, "a union of 2 types has no type %d", branch)
			return d.within(v.path)
		}
		p = at
	}
	items := d.items
	end := d.plain(v, p)
	if end >= 0 && v.extra {
		end = d.compute(v, p, end, items)
	}
	if end < 0 {
		return d.within(v.path)
	}
	return end
}

// null is the value null. What is computed from fields below it gets none, as from absent fields.
func (d *Decoder) null(v *value) {
	if v.b != nil {
		v.b.AppendNull()
	}
	for i := range v.computed {
		v.computed[i].b.AppendNull()
	}
}

// plain is value without unions of null and without computed columns. The most frequent ops come first in record.
func (d *Decoder) plain(v *value, p int) int {
	switch v.op {
	case opSkip:
		return d.skip(v.typ, p)
	case opNull:
		v.b.AppendNull()
		return p
	case opRefuse:
		return d.fail(decode.ReasonTypeMismatch, p, "%s", v.refusal)
	case opUnion, opMembers:
		return d.union(v, p)
	case opRecord:
		return d.record(v.record, p)
	case opArray:
		return d.array(v, p)
	case opMap:
		return d.mapping(v, p)
	case opBool:
		if p >= len(d.in) {
			return d.truncated(p)
		}
		if d.in[p] > 1 {
			return d.fail(decode.ReasonInvalidAvro, p, "%d is no boolean", d.in[p])
		}
		v.b.AppendBool(d.in[p] == 1)
		return p + 1
	case opInt8, opInt16, opInt32, opInt64, opIntToFloat32, opIntToFloat64, opIntToDecimal, opDate, opTimestamp:
		return d.number(v, p)
	case opFloat32, opFloatToDouble:
		if len(d.in)-p < 4 {
			return d.truncated(p)
		}
		f := math.Float32frombits(binary.LittleEndian.Uint32(d.in[p:]))
		if v.op == opFloat32 {
			v.b.AppendFloat32(f)
		} else {
			v.b.AppendFloat64(float64(f))
		}
		return p + 4
	case opFloat64:
		if len(d.in)-p < 8 {
			return d.truncated(p)
		}
		v.b.AppendFloat64(math.Float64frombits(binary.LittleEndian.Uint64(d.in[p:])))
		return p + 8
	case opSymbol:
		i, end := long(d.in, p)
		switch {
		case end < 0:
			return d.truncated(p)
		case i < 0 || i >= int64(len(v.symbols)):
			return d.noSymbol(v, p, i)
		}
		v.b.AppendString(v.symbols[i])
		return end
	default:
		return d.text(v, p)
	}
}

func (d *Decoder) noSymbol(v *value, p int, symbol int64) int {
	return d.fail(decode.ReasonInvalidAvro, p, "%s has no symbol %d", v.typ, symbol)
}

// number decodes an int or a long.
func (d *Decoder) number(v *value, p int) int {
	n, end := d.whole(v.typ, p)
	if end < 0 {
		return end
	}
	switch v.op {
	case opInt8:
		if n != int64(int8(n)) {
			return d.outOfRange(v, p, n)
		}
		v.b.AppendInt8(int8(n))
	case opInt16:
		if n != int64(int16(n)) {
			return d.outOfRange(v, p, n)
		}
		v.b.AppendInt16(int16(n))
	case opInt32:
		v.b.AppendInt32(int32(n))
	case opInt64:
		v.b.AppendInt64(n)
	case opIntToFloat32:
		v.b.AppendFloat32(float32(n))
	case opIntToFloat64:
		v.b.AppendFloat64(float64(n))
	case opIntToDecimal:
		return d.scaled(v, p, end, decimal128.FromI64(n), 0)
	default:
		micros, reason := decode.EpochMicrosOf(n, v.epoch)
		switch {
		case reason != "":
			return d.outOfRange(v, p, n)
		case v.op == opDate:
			v.b.AppendInt32(decode.FloorDays(micros))
		default:
			v.b.AppendInt64(micros)
		}
	}
	return end
}

func (d *Decoder) outOfRange(v *value, p int, n int64) int {
	return d.fail(decode.ReasonOutOfRange, p, "%d into %s", n, decode.TypeName(v.b.Type))
}

// text decodes what consists of bytes.
func (d *Decoder) text(v *value, p int) int {
	s, end := d.bytesOf(v.typ, p)
	if end < 0 {
		return end
	}
	switch v.op {
	case opString:
		if !utf8.Valid(s) {
			return d.fail(decode.ReasonInvalidUTF8, p, "the text is not UTF-8: %s", decode.Shorten(s))
		}
		v.b.AppendBytes(s)
	case opBinary, opFixed:
		v.b.AppendBytes(s)
	case opFixedText:
		var out [36]byte
		hex.Encode(out[:8], s[:4])
		hex.Encode(out[9:13], s[4:6])
		hex.Encode(out[14:18], s[6:8])
		hex.Encode(out[19:23], s[8:10])
		hex.Encode(out[24:], s[10:16])
		out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
		v.b.AppendBytes(out[:])
	case opDuration:
		v.b.AppendString(durationText(s))
	case opDecimal, opDecimalFixed:
		n, ok := unscaled(s)
		if !ok {
			return d.fail(decode.ReasonOutOfRange, p, "a decimal of %d bytes into %s", len(s), decode.TypeName(v.b.Type))
		}
		return d.scaled(v, p, end, n, v.typ.scale)
	case opDecimalDigits:
		text, ok := decode.AppendUnscaled(v.b.Data, s, v.typ.scale)
		if !ok {
			return d.fail(decode.ReasonOutOfRange, p, "a decimal of %d bytes as a text", len(s))
		}
		v.b.Data = text
		v.b.AppendBytes(nil)
	default:
		if reason := d.parsed(v, s); reason != "" {
			return d.fail(reason, p, "%s into %s", decode.Shorten(s), decode.TypeName(v.b.Type))
		}
	}
	return end
}

// parsed decodes texts of dates, timestamps and decimals, as every format does.
func (d *Decoder) parsed(v *value, s []byte) (reason string) {
	switch v.op {
	case opDecimalText:
		n, reason := decode.ParseDecimal(s, v.precision, v.scale)
		if reason != "" {
			return reason
		}
		v.b.AppendDecimal(n)
	case opDateText:
		micros, _, reason := decode.ParseTimestamp(s)
		if reason != "" {
			return reason
		}
		v.b.AppendInt32(decode.FloorDays(micros))
	default:
		micros, zoned, reason := decode.ParseTimestamp(s)
		if reason != "" {
			return reason
		}
		if zoned && v.b.Kind == decode.KindTimestampNTZ {
			return decode.ReasonInvalidValue // a zone cannot be kept without a time zone
		}
		v.b.AppendInt64(micros)
	}
	return ""
}

// scaled appends an unscaled value of the given scale to a decimal column. No digit is lost.
func (d *Decoder) scaled(v *value, p, end int, n decimal128.Num, scale int32) int {
	out, reason := decode.Rescale(n, scale, v.precision, v.scale)
	if reason != "" {
		return d.fail(reason, p, "%s into %s", n.ToString(scale), decode.TypeName(v.b.Type))
	}
	v.b.AppendDecimal(out)
	return end
}

// unscaled reads two's complement, big-endian; false where 128 bits don't hold it.
func unscaled(s []byte) (decimal128.Num, bool) {
	if len(s) == 0 {
		return decimal128.Num{}, true // as Java's BigInteger would refuse and others write: zero
	}
	sign := byte(int8(s[0]) >> 7)
	for len(s) > 16 {
		if s[0] != sign {
			return decimal128.Num{}, false
		}
		s = s[1:]
	}
	if byte(int8(s[0])>>7) != sign {
		return decimal128.Num{}, false
	}
	hi, lo := uint64(int64(int8(sign))), uint64(int64(int8(sign)))
	for _, b := range s {
		hi, lo = hi<<8|lo>>56, lo<<8|uint64(b)
	}
	return decimal128.New(int64(hi), lo), true
}

// durationText is a duration in ISO 8601.
func durationText(s []byte) string {
	months, days, millis := binary.LittleEndian.Uint32(s), binary.LittleEndian.Uint32(s[4:]), binary.LittleEndian.Uint32(s[8:])
	fraction := strconv.FormatUint(uint64(millis%1000+1000), 10)[1:]
	return "P" + utoa(months) + "M" + utoa(days) + "DT" + utoa(millis/1000) + "." + fraction + "S"
}

func utoa(v uint32) string { return strconv.FormatUint(uint64(v), 10) }
