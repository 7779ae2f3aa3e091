package sink_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	arrowmemory "github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
)

// TestEveryKindOfWinner lets each kind of commit win against a unit that is written already. The unit lands where nothing
// that it rests on has changed (rule C1), and its record says against which version it was judged.
func TestEveryKindOfWinner(t *testing.T) {
	const add = `{"add":{"path":"x.parquet","partitionValues":{"p":null},"size":1,"modificationTime":1,"dataChange":true,"stats":"{\"numRecords\":1}"}}`
	const rearranged = `{"add":{"path":"y.parquet","partitionValues":{"p":null},"size":1,"modificationTime":1,"dataChange":false,"stats":"{\"numRecords\":1}"}}`
	const remove = `{"remove":{"path":"x.parquet","deletionTimestamp":1,"dataChange":true,"extendedFileMetadata":true,"partitionValues":{"p":null},"size":1}}`
	const optimized = `{"remove":{"path":"x.parquet","deletionTimestamp":1,"dataChange":false,"extendedFileMetadata":true,"partitionValues":{"p":null},"size":1}}`
	const cdc = `{"cdc":{"path":"_change_data/x.parquet","partitionValues":{"p":null},"size":1,"dataChange":false}}`
	did := func(operation string) string { return `{"commitInfo":{"operation":"` + operation + `"}}` }
	lines := func(lines ...string) func(*bench) {
		return func(b *bench) {
			for i, line := range lines {
				lines[i] = strings.Replace(line, "the-id", b.snapshot().Metadata().ID, 1)
			}
			b.foreign(lines...)
		}
	}
	columns := func(columns string) func(*bench) { return func(b *bench) { b.alter(b.columnsTo(columns)) } }
	properties := func(properties map[string]string) func(*bench) {
		return func(b *bench) { b.alter(func(m *delta.Metadata) { m.Configuration = properties }) }
	}
	upgrade := `{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors","v2Checkpoint"],` +
		`"writerFeatures":["deletionVectors","v2Checkpoint","appendOnly","invariants","vacuumProtocolCheck"]}}`
	rules := `{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["checkConstraints","allowColumnDefaults","invariants","appendOnly"]}}`
	described := func(schema, configuration string) string {
		text, _ := json.Marshal(schema)
		return `{"metaData":{"id":"the-id","format":{"provider":"parquet","options":{}},"schemaString":` + string(text) + `,"partitionColumns":["p"],"configuration":` + configuration + `}}`
	}
	const fields = `{"type":"struct","fields":[{"name":"n","type":"long","nullable":true,"metadata":{}},{"name":"v","type":"string","nullable":false,"metadata":{}},` +
		`{"name":"p","type":"string","nullable":true,"metadata":{}}]}`
	ruled := func(configuration string) string { return described(fields, configuration) }
	defaulted := described(strings.Replace(fields, `"metadata":{}`, `"metadata":{"CURRENT_DEFAULT":"7"}`, 1), "{}")
	materialize := `{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["materializePartitionColumns"]}}`
	for name, tt := range map[string]struct {
		win   func(*bench)
		state sink.State
		rv    int64 // in the record of a unit that landed
	}{
		"append":                   {lines(did("WRITE"), add), sink.Landed, 1},
		"overwrite":                {lines(`{"commitInfo":{"operation":"WRITE","operationParameters":{"mode":"Overwrite"}}}`, remove, add), sink.Landed, 1},
		"DELETE":                   {lines(did("DELETE"), remove, cdc), sink.Landed, 1},
		"UPDATE":                   {lines(did("UPDATE"), remove, add), sink.Landed, 1},
		"MERGE":                    {lines(did("MERGE"), remove, add, cdc), sink.Landed, 1},
		"OPTIMIZE":                 {lines(did("OPTIMIZE"), optimized, rearranged), sink.Landed, 1},
		"VACUUM":                   {lines(did("VACUUM START")), sink.Landed, 1},
		"another domain":           {lines(did("x"), `{"domainMetadata":{"domain":"d","configuration":"{}","removed":false}}`), sink.Landed, 1},
		"a txn of the same app id": {lines(txnLine(0, 7)), sink.Dropped, 0},
		"a txn of another app id":  {lines(txnLine(9, 7)), sink.Landed, 1},

		"a protocol upgrade":    {lines(did("UPGRADE PROTOCOL"), upgrade), sink.Landed, 2},
		"a property":            {properties(map[string]string{"delta.appendOnly": "true", "delta.dataSkippingNumIndexedCols": "1"}), sink.Landed, 2},
		"a new column":          {columns("n BIGINT, v STRING NOT NULL, p STRING, extra STRUCT<a: INT>"), sink.Landed, 2},
		"a comment":             {columns("n BIGINT COMMENT 'x', v STRING NOT NULL, p STRING"), sink.Landed, 2},
		"a column may be null":  {columns("n BIGINT, v STRING, p STRING"), sink.Landed, 2},
		"another order":         {columns("v STRING NOT NULL, n BIGINT, p STRING"), sink.Landed, 2},
		"NOT NULL":              {columns("n BIGINT NOT NULL, v STRING NOT NULL, p STRING"), sink.Dropped, 0},
		"a new NOT NULL column": {columns("n BIGINT, v STRING NOT NULL, p STRING, x INT NOT NULL"), sink.Dropped, 0},
		"another type":          {columns("n STRING, v STRING NOT NULL, p STRING"), sink.Dropped, 0},
		"a column less":         {columns("n BIGINT, p STRING"), sink.Dropped, 0},
		"a rule":                {lines(did("ALTER TABLE"), rules, ruled(`{"delta.constraints.c":"n >= 0"}`)), sink.Dropped, 0},
		"another default":       {lines(did("ALTER TABLE"), rules, defaulted), sink.Dropped, 0},
		"the features of rules": {lines(did("ALTER TABLE"), rules), sink.Landed, 2},
		"another partitioning":  {func(b *bench) { b.alter(func(m *delta.Metadata) { m.PartitionColumns = []string{"v"} }) }, sink.Dropped, 0},
		"partitions in files":   {lines(did("UPGRADE PROTOCOL"), materialize), sink.Dropped, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.columns, b.cfg.PartitionBy = "n BIGINT, v STRING NOT NULL, p STRING", []string{"p"}
			table := b.owner(1)
			u := b.valuesUnit(table)
			b.beforePut(func() { tt.win(b) })
			b.commit(table, u)
			b.want(u, tt.state)
			if tt.state == sink.Dropped {
				if files := b.files(); len(files) != 0 {
					t.Errorf("files of a dropped unit stay: %v", files)
				}
				return
			}
			if rv := b.recordedVersion(3); rv != tt.rv {
				t.Errorf("the unit's record says that it was judged at version %d, want %d", rv, tt.rv)
			}
			u = b.valuesUnitAt(table, 3) // from a lane that has heard of the change, or not
			b.commit(table, u)
			b.want(u, sink.Landed)
		})
	}
}

