package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

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
	*shelf
	seen     map[place]string           // rows that a connector has brought, by the unit that did
	units    map[string]int64           // versions by unit
	next     map[int32]int64            // by partition: where its spans end
	landed   map[int32][]spanAt         // in order
	metaData map[string]json.RawMessage // the newest
	stamp    int64                      // the newest commit's in-commit timestamp
	ruledAt  int64                      // version that brought the rule; -1
	freeAt   int64                      // version that took it away; -1
	columns  map[string]map[string]bool // types by path, all that the table has had: they only get wider
	replayed map[place]int64            // versions by dead letter that has become a row
	carried  int
}

// place is where a message is in the topic.
type place struct {
	partition int32
	offset    int64
}

type file struct {
	rows    map[place]row
	columns map[string]string // types by path, of those that are in no table from the beginning
	tags    map[string]string
	data    []byte
}

// row is what a message has become.
type row struct {
	n    int64
	rest string // values of other columns, as restOf has them
}

type spanAt struct {
	first, next, version, dead int64
}

func (w *world) newLedger() *ledger {
	l := &ledger{
		shelf: newShelf(w, ""), seen: map[place]string{}, units: map[string]int64{}, next: map[int32]int64{},
		landed: map[int32][]spanAt{}, ruledAt: -1, freeAt: -1, columns: map[string]map[string]bool{}, replayed: map[place]int64{},
	}
	l.read = w.read
	return l
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
		Dead      int64 `json:"dead"`
	} `json:"spans"`
}

