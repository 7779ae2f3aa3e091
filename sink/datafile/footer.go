package datafile

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
)

// The numbers of parquet.thrift.
const (
	physicalBoolean = 0
	physicalInt32   = 1
	physicalInt64   = 2
	physicalFloat   = 4
	physicalDouble  = 5
	physicalBinary  = 6
	physicalFixed   = 7

	required = 0
	optional = 1
	repeated = 2

	dataPage       = 0
	dictionaryPage = 2

	unordered  = 0
	ascending  = 1
	descending = 2
)

// magic begins and ends a Parquet file.
const magic = "PAR1"

// physicalType is how Parquet stores a type (LogicalTypes.md).
func physicalType(dt arrow.DataType) int32 {
	switch dt := dt.(type) {
	case *arrow.BooleanType:
		return physicalBoolean
	case *arrow.Int8Type, *arrow.Int16Type, *arrow.Int32Type, *arrow.Date32Type:
		return physicalInt32
	case *arrow.Int64Type, *arrow.TimestampType:
		return physicalInt64
	case *arrow.Float32Type:
		return physicalFloat
	case *arrow.Float64Type:
		return physicalDouble
	case *arrow.Decimal128Type:
		switch {
		case dt.Precision <= maxInt32Precision:
			return physicalInt32
		case dt.Precision <= maxIntegerPrecision:
			return physicalInt64
		}
		return physicalFixed
	}
	return physicalBinary
}

// maxInt32Precision is up to where decimals are stored as INT32.
const maxInt32Precision = 9

// rowGroupMeta is what the footer says of one row group.
type rowGroupMeta struct {
	rows    int64
	offset  int64
	columns []columnMeta
}

// columnMeta is what the footer and the page index say of one column chunk.
type columnMeta struct {
	values               int64 // levels, nulls included
	nulls                int64
	dictionary           int64 // offset of the dictionary page, 0 for none
	compressed, unpacked int64 // bytes, page headers included
	pages                []pageMeta
	bounds               valueRange

	columnIndex, offsetIndex place
}

// pageMeta is what the page index says of one data page.
type pageMeta struct {
	offset   int64
	bytes    int // header included
	firstRow int64
	nulls    int64
	empty    bool // nothing but nulls
	encoding parquet.Encoding
	bounds   valueRange
}

// place is where something is in the file.
type place struct {
	offset int64
	bytes  int32
}

// appendPageHeader writes the header of a page (parquet.thrift, PageHeader).
func appendPageHeader(to []byte, kind int32, unpacked, packed, values int, encoding parquet.Encoding) []byte {
	t := thrift{to: to}
	t.i32(1, kind)
	t.i32(2, int32(unpacked))
	t.i32(3, int32(packed))
	if kind == dictionaryPage {
		t.structure(7)
		t.i32(1, int32(values))
		t.i32(2, int32(encoding))
	} else {
		t.structure(5)
		t.i32(1, int32(values))
		t.i32(2, int32(encoding))
		t.i32(3, int32(parquet.Encodings.RLE)) // of definition and
		t.i32(4, int32(parquet.Encodings.RLE)) // repetition levels
	}
	t.end()
	t.end()
	return t.to
}

// appendColumnIndex writes the range of each page (PageIndex.md), unless a page has none to give.
func (c *columnMeta) appendColumnIndex(to []byte, l leaf) []byte {
	var low, hi []string
	for i := range c.pages {
		p := &c.pages[i]
		if !p.bounds.ok && !p.empty {
			return to
		}
		if !p.empty {
			low, hi = append(low, p.bounds.low), append(hi, p.bounds.hi)
		}
	}
	t := thrift{to: to}
	t.list(1, thriftTrue, len(c.pages))
	for i := range c.pages {
		if c.pages[i].empty {
			t.to = append(t.to, thriftTrue)
		} else {
			t.to = append(t.to, thriftFalse)
		}
	}
	t.list(2, thriftBinary, len(c.pages))
	for i := range c.pages {
		t.element(c.pages[i].bounds.low)
	}
	t.list(3, thriftBinary, len(c.pages))
	for i := range c.pages {
		t.element(c.pages[i].bounds.hi)
	}
	t.i32(4, boundaryOrder(l, low, hi))
	t.list(5, thriftI64, len(c.pages))
	for i := range c.pages {
		t.varint(c.pages[i].nulls)
	}
	t.end()
	return t.to
}

// boundaryOrder says how the bounds of the pages that have some are sorted.
func boundaryOrder(l leaf, low, hi []string) int32 {
	up, down := true, true
	for i := 1; i < len(low); i++ {
		a, b := compareStored(l, low[i-1], low[i]), compareStored(l, hi[i-1], hi[i])
		up, down = up && a <= 0 && b <= 0, down && a >= 0 && b >= 0
	}
	switch {
	case len(low) > 0 && up:
		return ascending
	case len(low) > 0 && down:
		return descending
	}
	return unordered
}

// compareStored compares two values in the type's order, as they are stored.
func compareStored(l leaf, a, b string) int {
	switch physicalType(l.dt) {
	case physicalInt32, physicalInt64:
		return compareBigEndian(reversed(a), reversed(b))
	case physicalFixed:
		return compareBigEndian([]byte(a), []byte(b))
	}
	return strings.Compare(a, b)
}

func reversed(v string) []byte {
	out := make([]byte, len(v))
	for i := range out {
		out[i] = v[len(v)-1-i]
	}
	return out
}

// compareBigEndian compares signed numbers of the same width.
func compareBigEndian(a, b []byte) int {
	if len(a) > 0 && len(b) > 0 && a[0]>>7 != b[0]>>7 {
		return int(b[0]>>7) - int(a[0]>>7)
	}
	return bytes.Compare(a, b)
}

