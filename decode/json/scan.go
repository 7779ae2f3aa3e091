package json

import (
	"math/bits"
	"unicode/utf8"
	"unsafe"

	"kafkadelta/decode"
)

// The scanner works on the decoder's copy of the message, at offsets p. Its functions return the offset behind what
// they read, or a negative one after d.fail. None reads past the padding: every loop ends at a zero byte, which is
// never part of JSON, and no other read is further than 16 bytes from such an offset.

// at is the byte at p.
func (d *Decoder) at(p int) byte { return *(*byte)(unsafe.Add(d.base, p)) }

// load8 is the 8 bytes from p on, the first in the low byte. Go's other architectures are little endian too where it
// matters to us; on a big-endian one the masks below would be wrong, and init refuses it.
func (d *Decoder) load8(p int) uint64 { return *(*uint64)(unsafe.Add(d.base, p)) }

func init() {
	one := uint16(1)
	if *(*byte)(unsafe.Pointer(&one)) != 1 {
		panic("decode/json: needs a little-endian machine")
	}
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080

	quotes      = '"' * ones
	backslashes = '\\' * ones
	spaces      = ' ' * ones
)

// stops marks, in the high bit of a byte, where a run of plain ASCII in a string ends: a quote, a backslash, a control
// character or a byte above 0x7f. Only the lowest mark is exact, because borrows travel upwards.
func stops(w uint64) uint64 {
	return (((w ^ quotes) - ones) | ((w ^ backslashes) - ones) | (w - spaces) | w) & highs
}

// stopsASCII is stops without the bytes above 0x7f.
func stopsASCII(w uint64) uint64 {
	return (((w ^ quotes) - ones) | ((w ^ backslashes) - ones) | (w - spaces)) &^ w & highs
}

// gap skips white space where most writers put none or one space; it is inlined.
func (d *Decoder) gap(p int) int {
	if d.at(p) == ' ' {
		p++
	}
	if d.at(p) > ' ' {
		return p
	}
	return d.space(p)
}

// space skips white space.
func (d *Decoder) space(p int) int {
	for {
		switch d.at(p) {
		case ' ', '\n', '\t', '\r':
			p++
		default:
			return p
		}
	}
}

// plain skips plain ASCII and returns where it stops.
func (d *Decoder) plain(p int) int {
	for {
		if m := stops(d.load8(p)); m != 0 {
			return p + bits.TrailingZeros64(m)>>3
		}
		p += 8
	}
}

// str reads a string whose first character is at p. The text is valid until the next str.
func (d *Decoder) str(p int) (text []byte, end int) {
	q := d.plain(p)
	if d.at(q) == '"' {
		return d.buf[p:q], q + 1
	}
	return d.strSlow(p, q)
}

// strSlow is str for strings with escapes or other than ASCII; [p, q) is plain.
func (d *Decoder) strSlow(p, q int) (text []byte, end int) {
	end, escaped := d.skipStrFrom(p, q)
	if end < 0 {
		return nil, end
	}
	if !escaped {
		return d.buf[p : end-1], end
	}
	d.scratch = unescape(d.scratch[:0], d.buf[p:end-1])
	return d.scratch, end
}

// skipStr validates a string whose first character is at p.
func (d *Decoder) skipStr(p int) (end int) {
	q := d.plain(p)
	if d.at(q) == '"' {
		return q + 1
	}
	end, _ = d.skipStrFrom(p, q)
	return end
}

// skipStrFrom validates a string from p, of which [p, q) is plain, and tells whether it has escapes.
func (d *Decoder) skipStrFrom(p, q int) (end int, escaped bool) {
	ascii := true
	for {
		for {
			w := d.load8(q)
			if m := stopsASCII(w); m != 0 {
				i := bits.TrailingZeros64(m) >> 3
				// Only the bytes before the stop belong to the string.
				ascii = ascii && w&highs&(1<<(8*i)-1) == 0
				q += i
				break
			}
			ascii = ascii && w&highs == 0
			q += 8
		}
		switch c := d.at(q); {
		case c == '"':
			if !ascii && !utf8.Valid(d.buf[p:q]) {
				return d.fail(decode.ReasonInvalidUTF8, p, "a string is not UTF-8: %s", d.shorten(p-1, q+1)), false
			}
			return q + 1, escaped
		case c == '\\':
			escaped = true
			switch d.at(q + 1) {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				q += 2
			case 'u':
				if _, ok := hex4(d.load8(q + 2)); !ok {
					return d.fail(decode.ReasonInvalidJSON, q, "an escape in a string is not \\u and four hexadecimal digits: %s", d.shorten(q, q+6)), false
				}
				q += 6
			default:
				return d.fail(decode.ReasonInvalidJSON, q, "an escape that JSON does not have: %s", d.shorten(q, q+2)), false
			}
		case q >= d.n:
			return d.fail(decode.ReasonInvalidJSON, p-1, "the message ends inside a string: %s", d.shorten(p-1, d.n)), false
		default:
			return d.fail(decode.ReasonInvalidJSON, q, "a control character (0x%02x) in a string, where JSON wants an escape", c), false
		}
	}
}

