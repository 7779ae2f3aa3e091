package model

// claim makes a worker believe that it owns a partition and read where it stands, in a snapshot of the first n versions.
// It reports false where the worker refuses. lost: it had a place in the log, and versions after that are gone.
func (m *Model) claim(s *State, w, part int, n int8, lost bool) bool {
	k := &s.Workers[w]
	table := s.at(n, m.first())
	next := table.Txn[part]
	if has(s.Expired, part) {
		next = absent
		if m.lacks(a1Refuse) {
			next = 0
		}
	}
	if next == absent && m.lacks(a1Pin) {
		next = s.Newest
		if s.Start[part] == absent {
			s.Start[part] = next
		}
	}
	if next == absent || table.Ended || k.Other && !m.lacks(t6Route) || m.seesRestore(s, n, k.Past) && !(lost && m.lacks(a6Lost)) || part == 0 && m.refusesLog(s, next, table.Epoch) || m.ledAway(s, k, table.Gen) {
		return false
	}
	k.Own |= bit(part)
	if part == 0 {
		k.Epoch = table.Epoch
	}
	k.Pos[part], k.Read[part] = next, n
	k.Gen, k.Schema = max(k.Gen, table.Gen), max(k.Schema, table.Schema)
	return true
}

// seesRestore is the look back of rule A6 from a snapshot of the first n versions: through the log to the stream's last commit, and where that was cleaned,
// at the files of the last unit with rows (A6a). What stands in a place that was cleaned is not looked at. It does not ask whether there was a RESTORE.
// Versions below `past` it passes over.
func (m *Model) seesRestore(s *State, n, past int8) bool {
	if m.lacks(a6Start) {
		return false
	}
	for v := n - 1; v >= max(s.Cleaned, past); v-- {
		switch kind := s.Log[v].Kind; {
		case kind&restores != 0:
			return true
		case kind&(commits|rewinds) != 0:
			return false
		}
	}
	return past == 0 && s.Cleaned > 0 && s.at(n, m.first()).LastGone && !m.lacks(a6Spans)
}

// reseek drops what a worker holds and has it read again where the table stands.
func (m *Model) reseek(s *State, w int) {
	k := &s.Workers[w]
	own := k.Own
	before := *k
	*k = Worker{Newer: k.Newer, Ahead: k.Ahead, Other: k.Other, Reads: k.Reads, Past: k.Past, Apply: k.Apply}
	for p := range m.Partitions {
		if !has(own, p) {
			continue
		}
		if m.lacks(a2Others) && s.claimTouched(&before, p) == 0 { // goes on where it was
			k.Own |= bit(p)
			k.Pos[p], k.Read[p] = before.Pos[p], before.Read[p]
			k.Gen, k.Schema = max(k.Gen, before.Gen), max(k.Schema, before.Schema)
			continue
		}
		if !m.claim(s, w, p, s.Versions, before.Read[p] < s.Cleaned) {
			m.letGo(s, w)
			return
		}
	}
}

// letGo is a crash, a revocation without a commit, or a stop: everything in memory is gone, puts stay under way.
func (m *Model) letGo(s *State, w int) bool {
	k := &s.Workers[w]
	ok := k.Phase != waiting || m.addLate(s, k.Put)
	*k = Worker{}
	return ok
}

// claimTouched counts the versions since the claim that touch it, or the table as a whole.
func (s *State) claimTouched(k *Worker, p int) int {
	n := 0
	for v := max(k.Read[p], 0); v < s.Versions; v++ {
		if e := &s.Log[v]; has(e.Touched, p) || e.Kind&(breaks|restores) != 0 {
			n++
		}
	}
	return n
}

// judgement is what the versions that a worker can read say of a unit.
type judgement int

const (
	fits       judgement = iota
	isIn                 // a version holds it
	fenced               // one of its partitions was touched
	misfits              // the table has changed under it
	unprovable           // versions are gone
	stop                 // the table was restored
)

// read is what the JSON of a version says. In a place that was cleaned up it is a late put, if anything.
func (m *Model) read(s *State, v int8) (e Entry, ok bool) {
	e = s.Log[v]
	if v >= s.Cleaned {
		return e, true
	}
	return Entry{Kind: commits, Touched: e.GhostTouched, Units: e.GhostUnits}, e.GhostTouched != 0
}

