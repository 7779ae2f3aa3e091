package sink_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/storage/faultstore"
)

const proposals = "_connector/proposals/"

// contended is what the winner of a race writes that has met others.
const contended = `{"commitInfo":{"operation":"x","kafkadelta":{"v":1,"units":[],"contended":true}}}`

// proposed has a worker leave its unit as a proposal, by making it lose two races. Then meanwhile is called, which stands for
// all that others do before the worker looks at the log again. It returns when the unit's fate is known.
func (b *bench) proposed(table *sink.Table, u *sink.Unit, meanwhile func()) {
	b.t.Helper()
	b.left(func() { b.commit(table, u) }, meanwhile)
}

// left is proposed for whatever is committed by the function.
func (b *bench) left(commit, meanwhile func()) {
	b.t.Helper()
	lost := 0
	var left atomic.Bool // the proposal is put, and others are looked for, at a time
	b.store.SetHook(func(op faultstore.Op) {
		switch {
		case isPut(op) && strings.HasPrefix(op.Name, "_delta_log/") && strings.HasSuffix(op.Name, ".json") && lost < 2:
			lost++
			b.foreign(contended)
		case len(b.proposals()) > 0 && left.CompareAndSwap(false, true):
			meanwhile()
		}
	})
	commit()
	if !left.Load() {
		b.t.Fatal("the worker that lost two races left no proposal")
	}
}

func (b *bench) proposals() []string {
	b.t.Helper()
	var names []string
	for o, err := range b.memory.List(b.t.Context(), proposals, "") {
		b.check(err)
		names = append(names, o.Name)
	}
	return names
}

func (b *bench) read(name string) []byte {
	b.t.Helper()
	r, err := b.memory.Get(b.t.Context(), name, 0, -1)
	b.check(err)
	data, err := io.ReadAll(r)
	b.check(err)
	b.check(r.Close())
	return data
}

// record is what the newest version says of its units.
func (b *bench) record() checkpoint.CommitRecord {
	b.t.Helper()
	record, err := checkpoint.DecodeCommit(b.snapshot().Info().Fields[checkpoint.CommitInfoKey])
	b.check(err)
	return record
}

func TestWinnerCarriesWhatLosersLeft(t *testing.T) {
	b := newBench(t)
	loser := b.owner(2)
	carrier := b.open(b.memory) // its requests go past the hook
	b.claim(carrier, 1)
	elected := span(0, 0, 3)
	elected.Epoch = checkpoint.EpochOf(7)
	u, w := b.unit(loser, elected), b.unit(carrier, span(1, 0, 4))
	b.proposed(loser, u, func() {
		b.commit(carrier, w)
		b.want(w, sink.Landed)
	})
	b.want(u, sink.Landed)
	for appID, want := range map[string]int64{checkpoint.LeaderAppID(stream, 0): 7, checkpoint.LastUnitAppID(stream): checkpoint.UnitMark(u.ID)} {
		if txn, _ := b.snapshot().Txn(appID); txn.Version != want {
			t.Errorf("the txn %s is %d, want %d: it goes with the unit, whoever carries it", appID, txn.Version, want)
		}
	}
	if got := b.version(); got != 4 { // create, pin, two strangers, and both units in one
		t.Errorf("the table is at version %d, want 4", got)
	}
	record := b.record()
	if len(record.Units) != 2 || record.Units[0].Unit != w.ID || record.Units[1].Unit != u.ID || record.Carried != 1 || !record.Contended {
		t.Errorf("the version tells of %+v", record)
	}
	if b.txn(0) != 2 || b.txn(1) != 3 || b.consistent() != 7 {
		t.Errorf("the txns are %d and %d with %d rows, want 2, 3 and 7", b.txn(0), b.txn(1), b.consistent())
	}
	if left := b.proposals(); len(left) != 0 {
		t.Errorf("proposals stay behind: %v", left)
	}
	b.commit(loser, b.unit(loser, span(0, 3, 1))) // it knows where it stands
	if b.txn(0) != 3 {
		t.Errorf("the txn is %d, want 3", b.txn(0))
	}
}

