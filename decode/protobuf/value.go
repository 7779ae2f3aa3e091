package protobuf

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"

	"kafkadelta/decode"
)

// field decodes a value of a field that is not repeated, and feeds what is computed from it.
func (d *Decoder) field(f *field, u uint64, s []byte) bool {
	if !d.single(f, u, s) {
		return false
	}
	for i := range f.computed {
		c := &f.computed[i]
		if c.b.Len != d.Batch.Len() {
			c.b.Truncate(d.Batch.Len())
		}
		if !d.compute(f, c, u, s) {
			return false
		}
	}
	return true
}

// single appends one value to a builder.
func (d *Decoder) single(f *field, u uint64, s []byte) bool {
	switch f.op {
	case opNone:
		return true
	case opNumber:
		v, large := whole(f.kind, u)
		return d.number(f, v, large)
	case opBool:
		f.b.AppendBool(u != 0)
	case opFloat:
		switch {
		case f.kind == protoreflect.DoubleKind:
			f.b.AppendFloat64(math.Float64frombits(u))
		case f.b.Kind == decode.KindFloat32:
			f.b.AppendFloat32(math.Float32frombits(uint32(u)))
		default:
			f.b.AppendFloat64(float64(math.Float32frombits(uint32(u))))
		}
	case opBytes:
		if f.b.Kind == decode.KindString && !utf8.Valid(s) {
			return d.fail(decode.ReasonInvalidUTF8, "the text is not UTF-8: %s", decode.Shorten(s))
		}
		f.b.AppendBytes(s)
	case opText:
		return d.text(f, s)
	case opEnum:
		f.b.AppendString(f.symbol(u))
	case opMessage:
		row := 0
		if f.message.b != nil {
			row = f.message.b.Len
		}
		return d.message(f.message, s, row)
	case opTimestamp:
		return d.timestamp(f, s)
	case opDuration:
		return d.duration(f, s)
	case opWrapper:
		v, ok := d.wrapped(f.inner, s)
		return ok && d.single(f.inner, v.u, v.s)
	default:
		return d.json(f, s)
	}
	return true
}

// symbol is an enum's name of a number, or the number itself where it has none: proto3's enums are open.
func (f *field) symbol(u uint64) string {
	if name, ok := f.names[int32(u)]; ok {
		return name
	}
	return strconv.Itoa(int(int32(u)))
}

// whole is a whole number of any kind. large: it is unsigned and beyond int64.
func whole(kind protoreflect.Kind, u uint64) (v int64, large bool) {
	switch kind {
	case protoreflect.Int32Kind, protoreflect.Sfixed32Kind, protoreflect.EnumKind:
		return int64(int32(u)), false
	case protoreflect.Sint32Kind:
		return int64(int32(protowire.DecodeZigZag(u & math.MaxUint32))), false
	case protoreflect.Sint64Kind:
		return protowire.DecodeZigZag(u), false
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return int64(uint32(u)), false
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return int64(u), int64(u) < 0
	default:
		return int64(u), false
	}
}

// number appends a whole number to whatever column takes it.
func (d *Decoder) number(f *field, v int64, large bool) bool {
	b := f.b
	fits := !large
	switch b.Kind {
	case decode.KindInt64:
		if fits {
			b.AppendInt64(v)
		}
	case decode.KindInt32:
		if fits = fits && v == int64(int32(v)); fits {
			b.AppendInt32(int32(v))
		}
	case decode.KindInt16:
		if fits = fits && v == int64(int16(v)); fits {
			b.AppendInt16(int16(v))
		}
	case decode.KindInt8:
		if fits = fits && v == int64(int8(v)); fits {
			b.AppendInt8(int8(v))
		}
	case decode.KindFloat32:
		b.AppendFloat32(float32(floating(v, large)))
		return true
	case decode.KindFloat64:
		b.AppendFloat64(floating(v, large))
		return true
	case decode.KindDecimal:
		n := decimal128.FromI64(v)
		if large {
			n = decimal128.FromU64(uint64(v))
		}
		out, reason := decode.Rescale(n, 0, f.precision, f.scale)
		if fits = reason == ""; fits {
			b.AppendDecimal(out)
		}
	default:
		micros, reason := decode.EpochMicrosOf(v, f.epoch)
		if fits = fits && reason == ""; !fits {
			break
		}
		if b.Kind == decode.KindDate {
			b.AppendInt32(decode.FloorDays(micros))
		} else {
			b.AppendInt64(micros)
		}
	}
	if !fits {
		return d.fail(decode.ReasonOutOfRange, "%s into %s", digits(v, large), decode.TypeName(b.Type))
	}
	return true
}

