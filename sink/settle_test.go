package sink_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/storage/faultstore"
)

// morgue is a bench with a dead-letter table beside its own.
type morgue struct {
	*bench
	beside *bench // of the dead-letter table; of its methods those that look
}

func newMorgue(t *testing.T) *morgue {
	t.Helper()
	return &morgue{bench: newBench(t), beside: newBench(t)}
}

// letters is one process's view of the dead-letter table.
func (m *morgue) letters() *sink.Table {
	m.t.Helper()
	return m.lettersWith(slog.New(slog.DiscardHandler))
}

func (m *morgue) lettersWith(log *slog.Logger) *sink.Table {
	m.t.Helper()
	schema, err := delta.ParseDDL("n BIGINT")
	m.check(err)
	table, err := sink.Open(m.t.Context(), m.beside.store, m.beside.cfg, sink.Options{Create: schema, Engine: "kafkadelta/test", Now: m.now, Log: log})
	m.check(err)
	return table
}

// grave is a span that is nothing but dead letters.
func grave(id int32, first, dead int64) checkpoint.Span {
	return checkpoint.Span{Partition: partition(id), First: first, Next: first + dead, Records: dead, Dead: dead}
}

// buried is a unit with a parcel of as many rows as its spans count dead letters.
func (m *morgue) buried(table, letters *sink.Table, spans ...checkpoint.Span) *sink.Unit {
	m.t.Helper()
	layout, err := letters.Layout(m.t.Context())
	m.check(err)
	w := letters.NewParcelWriter(layout)
	var dead int64
	for _, s := range spans {
		dead += s.Dead
	}
	rb := numbers(layout.Schema, spans[0].First, dead)
	defer rb.Release()
	m.check(w.Write(m.t.Context(), rb))
	p, err := w.FinishParcel(m.t.Context(), stream, spans, nil)
	m.check(err)
	u := m.unit(table, spans...)
	m.check(u.Attach(p))
	return u
}

func (m *morgue) settle(table, letters *sink.Table, partitions ...int32) map[string]int64 {
	m.t.Helper()
	slots, err := sink.Settle(m.t.Context(), table, letters, partitions)
	m.check(err)
	return slots
}

// bury names, commits and leaves pending.
func (m *morgue) bury(table, letters *sink.Table, u *sink.Unit, partitions ...int32) {
	m.t.Helper()
	sink.NameParcels(table, []*sink.Unit{u}, m.settle(table, letters, partitions...))
	m.commit(table, u)
	m.want(u, sink.Landed)
}

// loose are the objects and files of the dead-letter table that no version names.
func (m *morgue) loose() []string {
	m.t.Helper()
	named := map[string]bool{}
	for add, err := range m.beside.snapshot().Files(m.t.Context()) {
		m.check(err)
		named[add.Path] = true
	}
	var loose []string
	for _, name := range m.beside.files() {
		if !named[name] {
			loose = append(loose, name)
		}
	}
	return loose
}

func (m *morgue) wantLetters(rows, version int64) {
	m.t.Helper()
	if got := m.beside.consistent(); got != rows {
		m.t.Errorf("the dead-letter table has %d rows, want %d", got, rows)
	}
	if got := m.beside.version(); got != version {
		m.t.Errorf("the dead-letter table is at version %d, want %d", got, version)
	}
}

func TestDeadLettersFollow(t *testing.T) {
	m := newMorgue(t)
	table, letters := m.owner(2), m.letters()
	u := m.buried(table, letters, grave(0, 0, 3), grave(1, 0, 2))
	m.bury(table, letters, u, 0, 1)
	m.wantLetters(0, 0)
	if got := len(m.loose()); got != 2 {
		t.Errorf("%d objects wait beside the dead-letter table, want the file and its note", got)
	}
	m.settle(table, letters, 0, 1)
	m.wantLetters(5, 1)
	if got := m.loose(); len(got) != 0 {
		t.Errorf("left behind are %v", got)
	}
	m.settle(table, letters, 0, 1) // nothing is pending any more
	m.settle(m.open(), m.letters(), 0, 1)
	m.wantLetters(5, 1)
}

