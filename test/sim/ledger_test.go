package sim

import (
	"bytes"
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

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	arrowmemory "github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"kafkadelta/checkpoint"
)

// ledger is what a reader finds in the table, kept up with every version at the moment when it lands. It shares no code with what
// writes the table but the names of app ids. It says at once what breaks an invariant of docs/exactly-once.md.
type ledger struct {
	version  int64                      // the newest
	files    map[string]*file           // that snapshots show, by name
	seen     map[place]string           // rows that a connector has brought, by the unit that did
	units    map[string]int64           // versions by unit
	next     map[int32]int64            // by partition: where its spans end
	txns     map[string]int64           // by app id
	landed   map[int32][]spanAt         // in order
	metaData map[string]json.RawMessage // the newest
	stamp    int64                      // the newest commit's in-commit timestamp
	ruledAt  int64                      // version that brought the rule; -1
	carried  int
}

// place is where a message is in the topic.
type place struct {
	partition int32
	offset    int64
}

type file struct {
	rows map[place]int64 // column n
	tags map[string]string
	data []byte
}

type spanAt struct {
	first, next, version int64
}

func newLedger() *ledger {
	return &ledger{
		version: -1, files: map[string]*file{}, seen: map[place]string{}, units: map[string]int64{}, next: map[int32]int64{},
		txns: map[string]int64{}, landed: map[int32][]spanAt{}, ruledAt: -1,
	}
}

var versionName = regexp.MustCompile(`^_delta_log/(\d{20})\.json$`)

func versionFile(version int64) string { return fmt.Sprintf("_delta_log/%020d.json", version) }

// putIfAbsent is where versions land.
func (w *world) putIfAbsent(who, name string, data []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.put(who, name, data)
}

// put is putIfAbsent for who holds the lock.
func (w *world) put(who, name string, data []byte) error {
	err := w.store.PutIfAbsent(context.Background(), name, data)
	m := versionName.FindStringSubmatch(name)
	if m == nil || err != nil {
		return err
	}
	version, _ := strconv.ParseInt(m[1], 10, 64)
	switch {
	case version == w.ledger.version+1:
		w.trace.add(who, "version %d lands", version)
		w.read(version, data)
	case version <= w.ledger.version: // the log was cleaned beyond it: no snapshot shows it
		w.trace.add(who, "version %d lands below the log checkpoint", version)
		w.count.Unseen++
	default:
		w.fault("version %d lands after version %d", version, w.ledger.version)
	}
	return nil
}

// remove is where objects go.
func (w *world) remove(who, name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, live := w.ledger.files[name]; live {
		w.fault("I4: %s deletes %s, which version %d names", who, name, w.ledger.version)
	}
	w.deleted[name] = true
	return w.store.Delete(context.Background(), name)
}

// line is one action of a version.
type line struct {
	CommitInfo *struct {
		Operation         string          `json:"operation"`
		InCommitTimestamp int64           `json:"inCommitTimestamp"`
		Record            json.RawMessage `json:"kafkadelta"`
	} `json:"commitInfo"`
	Txn *struct {
		AppID   string `json:"appId"`
		Version int64  `json:"version"`
	} `json:"txn"`
	Add *struct {
		Path       string            `json:"path"`
		Size       int64             `json:"size"`
		DataChange bool              `json:"dataChange"`
		Tags       map[string]string `json:"tags"`
	} `json:"add"`
	Remove   *struct{ Path string } `json:"remove"`
	MetaData json.RawMessage        `json:"metaData"`
}

// record is what commitInfo says of units.
type record struct {
	Carried int          `json:"carried"`
	Units   []unitRecord `json:"units"`
}

type unitRecord struct {
	Unit  string `json:"unit"`
	Pin   bool   `json:"pin"`
	Spans []struct {
		Partition int32 `json:"partition"`
		First     int64 `json:"first"`
		Next      int64 `json:"next"`
		Records   int64 `json:"records"`
		Rows      int64 `json:"rows"`
		Skipped   int64 `json:"skipped"`
	} `json:"spans"`
}

