package delta_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/parquet/file"

	"kafkadelta/delta"
)

// A log checkpoint that is broken in its file actions alone, which opening for an append does not read, is passed over by the next
// one where an older one and the commits, or the commits alone, tell the same. Where they are gone it is refused, with the reason.
func TestLogCheckpointAfterABrokenOne(t *testing.T) {
	torn := func(t *testing.T, s delta.LogStore, name string) { check(t, s.Put(ctx, name, []byte("PAR1"))) }
	gone := func(t *testing.T, s delta.LogStore, name string) { drop(t, s, name) }
	for name, tt := range map[string]struct {
		kind, folder string
		spoil        func(t *testing.T, s delta.LogStore, name string)
	}{
		"classic, a column of the adds": {"classic", "_delta_log/", spoilPaths},
		"v2, a column of a sidecar":     {"v2", "_delta_log/_sidecars/", spoilPaths},
		"v2, a torn sidecar":            {"v2", "_delta_log/_sidecars/", torn},
		"v2, a missing sidecar":         {"v2", "_delta_log/_sidecars/", gone},
	} {
		for _, left := range []string{"an older one", "the commits", "nothing"} {
			t.Run(name+", "+left, func(t *testing.T) {
				l := newRandomLog(t, 3, checkpointKinds[tt.kind])
				checkpointed := func() (version int64) {
					for range 6 {
						l.step(t)
					}
					return checkpointAt(t, l.store, -1, l.at).Version
				}
				if left == "an older one" {
					checkpointed()
					drop(t, l.store, delta.CommitName(0))
				}
				before := objects(t, l.store, tt.folder)
				broken := checkpointed()
				after := objects(t, l.store, tt.folder)
				for range 6 {
					l.step(t)
				}
				want := stateOf(t, l.store, -1)
				for name := range after {
					if !before[name] && strings.HasSuffix(name, ".parquet") {
						tt.spoil(t, l.store, name)
					}
				}
				if left == "nothing" {
					drop(t, l.store, delta.CommitName(0))
				}
				r, err := delta.WriteLogCheckpoint(ctx, l.store, -1, delta.CheckpointOptions{Now: func() time.Time { return time.UnixMilli(l.at) }})
				if left == "nothing" {
					if err == nil || !strings.Contains(err.Error(), ".parquet") {
						t.Fatalf("%+v, %v, want the broken file told", r, err)
					}
					return
				}
				check(t, err)
				for v := broken; v <= l.version; v++ {
					drop(t, l.store, delta.CommitName(v))
				}
				if got := stateOf(t, l.store, -1); !r.Written || got != want {
					t.Errorf("%+v\n%s\nwant\n%s", r, got, want)
				}
			})
		}
	}
}

// spoilPaths overwrites the pages of the paths of added files.
func spoilPaths(t *testing.T, s delta.LogStore, name string) {
	t.Helper()
	data := read(t, s, name)
	r := must(file.NewParquetReader(bytes.NewReader(data)))
	for i := range r.NumRowGroups() {
		c := must(r.RowGroup(i).MetaData().ColumnChunk(r.MetaData().Schema.ColumnIndexByName("add.path")))
		at := c.DataPageOffset()
		if c.HasDictionaryPage() {
			at = min(at, c.DictionaryPageOffset())
		}
		for j := range c.TotalCompressedSize() {
			data[at+j] = 0xff
		}
	}
	check(t, s.Put(ctx, name, data))
}

// objects are the names of what lies in a folder.
func objects(t *testing.T, s delta.LogStore, folder string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for info, err := range s.List(ctx, folder, "") {
		check(t, err)
		if !strings.Contains(strings.TrimPrefix(info.Name, folder), "/") {
			found[info.Name] = true
		}
	}
	return found
}
