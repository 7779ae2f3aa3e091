package checkpoint

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Keys under which spans are stored in a Delta log. Both hold a value that carries its own format version.
const (
	CommitInfoKey = "kafkadelta"       // in commitInfo: a CommitRecord
	TagKey        = "kafkadelta.spans" // in the tags of an add: a UnitRecord, as a string
)

// FormatVersion is the newest version that this package knows. A reader takes every version up to its own and refuses newer
// ones by number. What is written has the lowest version that can say it: 2 is for units with dead letters, 3 for those with filtered
// messages, and 4 for those with rows of other tables, whose numbers don't add up for readers of the versions before.
const FormatVersion = 4

// FormatOf is the version that spans are written with.
func FormatOf(spans []Span) int {
	switch {
	case slices.ContainsFunc(spans, func(s Span) bool { return s.Routed > 0 }):
		return 4
	case slices.ContainsFunc(spans, func(s Span) bool { return s.Filtered > 0 }):
		return 3
	case slices.ContainsFunc(spans, func(s Span) bool { return s.Dead > 0 }):
		return 2
	}
	return 1
}

// UnitRecord is the persisted form of one unit: the files of one lane's flush and the spans they hold. It stands in each
// add's tags, because log checkpoints drop commitInfo.
type UnitRecord struct {
	Version    int    `json:"v"`
	Unit       string `json:"unit"`         // random id of the unit
	Name       string `json:"name"`         // stream name, the prefix of its app ids
	Generation int64  `json:"gen"`          // raised by a rewind; offsets are taken once per generation
	ReadAt     int64  `json:"rv"`           // Delta version at which the unit's bases were read
	Spans      []Span `json:"spans"`        // one per partition, ordered
	Pin        bool   `json:"pin,omitzero"` // the unit pins starts: its spans are empty and hold no rows
	// Rewind tells of a pin that it begins the generation, for all partitions of the stream (rule A5).
	Rewind *Rewind `json:"rewind,omitzero"`
}

// Rewind is what an operator has asked for. Its unit's spans say where each partition goes on.
type Rewind struct {
	How  string  `json:"how"`  // such as "--to earliest"
	From []int64 `json:"from"` // for each span: the first offset that the generation before had not taken; -1: it had no txn
	// NewTopic tells that offsets are those of another topic from here on.
	NewTopic bool `json:"newTopic,omitzero"`
	// Catalog tells of a table that follows its catalog into the generation, with the first rows of it (ADR 12).
	Catalog bool `json:"catalog,omitzero"`
	// Adopted tells of a stream whose txns were lost, and that begins again behind the rows that it has, in a generation after theirs.
	Adopted bool `json:"adopted,omitzero"`
}

// check refuses a record that speaks of a rewind and can't be one.
func (u UnitRecord) check() error {
	if u.Rewind != nil && (!u.Pin || u.Generation < 1 || len(u.Rewind.From) != len(u.Spans)) {
		return fmt.Errorf("unit %q is a rewind with %d starts for %d partitions, generation %d", u.Unit, len(u.Rewind.From), len(u.Spans), u.Generation)
	}
	return nil
}

// CommitRecord is the persisted form of one commit: all its units, those that it carried for other workers last.
type CommitRecord struct {
	Version int          `json:"v"`
	Units   []UnitRecord `json:"units"`
	// Carried is how many of the units were left as proposals by other workers.
	Carried int `json:"carried,omitzero"`
	// Contended tells other workers that the log is competed for, so that it pays to look for proposals.
	Contended bool `json:"contended,omitzero"`
}

type spanJSON struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	First     int64  `json:"first"`
	Next      int64  `json:"next"`
	Records   int64  `json:"records"`
	Rows      int64  `json:"rows"`
	Skipped   int64  `json:"skipped"`
	Dead      int64  `json:"dead,omitzero"`     // since version 2
	Filtered  int64  `json:"filtered,omitzero"` // since version 3
	Routed    int64  `json:"routed,omitzero"`   // since version 4
	Gaps      int64  `json:"gaps"`
	Lost      int64  `json:"lost,omitzero"`          // of the gaps; readers from before it was there count them as such
	Epoch     *int32 `json:"leader_epoch,omitempty"` // of the last record
}

