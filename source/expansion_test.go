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
		{0, 0, 4, 4},
		{1000, 100_000, 4, 4}, // too little to judge by
		{100_000, 1_910_000, 19.8, 20},
		{100_000, 100_000, 17, 18},
		{100_000, 2_000_000, 20, 20},
	} {
		read(step.wire, step.held)
		if got := e.look(); got < step.least || got > step.most {
			t.Errorf("step %d: fetches get %.2f times as large, want %.2f to %.2f", i, got, step.least, step.most)
		}
	}
	e.OnFetchBatchRead(kgo.BrokerMetadata{}, "t", 0, kgo.FetchBatchMetrics{NumRecords: 1000, CompressedBytes: 1 << 20, UncompressedBytes: 1 << 20})
	if e.held.Load() != 1<<20+1000*RecordMemory {
		t.Error("what records take besides is not counted")
	}
}
