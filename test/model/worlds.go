package model

// World is bounds with a name. Size says when it is explored: with -race, in CI, by night.
type World struct {
	Name   string
	Shows  string
	Size   Size
	Bounds Bounds
}

// Size of a world, by the states in it.
type Size int

// Small worlds have up to some ten thousand states, usual ones up to a million, large ones tens of millions.
const (
	Small Size = iota
	Usual
	Large
)

// Small worlds, in which the mutants show.
var (
	fencing        = Bounds{Workers: 2, Partitions: 1, Messages: 2, Versions: 3, Live: true, Budget: Budget{Acquire: 3, Lost: 1}}
	goingBack      = Bounds{Workers: 2, Partitions: 1, Messages: 2, Versions: 4, Live: true, Budget: Budget{Acquire: 3, Rewind: 1}}
	rewinding      = Bounds{Workers: 2, Partitions: 2, Messages: 1, Versions: 4, Live: true, Budget: Budget{Acquire: 3, Rewind: 1}}
	refreshing     = Bounds{Workers: 2, Partitions: 1, Messages: 2, Versions: 3, Live: true, Budget: Budget{Acquire: 3, Refresh: 1, Expire: 1}}
	refreshingCut  = Bounds{Workers: 2, Partitions: 2, Messages: 2, Versions: 2, Combining: true, Live: true, Budget: Budget{Acquire: 3, Refresh: 1, Cut: 1}}
	changing       = Bounds{Workers: 2, Partitions: 2, Messages: 1, Versions: 4, Combining: true, Live: true, Budget: Budget{Acquire: 2, Meta: 1}}
	changingAhead  = Bounds{Workers: 2, Partitions: 1, Messages: 2, Versions: 4, Pipelining: true, Live: true, Budget: Budget{Acquire: 2, Lost: 1, Meta: 1}}
	changingTwice  = Bounds{Workers: 2, Partitions: 2, Messages: 1, Versions: 4, Live: true, Budget: Budget{Acquire: 3, Meta: 2}}
	restoring      = Bounds{Workers: 2, Partitions: 1, Messages: 2, Versions: 4, Live: true, Budget: Budget{Acquire: 2, Restore: 1, Rewind: 1, Clean: 1, Meta: 1}}
	restoringPast  = Bounds{Workers: 2, Partitions: 1, Messages: 2, Versions: 6, Live: true, Budget: Budget{Acquire: 3, Restore: 1, Rewind: 2}}
	forgetting     = Bounds{Workers: 2, Partitions: 2, Messages: 1, Versions: 4, Live: true, Budget: Budget{Acquire: 3, Clean: 1}}
	cleaning       = Bounds{Workers: 2, Partitions: 1, Messages: 2, Versions: 4, Live: true, Budget: Budget{Acquire: 3, Clean: 1, Lost: 1, Twice: 1}}
	ghosts         = Bounds{Workers: 3, Partitions: 2, Messages: 1, Versions: 4, Live: true, Budget: Budget{Acquire: 4, Clean: 1}}
	combining      = Bounds{Workers: 3, Partitions: 2, Messages: 1, Versions: 3, Combining: true, Live: true, Budget: Budget{Acquire: 3, Lost: 1}}
	sweeping       = Bounds{Workers: 2, Partitions: 2, Messages: 1, Versions: 3, Combining: true, Live: true, Budget: Budget{Acquire: 3, Sweep: 1}}
	ageing         = Bounds{Workers: 2, Partitions: 2, Messages: 1, Versions: 3, Combining: true, Live: true, Budget: Budget{Acquire: 3, Age: 1, Vacuum: 1}}
	pipelining     = Bounds{Workers: 2, Partitions: 1, Messages: 2, Versions: 3, Pipelining: true, Combining: true, Live: true, Budget: Budget{Acquire: 2, Lost: 1}}
	pinning        = Bounds{Workers: 2, Partitions: 1, Messages: 2, Versions: 4, Pin: true, Live: true, Budget: Budget{Acquire: 4}}
	pinningAgain   = Bounds{Workers: 2, Partitions: 1, Messages: 2, Versions: 4, Pin: true, Live: true, Budget: Budget{Acquire: 4, Expire: 1}}
	adding         = Bounds{Workers: 2, Partitions: 2, Messages: 2, Versions: 4, Added: true, Live: true, Budget: Budget{Acquire: 3, Retain: 1}}
	cuttingBack    = Bounds{Workers: 2, Partitions: 1, Messages: 3, Versions: 4, Live: true, Budget: Budget{Acquire: 3, Cut: 1}}
	leading        = Bounds{Workers: 2, Partitions: 1, Messages: 2, Versions: 4, Live: true, Budget: Budget{Acquire: 3, Lead: 1}}
	marking        = Bounds{Workers: 2, Partitions: 1, Messages: 2, Versions: 3, Markers: true, Live: true, Budget: Budget{Acquire: 3, Retain: 2}}
	jumping        = Bounds{Workers: 2, Partitions: 2, Messages: 1, Versions: 3, Live: true, Budget: Budget{Acquire: 3, Jump: 1}}
	twins          = Bounds{Workers: 2, Partitions: 2, Messages: 1, Versions: 3, Pin: true, Twins: true, Live: true, Budget: Budget{Acquire: 4}}
	ending         = Bounds{Workers: 2, Partitions: 2, Messages: 1, Versions: 4, Combining: true, Live: true, Budget: Budget{Acquire: 3, End: 1, Rewind: 1}}
	sharing        = Bounds{Workers: 2, Partitions: 2, Messages: 2, Versions: 4, Live: true, Budget: Budget{Acquire: 3}}
	deadBounds     = Bounds{Workers: 2, Partitions: 1, Messages: 2, Versions: 4, DeadMask: 0b11, Live: true, Budget: Budget{Acquire: 3, Lost: 1, Vacuum: 1, Newer: 1}}
	deadOld        = Bounds{Workers: 2, Partitions: 1, Messages: 1, Versions: 3, DeadMask: 0b1, Live: true, Budget: Budget{Acquire: 3, Age: 1, Vacuum: 1}}
	deadShared     = Bounds{Workers: 2, Partitions: 2, Messages: 1, Versions: 3, DeadMask: 0b1_0001, Live: true, Budget: Budget{Acquire: 3, Lost: 1}}
	deadAhead      = Bounds{Workers: 2, Partitions: 1, Messages: 2, Versions: 3, Pipelining: true, DeadMask: 0b11, Live: true, Budget: Budget{Acquire: 2, Lost: 1}}
	dividing       = Bounds{Workers: 2, Partitions: 1, Messages: 3, Versions: 3, DeadMask: 0b111, Tables: 2, Live: true, Budget: Budget{Acquire: 3, Lost: 1, Newer: 1}}
	dividedLost    = Bounds{Workers: 2, Partitions: 1, Messages: 2, Versions: 3, DeadMask: 0b11, Tables: 2, Live: true, Budget: Budget{Acquire: 2, Lost: 1, Vacuum: 1}}
	dividedRewound = Bounds{Workers: 2, Partitions: 1, Messages: 2, Versions: 3, DeadMask: 0b11, Tables: 1, Live: true, Budget: Budget{Acquire: 2, Vacuum: 1, Rewind: 1}}
	dividedFormer  = Bounds{Workers: 2, Partitions: 2, Messages: 1, Versions: 3, DeadMask: 0b1_0001, Tables: 1, Live: true, Budget: Budget{Acquire: 3, Rewind: 1}}
	dividedRemoved = Bounds{Workers: 2, Partitions: 1, Messages: 3, Versions: 3, DeadMask: 0b111, Tables: 2, Live: true, Budget: Budget{Acquire: 2, Remove: 1}}
	dividedAnew    = Bounds{Workers: 2, Partitions: 1, Messages: 2, Versions: 4, DeadMask: 0b11, Tables: 2, Live: true, Budget: Budget{Acquire: 3, Anew: 1}}
	dividedOther   = Bounds{Workers: 2, Partitions: 1, Messages: 3, Versions: 3, DeadMask: 0b111, Tables: 2, Live: true, Budget: Budget{Acquire: 2, Other: 1}}
	replaying      = Bounds{Workers: 2, Partitions: 1, Messages: 1, Versions: 3, DeadMask: 0b1, Live: true, Budget: Budget{Acquire: 2, Lost: 1, Replay: 2}}
)

