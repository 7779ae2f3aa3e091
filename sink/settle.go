package sink

import (
	"context"
	"slices"

	"kafkadelta/checkpoint"
)

// Settle brings the dead-letter table up to what the stream's table says of the partitions (rule D3), and returns the slots of the
// stream's partitions by app id, of which those asked for are all settled. Anybody may settle, at any time.
//
// The dead-letter table is read before the slots. The other way round, what is pending in a slot may be delivered and followed by the
// next one before the dead-letter table is read: it would be delivered again.
func Settle(ctx context.Context, stream, letters *Table, partitions []int32) (map[string]int64, error) {
	prefix := checkpoint.DeadLetterPrefix(stream.opts.Name)
	for {
		have, err := letters.TxnsOf(ctx, prefix)
		if err != nil {
			return nil, err
		}
		want, err := stream.TxnsOf(ctx, prefix)
		if err != nil {
			return nil, err
		}
		parcels, slots := pending(stream.opts.Name, partitions, have, want)
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
	for _, p := range partitions {
		appID := checkpoint.DeadLetterAppID(name, p)
		if id, ok := want[appID]; ok && missing(appID) && !slices.Contains(parcels, id) {
			parcels = append(parcels, id)
		}
	}
	for appID, id := range want {
		if missing(appID) && slices.Contains(parcels, id) {
			slots = append(slots, Slot{AppID: appID, From: from(have, appID), To: id})
		}
	}
	return parcels, slots
}

// from is the value that a slot has, -1 for none.
func from(txns map[string]int64, appID string) int64 {
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
				u.slots = append(u.slots, Slot{AppID: appID, From: from(settled, appID), To: u.parcel.ID})
			}
		}
	}
}

// GiveUp has the dead-letter table say that it has what it lacks of the stream, without a row: for files that are lost. It returns how
// many partitions that concerns.
func GiveUp(ctx context.Context, stream, letters *Table) (int, error) {
	prefix := checkpoint.DeadLetterPrefix(stream.opts.Name)
	for {
		have, err := letters.TxnsOf(ctx, prefix)
		if err != nil {
			return 0, err
		}
		want, err := stream.TxnsOf(ctx, prefix)
		if err != nil {
			return 0, err
		}
		var slots []Slot
		for appID, id := range want {
			if at := from(have, appID); at != id {
				slots = append(slots, Slot{AppID: appID, From: at, To: id})
			}
		}
		if len(slots) == 0 {
			return 0, nil
		}
		if done, err := letters.Deliver(ctx, nil, slots); err != nil || done {
			return len(slots), err
		}
	}
}
