package e2e

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/storage/local"
)

// hostileColumn is a column of the table that readers prune: the values are about ascending.
type hostileColumn struct {
	Path   string   `json:"path"`
	Type   string   `json:"type"` // in SQL
	Values []string `json:"values"`
}

// hostileColumns hold for each type what statistics get wrong first. The struct s has some of them again, one level deeper.
func hostileColumns() []hostileColumn {
	long := strings.Repeat("a", 31)
	instants := []string{
		"0001-01-01T00:00:00.000000", "0001-01-01T00:00:00.000001", "1582-10-04T23:59:59.999999", "1582-10-15T00:00:00.000000",
		"1899-12-31T23:59:59.999999", "1969-12-31T23:59:59.998999", "1969-12-31T23:59:59.999000", "1969-12-31T23:59:59.999001",
		"1969-12-31T23:59:59.999999", "1970-01-01T00:00:00.000000", "1970-01-01T00:00:00.000001", "1970-01-01T00:00:00.000999",
		"1970-01-01T00:00:00.001000", "1970-01-01T00:00:00.001001", "2024-02-29T12:34:56.789012", "2024-02-29T12:34:56.789999",
		"2024-02-29T12:34:56.790000", "2038-01-19T03:14:08.000000", "9999-12-31T23:59:59.998999", "9999-12-31T23:59:59.999000",
		"9999-12-31T23:59:59.999001", "9999-12-31T23:59:59.999999",
	}
	dates := []string{
		"0001-01-01", "0001-01-02", "1582-10-04", "1582-10-15", "1899-12-31", "1969-12-31", "1970-01-01", "1970-01-02", "2000-02-29",
		"2024-12-31", "9999-12-30", "9999-12-31",
	}
	floats := []string{"-Infinity", "-3.4028235e38", "-16777217", "-1", "-1.17549435e-38", "-1e-45", "-0.0", "0.0", "1e-45", "0.1", "1", "16777217", "3.4028235e38", "Infinity", "NaN"}
	doubles := []string{
		"-Infinity", "-1.7976931348623157e308", "-9007199254740993", "-1e16", "-1", "-0.1", "-5e-324", "-0.0", "0.0", "5e-324", "2.2250738585072014e-308",
		"0.1", "0.30000000000000004", "1", "9007199254740993", "1.7976931348623157e308", "Infinity", "NaN",
	}
	texts := []string{
		"", "\x00", "\t", " ", "\"", "'", "0", "A", "\\", long, long + "a", long + "aa", long + "ab", long + "b", long + "\x7f", long + "\x7f\x7f", long + "é", long + "é1", long + "😀", long + "😀x",
		long + "\U0010ffff", long + "\U0010ffff\U0010ffff", strings.Repeat("z", 32), strings.Repeat("z", 33), strings.Repeat("é", 40), strings.Repeat("€", 33),
		"\ufffd", strings.Repeat("😀", 32), strings.Repeat("😀", 33), strings.Repeat("\U0010ffff", 31) + "a", strings.Repeat("\U0010ffff", 32), strings.Repeat("\U0010ffff", 70), strings.Repeat("\U0010ffff", 200),
	}
	nines := strings.Repeat("9", 38)
	wide := []string{"-" + nines, "-99999999999999999999", "-18446744073709551617", "-9223372036854775809", "-1", "0", "1", "9007199254740993", "9223372036854775808", "99999999999999999999", nines}
	flat := []hostileColumn{
		{"i8", "TINYINT", []string{"-128", "-127", "-1", "0", "1", "126", "127"}},
		{"i16", "SMALLINT", []string{"-32768", "-129", "0", "128", "32767"}},
		{"i32", "INT", []string{"-2147483648", "-32769", "0", "65536", "2147483647"}},
		{"i64", "BIGINT", []string{"-9223372036854775808", "-9007199254740993", "-2147483649", "-1", "0", "9007199254740992", "9007199254740993", "9223372036854775806", "9223372036854775807"}},
		{"f32", "FLOAT", floats},
		{"f64", "DOUBLE", doubles},
		{"d9", "DECIMAL(5,2)", []string{"-999.99", "-0.01", "0.00", "0.01", "0.10", "1.00", "999.99"}},
		{"d18", "DECIMAL(18,0)", []string{"-999999999999999999", "-9007199254740993", "0", "9007199254740993", "999999999999999999"}},
		{"d38", "DECIMAL(38,0)", wide},
		{"d3838", "DECIMAL(38,38)", []string{"-0." + nines, "-0." + strings.Repeat("0", 37) + "1", "0." + strings.Repeat("0", 38), "0." + strings.Repeat("0", 37) + "1", "0.1" + strings.Repeat("0", 37), "0." + nines}},
		{"txt", "STRING", texts},
		{"flag", "BOOLEAN", []string{"false", "true"}},
		{"day", "DATE", dates},
		{"ts", "TIMESTAMP", instants},
		{"ntz", "TIMESTAMP_NTZ", instants},
	}
	all := slices.Clone(flat)
	for _, c := range flat {
		if slices.Contains([]string{"i64", "f64", "d38", "txt", "day", "ts"}, c.Path) {
			all = append(all, hostileColumn{"s.deep." + c.Path, c.Type, c.Values})
		}
	}
	return append(all, hostileColumn{"bin", "BINARY", nil}, hostileColumn{"l", "ARRAY<INT>", nil}, hostileColumn{"m", "MAP<STRING, INT>", nil})
}