// appendOffsetIndex writes where each page is (PageIndex.md).
func (c *columnMeta) appendOffsetIndex(to []byte) []byte {
	t := thrift{to: to}
	t.list(1, thriftStruct, len(c.pages))
	for i := range c.pages {
		p := &c.pages[i]
		t.begin()
		t.i64(1, p.offset)
		t.i32(2, int32(p.bytes))
		t.i64(3, p.firstRow)
		t.end()
	}
	t.end()
	return t.to
}

// appendFooter writes the metadata of the file (parquet.thrift, FileMetaData), its length and the magic.
func appendFooter(to []byte, sc *arrow.Schema, leaves []leaf, groups []rowGroupMeta, codec int32, engine string) []byte {
	start := len(to)
	t := &thrift{to: to}
	t.i32(1, 2) // the version that writers with the encodings of format 2 state
	t.list(2, thriftStruct, countElements(sc))
	appendSchema(t, sc)
	rows := int64(0)
	for i := range groups {
		rows += groups[i].rows
	}
	t.i64(3, rows)
	t.list(4, thriftStruct, len(groups))
	for i := range groups {
		appendRowGroup(t, &groups[i], i, leaves, codec)
	}
	t.text(6, createdBy(engine))
	t.list(7, thriftStruct, len(leaves))
	for range leaves {
		t.begin()
		t.empty(1) // TYPE_ORDER: the order that the logical type defines
		t.end()
	}
	t.end()
	to = binary.LittleEndian.AppendUint32(t.to, uint32(len(t.to)-start))
	return append(to, magic...)
}

func appendRowGroup(t *thrift, g *rowGroupMeta, ordinal int, leaves []leaf, codec int32) {
	var compressed, unpacked int64
	for i := range g.columns {
		compressed += g.columns[i].compressed
		unpacked += g.columns[i].unpacked
	}
	t.begin()
	t.list(1, thriftStruct, len(g.columns))
	for i := range g.columns {
		appendColumn(t, &g.columns[i], leaves[i], codec)
	}
	t.i64(2, unpacked)
	t.i64(3, g.rows)
	t.i64(5, g.offset)
	t.i64(6, compressed)
	if ordinal == int(int16(ordinal)) {
		t.i16(7, int16(ordinal))
	}
	t.end()
}

func appendColumn(t *thrift, c *columnMeta, l leaf, codec int32) {
	first := c.pages[0].offset
	t.begin()
	t.i64(2, 0) // deprecated
	t.structure(3)
	t.i32(1, physicalType(l.dt))
	encodings, counts := c.encodings()
	t.list(2, thriftI32, len(encodings))
	for _, e := range encodings {
		t.varint(int64(e))
	}
	t.list(3, thriftBinary, len(l.names))
	for _, name := range l.names {
		t.element(name)
	}
	t.i32(4, codec)
	t.i64(5, c.values)
	t.i64(6, c.unpacked)
	t.i64(7, c.compressed)
	t.i64(9, first)
	if c.dictionary > 0 {
		t.i64(11, c.dictionary)
	}
	if !l.repeated && !floating(l.dt) {
		appendChunkStatistics(t, c)
	}
	t.list(13, thriftStruct, len(counts))
	for _, n := range counts {
		t.begin()
		t.i32(1, n.kind)
		t.i32(2, int32(n.encoding))
		t.i32(3, n.pages)
		t.end()
	}
	t.end()
	if c.offsetIndex.bytes > 0 {
		t.i64(4, c.offsetIndex.offset)
		t.i32(5, c.offsetIndex.bytes)
	}
	if c.columnIndex.bytes > 0 {
		t.i64(6, c.columnIndex.offset)
		t.i32(7, c.columnIndex.bytes)
	}
	t.end()
}

func appendChunkStatistics(t *thrift, c *columnMeta) {
	t.structure(12)
	t.i64(3, c.nulls)
	if c.bounds.ok {
		t.text(5, c.bounds.hi)
		t.text(6, c.bounds.low)
		t.boolean(7, c.bounds.hiExact)
		t.boolean(8, c.bounds.lowExact)
	}
	t.end()
}

// pageCount says how many pages of a kind have an encoding.
type pageCount struct {
	kind     int32
	encoding parquet.Encoding
	pages    int32
}

// encodings gives the encodings of the column chunk, and the pages that have them.
func (c *columnMeta) encodings() (all []parquet.Encoding, counts []pageCount) {
	if c.dictionary > 0 {
		all, counts = append(all, parquet.Encodings.Plain), append(counts, pageCount{dictionaryPage, parquet.Encodings.Plain, 1})
	}
pages:
	for i := range c.pages {
		e := c.pages[i].encoding
		if !slices.Contains(all, e) {
			all = append(all, e)
		}
		for k := range counts {
			if counts[k].kind == dataPage && counts[k].encoding == e {
				counts[k].pages++
				continue pages
			}
		}
		counts = append(counts, pageCount{dataPage, e, 1})
	}
	return append(all, parquet.Encodings.RLE), counts // of the levels
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
	return name + " version " + version + " (build datafile)"
}

// fieldID is the Parquet field id in a field's metadata, if there is one.
func fieldID(f arrow.Field) (int32, bool) {
	at := f.Metadata.FindKey("PARQUET:field_id")
	if at < 0 {
		return 0, false
	}
	id, err := strconv.ParseInt(f.Metadata.Values()[at], 10, 32)
	return int32(id), err == nil && id >= 0
}
