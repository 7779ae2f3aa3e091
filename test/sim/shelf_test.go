package sim

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

// shelf is the folder of a table, with what its log says, kept up with every version at the moment when it lands.
type shelf struct {
	w       *world
	name    string // before the names of objects, in the trace
	store   *memory.Store
	version int64            // the newest
	files   map[string]*file // that snapshots show, by name
	txns    map[string]int64 // by app id
	deleted map[string]bool
	named   map[string]bool   // files that any version has named
	away    *time.Time        // since when the folder was removed; nil: it is there
	gone    map[string][]byte // what was in it
	stamp   int64             // the newest version's in-commit timestamp
	rowMark int64             // the highest row id that was given; -1 for none
	read    func(version int64, data []byte)

	metaData map[string]json.RawMessage // the newest
	protocol json.RawMessage            // the newest
	columns  map[string]map[string]bool // types by path, all that the table has had: they only get wider
}

func newShelf(w *world, name string) *shelf {
	return &shelf{w: w, name: name, store: memory.New(), version: -1, rowMark: -1, files: map[string]*file{}, txns: map[string]int64{}, deleted: map[string]bool{}, named: map[string]bool{}, columns: map[string]map[string]bool{}}
}

var versionName = regexp.MustCompile(`^_delta_log/(\d{20})\.json$`)

func versionFile(version int64) string { return fmt.Sprintf("_delta_log/%020d.json", version) }

// putIfAbsent is where versions land.
func (s *shelf) putIfAbsent(who, name string, data []byte, begun time.Time) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if name == versionFile(0) && s.away != nil && begun.After(s.away.Add(awayUnseen)) {
		s.w.fault("T6: %s makes the table %s anew, which was removed", who, s.name)
	}
	return s.put(who, name, data)
}

// put is putIfAbsent for who holds the lock.
func (s *shelf) put(who, name string, data []byte) error {
	if _, ok := s.gone[name]; ok { // who does not know the newest version would land one in its place, which is gone again once the folder is back
		return fs.ErrExist
	}
	err := s.store.PutIfAbsent(context.Background(), name, data)
	m := versionName.FindStringSubmatch(name)
	if m == nil || err != nil {
		return err
	}
	version, _ := strconv.ParseInt(m[1], 10, 64)
	switch {
	case version == s.version+1:
		s.w.trace.add(who, "version %s%d lands", s.name, version)
		s.version = version
		s.read(version, data)
	case version <= s.version: // the log was cleaned beyond it: no snapshot shows it
		s.w.trace.add(who, "version %s%d lands below the log checkpoint", s.name, version)
		s.w.count.Unseen++
	default:
		s.w.fault("version %s%d lands after version %d", s.name, version, s.version)
	}
	return nil
}

// remove is where objects go.
func (s *shelf) remove(who, name string) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if _, live := s.files[name]; live {
		s.w.fault("I4: %s deletes %s%s, which version %d names", who, s.name, name, s.version)
	}
	s.deleted[name] = true
	return s.store.Delete(context.Background(), name)
}

// actions parses a version.
func (s *shelf) actions(version int64, data []byte) []line {
	var actions []line
	for text := range bytes.Lines(data) {
		var a line
		if err := json.Unmarshal(text, &a); err != nil {
			s.w.fault("version %s%d can't be read: %v", s.name, version, err)
			return nil
		}
		actions = append(actions, a)
	}
	return actions
}

// takeTxns takes over the txns of a version, and returns them.
func (s *shelf) takeTxns(version int64, actions []line) map[string]int64 {
	txns := map[string]int64{}
	for _, a := range actions {
		if a.Txn == nil {
			continue
		}
		if _, twice := txns[a.Txn.AppID]; twice {
			s.w.fault("C3: version %s%d has two txns of %s", s.name, version, a.Txn.AppID)
		}
		txns[a.Txn.AppID] = a.Txn.Version
	}
	maps.Copy(s.txns, txns)
	return txns
}

// takeStamp looks at a version's timestamp.
func (s *shelf) takeStamp(version, stamp int64) {
	if stamp == 0 && s.stamp == 0 {
		return
	}
	if stamp <= s.stamp {
		s.w.fault("I9: version %s%d has the timestamp %d, the one before %d", s.name, version, stamp, s.stamp)
	}
	s.stamp = stamp
}

// takeMetaData takes over what columns there are, and tells how many of them are new, beside those of who adds some by hand.
func (s *shelf) takeMetaData(version int64, data json.RawMessage) (more int) {
	isFirst := s.metaData == nil
	if err := json.Unmarshal(data, &s.metaData); err != nil {
		s.w.fault("version %s%d: metaData can't be read: %v", s.name, version, err)
	}
	var metaData struct {
		Schema string `json:"schemaString"`
	}
	var schema tableType
	err := json.Unmarshal(data, &metaData)
	if err == nil {
		err = json.Unmarshal([]byte(metaData.Schema), &schema)
	}
	if err != nil {
		s.w.fault("version %s%d: the schema can't be read: %v", s.name, version, err)
	}
	columns, had := map[string]string{}, map[string][]string{}
	schema.collect("", columns, had)
	for path, now := range columns {
		if s.columns[path] == nil {
			s.columns[path] = map[string]bool{}
		}
		if !isFirst && !s.columns[path][now] && !strings.HasPrefix(path, "extra_") {
			more++
		}
		if now == "double" && s.columns[path]["float"] && !s.columns[path][now] {
			s.w.count.Widened++
		}
		s.columns[path][now] = true
		for _, before := range had[path] {
			s.columns[path][before] = true
		}
	}
	return more
}