// hostileDDL is the schema of the columns, with the number of each file before them.
func hostileDDL(columns []hostileColumn) string {
	var flat, deep []string
	for _, c := range columns {
		if name, ok := strings.CutPrefix(c.Path, "s.deep."); ok {
			deep = append(deep, name+": "+c.Type)
		} else {
			flat = append(flat, c.Path+" "+c.Type)
		}
	}
	return "f INT, " + strings.Join(flat, ", ") + ", s STRUCT<deep: STRUCT<" + strings.Join(deep, ", ") + ">>"
}

// hostileRows fills one file: of each column the values number i and i+1, and a row of nulls in every other file. The last
// two files hold nulls alone.
func hostileRows(t testing.TB, schema *arrow.Schema, columns []hostileColumn, file, files int) arrow.RecordBatch {
	t.Helper()
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	values := map[string][]string{}
	for _, c := range columns {
		values[c.Path] = c.Values
	}
	rows := []int{file, file + 1, -1}
	if file >= files-2 {
		rows = []int{-1, -1}
	} else if file%2 == 0 {
		rows = rows[:2]
	}
	for _, at := range rows {
		b.Field(0).(*array.Int32Builder).Append(int32(file))
		for i, f := range schema.Fields()[1:] {
			appendHostile(t, b.Field(i+1), f, f.Name, values, at, file%4 < 2)
		}
	}
	return b.NewRecordBatch()
}