func floating(v int64, large bool) float64 {
	if large {
		return float64(uint64(v))
	}
	return float64(v)
}

func digits(v int64, large bool) string {
	if large {
		return strconv.FormatUint(uint64(v), 10)
	}
	return strconv.FormatInt(v, 10)
}

// text reads a string as a date, an instant or a decimal, as every format does.
func (d *Decoder) text(f *field, s []byte) bool {
	var reason string
	if f.b.Kind == decode.KindDecimal {
		var v decimal128.Num
		if v, reason = decode.ParseDecimal(s, f.precision, f.scale); reason == "" {
			f.b.AppendDecimal(v)
			return true
		}
	} else {
		micros, zoned, why := decode.ParseTimestamp(s)
		switch reason = why; {
		case reason != "":
		case zoned && f.b.Kind == decode.KindTimestampNTZ:
			reason = decode.ReasonInvalidValue // a zone cannot be kept without a time zone
		case f.b.Kind == decode.KindDate:
			f.b.AppendInt32(decode.FloorDays(micros))
			return true
		default:
			f.b.AppendInt64(micros)
			return true
		}
	}
	return d.fail(reason, "%s into %s", decode.Shorten(s), decode.TypeName(f.b.Type))
}

// secondsAndNanos reads what Timestamp and Duration are.
func (d *Decoder) secondsAndNanos(in []byte) (seconds int64, nanos int32, ok bool) {
	for p := 0; p < len(in); {
		number, typ, n := tag(in, p)
		if n == 0 {
			return 0, 0, d.broken()
		}
		p += n
		u, _, n := payload(number, typ, in[p:])
		if n < 0 {
			return 0, 0, d.broken()
		}
		p += n
		switch {
		case typ != protowire.VarintType:
		case number == 1:
			seconds = int64(u)
		case number == 2:
			nanos = int32(u)
		}
	}
	return seconds, nanos, true
}

const (
	maxTimestamp = decode.MaxMicros / 1_000_000 // seconds
	minTimestamp = decode.MinMicros / 1_000_000
	maxDuration  = 315_576_000_000 // seconds, about 10,000 years (duration.proto)
)

func (d *Decoder) instant(in []byte) (micros int64, ok bool) {
	seconds, nanos, ok := d.secondsAndNanos(in)
	switch {
	case !ok:
		return 0, false
	case seconds < minTimestamp || seconds > maxTimestamp || nanos < 0 || nanos > 999_999_999:
		return 0, d.fail(decode.ReasonOutOfRange, "a Timestamp of %d s and %d ns: want the years 0001 to 9999 and less than a second of nanoseconds", seconds, nanos)
	}
	return seconds*1_000_000 + int64(nanos)/1000, true
}

func (d *Decoder) timestamp(f *field, in []byte) bool {
	micros, ok := d.instant(in)
	switch {
	case !ok:
		return false
	case f.b.Kind == decode.KindDate:
		f.b.AppendInt32(decode.FloorDays(micros))
	default:
		f.b.AppendInt64(micros)
	}
	return true
}

