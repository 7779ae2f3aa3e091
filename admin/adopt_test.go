package admin_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"kafkadelta/admin"
	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

const query = "1f6a2c1e-0000-4000-8000-000000000001"

// sparkFolder is a checkpoint folder as Spark leaves it, whose batch n ends at 10 * (n+1) in partition 0 and 2 * (n+1) in partition 1.
func sparkFolder(t *testing.T, begun, done int) *memory.Store {
	t.Helper()
	s := memory.New()
	put := func(name, text string) {
		if err := s.Put(t.Context(), name, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	put("metadata", `{"id":"`+query+`"}`)
	put("sources/0/0", "v1\n{}")
	for n := range begun {
		put(fmt.Sprintf("offsets/%d", n), fmt.Sprintf("v1\n{\"batchWatermarkMs\":0,\"batchTimestampMs\":1,\"conf\":{}}\n-\n{\"other\":{\"0\":7}}\n{\"topic\":{\"1\":%d,\"0\":%d}}", 2*(n+1), 10*(n+1)))
		put(fmt.Sprintf("offsets/.%d.crc", n), "x")
	}
	for n := range done {
		put(fmt.Sprintf("commits/%d", n), "v1\n{\"nextBatchWatermarkMs\":0}")
		put(fmt.Sprintf("commits/.%d.tmp", n+5), "x")
	}
	return s
}

// foreignTable is a table that another program has filled with the rows of partition 0 before an offset.
func foreignTable(t *testing.T, rows int64, txns ...any) *fixture {
	t.Helper()
	f := &fixture{t: t, store: memory.New(), name: stream, topic: topic, rows: map[string][]place{}}
	schema, err := delta.ParseDDL(withMetadata)
	f.check(err)
	f.check(delta.Create(t.Context(), f.store, delta.CreateOptions{Schema: schema, Now: time.Now, Engine: "other"}))
	var places []place
	for o := range rows {
		places = append(places, place{0, o})
	}
	f.table = f.openTable(setup{})
	f.foreign("STREAMING UPDATE", append(txns, f.write("other.parquet", true, places))...)
	return f
}

func adoption() admin.Adoption {
	return admin.Adoption{
		Writer: admin.Writer{Engine: "kafkadelta/test", Now: time.Now}, Name: stream, Topic: topic, From: "--from-x", Kafka: rewinding(nil).Kafka,
	}
}

func TestAdoptFromSpark(t *testing.T) {
	for name, tt := range map[string]struct {
		begun, done int
		txn         int64 // of the query; -1 for none
		want        map[string]int64
		note        string
		refused     [2]string
	}{
		"all is done":               {begun: 3, done: 3, txn: 2, want: map[string]int64{"-0": 29, "-1": 5}, note: "batch 2 is done"},
		"of a sink without a txn":   {begun: 3, done: 3, txn: -1, want: map[string]int64{"-0": 29, "-1": 5}, note: "batch 2 is done"},
		"begun, and in the table":   {begun: 3, done: 2, txn: 2, want: map[string]int64{"-0": 29, "-1": 5}, note: "batch 2 is in the table"},
		"begun, not in the table":   {begun: 3, done: 2, txn: 1, want: map[string]int64{"-0": 19, "-1": 3}, note: "not in the table"},
		"the first is in the table": {begun: 1, done: 0, txn: 0, want: map[string]int64{"-0": 9, "-1": 1}, note: "batch 0 is in the table"},
		"begun, and no txn":         {begun: 3, done: 2, txn: -1, refused: [2]string{"foreachBatch", "once more"}},
		"the first was only begun":  {begun: 1, done: 0, txn: -1, refused: [2]string{"no batch", "source.start"}},
		"nothing was begun":         {txn: -1, refused: [2]string{"no batch", "source.start"}},
		"older than the table":      {begun: 3, done: 3, txn: 5, refused: [2]string{"would come twice", "newest copy"}},
		"older, and one was begun":  {begun: 3, done: 2, txn: 3, refused: [2]string{"would come twice", "newest copy"}},
		"of another table":          {begun: 3, done: 3, txn: 1, refused: [2]string{"later batches are not in this table", "is it the table"}},
	} {
		t.Run(name, func(t *testing.T) {
			var txns []any
			if tt.txn >= 0 {
				txns = append(txns, delta.Txn{AppID: query, Version: tt.txn})
			}
			f := foreignTable(t, 5, txns...)
			a := adoption()
			var err error
			a.Spark, err = admin.ReadSparkCheckpoint(t.Context(), sparkFolder(t, tt.begun, tt.done), topic)
			f.check(err)
			p, err := admin.PlanAdoption(t.Context(), f.store, a)
			if tt.want == nil {
				wantRefusal(t, err, tt.refused[0], tt.refused[1])
				return
			}
			f.check(err)
			if len(p.Notes) != 1 || !strings.Contains(p.Notes[0], tt.note) {
				t.Errorf("the plan says %q, want %q", p.Notes, tt.note)
			}
			if v := f.snapshot().Version(); v != 1 {
				t.Errorf("a plan has made version %d", v)
			}
			_, err = p.Commit(t.Context())
			f.check(err)
			want := maps.Clone(tt.want)
			want[identityTxn] = 2
			if tt.txn >= 0 {
				want[query] = tt.txn
			}
			if got := f.txns(); !maps.Equal(got, want) {
				t.Errorf("the txns are %v, want %v", got, want)
			}
		})
	}
}

// TestAdoptWhileTheQueryCommits: what the plan has said no longer holds once the query has committed.
func TestAdoptWhileTheQueryCommits(t *testing.T) {
	f := foreignTable(t, 5, delta.Txn{AppID: query, Version: 1})
	a := adoption()
	var err error
	a.Spark, err = admin.ReadSparkCheckpoint(t.Context(), sparkFolder(t, 3, 2), topic)
	f.check(err)
	p, err := admin.PlanAdoption(t.Context(), f.store, a)
	f.check(err)
	f.foreign("STREAMING UPDATE", delta.Txn{AppID: query, Version: 2})
	_, err = p.Commit(t.Context())
	wantRefusal(t, err, "has committed to the table since", "stop it")
}

// TestAdoptedStream goes on where the other program has stopped, and is verified from there: what came before is not ours.
func TestAdoptedStream(t *testing.T) {
	f := foreignTable(t, 20, delta.Txn{AppID: query, Version: 1})
	a := adoption()
	var err error
	a.Spark, err = admin.ReadSparkCheckpoint(t.Context(), sparkFolder(t, 2, 2), topic)
	f.check(err)
	p, err := admin.PlanAdoption(t.Context(), f.store, a)
	f.check(err)
	_, err = p.Commit(t.Context())
	f.check(err)
	f.open(setup{})
	if next := f.claim(); next[0] != 20 || next[1] != 4 {
		t.Fatalf("a worker begins at %v, want 20 and 4", next)
	}
	f.commit(take{0, 20, 30, nil, 0}, take{1, 4, 9, nil, 0})
	r := f.verify()
	wantVerdict(t, r, admin.OK)
	if r.OtherRows != 20 || r.Partitions[0].From != 20 || !r.Partitions[0].FromKnown {
		t.Errorf("after the adoption: %s", show(r))
	}
	f.rewrite("OPTIMIZE", false, all)
	wantVerdict(t, f.verify(), admin.OK)
	_, err = p.Commit(t.Context())
	wantRefusal(t, err, "already", "connector rewind")
	_, err = admin.PlanAdoption(t.Context(), f.store, a)
	wantRefusal(t, err, "already", "connector rewind")
	f.rewind(rewinding(map[int32]int64{0: 15})) // behind what the other program has read
	f.commit(take{0, 15, 40, nil, 0})
	wantVerdict(t, f.verify(), admin.OK)
	f.foreign("WRITE", f.write("again.parquet", true, []place{{0, 35}}))
	wantFault(t, f.verify(), admin.Duplicate, "offset 35")
}

func TestAdoptFromAGroup(t *testing.T) {
	f := foreignTable(t, 5)
	group := func(state string, offsets map[int32]int64) *admin.KafkaGroup {
		return &admin.KafkaGroup{Name: "connect-x", State: state, Offsets: offsets}
	}
	for name, tt := range map[string]struct {
		group         *admin.KafkaGroup
		cause, remedy string
	}{
		"unknown":               {group("", nil), `no consumer group "connect-x"`, "connect-<name"},
		"with members":          {group("Stable", map[int32]int64{0: 1, 1: 2}), "state Stable", "stop the program"},
		"rebalancing":           {group("PreparingRebalance", map[int32]int64{0: 1, 1: 2}), "it has members", "stop the program"},
		"of another topic":      {group("Empty", nil), "no offsets of the topic", "right group"},
		"a partition missing":   {group("Empty", map[int32]int64{0: 1}), "no offset of topic[1]", "every partition"},
		"a partition too many":  {group("Empty", map[int32]int64{0: 1, 1: 1, 2: 1}), "topic[2]", "right cluster"},
		"beyond the end":        {group("Empty", map[int32]int64{0: 101, 1: 1}), "beyond the end", "right topic"},
		"before what Kafka has": {group("Empty", map[int32]int64{0: 50, 1: -1}), "no longer has offset -1", "--force"},
	} {
		t.Run(name, func(t *testing.T) {
			a := adoption()
			a.Group = tt.group
			_, err := admin.PlanAdoption(t.Context(), f.store, a)
			wantRefusal(t, err, tt.cause, tt.remedy)
		})
	}
	a := adoption()
	a.Group = group("Empty", map[int32]int64{0: 5, 1: 0})
	p, err := admin.PlanAdoption(t.Context(), f.store, a)
	f.check(err)
	version, err := p.Commit(t.Context())
	f.check(err)
	if want := map[string]int64{"-0": 4, "-1": -1, identityTxn: 2}; !maps.Equal(f.txns(), want) {
		t.Errorf("the txns are %v, want %v", f.txns(), want)
	}
	if text := f.object(logName(version)); !strings.Contains(text, `"operation":"ADOPT"`) || !strings.Contains(text, "--from-x") {
		t.Errorf("the version says %s", text)
	}
	f.open(setup{})
	f.claim()
	f.commit(take{0, 5, 9, nil, 0}, take{1, 0, 3, nil, 0})
	wantVerdict(t, f.verify(), admin.OK)
}

// TestAdoptAnEmptyPartition: the other program has no offset of a partition that nothing has come to yet, or whose messages are all gone.
func TestAdoptAnEmptyPartition(t *testing.T) {
	folder := sparkFolder(t, 2, 2)
	if err := folder.Put(t.Context(), "offsets/1", []byte("v1\n{}\n{\"topic\":{\"0\":20}}")); err != nil {
		t.Fatal(err)
	}
	spark, err := admin.ReadSparkCheckpoint(t.Context(), folder, topic)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*admin.Adoption){
		"group": func(a *admin.Adoption) {
			a.Group = &admin.KafkaGroup{Name: "connect-x", State: "Empty", Offsets: map[int32]int64{0: 20}}
		},
		"Spark": func(a *admin.Adoption) { a.Spark = spark },
	} {
		f := foreignTable(t, 5, delta.Txn{AppID: query, Version: 1})
		a := adoption()
		change(&a)
		a.Kafka.Start[1], a.Kafka.End[1] = 7, 8
		_, err := admin.PlanAdoption(t.Context(), f.store, a)
		wantRefusal(t, err, "no offset of topic[1]", "every partition")
		a.Kafka.End[1] = 7
		p, err := admin.PlanAdoption(t.Context(), f.store, a)
		f.check(err)
		if want := (admin.Move{Partition: 1, From: -1, To: 7}); len(p.Moves) != 2 || p.Moves[1] != want || !strings.Contains(p.Notes[len(p.Notes)-1], "partition 1, which is empty") {
			t.Errorf("%s: the plan is %+v, notes %q", name, p.Moves, p.Notes)
		}
		_, err = p.Commit(t.Context())
		f.check(err)
		if want := map[string]int64{"-0": 19, "-1": 6, identityTxn: 2, query: 1}; !maps.Equal(f.txns(), want) {
			t.Errorf("%s: the txns are %v, want %v", name, f.txns(), want)
		}
	}
}

// TestAdoptWhatAnotherStreamBrings: the topic is in the table already, by another stream. It may be there before the plan or since.
func TestAdoptWhatAnotherStreamBrings(t *testing.T) {
	other := func(filtered int64) []any {
		return []any{delta.Txn{AppID: "other-0", Version: 4}, delta.Txn{AppID: "other" + identityTxn, Version: 2}, delta.Txn{AppID: "other#filter", Version: filtered}}
	}
	a := adoption()
	a.Group = &admin.KafkaGroup{Name: "connect-x", State: "Empty", Offsets: map[int32]int64{0: 5, 1: 0}}
	f := foreignTable(t, 5)
	p, err := admin.PlanAdoption(t.Context(), f.store, a)
	f.check(err)
	f.foreign("STREAMING UPDATE", other(0)...)
	_, err = p.Commit(t.Context())
	wantRefusal(t, err, `by stream "other"`, "table.filter")
	a.Filtered = true
	_, err = admin.PlanAdoption(t.Context(), f.store, a)
	wantRefusal(t, err, `by stream "other"`, "has none as far as the table knows")
	f.foreign("STREAMING UPDATE", other(1)...)
	p, err = admin.PlanAdoption(t.Context(), f.store, a)
	f.check(err)
	_, err = p.Commit(t.Context())
	f.check(err)
	if got, ok := f.txns()["#filter"]; !ok || got != 1 {
		t.Errorf("the txns are %v", f.txns())
	}
}

func TestSparkCheckpointsThatAreRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(s *memory.Store)
		want   string
	}{
		"no checkpoint":   {func(s *memory.Store) { _ = s.Delete(t.Context(), "metadata") }, "no file named metadata"},
		"no query":        {func(s *memory.Store) { _ = s.Put(t.Context(), "metadata", []byte("{}")) }, "names no query"},
		"commits missing": {func(s *memory.Store) { _ = s.Delete(t.Context(), "commits/1"); _ = s.Delete(t.Context(), "commits/2") }, "asyncProgressTrackingEnabled"},
		"another form":    {func(s *memory.Store) { _ = s.Put(t.Context(), "offsets/2", []byte("v2\n{}\n{}")) }, "v1 is what is known"},
		"another topic":   {func(s *memory.Store) { _ = s.Put(t.Context(), "offsets/2", []byte("v1\n{}\n{\"x\":{\"0\":1}}")) }, "no offsets of topic topic"},
		"two sources": {func(s *memory.Store) {
			_ = s.Put(t.Context(), "offsets/2", []byte("v1\n{}\n{\"topic\":{\"0\":1}}\n{\"topic\":{\"0\":1}}"))
		}, "two sources"},
		"offsets are gone": {func(s *memory.Store) {
			_ = s.Delete(t.Context(), "offsets/2")
			_ = s.Put(t.Context(), "commits/3", nil)
		}, "offsets/3"},
	} {
		t.Run(name, func(t *testing.T) {
			s := sparkFolder(t, 3, 3)
			tt.change(s)
			if _, err := admin.ReadSparkCheckpoint(t.Context(), s, topic); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the answer is %v, want %q", err, tt.want)
			}
		})
	}
}