// judge reads every version from `from` on and judges a unit by rule C1.
func (m *Model) judge(s *State, u int, from int8) (judgement, int8) {
	fl := &s.Units[u]
	if s.Cleaned > 0 && from < s.Versions && s.Cleaned >= from && !m.lacks(c2Base) && !m.lacks(c2Missing) {
		return unprovable, 0 // the version that the base was read at is gone: what stands after it may be a late put
	}
	result := fits
	for v := from; v < s.Versions; v++ {
		e, ok := m.read(s, v)
		switch {
		case !ok && m.lacks(c2Missing):
			continue
		case !ok:
			return unprovable, 0
		case has(e.Units, u):
			return isIn, v
		case result != fits:
		case e.Kind&restores != 0 && !m.lacks(c1Restore):
			result = stop
		case e.Touched&fl.Parts != 0, e.Touched != 0 && m.Twins && fl.is(pins) && !m.lacks(a1Alone):
			result = fenced
		case e.Kind&breaks != 0 && !m.lacks(c1Meta):
			result = misfits
		}
	}
	if result == fenced && m.lacks(c1Touch) {
		return m.judgeByValue(s, u), 0
	}
	if result == fenced && fl.is(pins) && m.lacks(a1PinOnce) {
		return fits, 0
	}
	return result, 0
}

func (m *Model) judgeByValue(s *State, u int) judgement {
	for p := range m.Partitions {
		if has(s.Units[u].Parts, p) && s.at(s.Versions, m.first()).Txn[p] != s.Units[u].First[p] {
			return fenced
		}
	}
	return fits
}

// flush closes a unit: partitions and where each ends.
func (m *Model) flush(s *State, w int, next [maxPartitions]int8, parts uint8) bool {
	k := &s.Workers[w]
	u := m.freeUnit(s)
	if u < 0 || has(parts, 0) && m.refusesLog(s, k.Pos[0], k.Epoch) {
		return false
	}
	fl := Unit{Parts: parts, Gen: k.Gen, Schema: k.Schema, Read: s.Versions, Reads: k.Reads}
	for p := range m.Partitions {
		if !has(parts, p) {
			continue
		}
		fl.First[p], fl.Next[p] = k.Pos[p], next[p]
		fl.Lost |= (1<<min(next[p], s.Gone[p]) - 1) &^ (1<<k.Pos[p] - 1) & (1<<maxPlaces - 1) << place(p, 0)
		fl.Read = min(fl.Read, k.Read[p])
		k.Pos[p] = next[p]
		if m.lacks(c10) && next[p] > s.at(s.Versions, m.first()).Txn[p] {
			s.fail(FalseBelief) // offsets are reported when they are flushed
		}
	}
	m.takeEpoch(s, k, &fl)
	m.judgeMessages(k, &fl)
	if k.Phase == idle {
		k.Hand[0], k.Phase, k.Known = int8(u+1), ready, 0
	} else {
		k.Hand[1] = int8(u + 1)
		fl.Read = absent
		if m.lacks(c9Order) {
			fl.Read = s.Versions
		}
	}
	s.Units[u] = fl
	return true
}

// look reads the log on behalf of the unit to land, and reports whether there was anything to see.
func (m *Model) look(s *State, w int) bool {
	k := &s.Workers[w]
	u := int(k.Hand[0] - 1)
	from := max(s.Units[u].Read, k.Known)
	got, v := m.judge(s, u, from)
	if own := k.Put.Units != 0 && k.Put.N == v; got == isIn && m.lacks(p4Attempt) && !own {
		got = fenced // knows its own commits, and those alone
	}
	if m.lacks(p4Value) && s.Units[u].is(published) {
		return m.lookAtTxn(s, w)
	}
	switch got {
	case fits:
		return false
	case isIn:
		m.committed(s, w, v)
		return true
	case stop:
		m.letGo(s, w)
		if m.lacks(c1Once) {
			k.Past = s.Versions
		}
		return true
	case fenced, misfits, unprovable:
		m.drop(s, w, got)
	}
	return true
}

// lookAtTxn is the mutant of P4 that takes the newest txn for the fate of its proposal.
func (m *Model) lookAtTxn(s *State, w int) bool {
	k := &s.Workers[w]
	u := int(k.Hand[0] - 1)
	all := true
	for p := range m.Partitions {
		if has(s.Units[u].Parts, p) {
			all = all && s.at(s.Versions, m.first()).Txn[p] == s.Units[u].Next[p]
		}
	}
	if all {
		m.committed(s, w, s.Versions-1)
	}
	return all
}

