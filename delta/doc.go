// Package delta implements the Delta Lake protocol as far as a streaming appender needs it: reading a table's log
// (JSON commits, log checkpoints of every kind, log compactions), following it version by version, creating tables, and putting append
// commits whose three outcomes (committed, lost, unknown) are told apart. It speaks the protocol's nouns, one file each;
// section names in doc comments are those of PROTOCOL.md.
//
// It owns everything below _delta_log/, the mapping between Delta schemas and Arrow schemas, the DDL that describes
// them, the naming of partition folders, and which table features an append honours.
//
// It promises: a log entry is only ever written with put-if-absent and never overwritten; a table that asks for
// something an append cannot honour is refused by the feature's name before anything is written; 64-bit integers are
// never rounded; an answer that was lost is reported as Unknown, never as failure.
//
// It never reads or writes data files, never deletes anything, never retries and never waits, never asks the wall clock
// (the clock is injected), starts no goroutine, and imports no other package of this module but delta/expr.
package delta
