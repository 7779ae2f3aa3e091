package admin_test

import (
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

// filled is a table with several units: two partitions, skipped messages, gaps, an epoch of gaps alone.
func filled(t *testing.T, s setup) *fixture {
	t.Helper()
	f := newFixture(t, s)
	at := s.start
	f.commit(take{0, at, at + 10, nil, 0}, take{1, at, at + 5, nil, 0})
	f.commit(take{0, at + 10, at + 20, []int64{at + 10, at + 13, at + 19}, 2})
	f.commit(take{1, at + 5, at + 8, []int64{}, 0})
	f.commit(take{0, at + 20, at + 24, nil, 0}, take{1, at + 8, at + 9, []int64{}, 1})
	f.commit(take{1, at + 9, at + 100, nil, 0})
	return f
}

// TestCleanTables has every kind of table that nothing is wrong with be ok.
func TestCleanTables(t *testing.T) {
	dense := func(t *testing.T, s setup) *fixture {
		f := newFixture(t, s)
		f.commit(take{0, s.start, s.start + 10, nil, 0}, take{1, s.start, s.start + 5, nil, 0})
		f.commit(take{0, s.start + 10, s.start + 30, nil, 0})
		return f
	}
	for name, tt := range map[string]struct {
		make func(*testing.T) *fixture
		rows int64
	}{
		"nothing yet":      {func(t *testing.T) *fixture { return newFixture(t, setup{}) }, 0},
		"several units":    {func(t *testing.T) *fixture { return filled(t, setup{}) }, 113},
		"from latest":      {func(t *testing.T) *fixture { return filled(t, setup{start: 1000}) }, 113},
		"without metadata": {func(t *testing.T) *fixture { return filled(t, setup{columns: "n BIGINT"}) }, 113},
		"partitioned": {func(t *testing.T) *fixture {
			return filled(t, setup{columns: withMetadata + ", m BIGINT", partitionBy: []string{"n"}})
		}, 113},
		"column mapping": {func(t *testing.T) *fixture {
			return filled(t, setup{properties: map[string]string{"delta.columnMapping.mode": "name"}})
		}, 113},
		"log cleaned":         {func(t *testing.T) *fixture { f := dense(t, setup{}); f.cleanLog(); return f }, 35},
		"log cleaned, latest": {func(t *testing.T) *fixture { f := dense(t, setup{start: 70}); f.cleanLog(); return f }, 35},
		"cleaned, then more": {func(t *testing.T) *fixture {
			f := dense(t, setup{})
			f.cleanLog()
			f.commit(take{0, 30, 50, []int64{40}, 3})
			return f
		}, 36},
		"optimized": {func(t *testing.T) *fixture { f := filled(t, setup{}); f.rewrite("OPTIMIZE", false, all); return f }, 113},
		"optimized, no offsets": {func(t *testing.T) *fixture {
			f := filled(t, setup{columns: "n BIGINT"})
			f.rewrite("OPTIMIZE", false, all)
			return f
		}, 113},
		"optimized, cleaned": {func(t *testing.T) *fixture {
			f := dense(t, setup{})
			f.rewrite("OPTIMIZE", false, all)
			f.cleanLog()
			return f
		}, 35},
		"optimized, then more": {func(t *testing.T) *fixture {
			f := filled(t, setup{})
			f.rewrite("OPTIMIZE", false, all)
			f.commit(take{0, 24, 30, nil, 0})
			return f
		}, 119},
		"optimized twice": {func(t *testing.T) *fixture {
			f := filled(t, setup{})
			f.rewrite("OPTIMIZE", false, all)
			f.commit(take{0, 24, 30, nil, 0})
			f.rewrite("OPTIMIZE", false, all)
			return f
		}, 119},
		"rows of others": {func(t *testing.T) *fixture {
			f := filled(t, setup{})
			f.foreign("WRITE", f.write("theirs.parquet", true, []place{{0, -1}, {0, -1}}))
			return f
		}, 115},
	} {
		t.Run(name, func(t *testing.T) {
			r := tt.make(t).verify()
			wantVerdict(t, r, admin.OK)
			if r.Rows != tt.rows {
				t.Errorf("%d rows were read, want %d", r.Rows, tt.rows)
			}
			found := int64(0)
			for _, p := range r.Partitions {
				if found += p.RowsFound; r.OffsetsRead && p.Spans > 0 && p.RowsFound != p.Rows || p.Deleted != 0 {
					t.Errorf("a partition's numbers: %+v", p)
				}
			}
			if r.OffsetsRead && found+r.OtherRows != r.Rows {
				t.Errorf("%d rows of offsets and %d others of %d", found, r.OtherRows, r.Rows)
			}
		})
	}
}

// TestFilteredMessagesAreCounted: they are messages that have no rows, and are neither skipped nor lost.
func TestFilteredMessagesAreCounted(t *testing.T) {
	f := filled(t, setup{})
	skipped := f.verify().Partitions[0].Skipped
	f.edit(3, `"skipped":2,`, `"skipped":0,"filtered":2,`, `\"skipped\":2,`, `\"skipped\":0,\"filtered\":2,`)
	r := f.verify()
	if p := r.Partitions[0]; r.Verdict != admin.OK || p.Filtered != 2 || p.Skipped != skipped-2 || p.Records != p.Rows+p.Skipped+p.Filtered {
		t.Errorf("%s: %d filtered, %d skipped, want 2 and %d, of %d messages with %d rows", r.Verdict, p.Filtered, p.Skipped, skipped-2, p.Records, p.Rows)
	}
	if e := f.explain(0, 14); !strings.Contains(e.Text, "2 filtered") || !strings.Contains(e.Text, "a message that table.filter leaves out") {
		t.Error(e.Text)
	}
}

// TestDeadLettersAreCounted: they are messages that have no rows, and are neither skipped nor lost.
func TestDeadLettersAreCounted(t *testing.T) {
	f := filled(t, setup{})
	skipped := f.verify().Partitions[0].Skipped
	f.bury(3, true)
	r := f.verify()
	wantVerdict(t, r, admin.OK)
	if p := r.Partitions[0]; p.Dead != 2 || p.Skipped != skipped-2 || p.Records != p.Rows+p.Skipped+p.Dead {
		t.Errorf("%d dead letters, %d skipped, want 2 and %d, of %d messages with %d rows", p.Dead, p.Skipped, skipped-2, p.Records, p.Rows)
	}
}

// TestFaults plants a fault at a time, and wants it named.
func TestFaults(t *testing.T) {
	for name, tt := range map[string]struct {
		setup setup
		plant func(*testing.T, *fixture)
		kind  admin.Kind
		says  []string
	}{
		"gap": {
			plant: func(_ *testing.T, f *fixture) {
				f.edit(3, `"first":10,"next":20,"records":5,"rows":3,"skipped":2,"gaps":5`, `"first":12,"next":20,"records":5,"rows":3,"skipped":2,"gaps":3`,
					`\"first\":10,\"next\":20,\"records\":5,\"rows\":3,\"skipped\":2,\"gaps\":5`, `\"first\":12,\"next\":20,\"records\":5,\"rows\":3,\"skipped\":2,\"gaps\":3`)
			}, kind: admin.Gap, says: []string{"topic[0]", "[10, 12)"},
		},
		"a version without its spans": {
			plant: func(_ *testing.T, f *fixture) { f.edit(3, `"kafkadelta":`, `"elsewhere":`) }, kind: admin.Gap, says: []string{"topic[0]", "[10, 20)"},
		},
		"overlap": {
			plant: func(_ *testing.T, f *fixture) {
				f.edit(3, `"first":10,"next":20,"records":5,"rows":3,"skipped":2,"gaps":5`, `"first":8,"next":20,"records":5,"rows":3,"skipped":2,"gaps":7`,
					`\"first\":10,\"next\":20,\"records\":5,\"rows\":3,\"skipped\":2,\"gaps\":5`, `\"first\":8,\"next\":20,\"records\":5,\"rows\":3,\"skipped\":2,\"gaps\":7`)
			}, kind: admin.Overlap, says: []string{"topic[0]", "[8, 10)", "version 2", "version 3"},
		},
		"a duplicate in a file of others": {
			plant: func(_ *testing.T, f *fixture) { f.foreign("WRITE", f.write("again.parquet", true, []place{{0, 13}})) },
			kind:  admin.Duplicate, says: []string{"topic[0]", "offset 13", "again.parquet"},
		},
		"a missing file": {
			plant: func(t *testing.T, f *fixture) { f.check(f.store.Delete(t.Context(), f.filesOf(3)[0].Path)) },
			kind:  admin.MissingFile, says: []string{"part-00000-", "[10, 20)"},
		},
		"a missing file of a table without offsets": {
			setup: setup{columns: "n BIGINT"},
			plant: func(t *testing.T, f *fixture) { f.check(f.store.Delete(t.Context(), f.filesOf(3)[0].Path)) },
			kind:  admin.MissingFile, says: []string{"part-00000-", "[10, 20)"},
		},
		"a broken file": {
			plant: func(t *testing.T, f *fixture) {
				a := f.filesOf(3)[0]
				f.check(f.store.Put(t.Context(), a.Path, []byte(strings.Repeat("x", int(a.Size)))))
			}, kind: admin.BrokenFile, says: []string{"part-00000-", "[10, 20)"},
		},
		"a cut file": {
			plant: func(t *testing.T, f *fixture) {
				a := f.filesOf(3)[0]
				f.check(f.store.Put(t.Context(), a.Path, []byte(f.object(a.Path)[:a.Size-1])))
			}, kind: admin.BrokenFile, says: []string{"shorter"},
		},
		"a forged txn, forwards": {
			plant: func(_ *testing.T, f *fixture) { f.foreign("WRITE", delta.Txn{AppID: "events-0", Version: 40}) },
			kind:  admin.ForgedTxn, says: []string{"version 7", "events-0", "from 23 to 40", "Apache-Spark"},
		},
		"a forged txn, backwards": {
			plant: func(_ *testing.T, f *fixture) { f.foreign("WRITE", delta.Txn{AppID: "events-1", Version: 3}) },
			kind:  admin.ForgedTxn, says: []string{"events-1", "from 99 to 3"},
		},
		"a forged txn within a commit": {
			plant: func(_ *testing.T, f *fixture) {
				f.edit(6, `"appId":"events-1","version":99`, `"appId":"events-1","version":100`)
			},
			kind: admin.ForgedTxn, says: []string{"version 6", "events-1", "100", "99"},
		},
		"a commit without its txn": {
			plant: func(_ *testing.T, f *fixture) { f.edit(3, `"appId":"events-0"`, `"appId":"other-0"`) },
			kind:  admin.ForgedTxn, says: []string{"version 3", "no txn", "events-0"},
		},
		"dead letters that no txn names": {
			plant: func(_ *testing.T, f *fixture) { f.bury(3, false) },
			kind:  admin.ForgedTxn, says: []string{"version 3", "2 messages of topic[0] are dead letters", "events#dl/0"},
		},
		"a row count in statistics": {
			plant: func(_ *testing.T, f *fixture) { f.edit(3, `{\"numRecords\":3,`, `{\"numRecords\":4,`) },
			kind:  admin.RowCount, says: []string{"has 3 rows", "says 4"},
		},
		"a row count in spans": {
			plant: func(_ *testing.T, f *fixture) {
				f.edit(3, `"records":5,"rows":3,"skipped":2,"gaps":5`, `"records":6,"rows":4,"skipped":2,"gaps":4`,
					`\"records\":5,\"rows\":3,\"skipped\":2,\"gaps\":5`, `\"records\":6,\"rows\":4,\"skipped\":2,\"gaps\":4`)
			}, kind: admin.RowCount, says: []string{"version 3", "3 rows", "count 4"},
		},
		"fewer rows in spans": {
			plant: func(_ *testing.T, f *fixture) {
				f.edit(3, `"records":5,"rows":3,"skipped":2,"gaps":5`, `"records":4,"rows":2,"skipped":2,"gaps":6`,
					`\"records\":5,\"rows\":3,\"skipped\":2,\"gaps\":5`, `\"records\":4,\"rows\":2,\"skipped\":2,\"gaps\":6`)
			}, kind: admin.RowCount, says: []string{"topic[0]", "[10, 20)", "have 3 rows, but the span counts 2"},
		},
		"fewer rows in spans, no offsets": {
			setup: setup{columns: "n BIGINT"},
			plant: func(_ *testing.T, f *fixture) {
				f.edit(3, `"records":5,"rows":3,"skipped":2,"gaps":5`, `"records":4,"rows":2,"skipped":2,"gaps":6`,
					`\"records\":5,\"rows\":3,\"skipped\":2,\"gaps\":5`, `\"records\":4,\"rows\":2,\"skipped\":2,\"gaps\":6`)
			}, kind: admin.RowCount, says: []string{"version 3", "has 3 rows in its files, but its spans count 2"},
		},
		"a duplicate of the stream's own": {
			plant: func(_ *testing.T, f *fixture) { f.commit(take{0, 24, 30, []int64{24, 25, 25}, 0}) },
			kind:  admin.Duplicate, says: []string{"offset 25", "part-00000-"},
		},
		"a lying tag of a file that is gone": {
			plant: func(_ *testing.T, f *fixture) {
				f.edit(3, `\"first\":10,\"next\":20`, `\"first\":11,\"next\":21`)
				f.rewrite("OPTIMIZE", false, all)
			}, kind: admin.LyingTag, says: []string{"part-00000-", "version 3"},
		},
		"a lying tag of a file that came back": {
			plant: func(_ *testing.T, f *fixture) {
				a := f.filesOf(3)[0]
				b := a
				b.Tags = map[string]string{checkpoint.TagKey: strings.Replace(a.Tags[checkpoint.TagKey], `"first":10,"next":20`, `"first":11,"next":21`, 1)}
				f.foreign("UPDATE", removeOf(a, true), b)
			}, kind: admin.LyingTag, says: []string{"part-00000-", "version 3"},
		},
		"a DELETE that does not account for what is missing": {
			plant: func(_ *testing.T, f *fixture) {
				f.foreign("DELETE", removeOf(f.filesOf(3)[0], true), f.write("kept.parquet", true, []place{{0, 10}, {0, 13}, {0, 13}}))
			}, kind: admin.LostRows, says: []string{"1 rows are missing", "account for 0"},
		},
		"a lying tag": {
			plant: func(_ *testing.T, f *fixture) { f.edit(3, `\"first\":10,\"next\":20`, `\"first\":11,\"next\":21`) },
			kind:  admin.LyingTag, says: []string{"part-00000-", "version 3"},
		},
		"a tag of no unit": {
			plant: func(_ *testing.T, f *fixture) { f.edit(3, `{\"v\":1,\"unit\":\"`, `{\"v\":1,\"unit\":\"x`) },
			kind:  admin.LyingTag, says: []string{"part-00000-", "no such unit"},
		},
		"rows outside of the spans": {
			plant: func(_ *testing.T, f *fixture) {
				f.edit(3, `"first":10,"next":20,"records":5,"rows":3,"skipped":2,"gaps":5`, `"first":10,"next":19,"records":5,"rows":3,"skipped":2,"gaps":4`,
					`\"first\":10,\"next\":20,\"records\":5,\"rows\":3,\"skipped\":2,\"gaps\":5`, `\"first\":10,\"next\":19,\"records\":5,\"rows\":3,\"skipped\":2,\"gaps\":4`)
			}, kind: admin.OutsideSpan, says: []string{"offset 19"},
		},
		"rows that nobody has taken": {
			plant: func(_ *testing.T, f *fixture) {
				f.foreign("WRITE", f.write("invented.parquet", true, []place{{0, 24}}))
			},
			kind: admin.OutsideSpan, says: []string{"offset 24", "invented.parquet"},
		},
		"an OPTIMIZE that loses a row": {
			plant: func(_ *testing.T, f *fixture) {
				f.rewrite("OPTIMIZE", false, func(p place) bool { return p != place{1, 50} })
			},
			kind: admin.LostRows, says: []string{"topic[1]", "1 of 91 rows", "[9, 100)"},
		},
		"an OPTIMIZE that loses a row, no offsets": {
			setup: setup{columns: "n BIGINT"},
			plant: func(_ *testing.T, f *fixture) {
				f.rewrite("OPTIMIZE", false, func(p place) bool { return p != place{1, 50} })
			},
			kind: admin.LostRows, says: []string{"version 7", "113", "112"},
		},
		"an OPTIMIZE that doubles a row": {
			plant: func(_ *testing.T, f *fixture) {
				a := f.filesOf(3)[0]
				f.foreign("OPTIMIZE", removeOf(a, false), f.write("two.parquet", false, append(f.rows[a.Path], place{0, 13})))
			}, kind: admin.Duplicate, says: []string{"offset 13"},
		},
		"a RESTORE": {
			plant: func(_ *testing.T, f *fixture) { f.foreign("RESTORE", removeOf(f.filesOf(6)[0], true)) },
			kind:  admin.Restored, says: []string{"version 7", "91 rows", "[9, 100)"},
		},
		"spans that can't be read": {
			plant: func(_ *testing.T, f *fixture) { f.edit(3, `"kafkadelta":{"v":1`, `"kafkadelta":{"v":9`) },
			kind:  admin.BrokenRecord, says: []string{"version 3", "newer binary"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := filled(t, tt.setup)
			wantVerdict(t, f.verify(), admin.OK)
			tt.plant(t, f)
			wantFault(t, f.verify(), tt.kind, tt.says...)
		})
	}
}

// TestFaultsAfterCleanup plants faults in tables whose log was cleaned, where tags and rows are all there is.
func TestFaultsAfterCleanup(t *testing.T) {
	for name, tt := range map[string]struct {
		plant func(*testing.T, *fixture)
		kind  admin.Kind
		says  []string
	}{
		"a missing file": {
			func(t *testing.T, f *fixture) { f.check(f.store.Delete(t.Context(), f.live()[0].Path)) }, admin.MissingFile, nil,
		},
		"a txn that went back before": {
			func(t *testing.T, f *fixture) {
				f.foreign("WRITE", delta.Txn{AppID: "events-1", Version: 3})
				f.foreign("WRITE")
				f.cleanLog()
			}, admin.LyingTag, []string{"the txns of version 8 had not reached", "moved back"},
		},
		"a duplicate": {
			func(_ *testing.T, f *fixture) { f.foreign("WRITE", f.write("again.parquet", true, []place{{0, 3}})) }, admin.Duplicate, []string{"offset 3"},
		},
		"a gap after the cleanup": {
			func(_ *testing.T, f *fixture) {
				f.edit(f.commit(take{0, 24, 30, nil, 0}), `"kafkadelta":`, `"elsewhere":`)
			}, admin.LyingTag, []string{"no commit has brought"},
		},
		"a forged txn": {
			func(_ *testing.T, f *fixture) { f.foreign("WRITE", delta.Txn{AppID: "events-0", Version: 3}) }, admin.ForgedTxn, []string{"from 23 to 3"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := filled(t, setup{})
			f.cleanLog()
			tt.plant(t, f)
			wantFault(t, f.verify(), tt.kind, tt.says...)
		})
	}
}

// TestUnverifiable has tables of which too little is left not be called ok.
func TestUnverifiable(t *testing.T) {
	for name, tt := range map[string]struct {
		make func(*testing.T) *fixture
		says string
	}{
		"a unit without rows, cleaned": {
			func(t *testing.T) *fixture { f := filled(t, setup{}); f.cleanLog(); return f }, "what became of 3 offsets in [5, 8)",
		},
		"a txn written back as it is, behind a unit without rows that was cleaned": { // found by the simulation: it was taken for a forged one
			func(t *testing.T) *fixture {
				f := filled(t, setup{})
				f.commit(take{0, 24, 30, []int64{}, 6})
				f.foreign("WRITE", delta.Txn{AppID: "another", Version: 1})
				f.cleanLog()
				f.foreign("WRITE", delta.Txn{AppID: "events-0", Version: 29})
				return f
			}, "what became of",
		},
		"optimized with gaps, cleaned": {
			func(t *testing.T) *fixture {
				f := filled(t, setup{})
				f.rewrite("OPTIMIZE", false, all)
				f.cleanLog()
				return f
			}, "what became of 7 offsets in [0, 24)",
		},
		"optimized without offsets, cleaned": {
			func(t *testing.T) *fixture {
				f := filled(t, setup{columns: "n BIGINT"})
				f.rewrite("OPTIMIZE", false, all)
				f.cleanLog()
				return f
			}, "the rows don't tell their offsets",
		},
		"a file of a unit deleted, cleaned": {
			func(t *testing.T) *fixture {
				f := newFixture(t, setup{columns: withMetadata + ", m BIGINT", partitionBy: []string{"n"}})
				f.commit(take{0, 0, 30, nil, 0}, take{1, 0, 30, nil, 0})
				f.foreign("DELETE", removeOf(f.live()[0], true))
				f.commit(take{0, 30, 40, nil, 0})
				f.cleanLog()
				return f
			}, "the log that would tell who removed them was cleaned",
		},
		"a table of others": {
			func(t *testing.T) *fixture {
				f := newFixture(t, setup{})
				f.check(f.store.Delete(t.Context(), logName(1)))
				return f
			}, "no record of this connector",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := tt.make(t).verify()
			wantVerdict(t, r, admin.Unverifiable)
			if !slices.ContainsFunc(r.Unverified, func(f admin.Finding) bool { return strings.Contains(f.Text, tt.says) }) {
				t.Errorf("nothing says %q: %s", tt.says, show(r))
			}
		})
	}
}

