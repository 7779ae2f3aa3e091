package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"kafkadelta/checkpoint"
	"kafkadelta/delta"
)

// parcelFolder holds what is known of data files that wait for another table's word. VACUUM takes files that no version names,
// but passes over folders with an underscore: what was lost can still be named.
const parcelFolder = "_connector/parcels/"

// parcelVersion is the format that is written.
const parcelVersion = 1

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
func (p *Parcel) Discard(ctx context.Context) { p.table.Discard(ctx, []*Unit{p.unit}) }

// parcelNote is the stored form: all that a delivery needs to know.
type parcelNote struct {
	Version int               `json:"v"`
	Table   string            `json:"table"` // metaData id
	Spans   []checkpoint.Span `json:"spans"` // of the other table's unit, for people
	Adds    []delta.Add       `json:"adds"`
	Again   json.RawMessage   `json:"again,omitempty"` // what the rows can be made of again, by whoever has made them
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

// FinishParcel closes all files and writes down what they are. Spans are those of the other table's unit; it is named by them if
// the files get lost. Again, which may be nil, is what GiveUp hands back then, to make the rows again. After an error the Writer is only
// good for Abort; an *Error is final.
func (w *Writer) FinishParcel(ctx context.Context, spans []checkpoint.Span, again json.RawMessage) (*Parcel, error) {
	if err := w.finishAll(); err != nil {
		return nil, err
	}
	id, err := strconv.ParseInt(w.unit, 16, 64)
	if err != nil {
		return nil, &Error{Op: "finishing a parcel", Err: err}
	}
	p := &Parcel{ID: id, table: w.table, unit: &Unit{ID: w.unit, files: w.done, layout: w.layout, note: parcelName(id)}}
	note, err := json.Marshal(parcelNote{Version: parcelVersion, Table: w.layout.table, Spans: spans, Adds: p.unit.adds(nil), Again: again})
	if err != nil {
		return nil, &Error{Op: "finishing a parcel", Err: err}
	}
	if err := w.table.store.Put(ctx, p.unit.note, note); err != nil {
		return nil, orFinal(fmt.Errorf("writing %s: %w", p.unit.note, err))
	}
	w.reset()
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

// followed reads the log up to its newest version, and tells the txns of a stream that a dead-letter table follows.
func (t *Table) followed(ctx context.Context, stream string) (map[string]int64, error) {
	if err := t.lock(ctx); err != nil {
		return nil, err
	}
	defer t.unlock()
	if err := t.advance(ctx, nil); err != nil {
		return nil, err
	}
	versions := map[string]int64{}
	for appID, version := range t.txns() {
		if strings.HasPrefix(appID, checkpoint.DeadLetterPrefix(stream)) || appID == checkpoint.ReplayAppID(stream) {
			versions[appID] = version
		}
	}
	return versions, nil
}

// Generation is the number of the stream's rewinds, as of the newest known version. It does not wait for a commit under way: what was
// taken under an earlier one is fenced, and never lands.
func (t *Table) Generation() int64 { return t.gen.Load() }

// Deliver brings parcels into this table, in one version with the slots that say so. It answers false where a slot is not at its From
// any more: somebody else has been here. A parcel whose files are gone is refused (rule D5), as a *checkpoint.RefusedError.
func (t *Table) Deliver(ctx context.Context, parcels []int64, slots []Slot) (bool, error) {
	if err := t.lock(ctx); err != nil {
		return false, err
	}
	defer t.unlock()
	if _, expire := t.log.TxnRetention(); expire {
		return false, &Error{
			Op: "delivering dead letters", Err: errors.New("delta.setTransactionRetentionDuration is set on the dead-letter table"),
			Hint: "its txns say which dead letters it has, and must not expire: unset the property",
		}
	}
	u := &Unit{ID: newUnitID(), layout: t.layout, app: &AppTxn{}, slots: slots}
	for _, id := range parcels {
		var note *parcelNote
		err := t.retry(ctx, "reading dead letters", func() (err error) { note, err = t.readParcel(ctx, id); return err })
		if errors.As(err, new(*checkpoint.RefusedError)) {
			return t.deliveredMeanwhile(ctx, u, err)
		} else if err != nil {
			return false, err
		}
		u.brought = append(u.brought, note.Adds...)
	}
	if err := t.land(ctx, []*Unit{u}); err != nil {
		return false, err
	}
	switch u.state {
	case Landed:
		for _, id := range parcels {
			t.dropNote(ctx, parcelName(id))
		}
		return true, nil
	case Dropped:
		return false, nil
	case Pending, Unresolved:
	}
	return false, ctx.Err()
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

// readParcel reads what is known of a parcel, and looks whether its files are there.
func (t *Table) readParcel(ctx context.Context, id int64) (*parcelNote, error) {
	note, err := t.readNote(ctx, id)
	if err != nil {
		return nil, err
	}
	name := parcelName(id)
	for _, a := range note.Adds {
		file, err := delta.DecodePath(a.Path)
		if err != nil {
			return nil, &Error{Op: "reading dead letters", Err: fmt.Errorf("%s: %w", name, err)}
		}
		if _, err := t.read(ctx, file, 4); errors.Is(err, fs.ErrNotExist) {
			return nil, goneError(file, note.Spans)
		} else if err != nil {
			return nil, err
		}
	}
	if err := t.log.CheckAdds(note.Adds); err != nil {
		return nil, &Error{Op: "delivering dead letters", Err: fmt.Errorf("%s: %w", name, err), Hint: "the dead-letter table has changed: undo what was altered"}
	}
	return note, nil
}

// again tells what the rows of a parcel can be made of again, whose files are gone; nil for nothing.
func (t *Table) again(ctx context.Context, id int64) (json.RawMessage, error) {
	if err := t.lock(ctx); err != nil {
		return nil, err
	}
	defer t.unlock()
	var note *parcelNote
	err := t.retry(ctx, "reading dead letters", func() (err error) { note, err = t.readNote(ctx, id); return err })
	if errors.As(err, new(*checkpoint.RefusedError)) { // there is no note, or another table
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return note.Again, nil
}

func (t *Table) readNote(ctx context.Context, id int64) (*parcelNote, error) {
	name := parcelName(id)
	data, err := t.read(ctx, name, maxParcel)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &checkpoint.RefusedError{
			Cause: fmt.Sprintf("the stream's table names dead letters %016x, but the dead-letter table's folder has no %s", id, name),
			Remedy: "if dead_letters.uri was changed, change it back and start once, so that they get there; if the folder has lost them, " +
				"`connector dead-letters settle --give-up` goes on without them",
		}
	} else if err != nil {
		return nil, err
	}
	note := &parcelNote{}
	if err := json.Unmarshal(data, note); err != nil {
		return nil, &Error{Op: "reading dead letters", Err: fmt.Errorf("%s: %w", name, err)}
	}
	if note.Version != parcelVersion {
		return nil, &Error{Op: "reading dead letters", Err: fmt.Errorf("%s has format version %d, and this binary knows %d", name, note.Version, parcelVersion), Hint: "use a newer binary"}
	}
	if table := t.log.Metadata().ID; note.Table != table {
		return nil, &checkpoint.RefusedError{
			Cause:  fmt.Sprintf("%s is of the table with id %s, and the dead-letter table there has id %s", name, note.Table, table),
			Remedy: "the dead-letter table was made anew: `connector dead-letters settle --give-up` goes on without what it lacks",
		}
	}
	return note, nil
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
			Remedy: "`connector dead-letters settle --give-up` makes them again",
		}
	}
	return &checkpoint.RefusedError{
		Cause: fmt.Sprintf("the file %s of the dead-letter table is gone before it was committed (a VACUUM while no worker ran?); it held dead letters: %s",
			file, strings.Join(what, ", ")),
		Remedy: fmt.Sprintf("`connector dead-letters settle --give-up` goes on without them; to read them again after that, `connector rewind --to-offsets %s`, in a new generation",
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
