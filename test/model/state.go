// Package model is an explicit-state model of how workers commit to one table: the rules of docs/exactly-once.md, the
// store, and everything that may go wrong, small enough to be explored whole.
//
// It owns no code of the connector and imports none: it is the rules written a second time, as simply as possible, so that
// a rule can be taken away (see rules.go) and the explorer shows what breaks. It promises that Explore visits every state
// within its bounds, shortest traces first. It never tells whether the code keeps the rules; that is what the tests named in
// docs/exactly-once.md are for.
//
// The story of a message here: a worker claims a partition (workers.go), flushes a unit, publishes it as a proposal or puts
// a version with it; the store lets the put land, lose, or arrive late (store.go); dead letters follow (deadletters.go); and
// operators and other writers interfere (others.go). State says what exists, invariants.go what must hold.
package model

import "slices"

// Sizes of the arrays in a State, above every bound.
const (
	maxWorkers    = 3
	maxPartitions = 2
	maxUnits      = 8  // that anybody can still speak of at one time
	maxVersions   = 11 // the bound, and room for bringing a state to its end
	maxLate       = 6
	absent        = -1 // a txn that the table does not have
)

// State is everything that exists: the table's log, its rows, what the workers hold in memory, and puts under way. It is a
// plain value: equal bytes are equal states.
type State struct {
	Log [maxVersions]Entry
	Versions,
	Cleaned int8 // versions below are gone from the log; a log checkpoint covers for them
	Units   [maxUnits]Unit
	Workers [maxWorkers]Worker
	Late    [maxLate]Put // puts that nobody waits for any more and that may still arrive

	// What a reader of the whole table counts: rows of each offset in this generation, two bits an offset.
	Rows    [maxPartitions]uint8
	Start   [maxPartitions]int8 // first offset of the stream; absent until somebody has decided
	Newest  int8                // end of the topic when a start policy `latest` is resolved
	Expired uint8               // partitions whose txn a log checkpoint has forgotten
	Gone    [maxPartitions]int8 // first offset that Kafka still has
	Counted uint8               // places below that which spans count as lost
	Cut     int8                // offset + 1 from which on Kafka's log of partition 0, the only one then, has other messages than it had; 0 for none
	Short   bool                // and nothing was written there since
	Anew    bool                // the topic is another one of the same name
	Led     int8                // generation from which on the stream is of another topic; 0 for none
	Last    int8                // version of the last unit with rows; absent for none since a rewind that followed a RESTORE

	Dead DeadLetters
	Left Budget
	Bad  Violation
}

// Entry is one version of the log, with the table's state after it.
type Entry struct {
	Kind    uint8 // kinds of actions in it
	Touched uint8 // partitions with a txn in it
	Units   uint8
	After   Table

	// A put that landed in this place after it was cleaned up: no snapshot shows it, but a read of the version's JSON does.
	GhostUnits, GhostTouched uint8
}

// Kinds of an Entry.
const (
	commits uint8 = 1 << iota
	rewinds
	breaks // metaData that rows written before do not fit
	restores
)

// Table is what a snapshot shows.
type Table struct {
	Txn      [maxPartitions]int8 // next offset; absent
	Gen      int8
	Schema   int8
	Restored bool // rows were rolled back below the txns: the truth, which no worker can read
	LastGone bool // the table lacks files of the stream's last unit with rows, which a txn names
	Ended    bool // the stream was
	Epoch    int8 // of the log, as of the last message in the table; as in a Unit
}

// Unit is the files of one flush.
type Unit struct {
	Parts       uint8 // partitions that it moves; 0: no unit
	First, Next [maxPartitions]int8
	Read        int8 // versions below were read when its bases were (rv + 1); absent while its base has not landed
	Gen, Schema int8
	Epoch       int8  // of the log that its last message is of: 1, 2 for one that was cut back; 0 where nobody knows, or Kafka's log stays what it is
	Reads       int8  // whose topic's messages it has, as a Worker's; only where an operator may lead the stream to another one
	Dead        uint8 // places that are dead letters
	Lost        uint8 // places that Kafka had no longer
	Tidied      uint8 // tables that have these, and beside which nothing is known of the file any more
	Swept       bool  // its proposal has expired: nobody finds it any more, and who has read it may carry it
	Flags       uint8
}