// TestAdoptionBeginsBehindTheStreamsOwnRows: a table that has lost a stream's txns has its files yet, and the group was not told of the last of them. What a file of
// another stream or topic tells does not count.
func TestAdoptionBeginsBehindTheStreamsOwnRows(t *testing.T) {
	spark, err := admin.ReadSparkCheckpoint(t.Context(), sparkFolder(t, 2, 2), topic)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*admin.Adoption)
		reach  int64 // of the stream's file of partition 0
		want   int64
		note   [2]string
	}{
		"the group was told less": {func(a *admin.Adoption) {
			a.Group = &admin.KafkaGroup{Name: "g", State: "Empty", Offsets: map[int32]int64{0: 20, 1: 4}}
		}, 30, 30, [2]string{"offset 20 of partition 0", "up to 30"}},
		"the group was told all": {func(a *admin.Adoption) {
			a.Group = &admin.KafkaGroup{Name: "g", State: "Empty", Offsets: map[int32]int64{0: 30, 1: 4}}
		}, 30, 30, [2]string{}},
		"Spark has read less": {func(a *admin.Adoption) { a.Spark = spark }, 30, 30, [2]string{"offset 20 of partition 0", "up to 30"}},
		"beyond what Kafka has": {func(a *admin.Adoption) {
			a.Group = &admin.KafkaGroup{Name: "g", State: "Empty", Offsets: map[int32]int64{0: 20, 1: 4}}
		}, 101, -1, [2]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			f := foreignTable(t, 5, delta.Txn{AppID: query, Version: 1})
			file := func(stream, topic string, next int64) delta.Add {
				text, err := checkpoint.UnitRecord{Unit: stream + topic, Name: stream, Spans: []checkpoint.Span{{
					Partition: checkpoint.Partition{Topic: topic}, First: 5, Next: next, Records: next - 5, Rows: next - 5,
				}}}.Encode()
				f.check(err)
				var places []place
				for o := int64(5); o < next; o++ {
					places = append(places, place{0, o})
				}
				add := f.write(stream+topic+".parquet", true, places)
				add.Tags = map[string]string{checkpoint.TagKey: text}
				return add
			}
			f.foreign("WRITE", file(stream, topic, tt.reach), file("other", topic, 90), file(stream, "elsewhere", 90))
			a := adoption()
			tt.change(&a)
			p, err := admin.PlanAdoption(t.Context(), f.store, a)
			if tt.want < 0 {
				wantRefusal(t, err, "beyond the end", "right topic")
				return
			}
			f.check(err)
			if got := strings.Join(p.Notes, "; "); p.Moves[0].To != tt.want || p.Moves[1].To != 4 || !strings.Contains(got, tt.note[0]) || !strings.Contains(got, tt.note[1]) ||
				tt.note[0] == "" && strings.Contains(got, "reach up to") {
				t.Errorf("the plan is %+v, notes %q", p.Moves, p.Notes)
			}
			_, err = p.Commit(t.Context())
			f.check(err)
			if got := f.txns()["-0"]; got != tt.want-1 {
				t.Errorf("the txn is %d, want %d", got, tt.want-1)
			}
		})
	}
}

