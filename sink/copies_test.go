package sink_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"kafkadelta/sink"
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

// TestFilesGetOldWhileTheyAreDelivered: a delivery that takes longer than an hour begins again with copies.
func TestFilesGetOldWhileTheyAreDelivered(t *testing.T) {
	m := newMorgue(t)
	table, letters := m.owner(1), m.letters()
	m.bury(table, letters, m.buried(table, letters, grave(0, 0, 3)), 0)
	written := m.beside.dataFiles()
	m.beside.beforePut(func() {
		m.passed.Add(int64(61 * time.Minute))
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
