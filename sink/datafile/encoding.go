package datafile

import (
	"hash/maphash"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet"
)

// columnEncoding is what a leaf column is written with, for the whole file.
type columnEncoding struct {
	dictionary bool
	encoding   parquet.Encoding // without a dictionary
}

// sampled is what the first rows tell about a leaf column.
type sampled struct {
	values   int     // values looked at, nulls not counted
	nulls    float64 // share of nulls
	distinct float64 // estimated for a row group, not counted in the sample
	bytes    float64 // of an average value
	budget   float64 // largest dictionary, in bytes
}

// chooseEncoding decides from the sample. A dictionary must fit its page with a margin, since one that is given up has cost time for
// nothing, and the values must repeat. Without a dictionary:
// DELTA_LENGTH_BYTE_ARRAY for strings and binary keeps lengths out of the way of the compression (a web_requests row takes
// 1.4 times as long with dictionaries that fall back to PLAIN); DELTA_BINARY_PACKED for integers (a NOT NULL _kafka of
// regular offsets takes a thirtieth of PLAIN's space, and less time). Spark's vectorized reader has both since 3.3.
func chooseEncoding(dt arrow.DataType, s sampled) columnEncoding {
	e := columnEncoding{encoding: parquet.Encodings.Plain}
	switch dt := dt.(type) {
	case *arrow.BooleanType:
		return e
	case *arrow.StringType, *arrow.BinaryType:
		e.encoding = parquet.Encodings.DeltaLengthByteArray
	case *arrow.Int8Type, *arrow.Int16Type, *arrow.Int32Type, *arrow.Int64Type, *arrow.Date32Type, *arrow.TimestampType:
		e.encoding = parquet.Encodings.DeltaBinaryPacked
	case *arrow.Decimal128Type:
		if dt.Precision <= maxIntegerPrecision {
			e.encoding = parquet.Encodings.DeltaBinaryPacked
		}
	}
	if s.values == 0 {
		// Nothing is known yet of a column of nulls. A dictionary of the few values that may come costs nothing.
		e.dictionary = true
		return e
	}
	e.dictionary = s.distinct*s.bytes <= s.budget/2 && s.distinct <= maxDistinct
	return e
}

// maxDistinct is how many distinct values a dictionary may have before it stops paying.
const maxDistinct = 1 << 15

// maxIntegerPrecision is up to where decimals are stored as INT32 or INT64, as Spark does; above it they are byte arrays.
const maxIntegerPrecision = 18

// encoder is the Parquet file being written, but for who holds it.
type encoder struct {
	schema *arrow.Schema
	opts   Options
	tuning tuning
	out    *output
	leaves []leaf

	chunks []chunk
	group  rowGroup
	groups []rowGroupMeta // written
}

// newEncoder begins the file with encodings chosen from the sample.
func newEncoder(sc *arrow.Schema, out *output, opts Options, t tuning, sample []arrow.RecordBatch, totals []bounds) *encoder {
	e := &encoder{schema: sc, opts: opts, tuning: t, out: out, leaves: leavesOf(sc)}
	e.chunks = make([]chunk, len(e.leaves))
	sampler := newSampler(t)
	for i, leaf := range e.leaves {
		enc := t.choose(leaf.dt, sampler.look(leaf, sample))
		e.chunks[i] = chunk{leaf: leaf, shredder: newShredder(sc, leaf), values: newValues(leaf, enc, totals[i], int(t.dictBytes))}
	}
	return e
}

// write encodes rows [from, to) of a batch, which have so many raw bytes.
func (e *encoder) write(rb arrow.RecordBatch, from, to int, raw int64) {
	p := takePacker(codecOf(e.opts.Compression))
	defer p.release()
	e.group.rows += int64(to - from)
	e.group.raw += raw
	e.group.encoded, e.group.pending, e.group.held = 0, 0, 0
	for i := range e.chunks {
		c := &e.chunks[i]
		c.take(rb, from, to, e.tuning.pageBytes, p)
		page, dictionary := c.values.size()
		e.group.pending += int64(page)
		e.group.held += int64(c.values.held())
		e.group.encoded += c.encoded + int64(dictionary)
	}
}

// endRowGroup writes the row group, if it has rows.
func (e *encoder) endRowGroup() {
	if e.group.rows == 0 {
		return
	}
	e.begin()
	p := takePacker(codecOf(e.opts.Compression))
	defer p.release()
	group := rowGroupMeta{rows: e.group.rows, offset: e.out.n, columns: make([]columnMeta, len(e.chunks))}
	for i := range e.chunks {
		group.columns[i] = e.chunks[i].finish(p, e.out)
	}
	e.groups = append(e.groups, group)
	e.group = rowGroup{}
}

