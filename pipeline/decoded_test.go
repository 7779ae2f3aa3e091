package pipeline_test

import (
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"

	compute "kafkadelta/columns"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
)

// growing is a decoder whose rows are said to be of a MiB each.
type growing struct {
	pipeline.Decoder
	rows    *int
	largest *atomic.Int64
}

func (d growing) Append(r *kgo.Record) error {
	err := d.Decoder.Append(r)
	if err == nil {
		*d.rows++
	}
	return err
}

func (d growing) Bytes() int { return *d.rows << 20 }

func (d growing) NewBatch() arrow.RecordBatch {
	*d.rows = 0
	b := d.Decoder.NewBatch()
	d.largest.Store(max(d.largest.Load(), b.NumRows()))
	return b
}

func (d growing) Reset() {
	*d.rows = 0
	d.Decoder.Reset()
}

// TestBatchesAreBoundedByWhatTheyBecome: a batch ends once its rows fill the memory that it gets, however short its messages are.
func TestBatchesAreBoundedByWhatTheyBecome(t *testing.T) {
	parallelWorld(t, 1, func(w *world) {
		var largest atomic.Int64
		w.produce(0, 500)
		k := w.join(soon, func(s *setup) {
			s.Lanes = 1
			s.NewDecoder = func(l *sink.Layout) (pipeline.Decoder, *compute.Plan, error) {
				d, made, err := newDecoder(l)
				return growing{d, new(int), &largest}, made, err
			}
		})
		w.landed()
		k.stop()
		w.exactlyOnce()
		if n := largest.Load(); n == 0 || n > 32 {
			t.Errorf("a batch of %d rows of a MiB", n)
		}
	})
}