// TestAdoptedCatalogBringsNothingTwice: a catalog that has lost all its txns knows none of its tables, so that an adoption can't ask them how far their rows reach. They
// refuse what they have (rule T7).
func TestAdoptedCatalogBringsNothingTwice(t *testing.T) {
	for name, rewound := range map[string]bool{"never rewound": false, "rewound before": true} {
		t.Run(name, func(t *testing.T) {
			c := newCountry(t)
			c.brings(0, 0, 30, "a", "b")
			want := 15
			if rewound {
				c.rewinds(map[int32]int64{0: 10})
				c.brings(0, 10, 30, "a", "b")
				want += 10
			}
			c.forgets()
			a := adoption()
			a.Group = &admin.KafkaGroup{Name: "g", State: "Empty", Offsets: map[int32]int64{0: 20, 1: 0}}
			p, err := admin.PlanAdoption(t.Context(), c.store, a)
			c.check(err)
			_, err = p.Commit(t.Context())
			c.check(err)
			c.opens()
			c.decides(0, 20, 40, "a", "b")
			if err := c.settles(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "where the catalog was lost") || !strings.Contains(err.Error(), "rewind --to-offsets 0=20") {
				t.Errorf("the tables' answer is %v, want a refusal, and what to do", err)
			}
			for _, key := range []string{"a", "b"} {
				rows := 0
				for _, f := range c.inTown(key).live() {
					n, _ := f.NumRecords()
					rows += int(n)
				}
				if rows != want {
					t.Errorf("table %s has %d rows, want the %d that it had", key, rows, want)
				}
			}
			c.rewinds(map[int32]int64{0: 20}) // as the refusal says
			if err := c.settles(t.Context(), 0); err != nil {
				t.Errorf("behind the rewind: %v", err)
			}
		})
	}
}

