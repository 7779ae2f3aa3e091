package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// TableReport is what was found of one of a catalog's tables.
type TableReport struct {
	Table string `json:"table"` // its key
	*Report
}

// Tables are the keys of the tables that a catalog knows, by its newest version, sorted.
func Tables(ctx context.Context, catalog delta.LogStore, stream string) ([]string, error) {
	snap, err := delta.OpenSnapshot(ctx, catalog, -1)
	if err != nil {
		return nil, err
	}
	var keys []string
	for txn := range snap.Txns() {
		if key, ok := checkpoint.TableOf(stream, txn.AppID); ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys, nil
}

// VerifyCatalog is Verify for a stream whose rows are in many tables (ADR 12). The catalog accounts for each offset, and is compared with Kafka;
// then each table is verified by itself, and each span of the catalog has to have its rows in them. What the catalog has decided last may be on
// its way, if what brings it is there.
func VerifyCatalog(ctx context.Context, catalog delta.LogStore, stream string, open OpenStore, o Options) (*Report, []TableReport, error) {
	v, err := verify(ctx, catalog, o, nil)
	if err != nil {
		return nil, nil, err
	}
	keys, err := Tables(ctx, catalog, stream)
	if err != nil {
		return nil, nil, err
	}
	c := catalogCheck{verifier: v, stream: stream, rows: map[spanEnd]int64{}, again: map[spanEnd]int64{}, slots: map[string]map[int32]int64{}}
	if c.consigned, err = readConsigned(ctx, catalog, stream, slotsOf(stream, v.snap.Txns()), open); err != nil {
		return nil, nil, err
	}
	for key, err := range c.consigned.broken {
		return nil, nil, fmt.Errorf("table %s: %w", key, err)
	}
	o.Kafka, o.Letters, o.Since, o.Until = nil, nil, -1, -1
	reports, book := []TableReport{}, newLetterBook(v.ledger, stream)
	for _, key := range keys { // after the catalog, so that what it tells of them is there, or on its way
		store, err := open(ctx, key)
		if err != nil {
			return nil, nil, err
		}
		table, err := verify(ctx, store, o, book)
		if errors.Is(err, delta.ErrNotTable) {
			v.faults.add(Finding{Kind: MissingFile, Stream: stream, Text: fmt.Sprintf("table %s, which the catalog knows, is not there", key)})
			c.consigned.broken[key] = errNotThere
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("table %s: %w", key, err)
		}
		c.add(key, table)
		reports = append(reports, TableReport{key, table.report()})
	}
	after, err := delta.OpenSnapshot(ctx, catalog, -1)
	if err != nil {
		return nil, nil, err
	}
	c.compare(slotsOf(stream, after.Txns()))
	return v.report(), reports, nil
}

// spanEnd is where a span of the catalog ends, and with it those of the tables that have rows of it.
type spanEnd struct {
	checkpoint.Partition
	gen, next int64
}

// catalogCheck compares what a catalog has decided with what the tables have.
type catalogCheck struct {
	*verifier
	stream    string
	consigned *consigned
	rows      map[spanEnd]int64          // that the tables tell of
	again     map[spanEnd]int64          // of them, rows at offsets that another generation has
	slots     map[string]map[int32]int64 // of the tables, by key and partition
	cleaned   []func(*track, *span) bool // for each table whose log was cleaned: whether it may have had rows of the span
}

func (c *catalogCheck) add(key string, table *verifier) {
	table.unverified = slices.DeleteFunc(table.unverified, func(f Finding) bool { return f.Kind == NothingLeft }) // nothing has come yet: the catalog accounts for that
	c.slots[key] = slotsOf(c.stream, table.snap.Txns())
	if table.base != nil {
		last, gen := map[int32]int64{}, table.baseGeneration(c.stream)
		for txn := range table.base.Txns() {
			if p, ok := checkpoint.PartitionOf(c.stream, txn.AppID); ok {
				last[p] = txn.Version
			}
		}
		c.cleaned = append(c.cleaned, func(t *track, s *span) bool {
			at, ok := last[t.ID]
			return ok && (t.gen < gen || t.gen == gen && s.next <= at+1)
		})
	}
	for _, t := range table.tracks {
		decided := c.tracks[t.trackKey]
		for _, s := range t.spans {
			if t.name != c.stream {
				continue
			}
			end := spanEnd{t.Partition, t.gen, s.next}
			if c.rows[end] += s.rows; decided != nil {
				due := decided.due(&s)
				c.again[end] += t.have.count(s.first, due.first) + t.have.count(due.next, s.next)
			}
		}
	}
}

// compare takes the catalog's slots as they are after the tables were read.
func (c *catalogCheck) compare(now map[int32]int64) {
	pending := map[int32]Pending{}
	all := c.consigned.pending(c.slots, now)
	for _, p := range all {
		pending[p.Partition] = p
	}
	c.pendingReplay(all)
	var tracks []*track
	for _, t := range c.tracks {
		if t.name == c.stream {
			tracks = append(tracks, t)
		}
	}
	slices.SortFunc(tracks, func(a, b *track) int { return cmp.Or(cmp.Compare(a.ID, b.ID), -cmp.Compare(a.gen, b.gen)) })
	named := map[int32]bool{} // partitions whose last span with rows was met: it is the one that the slot names, of whatever generation
	for _, t := range tracks {
		for i := range slices.Backward(t.spans) {
			s := &t.spans[i]
			last := s.routed > 0 && !named[t.ID]
			named[t.ID] = named[t.ID] || last
			there := c.rows[spanEnd{t.Partition, t.gen, s.next}]
			spare := s.width() - t.due(s).width() - c.again[spanEnd{t.Partition, t.gen, s.next}] // rows that may lack: another generation has taken their offsets
			switch {
			case there == s.routed:
			case there > s.routed:
				c.faultOffsets(t, RowCount, s.first, s.next, "the tables tell of %d rows of offsets [%d, %d), but the catalog of %d", there, s.first, s.next, s.routed)
			case s.routed-there <= spare:
			case last && c.onTheirWay(t, s, s.routed-there, pending, now):
			case slices.ContainsFunc(c.cleaned, func(hides func(*track, *span) bool) bool { return hides(t, s) }):
				c.doubtOffsets(t, s.first, s.next, "%d of %d rows of offsets [%d, %d) are not told of by any table, and the log of a table was cleaned", s.routed-there, s.routed, s.first, s.next)
			default:
				c.faultOffsets(t, LostRows, s.first, s.next, "%d of %d rows of offsets [%d, %d) were decided about by the catalog, and no table has got them", s.routed-there, s.routed, s.first, s.next)
			}
		}
	}
}

// onTheirWay tells of rows that the tables lack of the span that a slot names, and are to get: false where nothing will bring them.
func (c *catalogCheck) onTheirWay(t *track, s *span, lacking int64, pending map[int32]Pending, now map[int32]int64) bool {
	note := func(format string, args ...any) {
		c.notes = append(c.notes, fmt.Sprintf("%s: %d rows of offsets [%d, %d) are decided about and ", t, lacking, s.first, s.next)+fmt.Sprintf(format, args...))
	}
	p, ok := pending[t.ID]
	switch {
	case now[t.ID] != c.consigned.slots[t.ID]:
		note("were on their way to their tables: the stream has gone on since, as it does once they are there")
	case !ok || p.Lost == "" && p.Broken == "" && p.Rows != lacking:
		return false
	case p.Broken != "":
		c.faultOffsets(t, LostRows, s.first, s.next, "%d of %d rows of offsets [%d, %d) were decided about by the catalog, and can't be brought to their tables: %s",
			lacking, s.routed, s.first, s.next, p.Broken)
	case p.Lost != "":
		c.faultOffsets(t, LostRows, s.first, s.next, "%d of %d rows of offsets [%d, %d) were decided about by the catalog, and can't be brought to their tables any more: %s. A start of the stream is refused and says what to do",
			lacking, s.routed, s.first, s.next, p.Lost)
	default:
		note("on their way to %s: the stream brings them, or its next start", strings.Join(p.Tables, ", "))
	}
	return true
}
