package admin

import (
	"slices"
	"strings"
	"time"
)

// Verdict is the answer of Verify.
type Verdict string

// The verdicts. Unverifiable means that no fault was found, and that not everything could be checked.
const (
	OK           Verdict = "ok"
	Faulty       Verdict = "faults"
	Unverifiable Verdict = "cannot be verified"
)

// Kind is what sort of fault a finding is. docs/verify.md says what each means and what to do.
type Kind string

// The kinds of faults.
const (
	Gap             Kind = "gap"              // offsets that no commit has taken
	Overlap         Kind = "overlap"          // offsets that two commits have taken
	Duplicate       Kind = "duplicate"        // a message that is in two rows
	LostRows        Kind = "lost_rows"        // rows that were committed, are not there, and that nobody is known to have deleted
	RowCount        Kind = "row_count"        // the numbers of rows of a file, its statistics and its spans differ
	OutsideSpan     Kind = "outside_span"     // a row whose offset is not in the spans of its file
	MissingFile     Kind = "missing_file"     // the log names a file that is not there
	BrokenFile      Kind = "broken_file"      // a file that can't be read
	LyingTag        Kind = "lying_tag"        // what a file's tag says of its unit is not what the commit says
	ForgedTxn       Kind = "forged_txn"       // a txn that is not the end of the spans
	WrongGeneration Kind = "wrong_generation" // a unit that landed after a rewind had given it up, or rewinds that don't follow each other
	BrokenRecord    Kind = "broken_record"    // spans that can't be read
	Restored        Kind = "restored"         // RESTORE or REPLACE took rows back and left the txns
	MissingMessage  Kind = "missing_message"  // a message of Kafka that should be a row and is none
	UnknownMessage  Kind = "unknown_message"  // a row of a message that Kafka does not have
	WrongTopic      Kind = "wrong_topic"      // Kafka's topic is not the one that the table's offsets are of
	Unaccounted     Kind = "unaccounted"      // not a fault: nothing is left that tells what became of offsets
	NothingLeft     Kind = "nothing_recorded" // not a fault: no record of the connector at all
	Unreadable      Kind = "unreadable"       // not a fault: what is stored where it can't be read
)

// Finding is one thing that was found, with its place as far as it has one.
type Finding struct {
	Kind      Kind   `json:"kind"`
	Stream    string `json:"stream,omitempty"`
	Topic     string `json:"topic,omitempty"`
	Partition *int32 `json:"partition,omitempty"`
	First     *int64 `json:"first,omitempty"` // offsets [First, Next)
	Next      *int64 `json:"next,omitempty"`
	Version   *int64 `json:"version,omitempty"`
	File      string `json:"file,omitempty"`
	Text      string `json:"text"`
}

// OtherCommit is a version that is not the connector's and takes rows away or moves them.
type OtherCommit struct {
	Version     int64     `json:"version"`
	Time        time.Time `json:"time"`
	Operation   string    `json:"operation"`
	Engine      string    `json:"engine"`
	ChangesData bool      `json:"changes_data"` // false: it only rearranges rows, as OPTIMIZE does
	RowsAdded   int64     `json:"rows_added"`
	RowsRemoved int64     `json:"rows_removed"`
	RowsKnown   bool      `json:"rows_known"` // false: some files have no statistics, or their adds were cleaned from the log

	others bool  // it removed files that are no unit's
	to     int64 // of a RESTORE: the version that the table went back to; -1 where it does not say
}

// PartitionReport is one partition of a stream in one generation. Offsets are half-open: [From, Next).
type PartitionReport struct {
	Stream      string  `json:"stream"`
	Topic       string  `json:"topic"`
	Partition   int32   `json:"partition"`
	Generation  int64   `json:"generation"`
	From        int64   `json:"from"`
	FromKnown   bool    `json:"from_known"` // the start is recorded; else it is the lowest offset that is left a trace of
	Next        int64   `json:"next"`
	Txn         *int64  `json:"txn"` // null: an earlier generation
	Spans       int64   `json:"spans"`
	Records     int64   `json:"records"`
	Rows        int64   `json:"rows"`
	Skipped     int64   `json:"skipped"`
	Dead        int64   `json:"dead_letters"`
	Filtered    int64   `json:"filtered"` // left out by table.filter
	Routed      int64   `json:"routed"`   // rows of the tables that this one is the catalog of
	Gaps        int64   `json:"gaps"`
	Lost        int64   `json:"lost"` // of the gaps: Kafka had deleted the messages, if there were any, before they were read
	RowsFound   int64   `json:"rows_found"`
	Deleted     int64   `json:"deleted_by_others"`
	Unaccounted int64   `json:"unaccounted"` // offsets of which nothing is recorded
	Verdict     Verdict `json:"verdict"`
}

// KafkaReport is what the comparison with Kafka has found, over all partitions.
type KafkaReport struct {
	Topic      string `json:"topic"`
	Messages   int64  `json:"messages"`    // that Kafka has in the ranges that were compared
	Controls   int64  `json:"controls"`    // control records among the gaps: markers of producer transactions
	OtherGaps  int64  `json:"other_gaps"`  // offsets that Kafka has nothing for: aborted, or compacted away
	Retired    int64  `json:"retired"`     // offsets of the table before the beginning of what Kafka still has
	Compacted  int64  `json:"compacted"`   // rows whose messages compaction has removed since
	NotRead    int64  `json:"not_yet"`     // offsets after those that the table has taken
	BeforeFrom int64  `json:"before_from"` // offsets that Kafka has before the first one that the table is known to have
}

// Report is what Verify found.
type Report struct {
	Version     int64             `json:"version"`
	Since       *int64            `json:"since_version"`    // null: everything
	LogFrom     int64             `json:"log_from_version"` // commits after it are in the log; -1: all
	Verdict     Verdict           `json:"verdict"`
	Files       int64             `json:"files"`
	Rows        int64             `json:"rows"`            // in the files that were read, without those that deletion vectors delete
	OtherRows   int64             `json:"other_rows"`      // of them, rows that no stream has brought
	OffsetsRead bool              `json:"offsets_checked"` // the rows tell their offsets, and those were compared
	Partitions  []PartitionReport `json:"partitions"`
	Others      []OtherCommit     `json:"other_commits"`
	FaultCount  int64             `json:"fault_count"`
	FaultKinds  map[Kind]int64    `json:"fault_kinds,omitempty"` // FaultCount by kind
	Faults      []Finding         `json:"faults"`                // the first of each kind
	Unverified  []Finding         `json:"unverified"`
	Notes       []string          `json:"notes"`
	Kafka       *KafkaReport      `json:"kafka"`
}

// maxFindings of one kind are kept with their text. All are counted.
const maxFindings = 50

// findings collects faults.
type findings struct {
	list  []Finding
	kinds map[Kind]int64
	total int64
}

func (f *findings) add(x Finding) {
	if f.kinds == nil {
		f.kinds = map[Kind]int64{}
	}
	f.total++
	if f.kinds[x.Kind]++; f.kinds[x.Kind] <= maxFindings {
		f.list = append(f.list, x)
	}
}

// sorted gives them in an order that does not depend on which file was read first.
func (f *findings) sorted() []Finding {
	slices.SortStableFunc(f.list, func(a, b Finding) int {
		if c := strings.Compare(string(a.Kind), string(b.Kind)); c != 0 {
			return c
		}
		return strings.Compare(a.Text, b.Text)
	})
	return append([]Finding{}, f.list...)
}
