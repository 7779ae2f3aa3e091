package datafile

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// statistics gathers Delta's per-file statistics: rows and nulls from the Arrow arrays, bounds from the columns' encoders, which
// see each value anyway, and of a dictionary only its entries.
type statistics struct {
	columns []*column
	totals  []bounds // by leaf of the Parquet schema, nil for those without
	tight   bool
	words   [][]uint64
}

// column is one column of the table or one field of a struct column.
type column struct {
	name     string
	path     string
	required bool
	fields   []*column // of a struct
	elements []*column // what a list or map holds, only where something in there is NOT NULL

	indexed bool   // among the columns that get statistics; never a struct itself
	nulls   int64  // a null parent makes a null
	bounds  bounds // nil when the type has none
}

// bounds is the range of one column's values. How they get in depends on the type.
type bounds interface {
	// appendMin and appendMax append the bound as JSON. Without a bound that is safe to give they append nothing.
	appendMin(to []byte) []byte
	appendMax(to []byte) []byte
}

func newStatistics(sc *arrow.Schema, indexed []bool, tight bool) *statistics {
	s := &statistics{tight: tight}
	for _, f := range sc.Fields() {
		s.columns = append(s.columns, newColumn(f, f.Name))
	}
	s.index(sc.Fields(), s.columns, indexed, 0)
	return s
}

func newColumn(f arrow.Field, path string) *column {
	c := &column{name: f.Name, path: path, required: !f.Nullable}
	element := func(f arrow.Field, name string) {
		if e := newColumn(f, path+"."+name); e.demands() {
			c.elements = append(c.elements, e)
		} else {
			c.elements = append(c.elements, nil)
		}
	}
	switch dt := f.Type.(type) {
	case *arrow.StructType:
		for _, child := range dt.Fields() {
			c.fields = append(c.fields, newColumn(child, path+"."+child.Name))
		}
	case *arrow.ListType:
		element(dt.ElemField(), "element")
	case *arrow.MapType:
		element(dt.KeyField(), "key")
		element(dt.ItemField(), "value")
	}
	return c
}

// demands says whether the column or anything in it is NOT NULL.
func (c *column) demands() bool {
	if c.required {
		return true
	}
	for _, group := range [][]*column{c.fields, c.elements} {
		for _, f := range group {
			if f != nil && f.demands() {
				return true
			}
		}
	}
	return false
}

// index marks the leaves that get statistics (Options.Stats), from the given leaf on, and returns the next leaf. A list or map is one
// leaf of them, but has several in Parquet's schema.
func (s *statistics) index(fields []arrow.Field, columns []*column, indexed []bool, at int) int {
	for i, c := range columns {
		if dt, ok := fields[i].Type.(*arrow.StructType); ok {
			at = s.index(dt.Fields(), c.fields, indexed, at)
			continue
		}
		c.indexed = indexed == nil || indexed[at]
		at++
		if c.indexed {
			c.bounds = newBounds(fields[i].Type)
		}
		for range appendLeaves(nil, leaf{dt: fields[i].Type}) {
			s.totals = append(s.totals, c.bounds)
		}
	}
	return at
}

// observe takes a batch in. It fails on a null in a NOT NULL column.
func (s *statistics) observe(rb arrow.RecordBatch) error {
	for i, c := range s.columns {
		if err := s.column(c, rb.Column(i), nil, 0); err != nil {
			return err
		}
	}
	return nil
}

// column takes one array in, of which the rows set in parent exist; nil stands for all.
func (s *statistics) column(c *column, a arrow.Array, parent []uint64, depth int) error {
	valid := s.valid(a, parent, depth)
	n := a.Len()
	if c.required {
		if row, found := missing(n, parent, valid); found {
			return fmt.Errorf("row %d of the batch: column %s is NOT NULL but has a null", row, c.path)
		}
	}
	if c.indexed {
		set := n
		if valid != nil {
			set = popcount(valid)
		}
		c.nulls += int64(n - set)
	}
	for i, f := range c.fields {
		if err := s.column(f, a.(*array.Struct).Field(i), valid, depth+1); err != nil {
			return err
		}
	}
	for i, e := range c.elements {
		if e == nil {
			continue
		}
		if err := s.elements(e, a, i, valid, depth); err != nil {
			return err
		}
	}
	return nil
}