// Flags of a Unit.
const (
	published uint8 = 1 << iota
	deleted
	old        // its files are so old that an orphan cleaning may take them
	deadFile   // its dead-letter file is written
	deadVacuum // and has been removed by a VACUUM
	pins
	otherRoute // its rows go to tables that are named by other values; only where a rule is missing
	noManifest // which tables it has rows of can't be told any more; only where a rule is missing
)

// Worker is one process: what it believes to own and what it holds in memory.
type Worker struct {
	Own    uint8
	Pos    [maxPartitions]int8 // next offset to read
	Read   [maxPartitions]int8 // versions below were read as JSON since the claim and don't touch it
	Gen    int8
	Schema int8
	Epoch  int8 // of the last message taken
	Phase  uint8
	Hand   [2]int8 // units + 1: the one to land, and one filled on top of it
	Known  int8    // versions below were judged for Hand[0]; 0: only those that its unit says
	Put    Put     // what was sent last

	Newer bool // another verdict on messages: a newer version of the program
	Ahead bool // its clock is
	Other bool // its configuration names tables by other values than the catalog does
	Reads int8 // topic: formerTopic, newTopic, or 0 before it has claimed anything; as in a Unit
	Past  int8 // versions below it takes for judged when it claims; only where a rule is missing
	Apply Applying
}

// Phases of a Worker.
const (
	idle uint8 = iota
	ready
	waiting
	unknown
)

// Put is one put-if-absent of a version.
type Put struct {
	N     int8 // version
	Units uint8
	Own   uint8 // units of the author, where the commit has metaData, or a rule is missing
	Meta  bool
	Built int8  // version that row ids and timestamps were made for
	NoTxn uint8 // partitions whose txn was left out; only where a rule is missing
}

// Budget is how often each thing may still happen.
type Budget struct {
	Acquire, Lost, Twice, Rewind, Refresh, Clean, Meta, Restore, Age, Vacuum, Expire, Newer, Replay, Retain, End, Remove, Anew, Cut, Jump, Other, Sweep, Lead int8
}

func bit(i int) uint8              { return 1 << i }
func has(mask uint8, i int) bool   { return mask>>i&1 == 1 }
func (u *Unit) is(flag uint8) bool { return u.Flags&flag != 0 }

// at is the table as a snapshot of the first n versions shows it.
func (s *State) at(n int8, first Table) Table {
	if n == 0 {
		return first
	}
	return s.Log[n-1].After
}

// landed tells whether a unit is in a version that snapshots show.
func (s *State) landed(u int) bool {
	for v := range s.Versions {
		if has(s.Log[v].Units, u) {
			return true
		}
	}
	return false
}

func (m *Model) freeUnit(s *State) int {
	for u := range s.Units {
		if s.Units[u].Parts == 0 {
			return u
		}
	}
	m.full = true
	return -1
}

func (m *Model) addLate(s *State, p Put) bool {
	for i := range s.Late {
		if s.Late[i].Units == 0 {
			s.Late[i] = p
			return true
		}
	}
	m.full = true
	return false
}

// inFlight is the mask of units that a put under way names.
func (s *State) inFlight() uint8 {
	var mask uint8
	for i := range s.Late {
		mask |= s.Late[i].Units
	}
	for w := range s.Workers {
		if k := &s.Workers[w]; k.Phase == waiting {
			mask |= k.Put.Units
		}
	}
	return mask
}

