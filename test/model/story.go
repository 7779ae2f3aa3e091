package model

import (
	"fmt"
	"strings"
)

// Op is what a step does.
type Op uint8

// The steps, in the order of the files.
const (
	opAcquire Op = iota
	opPin
	opUpgrade
	opOther
	opFollow
	opFlush
	opRefresh
	opLook
	opPublish
	opRestamp
	opPut
	opReadBack
	opLetGo
	opJump
	opForget
	opArrive
	opTimeout
	opLate
	opOwed
	opReadDead
	opReadSlot
	opApply
	opStartReplay
	opReplay
	opMark
	opRewind
	opLead
	opForeignMeta
	opRestore
	opClean
	opSweep
	opAge
	opVacuum
	opExpire
	opProduce
	opDeadVacuum
	opRetain
	opEnd
	opRemove
	opAnew
	opCut
	opTake
	opCount // not one
)

// Step is one step, with what tells it from others of its kind.
type Step struct {
	Op      Op
	W       int // worker; -1 for none
	A, B, C int
}

// names gives each unit one name for the length of a story, though its place in a State is used again.
type names struct {
	unit [maxUnits]int
	next int
}

func newNames() *names { return &names{next: 1} }

func (n *names) units(mask int) string {
	var list []string
	for u := range maxUnits {
		if mask>>u&1 == 1 {
			list = append(list, n.name(u))
		}
	}
	return strings.Join(list, ", ")
}

func (n *names) name(u int) string { return fmt.Sprintf("u%d", n.unit[u]) }

// tell says in one line what a step did.
func (n *names) tell(before, after *State, t Step, partitions int) string {
	for u := range maxUnits {
		if before.Units[u].Parts == 0 && after.Units[u].Parts != 0 {
			n.unit[u] = n.next
			n.next++
		}
	}
	text := n.text(before, after, t, partitions)
	if t.W >= 0 {
		return fmt.Sprintf("worker %c %s", 'A'+t.W, text)
	}
	return text
}

func (n *names) text(before, after *State, t Step, partitions int) string {
	switch t.Op {
	case opAcquire:
		return fmt.Sprintf("claims p%d, as of version %d: next is %d", t.A, t.B-1, after.Workers[t.W].Pos[t.A])
	case opPin:
		if after.Units[after.Workers[t.W].Hand[0]-1].Parts == bit(t.A) {
			return fmt.Sprintf("prepares to pin the start of p%d", t.A)
		}
		return "prepares to pin all starts that are absent"
	case opUpgrade:
		return "runs a newer program, which judges messages differently"
	case opOther:
		return "runs with a configuration that names the tables by other values"
	case opFollow:
		return "looks at the log and reads its claims again"
	case opFlush:
		return n.flush(before, after, t, partitions)
	case opRefresh:
		return fmt.Sprintf("makes an empty unit to keep the txn of p%d", t.A)
	case opLook:
		if after.Bad == FalseBelief {
			return fmt.Sprintf("takes %s for landed", n.name(t.A))
		}
		if before.landed(t.A) && after.Units[t.A].Flags&deleted == 0 {
			return fmt.Sprintf("finds %s in the log", n.name(t.A))
		}
		return fmt.Sprintf("reads the log: %s does not fit; drops what it holds%s", n.name(t.A), n.removed(before, after))
	case opPublish:
		return fmt.Sprintf("leaves %s as a proposal", n.name(t.A))
	case opRestamp:
		return fmt.Sprintf("stamps its proposal %s with the newest version", n.name(t.A))
	case opPut:
		return n.put(after, t)
	case opReadBack:
		return n.readBack(before, after, t)
	case opLetGo:
		return "crashes, or gives up all it has" + n.removed(before, after)
	case opJump:
		return "has its clock jump ahead"
	case opForget:
		return fmt.Sprintf("writes a log checkpoint, and forgets the txn of p%d, which is past the retention by its clock", t.A)
	default:
		return n.otherText(before, after, t)
	}
}

func (n *names) flush(before, after *State, t Step, partitions int) string {
	var spans []string
	k := &before.Workers[t.W]
	for p := range partitions {
		if t.C>>p&1 == 1 {
			spans = append(spans, fmt.Sprintf("p%d [%d,%d)", p, k.Pos[p], after.Workers[t.W].Pos[p]))
		}
	}
	hand := after.Workers[t.W].Hand
	if k.Hand[0] != 0 {
		return fmt.Sprintf("fills %s on top of it: %s", n.name(int(hand[1]-1)), strings.Join(spans, " "))
	}
	return fmt.Sprintf("flushes %s: %s", n.name(int(hand[0]-1)), strings.Join(spans, " "))
}

