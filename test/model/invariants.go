package model

// Violation is what a reader of the table, or of Kafka's group, finds wrong.
type Violation uint8

// The invariants, by what breaks them. docs/exactly-once.md numbers them.
const (
	Fine           Violation = iota
	Lost                     // I1: a message below the txn has no row
	Doubled                  // I2: a message has two rows of one generation
	TxnsRows                 // I3: there are rows above the txn, which will come again
	Dangling                 // I4: a version names a deleted file
	FalseBelief              // I5: a worker reports what the table does not have
	Generation               // I6: rows are tagged with a generation that is over
	Schema                   // I7: rows are not as the table wants them by now
	AfterRestore             // I8: a stream goes on over rows that were rolled back
	RowIDs                   // I9: a version was made for another place in the log
	DeadLost                 // I10: a dead letter is nowhere
	DeadTwice                // I11: a dead letter is there twice
	Stuck                    // I12: nothing can bring the rest of the messages into the table
	Ended                    // I13: something of a stream lands that was ended
	Astray                   // I14: rows of one value are in two tables
	violationCount           // not one
)

var violationTexts = [violationCount]string{
	"fine", "a message is lost", "a message is doubled", "rows are above the txn", "a version names a deleted file",
	"a worker takes for landed what is not in the table", "rows of a generation that is over",
	"rows that do not fit the table's schema", "the stream goes on over rows that were rolled back",
	"a version carries row ids of another place", "a dead letter is lost", "a dead letter is doubled", "the stream is stuck",
	"something lands of a stream that was ended", "rows of one value are in two tables",
}

func (v Violation) String() string { return violationTexts[v] }

// check is the state's own violation: rows and txns must agree, for every offset.
func (m *Model) check(s *State) Violation {
	if s.Bad != Fine {
		return s.Bad
	}
	table := s.at(s.Versions, m.first())
	for p := range m.Partitions {
		for o := max(s.Start[p], 0); o < m.Messages; o++ {
			rows := s.Rows[p] >> (2 * o) & 3
			if has(s.Dead.Verdict&^s.Dead.Replayed|s.Counted, place(p, o)) {
				rows++
			}
			if m.Twins && p == 1 {
				rows += s.Rows[0] >> (2 * o) & 3
			}
			switch {
			case rows > 1:
				return Doubled
			case m.Twins: // of one of them
			case o < table.Txn[p] && rows == 0 && !table.Restored && !m.isMarker(o):
				return Lost
			case o >= table.Txn[p] && rows > 0 && !table.Restored: // a RESTORE to before a rewind brings such back
				return TxnsRows
			}
		}
	}
	return m.checkDead(s, table)
}

func (m *Model) checkDead(s *State, table Table) Violation {
	var kept uint8 // dead letters that the slot, or somebody's memory, still names
	keep := func(unit int8) {
		if unit > 0 {
			kept |= s.Units[unit-1].Dead
		}
	}
	for p, unit := range s.Dead.Slot {
		if unit > 0 && s.Units[unit-1].is(deadFile) {
			kept |= s.Units[unit-1].Dead & placesOf(p)
		}
	}
	for w := range s.Workers {
		keep(s.Workers[w].Apply.Owes)
		if k := &s.Workers[w]; m.lacks(d1) || m.lacks(d2) { // whose commit has landed without its knowing
			keep(k.Hand[0])
		}
	}
	for table := range maxTables { // what went with a removed table does everybody know of who needs it (T6)
		if has(s.Dead.Removed, table) {
			kept |= m.placesOfTable(table)
		}
	}
	for p := range m.Partitions {
		for o := range m.Messages {
			n, verdict := s.buried(p, o), has(s.Dead.Verdict, place(p, o))
			switch {
			case n > 1, n == 1 && !verdict && o < table.Txn[p]:
				return DeadTwice
			case verdict && n == 0 && !has(kept, place(p, o)):
				return DeadLost
			}
		}
	}
	return Fine
}

