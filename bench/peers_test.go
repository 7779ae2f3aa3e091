package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestWarmFigureEndsWithItsRun: messages/s from the first commit to the last leaves out a last commit that the run's wall time leaves out, as
// kafka-delta-ingest's, which waits for a timer.
func TestWarmFigureEndsWithItsRun(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("there is no python3")
	}
	table := t.TempDir()
	begun := time.Unix(1_700_000_000, 0)
	for version, c := range []struct{ rows, at int }{{0, 0}, {10, 1}, {20, 2}, {30, 4}, {5, 14}} {
		text := `{"commitInfo":{}}`
		if c.rows > 0 {
			stats, err := json.Marshal(fmt.Sprintf(`{"numRecords":%d}`, c.rows))
			if err != nil {
				t.Fatal(err)
			}
			text += fmt.Sprintf("\n{\"add\":{\"stats\":%s}}", stats)
		}
		path := logEntry(table, int64(version))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		at := begun.Add(time.Duration(c.at) * time.Second)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	// Of all 65 rows in 13 s behind the first commit; of the 60 that a run counts which ended with the commit before the last, in 3 s.
	for messages, want := range map[string]string{"65": "4.2", "60": "16.7", "30": "None"} {
		script := "import pathlib, sys, run; w = run.warm(pathlib.Path(sys.argv[1]), int(sys.argv[2])); print(w and round(w, 1))"
		cmd := exec.CommandContext(t.Context(), python, "-B", "-c", script, table, messages)
		cmd.Dir = "peers"
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("with %s messages it is %s, want %s (%v)", messages, got, want, err)
		}
	}
}
