package model

import "math/bits"

// Sizes of what is about dead letters.
const (
	maxTables   = 2 // that may follow the main one
	maxPlaces   = 4 // offsets of a partition that may be dead letters
	maxFollowed = maxTables * maxPartitions
)

// place is an offset of a partition, as a bit in sets of dead letters.
func place(part int, offset int8) int { return maxPlaces*part + int(offset) }

// placesOf are all places of a partition.
func placesOf(part int) uint8 { return (1<<maxPlaces - 1) << (maxPlaces * part) }

// followed is the txn of a partition in one of the tables that follow, as a bit in sets of those.
func followed(table, part int) int { return maxPartitions*table + part }

// DeadLetters is the dead-letter table and the slots in the main table that it follows, one for each partition. With Bounds.Tables
// it is the tables that rows of a catalog go to by their values, those of even offsets to the first, and what is called a dead letter is
// such a row: they follow in the same way, each for itself.
type DeadLetters struct {
	Slot     [maxPartitions]int8  // unit + 1 that the main table names as the last with dead letters
	Applied  uint8                // txns of tables that name the same
	Touches  [maxFollowed]int8    // versions with each of these
	Counts   [maxPartitions]uint8 // dead letters in the tables, two bits an offset
	Verdict  uint8                // places that landed units declared dead letters
	Replays  int8                 // versions of the main table's txn of replays
	Replayed uint8                // places that these took
	Marked   uint8                // places that the dead-letter table has marked as replayed
	Removed  uint8                // tables that somebody has removed
	Catalog  int8                 // how many there were before this one
	Of       [maxTables]int8      // catalog + 1 that each of the tables has rows of; 0 for none
	Values   uint8                // of rows that each table has, two bits a table; only where a worker may name tables by others
	Gen      [maxTables]int8      // that each of the tables has rows of
	AtRisk   bool                 // a table names a file that was old by then; only where a rule is missing
}

// Applying is a worker on its way to the dead-letter table.
type Applying struct {
	Stage   uint8 // 0: not on its way
	Unit    int8  // unit + 1 that it is about to apply
	Touches [maxFollowed]int8
	Equal   uint8 // txns that named the main table's slot when they were read, or were brought there since
	Replays int8  // versions of the main table's txn of replays when it was read
	Known   uint8 // partitions whose present slot is known to be applied
	Owes    int8  // unit + 1 whose dead letters are in memory alone; only where a rule is missing
	Set     uint8 // places to replay
}

// Stages of an Applying.
const (
	readTable uint8 = iota + 1
	apply
	replay
	mark
)

func (a *Applying) units() uint8 {
	var m uint8
	if a.Unit > 0 {
		m |= bit(int(a.Unit - 1))
	}
	if a.Owes > 0 {
		m |= bit(int(a.Owes - 1))
	}
	return m
}

func (a *Applying) rename(ref func(int8) int8) { a.Unit, a.Owes = ref(a.Unit), ref(a.Owes) }

func (a *Applying) key() uint64 {
	k := uint64(a.Stage)<<4 | uint64(a.Unit)
	for _, n := range a.Touches {
		k = k<<4 | uint64(n)
	}
	return ((((k<<4|uint64(a.Replays))<<4|uint64(a.Owes))<<8|uint64(a.Set))<<maxFollowed|uint64(a.Equal))<<maxPartitions | uint64(a.Known)
}

func (d *DeadLetters) units() (m uint8) {
	for _, unit := range d.Slot {
		if unit > 0 {
			m |= bit(int(unit - 1))
		}
	}
	return m
}

func (d *DeadLetters) rename(ref func(int8) int8) {
	for p, unit := range d.Slot {
		d.Slot[p] = ref(unit)
	}
}

// bury adds places to what the tables that follow have.
func (m *Model) bury(s *State, places uint8) {
	for p := range m.Partitions {
		for o := range m.Messages {
			if has(places, place(p, o)) && s.buried(p, o) < 3 {
				s.Dead.Counts[p] += 1 << (2 * o)
			}
		}
	}
}

func (s *State) buried(part int, offset int8) uint8 { return s.Dead.Counts[part] >> (2 * offset) & 3 }

