package delta_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	gomem "github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

// renamed is a Parquet file in whose footer the first column of a name has another one.
func renamed(t testing.TB, data []byte, name string) []byte {
	t.Helper()
	data = bytes.Clone(data)
	footer := data[len(data)-8-int(binary.LittleEndian.Uint32(data[len(data)-8:])):]
	i := bytes.Index(footer, append([]byte{byte(len(name))}, name...)) // as Thrift writes texts
	if i < 0 {
		t.Fatalf("no column %s", name)
	}
	footer[i+len(name)] ^= 1
	return data
}

// A Parquet log checkpoint without a required column is no log checkpoint: older ones and commits are read instead, and where
// there are none, the table is refused.
func TestLogCheckpointsLackRequiredColumns(t *testing.T) {
	for kind, columns := range map[string][]string{
		"classic": {
			"txn.appId", "txn.version", "add.path", "add.partitionValues", "add.size", "storageType", "pathOrInlineDv", "metaData.id",
			"schemaString", "partitionColumns", "metaData.configuration", "minReaderVersion", "minWriterVersion", "domainMetadata.domain",
		},
		"v2": {"sidecar.path", "appId", "schemaString"},
	} {
		l := newRandomLog(t, 3, checkpointKinds[kind])
		for range 30 {
			l.step(t)
		}
		want := stateOf(t, l.store, -1)
		checkpointAt(t, l.store, -1, l.at)
		whole := l.store.(*memory.Store)
		for _, column := range columns {
			store := whole.Clone()
			for _, name := range checkpointNames(t, store) {
				check(t, store.Put(ctx, name, renamed(t, read(t, store, name), column[strings.LastIndex(column, ".")+1:])))
			}
			if got := stateOf(t, store, -1); got != want {
				t.Errorf("%s without %s reads\n%s\nwant\n%s", kind, column, got, want)
			}
			for v := range l.version + 1 {
				drop(t, store, delta.CommitName(v))
			}
			if _, err := delta.Open(ctx, store, newClock().options()); !errors.Is(err, delta.ErrCorrupt) || !strings.Contains(err.Error(), "the required column") {
				t.Errorf("%s without %s and without commits: %v", kind, column, err)
			}
		}
	}
}

// checkpointNames are the files of a table's log checkpoints but for sidecars.
func checkpointNames(t testing.TB, s delta.LogStore) (names []string) {
	t.Helper()
	for info, err := range s.List(ctx, "_delta_log/0", "") {
		if check(t, err); strings.Contains(info.Name, ".checkpoint.") {
			names = append(names, info.Name)
		}
	}
	return names
}

// checkpointType is the schema of a log checkpoint without files.
var checkpointType = arrow.NewSchema([]arrow.Field{
	{Name: "protocol", Nullable: true, Type: arrow.StructOf(int32Field("minReaderVersion"), int32Field("minWriterVersion"))},
	{Name: "metaData", Nullable: true, Type: arrow.StructOf(
		textField("id"), textField("schemaString"), arrow.Field{Name: "partitionColumns", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
		arrow.Field{Name: "configuration", Type: arrow.MapOf(arrow.BinaryTypes.String, arrow.BinaryTypes.String), Nullable: true},
	)},
}, nil)

func textField(name string) arrow.Field {
	return arrow.Field{Name: name, Type: arrow.BinaryTypes.String, Nullable: true}
}

func int32Field(name string) arrow.Field {
	return arrow.Field{Name: name, Type: arrow.PrimitiveTypes.Int32, Nullable: true}
}

// parquetOf is a Parquet file of rows that are given as JSON.
func parquetOf(t testing.TB, schema *arrow.Schema, rows ...string) []byte {
	t.Helper()
	rb, _, err := array.RecordFromJSON(gomem.DefaultAllocator, schema, strings.NewReader("["+strings.Join(rows, ",")+"]"))
	check(t, err)
	defer rb.Release()
	var out bytes.Buffer
	w := must(pqarrow.NewFileWriter(schema, &out, nil, pqarrow.DefaultWriterProps()))
	check(t, w.Write(rb))
	check(t, w.Close())
	return out.Bytes()
}

// A metaData that is there has its required fields (PROTOCOL.md, "Change Metadata").
func TestLogCheckpointsLackRequiredValues(t *testing.T) {
	const versions = `{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}`
	required := map[string]string{"id": `"i"`, "partitionColumns": "[]", "configuration": "[]"}
	for _, name := range []string{"", "id", "partitionColumns", "configuration"} {
		fields := []string{`"schemaString":` + quoted(ddl(t, "a INT"))}
		for other, value := range required {
			if other != name {
				fields = append(fields, quoted(other)+":"+value)
			}
		}
		store := memory.New()
		file := parquetOf(t, checkpointType, versions, `{"metaData":{`+strings.Join(fields, ",")+`}}`)
		check(t, store.Put(ctx, logFile("00000000000000000007.checkpoint.parquet"), file))
		_, err := delta.Open(ctx, store, newClock().options())
		if (err == nil) != (name == "") || err != nil && (!errors.Is(err, delta.ErrCorrupt) || !strings.Contains(err.Error(), "metaData without")) {
			t.Errorf("without %q: %v", name, err)
		}
	}
}

// What commits of others leave out of a metaData, the log checkpoints made of them have.
func TestOwnLogCheckpointsHaveRequiredValues(t *testing.T) {
	store := memory.New()
	putLog(t, store, 0, protocol(1, 2), `{"metaData":{"id":null,"schemaString":`+quoted(ddl(t, "a INT"))+`}}`)
	checkpointAt(t, store, -1, 0)
	drop(t, store, delta.CommitName(0))
	if table := open(t, store, newClock()); table.Version() != 0 {
		t.Errorf("version %d", table.Version())
	}
}
