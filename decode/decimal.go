package decode

import (
	"math/big"
	"math/bits"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// ParseDecimal reads a decimal number ("-12.50", "1e3") exactly, as the unscaled value of DECIMAL(precision, scale).
// The text is a JSON number, or one with a leading '+', leading zeros or a bare '.' on one side. Reason is empty,
// ReasonInvalidValue, ReasonInexact (digits other than 0 beyond the scale) or ReasonOutOfRange. It does not allocate.
func ParseDecimal(s []byte, precision, scale int32) (v decimal128.Num, reason string) {
	d, ok := scanDecimal(s)
	if !ok {
		return v, ReasonInvalidValue
	}
	if d.digits == 0 {
		return v, ""
	}
	// The unscaled value is digits x 10^(exponent + scale).
	shift := d.exponent + int64(scale)
	if shift < 0 {
		return v, ReasonInexact // digits have no trailing zeros left
	}
	if int64(d.digits)+shift > int64(precision) {
		return v, ReasonOutOfRange
	}
	var hi, lo uint64
	for i, left := d.first, d.digits; left > 0; i++ {
		if c := s[i] - '0'; c <= 9 {
			hi, lo = timesTenPlus(hi, lo, uint64(c))
			left--
		}
	}
	for ; shift > 0; shift-- {
		hi, lo = timesTenPlus(hi, lo, 0)
	}
	v = decimal128.New(int64(hi), lo) // at most 38 digits: below 2^127
	if d.negative {
		v = v.Negate()
	}
	return v, ""
}

// decimalText is a decimal number found in a text: its significant digits start at first and leave out leading and
// trailing zeros; the value is those digits as an integer x 10^exponent.
type decimalText struct {
	negative bool
	first    int
	digits   int
	exponent int64
}

// maxExponent bounds an exponent's own value; no length of text can bring it back into any column's range.
const maxExponent = 1 << 40

func scanDecimal(s []byte) (d decimalText, ok bool) {
	i := 0
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		d.negative = s[i] == '-'
		i++
	}
	found, point := false, false
	pending := 0 // zeros since the last other digit: they count only if another digit follows
	var fraction int64
scan:
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case c == '.' && !point:
			point = true
		case c >= '0' && c <= '9':
			found = true
			if point {
				fraction++
			}
			switch {
			case c == '0' && d.digits == 0:
			case c == '0':
				pending++
			default:
				if d.digits == 0 {
					d.first = i
				}
				d.digits += pending + 1
				pending = 0
			}
		default:
			break scan
		}
	}
	d.exponent = int64(pending) - fraction
	if !found {
		return d, false
	}
	if i < len(s) {
		if s[i] != 'e' && s[i] != 'E' {
			return d, false
		}
		e, ok := scanExponent(s[i+1:])
		if !ok {
			return d, false
		}
		d.exponent += e
	}
	return d, true
}

// scanExponent reads all of s as an exponent, saturating far beyond any use.
func scanExponent(s []byte) (e int64, ok bool) {
	negative := false
	if len(s) > 0 && (s[0] == '-' || s[0] == '+') {
		negative = s[0] == '-'
		s = s[1:]
	}
	if len(s) == 0 {
		return 0, false
	}
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		e = min(e*10+int64(c-'0'), maxExponent)
	}
	if negative {
		e = -e
	}
	return e, true
}

// ParseInteger reads a decimal number as an integer, exactly: "3", "1e3" and "1.0" are, "1.5" is ReasonInexact.
// Otherwise like ParseDecimal; the range is that of int64.
func ParseInteger(s []byte) (v int64, reason string) {
	n, reason := ParseDecimal(s, 19, 0)
	if reason != "" {
		return 0, reason
	}
	v = int64(n.LowBits())
	if n.HighBits() != v>>63 { // sign extension: it fits 64 bits
		return 0, ReasonOutOfRange
	}
	return v, ""
}

// ParseEpoch reads a number as an instant in microseconds since 1970. Digits beyond microseconds are cut off towards
// the past. Days must be whole.
func ParseEpoch(s []byte, unit Epoch) (micros int64, reason string) {
	if unit == EpochDays {
		day, reason := ParseInteger(s)
		if reason != "" {
			return 0, reason
		}
		if day < int64(MinDay) || day > int64(MaxDay) {
			return 0, ReasonOutOfRange
		}
		return day * microsPerDay, ""
	}
	d, ok := scanDecimal(s)
	if !ok {
		return 0, ReasonInvalidValue
	}
	shift := d.exponent + unit.decimals()
	if d.digits > 0 && int64(d.digits)+shift > 18 {
		return 0, ReasonOutOfRange // year 9999 has 18 digits of microseconds
	}
	if d.digits == 0 {
		return 0, ""
	}
	whole := min(int64(d.digits), int64(d.digits)+shift) // digits before the cut
	for i := d.first; whole > 0; i++ {
		if c := s[i] - '0'; c <= 9 {
			micros = micros*10 + int64(c)
			whole--
		}
	}
	for ; shift > 0; shift-- {
		micros *= 10
	}
	if d.negative {
		micros = -micros
		if shift < 0 {
			micros-- // the digits cut off are not all zeros: the last one is not
		}
	}
	if micros < MinMicros || micros > MaxMicros {
		return 0, ReasonOutOfRange
	}
	return micros, ""
}

