package admin

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"math"
	"slices"
	"sync"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// span is what one unit says of one partition: offsets [first, next), of whose messages rows became rows, skipped and filtered did not and
// dead are in a dead-letter table, routed in other tables; lost were not read, because Kafka had deleted them.
type span struct {
	first, next, rows, skipped, dead, filtered, routed, lost int64
	unit                                                     int32
}

func (s *span) width() int64 { return s.next - s.first }

// messages is the number of them in the span, whatever became of them.
func (s *span) messages() int64 { return s.rows + s.skipped + s.dead + s.filtered + s.routed }

// trackKey names what the spans have to tile: one partition of one stream in one generation.
type trackKey struct {
	name string
	checkpoint.Partition
	gen int64
}

// track is the account of one trackKey.
type track struct {
	trackKey
	spans []span
	pin   int64 // first offset of the pinned start; -1 where no pin is recorded
	pinAt int64 // version of the pin; -1 for none
	txn   int64 // of the table's version, for the newest generation; -2 where there is none
	floor int64 // offsets before it were not asked for
	// From strict on every offset must be in a span that is recorded: their commits are in the log.
	strict int64
	limit  int64 // no offset from here on was taken
	logged int64 // lowest first offset of the spans that commits tell of; MaxInt64 for none
	before int64 // the txn's value + 1 before the connector's first commit, by another program; -1 for none
	closed int64 // where the next generation's rewind has found it; -1 for none
	// unlogged: its commits, and the rewind that ended it, were cleaned from the log; forgotten: no file's tag tells of it either.
	unlogged, forgotten bool

	mu       sync.Mutex
	have     offsets // of rows
	deleted  offsets // of rows that deletion vectors delete
	replayed offsets // of the rows that a replay has made of dead letters, as far as its files are there
	loose    offsets // of rows in files without tags that another track may have as well

	end         int64 // behind the last span
	from        int64
	fromKnown   bool
	since       int64 // from which on offsets must have their rows: the generation was taken back to there by a RESTORE, and an earlier one has the others
	until       int64 // before which they must: later generations have the others
	holes       []hole
	found       int64
	lacking     int64 // rows that others have deleted, or that nothing tells of
	unaccounted int64
	faulty      bool
	doubtful    bool
}

// hole is a range of offsets that no span that is left tells of.
type hole struct{ first, next, absent int64 }

// unit is what is known of one unit.
type unit struct {
	id      string
	name    string // of the stream
	gen     int64
	sum     uint64 // hash of its record, as it is persisted
	version int64  // -1: its commit was cleaned from the log, only tags tell of it
	rows    int64  // by its spans
	logRows int64  // by the statistics of the files in its commit; -1 where some have none
	live    int64  // in the files of the version
	blind   int64  // of them, rows that don't tell their offsets
	file    string // that told of it, where only tags do
	stray   bool   // its commit should be in the log, and is not
	unread  bool   // a file of it could not be read: what it lacks was told with that
	removed []int32
}

// fileAction is what has to be remembered of an add or remove until its commit is known.
type fileAction struct {
	key        uint64 // of the logical file: path and deletion vector
	rows       int64  // of an add; -1 where they are not known
	dataChange bool
	tag        int32 // index into tags; -1 for none
	path       string
}

// ledger collects what the log says, newest first.
type ledger struct {
	store    delta.LogStore
	snap     *delta.Snapshot
	base     *delta.Snapshot // the oldest state, whose commits are not read; nil where all are
	since    bool            // base was asked for, and what came before does not count
	tracks   map[trackKey]*track
	byPlace  map[checkpoint.Partition][]*track
	units    []unit
	unitByID map[string]int32
	streams  map[string]bool
	others   []OtherCommit
	moves    []txnMove
	rewinds  []rewind           // newest first
	restores []restore          // newest first
	replays  map[string]bool    // names of files that a replay of dead letters has brought
	appended map[string]bool    // names of files without a tag that are of a commit which removes none: no moved row can be in them
	moved    bool               // others may be in the version's files
	pending  map[uint64][]int32 // files that a later commit has removed, by which of others
	fresh    []delta.Add        // the version's files that came after base; only with since
	isFresh  map[uint64]bool    // keys of added files that were met already, with since
	faults   findings
	progress func(Progress) // nil for none

	seed          maphash.Seed
	adds, removes []fileAction // of the commit that is being read
	whole         []delta.Add  // the same adds, with since
	tags          []string
	tagAt         map[string]int32
}

