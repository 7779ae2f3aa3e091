// Package checkpoint holds the pure values and rules of stream progress: which offsets of which Kafka partition a Delta
// commit covers, how that is spelled as Delta txn actions, and how it is stored beside the data.
//
// It owns the naming of txn app ids, the meaning of a txn's version, and the versioned JSON form of spans. It promises
// that everything it encodes can be decoded by every later version of this package. It does no I/O, starts no goroutine
// and imports nothing but the standard library.
//
// "Checkpoint" never means Delta's Parquet state file here: that one is called a log checkpoint (package delta).
package checkpoint

import (
	"cmp"
	"fmt"
)

// Partition names one partition of one Kafka topic.
type Partition struct {
	Topic string
	ID    int32
}

func (p Partition) String() string { return fmt.Sprintf("%s[%d]", p.Topic, p.ID) }

// Compare orders partitions by topic, then id.
func (p Partition) Compare(o Partition) int {
	return cmp.Or(cmp.Compare(p.Topic, o.Topic), cmp.Compare(p.ID, o.ID))
}

// Position is where a partition is to be read from.
type Position struct {
	Next  int64
	Epoch Epoch // of the record before it: Kafka can tell whether it still has that one
}

// Span is what one unit takes from one partition: the half-open offsets [First, Next), and what became of the messages
// in it. First is always the table's txn version + 1, never the first record's offset, so that the spans of successive
// commits tile a partition without a hole even where Kafka left gaps (control records, compaction, aborted producer
// transactions).
type Span struct {
	Partition
	First   int64 // first offset covered
	Next    int64 // first offset not covered
	Records int64 // messages delivered by Kafka in the span
	Rows    int64 // of them, messages that became a row
	Skipped int64 // of them, poison messages dropped by on_error: skip
	Dead    int64 // of them, poison messages that the dead-letter table has
	// Filtered is the number of them that table.filter leaves out.
	Filtered int64
	// Routed is the number of them that are rows of other tables, which this one's commit decides about (ADR 12).
	Routed int64
	// Lost is the number of gaps that Kafka's retention had made before the offsets were read: what was in them is not known.
	Lost  int64
	Epoch Epoch // of the last record taken
}

// Epoch is a leader epoch of Kafka plus 1, so that the zero value is none. A log that was cut back by an unclean leader election
// gives the same offsets again under a later one.
type Epoch int64

// EpochOf takes a leader epoch as Kafka's clients tell it: -1 is none.
func EpochOf(leader int32) Epoch { return Epoch(max(leader, -1)) + 1 }

// Leader is the epoch as Kafka's clients take it.
func (e Epoch) Leader() int32 { return int32(e - 1) }

// Gaps is the number of offsets in the span that Kafka delivered no message for, those that were lost included.
func (s Span) Gaps() int64 { return s.Next - s.First - s.Records }

// Empty reports whether the span covers no offset.
func (s Span) Empty() bool { return s.Next == s.First }

// Validate checks the span's arithmetic: offsets ordered and not negative, every message accounted for.
func (s Span) Validate() error {
	switch {
	case s.First < 0 || s.Next < s.First:
		return fmt.Errorf("span of %s: [%d, %d) is not an offset range", s.Partition, s.First, s.Next)
	case s.Records < 0 || s.Rows < 0 || s.Skipped < 0 || s.Dead < 0 || s.Filtered < 0 || s.Routed < 0 || s.Gaps() < 0:
		return fmt.Errorf("span of %s: [%d, %d) cannot hold %d records, %d rows, %d skipped, %d dead letters, %d filtered, %d routed",
			s.Partition, s.First, s.Next, s.Records, s.Rows, s.Skipped, s.Dead, s.Filtered, s.Routed)
	case s.Lost < 0 || s.Lost > s.Gaps():
		return fmt.Errorf("span of %s: [%d, %d) with %d records cannot have lost %d offsets", s.Partition, s.First, s.Next, s.Records, s.Lost)
	case s.Rows+s.Skipped+s.Dead+s.Filtered+s.Routed != s.Records:
		return fmt.Errorf("span of %s: [%d, %d) has %d records but %d rows, %d skipped, %d dead letters, %d filtered and %d routed",
			s.Partition, s.First, s.Next, s.Records, s.Rows, s.Skipped, s.Dead, s.Filtered, s.Routed)
	}
	return nil
}
