package checkpoint

import (
	"errors"
	"fmt"
	"hash/fnv"
	"iter"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxNameLength bounds a stream name so that app ids and consumer group ids stay within what Kafka and log readers take.
const maxNameLength = 200

var nameForm = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

// ValidateName checks a stream name, which is the prefix of every app id of the stream and, unless configured
// otherwise, the consumer group. '/' and '#' are reserved: they separate the parts of other app ids.
func ValidateName(name string) error {
	switch {
	case name == "":
		return errors.New("name is empty: set `name`, it becomes the consumer group and the Delta app id")
	case len(name) > maxNameLength:
		return fmt.Errorf("name %q is %d characters long: at most %d are allowed", name, len(name), maxNameLength)
	case !nameForm.MatchString(name):
		return fmt.Errorf("name %q has a character that is not allowed: use letters, digits, '.', '_' and '-'", name)
	}
	return nil
}

// AppID is the app id of the txn action that holds the progress of one partition of a single-topic stream:
// <name>-<partition>. Its version is the last offset taken, gaps included. It is kafka-delta-ingest's layout.
func AppID(name string, partition int32) string {
	return name + "-" + strconv.FormatInt(int64(partition), 10)
}

// PartitionOf is the inverse of AppID for one stream name. An app id of another stream gives false.
func PartitionOf(name, appID string) (int32, bool) {
	digits, ok := strings.CutPrefix(appID, name+"-")
	if !ok {
		return 0, false
	}
	return partitionNumber(digits)
}

func partitionNumber(digits string) (int32, bool) {
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || strconv.FormatUint(n, 10) != digits { // one spelling only: "007" is somebody else's
		return 0, false
	}
	return int32(n), true
}

// Identity says which topic a stream's offsets belong to. A topic that was deleted and made again has another topic id,
// and its offsets mean other messages.
type Identity struct {
	ClusterID string // Kafka's cluster id; "-" where the broker has none
	TopicID   string // Kafka's topic id (KIP-516) as Kafka's tools spell it; "name:<topic>" where the broker has none
}

const identityMark = "#topic/"

// IdentityAppID is the app id of the txn that fixes the identity: <name>#topic/<cluster id>/<topic id>. Its version is
// the number of partitions that are pinned, that is, have had a txn since they were first seen. It is 0 once the stream was
// rewound to another topic: txns can't be taken away.
func IdentityAppID(name string, id Identity) string {
	return name + identityMark + id.ClusterID + "/" + id.TopicID
}

const leaderMark = "#leader/"

// LeaderAppID is the app id of the txn that holds the leader epoch of the last record that was taken of a partition:
// <name>#leader/<partition>. It is written on change; -1 is for a record without one. Whoever writes the partition's txn without this
// one beside it must write -1 here: an epoch of another record raises a false alarm.
func LeaderAppID(name string, partition int32) string {
	return name + leaderMark + strconv.FormatInt(int64(partition), 10)
}

const deadMark = "#dl/"

// DeadLetterAppID is the app id of the txn that names the last dead letters of a partition: <name>#dl/<partition>. Its version is the
// random id in their file's name. In the stream's table it is the verdict, in the dead-letter table it says that they have
// arrived (rules D2 and D3).
func DeadLetterAppID(name string, partition int32) string {
	return DeadLetterPrefix(name) + strconv.FormatInt(int64(partition), 10)
}

// DeadLetterPrefix is what the app ids of DeadLetterAppID of a stream begin with.
func DeadLetterPrefix(name string) string { return name + deadMark }

const rowsMark = "#rows/"

// RowsAppID is the app id of the txn that names the last rows of a partition that were divided among tables: <name>#rows/<partition>. Its
// version is the random id of a manifest. In the catalog it is the verdict, in each of the tables it says that they have arrived (T1, T2).
func RowsAppID(name string, partition int32) string {
	return name + rowsMark + strconv.FormatInt(int64(partition), 10)
}

// ReplayedRowsAppID is the app id of the txn that names the last rows that a replay of dead letters has divided among tables: <name>#rows/replay. Its version is
// that of RowsAppID, in the catalog and in its tables.
func ReplayedRowsAppID(name string) string { return name + rowsMark + "replay" }

// BringsReplay tells whether an app id is that of a txn by which a version brings rows of a replay of dead letters, of any stream: one of ReplayAppID, or of
// ReplayedRowsAppID.
func BringsReplay(appID string) bool {
	return strings.HasSuffix(appID, ReplayAppID("")) || strings.HasSuffix(appID, ReplayedRowsAppID(""))
}

// IsRows tells whether an app id is one of RowsAppID, or ReplayedRowsAppID, of the stream `name`.
func IsRows(appID, name string) bool { return strings.HasPrefix(appID, name+rowsMark) }

// IsRowsOfAny tells whether an app id is one of RowsAppID, or ReplayedRowsAppID, of some stream.
func IsRowsOfAny(appID string) bool { return strings.Contains(appID, rowsMark) }

// IsSlot tells whether an app id is one that names what the stream `name` has decided about in other tables: rows, dead letters, or marks of a replay.
func IsSlot(appID, name string) bool {
	return IsRows(appID, name) || strings.HasPrefix(appID, DeadLetterPrefix(name)) || appID == ReplayAppID(name)
}

// RowsOf is the inverse of RowsAppID for one stream name.
func RowsOf(name, appID string) (partition int32, ok bool) {
	digits, ok := strings.CutPrefix(appID, name+rowsMark)
	if !ok {
		return 0, false
	}
	return partitionNumber(digits)
}

const tableMark = "#table/"

// TableAppID is the app id of the txn by which a catalog knows a table: <name>#table/<key>, version 1. It is there before the first row is.
func TableAppID(name, key string) string { return name + tableMark + key }

// TableOf is the inverse of TableAppID for one stream name.
func TableOf(name, appID string) (key string, ok bool) {
	return strings.CutPrefix(appID, name+tableMark)
}

// TableOfAny is TableOf for whatever stream has written it.
func TableOfAny(appID string) (name, key string, ok bool) {
	return strings.Cut(appID, tableMark)
}

// RouteAppID is the app id of the txn of a catalog that says by which values its tables are named: <name>#route. Its version is UnitMark of their
// spelling (rule T6).
func RouteAppID(name string) string { return name + "#route" }

const catalogMark = "#catalog/"

// CatalogAppID is the app id of the txn by which a table knows the catalog whose rows it gets, and the topic that they are of:
// <name>#catalog/<cluster id>/<topic id>. Its version is UnitMark of the id of the catalog's metaData; 0 once the rows are of another topic.
func CatalogAppID(name string, id Identity) string {
	return name + catalogMark + id.ClusterID + "/" + id.TopicID
}

// IsCatalog tells whether an app id is one of CatalogAppID of the stream `name`.
func IsCatalog(appID, name string) bool { return strings.HasPrefix(appID, name+catalogMark) }

// ReplayAppID is the app id of the txn that names the last replay of dead letters: <name>#replay. Its version is the random id of the
// file of its marks, in both tables as with DeadLetterAppID (rule D6).
func ReplayAppID(name string) string { return name + "#replay" }

// GenerationAppID is the app id of the txn that counts a stream's rewinds: <name>#gen. It is absent before the first one.
func GenerationAppID(name string) string { return name + "#gen" }

// LastUnitAppID is the app id of the txn that names the last unit with files that a commit of the stream has brought: <name>#last. Its
// version is UnitMark of the unit's id. A RESTORE takes files back but no txn, so that a table without that unit's files was restored,
// or somebody has rewritten or deleted them since. -1 is for nothing to be looked for.
func LastUnitAppID(name string) string { return name + "#last" }

// HomeAppID is the app id of the txn that tells in which table the stream's last unit with files has landed: <name>#home. Its version is UnitMark of the
// id of the table's metaData. A REPLACE gives the table another id and takes no txn back. It is absent until the first such unit, and in tables that
// earlier releases have written.
func HomeAppID(name string) string { return name + "#home" }

// FilterAppID is the app id of the txn that tells whether a stream leaves messages out by a filter: <name>#filter. Its version is 1 with
// one, and 0 without one any more. It is absent for a stream that never had one.
func FilterAppID(name string) string { return name + "#filter" }

// FilterMark is the version of the txn of FilterAppID.
func FilterMark(filtered bool) int64 {
	if filtered {
		return 1
	}
	return 0
}

// UnitMark is a number that stands for a unit's id in a txn: the upper 63 bits of the FNV-1a hash of 64 bits.
func UnitMark(unit string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(unit)) // never fails
	return int64(h.Sum64() >> 1)
}

