package sink_test

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/storage/faultstore"
)

func TestCommitLandsUnitsAndMovesTheOffsets(t *testing.T) {
	b := newBench(t)
	table := b.owner(2)
	u := b.unit(table, span(0, 0, 3), span(1, 0, 4))
	b.commit(table, u)
	b.want(u, sink.Landed)
	if b.txn(0) != 2 || b.txn(1) != 3 {
		t.Errorf("the txns are %d and %d, want 2 and 3", b.txn(0), b.txn(1))
	}
	if rows := b.consistent(); rows != 7 {
		t.Errorf("the table holds %d rows, want 7", rows)
	}
	info := b.snapshot().Info()
	record, err := checkpoint.DecodeCommit(info.Fields[checkpoint.CommitInfoKey])
	b.check(err)
	if len(record.Units) != 1 || record.Units[0].Unit != u.ID || len(record.Units[0].Spans) != 2 {
		t.Errorf("commitInfo tells of %+v", record)
	}
	b.commit(table, b.unit(table, span(0, 3, 1)))
	if b.txn(0) != 3 {
		t.Errorf("the txn is %d, want 3", b.txn(0))
	}
}

func TestLostRaceAgainstAStrangerIsTriedAtTheNextVersion(t *testing.T) {
	for name, winner := range map[string][]string{
		"blind append":     {`{"commitInfo":{"operation":"WRITE"}}`, `{"add":{"path":"x.parquet","partitionValues":{},"size":1,"modificationTime":1,"dataChange":true}}`},
		"OPTIMIZE":         {`{"commitInfo":{"operation":"OPTIMIZE"}}`, `{"remove":{"path":"x.parquet","dataChange":false}}`, `{"add":{"path":"y.parquet","partitionValues":{},"size":1,"modificationTime":1,"dataChange":false}}`},
		"DELETE":           {`{"commitInfo":{"operation":"DELETE"}}`, `{"remove":{"path":"x.parquet","dataChange":true}}`},
		"another stream":   {`{"txn":{"appId":"other-0","version":9}}`},
		"a longer name":    {`{"txn":{"appId":"events-0-0","version":9}}`},
		"other partition":  {`{"txn":{"appId":"events-7","version":9}}`},
		"no commitInfo":    {`{"txn":{"appId":"x","version":1}}`},
		"a strange action": {`{"future":{"a":1}}`},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			table := b.owner(1)
			u := b.unit(table, span(0, 0, 3))
			b.beforePut(func() { b.foreign(winner...) })
			b.commit(table, u)
			b.want(u, sink.Landed)
			if got := b.version(); got != 3 {
				t.Errorf("the unit landed in version %d, want 3", got)
			}
		})
	}
}

func TestAnotherWriterThatMovesTheOffsetFences(t *testing.T) {
	for name, value := range map[string]int64{"forward": 9, "to the same value": 2, "back": 0} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			table := b.owner(2)
			b.commit(table, b.unit(table, span(0, 0, 3)))
			u := b.unit(table, span(0, 3, 3), span(1, 0, 3))
			b.beforePut(func() { b.foreign(txnLine(0, value)) })
			b.commit(table, u)
			b.want(u, sink.Dropped)
			if files := b.files(); len(files) != 1 {
				t.Errorf("files of a dropped unit stay: %v", files)
			}
			fenced, _, err := table.Follow(t.Context())
			b.check(err)
			if len(fenced) != 1 || fenced[0] != partition(0) {
				t.Errorf("fenced are %v, want partition 0 alone", fenced)
			}
			if next := b.claim(table, 0, 1); next[0] != value+1 || next[1] != 0 {
				t.Errorf("the partitions go on at %v, want %d and 0", next, value+1)
			}
			u = b.unit(table, span(0, value+1, 3))
			b.commit(table, u)
			b.want(u, sink.Landed)
		})
	}
}

func TestFenceSeenByFollowDropsTheNextCommit(t *testing.T) {
	b := newBench(t)
	table := b.owner(1)
	b.foreign(txnLine(0, -1))
	if fenced, _, err := table.Follow(t.Context()); err != nil || len(fenced) != 1 {
		t.Fatalf("fenced are %v, error %v", fenced, err)
	}
	u := b.unit(table, span(0, 0, 3))
	b.commit(table, u)
	b.want(u, sink.Dropped)
	if got := b.version(); got != 2 {
		t.Errorf("the table is at version %d, want 2", got)
	}
}

