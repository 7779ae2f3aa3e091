package main

import (
	"fmt"
	"strings"
)

// queries are lines for a shell that look at the table in a folder, whatever its path has in it.
func queries(path string) string {
	duckdb := "INSTALL delta; LOAD delta; SELECT count(*), min(_kafka.offset), max(_kafka.offset) FROM delta_scan(" + quoteSQL(path) + ")"
	deltaRS := "from deltalake import DeltaTable; print(DeltaTable(" + quotePython(path) + ").to_pandas())"
	spark := "SELECT * FROM delta." + quoteSparkName(path) + " LIMIT 10"
	return fmt.Sprintf(`
  # DuckDB
  duckdb -c %s

  # delta-rs (pip install deltalake pandas pyarrow)
  python3 -c %s

  # Spark (pip install delta-spark)
  spark-sql --packages io.delta:delta-spark_2.13:4.0.0 \
    --conf spark.sql.extensions=io.delta.sql.DeltaSparkSessionExtension \
    --conf spark.sql.catalog.spark_catalog=org.apache.spark.sql.delta.catalog.DeltaCatalog \
    -e %s
`, quoteShell(duckdb), quoteShell(deltaRS), quoteShell(spark))
}

func quoteSQL(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func quoteSparkName(s string) string { return "`" + strings.ReplaceAll(s, "`", "``") + "`" }

func quotePython(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "\r", `\r`).Replace(s) + "'"
}

// quoteShell uses double quotes where that reads better and nothing between them means anything to a shell.
func quoteShell(s string) string {
	if strings.Contains(s, "'") && !strings.ContainsAny(s, "\"\\$`!") {
		return `"` + s + `"`
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
