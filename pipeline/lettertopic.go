package pipeline

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/checkpoint"
	"kafkadelta/sink"
	"kafkadelta/source"
)

// burier is where a lane's dead letters go: a table or a topic.
type burier interface {
	// add takes a dead letter, which is the caller's again afterwards.
	add(ctx context.Context, l *letter) error
	// Seal ends those since the last flush. What it returns, nil for nothing, waits until they are where they are to be, before the unit is committed
	// that counts them; the parcel is nil where there is none to decide about. When its context is done, they are given up.
	Seal(ctx context.Context) (SealedLetters, error)
	// Abort forgets those since the last flush.
	Abort(ctx context.Context)
	// size is what they take of the flush's limit, in bytes.
	size() int64
}

// SealedLetters waits until dead letters are where they are to be: in a parcel, which is nil where there is none to decide about, or in a topic. Spans are those of the
// unit that counts them.
type SealedLetters func(ctx context.Context, spans []checkpoint.Span) (*sink.Parcel, error)

// letterTopic sends a lane's dead letters to a topic, at least once: before the unit that passes over them is committed, all brokers have
// them. A unit that is dropped after that is read again, and they are sent again.
type letterTopic struct {
	producer *source.Producer
	flight   *flight
}

// flight is what was sent since the last flush.
type flight struct {
	mu     sync.Mutex
	err    error
	flying int
	ended  chan struct{} // nil until it is waited for
}

func (f *flight) sent() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flying++
}

func (f *flight) done(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
	if f.flying--; f.flying == 0 && f.ended != nil {
		close(f.ended)
	}
}

// wait waits until all brokers have what was sent. Nothing more is sent.
func (f *flight) wait(ctx context.Context) error {
	f.mu.Lock()
	ended := make(chan struct{})
	if f.ended = ended; f.flying == 0 {
		close(ended)
	}
	f.mu.Unlock()
	select {
	case <-ended:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func newLetterTopic(p *source.Producer) *letterTopic {
	return &letterTopic{producer: p, flight: &flight{}}
}

// headerPrefix begins the headers that say why. Those of the message come first, as they were.
const headerPrefix = "kafkadelta."

func (t *letterTopic) add(ctx context.Context, l *letter) error {
	headers := slices.Clone(l.Headers) // a copy of everything: what waits here must not keep all that was fetched with it
	for i, h := range headers {
		headers[i].Value = bytes.Clone(h.Value)
	}
	add := func(name, value string) {
		headers = append(headers, kgo.RecordHeader{Key: headerPrefix + name, Value: []byte(strings.ToValidUTF8(value, "\uFFFD"))})
	}
	add("topic", l.Topic)
	add("partition", strconv.Itoa(int(l.Partition)))
	add("offset", strconv.FormatInt(l.Offset, 10))
	add("timestamp", l.Timestamp.UTC().Format(time.RFC3339Nano))
	if l.schema != "" {
		add("schema_id", l.schema)
	}
	add("reason", l.reason)
	if l.path != "" {
		add("field_path", l.path)
	}
	add("error", l.found)
	add("connector", l.stream)
	add("generation", strconv.FormatInt(l.generation, 10))
	add("time", l.now.UTC().Format(time.RFC3339Nano))
	t.flight.sent()
	t.producer.Send(ctx, &kgo.Record{Key: bytes.Clone(l.Key), Value: bytes.Clone(l.Value), Headers: headers}, t.flight.done)
	return nil
}

func (t *letterTopic) Seal(context.Context) (SealedLetters, error) {
	f := t.flight
	t.flight = &flight{}
	return func(ctx context.Context, _ []checkpoint.Span) (*sink.Parcel, error) { return nil, f.wait(ctx) }, nil
}

func (t *letterTopic) Abort(context.Context) { t.flight = &flight{} }

func (t *letterTopic) size() int64 { return 0 }