func newLedger(store delta.LogStore, progress func(Progress)) *ledger {
	return &ledger{
		store: store, progress: progress, tracks: map[trackKey]*track{}, byPlace: map[checkpoint.Partition][]*track{}, unitByID: map[string]int32{},
		streams: map[string]bool{}, pending: map[uint64][]int32{}, replays: map[string]bool{}, appended: map[string]bool{}, isFresh: map[uint64]bool{}, seed: maphash.MakeSeed(), tagAt: map[string]int32{},
	}
}

// load reads the log of the versions (since, until] and the files' tags. Where the log is cleaned meanwhile, it begins anew from what is left.
func (l *ledger) load(ctx context.Context, since, until int64) error {
	bare := false // of version 0 the log checkpoint alone is left
	for {
		oldest, err := delta.OldestVersion(ctx, l.store)
		if err != nil {
			return err
		}
		if err = l.loadFrom(ctx, oldest, bare, since, until); err == nil || ctx.Err() != nil {
			return err
		}
		now, failed := delta.OldestVersion(ctx, l.store)
		switch {
		case failed == nil && now > oldest:
		case failed == nil && now == 0 && !bare && errors.Is(err, delta.ErrMissingCommit):
			bare = true
		default:
			return err
		}
		*l = *newLedger(l.store, l.progress)
	}
}

// loadFrom reads what is left of a log whose oldest version that opens is given. Bare says of version 0 that its commit is gone.
func (l *ledger) loadFrom(ctx context.Context, oldest int64, bare bool, since, until int64) error {
	var err error
	if l.snap, err = delta.OpenSnapshot(ctx, l.store, until); err != nil {
		return err
	}
	if oldest > l.snap.Version() {
		oldest = l.snap.Version()
	}
	from := int64(0)
	switch {
	case since >= 0 && (since < oldest || since > l.snap.Version()):
		return fmt.Errorf("verifying from version %d: versions %d to %d can be opened", since, oldest, l.snap.Version())
	case since >= 0:
		l.since, from = true, since+1
	case oldest > 0 || bare: // what lies below it may be a put that came late into a cleaned log, which no snapshot shows (rule C7)
		since, from = oldest, oldest
	}
	if since >= 0 {
		if l.base, err = delta.OpenSnapshot(ctx, l.store, since); err != nil {
			return err
		}
	}
	left := l.snap.Version() // to be read
	for e, err := range delta.HistoryOf(ctx, l.store, delta.HistoryOptions{
		From: from, To: l.snap.Version(),
		Add: func(a *delta.Add) {
			l.adds = append(l.adds, l.addOf(a))
			if l.since {
				l.whole = append(l.whole, *a)
			}
		},
		Remove: func(r *delta.Remove) {
			l.removes = append(l.removes, fileAction{key: l.key(r.Path, r.DeletionVector), dataChange: r.DataChange})
		},
	}) {
		if errors.Is(err, delta.ErrMissingCommit) && left == since {
			break // of the oldest state there is the log checkpoint alone
		} else if err != nil {
			return err
		}
		left = e.Version - 1
		l.commit(e)
		l.forget()
		if l.progress != nil {
			l.progress(Progress{Doing: "log", Done: l.snap.Version() - left, Total: l.snap.Version() - from + 1})
		}
	}
	if l.base != nil && len(l.pending) > 0 {
		for a, err := range l.base.Files(ctx) {
			if err != nil {
				return err
			}
			l.liveBefore(&a)
		}
	}
	for a, err := range l.live(ctx) {
		if err != nil {
			return err
		}
		if tag, ok := a.Tags[checkpoint.TagKey]; ok {
			l.tagged(a.Path, tag)
		} else {
			l.moved = l.moved || !l.appended[nameOf(a.Path)]
		}
	}
	l.settle()
	return nil
}