// TestAdoptedCatalogBehindItsTables: the group was told all, so that nothing comes twice. But the tables are in the generation of a rewind that the catalog has forgotten: rows of an
// earlier one would look like those that the rewind has given up. They are refused until the catalog was rewound to where it stood before them.
func TestAdoptedCatalogBehindItsTables(t *testing.T) {
	c := newCountry(t)
	c.brings(0, 0, 30, "a", "b")
	c.rewinds(map[int32]int64{0: 10})
	c.brings(0, 10, 30, "a", "b")
	c.forgets()
	a := adoption()
	a.Group = &admin.KafkaGroup{Name: "g", State: "Empty", Offsets: map[int32]int64{0: 30, 1: 0}}
	p, err := admin.PlanAdoption(t.Context(), c.store, a)
	c.check(err)
	_, err = p.Commit(t.Context())
	c.check(err)
	c.opens()
	c.decides(0, 30, 40, "a", "b")
	if err := c.settles(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "the table is in generation 1, and they are of generation 0") || !strings.Contains(err.Error(), "rewind --to-offsets 0=30") {
		t.Errorf("the tables' answer is %v, want a refusal, and what to do", err)
	}
	c.rewinds(map[int32]int64{0: 30}) // as the refusal says
	c.brings(0, 30, 50, "a", "b")
	for _, key := range []string{"a", "b"} {
		f := c.inTown(key)
		wantVerdict(t, f.verify(), admin.OK)
		if got := f.verify().Rows; got != 15+10+10 {
			t.Errorf("table %s has %d rows, want 15 of the first generation, and 20 of the second", key, got)
		}
	}
}

