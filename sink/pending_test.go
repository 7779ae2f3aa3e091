package sink_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"kafkadelta/checkpoint"
	"kafkadelta/sink"
)

// TestARewindThatIsNotKnownYet: who learns of a rewind together with what is pending of the new generation brings what is pending of the former ones
// first, all the same (rule T5b).
func TestARewindThatIsNotKnownYet(t *testing.T) {
	c := newCity(t, "de")
	c.owner(2)
	late := c.open()
	c.pending(map[int32]int64{0: 0}, "de")
	c.rewind(1, map[int32]int64{1: 0})
	c.pending(map[int32]int64{1: 0}, "de")
	_, err := c.settle(late, 1)
	c.check(err)
	c.wantRows("de", 2)
	for version, generation := range []string{1: `"gen":0`, 2: `"gen":1`} {
		if log := string(c.houses["de"].object(logFile(int64(version)))); !strings.Contains(log, generation) {
			t.Errorf("version %d has rows of another generation than %s:\n%s", version, generation, log)
		}
	}
}

// constrain gives a table a CHECK constraint that no row of the tests keeps.
func (b *bench) constrain() {
	b.t.Helper()
	meta := b.snapshot().Metadata()
	meta.Configuration = map[string]string{"delta.constraints.small": "n < 0"}
	line, err := json.Marshal(map[string]any{"metaData": meta})
	b.check(err)
	b.foreign(`{"commitInfo":{"operation":"ALTER TABLE"}}`, string(line), `{"protocol":{"minReaderVersion":1,"minWriterVersion":3}}`)
}

// TestADeadLetterTableThatWasChanged between the writing of a file for it and the delivery: what the file fits by then is delivered, by whomever, and
// what it does not fit is refused, however often.
func TestADeadLetterTableThatWasChanged(t *testing.T) {
	for _, same := range []bool{true, false} {
		for _, racing := range []bool{true, false} {
			for _, fits := range []bool{true, false} {
				t.Run(fmt.Sprintf("by the same process %v, in a race %v, fits %v", same, racing, fits), func(t *testing.T) {
					m := newMorgue(t)
					table, letters := m.owner(1), m.letters()
					m.bury(table, letters, m.buried(table, letters, grave(0, 0, 3)), 0)
					change := m.beside.constrain
					if fits {
						change = func() { m.beside.alter(m.beside.columnsTo("n BIGINT, more STRING")) }
					}
					if !same {
						letters = m.letters()
					}
					if racing {
						m.beside.beforePut(change)
					} else {
						change()
					}
					if fits {
						m.settle(table, letters, 0)
						m.wantLetters(3, 2)
						return
					}
					for range 2 {
						_, err := sink.Settle(t.Context(), table, letters, []int32{0})
						if _, refused := errors.AsType[*checkpoint.RefusedError](err); !refused || !strings.Contains(err.Error(), "small") {
							t.Fatalf("Settle answered %v, want a refusal that names the rule", err)
						}
					}
					m.wantLetters(0, 1)
				})
			}
		}
	}
}

// TestARuleThatCameAfterRowsOfALostManifest: who goes on without a manifest goes by the notes, which know what the rows were written under.
func TestARuleThatCameAfterRowsOfALostManifest(t *testing.T) {
	c := newCity(t, "de")
	c.owner(1)
	c.drop(c.bench, "manifests/", c.pending(map[int32]int64{0: 0}, "de"))
	c.alter("de", constraint)
	given, err := sink.GiveUpRows(t.Context(), c.open(), []int32{0}, c.table)
	c.check(err)
	if len(given) != 2 || !strings.Contains(given[1], "table de: it was changed after rows for it were written") {
		t.Errorf("given up is %q, want the rows of the table as well", given)
	}
	c.wantRows("de", 0)
}
