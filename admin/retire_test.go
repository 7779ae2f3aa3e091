package admin_test

import (
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/storage/faultstore"
	"kafkadelta/storage/memory"
)

func retirement() admin.Retirement {
	return admin.Retirement{Writer: admin.Writer{Engine: "kafkadelta/test", Now: time.Now}, Name: stream}
}

func (f *fixture) planRetirement(r admin.Retirement) *admin.RetirementPlan {
	f.t.Helper()
	p, err := admin.PlanRetirement(f.t.Context(), f.store, r)
	f.check(err)
	return p
}

func (f *fixture) retire() {
	f.t.Helper()
	_, err := f.planRetirement(retirement()).Commit(f.t.Context())
	f.check(err)
}

// pinAs has a first worker of a stream begin.
func (f *fixture) pinAs(name string) error {
	f.t.Helper()
	one := *f
	one.name = name
	return one.openTable(setup{}).Pin(f.t.Context(), pinRequest(2))
}

// TestRetire: a retired stream brings nothing any more, whoever still runs or starts, and another one may bring its topic (rule A1d).
func TestRetire(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 20, nil, 0}, take{1, 0, 9, nil, 0})
	wantRefusal(t, f.pinAs("other"), `by stream "events"`, "`connector retire`")
	p := f.planRetirement(retirement())
	if want := map[int32]int64{0: 20, 1: 9}; !maps.Equal(p.Next, want) || !slices.Equal(p.Topics, []checkpoint.Identity{identity}) || len(p.Warnings) > 0 {
		t.Errorf("the plan is %+v", p)
	}
	if v := f.snapshot().Version(); v != 2 {
		t.Errorf("a plan has made version %d", v)
	}
	f.retire()
	if want := map[string]int64{"-0": 19, "-1": 8, identityTxn: 0}; !maps.Equal(f.txns(), want) {
		t.Errorf("the txns are %v, want %v", f.txns(), want)
	}
	_, _, err := f.table.Follow(t.Context())
	wantRefusal(t, err, `"events" was retired`, "another `name`")
	wantRefusal(t, f.pinAs(stream), `"events" was retired`, "another `name`")
	wantVerdict(t, f.verify(), admin.OK)
	_, err = admin.PlanRetirement(t.Context(), f.store, retirement())
	wantRefusal(t, err, "retired already", "")

	f.check(f.pinAs("other"))
	wantVerdict(t, f.verify(), admin.OK)
	_, err = admin.PlanRewind(t.Context(), f.store, rewinding(map[int32]int64{0: 20}))
	wantRefusal(t, err, `by stream "other"`, "`connector retire`")
}

// TestRetireFencesAllThatWasTaken: in whichever order the retirement and a worker's commit come, what is told of the stream stays true.
func TestRetireFencesAllThatWasTaken(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 20, nil, 0}, take{1, 0, 9, nil, 0})
	store := faultstore.New(f.store)
	moved := false
	store.SetHook(func(op faultstore.Op) {
		if isPut(op) && !moved {
			moved = true
			f.commit(take{0, 20, 25, nil, 0})
		}
	})
	p, err := admin.PlanRetirement(t.Context(), store, retirement())
	f.check(err)
	_, err = p.Commit(t.Context())
	f.check(err)
	if want := map[string]int64{"-0": 24, "-1": 8, identityTxn: 0}; !maps.Equal(f.txns(), want) {
		t.Errorf("the txns are %v, want %v", f.txns(), want)
	}
	layout, err := f.table.Layout(t.Context())
	f.check(err)
	w := f.table.NewWriter(layout)
	rb := batchOf(layout.Schema, topic, take{0, 25, 30, nil, 0}.places())
	defer rb.Release()
	f.check(w.Write(t.Context(), rb))
	u, err := w.Finish([]checkpoint.Span{take{0, 25, 30, nil, 0}.span(topic)})
	f.check(err)
	version := f.snapshot().Version()
	wantRefusal(t, f.table.Commit(t.Context(), []*sink.Unit{u}), "was retired", "")
	if got := f.snapshot().Version(); got != version || u.State() == sink.Landed {
		t.Errorf("the unit is %v, version %d", u.State(), got)
	}
}