// drop gives up what a worker holds because it no longer fits, and deletes what can be proved never to land (C6).
func (m *Model) drop(s *State, w int, why judgement) {
	k := &s.Workers[w]
	keep := int8(0)
	for i, h := range k.Hand {
		if h == 0 {
			continue
		}
		u := int(h - 1)
		proved := why == fenced && !m.lacks(c2Missing) && s.Units[u].Parts != 0 && m.touched(s, u, k)
		unsent := !s.Units[u].is(published) && why != unprovable
		switch {
		case i == 1 && m.lacks(c9Drop):
			keep = h
		case unsent || proved || m.lacks(c6Any):
			s.remove(u)
		}
	}
	m.reseek(s, w)
	if keep != 0 && k.Own != 0 { // the mutant that believes that only the first is lost
		k.Hand[0], k.Phase = keep, ready
		s.Units[keep-1].Read = s.Versions
	}
}

// touched: in every version since the unit's bases, all of them read, one of its partitions was touched.
func (m *Model) touched(s *State, u int, k *Worker) bool {
	from := max(s.Units[u].Read, k.Known)
	if s.Units[u].Read == absent {
		return false
	}
	for v := from; v < s.Versions; v++ {
		if s.Log[v].Touched&s.Units[u].Parts != 0 {
			return true
		}
	}
	return false
}

// committed takes over that a version holds the unit to land, and what was put on top of it.
func (m *Model) committed(s *State, w int, v int8) {
	k := &s.Workers[w]
	e := s.Log[v]
	if v < s.Cleaned && e.GhostTouched != 0 {
		e.Units = e.GhostUnits
	}
	changed := false
	for k.Hand[0] != 0 && (has(e.Units, int(k.Hand[0]-1)) || m.lacks(p4Value)) {
		u := int(k.Hand[0] - 1)
		if !s.landed(u) {
			s.fail(FalseBelief)
		}
		for p := range m.Partitions {
			if has(s.Units[u].Parts, p) && has(k.Own, p) {
				k.Read[p] = v + 1
			}
		}
		m.owes(k, u)
		changed = e.Kind&breaks != 0
		k.Hand = [2]int8{k.Hand[1], 0}
	}
	k.Known, k.Put = 0, Put{}
	if changed {
		k.Schema = e.After.Schema
	}
	k.Phase = idle
	if changed && k.Hand[0] != 0 && !m.lacks(c1Own) { // filled under the schema before: rule C1b, though the change is our own
		m.drop(s, w, misfits)
		return
	}
	if k.Hand[0] != 0 {
		k.Phase = ready
		next := &s.Units[k.Hand[0]-1]
		next.Read = v + 1
		for p := range m.Partitions {
			if has(next.Parts, p) {
				next.Read = min(next.Read, k.Read[p])
			}
		}
	}
	if k.Own == 0 {
		*k = Worker{}
	}
}

// cargo lists the sets of proposals that a commit may carry beside the units in own: by P3 each fits by itself and no two
// move one partition. Which it finds is a matter of listing, so that every subset is one.
func (m *Model) cargo(s *State, own uint8, yield func(uint8)) {
	var usable [maxUnits]int
	n := 0
	var taken uint8
	for u := range s.Units {
		if has(own, u) {
			taken |= s.Units[u].Parts
		}
	}
	for u := range s.Units {
		fl := &s.Units[u]
		if fl.Parts == 0 || !fl.is(published) || fl.Swept || has(own, u) || fl.is(old) && !m.lacks(c8Carry) {
			continue
		}
		if got, _ := m.judge(s, u, fl.Read); got != fits && (!m.lacks(p3Judge) || got == isIn) {
			continue
		}
		usable[n] = u
		n++
	}
	var pick func(i int, mask, taken uint8)
	pick = func(i int, mask, taken uint8) {
		if i == n {
			yield(mask)
			return
		}
		pick(i+1, mask, taken)
		if parts := s.Units[usable[i]].Parts; parts&taken == 0 || m.lacks(c3) {
			pick(i+1, mask|bit(usable[i]), taken|parts)
		}
	}
	pick(0, 0, taken)
}

