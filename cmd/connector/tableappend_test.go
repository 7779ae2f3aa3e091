package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/delta"
	"kafkadelta/pipeline"
	"kafkadelta/sink"
	"kafkadelta/storage/faultstore"
	"kafkadelta/storage/local"
	"kafkadelta/storage/memory"
)

// newTable makes a table and returns its folder.
func newTable(t testing.TB, schema string, more ...string) string {
	t.Helper()
	table := filepath.Join(t.TempDir(), "table")
	mustRun(t, append([]string{"table", "create", table, "--schema", schema}, more...)...)
	return table
}

// appendText runs `table append` with a file of the text.
func appendText(t testing.TB, table, text string, more ...string) outcome {
	t.Helper()
	return command(t, append([]string{"table", "append", table, "--input", file(t, "in.jsonl", text)}, more...)...)
}

// wantTable checks the table, and that no data file or temporary file lies in its folder that is not part of it.
func wantTable(t testing.TB, table string, version, rows int64) {
	t.Helper()
	i := inspected(t, table)
	if i.Version != version || i.Rows != rows {
		t.Errorf("the table is at version %d with %d rows, want %d and %d", i.Version, i.Rows, version, rows)
	}
	if n := len(dataFiles(t, table)); int64(n) != i.Files {
		t.Errorf("the folder has %d data files, the table %d", n, i.Files)
	}
}

