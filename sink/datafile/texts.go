package datafile

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"unicode/utf8"
)

const (
	// prefixCharacters is how much of a string bound is written (Delta's footnote to minValues; Spark's
	// delta.stats.stringPrefixLength).
	prefixCharacters = 32
	// keptBytes is how much of a string bound is kept in memory. It holds the prefix, at most 4 bytes a character, and what
	// a maximum may need beyond it.
	keptBytes = 2 * prefixCharacters * utf8.UTFMax
)

// texts bounds strings, which readers compare byte by byte.
type texts struct {
	low, hi         []byte // cut to keptBytes
	hiCut           bool   // hi is only the beginning of the maximum
	lowKey, highKey uint64 // of low and hi
	observed        bool
}

// key orders as the first eight bytes do, so that most values are passed by after one comparison.
func key(v []byte) uint64 {
	if len(v) >= 8 {
		return binary.BigEndian.Uint64(v)
	}
	var k uint64
	for i, b := range v {
		k |= uint64(b) << (56 - 8*i)
	}
	return k
}

// observe takes in the values data[offsets[i]:offsets[i+1]].
func (b *texts) observe(offsets []int32, data []byte) {
	if len(offsets) < 2 {
		return
	}
	if !b.observed {
		b.include(data[offsets[0]:offsets[1]])
	}
	start := offsets[0]
	for _, end := range offsets[1:] {
		v := data[start:end]
		start = end
		k := key(v)
		if k <= b.lowKey && bytes.Compare(v, b.low) < 0 {
			b.setLow(v)
		}
		if k >= b.highKey && bytes.Compare(v, b.hi) > 0 {
			b.setHigh(v, false)
		}
	}
}

// include takes in one value.
func (b *texts) include(v []byte) {
	if !b.observed || bytes.Compare(v, b.low) < 0 {
		b.setLow(v)
	}
	if !b.observed || bytes.Compare(v, b.hi) > 0 {
		b.setHigh(v, false)
	}
	b.observed = true
}

// merge takes in what another one has seen.
func (b *texts) merge(o *texts) {
	if !o.observed {
		return
	}
	if !b.observed || bytes.Compare(o.low, b.low) < 0 {
		b.setLow(o.low)
	}
	if order := bytes.Compare(o.hi, b.hi); !b.observed || order > 0 || order == 0 && o.hiCut {
		b.setHigh(o.hi, o.hiCut)
	}
	b.observed = true
}

func (b *texts) reset() { b.observed = false }

func (b *texts) setLow(v []byte) {
	// The beginning of the least value is not greater than any value, so that the rest of it is of no interest.
	b.low = append(b.low[:0], v[:min(len(v), keptBytes)]...)
	b.lowKey = key(v)
}

// setHigh keeps a value, or with cut what is the beginning of one already.
func (b *texts) setHigh(v []byte, cut bool) {
	b.hi = append(b.hi[:0], v[:min(len(v), keptBytes)]...)
	b.hiCut = cut || len(v) > keptBytes
	b.highKey = key(v)
}

func (b *texts) appendMin(to []byte) []byte {
	if !b.observed {
		return to
	}
	prefix := b.low[:prefixLength(b.low)]
	if !utf8.Valid(prefix) {
		return to
	}
	return appendString(to, string(prefix))
}

func (b *texts) appendMax(to []byte) []byte {
	if !b.observed {
		return to
	}
	bound, ok := upperBound(b.hi, b.hiCut)
	if !ok {
		return to
	}
	return appendString(to, bound)
}

// prefixLength is the length in bytes of the first prefixCharacters characters of v.
func prefixLength(v []byte) int {
	at := 0
	for range prefixCharacters {
		if at >= len(v) {
			break
		}
		_, size := utf8.DecodeRune(v[at:])
		at += size
	}
	return at
}

// upperBound gives a string that is not less than v nor, when v is cut, than any string that begins with v. As Spark does
// (StatisticsCollection.truncateMaxStringAgg) it takes the prefix and a tie-breaker, which must be greater than the
// character it replaces: the prefix goes on while that is the greatest character there is. It gives none for text that is
// not UTF-8, which JSON cannot hold, and when v ends before the tie-breaker finds its place.
func upperBound(v []byte, cut bool) (string, bool) {
	at := prefixLength(v)
	if at == len(v) && !cut {
		return string(v), utf8.Valid(v)
	}
	for at < len(v) {
		next, size := utf8.DecodeRune(v[at:])
		if next == utf8.RuneError && size <= 1 {
			return "", false
		}
		if next < utf8.MaxRune {
			tie := string(utf8.MaxRune)
			if next < asciiMax {
				tie = string(asciiMax)
			}
			return string(v[:at]) + tie, utf8.Valid(v[:at])
		}
		at += size
	}
	if cut {
		return "", false
	}
	return string(v), utf8.Valid(v)
}

// asciiMax is the tie-breaker where it is enough, for its legibility.
const asciiMax rune = 0x7f

// appendString appends s as a JSON string.
func appendString(to []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always marshals
	}
	return append(to, quoted...)
}