// live gives the version's files, with since those that came after base: their number is not that of the table's files.
func (l *ledger) live(ctx context.Context) iter.Seq2[delta.Add, error] {
	if !l.since {
		return l.snap.Files(ctx)
	}
	return func(yield func(delta.Add, error) bool) {
		for _, a := range l.fresh {
			if !yield(a, nil) {
				return
			}
		}
	}
}

// forget makes room for the next commit.
func (l *ledger) forget() {
	l.adds, l.removes, l.tags, l.whole = l.adds[:0], l.removes[:0], l.tags[:0], l.whole[:0]
	clear(l.tagAt)
}

func cardinality(dv *delta.DeletionVector) int64 {
	if dv == nil {
		return 0
	}
	return dv.Cardinality
}

// key tells logical files apart.
func (l *ledger) key(path string, dv *delta.DeletionVector) uint64 {
	if dv != nil {
		path += "\x00" + dv.StorageType + dv.PathOrInlineDv
		if dv.Offset != nil {
			path += fmt.Sprintf("@%d", *dv.Offset)
		}
	}
	return maphash.String(l.seed, path)
}

func (l *ledger) addOf(a *delta.Add) fileAction {
	f := fileAction{key: l.key(a.Path, a.DeletionVector), rows: -1, dataChange: a.DataChange, tag: -1, path: a.Path}
	if n, ok := a.NumRecords(); ok {
		f.rows = n - cardinality(a.DeletionVector)
	}
	if text, ok := a.Tags[checkpoint.TagKey]; ok {
		at, known := l.tagAt[text]
		if !known {
			at = int32(len(l.tags))
			l.tagAt[text] = at
			l.tags = append(l.tags, text)
		}
		f.tag = at
	}
	return f
}

// recordOf reads what a version says of its units: nothing where another program made it.
func recordOf(e *delta.HistoryEntry) (record checkpoint.CommitRecord, err error) {
	if e.Info == nil {
		return record, nil
	}
	if value, ok := e.Info.Fields[checkpoint.CommitInfoKey]; ok {
		if record, err = checkpoint.DecodeCommit(value); err != nil {
			return record, fmt.Errorf("version %d: %w", e.Version, err)
		}
	}
	return record, nil
}

// commit takes one version.
func (l *ledger) commit(e delta.HistoryEntry) {
	record, err := recordOf(&e)
	if err != nil {
		l.faults.add(Finding{Kind: BrokenRecord, Version: &e.Version, Text: err.Error()})
		return
	}
	replays := slices.ContainsFunc(e.Txns, func(txn delta.Txn) bool { return checkpoint.BringsReplay(txn.AppID) })
	ours := len(record.Units) > 0
	for _, u := range record.Units {
		l.register(u, e.Version, "")
	}
	if ours {
		l.checkAdds(e.Version, record, replays)
	}
	l.checkTxns(e, record, ours)
	restores := e.Info != nil && replaces(e.Info.Operation)
	if restores {
		l.restores = append(l.restores, restore{e.Version, number(e.Info.OperationParameters["version"])})
	}
	other := int32(-1)
	if len(l.removes) > 0 {
		other = int32(len(l.others))
		o := OtherCommit{Version: e.Version, Time: e.Time.UTC(), RowsKnown: true, to: -1}
		if e.Info != nil {
			o.Operation, o.Engine = e.Info.Operation, e.Info.EngineInfo
			o.to = number(e.Info.OperationParameters["version"])
		}
		l.others = append(l.others, o)
	}
	for i, a := range l.adds {
		u := int32(-1)
		if a.tag >= 0 {
			u = l.unitOf(l.tags[a.tag], a.path)
		} else {
			if replays {
				l.replays[nameOf(a.path)] = true
			}
			if other < 0 && !restores { // a RESTORE brings what was there before
				l.appended[nameOf(a.path)] = true
			}
		}
		if other >= 0 {
			l.others[other].RowsAdded += max(a.rows, 0)
			l.others[other].RowsKnown = l.others[other].RowsKnown && a.rows >= 0
		}
		if l.since && !l.isFresh[a.key] {
			l.isFresh[a.key] = true
			if len(l.pending[a.key]) == 0 {
				l.fresh = append(l.fresh, l.whole[i])
			}
		}
		l.resolve(a.key, a.rows, u)
	}
	for _, r := range l.removes {
		l.others[other].ChangesData = l.others[other].ChangesData || r.dataChange
		l.pending[r.key] = append(l.pending[r.key], other)
	}
}