// Worlds are all of them.
var Worlds = []World{
	{"fencing", "two believe that they own a partition; an answer is lost", Small, fencing},
	{"going back", "a rewind of the one partition", Small, goingBack},
	{"rewinding", "a rewind of one of two partitions", Small, rewinding},
	{"refreshing", "an idle txn is refreshed, or forgotten by a log checkpoint", Small, refreshing},
	{"changing", "the schema changes, from outside or by a worker", Small, changing},
	{"changing ahead", "a worker changes the schema, with a unit on top", Small, changingAhead},
	{"changing twice", "two workers change the schema, or one and others", Small, changingTwice},
	{"restoring", "a RESTORE, its repair by a rewind, a schema change, a cleaned log", Small, restoring},
	{"restoring past a rewind", "a RESTORE to before a rewind, and its repair by another one", Small, restoringPast},
	{"forgetting", "a cleaned log", Small, forgetting},
	{"cleaning", "a cleaned log and a lost answer", Small, cleaning},
	{"ghosts", "a late put into a cleaned log, seen by a third", Small, ghosts},
	{"combining", "proposals, crash and a lost answer", Small, combining},
	{"refreshing together", "proposals, also of refreshes", Small, Bounds{Workers: 2, Partitions: 2, Messages: 1, Versions: 4, Combining: true, Live: true,
		Budget: Budget{Acquire: 3, Refresh: 1}}},
	{"refreshing a log that is cut", "refreshes that others carry, of a partition whose log is cut back", Usual, refreshingCut},
	{"sweeping", "proposals that expire while they are carried, and are left again", Small, sweeping},
	{"ageing", "proposals, files that grow old, an orphan cleaning", Small, ageing},
	{"pipelining", "a unit on top of one that has not landed", Small, pipelining},
	{"pinning", "the first start under `latest`", Small, pinning},
	{"pinning again", "a stream whose offsets are forgotten before it has any rows", Small, pinningAgain},
	{"adding", "a partition that was added, of which retention removes messages before they are read", Small, adding},
	{"cutting back", "Kafka's log is cut back, or its topic made anew, under a table that was taken over", Small, cuttingBack},
	{"leading away", "a rewind leads the stream to another topic, beside its workers", Small, leading},
	{"marking", "retention removes messages and the control record behind them", Small, marking},
	{"jumping", "a worker's clock is ahead", Small, jumping},
	{"twins", "two streams of one topic, which both begin", Small, twins},
	{"ending", "the stream is ended, and a rewind has it go on", Small, ending},
	{"sharing", "units of two partitions", Small, sharing},
	{"dead letters", "verdicts that differ between workers, a dead-letter file that is gone", Small, deadBounds},
	{"old dead letters", "a dead-letter file that grows old, and a VACUUM", Small, deadOld},
	{"shared dead letters", "a dead-letter file of two partitions", Small, deadShared},
	{"dead letters ahead", "dead letters and pipelining", Small, deadAhead},
	{"many tables", "a catalog and two tables that follow it, verdicts that differ between workers", Usual, dividing},
	{"many tables, lost rows", "rows that are gone before their table has them", Small, dividedLost},
	{"many tables, a rewind", "rows that are gone, and an operator who rewinds", Small, dividedRewound},
	{"many tables, generations", "rows that are pending while an operator rewinds", Small, dividedFormer},
	{"many tables, a removed one", "somebody removes a table", Small, dividedRemoved},
	{"many tables, another catalog", "the catalog is lost, and another one made in its place", Small, dividedAnew},
	{"many tables, other values", "a worker whose configuration names the tables by other values", Small, dividedOther},
	{"replaying", "a replay of dead letters", Small, replaying},

	{"three workers", "crash, a lost answer, late puts and combining together", Usual, Bounds{
		Workers: 3, Partitions: 2, Messages: 1, Versions: 3, Combining: true, Live: true, Budget: Budget{Acquire: 4, Lost: 1},
	}},
	{"three workers, more messages", "the same with successive units", Usual, Bounds{
		Workers: 3, Partitions: 2, Messages: 2, Versions: 4, Combining: true, Live: true, Budget: Budget{Acquire: 3, Lost: 1},
	}},
	{"three workers, late puts", "late puts, unseen or twice, a cleaned log, crash, a lost answer and combining together", Usual, Bounds{
		Workers: 3, Partitions: 2, Messages: 1, Versions: 3, Combining: true, Live: true,
		Budget: Budget{Acquire: 3, Lost: 1, Twice: 1, Clean: 1},
	}},
	{"ahead", "pipelining, combining and a lost answer", Usual, Bounds{
		Workers: 2, Partitions: 2, Messages: 2, Versions: 4, Combining: true, Pipelining: true, Live: true, Budget: Budget{Acquire: 3, Lost: 1},
	}},
	{"interference", "all that others do to the log, with combining and a lost answer", Usual, Bounds{
		Workers: 2, Partitions: 2, Messages: 1, Versions: 4, Combining: true, Live: true,
		Budget: Budget{Acquire: 2, Lost: 1, Clean: 1, Meta: 1, Restore: 1, Rewind: 1},
	}},
	{"carried dead letters", "dead letters, verdicts that differ, and combining", Usual, Bounds{
		Workers: 2, Partitions: 2, Messages: 2, Versions: 4, Combining: true, DeadMask: 0b11, Live: true,
		Budget: Budget{Acquire: 2, Lost: 1, Newer: 1},
	}},

	{"three workers, five claims", "as three workers, with one more crash or zombie", Large, Bounds{
		Workers: 3, Partitions: 2, Messages: 1, Versions: 3, Combining: true, Live: true, Budget: Budget{Acquire: 5, Lost: 1},
	}},
	{"three workers, late puts, four claims", "as three workers, late puts, with one more crash or zombie", Large, Bounds{
		Workers: 3, Partitions: 2, Messages: 1, Versions: 3, Combining: true, Live: true,
		Budget: Budget{Acquire: 4, Lost: 1, Twice: 1, Clean: 1},
	}},
	{"carried dead letters, three claims", "as carried dead letters, with one more crash or zombie", Large, Bounds{
		Workers: 2, Partitions: 2, Messages: 2, Versions: 4, Combining: true, DeadMask: 0b11, Live: true, Budget: Budget{Acquire: 3, Lost: 1},
	}},
	{"time", "a rewind, idle txns, files that grow old, combining and a lost answer", Large, Bounds{
		Workers: 2, Partitions: 2, Messages: 1, Versions: 4, Combining: true, Live: true,
		Budget: Budget{Acquire: 3, Lost: 1, Rewind: 1, Refresh: 1, Expire: 1, Age: 1, Vacuum: 1},
	}},
	{"three workers ahead", "pipelining, combining, a lost answer and a schema change", Large, Bounds{
		Workers: 3, Partitions: 2, Messages: 2, Versions: 4, Combining: true, Pipelining: true, Live: true,
		Budget: Budget{Acquire: 3, Lost: 1, Meta: 1},
	}},
	{"three workers, four claims, more messages", "as three workers, more messages, with one more crash or zombie", Large, Bounds{
		Workers: 3, Partitions: 2, Messages: 2, Versions: 4, Combining: true, Live: true, Budget: Budget{Acquire: 4, Lost: 1},
	}},
}
