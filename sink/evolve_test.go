package sink_test

import (
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/delta"
	"kafkadelta/sink"
	"kafkadelta/storage/faultstore"
)

func (b *bench) wanted(columns string) *arrow.Schema {
	b.t.Helper()
	schema, err := delta.ParseDDL(columns)
	b.check(err)
	return schema
}

// toward writes a unit whose rows need more columns than the table has.
func (b *bench) toward(table *sink.Table, columns string, id int32, first, rows int64) *sink.Unit {
	b.t.Helper()
	layout, err := table.Layout(b.t.Context())
	b.check(err)
	next, err := layout.Toward(b.wanted(columns), sink.EvolveWidens)
	b.check(err)
	return b.unitFor(table, next, span(id, first, rows))
}

// metadatas counts the versions with metaData.
func (b *bench) metadatas() int {
	b.t.Helper()
	n := 0
	for v := range b.version() + 1 {
		if strings.Contains(string(b.object(logFile(v))), `{"metaData":`) {
			n++
		}
	}
	return n
}

// TestEvolutionsOfOneCommitAreOne: the units of one commit bring different columns, and some none.
func TestEvolutionsOfOneCommitAreOne(t *testing.T) {
	b := newBench(t)
	b.cfg.SchemaEvolution = sink.EvolveWidens
	table := b.owner(4)
	units := []*sink.Unit{
		b.unit(table, span(0, 0, 3)), b.toward(table, "n BIGINT, a STRING", 1, 0, 3),
		b.toward(table, "n BIGINT, b STRING, a STRING", 2, 0, 3), b.toward(table, "n BIGINT, a INT", 3, 0, 3),
	}
	version := b.version()
	b.commit(table, units...)
	for _, u := range units[:3] {
		b.want(u, sink.Landed)
	}
	b.want(units[3], sink.Dropped) // a has another type there
	if got := b.version(); got != version+1 || b.metadatas() != 2 {
		t.Errorf("%d versions, %d metaData: want one commit more", got-version, b.metadatas()-1)
	}
	layout, err := table.Layout(t.Context())
	b.check(err)
	if want := b.wanted("n BIGINT, a STRING, b STRING"); !layout.Schema.Equal(want) {
		t.Errorf("the table has %s", layout.Schema)
	}
	b.commit(table, b.unit(table, span(0, 3, 3)))
	if b.metadatas() != 2 {
		t.Error("a commit under the table's own schema has changed it")
	}
}

// TestTypesOfOneCommit: no file of another type than the table gets is in a commit, in whichever order the units come, unless readers
// convert it and are told of the change.
func TestTypesOfOneCommit(t *testing.T) {
	for name, tt := range map[string]struct {
		columns, first, second string
		together               bool
	}{
		"whole numbers":             {"n BIGINT, i INT", "n BIGINT, i INT", "n BIGINT, i BIGINT", true},
		"floats":                    {"n BIGINT, i FLOAT", "n BIGINT, i FLOAT", "n BIGINT, i DOUBLE", false},
		"new floats":                {"n BIGINT", "n BIGINT, i FLOAT", "n BIGINT, i DOUBLE", false},
		"new whole numbers":         {"n BIGINT", "n BIGINT, i INT", "n BIGINT, i BIGINT", false},
		"new ones in a new struct":  {"n BIGINT", "n BIGINT, s STRUCT<i: INT>", "n BIGINT, s STRUCT<i: BIGINT>", false},
		"new ones in an old struct": {"n BIGINT, s STRUCT<x: INT>", "n BIGINT, s STRUCT<i: INT>", "n BIGINT, s STRUCT<i: BIGINT>", false},
		"new ones in a list":        {"n BIGINT, l ARRAY<STRUCT<x: INT>>", "n BIGINT, l ARRAY<STRUCT<i: INT>>", "n BIGINT, l ARRAY<STRUCT<i: BIGINT>>", false},
		"wider in a struct":         {"n BIGINT, s STRUCT<i: INT>", "n BIGINT, s STRUCT<i: INT>", "n BIGINT, s STRUCT<i: BIGINT>", true},
	} {
		for _, turned := range []bool{false, true} {
			b := newBench(t)
			b.columns, b.cfg.SchemaEvolution = tt.columns, sink.EvolveWidens
			b.cfg.Properties = map[string]string{"delta.enableTypeWidening": "true"}
			table := b.owner(2)
			narrow, wide := b.toward(table, tt.first, 0, 0, 3), b.toward(table, tt.second, 1, 0, 3)
			units := []*sink.Unit{narrow, wide}
			if turned {
				units = []*sink.Unit{wide, narrow}
			}
			b.commit(table, units...)
			if got := narrow.State() == sink.Landed; got != tt.together || wide.State() != sink.Landed {
				t.Errorf("%s, turned %v: the narrow one is %v, the wide one %v", name, turned, narrow.State(), wide.State())
			}
			if changed := strings.Contains(string(b.object(logFile(b.version()))), "delta.typeChanges"); changed != (tt.together || name == "floats") {
				t.Errorf("%s, turned %v: a change of type is recorded: %v", name, turned, changed)
			}
		}
	}
}

