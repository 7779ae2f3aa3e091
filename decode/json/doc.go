// Package json decodes JSON messages straight into the Arrow buffers of a batch, by a tree that is compiled once from
// a decode.Plan.
//
// It owns the scanner: one strict pass over a message's bytes (RFC 8259, UTF-8), which expects the fields in the order
// in which the last message had them, and writes each value to its column as it meets it.
//
// It promises that a message becomes exactly one row, or a *decode.PoisonError and no trace; that every message it
// takes is valid JSON, unknown fields included; that memory and stack are bounded by the message and the table's
// schema, whatever the bytes are; and that a message allocates nothing once buffers have grown. What each column type
// takes is written down in docs/json.md, rule by rule.
//
// It never builds a tree of the message, never guesses a type from the data, and never changes a value silently
// where it could refuse it; docs/json.md lists the few roundings.
package json
