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
	read    func(version int64, data []byte)
}

func newShelf(w *world, name string) *shelf {
	return &shelf{w: w, name: name, store: memory.New(), version: -1, files: map[string]*file{}, txns: map[string]int64{}, deleted: map[string]bool{}}
}

var versionName = regexp.MustCompile(`^_delta_log/(\d{20})\.json$`)

func versionFile(version int64) string { return fmt.Sprintf("_delta_log/%020d.json", version) }

// putIfAbsent is where versions land.
func (s *shelf) putIfAbsent(who, name string, data []byte) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.put(who, name, data)
}

// put is putIfAbsent for who holds the lock.
func (s *shelf) put(who, name string, data []byte) error {
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

// open gets a data file; its data is nil where it is not there.
func (s *shelf) open(version int64, name string, size int64) *file {
	f := &file{rows: map[place]row{}, columns: map[string]string{}}
	r, err := s.store.Get(context.Background(), name, 0, -1)
	if errors.Is(err, fs.ErrNotExist) {
		s.w.fault("I4: version %s%d names %s, which is not there (deleted: %v)", s.name, version, name, s.deleted[name])
		return f
	}
	if err == nil {
		f.data, err = io.ReadAll(r)
	}
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
		if _, ok := s.files[add.Path]; !ok {
			s.w.fault("a snapshot of version %s%d has %s, which is not in the log", s.name, snapshot.Version(), add.Path)
		}
	}
	if snapshot.Version() != s.version || files != len(s.files) {
		s.w.fault("a snapshot has version %s%d with %d files, the log %d with %d", s.name, snapshot.Version(), files, s.version, len(s.files))
	}
	for _, app := range sorted(s.txns) {
		if txn, ok := snapshot.Txn(app); !ok || txn.Version != s.txns[app] {
			s.w.fault("a snapshot of %s has txn %v of %s, the log %d", s.name, txn, app, s.txns[app])
		}
	}
}

func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
