package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"kafkadelta/checkpoint"
)

// nextOffsets is how far the table is in each partition of the demo's topic.
func nextOffsets(i inspection) map[int32]int64 {
	next := map[int32]int64{}
	for _, txn := range i.Txns {
		if n, ok := checkpoint.PartitionOf(demoName, txn.AppID); ok {
			next[n] = txn.Version + 1
		}
	}
	return next
}

func TestDemo(t *testing.T) {
	table := filepath.Join(t.TempDir(), "demo")
	first := mustRun(t, "demo", "--table", table)
	for _, want := range []string{
		"topic flights with 4 partitions, 10000 messages produced now", "10000 rows", "0: 2500  1: 2500  2: 2500  3: 2500",
		"delta_scan('" + table + "')", "DeltaTable('" + table + "')", "delta.`" + table + "`",
	} {
		if !strings.Contains(first.stdout, want) {
			t.Errorf("the demo does not print %q:\n%s", want, first.stdout)
		}
	}
	if !strings.Contains(first.stderr, "10000 rows committed") {
		t.Errorf("no progress is shown: %q", first.stderr)
	}
	before := inspected(t, table)
	if before.Rows != 10_000 || before.FilesWithoutRows != 0 {
		t.Errorf("the table has %d rows and %d files without a count", before.Rows, before.FilesWithoutRows)
	}

	second := mustRun(t, "demo", "--table", table)
	if !strings.Contains(second.stdout, " 0 messages produced now") || !strings.Contains(second.stdout, "this run: 0 rows in 0 commits") {
		t.Errorf("the second demo does not say that it added nothing:\n%s", second.stdout)
	}
	if after := inspected(t, table); after.Version != before.Version || after.Rows != before.Rows {
		t.Errorf("the second demo went from version %d with %d rows to %d with %d", before.Version, before.Rows, after.Version, after.Rows)
	}

	mustRun(t, "demo", "--table", table, "--fresh")
	if after := inspected(t, table); after.TableID == before.TableID || after.Rows != 10_000 {
		t.Errorf("--fresh left table %s with %d rows", after.TableID, after.Rows)
	}
}