// TestAnybodyMaySettle is a worker that dies after its commit (rule D3): another one, which owns one of the partitions alone, delivers
// the parcel for all of them at once, and the owner of the other partition does not deliver it again (D3b).
func TestAnybodyMaySettle(t *testing.T) {
	m := newMorgue(t)
	table, letters := m.owner(2), m.letters()
	m.bury(table, letters, m.buried(table, letters, grave(0, 0, 3), grave(1, 0, 2)), 0, 1)
	m.settle(m.open(), m.letters(), 1)
	m.wantLetters(5, 1)
	// A file that was rewritten is a file under another name: delivered again, its rows would be there twice.
	for add, err := range m.beside.snapshot().Files(t.Context()) {
		m.check(err)
		name := `part-optimized.parquet`
		m.check(m.beside.memory.Put(t.Context(), name, m.beside.object(add.Path)))
		m.beside.foreign(`{"remove":{"path":"`+add.Path+`","dataChange":false,"deletionTimestamp":1}}`,
			`{"add":{"path":"`+name+`","partitionValues":{},"size":1,"modificationTime":1,"dataChange":false,"stats":"{\"numRecords\":5}"}}`)
	}
	m.settle(m.open(), m.letters(), 0)
	m.settle(table, letters, 0, 1)
	m.wantLetters(5, 2)
}

// TestTwoSettleAtOnce has another worker deliver at each operation of a delivery: the parcel arrives once, and nobody takes it for lost
// because the other one has tidied up (rules D3 and D5a).
func TestTwoSettleAtOnce(t *testing.T) {
	for i := 0; ; i++ {
		m := newMorgue(t)
		table, letters := m.owner(1), m.letters()
		m.bury(table, letters, m.buried(table, letters, grave(0, 0, 3)), 0)
		other, others := m.open(m.memory), m.letters()
		letters = m.letters() // of another process than wrote the parcel: it reads it
		n, had := 0, false
		m.beside.store.SetHook(func(faultstore.Op) {
			if n++; n-1 == i && !had {
				had = true
				m.settle(other, others, 0)
			}
		})
		m.settle(table, letters, 0)
		m.beside.store.SetHook(nil)
		m.wantLetters(3, 1)
		if t.Failed() || !had {
			if i < 4 {
				t.Errorf("a delivery has but %d operations", i)
			}
			return
		}
	}
}

// TestSlotIsReadAfterTheDeadLetterTable is rule D3a: while a worker looks from one table to the other, others deliver what it has seen,
// bury more and deliver that.
func TestSlotIsReadAfterTheDeadLetterTable(t *testing.T) {
	m := newMorgue(t)
	table, letters := m.owner(1), m.letters()
	late, lates := m.open(), m.letters()
	m.bury(table, letters, m.buried(table, letters, grave(0, 0, 3)), 0)
	first := map[bool]bool{} // by table: it was looked at
	done := false
	look := func(beside bool) func(faultstore.Op) {
		return func(faultstore.Op) {
			if done {
				return
			}
			if first[beside] = true; len(first) == 2 { // between the two
				done = true
				m.settle(table, letters, 0)
				m.bury(table, letters, m.buried(table, letters, grave(0, 3, 2)), 0)
				m.settle(table, letters, 0)
			}
		}
	}
	m.store.SetHook(look(false))
	m.beside.store.SetHook(look(true))
	m.settle(late, lates, 0)
	if !done {
		t.Fatal("nothing was done meanwhile")
	}
	m.wantLetters(5, 2)
}

// TestSlotIsNotOverwritten is rule D4: a partition's next unit with dead letters does not land on a slot that is pending.
func TestSlotIsNotOverwritten(t *testing.T) {
	m := newMorgue(t)
	table, letters := m.owner(2), m.letters()
	settled := m.settle(table, letters, 0)
	m.bury(table, letters, m.buried(table, letters, grave(0, 0, 3)), 0)
	next := m.buried(table, letters, grave(0, 3, 2))
	sink.NameParcels(table, []*sink.Unit{next}, settled) // as if nothing had been buried since
	m.commit(table, next)
	m.want(next, sink.Dropped)
	m.settle(table, letters, 0)
	m.wantLetters(3, 1)
	if got := m.loose(); len(got) != 0 {
		t.Errorf("the parcel of the dropped unit is left: %v", got)
	}
	again := m.buried(table, letters, grave(0, 3, 2))
	m.bury(table, letters, again, 0)
	m.settle(table, letters, 0)
	m.wantLetters(5, 2)
	// What has no dead letters need not wait.
	m.bury(table, letters, m.buried(table, letters, grave(0, 5, 1)), 0)
	clean := m.unit(table, span(0, 6, 4))
	m.commit(table, clean)
	m.want(clean, sink.Landed)
}