// TestRewindOfARetiredStream has it go on after all.
func TestRewindOfARetiredStream(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 20, nil, 0}, take{1, 0, 9, nil, 0})
	f.retire()
	other := rewinding(map[int32]int64{0: 0, 1: 0})
	other.Kafka.Identity.TopicID = "anew"
	_, err := admin.PlanRewind(t.Context(), f.store, other)
	wantRefusal(t, err, "are not, or not all, of the topic", "--new-topic")
	other.NewTopic = true
	f.plan(other)
	_, err = f.plan(rewinding(map[int32]int64{0: 20})).Commit(t.Context())
	f.check(err)
	if want := map[string]int64{"-0": 19, "-1": 8, "#gen": 1, identityTxn: 2}; !maps.Equal(f.txns(), want) {
		t.Errorf("the txns are %v, want %v", f.txns(), want)
	}
	f.open(setup{})
	f.commit(take{0, 20, 25, nil, 0}, take{1, 9, 10, nil, 0})
	wantVerdict(t, f.verify(), admin.OK)
	f.retire()
	_, err = f.plan(other).Commit(t.Context())
	f.check(err)
	if want := map[string]int64{"-0": -1, "-1": -1, "#gen": 2, identityTxn: 0, "#topic/cluster/anew": 2}; !maps.Equal(f.txns(), want) {
		t.Errorf("the txns are %v, want %v", f.txns(), want)
	}
	wantVerdict(t, f.verify(), admin.OK)
}

// TestRetiredStreamAndKafka: what a stream has brought is compared with the topic for as long as that is the one that it has read.
func TestRetiredStreamAndKafka(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 20, nil, 0})
	f.rewind(rewinding(map[int32]int64{0: 5}))
	f.commit(take{0, 5, 20, nil, 0})
	f.retire()
	kafka := &records{identity: identity, start: map[int32]int64{0: 0, 1: 0}, end: map[int32]int64{0: 20, 1: 0}, at: map[place]bool{}}
	for o := range int64(20) {
		kafka.at[place{0, o}] = false
	}
	r := f.verify(withKafka(kafka))
	wantVerdict(t, r, admin.OK)
	if r.Kafka.Messages != 20 || slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, "made anew") }) {
		t.Errorf("compared with its topic: %s", show(r))
	}
	kafka.identity.TopicID = "anew"
	delete(kafka.at, place{0, 7})
	kafka.at[place{0, 20}], kafka.end[0] = false, 21
	r = f.verify(withKafka(kafka))
	wantVerdict(t, r, admin.OK)
	if r.Kafka.Messages != 0 || !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, "before it was made anew is not compared") }) {
		t.Errorf("compared with another topic: %s", show(r))
	}
}

func TestRetireRefuses(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 20, nil, 0})
	r := retirement()
	r.Name = "other"
	_, err := admin.PlanRetirement(t.Context(), f.store, r)
	wantRefusal(t, err, `stream "other"`, "table inspect")
	f.foreign("WRITE", delta.Txn{AppID: "kdi-0", Version: 4})
	r.Name = "kdi"
	_, err = admin.PlanRetirement(t.Context(), f.store, r)
	wantRefusal(t, err, `stream "kdi"`, "table inspect")

	letters := newFixture(t, setup{})
	f.foreign("WRITE", delta.Txn{AppID: checkpoint.DeadLetterAppID(stream, 0), Version: 77})
	if p := f.planRetirement(retirement()); len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "connector settle") {
		t.Errorf("with dead letters in a table that is not known, it warns %q", p.Warnings)
	}
	r = retirement()
	r.Letters = letters.store
	_, err = admin.PlanRetirement(t.Context(), f.store, r)
	wantRefusal(t, err, "events#dl/0", "connector settle")
	forced := r
	forced.Force = true
	f.planRetirement(forced)
	letters.foreign("WRITE", delta.Txn{AppID: checkpoint.DeadLetterAppID(stream, 0), Version: 77})
	p := f.planRetirement(r)
	f.foreign("WRITE", delta.Txn{AppID: checkpoint.DeadLetterAppID(stream, 0), Version: 78})
	_, err = p.Commit(t.Context())
	wantRefusal(t, err, "events#dl/0", "connector settle")
	f.foreign("RESTORE")
	_, err = admin.PlanRetirement(t.Context(), f.store, r)
	wantRefusal(t, err, "restored or replaced the table", "--to-table-version")
}