func TestLoneWorkerPaysNothingForCombining(t *testing.T) {
	count := func(combine string) int {
		b := newBench(t)
		b.cfg.Combine = combine
		table := b.owner(1)
		var requests atomic.Int64
		b.store.SetHook(func(faultstore.Op) { requests.Add(1) })
		for i := range int64(20) {
			if i == 10 { // somebody was there, once: the first try after it loses
				b.foreign(`{"commitInfo":{"operation":"WRITE"}}`)
			}
			b.commit(table, b.unit(table, span(0, i, 1)))
		}
		return int(requests.Load())
	}
	if with, without := count(sink.CombineAuto), count(sink.CombineOff); with != without {
		t.Errorf("a lone worker makes %d requests, %d where combining is off", with, without)
	}
}

// TestLostRaceIsToldToOthers by the version of who has lost it: who starts into a crowd loses its first race, and would go on racing.
func TestLostRaceIsToldToOthers(t *testing.T) {
	b := newBench(t)
	table := b.owner(1)
	for i, contended := range []bool{false, true, false} {
		if contended {
			b.foreign(`{"commitInfo":{"operation":"WRITE"}}`)
		}
		b.commit(table, b.unit(table, span(0, int64(i), 1)))
		if got := b.record().Contended; got != contended {
			t.Errorf("commit %d tells of contention: %v, want %v", i, got, contended)
		}
	}
}

// doctored changes a proposal and seals it again.
func doctored(t *testing.T, data []byte, change func(p map[string]any)) []byte {
	t.Helper()
	var s struct {
		Sum      string          `json:"sha256"`
		Proposal json.RawMessage `json:"proposal"`
	}
	var p map[string]any
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(s.Proposal, &p); err != nil {
		t.Fatal(err)
	}
	change(p)
	body, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(body)
	s.Sum, s.Proposal = hex.EncodeToString(sum[:]), body
	if data, err = json.Marshal(s); err != nil {
		t.Fatal(err)
	}
	return data
}

