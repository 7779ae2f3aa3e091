package json

import (
	"math"
	"strconv"
	"unsafe"

	"kafkadelta/decode"
)

// digitWidth is what smallInt reads at most: 18 digits always fit an int64.
const digitWidth = 18

// smallInt reads an integer of at most 18 digits at p, where c stands. end is negative when it is anything else; then
// nothing is known about it.
func (d *Decoder) smallInt(p int, c byte) (v int64, end int) {
	negative := c == '-'
	if negative {
		p++
		c = d.at(p)
	}
	c -= '0'
	if c > 9 {
		return 0, failed
	}
	v = int64(c)
	first := p
	p++
	for {
		c = d.at(p) - '0'
		if c > 9 {
			break
		}
		v = v*10 + int64(c)
		p++
	}
	if n := p - first; n > 1 && (n > digitWidth || d.at(first) == '0') {
		return 0, failed
	}
	if c = d.at(p); c == '.' || c|0x20 == 'e' {
		return 0, failed
	}
	if negative {
		v = -v
	}
	return v, p
}

// number validates a number at p.
func (d *Decoder) number(p int) int {
	start := p
	if d.at(p) == '-' {
		p++
	}
	switch c := d.at(p); {
	case c == '0':
		p++
		if d.isDigit(p) {
			return d.fail(decode.ReasonInvalidJSON, start, "a number with a leading zero: %s", d.shorten(start, start+decode.MaxShown))
		}
	case c >= '1' && c <= '9':
		p = d.digits(p + 1)
	default:
		return d.syntax(p, "a digit")
	}
	if d.at(p) == '.' {
		if !d.isDigit(p + 1) {
			return d.syntax(p+1, "a digit of a fraction")
		}
		p = d.digits(p + 1)
	}
	if d.at(p)|0x20 == 'e' {
		p++
		if c := d.at(p); c == '+' || c == '-' {
			p++
		}
		if !d.isDigit(p) {
			return d.syntax(p, "a digit of an exponent")
		}
		p = d.digits(p)
	}
	return p
}

func (d *Decoder) isDigit(p int) bool { return d.at(p)-'0' <= 9 }

func (d *Decoder) digits(p int) int {
	for d.isDigit(p) {
		p++
	}
	return p
}

// pow10 are the powers of ten that a float64 holds exactly.
var pow10 = [23]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
	1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// scanned is a number whose text is valid: negative or not, digits x 10^exponent, unless it has too many digits.
type scanned struct {
	digits   uint64
	exponent int
	exact    bool // digits and exponent are the number
	negative bool
}

// scanNumber validates a number at p and collects its digits on the way.
func (d *Decoder) scanNumber(p int) (s scanned, end int) {
	start := p
	if d.at(p) == '-' {
		s.negative = true
		p++
	}
	first := p
	var v uint64
	for {
		c := d.at(p) - '0'
		if c > 9 {
			break
		}
		v = v*10 + uint64(c)
		p++
	}
	count := p - first
	if count == 0 || count > 1 && d.at(first) == '0' {
		return s, d.number(start) // it knows what to say
	}
	if d.at(p) == '.' {
		p++
		point := p
		for {
			c := d.at(p) - '0'
			if c > 9 {
				break
			}
			v = v*10 + uint64(c)
			p++
		}
		if p == point {
			return s, d.number(start)
		}
		s.exponent = point - p
		count += p - point
	}
	s.exact = count <= 19
	s.digits = v
	if d.at(p)|0x20 == 'e' {
		if end = d.number(start); end < 0 {
			return s, end
		}
		s.exponent += d.exponent(p+1, end)
		s.exact = s.exact && end-p <= 6
		p = end
	}
	return s, p
}

// exponent reads the validated exponent in [p, end), which has few digits, or does not matter.
func (d *Decoder) exponent(p, end int) (e int) {
	negative := d.at(p) == '-'
	if negative || d.at(p) == '+' {
		p++
	}
	for ; p < end; p++ {
		e = e*10 + int(d.at(p)-'0')
	}
	if negative {
		e = -e
	}
	return e
}

// double appends a number at p to a DOUBLE column.
func (d *Decoder) double(f *field, p int) int {
	s, end := d.scanNumber(p)
	if end < 0 {
		return end
	}
	v, ok := s.float64()
	if !ok {
		var err error
		if v, err = strconv.ParseFloat(d.text(p, end), 64); err != nil {
			return d.refuse(f, decode.ReasonOutOfRange, p, end, "beyond ±1.8e308")
		}
	}
	f.b.AppendFloat64(v)
	return end
}

// float64 is the nearest double when one correctly rounded operation on two exact ones gives it (W. Clinger).
func (s *scanned) float64() (v float64, ok bool) {
	if !s.exact || s.digits > 1<<53 || s.exponent < -22 || s.exponent > 22 {
		return 0, false
	}
	v = float64(s.digits)
	if s.exponent < 0 {
		v /= pow10[-s.exponent]
	} else {
		v *= pow10[s.exponent]
	}
	if s.negative {
		v = -v
	}
	return v, true
}

// single appends a number at p to a FLOAT column, rounded once, from the text.
func (d *Decoder) single(f *field, p int) int {
	s, end := d.scanNumber(p)
	if end < 0 {
		return end
	}
	if s.exact && s.digits <= 1<<24 && s.exponent >= -10 && s.exponent <= 10 {
		v := float32(s.digits)
		if s.exponent < 0 {
			v /= float32(pow10[-s.exponent])
		} else {
			v *= float32(pow10[s.exponent])
		}
		if s.negative {
			v = -v
		}
		f.b.AppendFloat32(v)
		return end
	}
	v, err := strconv.ParseFloat(d.text(p, end), 32)
	if err != nil {
		return d.refuse(f, decode.ReasonOutOfRange, p, end, "beyond ±3.4e38")
	}
	f.b.AppendFloat32(float32(v))
	return end
}

// text is a part of the message as a string, without a copy: it must not outlive the message.
func (d *Decoder) text(p, end int) string { return unsafe.String(&d.buf[p], end-p) }

// special is a number that JSON cannot write and that others write as a string.
func special(text []byte) (v float64, ok bool) {
	switch string(text) {
	case "NaN":
		return math.NaN(), true
	case "Infinity":
		return math.Inf(1), true
	case "-Infinity":
		return math.Inf(-1), true
	}
	return 0, false
}

// integer reads a number at p as an integer within the bounds, exactly.
func (d *Decoder) integer(f *field, p int, low, high int64) (v int64, end int) {
	if end = d.number(p); end < 0 {
		return 0, end
	}
	v, reason := decode.ParseInteger(d.buf[p:end])
	if reason == "" && (v < low || v > high) {
		reason = decode.ReasonOutOfRange
	}
	switch reason {
	case "":
		return v, end
	case decode.ReasonInexact:
		return 0, d.refuse(f, reason, p, end, "it has a fraction")
	}
	return 0, d.refuse(f, reason, p, end, "the column holds "+strconv.FormatInt(low, 10)+" to "+strconv.FormatInt(high, 10))
}
