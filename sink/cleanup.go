package sink

import (
	"context"
	"errors"
	"io/fs"

	"golang.org/x/sync/errgroup"
)

// discard deletes the data files of a unit that can never be part of a version. It is the one place in the project that
// deletes data files, and holds rule C6:
//
// A unit's files may be deleted by its writer only if the unit was dropped, and no put that named them is outstanding. A
// put is outstanding from before it is sent until the log shows, at the version it was sent for, a commit that is not
// ours; a version holds one commit for ever, so a rejected put can never land later. Units are dropped by fitting, which
// runs only after every version up to the newest was judged, or that was never sent.
//
// A unit that was left as a proposal may be carried by anybody. It can't any more once a version that does not hold it has
// touched one of its app ids: every carrier of a later version has read that one (rule C1), and the versions up to it are there.
//
// A parcel, and a manifest with its parcels, go with the unit that decides about it: a version names them if and only if it holds the unit. The files of
// a parcel that is delivered stay, since others may deliver them; what was copied for a delivery alone goes with that.
//
// Whatever does not meet this stays where it is; a VACUUM of the table removes what no version names.
func (t *Table) discard(ctx context.Context, u *Unit) {
	if u.state != Dropped || u.sent || len(u.proposals) > 0 && !u.refuted {
		return
	}
	var deletes errgroup.Group
	deletes.SetLimit(putting)
	names := u.copies
	for _, f := range u.files {
		names = append(names, f.Name)
	}
	for _, name := range names {
		deletes.Go(func() error {
			if err := t.store.Delete(ctx, name); err != nil {
				t.opts.Log.Debug("a data file of a dropped flush stays behind, VACUUM removes it", "file", name, "error", err)
			}
			return nil
		})
	}
	_ = deletes.Wait() // told above
	u.files, u.copies = nil, nil
	if u.note != "" {
		t.dropNote(ctx, u.note)
	}
	if p := u.parcel; p != nil { // no slot can ever name it
		p.Discard(ctx)
	}
	for _, p := range u.consigned {
		p.Discard(ctx)
	}
}

// Discard gives up units that were never handed to Commit, and deletes their files.
func (t *Table) Discard(ctx context.Context, units []*Unit) {
	for _, u := range units {
		if u.state == Pending {
			u.state = Dropped
		}
		t.discard(ctx, u)
	}
}

// dropNote deletes what is known of a parcel, once that was delivered or never can be.
func (t *Table) dropNote(ctx context.Context, name string) {
	if err := t.store.Delete(ctx, name); err != nil {
		t.opts.Log.Debug("the note of a parcel stays behind", "name", name, "error", err)
	}
}

// dropProposals deletes what a unit left, once the unit's fate is known (rule P5: hygiene, nothing depends on it).
func (t *Table) dropProposals(ctx context.Context, u *Unit) {
	if u.state != Landed && u.state != Dropped {
		return
	}
	for _, name := range u.proposals {
		t.dropProposal(ctx, name)
	}
}

func (t *Table) dropProposal(ctx context.Context, name string) {
	if err := t.store.Delete(ctx, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.opts.Log.Debug("a proposal stays behind, it is removed once it has expired", "name", name, "error", err)
	}
}