func (c *country) retirement() admin.Retirement {
	r := retirement()
	r.Routed = c.routed()
	return r
}

// ends retires the stream, and frees its tables.
func (c *country) ends(r admin.Retirement) (freed, given []string) {
	c.t.Helper()
	p := c.planRetirement(r)
	if !p.Ended {
		_, err := p.Commit(c.t.Context())
		c.check(err)
	}
	freed, given, err := p.Free(c.t.Context())
	c.check(err)
	return freed, given
}

// TestRetireFreesTheTables: of a catalog that has ended, another stream may bring its topic into the tables (rules A1d and T7).
func TestRetireFreesTheTables(t *testing.T) {
	c := newCountry(t)
	c.brings(0, 0, 10, "de", "us")
	c.decides(1, 0, 4, "us") // no worker comes any more that would bring it
	wantRefusal(t, c.inTown("us").pinAs("other"), `by stream "events"`, "`connector retire`")
	p := c.planRetirement(c.retirement())
	if !slices.Equal(p.Tables, []string{"de", "us"}) || len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "rows of partition 1 that the catalog has decided about are on their way to us: they are brought there") {
		t.Errorf("the plan names the tables %q and warns %q", p.Tables, p.Warnings)
	}
	if freed, given := c.ends(c.retirement()); !slices.Equal(freed, []string{"de", "us"}) || given != nil {
		t.Errorf("it has freed %q, and given up %q", freed, given)
	}
	c.wantOK()
	if r := c.inTown("us").verify(); r.Partitions[1].Rows != 4 {
		t.Errorf("table us lacks what was decided about: %s", show(r))
	}
	_, err := admin.PlanRetirement(t.Context(), c.store, c.retirement())
	wantRefusal(t, err, "retired already", "")
	c.check(c.inTown("us").pinAs("other"))
	c.wantOK()
}

// TestRetireWithoutTheTables: who does not say where they are leaves them as they are by an explicit word alone.
func TestRetireWithoutTheTables(t *testing.T) {
	c := newCountry(t)
	c.brings(0, 0, 10, "de", "us")
	_, err := admin.PlanRetirement(t.Context(), c.store, retirement())
	wantRefusal(t, err, "is the catalog of 2 others", "table.uri")
	r := retirement()
	r.Force = true
	if freed, _ := c.ends(r); freed != nil {
		t.Errorf("it has freed %q", freed)
	}
	wantRefusal(t, c.inTown("us").pinAs("other"), `by stream "events"`, "`connector retire`")
	c.ends(c.retirement())
	c.check(c.inTown("us").pinAs("other"))
}

