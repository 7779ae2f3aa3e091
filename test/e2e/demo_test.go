package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDemoKilled kills demos with kill -9, while they produce into their embedded Kafka and while they write the table.
// The next demo goes on; the last one ends with each line of the input in the table once, and another adds nothing.
func TestDemoKilled(t *testing.T) {
	t.Parallel()
	const partitions = 4
	lines := flights.lines(t)[:20_000]
	folder := t.TempDir()
	input := filepath.Join(folder, "input.jsonl")
	if err := os.WriteFile(input, append(bytes.Join(lines, []byte("\n")), '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	demo := func(table string) *process {
		t.Helper()
		return start(t, "demo", "--table", table, "--input", input, "--log-level", "debug", "--log-format", "json")
	}
	begun := time.Now()
	demo(filepath.Join(folder, "unhurt")).wantExit(exitOK, 2*time.Minute)
	long := time.Since(begun)

	early, late := 0, 0
	for round := range 4 {
		table := filepath.Join(folder, fmt.Sprint("table", round))
		for range 3 {
			p := demo(table)
			select {
			case <-p.done: // it was faster
			case <-time.After(long/10 + rand.N(long*8/10)):
				p.kill()
			}
			switch code := p.code(); {
			case code == killedCode && strings.Contains(p.stderr(), "partitions assigned"):
				late++
			case code == killedCode:
				early++
			case code != exitOK:
				t.Fatalf("exit code %d: %s", code, p.tail(20))
			}
		}
		demo(table).wantExit(exitOK, 2*time.Minute)
		log := readLog(t, table, "flights")
		demo(table).wantExit(exitOK, 2*time.Minute)
		if v := readLog(t, table, "flights").version; v != log.version {
			t.Errorf("a demo without new messages went from version %d to %d", log.version, v)
		}
		sent := dealt(lines, partitions)
		log.wantNext(t, sent.next())
		if log.rows != int64(len(lines)) {
			t.Errorf("the log tells %d rows of %d lines", log.rows, len(lines))
		}
		if round == 0 || t.Failed() {
			expect(t, "flights", sent, flights.row).check(t, table)
		}
	}
	t.Logf("a whole demo took %v; %d were killed before they read, %d while they read and wrote", long.Round(time.Millisecond), early, late)
}