// elements looks for nulls among the elements of the lists or maps in a.
func (s *statistics) elements(e *column, a arrow.Array, child int, valid []uint64, depth int) error {
	var values arrow.Array
	var offsets []int32
	switch a := a.(type) {
	case *array.List:
		values, offsets = a.ListValues(), a.Offsets()
	case *array.Map:
		if values, offsets = a.Keys(), a.Offsets(); child == 1 {
			values = a.Items()
		}
	}
	if a.Len() == 0 || len(offsets) == 0 {
		return nil
	}
	offsets = offsets[a.Data().Offset():]
	first, last := int(offsets[0]), int(offsets[a.Len()])
	if first == last {
		return nil
	}
	part := array.NewSlice(values, int64(first), int64(last))
	defer part.Release()
	// Elements of null lists do not exist, though there may be some in the buffer.
	var exist []uint64
	if valid != nil {
		exist = make([]uint64, (last-first+63)/64)
		for row := range a.Len() {
			if valid[row/64]&(1<<(row%64)) != 0 {
				for i := int(offsets[row]) - first; i < int(offsets[row+1])-first; i++ {
					exist[i/64] |= 1 << (i % 64)
				}
			}
		}
	}
	return s.column(e, part, exist, depth+1)
}

// valid gives the rows that have a value: those of parent that are not null in a. Nil stands for all. The slice is good
// until the next call with the same depth.
func (s *statistics) valid(a arrow.Array, parent []uint64, depth int) []uint64 {
	if a.NullN() == 0 {
		return parent
	}
	for len(s.words) <= depth {
		s.words = append(s.words, nil)
	}
	n := (a.Len() + 63) / 64
	if cap(s.words[depth]) < n {
		s.words[depth] = make([]uint64, n)
	}
	words := s.words[depth][:n]
	loadBits(words, a.NullBitmapBytes(), a.Data().Offset(), a.Len())
	for i := range parent {
		words[i] &= parent[i]
	}
	return words
}

// loadBits reads n bits from a bit offset on, in Arrow's order, and clears the bits after them.
func loadBits(to []uint64, bitmap []byte, offset, n int) {
	for k := range to {
		start := offset + 64*k
		from, shift := bitmap[start/8:], start%8
		var w uint64
		if len(from) >= 8 {
			w = binary.LittleEndian.Uint64(from) >> shift
			if shift > 0 && len(from) > 8 {
				w |= uint64(from[8]) << (64 - shift)
			}
		} else {
			for i, b := range from {
				w |= uint64(b) << (8 * i)
			}
			w >>= shift
		}
		if left := n - 64*k; left < 64 {
			w &= 1<<left - 1
		}
		to[k] = w
	}
}

func popcount(words []uint64) (n int) {
	for _, w := range words {
		n += bits.OnesCount64(w)
	}
	return n
}

// missing finds the first row that exists but has no value.
func missing(n int, parent, valid []uint64) (row int, found bool) {
	if valid == nil {
		return 0, false
	}
	for k, w := range valid {
		exist := ^uint64(0)
		if parent != nil {
			exist = parent[k]
		} else if left := n - 64*k; left < 64 {
			exist = 1<<left - 1
		}
		if gone := exist &^ w; gone != 0 {
			return 64*k + bits.TrailingZeros64(gone), true
		}
	}
	return 0, false
}

// json renders the statistics (PROTOCOL.md, "Per-file Statistics").
func (s *statistics) json(rows int64) string {
	out := append([]byte(`{"numRecords":`), strconv.FormatInt(rows, 10)...)
	for _, part := range []struct {
		name string
		leaf func(*column, []byte) []byte
	}{
		{"minValues", (*column).appendMin},
		{"maxValues", (*column).appendMax},
		{"nullCount", (*column).appendNulls},
	} {
		out = append(out, `,"`+part.name+`":`...)
		var found bool
		if out, found = appendObject(out, s.columns, part.leaf); !found {
			out = append(out, "{}"...)
		}
	}
	if s.tight {
		out = append(out, `,"tightBounds":true`...)
	}
	return string(append(out, '}'))
}

// appendObject renders one kind of value of the columns that have it, structs as objects. Without any it appends nothing.
func appendObject(to []byte, columns []*column, leaf func(*column, []byte) []byte) (out []byte, found bool) {
	start := len(to)
	for _, c := range columns {
		mark := len(to)
		if to = append(to, ','); !found {
			to[mark] = '{'
		}
		to = append(appendString(to, c.name), ':')
		before := len(to)
		if c.fields != nil {
			to, _ = appendObject(to, c.fields, leaf)
		} else if c.indexed {
			to = leaf(c, to)
		}
		if len(to) == before {
			to = to[:mark]
			continue
		}
		found = true
	}
	if !found {
		return to[:start], false
	}
	return append(to, '}'), true
}

func (c *column) appendNulls(to []byte) []byte { return strconv.AppendInt(to, c.nulls, 10) }

func (c *column) appendMin(to []byte) []byte {
	if c.bounds == nil {
		return to
	}
	return c.bounds.appendMin(to)
}

func (c *column) appendMax(to []byte) []byte {
	if c.bounds == nil {
		return to
	}
	return c.bounds.appendMax(to)
}