// TestRetireThatIsCutOff goes on where it has stopped: before or behind each write to the stores that it may die at.
func TestRetireThatIsCutOff(t *testing.T) {
	const most = 50 // writes
	for at := range int64(2 * most) {
		c := newCountry(t)
		c.brings(0, 0, 10, "de", "us")
		c.decides(1, 0, 4, "de", "us")
		var n atomic.Int64
		dies := func(store *memory.Store) *faultstore.Store {
			s := faultstore.New(store)
			s.SetPlan(func(op faultstore.Op) faultstore.Action {
				write := int64(1)
				if op.Method == faultstore.MethodGet || op.Method == faultstore.MethodList {
					write = 0
				}
				switch n := n.Add(write); {
				case n <= at/2:
					return faultstore.Pass()
				case n == at/2+1 && at%2 == 1: // it is done, and nobody is told
					return faultstore.LandThenFail(fs.ErrPermission)
				}
				return faultstore.Fail(fs.ErrPermission)
			})
			return s
		}
		catalog := dies(c.store)
		c.through = map[string]delta.LogStore{"de": dies(c.town("de")), "us": dies(c.town("us"))}
		p, err := admin.PlanRetirement(t.Context(), catalog, c.retirement())
		if err == nil {
			_, err = p.Commit(t.Context())
		}
		if err == nil {
			_, _, err = p.Free(t.Context())
		}
		c.through = nil
		if err == nil {
			if at < 2*7 { // the end; rows, a note less, and a freedom for each of two tables
				t.Errorf("there were %d writes", at/2)
			}
			return
		}
		if again, err := admin.PlanRetirement(t.Context(), c.store, c.retirement()); err == nil {
			if !again.Ended {
				_, err = again.Commit(t.Context())
				c.check(err)
			}
			_, _, err = again.Free(t.Context())
			c.check(err)
		} else if !strings.Contains(err.Error(), "retired already") {
			t.Fatal(err)
		}
		c.wantOK()
		c.check(c.inTown("de").pinAs("other"))
		c.check(c.inTown("us").pinAs("other"))
	}
	t.Errorf("after %d writes it has not come to its end", most)
}

// TestRetireMeetsAWorkerThatDelivers: a worker that is late with its delivery brings nothing into a table that was freed meanwhile.
func TestRetireMeetsAWorkerThatDelivers(t *testing.T) {
	c := newCountry(t)
	c.brings(0, 0, 10, "de", "us")
	c.decides(0, 10, 14, "us")
	late, met := faultstore.New(c.town("us")), false
	late.SetHook(func(op faultstore.Op) {
		if isPut(op) && !met {
			met = true
			c.through = nil
			c.ends(c.retirement())
			c.check(c.inTown("us").pinAs("other"))
		}
	})
	c.through = map[string]delta.LogStore{"us": late}
	c.check(c.settles(t.Context(), 0))
	c.wantOK()
	if r := c.inTown("us").verify(); !met || r.Partitions[0].Rows != 9 {
		t.Errorf("met %v: %s", met, show(r))
	}
	for txn := range c.inTown("us").snapshot().Txns() {
		if checkpoint.IsCatalog(txn.AppID, stream) && txn.Version != 0 {
			t.Errorf("the table has the txn %+v", txn)
		}
	}
}

// TestRetireGivesUp what can't be brought, by force alone.
func TestRetireGivesUp(t *testing.T) {
	c := newCountry(t)
	c.decides(0, 0, 10, "de", "us")
	c.loses(c.town("us"), "part-")
	_, err := admin.PlanRetirement(t.Context(), c.store, c.retirement())
	wantRefusal(t, err, "can't come to their tables any more", "--force")
	r := c.retirement()
	r.Force = true
	if freed, given := c.ends(r); !slices.Equal(freed, []string{"de"}) || len(given) != 1 || !strings.Contains(given[0], "table us: the file") {
		t.Errorf("it has freed %q, and given up %q", freed, given)
	}
	c.check(c.inTown("us").pinAs("other"))
}

// TestRewindOfARetiredCatalog has it go on, and its tables be its own, unless another stream has come to one of them.
func TestRewindOfARetiredCatalog(t *testing.T) {
	c := newCountry(t)
	c.brings(0, 0, 10, "de", "us")
	p := c.planRetirement(c.retirement())
	_, err := p.Commit(t.Context())
	c.check(err)
	_, err = c.plan(c.rewinding(map[int32]int64{0: 4})).Commit(t.Context())
	c.check(err)
	c.open(setup{})
	c.brings(0, 4, 8, "us")
	_, _, err = p.Free(t.Context()) // which comes late
	wantRefusal(t, err, "the table has rows of generation 1", "new plan")
	wantRefusal(t, c.inTown("us").pinAs("other"), `by stream "events"`, "")
	c.ends(c.retirement())
	c.check(c.inTown("us").pinAs("other"))
	_, err = admin.PlanRewind(t.Context(), c.store, c.rewinding(map[int32]int64{0: 4}))
	wantRefusal(t, err, `the table has messages of the topic topic already, by stream "other"`, "`connector retire`")
}