// MarshalJSON writes the span with its gaps spelled out, so that other programs need not know the rule.
func (s Span) MarshalJSON() ([]byte, error) {
	j := spanJSON{s.Topic, s.ID, s.First, s.Next, s.Records, s.Rows, s.Skipped, s.Dead, s.Filtered, s.Routed, s.Gaps(), s.Lost, nil}
	if leader := s.Epoch.Leader(); leader >= 0 {
		j.Epoch = &leader
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads a span and refuses one whose numbers do not add up.
func (s *Span) UnmarshalJSON(data []byte) error {
	var j spanJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*s = Span{Partition{j.Topic, j.Partition}, j.First, j.Next, j.Records, j.Rows, j.Skipped, j.Dead, j.Filtered, j.Routed, j.Lost, 0}
	if j.Epoch != nil {
		s.Epoch = EpochOf(*j.Epoch)
	}
	if err := s.Validate(); err != nil {
		return err
	}
	if j.Gaps != s.Gaps() {
		return fmt.Errorf("span of %s: %d gaps are written, but [%d, %d) with %d records has %d", s.Partition, j.Gaps, j.First, j.Next, j.Records, s.Gaps())
	}
	return nil
}

// Encode gives the JSON text for TagKey.
func (u UnitRecord) Encode() (string, error) {
	u.Version = max(u.Version, FormatOf(u.Spans))
	b, err := json.Marshal(u)
	return string(b), err
}

// DecodeUnit reads what Encode wrote, by this or an earlier version of the package.
func DecodeUnit(text string) (UnitRecord, error) {
	var u UnitRecord
	if err := decodeVersioned([]byte(text), &u, func() int { return u.Version }); err != nil {
		return UnitRecord{}, fmt.Errorf("reading the spans of a unit: %w", err)
	}
	if err := u.check(); err != nil {
		return UnitRecord{}, fmt.Errorf("reading the spans of a unit: %w", err)
	}
	return u, nil
}

// Encode gives the JSON value for CommitInfoKey.
func (c CommitRecord) Encode() (json.RawMessage, error) {
	c.Version = max(c.Version, 1)
	for i := range c.Units {
		c.Units[i].Version = max(c.Units[i].Version, FormatOf(c.Units[i].Spans))
		c.Version = max(c.Version, c.Units[i].Version)
	}
	return json.Marshal(c)
}

// DecodeCommit reads what CommitRecord.Encode wrote, by this or an earlier version of the package.
func DecodeCommit(value json.RawMessage) (CommitRecord, error) {
	var c CommitRecord
	if err := decodeVersioned(value, &c, func() int { return c.Version }); err != nil {
		return CommitRecord{}, fmt.Errorf("reading the spans of a commit: %w", err)
	}
	for _, u := range c.Units {
		if err := checkVersion(u.Version); err != nil {
			return CommitRecord{}, fmt.Errorf("reading the spans of a commit, unit %q: %w", u.Unit, err)
		}
		if err := u.check(); err != nil {
			return CommitRecord{}, fmt.Errorf("reading the spans of a commit: %w", err)
		}
	}
	return c, nil
}

// CommitSummary is what a writer that follows the log needs of a CommitRecord.
type CommitSummary struct {
	Units     []string // ids
	Carried   int
	Contended bool
}

// SummarizeCommit reads that much of what CommitRecord.Encode wrote. The spans are passed over unread.
func SummarizeCommit(value json.RawMessage) (CommitSummary, error) {
	var c struct {
		Version int `json:"v"`
		Units   []struct {
			Version int    `json:"v"`
			Unit    string `json:"unit"`
		} `json:"units"`
		Carried   int  `json:"carried"`
		Contended bool `json:"contended"`
	}
	if err := json.Unmarshal(value, &c); err != nil {
		return CommitSummary{}, fmt.Errorf("reading the units of a commit: %w", err)
	}
	if err := checkVersion(c.Version); err != nil {
		return CommitSummary{}, fmt.Errorf("reading the units of a commit: %w", err)
	}
	summary := CommitSummary{Carried: c.Carried, Contended: c.Contended}
	for _, u := range c.Units {
		if err := checkVersion(u.Version); err != nil {
			return CommitSummary{}, fmt.Errorf("reading the units of a commit, unit %q: %w", u.Unit, err)
		}
		summary.Units = append(summary.Units, u.Unit)
	}
	return summary, nil
}

// decodeVersioned looks at the version before it trusts the rest, so that a newer format gives an error that says so.
func decodeVersioned(data []byte, into any, version func() int) error {
	var head struct {
		Version int `json:"v"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return err
	}
	if err := checkVersion(head.Version); err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return err
	}
	if v := version(); v != head.Version {
		return fmt.Errorf("format version %d, then %d", head.Version, v)
	}
	return nil
}

func checkVersion(v int) error {
	if v < 1 || v > FormatVersion {
		return fmt.Errorf("format version %d is not known (this binary reads 1 to %d): use a newer binary", v, FormatVersion)
	}
	return nil
}