func appendHostile(t testing.TB, b array.Builder, f arrow.Field, path string, values map[string][]string, at int, wholeNull bool) {
	t.Helper()
	if st, ok := b.(*array.StructBuilder); ok && (at >= 0 || !wholeNull) {
		st.Append(true)
		for i, child := range f.Type.(*arrow.StructType).Fields() {
			appendHostile(t, st.FieldBuilder(i), child, path+"."+child.Name, values, at, wholeNull)
		}
		return
	}
	list := values[path]
	if at < 0 || len(list) == 0 && at%3 == 0 {
		b.AppendNull()
		return
	}
	if len(list) == 0 {
		b.AppendEmptyValue()
		return
	}
	text := list[at%len(list)]
	layout := "2006-01-02"
	if f.Type.ID() == arrow.TIMESTAMP {
		layout = "2006-01-02T15:04:05.000000"
	}
	switch b := b.(type) {
	case *array.Date32Builder:
		day, err := time.Parse(layout, text)
		fatal(t, err)
		b.Append(arrow.Date32(day.Unix() / (24 * 60 * 60)))
	case *array.TimestampBuilder:
		moment, err := time.Parse(layout, text)
		fatal(t, err)
		b.Append(arrow.Timestamp(moment.UnixMicro()))
	case *array.Float64Builder:
		if text == "-0.0" {
			b.Append(math.Copysign(0, -1))
			return
		}
		fatal(t, b.AppendValueFromString(text))
	case *array.StringBuilder:
		b.Append(text)
	default:
		fatal(t, b.AppendValueFromString(text))
	}
}

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// makeHostile writes the table, a twin of it whose log has no statistics, and the list of the columns with their values.
// It returns their paths. Each file is a commit of its own.
func makeHostile(t testing.TB, folder string, columns []hostileColumn, properties map[string]string) (table, twin, spec string) {
	t.Helper()
	table, twin, spec = filepath.Join(folder, "hostile"), filepath.Join(folder, "twin"), filepath.Join(folder, "columns.json")
	writeSpec(t, spec, columns)
	schema, err := delta.ParseDDL(hostileDDL(columns))
	fatal(t, err)
	store, err := local.New(table)
	fatal(t, err)
	cfg := sink.DefaultConfig()
	cfg.URI, cfg.Properties = table, properties
	to, err := sink.Open(t.Context(), store, cfg, sink.Options{
		Create: schema, Engine: "kafkadelta/test", Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	fatal(t, err)
	layout, err := to.Layout(t.Context())
	fatal(t, err)
	w := to.NewWriter(layout)
	files := 2
	for _, c := range columns {
		files = max(files, len(c.Values)+2)
	}
	for f := range files {
		rb := hostileRows(t, layout.Schema, columns, f, files)
		fatal(t, w.Write(t.Context(), rb))
		rb.Release()
		u, err := w.FinishAppend()
		fatal(t, err)
		_, _, err = to.Append(t.Context(), u, sink.AppTxn{})
		fatal(t, err)
	}
	fatal(t, os.CopyFS(twin, os.DirFS(table)))
	logs, err := filepath.Glob(filepath.Join(twin, "_delta_log", "*.json"))
	fatal(t, err)
	for _, log := range logs {
		withoutStats(t, log)
	}
	return table, twin, spec
}

func writeSpec(t testing.TB, file string, columns []hostileColumn) {
	t.Helper()
	text, err := json.Marshal(columns)
	fatal(t, err)
	fatal(t, os.WriteFile(file, text, 0o600))
}

// only picks some of the columns.
func only(paths ...string) []hostileColumn {
	return slices.DeleteFunc(hostileColumns(), func(c hostileColumn) bool { return !slices.Contains(paths, c.Path) })
}

// withoutStats rewrites a commit.
func withoutStats(t testing.TB, log string) {
	t.Helper()
	text, err := os.ReadFile(log)
	fatal(t, err)
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		var action map[string]map[string]any
		d := json.NewDecoder(bytes.NewReader(line))
		d.UseNumber()
		fatal(t, d.Decode(&action))
		if add := action["add"]; add != nil {
			delete(add, "stats")
		}
		bare, err := json.Marshal(action)
		fatal(t, err)
		out.Write(append(bare, '\n'))
	}
	fatal(t, os.WriteFile(log, out.Bytes(), 0o600))
}

// TestPruning compares what foreign readers find with and without our statistics, for each column and each value in it, and
// wants that they use them.
func TestPruning(t *testing.T) {
	all := map[string]string{"delta.dataSkippingNumIndexedCols": "-1"}
	table, twin, spec := makeHostile(t, t.TempDir(), hostileColumns(), all)
	prune(t, table, twin, spec)
	t.Run("spark", func(t *testing.T) {
		for _, c := range only("f64", "txt", "ts", "s.deep.d38") { // a question costs Spark a job
			one := filepath.Join(t.TempDir(), "column.json")
			writeSpec(t, one, []hostileColumn{c})
			answer, err := spark(t).do("compare", map[string]any{"table": table, "twin": twin, "spec": one})
			fatal(t, err)
			var did string
			var faults []string
			fatal(t, json.Unmarshal(answer, &[]any{&did, &faults}))
			if len(faults) > 0 {
				t.Errorf("%s: %d faults:\n%s", c.Path, len(faults), strings.Join(faults, "\n"))
			}
			t.Logf("%s: %s", c.Path, did)
		}
	})
	t.Run("mapped", func(t *testing.T) {
		all["delta.columnMapping.mode"] = "id"
		table, twin, spec := makeHostile(t, t.TempDir(), only("i64", "d9", "txt", "day", "s.deep.i64", "s.deep.txt", "l"), all)
		prune(t, table, twin, spec)
	})
}

func prune(t *testing.T, table, twin, spec string) {
	t.Helper()
	for _, engine := range []string{"duckdb", "deltars"} {
		t.Run(engine, func(t *testing.T) {
			out, err := exec.Command(python(t), "-B", filepath.Join("readers", "pruning.py"), engine, table, twin, spec).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}