// completes tells whether the messages that are left can still get into the table: faults end, every put arrives, one
// owner is left for each partition, and the workers do what they do. That is one way on; a state without it is stuck. A state
// in which the rules refuse to go on (a forgotten txn, a RESTORE, a dead-letter file that is gone) is not.
func (m *Model) completes(s State) bool {
	for i := range s.Late {
		if p := s.Late[i]; p.Units != 0 {
			s.Late[i] = Put{}
			m.arrive(&s, p)
		}
	}
	var owned uint8
	for w := range m.Workers {
		k := &s.Workers[w]
		k.Other = false // an operator mends its configuration
		if k.Own&owned != 0 || k.Own == 0 && k.Phase != idle && !s.Units[k.Hand[0]-1].is(pins) {
			p := k.Put
			waits := k.Phase == waiting
			*k = Worker{}
			if waits {
				m.arrive(&s, p)
			}
		}
		owned |= k.Own
	}
	for range 60 {
		if s.Versions >= maxVersions-1 {
			return false
		}
		done, refused := m.complete(&s)
		if done || refused {
			return true
		}
		for w := range m.Workers {
			m.proceed(&s, w)
		}
		for p := range m.Partitions {
			m.assign(&s, p)
		}
	}
	return false
}

func (m *Model) complete(s *State) (done, refused bool) {
	table := s.at(s.Versions, m.first())
	done = true
	for p := range m.Partitions {
		done = done && (table.Txn[p] == m.Messages || m.Twins && table.Txn[1-p] == m.Messages || m.isMarker(table.Txn[p]) && s.Gone[p] <= table.Txn[p])
	}
	pending, gone := m.pending(s), false
	for u := range s.Units {
		gone = gone || has(pending, u) && s.Units[u].is(deadVacuum) && !m.readAgain(s, &s.Units[u])
	}
	for _, of := range s.Dead.Of {
		gone = gone || of != 0 && of != s.Dead.Catalog+1
	}
	return done && pending == 0, table.Restored || table.Ended || s.Expired != 0 && !m.lacks(k6) || gone || s.Dead.Removed != 0 || s.cutBelow(table) || m.lostBefore(s, table)
}

// assign gives a partition without an owner to the first worker that holds nothing.
func (m *Model) assign(s *State, p int) {
	for w := range m.Workers {
		if has(s.Workers[w].Own, p) {
			return
		}
	}
	for w := range m.Workers {
		if k := &s.Workers[w]; k.Phase == idle && k.Apply.Stage == 0 {
			if s.at(s.Versions, m.first()).Txn[p] == absent {
				m.pin(s, w, p)
			} else {
				m.claim(s, w, p, s.Versions, false)
			}
			return
		}
	}
}

// proceed is one step of a worker that nothing disturbs.
func (m *Model) proceed(s *State, w int) {
	k := &s.Workers[w]
	switch {
	case k.Apply.Stage == readTable:
		m.compareSlot(s, w)
	case k.Apply.Stage == apply:
		m.applyDead(s, w, false)
	case k.Apply.Stage == replay:
		m.replayDead(s, w, false)
	case k.Apply.Stage == mark:
		m.markReplayed(s, w)
	case m.unsettled(s, k):
		m.startApply(s, w)
	case k.Phase == waiting:
		m.answered(s, w, m.arrive(s, k.Put))
	case k.Phase == unknown:
		m.readBack(s, w)
	case k.Phase == ready:
		m.proceedUnit(s, w)
	case k.Own != 0 && !m.lacks(a3) && m.follow(s, w):
	case k.Own != 0:
		var next [maxPartitions]int8
		var parts uint8
		for p := range m.Partitions {
			if has(k.Own, p) && k.Pos[p] < m.takes() {
				next[p] = m.takes()
				parts |= bit(p)
			}
		}
		if parts != 0 {
			m.flush(s, w, next, parts)
		}
	}
	m.tidy(s)
}

func (m *Model) proceedUnit(s *State, w int) {
	k := &s.Workers[w]
	u := int(k.Hand[0] - 1)
	if m.look(s, w) {
		return
	}
	switch {
	case s.Units[u].is(old): // too old to be committed: dropped, and read again
		m.drop(s, w, unprovable)
	case !m.waitsForDeadLetters(s, u):
		m.send(s, w, false, false, 0)
	}
}
