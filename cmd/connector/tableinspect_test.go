package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kafkadelta/storage/local"
)

// TestInspectFiles lists files of another writer: with escapes, a deletion vector, and without statistics.
func TestInspectFiles(t *testing.T) {
	table := newTable(t, "id BIGINT, city STRING", "--partition-by", "city")
	actions := `{"add":{"path":"city=S%25C3%25A3o%20Paulo/a%23b.parquet","partitionValues":{"city":"São Paulo"},"size":10,"modificationTime":1,"dataChange":true,"stats":"{\"numRecords\":5}","deletionVector":{"storageType":"u","pathOrInlineDv":"x","sizeInBytes":1,"cardinality":2}}}
{"add":{"path":"c%0A.parquet","partitionValues":{"city":null},"size":20,"modificationTime":1,"dataChange":true}}
{"add":{"path":"s3://other/d.parquet","partitionValues":{"city":""},"size":30,"modificationTime":1,"dataChange":true,"stats":"{\"numRecords\":7}"}}
`
	if err := os.WriteFile(filepath.Join(table, "_delta_log", fmt.Sprintf("%020d.json", 1)), []byte(actions), 0o600); err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(mustRun(t, "table", "inspect", table, "--files").stdout, "\n\n")
	want := "path\tsize\trows\tdeleted\tpartition values\n" +
		"city=S%C3%A3o Paulo/a#b.parquet\t10\t3\t2\tcity=São Paulo\n" +
		"\"c\\n.parquet\"\t20\t?\t0\tcity=null\n" +
		"s3://other/d.parquet\t30\t7\t0\tcity=\n"
	if list != want {
		t.Errorf("got:\n%s\nwant:\n%s", list, want)
	}
	var i inspection
	text := mustRun(t, "table", "inspect", table, "--files", "-o", "json").stdout
	if err := json.Unmarshal([]byte(text), &i); err != nil || len(i.FileList) != 3 || i.Files != 3 || i.Append != "supported" {
		t.Fatalf("%v in %s", err, text)
	}
	if f := i.FileList[0]; *f.Rows != 3 || f.DeletionVector.Cardinality != 2 || *f.PartitionValues["city"] != "São Paulo" {
		t.Errorf("the first file is %+v", f)
	}
	if f := i.FileList[1]; f.Path != "c\n.parquet" || f.Rows != nil || f.DeletionVector != nil || f.PartitionValues["city"] != nil {
		t.Errorf("the second file is %+v", f)
	}
	text = mustRun(t, "table", "inspect", table, "--version", "0", "--files", "-o", "json").stdout
	if err := json.Unmarshal([]byte(text), &i); err != nil || i.Version != 0 {
		t.Errorf("without files: %v in %s", err, text)
	}
	if o := mustRun(t, "table", "inspect", table, "-o", "json"); strings.Contains(o.stdout, "file_list") {
		t.Errorf("the files are listed without --files: %s", o.stdout)
	}
}

// TestInspectTellsWhyATableCantBeAppendedTo: it is shown all the same.
func TestInspectTellsWhyATableCantBeAppendedTo(t *testing.T) {
	table := newTable(t, "id BIGINT")
	store, err := local.New(table)
	if err != nil {
		t.Fatal(err)
	}
	protocol := `{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["fromTheFuture"],"writerFeatures":["fromTheFuture"]}}`
	if err := store.PutIfAbsent(t.Context(), fmt.Sprintf("_delta_log/%020d.json", 1), []byte(protocol)); err != nil {
		t.Fatal(err)
	}
	i := inspected(t, table)
	if !strings.HasPrefix(i.Append, "refused: ") || !strings.Contains(i.Append, "fromTheFuture") {
		t.Errorf("append is %q", i.Append)
	}
	if o := mustRun(t, "table", "inspect", table); !strings.Contains(o.stdout, "\nappend          refused: ") {
		t.Errorf("it says %s", o.stdout)
	}
	if o := appendText(t, table, `{"id":1}`); o.code != exitTable || !strings.Contains(o.stderr, "fromTheFuture") {
		t.Errorf("an append: exit code %d, %s", o.code, o.stderr)
	}
	wantTable(t, table, 1, 0)
}

// TestInspectKeepsToItsLines: texts of the log can't forge lines or command the terminal.
func TestInspectKeepsToItsLines(t *testing.T) {
	table := newTable(t, "id BIGINT")
	const evil = `\u001b[2J\nversion         77`
	actions := `{"metaData":{"id":"i` + evil + `","description":"d` + evil + `","format":{"provider":"parquet","options":{}},` +
		`"schemaString":"{\"type\":\"struct\",\"fields\":[{\"name\":\"p\\u001b[2J\\nversion         77\",\"type\":\"long\",\"nullable\":true,\"metadata\":{}},` +
		`{\"name\":\"v\",\"type\":\"long\",\"nullable\":true,\"metadata\":{}}]}",` +
		`"partitionColumns":["p` + evil + `"],"configuration":{"k` + evil + `":"v` + evil + `"}}}
{"txn":{"appId":"t` + evil + `","version":5}}
{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["f` + evil + `"],"writerFeatures":["f` + evil + `"]}}
`
	if err := os.WriteFile(filepath.Join(table, "_delta_log", fmt.Sprintf("%020d.json", 1)), []byte(actions), 0o600); err != nil {
		t.Fatal(err)
	}
	text := mustRun(t, "table", "inspect", table).stdout
	if strings.Contains(text, "\x1b") || strings.Contains(text, "\nversion         77") {
		t.Errorf("the log's texts are printed as they are:\n%s", text)
	}
	for _, want := range []string{
		`id              "i\x1b[2J\nversion`, `comment         "d\x1b[2J\nversion`, `features        "f\x1b[2J\nversion`, `schema          "`,
		`partitioned by  "p\x1b[2J\nversion`, `property        "k\x1b[2J\nversion`, `txn             "t\x1b[2J\nversion`, "\nversion         1\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}
