package model

// DeadLetters is the dead-letter table and the slot in the main table that it follows. Partition 0 alone has dead letters.
type DeadLetters struct {
	Slot     int8  // unit + 1 that the main table names as the last with dead letters
	Applied  bool  // the dead-letter table names the same
	Touches  int8  // versions of the dead-letter table
	Counts   uint8 // dead letters in it, two bits an offset
	Verdict  uint8 // offsets that landed units declared dead letters
	Replays  int8  // versions of the main table's txn of replays
	Replayed uint8 // offsets that these took
	Marked   uint8 // offsets that the dead-letter table has marked as replayed
}

// Applying is a worker on its way to the dead-letter table.
type Applying struct {
	Stage   uint8 // 0: not on its way
	Unit    int8  // unit + 1 that it is about to apply
	Touches int8
	Equal   bool  // the dead-letter table named the main table's slot when it was read
	Known   bool  // the present slot is known to be applied
	Owes    int8  // unit + 1 whose dead letters are in memory alone; only where a rule is missing
	Set     uint8 // offsets to replay
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
	k := uint64(a.Stage)<<32 | uint64(a.Unit)<<24 | uint64(a.Touches)<<16 | uint64(a.Owes)<<12 | uint64(a.Set)<<4
	if a.Equal {
		k |= 1
	}
	if a.Known {
		k |= 2
	}
	return k
}

func (d *DeadLetters) units() uint8 {
	if d.Slot > 0 {
		return bit(int(d.Slot - 1))
	}
	return 0
}

func (d *DeadLetters) rename(ref func(int8) int8) { d.Slot = ref(d.Slot) }

// judgeMessages decides which messages of a unit are dead letters. A newer program may decide otherwise.
func (m *Model) judgeMessages(k *Worker, fl *Unit) {
	if m.DeadMask == 0 || !has(fl.Parts, 0) {
		return
	}
	fl.Dead = m.DeadMask
	if k.Newer {
		fl.Dead <<= 1
	}
	fl.Dead &= 1<<fl.Next[0] - 1
	fl.Dead &^= 1<<fl.First[0] - 1
	if fl.Dead != 0 && !m.lacks(d1) {
		fl.Flags |= deadFile
	}
}

// verdict takes over what a landing unit says of dead letters: rows and verdict are in one version (D2).
func (m *Model) verdict(s *State, u int) {
	fl := &s.Units[u]
	if fl.Dead == 0 {
		return
	}
	s.Dead.Verdict |= fl.Dead
	if m.lacks(d2) || m.lacks(d2First) {
		return
	}
	s.Dead.Slot, s.Dead.Applied = int8(u+1), false
	for w := range s.Workers {
		s.Workers[w].Apply.Known, s.Workers[w].Apply.Equal = false, false
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
	if m.lacks(d2First) {
		return s.Units[u].is(deadFile) // not written yet
	}
	if s.Units[u].Dead == 0 || m.lacks(d4) || s.Dead.Slot == 0 {
		return false
	}
	for w := range s.Workers {
		if k := &s.Workers[w]; int(k.Hand[0]-1) == u && k.Phase == ready && k.Apply.Known {
			return false
		}
	}
	return true
}

func (m *Model) deadLetterSteps(s *State, w int, step stepper) {
	k := &s.Workers[w]
	if m.DeadMask == 0 {
		return
	}
	a := k.Apply
	switch {
	case m.lacks(d2First) && k.Phase == ready && s.Units[k.Hand[0]-1].is(deadFile):
		step(opOwed, int(k.Hand[0]-1), 0, 0, func(t *State) bool {
			t.Workers[w].Apply.Owes = k.Hand[0]
			return m.payOwed(t, w)
		})
	case a.Owes > 0:
		step(opOwed, int(a.Owes-1), 0, 0, func(t *State) bool { return m.payOwed(t, w) })
	case a.Stage == 0 && (k.Phase == idle || k.Phase == ready) && has(k.Own, 0) && s.Dead.Slot != 0 && !a.Known:
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

// startApply reads the dead-letter table first, then the main table's slot (D3): the other way round, what is pending by
// then may have been applied and followed by another.
func (m *Model) startApply(s *State, w int) bool {
	a := &s.Workers[w].Apply
	a.Stage = readTable
	if m.lacks(d3Order) {
		a.Unit = s.Dead.Slot
		return true
	}
	a.Touches, a.Equal = s.Dead.Touches, s.Dead.Applied
	return true
}

func (m *Model) compareSlot(s *State, w int) bool {
	a := &s.Workers[w].Apply
	if m.lacks(d3Order) {
		a.Touches, a.Equal = s.Dead.Touches, s.Dead.Applied && a.Unit == s.Dead.Slot
	} else {
		a.Unit = s.Dead.Slot
	}
	if a.Equal {
		*a = Applying{Known: !m.lacks(d3Order) || a.Unit == s.Dead.Slot}
		return true
	}
	a.Stage = apply
	return true
}

func (m *Model) applyDead(s *State, w int, lost bool) bool {
	k := &s.Workers[w]
	a := k.Apply
	fl := &s.Units[a.Unit-1]
	k.Apply = Applying{}
	if fl.is(deadVacuum) || !fl.is(deadFile) {
		if m.lacks(d5) || m.lacks(d1) {
			k.Apply.Known = true // nothing there, so nothing to do
			return true
		}
		return m.letGo(s, w) // refuses, and names the offsets
	}
	if a.Touches != s.Dead.Touches && !m.lacks(d3Touch) {
		return true // another was faster: look again
	}
	for o := range m.Messages {
		if n := s.Dead.Counts >> (2 * o) & 3; has(fl.Dead, int(o)) && n < 3 {
			s.Dead.Counts += 1 << (2 * o)
		}
	}
	s.Dead.Touches++
	s.Dead.Applied = a.Unit == s.Dead.Slot
	k.Apply.Known = s.Dead.Applied && !lost
	return true
}

// payOwed is what the mutants of D1 and D2 do after the commit, if they get to it.
func (m *Model) payOwed(s *State, w int) bool {
	a := &s.Workers[w].Apply
	fl := &s.Units[a.Owes-1]
	a.Owes = 0
	if m.lacks(d1) {
		fl.Flags |= deadFile
		return true
	}
	for o := range m.Messages {
		if n := s.Dead.Counts >> (2 * o) & 3; has(fl.Dead, int(o)) && (n == 0 || !m.lacks(d2First)) {
			s.Dead.Counts += 1 << (2 * o)
		}
	}
	fl.Flags &^= deadFile
	s.Dead.Touches++
	return true
}

// startReplay reads one version of the dead-letter table and what the main table's txn says was replayed (D6).
func (m *Model) startReplay(s *State, w int) bool {
	a := &s.Workers[w].Apply
	done := s.Dead.Replayed
	if m.lacks(d6) {
		done = s.Dead.Marked
	}
	for o := range m.Messages {
		if s.Dead.Counts>>(2*o)&3 != 0 && !has(done, int(o)) {
			a.Set |= bit(int(o))
		}
	}
	a.Touches = s.Dead.Replays
	a.Stage = replay
	return a.Set != 0
}

func (m *Model) replayDead(s *State, w int, lost bool) bool {
	a := &s.Workers[w].Apply
	set := a.Set
	fenced := a.Touches != s.Dead.Replays && !m.lacks(d6)
	*a = Applying{Known: a.Known}
	if fenced {
		return true
	}
	for o := range m.Messages {
		if n := s.Rows[0] >> (2 * o) & 3; has(set, int(o)) && n < 3 {
			s.Rows[0] += 1 << (2 * o)
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
