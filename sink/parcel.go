package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"golang.org/x/sync/errgroup"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// parcelFolder holds what is known of data files that wait for another table's word. VACUUM takes files that no version names,
// but passes over folders with an underscore: what was lost can still be named.
const parcelFolder = "_connector/parcels/"

// parcelVersion is the format that is written, and replayedVersion that of rows of a replay, which must not be taken for a stream's.
const (
	parcelVersion   = 1
	replayedVersion = 2
)

// maxParcel bounds what is read of one.
const maxParcel = 64 << 20

// Parcel is data files of one table that lie at their final paths, and that a unit of another table decides about: once that unit
// has landed, with the parcel's id in a Slot, anybody may Deliver them (rules D1 to D3). Never before.
type Parcel struct {
	ID    int64
	table *Table
	unit  *Unit
}

// Rows is the number of rows in it.
func (p *Parcel) Rows() int64 { return p.unit.Rows() }

// Discard gives up a parcel that was never attached to a unit.
func (p *Parcel) Discard(ctx context.Context) {
	p.table.forgetNote(p.ID)
	p.table.Discard(ctx, []*Unit{p.unit})
}

// keepNote keeps the note of a parcel that this process has written, so that its delivery need not read it, nor copy the files. Those that others
// have delivered go with time.
func (t *Table) keepNote(id int64, n *parcelNote) {
	t.rowsMu.Lock()
	defer t.rowsMu.Unlock()
	if t.notes == nil {
		t.notes = map[int64]*parcelNote{}
	}
	maps.DeleteFunc(t.notes, func(_ int64, n *parcelNote) bool { return !t.young(n) })
	t.notes[id] = n
}

// keptNote gives it back; nil for none.
func (t *Table) keptNote(id int64) *parcelNote {
	t.rowsMu.Lock()
	defer t.rowsMu.Unlock()
	if n := t.notes[id]; n != nil && t.young(n) {
		return n
	}
	return nil
}

// young tells of a note that no cleaning of orphans takes the files of yet (rule C8).
func (t *Table) young(n *parcelNote) bool { return age(t.opts.Now(), n.made) < maxUnitAge }

func (t *Table) forgetNote(id int64) {
	t.rowsMu.Lock()
	defer t.rowsMu.Unlock()
	delete(t.notes, id)
}

// parcelNote is the stored form: all that a delivery needs to know.
type parcelNote struct {
	Version int               `json:"v"`
	Table   string            `json:"table"`            // metaData id
	Stream  string            `json:"stream,omitempty"` // whose dead letters they are; none in earlier notes
	Spans   []checkpoint.Span `json:"spans"`            // of the other table's unit, for people
	Adds    []delta.Add       `json:"adds"`
	Rows    *delta.Shape      `json:"rows,omitempty"`  // what the table was whose rows they are, a catalog for those of a stream; none in earlier notes
	Again   json.RawMessage   `json:"again,omitempty"` // what the rows can be made of again, by whoever has made them
	// Routed tells of rows of a stream, instead of dead letters.
	Routed *routedNote `json:"routed,omitempty"`

	made   time.Time // when this process has finished the oldest file; zero for what was read
	layout *Layout   // of Rows
}

// format is the version that the note is written in.
func (n *parcelNote) format() int {
	if n.Routed != nil && n.Routed.Replay {
		return replayedVersion
	}
	return parcelVersion
}

func parcelName(id int64) string { return fmt.Sprintf("%s%016x.json", parcelFolder, id) }

// newParcelID is a random number of 63 bits.
func newParcelID() string { return fmt.Sprintf("%016x", rand.Int64()) }

// NewParcelWriter returns a writer whose files bear the parcel's id in their names.
func (t *Table) NewParcelWriter(layout *Layout) *Writer {
	w := t.NewWriter(layout)
	w.newID, w.unit = newParcelID, newParcelID()
	return w
}

// FinishParcel is Seal, and then Sealed.Parcel.
func (w *Writer) FinishParcel(ctx context.Context, stream string, spans []checkpoint.Span, again json.RawMessage) (*Parcel, error) {
	s, err := w.Seal()
	if err != nil {
		return nil, err
	}
	return s.Parcel(ctx, stream, spans, again)
}