// read takes a version over. The caller holds the lock.
func (w *world) read(version int64, data []byte) {
	l := w.ledger
	l.version = version
	var actions []line
	for text := range bytes.Lines(data) {
		var a line
		if err := json.Unmarshal(text, &a); err != nil {
			w.fault("version %d can't be read: %v", version, err)
			return
		}
		actions = append(actions, a)
	}
	own := map[place]string{} // rows that this version brings
	moved, adds := map[place]int{}, map[string]*file{}
	for _, a := range actions {
		switch {
		case a.Remove != nil:
			f, ok := l.files[a.Remove.Path]
			if !ok {
				w.fault("version %d removes %s, which is not there", version, a.Remove.Path)
				continue
			}
			for at := range f.rows {
				moved[at]--
			}
			delete(l.files, a.Remove.Path)
		case a.MetaData != nil:
			w.readMetaData(version, a.MetaData)
		}
	}
	for _, a := range actions {
		if a.Add == nil {
			continue
		}
		f := w.open(version, a.Add.Path, a.Add.Size)
		f.tags = a.Add.Tags
		if _, twice := l.files[a.Add.Path]; twice {
			w.fault("version %d adds %s again", version, a.Add.Path)
		}
		l.files[a.Add.Path], adds[a.Add.Path] = f, f
		for at, n := range f.rows {
			if !a.Add.DataChange {
				moved[at]++
				continue
			}
			if _, twice := own[at]; twice {
				w.fault("I2: version %d has %v twice", version, at)
			}
			own[at] = a.Add.Path
			if l.ruledAt >= 0 && ruled(n) {
				w.fault("I7: version %d has n = %d, which the table's rule of version %d forbids", version, n, l.ruledAt)
			}
		}
	}
	for at, n := range moved {
		if n != 0 {
			w.fault("the simulation's own OPTIMIZE of version %d has lost %v", version, at)
		}
	}
	w.readUnits(version, actions, own)
}

func (w *world) readMetaData(version int64, data json.RawMessage) {
	before := w.ledger.metaData
	if err := json.Unmarshal(data, &w.ledger.metaData); err != nil {
		w.fault("version %d: metaData can't be read: %v", version, err)
	}
	if before != nil && bytes.Contains(data, []byte(ruleKey)) && w.ledger.ruledAt < 0 {
		w.ledger.ruledAt = version
	}
}

// readUnits takes over what a version says of units and txns, and what rows it has brought.
func (w *world) readUnits(version int64, actions []line, own map[place]string) {
	l := w.ledger
	txns, ends := map[string]int64{}, map[string]int64{}
	for _, a := range actions {
		if a.Txn == nil {
			continue
		}
		if _, twice := txns[a.Txn.AppID]; twice {
			w.fault("C3: version %d has two txns of %s", version, a.Txn.AppID)
		}
		txns[a.Txn.AppID] = a.Txn.Version
	}
	for _, a := range actions {
		if a.CommitInfo == nil {
			continue
		}
		if stamp := a.CommitInfo.InCommitTimestamp; stamp != 0 || l.stamp != 0 {
			if stamp <= l.stamp {
				w.fault("I9: version %d has the timestamp %d, the one before %d", version, stamp, l.stamp)
			}
			l.stamp = stamp
		}
		if a.CommitInfo.Record == nil {
			continue
		}
		var r record
		if err := json.Unmarshal(a.CommitInfo.Record, &r); err != nil {
			w.fault("version %d: units can't be read: %v", version, err)
		}
		l.carried += r.Carried
		for _, u := range r.Units {
			w.readUnit(version, u, own, ends)
		}
	}
	for at, path := range own {
		w.fault("I3: version %d has %v in %s, which no unit of it tells of", version, at, path)
	}
	for app, end := range ends {
		if txns[app] != end {
			w.fault("I3: version %d says txn %d of %s, its spans end at %d", version, txns[app], app, end+1)
		}
	}
	maps.Copy(l.txns, txns)
}

// readUnit takes over one unit, and strikes its rows from those that the version has brought.
func (w *world) readUnit(version int64, u unitRecord, own map[place]string, ends map[string]int64) {
	l := w.ledger
	if before, twice := l.units[u.Unit]; twice {
		w.fault("I2: unit %s is in the versions %d and %d", u.Unit, before, version)
	}
	l.units[u.Unit] = version
	for _, s := range u.Spans {
		at, known := l.next[s.Partition]
		switch {
		case !known && !u.Pin:
			w.fault("A1: version %d has rows of partition %d, which was never pinned", version, s.Partition)
		case known && s.First > at:
			w.fault("I1: version %d has [%d, %d) of partition %d, where the table stands at %d", version, s.First, s.Next, s.Partition, at)
		case known && s.First < at:
			w.fault("I2: version %d has [%d, %d) of partition %d, where the table stands at %d", version, s.First, s.Next, s.Partition, at)
		}
		l.next[s.Partition] = s.Next
		ends[checkpoint.AppID(streamName, s.Partition)] = s.Next - 1
		l.landed[s.Partition] = append(l.landed[s.Partition], spanAt{s.First, s.Next, version})
		rows := int64(0)
		for at := range own {
			if at.partition != s.Partition || at.offset < s.First || at.offset >= s.Next {
				continue
			}
			if before, twice := l.seen[at]; twice {
				w.fault("I2: version %d has %v, which unit %s has brought", version, at, before)
			}
			l.seen[at] = u.Unit
			delete(own, at)
			rows++
		}
		if rows != s.Rows {
			w.fault("I1: version %d has %d rows of [%d, %d) of partition %d, and tells %d", version, rows, s.First, s.Next, s.Partition, s.Rows)
		}
	}
}

