package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kafkadelta/storage"
	"kafkadelta/storage/open"
)

// tableLog is what a table's JSON commits say, read with nothing but the protocol's text in mind.
type tableLog struct {
	version  int64
	next     map[int32]int64 // by partition: version of its txn + 1
	rows     int64
	commits  int             // versions with rows
	carried  int             // units that other workers have left
	attempts map[string]bool // commit ids
	files    map[string]int64
}

type logAction struct {
	CommitInfo *struct {
		TxnID      string `json:"txnId"`
		KafkaDelta *struct {
			V       int `json:"v"`
			Carried int `json:"carried"`
			Units   []struct {
				Unit  string `json:"unit"`
				Spans []struct {
					Topic                      string `json:"topic"`
					Partition                  int32  `json:"partition"`
					First, Next, Records, Rows int64
					Skipped, Filtered, Gaps    int64
				} `json:"spans"`
			} `json:"units"`
		} `json:"kafkadelta"`
	} `json:"commitInfo"`
	Add *struct {
		Path  string            `json:"path"`
		Size  int64             `json:"size"`
		Stats string            `json:"stats"`
		Tags  map[string]string `json:"tags"`
	} `json:"add"`
	Txn *struct {
		AppID   string `json:"appId"`
		Version int64  `json:"version"`
	} `json:"txn"`
}

// readLog reads a table's log and checks what must hold in every version: the spans of a partition tile, a txn stands
// where its span ends, the files hold as many rows as the spans tell, each unit and each commit id is there once, and each file
// exists with its size.
func readLog(t testing.TB, table, stream string) tableLog {
	t.Helper()
	store, objects := openStore(t, table), objects(t, table)
	l := tableLog{version: -1, next: map[int32]int64{}, attempts: map[string]bool{}, files: map[string]int64{}}
	units := map[string]int64{}
	for v := int64(0); ; v++ {
		name := fmt.Sprintf("_delta_log/%020d.json", v)
		if _, ok := objects[name]; !ok {
			break
		}
		l.version = v
		l.apply(t, objects, stream, v, object(t, store, name), units)
	}
	if l.version < 0 {
		t.Fatalf("%s has no log", table)
	}
	return l
}

func (l *tableLog) apply(t testing.TB, objects map[string]int64, name string, v int64, data []byte, units map[string]int64) {
	t.Helper()
	ends := map[int32]int64{}
	var spanRows, fileRows int64
	scan := bufio.NewScanner(bytes.NewReader(data))
	scan.Buffer(nil, 64<<20)
	for scan.Scan() {
		var a logAction
		if err := json.Unmarshal(scan.Bytes(), &a); err != nil {
			t.Fatalf("version %d: %v", v, err)
		}
		switch {
		case a.CommitInfo != nil:
			if l.attempts[a.CommitInfo.TxnID] && a.CommitInfo.TxnID != "" {
				t.Errorf("version %d: commit id %s was there before", v, a.CommitInfo.TxnID)
			}
			l.attempts[a.CommitInfo.TxnID] = true
			if a.CommitInfo.KafkaDelta == nil {
				continue
			}
			l.carried += a.CommitInfo.KafkaDelta.Carried
			for _, u := range a.CommitInfo.KafkaDelta.Units {
				if before, ok := units[u.Unit]; ok {
					t.Errorf("version %d: unit %s landed in version %d already", v, u.Unit, before)
				}
				units[u.Unit] = v
				for _, s := range u.Spans {
					if at, ok := l.next[s.Partition]; ok && s.First != at {
						t.Errorf("version %d: span [%d, %d) of partition %d does not begin at %d", v, s.First, s.Next, s.Partition, at)
					}
					if s.Rows+s.Skipped+s.Filtered != s.Records || s.Records+s.Gaps != s.Next-s.First {
						t.Errorf("version %d: the numbers of span %+v do not add up", v, s)
					}
					l.next[s.Partition], ends[s.Partition] = s.Next, s.Next
					spanRows += s.Rows
				}
			}
		case a.Add != nil:
			var stats struct {
				NumRecords int64 `json:"numRecords"`
			}
			if err := json.Unmarshal([]byte(a.Add.Stats), &stats); err != nil {
				t.Fatalf("version %d: stats of %s: %v", v, a.Add.Path, err)
			}
			fileRows += stats.NumRecords
			if a.Add.Tags["kafkadelta.spans"] == "" {
				t.Errorf("version %d: %s has no spans in its tags", v, a.Add.Path)
			}
			l.addFile(t, objects, v, a.Add.Path, a.Add.Size)
		case a.Txn != nil:
			var n int32
			if _, err := fmt.Sscanf(strings.TrimPrefix(a.Txn.AppID, name+"-"), "%d", &n); err != nil || a.Txn.AppID != fmt.Sprintf("%s-%d", name, n) {
				continue
			}
			if end, ok := ends[n]; !ok || a.Txn.Version != end-1 {
				t.Errorf("version %d: txn %s is %d, but its span ends at %d (%v)", v, a.Txn.AppID, a.Txn.Version, end, ok)
			}
		}
	}
	if spanRows != fileRows {
		t.Errorf("version %d: the spans tell %d rows, the files hold %d", v, spanRows, fileRows)
	}
	l.rows += fileRows
	if fileRows > 0 {
		l.commits++
	}
}

func (l *tableLog) addFile(t testing.TB, objects map[string]int64, v int64, path string, size int64) {
	t.Helper()
	name, err := url.PathUnescape(path)
	if err != nil {
		t.Fatalf("version %d: path %s: %v", v, path, err)
	}
	if _, ok := l.files[name]; ok {
		t.Errorf("version %d: file %s was added before", v, name)
	}
	l.files[name] = size
	if got, ok := objects[name]; !ok {
		t.Errorf("version %d: %s is not there", v, name)
	} else if got != size {
		t.Errorf("version %d: file %s has %d bytes, the log says %d", v, name, got, size)
	}
}

// wantNext checks how far the table is in each partition.
func (l tableLog) wantNext(t testing.TB, want map[int32]int64) {
	t.Helper()
	for p, n := range want {
		if l.next[p] != n {
			t.Errorf("the table holds partition %d up to offset %d, expected %d", p, l.next[p], n)
		}
	}
}

// orphans are the data files and temporary files that no version names.
func (l tableLog) orphans(t testing.TB, table string) []string {
	t.Helper()
	var found []string
	for name := range objects(t, table) {
		inLog := strings.HasPrefix(name, "_delta_log/") && (strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".crc"))
		if _, ok := l.files[name]; !ok && !inLog {
			found = append(found, name)
		}
	}
	return found
}

// openStore reaches a table's objects: the environment tells how, as it tells the connector.
func openStore(t testing.TB, table string) storage.Store {
	t.Helper()
	s, err := open.Open(t.Context(), table, open.Options{Getenv: os.Getenv})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// objects are the names and sizes of all that lies in a table's folder. On a disk temporary files are among them.
func objects(t testing.TB, table string) map[string]int64 {
	t.Helper()
	found := map[string]int64{}
	if strings.Contains(table, "://") {
		for o, err := range openStore(t, table).List(t.Context(), "", "") {
			if err != nil {
				t.Fatal(err)
			}
			found[o.Name] = o.Size
		}
		return found
	}
	err := filepath.WalkDir(table, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) { // a temporary file of a writer, which has its name by now
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(table, path)
		found[filepath.ToSlash(name)] = info.Size()
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return found
}

func object(t testing.TB, store storage.Store, name string) []byte {
	t.Helper()
	r, err := store.Get(t.Context(), name, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