// IsIdentity tells whether an app id is that of the identity of a topic of the stream `name`.
func IsIdentity(appID, name string) bool { return strings.HasPrefix(appID, name+identityMark) }

// IsStreams tells whether an app id is one of the stream `name`: of a partition, of its leader epoch, of its dead letters, of its rows in
// other tables, of such a table, of what names them, of their catalog, of its topic's identity, of its generation, of its last unit, of the table
// that this is in, of its last replay, or of its filter.
func IsStreams(appID, name string) bool {
	_, isPartition := PartitionOf(name, appID)
	_, isTable := TableOf(name, appID)
	return isPartition || isTable || IsIdentity(appID, name) || IsCatalog(appID, name) || appID == RouteAppID(name) || strings.HasPrefix(appID, name+leaderMark) ||
		strings.HasPrefix(appID, name+deadMark) || IsRows(appID, name) || appID == GenerationAppID(name) || appID == LastUnitAppID(name) || appID == HomeAppID(name) ||
		appID == ReplayAppID(name) || appID == FilterAppID(name)
}

// Lasts tells whether an app id is of what a table must know of a stream as long as it has rows of it, however long no worker runs (rule A4b): all
// but a partition's offset and leader epoch, and the last unit. While the table knows the topic's identity, it misses offsets that have expired (A1b).
func Lasts(appID string) bool {
	name, _, marked := strings.Cut(appID, "#") // which is in no name
	return marked && IsStreams(appID, name) && appID != LastUnitAppID(name) && !strings.HasPrefix(appID, name+leaderMark)
}

