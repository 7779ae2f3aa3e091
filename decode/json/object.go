package json

import (
	"encoding/binary"
	"math/bits"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
)

// document decodes the whole message into the row that follows the complete ones. It returns false after a problem.
func (d *Decoder) document(rec *kgo.Record) bool {
	row := d.rows.Len()
	if d.whole {
		if !d.singleValue(rec, row) {
			return false
		}
		d.completeComputed(row)
		return true
	}
	p := d.at(0)
	start := 0
	if p != '{' {
		if start = d.space(0); d.at(start) != '{' {
			d.noObject(rec, start)
			return false
		}
	}
	end := d.object(d.root, start+1, row)
	if !d.ended(end) {
		return false
	}
	for _, b := range d.texts {
		b.AppendBytes(d.buf[start:end])
	}
	d.completeComputed(row)
	return true
}

// completeComputed fills the computed columns of the row whose field the message does not have.
func (d *Decoder) completeComputed(row int) {
	for _, b := range d.computed {
		if b.Len == row {
			b.AppendAbsent()
		}
	}
}

// singleValue decodes the message into the only column, or what that is computed from.
func (d *Decoder) singleValue(rec *kgo.Record, row int) bool {
	start := d.space(0)
	if start >= d.n {
		d.noObject(rec, start)
		return false
	}
	f := d.root.fields[0]
	end := d.value(f, start)
	if end < 0 || !d.derive(f, start, end, row) {
		d.within(f.path)
		return false
	}
	return d.ended(end)
}

// ended says whether the value that ends there, if it does, is all of the message.
func (d *Decoder) ended(end int) bool {
	if end >= 0 && end != d.n {
		if end = d.space(end); end != d.n {
			d.fail(decode.ReasonTrailingData, end, "behind the message's value comes %s", d.shorten(end, d.n))
			return false
		}
	}
	return end >= 0
}

// noObject says what a message is that does not start with an object.
func (d *Decoder) noObject(rec *kgo.Record, p int) {
	switch {
	case rec.Value == nil:
		d.fail(decode.ReasonTombstone, 0, "the record has no value")
	case p >= d.n:
		d.fail(decode.ReasonEmpty, 0, "the record's value is empty or white space, %d bytes", d.n)
	case d.n >= 3 && d.buf[0] == 0xef && d.buf[1] == 0xbb && d.buf[2] == 0xbf:
		d.fail(decode.ReasonInvalidJSON, 0, "the message starts with a byte order mark, which JSON does not allow")
	case d.framing == nil && d.buf[0] == 0:
		d.fail(decode.ReasonInvalidJSON, 0, "the message starts with a zero byte, as those of a schema registry's serializers do, which are read with framing registry: %s", d.shorten(0, d.n))
	default:
		if end := d.skip(p, 0); end >= 0 {
			d.fail(decode.ReasonTypeMismatch, p, "the message is %s: want an object", d.shorten(p, end))
		}
	}
}

// room is how much a string column can take without growing when the fast path of object copies a string while it
// scans it; longer strings take the other path.
const room = 256