func TestFenceDropsOnlyTheUnitsThatItConcerns(t *testing.T) {
	b := newBench(t)
	table := b.owner(2)
	u0, u1 := b.unit(table, span(0, 0, 3)), b.unit(table, span(1, 0, 3))
	b.beforePut(func() { b.foreign(txnLine(0, 5)) })
	b.commit(table, u0, u1)
	b.want(u0, sink.Dropped)
	b.want(u1, sink.Landed)
	if rows := b.consistent(); rows != 3 {
		t.Errorf("the table holds %d rows, want 3", rows)
	}
	if files := b.files(); len(files) != 1 {
		t.Errorf("the files are %v, want those of the landed unit", files)
	}
}

func TestSchemaChangeOfAWinnerDropsTheUnitAndGivesANewLayout(t *testing.T) {
	b := newBench(t)
	table := b.owner(1)
	before, err := table.Layout(t.Context())
	b.check(err)
	u := b.unit(table, span(0, 0, 3))
	b.beforePut(func() { b.alter(b.columnsTo("n BIGINT, extra STRING NOT NULL")) })
	b.commit(table, u)
	b.want(u, sink.Dropped)
	if files := b.files(); len(files) != 0 {
		t.Errorf("files of a dropped unit stay: %v", files)
	}
	after, err := table.Layout(t.Context())
	b.check(err)
	if after == before || after.Schema.NumFields() != 2 {
		t.Errorf("the layout is still %v", after.Schema)
	}
	u = b.unitFor(table, before, span(0, 0, 3)) // from a lane that has not heard of it
	b.commit(table, u)
	b.want(u, sink.Dropped)
	b.alter(b.columnsTo("n BIGINT, extra STRING"))
	_, _, err = table.Follow(t.Context())
	b.check(err)
	u = b.unit(table, span(0, 0, 3))
	b.commit(table, u)
	b.want(u, sink.Landed)
}

func TestPropertyChangeOfAWinnerKeepsUnitsAndLayout(t *testing.T) {
	b := newBench(t)
	table := b.owner(1)
	before, err := table.Layout(t.Context())
	b.check(err)
	u := b.unit(table, span(0, 0, 3))
	b.beforePut(func() {
		b.alter(func(m *delta.Metadata) { m.Configuration = map[string]string{"a": "b"}; m.Description = "new" })
	})
	b.commit(table, u)
	b.want(u, sink.Landed)
	if after, _ := table.Layout(t.Context()); after != before {
		t.Error("the layout is another one")
	}
}

func TestWinnerThatAsksForWhatIsNotHonouredIsAFinalError(t *testing.T) {
	for name, lines := range map[string][]string{
		"RESTORE":       {`{"commitInfo":{"operation":"RESTORE"}}`},
		"REPLACE TABLE": {`{"commitInfo":{"operation":"REPLACE TABLE AS SELECT"}}`},
		"a feature":     {`{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["fromTheFuture"],"writerFeatures":["fromTheFuture"]}}`},
		"not JSON":      {`{"txn":`},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			table := b.owner(1)
			u := b.unit(table, span(0, 0, 3))
			b.beforePut(func() {
				b.check(b.memory.PutIfAbsent(t.Context(), logFile(2), []byte(strings.Join(lines, "\n"))))
			})
			err := table.Commit(t.Context(), []*sink.Unit{u})
			if !errors.As(err, new(*sink.Error)) {
				t.Fatalf("the commit ended with %v, want a *sink.Error", err)
			}
			if u.State() == sink.Landed {
				t.Error("the unit landed")
			}
			if _, err := b.memory.Get(t.Context(), logFile(3), 0, -1); !errors.Is(err, fs.ErrNotExist) {
				t.Error("a version was made after it")
			}
		})
	}
}