// TestProposalsThatAreNotCarried shows a carrier one proposal that must not be in its version. Its own unit lands all the same,
// alone (rules P1, P3).
func TestProposalsThatAreNotCarried(t *testing.T) {
	recordOf := func(p map[string]any) map[string]any { return p["record"].(map[string]any) }
	spanOf := func(p map[string]any) map[string]any { return recordOf(p)["spans"].([]any)[0].(map[string]any) }
	addOf := func(p map[string]any) map[string]any { return p["adds"].([]any)[0].(map[string]any) }
	change := func(f func(p map[string]any)) func(*bench, []byte) []byte {
		return func(b *bench, data []byte) []byte { return doctored(b.t, data, f) }
	}
	// pass is the control: it is carried.
	for name, tt := range map[string]struct {
		doctor  func(*bench, []byte) []byte
		before  func(*bench, *sink.Table) // what the carrier does before it commits
		carried bool
	}{
		"nothing is wrong": {doctor: change(func(map[string]any) {}), carried: true},
		"the checksum": {doctor: func(_ *bench, data []byte) []byte {
			return []byte(strings.Replace(string(data), `"rows\":3`, `"rows\":4`, 1))
		}},
		"torn":           {doctor: func(_ *bench, data []byte) []byte { return data[:len(data)/2] }},
		"not JSON":       {doctor: func(*bench, []byte) []byte { return []byte("\x00") }},
		"too large":      {doctor: func(_ *bench, data []byte) []byte { return append(data, make([]byte, 4<<20)...) }},
		"a newer format": {doctor: change(func(p map[string]any) { p["v"] = 2 })},
		"newer spans":    {doctor: change(func(p map[string]any) { recordOf(p)["v"] = 99 })},
		"no name":        {doctor: change(func(p map[string]any) { recordOf(p)["name"] = "a/b" })},
		"a pin":          {doctor: change(func(p map[string]any) { recordOf(p)["pin"] = true })},
		"no spans":       {doctor: change(func(p map[string]any) { recordOf(p)["spans"] = []any{} })},
		"a partition twice": {doctor: change(func(p map[string]any) {
			again := maps.Clone(spanOf(p))
			for _, count := range []string{"next", "records", "rows"} {
				again[count] = 0
			}
			recordOf(p)["spans"] = []any{spanOf(p), again}
		})},
		"another table":       {doctor: change(func(p map[string]any) { p["table"] = "x" })},
		"not read here":       {doctor: change(func(p map[string]any) { recordOf(p)["rv"] = 0 })},
		"made later":          {doctor: change(func(p map[string]any) { recordOf(p)["rv"] = 99 })},
		"old files":           {doctor: change(func(p map[string]any) { p["born"] = time.Now().Add(-61 * time.Minute).UnixMilli() })},
		"files of the future": {doctor: change(func(p map[string]any) { p["born"] = time.Now().Add(10 * time.Hour).UnixMilli() }), carried: true},
		"old files of the future": {doctor: change(func(p map[string]any) {
			p["born"], p["age"] = time.Now().Add(10*time.Hour).UnixMilli(), (59 * time.Minute).Milliseconds()
		}), before: func(b *bench, _ *sink.Table) { b.passed.Add(int64(2 * time.Minute)) }}, // with the time that they lay there
		"the carrier's clock is behind": {before: func(b *bench, _ *sink.Table) { b.passed.Add(int64(-6 * time.Minute)) }},
		"where the table isnt":          {doctor: change(func(p map[string]any) { spanOf(p)["first"], spanOf(p)["next"] = 1, 4 })},
		"an unknown partition":          {doctor: change(func(p map[string]any) { spanOf(p)["partition"] = 77 })},
		"dead letters": {doctor: change(func(p map[string]any) {
			spanOf(p)["records"], spanOf(p)["rows"], spanOf(p)["dead"] = 3, 2, 1
			addOf(p)["stats"] = `{"numRecords":2}`
		})},
		"more rows":            {doctor: change(func(p map[string]any) { addOf(p)["stats"] = `{"numRecords":4}` })},
		"no rows told":         {doctor: change(func(p map[string]any) { addOf(p)["stats"] = "" })},
		"row ids":              {doctor: change(func(p map[string]any) { addOf(p)["baseRowId"] = 0 })},
		"no append":            {doctor: change(func(p map[string]any) { addOf(p)["dataChange"] = false })},
		"a partition value":    {doctor: change(func(p map[string]any) { addOf(p)["partitionValues"] = map[string]any{"x": "y"} })},
		"outside of the table": {doctor: change(func(p map[string]any) { addOf(p)["path"] = "a/../../x.parquet" })},
		"an absolute path":     {doctor: change(func(p map[string]any) { addOf(p)["path"] = "s3://x/y.parquet" })},
		"a file twice": {doctor: change(func(p map[string]any) {
			addOf(p)["stats"] = `{"numRecords":0}`
			p["adds"] = append(p["adds"].([]any), map[string]any{"path": addOf(p)["path"], "size": 1, "dataChange": true, "partitionValues": map[string]any{}, "stats": `{"numRecords":3}`})
		})},
		"it was touched": {before: func(b *bench, carrier *sink.Table) {
			b.foreign(txnLine(0, -1)) // to the same value
		}},
		"the table has changed": {before: func(b *bench, carrier *sink.Table) {
			b.alter(func(m *delta.Metadata) { m.Description = "x" })
		}},
		"of a generation that is over": {doctor: change(func(p map[string]any) { recordOf(p)["gen"] = 1 })},
		"the carrier owns it":          {before: func(b *bench, carrier *sink.Table) { b.claim(carrier, 0) }},
		"the carrier came later": {before: func(b *bench, carrier *sink.Table) {
			_, _, err := carrier.Follow(b.t.Context())
			b.check(err)
		}, doctor: change(func(p map[string]any) { recordOf(p)["rv"] = 1 }), carried: true}, // but one that read all of it carries
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			loser := b.owner(2)
			carrier := b.open(b.memory)
			b.claim(carrier, 1)
			u, w := b.unit(loser, span(0, 0, 3)), b.unit(carrier, span(1, 0, 4))
			var record checkpoint.CommitRecord
			b.proposed(loser, u, func() {
				name := b.proposals()[0]
				if tt.doctor != nil {
					before := b.read(name)
					data := tt.doctor(b, before)
					if !tt.carried && bytes.Equal(before, data) {
						t.Fatal("nothing was doctored")
					}
					b.check(b.memory.Put(t.Context(), name, data))
				}
				if tt.before != nil {
					tt.before(b, carrier)
				}
				b.commit(carrier, w)
				b.want(w, sink.Landed)
				record = b.record()
			})
			if got := record.Carried == 1 && len(record.Units) == 2; got != tt.carried || len(record.Units)-1 != record.Carried {
				t.Errorf("the carrier's version has %d units, %d of them carried; want it carried: %v", len(record.Units), record.Carried, tt.carried)
			}
			b.consistent()
		})
	}
}

