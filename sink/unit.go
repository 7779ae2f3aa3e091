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
	sent   bool    // it has been in a put whose answer is not known
	pin    *pin    // instead of rows: the starts to pin
	app    *AppTxn // instead of spans: what Append was asked for; its ID may be empty

	version int64 // that it has landed in
}

// file is one finished data file of a unit.
type file struct {
	datafile.Info
	values map[string]*string // partition values by column; nil is null
}

// State tells what has become of the unit.
func (u *Unit) State() State { return u.state }

// Files is the number of data files.
func (u *Unit) Files() int { return len(u.files) }

// Rows is the number of rows.
func (u *Unit) Rows() int64 {
	var n int64
	for _, f := range u.files {
		n += f.Rows
	}
	return n
}

// Bytes is the size of the data files.
func (u *Unit) Bytes() int64 {
	var n int64
	for _, f := range u.files {
		n += f.Size
	}
	return n
}

// adds are the actions that bring the files into the table.
func (u *Unit) adds(now time.Time, tags map[string]string) []delta.Add {
	adds := make([]delta.Add, 0, len(u.files))
	for _, f := range u.files {
		adds = append(adds, delta.Add{
			Path: delta.EncodePath(f.Name), PartitionValues: f.values, Size: f.Size, ModificationTime: now.UnixMilli(),
			DataChange: true, Stats: f.Stats, Tags: tags,
		})
	}
	return adds
}

func (u *Unit) record(name string, readAt int64) checkpoint.UnitRecord {
	return checkpoint.UnitRecord{Version: checkpoint.FormatVersion, Unit: u.ID, Name: name, ReadAt: readAt, Spans: u.Spans, Pin: u.pin != nil}
}

// unitsIn finds which of the units a version holds. Its commitInfo names them.
func unitsIn(commit *delta.Commit, units []*Unit) []*Unit {
	if len(units) == 0 || commit.Info == nil {
		return nil
	}
	value, ok := commit.Info.Fields[checkpoint.CommitInfoKey]
	if !ok {
		return nil
	}
	record, err := checkpoint.DecodeCommit(value)
	if err != nil {
		return nil // another program's, or a newer one's: not ours, since we write what we can read
	}
	var found []*Unit
	for _, u := range units {
		if slices.ContainsFunc(record.Units, func(r checkpoint.UnitRecord) bool { return r.Unit == u.ID }) {
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
