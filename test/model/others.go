package model

// otherSteps are those of operators, other writers, and time.
func (m *Model) otherSteps(s *State, emit func(*State, Step)) {
	step := func(op Op, a, b, c int, do func(t *State) bool) {
		t := *s
		if do(&t) {
			emit(&t, Step{Op: op, W: -1, A: a, B: b, C: c})
		}
	}
	if s.Versions < m.Versions {
		m.rewindSteps(s, step)
		if s.Left.Meta > 0 {
			step(opForeignMeta, 0, 0, 0, func(t *State) bool {
				t.Left.Meta--
				e := m.foreign(t, breaks)
				e.After.Schema++
				return true
			})
		}
		if s.Left.Restore > 0 {
			for n := range s.Versions {
				step(opRestore, int(n), 0, 0, func(t *State) bool { return m.restore(t, n) })
			}
		}
	}
	if s.Left.Clean > 0 {
		for c := s.Cleaned + 1; c < s.Versions; c++ {
			step(opClean, int(c), 0, 0, func(t *State) bool {
				t.Left.Clean--
				t.Cleaned = c
				return true
			})
		}
	}
	m.ageSteps(s, step)
	m.endSteps(s, step)
	if s.Left.Expire > 0 {
		for p := range m.Partitions {
			if s.at(s.Versions, m.first()).Txn[p] != absent && !has(s.Expired, p) {
				step(opExpire, p, 0, 0, func(t *State) bool { t.Left.Expire--; t.Expired |= bit(p); return true })
			}
		}
	}
	if m.Pin && s.Newest == 0 {
		step(opProduce, 0, 0, 0, func(t *State) bool { t.Newest++; return true })
	}
	for u, waits := 0, m.pending(s); waits>>u != 0; u++ {
		if s.Left.Vacuum > 0 && has(waits, u) && !s.Units[u].is(deadVacuum) {
			step(opDeadVacuum, u, 0, 0, func(t *State) bool { t.Left.Vacuum--; t.Units[u].Flags |= deadVacuum; return true })
		}
	}
}

// foreign appends a version of somebody who knows nothing of units.
func (m *Model) foreign(s *State, kind uint8) *Entry {
	v := s.Versions
	s.Log[v] = Entry{Kind: kind, After: s.at(v, m.first())}
	s.Versions++
	return &s.Log[v]
}

// rewindSteps: an operator goes back to lower offsets of one or all partitions, or to what a RESTORE has left (A5).
func (m *Model) rewindSteps(s *State, step stepper) {
	if s.Left.Lead > 0 {
		step(opLead, 0, 0, 0, func(t *State) bool {
			t.Left.Lead--
			t.Left.Rewind++
			m.rewind(t, [maxPartitions]int8{})
			t.Led = t.at(t.Versions, m.first()).Gen
			return true
		})
	}
	if s.Left.Rewind == 0 {
		return
	}
	now := s.at(s.Versions, m.first())
	if now.Restored {
		var to [maxPartitions]int8
		for p := range m.Partitions {
			for to[p] < m.Messages && s.Rows[p]>>(2*to[p])&3 != 0 {
				to[p]++
			}
		}
		step(opRewind, int(to[0]), int(to[1]), 1, func(t *State) bool { return m.rewind(t, to) })
		return
	}
	for p := range m.Partitions {
		for o := max(s.Start[p], 0); o < now.Txn[p]; o++ {
			to := now.Txn
			to[p] = o
			step(opRewind, int(to[0]), int(to[1]), 0, func(t *State) bool { return m.rewind(t, to) })
		}
	}
}

func (m *Model) rewind(s *State, to [maxPartitions]int8) bool {
	s.Left.Rewind--
	e := m.foreign(s, rewinds)
	for p := range m.Partitions {
		if to[p] != e.After.Txn[p] || !m.lacks(a5All) {
			e.Touched |= bit(p)
			s.Expired &^= bit(p)
		}
		e.After.Txn[p] = to[p]
		s.Rows[p] &= 1<<(2*to[p]) - 1 // the rows above are the older generation's
		again := placesOf(p) &^ ((1<<to[p] - 1) << place(p, 0))
		s.Counted &^= again
		s.Dead.Verdict &^= again
		s.Dead.Counts[p] &= 1<<(2*to[p]) - 1
	}
	e.After.Gen++
	if e.After.LastGone { // it names none then
		s.Last = absent
	}
	e.After.Restored, e.After.LastGone, e.After.Ended = false, false, false
	return true
}