// openRows is open, with the rows. It may have no column that the table does not have, in a type that it has had.
func (s *shelf) openRows(version int64, name string, size int64) *file {
	f := s.open(version, name, size)
	if f.data != nil {
		if err := f.read(); err != nil {
			s.w.fault("version %s%d: reading %s: %v", s.name, version, name, err)
		}
	}
	for _, path := range sorted(f.columns) {
		if !s.columns[path][f.columns[path]] {
			s.w.fault("I7: version %s%d has %s with %s as %q, and the table has had %v", s.name, version, name, path, f.columns[path], s.columns[path])
		}
	}
	return f
}

// takeTypes looks at the types of a file with new rows: none is one that readers don't convert to what the table has by now.
func (s *shelf) takeTypes(version int64, name string, f *file) {
	for _, path := range sorted(f.columns) {
		if f.columns[path] == "float" && s.columns[path]["double"] {
			s.w.fault("I7: version %s%d has %s with %s as FLOAT, and the table has DOUBLE", s.name, version, name, path)
		}
	}
}

// awayUnseen is how long after a removal somebody may still make a table who has asked for it before.
const awayUnseen = 15 * time.Second

// get reads a whole object, of those that were taken away as well.
func (s *shelf) get(name string) ([]byte, error) {
	if data, ok := s.gone[name]; ok {
		return data, nil
	}
	r, err := s.store.Get(context.Background(), name, 0, -1)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// takeAway removes the folder. The caller holds the lock, as of bringBack.
func (s *shelf) takeAway() {
	objects := map[string][]byte{}
	ctx := context.Background()
	for o, err := range s.store.List(ctx, "", "") {
		s.w.check(err)
		data, err := s.get(o.Name)
		s.w.check(err)
		objects[o.Name] = data
	}
	for _, name := range sorted(objects) {
		s.w.check(s.store.Delete(ctx, name))
	}
	now := time.Now()
	s.away, s.gone = &now, objects
}

func (s *shelf) bringBack() {
	for _, name := range sorted(s.gone) {
		s.w.check(s.store.Put(context.Background(), name, s.gone[name]))
	}
	s.away, s.gone = nil, nil
}

// open gets a data file; its data is nil where it is not there.
func (s *shelf) open(version int64, name string, size int64) *file {
	f := &file{rows: map[place]row{}, columns: map[string]string{}}
	s.named[name] = true
	data, err := s.get(name)
	if errors.Is(err, fs.ErrNotExist) {
		s.w.fault("I4: version %s%d names %s, which is not there (deleted: %v)", s.name, version, name, s.deleted[name])
		return f
	}
	f.data = data
	if err == nil && int64(len(f.data)) != size {
		err = fmt.Errorf("it has %d bytes, and the log says %d", len(f.data), size)
	}
	if err != nil {
		s.w.fault("version %s%d: reading %s: %v", s.name, version, name, err)
	}
	return f
}

// compare looks whether snapshots show what the log says.
func (s *shelf) compare(ctx context.Context) {
	snapshot, err := delta.OpenSnapshot(ctx, s.store, -1)
	if err != nil {
		s.w.fault("opening the table %s: %v", s.name, err)
		return
	}
	files := 0
	for add, err := range snapshot.Files(ctx) {
		if err != nil {
			s.w.fault("reading the table %s: %v", s.name, err)
			return
		}
		files++
		f, ok := s.files[add.Path]
		if !ok {
			s.w.fault("a snapshot of version %s%d has %s, which is not in the log", s.name, snapshot.Version(), add.Path)
		} else if tracked := f.ids != (rowIDs{}); tracked && (add.BaseRowID == nil || add.DefaultRowCommitVersion == nil || f.ids != rowIDs{*add.BaseRowID, *add.DefaultRowCommitVersion}) {
			s.w.fault("I9: a snapshot of version %s%d has %s with other row ids than the log", s.name, snapshot.Version(), add.Path)
		}
	}
	if snapshot.Version() != s.version || files != len(s.files) {
		s.w.fault("a snapshot has version %s%d with %d files, the log %d with %d", s.name, snapshot.Version(), files, s.version, len(s.files))
	}
	for _, app := range sorted(s.txns) {
		if _, expires := snapshot.Metadata().Configuration[txnRetention]; expires && strings.HasSuffix(app, "#last") {
			continue // it is of the time of its unit, and of a stream that is idle for long it is forgotten
		}
		txn, ok := snapshot.Txn(app)
		if age := time.Since(time.UnixMilli(s.w.ledger.updated[app])); !ok && age > txnsExpire && isBeside(app) {
			continue // its one worker, which is killed and is far from the store, had no commit for so long: see readMarks
		}
		if !ok || txn.Version != s.txns[app] {
			s.w.fault("a snapshot of %s has txn %v of %s, the log %d", s.name, txn, app, s.txns[app])
		}
	}
}

func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