// TestRowsDeletedByOthers: they are not lost, and they are told.
func TestRowsDeletedByOthers(t *testing.T) {
	f := filled(t, setup{})
	f.rewrite("DELETE", true, func(p place) bool { return p.partition != 1 || p.offset < 90 })
	r := f.verify()
	wantVerdict(t, r, admin.OK)
	deleted := map[int32]int64{}
	for _, p := range r.Partitions {
		deleted[p.Partition] = p.Deleted
	}
	if want := map[int32]int64{0: 0, 1: 10}; !maps.Equal(deleted, want) {
		t.Errorf("deleted by others: %v, want %v", deleted, want)
	}
	if len(r.Others) != 1 || r.Others[0].Operation != "DELETE" || r.Others[0].RowsRemoved-r.Others[0].RowsAdded != 10 || !r.Others[0].RowsKnown {
		t.Errorf("the commits of others: %+v", r.Others)
	}
	// What the delete does not account for is lost all the same.
	f = filled(t, setup{})
	f.foreign("DELETE", removeOf(f.filesOf(3)[0], true), f.write("kept.parquet", true, []place{{0, 10}, {0, 13}, {0, -1}}))
	wantVerdict(t, f.verify(), admin.OK) // one deleted, one of nobody inserted
	f.rewrite("OPTIMIZE", false, func(p place) bool { return p.offset != 42 })
	wantFault(t, f.verify(), admin.LostRows, "version 8", "OPTIMIZE")
}