// hex4 reads four hexadecimal digits from the low half of a word.
func hex4(w uint64) (r rune, ok bool) {
	for range 4 {
		c := byte(w)
		w >>= 8
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// unescape appends a validated string's text. A surrogate without its partner has no UTF-8 and becomes U+FFFD, as in
// encoding/json.
func unescape(dst, s []byte) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		if c != '\\' {
			begin := i
			for i++; i < len(s) && s[i] != '\\'; i++ {
			}
			dst = append(dst, s[begin:i]...)
			continue
		}
		if s[i+1] != 'u' {
			dst = append(dst, escapes[s[i+1]])
			i += 2
			continue
		}
		r := escapedRune(s[i+2:])
		i += 6
		if r >= 0xd800 && r < 0xe000 {
			low := rune(-1)
			if r < 0xdc00 && i+6 <= len(s) && s[i] == '\\' && s[i+1] == 'u' {
				low = escapedRune(s[i+2:])
			}
			if low >= 0xdc00 && low < 0xe000 {
				r = (r-0xd800)<<10 + (low - 0xdc00) + 0x10000
				i += 6
			} else {
				r = utf8.RuneError
			}
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}

func escapedRune(s []byte) rune {
	r, _ := hex4(uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24)
	return r
}

// The literals as words.
const (
	wordNull = 'n' | 'u'<<8 | 'l'<<16 | 'l'<<24
	wordTrue = 't' | 'r'<<8 | 'u'<<16 | 'e'<<24
	wordAlse = 'a' | 'l'<<8 | 's'<<16 | 'e'<<24
)

func (d *Decoder) isNull(p int) bool  { return uint32(d.load8(p)) == wordNull }
func (d *Decoder) isTrue(p int) bool  { return uint32(d.load8(p)) == wordTrue }
func (d *Decoder) isFalse(p int) bool { return d.at(p) == 'f' && uint32(d.load8(p+1)) == wordAlse }

// skip validates any value at p, at the given depth, without recursion: one bit for each open container tells whether
// it is an object.
func (d *Decoder) skip(p, depth int) int {
	bottom := depth
	for {
		// A value starts at p.
		switch c := d.at(p); c {
		case '{', '[':
			if depth >= maxDepth {
				return d.fail(decode.ReasonTooDeep, p, "nested deeper than %d", maxDepth)
			}
			bit := uint64(1) << (depth & 63)
			d.stack[depth>>6] &^= bit
			if c == '{' {
				d.stack[depth>>6] |= bit
			}
			depth++
			p = d.space(p + 1)
			if d.at(p) != c+2 { // '}' and ']' are two behind their opening
				if c == '{' {
					if p = d.skipKey(p); p < 0 {
						return p
					}
				}
				continue
			}
			p++
			depth--
		case '"':
			if p = d.skipStr(p + 1); p < 0 {
				return p
			}
		default:
			if p = d.skipScalar(p); p < 0 {
				return p
			}
		}
		// A value has ended.
		for {
			if depth == bottom {
				return p
			}
			p = d.space(p)
			inObject := d.stack[(depth-1)>>6]>>((depth-1)&63)&1 != 0
			c := d.at(p)
			if c == ',' {
				p = d.space(p + 1)
				if inObject {
					if p = d.skipKey(p); p < 0 {
						return p
					}
				}
				break
			}
			if inObject && c != '}' || !inObject && c != ']' {
				return d.unexpected(p, inObject)
			}
			p++
			depth--
		}
	}
}

// unexpected fails for what stands behind a value in a container.
func (d *Decoder) unexpected(p int, inObject bool) int {
	want := "',' or ']'"
	if inObject {
		want = "',' or '}'"
	}
	return d.syntax(p, want)
}

// skipKey validates a key, its colon and the white space around, and returns where the value starts.
func (d *Decoder) skipKey(p int) int {
	if d.at(p) != '"' {
		return d.syntax(p, "a field name in quotes")
	}
	if p = d.skipStr(p + 1); p < 0 {
		return p
	}
	return d.colon(p)
}

// colon reads the colon behind a key and returns where the value starts.
func (d *Decoder) colon(p int) int {
	p = d.space(p)
	if d.at(p) != ':' {
		return d.syntax(p, "':' behind a field name")
	}
	return d.space(p + 1)
}

// skipScalar validates a number or a literal.
func (d *Decoder) skipScalar(p int) int {
	switch c := d.at(p); {
	case c == '-' || c >= '0' && c <= '9':
		return d.number(p)
	case d.isNull(p), d.isTrue(p):
		return p + 4
	case d.isFalse(p):
		return p + 5
	}
	return d.syntax(p, "a value")
}