// read takes a version over. The caller holds the lock.
func (w *world) read(version int64, data []byte) {
	l := w.ledger
	actions := l.actions(version, data)
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
		f := l.open(version, a.Add.Path, a.Add.Size)
		if f.tags = a.Add.Tags; f.data != nil {
			if err := f.read(); err != nil {
				w.fault("version %d: reading %s: %v", version, a.Add.Path, err)
			}
		}
		for _, path := range sorted(f.columns) {
			if !l.columns[path][f.columns[path]] {
				w.fault("I7: version %d has %s with %s as %q, and the table has had %v", version, a.Add.Path, path, f.columns[path], l.columns[path])
			}
		}
		if _, twice := l.files[a.Add.Path]; twice {
			w.fault("version %d adds %s again", version, a.Add.Path)
		}
		l.files[a.Add.Path], adds[a.Add.Path] = f, f
		for at, r := range f.rows {
			if !a.Add.DataChange {
				moved[at]++
				continue
			}
			if _, twice := own[at]; twice {
				w.fault("I2: version %d has %v twice", version, at)
			}
			own[at] = a.Add.Path
			if l.ruledAt >= 0 && l.freeAt < 0 && ruled(r.n) {
				w.fault("I7: version %d has n = %d, which the table's rule of version %d forbids", version, r.n, l.ruledAt)
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
	ruled := bytes.Contains(data, []byte(ruleKey))
	if before != nil && ruled && w.ledger.ruledAt < 0 {
		w.ledger.ruledAt = version
	}
	if !ruled && w.ledger.ruledAt >= 0 && w.ledger.freeAt < 0 {
		w.ledger.freeAt = version
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
		w.fault("version %d: the schema can't be read: %v", version, err)
	}
	columns := map[string]string{}
	schema.collect("", columns)
	for path, now := range columns {
		if w.ledger.columns[path] == nil {
			w.ledger.columns[path] = map[string]bool{}
		}
		if before != nil && w.evolves && !w.ledger.columns[path][now] && !strings.HasPrefix(path, "extra_") {
			w.count.Evolved++
		}
		w.ledger.columns[path][now] = true
	}
}

// readUnits takes over what a version says of units and txns, and what rows it has brought.
func (w *world) readUnits(version int64, actions []line, own map[place]string) {
	l := w.ledger
	txns, ends := l.takeTxns(version, actions), map[string]int64{}
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
	_, isReplay := txns[checkpoint.ReplayAppID(streamName)]
	for at, path := range own {
		if !isReplay {
			w.fault("I3: version %d has %v in %s, which no unit of it tells of", version, at, path)
			continue
		}
		w.readReplayed(version, at)
	}
	for app, end := range ends {
		if txns[app] != end {
			w.fault("I3: version %d says txn %d of %s, its spans end at %d", version, txns[app], app, end+1)
		}
	}
}

// readReplayed takes over a row that a replay has brought.
func (w *world) readReplayed(version int64, at place) {
	l := w.ledger
	if before, twice := l.seen[at]; twice {
		w.fault("I2: version %d has replayed %v, which %s has brought", version, at, before)
	}
	if _, ok := w.letters.found[at]; !ok {
		w.fault("D6: version %d has replayed %v, which is no dead letter", version, at)
	}
	l.seen[at], l.replayed[at] = fmt.Sprintf("the replay of version %d", version), version
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
		l.landed[s.Partition] = append(l.landed[s.Partition], spanAt{s.First, s.Next, version, s.Dead})
		rows := int64(0)
		for at := range own {
			if at.partition != s.Partition || at.offset < s.First || at.offset >= s.Next {
				continue
			}
			if before, twice := l.seen[at]; twice {
				w.fault("I2: version %d has %v, which unit %s has brought", version, at, before)
			}
			if w.buries {
				if before, dead := w.letters.found[at]; dead {
					w.fault("I11: version %d has %v, which is a dead letter since version %d of their table", version, at, before)
				}
			}
			l.seen[at] = u.Unit
			delete(own, at)
			rows++
		}
		if rows != s.Rows {
			w.fault("I1: version %d has %d rows of [%d, %d) of partition %d, and tells %d", version, rows, s.First, s.Next, s.Partition, s.Rows)
		}
		if s.Records != s.Rows+s.Skipped+s.Dead || w.buries && s.Skipped > 0 || !w.buries && s.Dead > 0 {
			w.fault("I1: version %d tells %d messages of [%d, %d) of partition %d: %d rows, %d skipped, %d dead letters",
				version, s.Records, s.First, s.Next, s.Partition, s.Rows, s.Skipped, s.Dead)
		}
	}
}

func (f *file) read() error {
	return eachBatch(f.data, func(rb arrow.RecordBatch) error {
		n := rb.Column(rb.Schema().FieldIndices("n")[0]).(*array.Int64)
		meta := rb.Column(rb.Schema().FieldIndices("_kafka")[0]).(*array.Struct)
		fields := meta.DataType().(*arrow.StructType)
		index := func(name string) int { i, _ := fields.FieldIdx(name); return i }
		partition, offset := meta.Field(index("partition")).(*array.Int32), meta.Field(index("offset")).(*array.Int64)
		var others []int // beside n, text and _kafka
		for i, c := range rb.Schema().Fields() {
			if c.Name != "n" && c.Name != "text" && c.Name != "_kafka" {
				others = append(others, i)
				columnsOf(c.Name, c.Type, f.columns)
			}
		}
		for i := range int(rb.NumRows()) {
			at := place{partition.Value(i), offset.Value(i)}
			if _, twice := f.rows[at]; twice {
				return fmt.Errorf("it has %v twice", at)
			}
			r := row{n: n.Value(i)}
			if len(others) > 0 {
				values := map[string]string{}
				for _, c := range others {
					valuesOf(rb.ColumnName(c), rb.Column(c), i, values)
				}
				r.rest = restOf(values)
			}
			f.rows[at] = r
		}
		return nil
	})
}

// eachBatch visits the rows of a Parquet file.
func eachBatch(data []byte, visit func(arrow.RecordBatch) error) error {
	table, err := readParquet(data)
	if err != nil {
		return err
	}
	defer table.Release()
	reader := array.NewTableReader(table, 0)
	defer reader.Release()
	for reader.Next() {
		if err := visit(reader.RecordBatch()); err != nil {
			return err
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
	rows := map[place]row{}
	for _, name := range sorted(w.ledger.files) {
		for at, r := range w.ledger.files[name].rows {
			if _, twice := rows[at]; twice {
				wrong = append(wrong, fmt.Sprintf("I2: %v is in two rows", at))
			}
			rows[at] = r
		}
	}
	for _, at := range slices.SortedFunc(maps.Keys(w.want), placeOrder) {
		m := w.want[at]
		r, there := rows[at]
		switch {
		case there && m.verdict == bad:
			wrong = append(wrong, fmt.Sprintf("%v must not be a row", at))
		case there && r != row{m.n, m.rest}:
			wrong = append(wrong, fmt.Sprintf("%v has %v, want %v", at, r, row{m.n, m.rest}))
		case there:
		case m.verdict == good && !(ruled(m.n) && w.ledger.ruledWhenTaken(at)), at.offset >= w.ledger.next[at.partition]:
			wrong = append(wrong, fmt.Sprintf("I1: %v is lost", at))
		case w.buries:
			if _, ok := w.letters.found[at]; !ok && !w.letters.lost[at] {
				wrong = append(wrong, fmt.Sprintf("I10: %v is neither a row nor a dead letter", at))
			}
		}
	}
	for _, at := range slices.SortedFunc(maps.Keys(rows), placeOrder) {
		if _, ok := w.want[at]; !ok {
			wrong = append(wrong, fmt.Sprintf("%v must not be a row", at))
		}
	}
	if w.buries {
		wrong = append(wrong, w.letters.wrong()...)
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
