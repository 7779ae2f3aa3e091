package datafile

import (
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/apache/arrow-go/v18/parquet/schema"
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

// chooseEncoding decides from the sample. A dictionary must fit its page with a margin, because past the limit arrow-go
// falls back to PLAIN, never to the better encodings below, and the values must repeat. Without a dictionary:
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

// encoder is the Parquet writer and the care it needs.
type encoder struct {
	*pqarrow.FileWriter
	pageBytes int64
	texts     []deltaTexts

	group rowGroup
	dicts int64 // expected size of all dictionaries of a row group
}

// deltaTexts follows a column with DELTA_LENGTH_BYTE_ARRAY that may have nulls.
//
// arrow-go v18.8.0 must not finish a page of nulls alone in such a column when the row group has an earlier page of it:
// deltaBitPackEncoder.FlushValues then takes the length of the earlier page for that of the empty one, and panics or
// writes what lies behind it in the buffer. Such a page can only come about at the row group's end, when nulls follow the
// page that was cut last. So before nulls follow one the row group ends, and its successor has new encoders.
type deltaTexts struct {
	leaf leaf
	page int64 // bytes of the values in the page being filled, as arrow-go counts them
	cut  bool  // a page was cut and no value came since
}

// write encodes rows of so many raw bytes. They are one step of every column writer, after which pages may be cut.
func (e *encoder) write(rb arrow.RecordBatch, raw int64) error {
	for i := range e.texts {
		if t := &e.texts[i]; t.cut {
			if values, _ := t.leaf.measure(rb); values == 0 {
				if err := e.nextRowGroup(); err != nil {
					return err
				}
				break
			}
		}
	}
	if err := e.WriteBuffered(rb); err != nil {
		return fmt.Errorf("encoding rows: %w", err)
	}
	for i := range e.texts {
		t := &e.texts[i]
		values, size := t.leaf.measure(rb)
		t.page += size
		if t.page >= e.pageBytes {
			t.page, t.cut = 0, true
		} else if values > 0 {
			t.cut = false
		}
	}
	e.group.rows += rb.NumRows()
	e.group.raw += raw
	e.group.encoded = e.RowGroupTotalCompressedBytes()
	return nil
}

func (e *encoder) nextRowGroup() error {
	for i := range e.texts {
		e.texts[i].page, e.texts[i].cut = 0, false
	}
	e.group = rowGroup{}
	if err := e.NewBufferedRowGroupChecked(); err != nil {
		return fmt.Errorf("starting a row group: %w", err)
	}
	return nil
}

// rowGroup measures the row group being filled.
type rowGroup struct {
	rows, raw int64
	encoded   int64 // compressed pages held in memory
}

func (g rowGroup) full(t tuning) bool {
	return g.rows >= t.groupRows || g.raw >= t.groupRaw || g.encoded >= t.groupEncoded
}

// newEncoder opens the Parquet writer with encodings chosen from the sample.
func newEncoder(sc *arrow.Schema, w io.Writer, opts Options, t tuning, sample []arrow.RecordBatch) (*encoder, error) {
	props := []parquet.WriterProperty{
		parquet.WithAllocator(t.allocator),
		parquet.WithCreatedBy(createdBy(opts.Engine)),
		parquet.WithVersion(parquet.V2_6),
		parquet.WithDataPageVersion(parquet.DataPageV1),
		parquet.WithDataPageSize(t.pageBytes),
		parquet.WithDictionaryPageSizeLimit(t.dictBytes),
		parquet.WithBatchSize(t.encodeRows),
		parquet.WithMaxRowGroupLength(math.MaxInt64),
		parquet.WithStoreDecimalAsInteger(true),
		parquet.WithStats(t.parquetStats),
		parquet.WithRootName("schema"),
	}
	switch opts.Compression {
	case "", "zstd":
		props = append(props, parquet.WithCompression(compress.Codecs.Zstd), parquet.WithCompressionLevel(1))
	case "snappy":
		props = append(props, parquet.WithCompression(compress.Codecs.Snappy))
	}
	// No ARROW:schema in the footer: readers that trust it would take types that the Parquet schema does not say.
	arrowProps := pqarrow.NewArrowWriterProperties(pqarrow.WithAllocator(t.allocator))

	parquetSchema, err := pqarrow.ToParquet(sc, parquet.NewWriterProperties(props...), arrowProps)
	if err != nil {
		return nil, fmt.Errorf("mapping the schema to Parquet: %w", err)
	}
	e := &encoder{pageBytes: t.pageBytes}
	props = append(props, e.columnProperties(sc, parquetSchema, t, sample)...)
	e.FileWriter, err = pqarrow.NewFileWriter(sc, w, parquet.NewWriterProperties(props...), arrowProps)
	if err != nil {
		return nil, fmt.Errorf("starting the Parquet file: %w", err)
	}
	return e, nil
}

// columnProperties gives every leaf column its encoding.
func (e *encoder) columnProperties(sc *arrow.Schema, ps *schema.Schema, t tuning, sample []arrow.RecordBatch) (props []parquet.WriterProperty) {
	leaves := leavesOf(sc)
	// Properties go by dotted path, in which a column named `a.b` is the field b of a. Such twins keep the defaults.
	count := make(map[string]int)
	for i := range leaves {
		count[ps.Column(i).Path()]++
	}
	sampler := newSampler(t)
	for i, leaf := range leaves {
		path := ps.Column(i).Path()
		if count[path] > 1 {
			props = append(props, parquet.WithStatsFor(path, false))
			continue
		}
		seen := sampler.look(leaf, sample)
		enc := t.choose(leaf.dt, seen)
		optional := ps.Column(i).MaxDefinitionLevel() > 0
		if enc.encoding != parquet.Encodings.Plain && optional && !leaf.safeInDelta(seen) {
			enc.encoding = parquet.Encodings.Plain
		}
		if enc.dictionary {
			e.dicts += min(t.dictBytes, int64(min(seen.distinct, float64(t.groupRows))*seen.bytes))
		} else if enc.encoding != parquet.Encodings.Plain && optional {
			e.texts = append(e.texts, deltaTexts{leaf: leaf})
		}
		props = append(props, parquet.WithDictionaryFor(path, enc.dictionary), parquet.WithEncodingFor(path, enc.encoding))
		if floating := leaf.dt.ID() == arrow.FLOAT32 || leaf.dt.ID() == arrow.FLOAT64; leaf.repeated || floating {
			// arrow-go writes min=MaxInt64, max=MinInt64 for an all-null integer under a list or map, and readers prune
			// by it. Few prune by elements of lists, so none of them get Parquet statistics.
			// Parquet's bounds leave NaN out, but Spark and DataFusion order it above all numbers, and would lose it in
			// a row group by x > 1. Delta's own statistics say nothing of a column with NaN.
			props = append(props, parquet.WithStatsFor(path, false))
		}
	}
	return props
}

// safeInDelta says whether a column that may have nulls can have a delta encoding: where the pages of nulls alone that
// arrow-go cannot write (see deltaTexts) can be foreseen, and are rare.
func (l leaf) safeInDelta(s sampled) bool {
	const mostNulls = 0.5
	return arrow.IsBinaryLike(l.dt.ID()) && !l.repeated && s.nulls <= mostNulls
}

// createdBy has the form "name version 1.2.3 (build x)" that readers parse; parquet-mr ignores the statistics of a file
// whose writer it cannot parse.
func createdBy(engine string) string {
	name, version, _ := strings.Cut(engine, "/")
	if name == "" {
		name = "kafkadelta"
	}
	if version == "" {
		version = "0.0.0"
	}
	return fmt.Sprintf("%s version %s (build arrow-go-%s)", name, version, arrow.PkgVersion)
}

// leaf is one Parquet column of the schema.
type leaf struct {
	dt       arrow.DataType
	path     []step // from the record batch to the array
	repeated bool   // under a list or map
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
		leaves = appendLeaves(leaves, f.Type, []step{{stepField, i}}, false)
	}
	return leaves
}

