package admin

import "math/bits"

const (
	chunkBits  = 16 // offsets of one chunk, as a power of two
	chunkSize  = 1 << chunkBits
	chunkWords = chunkSize / 64
)

// chunk is a bit for each of chunkSize offsets.
type chunk struct {
	words [chunkWords]uint64
	count int
}

// full is what every chunk is once all of its offsets are in: nothing of its own.
var full = func() *chunk {
	c := &chunk{count: chunkSize}
	for i := range c.words {
		c.words[i] = ^uint64(0)
	}
	return c
}()

// offsets is a set of offsets: 8 KiB for each 65,536 of them that has any, nothing where all are in.
type offsets struct {
	chunks map[int64]*chunk
}

// add reports whether the offset was not in the set. Offsets are not negative.
func (s *offsets) add(offset int64) bool {
	at := offset >> chunkBits
	c := s.chunks[at]
	if c == nil {
		if s.chunks == nil {
			s.chunks = map[int64]*chunk{}
		}
		c = &chunk{}
		s.chunks[at] = c
	}
	word, bit := &c.words[offset&(chunkSize-1)>>6], uint64(1)<<(offset&63)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	if c.count++; c.count == chunkSize {
		s.chunks[at] = full
	}
	return true
}

// drop takes an offset out, and reports whether it was in.
func (s *offsets) drop(offset int64) bool {
	if !s.has(offset) {
		return false
	}
	at := offset >> chunkBits
	c := s.chunks[at]
	if c == full { // which others share
		own := *full
		c = &own
		s.chunks[at] = c
	}
	c.words[offset&(chunkSize-1)>>6] &^= uint64(1) << (offset & 63)
	c.count--
	return true
}

// end is behind the highest offset; 0 where there is none.
func (s *offsets) end() (end int64) {
	for at, c := range s.chunks {
		for w, word := range c.words {
			if word != 0 {
				end = max(end, at<<chunkBits+int64(w+1)<<6-int64(bits.LeadingZeros64(word)))
			}
		}
	}
	return end
}

func (s *offsets) has(offset int64) bool {
	c := s.chunks[offset>>chunkBits]
	return c != nil && c.words[offset&(chunkSize-1)>>6]>>(offset&63)&1 != 0
}

// count is the number of offsets in [first, next).
func (s *offsets) count(first, next int64) int64 {
	var n int64
	if (next-first)>>chunkBits > int64(len(s.chunks)) {
		for at, c := range s.chunks {
			if from, to := max(first, at<<chunkBits), min(next, (at+1)<<chunkBits); from < to {
				n += c.countIn(from-at<<chunkBits, to-at<<chunkBits)
			}
		}
		return n
	}
	for at := first; at < next; {
		end := min(next, (at>>chunkBits+1)<<chunkBits)
		if c := s.chunks[at>>chunkBits]; c != nil {
			n += c.countIn(at&(chunkSize-1), end-(at>>chunkBits<<chunkBits))
		}
		at = end
	}
	return n
}

// countIn counts within the chunk: offsets relative to its first.
func (c *chunk) countIn(from, to int64) int64 {
	if from == 0 && to == chunkSize {
		return int64(c.count)
	}
	n := 0
	for w := from >> 6; w <= (to-1)>>6; w++ {
		word := c.words[w]
		if w == from>>6 {
			word &= ^uint64(0) << (from & 63)
		}
		if w == (to-1)>>6 {
			word &= ^uint64(0) >> (63 - (to-1)&63)
		}
		n += bits.OnesCount64(word)
	}
	return int64(n)
}

// lowest is the lowest offset of the set; false where it is empty.
func (s *offsets) lowest() (int64, bool) {
	lowest := int64(-1)
	for at, c := range s.chunks {
		if lowest >= 0 && at > lowest>>chunkBits {
			continue
		}
		for w, word := range c.words {
			if word != 0 {
				lowest = at<<chunkBits + int64(w)<<6 + int64(bits.TrailingZeros64(word))
				break
			}
		}
	}
	return lowest, lowest >= 0
}

// remove takes out what is in the other set.
func (s *offsets) remove(other *offsets) {
	for at, c := range s.chunks {
		o := other.chunks[at]
		if o == nil {
			continue
		}
		left := &chunk{}
		for w, word := range c.words {
			left.words[w] = word &^ o.words[w]
			left.count += bits.OnesCount64(left.words[w])
		}
		s.chunks[at] = left
	}
}

// firstMissing is the first offset in [first, next) that is not in the set.
func (s *offsets) firstMissing(first, next int64) (int64, bool) {
	for at := first; at < next; at++ {
		if at&(chunkSize-1) == 0 && s.chunks[at>>chunkBits] == full {
			at += chunkSize - 1
			continue
		}
		if !s.has(at) {
			return at, true
		}
	}
	return 0, false
}