// parcel writes the note of the files.
func (s *Sealed) parcel(ctx context.Context, n *parcelNote) (*Parcel, error) {
	id, err := strconv.ParseInt(s.id, 16, 64)
	if err != nil {
		return nil, &Error{Op: "finishing a parcel", Err: err}
	}
	files, err := s.wait()
	if err != nil {
		return nil, err
	}
	p := &Parcel{ID: id, table: s.table, unit: &Unit{ID: s.id, files: files, layout: s.layout, note: parcelName(id)}}
	n.Version, n.Adds, n.layout, n.Rows = n.format(), p.unit.adds(nil), s.layout, s.layout.shape
	note, err := json.Marshal(n)
	if err != nil {
		return nil, &Error{Op: "finishing a parcel", Err: err}
	}
	if err := s.table.store.Put(ctx, p.unit.note, note); err != nil {
		return nil, orFinal(fmt.Errorf("writing %s: %w", p.unit.note, err))
	}
	if n.made, _ = p.unit.born(); !n.made.IsZero() {
		s.table.keepNote(id, n)
	}
	return p, nil
}

// Attach makes the unit decide about the parcel, which has as many rows as the unit's spans count dead letters, or as a replay has rows.
func (u *Unit) Attach(p *Parcel) error {
	var want int64
	for _, s := range u.Spans {
		want += s.Dead
	}
	if u.app != nil { // a replay: a mark for each row
		want = u.Rows()
	}
	if got := p.Rows(); got != want {
		return &Error{Op: "closing a flush", Err: fmt.Errorf("the parcel holds %d rows, but the unit tells %d dead letters", got, want)}
	}
	u.parcel = p
	return nil
}

// Slot is a txn that lands with a unit, on condition that the table's own is still at From: so nothing is overwritten that was not
// followed by the other table yet (rule D4), and nothing is delivered twice (rule D3).
type Slot struct {
	AppID    string
	From, To int64 // From -1: the table has none
}

// slotMisfit says why a unit may not land with its slots; "" if it may.
func (t *Table) slotMisfit(u *Unit) string {
	if u.parcel != nil && len(u.slots) == 0 {
		return "it has dead letters, and no txn names them"
	}
	if u.manifest != 0 && !slices.ContainsFunc(u.slots, func(s Slot) bool { return s.To == u.manifest }) {
		return "it has rows of other tables, and no txn names them"
	}
	for _, s := range u.slots {
		if at := t.txnVersion(s.AppID); at != s.From {
			return fmt.Sprintf("txn %q was %d, and is %d now", s.AppID, s.From, at)
		}
	}
	return ""
}

func (t *Table) txnVersion(appID string) int64 {
	if txn, ok := t.log.Txn(appID); ok {
		return txn.Version
	}
	return -1
}

// letterSlots reads the log up to its newest version, and tells the txns of a stream that a dead-letter table follows.
func (t *Table) letterSlots(ctx context.Context, stream string) (map[string]int64, error) {
	slots, _, _, err := t.newestTxns(ctx, func(appID string) bool {
		return strings.HasPrefix(appID, checkpoint.DeadLetterPrefix(stream)) || appID == checkpoint.ReplayAppID(stream)
	})
	return slots, err
}

// newestTxns reads the log up to its newest version, and tells the txns that are so, and the generation and the layout of that version.
func (t *Table) newestTxns(ctx context.Context, is func(appID string) bool) (versions map[string]int64, generation int64, layout *Layout, err error) {
	if err := t.lock(ctx); err != nil {
		return nil, 0, nil, err
	}
	defer t.unlock()
	if err := t.advance(ctx, nil); err != nil {
		return nil, 0, nil, err
	}
	versions = map[string]int64{}
	for appID, version := range t.txns() {
		if is(appID) {
			versions[appID] = version
		}
	}
	return versions, t.generation(), t.layout, nil
}

// Generation is the number of the stream's rewinds, as of the newest known version. It does not wait for a commit under way: what was
// taken under an earlier one is fenced, and never lands.
func (t *Table) Generation() int64 { return t.gen.Load() }

// Deliver brings parcels into this table, in one version with the slots that say so. It answers false where a slot is not at its From
// any more: somebody else has been here; and where that version was to be without some of the parcels, or has taken too long, so that there is
// more to be delivered. A parcel whose files are gone is refused (rule D5), as a *checkpoint.RefusedError.
func (t *Table) Deliver(ctx context.Context, parcels []int64, slots []Slot) (bool, error) {
	return t.deliver(ctx, parcels, slots, nil)
}