// TestNoTwoParcelsOfOnePartitionInAVersion is rule D4a.
func TestNoTwoParcelsOfOnePartitionInAVersion(t *testing.T) {
	m := newMorgue(t)
	table, letters := m.owner(1), m.letters()
	units := []*sink.Unit{m.buried(table, letters, grave(0, 0, 3)), m.buried(table, letters, grave(0, 3, 2))}
	sink.NameParcels(table, units, m.settle(table, letters, 0))
	m.commit(table, units...)
	m.want(units[0], sink.Landed)
	m.want(units[1], sink.Dropped)
	m.settle(table, letters, 0)
	m.wantLetters(3, 1)
}

// TestAUnitDoesNotLandWithoutItsSlot is rule D2.
func TestAUnitDoesNotLandWithoutItsSlot(t *testing.T) {
	m := newMorgue(t)
	table, letters := m.owner(1), m.letters()
	u := m.buried(table, letters, grave(0, 0, 3))
	m.commit(table, u)
	m.want(u, sink.Dropped)
	short := m.unit(table, grave(0, 0, 4))
	if err := short.Attach(m.parcelOf(letters, 3)); err == nil || !strings.Contains(err.Error(), "3 rows, but the unit tells 4") {
		t.Errorf("a parcel with too few rows: %v", err)
	}
}

func (m *morgue) parcelOf(letters *sink.Table, rows int64) *sink.Parcel {
	m.t.Helper()
	layout, err := letters.Layout(m.t.Context())
	m.check(err)
	w := letters.NewParcelWriter(layout)
	rb := numbers(layout.Schema, 0, rows)
	defer rb.Release()
	m.check(w.Write(m.t.Context(), rb))
	p, err := w.FinishParcel(m.t.Context(), stream, nil, json.RawMessage(`{}`))
	m.check(err)
	return p
}

// TestDeadLettersThatAreGone is rule D5.
func TestDeadLettersThatAreGone(t *testing.T) {
	for name, tt := range map[string]struct {
		lose func(*morgue)
		says []string
	}{
		"the file": {func(m *morgue) {
			for _, name := range m.loose() {
				if !strings.HasPrefix(name, "_") {
					m.check(m.beside.memory.Delete(m.t.Context(), name))
				}
			}
		}, []string{"VACUUM", "3 of offsets [0, 3) of topic[0]", "2 of offsets [0, 2) of topic[1]", "rewind --to-offsets 1=0,0=0"}},
		"all of it": {func(m *morgue) {
			for _, name := range m.loose() {
				m.check(m.beside.memory.Delete(m.t.Context(), name))
			}
		}, []string{"dead_letters.uri was changed", "--give-up"}},
		"the table": {func(m *morgue) {
			for _, name := range []string{logFile(0)} {
				m.check(m.beside.memory.Delete(m.t.Context(), name))
			}
		}, []string{"made anew", "--give-up"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMorgue(t)
			table, letters := m.owner(2), m.letters()
			m.bury(table, letters, m.buried(table, letters, grave(0, 0, 3), grave(1, 0, 2)), 0, 1)
			tt.lose(m)
			letters = m.letters()
			for range 2 { // asking again does not help
				_, err := sink.Settle(t.Context(), table, letters, []int32{0})
				if _, refused := errors.AsType[*checkpoint.RefusedError](err); !refused {
					t.Fatalf("Settle answered %v, want a refusal", err)
				}
				for _, want := range tt.says {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%v; want %q in it", err, want)
					}
				}
			}
			if n, _, err := sink.GiveUp(t.Context(), table, letters, nil); n != 2 || err != nil {
				t.Errorf("%d partitions were given up, %v; want 2", n, err)
			}
			m.bury(table, letters, m.buried(table, letters, grave(0, 3, 4)), 0)
			m.settle(table, letters, 0)
			m.wantLetters(4, 2)
		})
	}
}

