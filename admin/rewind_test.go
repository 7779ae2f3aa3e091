package admin_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/storage/faultstore"
)

// rewinding asks for a rewind of the fixture's stream, whose topic has 100 offsets in each of two partitions.
func rewinding(to map[int32]int64) admin.Rewinding {
	return admin.Rewinding{
		Writer: admin.Writer{Engine: "kafkadelta/test", Now: time.Now}, Name: stream, Topic: topic, How: "--to-offsets", To: to, ToVersion: -1,
		Kafka: admin.KafkaTopic{Identity: identity, Start: map[int32]int64{0: 0, 1: 0}, End: map[int32]int64{0: 100, 1: 100}},
	}
}

func (f *fixture) plan(r admin.Rewinding) *admin.RewindPlan {
	f.t.Helper()
	p, err := admin.PlanRewind(f.t.Context(), f.store, r)
	f.check(err)
	return p
}

// rewind does it, and has the worker go on.
func (f *fixture) rewind(r admin.Rewinding) int64 {
	f.t.Helper()
	version, err := f.plan(r).Commit(f.t.Context())
	f.check(err)
	f.claim()
	return version
}

// claim claims both partitions anew, as a worker does that was fenced.
func (f *fixture) claim() map[int32]int64 {
	f.t.Helper()
	next, err := f.table.Claim(f.t.Context(), []checkpoint.Partition{{Topic: topic, ID: 0}, {Topic: topic, ID: 1}})
	f.check(err)
	at := map[int32]int64{}
	for p, o := range next {
		at[p.ID] = o.Next
	}
	return at
}

// txns are those of the stream, without its name.
func (f *fixture) txns() map[string]int64 {
	f.t.Helper()
	found := map[string]int64{}
	for txn := range f.snapshot().Txns() {
		if txn.AppID == checkpoint.LastUnitAppID(stream) || txn.AppID == checkpoint.HomeAppID(stream) { // of every commit with rows
			continue
		}
		found[strings.TrimPrefix(txn.AppID, stream)] = txn.Version
	}
	return found
}

const identityTxn = "#topic/cluster/topic-id"

func TestRewind(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 20, nil, 0}, take{1, 0, 9, nil, 0})
	p := f.plan(rewinding(map[int32]int64{0: 5}))
	if want := []admin.Move{{Partition: 0, From: 20, To: 5}, {Partition: 1, From: 9, To: 9}}; !slices.Equal(p.Moves, want) || p.Generation != 1 {
		t.Errorf("the plan is %+v, want %+v in generation 1", p, want)
	}
	if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "stay in the table") {
		t.Errorf("the plan says %q", p.Warnings)
	}
	if v := f.snapshot().Version(); v != 2 {
		t.Errorf("a plan has made version %d", v)
	}
	version := f.rewind(rewinding(map[int32]int64{0: 5}))
	if want := map[string]int64{"-0": 4, "-1": 8, "#gen": 1, identityTxn: 2}; !maps.Equal(f.txns(), want) || version != 3 {
		t.Errorf("version %d has the txns %v, want %v in version 3", version, f.txns(), want)
	}
	f.commit(take{0, 5, 30, nil, 0})
	f.commit(take{1, 9, 12, nil, 0})
	r := f.verify()
	wantVerdict(t, r, admin.OK)
	if n := len(r.Partitions); n != 4 || r.Partitions[1].Generation != 1 || r.Partitions[1].From != 5 || r.Partitions[1].Next != 30 || r.Partitions[0].Txn != nil || r.Partitions[0].Next != 20 {
		t.Errorf("the generations: %s", show(r))
	}
	if !slices.ContainsFunc(r.Notes, func(n string) bool {
		return strings.Contains(n, "version 3 has rewound stream events (--to-offsets)") && strings.Contains(n, "15 offsets were to be read again")
	}) {
		t.Errorf("the notes are %q", r.Notes)
	}
	f.foreign("WRITE", f.write("again.parquet", true, []place{{0, 3}}))
	wantFault(t, f.verify(), admin.Duplicate, "offset 3")
}

