package datafile

import (
	"sync"
	"unsafe"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/apache/arrow-go/v18/parquet"
)

// packer compresses pages. It has what all columns and files share of memory, one after the other.
type packer struct {
	codec  int32
	page   []byte // without compression, behind room for the header
	packed []byte // the same, compressed
	header []byte
	zstd   *zstd.Encoder
}

// headerRoom is more than a page's header takes.
const headerRoom = 64

// begin begins a page.
func (p *packer) begin() { p.page = grow(p.page[:0], headerRoom) }

// The numbers of parquet.thrift, CompressionCodec.
const (
	codecNone   = 0
	codecSnappy = 1
	codecZstd   = 6
)

func codecOf(compression string) int32 {
	switch compression {
	case "none":
		return codecNone
	case "snappy":
		return codecSnappy
	}
	return codecZstd
}

// packers are reused from file to file, and so from one open file to the next: an encoder's tables take as much as a page.
var packers = sync.Pool{New: func() any {
	// Pages are compressed as a whole, so that a window beyond a large page is never looked at. Entropy coding of all literals is what
	// makes random hexadecimal digits half as long.
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true),
		zstd.WithAllLitEntropyCompression(true), zstd.WithEncoderCRC(false), zstd.WithWindowSize(512<<10))
	if err != nil {
		panic(err) // the options are constants
	}
	return &packer{zstd: encoder}
}}

// mostScratch is how much memory is kept for the next page. Few values need more.
const mostScratch = 4 << 20

func emptied[T any](b []T) []T {
	if cap(b)*int(unsafe.Sizeof(*new(T))) > mostScratch {
		return nil
	}
	return b[:0]
}

func takePacker(codec int32) *packer {
	p := packers.Get().(*packer)
	p.codec = codec
	return p
}

func (p *packer) release() {
	p.page, p.packed = emptied(p.page), emptied(p.packed)
	packers.Put(p)
}

// pack gives the page compressed, behind a header, in memory of its own, and the size that both have without compression.
func (p *packer) pack(kind int32, values int, encoding parquet.Encoding) (page []byte, unpacked int) {
	body, all := p.page[headerRoom:], p.page
	switch p.codec {
	case codecZstd:
		p.packed = p.zstd.EncodeAll(body, grow(p.packed[:0], headerRoom))
		all = p.packed
	case codecSnappy:
		p.packed = grow(p.packed[:0], headerRoom+snappy.MaxEncodedLen(len(body)))
		p.packed = p.packed[:headerRoom+len(snappy.Encode(p.packed[headerRoom:], body))]
		all = p.packed
	}
	p.header = appendPageHeader(p.header[:0], kind, len(body), len(all)-headerRoom, values, encoding)
	all = all[headerRoom-len(p.header):]
	copy(all, p.header)
	return append([]byte(nil), all...), len(p.header) + len(body)
}