// TestDeadLettersThatDoNotFit: their table was altered before they came. Taken back, they come; given up, the stream goes on.
func TestDeadLettersThatDoNotFit(t *testing.T) {
	for _, back := range []bool{true, false} {
		m := newMorgue(t)
		table, letters := m.owner(1), m.letters()
		m.bury(table, letters, m.buried(table, letters, grave(0, 0, 3)), 0)
		alter := func(columns ...string) {
			meta := m.beside.snapshot().Metadata()
			meta.PartitionColumns = columns
			line, err := json.Marshal(map[string]any{"metaData": meta})
			m.check(err)
			m.beside.foreign(`{"commitInfo":{"operation":"ALTER TABLE"}}`, string(line))
		}
		alter("n")
		_, err := sink.Settle(t.Context(), table, m.letters(), []int32{0})
		if !errors.As(err, new(*checkpoint.RefusedError)) || !strings.Contains(err.Error(), "take back what was altered") || !strings.Contains(err.Error(), "settle --give-up`") {
			t.Fatalf("Settle answered %v, want a refusal with both ways out", err)
		}
		if back {
			alter()
			m.settle(table, m.letters(), 0)
			m.wantLetters(3, 3)
			continue
		}
		if n, _, err := sink.GiveUp(t.Context(), table, m.letters(), nil); n != 1 || err != nil {
			t.Errorf("%d partitions were given up, %v; want 1", n, err)
		}
		m.settle(table, m.letters(), 0)
		m.wantLetters(0, 2)
	}
}

// TestGivingUpLosesNothingElse: of two parcels that are pending one is gone. The other one is delivered.
func TestGivingUpLosesNothingElse(t *testing.T) {
	m := newMorgue(t)
	table, letters := m.owner(2), m.letters()
	m.bury(table, letters, m.buried(table, m.letters(), grave(0, 0, 3)), 0)
	for _, name := range m.loose() {
		m.check(m.beside.memory.Delete(t.Context(), name))
	}
	m.bury(table, letters, m.buried(table, letters, grave(1, 0, 2)), 1)
	if n, marks, err := sink.GiveUp(t.Context(), table, letters, nil); n != 1 || marks || err != nil {
		t.Errorf("%d partitions were given up, marks %v, %v; want 1 and none", n, marks, err)
	}
	m.settle(table, letters, 0, 1)
	m.wantLetters(2, 2)
	if left := m.loose(); len(left) != 0 {
		t.Errorf("what was delivered is left beside: %v", left)
	}
}

// TestMarksMadeAgainMayHaveLanded: the answer to the commit that brings them comes so late that nobody believes it (rule C7), and what is
// found in the table then looks like somebody else's. The files are named by a version, and stay (rule C6).
func TestMarksMadeAgainMayHaveLanded(t *testing.T) {
	m := newMorgue(t)
	table, letters := m.owner(1), m.letters()
	u := m.replayOf(table, letters)
	for _, name := range m.loose() {
		if !strings.HasPrefix(name, "_") {
			m.check(m.beside.memory.Delete(t.Context(), name))
		}
	}
	if landed, err := table.Replay(t.Context(), u, m.settle(table, letters), 0); !landed || err != nil {
		t.Fatalf("Replay answered %v, %v", landed, err)
	}
	letters = m.letters()
	again := 0
	lost, marks, err := sink.GiveUp(t.Context(), table, letters, func(_ context.Context, note json.RawMessage) (*sink.Parcel, error) {
		again++
		p := m.parcelOf(letters, 3)
		m.beside.beforePut(func() {
			m.check(m.beside.memory.PutIfAbsent(t.Context(), logFile(m.beside.version()+2), []byte(`{"commitInfo":{"operation":"WRITE"}}`+"\n")))
			m.passed.Add(int64(61 * time.Second))
		})
		return p, nil
	})
	if lost != 0 || marks || err != nil || again != 1 {
		t.Errorf("GiveUp answered %d, %v, %v, and asked for marks %d times; want them made again once", lost, marks, err, again)
	}
	m.wantLetters(3, 2)
	if left := m.loose(); len(left) != 1 {
		t.Errorf("left behind are %v, want the note of the parcel that was lost", left)
	}
}