// tidy forgets what no step can look at any more, so that states that differ in it alone are one: units that nobody holds,
// puts that can do nothing, and the details of versions that everybody has read.
func (m *Model) tidy(s *State) {
	for i := range s.Late {
		if p := &s.Late[i]; p.Units != 0 && p.N < s.Versions && p.N >= s.Cleaned && s.Left.Clean == 0 && !m.plain {
			*p = Put{}
		}
	}
	live := s.inFlight()
	for w := range s.Workers {
		k := &s.Workers[w]
		for _, h := range k.Hand {
			if h > 0 {
				live |= bit(int(h - 1))
			}
		}
		if k.Phase == unknown {
			live |= k.Put.Units
		}
		live |= k.Apply.units()
	}
	live |= s.Dead.units()
	for u := range s.Units {
		if s.Units[u].is(published) && !s.Units[u].Swept && (m.Without != nothing || !m.settled(s, u)) {
			live |= bit(u)
		}
		if !has(live, u) {
			s.Units[u] = Unit{}
		}
	}
	known := s.Versions - 1
	for w := range s.Workers {
		for p := range m.Partitions {
			if has(s.Workers[w].Own, p) {
				known = min(known, s.Workers[w].Read[p])
			}
		}
	}
	for u := range s.Units {
		if s.Units[u].Parts != 0 && s.Units[u].Read >= 0 {
			known = min(known, s.Units[u].Read)
		}
	}
	if s.Left.Restore == 0 {
		s.Last = 0 // which a RESTORE alone would look at
	}
	lookBack := m.lookBack(s)
	for v := range s.Versions {
		e := &s.Log[v]
		e.Units &= live
		e.GhostUnits &= live
		if v < known && m.Without == nothing && !m.plain {
			kind := e.Kind
			*e = Entry{After: e.After}
			if v < known-1 && s.Left.Restore == 0 {
				*e = Entry{}
			}
			if v >= lookBack {
				e.Kind = kind &^ breaks
			}
		}
	}
}

// lookBack is the oldest version that anybody who looks back for a RESTORE may come to.
func (m *Model) lookBack(s *State) int8 {
	if m.Budget.Restore == 0 {
		return s.Versions
	}
	at := max(s.Versions-2, s.Cleaned) // a snapshot may be one version old
	for at > s.Cleaned && s.Log[at].Kind&(commits|rewinds|restores) == 0 {
		at--
	}
	return at
}

// settled tells whether a proposal can never be carried again.
func (m *Model) settled(s *State, u int) bool {
	fl := &s.Units[u]
	for v := max(fl.Read, 0); v < s.Versions; v++ {
		if e := &s.Log[v]; has(e.Units, u) || e.Touched&fl.Parts != 0 || e.Kind&(breaks|restores) != 0 {
			return true
		}
	}
	return fl.is(old)
}

// canonical renames units and workers so that states that differ in names alone are equal, as far as a sort can tell.
func (m *Model) canonical(s *State) {
	var order [maxUnits]uint8
	for i := range order {
		order[i] = uint8(i)
	}
	var key [maxUnits]uint64
	for u := range s.Units {
		key[u] = s.unitKey(u)
	}
	slices.SortStableFunc(order[:], func(a, b uint8) int {
		switch {
		case key[a] > key[b]:
			return -1
		case key[a] < key[b]:
			return 1
		}
		return 0
	})
	var to [maxUnits]uint8
	same := true
	for i, u := range order {
		to[u] = uint8(i)
		same = same && int(u) == i
	}
	if !same {
		s.rename(&to)
	}
	sortSmall(s.Workers[:m.Workers], (*Worker).less)
	sortSmall(s.Late[:], (*Put).less)
}

func sortSmall[T any](list []T, less func(a, b *T) bool) {
	for i := 1; i < len(list); i++ {
		for j := i; j > 0 && less(&list[j], &list[j-1]); j-- {
			list[j], list[j-1] = list[j-1], list[j]
		}
	}
}

// unitKey orders units by what they are and where they are; units that are not there come last.
func (s *State) unitKey(u int) uint64 {
	fl := &s.Units[u]
	if fl.Parts == 0 {
		return 0
	}
	k := uint64(fl.Parts)
	for p := range maxPartitions {
		k = k<<4 | uint64(fl.First[p])
		k = k<<4 | uint64(fl.Next[p])
	}
	k = k<<5 | uint64(fl.Read+1)
	k = k<<3 | uint64(fl.Gen)
	k = k<<3 | uint64(fl.Schema)
	k = k<<2 | uint64(fl.Epoch)
	k = k<<8 | uint64(fl.Flags)
	k = k<<8 | uint64(fl.Dead|fl.Lost)
	k = k<<maxTables | uint64(fl.Tidied)
	var in uint64
	for v := range s.Versions {
		if has(s.Log[v].Units, u) {
			in = uint64(v) + 1
		}
	}
	k = k<<4 | in
	for w := range s.Workers { // not who, but in how many hands, and how
		k += uint64(s.Workers[w].holds(u)) << 56
	}
	return k
}

