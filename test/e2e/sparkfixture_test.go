package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// appendable are tables of test/fixtures/make_spark.py, one for each rule that an append has to keep.
var appendable = []string{
	"append_only", "change_data_feed", "check_constraints", "checkpoint_protection", "checkpoint_v2_json", "clustering", "column_defaults", "deletion_vectors",
	"domain_metadata", "generated_columns", "iceberg_compat_v1", "iceberg_compat_v2", "in_commit_timestamp", "invariants", "mapping_id", "mapping_name",
	"partition_special", "partition_types", "row_tracking", "row_tracking_later", "type_widening", "types", "vacuum_protocol_check",
}

// noSparkTable are features that an append honours and that this Spark makes no table with, or that say no more of an append than
// variantType, which TestSparkReadsVariants shows.
var noSparkTable = []string{
	"materializePartitionColumns", "typeWidening-preview", "variantType", "variantType-preview", "variantShredding", "variantShredding-preview",
}

// TestSparkMakesATableOfEachFeature: none that docs/delta.md says is appended to is missing in TestSparkReadsAppends.
func TestSparkMakesATableOfEachFeature(t *testing.T) {
	shown := slices.Clone(noSparkTable)
	for _, name := range appendable {
		text, err := os.ReadFile(filepath.Join("..", "fixtures", "spark", name, "expected.json"))
		fatal(t, err)
		var of struct {
			Protocol struct {
				Writer   int      `json:"minWriterVersion"`
				Features []string `json:"writerFeatures"`
			} `json:"protocol"`
		}
		decode(t, text, &of)
		shown = append(shown, of.Protocol.Features...)
		if of.Protocol.Writer == 3 { // which implies it
			shown = append(shown, "checkConstraints")
		}
	}
	features := documented(t, `\|[^|]*\| yes \|`)
	for _, name := range features {
		if !slices.Contains(shown, name) {
			t.Errorf("docs/delta.md says that tables with %s are appended to, but no table of Spark that is appended to has it", name)
		}
	}
	if len(features) < 20 {
		t.Errorf("docs/delta.md names only %v", features)
	}
}

// TestSparkReadsAppends lets Spark make a table with its data, appends a copy of one of its rows with `table append`, and lets
// Spark read the table: every row is there as before, the copied one once more.
func TestSparkReadsAppends(t *testing.T) {
	folder, s, plain := t.TempDir(), spark(t), map[string][]string{}
	for _, name := range appendable {
		t.Run(name, func(t *testing.T) {
			table := filepath.Join(folder, name)
			s.must(t, "fixture", map[string]any{"name": name, "table": table})
			before := s.messages(t, table)
			copied := before[len(before)/2]
			appendRow(t, table, copied)
			want := append(slices.Clone(before), copied)
			slices.Sort(want)
			if after := s.messages(t, table); !slices.Equal(after, want) {
				t.Errorf("Spark reads\n%s\nwant\n%s", strings.Join(after, "\n"), strings.Join(want, "\n"))
			}
			plain[name] = s.plain(t, table)
		})
	}
	sameRows(t, folder, plain, otherwise{
		"delta-rs": {
			"type_widening": {refused: noTypeWidening}, "types": otherColumns("char_", "timestamp_"),
			"vacuum_protocol_check": {refused: noVacuumProtocolCheck},
		},
		"duckdb": {"iceberg_compat_v1": otherColumns("p"), "iceberg_compat_v2": otherColumns("p"), "mapping_id": otherColumns("p"), "mapping_name": otherColumns("part"), "types": otherColumns("char_")},
	})
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

// TestSparkReadsComputedColumns: what a message leaves out is computed as Spark's own INSERT computes it.
func TestSparkReadsComputedColumns(t *testing.T) {
	for name, c := range map[string]struct{ message, want string }{
		"generated_columns": {`{"id":9,"at":"2024-05-06T23:59:59.5Z"}`, `{"day":"2024-05-06","id":9,"twice":18,"y":2024}`},
		"column_defaults":   {`{"id":9}`, `{"id":9,"n":3,"s":"none"}`},
	} {
		t.Run(name, func(t *testing.T) {
			s := spark(t)
			table := filepath.Join(t.TempDir(), name)
			s.must(t, "fixture", map[string]any{"name": name, "table": table})
			appendRow(t, table, c.message)
			for _, row := range s.messages(t, table) {
				var got map[string]any
				if err := json.Unmarshal([]byte(row), &got); err != nil {
					t.Fatal(err)
				}
				delete(got, "at")
				if text, err := json.Marshal(got); err == nil && string(text) == c.want {
					return
				}
			}
			t.Errorf("no row is %s:\n%s", c.want, strings.Join(s.messages(t, table), "\n"))
		})
	}
}