// open reads a data file.
func (w *world) open(version int64, name string, size int64) *file {
	f := &file{rows: map[place]int64{}}
	r, err := w.store.Get(context.Background(), name, 0, -1)
	if errors.Is(err, fs.ErrNotExist) {
		w.fault("I4: version %d names %s, which is not there (deleted: %v)", version, name, w.deleted[name])
		return f
	}
	if err == nil {
		f.data, err = io.ReadAll(r)
	}
	if err == nil && int64(len(f.data)) != size {
		err = fmt.Errorf("it has %d bytes, and the log says %d", len(f.data), size)
	}
	if err == nil {
		err = f.read()
	}
	if err != nil {
		w.fault("version %d: reading %s: %v", version, name, err)
	}
	return f
}

func (f *file) read() error {
	table, err := readParquet(f.data)
	if err != nil {
		return err
	}
	defer table.Release()
	reader := array.NewTableReader(table, 0)
	defer reader.Release()
	for reader.Next() {
		rb := reader.RecordBatch()
		n := rb.Column(rb.Schema().FieldIndices("n")[0]).(*array.Int64)
		meta := rb.Column(rb.Schema().FieldIndices("_kafka")[0]).(*array.Struct)
		fields := meta.DataType().(*arrow.StructType)
		index := func(name string) int { i, _ := fields.FieldIdx(name); return i }
		partition, offset := meta.Field(index("partition")).(*array.Int32), meta.Field(index("offset")).(*array.Int64)
		for i := range int(rb.NumRows()) {
			at := place{partition.Value(i), offset.Value(i)}
			if _, twice := f.rows[at]; twice {
				return fmt.Errorf("it has %v twice", at)
			}
			f.rows[at] = n.Value(i)
		}
	}
	return reader.Err()
}

func readParquet(data []byte) (arrow.Table, error) {
	return pqarrow.ReadTable(context.Background(), bytes.NewReader(data), parquet.NewReaderProperties(nil), pqarrow.ArrowReadProperties{}, arrowmemory.DefaultAllocator)
}

// missing compares the table with what was produced: each message must be there once, and nothing else.
func (w *world) missing() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var wrong []string
	rows := map[place]int64{}
	for _, name := range slices.Sorted(maps.Keys(w.ledger.files)) {
		for at, n := range w.ledger.files[name].rows {
			if _, twice := rows[at]; twice {
				wrong = append(wrong, fmt.Sprintf("I2: %v is in two rows", at))
			}
			rows[at] = n
		}
	}
	for _, at := range slices.SortedFunc(maps.Keys(w.want), placeOrder) {
		n, there := rows[at]
		switch {
		case !there && ruled(w.want[at]) && w.ledger.ruledWhenTaken(at):
		case !there:
			wrong = append(wrong, fmt.Sprintf("I1: %v is lost", at))
		case n != w.want[at]:
			wrong = append(wrong, fmt.Sprintf("%v has n = %d, want %d", at, n, w.want[at]))
		}
	}
	for _, at := range slices.SortedFunc(maps.Keys(rows), placeOrder) {
		if _, ok := w.want[at]; !ok {
			wrong = append(wrong, fmt.Sprintf("%v must not be a row", at))
		}
	}
	return wrong
}

// ruledWhenTaken tells whether the table had its rule when the message was taken.
func (l *ledger) ruledWhenTaken(at place) bool {
	return l.ruledAt >= 0 && slices.ContainsFunc(l.landed[at.partition], func(s spanAt) bool {
		return s.first <= at.offset && at.offset < s.next && s.version > l.ruledAt
	})
}

func placeOrder(a, b place) int {
	if a.partition != b.partition {
		return int(a.partition - b.partition)
	}
	return int(a.offset - b.offset)
}