// judgeMessages decides which messages of a unit are dead letters. A newer program may decide otherwise.
func (m *Model) judgeMessages(k *Worker, fl *Unit) {
	for p := range m.Partitions {
		dead := m.DeadMask >> place(p, 0) & placesOf(0)
		if k.Newer {
			dead <<= 1
		}
		if has(fl.Parts, p) {
			fl.Dead |= dead & (1<<fl.Next[p] - 1) &^ (1<<fl.First[p] - 1) << place(p, 0)
		}
	}
	if fl.Dead != 0 && !m.lacks(d1) {
		fl.Flags |= deadFile
	}
	if k.Other {
		fl.Flags |= otherRoute
	}
}

// verdict takes over what a landing unit says of dead letters: rows and verdict are in one version (D2).
func (m *Model) verdict(s *State, u int) {
	fl := &s.Units[u]
	if fl.Dead == 0 {
		return
	}
	s.Dead.Verdict |= fl.Dead
	if m.lacks(d2) || m.tablesFirst() {
		return
	}
	for p := range m.Partitions {
		if fl.Dead&placesOf(p) == 0 {
			continue
		}
		s.Dead.Slot[p] = int8(u + 1)
		var followers uint8
		for t := range maxTables {
			followers |= bit(followed(t, p))
		}
		s.Dead.Applied &^= followers
		for w := range s.Workers {
			a := &s.Workers[w].Apply
			a.Known &^= bit(p)
			if a.Stage != apply { // there it is known which tables have the unit at hand, whatever the slot names by now
				a.Equal &^= followers
			}
		}
	}
}

// owes: without D1 or D2 the worker alone remembers what it still has to write.
func (m *Model) owes(k *Worker, u int) {
	if m.lacks(d1) || m.lacks(d2) {
		k.Apply.Owes = int8(u + 1)
	}
}

// waitsForDeadLetters: a partition's next unit with dead letters waits until the ones before are applied (D4).
func (m *Model) waitsForDeadLetters(s *State, u int) bool {
	if m.tablesFirst() {
		return s.Units[u].is(deadFile) // not written yet
	}
	if m.lacks(d4) {
		return false
	}
	var parts, known uint8
	for p := range m.Partitions {
		if s.Units[u].Dead&placesOf(p) != 0 && s.Dead.Slot[p] != 0 {
			parts |= bit(p)
		}
	}
	for w := range s.Workers {
		if k := &s.Workers[w]; int(k.Hand[0]-1) == u && k.Phase == ready {
			known = k.Apply.Known
		}
	}
	return parts&^known != 0
}

// unsettled tells whether a worker owns partitions that it has to look at: dead letters of theirs may be pending.
func (m *Model) unsettled(s *State, k *Worker) bool {
	for p := range m.Partitions {
		if has(k.Own&^k.Apply.Known, p) && s.Dead.Slot[p] != 0 {
			return k.Apply.Stage == 0 && (k.Phase == idle || k.Phase == ready)
		}
	}
	return false
}

func (m *Model) deadLetterSteps(s *State, w int, step stepper) {
	k := &s.Workers[w]
	if m.DeadMask == 0 {
		return
	}
	a := k.Apply
	switch {
	case m.tablesFirst() && k.Phase == ready && s.Units[k.Hand[0]-1].is(deadFile):
		step(opOwed, int(k.Hand[0]-1), 0, 0, func(t *State) bool {
			t.Workers[w].Apply.Owes = k.Hand[0]
			return m.payOwed(t, w)
		})
	case a.Owes > 0:
		step(opOwed, int(a.Owes-1), 0, 0, func(t *State) bool { return m.payOwed(t, w) })
	case m.unsettled(s, k):
		step(opReadDead, 0, 0, 0, func(t *State) bool { return m.startApply(t, w) })
	case a.Stage == readTable:
		step(opReadSlot, 0, 0, 0, func(t *State) bool { return m.compareSlot(t, w) })
	case a.Stage == apply:
		for lost := range 2 {
			if lost == 1 && s.Left.Lost == 0 {
				break
			}
			step(opApply, int(a.Unit-1), lost, 0, func(t *State) bool {
				t.Left.Lost -= int8(lost)
				return m.applyDead(t, w, lost == 1)
			})
		}
	case a.Stage == replay:
		for lost := range 2 {
			if lost == 1 && s.Left.Lost == 0 {
				break
			}
			step(opReplay, int(a.Set), lost, 0, func(t *State) bool {
				t.Left.Lost -= int8(lost)
				return m.replayDead(t, w, lost == 1)
			})
		}
	case a.Stage == mark:
		step(opMark, 0, 0, 0, func(t *State) bool { return m.markReplayed(t, w) })
	}
	if a.Stage == 0 && k.Phase == idle && s.Left.Replay > 0 && k.Own != 0 {
		step(opStartReplay, 0, 0, 0, func(t *State) bool { t.Left.Replay--; return m.startReplay(t, w) })
	}
}

