package pipeline_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	arrowmemory "github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"kafkadelta/delta"
	"kafkadelta/pipeline"
	"kafkadelta/storage/faultstore"
)

// ruledTable makes a table as Spark would: partitioned by a date that is generated from a timestamp, with a default, an
// invariant and a CHECK constraint.
func (w *world) ruledTable() {
	w.t.Helper()
	schema := createSchema(w.t, "n BIGINT NOT NULL, text STRING, at TIMESTAMP, day DATE, kind STRING NOT NULL")
	rules := map[string]string{
		"text": `{"delta.invariants":"{\"expression\":{\"expression\":\"length(text) < 40\"}}"}`,
		"day":  `{"delta.generationExpression":"CAST(at AS DATE)"}`,
		"kind": `{"CURRENT_DEFAULT":"concat('pl', 'ain')"}`,
	}
	fields := schema.Fields()
	for i, f := range fields {
		if m, ok := rules[f.Name]; ok {
			fields[i].Metadata = arrow.NewMetadata([]string{delta.MetadataKey}, []string{m})
		}
	}
	w.check(delta.Create(w.t.Context(), w.memory, delta.CreateOptions{
		Schema: arrow.NewSchema(fields, nil), PartitionBy: []string{"day"}, Now: time.Now,
		Properties: map[string]string{"delta.constraints.positive": "n > 0 AND kind IN ('plain', 'fancy')"},
		Features:   []string{"invariants", "checkConstraints", "generatedColumns", "allowColumnDefaults"},
	}))
}

// produceRuled sends one message that must become a row.
func (w *world) produceRuled(rest string) {
	w.t.Helper()
	w.next++
	offset := w.produceRaw(0, fmt.Sprintf(`{"n": %d, %s}`, w.next, rest))
	w.want[place{0, offset}] = w.next
}

// ruleBreakers are messages that one of the table's rules rejects, and what the error says.
var ruleBreakers = []struct{ value, want string }{
	{`{"n": 0, "text": "x"}`, "column n, kind: the CHECK constraint positive (n > 0 AND kind IN ('plain', 'fancy')) is FALSE"},
	{`{"n": 7, "text": "x", "kind": "odd"}`, "the CHECK constraint positive"},
	{`{"n": 7, "text": "x", "kind": null}`, "column kind: NOT NULL"},
	{`{"n": 7}`, "column text: the invariant of column text (length(text) < 40) is NULL"},
	{`{"n": 7, "text": "0123456789012345678901234567890123456789"}`, "the invariant of column text"},
	{`{"n": 7, "text": "x", "at": "2024-05-06T23:00:00Z", "day": "2024-05-07"}`, "column day: the value differs from the generation expression CAST(at AS DATE)"},
}

func TestRulesOfATable(t *testing.T) {
	scenario(t, 1, func(w *world) {
		w.ruledTable()
		for _, b := range ruleBreakers {
			w.produceRuled(`"text": "a", "at": "2024-05-06T23:59:59.999999Z"`)
			w.produceRaw(0, b.value)
			w.produceRuled(`"text": "b", "at": "2024-05-07T00:00:00Z", "day": "2024-05-07", "kind": "fancy"`)
			w.produceRuled(`"text": "c", "at": null`)
		}
		k := w.untilEnd(skip)
		if got := k.Progress().Poison; got != int64(len(ruleBreakers)) {
			t.Errorf("%d messages are counted as poison, want %d", got, len(ruleBreakers))
		}
		w.exactlyOnce()
		n := len(ruleBreakers)
		want := map[string]int{"2024-05-06 a plain": n, "2024-05-07 b fancy": n, "null c plain": n}
		if got := w.ruledRows(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("rows %v, want %v", got, want)
		}
	})
}

// ruledRows counts the rows by partition, text and kind.
func (w *world) ruledRows() map[string]int {
	w.t.Helper()
	snapshot, err := delta.OpenSnapshot(w.t.Context(), w.memory, -1)
	w.check(err)
	rows := map[string]int{}
	for add, err := range snapshot.Files(w.t.Context()) {
		w.check(err)
		name, err := delta.DecodePath(add.Path)
		w.check(err)
		day := "null"
		if v := add.PartitionValues["day"]; v != nil {
			day = *v
		}
		if !strings.HasPrefix(name, "day="+strings.ReplaceAll(day, "null", "__HIVE_DEFAULT_PARTITION__")+"/") {
			w.t.Errorf("%s is in the wrong folder for %s", name, day)
		}
		table, err := pqarrow.ReadTable(w.t.Context(), bytes.NewReader(w.object(name)), parquet.NewReaderProperties(nil), pqarrow.ArrowReadProperties{}, arrowmemory.DefaultAllocator)
		w.check(err)
		reader := array.NewTableReader(table, 0)
		for reader.Next() {
			rb := reader.RecordBatch()
			text := rb.Column(rb.Schema().FieldIndices("text")[0]).(*array.String)
			kind := rb.Column(rb.Schema().FieldIndices("kind")[0]).(*array.String)
			for i := range int(rb.NumRows()) {
				rows[day+" "+text.Value(i)+" "+kind.Value(i)]++
			}
		}
		reader.Release()
		table.Release()
	}
	return rows
}