// TestDeletionVectors: rows that one deletes are deleted by others, and a row that was updated is there once.
func TestDeletionVectors(t *testing.T) {
	f := newFixture(t, setup{properties: map[string]string{"delta.enableDeletionVectors": "true"}})
	f.commit(take{0, 0, 40, nil, 0})
	old := f.live()[0]
	dead := old // rows 3, 4, 7, 11, 18 and 29
	dead.DeletionVector = &delta.DeletionVector{
		StorageType: "i", PathOrInlineDv: "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L", SizeInBytes: 44, Cardinality: 6,
	}
	f.foreign("UPDATE", removeOf(old, true), dead, f.write("updated.parquet", true, []place{{0, 3}, {0, 4}}))
	r := f.verify()
	wantVerdict(t, r, admin.OK)
	if p := r.Partitions[0]; p.RowsFound != 36 || p.Deleted != 4 || r.Rows != 36 {
		t.Errorf("36 rows are there and 4 deleted, but it tells %s", show(r))
	}
	f.foreign("WRITE", f.write("again.parquet", true, []place{{0, 5}}))
	wantFault(t, f.verify(), admin.Duplicate, "offset 5")
}

// TestTwoStreams: two streams of one topic, and two generations of one, have each offset once each.
func TestTwoStreams(t *testing.T) {
	f := filled(t, setup{filtered: true})
	f.open(setup{name: "second", filtered: true})
	f.commit(take{0, 0, 7, nil, 0})
	f.rewrite("OPTIMIZE", false, all)
	r := f.verify()
	wantVerdict(t, r, admin.OK)
	f.foreign("WRITE", f.write("again.parquet", true, []place{{0, 3}}))
	wantFault(t, f.verify(), admin.Duplicate, "offset 3")
}

