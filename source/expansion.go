package source

import (
	"sync/atomic"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"
)

// RecordMemory is what a record takes besides its key, value and headers, in bytes.
const RecordMemory = int64(unsafe.Sizeof(kgo.Record{})) + 2*int64(unsafe.Sizeof(&kgo.Record{}))

// expansion measures how much larger fetches are in memory than on the wire: decompressed, and as records.
type expansion struct {
	wire, held atomic.Int64 // bytes of fetches since the last look
	ratio      float64      // of whoever looks
}

// What comes may always be other than what came: JSON of 100 bytes in zstd gets 30 to 50 times as large, mostly as records. So the first fetch is small (firstRatio), what was
// not compressed so far may get leastRatio times as large all the same, and a fetch that then does gets no more than some times what may be held. Less than
// leastWire is too little to judge by.
const (
	firstRatio = 256
	leastRatio = 16
	leastWire  = 32 << 10
)

var _ kgo.HookFetchBatchRead = (*expansion)(nil)

// OnFetchBatchRead is called by the client for each batch of a fetch.
func (e *expansion) OnFetchBatchRead(_ kgo.BrokerMetadata, _ string, _ int32, m kgo.FetchBatchMetrics) {
	e.wire.Add(int64(m.CompressedBytes))
	e.held.Add(int64(m.UncompressedBytes) + int64(m.NumRecords)*RecordMemory)
}

// look tells how many times as large fetches may get. It believes at once what is larger, and slowly what is smaller, but nothing below leastRatio.
func (e *expansion) look() float64 {
	if e.wire.Load() >= leastWire {
		now := float64(e.held.Swap(0)) / float64(e.wire.Swap(0))
		if now < e.ratio {
			now = e.ratio - (e.ratio-now)/8
		}
		e.ratio = max(now, leastRatio)
	}
	return e.ratio
}
