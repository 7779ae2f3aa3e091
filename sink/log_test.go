package sink_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	arrowmemory "github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"kafkadelta/delta"
	"kafkadelta/sink"
)

var (
	text         = arrow.BinaryTypes.String
	nullableText = func(name string) arrow.Field { return arrow.Field{Name: name, Type: text, Nullable: true} }
	nullable     = func(name string, t arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: t, Nullable: true}
	}
	checkpointForm = arrow.NewSchema([]arrow.Field{
		nullable("protocol", arrow.StructOf(nullable("minReaderVersion", arrow.PrimitiveTypes.Int32), nullable("minWriterVersion", arrow.PrimitiveTypes.Int32))),
		nullable("metaData", arrow.StructOf(
			nullableText("id"), nullable("format", arrow.StructOf(nullableText("provider"))), nullableText("schemaString"),
			nullable("partitionColumns", arrow.ListOf(text)), nullable("configuration", arrow.MapOf(text, text)),
		)),
		nullable("txn", arrow.StructOf(nullableText("appId"), nullable("version", arrow.PrimitiveTypes.Int64), nullable("lastUpdated", arrow.PrimitiveTypes.Int64))),
		nullable("add", arrow.StructOf(
			nullableText("path"), nullable("partitionValues", arrow.MapOf(text, text)), nullable("size", arrow.PrimitiveTypes.Int64),
			nullable("modificationTime", arrow.PrimitiveTypes.Int64), nullable("dataChange", arrow.FixedWidthTypes.Boolean), nullableText("stats"),
		)),
	}, nil)
)

// logCheckpoint writes one of the newest version by hand, and takes away the JSON of the versions named. Nothing is cleaned
// up within a minute, so one passes.
func (b *bench) logCheckpoint(gone ...int64) {
	b.t.Helper()
	b.passed.Add(int64(time.Minute))
	s := b.snapshot()
	meta := s.Metadata()
	rows := []map[string]any{
		{"protocol": s.Protocol()},
		{"metaData": map[string]any{
			"id": meta.ID, "format": map[string]any{"provider": "parquet"}, "schemaString": meta.SchemaString,
			"partitionColumns": append([]string{}, meta.PartitionColumns...), "configuration": []any{},
		}},
	}
	for txn := range s.Txns() {
		rows = append(rows, map[string]any{"txn": txn})
	}
	for add, err := range s.Files(b.t.Context()) {
		b.check(err)
		rows = append(rows, map[string]any{"add": map[string]any{
			"path": add.Path, "partitionValues": []any{}, "size": add.Size, "modificationTime": add.ModificationTime, "dataChange": true, "stats": add.Stats,
		}})
	}
	js, err := json.Marshal(rows)
	b.check(err)
	rb, _, err := array.RecordFromJSON(arrowmemory.DefaultAllocator, checkpointForm, bytes.NewReader(js))
	b.check(err)
	defer rb.Release()
	table := array.NewTableFromRecords(checkpointForm, []arrow.RecordBatch{rb})
	defer table.Release()
	var out bytes.Buffer
	b.check(pqarrow.WriteTable(table, &out, 1<<20, parquet.NewWriterProperties(), pqarrow.DefaultWriterProps()))
	b.check(b.memory.Put(b.t.Context(), fmt.Sprintf("_delta_log/%020d.checkpoint.parquet", s.Version()), out.Bytes()))
	for _, v := range gone {
		b.check(b.memory.Delete(b.t.Context(), logFile(v)))
	}
	if got := b.version(); got != s.Version() {
		b.t.Fatalf("the log checkpoint reads as version %d, want %d", got, s.Version())
	}
}

const stranger = `{"commitInfo":{"operation":"WRITE"}}`

