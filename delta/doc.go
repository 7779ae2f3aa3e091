// Package delta implements the Delta Lake protocol as far as a streaming appender needs it: reading a table's log
// (JSON commits and log checkpoints of every kind), following it version by version, creating and evolving tables,
// putting append commits whose three outcomes (committed, lost, unknown) are told apart, and keeping the log in order with log
// checkpoints, version checksums and cleanup. It speaks the protocol's nouns, one file each; section names in doc comments are
// those of PROTOCOL.md.
//
// Where to find what:
//
//   - names and listings of the log: log.go; one JSON: actions.go, actionjson.go, jsonscan.go
//   - log checkpoints, read: logcheckpoint.go, leaf.go, ranged.go, lastcheckpoint.go; written: checkpointwrite.go (classic, when due: checkpointdue.go),
//     checkpointv2.go (sidecars), checkpointcarry.go (what is taken over from the one before)
//   - state and following: table.go; one version with its files: snapshot.go, deletionvector.go; past versions: history.go
//   - commits: transaction.go, conflict.go; what features ask of them: features.go, rowtracking.go, clustering.go, icebergcompat.go
//   - what rows must be: rules.go, rowcheck.go, expr/; what data files must be: filelayout.go, filestats.go, partition.go
//   - new and changed tables: create.go, createprotocol.go, property.go, evolve.go, columnmapping.go, schema.go, ddl.go
//   - upkeep: checksum.go, cleanlog.go
//
// It owns everything below _delta_log/, the mapping between Delta schemas and Arrow schemas, the DDL that describes
// them, the naming of partition folders, and which table features an append honours.
//
// It promises: a version is only ever written with put-if-absent and never overwritten; a table that asks for
// something an append cannot honour is refused by the feature's name before anything is written; 64-bit integers are
// never rounded; an answer that was lost is reported as Unknown, never as failure; what is written or cleaned beside the versions
// leaves every kept version readable after each step.
//
// It never reads, writes or deletes data files (deletion vectors it reads when asked), deletes nothing but what CleanLog says, never retries and never waits, never
// asks the wall clock (the clock is injected), starts no goroutine, and imports no other package of this module but delta/expr.
package delta
