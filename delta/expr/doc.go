// Package expr parses and evaluates the Spark SQL expressions that Delta tables carry as rules: CHECK constraints,
// invariants, generation expressions and column defaults (PROTOCOL.md, "CHECK Constraints", "Column Invariants",
// "Generated Columns", "Default Columns"). docs/expressions.md lists the subset.
//
// It owns the grammar, the types and coercions, and the evaluation over Arrow batches.
//
// It promises: what it evaluates gives the value, the NULL or the error that Spark 4 gives with its defaults (ANSI mode)
// and the session time zone UTC, which a committed comparison with Spark shows; what it does not understand is refused
// when it is compiled, with the text and the position; no text makes it panic, recurse or work without bounds.
//
// It never reads a clock (current_date() takes the time that it is handed) and keeps nothing of a batch.
package expr