// forgets has the table lose all txns, as where somebody's log checkpoint has none.
func (f *fixture) forgets() {
	f.t.Helper()
	for v := range f.snapshot().Version() + 1 {
		var kept []string
		for line := range strings.Lines(f.object(logName(v))) {
			if !strings.HasPrefix(line, `{"txn":`) {
				kept = append(kept, line)
			}
		}
		f.check(f.store.Put(f.t.Context(), logName(v), []byte(strings.Join(kept, ""))))
	}
}

// rewinds rewinds the catalog, under a worker that goes on.
func (c *country) rewinds(to map[int32]int64) {
	c.t.Helper()
	plan, err := admin.PlanRewind(c.t.Context(), c.store, c.rewinding(to))
	c.check(err)
	_, err = plan.Commit(c.t.Context())
	c.check(err)
	c.opens()
}

// opens has another worker take the catalog over.
func (c *country) opens() {
	c.t.Helper()
	c.table = c.openTable(setup{})
	_, err := c.table.Claim(c.t.Context(), []checkpoint.Partition{{Topic: topic}})
	c.check(err)
}

// TestAdoptionOfARewoundStream: its generations have each their rows. What an earlier one has behind where the newest has come to is to be read again; and what comes next is of none of
// them, or verify took it for rows that a rewind had given up.
func TestAdoptionOfARewoundStream(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 50, nil, 0}, take{1, 0, 6, nil, 0})
	f.rewind(rewinding(map[int32]int64{0: 10}))
	f.commit(take{0, 10, 30, nil, 0})
	f.forgets()
	a := adoption()
	a.Group = &admin.KafkaGroup{Name: "g", State: "Empty", Offsets: map[int32]int64{0: 25, 1: 4}}
	p, err := admin.PlanAdoption(t.Context(), f.store, a)
	f.check(err)
	if p.Moves[0].To != 30 || p.Moves[1].To != 6 {
		t.Errorf("the plan is %+v, want 30, behind the rows of generation 1, and 6", p.Moves)
	}
	_, err = p.Commit(t.Context())
	f.check(err)
	if got := f.txns()["#gen"]; got != 2 {
		t.Errorf("the stream is in generation %d, want 2", got)
	}
	f.cleanLog() // of the versions without txns
	f.open(setup{})
	f.claim()
	f.commit(take{0, p.Moves[0].To, 60, nil, 0}, take{1, p.Moves[1].To, 9, nil, 0})
	wantVerdict(t, f.verify(), admin.OK)
	f.rewind(rewinding(map[int32]int64{1: 6}))
	f.commit(take{1, 6, 12, nil, 0})
	wantVerdict(t, f.verify(), admin.OK)
}