// TestSpansThatTheOwnerOfAProposalCantRead: a release that does not understand a version's record finds the touch of its partition there, and not
// its unit, and takes that for the proof that its files may be deleted. So what it has left goes into no version with spans that are newer than it.
func TestSpansThatTheOwnerOfAProposalCantRead(t *testing.T) {
	filtered := func(id int32, first, rows int64) checkpoint.Span {
		s := span(id, first, rows)
		s.Next, s.Records, s.Filtered = s.Next+1, s.Records+1, 1
		return s
	}
	older := func(p map[string]any) { delete(p, "reads") }
	beside := func(s checkpoint.Span, change func(map[string]any)) func(*bench) {
		return func(b *bench) { // a second one, that is left later
			name := b.proposals()[0]
			unit := "00000000-0000-4000-8000-000000000000"
			data := doctored(b.t, b.read(name), func(p map[string]any) {
				record, add := p["record"].(map[string]any), p["adds"].([]any)[0].(map[string]any)
				record["unit"], record["spans"], record["v"] = unit, []checkpoint.Span{s}, checkpoint.FormatOf([]checkpoint.Span{s})
				add["path"], add["stats"] = "another.parquet", fmt.Sprintf(`{"numRecords":%d}`, s.Rows)
				change(p)
			})
			b.check(b.memory.Put(b.t.Context(), proposals+"9999999999999-"+unit+"-0.json", data))
		}
	}
	same := func(map[string]any) {}
	for name, tt := range map[string]struct {
		own     checkpoint.Span      // of the carrier
		change  func(map[string]any) // of the proposal that is left first
		beside  func(*bench)
		carried int
	}{
		"filtered, for one that reads it":         {filtered(1, 0, 4), same, nil, 1},
		"filtered, for an older one":              {filtered(1, 0, 4), older, nil, 0},
		"nothing filtered, for an older one":      {span(1, 0, 4), older, nil, 1},
		"a filtered one behind an older one":      {span(1, 0, 4), older, beside(filtered(2, 0, 2), same), 1},
		"an older one behind a filtered one":      {filtered(1, 0, 4), same, beside(span(2, 0, 2), older), 1},
		"a filtered one behind one that reads it": {span(1, 0, 4), same, beside(filtered(2, 0, 2), same), 2},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			loser, carrier := b.owner(3), b.open(b.memory)
			b.claim(carrier, 1)
			u := b.unit(loser, span(0, 0, 3))
			var record checkpoint.CommitRecord
			b.proposed(loser, u, func() {
				name := b.proposals()[0]
				b.check(b.memory.Put(t.Context(), name, doctored(t, b.read(name), tt.change)))
				if tt.beside != nil {
					time.Sleep(time.Millisecond)
					tt.beside(b)
				}
				b.commit(carrier, b.unit(carrier, tt.own))
				record = b.record()
			})
			if record.Carried != tt.carried {
				t.Errorf("%d proposals were carried into a version of format %d, want %d", record.Carried, record.Version, tt.carried)
			}
		})
	}
}

