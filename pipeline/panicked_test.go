package pipeline_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	compute "kafkadelta/columns"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
)

// panicking is a decoder with a fault: it panics in the midst of a row of messages that say so.
type panicking struct{ pipeline.Decoder }

func (d panicking) Append(r *kgo.Record) error {
	err := d.Decoder.Append(r)
	if bytes.Contains(r.Value, []byte("panic")) {
		panic("index out of range")
	}
	return err
}

// TestPanicOfDecoder: a panic at a message ends its run with an error that says where, whatever on_error is; nothing is committed behind it, it is no poison, and a
// later start without the fault goes on.
func TestPanicOfDecoder(t *testing.T) {
	for _, onError := range []string{pipeline.OnErrorFail, pipeline.OnErrorSkip} {
		scenario(t, 2, func(w *world) {
			faulty := func(s *setup) {
				s.OnError, s.Lanes = onError, 2
				s.NewDecoder = func(l *sink.Layout) (pipeline.Decoder, *compute.Plan, error) {
					d, made, err := newDecoder(l)
					return panicking{d}, made, err
				}
			}
			k := w.start(faulty)
			w.produceAll(2, 50)
			w.landed()
			version := w.version()
			w.produce(1, 10)
			at := w.produceRaw(1, `{"n": 1000, "text": "panic"}`)
			w.want[place{1, at}] = 1000
			w.produce(1, 10)
			for range 2 { // a start meets it again
				err := k.wait()
				e, ok := errors.AsType[*pipeline.PanicError](err)
				if !ok || e.Name != stream || e.Topic != topic || e.Partition != 1 || e.Offset != at || e.Value != "index out of range" || errors.As(err, new(*pipeline.PoisonError)) {
					t.Fatalf("the worker has ended with: %v", err)
				}
				if got := w.version(); got != version {
					t.Errorf("version %d was made behind the panic, the one before it is %d", got, version)
				}
				if !strings.Contains(w.logs.String(), "panicking.Append") {
					t.Error("the log has no stack")
				}
				k = w.start(faulty)
			}
			if err := k.wait(); err == nil {
				t.Error("no error")
			}
			w.untilEnd()
			w.exactlyOnce()
		})
	}
}
