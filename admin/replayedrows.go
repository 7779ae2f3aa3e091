package admin

import (
	"fmt"
	"math"
	"slices"
	"sync"

	"kafkadelta/checkpoint"
)

// letterBook is what a catalog counts of dead letters, by which the rows are judged that replays have brought to its tables: no span of a table counts them.
type letterBook struct {
	catalog *ledger
	stream  string

	mu   sync.Mutex
	rows map[checkpoint.Partition]*offsets      // of replays, in whatever table
	more map[checkpoint.Partition]map[int64]int // of them, those at an offset beside the first
}

func newLetterBook(catalog *ledger, stream string) *letterBook {
	return &letterBook{
		catalog: catalog, stream: stream, rows: map[checkpoint.Partition]*offsets{}, more: map[checkpoint.Partition]map[int64]int{},
	}
}

// take notes a replayed row, and reports whether the catalog has a dead letter left for it: at most one for each generation, and none for one of
// which the table has the offset's row anyway.
func (b *letterBook) take(at checkpoint.Partition, o int64, table *verifier) bool {
	letters := 0
	for _, t := range b.catalog.byPlace[at] {
		if t.name == b.stream && t.mayBeLetter(o) && !table.hasOwn(t.trackKey, o) {
			letters++
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rows[at] == nil {
		b.rows[at], b.more[at] = &offsets{}, map[int64]int{}
	}
	if letters == 0 {
		return false
	}
	if b.rows[at].add(o) {
		return true
	}
	b.more[at][o]++
	return b.more[at][o] < letters
}

// within is at most how many dead letters there are between two offsets, in all generations.
func (b *letterBook) within(at checkpoint.Partition, first, next int64) (dead int64) {
	for _, t := range b.catalog.byPlace[at] {
		if t.name != b.stream {
			continue
		}
		if first < min(t.strict, t.limit) && t.pin < 0 { // cleaned, and the catalog's own report says so
			return math.MaxInt64 / 2 // others are added
		}
		for _, s := range t.spans {
			if s.first < next && first < s.next {
				dead += s.dead
			}
		}
	}
	return dead
}

// mayBeLetter tells whether the track may count a dead letter at an offset. Where its commits were cleaned, nothing tells.
func (t *track) mayBeLetter(o int64) bool {
	if s := t.spanAt(o); s != nil {
		return s.dead > 0
	}
	return t.pin < 0 && o < min(t.strict, t.limit)
}

// hasOwn reports whether the table has the row of an offset that is none of a replay.
func (v *verifier) hasOwn(k trackKey, o int64) bool {
	t := v.tracks[k]
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.have.has(o) && !t.replayed.has(o)
}

// follower reports whether the table has rows of replays that a catalog has decided about, or is that catalog.
func (l *ledger) follower() bool {
	for txn := range l.snap.Txns() {
		if checkpoint.IsRowsOfAny(txn.AppID) && checkpoint.BringsReplay(txn.AppID) {
			return true
		}
	}
	return false
}

// ofReplay looks at a row that no track of the table is in need of, or, where the file is known as one of a replay, at any: true where it has been a dead letter, as far as that can be told.
func (p *placer) ofReplay(o int64, covered bool) bool {
	v := p.v
	switch {
	case !v.follows:
		return false
	case v.book != nil:
		return v.book.take(p.at, o, v)
	case p.job.replay && !covered:
		return true
	case p.job.replay || !covered:
		v.doubt(p.finding(Unaccounted, o, fmt.Sprintf("%s has a row of %s offset %d, which may have been a dead letter: the catalog tells, so verify that", p.job.name, p.at, o)))
		return true
	}
	return false
}

// surplus reports whether rows that a span has more than it counts may have been dead letters. Of a catalog's table, that counts them.
func (v *verifier) surplus(t *track, s *span, more int64) bool {
	dead := int64(0)
	if v.replays(t.name) {
		dead = s.dead
	}
	if _, follows := v.snap.Txn(checkpoint.ReplayedRowsAppID(t.name)); follows {
		if v.book == nil || v.book.stream != t.name {
			v.doubtOffsets(t, s.first, s.next, "offsets [%d, %d) of %s have %d rows more than the span counts, which may have been dead letters: the catalog tells, so verify that",
				s.first, s.next, v.unitText(s.unit), more)
			return true
		}
		dead += v.book.within(t.Partition, s.first, s.next)
	}
	return t.replayed.count(s.first, s.next)+more <= dead
}

// pendingReplay tells of rows of dead letters that are on their way to the tables.
func (c *catalogCheck) pendingReplay(pending []Pending) {
	at := slices.IndexFunc(pending, func(p Pending) bool { return p.Partition == ofReplay })
	if at < 0 {
		return
	}
	switch p := pending[at]; {
	case p.Broken != "" || p.Lost != "":
		c.faults.add(Finding{Kind: LostRows, Stream: c.stream, Text: p.String() + ". A start of the stream is refused and says what to do"})
	default:
		c.notes = append(c.notes, p.String()+": the stream brings them, or its next start")
	}
}
