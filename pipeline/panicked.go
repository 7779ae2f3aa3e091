package pipeline

import (
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/twmb/franz-go/pkg/kgo"
)

// PanicError ends a run: a decoder has panicked at a message, which is a fault of the program and never makes a message poison. Nothing of the lane is
// committed, nor anything once the fault is known: a later start reads the message again.
type PanicError struct {
	Name      string // of the stream
	Topic     string
	Partition int32
	Offset    int64
	Value     any // that it panicked with
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("stream %s: decoding %s/%d offset %d has panicked: %v: this is a fault of the connector: report it with the log, which has the stack; nothing is lost: what is not committed is read again",
		e.Name, e.Topic, e.Partition, e.Offset, e.Value)
}

// Append has the decoder append one message of a stream. A panic is a *PanicError: others in the process have nothing to do with it. The log gets its stack, and
// the decoder is not used again.
func (r *Rows) Append(rec *kgo.Record, stream string, log *slog.Logger) (err error) {
	defer func() {
		if value := recover(); value != nil {
			r.Decoder = nil
			log.Error("a decoder has panicked, which is a fault of the connector", "topic", rec.Topic, "partition", rec.Partition, "offset", rec.Offset, "panic", value, "stack", string(debug.Stack()))
			err = &PanicError{stream, rec.Topic, rec.Partition, rec.Offset, value}
		}
	}()
	return r.Decoder.Append(rec)
}
