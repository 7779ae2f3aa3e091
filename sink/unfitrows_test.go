package sink_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"kafkadelta/delta"
	"kafkadelta/sink"
)

// alter has another engine change the metaData of one of the tables.
func (c *city) alter(key string, change func(*delta.Metadata)) {
	c.t.Helper()
	h := c.houses[key]
	meta := h.snapshot().Metadata()
	change(&meta)
	line, err := json.Marshal(map[string]any{"metaData": meta})
	c.check(err)
	h.foreign(`{"commitInfo":{"operation":"ALTER TABLE"}}`, string(line), `{"protocol":{"minReaderVersion":1,"minWriterVersion":3}}`)
}

func constraint(m *delta.Metadata) {
	m.Configuration = map[string]string{"delta.constraints.small": "n < 0"}
}

func partitioned(m *delta.Metadata) { m.PartitionColumns = []string{"n"} }

// TestARuleThatCameAfterTheRows: a table that has got a rule, or lost a column, between the writing of rows for it and their delivery stops the
// stream, whoever delivers, and however often.
func TestARuleThatCameAfterTheRows(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*delta.Metadata)
		same   bool // process
		racing bool // the change comes just before the delivery
		says   string
		plain  bool // the note does not say what the catalog was, as one of an earlier release
	}{
		"a rule":                           {constraint, true, false, "small", false},
		"a rule, another process":          {constraint, false, false, "small", false},
		"a rule, in a race":                {constraint, true, true, "small", false},
		"a rule, another process, a race":  {constraint, false, true, "small", false},
		"partition columns":                {partitioned, false, false, "partition column n", false},
		"partition columns, told by files": {partitioned, false, false, "partition", true},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCity(t, "de")
			if tt.same {
				c.held = map[string]*sink.Table{}
			}
			c.owner(1)
			id := c.pending(map[int32]int64{0: 0}, "de")
			if tt.plain {
				name, note := fmt.Sprintf("_connector/parcels/%016x.json", id), map[string]json.RawMessage{}
				c.check(json.Unmarshal(c.houses["de"].object(name), &note))
				if note["rows"] == nil {
					t.Fatal("the note does not say it anyway")
				}
				delete(note, "rows")
				text, err := json.Marshal(note)
				c.check(err)
				c.check(c.houses["de"].memory.Put(t.Context(), name, text))
			}
			if tt.racing {
				c.houses["de"].beforePut(func() { c.alter("de", tt.change) })
			} else {
				c.alter("de", tt.change)
			}
			for range 2 {
				c.refused([]int32{0}, "table de: it was changed after rows for it were written", tt.says, ": 1 rows of offsets [0, 1) of topic[0]",
					"take back what was altered", "connector rewind --to-offsets 0=0`", "connector settle --give-up`")
			}
			c.wantRows("de", 0)
		})
	}
}

// TestRowsThatDoNotFit: of a table that was altered, rows come once that is taken back, or are read again, or given up; those of other tables come
// in any case.
func TestRowsThatDoNotFit(t *testing.T) {
	for name, tt := range map[string]struct {
		then func(*city)
		de   int64
	}{
		"taken back": {func(c *city) { c.alter("de", func(m *delta.Metadata) { m.Configuration = nil }) }, 2},
		"read again": {func(c *city) { c.rewind(1, map[int32]int64{0: 0, 1: 0}) }, 0},
		"given up": {func(c *city) {
			given, err := sink.GiveUpRows(c.t.Context(), c.open(), []int32{0, 1}, c.table)
			c.check(err)
			if len(given) != 2 || !strings.Contains(given[0], "table de: it was changed after rows for it were written, and does not take them any more") {
				c.t.Errorf("given up is %q", given)
			}
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCity(t, "de", "us")
			c.owner(2)
			c.pending(map[int32]int64{0: 0}, "de", "us")
			c.pending(map[int32]int64{1: 0}, "de")
			c.alter("de", constraint)
			c.refused([]int32{0, 1}, "table de", "topic[0]", "topic[1]", "rewind --to-offsets 0=0,1=0`")
			c.wantRows("us", 1)
			tt.then(c)
			c.settled(0, 1)
			c.wantRows("de", tt.de)
			c.wantRows("us", 1)
		})
	}
}

