// Package decode turns the table's schema and the configuration into a plan that the decoders of all formats share,
// and holds the rows that they build.
//
// It owns the plan (which source field fills which column, casts, computed columns, the metadata column), the raw
// Arrow buffers of the batch being built, and the typed errors with which a message ends that becomes no row.
//
// It promises that a batch has exactly the table's schema; that a row is whole or leaves no trace; that a batch's
// buffers are used again only after it was released; that nothing allocates per message once buffers have grown; and
// that no offset of a batch overflows.
//
// It never looks at a message's bytes (json/, avro/, protobuf/ do), but for what a registry's serializers put before
// them. It never rejects a row for NOT NULL or CHECK (delta compiles those into a check on the batch), and never speaks to
// Kafka or to a table.
package decode