// TestProposalIsNotCarriedTwice shows that two carriers, one of which does not know of the other, bring a unit into one version.
func TestProposalIsNotCarriedTwice(t *testing.T) {
	b := newBench(t)
	loser := b.owner(3)
	first, second := b.open(b.memory), b.open(b.memory)
	b.claim(first, 1)
	b.claim(second, 2)
	u := b.unit(loser, span(0, 0, 3))
	b.proposed(loser, u, func() {
		name := b.proposals()[0]
		data := b.read(name)
		b.commit(first, b.unit(first, span(1, 0, 4)))
		b.check(b.memory.Put(t.Context(), name, data)) // its deletion comes late
		b.commit(second, b.unit(second, span(2, 0, 5)))
	})
	b.want(u, sink.Landed)
	if got := b.record(); got.Carried != 0 || b.consistent() != 12 {
		t.Errorf("the second carrier's version tells of %+v, the table has %d rows", got, b.consistent())
	}
}

// TestFilesOfAProposalStay until it is proved that nobody can carry it.
func TestFilesOfAProposalStay(t *testing.T) {
	for name, tt := range map[string]struct {
		happens func(*bench, *sink.Table)
		state   sink.State
		files   int
	}{
		"touched by another": {func(b *bench, _ *sink.Table) { b.foreign(txnLine(0, 5)) }, sink.Dropped, 0},
		"the partition is given away": {func(b *bench, _ *sink.Table) {
			b.alter(b.columnsTo("n STRING")) // it fits no more, and no txn says that nobody can carry it
		}, sink.Dropped, 1},
		"a newer release may have carried it": {func(b *bench, _ *sink.Table) {
			b.foreign(`{"commitInfo":{"operation":"x","kafkadelta":{"v":99}}}`, txnLine(0, 2))
		}, sink.Dropped, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			table := b.owner(1)
			u := b.unit(table, span(0, 0, 3))
			b.proposed(table, u, func() { tt.happens(b, table) })
			b.want(u, tt.state)
			if got := len(b.files()); got != tt.files {
				t.Errorf("%d files are left, want %d", got, tt.files)
			}
		})
	}
}

func TestProposalsExpire(t *testing.T) {
	b := newBench(t)
	table := b.owner(1)
	for _, name := range []string{"a.json", "b.json"} {
		b.check(b.memory.Put(t.Context(), proposals+name, []byte("x")))
	}
	b.passed.Add(int64(11 * time.Minute)) // that its clock is ahead of the store's does not matter
	b.foreign(contended)
	b.commit(table, b.unit(table, span(0, 0, 1))) // sees the contention
	if left := b.proposals(); len(left) != 2 {
		t.Errorf("young proposals were removed: %v are left", left)
	}
	b.passed.Add(int64(11 * time.Minute))
	b.foreign(contended)
	b.commit(table, b.unit(table, span(0, 1, 1)))
	if left := b.proposals(); len(left) != 0 {
		t.Errorf("expired proposals stay: %v", left)
	}
}

// wrongClock shows one object as put by a clock that was an hour ahead.
type wrongClock struct {
	delta.LogStore
	name string
}

func (s *wrongClock) List(ctx context.Context, prefix, after string) iter.Seq2[delta.ObjectInfo, error] {
	return func(yield func(delta.ObjectInfo, error) bool) {
		for o, err := range s.LogStore.List(ctx, prefix, after) {
			if o.Name == s.name {
				o.ModTime = o.ModTime.Add(time.Hour)
			}
			if !yield(o, err) {
				return
			}
		}
	}
}