func dataFiles(t testing.TB, table string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(table, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "_delta_log" {
			return fs.SkipDir
		}
		if err == nil && !d.IsDir() {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestAppend(t *testing.T) {
	table := newTable(t, "id BIGINT, name STRING, day DATE", "--partition-by", "day")
	o := appendText(t, table, `{"id":1,"name":"a","day":"2026-01-01"}`+"\n\n  \r\n"+`{"id":2,"day":"2026-01-02","other":[1]}`)
	if o.code != exitOK || o.stdout != "version 1, 2 rows\n" || o.stderr != "" {
		t.Errorf("exit code %d, it says %q and %q", o.code, o.stdout, o.stderr)
	}
	o = appendText(t, table, ` [{"id":3}, {"id":4}]`, "-o", "json")
	var done appended
	if err := json.Unmarshal([]byte(o.stdout), &done); err != nil || !done.Appended || *done.Version != 2 || done.Rows != 2 || done.Files != 1 || done.Bytes == 0 {
		t.Errorf("it says %s (%v)", o.stdout, err)
	}
	wantTable(t, table, 2, 4)
}

func TestAppendReadsCompressedFilesAndPipes(t *testing.T) {
	table := newTable(t, "id BIGINT")
	folder := t.TempDir()
	for i, pack := range map[string]func(io.Writer) io.WriteCloser{
		"a.jsonl.zst": func(w io.Writer) io.WriteCloser { z, _ := zstd.NewWriter(w); return z },
		"a.json.gz":   func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
	} {
		var b bytes.Buffer
		z := pack(&b)
		_, err := io.WriteString(z, `{"id":1}`+"\n"+`{"id":2}`+"\n")
		if err = errors.Join(err, z.Close(), os.WriteFile(filepath.Join(folder, i), b.Bytes(), 0o600)); err != nil {
			t.Fatal(err)
		}
		if o := mustRun(t, "table", "append", table, "--input", filepath.Join(folder, i)); !strings.Contains(o.stdout, ", 2 rows") {
			t.Errorf("%s: it says %s", i, o.stdout)
		}
	}
	o := piped(t, strings.NewReader(`{"id":3}`), "table", "append", table, "--input", "-")
	if o.code != exitOK || o.stdout != "version 3, 1 rows\n" {
		t.Errorf("exit code %d, it says %s%s", o.code, o.stdout, o.stderr)
	}
	wantTable(t, table, 3, 5)
	broken := filepath.Join(folder, "b.gz")
	if err := os.WriteFile(broken, []byte("no gzip"), 0o600); err != nil {
		t.Fatal(err)
	}
	if o := command(t, "table", "append", table, "--input", broken); o.code != exitConfig || !strings.Contains(o.stderr, "b.gz") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
}

// piped runs a command line with a standard input.
func piped(t testing.TB, stdin io.Reader, args ...string) outcome {
	t.Helper()
	var stdout, stderr buffer
	root := rootCommand()
	root.SetIn(stdin)
	code := runRoot(t.Context(), root, args, &stdout, &stderr)
	return outcome{code, stdout.String(), stderr.String()}
}

// TestAppendRefusesTheWholeInput holds what a user reads: which file, line and column, which value, and the remedy.
func TestAppendRefusesTheWholeInput(t *testing.T) {
	good := `{"id":1,"need":1}` + "\n"
	for name, tt := range map[string]struct {
		input string
		want  []string
	}{
		"another type":      {good + "\n" + `{"id":"seven","need":1}`, []string{"in.jsonl, line 3: column id: type_mismatch", "seven", "into BIGINT", "nothing was appended", "mend the value"}},
		"nested":            {`{"need":1,"s":{"at":[{"x":true}]}}`, []string{"line 1: column s.at.element.x: type_mismatch", "true"}},
		"no JSON":           {good + `{"id":`, []string{"line 2: column id: invalid_json", "one JSON object on each line"}},
		"no object":         {good + `17`, []string{"line 2: type_mismatch", "17", "one JSON object on each line"}},
		"two in a line":     {`{"need":1}{"need":2}`, []string{"line 1: trailing_data", "one JSON object on each line"}},
		"NOT NULL":          {strings.Repeat(good, 10) + `{"id":2}` + "\n" + good, []string{"line 11: column need: rejected_by_table", "(need = null)", "mend the value"}},
		"rule, then type":   {`{"id":1}` + "\n" + `{"id":"x","need":1}`, []string{"line 1: column need: rejected_by_table"}},
		"not UTF-8":         {"{\"t\":\"\xff\",\"need\":1}", []string{"line 1: column t: invalid_utf8", "UTF-8"}},
		"too long":          {good + `{"t":"` + strings.Repeat("x", maxMessage) + `"}`, []string{"line 2: too_large", "leave the message out"}},
		"element of array":  {`[{"need":1},{"need":"x"}]`, []string{"element 2: column need: type_mismatch"}},
		"beyond a batch":    {strings.Repeat(good, 3*rowsOfBatch) + `{"id":1.5,"need":1}`, []string{fmt.Sprintf("line %d: column id: inexact", 3*rowsOfBatch+1), "1.5"}},
		"behind the array":  {`[{"need":1}] {"need":1}`, []string{"something follows the array"}},
		"array without end": {`[{"need":1}`, []string{"the array, element 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			table := newTable(t, "id BIGINT, need INT NOT NULL, t STRING, s STRUCT<at: ARRAY<STRUCT<x: INT>>>")
			o := appendText(t, table, tt.input)
			code := exitPoison
			if strings.Contains(name, "array") && !strings.Contains(name, "element") { // the file as such
				code = exitConfig
			}
			if o.code != code || o.stdout != "" {
				t.Errorf("exit code %d, want %d; it says %s", o.code, code, o.stdout)
			}
			for _, want := range tt.want {
				if !strings.Contains(o.stderr, want) {
					t.Errorf("%q is not in: %s", want, o.stderr)
				}
			}
			wantTable(t, table, 0, 0)
		})
	}
}

// TestAppendMeetsAPanic: a decoder that panics ends the append with an error that says at which message, and its stack in the log. It is no poison.
func TestAppendMeetsAPanic(t *testing.T) {
	table, err := sink.Open(t.Context(), memory.New(), sink.Config{URI: "memory"}, sink.Options{
		Create: arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil), Engine: "test", Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	layout, err := table.Layout(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	in, err := openInputFile(t.Context(), file(t, "in.jsonl", `{"id":1}`+"\n\n"+`{"id":2,"nothing":3}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	var logs buffer
	r, err := newRowReader(in, layout, slog.New(slog.NewTextHandler(&logs, nil)), func(arrow.RecordBatch) error { return errors.New("something was written") })
	if err != nil {
		t.Fatal(err)
	}
	var at *kgo.Record
	r.decoder = panicsAtNothing{r.decoder, &at}
	err = r.read(t.Context())
	if !errors.As(err, new(*pipeline.ContainedError)) || exitCode(err) != exitInternal {
		t.Fatalf("the append has ended with: %v", err)
	}
	for _, want := range []string{"in.jsonl, line 3", "index out of range", "fault of the connector", "nothing was appended"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	for _, want := range []string{"panicsAtNothing.Append", "in.jsonl", "line 3"} {
		if !strings.Contains(logs.String(), want) {
			t.Errorf("the log does not say %q: %s", want, logs.String())
		}
	}
}

// TestAppendMeetsAPanicOfARule: so does a computed column or a rule of the table that panics, which is told of the messages that were looked at together.
func TestAppendMeetsAPanicOfARule(t *testing.T) {
	table, err := sink.Open(t.Context(), memory.New(), sink.Config{URI: "memory"}, sink.Options{
		Create: arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}}, nil), Engine: "test", Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	layout, err := table.Layout(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for text, at := range map[string]string{`{"id":1}` + "\n\n" + `{"id":2}`: "in.jsonl, line 1 to line 3", "\n" + `{"id":1}`: "in.jsonl, line 2"} {
		in, err := openInputFile(t.Context(), file(t, "in.jsonl", text), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = in.Close() }()
		var logs buffer
		r, err := newRowReader(in, layout, slog.New(slog.NewTextHandler(&logs, nil)), func(arrow.RecordBatch) error { return errors.New("something was written") })
		if err != nil {
			t.Fatal(err)
		}
		r.decoder = noColumns{r.decoder}
		err = r.read(t.Context())
		if !errors.As(err, new(*pipeline.ContainedError)) || exitCode(err) != exitInternal {
			t.Fatalf("the append has ended with: %v", err)
		}
		for _, want := range []string{at + ": computing columns and checking the table's rules has panicked", "a batch with 0 columns", "fault of the connector", "nothing was appended"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("the error does not say %q: %v", want, err)
			}
		}
		for _, want := range []string{"making rows of messages has panicked", "rowReader).rows", at[len("in.jsonl, "):]} {
			if !strings.Contains(logs.String(), want) {
				t.Errorf("the log does not say %q: %s", want, logs.String())
			}
		}
	}
}

// noColumns is a decoder with a fault that a rule meets: its batches lack the columns that rules look at.
type noColumns struct{ pipeline.Decoder }

func (d noColumns) NewBatch() arrow.RecordBatch {
	rb := d.Decoder.NewBatch()
	defer rb.Release()
	return array.NewRecordBatch(arrow.NewSchema(nil, nil), nil, rb.NumRows())
}

func TestAppendOnceForAnAppIDAndVersion(t *testing.T) {
	table := newTable(t, "id BIGINT")
	once := func(version, want string, text string) {
		t.Helper()
		o := appendText(t, table, text, "--app-id", "job", "--version", version)
		if o.code != exitOK || o.stdout != want {
			t.Errorf("version %s: exit code %d, it says %q, want %q; %s", version, o.code, o.stdout, want, o.stderr)
		}
	}
	once("0", "version 1, 1 rows\n", `{"id":1}`)
	once("0", "already at version 0 of app id \"job\": nothing was appended\n", `{"id":1}`)
	once("7", "version 2, 1 rows\n", `{"id":2}`)
	once("6", "already at version 7 of app id \"job\": nothing was appended\n", `not even looked at`)
	once("8", "version 3, 0 rows\n", "") // an empty input of a new version moves the txn
	once("8", "already at version 8 of app id \"job\": nothing was appended\n", "")
	o := appendText(t, table, "{}", "--app-id", "job", "--version", "8", "-o", "json")
	if want := `{"version":null,"appended":false,"rows":0,"files":0,"bytes":0,"app_id":"job","app_version":8}` + "\n"; o.stdout != want {
		t.Errorf("it says %s", o.stdout)
	}
	wantTable(t, table, 3, 2)
	if i := inspected(t, table); len(i.Txns) != 1 || i.Txns[0].AppID != "job" || i.Txns[0].Version != 8 {
		t.Errorf("the txns are %+v", i.Txns)
	}
}

// TestAppendAsksTheTableBeforeTheInput: a job died after its commit and before it was told, and its input was moved away.
func TestAppendAsksTheTableBeforeTheInput(t *testing.T) {
	table := filepath.Join(t.TempDir(), "new")
	gone := filepath.Join(t.TempDir(), "gone.jsonl")
	once := []string{"table", "append", table, "--app-id", "job", "--version", "1"}
	if o := command(t, append(once, "--create", "--input", gone)...); o.code != exitConfig || !strings.Contains(o.stderr, "gone.jsonl") {
		t.Errorf("no table: exit code %d, %s%s", o.code, o.stdout, o.stderr)
	}
	wantNoTable(t, table)
	mustRun(t, append(once, "--create", "--input", file(t, "in.jsonl", `{"id":1}`))...)
	untouched := readerFunc(func([]byte) (int, error) {
		t.Error("the input is read")
		return 0, io.EOF
	})
	for name, more := range map[string][]string{
		"gone": {"--input", gone}, "gone, with --create": {"--input", gone, "--create"}, "standard input": {"--input", "-"},
	} {
		o := piped(t, untouched, append(once, more...)...)
		if want := "already at version 1 of app id \"job\": nothing was appended\n"; o.code != exitOK || o.stdout != want {
			t.Errorf("%s: exit code %d, it says %q, want %q; %s", name, o.code, o.stdout, want, o.stderr)
		}
	}
	if o := command(t, "table", "append", table, "--app-id", "job", "--version", "2", "--input", gone); o.code != exitConfig {
		t.Errorf("a new version: exit code %d, %s%s", o.code, o.stdout, o.stderr)
	}
	wantTable(t, table, 1, 1)
}

func TestAppendOfNothing(t *testing.T) {
	table := newTable(t, "id BIGINT")
	for _, input := range []string{"", "\n \n", "[]", " [ ] "} {
		if o := appendText(t, table, input); o.code != exitOK || o.stdout != "the input is empty: nothing was appended\n" {
			t.Errorf("%q: exit code %d, it says %q, %s", input, o.code, o.stdout, o.stderr)
		}
	}
	wantTable(t, table, 0, 0)
}

// TestPropertiesAreTakenAsTheyStand, and a constraint among them counts, also for what an empty partition value reads as.
func TestPropertiesAreTakenAsTheyStand(t *testing.T) {
	table := filepath.Join(t.TempDir(), "new")
	properties := map[string]string{
		"owner": "a=1,b=2", "note": `"hello"`, "delta.constraints.month": "date_format(at, 'yyyy-MM') = '2024-02' OR at IS NULL", "delta.constraints.named": `kind IS NOT NULL`,
	}
	args := []string{"table", "create", table, "--schema", "at TIMESTAMP, kind STRING", "--partition-by", "kind"}
	for key, value := range properties {
		args = append(args, "--property", key+"="+value)
	}
	mustRun(t, args...)
	if got := inspected(t, table).Properties; !maps.Equal(got, properties) {
		t.Errorf("the properties are %q, want %q", got, properties)
	}
	if o := command(t, "table", "create", table, "--schema", "n INT", "--property", "owner"); o.code != exitConfig || !strings.Contains(o.stderr, "write key=value") {
		t.Errorf("a property without a value: exit code %d, %s", o.code, o.stderr)
	}
	if o := appendText(t, table, `{"kind":""}`); o.code != exitPoison || !strings.Contains(o.stderr, "constraint named") {
		t.Errorf("a row that reads as one that the table forbids: exit code %d, %s%s", o.code, o.stdout, o.stderr)
	}
	if o := appendText(t, table, `{"kind":"x"}`); o.code != exitOK {
		t.Errorf("exit code %d, %s", o.code, o.stderr)
	}
}

func TestAppendCreates(t *testing.T) {
	t.Run("with the input's schema", func(t *testing.T) {
		table := filepath.Join(t.TempDir(), "new")
		for want := range int64(2) {
			o := appendText(t, table, `{"id":1,"day":"2026-01-01","deep":{"x":[1,2.5]}}`, "--create", "--partition-by", "day", "--property", "delta.appendOnly=true")
			if o.code != exitOK || o.stdout != fmt.Sprintf("version %d, 1 rows\n", want+1) {
				t.Fatalf("exit code %d, it says %s%s", o.code, o.stdout, o.stderr)
			}
			ddl := "id BIGINT, day STRING, deep STRUCT<x: ARRAY<DOUBLE>>"
			if want == 0 && o.stderr != "schema of the new table, inferred from the input: "+ddl+"\n" || want > 0 && o.stderr != "" {
				t.Errorf("it says %q", o.stderr)
			}
			i := inspected(t, table)
			if i.Schema != ddl || len(i.PartitionColumns) != 1 || i.Properties["delta.appendOnly"] != "true" {
				t.Errorf("the table is %+v", i)
			}
		}
		wantTable(t, table, 2, 2)
	})
	t.Run("with a schema", func(t *testing.T) {
		table := filepath.Join(t.TempDir(), "new")
		if o := appendText(t, table, `{"id":1}`, "--create", "--schema", "id INT, at TIMESTAMP"); o.code != exitOK || o.stderr != "" {
			t.Fatalf("exit code %d: %s", o.code, o.stderr)
		}
		o := appendText(t, table, `{"id":1}`, "--create", "--schema", "id BIGINT")
		if o.code != exitOK || !strings.Contains(o.stderr, "differs") {
			t.Errorf("exit code %d, and of the difference to the table it says: %s", o.code, o.stderr)
		}
		wantTable(t, table, 2, 2)
	})
	t.Run("nothing of nothing", func(t *testing.T) {
		table := filepath.Join(t.TempDir(), "new")
		if o := appendText(t, table, "", "--create"); o.code != exitOK || o.stdout != "the input is empty: nothing was appended\n" {
			t.Errorf("exit code %d, it says %s%s", o.code, o.stdout, o.stderr)
		}
		wantNoTable(t, table)
		if o := appendText(t, table, "", "--create", "--schema", "id INT"); o.code != exitOK {
			t.Errorf("exit code %d: %s", o.code, o.stderr)
		}
		wantTable(t, table, 0, 0)
	})
	for name, tt := range map[string]struct {
		input string
		flags []string
		code  int
		want  string
	}{
		"no --create":        {`{"id":1}`, nil, exitTable, "--create"},
		"conflict":           {`{"id":1}` + "\n" + `{"id":[1]}`, []string{"--create"}, exitPoison, "in.jsonl, line 2: column id: type_mismatch: an array, but the field is BIGINT since line 1"},
		"value beyond":       {`{"id":1.5}` + "\n" + `{"id":1e999}`, []string{"--create"}, exitPoison, "line 2: column id: out_of_range"},
		"NOT NULL":           {`{"id":1}` + "\n" + `{}`, []string{"--create", "--schema", "id INT NOT NULL"}, exitPoison, "line 2: column id: rejected_by_table"},
		"name":               {`{"a b":1}`, []string{"--create"}, exitConfig, `"a b"`},
		"no such column":     {`{"a":1}`, []string{"--create", "--partition-by", "b"}, exitConfig, `"b"`},
		"schema":             {`{"a":1}`, []string{"--create", "--schema", "a NUMBER"}, exitConfig, "--schema"},
		"no columns":         {`{}`, []string{"--create"}, exitConfig, "--schema"},
		"not one JSON value": {`{"a":1}x`, []string{"--create"}, exitPoison, "line 1: trailing_data"},
	} {
		t.Run(name, func(t *testing.T) {
			table := filepath.Join(t.TempDir(), "new")
			o := appendText(t, table, tt.input, tt.flags...)
			if o.code != tt.code || !strings.Contains(o.stderr, tt.want) {
				t.Errorf("exit code %d, expected %d with %q: %s", o.code, tt.code, tt.want, o.stderr)
			}
			wantNoTable(t, table)
		})
	}
}

func wantNoTable(t testing.TB, table string) {
	t.Helper()
	if _, err := os.Stat(table); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was made: %v", err)
	}
}

func TestAppendMistakes(t *testing.T) {
	table := newTable(t, "id BIGINT")
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"no input":                {nil, `"input" not set`},
		"no such file":            {[]string{"--input", "/no/such/file"}, "/no/such/file"},
		"a folder":                {[]string{"--input", table}, "is a folder"},
		"app id alone":            {[]string{"--input", "-", "--app-id", "x"}, "version"},
		"version alone":           {[]string{"--input", "-", "--version", "1"}, "app-id"},
		"empty app id":            {[]string{"--input", "-", "--app-id", "", "--version", "1"}, "name the job"},
		"negative version":        {[]string{"--input", "-", "--app-id", "x", "--version", "-1"}, "use 0 or more"},
		"version that is no word": {[]string{"--input", "-", "--app-id", "x", "--version", "x"}, "invalid"},
		"format":                  {[]string{"--input", "-", "--format", "csv"}, "use json"},
		"output":                  {[]string{"--input", "-", "-o", "yaml"}, "use text or json"},
		"schema without create":   {[]string{"--input", "-", "--schema", "id INT"}, "--create"},
	} {
		t.Run(name, func(t *testing.T) {
			o := command(t, append([]string{"table", "append", table}, tt.args...)...)
			if o.code != exitConfig || !strings.Contains(o.stderr, tt.want) {
				t.Errorf("exit code %d, expected %d with %q: %s", o.code, exitConfig, tt.want, o.stderr)
			}
		})
	}
}

// TestAppendIsStoppedWhileItWaitsForItsInput: a pipe that nobody closes must not keep a process from its signals.
func TestAppendIsStoppedWhileItWaitsForItsInput(t *testing.T) {
	table := newTable(t, "id BIGINT")
	r, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	root := rootCommand()
	root.SetIn(readerFunc(func(p []byte) (int, error) {
		cancel()
		return r.Read(p)
	}))
	var stdout, stderr buffer
	ended := make(chan int, 1)
	go func() {
		ended <- runRoot(ctx, root, []string{"table", "append", table, "--input", "-"}, &stdout, &stderr)
	}()
	select {
	case code := <-ended:
		if code != exitInterrupted || !strings.Contains(stderr.String(), "nothing was appended") {
			t.Errorf("exit code %d: %s", code, stderr.String())
		}
	case <-time.After(commandLimit):
		t.Fatal("it does not stop")
	}
	wantTable(t, table, 0, 0)
}

// TestAppendThatCannotTellItsVersion: whoever sees it fail must not append the rows again.
func TestAppendThatCannotTellItsVersion(t *testing.T) {
	table := newTable(t, "id BIGINT")
	for _, tt := range []struct{ input, want string }{
		{`{"id":1}`, "the rows are in the table, as version 1: don't append them again"}, {"", "nothing was appended"},
	} {
		root := rootCommand()
		root.SetIn(strings.NewReader(tt.input))
		var stderr buffer
		code := runRoot(t.Context(), root, []string{"table", "append", table, "--input", "-"}, fullDisk{}, &stderr)
		if code != exitInternal || !strings.Contains(stderr.String(), tt.want) || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("exit code %d: %s", code, stderr.String())
		}
	}
	wantTable(t, table, 1, 1)
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestAppendGoesOnAfterTheSchemaHasChanged has another writer alter the table between the writing of the files and the commit.
func TestAppendGoesOnAfterTheSchemaHasChanged(t *testing.T) {
	for name, tt := range map[string]struct {
		columns string
		code    int
		rows    int64
	}{
		"the input fits":     {"id BIGINT, name STRING, more STRING", exitOK, 1},
		"it fits no more":    {"id BIGINT, name INT", exitPoison, 0},
		"a column is needed": {"id BIGINT, name STRING, need INT NOT NULL", exitPoison, 0},
	} {
		t.Run(name, func(t *testing.T) {
			table := newTable(t, "id BIGINT, name STRING")
			inner, err := local.New(table)
			if err != nil {
				t.Fatal(err)
			}
			store := faultstore.New(inner)
			changed := false
			store.SetHook(func(op faultstore.Op) {
				if op.Method == faultstore.MethodPutIfAbsent && !changed {
					changed = true
					alter(t, inner, tt.columns)
				}
			})
			a := appender{
				appendFlags: appendFlags{uri: table, input: file(t, "in.jsonl", `{"id":1,"name":"x","more":"y"}`)},
				log:         slog.New(slog.DiscardHandler), stderr: io.Discard, store: store,
			}
			_, err = a.run(t.Context(), nil)
			a.close(t.Context())
			if got := exitCodeOf(err); got != tt.code {
				t.Errorf("exit code %d, want %d: %v", got, tt.code, err)
			}
			wantTable(t, table, 1+tt.rows, tt.rows)
		})
	}
}

// TestAppendOverAFailingStore fails every operation of an append in turn, before or after it is done: the rows are in the table
// once, whatever it was.
func TestAppendOverAFailingStore(t *testing.T) {
	run := func(t *testing.T, i int, landed, create bool) (operations int) {
		table := filepath.Join(t.TempDir(), "new")
		if !create {
			table = newTable(t, "id BIGINT, day DATE", "--partition-by", "day")
		}
		inner, err := local.New(table)
		if err != nil {
			t.Fatal(err)
		}
		store := faultstore.New(inner)
		store.SetPlan(faultstore.FailAt(i, nil, landed))
		a := appender{
			appendFlags: appendFlags{uri: table, input: file(t, "in.jsonl", `{"id":1,"day":"2026-01-01"}`+"\n"+`{"id":2,"day":"2026-01-02"}`), app: sink.AppTxn{ID: "job", Version: 1}},
			log:         slog.New(slog.DiscardHandler), stderr: io.Discard, store: store,
		}
		a.create, a.partitionBy = create, []string{"day"}
		done, err := a.run(t.Context(), nil)
		a.close(t.Context())
		if err != nil || !done.Appended || *done.Version != 1 || done.Rows != 2 {
			t.Errorf("it ended with %+v, %v", done, err)
		}
		if in := inspected(t, table); in.Version != 1 || in.Rows != 2 || in.Files != 2 {
			t.Errorf("the table is %+v", in)
		}
		return len(store.Ops())
	}
	for _, create := range []bool{false, true} {
		operations := run(t, -1, false, create)
		for i := range operations {
			for _, landed := range []bool{false, true} {
				t.Run(fmt.Sprintf("create %v, operation %d, landed %v", create, i, landed), func(t *testing.T) {
					t.Parallel()
					run(t, i, landed, create)
				})
			}
		}
	}
}

func exitCodeOf(err error) int {
	if err == nil {
		return exitOK
	}
	return exitCode(err)
}

// alter puts a version with other columns.
func alter(t testing.TB, store *local.Store, columns string) {
	t.Helper()
	s, err := delta.OpenSnapshot(t.Context(), store, -1)
	if err != nil {
		t.Fatal(err)
	}
	meta := s.Metadata()
	schema, err := delta.ParseDDL(columns)
	if err != nil {
		t.Fatal(err)
	}
	if meta.SchemaString, err = delta.SchemaToJSON(schema); err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(map[string]any{"metaData": meta})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.PutIfAbsent(t.Context(), fmt.Sprintf("_delta_log/%020d.json", s.Version()+1), line); err != nil {
		t.Fatal(err)
	}
}
