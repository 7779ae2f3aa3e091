package sink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"kafkadelta/checkpoint"
)

// litterAge is how old a note or a manifest is that no txn names before it is removed. Long before that, its unit could not land any more (rule C8).
const litterAge = 24 * time.Hour

// SweepNotes deletes the notes of parcels that are of no use any more: old ones that the stream, whose table decides about them, does not name. They are of
// units of dead workers that never landed, or were delivered by somebody who could not delete them. Nothing depends on it, and what it misses is left to the
// next time.
func SweepNotes(ctx context.Context, stream, follows *Table) error {
	old, err := follows.litter(ctx, parcelFolder)
	if len(old) == 0 || err != nil {
		return err
	}
	name := stream.opts.Name
	named, _, _, err := stream.newestTxns(ctx, func(appID string) bool { return checkpoint.IsSlot(appID, name) }) // after the listing: none of them can be named later
	if err != nil {
		return err
	}
	for _, id := range named {
		delete(old, id)
	}
	for id := range old {
		note, err := follows.noteOf(ctx, id)
		if errors.As(err, new(*checkpoint.RefusedError)) { // it is gone, or of a table that was there before
			continue
		} else if err != nil {
			return err
		}
		if note.stream() == name {
			follows.forgetNote(id)
			follows.dropNote(ctx, parcelName(id))
		}
	}
	return nil
}

// stream is that whose table decides about a parcel; "" where an earlier release has not noted it.
func (n *parcelNote) stream() string {
	if n.Routed != nil {
		return n.Routed.Name
	}
	return n.Stream
}

// SweepManifests deletes the manifests of a catalog that are old, and that no slot names, of whatever stream.
func SweepManifests(ctx context.Context, catalog *Table) error {
	old, err := catalog.litter(ctx, manifestFolder)
	if len(old) == 0 || err != nil {
		return err
	}
	named, _, _, err := catalog.newestTxns(ctx, checkpoint.IsRowsOfAny)
	if err != nil {
		return err
	}
	for _, id := range named {
		delete(old, id)
	}
	for id := range old {
		catalog.dropNote(ctx, manifestName(id))
	}
	return nil
}

// litter are the ids of the objects in a folder that are old by the store's clock. By that of who looks alone none is.
func (t *Table) litter(ctx context.Context, folder string) (map[int64]bool, error) {
	written := map[int64]time.Time{}
	for o, err := range t.store.List(ctx, folder, "") {
		if err != nil {
			return nil, err
		}
		id, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(o.Name, folder), ".json"), 16, 64)
		if err == nil && fmt.Sprintf("%s%016x.json", folder, id) == o.Name {
			written[id] = o.ModTime
		}
	}
	if len(written) == 0 {
		return nil, nil
	}
	if err := t.lock(ctx); err != nil {
		return nil, err
	}
	defer t.unlock()
	now, err := t.log.StoresTime(ctx)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(written, func(_ int64, at time.Time) bool { return now.Sub(at) <= litterAge })
	old := map[int64]bool{}
	for id := range written {
		old[id] = true
	}
	return old, nil
}