// deliver is Deliver for a table that is to follow a catalog's schema first, as far as it is configured to; nil for none.
func (t *Table) deliver(ctx context.Context, parcels []int64, slots []Slot, catalog *arrow.Schema) (bool, error) {
	if err := t.lock(ctx); err != nil {
		return false, err
	}
	defer t.unlock()
	if _, expire := t.log.TxnRetention(); expire {
		return false, &Error{
			Op: "delivering " + t.parcelled(), Err: errors.New("delta.setTransactionRetentionDuration is set on a table that follows another one"),
			Hint: fmt.Sprintf("its txns say which %s it has, and must not expire: unset the property", t.parcelled()),
		}
	}
	u := &Unit{ID: newUnitID(), layout: t.layout, app: &AppTxn{}, slots: slots}
	defer t.Discard(ctx, []*Unit{u}) // the copies, where it has not landed
	begun, all := t.opts.Now(), len(parcels)
	only := func(some []int64) {
		parcels = some
		u.slots = slices.DeleteFunc(slices.Clone(slots), func(s Slot) bool { return !slices.Contains(parcels, s.To) })
	}
	if early, err := t.early(ctx, parcels, catalog); err != nil {
		return false, err
	} else if len(early) > 0 {
		only(early)
		catalog = nil
	}
	for i, id := range parcels {
		if i > 0 && age(t.opts.Now(), begun) > maxUnitAge { // copies are made slowly: what there is lands before it is too old (rule C8b)
			only(parcels[:i])
			break
		}
		var note *parcelNote
		err := t.retry(ctx, "reading a parcel", func() (err error) { note, err = t.readParcel(ctx, id, u, catalog); return err })
		if errors.As(err, new(*checkpoint.RefusedError)) {
			return t.deliveredMeanwhile(ctx, u, err)
		} else if err != nil {
			return false, err
		}
		if note.Routed != nil {
			u.routed = append(u.routed, routedRows{*note.Routed, id, note.Adds})
			continue
		}
		u.brought = append(u.brought, note.Adds...)
	}
	if err := t.land(ctx, []*Unit{u}); err != nil {
		return false, err
	}
	switch u.state {
	case Landed:
		for _, id := range parcels {
			t.forgetNote(id)
			t.dropNote(ctx, parcelName(id))
		}
		return len(parcels) == all, nil
	case Dropped:
		if took := age(t.opts.Now(), begun); took > maxDeliveryAge {
			t.opts.Log.Warn("a delivery took longer than what a VACUUM leaves files alone for, and begins again: give the process a faster way to the store",
				"of", t.parcelled(), "parcels", parcels, "files", len(u.copies), "took", took.Round(time.Second))
		}
		return false, nil
	case Pending, Unresolved:
	}
	return false, ctx.Err()
}

// parcelled names what comes to this table in parcels.
func (t *Table) parcelled() string {
	if t.opts.Follows {
		return "rows"
	}
	return "dead letters"
}

// deliveredMeanwhile asks, before a parcel that is not there counts as lost, whether somebody has delivered it since the slots were
// read (rule D5a): what is known of a parcel is deleted behind the version that brings it.
func (t *Table) deliveredMeanwhile(ctx context.Context, u *Unit, lost error) (bool, error) {
	if err := t.advance(ctx, nil); err != nil {
		return false, err
	}
	if t.slotMisfit(u) != "" {
		return false, nil
	}
	return false, lost
}

// early are the parcels that fit the table as it is, and no longer once it has followed the catalog: they were decided about before that got a wider type, say. They come before the
// table follows.
func (t *Table) early(ctx context.Context, parcels []int64, catalog *arrow.Schema) (early []int64, err error) {
	next := t.following(catalog)
	if next == nil {
		return nil, nil
	}
	for _, id := range parcels {
		note := t.keptNote(id)
		if note == nil {
			err := t.retry(ctx, "reading a parcel", func() (err error) { note, err = t.readNote(ctx, id); return err })
			if errors.As(err, new(*checkpoint.RefusedError)) {
				continue // in its turn
			} else if err != nil {
				return nil, err
			}
		}
		if note.layout != nil && note.layout.misfit(t.layout) == "" && note.layout.misfit(next) != "" {
			early = append(early, id)
		}
	}
	return early, nil
}

// following is the layout that the table gets by following a catalog; nil where it does not change, or can't follow, which fit tells.
func (t *Table) following(catalog *arrow.Schema) *Layout {
	if catalog == nil {
		return nil
	}
	next, err := t.layout.Toward(catalog, t.cfg.SchemaEvolution)
	if err != nil || next == t.layout {
		return nil
	}
	return next
}

