package datafile

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet"
)

// values are those of the page that a column is filling, nulls left out, and the column chunk's dictionary. A full
// dictionary is given up: the page that is being filled and all that follow it, in later row groups too, have the encoding
// without one.
type values interface {
	// take adds the values in the spans of an array of the column's type.
	take(a arrow.Array, spans []span)
	// count is the number of values in the page.
	count() int
	// held is about what they take in memory, size about what they and the dictionary will be in the file without compression.
	held() int
	size() (page, dictionary int)
	// appendPage encodes the page's values, of which there are some, and begins the next page.
	appendPage(to []byte) (page []byte, encoding parquet.Encoding, bounds valueRange)
	// appendDictionary encodes the dictionary and tells how many values it has.
	appendDictionary(to []byte) (page []byte, n int)
	// restart tells the range of the column chunk, adds it to the statistics of the file, and begins the next chunk.
	restart() valueRange
}

// valueRange is a range of values as the footer has them. Without ok there is none to give.
type valueRange struct {
	low, hi           string // PLAIN, strings and binary without their lengths
	lowExact, hiExact bool   // they are values, not only bounds
	ok                bool
}

// newValues makes the values of a leaf. Their range goes into total, unless that is nil.
func newValues(l leaf, enc columnEncoding, total bounds, dictBytes int) values {
	switch physicalType(l.dt) {
	case physicalBoolean:
		return &booleans{}
	case physicalInt32, physicalFloat:
		return newNumbers(l.dt, enc, total, dictBytes, loadInt32(l.dt))
	case physicalInt64, physicalDouble:
		return newNumbers(l.dt, enc, total, dictBytes, loadInt64(l.dt))
	}
	return newBinaries(l.dt, enc, total, dictBytes)
}

// booleans are bit-packed, whatever their values.
type booleans struct {
	page        []bool
	some, chunk [2]bool // false and true are there
}

func (b *booleans) take(a arrow.Array, spans []span) {
	for _, s := range spans {
		for i := s.from; i < s.to; i++ {
			v := a.(*array.Boolean).Value(i)
			b.page = append(b.page, v)
			b.see(v)
		}
	}
}

func (b *booleans) see(v bool) {
	if v {
		b.some[1] = true
	} else {
		b.some[0] = true
	}
}

func (b *booleans) count() int { return len(b.page) }
func (b *booleans) held() int  { return len(b.page) }

func (b *booleans) size() (page, dictionary int) { return len(b.page) / 8, 0 }

func (b *booleans) appendPage(to []byte) ([]byte, parquet.Encoding, valueRange) {
	at := len(to)
	to = grow(to, (len(b.page)+7)/8)
	clear(to[at:])
	for i, v := range b.page {
		if v {
			to[at+i/8] |= 1 << (i % 8)
		}
	}
	bounds := rangeOfBooleans(b.some)
	b.chunk[0], b.chunk[1] = b.chunk[0] || b.some[0], b.chunk[1] || b.some[1]
	b.page, b.some = b.page[:0], [2]bool{}
	return to, parquet.Encodings.Plain, bounds
}

func rangeOfBooleans(some [2]bool) valueRange {
	r := valueRange{low: "\x00", hi: "\x01", lowExact: true, hiExact: true, ok: some[0] || some[1]}
	if !some[0] {
		r.low = r.hi
	}
	if !some[1] {
		r.hi = "\x00"
	}
	return r
}

func (b *booleans) appendDictionary(to []byte) ([]byte, int) { return to, 0 }

func (b *booleans) restart() valueRange {
	bounds := rangeOfBooleans(b.chunk)
	b.chunk = [2]bool{}
	return bounds
}