// TestLatePutBelowACleanedLog: a put that comes late into a part of the log that was cleaned is in no snapshot, though it lies right
// before the versions that are left (rule C7). What it tells was told by a later version.
func TestLatePutBelowACleanedLog(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 20, nil, 0})
	f.commit(take{0, 20, 30, nil, 0})
	version := f.snapshot().Version()
	late, err := f.store.Get(t.Context(), logName(version), 0, -1)
	f.check(err)
	text, err := io.ReadAll(late)
	f.check(errors.Join(err, late.Close()))
	f.foreign("WRITE")
	f.commit(take{0, 30, 40, nil, 0})
	f.cleanLog()
	f.commit(take{0, 40, 50, nil, 0})
	wantVerdict(t, f.verify(), admin.OK)
	f.check(f.store.PutIfAbsent(t.Context(), logName(version+1), text))
	r := f.verify()
	wantVerdict(t, r, admin.OK)
	if r.Rows != 50 || r.LogFrom != version+2 {
		t.Errorf("with a late put: %s", show(r))
	}
}

// TestRange verifies some versions only.
func TestRange(t *testing.T) {
	f := filled(t, setup{}) // versions 0 to 6
	f.foreign("WRITE", f.write("again.parquet", true, []place{{0, 13}}))
	f.commit(take{0, 24, 30, nil, 0})
	wantFault(t, f.verify(), admin.Duplicate, "offset 13")
	r := f.verify(admin.Options{Since: -1, Until: 6})
	wantVerdict(t, r, admin.OK)
	if r.Version != 6 || r.Rows != 113 {
		t.Errorf("up to version 6: %s", show(r))
	}
	r = f.verify(admin.Options{Since: 7, Until: -1})
	wantVerdict(t, r, admin.OK)
	if r.Rows != 6 || r.Since == nil || *r.Since != 7 || r.Partitions[0].From != 24 || r.Partitions[0].Next != 30 {
		t.Errorf("from version 7: %s", show(r))
	}
	wantVerdict(t, f.verify(admin.Options{Since: 2, Until: 5}), admin.OK)
	f.rewrite("OPTIMIZE", false, func(p place) bool { return true }) // its file has rows from before version 7
	r = f.verify(admin.Options{Since: 7, Until: -1})
	wantVerdict(t, r, admin.OK)
	if r.Partitions[0].RowsFound != 6 {
		t.Errorf("from version 7, after an OPTIMIZE: %s", show(r))
	}
	f.edit(8, `\"first\":24`, `\"first\":23`)
	wantFault(t, f.verify(admin.Options{Since: 7, Until: -1}), admin.BrokenRecord, "gaps are written")
	if _, err := admin.Verify(t.Context(), f.store, admin.Options{Since: 100, Until: -1}); err == nil || !strings.Contains(err.Error(), "0 to 9") {
		t.Errorf("from a version that is not there: %v", err)
	}
}

// TestTakenOver: a table that another program filled before, by the same app ids, begins where that one ended.
func TestTakenOver(t *testing.T) {
	f := &fixture{t: t, store: memory.New(), name: stream, topic: topic, rows: map[string][]place{}}
	schema, err := delta.ParseDDL(withMetadata)
	f.check(err)
	f.check(delta.Create(t.Context(), f.store, delta.CreateOptions{Schema: schema, Now: time.Now, Engine: "other"}))
	f.foreign("WRITE", delta.Txn{AppID: "events-0", Version: 5})
	f.foreign("WRITE", delta.Txn{AppID: "events-0", Version: 9})
	f.open(setup{})
	f.commit(take{0, 10, 20, nil, 0}, take{1, 0, 3, nil, 0})
	r := f.verify()
	wantVerdict(t, r, admin.OK)
	if p := r.Partitions[0]; p.From != 10 || !p.FromKnown {
		t.Errorf("the partition that was taken over: %+v", p)
	}
}