// TestAWrongClockOfTheStore has a worker see one proposal with a time of the future. What it takes for expired afterwards must not depend on that.
func TestAWrongClockOfTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		table := b.open(&wrongClock{b.memory, proposals + "wrong.json"})
		b.check(table.Pin(t.Context(), pins(1)))
		b.claim(table, 0)
		b.check(b.memory.Put(t.Context(), proposals+"wrong.json", []byte("x")))
		b.foreign(contended)
		b.commit(table, b.unit(table, span(0, 0, 1)))
		b.check(b.memory.Delete(t.Context(), proposals+"wrong.json"))
		for i, want := range []int{1, 1, 0} {
			if i == 0 {
				b.check(b.memory.Put(t.Context(), proposals+"right.json", []byte("x")))
			}
			b.foreign(contended)
			b.commit(table, b.unit(table, span(0, 1+int64(i), 1)))
			if left := b.proposals(); len(left) != want {
				t.Errorf("%v are left after %d times 6 min, want %d", left, i, want)
			}
			time.Sleep(6 * time.Minute)
		}
	})
}

// TestProposalThatIsGoneIsLeftAgain: who waits for its turn while its proposal is deleted is seen by others again, once it has noticed.
func TestProposalThatIsGoneIsLeftAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		l := &link{Store: b.memory, steady: true, rnd: rand.New(rand.NewPCG(1, 1)), put: 60 * time.Millisecond, get: 50 * time.Millisecond,
			fleet: &fleet{proposed: map[string]int64{}}, requests: map[string]int{}}
		b.check(b.open().Pin(t.Context(), pins(1)))
		table := b.open(l)
		b.foreign(`{"commitInfo":{"operation":"x","kafkadelta":{"v":1,"units":[],"contended":true,"carried":99}}}`)
		b.claim(table, 0) // which reads of the crowd
		for n := range 7 {
			b.leaveDead("0000000000001-", n, 1<<40) // before which it waits for some rounds
		}
		time.Sleep(time.Millisecond)
		var seen []int
		var watching sync.WaitGroup
		watching.Go(func() {
			for range 12 {
				time.Sleep(100 * time.Millisecond)
				own := slices.DeleteFunc(b.proposals(), func(name string) bool { return strings.HasPrefix(name, proposals+"0000000000001-") })
				seen = append(seen, len(own))
				if len(seen) == 1 {
					b.check(b.memory.Delete(t.Context(), own[0]))
				}
			}
		})
		u := b.unit(table, span(0, 0, 1))
		b.commit(table, u)
		b.want(u, sink.Landed)
		watching.Wait()
		if len(seen) < 2 || !slices.Contains(seen[1:], 1) {
			t.Errorf("its proposals that lay there, each 0.1 s: %v; want it again after it was gone", seen)
		}
	})
}

// TestOldFilesAreNotCommitted holds rule C8.
func TestOldFilesAreNotCommitted(t *testing.T) {
	b := newBench(t)
	table := b.owner(1)
	u := b.unit(table, span(0, 0, 3))
	b.passed.Add(int64(59 * time.Minute))
	young := b.unit(table, span(0, 0, 3))
	b.passed.Add(int64(2 * time.Minute))
	b.commit(table, u)
	b.want(u, sink.Dropped)
	b.commit(table, young)
	b.want(young, sink.Landed)
	b.store.SetHook(func(op faultstore.Op) { // the worker is frozen, and hears an hour later that its file is there
		if op.Method == faultstore.MethodClose && strings.HasSuffix(op.Name, ".parquet") {
			b.passed.Add(int64(61 * time.Minute))
		}
	})
	frozen := b.unit(table, span(0, 3, 3))
	b.commit(table, frozen)
	b.want(frozen, sink.Dropped)
}

