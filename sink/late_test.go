package sink_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/storage/faultstore"
)

// late has the next put of a version take longer than anybody believes in its answer, while others go on: they make the version,
// the one after it, and clean up the first, whose name is free again (rule C7).
func (b *bench) late(then string) {
	b.beforePut(func() {
		v := b.version() + 1
		b.check(b.memory.PutIfAbsent(b.t.Context(), logFile(v+1), []byte(`{"commitInfo":{"operation":"`+then+`"}}`+"\n")))
		b.passed.Add(int64(61 * time.Second))
	})
}

func TestAnswerThatComesTooLateIsNotBelieved(t *testing.T) {
	b := newBench(t)
	table := b.owner(1)
	u := b.unit(table, span(0, 0, 3))
	b.late("WRITE")
	b.commit(table, u)
	b.want(u, sink.Dropped)
	if len(b.files()) != 1 {
		t.Error("the files of a unit that may be in the table are gone")
	}
	if next := b.claim(table, 0); next[0] != b.txn(0)+1 {
		t.Errorf("the partition goes on at %d, and its txn is %d", next[0], b.txn(0))
	}
}

// TestLateAnswerHidesNoRestore: the version behind the late one is a RESTORE, which a worker that opens the log anew does not read
// (rule A6b). Its next commit would hide it from every start.
func TestLateAnswerHidesNoRestore(t *testing.T) {
	b := newBench(t)
	table := b.owner(1)
	b.commit(table, b.unit(table, span(0, 0, 3)))
	b.late("RESTORE")
	err := table.Commit(t.Context(), []*sink.Unit{b.unit(table, span(0, 3, 3))})
	if err == nil || !strings.Contains(err.Error(), "RESTORE") {
		t.Errorf("the commit ends with %v, want a refusal that names the RESTORE", err)
	}
}

// TestLateAnswerOfTheNewestVersion is believed, since a listing shows it.
func TestLateAnswerOfTheNewestVersion(t *testing.T) {
	b := newBench(t)
	table := b.owner(1)
	u := b.unit(table, span(0, 0, 3))
	b.beforePut(func() { b.passed.Add(int64(61 * time.Second)) })
	b.commit(table, u)
	b.want(u, sink.Landed)
}

// TestTheNewestIsKnownSinceThePut has the answer of a put take 55 s, in which others go on. What they made may be cleaned a minute after that, when the answer is 50 s old: the
// next put, into the hole, is not to be believed.
func TestTheNewestIsKnownSinceThePut(t *testing.T) {
	b := newBench(t)
	table := b.owner(1)
	b.beforePut(func() { b.passed.Add(int64(55 * time.Second)) })
	b.commit(table, b.unit(table, span(0, 0, 3)))
	next := b.unit(table, span(0, 3, 3))
	stands := b.version()
	for range 2 {
		b.foreign(stranger)
	}
	b.logCheckpoint(stands, stands+1)
	b.passed.Add(-int64(10 * time.Second)) // that was a minute since the answer
	b.commit(table, next)
	b.want(next, sink.Dropped)
}

func TestLateAnswerOfAnAppend(t *testing.T) {
	for id, want := range map[string]string{"": "table history", "app": ""} {
		b := newBench(t)
		table := b.appenderWith(sink.Events{})
		u := b.rows(table, 3)
		b.late("WRITE")
		_, already, err := table.Append(t.Context(), u, sink.AppTxn{ID: id, Version: 1})
		if want == "" && (err != nil || !already) {
			t.Errorf("with an app id the append ends with %v, already %v; want the txn's answer", err, already)
		}
		if want != "" && (!errors.Is(err, delta.ErrMissingCommit) || !strings.Contains(err.Error(), want) || u.State() != sink.Unresolved) {
			t.Errorf("without an app id the append ends with %v, %v; want it unresolved", err, u.State())
		}
		if rows := b.consistent(); rows != 3 {
			t.Errorf("the table has %d rows, want 3", rows)
		}
	}
}

// TestVersionThatWasReplacedUnderAnIdleWorker has a worker read the log on after more than a minute (rule C2a). Where the version
// that it stands on is another's by now, the log was cleaned and a late put took the place: nothing after it proves anything.
func TestVersionThatWasReplacedUnderAnIdleWorker(t *testing.T) {
	for name, tt := range map[string]struct {
		idle     time.Duration
		replaced bool
		fenced   int
	}{
		"replaced":              {61 * time.Second, true, 1},
		"as it was":             {61 * time.Second, false, 0},
		"known a moment before": {50 * time.Second, true, 0}, // cleaning takes nothing so young
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			table := b.owner(1)
			if tt.replaced {
				name := logFile(b.version())
				b.check(b.memory.Put(t.Context(), name, bytes.Replace(b.read(name), []byte(`"txnId":"`), []byte(`"txnId":"x`), 1)))
			}
			b.foreign(`{"commitInfo":{"operation":"WRITE"}}`)
			b.passed.Add(int64(tt.idle))
			fenced, _, err := table.Follow(t.Context())
			b.check(err)
			if len(fenced) != tt.fenced {
				t.Errorf("%d partitions are fenced, want %d", len(fenced), tt.fenced)
			}
		})
	}
}

