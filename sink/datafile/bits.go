package datafile

import (
	"encoding/binary"
	"math/bits"
)

// appendHybrid writes values of so many bits, 1 to 16, in Parquet's hybrid of runs and bit-packed groups of eight (Encodings.md,
// "Run Length Encoding / Bit-Packing Hybrid"). Runs are found in steps of eight values.
func appendHybrid[T uint8 | uint16](to []byte, values []T, width int) []byte {
	literal := 0 // where the values that are not written yet begin, a multiple of eight from the last run's end
	at := 0
	for at+8 <= len(values) {
		group := (*[8]T)(values[at:])
		v := group[0]
		if (group[1]^v)|(group[2]^v)|(group[3]^v)|(group[4]^v)|(group[5]^v)|(group[6]^v)|(group[7]^v) != 0 {
			at += 8
			continue
		}
		end := at + 8
		for end < len(values) && values[end] == v {
			end++
		}
		if (end-at)*width < shortestRun {
			at = end - (end-at)%8
			continue
		}
		to = appendPacked(to, values[literal:at], width)
		to = appendRun(to, uint(v), end-at, width)
		literal, at = end, end
	}
	return appendPacked(to, values[literal:], width)
}

// shortestRun is what a run must save, in bits, for the header of the packed values behind it.
const shortestRun = 64

func appendRun(to []byte, v uint, n, width int) []byte {
	if n == 0 {
		return to
	}
	to = binary.AppendUvarint(to, uint64(n)<<1)
	for ; width > 0; width -= 8 {
		to = append(to, byte(v))
		v >>= 8
	}
	return to
}

// appendPacked writes one bit-packed run; the last group is filled up with zeros.
func appendPacked[T uint8 | uint16](to []byte, values []T, width int) []byte {
	if len(values) == 0 {
		return to
	}
	groups := (len(values) + 7) / 8
	to = binary.AppendUvarint(to, uint64(groups)<<1|1)
	at := len(to)
	const slack = 16 // each group is written as two words
	to = grow(to, groups*width+slack)
	w := uint(width)
	for len(values) >= 8 {
		packEight(to[at:], (*[8]T)(values), w)
		at += width
		values = values[8:]
	}
	if len(values) > 0 {
		var last [8]T
		copy(last[:], values)
		packEight(to[at:], &last, w)
		at += width
	}
	return to[:at]
}

func packEight[T uint8 | uint16](to []byte, v *[8]T, w uint) {
	low := uint64(v[0]) | uint64(v[1])<<w | uint64(v[2])<<(2*w) | uint64(v[3])<<(3*w)
	high := uint64(v[4]) | uint64(v[5])<<w | uint64(v[6])<<(2*w) | uint64(v[7])<<(3*w)
	binary.LittleEndian.PutUint64(to, low|high<<(4*w))
	binary.LittleEndian.PutUint64(to[8:], high>>(64-4*w))
}

// grow makes the slice longer by n bytes of any content.
func grow(b []byte, n int) []byte {
	for cap(b)-len(b) < n {
		b = append(b[:cap(b)], 0)[:len(b)]
	}
	return b[:len(b)+n]
}

// The form of DELTA_BINARY_PACKED that every writer uses.
const (
	deltaBlock     = 128
	deltaMiniBlock = 32
)

// appendDelta writes DELTA_BINARY_PACKED (Encodings.md, "Delta Encoding"). There must be a value: readers differ about none.
func appendDelta[T int32 | int64](to []byte, values []T) []byte {
	to = binary.AppendUvarint(to, deltaBlock)
	to = binary.AppendUvarint(to, deltaBlock/deltaMiniBlock)
	to = binary.AppendUvarint(to, uint64(len(values)))
	to = binary.AppendVarint(to, int64(values[0]))
	var deltas [deltaBlock]T
	mask := maskOf[T]()
	for at := 1; at < len(values); at += deltaBlock {
		block := deltas[:min(deltaBlock, len(values)-at)]
		before := values[at-1 : at-1+len(block)]
		least := values[at] - before[0]
		for i, v := range values[at : at+len(block)] {
			d := v - before[i] // wraps around, as the reader's sum does
			block[i] = d
			least = min(least, d)
		}
		to = binary.AppendVarint(to, int64(least))
		widths := len(to)
		to = append(to, 0, 0, 0, 0)
		for mini := 0; mini*deltaMiniBlock < len(block); mini++ {
			part := block[mini*deltaMiniBlock : min((mini+1)*deltaMiniBlock, len(block))]
			var all uint64
			for _, d := range part {
				all |= uint64(d-least) & mask
			}
			width := bits.Len64(all)
			to[widths+mini] = byte(width)
			if width > 0 {
				to = packMini(to, part, least, mask, uint(width))
			}
		}
	}
	return to
}

// maskOf has the bits of T: what is added to the least delta takes no more.
func maskOf[T int32 | int64]() uint64 {
	one, width := T(1), 32
	if one<<width == 0 {
		return 1<<32 - 1
	}
	return 1<<64 - 1
}

// packMini writes one miniblock, filled up with zeros.
func packMini[T int32 | int64](to []byte, part []T, least T, mask uint64, width uint) []byte {
	start := len(to)
	to = grow(to, deltaMiniBlock/8*int(width)+8)
	at := start
	var word uint64
	var used uint
	for _, d := range part {
		v := uint64(d-least) & mask
		word |= v << used
		if used += width; used >= 64 {
			binary.LittleEndian.PutUint64(to[at:], word)
			at += 8
			used -= 64
			word = v >> (width - used)
		}
	}
	end := start + deltaMiniBlock/8*int(width)
	for ; at < end; at += 8 {
		binary.LittleEndian.PutUint64(to[at:], word)
		word = 0
	}
	return to[:end]
}
