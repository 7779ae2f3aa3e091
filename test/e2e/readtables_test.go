package e2e

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// found is what a reader makes of a whole table: its rows as texts (readers/rows.py, plain_row), sorted; or why it reads none.
type found struct {
	Rows    []string `json:"rows"`
	Refused string   `json:"refused"`
}

// otherReaders are those of readers/wholetables.py.
var otherReaders = []string{"delta-rs", "duckdb"}

// readTables has delta-rs and DuckDB read the tables, in one process, and gives for each table what each finds.
func readTables(t testing.TB, tables []string) []map[string]found {
	t.Helper()
	cmd := exec.Command(python(t), append([]string{"-B", filepath.Join("readers", "wholetables.py")}, tables...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	answers := make([]map[string]found, len(tables))
	dec := json.NewDecoder(bytes.NewReader(out))
	for i := range answers {
		if err := dec.Decode(&answers[i]); err != nil {
			t.Fatalf("reading what the readers print: %v: %s", err, out)
		}
	}
	return answers
}

// otherwise are the tables that a reader does not read as Spark does, by reader and table.
type otherwise map[string]map[string]otherReading

// otherReading is either a part of what the reader refuses the table with, or the columns in which it finds other values, by a
// fault or a rule of its own that Spark's rows show too.
type otherReading struct {
	refused string
	columns []string
}

// noTypeWidening is how delta-rs refuses every table with the feature typeWidening.
const noTypeWidening = "Unsupported table features required: [TypeWidening]"

const noVacuumProtocolCheck = "Unsupported table features required: [VacuumProtocolCheck]"

// otherColumns are those that a reader reads otherwise: DuckDB looks for partition values by the columns' names, not their
// physical ones, and finds none; Spark alone pads a CHAR; delta-rs takes Spark's timestamps for nanoseconds, of which the years
// 1 and 9999 have none.
func otherColumns(names ...string) otherReading { return otherReading{columns: names} }

// sameRows checks that delta-rs and DuckDB find in each table the rows that Spark found, or what is known of them: a reader that has
// learned to read a table is a fault of the list.
func sameRows(t *testing.T, folder string, spark map[string][]string, known otherwise) {
	t.Helper()
	var names, tables []string
	for name := range spark {
		names, tables = append(names, name), append(tables, filepath.Join(folder, name))
	}
	for i, answer := range readTables(t, tables) {
		for _, reader := range otherReaders {
			t.Run(reader+" "+names[i], func(t *testing.T) {
				answer[reader].compare(t, spark[names[i]], known[reader][names[i]])
			})
		}
	}
}

func (f found) compare(t *testing.T, spark []string, known otherReading) {
	t.Helper()
	switch {
	case known.refused != "" && !strings.Contains(f.Refused, known.refused):
		t.Errorf("it says %q and reads %d rows, expected the refusal %q", f.Refused, len(f.Rows), known.refused)
	case known.refused != "":
	case f.Refused != "":
		t.Errorf("it refuses the table: %s", f.Refused)
	default:
		for i, c := range known.columns { // each for itself makes a difference
			others := slices.Delete(slices.Clone(known.columns), i, i+1)
			if slices.Equal(without(t, f.Rows, others), without(t, spark, others)) {
				t.Errorf("it reads column %s as Spark does", c)
			}
		}
		if got, want := without(t, f.Rows, known.columns), without(t, spark, known.columns); !slices.Equal(got, want) {
			t.Errorf("it reads\n%s\nSpark reads\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// without are the rows without some columns, sorted.
func without(t testing.TB, rows, columns []string) []string {
	t.Helper()
	var out []string
	for _, text := range rows {
		row, err := decodeRow([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range columns {
			delete(row, c)
		}
		b, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(b))
	}
	slices.Sort(out)
	return out
}

// plain are the rows of a table as readTables gives them.
func (s *sparkEngine) plain(t testing.TB, table string) []string {
	t.Helper()
	var rows []string
	if err := json.Unmarshal(s.must(t, "plain", map[string]any{"table": table}), &rows); err != nil {
		t.Fatal(err)
	}
	return rows
}

// creations are ways to ask `table create` for a feature, so that the table uses it where that is possible. The others get
// --feature NAME.
var creations = map[string][]string{
	"appendOnly":        {"--property", "delta.appendOnly=true"},
	"checkConstraints":  {"--property", "delta.constraints.positive=id > 0"},
	"changeDataFeed":    {"--property", "delta.enableChangeDataFeed=true"},
	"columnMapping":     {"--property", "delta.columnMapping.mode=name", "--partition-by", "a b"},
	"deletionVectors":   {"--property", "delta.enableDeletionVectors=true"},
	"rowTracking":       {"--property", "delta.enableRowTracking=true"},
	"v2Checkpoint":      {"--property", "delta.checkpointPolicy=v2", "--property", "delta.checkpointInterval=1"},
	"icebergCompatV1":   {"--property", "delta.enableIcebergCompatV1=true"},
	"icebergCompatV2":   {"--property", "delta.enableIcebergCompatV2=true"},
	"clustering":        {"--cluster-by", "id"},
	"inCommitTimestamp": {"--property", "delta.enableInCommitTimestamps=true"},
	"typeWidening":      {"--property", "delta.enableTypeWidening=true"},
}

// created are the columns of the tables, and a message.
var created = map[string][2]string{
	"":              {"id BIGINT NOT NULL, s STRING COMMENT 'text', p DATE", `{"id":1,"s":"x","p":"2024-02-29"}`},
	"columnMapping": {"id BIGINT, `a b` STRING, s STRUCT<`x,y`: INT>", `{"id":1,"a b":"p","s":{"x,y":2}}`},
	"timestampNtz":  {"id BIGINT, at TIMESTAMP_NTZ", `{"id":1,"at":"2024-02-29T12:34:56.789012"}`},
}

// creatable are the features that docs/delta.md says tables are made with; a test in package delta holds the table to be true.
func creatable(t testing.TB) []string {
	t.Helper()
	names := documented(t, `\|[^|]*\|[^|]*\| yes`)
	if len(names) < 15 {
		t.Fatalf("docs/delta.md names only %v", names)
	}
	return names
}

// documented are the features in docs/delta.md whose row goes on like this.
func documented(t testing.TB, row string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "delta.md"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([\\w-]+)` "+row).FindAllSubmatch(text, -1) {
		names = append(names, string(m[1]))
	}
	return names
}

// TestReadersOfCreatedTables makes a table for each feature that creation supports, appends to it twice, and lets Spark, delta-rs
// and DuckDB read it. What Spark tells of the table and its history is what `table inspect` and `table history` tell.
func TestReadersOfCreatedTables(t *testing.T) {
	folder, s, want := t.TempDir(), spark(t), map[string][]string{}
	for _, name := range creatable(t) {
		t.Run(name, func(t *testing.T) {
			with, table := created[name], filepath.Join(folder, name)
			if with[0] == "" {
				with = created[""]
			}
			options := creations[name]
			if options == nil {
				options = []string{"--feature", name}
			}
			connector(t, append([]string{"table", "create", table, "--schema", with[0], "--comment", "made for " + name}, options...)...)
			appendRow(t, table, with[1])
			appendRow(t, table, with[1]+"\n"+strings.Replace(with[1], `"id":1`, `"id":2`, 1))
			want[name] = s.plain(t, table)
			if ids := idsOf(t, want[name]); !slices.Equal(ids, []int64{1, 1, 2}) {
				t.Errorf("Spark reads\n%s", strings.Join(want[name], "\n"))
			}
			compareDescriptions(t, s, table, name)
		})
	}
	sameRows(t, folder, want, otherwise{
		"delta-rs": {
			"typeWidening":        {refused: noTypeWidening},
			"vacuumProtocolCheck": {refused: noVacuumProtocolCheck},
		},
		"duckdb": {"columnMapping": otherColumns("a b")},
	})
}

func connector(t testing.TB, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(plainBinary(t), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, stderr.String())
	}
	return out
}

func idsOf(t testing.TB, rows []string) []int64 {
	t.Helper()
	var ids []int64
	for _, text := range rows {
		var row struct{ ID int64 }
		if err := json.Unmarshal([]byte(text), &row); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, row.ID)
	}
	slices.Sort(ids)
	return ids
}

// compareDescriptions compares DESCRIBE DETAIL with `table inspect`, and DESCRIBE HISTORY with `table history`.
func compareDescriptions(t *testing.T, s *sparkEngine, table, feature string) {
	t.Helper()
	type version struct {
		Version   int64             `json:"version"`
		Operation string            `json:"operation"`
		Engine    string            `json:"engineInfo"`
		Metrics   map[string]string `json:"operationMetrics"`
	}
	var theirs struct {
		Detail struct {
			ID          string            `json:"id"`
			Description string            `json:"description"`
			Files       int64             `json:"numFiles"`
			Bytes       int64             `json:"sizeInBytes"`
			Partition   []string          `json:"partitionColumns"`
			Clustering  []string          `json:"clusteringColumns"`
			Properties  map[string]string `json:"properties"`
			Reader      int               `json:"minReaderVersion"`
			Writer      int               `json:"minWriterVersion"`
			Features    []string          `json:"tableFeatures"`
		} `json:"detail"`
		History []version `json:"history"`
	}
	decode(t, s.must(t, "describe", map[string]any{"table": table}), &theirs)
	var ours struct {
		ID         string            `json:"table_id"`
		Comment    string            `json:"comment"`
		Files      int64             `json:"files"`
		Bytes      int64             `json:"bytes"`
		Rows       int64             `json:"rows"`
		Partition  []string          `json:"partition_columns"`
		Properties map[string]string `json:"properties"`
		Reader     int               `json:"min_reader_version"`
		Writer     int               `json:"min_writer_version"`
		ReaderF    []string          `json:"reader_features"`
		WriterF    []string          `json:"writer_features"`
	}
	decode(t, connector(t, "table", "inspect", table, "-o", "json"), &ours)
	var history []struct {
		Version   int64  `json:"version"`
		Operation string `json:"operation"`
		Engine    string `json:"engine"`
		Rows      int64  `json:"rows"`
		Added     int64  `json:"files_added"`
		Bytes     int64  `json:"bytes"`
	}
	decode(t, connector(t, "table", "history", table, "-o", "json"), &history)

	d := theirs.Detail
	if d.ID != ours.ID || d.Description != ours.Comment || d.Files != ours.Files || d.Bytes != ours.Bytes || !slices.Equal(d.Partition, ours.Partition) ||
		!sameMaps(d.Properties, ours.Properties) || d.Reader != ours.Reader || d.Writer != ours.Writer || ours.Rows != 3 {
		t.Errorf("DESCRIBE DETAIL says\n%+v, table inspect\n%+v", d, ours)
	}
	for _, name := range append(ours.ReaderF, ours.WriterF...) {
		if !slices.Contains(d.Features, name) {
			t.Errorf("DESCRIBE DETAIL has the features %v, table inspect has %s besides", d.Features, name)
		}
	}
	if !slices.Contains(d.Features, feature) {
		t.Errorf("DESCRIBE DETAIL has the features %v, not the one that the table was created with", d.Features)
	}
	if len(theirs.History) != len(history) {
		t.Fatalf("DESCRIBE HISTORY has\n%+v, table history\n%+v", theirs.History, history)
	}
	for i, h := range history {
		v := theirs.History[i]
		metrics := map[string]string{
			"numFiles": strconv.FormatInt(h.Added, 10), "numOutputRows": strconv.FormatInt(h.Rows, 10), "numOutputBytes": strconv.FormatInt(h.Bytes, 10),
		}
		if h.Version == 0 {
			metrics = nil
		}
		if v.Version != h.Version || v.Operation != h.Operation || v.Engine != h.Engine || !sameMaps(v.Metrics, metrics) {
			t.Errorf("DESCRIBE HISTORY has\n%+v, table history\n%+v", v, h)
		}
	}
}

func decode(t testing.TB, text []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

func sameMaps(a, b map[string]string) bool { return len(a) == 0 && len(b) == 0 || maps.Equal(a, b) }