// TestRewindsInARow: down, up and down again, with rows of the generations before deleted, and all of it compacted.
func TestRewindsInARow(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 20, nil, 0}, take{1, 0, 9, nil, 0})
	f.rewind(rewinding(map[int32]int64{0: 10, 1: 3}))
	f.commit(take{0, 10, 15, nil, 0})
	f.rewind(rewinding(map[int32]int64{0: 40}))
	f.commit(take{0, 40, 50, nil, 0}, take{1, 3, 9, nil, 0})
	wantVerdict(t, f.verify(), admin.OK)
	f.rewrite("DELETE", true, func(p place) bool { return p.partition != 0 || p.offset < 12 })
	f.rewind(rewinding(map[int32]int64{0: 12}))
	f.commit(take{0, 12, 60, nil, 0})
	wantVerdict(t, f.verify(), admin.OK)
	f.rewrite("OPTIMIZE", false, all)
	r := f.verify()
	wantVerdict(t, r, admin.OK)
	if n := len(r.Partitions); n != 8 || r.Partitions[1].Generation != 1 || r.Partitions[1].Deleted != 0 {
		t.Errorf("%d partitions in their generations, want 8, and nothing missed of what generation 3 has read again: %s", n, show(r))
	}
	f.rewrite("OPTIMIZE", false, func(p place) bool { return p != place{0, 55} })
	wantFault(t, f.verify(), admin.LostRows)
}

// TestRewindKeepsWhatMovesMeanwhile: a partition that is not asked for stays where it is when the rewind lands, not where it was when
// it was planned; and a put whose answer is lost is not made twice.
func TestRewindKeepsWhatMovesMeanwhile(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 20, nil, 0}, take{1, 0, 9, nil, 0})
	store := faultstore.New(f.store)
	moved := false
	store.SetHook(func(op faultstore.Op) {
		if isPut(op) && !moved {
			moved = true
			f.commit(take{0, 20, 25, nil, 0}, take{1, 9, 12, nil, 0})
		}
	})
	p, err := admin.PlanRewind(t.Context(), store, rewinding(map[int32]int64{0: 5}))
	f.check(err)
	version, err := p.Commit(t.Context())
	f.check(err)
	if want := map[string]int64{"-0": 4, "-1": 11, "#gen": 1, identityTxn: 2}; !maps.Equal(f.txns(), want) || version != 4 {
		t.Errorf("version %d has the txns %v, want %v in version 4", version, f.txns(), want)
	}
	if want := []admin.Move{{Partition: 0, From: 25, To: 5}, {Partition: 1, From: 12, To: 12}}; !slices.Equal(p.Moves, want) {
		t.Errorf("what was done is %+v, want %+v", p.Moves, want)
	}
	wantVerdict(t, f.verify(), admin.OK)
}

func isPut(op faultstore.Op) bool { return op.Method == faultstore.MethodPutIfAbsent }

func TestRewindWhoseAnswerIsLost(t *testing.T) {
	for name, action := range map[string]faultstore.Action{"landed": faultstore.LandThenFail(nil), "not landed": faultstore.Fail(nil)} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, setup{})
			f.commit(take{0, 0, 20, nil, 0})
			store := faultstore.New(f.store)
			p, err := admin.PlanRewind(t.Context(), store, rewinding(map[int32]int64{0: 5}))
			f.check(err)
			store.SetPlan(faultstore.Once(isPut, action))
			version, err := p.Commit(t.Context())
			f.check(err)
			if version != 3 || f.snapshot().Version() != 3 || f.txns()["#gen"] != 1 {
				t.Errorf("the rewind is version %d of %d, txns %v", version, f.snapshot().Version(), f.txns())
			}
		})
	}
}