// readUp raises what a worker has read: every claim that nothing has touched, and the unit to land unless it was published.
func (m *Model) readUp(s *State, w int) {
	k := &s.Workers[w]
	k.Known = s.Versions
	m.readClaims(s, k)
	if fl := &s.Units[k.Hand[0]-1]; !fl.is(published) {
		fl.Read = s.Versions
	}
}

func (m *Model) readClaims(s *State, k *Worker) {
	for p := range m.Partitions {
		if has(k.Own, p) && s.claimTouched(k, p) == 0 && (s.Cleaned == 0 || k.Read[p] > s.Cleaned) {
			k.Read[p] = s.Versions
		}
	}
}

// send puts a version with the unit to land, what is on top of it where both is asked for, and the cargo.
func (m *Model) send(s *State, w int, both, meta bool, cargo uint8) bool {
	k := &s.Workers[w]
	own := bit(int(k.Hand[0] - 1))
	m.readUp(s, w)
	if both {
		own |= bit(int(k.Hand[1] - 1))
		s.Units[k.Hand[1]-1].Read = s.Versions
	}
	p := Put{N: s.Versions, Units: own | cargo, Meta: meta, Built: s.Versions}
	if meta || m.lacks(a4Carried) {
		p.Own = own
	}
	if m.lacks(c4) && k.Put.Units != 0 {
		p.Built = k.Put.Built
	}
	if m.lacks(c9Order) && k.Hand[1] != 0 && !both {
		p.Units = bit(int(k.Hand[1] - 1))
	}
	k.Put, k.Phase = p, waiting
	return true
}

// answered takes the store's answer.
func (m *Model) answered(s *State, w int, got arrival) {
	k := &s.Workers[w]
	switch got {
	case lands:
		if k.Put.NoTxn != 0 {
			m.letGo(s, w)
			return
		}
		m.committed(s, w, k.Put.N)
	case exists:
		k.Phase = ready
		m.settledPut(k)
	case ghost:
		if m.lacks(c7) {
			m.committed(s, w, k.Put.N)
			return
		}
		m.drop(s, w, unprovable)
	}
}

// settledPut forgets a put that lost: nothing of it is needed for the next attempt.
func (m *Model) settledPut(k *Worker) {
	if !m.lacks(c4) && !m.lacks(p4Attempt) {
		k.Put = Put{}
	}
}

// readBack is what a worker does about a lost answer (C5): it reads the version until it exists, and puts it again.
func (m *Model) readBack(s *State, w int) {
	k := &s.Workers[w]
	n := k.Put.N
	switch {
	case m.lacks(c5Next): // takes silence for a no, and tries the next version
		k.Phase, k.Known, k.Put = ready, s.Versions, Put{}
		s.Units[k.Hand[0]-1].Read = s.Versions
	case n >= s.Versions && m.lacks(c5Absent):
		s.remove(int(k.Hand[0] - 1))
		m.letGo(s, w)
	case n >= s.Versions:
		k.Phase = waiting
	case s.Cleaned > 0 && s.Cleaned >= n && !m.lacks(c2Base):
		m.drop(s, w, unprovable)
	default:
		k.Phase = ready
		m.settledPut(k)
	}
}

// workerSteps are the steps of one worker.
func (m *Model) workerSteps(s *State, w int, emit func(*State, Step)) {
	k := &s.Workers[w]
	step := func(op Op, a, b, c int, do func(t *State) bool) {
		t := *s
		if do(&t) {
			emit(&t, Step{Op: op, W: w, A: a, B: b, C: c})
		}
	}
	if k.Phase == idle {
		m.idleSteps(s, w, step)
	}
	if k.Own != 0 && k.Apply.Stage == 0 && (k.Hand[0] == 0 || m.Pipelining && k.Hand[1] == 0) {
		m.flushSteps(s, w, step)
	}
	if k.Phase == ready {
		m.readySteps(s, w, step)
	}
	if k.Phase == unknown {
		step(opReadBack, 0, 0, 0, func(t *State) bool { m.readBack(t, w); return true })
	}
	if k.Own != 0 || k.Phase != idle {
		step(opLetGo, 0, 0, 0, func(t *State) bool {
			if m.lacks(c6GiveUp) && k.Hand[0] != 0 {
				t.remove(int(k.Hand[0] - 1))
			}
			return m.letGo(t, w)
		})
	}
	m.deadLetterSteps(s, w, step)
	m.clockSteps(s, w, step)
}