// TestATableThatIsGoneIsCalledSo: the table was removed, and with it the note that a worker who has it open looks for.
func TestATableThatIsGoneIsCalledSo(t *testing.T) {
	for name, removed := range map[string]string{"its folder": "", "its log": "_delta_log/", "its log, and another one in its place": "_delta_log/"} {
		t.Run(name, func(t *testing.T) {
			c := newCity(t, "de")
			c.owner(1)
			id := c.pending(map[int32]int64{0: 0}, "de")
			c.held = map[string]*sink.Table{}
			_, err := c.table(t.Context(), "de")
			c.check(err)
			c.drop(c.houses["de"], "parcels/", id)
			for info, err := range c.houses["de"].memory.List(t.Context(), removed, "") {
				c.check(err)
				c.check(c.houses["de"].memory.Delete(t.Context(), info.Name))
			}
			says := []string{"no Delta table here", "make an empty one in its place with `connector table create`"}
			if strings.Contains(name, "another") {
				before := c.held
				c.held = nil
				_, err = c.table(t.Context(), "de")
				c.check(err)
				c.held, says = before, []string{"the table was made anew"}
			}
			_, err = c.settle(c.open(), 0)
			if !errors.As(err, new(*sink.Error)) {
				t.Fatalf("SettleRows answered %v, want an *Error", err)
			}
			for _, want := range append(says, "table de: ") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v; want %q in it", err, want)
				}
			}
		})
	}
}

// TestATableThatWasMadeAnewIsCalledSo, also where it has other columns or rules than the one before.
func TestATableThatWasMadeAnewIsCalledSo(t *testing.T) {
	c := newCity(t, "de")
	c.owner(1)
	c.pending(map[int32]int64{0: 0}, "de")
	c.check(c.houses["de"].memory.Delete(t.Context(), logFile(0)))
	_, err := c.table(t.Context(), "de")
	c.check(err)
	c.alter("de", constraint)
	c.refused([]int32{0}, "table de: it was made anew", "rewind --to-offsets 0=0`", "settle --give-up`")
}

// TestRowsOfBeforeAWiderType: the catalog has decided about rows of one partition, and then gets a type that readers do not convert from theirs in files, with those of another. The rows
// that are pending come first, whoever settles what, or no table took them any more.
// toward is the layout of a worker's catalog as messages of other columns make it.
func (c *city) toward(worker *sink.Table, columns string) *sink.Layout {
	layout, err := worker.Layout(c.t.Context())
	c.check(err)
	wide, err := delta.ParseDDL(columns)
	c.check(err)
	next, err := layout.Toward(wide, sink.EvolveWidens)
	c.check(err)
	return next
}

// TestATableFollowsWhileOthersDecide has others decide about more of another partition at each turn of who lets a table follow: that is theirs to bring, and the call comes to its end.
func TestATableFollowsWhileOthersDecide(t *testing.T) {
	c := newCity(t, "de")
	for _, b := range []*bench{c.bench, c.houses["de"]} {
		b.columns, b.cfg.SchemaEvolution = "n BIGINT", sink.EvolveWidens
	}
	c.owner(3)
	c.pending(map[int32]int64{0: 0}, "de")
	c.settled(0)
	worker := c.open()
	c.claim(worker, 1)
	next := c.toward(worker, "n BIGINT, x DOUBLE")
	c.commit(worker, c.unitFor(worker, next, span(1, 0, 1)))
	c.pending(map[int32]int64{1: 1}, "de")
	const most = 20
	turns := int64(0)
	_, err := sink.SettleRows(t.Context(), c.open(), []int32{1}, func(ctx context.Context, key string) (*sink.Table, error) {
		if turns++; turns <= most {
			c.pending(map[int32]int64{2: turns - 1}, "de")
		}
		return c.table(ctx, key)
	})
	c.check(err)
	if turns > 5 {
		t.Errorf("it has looked at the table %d times", turns)
	}
}

func TestRowsOfBeforeAWiderType(t *testing.T) {
	for name, last := range map[string]map[int32]int64{"rows of the type before alone": nil, "rows of either type, of two partitions": {1: 1}, "rows of either type, of one": {1: 1, 2: 0}} {
		t.Run(name, func(t *testing.T) {
			c := newCity(t, "de", "us")
			for _, b := range []*bench{c.bench, c.houses["de"], c.houses["us"]} {
				b.columns, b.cfg.SchemaEvolution, b.cfg.Properties = "n BIGINT, x FLOAT", sink.EvolveWidens, map[string]string{"delta.enableTypeWidening": "true"}
			}
			c.owner(3)
			c.pending(map[int32]int64{0: 0}, "de", "us")
			worker := c.open()
			c.claim(worker, 1)
			next := c.toward(worker, "n BIGINT, x DOUBLE")
			u := c.unitFor(worker, next, span(1, 0, 1))
			c.commit(worker, u)
			c.want(u, sink.Landed)
			want := int64(1)
			if last != nil {
				c.pending(last, "de", "us")
				c.settled(1) // of this partition alone
				want += int64(len(last))
			}
			c.settled(0)
			for _, key := range []string{"de", "us"} {
				c.wantRows(key, want)
				if field, _ := c.houses[key].snapshot().Schema().FieldsByName("x"); last != nil && field[0].Type != arrow.PrimitiveTypes.Float64 {
					t.Errorf("table %s has x as %v", key, field[0].Type)
				}
			}
		})
	}
}