// TestRewindForgetsLeaderEpochs: they are of the last record before. One that is still the last one's stays.
func TestRewindForgetsLeaderEpochs(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 20, nil, 0}, take{1, 0, 9, nil, 0})
	f.foreign("WRITE", delta.Txn{AppID: "events#leader/0", Version: 7}, delta.Txn{AppID: "events#leader/1", Version: 8})
	f.rewind(rewinding(map[int32]int64{0: 5}))
	if got := f.txns(); got["#leader/0"] != -1 || got["#leader/1"] != 8 {
		t.Errorf("the txns are %v, want the leader epochs -1 and 8", got)
	}
}

// TestTwoRewindsAtOnce: the second was planned for a generation that is over.
func TestTwoRewindsAtOnce(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 20, nil, 0})
	second := f.plan(rewinding(map[int32]int64{0: 7}))
	f.rewind(rewinding(map[int32]int64{0: 5}))
	_, err := second.Commit(t.Context())
	wantRefusal(t, err, "rewound to generation 1", "new plan")
	third := f.plan(rewinding(map[int32]int64{0: 7}))
	f.foreign("RESTORE")
	_, err = third.Commit(t.Context())
	wantRefusal(t, err, "restored", "new plan")
	if f.txns()["-0"] != 4 || f.txns()["#gen"] != 1 {
		t.Errorf("the txns are %v", f.txns())
	}
}

func wantRefusal(t *testing.T, err error, cause, remedy string) {
	t.Helper()
	var refused *checkpoint.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(refused.Cause, cause) || !strings.Contains(refused.Remedy, remedy) {
		t.Errorf("the answer is %v, want a refusal because of %q, with the remedy %q", err, cause, remedy)
	}
}

func TestRewindRefuses(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 20, nil, 0}, take{1, 0, 9, nil, 0})
	f.commit(take{0, 20, 30, nil, 0})
	kafka := func(change func(*admin.KafkaTopic)) func(*admin.Rewinding) {
		return func(r *admin.Rewinding) { change(&r.Kafka) }
	}
	for name, tt := range map[string]struct {
		to            map[int32]int64
		change        func(*admin.Rewinding)
		cause, remedy string
	}{
		"beyond the end": {map[int32]int64{0: 101}, nil, "offset 101 of topic[0] is beyond the end, which is 100", "up to the end"},
		"gone in Kafka": {map[int32]int64{0: 5}, kafka(func(k *admin.KafkaTopic) { k.Start[0] = 6 }),
			"no longer has offset 5 of topic[0]: its first one is 6", "--force"},
		"no such partition": {map[int32]int64{2: 5}, nil, "no partition 2", "from 0 to 1"},
		"another stream":    {nil, func(r *admin.Rewinding) { r.Name = "other" }, `no offsets of stream "other"`, "adopt"},
		"another topic": {map[int32]int64{0: 1}, kafka(func(k *admin.KafkaTopic) { k.Identity.TopicID = "anew" }),
			"belong to topic id topic-id", "--new-topic"},
		"the topic is not new":       {map[int32]int64{0: 1, 1: 1}, func(r *admin.Rewinding) { r.NewTopic = true }, "is the one", "--new-topic out"},
		"a version to come":          {nil, func(r *admin.Rewinding) { r.ToVersion = 4 }, "is at version 3", "earlier"},
		"a version before the first": {nil, func(r *admin.Rewinding) { r.ToVersion = 0 }, "version 0 has no offsets", "--to earliest"},
		"of the new topic not all": {map[int32]int64{0: 1}, func(r *admin.Rewinding) { r.NewTopic, r.Kafka.Identity.TopicID = true, "anew" },
			"partition 1", "--to-offsets 1=OFFSET"},
	} {
		t.Run(name, func(t *testing.T) {
			r := rewinding(tt.to)
			if tt.change != nil {
				tt.change(&r)
			}
			_, err := admin.PlanRewind(t.Context(), f.store, r)
			wantRefusal(t, err, tt.cause, tt.remedy)
		})
	}
	r := rewinding(map[int32]int64{0: 5})
	r.Kafka.Start[0], r.Force = 6, true
	if p := f.plan(r); p.Moves[0].To != 6 || p.Moves[0].Gone != 1 {
		t.Errorf("by force: %+v", p.Moves)
	}
	if _, err := admin.PlanRewind(t.Context(), faultstore.New(f.store), rewinding(nil)); err != nil {
		t.Errorf("a rewind that moves nothing: %v", err)
	}
}