// startApply reads the dead-letter table first, then the main table's slots (D3): the other way round, what is pending by
// then may have been applied and followed by another.
func (m *Model) startApply(s *State, w int) bool {
	k := &s.Workers[w]
	k.Apply.Stage = readTable
	if m.lacks(d3Order) {
		m.choose(s, k)
		return true
	}
	k.Apply.Touches, k.Apply.Equal = s.Dead.Touches, s.Dead.Applied
	return true
}

// choose takes the first unit that the slots of a worker's partitions name and that is not known to have arrived.
func (m *Model) choose(s *State, k *Worker) {
	a := &k.Apply
	for p := range m.Partitions {
		if unit := s.Dead.Slot[p]; a.Unit == 0 && unit > 0 && has(k.Own&^a.Known, p) {
			fl := &s.Units[unit-1]
			if m.concerned(fl, p)&^a.Equal == 0 || fl.is(noManifest) {
				a.Known |= bit(p)
			} else {
				a.Unit = unit
			}
		}
	}
	if a.Unit == 0 || m.Tables == 0 || m.lacks(t5Former) {
		return
	}
	for p, unit := range s.Dead.Slot { // what is of an earlier generation comes first, of whatever partition (T5b)
		if unit > 0 && s.Units[unit-1].Gen < s.Units[a.Unit-1].Gen && m.concerned(&s.Units[unit-1], p)&^a.Equal != 0 {
			a.Unit = unit
		}
	}
}

func (m *Model) compareSlot(s *State, w int) bool {
	k := &s.Workers[w]
	a := &k.Apply
	if m.lacks(d3Order) {
		unit := a.Unit
		a.Touches, a.Equal = s.Dead.Touches, 0
		for p := range m.Partitions {
			if s.Dead.Slot[p] == unit {
				a.Equal |= s.Dead.Applied & m.concerned(&s.Units[unit-1], p)
			}
		}
		if m.todo(s, k) == 0 {
			*a = Applying{Known: m.named(s, unit)}
			return true
		}
	} else {
		m.choose(s, k)
	}
	if a.Unit == 0 {
		*a = Applying{Known: a.Known}
		return true
	}
	a.Stage = apply
	return true
}

// todo are the txns of tables that a worker is still to bring to the unit at hand.
func (m *Model) todo(s *State, k *Worker) (txns uint8) {
	for p := range m.Partitions {
		if !m.lacks(d3Parts) || has(k.Own, p) {
			txns |= m.concerned(&s.Units[k.Apply.Unit-1], p)
		}
	}
	return txns &^ k.Apply.Equal
}

// named are the partitions whose slots name a unit.
func (m *Model) named(s *State, unit int8) (parts uint8) {
	for p := range m.Partitions {
		if s.Dead.Slot[p] == unit {
			parts |= bit(p)
		}
	}
	return parts
}