// clockSteps: a clock jumps ahead. Whoever writes a log checkpoint takes by it for past the retention what is not, unless the store's time counts as well (K6).
func (m *Model) clockSteps(s *State, w int, step stepper) {
	k := &s.Workers[w]
	if s.Left.Jump > 0 && k.Own != 0 {
		step(opJump, 0, 0, 0, func(t *State) bool { t.Left.Jump--; t.Workers[w].Ahead = true; return true })
	}
	for p := range m.Partitions {
		if k.Ahead && m.lacks(k6) && !has(s.Expired, p) {
			step(opForget, p, 0, 0, func(t *State) bool { t.Expired |= bit(p); return true })
		}
	}
}

type stepper func(op Op, a, b, c int, do func(t *State) bool)

func (m *Model) idleSteps(s *State, w int, step stepper) {
	k := &s.Workers[w]
	if s.Left.Acquire > 0 {
		for p := range m.Partitions {
			if has(k.Own, p) {
				continue
			}
			for stale := range int8(2) { // a snapshot may be one version old
				if stale > s.Versions {
					break
				}
				step(opAcquire, p, int(s.Versions-stale), 0, func(t *State) bool {
					t.Left.Acquire--
					return m.claim(t, w, p, s.Versions-stale, false)
				})
			}
		}
		if (m.Pin || m.Added) && k.Own == 0 {
			for p := range m.Partitions {
				if p == 0 || m.Twins {
					step(opPin, p, 0, 0, func(t *State) bool { t.Left.Acquire--; return m.pin(t, w, p) })
				}
			}
		}
		if k.Own == 0 && !k.Newer && s.Left.Newer > 0 {
			step(opUpgrade, 0, 0, 0, func(t *State) bool { t.Left.Newer--; t.Workers[w].Newer = true; return true })
		}
		if k.Own == 0 && s.Left.Other > 0 {
			step(opOther, 0, 0, 0, func(t *State) bool { t.Left.Other--; t.Workers[w].Other = true; return true })
		}
	}
	if k.Own != 0 {
		step(opFollow, 0, 0, 0, func(t *State) bool { return m.follow(t, w) })
	}
}

// follow is the look of an idle worker (A3): a claim that was touched is read again.
func (m *Model) follow(s *State, w int) bool {
	k := &s.Workers[w]
	for p := range m.Partitions {
		if has(k.Own, p) && (s.claimTouched(k, p) > 0 || s.Cleaned > 0 && s.Cleaned >= k.Read[p] && k.Read[p] < s.Versions) {
			m.reseek(s, w)
			return true
		}
	}
	if m.Budget.Clean == 0 {
		return false // having read on matters only where versions go away
	}
	before := k.Read
	m.readClaims(s, k)
	return k.Read != before
}

// pin prepares the unit that fixes the start of every partition (A1); of one of two streams of a topic that of its own, if the other has not begun (A1c).
func (m *Model) pin(s *State, w, stream int) bool {
	u := m.freeUnit(s)
	if u < 0 {
		return false
	}
	fl := Unit{Read: s.Versions, Flags: pins}
	for p := range m.Partitions {
		if s.at(s.Versions, m.first()).Txn[p] != absent && !m.looksNew(s) {
			continue
		}
		if m.Twins && (p != stream || s.at(s.Versions, m.first()).Txn[1-p] != absent) {
			continue
		}
		start := s.Newest
		if m.lacks(a1Added) {
			start = s.Gone[p]
		}
		fl.Parts |= bit(p)
		fl.First[p], fl.Next[p] = start, start
	}
	if fl.Parts == 0 || s.at(s.Versions, m.first()).Ended {
		return false
	}
	s.Units[u] = fl
	k := &s.Workers[w]
	k.Hand[0], k.Phase = int8(u+1), ready
	return true
}

// looksNew: without A4b, a stream all of whose offsets have expired can't be told from one that never was.
func (m *Model) looksNew(s *State) bool { return m.lacks(a4Lasts) && s.Expired == 1<<m.Partitions-1 }

