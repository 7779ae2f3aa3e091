package sink_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"kafkadelta/sink"
	"kafkadelta/storage/faultstore"
)

// dataFiles are those of a table that lie there, whether a version names them or not.
func (b *bench) dataFiles() (names []string) {
	b.t.Helper()
	for _, name := range b.files() {
		if !strings.HasPrefix(name, "_") {
			names = append(names, name)
		}
	}
	return names
}

// vacuumed has a VACUUM of before the next version of a table take, before that lands, the data files that it has found to be old.
func (b *bench) vacuumed() {
	b.t.Helper()
	old := b.dataFiles()
	if len(old) == 0 {
		b.t.Fatal("there is nothing to take")
	}
	b.beforePut(func() {
		for _, name := range old {
			b.check(b.memory.Delete(b.t.Context(), name))
		}
	})
}

// TestADeliveryNamesNoOldFile is rule C8 for dead letters and for rows of many tables: what is pending may be of any age, and a VACUUM that is under
// way takes it whatever becomes of it meanwhile. So it is copied.
func TestADeliveryNamesNoOldFile(t *testing.T) {
	for _, same := range []bool{true, false} {
		t.Run(fmt.Sprintf("dead letters, by the same process %v", same), func(t *testing.T) {
			m := newMorgue(t)
			table, letters := m.owner(1), m.letters()
			m.bury(table, letters, m.buried(table, letters, grave(0, 0, 3)), 0)
			m.passed.Add(int64(8 * day))
			if !same {
				letters = m.letters()
			}
			m.beside.vacuumed()
			m.settle(table, letters, 0)
			m.wantLetters(3, 1)
		})
		t.Run(fmt.Sprintf("rows, by the same process %v", same), func(t *testing.T) {
			c := newCity(t, "de")
			if same {
				c.held = map[string]*sink.Table{}
			}
			c.owner(1)
			c.pending(map[int32]int64{0: 0}, "de", "de")
			c.passed.Add(int64(8 * day))
			c.houses["de"].vacuumed()
			c.settled(0)
			c.wantRows("de", 2)
		})
	}
}

// slowCopies has each copy of a file of a table beside this one take so long.
func (b *bench) slowCopies(of *bench, takes time.Duration) {
	of.store.SetHook(func(op faultstore.Op) {
		if op.Method == faultstore.MethodCreate {
			b.passed.Add(int64(takes))
		}
	})
}

// TestASlowDelivery is rule C8b: copies that take hours are delivered, since they must all be in one version, and those of several parcels in a
// version each, so that none waits for the others.
func TestASlowDelivery(t *testing.T) {
	m := newMorgue(t)
	table, letters := m.owner(3), m.letters()
	for id := range int32(3) {
		m.bury(table, letters, m.buried(table, letters, grave(id, 0, 3)), id)
	}
	m.slowCopies(m.beside, 11*time.Hour)
	m.settle(m.open(), m.letters(), 0, 1, 2)
	m.wantLetters(9, 3)
	m.beside.store.SetHook(nil)
	m.settle(m.open(), m.letters(), 0, 1, 2)
	m.wantLetters(9, 3)

	for id := range int32(3) {
		m.bury(table, letters, m.buried(table, letters, grave(id, 3, 1)), id)
	}
	m.slowCopies(m.beside, time.Minute)
	m.settle(m.open(), m.letters(), 0, 1, 2)
	m.wantLetters(12, 4)
}

// TestASlowDeliveryOfRows is the same for one of a catalog's tables, in a generation that a rewind has begun.
func TestASlowDeliveryOfRows(t *testing.T) {
	c := newCity(t, "de")
	c.owner(3)
	for id := range int32(3) {
		c.pending(map[int32]int64{id: 0}, "de")
	}
	c.settled(0, 1, 2)
	c.rewind(1, map[int32]int64{0: 0, 1: 0, 2: 0})
	for id := range int32(3) {
		c.pending(map[int32]int64{id: 0}, "de", "de")
	}
	c.slowCopies(c.houses["de"], 11*time.Hour)
	at := c.houses["de"].version()
	c.settled(0, 1, 2)
	c.wantRows("de", 9)
	if got := c.houses["de"].version(); got != at+3 {
		t.Errorf("the table is at version %d, want %d: one for each parcel", got, at+3)
	}
}

// TestADeliveryThatIsTooSlow begins again, and says so.
func TestADeliveryThatIsTooSlow(t *testing.T) {
	m := newMorgue(t)
	table, letters := m.owner(1), m.letters()
	m.bury(table, letters, m.buried(table, letters, grave(0, 0, 3)), 0)
	copies := 0
	m.beside.store.SetHook(func(op faultstore.Op) {
		if op.Method == faultstore.MethodCreate {
			if copies++; copies == 1 {
				m.passed.Add(int64(13 * time.Hour))
			}
		}
	})
	logs := &strings.Builder{}
	slow := m.lettersWith(slog.New(slog.NewTextHandler(logs, nil)))
	m.settle(m.open(), slow, 0)
	m.wantLetters(3, 1)
	if copies != 2 || !strings.Contains(logs.String(), "a delivery took longer") || !strings.Contains(logs.String(), "took=13h") {
		t.Errorf("%d copies were made, want 2; the log says %q", copies, logs.String())
	}
}

// TestFilesGetOldWhileTheyAreDelivered: a delivery that takes longer than 12 hours begins again with copies.
func TestFilesGetOldWhileTheyAreDelivered(t *testing.T) {
	m := newMorgue(t)
	table, letters := m.owner(1), m.letters()
	m.bury(table, letters, m.buried(table, letters, grave(0, 0, 3)), 0)
	written := m.beside.dataFiles()
	m.beside.beforePut(func() {
		m.passed.Add(int64(12*time.Hour + time.Minute))
		m.beside.foreign(`{"txn":{"appId":"another","version":1}}`) // so that it has to begin anew
	})
	m.settle(table, letters, 0)
	m.wantLetters(3, 2)
	if got := m.loose(); len(got) != 1 || got[0] != written[0] {
		t.Errorf("no version names %v; want that it is %v, of which there is a copy", got, written)
	}
}

// TestCopiesOfWhoComesLateGo: of two that deliver the same, one has copied in vain.
func TestCopiesOfWhoComesLateGo(t *testing.T) {
	m := newMorgue(t)
	table, letters := m.owner(1), m.letters()
	m.bury(table, letters, m.buried(table, letters, grave(0, 0, 3)), 0)
	written := m.beside.dataFiles()
	other, others := m.open(m.memory), m.letters()
	m.beside.beforePut(func() { m.settle(other, others, 0) })
	m.settle(m.open(), m.letters(), 0)
	m.wantLetters(3, 1)
	if got := m.loose(); len(got) != 1 || got[0] != written[0] {
		t.Errorf("no version names %v; want that it is what was copied, %v", got, written)
	}
}

// TestAFileThatWasCutIsNotCopied: its copy would be no better.
func TestAFileThatWasCutIsNotCopied(t *testing.T) {
	m := newMorgue(t)
	table, letters := m.owner(1), m.letters()
	m.bury(table, letters, m.buried(table, letters, grave(0, 0, 3)), 0)
	name := m.beside.dataFiles()[0]
	m.check(m.beside.memory.Put(t.Context(), name, m.beside.object(name)[:100]))
	_, err := sink.Settle(t.Context(), table, m.letters(), []int32{0})
	if _, final := errors.AsType[*sink.Error](err); !final || !strings.Contains(err.Error(), "it has 100 bytes") {
		t.Errorf("Settle answered %v, want an *Error that names the sizes", err)
	}
	m.wantLetters(0, 0)
}