func (n *names) put(after *State, t Step) string {
	p := after.Workers[t.W].Put
	text := fmt.Sprintf("puts version %d with %s", p.N, n.units(int(p.Units)))
	if t.C != 0 {
		text += fmt.Sprintf(" (carrying %s)", n.units(t.C))
	}
	if p.Meta {
		text += " and metaData"
	}
	if p.NoTxn != 0 {
		text += ", without the txn of a partition"
	}
	return text
}

func (n *names) readBack(before, after *State, t Step) string {
	v := before.Workers[t.W].Put.N
	switch after.Workers[t.W].Phase {
	case waiting:
		return fmt.Sprintf("reads version %d: not there, puts it again", v)
	case ready:
		return fmt.Sprintf("takes version %d for settled", v)
	}
	return fmt.Sprintf("reads version %d: can't tell; drops what it holds%s", v, n.removed(before, after))
}

func (n *names) removed(before, after *State) string {
	var mask int
	for u := range maxUnits {
		if !before.Units[u].is(deleted) && after.Units[u].is(deleted) {
			mask |= 1 << u
		}
	}
	if mask == 0 {
		return ""
	}
	return ", deletes the files of " + n.units(mask)
}

var arrivals = [...]string{"lands", "exists already", "lands below the log checkpoint, unseen"}

func (n *names) otherText(before, after *State, t Step) string {
	switch t.Op {
	case opArrive:
		return fmt.Sprintf("has its put arrive: version %d %s%s%s", before.Workers[t.W].Put.N, arrivals[t.A],
			[...]string{"", ", the answer is lost"}[t.B], [...]string{"", "; a copy is still under way"}[t.C])
	case opTimeout:
		return "waits no longer, the put is still under way"
	case opLate:
		return fmt.Sprintf("a late put of version %d (%s) %s", t.B, n.units(t.C), arrivals[t.A])
	case opOwed:
		return "writes the dead letters of " + n.name(t.A)
	case opReadDead:
		return "begins to look whether dead letters are pending"
	case opReadSlot:
		return [...]string{"finds that none are", "", "finds some pending"}[after.Workers[t.W].Apply.Stage]
	case opApply:
		return fmt.Sprintf("applies the dead letters of %s: the tables that follow have %d versions%s", n.name(t.A), after.Dead.Touches,
			[...]string{"", ", the answer is lost"}[t.B])
	case opStartReplay:
		return "reads dead letters to replay"
	case opReplay:
		return "commits them to the table" + [...]string{"", ", the answer is lost"}[t.B]
	case opMark:
		return "marks them as replayed"
	case opRewind:
		return fmt.Sprintf("an operator rewinds to %d, %d in version %d", t.A, t.B, before.Versions)
	case opLead:
		return fmt.Sprintf("an operator leads the stream to another topic, from its beginning, in version %d", before.Versions)
	case opForeignMeta:
		return fmt.Sprintf("another writer changes the schema in version %d", before.Versions)
	case opRestore:
		return fmt.Sprintf("somebody restores the table of version %d in version %d", t.A-1, before.Versions)
	case opClean:
		return fmt.Sprintf("the log is cleaned: versions below %d are gone", t.A)
	case opSweep:
		return fmt.Sprintf("the proposal of %s expires, and is deleted%s", n.name(t.A), n.removed(before, after))
	case opAge:
		return fmt.Sprintf("the files of %s grow old", n.name(t.A))
	case opVacuum:
		return fmt.Sprintf("an orphan cleaning deletes the files of %s", n.name(t.A))
	case opExpire:
		return fmt.Sprintf("a log checkpoint forgets the txn of p%d, which is past the retention", t.A)
	case opProduce:
		return "new messages arrive: the topic ends at 1 now"
	case opDeadVacuum:
		return fmt.Sprintf("a VACUUM deletes the dead-letter file of %s", n.name(t.A))
	case opRetain:
		return fmt.Sprintf("retention removes the first message of p%d that Kafka has", t.A)
	case opEnd:
		return fmt.Sprintf("an operator ends the stream in version %d", before.Versions)
	case opRemove:
		return fmt.Sprintf("somebody removes table %d", t.A)
	case opAnew:
		return "the catalog is lost, and an empty one is made in its place"
	case opCut:
		return fmt.Sprintf([...]string{
			"Kafka's log of p0 loses its messages from offset %d on", "an election cuts Kafka's log of p0 back to offset %d, and it grows again",
			"the topic is made anew, and has other messages from offset %d on",
		}[t.B], t.A)
	case opTake:
		return "a VACUUM that has found the file before takes it"
	default:
		return fmt.Sprintf("step %d", t.Op)
	}
}