// resolve tells those who removed a file later what was in it.
func (l *ledger) resolve(key uint64, rows int64, u int32) {
	for _, other := range l.pending[key] {
		o := &l.others[other]
		o.RowsRemoved += max(rows, 0) // of an add, those that its deletion vector leaves
		o.RowsKnown = o.RowsKnown && rows >= 0
		if u < 0 {
			o.others = true
		} else if removed := &l.units[u].removed; !slices.Contains(*removed, other) {
			*removed = append(*removed, other)
		}
	}
	delete(l.pending, key)
}

// register takes the record of a unit. Version is that of its commit; -1 where a tag tells of it.
func (l *ledger) register(u checkpoint.UnitRecord, version int64, file string) int32 {
	text, err := u.Encode()
	if err != nil { // what was decoded can be encoded
		panic(err)
	}
	at := int32(len(l.units))
	n := unit{id: u.Unit, name: u.Name, gen: u.Generation, sum: maphash.String(l.seed, text), version: version, file: file, stray: version < 0 && (l.base == nil || l.reaches(u))}
	if known, ok := l.unitByID[u.Unit]; ok && (version < 0 || l.units[known].version < 0) {
		if version >= 0 { // a later version has brought one of its files again, with the tag
			l.units[known].version, l.units[known].stray = version, false
			if l.units[known].sum != n.sum {
				l.lying("", known)
			}
			for _, s := range u.Spans {
				t := l.track(trackKey{u.Name, s.Partition, u.Generation})
				t.logged = min(t.logged, s.First)
			}
		}
		return known
	}
	l.unitByID[u.Unit] = at
	l.streams[u.Name] = true
	for _, s := range u.Spans {
		n.rows += s.Rows
		t := l.track(trackKey{u.Name, s.Partition, u.Generation})
		switch {
		case u.Pin && u.Rewind != nil && u.Rewind.Catalog && t.pin >= 0: // the newest says where it has begun after all
		case u.Pin:
			t.pin, t.pinAt = s.First, version
		case !s.Empty():
			t.spans = append(t.spans, span{s.First, s.Next, s.Rows, s.Skipped, s.Dead, s.Filtered, s.Routed, s.Lost, at})
		}
		if version >= 0 {
			t.logged = min(t.logged, s.First)
		}
	}
	l.units = append(l.units, n)
	if u.Rewind != nil {
		l.rewinds = append(l.rewinds, rewind{u, version})
	}
	return at
}

func (l *ledger) track(k trackKey) *track {
	t := l.tracks[k]
	if t == nil {
		t = &track{trackKey: k, pin: -1, pinAt: -1, txn: -2, before: -1, closed: -1, logged: math.MaxInt64, until: math.MaxInt64}
		l.tracks[k] = t
		l.byPlace[k.Partition] = append(l.byPlace[k.Partition], t)
	}
	return t
}

// unitOf finds the unit that a tag names; -1 where there is none or the tag can't be read.
func (l *ledger) unitOf(tag, path string) int32 {
	u, err := checkpoint.DecodeUnit(tag)
	if err != nil {
		return -1
	}
	if at, ok := l.unitByID[u.Unit]; ok {
		return at
	}
	return l.register(u, -1, nameOf(path))
}

