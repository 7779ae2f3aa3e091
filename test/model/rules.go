package model

// Rule is a rule of docs/exactly-once.md, or a part of one, that a mutant of the model lacks.
type Rule uint8

// The rules. What the mutant does instead is in mutants.
const (
	nothing Rule = iota
	c1
	c1Touch
	c1Meta
	c1Restore
	c1Own
	c1Once
	c2Missing
	c2Base
	c3
	c4
	c5Absent
	c5Next
	c6GiveUp
	c6Any
	c7
	c8
	c8Carry
	c8Deliver
	c9Order
	c9Drop
	c10
	p1
	p3Judge
	p3Meta
	p4Attempt
	p4Value
	p5
	a1Pin
	a1PinOnce
	a1Refuse
	a1Alone
	a1End
	a1Added
	a2Whole
	a2Others
	a3
	a4
	a4Carried
	a4Lasts
	a5All
	a6Start
	a6Spans
	a6Lost
	d1
	d2
	d2First
	d3Touch
	d3Order
	d3Parts
	d4
	d4Both
	d5
	d5Again
	d6
	t1
	t2
	t3
	t4
	t5
	t5Word
	t5Former
	t6
	t6Route
	t7
	e1
	e2
	k1
	k2
	k3
	k4
	k5
	k5Led
	k6
	ruleCount // not one
)

// Mutant is the model without one rule: what is done instead, what it is to break, and within which bounds that shows.
type Mutant struct {
	Rule    Rule
	ID      string // the rule's id in docs/exactly-once.md, with a letter where several mutants attack it
	Instead string
	Breaks  Violation
	Steps   int // length of the shortest story that shows it
	Bounds  Bounds
}