// TestRewindOfATxnThatWasLost: a partition whose txn has expired goes on where it is told to, and nowhere else.
func TestRewindOfATxnThatWasLost(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 20, nil, 0})
	f.edit(1, `{"txn":{"appId":"events-1","version":-1,`, `{"txn":{"appId":"elsewhere","version":-1,`)
	_, err := admin.PlanRewind(t.Context(), f.store, rewinding(map[int32]int64{0: 5}))
	wantRefusal(t, err, "partition 1", "--to-offsets 1=OFFSET")
	f.rewind(rewinding(map[int32]int64{1: 7}))
	if want := map[string]int64{"-0": 19, "-1": 6, "#gen": 1, identityTxn: 2, "elsewhere": -1}; !maps.Equal(f.txns(), want) {
		t.Errorf("the txns are %v, want %v", f.txns(), want)
	}
}

// TestRewindAfterARestore: RESTORE takes back rows and not txns. Workers refuse until the txns are taken back to that version, too.
// TestRewindBesideAnAddedPartition: one that no worker has claimed begins at offset 0, so that what retention has removed of it is missed.
func TestRewindBesideAnAddedPartition(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 20, nil, 0})
	r := rewinding(map[int32]int64{0: 5})
	r.Kafka.Start, r.Kafka.End = map[int32]int64{0: 0, 1: 0, 2: 0, 3: 7}, map[int32]int64{0: 100, 1: 100, 2: 100, 3: 100}
	p := f.plan(r)
	if want := []admin.Move{{Partition: 0, From: 20, To: 5}, {Partition: 1}, {Partition: 2, From: -1}, {Partition: 3, From: -1}}; !slices.Equal(p.Moves, want) {
		t.Errorf("the plan is %+v, want %+v", p.Moves, want)
	}
	if !strings.Contains(strings.Join(p.Warnings, "\n"), "partition 3 was added since, and Kafka no longer has its first 7 messages") || strings.Contains(strings.Join(p.Warnings, "\n"), "partition 2 was") {
		t.Errorf("the plan says %q", p.Warnings)
	}
	r.To[3] = 7
	if p = f.plan(r); p.Moves[3].To != 7 || strings.Contains(strings.Join(p.Warnings, "\n"), "was added") {
		t.Errorf("the plan is %+v and says %q, want partition 3 at 7", p.Moves, p.Warnings)
	}
}