// object decodes the fields of an object whose '{' is before p, into the row with index row of its builders. This
// is the hot loop: the common cases stand here in full, the others in value.
func (d *Decoder) object(o *object, p, row int) int {
	left := o.kept // fields that have no value yet
	prev := o.start
	p = d.gap(p)
	if d.at(p) == '}' {
		return d.endObject(o, p+1, row, left)
	}
	for {
		f := prev.next
		if (d.load8(p)&f.mask0^f.word0)|(d.load8(p+8)&f.mask1^f.word1) == 0 && (f.keyLen <= 16 || d.hasKey(p, f)) {
			p += f.keyLen
			p = d.gap(p)
		} else {
			if f, p = d.lookUp(o, prev, p); p < 0 {
				return d.within(o.path)
			}
		}
		prev = f
		start := p
		b := f.b
		if f.op != opSkip && b != nil {
			if b.Len != row {
				b.Truncate(row) // a key that was there before: the last one wins
			} else {
				left--
			}
		}
		if f.extra {
			for _, c := range f.below {
				if c.Len != row {
					c.Truncate(row)
				}
			}
		}
		c := d.at(p)
		switch f.op {
		case opString:
			if c != '"' {
				p = d.value(f, p)
				break
			}
			// Copy while scanning: 8 bytes are stored at once, and what is too much of them is overwritten later.
			p++
			n := len(b.Data)
			if cap(b.Data)-n < room {
				b.Data = growBytes(b.Data)
			}
			to := unsafe.Add(unsafe.Pointer(unsafe.SliceData(b.Data)), n)
			q := p
			var m uint64
			for i := 0; i < room-8; i += 8 {
				w := d.load8(q)
				*(*uint64)(unsafe.Add(to, i)) = w
				if m = stops(w); m != 0 {
					q += bits.TrailingZeros64(m) >> 3
					break
				}
				q += 8
			}
			if m != 0 && d.at(q) == '"' {
				b.Data = b.Data[:n+q-p]
				b.Offsets = append(b.Offsets, int32(n+q-p))
				b.Len++
				p = q + 1
				break
			}
			text, end := d.str(p)
			if end >= 0 {
				b.AppendBytes(text)
			}
			p = end
		case opInt32:
			v, end := d.smallInt(p, c)
			if end < 0 || v != int64(int32(v)) {
				p = d.value(f, p)
				break
			}
			b.Data = binary.LittleEndian.AppendUint32(b.Data, uint32(v))
			b.Len++
			p = end
		case opInt64:
			v, end := d.smallInt(p, c)
			if end < 0 {
				p = d.value(f, p)
				break
			}
			b.Data = binary.LittleEndian.AppendUint64(b.Data, uint64(v))
			b.Len++
			p = end
		case opStruct:
			if c != '{' {
				p = d.value(f, p)
				break
			}
			p = d.object(f.obj, p+1, row)
		case opSkip:
			p = d.skip(p, f.depth)
		default:
			p = d.value(f, p)
		}
		if p < 0 {
			return d.within(f.path)
		}
		if f.extra {
			if !d.derive(f, start, p, row) {
				return d.within(f.path)
			}
		}
		p = d.gap(p)
		c = d.at(p)
		if c == ',' {
			p++
			p = d.gap(p)
			continue
		}
		if c == '}' {
			return d.endObject(o, p+1, row, left)
		}
		d.unexpected(p, true)
		return d.within(o.path)
	}
}

// endObject completes the row of an object: fields that were missing become null, or the column's default.
func (d *Decoder) endObject(o *object, p, row, left int) int {
	if left > 0 {
		for _, f := range o.fields[:o.kept] {
			if f.b.Len == row {
				f.b.AppendAbsent()
			}
		}
	}
	if o.b != nil {
		o.b.Len++
	}
	return p
}

// growBytes makes room for the fast path of strings.
func growBytes(s []byte) []byte {
	grown := make([]byte, len(s), 2*cap(s)+2*room)
	copy(grown, s)
	return grown
}

// hasKey compares a key that is longer than two words.
func (d *Decoder) hasKey(p int, f *field) bool {
	return p+f.keyLen <= d.n && string(d.buf[p:p+f.keyLen]) == f.rawKey
}

// lookUp finds the field whose key stands at p, which is not the one expected behind prev, and returns where its value
// starts. What it finds is expected the next time.
func (d *Decoder) lookUp(o *object, prev *field, p int) (*field, int) {
	// Messages with and without an optional field take turns: the second guess is what stood here before.
	if f := prev.alt; f.rawKey != "" && d.hasKey(p, f) {
		prev.next, prev.alt = f, prev.next
		return f, d.space(p + f.keyLen)
	}
	if d.at(p) != '"' {
		return nil, d.syntax(p, "a field name in quotes")
	}
	key, end := d.str(p + 1)
	if end < 0 {
		return nil, end
	}
	f := o.find(key)
	if f == nil {
		plain := len(key) == end-p-2
		if f = o.learn(key, plain); f == nil {
			// It is not expected here again: the next message's key will be yet another one.
			return o.other, d.colon(end)
		}
	}
	prev.next, prev.alt = f, prev.next
	return f, d.colon(end)
}