// Mutants are all of them, by the order of docs/exactly-once.md.
var Mutants = []Mutant{
	{c1, "C1", "the next version is tried without a look at the winner", Doubled, 8, fencing},
	{c1Touch, "C1a", "txns are compared by value, not by whether they were touched", Generation, 9, goingBack},
	{c1Meta, "C1b", "a winner with metaData is no reason to judge anew", Schema, 5, changing},
	{c1Restore, "C1c", "a RESTORE by a winner is no reason to stop", AfterRestore, 8, restoring},
	{c1Own, "C1d", "what is on top of a schema change of one's own is not judged", Schema, 7, changingAhead},
	{c1Once, "C1e", "what is read while a flush runs out of time is forgotten, and the worker takes its place in the log for known", AfterRestore, 11, restoring},
	{c2Missing, "C2", "a version that is gone from the log counts as one that touched nothing", Doubled, 13, forgetting},
	{c2Base, "C2a", "what stands in the place of a version is believed though the version before it is gone", Doubled, 17, ghosts},
	{c3, "C3", "two units that move one partition are put into one version", Doubled, 7, combining},
	{c4, "C4", "what was built for one version is put as the next", RowIDs, 10, sharing},
	{c5Absent, "C5", "a version that is absent after a lost answer counts as failed", Dangling, 6, fencing},
	{c5Next, "C5a", "after a lost answer the next version is tried", Doubled, 7, fencing},
	{c6GiveUp, "C6", "who gives up deletes the files", Dangling, 5, fencing},
	{c6Any, "C6a", "files are deleted whenever a unit is dropped, provable or not", Dangling, 9, cleaning},
	{c7, "C7", "a put that was taken is believed without a look whether the log was cleaned", FalseBelief, 12, cleaning},
	{c8, "C8", "units are committed however old their files are", Dangling, 6, ageing},
	{c8Carry, "C8a", "proposals are carried however old their files are", Dangling, 9, ageing},
	{c8Deliver, "C8b", "a dead-letter file is delivered however old it is", Dangling, 9, deadOld},
	{c9Order, "C9", "a unit is put before the one that it builds on", Lost, 5, pipelining},
	{c9Drop, "C9a", "a unit is kept though the one that it builds on was dropped", Doubled, 10, pipelining},
	{c10, "C10", "offsets are reported when they are flushed", FalseBelief, 2, fencing},
	{p1, "P1", "the proposer stamps its proposal anew, with the newest version", Doubled, 9, combining},
	{p3Judge, "P3", "proposals are carried unjudged", Doubled, 11, combining},
	{p3Meta, "P3a", "a commit with metaData carries proposals", Schema, 7, changing},
	{p4Attempt, "P4", "only own attempts are recognised, not the unit's id in another's commit", Dangling, 8, combining},
	{p4Value, "P4a", "a proposal counts as landed when the newest txns are its own values", FalseBelief, 8, combining},
	{p5, "P5", "whoever deletes a proposal that has expired deletes the unit's files as well", Dangling, 6, sweeping},
	{a1Pin, "A1", "`latest` is resolved at each assignment until the first commit", Lost, 5, pinning},
	{a1PinOnce, "A1a", "starts are pinned again over those of another worker", Lost, 7, pinning},
	{a1Refuse, "A1b", "a txn that is gone means: read from the beginning", Doubled, 9, refreshing},
	{a1Alone, "A1c", "whether another stream brings the topic is not asked again after a lost race", Doubled, 11, twins},
	{a1End, "A1d", "a stream is ended by its identity alone, its txns stay untouched", Ended, 5, ending},
	{a1Added, "A1e", "a partition that was added begins at the first offset that Kafka has by then", Lost, 4, adding},
	{a2Whole, "A2", "of a unit with a fenced partition the txn is left out, and the files land", TxnsRows, 8, sharing},
	{a2Others, "A2a", "the other partitions of a dropped unit go on where they were", Lost, 10, sharing},
	{a3, "A3", "an idle worker does not look at the log", Stuck, 5, rewinding},
	{a4, "A4", "idle txns are refreshed without a look at the log", TxnsRows, 8, refreshing},
	{a4Carried, "A4a", "of what others carry the offset alone is refreshed, and the leader epoch expires", Lost, 12, refreshingCut},
	{a4Lasts, "A4b", "what the table knows of a stream as a whole expires with the offsets, so that it looks new", Lost, 8, pinningAgain},
	{a5All, "A5", "a rewind writes the txns that it changes, not all", Generation, 9, rewinding},
	{a6Start, "A6", "a worker that starts does not look whether the table was restored", AfterRestore, 9, restoring},
	{a6Spans, "A6a", "a worker that starts looks for a RESTORE in the log alone, which may be cleaned", AfterRestore, 11, restoring},
	{a6Lost, "A6b", "a worker that opens the log anew, since versions are gone, does not look whether the table was restored", AfterRestore, 11, restoring},
	{d1, "D1", "the dead-letter file is written after the commit that names it", DeadLost, 5, deadBounds},
	{d2, "D2", "the main commit does not say that there are dead letters", DeadLost, 5, deadBounds},
	{d2First, "D2a", "dead letters are committed first, the rows after them", DeadTwice, 8, deadBounds},
	{d3Touch, "D3", "dead letters are applied without a condition on the dead-letter table", DeadTwice, 11, deadBounds},
	{d3Order, "D3a", "the slot is read before the dead-letter table", Stuck, 14, deadBounds},
	{d3Parts, "D3b", "a file with dead letters of two partitions is applied for those alone that are asked for", DeadTwice, 12, deadShared},
	{d4, "D4", "a unit with dead letters does not wait for those before it", DeadLost, 7, deadBounds},
	{d4Both, "D4a", "a unit with dead letters goes into one commit with the one that it builds on", DeadLost, 5, deadAhead},
	{d5, "D5", "a dead-letter file that is gone counts as applied", DeadLost, 11, deadBounds},
	{d5Again, "D5a", "what another worker has applied meanwhile counts as lost", Stuck, 11, deadBounds},
	{d6, "D6", "a replay goes by the marks in the dead-letter table, not by a txn", Doubled, 11, replaying},
	{t1, "T1", "the tables get their rows first, the catalog decides after them", DeadTwice, 8, dividing},
	{t2, "T2", "rows come to the tables without a condition on what they have", DeadTwice, 11, dividing},
	{t3, "T3", "the next unit waits for one of the tables alone", DeadLost, 10, dividing},
	{t4, "T4", "the manifest goes with the first table that has followed", DeadLost, 12, dividing},
	{t5, "T5", "rows that are gone before a table has them count as delivered", DeadLost, 11, dividedLost},
	{t5Word, "T5a", "a rewind to wherever counts as a word about rows that are gone", DeadLost, 13, dividedRewound},
	{t5Former, "T5b", "a table gets rows of a generation before what is pending of earlier ones", Generation, 15, dividedFormer},
	{t6, "T6", "a table that was removed is made again", DeadLost, 14, dividedRemoved},
	{t6Route, "T6a", "a worker goes on whose configuration names the tables by other values", Astray, 15, dividedOther},
	{t7, "T7", "a table takes the rows of whichever catalog", DeadTwice, 15, dividedAnew},
	{e1, "E1", "the schema that rows need comes in a commit after theirs", Schema, 4, changing},
	{e2, "E2", "who changes the schema does not look whether others have changed it", Schema, 5, changingTwice},
	{k1, "K1", "what retention has removed before it was read is passed over, and not counted", Lost, 5, adding},
	{k2, "K2", "the txn stays before control records until a message follows", Stuck, 6, marking},
	{k3, "K3", "nobody looks whether Kafka's log ends before the table's offset", Lost, 5, cuttingBack},
	{k4, "K4", "leader epochs are not compared: a log that has grown again is taken for the one before", Lost, 8, cuttingBack},
	{k5, "K5", "a topic that was made anew is taken for the one before", Lost, 8, cuttingBack},
	{k5Led, "K5a", "a worker reads its own topic on from the offsets of the one that a rewind has led the stream to", Lost, 6, leading},
	{k6, "K6", "a log checkpoint forgets what is old by the clock of who writes it", Stuck, 3, jumping},
}
