package admin_test

import (
	"strings"
	"testing"

	"kafkadelta/admin"
)

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
