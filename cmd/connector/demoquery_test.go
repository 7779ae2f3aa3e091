package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pasted runs a text in bash, as if a reader of it had pasted it, with programs on the PATH that do nothing but tell their
// arguments: a list for each run.
func pasted(t *testing.T, text string) [][]string {
	t.Helper()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("there is no bash")
	}
	dir := t.TempDir()
	for _, name := range []string{"duckdb", "python3", "spark-sql"} {
		fake := "#!" + bash + "\nprintf '%s\\0' \"${0##*/}\" \"$@\"\nprintf '\\0'\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(fake), 0o700); err != nil { //nolint:gosec // it is to be run
			t.Fatal(err)
		}
	}
	check := exec.CommandContext(t.Context(), bash, "-n")
	check.Stdin = strings.NewReader(text)
	if out, err := check.CombinedOutput(); err != nil {
		t.Fatalf("bash -n: %v\n%s\n%s", err, out, text)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), bash)
	cmd.Env = []string{"PATH=" + dir, "HOME=/home/nobody", "x=expanded"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(text), &stdout, &stderr
	if err := cmd.Run(); err != nil || stderr.Len() > 0 {
		t.Fatalf("bash: %v\n%s\n%s", err, stderr.String(), text)
	}
	var calls [][]string
	for call := range strings.SplitSeq(strings.TrimSuffix(stdout.String(), "\x00\x00"), "\x00\x00") {
		calls = append(calls, strings.Split(call, "\x00"))
	}
	return calls
}

// TestQueriesCanBePasted gives the table names that mean something to a shell, to SQL or to Python.
func TestQueriesCanBePasted(t *testing.T) {
	for _, x := range []struct{ path, sql, python, spark string }{
		{"/data/t", `'/data/t'`, `'/data/t'`, "`/data/t`"},
		{"/my data/it's", `'/my data/it''s'`, `'/my data/it\'s'`, "`/my data/it's`"},
		{`/$x/$(x)/a"b`, `'/$x/$(x)/a"b'`, `'/$x/$(x)/a"b'`, "`/$x/$(x)/a\"b`"},
		{"/a`b`", "'/a`b`'", "'/a`b`'", "`/a``b```"},
		{`/a\b'!x`, `'/a\b''!x'`, `'/a\\b\'!x'`, "`/a\\b'!x`"},
		{"/a\nb", "'/a\nb'", `'/a\nb'`, "`/a\nb`"},
		{`/-- %s;#*{a,b}~&|<>`, `'/-- %s;#*{a,b}~&|<>'`, `'/-- %s;#*{a,b}~&|<>'`, "`/-- %s;#*{a,b}~&|<>`"},
	} {
		want := [][]string{
			{"duckdb", "-c", "INSTALL delta; LOAD delta; SELECT count(*), min(_kafka.offset), max(_kafka.offset) FROM delta_scan(" + x.sql + ")"},
			{"python3", "-c", "from deltalake import DeltaTable; print(DeltaTable(" + x.python + ").to_pandas())"},
			{
				"spark-sql", "--packages", "io.delta:delta-spark_2.13:4.0.0",
				"--conf", "spark.sql.extensions=io.delta.sql.DeltaSparkSessionExtension",
				"--conf", "spark.sql.catalog.spark_catalog=org.apache.spark.sql.delta.catalog.DeltaCatalog",
				"-e", "SELECT * FROM delta." + x.spark + " LIMIT 10",
			},
		}
		if got := pasted(t, queries(x.path)); !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%q:\ngot  %q\nwant %q", x.path, got, want)
		}
	}
}

// TestDemoPrintsQueries takes the lines from what the demo prints.
func TestDemoPrintsQueries(t *testing.T) {
	table := filepath.Join(t.TempDir(), "it's a demo")
	o := mustRun(t, "demo", "--table", table, "--input", file(t, "one.jsonl", "{\"id\":1}\n"), "--schema", "id BIGINT")
	_, text, _ := strings.Cut(o.stdout, "\nLook at it:\n")
	text, _, found := strings.Cut(text, "\nRun the demo again")
	if !found {
		t.Fatalf("the demo prints\n%s", o.stdout)
	}
	calls := pasted(t, text)
	if len(calls) != 3 || !strings.Contains(calls[0][2], "it''s a demo')") || !strings.Contains(calls[1][2], `it\'s a demo')`) ||
		!strings.Contains(calls[2][8], "it's a demo` ") {
		t.Errorf("the programs got %q", calls)
	}
}