// StreamOf finds the stream that an app id belongs to among those whose identity the table's txns (app id, version) hold;
// false for the id of anybody else.
func StreamOf(appID string, txns iter.Seq2[string, int64]) (name string, ok bool) {
	for id := range txns {
		name, _, isIdentity := strings.Cut(id, identityMark)
		if !isIdentity {
			continue
		}
		if IsStreams(appID, name) {
			return name, true
		}
	}
	return "", false
}

// TopicName is the name of the stream of one of many topics that a pipeline reads (ADR 11).
func TopicName(name, topic string) string { return name + "." + topic }

// CheckAlone refuses a stream of a topic where another one brings the topic into the table whose txns (app id, version) these are, be it by a
// catalog, unless both leave messages out by a filter. One that a rewind has led to another topic does not count.
func CheckAlone(name, topic string, id Identity, filtered bool, txns iter.Seq2[string, int64]) error {
	others, filters := []string{}, map[string]bool{}
	for appID, version := range txns {
		other, mark, _ := strings.Cut(appID, "#") // which is in no name
		switch {
		case other == name:
		case (appID == IdentityAppID(other, id) || appID == CatalogAppID(other, id)) && version > 0:
			others = append(others, other)
		case "#"+mark == FilterAppID(""):
			filters[other] = version > 0
		}
	}
	slices.Sort(others)
	for _, other := range others {
		if filtered && filters[other] {
			continue
		}
		remedy := fmt.Sprintf("go on as stream %q, with its name, and with source.topic or source.topics as they were; or give this stream a table of its own; or, for streams that share the topic out, give each a table.filter; or end that stream for good by `connector retire`: what it has taken comes again then, unless this one begins behind it", other)
		if filtered {
			remedy += fmt.Sprintf(": stream %q has none as far as the table knows. If it has one by now, start it first", other)
		}
		return &RefusedError{
			Cause:  fmt.Sprintf("the table has messages of the topic %s already, by stream %q: stream %q would bring them a second time", topic, other, name),
			Remedy: remedy,
		}
	}
	return nil
}

// Progress is what a table knows about one stream.
type Progress struct {
	Identities map[Identity]int32 // identity -> number of pinned partitions, without those that a rewind has ended
	Former     []Identity         // those that a rewind has ended
	Last       map[int32]int64    // partition -> last offset taken
	Generation int64              // number of rewinds
}

// ReadProgress picks out of a table's txns (app id, version) those of the stream `name`.
func ReadProgress(name string, txns iter.Seq2[string, int64]) (Progress, error) {
	p := Progress{Identities: map[Identity]int32{}, Last: map[int32]int64{}}
	for appID, version := range txns {
		if n, ok := PartitionOf(name, appID); ok {
			p.Last[n] = version
			continue
		}
		if appID == GenerationAppID(name) {
			p.Generation = version
			continue
		}
		rest, ok := strings.CutPrefix(appID, name+identityMark)
		if !ok {
			continue
		}
		cluster, topic, ok := strings.Cut(rest, "/")
		if !ok || version < 0 || version > math.MaxInt32 {
			return Progress{}, &RefusedError{
				Cause:  fmt.Sprintf("txn %q version %d is no identity of stream %q", appID, version, name),
				Remedy: "another program or a newer version has written it: use that, or another `name`",
			}
		}
		id := Identity{ClusterID: cluster, TopicID: topic}
		if version == 0 {
			p.Former = append(p.Former, id)
			continue
		}
		p.Identities[id] = int32(version)
	}
	return p, nil
}

