package datafile

import (
	"encoding/binary"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet"
)

// number is what numbers are encoded from. Float and double are their bits, so that no NaN or zero changes.
type number interface{ int32 | int64 }

// numbers are values of four or eight bytes.
type numbers[T number] struct {
	enc     columnEncoding
	load    loader[T]
	scratch []T

	dict    *numberDictionary[T] // nil for none
	indices []uint16             // into dict, of a page that has it
	plain   []T                  // of a page that has not

	page, chunk numberRange[T]
	total       *integers // of the file, nil for none
	decimals    *decimals // the same of a decimal
	floats      *floats   // the same of float and double
	ordered     bool      // the footer has bounds
}

// numberRange is empty when low is above hi.
type numberRange[T number] struct{ low, hi T }

func noNumbers[T number]() numberRange[T] {
	least := T(1)
	for shifted := least << 1; shifted != 0; shifted <<= 1 {
		least = shifted
	}
	return numberRange[T]{low: ^least, hi: least}
}

func (r *numberRange[T]) merge(o numberRange[T]) { r.low, r.hi = min(r.low, o.low), max(r.hi, o.hi) }

func newNumbers[T number](dt arrow.DataType, enc columnEncoding, total bounds, dictBytes int, load loader[T]) *numbers[T] {
	n := &numbers[T]{enc: enc, load: load, page: noNumbers[T](), chunk: noNumbers[T](), ordered: !floating(dt)}
	if enc.dictionary {
		n.dict = newNumberDictionary[T](dictBytes)
	}
	switch total := total.(type) {
	case *integers:
		n.total = total
	case *decimals:
		n.decimals = total
	case *floats:
		n.floats = total
	}
	return n
}

func (n *numbers[T]) take(a arrow.Array, spans []span) {
	got := n.load(a, spans, &n.scratch)
	if n.ordered {
		r := n.page
		for _, v := range got {
			r.low, r.hi = min(r.low, v), max(r.hi, v)
		}
		n.page = r
	}
	if n.enc.dictionary {
		var taken int
		if n.indices, taken = n.dict.add(n.indices, got); taken == len(got) {
			return
		}
		for _, i := range n.indices {
			n.plain = append(n.plain, n.dict.values[i])
		}
		n.indices, n.enc.dictionary = n.indices[:0], false
		got = got[taken:]
	}
	n.plain = append(n.plain, got...)
}

func (n *numbers[T]) count() int { return len(n.indices) + len(n.plain) }

func (n *numbers[T]) held() int { return 2*len(n.indices) + 8*len(n.plain) }

func (n *numbers[T]) size() (page, dictionary int) {
	page = 8 * len(n.plain)
	if n.dict != nil {
		dictionary = 8 * len(n.dict.values)
		page += len(n.indices) * indexWidth(len(n.dict.values)) / 8
	}
	return page, dictionary
}

func (n *numbers[T]) appendPage(to []byte) ([]byte, parquet.Encoding, valueRange) {
	encoding := n.enc.encoding
	switch {
	case n.enc.dictionary:
		encoding = parquet.Encodings.RLEDict
		to = appendIndices(to, n.indices, len(n.dict.values))
	case encoding == parquet.Encodings.DeltaBinaryPacked:
		to = appendDelta(to, n.plain)
	default:
		to = appendNumbers(to, n.plain)
	}
	n.observe(n.plain)
	bounds := n.bounds(n.page)
	n.chunk.merge(n.page)
	n.page = noNumbers[T]()
	n.plain, n.indices = n.plain[:0], n.indices[:0]
	return to, encoding, bounds
}

func (n *numbers[T]) appendDictionary(to []byte) ([]byte, int) {
	return appendNumbers(to, n.dict.values), len(n.dict.values)
}

func (n *numbers[T]) restart() valueRange {
	bounds := n.bounds(n.chunk)
	if low, hi := int64(n.chunk.low), int64(n.chunk.hi); low <= hi {
		if n.total != nil {
			n.total.include(low, hi)
		}
		if n.decimals != nil {
			n.decimals.includeIntegers(low, hi)
		}
	}
	n.chunk = noNumbers[T]()
	if n.dict != nil {
		n.observe(n.dict.values)
		n.dict.reset()
		if !n.enc.dictionary {
			n.dict = nil
		}
	}
	return bounds
}