// TestParcelGoesWithItsUnit is rule C6 for parcels, and rule C8.
func TestParcelGoesWithItsUnit(t *testing.T) {
	m := newMorgue(t)
	table, letters := m.owner(1), m.letters()
	fenced := m.buried(table, letters, grave(0, 0, 3))
	sink.NameParcels(table, []*sink.Unit{fenced}, m.settle(table, letters, 0))
	m.foreign(txnLine(0, -1))
	m.commit(table, fenced)
	m.want(fenced, sink.Dropped)
	if got := m.loose(); len(got) != 0 {
		t.Errorf("the parcel of a fenced unit is left: %v", got)
	}
	m.claim(table, 0)

	old := m.buried(table, letters, grave(0, 0, 3)) // it has no file but the parcel's
	sink.NameParcels(table, []*sink.Unit{old}, m.settle(table, letters, 0))
	m.passed.Add(int64(61 * time.Minute))
	m.commit(table, old)
	m.want(old, sink.Dropped)
}

// TestParcelOfAUnitThatMayLandStays: a lost answer is none.
func TestParcelOfAUnitThatMayLandStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMorgue(t)
		table, letters := m.owner(1), m.letters()
		u := m.buried(table, letters, grave(0, 0, 3))
		sink.NameParcels(table, []*sink.Unit{u}, m.settle(table, letters, 0))
		m.store.SetPlan(faultstore.When(isPut, faultstore.FailThenLand(nil)))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		m.check(table.Commit(ctx, []*sink.Unit{u}))
		m.want(u, sink.Unresolved)
		table.Discard(t.Context(), []*sink.Unit{u})
		if got := len(m.loose()); got != 2 {
			t.Errorf("of a unit that may land yet %d objects are left, want the file and its note", got)
		}
		m.store.SetPlan(nil)
		m.settle(table, letters, 0)
		m.wantLetters(0, 0)
		m.store.LandPostponed()
		m.settle(table, letters, 0)
		m.wantLetters(3, 1)
	})
}

// TestUnitsWithDeadLettersAreNotProposed: whether a slot is free (rule D4) is for its owner to know.
func TestUnitsWithDeadLettersAreNotProposed(t *testing.T) {
	m := newMorgue(t)
	table, letters := m.owner(2), m.letters()
	u := m.buried(table, letters, grave(0, 0, 3))
	sink.NameParcels(table, []*sink.Unit{u}, m.settle(table, letters, 0))
	races := 0
	m.store.SetHook(func(op faultstore.Op) {
		if isPut(op) && races < 5 {
			races++
			m.foreign(`{"commitInfo":{"operation":"WRITE"}}`)
		}
	})
	m.commit(table, u)
	m.want(u, sink.Landed)
	for _, op := range m.store.Ops() {
		if op.Method == faultstore.MethodPut && strings.HasPrefix(op.Name, "_connector/proposals/") {
			t.Errorf("it was left as the proposal %s", op.Name)
		}
	}
	m.store.SetHook(nil)
	m.settle(table, letters, 0)
	m.wantLetters(3, 1)
}

// TestSlotsAreKeptFromExpiring is rule A4: of an idle partition, and of a busy one without dead letters.
func TestSlotsAreKeptFromExpiring(t *testing.T) {
	m := newMorgue(t)
	m.cfg.Properties = map[string]string{"delta.setTransactionRetentionDuration": "interval 40 days"}
	table, letters := m.owner(2), m.letters()
	m.bury(table, letters, m.buried(table, letters, grave(0, 0, 3), grave(1, 0, 2)), 0, 1)
	if landed, err := table.Replay(t.Context(), m.replayOf(table, letters), m.settle(table, letters), 0); err != nil || !landed {
		t.Fatalf("Replay answered %v, %v", landed, err)
	}
	slots := m.slots()
	for i := range int64(50) {
		m.passed.Add(int64(day))
		m.commit(table, m.unit(table, span(0, 3+i, 1)))
	}
	if got := m.slots(); len(got) != 2 || got[0] != slots[0] || got[1] != slots[1] {
		t.Errorf("the slots are %v, want %v", got, slots)
	}
	for _, appID := range []string{checkpoint.DeadLetterAppID(stream, 0), checkpoint.DeadLetterAppID(stream, 1), checkpoint.ReplayAppID(stream)} {
		txn, _ := m.snapshot().Txn(appID)
		if age := m.now().Sub(time.UnixMilli(*txn.LastUpdated)); age > 12*day {
			t.Errorf("the slot %s is %v old, want it new after a quarter of 40 days", appID, age)
		}
	}
	m.settle(table, letters, 0, 1)
	m.wantLetters(5+3, 1)
}

