package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

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
	seen       map[taken]string   // rows that a connector has brought, by the unit that did
	units      map[string]int64   // versions by unit
	next       map[int32]int64    // by partition: where its spans end
	furthest   map[string]int64   // by app id, what its txn ever was
	generation map[string]int64   // by stream
	landed     map[int32][]spanAt // in order
	ruledAt    int64              // version that brought the rule; -1
	freeAt     int64              // version that took it away; -1
	replayed   map[place]int64    // versions by dead letter that has become a row
	updated    map[string]int64   // when txns were written, by app id
	carried    int
	begins     []map[int32]int64 // by generation, where partitions begin
	asked      map[int32]int64   // by partition, where the operator who rewinds wants to go on
	past       []*past           // by version, where there may be a RESTORE
	restored   *restoration      // the newest; nil for none
	retired    retirement
}

// place is where a message is in its topic.
type place struct {
	partition int32
	offset    int64
}

type file struct {
	rows    map[place]row
	columns map[string]string // types by path, of those that are in no table from the beginning
	tags    map[string]string
	data    []byte
	action  json.RawMessage // that has added it

	generation int64
	ids        rowIDs
}

// row is what a message has become.
type row struct {
	n    int64
	rest string // values of other columns, as restOf has them
}

type spanAt struct {
	first, next, version, generation, dead, skipped, filtered, routed int64
}

func (w *world) newLedger() *ledger {
	l := &ledger{
		shelf: newShelf(w, ""), seen: map[taken]string{}, begins: []map[int32]int64{{}}, units: map[string]int64{}, next: map[int32]int64{},
		landed: map[int32][]spanAt{}, ruledAt: -1, freeAt: -1, replayed: map[place]int64{},
		updated: map[string]int64{}, furthest: map[string]int64{}, generation: map[string]int64{},
	}
	l.read = w.read
	return l
}

// line is one action of a version.
type line struct {
	CommitInfo *struct {
		Operation  string `json:"operation"`
		Parameters struct {
			Version string `json:"version"`
		} `json:"operationParameters"`
		InCommitTimestamp int64           `json:"inCommitTimestamp"`
		Record            json.RawMessage `json:"kafkadelta"`
	} `json:"commitInfo"`
	Txn *struct {
		AppID       string `json:"appId"`
		Version     int64  `json:"version"`
		LastUpdated int64  `json:"lastUpdated"`
	} `json:"txn"`
	Add    *addAction             `json:"add"`
	Remove *struct{ Path string } `json:"remove"`
	Domain *struct {
		Domain        string `json:"domain"`
		Configuration string `json:"configuration"`
	} `json:"domainMetadata"`
	MetaData json.RawMessage `json:"metaData"`
	Protocol json.RawMessage `json:"protocol"`
}

type addAction struct {
	Path          string            `json:"path"`
	Size          int64             `json:"size"`
	DataChange    bool              `json:"dataChange"`
	Tags          map[string]string `json:"tags"`
	BaseRowID     *int64            `json:"baseRowId"`
	CommitVersion *int64            `json:"defaultRowCommitVersion"`

	text json.RawMessage
}

func (a *addAction) UnmarshalJSON(data []byte) error {
	type plain addAction // without this method
	a.text = bytes.Clone(data)
	return json.Unmarshal(data, (*plain)(a))
}

// record is what commitInfo says of units.
type record struct {
	Carried int          `json:"carried"`
	Units   []unitRecord `json:"units"`
}

type unitRecord struct {
	Unit       string    `json:"unit"`
	Name       string    `json:"name"`
	Pin        bool      `json:"pin"`
	Generation int64     `json:"gen"`
	Rewind     *struct{} `json:"rewind"`
	Spans      []struct {
		Topic     string `json:"topic"`
		Partition int32  `json:"partition"`
		First     int64  `json:"first"`
		Next      int64  `json:"next"`
		Records   int64  `json:"records"`
		Rows      int64  `json:"rows"`
		Skipped   int64  `json:"skipped"`
		Dead      int64  `json:"dead"`
		Filtered  int64  `json:"filtered"`
		Routed    int64  `json:"routed"`
	} `json:"spans"`
}