func TestRuleBreakerUnderFail(t *testing.T) {
	for _, b := range ruleBreakers {
		t.Run(b.value, func(t *testing.T) {
			scenario(t, 1, func(w *world) {
				w.ruledTable()
				w.produceRuled(`"text": "a", "at": "2024-05-06T12:00:00Z"`)
				at := w.produceRaw(0, b.value)
				if err := w.wantPoison(); !strings.Contains(err.Error(), b.want) {
					t.Errorf("%v, want %s", err, b.want)
				}
				if got := w.txn(0); got != at-1 {
					t.Errorf("the table stands at offset %d, want %d", got, at-1)
				}
				w.exactlyOnce()
			})
		})
	}
}

// TestFirstBadMessageIsNamed: a row that a rule rejects is found when the batch is written, after a later message that can't be decoded. The
// error names the one that the partition stands at.
func TestFirstBadMessageIsNamed(t *testing.T) {
	scenario(t, 1, func(w *world) {
		w.ruledTable()
		w.produceRuled(`"text": "a", "at": "2024-05-06T12:00:00Z"`)
		at := w.produceRaw(0, ruleBreakers[0].value)
		w.produceRaw(0, `{"n": 7, "text": "x", "kind": "odd"}`)
		w.produceRaw(0, `{"n": `)
		if err := w.wantPoison(); !strings.Contains(err.Error(), fmt.Sprintf("offset %d", at)) || !strings.Contains(err.Error(), ruleBreakers[0].want) {
			t.Errorf("%v, want offset %d: %s", err, at, ruleBreakers[0].want)
		}
		if got := w.txn(0); got != at-1 {
			t.Errorf("the table stands at offset %d, want %d", got, at-1)
		}
		w.exactlyOnce()
	})
}

// TestRulesThatChange: a constraint that is added under a running worker holds for every row after it.
func TestRulesThatChange(t *testing.T) {
	scenario(t, 1, func(w *world) {
		w.ruledTable()
		w.produceRuled(`"text": "a", "at": "2024-05-06T12:00:00Z"`)
		k := w.start(func(s *setup) { s.OnError = pipeline.OnErrorSkip })
		w.landed()
		w.addConstraint("short", "length(text) < 3")
		w.produceRaw(0, `{"n": 9, "text": "long", "at": "2024-05-06T12:00:00Z"}`)
		w.produceRuled(`"text": "b", "at": "2024-05-06T12:00:00Z"`)
		w.landed()
		k.stop()
		w.exactlyOnce()
		if got := k.Progress().Poison; got != 1 {
			t.Errorf("%d messages are counted as poison, want 1", got)
		}
	})
}

// TestARuleThatIsGoneBeforePartitionsCome: they are read under the table as it is by then. A worker that waits for partitions has looked at it before; what the rule had rejected is to be a row,
// as where somebody drops it, and rewinds the stream.
func TestARuleThatIsGoneBeforePartitionsCome(t *testing.T) {
	scenario(t, 1, func(w *world) {
		w.ruledTable()
		w.produceRuled(`"text": "a", "kind": "odd", "at": "2024-05-06T12:00:00Z"`)
		var done atomic.Bool
		w.store.SetHook(func(op faultstore.Op) {
			if op.Method == faultstore.MethodPutIfAbsent && strings.HasSuffix(op.Name, "1.json") && !done.Swap(true) { // the pin
				w.alter(func(m *delta.Metadata) { delete(m.Configuration, "delta.constraints.positive") })
			}
		})
		k := w.untilEnd(skip)
		if got := k.Progress().Poison; got != 0 {
			t.Errorf("%d messages are poison by a rule that the table has no more", got)
		}
		w.exactlyOnce()
	})
}

// addConstraint is ALTER TABLE ... ADD CONSTRAINT by somebody else.
func (w *world) addConstraint(name, text string) {
	w.t.Helper()
	version := w.version() + 1
	lines := w.logLines(0)
	i := slices.IndexFunc(lines, func(l logLine) bool { return l.MetaData != nil })
	m := *lines[i].MetaData
	m.Configuration["delta.constraints."+name] = text
	w.check(w.memory.PutIfAbsent(w.t.Context(), fmt.Sprintf("_delta_log/%020d.json", version), []byte(`{"metaData":`+jsonOf(w.t, m)+"}\n")))
}
