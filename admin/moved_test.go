package admin_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"kafkadelta/admin"
	"kafkadelta/delta"
)

// TestMovedRowsOfGenerationsThatAreForgotten: after a rewind, an OPTIMIZE and a cleanup of the log nothing tells which rows are of which
// generation. That is no fault; a row more than there were generations is.
func TestMovedRowsOfGenerationsThatAreForgotten(t *testing.T) {
	for name, next := range map[string]int64{"read again beyond the generation before": 30, "read again in part": 15} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, setup{})
			f.commit(take{0, 0, 20, nil, 0})
			f.rewind(rewinding(map[int32]int64{0: 5}))
			f.commit(take{0, 5, next, nil, 0})
			f.rewrite("OPTIMIZE", false, all)
			wantVerdict(t, f.verify(), admin.OK)
			f.cleanLog()
			r := f.verify()
			wantVerdict(t, r, admin.Unverifiable)
			if r.FaultCount > 0 || !slices.ContainsFunc(r.Unverified, func(u admin.Finding) bool {
				return *u.Partition == 0 && strings.Contains(u.Text, "may be of this generation, or copies")
			}) {
				t.Errorf("the report: %s", show(r))
			}
			f.rewrite("OPTIMIZE", false, all)
			wantVerdict(t, f.verify(), admin.Unverifiable)
			old := f.live()[0]
			places := append(slices.Clone(f.rows[old.Path]), place{0, 7})
			f.foreign("OPTIMIZE", removeOf(old, false), f.write("thrice.parquet", false, places))
			wantFault(t, f.verify(), admin.Duplicate, "offset 7 ")
			f.foreign("WRITE", f.write("again.parquet", true, []place{{0, 3}})) // nobody has moved it
			wantFault(t, f.verify(), admin.Duplicate, "offset 3 ", "again.parquet")
		})
	}
}

// TestMovedRowsOfAGenerationWithFewer: what was a row is none when it is read again, by compaction, a filter or on_error: skip. Rows that were moved
// are of the generation that lacks them, and one too many is found.
func TestMovedRowsOfAGenerationWithFewer(t *testing.T) {
	f := newFixture(t, setup{})
	f.commit(take{0, 0, 10, nil, 0})
	f.rewind(rewinding(map[int32]int64{0: 0}))
	f.commit(take{0, 0, 20, []int64{7, 8, 9, 10}, 0})
	f.rewrite("OPTIMIZE", false, all)
	r := f.verify()
	wantVerdict(t, r, admin.OK)
	if len(r.Partitions) != 4 || r.Partitions[0].RowsFound != 10 || r.Partitions[1].RowsFound != 4 {
		t.Errorf("the generations: %s", show(r))
	}
	f.rewrite("DELETE", true, func(p place) bool { return p.offset != 2 })
	wantVerdict(t, f.verify(), admin.OK)
	// Since the rewind, nothing tells that the rows of before are not copies.
	r = f.verify(admin.Options{Since: 3, Until: -1})
	wantVerdict(t, r, admin.OK)
	if !slices.ContainsFunc(r.Notes, func(n string) bool {
		return strings.Contains(n, "generation 1: 6 rows more than") && strings.Contains(n, "what came before version 3 was not asked for")
	}) {
		t.Errorf("the notes are %q", r.Notes)
	}
	f.foreign("WRITE", f.write("again.parquet", true, []place{{0, 12}}))
	wantFault(t, f.verify(), admin.RowCount, "have 5 rows, but the span counts 4")
	f.foreign("WRITE", f.write("more.parquet", true, []place{{0, 8}}))
	wantFault(t, f.verify(), admin.Duplicate, "offset 8 ")
}

// TestVerifyHasNoFalseAlarms makes histories of what a stream and others may do. No fault may be told of them, with Kafka neither, and as long as the
// log is whole, everything can be verified.
func TestVerifyHasNoFalseAlarms(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			(&history{fixture: newFixture(t, setup{}), rnd: rand.New(rand.NewPCG(seed, 3)), mark: -1}).run()
		})
	}
}

type history struct {
	*fixture
	rnd     *rand.Rand
	next    map[int32]int64
	cleaned bool
	mark    int64 // version since which it is verified, too
	story   []string
	past    []moment
}

// moment is what a RESTORE may go back to.
type moment struct {
	version int64
	files   []delta.Add
	next    map[int32]int64
}

func (h *history) run() {
	h.next = h.claim()
	h.past = append(h.past, h.now())
	for range 4 + h.rnd.IntN(10) {
		h.step()
		if r := h.verify(); r.Verdict == admin.Faulty || r.Verdict != admin.OK && !h.cleaned {
			h.t.Fatalf("%q: %s", h.story, show(r))
		}
		compared := withKafka(topicOfHistories())
		compared.Topic = topic // which a table without tags does not tell
		if r := h.verify(compared); r.Verdict == admin.Faulty {
			h.t.Fatalf("with Kafka, %q: %s", h.story, show(r))
		}
		if h.mark >= 0 {
			if r := h.verify(admin.Options{Since: h.mark, Until: -1}); r.Verdict == admin.Faulty {
				h.t.Fatalf("since version %d of %q: %s", h.mark, h.story, show(r))
			}
		}
		h.past = append(h.past, h.now())
	}
}

func (h *history) now() moment {
	return moment{h.snapshot().Version(), h.live(), maps.Clone(h.next)}
}