// applyDead brings the unit at hand to one table, for all partitions at once (D3b).
func (m *Model) applyDead(s *State, w int, lost bool) bool {
	k := &s.Workers[w]
	a := k.Apply
	fl := &s.Units[a.Unit-1]
	table := bits.TrailingZeros8(m.todo(s, k)) / maxPartitions
	here := m.todo(s, k) & (bit(followed(table+1, 0)) - bit(followed(table, 0)))
	k.Apply = Applying{Known: a.Known}
	moved := false // another was faster: to be looked at again
	for i := range maxFollowed {
		moved = moved || has(here, i) && a.Touches[i] != s.Dead.Touches[i]
	}
	gone := fl.is(deadVacuum) || !fl.is(deadFile) || has(fl.Tidied, table)
	if gone {
		switch {
		case m.lacks(d5) || m.lacks(t5) || m.lacks(d1):
			k.Apply.Known |= m.named(s, a.Unit) // nothing there, so nothing to do
			return true
		case moved && !m.lacks(d5Again):
			return true
		case !m.readAgain(s, fl):
			return m.refuse(s, w, table, fl)
		}
	}
	if moved && !m.lacks(d3Touch) && !m.lacks(t2) {
		return true
	}
	if has(s.Dead.Removed, table) && !m.lacks(t6) || s.Dead.Of[table] != 0 && s.Dead.Of[table] != s.Dead.Catalog+1 && !m.lacks(t7) {
		return m.letGo(s, w)
	}
	s.Dead.Removed &^= bit(table)
	s.Dead.Of[table] = s.Dead.Catalog + 1
	s.Dead.AtRisk = s.Dead.AtRisk || m.lacks(c8Deliver) && fl.is(old) // else it is a copy
	if !gone {
		m.bring(s, fl, table)
	}
	for p := range m.Partitions {
		txn := followed(table, p)
		switch {
		case !has(here, txn):
			continue
		case a.Unit == s.Dead.Slot[p]:
			s.Dead.Applied |= bit(txn)
		default:
			s.Dead.Applied &^= bit(txn)
		}
		s.Dead.Touches[txn]++
	}
	if m.lacks(t4) {
		fl.Flags |= noManifest
	}
	a.Equal |= here
	if lost {
		return true
	}
	m.tidyUp(s, fl, table, a.Unit)
	k.Apply = a
	if m.todo(s, k) == 0 || m.lacks(t3) {
		k.Apply = Applying{Known: a.Known | m.named(s, a.Unit)}
	}
	return true
}

// bring adds a unit's rows to a table. Of an earlier generation those count alone that no rewind has taken back.
func (m *Model) bring(s *State, fl *Unit, table int) {
	places := fl.Dead & m.placesFor(fl, table)
	if fl.Gen < s.at(s.Versions, m.first()).Gen {
		places &= s.Dead.Verdict
	}
	if fl.Gen < s.Dead.Gen[table] {
		s.fail(Generation)
	}
	s.Dead.Gen[table] = fl.Gen
	m.bury(s, places)
	m.mixes(s, fl, table)
}

// readAgain tells whether rows that are gone come again: the catalog stands before the first of each partition of them (T5a).
func (m *Model) readAgain(s *State, fl *Unit) bool {
	table := s.at(s.Versions, m.first())
	if m.lacks(t5Word) {
		return fl.Gen < table.Gen
	}
	for p := range m.Partitions {
		if fl.Dead&placesOf(p) != 0 && table.Txn[p] > fl.First[p] {
			return false
		}
	}
	return m.Tables > 0
}

// refuse ends a worker that finds the file of dead letters gone. It names their offsets (D5), so that they must not be there.
func (m *Model) refuse(s *State, w, table int, fl *Unit) bool {
	there := true
	for p := range m.Partitions {
		for o := range m.Messages {
			if has(fl.Dead&m.placesFor(fl, table), place(p, o)) {
				there = there && s.buried(p, o) > 0
			}
		}
	}
	if there {
		s.fail(Stuck)
	}
	return m.letGo(s, w)
}

// tidyUp deletes what was noted of a file, once the table has it for all partitions.
func (m *Model) tidyUp(s *State, fl *Unit, table int, unit int8) {
	for p := range m.Partitions {
		if txn := followed(table, p); has(m.concerned(fl, p), txn) && s.Dead.Slot[p] == unit && !has(s.Dead.Applied, txn) {
			return
		}
	}
	fl.Tidied |= bit(table)
}