func TestDemoInput(t *testing.T) {
	const rows = 1003
	var text bytes.Buffer
	for i := range rows {
		fmt.Fprintf(&text, "{\"id\":%d,\"at\":\"2024-05-06T07:08:09Z\",\"tags\":[\"a\",\"b\"]}\n", i)
		if i == 500 {
			text.WriteString("\n") // an empty line is no message
		}
	}
	text.Truncate(text.Len() - 1) // the last line may lack its end
	gz, zst := new(bytes.Buffer), new(bytes.Buffer)
	g := gzip.NewWriter(gz)
	z, err := zstd.NewWriter(zst)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []interface {
		Write([]byte) (int, error)
		Close() error
	}{g, z} {
		if _, err := w.Write(text.Bytes()); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range map[string][]byte{"events.jsonl": text.Bytes(), "events.jsonl.gz": gz.Bytes(), "events.jsonl.zst": zst.Bytes()} {
		t.Run(name, func(t *testing.T) {
			table := filepath.Join(t.TempDir(), "events")
			input := file(t, name, string(data))
			args := []string{"demo", "--table", table, "--input", input, "--schema", "id BIGINT, at TIMESTAMP, tags ARRAY<STRING>", "--partitions", "3"}
			for range 2 {
				mustRun(t, args...)
				i := inspected(t, table)
				if i.Rows != rows || len(i.PartitionColumns) != 0 {
					t.Errorf("the table has %d rows, expected %d", i.Rows, rows)
				}
				next := nextOffsets(i)
				if len(next) != 3 || next[0] != 335 || next[1] != 334 || next[2] != 334 {
					t.Errorf("the table's offsets are %v", next)
				}
			}
		})
	}
	t.Run("a second input comes on top", func(t *testing.T) {
		table := filepath.Join(t.TempDir(), "events")
		schema := []string{"--schema", "id BIGINT", "--table", table}
		one, two := file(t, "one.jsonl", "{\"id\":1}\n{\"id\":2}\n"), file(t, "two.jsonl", "{\"id\":3}\n")
		for _, input := range []string{one, two, one, two} {
			mustRun(t, append([]string{"demo", "--input", input}, schema...)...)
		}
		if i := inspected(t, table); i.Rows != 3 {
			t.Errorf("the table has %d rows, expected 3", i.Rows)
		}
	})
}

// cancelling stops a demo as soon as it writes.
type cancelling struct{ cancel func() }

func (w cancelling) Write(p []byte) (int, error) { w.cancel(); return len(p), nil }

// TestDemoStoppedWhileProducing stops a demo in the middle of its input. Another input must wait until that one is whole:
// its lines would be taken for the rest of the first.
func TestDemoStoppedWhileProducing(t *testing.T) {
	const rows = 150_000 // the demo writes after 100,000
	var lines bytes.Buffer
	for i := range rows {
		fmt.Fprintf(&lines, "{\"id\":%d}\n", i)
	}
	first, second := file(t, "first.jsonl", lines.String()), file(t, "second.jsonl", "{\"id\":-1}\n{\"id\":-2}\n")
	f := demoFlags{input: first, schema: "id BIGINT", table: filepath.Join(t.TempDir(), "events"), partitions: 3}
	ctx, cancel := context.WithCancel(t.Context())
	if err := demo(ctx, f, slog.New(slog.DiscardHandler), io.Discard, cancelling{cancel}); !errors.Is(err, context.Canceled) {
		t.Fatalf("the demo ended with %v", err)
	}
	of := func(input string) []string {
		return []string{"demo", "--table", f.table, "--schema", f.schema, "--input", input}
	}
	for range 2 {
		if o := command(t, of(second)...); o.code != exitConfig || !strings.Contains(o.stderr, first) || !strings.Contains(o.stderr, "--fresh") {
			t.Fatalf("exit code %d, expected %d and a word about %s: %s", o.code, exitConfig, first, o.stderr)
		}
	}
	want := int64(rows)
	for _, input := range []string{first, second, first, second} {
		if input == second {
			want = rows + 2
		}
		mustRun(t, of(input)...)
		if i := inspected(t, f.table); i.Rows != want {
			t.Fatalf("after %s the table has %d rows, expected %d", filepath.Base(input), i.Rows, want)
		}
	}
}

// TestDemoInputThatBreaksOff has an input that can't be read to its end, so that only a new start helps.
func TestDemoInputThatBreaksOff(t *testing.T) {
	broken := file(t, "broken.jsonl", "{\"id\":1}\n"+strings.Repeat("x", maxMessage+1))
	table := filepath.Join(t.TempDir(), "events")
	args := []string{"demo", "--table", table, "--schema", "id BIGINT", "--input"}
	good := file(t, "good.jsonl", "{\"id\":2}\n")
	for _, input := range []string{broken, good} {
		if o := command(t, append(args, input)...); o.code != exitConfig || !strings.Contains(o.stderr, broken) {
			t.Fatalf("exit code %d, expected %d: %s", o.code, exitConfig, o.stderr)
		}
	}
	mustRun(t, append(args, good, "--fresh")...)
	if i := inspected(t, table); i.Rows != 1 {
		t.Errorf("the table has %d rows, expected 1", i.Rows)
	}
}

// TestDemoSkipsPoison holds that what the error says can be done.
func TestDemoSkipsPoison(t *testing.T) {
	table := filepath.Join(t.TempDir(), "events")
	args := []string{"demo", "--table", table, "--schema", "id BIGINT", "--input", file(t, "x.jsonl", "{\"id\":1}\n{\"id\":\"two\"}\n{\"id\":3}\n")}
	o := command(t, args...)
	if o.code != exitPoison || !strings.Contains(o.stderr, "--skip-poison") || strings.Contains(o.stderr, "on_error") {
		t.Errorf("exit code %d, expected %d with what the demo can do: %s", o.code, exitPoison, o.stderr)
	}
	if o := mustRun(t, append(args, "--skip-poison")...); !strings.Contains(o.stdout, "skipped: 1 message") {
		t.Errorf("the skipped message is not told:\n%s", o.stdout)
	}
	if i := inspected(t, table); i.Rows != 2 {
		t.Errorf("the table has %d rows, expected 2", i.Rows)
	}
}

func TestDemoMistakes(t *testing.T) {
	mine := t.TempDir()
	if err := os.WriteFile(filepath.Join(mine, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	notGzip, notZstd := file(t, "broken.jsonl.gz", "not gzip"), file(t, "broken.jsonl.zst", "not zstd")
	for name, tt := range map[string]struct {
		args []string
		code int
		want string
	}{
		"a folder of the user's":        {[]string{"--table", mine}, exitConfig, "no demo made it"},
		"a folder of the user's, fresh": {[]string{"--table", mine, "--fresh"}, exitConfig, "no demo made it"},
		"a remote table":                {[]string{"--table", "s3://bucket/demo"}, exitConfig, "local folder"},
		"no partitions":                 {[]string{"--partitions", "0"}, exitConfig, "use 1 to 1000"},
		"no such input":                 {[]string{"--input", "/no/such/file"}, exitConfig, "--input"},
		"input that is no gzip":         {[]string{"--input", notGzip}, exitConfig, "broken.jsonl.gz"},
		"input that is no zstd":         {[]string{"--input", notZstd}, exitConfig, "broken.jsonl.zst"},
		"schema":                        {[]string{"--schema", "id BIGNUM"}, exitConfig, "schema DDL"},
		"input of another shape":        {[]string{"--input", file(t, "x.jsonl", `{"year":"MMXIII"}`)}, exitPoison, "flights/0 offset 0"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"demo", "--table", filepath.Join(t.TempDir(), "demo")}, tt.args...)
			if o := command(t, args...); o.code != tt.code || !strings.Contains(o.stderr, tt.want) {
				t.Errorf("exit code %d, expected %d with %q: %s", o.code, tt.code, tt.want, o.stderr)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(mine, "precious")); err != nil {
		t.Error(err)
	}
}