// restore takes the rows back to those of the first n versions; Delta leaves the txns where they are. Behind a rewind, it brings back what was read again,
// as the rows of the generation of then: one of each message below its txns.
func (m *Model) restore(s *State, n int8) bool {
	then, now := s.at(n, m.first()), s.at(s.Versions, m.first())
	across := then.Gen != now.Gen
	switch {
	case then.Restored:
		return false
	case s.Last < n && (!across || s.Last != absent):
		return false // it takes nothing
	case across && s.Last == absent && s.Left.Clean > 0:
		return false // the log may be cleaned, and no txn names a unit since a rewind that followed a RESTORE: a start can't tell, and warns
	}
	s.Left.Restore--
	e := m.foreign(s, restores)
	e.After.Restored, e.After.LastGone = true, s.Last != absent
	for p := range m.Partitions {
		if across {
			s.Rows[p] = oneOfEach
		}
		s.Rows[p] &= 1<<(2*then.Txn[p]) - 1
	}
	return true
}

// oneOfEach are Rows with one of each offset.
const oneOfEach = 0b01010101

// ageSteps: files grow old, and an orphan cleaning takes old ones that no version names. A put is not under way for as
// long as that takes (the open question of docs/exactly-once.md).
func (m *Model) ageSteps(s *State, step stepper) {
	for u := range s.Units {
		fl := &s.Units[u]
		if s.Left.Sweep > 0 && fl.is(published) && !fl.Swept {
			step(opSweep, u, 0, 0, func(t *State) bool { return m.sweep(t, u) })
		}
		if fl.Parts == 0 || fl.First == fl.Next {
			continue
		}
		if s.Left.Age > 0 && !fl.is(old) {
			step(opAge, u, 0, 0, func(t *State) bool { t.Left.Age--; t.Units[u].Flags |= old; return true })
		}
		if s.Left.Vacuum > 0 && fl.is(old) && !fl.is(deleted) && !s.landed(u) && !has(s.inFlight(), u) && !s.awaited(u) {
			step(opVacuum, u, 0, 0, func(t *State) bool { t.Left.Vacuum--; t.remove(u); return true })
		}
	}
}

// sweep deletes a proposal that has been there for long (P5). Its files stay: it may be on its way in somebody's commit, and its owner may put it.
func (m *Model) sweep(s *State, u int) bool {
	s.Left.Sweep--
	s.Units[u].Swept = true
	if m.lacks(p5) {
		s.remove(u)
	}
	return true
}

// endSteps: retention removes messages, the stream is ended (A1d), a table is removed (T6), or the catalog lost and made anew (T7).
func (m *Model) endSteps(s *State, step stepper) {
	m.cutSteps(s, step)
	for p := range m.Partitions {
		if s.Left.Retain > 0 && s.Gone[p] < m.Messages && m.retentionTakes(s, p) {
			step(opRetain, p, 0, 0, func(t *State) bool { t.Left.Retain--; t.Gone[p]++; return true })
		}
	}
	if s.Left.End > 0 && s.Versions < m.Versions && !s.at(s.Versions, m.first()).Ended {
		step(opEnd, 0, 0, 0, func(t *State) bool {
			t.Left.End--
			e := m.foreign(t, 0)
			e.After.Ended = true
			if !m.lacks(a1End) {
				e.Touched = 1<<m.Partitions - 1
			}
			return true
		})
	}
	for table := range m.Tables {
		if s.Left.Remove > 0 && s.Dead.Of[table] != 0 {
			step(opRemove, table, 0, 0, func(t *State) bool { return m.removeTable(t, table) })
		}
	}
	if s.Left.Anew > 0 && s.Versions < m.Versions {
		step(opAnew, 0, 0, 0, m.anew)
	}
	if s.Dead.AtRisk && s.Left.Vacuum > 0 {
		step(opTake, 0, 0, 0, func(t *State) bool { t.Left.Vacuum--; t.fail(Dangling); return true })
	}
}

// removeTable takes one of the tables that follow a catalog away, with all its rows.
func (m *Model) removeTable(s *State, table int) bool {
	s.Left.Remove--
	s.Dead.Removed |= bit(table)
	for p := range m.Partitions {
		s.Dead.Applied &^= bit(followed(table, p))
		for o := range m.Messages {
			if has(m.placesOfTable(table), place(p, o)) {
				s.Dead.Counts[p] &^= 3 << (2 * o)
			}
		}
	}
	return true
}

// anew puts an empty catalog into the place of the one that there was. Workers of that find another table there, and end.
func (m *Model) anew(s *State) bool {
	s.Left.Anew--
	e := m.foreign(s, 0)
	e.Touched, e.After = 1<<m.Partitions-1, m.first()
	for w := range m.Workers {
		s.Workers[w] = Worker{}
	}
	s.Late = [maxLate]Put{}
	s.Rows = [maxPartitions]uint8{}
	s.Dead.Catalog++
	s.Dead.Slot, s.Dead.Applied, s.Dead.Verdict = [maxPartitions]int8{}, 0, 0
	return true
}

// awaited: a worker is about to put it again.
func (s *State) awaited(u int) bool {
	for w := range s.Workers {
		if k := &s.Workers[w]; k.Phase == unknown && has(k.Put.Units, u) {
			return true
		}
	}
	return false
}