// begin writes what a file begins with, once.
func (e *encoder) begin() {
	if e.out.n == 0 {
		e.out.write([]byte(magic))
	}
}

// finish writes what is left: the last row group, the page index and the footer.
func (e *encoder) finish() {
	e.endRowGroup()
	e.begin()
	if e.paged() {
		e.writePageIndex()
	}
	e.out.write(appendFooter(nil, e.schema, e.leaves, e.groups, codecOf(e.opts.Compression), e.opts.Engine))
}

// paged says whether any column chunk has several pages. Without one the page index tells nothing that the footer does not, and would be
// a few percent of a small file. Readers expect it of all columns or of none.
func (e *encoder) paged() bool {
	for _, g := range e.groups {
		for i := range g.columns {
			if len(g.columns[i].pages) > 1 {
				return true
			}
		}
	}
	return false
}

// writePageIndex writes the ranges of all pages, then the places of all pages (PageIndex.md).
func (e *encoder) writePageIndex() {
	indexes := func(index func(i int, c *columnMeta, to []byte) []byte, at func(c *columnMeta) *place) {
		for g := range e.groups {
			for i := range e.groups[g].columns {
				c := &e.groups[g].columns[i]
				written := index(i, c, nil)
				*at(c) = place{e.out.n, int32(len(written))}
				e.out.write(written)
			}
		}
	}
	indexes(func(i int, c *columnMeta, to []byte) []byte {
		if l := e.leaves[i]; !l.repeated && !floating(l.dt) {
			return c.appendColumnIndex(to, l)
		}
		return to
	}, func(c *columnMeta) *place { return &c.columnIndex })
	indexes(func(_ int, c *columnMeta, to []byte) []byte { return c.appendOffsetIndex(to) },
		func(c *columnMeta) *place { return &c.offsetIndex })
}

// rowGroup measures the row group being filled.
type rowGroup struct {
	rows, raw int64
	encoded   int64 // finished pages and the dictionaries, which are held in memory
	pending   int64 // about what the pages being filled will be without compression
	held      int64 // and what they are collected in
}

func (g rowGroup) full(t tuning) bool {
	return g.rows >= t.groupRows || g.raw >= t.groupRaw || g.encoded >= t.groupEncoded
}

// floating says whether a type has NaN. Such columns have no bounds in the Parquet footer: those leave NaN out there, but Spark and
// DataFusion order it above all numbers, and would lose it in a row group by x > 1. Delta's own statistics say nothing of a column
// with NaN. Elements of lists and maps have no bounds either, since few readers prune by them.
func floating(dt arrow.DataType) bool { return dt.ID() == arrow.FLOAT32 || dt.ID() == arrow.FLOAT64 }

// leaf is one Parquet column of the schema.
type leaf struct {
	dt       arrow.DataType
	path     []step   // from the record batch to the array
	names    []string // in Parquet's schema, from below the root
	repeated bool     // under a list or map
}

// step says which child to take.
type step struct {
	kind  stepKind
	child int
}

type stepKind uint8

const (
	stepField stepKind = iota
	stepElement
	stepKey
	stepValue
)

// leavesOf lists the leaf columns in Parquet's order, which is depth first.
func leavesOf(sc *arrow.Schema) []leaf {
	var leaves []leaf
	for i, f := range sc.Fields() {
		leaves = appendLeaves(leaves, leaf{f.Type, []step{{stepField, i}}, []string{f.Name}, false})
	}
	return leaves
}

// appendLeaves appends the leaves at or below one that may be none.
func appendLeaves(to []leaf, at leaf) []leaf {
	down := func(dt arrow.DataType, s step, repeated bool, names ...string) {
		to = appendLeaves(to, leaf{dt, append(slices.Clip(at.path), s), append(slices.Clip(at.names), names...), repeated})
	}
	switch dt := at.dt.(type) {
	case *arrow.StructType:
		for i, f := range dt.Fields() {
			down(f.Type, step{stepField, i}, at.repeated, f.Name)
		}
	case *arrow.ListType:
		down(dt.Elem(), step{stepElement, 0}, true, "list", "element")
	case *arrow.MapType:
		down(dt.KeyType(), step{stepKey, 0}, true, "key_value", "key")
		down(dt.ItemType(), step{stepValue, 0}, true, "key_value", "value")
	default:
		to = append(to, at)
	}
	return to
}

