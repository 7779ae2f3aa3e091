// Package e2e runs the built connector against a real Kafka and lets foreign engines read its tables.
//
// It owns the tests that see the whole program from outside: processes, signals, exit codes, listeners with TLS and
// SASL, kill -9. It promises that what the tests compare with the input was read by delta-rs or DuckDB, or by the few
// lines of delta_test.go, and never by this module's own reader of tables. A test that needs Docker or Python skips
// with the reason where there is none, and fails instead under CI=true.
//
// KAFKA_IMAGE names another image than apache/kafka; testcontainers' own variables (TESTCONTAINERS_...) say how Docker is
// reached. The tests kill 10 connectors; results/kill.txt was written by more of them:
//
//	go test ./test/e2e -run TestKill -v -kills 60 -results results/kill.txt
//
// TestChaos makes 8 rounds on each store, and results/chaos.txt was written by more; TestCombiningHappens has 32 processes, and
// results/combining.txt more sizes side by side.
package e2e
