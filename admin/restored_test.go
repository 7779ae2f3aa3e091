package admin_test

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
	"kafkadelta/storage/faultstore"
)

// TestRewindAfterARestoreThatWasCleaned: the log of a RESTORE is gone, and the files tell (rule A6a). A rewind of some partitions would hide it from
// every later start.
func TestRewindAfterARestoreThatWasCleaned(t *testing.T) {
	t.Run("cleaned", func(t *testing.T) { testRestoreThatWasCleaned(t, false) })
	t.Run("a late put in its place", func(t *testing.T) { testRestoreThatWasCleaned(t, true) })
}

func testRestoreThatWasCleaned(t *testing.T, late bool) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 10, nil, 0}, take{1, 0, 9, nil, 0})   // version 2
	f.commit(take{0, 10, 30, nil, 0}, take{1, 9, 20, nil, 0}) // version 3
	streams := f.object(logName(3))
	restore := f.foreign("RESTORE", removeOf(f.filesOf(3)[0], true))
	f.foreign("SET TBLPROPERTIES")
	f.cleanLog()
	if late { // a worker that was frozen since has its commit put now (rule C7)
		f.check(f.store.PutIfAbsent(t.Context(), logName(restore), []byte(streams)))
	}
	if err := f.openTable(setup{}).Pin(t.Context(), pinRequest(2)); err == nil || !strings.Contains(err.Error(), "most likely the table was restored") {
		t.Fatalf("a start says %v, and should refuse", err)
	}
	_, err := admin.PlanRewind(t.Context(), f.store, rewinding(map[int32]int64{0: 10}))
	wantRefusal(t, err, "partition 1 would stay where it is", "name each in --to-offsets")
	_, err = admin.PlanRetirement(t.Context(), f.store, retirement())
	wantRefusal(t, err, "most likely a RESTORE", "rewind --to-table-version N")
	forced := rewinding(map[int32]int64{0: 10})
	forced.Force = true
	f.plan(forced)
	p := f.plan(rewinding(map[int32]int64{0: 10, 1: 9}))
	if len(p.Warnings) == 0 || !strings.Contains(p.Warnings[0], "most likely a RESTORE") {
		t.Errorf("the plan warns %q", p.Warnings)
	}
	_, err = p.Commit(t.Context())
	f.check(err)
	f.open(setup{}) // a worker starts
	if next := f.claim(); next[0] != 10 || next[1] != 9 {
		t.Errorf("a worker goes on at %v", next)
	}
}

// TestRestoreToBeforeARewind: a rewind leaves the txn by which a start tells a RESTORE where the log was cleaned (rule A6a), so that one to before the rewind is
// told as well, though no rows have come since. Not so where a RESTORE came before the rewind, which has taken those files.
func TestRestoreToBeforeARewind(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 10, nil, 0}, take{1, 0, 9, nil, 0})   // version 2
	f.commit(take{0, 10, 30, nil, 0}, take{1, 9, 20, nil, 0}) // version 3
	last := removeOf(f.filesOf(3)[0], true)
	rewind := func(to map[int32]int64) {
		t.Helper()
		_, err := f.plan(rewinding(to)).Commit(t.Context())
		f.check(err)
	}
	start := func() error { return f.openTable(setup{}).Pin(t.Context(), pinRequest(2)) }
	rewind(map[int32]int64{0: 30, 1: 20})
	f.cleanLog()
	f.check(start())
	f.foreign("RESTORE", last)
	f.foreign("SET TBLPROPERTIES")
	f.cleanLog()
	if err := start(); err == nil || !strings.Contains(err.Error(), "most likely the table was restored") {
		t.Errorf("a start says %v, and should refuse", err)
	}
	rewind(map[int32]int64{0: 10, 1: 9})
	f.cleanLog()
	f.check(start())
	if txn, ok := f.snapshot().Txn(checkpoint.LastUnitAppID(stream)); !ok || txn.Version != -1 {
		t.Errorf("the txn of the last unit is %d: a start would look for files that a RESTORE has taken", txn.Version)
	}
}