// valuesUnit is a unit of three rows, without nulls in the columns n and v.
func (b *bench) valuesUnit(table *sink.Table) *sink.Unit {
	b.t.Helper()
	return b.valuesUnitAt(table, 0)
}

func (b *bench) valuesUnitAt(table *sink.Table, first int64) *sink.Unit {
	b.t.Helper()
	layout, err := table.Layout(b.t.Context())
	b.check(err)
	w := table.NewWriter(layout)
	rows := []map[string]any{{"n": first, "v": "a", "p": "x"}, {"n": first + 1, "v": "b", "p": "x"}, {"n": first + 2, "v": "c", "p": nil}}
	rb := batchOf(b.t, arrowmemory.DefaultAllocator, layout.Schema, rows, false)
	defer rb.Release()
	b.check(w.Write(b.t.Context(), rb))
	u, err := w.Finish([]checkpoint.Span{span(0, first, 3)})
	b.check(err)
	return u
}

// recordedVersion is the rv of the only unit in a version.
func (b *bench) recordedVersion(version int64) int64 {
	b.t.Helper()
	for line := range bytes.Lines(b.object(logFile(version))) {
		var action struct {
			CommitInfo struct {
				KafkaDelta struct {
					Units []struct {
						RV int64 `json:"rv"`
					} `json:"units"`
				} `json:"kafkadelta"`
			} `json:"commitInfo"`
		}
		b.check(json.Unmarshal(line, &action))
		if units := action.CommitInfo.KafkaDelta.Units; len(units) == 1 {
			return units[0].RV
		}
	}
	b.t.Fatalf("version %d names no unit", version)
	return 0
}