// checkAdds compares the files of a commit of the connector with its units. Beside them may be files of a replay, which have no tags.
func (l *ledger) checkAdds(version int64, record checkpoint.CommitRecord, replays bool) {
	rows := map[string]int64{}
	for _, a := range l.adds {
		if a.tag < 0 && replays {
			continue
		}
		id := ""
		if a.tag >= 0 {
			u, err := checkpoint.DecodeUnit(l.tags[a.tag])
			if err != nil {
				l.faults.add(Finding{Kind: BrokenRecord, Version: &version, File: nameOf(a.path), Text: fmt.Sprintf("version %d, %s: %v", version, nameOf(a.path), err)})
				continue
			}
			id = u.Unit
		}
		if !slices.ContainsFunc(record.Units, func(u checkpoint.UnitRecord) bool { return u.Unit == id }) {
			l.faults.add(Finding{Kind: LyingTag, Version: &version, File: nameOf(a.path), Text: fmt.Sprintf(
				"%s: its tag names unit %q, but version %d, which brought it, has no such unit", nameOf(a.path), id, version)})
			continue
		}
		if l.sum(l.tags[a.tag]) != l.units[l.unitByID[id]].sum {
			l.lying(a.path, l.unitByID[id])
		}
		if sum, known := rows[id]; a.rows < 0 || known && sum < 0 {
			rows[id] = -1
		} else {
			rows[id] = sum + a.rows
		}
	}
	for _, u := range record.Units {
		n := &l.units[l.unitByID[u.Unit]]
		if n.logRows = rows[u.Unit]; n.logRows >= 0 && n.logRows != n.rows {
			l.faults.add(Finding{Kind: RowCount, Stream: u.Name, Version: &version, Text: fmt.Sprintf(
				"version %d: the files of unit %s have %d rows by their statistics, but its spans count %d", version, u.Unit, n.logRows, n.rows)})
		}
	}
}

func (l *ledger) sum(text string) uint64 {
	if u, err := checkpoint.DecodeUnit(text); err == nil {
		text, _ = u.Encode()
	}
	return maphash.String(l.seed, text)
}

func (l *ledger) lying(path string, u int32) {
	told := "other files of the unit"
	if v := l.units[u].version; v >= 0 {
		told = fmt.Sprintf("version %d", v)
	}
	l.faults.add(Finding{Kind: LyingTag, File: nameOf(path), Text: fmt.Sprintf(
		"%s: its tag and %s disagree on the spans of unit %s", nameOf(path), told, l.units[u].id)})
}

// liveBefore takes a file of the oldest state, for those who have removed it since.
func (l *ledger) liveBefore(a *delta.Add) {
	f := l.addOf(a)
	l.forget()
	u := int32(-1)
	if tag, ok := a.Tags[checkpoint.TagKey]; ok && !l.since {
		u = l.tagged(a.Path, tag)
	}
	l.resolve(f.key, f.rows, u)
}

// tagged takes the tag of a file.
func (l *ledger) tagged(path, tag string) int32 {
	u, err := checkpoint.DecodeUnit(tag)
	if err != nil {
		l.faults.add(Finding{Kind: BrokenRecord, File: nameOf(path), Text: fmt.Sprintf("%s: %v", nameOf(path), err)})
		return -1
	}
	at, known := l.unitByID[u.Unit]
	switch {
	case known && l.sum(tag) != l.units[at].sum:
		l.lying(path, at)
	case known:
	case l.since && !l.reaches(u): // an older one, which was not asked for
		return -1
	default:
		at = l.register(u, -1, nameOf(path))
	}
	return at
}

// reaches reports whether a unit has offsets that the oldest state had not taken.
func (l *ledger) reaches(u checkpoint.UnitRecord) bool {
	gen := l.baseGeneration(u.Name) // what later ones take is in the log
	return slices.ContainsFunc(u.Spans, func(s checkpoint.Span) bool {
		txn, ok := l.base.Txn(checkpoint.AppID(u.Name, s.ID))
		return u.Generation > gen || u.Generation == gen && (!ok || s.Next > txn.Version+1)
	})
}

// nameOf is the object of a path in the log, or the path where it names none.
func nameOf(path string) string {
	if name, err := delta.DecodePath(path); err == nil {
		return name
	}
	return path
}

var errOtherStore = errors.New("it is outside of the table's folder")