func (m *morgue) slots() map[int32]int64 {
	m.t.Helper()
	slots := map[int32]int64{}
	for _, id := range []int32{0, 1} {
		if txn, ok := m.snapshot().Txn(checkpoint.DeadLetterAppID(stream, id)); ok {
			slots[id] = txn.Version
		}
	}
	return slots
}

// TestDeadLetterTableMustNotForget: where its txns expire, it would take what it has for pending.
func TestDeadLetterTableMustNotForget(t *testing.T) {
	m := newMorgue(t)
	m.beside.cfg.Properties = map[string]string{"delta.setTransactionRetentionDuration": "interval 40 days"}
	table, letters := m.owner(1), m.letters()
	m.bury(table, letters, m.buried(table, letters, grave(0, 0, 3)), 0)
	if _, err := sink.Settle(t.Context(), table, letters, []int32{0}); err == nil || !strings.Contains(err.Error(), "unset the property") {
		t.Errorf("Settle answered %v", err)
	}
}

// replayOf is a replay of three dead letters, ready to land.
func (m *morgue) replayOf(table, letters *sink.Table) *sink.Unit {
	m.t.Helper()
	layout, err := table.Layout(m.t.Context())
	m.check(err)
	w := table.NewWriter(layout)
	rb := numbers(layout.Schema, 0, 3)
	defer rb.Release()
	m.check(w.Write(m.t.Context(), rb))
	u, err := w.FinishAppend()
	m.check(err)
	m.check(u.Attach(m.parcelOf(letters, 3)))
	return u
}

// TestReplayLandsOnWhatItHasRead is rule D6: not after another replay, not in another generation, and not behind a RESTORE.
func TestReplayLandsOnWhatItHasRead(t *testing.T) {
	for name, tt := range map[string]struct {
		between func(*morgue, *sink.Table, *sink.Table)
		lands   bool
		err     string
	}{
		"nothing": {func(*morgue, *sink.Table, *sink.Table) {}, true, ""},
		"a commit of the stream": {func(m *morgue, _, _ *sink.Table) {
			other := m.open()
			m.claim(other, 0)
			m.commit(other, m.unit(other, span(0, 3, 2)))
		}, true, ""},
		"another replay": {func(m *morgue, _, letters *sink.Table) {
			other := m.open()
			landed, err := other.Replay(m.t.Context(), m.replayOf(other, letters), m.settle(other, letters, 0), 0)
			if err != nil || !landed {
				m.t.Fatalf("the other replay: %v, %v", landed, err)
			}
		}, false, ""},
		"a rewind": {func(m *morgue, _, _ *sink.Table) {
			m.foreign(`{"txn":{"appId":"events#gen","version":1}}`, txnLine(0, -1))
		}, false, ""},
		"a restore": {func(m *morgue, _, _ *sink.Table) { m.foreign(`{"commitInfo":{"operation":"RESTORE"}}`) }, false, "rewind --to-table-version"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMorgue(t)
			owner, letters := m.owner(1), m.letters()
			m.bury(owner, letters, m.buried(owner, letters, grave(0, 0, 3)), 0)
			table := m.open()
			settled := m.settle(table, letters, 0)
			u := m.replayOf(table, letters)
			tt.between(m, table, letters)
			landed, err := table.Replay(t.Context(), u, settled, 0)
			if landed != tt.lands || (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("Replay answered %v, %v; want %v, %q", landed, err, tt.lands, tt.err)
			}
			if tt.lands {
				m.settle(table, letters, 0)
				m.wantLetters(6, 2) // the letters and their marks
			} else if got := len(m.loose()); name != "a restore" && name != "another replay" && got != 0 {
				t.Errorf("%d objects of a replay that did not land are left", got)
			}
		})
	}
}

// TestARestoreBeforeAReplayIsSeen: a replay must not hide it from the stream's next start (rule A6).
func TestARestoreBeforeAReplayIsSeen(t *testing.T) {
	m := newMorgue(t)
	owner, letters := m.owner(1), m.letters()
	m.bury(owner, letters, m.buried(owner, letters, grave(0, 0, 3)), 0)
	m.settle(owner, letters, 0)
	m.foreign(`{"commitInfo":{"operation":"RESTORE"}}`)
	table := m.open()
	if landed, err := table.Replay(t.Context(), m.replayOf(table, letters), m.settle(table, letters, 0), 0); landed || err == nil {
		t.Errorf("Replay answered %v, %v; want a refusal", landed, err)
	}
}