// TestWhatOthersDoWhereALogWasCleaned: what others append is no rewriting of the stream's rows, which would explain where the files of its last commit are
// (rule A6a). What may be one is never refused.
func TestWhatOthersDoWhereALogWasCleaned(t *testing.T) {
	nobodys := []place{{-1, -1}, {-1, -1}, {-1, -1}}
	appended := func(f *fixture) { f.foreign("WRITE", f.write("appended.parquet", true, nobodys)) }
	restored := func(f *fixture, version int64) {
		f.foreign("RESTORE", removeOf(f.filesOf(version)[0], true))
	}
	for name, tt := range map[string]struct {
		setup   setup
		happens func(f *fixture)
		refused bool
	}{
		"an append":               {setup{}, appended, false},
		"RESTORE, then an append": {setup{}, func(f *fixture) { restored(f, 3); appended(f) }, true},
		"RESTORE to an OPTIMIZE that is older than the last unit, then an append": {setup{}, func(f *fixture) {
			old := f.write("optimized.parquet", false, f.rows[f.filesOf(2)[0].Path])
			old.ModificationTime = time.Now().Add(-2 * time.Hour).UnixMilli()
			f.foreign("RESTORE", removeOf(f.filesOf(2)[0], true), removeOf(f.filesOf(3)[0], true), old)
			appended(f)
		}, true},
		"OPTIMIZE": {setup{}, func(f *fixture) { f.rewrite("OPTIMIZE", false, all) }, false},
		"an append, then OPTIMIZE of all": {setup{}, func(f *fixture) {
			appended(f)
			f.rewrite("OPTIMIZE", false, all)
		}, false},
		"OPTIMIZE of the last file, then an append": {setup{}, func(f *fixture) {
			f.foreign("OPTIMIZE", removeOf(f.filesOf(3)[0], false), f.write("optimized.parquet", false, f.rows[f.filesOf(3)[0].Path]))
			appended(f)
		}, false},
		"RESTORE, then an append without statistics": {setup{}, func(f *fixture) {
			restored(f, 3)
			add := f.write("appended.parquet", true, nobodys)
			add.Stats = ""
			f.foreign("WRITE", add)
		}, false},
		"an overwrite of all rows": {setup{}, func(f *fixture) {
			f.foreign("WRITE", removeOf(f.filesOf(2)[0], true), removeOf(f.filesOf(3)[0], true), f.write("appended.parquet", true, nobodys))
		}, false},
		"without a metadata column": {setup{columns: "n BIGINT"}, func(f *fixture) { restored(f, 3); appended(f) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, tt.setup)
			f.commit(take{0, 0, 10, nil, 0}, take{1, 0, 9, nil, 0})   // version 2
			f.commit(take{0, 10, 30, nil, 0}, take{1, 9, 20, nil, 0}) // version 3
			tt.happens(f)
			f.foreign("SET TBLPROPERTIES")
			f.cleanLog()
			err := f.openTable(tt.setup).Pin(t.Context(), pinRequest(2))
			if refused := err != nil && strings.Contains(err.Error(), "most likely the table was restored"); refused != tt.refused || err != nil && !refused {
				t.Errorf("a start says %v; want it refused: %v", err, tt.refused)
			}
			_, err = admin.PlanRewind(t.Context(), f.store, rewinding(map[int32]int64{0: 10}))
			if tt.refused {
				wantRefusal(t, err, "most likely a RESTORE", "name each in --to-offsets")
			} else if err != nil {
				t.Errorf("a rewind is told %v", err)
			}
		})
	}
}

// TestReplaceThatWasCleaned: a table that was replaced has another id, and the log of that is gone (rule A6a). A rewind is the word that goes on, and stays so
// once its own version is gone, too.
func TestReplaceThatWasCleaned(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 10, nil, 0}, take{1, 0, 9, nil, 0})
	meta := f.snapshot().Metadata()
	meta.ID = "another"
	f.foreign("CREATE OR REPLACE TABLE AS SELECT", meta, removeOf(f.filesOf(2)[0], true), f.write("other.parquet", true, []place{{-1, -1}}))
	f.foreign("SET TBLPROPERTIES")
	f.cleanLog()
	if err := f.openTable(setup{}).Pin(t.Context(), pinRequest(2)); err == nil || !strings.Contains(err.Error(), "it was replaced since") {
		t.Fatalf("a start says %v, and should refuse", err)
	}
	_, err := admin.PlanRewind(t.Context(), f.store, rewinding(map[int32]int64{0: 0}))
	wantRefusal(t, err, "it was replaced since", "name each in --to-offsets")
	_, err = admin.PlanRetirement(t.Context(), f.store, retirement())
	wantRefusal(t, err, "it was replaced since", "rewind")
	_, err = f.plan(rewinding(map[int32]int64{0: 0, 1: 0})).Commit(t.Context())
	f.check(err)
	f.foreign("SET TBLPROPERTIES")
	f.cleanLog()
	f.open(setup{}) // a worker starts
	if next := f.claim(); next[0] != 0 || next[1] != 0 {
		t.Errorf("a worker goes on at %v", next)
	}
	f.commit(take{0, 0, 10, nil, 0}, take{1, 0, 9, nil, 0})
}