// TestCarrierWithALostAnswer carries a unit in a version whose answer is lost.
func TestCarrierWithALostAnswer(t *testing.T) {
	b := newBench(t)
	loser := b.owner(2)
	faulty := faultstore.New(b.memory)
	carrier := b.open(faulty)
	b.claim(carrier, 1)
	u, w := b.unit(loser, span(0, 0, 3)), b.unit(carrier, span(1, 0, 4))
	b.proposed(loser, u, func() {
		puts := 0
		faulty.SetPlan(func(op faultstore.Op) faultstore.Action {
			if isPut(op) && strings.HasSuffix(op.Name, ".json") {
				if puts++; puts == 2 { // the first one loses
					return faultstore.LandThenFail(nil)
				}
			}
			return faultstore.Pass()
		})
		b.commit(carrier, w)
		b.want(w, sink.Landed)
	})
	b.want(u, sink.Landed)
	if b.consistent() != 7 || b.record().Carried != 1 {
		t.Errorf("the table has %d rows, its newest version carries %d; want 7 and 1", b.consistent(), b.record().Carried)
	}
}

// TestTurns holds that a worker waits for the units that lie there for longer than its own, by the store's time and not by the names, and
// for none of them for long, or twice.
func TestTurns(t *testing.T) {
	const ahead, behind = "9999999999999-", "0000000000001-" // by the clock that made the names
	for name, tt := range map[string]struct {
		before, after   []string // proposals of others that can't be carried
		rounds, another int      // of its patience for which it waits with its first unit, and with its second
		unheard         bool     // its own don't arrive
	}{
		"alone":                        {},
		"an older one":                 {before: []string{behind}, rounds: 1},
		"a younger one":                {after: []string{ahead}, another: 1},
		"three older ones":             {before: []string{behind, behind, ahead}, rounds: 2},
		"their clocks were ahead":      {before: []string{ahead, ahead, ahead}, rounds: 2},
		"the younger ones were behind": {before: []string{behind}, after: []string{behind, behind}, rounds: 1},
		"its own is missing":           {before: []string{behind}, after: []string{behind, behind}, rounds: 1, unheard: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				l := &link{Store: b.memory, steady: true, rnd: rand.New(rand.NewPCG(1, 1)), put: 60 * time.Millisecond, get: 50 * time.Millisecond,
					fleet: &fleet{proposed: map[string]int64{}}, requests: map[string]int{}}
				b.check(b.open().Pin(t.Context(), pins(1)))
				table := b.open(&deaf{l, tt.unheard})
				b.foreign(`{"commitInfo":{"operation":"x","kafkadelta":{"v":1,"units":[],"contended":true,"carried":99}}}`)
				b.claim(table, 0) // which reads of the crowd
				made := 0
				leave := func(prefixes []string) {
					for _, prefix := range prefixes {
						b.leaveDead(prefix, made, 1<<40)
						made++
						time.Sleep(time.Millisecond)
					}
				}
				commit := func(first int64, rounds int) {
					t.Helper()
					begun := time.Now()
					u := b.unit(table, span(0, first, 1))
					b.commit(table, u)
					b.want(u, sink.Landed)
					// 180 to 230 ms without waiting; a round is four times the 60 ms that leaving took, up to 73 ms until it is noticed, and a look.
					if took := time.Since(begun); int(took/(350*time.Millisecond)) != rounds {
						t.Errorf("it took %v: want %d rounds of 0.35 s", took, rounds)
					}
				}
				leave(tt.before)
				go func() {
					time.Sleep(80 * time.Millisecond) // it has left its own by now
					leave(tt.after)
				}()
				commit(0, tt.rounds)
				commit(1, tt.another)
				commit(2, 0)
			})
		})
	}
}

// deaf loses proposals.
type deaf struct {
	*link
	loses bool
}

func (d *deaf) Put(ctx context.Context, name string, data []byte) error {
	if d.loses {
		return errLost
	}
	return d.link.Put(ctx, name, data)
}