// placesOfTable are those whose rows go to a table.
func (m *Model) placesOfTable(table int) (places uint8) {
	for p := range m.Partitions {
		for o := range m.Messages {
			if int(o)%max(m.Tables, 1) == table {
				places |= bit(place(p, o))
			}
		}
	}
	return places
}

// placesFor are those whose rows a unit has for a table: with other values, what is the other one's.
func (m *Model) placesFor(fl *Unit, table int) uint8 { return m.placesOfTable(fl.valueFor(table)) }

func (fl *Unit) valueFor(table int) int {
	if fl.is(otherRoute) {
		return 1 - table
	}
	return table
}

// mixes notes of which value the rows are that come to a table (T6a).
func (m *Model) mixes(s *State, fl *Unit, table int) {
	if m.Budget.Other == 0 {
		return
	}
	value := fl.valueFor(table)
	s.Dead.Values |= bit(2*table + value)
	if has(s.Dead.Values, 2*(1-table)+value) {
		s.fail(Astray)
	}
}

// concerned are the txns of the tables that a unit has rows of, of one partition.
func (m *Model) concerned(fl *Unit, part int) (txns uint8) {
	for t := range max(m.Tables, 1) {
		if fl.Dead&placesOf(part)&m.placesFor(fl, t) != 0 {
			txns |= bit(followed(t, part))
		}
	}
	return txns
}

// pending are the units that a slot names and that some table has not.
func (m *Model) pending(s *State) (units uint8) {
	for p, unit := range s.Dead.Slot {
		if unit > 0 && m.concerned(&s.Units[unit-1], p)&^s.Dead.Applied != 0 {
			units |= bit(int(unit - 1))
		}
	}
	return units
}

// tablesFirst: without T1, or D2a, what follows is committed before the unit that decides about it.
func (m *Model) tablesFirst() bool { return m.lacks(d2First) || m.lacks(t1) }

// payOwed is what the mutants of D1 and D2 do after the commit, if they get to it.
func (m *Model) payOwed(s *State, w int) bool {
	a := &s.Workers[w].Apply
	fl := &s.Units[a.Owes-1]
	a.Owes = 0
	if m.lacks(d1) {
		fl.Flags |= deadFile
		return true
	}
	for p := range m.Partitions {
		for o := range m.Messages {
			if at := place(p, o); has(fl.Dead, at) && (s.buried(p, o) == 0 || !m.tablesFirst()) {
				m.bury(s, bit(at))
			}
		}
	}
	fl.Flags &^= deadFile
	s.Dead.Touches[0]++
	return true
}

// startReplay reads one version of the dead-letter table and what the main table's txn says was replayed (D6).
func (m *Model) startReplay(s *State, w int) bool {
	a := &s.Workers[w].Apply
	done := s.Dead.Replayed
	if m.lacks(d6) {
		done = s.Dead.Marked
	}
	for p := range m.Partitions {
		for o := range m.Messages {
			if at := place(p, o); s.buried(p, o) != 0 && !has(done, at) {
				a.Set |= bit(at)
			}
		}
	}
	a.Replays = s.Dead.Replays
	a.Stage = replay
	return a.Set != 0
}

func (m *Model) replayDead(s *State, w int, lost bool) bool {
	a := &s.Workers[w].Apply
	set := a.Set
	fenced := a.Replays != s.Dead.Replays && !m.lacks(d6)
	*a = Applying{Known: a.Known}
	if fenced {
		return true
	}
	for p := range m.Partitions {
		for o := range m.Messages {
			if n := s.Rows[p] >> (2 * o) & 3; has(set, place(p, o)) && n < 3 {
				s.Rows[p] += 1 << (2 * o)
			}
		}
	}
	s.Dead.Replayed |= set
	s.Dead.Replays++
	if !lost {
		a.Stage, a.Set = mark, set
	}
	return true
}

func (m *Model) markReplayed(s *State, w int) bool {
	a := &s.Workers[w].Apply
	s.Dead.Marked |= a.Set
	if !m.lacks(d6) {
		s.Dead.Marked = s.Dead.Replayed
	}
	*a = Applying{Known: a.Known}
	return true
}
