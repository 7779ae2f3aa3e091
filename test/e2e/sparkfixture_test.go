package e2e

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// appendable are tables of test/fixtures/make_spark.py, one for each rule that an append has to keep.
var appendable = []string{
	"append_only", "change_data_feed", "checkpoint_v2_json", "clustering", "deletion_vectors", "iceberg_compat_v2", "in_commit_timestamp",
	"mapping_id", "mapping_name", "partition_special", "partition_types", "row_tracking", "type_widening", "types",
}

// TestSparkReadsAppends lets Spark make a table with its data, appends a copy of one of its rows with `table append`, and lets
// Spark read the table: every row is there as before, the copied one once more.
func TestSparkReadsAppends(t *testing.T) {
	for _, name := range appendable {
		t.Run(name, func(t *testing.T) {
			s := spark(t)
			table := filepath.Join(t.TempDir(), name)
			s.must(t, "fixture", map[string]any{"name": name, "table": table})
			before := s.messages(t, table)
			copied := before[len(before)/2]
			appendRow(t, table, copied)
			want := append(slices.Clone(before), copied)
			slices.Sort(want)
			if after := s.messages(t, table); !slices.Equal(after, want) {
				t.Errorf("Spark reads\n%s\nwant\n%s", strings.Join(after, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// messages are the rows of a table as JSON, sorted.
func (s *sparkEngine) messages(t testing.TB, table string) []string {
	t.Helper()
	var rows []string
	if err := json.Unmarshal(s.must(t, "messages", map[string]any{"table": table}), &rows); err != nil {
		t.Fatal(err)
	}
	return rows
}

func appendRow(t testing.TB, table, row string) {
	t.Helper()
	cmd := exec.Command(binary, "table", "append", table, "--input", "-")
	cmd.Stdin = strings.NewReader(row + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("appending %s: %v\n%s", row, err, out)
	}
}
