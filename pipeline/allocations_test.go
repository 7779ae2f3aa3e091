package pipeline_test

import (
	"math"
	"runtime"
	"testing"
	"time"
)

// TestNothingAllocatesPerMessage: from the broker's answers to the data files a message more costs no object more. What batches, pages, files and
// commits take is small change for each message: the bound is far below one. Time is not looked at.
func TestNothingAllocatesPerMessage(t *testing.T) {
	const few, many, most = 50_000, 250_000, 0.2
	objects := func(messages int) (n uint64) {
		t.Run("", func(t *testing.T) {
			w := newWorld(t, 1)
			w.limit = time.Minute
			for sent := 0; sent < messages; sent += few {
				w.produce(0, few)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			w.untilEnd(func(s *setup) { s.Flush.Interval, s.Lanes, s.sink.Parquet.Compression = time.Hour, 1, "zstd" })
			runtime.ReadMemStats(&after)
			n = after.Mallocs - before.Mallocs
		})
		return n
	}
	objects(few) // whatever is only made once
	less, more := objects(few), objects(many)
	each := math.Abs(float64(more)-float64(less)) / (many - few)
	t.Logf("%.3f objects a message", each)
	if each > most {
		t.Errorf("%.3f objects are allocated for a message, want less than %v", each, most)
	}
}
