package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestSparkTakesOurLogCheckpoints lets `table append` write the log checkpoint of version 4, removes the commits
// before it, and lets Spark read what is left.
func TestSparkTakesOurLogCheckpoints(t *testing.T) {
	for _, policy := range []string{"classic", "v2"} {
		t.Run(policy, func(t *testing.T) {
			s := spark(t)
			table, left := filepath.Join(t.TempDir(), "made"), filepath.Join(t.TempDir(), "left")
			s.sql(t, table, `CREATE TABLE {t} (a BIGINT, d DATE, price DECIMAL(20, 3), at TIMESTAMP) USING delta PARTITIONED BY (d) TBLPROPERTIES (
				'delta.checkpointInterval' = '4', 'delta.checkpoint.writeStatsAsStruct' = 'true', 'delta.checkpointPolicy' = '`+policy+`')`)
			for i := range 5 {
				appendRow(t, table, fmt.Sprintf(`{"a":%d,"d":"2024-01-0%d","price":12345678901234567.125,"at":"2024-05-06T07:08:09.123456Z"}`, i, i+1))
			}
			fatal(t, os.CopyFS(left, os.DirFS(table))) // Spark remembers what it has read elsewhere
			log := filepath.Join(left, "_delta_log")
			checkpoints, err := filepath.Glob(filepath.Join(log, "00000000000000000004.checkpoint*.parquet"))
			fatal(t, err)
			if len(checkpoints) != 1 {
				t.Fatalf("log checkpoints of version 4: %v", checkpoints)
			}
			for v := range 4 {
				fatal(t, os.Remove(filepath.Join(log, fmt.Sprintf("%020d.json", v))))
			}
			var want []string
			for i := range 5 {
				want = append(want, fmt.Sprintf(`"a":%d,"d":"2024-01-0%d"`, i, i+1))
			}
			rows := s.messages(t, left)
			if !slices.EqualFunc(rows, want, strings.Contains) {
				t.Errorf("Spark reads\n%s", strings.Join(rows, "\n"))
			}
			if n := s.sql(t, left, "SELECT count(*) AS n FROM {t} WHERE a >= 3 AND d < date'2024-01-05'"); fmt.Sprint(n) != "[map[n:1]]" {
				t.Errorf("Spark counts %v, want 1", n)
			}
		})
	}
}
