// Package admin is what an operator asks of a table that a stream fills: is each message there exactly once (Verify),
// where is this one (Explain), and go on from other offsets (PlanRewind), or from where another program has stopped (PlanAdoption).
//
// It owns the meaning of what a table keeps about its offsets, read back: spans in commits and in tags of files, txns, and
// the column with Kafka's partition and offset in the rows. It promises that "ok" is never said of what was not checked: what
// can't be proved from what is left of a table is told as such. Verify and Explain write nothing;
// a plan writes one commit that has txns and no rows, when it is told to. Its memory does not depend on the number
// of rows but for one bit for each offset, and grows with the number of spans and files.
//
// It imports delta and checkpoint, not the sink that wrote the table, so that a mistake there is not made here again; what it
// needs of Kafka it declares (Kafka), and the command hands it in.
package admin