// TestWideningAsFarAsItGoes: a column that can't get wider keeps no other one from it.
func TestWideningAsFarAsItGoes(t *testing.T) {
	b := newBench(t)
	b.columns, b.cfg.PartitionBy = "n BIGINT, p INT, v INT", []string{"p"}
	b.cfg.Properties = map[string]string{"delta.enableTypeWidening": "true"}
	layout, err := b.open().Layout(t.Context())
	b.check(err)
	next, err := layout.Toward(b.wanted("n BIGINT, p BIGINT, v BIGINT, z INT"), sink.EvolveWidens)
	b.check(err)
	if want := b.wanted("n BIGINT, p INT, v BIGINT, z INT"); plainSchema(next.Schema) != plainSchema(want) {
		t.Errorf("%s", next.Schema)
	}
}

// TestAddedColumnsDoNotWiden: under add_columns, two workers that bring a column with another type each.
func TestAddedColumnsDoNotWiden(t *testing.T) {
	b := newBench(t)
	b.cfg.SchemaEvolution = sink.EvolveAdd
	b.cfg.Properties = map[string]string{"delta.enableTypeWidening": "true"}
	one := b.owner(2)
	two := b.open()
	b.claim(two, 1)
	first, second := b.toward(one, "n BIGINT, a INT", 0, 0, 3), b.toward(two, "n BIGINT, a BIGINT", 1, 0, 3)
	b.commit(one, first)
	b.commit(two, second)
	b.want(first, sink.Landed)
	b.want(second, sink.Dropped)
}

// TestEvolutionsThatRace: of two workers that bring the same column the second finds it there, and one that brings it with another type is dropped.
func TestEvolutionsThatRace(t *testing.T) {
	for name, tt := range map[string]struct {
		columns string
		state   sink.State
		changes int
	}{
		"the same":                     {"n BIGINT, a STRING", sink.Landed, 1},
		"another":                      {"n BIGINT, z STRING", sink.Landed, 2},
		"the same, with another type":  {"n BIGINT, a BIGINT", sink.Dropped, 1},
		"the same, with a wider type":  {"n BIGINT, a STRING, w BIGINT", sink.Dropped, 1}, // the table has no type widening
		"the same, in another struct":  {"n BIGINT, s STRUCT<y: INT>", sink.Landed, 2},
		"one that differs by its case": {"n BIGINT, A STRING", sink.Dropped, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.cfg.SchemaEvolution = sink.EvolveWidens
			one := b.owner(2)
			b.claim(one, 0)
			two := b.open()
			b.claim(two, 1)
			first := b.toward(one, "n BIGINT, a STRING, w INT, s STRUCT<x: INT>", 0, 0, 3)
			second := b.toward(two, tt.columns, 1, 0, 3)
			b.commit(one, first)
			b.commit(two, second)
			b.want(first, sink.Landed)
			b.want(second, tt.state)
			if got := b.metadatas() - 1; got != tt.changes {
				t.Errorf("the table was changed %d times, want %d", got, tt.changes)
			}
			if tt.state == sink.Dropped {
				return
			}
			b.commit(two, b.unit(two, span(1, 3, 2)))
			if b.txn(1) != 4 {
				t.Errorf("the txn is %d", b.txn(1))
			}
		})
	}
}

// TestEvolutionsDoNotCombine (P1, P3): a unit that changes the table is no proposal, and its commit carries none.
func TestEvolutionsDoNotCombine(t *testing.T) {
	b := newBench(t)
	b.cfg.SchemaEvolution = sink.EvolveWidens
	loser := b.owner(2)
	carrier := b.open(b.memory)
	b.claim(carrier, 1)
	u, w := b.unit(loser, span(0, 0, 3)), b.toward(carrier, "n BIGINT, a STRING", 1, 0, 4)
	b.proposed(loser, u, func() {
		b.commit(carrier, w)
		b.want(w, sink.Landed)
		if record := b.record(); record.Carried != 0 || len(record.Units) != 1 {
			t.Errorf("the version that changes the table tells of %+v", record)
		}
	})
	b.want(u, sink.Landed)

	lost := 0
	b.store.SetHook(func(op faultstore.Op) {
		if isPut(op) && strings.HasPrefix(op.Name, "_delta_log/") && lost < 3 {
			lost++
			b.foreign(contended)
		}
		if len(b.proposals()) > 0 {
			t.Errorf("a unit that changes the table was left as a proposal: %v", b.proposals())
		}
	})
	second := b.toward(loser, "n BIGINT, z STRING", 0, 3, 2)
	b.commit(loser, second)
	b.want(second, sink.Landed)
	if lost < 3 || b.consistent() != 9 {
		t.Errorf("%d races were lost, the table has %d rows, want 3 and 9", lost, b.consistent())
	}
}