// Fresh reports whether the table has never heard of the stream.
func (p Progress) Fresh() bool {
	return len(p.Identities) == 0 && len(p.Former) == 0 && len(p.Last) == 0
}

// Retired reports whether the stream was taken out of service: the table has offsets of it, and it brings no topic any more (rule A1d).
func (p Progress) Retired() bool { return len(p.Identities) == 0 && len(p.Former) > 0 }

// RetiredError refuses to go on with such a stream.
func RetiredError(name string) *RefusedError {
	return &RefusedError{
		Cause:  fmt.Sprintf("the stream %q was retired from the table: its rows stay, and it brings nothing any more", name),
		Remedy: "`connector rewind` has it go on after all, from offsets that it names; or bring the topic by a stream with another `name`",
	}
}

// RefusedError says why a stream must not go on, and what the operator can do. Going on would lose or double rows.
type RefusedError struct {
	Cause  string
	Remedy string
	// Passing says that an answer that was out of date may be the cause: it is to be asked for again for a while before it is believed.
	Passing bool
}

func (e *RefusedError) Error() string { return e.Cause + "; " + e.Remedy }

// Pins decides which partitions must be pinned by the next commit before any row of them may land (rule A1), for a topic
// that has `partitions` partitions now. An empty result means that nothing is to be pinned.
//
// A stream that is fresh pins all partitions at its start policy. Later, partitions beyond the pinned count are new and
// are read from offset 0 on. An absent txn below the pinned count once existed and has expired: refused, since
// reading it again would double its rows. A table without identity but with txns was filled by kafka-delta-ingest, which
// writes no txn for a partition without messages: those are read from the first offset that Kafka has.
func (p Progress) Pins(name string, id Identity, partitions int32) (missing []int32, fresh bool, err error) {
	if p.Retired() {
		return nil, false, RetiredError(name)
	}
	pinned, known := p.Identities[id]
	if !known && len(p.Identities) > 0 {
		other := Identity{}
		for other = range p.Identities {
			break
		}
		return nil, false, &RefusedError{
			Cause: fmt.Sprintf("the table's offsets of stream %q belong to topic id %s of cluster %s, but the configured topic has id %s in cluster %s",
				name, other.TopicID, other.ClusterID, id.TopicID, id.ClusterID),
			Remedy: "check source.brokers: they may be those of another cluster. If the topic was made anew, `connector rewind --to earliest --new-topic` begins with it; if another stream has the same name, use another `name`",
		}
	}
	if partitions < pinned {
		return nil, false, &RefusedError{
			Cause: fmt.Sprintf("the topic has %d partitions, but %d partitions of stream %q were pinned", partitions, pinned, name),
			Remedy: "a topic never gets smaller: it was deleted and made anew with fewer partitions, or the brokers are those of another cluster. Check source.brokers and source.topic; " +
				"to read the new topic from its beginning into the same table, `connector retire` this stream, and use another `name`",
			Passing: true,
		}
	}
	for n := range partitions {
		if _, ok := p.Last[n]; !ok {
			missing = append(missing, n)
		}
	}
	if at, _ := slices.BinarySearch(missing, pinned); at > 0 {
		return nil, false, lostError(name, pinned, missing[:at])
	}
	return missing, p.Fresh(), nil
}

// lostError refuses to go on with partitions whose offsets the table has no longer (rule A1b).
func lostError(name string, pinned int32, lost []int32) *RefusedError {
	more, each := "", make([]string, 0, len(lost))
	if len(lost) > 1 {
		more = fmt.Sprintf(", and %d more", len(lost)-1)
	}
	for _, n := range lost {
		each = append(each, fmt.Sprintf("%d=OFFSET", n))
	}
	return &RefusedError{
		Cause: fmt.Sprintf("the table has lost the offset of partition %d of stream %q%s (no txn %q, but %d partitions were pinned)",
			lost[0], name, more, AppID(name, lost[0]), pinned),
		Remedy: fmt.Sprintf("most likely delta.setTransactionRetentionDuration let it expire while no worker ran: unset that property, and say from where to go on with `connector rewind --to-offsets %s`: "+
			"the larger of what the consumer group was told and of max(_kafka.offset) + 1 of the partition's rows. Where there are neither, --to-time of when the stream ran last loses nothing", strings.Join(each, ",")),
	}
}
