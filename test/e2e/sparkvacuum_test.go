package e2e

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
)

// oddValues are partition values whose folders and paths can be spelled in more than one way.
var oddValues = []string{
	"plain", "München", "e\u0301", "日本語", "🎉", "\u200b", "\ufffd", "no\u00a0break", "a b", "a/b", "100%", "%41", "a=b:c", "a+b&c;d,e",
	"#?[]{}|^`\"'\\<>~*!", "tab\tline\n", "..", "ÿ\u0080", "\u2028",
}

// TestSparkVacuumKeepsOurFiles lets Spark delete what it takes for garbage at once. It compares paths as text: a file whose
// path in the log is spelled in another way than Spark would is garbage to it.
func TestSparkVacuumKeepsOurFiles(t *testing.T) {
	s := spark(t)
	for _, column := range []string{"p", "größe%"} {
		table := filepath.Join(t.TempDir(), "table")
		var lines bytes.Buffer
		for i, v := range oddValues {
			line, err := json.Marshal(map[string]any{"id": i, column: v})
			if err != nil {
				t.Fatal(err)
			}
			lines.Write(append(line, '\n'))
		}
		create := exec.Command(plainBinary(t), "table", "create", table, "--schema", "id INT, `"+column+"` STRING", "--partition-by", column)
		if out, err := create.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		appended := exec.Command(plainBinary(t), "table", "append", table, "--input", "-")
		appended.Stdin = &lines
		if out, err := appended.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		s.sql(t, table, "VACUUM {t} RETAIN 0 HOURS")
		rows := s.sql(t, table, "SELECT id, `"+column+"` AS p FROM {t} ORDER BY id")
		if len(rows) != len(oddValues) {
			t.Fatalf("after VACUUM Spark reads %d rows of %d", len(rows), len(oddValues))
		}
		for i, row := range rows {
			if row["p"] != oddValues[i] {
				t.Errorf("row %d: Spark reads %q, want %q", i, row["p"], oddValues[i])
			}
		}
	}
}