// timesTenPlus is (hi, lo) x 10 + digit.
func timesTenPlus(hi, lo, digit uint64) (uint64, uint64) {
	carry, low := bits.Mul64(lo, 10)
	low, c := bits.Add64(low, digit, 0)
	return hi*10 + carry + c, low
}

// Rescale brings an unscaled value of one scale into DECIMAL(precision, scale), exactly. Reason is empty, ReasonInexact (digits
// other than 0 beyond the scale) or ReasonOutOfRange.
func Rescale(v decimal128.Num, from, precision, scale int32) (out decimal128.Num, reason string) {
	negative := v.Sign() < 0
	if negative {
		v = v.Negate()
	}
	hi, lo := uint64(v.HighBits()), v.LowBits() // -2^127 stays what it is, and does not fit
	if v.HighBits() < 0 || !v.FitsInPrecision(maxPrecision) {
		return out, ReasonOutOfRange
	}
	for ; from > scale && hi|lo != 0; from-- {
		var rest uint64
		hi, rest = bits.Div64(0, hi, 10)
		if lo, rest = bits.Div64(rest, lo, 10); rest != 0 {
			return out, ReasonInexact
		}
	}
	for ; from < scale && hi|lo != 0; from++ {
		if !decimal128.New(int64(hi), lo).FitsInPrecision(maxPrecision - 1) {
			return out, ReasonOutOfRange
		}
		hi, lo = timesTenPlus(hi, lo, 0)
	}
	if out = decimal128.New(int64(hi), lo); !out.FitsInPrecision(precision) {
		return decimal128.Num{}, ReasonOutOfRange
	}
	if negative {
		out = out.Negate()
	}
	return out, ""
}

// maxUnscaled bounds the bytes of a decimal that becomes a text: beyond it, converting takes longer than its bytes are worth.
const maxUnscaled = 1024

// AppendUnscaled appends the digits of an unscaled value, in two's complement and big-endian as Avro has it, with its decimal point: 12.30, -0.01. False: it
// has more than 1,024 bytes.
func AppendUnscaled(text, value []byte, scale int32) ([]byte, bool) {
	if len(value) > maxUnscaled {
		return text, false
	}
	negative := len(value) > 0 && value[0] >= 0x80
	var room [16]byte
	magnitude := append(room[:0], value...)
	if negative {
		carry := true
		for i := len(magnitude) - 1; i >= 0; i-- {
			magnitude[i] = ^magnitude[i]
			if carry {
				magnitude[i]++
				carry = magnitude[i] == 0
			}
		}
	}
	var digits [64]byte
	number := digits[:0]
	if len(magnitude) <= 8 {
		var v uint64
		for _, b := range magnitude {
			v = v<<8 | uint64(b)
		}
		number = strconv.AppendUint(number, v, 10)
	} else {
		number = new(big.Int).SetBytes(magnitude).Append(number, 10)
	}
	if negative {
		text = append(text, '-')
	}
	whole := len(number) - int(scale)
	if whole <= 0 {
		text = append(text, '0', '.')
		for range -whole {
			text = append(text, '0')
		}
		return append(text, number...), true
	}
	if text = append(text, number[:whole]...); scale > 0 {
		text = append(append(text, '.'), number[whole:]...)
	}
	return text, true
}

// maxPrecision is the most digits of a decimal column.
const maxPrecision = 38

// EpochMicrosOf is a whole number of units since 1970 in microseconds. What is finer is cut off towards the past. Reason is empty
// or ReasonOutOfRange.
func EpochMicrosOf(n int64, unit Epoch) (micros int64, reason string) {
	switch unit {
	case EpochDays:
		if n < int64(MinDay) || n > int64(MaxDay) {
			return 0, ReasonOutOfRange
		}
		return n * microsPerDay, ""
	case EpochSeconds:
		if n < MinMicros/microsPerSecond || n > MaxMicros/microsPerSecond {
			return 0, ReasonOutOfRange
		}
		return n * microsPerSecond, ""
	case EpochNanos:
		micros = n / 1000
		if n%1000 < 0 {
			micros--
		}
		return micros, "" // 64 bits of nanoseconds are the years 1677 to 2262
	case EpochMicros:
		micros = n
	default:
		if n < MinMicros/1000 || n > MaxMicros/1000 {
			return 0, ReasonOutOfRange
		}
		micros = n * 1000
	}
	if micros < MinMicros || micros > MaxMicros {
		return 0, ReasonOutOfRange
	}
	return micros, ""
}
