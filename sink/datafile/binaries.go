package datafile

import (
	"encoding/binary"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/parquet"
)

// binaries are strings, binary, and decimals that are stored as bytes.
type binaries struct {
	enc     columnEncoding
	width   int // of decimals, 0 for strings and binary
	text    bool
	offsets []int32 // scratch of take
	data    []byte

	dict    *textDictionary // nil for none
	indices []uint16        // into dict, of a page that has it
	used    []bool          // scratch of appendPage
	lengths []int32         // of a page without it
	bytes   []byte
	raw     int // bytes of the values in the page

	page, chunk           texts // of strings and binary
	total                 *texts
	pageNumbers, chunkDec decimals // of decimals
	totalDecimals         *decimals
}

func newBinaries(dt arrow.DataType, enc columnEncoding, total bounds, dictBytes int) *binaries {
	b := &binaries{enc: enc, text: dt.ID() == arrow.STRING}
	if d, ok := dt.(*arrow.Decimal128Type); ok {
		b.width = decimalBytes(d.Precision)
	}
	if enc.dictionary {
		b.dict = newTextDictionary(dictBytes)
	}
	switch total := total.(type) {
	case *texts:
		b.total = total
	case *decimals:
		b.totalDecimals = total
	}
	return b
}

func (b *binaries) take(a arrow.Array, spans []span) {
	offsets, data := b.dense(a, spans)
	if len(offsets) < 2 {
		return
	}
	b.raw += int(offsets[len(offsets)-1] - offsets[0])
	if b.enc.dictionary {
		var taken int
		if b.indices, taken = b.dict.add(b.indices, offsets, data); taken == len(offsets)-1 {
			return
		}
		b.retire()
		offsets = offsets[taken:]
	}
	if b.width == 0 {
		b.page.observe(offsets, data)
	}
	b.bytes = append(b.bytes, data[offsets[0]:offsets[len(offsets)-1]]...)
	b.lengths = slices.Grow(b.lengths, len(offsets))
	from := offsets[0]
	for _, end := range offsets[1:] {
		b.lengths = append(b.lengths, end-from)
		from = end
	}
}

// retire turns what the page has of the dictionary into plain values.
func (b *binaries) retire() {
	for _, i := range b.indices {
		v := b.dict.value(int(i))
		b.bytes = append(b.bytes, v...)
		b.lengths = append(b.lengths, int32(len(v)))
	}
	b.observeUsed()
	b.indices, b.enc.dictionary = b.indices[:0], false
}

// dense gives the values one behind the other: value i is data[offsets[i]:offsets[i+1]].
func (b *binaries) dense(a arrow.Array, spans []span) (offsets []int32, data []byte) {
	if b.width > 0 {
		return b.denseDecimals(a.(*array.Decimal128), spans)
	}
	all := a.(interface{ ValueOffsets() []int32 }).ValueOffsets()
	if buffer := a.Data().Buffers()[2]; buffer != nil {
		data = buffer.Bytes()
	}
	if len(spans) == 1 {
		return all[spans[0].from : spans[0].to+1], data
	}
	offsets = append(b.offsets[:0], 0)
	b.data = b.data[:0]
	for _, s := range spans {
		shift := int32(len(b.data)) - all[s.from]
		b.data = append(b.data, data[all[s.from]:all[s.to]]...)
		for _, end := range all[s.from+1 : s.to+1] {
			offsets = append(offsets, end+shift)
		}
	}
	b.offsets = offsets
	return offsets, b.data
}

// denseDecimals makes big-endian numbers of a fixed width.
func (b *binaries) denseDecimals(a *array.Decimal128, spans []span) (offsets []int32, data []byte) {
	offsets = append(b.offsets[:0], 0)
	b.data = b.data[:0]
	values := a.Values()
	for _, s := range spans {
		for _, v := range values[s.from:s.to] {
			b.pageNumbers.include(v, v)
			b.data = appendDecimal(b.data, v, b.width)
			offsets = append(offsets, int32(len(b.data)))
		}
	}
	b.offsets = offsets
	return offsets, b.data
}

func appendDecimal(to []byte, v decimal128.Num, width int) []byte {
	var all [arrow.Decimal128SizeBytes]byte
	binary.BigEndian.PutUint64(all[:], uint64(v.HighBits()))
	binary.BigEndian.PutUint64(all[8:], v.LowBits())
	return append(to, all[len(all)-width:]...)
}

// decimalBytes is how many bytes a decimal takes (LogicalTypes.md, "DECIMAL").
func decimalBytes(precision int32) int {
	return int(math.Ceil((float64(precision)*math.Log2(10) + 1) / 8))
}

func (b *binaries) count() int { return len(b.indices) + len(b.lengths) }

// held counts the values behind indices as well, at a quarter: they may have to be written out when the dictionary is full, and readers
// hold them for a page.
func (b *binaries) held() int {
	return max(2*len(b.indices), b.raw/4) + 4*len(b.lengths) + len(b.bytes)
}

func (b *binaries) size() (page, dictionary int) {
	page = len(b.bytes) + len(b.lengths)
	if b.dict != nil {
		dictionary = len(b.dict.data) + 4*len(b.dict.ends)
		page += len(b.indices) * indexWidth(len(b.dict.ends)) / 8
	}
	return page, dictionary
}