// flushSteps: any ends of the partitions owned; with two, one message or all, to keep the choices few.
func (m *Model) flushSteps(s *State, w int, step stepper) {
	k := &s.Workers[w]
	if m.lacks(c9Order) && k.Hand[0] != 0 && k.Phase != ready {
		return
	}
	var next [maxPartitions]int8
	var choose func(p int, parts uint8)
	choose = func(p int, parts uint8) {
		if p == m.Partitions {
			if parts != 0 {
				step(opFlush, int(next[0]), int(next[1]), int(parts), func(t *State) bool { return m.flush(t, w, next, parts) })
			}
			return
		}
		next[p] = 0
		choose(p+1, parts)
		if !has(k.Own, p) {
			return
		}
		for e := k.Pos[p] + 1; e <= m.takes(); e++ {
			if m.Partitions == 1 || e == k.Pos[p]+1 || e == m.Messages {
				next[p] = e
				choose(p+1, parts|bit(p))
			}
		}
		next[p] = 0
	}
	choose(0, 0)
	if s.Left.Refresh > 0 && k.Phase == idle {
		for p := range m.Partitions {
			if has(k.Own, p) {
				step(opRefresh, p, 0, 0, func(t *State) bool {
					t.Left.Refresh--
					next := k.Pos
					return m.flush(t, w, next, bit(p))
				})
			}
		}
	}
}

func (m *Model) readySteps(s *State, w int, step stepper) {
	k := &s.Workers[w]
	u := int(k.Hand[0] - 1)
	fl := &s.Units[u]
	step(opLook, u, 0, 0, func(t *State) bool { return m.look(t, w) })
	if m.waitsForDeadLetters(s, u) {
		return
	}
	if m.Combining && (!fl.is(published) || fl.Swept) && !fl.is(old) {
		step(opPublish, u, 0, 0, func(t *State) bool { t.Units[u].Flags |= published; t.Units[u].Swept = false; return true })
	}
	if m.lacks(p1) && fl.is(published) && fl.Read < s.Versions {
		step(opRestamp, u, 0, 0, func(t *State) bool { t.Units[u].Read = s.Versions; return true })
	}
	if s.Versions >= m.Versions || fl.is(old) && !m.lacks(c8) {
		return
	}
	got, _ := m.judge(s, u, max(fl.Read, k.Known))
	blind := fl.First == fl.Next && m.lacks(a4)
	var noTxn uint8
	if got == fenced && m.lacks(a2Whole) {
		if noTxn = m.fencedParts(s, u); noTxn == fl.Parts {
			return
		}
	} else if got != fits && !(m.lacks(c1) && got == fenced) && !blind && !(m.lacks(e2) && got == misfits) {
		return
	}
	for both := range 2 {
		if both == 1 && (k.Hand[1] == 0 || m.lacks(c9Order) || s.Units[k.Hand[1]-1].Dead != 0 && !m.lacks(d4Both)) {
			break // a slot names the dead letters of one unit (D4)
		}
		if both == 1 && !m.onTopFits(s, k) {
			break
		}
		own := bit(u)
		if both == 1 {
			own |= bit(int(k.Hand[1] - 1))
		}
		m.cargo(s, own, func(cargo uint8) {
			if got != misfits {
				step(opPut, both, 0, int(cargo), func(t *State) bool {
					ok := m.send(t, w, both == 1, false, cargo)
					t.Workers[w].Put.NoTxn = noTxn
					return ok
				})
			}
			if s.Left.Meta > 0 && noTxn == 0 && (cargo == 0 || m.lacks(p3Meta)) {
				step(opPut, both, 1, int(cargo), func(t *State) bool {
					t.Left.Meta--
					if m.lacks(e1) {
						t.Units[u].Schema++
					}
					return m.send(t, w, both == 1, !m.lacks(e1), cargo)
				})
			}
		})
	}
}

// onTopFits judges the unit that is filled on top by the claims: those of the unit below, and others.
func (m *Model) onTopFits(s *State, k *Worker) bool {
	for p := range m.Partitions {
		if !has(s.Units[k.Hand[1]-1].Parts, p) {
			continue
		}
		if s.claimTouched(k, p) > 0 || s.Cleaned > 0 && s.Cleaned >= k.Read[p] && k.Read[p] < s.Versions {
			return false
		}
	}
	return true
}

func (m *Model) fencedParts(s *State, u int) uint8 {
	var parts uint8
	for v := max(s.Units[u].Read, 0); v < s.Versions; v++ {
		parts |= s.Log[v].Touched & s.Units[u].Parts
	}
	return parts
}