// observe takes floating values into the file's statistics.
func (n *numbers[T]) observe(values []T) {
	if n.floats == nil {
		return
	}
	switch values := any(values).(type) {
	case []int32:
		for _, v := range values {
			n.floats.include(float64(math.Float32frombits(uint32(v))))
		}
	case []int64:
		for _, v := range values {
			n.floats.include(math.Float64frombits(uint64(v)))
		}
	}
}

func (n *numbers[T]) bounds(r numberRange[T]) valueRange {
	if !n.ordered || r.low > r.hi {
		return valueRange{}
	}
	return valueRange{
		low: string(appendNumbers(nil, []T{r.low})), hi: string(appendNumbers(nil, []T{r.hi})), lowExact: true, hiExact: true, ok: true,
	}
}

// appendNumbers is the encoding PLAIN.
func appendNumbers[T number](to []byte, values []T) []byte {
	at := len(to)
	switch values := any(values).(type) {
	case []int32:
		to = grow(to, 4*len(values))
		for i, v := range values {
			binary.LittleEndian.PutUint32(to[at+4*i:], uint32(v))
		}
	case []int64:
		to = grow(to, 8*len(values))
		for i, v := range values {
			binary.LittleEndian.PutUint64(to[at+8*i:], uint64(v))
		}
	}
	return to
}

// loader gives the values in spans of an array. They may be the array's own, or in the scratch.
type loader[T number] func(a arrow.Array, spans []span, scratch *[]T) []T

func loadInt32(dt arrow.DataType) loader[int32] {
	switch dt.(type) {
	case *arrow.Int8Type:
		return converted[int32](func(a arrow.Array) []int8 { return a.(*array.Int8).Int8Values() })
	case *arrow.Int16Type:
		return converted[int32](func(a arrow.Array) []int16 { return a.(*array.Int16).Int16Values() })
	case *arrow.Decimal128Type:
		return func(a arrow.Array, spans []span, scratch *[]int32) []int32 {
			values, got := a.(*array.Decimal128).Values(), (*scratch)[:0]
			for _, s := range spans {
				for _, v := range values[s.from:s.to] {
					got = append(got, int32(v.LowBits()))
				}
			}
			*scratch = got
			return got
		}
	}
	return direct(func(a arrow.Array) []int32 { return arrow.Int32Traits.CastFromBytes(fixedBytes(a, 4)) })
}

func loadInt64(dt arrow.DataType) loader[int64] {
	if _, ok := dt.(*arrow.Decimal128Type); ok {
		return func(a arrow.Array, spans []span, scratch *[]int64) []int64 {
			values, got := a.(*array.Decimal128).Values(), (*scratch)[:0]
			for _, s := range spans {
				for _, v := range values[s.from:s.to] {
					got = append(got, int64(v.LowBits()))
				}
			}
			*scratch = got
			return got
		}
	}
	return direct(func(a arrow.Array) []int64 { return arrow.Int64Traits.CastFromBytes(fixedBytes(a, 8)) })
}

// fixedBytes are the bytes of the values of an array whose values have so many each.
func fixedBytes(a arrow.Array, width int) []byte {
	data := a.Data()
	return data.Buffers()[1].Bytes()[data.Offset()*width : (data.Offset()+data.Len())*width]
}

func direct[T number](values func(arrow.Array) []T) loader[T] {
	return func(a arrow.Array, spans []span, scratch *[]T) []T {
		all := values(a)
		if len(spans) == 1 {
			return all[spans[0].from:spans[0].to]
		}
		got := (*scratch)[:0]
		for _, s := range spans {
			got = append(got, all[s.from:s.to]...)
		}
		*scratch = got
		return got
	}
}

func converted[T number, S int8 | int16](values func(arrow.Array) []S) loader[T] {
	return func(a arrow.Array, spans []span, scratch *[]T) []T {
		all, got := values(a), (*scratch)[:0]
		for _, s := range spans {
			for _, v := range all[s.from:s.to] {
				got = append(got, T(v))
			}
		}
		*scratch = got
		return got
	}
}
