// Package batch keeps account of what one lane has taken since its last flush: which offsets of which partitions, how
// many rows, since when, and whether a limit says that it is time to flush.
//
// It promises that the spans it hands out tile: a partition's span begins where the caller said that its last one ended,
// and covers every offset up to the last one taken. It does no I/O, reads no clock and knows neither Kafka's client nor
// Delta. A Ledger belongs to one goroutine.
package batch

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"kafkadelta/checkpoint"
)

// Config says when a flush is due: whichever limit is reached first. An interval without messages flushes nothing.
type Config struct {
	// Mode is fixed (default), where Interval counts; or adaptive, where Freshness does.
	Mode string `yaml:"mode"`
	// Interval is the longest that a message waits before its flush begins. Default 10s. In mode adaptive it is for messages that
	// come too old for Freshness.
	Interval time.Duration `yaml:"interval"`
	// Freshness is, in mode adaptive, how old a message may be when the table has it, by its timestamp in Kafka. Default 5s.
	Freshness time.Duration `yaml:"freshness"`
	// Bytes is the size of a lane's Parquet output, in bytes, past which all are flushed: that of the lanes on average, or Most in one. Default 128 MiB.
	Bytes int64 `yaml:"bytes" unit:"bytes"`
	// Rows is the number of rows past which a lane is flushed. Default 0: no limit.
	Rows int64 `yaml:"rows"`
}

// DefaultConfig returns the limits used where the configuration is silent.
func DefaultConfig() Config {
	return Config{Mode: ModeFixed, Interval: 10 * time.Second, Freshness: 5 * time.Second, Bytes: 128 << 20}
}

// Values of Config.Mode.
const (
	ModeFixed    = "fixed"
	ModeAdaptive = "adaptive"
)

// Bounds of the limits. A commit takes tens of milliseconds on an object store, so that a shorter interval only queues.
const (
	minInterval  = 10 * time.Millisecond
	minFreshness = 100 * time.Millisecond
	maxInterval  = 30 * time.Minute // files that were finished first must be committed within an hour (rule C8)
	minBytes     = 1 << 10
)

// Validate checks the limits.
func (c Config) Validate() error {
	var errs []error
	if c.Interval < minInterval || c.Interval > maxInterval {
		errs = append(errs, fmt.Errorf("flush.interval is %v: use %v to %v", c.Interval, minInterval, maxInterval))
	}
	if c.Mode != ModeFixed && c.Mode != ModeAdaptive {
		errs = append(errs, fmt.Errorf("flush.mode is %q: use %s or %s", c.Mode, ModeFixed, ModeAdaptive))
	}
	if c.Freshness < minFreshness || c.Freshness > maxInterval {
		errs = append(errs, fmt.Errorf("flush.freshness is %v: use %v to %v", c.Freshness, minFreshness, maxInterval))
	}
	if c.Bytes < minBytes {
		errs = append(errs, fmt.Errorf("flush.bytes is %d: use at least %d", c.Bytes, minBytes))
	}
	if c.Rows < 0 {
		errs = append(errs, fmt.Errorf("flush.rows is %d: use 0 for no limit, or a positive number", c.Rows))
	}
	return errors.Join(errs...)
}

// Most is how much more than Bytes one lane may have while others have less, in bytes.
func (c Config) Most() int64 { return c.Bytes + c.Bytes/4 }

// Ledger is the account of one lane since its last flush.
type Ledger struct {
	spans map[checkpoint.Partition]*checkpoint.Span
	rows  int64
}

// NewLedger returns an empty account.
func NewLedger() *Ledger {
	return &Ledger{spans: map[checkpoint.Partition]*checkpoint.Span{}}
}

// Open returns the account of one partition, to be written to directly while its messages are taken. It begins at
// first if the partition is new to the ledger; otherwise first must be where the account stands: offsets between would be lost as gaps.
func (l *Ledger) Open(p checkpoint.Partition, first int64) (*checkpoint.Span, error) {
	s, ok := l.spans[p]
	if !ok {
		s = &checkpoint.Span{Partition: p, First: first, Next: first}
		l.spans[p] = s
		return s, nil
	}
	if s.Next != first {
		return nil, fmt.Errorf("messages of %s from offset %d are offered, but %d comes next", p, first, s.Next)
	}
	return s, nil
}

// AddRows counts rows towards the row limit.
func (l *Ledger) AddRows(n int64) { l.rows += n }

// Rows is the number of rows taken since the last Reset.
func (l *Ledger) Rows() int64 { return l.rows }

// Spans returns the non-empty spans, ordered by partition.
func (l *Ledger) Spans() []checkpoint.Span {
	spans := make([]checkpoint.Span, 0, len(l.spans))
	for _, s := range l.spans {
		if !s.Empty() {
			spans = append(spans, *s)
		}
	}
	slices.SortFunc(spans, func(a, b checkpoint.Span) int { return a.Partition.Compare(b.Partition) })
	return spans
}

// Reset forgets everything.
func (l *Ledger) Reset() {
	clear(l.spans)
	l.rows = 0
}

// Due reports whether a lane with so many bytes of Parquet and rows has reached a size limit.
func (c Config) Due(bytes, rows int64) bool {
	return bytes >= c.Bytes || c.Rows > 0 && rows >= c.Rows
}