// TestEvolutionWhoseAnswerIsLost lands once, and is known again.
func TestEvolutionWhoseAnswerIsLost(t *testing.T) {
	b := newBench(t)
	b.cfg.SchemaEvolution = sink.EvolveWidens
	table := b.owner(1)
	b.store.SetPlan(faultstore.Once(isPut, faultstore.LandThenFail(nil)))
	u := b.toward(table, "n BIGINT, a STRING", 0, 0, 3)
	b.commit(table, u)
	b.want(u, sink.Landed)
	layout, err := table.Layout(t.Context())
	b.check(err)
	if layout.Ahead() || len(layout.Schema.FieldIndices("a")) == 0 {
		t.Errorf("the table's layout is %s", layout.Schema)
	}
	b.commit(table, b.unit(table, span(0, 3, 1)))
	if b.metadatas() != 2 || b.txn(0) != 3 {
		t.Errorf("%d metaData, txn %d", b.metadatas(), b.txn(0))
	}
}

// TestToward has the kinds of change that messages may ask for.
func TestToward(t *testing.T) {
	b := newBench(t)
	b.columns = "n BIGINT NOT NULL, i INT, d DECIMAL(5,2), s STRUCT<x: INT>, l ARRAY<STRUCT<x: INT>>, m MAP<STRING, STRUCT<x: INT>>"
	b.cfg.Properties = map[string]string{"delta.enableTypeWidening": "true"}
	layout, err := b.open().Layout(t.Context())
	b.check(err)
	for name, tt := range map[string]struct {
		want, add, widen string // the schema that comes out; empty: the table's
	}{
		"nothing new":            {want: "i INT, n BIGINT"},
		"NOT NULL stays":         {want: "n BIGINT"},
		"a column":               {"a STRING NOT NULL", "+ a STRING", "+ a STRING"},
		"in a struct":            {"s STRUCT<x: INT, y: STRING NOT NULL>", "s STRUCT<x: INT, y: STRING>", "s STRUCT<x: INT, y: STRING>"},
		"in a list":              {"l ARRAY<STRUCT<y: INT>>", "l ARRAY<STRUCT<x: INT, y: INT>>", "l ARRAY<STRUCT<x: INT, y: INT>>"},
		"in a map":               {"m MAP<STRING, STRUCT<y: INT>>", "m MAP<STRING, STRUCT<x: INT, y: INT>>", "m MAP<STRING, STRUCT<x: INT, y: INT>>"},
		"a wider type":           {"i BIGINT", "", "i BIGINT"},
		"a wider type, deep":     {"s STRUCT<x: BIGINT>", "", "s STRUCT<x: BIGINT>"},
		"a wider decimal":        {"d DECIMAL(7,2)", "", "d DECIMAL(7,2)"},
		"a narrower type":        {"n INT", "", ""},
		"another type":           {"i STRING", "", ""},
		"another type and a new": {"i STRING, z INT", "+ z INT", "+ z INT"},
	} {
		for how, out := range map[sink.Evolution]string{sink.EvolveNone: "", sink.EvolveAdd: tt.add, sink.EvolveWidens: tt.widen} {
			want := layout.Schema
			if added, ok := cutPlus(out); ok {
				want = arrow.NewSchema(append(want.Fields(), b.wanted(added).Fields()...), nil)
			} else if out != "" {
				fields := want.Fields()
				f := b.wanted(out).Field(0)
				fields[want.FieldIndices(f.Name)[0]] = f
				want = arrow.NewSchema(fields, nil)
			}
			next, err := layout.Toward(b.wanted(tt.want), how)
			b.check(err)
			if (next != layout) != (out != "") || plainSchema(next.Schema) != plainSchema(want) {
				t.Errorf("%s, %s: %s, want %s", name, how, next.Schema, want)
			}
		}
	}
	if _, err := layout.Toward(b.wanted("N INT"), sink.EvolveAdd); err == nil {
		t.Error("a column that differs by its case alone is taken")
	}
}

func cutPlus(s string) (string, bool) {
	if len(s) > 2 && s[0] == '+' {
		return s[2:], true
	}
	return s, false
}

// plainSchema leaves out the columns' metadata.
func plainSchema(s *arrow.Schema) string {
	out := ""
	for _, f := range s.Fields() {
		out += f.Name + " " + f.Type.String() + map[bool]string{true: ", "}[f.Nullable] + "; "
	}
	return out
}