func (b *binaries) appendPage(to []byte) ([]byte, parquet.Encoding, valueRange) {
	encoding := b.enc.encoding
	switch {
	case b.enc.dictionary:
		encoding = parquet.Encodings.RLEDict
		b.observeUsed()
		to = appendIndices(to, b.indices, len(b.dict.ends))
	case encoding == parquet.Encodings.DeltaLengthByteArray:
		to = appendDelta(to, b.lengths)
		to = append(to, b.bytes...)
	default:
		to = b.appendPlain(to, b.lengths, b.bytes)
	}
	var bounds valueRange
	if b.width > 0 {
		bounds = b.pageNumbers.bytes(b.width)
		b.chunkDec.merge(&b.pageNumbers)
		b.pageNumbers = decimals{}
	} else {
		bounds = b.page.footer(b.text)
		b.chunk.merge(&b.page)
		b.page.reset()
	}
	b.indices, b.lengths, b.bytes, b.raw = emptied(b.indices), emptied(b.lengths), emptied(b.bytes), 0
	b.data = emptied(b.data)
	return to, encoding, bounds
}

// observeUsed takes the range of the page's values from the entries of the dictionary that it has.
func (b *binaries) observeUsed() {
	if b.width > 0 {
		return
	}
	b.used = slices.Grow(b.used[:0], len(b.dict.ends))[:len(b.dict.ends)]
	clear(b.used)
	for _, i := range b.indices {
		b.used[i] = true
	}
	for i, used := range b.used {
		if used {
			b.page.include(b.dict.value(i))
		}
	}
}

// appendPlain is the encoding PLAIN. Values of a fixed width have no lengths.
func (b *binaries) appendPlain(to []byte, lengths []int32, data []byte) []byte {
	if b.width > 0 {
		return append(to, data...)
	}
	to = slices.Grow(to, 4*len(lengths)+len(data))
	for _, n := range lengths {
		to = binary.LittleEndian.AppendUint32(to, uint32(n))
		to = append(to, data[:n]...)
		data = data[n:]
	}
	return to
}

func (b *binaries) appendDictionary(to []byte) ([]byte, int) {
	if b.width > 0 {
		return append(to, b.dict.data...), len(b.dict.ends)
	}
	for i := range b.dict.ends {
		v := b.dict.value(i)
		to = binary.LittleEndian.AppendUint32(to, uint32(len(v)))
		to = append(to, v...)
	}
	return to, len(b.dict.ends)
}

func (b *binaries) restart() valueRange {
	var bounds valueRange
	if b.width > 0 {
		bounds = b.chunkDec.bytes(b.width)
		if b.totalDecimals != nil {
			b.totalDecimals.merge(&b.chunkDec)
		}
		b.chunkDec = decimals{}
	} else {
		bounds = b.chunk.footer(b.text)
		if b.total != nil {
			b.total.merge(&b.chunk)
		}
		b.chunk.reset()
	}
	if b.dict != nil {
		b.dict.reset()
		if !b.enc.dictionary {
			b.dict = nil
		}
	}
	return bounds
}

// footerBytes is how much of a string or binary the footer has, as arrow-rs cuts them. It is less than keptBytes.
const footerBytes = 64

// footer gives the range for the Parquet footer, cut to footerBytes: the minimum to a prefix, the maximum to the prefix that follows
// on it. Bounds of text are valid UTF-8, if the text is.
func (b *texts) footer(text bool) valueRange {
	if !b.observed {
		return valueRange{}
	}
	r := valueRange{low: string(b.low), hi: string(b.hi), lowExact: true, hiExact: true, ok: true}
	if len(b.low) > footerBytes {
		r.low, r.lowExact = string(cutText(b.low, text)), false
	}
	if len(b.hi) > footerBytes {
		r.hi, r.ok = following(cutText(b.hi, text), text)
		r.hiExact = false
	}
	if text && (!utf8.ValidString(r.low) || !utf8.ValidString(r.hi)) {
		return valueRange{}
	}
	return r
}

// cutText cuts to footerBytes, and text to whole characters.
func cutText(v []byte, text bool) []byte {
	v = v[:min(len(v), footerBytes)]
	if !text {
		return v
	}
	for cut := len(v); cut > 0 && cut > len(v)-utf8.UTFMax; cut-- {
		if start := cut - 1; utf8.RuneStart(v[start]) {
			if utf8.FullRune(v[start:]) {
				return v
			}
			return v[:start]
		}
	}
	return v
}

// following gives the least string of this length or shorter that is greater than all that begin with v.
func following(v []byte, text bool) (string, bool) {
	if !text {
		for len(v) > 0 {
			last := len(v) - 1
			if v[last] < 0xff {
				return string(v[:last]) + string([]byte{v[last] + 1}), true
			}
			v = v[:last]
		}
		return "", false
	}
	for len(v) > 0 {
		r, size := utf8.DecodeLastRune(v)
		v = v[:len(v)-size]
		if r == utf8.RuneError && size <= 1 {
			return "", false
		}
		if r == surrogates-1 {
			r = surrogateEnd
		} else {
			r++
		}
		if r <= utf8.MaxRune {
			return string(v) + string(r), true
		}
	}
	return "", false
}

// Between these code points, the second excluded, no characters are.
const surrogates, surrogateEnd = 0xd800, 0xe000
