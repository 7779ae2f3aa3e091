package model

// arrival is what became of a put at the store.
type arrival int

const (
	lands arrival = iota
	exists
	ghost // it is stored, at a place below the log checkpoint where no snapshot looks
)

// arrive lets the store decide a put: put-if-absent at its version.
func (m *Model) arrive(s *State, p Put) arrival {
	switch {
	case p.N >= s.Versions:
		m.land(s, p)
		return lands
	case p.N < s.Cleaned && s.Log[p.N].GhostTouched == 0:
		e := &s.Log[p.N]
		e.GhostUnits = p.Units
		for u := range s.Units {
			if has(p.Units, u) {
				e.GhostTouched |= s.Units[u].Parts
			}
		}
		return ghost
	}
	return exists
}

// land appends a version and counts what a reader of the table finds then.
func (m *Model) land(s *State, p Put) {
	v := s.Versions
	e := &s.Log[v]
	*e = Entry{Kind: commits, Units: p.Units, After: s.at(v, m.first())}
	s.Versions++
	if p.Built != v {
		s.fail(RowIDs)
	}
	if e.After.Restored {
		s.fail(AfterRestore)
	}
	if e.After.Ended {
		s.fail(Ended)
	}
	if p.Meta {
		e.Kind |= breaks
		e.After.Schema++
	}
	for todo := p.Units; todo != 0; {
		u := s.lowest(todo)
		todo &^= bit(u)
		fl := &s.Units[u]
		if fl.is(deleted) {
			s.fail(Dangling)
		}
		if m.Budget.Lead > 0 && fl.Reads != s.topicOf(e.After.Gen) {
			s.fail(Lost) // its rows stand for messages of another topic
		}
		if fl.Gen != e.After.Gen && !fl.is(pins) {
			s.fail(Generation)
		}
		written := e.After.Schema // what its rows are to be written under
		if p.Meta && has(p.Own, u) {
			written-- // and what they bring
		}
		if fl.Schema != written {
			s.fail(Schema)
		}
		if !m.lacks(k1) {
			s.Counted |= fl.Lost
		}
		m.landEpoch(s, fl, &e.After)
		if m.lacks(a4Carried) && has(fl.Parts, 0) && fl.First == fl.Next && !has(p.Own, u) {
			e.After.Epoch = 0 // some day
		}
		if !fl.is(pins) && fl.First != fl.Next {
			s.Last, e.After.LastGone = v, false
		}
		for part := range m.Partitions {
			if !has(fl.Parts, part) {
				continue
			}
			m.count(s, u, part)
			if has(p.NoTxn, part) {
				continue
			}
			e.After.Txn[part] = fl.Next[part]
			if fl.is(pins) && s.Start[part] == absent {
				s.Start[part] = fl.First[part]
			}
			e.Touched |= bit(part)
			s.Expired &^= bit(part)
		}
		m.verdict(s, u)
	}
}

// count adds a unit's rows to what the table holds.
func (m *Model) count(s *State, u, part int) {
	fl := &s.Units[u]
	for o := fl.First[part]; o < fl.Next[part]; o++ {
		if has(fl.Dead|fl.Lost, place(part, o)) || m.isMarker(o) {
			continue
		}
		if n := s.Rows[part] >> (2 * o) & 3; n < 3 {
			s.Rows[part] += 1 << (2 * o)
		}
	}
}

// lowest is the unit of the mask that comes first where two move the same partition.
func (s *State) lowest(mask uint8) int {
	best := -1
	for u := range s.Units {
		if !has(mask, u) {
			continue
		}
		if best < 0 {
			best = u
			continue
		}
		a, b := &s.Units[u], &s.Units[best]
		for p := range maxPartitions {
			if has(a.Parts&b.Parts, p) && a.First[p] < b.First[p] {
				best = u
				break
			}
		}
	}
	return best
}

// remove deletes a unit's files.
func (s *State) remove(u int) {
	if s.landed(u) {
		s.fail(Dangling)
	}
	s.Units[u].Flags |= deleted
}

func (s *State) fail(v Violation) {
	if s.Bad == Fine {
		s.Bad = v
	}
}

// storeSteps lets every put under way arrive, its answer with it or not.
func (m *Model) storeSteps(s *State, emit func(*State, Step)) {
	for w := range m.Workers {
		k := &s.Workers[w]
		if k.Phase != waiting {
			continue
		}
		for lost := range 2 {
			if lost == 1 && s.Left.Lost == 0 {
				break
			}
			for twice := range 2 {
				if twice == 1 && s.Left.Twice == 0 {
					break
				}
				t := *s
				got := m.arrive(&t, k.Put)
				if twice == 1 {
					t.Left.Twice--
					if got != lands || !m.addLate(&t, k.Put) {
						continue
					}
				}
				if lost == 1 {
					t.Left.Lost--
					t.Workers[w].Phase = unknown
				} else {
					m.answered(&t, w, got)
				}
				emit(&t, Step{Op: opArrive, W: w, A: int(got), B: lost, C: twice})
			}
		}
		if s.Left.Lost > 0 {
			t := *s
			if m.addLate(&t, k.Put) {
				t.Left.Lost--
				t.Workers[w].Phase = unknown
				emit(&t, Step{Op: opTimeout, W: w})
			}
		}
	}
	for i := range s.Late {
		if p := s.Late[i]; p.Units != 0 && (i == 0 || p != s.Late[i-1]) {
			t := *s
			t.Late[i] = Put{}
			got := m.arrive(&t, p)
			emit(&t, Step{Op: opLate, W: -1, A: int(got), B: int(p.N), C: int(p.Units)})
		}
	}
}
