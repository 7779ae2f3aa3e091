package datafile

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// levels are the repetition or definition levels of one page. As long as all are the same, only their number is kept.
type levels struct {
	usual uint8
	max   uint8
	n     int
	mixed []uint8 // all of them, once one is not the usual
}

func (l *levels) add(v uint8, n int) {
	if len(l.mixed) == 0 && v == l.usual {
		l.n += n
		return
	}
	if len(l.mixed) == 0 {
		l.mixed = appendSame(l.mixed, l.usual, l.n)
	}
	l.mixed = appendSame(l.mixed, v, n)
	l.n += n
}

func appendSame(to []uint8, v uint8, n int) []uint8 {
	if n == 1 {
		return append(to, v)
	}
	at := len(to)
	to = slices.Grow(to, n)[:at+n]
	for i := range to[at:] {
		to[at+i] = v
	}
	return to
}

// appendTo writes the levels as a data page of version 1 has them, behind their length, and nothing where the column has none.
func (l *levels) appendTo(to []byte) []byte {
	if l.max == 0 {
		return to
	}
	start := len(to)
	to = append(to, 0, 0, 0, 0)
	width := bits.Len8(l.max)
	if len(l.mixed) == 0 {
		to = appendRun(to, uint(l.usual), l.n, width)
	} else {
		to = appendHybrid(to, l.mixed, width)
	}
	binary.LittleEndian.PutUint32(to[start:], uint32(len(to)-start-4))
	return to
}

func (l *levels) reset() { l.n, l.mixed = 0, l.mixed[:0] }

// node is one array on the way from the record batch to a leaf's values.
type node struct {
	step
	list     bool  // a list or map; else a struct or the leaf
	optional bool  // may be null
	defined  uint8 // definition level of what is there
	repeated uint8 // repetition level of the entries but the first
}

// span is a range of the leaf's array.
type span struct{ from, to int }

// shredder turns the rows of a batch into the levels of one leaf and the spans of its values (Dremel's record shredding).
// Only what exists is looked at: neither the children of a null struct nor the elements of a null list.
type shredder struct {
	nodes    []node
	rep, def levels
	spans    []span
	array    arrow.Array // that the spans are of
}

func newShredder(sc *arrow.Schema, l leaf) shredder {
	var s shredder
	f := sc.Field(l.path[0].child)
	var def, rep uint8
	for i, at := range l.path {
		n := node{step: at, optional: f.Nullable, repeated: rep}
		if f.Nullable {
			def++
		}
		n.defined = def
		var next arrow.Field
		switch dt := f.Type.(type) {
		case *arrow.StructType:
			if i+1 < len(l.path) {
				next = dt.Field(l.path[i+1].child)
			}
		case *arrow.ListType:
			n.list, next = true, dt.ElemField()
		case *arrow.MapType:
			n.list, next = true, dt.KeyField()
			if l.path[i+1].kind == stepValue {
				next = dt.ItemField()
			}
		}
		if n.list {
			def++
			rep++
		}
		s.nodes = append(s.nodes, n)
		f = next
	}
	s.def = levels{usual: def, max: def}
	s.rep = levels{max: rep}
	return s
}

// take adds the rows [from, to) of the batch.
func (s *shredder) take(rb arrow.RecordBatch, from, to int) {
	s.spans = s.spans[:0]
	s.array = nil
	s.walk(0, rb.Column(s.nodes[0].child), from, to, 0)
}

// walk adds the entries [from, to) of the array at a node; first is the repetition level of the first of them.
func (s *shredder) walk(k int, a arrow.Array, from, to int, first uint8) {
	n := &s.nodes[k]
	if !n.optional || a.NullN() == 0 {
		s.present(k, a, from, to, first)
		return
	}
	bitmap, offset := a.NullBitmapBytes(), a.Data().Offset()
	for from < to {
		valid, end := sameBits(bitmap, offset+from, offset+to)
		end -= offset
		if valid {
			s.present(k, a, from, end, first)
		} else {
			s.mark(n.defined-1, end-from, first, n.repeated)
		}
		from, first = end, n.repeated
	}
}

// present adds entries that are not null.
func (s *shredder) present(k int, a arrow.Array, from, to int, first uint8) {
	n := &s.nodes[k]
	switch {
	case n.list:
		s.elements(k, a, from, to, first)
	case k+1 < len(s.nodes):
		s.walk(k+1, a.(*array.Struct).Field(s.nodes[k+1].child), from, to, first)
	case from < to:
		s.mark(n.defined, to-from, first, n.repeated)
		s.array = a
		if last := len(s.spans) - 1; last >= 0 && s.spans[last].to == from {
			s.spans[last].to = to
		} else {
			s.spans = append(s.spans, span{from, to})
		}
	}
}

// elements adds the elements of lists or maps that are not null. An empty one has a level of its own.
func (s *shredder) elements(k int, a arrow.Array, from, to int, first uint8) {
	n := &s.nodes[k]
	var offsets []int32
	var child arrow.Array
	switch a := a.(type) {
	case *array.List:
		offsets, child = a.Offsets(), a.ListValues()
	case *array.Map:
		offsets, child = a.Offsets(), a.Keys()
		if s.nodes[k+1].kind == stepValue {
			child = a.Items()
		}
	}
	offset := a.Data().Offset()
	for row := from; row < to; row++ {
		begin, end := int(offsets[offset+row]), int(offsets[offset+row+1])
		if begin == end {
			s.mark(n.defined, 1, first, n.repeated)
		} else {
			s.walk(k+1, child, begin, end, first)
		}
		first = n.repeated
	}
}

// mark adds n entries of one definition level.
func (s *shredder) mark(def uint8, n int, first, others uint8) {
	s.def.add(def, n)
	if s.rep.max > 0 {
		s.rep.add(first, 1)
		if n > 1 {
			s.rep.add(others, n-1)
		}
	}
}

func (s *shredder) reset() {
	s.def.reset()
	s.rep.reset()
}

// sameBits says what the bit at from is, and where in [from, to) the next one differs.
func sameBits(bitmap []byte, from, to int) (set bool, end int) {
	set = bitmap[from/8]>>(from%8)&1 != 0
	for at := from; at < to; {
		word, n := uint64(bitmap[at/8]), 8
		if rest := bitmap[at/8:]; len(rest) >= 8 {
			word, n = binary.LittleEndian.Uint64(rest), 64
		}
		word >>= at % 8
		n -= at % 8
		if set {
			word = ^word
		}
		if same := bits.TrailingZeros64(word); same < n {
			return set, min(at+same, to)
		}
		at += n
	}
	return set, to
}