func (h *history) step() {
	tell := func(format string, args ...any) { h.story = append(h.story, fmt.Sprintf(format, args...)) }
	switch k := h.rnd.IntN(11); {
	case k == 10 && len(h.past) > 0:
		h.restore(h.past[h.rnd.IntN(len(h.past))], h.rnd.IntN(2) == 0)
	case k < 4:
		if takes := h.takes(); len(takes) > 0 {
			h.commit(takes...)
			tell("commit %+v", takes)
		}
	case k < 6:
		to := map[int32]int64{}
		for p := range int32(2) {
			if h.rnd.IntN(2) == 0 {
				to[p] = h.rnd.Int64N(min(h.next[p]+4, 100) + 1)
			}
		}
		r := rewinding(to)
		r.Force = h.cleaned // or it takes a table that has lost all rows for one that was restored
		h.rewind(r)
		h.next = h.claim()
		tell("rewind %v", to)
	case k < 9 && len(h.live()) == 0:
	case k < 7:
		share := h.rnd.Float64()
		h.rewrite("DELETE", true, func(place) bool { return h.rnd.Float64() < share })
		tell("delete")
	case k < 9:
		h.rewrite("OPTIMIZE", false, all)
		tell("optimize")
	case h.rnd.IntN(2) == 0:
		oldest := h.snapshot().Version()
		if h.rnd.IntN(2) == 0 && len(h.past) > 0 {
			oldest = h.past[h.rnd.IntN(len(h.past))].version
		}
		h.cleanBefore(oldest)
		h.fixture.open(setup{}) // who has known the table as it was before would take what is gone for what is not there yet
		h.past = slices.DeleteFunc(h.past, func(m moment) bool { return m.version < oldest })
		if h.cleaned = true; h.mark < oldest {
			h.mark = -1
		}
		tell("clean below version %d", oldest)
	default:
		h.mark = h.snapshot().Version()
		tell("mark")
	}
}

// restore has another engine take the table's rows back to what they were, and the operator the offsets, or further. Files that come back have no tags
// then, but where the engine keeps them.
func (h *history) restore(m moment, tags bool) {
	var actions []any
	live := h.live()
	has := func(files []delta.Add, a delta.Add) bool {
		return slices.ContainsFunc(files, func(b delta.Add) bool { return a.Path == b.Path })
	}
	for _, a := range live {
		if !has(m.files, a) {
			actions = append(actions, removeOf(a, true))
		}
	}
	for _, a := range m.files {
		if !has(live, a) {
			if a.DataChange = true; !tags {
				a.Tags = nil
			}
			actions = append(actions, a)
		}
	}
	version := h.foreign("RESTORE", actions...)
	h.edit(version, `"engineInfo"`, fmt.Sprintf(`"operationParameters":{"version":%d},"engineInfo"`, m.version))
	between := h.now() // may be gone back to as well: its offsets are those of the version that this one went back to
	between.next = maps.Clone(m.next)
	h.past = append(h.past, between)
	to := maps.Clone(m.next)
	for p, next := range to {
		if h.rnd.IntN(4) == 0 {
			to[p] = h.rnd.Int64N(next + 1)
		}
	}
	_, err := h.plan(rewinding(to)).Commit(h.t.Context())
	h.check(err)
	h.fixture.open(setup{})
	h.next = h.claim()
	h.story = append(h.story, fmt.Sprintf("restore to version %d, where %v come next, and rewind to %v; tags %v", m.version, m.next, to, tags))
}

// topicOfHistories has a message at most offsets.
func topicOfHistories() *records {
	r := &records{identity: identity, start: map[int32]int64{0: 0, 1: 0}, end: map[int32]int64{0: 100, 1: 100}, at: map[place]bool{}}
	for p := range int32(2) {
		for o := range int64(100) {
			if isMessage(p, o) {
				r.at[place{p, o}] = false
			}
		}
	}
	return r
}

func isMessage(partition int32, offset int64) bool {
	return (offset*7+int64(partition)*3)%5 != 0 && offset/10 != 2*int64(partition)+1
}

// takes are of one or both partitions, with the gaps of the topic. Some skip messages.
func (h *history) takes() (takes []take) {
	for p := range int32(2) {
		k := take{p, h.next[p], min(h.next[p]+1+h.rnd.Int64N(8), 100), nil, 0}
		if k.next <= k.first || len(takes) > 0 && h.rnd.IntN(3) == 0 {
			continue
		}
		skips := h.rnd.IntN(3) == 0
		k.rows = []int64{}
		for o := k.first; o < k.next; o++ {
			switch {
			case !isMessage(p, o):
			case skips && h.rnd.IntN(2) == 0:
				k.skipped++
			default:
				k.rows = append(k.rows, o)
			}
		}
		takes = append(takes, k)
		h.next[p] = k.next
	}
	return takes
}

// TestMovedRowsOfTwoStreams that divide a topic by their filters: a row that was moved is of the one that lacks it.
func TestMovedRowsOfTwoStreams(t *testing.T) {
	f := newFixture(t, setup{name: "even", filtered: true})
	f.commit(take{0, 0, 10, []int64{0, 2, 4, 6, 8}, 0})
	f.open(setup{name: "odd", filtered: true})
	f.commit(take{0, 0, 6, []int64{1, 3, 5}, 0})
	f.commit(take{0, 6, 10, []int64{7, 9}, 0})
	f.rewrite("OPTIMIZE", false, all)
	r := f.verify()
	wantVerdict(t, r, admin.OK)
	if len(r.Partitions) != 4 || r.Partitions[0].RowsFound != 5 || r.Partitions[2].RowsFound != 5 {
		t.Errorf("the streams: %s", show(r))
	}
}
