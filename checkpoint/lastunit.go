package checkpoint

import "time"

// rewriteSlack is by how much the clock of who rewrites files may be behind ours.
const rewriteSlack = time.Hour

// LastUnit looks for a stream's last unit with files among the files of its table, where the log that would tell of a RESTORE was cleaned
// (rule A6a). Files are told from each other by their tags.
type LastUnit struct {
	At        time.Time // when it was committed
	Found     bool      // one of its files is there
	Rewritten bool      // a file of another writer is there that is younger than its commit: its rows may have been moved into it, as by OPTIMIZE

	name string
	mark int64
}

// NewLastUnit takes the txn of LastUnitAppID. False where it names no unit: nothing can be told then.
func NewLastUnit(name string, mark int64, lastUpdated *int64) (*LastUnit, bool) {
	if mark < 0 || lastUpdated == nil {
		return nil, false
	}
	return &LastUnit{name: name, mark: mark, At: time.UnixMilli(*lastUpdated)}, true
}

// See looks at the tag TagKey of a live file ("" for none), made at a time in milliseconds. True: no other file need be seen.
func (l *LastUnit) See(tag string, modified int64) bool {
	if u, err := DecodeUnit(tag); err == nil {
		l.Found = l.Found || u.Name == l.name && UnitMark(u.Unit) == l.mark
	} else {
		l.Rewritten = l.Rewritten || !time.UnixMilli(modified).Before(l.At.Add(-rewriteSlack))
	}
	return l.Found
}