func (k *Worker) holds(u int) int {
	switch int8(u + 1) {
	case k.Hand[0]:
		return 1 + int(k.Phase)
	case k.Hand[1]:
		return 6
	}
	return 0
}

func (s *State) rename(to *[maxUnits]uint8) {
	mask := func(m uint8) uint8 {
		var r uint8
		for u := 0; m != 0; u, m = u+1, m>>1 {
			r |= m & 1 << to[u]
		}
		return r
	}
	ref := func(r int8) int8 {
		if r == 0 {
			return 0
		}
		return int8(to[r-1]) + 1
	}
	units := s.Units
	for u := range units {
		s.Units[to[u]] = units[u]
	}
	for v := range s.Versions {
		s.Log[v].Units, s.Log[v].GhostUnits = mask(s.Log[v].Units), mask(s.Log[v].GhostUnits)
	}
	for i := range s.Late {
		s.Late[i].Units, s.Late[i].Own = mask(s.Late[i].Units), mask(s.Late[i].Own)
	}
	for w := range s.Workers {
		k := &s.Workers[w]
		k.Hand = [2]int8{ref(k.Hand[0]), ref(k.Hand[1])}
		k.Put.Units, k.Put.Own = mask(k.Put.Units), mask(k.Put.Own)
		k.Apply.rename(ref)
	}
	s.Dead.rename(ref)
}

func (p *Put) less(q *Put) bool { return p.key() > q.key() }

func (p *Put) key() uint64 {
	k := uint64(p.N)<<32 | uint64(p.Units)<<24 | uint64(p.Own)<<16 | uint64(p.NoTxn)<<8 | uint64(p.Built)<<1
	if p.Meta {
		k |= 1
	}
	return k
}

func (k *Worker) less(o *Worker) bool {
	a, b := k.keys(), o.keys()
	for i := range a {
		if a[i] != b[i] {
			return a[i] > b[i]
		}
	}
	return false
}

func (k *Worker) keys() [4]uint64 {
	a := uint64(k.Past)<<12 | uint64(k.Own)<<4 | uint64(k.Phase)
	for p := range maxPartitions {
		a = a<<8 | uint64(k.Pos[p]+1)
		a = a<<8 | uint64(k.Read[p]+1)
	}
	b := uint64(k.Hand[0])<<40 | uint64(k.Hand[1])<<32 | uint64(k.Gen)<<24 | uint64(k.Schema)<<16 | uint64(k.Known)<<8 | uint64(k.Epoch)<<1
	if k.Newer {
		b |= 1
	}
	if k.Ahead {
		b |= 1 << 4
	}
	if k.Other {
		b |= 1 << 5
	}
	return [4]uint64{a, b, k.Put.key(), k.Apply.key()}
}

// mirrored is the state with the two partitions exchanged.
func (s State) mirrored() State {
	swap := func(m uint8) uint8 { return m&1<<1 | m>>1&1 }
	for v := range s.Versions {
		e := &s.Log[v]
		e.Touched, e.GhostTouched = swap(e.Touched), swap(e.GhostTouched)
		e.After.Txn[0], e.After.Txn[1] = e.After.Txn[1], e.After.Txn[0]
	}
	for u := range s.Units {
		fl := &s.Units[u]
		fl.Parts = swap(fl.Parts)
		fl.First[0], fl.First[1] = fl.First[1], fl.First[0]
		fl.Next[0], fl.Next[1] = fl.Next[1], fl.Next[0]
	}
	for w := range s.Workers {
		k := &s.Workers[w]
		k.Own, k.Put.NoTxn = swap(k.Own), swap(k.Put.NoTxn)
		k.Pos[0], k.Pos[1] = k.Pos[1], k.Pos[0]
		k.Read[0], k.Read[1] = k.Read[1], k.Read[0]
	}
	for i := range s.Late {
		s.Late[i].NoTxn = swap(s.Late[i].NoTxn)
	}
	s.Rows[0], s.Rows[1] = s.Rows[1], s.Rows[0]
	s.Start[0], s.Start[1] = s.Start[1], s.Start[0]
	s.Expired = swap(s.Expired)
	return s
}
