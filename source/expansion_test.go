package source

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestFetchesGetLarger: what a fetch takes in memory is believed at once where it is more than before, and slowly where it is less.
func TestFetchesGetLarger(t *testing.T) {
	e := &expansion{ratio: firstRatio}
	read := func(wire, held int) {
		e.OnFetchBatchRead(kgo.BrokerMetadata{}, "t", 0, kgo.FetchBatchMetrics{CompressedBytes: wire, UncompressedBytes: held})
	}
	for i, step := range []struct {
		wire, held int
		least      float64
		most       float64
	}{
		{0, 0, 256, 256},
		{1000, 1_000_000, 256, 256},     // too little to judge by
		{100_000, 29_900_000, 305, 307}, // with those 1000
		{100_000, 100_000, 267, 268},
		{100_000, 28_000_000, 280, 280},
	} {
		read(step.wire, step.held)
		if got := e.look(); got < step.least || got > step.most {
			t.Errorf("step %d: fetches get %.2f times as large, want %.2f to %.2f", i, got, step.least, step.most)
		}
	}
	looks := 0
	for ; e.look() > leastRatio; looks++ {
		read(100_000, 100_000)
	}
	if looks > 30 {
		t.Errorf("fetches are small for %d looks", looks)
	}
	for range 100 {
		read(100_000, 100_000)
		if got := e.look(); got != leastRatio { // what comes next may be compressed
			t.Fatalf("fetches get %.2f times as large, want no less than %d", got, leastRatio)
		}
	}
	e.OnFetchBatchRead(kgo.BrokerMetadata{}, "t", 0, kgo.FetchBatchMetrics{NumRecords: 1000, CompressedBytes: 1 << 20, UncompressedBytes: 1 << 20})
	if e.held.Load() != 1<<20+1000*RecordMemory {
		t.Error("what records take besides is not counted")
	}
}
