package sink_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/storage/faultstore"
)

// appender opens the table as `table append` does: for no stream.
func (b *bench) appender() *sink.Table { b.t.Helper(); return b.appenderWith(sink.Events{}) }

func (b *bench) appenderWith(events sink.Events) *sink.Table {
	b.t.Helper()
	schema, err := delta.ParseDDL(b.columns)
	b.check(err)
	table, err := sink.Open(b.t.Context(), b.store, b.cfg, sink.Options{
		Create: schema, Engine: "kafkadelta/test", Now: b.now, Log: slog.New(slog.DiscardHandler), Events: events,
	})
	b.check(err)
	return table
}

// rows writes a unit for Append.
func (b *bench) rows(table *sink.Table, n int64) *sink.Unit {
	b.t.Helper()
	layout, err := table.Layout(b.t.Context())
	b.check(err)
	w := table.NewWriter(layout)
	rb := numbers(layout.Schema, 0, n)
	defer rb.Release()
	b.check(w.Write(b.t.Context(), rb))
	u, err := w.FinishAppend()
	b.check(err)
	return u
}

// wantAppend appends a unit and checks what Append answers.
func (b *bench) wantAppend(table *sink.Table, u *sink.Unit, app sink.AppTxn, version int64, already bool) {
	b.t.Helper()
	got, gotAlready, err := table.Append(b.t.Context(), u, app)
	if err != nil || got != version || gotAlready != already {
		b.t.Fatalf("Append answered %d, already %v, error %v; want %d, already %v", got, gotAlready, err, version, already)
	}
}

// holds checks the version, the rows and the number of data files, of which none may be of a unit that did not land.
func (b *bench) holds(version, rows int64, files int) {
	b.t.Helper()
	if b.version() != version || b.consistent() != rows || len(b.files()) != files {
		b.t.Errorf("the table is at version %d with %d rows, and the store has %d data files; want %d, %d and %d",
			b.version(), b.consistent(), len(b.files()), version, rows, files)
	}
}

func jobTxn(version string) string { return `{"txn":{"appId":"job","version":` + version + `}}` }

func TestAppendLandsOneVersion(t *testing.T) {
	b := newBench(t)
	table := b.appender()
	b.wantAppend(table, b.rows(table, 3), sink.AppTxn{}, 1, false)
	b.wantAppend(table, b.rows(table, 4), sink.AppTxn{}, 2, false)
	b.holds(2, 7, 2)
	info := b.snapshot().Info()
	if info.Operation != "WRITE" || info.OperationMetrics["numOutputRows"] != "4" {
		t.Errorf("the history shows %+v", info)
	}
	for txn := range b.snapshot().Txns() {
		t.Errorf("an append without app id wrote the txn %v", txn)
	}
}

func TestAppendWithAnAppIDLandsOnce(t *testing.T) {
	b := newBench(t)
	table := b.appender()
	job := func(version int64) sink.AppTxn { return sink.AppTxn{ID: "job", Version: version} }
	b.wantAppend(table, b.rows(table, 3), job(0), 1, false)
	b.wantAppend(table, b.rows(table, 3), job(0), 0, true)
	b.wantAppend(table, b.rows(table, 3), job(5), 2, false)
	b.wantAppend(table, b.rows(table, 3), job(4), 5, true)
	b.wantAppend(b.appender(), b.rows(table, 3), job(5), 5, true)
	b.wantAppend(table, b.rows(table, 3), sink.AppTxn{ID: "other", Version: 0}, 3, false)
	b.wantAppend(table, b.rows(table, 0), job(6), 4, false) // no rows: the txn alone
	b.holds(4, 9, 3)
	for app, want := range map[sink.AppTxn]bool{job(6): true, job(7): false, {ID: "new"}: false, {}: false} {
		if _, already, err := table.Applied(t.Context(), app); err != nil || already != want {
			t.Errorf("Applied(%+v) answered %v, error %v; want %v", app, already, err, want)
		}
	}
}

func TestAppendWithTheAppIDOfAStreamIsRefused(t *testing.T) {
	b := newBench(t)
	b.owner(2)
	table := b.appender()
	for id, refused := range map[string]bool{
		stream + "-0": true, stream + "-7": true, checkpoint.IdentityAppID(stream, identity): true,
		stream: false, stream + "-07": false, stream + "-x": false, "other-0": false,
	} {
		_, _, err := table.Applied(t.Context(), sink.AppTxn{ID: id})
		if errors.As(err, new(*checkpoint.RefusedError)) != refused {
			t.Errorf("the app id %q is answered %v, refused should be %v", id, err, refused)
		}
	}
}