// TestAnotherTablesId: where files went with the id, another table is in this one's place. An id alone, as older versions of delta-rs made it anew with a new
// schema, leaves all rows, and the stream goes on; so does a worker that starts then, also where the log of it was cleaned (rules C1c, A6a).
func TestAnotherTablesId(t *testing.T) {
	another := func(m *delta.Metadata) { m.ID += "-another" }
	b := newBench(t)
	table := b.owner(1)
	b.commit(table, b.unit(table, span(0, 0, 3)))
	u := b.unit(table, span(0, 3, 3))
	b.beforePut(func() { b.alter(another) })
	b.commit(table, u)
	if b.consistent() != 6 {
		t.Error("rows lack")
	}
	b.check(b.open().Pin(t.Context(), pins(1)))
	b.alter(another)
	b.check(b.open().Pin(t.Context(), pins(1)))
	b.clean()
	b.check(b.open().Pin(t.Context(), pins(1)))
	next := b.unit(table, span(0, 6, 3))
	b.commit(table, next) // the worker has not read what was cleaned
	replaced := b.removeAll()
	u = b.unit(table, span(0, 9, 3))
	b.beforePut(func() { b.alter(another, replaced...) })
	if err := table.Commit(t.Context(), []*sink.Unit{u}); !errors.As(err, new(*sink.Error)) {
		t.Errorf("the commit ended with %v, want a *sink.Error", err)
	}
	start := func() {
		t.Helper()
		var refused *sink.Error
		if err := b.open().Pin(t.Context(), pins(1)); !errors.As(err, &refused) || !strings.Contains(err.Error(), "it was replaced since") || !strings.Contains(refused.Hint, "connector rewind") {
			t.Errorf("a new worker is told %v", err)
		}
	}
	start()
	b.clean()
	start()
}

func TestUnknownOutcomes(t *testing.T) {
	lost := errors.New("connection reset")
	t.Run("had landed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			table := b.owner(1)
			u := b.unit(table, span(0, 0, 3))
			b.store.SetPlan(faultstore.Once(isPut, faultstore.LandThenFail(lost)))
			b.commit(table, u)
			b.want(u, sink.Landed)
			if b.version() != 2 || b.consistent() != 3 {
				t.Errorf("version %d, %d rows; want 2 and 3", b.version(), b.consistent())
			}
		})
	})
	t.Run("had not landed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			table := b.owner(1)
			u := b.unit(table, span(0, 0, 3))
			b.store.SetPlan(faultstore.Once(isPut, faultstore.Fail(lost)))
			b.commit(table, u)
			b.want(u, sink.Landed)
			if b.version() != 2 || b.consistent() != 3 {
				t.Errorf("version %d, %d rows; want 2 and 3", b.version(), b.consistent())
			}
		})
	})
	t.Run("lands late, after the second attempt", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			table := b.owner(1)
			u := b.unit(table, span(0, 0, 3))
			b.store.SetPlan(faultstore.Once(isPut, faultstore.FailThenLand(lost)))
			b.commit(table, u)
			b.want(u, sink.Landed)
			if answers := b.store.LandPostponed(); len(answers) != 1 || !errors.Is(answers[0], fs.ErrExist) {
				t.Errorf("the late put was answered %v, want fs.ErrExist", answers)
			}
			b.commit(table, b.unit(table, span(0, 3, 1)))
			if rows := b.consistent(); rows != 4 {
				t.Errorf("the table holds %d rows, want 4", rows)
			}
		})
	})
	t.Run("lands late, before the second attempt", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			table := b.owner(1)
			u := b.unit(table, span(0, 0, 3))
			b.store.SetPlan(faultstore.Once(isPut, faultstore.FailThenLand(lost)))
			puts := 0
			b.store.SetHook(func(op faultstore.Op) {
				if isPut(op) {
					if puts++; puts == 2 {
						b.store.LandPostponed()
					}
				}
			})
			b.commit(table, u)
			b.want(u, sink.Landed)
			if b.version() != 2 || b.consistent() != 3 {
				t.Errorf("version %d, %d rows; want 2 and 3", b.version(), b.consistent())
			}
		})
	})
	t.Run("had not landed, and a stranger took the version", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			table := b.owner(1)
			u := b.unit(table, span(0, 0, 3))
			b.store.SetPlan(faultstore.Once(isPut, faultstore.FailThenLand(lost)))
			puts := 0
			b.store.SetHook(func(op faultstore.Op) {
				if isPut(op) {
					if puts++; puts == 2 {
						b.foreign(`{"commitInfo":{"operation":"WRITE"}}`)
					}
				}
			})
			b.commit(table, u)
			b.want(u, sink.Landed)
			b.store.LandPostponed()
			if b.version() != 3 || b.consistent() != 3 {
				t.Errorf("version %d, %d rows; want 3 and 3", b.version(), b.consistent())
			}
		})
	})
	t.Run("had not landed, and the next owner took the version", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			table := b.owner(1)
			u := b.unit(table, span(0, 0, 3))
			b.store.SetPlan(faultstore.Once(isPut, faultstore.FailThenLand(lost)))
			puts := 0
			b.store.SetHook(func(op faultstore.Op) {
				if isPut(op) {
					if puts++; puts == 2 {
						b.foreign(txnLine(0, 2))
					}
				}
			})
			b.commit(table, u)
			b.want(u, sink.Dropped)
			b.store.LandPostponed()
			if b.version() != 2 || b.consistent() != 0 {
				t.Errorf("version %d, %d rows; want 2 and 0", b.version(), b.consistent())
			}
			if files := b.files(); len(files) != 0 {
				t.Errorf("files of a unit that was rejected for good stay: %v", files)
			}
		})
	})
}

