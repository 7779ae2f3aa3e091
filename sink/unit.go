package sink

import (
	"slices"
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink/datafile"
)

// State is what has become of a unit.
type State int

// The states of a unit. Pending becomes Landed or Dropped for good; Unresolved means that an answer was lost and nobody waits
// for it any more: the unit may land yet, and its files stay.
const (
	Pending State = iota
	Landed
	Dropped
	Unresolved
)

func (s State) String() string { return [...]string{"pending", "landed", "dropped", "unresolved"}[s] }

// Unit is what lands together: the files of one lane's flush and the spans of the partitions in them.
type Unit struct {
	ID     string
	Spans  []checkpoint.Span
	files  []file
	layout *Layout
	state  State
	sent   bool    // it has been in a put whose answer is not known, or may be in a version that can't be understood
	pin    *pin    // instead of rows: the starts to pin
	app    *AppTxn // instead of spans: what Append was asked for; its ID may be empty

	version int64 // that it has landed in

	parcel     *Parcel     // that it decides about
	slots      []Slot      // that land with it
	generation *int64      // of a replay: the only one that it may land in
	brought    []delta.Add // files of parcels, instead of its own
	copies     []string    // files that were made for a delivery alone
	written    time.Time   // when the oldest of the files of a delivery was
	note       string      // of a parcel: the object that names its files; of a unit with a manifest: that
	manifest   int64       // that it decides about; 0 for none
	consigned  map[string]*Parcel
	routed     []routedRows // of a delivery: what is known of the parcels

	proposals  []string  // objects that others may have read and may carry
	proposedAt int64     // rv of the newest of them
	left       time.Time // when the put of that was answered
	gone       bool      // a later listing did not have it: it has failed, or others have deleted it
	refuted    bool      // a version that does not hold it has touched one of its app ids: it can never land
}

// file is one finished data file of a unit.
type file struct {
	datafile.Info
	values   map[string]*string // partition values by column; nil is null
	finished time.Time
}

// brings takes note of when a file was written that a delivery brings.
func (u *Unit) brings(written time.Time) {
	if u.written.IsZero() || written.Before(u.written) {
		u.written = written
	}
}

// born is when the oldest of the unit's files, those of its parcel included, was finished; false where it has none.
func (u *Unit) born() (time.Time, bool) {
	if !u.written.IsZero() {
		return u.written, true
	}
	var oldest time.Time
	files := u.files
	if u.parcel != nil {
		files = slices.Concat(files, u.parcel.unit.files)
	}
	for _, p := range u.consigned {
		files = slices.Concat(files, p.unit.files)
	}
	for i, f := range files {
		if i == 0 || f.finished.Before(oldest) {
			oldest = f.finished
		}
	}
	return oldest, len(files) > 0
}

// maxAge is how old the oldest of the unit's files may be when they are committed.
func (u *Unit) maxAge() time.Duration {
	if u.written.IsZero() {
		return maxUnitAge
	}
	return maxDeliveryAge
}

// State tells what has become of the unit.
func (u *Unit) State() State { return u.state }

// Files is the number of data files, those for other tables included.
func (u *Unit) Files() int {
	n := len(u.files)
	for _, p := range u.consigned {
		n += p.unit.Files()
	}
	return n
}

// Rows is the number of rows, those for other tables included.
func (u *Unit) Rows() int64 {
	var n int64
	for _, f := range u.files {
		n += f.Rows
	}
	for _, p := range u.consigned {
		n += p.Rows()
	}
	return n
}

// Bytes is the size of the data files, those for other tables included.
func (u *Unit) Bytes() int64 {
	var n int64
	for _, f := range u.files {
		n += f.Size
	}
	for _, p := range u.consigned {
		n += p.unit.Bytes()
	}
	return n
}

// adds are the actions that bring the files into the table.
func (u *Unit) adds(tags map[string]string) []delta.Add {
	adds := make([]delta.Add, 0, len(u.files))
	for _, f := range u.files {
		adds = append(adds, delta.Add{
			Path: delta.EncodePath(f.Name), PartitionValues: f.values, Size: f.Size, ModificationTime: f.finished.UnixMilli(),
			DataChange: true, Stats: f.Stats, Tags: tags,
		})
	}
	return adds
}

// taggedAdds are the actions with the unit's record in their tags.
func (u *Unit) taggedAdds(record checkpoint.UnitRecord) ([]delta.Add, error) {
	tag, err := record.Encode()
	if err != nil {
		return nil, &Error{Op: "encoding a unit's spans", Err: err}
	}
	return u.adds(map[string]string{checkpoint.TagKey: tag}), nil
}

func (t *Table) recordFor(u *Unit, readAt int64) checkpoint.UnitRecord {
	return checkpoint.UnitRecord{
		Version: checkpoint.FormatOf(u.Spans), Unit: u.ID, Name: t.opts.Name, Generation: t.gen.Load(), ReadAt: readAt, Spans: u.Spans, Pin: u.pin != nil,
	}
}

// summaryOf reads what a version says of its units. It is empty where another program made it: then none of ours is in it. One that
// can't be understood, of a newer release, may have carried them.
func summaryOf(commit *delta.Commit) (summary checkpoint.CommitSummary, understood bool) {
	if commit.Info == nil {
		return summary, true
	}
	value, ok := commit.Info.Fields[checkpoint.CommitInfoKey]
	if !ok {
		return summary, true
	}
	summary, err := checkpoint.SummarizeCommit(value)
	return summary, err == nil
}

// unitsIn finds which of the units a version holds.
func unitsIn(summary checkpoint.CommitSummary, units []*Unit) []*Unit {
	var found []*Unit
	for _, u := range units {
		if slices.Contains(summary.Units, u.ID) {
			found = append(found, u)
		}
	}
	return found
}

// holds reports whether one of the units moves the app id.
func holds(units []*Unit, appID, name string) bool {
	return slices.ContainsFunc(units, func(u *Unit) bool {
		return slices.ContainsFunc(u.Spans, func(s checkpoint.Span) bool { return checkpoint.AppID(name, s.ID) == appID })
	})
}
