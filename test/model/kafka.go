package model

// What may befall Kafka's log of partition 0 (rules K2 to K5), once; and what an operator does who leads the stream to another topic.

// Ways in which a log comes to have other messages at offsets that it had before.
const (
	cutShort = iota // its end is gone, and nobody has written since
	cutGrown        // by an election, and it has grown again
	madeAnew        // the topic was deleted, and has as many messages again
)

// cutSteps take the end of the log away. A log that has grown again, or is of another topic, tells nothing to whoever does not know the leader epoch or the
// topic of before: the table does once a commit of the stream's own is in it.
func (m *Model) cutSteps(s *State, step stepper) {
	if s.Left.Cut == 0 {
		return
	}
	table := s.at(s.Versions, m.first())
	for at := range m.Messages {
		for how := cutShort; how <= madeAnew; how++ {
			if how == madeAnew && at > 0 || how != cutShort && table.Epoch == 0 && table.Txn[0] > at {
				continue
			}
			step(opCut, int(at), how, 0, func(t *State) bool {
				t.Left.Cut--
				t.Cut, t.Short, t.Anew = at+1, how == cutShort, how == madeAnew
				return true
			})
		}
	}
}

// refusesLog tells whether a worker that is to read on from an offset, and knows the epoch of the message before it, finds that the log is not what it was, or
// has less than it had (K1).
func (m *Model) refusesLog(s *State, next, epoch int8) bool {
	switch beyond := s.Cut != 0 && next >= s.Cut; {
	case m.Markers && s.Gone[0] > next:
		return true
	case s.Anew:
		return !m.lacks(k5)
	case beyond && s.Short && !m.lacks(k3):
		return true
	default:
		return beyond && epoch == 1 && !m.lacks(k4)
	}
}

// takeEpoch notes of which log the messages of a unit are. Whoever waits at the end of one that is short waits for what is written there.
func (m *Model) takeEpoch(s *State, k *Worker, fl *Unit) {
	if m.Budget.Cut == 0 || fl.First[0] == fl.Next[0] {
		return
	}
	fl.Epoch = 1
	if s.Cut != 0 && fl.Next[0] >= s.Cut {
		fl.Epoch, s.Short = 2, false
	}
	k.Epoch = fl.Epoch
}

// landEpoch looks whether messages stay out that a log has which was cut back: what came of it begins where it was cut, or follows on what came of it.
func (m *Model) landEpoch(s *State, fl *Unit, table *Table) {
	if fl.First[0] == fl.Next[0] {
		return
	}
	if s.Cut != 0 && fl.First[0] >= s.Cut && (fl.Epoch == 2) != (table.Epoch == 2) {
		s.fail(Lost)
	}
	table.Epoch = fl.Epoch
}

// cutBelow: the table has messages that Kafka's log had, and for which it has others now. Whoever starts has to refuse.
func (s *State) cutBelow(table Table) bool {
	return s.Cut != 0 && (s.Anew || table.Epoch != 2 && table.Txn[0] >= s.Cut)
}

// Topics of a stream that an operator leads to another one.
const (
	formerTopic int8 = iota + 1
	newTopic
)

func (s *State) topicOf(generation int8) int8 {
	if s.Led != 0 && generation >= s.Led {
		return newTopic
	}
	return formerTopic
}

// ledAway tells whether a worker finds in the table that the stream is of another topic than it reads itself (K5a). One that begins reads that of then.
func (m *Model) ledAway(s *State, k *Worker, generation int8) bool {
	if m.Budget.Lead == 0 {
		return false
	}
	topic := s.topicOf(generation)
	if k.Reads == 0 {
		k.Reads = topic
	}
	return k.Reads != topic && !m.lacks(k5Led)
}

// isMarker tells of the offset of a control record.
func (m *Model) isMarker(offset int8) bool { return m.Markers && offset == m.Messages-1 }

// takes is up to where spans go.
func (m *Model) takes() int8 {
	if m.Markers && m.lacks(k2) {
		return m.Messages - 1
	}
	return m.Messages
}

// retentionTakes tells whether retention may remove the first offset that Kafka has. A control record is removed long after the 10 minutes in which a
// worker that has nothing else to take commits its offset (K2).
func (m *Model) retentionTakes(s *State, p int) bool {
	txn := s.at(s.Versions, m.first()).Txn[p]
	return !m.isMarker(s.Gone[p]) || txn > s.Gone[p] || m.lacks(k2) && txn == s.Gone[p]
}

// lostBefore: whoever starts has to refuse, since messages were removed before they were read. Control records are none.
func (m *Model) lostBefore(s *State, table Table) bool {
	return m.Markers && s.Gone[0] > table.Txn[0] && !m.isMarker(table.Txn[0])
}
