// Package avro decodes Avro messages straight into Arrow buffers.
//
// It owns the parsing of schemas, the resolution of a writer's schema against the table (and against a reader's schema, for
// aliases and defaults), the framings by which a message names its schema, and the decoder, which is compiled once for each
// writer's schema and walks a message's bytes once.
//
// It promises what decode promises; that no bytes, however broken, make it panic, loop or allocate more than in
// proportion to the message; and that a value gets into a column as the Avro specification resolves it, or the message
// is poison with the field's path.
//
// It speaks to no schema registry: the schema of an id comes from a function that it is handed.
//
// Source: Apache Avro specification 1.12.0, "Schema Resolution", "Binary encoding" and "Single-object encoding".
package avro