func TestRewindAfterARestore(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 10, nil, 0}, take{1, 0, 9, nil, 0}) // version 2
	f.commit(take{0, 10, 30, nil, 0})
	added := f.filesOf(3)[0]
	version := f.foreign("RESTORE", removeOf(added, true))
	f.edit(version, `"operation":"RESTORE"`, `"operation":"RESTORE","operationParameters":{"version":2}`)
	wantFault(t, f.verify(), admin.Restored, "version 4")
	if err := f.table.Pin(t.Context(), pinRequest(2)); err == nil || !strings.Contains(err.Error(), "connector rewind --to-table-version N") {
		t.Errorf("a worker answers %v, want the remedy", err)
	}
	for v, cause := range map[int64]string{3: "the rows between that and version 3 would not come back", 5: "is at version 4"} {
		r := rewinding(nil)
		r.ToVersion = v
		_, err := admin.PlanRewind(t.Context(), f.store, r)
		wantRefusal(t, err, cause, "")
	}
	f.foreign("WRITE") // somebody else's
	r := rewinding(nil)
	r.ToVersion = 4
	_, err := admin.PlanRewind(t.Context(), f.store, r)
	wantRefusal(t, err, "version 4 restored the table", "--to-table-version 2")
	_, err = admin.PlanRewind(t.Context(), f.store, rewinding(map[int32]int64{0: 30}))
	wantRefusal(t, err, "partition 1 would stay where it is", "--to-table-version 2")
	forced := rewinding(map[int32]int64{0: 30})
	forced.Force = true
	f.plan(forced)
	if p := f.plan(rewinding(map[int32]int64{0: 30, 1: 9})); len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "--to-table-version 2") {
		t.Errorf("another rewind warns %q", p.Warnings)
	}
	r.ToVersion = 2
	p := f.plan(r)
	if want := []admin.Move{{Partition: 0, From: 30, To: 10}, {Partition: 1, From: 9, To: 9}}; !slices.Equal(p.Moves, want) || len(p.Warnings) > 0 {
		t.Errorf("the plan is %+v, want %+v without a warning", p, want)
	}
	_, err = p.Commit(t.Context())
	f.check(err)
	f.open(setup{}) // a worker starts
	if next := f.claim(); next[0] != 10 || next[1] != 9 {
		t.Errorf("a worker goes on at %v", next)
	}
	f.commit(take{0, 10, 30, nil, 0})
	wantVerdict(t, f.verify(), admin.OK)
}

// TestRewindToBetweenARestoreAndItsRewind: such a version has rows that went back, and offsets that did not yet. (Found by the simulation.)
func TestRewindToBetweenARestoreAndItsRewind(t *testing.T) {
	f := newFixture(t, setup{})
	restore := func(to int64, of int64) {
		version := f.foreign("RESTORE", removeOf(f.filesOf(of)[0], true))
		f.edit(version, `"operation":"RESTORE"`, fmt.Sprintf(`"operation":"RESTORE","operationParameters":{"version":"%d"}`, to))
	}
	f.commit(take{0, 0, 10, nil, 0}, take{1, 0, 9, nil, 0}) // version 2
	f.commit(take{0, 10, 30, nil, 0})
	restore(2, 3)      // version 4
	f.foreign("WRITE") // version 5
	r := rewinding(nil)
	r.ToVersion = 2
	_, err := f.plan(r).Commit(t.Context())
	f.check(err)
	f.open(setup{})
	f.commit(take{0, 10, 20, nil, 0}) // version 7
	restore(5, 7)
	r.ToVersion = 5
	_, err = admin.PlanRewind(t.Context(), f.store, r)
	wantRefusal(t, err, "version 4 restored the table to version 2, and the offsets of version 5 are from before that", "use --to-table-version 2")
	f.foreign("RESTORE")
	f.edit(9, `"operation":"RESTORE"`, `"operation":"RESTORE","operationParameters":{"version":"8"}`)
	r.ToVersion = 8
	_, err = admin.PlanRewind(t.Context(), f.store, r)
	wantRefusal(t, err, "version 8 restored the table to version 5", "use --to-table-version 2")
	r.ToVersion = 2
	if p, want := f.plan(r), []admin.Move{{Partition: 0, From: 20, To: 10}, {Partition: 1, From: 9, To: 9}}; !slices.Equal(p.Moves, want) || len(p.Warnings) > 0 {
		t.Errorf("the plan is %+v, want %+v without a warning", p, want)
	}
}

