package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSparkReadsVariants: into a table with a VARIANT column, of Spark's making or ours, Spark writes rows and so do we, and what we append reads
// as what its own parse_json makes of the same text, down to the types, also out of our log checkpoints.
func TestSparkReadsVariants(t *testing.T) {
	s := spark(t)
	for name, create := range map[string]string{
		"plain":  "CREATE TABLE delta.`%s` (id BIGINT, v VARIANT, s STRING) USING delta",
		"mapped": "CREATE TABLE delta.`%s` (id BIGINT, v VARIANT, s STRING) USING delta TBLPROPERTIES ('delta.columnMapping.mode' = 'name')",
		"ours":   "",
	} {
		t.Run(name, func(t *testing.T) {
			table := filepath.Join(t.TempDir(), "table")
			sql := func(text string) []map[string]any {
				var rows []map[string]any
				if err := json.Unmarshal(s.must(t, "sql", map[string]any{"text": text}), &rows); err != nil {
					t.Fatal(err)
				}
				return rows
			}
			if create != "" {
				sql(fmt.Sprintf(create, table))
			} else if out, err := exec.Command(binary, "table", "create", table, "--schema", "id BIGINT, v VARIANT, s STRING", "--partition-by", "s",
				"--property", "delta.checkpointInterval=2", "--property", "delta.checkpoint.writeStatsAsStruct=true").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			texts := []string{
				`{"a":{"b":[1,-2.50,"x\u00e9",null,true]},"empty":[],"none":{}}`, `12`, `"12"`, `[]`, `1e3`, `123456789012345678901234567890.5`, `9223372036854775808`, `{"b":1,"a":2}`, `-128`, `70000`, `0.0000000001`, `-0.0000010000000000000`,
				`0.00000000000000000000000000000000000001`, `0.000000000000000000000000000000000000001`,
			}
			var theirs, ours []string
			for i, text := range texts {
				theirs = append(theirs, fmt.Sprintf("SELECT %d, parse_json('%s'), 'spark'", i, text))
				ours = append(ours, fmt.Sprintf(`{"id":%d,"v":%s,"s":"us"}`, i, text))
			}
			sql(fmt.Sprintf("INSERT INTO delta.`%s` %s", table, strings.Join(theirs, " UNION ALL ")))
			appendRow(t, table, strings.Join(append(ours, `{"id":99,"v":null,"s":"us"}`), "\n"))
			if _, err := os.Stat(filepath.Join(table, "_delta_log", "_last_checkpoint")); create == "" && err != nil {
				t.Errorf("no log checkpoint of ours: %v", err)
			}
			rows := sql(fmt.Sprintf("SELECT id, count(*) AS n, count(DISTINCT to_json(v)) AS texts, count(DISTINCT schema_of_variant(v)) AS types, min(to_json(v)) AS json FROM delta.`%s` GROUP BY id ORDER BY id", table))
			if len(rows) != len(texts)+1 {
				t.Fatalf("Spark reads %v", rows)
			}
			for i, row := range rows[:len(texts)] {
				if fmt.Sprint(row["n"], row["texts"], row["types"]) != "2 1 1" {
					t.Errorf("%s: Spark reads another value or type than its own: %v, %v", texts[i], row, sql(fmt.Sprintf("SELECT s, to_json(v) AS j, schema_of_variant(v) AS t FROM delta.`%s` WHERE id = %d", table, i)))
				}
			}
			if last := rows[len(texts)]; fmt.Sprint(last["n"], last["texts"]) != "1 0" {
				t.Errorf("a null reads as %v", last)
			}
		})
	}
}

// TestOthersReadVariants: DuckDB reads the values, and delta-rs the binaries that they are made of.
func TestOthersReadVariants(t *testing.T) {
	interpreter := python(t)
	table := filepath.Join(t.TempDir(), "table")
	if out, err := exec.Command(binary, "table", "create", table, "--schema",
		"v VARIANT, _kafka STRUCT<topic: STRING, partition: INT, offset: BIGINT, timestamp: TIMESTAMP>").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	appendRow(t, table, `{"v":{"b":[1,true,"x"],"a":null},"_kafka":{"topic":"t","partition":0,"offset":0,"timestamp":"2026-01-01T00:00:00Z"}}`)
	for reader, want := range map[string]string{
		duckDB:  `{"v":{"a":null,"b":[1,true,"x"]}}]`,
		deltaRS: `{"v":{"metadata":"AQIAAQJiYQ==","value":"AgIBAAsADAMDAAIDBQwBBAV4AA=="}}]`, // by the specification: an object of two, of which a comes first and lies last
	} {
		out, err := exec.Command(interpreter, "-B", filepath.Join("readers", reader), table).CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || !strings.HasSuffix(got, want) {
			t.Errorf("%s: %v, %s, want %s at the end", reader, err, got, want)
		}
	}
}
