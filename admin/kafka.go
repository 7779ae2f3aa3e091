package admin

import (
	"context"
	"fmt"
	"math"

	"kafkadelta/checkpoint"
)

// Kafka is what Verify and Explain need of Kafka.
type Kafka interface {
	// Topic describes a topic as the cluster has it now.
	Topic(ctx context.Context, topic string) (KafkaTopic, error)
	// Read hands on every record that a reader of the stream's isolation level gets of the ranges, control records too, each
	// partition's in the order of offsets. It returns once every range was read to its end.
	Read(ctx context.Context, topic string, ranges map[int32]Range, visit func(Record)) error
}

// KafkaTopic is what Kafka tells of a topic. Offsets are by partition: those of the first record, and behind the last one that
// can be read.
type KafkaTopic struct {
	Identity   checkpoint.Identity
	Compacted  bool
	Start, End map[int32]int64
}

// Range is the offsets [First, Next).
type Range struct{ First, Next int64 }

// Record is one record of Kafka, without what is in it.
type Record struct {
	Partition int32
	Offset    int64
	Control   bool // a marker of a producer transaction: no message
}

// compare reads the topic and looks for each message in the table.
func (v *verifier) compare(ctx context.Context) error {
	topic, err := v.topic()
	if err != nil {
		return err
	}
	k, err := v.opts.Kafka.Topic(ctx, topic)
	if err != nil {
		return err
	}
	v.kafka = &KafkaReport{Topic: topic}
	var streams []*track
	former := false
	for _, t := range v.sortedTracks() {
		if t.Topic != topic || t.forgotten {
			continue
		}
		if !v.ofThisTopic(t, k.Identity) {
			former = true
			continue
		}
		if other, ok := v.identity(t.name, k.Identity); !ok {
			v.faultOffsets(t, WrongTopic, t.from, t.end, "the table's offsets are of the topic with id %s of cluster %s, but Kafka's topic %s has id %s in cluster %s: nothing was compared",
				other.TopicID, other.ClusterID, topic, k.Identity.TopicID, k.Identity.ClusterID)
			continue
		}
		streams = append(streams, t)
	}
	if former {
		v.notes = append(v.notes, fmt.Sprintf("what is of the topic %s before it was made anew is not compared with it", topic))
	}
	ranges := map[int32]Range{}
	cursors := map[int32][]*cursor{}
	for _, t := range streams {
		start, ok := k.Start[t.ID]
		if !ok {
			v.notes = append(v.notes, fmt.Sprintf("%s: Kafka has no such partition any more", t))
			continue
		}
		c := v.cursor(t, start, k.Compacted)
		if v.isNewest(t) {
			v.kafka.NotRead += max(k.End[t.ID]-max(t.end, start), 0)
		}
		if !t.fromKnown && start < t.from {
			v.kafka.BeforeFrom += t.from - start
		}
		cursors[t.ID] = append(cursors[t.ID], c)
		if c.from < t.end {
			r, ok := ranges[t.ID]
			if !ok {
				r = Range{c.from, t.end}
			}
			ranges[t.ID] = Range{min(r.First, c.from), max(r.Next, t.end)}
		}
	}
	if err := v.readKafka(ctx, topic, ranges, cursors); err != nil {
		return err
	}
	after, err := v.opts.Kafka.Topic(ctx, topic) // retention may have removed what was not read yet
	if err != nil {
		return err
	}
	for id, cs := range cursors {
		for _, c := range cs {
			c.finish(after.Start[id])
		}
	}
	return nil
}

// topic is the topic to compare.
func (v *verifier) topic() (string, error) {
	if v.opts.Topic != "" {
		for t := range v.tracks {
			if t.Topic == v.opts.Topic || t.Topic == "" {
				return v.opts.Topic, nil
			}
		}
		return "", fmt.Errorf("the table has no rows of topic %q", v.opts.Topic)
	}
	topic := ""
	for t := range v.tracks {
		if topic != "" && t.Topic != topic {
			return "", fmt.Errorf("the table has rows of the topics %q and %q: name the one to compare", topic, t.Topic)
		}
		topic = t.Topic
	}
	if topic == "" {
		return "", fmt.Errorf("the table does not tell which topic it is of: name it")
	}
	return topic, nil
}

// identity looks whether the table's offsets of a stream are of the topic. A table that does not tell can't disagree.
func (v *verifier) identity(name string, is checkpoint.Identity) (other checkpoint.Identity, ok bool) {
	p, err := progressOf(name, v.snap.Txns())
	if err != nil || len(p.Identities) == 0 {
		return other, true
	}
	for id := range p.Identities {
		if id == is {
			return id, true
		}
		other = id
	}
	return other, false
}