// TestALatePutArrivesWhileItsVersionIsLookedFor has a late put take the place of a version that was cleaned after a worker has found it empty, and before it lists the
// log to see why: what it finds there then proves nothing either (rule C2a).
func TestALatePutArrivesWhileItsVersionIsLookedFor(t *testing.T) {
	b := newBench(t)
	table := b.owner(1)
	stands := b.version()
	b.foreign(stranger)
	b.foreign(stranger)
	b.logCheckpoint(stands, stands+1)
	arrived := false
	b.store.SetHook(func(op faultstore.Op) {
		if op.Method == faultstore.MethodList && !arrived {
			arrived = true
			b.check(b.memory.Put(t.Context(), logFile(stands+1), []byte(stranger)))
		}
	})
	fenced, _, err := table.Follow(t.Context())
	b.check(err)
	if !arrived || len(fenced) != 1 {
		t.Errorf("the late put arrived: %v; %d partitions are fenced, want 1", arrived, len(fenced))
	}
}

// TestWhatIsReadAsTheContextEndsIsNotForgotten has the context of a look at the log end at each operation in turn, as a revocation's does that runs out of
// time. The log has moved on then: a RESTORE among the versions must end the run all the same (rule C1c), and where versions are gone, nothing of
// before may land (rule C2), nor be taken for whole before the log was looked back in (rule A6b).
func TestWhatIsReadAsTheContextEndsIsNotForgotten(t *testing.T) {
	restore := func(b *bench) { b.foreign(`{"commitInfo":{"operation":"RESTORE"}}`) }
	strangers := func(b *bench) {
		for range 3 {
			b.foreign(stranger)
		}
	}
	for name, tt := range map[string]struct {
		befalls func(b *bench)
		refused bool
	}{
		"a RESTORE":                        {restore, true},
		"a RESTORE, and many others":       {func(b *bench) { strangers(b); restore(b); strangers(b) }, true},
		"versions that are gone":           {func(b *bench) { strangers(b); b.logCheckpoint(0, 1, 2, 3) }, false},
		"a RESTORE behind those":           {func(b *bench) { strangers(b); restore(b); b.logCheckpoint(0, 1, 2, 3) }, true},
		"a RESTORE among those":            {func(b *bench) { restore(b); strangers(b); b.logCheckpoint(0, 1, 2, 3, 4) }, false}, // no unit with files was committed
		"a RESTORE of a unit, among those": {func(b *bench) { b.restoreAll(); strangers(b); b.logCheckpoint(0, 1, 2, 3, 4) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			cut := true
			for at := 0; cut; at++ {
				b := newBench(t)
				table := b.owner(1)
				b.commit(table, b.unit(table, span(0, 0, 3)))
				next := b.unit(table, span(0, 3, 3))
				tt.befalls(b)
				ctx, cancel := context.WithCancel(t.Context())
				var n atomic.Int64
				b.store.SetHook(func(faultstore.Op) {
					if n.Add(1) > int64(at) {
						cancel()
					}
				})
				_, _, err := table.Follow(ctx)
				cut = ctx.Err() != nil
				cancel()
				b.store.SetHook(nil)
				if done, late := table.Deliver(t.Context(), nil, []sink.Slot{{AppID: checkpoint.DeadLetterAppID(stream, 9), From: -1, To: int64(at)}}); tt.refused && (done || late == nil) {
					t.Errorf("cut at operation %d: a delivery that waited beside the look is done: %v, %v", at, done, late)
				}
				if late := table.Commit(t.Context(), []*sink.Unit{next}); err == nil || errors.Is(err, context.Canceled) {
					err = late
				}
				if next.State() == sink.Landed {
					t.Errorf("cut at operation %d: a flush that waited beside the look has landed", at)
				}
				if err == nil && next.State() == sink.Dropped {
					_, err = table.Claim(t.Context(), []checkpoint.Partition{partition(0)})
				}
				switch {
				case tt.refused && (err == nil || !strings.Contains(err.Error(), "rewind")):
					t.Errorf("cut at operation %d: the run goes on with %v, %v; want a refusal", at, next.State(), err)
				case !tt.refused && (err != nil || next.State() != sink.Dropped):
					t.Errorf("cut at operation %d: the next unit is %v, %v; want it dropped", at, next.State(), err)
				}
			}
		})
	}
}

// restoreAll takes all files out of the table.
func (b *bench) restoreAll() {
	lines := []string{`{"commitInfo":{"operation":"RESTORE"}}`}
	for add, err := range b.snapshot().Files(b.t.Context()) {
		b.check(err)
		lines = append(lines, fmt.Sprintf(`{"remove":{"path":%q,"dataChange":true,"deletionTimestamp":1}}`, add.Path))
	}
	b.foreign(lines...)
}

// TestLookingBackThatIsBrokenOffIsDoneAgain holds rule A6 for a worker whose partitions are taken away while it looks back, and come again.
func TestLookingBackThatIsBrokenOffIsDoneAgain(t *testing.T) {
	for name, befalls := range map[string]func(b *bench){
		"a RESTORE":                  func(b *bench) { b.foreign(`{"commitInfo":{"operation":"RESTORE"}}`) },
		"a RESTORE of a cleaned log": func(b *bench) { b.restoreAll(); b.foreign(stranger); b.clean() },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			table := b.owner(1)
			b.commit(table, b.unit(table, span(0, 0, 3)))
			befalls(b)
			cut := true
			for at := 0; cut; at++ {
				table := b.open()
				ctx, cancel := context.WithCancel(t.Context())
				var n atomic.Int64
				b.store.SetHook(func(faultstore.Op) {
					if n.Add(1) > int64(at) {
						cancel()
					}
				})
				err := table.Pin(ctx, pins(1))
				cut = ctx.Err() != nil
				cancel()
				b.store.SetHook(nil)
				if errors.Is(err, context.Canceled) {
					err = table.Pin(t.Context(), pins(1))
				}
				if err == nil || !strings.Contains(err.Error(), "rewind") {
					t.Errorf("cut at operation %d: a start says %v, want it refused", at, err)
				}
			}
		})
	}
}