// TestVersionsThatAreGoneLeaveNothingProvable is rule C2: the log was cleaned past versions that were not read.
func TestVersionsThatAreGoneLeaveNothingProvable(t *testing.T) {
	t.Run("seen when idle", func(t *testing.T) {
		b := newBench(t)
		table := b.owner(2)
		b.foreign(stranger)
		b.foreign(txnLine(0, 9))
		b.foreign(stranger)
		b.logCheckpoint(0, 1, 2, 3)
		fenced, _, err := table.Follow(t.Context())
		b.check(err)
		if len(fenced) != 2 {
			t.Errorf("fenced are %v, want both partitions: nobody knows what happened", fenced)
		}
		u := b.unit(table, span(1, 0, 3))
		b.commit(table, u)
		b.want(u, sink.Dropped)
		if next := b.claim(table, 0, 1); next[0] != 10 || next[1] != 0 {
			t.Errorf("the partitions go on at %v, want 10 and 0", next)
		}
		u = b.unit(table, span(0, 10, 1), span(1, 0, 3))
		b.commit(table, u)
		b.want(u, sink.Landed)
		b.consistent()
	})
	t.Run("seen by the loser of a race", func(t *testing.T) {
		b := newBench(t)
		table := b.owner(1)
		u := b.unit(table, span(0, 0, 3))
		b.foreign(stranger)
		b.foreign(stranger)
		b.foreign(stranger)
		b.logCheckpoint(0, 1, 3)
		b.commit(table, u)
		b.want(u, sink.Dropped)
		if len(b.files()) != 1 {
			t.Errorf("the data files are %v, but without a proof none may be deleted", b.files())
		}
		if next := b.claim(table, 0)[0]; next != 0 {
			t.Errorf("the partition goes on at %d, want 0", next)
		}
	})
	t.Run("with another schema by now", func(t *testing.T) {
		b := newBench(t)
		table := b.owner(1)
		b.alter(b.columnsTo("n BIGINT, extra STRING"))
		b.foreign(stranger)
		b.logCheckpoint(0, 1, 2)
		_, layout, err := table.Follow(t.Context())
		b.check(err)
		if layout.Schema.NumFields() != 2 {
			t.Errorf("the layout is still %v", layout.Schema)
		}
	})
	t.Run("with another table by now", func(t *testing.T) {
		b := newBench(t)
		table := b.owner(1)
		b.alter(func(m *delta.Metadata) { m.ID = "another" })
		b.foreign(stranger)
		b.logCheckpoint(0, 1, 2)
		if _, _, err := table.Follow(t.Context()); !errors.As(err, new(*sink.Error)) {
			t.Errorf("Follow answered %v, want a *sink.Error", err)
		}
	})
}

// TestNewerFormatOfSpans is the rule for what a newer binary has written into a table: txns carry the progress, and stay as
// they are, so that this binary goes on; records of units in a format that it cannot read are passed over, since this
// process's own units are never among them.
func TestNewerFormatOfSpans(t *testing.T) {
	b := newBench(t)
	table := b.owner(1)
	newer := `{"commitInfo":{"operation":"STREAMING UPDATE","kafkadelta":{"v":99,"lots":"new"}}}`
	u := b.unit(table, span(0, 0, 3))
	b.beforePut(func() { b.foreign(newer, txnLine(0, 4)) })
	b.commit(table, u)
	b.want(u, sink.Dropped)
	next := b.claim(table, 0)[0]
	if next != 5 {
		t.Errorf("the partition goes on at %d, want 5", next)
	}
	u = b.unit(table, span(0, next, 3))
	b.commit(table, u)
	b.want(u, sink.Landed)
}

func TestDifferencesAreListed(t *testing.T) {
	parse := func(ddl string) *arrow.Schema {
		s, err := delta.ParseDDL(ddl)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	got := sink.Differences(parse("a BIGINT, b STRING NOT NULL, c STRUCT<x: INT, y: INT>, gone INT"), parse("a INT, b STRING, c STRUCT<x: INT, z: INT>, more INT"))
	for _, want := range []string{"column a is int32 in the table, not int64", "column b is nullable", "column c.y is configured", "column c.z is in the table", "column gone is configured", "column more is in the table"} {
		found := false
		for _, g := range got {
			found = found || strings.Contains(g, want)
		}
		if !found {
			t.Errorf("%q is not among %q", want, got)
		}
	}
	if len(got) != 6 {
		t.Errorf("%d differences, want 6: %q", len(got), got)
	}
}