func (v *verifier) readKafka(ctx context.Context, topic string, ranges map[int32]Range, cursors map[int32][]*cursor) error {
	if len(ranges) == 0 {
		return nil
	}
	var total, done int64
	at := map[int32]int64{}
	for id, r := range ranges {
		total += r.Next - r.First
		at[id] = r.First
	}
	n := 0
	return v.opts.Kafka.Read(ctx, topic, ranges, func(r Record) {
		if r.Offset >= ranges[r.Partition].Next {
			return
		}
		if r.Control {
			v.kafka.Controls++
		} else {
			v.kafka.Messages++
			for _, c := range cursors[r.Partition] {
				c.message(r.Offset)
			}
		}
		done += r.Offset + 1 - at[r.Partition]
		v.kafka.OtherGaps += r.Offset - at[r.Partition]
		at[r.Partition] = r.Offset + 1
		if n++; n%10_000 == 0 && v.opts.Progress != nil {
			v.opts.Progress(Progress{"Kafka", done, total, v.rows})
		}
	})
}

// cursor goes with Kafka's messages along the spans of a track.
type cursor struct {
	v         *verifier
	t         *track
	from      int64 // first offset that is compared
	compacted bool
	counts    []counted // of each span, then of each hole
	at        int       // span
}

// counted is what Kafka has of one span or hole.
type counted struct {
	messages int64
	due      int64 // of them, those whose rows must be there: a later generation has not read them again
	absent   int64 // of those
	first    int64 // of the absent ones
}

func (v *verifier) cursor(t *track, start int64, compacted bool) *cursor {
	c := &cursor{v: v, t: t, from: max(t.from, start, t.floor), compacted: compacted, counts: make([]counted, len(t.spans)+len(t.holes))}
	v.kafka.Retired += max(min(start, t.end)-max(t.from, t.floor), 0)
	return c
}

// message takes the next message of Kafka.
func (c *cursor) message(o int64) {
	if o < c.from || o >= c.t.end {
		return
	}
	for c.at < len(c.t.spans) && c.t.spans[c.at].next <= o {
		c.at++
	}
	var n *counted
	again := false
	if c.at < len(c.t.spans) && c.t.spans[c.at].first <= o {
		n, again = &c.counts[c.at], o >= c.t.until || o < c.t.since
	} else {
		for i, h := range c.t.holes {
			if h.first <= o && o < h.next {
				n = &c.counts[len(c.t.spans)+i]
			}
		}
	}
	if n == nil {
		return // a gap, which is a fault already
	}
	n.messages++
	if again {
		return
	}
	n.due++
	if c.v.offsets && !c.t.have.has(o) && !c.t.deleted.has(o) {
		if n.absent++; n.absent == 1 {
			n.first = o
		}
	}
}

// finish compares the counts. Messages before start may have gone while they were read.
func (c *cursor) finish(start int64) {
	t, v := c.t, c.v
	from := max(c.from, start)
	for i := range t.spans {
		if s := &t.spans[i]; s.next > from && !v.units[s.unit].unread {
			c.finishSpan(s, c.counts[i], from)
		}
	}
	holes := t.holes[:0]
	for i, h := range t.holes {
		n := c.counts[len(t.spans)+i]
		switch {
		case h.first < from: // Kafka can't tell of all of it
		case !v.offsets && n.messages == 0, v.offsets && n.absent == 0: // nothing was there that could have become a row
			t.unaccounted -= h.absent
			continue
		case v.offsets:
			h.absent = n.absent
		}
		holes = append(holes, h)
	}
	t.holes = holes
}

func (c *cursor) finishSpan(s *span, n counted, from int64) {
	t, v := c.t, c.v
	if s.first >= from && n.messages > s.messages() {
		v.faultOffsets(t, MissingMessage, s.first, s.next, "Kafka has %d messages in [%d, %d), but %s has taken only %d",
			n.messages, s.first, s.next, v.unitText(s.unit), s.messages())
		return
	}
	due := t.due(s)
	if !v.offsets || v.units[s.unit].blind > 0 || due.width() == 0 {
		return
	}
	without, cut := s.messages()-s.rows, due != s
	s = due
	gone := max(s.rows-t.there(s), 0) // deleted by others, or told already
	switch u := &v.units[s.unit]; {
	case n.absent <= without+gone:
	case cut && (u.version < 0 || len(v.changers(u)) > 0): // Kafka shows more than the numbers of the span: others may have deleted these, too
		t.lacking += v.explainLack(t, s, n.absent-without-gone)
		return
	default:
		v.faultOffsets(t, MissingMessage, n.first, s.next, "%d messages that Kafka has in [%d, %d) are not in the table, and only %d were skipped, filtered, are dead letters or rows of other tables; the first has offset %d",
			n.absent, s.first, s.next, without, n.first)
		return
	}
	first := max(s.first, from)
	rows := t.have.count(first, s.next) + t.deleted.count(first, s.next)
	switch extra := rows - (n.due - n.absent); {
	case extra <= 0 || first == math.MaxInt64:
	case c.compacted:
		v.kafka.Compacted += extra
	default:
		v.faultOffsets(t, UnknownMessage, first, s.next, "%d rows of offsets [%d, %d) are of messages that Kafka does not have, and the topic is not compacted",
			extra, first, s.next)
	}
}