// readParcel reads what is known of a parcel that a unit is to bring. Unless this process has just written its files, they are copied.
func (t *Table) readParcel(ctx context.Context, id int64, u *Unit, catalog *arrow.Schema) (*parcelNote, error) {
	note := t.keptNote(id)
	if note == nil || note.Table != t.log.Metadata().ID {
		var err error
		if note, err = t.readNote(ctx, id); err != nil {
			return nil, err
		}
	}
	if err := t.fit(note, id, u, catalog); err != nil { // after the note was read, which tells a table that was made anew from one that was altered
		return nil, err
	}
	if note.made.IsZero() {
		if err := t.copyFiles(ctx, note, u); err != nil {
			return nil, err
		}
	}
	u.brings(note.made)
	return note, nil
}

// fit has the table follow the catalog, if any, with a delivery, and refuses a parcel that was written for what the table is no more.
func (t *Table) fit(note *parcelNote, id int64, u *Unit, catalog *arrow.Schema) (err error) {
	if catalog != nil {
		var next *Layout
		if next, err = t.layout.Toward(catalog, t.cfg.SchemaEvolution); err == nil {
			u.layout = next
		}
	}
	if err == nil {
		err = t.log.CheckAdds(note.Adds)
	}
	if err == nil && note.layout != nil {
		if reason := note.layout.misfit(u.layout); reason != "" {
			err = errors.New(reason)
		}
	}
	switch {
	case err == nil:
		return nil
	case note.Routed != nil:
		return unfitRows(note.Routed.Spans, err.Error())
	}
	return &checkpoint.RefusedError{
		Cause:  fmt.Sprintf("the dead-letter table was altered after the files of %s were written, and does not take them any more: %v", parcelName(id), err),
		Remedy: "take back what was altered; or `connector settle --give-up` goes on without these dead letters",
	}
}

// copyFiles has a unit bring copies of a parcel's files. The files may be of any age, so that a cleaning of the table which began before the
// commit may take them after it, whatever was found right before (rule C8).
func (t *Table) copyFiles(ctx context.Context, note *parcelNote, u *Unit) error {
	note.made = t.opts.Now()
	files := make([]string, len(note.Adds))
	for i, a := range note.Adds {
		var err error
		if files[i], err = delta.DecodePath(a.Path); err != nil {
			return &Error{Op: "reading a parcel", Err: fmt.Errorf("its file %q: %w", a.Path, err)}
		}
	}
	var copies errgroup.Group
	copies.SetLimit(putting)
	for i, file := range files {
		a, name := &note.Adds[i], copyName(file)
		u.copies = append(u.copies, name)
		a.Path, a.ModificationTime = delta.EncodePath(name), note.made.UnixMilli()
		copies.Go(func() error {
			from, err := t.store.Get(ctx, file, 0, -1)
			switch {
			case errors.Is(err, fs.ErrNotExist) && note.Routed != nil:
				return lostFile(file, note.Routed.Spans)
			case errors.Is(err, fs.ErrNotExist):
				return goneError(file, note.Spans)
			case err != nil:
				return err
			}
			defer from.Close()
			return t.copyFile(ctx, from, name, a.Size)
		})
	}
	return copies.Wait()
}

// copyName is where a copy of a data file goes: into the same folder, and each to a place of its own.
func copyName(file string) string {
	folder, base := path.Split(file)
	stem, ext, _ := strings.Cut(base, ".")
	return fmt.Sprintf("%s%s-%s.%s", folder, stem, randomText(16), ext)
}

func (t *Table) copyFile(ctx context.Context, from io.Reader, name string, size int64) error {
	to, err := t.store.Create(ctx, name)
	if err != nil {
		return fmt.Errorf("copying to %s: %w", name, err)
	}
	n, err := io.Copy(to, from)
	if err == nil && n != size {
		err = &Error{Op: "copying a file", Err: fmt.Errorf("it has %d bytes, but %d were written", n, size), Hint: "the store has lost a part of it: bring the object back as it was, from a backup"}
	}
	if err == nil {
		err = to.Close()
	}
	if err != nil {
		_ = to.Abort() // the error says more
		return fmt.Errorf("copying to %s: %w", name, err)
	}
	return nil
}