// TestUnresolvedUnit lets go of a commit whose answer is lost, at its caller's deadline or once its files are an hour old (rule C8). They must
// stay whatever happens later.
func TestUnresolvedUnit(t *testing.T) {
	for _, tt := range []struct {
		name  string
		limit time.Duration // of the caller; 0 for none
		lands bool
	}{
		{"never lands", 5 * time.Second, false},
		{"lands after its worker has let go", 5 * time.Second, true},
		{"never lands, for an hour", 0, false},
		{"lands after an hour", 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				table, lands := b.owner(1), tt.lands
				u := b.unit(table, span(0, 0, 3))
				b.store.SetPlan(faultstore.When(isPut, faultstore.FailThenLand(nil)))
				ctx, cancel := context.WithCancel(t.Context())
				if tt.limit > 0 {
					ctx, cancel = context.WithTimeout(t.Context(), tt.limit)
				} else {
					time.Sleep(50 * time.Minute)
				}
				defer cancel()
				begun := time.Now()
				b.check(table.Commit(ctx, []*sink.Unit{u}))
				b.want(u, sink.Unresolved)
				if took := time.Since(begun); took > 11*time.Minute {
					t.Errorf("it was let go of after %v, when its files were older than an hour", took)
				}
				table.Discard(t.Context(), []*sink.Unit{u})
				if files := b.files(); len(files) != 1 {
					t.Fatalf("files of a unit that may still land are gone: %v", files)
				}
				b.store.SetPlan(nil)
				next := b.claim(table, 0)[0]
				if lands {
					b.store.LandPostponed()
				}
				u2 := b.unit(table, span(0, next, 5))
				b.commit(table, u2)
				want := int64(5)
				if lands {
					b.want(u2, sink.Dropped)
					want = 3
				} else {
					b.want(u2, sink.Landed)
					b.store.LandPostponed()
				}
				if rows := b.consistent(); rows != want {
					t.Errorf("the table holds %d rows, want %d", rows, want)
				}
				if next := b.claim(table, 0)[0]; next != want {
					t.Errorf("the partition goes on at %d, want %d", next, want)
				}
			})
		})
	}
}

// TestAPutWithoutFilesIsLetGoOf: a pin, a refresh or a change of the schema has no file that gets old, and is begun again after an hour, on
// top of what the log is by then.
func TestAPutWithoutFilesIsLetGoOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		table := b.open()
		b.store.SetPlan(faultstore.When(isPut, faultstore.FailThenLand(nil)))
		mends := time.AfterFunc(90*time.Minute, func() {
			b.foreign(txnLine(0, 41)) // another worker's pin, in the place of the one that is open
			b.store.SetPlan(nil)
		})
		defer mends.Stop()
		b.check(table.Pin(t.Context(), pins(2)))
		b.store.LandPostponed()
		if got, want := b.pinned(), map[int32]int64{0: 41, 1: -1}; !maps.Equal(got, want) {
			t.Errorf("the txns are %v, want %v", got, want)
		}
	})
}

func TestCommitThatIsNotPermittedLeavesTheFiles(t *testing.T) {
	b := newBench(t)
	table := b.owner(1)
	u := b.unit(table, span(0, 0, 3))
	b.store.SetPlan(faultstore.Once(isPut, faultstore.LandThenFail(fs.ErrPermission)))
	err := table.Commit(t.Context(), []*sink.Unit{u})
	var final *sink.Error
	if !errors.As(err, &final) || final.Hint == "" {
		t.Fatalf("the commit ended with %v, want a *sink.Error with a hint", err)
	}
	table.Discard(t.Context(), []*sink.Unit{u})
	if rows := b.consistent(); rows != 3 {
		t.Errorf("the table holds %d rows, want 3", rows)
	}
}

