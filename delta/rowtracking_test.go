package delta_test

import (
	"fmt"
	"strings"
	"testing"

	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

// rowIDs are the base row id and commit version of every add of a version, and its row id high-water mark ("" for none).
func rowIDs(t *testing.T, s delta.LogStore, version int64) (ids []string, mark string) {
	t.Helper()
	names, actions := lines(t, s, version)
	for i, a := range actions {
		switch names[i] {
		case "add":
			ids = append(ids, fmt.Sprint(a["baseRowId"], "@", a["defaultRowCommitVersion"]))
		case "domainMetadata":
			mark = fmt.Sprint(a["domain"], " ", a["configuration"], " ", a["removed"])
		}
	}
	return ids, mark
}

func withRows(files ...int) *delta.Transaction {
	tx := &delta.Transaction{Operation: "WRITE"}
	for i, rows := range files {
		tx.Adds = append(tx.Adds, add(fmt.Sprintf("%p-%d", tx, i), rows))
	}
	return tx
}

func mark(n int64) string {
	return fmt.Sprintf(`delta.rowTracking {"rowIdHighWaterMark":%d} false`, n)
}

func TestRowTracking(t *testing.T) {
	c := newClock()
	s := createdWith(t, c, delta.CreateOptions{Schema: must(delta.ParseDDL("a INT")), Properties: map[string]string{"delta.enableRowTracking": "true"}})
	table := open(t, s, c)
	configuration := table.Metadata().Configuration
	for key, prefix := range map[string]string{"delta.rowTracking.materializedRowIdColumnName": "_row-id-col-", "delta.rowTracking.materializedRowCommitVersionColumnName": "_row-commit-version-col-"} {
		if !strings.HasPrefix(configuration[key], prefix) || len(configuration[key]) != len(prefix)+36 {
			t.Errorf("%s is %q", key, configuration[key])
		}
	}
	for i, x := range []struct {
		rows []int
		ids  string
		mark string
	}{
		{[]int{3, 0, 5}, "[0@1 3@1 3@1]", mark(7)},
		{nil, "[]", ""},
		{[]int{0}, "[8@3]", ""}, // no row, no higher mark
		{[]int{1}, "[8@4]", mark(8)},
	} {
		if i == 3 {
			table = open(t, s, c) // the mark is read from the log
		}
		tx := withRows(x.rows...)
		commit(t, table, tx, delta.Committed)
		ids, got := rowIDs(t, s, int64(i+1))
		if fmt.Sprint(ids) != x.ids || got != x.mark {
			t.Errorf("%d: %v %s, want %v %s", i+1, ids, got, x.ids, x.mark)
		}
		if tag := lineOf(t, s, int64(i+1), 0)["tags"].(map[string]any)["delta.rowTracking.preserved"]; tag != "true" {
			t.Errorf("preserved %v", tag)
		}
		for _, a := range tx.Adds {
			if a.BaseRowID != nil {
				t.Error("the transaction was changed")
			}
		}
	}
}

func TestRowIDsAreAssignedAnewAfterAConflict(t *testing.T) {
	c := newClock()
	s := createdWith(t, c, delta.CreateOptions{Schema: must(delta.ParseDDL("a INT")), Properties: map[string]string{"delta.enableRowTracking": "true"}})
	mine, theirs := open(t, s, c), open(t, s, c)
	commit(t, theirs, withRows(10), delta.Committed)
	tx := withRows(2)
	commit(t, mine, tx, delta.Conflict)
	_, err := mine.Next(ctx)
	check(t, err)
	commit(t, mine, tx, delta.Committed)
	if ids, got := rowIDs(t, s, 2); fmt.Sprint(ids) != "[10@2]" || got != mark(11) {
		t.Errorf("%v %s", ids, got)
	}
}

func TestRowTrackingWhereItIsNotEnabled(t *testing.T) {
	c := newClock()
	for _, x := range []struct {
		name, configuration, ids, mark string
	}{
		{"supported", "", "[5@1]", mark(7)},
		{"suspended", `{"delta.rowTrackingSuspended":"true"}`, "[<nil>@<nil>]", ""},
	} {
		s := memory.New()
		putLog(t, s, 0, `{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["rowTracking","domainMetadata"]}}`,
			metadata(ddl(t, "a INT"), x.configuration), `{"domainMetadata":{"domain":"delta.rowTracking","configuration":"{\"rowIdHighWaterMark\":4}","removed":false}}`)
		commit(t, open(t, s, c), withRows(3), delta.Committed)
		if ids, got := rowIDs(t, s, 1); fmt.Sprint(ids) != x.ids || got != x.mark {
			t.Errorf("%s: %v %s", x.name, ids, got)
		}
		if _, ok := lineOf(t, s, 1, 0)["tags"]; ok {
			t.Errorf("%s: tags although row ids are not preserved", x.name)
		}
	}
}

func TestRowTrackingRefuses(t *testing.T) {
	c := newClock()
	for _, x := range []struct{ name, configuration, stats, reason string }{
		{"no statistics", `{\"rowIdHighWaterMark\":4}`, "", "the add of f has no numRecords"},
		{"negative rows", `{\"rowIdHighWaterMark\":4}`, `{"numRecords":-1}`, "the add of f has no numRecords"},
		{"ids are used up", `{\"rowIdHighWaterMark\":9223372036854775800}`, `{"numRecords":7}`, "row ids end at"},
		{"no mark", `{}`, `{"numRecords":7}`, "feature rowTracking"},
		{"no JSON", `x`, `{"numRecords":7}`, "has no rowIdHighWaterMark"},
		{"mark of another type", `{\"rowIdHighWaterMark\":\"4\"}`, `{"numRecords":7}`, "repair the table"},
	} {
		s := memory.New()
		putLog(t, s, 0, `{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["rowTracking","domainMetadata"]}}`,
			metadata(ddl(t, "a INT"), ""), `{"domainMetadata":{"domain":"delta.rowTracking","configuration":"`+x.configuration+`","removed":false}}`)
		tx := withRows(1)
		tx.Adds[0].Path, tx.Adds[0].Stats = "f", x.stats
		outcome, err := open(t, s, c).Commit(ctx, tx)
		if outcome != delta.Refused || err == nil || !strings.Contains(err.Error(), x.reason) {
			t.Errorf("%s: %s %v, want %q", x.name, outcome, err, x.reason)
		}
	}
}