// TestRewindToANewTopic: the topic was deleted and made anew, with another number of partitions.
func TestRewindToANewTopic(t *testing.T) {
	for _, tt := range []struct {
		partitions int32
		name       string
	}{{1, topic}, {2, topic}, {3, topic}, {1, "another"}, {2, "another"}, {3, "another"}} {
		t.Run(fmt.Sprint(tt.partitions, " of ", tt.name), func(t *testing.T) {
			partitions := tt.partitions
			f := newFixture(t, setup{})
			f.commit(take{0, 0, 20, nil, 0}, take{1, 0, 9, nil, 0})
			anew := checkpoint.Identity{ClusterID: "cluster", TopicID: "anew"}
			r := rewinding(map[int32]int64{})
			f.topic = tt.name
			r.Topic, r.NewTopic, r.Kafka = tt.name, true, admin.KafkaTopic{Identity: anew, Start: map[int32]int64{}, End: map[int32]int64{}}
			for p := range partitions {
				r.To[p], r.Kafka.Start[p], r.Kafka.End[p] = 0, 0, 5
			}
			p := f.plan(r)
			if !slices.Equal(p.Former, []checkpoint.Identity{identity}) {
				t.Errorf("the topic before was %v", p.Former)
			}
			_, err := p.Commit(t.Context())
			f.check(err)
			want := map[string]int64{"-0": -1, "-1": -1, "#gen": 1, identityTxn: 0, "#topic/cluster/anew": int64(partitions)}
			if partitions == 3 {
				want["-2"] = -1
			}
			if !maps.Equal(f.txns(), want) {
				t.Errorf("the txns are %v, want %v", f.txns(), want)
			}
			wantRefusal(t, f.table.Pin(t.Context(), pinRequest(2)), "has led stream", "start it again")
			wantRefusal(t, f.pinAs(stream), "topic id anew", "check source.brokers")
			f.table = f.openTable(setup{})
			request := pinRequest(partitions)
			request.Topic, request.Identity = tt.name, anew
			f.check(f.table.Pin(t.Context(), request))
			_, err = f.table.Claim(t.Context(), []checkpoint.Partition{{Topic: tt.name, ID: 0}})
			f.check(err)
			f.commit(take{0, 0, 5, nil, 0})
			kafka := &records{identity: anew, start: r.Kafka.Start, end: r.Kafka.End, at: map[place]bool{}}
			for o := range int64(5) {
				kafka.at[place{0, o}] = false
			}
			compared := withKafka(kafka)
			compared.Topic = tt.name
			report := f.verify(compared)
			wantVerdict(t, report, admin.OK)
			if report.Kafka.Messages != 5 {
				t.Errorf("compared with Kafka: %+v", report.Kafka)
			}
			f.cleanLog() // nothing tells of the rewind any more but the txns
			if r := f.verify(compared); r.FaultCount > 0 {
				t.Errorf("after a cleanup of the log: %s", show(r))
			}
		})
	}
}

// TestRewindToATopicThatAnotherStreamBrings: a rewind to another topic begins with it, as a first start does (rule A1c). The other stream may be
// there before the plan, or come between it and the commit.
func TestRewindToATopicThatAnotherStreamBrings(t *testing.T) {
	anew := checkpoint.Identity{ClusterID: "cluster", TopicID: "anew"}
	other := func(filtered int64) []any {
		return []any{delta.Txn{AppID: "other-0", Version: 4}, delta.Txn{AppID: checkpoint.IdentityAppID("other", anew), Version: 1}, delta.Txn{AppID: "other#filter", Version: filtered}}
	}
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 20, nil, 0}, take{1, 0, 9, nil, 0})
	r := rewinding(map[int32]int64{0: 0, 1: 0})
	r.NewTopic, r.Kafka.Identity = true, anew
	p := f.plan(r)
	f.foreign("STREAMING UPDATE", other(0)...)
	before := f.snapshot().Version()
	_, err := p.Commit(t.Context())
	wantRefusal(t, err, `by stream "other"`, "table.filter")
	if v := f.snapshot().Version(); v != before {
		t.Errorf("version %d was written", v)
	}
	for _, r.Filtered = range []bool{false, true} {
		_, err = admin.PlanRewind(t.Context(), f.store, r)
		wantRefusal(t, err, `by stream "other"`, "table.filter")
	}
	f.foreign("STREAMING UPDATE", other(1)...)
	_, err = f.plan(r).Commit(t.Context())
	f.check(err)
	if got, ok := f.txns()["#filter"]; !ok || got != 1 {
		t.Errorf("the table does not say that the stream leaves messages out: %v", f.txns())
	}
	back := rewinding(map[int32]int64{0: 0, 1: 0})
	back.NewTopic = true
	_, err = f.plan(back).Commit(t.Context()) // to a topic that nobody else brings, without a filter
	f.check(err)
	if got := f.txns()["#filter"]; got != 0 {
		t.Errorf("the table says that the stream leaves messages out: %v", f.txns())
	}
}

