package sink

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"kafkadelta/checkpoint"
)

// Settle brings the dead-letter table up to what the stream's table says of the partitions (rule D3), and returns the slots of the
// stream's partitions by app id, of which those asked for, and that of replays, are all settled. Anybody may settle, at any time.
//
// The dead-letter table is read before the slots. The other way round, what is pending in a slot may be delivered and followed by the
// next one before the dead-letter table is read: it would be delivered again.
func Settle(ctx context.Context, stream, letters *Table, partitions []int32) (map[string]int64, error) {
	name := stream.opts.Name
	for {
		have, err := letters.letterSlots(ctx, name)
		if err != nil {
			return nil, err
		}
		want, err := stream.letterSlots(ctx, name)
		if err != nil {
			return nil, err
		}
		parcels, slots := pending(name, partitions, have, want)
		if len(parcels) == 0 {
			return want, nil
		}
		if done, err := letters.Deliver(ctx, parcels, slots); err != nil || done {
			return want, err
		}
	}
}

// pending finds the parcels that slots of the partitions name and the dead-letter table does not have. Each is delivered for all
// partitions that it has rows of at once (rule D3b): for one of them alone, it would come again for the next.
func pending(name string, partitions []int32, have, want map[string]int64) (parcels []int64, slots []Slot) {
	missing := func(appID string) bool {
		at, ok := have[appID]
		return !ok || at != want[appID]
	}
	asked := []string{checkpoint.ReplayAppID(name)}
	for _, p := range partitions {
		asked = append(asked, checkpoint.DeadLetterAppID(name, p))
	}
	for _, appID := range asked {
		if id, ok := want[appID]; ok && missing(appID) && !slices.Contains(parcels, id) {
			parcels = append(parcels, id)
		}
	}
	for appID, id := range want {
		if missing(appID) && slices.Contains(parcels, id) {
			slots = append(slots, Slot{AppID: appID, From: slotAt(have, appID), To: id})
		}
	}
	return parcels, slots
}

// slotAt is the value that a slot has, -1 for none.
func slotAt(txns map[string]int64, appID string) int64 {
	if at, ok := txns[appID]; ok {
		return at
	}
	return -1
}

// NameParcels gives each unit with a parcel the slots that name it, on condition that they stand where Settle has found them.
func NameParcels(stream *Table, units []*Unit, settled map[string]int64) {
	for _, u := range units {
		if u.parcel == nil {
			continue
		}
		u.slots = nil
		for _, s := range u.Spans {
			if s.Dead > 0 {
				appID := checkpoint.DeadLetterAppID(stream.opts.Name, s.ID)
				u.slots = append(u.slots, Slot{AppID: appID, From: slotAt(settled, appID), To: u.parcel.ID})
			}
		}
	}
}

// Replay lands rows of dead letters, a unit of FinishAppend with a parcel of marks attached (rule D6): while the last replay is still the
// one that Settle has told, and the stream is still in the generation whose letters they are. Of a catalog, SettleRows is to have told, too, and is to bring the rows
// that the unit decides about. Where that is not so, or the table has
// changed, nothing lands and the answer is false: what was read of the dead-letter table is out of date. The marks are to be settled. Of a stream that was retired it is a
// *checkpoint.RefusedError (rule A1d).
func (t *Table) Replay(ctx context.Context, u *Unit, settled map[string]int64, generation int64) (bool, error) {
	if err := t.lock(ctx); err != nil {
		return false, err
	}
	defer t.unlock()
	if err := t.advance(ctx, nil); err != nil {
		return false, err
	}
	if err := t.lookBack(ctx); err != nil { // a RESTORE would be hidden behind this commit
		return false, err
	}
	if t.retired() {
		return false, checkpoint.RetiredError(t.opts.Name)
	}
	appID := checkpoint.ReplayAppID(t.opts.Name)
	u.app, u.slots, u.generation = &AppTxn{}, []Slot{{AppID: appID, From: slotAt(settled, appID), To: u.parcel.ID}}, &generation
	if rows := checkpoint.ReplayedRowsAppID(t.opts.Name); u.manifest != 0 {
		u.slots = append(u.slots, Slot{AppID: rows, From: slotAt(settled, rows), To: u.manifest})
	}
	err := t.land(ctx, []*Unit{u})
	if u.state == Pending { // it was never sent
		u.state = Dropped
	}
	t.discard(ctx, u)
	switch {
	case err != nil:
		return false, err
	case u.state == Landed:
		return true, nil
	case u.state == Unresolved:
		return false, answerLost(ctx)
	}
	return false, ctx.Err()
}

// GiveUp has the dead-letter table say that it has what it lacks of the stream and can't have any more, without a row: what is there yet is
// delivered, one parcel after the other, and what is refused counts as lost (rule D5). Where its note says what its rows can be made of, remake
// makes another parcel of that, which is delivered in its place: so it is with the marks of a replay. GiveUp returns how many partitions have
// lost some, and whether marks are among it: then a later replay lands those letters again.
func GiveUp(ctx context.Context, stream, letters *Table, remake func(context.Context, json.RawMessage) (*Parcel, error)) (lost int, marks bool, err error) {
	name := stream.opts.Name
	for {
		have, err := letters.letterSlots(ctx, name)
		if err != nil {
			return lost, marks, err
		}
		want, err := stream.letterSlots(ctx, name)
		if err != nil {
			return lost, marks, err
		}
		id, slots := anyPending(have, want)
		if len(slots) == 0 {
			return lost, marks, nil
		}
		_, err = letters.Deliver(ctx, []int64{id}, slots)
		if !errors.As(err, new(*checkpoint.RefusedError)) {
			if err != nil {
				return lost, marks, err
			}
			continue
		}
		again, err := letters.again(ctx, id)
		if err != nil {
			return lost, marks, err
		}
		if again != nil {
			if err := letters.deliverAgain(ctx, id, slots, func() (*Parcel, error) { return remake(ctx, again) }); err != nil {
				return lost, marks, err
			}
			continue
		}
		done, err := letters.Deliver(ctx, nil, slots)
		if err != nil {
			return lost, marks, err
		}
		if done {
			lost += len(slots)
			marks = marks || slices.ContainsFunc(slots, func(s Slot) bool { return s.AppID == checkpoint.ReplayAppID(name) })
		}
	}
}

// deliverAgain brings a parcel that was made again, in the place of the one that the slots name.
func (t *Table) deliverAgain(ctx context.Context, lost int64, slots []Slot, remake func() (*Parcel, error)) error {
	p, err := remake()
	if err != nil {
		return err
	}
	done, err := t.Deliver(ctx, []int64{p.ID}, slots)
	switch {
	case err != nil: // it may have landed
		return err
	case done:
		t.dropNote(ctx, parcelName(lost))
	default: // somebody else was faster; or it was this, by a version whose answer was not believed, so that the files stay (rule C6)
		t.dropNote(ctx, p.unit.note)
	}
	return nil
}

// anyPending finds a parcel that the dead-letter table does not have, and all slots that name it.
func anyPending(have, want map[string]int64) (id int64, slots []Slot) {
	for _, appID := range slices.Sorted(maps.Keys(want)) {
		at := slotAt(have, appID)
		if at != want[appID] && (len(slots) == 0 || want[appID] == id) {
			id = want[appID]
			slots = append(slots, Slot{AppID: appID, From: at, To: id})
		}
	}
	return id, slots
}
