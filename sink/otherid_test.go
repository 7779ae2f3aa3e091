package sink_test

import (
	"errors"
	"testing"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
	"kafkadelta/sink"
)

// TestParcelsOfATableThatGetsAnotherId: its id changes alone, with all that is in it (rule C1c), before or after parcels were written for it. They are of this table and come to it, whoever
// brings them. What was written for a table in whose place another one was put does not.
func TestParcelsOfATableThatGetsAnotherId(t *testing.T) {
	another := func(m *delta.Metadata) { m.ID += "-another" }
	for name, tt := range map[string]struct {
		before, after bool     // the id changes before the parcels are written, by somebody who does not know of it, or after
		actions       []string // with the change
		refused       bool
	}{
		"before":               {before: true},
		"after":                {after: true},
		"twice":                {before: true, after: true},
		"with a table instead": {after: true, actions: []string{`{"commitInfo":{"operation":"CREATE OR REPLACE TABLE AS SELECT"}}`}, refused: true},
	} {
		change := func(b *bench, now bool) {
			if now {
				b.alter(another, tt.actions...)
			}
		}
		for whose, mine := range map[string]bool{"its own": true, "another's": false} {
			t.Run(name+", brought by "+whose+" process", func(t *testing.T) {
				t.Run("rows", func(t *testing.T) {
					c := newCity(t, "de")
					c.owner(1)
					c.held = map[string]*sink.Table{}
					_, err := c.table(t.Context(), "de")
					c.check(err)
					change(c.houses["de"], tt.before)
					catalog := c.open()
					c.claim(catalog, 0)
					u, _ := c.consigned(catalog, map[int32]int64{0: 0}, "de")
					c.decide(catalog, u)
					change(c.houses["de"], tt.after)
					if !mine {
						c.held, catalog = nil, c.open()
					}
					if tt.refused {
						if _, err := c.settle(catalog, 0); err == nil {
							t.Error("the rows came to the table")
						}
						c.wantRows("de", 0)
						return
					}
					_, err = c.settle(catalog, 0)
					c.check(err)
					c.wantRows("de", 1)
				})
				t.Run("dead letters", func(t *testing.T) {
					m := newMorgue(t)
					table, letters := m.owner(1), m.letters()
					change(m.beside, tt.before)
					u := m.buried(table, letters, grave(0, 0, 3))
					m.bury(table, letters, u, 0)
					change(m.beside, tt.after)
					if !mine {
						letters = m.letters()
					}
					_, err := sink.Settle(t.Context(), table, letters, []int32{0})
					if tt.refused {
						if !errors.As(err, new(*checkpoint.RefusedError)) || m.beside.consistent() != 0 {
							t.Errorf("Settle answered %v, and %d rows are there, want a refusal", err, m.beside.consistent())
						}
						return
					}
					m.check(err)
					if got := m.beside.consistent(); got != 3 {
						t.Errorf("%d dead letters, want 3", got)
					}
				})
			})
		}
	}
}