// read takes a version over. The caller holds the lock.
func (w *world) read(version int64, data []byte) {
	l := w.ledger
	actions := l.actions(version, data)
	defer w.remember()
	if to, ok := restoreOf(actions); ok {
		w.readRestore(version, to, actions)
		return
	}
	own := map[place]string{} // rows that this version brings
	moved, adds, removed := map[place]int{}, map[string]*file{}, []*file(nil)
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
			removed = append(removed, f)
			delete(l.files, a.Remove.Path)
		case a.MetaData != nil:
			w.readMetaData(version, a.MetaData)
		case a.Protocol != nil:
			l.protocol = a.Protocol
		}
	}
	for _, a := range actions {
		if a.Add == nil {
			continue
		}
		f := l.openRows(version, a.Add.Path, a.Add.Size)
		f.tags, f.action = a.Add.Tags, a.Add.text
		if _, twice := l.files[a.Add.Path]; twice {
			w.fault("version %d adds %s again", version, a.Add.Path)
		}
		l.files[a.Add.Path], adds[a.Add.Path] = f, f
		if a.Add.DataChange {
			l.takeTypes(version, a.Add.Path, f)
		}
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
	l.takeRowIDs(version, actions)
	w.readGenerations(removed, adds)
	w.readUnits(version, actions, own)
}

func (w *world) readMetaData(version int64, data json.RawMessage) {
	before := w.ledger.metaData
	if more := w.ledger.takeMetaData(version, data); w.evolves {
		w.count.Evolved += more
	}
	ruled := bytes.Contains(data, []byte(ruleKey))
	if before != nil && ruled && w.ledger.ruledAt < 0 {
		w.ledger.ruledAt = version
	}
	if !ruled && w.ledger.ruledAt >= 0 && w.ledger.freeAt < 0 {
		w.ledger.freeAt = version
	}
}