// TestRewindOfAStreamThatKafkaDeltaIngestHasLeft: it has no identity yet, and the rewind gives it one.
func TestRewindOfAStreamThatKafkaDeltaIngestHasLeft(t *testing.T) {
	f := newFixture(t, setup{})
	f.foreign("WRITE", delta.Txn{AppID: "kdi-0", Version: 7}, delta.Txn{AppID: "kdi-1", Version: 7})
	r := rewinding(map[int32]int64{0: 5})
	r.Name = "kdi"
	_, err := admin.PlanRewind(t.Context(), f.store, r)
	wantRefusal(t, err, `by stream "events"`, `"events", with its name`)
}

// TestRewindAndKafka: an earlier generation is compared as well, and what was passed over is not looked for.
func TestRewindAndKafka(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 10, nil, 0}, take{1, 0, 9, nil, 0})
	f.rewind(rewinding(map[int32]int64{0: 5, 1: 20}))
	f.commit(take{0, 5, 10, nil, 0}, take{1, 20, 30, nil, 0})
	kafka := &records{identity: identity, start: map[int32]int64{0: 0, 1: 0}, end: map[int32]int64{0: 10, 1: 40}, at: map[place]bool{}}
	for p, n := range map[int32]int64{0: 10, 1: 40} {
		for o := range n {
			kafka.at[place{p, o}] = false
		}
	}
	r := f.verify(withKafka(kafka))
	wantVerdict(t, r, admin.OK)
	if r.Kafka.NotRead != 10 {
		t.Errorf("compared with Kafka: %+v", r.Kafka)
	}
	f.edit(4, `"records":5,"rows":5,"skipped":0,"gaps":0`, `"records":4,"rows":4,"skipped":0,"gaps":1`)
	wantFault(t, f.verify(withKafka(kafka)), admin.MissingMessage)
}

// TestGenerationFaults plants what a rewind must not leave, and what a hand may do instead of one.
func TestGenerationFaults(t *testing.T) {
	for name, tt := range map[string]struct {
		plant func(f *fixture)
		kind  admin.Kind
		says  string
	}{
		"a txn moved by hand":       {func(f *fixture) { f.foreign("WRITE", delta.Txn{AppID: "events-0", Version: 4}) }, admin.ForgedTxn, "is no commit of the stream"},
		"a generation by hand":      {func(f *fixture) { f.foreign("WRITE", delta.Txn{AppID: "events#gen", Version: 2}) }, admin.ForgedTxn, "is no rewind"},
		"a rewind without its txn":  {func(f *fixture) { f.edit(3, `"appId":"events#gen","version":1`, `"appId":"other","version":1`) }, admin.ForgedTxn, `"events#gen"`},
		"a rewind to elsewhere":     {func(f *fixture) { f.edit(3, `"appId":"events-0","version":4`, `"appId":"events-0","version":3`) }, admin.ForgedTxn, `"events-0" is 3`},
		"a record of other offsets": {func(f *fixture) { f.edit(3, `"from":[20,9]`, `"from":[19,9]`) }, admin.ForgedTxn, "found it at offset 19"},
		"offsets that nothing took": {func(f *fixture) { f.edit(3, `"from":[20,9]`, `"from":[20,11]`) }, admin.ForgedTxn, "[9, 11)"},
		"a generation left out": {func(f *fixture) {
			f.edit(3, `"gen":1`, `"gen":2`, `"appId":"events#gen","version":1`, `"appId":"events#gen","version":2`)
			f.edit(4, `"gen":1`, `"gen":2`, `\"gen\":1`, `\"gen\":2`)
		}, admin.WrongGeneration, "to generation 2, but the one before is 0"},
		"a unit that was given up":                {func(f *fixture) { f.edit(4, `"gen":1`, `"gen":0`, `\"gen\":1`, `\"gen\":0`) }, admin.WrongGeneration, "has landed after it"},
		"a unit of another generation by its tag": {func(f *fixture) { f.edit(4, `\"gen\":1`, `\"gen\":0`) }, admin.LyingTag, "disagree"},
		"a gap in the new generation": {func(f *fixture) {
			f.edit(4, `"first":5,"next":30,"records":25,"rows":25`, `"first":6,"next":30,"records":24,"rows":24`)
		}, admin.Gap, "generation 1: no commit has taken offsets [5, 6)"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, setup{})
			f.commit(take{0, 0, 20, nil, 0}, take{1, 0, 9, nil, 0})
			f.rewind(rewinding(map[int32]int64{0: 5}))
			f.commit(take{0, 5, 30, nil, 0})
			wantVerdict(t, f.verify(), admin.OK)
			tt.plant(f)
			wantFault(t, f.verify(), tt.kind, tt.says)
		})
	}
}