// duration appends a Duration as Protobuf's JSON writes it, or as microseconds.
func (d *Decoder) duration(f *field, in []byte) bool {
	seconds, nanos, ok := d.secondsAndNanos(in)
	switch {
	case !ok:
		return false
	case seconds < -maxDuration || seconds > maxDuration || nanos < -999_999_999 || nanos > 999_999_999 || seconds < 0 && nanos > 0 || seconds > 0 && nanos < 0:
		return d.fail(decode.ReasonOutOfRange, "a Duration of %d s and %d ns: want at most 10,000 years, and both of one sign", seconds, nanos)
	case f.b.Kind == decode.KindInt64:
		f.b.AppendInt64(seconds*1_000_000 + int64(nanos)/1000)
		return true
	}
	var out [40]byte
	text := out[:0]
	if seconds < 0 || nanos < 0 {
		text, seconds, nanos = append(text, '-'), -seconds, -nanos
	}
	text = strconv.AppendInt(text, seconds, 10)
	if nanos != 0 { // 3, 6 or 9 digits
		fraction := strconv.Itoa(1_000_000_000 + int(nanos))[1:]
		for len(fraction) > 3 && fraction[len(fraction)-3:] == "000" {
			fraction = fraction[:len(fraction)-3]
		}
		text = append(append(text, '.'), fraction...)
	}
	f.b.AppendBytes(append(text, 's'))
	return true
}

// wrapped reads the value of a wrapper, such as Int64Value: zero where it is not there.
func (d *Decoder) wrapped(f *field, in []byte) (v datum, ok bool) {
	for p := 0; p < len(in); {
		number, typ, n := tag(in, p)
		if n == 0 {
			return v, d.broken()
		}
		p += n
		u, s, n := payload(number, typ, in[p:])
		if n < 0 {
			return v, d.broken()
		}
		p += n
		if number == f.number && typ == f.wire {
			if f.kind == protoreflect.StringKind && !utf8.Valid(s) {
				return v, d.fail(decode.ReasonInvalidUTF8, "the text is not UTF-8: %s", decode.Shorten(s))
			}
			v = datum{u, s}
		}
	}
	return v, true
}

// json appends a Struct, Value or ListValue as JSON text. It is the one type that allocates.
func (d *Decoder) json(f *field, in []byte) bool {
	var message proto.Message
	var value func() any
	switch f.known {
	case "google.protobuf.Struct":
		v := &structpb.Struct{}
		message, value = v, func() any { return v.AsMap() }
	case "google.protobuf.ListValue":
		v := &structpb.ListValue{}
		message, value = v, func() any { return v.AsSlice() }
	default:
		v := &structpb.Value{}
		message, value = v, v.AsInterface
	}
	if err := proto.Unmarshal(in, message); err != nil {
		return d.broken()
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value()); err != nil {
		return d.fail(decode.ReasonInvalidValue, "%v", err)
	}
	f.b.AppendBytes(bytes.TrimSuffix(text.Bytes(), []byte("\n")))
	return true
}

// compute feeds one computed column from a value.
func (d *Decoder) compute(f *field, c *computed, u uint64, s []byte) bool {
	switch {
	case c.Cast == decode.CastNone:
		return d.single(c.value, u, s)
	case c.Cast == decode.CastSubstring:
		text := s
		if f.kind == protoreflect.EnumKind {
			text = []byte(f.symbol(u))
		} else if !utf8.Valid(text) {
			return d.fail(decode.ReasonInvalidUTF8, "the text is not UTF-8: %s", decode.Shorten(text))
		}
		c.AppendSubstring(c.b, text)
		return true
	}
	var micros int64
	var reason string
	switch f.kind {
	case protoreflect.StringKind:
		micros, _, reason = decode.ParseTimestamp(s)
	case protoreflect.MessageKind, protoreflect.GroupKind:
		var ok bool
		if micros, ok = d.instant(s); !ok {
			return false
		}
	default:
		v, large := whole(f.kind, u)
		if micros, reason = decode.EpochMicrosOf(v, c.Epoch); large {
			reason = decode.ReasonOutOfRange
		}
	}
	if reason != "" {
		return d.fail(reason, "no instant for the computed column %s", d.Plan.Schema().Field(c.Column).Name)
	}
	c.AppendInstant(c.b, micros)
	return true
}