func appendLeaves(to []leaf, dt arrow.DataType, path []step, repeated bool) []leaf {
	down := func(s step) []step { return append(slices.Clip(path), s) }
	switch dt := dt.(type) {
	case *arrow.StructType:
		for i, f := range dt.Fields() {
			to = appendLeaves(to, f.Type, down(step{stepField, i}), repeated)
		}
	case *arrow.ListType:
		to = appendLeaves(to, dt.Elem(), down(step{stepElement, 0}), true)
	case *arrow.MapType:
		to = appendLeaves(to, dt.KeyType(), down(step{stepKey, 0}), true)
		to = appendLeaves(to, dt.ItemType(), down(step{stepValue, 0}), true)
	default:
		to = append(to, leaf{dt, path, repeated})
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

// measure counts the values of a string or binary leaf that is not repeated, and their bytes.
func (l leaf) measure(rb arrow.RecordBatch) (values int, size int64) {
	chain := make([]arrow.Array, 1, 8)
	chain[0] = rb.Column(l.path[0].child)
	nulls := chain[0].NullN()
	for _, s := range l.path[1:] {
		child := chain[len(chain)-1].(*array.Struct).Field(s.child)
		chain = append(chain, child)
		nulls += child.NullN()
	}
	n := chain[0].Len()
	offsets := chain[len(chain)-1].(interface{ ValueOffsets() []int32 }).ValueOffsets()
	if nulls == 0 {
		return n, int64(offsets[n] - offsets[0])
	}
rows:
	for row := range n {
		for _, a := range chain {
			if a.IsNull(row) {
				continue rows
			}
		}
		values++
		size += int64(offsets[row+1] - offsets[row])
	}
	return values, size
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
