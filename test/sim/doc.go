// Package sim lets whole connectors live in simulated worlds, by seeds, and looks whether each message is in the table once.
//
// A world is the real pipeline, source, decoder, sink and delta in several workers of one consumer group, an in-process Kafka on
// a network in memory, and a store in memory that all of them share, in the virtual time of testing/synctest. The seed decides
// what befalls them: docs/exactly-once.md tells what that is, and what it leaves out. It is all in test files.
package sim
