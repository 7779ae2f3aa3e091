package pipeline_test

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// writeOld makes testdata/table_v1 anew. It was done once, by the first code of format version 1. Never do it again: what is
// to be shown is that those tables go on under today's code. A new format version gets a folder and a test of its own.
var writeOld = flag.Bool("write-old-table", false, "make testdata of the present format version")

// oldTableFolder holds a table as version 1 left it. The identity of its topic is spelled OLD/OLD in it and is rewritten to
// that of the Kafka at hand, since that of a real topic does not change.
const oldTableFolder = "testdata/table_v1"

// oldMessages is what was in the topic when the old table was written: partition 0 has 7 messages, of them one poison at
// offset 3, partition 1 has 4.
func (w *world) oldMessages() {
	w.t.Helper()
	w.produce(0, 3)
	w.produceRaw(0, "poison")
	w.produce(0, 3)
	w.produce(1, 4)
}

func TestTableOfFormatVersion1GoesOn(t *testing.T) {
	if *writeOld {
		writeOldTable(t)
	}
	scenario(t, 2, func(w *world) {
		w.oldMessages()
		w.loadOldTable()
		before := w.version()
		if w.txn(0) != 6 || w.txn(1) != 3 {
			t.Fatalf("the old table stands at %d and %d, want 6 and 3", w.txn(0), w.txn(1))
		}
		w.exactlyOnce() // today's code reads what was written then
		w.produceAll(2, 5)
		w.untilEnd(skip)
		w.exactlyOnce()
		if got := w.version(); got != before+1 {
			t.Errorf("the table went from version %d to %d, want one commit: nothing is pinned anew", before, got)
		}
	})
}

// TestTableOfANewerFormatGoesOn: what a newer binary has written about its units cannot be read, but the txns can, and
// they alone carry the progress.
func TestTableOfANewerFormatGoesOn(t *testing.T) {
	scenario(t, 2, func(w *world) {
		w.produceAll(2, 5)
		w.untilEnd()
		last := w.version()
		newer := strings.NewReplacer(
			`"kafkadelta":{"v":1,`, `"kafkadelta":{"v":99,"form":"new",`,
			`{\"v\":1,`, `{\"v\":99,\"form\":\"new\",`,
		).Replace(string(w.object(logName(last))))
		if strings.Count(newer, "form") < 2 {
			t.Fatal("the newer form was not planted")
		}
		w.check(w.memory.Put(w.t.Context(), logName(last), []byte(newer)))
		w.produceAll(2, 3)
		w.untilEnd()
		rows := w.rows()
		for at, n := range w.want {
			if got := rows[at]; len(got) != 1 || got[0] != n {
				t.Errorf("rows at %v are %v, want %d", at, got, n)
			}
		}
	})
}

func logName(version int64) string { return fmt.Sprintf("_delta_log/%020d.json", version) }

// loadOldTable puts the table of testdata into the store, with the identity of the topic at hand.
func (w *world) loadOldTable() {
	w.t.Helper()
	id := w.identity()
	root := os.DirFS(oldTableFolder)
	w.check(fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		if filepath.Ext(name) == ".json" {
			data = []byte(strings.ReplaceAll(string(data), "events#topic/OLD/OLD", checkpoint.IdentityAppID(stream, id)))
		}
		return w.memory.Put(w.t.Context(), name, data)
	}))
}

// identity is that of the topic, as a worker writes it: taken from a table of its own.
func (w *world) identity() checkpoint.Identity {
	w.t.Helper()
	other := newWorldOn(w)
	k := other.start(skip)
	other.eventually("the topic is pinned", func() bool { return k.Ready() == nil })
	k.stop()
	snapshot, err := delta.OpenSnapshot(w.t.Context(), other.memory, -1)
	w.check(err)
	progress, err := checkpoint.ReadProgress(stream, func(yield func(string, int64) bool) {
		for txn := range snapshot.Txns() {
			if !yield(txn.AppID, txn.Version) {
				return
			}
		}
	})
	w.check(err)
	for id := range progress.Identities {
		return id
	}
	w.t.Fatal("no identity was written")
	return checkpoint.Identity{}
}

func writeOldTable(t *testing.T) {
	t.Helper()
	scenario(t, 2, func(w *world) {
		w.oldMessages()
		w.untilEnd(skip)
		id := checkpoint.IdentityAppID(stream, w.identity())
		for o, err := range w.memory.List(w.t.Context(), "", "") {
			w.check(err)
			data := w.object(o.Name)
			if filepath.Ext(o.Name) == ".json" {
				data = []byte(strings.ReplaceAll(string(data), id, "events#topic/OLD/OLD"))
			}
			name := filepath.Join(oldTableFolder, filepath.FromSlash(o.Name))
			w.check(os.MkdirAll(filepath.Dir(name), 0o777))
			w.check(os.WriteFile(name, data, 0o666))
		}
	})
}
