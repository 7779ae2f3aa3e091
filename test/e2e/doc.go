// Package e2e runs the built connector against a real Kafka and lets foreign engines read its tables.
//
// It owns the tests that see the whole program from outside: processes, signals, exit codes, listeners with TLS and
// SASL, kill -9. It promises that what the tests compare with the input was read by delta-rs or DuckDB, or by the few
// lines of delta_test.go, and never by this module's own reader of tables. A test that needs Docker or Python skips
// with the reason where there is none, and fails instead under CI=true.
package e2e
