package datafile

import (
	"math"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// newBounds gives the bounds of a type, nil for those that Delta keeps none of: boolean, binary, struct, list and map.
func newBounds(dt arrow.DataType) bounds {
	switch dt := dt.(type) {
	case *arrow.Int8Type, *arrow.Int16Type, *arrow.Int32Type, *arrow.Int64Type:
		return &integers{}
	case *arrow.Date32Type:
		return &integers{render: func(to []byte, v int64, _ bool) []byte { return appendDate(to, v) }}
	case *arrow.TimestampType:
		zone := ""
		if dt.TimeZone != "" {
			zone = "Z"
		}
		return &integers{render: func(to []byte, v int64, up bool) []byte { return appendMicros(to, v, up, zone) }}
	case *arrow.Float32Type, *arrow.Float64Type:
		return &floats{}
	case *arrow.Decimal128Type:
		return &decimals{scale: dt.Scale}
	case *arrow.StringType:
		return &texts{}
	}
	return nil
}

// integers bounds integers, dates and timestamps.
type integers struct {
	render   func(to []byte, v int64, up bool) []byte // nil for plain numbers
	low, hi  int64
	observed bool
}

func (b *integers) include(low, hi int64) {
	if !b.observed {
		b.low, b.hi, b.observed = low, hi, true
	}
	b.low, b.hi = min(b.low, low), max(b.hi, hi)
}

func (b *integers) appendMin(to []byte) []byte { return b.append(to, b.low, false) }
func (b *integers) appendMax(to []byte) []byte { return b.append(to, b.hi, true) }

func (b *integers) append(to []byte, v int64, up bool) []byte {
	switch {
	case !b.observed:
		return to
	case b.render != nil:
		return b.render(to, v, up)
	}
	return strconv.AppendInt(to, v, 10)
}

// The years that every reader parses. A bound outside of them is left out.
var (
	firstDay    = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	lastDay     = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	firstMicros = firstDay.UnixMicro()
	lastMillis  = lastDay.UnixMilli() + 24*60*60*1000 - 1
)

func appendDate(to []byte, days int64) []byte {
	const daySeconds = 24 * 60 * 60
	if days < firstDay.Unix()/daySeconds || days > lastDay.Unix()/daySeconds {
		return to
	}
	return time.Unix(days*daySeconds, 0).UTC().AppendFormat(to, `"2006-01-02"`)
}

// appendMicros renders in milliseconds. A maximum is rounded up, so that pruning by it never loses the row that has it.
func appendMicros(to []byte, micros int64, up bool, zone string) []byte {
	if micros < firstMicros || micros > lastMillis*1000+999 {
		return to
	}
	millis := micros / 1000
	if rest := micros % 1000; rest < 0 && !up {
		millis--
	} else if rest > 0 && up {
		millis++
	}
	if millis > lastMillis {
		return to
	}
	return time.UnixMilli(millis).UTC().AppendFormat(to, `"2006-01-02T15:04:05.000`+zone+`"`)
}

// floats bounds float, as its double, and double.
type floats struct {
	low, hi  float64
	nan      bool
	observed bool
}

func (b *floats) include(v float64) {
	switch {
	case v != v:
		b.nan = true
	case !b.observed:
		b.low, b.hi, b.observed = v, v, true
	case v < b.low:
		b.low = v
	case v > b.hi:
		b.hi = v
	}
}

// appendMin gives none when there is a NaN, which engines order differently, and none for infinities, which JSON does not
// have.
func (b *floats) appendMin(to []byte) []byte { return b.append(to, b.low, math.Copysign(0, -1)) }
func (b *floats) appendMax(to []byte) []byte { return b.append(to, b.hi, 0) }

func (b *floats) append(to []byte, f, zero float64) []byte {
	if !b.observed || b.nan || math.IsInf(f, 0) {
		return to
	}
	// Some readers order -0.0 below +0.0: each bound takes the zero that both lie within.
	if f == 0 {
		f = zero
	}
	// A float is written with all digits of its double, for readers that compare doubles.
	mark := len(to)
	to = strconv.AppendFloat(to, f, 'g', -1, 64)
	for _, c := range to[mark:] {
		if c == '.' || c == 'e' {
			return to
		}
	}
	return append(to, ".0"...)
}

// decimals bounds decimals of any precision.
type decimals struct {
	scale    int32
	low, hi  decimal128.Num
	observed bool
}

func (b *decimals) include(low, hi decimal128.Num) {
	if !b.observed {
		b.low, b.hi, b.observed = low, hi, true
	}
	if low.Less(b.low) {
		b.low = low
	}
	if b.hi.Less(hi) {
		b.hi = hi
	}
}

func (b *decimals) includeIntegers(low, hi int64) {
	b.include(decimal128.FromI64(low), decimal128.FromI64(hi))
}

func (b *decimals) merge(o *decimals) {
	if o.observed {
		b.include(o.low, o.hi)
	}
}

// bytes gives the range as it is stored in so many bytes.
func (b *decimals) bytes(width int) valueRange {
	if !b.observed {
		return valueRange{}
	}
	return valueRange{
		low: string(appendDecimal(nil, b.low, width)), hi: string(appendDecimal(nil, b.hi, width)), lowExact: true, hiExact: true, ok: true,
	}
}

func (b *decimals) appendMin(to []byte) []byte { return b.append(to, b.low) }
func (b *decimals) appendMax(to []byte) []byte { return b.append(to, b.hi) }

func (b *decimals) append(to []byte, v decimal128.Num) []byte {
	if !b.observed {
		return to
	}
	return append(to, v.ToString(b.scale)...)
}
