package checkpoint

import (
	"encoding/json"
	"time"
)

// rewriteSlack is by how much the clock of who rewrites files may be behind ours.
const rewriteSlack = time.Hour

// LastUnit looks for a stream's last unit with files among the files of its table, where the log that would tell of a RESTORE was cleaned
// (rule A6a). Files are told from each other by their tags.
type LastUnit struct {
	At    time.Time // when it was committed
	Found bool      // one of its files is there

	name  string
	mark  int64
	maybe bool // a file of another writer is there that is younger than its commit, and whose rows may be of Kafka
	bare  bool // such a file is there whose rows are not, if the stream's own rows tell their offsets
	tells bool // they do
}

// NewLastUnit takes the txn of LastUnitAppID. False where it names no unit: nothing can be told then.
func NewLastUnit(name string, mark int64, lastUpdated *int64) (*LastUnit, bool) {
	if mark < 0 || lastUpdated == nil {
		return nil, false
	}
	return &LastUnit{name: name, mark: mark, At: time.UnixMilli(*lastUpdated)}, true
}

// See looks at a live file: its tag TagKey ("" for none), when it was made, in milliseconds, and its statistics. True: no other file need be seen.
func (l *LastUnit) See(tag string, modified int64, stats string) bool {
	u, err := DecodeUnit(tag)
	switch {
	case err == nil && u.Name == l.name:
		l.Found = l.Found || UnitMark(u.Unit) == l.mark
		l.tells = l.tells || tellsOffsets(stats) == someOffsets
	case err == nil:
	case time.UnixMilli(modified).Before(l.At.Add(-rewriteSlack)):
		l.tells = l.tells || tellsOffsets(stats) == someOffsets
	case l.maybe:
	case tellsOffsets(stats) == noOffsets:
		l.bare = true
	default:
		l.maybe = true
	}
	return l.Found
}

// Rewritten tells whether a file of another writer was seen that is younger than the unit's commit, so that the unit's rows may have been moved into it,
// as by OPTIMIZE. An append of others is no such file, where its rows tell no offsets and those of the stream do.
func (l *LastUnit) Rewritten() bool { return l.maybe || l.bare && !l.tells }

// What a file's statistics say of its rows' offsets.
const (
	notKnown    = iota
	noOffsets   // no row has one
	someOffsets // some row has one
)

// tellsOffsets looks in the statistics of a file (PROTOCOL.md, "Per-file Statistics") for the metadata column, which is known by its fields: a
// configuration may name it as it likes. With column mapping they have other names, and nothing is known.
func tellsOffsets(stats string) int {
	var s struct {
		Rows  *int64                     `json:"numRecords"`
		Nulls map[string]json.RawMessage `json:"nullCount"`
	}
	if json.Unmarshal([]byte(stats), &s) != nil || s.Rows == nil {
		return notKnown
	}
	found := notKnown
	for _, column := range s.Nulls {
		var nulls struct{ Partition, Offset *int64 }
		switch {
		case json.Unmarshal(column, &nulls) != nil || nulls.Partition == nil || nulls.Offset == nil: // another column
		case *nulls.Partition < *s.Rows && *nulls.Offset < *s.Rows:
			return someOffsets
		default:
			found = noOffsets
		}
	}
	return found
}