// readUnits takes over what a version says of units and txns, and what rows it has brought.
func (w *world) readUnits(version int64, actions []line, own map[place]string) {
	l := w.ledger
	txns, ends, names := l.takeTxns(version, actions), map[string]int64{}, map[string]bool{}
	for _, a := range actions {
		if a.Txn != nil {
			l.updated[a.Txn.AppID] = a.Txn.LastUpdated
			if before, ok := l.furthest[a.Txn.AppID]; !ok || before < a.Txn.Version {
				l.furthest[a.Txn.AppID] = a.Txn.Version
			}
		}
		if a.CommitInfo == nil {
			continue
		}
		l.takeStamp(version, a.CommitInfo.InCommitTimestamp)
		if a.CommitInfo.Record == nil {
			continue
		}
		var r record
		if err := json.Unmarshal(a.CommitInfo.Record, &r); err != nil {
			w.fault("version %d: units can't be read: %v", version, err)
		}
		l.carried += r.Carried
		for _, u := range r.Units {
			if u.Name != r.Units[0].Name && r.Units[0].Name == streamName {
				w.count.CarriedBeside++
			}
			w.readUnit(version, u, own, ends)
			names[u.Name] = u.Rewind == nil // which an operator writes
		}
	}
	w.readMarks(version, names)
	l.readEnd(version, actions)
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

// readMarks looks whether what belongs to the streams of a version as a whole was written so that it never expires.
func (w *world) readMarks(version int64, names map[string]bool) {
	for _, app := range sorted(w.ledger.updated) {
		name, mark, marked := strings.Cut(app, "#")
		if !marked || !names[name] || mark == "last" || strings.HasPrefix(mark, "leader/") {
			continue
		}
		if at := time.UnixMilli(w.ledger.updated[app]); at.UTC().Year() != 9999 {
			w.fault("A4b: version %d has units of %s, and its txn %s is of %v and expires", version, name, app, at)
		}
	}
}

// readReplayed takes over a row that a replay has brought.
func (w *world) readReplayed(version int64, at place) {
	l := w.ledger
	if before, twice := l.brought(at); twice {
		w.fault("I2: version %d has replayed %v, which %s has brought", version, at, before)
	}
	if _, ok := w.letters.found[at]; !ok {
		w.fault("D6: version %d has replayed %v, which is no dead letter", version, at)
	}
	l.seen[taken{at, l.generationOf(at)}], l.replayed[at] = fmt.Sprintf("the replay of version %d", version), version
}

// readUnit takes over one unit, and strikes its rows from those that the version has brought.
func (w *world) readUnit(version int64, u unitRecord, own map[place]string, ends map[string]int64) {
	l := w.ledger
	if before, twice := l.units[u.Unit]; twice {
		w.fault("I2: unit %s is in the versions %d and %d", u.Unit, before, version)
	}
	l.units[u.Unit] = version
	if u.Name == streamName {
		switch {
		case u.Rewind != nil:
			l.retired.ended, l.retired.rewound = false, time.Now()
		case l.retired.ended:
			w.fault("I13: version %d has unit %s, and stream %s was ended by version %d", version, u.Unit, u.Name, l.retired.version)
		}
	}
	if u.Rewind != nil {
		l.generation[u.Name] = u.Generation
		l.restored.rewind(u.Name, version)
	} else if l.restored.isLost(u.Name) {
		w.fault("I8: version %d has unit %s, and the rows of stream %s were rolled back by version %d", version, u.Unit, u.Name, l.restored.version)
	} else if now := l.generation[u.Name]; u.Generation != now {
		w.fault("I6: version %d has unit %s of generation %d, and generation %d is running", version, u.Unit, u.Generation, now)
	}
	for _, s := range u.Spans {
		s.Partition = partitionOf(s.Topic, s.Partition)
		at, known := l.next[s.Partition]
		switch {
		case u.Rewind != nil:
			if want, asked := l.asked[s.Partition]; asked && s.First != want || !asked && s.First != at {
				w.fault("A5: version %d rewinds partition %d to %d, and the table stands at %d, asked for is %d (%v)", version, s.Partition, s.First, at, want, asked)
			}
			l.begin(u.Generation, s.Partition, s.First)
		case !known && !u.Pin:
			w.fault("A1: version %d has rows of partition %d, which was never pinned", version, s.Partition)
		case known && s.First > at:
			w.fault("I1: version %d has [%d, %d) of partition %d, where the table stands at %d", version, s.First, s.Next, s.Partition, at)
		case known && s.First < at:
			w.fault("I2: version %d has [%d, %d) of partition %d, where the table stands at %d", version, s.First, s.Next, s.Partition, at)
		}
		l.next[s.Partition] = s.Next
		ends[appOf(s.Partition)] = s.Next - 1
		w.moved(appOf(s.Partition), s.Next-1)
		l.landed[s.Partition] = append(l.landed[s.Partition], spanAt{s.First, s.Next, version, u.Generation, s.Dead, s.Skipped, s.Filtered, s.Routed})
		rows := int64(0)
		for at := range own {
			if at.partition != s.Partition || at.offset < s.First || at.offset >= s.Next {
				continue
			}
			if before, twice := l.seen[taken{at, u.Generation}]; twice {
				w.fault("I2: version %d has %v, which unit %s has brought", version, at, before)
			}
			if of := l.files[own[at]].generation; of != u.Generation {
				w.fault("I6: version %d has %v in %s of generation %d, in a unit of generation %d", version, at, own[at], of, u.Generation)
			}
			if w.buries {
				if before, dead := w.letters.found[at]; dead {
					w.fault("I11: version %d has %v, which is a dead letter since version %d of their table", version, at, before)
				}
			}
			l.seen[taken{at, u.Generation}] = u.Unit
			delete(own, at)
			rows++
		}
		if rows != s.Rows {
			w.fault("I1: version %d has %d rows of [%d, %d) of partition %d, and tells %d", version, rows, s.First, s.Next, s.Partition, s.Rows)
		}
		if isDivided := w.divided != nil; s.Records != s.Rows+s.Skipped+s.Dead+s.Filtered+s.Routed || isDivided && s.Rows > 0 || !isDivided && s.Routed > 0 || s.Filtered > 0 && !w.filters || w.buries && s.Skipped > 0 || !w.buries && s.Dead > 0 {
			w.fault("I1: version %d tells %d messages of [%d, %d) of partition %d: %d rows, %d of other tables, %d skipped, %d dead letters, %d filtered",
				version, s.Records, s.First, s.Next, s.Partition, s.Rows, s.Routed, s.Skipped, s.Dead, s.Filtered)
		}
	}
}

func (f *file) read() error {
	return eachBatch(f.data, func(rb arrow.RecordBatch) error {
		n := rb.Column(rb.Schema().FieldIndices("n")[0]).(*array.Int64)
		meta := rb.Column(rb.Schema().FieldIndices("_kafka")[0]).(*array.Struct)
		fields := meta.DataType().(*arrow.StructType)
		index := func(name string) int { i, _ := fields.FieldIdx(name); return i }
		topic := meta.Field(index("topic"))
		partition, offset := meta.Field(index("partition")).(*array.Int32), meta.Field(index("offset")).(*array.Int64)
		var others []int // beside n, text and _kafka
		for i, c := range rb.Schema().Fields() {
			if c.Name != "n" && c.Name != "text" && c.Name != "_kafka" {
				others = append(others, i)
				columnsOf(c.Name, c.Type, f.columns)
			}
		}
		for i := range int(rb.NumRows()) {
			at := place{partitionOf(topic.ValueStr(i), partition.Value(i)), offset.Value(i)}
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
	if w.divided != nil {
		return w.divided.wrong()
	}
	var wrong []string
	rows := map[taken]row{}
	for _, name := range sorted(w.ledger.files) {
		f := w.ledger.files[name]
		for at, r := range f.rows {
			if _, twice := rows[taken{at, f.generation}]; twice {
				wrong = append(wrong, fmt.Sprintf("I2: %v is in two rows of generation %d", at, f.generation))
			}
			rows[taken{at, f.generation}] = r
		}
	}
	for _, at := range slices.SortedFunc(maps.Keys(w.want), placeOrder) {
		m := w.want[at]
		r, there := rows[taken{at, w.ledger.generationOf(at)}]
		switch {
		case there && (m.verdict == bad || m.verdict == left):
			wrong = append(wrong, fmt.Sprintf("%v must not be a row", at))
		case there && r != row{m.n, m.rest}:
			wrong = append(wrong, fmt.Sprintf("%v has %v, want %v", at, r, row{m.n, m.rest}))
		case there:
		case m.verdict == good && !(ruled(m.n) && w.ledger.ruledWhenTaken(at)), at.offset >= w.ledger.next[at.partition]:
			wrong = append(wrong, fmt.Sprintf("I1: %v is lost", at))
		case m.verdict == left:
			if w.buries && w.letters.found[at] > 0 {
				wrong = append(wrong, fmt.Sprintf("I11: %v is a dead letter, which the filter leaves out", at))
			}
		case w.buries:
			if _, ok := w.letters.found[at]; !ok && !w.letters.lost[at] {
				wrong = append(wrong, fmt.Sprintf("I10: %v is neither a row nor a dead letter", at))
			}
		}
	}
	for _, at := range slices.SortedFunc(maps.Keys(rows), takenOrder) {
		m, ok := w.want[at.place]
		if now := w.ledger.generationOf(at.place); !ok || at.generation > now {
			wrong = append(wrong, fmt.Sprintf("%v must not be a row, of generation %d, while it counts in %d", at.place, at.generation, now))
		} else if at.generation < now && (rows[at] != row{m.n, m.rest} || m.verdict == bad || m.verdict == left) {
			wrong = append(wrong, fmt.Sprintf("%v of generation %d has %v, want %v", at.place, at.generation, rows[at], row{m.n, m.rest}))
		}
	}
	if w.buries {
		wrong = append(wrong, w.letters.wrong()...)
	}
	return append(wrong, w.wronglyFiltered()...)
}

// wronglyFiltered tells which spans don't count the messages that the filter leaves out, once all are taken. The caller holds the lock.
func (w *world) wronglyFiltered() []string {
	leftOut := map[int32][]int64{}
	for at, m := range w.want {
		if m.verdict == left {
			leftOut[at.partition] = append(leftOut[at.partition], at.offset)
		}
	}
	var wrong []string
	for _, p := range sorted(w.ledger.landed) {
		for _, s := range w.ledger.landed[p] {
			n := int64(0)
			for _, offset := range leftOut[p] {
				if s.first <= offset && offset < s.next {
					n++
				}
			}
			if n != s.filtered {
				wrong = append(wrong, fmt.Sprintf("I1: [%d, %d) of partition %d counts %d filtered messages, and %d are to be left out", s.first, s.next, p, s.filtered, n))
			}
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