// again tells what the rows of a parcel can be made of again, whose files are gone; nil for nothing.
func (t *Table) again(ctx context.Context, id int64) (json.RawMessage, error) {
	note, err := t.noteOf(ctx, id)
	if errors.As(err, new(*checkpoint.RefusedError)) { // there is no note, or another table
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return note.Again, nil
}

// noteOf reads what is known of a parcel.
func (t *Table) noteOf(ctx context.Context, id int64) (note *parcelNote, err error) {
	if err := t.lock(ctx); err != nil {
		return nil, err
	}
	defer t.unlock()
	err = t.retry(ctx, "reading a parcel", func() (err error) { note, err = t.readNote(ctx, id); return err })
	return note, err
}

func (t *Table) readNote(ctx context.Context, id int64) (*parcelNote, error) {
	name := parcelName(id)
	data, err := t.read(ctx, name, maxParcel)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, t.noteGone(ctx, id)
	} else if err != nil {
		return nil, err
	}
	note := &parcelNote{}
	if err := json.Unmarshal(data, note); err != nil {
		return nil, &Error{Op: "reading " + t.parcelled(), Err: fmt.Errorf("%s: %w", name, err)}
	}
	if note.Version != note.format() {
		return nil, &Error{Op: "reading " + t.parcelled(), Err: fmt.Errorf("%s has format version %d, and this binary knows %d and, of replays, %d", name, note.Version, parcelVersion, replayedVersion), Hint: "use a newer binary"}
	}
	if note.Rows != nil {
		if note.layout, err = LayoutOf(note.Rows, t.opts.Now); err != nil {
			return nil, err
		}
	}
	same, err := t.hadID(ctx, note.Table)
	switch table := t.log.Metadata().ID; {
	case err != nil:
		return nil, err
	case !same && note.Routed != nil:
		return nil, newLostRows(note.Routed.Spans, "it was made anew: %s is of a table with id %s, and this one has id %s", name, note.Table, table)
	case !same:
		return nil, &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("%s is of the table with id %s, and the dead-letter table there has id %s", name, note.Table, table),
			Remedy: "the dead-letter table was made anew: `connector settle --give-up` goes on without what it lacks",
		}
	}
	return note, nil
}

// noteGone says why a note is not there. Where the whole table is gone, that is the reason, which who follows its log would find out within a minute.
func (t *Table) noteGone(ctx context.Context, id int64) error {
	name := parcelName(id)
	snap, err := delta.OpenSnapshot(ctx, t.store, -1)
	switch is := t.log.Metadata().ID; {
	case err != nil:
		return err
	case snap.Metadata().ID != is:
		return &Error{Op: "reading " + t.parcelled(), Err: fmt.Errorf("the table was made anew: its id was %s, and is %s now", is, snap.Metadata().ID), Hint: "start again, which tells what it lacks"}
	case t.opts.Follows && !t.knowsStream():
		return newLostRows(nil, "it has nothing of the stream, nor %s, which would say what it is to get (was it made anew?)", name)
	case t.opts.Follows:
		return newLostRows(nil, "its folder has no %s, which would say what the catalog has decided", name)
	}
	return &checkpoint.RefusedError{
		Cause: fmt.Sprintf("the stream's table names dead letters %016x, but the dead-letter table's folder has no %s", id, name),
		Remedy: "if dead_letters.uri was changed, change it back and start once, so that they get there; if the folder has lost them, " +
			"`connector settle --give-up` goes on without them",
	}
}

// goneError names what a file that is gone has held, and how to read it again (rule D5).
func goneError(file string, spans []checkpoint.Span) error {
	var what, offsets []string
	for _, s := range slices.Backward(spans) {
		if s.Dead > 0 {
			what = append(what, fmt.Sprintf("%d of offsets [%d, %d) of %s", s.Dead, s.First, s.Next, s.Partition))
			offsets = append(offsets, fmt.Sprintf("%d=%d", s.ID, s.First))
		}
	}
	if len(what) == 0 {
		return &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("the file %s of the dead-letter table is gone before it was committed (a VACUUM after a crash?); it held marks of a replay", file),
			Remedy: "`connector settle --give-up` makes them again",
		}
	}
	return &checkpoint.RefusedError{
		Cause: fmt.Sprintf("the file %s of the dead-letter table is gone before it was committed (a VACUUM while no worker ran?); it held dead letters: %s",
			file, strings.Join(what, ", ")),
		Remedy: fmt.Sprintf("`connector settle --give-up` goes on without them; to read them again after that, `connector rewind --to-offsets %s`, in a new generation",
			strings.Join(offsets, ",")),
	}
}

// read reads the beginning of an object, up to a limit.
func (t *Table) read(ctx context.Context, name string, limit int64) ([]byte, error) {
	r, err := t.store.Get(ctx, name, 0, limit)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