// TestGenerationsAfterACleanup: the record of the rewind is gone, and tags of files tell the generations.
func TestGenerationsAfterACleanup(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 20, nil, 0}, take{1, 0, 9, nil, 0})
	f.rewind(rewinding(map[int32]int64{0: 5, 1: 2}))
	f.commit(take{0, 5, 30, nil, 0}, take{1, 2, 9, nil, 0})
	f.cleanLog()
	r := f.verify()
	wantVerdict(t, r, admin.OK)
	if len(r.Partitions) != 4 || r.Partitions[1].From != 5 || r.Partitions[1].FromKnown {
		t.Errorf("after a cleanup: %s", show(r))
	}
	f.commit(take{0, 30, 40, nil, 0})
	f.rewind(rewinding(map[int32]int64{0: 35}))
	f.commit(take{0, 35, 50, nil, 0})
	wantVerdict(t, f.verify(), admin.OK)
	since := admin.Options{Since: 6, Until: -1} // before the second rewind
	r = f.verify(since)
	wantVerdict(t, r, admin.OK)
	if last := r.Partitions[len(r.Partitions)-2]; last.Generation != 2 || last.From != 35 || last.Rows != 15 {
		t.Errorf("since version 6: %s", show(r))
	}
	f.foreign("WRITE", f.write("again.parquet", true, []place{{0, 36}}))
	wantFault(t, f.verify(since), admin.Duplicate, "offset 36")
	// A partition of which nothing was taken since a rewind that was cleaned: nothing tells where it began.
	f = newFixture(t, setup{})
	f.commit(take{0, 0, 20, nil, 0}, take{1, 0, 9, nil, 0})
	f.rewind(rewinding(map[int32]int64{0: 5}))
	f.cleanLog()
	wantVerdict(t, f.verify(), admin.OK) // the oldest version is the rewind
	f.foreign("WRITE")
	f.cleanLog()
	wantVerdict(t, f.verify(), admin.Unverifiable)
}

// TestRewindUnderACanceledContext leaves it open whether the version is there, and says so.
func TestRewindUnderACanceledContext(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 20, nil, 0})
	store := faultstore.New(f.store)
	r := rewinding(map[int32]int64{0: 5})
	ctx, cancel := context.WithCancel(t.Context())
	r.Retry = func(error, time.Duration) { cancel() }
	p, err := admin.PlanRewind(ctx, store, r)
	f.check(err)
	store.SetPlan(faultstore.Once(isPut, faultstore.Fail(nil)))
	if _, err := p.Commit(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "not known whether version 3") {
		t.Errorf("the answer is %v", err)
	}
}
