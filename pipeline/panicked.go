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

// ContainedError is a panic of a decoder at a message, or of what makes rows of messages, which is a fault of the program. Whoever gets it says at which message.
type ContainedError struct {
	Value any    // that it panicked with
	doing string // such as "decoding"
	stack string
}

func (e *ContainedError) Error() string {
	return fmt.Sprintf("%s has panicked: %v: this is a fault of the connector: report it with the log, which has the stack", e.doing, e.Value)
}

// Log logs the panic with its stack, and what at says of the message, as keys and values.
func (e *ContainedError) Log(log *slog.Logger, at ...any) {
	log = log.With(at...).With("panic", e.Value, "stack", e.stack)
	if e.doing == decoding {
		log.Error("a decoder has panicked, which is a fault of the connector")
		return
	}
	log.Error("making rows of messages has panicked, which is a fault of the connector", "doing", e.doing)
}

// Contain has a decoder append one message. A panic is a *ContainedError, and the decoder is not to be used again.
func Contain(d Decoder, rec *kgo.Record) (err error) {
	defer Contained(decoding, &err)
	return d.Append(rec)
}

const decoding = "decoding"

// Contained is to be deferred. It makes a panic a *ContainedError, of what was being done; what panicked is not to be used again.
func Contained(doing string, err *error) {
	if value := recover(); value != nil {
		*err = &ContainedError{value, doing, string(debug.Stack())}
	}
}

// Append has the decoder append one message of a stream. A panic is a *PanicError: others in the process have nothing to do with it. The log gets its stack, and
// the decoder is not used again.
func (r *Rows) Append(rec *kgo.Record, stream string, log *slog.Logger) error {
	err := Contain(r.Decoder, rec)
	if e, ok := err.(*ContainedError); ok { //nolint:errorlint // never wrapped
		r.Decoder = nil
		e.Log(log, "topic", rec.Topic, "partition", rec.Partition, "offset", rec.Offset)
		return &PanicError{stream, rec.Topic, rec.Partition, rec.Offset, e.Value}
	}
	return err
}
