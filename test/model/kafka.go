package model

// What may befall Kafka's log of a partition (rules K3 to K5). There is one partition then, and one such event.

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

// refusesLog tells whether a worker that is to read on from an offset, and knows the epoch of the message before it, finds that the log is not what it was.
func (m *Model) refusesLog(s *State, next, epoch int8) bool {
	switch beyond := s.Cut != 0 && next >= s.Cut; {
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
	if m.Budget.Cut == 0 || fl.First == fl.Next {
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
	if fl.First == fl.Next {
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