func TestUnitThatWasNeverSentIsDeleted(t *testing.T) {
	b := newBench(t)
	table := b.owner(1)
	u := b.unit(table, span(0, 0, 3))
	table.Discard(t.Context(), []*sink.Unit{u})
	b.want(u, sink.Dropped)
	if files := b.files(); len(files) != 0 {
		t.Errorf("files of a unit that was never sent stay: %v", files)
	}
}

func TestSpansThatDoNotContinueTheTableAreDropped(t *testing.T) {
	b := newBench(t)
	table := b.owner(1)
	for name, first := range map[string]int64{"a hole before it": 2, "far ahead": 1000} {
		u := b.unit(table, span(0, first, 3))
		b.commit(table, u)
		if u.State() != sink.Dropped {
			t.Errorf("%s: the unit is %v, want dropped", name, u.State())
		}
	}
	b.commit(table, b.unit(table, span(0, 0, 3)))
	u := b.unit(table, span(0, 0, 3)) // the same again
	b.commit(table, u)
	b.want(u, sink.Dropped)
	if rows := b.consistent(); rows != 3 {
		t.Errorf("the table holds %d rows, want 3", rows)
	}
}

func TestUnclaimedAndReleasedPartitionsAreDropped(t *testing.T) {
	b := newBench(t)
	table := b.owner(2)
	b.check(table.Release(t.Context(), []checkpoint.Partition{partition(1)}))
	u0, u1 := b.unit(table, span(0, 0, 1)), b.unit(table, span(1, 0, 1))
	b.commit(table, u1, u0)
	b.want(u0, sink.Landed)
	b.want(u1, sink.Dropped)
}

// TestTwoUnitsOfOnePartition: two lanes never hold one partition in one flush, so that the second is refused (C3), and a
// unit on top of a dropped one is dropped (C9).
func TestTwoUnitsOfOnePartition(t *testing.T) {
	t.Run("in one commit", func(t *testing.T) {
		b := newBench(t)
		table := b.owner(1)
		u1, u2 := b.unit(table, span(0, 0, 2)), b.unit(table, span(0, 2, 2))
		b.commit(table, u1, u2)
		b.want(u1, sink.Landed)
		b.want(u2, sink.Dropped)
		u3 := b.unit(table, span(0, 0, 2))
		u4 := b.unit(table, span(0, 2, 2))
		u5 := b.unit(table, span(0, 2, 2))
		b.commit(table, u3, u4, u5)
		b.want(u3, sink.Dropped)
		b.want(u4, sink.Landed)
		b.want(u5, sink.Dropped)
	})
	t.Run("after a dropped one", func(t *testing.T) {
		b := newBench(t)
		table := b.owner(1)
		u1, u2 := b.unit(table, span(0, 0, 2)), b.unit(table, span(0, 2, 2))
		b.beforePut(func() { b.foreign(txnLine(0, -1)) })
		b.commit(table, u1)
		b.want(u1, sink.Dropped)
		b.claim(table, 0)
		b.commit(table, u2)
		b.want(u2, sink.Dropped)
		if rows := b.consistent(); rows != 0 {
			t.Errorf("the table holds %d rows, want none", rows)
		}
	})
	t.Run("one after the other", func(t *testing.T) {
		b := newBench(t)
		table := b.owner(1)
		u1, u2 := b.unit(table, span(0, 0, 2)), b.unit(table, span(0, 2, 2))
		b.commit(table, u1)
		b.commit(table, u2)
		b.want(u2, sink.Landed)
		if rows := b.consistent(); rows != 4 {
			t.Errorf("the table holds %d rows, want 4", rows)
		}
	})
}

func TestFinishRefusesSpansThatDoNotTellTheRows(t *testing.T) {
	b := newBench(t)
	table := b.owner(1)
	layout, err := table.Layout(t.Context())
	b.check(err)
	w := table.NewWriter(layout)
	rb := numbers(layout.Schema, 0, 3)
	defer rb.Release()
	b.check(w.Write(t.Context(), rb))
	if _, err := w.Finish([]checkpoint.Span{span(0, 0, 2)}); !errors.As(err, new(*sink.Error)) {
		t.Errorf("Finish answered %v, want a *sink.Error", err)
	}
	w.Abort(t.Context())
	if files := b.files(); len(files) != 0 {
		t.Errorf("files stay after Abort: %v", files)
	}
}