// TestRewindWhereNothingTellsOfARestore: others have rewritten the files since, so the plan can but warn.
func TestRewindWhereNothingTellsOfARestore(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 10, nil, 0}, take{1, 0, 9, nil, 0})
	add := f.write("optimized.parquet", false, f.rows[f.filesOf(2)[0].Path])
	add.ModificationTime = time.Now().UnixMilli()
	f.foreign("OPTIMIZE", removeOf(f.filesOf(2)[0], false), add)
	f.cleanLog()
	unsure := func(w string) bool {
		return strings.Contains(w, "can't be told") && strings.Contains(w, "connector verify")
	}
	if p := f.plan(rewinding(map[int32]int64{0: 5})); !slices.ContainsFunc(p.Warnings, unsure) {
		t.Errorf("the plan warns %q", p.Warnings)
	}
	if p := f.plan(rewinding(map[int32]int64{0: 5, 1: 9})); slices.ContainsFunc(p.Warnings, unsure) {
		t.Errorf("a plan that names all partitions warns %q", p.Warnings)
	}
	if p, err := admin.PlanRetirement(t.Context(), f.store, retirement()); err != nil || !slices.ContainsFunc(p.Warnings, unsure) {
		t.Errorf("a retirement: %+v, %v", p, err)
	}
}

// TestRewindToAVersionWithoutARestore doubles rows: it is said.
func TestRewindToAVersionWithoutARestore(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 10, nil, 0}, take{1, 0, 9, nil, 0})
	f.commit(take{0, 10, 30, nil, 0})
	r := rewinding(nil)
	r.ToVersion = 2
	if p := f.plan(r); len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "stay in the table") || !strings.Contains(p.Warnings[0], "RESTORE it to version 2 first") {
		t.Errorf("the plan warns %q", p.Warnings)
	}
}

// TestRewindWithoutPermission ends, and says what is known of the version.
func TestRewindWithoutPermission(t *testing.T) {
	for name, tt := range map[string]struct {
		lost bool // the answer to a put before
		says string
	}{"at once": {false, "write access"}, "after a lost answer": {true, "not known whether version 3"}} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, setup{})
			f.commit(take{0, 0, 10, nil, 0}, take{1, 0, 9, nil, 0})
			store := faultstore.New(f.store)
			p, err := admin.PlanRewind(t.Context(), store, rewinding(map[int32]int64{0: 5}))
			f.check(err)
			n := 0
			store.SetPlan(func(op faultstore.Op) faultstore.Action {
				if !isPut(op) {
					return faultstore.Action{}
				}
				if n++; tt.lost && n == 1 {
					return faultstore.Fail(nil)
				}
				return faultstore.Fail(fs.ErrPermission)
			})
			_, err = p.Commit(t.Context())
			if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), tt.says) || !tt.lost && strings.Contains(err.Error(), "not known") {
				t.Errorf("the answer is %v, want %q", err, tt.says)
			}
		})
	}
}

// TestVerifyAfterARestoreThatTellsItsVersion: what had come by the version that the table went back to was not taken back, whatever is lacking of it.
func TestVerifyAfterARestoreThatTellsItsVersion(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 10, nil, 0}) // version 2
	f.rewrite("DELETE", true, func(p place) bool { return p.offset != 4 })
	f.commit(take{0, 10, 20, nil, 0}) // version 4
	wantVerdict(t, f.verify(), admin.OK)
	restore := f.foreign("RESTORE", removeOf(f.filesOf(4)[0], true))
	f.edit(restore, `"engineInfo"`, `"operationParameters":{"version":"3"},"engineInfo"`)
	r := f.verify()
	wantFault(t, r, admin.Restored, "took back 10 rows of offsets [10, 20)")
	if r.FaultCount != 1 {
		t.Errorf("the report: %s", show(r))
	}
	_, err := f.plan(rewinding(map[int32]int64{0: 10, 1: 0})).Commit(t.Context())
	f.check(err)
	wantVerdict(t, f.verify(), admin.OK)
}
