package datafile

import (
	"fmt"
	"hash/maphash"
	"io"
	"math"
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
	plainest   parquet.Encoding // without a dictionary
}

// sampled is what the first rows tell about a leaf column.
type sampled struct {
	values   int     // values looked at, nulls not counted
	nulls    float64 // share of nulls
	distinct float64 // estimated for the whole column, not counted in the sample
	bytes    float64 // of an average value
	budget   float64 // largest dictionary, in bytes
}

// chooseEncoding decides from the sample. A dictionary must fit its page with a margin, because past the limit arrow-go
// falls back to PLAIN, never to the better encodings below, and the values must repeat. Without a dictionary:
// DELTA_LENGTH_BYTE_ARRAY for strings and binary keeps lengths out of the way of the compression (1.46 times as fast as
// PLAIN with zstd on UUIDs, and smaller); DELTA_BINARY_PACKED for integers.
func chooseEncoding(dt arrow.DataType, s sampled) columnEncoding {
	e := columnEncoding{plainest: parquet.Encodings.Plain}
	switch dt := dt.(type) {
	case *arrow.BooleanType:
		return e
	case *arrow.StringType, *arrow.BinaryType:
		e.plainest = parquet.Encodings.DeltaLengthByteArray
	case *arrow.Int8Type, *arrow.Int16Type, *arrow.Int32Type, *arrow.Int64Type, *arrow.Date32Type, *arrow.TimestampType:
		e.plainest = parquet.Encodings.DeltaBinaryPacked
	case *arrow.Decimal128Type:
		if dt.Precision <= maxIntegerPrecision {
			e.plainest = parquet.Encodings.DeltaBinaryPacked
		}
	}
	if s.values == 0 {
		// Nothing is known yet of a column of nulls. A dictionary of the few values that may come costs nothing.
		e.dictionary = true
		return e
	}
	e.dictionary = s.distinct*s.bytes <= s.budget/2 && s.distinct <= maxDistinct(dt)
	return e
}

// maxDistinct is how many distinct values a dictionary may have before it stops paying.
func maxDistinct(dt arrow.DataType) float64 {
	return 1 << 15
}

// maxIntegerPrecision is up to where decimals are stored as INT32 or INT64, as Spark does; above it they are byte arrays.
const maxIntegerPrecision = 18

// encoder is the Parquet writer and the care it needs.
type encoder struct {
	*pqarrow.FileWriter

	// delta holds the columns with a delta encoding that may have nulls, and cut those of them that may have got no value
	// since their last page was finished.
	//
	// arrow-go v18.8.0 must not finish a page of nulls alone in such a column when the row group has an earlier page of
	// it: deltaBitPackEncoder.FlushValues then takes the length of the earlier page for that of the empty one, and panics
	// or writes what lies behind the buffer's end. The way out is a new row group, which has new encoders.
	delta []leaf
	cut   []bool

	group rowGroup
	dicts int64 // expected size of all dictionaries of a row group
}

// rowGroup measures the row group being filled.
type rowGroup struct {
	rows, raw int64
	encoded   int64 // compressed pages held in memory
}

func (g rowGroup) full(t tuning) bool {
	return g.rows >= t.groupRows || g.raw >= t.groupRaw || g.encoded >= t.groupEncoded
}

// write encodes rows of so many raw bytes, which are one step of every column writer.
func (e *encoder) write(rb arrow.RecordBatch, raw int64) error {
	for i, l := range e.delta {
		if !e.cut[i] {
			continue
		}
		if !l.anyValue(rb) {
			if err := e.nextRowGroup(); err != nil {
				return err
			}
			break
		}
		e.cut[i] = false
	}
	before := e.group.encoded
	if err := e.WriteBuffered(rb); err != nil {
		return fmt.Errorf("encoding rows: %w", err)
	}
	e.group.rows += rb.NumRows()
	e.group.raw += raw
	e.group.encoded = e.RowGroupTotalCompressedBytes()
	if e.group.encoded != before { // some column has finished a page; which one does not show
		for i := range e.cut {
			e.cut[i] = true
		}
	}
	return nil
}

func (e *encoder) nextRowGroup() error {
	clear(e.cut)
	e.group = rowGroup{}
	if err := e.NewBufferedRowGroupChecked(); err != nil {
		return fmt.Errorf("starting a row group: %w", err)
	}
	return nil
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
	e := &encoder{}
	props = append(props, e.columnProperties(sc, parquetSchema, t, sample)...)
	e.FileWriter, err = pqarrow.NewFileWriter(sc, w, parquet.NewWriterProperties(props...), arrowProps)
	if err != nil {
		return nil, fmt.Errorf("starting the Parquet file: %w", err)
	}
	return e, nil
}

// columnProperties gives every leaf column its encoding, and notes those with a delta encoding that may have nulls.
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
		if leaf.repeated || seen.nulls > mostNulls {
			// A page of nulls alone would be likely here; see encoder.
			enc.plainest = parquet.Encodings.Plain
		}
		if enc.dictionary {
			e.dicts += min(t.dictBytes, int64(min(seen.distinct, float64(t.groupRows))*seen.bytes))
		} else if enc.plainest != parquet.Encodings.Plain && ps.Column(i).MaxDefinitionLevel() > 0 {
			e.delta = append(e.delta, leaf)
		}
		props = append(props, parquet.WithDictionaryFor(path, enc.dictionary), parquet.WithEncodingFor(path, enc.plainest))
		if leaf.repeated {
			// arrow-go writes min=MaxInt64, max=MinInt64 for an all-null integer under a list or map, and readers prune
			// by it. Few prune by elements of lists, so none of them get Parquet statistics.
			props = append(props, parquet.WithStatsFor(path, false))
		}
	}
	e.cut = make([]bool, len(e.delta))
	return props
}

// mostNulls is the share of nulls from which on a column gets no delta encoding.
const mostNulls = 0.9

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
	down := func(s step) []step { return append(path[:len(path):len(path)], s) }
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

// anyValue says whether a leaf that is not repeated has a value in any row.
func (l leaf) anyValue(rb arrow.RecordBatch) bool {
	top := rb.Column(l.path[0].child)
	if len(l.path) == 1 {
		return top.NullN() < top.Len()
	}
rows:
	for row := range top.Len() {
		a := top
		for _, s := range l.path[1:] {
			if a.IsNull(row) {
				continue rows
			}
			a = a.(*array.Struct).Field(s.child)
		}
		if a.IsValid(row) {
			return true
		}
	}
	return false
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
	for _, rb := range sample {
		a, from, to := l.find(rb)
		to = min(to, from+int(s.tuning.sampleRows)-rows)
		v, b := s.add(a, from, to)
		rows, values, bytes = rows+to-from, values+v, bytes+b
	}
	out := sampled{values: values, budget: float64(s.tuning.dictBytes)}
	if rows > 0 {
		out.nulls = 1 - float64(values)/float64(rows)
	}
	if values > 0 {
		out.distinct = estimateDistinct(float64(len(s.seen)), float64(values))
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

// estimateDistinct guesses how many distinct values a column has of which a sample of n shows d, taking all to be equally
// frequent: n draws of D values show D*(1-exp(-n/D)) of them. It errs on the low side where they are not.
func estimateDistinct(d, n float64) float64 {
	if d >= n {
		return math.Inf(1)
	}
	low, high := d, d
	show := func(total float64) float64 { return total * -math.Expm1(-n/total) }
	for show(high) < d && high < 1e12 {
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