// find walks to the leaf's array and the range in it that the batch's rows refer to.
func (l leaf) find(rb arrow.RecordBatch) (a arrow.Array, from, to int) {
	a = rb.Column(l.path[0].child)
	from, to = 0, a.Len()
	for _, s := range l.path[1:] {
		switch s.kind {
		case stepField:
			a = a.(*array.Struct).Field(s.child)
		case stepElement:
			list := a.(*array.List)
			from, to = listRange(list.Offsets(), list.Data().Offset(), from, to)
			a = list.ListValues()
		default:
			m := a.(*array.Map)
			from, to = listRange(m.Offsets(), m.Data().Offset(), from, to)
			if a = m.Keys(); s.kind == stepValue {
				a = m.Items()
			}
		}
	}
	return a, from, to
}

// sampler counts distinct values, one column after the other.
type sampler struct {
	tuning tuning
	seed   maphash.Seed
	seen   map[uint64]struct{}
}

func newSampler(t tuning) *sampler {
	return &sampler{tuning: t, seed: maphash.MakeSeed(), seen: make(map[uint64]struct{}, t.sampleRows)}
}

func (s *sampler) look(l leaf, sample []arrow.RecordBatch) sampled {
	clear(s.seen)
	rows, values, bytes := 0, 0, 0
	var course []progress // by pieces of the sample, to see whether new values still come
	for _, rb := range sample {
		a, from, to := l.find(rb)
		to = min(to, from+int(s.tuning.sampleRows)-rows)
		piece := max(int(s.tuning.sampleRows)/16, 1)
		for at := from; at < to; at += piece {
			v, b := s.add(a, at, min(at+piece, to))
			values, bytes = values+v, bytes+b
			course = append(course, progress{values, len(s.seen)})
		}
		rows += max(to-from, 0)
	}
	out := sampled{values: values, budget: float64(s.tuning.dictBytes)}
	if rows > 0 {
		out.nulls = 1 - float64(values)/float64(rows)
	}
	if values > 0 {
		out.distinct = estimateDistinct(course, float64(s.tuning.groupRows)*(1-out.nulls))
		out.bytes = float64(bytes) / float64(values)
	}
	return out
}

// add hashes the values of a[from:to] and says how many there are and how large they are in a dictionary.
func (s *sampler) add(a arrow.Array, from, to int) (values, bytes int) {
	each := func(size func(i int) int) {
		for i := from; i < to; i++ {
			if a.IsValid(i) {
				values++
				bytes += size(i)
			}
		}
	}
	hash := func(v []byte) int {
		s.seen[maphash.Bytes(s.seed, v)] = struct{}{}
		return len(v)
	}
	switch a := a.(type) {
	case *array.String:
		each(func(i int) int {
			s.seen[maphash.String(s.seed, a.Value(i))] = struct{}{}
			return 4 + len(a.Value(i))
		})
	case *array.Binary:
		each(func(i int) int { return 4 + hash(a.Value(i)) })
	case *array.Boolean:
	default:
		width := a.DataType().(arrow.FixedWidthDataType).Bytes()
		if values := a.Data().Buffers()[1]; values != nil {
			data := values.Bytes()[a.Data().Offset()*width:]
			each(func(i int) int { return hash(data[i*width : (i+1)*width]) })
		}
	}
	return values, bytes
}

// progress is how many distinct values there were after so many values.
type progress struct{ values, distinct int }

// estimateDistinct guesses how many distinct values a row group of so many values will have. There are two kinds of
// columns. Where values are drawn from a set, new ones get rare: n draws of D equally frequent values show D*(1-exp(-n/D))
// of them, which gives D. Where values go with time, such as offsets, new ones come at a steady pace for ever.
func estimateDistinct(course []progress, expected float64) float64 {
	end := course[len(course)-1]
	d, n := float64(end.distinct), float64(end.values)
	if d >= n {
		return expected
	}
	for _, half := range course {
		if 2*half.values >= end.values {
			before := float64(half.distinct)
			if end.values > half.values && (d-before)/d > steadyPace*(n-float64(half.values))/n {
				return d * max(expected/n, 1)
			}
			break
		}
	}
	low, high := d, d
	show := func(total float64) float64 { return total * -math.Expm1(-n/total) }
	for show(high) < d && high < expected {
		high *= 2
	}
	for range 50 {
		if mid := (low + high) / 2; show(mid) < d {
			low = mid
		} else {
			high = mid
		}
	}
	return high
}

// steadyPace is from what share of the whole sample's pace on the later half's pace counts as steady.
const steadyPace = 0.85