// TestAppendThatLosesARace puts a winner before the append's first put.
func TestAppendThatLosesARace(t *testing.T) {
	add := `{"add":{"path":"x.parquet","partitionValues":{},"size":1,"modificationTime":1,"dataChange":true}}`
	for name, tt := range map[string]struct {
		winner  []string
		version int64
		already bool
		files   int
	}{
		"a stranger":                        {[]string{stranger, add}, 2, false, 1},
		"the same app id and version":       {[]string{stranger, add, jobTxn("5")}, 5, true, 0},
		"the same app id, a later version":  {[]string{stranger, jobTxn("6")}, 6, true, 0},
		"the same app id, an older version": {[]string{stranger, jobTxn("4")}, 2, false, 1},
		"RESTORE":                           {[]string{`{"commitInfo":{"operation":"RESTORE"}}`}, 2, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			table := b.appender()
			u := b.rows(table, 3)
			b.beforePut(func() { b.foreign(tt.winner...) })
			b.wantAppend(table, u, sink.AppTxn{ID: "job", Version: 5}, tt.version, tt.already)
			if len(b.files()) != tt.files {
				t.Errorf("the data files are %v, want %d", b.files(), tt.files)
			}
		})
	}
	t.Run("a new schema", func(t *testing.T) {
		b := newBench(t)
		table := b.appender()
		u := b.rows(table, 3)
		b.beforePut(func() { b.alter(b.columnsTo("n BIGINT NOT NULL")) })
		if _, _, err := table.Append(t.Context(), u, sink.AppTxn{ID: "job"}); !errors.Is(err, sink.ErrRewrite) {
			t.Fatalf("Append answered %v, want ErrRewrite", err)
		}
		b.holds(1, 0, 0)
		b.wantAppend(table, b.rows(table, 3), sink.AppTxn{ID: "job"}, 2, false)
		b.holds(2, 3, 1)
	})
}

// TestAppendWhoseAnswerIsLost reads back what became of it (rule C5).
func TestAppendWhoseAnswerIsLost(t *testing.T) {
	for name, tt := range map[string]struct {
		put        faultstore.Action
		beforePut2 []string
		version    int64
		already    bool
		rows       int64
	}{
		"had landed":                          {faultstore.LandThenFail(nil), nil, 1, false, 3},
		"had not landed":                      {faultstore.Fail(nil), nil, 1, false, 3},
		"lands late":                          {faultstore.FailThenLand(nil), nil, 1, false, 3},
		"a stranger took the version":         {faultstore.FailThenLand(nil), []string{stranger}, 2, false, 3},
		"its twin took the version meanwhile": {faultstore.FailThenLand(nil), []string{stranger, jobTxn("5")}, 5, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				table := b.appender()
				u := b.rows(table, 3)
				b.store.SetPlan(faultstore.Once(isPut, tt.put))
				puts := 0
				b.store.SetHook(func(op faultstore.Op) {
					if isPut(op) {
						if puts++; puts == 2 && tt.beforePut2 != nil {
							b.foreign(tt.beforePut2...)
						}
					}
				})
				b.wantAppend(table, u, sink.AppTxn{ID: "job", Version: 5}, tt.version, tt.already)
				b.store.LandPostponed()
				if rows := b.consistent(); rows != tt.rows {
					t.Errorf("the table holds %d rows, want %d", rows, tt.rows)
				}
			})
		})
	}
}

func TestAppendThatIsStoppedWhileAnAnswerIsOutstandingKeepsItsFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		table := b.appender()
		u := b.rows(table, 3)
		b.store.SetPlan(faultstore.When(isPut, faultstore.FailThenLand(nil)))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, _, err := table.Append(ctx, u, sink.AppTxn{ID: "job", Version: 5}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Append answered %v, want the context's error", err)
		}
		b.want(u, sink.Unresolved)
		table.Discard(t.Context(), []*sink.Unit{u})
		b.store.SetPlan(nil)
		b.store.LandPostponed()
		b.holds(1, 3, 1)
		table = b.appender()
		b.wantAppend(table, b.rows(table, 3), sink.AppTxn{ID: "job", Version: 5}, 5, true) // the same, run again
		b.holds(1, 3, 1)
	})
}

func TestAppendThatIsStoppedBetweenTwoAttemptsLeavesNothing(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	table := b.appenderWith(sink.Events{RaceLost: func(int64) { cancel() }})
	u := b.rows(table, 3)
	b.beforePut(func() { b.foreign(stranger) })
	if _, _, err := table.Append(ctx, u, sink.AppTxn{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("Append answered %v, want the context's error", err)
	}
	b.want(u, sink.Pending)
	table.Discard(t.Context(), []*sink.Unit{u})
	b.holds(1, 0, 0)
}
