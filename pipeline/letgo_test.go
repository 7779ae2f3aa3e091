package pipeline_test

import (
	"runtime"
	"sync"
	"testing"
	"weak"

	"github.com/twmb/franz-go/pkg/kgo"

	compute "kafkadelta/columns"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
)

// TestNothingIsKeptOfWhatIsWritten: once messages are rows or dead letters, a lane to which nothing more comes keeps neither them nor what was fetched with
// them.
func TestNothingIsKeptOfWhatIsWritten(t *testing.T) {
	scenario(t, 2, func(w *world) {
		m := newMorgue(w)
		var mu sync.Mutex
		seen := map[place][]weak.Pointer[byte]{}
		w.produceAll(2, 200)
		m.poison(0, 3)
		k := w.start(m.buries, func(s *setup) {
			s.NewDecoder = func(layout *sink.Layout) (pipeline.Decoder, *compute.Plan, error) {
				d, plan, err := newDecoder(layout)
				return watchedDecoder{d, func(r *kgo.Record) {
					mu.Lock()
					defer mu.Unlock()
					at := place{r.Partition, r.Offset}
					seen[at] = append(seen[at], weak.Make(&r.Value[0]))
				}}, plan, err
			}
		})
		w.landed()
		tries := 0
		w.eventually("nothing is kept", func() bool {
			if tries++; tries > 50 {
				t.Fatal("messages are kept")
			}
			runtime.GC()
			mu.Lock()
			defer mu.Unlock()
			kept := 0
			for _, values := range seen {
				for _, v := range values {
					if v.Value() != nil {
						kept++
					}
				}
			}
			return kept == 0 && len(seen) == 400+len(m.bad)
		})
		k.stop()
	})
}

// watchedDecoder tells which messages it is given.
type watchedDecoder struct {
	pipeline.Decoder
	saw func(*kgo.Record)
}

func (d watchedDecoder) Append(r *kgo.Record) error {
	d.saw(r)
	return d.Decoder.Append(r)
}