// TestTheDeadDontCrowdOutTheLiving: more proposals that can't be carried lie there than a commit reads.
func TestTheDeadDontCrowdOutTheLiving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		loser, carrier := b.owner(2), b.open(b.memory)
		b.claim(carrier, 1)
		u := b.unit(loser, span(0, 0, 3))
		b.proposed(loser, u, func() {
			name := b.proposals()[0]
			data := b.read(name)
			b.check(b.memory.Delete(t.Context(), name))
			for n := range 600 {
				b.leaveDead("0000000000001-", n, 1<<40)
			}
			time.Sleep(time.Millisecond)
			b.check(b.memory.Put(t.Context(), name, data))
			for i, want := range []int{0, 1} {
				b.commit(carrier, b.unit(carrier, span(1, int64(i), 1)))
				if got := b.record().Carried; got != want {
					t.Errorf("commit %d carries %d, want %d", i, got, want)
				}
			}
		})
		b.want(u, sink.Landed)
	})
}

// leaveDead leaves a proposal whose owner is dead, under a name that begins as told. With an rv of the future no carrier can take it; with one
// from before the carriers' time they can tell that it is over once its partition has moved.
func (b *bench) leaveDead(prefix string, n int, rv int64) {
	b.t.Helper()
	unit := fmt.Sprintf("00000000-0000-4000-8000-%012d", n)
	body := fmt.Sprintf(`{"v":1,"table":%q,"born":%d,"record":{"v":1,"unit":%q,"name":%q,"rv":%d,"spans":[{"topic":%q,"partition":0,"first":0,"next":1,"records":1,"skipped":1}]}}`,
		b.snapshot().Metadata().ID, b.now().UnixMilli(), unit, stream, rv, topic)
	sum := sha256.Sum256([]byte(body))
	data, err := json.Marshal(map[string]any{"sha256": hex.EncodeToString(sum[:]), "proposal": json.RawMessage(body)})
	b.check(err)
	b.check(b.memory.Put(b.t.Context(), fmt.Sprint(proposals, prefix, unit, "-", rv, ".json"), data))
}

// TestDeadProposalsAreDeleted by whoever carries next, since they would stand before the others.
func TestDeadProposalsAreDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		loser, carrier := b.owner(2), b.open(b.memory)
		b.claim(carrier, 1)
		u := b.unit(loser, span(0, 0, 3))
		var name string
		var data []byte
		b.proposed(loser, u, func() {
			name = b.proposals()[0]
			data = b.read(name)
			b.commit(carrier, b.unit(carrier, span(1, 0, 4)))
		})
		b.want(u, sink.Landed)
		b.check(b.memory.Put(t.Context(), name, data)) // its owner died before it could delete it
		for i, want := range []int{1, 0} {
			b.commit(carrier, b.unit(carrier, span(1, 4+int64(i), 1)))
			if left := b.proposals(); len(left) != want {
				t.Errorf("%v are left, want %d", left, want)
			}
			time.Sleep(6 * time.Second) // by then it would have deleted it
		}
		late := b.open(b.memory) // it has not seen the unit land, and finds out by reading the proposal
		b.claim(late, 1)
		b.check(b.memory.Put(t.Context(), name, data))
		for i, want := range []int{1, 0} {
			b.foreign(contended)
			b.commit(late, b.unit(late, span(1, 6+int64(i), 1)))
			if left := b.proposals(); len(left) != want {
				t.Errorf("%v are left, want %d", left, want)
			}
			time.Sleep(6 * time.Second)
		}
		b.consistent()
	})
}

// TestManyVersionsAreReadAtATime has a worker come back to a log that has gone on for long.
func TestManyVersionsAreReadAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		table := b.open(&link{Store: b.memory, rnd: rand.New(rand.NewPCG(1, 1)), get: 50 * time.Millisecond, fleet: &fleet{}, requests: map[string]int{}})
		for v := range int64(500) {
			b.check(b.memory.PutIfAbsent(t.Context(), logFile(v+1), []byte(`{"commitInfo":{"operation":"WRITE"}}`+"\n")))
		}
		begun := time.Now()
		_, _, err := table.Follow(t.Context())
		b.check(err)
		if took := time.Since(begun); took > 3*time.Second {
			t.Errorf("500 versions took %v to read, 50 ms each", took)
		}
	})
}
