package admin_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	arrowmemory "github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/admin"
	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/sink/datafile"
)

// letterAt is a dead-letter table with one letter of the first generation.
func letterAt(t *testing.T, partition int32, offset int64) delta.LogStore {
	t.Helper()
	f := newFixture(t, setup{columns: "topic STRING, partition INT, offset BIGINT, reason STRING, error STRING, connector STRING, generation BIGINT"})
	layout, err := f.table.Layout(t.Context())
	f.check(err)
	rb, _, err := array.RecordFromJSON(arrowmemory.DefaultAllocator, layout.Schema, strings.NewReader(fmt.Sprintf(
		`[{"topic": %q, "partition": %d, "offset": %d, "reason": "invalid_json", "error": "no", "connector": %q, "generation": 0}]`, topic, partition, offset, stream)))
	f.check(err)
	defer rb.Release()
	cfg := sink.DefaultConfig().Parquet
	cfg.Compression = "none"
	df, err := datafile.New(t.Context(), f.store, "letters.parquet", layout.Schema, datafile.Options{Config: cfg, Engine: "other"})
	f.check(err)
	f.check(df.Write(rb))
	info, err := df.Close()
	f.check(err)
	f.foreign("WRITE", delta.Add{Path: "letters.parquet", PartitionValues: map[string]*string{}, Size: info.Size, ModificationTime: 1, DataChange: true, Stats: info.Stats})
	return f.store
}

func (f *fixture) explain(partition int32, offset int64) *admin.Explanation {
	f.t.Helper()
	e, err := admin.Explain(f.t.Context(), f.store, partition, offset, admin.Options{Since: -1, Until: -1})
	f.check(err)
	return e
}

func TestExplain(t *testing.T) {
	f := filled(t, setup{start: 1000})
	if got := f.explain(0, 1000); len(got.Rows) != 1 || got.Rows[0].File != f.filesOf(2)[0].Path {
		t.Errorf("the first message: %+v", got)
	}
	for _, tt := range []struct {
		partition int32
		offset    int64
		fate      admin.Fate
		says      string
	}{
		{0, 1013, admin.InTable, "row 1 of the file part-00000-"},
		{0, 1013, admin.InTable, "of version 3"},
		{1, 1099, admin.InTable, "row 90 of"},
		{0, 1014, admin.NoRow, "version 3 has taken it, with [1010, 1020): 3 rows, 2 skipped, 5 gaps, and it has no row: a gap of Kafka, or a message that was skipped"},
		{1, 1006, admin.NoRow, "version 4"},
		{0, 1024, admin.NotReached, "up to 1023"},
		{0, 999, admin.BeforeStart, "begins with offset 1000"},
		{7, 0, admin.OtherTable, "partition 7"},
	} {
		if got := f.explain(tt.partition, tt.offset); got.Fate != tt.fate || !strings.Contains(got.Text, tt.says) {
			t.Errorf("%d offset %d is %q, %q; want %q, %q", tt.partition, tt.offset, got.Fate, got.Text, tt.fate, tt.says)
		}
	}
	f.rewrite("OPTIMIZE", false, func(p place) bool { return p != place{0, 1013} })
	if got := f.explain(0, 1010); got.Fate != admin.InTable || !strings.Contains(got.Text, "another writer") {
		t.Errorf("after OPTIMIZE: %+v", got)
	}
	if got := f.explain(0, 1013); got.Fate != admin.NoRow {
		t.Errorf("a row that OPTIMIZE dropped: %+v", got)
	}
	f.foreign("WRITE", f.write("again.parquet", true, []place{{0, 1010}}))
	if got := f.explain(0, 1010); len(got.Rows) != 2 || !strings.Contains(got.Text, "more often") {
		t.Errorf("a doubled row: %+v", got)
	}
	f.cleanLog()
	if got := f.explain(0, 1013); got.Fate != admin.NotRecorded {
		t.Errorf("a lost row whose log was cleaned: %+v", got)
	}
	counted := filled(t, setup{columns: "n BIGINT"})
	if got := counted.explain(0, 13); got.Fate != admin.CountedOnly || len(got.Spans) != 1 || len(got.Spans[0].Files) != 1 {
		t.Errorf("without the metadata column: %+v", got)
	}
}

// TestExplainAfterARewind: the last generation has the word about a message that several have taken.
func TestExplainAfterARewind(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 20, []int64{0, 1, 2, 3}, 16})
	f.rewind(rewinding(map[int32]int64{0: 10}))
	f.commit(take{0, 10, 25, []int64{11, 12}, 0})
	got := f.explain(0, 15)
	if got.Fate != admin.NoRow || !strings.Contains(got.Text, "version 4 has taken it, with [10, 25): 2 rows, 0 skipped, 13 gaps, and it has no row: a gap of Kafka") || strings.Contains(got.Text, "skipped, or") {
		t.Errorf("a message that the first generation may have skipped is %q, %q", got.Fate, got.Text)
	}
	if len(got.Spans) != 2 || len(got.Last()) != 1 || got.Last()[0].Generation != 1 {
		t.Errorf("it was taken by %+v, at last by %+v", got.Spans, got.Last())
	}
	if got := f.explain(0, 5); got.Fate != admin.NoRow || !strings.Contains(got.Text, "version 2 has taken it") {
		t.Errorf("a message that only the first has taken is %q, %q", got.Fate, got.Text)
	}
	// What was deleted, and is to be read again, is not deleted for good.
	f = newFixture(t, setup{})
	f.commit(take{0, 0, 20, nil, 0})
	f.rewrite("DELETE", true, func(p place) bool { return p.offset < 10 })
	f.rewind(rewinding(map[int32]int64{0: 10}))
	f.commit(take{0, 10, 12, nil, 0})
	if got := f.explain(0, 15); got.Fate != admin.NotReached || !strings.Contains(got.Text, "the stream was rewound to offset 10, and has not come to it again: the table has taken the offsets up to 11") {
		t.Errorf("a message that is to be read again is %q, %q", got.Fate, got.Text)
	}
	// A dead letter of the first generation is none of the last.
	f = newFixture(t, setup{})
	f.commit(take{0, 0, 20, nil, 0})
	f.commit(take{0, 20, 30, []int64{20, 21, 22, 23, 24, 25, 26, 27}, 2})
	f.bury(3, true)
	letters := letterAt(t, 0, 28)
	explain := func() *admin.Explanation {
		e, err := admin.Explain(t.Context(), f.store, 0, 28, admin.Options{Since: -1, Until: -1, Letters: letters})
		f.check(err)
		return e
	}
	if got := explain(); got.Fate != admin.DeadLetter {
		t.Errorf("a dead letter is %q, %q", got.Fate, got.Text)
	}
	f.rewind(rewinding(map[int32]int64{0: 25}))
	f.commit(take{0, 25, 40, []int64{30}, 0})
	if got := explain(); got.Fate != admin.NoRow || len(got.Letters) != 1 {
		t.Errorf("what was a dead letter before a rewind is %q, %q", got.Fate, got.Text)
	}
}
