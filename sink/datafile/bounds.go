package datafile

import (
	"math"
	"math/bits"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// newBounds gives the bounds of a type, nil for those that Delta keeps none of: boolean, binary, struct, list and map.
func newBounds(dt arrow.DataType) bounds {
	switch dt := dt.(type) {
	case *arrow.Int8Type:
		return &integers[int8]{values: func(a arrow.Array) []int8 { return a.(*array.Int8).Int8Values() }}
	case *arrow.Int16Type:
		return &integers[int16]{values: func(a arrow.Array) []int16 { return a.(*array.Int16).Int16Values() }}
	case *arrow.Int32Type:
		return &integers[int32]{values: func(a arrow.Array) []int32 { return a.(*array.Int32).Int32Values() }}
	case *arrow.Int64Type:
		return &integers[int64]{values: func(a arrow.Array) []int64 { return a.(*array.Int64).Int64Values() }}
	case *arrow.Date32Type:
		return &integers[arrow.Date32]{
			values: func(a arrow.Array) []arrow.Date32 { return a.(*array.Date32).Date32Values() },
			render: func(to []byte, v int64, _ bool) []byte { return appendDate(to, v) },
		}
	case *arrow.TimestampType:
		zone := ""
		if dt.TimeZone != "" {
			zone = "Z"
		}
		return &integers[arrow.Timestamp]{
			values: func(a arrow.Array) []arrow.Timestamp { return a.(*array.Timestamp).TimestampValues() },
			render: func(to []byte, v int64, up bool) []byte { return appendMicros(to, v, up, zone) },
		}
	case *arrow.Float32Type:
		return &floats[float32]{values: func(a arrow.Array) []float32 { return a.(*array.Float32).Float32Values() }}
	case *arrow.Float64Type:
		return &floats[float64]{values: func(a arrow.Array) []float64 { return a.(*array.Float64).Float64Values() }}
	case *arrow.Decimal128Type:
		return &decimals{scale: dt.Scale}
	case *arrow.StringType:
		return &texts{}
	}
	return nil
}

// runs calls yield for each stretch of rows that are set in valid; nil stands for all of n rows.
func runs(valid []uint64, n int, yield func(from, to int)) {
	if valid == nil {
		yield(0, n)
		return
	}
	for k, w := range valid {
		for w != 0 {
			from := bits.TrailingZeros64(w)
			length := bits.TrailingZeros64(^(w >> from))
			yield(64*k+from, 64*k+from+length)
			if from+length == 64 {
				break
			}
			w &^= (1<<length - 1) << from
		}
	}
}

type integer interface {
	~int8 | ~int16 | ~int32 | ~int64
}

// integers bounds integers, dates and timestamps.
type integers[T integer] struct {
	values   func(arrow.Array) []T
	render   func(to []byte, v int64, up bool) []byte // nil for plain numbers
	low, hi  T
	observed bool
}

func (b *integers[T]) observe(a arrow.Array, valid []uint64) {
	values := b.values(a)
	low, hi := b.low, b.hi
	runs(valid, len(values), func(from, to int) {
		part := values[from:to]
		if !b.observed {
			low, hi, b.observed = part[0], part[0], true
		}
		l, h := low, hi
		for _, v := range part {
			l, h = min(l, v), max(h, v)
		}
		low, hi = l, h
	})
	b.low, b.hi = low, hi
}

func (b *integers[T]) appendMin(to []byte) []byte { return b.append(to, b.low, false) }
func (b *integers[T]) appendMax(to []byte) []byte { return b.append(to, b.hi, true) }

func (b *integers[T]) append(to []byte, v T, up bool) []byte {
	switch {
	case !b.observed:
		return to
	case b.render != nil:
		return b.render(to, int64(v), up)
	}
	return strconv.AppendInt(to, int64(v), 10)
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

// floats bounds float and double.
type floats[T float32 | float64] struct {
	values   func(arrow.Array) []T
	low, hi  T
	nan      bool
	observed bool
}

func (b *floats[T]) observe(a arrow.Array, valid []uint64) {
	values := b.values(a)
	low, hi := b.low, b.hi
	if !b.observed {
		low, hi, b.observed = T(math.Inf(1)), T(math.Inf(-1)), true
	}
	nan := false
	runs(valid, len(values), func(from, to int) {
		l, h := low, hi
		for _, v := range values[from:to] {
			if v < l {
				l = v
			}
			if v > h {
				h = v
			}
			if v != v {
				nan = true
			}
		}
		low, hi = l, h
	})
	b.low, b.hi, b.nan = low, hi, b.nan || nan
}

// appendMin gives none when there is a NaN, which engines order differently, and none for infinities, which JSON does not
// have.
func (b *floats[T]) appendMin(to []byte) []byte { return b.append(to, b.low, math.Copysign(0, -1)) }
func (b *floats[T]) appendMax(to []byte) []byte { return b.append(to, b.hi, 0) }

func (b *floats[T]) append(to []byte, v T, zero float64) []byte {
	f := float64(v)
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

func (b *decimals) observe(a arrow.Array, valid []uint64) {
	values := a.(*array.Decimal128).Values()
	runs(valid, len(values), func(from, to int) {
		part := values[from:to]
		if !b.observed {
			b.low, b.hi, b.observed = part[0], part[0], true
		}
		for _, v := range part {
			if v.Less(b.low) {
				b.low = v
			} else if b.hi.Less(v) {
				b.hi = v
			}
		}
	})
}

func (b *decimals) appendMin(to []byte) []byte { return b.append(to, b.low) }
func (b *decimals) appendMax(to []byte) []byte { return b.append(to, b.hi) }

func (b *decimals) append(to []byte, v decimal128.Num) []byte {
	if !b.observed {
		return to
	}
	return append(to, v.ToString(b.scale)...)
}
